/*
 * fast_depthwise.c - the weight gradient of a convolution in which each channel is by itself.
 *
 * The library's own is fast for windows of three by three alone. Here a vector of channels goes
 * over the images row by row: an image's products are summed in f32, row by row, images in double,
 * in order; vectors share nothing, so bits depend on neither threads nor the run.
 */
#include "exec/fast.h"

#include <string.h>

enum { LANES = 16 };
typedef float vector __attribute__((vector_size(LANES * sizeof(float))));

typedef struct depthwise_job {
    const fast_depthwise *p;
    const float *src, *d_dst;
    float *d_weight;
    bool add;
} depthwise_job;

/* Outputs of a row at which tap s reads a pixel of the image: [first, last). */
typedef struct span {
    int64_t first, last;
} span;

static span span_of(const fast_depthwise *p, int64_t s)
{
    const int64_t at = s * p->dilation[1] - p->pad[1], stride = p->stride[1];
    const int64_t reach = p->width - at;
    span w = {.first = at < 0 ? (-at + stride - 1) / stride : 0,
              .last = reach > 0 ? (reach + stride - 1) / stride : 0};

    w.last = THAW_MIN(w.last, p->out_width);
    w.first = THAW_MIN(w.first, w.last);
    return w;
}

/* One row of outputs and one tap. `step`: between the pixels that neighbours read. */
FAST_INLINE void add_tap(vector *sum, const float *src, const float *d_dst, int64_t n, int64_t step,
                         int64_t channels)
{
    vector even = {0}, odd = {0}, x, d;

    for (; n >= 2; n -= 2, src += 2 * step, d_dst += 2 * channels) {
        memcpy(&x, src, sizeof x);
        memcpy(&d, d_dst, sizeof d);
        even += x * d;
        memcpy(&x, src + step, sizeof x);
        memcpy(&d, d_dst + channels, sizeof d);
        odd += x * d;
    }
    if (n > 0) {
        memcpy(&x, src, sizeof x);
        memcpy(&d, d_dst, sizeof d);
        even += x * d;
    }
    *sum += even + odd;
}

/* The same for the channels that are left, fewer than a vector. */
FAST_INLINE void add_rest(vector *sum, const float *src, const float *d_dst, int64_t n,
                          int64_t step, int64_t channels, int lanes)
{
    for (int l = 0; l < lanes; l++) {
        float even = 0;

        for (int64_t i = 0; i < n; i++)
            even += src[i * step + l] * d_dst[i * channels + l];
        (*sum)[l] += even;
    }
}

/* All taps at one row of outputs. */
FAST_INLINE void add_row(vector *sum, const depthwise_job *j, const span *w, int64_t n, int64_t y,
                         int64_t channel, int lanes)
{
    const fast_depthwise *const p = j->p;
    const int64_t C = p->channels, step = p->stride[1] * C;
    const float *const d = j->d_dst + (n * p->out_height + y) * p->out_width * C + channel;

    for (int64_t r = 0; r < p->window[0]; r++) {
        const int64_t line = y * p->stride[0] - p->pad[0] + r * p->dilation[0];
        const float *const src = j->src + (n * p->height + line) * p->width * C + channel;

        if (line < 0 || line >= p->height)
            continue;
        for (int64_t s = 0; s < p->window[1]; s++) {
            const int64_t first = w[s].first, count = w[s].last - first;
            const int64_t at = s * p->dilation[1] - p->pad[1] + first * p->stride[1];
            vector *const to = &sum[r * p->window[1] + s];

            if (lanes == LANES)
                add_tap(to, src + at * C, d + first * C, count, step, C);
            else if (count > 0)
                add_rest(to, src + at * C, d + first * C, count, step, C, lanes);
        }
    }
}

/* An image's rows in f32, images in double. */
FAST_INLINE void sum_lanes(double total[][LANES], const depthwise_job *j, int64_t channel,
                           int lanes)
{
    const fast_depthwise *const p = j->p;
    const int64_t taps = p->window[0] * p->window[1];
    span w[FAST_DEPTHWISE_TAPS];

    for (int64_t s = 0; s < p->window[1]; s++)
        w[s] = span_of(p, s);
    for (int64_t n = 0; n < p->batch; n++) {
        vector sum[FAST_DEPTHWISE_TAPS] = {{0}};

        for (int64_t y = 0; y < p->out_height; y++)
            add_row(sum, j, w, n, y, channel, lanes);
        for (int64_t t = 0; t < taps; t++)
            for (int l = 0; l < LANES; l++)
                total[t][l] += (double)sum[t][l];
    }
}

FAST_CLONES static void sum_vectors(const depthwise_job *j, int64_t first, int64_t last)
{
    const int64_t taps = j->p->window[0] * j->p->window[1];

    for (int64_t v = first; v < last; v++) {
        const int64_t channel = v * LANES;
        const int lanes = (int)THAW_MIN(j->p->channels - channel, LANES);
        double sum[FAST_DEPTHWISE_TAPS][LANES] = {{0}};

        if (lanes == LANES)
            sum_lanes(sum, j, channel, LANES);
        else
            sum_lanes(sum, j, channel, lanes);
        for (int l = 0; l < lanes; l++)
            for (int64_t t = 0; t < taps; t++) {
                float *const to = &j->d_weight[(channel + l) * taps + t];

                *to = (j->add ? *to : 0) + (float)sum[t][l];
            }
    }
}

static void work(const void *job, int64_t first, int64_t last)
{
    sum_vectors(job, first, last);
}

void fast_depthwise_weight(float *d_weight, const float *src, const float *d_dst,
                           const fast_depthwise *p, bool add, int threads)
{
    const depthwise_job job = {
        .p = p, .src = src, .d_dst = d_dst, .d_weight = d_weight, .add = add};

    fast_parallel(threads, (p->channels + LANES - 1) / LANES, 2, work, &job);
}
