/*
 * test_winograd.c - convolutions by tiles against the plain sum in double: every role, borders,
 * what is done last, and bits that depend on neither batch nor threads.
 */
#include "exec/winograd.h"

#include "check.h"

#include <math.h>
#include <string.h>

/* Numbers in [-1, 1). */
static float *numbers(int64_t n, uint64_t seed)
{
    float *const x = thaw__alloc((size_t)n * sizeof *x);

    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(int32_t)(uint32_t)splitmix64(&seed) / 2147483648.0f;
    return x;
}

static dnn_problem problem(dnn_role role, int64_t batch, int64_t height, int64_t width,
                           int64_t channels, int64_t kernels, int64_t pad)
{
    return (dnn_problem){.role = role,
                         .groups = 1,
                         .batch = batch,
                         .channels = channels,
                         .kernels = kernels,
                         .height = height,
                         .width = width,
                         .out_height = height + 2 * pad - 2,
                         .out_width = width + 2 * pad - 2,
                         .window = {3, 3},
                         .stride = {1, 1},
                         .pad = {pad, pad},
                         .dilation = {1, 1}};
}

/* Calls visit for each product of the convolution: numbers of the input, the window, the output. */
typedef void visitor(double *sum, const float *const operand[3], int64_t src, int64_t weight,
                     int64_t dst);

static void visit(const dnn_problem *p, visitor *add, double *sum, const float *const operand[3])
{
    for (int64_t n = 0; n < p->batch; n++)
        for (int64_t y = 0; y < p->out_height; y++)
            for (int64_t x = 0; x < p->out_width; x++)
                for (int64_t i = 0; i < 9; i++) {
                    const int64_t v = y + i / 3 - p->pad[0], u = x + i % 3 - p->pad[1];

                    if (v < 0 || v >= p->height || u < 0 || u >= p->width)
                        continue;
                    for (int64_t k = 0; k < p->kernels; k++)
                        for (int64_t c = 0; c < p->channels; c++)
                            add(sum, operand,
                                ((n * p->height + v) * p->width + u) * p->channels + c,
                                (k * p->channels + c) * 9 + i,
                                ((n * p->out_height + y) * p->out_width + x) * p->kernels + k);
                }
}

static void add_forward(double *sum, const float *const o[3], int64_t src, int64_t weight,
                        int64_t dst)
{
    sum[dst] += (double)o[0][src] * (double)o[1][weight];
}

static void add_data(double *sum, const float *const o[3], int64_t src, int64_t weight, int64_t dst)
{
    sum[src] += (double)o[2][dst] * (double)o[1][weight];
}

static void add_weight(double *sum, const float *const o[3], int64_t src, int64_t weight,
                       int64_t dst)
{
    sum[weight] += (double)o[0][src] * (double)o[2][dst];
}

static visitor *const adders[] = {[DNN_FORWARD] = add_forward,
                                  [DNN_BACKWARD_DATA] = add_data,
                                  [DNN_BACKWARD_WEIGHT] = add_weight};

typedef struct sizes {
    int64_t src, weight, dst, result;
} sizes;

static sizes sizes_of(const dnn_problem *p)
{
    sizes s = {.src = p->batch * p->height * p->width * p->channels,
               .weight = p->kernels * p->channels * 9,
               .dst = p->batch * p->out_height * p->out_width * p->kernels};

    s.result = p->role == DNN_FORWARD ? s.dst : p->role == DNN_BACKWARD_DATA ? s.src : s.weight;
    return s;
}

/* The result of a run by tiles; result: what is there before. Operands: src, weight, dst. */
static void run(float *result, const dnn_problem *p, const float *const operand[3],
                const float *bias, bool accumulate, int threads)
{
    const winograd w = winograd_of(p);
    float *const packed = thaw__alloc(winograd_packed_bytes(&w));
    float *const scratch = thaw__alloc(winograd_scratch(&w, threads));
    const dnn_operands o = {.src = operand[0],
                            .weight = packed,
                            .d_dst = operand[2],
                            .bias = bias,
                            .dst = result,
                            .d_src = result,
                            .d_weight = result,
                            .scratch = scratch,
                            .accumulate = accumulate};

    assert_true(winograd_possible(p));
    assert_non_null(packed);
    assert_non_null(scratch);
    memset(scratch, 0xff, winograd_scratch(&w, threads)); /* not a number, and must not matter */
    winograd_pack(&w, packed, operand[1], threads);
    winograd_run(&w, &o, threads);
    thaw__free(packed);
    thaw__free(scratch);
}

/* Root of the mean square of the difference, relative to that of the result. */
static double difference(const float *got, const double *want, int64_t n)
{
    double apart = 0, all = 0;

    for (int64_t i = 0; i < n; i++) {
        apart += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        all += want[i] * want[i];
    }
    return sqrt(apart / all);
}

static void check_problem(const dnn_problem *p)
{
    const sizes n = sizes_of(p);
    float *const src = numbers(n.src, 1), *const weight = numbers(n.weight, 2);
    float *const dst = numbers(n.dst, 3), *const got = numbers(n.result, 4);
    double *const want = thaw__new((size_t)n.result, sizeof *want);
    const float *const operand[] = {src, weight, dst};

    assert_non_null(want);
    visit(p, adders[p->role], want, operand);
    run(got, p, operand, NULL, false, 2);
    if (difference(got, want, n.result) > 5e-6)
        fail_msg("role %d of %d x %d, pad %d, %d to %d channels: off by %g", (int)p->role,
                 (int)p->height, (int)p->width, (int)p->pad[0], (int)p->channels, (int)p->kernels,
                 difference(got, want, n.result));
    thaw__free(src);
    thaw__free(weight);
    thaw__free(dst);
    thaw__free(got);
    thaw__free(want);
}

static const struct {
    int64_t batch, height, width, channels, kernels, pad;
} shapes[] = {
    {1, 4, 4, 32, 32, 1},
    {2, 7, 7, 64, 32, 1},
    {1, 3, 3, 32, 32, 0},
    {2, 6, 9, 32, 64, 2},
    {1, 1, 1, 32, 32, 1},
    {1, 5, 13, 32, 96, 0},
    {3, 8, 8, 32, 32, 1},
    {1, 30, 29, 32, 32, 1},
    {1, 14, 14, 96, 64, 1},
    {5, 2, 3, 64, 64, 1},
    /* more tiles than are summed at once; than there is room for; more kernels than there is */
    {2, 40, 41, 32, 32, 1},
    {100, 1, 2, 1024, 96, 1},
    {2, 4, 4, 320, 320, 1},
};

static void test_plain_sum(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(shapes); i++)
        for (int role = 0; role < 3; role++) {
            const dnn_problem p =
                problem((dnn_role)role, shapes[i].batch, shapes[i].height, shapes[i].width,
                        shapes[i].channels, shapes[i].kernels, shapes[i].pad);

            check_problem(&p);
        }
}

/* Bias, addend and activation, after the very sums. */
static void test_last(void **state)
{
    const dnn_activation activation[] = {DNN_LINEAR, DNN_RELU, DNN_RELU6};
    const dnn_problem plain = problem(DNN_FORWARD, 2, 7, 6, 32, 32, 1);
    const sizes n = sizes_of(&plain);
    float *const src = numbers(n.src, 1), *const weight = numbers(n.weight, 2);
    float *const bias = numbers(32, 5), *const addend = numbers(n.dst, 6);
    float *const sum = numbers(n.dst, 7), *const got = numbers(n.dst, 7);
    const float *const operand[] = {src, weight, NULL};

    (void)state;
    src[0] = NAN;
    run(sum, &plain, operand, NULL, false, 1);
    for (size_t i = 0; i < THAW_COUNT(activation); i++) {
        dnn_problem p = plain;

        p.bias = p.adds = 1;
        p.activation = activation[i];
        memcpy(got, addend, (size_t)n.dst * sizeof *got);
        run(got, &p, operand, bias, false, 1);
        for (int64_t k = 0; k < n.dst; k++) {
            float want = sum[k] + bias[k % 32] + addend[k];

            if (activation[i] != DNN_LINEAR)
                want = want > 0 ? want : 0;
            if (activation[i] == DNN_RELU6)
                want = want < 6 ? want : 6;
            if (memcmp(&want, got + k, sizeof want) != 0 && !(isnan(want) && isnan(got[k])))
                fail_msg("activation %d, number %d: %g instead of %g", (int)i, (int)k,
                         (double)got[k], (double)want);
        }
    }
    thaw__free(src);
    thaw__free(weight);
    thaw__free(bias);
    thaw__free(addend);
    thaw__free(sum);
    thaw__free(got);
}

static void test_added_gradients(void **state)
{
    for (int role = DNN_BACKWARD_DATA; role <= (int)DNN_BACKWARD_WEIGHT; role++) {
        dnn_problem p = problem((dnn_role)role, 2, 9, 7, 32, 64, 1);
        const sizes n = sizes_of(&p);
        float *const src = numbers(n.src, 1), *const weight = numbers(n.weight, 2);
        float *const dst = numbers(n.dst, 3), *const first = numbers(n.result, 4);
        float *const got = numbers(n.result, 4), *const alone = numbers(n.result, 5);
        const float *const operand[] = {src, weight, dst};

        (void)state;
        run(alone, &p, operand, NULL, false, 1);
        p.adds = role == DNN_BACKWARD_DATA;
        run(got, &p, operand, NULL, role == DNN_BACKWARD_WEIGHT, 1);
        for (int64_t i = 0; i < n.result; i++)
            if (got[i] != first[i] + alone[i])
                fail_msg("role %d, number %d: %g instead of %g", role, (int)i, (double)got[i],
                         (double)(first[i] + alone[i]));
        thaw__free(src);
        thaw__free(weight);
        thaw__free(dst);
        thaw__free(first);
        thaw__free(got);
        thaw__free(alone);
    }
}

/* Each image of a batch by itself, and by one, two or three threads: the same bits. */
static void test_bits(void **state)
{
    const dnn_problem p = problem(DNN_FORWARD, 5, 10, 11, 32, 64, 1);
    dnn_problem one = p;
    const sizes n = sizes_of(&p);
    float *const src = numbers(n.src, 1), *const weight = numbers(n.weight, 2);
    float *const want = numbers(n.dst, 3), *const got = numbers(n.dst, 4);
    const float *operand[] = {src, weight, NULL};

    (void)state;
    one.batch = 1;
    run(want, &p, operand, NULL, false, 1);
    for (int threads = 2; threads <= 3; threads++) {
        run(got, &p, operand, NULL, false, threads);
        assert_memory_equal(got, want, (size_t)n.dst * sizeof *got);
    }
    for (int64_t i = 0; i < p.batch; i++) {
        operand[0] = src + i * (n.src / p.batch);
        run(got, &one, operand, NULL, false, 1);
        assert_memory_equal(got, want + i * (n.dst / p.batch),
                            (size_t)(n.dst / p.batch) * sizeof *got);
    }
    thaw__free(src);
    thaw__free(weight);
    thaw__free(want);
    thaw__free(got);
}

/* The weight's gradient, too, whatever the number of threads. */
static void test_bits_of_weight(void **state)
{
    const dnn_problem p = problem(DNN_BACKWARD_WEIGHT, 2, 40, 41, 32, 32, 1);
    const sizes n = sizes_of(&p);
    float *const src = numbers(n.src, 1), *const weight = numbers(n.weight, 2);
    float *const dst = numbers(n.dst, 3);
    float *const want = numbers(n.weight, 3), *const got = numbers(n.weight, 4);
    const float *const operand[] = {src, weight, dst};

    (void)state;
    run(want, &p, operand, NULL, false, 1);
    run(got, &p, operand, NULL, false, 3);
    assert_memory_equal(got, want, (size_t)n.weight * sizeof *got);
    thaw__free(src);
    thaw__free(weight);
    thaw__free(dst);
    thaw__free(want);
    thaw__free(got);
}

static void test_impossible(void **state)
{
    const dnn_problem good = problem(DNN_FORWARD, 1, 8, 8, 32, 32, 1);
    dnn_problem p = good;

    (void)state;
    assert_true(winograd_possible(&p));
    p.stride[1] = 2;
    assert_false(winograd_possible(&p));
    p = good;
    p.dilation[0] = 2;
    assert_false(winograd_possible(&p));
    p = good;
    p.window[0] = 1;
    assert_false(winograd_possible(&p));
    p = good;
    p.channels = 48;
    assert_false(winograd_possible(&p));
    p = good;
    p.kernels = 3;
    assert_false(winograd_possible(&p));
    p = good;
    p.groups = 32;
    assert_false(winograd_possible(&p));
    p = good;
    p.bf16 = 1;
    assert_false(winograd_possible(&p));
    p = good;
    p.pad[0] = 3;
    assert_false(winograd_possible(&p));
    p = good;
    p.linear = DNN_LAYER;
    assert_false(winograd_possible(&p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_sum),       cmocka_unit_test(test_last),
        cmocka_unit_test(test_added_gradients), cmocka_unit_test(test_bits),
        cmocka_unit_test(test_bits_of_weight),  cmocka_unit_test(test_impossible),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
