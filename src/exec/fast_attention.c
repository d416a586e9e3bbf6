/*
 * fast_attention.c - softmax(q k^T / sqrt(d)) v, head by head, and its gradients.
 *
 * The one idea: the operands of one head are brought together in the caches, queries in blocks, so
 * that scores never reach memory; backward makes them again. A head is the unit of work, whatever
 * the number of threads.
 *
 * T queries, S keys, d features of a head, D of all heads. Sizes in scratch are rounded up: Sp, dp;
 * what is beyond S or d there is zero.
 */
#include "exec/fast.h"

#include "exec/fast_math.h"

#include <math.h>
#include <string.h>

#define BLOCK 64 /* queries at a time */

#ifdef _OPENMP
#define SIMD_SUM _Pragma("omp simd reduction(+ : sum)")
#else
#define SIMD_SUM
#endif

typedef struct sizes {
    int64_t B, T, S, D, d, heads, Sp, dp;
} sizes;

/* One thread's scratch. */
typedef struct buffers {
    float *q, *o;                   /* [BLOCK, dp]: scaled queries; results or their gradients */
    float *keys, *values;           /* [Sp, dp] */
    float *keys_t, *values_t;       /* [dp, Sp] */
    float *weight, *d_weight;       /* [BLOCK, Sp] */
    float *d_q, *d_keys, *d_values; /* [BLOCK, dp] [Sp, dp] [Sp, dp] */
} buffers;

typedef struct attention_job {
    const exec_call *op;
    sizes n;
    int lanes; /* the heads are cut into so many parts, each with scratch of its own */
} attention_job;

static int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

static const shape *shape_either(const exec_operand *a, const exec_operand *b)
{
    return a->shape ? a->shape : b->shape;
}

static sizes sizes_of(const exec_call *c)
{
    const shape *const q = shape_either(&c->in[0], &c->d_in[0]);
    const shape *const k = shape_either(&c->in[1], &c->d_in[1]);
    sizes n = {.B = k->dim[0],
               .T = q->rank == 3 ? q->dim[1] : 1,
               .S = k->dim[1],
               .D = k->dim[2],
               .heads = c->attrs->attention.heads};

    n.d = n.D / n.heads;
    n.Sp = round_up(n.S, FAST_PRODUCT_COLUMNS);
    n.dp = round_up(n.d, FAST_PRODUCT_COLUMNS);
    return n;
}

/* Where everything lies from `base` on; returns the number of floats. */
static int64_t lay_out(buffers *b, float *base, sizes n, bool backward)
{
    const struct {
        float **at;
        int64_t floats;
    } part[] = {
        {&b->q, BLOCK * n.dp},       {&b->o, BLOCK * n.dp},        {&b->keys_t, n.dp * n.Sp},
        {&b->values, n.Sp * n.dp},   {&b->weight, BLOCK * n.Sp},   {&b->keys, n.Sp * n.dp},
        {&b->values_t, n.dp * n.Sp}, {&b->d_weight, BLOCK * n.Sp}, {&b->d_q, BLOCK * n.dp},
        {&b->d_keys, n.Sp * n.dp},   {&b->d_values, n.Sp * n.dp}};
    int64_t at = 0;

    for (size_t i = 0; i < (backward ? THAW_COUNT(part) : 5); i++) {
        *part[i].at = base ? base + at : NULL;
        at += part[i].floats;
    }
    return at;
}

size_t fast_attention_scratch(const exec_call *c, int threads)
{
    buffers b;

    return (size_t)lay_out(&b, NULL, sizes_of(c), c->wrt != 0) * (size_t)threads * sizeof(float);
}

/* ----------------------------------------------------------------------------------------------
 * into the caches and out */

/* rows rows of d features, those beyond n zero, to [rows, dp]. */
FAST_CLONES static void gather(float *restrict dst, const float *restrict src, int64_t n,
                               int64_t rows, const sizes *z, float scale)
{
    for (int64_t r = 0; r < rows; r++, dst += z->dp) {
        const float *const from = src + r * z->D;

        for (int64_t c = r < n ? z->d : 0; c < z->dp; c++)
            dst[c] = 0.0f;
        if (r < n)
            FAST_SIMD
        for (int64_t c = 0; c < z->d; c++)
            dst[c] = from[c] * scale;
    }
}

/* The S keys or values, turned: [dp, Sp]. */
FAST_CLONES static void gather_turned(float *restrict dst, const float *restrict src,
                                      const sizes *z)
{
    memset(dst + z->d * z->Sp, 0, (size_t)((z->dp - z->d) * z->Sp) * sizeof *dst);
    for (int64_t s0 = 0; s0 < z->Sp; s0 += FAST_PRODUCT_COLUMNS) {
        const int64_t end = THAW_MIN(s0 + FAST_PRODUCT_COLUMNS, z->S);

        for (int64_t c = 0; c < z->d; c++) {
            for (int64_t s = s0; s < end; s++)
                dst[c * z->Sp + s] = src[s * z->D + c];
            for (int64_t s = end; s < s0 + FAST_PRODUCT_COLUMNS; s++)
                dst[c * z->Sp + s] = 0.0f;
        }
    }
}

static void scatter(float *dst, const float *src, int64_t n, const sizes *z)
{
    for (int64_t r = 0; r < n; r++)
        memcpy(dst + r * z->D, src + r * z->dp, (size_t)z->d * sizeof *dst);
}

/* ----------------------------------------------------------------------------------------------
 * rows of scores */

/* Largest of Sp numbers; NaN is passed over. */
FAST_INLINE float largest(const float *row, int64_t Sp)
{
    float lane[FAST_PRODUCT_COLUMNS], most = -INFINITY;

    for (int l = 0; l < FAST_PRODUCT_COLUMNS; l++)
        lane[l] = -INFINITY;
    for (int64_t s = 0; s < Sp; s += FAST_PRODUCT_COLUMNS)
        FAST_SIMD
    for (int l = 0; l < FAST_PRODUCT_COLUMNS; l++)
        lane[l] = row[s + l] > lane[l] ? row[s + l] : lane[l];
    for (int l = 0; l < FAST_PRODUCT_COLUMNS; l++)
        most = lane[l] > most ? lane[l] : most;
    return most;
}

FAST_CLONES static void softmax(float *row, int64_t rows, int64_t S, int64_t Sp)
{
    for (int64_t r = 0; r < rows; r++, row += Sp) {
        float sum = 0.0f, scale, most;

        for (int64_t s = S; s < Sp; s++)
            row[s] = -INFINITY;
        most = largest(row, Sp);
        SIMD_SUM
        for (int64_t s = 0; s < Sp; s++) {
            const float e = fast_exp(row[s] - most);

            row[s] = e;
            sum += e;
        }
        scale = 1.0f / sum;
        FAST_SIMD
        for (int64_t s = 0; s < Sp; s++)
            row[s] *= scale;
    }
}

/* d = weight * (d - sum(weight * d)), row by row. */
FAST_CLONES static void softmax_backward(float *d, const float *weight, int64_t rows, int64_t Sp)
{
    for (int64_t r = 0; r < rows; r++, d += Sp, weight += Sp) {
        float sum = 0.0f;

        SIMD_SUM
        for (int64_t s = 0; s < Sp; s++)
            sum += weight[s] * d[s];
        FAST_SIMD
        for (int64_t s = 0; s < Sp; s++)
            d[s] = weight[s] * (d[s] - sum);
    }
}

/* ----------------------------------------------------------------------------------------------
 * products of one head */

/* dst [rows, n] = a [rows, terms] b [terms, n]. */
static void multiply(float *dst, const float *a, const float *b, int64_t rows, int64_t n,
                     int64_t terms)
{
    fast_multiply(&(fast_product){.dst = dst,
                                  .a = a,
                                  .b = b,
                                  .rows = rows,
                                  .columns = n,
                                  .terms = terms,
                                  .dst_row = n,
                                  .a_row = terms,
                                  .a_term = 1,
                                  .b_row = n});
}

/* dst [Sp, dp] += the transpose of weight [terms, Sp] times b [terms, dp]. */
static void add_turned(float *dst, const float *weight, const float *b, int64_t terms,
                       const sizes *z)
{
    fast_multiply(&(fast_product){.dst = dst,
                                  .a = weight,
                                  .b = b,
                                  .rows = z->Sp,
                                  .columns = z->dp,
                                  .terms = terms,
                                  .dst_row = z->dp,
                                  .a_row = 1,
                                  .a_term = z->Sp,
                                  .b_row = z->dp,
                                  .add = true});
}

/* Weights of n queries from `q` on; the rows beyond n up to `rows` hold anything finite. */
static void make_weights(const buffers *b, const float *q, int64_t n, int64_t rows, const sizes *z)
{
    gather(b->q, q, n, rows, z, (float)(1 / sqrt((double)z->d)));
    multiply(b->weight, b->q, b->keys_t, rows, z->Sp, z->dp);
    softmax(b->weight, rows, z->S, z->Sp);
}

/* query and keys: where the head begins in operands shaped like q and like k. */
static void forward_head(const attention_job *j, const buffers *b, int64_t query, int64_t keys)
{
    const sizes *const z = &j->n;
    const float *const q = (const float *)j->op->in[0].data + query;
    const float *const k = j->op->in[1].data, *const v = j->op->in[2].data;
    float *const dst = (float *)j->op->out[0].data + query;

    gather_turned(b->keys_t, k + keys, z);
    gather(b->values, v + keys, z->S, z->Sp, z, 1.0f);
    for (int64_t t = 0; t < z->T; t += BLOCK) {
        const int64_t n = THAW_MIN(z->T - t, BLOCK), rows = round_up(n, FAST_PRODUCT_ROWS);

        make_weights(b, q + t * z->D, n, rows, z);
        multiply(b->o, b->weight, b->values, rows, z->dp, z->Sp);
        scatter(dst + t * z->D, b->o, n, z);
    }
}

/* What n queries add to the gradients of keys and values, and their own. */
static void backward_block(const attention_job *j, const buffers *b, int64_t at, int64_t n)
{
    const exec_call *const op = j->op;
    const sizes *const z = &j->n;
    const int64_t rows = round_up(n, FAST_PRODUCT_ROWS);
    float *const d_q = op->d_in[0].data;

    make_weights(b, (const float *)op->in[0].data + at, n, rows, z);
    gather(b->o, (const float *)op->d_out[0].data + at, n, rows, z, 1.0f);
    if (op->d_in[2].data)
        add_turned(b->d_values, b->weight, b->o, n, z);
    if (!d_q && !op->d_in[1].data)
        return;
    multiply(b->d_weight, b->o, b->values_t, rows, z->Sp, z->dp);
    softmax_backward(b->d_weight, b->weight, rows, z->Sp);
    if (op->d_in[1].data)
        add_turned(b->d_keys, b->d_weight, b->q, n, z);
    if (!d_q)
        return;
    multiply(b->d_q, b->d_weight, b->keys, rows, z->dp, z->Sp);
    scatter(d_q + at, b->d_q, n, z);
}

/* d_q = scale * d_scores k: the scale goes to the keys. */
static void backward_head(const attention_job *j, const buffers *b, int64_t query, int64_t keys)
{
    const exec_call *const op = j->op;
    const sizes *const z = &j->n;
    const float *const k = (const float *)op->in[1].data + keys;
    float *const d_k = op->d_in[1].data, *const d_v = op->d_in[2].data;

    gather_turned(b->keys_t, k, z);
    gather(b->keys, k, z->S, z->Sp, z, (float)(1 / sqrt((double)z->d)));
    if (op->in[2].data)
        gather_turned(b->values_t, (const float *)op->in[2].data + keys, z);
    memset(b->d_keys, 0, (size_t)(2 * z->Sp * z->dp) * sizeof(float));
    for (int64_t t = 0; t < z->T; t += BLOCK)
        backward_block(j, b, query + t * z->D, THAW_MIN(z->T - t, BLOCK));
    if (d_k)
        scatter(d_k + keys, b->d_keys, z->S, z);
    if (d_v)
        scatter(d_v + keys, b->d_values, z->S, z);
}

/* ----------------------------------------------------------------------------------------------
 * all heads */

static void run_lanes(const void *job, int64_t first, int64_t last)
{
    const attention_job *const j = job;
    const sizes *const z = &j->n;
    const int64_t units = z->B * z->heads;
    const bool backward = j->op->wrt != 0;
    buffers b = {0};
    const int64_t floats = lay_out(&b, NULL, *z, backward);

    for (int64_t lane = first; lane < last; lane++) {
        (void)lay_out(&b, (float *)j->op->scratch + lane * floats, *z, backward);
        for (int64_t u = units * lane / j->lanes; u < units * (lane + 1) / j->lanes; u++) {
            const int64_t image = u / z->heads, head = u % z->heads * z->d;

            (backward ? backward_head : forward_head)(j, &b, image * z->T * z->D + head,
                                                      image * z->S * z->D + head);
        }
    }
}

void fast_attention(const fast_call *c)
{
    const attention_job job = {.op = &c->op, .n = sizes_of(&c->op), .lanes = c->threads};

    fast_parallel(c->threads, c->threads, 2, run_lanes, &job);
}

void fast_attention_backward(const fast_call *c)
{
    fast_attention(c);
}
