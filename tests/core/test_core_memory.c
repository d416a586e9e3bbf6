/*
 * test_core_memory.c - the control plane with the 1st, 2nd, 3rd … allocation failing: every call
 * reports it, nothing leaks, and what was there before is as it was.
 */
#include "trees.h"

static thaw_status grow(thaw_tree **out)
{
    thaw_status status = THAW_OK;
    thaw_tree *t = NULL;

    THAW_TRY(thaw_tree_create(&t));
    for (size_t i = 0; i < THAW_COUNT(small_names); i++)
        THAW_TRY(thaw_tree_add_param(t, small_names[i], 1, false));
    THAW_TRY(thaw_tree_tie(t, "out.weight", "backbone.conv1.weight"));
    THAW_TRY(thaw_tree_tie(t, "zz.again", "backbone.layer1"));
    THAW_TRY(thaw_tree_seal(t));
    *out = t;
    t = NULL;
done:
    thaw_tree_destroy(t);
    return status;
}

static thaw_status use_schedule(const thaw_tree *t)
{
    const char *const body[] = {"backbone", "(?i)out"}, *const aliases[] = {"head.*"};
    const thaw_phase_options phase = {.length = 4, .until_metric = "loss", .until_patience = 1},
                             held = {.length = 4, .optimizer = THAW_OPTIMIZER_HOLD};
    const thaw_preset_options preset = {.length = 8};
    const thaw_effect *e;
    thaw_status status = THAW_OK;
    thaw_schedule *s = NULL;
    char *printed = NULL, *notes = NULL;

    THAW_TRY(thaw_schedule_create(&s, t));
    THAW_TRY(thaw_schedule_alias(s, "top", aliases, 1));
    THAW_TRY(thaw_schedule_spec(s, "top", true));
    THAW_TRY(thaw_schedule_add_phase(s, &phase));
    THAW_TRY(thaw_schedule_freeze(s, body, 2));
    THAW_TRY(thaw_schedule_add_phase(s, &held));
    THAW_TRY(thaw_schedule_unfreeze(s, body, 1));
    THAW_TRY(thaw_schedule_pin(s, body, 1));
    THAW_TRY(thaw_schedule_add_stage(s, 2));
    THAW_TRY(thaw_schedule_spec(s, "head.bias", false));
    THAW_TRY(thaw_schedule_preset(s, "gradual", &preset));
    THAW_TRY(thaw_schedule_preset(s, "random-blocks", &preset));
    THAW_TRY(thaw_schedule_text(&printed, s));
    THAW_TRY(thaw_schedule_seal(s));
    THAW_TRY(thaw_schedule_notes(&notes, s));
    THAW_TRY(thaw_schedule_edit_freeze(s, 1, body, 1));
    for (int64_t i = 0; i < 12; i++) {
        const thaw_progress at = {.iteration = i};

        THAW_TRY(thaw_schedule_effect(&e, s, &at));
    }
done:
    thaw_text_free(notes);
    thaw_text_free(printed);
    thaw_schedule_destroy(s);
    return status;
}

/* A schedule with mistakes reports either them or the lack of memory. */
static thaw_status use_bad_schedule(const thaw_tree *t)
{
    const char *const bad[] = {"haed", "a(", "(?<=a*)b"};
    const thaw_phase_options phase = {.length = 4};
    thaw_status status = THAW_OK;
    thaw_schedule *s = NULL;

    THAW_TRY(thaw_schedule_create(&s, t));
    THAW_TRY(thaw_schedule_add_phase(s, &phase));
    THAW_TRY(thaw_schedule_freeze(s, bad, 3));
    THAW_TRY(thaw_schedule_spec(s, "nothing.*", false));
    status = thaw_schedule_seal(s);
    status = status == THAW_E_NOMATCH ? THAW_OK : status;
done:
    thaw_schedule_destroy(s);
    return status;
}

static thaw_status use_policy(const thaw_tree *t)
{
    const char *const body[] = {"backbone"}, *const one[] = {"backbone\\.layer1\\.0"};
    const thaw_rates rates = THAW_RATES_INIT;
    thaw_status status = THAW_OK;
    thaw_policy *p = NULL;
    char *json = NULL;

    THAW_TRY(thaw_policy_create(&p, t));
    THAW_TRY(thaw_policy_build(p, &rates));
    THAW_TRY(thaw_policy_freeze(p, body, 1));
    THAW_TRY(thaw_policy_coefficient(p, 0.5, body, 1, THAW_REBUILD_REFUSE));
    THAW_TRY(thaw_policy_unfreeze(p, one, 1, THAW_REBUILD_IF_NEEDED));
    THAW_TRY(thaw_policy_save(&json, p));
    THAW_TRY(thaw_policy_load(p, json, &rates));
    THAW_TRY(thaw_policy_load(p, json, NULL));
done:
    thaw_text_free(json);
    thaw_policy_destroy(p);
    return status;
}

static thaw_status use_specs(const thaw_tree *t)
{
    static const thaw_freeze_spec specs[] = {{"caf\xc3\xa9", true}, {"head.*", true}};
    static const char *const valid[] = {"x", "\xce\xb1"};
    thaw_freeze_total totals[2];
    thaw_freeze_spec out[2];
    bool trainable[16];
    char *json = NULL, *file = NULL, *warning = NULL;
    thaw_status status = THAW_OK;
    int n;

    memset(trainable, true, sizeof(trainable));
    THAW_TRY(thaw_apply_freeze_specs(totals, &n, trainable, t, specs, 2, NULL, 0));
    THAW_TRY(thaw_freeze_meta_json(&json, specs, 2));
    THAW_TRY(thaw_freeze_metadata_json(&file, 1, 2, specs, 2));
    THAW_TRY(thaw_freeze_metadata_compare(&warning, "f", file,
                                          &(thaw_freeze_spec){"caf\xc3\xa9", false}, 1, true));
    status = thaw_effective_freeze(out, &n, 0, specs, 2, NULL, 0, valid, 2);
    status = status == THAW_E_NOMATCH ? THAW_OK : status;
done:
    thaw_text_free(warning);
    thaw_text_free(file);
    thaw_text_free(json);
    return status;
}

typedef thaw_status use_fn(const thaw_tree *t);

/* A second failure in a row must not matter either. */
static void check_use(use_fn *use, const char *what)
{
    const size_t before = thaw__mem_current();
    thaw_tree *t;

    CHECK_OK(grow(&t));
    for (int forever = 0; forever < 2; forever++) {
        bool more = true;
        thaw_status status = THAW_OK;

        for (long n = 1; more; n++) {
            check_alloc_fail(n, forever);
            status = use(t);
            more = check_alloc_restore();
            CHECK_MSG(status == THAW_OK || status == THAW_E_NOMEM, "%s, allocation %ld: %s (%s)",
                      what, n, thaw_status_name(status), thaw_error());
            CHECK_MSG(more || status == THAW_OK, "%s fails without cause: %s", what, thaw_error());
        }
    }
    thaw_tree_destroy(t);
    CHECK_INT(thaw__mem_current(), before);
}

static void a_tree(void **state)
{
    const size_t before = thaw__mem_current();
    bool more = true;

    (void)state;
    for (long n = 1; more; n++) {
        thaw_tree *t = NULL;
        thaw_status status;

        check_alloc_fail(n, false);
        status = grow(&t);
        more = check_alloc_restore();
        CHECK(more ? status == THAW_E_NOMEM || status == THAW_OK : status == THAW_OK);
        thaw_tree_destroy(t);
        CHECK_INT(thaw__mem_current(), before);
    }
}

static void the_rest(void **state)
{
    (void)state;
    check_use(use_schedule, "a schedule");
    check_use(use_bad_schedule, "a schedule with mistakes");
    check_use(use_policy, "a policy");
    check_use(use_specs, "freeze specs");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree),
        cmocka_unit_test(the_rest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
