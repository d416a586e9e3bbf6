/*
 * fast_loss.c - the cross entropy of rows of scores, its gradient, and the greatest of a row.
 *
 * The one idea: a row is read from the nearest cache, and its exponentials are vectors of floats,
 * summed in double block by block. The losses of rows are added in their order, by one thread, so
 * how many threads made them does not show.
 */
#include "exec/fast.h"

#include "exec/fast_math.h"

#include <math.h>

#define BLOCK         256  /* floats summed in f32 before they go into a double */
#define LEAST_NUMBERS 4096 /* that are worth another thread */

#ifdef _OPENMP
#define SIMD_GREATEST _Pragma("omp simd reduction(max : most)")
#define SIMD_SUM      _Pragma("omp simd reduction(+ : sum)")
#else
#define SIMD_GREATEST
#define SIMD_SUM
#endif

typedef struct loss_job {
    const float *x;
    const int32_t *target;
    double *loss; /* [rows]: of each row, 0 where its target is ignored */
    float *d;
    int32_t *index; /* [rows]: of the greatest */
    int64_t K;
    int64_t ignore;
    double smoothing, seed;
} loss_job;

/* Not of what is no number. */
FAST_INLINE float greatest(const float *x, int64_t K)
{
    float most = -INFINITY;

    SIMD_GREATEST
    for (int64_t k = 0; k < K; k++)
        most = x[k] > most ? x[k] : most;
    return most;
}

/* Sum of exp(x - most). */
FAST_INLINE double sum_of_exp(const float *x, int64_t K, float most)
{
    double total = 0;

    for (int64_t first = 0; first < K; first += BLOCK) {
        const int64_t last = THAW_MIN(first + BLOCK, K);
        float sum = 0.0f;

        SIMD_SUM
        for (int64_t k = first; k < last; k++)
            sum += fast_exp(x[k] - most);
        total += (double)sum;
    }
    return total;
}

FAST_INLINE double sum_of_row(const float *x, int64_t K)
{
    double sum = 0;

    SIMD_SUM
    for (int64_t k = 0; k < K; k++)
        sum += (double)x[k];
    return sum;
}

/* As the reference kernel's: a class outside [0, K) has no loss. */
FAST_INLINE double loss_of_row(const loss_job *j, const float *x, int32_t target)
{
    const float most = greatest(x, j->K);
    const double whole = (double)most + log(sum_of_exp(x, j->K, most));
    double loss;

    if (target < 0 || target >= j->K)
        return NAN;
    loss = whole - (double)x[target];
    if (j->smoothing > 0)
        loss =
            (1 - j->smoothing) * loss + j->smoothing * (whole - sum_of_row(x, j->K) / (double)j->K);
    return loss;
}

FAST_CLONES static void losses_of_rows(const void *job, int64_t first, int64_t last)
{
    const loss_job *const j = job;

    for (int64_t r = first; r < last; r++)
        j->loss[r] = j->target[r] == j->ignore ? 0 : loss_of_row(j, j->x + r * j->K, j->target[r]);
}

/* d = seed (softmax - wanted), where wanted is the same for all classes but the target. */
FAST_INLINE void gradient_of_row(const loss_job *j, float *d, const float *x, int32_t target)
{
    const int64_t K = j->K;
    const float most = greatest(x, K);
    const double sum = sum_of_exp(x, K, most), seed = j->seed;
    const double others = j->smoothing / (double)K;
    const float scale = (float)(seed / sum), less = (float)(seed * others);

    FAST_SIMD
    for (int64_t k = 0; k < K; k++)
        d[k] = fast_exp(x[k] - most) * scale - less;
    d[target] =
        (float)(seed * (exp((double)x[target] - (double)most) / sum - others - (1 - j->smoothing)));
}

FAST_INLINE void fill_row(float *d, int64_t K, float value)
{
    for (int64_t k = 0; k < K; k++)
        d[k] = value;
}

FAST_CLONES static void gradients_of_rows(const void *job, int64_t first, int64_t last)
{
    const loss_job *const j = job;
    const int64_t K = j->K;

    for (int64_t r = first; r < last; r++) {
        const int32_t target = j->target[r];

        if (target == j->ignore)
            fill_row(j->d + r * K, K, 0.0f);
        else if (target < 0 || target >= K)
            fill_row(j->d + r * K, K, NAN);
        else
            gradient_of_row(j, j->d + r * K, j->x + r * K, target);
    }
}

/* The first of the greatest, or the first that is no number. */
FAST_INLINE int32_t place_of_greatest(const float *x, int64_t K)
{
    const float most = greatest(x, K);
    int64_t k = 0;
    int strange = 0;

    for (int64_t i = 0; i < K; i++)
        strange |= x[i] != x[i];
    while (k < K && (strange ? x[k] == x[k] : x[k] != most))
        k++;
    return (int32_t)k;
}

FAST_CLONES static void greatest_of_rows(const void *job, int64_t first, int64_t last)
{
    const loss_job *const j = job;

    for (int64_t r = first; r < last; r++)
        j->index[r] = place_of_greatest(j->x + r * j->K, j->K);
}

static int64_t last_dim(const exec_operand *o)
{
    return o->shape->dim[o->shape->rank - 1];
}

static void over_rows(const fast_call *call, int64_t rows, fast_work *work, const loss_job *job)
{
    fast_parallel(call->threads, rows, LEAST_NUMBERS / job->K + 1, work, job);
}

size_t fast_cross_entropy_scratch(const exec_call *c, int threads)
{
    (void)threads;
    return c->wrt == 0 ? c->in[1].elements * sizeof(double) : 0;
}

void fast_cross_entropy(const fast_call *call)
{
    const exec_call *const op = &call->op;
    const int64_t rows = (int64_t)op->in[1].elements;
    const loss_job job = {.x = op->in[0].data,
                          .target = op->in[1].data,
                          .loss = op->scratch,
                          .K = last_dim(&op->in[0]),
                          .ignore = op->attrs->loss.ignore,
                          .smoothing = op->attrs->loss.smoothing};
    double loss = 0;
    int64_t valid = 0;

    over_rows(call, rows, losses_of_rows, &job);
    for (int64_t r = 0; r < rows; r++) {
        loss += job.loss[r];
        valid += job.target[r] != job.ignore;
    }
    *(double *)op->out[0].data = loss;
    *(double *)op->out[1].data = (double)valid;
}

void fast_cross_entropy_backward(const fast_call *call)
{
    const exec_call *const op = &call->op;
    const double *const seed = op->d_out[0].data;
    const loss_job job = {.x = op->in[0].data,
                          .target = op->in[1].data,
                          .d = op->d_in[0].data,
                          .K = last_dim(&op->in[0]),
                          .ignore = op->attrs->loss.ignore,
                          .smoothing = op->attrs->loss.smoothing,
                          .seed = seed ? *seed : 1};

    over_rows(call, (int64_t)op->in[1].elements, gradients_of_rows, &job);
}

void fast_argmax(const fast_call *call)
{
    const exec_call *const op = &call->op;
    const loss_job job = {.x = op->in[0].data, .index = op->out[0].data, .K = last_dim(&op->in[0])};

    over_rows(call, (int64_t)op->out[0].elements, greatest_of_rows, &job);
}
