/* test_schedule.c - where phases lie, when a metric has ended one, and edits. */
#include "trees.h"

static thaw_schedule *three_phases(const thaw_tree *t)
{
    thaw_phase_options o = THAW_PHASE_OPTIONS_INIT;
    thaw_schedule *s;

    CHECK_OK(thaw_schedule_create(&s, t));
    for (int i = 0; i < 3; i++) {
        o.length = 10 * (i + 1);
        o.until_metric = i == 1 ? "valid.accuracy" : NULL;
        o.until_patience = 2;
        CHECK_OK(thaw_schedule_add_phase(s, &o));
    }
    CHECK_OK(thaw_schedule_seal(s));
    return s;
}

static void phases_follow_each_other(void **state)
{
    static const struct {
        int64_t iteration;
        int phase;
    } row[] = {{-5, 0}, {0, 0}, {9, 0}, {10, 1}, {29, 1}, {30, 2}, {59, 2}, {60, 2}, {1000, 2}};
    thaw_tree *t = small_tree();
    thaw_schedule *s = three_phases(t);
    int64_t begin, end;

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        const thaw_progress at = {.iteration = row[i].iteration};

        CHECK_INT(thaw_schedule_phase_at(s, &at), row[i].phase);
    }
    thaw_schedule_phase_span(&begin, &end, s, &(thaw_progress){0}, 1);
    CHECK_INT(begin, 10);
    CHECK_INT(end, 30);
    CHECK_INT(thaw_schedule_n_phases(s), 3);
    CHECK_STR(thaw_schedule_phase_name(s, 2), "phase 3");
    CHECK_STR(thaw_schedule_phase_options(s, 1)->until_metric, "valid.accuracy");
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

/* What a checkpoint says of a metric moves the later phases; nonsense in it stays within bounds. */
static void a_fired_metric_ends_its_phase(void **state)
{
    const thaw_fired early = {1, 17}, nonsense[] = {{1, 900}, {-4, 3}, {77, 2}};
    thaw_progress at = {.iteration = 16, .fired = &early, .n_fired = 1};
    thaw_tree *t = small_tree();
    thaw_schedule *s = three_phases(t);
    int64_t begin, end;

    (void)state;
    CHECK_INT(thaw_schedule_phase_at(s, &at), 1);
    at.iteration = 17;
    CHECK_INT(thaw_schedule_phase_at(s, &at), 2);
    thaw_schedule_phase_span(&begin, &end, s, &at, 2);
    CHECK_INT(begin, 17);
    CHECK_INT(end, 47);
    at = (thaw_progress){.iteration = 40, .fired = nonsense, .n_fired = 3};
    CHECK_INT(thaw_schedule_phase_at(s, &at), 2);
    thaw_schedule_phase_span(&begin, &end, s, &at, 1);
    CHECK_INT(end, 30);
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

static void patience_runs_out(void **state)
{
    const thaw_phase_options accuracy = {
        .until_metric = "valid.accuracy", .until_patience = 2, .until_min_change = 0.01};
    const thaw_phase_options loss = {.until_metric = "valid.loss", .until_patience = 1};
    const double rising[] = {0.1, 0.2, 0.3, 0.4}, flat[] = {0.5, 0.505, 0.509},
                 late[] = {0.5, 0.4, 0.6, 0.6}, broken[] = {NAN, NAN}, falling[] = {3, 2, 1},
                 worse[] = {1, 1.5};

    (void)state;
    CHECK(!thaw_until_reached(&accuracy, rising, 4));
    CHECK(thaw_until_reached(&accuracy, flat, 3));
    CHECK(!thaw_until_reached(&accuracy, flat, 2));
    CHECK(!thaw_until_reached(&accuracy, late, 4));
    CHECK(thaw_until_reached(&accuracy, broken, 2));
    CHECK(!thaw_until_reached(&loss, falling, 3));
    CHECK(thaw_until_reached(&loss, worse, 2));
    CHECK(!thaw_until_reached(&(thaw_phase_options){0}, worse, 2));
}

static void edits_apply_from_their_iteration_on(void **state)
{
    const char *head = "head", *typo = "haed";
    const int head_weight = 8;
    thaw_tree *t = small_tree();
    thaw_schedule *s = three_phases(t);
    const thaw_effect *e;
    thaw_progress at = {.iteration = 12};

    (void)state;
    CHECK_OK(thaw_schedule_effect(&e, s, &at));
    CHECK(thaw_effect_trainable(e, head_weight));
    CHECK_OK(thaw_schedule_edit_coefficient(s, 20, 0.25, &head, 1));
    CHECK_OK(thaw_schedule_edit_freeze(s, 12, &head, 1));
    CHECK_OK(thaw_schedule_edit_unfreeze(s, 15, &head, 1));
    CHECK_OK(thaw_schedule_effect(&e, s, &at));
    CHECK(!thaw_effect_trainable(e, head_weight));
    at.iteration = 11;
    CHECK_OK(thaw_schedule_effect(&e, s, &at));
    CHECK(thaw_effect_trainable(e, head_weight));
    at.iteration = 15;
    CHECK_OK(thaw_schedule_effect(&e, s, &at));
    CHECK(thaw_effect_trainable(e, head_weight));
    CHECK_NEAR(thaw_effect_lr_scale(e, head_weight), 1, 0, 0);
    at.iteration = 25;
    CHECK_OK(thaw_schedule_effect(&e, s, &at));
    CHECK_NEAR(thaw_effect_lr_scale(e, head_weight), 0.25, 0, 0);
    CHECK_STATUS(thaw_schedule_edit_freeze(s, 1, &typo, 1), THAW_E_NOMATCH);
    CHECK_STATUS(thaw_schedule_edit_coefficient(s, 1, -1, &head, 1), THAW_E_RANGE);
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

static void the_order_of_calls_is_checked(void **state)
{
    const thaw_phase_options phase = {.length = 1};
    const char *head = "head";
    thaw_tree *t = small_tree(), *open;
    thaw_schedule *s;
    const thaw_effect *e;

    (void)state;
    CHECK_OK(thaw_tree_create(&open));
    CHECK_STATUS(thaw_schedule_create(&s, open), THAW_E_USAGE);
    thaw_tree_destroy(open);
    CHECK_OK(thaw_schedule_create(&s, t));
    CHECK_STATUS(thaw_schedule_effect(&e, s, &(thaw_progress){0}), THAW_E_USAGE);
    CHECK_STATUS(thaw_schedule_edit_freeze(s, 0, &head, 1), THAW_E_USAGE);
    CHECK_STATUS(thaw_schedule_coefficient(s, NAN, &head, 1), THAW_E_RANGE);
    CHECK_STATUS(thaw_schedule_coefficient(s, INFINITY, &head, 1), THAW_E_RANGE);
    CHECK_STATUS(thaw_schedule_coefficient(s, -0.5, &head, 1), THAW_E_RANGE);
    CHECK_OK(thaw_schedule_add_phase(s, &phase));
    CHECK_OK(thaw_schedule_seal(s));
    CHECK_OK(thaw_schedule_seal(s));
    CHECK_STATUS(thaw_schedule_freeze(s, &head, 1), THAW_E_USAGE);
    CHECK_STATUS(thaw_schedule_add_phase(s, &phase), THAW_E_USAGE);
    CHECK_STATUS(thaw_schedule_add_stage(s, 1), THAW_E_USAGE);
    CHECK_STATUS(thaw_schedule_spec(s, "head", true), THAW_E_USAGE);
    thaw_schedule_destroy(s);
    thaw_schedule_destroy(NULL);
    thaw_tree_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phases_follow_each_other),
        cmocka_unit_test(a_fired_metric_ends_its_phase),
        cmocka_unit_test(patience_runs_out),
        cmocka_unit_test(edits_apply_from_their_iteration_on),
        cmocka_unit_test(the_order_of_calls_is_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
