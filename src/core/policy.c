/*
 * policy.c - the live form of the control plane: freeze, unfreeze and coefficients on a model that
 * trains, with the optimizer groups that follow from them (SPEC part A).
 *
 * Frozen set, own-parameter set, coefficients and mask are the truth; the groups are derived and
 * may be thrown away at any time. Knows no optimizer, only which parameters have a group and at
 * what rate.
 */
#include "core/policy.h"

#include <math.h>
#include <string.h>

thaw_status thaw_policy_create(thaw_policy **out, const thaw_tree *tree)
{
    thaw_status status = THAW_OK;
    thaw_policy *p;

    if (!tree->sealed)
        return thaw_fail(THAW_E_USAGE, "the module tree is not sealed");
    p = thaw__new(1, sizeof(*p));
    if (!p)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a policy");
    p->tree = tree;
    THAW_TRY(phase_state_init(&p->state, tree));
    p->untrained = thaw__new((size_t)tree->n_params, sizeof(*p->untrained));
    p->grouped = thaw__new((size_t)tree->n_params, sizeof(*p->grouped));
    if (!p->untrained || !p->grouped) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for a policy");
        goto done;
    }
    *out = p;
    p = NULL;
done:
    thaw_policy_destroy(p);
    return status;
}

void thaw_policy_destroy(thaw_policy *p)
{
    if (!p)
        return;
    groups_done(p);
    thaw__free(p->grouped);
    thaw__free(p->untrained);
    phase_state_done(&p->state);
    thaw__free(p);
}

thaw_status thaw_policy_start_untrained(thaw_policy *p, const char *param)
{
    const int i = thaw_tree_find_param(p->tree, param);

    if (i < 0)
        return thaw_fail(THAW_E_NOMATCH, "there is no parameter '%s'", param);
    p->untrained[i] = true;
    p->state.trainable[i] = false;
    return THAW_OK;
}

thaw_status thaw_policy_select(int *layers, int *n_layers, const thaw_policy *p,
                               const char *const *patterns, int n)
{
    selection chosen;

    THAW_CHECK(thaw__select(&chosen, p->tree, patterns, n));
    memcpy(layers, chosen.module, (size_t)chosen.n * sizeof(*layers));
    *n_layers = chosen.n;
    selection_done(&chosen);
    return THAW_OK;
}

thaw_status thaw_policy_freeze(thaw_policy *p, const char *const *patterns, int n)
{
    selection layers;
    thaw_status status;

    THAW_CHECK(thaw__select(&layers, p->tree, patterns, n));
    status = phase_state_freeze(&p->state, &layers);
    selection_done(&layers);
    return status;
}

/* ---- unfreeze */

typedef struct missing {
    const thaw_policy *policy;
    int param; /* the first that trains and has no group; -1: none */
} missing;

static void find_missing(void *user, int begin, int end)
{
    missing *m = user;

    for (int i = begin; i < end && m->param < 0; i++)
        if (m->policy->state.trainable[i] && !m->policy->grouped[i])
            m->param = i;
}

static thaw_status any_missing(missing *out, const thaw_policy *p, const selection *layers)
{
    *out = (missing){.policy = p, .param = -1};
    for (int i = 0; i < layers->n && out->param < 0; i++)
        THAW_CHECK(thaw__tree_below(p->tree, layers->module[i], find_missing, out));
    return THAW_OK;
}

static thaw_status rebuild_or_refuse(thaw_policy *p, thaw_rebuild rebuild, const char *why,
                                     const char *name)
{
    if (rebuild == THAW_REBUILD_IF_NEEDED)
        return thaw_policy_build(p, &p->rates);
    return thaw_fail(THAW_E_REBUILD,
                     "%s '%s'; the phase state is changed, the optimizer is not: build it again",
                     why, name);
}

thaw_status thaw_policy_unfreeze(thaw_policy *p, const char *const *patterns, int n,
                                 thaw_rebuild rebuild)
{
    selection layers;
    missing found;
    thaw_status status = THAW_OK;

    THAW_CHECK(thaw__select(&layers, p->tree, patterns, n));
    THAW_TRY(phase_state_unfreeze(&p->state, &layers));
    if (!p->has_optimizer)
        goto done;
    THAW_TRY(any_missing(&found, p, &layers));
    if (found.param >= 0)
        status = rebuild_or_refuse(p, rebuild, "the optimizer has no group for",
                                   p->tree->param[found.param].name);
done:
    selection_done(&layers);
    return status;
}

/* ---- coefficients */

/* below[m]: module m is at or below a selected layer. */
static void mark_modules(bool *below, const thaw_tree *t, const selection *layers)
{
    for (int i = 0; i < layers->n; i++) {
        const int m = layers->module[i];

        memset(below + m, true, (size_t)(t->module[m].end - m));
    }
}

/* SPEC A9.4: what stands in the way of changing the rates in place. */
static thaw_status needs_rebuild(const char **why, const char **name, const thaw_policy *p,
                                 const bool *below, const selection *layers)
{
    const thaw_tree *t = p->tree;

    *why = NULL;
    for (int i = 0; i < layers->n && !*why; i++)
        for (int k = t->module[layers->module[i]].param_begin;
             k < t->module[layers->module[i]].param_end && !*why; k++)
            if (p->state.trainable[k] && !p->grouped[k]) {
                *why = "the optimizer has no group for";
                *name = t->param[k].name;
            }
    for (int g = 0; g < p->n_groups && !*why; g++) {
        const policy_group *it = &p->group[g];

        if (below[it->module] && it->applied == 0 &&
            phase_state_coefficient_at(&p->state, it->module) != 0) {
            *why = "a coefficient of 0 cannot be scaled, in";
            *name = t->module[it->module].path;
        }
    }
    return THAW_OK;
}

static thaw_status change_rates(thaw_policy *p, const selection *layers, thaw_rebuild rebuild)
{
    bool *below = thaw__new((size_t)p->tree->n_modules, sizeof(*below));
    const char *why, *name = "";
    thaw_status status = THAW_OK;

    if (!below)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a coefficient");
    mark_modules(below, p->tree, layers);
    THAW_TRY(needs_rebuild(&why, &name, p, below, layers));
    if (why) {
        status = rebuild_or_refuse(p, rebuild, why, name);
        goto done;
    }
    for (int g = 0; g < p->n_groups; g++)
        if (below[p->group[g].module])
            p->group[g].applied = phase_state_coefficient_at(&p->state, p->group[g].module);
done:
    thaw__free(below);
    return status;
}

static thaw_status set_coefficient(thaw_policy *p, schedule_change_type type, double coefficient,
                                   const char *const *patterns, int n, thaw_rebuild rebuild)
{
    schedule_change change = {.type = type, .coefficient = coefficient};
    thaw_status status = THAW_OK;

    THAW_CHECK(thaw__check_coefficient(coefficient));
    THAW_CHECK(thaw__select(&change.layers, p->tree, patterns, n));
    THAW_TRY(phase_state_apply(&p->state, &change));
    if (p->has_optimizer)
        THAW_TRY(change_rates(p, &change.layers, rebuild));
done:
    selection_done(&change.layers);
    return status;
}

thaw_status thaw_policy_coefficient(thaw_policy *p, double coefficient, const char *const *patterns,
                                    int n, thaw_rebuild rebuild)
{
    return set_coefficient(p, SCHEDULE_COEFFICIENT, coefficient, patterns, n, rebuild);
}

thaw_status thaw_policy_pin(thaw_policy *p, const char *const *patterns, int n,
                            thaw_rebuild rebuild)
{
    return set_coefficient(p, SCHEDULE_PIN, 1.0, patterns, n, rebuild);
}

/* ---- asking */

bool thaw_policy_trainable(const thaw_policy *p, int param)
{
    return p->state.trainable[param];
}

thaw_layer_state thaw_policy_layer(const thaw_policy *p, int module)
{
    const double own = p->state.coefficient[module];

    return (thaw_layer_state){.frozen = p->state.rule[module] & RULE_SUBTREE,
                              .frozen_own = p->state.rule[module] & RULE_OWN,
                              .has_coefficient = !isnan(own),
                              .coefficient = own,
                              .effective = phase_state_coefficient_at(&p->state, module)};
}
