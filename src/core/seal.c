/*
 * seal.c - a schedule is checked as a whole before anything runs: every pattern resolved, also
 * those of stages far ahead, every contradiction found, all mistakes reported at once.
 */
#include "core/core.h"

#include <stdlib.h>
#include <string.h>

/* Where the check is. */
typedef struct place {
    int phase, stage, change;
} place;

static thaw_status add_problem(thaw_schedule *s, place at, thaw_status code, const char *what)
{
    text t = TEXT_INIT;
    schedule_problem made = {
        .code = code, .phase = at.phase, .stage = at.stage, .change = at.change};

    if (at.phase >= 0)
        text_addf(&t, "phase '%s': ", s->phase[at.phase].options.name);
    else if (at.stage >= 0)
        text_addf(&t, "stage at step %lld: ", (long long)s->stage[at.stage].start);
    text_add(&t, what);
    THAW_CHECK(text_take(&made.text, &t, "a list of mistakes"));
    if (thaw__reserve(&s->problem, &s->problem_capacity, (size_t)s->n_problems + 1,
                      sizeof(*s->problem)) != THAW_OK) {
        thaw__free(made.text);
        return THAW_E_NOMEM;
    }
    s->problem[s->n_problems++] = made;
    return THAW_OK;
}

static thaw_status resolve_layers(thaw_schedule *s, place at, schedule_change *c)
{
    thaw_status status = THAW_OK;
    bool *chosen = thaw__new((size_t)s->tree->n_modules, sizeof(*chosen));

    if (!chosen)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a schedule");
    for (int i = 0; i < c->n_patterns; i++) {
        const thaw_status code = thaw__select_one(chosen, s->tree, c->pattern[i]);

        if (code == THAW_E_NOMEM) {
            status = code;
            goto done;
        }
        if (code != THAW_OK)
            THAW_TRY(add_problem(s, at, code, thaw_error()));
    }
    selection_done(&c->layers);
    THAW_TRY(selection_take(&c->layers, s->tree, chosen));
done:
    thaw__free(chosen);
    return status;
}

static const struct schedule_alias *find_alias(const thaw_schedule *s, const char *name)
{
    for (int i = s->n_aliases - 1; i >= 0; i--)
        if (!strcmp(s->alias[i].name, name))
            return &s->alias[i];
    return NULL;
}

/* C17, C18: an alias, or a pattern that matches at least one parameter. */
static thaw_status fail_unknown(const thaw_schedule *s, const char *module)
{
    const char **name = thaw__new((size_t)s->n_aliases, sizeof(*name));
    text near = TEXT_INIT;
    thaw_status status;

    for (int i = 0; name && i < s->n_aliases; i++)
        name[i] = s->alias[i].name;
    if (name)
        text_add_near(&near, module, name, (size_t)s->n_aliases, 3);
    status = thaw_fail(THAW_E_NOMATCH, "'%s' is no alias and matches no parameter%s", module,
                       near.data ? near.data : "");
    text_done(&near);
    thaw__free(name);
    return status;
}

static thaw_status resolve_spec(thaw_schedule *s, place at, schedule_change *c)
{
    const struct schedule_alias *alias = find_alias(s, c->module);
    const char *const *pattern = alias ? alias->pattern : &c->module;
    const int n = alias ? alias->n : 1;

    selection_done(&c->layers);
    THAW_CHECK(thaw__match_params(&c->layers, s->tree, pattern, n, true));
    if (!alias && c->layers.n == 0) {
        const thaw_status code = fail_unknown(s, c->module);

        return code == THAW_E_NOMEM ? code : add_problem(s, at, code, thaw_error());
    }
    return THAW_OK;
}

/* The same target asked for two different things at one moment; both are of one kind. */
static bool contradicts(const schedule_change *a, const schedule_change *b)
{
    return a->type != b->type || a->frozen != b->frozen ||
           (a->type == SCHEDULE_COEFFICIENT && a->coefficient != b->coefficient);
}

/* Changes of the mask, of rates, and specs do not get in each other's way. */
static int kind_of(const schedule_change *c)
{
    static const int kind[] = {[SCHEDULE_FREEZE] = 0,
                               [SCHEDULE_UNFREEZE] = 0,
                               [SCHEDULE_COEFFICIENT] = 1,
                               [SCHEDULE_PIN] = 1,
                               [SCHEDULE_SPEC] = 2};

    return kind[c->type];
}

static thaw_status check_contradictions(thaw_schedule *s, place at, const change_list *list)
{
    thaw_status status = THAW_OK;
    name_map last[3] = {{0}}; /* of each kind: text, the last change that names it */

    for (at.change = 0; at.change < list->n; at.change++) {
        const schedule_change *c = &list->item[at.change];
        const char *const *target = c->type == SCHEDULE_SPEC ? &c->module : c->pattern;
        const int n = c->type == SCHEDULE_SPEC ? 1 : c->n_patterns;
        name_map *map = &last[kind_of(c)];

        for (int i = 0; i < n; i++) {
            const int before = name_map_get(map, target[i]);

            if (before >= 0 && contradicts(&list->item[before], c)) {
                thaw_fail(THAW_E_RECIPE, "'%s' is asked for two different things at once",
                          target[i]);
                THAW_TRY(add_problem(s, at, THAW_E_RECIPE, thaw_error()));
            }
            THAW_TRY(name_map_put(map, target[i], at.change));
        }
    }
done:
    for (size_t k = 0; k < THAW_COUNT(last); k++)
        name_map_done(&last[k]);
    return status;
}

static thaw_status resolve_list(thaw_schedule *s, int phase, int stage, change_list *list)
{
    place at = {.phase = phase, .stage = stage, .change = -1};

    for (at.change = 0; at.change < list->n; at.change++) {
        schedule_change *c = &list->item[at.change];

        THAW_CHECK(c->type == SCHEDULE_SPEC ? resolve_spec(s, at, c) : resolve_layers(s, at, c));
    }
    return check_contradictions(s, at, list);
}

/* Steps that hold so many units, rounded up; a message in the error text and false if unknown. */
static bool to_steps(int64_t *steps, const thaw_schedule *s, const thaw_phase_options *o)
{
    const int64_t per_epoch = o->steps_per_epoch > 0 ? o->steps_per_epoch : s->steps_per_epoch;
    const int64_t per_step = o->samples_per_step > 0 ? o->samples_per_step : s->samples_per_step;
    const struct {
        const char *name, *size;
        int64_t multiply, divide;
    } unit[] = {[THAW_STEPS] = {"steps", "", 1, 1},
                [THAW_EPOCHS] = {"epochs", "the steps of an epoch", per_epoch, 1},
                [THAW_SAMPLES] = {"samples", "the samples of a step", 1, per_step},
                [THAW_TOKENS] = {"tokens", "the tokens of a step", 1, s->tokens_per_step}};
    int64_t n;

    if ((unsigned)o->unit >= THAW_COUNT(unit) || o->length < 0) {
        thaw_fail(THAW_E_RANGE, "a length of %lld in unit %d", (long long)o->length, (int)o->unit);
        return false;
    }
    if (unit[o->unit].multiply <= 0 || unit[o->unit].divide <= 0) {
        thaw_fail(THAW_E_USAGE, "its length is in %s, and %s are not known", unit[o->unit].name,
                  unit[o->unit].size);
        return false;
    }
    if (__builtin_mul_overflow(o->length, unit[o->unit].multiply, &n)) {
        thaw_fail(THAW_E_RANGE, "a length of %lld %s is too long", (long long)o->length,
                  unit[o->unit].name);
        return false;
    }
    *steps = n / unit[o->unit].divide + (n % unit[o->unit].divide != 0);
    return true;
}

static thaw_status measure(thaw_schedule *s)
{
    int64_t total = 0;

    for (int i = 0; i < s->n_phases; i++) {
        const place at = {.phase = i, .stage = -1, .change = -1};
        const thaw_phase_options *o = &s->phase[i].options;

        if (!to_steps(&s->phase[i].steps, s, o))
            THAW_CHECK(add_problem(s, at, THAW_E_RANGE, thaw_error()));
        if (o->until_metric && (o->until_patience < 1 || !(o->until_min_change >= 0)))
            THAW_CHECK(
                add_problem(s, at, THAW_E_RANGE,
                            "until wants a patience of 1 or more and a change of 0 or more"));
        if (o->thaw_warmup < 0)
            THAW_CHECK(add_problem(s, at, THAW_E_RANGE, "thaw_warmup wants 0 or more steps"));
        if (__builtin_add_overflow(total, s->phase[i].steps, &total))
            THAW_CHECK(add_problem(s, at, THAW_E_RANGE, "the schedule is too long"));
    }
    for (int i = 0; i < s->n_stages && total > 0; i++)
        if (s->stage[i].start > total) {
            const place at = {.phase = -1, .stage = i, .change = -1};

            thaw_fail(THAW_E_RANGE, "it is beyond the end; the schedule has %lld steps",
                      (long long)total);
            THAW_CHECK(add_problem(s, at, THAW_E_RANGE, thaw_error()));
        }
    return THAW_OK;
}

/* C21: stages apply in the order of their steps, however they were written; no two at one step. */
static int order_stages(const void *a, const void *b)
{
    const schedule_stage *x = a, *y = b;

    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static thaw_status check_all(thaw_schedule *s)
{
    if (s->n_phases == 0)
        THAW_CHECK(add_problem(s, (place){-1, -1, -1}, THAW_E_USAGE, "the schedule has no phase"));
    THAW_CHECK(resolve_list(s, -1, -1, &s->base));
    for (int i = 0; i < s->n_phases; i++)
        THAW_CHECK(resolve_list(s, i, -1, &s->phase[i].changes));
    for (int i = 0; i < s->n_stages; i++)
        THAW_CHECK(resolve_list(s, -1, i, &s->stage[i].changes));
    return measure(s);
}

/* One line a mistake; the status is that of the first. */
static thaw_status report(const thaw_schedule *s)
{
    text all = TEXT_INIT;
    thaw_status status = s->problem[0].code;

    for (int i = 0; i < s->n_problems; i++)
        text_addf(&all, "%s%s", i ? "\n" : "", s->problem[i].text);
    if (all.failed)
        status = thaw_fail(THAW_E_NOMEM, "out of memory for a list of mistakes");
    else
        thaw_fail(status, "%s", all.data);
    text_done(&all);
    return status;
}

thaw_status thaw_schedule_seal(thaw_schedule *s)
{
    if (s->sealed)
        return THAW_OK;
    for (int i = 0; i < s->n_problems; i++)
        thaw__free(s->problem[i].text);
    s->n_problems = 0;
    s->open = NULL;
    THAW_CHECK(check_all(s));
    if (s->n_problems)
        return report(s);
    if (s->n_stages)
        qsort(s->stage, (size_t)s->n_stages, sizeof(*s->stage), order_stages);
    s->sealed = true;
    return THAW_OK;
}

int thaw__schedule_problems(const schedule_problem **out, const thaw_schedule *s)
{
    *out = s->problem;
    return s->n_problems;
}
