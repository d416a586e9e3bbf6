/*
 * fast_gelu.c - x times the part of a normal distribution below x, exact and in its form with a
 * tangent, with the gradient that needs the input alone.
 */
#include "exec/fast.h"

#include "exec/fast_math.h"

/* Fewer elements than this are not worth waking a thread. */
#define LEAST 4096

#define TANH_SCALE 1.5957691216057308f /* 2 sqrt(2 / pi): the tangent as a logistic function */
#define TANH_CUBE  0.044715f

typedef struct gelu_job {
    float *dst;
    const float *src, *d; /* d: gradient of the output; NULL forward */
} gelu_job;

FAST_CLONES static void exact_range(const void *job, int64_t first, int64_t last)
{
    const gelu_job *const j = job;
    const float *const src = j->src;
    float *const dst = j->dst;

    FAST_SIMD
    for (int64_t i = first; i < last; i++) {
        float part, density;

        fast_normal(&part, &density, src[i]);
        dst[i] = src[i] * part;
    }
}

FAST_CLONES static void exact_backward_range(const void *job, int64_t first, int64_t last)
{
    const gelu_job *const j = job;
    const float *const src = j->src, *const d = j->d;
    float *const dst = j->dst;

    FAST_SIMD
    for (int64_t i = first; i < last; i++) {
        float part, density;

        fast_normal(&part, &density, src[i]);
        dst[i] = d[i] * (part + src[i] * density);
    }
}

/* (1 + tanh(u / 2)) / 2, u = TANH_SCALE (x + TANH_CUBE x³). */
FAST_INLINE float tangent_part(float x)
{
    return 1.0f / (1.0f + fast_exp(-TANH_SCALE * (x + TANH_CUBE * x * x * x)));
}

FAST_CLONES static void tangent_range(const void *job, int64_t first, int64_t last)
{
    const gelu_job *const j = job;
    const float *const src = j->src;
    float *const dst = j->dst;

    FAST_SIMD
    for (int64_t i = first; i < last; i++)
        dst[i] = src[i] * tangent_part(src[i]);
}

FAST_CLONES static void tangent_backward_range(const void *job, int64_t first, int64_t last)
{
    const gelu_job *const j = job;
    const float *const src = j->src, *const d = j->d;
    float *const dst = j->dst;

    FAST_SIMD
    for (int64_t i = first; i < last; i++) {
        const float x = src[i], part = tangent_part(x);
        const float slope = TANH_SCALE * (1.0f + 3.0f * TANH_CUBE * x * x);

        dst[i] = d[i] * (part + x * part * (1.0f - part) * slope);
    }
}

void fast_gelu(const fast_call *c)
{
    const gelu_job job = {.dst = c->op.out[0].data, .src = c->op.in[0].data};

    fast_parallel(c->threads, (int64_t)c->op.out[0].elements, LEAST,
                  c->op.attrs->gelu.tanh ? tangent_range : exact_range, &job);
}

void fast_gelu_backward(const fast_call *c)
{
    const gelu_job job = {
        .dst = c->op.d_in[0].data, .src = c->op.in[0].data, .d = c->op.d_out[0].data};

    fast_parallel(c->threads, (int64_t)c->op.d_in[0].elements, LEAST,
                  c->op.attrs->gelu.tanh ? tangent_backward_range : exact_backward_range, &job);
}
