/* test_jsonread.c - the small JSON reader: what it reads, and where it says a mistake is. */
#include "trees.h"

static void values_are_read(void **state)
{
    thaw_region *r;
    json_node *root;
    text t = TEXT_INIT;

    (void)state;
    CHECK_OK(region_create(&r));
    CHECK_OK(
        json_read(&root, r,
                  " {\"a\": [1, -2.50, 1e3, 100.0, 1.5e-4, 1e-5, 123e14, 1e16, 12.5e2, true, "
                  "false, null, NaN, -Infinity],\n"
                  "\"b\": {\"c\": \"x\\u00e9\\ud83d\\ude00\\n\\/\"}, \"a2\": [], \"o\": {}} "));
    text_add_python_value(&t, root);
    CHECK_STR(t.data, "{'a': [1, -2.5, 1000.0, 100.0, 0.00015, 1e-05, 1.23e+16, 1e+16, 1250.0, "
                      "True, False, None, nan, -inf], 'b': {'c': "
                      "'x\xc3\xa9\xf0\x9f\x98\x80\\n/'}, 'a2': [], 'o': {}}");
    CHECK_STR(json_get(json_get(root, "b"), "c")->text, "x\xc3\xa9\xf0\x9f\x98\x80\n/");
    CHECK(!json_get(root, "z"));
    CHECK(!json_get(json_get(root, "a"), "z"));
    text_done(&t);
    CHECK_OK(json_read(&root, r, "{\"k\": 1, \"k\": 2}"));
    CHECK_STR(json_get(root, "k")->text, "2");
    region_destroy(r);
}

static void mistakes_are_found(void **state)
{
    static const char *const bad[] = {
        "",         "{",           "[1,",      "[1 2]",     "{\"a\" 1}",
        "{a: 1}",   "\"abc",       "\"\\q\"",  "\"\\u12\"", "tru",
        "1 2",      "[1,]",        "{\"a\":}", "-",         "\"\\ud800\"",
        "\"a\nb\"", "\"\\u0000\"", "\xff",     "nul",       "]"};
    thaw_region *r;
    json_node *root;

    (void)state;
    CHECK_OK(region_create(&r));
    for (size_t i = 0; i < THAW_COUNT(bad); i++)
        CHECK_MSG(json_read(&root, r, bad[i]) == THAW_E_DATA, "'%s' is read", bad[i]);
    CHECK_ERROR(json_read(&root, r, "{\n  \"a\": [1,\n  x]}"), THAW_E_DATA, "line 3 column 3");
    region_destroy(r);
}

static void depth_is_bounded(void **state)
{
    static char deep[100001];
    thaw_region *r;
    json_node *root;

    (void)state;
    memset(deep, '[', 100000);
    CHECK_OK(region_create(&r));
    CHECK_ERROR(json_read(&root, r, deep), THAW_E_DATA, "nested too deep");
    region_destroy(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read),
        cmocka_unit_test(mistakes_are_found),
        cmocka_unit_test(depth_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
