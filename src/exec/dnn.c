/*
 * dnn.c - problems become kernels of oneDNN, kernels run.
 *
 * The one idea: a kernel is made once per problem, weights excepted with the memory layouts of the
 * plan, and knows how to bring a weight into the layout it likes and a weight gradient out of it.
 * What differs between the library's versions is dnn_api's business.
 *
 * Knows nothing of plans, parameters or sessions.
 */
#include "exec/dnn_api.h"

#include <string.h>

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
        return dnn_append_eltwise(ops, dnnl_eltwise_relu, 0.0f, 0.0f);
    if (activation == DNN_RELU6)
        return dnn_append_eltwise(ops, dnnl_eltwise_clip, 0.0f, 6.0f);
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
        status = dnn_append_sum(ops);
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

static void drop_layouts(dnn_layouts *l)
{
    dnn_drop(&l->src);
    dnn_drop(&l->weight);
    dnn_drop(&l->bias);
    dnn_drop(&l->dst);
    dnn_drop(&l->plain);
}

static dnnl_data_type_t activation_type(const dnn_problem *p)
{
    return p->bf16 ? dnnl_bf16 : dnnl_f32;
}

/* The gradient of a weight is f32 always. */
static dnnl_data_type_t weight_type(const dnn_problem *p)
{
    return p->role == DNN_BACKWARD_WEIGHT ? dnnl_f32 : activation_type(p);
}

static dnnl_status_t hold_convolution(dnn_layouts *l, const dnn_problem *p)
{
    const dnnl_data_type_t type = activation_type(p);
    const int64_t src[] = {p->batch, p->channels, p->height, p->width};
    const int64_t dst[] = {p->batch, p->kernels, p->out_height, p->out_width};
    const int64_t grouped[] = {p->groups, p->kernels / p->groups, p->channels / p->groups,
                               p->window[0], p->window[1]};
    const int rank = p->groups > 1 ? 5 : 4;
    const int64_t *const weight = p->groups > 1 ? grouped : grouped + 1;
    dnnl_status_t status = dnn_hold(&l->src, 4, src, type, dnnl_nhwc);

    if (!status)
        status = dnn_hold(&l->dst, 4, dst, type, dnnl_nhwc);
    if (!status)
        status = dnn_hold(&l->weight, rank, weight, weight_type(p), dnnl_format_tag_any);
    if (!status)
        status = dnn_hold(&l->plain, rank, weight, dnnl_f32, rank == 5 ? dnnl_goihw : dnnl_oihw);
    return status ? status : dnn_hold(&l->bias, 1, &p->kernels, dnnl_f32, dnnl_a);
}

static dnnl_status_t hold_inner_product(dnn_layouts *l, const dnn_problem *p)
{
    const dnnl_data_type_t type = activation_type(p);
    const int64_t src[] = {p->batch, p->channels}, dst[] = {p->batch, p->kernels};
    const int64_t weight[] = {p->kernels, p->channels};
    dnnl_status_t status = dnn_hold(&l->src, 2, src, type, dnnl_ab);

    if (!status)
        status = dnn_hold(&l->dst, 2, dst, type, dnnl_ab);
    if (!status)
        status = dnn_hold(&l->weight, 2, weight, weight_type(p), dnnl_format_tag_any);
    if (!status)
        status = dnn_hold(&l->plain, 2, weight, dnnl_f32, dnnl_ab);
    return status ? status : dnn_hold(&l->bias, 1, &p->kernels, dnnl_f32, dnnl_a);
}

/* Forward multiplies by the weight's transpose, backward by the weight itself. */
static dnnl_status_t hold_matmul(dnn_layouts *l, const dnn_problem *p)
{
    const dnnl_data_type_t type = activation_type(p);
    const bool backward = p->role == DNN_BACKWARD_DATA;
    const int64_t src[] = {p->batch, p->channels}, dst[] = {p->batch, p->kernels};
    const int64_t weight[] = {backward ? p->kernels : p->channels,
                              backward ? p->channels : p->kernels};
    const int64_t bias[] = {1, p->kernels};
    const dnnl_format_tag_t plain = backward ? dnnl_ab : dnnl_ba;
    dnnl_status_t status = dnn_hold(&l->src, 2, src, type, dnnl_ab);

    if (!status)
        status = dnn_hold(&l->dst, 2, dst, type, dnnl_ab);
    if (!status)
        status =
            dnn_hold(&l->weight, 2, weight, weight_type(p), p->plain ? plain : dnnl_format_tag_any);
    if (!status)
        status = dnn_hold(&l->plain, 2, weight, dnnl_f32, plain);
    return status ? status : dnn_hold(&l->bias, 2, bias, dnnl_f32, dnnl_ab);
}

/* The gradients of the output, transposed, times the inputs: [O, rows] x [rows, I]. */
static dnnl_status_t hold_product(dnn_layouts *l, const dnn_problem *p)
{
    const dnnl_data_type_t type = activation_type(p);
    const int64_t src[] = {p->batch, p->channels}, dst[] = {p->kernels, p->batch};
    const int64_t weight[] = {p->kernels, p->channels};
    dnnl_status_t status = dnn_hold(&l->src, 2, src, type, dnnl_ab);

    if (!status)
        status = dnn_hold(&l->dst, 2, dst, type, dnnl_ba);
    if (!status)
        status = dnn_hold(&l->weight, 2, weight, weight_type(p), dnnl_ab);
    return status ? status : dnn_hold(&l->plain, 2, weight, dnnl_f32, dnnl_ab);
}

/* How a kind of problem is put to the library. */
typedef struct method {
    dnnl_status_t (*hold)(dnn_layouts *l, const dnn_problem *p);
    dnnl_status_t (*describe)(dnnl_primitive_desc_t *out, const dnn_problem *p,
                              const dnn_layouts *l, dnnl_primitive_attr_t attr,
                              dnnl_engine_t engine, dnnl_primitive_desc_t hint);
    bool needs_hint; /* backward kernels that are made after a forward one */
} method;

static const method methods[][3] = {
    [DNN_CONVOLUTION] = {[DNN_FORWARD] = {hold_convolution, dnn_describe_convolution, false},
                         [DNN_BACKWARD_DATA] = {hold_convolution, dnn_describe_convolution, true},
                         [DNN_BACKWARD_WEIGHT] = {hold_convolution, dnn_describe_convolution,
                                                  true}},
    [DNN_LAYER] = {[DNN_FORWARD] = {hold_matmul, dnn_describe_matmul, false},
                   [DNN_BACKWARD_DATA] = {hold_matmul, dnn_describe_matmul, false},
                   [DNN_BACKWARD_WEIGHT] = {hold_inner_product, dnn_describe_inner_product, true}},
    [DNN_PRODUCT] = {[DNN_BACKWARD_WEIGHT] = {hold_product, dnn_describe_product, false}},
};

/* The forward kernel that a backward one is made after: its weight may have another type. */
static dnnl_status_t make_hint(dnnl_primitive_desc_t *out, const dnn_kernel *k, const method *m)
{
    dnn_layouts l = {.has_bias = k->problem.bias != 0};
    dnn_problem forward = k->problem;
    dnnl_status_t status;

    forward.role = DNN_FORWARD;
    status = m->hold(&l, &forward);
    if (!status)
        status = m->describe(out, &forward, &l, NULL, k->library->engine, NULL);
    drop_layouts(&l);
    return status;
}

static dnnl_status_t describe_kernel(dnn_kernel *k, const dnn_layouts *l, const method *m)
{
    const dnn_library *const library = k->library;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t status =
        make_attributes(&attr, false, k->problem.adds != 0, (dnn_activation)k->problem.activation);

    if (!status && m->needs_hint)
        status = make_hint(&hint, k, m);
    if (!status)
        status = m->describe(&k->desc, &k->problem, l, attr, library->engine, hint);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    if (hint)
        dnnl_primitive_desc_destroy(hint);
    return status;
}

static dnnl_status_t make_memory(dnnl_memory_t *out, const dnn_kernel *k, dnn_layout l)
{
    return dnnl_memory_create(out, l, k->library->engine, DNNL_MEMORY_NONE);
}

static dnnl_status_t make_memories(dnn_kernel *k, const dnn_layouts *l, dnn_layout weight)
{
    const dnn_layout workspace = dnnl_primitive_desc_query_md(k->desc, dnnl_query_scratchpad_md, 0);
    dnnl_status_t status = make_memory(&k->src, k, dnn_held(&l->src));

    if (!status)
        status = make_memory(&k->dst, k, dnn_held(&l->dst));
    if (!status)
        status = make_memory(&k->weight, k, weight);
    if (!status)
        status = make_memory(&k->plain, k, dnn_held(&l->plain));
    if (!status && l->has_bias)
        status = make_memory(&k->bias, k, dnn_held(&l->bias));
    if (!status)
        status = make_memory(&k->workspace, k, workspace);
    k->workspace_bytes = dnnl_memory_desc_get_size(workspace);
    k->weight_bytes = dnnl_memory_desc_get_size(weight);
    k->bias_bytes = l->has_bias ? (size_t)k->problem.kernels * sizeof(float) : 0;
    k->packed = !dnnl_memory_desc_equal(weight, dnn_held(&l->plain));
    return status;
}

static dnnl_status_t make_reorder(dnnl_primitive_t *out, const dnn_kernel *k, dnn_layout from,
                                  dnn_layout to, dnnl_primitive_attr_t attr)
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

static dnnl_status_t make_reorders(dnn_kernel *k, dnn_layout plain, dnn_layout weight)
{
    dnnl_status_t status;

    if (k->problem.role != DNN_BACKWARD_WEIGHT)
        return k->packed ? make_reorder(&k->reorder, k, plain, weight, NULL) : dnnl_success;
    status = make_reorder(&k->reorder, k, weight, plain, NULL);
    if (!status)
        status = make_reorder(&k->reorder_add, k, weight, plain, k->library->attr_add);
    return status;
}

static dnn_layout weight_layout(const dnn_kernel *k)
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
    dnn_layouts l = {.has_bias = k->problem.bias != 0};
    dnnl_status_t status = m->hold(&l, &k->problem);

    if (!status)
        status = describe_kernel(k, &l, m);
    if (!status)
        status = dnnl_primitive_create(&k->run, k->desc);
    if (!status)
        status = make_memories(k, &l, weight_layout(k));
    if (!status)
        status = make_reorders(k, dnn_held(&l.plain), weight_layout(k));
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

static scratch_parts scratch_of(const dnn_kernel *k)
{
    const bool gradient = k->problem.role == DNN_BACKWARD_WEIGHT;
    const size_t weight = dnn_aligned(k->workspace_bytes);
    const size_t bias = weight + (gradient ? dnn_aligned(k->weight_bytes) : 0);

    return (scratch_parts){.weight = weight,
                           .bias = bias,
                           .bytes = bias + (gradient ? dnn_aligned(k->bias_bytes) : 0)};
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
