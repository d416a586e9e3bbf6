/*
 * fast_gemm.c - products of matrices that lie in the nearest caches, such as those of one attention
 * head, where a kernel library's preparations would cost as much as the product.
 *
 * The idea: one template, compiled for three instruction sets; sizes are multiples of what every
 * one of them likes, so that there are no edges. The order of every sum is that of its terms.
 */
#include "exec/fast.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>

#define SUFFIX                _512
#define VECTOR                __m512
#define WIDTH                 16
#define ROWS                  8
#define TARGET                __attribute__((target("avx512f")))
#define LOAD(p)               _mm512_loadu_ps(p)
#define STORE(p, x)           _mm512_storeu_ps(p, x)
#define ALL(x)                _mm512_set1_ps(x)
#define MULTIPLY_ADD(x, y, z) _mm512_fmadd_ps(x, y, z)
#include "exec/fast_gemm.inc"

#define SUFFIX                _256
#define VECTOR                __m256
#define WIDTH                 8
#define ROWS                  4
#define TARGET                __attribute__((target("avx2,fma")))
#define LOAD(p)               _mm256_loadu_ps(p)
#define STORE(p, x)           _mm256_storeu_ps(p, x)
#define ALL(x)                _mm256_set1_ps(x)
#define MULTIPLY_ADD(x, y, z) _mm256_fmadd_ps(x, y, z)
#include "exec/fast_gemm.inc"
#endif

typedef float four __attribute__((vector_size(16)));

static inline four load_four(const float *p)
{
    four x;

    memcpy(&x, p, sizeof x);
    return x;
}

static inline void store_four(float *p, four x)
{
    memcpy(p, &x, sizeof x);
}

#define SUFFIX _128
#define VECTOR four
#define WIDTH  4
#define ROWS   4
#define TARGET
#define LOAD(p)               load_four(p)
#define STORE(p, x)           store_four(p, x)
#define ALL(x)                ((four){x, x, x, x})
#define MULTIPLY_ADD(x, y, z) ((x) * (y) + (z))
#include "exec/fast_gemm.inc"

void fast_multiply(const fast_product *p)
{
    THAW_ASSERT(p->rows % FAST_PRODUCT_ROWS == 0 && p->columns % FAST_PRODUCT_COLUMNS == 0);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        product_512(p);
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        product_256(p);
    else
#endif
        product_128(p);
}
