/*
 * prune.c - which nodes of the graph become steps.
 *
 * The idea: a node is live when somebody needs what it makes: a result, a parameter's gradient, or
 * the running statistics it moves. One walk backwards finds them all. Knows nothing of phases:
 * what is frozen has no gradient node to begin with.
 */
#include "plan/plan.h"

static void need(bool *needed, value_id v)
{
    if (v != NO_VALUE)
        needed[v] = true;
}

/* One pixel or one channel: [B,H,W,C] and [B,C*H*W] are the same bytes. */
static bool keeps_order(const shape *src)
{
    return src->dim[3] == 1 || (src->dim[1] == 1 && src->dim[2] == 1);
}

bool thaw__plan_view(int *index, const graph *g, value_id v)
{
    const graph_value *value = &g->value[v];
    const graph_node *node;

    if (value->kind != VALUE_NODE)
        return false;
    node = &g->node[value->producer];
    if (node->op != OP_FLATTEN || node->wrt)
        return false;
    value = &g->value[node->in[0]];
    if (value->kind != VALUE_INPUT || !keeps_order(&value->shape))
        return false;
    *index = value->index;
    return true;
}

static bool is_needed(const graph *g, const graph_node *node, const bool *needed)
{
    int index;

    if (!node->wrt && op_table[node->op].mutates)
        return true;
    for (int j = 0; j < node->n_out; j++)
        if (node->out[j] != NO_VALUE && needed[node->out[j]])
            return !thaw__plan_view(&index, g, node->out[j]);
    return false;
}

thaw_status thaw__plan_prune(plan_build *b)
{
    const graph *g = b->g;
    bool *needed = region_alloc(g->region, g->n_values, sizeof *needed);

    b->live = region_alloc(g->region, g->n_nodes, sizeof *b->live);
    if (!needed || !b->live)
        return thaw_fail(THAW_E_NOMEM, "no memory for a plan of %zu nodes", g->n_nodes);
    need(needed, b->output);
    need(needed, b->loss);
    need(needed, b->valid);
    need(needed, b->predicted);
    for (int p = 0; g->param_grad && p < g->n_params; p++)
        need(needed, g->param_grad[p]);
    for (size_t k = g->n_nodes; k-- > 0;) {
        const graph_node *node = &g->node[k];

        b->live[k] = is_needed(g, node, needed);
        for (int i = 0; b->live[k] && i < node->n_in; i++)
            need(needed, node->in[i]);
    }
    return THAW_OK;
}
