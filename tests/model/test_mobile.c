/*
 * test_mobile.c - the EfficientNet-Lites against the package that carries their weights: numbers of
 * parameters and logits for a fixed input (record_efficientnet.py), and mistakes in sizes.
 * MobileNetV2 is compared with torchvision in test_resnet.c.
 */
#include "model/networks.h"

#include <inttypes.h>

static void test_logits(void **state)
{
    FILE *f = fopen(THAW_TEST_DIR "/model/efficientnet_logits.txt", "r");
    char arch[32];

    (void)state;
    CHECK(f != NULL);
    for (int networks = 0; networks < 3; networks++) {
        int64_t n_params, n_blocks, sum = 0;

        CHECK(fscanf(f, "%31s %" SCNd64 " %" SCNd64, arch, &n_params, &n_blocks) == 3);
        model_config c = config_of(arch);
        c.height = c.width = SIDE;
        model *m = create(&c, DTYPE_F32);

        for (int i = 0; i < m->n_params; i++) {
            size_t n = 0;

            CHECK_OK(shape_elements(&n, &m->tensor[i].shape));
            sum += (int64_t)n;
        }
        CHECK_INT(sum, n_params);
        for (int i = 0; i < m->config.n_blocks; i++)
            n_blocks -= m->config.blocks[i];
        CHECK_INT(n_blocks, 0);
        model_destroy(m);
        compare_logits(f, &c);
    }
    fclose(f);
}

/* Images have the size that the network was trained on, unless another is asked for. */
static void test_sides(void **state)
{
    static const struct {
        const char *arch;
        int64_t side;
    } known[] = {{"mobilenet_v2", 224},
                 {"efficientnet_lite0", 224},
                 {"efficientnet_lite1", 240},
                 {"efficientnet_lite2", 260}};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(known); i++) {
        const model_config c = config_of(known[i].arch);
        model *m = create(&c, DTYPE_F32);

        CHECK_INT(m->config.height, known[i].side);
        CHECK_INT(m->config.width, known[i].side);
        CHECK_INT(m->config.channels, 3);
        model_destroy(m);
    }
}

static void test_bad_sizes(void **state)
{
    model_config c = config_of("efficientnet_lite0");
    model *m = NULL;

    (void)state;
    c.n_widths = 8;
    CHECK_ERROR(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE,
                "'efficientnet_lite0' has 7 stages, but 8 widths and 0 block counts were given");
    c.n_widths = 1;
    c.widths[0] = -4;
    CHECK_STATUS(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE);
}

/* How fast running statistics follow: a tenth of each batch, or what the configuration says. */
static void test_norms(void **state)
{
    static const char *const arch[] = {"mobilenet_v2", "efficientnet_lite2"};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(arch); i++)
        for (int given = 0; given < 2; given++) {
            model_config c = config_of(arch[i]);
            model *m;
            int norms = 0;

            c.norm_momentum = given ? 0.01 : 0;
            m = create(&c, DTYPE_F32);
            for (size_t k = 0; k < m->graph->n_nodes; k++) {
                const op_attrs *const attrs = &m->graph->node[k].attrs;

                if (m->graph->node[k].op != OP_BATCH_NORM_TRAIN)
                    continue;
                norms++;
                CHECK_NEAR(attrs->norm.momentum, given ? 0.01 : 0.1, 0, 0);
                CHECK_NEAR(attrs->norm.eps, i ? 1e-3 : 1e-5, 0, 0);
            }
            CHECK_MSG(norms > 40, "%s has %d norms", arch[i], norms);
            model_destroy(m);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits),
        cmocka_unit_test(test_sides),
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_bad_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
