/*
 * groups.c - optimizer groups: one for each module that owns trainable parameters, with a rate.
 *
 * A tied parameter belongs to its first owner only. A group's rate is computed when asked for, so
 * that neither decays nor live coefficient changes accumulate rounding or get lost.
 */
#include "core/policy.h"

#include <math.h>
#include <string.h>

void groups_done(thaw_policy *p)
{
    thaw__free(p->member);
    thaw__free(p->group);
    p->member = NULL;
    p->group = NULL;
    p->n_groups = 0;
    p->has_optimizer = false;
    if (p->grouped)
        memset(p->grouped, 0, (size_t)p->tree->n_params);
}

int64_t groups_decays(const thaw_policy *p)
{
    return p->epoch / p->in_force.step_size;
}

static thaw_status check_rates(const thaw_rates *r)
{
    if (!(r->lr >= 0) || isinf(r->lr))
        return thaw_fail(THAW_E_RANGE, "learning rate %g is not a finite number of 0 or more",
                         r->lr);
    if (r->step_size < 1 || !isfinite(r->gamma))
        return thaw_fail(THAW_E_RANGE, "a step size of %lld with gamma %g", (long long)r->step_size,
                         r->gamma);
    return THAW_OK;
}

static void fill_groups(thaw_policy *p)
{
    const thaw_tree *t = p->tree;
    int n = 0;

    for (int m = 0; m < t->n_modules; m++) {
        policy_group *g = &p->group[p->n_groups];

        *g = (policy_group){.module = m,
                            .begin = n,
                            .base = p->rates.lr,
                            .applied = phase_state_coefficient_at(&p->state, m)};
        for (int i = t->module[m].param_begin; i < t->module[m].own_end; i++)
            if (p->state.trainable[i]) {
                p->grouped[i] = true;
                p->member[n++] = i;
            }
        g->n = n - g->begin;
        p->n_groups += g->n > 0;
    }
}

thaw_status thaw_policy_build(thaw_policy *p, const thaw_rates *rates)
{
    const thaw_rates copy = *rates; /* may be the policy's own */
    policy_group *group;
    int *member;

    THAW_CHECK(check_rates(&copy));
    group = thaw__new((size_t)p->tree->n_modules + 1, sizeof(*group));
    member = thaw__new((size_t)p->tree->n_params, sizeof(*member));
    if (!group || !member) {
        thaw__free(member);
        thaw__free(group);
        return thaw_fail(THAW_E_NOMEM, "out of memory for optimizer groups");
    }
    groups_done(p);
    p->group = group;
    p->member = member;
    p->rates = p->in_force = copy;
    p->epoch = 0;
    p->has_optimizer = true;
    fill_groups(p);
    return THAW_OK;
}

void thaw_policy_discard_groups(thaw_policy *p)
{
    groups_done(p);
}

void thaw_policy_epoch_end(thaw_policy *p)
{
    if (p->has_optimizer)
        p->epoch++;
}

bool thaw_policy_has_groups(const thaw_policy *p)
{
    return p->has_optimizer;
}

int thaw_policy_n_groups(const thaw_policy *p)
{
    return p->n_groups;
}

thaw_group thaw_policy_group(const thaw_policy *p, int i)
{
    const policy_group *g = &p->group[i];
    const int64_t decays = groups_decays(p) - g->born;

    return (thaw_group){.layer = p->tree->module[g->module].path,
                        .param = p->member + g->begin,
                        .n_params = g->n,
                        .lr = g->base * pow(p->in_force.gamma, (double)decays) * g->applied,
                        .coefficient = g->applied};
}

void thaw_text_free(char *t)
{
    thaw__free(t);
}
