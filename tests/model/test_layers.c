/*
 * test_layers.c - the parts of a network: what each adds to tensors, tree and graph, and that a
 * builder does nothing after its first failure.
 */
#include "model/model.h"

#include "check.h"

/* A network under construction, from an input [B, 6, 6, 3]. */
static model *begin(model_builder *b, value_id *x)
{
    const shape image = shape_4(DIM_BATCH, 6, 6, 3);
    model *m = thaw__new(1, sizeof *m);

    CHECK(m != NULL);
    CHECK_OK(region_create(&m->region));
    CHECK_OK(graph_create(&m->graph, DTYPE_F32));
    CHECK_OK(thaw_tree_create(&m->tree));
    CHECK_OK(graph_input(x, m->graph, "image", DTYPE_F32, &image));
    *b = (model_builder){.model = m, .real = DTYPE_F32};
    return m;
}

static void end(model *m, model_builder *b)
{
    thaw__free(b->params.item);
    thaw__free(b->buffers.item);
    model_destroy(m);
}

static void check_shape(const model *m, value_id v, shape want)
{
    char a[128], b[128];

    CHECK_MSG(shape_equal(&m->graph->value[v].shape, &want), "%s, want %s",
              shape_format(a, &m->graph->value[v].shape), shape_format(b, &want));
}

static void test_each_layer(void **state)
{
    model_builder b;
    value_id x;
    model *m = begin(&b, &x);
    const shape conv = shape_4(8, 3, 3, 3), channels = shape_1(8), scalar = {.rank = 0};

    (void)state;
    x = layer_conv(&b, "stem.conv", x, (conv_layer){.out = 8, .kernel = 3, .stride = 2, .pad = 1});
    check_shape(m, x, shape_4(DIM_BATCH, 3, 3, 8));
    x = layer_batch_norm(&b, "stem.bn", x, (norm_layer)NORM_LAYER_INIT);
    x = layer_plain(&b, OP_RELU, "stem.relu", x);
    x = layer_add(&b, "add", x, x);
    x = layer_max_pool(&b, "pool", x, 2, 1, 0);
    check_shape(m, x, shape_4(DIM_BATCH, 2, 2, 8));
    x = layer_plain(&b, OP_GLOBAL_AVG_POOL, "avgpool", x);
    x = layer_dropout(&b, "dropout", x, 0.5);
    x = layer_linear(&b, layer_path(&b, "top", "fc"), x, 5, true);
    check_shape(m, x, shape_2(DIM_BATCH, 5));
    CHECK_OK(model_builder_finish(&b));
    CHECK_INT(m->n_params, 5);
    CHECK_INT(m->n_tensors, 8);
    CHECK(shape_equal(&m->tensor[0].shape, &conv));
    CHECK_NEAR(m->tensor[0].bound, sqrt(6.0 / (8 * 9)), 1e-12, 0);
    CHECK_STR(m->tensor[1].name, "stem.bn.weight");
    CHECK(m->tensor[1].fill == 1 && m->tensor[1].bound == 0);
    CHECK_STR(m->tensor[3].name, "top.fc.weight");
    CHECK(m->tensor[3].head && m->tensor[4].head && !m->tensor[0].head);
    CHECK_NEAR(m->tensor[4].bound, 1 / sqrt(8.0), 1e-12, 0);
    CHECK_STR(m->tensor[5].name, "stem.bn.running_mean");
    CHECK(m->tensor[5].buffer && m->tensor[5].fill == 0 && m->tensor[6].fill == 1);
    CHECK(shape_equal(&m->tensor[6].shape, &channels));
    CHECK(shape_equal(&m->tensor[7].shape, &scalar) && m->tensor[7].dtype == DTYPE_I64);
    CHECK_INT(m->graph->n_inputs, 2);
    end(m, &b);
}

/* Dropout of nothing is no layer. */
static void test_no_dropout(void **state)
{
    model_builder b;
    value_id x, y;
    model *m = begin(&b, &x);

    (void)state;
    y = layer_dropout(&b, "dropout", x, 0);
    CHECK_INT(y, x);
    CHECK_INT(m->graph->n_nodes, 0);
    CHECK(thaw_tree_find_module(m->tree, "dropout") < 0);
    end(m, &b);
}

/* Two dropouts draw from two streams; the same path, always the same one. */
static void test_dropout_streams(void **state)
{
    model_builder b;
    value_id x;
    model *m = begin(&b, &x);

    (void)state;
    x = layer_dropout(&b, "a", x, 0.5);
    x = layer_dropout(&b, "b", x, 0.5);
    CHECK_OK(b.status);
    CHECK(m->graph->node[0].attrs.dropout.stream != m->graph->node[1].attrs.dropout.stream);
    CHECK(m->graph->node[0].attrs.dropout.stream == hash_fnv1a("a"));
    CHECK_INT(m->graph->n_inputs, 2); /* they share the sample numbers */
    end(m, &b);
}

/* A 9 x 9 kernel does not fit into 6 x 6: the first failure stays, later layers do nothing. */
static void test_first_failure_stays(void **state)
{
    model_builder b;
    value_id x;
    model *m = begin(&b, &x);
    size_t nodes;

    (void)state;
    x = layer_conv(&b, "conv", x, (conv_layer){.out = 8, .kernel = 9, .stride = 1});
    CHECK_STATUS(b.status, THAW_E_SHAPE);
    nodes = m->graph->n_nodes;
    x = layer_batch_norm(&b, "bn", x, (norm_layer)NORM_LAYER_INIT);
    x = layer_plain(&b, OP_RELU, "relu", x);
    x = layer_add(&b, "add", x, x);
    x = layer_max_pool(&b, "pool", x, 2, 2, 0);
    x = layer_dropout(&b, "dropout", x, 0.5);
    x = layer_linear(&b, layer_path(&b, "top", "fc"), x, 5, true);
    (void)x;
    CHECK_INT(m->graph->n_nodes, nodes);
    CHECK_STATUS(model_builder_finish(&b), THAW_E_SHAPE);
    end(m, &b);
}

/* Two layers of one name are a mistake of the network's author that must not go unseen. */
static void test_same_name_twice(void **state)
{
    model_builder b;
    value_id x;
    model *m = begin(&b, &x);

    (void)state;
    x = layer_conv(&b, "conv", x, (conv_layer){.out = 3, .kernel = 3, .stride = 1, .pad = 1});
    x = layer_conv(&b, "conv", x, (conv_layer){.out = 3, .kernel = 3, .stride = 1, .pad = 1});
    (void)x;
    CHECK(b.status != THAW_OK || model_builder_finish(&b) != THAW_OK);
    end(m, &b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_layer),      cmocka_unit_test(test_no_dropout),
        cmocka_unit_test(test_dropout_streams), cmocka_unit_test(test_first_failure_stays),
        cmocka_unit_test(test_same_name_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
