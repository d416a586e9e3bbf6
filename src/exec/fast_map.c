/*
 * fast_map.c - element by element: activations and sums. Each loop reads and writes every number
 * once, so that memory is the limit.
 *
 * Comparisons are written such that NaN passes through, as it does in PyTorch: a loss that is not a
 * number must be seen.
 */
#include "exec/fast.h"

#include <math.h>

/* Fewer elements than this are not worth waking a thread. */
#define LEAST 32768

typedef struct map_job {
    void *dst;
    const void *a, *b;
    float limit; /* upper end of the activation; NAN, which nothing reaches: none */
} map_job;

FAST_CLONES static void relu_range(const void *job, int64_t first, int64_t last)
{
    const map_job *const j = job;
    const float *const a = j->a;
    float *const dst = j->dst;
    const float limit = j->limit;

    FAST_SIMD
    for (int64_t i = first; i < last; i++) {
        const float x = a[i] <= 0.0f ? 0.0f : a[i];

        dst[i] = x >= limit ? limit : x;
    }
}

/* a: gradient of the output, b: the output. */
FAST_CLONES static void relu_backward_range(const void *job, int64_t first, int64_t last)
{
    const map_job *const j = job;
    const float *const a = j->a, *const b = j->b;
    float *const dst = j->dst;
    const float limit = j->limit;

    FAST_SIMD
    for (int64_t i = first; i < last; i++) {
        const float g = b[i] <= 0.0f ? 0.0f : a[i];

        dst[i] = b[i] >= limit ? 0.0f : g;
    }
}

FAST_CLONES static void add_range(const void *job, int64_t first, int64_t last)
{
    const map_job *const j = job;
    const float *const a = j->a, *const b = j->b;
    float *const dst = j->dst;

    FAST_SIMD
    for (int64_t i = first; i < last; i++)
        dst[i] = a[i] + b[i];
}

FAST_CLONES static void add_clip_range(const void *job, int64_t first, int64_t last)
{
    const map_job *const j = job;
    const float *const a = j->a, *const b = j->b;
    float *const dst = j->dst;
    const float limit = j->limit;

    FAST_SIMD
    for (int64_t i = first; i < last; i++) {
        const float sum = a[i] + b[i], x = sum <= 0.0f ? 0.0f : sum;

        dst[i] = x >= limit ? limit : x;
    }
}

/* The same in bf16, piece by piece. */
typedef struct narrow_job {
    fast_work *work;
    map_job map; /* addresses of bf16 */
} narrow_job;

static void narrow_range(const void *job, int64_t first, int64_t last)
{
    const narrow_job *const j = job;
    float dst[FAST_TILE], a[FAST_TILE], b[FAST_TILE];

    for (int64_t i = first; i < last; i += FAST_TILE) {
        const int64_t n = THAW_MIN(last - i, FAST_TILE);
        map_job piece = j->map;

        piece.dst = dst;
        piece.a = fast_widened(a, j->map.a, i, n);
        piece.b = fast_widened(b, j->map.b, i, n);
        j->work(&piece, 0, n);
        fast_narrow((uint16_t *)j->map.dst + i, dst, n);
    }
}

static void map(const fast_call *c, fast_work *work, const map_job *job)
{
    const exec_operand *const dst = c->op.wrt == 0 ? &c->op.out[0] : &c->op.d_in[0];

    if (dst->dtype == DTYPE_BF16) {
        const narrow_job narrow = {.work = work, .map = *job};

        fast_parallel(c->threads, (int64_t)dst->elements, LEAST, narrow_range, &narrow);
        return;
    }
    fast_parallel(c->threads, (int64_t)c->op.out[0].elements, LEAST, work, job);
}

static void relu_forward(const fast_call *c, float limit)
{
    map(c, relu_range, &(map_job){.dst = c->op.out[0].data, .a = c->op.in[0].data, .limit = limit});
}

static void relu_backward(const fast_call *c, float limit)
{
    const map_job job = {.dst = c->op.d_in[0].data,
                         .a = c->op.d_out[0].data,
                         .b = c->op.out[0].data,
                         .limit = limit};

    map(c, relu_backward_range, &job);
}

void fast_relu(const fast_call *c)
{
    relu_forward(c, NAN);
}

void fast_relu_backward(const fast_call *c)
{
    relu_backward(c, NAN);
}

void fast_relu6(const fast_call *c)
{
    relu_forward(c, 6.0f);
}

void fast_relu6_backward(const fast_call *c)
{
    relu_backward(c, 6.0f);
}

void fast_add(const fast_call *c)
{
    map(c, c->post.clips ? add_clip_range : add_range,
        &(map_job){.dst = c->op.out[0].data,
                   .a = c->op.in[0].data,
                   .b = c->op.in[1].data,
                   .limit = c->post.limit});
}
