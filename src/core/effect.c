/*
 * effect.c - what holds at a moment: the fold of every change that progress has reached.
 *
 * Two things are folded side by side. The mask and the coefficients are those of now; what the
 * optimizer knows (its groups, the rates in them, when it was built) changes only in phases that do
 * not hold it. Nothing is remembered between calls but finished effects.
 */
#include "core/core.h"

#include <math.h>
#include <string.h>

/* The optimizer's side of the fold. */
typedef struct optimizer_view {
    bool *known;       /* [n_params] has a group; NULL: everything trainable has */
    double *lr_scale;  /* [n_params] rates kept by a hold; valid while held */
    double *by_module; /* [n_modules] scratch */
    bool held;         /* the rates are those of lr_scale, not of the state */
    int64_t built_at;
    int built_phase;
    thaw_on_freeze on_freeze;
    bool *thawed; /* [n_params] trains since the phase began, frozen before; NULL: no phase asks */
    int64_t phase_begin;
} optimizer_view;

static void fill_lr_scale(double *lr_scale, double *by_module, const phase_state *state)
{
    const thaw_tree *t = state->tree;

    phase_state_coefficients(by_module, state);
    for (int m = 0; m < t->n_modules; m++)
        for (int p = t->module[m].param_begin; p < t->module[m].own_end; p++)
            lr_scale[p] = by_module[m];
}

/* Before a change that the optimizer will not hear of, keep what it has. */
static void hold(optimizer_view *o, const phase_state *state)
{
    if (o->held)
        return;
    fill_lr_scale(o->lr_scale, o->by_module, state);
    for (int p = 0; p < state->tree->n_params; p++)
        if (!o->known[p])
            o->lr_scale[p] = 1.0;
    o->held = true;
}

static void learn(optimizer_view *o, const phase_state *state, bool rebuild)
{
    o->held = false;
    for (int p = 0; o->known && p < state->tree->n_params; p++)
        o->known[p] = state->trainable[p] || (o->known[p] && !rebuild);
}

static thaw_status apply_list(phase_state *state, const change_list *list)
{
    for (int i = 0; i < list->n; i++)
        THAW_CHECK(phase_state_apply(state, &list->item[i]));
    return THAW_OK;
}

/* Stages with start < limit, from number *at on. A stage and an edit keep the optimizer. */
static thaw_status apply_stages(optimizer_view *o, thaw_schedule *s, int *at, int end,
                                int64_t limit)
{
    for (; *at < end && s->stage[*at].start < limit; ++*at) {
        THAW_CHECK(apply_list(&s->state, &s->stage[*at].changes));
        learn(o, &s->state, false);
    }
    return THAW_OK;
}

/* The first phase builds the optimizer, whatever it asks for. */
static thaw_status apply_phase(optimizer_view *o, thaw_schedule *s, int phase, int64_t begin)
{
    const thaw_phase_options *options = &s->phase[phase].options;
    const bool rebuild = phase == 0 || options->optimizer == THAW_OPTIMIZER_REBUILD;
    const bool held = !rebuild && options->optimizer == THAW_OPTIMIZER_HOLD;

    if (held)
        hold(o, &s->state);
    for (int p = 0; o->thawed && p < s->tree->n_params; p++)
        o->thawed[p] = phase > 0 && !s->state.trainable[p];
    THAW_CHECK(apply_list(&s->state, &s->phase[phase].changes));
    for (int p = 0; o->thawed && p < s->tree->n_params; p++)
        o->thawed[p] = o->thawed[p] && s->state.trainable[p];
    o->phase_begin = begin;
    o->on_freeze = options->on_freeze;
    if (held)
        return THAW_OK;
    learn(o, &s->state, rebuild);
    o->built_phase = phase;
    if (rebuild)
        o->built_at = begin;
    return THAW_OK;
}

static thaw_status fold(optimizer_view *o, thaw_schedule *s, const thaw_progress *progress,
                        int phase, int n_stages)
{
    int stage = 0;

    phase_state_reset(&s->state);
    THAW_CHECK(apply_list(&s->state, &s->base));
    for (int i = 0; i <= phase; i++) {
        const int64_t begin = thaw__phase_begin(s, progress, i);

        THAW_CHECK(apply_stages(o, s, &stage, i ? n_stages : 0, begin));
        THAW_CHECK(apply_phase(o, s, i, begin));
    }
    return apply_stages(o, s, &stage, n_stages, INT64_MAX);
}

/* ---- how norms and dropout run */

/*
 * A norm goes by its own parameters. A norm without any, and a dropout, go by the nearest module
 * upwards that has parameters at or below it, and are quiet where all of those are frozen.
 * any[m]: something at or below m trains.
 */
static void fill_any_trainable(bool *any, const thaw_tree *t, const bool *trainable)
{
    for (int m = t->n_modules - 1; m >= 0; m--) {
        for (int e = t->module[m].entry_begin; e < t->module[m].entry_end && !any[m]; e++)
            any[m] = trainable[t->entry[e].param];
        if (any[m] && m > 0)
            any[t->module[m].parent] = true;
    }
    for (int i = 0; i < t->n_reused; i++)
        if (any[t->reused[i].target])
            for (int m = t->reused[i].module; m >= 0 && !any[m]; m = t->module[m].parent)
                any[m] = true;
}

static void fill_modes(uint8_t *mode, int *owner, const thaw_schedule *s, const bool *any)
{
    const thaw_tree *t = s->tree;

    for (int m = 0; m < t->n_modules; m++) {
        const tree_module *it = &t->module[m];
        bool own_trains = false;

        owner[m] = it->layer || m == 0 ? m : owner[it->parent];
        for (int e = it->entry_begin; e < it->entry_end && !own_trains; e++)
            own_trains = s->state.trainable[t->entry[e].param];
        if (it->entry_end == it->entry_begin)
            own_trains = any[owner[m]];
        mode[m] = (uint8_t)((own_trains || !s->norm_eval ? THAW_MODE_NORM_TRAIN : 0) |
                            (any[owner[m]] ? THAW_MODE_DROPOUT : 0));
    }
}

/* ---- digests: values with their run lengths, so that the text is canonical and short */

#define HASH_RUNS(h, values, n)                                                                    \
    do {                                                                                           \
        for (int begin_ = 0, i_ = 0; i_ < (n); begin_ = i_) {                                      \
            while (i_ < (n) && (values)[i_] == (values)[begin_])                                   \
                i_++;                                                                              \
            const int run_ = i_ - begin_;                                                          \
            (h) = hash_fnv1a_n((h), &(values)[begin_], sizeof((values)[0]));                       \
            (h) = hash_fnv1a_n((h), &run_, sizeof(run_));                                          \
        }                                                                                          \
    } while (0)

static void fill_digests(thaw_effect *e, const thaw_tree *t)
{
    uint64_t h = hash_fnv1a_n(HASH_INIT, &t->digest, sizeof(t->digest));
    const int on_freeze = (int)e->on_freeze;

    HASH_RUNS(h, e->trainable, e->n_params);
    HASH_RUNS(h, e->mode, e->n_modules);
    e->plan_digest = h;
    HASH_RUNS(h, e->updated, e->n_params);
    HASH_RUNS(h, e->lr_scale, e->n_params);
    h = hash_fnv1a_n(h, &e->built_at, sizeof(e->built_at));
    h = hash_fnv1a_n(h, &e->built_phase, sizeof(e->built_phase));
    h = hash_fnv1a_n(h, &on_freeze, sizeof(on_freeze));
    if (e->thaw_warmup > 0) {
        HASH_RUNS(h, e->thawed, e->n_params);
        h = hash_fnv1a_n(h, &e->thaw_warmup, sizeof(e->thaw_warmup));
        h = hash_fnv1a_n(h, &e->phase_begin, sizeof(e->phase_begin));
    }
    e->digest = h;
}

/* ---- one effect */

/* One block: the entry, then its arrays, widest first. */
static effect_entry *new_entry(double **lr_scale, bool **trainable, bool **updated, bool **thawed,
                               uint8_t **mode, const thaw_tree *t)
{
    const size_t n = (size_t)t->n_params;
    size_t bytes = 0;
    effect_entry *entry;

    if (!size_mul(&bytes, n, sizeof(double) + 3 * sizeof(bool)) ||
        !size_add(&bytes, bytes, (size_t)t->n_modules + sizeof(*entry)))
        return NULL;
    entry = thaw__alloc(bytes);
    if (!entry)
        return NULL;
    memset(entry, 0, sizeof(*entry));
    *lr_scale = (double *)(entry + 1);
    *trainable = (bool *)(*lr_scale + n);
    *updated = *trainable + n;
    *thawed = *updated + n;
    *mode = (uint8_t *)(*thawed + n);
    return entry;
}

static thaw_status build(effect_entry **out, thaw_schedule *s, const optimizer_view *o, int phase)
{
    const thaw_tree *t = s->tree;
    double *lr_scale;
    bool *trainable, *updated, *thawed;
    uint8_t *mode;
    effect_entry *entry = new_entry(&lr_scale, &trainable, &updated, &thawed, &mode, t);
    bool *any = thaw__new((size_t)t->n_modules, sizeof(*any));
    int *owner = thaw__new((size_t)t->n_modules, sizeof(*owner));
    thaw_status status = THAW_OK;

    if (!entry || !any || !owner) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for the effect of a phase");
        goto done;
    }
    memcpy(trainable, s->state.trainable, (size_t)t->n_params);
    if (o->held)
        memcpy(lr_scale, o->lr_scale, (size_t)t->n_params * sizeof(*lr_scale));
    else
        fill_lr_scale(lr_scale, o->by_module, &s->state);
    memcpy(updated, trainable, (size_t)t->n_params);
    for (int p = 0; o->known && p < t->n_params; p++)
        updated[p] = trainable[p] && o->known[p];
    for (int p = 0; p < t->n_params; p++)
        thawed[p] = o->thawed && trainable[p] && o->thawed[p];
    fill_any_trainable(any, t, trainable);
    fill_modes(mode, owner, s, any);
    entry->effect = (thaw_effect){.phase = phase,
                                  .n_params = t->n_params,
                                  .n_modules = t->n_modules,
                                  .trainable = trainable,
                                  .updated = updated,
                                  .lr_scale = lr_scale,
                                  .mode = mode,
                                  .built_at = o->built_at,
                                  .built_phase = o->built_phase,
                                  .on_freeze = o->on_freeze,
                                  .thawed = thawed,
                                  .thaw_warmup = s->phase[phase].options.thaw_warmup,
                                  .phase_begin = o->phase_begin};
    fill_digests(&entry->effect, t);
    *out = entry;
    entry = NULL;
done:
    thaw__free(owner);
    thaw__free(any);
    thaw__free(entry);
    return status;
}

static thaw_status make(effect_entry **out, thaw_schedule *s, const thaw_progress *progress,
                        int phase, int n_stages)
{
    const thaw_tree *t = s->tree;
    thaw_status status = THAW_OK;
    optimizer_view o = {.by_module = thaw__new((size_t)t->n_modules, sizeof(double))};

    if (s->has_hold) {
        o.known = thaw__new((size_t)t->n_params, sizeof(*o.known));
        o.lr_scale = thaw__new((size_t)t->n_params, sizeof(*o.lr_scale));
    }
    if (s->phase[phase].options.thaw_warmup > 0)
        o.thawed = thaw__new((size_t)t->n_params, sizeof(*o.thawed));
    if (!o.by_module || (s->has_hold && (!o.known || !o.lr_scale)) ||
        (s->phase[phase].options.thaw_warmup > 0 && !o.thawed)) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for the effect of a phase");
        goto done;
    }
    THAW_TRY(fold(&o, s, progress, phase, n_stages));
    THAW_TRY(build(out, s, &o, phase));
done:
    thaw__free(o.thawed);
    thaw__free(o.lr_scale);
    thaw__free(o.known);
    thaw__free(o.by_module);
    return status;
}

static uint64_t mix(uint64_t h, int64_t value)
{
    return (h ^ (uint64_t)value) * UINT64_C(0x9E3779B97F4A7C15) + 1;
}

/* Where the fold stands: the phase, the stages reached, and for how long that is so. */
typedef struct position {
    int phase, n_stages;
    int64_t begin, end; /* iterations at which it is the same */
    uint64_t key;       /* of everything the fold depends on */
} position;

static position locate(const thaw_schedule *s, const thaw_progress *progress)
{
    position at = {.begin = INT64_MIN, .end = INT64_MAX, .key = mix(HASH_INIT, s->n_stages)};
    int64_t begin = 0;

    for (int i = 1; i < s->n_phases; i++) {
        const int64_t end = thaw__phase_end(s, progress, i - 1, begin);

        if (end > progress->iteration) {
            at.end = end;
            break;
        }
        at.key = mix(at.key, end);
        at.begin = begin = end;
        at.phase = i;
    }
    while (at.n_stages < s->n_stages && s->stage[at.n_stages].start <= progress->iteration) {
        at.begin = THAW_MAX(at.begin, s->stage[at.n_stages].start);
        at.n_stages++;
    }
    if (at.n_stages < s->n_stages)
        at.end = THAW_MIN(at.end, s->stage[at.n_stages].start);
    at.key = mix(mix(at.key, at.phase), at.n_stages);
    return at;
}

static uint64_t fired_key(const thaw_progress *progress)
{
    uint64_t h = mix(HASH_INIT, progress->n_fired);

    for (int i = 0; i < progress->n_fired; i++)
        h = mix(mix(h, progress->fired[i].phase), progress->fired[i].iteration);
    return h;
}

thaw_status thaw_schedule_effect(const thaw_effect **out, thaw_schedule *s,
                                 const thaw_progress *progress)
{
    const uint64_t fired = fired_key(progress);
    effect_entry *found = s->effects;
    position at;

    if (!s->sealed)
        return thaw_fail(THAW_E_USAGE, "the schedule is not sealed");
    if (s->latest && fired == s->latest_fired && progress->iteration >= s->latest_begin &&
        progress->iteration < s->latest_end) {
        *out = &s->latest->effect;
        return THAW_OK;
    }
    at = locate(s, progress);
    while (found && found->key != at.key)
        found = found->next;
    if (!found) {
        THAW_CHECK(make(&found, s, progress, at.phase, at.n_stages));
        found->key = at.key;
        found->next = s->effects;
        s->effects = found;
    }
    s->latest = found;
    s->latest_begin = at.begin;
    s->latest_end = at.end;
    s->latest_fired = fired;
    *out = &found->effect;
    return THAW_OK;
}

int thaw_effect_phase(const thaw_effect *e)
{
    return e->phase;
}

bool thaw_effect_trainable(const thaw_effect *e, int param)
{
    return e->trainable[param];
}

double thaw_effect_lr_scale(const thaw_effect *e, int param)
{
    return e->lr_scale[param];
}

double thaw__effect_ramp(const thaw_effect *e, int64_t iteration)
{
    const int64_t k = iteration - e->phase_begin;

    if (k < 0 || k >= e->thaw_warmup)
        return 1;
    return ((double)k + 1) / ((double)e->thaw_warmup + 1);
}

double thaw_effect_warmup(const thaw_effect *e, int param, int64_t iteration)
{
    return e->thawed[param] ? thaw__effect_ramp(e, iteration) : 1;
}

uint64_t thaw_effect_digest(const thaw_effect *e)
{
    return e->digest;
}
