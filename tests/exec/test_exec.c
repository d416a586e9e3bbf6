/*
 * test_exec.c - the frame around the kernels: the arena, sessions, who runs a step, what a run
 * raises and allocates, what wake refuses; and a whole small network compiled and differentiated.
 */
#include "check.h"

#include "exec/op_cases.h"

static const void *const *inputs_of(const op_plan *p)
{
    static const void *input[THAW_COUNT(p->input)];

    for (int i = 0; i < p->n_inputs; i++)
        input[i] = p->input[i];
    return input;
}

static thaw_status run_plan(op_plan *p, bool accumulate)
{
    const exec_run_args args = {.input = inputs_of(p), .accumulate = accumulate, .seed = 1};

    return exec_run(p->session, &args);
}

static void make(op_plan *p, op_case *c, op_kind op, uint64_t seed, op_case_size size,
                 const exec_ops *ops)
{
    op_run how = OP_RUN_INIT;

    how.ops = ops;
    op_case_make(c, op, seed, size);
    op_plan_make(p, c, &how);
}

/* ----------------------------------------------------------------------------------------------
 * executors */

static void test_names(void **state)
{
    char what[128];
    size_t n;
    const char *const *const name = exec_names(&n);

    (void)state;
    CHECK_INT(n, 2);
    for (size_t i = 0; i < n; i++) {
        CHECK(exec_find(name[i]) != NULL);
        CHECK_STR(exec_find(name[i])->name, name[i]);
        memset(what, 'x', sizeof what);
        exec_describe(what, exec_find(name[i]));
        CHECK_MSG(memchr(what, '\0', sizeof what) && what[0], "'%s' describes nothing", name[i]);
    }
    CHECK(exec_find("cuda") == NULL);
    exec_close(NULL);
    exec_sleep(NULL);
}

/* An executor that has a kernel for relu alone, which makes sevens. */
static int fake_sleeps;
static thaw_status fake_wake_status, fake_run_status;

static bool fake_supports(const exec *e, const plan *p, const plan_step *step)
{
    (void)e;
    (void)p;
    return step->op == OP_RELU && step->wrt == 0;
}

static thaw_status fake_wake(exec_session *s)
{
    s->impl = s;
    return fake_wake_status;
}

static void fake_sleep(exec_session *s)
{
    fake_sleeps += s->impl == s;
}

static thaw_status fake_run(exec_session *s, int i)
{
    exec_call c;

    exec_step_call(&c, s, i);
    for (size_t k = 0; k < c.out[0].elements; k++)
        ((double *)c.out[0].data)[k] = 7;
    return fake_run_status;
}

static const exec_ops fake = {.name = "fake",
                              .supports = fake_supports,
                              .wake = fake_wake,
                              .sleep = fake_sleep,
                              .run = fake_run};

static void test_fallback(void **state)
{
    op_plan p;
    op_case c;
    const double *dst, *d_src;

    (void)state;
    fake_wake_status = fake_run_status = THAW_OK;
    make(&p, &c, OP_RELU, 3, OP_CASE_SMALL, &fake);
    CHECK_STR(exec_step_executor(p.session, 0), "fake");
    CHECK_STR(exec_step_executor(p.session, 1), "ref");
    CHECK_INT(exec_packed_bytes(p.exec), 0);
    CHECK_OK(run_plan(&p, false));
    dst = exec_read(p.session, p.out[0]);
    d_src = exec_read(p.session, p.d_in[0]);
    for (size_t i = 0; i < c.out_elements[0]; i++) {
        CHECK_NEAR(dst[i], 7, 0, 0);
        CHECK_NEAR(d_src[i], c.d_out[i], 0, 0);
    }
    fake_sleeps = 0;
    op_plan_done(&p);
    CHECK_INT(fake_sleeps, 1);
    op_case_done(&c);

    /* Scratch: none where it has a kernel of its own, ref's where it has not. */
    make(&p, &c, OP_CONV2D, 3, OP_CASE_SMALL, &fake);
    CHECK(p.step[0].scratch_bytes > 0);
    CHECK_STR(exec_step_executor(p.session, 0), "ref");
    op_plan_done(&p);
    op_case_done(&c);
}

static void test_errors_of_kernels(void **state)
{
    exec_session *s = NULL;
    op_plan p;
    op_case c;

    (void)state;
    fake_wake_status = fake_run_status = THAW_OK;
    make(&p, &c, OP_RELU, 3, OP_CASE_SMALL, &fake);
    fake_run_status = THAW_E_OS;
    CHECK_STATUS(run_plan(&p, false), THAW_E_OS);
    fake_wake_status = THAW_E_NOMEM;
    fake_sleeps = 0;
    CHECK_STATUS(exec_wake(&s, p.exec, &p.plan), THAW_E_NOMEM);
    CHECK(s == NULL);
    CHECK_INT(fake_sleeps, 1);
    fake_wake_status = fake_run_status = THAW_OK;
    CHECK_OK(run_plan(&p, false));
    op_plan_done(&p);
    op_case_done(&c);
}

/* ----------------------------------------------------------------------------------------------
 * arena */

static void test_arena_moves(void **state)
{
    exec_session *larger = NULL;
    op_plan small, large;
    op_case c, d;
    double *before;
    size_t bytes;

    (void)state;
    make(&small, &c, OP_RELU6, 5, OP_CASE_SMALL, &exec_ref);
    make(&large, &d, OP_RELU6, 5, OP_CASE_LARGE, &exec_ref);
    CHECK(small.plan.arena_bytes < large.plan.arena_bytes);
    bytes = c.out_elements[0] * sizeof *before;
    before = thaw__alloc(bytes);
    CHECK(before != NULL);
    CHECK_OK(run_plan(&small, false));
    memcpy(before, exec_read(small.session, small.out[0]), bytes);

    CHECK_OK(exec_wake(&larger, small.exec, &large.plan));
    CHECK_INT(small.exec->arena_bytes, large.plan.arena_bytes);
    CHECK_OK(run_plan(&small, false));
    CHECK_BYTES(exec_read(small.session, small.out[0]), before, bytes);

    exec_sleep(larger);
    thaw__free(before);
    op_plan_done(&small);
    op_plan_done(&large);
    op_case_done(&c);
    op_case_done(&d);
}

/* Every allocation of wake fails once. The session that was awake before runs on. */
static void test_wake_without_memory(void **state)
{
    op_plan small, large;
    op_case c, d;
    bool more = true;

    (void)state;
    make(&small, &c, OP_RELU, 5, OP_CASE_SMALL, &exec_ref);
    make(&large, &d, OP_RELU, 5, OP_CASE_LARGE, &exec_ref);
    for (int n = 1; more; n++) {
        exec_session *s = NULL;
        exec *e = NULL;
        thaw_status status;

        check_alloc_fail(n, false);
        status = exec_wake(&s, small.exec, &large.plan);
        more = check_alloc_restore();
        CHECK_MSG(status == (more ? THAW_E_NOMEM : THAW_OK), "allocation %d: %s", n,
                  thaw_status_name(status));
        CHECK((s != NULL) == (status == THAW_OK));
        CHECK_OK(run_plan(&small, false));
        exec_sleep(s);

        check_alloc_fail(1, false);
        CHECK_STATUS(exec_open(&e, &exec_ref, small.params, 1), THAW_E_NOMEM);
        check_alloc_restore();
        CHECK(e == NULL);
    }
    op_plan_done(&small);
    op_plan_done(&large);
    op_case_done(&c);
    op_case_done(&d);
}

/* When not even the old size can be had again, a run says so instead of writing anywhere. */
static void test_lost_arena(void **state)
{
    exec_session *s = NULL;
    op_plan small, large;
    op_case c, d;

    (void)state;
    make(&small, &c, OP_RELU, 5, OP_CASE_SMALL, &exec_ref);
    make(&large, &d, OP_RELU, 5, OP_CASE_LARGE, &exec_ref);
    check_alloc_fail(4, true);
    CHECK_STATUS(exec_wake(&s, small.exec, &large.plan), THAW_E_NOMEM);
    check_alloc_restore();
    CHECK_STATUS(run_plan(&small, false), THAW_E_NOMEM);
    CHECK_OK(exec_wake(&s, small.exec, &small.plan));
    CHECK_OK(run_plan(&small, false));
    exec_sleep(s);
    op_plan_done(&small);
    op_plan_done(&large);
    op_case_done(&c);
    op_case_done(&d);
}

static void test_run_allocates_nothing(void **state)
{
    (void)state;
    for (int op = 0; op < OP_COUNT; op++) {
        thaw_status first, second;
        op_plan p;
        op_case c;

        make(&p, &c, (op_kind)op, 2, OP_CASE_LARGE, &exec_ref);
        check_alloc_fail(1, true);
        first = run_plan(&p, false);
        second = run_plan(&p, true);
        CHECK_INT(check_alloc_state.count, 0);
        check_alloc_restore();
        CHECK_MSG(first == THAW_OK && second == THAW_OK, "'%s' failed without memory",
                  op_table[op].name);
        op_plan_done(&p);
        op_case_done(&c);
    }
}

/* ----------------------------------------------------------------------------------------------
 * parameters */

static void check_versions(op_kind op, int updated)
{
    uint64_t version[OP_MAX_INPUTS];
    op_plan p;
    op_case c;

    make(&p, &c, op, 4, OP_CASE_SMALL, &exec_ref);
    for (int i = 0; i < p.params->n; i++)
        version[i] = p.params->item[i].version;
    CHECK_OK(run_plan(&p, false));
    for (int i = 0; i < c.n_in; i++)
        if (p.tensor[i] >= 0)
            CHECK_MSG((p.params->item[p.tensor[i]].version > version[p.tensor[i]]) ==
                          (i >= c.n_in - updated),
                      "%s: input %d went from version %llu to %llu", op_table[op].name, i,
                      (unsigned long long)version[p.tensor[i]],
                      (unsigned long long)p.params->item[p.tensor[i]].version);
    op_plan_done(&p);
    op_case_done(&c);
}

static void test_versions(void **state)
{
    (void)state;
    check_versions(OP_BATCH_NORM_TRAIN, 3);
    check_versions(OP_BATCH_NORM_INFER, 0);
    check_versions(OP_CONV2D, 0);
}

static void test_wake_refuses(void **state)
{
    exec_session *s = NULL;
    op_plan p;
    op_case c;
    plan_slot *weight;

    (void)state;
    make(&p, &c, OP_BATCH_NORM_TRAIN, 4, OP_CASE_SMALL, &exec_ref);
    weight = &p.slot[p.step[0].in[1]];
    weight->bytes += 8;
    CHECK_ERROR(exec_wake(&s, p.exec, &p.plan), THAW_E_MISMATCH, "'tensor1'");
    weight->bytes -= 8;
    weight->dtype = DTYPE_F32;
    CHECK_ERROR(exec_wake(&s, p.exec, &p.plan), THAW_E_MISMATCH, "f32");
    weight->dtype = DTYPE_F64;
    weight->index = 99;
    CHECK_STATUS(exec_wake(&s, p.exec, &p.plan), THAW_E_INTERNAL);
    weight->index = 0;
    p.slot[p.step[0].in[0]].shape = shape_2(1, c.in_shape[1].dim[0]);
    CHECK_ERROR(exec_wake(&s, p.exec, &p.plan), THAW_E_SHAPE, "one value per channel");
    CHECK(s == NULL);
    op_plan_done(&p);
    op_case_done(&c);
}

/* ----------------------------------------------------------------------------------------------
 * a network: convolution, batch norm, relu, max pooling, dropout, flatten, linear */

enum { CONV_W, NORM_W, NORM_B, HEAD_W, HEAD_B, NORM_MEAN, NORM_VAR, NORM_COUNT, N_TENSORS };
#define NET_B 6

typedef struct network {
    graph *graph;
    params *params;
    plan *plan;
    exec *exec;
    exec_session *session;
    value_id value[N_TENSORS], output;
    double image[NET_B * 5 * 5 * 2];
    int64_t sample[NET_B];
    int32_t target[NET_B];
} network;

static value_id layer(network *n, op_kind op, const op_attrs *attrs, int n_in, const value_id *in)
{
    static const op_attrs none;
    value_id out[OP_MAX_OUTPUTS];

    CHECK_OK(graph_op(out, n->graph, op, attrs ? attrs : &none, op_table[op].name, 0, n_in, in));
    return out[0];
}

static void add_tensors(network *n)
{
    const struct {
        const char *name;
        shape shape;
        bool buffer;
        dtype dtype;
    } tensor[N_TENSORS] = {
        [CONV_W] = {"conv.weight", shape_4(4, 2, 3, 3), false, DTYPE_F64},
        [NORM_W] = {"norm.weight", shape_1(4), false, DTYPE_F64},
        [NORM_B] = {"norm.bias", shape_1(4), false, DTYPE_F64},
        [HEAD_W] = {"head.weight", shape_2(3, 36), false, DTYPE_F64},
        [HEAD_B] = {"head.bias", shape_1(3), false, DTYPE_F64},
        [NORM_MEAN] = {"norm.running_mean", shape_1(4), true, DTYPE_F64},
        [NORM_VAR] = {"norm.running_var", shape_1(4), true, DTYPE_F64},
        [NORM_COUNT] = {"norm.num_batches_tracked", shape_of(0, NULL), true, DTYPE_I64},
    };

    CHECK_OK(params_create(&n->params, DTYPE_F64));
    for (int i = 0; i < N_TENSORS; i++) {
        CHECK_OK(params_add(n->params, tensor[i].name, &tensor[i].shape, tensor[i].dtype,
                            tensor[i].buffer));
        CHECK_OK(graph_param(&n->value[i], n->graph, i, tensor[i].name, tensor[i].dtype,
                             &tensor[i].shape));
    }
    params_init_all_by_name(n->params);
}

static void build_graph(network *n)
{
    const op_attrs conv = {.conv = {{1, 1}, {1, 1}, {1, 1}, 1, {0, 0}}};
    const op_attrs norm = {.norm = {1e-5, 0.1}}, pool = {.pool = {{3, 3}, {2, 2}, {1, 1}, 0}};
    const op_attrs dropout = {.dropout = {0.5, 77}};
    const shape image = shape_4(DIM_BATCH, 5, 5, 2), batch = shape_1(DIM_BATCH);
    const value_id *const t = n->value;
    value_id x, sample;

    CHECK_OK(graph_create(&n->graph, DTYPE_F64));
    CHECK_OK(graph_input(&x, n->graph, "image", DTYPE_F64, &image));
    CHECK_OK(graph_input(&sample, n->graph, "sample", DTYPE_I64, &batch));
    add_tensors(n);
    x = layer(n, OP_CONV2D, &conv, 2, (value_id[]){x, t[CONV_W]});
    x = layer(n, OP_BATCH_NORM_TRAIN, &norm, 6,
              (value_id[]){x, t[NORM_W], t[NORM_B], t[NORM_MEAN], t[NORM_VAR], t[NORM_COUNT]});
    x = layer(n, OP_RELU, NULL, 1, &x);
    x = layer(n, OP_MAX_POOL2D, &pool, 1, &x);
    x = layer(n, OP_DROPOUT, &dropout, 2, (value_id[]){x, sample});
    x = layer(n, OP_FLATTEN, NULL, 1, &x);
    n->output = layer(n, OP_LINEAR, NULL, 3, (value_id[]){x, t[HEAD_W], t[HEAD_B]});
}

static void network_open(network *n, const bool *trainable, bool inplace)
{
    static const double lr_scale[N_TENSORS];
    static const uint8_t mode[1] = {THAW_MODE_NORM_TRAIN | THAW_MODE_DROPOUT};
    const thaw_effect effect = {.n_params = NORM_MEAN,
                                .n_modules = 1,
                                .trainable = trainable,
                                .updated = trainable,
                                .lr_scale = lr_scale,
                                .mode = mode};
    plan_request request = PLAN_REQUEST_INIT;
    size_t bytes[N_TENSORS];
    uint64_t dice = 5;

    memset(n, 0, sizeof *n);
    build_graph(n);
    for (int i = 0; i < N_TENSORS; i++)
        bytes[i] = n->params->item[i].bytes;
    CHECK_OK(exec_open(&n->exec, &exec_ref, n->params, 1));
    request.model = n->graph;
    request.output = n->output;
    request.effect = &effect;
    request.training = true;
    request.loss_op = OP_CROSS_ENTROPY;
    request.loss_attrs.loss.ignore = -100;
    request.batch = NET_B;
    request.n_params = N_TENSORS;
    request.param_bytes = bytes;
    request.scratch = exec_scratch;
    request.scratch_user = n->exec;
    request.inplace = inplace;
    CHECK_OK(plan_compile(&n->plan, &request));
    CHECK_OK(params_set_trainable(n->params, trainable));
    CHECK_OK(exec_wake(&n->session, n->exec, n->plan));
    for (size_t i = 0; i < THAW_COUNT(n->image); i++)
        n->image[i] = (double)(splitmix64(&dice) >> 40) / (1 << 23) - 1;
    for (int i = 0; i < NET_B; i++) {
        n->sample[i] = i * 1000;
        n->target[i] = i % 3;
    }
}

static void network_close(network *n)
{
    exec_sleep(n->session);
    exec_close(n->exec);
    plan_destroy(n->plan);
    params_destroy(n->params);
    graph_destroy(n->graph);
}

static double network_loss(network *n, bool accumulate)
{
    const void *const input[3] = {n->image, n->sample, n->target};
    const exec_run_args args = {.input = input, .accumulate = accumulate, .seed = 11, .epoch = 2};

    CHECK_OK(exec_run(n->session, &args));
    CHECK_NEAR(*(const double *)exec_read(n->session, n->plan->results.valid), NET_B, 0, 0);
    return *(const double *)exec_read(n->session, n->plan->results.loss);
}

static void check_network_gradients(bool inplace)
{
    const bool all[N_TENSORS] = {true, true, true, true, true};
    network n;

    network_open(&n, all, inplace);
    for (int t = 0; t < NORM_MEAN; t++) {
        param *const item = &n.params->item[t];
        double *const data = item->data;

        for (size_t i = 0; i < item->elements; i += 1 + item->elements / 20) {
            const double kept = data[i], h = 1e-6;
            double above, below, got;

            network_loss(&n, false);
            got = ((const double *)item->grad)[i];
            data[i] = kept + h;
            above = network_loss(&n, false);
            data[i] = kept - h;
            below = network_loss(&n, false);
            data[i] = kept;
            CHECK_MSG(check_excess(got, (above - below) / (2 * h), 1e-6, 1e-8) <= 1,
                      "'%s' element %zu: gradient %.12g, differences say %.12g", item->name, i, got,
                      (above - below) / (2 * h));
        }
    }
    network_close(&n);
}

static void test_network_gradients(void **state)
{
    (void)state;
    check_network_gradients(true);
    check_network_gradients(false);
}

/* What is frozen changes nothing in the gradients of what is not. */
static void test_network_frozen(void **state)
{
    const bool all[N_TENSORS] = {true, true, true, true, true};
    network whole;

    (void)state;
    network_open(&whole, all, true);
    network_loss(&whole, false);
    for (int only = 0; only < NORM_MEAN; only++) {
        bool one[N_TENSORS] = {false};
        network part;

        one[only] = true;
        network_open(&part, one, true);
        network_loss(&part, false);
        CHECK(part.plan->n_step <= whole.plan->n_step);
        for (int t = 0; t < NORM_MEAN; t++)
            CHECK((part.params->item[t].grad != NULL) == (t == only));
        CHECK_BYTES(part.params->item[only].grad, whole.params->item[only].grad,
                    part.params->item[only].bytes);
        network_close(&part);
    }
    network_close(&whole);
}

/* Gradients of two runs add up; the running statistics move twice. */
static void test_network_accumulates(void **state)
{
    const bool all[N_TENSORS] = {true, true, true, true, true};
    network once, twice;

    (void)state;
    network_open(&once, all, true);
    network_open(&twice, all, true);
    network_loss(&once, false);
    network_loss(&twice, false);
    network_loss(&twice, true);
    for (int t = 0; t < NORM_MEAN; t++) {
        double *const g = once.params->item[t].grad;

        for (size_t i = 0; i < once.params->item[t].elements; i++)
            g[i] *= 2;
        CHECK_CLOSE((double *)twice.params->item[t].grad, g, once.params->item[t].elements, 1e-14,
                    1e-15);
    }
    CHECK_INT(*(const int64_t *)once.params->item[NORM_COUNT].data, 1);
    CHECK_INT(*(const int64_t *)twice.params->item[NORM_COUNT].data, 2);
    network_close(&once);
    network_close(&twice);
}

/* ----------------------------------------------------------------------------------------------
 * what is foreseen */

/* Of two plans, one awake or both: the very bytes; a kernel counts once however many use it. */
static void test_foreseen_packings(void **state)
{
    int kernels = 0;

    (void)state;
    for (uint64_t seed = 1; seed < 30; seed++) {
        op_case c[2];
        op_plan p[2];

        for (int k = 0; k < 2; k++) {
            exec_needs one, twice;

            op_run how = OP_RUN_INIT;

            how.ops = &exec_dnn;
            how.real = DTYPE_F32;
            op_case_make(&c[k], k == 0 ? OP_CONV2D : OP_LINEAR, seed, OP_CASE_LARGE);
            op_plan_make(&p[k], &c[k], &how);
            const plan *const same[] = {p[k].session->plan, p[k].session->plan};

            CHECK_OK(exec_foresee(&one, p[k].session->exec, same, 1));
            CHECK_OK(exec_foresee(&twice, p[k].session->exec, same, 2));
            CHECK_INT(one.packed, exec_packed_bytes(p[k].session->exec));
            CHECK_INT(twice.packed, one.packed);
            CHECK_INT(twice.kernels, one.kernels);
            kernels += one.kernels;
        }
        for (int k = 0; k < 2; k++) {
            op_plan_done(&p[k]);
            op_case_done(&c[k]);
        }
    }
    CHECK(kernels > 0);
}

static void test_ref_packs_nothing(void **state)
{
    op_case c;
    op_plan p;
    exec_needs needs = {7, 7, 7};

    (void)state;
    make(&p, &c, OP_CONV2D, 1, OP_CASE_LARGE, &exec_ref);
    CHECK_OK(exec_foresee(&needs, p.session->exec, &p.session->plan, 1));
    CHECK_INT(needs.packed, 0);
    CHECK_INT(needs.kernels, 0);
    op_plan_done(&p);
    op_case_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_fallback),
        cmocka_unit_test(test_errors_of_kernels),
        cmocka_unit_test(test_arena_moves),
        cmocka_unit_test(test_wake_without_memory),
        cmocka_unit_test(test_lost_arena),
        cmocka_unit_test(test_run_allocates_nothing),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_wake_refuses),
        cmocka_unit_test(test_network_gradients),
        cmocka_unit_test(test_network_frozen),
        cmocka_unit_test(test_network_accumulates),
        cmocka_unit_test(test_foreseen_packings),
        cmocka_unit_test(test_ref_packs_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
