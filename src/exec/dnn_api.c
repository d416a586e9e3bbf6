/*
 * dnn_api.c - the calls that the library's versions 2 and 3 spell differently; see dnn_api.h.
 */
#include "exec/dnn_api.h"

#include <stdio.h>
#include <string.h>

/* ----------------------------------------------------------------------------------------------
 * layouts */

dnn_layout dnn_held(const dnn_layout_holder *holder)
{
#if DNNL_VERSION_MAJOR >= 3
    return *holder;
#else
    return holder;
#endif
}

dnnl_status_t dnn_hold(dnn_layout_holder *out, int rank, const int64_t *dim, dnnl_data_type_t type,
                       dnnl_format_tag_t tag)
{
    dnnl_dims_t dims = {0};

    memcpy(dims, dim, (size_t)rank * sizeof *dim);
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_tag(out, rank, dims, type, tag);
#else
    return dnnl_memory_desc_init_by_tag(out, rank, dims, type, tag);
#endif
}

void dnn_drop(dnn_layout_holder *holder)
{
#if DNNL_VERSION_MAJOR >= 3
    if (*holder)
        dnnl_memory_desc_destroy(*holder);
    *holder = NULL;
#else
    memset(holder, 0, sizeof *holder);
#endif
}

dnnl_status_t dnn_describe_convolution(dnnl_primitive_desc_t *out, const dnn_problem *p,
                                       const dnn_layouts *l, dnnl_primitive_attr_t attr,
                                       dnnl_engine_t engine, dnnl_primitive_desc_t hint)
{
    const dnn_layout src = dnn_held(&l->src), weight = dnn_held(&l->weight),
                     dst = dnn_held(&l->dst);
    const dnn_layout bias = l->has_bias ? dnn_held(&l->bias) : NULL;
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

dnnl_status_t dnn_describe_inner_product(dnnl_primitive_desc_t *out, const dnn_problem *p,
                                         const dnn_layouts *l, dnnl_primitive_attr_t attr,
                                         dnnl_engine_t engine, dnnl_primitive_desc_t hint)
{
    const dnn_layout src = dnn_held(&l->src), weight = dnn_held(&l->weight),
                     dst = dnn_held(&l->dst);
    const dnn_layout bias = l->has_bias ? dnn_held(&l->bias) : NULL;

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

dnnl_status_t dnn_describe_matmul(dnnl_primitive_desc_t *out, const dnn_problem *p,
                                  const dnn_layouts *l, dnnl_primitive_attr_t attr,
                                  dnnl_engine_t engine, dnnl_primitive_desc_t hint)
{
    const bool backward = p->role == DNN_BACKWARD_DATA;
    const dnn_layout a = backward ? dnn_held(&l->dst) : dnn_held(&l->src), b = dnn_held(&l->weight);
    const dnn_layout c = backward ? dnn_held(&l->src) : dnn_held(&l->dst);
    const dnn_layout bias = l->has_bias ? dnn_held(&l->bias) : NULL;

    (void)hint;
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_matmul_primitive_desc_create(out, engine, a, b, bias, c, attr);
#else
    dnnl_matmul_desc_t desc;
    const dnnl_status_t status = dnnl_matmul_desc_init(&desc, a, b, bias, c);

    return status ? status : dnnl_primitive_desc_create(out, &desc, attr, engine, NULL);
#endif
}

dnnl_status_t dnn_describe_product(dnnl_primitive_desc_t *out, const dnn_problem *p,
                                   const dnn_layouts *l, dnnl_primitive_attr_t attr,
                                   dnnl_engine_t engine, dnnl_primitive_desc_t hint)
{
    const dnn_layout a = dnn_held(&l->dst), b = dnn_held(&l->src), c = dnn_held(&l->weight);

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

dnnl_status_t dnn_append_sum(dnnl_post_ops_t ops)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
#else
    return dnnl_post_ops_append_sum(ops, 1.0f);
#endif
}

dnnl_status_t dnn_append_eltwise(dnnl_post_ops_t ops, dnnl_alg_kind_t kind, float alpha, float beta)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_post_ops_append_eltwise(ops, kind, alpha, beta);
#else
    return dnnl_post_ops_append_eltwise(ops, 1.0f, kind, alpha, beta);
#endif
}

size_t dnn_more_bytes(void)
{
    return DNNL_VERSION_MAJOR >= 3 ? (size_t)16 << 20 : 0;
}

/* ----------------------------------------------------------------------------------------------
 * names */

static const struct {
    dnnl_cpu_isa_t isa;
    const char *name;
} isa_names[] = {
#if DNNL_VERSION_MAJOR >= 3
    {dnnl_cpu_isa_avx512_core_amx_fp16, "avx512_core_amx_fp16"},
    {dnnl_cpu_isa_avx512_core_fp16, "avx512_core_fp16"},
    {dnnl_cpu_isa_avx2_vnni_2, "avx2_vnni_2"},
#endif
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
