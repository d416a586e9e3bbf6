/*
 * resample.c - a picture in another size, with antialiasing.
 *
 * Each output pixel is a weighted mean of the input under a triangle or a cubic (a = -1/2) as wide
 * as the reduction. First along rows, then along columns, each rounded to a byte, in fixed point
 * with 22 bits: what Pillow computes, so the results have its bits. The loops run over many pixels
 * with the same weight, which is what processors do fast: rows are taken eight at a time, side by
 * side.
 */
#include "data/picture.h"

#include "base/clones.h"

#include <math.h>
#include <string.h>

#define BITS  22 /* of a weight, beside the 8 of a pixel and 2 for overshoot */
#define HALF  (1 << (BITS - 1))
#define ROWS  8  /* taken together */
#define CHUNK 64 /* numbers of a row that columns are summed for at a time */

/* ----------------------------------------------------------------------------------------------
 * weights */

static double triangle(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static double cubic(double x)
{
    const double a = -0.5;

    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

static const struct {
    double (*at)(double x);
    double support;
} filters[] = {[RESAMPLE_BILINEAR] = {triangle, 1}, [RESAMPLE_BICUBIC] = {cubic, 2}};

/* Weights along one axis: output i is the sum over k < n[i] of weight[i * most + k] *
 * input[first[i]
 * + k]. */
typedef struct axis {
    int64_t outputs;
    int most;
    int32_t *first, *n, *weight;
    double *exact; /* of one output */
} axis;

static void axis_done(axis *a)
{
    thaw__free(a->exact);
    thaw__free(a->weight);
    thaw__free(a->n);
    thaw__free(a->first);
}

static void weigh(axis *a, int64_t i, double centre, double scale, int64_t n_in,
                  resample_filter filter)
{
    const double support = filters[filter].support * scale;
    int64_t first = (int64_t)(centre - support + 0.5), end = (int64_t)(centre + support + 0.5);
    double sum = 0;

    first = THAW_MAX(first, 0);
    end = THAW_MIN(end, n_in);
    a->first[i] = (int32_t)first;
    a->n[i] = (int32_t)(end - first);
    for (int k = 0; k < a->n[i]; k++) {
        a->exact[k] = filters[filter].at(((double)(k + first) - centre + 0.5) * (1 / scale));
        sum += a->exact[k];
    }
    for (int k = 0; k < a->n[i]; k++) {
        const double w = (sum != 0 ? a->exact[k] / sum : a->exact[k]) * (1 << BITS);

        a->weight[i * a->most + k] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
    }
}

/* Of outputs [from, from + outputs) where n_in inputs become n_out. */
static thaw_status axis_init(axis *a, int64_t n_in, int64_t n_out, int64_t from, int64_t outputs,
                             resample_filter filter, const char *name)
{
    const double ratio = (double)n_in / (double)n_out, scale = ratio > 1 ? ratio : 1;
    const size_t n = (size_t)outputs;
    size_t weights;

    *a = (axis){.outputs = outputs,
                .most = (int)ceil(filters[filter].support * scale) * 2 + 1,
                .first = thaw__new(n, sizeof *a->first),
                .n = thaw__new(n, sizeof *a->n)};
    if (size_mul(&weights, n, (size_t)a->most))
        a->weight = thaw__new(weights, sizeof *a->weight);
    a->exact = thaw__new((size_t)a->most, sizeof *a->exact);
    if (!a->first || !a->n || !a->weight || !a->exact)
        return thaw_fail(THAW_E_NOMEM, "out of memory for resizing '%s'", name);
    for (int64_t i = 0; i < outputs; i++)
        weigh(a, i, ((double)(from + i) + 0.5) * ratio, scale, n_in, filter);
    return THAW_OK;
}

/* Inputs that any output needs: rising, since both ends of a window rise. */
static int64_t axis_begin(const axis *a)
{
    return a->first[0];
}

static int64_t axis_end(const axis *a)
{
    return a->first[a->outputs - 1] + a->n[a->outputs - 1];
}

DATA_INLINE uint8_t round_off(int32_t sum)
{
    const int32_t x = sum >> BITS;

    return (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x);
}

/* ----------------------------------------------------------------------------------------------
 * along rows */

/* Eight rows side by side: lane[x][row][channel]. Rows beyond n repeat the last. */
DATA_INLINE void interleave(uint8_t *lane, const uint8_t *src, int64_t stride, int n, int64_t width,
                            int channels)
{
    for (int r = 0; r < ROWS; r++) {
        const uint8_t *from = src + THAW_MIN(r, n - 1) * stride;
        uint8_t *to = lane + r * channels;

        for (int64_t x = 0; x < width; x++, from += channels, to += ROWS * channels)
            for (int c = 0; c < channels; c++)
                to[c] = from[c];
    }
}

DATA_INLINE void sum_lanes(uint8_t *dst, int64_t stride, int n, const uint8_t *lane, const axis *a,
                           int channels)
{
    const int64_t begin = axis_begin(a);

    for (int64_t x = 0; x < a->outputs; x++) {
        const uint8_t *from = lane + (a->first[x] - begin) * ROWS * channels;
        const int32_t *weight = a->weight + x * a->most;
        int32_t sum[ROWS * 3];

        for (int i = 0; i < ROWS * channels; i++)
            sum[i] = HALF;
        for (int k = 0; k < a->n[x]; k++, from += ROWS * channels)
            for (int i = 0; i < ROWS * channels; i++)
                sum[i] += weight[k] * from[i];
        for (int r = 0; r < n; r++)
            for (int c = 0; c < channels; c++)
                dst[r * stride + x * channels + c] = round_off(sum[r * channels + c]);
    }
}

THAW_CLONES static void rows_of_3(uint8_t *dst, int64_t dst_stride, const uint8_t *src,
                                  int64_t stride, int n, const axis *a, uint8_t *lane)
{
    const int64_t width = axis_end(a) - axis_begin(a);

    interleave(lane, src + axis_begin(a) * 3, stride, n, width, 3);
    sum_lanes(dst, dst_stride, n, lane, a, 3);
}

THAW_CLONES static void rows_of_1(uint8_t *dst, int64_t dst_stride, const uint8_t *src,
                                  int64_t stride, int n, const axis *a, uint8_t *lane)
{
    const int64_t width = axis_end(a) - axis_begin(a);

    interleave(lane, src + axis_begin(a), stride, n, width, 1);
    sum_lanes(dst, dst_stride, n, lane, a, 1);
}

/* n_rows rows of src, from `first` on (y and x within the box), into dst [n_rows, outputs, C]. */
static void along_rows(uint8_t *dst, const picture *src, const picture_box *from, int64_t first,
                       int64_t n_rows, const axis *a, uint8_t *lane)
{
    const int64_t stride = src->width * src->channels, dst_stride = a->outputs * src->channels;

    for (int64_t y = 0; y < n_rows; y += ROWS) {
        const int n = (int)THAW_MIN(ROWS, n_rows - y);
        const uint8_t *row = src->pixels + (from->y + first + y) * stride + from->x * src->channels;

        if (src->channels == 3)
            rows_of_3(dst + y * dst_stride, dst_stride, row, stride, n, a, lane);
        else
            rows_of_1(dst + y * dst_stride, dst_stride, row, stride, n, a, lane);
    }
}

/* ----------------------------------------------------------------------------------------------
 * along columns */

DATA_INLINE void sum_chunk(uint8_t *dst, const uint8_t *src, int64_t stride, const int32_t *weight,
                           int n, int width)
{
    int32_t sum[CHUNK];

    for (int i = 0; i < width; i++)
        sum[i] = HALF;
    for (int k = 0; k < n; k++, src += stride)
        for (int i = 0; i < width; i++)
            sum[i] += weight[k] * src[i];
    for (int i = 0; i < width; i++)
        dst[i] = round_off(sum[i]);
}

/* src [rows from axis_begin on, row] to dst [outputs, row]. */
THAW_CLONES static void along_columns(uint8_t *dst, const uint8_t *src, int64_t row, const axis *a)
{
    for (int64_t y = 0; y < a->outputs; y++, dst += row) {
        const uint8_t *from = src + (a->first[y] - axis_begin(a)) * row;
        const int32_t *weight = a->weight + y * a->most;
        int64_t i = 0;

        for (; i + CHUNK <= row; i += CHUNK)
            sum_chunk(dst + i, from + i, row, weight, a->n[y], CHUNK);
        sum_chunk(dst + i, from + i, row, weight, a->n[y], (int)(row - i));
    }
}

/* ---------------------------------------------------------------------------------------------- */

thaw_status picture_resize(picture *dst, const picture *src, const picture_box *from, int64_t width,
                           int64_t height, const picture_box *window, resample_filter filter,
                           const char *name)
{
    const int64_t row = window->width * src->channels;
    axis across = {0}, down = {0};
    uint8_t *lane = NULL, *middle = NULL;
    thaw_status status;

    THAW_TRY(axis_init(&across, from->width, width, window->x, window->width, filter, name));
    THAW_TRY(axis_init(&down, from->height, height, window->y, window->height, filter, name));
    const int64_t n_rows = axis_end(&down) - axis_begin(&down);
    lane = thaw__alloc((size_t)(axis_end(&across) - axis_begin(&across)) * ROWS *
                       (size_t)src->channels);
    middle = thaw__new((size_t)n_rows, (size_t)row);
    if (!lane || !middle) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for resizing '%s'", name);
        goto done;
    }
    THAW_TRY(picture_shape(dst, window->width, window->height, src->channels, name));
    along_rows(middle, src, from, axis_begin(&down), n_rows, &across, lane);
    along_columns(dst->pixels, middle, row, &down);
done:
    thaw__free(middle);
    thaw__free(lane);
    axis_done(&down);
    axis_done(&across);
    return status;
}
