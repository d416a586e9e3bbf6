/*
 * autodiff.c - the gradients of a graph as more nodes of the same graph.
 *
 * The idea: walk the forward nodes backwards; a node whose output has a gradient gets one backward
 * node per group of wanted gradients, as its row in the op table says. An input is wanted when a
 * trainable parameter lies on its path, so what is frozen costs no node, and what only its gradient
 * would read is not listed as read.
 */
#include "graph/graph.h"

#include <string.h>

typedef struct autodiff {
    graph *g;
    size_t n_values, n_nodes; /* of the forward graph */
    bool *wanted;             /* [n_values] a trainable parameter lies on its path */
    bool *borrowed;           /* [n_values] its gradient is another value's as it is */
} autodiff;

static void mark_wanted(autodiff *d, const bool *trainable)
{
    const graph *g = d->g;

    for (size_t v = 0; v < d->n_values; v++)
        d->wanted[v] = g->value[v].kind == VALUE_PARAM && trainable[g->value[v].index];
    for (size_t k = 0; k < d->n_nodes; k++) {
        const graph_node *node = &g->node[k];
        bool wanted = false;

        for (int i = 0; i < node->n_in; i++)
            wanted |= node->in[i] != NO_VALUE && d->wanted[node->in[i]] &&
                      op_table[node->op].grad[i].kind != GRAD_NONE;
        for (int j = 0; j < node->n_out; j++)
            d->wanted[node->out[j]] = wanted;
    }
}

static bool is_wanted(const autodiff *d, const graph_node *node, int i, grad_kind kind)
{
    return node->in[i] != NO_VALUE && d->wanted[node->in[i]] &&
           op_table[node->op].grad[i].kind == kind;
}

/* A value of the shape of v, made by the node that will be added next. */
static thaw_status add_gradient_value(value_id *out, graph *g, value_id v)
{
    graph_value grad = g->value[v];

    grad.kind = VALUE_NODE;
    grad.index = -1;
    grad.producer = (int32_t)g->n_nodes;
    return thaw__graph_add_value(out, g, &grad);
}

/* One more part of the gradient of v, from a use of it by `node`. */
static thaw_status contribute(autodiff *d, const graph_node *node, value_id v, value_id part,
                              bool borrowed)
{
    graph *g = d->g;
    value_id in[2] = {g->grad[v], part}, sum;
    graph_node add = {.op = OP_ADD,
                      .forward = -1,
                      .module = node->module,
                      .name = node->name,
                      .n_in = 2,
                      .n_out = 1,
                      .in = in,
                      .out = &sum};

    d->borrowed[v] = borrowed && g->grad[v] == NO_VALUE;
    if (g->grad[v] == NO_VALUE) {
        g->grad[v] = part;
        return THAW_OK;
    }
    THAW_CHECK(add_gradient_value(&sum, g, v));
    THAW_CHECK(thaw__graph_add_node(g, &add));
    g->grad[v] = sum;
    return THAW_OK;
}

/* The backward node of forward node k that makes the gradients of the inputs in wrt. */
static thaw_status add_backward_node(autodiff *d, size_t k, uint32_t wrt)
{
    graph *g = d->g;
    const graph_node node = g->node[k];
    const op_info *info = &op_table[node.op];
    value_id in[OP_MAX_INPUTS + 2 * OP_MAX_OUTPUTS], out[OP_MAX_INPUTS];
    graph_node backward = {.op = node.op,
                           .wrt = wrt,
                           .forward = (int32_t)k,
                           .module = node.module,
                           .attrs = node.attrs,
                           .name = node.name,
                           .n_in = 2 * node.n_out + node.n_in,
                           .n_out = node.n_in,
                           .in = in,
                           .out = out};
    uint32_t reads = 0;

    for (int i = 0; i < node.n_in; i++)
        if (wrt & OP_IN(i))
            reads |= info->grad[i].reads;
    for (int j = 0; j < node.n_out; j++) {
        in[j] = g->grad[node.out[j]];
        in[backward_out(info, node.n_in, j)] = reads & OP_OUT(j) ? node.out[j] : NO_VALUE;
    }
    for (int i = 0; i < node.n_in; i++) {
        in[backward_in(info, node.n_in, i)] = reads & OP_IN(i) ? node.in[i] : NO_VALUE;
        out[i] = NO_VALUE;
        if (wrt & OP_IN(i))
            THAW_CHECK(add_gradient_value(&out[i], g, node.in[i]));
    }
    THAW_CHECK(thaw__graph_add_node(g, &backward));
    for (int i = 0; i < node.n_in; i++)
        if (wrt & OP_IN(i))
            THAW_CHECK(contribute(d, &node, node.in[i], out[i], false));
    return THAW_OK;
}

static bool parameters_alone(const graph *g, const graph_node *node, uint32_t wrt)
{
    for (int i = 0; i < node->n_in; i++)
        if ((wrt & OP_IN(i)) && g->value[node->in[i]].kind != VALUE_PARAM)
            return false;
    return true;
}

/* All backward nodes of forward node k. */
static thaw_status differentiate_node(autodiff *d, size_t k)
{
    const graph_node node = d->g->node[k];
    const op_grad *grad = op_table[node.op].grad;
    uint32_t group[OP_MAX_INPUTS] = {0};

    for (int i = 0; i < node.n_in; i++)
        if (is_wanted(d, &node, i, GRAD_NODE))
            group[grad[i].group] |= OP_IN(i);
    for (int activations = 0; activations < 2; activations++)
        for (int i = 0; i < OP_MAX_INPUTS; i++)
            if (group[i] && parameters_alone(d->g, &node, group[i]) == !activations)
                THAW_CHECK(add_backward_node(d, k, group[i]));
    for (int i = 0; i < node.n_in; i++)
        if (is_wanted(d, &node, i, GRAD_SAME))
            THAW_CHECK(contribute(d, &node, node.in[i], d->g->grad[node.out[0]], true));
    return THAW_OK;
}

static bool has_gradient(const graph *g, const graph_node *node)
{
    for (int j = 0; j < node->n_out; j++)
        if (node->out[j] == g->loss || g->grad[node->out[j]] != NO_VALUE)
            return true;
    return false;
}

static thaw_status collect_param_grads(autodiff *d)
{
    graph *g = d->g;

    for (size_t v = 0; v < d->n_values; v++) {
        if (g->value[v].kind != VALUE_PARAM || g->grad[v] == NO_VALUE)
            continue;
        if (d->borrowed[v])
            return thaw_fail(THAW_E_SUPPORT,
                             "parameter '%s' is an operand of add: its gradient would be another "
                             "value's memory",
                             g->value[v].name);
        g->param_grad[g->value[v].index] = g->grad[v];
    }
    return THAW_OK;
}

static value_id *no_values(thaw_region *region, size_t n)
{
    value_id *list = region_alloc(region, n, sizeof *list);

    for (size_t i = 0; list && i < n; i++)
        list[i] = NO_VALUE;
    return list;
}

thaw_status graph_differentiate(graph *g, value_id loss, const bool *trainable, int n_params)
{
    autodiff d = {.g = g, .n_values = g->n_values, .n_nodes = g->n_nodes};

    THAW_ASSERT(loss >= 0 && (size_t)loss < g->n_values && !g->grad);
    THAW_ASSERT(n_params >= g->n_params);
    d.wanted = region_alloc(g->region, d.n_values, sizeof *d.wanted);
    d.borrowed = region_alloc(g->region, d.n_values, sizeof *d.borrowed);
    g->grad = no_values(g->region, d.n_values);
    g->param_grad = no_values(g->region, (size_t)n_params);
    if (!d.wanted || !d.borrowed || !g->grad || !g->param_grad)
        return thaw_fail(THAW_E_NOMEM, "no memory for the gradients of a graph");
    g->n_params = n_params;
    g->loss = loss;
    mark_wanted(&d, trainable);
    for (size_t k = d.n_nodes; k-- > 0;)
        if (has_gradient(g, &g->node[k]))
            THAW_CHECK(differentiate_node(&d, k));
    return collect_param_grads(&d);
}
