/*
 * tensor - element types, shapes, and plain dense arrays of numbers.
 *
 * All tensors are dense and row-major; activations are channels-last ([B, H, W, C] or [rows,
 * features]), weights have PyTorch's layout ([out, in], [out, in/groups, kh, kw]). Knows nothing of
 * graphs or of the names of layers.
 */
#ifndef THAW_TENSOR_H
#define THAW_TENSOR_H

#include "base/base.h"

typedef enum dtype {
    DTYPE_F32,
    DTYPE_F64,
    DTYPE_BF16,
    DTYPE_F16,
    DTYPE_I64,
    DTYPE_I32,
    DTYPE_I16,
    DTYPE_I8,
    DTYPE_U8,
    DTYPE_BOOL,
    DTYPE_COUNT
} dtype;

size_t dtype_size(dtype d);             /* bytes of one element */
const char *dtype_name(dtype d);        /* "f32" */
const char *dtype_safetensors(dtype d); /* "F32" */
bool dtype_find_safetensors(dtype *out, const char *name);
bool dtype_is_float(dtype d);

#define SHAPE_MAX_RANK 6

/* Symbolic axes: bound to a number when a plan is compiled. They may stand only at axis 0 (batch)
 * and 1 (length). */
#define DIM_BATCH  (-1)
#define DIM_LENGTH (-2)

typedef struct shape {
    int rank;
    int64_t dim[SHAPE_MAX_RANK];
} shape;

shape shape_of(int rank, const int64_t *dim);
shape shape_1(int64_t a);
shape shape_2(int64_t a, int64_t b);
shape shape_4(int64_t a, int64_t b, int64_t c, int64_t d);
bool shape_equal(const shape *a, const shape *b);
bool shape_is_bound(const shape *s);                  /* no symbolic axis */
char *shape_format(char buffer[128], const shape *s); /* "[B, 56, 56, 64]"; returns buffer */

/* Product of the axes, checked: THAW_E_SHAPE names the axis that is negative or makes it overflow.
 */
thaw_status shape_elements(size_t *out, const shape *s) THAW_MUST_USE;
thaw_status shape_bytes(size_t *out, const shape *s, dtype d) THAW_MUST_USE;

/*
 * Convert n elements between float types (F32, F64, BF16, F16), rounding to nearest even; and from
 * the integer types to F32/F64. src and dst do not overlap. THAW_E_SUPPORT for any other pair.
 */
thaw_status tensor_convert(void *dst, dtype to, const void *src, dtype from,
                           size_t n) THAW_MUST_USE;

/* Sum of the squares in double, in a fixed pairwise order. */
double tensor_sum_squares(const void *data, dtype d, size_t n);

/* Where such a sum of n numbers is cut in two, each summed by itself; 0: it is not. */
size_t tensor_sum_half(size_t n);

bool tensor_all_finite(const void *data, dtype d, size_t n);

#endif
