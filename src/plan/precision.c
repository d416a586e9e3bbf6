/*
 * precision.c - which layers compute in bf16, and where numbers change their type.
 *
 * The idea: ops that gain from bf16 lead, ops that only pass over memory follow what they are
 * given, everything else stays in f32. Where a value is wanted in the other type a cast makes a
 * copy of it, once, before its first reader. It is done before gradients are: each of them has the
 * type of what it belongs to, and the gradient of a cast is a cast. Parameters, their gradients,
 * statistics and losses are f32 always. Knows nothing of how a kernel does it.
 */
#include "plan/plan.h"

#include <string.h>

/* An op by its row: the unit from which on it leads; what it follows; from how large a weight on.
 * A depthwise convolution moves more than it computes, so it only follows. */
static const struct {
    bf16_unit leads;       /* BF16_NONE: it never does */
    uint32_t activations;  /* OP_IN bits: in bf16 where it computes so; 0: it never does */
    int64_t least_weights; /* elements; with fewer it does not lead */
} precision_table[OP_COUNT] = {
    [OP_CONV2D] = {BF16_VECTOR, OP_IN(0), 0},
    [OP_LINEAR] = {BF16_VECTOR, OP_IN(0), (1 << 17) + 1},
    [OP_BATCH_NORM_TRAIN] = {BF16_NONE, OP_IN(0), 0},
    [OP_BATCH_NORM_INFER] = {BF16_NONE, OP_IN(0), 0},
    [OP_RELU] = {BF16_NONE, OP_IN(0), 0},
    [OP_RELU6] = {BF16_NONE, OP_IN(0), 0},
    [OP_ADD] = {BF16_NONE, OP_IN(0) | OP_IN(1), 0},
    [OP_MAX_POOL2D] = {BF16_NONE, OP_IN(0), 0},
    [OP_AVG_POOL2D] = {BF16_NONE, OP_IN(0), 0},
    [OP_GLOBAL_AVG_POOL] = {BF16_NONE, OP_IN(0), 0},
    [OP_FLATTEN] = {BF16_NONE, OP_IN(0), 0},
    [OP_DROPOUT] = {BF16_NONE, OP_IN(0), 0},
};

typedef struct precision_pass {
    plan_build *b;
    value_id *copy; /* [n_values at first] the value in the other type, NO_VALUE: not made */
} precision_pass;

static bool is_depthwise(const graph *g, const graph_node *node)
{
    return node->op == OP_CONV2D && node->attrs.conv.groups > 1 &&
           node->attrs.conv.groups == g->value[node->in[0]].shape.dim[3];
}

static bool has_weights(const graph *g, const graph_node *node, int64_t least)
{
    size_t n = 0;

    if (least == 0)
        return true;
    return shape_elements(&n, &g->value[node->in[1]].shape) == THAW_OK && n >= (size_t)least;
}

static bool leads(const plan_build *b, const graph_node *node)
{
    const bf16_unit least = precision_table[node->op].leads;

    return least != BF16_NONE && b->request->bf16 >= least && !is_depthwise(b->g, node) &&
           has_weights(b->g, node, precision_table[node->op].least_weights);
}

/* All that it reads of activations is bf16. A linear layer that does not lead stays in f32, too:
 * so small a product costs nothing, and what it makes is often the network's answer. */
static bool follows(const plan_build *b, const graph_node *node)
{
    const uint32_t activations = precision_table[node->op].activations;

    for (int i = 0; i < node->n_in; i++)
        if ((activations & OP_IN(i)) && b->g->value[node->in[i]].dtype != DTYPE_BF16)
            return false;
    return activations != 0 && node->op != OP_LINEAR;
}

/* The copy of v in the other type; its node comes before the one that wants it. */
static thaw_status add_cast(value_id *out, precision_pass *p, value_id v, int module)
{
    graph *g = p->b->g;
    graph_value made = g->value[v];
    graph_node cast = {.op = OP_CAST, .forward = -1, .module = module, .n_in = 1, .n_out = 1};

    made.kind = VALUE_NODE;
    made.index = -1;
    made.producer = (int32_t)g->n_nodes;
    made.dtype = made.dtype == DTYPE_BF16 ? g->real : DTYPE_BF16;
    THAW_CHECK(thaw__graph_add_value(out, g, &made));
    cast.name = made.name;
    cast.in = &v;
    cast.out = out;
    return thaw__graph_add_node(g, &cast);
}

/* What the node is to read instead of v. */
static thaw_status in_type(value_id *v, precision_pass *p, dtype wanted, int module)
{
    if (p->b->g->value[*v].dtype == wanted)
        return THAW_OK;
    if (p->copy[*v] == NO_VALUE)
        THAW_CHECK(add_cast(&p->copy[*v], p, *v, module));
    *v = p->copy[*v];
    return THAW_OK;
}

static thaw_status visit(precision_pass *p, const graph_node *node)
{
    const uint32_t activations = precision_table[node->op].activations;
    graph *g = p->b->g;
    const bool narrow = leads(p->b, node) || follows(p->b, node);

    for (int i = 0; i < node->n_in; i++) {
        const value_id v = node->in[i];

        if (v != NO_VALUE && ((activations & OP_IN(i)) || g->value[v].dtype == DTYPE_BF16))
            THAW_CHECK(in_type(&node->in[i], p, narrow ? DTYPE_BF16 : g->real, node->module));
    }
    for (int j = 0; j < node->n_out; j++)
        g->value[node->out[j]].producer = (int32_t)g->n_nodes;
    if (narrow)
        g->value[node->out[0]].dtype = DTYPE_BF16;
    return thaw__graph_add_node(g, node);
}

/* The answer is real whatever made it. */
static thaw_status end_real(precision_pass *p)
{
    plan_build *b = p->b;

    return in_type(&b->output, p, b->g->real, -1);
}

thaw_status thaw__plan_precision(plan_build *b)
{
    graph *g = b->g;
    const size_t n_nodes = g->n_nodes, n_values = g->n_values;
    precision_pass p = {.b = b};
    graph_node *node;

    if (b->request->bf16 == BF16_NONE || g->real != DTYPE_F32)
        return THAW_OK;
    p.copy = region_alloc(g->region, n_values, sizeof *p.copy);
    node = region_alloc(g->region, n_nodes, sizeof *node);
    if (!p.copy || !node)
        return thaw_fail(THAW_E_NOMEM, "no memory for a plan of %zu nodes", n_nodes);
    for (size_t v = 0; v < n_values; v++)
        p.copy[v] = NO_VALUE;
    memcpy(node, g->node, n_nodes * sizeof *node);
    g->n_nodes = 0;
    for (size_t k = 0; k < n_nodes; k++)
        THAW_CHECK(visit(&p, &node[k]));
    THAW_CHECK(end_real(&p));
    g->n_forward = (int)g->n_nodes;
    return THAW_OK;
}

int plan_count_bf16(const plan *p)
{
    int n = 0;

    for (int s = p->n_once; s < p->n_once + p->n_forward; s++)
        n += p->step[s].op != OP_CAST && p->step[s].out[0] >= 0 &&
             p->slot[p->step[s].out[0]].dtype == DTYPE_BF16;
    return n;
}
