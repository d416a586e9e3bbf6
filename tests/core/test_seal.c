/* test_seal.c - everything that is wrong with a schedule is found before it runs, all at once. */
#include "trees.h"

static thaw_schedule *open_schedule(const thaw_tree *t, int64_t length)
{
    const thaw_phase_options phase = {.name = "first", .length = length};
    thaw_schedule *s;

    CHECK_OK(thaw_schedule_create(&s, t));
    CHECK_OK(thaw_schedule_add_phase(s, &phase));
    return s;
}

static void all_mistakes_at_once(void **state)
{
    const thaw_phase_options second = {.name = "second", .length = 5};
    const char *const two[] = {"haed", "backbone("}, *const good[] = {"head"};
    const schedule_problem *problem;
    thaw_tree *t = small_tree();
    thaw_schedule *s = open_schedule(t, 5);

    (void)state;
    CHECK_OK(thaw_schedule_freeze(s, good, 1));
    CHECK_OK(thaw_schedule_freeze(s, two, 2));
    CHECK_OK(thaw_schedule_add_phase(s, &second));
    CHECK_OK(thaw_schedule_coefficient(s, 0.5, two, 1));
    CHECK_OK(thaw_schedule_add_stage(s, 7));
    CHECK_OK(thaw_schedule_spec(s, "adaptor", true));
    CHECK_ERROR(thaw_schedule_seal(s), THAW_E_NOMATCH, "did you mean 'head'");
    CHECK_CONTAINS(thaw_error(), "phase 'first'");
    CHECK_CONTAINS(thaw_error(), "\nphase 'second'");
    CHECK_CONTAINS(thaw_error(), "stage at step 7: 'adaptor'");
    CHECK_INT(thaw__schedule_problems(&problem, s), 4);
    CHECK_INT(problem[1].code, THAW_E_PATTERN);
    CHECK_INT(problem[1].phase, 0);
    CHECK_INT(problem[1].change, 1);
    CHECK_INT(problem[3].phase, -1);
    CHECK_INT(problem[3].stage, 0);
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

static void contradictions(void **state)
{
    const char *head = "head", *body = "backbone", *deeper = "backbone\\.layer1";
    thaw_tree *t = small_tree();
    thaw_schedule *s = open_schedule(t, 5);

    (void)state;
    CHECK_OK(thaw_schedule_freeze(s, &body, 1));
    CHECK_OK(thaw_schedule_unfreeze(s, &deeper, 1)); /* what lies below may differ */
    CHECK_OK(thaw_schedule_coefficient(s, 0.1, &body, 1));
    CHECK_OK(thaw_schedule_coefficient(s, 0.1, &body, 1));
    CHECK_OK(thaw_schedule_seal(s));
    thaw_schedule_destroy(s);

    s = open_schedule(t, 5);
    CHECK_OK(thaw_schedule_freeze(s, &head, 1));
    CHECK_OK(thaw_schedule_unfreeze(s, &head, 1));
    CHECK_ERROR(thaw_schedule_seal(s), THAW_E_RECIPE, "'head' is asked for two different things");
    thaw_schedule_destroy(s);

    s = open_schedule(t, 5);
    CHECK_OK(thaw_schedule_coefficient(s, 0.1, &head, 1));
    CHECK_OK(thaw_schedule_pin(s, &head, 1));
    CHECK_STATUS(thaw_schedule_seal(s), THAW_E_RECIPE);
    thaw_schedule_destroy(s);

    s = open_schedule(t, 5);
    CHECK_OK(thaw_schedule_add_stage(s, 2));
    CHECK_OK(thaw_schedule_spec(s, "head.*", true));
    CHECK_OK(thaw_schedule_spec(s, "head.*", false));
    CHECK_STATUS(thaw_schedule_seal(s), THAW_E_RECIPE);
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

static void stages_beyond_the_end_and_units(void **state)
{
    thaw_phase_options o = {.unit = THAW_EPOCHS, .length = 3};
    thaw_tree *t = small_tree();
    thaw_schedule *s = open_schedule(t, 5);
    int64_t begin, end;

    (void)state;
    CHECK_OK(thaw_schedule_add_stage(s, 5));
    CHECK_OK(thaw_schedule_spec(s, "head.*", true));
    CHECK_OK(thaw_schedule_add_stage(s, 6));
    CHECK_OK(thaw_schedule_spec(s, "head.*", false));
    CHECK_ERROR(thaw_schedule_seal(s), THAW_E_RANGE, "stage at step 6: it is beyond the end");
    thaw_schedule_destroy(s);

    CHECK_OK(thaw_schedule_create(&s, t));
    CHECK_ERROR(thaw_schedule_seal(s), THAW_E_USAGE, "no phase");
    CHECK_OK(thaw_schedule_add_phase(s, &o));
    CHECK_ERROR(thaw_schedule_seal(s), THAW_E_RANGE, "epochs");
    o = (thaw_phase_options){.unit = THAW_SAMPLES, .length = 33};
    CHECK_OK(thaw_schedule_add_phase(s, &o));
    o = (thaw_phase_options){.unit = THAW_TOKENS, .length = 1000};
    CHECK_OK(thaw_schedule_add_phase(s, &o));
    thaw_schedule_set_sizes(s, 7, 16, 500);
    CHECK_OK(thaw_schedule_seal(s));
    thaw_schedule_phase_span(&begin, &end, s, &(thaw_progress){0}, 1);
    CHECK_INT(begin, 21);
    CHECK_INT(end, 24); /* 33 samples, 16 a step: the short last batch is a step */
    thaw_schedule_phase_span(&begin, &end, s, &(thaw_progress){0}, 2);
    CHECK_INT(end, 26);
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

static void lengths_that_do_not_fit(void **state)
{
    const thaw_phase_options huge = {.unit = THAW_EPOCHS, .length = INT64_MAX},
                             negative = {.length = -1},
                             bad_until = {.length = 1, .until_metric = "x"};
    thaw_tree *t = small_tree();
    thaw_schedule *s;

    (void)state;
    CHECK_OK(thaw_schedule_create(&s, t));
    CHECK_OK(thaw_schedule_add_phase(s, &huge));
    CHECK_OK(thaw_schedule_add_phase(s, &negative));
    CHECK_OK(thaw_schedule_add_phase(s, &bad_until));
    thaw_schedule_set_sizes(s, 10, 0, 0);
    CHECK_ERROR(thaw_schedule_seal(s), THAW_E_RANGE, "too long");
    CHECK_CONTAINS(thaw_error(), "a length of -1");
    CHECK_CONTAINS(thaw_error(), "patience");
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_mistakes_at_once),
        cmocka_unit_test(contradictions),
        cmocka_unit_test(stages_beyond_the_end_and_units),
        cmocka_unit_test(lengths_that_do_not_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
