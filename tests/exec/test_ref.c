/*
 * test_ref.c - the reference kernels: every gradient against central differences in f64, f32
 * against f64, sums over micro-batches, work in place, and numbers worked out by hand.
 */
#include "check.h"

#include "exec/op_cases.h"

#define CASES 40

/* THAW_TEST_SEED=n runs other cases; the messages name the seed of the case that fails. */
static uint64_t first_seed(void)
{
    const char *const text_seed = getenv("THAW_TEST_SEED");

    return text_seed ? strtoull(text_seed, NULL, 10) : 1;
}

/* ----------------------------------------------------------------------------------------------
 * gradients */

/* What the case's gradients are gradients of: the loss, or output 0 times d_out. */
static double objective(const op_case *c)
{
    const op_run how = OP_RUN_INIT;
    op_run forward = how;
    op_result r;
    double sum = 0;

    forward.wrt = 0;
    op_case_run(&r, c, &forward);
    for (size_t i = 0; i < r.n_out[0]; i++)
        sum += r.out[0][i] * (c->d_out ? c->d_out[i] : 1);
    op_result_done(&r);
    return sum;
}

static double central_difference(const op_case *c, int input, size_t i)
{
    double *const x = &c->real[input][i];
    const double kept = *x, h = 1e-5;
    double above, below;

    *x = kept + h;
    above = objective(c);
    *x = kept - h;
    below = objective(c);
    *x = kept;
    return (above - below) / (2 * h);
}

static void check_gradient(const op_case *c, int input, const double *got)
{
    const size_t n = c->in_elements[input], stride = n > 24 ? n / 24 : 1;

    CHECK_MSG(got != NULL, "%s: no gradient of input %d", op_case_text(c), input);
    for (size_t i = 0; i < n; i += stride) {
        const double want = central_difference(c, input, i);

        CHECK_MSG(check_excess(got[i], want, 1e-6, 1e-7) <= 1,
                  "%s: gradient of input %d, element %zu of %zu: got %.12g, differences say %.12g",
                  op_case_text(c), input, i, n, got[i], want);
    }
}

static void gradients_of(op_kind op)
{
    for (uint64_t seed = first_seed(); seed < first_seed() + CASES; seed++) {
        const op_run how = OP_RUN_INIT;
        op_result r;
        op_case c;

        op_case_make(&c, op, seed, OP_CASE_SMALL);
        op_case_run(&r, &c, &how);
        for (int i = 0; i < c.n_in; i++)
            if (c.wrt & OP_IN(i))
                check_gradient(&c, i, r.d_in[i]);
        op_result_done(&r);
        op_case_done(&c);
    }
}

static void test_gradients(void **state)
{
    (void)state;
    for (int op = 0; op < OP_COUNT; op++)
        gradients_of((op_kind)op);
}

/* A gradient is the same whichever others are made with it, and says so with what it reads alone.
 */
static void test_gradients_one_by_one(void **state)
{
    (void)state;
    for (int op = 0; op < OP_COUNT; op++)
        for (uint64_t seed = first_seed(); seed < first_seed() + 8; seed++) {
            op_run how = OP_RUN_INIT;
            op_result all, one;
            op_case c;

            op_case_make(&c, (op_kind)op, seed, OP_CASE_LARGE);
            op_case_run(&all, &c, &how);
            for (int i = 0; i < c.n_in; i++) {
                if (!(c.wrt & OP_IN(i)))
                    continue;
                how.wrt = OP_IN(i);
                op_case_run(&one, &c, &how);
                for (int k = 0; k < c.n_in; k++)
                    CHECK((one.d_in[k] != NULL) == (k == i));
                CHECK_BYTES(one.d_in[i], all.d_in[i], one.n_in[i] * sizeof(double));
                op_result_done(&one);
            }
            op_result_done(&all);
            op_case_done(&c);
        }
}

/* The op table and the kernel table agree on which ops have a backward kernel. */
static void test_table(void **state)
{
    (void)state;
    for (int op = 0; op < OP_COUNT; op++) {
        bool differentiable = false;

        for (int i = 0; i < OP_MAX_INPUTS; i++)
            differentiable |= op_table[op].grad[i].kind == GRAD_NODE;
        CHECK_MSG(ref_kernels_f32[op].forward && ref_kernels_f64[op].forward,
                  "'%s' has no forward kernel", op_table[op].name);
        CHECK_MSG((ref_kernels_f32[op].backward != NULL) == differentiable &&
                      (ref_kernels_f64[op].backward != NULL) == differentiable,
                  "'%s': backward kernel and op table disagree", op_table[op].name);
    }
}

/* ----------------------------------------------------------------------------------------------
 * ways to run */

/* Every sum is made in double, so f32 differs by the rounding of what is stored, and of what batch
 * norm stores between forward and backward. */
static void test_f32(void **state)
{
    (void)state;
    for (int op = 0; op < OP_COUNT; op++)
        for (uint64_t seed = first_seed(); seed < first_seed() + CASES; seed++) {
            op_run how = OP_RUN_INIT;
            op_result r32, r64;
            op_case c;

            op_case_make(&c, (op_kind)op, seed, OP_CASE_LARGE);
            op_case_run(&r64, &c, &how);
            how.real = DTYPE_F32;
            op_case_run(&r32, &c, &how);
            op_result_check(&c, &r32, &r64, op == OP_BATCH_NORM_TRAIN ? 1e-4 : 1e-6, 1e-7);
            op_result_done(&r32);
            op_result_done(&r64);
            op_case_done(&c);
        }
}

/* Three micro-batches: gradients of tensors are three times one's, other gradients are one's. */
static void test_accumulate(void **state)
{
    (void)state;
    for (int op = 0; op < OP_COUNT; op++)
        for (uint64_t seed = first_seed(); seed < first_seed() + 10; seed++) {
            op_run how = OP_RUN_INIT;
            op_result once, thrice;
            op_case c;

            op_case_make(&c, (op_kind)op, seed, OP_CASE_LARGE);
            op_case_run(&once, &c, &how);
            how.times = 3;
            op_case_run(&thrice, &c, &how);
            for (int i = 0; i < c.n_in; i++)
                for (size_t k = 0; once.d_in[i] && k < once.n_in[i]; k++)
                    once.d_in[i][k] *= c.in_param[i] ? 3 : 1;
            for (int i = 0; i < OP_MAX_INPUTS; i++) {
                thaw__free(once.after[i]);
                thaw__free(thrice.after[i]);
                once.after[i] = thrice.after[i] = NULL;
            }
            op_result_check(&c, &thrice, &once, 1e-14, 0);
            op_result_done(&once);
            op_result_done(&thrice);
            op_case_done(&c);
        }
}

static void compare_in_place(op_kind op, uint64_t seed, op_run how)
{
    op_run plain = how;
    op_result apart, within;
    op_case c;

    plain.in_place = plain.d_in_place = false;
    op_case_make(&c, op, seed, OP_CASE_LARGE);
    op_case_run(&apart, &c, &plain);
    op_case_run(&within, &c, &how);
    op_result_check(&c, &within, &apart, 0, 0);
    op_result_done(&apart);
    op_result_done(&within);
    op_case_done(&c);
}

static void test_in_place(void **state)
{
    (void)state;
    for (int op = 0; op < OP_COUNT; op++)
        for (uint64_t seed = first_seed(); seed < first_seed() + 10; seed++) {
            op_run how = OP_RUN_INIT;

            how.d_in_place = true;
            if (op_case_d_in_place((op_kind)op))
                compare_in_place((op_kind)op, seed, how);
            how.d_in_place = false;
            how.in_place = true;
            if (op_case_in_place(&how.wrt, (op_kind)op))
                compare_in_place((op_kind)op, seed, how);
        }
}

/* ----------------------------------------------------------------------------------------------
 * numbers by hand; several are PyTorch's */

/* Call one f64 kernel with operands given by hand. */
static exec_operand operand(void *data, const shape *s, dtype d)
{
    exec_operand o = {.data = data, .shape = s, .dtype = d};

    CHECK_OK(shape_elements(&o.elements, s));
    return o;
}

/* conv2d of a 3x3 image 1 … 9 with a 2x2 window 1 2 3 4: padding 1, stride 2. */
static void test_conv2d_by_hand(void **state)
{
    double src[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, weight[4] = {1, 2, 3, 4}, bias[1] = {0.5};
    double dst[4], scratch[16];
    const double want[4] = {4.5, 18.5, 36.5, 77.5};
    const op_attrs attrs = {.conv = {{2, 2}, {1, 1}, {1, 1}, 1, {0, 0}}};
    const shape image = shape_4(1, 3, 3, 1), window = shape_4(1, 1, 2, 2), one = shape_1(1);
    const shape out = shape_4(1, 2, 2, 1);
    exec_call c = {.attrs = &attrs, .scratch = scratch};

    (void)state;
    c.in[0] = operand(src, &image, DTYPE_F64);
    c.in[1] = operand(weight, &window, DTYPE_F64);
    c.in[2] = operand(bias, &one, DTYPE_F64);
    c.out[0] = operand(dst, &out, DTYPE_F64);
    CHECK(ref_kernels_f64[OP_CONV2D].scratch(&c) <= THAW_COUNT(scratch));
    ref_kernels_f64[OP_CONV2D].forward(&c);
    CHECK_CLOSE(dst, want, 4, 0, 0);
}

/* Rows 1 2 3 4 of one channel: mean 2.5, variance 1.25 (biased), 5/3 (unbiased). */
static void test_batch_norm_by_hand(void **state)
{
    double src[4] = {1, 2, 3, 4}, weight[1] = {2}, bias[1] = {1}, mean[1] = {10}, var[1] = {1};
    double dst[4], batch_mean[1], batch_rstd[1], scratch[2], want[4];
    int64_t count[1] = {41};
    const op_attrs attrs = {.norm = {.eps = 0.0, .momentum = 0.1}};
    const shape rows = shape_2(4, 1), one = shape_1(1), none = shape_of(0, NULL);
    exec_call c = {.attrs = &attrs, .scratch = scratch};

    (void)state;
    c.in[0] = operand(src, &rows, DTYPE_F64);
    c.in[1] = operand(weight, &one, DTYPE_F64);
    c.in[2] = operand(bias, &one, DTYPE_F64);
    c.in[3] = operand(mean, &one, DTYPE_F64);
    c.in[4] = operand(var, &one, DTYPE_F64);
    c.in[5] = operand(count, &none, DTYPE_I64);
    c.out[0] = operand(dst, &rows, DTYPE_F64);
    c.out[1] = operand(batch_mean, &one, DTYPE_F64);
    c.out[2] = operand(batch_rstd, &one, DTYPE_F64);
    ref_kernels_f64[OP_BATCH_NORM_TRAIN].forward(&c);
    for (int i = 0; i < 4; i++)
        want[i] = (src[i] - 2.5) / sqrt(1.25) * 2 + 1;
    CHECK_CLOSE(dst, want, 4, 1e-15, 0);
    CHECK_NEAR(mean[0], 0.9 * 10 + 0.1 * 2.5, 1e-15, 0);
    CHECK_NEAR(var[0], 0.9 * 1 + 0.1 * 5 / 3, 1e-15, 0);
    CHECK_NEAR(batch_mean[0], 2.5, 0, 0);
    CHECK_NEAR(batch_rstd[0], 1 / sqrt(1.25), 1e-15, 0);
    CHECK_INT(count[0], 42);
}

typedef struct pool_problem {
    double dst[4];
    uint8_t which[4];
} pool_problem;

static void pool_by_hand(pool_problem *p, op_kind op, double src[9], int32_t count_pad)
{
    const op_attrs attrs = {.pool = {{2, 2}, {2, 2}, {1, 1}, count_pad}};
    const shape image = shape_4(1, 3, 3, 1), out = shape_4(1, 2, 2, 1);
    exec_call c = {.attrs = &attrs};

    c.in[0] = operand(src, &image, DTYPE_F64);
    c.out[0] = operand(p->dst, &out, DTYPE_F64);
    c.out[1] = operand(p->which, &out, DTYPE_U8);
    ref_kernels_f64[op].forward(&c);
}

/* Padding never wins, even over negative numbers; the first of equals does; NaN beats all. */
static void test_max_pool_by_hand(void **state)
{
    double src[9] = {-1, -2, -2, -4, 7, 7, -7, 7, NAN};
    const uint8_t which[4] = {3, 2, 1, 3};
    pool_problem p;

    (void)state;
    pool_by_hand(&p, OP_MAX_POOL2D, src, 0);
    CHECK_NEAR(p.dst[0], -1, 0, 0);
    CHECK_NEAR(p.dst[1], -2, 0, 0);
    CHECK_NEAR(p.dst[2], -4, 0, 0);
    CHECK_MSG(isnan(p.dst[3]), "NaN is lost in max pooling: got %g", p.dst[3]);
    CHECK_BYTES(p.which, which, 4);
    src[8] = 7;
    pool_by_hand(&p, OP_MAX_POOL2D, src, 0);
    CHECK_NEAR(p.dst[3], 7, 0, 0);
    CHECK_INT(p.which[3], 0);

    /* The gradient goes to an element even when all are -infinity. */
    for (int i = 0; i < 9; i++)
        src[i] = -INFINITY;
    pool_by_hand(&p, OP_MAX_POOL2D, src, 0);
    CHECK_INT(p.which[0], 3);
}

static void test_avg_pool_by_hand(void **state)
{
    double src[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    const double counted[4] = {0.25, 1.25, 2.75, 7}, left_out[4] = {1, 2.5, 5.5, 7};
    pool_problem p;

    (void)state;
    pool_by_hand(&p, OP_AVG_POOL2D, src, 1);
    CHECK_CLOSE(p.dst, counted, 4, 1e-15, 0);
    pool_by_hand(&p, OP_AVG_POOL2D, src, 0);
    CHECK_CLOSE(p.dst, left_out, 4, 1e-15, 0);
}

/* [1, 1, 2, 3] holds pixels (1 2 3) and (4 5 6); flat, channels come first. */
static void test_flatten_by_hand(void **state)
{
    double src[6] = {1, 2, 3, 4, 5, 6}, dst[6];
    const double want[6] = {1, 4, 2, 5, 3, 6};
    const shape image = shape_4(1, 1, 2, 3), row = shape_2(1, 6);
    exec_call c = {.attrs = NULL};

    (void)state;
    c.in[0] = operand(src, &image, DTYPE_F64);
    c.out[0] = operand(dst, &row, DTYPE_F64);
    ref_kernels_f64[OP_FLATTEN].forward(&c);
    CHECK_CLOSE(dst, want, 6, 0, 0);
}

typedef struct loss_problem {
    double loss, valid, d[6];
} loss_problem;

static void cross_entropy_by_hand(loss_problem *p, double x[6], int32_t target[2], double smoothing)
{
    const op_attrs attrs = {.loss = {.smoothing = smoothing, .ignore = -100}};
    const shape rows = shape_2(2, 3), two = shape_1(2), none = shape_of(0, NULL);
    exec_call c = {.attrs = &attrs};

    c.in[0] = operand(x, &rows, DTYPE_F64);
    c.in[1] = operand(target, &two, DTYPE_I32);
    c.out[0] = operand(&p->loss, &none, DTYPE_F64);
    c.out[1] = operand(&p->valid, &none, DTYPE_F64);
    ref_kernels_f64[OP_CROSS_ENTROPY].forward(&c);
    c.wrt = OP_IN(0);
    c.d_in[0] = operand(p->d, &rows, DTYPE_F64);
    ref_kernels_f64[OP_CROSS_ENTROPY].backward(&c);
}

static void test_cross_entropy_by_hand(void **state)
{
    double x[6] = {1, 2, 3, 1000, 0, -1000};
    int32_t target[2] = {0, 1};
    loss_problem p;

    (void)state;
    /* log(e + e^2 + e^3) - 1 = 2.4076059644443806; the second row must not overflow: 1000. */
    cross_entropy_by_hand(&p, x, target, 0);
    CHECK_NEAR(p.loss, 2.4076059644443806 + 1000, 1e-15, 0);
    CHECK_NEAR(p.valid, 2, 0, 0);
    CHECK_NEAR(p.d[0], 0.09003057317038046 - 1, 1e-14, 0);
    CHECK_NEAR(p.d[4], -1, 1e-14, 0);

    /* Smoothing 0.3: 0.7 * 2.4076… + 0.1 * (2.4076… + 1.4076… + 0.4076…). */
    target[1] = -100;
    cross_entropy_by_hand(&p, x, target, 0.3);
    CHECK_NEAR(p.loss, 0.7 * 2.4076059644443806 + 0.1 * 4.222817893333142, 1e-14, 0);
    CHECK_NEAR(p.valid, 1, 0, 0);
    for (int k = 3; k < 6; k++)
        CHECK_NEAR(p.d[k], 0, 0, 0);

    /* A class that does not exist is no memory access: the loss is not a number. */
    target[0] = 3;
    cross_entropy_by_hand(&p, x, target, 0);
    CHECK(isnan(p.loss) && isnan(p.d[0]));
    target[0] = 0;
    target[1] = -1;
    cross_entropy_by_hand(&p, x, target, 0);
    CHECK(isnan(p.loss) && isnan(p.d[5]) && !isnan(p.d[2]));
}

static void test_mse_by_hand(void **state)
{
    double pred[4] = {1, 2, 3, 4}, target[4] = {0, 0, 3, 2}, loss, valid;
    const shape rows = shape_2(2, 2), none = shape_of(0, NULL);
    exec_call c = {.attrs = NULL};

    (void)state;
    c.in[0] = operand(pred, &rows, DTYPE_F64);
    c.in[1] = operand(target, &rows, DTYPE_F64);
    c.out[0] = operand(&loss, &none, DTYPE_F64);
    c.out[1] = operand(&valid, &none, DTYPE_F64);
    ref_kernels_f64[OP_MSE].forward(&c);
    CHECK_NEAR(loss, (1 + 4) / 2.0 + 4 / 2.0, 1e-15, 0);
    CHECK_NEAR(valid, 2, 0, 0);
}

static void test_argmax_by_hand(void **state)
{
    float x[12] = {1, 3, 3, -1, -1, -2, 0, NAN, NAN, -INFINITY, -INFINITY, -INFINITY};
    int32_t index[4];
    const int32_t want[4] = {1, 0, 1, 0};
    const shape rows = shape_2(4, 3), out = shape_1(4);
    exec_call c = {.attrs = NULL};

    (void)state;
    c.in[0] = operand(x, &rows, DTYPE_F32);
    c.out[0] = operand(index, &out, DTYPE_I32);
    ref_kernels_f32[OP_ARGMAX].forward(&c);
    for (int i = 0; i < 4; i++)
        CHECK_INT(index[i], want[i]);
}

static void test_relu_keeps_nan(void **state)
{
    float x[4] = {NAN, -1, 2, 9}, y[4], d[4] = {1, 1, 1, 1}, d_x[4];
    const shape row = shape_1(4);
    exec_call c = {.attrs = NULL};

    (void)state;
    for (int op = OP_RELU; op <= OP_RELU6; op++) {
        c.in[0] = operand(x, &row, DTYPE_F32);
        c.out[0] = operand(y, &row, DTYPE_F32);
        c.d_out[0] = operand(d, &row, DTYPE_F32);
        c.d_in[0] = operand(d_x, &row, DTYPE_F32);
        ref_kernels_f32[op].forward(&c);
        ref_kernels_f32[op].backward(&c);
        CHECK_MSG(isnan(y[0]), "%s: NaN became %g", op_table[op].name, (double)y[0]);
        CHECK_NEAR(y[3], op == OP_RELU ? 9 : 6, 0, 0);
        CHECK_NEAR(d_x[1], 0, 0, 0);
        CHECK_NEAR(d_x[2], 1, 0, 0);
        CHECK_NEAR(d_x[3], op == OP_RELU ? 1 : 0, 0, 0);
    }
}

/* ----------------------------------------------------------------------------------------------
 * ops of transformers; what is wanted is PyTorch's */

static void test_gelu_by_hand(void **state)
{
    static const double want[2][5] = {
        {-0.00404969409489031, -0.15865525393145702, 0, 0.34573123063700656, 1.9544997361036416},
        {-0.0036373920817729943, -0.15880800939172324, 0, 0.34571400982514394, 1.954597694087775}};
    double x[5] = {-3, -1, 0, 0.5, 2}, y[5];
    const shape row = shape_1(5);

    (void)state;
    for (int form = 0; form < 2; form++) {
        const op_attrs attrs = {.gelu = {.tanh = form}};
        exec_call c = {.attrs = &attrs};

        c.in[0] = operand(x, &row, DTYPE_F64);
        c.out[0] = operand(y, &row, DTYPE_F64);
        ref_kernels_f64[OP_GELU].forward(&c);
        CHECK_CLOSE(y, want[form], 5, 1e-14, 0);
    }
}

/* Mean 7/3, squares 14/9; the root of their mean is that of 7. */
static void test_row_norms_by_hand(void **state)
{
    double x[3] = {1, 2, 4}, weight[3] = {1, 2, 3}, bias[3] = {0.5, 0, -1}, y[3];
    const double centred[3] = {-0.5656252308941638, -0.532812615447082, 2.9960946158531137};
    const double r = 1 / sqrt(7.01), plain[3] = {r, 4 * r, 12 * r};
    const op_attrs attrs = {.norm = {.eps = 1e-2}};
    const shape rows = shape_2(1, 3), row = shape_1(3);
    exec_call c = {.attrs = &attrs};

    (void)state;
    c.in[0] = operand(x, &rows, DTYPE_F64);
    c.in[1] = operand(weight, &row, DTYPE_F64);
    c.out[0] = operand(y, &rows, DTYPE_F64);
    ref_kernels_f64[OP_RMS_NORM].forward(&c);
    CHECK_CLOSE(y, plain, 3, 1e-14, 0);
    c.in[2] = operand(bias, &row, DTYPE_F64);
    ref_kernels_f64[OP_LAYER_NORM].forward(&c);
    CHECK_CLOSE(y, centred, 3, 1e-14, 0);
}

/* One query of two heads over two keys; scores that would overflow do not; NaN is not lost. */
static void test_attention_by_hand(void **state)
{
    double q[4] = {1, 2, 0.5, -1}, k[8] = {0.5, -1, 1, 0, 1, 1, -1, 2}, scratch[32], dst[4];
    double v[8] = {1, 2, 3, 4, 5, 6, 7, 9};
    const double want[4] = {4.840602050572165, 5.840602050572164, 3.428167205860682,
                            4.535209007325852};
    const op_attrs attrs = {.attention = {.heads = 2}};
    const shape query = shape_of(3, (const int64_t[]){1, 1, 4});
    const shape keys = shape_of(3, (const int64_t[]){1, 2, 4});
    exec_call c = {.attrs = &attrs, .scratch = scratch};

    (void)state;
    c.in[0] = operand(q, &query, DTYPE_F64);
    c.in[1] = operand(k, &keys, DTYPE_F64);
    c.in[2] = operand(v, &keys, DTYPE_F64);
    c.out[0] = operand(dst, &query, DTYPE_F64);
    CHECK(ref_kernels_f64[OP_ATTENTION].scratch(&c) <= THAW_COUNT(scratch));
    ref_kernels_f64[OP_ATTENTION].forward(&c);
    CHECK_CLOSE(dst, want, 4, 1e-14, 0);
    q[1] = 1e6;
    ref_kernels_f64[OP_ATTENTION].forward(&c);
    CHECK_NEAR(dst[0], 5, 0, 0);
    k[0] = NAN;
    ref_kernels_f64[OP_ATTENTION].forward(&c);
    CHECK_MSG(isnan(dst[0]), "NaN is lost in attention: got %g", dst[0]);
    CHECK_NEAR(dst[2], want[2], 1e-14, 0);
}

/* An image of 1 x 2 pixels of 2 features: first token and pixels, each plus its position. */
static void test_tokens_by_hand(void **state)
{
    double src[4] = {1, 2, 3, 4}, first[2] = {10, 20}, position[6] = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6};
    double dst[6], last[2];
    const double want[6] = {10.1, 20.2, 1.3, 2.4, 3.5, 4.6};
    const op_attrs attrs = {.token = {.index = 2}};
    const shape image = shape_4(1, 1, 2, 2), one = shape_of(3, (const int64_t[]){1, 1, 2});
    const shape tokens = shape_of(3, (const int64_t[]){1, 3, 2}), row = shape_2(1, 2);
    exec_call c = {.attrs = &attrs};

    (void)state;
    c.in[0] = operand(src, &image, DTYPE_F64);
    c.in[1] = operand(first, &one, DTYPE_F64);
    c.in[2] = operand(position, &tokens, DTYPE_F64);
    c.out[0] = operand(dst, &tokens, DTYPE_F64);
    ref_kernels_f64[OP_TOKENS].forward(&c);
    CHECK_CLOSE(dst, want, 6, 1e-15, 0);
    c.in[0] = c.out[0];
    c.out[0] = operand(last, &row, DTYPE_F64);
    ref_kernels_f64[OP_TOKEN].forward(&c);
    CHECK_CLOSE(last, &want[4], 2, 1e-15, 0);
}

/* ----------------------------------------------------------------------------------------------
 * dropout */

#define DROP_B 4
#define DROP_K 1003

/* Mask of these samples: dropout of ones. */
static void draw_mask(double *mask, const int64_t *sample, int64_t B, uint64_t seed, int64_t epoch,
                      uint64_t stream)
{
    static double ones[DROP_B * DROP_K];
    const op_attrs attrs = {.dropout = {.p = 0.25, .stream = stream}};
    const shape rows = shape_2(B, DROP_K), names = shape_1(B);
    int64_t keys[DROP_B];
    exec_call c = {.attrs = &attrs, .seed = seed, .epoch = epoch};

    for (int i = 0; i < DROP_B * DROP_K; i++)
        ones[i] = 1;
    memcpy(keys, sample, (size_t)B * sizeof *keys);
    c.in[0] = operand(ones, &rows, DTYPE_F64);
    c.in[1] = operand(keys, &names, DTYPE_I64);
    c.out[0] = operand(mask, &rows, DTYPE_F64);
    ref_kernels_f64[OP_DROPOUT].forward(&c);
}

static double share_of_differences(const double *a, const double *b)
{
    double n = 0;

    for (int i = 0; i < DROP_K; i++)
        n += a[i] != b[i];
    return n / DROP_K;
}

/* The mask depends on seed, epoch, layer and sample, and on nothing else. */
static void test_dropout_masks(void **state)
{
    static double all[DROP_B * DROP_K], one[DROP_K];
    const int64_t sample[DROP_B] = {7, 1234567890123, 0, 8};
    double kept = 0;

    (void)state;
    draw_mask(all, sample, DROP_B, 1, 2, 3);
    for (int b = 0; b < DROP_B; b++) {
        draw_mask(one, &sample[b], 1, 1, 2, 3);
        CHECK_BYTES(one, all + b * DROP_K, sizeof one);
    }
    for (int i = 0; i < DROP_B * DROP_K; i++) {
        CHECK_MSG(all[i] == 0 || fabs(all[i] - 4.0 / 3) < 1e-15, "element %d is %g", i, all[i]);
        kept += all[i] != 0;
    }
    CHECK_NEAR(kept / (DROP_B * DROP_K), 0.75, 0, 0.03);

    /* Independent masks differ in 2 * 0.25 * 0.75 of the places. */
    CHECK_NEAR(share_of_differences(all, all + 3 * DROP_K), 0.375, 0, 0.06);
    draw_mask(one, sample, 1, 2, 2, 3);
    CHECK_NEAR(share_of_differences(all, one), 0.375, 0, 0.06);
    draw_mask(one, sample, 1, 1, 3, 3);
    CHECK_NEAR(share_of_differences(all, one), 0.375, 0, 0.06);
    draw_mask(one, sample, 1, 1, 2, 4);
    CHECK_NEAR(share_of_differences(all, one), 0.375, 0, 0.06);
    draw_mask(one, sample, 1, 1, 2, 3 | UINT64_C(1) << 63);
    CHECK_NEAR(share_of_differences(all, one), 0.375, 0, 0.06);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_gradients_one_by_one),
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_accumulate),
        cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_conv2d_by_hand),
        cmocka_unit_test(test_batch_norm_by_hand),
        cmocka_unit_test(test_max_pool_by_hand),
        cmocka_unit_test(test_avg_pool_by_hand),
        cmocka_unit_test(test_flatten_by_hand),
        cmocka_unit_test(test_cross_entropy_by_hand),
        cmocka_unit_test(test_mse_by_hand),
        cmocka_unit_test(test_argmax_by_hand),
        cmocka_unit_test(test_relu_keeps_nan),
        cmocka_unit_test(test_gelu_by_hand),
        cmocka_unit_test(test_row_norms_by_hand),
        cmocka_unit_test(test_attention_by_hand),
        cmocka_unit_test(test_tokens_by_hand),
        cmocka_unit_test(test_dropout_masks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
