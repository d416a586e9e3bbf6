/*
 * test_dnn.c - the fast executor against the reference one in f64: every op over random shapes,
 * forward and backward, gradients one by one, summed over micro-batches, in place, on one thread
 * and two; the same bits in every run; packed weights made once and renewed when they must be.
 */
#include "check.h"

#include "exec/dnn.h"
#include "exec/fast.h"
#include "exec/op_cases.h"

#define CASES 40

/* THAW_TEST_SEED=n runs other cases; the messages name the seed of the case that fails. */
static uint64_t first_seed(void)
{
    const char *const seed = getenv("THAW_TEST_SEED");

    return seed ? strtoull(seed, NULL, 10) : 1;
}

/* Rounding of a sum of f32 grows with the root of its length; no sum is longer than an operand. */
static double tolerance(const op_case *c)
{
    size_t longest = c->out_elements[0];

    for (int i = 0; i < c->n_in; i++)
        longest = THAW_MAX(longest, c->in_elements[i]);
    return 1.2e-7 * (8 + sqrt((double)longest));
}

/* Run on dnn as `how` says and compare with ref. Every op is a case of some seed. */
static void compare(op_kind op, uint64_t seed, op_run how)
{
    const bool rounded = op == OP_BATCH_NORM_TRAIN; /* its statistics are stored as f32 */
    op_result got, want;
    op_case c;

    op_case_make(&c, op, seed, OP_CASE_LARGE);
    how.real = DTYPE_F64;
    how.ops = &exec_ref;
    op_case_run(&want, &c, &how);
    how.real = DTYPE_F32;
    how.ops = &exec_dnn;
    op_case_run(&got, &c, &how);
    op_result_check(&c, &got, &want, rounded ? 1e-4 : how.times * tolerance(&c), 1e-7);
    op_result_done(&got);
    op_result_done(&want);
    op_case_done(&c);
}

static void test_ops(void **state)
{
    (void)state;
    for (int op = 0; op < OP_COUNT; op++)
        for (uint64_t seed = first_seed(); seed < first_seed() + CASES; seed++)
            for (int threads = 1; threads <= 2; threads++) {
                op_run how = OP_RUN_INIT;

                how.threads = threads;
                compare((op_kind)op, seed, how);
            }
}

static void test_gradients_one_by_one(void **state)
{
    (void)state;
    for (int op = 0; op < OP_COUNT; op++)
        for (uint64_t seed = first_seed(); seed < first_seed() + 10; seed++)
            for (int input = 0; input < op_table[op].most_inputs; input++) {
                op_run how = OP_RUN_INIT;

                how.wrt = OP_IN(input);
                compare((op_kind)op, seed, how);
            }
}

static void test_accumulate(void **state)
{
    (void)state;
    for (int op = 0; op < OP_COUNT; op++)
        for (uint64_t seed = first_seed(); seed < first_seed() + 10; seed++) {
            op_run how = OP_RUN_INIT;

            how.times = 3;
            compare((op_kind)op, seed, how);
        }
}

static void test_in_place(void **state)
{
    (void)state;
    for (int op = 0; op < OP_COUNT; op++)
        for (uint64_t seed = first_seed(); seed < first_seed() + 10; seed++) {
            op_run how = OP_RUN_INIT;

            if (!op_case_in_place(&how.wrt, (op_kind)op))
                continue;
            how.in_place = true;
            compare((op_kind)op, seed, how);
        }
}

/* ----------------------------------------------------------------------------------------------
 * bits */

static void check_same_bits(const op_case *c, const op_result *a, const op_result *b)
{
    for (int j = 0; j < OP_MAX_OUTPUTS; j++)
        if (a->out[j] && memcmp(a->out[j], b->out[j], a->n_out[j] * sizeof(double)) != 0)
            CHECK_FAIL("%s: output %d has other bits the second time", op_case_text(c), j);
    for (int i = 0; i < OP_MAX_INPUTS; i++)
        if (a->d_in[i] && memcmp(a->d_in[i], b->d_in[i], a->n_in[i] * sizeof(double)) != 0)
            CHECK_FAIL("%s: gradient %d has other bits the second time", op_case_text(c), i);
}

/* A run again on the same threads; and on others, where the library has no part in it. */
static void test_same_bits(void **state)
{
    (void)state;
    for (int op = 0; op < OP_COUNT; op++)
        for (uint64_t seed = first_seed(); seed < first_seed() + 10; seed++) {
            const bool dense = op == OP_CONV2D || op == OP_LINEAR;
            op_run how = OP_RUN_INIT;
            op_result first, again;
            op_case c;

            how.ops = &exec_dnn;
            how.real = DTYPE_F32;
            how.threads = 2;
            op_case_make(&c, (op_kind)op, seed, OP_CASE_LARGE);
            op_case_run(&first, &c, &how);
            how.threads = dense ? 2 : 3;
            op_case_run(&again, &c, &how);
            check_same_bits(&c, &first, &again);
            op_result_done(&first);
            op_result_done(&again);
            op_case_done(&c);
        }
}

/* ----------------------------------------------------------------------------------------------
 * norms large enough to be cut into groups and blocks */

enum { ROWS = 5003, CHANNELS = 67, MAPPED = ROWS * CHANNELS };

typedef struct norm_problem {
    op_attrs attrs;
    shape rows, row, none;
    float src[MAPPED], d_dst[MAPPED], dst[MAPPED], d_src[MAPPED];
    float weight[CHANNELS], bias[CHANNELS], mean[CHANNELS], var[CHANNELS];
    float batch_mean[CHANNELS], batch_rstd[CHANNELS], d_weight[CHANNELS], d_bias[CHANNELS];
    int64_t count;
    exec_call forward, backward;
} norm_problem;

static float noise(uint64_t *state)
{
    return (float)(int32_t)(uint32_t)splitmix64(state) / 2147483648.0f;
}

static exec_operand operand(void *data, const shape *s, dtype d)
{
    exec_operand o = {.data = data, .shape = s, .dtype = d};

    CHECK_OK(shape_elements(&o.elements, s));
    return o;
}

/* Channels lie `shift` deviations from zero: variances must survive it. */
static void norm_fill(norm_problem *p, float shift)
{
    uint64_t state = first_seed();

    for (int i = 0; i < MAPPED; i++) {
        p->src[i] = noise(&state) + shift;
        p->d_dst[i] = noise(&state);
    }
    for (int c = 0; c < CHANNELS; c++) {
        p->weight[c] = 1 + 0.5f * noise(&state);
        p->bias[c] = noise(&state);
        p->mean[c] = 0;
        p->var[c] = 1;
    }
    p->count = 0;
}

static void norm_make(norm_problem *p, float shift)
{
    p->attrs = (op_attrs){.norm = {.eps = 1e-5, .momentum = 0.1}};
    p->rows = shape_2(ROWS, CHANNELS);
    p->row = shape_1(CHANNELS);
    p->none = shape_of(0, NULL);
    norm_fill(p, shift);
    p->forward = (exec_call){
        .attrs = &p->attrs,
        .in = {operand(p->src, &p->rows, DTYPE_F32), operand(p->weight, &p->row, DTYPE_F32),
               operand(p->bias, &p->row, DTYPE_F32), operand(p->mean, &p->row, DTYPE_F32),
               operand(p->var, &p->row, DTYPE_F32), operand(&p->count, &p->none, DTYPE_I64)},
        .out = {operand(p->dst, &p->rows, DTYPE_F32), operand(p->batch_mean, &p->row, DTYPE_F32),
                operand(p->batch_rstd, &p->row, DTYPE_F32)},
    };
    p->backward = p->forward;
    p->backward.wrt = 7;
    p->backward.d_out[0] = operand(p->d_dst, &p->rows, DTYPE_F32);
    p->backward.d_in[0] = operand(p->d_src, &p->rows, DTYPE_F32);
    p->backward.d_in[1] = operand(p->d_weight, &p->row, DTYPE_F32);
    p->backward.d_in[2] = operand(p->d_bias, &p->row, DTYPE_F32);
}

static void norm_run_ref(norm_problem *p)
{
    p->forward.scratch = p->backward.scratch = thaw__new(2 * CHANNELS, sizeof(double));
    ref_kernels_f32[OP_BATCH_NORM_TRAIN].forward(&p->forward);
    ref_kernels_f32[OP_BATCH_NORM_TRAIN].backward(&p->backward);
    thaw__free(p->forward.scratch);
}

static void norm_run_fast(norm_problem *p, int threads)
{
    fast_call c = {.op = p->forward, .threads = threads};

    c.op.scratch = thaw__alloc(fast_norm_scratch(&p->forward, 2));
    fast_batch_norm_train(&c);
    p->backward.scratch = c.op.scratch;
    c.op = p->backward;
    fast_batch_norm_train_backward(&c);
    thaw__free(c.op.scratch);
}

static void test_large_norm(void **state)
{
    norm_problem *const want = thaw__new(1, sizeof *want), *const got = thaw__new(1, sizeof *got);
    norm_problem *const other = thaw__new(1, sizeof *other);

    (void)state;
    for (float shift = 0; shift < 2000; shift = shift * 10 + 1) {
        const double rounding = 1e-6 * (1 + (double)shift);

        norm_make(want, shift);
        norm_make(got, shift);
        norm_make(other, shift);
        norm_run_ref(want);
        norm_run_fast(got, 1);
        norm_run_fast(other, 3);
        CHECK_CLOSE(got->batch_mean, want->batch_mean, CHANNELS, 1e-6, 1e-7);
        CHECK_CLOSE(got->batch_rstd, want->batch_rstd, CHANNELS, rounding, 0);
        CHECK_CLOSE(got->var, want->var, CHANNELS, rounding, 0);
        CHECK_CLOSE(got->dst, want->dst, MAPPED, rounding, rounding);
        CHECK_CLOSE(got->d_src, want->d_src, MAPPED, rounding, rounding);
        CHECK_CLOSE(got->d_weight, want->d_weight, CHANNELS, rounding, 1e-2 * rounding * ROWS);
        CHECK_CLOSE(got->d_bias, want->d_bias, CHANNELS, 1e-5, 1e-4);
        CHECK_BYTES(other->dst, got->dst, sizeof got->dst);
        CHECK_BYTES(other->d_src, got->d_src, sizeof got->d_src);
        CHECK_BYTES(other->d_weight, got->d_weight, sizeof got->d_weight);
    }
    thaw__free(other);
    thaw__free(got);
    thaw__free(want);
}

/* A value that is not a number must reach the loss. */
static void test_nan_passes(void **state)
{
    float src[3] = {NAN, -1, 9}, dst[3];
    const shape s = shape_1(3);
    const exec_call call = {.in = {operand(src, &s, DTYPE_F32)},
                            .out = {operand(dst, &s, DTYPE_F32)}};
    const fast_call c = {.op = call, .threads = 1};

    (void)state;
    fast_relu(&c);
    CHECK_MSG(isnan(dst[0]) && dst[1] == 0 && dst[2] == 9, "relu: %g %g %g", (double)dst[0],
              (double)dst[1], (double)dst[2]);
    fast_relu6(&c);
    CHECK_MSG(isnan(dst[0]) && dst[1] == 0 && dst[2] == 6, "relu6: %g %g %g", (double)dst[0],
              (double)dst[1], (double)dst[2]);
}

/* ----------------------------------------------------------------------------------------------
 * packed weights */

static void run_plan(op_plan *p)
{
    const void *input[THAW_COUNT(p->input)];
    const exec_run_args args = {.input = input};

    for (int i = 0; i < p->n_inputs; i++)
        input[i] = p->input[i];
    CHECK_OK(exec_run(p->session, &args));
}

/* A case whose weight is packed: the first large convolution. */
static void make_packed(op_case *c, op_plan *p)
{
    op_run how = OP_RUN_INIT;

    how.ops = &exec_dnn;
    how.real = DTYPE_F32;
    for (uint64_t seed = first_seed();; seed++) {
        op_case_make(c, OP_CONV2D, seed, OP_CASE_LARGE);
        op_plan_make(p, c, &how);
        if (exec_packed_bytes(p->exec) > 0)
            return;
        op_plan_done(p);
        op_case_done(c);
        CHECK(seed < first_seed() + 100);
    }
}

/* Bytes change only with the version: that the second run shows old weights proves that they were
 * not packed again; that the third shows new ones, that they were. */
static void test_packing(void **state)
{
    op_plan *const p = thaw__new(1, sizeof *p);
    float *weight, *first;
    const float *dst;
    size_t n;
    op_case c;

    (void)state;
    make_packed(&c, p);
    n = c.out_elements[0];
    run_plan(p);
    dst = exec_read(p->session, p->out[0]);
    first = thaw__new(n, sizeof *first);
    memcpy(first, dst, n * sizeof *first);
    weight = p->params->item[p->tensor[1]].data;
    for (size_t i = 0; i < c.in_elements[1]; i++)
        weight[i] = 0;
    run_plan(p);
    CHECK_BYTES(dst, first, n * sizeof *first);
    params_touch(p->params, p->tensor[1]);
    run_plan(p);
    for (size_t i = 0; i < n; i++)
        first[i] = c.n_in > 2 ? (float)c.real[2][i % c.in_elements[2]] : 0;
    CHECK_CLOSE(dst, first, n, 0, 0);
    thaw__free(first);
    op_plan_done(p);
    op_case_done(&c);
    thaw__free(p);
}

/* Sessions awake share one packed copy; the last one's sleep and the next wake give it back. */
static void test_packing_is_shared(void **state)
{
    op_plan *const p = thaw__new(1, sizeof *p);
    exec_session *other;
    size_t packed;
    op_case c;

    (void)state;
    make_packed(&c, p);
    packed = exec_packed_bytes(p->exec);
    CHECK_OK(exec_wake(&other, p->exec, &p->plan));
    CHECK_INT(exec_packed_bytes(p->exec), packed);
    exec_sleep(p->session);
    exec_sleep(other);
    CHECK_OK(exec_wake(&p->session, p->exec, &p->plan));
    CHECK_INT(exec_packed_bytes(p->exec), packed);
    op_plan_done(p);
    op_case_done(&c);
    thaw__free(p);
}

/* ----------------------------------------------------------------------------------------------
 * what runs where */

/* Dense layers and norms never fall back; a plan in f64 always does. */
static void test_supports(void **state)
{
    static const op_kind own[] = {OP_CONV2D,
                                  OP_LINEAR,
                                  OP_BATCH_NORM_TRAIN,
                                  OP_BATCH_NORM_INFER,
                                  OP_RELU,
                                  OP_ADD,
                                  OP_MAX_POOL2D,
                                  OP_GLOBAL_AVG_POOL,
                                  OP_LAYER_NORM,
                                  OP_RMS_NORM,
                                  OP_GELU,
                                  OP_ATTENTION,
                                  OP_TOKENS,
                                  OP_TOKEN,
                                  OP_CROSS_ENTROPY,
                                  OP_ARGMAX};

    (void)state;
    for (size_t k = 0; k < THAW_COUNT(own); k++)
        for (uint64_t seed = first_seed(); seed < first_seed() + CASES; seed++) {
            op_run how = OP_RUN_INIT;
            op_result r;
            op_case c;

            op_case_make(&c, own[k], seed, OP_CASE_LARGE);
            how.ops = &exec_dnn;
            op_case_run(&r, &c, &how);
            CHECK_STR(r.forward_executor, "ref");
            op_result_done(&r);
            how.real = DTYPE_F32;
            op_case_run(&r, &c, &how);
            CHECK_MSG(strcmp(r.forward_executor, "dnn") == 0, "%s falls back", op_case_text(&c));
            for (int i = 0; i < c.n_in; i++)
                CHECK_MSG(!r.d_in[i] || strcmp(r.backward_executor[i], "dnn") == 0,
                          "%s: gradient %d falls back", op_case_text(&c), i);
            op_result_done(&r);
            op_case_done(&c);
        }
}

static void test_describe(void **state)
{
    char line[128];

    (void)state;
    exec_describe(line, exec_find("dnn"));
    CHECK_CONTAINS(line, "oneDNN ");
}

/* The n-th allocation fails while a plan is made ready: an error, nothing lost. */
static void test_out_of_memory(void **state)
{
    op_plan *const p = thaw__new(1, sizeof *p);
    const size_t before = thaw__mem_current();
    size_t awake;
    op_case c;

    (void)state;
    make_packed(&c, p);
    exec_sleep(p->session);
    p->session = NULL;
    awake = thaw__mem_current();
    for (int n = 1, more = 1; more; n++) {
        thaw_status status;

        check_alloc_fail(n, false);
        status = exec_wake(&p->session, p->exec, &p->plan);
        more = check_alloc_restore();
        CHECK(status == (more ? THAW_E_NOMEM : THAW_OK));
    }
    CHECK(thaw__mem_current() >= awake);
    op_plan_done(p);
    op_case_done(&c);
    CHECK_INT(thaw__mem_current(), before);
    thaw__free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ops),
        cmocka_unit_test(test_gradients_one_by_one),
        cmocka_unit_test(test_accumulate),
        cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_large_norm),
        cmocka_unit_test(test_nan_passes),
        cmocka_unit_test(test_packing),
        cmocka_unit_test(test_packing_is_shared),
        cmocka_unit_test(test_supports),
        cmocka_unit_test(test_describe),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
