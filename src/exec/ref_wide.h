/*
 * ref_wide - bf16 operands as the reference kernels' own type.
 *
 * A kernel sees copies of a step's bf16 operands, and of a weight rounded to bf16 where the step
 * computes in bf16; what it makes is rounded to nearest even when the step is done. So a step is
 * rounded once, however many posts it has, as in a library that sums in f32.
 */
#ifndef THAW_EXEC_REF_WIDE_H
#define THAW_EXEC_REF_WIDE_H

#include "exec/exec.h"

/* Bytes of all copies of a step; 0: it has no bf16. */
size_t ref_wide_bytes(const plan *p, const plan_step *step);

/* Make the copies of what step i reads, at `wide`. */
void ref_widen(const exec_session *s, int i, char *wide);

/* Have the operands of a call of step i, its own or a post's, be the copies. */
void ref_use_wide(exec_call *c, const exec_session *s, int i, char *wide);

/* Round what the step made. */
void ref_narrow(const exec_session *s, int i, char *wide);

#endif
