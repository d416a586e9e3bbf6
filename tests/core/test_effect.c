/*
 * test_effect.c - what holds at a moment: who trains, at what scale, how norms and dropout run;
 * what the optimizer modes keep; and that it depends on progress alone.
 */
#include "trees.h"

static const thaw_effect *effect_at(thaw_schedule *s, int64_t iteration)
{
    const thaw_progress at = {.iteration = iteration};
    const thaw_effect *e;

    CHECK_OK(thaw_schedule_effect(&e, s, &at));
    return e;
}

static void add_phase(thaw_schedule *s, thaw_optimizer_mode mode)
{
    const thaw_phase_options o = {.length = 10, .optimizer = mode};

    CHECK_OK(thaw_schedule_add_phase(s, &o));
}

/* Head; then the body at a tenth, in the given mode; then the head frozen, rebuilt. */
static thaw_schedule *phases(const thaw_tree *t, thaw_optimizer_mode mode)
{
    const char *body = "backbone", *head = "head";
    thaw_schedule *s;

    CHECK_OK(thaw_schedule_create(&s, t));
    add_phase(s, THAW_OPTIMIZER_REBUILD);
    CHECK_OK(thaw_schedule_freeze(s, &body, 1));
    CHECK_OK(thaw_schedule_coefficient(s, 0.5, &head, 1));
    add_phase(s, mode);
    CHECK_OK(thaw_schedule_unfreeze(s, &body, 1));
    CHECK_OK(thaw_schedule_coefficient(s, 0.1, &body, 1));
    CHECK_OK(thaw_schedule_coefficient(s, 0.25, &head, 1));
    add_phase(s, THAW_OPTIMIZER_REBUILD);
    CHECK_OK(thaw_schedule_freeze(s, &head, 1));
    CHECK_OK(thaw_schedule_seal(s));
    return s;
}

enum { CONV1 = 0, HEAD = 8 };

static void check_param(const thaw_effect *e, int p, bool trainable, bool updated, double scale)
{
    CHECK_INT(e->trainable[p], trainable);
    CHECK_INT(e->updated[p], updated);
    CHECK_NEAR(e->lr_scale[p], scale, 0, 0);
}

static void rebuild_starts_anew(void **state)
{
    thaw_tree *t = small_tree();
    thaw_schedule *s = phases(t, THAW_OPTIMIZER_REBUILD);
    const thaw_effect *e = effect_at(s, 9);

    (void)state;
    check_param(e, CONV1, false, false, 1);
    check_param(e, HEAD, true, true, 0.5);
    CHECK_INT(e->built_at, 0);
    e = effect_at(s, 10);
    check_param(e, CONV1, true, true, 0.1);
    check_param(e, HEAD, true, true, 0.25);
    CHECK_INT(e->built_at, 10);
    CHECK_INT(e->built_phase, 1);
    CHECK_INT(effect_at(s, 25)->built_at, 20);
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

static void keep_goes_on_with_new_rates(void **state)
{
    thaw_tree *t = small_tree();
    thaw_schedule *s = phases(t, THAW_OPTIMIZER_KEEP);
    const thaw_effect *e = effect_at(s, 15);

    (void)state;
    check_param(e, CONV1, true, true, 0.1);
    check_param(e, HEAD, true, true, 0.25);
    CHECK_INT(e->built_at, 0);
    CHECK_INT(e->built_phase, 1);
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

static void hold_changes_nothing_the_optimizer_has(void **state)
{
    thaw_tree *t = small_tree();
    thaw_schedule *s = phases(t, THAW_OPTIMIZER_HOLD);
    const thaw_effect *e = effect_at(s, 15);

    (void)state;
    check_param(e, CONV1, true, false, 1);
    check_param(e, HEAD, true, true, 0.5);
    CHECK_INT(e->built_at, 0);
    CHECK_INT(e->built_phase, 0);
    e = effect_at(s, 20);
    check_param(e, CONV1, true, true, 0.1);
    check_param(e, HEAD, false, false, 0.25);
    CHECK_INT(e->built_phase, 2);
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

/* Frozen and thawed again under hold: its group was there all along. */
static void hold_knows_what_had_a_group(void **state)
{
    const char *head = "head";
    thaw_tree *t = small_tree();
    thaw_schedule *s;

    (void)state;
    CHECK_OK(thaw_schedule_create(&s, t));
    add_phase(s, THAW_OPTIMIZER_REBUILD);
    add_phase(s, THAW_OPTIMIZER_HOLD);
    CHECK_OK(thaw_schedule_freeze(s, &head, 1));
    add_phase(s, THAW_OPTIMIZER_HOLD);
    CHECK_OK(thaw_schedule_unfreeze(s, &head, 1));
    CHECK_OK(thaw_schedule_seal(s));
    check_param(effect_at(s, 12), HEAD, false, false, 1);
    check_param(effect_at(s, 22), HEAD, true, true, 1);
    CHECK_INT(effect_at(s, 22)->digest, effect_at(s, 2)->digest);
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

static void norms_and_dropout_follow_what_trains(void **state)
{
    static const struct {
        const char *path;
        unsigned frozen_body, all;
    } row[] = {{"", 3, 3},          {"body.bn", 0, 3},
               {"body.free", 0, 3}, /* a norm without parameters */
               {"body.drop", 0, 3}, {"body", 0, 3},
               {"drop", 3, 3}, /* at the root: on while anything trains */
               {"head", 3, 3}};
    const char *body = "body";
    thaw_tree *t;
    thaw_schedule *s;

    (void)state;
    CHECK_OK(thaw_tree_create(&t));
    CHECK_OK(thaw_tree_add_param(t, "body.conv.weight", 1, false));
    CHECK_OK(thaw_tree_add_param(t, "body.bn.weight", 1, false));
    CHECK_OK(thaw_tree_add_module(NULL, t, "body.bn", THAW_MODULE_NORM));
    CHECK_OK(thaw_tree_add_module(NULL, t, "body.free", THAW_MODULE_NORM));
    CHECK_OK(thaw_tree_add_module(NULL, t, "body.drop", THAW_MODULE_DROPOUT));
    CHECK_OK(thaw_tree_add_module(NULL, t, "drop", THAW_MODULE_DROPOUT));
    CHECK_OK(thaw_tree_add_param(t, "head.weight", 1, false));
    CHECK_OK(thaw_tree_seal(t));
    for (int eval = 0; eval < 2; eval++) {
        CHECK_OK(thaw_schedule_create(&s, t));
        thaw_schedule_frozen_norm_eval(s, eval);
        add_phase(s, THAW_OPTIMIZER_REBUILD);
        CHECK_OK(thaw_schedule_freeze(s, &body, 1));
        add_phase(s, THAW_OPTIMIZER_REBUILD);
        CHECK_OK(thaw_schedule_unfreeze(s, &body, 1));
        CHECK_OK(thaw_schedule_seal(s));
        for (size_t i = 0; i < THAW_COUNT(row); i++) {
            const int m = thaw_tree_find_module(t, row[i].path);

            CHECK_MSG(effect_at(s, 0)->mode[m] ==
                          (row[i].frozen_body | (eval ? 0 : THAW_MODE_NORM_TRAIN)),
                      "'%s' with eval %d: mode %d", row[i].path, eval, effect_at(s, 0)->mode[m]);
            CHECK_INT(effect_at(s, 10)->mode[m], row[i].all);
        }
        thaw_schedule_destroy(s);
    }
    thaw_tree_destroy(t);
}

/* A norm whose bias alone trains takes batch statistics. */
static void one_trainable_parameter_is_enough(void **state)
{
    thaw_tree *t;
    thaw_schedule *s;

    (void)state;
    CHECK_OK(thaw_tree_create(&t));
    CHECK_OK(thaw_tree_add_param(t, "bn.weight", 1, false));
    CHECK_OK(thaw_tree_add_param(t, "bn.bias", 1, false));
    CHECK_OK(thaw_tree_add_module(NULL, t, "bn", THAW_MODULE_NORM));
    CHECK_OK(thaw_tree_seal(t));
    CHECK_OK(thaw_schedule_create(&s, t));
    CHECK_OK(thaw_schedule_spec(s, "bn.weight", true));
    add_phase(s, THAW_OPTIMIZER_REBUILD);
    CHECK_OK(thaw_schedule_seal(s));
    CHECK_INT(effect_at(s, 0)->mode[1] & THAW_MODE_NORM_TRAIN, THAW_MODE_NORM_TRAIN);
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

static void equal_effects_have_equal_digests(void **state)
{
    thaw_tree *t = small_tree();
    thaw_schedule *a = phases(t, THAW_OPTIMIZER_REBUILD), *b = phases(t, THAW_OPTIMIZER_REBUILD);

    (void)state;
    for (int64_t i = 0; i < 30; i += 10) {
        CHECK_INT(effect_at(a, i)->digest, effect_at(b, i + 9)->digest);
        CHECK(effect_at(a, i) == effect_at(a, i + 5)); /* the same object: cached */
        for (int64_t k = 0; k < i; k += 10) {
            CHECK(effect_at(a, i)->digest != effect_at(a, k)->digest);
            CHECK(effect_at(a, i)->plan_digest != effect_at(a, k)->plan_digest);
        }
    }
    thaw_schedule_destroy(b);
    thaw_schedule_destroy(a);
    thaw_tree_destroy(t);
}

/* Only the rate changes: another digest, the same plan. */
static void a_plan_does_not_depend_on_rates(void **state)
{
    const char *head = "head";
    thaw_tree *t = small_tree();
    thaw_schedule *s;

    (void)state;
    CHECK_OK(thaw_schedule_create(&s, t));
    add_phase(s, THAW_OPTIMIZER_REBUILD);
    add_phase(s, THAW_OPTIMIZER_KEEP);
    CHECK_OK(thaw_schedule_coefficient(s, 0, &head, 1));
    CHECK_OK(thaw_schedule_seal(s));
    CHECK(effect_at(s, 0)->digest != effect_at(s, 10)->digest);
    CHECK_INT(effect_at(s, 0)->plan_digest, effect_at(s, 10)->plan_digest);
    check_param(effect_at(s, 10), HEAD, true, true, 0); /* paused, not frozen */
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

/* Stages and phases mixed: applied in the order of their iterations, a phase before a stage. */
static void stages_mix_with_phases(void **state)
{
    const char *body = "backbone", *const patterns[] = {"backbone.*"};
    thaw_tree *t = small_tree();
    thaw_schedule *s;

    (void)state;
    CHECK_OK(thaw_schedule_create(&s, t));
    CHECK_OK(thaw_schedule_alias(s, "body", patterns, 1));
    CHECK_OK(thaw_schedule_spec(s, "head.*", true));
    add_phase(s, THAW_OPTIMIZER_REBUILD);
    add_phase(s, THAW_OPTIMIZER_REBUILD);
    CHECK_OK(thaw_schedule_unfreeze(s, &body, 1));
    CHECK_OK(thaw_schedule_add_stage(s, 10));
    CHECK_OK(thaw_schedule_spec(s, "head.*", false));
    CHECK_OK(thaw_schedule_add_stage(s, 0));
    CHECK_OK(thaw_schedule_spec(s, "body", true));
    CHECK_OK(thaw_schedule_add_stage(s, 15));
    CHECK_OK(thaw_schedule_freeze(s, &body, 1));
    CHECK_OK(thaw_schedule_seal(s));
    check_param(effect_at(s, 0), HEAD, false, false, 1);
    check_param(effect_at(s, 0), CONV1, false, false, 1);
    check_param(effect_at(s, 10), HEAD, true, true, 1);
    check_param(effect_at(s, 14), CONV1, true, true, 1);
    check_param(effect_at(s, 15), CONV1, false, false, 1);
    CHECK_INT(effect_at(s, 15)->built_at, 10);
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

/* What thaws with a phase starts slowly; what trained before does not. */
static void newly_thawed_parameters_warm_up(void **state)
{
    const char *body = "backbone";
    const thaw_phase_options first = {.length = 10}, second = {.length = 10, .thaw_warmup = 3};
    thaw_tree *t = small_tree();
    thaw_schedule *s;

    (void)state;
    CHECK_OK(thaw_schedule_create(&s, t));
    CHECK_OK(thaw_schedule_add_phase(s, &first));
    CHECK_OK(thaw_schedule_freeze(s, &body, 1));
    CHECK_OK(thaw_schedule_add_phase(s, &second));
    CHECK_OK(thaw_schedule_unfreeze(s, &body, 1));
    CHECK_OK(thaw_schedule_seal(s));
    for (int64_t k = 0; k < 5; k++) {
        const double want = k < 3 ? ((double)k + 1) / 4 : 1;

        CHECK_NEAR(thaw_effect_warmup(effect_at(s, 10 + k), CONV1, 10 + k), want, 1e-15, 0);
        CHECK_NEAR(thaw_effect_warmup(effect_at(s, 10 + k), HEAD, 10 + k), 1, 0, 0);
        CHECK_NEAR(thaw_effect_warmup(effect_at(s, k), HEAD, k), 1, 0, 0);
    }
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

/* ---- properties */

static thaw_schedule *random_schedule(const thaw_tree *t, uint64_t seed)
{
    thaw_schedule *s;

    CHECK_OK(thaw_schedule_create(&s, t));
    for (int i = 0; i < 6; i++) {
        thaw_phase_options o = {.length = draw_below(&seed, 4),
                                .optimizer = (thaw_optimizer_mode)draw_below(&seed, 3)};
        const char *pattern[3];
        const bool stage = i > 0 && draw_below(&seed, 3) == 0;

        if (stage)
            CHECK_OK(thaw_schedule_add_stage(s, draw_below(&seed, 3) - 1));
        else
            CHECK_OK(thaw_schedule_add_phase(s, &o));
        for (int k = draw_below(&seed, 3); k >= 0; k--) {
            const int n = random_layers(pattern, t, &seed);
            const int what = draw_below(&seed, 3);

            if (n == 0)
                continue;
            if (what == 0)
                CHECK_OK(thaw_schedule_coefficient(s, draw_below(&seed, 5) / 4.0, pattern, n));
            else
                CHECK_OK(
                    (what == 1 ? thaw_schedule_freeze : thaw_schedule_unfreeze)(s, pattern, n));
        }
    }
    return s;
}

/* A run that resumes at step k sees what an uninterrupted one saw there: a fresh schedule asked
 * first at k, an old one asked at every step, and one asked backwards agree. */
static void the_past_does_not_matter(void **state)
{
    int compared = 0;

    (void)state;
    for (uint64_t tree = 0; tree < 150; tree++) {
        uint64_t seed = tree + 50000;
        thaw_tree *t = random_tree(&seed, true);
        thaw_schedule *run = random_schedule(t, seed), *back = random_schedule(t, seed);
        const bool sealed = thaw_schedule_seal(run) == THAW_OK;

        if (sealed)
            CHECK_OK(thaw_schedule_seal(back));
        for (int64_t k = 0; k < 14 && sealed; k++, compared++) {
            thaw_schedule *resumed = random_schedule(t, seed);
            const thaw_effect *a = effect_at(run, k), *b;

            CHECK_OK(thaw_schedule_seal(resumed));
            b = effect_at(resumed, k);
            (void)effect_at(back, 13 - k);
            CHECK_INT(a->digest, b->digest);
            CHECK_BYTES(a->trainable, b->trainable, (size_t)t->n_params);
            CHECK_BYTES(a->updated, b->updated, (size_t)t->n_params);
            CHECK_BYTES(a->lr_scale, b->lr_scale, sizeof(double) * (size_t)t->n_params);
            CHECK_INT(a->digest, effect_at(back, k)->digest);
            thaw_schedule_destroy(resumed);
        }
        thaw_schedule_destroy(back);
        thaw_schedule_destroy(run);
        thaw_tree_destroy(t);
    }
    CHECK(compared > 500);
}

static void nothing_frozen_is_updated(void **state)
{
    (void)state;
    for (uint64_t tree = 0; tree < 150; tree++) {
        uint64_t seed = tree + 90000;
        thaw_tree *t = random_tree(&seed, true);
        thaw_schedule *s = random_schedule(t, seed);

        for (int64_t k = 0; k < 14 && thaw_schedule_seal(s) == THAW_OK; k++)
            for (int p = 0; p < t->n_params; p++)
                CHECK(effect_at(s, k)->trainable[p] || !effect_at(s, k)->updated[p]);
        thaw_schedule_destroy(s);
        thaw_tree_destroy(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rebuild_starts_anew),
        cmocka_unit_test(keep_goes_on_with_new_rates),
        cmocka_unit_test(hold_changes_nothing_the_optimizer_has),
        cmocka_unit_test(hold_knows_what_had_a_group),
        cmocka_unit_test(norms_and_dropout_follow_what_trains),
        cmocka_unit_test(one_trainable_parameter_is_enough),
        cmocka_unit_test(equal_effects_have_equal_digests),
        cmocka_unit_test(a_plan_does_not_depend_on_rates),
        cmocka_unit_test(stages_mix_with_phases),
        cmocka_unit_test(newly_thawed_parameters_warm_up),
        cmocka_unit_test(the_past_does_not_matter),
        cmocka_unit_test(nothing_frozen_is_updated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
