/*
 * winograd - convolutions with a window of three by three pixels, with a quarter of the
 * multiplications; f32, channels last, no pixel skipped.
 *
 * F(4 x 4, 3 x 3) of A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks"
 * (2016): the output is cut into tiles of 4 x 4 pixels, each made from 6 x 6 pixels of the input.
 * These, and the window, are turned into 36 numbers each, which are multiplied one by one and
 * summed over channels (36 products of matrices), and the sums turned back.
 *
 * The numbers are the values of polynomials at 0, ±3/4, ±3/2 and infinity. Over 64 channels the
 * result then differs from the exact one by 6e-7 (root of the mean square, relative); the plain sum
 * differs by 3e-7, and the usual points 0, ±1, ±2 by 1.3e-6.
 *
 * A pixel's bits depend on its tile alone: not on the batch and not on the number of threads.
 */
#ifndef THAW_EXEC_WINOGRAD_H
#define THAW_EXEC_WINOGRAD_H

#include "exec/dnn.h"

/* A problem that can be computed so; sizes as the sum sees them: a gradient of the input has its
 * channels and kernels, and the two images, exchanged. */
typedef struct winograd {
    int64_t batch, height, width, channels; /* batch 0: none */
    int64_t out_height, out_width, kernels;
    int64_t pad[2];
    int32_t role; /* dnn_role */
    int32_t adds, activation;
} winograd;

/* Numbers of channels and kernels are multiples of it. */
#define WINOGRAD_CHANNELS 32

bool winograd_possible(const dnn_problem *p);

/* The plain sum's multiplications per one of this way; tiles that reach over the edge cost as
 * others do. */
double winograd_saving(const dnn_problem *p);
winograd winograd_of(const dnn_problem *p);

/* Scratch of a run in bytes. */
size_t winograd_scratch(const winograd *w, int threads);

/* The window as 36 matrices; forward, and for the gradient of the input. 64-byte aligned. */
size_t winograd_packed_bytes(const winograd *w);
bool winograd_same_packing(const winograd *a, const winograd *b);
void winograd_pack(const winograd *w, float *packed, const float *weight, int threads);

/* As dnn_run; the weight's gradient comes without the bias's. */
void winograd_run(const winograd *w, const dnn_operands *o, int threads);

#endif
