/* test_notes.c - what a person should know of a schedule that is allowed. */
#include "trees.h"

static void check_notes(thaw_schedule *s, const char *want)
{
    char *notes;

    CHECK_OK(thaw_schedule_seal(s));
    CHECK_OK(thaw_schedule_notes(&notes, s));
    CHECK_STR(notes, want);
    thaw_text_free(notes);
    thaw_schedule_destroy(s);
}

static thaw_schedule *new_schedule(const thaw_tree *t)
{
    thaw_schedule *s;

    CHECK_OK(thaw_schedule_create(&s, t));
    return s;
}

static void what_is_rarely_meant_is_told(void **state)
{
    const thaw_phase_options phase = {.name = "p", .length = 2}, empty = {.name = "e"};
    const char *body = "backbone", *layer = "backbone\\.layer1", *all = ".*";
    const char *const nothing[] = {"neck.*"}, *const top[] = {"head.*"};
    thaw_tree *t = small_tree();
    thaw_schedule *s = new_schedule(t);

    (void)state;
    CHECK_OK(thaw_schedule_add_phase(s, &phase));
    CHECK_OK(thaw_schedule_freeze(s, &body, 1));
    CHECK_OK(thaw_schedule_coefficient(s, 1, &layer, 1));
    check_notes(s, "");

    s = new_schedule(t);
    CHECK_OK(thaw_schedule_add_phase(s, &phase));
    CHECK_OK(thaw_schedule_coefficient(s, 0.1, &body, 1));
    CHECK_OK(thaw_schedule_coefficient(s, 1, &layer, 1));
    check_notes(s, "phase 'p': a coefficient of 1 removes the entry of 'backbone.layer1', which "
                   "then inherits 0.1; pin it to give it 1");

    s = new_schedule(t);
    CHECK_OK(thaw_schedule_add_phase(s, &empty));
    CHECK_OK(thaw_schedule_freeze(s, &all, 1));
    CHECK_OK(thaw_schedule_add_phase(s, &phase));
    check_notes(s, "phase 'p': nothing is trained");

    s = new_schedule(t);
    CHECK_OK(thaw_schedule_alias(s, "neck", nothing, 1));
    CHECK_OK(thaw_schedule_alias(s, "top", top, 1));
    CHECK_OK(thaw_schedule_spec(s, "*.bias", false));
    CHECK_OK(thaw_schedule_add_phase(s, &phase));
    CHECK_OK(thaw_schedule_add_stage(s, 1));
    CHECK_OK(thaw_schedule_spec(s, "top", true));
    CHECK_OK(thaw_schedule_add_stage(s, 2));
    CHECK_OK(thaw_schedule_spec(s, "top", true));
    check_notes(s, "alias 'neck' matches no parameter\n"
                   "'*.bias' and 'top' overlap and differ; the later one holds where they do");

    s = new_schedule(t);
    CHECK_STATUS(thaw_schedule_notes(&(char *){NULL}, s), THAW_E_USAGE);
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_rarely_meant_is_told)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
