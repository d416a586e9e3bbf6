/*
 * fast_pool.c - pooling over windows and over whole images, forward and backward.
 *
 * Sizes: B batch, H W C of src, P Q of dst. Work is cut by rows of what is written, also backward:
 * each input pixel collects what the windows over it send back, so no two threads write one place.
 * All inner loops go over channels. In bf16 an image at a time is widened into scratch.
 */
#include "exec/fast.h"

#include <math.h>
#include <string.h>

#define CHUNK      64    /* channels at a time, so that a window's state stays in registers */
#define LEAST_WORK 32768 /* elements of what is read or written, below which one thread does it */

typedef struct pool_job {
    int64_t B, H, W, C, P, Q;
    int64_t kernel[2], stride[2], pad[2];
    bool count_pad;
    const float *src, *d_dst;
    float *dst, *d_src;
    uint8_t *which;
} pool_job;

static pool_job pool_of(const exec_call *c)
{
    const bool backward = c->wrt != 0;
    const int64_t *const src = (backward ? &c->d_in[0] : &c->in[0])->shape->dim;
    const int64_t *const dst = (backward ? &c->d_out[0] : &c->out[0])->shape->dim;
    pool_job j = {.B = src[0],
                  .H = src[1],
                  .W = src[2],
                  .C = src[3],
                  .P = dst[1],
                  .Q = dst[2],
                  .count_pad = c->attrs->pool.count_pad != 0,
                  .src = c->in[0].data,
                  .d_dst = c->d_out[0].data,
                  .dst = c->out[0].data,
                  .d_src = c->d_in[0].data,
                  .which = c->out[1].data};

    for (int i = 0; i < 2; i++) {
        j.kernel[i] = c->attrs->pool.kernel[i];
        j.stride[i] = c->attrs->pool.stride[i];
        j.pad[i] = c->attrs->pool.pad[i];
    }
    return j;
}

/* Positions [first, last) of a window, along one axis, that lie in the image. */
typedef struct span {
    int64_t first, last;
} span;

FAST_INLINE span window_span(const pool_job *j, int axis, int64_t out)
{
    const int64_t start = out * j->stride[axis] - j->pad[axis];
    const int64_t size = axis == 0 ? j->H : j->W;
    const int64_t last = THAW_MIN(j->kernel[axis], size - start);

    return (span){THAW_MAX(-start, 0), THAW_MAX(last, 0)};
}

/* Outputs [first, last), along one axis, whose window has input `at`. */
FAST_INLINE span outputs_over(const pool_job *j, int axis, int64_t at)
{
    const int64_t end = at + j->pad[axis], n = axis == 0 ? j->P : j->Q;
    const int64_t first = end - j->kernel[axis] + 1;

    return (span){first > 0 ? (first + j->stride[axis] - 1) / j->stride[axis] : 0,
                  THAW_MIN(end / j->stride[axis] + 1, n)};
}

/* What a window's sum is divided by. */
FAST_INLINE float window_count(const pool_job *j, int64_t p, int64_t q)
{
    const span rows = window_span(j, 0, p), columns = window_span(j, 1, q);
    const int64_t inside = (rows.last - rows.first) * (columns.last - columns.first);

    return (float)(j->count_pad ? j->kernel[0] * j->kernel[1] : inside);
}

/* Source pixel (h, w) of image b; output pixel (p, q). */
FAST_INLINE int64_t src_at(const pool_job *j, int64_t b, int64_t h, int64_t w)
{
    return ((b * j->H + h) * j->W + w) * j->C;
}

FAST_INLINE int64_t dst_at(const pool_job *j, int64_t b, int64_t p, int64_t q)
{
    return ((b * j->P + p) * j->Q + q) * j->C;
}

/* ----------------------------------------------------------------------------------------------
 * largest */

/* n channels of one window: the first of the largest, or the first NaN. */
FAST_INLINE void max_window(float *dst, uint8_t *which, const pool_job *j, int64_t corner,
                            span rows, span columns, int64_t n)
{
    float best[CHUNK];
    int32_t at[CHUNK];
    bool first = true;

    for (int64_t c = 0; c < n; c++) {
        best[c] = -INFINITY;
        at[c] = 0;
    }
    for (int64_t r = rows.first; r < rows.last; r++)
        for (int64_t s = columns.first; s < columns.last; s++) {
            const float *const src = j->src + (corner + (r * j->W + s) * j->C);
            const int32_t here = (int32_t)(r * j->kernel[1] + s);
            const int32_t none = first ? -1 : 0;

            FAST_SIMD
            for (int64_t c = 0; c < n; c++) {
                const float x = src[c], b = best[c];
                /* not (x <= b): x is larger or one of them is NaN; b NaN stays */
                const int32_t take = (-(int32_t) !(x <= b) & -(int32_t)(b == b)) | none;

                best[c] = take ? x : b;
                at[c] = take ? here : at[c];
            }
            first = false;
        }
    for (int64_t c = 0; c < n; c++) {
        dst[c] = best[c];
        which[c] = (uint8_t)at[c];
    }
}

/* Rows of the output, numbered b * P + p. */
FAST_CLONES static void max_rows(const void *job, int64_t first, int64_t last)
{
    const pool_job *const j = job;

    for (int64_t row = first; row < last; row++) {
        const int64_t b = row / j->P, p = row % j->P;
        const span rows = window_span(j, 0, p);

        for (int64_t q = 0; q < j->Q; q++) {
            const span columns = window_span(j, 1, q);
            const int64_t from =
                src_at(j, b, p * j->stride[0] - j->pad[0], q * j->stride[1] - j->pad[1]);
            const int64_t to = dst_at(j, b, p, q);

            for (int64_t c = 0; c < j->C; c += CHUNK)
                max_window(j->dst + to + c, j->which + to + c, j, from + c, rows, columns,
                           THAW_MIN(CHUNK, j->C - c));
        }
    }
}

/* n channels of one input pixel. */
FAST_INLINE void max_collect(float *d_src, const pool_job *j, int64_t b, int64_t h, int64_t w,
                             int64_t c0, int64_t n)
{
    const span ps = outputs_over(j, 0, h), qs = outputs_over(j, 1, w);
    float sum[CHUNK] = {0};

    for (int64_t p = ps.first; p < ps.last; p++)
        for (int64_t q = qs.first; q < qs.last; q++) {
            const int64_t r = h + j->pad[0] - p * j->stride[0];
            const int64_t s = w + j->pad[1] - q * j->stride[1];
            const int64_t at = dst_at(j, b, p, q) + c0;
            const float *const d = j->d_dst + at;
            const uint8_t *const which = j->which + at;
            const int32_t here = (int32_t)(r * j->kernel[1] + s);

            FAST_SIMD
            for (int64_t c = 0; c < n; c++)
                sum[c] += (int32_t)which[c] == here ? d[c] : 0.0f;
        }
    memcpy(d_src, sum, (size_t)n * sizeof *sum);
}

/* Rows of the input, numbered b * H + h. */
FAST_CLONES static void max_backward_rows(const void *job, int64_t first, int64_t last)
{
    const pool_job *const j = job;

    for (int64_t row = first; row < last; row++)
        for (int64_t w = 0; w < j->W; w++)
            for (int64_t c = 0; c < j->C; c += CHUNK)
                max_collect(j->d_src + (row * j->W + w) * j->C + c, j, row / j->H, row % j->H, w, c,
                            THAW_MIN(CHUNK, j->C - c));
}

/* ----------------------------------------------------------------------------------------------
 * bf16 */

typedef struct narrow_job {
    void (*image)(const struct narrow_job *n, float *to, const float *from, int64_t b);
    const void *job; /* of the loops over floats */
    fast_work *work;
    const uint16_t *from;
    uint16_t *to;
    int64_t B, from_size, to_size, rows; /* of one image */
    float *room;
    int threads;
} narrow_job;

/* What is read and what is written, in either direction. */
static const exec_operand *read_by(const exec_call *c)
{
    return c->wrt ? &c->d_out[0] : &c->in[0];
}

static const exec_operand *written_by(const exec_call *c)
{
    return c->wrt ? &c->d_in[0] : &c->out[0];
}

static int64_t image_size(const exec_operand *o)
{
    return ((int64_t)o->elements / o->shape->dim[0] + 15) / 16 * 16;
}

size_t fast_pool_scratch(const exec_call *c, int threads)
{
    const exec_operand *const from = read_by(c), *const to = written_by(c);

    if (from->dtype != DTYPE_BF16 || from->elements == 0)
        return 0;
    return (size_t)threads * (size_t)(image_size(from) + image_size(to)) * sizeof(float);
}

/* The images of threads [first, last), each in a room of its own. */
static void narrow_images(const void *job, int64_t first, int64_t last)
{
    const narrow_job *const n = job;
    const int64_t room = (n->from_size + 15) / 16 * 16 + (n->to_size + 15) / 16 * 16;

    for (int64_t t = first; t < last; t++) {
        float *const from = n->room + t * room, *const to = from + (n->from_size + 15) / 16 * 16;

        for (int64_t b = n->B * t / n->threads; b < n->B * (t + 1) / n->threads; b++) {
            fast_widen(from, n->from + b * n->from_size, n->from_size);
            n->image(n, to, from, b);
            fast_narrow(n->to + b * n->to_size, to, n->to_size);
        }
    }
}

static void run_narrow(const fast_call *call, narrow_job n)
{
    const exec_operand *const from = read_by(&call->op), *const to = written_by(&call->op);

    n.from = from->data;
    n.to = to->data;
    n.B = from->shape->dim[0];
    n.from_size = (int64_t)from->elements / n.B;
    n.to_size = (int64_t)to->elements / n.B;
    n.room = call->op.scratch;
    n.threads = call->threads;
    fast_parallel(n.threads, n.threads, 2, narrow_images, &n);
}

static void pool_image(const narrow_job *n, float *to, const float *from, int64_t b)
{
    pool_job j = *(const pool_job *)n->job;

    j.B = 1;
    j.src = j.d_dst = from;
    j.dst = j.d_src = to;
    if (j.which)
        j.which += b * j.P * j.Q * j.C;
    n->work(&j, 0, n->rows);
}

static void run_rows(const fast_call *call, const pool_job *j, int64_t rows, int64_t row_elements,
                     fast_work *work)
{
    if (read_by(&call->op)->dtype == DTYPE_BF16) {
        run_narrow(call,
                   (narrow_job){.image = pool_image, .job = j, .work = work, .rows = rows / j->B});
        return;
    }
    fast_parallel(call->threads, rows, LEAST_WORK / THAW_MAX(row_elements, 1) + 1, work, j);
}

void fast_max_pool(const fast_call *call)
{
    const pool_job j = pool_of(&call->op);

    run_rows(call, &j, j.B * j.P, j.Q * j.C, max_rows);
}

void fast_max_pool_backward(const fast_call *call)
{
    const pool_job j = pool_of(&call->op);

    run_rows(call, &j, j.B * j.H, j.W * j.C, max_backward_rows);
}

/* ----------------------------------------------------------------------------------------------
 * mean of windows */

FAST_INLINE void average_window(float *dst, const pool_job *j, int64_t corner, span rows,
                                span columns, float count, int64_t n)
{
    float sum[CHUNK] = {0};

    for (int64_t r = rows.first; r < rows.last; r++)
        for (int64_t s = columns.first; s < columns.last; s++) {
            const float *const src = j->src + (corner + (r * j->W + s) * j->C);

            FAST_SIMD
            for (int64_t c = 0; c < n; c++)
                sum[c] += src[c];
        }
    for (int64_t c = 0; c < n; c++)
        dst[c] = sum[c] / count;
}

FAST_CLONES static void average_rows(const void *job, int64_t first, int64_t last)
{
    const pool_job *const j = job;

    for (int64_t row = first; row < last; row++) {
        const int64_t b = row / j->P, p = row % j->P;
        const span rows = window_span(j, 0, p);

        for (int64_t q = 0; q < j->Q; q++) {
            const span columns = window_span(j, 1, q);
            const int64_t from =
                src_at(j, b, p * j->stride[0] - j->pad[0], q * j->stride[1] - j->pad[1]);
            const int64_t to = dst_at(j, b, p, q);
            const float count = window_count(j, p, q);

            for (int64_t c = 0; c < j->C; c += CHUNK)
                average_window(j->dst + to + c, j, from + c, rows, columns, count,
                               THAW_MIN(CHUNK, j->C - c));
        }
    }
}

FAST_INLINE void average_collect(float *d_src, const pool_job *j, int64_t b, int64_t h, int64_t w,
                                 int64_t c0, int64_t n)
{
    const span ps = outputs_over(j, 0, h), qs = outputs_over(j, 1, w);
    float sum[CHUNK] = {0};

    for (int64_t p = ps.first; p < ps.last; p++)
        for (int64_t q = qs.first; q < qs.last; q++) {
            const float *const d = j->d_dst + dst_at(j, b, p, q) + c0;
            const float count = window_count(j, p, q);

            FAST_SIMD
            for (int64_t c = 0; c < n; c++)
                sum[c] += d[c] / count;
        }
    memcpy(d_src, sum, (size_t)n * sizeof *sum);
}

FAST_CLONES static void average_backward_rows(const void *job, int64_t first, int64_t last)
{
    const pool_job *const j = job;

    for (int64_t row = first; row < last; row++)
        for (int64_t w = 0; w < j->W; w++)
            for (int64_t c = 0; c < j->C; c += CHUNK)
                average_collect(j->d_src + (row * j->W + w) * j->C + c, j, row / j->H, row % j->H,
                                w, c, THAW_MIN(CHUNK, j->C - c));
}

void fast_avg_pool(const fast_call *call)
{
    const pool_job j = pool_of(&call->op);

    run_rows(call, &j, j.B * j.P, j.Q * j.C, average_rows);
}

void fast_avg_pool_backward(const fast_call *call)
{
    const pool_job j = pool_of(&call->op);

    run_rows(call, &j, j.B * j.H, j.W * j.C, average_backward_rows);
}

/* ----------------------------------------------------------------------------------------------
 * mean of images */

typedef struct global_job {
    const float *from;
    float *to;
    int64_t pixels, C;
} global_job;

/* Images: [pixels, C] to [C]. */
FAST_CLONES static void global_images(const void *job, int64_t first, int64_t last)
{
    const global_job *const j = job;

    for (int64_t b = first; b < last; b++)
        for (int64_t c0 = 0; c0 < j->C; c0 += CHUNK) {
            const int64_t n = THAW_MIN(CHUNK, j->C - c0);
            const float *src = j->from + b * j->pixels * j->C + c0;
            double sum[CHUNK] = {0};

            for (int64_t p = 0; p < j->pixels; p++, src += j->C)
                FAST_SIMD
            for (int64_t c = 0; c < n; c++)
                sum[c] += (double)src[c];
            for (int64_t c = 0; c < n; c++)
                j->to[b * j->C + c0 + c] = (float)(sum[c] / (double)j->pixels);
        }
}

/* Images: [C] to [pixels, C]. */
FAST_CLONES static void global_backward_images(const void *job, int64_t first, int64_t last)
{
    const global_job *const j = job;
    const float pixels = (float)j->pixels;

    for (int64_t b = first; b < last; b++) {
        const float *const d_dst = j->from + b * j->C;
        float *d_src = j->to + b * j->pixels * j->C;

        for (int64_t p = 0; p < j->pixels; p++, d_src += j->C)
            FAST_SIMD
        for (int64_t c = 0; c < j->C; c++)
            d_src[c] = d_dst[c] / pixels;
    }
}

static void global_image(const narrow_job *n, float *to, const float *from, int64_t b)
{
    global_job j = *(const global_job *)n->job;

    (void)b;
    j.from = from;
    j.to = to;
    n->work(&j, 0, 1);
}

static void run_images(const fast_call *call, const exec_operand *image, fast_work *work,
                       global_job j)
{
    const int64_t *const dim = image->shape->dim;

    j.pixels = dim[1] * dim[2];
    j.C = dim[3];
    if (image->dtype == DTYPE_BF16) {
        run_narrow(call, (narrow_job){.image = global_image, .job = &j, .work = work});
        return;
    }
    fast_parallel(call->threads, dim[0], LEAST_WORK / THAW_MAX(j.pixels * j.C, 1) + 1, work, &j);
}

void fast_global_pool(const fast_call *call)
{
    run_images(call, &call->op.in[0], global_images,
               (global_job){.from = call->op.in[0].data, .to = call->op.out[0].data});
}

void fast_global_pool_backward(const fast_call *call)
{
    run_images(call, &call->op.d_in[0], global_backward_images,
               (global_job){.from = call->op.d_out[0].data, .to = call->op.d_in[0].data});
}
