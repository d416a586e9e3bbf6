/*
 * dnn - convolutions and matrix products on oneDNN, behind plain C: the only door to that library.
 *
 * Activations and their gradients are dense f32 or bf16 [B, H, W, C] or [rows, features]; weights
 * and weight gradients come and go in f32 and PyTorch's layout ([K, C/g, R, S], [O, I]). What the
 * library prefers inside is its own business: a packed weight is an opaque block of
 * dnn_packed_bytes.
 */
#ifndef THAW_EXEC_DNN_H
#define THAW_EXEC_DNN_H

#include "base/base.h"

typedef struct dnn_library dnn_library; /* engine and all kernels made so far */
typedef struct dnn_kernel dnn_kernel;   /* one problem, ready to run; owned by the library */

/* Where one part of a block ends and the next may begin: at a line of the cache. */
static inline size_t dnn_aligned(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

typedef enum dnn_role { DNN_FORWARD, DNN_BACKWARD_DATA, DNN_BACKWARD_WEIGHT } dnn_role;

/* What a kernel does last, in the same pass over memory. Not a number becomes zero. */
typedef enum dnn_activation { DNN_LINEAR, DNN_RELU, DNN_RELU6 } dnn_activation;

/*
 * How a problem is put to the library. A product is a linear layer whose weight gradient is made by
 * a product of matrices instead of the library's own kernel for it; without the bias's.
 */
typedef enum dnn_kind { DNN_CONVOLUTION, DNN_LAYER, DNN_PRODUCT } dnn_kind;

/*
 * A problem. Compared as bytes: start from zero. For a linear layer only role, linear, bias,
 * batch (rows), channels (I) and kernels (O) are used.
 */
typedef struct dnn_problem {
    dnn_role role;
    int32_t linear; /* dnn_kind */
    int32_t bias;   /* forward: add it; backward weight: make its gradient too */
    int32_t groups;
    int64_t batch, channels, kernels;
    int64_t height, width, out_height, out_width;
    int64_t window[2], stride[2], pad[2], dilation[2]; /* rows, columns; dilation 1: dense */
    int32_t adds;       /* the result is added to what dst holds; then the activation */
    int32_t activation; /* dnn_activation; forward */
    int32_t bf16;       /* src, dst, their gradients and the packed weight are bf16 */
    int32_t renewed;    /* the weight is another in each run, so that a packed one is kept nowhere;
                           which kernel there is does not depend on it */
    int32_t plain; /* linear, f32: the weight is read as it lies, which costs less than packing it
                      where it is new in each run and the rows are few */
} dnn_problem;

/*
 * Make the library ready. Kernels are made for the number of OpenMP threads then in force, and must
 * run with the same. Errors: THAW_E_OS when it does not start, THAW_E_NOMEM.
 */
thaw_status dnn_open(dnn_library **out) THAW_MUST_USE;
void dnn_close(dnn_library *library);

/*
 * The kernel of a problem, made at the first ask (under a millisecond) and kept until dnn_close.
 * NULL: the library has none.
 */
const dnn_kernel *dnn_find(dnn_library *library, const dnn_problem *problem);

/* Memory the kernel wants during a run, 64-byte aligned: its own and an unpacked copy's. */
size_t dnn_scratch_bytes(const dnn_kernel *k);

/* Bytes of the packed weight it reads; 0: it reads PyTorch's layout. */
size_t dnn_packed_bytes(const dnn_kernel *k);

/* Whether two kernels read one weight in the same layout. */
bool dnn_same_packing(const dnn_kernel *a, const dnn_kernel *b);

/* Bring a weight from PyTorch's layout into the kernel's. packed: dnn_packed_bytes, 64-byte
 * aligned. */
thaw_status dnn_pack(const dnn_kernel *k, void *packed, const float *weight) THAW_MUST_USE;

/*
 * Operands of a run; those a role does not use are NULL.
 *   forward          src, weight (packed), bias            -> dst
 *   backward data    d_dst, weight (packed)                -> d_src
 *   backward weight  src, d_dst                            -> d_weight, d_bias (PyTorch's layout)
 */
typedef struct dnn_operands {
    const void *src, *d_dst, *weight;
    const float *bias;
    void *dst, *d_src;
    float *d_weight, *d_bias;
    void *scratch;   /* dnn_scratch_bytes, 64-byte aligned */
    bool accumulate; /* add to d_weight and d_bias instead of replacing them */
} dnn_operands;

/* Run. Not thread-safe: the kernel holds the operands' addresses meanwhile. Errors: THAW_E_OS. */
thaw_status dnn_run(const dnn_kernel *k, const dnn_operands *operands) THAW_MUST_USE;

/* "oneDNN 2.6.3, avx512_core_vnni". */
void dnn_describe(char *buffer, size_t size);

/* Bytes that the library takes for itself beyond those of version 2.6: measured. */
size_t dnn_more_bytes(void);

#endif
