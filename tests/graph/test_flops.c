/*
 * test_flops.c - arithmetic of a node against counts worked out by hand.
 */
#include "check.h"

#include "graph/nets.h"

static const graph_node *find(const graph *g, const char *name, uint32_t wrt)
{
    for (size_t k = 0; k < g->n_nodes; k++)
        if (strcmp(g->node[k].name, name) == 0 && g->node[k].wrt == wrt)
            return &g->node[k];
    CHECK_FAIL("no node '%s' with wrt %u", name, wrt);
    return NULL;
}

static void contractions_are_counted_exactly(void **state)
{
    const bool trains[NET_TENSORS] = {true, true, true};
    net n = net_create(DTYPE_F32);
    const value_id x = net_input(&n, "x", DTYPE_F32, shape_4(2, 8, 8, 3));
    const value_id y = net_head(&n, net_conv(&n, "conv", x, 4, 3, 2), 5);

    (void)state;
    CHECK_OK(graph_differentiate(n.g, net_cross_entropy(&n, y), trains, NET_TENSORS));
    /* 2 images, 4 × 4 places, 4 channels, each a sum of 3 × 3 × 3 products */
    CHECK_NEAR(graph_node_flops(n.g, find(n.g, "conv", 0)), 2.0 * 2 * 16 * 4 * 27, 0, 0);
    CHECK_NEAR(graph_node_flops(n.g, find(n.g, "conv", OP_IN(1))), 2.0 * 2 * 16 * 4 * 27, 0, 0);
    /* 2 rows, 5 outputs, 4 inputs, and the bias */
    CHECK_NEAR(graph_node_flops(n.g, find(n.g, "fc", 0)), 2.0 * 2 * 5 * 4 + 10, 0, 0);
    CHECK_NEAR(graph_node_flops(n.g, find(n.g, "fc", OP_IN(1) | OP_IN(2))), 2.0 * 2 * 5 * 4 + 10, 0,
               0);
    CHECK_NEAR(graph_node_flops(n.g, find(n.g, "fc", OP_IN(0))), 2.0 * 2 * 5 * 4, 0, 0);
    net_destroy(&n);
}

/* torchvision gives 4.09 GFLOP, counting a multiply-add once and contractions alone. */
static void resnet50_has_its_known_size(void **state)
{
    net n = net_create(DTYPE_F32);
    graph *g = NULL;
    double sum = 0;

    (void)state;
    net_resnet(&n, (int[]){3, 4, 6, 3});
    CHECK_OK(graph_clone(&g, n.g, 1, 0));
    for (size_t k = 0; k < g->n_nodes; k++)
        if (g->node[k].op == OP_CONV2D || g->node[k].op == OP_LINEAR)
            sum += graph_node_flops(g, &g->node[k]);
    CHECK_NEAR(sum / 2e9, 4.089, 1e-3, 0);
    graph_destroy(g);
    net_destroy(&n);
}

/* 2 x 3 queries, 4 keys, 8 features: two products of matrices forward, five backward. */
static void attention_is_counted_exactly(void **state)
{
    const op_attrs attrs = {.attention = {.heads = 2}};
    net n = net_create(DTYPE_F32);
    const value_id q = net_input(&n, "q", DTYPE_F32, shape_of(3, (const int64_t[]){2, 3, 8}));
    const value_id k = net_input(&n, "k", DTYPE_F32, shape_of(3, (const int64_t[]){2, 4, 8}));
    value_id out;

    (void)state;
    CHECK_OK(
        graph_op(&out, n.g, OP_ATTENTION, &attrs, "attend", -1, 3, (const value_id[]){q, k, k}));
    CHECK_NEAR(graph_node_flops(n.g, find(n.g, "attend", 0)), 2.0 * 2 * (2 * 3) * 4 * 8, 0, 0);
    net_destroy(&n);
}

static void every_node_costs_something(void **state)
{
    net n = net_create(DTYPE_F32);
    graph *g = NULL;

    (void)state;
    net_cross_entropy(&n, net_small_resnet(&n));
    CHECK_OK(graph_clone(&g, n.g, 2, 0));
    for (size_t k = 0; k < g->n_nodes; k++)
        CHECK_MSG(graph_node_flops(g, &g->node[k]) > 0, "'%s' costs nothing", g->node[k].name);
    graph_destroy(g);
    net_destroy(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contractions_are_counted_exactly),
        cmocka_unit_test(resnet50_has_its_known_size),
        cmocka_unit_test(attention_is_counted_exactly),
        cmocka_unit_test(every_node_costs_something),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
