/*
 * order.c - live nodes become steps, and the values they touch become slots.
 *
 * The idea: steps keep the order of the nodes, which is the forward order and then the order in
 * which gradients became known; life spans follow from who writes and who reads. Offsets are given
 * later. Knows nothing of phases: what is frozen is no node.
 */
#include "plan/plan.h"

static thaw_status out_of_memory(const char *what)
{
    return thaw_fail(THAW_E_NOMEM, "no memory for %s of a plan", what);
}

/* ----------------------------------------------------------------------------------------------
 * slots */

/* Where a value's bytes are. */
static void place_value(plan_slot *slot, const plan_build *b, value_id v)
{
    static const slot_place place_of_kind[] = {
        [VALUE_INPUT] = SLOT_INPUT, [VALUE_PARAM] = SLOT_PARAM, [VALUE_NODE] = SLOT_ARENA};
    const graph *g = b->g;

    slot->place = place_of_kind[g->value[v].kind];
    slot->index = g->value[v].index;
    if (thaw__plan_view(&slot->index, g, v))
        slot->place = SLOT_INPUT;
}

/* The last step of a parameter's gradient writes where the optimizer will read it. */
static void place_gradients(plan_build *b)
{
    const graph *g = b->g;

    for (int p = 0; g->param_grad && p < g->n_params; p++)
        if (g->param_grad[p] != NO_VALUE) {
            plan_slot *slot = &b->plan->slot[b->slot_of[g->param_grad[p]]];

            slot->place = SLOT_GRAD;
            slot->index = p;
        }
}

/* The slot of value v, made at its first mention. */
static thaw_status slot_for(int *out, plan_build *b, value_id v, int step)
{
    plan *p = b->plan;
    const graph_value *value;
    plan_slot *slot;

    if (v == NO_VALUE || b->slot_of[v] >= 0) {
        *out = v == NO_VALUE ? -1 : b->slot_of[v];
        return THAW_OK;
    }
    value = &b->g->value[v];
    slot = &p->slot[p->n_slots];
    *slot = (plan_slot){.dtype = value->dtype, .shape = value->shape, .first = step, .last = step};
    THAW_CHECK(shape_bytes(&slot->bytes, &value->shape, value->dtype));
    place_value(slot, b, v);
    slot->name = region_strdup(p->region, value->name);
    if (!slot->name)
        return out_of_memory("the names");
    *out = b->slot_of[v] = p->n_slots++;
    return THAW_OK;
}

static thaw_status slots_for(const int **out, plan_build *b, const value_id *v, int n, int step)
{
    int *list = region_alloc(b->plan->region, (size_t)n, sizeof *list);

    if (!list)
        return out_of_memory("the steps");
    for (int i = 0; i < n; i++)
        THAW_CHECK(slot_for(&list[i], b, v[i], step));
    *out = list;
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * steps */

static thaw_status emit_step(plan_build *b, size_t k)
{
    const graph_node *node = &b->g->node[k];
    plan *p = b->plan;
    const int s = p->n_step;
    plan_step *step = &p->step[s];

    *step = (plan_step){.section = SECTION_STEP,
                        .op = node->op,
                        .wrt = node->wrt,
                        .forward = node->wrt ? b->step_of[node->forward] : -1,
                        .module = node->module,
                        .attrs = node->attrs,
                        .n_in = node->n_in,
                        .n_out = node->n_out,
                        .flops = graph_node_flops(b->g, node)};
    step->name = region_strdup(p->region, node->name);
    if (!step->name)
        return out_of_memory("the names");
    THAW_CHECK(slots_for(&step->in, b, node->in, node->n_in, s));
    THAW_CHECK(slots_for(&step->out, b, node->out, node->n_out, s));
    for (int i = 0; i < node->n_in; i++)
        if (step->in[i] >= 0)
            p->slot[step->in[i]].last = s;
    b->step_of[k] = p->n_step++;
    return THAW_OK;
}

/* A result lives beyond the last step. */
static thaw_status result_slot(int *out, plan_build *b, value_id v)
{
    plan *p = b->plan;

    THAW_CHECK(slot_for(out, b, v, p->n_step));
    if (*out >= 0)
        p->slot[*out].last = p->n_step;
    return THAW_OK;
}

static bool can_have_gradient(op_kind op)
{
    for (int i = 0; i < OP_MAX_INPUTS; i++)
        if (op_table[op].grad[i].kind != GRAD_NONE)
            return true;
    return false;
}

static bool gradient_passes(const graph *g, const graph_node *node)
{
    for (int j = 0; g->grad && j < node->n_out; j++)
        if (node->out[j] == g->loss || g->grad[node->out[j]] != NO_VALUE)
            return true;
    return false;
}

thaw_status thaw__plan_order(plan_build *b)
{
    const graph *g = b->g;
    plan *p = b->plan;

    p->slot = region_alloc(p->region, g->n_values, sizeof *p->slot);
    p->step = region_alloc(p->region, g->n_nodes, sizeof *p->step);
    b->slot_of = region_alloc(g->region, g->n_values, sizeof *b->slot_of);
    b->step_of = region_alloc(g->region, g->n_nodes, sizeof *b->step_of);
    if (!p->slot || !p->step || !b->slot_of || !b->step_of)
        return out_of_memory("the steps");
    for (size_t v = 0; v < g->n_values; v++)
        b->slot_of[v] = -1;
    for (size_t k = 0; k < g->n_nodes; k++)
        b->step_of[k] = -1;
    for (size_t v = 0; v < g->n_values; v++)
        if (g->value[v].kind == VALUE_INPUT)
            THAW_CHECK(slot_for(&(int){0}, b, (value_id)v, 0));
    for (size_t k = 0; k < g->n_nodes; k++) {
        const graph_node *node = &g->node[k];

        if (!b->live[k])
            continue;
        THAW_CHECK(emit_step(b, k));
        if (k >= (size_t)g->n_forward)
            continue;
        p->n_forward++;
        p->n_backward_pruned += can_have_gradient(node->op) && !gradient_passes(g, node);
    }
    place_gradients(b);
    THAW_CHECK(result_slot(&p->results.output, b, b->output));
    THAW_CHECK(result_slot(&p->results.loss, b, b->loss));
    THAW_CHECK(result_slot(&p->results.valid, b, b->valid));
    return result_slot(&p->results.predicted, b, b->predicted);
}
