/*
 * fast.c - the table of vectorised loops, and the one place where threads are used.
 */
#include "exec/fast.h"

#ifdef _OPENMP
#include <omp.h>
#endif

const fast_kernel fast_kernels[OP_COUNT] = {
    [OP_BATCH_NORM_TRAIN] = {fast_batch_norm_train, fast_batch_norm_train_backward,
                             fast_norm_scratch},
    [OP_BATCH_NORM_INFER] = {fast_batch_norm_infer, fast_batch_norm_infer_backward,
                             fast_norm_scratch},
    [OP_RELU] = {fast_relu, fast_relu_backward, NULL},
    [OP_RELU6] = {fast_relu6, fast_relu6_backward, NULL},
    [OP_ADD] = {fast_add, NULL, NULL},
    [OP_MAX_POOL2D] = {fast_max_pool, fast_max_pool_backward, NULL},
    [OP_AVG_POOL2D] = {fast_avg_pool, fast_avg_pool_backward, NULL},
    [OP_LINEAR] = {fast_small_linear, fast_small_linear_backward, NULL},
    [OP_GLOBAL_AVG_POOL] = {fast_global_pool, fast_global_pool_backward, NULL},
};

void fast_set_threads(int threads)
{
#ifdef _OPENMP
    omp_set_num_threads(threads);
#else
    (void)threads;
#endif
}

void fast_parallel(int threads, int64_t n, int64_t least, fast_work *work, const void *job)
{
    if (threads <= 1 || n < least || n < 2) {
        work(job, 0, n);
        return;
    }
#ifdef _OPENMP
#pragma omp parallel for schedule(static) num_threads(threads)
#endif
    for (int t = 0; t < threads; t++)
        work(job, n * t / threads, n * (t + 1) / threads);
}
