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

/* ----------------------------------------------------------------------------------------------
 * steps */

/* The forward node of a post of backward node k, or post k itself. */
static const graph_node *post_node(const plan_build *b, size_t k)
{
    const graph_node *node = &b->g->node[k];

    return node->wrt ? &b->g->node[node->forward] : node;
}

static bool is_chain(const plan_build *b, const graph_node *node, int i, int before)
{
    return b->g->value[node->in[i]].producer == before;
}

/* What a forward post reads beside the result so far, which is at `chain`. */
static thaw_status fill_forward_post(plan_post *post, int *in, plan_build *b, size_t k, int before)
{
    const graph_node *node = &b->g->node[k];

    for (int i = 0; i < node->n_in; i++) {
        in[i] = -1;
        if (is_chain(b, node, i, before))
            post->chain = i;
        else
            THAW_CHECK(slot_for(&in[i], b, node->in[i], b->plan->n_step));
    }
    return THAW_OK;
}

/* What the gradient of a post reads; its output last. */
static thaw_status fill_backward_post(plan_post *post, int *in, plan_build *b, size_t k)
{
    const graph_node *node = &b->g->node[k];
    const op_info *info = &op_table[node->op];
    const int n_in = post->n_in - 1;

    for (int i = 0; i < n_in; i++) {
        if (node->wrt & OP_IN(i))
            post->chain = i;
        THAW_CHECK(slot_for(&in[i], b, node->in[backward_in(info, n_in, i)], b->plan->n_step));
    }
    return slot_for(&in[n_in], b, node->in[backward_out(info, n_in, 0)], b->plan->n_step);
}

static thaw_status fill_posts(plan_build *b, plan_step *step, plan_post *post, int *in, size_t k)
{
    const graph *g = b->g;
    int before = (int)k;

    for (int at = b->next[k]; at >= 0; before = at, at = b->next[at], post++) {
        const graph_node *forward = post_node(b, (size_t)at);

        *post = (plan_post){.op = forward->op,
                            .module = forward->module,
                            .attrs = forward->attrs,
                            .n_in = forward->n_in + (g->node[at].wrt ? 1 : 0),
                            .in = in};
        post->name = region_strdup(b->plan->region, forward->name);
        if (!post->name)
            return out_of_memory("the names");
        THAW_CHECK(g->node[at].wrt ? fill_backward_post(post, in, b, (size_t)at)
                                   : fill_forward_post(post, in, b, (size_t)at,
                                                       g->node[k].wrt ? (int)k : before));
        in += post->n_in;
        step->flops += graph_node_flops(g, &g->node[at]);
    }
    return THAW_OK;
}

/* The forward step of a backward one, and which part of it. */
static void find_forward(const plan_build *b, plan_step *step, const graph_node *node)
{
    int part = 0;

    for (int at = b->head[node->forward]; at != node->forward; at = b->next[at])
        part++;
    step->forward = b->step_of[node->forward];
    step->part = part;
}

/* How many slots the posts of node k mention. */
static int count_post_reads(const plan_build *b, size_t k, int *n_post)
{
    int n = 0;

    for (int at = b->next[k]; at >= 0; at = b->next[at], ++*n_post)
        n += post_node(b, (size_t)at)->n_in + (b->g->node[at].wrt ? 1 : 0);
    return n;
}

/* The last post of node k that is of its direction, or the node itself. */
static const graph_node *last_node(const plan_build *b, size_t k)
{
    const bool backward = b->g->node[k].wrt != 0;

    while (b->next[k] >= 0 && (b->g->node[b->next[k]].wrt != 0) == backward)
        k = (size_t)b->next[k];
    return &b->g->node[k];
}

/* The last post of all: backward it may be a sum of gradients. */
static const graph_node *end_node(const plan_build *b, size_t k)
{
    const graph_node *node = &b->g->node[k];
    const graph_node *end = node;

    for (int at = b->next[k]; at >= 0; at = b->next[at])
        if (!b->g->node[at].wrt)
            end = &b->g->node[at];
    return end;
}

/* What the step of node k reads and makes. With posts, the last of them makes its first output, or
 * takes the gradient that comes first. */
static thaw_status fill_slots(plan_build *b, plan_step *step, int *in, int *out, size_t k)
{
    const graph_node *node = &b->g->node[k], *last = last_node(b, k);
    const int s = b->plan->n_step;

    for (int i = 0; i < node->n_in; i++)
        THAW_CHECK(slot_for(&in[i], b, node->wrt && i == 0 ? last->in[0] : node->in[i], s));
    for (int j = 0; j < node->n_out; j++)
        THAW_CHECK(slot_for(&out[j], b, j == 0 ? end_node(b, k)->out[0] : node->out[j], s));
    step->in = in;
    step->out = out;
    return THAW_OK;
}

static thaw_status emit_step(plan_build *b, size_t k)
{
    const graph_node *node = &b->g->node[k];
    plan *p = b->plan;
    const int s = p->n_step;
    plan_step *step = &p->step[s];
    plan_post *post;
    int *in, *out;

    *step = (plan_step){.section = SECTION_STEP,
                        .op = node->op,
                        .wrt = node->wrt,
                        .forward = -1,
                        .again = -1,
                        .module = node->module,
                        .attrs = node->attrs,
                        .n_in = node->n_in,
                        .n_out = node->n_out,
                        .flops = graph_node_flops(b->g, node)};
    if (node->wrt)
        find_forward(b, step, node);
    step->n_reads = node->n_in + count_post_reads(b, k, &step->n_post);
    step->name = region_strdup(p->region, node->name);
    in = region_alloc(p->region, (size_t)step->n_reads, sizeof *in);
    out = region_alloc(p->region, (size_t)step->n_out, sizeof *out);
    step->post = post = region_alloc(p->region, (size_t)step->n_post, sizeof *post);
    if (!step->name || !in || !out || !post)
        return out_of_memory("the steps");
    THAW_CHECK(fill_slots(b, step, in, out, k));
    THAW_CHECK(fill_posts(b, step, post, in + step->n_in, k));
    for (int i = 0; i < step->n_reads; i++)
        if (in[i] >= 0)
            p->slot[in[i]].last = s;
    for (int at = (int)k; at >= 0; at = b->next[at])
        b->step_of[at] = s;
    p->n_step++;
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

        if (!b->live[k] || b->head[k] != (int)k)
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
