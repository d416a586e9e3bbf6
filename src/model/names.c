/*
 * names.c - what other libraries call the tensors of our networks, by tables.
 *
 * A rule says how the path of a layer is written elsewhere: '#' stands for a number, which may come
 * back shifted. Attributes ("weight", "running_mean") have the same names everywhere. Whether a
 * file uses a naming is seen by trying: nothing is guessed from one name.
 */
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_NUMBERS 4

/*
 * theirs: {1} … {4} are the numbers in order, {1-1} and {1+1} the same shifted; {flat} numbers the
 * blocks through whose stage and number are 1 and 2; {staged} is its opposite: stage and number of
 * block {1}, counted from 1. [k/n] at the end: ours are rows of their tensor, part k of n. A rule
 * may also be for the whole name with its attribute. The first rule that matches counts.
 */
typedef struct name_rule {
    const char *ours, *theirs;
} name_rule;

static const name_rule resnet_transformers[] = {
    {"conv1", "resnet.embedder.embedder.convolution"},
    {"bn1", "resnet.embedder.embedder.normalization"},
    {"layer#.#.conv#", "resnet.encoder.stages.{1-1}.layers.{2}.layer.{3-1}.convolution"},
    {"layer#.#.bn#", "resnet.encoder.stages.{1-1}.layers.{2}.layer.{3-1}.normalization"},
    {"layer#.#.downsample.0", "resnet.encoder.stages.{1-1}.layers.{2}.shortcut.convolution"},
    {"layer#.#.downsample.1", "resnet.encoder.stages.{1-1}.layers.{2}.shortcut.normalization"},
    {"fc", "classifier.1"},
};

/* The first block has no expansion, and so other numbers in torchvision's names. */
static const name_rule mobilenet_timm[] = {
    {"features.0.0", "conv_stem"},
    {"features.0.1", "bn1"},
    {"features.1.conv.0.0", "blocks.0.0.conv_dw"},
    {"features.1.conv.0.1", "blocks.0.0.bn1"},
    {"features.1.conv.1", "blocks.0.0.conv_pw"},
    {"features.1.conv.2", "blocks.0.0.bn2"},
    {"features.#.conv.0.0", "blocks.{staged}.conv_pw"},
    {"features.#.conv.0.1", "blocks.{staged}.bn1"},
    {"features.#.conv.1.0", "blocks.{staged}.conv_dw"},
    {"features.#.conv.1.1", "blocks.{staged}.bn2"},
    {"features.#.conv.2", "blocks.{staged}.conv_pwl"},
    {"features.#.conv.3", "blocks.{staged}.bn3"},
    {"features.#.0", "conv_head"},
    {"features.#.1", "bn2"},
    {"classifier.1", "classifier"},
};

static const name_rule efficientnet_original[] = {
    {"conv_stem", "_conv_stem"},
    {"bn1", "_bn0"},
    {"conv_head", "_conv_head"},
    {"bn2", "_bn1"},
    {"classifier", "_fc"},
    {"blocks.0.#.conv_dw", "_blocks.{1}._depthwise_conv"},
    {"blocks.0.#.bn1", "_blocks.{1}._bn1"},
    {"blocks.0.#.conv_pw", "_blocks.{1}._project_conv"},
    {"blocks.0.#.bn2", "_blocks.{1}._bn2"},
    {"blocks.#.#.conv_pw", "_blocks.{flat}._expand_conv"},
    {"blocks.#.#.bn1", "_blocks.{flat}._bn0"},
    {"blocks.#.#.conv_dw", "_blocks.{flat}._depthwise_conv"},
    {"blocks.#.#.bn2", "_blocks.{flat}._bn1"},
    {"blocks.#.#.conv_pwl", "_blocks.{flat}._project_conv"},
    {"blocks.#.#.bn3", "_blocks.{flat}._bn2"},
};

#define VIT_PART(ours, theirs, k, joint)                                                           \
    {"vit.encoder.layer.#.attention.attention." ours ".weight", theirs joint "weight[" k "/3]"},   \
    {                                                                                              \
        "vit.encoder.layer.#.attention.attention." ours ".bias", theirs joint "bias[" k "/3]"      \
    }

#define VIT_TORCHVISION(first, second)                                                             \
    {"vit.embeddings.cls_token", "class_token"},                                                   \
        {"vit.embeddings.position_embeddings", "encoder.pos_embedding"},                           \
        {"vit.embeddings.patch_embeddings.projection", "conv_proj"},                               \
        {"vit.encoder.layer.#.layernorm_before", "encoder.layers.encoder_layer_{1}.ln_1"},         \
        VIT_PART("query", "encoder.layers.encoder_layer_{1}.self_attention", "0", ".in_proj_"),    \
        VIT_PART("key", "encoder.layers.encoder_layer_{1}.self_attention", "1", ".in_proj_"),      \
        VIT_PART("value", "encoder.layers.encoder_layer_{1}.self_attention", "2", ".in_proj_"),    \
        {"vit.encoder.layer.#.attention.output.dense",                                             \
         "encoder.layers.encoder_layer_{1}.self_attention.out_proj"},                              \
        {"vit.encoder.layer.#.layernorm_after", "encoder.layers.encoder_layer_{1}.ln_2"},          \
        {"vit.encoder.layer.#.intermediate.dense", "encoder.layers.encoder_layer_{1}.mlp." first}, \
        {"vit.encoder.layer.#.output.dense", "encoder.layers.encoder_layer_{1}.mlp." second},      \
        {"vit.layernorm", "encoder.ln"},                                                           \
    {                                                                                              \
        "classifier", "heads.head"                                                                 \
    }

static const name_rule vit_torchvision[] = {VIT_TORCHVISION("0", "3")};

/* In the files of its first releases. */
static const name_rule vit_torchvision_old[] = {VIT_TORCHVISION("linear_1", "linear_2")};

static const name_rule vit_timm[] = {
    {"vit.embeddings.cls_token", "cls_token"},
    {"vit.embeddings.position_embeddings", "pos_embed"},
    {"vit.embeddings.patch_embeddings.projection", "patch_embed.proj"},
    {"vit.encoder.layer.#.layernorm_before", "blocks.{1}.norm1"},
    VIT_PART("query", "blocks.{1}.attn.qkv", "0", "."),
    VIT_PART("key", "blocks.{1}.attn.qkv", "1", "."),
    VIT_PART("value", "blocks.{1}.attn.qkv", "2", "."),
    {"vit.encoder.layer.#.attention.output.dense", "blocks.{1}.attn.proj"},
    {"vit.encoder.layer.#.layernorm_after", "blocks.{1}.norm2"},
    {"vit.encoder.layer.#.intermediate.dense", "blocks.{1}.mlp.fc1"},
    {"vit.encoder.layer.#.output.dense", "blocks.{1}.mlp.fc2"},
    {"vit.layernorm", "norm"},
    {"classifier", "head"},
};

#define RULES(table) (table), THAW_COUNT(table)

/* cut: what its names lack at their beginning. kept: the naming under which such weights leave us;
 * NULL: the same one. A network without a head is stored by transformers as what it is part of. */
static const struct naming {
    const char *name;
    const char *family; /* how the names of its networks begin */
    const name_rule *rule;
    size_t n;
    const char *cut, *kept;
} namings[] = {
    {"transformers", "resnet", RULES(resnet_transformers), NULL, NULL},
    {"transformers_base", "resnet", RULES(resnet_transformers), "resnet.", "transformers"},
    {"transformers_base", "vit", NULL, 0, "vit.", ""},
    {"timm", "mobilenet_v2", RULES(mobilenet_timm), NULL, NULL},
    {"efficientnet_pytorch", "efficientnet_lite", RULES(efficientnet_original), NULL, NULL},
    {"torchvision", "vit", RULES(vit_torchvision), NULL, NULL},
    {"torchvision_linear", "vit", RULES(vit_torchvision_old), NULL, NULL},
    {"timm", "vit", RULES(vit_timm), NULL, NULL},
};

const char *model_naming(const model_config *c, int i)
{
    for (size_t k = 0; k < THAW_COUNT(namings); k++)
        if (strncmp(c->arch, namings[k].family, strlen(namings[k].family)) == 0 && i-- == 0)
            return namings[k].name;
    return NULL;
}

/* Numbers where the pattern has '#'; the whole path must match. */
static bool match(int64_t number[MOST_NUMBERS], const char *pattern, const char *path, size_t n)
{
    const char *const end = path + n;
    int found = 0;

    for (; *pattern; pattern++) {
        const char *const first = path;

        if (*pattern != '#') {
            if (path == end || *path++ != *pattern)
                return false;
            continue;
        }
        for (number[found] = 0; path < end && *path >= '0' && *path <= '9' && path - first < 6;
             path++)
            number[found] = 10 * number[found] + (*path - '0');
        if (path == first || ++found > MOST_NUMBERS)
            return false;
    }
    return path == end;
}

static void add_flat(text *out, const model_config *c, int64_t stage, int64_t number)
{
    for (int i = 0; i < stage && i < c->n_blocks; i++)
        number += c->blocks[i];
    text_addf(out, "%lld", (long long)number);
}

static void add_staged(text *out, const model_config *c, int64_t number)
{
    int stage = 0;

    for (number--; stage + 1 < c->n_blocks && number >= c->blocks[stage]; stage++)
        number -= c->blocks[stage];
    text_addf(out, "%d.%lld", stage, (long long)number);
}

/* What stands between braces. */
static void add_field(text *out, const model_config *c, const char *field,
                      const int64_t number[MOST_NUMBERS])
{
    if (strncmp(field, "flat", 4) == 0)
        add_flat(out, c, number[0], number[1]);
    else if (strncmp(field, "staged", 6) == 0)
        add_staged(out, c, number[0]);
    else
        text_addf(out, "%lld",
                  (long long)number[field[0] - '1'] +
                      (field[1] == '-' || field[1] == '+' ? strtol(field + 1, NULL, 10) : 0));
}

/* The name without its part, which is returned. */
static model_part add_theirs(text *out, const model_config *c, const char *theirs,
                             const int64_t number[MOST_NUMBERS])
{
    for (const char *p = theirs; *p; p++) {
        if (*p == '[')
            return (model_part){p[1] - '0', p[3] - '0'};
        if (*p == '{') {
            add_field(out, c, p + 1, number);
            p = strchr(p, '}');
        } else {
            text_add_n(out, p, 1);
        }
    }
    return (model_part){0, 1};
}

static const struct naming *find_naming(const model_config *c, const char *name)
{
    for (size_t i = 0; i < THAW_COUNT(namings); i++)
        if (strcmp(namings[i].name, name) == 0 &&
            strncmp(c->arch, namings[i].family, strlen(namings[i].family)) == 0)
            return &namings[i];
    return NULL;
}

const char *model_naming_kept(const model_config *c, const char *naming)
{
    const struct naming *const n = find_naming(c, naming);

    return n && n->kept ? n->kept : naming;
}

static model_part add_by_rules(text *out, const model_config *c, const struct naming *n,
                               const char *name)
{
    const char *const attribute = strrchr(name, '.');
    int64_t number[MOST_NUMBERS] = {0};

    for (size_t i = 0; attribute && i < n->n; i++) {
        const name_rule *const rule = &n->rule[i];

        if (match(number, rule->ours, name, strlen(name)))
            return add_theirs(out, c, rule->theirs, number);
        if (match(number, rule->ours, name, (size_t)(attribute - name))) {
            const model_part part = add_theirs(out, c, rule->theirs, number);

            text_add(out, attribute);
            return part;
        }
    }
    text_add(out, name);
    return (model_part){0, 1};
}

model_part model_name_in(text *out, const model_config *c, const char *naming, const char *name)
{
    const struct naming *const n = find_naming(c, naming);
    const size_t start = out->length;
    model_part part = {0, 1};
    size_t cut;

    if (!n) {
        text_add(out, name);
        return part;
    }
    part = add_by_rules(out, c, n, name);
    cut = n->cut ? strlen(n->cut) : 0;
    if (cut > 0 && !out->failed && strncmp(out->data + start, n->cut, cut) == 0) {
        out->length -= cut;
        memmove(out->data + start, out->data + start + cut, out->length - start + 1);
    }
    return part;
}
