/*
 * fast_norm.c - batch normalisation, forward and backward, and sums over rows.
 *
 * C channels, the last axis; rows are everything else. All passes over a tensor are of two kinds:
 * one that sums columns (moments forward, gradient sums backward) and one that maps element by
 * element. Sums go by groups of rows, fixed by the shape; in a group by blocks that fit in the
 * cache, in f32 within a block and in double from block to block and group to group.
 *
 * Moments are taken about a centre that each block gets from those before it, so that one pass
 * over memory loses nothing to cancellation (Chan, Golub and LeVeque, 1983, joins the blocks).
 */
#include "exec/fast.h"

#include <math.h>
#include <string.h>

#define MOST_GROUPS    32
#define GROUP_ELEMENTS 32768 /* not worth a group of its own below this */
#define BLOCK_ELEMENTS 32768 /* 128 KiB: half of a small second-level cache */
#define LEAST_ROWS     2

typedef struct cut {
    int64_t rows, C;
    int64_t groups, block; /* block: rows */
} cut;

static cut cut_rows(int64_t rows, int64_t C)
{
    const int64_t groups = THAW_MIN(rows * C / GROUP_ELEMENTS, MOST_GROUPS);

    return (cut){.rows = rows,
                 .C = C,
                 .groups = THAW_MAX(THAW_MIN(groups, rows), 1),
                 .block = THAW_MAX(BLOCK_ELEMENTS / C, 8)};
}

/* Scratch: per group two double sums and three float rows of C; after them four float rows. */
static size_t group_floats(int64_t C)
{
    return ((size_t)C * 7 + 15) / 16 * 16;
}

size_t fast_column_scratch(int64_t rows, int64_t columns)
{
    const size_t groups = (size_t)cut_rows(rows, columns).groups;

    return (groups * group_floats(columns) + 4 * (size_t)columns) * sizeof(float);
}

/* One group's part of the scratch. */
typedef struct group_sums {
    double *first, *second;
    float *block_first, *block_second, *centre;
} group_sums;

static group_sums group_at(void *scratch, const cut *k, int64_t group)
{
    float *const start = (float *)scratch + (size_t)group * group_floats(k->C);
    double *const sums = (double *)(void *)start;
    float *const rows = start + 4 * k->C;

    return (group_sums){.first = sums,
                        .second = sums + k->C,
                        .block_first = rows,
                        .block_second = rows + k->C,
                        .centre = rows + 2 * k->C};
}

/* The four rows after the groups: constants of the channels for the mapping pass. */
static float *channel_row(void *scratch, const cut *k, int row)
{
    return (float *)scratch + (size_t)k->groups * group_floats(k->C) + (size_t)row * (size_t)k->C;
}

#include "exec/fast_norm.inc"

/* ----------------------------------------------------------------------------------------------
 * moments */

typedef struct moments_job {
    const void *src;
    bool bf16;
    void *scratch;
    cut cut;
} moments_job;

/* Join a block's sums about the group's centre to the group's mean and squares. */
FAST_CLONES static void join_block(const group_sums *g, double before, double n, int64_t C)
{
    double *restrict const mean = g->first, *restrict const squares = g->second;
    float *restrict const sum = g->block_first, *restrict const square = g->block_second;
    float *restrict const centre = g->centre;

    FAST_SIMD
    for (int64_t c = 0; c < C; c++) {
        const double distance = (double)sum[c] / n + (double)centre[c] - mean[c];
        const double within = (double)square[c] - (double)sum[c] * (double)sum[c] / n;

        squares[c] += within + distance * distance * (before * n / (before + n));
        mean[c] += distance * (n / (before + n));
        centre[c] = (float)mean[c];
        sum[c] = 0.0f;
        square[c] = 0.0f;
    }
}

/* A piece of n rows that begins at column c; sums are of all columns. */
static void piece_rows(const group_sums *g, const float *src, int64_t n, int64_t c, int64_t columns)
{
    add_rows(g->centre + c, src, n, columns);
}

static void piece_moments(const group_sums *g, const float *src, int64_t n, int64_t c,
                          int64_t columns)
{
    add_moments(g->block_first + c, g->block_second + c, g->centre + c, src, n, columns);
}

/* Rows [row, row + n) of src: as they are, or piece by piece. */
static void visit_rows(const moments_job *j, const group_sums *g, int64_t row, int64_t n,
                       void (*visit)(const group_sums *g, const float *src, int64_t n, int64_t c,
                                     int64_t columns))
{
    const int64_t C = j->cut.C;
    const fast_tile tile = fast_tile_of(n, C);
    float room[FAST_TILE];

    if (!j->bf16) {
        visit(g, (const float *)j->src + row * C, n, 0, C);
        return;
    }
    for (int64_t r = row; r < row + n; r += tile.rows)
        for (int64_t c = 0; c < C; c += tile.columns) {
            const int64_t rows = THAW_MIN(tile.rows, row + n - r);
            const int64_t columns = THAW_MIN(tile.columns, C - c);

            visit(g, fast_widened(room, j->src, r * C + c, rows * columns), rows, c, columns);
        }
}

/* The first block's centre is its own mean, roughly. */
static void start_centre(const moments_job *j, const group_sums *g, int64_t row, int64_t rows)
{
    const int64_t C = j->cut.C;

    visit_rows(j, g, row, rows, piece_rows);
    for (int64_t c = 0; c < C; c++)
        g->centre[c] /= (float)rows;
}

static void moments_of_group(const moments_job *j, int64_t group)
{
    const cut *const k = &j->cut;
    const int64_t C = k->C, end = k->rows * (group + 1) / k->groups;
    const int64_t start = k->rows * group / k->groups;
    const group_sums g = group_at(j->scratch, k, group);

    memset(g.first, 0, group_floats(C) * sizeof(float));
    start_centre(j, &g, start, THAW_MIN(k->block, end - start));
    for (int64_t row = start; row < end; row += k->block) {
        const int64_t n = THAW_MIN(k->block, end - row);

        visit_rows(j, &g, row, n, piece_moments);
        join_block(&g, (double)(row - start), (double)n, C);
    }
}

static void moments_of_groups(const void *job, int64_t first, int64_t last)
{
    for (int64_t group = first; group < last; group++)
        moments_of_group(job, group);
}

/* Mean and sum of squared distances from it, of each channel, into the first group's sums. */
static group_sums moments(const moments_job *j, int threads)
{
    const cut *const k = &j->cut;
    const group_sums all = group_at(j->scratch, k, 0);

    fast_parallel(threads, k->groups, LEAST_ROWS, moments_of_groups, j);
    for (int64_t i = 1; i < k->groups; i++) {
        const group_sums g = group_at(j->scratch, k, i);
        const double before = (double)(k->rows * i / k->groups);
        const double n = (double)(k->rows * (i + 1) / k->groups) - before;

        for (int64_t c = 0; c < k->C; c++) {
            const double distance = g.first[c] - all.first[c];

            all.second[c] += g.second[c] + distance * distance * (before * n / (before + n));
            all.first[c] += distance * (n / (before + n));
        }
    }
    return all;
}

/* ----------------------------------------------------------------------------------------------
 * sums of gradients */

typedef struct sums_job {
    gradient_block all; /* src NULL: only the sum of d */
    bool bf16;          /* d, src and clipped are */
    bool clips;
    void *scratch;
    cut cut;
} sums_job;

/* g: where the rows begin; sums of C columns at first and second. */
static void sums_of_rows(const sums_job *j, float *first, float *second, const gradient_block *g,
                         int64_t n, int64_t C)
{
    if (g->src)
        (j->clips ? add_clipped_products : add_products)(first, second, g, n, C);
    else if (j->clips)
        add_clipped(first, g, n, C);
    else
        add_rows(first, g->d, n, C);
}

static const float *column(const float *of_channels, int64_t c)
{
    return of_channels ? of_channels + c : NULL;
}

static void sums_of_pieces(const sums_job *j, const group_sums *to, int64_t row, int64_t n)
{
    float d[FAST_TILE], src[FAST_TILE], clipped[FAST_TILE];
    const int64_t C = j->cut.C;
    const fast_tile tile = fast_tile_of(n, C);
    const gradient_block *const all = &j->all;

    for (int64_t r = row; r < row + n; r += tile.rows)
        for (int64_t c = 0; c < C; c += tile.columns) {
            const int64_t rows = THAW_MIN(tile.rows, row + n - r);
            const int64_t columns = THAW_MIN(tile.columns, C - c), at = r * C + c;
            const gradient_block g = {.d = fast_widened(d, all->d, at, rows * columns),
                                      .src = fast_widened(src, all->src, at, rows * columns),
                                      .clipped =
                                          fast_widened(clipped, all->clipped, at, rows * columns),
                                      .mean = column(all->mean, c),
                                      .scale = column(all->scale, c),
                                      .shift = column(all->shift, c),
                                      .limit = all->limit};

            sums_of_rows(j, to->block_first + c, to->block_second + c, &g, rows, columns);
        }
}

static void sums_of_block(const sums_job *j, const group_sums *to, int64_t row, int64_t n)
{
    const int64_t C = j->cut.C;
    gradient_block g = j->all;

    if (j->bf16) {
        sums_of_pieces(j, to, row, n);
        return;
    }
    g.d += row * C;
    if (g.src)
        g.src += row * C;
    else if (j->clips)
        g.clipped += row * C;
    sums_of_rows(j, to->block_first, to->block_second, &g, n, C);
}

static void sums_of_groups(const void *job, int64_t first, int64_t last)
{
    const sums_job *const j = job;
    const cut *const k = &j->cut;
    const int64_t C = k->C;

    for (int64_t group = first; group < last; group++) {
        const int64_t end = k->rows * (group + 1) / k->groups;
        const group_sums g = group_at(j->scratch, k, group);

        memset(g.first, 0, group_floats(C) * sizeof(float));
        for (int64_t row = k->rows * group / k->groups; row < end; row += k->block) {
            sums_of_block(j, &g, row, THAW_MIN(k->block, end - row));
            flush(g.first, g.block_first, C);
            flush(g.second, g.block_second, C);
        }
    }
}

/* Sums over rows of d, and of d * (src - mean), into the first group's sums. */
static group_sums sums(const sums_job *j, int threads)
{
    const cut *const k = &j->cut;
    const group_sums all = group_at(j->scratch, k, 0);

    fast_parallel(threads, k->groups, LEAST_ROWS, sums_of_groups, j);
    for (int64_t i = 1; i < k->groups; i++) {
        const group_sums g = group_at(j->scratch, k, i);

        for (int64_t c = 0; c < k->C; c++) {
            all.first[c] += g.first[c];
            all.second[c] += g.second[c];
        }
    }
    return all;
}

static void store(float *to, const double *from, int64_t C, bool add)
{
    for (int64_t c = 0; to && c < C; c++)
        to[c] = (float)(from[c] + (add ? (double)to[c] : 0.0));
}

void fast_column_sum(float *dst, const void *src, dtype type, int64_t rows, int64_t columns,
                     bool add, void *scratch, int threads)
{
    const sums_job job = {.all = {.d = src},
                          .bf16 = type == DTYPE_BF16,
                          .scratch = scratch,
                          .cut = cut_rows(rows, columns)};

    store(dst, sums(&job, threads).first, columns, add);
}

/* ----------------------------------------------------------------------------------------------
 * the mapping pass: rows of [first, last) */

typedef struct map_job {
    float *dst;
    const float *a, *b;
    const float *mean, *scale, *bias, *slope; /* [C] */
    const float *shift;                       /* [C]: the norm's own bias, to clip again */
    const float *clipped;
    float limit;
    int64_t C;
} map_job;

/* dst = (a - mean) * scale + bias, plus b, clipped. */
FAST_INLINE void normalise(const map_job *j, int64_t first, int64_t last, bool adds, bool clips)
{
    const int64_t C = j->C;
    const float *const mean = j->mean, *const scale = j->scale, *const bias = j->bias;
    const float limit = j->limit;

    for (int64_t r = first; r < last; r++) {
        const float *const a = j->a + r * C, *const b = adds ? j->b + r * C : NULL;
        float *const dst = j->dst + r * C;

        FAST_SIMD
        for (int64_t c = 0; c < C; c++) {
            const float x = normalised(a[c], mean[c], scale[c], bias[c]);
            const float y = adds ? x + b[c] : x;

            dst[c] = clips ? clip(y, limit) : y;
        }
    }
}

FAST_CLONES static void normalise_rows(const void *job, int64_t first, int64_t last)
{
    normalise(job, first, last, false, false);
}

FAST_CLONES static void normalise_clip_rows(const void *job, int64_t first, int64_t last)
{
    normalise(job, first, last, false, true);
}

FAST_CLONES static void normalise_add_rows(const void *job, int64_t first, int64_t last)
{
    normalise(job, first, last, true, false);
}

FAST_CLONES static void normalise_add_clip_rows(const void *job, int64_t first, int64_t last)
{
    normalise(job, first, last, true, true);
}

static fast_work *const normalisers[2][2] = {{normalise_rows, normalise_clip_rows},
                                             {normalise_add_rows, normalise_add_clip_rows}};

/* dst = a * scale + (b - mean) * slope + bias: a the gradient, b the normalised input's source. */
FAST_INLINE void combine(const map_job *j, int64_t first, int64_t last, bool clips)
{
    const int64_t C = j->C;
    const float *const mean = j->mean, *const scale = j->scale;
    const float *const bias = j->bias, *const slope = j->slope, *const shift = j->shift;
    const float limit = j->limit;

    for (int64_t r = first; r < last; r++) {
        const float *const a = j->a + r * C, *const b = j->b + r * C;
        float *const dst = j->dst + r * C;

        FAST_SIMD
        for (int64_t c = 0; c < C; c++) {
            const float y = clips ? normalised(b[c], mean[c], scale[c], shift[c]) : 0.0f;
            const float d = clips ? pass(a[c], y, limit) : a[c];

            dst[c] = d * scale[c] + ((b[c] - mean[c]) * slope[c] + bias[c]);
        }
    }
}

FAST_CLONES static void combine_rows(const void *job, int64_t first, int64_t last)
{
    combine(job, first, last, false);
}

FAST_CLONES static void combine_clip_rows(const void *job, int64_t first, int64_t last)
{
    combine(job, first, last, true);
}

/* dst = a * scale. */
FAST_INLINE void scale_all(const map_job *j, int64_t first, int64_t last, bool clips)
{
    const int64_t C = j->C;
    const float *const scale = j->scale;
    const float limit = j->limit;

    for (int64_t r = first; r < last; r++) {
        const float *const a = j->a + r * C, *const y = clips ? j->clipped + r * C : NULL;
        float *const dst = j->dst + r * C;

        FAST_SIMD
        for (int64_t c = 0; c < C; c++)
            dst[c] = (clips ? pass(a[c], y[c], limit) : a[c]) * scale[c];
    }
}

FAST_CLONES static void scale_rows(const void *job, int64_t first, int64_t last)
{
    scale_all(job, first, last, false);
}

FAST_CLONES static void scale_clip_rows(const void *job, int64_t first, int64_t last)
{
    scale_all(job, first, last, true);
}

/* The same in bf16, piece by piece. */
typedef struct narrow_job {
    fast_work *work;
    map_job map;
} narrow_job;

static map_job piece_at(const map_job *all, int64_t c, int64_t columns)
{
    map_job piece = *all;

    piece.mean = column(all->mean, c);
    piece.scale = column(all->scale, c);
    piece.bias = column(all->bias, c);
    piece.slope = column(all->slope, c);
    piece.shift = column(all->shift, c);
    piece.C = columns;
    return piece;
}

static void narrow_rows(const void *job, int64_t first, int64_t last)
{
    const narrow_job *const j = job;
    float dst[FAST_TILE], a[FAST_TILE], b[FAST_TILE], clipped[FAST_TILE];
    const int64_t C = j->map.C;
    const fast_tile tile = fast_tile_of(last - first, C);

    for (int64_t r = first; r < last; r += tile.rows)
        for (int64_t c = 0; c < C; c += tile.columns) {
            const int64_t rows = THAW_MIN(tile.rows, last - r);
            const int64_t columns = THAW_MIN(tile.columns, C - c), n = rows * columns;
            map_job piece = piece_at(&j->map, c, columns);

            piece.dst = dst;
            piece.a = fast_widened(a, j->map.a, r * C + c, n);
            piece.b = fast_widened(b, j->map.b, r * C + c, n);
            piece.clipped = fast_widened(clipped, j->map.clipped, r * C + c, n);
            j->work(&piece, 0, rows);
            fast_narrow((uint16_t *)(void *)j->map.dst + r * C + c, dst, n);
        }
}

static void map_rows(const cut *k, bool bf16, int threads, fast_work *work, map_job job)
{
    const int64_t least = THAW_MAX(BLOCK_ELEMENTS / k->C, 2);

    job.C = k->C;
    if (bf16)
        fast_parallel(threads, k->rows, least, narrow_rows,
                      &(narrow_job){.work = work, .map = job});
    else
        fast_parallel(threads, k->rows, least, work, &job);
}

/* ----------------------------------------------------------------------------------------------
 * the ops */

/* The gradient of the output has its shape where the output itself is not read. */
static cut cut_of(const exec_call *c)
{
    const exec_operand *const dst = c->out[0].shape ? &c->out[0] : &c->d_out[0];
    const int64_t C = dst->shape->dim[dst->shape->rank - 1];

    return cut_rows((int64_t)dst->elements / C, C);
}

size_t fast_norm_scratch(const exec_call *c, int threads)
{
    const cut k = cut_of(c);

    (void)threads;
    return fast_column_scratch(k.rows, k.C);
}

/* The op table lists it for some gradients only; to clip again it is always needed. */
static const float *weight_of(const fast_call *call)
{
    return call->post.weight ? call->post.weight : call->op.in[1].data;
}

static void map_forward(const fast_call *call, const cut *k, const float *mean, const float *scale)
{
    const exec_call *const op = &call->op;

    map_rows(k, op->out[0].dtype == DTYPE_BF16, call->threads,
             normalisers[call->post.addend != NULL][call->post.clips],
             (map_job){.dst = op->out[0].data,
                       .a = op->in[0].data,
                       .b = call->post.addend,
                       .mean = mean,
                       .scale = scale,
                       .bias = op->in[2].data,
                       .limit = call->post.limit});
}

/* What backward sums over, for a norm with this mean and scale. */
static sums_job gradient_sums(const fast_call *call, const cut *k, const float *src,
                              const float *mean, const float *scale)
{
    return (sums_job){.all = {.d = call->op.d_out[0].data,
                              .src = src,
                              .clipped = call->post.clipped,
                              .mean = mean,
                              .scale = scale,
                              .shift = call->post.bias,
                              .limit = call->post.limit},
                      .bf16 = call->op.d_out[0].dtype == DTYPE_BF16,
                      .clips = call->post.clips,
                      .scratch = call->op.scratch,
                      .cut = *k};
}

void fast_batch_norm_train(const fast_call *call)
{
    const exec_call *const op = &call->op;
    const cut k = cut_of(op);
    const moments_job job = {.src = op->in[0].data,
                             .bf16 = op->in[0].dtype == DTYPE_BF16,
                             .scratch = op->scratch,
                             .cut = k};
    const group_sums sum = moments(&job, call->threads);
    const double momentum = op->attrs->norm.momentum, n = (double)k.rows;
    const float *const weight = op->in[1].data;
    float *const running_mean = op->in[3].data, *const running_var = op->in[4].data;
    float *const mean = op->out[1].data, *const rstd = op->out[2].data;
    float *const scale = channel_row(op->scratch, &k, 0);

    for (int64_t c = 0; c < k.C; c++) {
        const double unbiased = sum.second[c] / (n - 1);

        running_mean[c] =
            (float)((1 - momentum) * (double)running_mean[c] + momentum * sum.first[c]);
        running_var[c] = (float)((1 - momentum) * (double)running_var[c] + momentum * unbiased);
        mean[c] = (float)sum.first[c];
        rstd[c] = (float)(1 / sqrt(sum.second[c] / n + op->attrs->norm.eps));
        scale[c] = rstd[c] * weight[c];
    }
    ++*(int64_t *)op->in[5].data;
    map_forward(call, &k, mean, scale);
}

/* The very mapping pass of the above. */
void fast_batch_norm_again(const fast_call *call)
{
    const exec_call *const op = &call->op;
    const cut k = cut_of(op);
    const float *const weight = op->in[1].data, *const rstd = op->in[4].data;
    float *const scale = channel_row(op->scratch, &k, 0);

    for (int64_t c = 0; c < k.C; c++)
        scale[c] = rstd[c] * weight[c];
    map_forward(call, &k, op->in[3].data, scale);
}

/*
 * d_src = weight * rstd * (d - (sum(d) + hat * sum(d * hat)) / n), hat = (src - mean) * rstd; with
 * what belongs to a channel gathered: d * scale + (src - mean) * slope + bias.
 */
void fast_batch_norm_train_backward(const fast_call *call)
{
    const exec_call *const op = &call->op;
    const cut k = cut_of(op);
    const float *const src = op->in[0].data, *const weight = weight_of(call);
    const float *const mean = op->out[1].data, *const rstd = op->out[2].data;
    float *const scale = channel_row(op->scratch, &k, 0), *const slope = scale + k.C;
    float *const bias = slope + k.C;
    sums_job job;
    group_sums sum;

    for (int64_t c = 0; src && weight && c < k.C; c++)
        scale[c] = rstd[c] * weight[c];
    job = gradient_sums(call, &k, src, mean, scale);
    sum = sums(&job, call->threads);
    for (int64_t c = 0; src && c < k.C; c++)
        sum.second[c] *= (double)rstd[c];
    store(op->d_in[1].data, sum.second, k.C, call->add[1]);
    store(op->d_in[2].data, sum.first, k.C, call->add[2]);
    if (!op->d_in[0].data)
        return;
    for (int64_t c = 0; c < k.C; c++) {
        const double whole = (double)weight[c] * (double)rstd[c];

        slope[c] = (float)(-whole * (double)rstd[c] * sum.second[c] / (double)k.rows);
        bias[c] = (float)(-whole * sum.first[c] / (double)k.rows);
    }
    map_rows(&k, op->d_in[0].dtype == DTYPE_BF16, call->threads,
             call->post.clips ? combine_clip_rows : combine_rows,
             (map_job){.dst = op->d_in[0].data,
                       .a = op->d_out[0].data,
                       .b = src,
                       .mean = mean,
                       .scale = scale,
                       .slope = slope,
                       .bias = bias,
                       .shift = call->post.bias,
                       .limit = call->post.limit});
}

static double running_rstd(const exec_call *op, int64_t c)
{
    return 1 / sqrt((double)((const float *)op->in[4].data)[c] + op->attrs->norm.eps);
}

/* scale = weight / sqrt(running variance + eps), into the scratch. */
static float *running_scale(const fast_call *call, const cut *k)
{
    const exec_call *const op = &call->op;
    const float *const weight = weight_of(call);
    float *const scale = channel_row(op->scratch, k, 0);

    for (int64_t c = 0; c < k->C; c++)
        scale[c] = (float)((double)weight[c] * running_rstd(op, c));
    return scale;
}

void fast_batch_norm_infer(const fast_call *call)
{
    const exec_call *const op = &call->op;
    const cut k = cut_of(op);

    map_forward(call, &k, op->in[3].data, running_scale(call, &k));
}

void fast_batch_norm_infer_backward(const fast_call *call)
{
    const exec_call *const op = &call->op;
    const cut k = cut_of(op);

    if (op->d_in[1].data || op->d_in[2].data) {
        const float *const src = op->d_in[1].data ? op->in[0].data : NULL;
        const bool again = src && call->post.clips;
        const sums_job job =
            gradient_sums(call, &k, src, op->in[3].data, again ? running_scale(call, &k) : NULL);
        const group_sums sum = sums(&job, call->threads);

        for (int64_t c = 0; op->d_in[1].data && c < k.C; c++)
            sum.second[c] *= running_rstd(op, c);
        store(op->d_in[1].data, sum.second, k.C, call->add[1]);
        store(op->d_in[2].data, sum.first, k.C, call->add[2]);
    }
    if (op->d_in[0].data)
        map_rows(&k, op->d_in[0].dtype == DTYPE_BF16, call->threads,
                 call->post.clips ? scale_clip_rows : scale_rows,
                 (map_job){.dst = op->d_in[0].data,
                           .a = op->d_out[0].data,
                           .scale = running_scale(call, &k),
                           .clipped = call->post.clipped,
                           .limit = call->post.limit});
}
