/*
 * test_prune.c - what nobody needs is no step; what moves running statistics stays.
 */
#include "check.h"

#include "plan/plans.h"

/* conv -> bn -> fc, and on the side conv -> bn2 that nobody reads. */
static void setup_side(setup *s)
{
    net n = net_create(DTYPE_F32);
    const value_id conv = net_conv(&n, "conv", net_image(&n, 8, 3), 4, 3, 1);
    const value_id main = net_norm(&n, "bn", conv);
    value_id output;

    net_map(&n, OP_RELU, "relu2", net_norm(&n, "bn2", conv));
    output = net_head(&n, main, 3);
    setup_init(s, n, output);
}

static void a_dead_branch_is_no_step(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_side(&s);
    s.request.training = false;
    p = setup_compile(&s);
    CHECK_INT(find_step(p, "relu2", OP_RELU, 0), -1);
    CHECK_INT(find_step(p, "bn2", OP_BATCH_NORM_INFER, 0), -1);
    CHECK(find_step(p, "bn", OP_BATCH_NORM_INFER, 0) >= 0);
    plan_destroy(p);
    setup_done(&s);
}

static void running_statistics_move_all_the_same(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_side(&s);
    for (int i = 0; i < s.n.n_params - 2; i++)
        s.trainable[i] = false;
    p = setup_compile(&s);
    CHECK_INT(find_step(p, "relu2", OP_RELU, 0), -1);
    CHECK(find_step(p, "bn2", OP_BATCH_NORM_TRAIN, 0) >= 0);
    CHECK(find_step(p, "bn", OP_BATCH_NORM_TRAIN, 0) >= 0);
    CHECK_INT(p->n_step - p->n_forward, 2);
    plan_destroy(p);
    setup_done(&s);
}

static void inputs_keep_their_numbers(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id x = net_input(&n, "x", DTYPE_F32, shape_2(DIM_BATCH, 8));
    const value_id sample = net_input(&n, "sample", DTYPE_I64, shape_1(DIM_BATCH));
    const op_attrs attrs = net_dropout_attrs(0.5);
    const value_id y = net_op(&n, OP_DROPOUT, &attrs, "drop", 0, 2, (value_id[]){x, sample});
    const value_id output = net_linear(&n, "fc", y, 3);
    setup s;
    plan *p;

    (void)state;
    setup_init(&s, n, output);
    s.request.training = false;
    p = setup_compile(&s);
    CHECK_INT(find_step(p, "drop", OP_DROPOUT, 0), -1);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(p->slot[i].place, SLOT_INPUT);
        CHECK_INT(p->slot[i].index, i);
    }
    CHECK_STR(p->slot[1].name, "sample");
    CHECK_STR(p->slot[2].name, "target");
    plan_destroy(p);
    setup_done(&s);
}

static void views_are_of_inputs_alone(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id image = net_image(&n, 4, 1);
    const value_id first = net_map(&n, OP_FLATTEN, "first", image);
    const value_id conv = net_conv(&n, "conv", image, 1, 3, 1);
    const value_id second = net_map(&n, OP_FLATTEN, "second", conv);
    int index = 77;

    (void)state;
    CHECK(thaw__plan_view(&index, n.g, first));
    CHECK_INT(index, 0);
    CHECK(!thaw__plan_view(&index, n.g, second));
    CHECK(!thaw__plan_view(&index, n.g, image));
    CHECK(!thaw__plan_view(&index, n.g, conv));
    net_destroy(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dead_branch_is_no_step),
        cmocka_unit_test(running_statistics_move_all_the_same),
        cmocka_unit_test(inputs_keep_their_numbers),
        cmocka_unit_test(views_are_of_inputs_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
