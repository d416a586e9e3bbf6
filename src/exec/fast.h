/*
 * fast - vectorised loops for everything that is not a large matrix product: norms, activations,
 * sums, pooling, small linear layers; f32, channels last; activations of most may be bf16.
 *
 * Sums are cut into pieces by the shapes alone, each piece is summed in f32 over short blocks and
 * the blocks in double, in order: bits depend on neither the number of threads nor the run.
 */
#ifndef THAW_EXEC_FAST_H
#define THAW_EXEC_FAST_H

#include "base/clones.h"
#include "exec/exec.h"

/* For leaf functions with the hot loops. */
#define FAST_CLONES THAW_CLONES

/* What such functions share is compiled into each copy. */
#define FAST_INLINE static inline __attribute__((always_inline))

/* In front of a loop: its rounds do not depend on each other. */
#ifdef _OPENMP
#define FAST_SIMD _Pragma("omp simd")
#else
#define FAST_SIMD
#endif

/* Number of OpenMP threads from here on, for this thread's parallel regions and oneDNN's. */
void fast_set_threads(int threads);

/*
 * Call work(job, first, last) on pieces of [0, n), one for each thread, or once when n is less than
 * `least`. What work does for a number must not depend on how [0, n) was cut.
 */
typedef void fast_work(const void *job, int64_t first, int64_t last);
void fast_parallel(int threads, int64_t n, int64_t least, fast_work *work, const void *job);

/*
 * What norms and sums do in the same pass. Forward: the result plus addend, then clipped to [0,
 * limit]. Backward: the gradient counts only where the result was not clipped; this is found out
 * again from a norm's own operands, or from what was clipped where they are not there.
 */
typedef struct fast_post {
    const float *addend; /* NULL: none; may be the output's memory */
    bool clips;
    float limit;          /* NAN, which nothing reaches: none */
    const float *clipped; /* backward: the result */
    const float *weight;  /* backward: the norm's, and its bias */
    const float *bias;
} fast_post;

/* A step for these loops: the operands, and which gradients are added to instead of replaced. */
typedef struct fast_call {
    exec_call op;
    fast_post post;
    int threads;
    bool add[OP_MAX_INPUTS];
} fast_call;

typedef void fast_kernel_fn(const fast_call *c);
typedef struct fast_kernel {
    fast_kernel_fn *forward, *backward;                 /* NULL: none, ref runs it */
    size_t (*scratch)(const exec_call *c, int threads); /* bytes; NULL: none */
    bool adds; /* backward heeds `add`; else gradients that are added to are ref's */
    bool bf16; /* takes bf16 activations, too; else these are ref's */
} fast_kernel;

extern const fast_kernel fast_kernels[OP_COUNT];

fast_kernel_fn fast_relu, fast_relu_backward, fast_relu6, fast_relu6_backward, fast_add;
fast_kernel_fn fast_batch_norm_train, fast_batch_norm_train_backward;
fast_kernel_fn fast_batch_norm_infer, fast_batch_norm_infer_backward;
fast_kernel_fn fast_batch_norm_again;
fast_kernel_fn fast_max_pool, fast_max_pool_backward, fast_avg_pool, fast_avg_pool_backward;
fast_kernel_fn fast_small_linear, fast_small_linear_backward;
fast_kernel_fn fast_global_pool, fast_global_pool_backward;
fast_kernel_fn fast_layer_norm, fast_layer_norm_backward, fast_rms_norm, fast_rms_norm_backward;
fast_kernel_fn fast_gelu, fast_gelu_backward, fast_attention, fast_attention_backward;
fast_kernel_fn fast_tokens, fast_tokens_backward, fast_token, fast_token_backward;
fast_kernel_fn fast_cross_entropy, fast_cross_entropy_backward, fast_argmax;
fast_kernel_fn fast_cast, fast_cast_backward;

/* n bf16 numbers to floats; and back, rounded to nearest even. */
void fast_widen(float *restrict to, const uint16_t *restrict from, int64_t n);
void fast_narrow(uint16_t *restrict to, const float *restrict from, int64_t n);

/*
 * The pieces in which loops over bf16 rows of C channels go: whole rows where they fit, else a part
 * of one, so that a piece is one range of memory.
 */
#define FAST_TILE 2048
typedef struct fast_tile {
    int64_t rows, columns;
} fast_tile;
fast_tile fast_tile_of(int64_t rows, int64_t C);

/* n elements of a bf16 tensor from `offset` on as floats, at `room`; NULL where there is none. */
const float *fast_widened(float *room, const void *from, int64_t offset, int64_t n);

/* Whether a linear step is so small, for one sample, that fast_small_linear does it. */
bool fast_is_small_linear(const plan *p, const plan_step *step);

/* An image [batch, height, width, channels], of which a window of one pixel sees out_height times
 * out_width pixels. */
typedef struct fast_pixels {
    int64_t batch, height, width, channels, out_height, out_width, stride[2];
    size_t size; /* bytes of a channel */
} fast_pixels;

/* Gather them as rows [batch * out_height * out_width, channels]; and put them back, zeros between.
 */
void fast_take_pixels(void *rows, const void *image, const fast_pixels *p, int threads);
void fast_put_pixels(void *image, const void *rows, const fast_pixels *p, int threads);

/*
 * d_weight = (add ? d_weight : 0) + the gradient of a convolution whose channels are each by
 * themselves: src [batch, height, width, channels], d_dst likewise, d_weight [channels, 1, rows,
 * columns] of a window of at most FAST_DEPTHWISE_TAPS.
 */
#define FAST_DEPTHWISE_TAPS 49
typedef struct fast_depthwise {
    int64_t batch, height, width, channels, out_height, out_width;
    int64_t window[2], stride[2], pad[2], dilation[2];
} fast_depthwise;
void fast_depthwise_weight(float *d_weight, const float *src, const float *d_dst,
                           const fast_depthwise *p, bool add, int threads);

/* Scratch for any batch norm on this shape, or for fast_column_sum, in bytes. */
size_t fast_norm_scratch(const exec_call *c, int threads);
size_t fast_pool_scratch(const exec_call *c, int threads);
size_t fast_row_norm_scratch(const exec_call *c, int threads);
size_t fast_attention_scratch(const exec_call *c, int threads);
size_t fast_cross_entropy_scratch(const exec_call *c, int threads);
size_t fast_column_scratch(int64_t rows, int64_t columns);

/* dst[j] = (add ? dst[j] : 0) + sum over i of src[i, j]. src: f32 or bf16; scratch:
 * fast_column_scratch. */
void fast_column_sum(float *dst, const void *src, dtype type, int64_t rows, int64_t columns,
                     bool add, void *scratch, int threads);

/*
 * dst = (add ? dst : 0) + a b for small matrices: dst [rows, columns], a [rows, terms], b [terms,
 * columns]. Each has the distance between its rows; a's terms have one too, so a may be a
 * transpose. rows and columns are multiples of the two numbers below. On the calling thread.
 */
#define FAST_PRODUCT_ROWS    8
#define FAST_PRODUCT_COLUMNS 16
typedef struct fast_product {
    float *dst;
    const float *a, *b;
    int64_t rows, columns, terms;
    int64_t dst_row, a_row, a_term, b_row;
    int64_t ahead; /* the next product's b lies so far behind this one's, and is brought nearer
                      meanwhile; 0: nothing */
    bool add;
} fast_product;
void fast_multiply(const fast_product *p);

#endif
