/*
 * fast_rows.c - norms over the features of a row, and the tokens of a sequence.
 *
 * The one idea: a row is small enough to be read several times from the nearest cache, so its
 * statistics cost no memory traffic, forward or backward. Gradients of weight and bias are summed
 * over groups of rows that the shape alone decides, then over the groups in double, in order.
 */
#include "exec/fast.h"

#include <math.h>
#include <string.h>

#define LEAST_ROWS  16
#define GROUP_ROWS  64  /* at least; */
#define MOST_GROUPS 256 /* at most */

#ifdef _OPENMP
#define SIMD_SUM _Pragma("omp simd reduction(+ : sum, other)")
#else
#define SIMD_SUM
#endif

typedef struct row_job {
    float *dst; /* or d_src */
    const float *src, *weight, *bias, *d_dst;
    float *sums; /* [groups, 2 C]: of d_weight, then d_bias */
    int64_t rows, C, groups;
    double eps;
    bool centred;
} row_job;

typedef struct row_moments {
    float mean, rstd;
} row_moments;

FAST_INLINE row_moments moments_of(const row_job *j, const float *src)
{
    const int64_t C = j->C;
    float sum = 0.0f, other = 0.0f, mean;

    SIMD_SUM
    for (int64_t c = 0; c < C; c++)
        sum += src[c];
    mean = j->centred ? sum / (float)C : 0.0f;
    sum = 0.0f;
    SIMD_SUM
    for (int64_t c = 0; c < C; c++) {
        const float x = src[c] - mean;

        sum += x * x;
        other += x;
    }
    if (!j->centred)
        other = 0.0f;
    /* `other` is what rounding left of the mean. */
    return (row_moments){mean + other / (float)C,
                         (float)(1 / sqrt((double)sum / (double)C + j->eps))};
}

FAST_CLONES static void norm_rows(const void *job, int64_t first, int64_t last)
{
    const row_job *const j = job;
    const float *const weight = j->weight, *const bias = j->bias;
    const int64_t C = j->C;

    for (int64_t r = first; r < last; r++) {
        const float *const src = j->src + r * C;
        const row_moments m = moments_of(j, src);
        float *const dst = j->dst + r * C;

        if (bias)
            FAST_SIMD
        for (int64_t c = 0; c < C; c++)
            dst[c] = (src[c] - m.mean) * m.rstd * weight[c] + bias[c];
        else FAST_SIMD for (int64_t c = 0; c < C; c++) dst[c] =
            (src[c] - m.mean) * m.rstd * weight[c];
    }
}

/* sums += d * hat and d. */
FAST_INLINE void add_row(float *restrict sums, const float *restrict d, const float *restrict src,
                         row_moments m, int64_t C)
{
    FAST_SIMD
    for (int64_t c = 0; c < C; c++) {
        sums[c] += d[c] * ((src[c] - m.mean) * m.rstd);
        sums[C + c] += d[c];
    }
}

/* d_src = rstd * (g - mean(g) - hat * mean(g * hat)), g = d * weight; d_src may be d. */
FAST_INLINE void row_d_src(const row_job *j, float *d_src, const float *d, const float *src,
                           row_moments m)
{
    const float *const weight = j->weight;
    const int64_t C = j->C;
    float sum = 0.0f, other = 0.0f, mean, mean_hat;

    SIMD_SUM
    for (int64_t c = 0; c < C; c++) {
        const float g = d[c] * weight[c];

        sum += g;
        other += g * ((src[c] - m.mean) * m.rstd);
    }
    mean = j->centred ? sum / (float)C : 0.0f;
    mean_hat = other / (float)C;
    FAST_SIMD
    for (int64_t c = 0; c < C; c++)
        d_src[c] = m.rstd * (d[c] * weight[c] - mean - (src[c] - m.mean) * m.rstd * mean_hat);
}

/* Groups [first, last). src is NULL where only the bias has a gradient. */
FAST_CLONES static void norm_backward_groups(const void *job, int64_t first, int64_t last)
{
    const row_job *const j = job;
    const int64_t C = j->C;

    for (int64_t group = first; group < last; group++) {
        float *const sums = j->sums + group * 2 * C;
        const int64_t end = j->rows * (group + 1) / j->groups;

        memset(sums, 0, (size_t)(2 * C) * sizeof *sums);
        for (int64_t r = j->rows * group / j->groups; r < end; r++) {
            const float *const d = j->d_dst + r * C, *const src = j->src ? j->src + r * C : d;
            const row_moments m = j->src ? moments_of(j, src) : (row_moments){0, 0};

            add_row(sums, d, src, m, C);
            if (j->dst)
                row_d_src(j, j->dst + r * C, d, src, m);
        }
    }
}

static int64_t groups_of(int64_t rows)
{
    return THAW_MIN((rows + GROUP_ROWS - 1) / GROUP_ROWS, (int64_t)MOST_GROUPS);
}

static int64_t features(const exec_call *c)
{
    const shape *const s = c->out[0].shape ? c->out[0].shape : c->d_out[0].shape;

    return s->dim[s->rank - 1];
}

size_t fast_row_norm_scratch(const exec_call *c, int threads)
{
    const int64_t C = features(c);

    (void)threads;
    if (c->wrt == 0)
        return 0;
    return (size_t)(groups_of((int64_t)c->d_out[0].elements / C) * 2 * C) * sizeof(float);
}

static void norm_forward(const fast_call *call, bool centred)
{
    const exec_call *const op = &call->op;
    const int64_t C = features(op);
    const row_job job = {.dst = op->out[0].data,
                         .src = op->in[0].data,
                         .weight = op->in[1].data,
                         .bias = op->in[2].data,
                         .C = C,
                         .eps = op->attrs->norm.eps,
                         .centred = centred};

    fast_parallel(call->threads, (int64_t)op->out[0].elements / C, LEAST_ROWS, norm_rows, &job);
}

static void store_sum(const fast_call *call, int input, const row_job *j, int64_t offset)
{
    float *const to = call->op.d_in[input].data;

    for (int64_t c = 0; to && c < j->C; c++) {
        double sum = call->add[input] ? (double)to[c] : 0;

        for (int64_t group = 0; group < j->groups; group++)
            sum += (double)j->sums[group * 2 * j->C + offset + c];
        to[c] = (float)sum;
    }
}

static void norm_backward(const fast_call *call, bool centred)
{
    const exec_call *const op = &call->op;
    const int64_t C = features(op), rows = (int64_t)op->d_out[0].elements / C;
    const row_job job = {.dst = op->d_in[0].data,
                         .src = op->in[0].data,
                         .weight = op->in[1].data,
                         .d_dst = op->d_out[0].data,
                         .sums = op->scratch,
                         .rows = rows,
                         .C = C,
                         .groups = groups_of(rows),
                         .eps = op->attrs->norm.eps,
                         .centred = centred};

    fast_parallel(call->threads, job.groups, 2, norm_backward_groups, &job);
    store_sum(call, 1, &job, 0);
    store_sum(call, 2, &job, C);
}

void fast_layer_norm(const fast_call *c)
{
    norm_forward(c, true);
}

void fast_layer_norm_backward(const fast_call *c)
{
    norm_backward(c, true);
}

void fast_rms_norm(const fast_call *c)
{
    norm_forward(c, false);
}

void fast_rms_norm_backward(const fast_call *c)
{
    norm_backward(c, false);
}

/* ----------------------------------------------------------------------------------------------
 * tokens: the first one, then the pixels in rows, each plus its position */

typedef struct tokens_job {
    float *dst;
    const float *src, *first, *position;
    int64_t B, each, D; /* numbers of an image's tokens, and of one */
    bool add;
} tokens_job;

FAST_CLONES static void add_positions(float *restrict dst, const float *restrict src,
                                      const float *restrict position, int64_t n)
{
    FAST_SIMD
    for (int64_t i = 0; i < n; i++)
        dst[i] = src[i] + position[i];
}

static void tokens_images(const void *job, int64_t first, int64_t last)
{
    const tokens_job *const j = job;
    const int64_t pixels = j->each - j->D;

    for (int64_t b = first; b < last; b++) {
        add_positions(j->dst + b * j->each, j->first, j->position, j->D);
        add_positions(j->dst + b * j->each + j->D, j->src + b * pixels, j->position + j->D, pixels);
    }
}

void fast_tokens(const fast_call *c)
{
    const tokens_job job = {.dst = c->op.out[0].data,
                            .src = c->op.in[0].data,
                            .first = c->op.in[1].data,
                            .position = c->op.in[2].data,
                            .each = (int64_t)c->op.in[2].elements,
                            .D = (int64_t)c->op.in[1].elements};

    fast_parallel(c->threads, c->op.out[0].shape->dim[0], 2, tokens_images, &job);
}

/* dst[i] = sum over images, for numbers [first, last) of an image's tokens. */
FAST_CLONES static void sum_images(const void *job, int64_t first, int64_t last)
{
    const tokens_job *const j = job;
    double sum[64];

    for (int64_t at = first; at < last; at += 64) {
        const int64_t n = THAW_MIN(last - at, 64);

        for (int64_t i = 0; i < n; i++)
            sum[i] = j->add ? (double)j->dst[at + i] : 0;
        for (int64_t b = 0; b < j->B; b++)
            FAST_SIMD
        for (int64_t i = 0; i < n; i++)
            sum[i] += (double)j->src[b * j->each + at + i];
        for (int64_t i = 0; i < n; i++)
            j->dst[at + i] = (float)sum[i];
    }
}

void fast_tokens_backward(const fast_call *c)
{
    const exec_operand *const d = &c->op.d_out[0];
    const int64_t B = d->shape->dim[0], D = d->shape->dim[2], each = d->shape->dim[1] * D;
    float *const d_src = c->op.d_in[0].data;

    for (int64_t b = 0; d_src && b < B; b++)
        memcpy(d_src + b * (each - D), (const float *)d->data + b * each + D,
               (size_t)(each - D) * sizeof *d_src);
    for (int i = 1; i <= 2; i++) {
        const tokens_job job = {
            .dst = c->op.d_in[i].data, .src = d->data, .B = B, .each = each, .add = c->add[i]};

        if (job.dst)
            fast_parallel(c->threads, (int64_t)c->op.d_in[i].elements, 8192, sum_images, &job);
    }
}

/* ----------------------------------------------------------------------------------------------
 * one token of a sequence: memory traffic alone */

void fast_token(const fast_call *c)
{
    const shape *const s = c->op.in[0].shape;
    const size_t D = (size_t)s->dim[2], each = (size_t)s->dim[1] * D;
    const float *const src = (const float *)c->op.in[0].data + (size_t)c->op.attrs->token.index * D;
    float *const dst = c->op.out[0].data;

    for (size_t b = 0; b < (size_t)s->dim[0]; b++)
        memcpy(dst + b * D, src + b * each, D * sizeof *dst);
}

void fast_token_backward(const fast_call *c)
{
    const shape *const s = c->op.d_in[0].shape;
    const size_t D = (size_t)s->dim[2], each = (size_t)s->dim[1] * D;
    const float *const d_dst = c->op.d_out[0].data;
    float *const d_src = c->op.d_in[0].data;

    memset(d_src, 0, c->op.d_in[0].elements * sizeof *d_src);
    for (size_t b = 0; b < (size_t)s->dim[0]; b++)
        memcpy(d_src + b * each + (size_t)c->op.attrs->token.index * D, d_dst + b * D,
               D * sizeof *d_src);
}
