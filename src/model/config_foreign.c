/*
 * config_foreign.c - config.json of other libraries: transformers says what a residual network is
 * made of, timm says its name.
 *
 * A network is taken for one of ours only where everything that is said of it agrees.
 */
#include "model/model.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* transformers' "resnet" by its depths. */
static const struct {
    const char *arch, *layer;
    int64_t depths[4], sizes[4];
} residual[] = {
    {"resnet18", "basic", {2, 2, 2, 2}, {64, 128, 256, 512}},
    {"resnet34", "basic", {3, 4, 6, 3}, {64, 128, 256, 512}},
    {"resnet50", "bottleneck", {3, 4, 6, 3}, {256, 512, 1024, 2048}},
    {"resnet101", "bottleneck", {3, 4, 23, 3}, {256, 512, 1024, 2048}},
    {"resnet152", "bottleneck", {3, 8, 36, 3}, {256, 512, 1024, 2048}},
};

/* timm's names that are not ours. */
static const struct {
    const char *theirs, *ours; /* NULL: built otherwise */
} timm_names[] = {
    {"mobilenetv2_100", "mobilenet_v2"},
    {"tf_efficientnet_lite0", "efficientnet_lite0"},
    {"tf_efficientnet_lite1", "efficientnet_lite1"},
    {"tf_efficientnet_lite2", "efficientnet_lite2"},
    {"efficientnet_lite0", NULL},
};

static bool same_list(const json_t *list, const int64_t want[4])
{
    if (!json_is_array(list) || json_array_size(list) != 4)
        return false;
    for (size_t i = 0; i < 4; i++)
        if (json_integer_value(json_array_get(list, i)) != want[i])
            return false;
    return true;
}

/* A key has this value, or is not there and has it by default. */
static bool text_is(const json_t *root, const char *key, const char *standard, const char *want)
{
    const json_t *const v = json_object_get(root, key);

    return strcmp(json_is_string(v) ? json_string_value(v) : standard, want) == 0;
}

static bool plain_residual(const json_t *root)
{
    const json_t *const stem = json_object_get(root, "embedding_size");

    return !json_is_true(json_object_get(root, "downsample_in_first_stage")) &&
           !json_is_true(json_object_get(root, "downsample_in_bottleneck")) &&
           text_is(root, "hidden_act", "relu", "relu") && (!stem || json_integer_value(stem) == 64);
}

static thaw_status find_residual(model_config *c, const json_t *root, const char *file)
{
    for (size_t i = 0; i < THAW_COUNT(residual); i++)
        if (plain_residual(root) && text_is(root, "layer_type", "bottleneck", residual[i].layer) &&
            same_list(json_object_get(root, "depths"), residual[i].depths) &&
            same_list(json_object_get(root, "hidden_sizes"), residual[i].sizes)) {
            (void)snprintf(c->arch, sizeof c->arch, "%s", residual[i].arch);
            return THAW_OK;
        }
    return thaw_fail(THAW_E_SUPPORT, "%s: a 'resnet' that is none of resnet18 to resnet152", file);
}

/* "resnet50.a1_in1k" is resnet50, trained in some way. */
static thaw_status find_timm(model_config *c, const char *name, const char *file)
{
    const size_t n = strcspn(name, ".");

    if (!model_is_name(name))
        return thaw_fail(THAW_E_DATA, "%s: 'architecture' is no name of a network", file);
    if (n >= sizeof c->arch)
        return thaw_fail(THAW_E_SUPPORT, "%s: unknown network '%.40s…'", file, name);
    memcpy(c->arch, name, n);
    c->arch[n] = '\0';
    for (size_t i = 0; i < THAW_COUNT(timm_names); i++) {
        if (strcmp(c->arch, timm_names[i].theirs) != 0)
            continue;
        if (!timm_names[i].ours)
            return thaw_fail(THAW_E_SUPPORT,
                             "%s: '%s' pads otherwise than the original network; its 'tf_' variant "
                             "is supported",
                             file, timm_names[i].theirs);
        (void)snprintf(c->arch, sizeof c->arch, "%s", timm_names[i].ours);
        return THAW_OK;
    }
    return THAW_OK;
}

thaw_status model_config_foreign(bool *known, model_config *c, const struct json_t *root,
                                 const char *file)
{
    const json_t *const type = json_object_get(root, "model_type");
    const json_t *const architecture = json_object_get(root, "architecture");

    *known = true;
    if (json_is_string(type) && strcmp(json_string_value(type), "resnet") == 0)
        return find_residual(c, root, file);
    if (!type && json_is_string(architecture))
        return find_timm(c, json_string_value(architecture), file);
    *known = false;
    return THAW_OK;
}

static void print_list(text *out, const char *key, const int64_t value[4])
{
    text_addf(out, "  \"%s\": [%lld, %lld, %lld, %lld],\n", key, (long long)value[0],
              (long long)value[1], (long long)value[2], (long long)value[3]);
}

bool model_config_print_foreign(text *out, const model_config *c)
{
    for (size_t i = 0; i < THAW_COUNT(residual); i++) {
        if (strcmp(c->naming, "transformers") != 0 || strcmp(c->arch, residual[i].arch) != 0)
            continue;
        text_add(out, "  \"model_type\": \"resnet\",\n"
                      "  \"architectures\": [\"ResNetForImageClassification\"],\n");
        text_addf(out, "  \"layer_type\": \"%s\",\n", residual[i].layer);
        print_list(out, "depths", residual[i].depths);
        print_list(out, "hidden_sizes", residual[i].sizes);
        text_add(out, "  \"embedding_size\": 64,\n  \"hidden_act\": \"relu\",\n"
                      "  \"downsample_in_first_stage\": false,\n");
        return true;
    }
    return false;
}
