/*
 * tensor.c - element types, shapes and conversions between them.
 */
#include "tensor/tensor.h"

#include "base/clones.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *safetensors;
    size_t size;
    bool is_float;
} dtype_table[DTYPE_COUNT] = {
    [DTYPE_F32] = {"f32", "F32", 4, true},    [DTYPE_F64] = {"f64", "F64", 8, true},
    [DTYPE_BF16] = {"bf16", "BF16", 2, true}, [DTYPE_F16] = {"f16", "F16", 2, true},
    [DTYPE_I64] = {"i64", "I64", 8, false},   [DTYPE_I32] = {"i32", "I32", 4, false},
    [DTYPE_I16] = {"i16", "I16", 2, false},   [DTYPE_I8] = {"i8", "I8", 1, false},
    [DTYPE_U8] = {"u8", "U8", 1, false},      [DTYPE_BOOL] = {"bool", "BOOL", 1, false},
};

size_t dtype_size(dtype d)
{
    return dtype_table[d].size;
}

const char *dtype_name(dtype d)
{
    return dtype_table[d].name;
}

const char *dtype_safetensors(dtype d)
{
    return dtype_table[d].safetensors;
}

bool dtype_is_float(dtype d)
{
    return dtype_table[d].is_float;
}

bool dtype_find_safetensors(dtype *out, const char *name)
{
    for (int d = 0; d < DTYPE_COUNT; d++)
        if (strcmp(dtype_table[d].safetensors, name) == 0) {
            *out = (dtype)d;
            return true;
        }
    return false;
}

/* ----------------------------------------------------------------------------------------------
 * shapes */

shape shape_of(int rank, const int64_t *dim)
{
    shape s = {.rank = rank};

    THAW_ASSERT(rank >= 0 && rank <= SHAPE_MAX_RANK);
    for (int i = 0; i < rank; i++)
        s.dim[i] = dim[i];
    return s;
}

shape shape_1(int64_t a)
{
    return (shape){.rank = 1, .dim = {a}};
}

shape shape_2(int64_t a, int64_t b)
{
    return (shape){.rank = 2, .dim = {a, b}};
}

shape shape_4(int64_t a, int64_t b, int64_t c, int64_t d)
{
    return (shape){.rank = 4, .dim = {a, b, c, d}};
}

bool shape_equal(const shape *a, const shape *b)
{
    return a->rank == b->rank && memcmp(a->dim, b->dim, (size_t)a->rank * sizeof a->dim[0]) == 0;
}

bool shape_is_bound(const shape *s)
{
    for (int i = 0; i < s->rank; i++)
        if (s->dim[i] < 0)
            return false;
    return true;
}

char *shape_format(char buffer[128], const shape *s)
{
    int n = snprintf(buffer, 128, "[");

    for (int i = 0; i < s->rank; i++) {
        n += snprintf(buffer + n, 128 - (size_t)n, "%s", i ? ", " : "");
        if (s->dim[i] == DIM_BATCH || s->dim[i] == DIM_LENGTH)
            n += snprintf(buffer + n, 128 - (size_t)n, "%s", s->dim[i] == DIM_BATCH ? "B" : "T");
        else
            n += snprintf(buffer + n, 128 - (size_t)n, "%lld", (long long)s->dim[i]);
    }
    (void)snprintf(buffer + n, 128 - (size_t)n, "]");
    return buffer;
}

thaw_status shape_elements(size_t *out, const shape *s)
{
    size_t n = 1;

    for (int i = 0; i < s->rank; i++)
        if (s->dim[i] < 0 || !size_mul(&n, n, (size_t)s->dim[i]))
            return thaw_fail(THAW_E_SHAPE, "axis %d of size %lld is out of range", i,
                             (long long)s->dim[i]);
    *out = n;
    return THAW_OK;
}

thaw_status shape_bytes(size_t *out, const shape *s, dtype d)
{
    size_t n = 0;
    char buffer[128];

    THAW_CHECK(shape_elements(&n, s));
    if (!size_mul(&n, n, dtype_size(d)))
        return thaw_fail(THAW_E_SHAPE, "a tensor %s of %s is too large", shape_format(buffer, s),
                         dtype_name(d));
    *out = n;
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * conversion */

static float bf16_to_float(uint16_t h)
{
    const uint32_t bits = (uint32_t)h << 16;
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Round to nearest even; a NaN stays one even when its payload's high bits are zero. */
static uint16_t float_to_bf16(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    if (isnan(f))
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static float f16_to_float(uint16_t h)
{
    const int exponent = h >> 10 & 31;
    const int mantissa = h & 0x3FF;
    const float sign = h & 0x8000 ? -1.0f : 1.0f;

    if (exponent == 31)
        return mantissa ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexpf((float)mantissa, -24);
    return sign * ldexpf((float)(mantissa + 1024), exponent - 25);
}

static uint16_t float_to_f16(float f)
{
    const uint16_t sign = signbit(f) ? 0x8000 : 0;
    float a = fabsf(f);
    int exponent;
    long mantissa;

    if (isnan(f))
        return sign | 0x7E00;
    if (a >= 65520.0f)
        return sign | 0x7C00;
    if (a < 0x1p-14f)
        return (uint16_t)(sign | (uint16_t)lrintf(
                                     a * 0x1p24f)); /* subnormal; may round up into the normals */
    (void)frexpf(a, &exponent);
    mantissa = lrintf(ldexpf(a, 11 - exponent)); /* 1024 … 2048 */
    return (uint16_t)(sign + (uint16_t)(((exponent + 14) << 10) + (mantissa - 1024)));
}

static double load(const void *src, dtype from, size_t i)
{
    switch (from) {
    case DTYPE_F32:
        return ((const float *)src)[i];
    case DTYPE_F64:
        return ((const double *)src)[i];
    case DTYPE_BF16:
        return (double)bf16_to_float(((const uint16_t *)src)[i]);
    case DTYPE_F16:
        return (double)f16_to_float(((const uint16_t *)src)[i]);
    case DTYPE_I64:
        return (double)((const int64_t *)src)[i];
    case DTYPE_I32:
        return ((const int32_t *)src)[i];
    case DTYPE_I16:
        return ((const int16_t *)src)[i];
    case DTYPE_I8:
        return ((const int8_t *)src)[i];
    case DTYPE_U8:
    case DTYPE_BOOL:
        return ((const uint8_t *)src)[i];
    case DTYPE_COUNT:
        break;
    }
    return 0;
}

thaw_status tensor_convert(void *dst, dtype to, const void *src, dtype from, size_t n)
{
    if (to == from) {
        memcpy(dst, src, n * dtype_size(to));
        return THAW_OK;
    }
    if (!dtype_is_float(to) || (!dtype_is_float(from) && to != DTYPE_F32 && to != DTYPE_F64))
        return thaw_fail(THAW_E_SUPPORT, "cannot convert %s to %s", dtype_name(from),
                         dtype_name(to));
    for (size_t i = 0; i < n; i++) {
        const double x = load(src, from, i);

        if (to == DTYPE_F64)
            ((double *)dst)[i] = x;
        else if (to == DTYPE_F32)
            ((float *)dst)[i] = (float)x;
        else if (to == DTYPE_BF16)
            ((uint16_t *)dst)[i] = float_to_bf16((float)x);
        else
            ((uint16_t *)dst)[i] = float_to_f16((float)x);
    }
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * sums */

#define SUM_BLOCK 512
#define SUM_LANES 8

/* Leaves of the pairwise sum, in a fixed number of lanes: a vector, or a few, of any width. */
typedef double sum_lanes __attribute__((vector_size(SUM_LANES * sizeof(double))));

#define SUM_LEAF(name, type)                                                                       \
    THAW_CLONES static double name(const type *x, size_t n)                                        \
    {                                                                                              \
        typedef type row __attribute__((vector_size(SUM_LANES * sizeof(type))));                   \
        sum_lanes lane = {0};                                                                      \
                                                                                                   \
        for (size_t i = 0; i + SUM_LANES <= n; i += SUM_LANES) {                                   \
            sum_lanes v;                                                                           \
            row r;                                                                                 \
                                                                                                   \
            memcpy(&r, x + i, sizeof r);                                                           \
            v = __builtin_convertvector(r, sum_lanes);                                             \
            lane += v * v;                                                                         \
        }                                                                                          \
        for (size_t i = n / SUM_LANES * SUM_LANES; i < n; i++) {                                   \
            const double v = (double)x[i];                                                         \
            lane[i % SUM_LANES] += v * v;                                                          \
        }                                                                                          \
        return ((lane[0] + lane[1]) + (lane[2] + lane[3])) +                                       \
               ((lane[4] + lane[5]) + (lane[6] + lane[7]));                                        \
    }
SUM_LEAF(sum_f32, float)
SUM_LEAF(sum_f64, double)

static double sum_any(const void *data, dtype d, size_t begin, size_t n)
{
    double total = 0;

    if (d == DTYPE_F32)
        return sum_f32((const float *)data + begin, n);
    if (d == DTYPE_F64)
        return sum_f64((const double *)data + begin, n);
    for (size_t i = begin; i < begin + n; i++) {
        const double x = load(data, d, i);

        total += x * x;
    }
    return total;
}

size_t tensor_sum_half(size_t n)
{
    return n > SUM_BLOCK ? (n / 2 + SUM_LANES - 1) / SUM_LANES * SUM_LANES : 0;
}

/* Pairwise: the error grows with the logarithm of n, and the order does not depend on who calls. */
static double sum_pairs(const void *data, dtype d, size_t begin, size_t n)
{
    const size_t half = tensor_sum_half(n);

    if (half > 0)
        return sum_pairs(data, d, begin, half) + sum_pairs(data, d, begin + half, n - half);
    return sum_any(data, d, begin, n);
}

double tensor_sum_squares(const void *data, dtype d, size_t n)
{
    return sum_pairs(data, d, 0, n);
}

/* An exponent of ones is no finite number; looked for in blocks, that are vectors of bits. */
THAW_CLONES static bool floats_all_finite(const float *x, size_t n)
{
    const uint32_t exponent = 0x7f800000u;

    for (size_t begin = 0; begin < n; begin += SUM_BLOCK) {
        const size_t end = n - begin < SUM_BLOCK ? n : begin + SUM_BLOCK;
        uint32_t strange = 0;

        for (size_t i = begin; i < end; i++) {
            uint32_t bits;

            memcpy(&bits, &x[i], sizeof bits);
            strange |= (bits & exponent) == exponent;
        }
        if (strange)
            return false;
    }
    return true;
}

bool tensor_all_finite(const void *data, dtype d, size_t n)
{
    if (d == DTYPE_F32)
        return floats_all_finite(data, n);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(load(data, d, i)))
            return false;
    return true;
}
