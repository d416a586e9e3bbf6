/*
 * ref.c - the reference executor: hands a step's operands to the plain kernel of its op.
 *
 * The one idea: a kernel always replaces what it writes. Where a gradient must be added to instead,
 * the kernel writes to the step's scratch and the sum is made here, so no kernel knows of it.
 *
 * Knows nothing of what a kernel computes; it serves every other executor for what that lacks.
 */
#include "exec/exec.h"

#include "exec/ref_wide.h"

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

/* Of a slot's elements in the kernels' own type. */
static size_t real_bytes(const plan *p, int slot)
{
    const plan_slot *const from = &p->slot[slot];

    return align_up(from->bytes / dtype_size(from->dtype) * dtype_size(p->real));
}

/*
 * Posts run one after the other over the result. Where one of them adds, the output may be the
 * memory of what is added, and backward the gradient that comes in is not ours to change: then the
 * result is kept aside until the last.
 */
static size_t chain_bytes(const plan *p, const plan_step *step)
{
    if (step->n_post == 0 || !(step->wrt || exec_step_sums(step)))
        return 0;
    return real_bytes(p, step->wrt ? step->in[0] : step->out[0]);
}

/* A gradient that is to be added to another is made aside, too. */
static size_t sum_bytes(const plan *p, const plan_step *step)
{
    return step->wrt && exec_step_sums(step) ? real_bytes(p, step->out[0]) : 0;
}

static size_t kernel_bytes(const plan *p, op_kind op, const exec_call *c)
{
    const ref_kernel *const kernel =
        p->real == DTYPE_F64 ? &ref_kernels_f64[op] : &ref_kernels_f32[op];

    return kernel->scratch ? kernel->scratch(c) * sizeof(double) : 0;
}

/* Gradients to be added first, then the result of posts, copies of bf16, and what the kernels want.
 */
static size_t ref_scratch(const exec *e, const plan *p, const plan_step *step)
{
    size_t bytes = chain_bytes(p, step) + sum_bytes(p, step) + ref_wide_bytes(p, step), most;
    exec_call c;

    (void)e;
    for (int k = 0; k < step->n_out; k++)
        bytes += aside_bytes(p, step->out[k]);
    exec_step_shapes(&c, p, step);
    most = kernel_bytes(p, step->op, &c);
    for (int k = 0; k < step->n_post; k++) {
        exec_post_shapes(&c, p, step, k);
        most = THAW_MAX(most, kernel_bytes(p, step->post[k].op, &c));
    }
    return bytes + most;
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

static const ref_kernel *post_kernel(const plan *p, const plan_post *post)
{
    return p->real == DTYPE_F64 ? &ref_kernels_f64[post->op] : &ref_kernels_f32[post->op];
}

/* Where a step's memory beside its operands is. */
typedef struct ref_room {
    char *made;   /* gradients that are to be added */
    char *aside;  /* the result of posts, then a gradient to be added to another */
    char *wide;   /* NULL: nothing is bf16 */
    void *kernel; /* the kernels' own */
} ref_room;

static ref_room room_of(const exec_session *s, int i)
{
    const plan_step *const step = &s->plan->step[i];
    const size_t aside = chain_bytes(s->plan, step) + sum_bytes(s->plan, step);
    const size_t wide = ref_wide_bytes(s->plan, step);
    char *at = exec_step_scratch(s, i);
    ref_room room = {.made = at};

    if (!at)
        return room;
    for (int k = 0; k < step->n_out; k++)
        at += aside_bytes(s->plan, step->out[k]);
    room.aside = at;
    room.wide = wide > 0 ? at + aside : NULL;
    room.kernel = at + aside + wide;
    return room;
}

static void post_call(exec_call *c, const exec_session *s, int i, int k, const ref_room *room)
{
    exec_post_call(c, s, i, k);
    ref_use_wide(c, s, i, room->wide);
    c->scratch = room->kernel;
}

/* Forward: from `from` to `out`, over `from` in between. */
static void run_posts(const exec_session *s, int i, void *from, void *out, const ref_room *room)
{
    const plan_step *const step = &s->plan->step[i];

    for (int k = 0; k < step->n_post; k++) {
        exec_call c;

        post_call(&c, s, i, k, room);
        c.in[step->post[k].chain].data = from;
        c.out[0].data = k == step->n_post - 1 ? out : from;
        post_kernel(s->plan, &step->post[k])->forward(&c);
    }
}

/* Backward: the gradient that the step's own op takes, from the one that comes in. */
static void *run_posts_backward(const exec_session *s, int i, const exec_operand *d, void *to,
                                const ref_room *room)
{
    const plan_step *const step = &s->plan->step[i];

    const void *from = d->data;

    for (int k = step->n_post; k-- > 0;) {
        exec_call c;

        if (step->post[k].op == OP_ADD)
            continue;
        post_call(&c, s, i, k, room);
        c.d_out[0].data = (void *)(uintptr_t)from;
        from = to;
        c.d_in[step->post[k].chain].data = to;
        post_kernel(s->plan, &step->post[k])->backward(&c);
    }
    return (void *)(uintptr_t)from;
}

/* The sum of the gradient that was made and the one that was there. */
static void run_sum(const exec_session *s, int i, void *made, void *out, const ref_room *room)
{
    const plan_step *const step = &s->plan->step[i];
    const int k = step->n_post - 1;
    exec_call c;

    post_call(&c, s, i, k, room);
    c.in[step->post[k].chain].data = made;
    c.out[0].data = out;
    post_kernel(s->plan, &step->post[k])->forward(&c);
}

static void run_backward(const exec_session *s, int i, exec_call *c, const ref_room *room)
{
    const plan_step *const step = &s->plan->step[i];
    const bool sums = exec_step_sums(step);
    void *const out = c->d_in[0].data;
    char *const made = sums ? room->aside + chain_bytes(s->plan, step) : NULL;

    c->d_out[0].data = run_posts_backward(s, i, &c->d_out[0], room->aside, room);
    if (sums)
        c->d_in[0].data = made;
    kernel_of(s->plan, step)->backward(c);
    if (sums)
        run_sum(s, i, made, out, room);
}

static void run_forward(const exec_session *s, int i, exec_call *c, const ref_room *room)
{
    void *const out = c->out[0].data;

    if (chain_bytes(s->plan, &s->plan->step[i]) > 0)
        c->out[0].data = room->aside;
    kernel_of(s->plan, &s->plan->step[i])->forward(c);
    run_posts(s, i, c->out[0].data, out, room);
}

static thaw_status ref_run(exec_session *s, int i)
{
    const plan_step *const step = &s->plan->step[i];
    const ref_room room = room_of(s, i);
    char *aside = room.made;
    exec_operand *made;
    exec_call c;

    exec_step_call(&c, s, i);
    made = step->wrt ? c.d_in : c.out;
    for (int k = 0; k < step->n_out; k++) {
        if (exec_step_adds(s, step->out[k]))
            made[k].data = aside;
        if (aside)
            aside += aside_bytes(s->plan, step->out[k]);
    }
    c.scratch = room.kernel;
    if (room.wide)
        ref_widen(s, i, room.wide);
    ref_use_wide(&c, s, i, room.wide);
    if (!step->wrt)
        run_forward(s, i, &c, &room);
    else if (step->n_post > 0)
        run_backward(s, i, &c, &room);
    else
        kernel_of(s->plan, step)->backward(&c);
    if (room.wide)
        ref_narrow(s, i, room.wide);

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
