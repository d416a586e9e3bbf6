/* test_glob.c - Python's fnmatch; the bulk of the cases is in tests/golden. */
#include "trees.h"

static const struct {
    const char *pattern, *name;
    bool match;
} cases[] = {
    {"*", "", true},
    {"a*", "a.b/c\n", true},
    {"a?c",
     "a\xc3\xa9"
     "c",
     true},
    {"[!a]", "\n", true},
    {"[b-a]", "a", false},
    {"[!b-a]", "x", true},
    {"[z-a-m]", "-", true},
    {"[z-a-m]", "b", false},
    {"[a-c-e]", "-", true},
    {"[]-a]", "_", true},
    {"[", "[", true},
    {"[!]", "[!]", true},
    {"[^a]", "^", true},
    {"\\*", "\\x", true},
    {"{a,b}", "{a,b}", true},
    {"[]-*![a--]", "^", true}, /* gluing brings a '!' to the front */
    {"**a**", "bab", true},
    {"[a-", "[a-", true},
    {"[--0]", ".", true},
    {"adapter.*", "adapter", false},
    {"layers.1*", "layers.10.w", true},
};

static void python_s_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(cases); i++) {
        name_glob *g = NULL;

        CHECK_OK(glob_compile(&g, cases[i].pattern));
        CHECK_MSG(glob_match(g, cases[i].name) == cases[i].match, "'%s' on '%s': got %d",
                  cases[i].pattern, cases[i].name, !cases[i].match);
        glob_destroy(g);
    }
}

/* Many stars cost pattern times name, not two to the power of either. */
static void stars_are_cheap(void **state)
{
    char pattern[201], name[2001];
    name_glob *g = NULL;

    (void)state;
    for (int i = 0; i < 200; i++)
        pattern[i] = i % 2 ? '*' : 'a';
    pattern[199] = 'b';
    pattern[200] = '\0';
    memset(name, 'a', 2000);
    name[2000] = '\0';
    CHECK_OK(glob_compile(&g, pattern));
    CHECK(!glob_match(g, name));
    glob_destroy(g);
}

static void bad_texts_are_refused(void **state)
{
    char *big = malloc(20001);
    name_glob *g = NULL;

    (void)state;
    memset(big, '*', 20000);
    big[20000] = '\0';
    CHECK_STATUS(glob_compile(&g, big), THAW_E_LIMIT);
    CHECK_STATUS(glob_compile(&g, "a\xff"), THAW_E_PATTERN);
    free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(python_s_answers),
        cmocka_unit_test(stars_are_cheap),
        cmocka_unit_test(bad_texts_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
