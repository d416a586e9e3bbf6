/*
 * family_loop.c - the family trainloop: which parameters each update of a training loop changes,
 * over runs that stop, skip and resume. Our schedule says; the loop around it is a few lines.
 *
 * The masks of executed updates count. A run that we refuse before its first update passes where
 * the recorded one failed too, or has a trap that calls for refusal.
 */
#include "golden/golden.h"

#include <stdio.h>
#include <string.h>

/* The last checkpoint of a scenario, which its runs share. */
typedef struct saved {
    bool there;
    int64_t step;
    char *metadata;
} saved;

typedef struct loop {
    golden_run *g;
    const char *scenario;
    const json_t *run;
    thaw_tree *tree;
    thaw_schedule *schedule;
    thaw_freeze_spec *base;
    thaw_freeze_stage *stage;
    int n_base, n_stages;
    saved *last;
    size_t n_checked; /* of the wanted masks */
} loop;

static thaw_status grow(loop *l)
{
    const json_t *pair;
    size_t i;

    THAW_CHECK(thaw_tree_create(&l->tree));
    json_array_foreach(json_object_get(l->run, "parameters"), i, pair)
        THAW_CHECK(thaw_tree_add_param(l->tree, json_string_value(json_array_get(pair, 0)),
                                       json_integer_value(json_array_get(pair, 1)), false));
    return thaw_tree_seal(l->tree);
}

static void read_lists(loop *l)
{
    const json_t *list = json_object_get(l->run, "schedule"), *v;
    size_t i;

    l->base = golden_specs(&l->n_base, json_object_get(l->run, "base"));
    l->stage = thaw__new(json_array_size(list), sizeof(*l->stage));
    json_array_foreach(list, i, v)
    {
        thaw_freeze_stage *s = &l->stage[l->n_stages++];

        s->start_step = json_integer_value(json_array_get(v, 0));
        s->spec = golden_specs(&s->n_specs, json_array_get(v, 1));
    }
}

/* One endless phase: where a stage lies beyond this run, a later one may reach it. */
static thaw_status schedule_of(loop *l, const json_t *patterns)
{
    const thaw_phase_options phase = {.length = INT64_C(1) << 40};
    thaw_status status = THAW_OK;
    int n;
    thaw_alias *aliases = golden_aliases(&n, patterns);

    THAW_TRY(thaw_schedule_create(&l->schedule, l->tree));
    for (int i = 0; i < n; i++)
        THAW_TRY(thaw_schedule_alias(l->schedule, aliases[i].name, aliases[i].pattern,
                                     aliases[i].n_patterns));
    for (int i = 0; i < l->n_base; i++)
        THAW_TRY(thaw_schedule_spec(l->schedule, l->base[i].module, l->base[i].frozen));
    THAW_TRY(thaw_schedule_add_phase(l->schedule, &phase));
    for (int s = 0; s < l->n_stages; s++) {
        THAW_TRY(thaw_schedule_add_stage(l->schedule, l->stage[s].start_step));
        for (int i = 0; i < l->stage[s].n_specs; i++)
            THAW_TRY(thaw_schedule_spec(l->schedule, l->stage[s].spec[i].module,
                                        l->stage[s].spec[i].frozen));
    }
    THAW_TRY(thaw_schedule_seal(l->schedule));
done:
    golden_aliases_free(aliases, n);
    return status;
}

/* What metadata says at a step; n_out specs, free with thaw__free. */
static thaw_freeze_spec *effective(int *n_out, const loop *l, int64_t step)
{
    int n_all = l->n_base;
    thaw_freeze_spec *out;

    for (int s = 0; s < l->n_stages; s++)
        n_all += l->stage[s].n_specs;
    out = thaw__new((size_t)n_all, sizeof(*out));
    *n_out = 0;
    if (thaw_effective_freeze(out, n_out, step, l->base, l->n_base, l->stage, l->n_stages, NULL,
                              -1) != THAW_OK)
        golden_check(l->g, false, "%s: %s", l->scenario, thaw_error());
    return out;
}

static void save(const loop *l, int64_t step)
{
    int n;
    thaw_freeze_spec *specs = effective(&n, l, step);

    thaw_text_free(l->last->metadata);
    l->last->metadata = NULL;
    l->last->there = true;
    l->last->step = step;
    if (thaw_freeze_metadata_json(&l->last->metadata, step, 0, specs, n) != THAW_OK)
        golden_check(l->g, false, "%s: %s", l->scenario, thaw_error());
    thaw__free(specs);
}

/* Resuming: what the checkpoint means must be what is meant now. */
static thaw_status agree(const loop *l)
{
    char *warning = NULL;
    int n;
    thaw_freeze_spec *expected;
    thaw_status status;

    if (!l->last->there)
        return THAW_OK;
    expected = effective(&n, l, l->last->step);
    status = thaw_freeze_metadata_compare(&warning, "checkpoint", l->last->metadata, expected, n,
                                          json_is_true(json_object_get(l->run, "ignore")));
    thaw_text_free(warning);
    thaw__free(expected);
    return status;
}

static bool has_event(const json_t *run, const char *kind)
{
    const json_t *e;
    size_t i;

    json_array_foreach(json_object_get(run, "events"), i,
                       e) if (!strcmp(json_string_value(json_array_get(e, 0)), kind)) return true;
    return false;
}

static bool same_mask(const char *bits, const bool *flags, int n)
{
    if ((int)strlen(bits) != n)
        return false;
    for (int i = 0; i < n; i++)
        if ((bits[i] == '1') != flags[i])
            return false;
    return true;
}

/* One update: who trains, and who has an optimizer slot, are both what is wanted. */
static void update(loop *l, int64_t iteration)
{
    const json_t *want =
        json_array_get(json_object_get(l->run, "document_update_masks"), l->n_checked);
    const thaw_progress at = {.iteration = iteration};
    const thaw_effect *e;
    const char *bits;

    if (!want || json_integer_value(json_array_get(want, 0)) != iteration)
        return;
    l->n_checked++;
    bits = json_string_value(json_array_get(want, 1));
    if (thaw_schedule_effect(&e, l->schedule, &at) != THAW_OK) {
        golden_check(l->g, false, "%s: %s", l->scenario, thaw_error());
        return;
    }
    golden_check(l->g, same_mask(bits, e->trainable, e->n_params),
                 "%s: mask of update %lld is not %s", l->scenario, (long long)iteration, bits);
    golden_check(l->g, same_mask(bits, e->updated, e->n_params),
                 "%s: update %lld does not change all that trains", l->scenario,
                 (long long)iteration);
}

static bool is_nan(const json_t *run, int64_t iteration)
{
    const json_t *v;
    size_t i;

    json_array_foreach(json_object_get(run, "nan"), i,
                       v) if (json_integer_value(v) == iteration) return true;
    return false;
}

static void run_loop(loop *l)
{
    const json_t *window = json_object_get(l->run, "window");
    const json_t *sigterm = json_object_get(l->run, "sigterm_after_checks");
    const int64_t steps = json_integer_value(json_object_get(l->run, "max_steps"));
    const int64_t interval = json_integer_value(json_object_get(l->run, "interval"));
    const int64_t first = json_is_array(window) ? json_integer_value(json_array_get(window, 0)) : 1;
    const int64_t last = json_is_array(window) ? json_integer_value(json_array_get(window, 1)) : 0;
    json_int_t checks = 0;
    int64_t step = l->last->there ? l->last->step : 0;

    while (step < steps) {
        const bool skipped = is_nan(l->run, step);

        if (!skipped)
            update(l, step);
        step++;
        if (!skipped && thaw_save_due(step, THAW_MAX(interval, 1), first, last))
            save(l, step);
        if (!skipped && json_is_integer(sigterm) && ++checks >= json_integer_value(sigterm)) {
            save(l, step);
            return;
        }
    }
    if (!l->last->there || l->last->step != step)
        save(l, step);
}

/* A run that never starts: right where the recorded one failed, or should have. */
static void check_refusal(loop *l, const json_t *traps, thaw_status status)
{
    const bool failed = has_event(l->run, "error");

    golden_check(l->g, failed || json_array_size(traps) > 0, "%s: refused (%s): %s", l->scenario,
                 thaw_status_name(status), thaw_error());
}

static void loop_done(loop *l)
{
    thaw_schedule_destroy(l->schedule);
    thaw_tree_destroy(l->tree);
    for (int s = 0; s < l->n_stages; s++)
        thaw__free((void *)(uintptr_t)l->stage[s].spec);
    thaw__free(l->stage);
    thaw__free(l->base);
}

static void run_one(golden_run *g, const json_t *scenario, const json_t *run, saved *last)
{
    loop l = {.g = g, .scenario = text_of(scenario, "name"), .run = run, .last = last};
    const json_t *traps = json_object_get(scenario, "traps");
    thaw_status status;

    g->apart = json_array_size(json_object_get(run, "ambiguous")) > 0;
    read_lists(&l);
    status = grow(&l);
    if (status == THAW_OK)
        status = schedule_of(&l, json_object_get(scenario, "module_patterns"));
    if (status == THAW_OK)
        status = agree(&l);
    if (status != THAW_OK) {
        check_refusal(&l, traps, status);
    } else {
        run_loop(&l);
        golden_check(g,
                     l.n_checked == json_array_size(json_object_get(run, "document_update_masks")),
                     "%s: %zu of the wanted updates were made", l.scenario, l.n_checked);
    }
    g->apart = false;
    loop_done(&l);
}

void golden_trainloop(golden_run *g, const json_t *root)
{
    const json_t *scenario, *run;
    size_t i, k;

    json_array_foreach(json_object_get(root, "scenarios"), i, scenario)
    {
        saved last = {0};

        json_array_foreach(json_object_get(scenario, "runs"), k, run)
            run_one(g, scenario, run, &last);
        thaw_text_free(last.metadata);
    }
}
