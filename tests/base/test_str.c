/* test_str.c - growing text, numbers, JSON and Python text, near names. */
#include "base/base.h"

#include <locale.h>

#include "check.h"

#define CHECK_TEXT(call, want)                                                                     \
    do {                                                                                           \
        text t = TEXT_INIT;                                                                        \
        call;                                                                                      \
        CHECK_STR(t.data, want);                                                                   \
        text_done(&t);                                                                             \
    } while (0)

static void doubles_read_back(void **state)
{
    static const double value[] = {0,     -0.0,   1,       0.1,           1e-5,
                                   1e300, 5e-324, 1.0 / 3, 123456789.125, 0.2860};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(value); i++) {
        text t = TEXT_INIT;
        double back = -1;

        text_add_double(&t, value[i]);
        CHECK_MSG(parse_double(&back, t.data), "'%s' does not parse", t.data);
        CHECK_BYTES(&back, &value[i], sizeof back);
        text_done(&t);
    }
    CHECK_TEXT(text_add_double(&t, 0.001), "0.001");
    CHECK_TEXT(text_add_double(&t, 1e-5), "1e-05");
    CHECK_TEXT(text_add_double(&t, NAN), "nan");
    CHECK_TEXT(text_add_double(&t, -INFINITY), "-inf");
    CHECK_TEXT(text_add_json_double(&t, INFINITY), "null");
    CHECK_TEXT(text_add_json_double(&t, -0.0), "-0.0");
    CHECK_TEXT(text_add_short_double(&t, 0.00030000000000000003), "0.0003");
    CHECK_TEXT(text_add_short_double(&t, 1.0 / 3), "0.333333");
}

/* With a decimal comma, where such a locale is installed (FAILURES 51). */
static void numbers_ignore_the_locale(void **state)
{
    double v = 0;

    (void)state;
    if (!setlocale(LC_ALL, "de_DE.UTF-8"))
        (void)setlocale(LC_ALL, "C.UTF-8");
    CHECK_TEXT(text_add_double(&t, 0.5), "0.5");
    CHECK(parse_double(&v, "2.5") && v == 2.5);
    CHECK(!parse_double(&v, "2,5"));
    (void)setlocale(LC_ALL, "C");
}

static void bad_numbers_are_refused(void **state)
{
    static const char *const bad[] = {"",    " 1",   "1 ",    "x",   "1e400", "nan",
                                      "inf", "0x10", "1.5.2", "--1", "1e"};
    double v = 7;
    int64_t n = 7;
    uint64_t size = 7;

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(bad); i++)
        CHECK_MSG(!parse_double(&v, bad[i]), "'%s' was taken for %g", bad[i], v);
    CHECK(!parse_int64(&n, "1.0") && !parse_int64(&n, "") &&
          !parse_int64(&n, "9223372036854775808"));
    CHECK(parse_bytes(&size, "2GiB") && size == UINT64_C(2) << 30);
    CHECK(parse_bytes(&size, "512 MiB") && size == 512u << 20);
    CHECK(parse_bytes(&size, "1000000") && size == 1000000);
    CHECK(!parse_bytes(&size, "2GB") && !parse_bytes(&size, "GiB") && !parse_bytes(&size, "-1") &&
          !parse_bytes(&size, "9223372036854775807KiB") && !parse_bytes(&size, "1.5GiB"));
    CHECK(parse_int64(&n, "-9223372036854775808") && n == INT64_MIN);
    CHECK(v == 7);
}

static void people_read_sizes_counts_and_times(void **state)
{
    char b[32];

    (void)state;
    CHECK_STR(format_bytes(b, 340), "340 B");
    CHECK_STR(format_bytes(b, 1258291), "1.20 MiB");
    CHECK_STR(format_count(b, 1234567), "1,234,567");
    CHECK_STR(format_count(b, -1000), "-1,000");
    CHECK_STR(format_count(b, 12), "12");
    CHECK_STR(format_duration(b, 2.25), "2.2 s");
    CHECK_STR(format_duration(b, 125), "2 min 05 s");
    CHECK_STR(format_duration(b, 7260), "2 h 01 min");
    CHECK_STR(format_duration(b, -1), "?");
    CHECK_STR(format_duration(b, NAN), "?");
}

static void json_strings_are_escaped(void **state)
{
    (void)state;
    CHECK_TEXT(text_add_json_string(&t, "a\"b\\c\n\t\x01é"), "\"a\\\"b\\\\c\\n\\t\\u0001é\"");
    CHECK_TEXT(text_add_json_string(&t, "\xff\xc0\x80"), "\"\\ufffd\\ufffd\\ufffd\"");
    CHECK_TEXT(text_add_json_string(&t, "it's"), "\"it's\"");
}

static void repr_is_pythons(void **state)
{
    (void)state;
    CHECK_TEXT(text_add_repr(&t, "plain"), "'plain'");
    CHECK_TEXT(text_add_repr(&t, "it's"), "\"it's\"");
    CHECK_TEXT(text_add_repr(&t, "'\""), "'\\'\"'");
    CHECK_TEXT(text_add_repr(&t, "\\\n\x7f"), "'\\\\\\n\\x7f'");
}

static void near_names_are_found(void **state)
{
    static const char *const names[] = {"layer1", "layer2", "head", "backbone"};

    (void)state;
    CHECK_TEXT(text_add_near(&t, "haed", names, 4, 2), " (did you mean 'head'?)");
    CHECK_TEXT(text_add_near(&t, "layer", names, 4, 2), " (did you mean 'layer1' or 'layer2'?)");
    CHECK_TEXT((text_add(&t, "-"), text_add_near(&t, "zzzzzz", names, 4, 2)), "-");
}

static void text_grows_pads_and_is_taken(void **state)
{
    text t = TEXT_INIT;
    char *taken;

    (void)state;
    text_add(&t, "x\né");
    text_pad(&t, 4);
    text_addf(&t, "%d", 5);
    CHECK_STR(t.data, "x\né   5");
    for (int i = 0; i < 1000; i++)
        text_add(&t, "0123456789");
    CHECK_OK(text_take(&taken, &t, "a test"));
    CHECK_INT(strlen(taken), 8 + 10000);
    CHECK(t.data == NULL);
    thaw__free(taken);
    CHECK_OK(text_take(&taken, &t, "a test"));
    CHECK_STR(taken, "");
    thaw__free(taken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(doubles_read_back),
        cmocka_unit_test(numbers_ignore_the_locale),
        cmocka_unit_test(bad_numbers_are_refused),
        cmocka_unit_test(people_read_sizes_counts_and_times),
        cmocka_unit_test(json_strings_are_escaped),
        cmocka_unit_test(repr_is_pythons),
        cmocka_unit_test(near_names_are_found),
        cmocka_unit_test(text_grows_pads_and_is_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
