/*
 * test_autodiff.c - which backward nodes exist, in which order, and what they read.
 *
 * A backward part is compared as text: "layer.input,input" for a backward node and the gradients it
 * makes, "layer+" for a sum of gradients.
 */
#include "check.h"

#include "graph/nets.h"

#define EVERYBODY (-1)

/* Differentiate with the parameters of the set (a bit each; EVERYBODY) trainable. */
static void differentiate(net *n, value_id loss, int64_t trainable)
{
    bool trains[NET_TENSORS] = {0};

    for (int p = 0; p < n->n_params; p++)
        trains[p] = (trainable >> p) & 1;
    CHECK_OK(graph_differentiate(n->g, loss, trains, NET_TENSORS));
    for (int p = 0; p < NET_TENSORS; p++)
        CHECK_MSG(trains[p] || n->g->param_grad[p] == NO_VALUE, "tensor %d has a gradient", p);
}

static const char *backward_text(const graph *g)
{
    static char line[4096];
    size_t n = 0;
    char input[16];

    line[0] = '\0';
    for (size_t k = (size_t)g->n_forward; k < g->n_nodes; k++) {
        const graph_node *node = &g->node[k];
        char before = '.';

        n += (size_t)snprintf(line + n, sizeof line - n, "%s%s", n ? " " : "", node->name);
        if (!node->wrt)
            n += (size_t)snprintf(line + n, sizeof line - n, "+");
        for (int i = 0; i < node->n_out; i++)
            if (node->wrt & OP_IN(i)) {
                n += (size_t)snprintf(line + n, sizeof line - n, "%c%s", before,
                                      op_input_name(input, node->op, i));
                before = ',';
            }
    }
    return line;
}

static const graph_node *backward_node(const graph *g, const char *name, uint32_t wrt)
{
    for (size_t k = (size_t)g->n_forward; k < g->n_nodes; k++)
        if (strcmp(g->node[k].name, name) == 0 && g->node[k].wrt == wrt)
            return &g->node[k];
    CHECK_FAIL("no backward node of '%s' with wrt %u in: %s", name, wrt, backward_text(g));
    return NULL;
}

/* Every node reads what is made before it, of the shape its place asks for. */
static void check_order_and_shapes(const graph *g)
{
    for (size_t k = (size_t)g->n_forward; k < g->n_nodes; k++) {
        const graph_node *node = &g->node[k];
        const graph_node *forward = node->wrt ? &g->node[node->forward] : NULL;

        for (int i = 0; i < node->n_in; i++)
            if (node->in[i] != NO_VALUE)
                CHECK_MSG(g->value[node->in[i]].producer < (int)k, "node %zu reads the future", k);
        for (int i = 0; forward && i < node->n_out; i++)
            if (node->out[i] != NO_VALUE)
                CHECK(shape_equal(&g->value[node->out[i]].shape, &g->value[forward->in[i]].shape));
    }
}

static void a_chain_runs_backwards(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id loss = net_cross_entropy(&n, net_mlp(&n));

    (void)state;
    differentiate(&n, loss, EVERYBODY);
    CHECK_STR(backward_text(n.g), "loss.logits fc3.weight,bias fc3.src relu2.src fc2.weight,bias "
                                  "fc2.src relu1.src fc1.weight,bias");
    check_order_and_shapes(n.g);
    for (int p = 0; p < 6; p++)
        CHECK(n.g->param_grad[p] != NO_VALUE);
    CHECK_INT(n.g->loss, loss);
    CHECK_INT(n.g->grad[loss], NO_VALUE);
    CHECK_INT(n.g->n_forward, 6);
    net_destroy(&n);
}

static void a_frozen_prefix_has_no_nodes(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id loss = net_cross_entropy(&n, net_mlp(&n));

    (void)state;
    differentiate(&n, loss, 0x30);
    CHECK_STR(backward_text(n.g), "loss.logits fc3.weight,bias");
    net_destroy(&n);
}

static void a_frozen_middle_passes_gradients_and_keeps_nothing(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id loss = net_cross_entropy(&n, net_mlp(&n));
    const graph_node *node;

    (void)state;
    differentiate(&n, loss, 0x33);
    CHECK_STR(backward_text(n.g),
              "loss.logits fc3.weight,bias fc3.src relu2.src fc2.src relu1.src fc1.weight,bias");
    node = backward_node(n.g, "fc2", OP_IN(0));
    CHECK_INT(node->n_in, 1 + 3 + 1);
    CHECK_INT(node->in[backward_in(&op_table[OP_LINEAR], 3, 0)], NO_VALUE);
    CHECK(node->in[backward_in(&op_table[OP_LINEAR], 3, 1)] != NO_VALUE);
    CHECK_INT(node->in[backward_out(&op_table[OP_LINEAR], 3, 0)], NO_VALUE);
    net_destroy(&n);
}

static void a_bias_alone_reads_nothing(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id loss = net_cross_entropy(&n, net_mlp(&n));
    const graph_node *node;

    (void)state;
    differentiate(&n, loss, 0x20);
    CHECK_STR(backward_text(n.g), "loss.logits fc3.bias");
    node = backward_node(n.g, "fc3", OP_IN(2));
    for (int i = 1; i < node->n_in; i++)
        CHECK_INT(node->in[i], NO_VALUE);
    CHECK(node->out[2] != NO_VALUE && node->out[1] == NO_VALUE && node->out[0] == NO_VALUE);
    net_destroy(&n);
}

static void nobody_trainable_means_no_nodes(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id loss = net_cross_entropy(&n, net_mlp(&n));

    (void)state;
    differentiate(&n, loss, 0);
    CHECK_STR(backward_text(n.g), "");
    net_destroy(&n);
}

/* x -> fc1 -> h;  h + fc2(h) */
static void a_residual_sums_both_ways(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id x = net_input(&n, "x", DTYPE_F32, shape_2(DIM_BATCH, 8));
    const value_id h = net_linear(&n, "fc1", x, 8);
    const value_id y = net_add(&n, "add", h, net_linear(&n, "fc2", h, 8));
    const value_id loss = net_cross_entropy(&n, y);
    const graph_node *sum;

    (void)state;
    differentiate(&n, loss, EVERYBODY);
    CHECK_STR(backward_text(n.g), "loss.logits fc2.weight,bias fc2.src fc2+ fc1.weight,bias");
    sum = backward_node(n.g, "fc2", 0);
    CHECK_INT(sum->in[0], n.g->grad[y]);
    CHECK_INT(sum->in[1], backward_node(n.g, "fc2", OP_IN(0))->out[0]);
    CHECK_INT(n.g->grad[h], sum->out[0]);
    check_order_and_shapes(n.g);
    net_destroy(&n);
}

/* The shortcut's gradient is the sum's as it is; with fc2 frozen nothing but its src is made. */
static void add_passes_its_gradient_through(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id x = net_input(&n, "x", DTYPE_F32, shape_2(DIM_BATCH, 8));
    const value_id a = net_linear(&n, "fc1", x, 8), b = net_linear(&n, "fc2", x, 8);
    const value_id y = net_add(&n, "add", a, b);

    (void)state;
    differentiate(&n, net_cross_entropy(&n, y), EVERYBODY);
    CHECK_STR(backward_text(n.g), "loss.logits fc2.weight,bias fc1.weight,bias");
    CHECK_INT(n.g->grad[a], n.g->grad[y]);
    CHECK_INT(n.g->grad[b], n.g->grad[y]);
    net_destroy(&n);
}

static void the_same_value_twice_counts_twice(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id x = net_input(&n, "x", DTYPE_F32, shape_2(DIM_BATCH, 8));
    const value_id a = net_linear(&n, "fc1", x, 8);
    const value_id y = net_add(&n, "twice", a, a);
    const graph_node *sum;

    (void)state;
    differentiate(&n, net_cross_entropy(&n, y), EVERYBODY);
    CHECK_STR(backward_text(n.g), "loss.logits twice+ fc1.weight,bias");
    sum = backward_node(n.g, "twice", 0);
    CHECK_INT(sum->in[0], n.g->grad[y]);
    CHECK_INT(sum->in[1], n.g->grad[y]);
    net_destroy(&n);
}

static void a_shared_weight_sums_its_uses(void **state)
{
    net n = net_create(DTYPE_F32);
    value_id x = net_input(&n, "x", DTYPE_F32, shape_2(DIM_BATCH, 8));
    const value_id w = net_param(&n, "tied", "weight", shape_2(8, 8));
    const graph_node *last = NULL;

    (void)state;
    x = net_linear_on(&n, "use1", x, w);
    x = net_linear_on(&n, "use2", x, w);
    x = net_linear_on(&n, "use3", x, w);
    differentiate(&n, net_cross_entropy(&n, x), EVERYBODY);
    CHECK_STR(backward_text(n.g), "loss.logits use3.weight use3.src use2.weight use2+ use2.src "
                                  "use1.weight use1+");
    last = backward_node(n.g, "use1", 0);
    CHECK_INT(n.g->param_grad[0], last->out[0]);
    CHECK_INT(last->in[0], backward_node(n.g, "use2", 0)->out[0]);
    check_order_and_shapes(n.g);
    net_destroy(&n);
}

static void a_frozen_tower_has_no_nodes(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id x = net_input(&n, "x", DTYPE_F32, shape_2(DIM_BATCH, 8));
    const value_id z = net_input(&n, "z", DTYPE_F32, shape_2(DIM_BATCH, 6));
    value_id a = net_map(&n, OP_RELU, "relu_a", net_linear(&n, "a1", x, 8));
    value_id b = net_map(&n, OP_RELU, "relu_b", net_linear(&n, "b1", z, 8));

    (void)state;
    a = net_linear(&n, "a2", a, 4);
    b = net_linear(&n, "b2", b, 4);
    differentiate(&n, net_cross_entropy(&n, net_add(&n, "join", a, b)), 0x0C);
    CHECK_STR(backward_text(n.g), "loss.logits b2.src relu_b.src b1.weight,bias");
    net_destroy(&n);
}

static void both_towers_may_be_frozen(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id x = net_input(&n, "x", DTYPE_F32, shape_2(DIM_BATCH, 8));
    const value_id z = net_input(&n, "z", DTYPE_F32, shape_2(DIM_BATCH, 6));
    const value_id a = net_linear(&n, "a1", x, 8), b = net_linear(&n, "b1", z, 8);
    const value_id y = net_linear(&n, "head", net_add(&n, "join", a, b), 3);

    (void)state;
    differentiate(&n, net_cross_entropy(&n, y), 0x30);
    CHECK_STR(backward_text(n.g), "loss.logits head.weight,bias");
    net_destroy(&n);
}

static void a_convolution_keeps_its_input_for_its_weight_alone(void **state)
{
    net n = net_create(DTYPE_F32);
    const op_info *conv = &op_table[OP_CONV2D];
    value_id x = net_image(&n, 8, 3);
    const graph_node *node;

    (void)state;
    x = net_conv(&n, "conv1", x, 4, 3, 1);
    x = net_conv(&n, "conv2", x, 4, 3, 1);
    differentiate(&n, net_cross_entropy(&n, net_head(&n, x, 3)), 0x01);
    CHECK_STR(backward_text(n.g), "loss.logits fc.src avgpool.src conv2.src conv1.weight");
    node = backward_node(n.g, "conv2", OP_IN(0));
    CHECK_INT(node->in[backward_in(conv, 2, 0)], NO_VALUE);
    CHECK(node->in[backward_in(conv, 2, 1)] != NO_VALUE);
    node = backward_node(n.g, "conv1", OP_IN(1));
    CHECK(node->in[backward_in(conv, 2, 0)] != NO_VALUE);
    CHECK_INT(node->in[backward_in(conv, 2, 1)], NO_VALUE);
    net_destroy(&n);
}

static void a_norm_has_one_node(void **state)
{
    net n = net_create(DTYPE_F32);
    const op_info *norm = &op_table[OP_BATCH_NORM_TRAIN];
    value_id x = net_image(&n, 8, 3);
    const graph_node *node;

    (void)state;
    x = net_norm(&n, "bn", net_conv(&n, "conv", x, 4, 3, 1));
    differentiate(&n, net_cross_entropy(&n, net_head(&n, x, 3)), 0x03);
    CHECK_STR(backward_text(n.g), "loss.logits fc.src avgpool.src bn.src,weight conv.weight");
    node = backward_node(n.g, "bn", OP_IN(0) | OP_IN(1));
    CHECK(node->in[0] != NO_VALUE && node->in[1] == NO_VALUE && node->in[2] == NO_VALUE);
    for (int i = 0; i < 6; i++)
        CHECK_INT(node->in[backward_in(norm, 6, i)] != NO_VALUE, i < 2);
    for (int j = 0; j < 3; j++)
        CHECK_INT(node->in[backward_out(norm, 6, j)] != NO_VALUE, j > 0);
    net_destroy(&n);
}

/* gap and conv2 have no use of the second head; it does not reach the loss. */
static void what_the_loss_does_not_see_has_no_gradient(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id x = net_input(&n, "x", DTYPE_F32, shape_2(DIM_BATCH, 8));
    const value_id h = net_linear(&n, "fc1", x, 8);
    const value_id y = net_linear(&n, "fc2", h, 4);

    (void)state;
    (void)net_linear(&n, "aside", h, 4);
    differentiate(&n, net_cross_entropy(&n, y), EVERYBODY);
    CHECK_STR(backward_text(n.g), "loss.logits fc2.weight,bias fc2.src fc1.weight,bias");
    CHECK_INT(n.g->param_grad[4], NO_VALUE);
    CHECK_INT(n.g->param_grad[5], NO_VALUE);
    net_destroy(&n);
}

static void a_parameter_added_as_it_is_is_refused(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id x = net_input(&n, "x", DTYPE_F32, shape_2(4, 8));
    const value_id p = net_param(&n, "position", "embedding", shape_2(4, 8));
    const value_id loss = net_cross_entropy(&n, net_add(&n, "add", x, p));
    bool trains[NET_TENSORS] = {true};

    (void)state;
    CHECK_ERROR(graph_differentiate(n.g, loss, trains, NET_TENSORS), THAW_E_SUPPORT,
                "'position.embedding'");
    net_destroy(&n);
}

static void out_of_memory_is_survived(void **state)
{
    const bool trains[NET_TENSORS] = {true, true, true};
    bool more = true;

    (void)state;
    for (int i = 1; more; i++) {
        net n = net_create(DTYPE_F32);
        const value_id loss = net_cross_entropy(&n, net_small_resnet(&n));
        thaw_status status;

        check_alloc_fail(i, false);
        status = graph_differentiate(n.g, loss, trains, NET_TENSORS);
        more = check_alloc_restore();
        CHECK_MSG(status == (more ? THAW_E_NOMEM : THAW_OK), "allocation %d: %s", i,
                  thaw_status_name(status));
        net_destroy(&n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_runs_backwards),
        cmocka_unit_test(a_frozen_prefix_has_no_nodes),
        cmocka_unit_test(a_frozen_middle_passes_gradients_and_keeps_nothing),
        cmocka_unit_test(a_bias_alone_reads_nothing),
        cmocka_unit_test(nobody_trainable_means_no_nodes),
        cmocka_unit_test(a_residual_sums_both_ways),
        cmocka_unit_test(add_passes_its_gradient_through),
        cmocka_unit_test(the_same_value_twice_counts_twice),
        cmocka_unit_test(a_shared_weight_sums_its_uses),
        cmocka_unit_test(a_frozen_tower_has_no_nodes),
        cmocka_unit_test(both_towers_may_be_frozen),
        cmocka_unit_test(a_convolution_keeps_its_input_for_its_weight_alone),
        cmocka_unit_test(a_norm_has_one_node),
        cmocka_unit_test(what_the_loss_does_not_see_has_no_gradient),
        cmocka_unit_test(a_parameter_added_as_it_is_is_refused),
        cmocka_unit_test(out_of_memory_is_survived),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
