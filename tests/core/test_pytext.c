/* test_pytext.c - repr() and json.dumps() of CPython, byte for byte. */
#include "trees.h"

static const struct {
    const char *s, *repr, *json;
} row[] = {
    {"", "''", "\"\""},
    {"it's", "\"it's\"", "\"it's\""},
    {"a'b\"c", "'a\\'b\"c'", "\"a'b\\\"c\""},
    {"\\ \n\r\t", "'\\\\ \\n\\r\\t'", "\"\\\\ \\n\\r\\t\""},
    {"\x01\x1f\x7f", "'\\x01\\x1f\\x7f'", "\"\\u0001\\u001f\x7f\""},
    {"\b\f", "'\\x08\\x0c'", "\"\\b\\f\""},
    {"caf\xc3\xa9", "'caf\xc3\xa9'", "\"caf\\u00e9\""},
    {"\xc2\x85\xc2\xa0\xc2\xad", "'\\x85\\xa0\\xad'", "\"\\u0085\\u00a0\\u00ad\""},
    {"\xe2\x80\x8b\xe2\x80\xa8\xe3\x80\x80", "'\\u200b\\u2028\\u3000'",
     "\"\\u200b\\u2028\\u3000\""},
    {"\xf0\x9f\x98\x80", "'\xf0\x9f\x98\x80'", "\"\\ud83d\\ude00\""},
    {"\xf3\xa0\x80\x81", "'\\U000e0001'", "\"\\udb40\\udc01\""},
    {"\xee\x80\x80", "'\\ue000'", "\"\\ue000\""},
};

static void texts_are_python_s(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        text repr = TEXT_INIT, json = TEXT_INIT;

        text_add_python(&repr, row[i].s);
        text_add_ascii_json(&json, row[i].s);
        CHECK_STR(repr.data, row[i].repr);
        CHECK_STR(json.data, row[i].json);
        text_done(&json);
        text_done(&repr);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts_are_python_s)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
