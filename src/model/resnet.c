/*
 * resnet.c - residual networks with torchvision's names and structure (He et al., 2016; stride in
 * the 3×3 convolution of a bottleneck, as in torchvision's "v1.5"), and narrow ones for small
 * images.
 */
#include "model/model.h"

#include <stdio.h>
#include <string.h>

static const struct resnet_shape {
    const char *arch;
    bool bottleneck;
    int64_t blocks[4];
    int64_t groups, base; /* inner channels of a bottleneck: width · base / 64 · groups */
} shapes[] = {
    {"resnet18", false, {2, 2, 2, 2}, 1, 64},
    {"resnet34", false, {3, 4, 6, 3}, 1, 64},
    {"resnet50", true, {3, 4, 6, 3}, 1, 64},
    {"resnet101", true, {3, 4, 23, 3}, 1, 64},
    {"resnet152", true, {3, 8, 36, 3}, 1, 64},
    {"wide_resnet50_2", true, {3, 4, 6, 3}, 1, 128},
    {"wide_resnet101_2", true, {3, 4, 23, 3}, 1, 128},
    {"resnext50_32x4d", true, {3, 4, 6, 3}, 32, 4},
    {"resnext101_32x8d", true, {3, 4, 23, 3}, 32, 8},
    {"resnext101_64x4d", true, {3, 4, 23, 3}, 64, 4},
};
#define EXPANSION 4 /* a bottleneck's output has four times its inner channels */

static value_id conv_norm(model_builder *b, const char *path, const char *conv, const char *norm,
                          value_id x, conv_layer c)
{
    x = layer_conv(b, layer_path(b, path, conv), x, c);
    return layer_batch_norm(b, layer_path(b, path, norm), x, (norm_layer)NORM_LAYER_INIT);
}

static value_id relu(model_builder *b, const char *path, const char *leaf, value_id x)
{
    return layer_plain(b, OP_RELU, layer_path(b, path, leaf), x);
}

static value_id basic_block(model_builder *b, const char *path, value_id x,
                            const struct resnet_shape *s, int64_t width, int stride)
{
    (void)s;
    x = conv_norm(b, path, "conv1", "bn1", x,
                  (conv_layer){.out = width, .kernel = 3, .stride = stride, .pad = 1});
    x = relu(b, path, "relu", x);
    return conv_norm(b, path, "conv2", "bn2", x,
                     (conv_layer){.out = width, .kernel = 3, .stride = 1, .pad = 1});
}

static value_id bottleneck_block(model_builder *b, const char *path, value_id x,
                                 const struct resnet_shape *s, int64_t width, int stride)
{
    const int64_t inner = width * s->base / 64 * s->groups;

    x = conv_norm(b, path, "conv1", "bn1", x, (conv_layer){.out = inner, .kernel = 1, .stride = 1});
    x = relu(b, path, "relu", x);
    x = conv_norm(
        b, path, "conv2", "bn2", x,
        (conv_layer){.out = inner, .kernel = 3, .stride = stride, .pad = 1, .groups = s->groups});
    x = relu(b, path, "relu2", x);
    return conv_norm(b, path, "conv3", "bn3", x,
                     (conv_layer){.out = width * EXPANSION, .kernel = 1, .stride = 1});
}

static value_id residual_block(model_builder *b, const char *path, value_id x,
                               const struct resnet_shape *s, int64_t width, int64_t in, int stride)
{
    const int64_t out = s->bottleneck ? width * EXPANSION : width;
    value_id branch =
        (s->bottleneck ? bottleneck_block : basic_block)(b, path, x, s, width, stride);

    if (stride != 1 || in != out)
        x = conv_norm(b, layer_path(b, path, "downsample"), "0", "1", x,
                      (conv_layer){.out = out, .kernel = 1, .stride = stride});
    x = layer_add(b, layer_path(b, path, "add"), branch, x);
    return relu(b, path, "relu_out", x);
}

static value_id stage(model_builder *b, int number, value_id x, const struct resnet_shape *s,
                      int64_t *in)
{
    const model_config *c = &b->model->config;
    const int64_t width = c->widths[number];
    char path[40];

    for (int64_t i = 0; i < c->blocks[number]; i++) {
        (void)snprintf(path, sizeof path, "layer%d.%d", number + 1, (int)i);
        x = residual_block(b, path, x, s, width, *in, i == 0 && number > 0 ? 2 : 1);
        *in = s->bottleneck ? width * EXPANSION : width;
    }
    return x;
}

static const struct resnet_shape *find_shape(const char *arch)
{
    for (size_t i = 0; i < THAW_COUNT(shapes); i++)
        if (strcmp(shapes[i].arch, arch) == 0)
            return &shapes[i];
    return NULL;
}

thaw_status resnet_complete(model_config *c)
{
    const struct resnet_shape *s = find_shape(c->arch);
    const int64_t first = c->n_widths > 0 ? c->widths[0] : 64;

    if (c->channels == 0)
        c->channels = 3;
    if (c->height == 0)
        c->height = c->width = 224;
    if (c->n_widths > 4 || c->n_blocks > 4)
        return thaw_fail(THAW_E_RANGE,
                         "'%s' has 4 stages, but %d widths and %d block counts were given", c->arch,
                         c->n_widths, c->n_blocks);
    for (int i = c->n_widths; i < 4; i++)
        c->widths[i] = i == 0 ? first : 2 * c->widths[i - 1];
    for (int i = c->n_blocks; i < 4; i++)
        c->blocks[i] = s->blocks[i];
    for (int i = 0; i < 4 && s->bottleneck; i++)
        if (c->widths[i] > 0 && c->widths[i] * s->base % 64 != 0)
            return thaw_fail(THAW_E_RANGE, "'%s': a width of %lld is no multiple of %lld", c->arch,
                             (long long)c->widths[i], (long long)(64 / s->base));
    c->n_widths = c->n_blocks = 4;
    return THAW_OK;
}

value_id resnet_build(model_builder *b, value_id x)
{
    const model_config *c = &b->model->config;
    const struct resnet_shape *s = find_shape(c->arch);
    const conv_layer stem =
        c->small_stem ? (conv_layer){.out = c->widths[0], .kernel = 3, .stride = 1, .pad = 1}
                      : (conv_layer){.out = c->widths[0], .kernel = 7, .stride = 2, .pad = 3};
    int64_t in = c->widths[0];

    x = conv_norm(b, "", "conv1", "bn1", x, stem);
    x = layer_plain(b, OP_RELU, "relu", x);
    if (!c->small_stem)
        x = layer_max_pool(b, "maxpool", x, 3, 2, 1);
    for (int i = 0; i < 4; i++)
        x = stage(b, i, x, s, &in);
    x = layer_plain(b, OP_GLOBAL_AVG_POOL, "avgpool", x);
    x = layer_dropout(b, "dropout", x, c->dropout);
    return layer_linear(b, "fc", x, c->n_classes, true);
}
