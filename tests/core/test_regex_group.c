/* test_regex_group.c - groups, references, look-around, conditions and flags. */
#include "trees.h"

static void check_match(const char *pattern, const char *name, bool want)
{
    name_pattern *p = NULL;
    bool hit = false;

    CHECK_OK(pattern_compile(&p, pattern));
    CHECK_OK(pattern_match(&hit, p, name));
    CHECK_MSG(hit == want, "'%s' on '%s': got %d", pattern, name, hit);
    pattern_destroy(p);
}

static void references_are_by_number(void **state)
{
    (void)state;
    check_match("(a|b)\\1", "aa", true);
    check_match("(a|b)\\1", "ab", false);
    check_match("(?P<x>a|b)(?P<y>c)(?P=x)", "bcb", true);
    check_match("(?i)(a)\\1", "aA", true);
    check_match("(a)?(?(1)b|c)", "ab", true);
    check_match("(a)?(?(1)b|c)", "c", true);
    check_match("(a)?(?(1)b|c)", "ac", false);
    check_match("(?P<n>a)?(?(n)b)", "ab", true);
    check_match("(?:(?:a))(b)\\1", "abb", true);
}

static void look_around(void **state)
{
    (void)state;
    check_match("(?!head).*", "body", true);
    check_match("(?!head).*", "head", false);
    check_match(".*(?<!bn1)", "x.bn1", false);
    check_match(".*(?<=\\.conv\\d)", "x.conv2", true);
    check_match("(?:(?=a)a)*", "aaa", true);
    check_match("(a)(?<=\\1)b", "ab", true);
    check_match("(?>a|ab)c", "abc", false);
}

static void python_refuses(void **state)
{
    static const char *const bad[] = {
        "(?P<x>a)(?P<x>b)", "(?P=x)",   "(?P<1>a)",   "(?P<>a)", "(?Px)",        "(a\\1)",
        "\\1(a)",           "(?<=a*)b", "(?<=a|bc)d", "(?<a)",   "(?(1)a)",      "(?(0)a)",
        "(a)(?(1)a|b|c)",   "(?(x)a)",  "(?#a",       "(?P<x",   "(?<=(a)\\1)b", "(?P<x>a(?P=x))"};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(bad); i++) {
        name_pattern *p = NULL;
        const thaw_status status = pattern_compile(&p, bad[i]);

        CHECK_MSG(status == THAW_E_PATTERN, "'%s': got %s (%s)", bad[i], thaw_status_name(status),
                  thaw_error());
    }
}

static void the_unsupported_is_named(void **state)
{
    name_pattern *p = NULL;

    (void)state;
    CHECK_ERROR(pattern_compile(&p, "(?P<\xc3\xa9>a)"), THAW_E_SUPPORT, "group names");
    CHECK_ERROR(pattern_compile(&p, "(?ai)(a)\\1"), THAW_E_SUPPORT, "back-references");
    CHECK_ERROR(pattern_compile(&p, "(?t)a"), THAW_E_SUPPORT, "flags L and t");
    CHECK_ERROR(pattern_compile(&p, "(?<=(?:$)?)a"), THAW_E_SUPPORT, "lookbehind");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_are_by_number),
        cmocka_unit_test(look_around),
        cmocka_unit_test(python_refuses),
        cmocka_unit_test(the_unsupported_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
