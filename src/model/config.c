/*
 * config.c - config.json: what a network is made of, in a file beside its weights. Read strictly,
 * printed in one order.
 */
#include "model/model.h"

#include <jansson.h>
#include <string.h>

static thaw_status wrong_type(const char *file, const char *key, const char *wanted)
{
    return thaw_fail(THAW_E_DATA, "%s: '%s' must be %s", file, key, wanted);
}

static thaw_status read_int(int64_t *out, const json_t *root, const char *key, const char *file)
{
    const json_t *v = json_object_get(root, key);

    if (v && !json_is_integer(v))
        return wrong_type(file, key, "a whole number");
    if (v)
        *out = json_integer_value(v);
    return THAW_OK;
}

static thaw_status read_number(double *out, const json_t *root, const char *key, const char *file)
{
    const json_t *v = json_object_get(root, key);

    if (v && !json_is_number(v))
        return wrong_type(file, key, "a number");
    if (v)
        *out = json_number_value(v);
    return THAW_OK;
}

static thaw_status read_ints(int64_t *out, int *n, int most, const json_t *root, const char *key,
                             const char *file)
{
    const json_t *v = json_object_get(root, key);

    if (!v)
        return THAW_OK;
    if (!json_is_array(v) || json_array_size(v) > (size_t)most)
        return thaw_fail(THAW_E_DATA, "%s: '%s' must be a list of at most %d whole numbers", file,
                         key, most);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *item = json_array_get(v, i);

        if (!json_is_integer(item))
            return wrong_type(file, key, "a list of whole numbers");
        out[i] = json_integer_value(item);
    }
    *n = (int)json_array_size(v);
    return THAW_OK;
}

bool model_is_name(const char *s)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+/";

    return *s && strspn(s, allowed) == strlen(s);
}

static thaw_status read_arch(model_config *c, const json_t *root, const char *file)
{
    const json_t *v = json_object_get(root, "model_type");
    bool known = false;

    THAW_CHECK(model_config_foreign(&known, c, root, file));
    if (known)
        return THAW_OK;
    if (!json_is_string(v) || !model_is_name(json_string_value(v)))
        return wrong_type(file, "model_type", "the name of a network, such as \"resnet18\"");
    if (json_string_length(v) >= sizeof c->arch)
        return thaw_fail(THAW_E_SUPPORT, "%s: unknown network '%.40s…'", file,
                         json_string_value(v));
    memcpy(c->arch, json_string_value(v), json_string_length(v) + 1);
    return THAW_OK;
}

static thaw_status read_size(model_config *c, const json_t *root, const char *file)
{
    int64_t size[2] = {0, 0};
    int n = 0;

    if (json_is_integer(json_object_get(root, "image_size"))) {
        THAW_CHECK(read_int(&c->height, root, "image_size", file));
        c->width = c->height;
        return THAW_OK;
    }
    THAW_CHECK(read_ints(size, &n, 2, root, "image_size", file));
    if (n == 1)
        return wrong_type(file, "image_size", "a whole number or [height, width]");
    if (n == 2) {
        c->height = size[0];
        c->width = size[1];
    }
    return THAW_OK;
}

/* Sizes of a transformer, under the keys of ViTForImageClassification. */
static thaw_status read_vit(model_config *c, const json_t *root, const char *file)
{
    const json_t *act = json_object_get(root, "hidden_act");
    const json_t *bias = json_object_get(root, "qkv_bias");

    THAW_CHECK(read_int(&c->vit.patch, root, "patch_size", file));
    THAW_CHECK(read_int(&c->vit.hidden, root, "hidden_size", file));
    THAW_CHECK(read_int(&c->vit.inner, root, "intermediate_size", file));
    THAW_CHECK(read_int(&c->vit.layers, root, "num_hidden_layers", file));
    THAW_CHECK(read_int(&c->vit.heads, root, "num_attention_heads", file));
    THAW_CHECK(read_number(&c->vit.eps, root, "layer_norm_eps", file));
    if (bias && !json_is_true(bias))
        return thaw_fail(THAW_E_SUPPORT,
                         "%s: 'qkv_bias' must be true: attention without biases is not built here",
                         file);
    if (act && !json_is_string(act))
        return wrong_type(file, "hidden_act", "\"gelu\" or \"gelu_pytorch_tanh\"");
    if (act && strcmp(json_string_value(act), "gelu") != 0) {
        c->vit.tanh_gelu = strcmp(json_string_value(act), "gelu_pytorch_tanh") == 0 ||
                           strcmp(json_string_value(act), "gelu_new") == 0;
        if (!c->vit.tanh_gelu)
            return thaw_fail(THAW_E_SUPPORT,
                             "%s: 'hidden_act' is '%.40s'; there are 'gelu' and "
                             "'gelu_pytorch_tanh'",
                             file, json_string_value(act));
    }
    return THAW_OK;
}

/* The number of classes, or of their names. */
static thaw_status read_classes(model_config *c, const json_t *root, const char *file)
{
    const json_t *const names = json_object_get(root, "id2label");

    if (json_is_object(names) && json_object_size(names) > 0)
        c->n_classes = (int64_t)json_object_size(names);
    THAW_CHECK(read_int(&c->n_classes, root, "num_classes", file));
    return read_int(&c->n_classes, root, "num_labels", file);
}

static const struct {
    const char *name;
    dtype dtype;
} stored_types[] = {{"float16", DTYPE_F16}, {"bfloat16", DTYPE_BF16}};

/* How the weights were named and stored where they came from, and are again where they go. */
static thaw_status read_stored(model_config *c, const json_t *root, const char *file)
{
    const json_t *const naming = json_object_get(root, "names");
    const json_t *const type = json_object_get(root, "torch_dtype");

    if (naming && (!json_is_string(naming) || json_string_length(naming) >= sizeof c->naming))
        return wrong_type(file, "names", "the name of a library");
    if (naming)
        memcpy(c->naming, json_string_value(naming), json_string_length(naming) + 1);
    for (size_t i = 0; json_is_string(type) && i < THAW_COUNT(stored_types); i++)
        if (strcmp(json_string_value(type), stored_types[i].name) == 0)
            c->stored = stored_types[i].dtype;
    return THAW_OK;
}

static void print_stored(text *out, const model_config *c)
{
    if (c->naming[0]) {
        text_add(out, "  \"names\": ");
        text_add_json_string(out, c->naming);
        text_add(out, ",\n");
    }
    for (size_t i = 0; i < THAW_COUNT(stored_types); i++)
        if (c->stored == stored_types[i].dtype)
            text_addf(out, "  \"torch_dtype\": \"%s\",\n", stored_types[i].name);
}

static thaw_status read_config(model_config *c, const json_t *root, const char *file)
{
    const json_t *stem = json_object_get(root, "stem");

    if (!json_is_object(root))
        return thaw_fail(THAW_E_DATA, "%s: must be a JSON object", file);
    THAW_CHECK(read_arch(c, root, file));
    THAW_CHECK(read_size(c, root, file));
    THAW_CHECK(read_int(&c->channels, root, "num_channels", file));
    THAW_CHECK(read_classes(c, root, file));
    THAW_CHECK(read_stored(c, root, file));
    THAW_CHECK(read_ints(c->widths, &c->n_widths, MODEL_MAX_STAGES, root, "widths", file));
    THAW_CHECK(read_ints(c->blocks, &c->n_blocks, MODEL_MAX_STAGES, root, "blocks", file));
    if (stem && (!json_is_string(stem) || (strcmp(json_string_value(stem), "small") != 0 &&
                                           strcmp(json_string_value(stem), "standard") != 0)))
        return wrong_type(file, "stem", "\"standard\" or \"small\"");
    c->small_stem = stem && strcmp(json_string_value(stem), "small") == 0;
    THAW_CHECK(read_number(&c->dropout, root, "dropout", file));
    THAW_CHECK(read_number(&c->norm_momentum, root, "norm_momentum", file));
    return strncmp(c->arch, "vit", 3) == 0 ? read_vit(c, root, file) : THAW_OK;
}

thaw_status model_config_parse(model_config *out, const char *json, size_t size, const char *file)
{
    model_config c = MODEL_CONFIG_INIT;
    json_t *root;
    thaw_status status;

    THAW_CHECK(json_parse(&root, json, size, file));
    status = read_config(&c, root, file);
    json_decref(root);
    if (status == THAW_OK)
        *out = c;
    return status;
}

static void print_ints(text *out, const char *key, const int64_t *value, int n)
{
    text_addf(out, "  \"%s\": [", key);
    for (int i = 0; i < n; i++)
        text_addf(out, "%s%lld", i ? ", " : "", (long long)value[i]);
    text_add(out, "],\n");
}

static void print_vit(text *out, const model_config *c)
{
    const struct {
        const char *key;
        int64_t value;
    } size[] = {{"patch_size", c->vit.patch},
                {"hidden_size", c->vit.hidden},
                {"intermediate_size", c->vit.inner},
                {"num_hidden_layers", c->vit.layers},
                {"num_attention_heads", c->vit.heads}};

    for (size_t i = 0; i < THAW_COUNT(size); i++)
        text_addf(out, "  \"%s\": %lld,\n", size[i].key, (long long)size[i].value);
    if (!c->naming[0]) /* the class there that finds these names */
        text_add(out, "  \"architectures\": [\"ViTForImageClassification\"],\n");
    text_add(out, "  \"qkv_bias\": true,\n  \"layer_norm_eps\": ");
    text_add_json_double(out, c->vit.eps);
    text_addf(out, ",\n  \"hidden_act\": \"%s\",\n",
              c->vit.tanh_gelu ? "gelu_pytorch_tanh" : "gelu");
}

void model_config_print(text *out, const model_config *c)
{
    text_add(out, "{\n");
    if (!model_config_print_foreign(out, c)) {
        text_add(out, "  \"model_type\": ");
        text_add_json_string(out, c->arch);
        text_add(out, ",\n");
    }
    print_stored(out, c);
    print_ints(out, "image_size", (const int64_t[]){c->height, c->width}, 2);
    text_addf(out, "  \"num_channels\": %lld,\n", (long long)c->channels);
    if (c->n_widths > 0)
        print_ints(out, "widths", c->widths, c->n_widths);
    if (c->n_blocks > 0)
        print_ints(out, "blocks", c->blocks, c->n_blocks);
    if (c->vit.hidden > 0)
        print_vit(out, c);
    model_labels_print(out, c);
    text_addf(out, "  \"stem\": \"%s\",\n  \"dropout\": ", c->small_stem ? "small" : "standard");
    text_add_json_double(out, c->dropout);
    if (c->norm_momentum > 0) {
        text_add(out, ",\n  \"norm_momentum\": ");
        text_add_json_double(out, c->norm_momentum);
    }
    text_addf(out, ",\n  \"num_labels\": %lld\n}\n", (long long)c->n_classes);
}
