/*
 * compile.c - from a model's graph and a phase's effect to a plan.
 *
 * The idea: passes in a table, each a small function over one plan in the making, run in order. The
 * first ones change the graph (shapes bound, modes applied, loss and gradients added), the others
 * turn what is live into steps over slots and give the slots memory. Knows nothing of executors.
 */
#include "plan/plan.h"

#include <string.h>

static thaw_status out_of_memory(const char *what)
{
    return thaw_fail(THAW_E_NOMEM, "no memory for %s of a plan", what);
}

/* ----------------------------------------------------------------------------------------------
 * passes over the graph */

static thaw_status check_request(const plan_request *r)
{
    if (r->batch < 1)
        return thaw_fail(THAW_E_RANGE, "a plan for a batch of %lld", (long long)r->batch);
    if (r->output < 0 || (size_t)r->output >= r->model->n_values)
        return thaw_fail(THAW_E_USAGE, "the graph has no value %d to be the output", r->output);
    if (r->effect && r->effect->n_params > r->n_params)
        return thaw_fail(THAW_E_MISMATCH, "the effect has %d parameters, the model %d tensors",
                         r->effect->n_params, r->n_params);
    return THAW_OK;
}

static thaw_status bind(plan_build *b)
{
    const plan_request *r = b->request;

    THAW_CHECK(check_request(r));
    THAW_CHECK(graph_clone(&b->g, r->model, r->batch, 0));
    if (b->g->n_params > r->n_params)
        return thaw_fail(THAW_E_MISMATCH, "the graph has %d tensors, the model %d", b->g->n_params,
                         r->n_params);
    b->output = r->output;
    THAW_CHECK(thaw__plan_precision(b));
    THAW_CHECK(thaw__plan_take_part(b));
    b->loss = b->valid = b->predicted = NO_VALUE;
    b->trainable = region_alloc(b->g->region, (size_t)r->n_params, sizeof *b->trainable);
    if (!b->trainable)
        return out_of_memory("the parameters");
    for (int p = 0; r->training && r->effect && p < r->effect->n_params; p++)
        b->trainable[p] = r->effect->trainable[p];
    return THAW_OK;
}

/* Cross entropy takes one class number per row, mse a row like the output. */
static thaw_status add_target(value_id *target, plan_build *b)
{
    const graph_value *output = &b->g->value[b->output];
    shape s = output->shape;

    if (b->request->loss_op == OP_MSE)
        return graph_input(target, b->g, "target", b->g->real, &s);
    s.rank = THAW_MAX(s.rank - 1, 0);
    return graph_input(target, b->g, "target", DTYPE_I32, &s);
}

static thaw_status add_results(plan_build *b)
{
    const plan_request *r = b->request;
    value_id in[2] = {b->output}, out[OP_MAX_OUTPUTS];

    if (r->part == PLAN_PREFIX)
        return THAW_OK;
    if (r->loss_op != OP_MSE && b->g->value[b->output].shape.rank >= 2) {
        THAW_CHECK(graph_op(out, b->g, OP_ARGMAX, NULL, "predicted", -1, 1, in));
        b->predicted = out[0];
    }
    if (r->loss_op == OP_COUNT)
        return THAW_OK;
    THAW_CHECK(add_target(&in[1], b));
    THAW_CHECK(graph_op(out, b->g, r->loss_op, &r->loss_attrs, "loss", -1, 2, in));
    b->loss = out[0];
    b->valid = out[1];
    return THAW_OK;
}

static const char *param_name(const graph *g, int index)
{
    for (size_t v = 0; v < g->n_values; v++)
        if (g->value[v].kind == VALUE_PARAM && g->value[v].index == index)
            return g->value[v].name;
    return "(not in the graph)";
}

static thaw_status differentiate(plan_build *b)
{
    const int n_params = b->request->n_params;
    bool any = false;

    for (int p = 0; p < n_params; p++)
        any |= b->trainable[p];
    if (!any)
        return THAW_OK;
    if (b->loss == NO_VALUE)
        return thaw_fail(THAW_E_USAGE, "a plan that trains needs a loss");
    THAW_CHECK(graph_differentiate(b->g, b->loss, b->trainable, n_params));
    for (int p = 0; p < n_params; p++)
        if (b->trainable[p] && b->g->param_grad[p] == NO_VALUE)
            return thaw_fail(THAW_E_SUPPORT,
                             "parameter %d '%s' is to train, but the loss does not depend on it; "
                             "freeze it",
                             p, param_name(b->g, p));
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * scratch and totals */

static thaw_status ask_scratch(plan_build *b)
{
    const plan_request *r = b->request;
    plan *p = b->plan;

    for (int s = 0; r->scratch && s < p->n_once + p->n_step; s++)
        p->step[s].scratch_bytes = r->scratch(r->scratch_user, p, &p->step[s]);
    return THAW_OK;
}

/* Parameters that an op of the graph could have a gradient of, and has none. */
static int count_pruned_grads(const graph *g)
{
    int n = 0;

    for (size_t v = 0; v < g->n_values; v++) {
        bool can = false;

        if (g->value[v].kind != VALUE_PARAM ||
            (g->param_grad && g->param_grad[g->value[v].index] != NO_VALUE))
            continue;
        for (int k = 0; !can && k < g->n_forward; k++)
            for (int i = 0; i < g->node[k].n_in; i++)
                can |= g->node[k].in[i] == (value_id)v &&
                       op_table[g->node[k].op].grad[i].kind != GRAD_NONE;
        n += can;
    }
    return n;
}

static thaw_status add_update_rows(plan_build *b)
{
    const plan_request *r = b->request;
    plan *p = b->plan;

    p->update = region_alloc(p->region, (size_t)r->n_update, sizeof *p->update);
    if (!p->update)
        return out_of_memory("the update rows");
    for (int i = 0; i < r->n_update; i++) {
        p->update[i] = r->update[i];
        if (!size_add(&p->state_bytes, p->state_bytes, r->update[i].state_bytes))
            return thaw_fail(THAW_E_SHAPE, "the optimizer's state is too large");
    }
    p->n_update = r->n_update;
    return THAW_OK;
}

/* The graph's tensors are the model's. */
static thaw_status check_param_bytes(const plan_build *b)
{
    const plan *p = b->plan;

    for (int i = 0; b->request->param_bytes && i < p->n_slots; i++)
        if (p->slot[i].place == SLOT_PARAM &&
            p->slot[i].bytes != b->request->param_bytes[p->slot[i].index])
            return thaw_fail(THAW_E_MISMATCH, "tensor '%s' has %zu bytes, the graph wants %zu",
                             p->slot[i].name, b->request->param_bytes[p->slot[i].index],
                             p->slot[i].bytes);
    return THAW_OK;
}

static thaw_status sum_up(plan_build *b)
{
    const plan_request *r = b->request;
    plan *p = b->plan;
    bool fits = true;

    THAW_CHECK(check_param_bytes(b));
    for (int i = 0; r->param_bytes && i < r->n_params; i++) {
        fits &= size_add(&p->param_bytes, p->param_bytes, r->param_bytes[i]);
        if (b->trainable[i])
            fits &= size_add(&p->grad_bytes, p->grad_bytes, r->param_bytes[i]);
    }
    for (int i = 0; i < b->g->n_inputs; i++)
        fits &= size_add(&p->input_bytes, p->input_bytes, p->slot[i].bytes);
    if (!fits)
        return thaw_fail(THAW_E_SHAPE, "the tensors of the model are too large together");
    p->training = b->g->grad != NULL;
    p->n_pruned_grads = count_pruned_grads(b->g);
    return add_update_rows(b);
}

size_t plan_peak_bytes(const plan *p)
{
    const size_t part[] = {p->arena_bytes, p->input_bytes, p->param_bytes, p->grad_bytes,
                           p->state_bytes};
    size_t sum = 0;

    for (size_t i = 0; i < THAW_COUNT(part); i++)
        if (!size_add(&sum, sum, part[i]))
            return SIZE_MAX;
    return sum;
}

/* ----------------------------------------------------------------------------------------------
 * digest */

#define HASH(h, lvalue) (h) = hash_fnv1a_n((h), &(lvalue), sizeof(lvalue))

static uint64_t hash_text(uint64_t h, const char *s)
{
    return hash_fnv1a_n(h, s, strlen(s) + 1);
}

static uint64_t hash_slot(uint64_t h, const plan_slot *slot)
{
    HASH(h, slot->place);
    HASH(h, slot->index);
    HASH(h, slot->dtype);
    HASH(h, slot->shape.rank);
    h = hash_fnv1a_n(h, slot->shape.dim, (size_t)slot->shape.rank * sizeof slot->shape.dim[0]);
    HASH(h, slot->bytes);
    HASH(h, slot->offset);
    HASH(h, slot->first);
    HASH(h, slot->last);
    return hash_text(h, slot->name);
}

static uint64_t hash_step(uint64_t h, const plan_step *step)
{
    HASH(h, step->section);
    HASH(h, step->op);
    HASH(h, step->wrt);
    HASH(h, step->forward);
    HASH(h, step->part);
    HASH(h, step->again);
    HASH(h, step->module);
    HASH(h, step->attrs);
    h = hash_text(h, step->name);
    HASH(h, step->n_in);
    HASH(h, step->n_reads);
    h = hash_fnv1a_n(h, step->in, (size_t)step->n_reads * sizeof *step->in);
    HASH(h, step->n_post);
    for (int k = 0; k < step->n_post; k++) {
        HASH(h, step->post[k].op);
        HASH(h, step->post[k].chain);
        HASH(h, step->post[k].module);
        HASH(h, step->post[k].attrs);
        HASH(h, step->post[k].n_in);
        h = hash_text(h, step->post[k].name);
    }
    HASH(h, step->n_out);
    h = hash_fnv1a_n(h, step->out, (size_t)step->n_out * sizeof *step->out);
    HASH(h, step->scratch_offset);
    HASH(h, step->scratch_bytes);
    return h;
}

static thaw_status take_digest(plan_build *b)
{
    plan *p = b->plan;
    uint64_t h = HASH_INIT;

    HASH(h, p->batch);
    HASH(h, p->training);
    HASH(h, p->real);
    HASH(h, p->n_slots);
    for (int i = 0; i < p->n_slots; i++)
        h = hash_slot(h, &p->slot[i]);
    HASH(h, p->n_once);
    HASH(h, p->n_step);
    HASH(h, p->n_forward);
    for (int s = 0; s < p->n_once + p->n_step; s++)
        h = hash_step(h, &p->step[s]);
    for (int i = 0; i < p->n_update; i++) {
        h = hash_text(h, p->update[i].rule);
        HASH(h, p->update[i].param);
        HASH(h, p->update[i].state_bytes);
    }
    HASH(h, p->results);
    HASH(h, p->arena_bytes);
    HASH(h, p->param_bytes);
    HASH(h, p->grad_bytes);
    p->digest = h;
    return THAW_OK;
}

static thaw_status verify(plan_build *b)
{
    return plan_verify(b->plan, b->request->effect);
}

/* ----------------------------------------------------------------------------------------------
 * the table */

static thaw_status (*const pass_table[])(plan_build *b) = {
    bind,                 /* a copy of the graph with sizes */
    thaw__plan_modes,     /* norms and dropout as the phase asks */
    add_results,          /* loss and argmax */
    differentiate,        /* gradients of what trains */
    thaw__plan_prune,     /* what nobody needs goes */
    thaw__plan_fuse,      /* what can be done in one pass over memory is */
    thaw__plan_order,     /* nodes become steps over slots */
    thaw__plan_recompute, /* what is cheap is made again instead of kept */
    thaw__plan_inplace,   /* results written over what dies */
    ask_scratch,          /* what executors need beside */
    thaw__plan_memory,    /* offsets */
    sum_up,               /* totals and update rows */
    take_digest,          /* of all that */
    verify,               /* and does it hold together? */
};

static thaw_status plan_create(plan **out, const plan_request *r)
{
    thaw_status status = THAW_OK;
    plan *p = thaw__new(1, sizeof *p);

    if (!p)
        return out_of_memory("the head");
    p->batch = r->batch;
    p->real = r->model->real;
    THAW_TRY(region_create(&p->region));
    *out = p;
    p = NULL;
done:
    plan_destroy(p);
    return status;
}

void plan_destroy(plan *p)
{
    if (!p)
        return;
    region_destroy(p->region);
    thaw__free(p);
}

thaw_status plan_compile(plan **out, const plan_request *request)
{
    thaw_status status = THAW_OK;
    plan_build b = {.request = request};

    THAW_TRY(plan_create(&b.plan, request));
    for (size_t i = 0; i < THAW_COUNT(pass_table); i++)
        THAW_TRY(pass_table[i](&b));
    *out = b.plan;
    b.plan = NULL;
done:
    graph_destroy(b.g);
    plan_destroy(b.plan);
    return status;
}
