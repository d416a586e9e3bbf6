/* test_status.c - error texts and what the codes are called. */
#include "base/base.h"

#include "check.h"

static void keeps_the_last_text(void **state)
{
    (void)state;
    CHECK_INT(thaw_fail(THAW_E_RANGE, "%d is too large", 7), THAW_E_RANGE);
    CHECK_STR(thaw_error(), "7 is too large");
    CHECK_INT(thaw_fail_context(THAW_E_RECIPE, "in '%s'", "a.toml"), THAW_E_RECIPE);
    CHECK_STR(thaw_error(), "in 'a.toml': 7 is too large");
}

static void may_quote_the_old_text(void **state)
{
    (void)state;
    (void)thaw_fail(THAW_E_IO, "first");
    (void)thaw_fail(THAW_E_IO, "%s, then second", thaw_error());
    CHECK_STR(thaw_error(), "first, then second");
}

static void cuts_a_text_that_is_too_long(void **state)
{
    char *words = thaw__new(100001, 1);

    (void)state;
    memset(words, 'x', 100000);
    (void)thaw_fail(THAW_E_IO, "%s", words);
    CHECK(strlen(thaw_error()) > 10000 && strlen(thaw_error()) < 100000);
    thaw__free(words);
}

static void every_code_has_name_and_exit_code(void **state)
{
    (void)state;
    for (int s = THAW_OK; s <= THAW_E_INTERNAL; s++) {
        CHECK_MSG(strcmp(thaw_status_name((thaw_status)s), "E_UNKNOWN") != 0,
                  "status %d has no name", s);
        CHECK_MSG((thaw_exit_code((thaw_status)s) == 0) == (s == THAW_OK), "exit code of status %d",
                  s);
        CHECK_MSG(s == THAW_OK || (thaw_exit_code((thaw_status)s) >= 64 &&
                                   thaw_exit_code((thaw_status)s) <= 78),
                  "exit code of status %d is no sysexits number", s);
    }
    CHECK_STR(thaw_status_name((thaw_status)999), "E_UNKNOWN");
    CHECK_INT(thaw_exit_code((thaw_status)999), 70);
    CHECK_INT(thaw_exit_code(THAW_E_STOPPED), 75);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_the_last_text),
        cmocka_unit_test(may_quote_the_old_text),
        cmocka_unit_test(cuts_a_text_that_is_too_long),
        cmocka_unit_test(every_code_has_name_and_exit_code),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
