/*
 * test_mlp.c - multilayer perceptrons: names, shapes, and what the data's size fills in.
 */
#include "model/model.h"

#include "check.h"

static model_config config_of(int n, const int64_t *width)
{
    model_config c = MODEL_CONFIG_INIT;

    memcpy(c.arch, "mlp", 4);
    c.n_widths = n;
    memcpy(c.widths, width, (size_t)n * sizeof *width);
    return c;
}

static void test_tensors(void **state)
{
    static const char *const name[] = {"backbone.fc1.weight", "backbone.fc1.bias",
                                       "backbone.fc2.weight", "backbone.fc2.bias",
                                       "head.weight",         "head.bias"};
    const shape want[] = {shape_2(128, 784), shape_1(128),    shape_2(64, 128),
                          shape_1(64),       shape_2(10, 64), shape_1(10)};
    const model_config c = config_of(4, (const int64_t[]){784, 128, 64, 10});
    model *m = NULL;

    (void)state;
    CHECK_OK(model_create(&m, &c, DTYPE_F32));
    CHECK_INT(m->n_tensors, 6);
    CHECK_INT(m->n_params, 6);
    CHECK_STR(m->head, "head");
    for (int i = 0; i < 6; i++) {
        CHECK_STR(m->tensor[i].name, name[i]);
        CHECK(shape_equal(&m->tensor[i].shape, &want[i]));
        CHECK_INT(m->tensor[i].head, i >= 4);
        CHECK(m->tensor[i].bound > 0);
        CHECK_STR(thaw_tree_param_name(m->tree, i), name[i]);
    }
    CHECK_INT(m->config.height, 1);
    CHECK_INT(m->config.width, 784);
    model_destroy(m);
}

/* Either end of `widths` may be left open; the classes win over the last width. */
static void test_open_ends(void **state)
{
    model_config c = config_of(3, (const int64_t[]){0, 16, 0});
    model *m = NULL;

    (void)state;
    c.height = 6;
    c.width = 4;
    c.channels = 3;
    c.n_classes = 7;
    CHECK_OK(model_create(&m, &c, DTYPE_F64));
    CHECK_INT(m->config.widths[0], 72);
    CHECK_INT(m->config.widths[2], 7);
    CHECK_INT(m->tensor[0].dtype, DTYPE_F64);
    model_destroy(m);
    c.widths[2] = 1000;
    CHECK_OK(model_create(&m, &c, DTYPE_F64));
    CHECK_INT(m->tensor[3].shape.dim[0], 7);
    model_destroy(m);
}

/* Input to output at once: a linear classifier. */
static void test_shallow(void **state)
{
    const model_config c = config_of(2, (const int64_t[]){12, 10});
    model *m = NULL;

    (void)state;
    CHECK_OK(model_create(&m, &c, DTYPE_F32));
    CHECK_INT(m->n_tensors, 2);
    CHECK_STR(m->tensor[0].name, "head.weight");
    model_destroy(m);
}

static void test_bad_sizes(void **state)
{
    model_config c = config_of(1, (const int64_t[]){12});
    model *m = NULL;

    (void)state;
    CHECK_ERROR(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE, "'widths'");
    c = config_of(3, (const int64_t[]){100, 8, 10});
    c.height = 6;
    c.width = 6;
    c.channels = 1;
    CHECK_ERROR(model_create(&m, &c, DTYPE_F32), THAW_E_SHAPE, "6 x 6 x 1 = 36");
    c = config_of(3, (const int64_t[]){36, 0, 10});
    CHECK_STATUS(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE);
    c = config_of(3, (const int64_t[]){0, 8, 10});
    c.height = c.width = INT64_MAX / 2; /* must not wrap around into something small */
    CHECK_STATUS(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE);
    c = config_of(3, (const int64_t[]){36, 8, 10});
    c.channels = -1;
    CHECK_STATUS(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE);
    CHECK(m == NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_open_ends),
        cmocka_unit_test(test_shallow),
        cmocka_unit_test(test_bad_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
