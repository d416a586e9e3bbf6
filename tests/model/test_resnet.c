/*
 * test_resnet.c - residual networks and MobileNetV2 against torchvision: names, shapes and order of
 * all tensors, and logits for a fixed input. Both records were made by record_torchvision.py.
 */
#include "model/networks.h"

#include <zlib.h>

/* "layer1.0.conv1.weight 64 64 3 3" */
static void compare_tensor(const char *arch, const model *m, char *line)
{
    char *rest = NULL;
    const char *name = strtok_r(line, " \n", &rest), *word;
    const model_tensor *t = find(m, name);
    shape s = {0};
    char have[128], want[128];

    CHECK_MSG(t, "%s: torchvision has '%s', we have not", arch, name);
    while ((word = strtok_r(NULL, " \n", &rest)))
        s.dim[s.rank++] = strtol(word, NULL, 10);
    CHECK_MSG(shape_equal(&s, &t->shape), "%s: '%s' is %s, torchvision's is %s", arch, name,
              shape_format(have, &t->shape), shape_format(want, &s));
    CHECK_INT(t->buffer, strstr(name, "running_") || strstr(name, "num_batches"));
    CHECK_INT(t->dtype, strstr(name, "num_batches") ? DTYPE_I64 : DTYPE_F32);
    CHECK_INT(t->head, strncmp(name, m->head, strlen(m->head)) == 0);
}

/* Names and shapes are torchvision's, one for one. */
static void test_tensors(void **state)
{
    gzFile f = gzopen(THAW_TEST_DIR "/model/torchvision_tensors.txt.gz", "rb");
    char line[256];
    int networks = 0;

    (void)state;
    CHECK(f != NULL);
    while (gzgets(f, line, sizeof line)) {
        char arch[32];
        int n;

        CHECK(sscanf(line, "%31s %d", arch, &n) == 2);
        model_config c = config_of(arch);
        c.n_classes = 1000;
        model *m = create(&c, DTYPE_F32);

        CHECK_INT(m->n_tensors, n);
        CHECK_INT(m->config.height, 224);
        CHECK_STR(m->head, strcmp(arch, "mobilenet_v2") == 0 ? "classifier.1" : "fc");
        for (int i = 0; i < n; i++) {
            CHECK(gzgets(f, line, sizeof line) != NULL);
            compare_tensor(arch, m, line);
        }
        networks++;
        model_destroy(m);
    }
    CHECK_INT(networks, 11);
    gzclose(f);
}

/* ----------------------------------------------------------------------------------------------
 * logits */

static void test_logits(void **state)
{
    FILE *f = fopen(THAW_TEST_DIR "/model/torchvision_logits.txt", "r");
    char arch[32];

    (void)state;
    CHECK(f != NULL);
    for (int networks = 0; networks < 4; networks++) {
        double want[IMAGES * CLASSES], got[IMAGES * CLASSES];
        model_config c;

        CHECK(fscanf(f, "%31s", arch) == 1);
        c = config_of(arch);
        c.height = c.width = SIDE;
        for (int i = 0; i < IMAGES * CLASSES; i++)
            CHECK(fscanf(f, "%lf", &want[i]) == 1);
        forward(got, &c, "ref", DTYPE_F64);
        CHECK_CLOSE(got, want, IMAGES * CLASSES, 1e-10, 1e-10);
        forward(got, &c, "dnn", DTYPE_F32);
        CHECK_CLOSE(got, want, IMAGES * CLASSES, 1e-4, 1e-4);
    }
    fclose(f);
}

/* ----------------------------------------------------------------------------------------------
 * narrow ones */

static void test_small(void **state)
{
    model_config c = config_of("resnet18");

    (void)state;
    c.height = c.width = 28;
    c.channels = 1;
    c.n_widths = 2;
    c.widths[0] = 32;
    c.widths[1] = 48;
    c.n_blocks = 1;
    c.blocks[0] = 1;
    c.small_stem = true;
    c.dropout = 0.5;
    model *m = create(&c, DTYPE_F32);
    const shape stem = shape_4(32, 1, 3, 3), last = shape_2(10, 192);

    CHECK(shape_equal(&find(m, "conv1.weight")->shape, &stem));
    CHECK(shape_equal(&find(m, "fc.weight")->shape, &last)); /* widths go on by doubling */
    CHECK(find(m, "layer1.1.conv1.weight") == NULL);
    CHECK(find(m, "layer2.1.conv1.weight") != NULL);        /* others have the arch's own number */
    CHECK(find(m, "layer1.0.downsample.0.weight") == NULL); /* same size: nothing to adapt */
    CHECK(find(m, "layer2.0.downsample.0.weight") != NULL);
    CHECK_INT(m->graph->n_inputs, 2); /* dropout asks for sample numbers */
    CHECK(thaw_tree_find_module(m->tree, "dropout") >= 0);
    model_destroy(m);
}

static void test_bad_sizes(void **state)
{
    model_config c = config_of("resnet18"), saved = c;
    model *m = NULL;

    (void)state;
    c.n_widths = 5;
    CHECK_ERROR(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE, "4 stages");
    c = saved;
    c.n_widths = 1;
    c.widths[0] = -4;
    CHECK_STATUS(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE);
    c.widths[0] = 10000000;
    CHECK_ERROR(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE, "width");
    c.widths[0] = INT64_MAX / 4; /* doubles three times */
    CHECK_STATUS(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE);
    c = saved;
    c.n_blocks = 1;
    c.blocks[0] = 0;
    CHECK_STATUS(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE);
    c.blocks[0] = INT64_MAX;
    CHECK_STATUS(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE);
    c = saved;
    c.height = c.width = 1; /* a 7 x 7 kernel with padding 3 still has an output */
    CHECK_OK(model_create(&m, &c, DTYPE_F32));
    model_destroy(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_logits),
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_bad_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
