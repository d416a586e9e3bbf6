/*
 * test_order.c - steps and slots: where values lie, when they live, and which nodes are no step.
 */
#include "check.h"

#include "plan/plans.h"

static void setup_mlp(setup *s)
{
    net n = net_create(DTYPE_F32);
    const value_id output = net_mlp(&n);

    setup_init(s, n, output);
}

static void results_have_their_types(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_mlp(&s);
    p = setup_compile(&s);
    CHECK_INT(p->slot[p->results.loss].dtype, DTYPE_F64);
    CHECK_INT(p->slot[p->results.loss].shape.rank, 0);
    CHECK_INT(p->slot[p->results.valid].dtype, DTYPE_F64);
    CHECK_INT(p->slot[p->results.output].shape.dim[1], 4);
    CHECK_INT(p->slot[p->results.predicted].dtype, DTYPE_I32);
    CHECK_INT(p->slot[p->results.predicted].shape.dim[0], 4);
    CHECK_INT(p->slot[p->results.output].last, p->n_step);
    plan_destroy(p);

    s.request.loss_op = OP_MSE;
    p = setup_compile(&s);
    CHECK_INT(p->results.predicted, -1);
    CHECK_INT(p->slot[1].place, SLOT_INPUT);
    CHECK_INT(p->slot[1].dtype, DTYPE_F32);
    CHECK_INT(p->slot[1].bytes, 4 * 4 * 4);
    plan_destroy(p);

    s.request.loss_op = OP_COUNT;
    s.request.training = false;
    p = setup_compile(&s);
    CHECK_INT(p->results.loss, -1);
    CHECK_INT(p->results.valid, -1);
    CHECK(p->results.predicted >= 0 && p->results.output >= 0);
    CHECK_INT(p->n_step, 6);
    plan_destroy(p);
    setup_done(&s);
}

static void gradients_go_where_the_optimizer_reads(void **state)
{
    setup s;
    plan *p;
    const plan_step *step;

    (void)state;
    setup_mlp(&s);
    p = setup_compile(&s);
    step = need_step(p, "fc2", OP_LINEAR, OP_IN(1) | OP_IN(2));
    CHECK_INT(p->slot[step->out[1]].place, SLOT_GRAD);
    CHECK_INT(p->slot[step->out[1]].index, 2);
    CHECK_INT(p->slot[step->out[2]].index, 3);
    CHECK_INT(step->out[0], -1);
    plan_destroy(p);
    setup_done(&s);
}

static void a_tied_weight_has_one_gradient_slot(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id x = net_input(&n, "x", DTYPE_F32, shape_2(DIM_BATCH, 8));
    const value_id w = net_param(&n, "tied", "weight", shape_2(8, 8));
    const value_id y = net_linear_on(&n, "use2", net_linear_on(&n, "use1", x, w), w);
    setup s;
    plan *p;
    int grads = 0;

    (void)state;
    setup_init(&s, n, y);
    p = setup_compile(&s);
    for (int i = 0; i < p->n_slots; i++)
        grads += p->slot[i].place == SLOT_GRAD;
    CHECK_INT(grads, 1);
    CHECK_INT(p->slot[need_step(p, "use1", OP_ADD, 0)->out[0]].place, SLOT_GRAD);
    CHECK_INT(p->slot[need_step(p, "use2", OP_LINEAR, OP_IN(1))->out[1]].place, SLOT_ARENA);
    plan_destroy(p);
    setup_done(&s);
}

/* An image of one channel is already the row that flatten would make. */
static void a_flatten_that_moves_nothing_is_no_step(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id image = net_image(&n, 6, 1);
    const value_id row = net_map(&n, OP_FLATTEN, "flatten", image);
    const value_id output = net_linear(&n, "fc", row, 3);
    setup s;
    plan *p;
    const plan_step *step;

    (void)state;
    setup_init(&s, n, output);
    p = setup_compile(&s);
    CHECK_INT(find_step(p, "flatten", OP_FLATTEN, 0), -1);
    step = need_step(p, "fc", OP_LINEAR, 0);
    CHECK_INT(p->slot[step->in[0]].place, SLOT_INPUT);
    CHECK_INT(p->slot[step->in[0]].index, 0);
    CHECK_INT(p->slot[step->in[0]].shape.rank, 2);
    CHECK_INT(p->input_bytes, 4 * 36 * 4 + 4 * 4);
    step = need_step(p, "fc", OP_LINEAR, OP_IN(1) | OP_IN(2));
    CHECK_INT(p->slot[step->in[1]].place, SLOT_INPUT);
    plan_destroy(p);
    setup_done(&s);
}

static void a_flatten_that_moves_something_is_a_step(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id row = net_map(&n, OP_FLATTEN, "flatten", net_image(&n, 6, 2));
    const value_id output = net_linear(&n, "fc", row, 3);
    setup s;
    plan *p;

    (void)state;
    setup_init(&s, n, output);
    p = setup_compile(&s);
    CHECK(find_step(p, "flatten", OP_FLATTEN, 0) == 0);
    plan_destroy(p);
    setup_done(&s);
}

/* A step's outputs are the only ones to begin to live there; inputs and parameters are no burden.
 */
static void lives_begin_and_end_with_their_use(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_mlp(&s);
    p = setup_compile(&s);
    for (int i = 0; i < p->n_slots; i++) {
        int first = -1, last = -1;

        for (int k = 0; k < p->n_step; k++) {
            for (int j = 0; j < p->step[k].n_in; j++)
                last = p->step[k].in[j] == i ? k : last;
            for (int j = 0; j < p->step[k].n_out; j++)
                first = p->step[k].out[j] == i ? k : first;
        }
        if (p->slot[i].place != SLOT_ARENA)
            continue;
        CHECK_INT(p->slot[i].first, first);
        if (p->slot[i].last < p->n_step)
            CHECK_INT(p->slot[i].last, THAW_MAX(first, last));
    }
    plan_destroy(p);
    setup_done(&s);
}

/* The weight's gradient comes before the source's, which would make its memory longer alive. */
static void weights_come_first(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_mlp(&s);
    p = setup_compile(&s);
    CHECK_INT(find_step(p, "fc2", OP_LINEAR, OP_IN(1) | OP_IN(2)) + 1,
              find_step(p, "fc2", OP_LINEAR, OP_IN(0)));
    CHECK_INT(need_step(p, "fc2", OP_LINEAR, OP_IN(0))->forward, find_step(p, "fc2", OP_LINEAR, 0));
    CHECK_INT(need_step(p, "fc2", OP_LINEAR, 0)->forward, -1);
    plan_destroy(p);
    setup_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_have_their_types),
        cmocka_unit_test(gradients_go_where_the_optimizer_reads),
        cmocka_unit_test(a_tied_weight_has_one_gradient_slot),
        cmocka_unit_test(a_flatten_that_moves_nothing_is_no_step),
        cmocka_unit_test(a_flatten_that_moves_something_is_a_step),
        cmocka_unit_test(lives_begin_and_end_with_their_use),
        cmocka_unit_test(weights_come_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
