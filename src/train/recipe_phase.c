/*
 * recipe_phase.c - the aliases and phases of a recipe: what freezes, thaws and slows down when.
 *
 * Operations keep the order in which they stand in the file. Aliases are replaced by their patterns
 * here; whether a pattern matches a layer is for those to say who know the network.
 */
#include "train/recipe_reader.h"

#include <math.h>
#include <string.h>

/* ----------------------------------------------------------------------------------------------
 * aliases */

static void check_alias(recipe_reader *rd, const toml_value *table, const toml_value *v)
{
    size_t n;
    const toml_value *item = recipe_items(&n, v);

    if (v->key_length == 0 || strlen(v->key) != v->key_length)
        recipe_bad_key(rd, v, "an alias needs a name");
    if (n == 0)
        recipe_bad_value(rd, v, "alias '%s' is empty; give it at least one pattern", v->key);
    for (size_t i = 0; i < n; i++, item = item->next) {
        if (item->type != TOML_STRING || item->length == 0 || strlen(item->string) != item->length)
            recipe_bad_value(rd, item,
                             "alias '%s': expected a layer pattern in quotes, or a list of them",
                             v->key);
        else if (toml_get(table, item->string))
            recipe_bad_value(rd, item,
                             "alias '%s' names the alias '%s'; write the patterns themselves",
                             v->key, item->string);
    }
}

static void check_aliases(recipe_reader *rd)
{
    const toml_value *const table = toml_get(rd->doc->root, "aliases");

    if (table && table->type != TOML_TABLE)
        recipe_bad_value(rd, table, "'aliases' must be a table; write it as [aliases]");
    for (const toml_value *v = table ? table->first : NULL; v && v->key; v = v->next)
        check_alias(rd, table, v);
}

/* The patterns that `written` stands for. */
static void expand(recipe_change *out, recipe_reader *rd, const char *written)
{
    const toml_value *const aliases = toml_get(rd->doc->root, "aliases");
    const toml_value *const alias =
        aliases && aliases->type == TOML_TABLE ? toml_get(aliases, written) : NULL;

    out->written = recipe_strdup(rd, written);
    if (alias) {
        out->pattern = recipe_strings(rd, &out->n_patterns, alias);
        return;
    }
    out->pattern = recipe_alloc(rd, 1, sizeof *out->pattern);
    out->n_patterns = 1;
    if (out->pattern)
        out->pattern[0] = out->written;
}

/* ----------------------------------------------------------------------------------------------
 * operations */

static void add_change(recipe_reader *rd, recipe_phase *phase, change_kind kind,
                       const char *written, double coefficient, const toml_value *at)
{
    recipe_change *const c = &phase->change[phase->n_changes++];
    const bool by_key = kind == CHANGE_COEFFICIENT || kind == CHANGE_PINNED;

    c->kind = kind;
    c->coefficient = coefficient;
    c->line = by_key ? at->key_line : at->line;
    c->column = by_key ? at->key_column : at->column;
    expand(c, rd, written);
}

static void add_layers(recipe_reader *rd, recipe_phase *phase, change_kind kind,
                       const toml_value *v)
{
    size_t n;
    const toml_value *item = recipe_items(&n, v);

    for (size_t i = 0; i < n; i++, item = item->next)
        if (item->type == TOML_STRING && item->length > 0)
            add_change(rd, phase, kind, item->string, 0, item);
}

static void add_coefficients(recipe_reader *rd, recipe_phase *phase, change_kind kind,
                             const toml_value *table)
{
    if (table->type != TOML_TABLE) /* which is told when the section is read */
        return;
    for (const toml_value *v = table->first; v; v = v->next) {
        if (v->type == TOML_STRING)
            add_change(rd, phase, CHANGE_PINNED, v->key, 1, v);
        else if (v->type == TOML_INTEGER || v->type == TOML_FLOAT)
            add_change(rd, phase, kind, v->key,
                       v->type == TOML_INTEGER ? (double)v->integer : v->real, v);
    }
}

static const struct {
    const char *key;
    change_kind kind;
    void (*add)(recipe_reader *, recipe_phase *, change_kind, const toml_value *);
} change_table[] = {
    {"freeze", CHANGE_FREEZE, add_layers},
    {"unfreeze", CHANGE_UNFREEZE, add_layers},
    {"lr_coefficients", CHANGE_COEFFICIENT, add_coefficients},
};

/* In the order of the file. */
static void read_changes(recipe_reader *rd, recipe_phase *phase, const toml_value *table)
{
    size_t most = 0;

    for (const toml_value *v = table->first; v; v = v->next)
        most += THAW_MAX(v->n, 1);
    phase->change = recipe_alloc(rd, most, sizeof *phase->change);
    for (const toml_value *v = table->first; v && phase->change; v = v->next)
        for (size_t i = 0; i < THAW_COUNT(change_table); i++)
            if (strcmp(v->key, change_table[i].key) == 0)
                change_table[i].add(rd, phase, change_table[i].kind, v);
}

/* The same pattern frozen and thawed by one phase is a mistake, whatever the order. */
static void check_changes(recipe_reader *rd, const toml_value *table, int number)
{
    const toml_value *const freeze = toml_get(table, "freeze");
    const toml_value *const unfreeze = toml_get(table, "unfreeze");
    size_t n_freeze, n_unfreeze;
    const toml_value *a, *b;

    if (!freeze || !unfreeze)
        return;
    a = recipe_items(&n_freeze, freeze);
    for (size_t i = 0; i < n_freeze; i++, a = a->next) {
        b = recipe_items(&n_unfreeze, unfreeze);
        for (size_t k = 0; k < n_unfreeze; k++, b = b->next)
            if (a->type == TOML_STRING && b->type == TOML_STRING &&
                strcmp(a->string, b->string) == 0)
                recipe_bad_value(rd, b, "phase %d both freezes and unfreezes '%s'; keep one",
                                 number, b->string);
    }
}

/* ----------------------------------------------------------------------------------------------
 * phases */

/* The member of that name, which a key of kind KEY_TABLE has already been found to be. */
static toml_value *table_of(recipe_reader *rd, const toml_value *v)
{
    const toml_value *const phases = toml_get(rd->doc->root, "phase");

    for (const toml_value *p = phases ? phases->first : NULL; p; p = p->next)
        for (toml_value *m = p->first; m; m = m->next)
            if (m == v)
                return m;
    return NULL;
}

void recipe_set_until(recipe_reader *rd, void *target, const toml_value *v)
{
    toml_value *const table = table_of(rd, v);

    if (table)
        recipe_read_section(rd, "phase.until", table, target);
}

void recipe_set_phase_curve(recipe_reader *rd, void *target, const toml_value *v)
{
    toml_value *const table = table_of(rd, v);
    recipe_curve *const curve = recipe_alloc(rd, 1, sizeof *curve);

    if (!table || !curve)
        return;
    recipe_read_section(rd, "schedule", table, curve);
    ((recipe_phase *)target)->curve = curve;
}

/* Exactly one of the four lengths. */
static void check_length(recipe_reader *rd, const toml_value *table, int number)
{
    static const char *const name[] = {"epochs", "steps", "samples", "tokens"};
    const toml_value *first = NULL;

    for (const toml_value *v = table->first; v; v = v->next)
        for (size_t i = 0; i < THAW_COUNT(name); i++) {
            if (strcmp(v->key, name[i]) != 0)
                continue;
            if (first)
                recipe_bad_key(rd, v, "phase %d has two lengths, '%s' and '%s'; keep one", number,
                               first->key, v->key);
            else
                first = v;
        }
    if (!first)
        recipe_bad_value(rd, table, "phase %d has no length; add epochs, steps, samples or tokens",
                         number);
}

/* Under "hold" the optimizer does not look at these. */
static void check_hold(recipe_reader *rd, const toml_value *table, const recipe_phase *phase,
                       int number)
{
    static const char *const name[] = {"lr",  "weight_decay", "momentum", "nesterov",   "betas",
                                       "eps", "clip_norm",    "schedule", "thaw_warmup"};

    if (phase->options.optimizer != THAW_OPTIMIZER_HOLD)
        return;
    for (size_t i = 0; i < THAW_COUNT(name); i++)
        if (toml_get(table, name[i]))
            recipe_bad_key(rd, toml_get(table, name[i]),
                           "phase %d holds the optimizer as it is, so '%s' has no effect; remove "
                           "one of them",
                           number, name[i]);
}

static void read_phase(recipe_reader *rd, recipe_phase *phase, toml_value *table, int number)
{
    phase->lr = rd->recipe->lr;
    phase->clip_norm = rd->recipe->clip_norm;
    phase->hyper = rd->recipe->hyper;
    phase->line = table->line;
    check_length(rd, table, number);
    recipe_read_section(rd, "phase", table, phase);
    if (rd->no_memory)
        return;
    read_changes(rd, phase, table);
    check_changes(rd, table, number);
    check_hold(rd, table, phase, number);
}

/* [[phase]] tables; false when 'phase' is something else. */
static bool is_phases(const toml_value *phases)
{
    if (phases->type != TOML_ARRAY)
        return false;
    for (const toml_value *v = phases->first; v; v = v->next)
        if (v->type != TOML_TABLE)
            return false;
    return true;
}

void recipe_read_phases(recipe_reader *rd)
{
    thaw_recipe *const r = rd->recipe;
    const toml_value *const phases = toml_get(rd->doc->root, "phase");
    int i = 0;

    check_aliases(rd);
    if (!phases || phases->n == 0) {
        recipe_bad_key(rd, NULL, "the recipe has no phase; add a [[phase]] with a length");
        return;
    }
    if (!is_phases(phases)) {
        recipe_bad_value(rd, phases, "phases are lists of tables; begin each with [[phase]]");
        return;
    }
    r->phase = recipe_alloc(rd, phases->n, sizeof *r->phase);
    if (!r->phase)
        return;
    r->n_phases = (int)phases->n;
    for (toml_value *v = phases->first; v && !rd->no_memory; v = v->next, i++)
        read_phase(rd, &r->phase[i], v, i + 1);
}

const toml_value *recipe_phase_table(const recipe_reader *rd, int phase)
{
    const toml_value *const phases = toml_get(rd->doc->root, "phase");
    const toml_value *v = phases && phases->type == TOML_ARRAY ? phases->first : NULL;

    while (v && phase-- > 0)
        v = v->next;
    return v && v->type == TOML_TABLE ? v : NULL;
}

int64_t recipe_batch(const thaw_recipe *r, int phase)
{
    return r->phase[phase].batch > 0 ? r->phase[phase].batch : r->loader.batch;
}
