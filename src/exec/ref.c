/*
 * ref.c - the reference executor: hands a step's operands to the plain kernel of its op.
 *
 * The one idea: a kernel always replaces what it writes. Where a gradient must be added to instead,
 * the kernel writes to the step's scratch and the sum is made here, so no kernel knows of it.
 *
 * Knows nothing of what a kernel computes; it serves every other executor for what that lacks.
 */
#include "exec/exec.h"

#include <stdio.h>

#define ALIGNMENT 64

static const ref_kernel *kernel_of(const plan *p, const plan_step *step)
{
    return p->real == DTYPE_F64 ? &ref_kernels_f64[step->op] : &ref_kernels_f32[step->op];
}

static size_t align_up(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* Room to make a gradient in before it is added; 0 for any other output. */
static size_t aside_bytes(const plan *p, int slot)
{
    const bool grad = slot >= 0 && p->slot[slot].place == SLOT_GRAD;

    return grad ? align_up(p->slot[slot].bytes) : 0;
}

static bool ref_supports(const exec *e, const plan *p, const plan_step *step)
{
    (void)e;
    (void)p;
    (void)step;
    return true;
}

/* Gradients to be added first, then what the kernel wants for itself. */
static size_t ref_scratch(const exec *e, const plan *p, const plan_step *step)
{
    const ref_kernel *const kernel = kernel_of(p, step);
    size_t bytes = 0;
    exec_call c;

    (void)e;
    for (int k = 0; k < step->n_out; k++)
        bytes += aside_bytes(p, step->out[k]);
    exec_step_shapes(&c, p, step);
    if (kernel->scratch)
        bytes += kernel->scratch(&c) * sizeof(double);
    return bytes;
}

static void add_into(void *to, const exec_operand *from)
{
    if (from->dtype == DTYPE_F64)
        for (size_t i = 0; i < from->elements; i++)
            ((double *)to)[i] += ((const double *)from->data)[i];
    else
        for (size_t i = 0; i < from->elements; i++)
            ((float *)to)[i] += ((const float *)from->data)[i];
}

static thaw_status ref_run(exec_session *s, int i)
{
    const plan_step *const step = &s->plan->step[i];
    const ref_kernel *const kernel = kernel_of(s->plan, step);
    char *scratch = exec_step_scratch(s, i);
    exec_operand *made;
    exec_call c;

    exec_step_call(&c, s, i);
    made = step->wrt ? c.d_in : c.out;
    for (int k = 0; k < step->n_out; k++) {
        if (exec_step_adds(s, step->out[k]))
            made[k].data = scratch;
        if (scratch)
            scratch += aside_bytes(s->plan, step->out[k]);
    }
    c.scratch = scratch;

    (step->wrt ? kernel->backward : kernel->forward)(&c);

    for (int k = 0; k < step->n_out; k++)
        if (exec_step_adds(s, step->out[k]))
            add_into(exec_step_pointer(s, step->out[k]), &made[k]);
    return THAW_OK;
}

static void ref_describe(char buffer[128])
{
    snprintf(buffer, 128, "plain loops, sums in f64");
}

const exec_ops exec_ref = {
    .name = "ref",
    .supports = ref_supports,
    .scratch = ref_scratch,
    .run = ref_run,
    .describe = ref_describe,
};
