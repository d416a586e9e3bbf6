/*
 * fast_dense.c - linear layers with small weights, summed in double.
 *
 * The one idea: lanes run along the sum, so the plain weight is read as it lies in memory, and each
 * product of two floats is exact in double. The result is the exactly rounded one but for a few in
 * a million, where a chain of float additions loses two or three bits; and which of two kernels
 * runs depends on the weight's shape alone, so a sample's bits do not depend on its batch.
 *
 * Knows nothing of plans; larger products are oneDNN's.
 */
#include "exec/fast.h"

#include <string.h>

#define LANES   8
#define OUTPUTS 4 /* summed at once: so many chains keep the adders busy */

/* The largest product of a sample that is done here: 784 × 128 and a head of 2048 × 64 are. */
#define SMALL_PRODUCTS (1 << 17)

typedef double lanes __attribute__((vector_size(LANES * sizeof(double))));
typedef float floats __attribute__((vector_size(LANES * sizeof(float))));

/* By address: how a vector is returned depends on the instruction set. */
FAST_INLINE void widen(lanes *out, const float *p)
{
    floats f;

    memcpy(&f, p, sizeof f);
    *out = __builtin_convertvector(f, lanes);
}

FAST_INLINE double sum_of(const lanes *p)
{
    const lanes a = *p;

    return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
}

/* dst[j] = bias[j] + x · w[j] for n outputs at most OUTPUTS, of `channels` each. */
FAST_INLINE void dot_block(float *dst, const float *x, const float *w, const float *bias,
                           int64_t channels, int n)
{
    const int64_t whole = channels - channels % LANES;
    lanes sum[OUTPUTS] = {{0}};

    for (int64_t k = 0; k < whole; k += LANES) {
        lanes a, b;

        widen(&a, x + k);
        for (int j = 0; j < n; j++) {
            widen(&b, w + j * channels + k);
            sum[j] += a * b;
        }
    }
    for (int j = 0; j < n; j++) {
        double total = sum_of(&sum[j]) + (bias ? (double)bias[j] : 0.0);

        for (int64_t k = whole; k < channels; k++)
            total += (double)x[k] * (double)w[j * channels + k];
        dst[j] = (float)total;
    }
}

FAST_CLONES
static void rows_by_weight(float *dst, const float *src, const float *weight, const float *bias,
                           int64_t rows, int64_t channels, int64_t outputs)
{
    for (int64_t r = 0; r < rows; r++) {
        const float *const x = src + r * channels;
        int64_t j = 0;

        for (; j + OUTPUTS <= outputs; j += OUTPUTS)
            dot_block(dst + r * outputs + j, x, weight + j * channels, bias ? bias + j : NULL,
                      channels, OUTPUTS);
        for (; j < outputs; j++)
            dot_block(dst + r * outputs + j, x, weight + j * channels, bias ? bias + j : NULL,
                      channels, 1);
    }
}

/* d_src[r] = sum over outputs j of d_dst[r, j] · w[j], for LANES channels from k on. */
FAST_INLINE void source_block(float *dst, const float *d, const float *w, int64_t channels,
                              int64_t outputs)
{
    lanes sum = {0}, b;
    floats f;

    for (int64_t j = 0; j < outputs; j++) {
        widen(&b, w + j * channels);
        sum += (double)d[j] * b;
    }
    f = __builtin_convertvector(sum, floats);
    memcpy(dst, &f, sizeof f);
}

FAST_CLONES
static void source_rows(float *d_src, const float *d_dst, const float *weight, int64_t rows,
                        int64_t channels, int64_t outputs)
{
    const int64_t whole = channels - channels % LANES;

    for (int64_t r = 0; r < rows; r++) {
        const float *const d = d_dst + r * outputs;

        for (int64_t k = 0; k < whole; k += LANES)
            source_block(d_src + r * channels + k, d, weight + k, channels, outputs);
        for (int64_t k = whole; k < channels; k++) {
            double total = 0.0;

            for (int64_t j = 0; j < outputs; j++)
                total += (double)d[j] * (double)weight[j * channels + k];
            d_src[r * channels + k] = (float)total;
        }
    }
}

/* d_weight[j] (+)= sum over rows of d_dst[r, j] · src[r], LANES channels and OUTPUTS outputs. */
FAST_INLINE void weight_block(float *dst, const float *d, const float *x, int64_t rows,
                              int64_t channels, int64_t outputs, int n, bool add)
{
    lanes sum[OUTPUTS] = {{0}}, a;

    for (int64_t r = 0; r < rows; r++) {
        widen(&a, x + r * channels);
        for (int j = 0; j < n; j++)
            sum[j] += (double)d[r * outputs + j] * a;
    }
    for (int j = 0; j < n; j++) {
        floats f = __builtin_convertvector(sum[j], floats), old;

        if (add) {
            memcpy(&old, dst + j * channels, sizeof old);
            f += old;
        }
        memcpy(dst + j * channels, &f, sizeof f);
    }
}

FAST_CLONES
static void weight_rows(float *d_weight, const float *d_dst, const float *src, int64_t rows,
                        int64_t channels, int64_t outputs, int64_t first, int64_t last, bool add)
{
    const int64_t whole = channels - channels % LANES;

    for (int64_t j = first; j < last; j += OUTPUTS) {
        const int n = (int)THAW_MIN(last - j, (int64_t)OUTPUTS);

        for (int64_t k = 0; k < whole; k += LANES)
            weight_block(d_weight + j * channels + k, d_dst + j, src + k, rows, channels, outputs,
                         n, add);
        for (int64_t i = j * channels; i < (j + n) * channels; i += channels)
            for (int64_t k = whole; k < channels; k++) {
                double total = 0.0;

                for (int64_t r = 0; r < rows; r++)
                    total +=
                        (double)d_dst[r * outputs + i / channels] * (double)src[r * channels + k];
                d_weight[i + k] = (float)total + (add ? d_weight[i + k] : 0.0F);
            }
    }
}

/* Roles as in exec_call; data that a call does not have is NULL. */
typedef struct product {
    float *dst, *d_src, *d_weight, *d_bias;
    const float *src, *weight, *bias, *d_dst;
    int64_t rows, channels, outputs;
    bool add_weight, add_bias;
} product;

static void forward_rows(const void *job, int64_t first, int64_t last)
{
    const product *const p = job;

    rows_by_weight(p->dst + first * p->outputs, p->src + first * p->channels, p->weight, p->bias,
                   last - first, p->channels, p->outputs);
}

static void backward_source(const void *job, int64_t first, int64_t last)
{
    const product *const p = job;

    source_rows(p->d_src + first * p->channels, p->d_dst + first * p->outputs, p->weight,
                last - first, p->channels, p->outputs);
}

static void backward_weight(const void *job, int64_t first, int64_t last)
{
    const product *const p = job;

    weight_rows(p->d_weight, p->d_dst, p->src, p->rows, p->channels, p->outputs, first, last,
                p->add_weight);
}

static void backward_bias(const product *p)
{
    for (int64_t j = 0; j < p->outputs; j++) {
        double total = 0.0;

        for (int64_t r = 0; r < p->rows; r++)
            total += (double)p->d_dst[r * p->outputs + j];
        p->d_bias[j] = (float)total + (p->add_bias ? p->d_bias[j] : 0.0F);
    }
}

static product product_of(const fast_call *c)
{
    const exec_call *const op = &c->op;
    const shape *const w = op->in[1].shape ? op->in[1].shape : op->d_in[1].shape;
    const exec_operand *const dst = op->out[0].shape ? &op->out[0] : &op->d_out[0];
    const int64_t outputs = w->dim[0];

    return (product){.dst = op->out[0].data,
                     .d_src = op->d_in[0].data,
                     .d_weight = op->d_in[1].data,
                     .d_bias = op->d_in[2].data,
                     .src = op->in[0].data,
                     .weight = op->in[1].data,
                     .bias = op->in[2].data,
                     .d_dst = op->d_out[0].data,
                     .rows = (int64_t)dst->elements / outputs,
                     .channels = w->dim[1],
                     .outputs = outputs,
                     .add_weight = c->add[1],
                     .add_bias = c->add[2]};
}

/* So many rounds that each thread has a million products. */
static int64_t least_rounds(int64_t products_each)
{
    return 1 + (1 << 20) / THAW_MAX(products_each, 1);
}

void fast_small_linear(const fast_call *c)
{
    const product p = product_of(c);

    fast_parallel(c->threads, p.rows, least_rounds(p.channels * p.outputs), forward_rows, &p);
}

void fast_small_linear_backward(const fast_call *c)
{
    const product p = product_of(c);

    if (p.d_src)
        fast_parallel(c->threads, p.rows, least_rounds(p.channels * p.outputs), backward_source,
                      &p);
    if (p.d_weight)
        fast_parallel(c->threads, p.outputs, least_rounds(p.channels * p.rows), backward_weight,
                      &p);
    if (p.d_bias)
        backward_bias(&p);
}

bool fast_is_small_linear(const plan *p, const plan_step *step)
{
    const int first = step->wrt == 0 ? 0 : op_table[OP_LINEAR].n_outputs;
    const int weight =
        step->in[first + 1] >= 0 || step->wrt == 0 ? step->in[first + 1] : step->out[1];
    const int dst = step->wrt == 0 ? step->out[0] : step->in[0];
    const shape *w, *d;
    int64_t most;

    if (step->op != OP_LINEAR || weight < 0 || dst < 0)
        return false;
    w = &p->slot[weight].shape;
    d = &p->slot[dst].shape;
    most = SMALL_PRODUCTS;
    for (int i = 0; i < w->rank; i++)
        most /= THAW_MAX(w->dim[i], 1);
    for (int i = 1; i + 1 < d->rank; i++)
        most /= THAW_MAX(d->dim[i], 1);
    return most > 0;
}
