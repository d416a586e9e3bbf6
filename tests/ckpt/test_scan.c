/*
 * The pull reader of JSON: strings with every escape, numbers at their limits, brackets.
 */
#include "check.h"
#include "ckpt/ckpt.h"

static scan over(const char *s)
{
    return scan_of("text", s, strlen(s));
}

static void test_strings(void **state)
{
    static const char *const good[][2] = {
        {"\"\"", ""},
        {"  \"a b\"", "a b"},
        {"\"\\\"\\\\\\/\"", "\"\\/"},
        {"\"\\u0041\\u00e9\\u20AC\\uD83D\\uDE00\"", "A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"},
        {"\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"},
        {"\"\\ud7ff\\ue000\\uffff\"", "\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF"},
        {"\"\\udbff\\udfff\"", "\xF4\x8F\xBF\xBF"},
    };
    char out[64];

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(good); i++) {
        scan s = over(good[i][0]);

        CHECK_OK(scan_string(out, sizeof out, &s));
        CHECK_STR(out, good[i][1]);
        CHECK_OK(scan_end(&s));
    }
}

/* Names have no control characters; other strings have any that JSON can say. */
static void test_control_characters(void **state)
{
    scan s = over("\"\\b\\f\\n\\r\\t\""), again = s;
    char out[8];

    (void)state;
    CHECK_OK(scan_string(NULL, 0, &s));
    CHECK_OK(scan_end(&s));
    CHECK_ERROR(scan_string(out, sizeof out, &again), THAW_E_DATA,
                "text byte 1: a name with control character 0x08");
}

static void test_capacity(void **state)
{
    scan s = over("\"abc\""), again = s, third = s;
    char out[4];

    (void)state;
    CHECK_OK(scan_string(out, 4, &s));
    CHECK_STR(out, "abc");
    CHECK_ERROR(scan_string(out, 3, &again), THAW_E_LIMIT, "a string longer than 2 bytes");
    CHECK_OK(scan_string(NULL, 0, &third));
}

static void test_integers(void **state)
{
    static const struct {
        const char *s;
        uint64_t value;
    } good[] = {{"0", 0}, {" 7", 7}, {"10", 10}, {"9007199254740992", UINT64_C(1) << 53}};
    static const char *const bad[] = {"",
                                      "-1",
                                      "+1",
                                      ".5",
                                      "00",
                                      "01",
                                      "x",
                                      "\"1\"",
                                      "9007199254740993",
                                      "99999999999999999999999"};
    uint64_t n = 0;

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(good); i++) {
        scan s = over(good[i].s);

        CHECK_OK(scan_integer(&n, &s));
        CHECK_INT(n, good[i].value);
        CHECK_OK(scan_end(&s));
    }
    for (size_t i = 0; i < THAW_COUNT(bad); i++) {
        scan s = over(bad[i]);

        n = 5;
        CHECK_STATUS(scan_integer(&n, &s), THAW_E_DATA);
        CHECK_INT(n, 5);
    }
}

static void test_nesting(void **state)
{
    scan s = over(" { \"a\" : [ 1 , 2 ] , \"b\" : [ ] } ");
    char key[8];
    uint64_t n, sum = 0;
    bool more;
    int keys = 0;

    (void)state;
    CHECK_OK(scan_open(&s, '{'));
    for (;;) {
        CHECK_OK(scan_more(&more, &s, '}'));
        if (!more)
            break;
        CHECK_OK(scan_key(key, sizeof key, &s));
        keys++;
        CHECK_OK(scan_open(&s, '['));
        for (;;) {
            CHECK_OK(scan_more(&more, &s, ']'));
            if (!more)
                break;
            CHECK_OK(scan_integer(&n, &s));
            sum += n;
        }
    }
    CHECK_OK(scan_end(&s));
    CHECK_INT(keys, 2);
    CHECK_INT(sum, 3);
}

/* A NUL inside is a byte like any other wrong one, not an end. */
static void test_nul(void **state)
{
    scan s = scan_of("text", "\0{}", 3), t = scan_of("text", "\"a\0b\"", 5);
    char out[8];

    (void)state;
    CHECK_ERROR(scan_open(&s, '{'), THAW_E_DATA, "text byte 0: byte 0x00 where '{' should come");
    CHECK_ERROR(scan_string(out, sizeof out, &t), THAW_E_DATA, "text byte 2: byte 0x00");
    s = scan_of("text", "{}\0", 3);
    CHECK_OK(scan_open(&s, '{'));
    bool more = true;
    CHECK_OK(scan_more(&more, &s, '}'));
    CHECK(!more);
    CHECK_STATUS(scan_end(&s), THAW_E_DATA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings),  cmocka_unit_test(test_control_characters),
        cmocka_unit_test(test_capacity), cmocka_unit_test(test_integers),
        cmocka_unit_test(test_nesting),  cmocka_unit_test(test_nul),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
