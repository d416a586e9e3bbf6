/*
 * test_names.c - names of the same tensor in other libraries; and that no two tensors of a network
 * get the same one.
 */
#include "model/model.h"

#include "check.h"

#include <stdlib.h>

static model *create(const char *arch)
{
    model_config c = MODEL_CONFIG_INIT;
    model *m = NULL;

    (void)snprintf(c.arch, sizeof c.arch, "%s", arch);
    CHECK_OK(model_create(&m, &c, DTYPE_F32));
    return m;
}

static const struct {
    const char *arch, *naming, *ours, *theirs;
} rows[] = {
    {"resnet50", "transformers", "conv1.weight", "resnet.embedder.embedder.convolution.weight"},
    {"resnet50", "transformers", "bn1.running_var",
     "resnet.embedder.embedder.normalization.running_var"},
    {"resnet50", "transformers", "layer3.5.conv2.weight",
     "resnet.encoder.stages.2.layers.5.layer.1.convolution.weight"},
    {"resnet50", "transformers", "layer1.0.downsample.1.bias",
     "resnet.encoder.stages.0.layers.0.shortcut.normalization.bias"},
    {"resnet50", "transformers", "fc.bias", "classifier.1.bias"},
    {"mobilenet_v2", "timm", "features.0.0.weight", "conv_stem.weight"},
    {"mobilenet_v2", "timm", "features.1.conv.1.weight", "blocks.0.0.conv_pw.weight"},
    {"mobilenet_v2", "timm", "features.2.conv.1.0.weight", "blocks.1.0.conv_dw.weight"},
    {"mobilenet_v2", "timm", "features.17.conv.3.bias", "blocks.6.0.bn3.bias"},
    {"mobilenet_v2", "timm", "features.16.conv.2.weight", "blocks.5.2.conv_pwl.weight"},
    {"mobilenet_v2", "timm", "features.18.0.weight", "conv_head.weight"},
    {"efficientnet_lite0", "efficientnet_pytorch", "blocks.0.0.conv_dw.weight",
     "_blocks.0._depthwise_conv.weight"},
    {"efficientnet_lite0", "efficientnet_pytorch", "blocks.6.0.conv_pwl.weight",
     "_blocks.15._project_conv.weight"},
    {"efficientnet_lite0", "efficientnet_pytorch", "blocks.2.1.bn1.weight",
     "_blocks.4._bn0.weight"},
    {"efficientnet_lite0", "efficientnet_pytorch", "bn2.weight", "_bn1.weight"},
    {"resnet50", "timm", "conv1.weight", "conv1.weight"},
    {"resnet18", "transformers_base", "bn1.bias", "embedder.embedder.normalization.bias"},
    {"resnet18", "transformers_base", "layer2.1.conv2.weight",
     "encoder.stages.1.layers.1.layer.1.convolution.weight"},
    {"vit_tiny_patch16_224", "transformers_base", "vit.layernorm.weight", "layernorm.weight"},
    {"vit_tiny_patch16_224", "transformers_base", "vit.encoder.layer.11.output.dense.bias",
     "encoder.layer.11.output.dense.bias"},
    {"resnext50_32x4d", "transformers", "conv1.weight", "conv1.weight"},
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(rows); i++) {
        model *m = create(rows[i].arch);
        text t = TEXT_INIT;

        model_name_in(&t, &m->config, rows[i].naming, rows[i].ours);
        CHECK_STR(t.data, rows[i].theirs);
        text_done(&t);
        model_destroy(m);
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void check_unique(const model *m, const char *naming)
{
    char **name = calloc((size_t)m->n_tensors, sizeof *name);

    CHECK(name != NULL);
    for (int i = 0; i < m->n_tensors; i++) {
        text t = TEXT_INIT;

        model_name_in(&t, &m->config, naming, m->tensor[i].name);
        name[i] = strdup(t.data);
        CHECK_MSG(strcmp(name[i], m->tensor[i].name) != 0, "%s: '%s' has no name in %s",
                  m->config.arch, name[i], naming);
        text_done(&t);
    }
    qsort(name, (size_t)m->n_tensors, sizeof *name, by_text);
    for (int i = 1; i < m->n_tensors; i++)
        CHECK_MSG(strcmp(name[i - 1], name[i]) != 0, "%s: two tensors are '%s' in %s",
                  m->config.arch, name[i], naming);
    for (int i = 0; i < m->n_tensors; i++)
        free(name[i]);
    free(name);
}

static void test_unique(void **state)
{
    static const char *const archs[] = {"resnet18", "resnet152", "mobilenet_v2",
                                        "efficientnet_lite0", "efficientnet_lite2"};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(archs); i++) {
        model *m = create(archs[i]);

        CHECK(model_naming(&m->config, 0) != NULL);
        for (int k = 0; model_naming(&m->config, k); k++)
            check_unique(m, model_naming(&m->config, k));
        model_destroy(m);
    }
}

/* config.json of transformers and timm, and ours of a network that came under foreign names. */
static void test_foreign_config(void **state)
{
    static const struct {
        const char *json, *arch; /* NULL: refused */
    } row[] = {
        {"{\"model_type\": \"resnet\", \"depths\": [3, 4, 6, 3], \"layer_type\": \"bottleneck\", "
         "\"hidden_sizes\": [256, 512, 1024, 2048], \"id2label\": {\"0\": \"a\", \"1\": \"b\"}}",
         "resnet50"},
        {"{\"model_type\": \"resnet\", \"depths\": [2, 2, 2, 2], \"layer_type\": \"basic\", "
         "\"hidden_sizes\": [64, 128, 256, 512], \"num_labels\": 2}",
         "resnet18"},
        {"{\"model_type\": \"resnet\", \"depths\": [2, 2, 2, 2], \"layer_type\": \"basic\", "
         "\"hidden_sizes\": [64, 128, 256, 512], \"hidden_act\": \"gelu\"}",
         NULL},
        {"{\"architecture\": \"resnet50.a1_in1k\", \"num_classes\": 2}", "resnet50"},
        {"{\"architecture\": \"tf_efficientnet_lite0\", \"num_classes\": 2}", "efficientnet_lite0"},
        {"{\"architecture\": \"efficientnet_lite0.ra_in1k\", \"num_classes\": 2}", NULL},
    };

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        model_config c;
        text t = TEXT_INIT;

        if (!row[i].arch) {
            CHECK_STATUS(model_config_parse(&c, row[i].json, strlen(row[i].json), "c"),
                         THAW_E_SUPPORT);
            continue;
        }
        CHECK_OK(model_config_parse(&c, row[i].json, strlen(row[i].json), "c"));
        CHECK_STR(c.arch, row[i].arch);
        CHECK_INT(c.n_classes, 2);
        (void)snprintf(c.naming, sizeof c.naming, "transformers");
        c.stored = DTYPE_F16;
        model_config_print(&t, &c);
        CHECK_OK(model_config_parse(&c, t.data, t.length, "again"));
        CHECK_STR(c.arch, row[i].arch);
        CHECK_STR(c.naming, "transformers");
        CHECK_INT(c.stored, DTYPE_F16);
        text_done(&t);
    }
}

/* What came without a head cannot leave under the names of a network without one. */
static void test_kept(void **state)
{
    static const char *const rows_kept[][3] = {
        {"resnet18", "transformers_base", "transformers"},
        {"resnet18", "transformers", "transformers"},
        {"vit_tiny_patch16_224", "transformers_base", ""},
        {"vit_tiny_patch16_224", "timm", "timm"},
    };

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(rows_kept); i++) {
        model *m = create(rows_kept[i][0]);

        CHECK_STR(model_naming_kept(&m->config, rows_kept[i][1]), rows_kept[i][2]);
        model_destroy(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_unique),
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_foreign_config),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
