/*
 * test_regex.c - the grammar of Python's regular expressions: what matches, what Python refuses,
 * what is named as unsupported. The bulk of the cases is in tests/golden.
 */
#include "trees.h"

static const struct {
    const char *pattern, *name;
    bool match;
} cases[] = {
    {"a|ab", "ab", true},         {"a{,2}b", "aab", true},
    {"a{,2}b", "aaab", false},    {"x{_1", "x{_1", true},
    {"a{}", "a{}", true},         {"a{,}", "aaa", true},
    {"trail$", "trail\n", false}, {"trail\\n$", "trail\n", true},
    {"(?m)a$\nb", "a\nb", true},  {"(?m)a\n^b", "a\nb", true},
    {"(?m)a\n^", "a\n", true},    {"\\Aa\\Z", "a", true},
    {"(?x) a b # c", "ab", true}, {"(?x:a\\ b)", "a b", true},
    {"(?-i:a)", "A", false},      {"(?i)(?-i:a)b", "aB", true},
    {"(?s).", "\n", true},        {".", "\n", false},
    {"a{2,3}?", "aaa", true},     {"a++a", "aa", false},
    {"a{70000}", "a", false},     {"a{0,70000}", "aaaa", true},
    {"\\0", "a", false},          {"\\141", "a", true},
    {"\\60", "0", false},         {"(?:a*)*", "aaaa", true},
    {"a*?(?#c)", "aa", true},     {"a(?#c)*", "aaa", true},
};

static void python_s_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(cases); i++) {
        name_pattern *p = NULL;
        const thaw_status status = pattern_compile(&p, cases[i].pattern);
        bool hit = false;

        if (!strcmp(cases[i].pattern, "\\60")) {
            CHECK_INT(status, THAW_E_PATTERN); /* group 60 */
            continue;
        }
        CHECK_MSG(status == THAW_OK, "'%s': %s", cases[i].pattern, thaw_error());
        CHECK_OK(pattern_match(&hit, p, cases[i].name));
        CHECK_MSG(hit == cases[i].match, "'%s' on '%s': got %d", cases[i].pattern, cases[i].name,
                  hit);
        pattern_destroy(p);
    }
}

static void what_python_refuses(void **state)
{
    static const char *const bad[] = {
        "*",         "a**",    "a{2}{3}", "(",        ")",     "a)",
        "a{3,2}",    "^*",     "a|*",     "\\",       "\\q",   "a(?i)b",
        "(a|(?i)b)", "(?",     "(?i",     "(?i-i:a)", "(?-)",  "a{4294967295}",
        "(?z)",      "(?au)a", "\\x1",    "\\u12",    "\\400", "[a",
        "\\8",       "a*+*",   "(?L)a",   "(?-u:a)",  "(?a-i", "(?u)(?a)x"};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(bad); i++) {
        name_pattern *p = NULL;
        const thaw_status status = pattern_compile(&p, bad[i]);

        CHECK_MSG(status == THAW_E_PATTERN, "'%s': got %s (%s)", bad[i], thaw_status_name(status),
                  thaw_error());
    }
}

/* The prefix spares the engine, so it must be one of every match, and the only match where told. */
static void prefixes_are_right(void **state)
{
    static const struct {
        const char *pattern, *prefix;
        bool literal;
    } row[] = {{"abc", "abc", true},     {"abc*", "ab", false},
               {"abc+", "abc", false},   {"ab|cd", "", false},
               {"a\\.b", "a.b", true},   {"a.b", "a", false},
               {"(?i)abc", "", false},   {"(a)b", "", false},
               {"^ab", "", false},       {"a(?#c)b", "ab", true},
               {"", "", true},           {"a$", "a", false},
               {"a(?=b)b", "a", false},  {"a{2}", "a", false},
               {"(?x) a b", "ab", true}, {"caf\xc3\xa9", "caf\xc3\xa9", true}};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        text out = TEXT_INIT, prefix = TEXT_INIT;
        bool literal;

        CHECK_OK(regex_translate(&out, &prefix, &literal, row[i].pattern));
        CHECK_MSG(!strcmp(prefix.data ? prefix.data : "", row[i].prefix) &&
                      literal == row[i].literal,
                  "'%s': prefix '%s', literal %d", row[i].pattern, prefix.data, literal);
        text_done(&prefix);
        text_done(&out);
    }
}

static void nesting_is_bounded(void **state)
{
    static char deep[8192];
    name_pattern *p = NULL;

    (void)state;
    memset(deep, '(', 1000);
    memset(deep + 1000, ')', 1000);
    CHECK_ERROR(pattern_compile(&p, deep), THAW_E_LIMIT, "nested too deep");
    for (int i = 0; i < 1000; i++)
        memcpy(deep + 5 * i, "(?(1)", 5);
    deep[5000] = '\0';
    CHECK_STATUS(pattern_compile(&p, deep), THAW_E_LIMIT);
    memset(deep, 'a', sizeof(deep) - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(python_s_answers),
        cmocka_unit_test(what_python_refuses),
        cmocka_unit_test(prefixes_are_right),
        cmocka_unit_test(nesting_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
