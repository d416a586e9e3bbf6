/*
 * family_optim.c - the family optim: update arithmetic under freezing, live coefficients, decay and
 * rebuilding. The policy says who has a group and at what rate; the rules of optim do the updates,
 * in double.
 */
#include "golden/golden.h"
#include "optim/optim.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PARAMS    3
#define ELEMENTS  16
#define TOLERANCE 1e-10

typedef struct optimizer {
    golden_run *g;
    json_int_t id;
    int n_params;
    thaw_tree *tree;
    thaw_policy *policy;
    thaw_rates rates;
    const optim_rule *rule;
    optim_hyper hyper;
    double value[PARAMS][ELEMENTS];
    double state[PARAMS][PARAM_MAX_STATE][ELEMENTS];
    int64_t t[PARAMS]; /* updates of each parameter since the last rebuild */
    size_t n[PARAMS];
} optimizer;

static thaw_status prepare(optimizer *o, const json_t *c)
{
    const json_t *hyper = json_object_get(c, "hyper"), *betas = json_object_get(hyper, "betas");
    const json_t *scheduler = json_object_get(c, "scheduler"),
                 *initial = json_object_get(c, "initial");

    o->hyper = (optim_hyper)OPTIM_HYPER_INIT;
    if (betas) {
        o->hyper.beta1 = json_number_value(json_array_get(betas, 0));
        o->hyper.beta2 = json_number_value(json_array_get(betas, 1));
    }
    if (json_object_get(hyper, "eps"))
        o->hyper.eps = json_number_value(json_object_get(hyper, "eps"));
    o->hyper.momentum = json_number_value(json_object_get(hyper, "momentum"));
    o->hyper.nesterov = json_is_true(json_object_get(hyper, "nesterov"));
    o->hyper.weight_decay = json_number_value(json_object_get(hyper, "weight_decay"));
    o->rates = (thaw_rates)THAW_RATES_INIT;
    o->rates.lr = json_number_value(json_object_get(hyper, "lr"));
    if (json_is_object(scheduler)) {
        o->rates.step_size = json_integer_value(json_object_get(scheduler, "step_size"));
        o->rates.gamma = json_number_value(json_object_get(scheduler, "gamma"));
    } else {
        o->rates.step_size = INT64_MAX;
    }
    o->rule = optim_rule_find(text_of(c, "optimizer"));
    if (!o->rule)
        return thaw_fail(THAW_E_SUPPORT, "no rule '%s'", text_of(c, "optimizer"));
    THAW_CHECK(thaw_tree_create(&o->tree));
    o->n_params = (int)THAW_MIN(json_array_size(initial), PARAMS);
    for (int p = 0; p < o->n_params; p++) {
        const json_t *values = json_array_get(initial, (size_t)p);
        char name[16];

        o->n[p] = THAW_MIN(json_array_size(values), ELEMENTS);
        for (size_t i = 0; i < o->n[p]; i++)
            o->value[p][i] = json_number_value(json_array_get(values, i));
        snprintf(name, sizeof(name), "p%d.w", p);
        THAW_CHECK(thaw_tree_add_param(o->tree, name, (int64_t)o->n[p], false));
    }
    THAW_CHECK(thaw_tree_seal(o->tree));
    THAW_CHECK(thaw_policy_create(&o->policy, o->tree));
    return thaw_policy_build(o->policy, &o->rates);
}

/* Rate of a parameter's group; false: it has none. */
static bool rate_of(double *lr, const optimizer *o, int p)
{
    for (int i = 0; i < thaw_policy_n_groups(o->policy); i++) {
        const thaw_group group = thaw_policy_group(o->policy, i);

        for (int k = 0; k < group.n_params; k++)
            if (group.param[k] == p) {
                *lr = group.lr;
                return true;
            }
    }
    return false;
}

static void step(optimizer *o, const json_t *grads)
{
    for (int p = 0; p < o->n_params; p++) {
        const json_t *list = json_array_get(grads, (size_t)p);
        double gradient[ELEMENTS], lr;
        void *state[PARAM_MAX_STATE];

        if (!json_is_array(list) || !thaw_policy_trainable(o->policy, p) || !rate_of(&lr, o, p))
            continue;
        for (size_t i = 0; i < o->n[p]; i++)
            gradient[i] = json_number_value(json_array_get(list, i));
        for (int s = 0; s < PARAM_MAX_STATE; s++)
            state[s] = o->state[p][s];
        o->rule->apply(&(optim_args){.dtype = DTYPE_F64,
                                     .n = o->n[p],
                                     .w = o->value[p],
                                     .g = gradient,
                                     .state = state,
                                     .grad_scale = 1,
                                     .t = ++o->t[p],
                                     .lr = lr,
                                     .weight_decay = o->hyper.weight_decay,
                                     .hyper = &o->hyper,
                                     .threads = 1});
    }
}

static thaw_status rebuild(optimizer *o)
{
    memset(o->state, 0, sizeof(o->state));
    memset(o->t, 0, sizeof(o->t));
    return thaw_policy_build(o->policy, &o->rates);
}

/* A parameter thawed without a group simply stays without updates, as the recorded runs have it. */
static thaw_status run_op(optimizer *o, const json_t *op)
{
    const char *kind = text_of(op, "op");
    char layer[16];
    const char *pattern = layer;
    thaw_status status = THAW_OK;

    snprintf(layer, sizeof(layer), "p%d", (int)json_integer_value(json_object_get(op, "index")));
    if (!strcmp(kind, "step"))
        step(o, json_object_get(op, "grads"));
    else if (!strcmp(kind, "freeze"))
        status = thaw_policy_freeze(o->policy, &pattern, 1);
    else if (!strcmp(kind, "unfreeze"))
        status = thaw_policy_unfreeze(o->policy, &pattern, 1, THAW_REBUILD_REFUSE);
    else if (!strcmp(kind, "set_coefficient"))
        status = thaw_policy_coefficient(o->policy,
                                         json_number_value(json_object_get(op, "coefficient")),
                                         &pattern, 1, THAW_REBUILD_REFUSE);
    else if (!strcmp(kind, "epoch_end"))
        thaw_policy_epoch_end(o->policy);
    else if (!strcmp(kind, "rebuild"))
        status = rebuild(o);
    else
        status = thaw_fail(THAW_E_DATA, "unknown operation '%s'", kind);
    return status == THAW_E_REBUILD ? THAW_OK : status;
}

static void compare(optimizer *o, const json_t *op, size_t number)
{
    const json_t *params = json_object_get(op, "params"), *rates = json_object_get(op, "lr");

    for (int p = 0; p < o->n_params; p++) {
        const json_t *values = json_array_get(params, (size_t)p), *want;
        char key[16];
        double worst = 0, lr = 0;
        bool member;

        for (size_t i = 0; i < o->n[p]; i++)
            worst =
                fmax(worst, fabs(o->value[p][i] - json_number_value(json_array_get(values, i))));
        golden_check(o->g, worst <= TOLERANCE, "case %lld op %zu (%s): parameter %d is off by %g",
                     (long long)o->id, number, text_of(op, "op"), p, worst);
        snprintf(key, sizeof(key), "%d", p);
        want = json_object_get(rates, key);
        member = rate_of(&lr, o, p);
        golden_check(
            o->g, member == !!want && (!want || fabs(lr - json_number_value(want)) <= TOLERANCE),
            "case %lld op %zu (%s): rate of parameter %d is %.17g, want %.17g", (long long)o->id,
            number, text_of(op, "op"), p, member ? lr : NAN, want ? json_number_value(want) : NAN);
    }
}

static void run_case(golden_run *g, const json_t *c)
{
    optimizer o = {.g = g, .id = json_integer_value(json_object_get(c, "id"))};
    thaw_status status = prepare(&o, c);
    const json_t *op;
    size_t i;

    if (status != THAW_OK)
        golden_check(g, false, "case %lld: %s", (long long)o.id, thaw_error());
    json_array_foreach(json_object_get(c, "ops"), i, op)
    {
        if (status != THAW_OK)
            break;
        status = run_op(&o, op);
        if (status != THAW_OK)
            golden_check(g, false, "case %lld op %zu: %s", (long long)o.id, i, thaw_error());
        compare(&o, op, i);
    }
    thaw_policy_destroy(o.policy);
    thaw_tree_destroy(o.tree);
}

void golden_optim(golden_run *g, const json_t *root)
{
    const json_t *c;
    size_t i;

    json_array_foreach(json_object_get(root, "cases"), i, c) run_case(g, c);
}
