/*
 * fast.c - the table of vectorised loops, and the one place where threads are used.
 */
#include "exec/fast.h"

#ifdef _OPENMP
#include <omp.h>
#endif

const fast_kernel fast_kernels[OP_COUNT] = {
    [OP_BATCH_NORM_TRAIN] = {fast_batch_norm_train, fast_batch_norm_train_backward,
                             fast_norm_scratch, true, true},
    [OP_BATCH_NORM_INFER] = {fast_batch_norm_infer, fast_batch_norm_infer_backward,
                             fast_norm_scratch, true, true},
    [OP_BATCH_NORM_AGAIN] = {fast_batch_norm_again, NULL, fast_norm_scratch, false, true},
    [OP_RELU] = {fast_relu, fast_relu_backward, NULL, false, true},
    [OP_RELU6] = {fast_relu6, fast_relu6_backward, NULL, false, true},
    [OP_ADD] = {fast_add, NULL, NULL, false, true},
    [OP_MAX_POOL2D] = {fast_max_pool, fast_max_pool_backward, fast_pool_scratch, false, true},
    [OP_AVG_POOL2D] = {fast_avg_pool, fast_avg_pool_backward, fast_pool_scratch, false, true},
    [OP_LINEAR] = {fast_small_linear, fast_small_linear_backward, NULL, true, false},
    [OP_GLOBAL_AVG_POOL] = {fast_global_pool, fast_global_pool_backward, fast_pool_scratch, false,
                            true},
    [OP_LAYER_NORM] = {fast_layer_norm, fast_layer_norm_backward, fast_row_norm_scratch, true,
                       false},
    [OP_RMS_NORM] = {fast_rms_norm, fast_rms_norm_backward, fast_row_norm_scratch, true, false},
    [OP_GELU] = {fast_gelu, fast_gelu_backward, NULL, false, false},
    [OP_ATTENTION] = {fast_attention, fast_attention_backward, fast_attention_scratch, false,
                      false},
    [OP_TOKENS] = {fast_tokens, fast_tokens_backward, NULL, true, false},
    [OP_TOKEN] = {fast_token, fast_token_backward, NULL, false, false},
    [OP_CAST] = {fast_cast, fast_cast_backward, NULL, false, true},
    [OP_CROSS_ENTROPY] = {fast_cross_entropy, fast_cross_entropy_backward,
                          fast_cross_entropy_scratch, false, false},
    [OP_ARGMAX] = {fast_argmax, NULL, NULL, false, false},
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
