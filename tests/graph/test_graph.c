/*
 * test_graph.c - building graphs, tied weights, copies with sizes bound, and running out of memory
 * on the way.
 */
#include "check.h"

#include "graph/nets.h"

static void values_and_nodes_are_kept_in_order(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id out = net_mlp(&n);
    const graph *g = n.g;

    (void)state;
    CHECK_INT(g->n_nodes, 5);
    CHECK_INT(g->n_forward, 5);
    CHECK_INT(g->n_inputs, 1);
    CHECK_INT(g->n_params, 6);
    CHECK_INT(g->loss, NO_VALUE);
    CHECK_STR(g->node[4].name, "fc3");
    CHECK_INT(g->node[4].module, 2);
    CHECK_INT(g->node[4].out[0], out);
    CHECK_INT(g->value[out].producer, 4);
    CHECK_INT(g->value[out].index, -1);
    CHECK_INT(g->value[g->node[4].in[1]].kind, VALUE_PARAM);
    CHECK_INT(g->value[g->node[4].in[1]].index, 4);
    CHECK_STR(g->value[g->node[4].in[1]].name, "fc3.weight");
    for (size_t k = 0; k < g->n_nodes; k++)
        for (int i = 0; i < g->node[k].n_in; i++)
            CHECK(g->node[k].in[i] < g->node[k].out[0]);
    net_destroy(&n);
}

static void a_tensor_asked_for_twice_is_one_value(void **state)
{
    net n = net_create(DTYPE_F32);
    const shape s = shape_2(4, 4), other = shape_2(4, 5);
    value_id a = NO_VALUE, b = NO_VALUE;

    (void)state;
    CHECK_OK(graph_param(&a, n.g, 3, "w", DTYPE_F32, &s));
    CHECK_OK(graph_param(&b, n.g, 3, "w", DTYPE_F32, &s));
    CHECK_INT(a, b);
    CHECK_ERROR(graph_param(&b, n.g, 3, "v", DTYPE_F32, &other), THAW_E_SHAPE,
                "tensor 3 is 'w' [4, 4] and 'v' [4, 5]");
    CHECK_INT(n.g->n_params, 4);
    net_destroy(&n);
}

static void wrong_inputs_are_named(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id x = net_input(&n, "x", DTYPE_F32, shape_2(DIM_BATCH, 3));
    const value_id missing[2] = {x, NO_VALUE};
    const size_t n_values = n.g->n_values;
    const shape unbound = shape_2(DIM_BATCH, 3);
    value_id out = 77;

    (void)state;
    CHECK_ERROR(graph_op(&out, n.g, OP_LINEAR, NULL, "fc", -1, 2, missing), THAW_E_SHAPE,
                "layer 'fc': linear needs its input 'weight'");
    CHECK_ERROR(graph_op(&out, n.g, OP_ADD, NULL, "sum", -1, 1, &x), THAW_E_SHAPE,
                "layer 'sum': add takes 2 to 2 inputs, not 1");
    CHECK_ERROR(graph_param(&out, n.g, 0, "w", DTYPE_F32, &unbound), THAW_E_SHAPE, "'w'");
    CHECK_INT(out, 77);
    CHECK_INT(n.g->n_values, n_values);
    CHECK_INT(n.g->n_nodes, 0);
    net_destroy(&n);
}

static void other_types_are_refused(void **state)
{
    graph *g = NULL;

    (void)state;
    CHECK_ERROR(graph_create(&g, DTYPE_BF16), THAW_E_SUPPORT, "bf16");
    CHECK(g == NULL);
}

static void a_copy_has_its_sizes_bound(void **state)
{
    net n = net_create(DTYPE_F64);
    const value_id out = net_small_resnet(&n);
    graph *copy = NULL;

    (void)state;
    CHECK_OK(graph_clone(&copy, n.g, 7, 0));
    CHECK_INT(copy->n_values, n.g->n_values);
    CHECK_INT(copy->n_nodes, n.g->n_nodes);
    CHECK_INT(copy->n_params, n.g->n_params);
    CHECK_INT(copy->real, DTYPE_F64);
    for (size_t v = 0; v < copy->n_values; v++) {
        const shape *a = &n.g->value[v].shape, *b = &copy->value[v].shape;

        CHECK_STR(copy->value[v].name, n.g->value[v].name);
        CHECK_INT(copy->value[v].kind, n.g->value[v].kind);
        CHECK_INT(a->rank, b->rank);
        for (int i = 0; i < a->rank; i++)
            CHECK_INT(b->dim[i], a->dim[i] == DIM_BATCH ? 7 : a->dim[i]);
    }
    CHECK_INT(copy->value[out].shape.dim[0], 7);
    CHECK_INT(n.g->value[out].shape.dim[0], DIM_BATCH);
    graph_destroy(copy);
    CHECK_STATUS(graph_clone(&copy, n.g, -1, 0), THAW_E_RANGE);
    net_destroy(&n);
}

static void length_is_bound_too(void **state)
{
    net n = net_create(DTYPE_F32);
    const int64_t dim[3] = {DIM_BATCH, DIM_LENGTH, 6};
    const value_id x = net_input(&n, "x", DTYPE_F32, shape_of(3, dim));
    const value_id y = net_linear(&n, "fc", x, 5);
    graph *copy = NULL;
    char buffer[128];

    (void)state;
    CHECK_STR(shape_format(buffer, &n.g->value[y].shape), "[B, T, 5]");
    CHECK_OK(graph_clone(&copy, n.g, 0, 9));
    CHECK_STR(shape_format(buffer, &copy->value[y].shape), "[B, 9, 5]");
    graph_destroy(copy);
    net_destroy(&n);
}

static void a_batch_too_large_is_refused(void **state)
{
    net n = net_create(DTYPE_F32);
    graph *copy = NULL;

    (void)state;
    net_small_resnet(&n);
    CHECK_STATUS(graph_clone(&copy, n.g, INT64_MAX / 2, 0), THAW_E_SHAPE);
    CHECK(copy == NULL);
    net_destroy(&n);
}

static void out_of_memory_is_survived(void **state)
{
    net n = net_create(DTYPE_F32);
    bool more = true;

    (void)state;
    net_small_resnet(&n);
    for (int i = 1; more; i++) {
        graph *copy = NULL;
        thaw_status status;

        check_alloc_fail(i, false);
        status = graph_clone(&copy, n.g, 2, 0);
        more = check_alloc_restore();
        CHECK_MSG(status == (more ? THAW_E_NOMEM : THAW_OK), "allocation %d: %s", i,
                  thaw_status_name(status));
        graph_destroy(copy);
    }
    net_destroy(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_and_nodes_are_kept_in_order),
        cmocka_unit_test(a_tensor_asked_for_twice_is_one_value),
        cmocka_unit_test(wrong_inputs_are_named),
        cmocka_unit_test(other_types_are_refused),
        cmocka_unit_test(a_copy_has_its_sizes_bound),
        cmocka_unit_test(length_is_bound_too),
        cmocka_unit_test(a_batch_too_large_is_refused),
        cmocka_unit_test(out_of_memory_is_survived),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
