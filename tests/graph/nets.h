/*
 * nets.h - small networks built by hand, for the tests of graphs and plans.
 *
 * Parameters are numbered in order of making, buffers from NET_BUFFERS on; each layer with
 * parameters is a module of its own, numbered in order of making. Everything is checked on the way:
 * a failing call ends the test case.
 */
#ifndef THAW_TESTS_NETS_H
#define THAW_TESTS_NETS_H

#include "check.h"

#include "graph/graph.h"

#define NET_BUFFERS 512
#define NET_TENSORS 1024

typedef struct net {
    graph *g;
    int n_params, n_buffers, n_modules;
} net;

static inline net net_create(dtype real)
{
    net n = {0};

    CHECK_OK(graph_create(&n.g, real));
    return n;
}

static inline void net_destroy(net *n)
{
    graph_destroy(n->g);
    *n = (net){0};
}

static inline value_id net_input(net *n, const char *name, dtype d, shape s)
{
    value_id v = NO_VALUE;

    CHECK_OK(graph_input(&v, n->g, name, d, &s));
    return v;
}

static inline value_id net_image(net *n, int64_t size, int64_t channels)
{
    return net_input(n, "image", n->g->real, shape_4(DIM_BATCH, size, size, channels));
}

static inline value_id net_tensor(net *n, const char *layer, const char *name, bool buffer, dtype d,
                                  shape s)
{
    const int index = buffer ? NET_BUFFERS + n->n_buffers++ : n->n_params++;
    char full[128];
    value_id v = NO_VALUE;

    snprintf(full, sizeof full, "%s.%s", layer, name);
    CHECK_OK(graph_param(&v, n->g, index, full, d, &s));
    return v;
}

static inline value_id net_param(net *n, const char *layer, const char *name, shape s)
{
    return net_tensor(n, layer, name, false, n->g->real, s);
}

/* The first output. */
static inline value_id net_op(net *n, op_kind op, const op_attrs *attrs, const char *name,
                              int module, int n_in, const value_id *in)
{
    value_id out[OP_MAX_OUTPUTS] = {NO_VALUE};

    CHECK_OK(graph_op(out, n->g, op, attrs, name, module, n_in, in));
    return out[0];
}

static inline value_id net_map(net *n, op_kind op, const char *name, value_id src)
{
    return net_op(n, op, NULL, name, -1, 1, &src);
}

static inline value_id net_add(net *n, const char *name, value_id a, value_id b)
{
    return net_op(n, OP_ADD, NULL, name, -1, 2, (value_id[]){a, b});
}

static inline int64_t net_channels(const net *n, value_id v)
{
    const shape *s = &n->g->value[v].shape;

    return s->dim[s->rank - 1];
}

static inline value_id net_linear(net *n, const char *name, value_id src, int64_t features)
{
    value_id in[3] = {src};

    in[1] = net_param(n, name, "weight", shape_2(features, net_channels(n, src)));
    in[2] = net_param(n, name, "bias", shape_1(features));
    return net_op(n, OP_LINEAR, NULL, name, n->n_modules++, 3, in);
}

static inline op_attrs net_conv_attrs(int32_t stride, int32_t pad, int32_t dilation, int32_t groups)
{
    op_attrs a;

    memset(&a, 0, sizeof a);
    a.conv.stride[0] = a.conv.stride[1] = stride;
    a.conv.pad[0] = a.conv.pad[1] = pad;
    a.conv.dilation[0] = a.conv.dilation[1] = dilation;
    a.conv.groups = groups;
    return a;
}

static inline op_attrs net_pool_attrs(int32_t kernel, int32_t stride, int32_t pad)
{
    op_attrs a;

    memset(&a, 0, sizeof a);
    a.pool.kernel[0] = a.pool.kernel[1] = kernel;
    a.pool.stride[0] = a.pool.stride[1] = stride;
    a.pool.pad[0] = a.pool.pad[1] = pad;
    return a;
}

static inline op_attrs net_dropout_attrs(double p)
{
    op_attrs a;

    memset(&a, 0, sizeof a);
    a.dropout.p = p;
    return a;
}

/* Without bias; padded so that stride 1 keeps the size. */
static inline value_id net_conv(net *n, const char *name, value_id src, int64_t channels,
                                int64_t kernel, int32_t stride)
{
    const op_attrs attrs = net_conv_attrs(stride, (int32_t)(kernel / 2), 1, 1);
    value_id in[2] = {src};

    in[1] = net_param(n, name, "weight", shape_4(channels, net_channels(n, src), kernel, kernel));
    return net_op(n, OP_CONV2D, &attrs, name, n->n_modules++, 2, in);
}

static inline value_id net_norm(net *n, const char *name, value_id src)
{
    const shape channels = shape_1(net_channels(n, src));
    value_id in[6] = {src};
    op_attrs attrs;

    memset(&attrs, 0, sizeof attrs);
    attrs.norm.eps = 1e-5;
    attrs.norm.momentum = 0.1;
    in[1] = net_param(n, name, "weight", channels);
    in[2] = net_param(n, name, "bias", channels);
    in[3] = net_tensor(n, name, "running_mean", true, n->g->real, channels);
    in[4] = net_tensor(n, name, "running_var", true, n->g->real, channels);
    in[5] = net_tensor(n, name, "num_batches_tracked", true, DTYPE_I64, shape_of(0, NULL));
    return net_op(n, OP_BATCH_NORM_TRAIN, &attrs, name, n->n_modules++, 6, in);
}

/* A linear layer on given parameters: for weights with several uses. */
static inline value_id net_linear_on(net *n, const char *name, value_id src, value_id weight)
{
    return net_op(n, OP_LINEAR, NULL, name, -1, 2, (value_id[]){src, weight});
}

static inline value_id net_cross_entropy(net *n, value_id logits)
{
    op_attrs attrs;
    value_id target;

    memset(&attrs, 0, sizeof attrs);
    attrs.loss.ignore = -100;
    target = net_input(n, "target", DTYPE_I32, shape_1(n->g->value[logits].shape.dim[0]));
    return net_op(n, OP_CROSS_ENTROPY, &attrs, "loss", -1, 2, (value_id[]){logits, target});
}

/* ----------------------------------------------------------------------------------------------
 * whole networks; the result is the output */

/* fc1 relu1 fc2 relu2 fc3 on rows of 8 */
static inline value_id net_mlp(net *n)
{
    value_id x = net_input(n, "rows", n->g->real, shape_2(DIM_BATCH, 8));

    x = net_map(n, OP_RELU, "relu1", net_linear(n, "fc1", x, 16));
    x = net_map(n, OP_RELU, "relu2", net_linear(n, "fc2", x, 12));
    return net_linear(n, "fc3", x, 4);
}

/* conv norm (relu conv norm) … with a shortcut, then relu; the first 3 × 3 has the stride. */
static inline value_id net_block(net *n, const char *name, value_id x, int n_convs,
                                 const int64_t *width, const int64_t *kernel, int32_t stride)
{
    const bool fits = stride == 1 && net_channels(n, x) == width[n_convs - 1];
    value_id main = x, shortcut = x;
    int32_t step = stride;
    char layer[64];

    for (int i = 0; i < n_convs; i++) {
        snprintf(layer, sizeof layer, "%s.conv%d", name, i + 1);
        main = net_conv(n, layer, main, width[i], kernel[i], kernel[i] == 3 ? step : 1);
        step = kernel[i] == 3 ? 1 : step;
        snprintf(layer, sizeof layer, "%s.bn%d", name, i + 1);
        main = net_norm(n, layer, main);
        if (i + 1 < n_convs)
            main = net_map(n, OP_RELU, name, main);
    }
    if (!fits) {
        snprintf(layer, sizeof layer, "%s.downsample.0", name);
        shortcut = net_conv(n, layer, x, width[n_convs - 1], 1, stride);
        snprintf(layer, sizeof layer, "%s.downsample.1", name);
        shortcut = net_norm(n, layer, shortcut);
    }
    return net_map(n, OP_RELU, name, net_add(n, name, main, shortcut));
}

static inline value_id net_max_pool(net *n, value_id x)
{
    const op_attrs attrs = net_pool_attrs(3, 2, 1);

    return net_op(n, OP_MAX_POOL2D, &attrs, "maxpool", -1, 1, &x);
}

static inline value_id net_head(net *n, value_id x, int64_t classes)
{
    return net_linear(n, "fc", net_map(n, OP_GLOBAL_AVG_POOL, "avgpool", x), classes);
}

/* Two basic blocks on images of 16 × 16. */
static inline value_id net_small_resnet(net *n)
{
    static const int64_t kernel[] = {3, 3};
    value_id x = net_image(n, 16, 3);

    x = net_map(n, OP_RELU, "relu", net_norm(n, "bn1", net_conv(n, "conv1", x, 8, 3, 1)));
    x = net_max_pool(n, x);
    x = net_block(n, "layer1", x, 2, (int64_t[]){8, 8}, kernel, 1);
    x = net_block(n, "layer2", x, 2, (int64_t[]){16, 16}, kernel, 2);
    return net_head(n, x, 5);
}

/* resnet50 (blocks 3 4 6 3) or resnet101 (3 4 23 3) on images of 224 × 224. */
static inline value_id net_resnet(net *n, const int blocks[4])
{
    static const int64_t kernel[] = {1, 3, 1};
    value_id x = net_image(n, 224, 3);
    char name[32];

    x = net_map(n, OP_RELU, "relu", net_norm(n, "bn1", net_conv(n, "conv1", x, 64, 7, 2)));
    x = net_max_pool(n, x);
    for (int stage = 0; stage < 4; stage++)
        for (int i = 0; i < blocks[stage]; i++) {
            const int64_t w = (int64_t)64 << stage;

            snprintf(name, sizeof name, "layer%d.%d", stage + 1, i);
            x = net_block(n, name, x, 3, (int64_t[]){w, w, 4 * w}, kernel,
                          stage > 0 && i == 0 ? 2 : 1);
        }
    return net_head(n, x, 1000);
}

#endif
