/* test_specs.c - freezing by parameter patterns, what holds at a step, aliases; the bulk of the
 * cases is in tests/golden. */
#include "trees.h"

static void flags_are_flipped_and_counted(void **state)
{
    static const char *const body[] = {"*.conv?.weight", "backbone.bn1.*"};
    thaw_tree *t;
    bool trainable[4] = {true, true, true, false};
    int64_t flipped = -1;

    (void)state;
    CHECK_OK(thaw_tree_create(&t));
    CHECK_OK(thaw_tree_add_param(t, "backbone.conv1.weight", 100, false));
    CHECK_OK(thaw_tree_add_param(t, "backbone.bn1.bias", 10, false));
    CHECK_OK(thaw_tree_add_param(t, "head.weight", 1, false));
    CHECK_OK(thaw_tree_add_param(t, "table.fixed", 1000, true));
    CHECK_OK(thaw_tree_seal(t));
    CHECK_OK(thaw_freeze_params(&flipped, trainable, t, body, 2, true));
    CHECK_INT(flipped, 110);
    CHECK_OK(thaw_freeze_params(&flipped, trainable, t, body, 2, true));
    CHECK_INT(flipped, 0);
    CHECK_OK(thaw_freeze_params(&flipped, trainable, t, NULL, 0, false));
    CHECK_INT(flipped, 0);
    CHECK_OK(thaw_freeze_params(&flipped, trainable, t, (const char *[]){"*"}, 1, false));
    CHECK_INT(flipped, 110); /* what is fixed never trains */
    CHECK(!trainable[3]);
    thaw_tree_destroy(t);
}

/* First names for the function of SPEC B3; all names in a schedule (C23). */
static void tied_names(void **state)
{
    static const char *const out[] = {"out.*"};
    bool trainable[1] = {true};
    thaw_tree *t;
    thaw_schedule *s;
    const thaw_effect *e;
    const thaw_phase_options phase = {.length = 1};
    int64_t flipped;

    (void)state;
    CHECK_OK(thaw_tree_create(&t));
    CHECK_OK(thaw_tree_add_param(t, "embed.weight", 5, false));
    CHECK_OK(thaw_tree_tie(t, "out.weight", "embed.weight"));
    CHECK_OK(thaw_tree_seal(t));
    CHECK_OK(thaw_freeze_params(&flipped, trainable, t, out, 1, true));
    CHECK_INT(flipped, 0);
    CHECK_OK(thaw_schedule_create(&s, t));
    CHECK_OK(thaw_schedule_spec(s, out[0], true));
    CHECK_OK(thaw_schedule_add_phase(s, &phase));
    CHECK_OK(thaw_schedule_seal(s));
    CHECK_OK(thaw_schedule_effect(&e, s, &(thaw_progress){0}));
    CHECK(!thaw_effect_trainable(e, 0));
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

static void totals_keep_the_first_place_and_the_last_count(void **state)
{
    static const thaw_freeze_spec specs[] = {{"head.*", true}, {"body", true}, {"head.*", true}};
    static const char *const body[] = {"backbone.*"};
    static const thaw_alias alias[] = {{"body", body, 1}};
    thaw_freeze_total totals[3];
    bool trainable[16];
    thaw_tree *t = small_tree();
    int n = 0;

    (void)state;
    memset(trainable, true, sizeof(trainable));
    CHECK_OK(thaw_apply_freeze_specs(totals, &n, trainable, t, specs, 3, alias, 1));
    CHECK_INT(n, 2);
    CHECK_STR(totals[0].module, "head.*");
    CHECK_INT(totals[0].flipped, 0);
    CHECK_INT(totals[1].flipped, 8);
    thaw_tree_destroy(t);
}

static void later_stages_override_in_place(void **state)
{
    static const thaw_freeze_spec base[] = {{"a", true}, {"b", false}}, late[] = {{"a", false}},
                                  early[] = {{"c", true}, {"b", true}};
    static const thaw_freeze_stage stages[] = {{20, late, 1}, {-3, early, 2}};
    static const char *const valid[] = {"b", "a"};
    thaw_freeze_spec out[5];
    int n = 0;

    (void)state;
    CHECK_OK(thaw_effective_freeze(out, &n, 20, base, 2, stages, 2, NULL, -1));
    CHECK_INT(n, 3);
    CHECK_STR(out[0].module, "a");
    CHECK(!out[0].frozen);
    CHECK(out[1].frozen);
    CHECK_STR(out[2].module, "c");
    CHECK_OK(thaw_effective_freeze(out, &n, -4, base, 2, stages, 2, valid, 2));
    CHECK_INT(n, 2);
    CHECK_ERROR(thaw_effective_freeze(out, &n, 0, base, 2, stages, 2, valid, 2), THAW_E_NOMATCH,
                "FreezeSpec.module='c' (from FreezeStage(start_step=-3)) not in known module "
                "aliases ['a', 'b']");
    CHECK_STATUS(thaw_effective_freeze(out, &n, 0, base, 2, NULL, 0, NULL, 0), THAW_E_NOMATCH);
}

static void configuration(void **state)
{
    static const thaw_freeze_stage rising[] = {{1, NULL, 0}, {2, NULL, 0}},
                                   equal[] = {{2, NULL, 0}, {2, NULL, 0}};
    static const thaw_freeze_spec encoder[] = {{"vision_encoder", true}, {"adapter", false}},
                                  part[] = {{"vision_encoder.x", true}, {"vision_encoder", false}},
                                  none[] = {{"vision_encoders", true}};
    const thaw_alias *alias;
    int n;

    (void)state;
    CHECK_OK(thaw_check_freeze_stages(rising, 2));
    CHECK_STATUS(thaw_check_freeze_stages(equal, 2), THAW_E_RECIPE);
    CHECK(thaw_encoder_frozen(encoder, 2));
    CHECK(!thaw_encoder_frozen(part, 2));
    CHECK(!thaw_encoder_frozen(none, 1));
    CHECK_OK(thaw_arch_aliases(&alias, &n, "moma"));
    CHECK_STR(alias[n - 1].pattern[1], "transformer.layers.*");
    CHECK_ERROR(thaw_arch_aliases(&alias, &n, "nope"), THAW_E_NOMATCH, "Unknown vlm.arch: 'nope'");
    CHECK(thaw_save_due(200, 100, 1, 0));
    CHECK(!thaw_save_due(201, 100, 1, 0));
    CHECK(thaw_save_due(13, 100, 5, 69));
    CHECK(!thaw_save_due(14, 2, 5, 69));
    CHECK(thaw_save_due(0, 100, 0, 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_are_flipped_and_counted),
        cmocka_unit_test(tied_names),
        cmocka_unit_test(totals_keep_the_first_place_and_the_last_count),
        cmocka_unit_test(later_stages_override_in_place),
        cmocka_unit_test(configuration),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
