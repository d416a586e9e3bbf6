/*
 * choose - which kernel a dense layer gets where several give the same result, but for rounding: a
 * pure table of the layer's shape, and before it a list of choices that were made by measuring.
 *
 * A frozen layer's choice is for its shape and role, whatever the batch and whatever is done in the
 * same pass: so a prefix by itself runs as it does within the whole network, and gives the same
 * bits. Where the weight learns, the table looks at the batch, too.
 */
#ifndef THAW_EXEC_CHOOSE_H
#define THAW_EXEC_CHOOSE_H

#include "exec/fast.h"

#include "exec/dnn.h"
#include "exec/winograd.h"

/* Whether a problem, as the layer states it, can be computed so, with the same result. */
bool choice_possible(const dnn_problem *p, exec_way way);

/* Whether it may be computed so: possible, and among these ways or without a kernel in the library.
 */
bool choice_allowed(const dnn_problem *p, exec_way way, unsigned ways);

/* The way of the table: of the problem and what is allowed alone. */
exec_way choice_by_table(const dnn_problem *p, unsigned ways);

/* ----------------------------------------------------------------------------------------------
 * choices made before */

typedef struct choice {
    dnn_problem key;           /* a problem less batch, bias, addend and activation */
    exec_way way, table;       /* that is possible; the table's, for the batch that was measured */
    double seconds[EXEC_WAYS]; /* as measured; NAN: not */
} choice;

typedef struct choice_list {
    choice *item;
    int n, capacity;
} choice_list;

dnn_problem choice_key(const dnn_problem *p);
const choice *choice_find(const choice_list *list, const dnn_problem *p); /* NULL: none */
thaw_status choice_add(choice_list *list, const choice *c) THAW_MUST_USE;
void choice_list_done(choice_list *list);

/* The choice made before where that is allowed, else the table's. */
exec_way choice_of(const choice_list *list, const dnn_problem *p, unsigned ways);

/*
 * A key as text: "forward of convolution 64 x 56 x 56 to 256 x 56 x 56, window 1 x 1, …". Parse
 * reads what format writes, and nothing else.
 */
void choice_format(char out[EXEC_CHOICE_TEXT], const dnn_problem *key);
bool choice_parse(dnn_problem *out, const char *text);

/* ----------------------------------------------------------------------------------------------
 * a way made real (dense.c) */

typedef struct dense {
    bool ready;               /* it can run */
    const dnn_kernel *kernel; /* NULL: code of our own */
    fast_depthwise loops;
    winograd tiles; /* batch 0: none */
    dnn_role role;
    fast_pixels pixels; /* gathered as rows (batch 0: the image as it is) */
    bool makes_bias;    /* weight: the bias's gradient, too; else fast_column_sum does */
} dense;

/* The kernel of a problem in a possible way. */
dense dense_find(dnn_library *library, const dnn_problem *p, exec_way way);
size_t dense_scratch(const dense *d, int threads);
thaw_status dense_run(const dense *d, const dnn_operands *operands, int threads) THAW_MUST_USE;

/* The weight as it reads it; 0 bytes: in PyTorch's layout, or not at all. */
size_t dense_packed_bytes(const dense *d);
bool dense_same_packing(const dense *a, const dense *b);
thaw_status dense_pack(const dense *d, void *packed, const float *weight,
                       int threads) THAW_MUST_USE;

/*
 * Run a problem in all ways that are allowed and want hardly more scratch than the table's, so
 * that the memory predicted without measuring is enough; on numbers of its own, and choose the
 * fastest (measure.c). Memory for the operands is given back. Errors: THAW_E_NOMEM, THAW_E_OS.
 */
thaw_status measure_ways(choice *out, dnn_library *library, const dnn_problem *p, unsigned ways,
                         int threads) THAW_MUST_USE;

#endif
