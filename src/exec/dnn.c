/*
 * dnn.c - oneDNN, in the only file that includes it: problems become kernels, kernels run.
 *
 * The one idea: a kernel is made once per problem, weights excepted with the memory layouts of the
 * plan, and knows how to bring a weight into the layout it likes and a weight gradient out of it.
 * What differs between the library's versions 2 and 3 is in the first section alone.
 *
 * Knows nothing of plans, parameters or sessions.
 */
#include "exec/dnn.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <string.h>

/* ----------------------------------------------------------------------------------------------
 * versions of the library */

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t layout;
typedef dnnl_memory_desc_t layout_holder;
#else
typedef const dnnl_memory_desc_t *layout;
typedef dnnl_memory_desc_t layout_holder;
#endif

static layout held(const layout_holder *holder)
{
#if DNNL_VERSION_MAJOR >= 3
    return *holder;
#else
    return holder;
#endif
}

static dnnl_status_t hold_layout(layout_holder *out, int rank, const int64_t *dim,
                                 dnnl_format_tag_t tag)
{
    dnnl_dims_t dims = {0};

    memcpy(dims, dim, (size_t)rank * sizeof *dim);
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_tag(out, rank, dims, dnnl_f32, tag);
#else
    return dnnl_memory_desc_init_by_tag(out, rank, dims, dnnl_f32, tag);
#endif
}

static void drop_layout(layout_holder *holder)
{
#if DNNL_VERSION_MAJOR >= 3
    if (*holder)
        dnnl_memory_desc_destroy(*holder);
    *holder = NULL;
#else
    memset(holder, 0, sizeof *holder);
#endif
}

/* The layouts of a problem's operands; weight is open for the kernel to choose. */
typedef struct layouts {
    layout_holder src, weight, bias, dst;
    layout_holder plain; /* the weight in PyTorch's layout */
    bool has_bias;
} layouts;

static dnnl_status_t describe_convolution(dnnl_primitive_desc_t *out, const dnn_problem *p,
                                          const layouts *l, dnnl_primitive_attr_t attr,
                                          dnnl_engine_t engine, dnnl_primitive_desc_t hint)
{
    const layout src = held(&l->src), weight = held(&l->weight), dst = held(&l->dst);
    const layout bias = l->has_bias ? held(&l->bias) : NULL;
    dnnl_dims_t stride = {p->stride[0], p->stride[1]}, pad = {p->pad[0], p->pad[1]};
    dnnl_dims_t dilation = {p->dilation[0] - 1, p->dilation[1] - 1};
    dnnl_dims_t pad_end;

    /* What the window does not reach is left out at the end, so that pad_end may be negative. */
    for (int i = 0; i < 2; i++) {
        const int64_t in = i == 0 ? p->height : p->width;
        const int64_t n_out = i == 0 ? p->out_height : p->out_width;

        pad_end[i] =
            (n_out - 1) * p->stride[i] + (p->window[i] - 1) * p->dilation[i] + 1 - in - p->pad[i];
    }
#if DNNL_VERSION_MAJOR >= 3
    if (p->role == DNN_BACKWARD_DATA)
        return dnnl_convolution_backward_data_primitive_desc_create(
            out, engine, dnnl_convolution_direct, src, weight, dst, stride, dilation, pad, pad_end,
            hint, attr);
    if (p->role == DNN_BACKWARD_WEIGHT)
        return dnnl_convolution_backward_weights_primitive_desc_create(
            out, engine, dnnl_convolution_direct, src, weight, bias, dst, stride, dilation, pad,
            pad_end, hint, attr);
    return dnnl_convolution_forward_primitive_desc_create(
        out, engine, dnnl_forward_training, dnnl_convolution_direct, src, weight, bias, dst, stride,
        dilation, pad, pad_end, attr);
#else
    dnnl_convolution_desc_t desc;
    dnnl_status_t status;

    if (p->role == DNN_BACKWARD_DATA)
        status = dnnl_dilated_convolution_backward_data_desc_init(
            &desc, dnnl_convolution_direct, src, weight, dst, stride, dilation, pad, pad_end);
    else if (p->role == DNN_BACKWARD_WEIGHT)
        status = dnnl_dilated_convolution_backward_weights_desc_init(
            &desc, dnnl_convolution_direct, src, weight, bias, dst, stride, dilation, pad, pad_end);
    else
        status = dnnl_dilated_convolution_forward_desc_init(
            &desc, dnnl_forward_training, dnnl_convolution_direct, src, weight, bias, dst, stride,
            dilation, pad, pad_end);
    return status ? status : dnnl_primitive_desc_create(out, &desc, attr, engine, hint);
#endif
}

/* A linear layer's weight gradient: inner product, as it sums the bias's in the same call. */
static dnnl_status_t describe_inner_product(dnnl_primitive_desc_t *out, const dnn_problem *p,
                                            const layouts *l, dnnl_primitive_attr_t attr,
                                            dnnl_engine_t engine, dnnl_primitive_desc_t hint)
{
    const layout src = held(&l->src), weight = held(&l->weight), dst = held(&l->dst);
    const layout bias = l->has_bias ? held(&l->bias) : NULL;

#if DNNL_VERSION_MAJOR >= 3
    if (p->role == DNN_BACKWARD_WEIGHT)
        return dnnl_inner_product_backward_weights_primitive_desc_create(out, engine, src, weight,
                                                                         bias, dst, hint, attr);
    return dnnl_inner_product_forward_primitive_desc_create(out, engine, dnnl_forward_training, src,
                                                            weight, bias, dst, attr);
#else
    dnnl_inner_product_desc_t desc;
    dnnl_status_t status;

    if (p->role == DNN_BACKWARD_WEIGHT)
        status = dnnl_inner_product_backward_weights_desc_init(&desc, src, weight, bias, dst);
    else
        status = dnnl_inner_product_forward_desc_init(&desc, dnnl_forward_training, src, weight,
                                                      bias, dst);
    return status ? status : dnnl_primitive_desc_create(out, &desc, attr, engine, hint);
#endif
}

/*
 * A linear layer forward, or its data gradient: a product of matrices, which gives a row the same
 * bits in any batch and for any thread count (AVX-512), where inner product does not.
 */
static dnnl_status_t describe_matmul(dnnl_primitive_desc_t *out, const dnn_problem *p,
                                     const layouts *l, dnnl_primitive_attr_t attr,
                                     dnnl_engine_t engine, dnnl_primitive_desc_t hint)
{
    const bool backward = p->role == DNN_BACKWARD_DATA;
    const layout a = backward ? held(&l->dst) : held(&l->src), b = held(&l->weight);
    const layout c = backward ? held(&l->src) : held(&l->dst);
    const layout bias = l->has_bias ? held(&l->bias) : NULL;

    (void)hint;
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_matmul_primitive_desc_create(out, engine, a, b, bias, c, attr);
#else
    dnnl_matmul_desc_t desc;
    const dnnl_status_t status = dnnl_matmul_desc_init(&desc, a, b, bias, c);

    return status ? status : dnnl_primitive_desc_create(out, &desc, attr, engine, NULL);
#endif
}

static dnnl_status_t describe_product(dnnl_primitive_desc_t *out, const dnn_problem *p,
                                      const layouts *l, dnnl_primitive_attr_t attr,
                                      dnnl_engine_t engine, dnnl_primitive_desc_t hint)
{
    const layout a = held(&l->dst), b = held(&l->src), c = held(&l->weight);

    (void)p;
    (void)hint;
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_matmul_primitive_desc_create(out, engine, a, b, NULL, c, attr);
#else
    dnnl_matmul_desc_t desc;
    const dnnl_status_t status = dnnl_matmul_desc_init(&desc, a, b, NULL, c);

    return status ? status : dnnl_primitive_desc_create(out, &desc, attr, engine, NULL);
#endif
}

static dnnl_status_t append_sum(dnnl_post_ops_t ops)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
#else
    return dnnl_post_ops_append_sum(ops, 1.0f);
#endif
}

static dnnl_status_t append_eltwise(dnnl_post_ops_t ops, dnnl_alg_kind_t kind, float alpha,
                                    float beta)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_post_ops_append_eltwise(ops, kind, alpha, beta);
#else
    return dnnl_post_ops_append_eltwise(ops, 1.0f, kind, alpha, beta);
#endif
}

/* ----------------------------------------------------------------------------------------------
 * kernels */

struct dnn_kernel {
    dnn_problem problem;
    dnn_kernel *next;
    const dnn_library *library;
    dnnl_primitive_desc_t desc; /* NULL: the library has no such kernel */
    dnnl_primitive_t run;
    dnnl_primitive_t reorder;     /* weight: plain to packed; its gradient: packed to plain */
    dnnl_primitive_t reorder_add; /* gradient: the same, adding */
    /* Operands by place: src and dst also stand for their gradients. */
    dnnl_memory_t src, weight, bias, dst, workspace, plain;
    bool packed; /* weight's layout is not the plain one */
    size_t weight_bytes, workspace_bytes, bias_bytes;
};

struct dnn_library {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_attr_t attr_add; /* of a reorder that adds */
    dnn_kernel *kernels;
};

static thaw_status check(dnnl_status_t status, const char *what)
{
    if (status == dnnl_success)
        return THAW_OK;
    if (status == dnnl_out_of_memory)
        return thaw_fail(THAW_E_NOMEM, "out of memory in the kernel library (%s)", what);
    return thaw_fail(THAW_E_OS, "the kernel library failed with status %d (%s)", (int)status, what);
}

static dnnl_status_t append_activation(dnnl_post_ops_t ops, dnn_activation activation)
{
    if (activation == DNN_RELU)
        return append_eltwise(ops, dnnl_eltwise_relu, 0.0f, 0.0f);
    if (activation == DNN_RELU6)
        return append_eltwise(ops, dnnl_eltwise_clip, 0.0f, 6.0f);
    return dnnl_success;
}

/* Attributes of a kernel that adds and acts; its workspace is the caller's, or its own when that
 * says so. */
static dnnl_status_t make_attributes(dnnl_primitive_attr_t *out, bool own_workspace, bool adds,
                                     dnn_activation activation)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t status = dnnl_primitive_attr_create(&attr);

    if (!status)
        status = dnnl_post_ops_create(&ops);
    if (!status && adds)
        status = append_sum(ops);
    if (!status)
        status = append_activation(ops, activation);
    if (!status)
        status = dnnl_primitive_attr_set_post_ops(attr, ops);
    if (!status && !own_workspace)
        status = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (ops)
        dnnl_post_ops_destroy(ops);
    if (!status)
        *out = attr;
    else if (attr)
        dnnl_primitive_attr_destroy(attr);
    return status;
}

thaw_status dnn_open(dnn_library **out)
{
    thaw_status status = THAW_OK;
    dnn_library *library = thaw__new(1, sizeof *library);

    if (!library)
        return thaw_fail(THAW_E_NOMEM, "out of memory opening the kernel library");
    THAW_TRY(check(dnnl_engine_create(&library->engine, dnnl_cpu, 0), "engine"));
    THAW_TRY(check(dnnl_stream_create(&library->stream, library->engine, dnnl_stream_default_flags),
                   "stream"));
    THAW_TRY(check(make_attributes(&library->attr_add, true, true, DNN_LINEAR), "attributes"));
    *out = library;
    library = NULL;
done:
    dnn_close(library);
    return status;
}

static void destroy_kernel(dnn_kernel *k)
{
    const dnnl_memory_t memory[] = {k->src, k->weight, k->bias, k->dst, k->workspace, k->plain};
    const dnnl_primitive_t primitive[] = {k->run, k->reorder, k->reorder_add};

    for (size_t i = 0; i < THAW_COUNT(memory); i++)
        if (memory[i])
            dnnl_memory_destroy(memory[i]);
    for (size_t i = 0; i < THAW_COUNT(primitive); i++)
        if (primitive[i])
            dnnl_primitive_destroy(primitive[i]);
    if (k->desc)
        dnnl_primitive_desc_destroy(k->desc);
    thaw__free(k);
}

void dnn_close(dnn_library *library)
{
    if (!library)
        return;
    while (library->kernels) {
        dnn_kernel *const k = library->kernels;

        library->kernels = k->next;
        destroy_kernel(k);
    }
    if (library->attr_add)
        dnnl_primitive_attr_destroy(library->attr_add);
    if (library->stream)
        dnnl_stream_destroy(library->stream);
    if (library->engine)
        dnnl_engine_destroy(library->engine);
    thaw__free(library);
}

/* ----------------------------------------------------------------------------------------------
 * making a kernel */

static void drop_layouts(layouts *l)
{
    drop_layout(&l->src);
    drop_layout(&l->weight);
    drop_layout(&l->bias);
    drop_layout(&l->dst);
    drop_layout(&l->plain);
}

static dnnl_status_t hold_convolution(layouts *l, const dnn_problem *p)
{
    const int64_t src[] = {p->batch, p->channels, p->height, p->width};
    const int64_t dst[] = {p->batch, p->kernels, p->out_height, p->out_width};
    const int64_t grouped[] = {p->groups, p->kernels / p->groups, p->channels / p->groups,
                               p->window[0], p->window[1]};
    const int rank = p->groups > 1 ? 5 : 4;
    const int64_t *const weight = p->groups > 1 ? grouped : grouped + 1;
    dnnl_status_t status = hold_layout(&l->src, 4, src, dnnl_nhwc);

    if (!status)
        status = hold_layout(&l->dst, 4, dst, dnnl_nhwc);
    if (!status)
        status = hold_layout(&l->weight, rank, weight, dnnl_format_tag_any);
    if (!status)
        status = hold_layout(&l->plain, rank, weight, rank == 5 ? dnnl_goihw : dnnl_oihw);
    return status ? status : hold_layout(&l->bias, 1, &p->kernels, dnnl_a);
}

static dnnl_status_t hold_inner_product(layouts *l, const dnn_problem *p)
{
    const int64_t src[] = {p->batch, p->channels}, dst[] = {p->batch, p->kernels};
    const int64_t weight[] = {p->kernels, p->channels};
    dnnl_status_t status = hold_layout(&l->src, 2, src, dnnl_ab);

    if (!status)
        status = hold_layout(&l->dst, 2, dst, dnnl_ab);
    if (!status)
        status = hold_layout(&l->weight, 2, weight, dnnl_format_tag_any);
    if (!status)
        status = hold_layout(&l->plain, 2, weight, dnnl_ab);
    return status ? status : hold_layout(&l->bias, 1, &p->kernels, dnnl_a);
}

/* Forward multiplies by the weight's transpose, backward by the weight itself. */
static dnnl_status_t hold_matmul(layouts *l, const dnn_problem *p)
{
    const bool backward = p->role == DNN_BACKWARD_DATA;
    const int64_t src[] = {p->batch, p->channels}, dst[] = {p->batch, p->kernels};
    const int64_t weight[] = {backward ? p->kernels : p->channels,
                              backward ? p->channels : p->kernels};
    const int64_t bias[] = {1, p->kernels};
    dnnl_status_t status = hold_layout(&l->src, 2, src, dnnl_ab);

    if (!status)
        status = hold_layout(&l->dst, 2, dst, dnnl_ab);
    if (!status)
        status = hold_layout(&l->weight, 2, weight, dnnl_format_tag_any);
    if (!status)
        status = hold_layout(&l->plain, 2, weight, backward ? dnnl_ab : dnnl_ba);
    return status ? status : hold_layout(&l->bias, 2, bias, dnnl_ab);
}

/* The gradients of the output, transposed, times the inputs: [O, rows] x [rows, I]. */
static dnnl_status_t hold_product(layouts *l, const dnn_problem *p)
{
    const int64_t src[] = {p->batch, p->channels}, dst[] = {p->kernels, p->batch};
    const int64_t weight[] = {p->kernels, p->channels};
    dnnl_status_t status = hold_layout(&l->src, 2, src, dnnl_ab);

    if (!status)
        status = hold_layout(&l->dst, 2, dst, dnnl_ba);
    if (!status)
        status = hold_layout(&l->weight, 2, weight, dnnl_ab);
    return status ? status : hold_layout(&l->plain, 2, weight, dnnl_ab);
}

/* How a kind of problem is put to the library. */
typedef struct method {
    dnnl_status_t (*hold)(layouts *l, const dnn_problem *p);
    dnnl_status_t (*describe)(dnnl_primitive_desc_t *out, const dnn_problem *p, const layouts *l,
                              dnnl_primitive_attr_t attr, dnnl_engine_t engine,
                              dnnl_primitive_desc_t hint);
    bool needs_hint; /* backward kernels that are made after a forward one */
} method;

static const method methods[][3] = {
    [DNN_CONVOLUTION] = {[DNN_FORWARD] = {hold_convolution, describe_convolution, false},
                         [DNN_BACKWARD_DATA] = {hold_convolution, describe_convolution, true},
                         [DNN_BACKWARD_WEIGHT] = {hold_convolution, describe_convolution, true}},
    [DNN_LAYER] = {[DNN_FORWARD] = {hold_matmul, describe_matmul, false},
                   [DNN_BACKWARD_DATA] = {hold_matmul, describe_matmul, false},
                   [DNN_BACKWARD_WEIGHT] = {hold_inner_product, describe_inner_product, true}},
    [DNN_PRODUCT] = {[DNN_BACKWARD_WEIGHT] = {hold_product, describe_product, false}},
};

static dnnl_status_t describe_kernel(dnn_kernel *k, const layouts *l, const method *m)
{
    const dnn_library *const library = k->library;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t status =
        make_attributes(&attr, false, k->problem.adds != 0, (dnn_activation)k->problem.activation);

    if (!status && m->needs_hint) {
        dnn_problem forward = k->problem;

        forward.role = DNN_FORWARD;
        status = m->describe(&hint, &forward, l, NULL, library->engine, NULL);
    }
    if (!status)
        status = m->describe(&k->desc, &k->problem, l, attr, library->engine, hint);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    if (hint)
        dnnl_primitive_desc_destroy(hint);
    return status;
}

static dnnl_status_t make_memory(dnnl_memory_t *out, const dnn_kernel *k, layout l)
{
    return dnnl_memory_create(out, l, k->library->engine, DNNL_MEMORY_NONE);
}

static dnnl_status_t make_memories(dnn_kernel *k, const layouts *l, layout weight)
{
    const layout workspace = dnnl_primitive_desc_query_md(k->desc, dnnl_query_scratchpad_md, 0);
    dnnl_status_t status = make_memory(&k->src, k, held(&l->src));

    if (!status)
        status = make_memory(&k->dst, k, held(&l->dst));
    if (!status)
        status = make_memory(&k->weight, k, weight);
    if (!status)
        status = make_memory(&k->plain, k, held(&l->plain));
    if (!status && l->has_bias)
        status = make_memory(&k->bias, k, held(&l->bias));
    if (!status)
        status = make_memory(&k->workspace, k, workspace);
    k->workspace_bytes = dnnl_memory_desc_get_size(workspace);
    k->weight_bytes = dnnl_memory_desc_get_size(weight);
    k->bias_bytes = l->has_bias ? (size_t)k->problem.kernels * sizeof(float) : 0;
    k->packed = !dnnl_memory_desc_equal(weight, held(&l->plain));
    return status;
}

static dnnl_status_t make_reorder(dnnl_primitive_t *out, const dnn_kernel *k, layout from,
                                  layout to, dnnl_primitive_attr_t attr)
{
    dnnl_primitive_desc_t desc = NULL;
    dnnl_status_t status = dnnl_reorder_primitive_desc_create(&desc, from, k->library->engine, to,
                                                              k->library->engine, attr);

    if (!status)
        status = dnnl_primitive_create(out, desc);
    if (desc)
        dnnl_primitive_desc_destroy(desc);
    return status;
}

static dnnl_status_t make_reorders(dnn_kernel *k, layout plain, layout weight)
{
    dnnl_status_t status;

    if (k->problem.role != DNN_BACKWARD_WEIGHT)
        return k->packed ? make_reorder(&k->reorder, k, plain, weight, NULL) : dnnl_success;
    status = make_reorder(&k->reorder, k, weight, plain, NULL);
    if (!status)
        status = make_reorder(&k->reorder_add, k, weight, plain, k->library->attr_add);
    return status;
}

static layout weight_layout(const dnn_kernel *k)
{
    const bool gradient = k->problem.role == DNN_BACKWARD_WEIGHT;
    const dnnl_query_t what = k->problem.linear == DNN_PRODUCT ? dnnl_query_dst_md
                              : gradient                       ? dnnl_query_diff_weights_md
                                                               : dnnl_query_weights_md;

    return dnnl_primitive_desc_query_md(k->desc, what, 0);
}

static dnnl_status_t make_kernel(dnn_kernel *k)
{
    const method *const m = &methods[k->problem.linear][k->problem.role];
    layouts l = {.has_bias = k->problem.bias != 0};
    dnnl_status_t status = m->hold(&l, &k->problem);

    if (!status)
        status = describe_kernel(k, &l, m);
    if (!status)
        status = dnnl_primitive_create(&k->run, k->desc);
    if (!status)
        status = make_memories(k, &l, weight_layout(k));
    if (!status)
        status = make_reorders(k, held(&l.plain), weight_layout(k));
    drop_layouts(&l);
    return status;
}

const dnn_kernel *dnn_find(dnn_library *library, const dnn_problem *problem)
{
    dnn_kernel *k;

    for (k = library->kernels; k; k = k->next)
        if (memcmp(&k->problem, problem, sizeof *problem) == 0)
            return k->run ? k : NULL;
    k = thaw__new(1, sizeof *k);
    if (!k)
        return NULL;
    k->problem = *problem;
    k->library = library;
    if (make_kernel(k) != dnnl_success && k->run) {
        dnnl_primitive_destroy(k->run);
        k->run = NULL;
    }
    /* Also a refusal is kept, so that it is found out once. */
    k->next = library->kernels;
    library->kernels = k;
    return k->run ? k : NULL;
}

/* ----------------------------------------------------------------------------------------------
 * running */

/* Scratch of a kernel: its workspace, then the weight's gradient, then the bias's. */
typedef struct scratch_parts {
    size_t weight, bias, bytes;
} scratch_parts;

static size_t aligned(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static scratch_parts scratch_of(const dnn_kernel *k)
{
    const bool gradient = k->problem.role == DNN_BACKWARD_WEIGHT;
    const size_t weight = aligned(k->workspace_bytes);
    const size_t bias = weight + (gradient ? aligned(k->weight_bytes) : 0);

    return (scratch_parts){
        .weight = weight, .bias = bias, .bytes = bias + (gradient ? aligned(k->bias_bytes) : 0)};
}

size_t dnn_scratch_bytes(const dnn_kernel *k)
{
    return scratch_of(k).bytes;
}

size_t dnn_packed_bytes(const dnn_kernel *k)
{
    return k->packed ? k->weight_bytes : 0;
}

bool dnn_same_packing(const dnn_kernel *a, const dnn_kernel *b)
{
    /* Products forward and backward read the weight from its two sides. */
    const bool same_side = !a->problem.linear || a->problem.role == b->problem.role;

    return a == b || (!a->packed && !b->packed) ||
           (a->packed && b->packed && same_side &&
            dnnl_memory_desc_equal(weight_layout(a), weight_layout(b)));
}

const char *dnn_implementation(const dnn_kernel *k)
{
    const char *name = NULL;

    if (dnnl_primitive_desc_query(k->desc, dnnl_query_impl_info_str, 0, &name) != dnnl_success)
        return "unknown";
    return name;
}

/* The library takes operands it only reads as void *, too. */
static dnnl_status_t point(dnnl_memory_t memory, const void *data)
{
    return memory ? dnnl_memory_set_data_handle(memory, (void *)(uintptr_t)data) : dnnl_success;
}

static dnnl_status_t run_reorder(const dnn_kernel *k, dnnl_primitive_t reorder, dnnl_memory_t from,
                                 dnnl_memory_t to)
{
    const dnnl_exec_arg_t arg[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};

    return dnnl_primitive_execute(reorder, k->library->stream, 2, arg);
}

thaw_status dnn_pack(const dnn_kernel *k, void *packed, const float *weight)
{
    dnnl_status_t status = point(k->plain, weight);

    if (!status)
        status = point(k->weight, packed);
    if (!status)
        status = run_reorder(k, k->reorder, k->plain, k->weight);
    return check(status, "packing a weight");
}

static dnnl_status_t execute(const dnn_kernel *k, const int *name)
{
    const dnnl_memory_t memory[] = {k->src, k->weight, k->bias, k->dst, k->workspace};
    dnnl_exec_arg_t arg[THAW_COUNT(memory)];
    int n = 0;

    for (size_t i = 0; i < THAW_COUNT(memory); i++)
        if (memory[i] && name[i] >= 0)
            arg[n++] = (dnnl_exec_arg_t){name[i], memory[i]};
    return dnnl_primitive_execute(k->run, k->library->stream, n, arg);
}

/* What the library calls src, weight, bias, dst and workspace in each role, -1: not there. A
 * matmul backward is a product like any other: d_dst x weight -> d_src. */
static const int argument_names[][3][5] = {
    [DNN_CONVOLUTION] = {[DNN_FORWARD] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS,
                                          DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD},
                         [DNN_BACKWARD_DATA] = {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, -1,
                                                DNNL_ARG_DIFF_DST, DNNL_ARG_SCRATCHPAD},
                         [DNN_BACKWARD_WEIGHT] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS,
                                                  DNNL_ARG_DIFF_BIAS, DNNL_ARG_DIFF_DST,
                                                  DNNL_ARG_SCRATCHPAD}},
    [DNN_PRODUCT] = {[DNN_BACKWARD_WEIGHT] = {DNNL_ARG_WEIGHTS, DNNL_ARG_DST, -1, DNNL_ARG_SRC,
                                              DNNL_ARG_SCRATCHPAD}},
    [DNN_LAYER] = {[DNN_FORWARD] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST,
                                    DNNL_ARG_SCRATCHPAD},
                   [DNN_BACKWARD_DATA] = {DNNL_ARG_DST, DNNL_ARG_WEIGHTS, -1, DNNL_ARG_SRC,
                                          DNNL_ARG_SCRATCHPAD},
                   [DNN_BACKWARD_WEIGHT] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_BIAS,
                                            DNNL_ARG_DIFF_DST, DNNL_ARG_SCRATCHPAD}},
};

/* The gradient is made in scratch where it must be unpacked or added, else where it belongs. */
static dnnl_status_t run_backward_weight(const dnn_kernel *k, const dnn_operands *o)
{
    const scratch_parts part = scratch_of(k);
    const bool direct = !k->packed && !o->accumulate;
    const bool add_bias = k->bias && o->accumulate;
    float *const d_bias = add_bias ? (float *)(void *)((char *)o->scratch + part.bias) : o->d_bias;
    dnnl_status_t status =
        point(k->weight, direct ? (void *)o->d_weight : (char *)o->scratch + part.weight);

    if (!status)
        status = point(k->plain, o->d_weight);
    if (!status)
        status = point(k->bias, d_bias);
    if (!status)
        status = execute(k, argument_names[k->problem.linear][DNN_BACKWARD_WEIGHT]);
    if (!status && !direct)
        status = run_reorder(k, o->accumulate ? k->reorder_add : k->reorder, k->weight, k->plain);
    for (int64_t i = 0; add_bias && i < k->problem.kernels; i++)
        o->d_bias[i] += d_bias[i];
    return status;
}

thaw_status dnn_run(const dnn_kernel *k, const dnn_operands *o)
{
    const dnn_role role = k->problem.role;
    dnnl_status_t status = point(k->workspace, o->scratch);

    if (!status)
        status = point(k->src, role == DNN_BACKWARD_DATA ? o->d_src : o->src);
    if (!status)
        status = point(k->dst, role == DNN_FORWARD ? o->dst : o->d_dst);
    if (status)
        return check(status, "operands");
    if (role == DNN_BACKWARD_WEIGHT)
        return check(run_backward_weight(k, o), "weight gradient");
    status = point(k->weight, o->weight);
    if (!status)
        status = point(k->bias, o->bias);
    if (!status)
        status = execute(k, argument_names[k->problem.linear][role]);
    return check(status, role == DNN_FORWARD ? "forward" : "data gradient");
}

/* ----------------------------------------------------------------------------------------------
 * names */

static const struct {
    dnnl_cpu_isa_t isa;
    const char *name;
} isa_names[] = {
    {dnnl_cpu_isa_avx512_core_amx, "avx512_core_amx"},
    {dnnl_cpu_isa_avx512_core_bf16, "avx512_core_bf16"},
    {dnnl_cpu_isa_avx512_core_vnni, "avx512_core_vnni"},
    {dnnl_cpu_isa_avx512_core, "avx512_core"},
    {dnnl_cpu_isa_avx2_vnni, "avx2_vnni"},
    {dnnl_cpu_isa_avx2, "avx2"},
    {dnnl_cpu_isa_avx, "avx"},
    {dnnl_cpu_isa_sse41, "sse41"},
};

void dnn_describe(char *buffer, size_t size)
{
    const dnnl_version_t *const v = dnnl_version();
    const dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    const char *name = "another instruction set";

    for (size_t i = 0; i < THAW_COUNT(isa_names); i++)
        if (isa_names[i].isa == isa)
            name = isa_names[i].name;
    snprintf(buffer, size, "oneDNN %d.%d.%d, %s", v->major, v->minor, v->patch, name);
}
