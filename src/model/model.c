/*
 * model.c - the table of networks, and building one from its configuration.
 */
#include "model/model.h"

#include <math.h>
#include <string.h>

/* A row per network: name, layer that makes the logits, what completes its configuration, what
 * builds it. The list becomes the table and the array of names. */
#define ARCHS(X)                                                                                   \
    X("mlp", "head", mlp_complete, mlp_build)                                                      \
    X("resnet18", "fc", resnet_complete, resnet_build)                                             \
    X("resnet34", "fc", resnet_complete, resnet_build)                                             \
    X("resnet50", "fc", resnet_complete, resnet_build)                                             \
    X("resnet101", "fc", resnet_complete, resnet_build)                                            \
    X("resnet152", "fc", resnet_complete, resnet_build)                                            \
    X("wide_resnet50_2", "fc", resnet_complete, resnet_build)                                      \
    X("wide_resnet101_2", "fc", resnet_complete, resnet_build)                                     \
    X("resnext50_32x4d", "fc", resnet_complete, resnet_build)                                      \
    X("resnext101_32x8d", "fc", resnet_complete, resnet_build)                                     \
    X("resnext101_64x4d", "fc", resnet_complete, resnet_build)                                     \
    X("mobilenet_v2", "classifier.1", mobile_complete, mobile_build)                               \
    X("efficientnet_lite0", "classifier", mobile_complete, mobile_build)                           \
    X("efficientnet_lite1", "classifier", mobile_complete, mobile_build)                           \
    X("efficientnet_lite2", "classifier", mobile_complete, mobile_build)                           \
    X("vit", "classifier", vit_complete, vit_build)                                                \
    X("vit_b_16", "classifier", vit_complete, vit_build)                                           \
    X("vit_b_32", "classifier", vit_complete, vit_build)                                           \
    X("vit_tiny_patch16_224", "classifier", vit_complete, vit_build)                               \
    X("vit_small_patch16_224", "classifier", vit_complete, vit_build)                              \
    X("vit_base_patch16_224", "classifier", vit_complete, vit_build)

static const struct arch_row {
    const char *name, *head;
    thaw_status (*complete)(model_config *c);
    value_id (*build)(model_builder *b, value_id image);
} arch_table[] = {
#define ROW(name, head, complete, build) {name, head, complete, build},
    ARCHS(ROW)
#undef ROW
};

static const char *const arch_names[] = {
#define NAME(name, head, complete, build) name,
    ARCHS(NAME)
#undef NAME
};

const char *const *model_archs(size_t *n)
{
    *n = THAW_COUNT(arch_names);
    return arch_names;
}

static thaw_status find_arch(const struct arch_row **out, const char *name)
{
    text near = TEXT_INIT;
    thaw_status status;

    for (size_t i = 0; i < THAW_COUNT(arch_table); i++)
        if (strcmp(arch_table[i].name, name) == 0) {
            *out = &arch_table[i];
            return THAW_OK;
        }
    text_add_near(&near, name, arch_names, THAW_COUNT(arch_names), 2);
    status = thaw_fail(THAW_E_SUPPORT, "unknown network '%s'%s", name, near.data ? near.data : "");
    text_done(&near);
    return status;
}

/* Sizes that no later product of them may overflow. */
#define MOST_CHANNELS 65536
#define MOST_PIXELS   65536

static thaw_status check_range(const char *what, int64_t value, int64_t least, int64_t most)
{
    if (value < least || value > most)
        return thaw_fail(THAW_E_RANGE, "%s must be between %lld and %lld, not %lld", what,
                         (long long)least, (long long)most, (long long)value);
    return THAW_OK;
}

/* least: 0 where what is left open has not been filled in yet, else 1. */
static thaw_status check_config(const model_config *c, int64_t least)
{
    THAW_CHECK(check_range("the number of classes", c->n_classes, 1, 1000000));
    THAW_CHECK(check_range("the image height", c->height, least, MOST_PIXELS));
    THAW_CHECK(check_range("the image width", c->width, least, MOST_PIXELS));
    THAW_CHECK(check_range("the number of image channels", c->channels, least, MOST_CHANNELS));
    THAW_CHECK(check_range("the number of widths", c->n_widths, 0, MODEL_MAX_STAGES));
    THAW_CHECK(check_range("the number of block counts", c->n_blocks, 0, MODEL_MAX_STAGES));
    for (int i = 0; i < c->n_widths; i++)
        THAW_CHECK(check_range("a width", c->widths[i], least, 10000000));
    for (int i = 0; i < c->n_blocks; i++)
        THAW_CHECK(check_range("the number of blocks of a stage", c->blocks[i], 1, 1000));
    if (!(c->dropout >= 0 && c->dropout < 1))
        return thaw_fail(THAW_E_RANGE, "dropout must be at least 0 and below 1");
    if (!(c->norm_momentum >= 0 && c->norm_momentum <= 1))
        return thaw_fail(THAW_E_RANGE, "norm_momentum must be at least 0 and at most 1");
    return THAW_OK;
}

static thaw_status build(model *m, const struct arch_row *row, dtype real)
{
    model_builder b = {.model = m, .real = real};
    const shape image = shape_4(DIM_BATCH, m->config.height, m->config.width, m->config.channels);
    thaw_status status;
    value_id x;

    THAW_TRY(graph_create(&m->graph, real));
    THAW_TRY(thaw_tree_create(&m->tree));
    THAW_TRY(graph_input(&x, m->graph, "image", real, &image));
    m->output = row->build(&b, x);
    THAW_TRY(model_builder_finish(&b));
done:
    thaw__free(b.params.item);
    thaw__free(b.buffers.item);
    return status;
}

thaw_status model_create(model **out, const model_config *config, dtype real)
{
    const struct arch_row *row = NULL;
    model *m = NULL;
    thaw_status status;

    THAW_CHECK(find_arch(&row, config->arch));
    m = thaw__new(1, sizeof *m);
    if (!m)
        return thaw_fail(THAW_E_NOMEM, "out of memory for network '%s'", config->arch);
    m->config = *config;
    m->head = row->head;
    THAW_TRY(region_create(&m->region));
    THAW_TRY(check_config(&m->config, 0)); /* completing multiplies what it is given */
    THAW_TRY(row->complete(&m->config));
    THAW_TRY(check_config(&m->config, 1));
    THAW_TRY(build(m, row, real));
    *out = m;
    m = NULL;
done:
    model_destroy(m);
    return status;
}

void model_destroy(model *m)
{
    if (!m)
        return;
    graph_destroy(m->graph);
    thaw_tree_destroy(m->tree);
    region_destroy(m->region);
    thaw__free(m);
}
