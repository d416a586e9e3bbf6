/*
 * dense.c - a dense layer's problem, computed in the way that was chosen for it: rewritten to what
 * the library is asked for, with pixels gathered before or put back after where that is a product
 * of fewer pixels than the image has.
 */
#include "exec/choose.h"

#include <string.h>

/* Rows are pixels. The bias's gradient is no by-product of such a product. */
static dnn_problem as_product(const dnn_problem *p)
{
    const int64_t rows = p->linear ? p->batch : p->batch * p->out_height * p->out_width;
    dnn_problem product = {.role = p->role,
                           .linear = DNN_LAYER,
                           .bias = p->bias,
                           .batch = rows,
                           .channels = p->channels,
                           .kernels = p->kernels,
                           .adds = p->adds,
                           .activation = p->activation,
                           .bf16 = p->bf16};

    if (p->role == DNN_BACKWARD_WEIGHT) {
        product.linear = DNN_PRODUCT;
        product.bias = 0;
    }
    return product;
}

static dense as_loops(const dnn_problem *p)
{
    dense d = {.ready = true,
               .role = p->role,
               .loops = {.batch = p->batch,
                         .height = p->height,
                         .width = p->width,
                         .channels = p->channels,
                         .out_height = p->out_height,
                         .out_width = p->out_width}};

    memcpy(d.loops.window, p->window, sizeof p->window);
    memcpy(d.loops.stride, p->stride, sizeof p->stride);
    memcpy(d.loops.pad, p->pad, sizeof p->pad);
    memcpy(d.loops.dilation, p->dilation, sizeof p->dilation);
    return d;
}

dense dense_find(dnn_library *library, const dnn_problem *p, exec_way way)
{
    dnn_problem asked = way == WAY_PRODUCT ? as_product(p) : *p;
    dense d = {.role = p->role, .makes_bias = asked.bias != 0};

    asked.renewed = 0;
    if (way == WAY_LOOPS)
        return as_loops(p);
    if (way == WAY_WINOGRAD)
        return (dense){.ready = true, .role = p->role, .tiles = winograd_of(p)};
    d.kernel = dnn_find(library, &asked);
    d.ready = d.kernel != NULL;
    if (way == WAY_PRODUCT && !p->linear && (p->stride[0] > 1 || p->stride[1] > 1))
        d.pixels = (fast_pixels){.batch = p->batch,
                                 .height = p->height,
                                 .width = p->width,
                                 .channels = p->channels,
                                 .size = p->bf16 ? sizeof(uint16_t) : sizeof(float),
                                 .out_height = p->out_height,
                                 .out_width = p->out_width,
                                 .stride = {p->stride[0], p->stride[1]}};
    return d;
}

/* What a kernel wants for itself, then the rows of pixels. */
size_t dense_scratch(const dense *d, int threads)
{
    const fast_pixels *const p = &d->pixels;

    if (d->tiles.batch > 0)
        return winograd_scratch(&d->tiles, threads);
    if (!d->kernel)
        return 0;
    return dnn_aligned(dnn_scratch_bytes(d->kernel)) +
           (size_t)(p->batch * p->out_height * p->out_width * p->channels) * p->size;
}

thaw_status dense_run(const dense *d, const dnn_operands *whole, int threads)
{
    const fast_pixels *const pixels = &d->pixels;
    dnn_operands o = *whole;
    void *rows;

    if (d->tiles.batch > 0) {
        winograd_run(&d->tiles, whole, threads);
        return THAW_OK;
    }
    if (!d->kernel) {
        fast_depthwise_weight(o.d_weight, o.src, o.d_dst, &d->loops, o.accumulate, threads);
        return THAW_OK;
    }
    if (pixels->batch == 0)
        return dnn_run(d->kernel, whole);
    rows = (char *)o.scratch + dnn_aligned(dnn_scratch_bytes(d->kernel));
    o.src = o.d_src = rows;
    if (d->role != DNN_BACKWARD_DATA)
        fast_take_pixels(rows, whole->src, pixels, threads);
    THAW_CHECK(dnn_run(d->kernel, &o));
    if (d->role == DNN_BACKWARD_DATA)
        fast_put_pixels(whole->d_src, rows, pixels, threads);
    return THAW_OK;
}

size_t dense_packed_bytes(const dense *d)
{
    if (d->role == DNN_BACKWARD_WEIGHT)
        return 0;
    if (d->tiles.batch > 0)
        return winograd_packed_bytes(&d->tiles);
    return d->kernel ? dnn_packed_bytes(d->kernel) : 0;
}

bool dense_same_packing(const dense *a, const dense *b)
{
    if (a->tiles.batch > 0 || b->tiles.batch > 0)
        return a->tiles.batch > 0 && b->tiles.batch > 0 &&
               winograd_same_packing(&a->tiles, &b->tiles);
    return dnn_same_packing(a->kernel, b->kernel);
}

thaw_status dense_pack(const dense *d, void *packed, const float *weight, int threads)
{
    if (d->tiles.batch == 0)
        return dnn_pack(d->kernel, packed, weight);
    winograd_pack(&d->tiles, packed, weight, threads);
    return THAW_OK;
}
