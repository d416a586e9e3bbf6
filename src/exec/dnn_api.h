/*
 * dnn_api - what differs between the library's versions 2 and 3, so that dnn.c reads the same for
 * both: memory descriptions are values in 2 and objects in 3; a kernel is described in two calls in
 * 2 and in one in 3. The only file that includes the library's header.
 *
 * Knows nothing of kernels at work: only of how they are asked for.
 */
#ifndef THAW_EXEC_DNN_API_H
#define THAW_EXEC_DNN_API_H

#include "exec/dnn.h"

#include <oneapi/dnnl/dnnl.h>

/* A description of an operand as calls take it, and what keeps one alive; start from zero. */
#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t dnn_layout;
typedef dnnl_memory_desc_t dnn_layout_holder;
#else
typedef const dnnl_memory_desc_t *dnn_layout;
typedef dnnl_memory_desc_t dnn_layout_holder;
#endif

/* Good as long as the holder is. */
dnn_layout dnn_held(const dnn_layout_holder *holder);
dnnl_status_t dnn_hold(dnn_layout_holder *out, int rank, const int64_t *dim, dnnl_data_type_t type,
                       dnnl_format_tag_t tag);
void dnn_drop(dnn_layout_holder *holder);

/* The layouts of a problem's operands; weight is open for the kernel to choose. */
typedef struct dnn_layouts {
    dnn_layout_holder src, weight, bias, dst;
    dnn_layout_holder plain; /* the weight in PyTorch's layout */
    bool has_bias;
} dnn_layouts;

/*
 * Choose a kernel for a problem: *out is the caller's to destroy. attr may be NULL. hint: the
 * forward kernel's description, for the backward kernels that are made after one; else NULL.
 */
typedef dnnl_status_t dnn_describe_fn(dnnl_primitive_desc_t *out, const dnn_problem *p,
                                      const dnn_layouts *l, dnnl_primitive_attr_t attr,
                                      dnnl_engine_t engine, dnnl_primitive_desc_t hint);

dnn_describe_fn dnn_describe_convolution;

/* A linear layer's weight gradient: inner product, as it sums the bias's in the same call. */
dnn_describe_fn dnn_describe_inner_product;

/*
 * A linear layer forward, or its data gradient: a product of matrices, which gives a row the same
 * bits in any batch and for any thread count (AVX-512), where inner product does not.
 */
dnn_describe_fn dnn_describe_matmul;

/* A weight gradient as a product of matrices: dst x src -> weight. */
dnn_describe_fn dnn_describe_product;

dnnl_status_t dnn_append_sum(dnnl_post_ops_t ops);
dnnl_status_t dnn_append_eltwise(dnnl_post_ops_t ops, dnnl_alg_kind_t kind, float alpha,
                                 float beta);

#endif
