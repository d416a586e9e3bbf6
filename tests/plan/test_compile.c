/*
 * test_compile.c - whole compiles: what phases, evaluation and results make of small networks, what
 * is refused, what a resnet50 needs, and running out of memory.
 */
#include "check.h"

#include "plan/plans.h"

static void setup_mlp(setup *s)
{
    net n = net_create(DTYPE_F32);
    const value_id output = net_mlp(&n);

    setup_init(s, n, output);
}

static void setup_resnet(setup *s)
{
    net n = net_create(DTYPE_F32);
    const value_id output = net_small_resnet(&n);

    setup_init(s, n, output);
}

static void a_perceptron_trains(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_mlp(&s);
    p = setup_compile(&s);
    CHECK(p->training);
    CHECK_INT(p->batch, 4);
    CHECK_INT(p->n_once, 0);
    CHECK_INT(p->n_forward, 5 + 2);
    CHECK_INT(p->n_step, 7 + 8);
    CHECK_INT(p->n_pruned_grads, 0);
    CHECK_INT(p->n_backward_pruned, 0);
    CHECK_INT(p->input_bytes, 4 * 8 * 4 + 4 * 4);
    CHECK_INT(p->grad_bytes, p->param_bytes);
    CHECK_INT(p->param_bytes, 4 * (8 * 16 + 16 + 16 * 12 + 12 + 12 * 4 + 4));
    CHECK_INT(plan_peak_bytes(p), p->arena_bytes + p->input_bytes + 2 * p->param_bytes);
    plan_destroy(p);
    setup_done(&s);
}

static void frozen_work_is_not_there(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_mlp(&s);
    setup_freeze_before(&s, 4);
    p = setup_compile(&s);
    CHECK(p->training);
    CHECK_INT(p->n_step - p->n_forward, 2);
    CHECK_INT(p->n_pruned_grads, 4);
    CHECK_INT(p->n_backward_pruned, 4);
    CHECK_INT(p->grad_bytes, 4 * (12 * 4 + 4));
    plan_destroy(p);

    setup_freeze_before(&s, 6);
    p = setup_compile(&s);
    CHECK(!p->training);
    CHECK_INT(p->n_step, p->n_forward);
    CHECK_INT(p->n_forward, 7);
    CHECK(p->results.loss >= 0);
    CHECK_INT(p->grad_bytes, 0);
    CHECK_INT(p->n_pruned_grads, 6);
    plan_destroy(p);
    setup_done(&s);
}

static void evaluation_has_no_backward_part(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_resnet(&s);
    s.request.training = false;
    p = setup_compile(&s);
    CHECK(!p->training);
    CHECK_INT(p->n_step, p->n_forward);
    for (int i = 0; i < p->n_step; i++)
        CHECK(p->step[i].op != OP_BATCH_NORM_TRAIN);
    CHECK_INT(p->grad_bytes, 0);
    CHECK(p->results.loss >= 0);
    plan_destroy(p);

    s.request.effect = NULL;
    p = setup_compile(&s);
    CHECK(!p->training);
    plan_destroy(p);
    setup_done(&s);
}

static void update_rows_are_kept(void **state)
{
    static const plan_update rows[] = {{"adamw", 4, 100}, {"adamw", 5, 28}};
    setup s;
    plan *p;

    (void)state;
    setup_mlp(&s);
    setup_freeze_before(&s, 4);
    s.request.update = rows;
    s.request.n_update = 2;
    p = setup_compile(&s);
    CHECK_INT(p->n_update, 2);
    CHECK_INT(p->state_bytes, 128);
    CHECK_STR(p->update[1].rule, "adamw");
    plan_destroy(p);

    s.trainable[4] = false;
    CHECK_ERROR(plan_compile(&p, &s.request), THAW_E_INTERNAL,
                "parameter 4 does not train and is updated");
    setup_done(&s);
}

static void the_digest_names_the_content(void **state)
{
    setup s;
    plan *a, *b;

    (void)state;
    setup_resnet(&s);
    a = setup_compile(&s);
    b = setup_compile(&s);
    CHECK_INT(a->digest, b->digest);
    plan_destroy(b);
    s.request.batch = 5;
    b = setup_compile(&s);
    CHECK(a->digest != b->digest);
    plan_destroy(b);
    s.request.batch = 4;
    s.trainable[0] = false;
    b = setup_compile(&s);
    CHECK(a->digest != b->digest);
    plan_destroy(b);
    plan_destroy(a);
    setup_done(&s);
}

static size_t odd_scratch(const void *user, const plan *p, const plan_step *step)
{
    CHECK(p->slot[step->out[0] >= 0 ? step->out[0] : step->out[1]].bytes > 0);
    return step->op == OP_CONV2D ? *(const size_t *)user : 0;
}

static void scratch_lies_in_the_arena(void **state)
{
    const size_t bytes = 100001;
    size_t without;
    setup s;
    plan *p;

    (void)state;
    setup_resnet(&s);
    p = setup_compile(&s);
    without = p->arena_bytes;
    plan_destroy(p);
    s.request.scratch = odd_scratch;
    s.request.scratch_user = &bytes;
    p = setup_compile(&s);
    for (int i = 0; i < p->n_step; i++)
        CHECK_INT(p->step[i].scratch_bytes, p->step[i].op == OP_CONV2D ? bytes : 0);
    CHECK(p->arena_bytes > without && p->arena_bytes <= without + 100032);
    plan_destroy(p);
    setup_done(&s);
}

static void bad_requests_are_refused(void **state)
{
    setup s;
    plan *p = NULL;

    (void)state;
    setup_mlp(&s);
    s.request.batch = 0;
    CHECK_STATUS(plan_compile(&p, &s.request), THAW_E_RANGE);
    s.request.batch = INT64_MAX / 4;
    CHECK_STATUS(plan_compile(&p, &s.request), THAW_E_SHAPE);
    s.request.batch = 4;
    s.request.n_params = 5;
    CHECK_ERROR(plan_compile(&p, &s.request), THAW_E_MISMATCH, "6 parameters, the model 5");
    s.effect.n_params = 5;
    CHECK_ERROR(plan_compile(&p, &s.request), THAW_E_MISMATCH, "6 tensors, the model 5");
    s.effect.n_params = 6;
    s.request.n_params = NET_TENSORS;
    s.request.loss_op = OP_COUNT;
    CHECK_ERROR(plan_compile(&p, &s.request), THAW_E_USAGE, "loss");
    s.request.loss_op = OP_CROSS_ENTROPY;
    s.effect.n_modules = 2;
    CHECK_ERROR(plan_compile(&p, &s.request), THAW_E_MISMATCH, "'fc3' is module 2 of");
    s.effect.n_modules = 3;
    s.param_bytes[2]++;
    CHECK_ERROR(plan_compile(&p, &s.request), THAW_E_MISMATCH, "'fc2.weight' has 769 bytes");
    s.param_bytes[2]--;
    s.request.output = 1000;
    CHECK_STATUS(plan_compile(&p, &s.request), THAW_E_USAGE);
    CHECK(p == NULL);
    setup_done(&s);
}

static void a_parameter_the_loss_does_not_see_is_named(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id x = net_input(&n, "x", DTYPE_F32, shape_2(DIM_BATCH, 8));
    const value_id y = net_linear(&n, "fc", x, 8);
    setup s;
    plan *p = NULL;

    (void)state;
    net_linear(&n, "aside", y, 3);
    setup_init(&s, n, y);
    CHECK_ERROR(plan_compile(&p, &s.request), THAW_E_SUPPORT, "parameter 2 'aside.weight'");
    s.trainable[2] = s.trainable[3] = false;
    p = setup_compile(&s);
    CHECK_INT(find_step(p, "aside", OP_LINEAR, 0), -1);
    plan_destroy(p);
    setup_done(&s);
}

/* The head alone: no backward step for the backbone, less than a third of the memory. */
static void the_head_of_a_resnet50_is_cheap(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id output = net_resnet(&n, (int[]){3, 4, 6, 3});
    setup s;
    plan *full, *head;

    (void)state;
    setup_init(&s, n, output);
    CHECK_INT(n.n_params, 161);
    s.request.batch = 32;
    full = setup_compile(&s);
    setup_freeze_before(&s, n.n_params - 2);
    head = setup_compile(&s);
    CHECK_INT(head->n_step - head->n_forward, 2);
    CHECK_INT(head->n_pruned_grads, 159);
    CHECK_MSG(plan_peak_bytes(head) * 3 < plan_peak_bytes(full), "head %zu bytes, full %zu",
              plan_peak_bytes(head), plan_peak_bytes(full));
    for (int i = 0; i < head->n_step; i++)
        CHECK(head->step[i].op != OP_BATCH_NORM_TRAIN);
    for (int i = 0; i < head->n_slots; i++)
        CHECK_MSG(head->slot[i].place != SLOT_ARENA || head->slot[i].shape.rank < 4 ||
                      head->slot[i].last < head->n_forward,
                  "'%s' is kept for a backward part that does not need it", head->slot[i].name);
    plan_destroy(head);
    plan_destroy(full);
    setup_done(&s);
}

static void deep_networks_compile_fast(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id output = net_resnet(&n, (int[]){3, 4, 23, 3});
    double seconds;
    setup s;
    plan *p;

    (void)state;
    setup_init(&s, n, output);
    seconds = os()->monotonic();
    p = setup_compile(&s);
    seconds = os()->monotonic() - seconds;
    /* It takes 20 ms; sanitizers and a busy machine get room. */
    CHECK_MSG(seconds < 2, "a resnet101 took %g s", seconds);
    plan_destroy(p);
    setup_done(&s);
}

static void out_of_memory_is_survived(void **state)
{
    setup s;
    bool more = true;

    (void)state;
    setup_resnet(&s);
    for (int i = 1; more; i++) {
        plan *p = NULL;
        thaw_status status;

        check_alloc_fail(i, false);
        status = plan_compile(&p, &s.request);
        more = check_alloc_restore();
        CHECK_MSG(status == (more ? THAW_E_NOMEM : THAW_OK), "allocation %d: %s", i,
                  thaw_status_name(status));
        CHECK((p == NULL) == more);
        plan_destroy(p);
    }
    setup_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_perceptron_trains),
        cmocka_unit_test(frozen_work_is_not_there),
        cmocka_unit_test(evaluation_has_no_backward_part),
        cmocka_unit_test(update_rows_are_kept),
        cmocka_unit_test(the_digest_names_the_content),
        cmocka_unit_test(scratch_lies_in_the_arena),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(a_parameter_the_loss_does_not_see_is_named),
        cmocka_unit_test(the_head_of_a_resnet50_is_cheap),
        cmocka_unit_test(deep_networks_compile_fast),
        cmocka_unit_test(out_of_memory_is_survived),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
