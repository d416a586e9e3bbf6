/*
 * test_rewrite.c - norms and dropout as the phase asks, and results written over what dies.
 */
#include "check.h"

#include "plan/plans.h"

static void setup_resnet(setup *s)
{
    net n = net_create(DTYPE_F32);
    const value_id output = net_small_resnet(&n);

    setup_init(s, n, output);
}

/* ----------------------------------------------------------------------------------------------
 * modes */

static void norms_run_as_their_module_says(void **state)
{
    setup s;
    plan *p;
    const plan_step *step;

    (void)state;
    setup_resnet(&s);
    s.mode[1] = THAW_MODE_DROPOUT; /* bn1 */
    p = setup_compile(&s);
    step = need_step(p, "bn1", OP_BATCH_NORM_INFER, 0);
    CHECK_INT(step->n_in, 5);
    CHECK_INT(step->n_out, 1);
    CHECK_NEAR(step->attrs.norm.eps, 1e-5, 0, 0);
    CHECK_INT(find_step(p, "bn1", OP_BATCH_NORM_TRAIN, 0), -1);
    CHECK(find_step(p, "bn1", OP_BATCH_NORM_INFER, OP_IN(0) | OP_IN(1) | OP_IN(2)) >= 0);
    CHECK(find_step(p, "layer1.bn1", OP_BATCH_NORM_TRAIN, 0) >= 0);
    plan_destroy(p);
    setup_done(&s);
}

/* fc1 -> drop -> fc2 -> drop2, the last one the network's output. */
static void setup_dropout(setup *s, double p)
{
    net n = net_create(DTYPE_F32);
    const op_attrs attrs = net_dropout_attrs(p);
    const value_id x = net_input(&n, "x", DTYPE_F32, shape_2(DIM_BATCH, 8));
    const value_id sample = net_input(&n, "sample", DTYPE_I64, shape_1(DIM_BATCH));
    value_id y = net_linear(&n, "fc1", x, 8);

    y = net_op(&n, OP_DROPOUT, &attrs, "drop", 0, 2, (value_id[]){y, sample});
    y = net_linear(&n, "fc2", y, 3);
    y = net_op(&n, OP_DROPOUT, &attrs, "drop2", 1, 2, (value_id[]){y, sample});
    setup_init(s, n, y);
}

static void dropout_that_is_off_is_not_there(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_dropout(&s, 0.5);
    p = setup_compile(&s);
    CHECK(find_step(p, "drop", OP_DROPOUT, 0) >= 0);
    CHECK(find_step(p, "drop", OP_DROPOUT, OP_IN(0)) >= 0);
    CHECK(find_step(p, "drop2", OP_DROPOUT, 0) >= 0);
    plan_destroy(p);

    s.mode[0] = THAW_MODE_NORM_TRAIN;
    p = setup_compile(&s);
    CHECK_INT(find_step(p, "drop", OP_DROPOUT, 0), -1);
    CHECK_INT(find_step(p, "drop", OP_DROPOUT, OP_IN(0)), -1);
    CHECK(find_step(p, "drop2", OP_DROPOUT, 0) >= 0);
    CHECK_INT(need_step(p, "fc2", OP_LINEAR, 0)->in[0], need_step(p, "fc1", OP_LINEAR, 0)->out[0]);
    plan_destroy(p);

    s.request.training = false;
    p = setup_compile(&s);
    CHECK_INT(find_step(p, "drop2", OP_DROPOUT, 0), -1);
    CHECK_INT(p->results.output, need_step(p, "fc2", OP_LINEAR, 0)->out[0]);
    plan_destroy(p);
    setup_done(&s);
}

static void dropout_of_nothing_is_not_there(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_dropout(&s, 0);
    p = setup_compile(&s);
    CHECK_INT(find_step(p, "drop", OP_DROPOUT, 0), -1);
    plan_destroy(p);
    setup_done(&s);
}

static void statistics_of_one_value_are_refused(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id x = net_input(&n, "x", DTYPE_F32, shape_2(DIM_BATCH, 8));
    const value_id output = net_linear(&n, "fc", net_norm(&n, "bn", x), 3);
    setup s;
    plan *p = NULL;

    (void)state;
    setup_init(&s, n, output);
    s.request.batch = 1;
    CHECK_ERROR(plan_compile(&p, &s.request), THAW_E_SHAPE,
                "layer 'bn': batch statistics of [1, 8]");
    s.request.training = false;
    plan_destroy(setup_compile(&s));
    s.request.training = true;
    s.request.batch = 2;
    plan_destroy(setup_compile(&s));
    setup_done(&s);
}

/* ----------------------------------------------------------------------------------------------
 * in place */

/* The input whose memory a step's result has; checks that offsets say the same. */
static int shared_input(const plan *p, const char *name, op_kind op, uint32_t wrt)
{
    const int s = find_step(p, name, op, wrt);
    int in;

    CHECK_MSG(s >= 0, "no step %s of '%s'", op_table[op].name, name);
    in = thaw__plan_shared_input(p, s, 0);
    if (in >= 0)
        CHECK_INT(p->slot[p->step[s].in[in]].offset, p->slot[p->step[s].out[0]].offset);
    return in;
}

static void activations_take_over_what_dies(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_resnet(&s);
    p = setup_compile(&s);
    /* The norm's input is kept for its gradient, its output is not. */
    CHECK_INT(shared_input(p, "bn1", OP_BATCH_NORM_TRAIN, 0), -1);
    CHECK_INT(shared_input(p, "relu", OP_RELU, 0), 0);
    CHECK_INT(shared_input(p, "layer1", OP_ADD, 0), 0);
    CHECK_INT(shared_input(p, "bn1", OP_BATCH_NORM_TRAIN, OP_IN(0) | OP_IN(1) | OP_IN(2)), 0);
    CHECK_INT(shared_input(p, "relu", OP_RELU, OP_IN(0)), 0);
    plan_destroy(p);

    s.request.training = false;
    p = setup_compile(&s);
    CHECK_INT(shared_input(p, "bn1", OP_BATCH_NORM_INFER, 0), 0);
    CHECK_INT(shared_input(p, "relu", OP_RELU, 0), 0);
    CHECK_INT(shared_input(p, "maxpool", OP_MAX_POOL2D, 0), -1);
    plan_destroy(p);

    s.request.inplace = false;
    p = setup_compile(&s);
    for (int i = 0; i < p->n_step; i++)
        CHECK_INT(thaw__plan_shared_input(p, i, 0), -1);
    plan_destroy(p);
    setup_done(&s);
}

/* A frozen norm with trainable weights reads d_dst twice. */
static void a_norm_with_weights_keeps_its_gradient_apart(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_resnet(&s);
    memset(s.mode, 0, sizeof s.mode);
    p = setup_compile(&s);
    CHECK_INT(shared_input(p, "bn1", OP_BATCH_NORM_INFER, OP_IN(0) | OP_IN(1) | OP_IN(2)), -1);
    plan_destroy(p);
    s.trainable[1] = s.trainable[2] = false;
    p = setup_compile(&s);
    CHECK_INT(shared_input(p, "bn1", OP_BATCH_NORM_INFER, OP_IN(0)), 0);
    plan_destroy(p);
    setup_done(&s);
}

/* relu(x) + x: x is read once more, so the first relu may not write over it, the sum may. */
static void what_is_read_later_stays(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id image = net_input(&n, "x", DTYPE_F32, shape_2(DIM_BATCH, 8));
    const value_id x = net_linear(&n, "fc1", image, 8);
    const value_id y = net_map(&n, OP_RELU, "relu", x);
    const value_id output = net_linear(&n, "fc2", net_add(&n, "sum", x, y), 3);
    setup s;
    plan *p;

    (void)state;
    setup_init(&s, n, output);
    s.request.training = false;
    p = setup_compile(&s);
    CHECK_INT(shared_input(p, "relu", OP_RELU, 0), -1);
    CHECK_INT(shared_input(p, "sum", OP_ADD, 0), 0);
    plan_destroy(p);
    /* relu's gradient reads relu's result, so in training the sum takes x's memory, not y's. */
    s.request.training = true;
    p = setup_compile(&s);
    CHECK_INT(shared_input(p, "sum", OP_ADD, 0), 0);
    plan_destroy(p);
    setup_done(&s);
}

static void the_second_operand_will_do(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id image = net_input(&n, "x", DTYPE_F32, shape_2(DIM_BATCH, 8));
    const value_id x = net_linear(&n, "fc1", image, 8);
    const value_id y = net_map(&n, OP_RELU, "relu", x);
    const value_id sum = net_add(&n, "sum", x, y);
    const value_id output = net_add(&n, "again", x, sum);
    setup s;
    plan *p;

    (void)state;
    setup_init(&s, n, output);
    s.request.training = false;
    p = setup_compile(&s);
    CHECK_INT(shared_input(p, "sum", OP_ADD, 0), 1);
    CHECK_INT(shared_input(p, "again", OP_ADD, 0), 0);
    plan_destroy(p);
    setup_done(&s);
}

/* The network's output is a result: nothing is written over it, and it may be written in place. */
static void results_are_not_written_over(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id image = net_input(&n, "x", DTYPE_F32, shape_2(DIM_BATCH, 8));
    const value_id output = net_linear(&n, "fc1", image, 8);
    setup s;
    plan *p;

    (void)state;
    net_map(&n, OP_RELU, "relu", output);
    setup_init(&s, n, output);
    s.request.loss_op = OP_COUNT;
    s.request.training = false;
    p = setup_compile(&s);
    CHECK_INT(p->slot[p->results.output].last, p->n_step);
    plan_destroy(p);
    setup_done(&s);
}

static void a_flatten_of_one_pixel_stays_where_it_is(void **state)
{
    net n = net_create(DTYPE_F32);
    value_id x = net_conv(&n, "conv", net_image(&n, 4, 3), 8, 3, 4);
    const value_id row = net_map(&n, OP_FLATTEN, "flatten", net_map(&n, OP_RELU, "relu", x));
    const value_id output = net_linear(&n, "fc", row, 3);
    setup s;
    plan *p;

    (void)state;
    setup_init(&s, n, output);
    p = setup_compile(&s);
    CHECK_INT(shared_input(p, "flatten", OP_FLATTEN, 0), -1); /* relu's gradient reads the source */
    CHECK_INT(shared_input(p, "flatten", OP_FLATTEN, OP_IN(0)), 0);
    plan_destroy(p);
    s.request.training = false;
    p = setup_compile(&s);
    CHECK_INT(shared_input(p, "flatten", OP_FLATTEN, 0), 0);
    plan_destroy(p);
    setup_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_run_as_their_module_says),
        cmocka_unit_test(dropout_that_is_off_is_not_there),
        cmocka_unit_test(dropout_of_nothing_is_not_there),
        cmocka_unit_test(statistics_of_one_value_are_refused),
        cmocka_unit_test(activations_take_over_what_dies),
        cmocka_unit_test(a_norm_with_weights_keeps_its_gradient_apart),
        cmocka_unit_test(what_is_read_later_stays),
        cmocka_unit_test(the_second_operand_will_do),
        cmocka_unit_test(results_are_not_written_over),
        cmocka_unit_test(a_flatten_of_one_pixel_stays_where_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
