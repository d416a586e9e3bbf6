/*
 * mobile.c - networks of inverted residuals (Sandler et al., 2018): a wide depthwise convolution
 * between two narrow pointwise ones. MobileNetV2 under torchvision's names, and EfficientNet-Lite
 * (Tan and Le, 2019, without squeeze-and-excite) under timm's, each one row of numbers.
 *
 * What differs between the two is in the table: names of the layers, padding, norms.
 */
#include "model/model.h"

#include <stdio.h>
#include <string.h>

#define STAGES 7
#define STEM   32
#define TOP    1280

/*
 * What the networks of one kind share. The authors' training of EfficientNet-Lite moves running
 * statistics by a hundredth of each batch's, over hundreds of epochs. A fine-tune is over long
 * before they have followed the weights at that pace, so the share here is timm's and PyTorch's;
 * `norm_momentum` of a configuration is another one.
 */
struct kind {
    int kernel[STAGES];
    bool flat; /* blocks are numbered through, as torchvision does, and named by position */
    bool same; /* padding as in TensorFlow */
    norm_layer norm;
};
static const struct kind v2 = {{3, 3, 3, 3, 3, 3, 3}, true, false, {1e-5, 0.1}};
static const struct kind lite = {{3, 3, 5, 3, 5, 5, 3}, false, true, {1e-3, 0.1}};
static const int strides[STAGES] = {1, 2, 2, 2, 1, 2, 1};

static const struct mobile_shape {
    const char *arch;
    const struct kind *kind;
    int64_t side; /* of the images it was trained on */
    int64_t widths[STAGES], blocks[STAGES];
} shapes[] = {
    {"mobilenet_v2", &v2, 224, {16, 24, 32, 64, 96, 160, 320}, {1, 2, 3, 4, 3, 3, 1}},
    {"efficientnet_lite0", &lite, 224, {16, 24, 40, 80, 112, 192, 320}, {1, 2, 2, 3, 3, 4, 1}},
    {"efficientnet_lite1", &lite, 240, {16, 24, 40, 80, 112, 192, 320}, {1, 3, 3, 4, 4, 5, 1}},
    {"efficientnet_lite2", &lite, 260, {16, 24, 48, 88, 120, 208, 352}, {1, 3, 3, 4, 4, 5, 1}},
};
#define EXPANSION 6 /* of the inner channels, in all stages but the first */

static const struct mobile_shape *find_shape(const char *arch)
{
    for (size_t i = 0; i < THAW_COUNT(shapes); i++)
        if (strcmp(shapes[i].arch, arch) == 0)
            return &shapes[i];
    return NULL;
}

/* A convolution, its norm and, where `relu` names it, its activation. */
typedef struct unit {
    const char *conv, *norm, *relu;
} unit;

/* Names of the three units of a block, [0] without expansion, [1] with it. */
static const unit flat_units[2][3] = {
    {{NULL, NULL, NULL}, {"conv.0.0", "conv.0.1", "conv.0.2"}, {"conv.1", "conv.2", NULL}},
    {{"conv.0.0", "conv.0.1", "conv.0.2"},
     {"conv.1.0", "conv.1.1", "conv.1.2"},
     {"conv.2", "conv.3", NULL}}};
static const unit staged_units[2][3] = {
    {{NULL, NULL, NULL}, {"conv_dw", "bn1", "act1"}, {"conv_pw", "bn2", NULL}},
    {{"conv_pw", "bn1", "act1"}, {"conv_dw", "bn2", "act2"}, {"conv_pwl", "bn3", NULL}}};

static value_id add_unit(model_builder *b, const struct mobile_shape *s, const char *path,
                         const unit *u, value_id x, conv_layer c)
{
    c.same = s->kind->same;
    c.pad = s->kind->same ? 0 : c.kernel / 2;
    x = layer_conv(b, layer_path(b, path, u->conv), x, c);
    x = layer_batch_norm(b, layer_path(b, path, u->norm), x, s->kind->norm);
    return u->relu ? layer_plain(b, OP_RELU6, layer_path(b, path, u->relu), x) : x;
}

static value_id block(model_builder *b, const struct mobile_shape *s, const char *path, value_id x,
                      int64_t in, int stage, int stride)
{
    const unit *const u = (s->kind->flat ? flat_units : staged_units)[stage > 0];
    const int64_t out = b->model->config.widths[stage], inner = stage > 0 ? EXPANSION * in : in;
    value_id branch = x;

    if (stage > 0)
        branch = add_unit(b, s, path, &u[0], branch,
                          (conv_layer){.out = inner, .kernel = 1, .stride = 1});
    branch = add_unit(
        b, s, path, &u[1], branch,
        (conv_layer){
            .out = inner, .kernel = s->kind->kernel[stage], .stride = stride, .groups = inner});
    branch =
        add_unit(b, s, path, &u[2], branch, (conv_layer){.out = out, .kernel = 1, .stride = 1});
    return stride == 1 && in == out ? layer_add(b, layer_path(b, path, "add"), branch, x) : branch;
}

static value_id all_blocks(model_builder *b, const struct mobile_shape *s, value_id x)
{
    const model_config *const c = &b->model->config;
    int64_t in = STEM;
    int number = 1;
    char path[40];

    for (int stage = 0; stage < STAGES; stage++)
        for (int64_t i = 0; i < c->blocks[stage]; i++, number++) {
            if (s->kind->flat)
                (void)snprintf(path, sizeof path, "features.%d", number);
            else
                (void)snprintf(path, sizeof path, "blocks.%d.%d", stage, (int)i);
            x = block(b, s, path, x, in, stage, i == 0 ? strides[stage] : 1);
            in = c->widths[stage];
        }
    return x;
}

/* In torchvision's names, the last convolution has the number after the last block's. */
static const char *top_name(char out[40], const model_config *c, const char *leaf)
{
    int64_t number = 1;

    for (int i = 0; i < STAGES; i++)
        number += c->blocks[i];
    (void)snprintf(out, 40, "features.%d.%s", (int)number, leaf);
    return out;
}

thaw_status mobile_complete(model_config *c)
{
    const struct mobile_shape *const s = find_shape(c->arch);

    if (c->channels == 0)
        c->channels = 3;
    if (c->height == 0)
        c->height = c->width = s->side;
    if (c->n_widths > STAGES || c->n_blocks > STAGES)
        return thaw_fail(THAW_E_RANGE,
                         "'%s' has %d stages, but %d widths and %d block counts were given",
                         c->arch, STAGES, c->n_widths, c->n_blocks);
    for (int i = c->n_widths; i < STAGES; i++)
        c->widths[i] = s->widths[i];
    for (int i = c->n_blocks; i < STAGES; i++)
        c->blocks[i] = s->blocks[i];
    c->n_widths = c->n_blocks = STAGES;
    return THAW_OK;
}

value_id mobile_build(model_builder *b, value_id x)
{
    const model_config *const c = &b->model->config;
    const struct mobile_shape *const s = find_shape(c->arch);
    char conv[40], norm[40], relu[40];
    const unit flat_stem = {"features.0.0", "features.0.1", "features.0.2"};
    const unit flat_top = {top_name(conv, c, "0"), top_name(norm, c, "1"), top_name(relu, c, "2")};
    const unit staged_stem = {"conv_stem", "bn1", "act1"};
    const unit staged_top = {"conv_head", "bn2", "act2"};
    const int stride = c->small_stem ? 1 : 2;

    x = add_unit(b, s, "", s->kind->flat ? &flat_stem : &staged_stem, x,
                 (conv_layer){.out = STEM, .kernel = 3, .stride = stride});
    x = all_blocks(b, s, x);
    x = add_unit(b, s, "", s->kind->flat ? &flat_top : &staged_top, x,
                 (conv_layer){.out = TOP, .kernel = 1, .stride = 1});
    x = layer_plain(b, OP_GLOBAL_AVG_POOL, s->kind->flat ? "avgpool" : "global_pool", x);
    x = layer_dropout(b, s->kind->flat ? "classifier.0" : "dropout", x, c->dropout);
    return layer_linear(b, s->kind->flat ? "classifier.1" : "classifier", x, c->n_classes, true);
}
