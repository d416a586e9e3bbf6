/*
 * flops.c - how much arithmetic a node is, for estimates that people read.
 *
 * The idea: contractions are counted exactly (multiply and add are two), everything else by a small
 * number of operations for each element of the largest tensor it touches. A gradient of a
 * contraction is as much work as the contraction itself.
 */
#include "graph/graph.h"

static const struct {
    bool contraction;
    double per_element;
} cost_table[OP_COUNT] = {
    [OP_CONV2D] = {true, 0},
    [OP_LINEAR] = {true, 0},
    [OP_BATCH_NORM_TRAIN] = {false, 7},
    [OP_BATCH_NORM_INFER] = {false, 2},
    [OP_RELU] = {false, 1},
    [OP_RELU6] = {false, 2},
    [OP_ADD] = {false, 1},
    [OP_MAX_POOL2D] = {false, 1},
    [OP_AVG_POOL2D] = {false, 1},
    [OP_GLOBAL_AVG_POOL] = {false, 1},
    [OP_FLATTEN] = {false, 0},
    [OP_DROPOUT] = {false, 2},
    [OP_CROSS_ENTROPY] = {false, 5},
    [OP_MSE] = {false, 3},
    [OP_ARGMAX] = {false, 1},
};

static double elements(const graph *g, value_id v)
{
    double n = 1;

    if (v == NO_VALUE)
        return 0;
    for (int i = 0; i < g->value[v].shape.rank; i++)
        n *= (double)g->value[v].shape.dim[i];
    return n;
}

static double largest(const graph *g, const value_id *v, int n)
{
    double most = 0;

    for (int i = 0; i < n; i++)
        if (v[i] != NO_VALUE)
            most = THAW_MAX(most, elements(g, v[i]));
    return most;
}

/* Weight [K, ...]: every one of K outputs is a sum of the other axes' product. */
static double contraction_flops(const graph *g, const graph_node *forward, uint32_t wrt)
{
    const double weight = elements(g, forward->in[1]);
    const double sums = elements(g, forward->out[0]);
    const double terms = weight / (double)THAW_MAX(g->value[forward->in[1]].shape.dim[0], 1);
    const bool has_bias = forward->n_in > 2 && forward->in[2] != NO_VALUE;

    if (!wrt)
        return 2 * sums * terms + (has_bias ? sums : 0);
    return (wrt & OP_IN(0) ? 2 * sums * terms : 0) + (wrt & OP_IN(1) ? 2 * sums * terms : 0) +
           (wrt & OP_IN(2) ? sums : 0);
}

double graph_node_flops(const graph *g, const graph_node *node)
{
    const graph_node *forward = node->wrt ? &g->node[node->forward] : node;

    if (cost_table[node->op].contraction)
        return contraction_flops(g, forward, node->wrt);
    return cost_table[node->op].per_element *
           THAW_MAX(largest(g, node->in, node->n_in), largest(g, node->out, node->n_out));
}
