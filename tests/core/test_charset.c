/* test_charset.c - characters, categories, sets and their case, as Python has them. */
#include "trees.h"

static const struct {
    const char *pattern, *name;
    bool match;
} cases[] = {
    {"\\d", "\xd9\xa3", true}, /* an Arabic digit */
    {"(?a)\\d", "\xd9\xa3", false},
    {"\\w", "\xc3\xa9", true},
    {"(?a)\\w", "\xc3\xa9", false},
    {"(?a)\\W", "\xc3\xa9", true},
    {"\\w", "\xc2\xb2", true},      /* superscript two is numeric */
    {"\\w", "\xe2\x85\xa7", true},  /* roman numeral eight */
    {"\\w", "\xe2\x80\xbf", false}, /* an undertie is punctuation */
    {"\\s", "\x1c", true},
    {"\\s", "\xc2\xa0", true},
    {"\\s", "\xe1\xa0\x8e", false}, /* Mongolian vowel separator */
    {"\\S", "\x1f", false},
    {"[]a]+", "]a", true},
    {"[^]]", "]", false},
    {"[a-]+", "a-", true},
    {"[-a]+", "-a", true},
    {"[\\w.-]+", "a.b-c", true},
    {"[^\\W\\d]+", "ab_", true},
    {"[^\\W\\d]+", "a1", false},
    {"[\\W1]", "1", true},
    {"[\\W1]", "2", false},
    {"[[:alpha:]]+", "a]", true},
    {"[\\b]", "\b", true},
    {"[\\x61-\\x63]", "b", true},
    {"(?i)i", "\xc4\xb0", true},     /* dotted capital I */
    {"(?i)[i]", "\xc4\xb1", true},   /* dotless i */
    {"(?i)k", "\xe2\x84\xaa", true}, /* Kelvin */
    {"(?ai)k", "\xe2\x84\xaa", false},
    {"(?ai)[a-c]", "B", true},
    {"(?i)[^a]", "A", false},
    {"\\x41", "A", true},
    {"\\u0041", "A", true},
    {"\\U00000041", "A", true},
    {"\\.", "x", false},
    {"\\b\\w+\\b", "ab", true},
    {"a\\Bb", "ab", true},
    {"\\B", "", false}, /* up to Python 3.13 */
    {"(?a:\\b)a", "a", true},
};

static void python_s_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(cases); i++) {
        name_pattern *p = NULL;
        bool hit = false;

        CHECK_OK(pattern_compile(&p, cases[i].pattern));
        CHECK_OK(pattern_match(&hit, p, cases[i].name));
        CHECK_MSG(hit == cases[i].match, "case %zu, '%s' on '%s': got %d", i, cases[i].pattern,
                  cases[i].name, hit);
        pattern_destroy(p);
    }
}

static void bad_sets_are_refused(void **state)
{
    static const char *const bad[] = {"[b-a]",   "[\\w-a]", "[a-\\d]", "[\\8]",
                                      "[\\400]", "[\\q]",   "[",       "[]",
                                      "[^",      "[a-",     "[\\x1]",  "\\U00110000"};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(bad); i++) {
        name_pattern *p = NULL;
        const thaw_status status = pattern_compile(&p, bad[i]);

        CHECK_MSG(status == THAW_E_PATTERN, "'%s': got %s", bad[i], thaw_status_name(status));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(python_s_answers),
        cmocka_unit_test(bad_sets_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
