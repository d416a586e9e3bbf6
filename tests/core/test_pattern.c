/* test_pattern.c - bounded matching. */
#include "trees.h"

static void too_much_effort_is_an_error(void **state)
{
    /* none of them needs one certain character, or the engine would see at once that it is not
       there */
    static const char *const slow[] = {"(a+)+[bc]", "(a|a)*[bc]", "(a|aa)+(b|c)",
                                       "(.*)(.*)(.*)(.*)(.*)(.*)[xy]"};
    char name[128];

    (void)state;
    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    for (size_t i = 0; i < THAW_COUNT(slow); i++) {
        name_pattern *p = NULL;
        bool hit = true;

        CHECK_OK(pattern_compile(&p, slow[i]));
        CHECK_ERROR(pattern_match(&hit, p, name), THAW_E_LIMIT, "takes too long");
        CHECK(hit); /* untouched */
        pattern_destroy(p);
    }
}

static void long_texts_are_refused(void **state)
{
    char *name = malloc(70001);
    name_pattern *p = NULL;
    bool hit;

    (void)state;
    memset(name, 'a', 70000);
    name[70000] = '\0';
    CHECK_ERROR(pattern_compile(&p, name), THAW_E_LIMIT, "70000 bytes");
    CHECK_OK(pattern_compile(&p, "a*"));
    CHECK_STATUS(pattern_match(&hit, p, name), THAW_E_LIMIT);
    pattern_destroy(p);
    CHECK_STATUS(pattern_compile(&p, "\xff"), THAW_E_PATTERN);
    CHECK_STATUS(pattern_compile(&p, "(?:a{60000}){60000}"), THAW_E_LIMIT);
    free(name);
}

static void one_match_is_known_without_the_engine(void **state)
{
    name_pattern *p = NULL;

    (void)state;
    CHECK_OK(pattern_compile(&p, "net\\.fc1"));
    CHECK_STR(pattern_only_match(p), "net.fc1");
    pattern_destroy(p);
    CHECK_OK(pattern_compile(&p, "net.fc1"));
    CHECK(!pattern_only_match(p));
    pattern_destroy(p);
    pattern_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(too_much_effort_is_an_error),
        cmocka_unit_test(long_texts_are_refused),
        cmocka_unit_test(one_match_is_known_without_the_engine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
