/*
 * layers.c - the layers networks are made of: each adds its tensors, its place in the module tree
 * and its nodes.
 *
 * A builder keeps the first failure and turns everything after it into nothing, so that a network
 * reads as the list of its layers; model_create looks at the status once, at the end.
 */
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Numbers of buffers start here while the number of parameters is not known yet. */
#define BUFFER_BASE 1000000

static const char *join(model_builder *b, const char *path, const char *leaf)
{
    const size_t n = strlen(path) + strlen(leaf) + 2;
    char *name = region_alloc(b->model->region, n, 1);

    if (!name) {
        b->status = thaw_fail(THAW_E_NOMEM, "out of memory for the network");
        return NULL;
    }
    (void)snprintf(name, n, "%s%s%s", path, path[0] ? "." : "", leaf);
    return name;
}

value_id layer_tensor(model_builder *b, const char *path, const char *attribute, model_tensor t)
{
    model_tensor_list *list = t.buffer ? &b->buffers : &b->params;
    value_id v = NO_VALUE;

    t.name = b->status == THAW_OK ? join(b, path, attribute) : NULL;
    if (b->status != THAW_OK)
        return NO_VALUE;
    b->status = thaw__reserve(&list->item, &list->capacity, list->n + 1, sizeof t);
    if (b->status != THAW_OK)
        return NO_VALUE;
    list->item[list->n++] = t;
    b->status = graph_param(&v, b->model->graph, (int)list->n - 1 + (t.buffer ? BUFFER_BASE : 0),
                            t.name, t.dtype, &t.shape);
    if (b->status == THAW_OK && !t.buffer) {
        size_t elements = 0;

        b->status = shape_elements(&elements, &t.shape);
        if (b->status == THAW_OK)
            b->status = thaw_tree_add_param(b->model->tree, t.name, (int64_t)elements, false);
    }
    return v;
}

static void add_module(model_builder *b, const char *path, thaw_module_kind kind)
{
    if (b->status == THAW_OK)
        b->status = thaw_tree_add_module(NULL, b->model->tree, path, kind);
}

value_id layer_op(model_builder *b, op_kind op, const op_attrs *attrs, const char *path, int n_in,
                  const value_id *in)
{
    static const op_attrs none;
    value_id out[OP_MAX_OUTPUTS] = {NO_VALUE};

    if (b->status == THAW_OK)
        b->status = graph_op(out, b->model->graph, op, attrs ? attrs : &none, path, -1, n_in, in);
    return b->status == THAW_OK ? out[0] : NO_VALUE;
}

/* Axis of a value; 0 after a failure. */
static int64_t axis(const model_builder *b, value_id v, int from_end)
{
    const shape *s;

    if (b->status != THAW_OK)
        return 0;
    s = &b->model->graph->value[v].shape;
    return s->dim[s->rank - from_end];
}

/* Zeros such that of n inputs every stride-th one gets an output, the larger half at the end. */
static void pad_same(op_attrs *attrs, int i, int64_t n, conv_layer c)
{
    const int64_t outputs = (n + c.stride - 1) / c.stride;
    const int64_t zeros = THAW_MAX((outputs - 1) * c.stride + c.kernel - n, 0);

    attrs->conv.pad[i] = (int32_t)(zeros / 2);
    attrs->conv.pad_more[i] = (int32_t)(zeros % 2);
}

value_id layer_conv(model_builder *b, const char *path, value_id src, conv_layer c)
{
    const int64_t in = axis(b, src, 1);
    const int64_t groups = THAW_MAX(c.groups, 1);
    const double fan_out = (double)(c.out * c.kernel * c.kernel) / (double)groups;
    op_attrs attrs = {0};
    value_id input[3] = {src, NO_VALUE, NO_VALUE};

    for (int i = 0; i < 2; i++) {
        attrs.conv.stride[i] = c.stride;
        attrs.conv.pad[i] = c.pad;
        attrs.conv.dilation[i] = 1;
        if (c.same)
            pad_same(&attrs, i, axis(b, src, 3 - i), c);
    }
    attrs.conv.groups = (int32_t)groups;
    /* He et al., 2015, equation 14 for the fan out, with a uniform distribution of the same
     * variance. */
    input[1] = layer_tensor(b, path, "weight",
                            (model_tensor){.shape = shape_4(c.out, in / groups, c.kernel, c.kernel),
                                           .dtype = b->real,
                                           .bound = sqrt(6 / fan_out)});
    return layer_op(b, OP_CONV2D, &attrs, path, 2, input);
}

value_id layer_batch_norm(model_builder *b, const char *path, value_id src, norm_layer norm)
{
    const shape channels = shape_1(axis(b, src, 1));
    const shape scalar = {.rank = 0};
    const double given = b->model->config.norm_momentum;
    const op_attrs attrs = {
        .norm = {.eps = norm.eps, .momentum = given > 0 ? given : norm.momentum}};
    const model_tensor one = {.shape = channels, .dtype = b->real, .fill = 1};
    const model_tensor zero = {.shape = channels, .dtype = b->real};
    model_tensor mean = zero, variance = one;
    const model_tensor count = {.shape = scalar, .dtype = DTYPE_I64, .buffer = true};
    value_id in[6];

    mean.buffer = variance.buffer = true;
    add_module(b, path, THAW_MODULE_NORM);
    in[0] = src;
    in[1] = layer_tensor(b, path, "weight", one);
    in[2] = layer_tensor(b, path, "bias", zero);
    in[3] = layer_tensor(b, path, "running_mean", mean);
    in[4] = layer_tensor(b, path, "running_var", variance);
    in[5] = layer_tensor(b, path, "num_batches_tracked", count);
    return layer_op(b, OP_BATCH_NORM_TRAIN, &attrs, path, 6, in);
}

value_id layer_linear(model_builder *b, const char *path, value_id src, int64_t out, bool head)
{
    const int64_t in = axis(b, src, 1);
    const double bound = in > 0 ? 1 / sqrt((double)in) : 0;
    value_id input[3];

    input[0] = src;
    input[1] = layer_tensor(
        b, path, "weight",
        (model_tensor){.shape = shape_2(out, in), .dtype = b->real, .head = head, .bound = bound});
    input[2] = layer_tensor(
        b, path, "bias",
        (model_tensor){.shape = shape_1(out), .dtype = b->real, .head = head, .bound = bound});
    return layer_op(b, OP_LINEAR, NULL, path, 3, input);
}

/* Input 1 of the network, the numbers of the samples: made for the first layer that asks. */
static value_id sample_numbers(model_builder *b)
{
    const graph *g = b->model->graph;
    const shape one_each = shape_1(DIM_BATCH);
    value_id v = NO_VALUE;

    for (size_t i = 0; i < g->n_values; i++)
        if (g->value[i].kind == VALUE_INPUT && g->value[i].index == 1)
            return (value_id)i;
    if (b->status == THAW_OK)
        b->status = graph_input(&v, b->model->graph, "sample", DTYPE_I64, &one_each);
    return v;
}

value_id layer_dropout(model_builder *b, const char *path, value_id src, double p)
{
    const op_attrs attrs = {.dropout = {.p = p, .stream = hash_fnv1a(path)}};
    value_id in[2] = {src, NO_VALUE};

    if (p <= 0)
        return src;
    add_module(b, path, THAW_MODULE_DROPOUT);
    in[1] = sample_numbers(b);
    return layer_op(b, OP_DROPOUT, &attrs, path, 2, in);
}

value_id layer_max_pool(model_builder *b, const char *path, value_id src, int kernel, int stride,
                        int pad)
{
    op_attrs attrs = {0};

    for (int i = 0; i < 2; i++) {
        attrs.pool.kernel[i] = kernel;
        attrs.pool.stride[i] = stride;
        attrs.pool.pad[i] = pad;
    }
    return layer_op(b, OP_MAX_POOL2D, &attrs, path, 1, &src);
}

value_id layer_plain(model_builder *b, op_kind op, const char *path, value_id src)
{
    return layer_op(b, op, NULL, path, 1, &src);
}

value_id layer_add(model_builder *b, const char *path, value_id x, value_id y)
{
    const value_id in[2] = {x, y};

    return layer_op(b, OP_ADD, NULL, path, 2, in);
}

const char *layer_path(model_builder *b, const char *path, const char *leaf)
{
    return b->status == THAW_OK ? join(b, path, leaf) : "";
}

/* ----------------------------------------------------------------------------------------------
 * finishing */

static thaw_status gather_tensors(model_builder *b)
{
    model *m = b->model;
    const size_t n = b->params.n + b->buffers.n;

    m->tensor = region_alloc(m->region, n, sizeof *m->tensor);
    if (!m->tensor)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the network's %zu tensors", n);
    memcpy(m->tensor, b->params.item, b->params.n * sizeof *m->tensor);
    if (b->buffers.n > 0) /* a network without norms has none, and then no list */
        memcpy(m->tensor + b->params.n, b->buffers.item, b->buffers.n * sizeof *m->tensor);
    m->n_tensors = (int)n;
    m->n_params = (int)b->params.n;
    return THAW_OK;
}

/* Buffers are numbered after the parameters, nodes get the numbers of their modules. */
static void number_everything(model *m)
{
    for (size_t v = 0; v < m->graph->n_values; v++)
        if (m->graph->value[v].kind == VALUE_PARAM && m->graph->value[v].index >= BUFFER_BASE)
            m->graph->value[v].index += m->n_params - BUFFER_BASE;
    for (size_t i = 0; i < m->graph->n_nodes; i++)
        m->graph->node[i].module = thaw_tree_find_module(m->tree, m->graph->node[i].name);
    for (int i = 0; i < m->n_params; i++)
        THAW_ASSERT(strcmp(thaw_tree_param_name(m->tree, i), m->tensor[i].name) == 0);
}

thaw_status model_builder_finish(model_builder *b)
{
    THAW_CHECK(b->status);
    THAW_CHECK(thaw_tree_seal(b->model->tree));
    THAW_CHECK(gather_tensors(b));
    number_everything(b->model);
    return THAW_OK;
}
