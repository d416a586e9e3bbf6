/*
 * packing - copies of parameters as kernels want them: in another layout, with a norm folded in, or
 * both.
 *
 * A copy belongs to (parameters, layout), is shared by all sessions awake, and is made again only
 * when the version of a parameter it was made of has changed. So frozen weights are packed once.
 */
#ifndef THAW_EXEC_PACKING_H
#define THAW_EXEC_PACKING_H

#include "exec/exec.h"

#include "exec/choose.h"

/* What a copy is made of, by tensor number, -1: none. Compared as bytes: start from zero. */
typedef struct packing_source {
    int32_t weight;
    int32_t folds;   /* a norm is folded in */
    int32_t bias;    /* the convolution's; members from here on only where a norm is folded in */
    int32_t norm[4]; /* its weight, bias, running mean and variance */
    int32_t unused;
    double eps;
} packing_source;

typedef struct packing packing;
typedef struct packing_list {
    packing *first;
} packing_list;

/*
 * The copy for a kernel, one use more; made, but not filled, where there is none. NULL: the kernel
 * reads the parameter as it is. THAW_E_NOMEM.
 */
thaw_status packing_use(packing **out, exec *e, packing_list *list, const dense *reader,
                        const packing_source *source) THAW_MUST_USE;
void packing_leave(packing *p); /* one use less; NULL: nothing */

/* Copies to be counted before they are made: each once. room: for as many as are added. */
typedef struct packing_count {
    struct packing_need {
        dense reader;
        packing_source source;
    } * need;
    int n;
    size_t bytes;
} packing_count;
void packing_add_need(packing_count *c, const exec *e, const dense *reader,
                      const packing_source *source);

/* Give back what nobody uses. */
void packing_drop_unused(exec *e, packing_list *list);

/* Scratch that packing_weight wants, in bytes, for a weight of so many. */
size_t packing_scratch(const dense *reader, const packing_source *source, size_t bytes);

/* The weight, packed again where it is old, and the bias of the folded convolution, which is left
 * as it is where nothing is folded. */
thaw_status packing_weight(const void **weight, const float **bias, const exec *e, packing *p,
                           void *scratch) THAW_MUST_USE;

/* Sum of the versions of what a copy is made of: changes with each of them. */
uint64_t packing_version(const exec *e, const packing_source *source);

/* Whether all that a copy is made of are numbers. */
bool packing_is_finite(const exec *e, const packing_source *source);

#endif
