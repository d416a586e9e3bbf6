/*
 * plans.h - what the tests of plans share: an effect filled by hand, a request around a network,
 * and finding steps of a plan by layer.
 */
#ifndef THAW_TESTS_PLANS_H
#define THAW_TESTS_PLANS_H

#include "graph/nets.h"

#include "plan/plan.h"

/* A network, who trains, and what to compile. The members point at each other: do not copy. */
typedef struct setup {
    net n;
    bool trainable[NET_BUFFERS];
    uint8_t mode[NET_BUFFERS];
    size_t param_bytes[NET_TENSORS];
    thaw_effect effect;
    plan_request request;
} setup;

/* Everybody trains, norms and dropout in training mode; change what differs before compiling. */
static inline void setup_init(setup *s, net n, value_id output)
{
    *s = (setup){.n = n, .request = PLAN_REQUEST_INIT};
    memset(s->trainable, true, (size_t)n.n_params);
    memset(s->mode, THAW_MODE_NORM_TRAIN | THAW_MODE_DROPOUT, sizeof s->mode);
    for (size_t v = 0; v < n.g->n_values; v++)
        if (n.g->value[v].kind == VALUE_PARAM)
            CHECK_OK(shape_bytes(&s->param_bytes[n.g->value[v].index], &n.g->value[v].shape,
                                 n.g->value[v].dtype));
    s->effect = (thaw_effect){.n_params = n.n_params,
                              .n_modules = n.n_modules,
                              .trainable = s->trainable,
                              .updated = s->trainable,
                              .mode = s->mode};
    s->request.fold = s->request.fuse =
        false; /* each layer its own step; test_fuse asks for more */
    s->request.recompute = PLAN_RECOMPUTE_NEVER; /* test_recompute asks for more */
    s->request.model = n.g;
    s->request.output = output;
    s->request.effect = &s->effect;
    s->request.training = true;
    s->request.loss_op = OP_CROSS_ENTROPY;
    memset(&s->request.loss_attrs, 0, sizeof s->request.loss_attrs);
    s->request.loss_attrs.loss.ignore = -100;
    s->request.batch = 4;
    s->request.n_params = NET_TENSORS;
    s->request.param_bytes = s->param_bytes;
}

static inline void setup_done(setup *s)
{
    net_destroy(&s->n);
}

/* Parameters from first on train, the others and their norms and dropout are at rest. */
static inline void setup_freeze_before(setup *s, int first)
{
    for (int p = 0; p < first; p++)
        s->trainable[p] = false;
    memset(s->mode, 0, sizeof s->mode);
}

static inline plan *setup_compile(const setup *s)
{
    plan *p = NULL;

    CHECK_OK(plan_compile(&p, &s->request));
    CHECK_OK(plan_verify(p, s->request.effect));
    return p;
}

/* Number of the step with this layer, op and wrt; -1: none. */
static inline int find_step(const plan *p, const char *name, op_kind op, uint32_t wrt)
{
    for (int s = 0; s < p->n_once + p->n_step; s++)
        if (p->step[s].op == op && p->step[s].wrt == wrt && strcmp(p->step[s].name, name) == 0)
            return s;
    return -1;
}

/* The same, and it must be there. */
static inline const plan_step *need_step(const plan *p, const char *name, op_kind op, uint32_t wrt)
{
    const int s = find_step(p, name, op, wrt);

    CHECK_MSG(s >= 0, "no step %s of '%s' with wrt %u", op_table[op].name, name, wrt);
    return &p->step[s];
}

#endif
