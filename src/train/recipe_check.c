/*
 * recipe_check.c - mistakes that no key can see alone: values that contradict each other.
 *
 * Each check stands alone and runs once all keys are stored; what needs the network or the data is
 * checked by those who have them.
 */
#include "train/recipe_reader.h"

#include <math.h>
#include <string.h>

/* The value of section.key, or NULL. */
static const toml_value *value(const recipe_reader *rd, const char *section, const char *key)
{
    const toml_value *const table = toml_get(rd->doc->root, section);

    return table ? toml_get(table, key) : NULL;
}

static void check_model(recipe_reader *rd)
{
    const toml_value *const table = toml_get(rd->doc->root, "model");

    if (!value(rd, "model", "path") && !value(rd, "model", "arch"))
        recipe_bad_key(rd, table && table->key_line > 0 ? table : NULL,
                       "the recipe names no model; add 'model.path' or 'model.arch'");
}

static void check_classes(recipe_reader *rd)
{
    const thaw_recipe *const r = rd->recipe;
    const dataset_subset *const s = &r->train.subset;

    for (int i = 0; i < s->n_classes; i++)
        for (int k = 0; k < i; k++)
            if (s->classes[i] == s->classes[k])
                recipe_bad_value(rd, value(rd, "data", "classes"),
                                 "'data.classes' has %lld twice; keep one",
                                 (long long)s->classes[i]);
    if (s->n_classes > 0 && r->n_classes > 0 && r->n_classes != s->n_classes)
        recipe_bad_value(rd, value(rd, "data", "num_classes"),
                         "'data.num_classes' is %d, but 'data.classes' has %d; remove the first",
                         r->n_classes, s->n_classes);
    if (s->n_classes > 0 && r->config.n_classes > 0 && r->config.n_classes < s->n_classes)
        recipe_bad_value(rd, value(rd, "model", "num_classes"),
                         "'model.num_classes' is %lld, but 'data.classes' has %d; the head needs "
                         "one output each",
                         (long long)r->config.n_classes, s->n_classes);
}

static size_t length_of(const toml_value *v)
{
    return v && v->type == TOML_ARRAY ? v->n : 1;
}

static void check_channels(recipe_reader *rd)
{
    const toml_value *const mean = value(rd, "data", "mean"), *const std = value(rd, "data", "std");
    const size_t n_mean = length_of(mean), n_std = length_of(std);
    const int channels = rd->recipe->loader.channels;

    if (n_mean > 1 && n_std > 1 && n_mean != n_std)
        recipe_bad_value(rd, std, "'data.std' has %zu values, but 'data.mean' has %zu", n_std,
                         n_mean);
    else if (THAW_MAX(n_mean, n_std) > 1 && channels > 0 &&
             (size_t)channels != THAW_MAX(n_mean, n_std))
        recipe_bad_value(rd, n_mean > 1 ? mean : std,
                         "%zu values, but 'data.channels' is %d; give one for all or one for each",
                         THAW_MAX(n_mean, n_std), channels);
}

static void check_optimizer(recipe_reader *rd)
{
    const thaw_recipe *const r = rd->recipe;

    if (r->hyper.nesterov && r->hyper.momentum == 0)
        recipe_bad_value(rd, value(rd, "optimizer", "nesterov"),
                         "Nesterov's form needs a momentum; set 'optimizer.momentum' above 0");
}

/* Where a phase's setting stands: at the key, else at `other`, else at the phase. */
static const toml_value *setting(const toml_value *phase, const char *key, const char *other)
{
    const toml_value *const v = toml_get(phase, key);
    const toml_value *const at = v ? v : toml_get(phase, other);

    return at ? at : phase;
}

/* State of the optimizer that a phase keeps must be what its settings need. */
static void check_kept_state(recipe_reader *rd, const toml_value *v, int number, int before)
{
    const thaw_recipe *const r = rd->recipe;
    const optim_hyper *const was = &r->phase[before].hyper, *const is = &r->phase[number].hyper;

    if (r->rule->n_state(was) != r->rule->n_state(is))
        recipe_bad_key(rd, setting(v, "momentum", "optimizer"),
                       "phase %d keeps the optimizer, but its momentum is %g and that of phase %d "
                       "is %g, which %s velocities; set optimizer = 'rebuild' here",
                       number + 1, is->momentum, before + 1, was->momentum,
                       is->momentum > 0 ? "has no" : "has");
}

/* Settings of phases; a phase that holds the optimizer has none. */
static void check_settings(recipe_reader *rd)
{
    const thaw_recipe *const r = rd->recipe;
    int before = -1;

    for (int i = 0; i < r->n_phases && r->rule; i++) {
        const recipe_phase *const p = &r->phase[i];
        const toml_value *const v = recipe_phase_table(rd, i);

        if (!v || p->options.optimizer == THAW_OPTIMIZER_HOLD)
            continue;
        if (p->hyper.nesterov && p->hyper.momentum == 0 &&
            (toml_get(v, "nesterov") || toml_get(v, "momentum")))
            recipe_bad_value(rd, setting(v, "nesterov", "momentum"),
                             "Nesterov's form needs a momentum; set 'momentum' above 0 in phase %d",
                             i + 1);
        if (before >= 0 && p->options.optimizer == THAW_OPTIMIZER_KEEP)
            check_kept_state(rd, v, i, before);
        before = i;
    }
}

static void check_precision(recipe_reader *rd)
{
    const thaw_recipe *const r = rd->recipe;
    const toml_value *const executor = value(rd, "train", "executor");

    if (r->real == DTYPE_F64 && r->executor && strcmp(r->executor->name, "ref") != 0)
        recipe_bad_value(
            rd, executor,
            "executor '%s' computes in f32 only; use 'ref' for train.precision = 'f64'",
            r->executor->name);
}

static void check_until(recipe_reader *rd)
{
    const thaw_recipe *const r = rd->recipe;
    const toml_value *const phases = toml_get(rd->doc->root, "phase");
    const toml_value *v = phases && phases->type == TOML_ARRAY ? phases->first : NULL;

    for (int i = 0; v && i < r->n_phases; i++, v = v->next) {
        const toml_value *const until = toml_get(v, "until");

        if (!until || !r->phase[i].options.until_metric)
            continue;
        if (r->format != DATA_CALLBACK && !value(rd, "data", "valid") &&
            !(r->pictures.valid_fraction > 0))
            recipe_bad_key(rd, until, "'until' watches '%s', which needs 'data.valid'; add it",
                           r->phase[i].options.until_metric);
        if (r->eval_every == 0)
            recipe_bad_key(rd, until,
                           "'until' needs evaluations within the phase, but 'train.eval_every' is "
                           "0; set it to 1 or more");
    }
}

/* Images have no tokens to count. */
static void check_tokens(recipe_reader *rd)
{
    const toml_value *const phases = toml_get(rd->doc->root, "phase");
    int number = 1;

    if (!phases || phases->type != TOML_ARRAY)
        return;
    for (const toml_value *v = phases->first; v; v = v->next, number++)
        if (v->type == TOML_TABLE && toml_get(v, "tokens"))
            recipe_bad_key(rd, toml_get(v, "tokens"),
                           "phase %d counts tokens, but the data are images, which have none; use "
                           "'epochs', 'steps' or 'samples'",
                           number);
}

void recipe_check(recipe_reader *rd)
{
    static void (*const check[])(recipe_reader *) = {
        check_model,     check_classes, check_channels, check_optimizer,       check_settings,
        check_precision, check_until,   check_tokens,   recipe_check_pictures,
    };

    for (size_t i = 0; i < THAW_COUNT(check) && !rd->no_memory; i++)
        check[i](rd);
}
