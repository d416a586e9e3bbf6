/*
 * winograd.c - see winograd.h.
 *
 * Tiles go through in blocks whose numbers stay in the nearest caches: taken apart, multiplied, put
 * together. All loops are over channels, sixteen at once. To take six pixels in a row apart is to
 * evaluate the polynomial with these coefficients, up to what belongs to the transform of the
 * window; names follow the paper: B for the input, G for the window, A for the output.
 */
#include "exec/winograd.h"

#include "exec/fast.h"

#include <string.h>

enum {
    WINDOW = 3,
    TILE = 4,  /* output pixels along a tile */
    INPUT = 6, /* input pixels */
    POINTS = INPUT * INPUT,
    LEAST_BLOCK = 32, /* tiles in a block */
    MOST_BLOCK = 128,
    MOST_WEIGHT_BLOCK = 256, /* tiles, for the gradient of the weight */
    TERMS = 128,             /* tiles in a sum, at once */
    PANEL = WINOGRAD_CHANNELS,
    LANES = 16
};

/* The points: 0, ±P, ±Q, infinity. */
#define P  0.75f
#define Q  1.5f
#define P2 (P * P)
#define Q2 (Q * Q)

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef double wide __attribute__((vector_size(LANES * sizeof(double))));
typedef int32_t marks __attribute__((vector_size(LANES * sizeof(int32_t)))); /* all bits, or none */

/* By address: what passes such a vector by value depends on the instruction set. */
FAST_INLINE void load(lanes *x, const float *p)
{
    memcpy(x, p, sizeof *x);
}

FAST_INLINE void store(float *p, const lanes *x)
{
    memcpy(p, x, sizeof *x);
}

/* ----------------------------------------------------------------------------------------------
 * the transforms of one row; step: from one number of the row to the next */

/* B' d: six input pixels. */
FAST_INLINE void take_apart(lanes *to, const lanes *d, int step)
{
    const lanes d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step];
    const lanes even_p = d4 - Q2 * d2, odd_p = P * (d3 - Q2 * d1);
    const lanes even_q = d4 - P2 * d2, odd_q = Q * (d3 - P2 * d1);

    to[0] = P2 * Q2 * d[0] - (P2 + Q2) * d2 + d4;
    to[step] = even_p + odd_p;
    to[2 * step] = even_p - odd_p;
    to[3 * step] = even_q + odd_q;
    to[4 * step] = even_q - odd_q;
    to[5 * step] = P2 * Q2 * d1 - (P2 + Q2) * d3 + d[5 * step];
}

/* A' m: four output pixels of six sums. */
FAST_INLINE void put_together(lanes *to, const lanes *m, int step)
{
    const lanes even_p = m[step] + m[2 * step], odd_p = m[step] - m[2 * step];
    const lanes even_q = m[3 * step] + m[4 * step], odd_q = m[3 * step] - m[4 * step];

    to[0] = m[0] + even_p + even_q;
    to[step] = P * odd_p + Q * odd_q;
    to[2 * step] = P2 * even_p + Q2 * even_q;
    to[3 * step] = P2 * P * odd_p + Q2 * Q * odd_q + m[5 * step];
}

/* A d: the gradients of four output pixels. */
FAST_INLINE void take_gradient(lanes *to, const lanes *d, int step)
{
    const lanes d1 = d[step], d2 = d[2 * step], d3 = d[3 * step];
    const lanes even_p = d[0] + P2 * d2, odd_p = P * (d1 + P2 * d3);
    const lanes even_q = d[0] + Q2 * d2, odd_q = Q * (d1 + Q2 * d3);

    to[0] = d[0];
    to[step] = even_p + odd_p;
    to[2 * step] = even_p - odd_p;
    to[3 * step] = even_q + odd_q;
    to[4 * step] = even_q - odd_q;
    to[5 * step] = d3;
}

/* What the window's polynomial is divided by at each point. */
#define DIVIDE_0 (1.0 / (P2 * Q2))
#define DIVIDE_P (1.0 / (2 * P2 * (P2 - Q2)))
#define DIVIDE_Q (1.0 / (2 * Q2 * (Q2 - P2)))
#define AT_0     ((float)DIVIDE_0)
#define AT_P     ((float)DIVIDE_P)
#define AT_Q     ((float)DIVIDE_Q)

/* G g: three numbers of the window; in double, so that what all tiles meet is rounded once. */
FAST_INLINE void take_window(wide *to, const wide *g, int step)
{
    const wide even_p = DIVIDE_P * (g[0] + P2 * g[2 * step]), odd_p = DIVIDE_P * P * g[step];
    const wide even_q = DIVIDE_Q * (g[0] + Q2 * g[2 * step]), odd_q = DIVIDE_Q * Q * g[step];

    to[0] = DIVIDE_0 * g[0];
    to[step] = even_p + odd_p;
    to[2 * step] = even_p - odd_p;
    to[3 * step] = even_q + odd_q;
    to[4 * step] = even_q - odd_q;
    to[5 * step] = g[2 * step];
}

/* G' u: the gradients of three numbers of the window. */
FAST_INLINE void put_window(lanes *to, const lanes *u, int step)
{
    const lanes even_p = AT_P * (u[step] + u[2 * step]), odd_p = AT_P * (u[step] - u[2 * step]);
    const lanes even_q = AT_Q * (u[3 * step] + u[4 * step]);
    const lanes odd_q = AT_Q * (u[3 * step] - u[4 * step]);

    to[0] = AT_0 * u[0] + even_p + even_q;
    to[step] = P * odd_p + Q * odd_q;
    to[2 * step] = P2 * even_p + Q2 * even_q + u[5 * step];
}

/* A square of numbers, in rows of INPUT: so many columns, then so many rows; y is for in between.
 */
#define BOTH_WAYS(transform, x, y, columns, rows)                                                  \
    do {                                                                                           \
        for (int across = 0; across < (columns); across++)                                         \
            transform((y) + across, (x) + across, INPUT);                                          \
        for (int down = 0; down < (rows); down++)                                                  \
            transform((x) + down * INPUT, (y) + down * INPUT, 1);                                  \
    } while (0)

/* ----------------------------------------------------------------------------------------------
 * tiles of an image */

/* An image [batch, height, width, channels] that is cut so that a tile's first pixel lies `pad`
 * rows and columns before the first pixel of its output. */
typedef struct cut_image {
    int64_t height, width, channels;
    int64_t pad[2];
    int64_t rows, columns; /* tiles */
} cut_image;

static int64_t tiles_along(int64_t pixels)
{
    return (pixels + TILE - 1) / TILE;
}

static cut_image input_of(const winograd *w)
{
    return (cut_image){.height = w->height,
                       .width = w->width,
                       .channels = w->channels,
                       .pad = {w->pad[0], w->pad[1]},
                       .rows = tiles_along(w->out_height),
                       .columns = tiles_along(w->out_width)};
}

static cut_image output_of(const winograd *w)
{
    return (cut_image){.height = w->out_height,
                       .width = w->out_width,
                       .channels = w->kernels,
                       .rows = tiles_along(w->out_height),
                       .columns = tiles_along(w->out_width)};
}

static int64_t tiles_of(const winograd *w)
{
    return w->batch * tiles_along(w->out_height) * tiles_along(w->out_width);
}

/* Where a tile's pixels begin, -1: beyond the edge; a square of `side` pixels, in rows of INPUT. */
static void find_pixels(int64_t at[POINTS], const cut_image *k, int64_t tile, int side)
{
    const int64_t each = k->rows * k->columns, within = tile % each;
    const int64_t top = within / k->columns * TILE - k->pad[0];
    const int64_t left = within % k->columns * TILE - k->pad[1];
    const int64_t first = tile / each * k->height * k->width;

    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++) {
            const int64_t y = top + i, x = left + j;
            const bool inside = y >= 0 && y < k->height && x >= 0 && x < k->width;

            at[i * INPUT + j] = inside ? (first + y * k->width + x) * k->channels : -1;
        }
}

/* Tiles of an image, from `start` on, taken apart into `to`: for each point a matrix of `pitch`
 * rows, one for each tile, of channels [first, first + channels), cut into panels of so many
 * columns. Work on it is by rows. */
typedef struct apart_job {
    cut_image cut;
    const float *image;
    float *to;
    int64_t pitch, start;
    int64_t first, channels, panel;
} apart_job;

FAST_INLINE void take_pixels(lanes x[POINTS], const float *image, const int64_t at[POINTS],
                             int64_t c, int side)
{
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++) {
            const int k = i * INPUT + j;

            if (at[k] >= 0)
                load(x + k, image + at[k] + c);
            else
                x[k] = (lanes){0};
        }
}

FAST_INLINE void put_points(const apart_job *j, int64_t row, int64_t c, const lanes x[POINTS])
{
    float *const to = j->to + (c / j->panel * j->pitch + row) * j->panel + c % j->panel;

    for (int i = 0; i < POINTS; i++)
        store(to + i * j->pitch * j->channels, x + i);
}

FAST_CLONES static void input_tiles(const void *job, int64_t first, int64_t last)
{
    const apart_job *const j = job;
    lanes x[POINTS], y[POINTS];

    for (int64_t row = first; row < last; row++) {
        int64_t at[POINTS];

        find_pixels(at, &j->cut, j->start + row, INPUT);
        for (int64_t c = 0; c < j->channels; c += LANES) {
            take_pixels(x, j->image, at, j->first + c, INPUT);
            BOTH_WAYS(take_apart, x, y, INPUT, INPUT);
            put_points(j, row, c, x);
        }
    }
}

FAST_CLONES static void gradient_tiles(const void *job, int64_t first, int64_t last)
{
    const apart_job *const j = job;
    lanes x[POINTS], y[POINTS];

    for (int64_t row = first; row < last; row++) {
        int64_t at[POINTS];

        find_pixels(at, &j->cut, j->start + row, TILE);
        for (int64_t c = 0; c < j->channels; c += LANES) {
            take_pixels(x, j->image, at, j->first + c, TILE);
            BOTH_WAYS(take_gradient, x, y, TILE, INPUT);
            put_points(j, row, c, x);
        }
    }
}

/* ----------------------------------------------------------------------------------------------
 * forward, and the gradient of the input */

/* As many tiles as have numbers and sums of half the window's size: so neither comes through the
 * caches much oftener than the other. */
static int64_t run_block(const winograd *w)
{
    const int64_t even = w->channels * w->kernels / (w->channels + w->kernels) / 2;

    return THAW_MIN(THAW_MAX(even / LEAST_BLOCK * LEAST_BLOCK, LEAST_BLOCK), MOST_BLOCK);
}

/* One for each thread, which has scratch of its own; few tiles are one part, and the threads share
 * its products, so that each reads but its panels of a large window. */
static int64_t count_parts(const winograd *w, int threads)
{
    return tiles_of(w) < threads * run_block(w) ? 1 : threads;
}

typedef struct run_job {
    const winograd *w;
    const float *src, *packed, *bias;
    float *dst, *scratch;
    int64_t block, parts;
    int threads; /* of one part */
} run_job;

/* Tiles [first, first + n), at work. */
typedef struct block_job {
    const run_job *run;
    float *numbers, *sums; /* [36][block][channels], [36][block][kernels] */
    int64_t first, n;
} block_job;

static size_t part_floats(const winograd *w)
{
    return (size_t)(POINTS * run_block(w)) * (size_t)(w->channels + w->kernels);
}

/* What is done last, as the kernel library does it; not a number is clipped to zero. */
FAST_INLINE void finish(lanes *x, const run_job *j, const float *dst, int64_t k)
{
    lanes more;

    if (j->bias) {
        load(&more, j->bias + k);
        *x += more;
    }
    if (j->w->adds) {
        load(&more, dst);
        *x += more;
    }
    if (j->w->activation != DNN_LINEAR)
        *x = (lanes)((marks)*x & (*x > 0.0f));
    if (j->w->activation == DNN_RELU6) {
        const marks low = *x < 6.0f;

        *x = (lanes)(((marks)*x & low) | ((marks)((lanes){0} + 6.0f) & ~low));
    }
}

/* Sums of tiles [first, last) of the block, put together. */
FAST_CLONES static void output_tiles(const void *job, int64_t first, int64_t last)
{
    const block_job *const b = job;
    const run_job *const j = b->run;
    const cut_image cut = output_of(j->w);
    const int64_t K = cut.channels;
    lanes x[POINTS], y[POINTS];

    for (int64_t t = first; t < last; t++) {
        int64_t at[POINTS];

        find_pixels(at, &cut, b->first + t, TILE);
        for (int64_t k = 0; k < K; k += LANES) {
            for (int i = 0; i < POINTS; i++)
                load(x + i, b->sums + (i * j->block + t) * K + k);
            BOTH_WAYS(put_together, x, y, INPUT, TILE);
            for (int i = 0; i < TILE; i++)
                for (int l = 0; l < TILE; l++) {
                    float *const dst = j->dst + at[i * INPUT + l] + k;

                    if (at[i * INPUT + l] < 0)
                        continue;
                    finish(x + i * INPUT + l, j, dst, k);
                    store(dst, x + i * INPUT + l);
                }
        }
    }
}

/* Panels [first, last) of all points, each times the numbers of the block. Rows beyond the last
 * tile hold what was there: nobody reads them. */
static void multiply_panels(const void *job, int64_t first, int64_t last)
{
    const block_job *const b = job;
    const run_job *const j = b->run;
    const int64_t C = j->w->channels, K = j->w->kernels, each = K / PANEL;
    const int64_t rows = (b->n + FAST_PRODUCT_ROWS - 1) / FAST_PRODUCT_ROWS * FAST_PRODUCT_ROWS;

    for (int64_t at = first; at < last; at++) {
        const int64_t i = at / each, k = at % each * PANEL;
        const fast_product product = {.dst = b->sums + i * j->block * K + k,
                                      .a = b->numbers + i * j->block * C,
                                      .b = j->packed + at * PANEL * C,
                                      .rows = rows,
                                      .columns = PANEL,
                                      .terms = C,
                                      .dst_row = K,
                                      .a_row = C,
                                      .a_term = 1,
                                      .b_row = PANEL,
                                      .ahead = at + 1 < last ? PANEL * C : 0};

        fast_multiply(&product);
    }
}

static void run_tiles(const block_job *b)
{
    const run_job *const j = b->run;
    const int64_t C = j->w->channels;
    const apart_job apart = {.cut = input_of(j->w),
                             .image = j->src,
                             .to = b->numbers,
                             .pitch = j->block,
                             .start = b->first,
                             .channels = C,
                             .panel = C};

    fast_parallel(j->threads, b->n, 2, input_tiles, &apart);
    fast_parallel(j->threads, POINTS * (j->w->kernels / PANEL), 2, multiply_panels, b);
    fast_parallel(j->threads, b->n, 2, output_tiles, b);
}

static void run_parts(const void *job, int64_t first, int64_t last)
{
    const run_job *const j = job;
    const int64_t tiles = tiles_of(j->w);

    for (int64_t part = first; part < last; part++) {
        const int64_t end = tiles * (part + 1) / j->parts;
        float *const numbers = j->scratch + (size_t)part * part_floats(j->w);
        block_job b = {.run = j,
                       .numbers = numbers,
                       .sums = numbers + POINTS * j->block * j->w->channels,
                       .first = tiles * part / j->parts};

        for (; b.first < end; b.first += j->block) {
            b.n = THAW_MIN(j->block, end - b.first);
            run_tiles(&b);
        }
    }
}

/* ----------------------------------------------------------------------------------------------
 * the gradient of the weight */

/* Tiles at once: so many that the sums, which are read and written for each such block, cost less
 * than the products. Kernels at once: so many that the sums stay in a cache. */
#define BLOCK_BYTES ((size_t)10 << 20)
#define SUMS_BYTES  ((size_t)12 << 20)

static int64_t weight_kernels(const winograd *w)
{
    const size_t each = (size_t)POINTS * PANEL * sizeof(float) * (size_t)w->channels;
    const int64_t most = THAW_MAX((int64_t)(SUMS_BYTES / each), 1), panels = w->kernels / PANEL;
    const int64_t parts = (panels + most - 1) / most;

    return (panels + parts - 1) / parts * PANEL;
}

static int64_t weight_block(const winograd *w)
{
    const size_t each = POINTS * sizeof(float) * (size_t)(w->channels + weight_kernels(w));
    const int64_t fit = THAW_MIN((int64_t)(BLOCK_BYTES / each), MOST_WEIGHT_BLOCK);
    const int64_t n = THAW_MIN(fit, tiles_of(w));

    return THAW_MAX((n + LEAST_BLOCK - 1) / LEAST_BLOCK * LEAST_BLOCK, LEAST_BLOCK);
}

/* Kernels [first, first + kernels) at work. */
typedef struct weight_job {
    const winograd *w;
    int64_t first, kernels;
    float *input, *gradient; /* taken apart, in panels of LANES channels and of PANEL kernels */
    float *sums;             /* [36][kernels / PANEL][channels][PANEL] */
    float *d_weight;
    int64_t block, n; /* tiles there is room for, and are there */
    bool add;         /* sums are there; in the end: d_weight is */
} weight_job;

/* A panel of point i: all channels, a group and some tiles at once, which stay in the nearest
 * cache. */
static void sum_panel(const weight_job *j, int64_t i, int64_t k)
{
    const int64_t C = j->w->channels;

    for (int64_t t = 0; t < j->n; t += TERMS)
        for (int64_t c = 0; c < C; c += LANES) {
            const fast_product product = {.dst = j->sums + ((i * j->kernels + k) * C + c * PANEL),
                                          .a = j->input + (i * C + c) * j->block + t * LANES,
                                          .b = j->gradient + (i * j->kernels + k) * j->block +
                                               t * PANEL,
                                          .rows = LANES,
                                          .columns = PANEL,
                                          .terms = THAW_MIN(TERMS, j->n - t),
                                          .dst_row = PANEL,
                                          .a_row = 1,
                                          .a_term = LANES,
                                          .b_row = PANEL,
                                          .add = j->add || t > 0};

            fast_multiply(&product);
        }
}

static void sum_panels(const void *job, int64_t first, int64_t last)
{
    const weight_job *const j = job;
    const int64_t each = j->kernels / PANEL;

    for (int64_t at = first; at < last; at++)
        sum_panel(j, at / each, at % each * PANEL);
}

/* The gradients of channel c for LANES kernels from the k-th on. */
FAST_INLINE void finish_lanes(const weight_job *j, int64_t c, int64_t k)
{
    const int64_t C = j->w->channels, all = WINDOW * WINDOW;
    const float *const sums = j->sums + (k / PANEL * C + c) * PANEL + k % PANEL;
    float *const d_weight = j->d_weight + ((j->first + k) * C + c) * all;
    lanes x[POINTS], y[POINTS];

    for (int i = 0; i < POINTS; i++)
        load(x + i, sums + i * C * j->kernels);
    BOTH_WAYS(put_window, x, y, INPUT, WINDOW);
    for (int lane = 0; lane < LANES; lane++)
        for (int i = 0; i < all; i++) {
            float *const d = d_weight + lane * C * all + i;

            *d = x[i / WINDOW * INPUT + i % WINDOW][lane] + (j->add ? *d : 0.0f);
        }
}

/* The gradients of channels [first, last). */
FAST_CLONES static void finish_channels(const void *job, int64_t first, int64_t last)
{
    const weight_job *const j = job;

    for (int64_t panel = 0; panel < j->kernels; panel += PANEL)
        for (int64_t c = first; c < last; c++)
            for (int64_t k = panel; k < panel + PANEL; k += LANES)
                finish_lanes(j, c, k);
}

/* All tiles for some kernels. Their numbers of the input are the same for all kernels: where one
 * block holds them, they are made once. */
static void run_kernels(weight_job *j, const dnn_operands *o, int threads)
{
    const int64_t tiles = tiles_of(j->w), C = j->w->channels;
    apart_job of_input = {.cut = input_of(j->w),
                          .image = o->src,
                          .to = j->input,
                          .pitch = j->block,
                          .channels = C,
                          .panel = LANES};
    apart_job of_gradient = {.cut = output_of(j->w),
                             .image = o->d_dst,
                             .to = j->gradient,
                             .pitch = j->block,
                             .first = j->first,
                             .channels = j->kernels,
                             .panel = PANEL};

    for (int64_t tile = 0; tile < tiles; tile += j->block) {
        j->n = THAW_MIN(j->block, tiles - tile);
        j->add = tile > 0;
        of_input.start = of_gradient.start = tile;
        if (j->first == 0 || tiles > j->block)
            fast_parallel(threads, j->n, 2, input_tiles, &of_input);
        fast_parallel(threads, j->n, 2, gradient_tiles, &of_gradient);
        fast_parallel(threads, POINTS * (j->kernels / PANEL), 2, sum_panels, j);
    }
    j->add = o->accumulate;
    fast_parallel(threads, C, 2, finish_channels, j);
}

static void run_weight(const winograd *w, const dnn_operands *o, int threads)
{
    const int64_t block = weight_block(w), most = weight_kernels(w);
    float *const input = o->scratch, *const gradient = input + POINTS * block * w->channels;
    weight_job j = {.w = w,
                    .input = input,
                    .gradient = gradient,
                    .sums = gradient + POINTS * block * most,
                    .d_weight = o->d_weight,
                    .block = block};

    for (; j.first < w->kernels; j.first += most) {
        j.kernels = THAW_MIN(most, w->kernels - j.first);
        run_kernels(&j, o, threads);
    }
}

/* ----------------------------------------------------------------------------------------------
 * the window */

typedef struct pack_job {
    const winograd *w;
    const float *weight;
    float *packed;
} pack_job;

/* Number i of the window between channel c and kernel k of the sum. */
FAST_INLINE float window_at(const pack_job *j, int64_t c, int64_t k, int i)
{
    const int64_t all = WINDOW * WINDOW;

    return j->w->role == DNN_FORWARD ? j->weight[(k * j->w->channels + c) * all + i]
                                     : j->weight[(c * j->w->kernels + k) * all + all - 1 - i];
}

/* Channel c for LANES kernels from the k-th on. */
FAST_INLINE void pack_lanes(const pack_job *j, int64_t c, int64_t k)
{
    const int64_t C = j->w->channels, K = j->w->kernels;
    float *const to = j->packed + (k / PANEL * C + c) * PANEL + k % PANEL;
    wide x[POINTS], y[POINTS];

    for (int i = 0; i < WINDOW * WINDOW; i++)
        for (int lane = 0; lane < LANES; lane++)
            x[i / WINDOW * INPUT + i % WINDOW][lane] = window_at(j, c, k + lane, i);
    BOTH_WAYS(take_window, x, y, WINDOW, INPUT);
    for (int i = 0; i < POINTS; i++) {
        const lanes rounded = __builtin_convertvector(x[i], lanes);

        store(to + i * C * K, &rounded);
    }
}

/* Channels [first, last) in all panels: [36][kernels / PANEL][channels][PANEL]. */
FAST_CLONES static void pack_channels(const void *job, int64_t first, int64_t last)
{
    const pack_job *const j = job;
    const int64_t K = j->w->kernels;

    for (int64_t panel = 0; panel < K; panel += PANEL)
        for (int64_t c = first; c < last; c++)
            for (int64_t k = panel; k < panel + PANEL; k += LANES)
                pack_lanes(j, c, k);
}

size_t winograd_packed_bytes(const winograd *w)
{
    return (size_t)POINTS * (size_t)w->channels * (size_t)w->kernels * sizeof(float);
}

bool winograd_same_packing(const winograd *a, const winograd *b)
{
    return a->channels == b->channels && a->kernels == b->kernels && a->role == b->role;
}

void winograd_pack(const winograd *w, float *packed, const float *weight, int threads)
{
    fast_parallel(threads, w->channels, 2, pack_channels,
                  &(pack_job){.w = w, .weight = weight, .packed = packed});
}

/* ----------------------------------------------------------------------------------------------
 * problems */

bool winograd_possible(const dnn_problem *p)
{
    if (p->linear || p->bf16 || p->groups != 1 || p->channels % WINOGRAD_CHANNELS != 0 ||
        p->kernels % WINOGRAD_CHANNELS != 0)
        return false;
    for (int i = 0; i < 2; i++)
        if (p->window[i] != WINDOW || p->stride[i] != 1 || p->dilation[i] != 1 ||
            p->pad[i] >= WINDOW)
            return false;
    return true;
}

double winograd_saving(const dnn_problem *p)
{
    const bool back = p->role == DNN_BACKWARD_DATA;
    const int64_t height = back ? p->height : p->out_height;
    const int64_t width = back ? p->width : p->out_width;

    return (double)(WINDOW * WINDOW * height * width) /
           (double)(POINTS * tiles_along(height) * tiles_along(width));
}

winograd winograd_of(const dnn_problem *p)
{
    const winograd forward = {.batch = p->batch,
                              .height = p->height,
                              .width = p->width,
                              .channels = p->channels,
                              .out_height = p->out_height,
                              .out_width = p->out_width,
                              .kernels = p->kernels,
                              .pad = {p->pad[0], p->pad[1]},
                              .role = p->role,
                              .adds = p->adds,
                              .activation = p->activation};
    winograd back = forward;

    if (p->role != DNN_BACKWARD_DATA)
        return forward;
    back.height = forward.out_height;
    back.width = forward.out_width;
    back.channels = forward.kernels;
    back.out_height = forward.height;
    back.out_width = forward.width;
    back.kernels = forward.channels;
    for (int i = 0; i < 2; i++)
        back.pad[i] = WINDOW - 1 - forward.pad[i];
    return back;
}

size_t winograd_scratch(const winograd *w, int threads)
{
    if (w->role != DNN_BACKWARD_WEIGHT)
        return (size_t)count_parts(w, threads) * part_floats(w) * sizeof(float);
    return POINTS * sizeof(float) *
           ((size_t)weight_block(w) * (size_t)(w->channels + weight_kernels(w)) +
            (size_t)w->channels * (size_t)weight_kernels(w));
}

void winograd_run(const winograd *w, const dnn_operands *o, int threads)
{
    const bool forward = w->role == DNN_FORWARD;
    const int64_t parts = count_parts(w, threads);
    const run_job job = {.w = w,
                         .src = forward ? o->src : o->d_dst,
                         .packed = o->weight,
                         .bias = forward ? o->bias : NULL,
                         .dst = forward ? o->dst : o->d_src,
                         .scratch = o->scratch,
                         .block = run_block(w),
                         .parts = parts,
                         .threads = parts > 1 ? 1 : threads};

    if (w->role == DNN_BACKWARD_WEIGHT)
        run_weight(w, o, threads);
    else
        fast_parallel((int)parts, parts, 2, run_parts, &job);
}
