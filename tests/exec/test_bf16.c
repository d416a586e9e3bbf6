/*
 * test_bf16.c - activations in bf16: every op that takes them, over random shapes, forward and
 * backward, on both executors, against f64 runs on the same (rounded) numbers; gradients of
 * parameters are as exact as in f32; and the two ways to round agree with each other.
 */
#include "check.h"

#include "exec/fast.h"
#include "exec/op_cases.h"

#define CASES 25

/* Half a unit in the last place of a number as large as the largest, and what f32 adds. */
#define ROUNDING (1.02 / 256)

static uint64_t first_seed(void)
{
    const char *const seed = getenv("THAW_TEST_SEED");

    return seed ? strtoull(seed, NULL, 10) : 1;
}

/* Rounding of a sum of f32 grows with the root of its length. */
static double tolerance(const op_case *c)
{
    size_t longest = c->out_elements[0];

    for (int i = 0; i < c->n_in; i++)
        longest = THAW_MAX(longest, c->in_elements[i]);
    return 1.2e-7 * (8 + sqrt((double)longest));
}

/* What is stored as f32 alone: gradients of parameters, statistics. */
static void drop_activations(op_result *r, const op_case *c)
{
    thaw__free(r->out[0]);
    r->out[0] = NULL;
    for (int i = 0; i < c->n_in; i++)
        if (!c->in_param[i]) {
            thaw__free(r->d_in[i]);
            r->d_in[i] = NULL;
        }
}

/* false: the op takes no bf16. */
static bool compare(op_kind op, uint64_t seed, op_run how)
{
    const double f32 = op == OP_BATCH_NORM_TRAIN ? 1e-4 : 0; /* its statistics are stored so */
    op_result got, want;
    op_case c;

    op_case_make(&c, op, seed, OP_CASE_LARGE);
    if (!op_case_takes_bf16(&c)) {
        op_case_done(&c);
        return false;
    }
    op_case_round(&c);
    how.bf16 = true;
    how.real = DTYPE_F32;
    op_case_run(&got, &c, &how);
    how.bf16 = false;
    how.ops = &exec_ref;
    how.real = DTYPE_F64;
    how.threads = 1;
    op_case_run(&want, &c, &how);
    op_result_check(&c, &got, &want, ROUNDING, 1e-7);
    drop_activations(&got, &c);
    drop_activations(&want, &c);
    op_result_check(&c, &got, &want, THAW_MAX(f32, how.times * tolerance(&c)), 1e-7);
    op_result_done(&got);
    op_result_done(&want);
    op_case_done(&c);
    return true;
}

/* Both directions of a cast and all ops of a residual network. */
static void test_which_ops(void **state)
{
    static const op_kind takes[] = {
        OP_CONV2D, OP_LINEAR,     OP_BATCH_NORM_TRAIN, OP_BATCH_NORM_INFER, OP_RELU,    OP_RELU6,
        OP_ADD,    OP_MAX_POOL2D, OP_AVG_POOL2D,       OP_GLOBAL_AVG_POOL,  OP_FLATTEN, OP_DROPOUT,
        OP_CAST};
    uint64_t want = 0, got = 0;

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(takes); i++)
        want |= 1ull << takes[i];
    for (int op = 0; op < OP_COUNT; op++) {
        op_case c;

        op_case_make(&c, (op_kind)op, 1, OP_CASE_LARGE);
        got |= (uint64_t)op_case_takes_bf16(&c) << op;
        op_case_done(&c);
    }
    CHECK_INT(got, want);
}

static void check_ops(const exec_ops *ops, int threads, int times)
{
    for (int op = 0; op < OP_COUNT; op++)
        for (uint64_t seed = first_seed(); seed < first_seed() + CASES; seed++) {
            op_run how = OP_RUN_INIT;

            how.ops = ops;
            how.threads = threads;
            how.times = times;
            if (!compare((op_kind)op, seed, how))
                break;
        }
}

static void test_ref(void **state)
{
    (void)state;
    check_ops(&exec_ref, 1, 1);
}

static void test_dnn(void **state)
{
    (void)state;
    check_ops(&exec_dnn, 1, 1);
    check_ops(&exec_dnn, 2, 1);
}

/* Gradients of parameters are summed over micro-batches in f32. */
static void test_accumulate(void **state)
{
    (void)state;
    check_ops(&exec_ref, 1, 3);
    check_ops(&exec_dnn, 1, 3);
}

static void test_in_place(void **state)
{
    static const exec_ops *const ops[] = {&exec_ref, &exec_dnn};

    (void)state;
    for (size_t e = 0; e < THAW_COUNT(ops); e++)
        for (int op = 0; op < OP_COUNT; op++)
            for (uint64_t seed = first_seed(); seed < first_seed() + 10; seed++) {
                op_run how = OP_RUN_INIT;

                how.ops = ops[e];
                how.d_in_place = true;
                if (op_case_d_in_place((op_kind)op))
                    compare((op_kind)op, seed, how);
                how.d_in_place = false;
                how.in_place = true;
                if (op_case_in_place(&how.wrt, (op_kind)op))
                    compare((op_kind)op, seed, how);
            }
}

/* Where the library multiplies bf16 at all, it and our loops do the work, not ref. */
static void test_who_runs(void **state)
{
    static const op_kind fast[] = {
        OP_CONV2D, OP_LINEAR, OP_BATCH_NORM_TRAIN, OP_BATCH_NORM_INFER, OP_RELU,           OP_RELU6,
        OP_ADD,    OP_CAST,   OP_MAX_POOL2D,       OP_AVG_POOL2D,       OP_GLOBAL_AVG_POOL};

    (void)state;
    for (size_t k = 0; k < THAW_COUNT(fast); k++) {
        op_run how = OP_RUN_INIT;
        op_result r;
        op_case c;

        if (exec_bf16(&exec_dnn) == BF16_NONE && (fast[k] == OP_CONV2D || fast[k] == OP_LINEAR))
            continue;
        how.ops = &exec_dnn;
        how.real = DTYPE_F32;
        how.bf16 = true;
        op_case_make(&c, fast[k], first_seed(), OP_CASE_LARGE);
        op_case_run(&r, &c, &how);
        CHECK_STR(r.forward_executor, "dnn");
        for (int i = 0; i < c.n_in; i++)
            if (r.backward_executor[i])
                CHECK_STR(r.backward_executor[i], "dnn");
        op_result_done(&r);
        op_case_done(&c);
    }
}

/* The conversions of the loops are those of tensor_convert, for all numbers of 16 bits and between.
 */
static void test_conversions(void **state)
{
    enum { N = 1 << 16 };
    uint16_t *const narrow = thaw__new(N, sizeof *narrow), *const back = thaw__new(N, sizeof *back);
    float *const wide = thaw__new(N, sizeof *wide), *const want = thaw__new(N, sizeof *want);

    (void)state;
    for (int i = 0; i < N; i++)
        narrow[i] = (uint16_t)((i & 0x7FFF) > 0x7F80 ? i | 0x40 : i); /* a quiet NaN */
    fast_widen(wide, narrow, N);
    CHECK_OK(tensor_convert(want, DTYPE_F32, narrow, DTYPE_BF16, N));
    CHECK_BYTES(wide, want, N * sizeof *wide);
    for (uint32_t low = 0; low < 1 << 16; low += 0x7FFF / 3) {
        for (int i = 0; i < N; i++) {
            const uint32_t bits = (uint32_t)i << 16 | low;

            memcpy(&wide[i], &bits, sizeof bits);
        }
        fast_narrow(back, wide, N);
        CHECK_OK(tensor_convert(narrow, DTYPE_BF16, wide, DTYPE_F32, N));
        CHECK_BYTES(back, narrow, N * sizeof *back);
    }
    thaw__free(want);
    thaw__free(wide);
    thaw__free(back);
    thaw__free(narrow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_which_ops),   cmocka_unit_test(test_ref),
        cmocka_unit_test(test_dnn),         cmocka_unit_test(test_accumulate),
        cmocka_unit_test(test_in_place),    cmocka_unit_test(test_who_runs),
        cmocka_unit_test(test_conversions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
