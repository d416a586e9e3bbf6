/*
 * flops.c - how much arithmetic a node is, for estimates that people read.
 *
 * The idea: contractions are counted exactly (multiply and add are two), everything else by a small
 * number of operations for each element of the largest tensor it touches. A gradient of a
 * contraction is as much work as the contraction itself.
 */
#include "graph/graph.h"

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

/* Two products of matrices forward: queries with keys, weights with values. Backward both again,
 * once for each operand, and the first to have the weights. */
static double attention_flops(const graph *g, const graph_node *forward, uint32_t wrt)
{
    const shape *keys = &g->value[forward->in[1]].shape;
    const double product = 2 * elements(g, forward->in[0]) * (double)keys->dim[1];

    return (wrt ? 5 : 2) * product;
}

static const struct {
    double (*count)(const graph *g, const graph_node *forward, uint32_t wrt); /* of a contraction */
    double per_element;                                                       /* of the others */
} cost_table[OP_COUNT] = {
    [OP_CONV2D] = {contraction_flops, 0},
    [OP_LINEAR] = {contraction_flops, 0},
    [OP_BATCH_NORM_TRAIN] = {NULL, 7},
    [OP_BATCH_NORM_INFER] = {NULL, 2},
    [OP_BATCH_NORM_AGAIN] = {NULL, 2},
    [OP_RELU] = {NULL, 1},
    [OP_RELU6] = {NULL, 2},
    [OP_ADD] = {NULL, 1},
    [OP_MAX_POOL2D] = {NULL, 1},
    [OP_AVG_POOL2D] = {NULL, 1},
    [OP_GLOBAL_AVG_POOL] = {NULL, 1},
    [OP_FLATTEN] = {NULL, 0},
    [OP_DROPOUT] = {NULL, 2},
    [OP_CROSS_ENTROPY] = {NULL, 5},
    [OP_MSE] = {NULL, 3},
    [OP_ARGMAX] = {NULL, 1},
    [OP_LAYER_NORM] = {NULL, 8},
    [OP_RMS_NORM] = {NULL, 6},
    [OP_GELU] = {NULL, 10},
    [OP_ATTENTION] = {attention_flops, 0},
    [OP_TOKENS] = {NULL, 1},
    [OP_TOKEN] = {NULL, 1},
    [OP_CAST] = {NULL, 1},
};

double graph_node_flops(const graph *g, const graph_node *node)
{
    const graph_node *forward = node->wrt ? &g->node[node->forward] : node;

    if (cost_table[node->op].count)
        return cost_table[node->op].count(g, forward, node->wrt);
    return cost_table[node->op].per_element *
           THAW_MAX(largest(g, node->in, node->n_in), largest(g, node->out, node->n_out));
}
