/*
 * state.c - the phase state: the fold of freeze, unfreeze and coefficient operations.
 *
 * F holds subtree rules and never two of which one covers the other; O holds modules whose own
 * parameters alone are frozen, which is what remains of an expanded ancestor. The mask is kept
 * beside them, because unfreezing touches only what was named. Knows nothing of phases or
 * optimizers.
 */
#include "core/core.h"

#include <math.h>
#include <string.h>

thaw_status phase_state_init(phase_state *s, const thaw_tree *tree)
{
    *s = (phase_state){.tree = tree,
                       .rule = thaw__new((size_t)tree->n_modules, sizeof(*s->rule)),
                       .coefficient = thaw__new((size_t)tree->n_modules, sizeof(*s->coefficient)),
                       .trainable = thaw__new((size_t)tree->n_params, sizeof(*s->trainable)),
                       .scratch = {thaw__new((size_t)tree->n_params, sizeof(bool)),
                                   thaw__new((size_t)tree->n_params, sizeof(bool))}};
    if (!s->rule || !s->coefficient || !s->trainable || !s->scratch[0] || !s->scratch[1]) {
        phase_state_done(s);
        return thaw_fail(THAW_E_NOMEM, "out of memory for the phase state");
    }
    phase_state_reset(s);
    return THAW_OK;
}

void phase_state_done(phase_state *s)
{
    thaw__free(s->scratch[1]);
    thaw__free(s->scratch[0]);
    thaw__free(s->trainable);
    thaw__free(s->coefficient);
    thaw__free(s->rule);
    *s = (phase_state){0};
}

void phase_state_reset(phase_state *s)
{
    memset(s->rule, 0, (size_t)s->tree->n_modules);
    for (int m = 0; m < s->tree->n_modules; m++)
        s->coefficient[m] = NAN;
    for (int p = 0; p < s->tree->n_params; p++)
        s->trainable[p] = !s->tree->param[p].fixed;
}

/* Nearest module at or above m that is in F; -1: none. */
static int covering_rule(const phase_state *s, int m)
{
    while (m >= 0 && !(s->rule[m] & RULE_SUBTREE))
        m = s->tree->module[m].parent;
    return m;
}

static void clear_rules_below(phase_state *s, int m)
{
    memset(s->rule + m, 0, (size_t)(s->tree->module[m].end - m));
}

void phase_state_insert_rule(phase_state *s, int m)
{
    if (covering_rule(s, m) >= 0)
        return;
    clear_rules_below(s, m);
    s->rule[m] = RULE_SUBTREE;
}

/* SPEC A6: the rule of the ancestor is pushed down along the path to m, to all that stands beside
 * it. */
void phase_state_remove_rule(phase_state *s, int m)
{
    const tree_module *module = s->tree->module;
    const int ancestor = covering_rule(s, module[m].parent);

    clear_rules_below(s, m);
    if (ancestor < 0)
        return;
    s->rule[ancestor] = 0;
    for (int below = m, at = module[m].parent;; below = at, at = module[at].parent) {
        if (module[at].entry_end > module[at].entry_begin)
            s->rule[at] |= RULE_OWN;
        for (int child = at + 1; child < module[at].end; child = module[child].end)
            if (child != below && module[child].layer)
                s->rule[child] = RULE_SUBTREE;
        if (at == ancestor)
            break;
    }
}

static void set_range(void *user, int begin, int end)
{
    memset((bool *)user + begin, true, (size_t)(end - begin));
}

static void clear_range(void *user, int begin, int end)
{
    memset((bool *)user + begin, false, (size_t)(end - begin));
}

/* Visit everything at or below the layers; one that lies below the one before it adds nothing. */
static thaw_status visit_layers(const thaw_tree *tree, const selection *layers,
                                tree_visit_fn *visit, bool *marks)
{
    int done = 0;

    for (int i = 0; i < layers->n; i++) {
        const int m = layers->module[i];

        if (m < done)
            continue;
        THAW_CHECK(thaw__tree_below(tree, m, visit, marks));
        done = tree->module[m].end;
    }
    return THAW_OK;
}

thaw_status phase_state_freeze(phase_state *s, const selection *layers)
{
    THAW_CHECK(visit_layers(s->tree, layers, clear_range, s->trainable));
    for (int i = 0; i < layers->n; i++)
        phase_state_insert_rule(s, layers->module[i]);
    return THAW_OK;
}

/*
 * Once the rules are gone, a parameter below an unfrozen layer can still be covered through its
 * other paths only; a tree without shared parameters needs no look.
 */
thaw_status phase_state_unfreeze(phase_state *s, const selection *layers)
{
    const thaw_tree *t = s->tree;
    bool *const below = s->scratch[0], *const covered = s->scratch[1];
    int done = 0;

    for (int i = 0; i < layers->n; i++) {
        const int m = layers->module[i];

        if (m < done)
            continue;
        phase_state_remove_rule(s, m);
        done = t->module[m].end;
    }
    if (!t->n_tied && !t->n_reused && !t->has_fixed)
        return visit_layers(t, layers, set_range, s->trainable);
    memset(below, 0, (size_t)t->n_params);
    THAW_CHECK(visit_layers(t, layers, set_range, below));
    THAW_CHECK(phase_state_covered(covered, s));
    for (int p = 0; p < t->n_params; p++)
        if (below[p] && !covered[p] && !t->param[p].fixed)
            s->trainable[p] = true;
    return THAW_OK;
}

thaw_status phase_state_covered(bool *covered, const phase_state *s)
{
    const tree_module *module = s->tree->module;

    memset(covered, 0, (size_t)s->tree->n_params);
    for (int m = 0; m < s->tree->n_modules; m++) {
        if (s->rule[m] & RULE_SUBTREE)
            THAW_CHECK(thaw__tree_below(s->tree, m, set_range, covered));
        else if (s->rule[m] & RULE_OWN)
            for (int e = module[m].entry_begin; e < module[m].entry_end; e++)
                covered[s->tree->entry[e].param] = true;
    }
    return THAW_OK;
}

void phase_state_coefficients(double *per_module, const phase_state *s)
{
    per_module[0] = 1.0;
    for (int m = 1; m < s->tree->n_modules; m++)
        per_module[m] =
            isnan(s->coefficient[m]) ? per_module[s->tree->module[m].parent] : s->coefficient[m];
}

double phase_state_coefficient_at(const phase_state *s, int m)
{
    while (m >= 0 && isnan(s->coefficient[m]))
        m = s->tree->module[m].parent;
    return m < 0 ? 1.0 : s->coefficient[m];
}

/* SPEC A9.2: a coefficient of 1 deletes the entry, so the layer inherits; a pin stores it. */
static void set_coefficients(phase_state *s, const schedule_change *change)
{
    const double value = change->type == SCHEDULE_PIN ? 1.0
                         : change->coefficient == 1.0 ? (double)NAN
                                                      : change->coefficient;

    for (int i = 0; i < change->layers.n; i++)
        s->coefficient[change->layers.module[i]] = value;
}

/* SPEC B3: the mask alone; F and O are about layers. */
static void apply_spec(phase_state *s, const schedule_change *change)
{
    for (int i = 0; i < change->layers.n; i++) {
        const int p = change->layers.module[i];

        s->trainable[p] = !change->frozen && !s->tree->param[p].fixed;
    }
}

thaw_status phase_state_apply(phase_state *s, const schedule_change *change)
{
    switch (change->type) {
    case SCHEDULE_FREEZE:
        return phase_state_freeze(s, &change->layers);
    case SCHEDULE_UNFREEZE:
        return phase_state_unfreeze(s, &change->layers);
    case SCHEDULE_COEFFICIENT:
    case SCHEDULE_PIN:
        set_coefficients(s, change);
        return THAW_OK;
    case SCHEDULE_SPEC:
        apply_spec(s, change);
        return THAW_OK;
    }
    return THAW_E_INTERNAL;
}
