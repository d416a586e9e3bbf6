/*
 * ref_wide.c - bf16 operands as the reference kernels' own type; see ref_wide.h.
 *
 * The one idea: a copy is found by the address of what it is a copy of, so an operand that two
 * places of a step share, or an output over an input, is one copy as it is one operand. Knows
 * nothing of what a kernel computes.
 */
#include "exec/ref_wide.h"

#define ALIGNMENT 64
#define BLOCK     256 /* elements rounded at once */

static int count_slots(const plan_step *step)
{
    return step->n_reads + step->n_out;
}

/* The slots of a step, by number: those it reads, then those it makes. -1: left out. */
static int slot_at(const plan_step *step, int k)
{
    return k < step->n_reads ? step->in[k] : step->out[k - step->n_reads];
}

/* Its weight is rounded, too, where the activation it stands with is bf16. */
static bool is_rounded(const plan *p, const plan_step *step, int k)
{
    const int first = step->wrt == 0 ? 0 : op_table[step->op].n_outputs;
    const int activation = step->in[0];

    return (step->op == OP_CONV2D || step->op == OP_LINEAR) && k == first + 1 && activation >= 0 &&
           p->slot[activation].dtype == DTYPE_BF16;
}

static size_t copy_bytes(const plan *p, const plan_step *step, int k)
{
    const int slot = slot_at(step, k);
    size_t bytes;

    if (slot < 0 || !(p->slot[slot].dtype == DTYPE_BF16 || is_rounded(p, step, k)))
        return 0;
    bytes = p->slot[slot].bytes / dtype_size(p->slot[slot].dtype) * dtype_size(p->real);
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

size_t ref_wide_bytes(const plan *p, const plan_step *step)
{
    size_t bytes = 0;

    for (int k = 0; k < count_slots(step); k++)
        bytes += copy_bytes(p, step, k);
    return bytes;
}

/* The copy of what is at an address; NULL: it has none. */
static void *copy_of(const exec_session *s, int i, char *wide, const void *data)
{
    const plan_step *const step = &s->plan->step[i];

    for (int k = 0; data && k < count_slots(step); k++) {
        const size_t bytes = copy_bytes(s->plan, step, k);

        if (bytes > 0 && exec_step_pointer(s, slot_at(step, k)) == data)
            return wide;
        wide += bytes;
    }
    return NULL;
}

/* The types are float types, so that converting cannot fail. */
static void convert(void *dst, dtype to, const void *src, dtype from, size_t n)
{
    const thaw_status status = tensor_convert(dst, to, src, from, n);

    THAW_ASSERT(status == THAW_OK);
    (void)status;
}

static void copy_rounded(char *to, const char *from, dtype real, size_t n)
{
    const size_t size = dtype_size(real);
    uint16_t narrow[BLOCK];

    for (size_t i = 0; i < n; i += BLOCK) {
        const size_t some = THAW_MIN(n - i, (size_t)BLOCK);

        convert(narrow, DTYPE_BF16, from + i * size, real, some);
        convert(to + i * size, real, narrow, DTYPE_BF16, some);
    }
}

void ref_widen(const exec_session *s, int i, char *wide)
{
    const plan *const p = s->plan;
    const plan_step *const step = &p->step[i];

    for (int k = 0; k < step->n_reads; k++) {
        const size_t bytes = copy_bytes(p, step, k);
        const plan_slot *const slot = bytes > 0 ? &p->slot[step->in[k]] : NULL;
        const size_t n = slot ? slot->bytes / dtype_size(slot->dtype) : 0;

        if (slot && slot->dtype == DTYPE_BF16)
            convert(wide, p->real, exec_step_pointer(s, step->in[k]), DTYPE_BF16, n);
        else if (slot)
            copy_rounded(wide, exec_step_pointer(s, step->in[k]), p->real, n);
        wide += bytes;
    }
}

static void use(exec_operand *operand, int n, const exec_session *s, int i, char *wide)
{
    for (int k = 0; k < n; k++) {
        void *const copy = copy_of(s, i, wide, operand[k].data);

        if (copy)
            operand[k].data = copy;
        if (operand[k].dtype == DTYPE_BF16)
            operand[k].dtype = s->plan->real;
    }
}

void ref_use_wide(exec_call *c, const exec_session *s, int i, char *wide)
{
    if (!wide)
        return;
    use(c->in, OP_MAX_INPUTS, s, i, wide);
    use(c->out, OP_MAX_OUTPUTS, s, i, wide);
    use(c->d_in, OP_MAX_INPUTS, s, i, wide);
    use(c->d_out, OP_MAX_OUTPUTS, s, i, wide);
}

void ref_narrow(const exec_session *s, int i, char *wide)
{
    const plan *const p = s->plan;
    const plan_step *const step = &p->step[i];

    for (int k = 0; k < step->n_out; k++) {
        const plan_slot *const slot = step->out[k] < 0 ? NULL : &p->slot[step->out[k]];
        void *const data = exec_step_pointer(s, step->out[k]);

        if (slot && slot->dtype == DTYPE_BF16)
            convert(data, DTYPE_BF16, copy_of(s, i, wide, data), p->real, slot->bytes / 2);
    }
}
