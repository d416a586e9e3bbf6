/*
 * graph.c - building and copying graphs.
 *
 * The idea: values and nodes are two growing arrays in order of creation, so that every node's
 * inputs have smaller numbers than its outputs and a walk over the array is a topological order.
 * Nothing is ever removed; who wants less leaves it out when reading.
 */
#include "graph/graph.h"

#include <string.h>

static thaw_status out_of_memory(const char *name)
{
    return thaw_fail(THAW_E_NOMEM, "no memory for '%s' in the graph", name);
}

thaw_status graph_create(graph **out, dtype real)
{
    thaw_status status = THAW_OK;
    graph *g = NULL;

    if (real != DTYPE_F32 && real != DTYPE_F64)
        return thaw_fail(THAW_E_SUPPORT, "a graph computes in f32 or f64, not in %s",
                         dtype_name(real));
    g = thaw__new(1, sizeof *g);
    if (!g)
        return thaw_fail(THAW_E_NOMEM, "no memory for a graph");
    g->real = real;
    g->loss = NO_VALUE;
    THAW_TRY(region_create(&g->region));
    *out = g;
    g = NULL;
done:
    graph_destroy(g);
    return status;
}

void graph_destroy(graph *g)
{
    if (!g)
        return;
    thaw__free(g->value);
    thaw__free(g->node);
    region_destroy(g->region);
    thaw__free(g);
}

thaw_status thaw__graph_add_value(value_id *out, graph *g, const graph_value *v)
{
    graph_value value = *v;
    size_t bytes;

    if (g->n_values >= INT32_MAX)
        return thaw_fail(THAW_E_LIMIT, "more than %d values in the graph", INT32_MAX);
    if (shape_is_bound(&v->shape))
        THAW_CHECK(shape_bytes(&bytes, &v->shape, v->dtype));
    value.name = region_strdup(g->region, v->name);
    if (!value.name)
        return out_of_memory(v->name);
    THAW_CHECK(thaw__reserve(&g->value, &g->cap_values, g->n_values + 1, sizeof *g->value));
    g->value[g->n_values] = value;
    *out = (value_id)g->n_values++;
    return THAW_OK;
}

thaw_status graph_input(value_id *out, graph *g, const char *name, dtype d, const shape *s)
{
    const graph_value value = {.kind = VALUE_INPUT,
                               .index = g->n_inputs,
                               .producer = -1,
                               .dtype = d,
                               .shape = *s,
                               .name = name};

    THAW_CHECK(thaw__graph_add_value(out, g, &value));
    g->n_inputs++;
    return THAW_OK;
}

thaw_status graph_param(value_id *out, graph *g, int index, const char *name, dtype d,
                        const shape *s)
{
    const graph_value value = {
        .kind = VALUE_PARAM, .index = index, .producer = -1, .dtype = d, .shape = *s, .name = name};

    char a[128], b[128];

    if (index < 0 || !shape_is_bound(s))
        return thaw_fail(THAW_E_SHAPE, "tensor '%s', number %d, has the shape %s", name, index,
                         shape_format(a, s));
    for (size_t v = 0; v < g->n_values; v++) {
        const graph_value *known = &g->value[v];

        if (known->kind != VALUE_PARAM || known->index != index)
            continue;
        if (known->dtype != d || !shape_equal(&known->shape, s))
            return thaw_fail(THAW_E_SHAPE, "tensor %d is '%s' %s and '%s' %s", index, known->name,
                             shape_format(a, &known->shape), name, shape_format(b, s));
        *out = (value_id)v;
        return THAW_OK;
    }
    THAW_CHECK(thaw__graph_add_value(out, g, &value));
    g->n_params = THAW_MAX(g->n_params, index + 1);
    return THAW_OK;
}

/* in and out are copied into the graph. */
thaw_status thaw__graph_add_node(graph *g, const graph_node *n)
{
    graph_node node = *n;

    THAW_CHECK(thaw__reserve(&g->node, &g->cap_nodes, g->n_nodes + 1, sizeof *g->node));
    node.name = region_strdup(g->region, n->name);
    node.in = region_alloc(g->region, (size_t)n->n_in, sizeof *node.in);
    node.out = region_alloc(g->region, (size_t)n->n_out, sizeof *node.out);
    if (!node.name || !node.in || !node.out)
        return out_of_memory(n->name);
    memcpy(node.in, n->in, (size_t)n->n_in * sizeof *node.in);
    memcpy(node.out, n->out, (size_t)n->n_out * sizeof *node.out);
    g->node[g->n_nodes++] = node;
    return THAW_OK;
}

/* Every input is there or may be left out. */
static thaw_status check_inputs(const graph *g, op_kind op, const char *name, int n_in,
                                const value_id *in)
{
    const op_info *info = &op_table[op];
    char input[16];

    if (n_in < info->least_inputs || n_in > info->most_inputs)
        return thaw_fail(THAW_E_SHAPE, "layer '%s': %s takes %d to %d inputs, not %d", name,
                         info->name, info->least_inputs, info->most_inputs, n_in);
    for (int i = 0; i < n_in; i++) {
        if (in[i] == NO_VALUE && i >= info->least_inputs)
            continue;
        if (in[i] < 0 || (size_t)in[i] >= g->n_values)
            return thaw_fail(THAW_E_SHAPE, "layer '%s': %s needs its input '%s'", name, info->name,
                             op_input_name(input, op, i));
    }
    return THAW_OK;
}

thaw_status graph_op(value_id *out, graph *g, op_kind op, const op_attrs *attrs, const char *name,
                     int module, int n_in, const value_id *in)
{
    static const op_attrs no_attrs;
    const op_info *info = &op_table[op];
    shape in_shape[OP_MAX_INPUTS], out_shape[OP_MAX_OUTPUTS];
    dtype in_dtype[OP_MAX_INPUTS], out_dtype[OP_MAX_OUTPUTS];
    value_id made[OP_MAX_OUTPUTS], given[OP_MAX_INPUTS];
    graph_node node = {.op = op,
                       .forward = -1,
                       .module = module,
                       .attrs = attrs ? *attrs : no_attrs,
                       .name = name,
                       .n_in = n_in,
                       .n_out = info->n_outputs,
                       .in = given,
                       .out = made};
    const size_t n_values = g->n_values;
    thaw_status status = THAW_OK;

    THAW_CHECK(check_inputs(g, op, name, n_in, in));
    for (int i = 0; i < n_in; i++) {
        given[i] = in[i];
        in_shape[i] = in[i] == NO_VALUE ? (shape){.rank = -1} : g->value[in[i]].shape;
        in_dtype[i] = in[i] == NO_VALUE ? g->real : g->value[in[i]].dtype;
    }
    THAW_CHECK(graph_infer(out_shape, out_dtype, op, &node.attrs, name, g->real, n_in, in_shape,
                           in_dtype));
    for (int j = 0; j < info->n_outputs; j++) {
        const graph_value value = {.kind = VALUE_NODE,
                                   .index = -1,
                                   .producer = (int32_t)g->n_nodes,
                                   .dtype = out_dtype[j],
                                   .shape = out_shape[j],
                                   .name = name};

        THAW_TRY(thaw__graph_add_value(&made[j], g, &value));
    }
    THAW_TRY(thaw__graph_add_node(g, &node));
    g->n_forward = (int)g->n_nodes;
    memcpy(out, made, (size_t)info->n_outputs * sizeof *out);
done:
    if (status != THAW_OK)
        g->n_values = n_values;
    return status;
}

static shape bind_shape(const shape *s, int64_t batch, int64_t length)
{
    shape bound = *s;

    if (bound.rank > 0 && bound.dim[0] == DIM_BATCH && batch > 0)
        bound.dim[0] = batch;
    if (bound.rank > 1 && bound.dim[1] == DIM_LENGTH && length > 0)
        bound.dim[1] = length;
    return bound;
}

/* Copy value v of `from`, and its node with all outputs if it is a node's first one. */
static thaw_status clone_value(graph *g, const graph *from, size_t v, int64_t batch, int64_t length)
{
    const graph_value *value = &from->value[v];
    const shape bound = bind_shape(&value->shape, batch, length);
    const graph_node *node;
    value_id made[OP_MAX_OUTPUTS];

    if (value->kind == VALUE_INPUT)
        return graph_input(made, g, value->name, value->dtype, &bound);
    if (value->kind == VALUE_PARAM)
        return graph_param(made, g, value->index, value->name, value->dtype, &value->shape);
    node = &from->node[value->producer];
    if (node->out[0] != (value_id)v)
        return THAW_OK;
    return graph_op(made, g, node->op, &node->attrs, node->name, node->module, node->n_in,
                    node->in);
}

thaw_status graph_clone(graph **out, const graph *from, int64_t batch, int64_t length)
{
    thaw_status status = THAW_OK;
    graph *g = NULL;

    THAW_ASSERT((size_t)from->n_forward == from->n_nodes);
    if (batch < 0 || length < 0)
        return thaw_fail(THAW_E_RANGE, "a batch of %lld samples of length %lld", (long long)batch,
                         (long long)length);
    THAW_TRY(graph_create(&g, from->real));
    for (size_t v = 0; v < from->n_values; v++)
        THAW_TRY(clone_value(g, from, v, batch, length));
    *out = g;
    g = NULL;
done:
    graph_destroy(g);
    return status;
}
