/* test_tensor.c - element types, shapes, conversions and sums. */
#include "tensor/tensor.h"

#include "check.h"

static void shapes_are_checked(void **state)
{
    shape s = shape_4(2, 3, 4, 5);
    size_t n = 7;
    char buffer[128];

    (void)state;
    CHECK_OK(shape_bytes(&n, &s, DTYPE_F64));
    CHECK_INT(n, 960);
    CHECK_STR(shape_format(buffer, &s), "[2, 3, 4, 5]");
    s.dim[0] = DIM_BATCH;
    CHECK_STR(shape_format(buffer, &s), "[B, 3, 4, 5]");
    CHECK(!shape_is_bound(&s));
    CHECK_STATUS(shape_elements(&n, &s), THAW_E_SHAPE);
    s = shape_2(INT64_MAX, INT64_MAX);
    CHECK_STATUS(shape_elements(&n, &s), THAW_E_SHAPE);
    s = shape_1(INT64_MAX / 2);
    CHECK_STATUS(shape_bytes(&n, &s, DTYPE_F64), THAW_E_SHAPE);
    CHECK_INT(n, 960);
    s = (shape){.rank = 0};
    CHECK_OK(shape_elements(&n, &s));
    CHECK_INT(n, 1);
}

/* Every 16-bit value goes to f32 and back unchanged (a NaN stays one). */
static void half_types_round_trip(void **state)
{
    static const dtype half[] = {DTYPE_BF16, DTYPE_F16};

    (void)state;
    for (size_t k = 0; k < 2; k++)
        for (uint32_t bits = 0; bits < 65536; bits++) {
            const uint16_t in = (uint16_t)bits;
            uint16_t back;
            float f;

            CHECK_OK(tensor_convert(&f, DTYPE_F32, &in, half[k], 1));
            CHECK_OK(tensor_convert(&back, half[k], &f, DTYPE_F32, 1));
            if (isnan(f)) {
                float again;

                CHECK_OK(tensor_convert(&again, DTYPE_F32, &back, half[k], 1));
                CHECK(isnan(again));
            } else {
                CHECK_MSG(back == in, "%s 0x%04x came back as 0x%04x", dtype_name(half[k]), in,
                          back);
            }
        }
}

static void rounding_is_to_nearest_even(void **state)
{
    static const struct {
        dtype to;
        float in;
        uint16_t want;
    } row[] = {
        {DTYPE_F16, 1.0f, 0x3C00},           {DTYPE_F16, 65504.0f, 0x7BFF},
        {DTYPE_F16, 65519.9f, 0x7BFF},       {DTYPE_F16, 65520.0f, 0x7C00},
        {DTYPE_F16, 1.00048828125f, 0x3C00}, {DTYPE_F16, 1.00146484375f, 0x3C02},
        {DTYPE_F16, 0x1p-24f, 0x0001},       {DTYPE_F16, 0x1p-25f, 0x0000},
        {DTYPE_F16, -2.0f, 0xC000},          {DTYPE_F16, 0x1.ffcp-15f, 0x0400},
        {DTYPE_BF16, 1.00390625f, 0x3F80},   {DTYPE_BF16, 1.01171875f, 0x3F82},
        {DTYPE_BF16, 3.4e38f, 0x7F80},       {DTYPE_BF16, INFINITY, 0x7F80},
        {DTYPE_F16, -INFINITY, 0xFC00},
    };

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        uint16_t got;

        CHECK_OK(tensor_convert(&got, row[i].to, &row[i].in, DTYPE_F32, 1));
        CHECK_MSG(got == row[i].want, "row %zu: %.9g became 0x%04x, want 0x%04x", i,
                  (double)row[i].in, got, row[i].want);
    }
}

static void conversions_that_make_no_sense_are_refused(void **state)
{
    const int64_t in = 3;
    double out = 0;
    int32_t other;

    (void)state;
    CHECK_OK(tensor_convert(&out, DTYPE_F64, &in, DTYPE_I64, 1));
    CHECK(out == 3);
    CHECK_STATUS(tensor_convert(&other, DTYPE_I32, &out, DTYPE_F64, 1), THAW_E_SUPPORT);
}

static void names_are_those_of_the_format(void **state)
{
    dtype d;

    (void)state;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        CHECK(dtype_find_safetensors(&d, dtype_safetensors((dtype)i)));
        CHECK_INT(d, i);
        CHECK(dtype_size((dtype)i) >= 1);
    }
    CHECK(!dtype_find_safetensors(&d, "F128"));
}

static void sums_are_exact_enough(void **state)
{
    enum { N = 100003 };
    float *x = thaw__new(N, sizeof *x);
    double *y = thaw__new(N, sizeof *y);
    double squares = 0;

    (void)state;
    for (int i = 0; i < N; i++) {
        x[i] = (float)(i % 1000) * 0.001f - 0.3f;
        y[i] = (double)x[i];
        squares += y[i] * y[i];
    }
    CHECK_NEAR(tensor_sum_squares(y, DTYPE_F64, N), squares, 1e-12, 0);
    CHECK(tensor_sum_squares(x, DTYPE_F32, N) == tensor_sum_squares(y, DTYPE_F64, N));
    CHECK(tensor_all_finite(x, DTYPE_F32, N));
    x[N - 1] = NAN;
    CHECK(!tensor_all_finite(x, DTYPE_F32, N));
    CHECK(isnan(tensor_sum_squares(x, DTYPE_F32, N)));
    thaw__free(x);
    thaw__free(y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_are_checked),
        cmocka_unit_test(half_types_round_trip),
        cmocka_unit_test(rounding_is_to_nearest_even),
        cmocka_unit_test(conversions_that_make_no_sense_are_refused),
        cmocka_unit_test(names_are_those_of_the_format),
        cmocka_unit_test(sums_are_exact_enough),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
