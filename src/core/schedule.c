/*
 * schedule.c - building a schedule, and where its phases lie.
 *
 * A schedule is data: phases one after another, and stages at fixed iterations. Which phase holds
 * is a pure function of progress; nothing here remembers where training is.
 */
#include "core/core.h"

#include <math.h>
#include <string.h>

thaw_status thaw_schedule_create(thaw_schedule **out, const thaw_tree *tree)
{
    thaw_status status = THAW_OK;
    thaw_schedule *s;

    if (!tree->sealed)
        return thaw_fail(THAW_E_USAGE, "the module tree is not sealed");
    s = thaw__new(1, sizeof(*s));
    if (!s)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a schedule");
    s->tree = tree;
    s->norm_eval = true;
    THAW_TRY(region_create(&s->region));
    THAW_TRY(phase_state_init(&s->state, tree));
    *out = s;
    s = NULL;
done:
    thaw_schedule_destroy(s);
    return status;
}

static void list_done(change_list *list)
{
    for (int i = 0; i < list->n; i++)
        selection_done(&list->item[i].layers);
    thaw__free(list->item);
    *list = (change_list){0};
}

void thaw_schedule_destroy(thaw_schedule *s)
{
    if (!s)
        return;
    for (effect_entry *e = s->effects, *next; e; e = next) {
        next = e->next;
        thaw__free(e);
    }
    phase_state_done(&s->state);
    for (int i = 0; i < s->n_problems; i++)
        thaw__free(s->problem[i].text);
    thaw__free(s->problem);
    for (int i = 0; i < s->n_stages; i++)
        list_done(&s->stage[i].changes);
    for (int i = 0; i < s->n_phases; i++)
        list_done(&s->phase[i].changes);
    list_done(&s->base);
    thaw__free(s->alias);
    thaw__free(s->stage);
    thaw__free(s->phase);
    region_destroy(s->region);
    thaw__free(s);
}

static thaw_status fail_memory(void)
{
    return thaw_fail(THAW_E_NOMEM, "out of memory for a schedule");
}

static thaw_status fail_sealed(void)
{
    return thaw_fail(THAW_E_USAGE, "the schedule is sealed and takes no more changes");
}

thaw_status thaw_schedule_add_phase(thaw_schedule *s, const thaw_phase_options *options)
{
    schedule_phase *p;
    text name = TEXT_INIT;

    if (s->sealed)
        return fail_sealed();
    THAW_CHECK(
        thaw__reserve(&s->phase, &s->phase_capacity, (size_t)s->n_phases + 1, sizeof(*s->phase)));
    p = &s->phase[s->n_phases];
    *p = (schedule_phase){.options = *options};
    text_addf(&name, "phase %d", s->n_phases + 1);
    p->options.name =
        name.failed ? NULL : region_strdup(s->region, options->name ? options->name : name.data);
    text_done(&name);
    if (options->until_metric)
        p->options.until_metric = region_strdup(s->region, options->until_metric);
    if (!p->options.name || (options->until_metric && !p->options.until_metric))
        return fail_memory();
    s->has_hold = s->has_hold || options->optimizer == THAW_OPTIMIZER_HOLD;
    s->n_phases++;
    s->open = NULL;
    return THAW_OK;
}

thaw_status thaw_schedule_add_stage(thaw_schedule *s, int64_t start_step)
{
    if (s->sealed)
        return fail_sealed();
    THAW_CHECK(
        thaw__reserve(&s->stage, &s->stage_capacity, (size_t)s->n_stages + 1, sizeof(*s->stage)));
    s->stage[s->n_stages] = (schedule_stage){.start = start_step, .order = s->n_stages};
    s->n_stages++;
    s->open = &s->stage[s->n_stages - 1].changes;
    return THAW_OK;
}

/* Where the next change goes: the stage or phase begun last, else the base. */
static change_list *open_list(thaw_schedule *s)
{
    return s->open ? s->open : s->n_phases ? &s->phase[s->n_phases - 1].changes : &s->base;
}

static thaw_status copy_patterns(const char ***out, thaw_schedule *s, const char *const *patterns,
                                 int n)
{
    const char **copy = region_alloc(s->region, (size_t)n + 1, sizeof(*copy));

    if (!copy)
        return fail_memory();
    for (int i = 0; i < n; i++) {
        copy[i] = region_strdup(s->region, patterns[i]);
        if (!copy[i])
            return fail_memory();
    }
    *out = copy;
    return THAW_OK;
}

static thaw_status add_change(thaw_schedule *s, change_list *list, schedule_change change,
                              const char *const *patterns, int n)
{
    if (n < 0)
        return thaw_fail(THAW_E_USAGE, "a list of %d patterns", n);
    THAW_CHECK(copy_patterns(&change.pattern, s, patterns, n));
    change.n_patterns = n;
    THAW_CHECK(
        thaw__reserve(&list->item, &list->capacity, (size_t)list->n + 1, sizeof(*list->item)));
    list->item[list->n++] = change;
    return THAW_OK;
}

thaw_status thaw_schedule_freeze(thaw_schedule *s, const char *const *patterns, int n)
{
    if (s->sealed)
        return fail_sealed();
    return add_change(s, open_list(s), (schedule_change){.type = SCHEDULE_FREEZE}, patterns, n);
}

thaw_status thaw_schedule_unfreeze(thaw_schedule *s, const char *const *patterns, int n)
{
    if (s->sealed)
        return fail_sealed();
    return add_change(s, open_list(s), (schedule_change){.type = SCHEDULE_UNFREEZE}, patterns, n);
}

thaw_status thaw__check_coefficient(double coefficient)
{
    if (!(coefficient >= 0) || isinf(coefficient))
        return thaw_fail(THAW_E_RANGE, "coefficient %g is not a finite number of 0 or more",
                         coefficient);
    return THAW_OK;
}

thaw_status thaw_schedule_coefficient(thaw_schedule *s, double coefficient,
                                      const char *const *patterns, int n)
{
    const schedule_change change = {.type = SCHEDULE_COEFFICIENT, .coefficient = coefficient};

    if (s->sealed)
        return fail_sealed();
    THAW_CHECK(thaw__check_coefficient(coefficient));
    return add_change(s, open_list(s), change, patterns, n);
}

thaw_status thaw_schedule_pin(thaw_schedule *s, const char *const *patterns, int n)
{
    if (s->sealed)
        return fail_sealed();
    return add_change(s, open_list(s), (schedule_change){.type = SCHEDULE_PIN}, patterns, n);
}

thaw_status thaw_schedule_spec(thaw_schedule *s, const char *module, bool frozen)
{
    schedule_change change = {.type = SCHEDULE_SPEC, .frozen = frozen};

    if (s->sealed)
        return fail_sealed();
    change.module = region_strdup(s->region, module);
    if (!change.module)
        return fail_memory();
    return add_change(s, open_list(s), change, NULL, 0);
}

thaw_status thaw_schedule_alias(thaw_schedule *s, const char *name, const char *const *patterns,
                                int n)
{
    struct schedule_alias made = {.n = n};

    if (s->sealed)
        return fail_sealed();
    THAW_CHECK(copy_patterns(&made.pattern, s, patterns, n));
    made.name = region_strdup(s->region, name);
    if (!made.name)
        return fail_memory();
    THAW_CHECK(
        thaw__reserve(&s->alias, &s->alias_capacity, (size_t)s->n_aliases + 1, sizeof(*s->alias)));
    s->alias[s->n_aliases++] = made;
    return THAW_OK;
}

void thaw_schedule_frozen_norm_eval(thaw_schedule *s, bool eval)
{
    s->norm_eval = eval;
}

void thaw_schedule_set_sizes(thaw_schedule *s, int64_t steps_per_epoch, int64_t samples_per_step,
                             int64_t tokens_per_step)
{
    s->steps_per_epoch = steps_per_epoch;
    s->samples_per_step = samples_per_step;
    s->tokens_per_step = tokens_per_step;
}

/* ---- where phases lie */

static int64_t add_steps(int64_t a, int64_t b)
{
    int64_t sum;

    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

int64_t thaw__phase_end(const thaw_schedule *s, const thaw_progress *progress, int phase,
                        int64_t begin)
{
    const int64_t end = add_steps(begin, s->phase[phase].steps);

    for (int i = 0; i < progress->n_fired; i++)
        if (progress->fired[i].phase == phase)
            return THAW_MIN(THAW_MAX(progress->fired[i].iteration, begin), end);
    return end;
}

int64_t thaw__phase_begin(const thaw_schedule *s, const thaw_progress *progress, int phase)
{
    int64_t begin = 0;

    for (int i = 0; i < phase; i++)
        begin = thaw__phase_end(s, progress, i, begin);
    return begin;
}

int thaw_schedule_n_phases(const thaw_schedule *s)
{
    return s->n_phases;
}

const char *thaw_schedule_phase_name(const thaw_schedule *s, int phase)
{
    return s->phase[phase].options.name;
}

const thaw_phase_options *thaw_schedule_phase_options(const thaw_schedule *s, int phase)
{
    return &s->phase[phase].options;
}

int thaw_schedule_phase_at(const thaw_schedule *s, const thaw_progress *progress)
{
    int64_t begin = 0;
    int found = 0;

    for (int i = 1; i < s->n_phases; i++) {
        begin = thaw__phase_end(s, progress, i - 1, begin);
        if (begin > progress->iteration)
            break;
        found = i;
    }
    return found;
}

void thaw_schedule_phase_span(int64_t *begin, int64_t *end, const thaw_schedule *s,
                              const thaw_progress *progress, int phase)
{
    *begin = thaw__phase_begin(s, progress, phase);
    *end = thaw__phase_end(s, progress, phase, *begin);
}

bool thaw_until_reached(const thaw_phase_options *options, const double *value, int n)
{
    const size_t length = options->until_metric ? strlen(options->until_metric) : 0;
    const bool smaller = length >= 4 && !strcmp(options->until_metric + length - 4, "loss");
    double best = 0;
    int stale = 0;
    bool any = false;

    for (int i = 0; i < n; i++) {
        const double gain = smaller ? best - value[i] : value[i] - best;

        if (isfinite(value[i]) && (!any || gain > options->until_min_change)) {
            best = value[i];
            any = true;
            stale = 0;
        } else {
            stale++;
        }
    }
    return options->until_metric && stale >= options->until_patience;
}

/* An edit is recorded after sealing, so it is resolved at once. */
static thaw_status add_edit(thaw_schedule *s, int64_t iteration, schedule_change change,
                            const char *const *patterns, int n)
{
    schedule_stage stage = {.start = iteration, .edit = true, .order = s->n_stages};
    thaw_status status = THAW_OK;
    int at = s->n_stages;

    if (!s->sealed)
        return thaw_fail(THAW_E_USAGE, "edits are recorded once the schedule is sealed");
    THAW_CHECK(
        thaw__reserve(&s->stage, &s->stage_capacity, (size_t)s->n_stages + 1, sizeof(*s->stage)));
    THAW_TRY(thaw__select(&change.layers, s->tree, patterns, n));
    THAW_TRY(add_change(s, &stage.changes, change, patterns, n));
    change.layers = (selection){0};
    while (at > 0 && s->stage[at - 1].start > iteration) {
        s->stage[at] = s->stage[at - 1];
        at--;
    }
    s->stage[at] = stage;
    s->n_stages++;
    stage.changes = (change_list){0};
    s->latest = NULL;
done:
    list_done(&stage.changes);
    selection_done(&change.layers);
    return status;
}

thaw_status thaw_schedule_edit_freeze(thaw_schedule *s, int64_t iteration,
                                      const char *const *patterns, int n)
{
    return add_edit(s, iteration, (schedule_change){.type = SCHEDULE_FREEZE}, patterns, n);
}

thaw_status thaw_schedule_edit_unfreeze(thaw_schedule *s, int64_t iteration,
                                        const char *const *patterns, int n)
{
    return add_edit(s, iteration, (schedule_change){.type = SCHEDULE_UNFREEZE}, patterns, n);
}

thaw_status thaw_schedule_edit_coefficient(thaw_schedule *s, int64_t iteration, double coefficient,
                                           const char *const *patterns, int n)
{
    const schedule_change change = {.type = SCHEDULE_COEFFICIENT, .coefficient = coefficient};

    THAW_CHECK(thaw__check_coefficient(coefficient));
    return add_edit(s, iteration, change, patterns, n);
}
