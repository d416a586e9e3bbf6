/*
 * vit.c - vision transformers (Dosovitskiy et al., 2021) with the names and structure of
 * ViTForImageClassification: patches, class token and positions, blocks that normalise first, and a
 * head on the class token.
 *
 * Of the last block only the class token is read, so only its query, projection and perceptron are
 * made there: the same numbers for less work.
 */
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct vit_shape {
    const char *arch;
    int64_t patch, hidden, layers, heads;
    double eps;
} shapes[] = {
    {"vit", 16, 768, 12, 12, 1e-12}, /* as in Hugging Face's configuration */
    {"vit_b_16", 16, 768, 12, 12, 1e-6},
    {"vit_b_32", 32, 768, 12, 12, 1e-6},
    {"vit_tiny_patch16_224", 16, 192, 12, 3, 1e-6},
    {"vit_small_patch16_224", 16, 384, 12, 6, 1e-6},
    {"vit_base_patch16_224", 16, 768, 12, 12, 1e-6},
};

/* Uniform numbers with the deviation of 0.02 that transformers start with. */
#define START_BOUND 0.034641016151377546 /* 0.02 * sqrt(3) */

/* ----------------------------------------------------------------------------------------------
 * configuration */

static const struct vit_shape *find_shape(const char *arch)
{
    for (size_t i = 0; i < THAW_COUNT(shapes); i++)
        if (strcmp(shapes[i].arch, arch) == 0)
            return &shapes[i];
    return &shapes[0];
}

static void fill_sizes(model_config *c, const struct vit_shape *s)
{
    const struct {
        int64_t *to, from;
    } size[] = {{&c->channels, 3},
                {&c->vit.patch, s->patch},
                {&c->vit.hidden, s->hidden},
                {&c->vit.layers, s->layers},
                {&c->vit.heads, s->heads}};

    if (c->height == 0)
        c->height = c->width = 224;
    for (size_t i = 0; i < THAW_COUNT(size); i++)
        if (*size[i].to == 0)
            *size[i].to = size[i].from;
    if (c->vit.inner == 0)
        c->vit.inner = 4 * THAW_MIN(c->vit.hidden, (int64_t)1 << 20);
    if (c->vit.eps == 0)
        c->vit.eps = s->eps;
}

static thaw_status check_sizes(const model_config *c)
{
    const struct {
        const char *what;
        int64_t value, most;
    } size[] = {{"the patch size", c->vit.patch, 1024},
                {"the hidden size", c->vit.hidden, 65536},
                {"the intermediate size", c->vit.inner, 1000000},
                {"the number of hidden layers", c->vit.layers, 1000},
                {"the number of attention heads", c->vit.heads, 65536}};

    for (size_t i = 0; i < THAW_COUNT(size); i++)
        if (size[i].value < 1 || size[i].value > size[i].most)
            return thaw_fail(THAW_E_RANGE, "%s must be between 1 and %lld, not %lld", size[i].what,
                             (long long)size[i].most, (long long)size[i].value);
    if (!(c->vit.eps > 0 && c->vit.eps <= 1))
        return thaw_fail(THAW_E_RANGE, "layer_norm_eps must be above 0 and at most 1");
    if (c->vit.hidden % c->vit.heads != 0)
        return thaw_fail(THAW_E_RANGE,
                         "a hidden size of %lld cannot be shared by %lld attention heads",
                         (long long)c->vit.hidden, (long long)c->vit.heads);
    if (c->height % c->vit.patch != 0 || c->width % c->vit.patch != 0)
        return thaw_fail(THAW_E_SHAPE,
                         "images of %lld x %lld cannot be cut into patches of %lld x %lld; choose "
                         "an image size that is a multiple of %lld, such as %lld, or another "
                         "'patch_size'",
                         (long long)c->height, (long long)c->width, (long long)c->vit.patch,
                         (long long)c->vit.patch, (long long)c->vit.patch,
                         (long long)(THAW_MAX(c->height / c->vit.patch, 1) * c->vit.patch));
    return THAW_OK;
}

/* Sizes say everything from here on, so that every one of these networks is a "vit". */
thaw_status vit_complete(model_config *c)
{
    fill_sizes(c, find_shape(c->arch));
    THAW_CHECK(check_sizes(c));
    memcpy(c->arch, shapes[0].arch, strlen(shapes[0].arch) + 1);
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * layers */

static model_tensor spread(const model_builder *b, shape s)
{
    return (model_tensor){.shape = s, .dtype = b->real, .bound = START_BOUND};
}

static model_tensor filled(const model_builder *b, int64_t n, double with)
{
    return (model_tensor){.shape = shape_1(n), .dtype = b->real, .fill = with};
}

static value_id norm(model_builder *b, const char *path, value_id x)
{
    const model_config *c = &b->model->config;
    const op_attrs attrs = {.norm = {.eps = c->vit.eps}};
    value_id in[3];

    in[0] = x;
    in[1] = layer_tensor(b, path, "weight", filled(b, c->vit.hidden, 1));
    in[2] = layer_tensor(b, path, "bias", filled(b, c->vit.hidden, 0));
    return layer_op(b, OP_LAYER_NORM, &attrs, path, 3, in);
}

static value_id dense(model_builder *b, const char *path, value_id x, int64_t from, int64_t to,
                      bool head)
{
    model_tensor weight = spread(b, shape_2(to, from)), bias = filled(b, to, 0);
    value_id in[3];

    weight.head = bias.head = head;
    in[0] = x;
    in[1] = layer_tensor(b, path, "weight", weight);
    in[2] = layer_tensor(b, path, "bias", bias);
    return layer_op(b, OP_LINEAR, NULL, path, 3, in);
}

static value_id class_token(model_builder *b, const char *path, value_id x)
{
    const op_attrs attrs = {.token = {.index = 0}};

    return layer_op(b, OP_TOKEN, &attrs, path, 1, &x);
}

/* image [B, H, W, C] -> [B, 1 + H W / patch^2, hidden] */
static value_id embed(model_builder *b, value_id image)
{
    static const char path[] = "vit.embeddings";
    const model_config *c = &b->model->config;
    const int64_t patch = c->vit.patch, hidden = c->vit.hidden;
    const int64_t rows = c->height / patch, columns = c->width / patch;
    const char *const projection = "vit.embeddings.patch_embeddings.projection";
    const shape all = shape_of(3, (const int64_t[]){1, 1 + rows * columns, hidden});
    model_tensor position = spread(b, all);
    value_id in[3], patched[3] = {image};
    op_attrs attrs = {.conv = {.dilation = {1, 1}, .groups = 1}};

    attrs.conv.stride[0] = attrs.conv.stride[1] = (int32_t)patch;
    in[1] =
        layer_tensor(b, path, "cls_token", spread(b, shape_of(3, (const int64_t[]){1, 1, hidden})));
    position.grid[0] = rows;
    position.grid[1] = columns;
    in[2] = layer_tensor(b, path, "position_embeddings", position);
    patched[1] = layer_tensor(b, projection, "weight",
                              spread(b, shape_4(hidden, c->channels, patch, patch)));
    patched[2] = layer_tensor(b, projection, "bias", filled(b, hidden, 0));
    in[0] = layer_op(b, OP_CONV2D, &attrs, projection, 3, patched);
    return layer_op(b, OP_TOKENS, NULL, path, 3, in);
}

/* x: tokens of the block; from: those whose result is wanted, x or its class token. */
static value_id attend(model_builder *b, const char *block, value_id x, bool class_only)
{
    const int64_t hidden = b->model->config.vit.hidden;
    const op_attrs attrs = {.attention = {.heads = (int32_t)b->model->config.vit.heads}};
    const char *const path = layer_path(b, block, "attention.attention");
    value_id q = class_only ? class_token(b, layer_path(b, path, "token"), x) : x;
    value_id in[3];

    in[0] = dense(b, layer_path(b, path, "query"), q, hidden, hidden, false);
    in[1] = dense(b, layer_path(b, path, "key"), x, hidden, hidden, false);
    in[2] = dense(b, layer_path(b, path, "value"), x, hidden, hidden, false);
    x = layer_op(b, OP_ATTENTION, &attrs, path, 3, in);
    return dense(b, layer_path(b, block, "attention.output.dense"), x, hidden, hidden, false);
}

static value_id perceptron(model_builder *b, const char *block, value_id x)
{
    const model_config *c = &b->model->config;
    const op_attrs attrs = {.gelu = {.tanh = c->vit.tanh_gelu}};

    x = dense(b, layer_path(b, block, "intermediate.dense"), x, c->vit.hidden, c->vit.inner, false);
    x = layer_op(b, OP_GELU, &attrs, layer_path(b, block, "intermediate.gelu"), 1, &x);
    return dense(b, layer_path(b, block, "output.dense"), x, c->vit.inner, c->vit.hidden, false);
}

static value_id block(model_builder *b, int64_t number, value_id x, bool class_only)
{
    char path[48];
    value_id branch;

    (void)snprintf(path, sizeof path, "vit.encoder.layer.%d", (int)number);
    branch = norm(b, layer_path(b, path, "layernorm_before"), x);
    branch = attend(b, path, branch, class_only);
    if (class_only)
        x = class_token(b, layer_path(b, path, "token"), x);
    x = layer_add(b, layer_path(b, path, "attention.add"), branch, x);
    branch = norm(b, layer_path(b, path, "layernorm_after"), x);
    branch = perceptron(b, path, branch);
    return layer_add(b, layer_path(b, path, "add"), branch, x);
}

value_id vit_build(model_builder *b, value_id image)
{
    const model_config *c = &b->model->config;
    value_id x = embed(b, image);

    for (int64_t i = 0; i < c->vit.layers; i++)
        x = block(b, i, x, i == c->vit.layers - 1);
    x = norm(b, "vit.layernorm", x);
    x = layer_dropout(b, "dropout", x, c->dropout);
    return dense(b, "classifier", x, c->vit.hidden, c->n_classes, true);
}
