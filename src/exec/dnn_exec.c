/*
 * dnn_exec.c - the fast executor: convolutions and linear layers on oneDNN, everything else on
 * vectorised loops, the rest left to ref.
 *
 * The one idea: a weight that a kernel wants in another layout is packed once and packed again only
 * when its parameter's version has changed; the packed copy belongs to (parameter, layout) and is
 * shared by all sessions that are awake. So frozen weights are packed once.
 *
 * Knows nothing of why a step is in the plan.
 */
#include "exec/exec.h"

#include "exec/dnn.h"
#include "exec/fast.h"

/* A packed copy of a parameter. */
typedef struct packing {
    struct packing *next;
    const dnn_kernel *kernel; /* one of those it serves: it knows the layout */
    int tensor;               /* which parameter */
    int users;                /* steps of sessions awake */
    uint64_t version;
    size_t bytes;
    void *data;
} packing;

typedef struct dnn_state {
    dnn_library *library;
    packing *packings;
} dnn_state;

/* What a step of a session needs beyond its slots. */
typedef struct dnn_step {
    const dnn_kernel *kernel[3]; /* by role; NULL: not in this step */
    packing *packing;            /* NULL: the kernel reads the plain weight */
} dnn_step;

/* ----------------------------------------------------------------------------------------------
 * problems */

/* Steps for oneDNN. */
static bool is_dense(const plan *p, const plan_step *step)
{
    return step->op == OP_CONV2D || (step->op == OP_LINEAR && !fast_is_small_linear(p, step));
}

static const exec_operand *either(const exec_operand *a, const exec_operand *b)
{
    return a->shape ? a : b;
}

static void fill_linear(dnn_problem *p, int64_t rows, int64_t channels, int64_t kernels)
{
    p->linear = 1;
    p->batch = rows;
    p->channels = channels;
    p->kernels = kernels;
}

static void fill_convolution(dnn_problem *p, const op_attrs *attrs, const shape *src,
                             const shape *weight, const shape *dst)
{
    p->batch = src->dim[0];
    p->height = src->dim[1];
    p->width = src->dim[2];
    p->channels = src->dim[3];
    p->kernels = weight->dim[0];
    p->out_height = dst->dim[1];
    p->out_width = dst->dim[2];
    p->groups = attrs->conv.groups;
    for (int i = 0; i < 2; i++) {
        p->window[i] = weight->dim[2 + i];
        p->stride[i] = attrs->conv.stride[i];
        p->pad[i] = attrs->conv.pad[i];
        p->dilation[i] = attrs->conv.dilation[i];
    }
}

/* A window of one pixel that moves by one: the data gradient is a product of matrices, for which
 * the library has the faster kernels (up to twice as fast on small images, never slower). */
static bool is_pointwise(const dnn_problem *p)
{
    return p->groups == 1 && p->window[0] == 1 && p->window[1] == 1 && p->stride[0] == 1 &&
           p->stride[1] == 1 && p->pad[0] == 0 && p->pad[1] == 0;
}

/*
 * The problem of a step in one role. false when the step's operands do not say all of it: a
 * gradient of the bias alone.
 */
static bool problem_of(dnn_problem *p, const exec_call *c, op_kind op, dnn_role role)
{
    const exec_operand *const src = either(&c->in[0], &c->d_in[0]);
    const exec_operand *const weight = either(&c->in[1], &c->d_in[1]);
    const exec_operand *const dst = either(&c->out[0], &c->d_out[0]);

    *p = (dnn_problem){.role = role};
    if (!src->shape || !weight->shape || !dst->shape)
        return false;
    p->bias = role == DNN_FORWARD           ? c->in[2].shape != NULL
              : role == DNN_BACKWARD_WEIGHT ? (c->wrt & OP_IN(2)) != 0
                                            : 0;
    if (op == OP_LINEAR) {
        const int64_t channels = weight->shape->dim[1];

        fill_linear(p, (int64_t)src->elements / channels, channels, weight->shape->dim[0]);
        return true;
    }
    fill_convolution(p, c->attrs, src->shape, weight->shape, dst->shape);
    if (role == DNN_BACKWARD_DATA && is_pointwise(p)) {
        const dnn_problem whole = *p;

        *p = (dnn_problem){.role = role};
        fill_linear(p, whole.batch * whole.height * whole.width, whole.channels, whole.kernels);
    }
    return true;
}

/*
 * A bug of oneDNN (its number 6035), in 2.6.3 too: the weight gradient of a window of one pixel
 * that moves by more gathers the pixels first, whole vectors of channels; with fewer channels than
 * a vector (of eight or sixteen) it writes past its scratch, over other tensors, and may use what
 * it finds there.
 */
static bool overruns(const dnn_problem *p)
{
    return p->role == DNN_BACKWARD_WEIGHT && !p->linear && p->window[0] == 1 && p->window[1] == 1 &&
           (p->stride[0] > 1 || p->stride[1] > 1) && p->pad[0] == 0 && p->pad[1] == 0 &&
           p->channels / p->groups < 16;
}

static bool has_role(const exec_call *c, dnn_role role)
{
    if (role == DNN_FORWARD)
        return c->wrt == 0;
    return (c->wrt & (role == DNN_BACKWARD_DATA ? OP_IN(0) : OP_IN(1))) != 0;
}

/* The kernels of a dense step by role; false when one is lacking. */
static bool find_kernels(const dnn_kernel *kernel[3], const exec *e, const exec_call *c, op_kind op)
{
    const dnn_state *const state = e->impl;

    fast_set_threads(e->threads);
    for (int role = 0; role < 3; role++) {
        dnn_problem problem;

        kernel[role] = NULL;
        if (!has_role(c, (dnn_role)role))
            continue;
        if (!problem_of(&problem, c, op, (dnn_role)role) || overruns(&problem))
            return false;
        kernel[role] = dnn_find(state->library, &problem);
        if (!kernel[role])
            return false;
    }
    return true;
}

/* A gradient of the bias alone, or beside a data gradient only. */
static bool sums_bias(const exec_call *c)
{
    return (c->wrt & OP_IN(2)) != 0 && (c->wrt & OP_IN(1)) == 0;
}

static const dnn_kernel *weight_reader(const dnn_kernel *const kernel[3])
{
    return kernel[DNN_FORWARD] ? kernel[DNN_FORWARD] : kernel[DNN_BACKWARD_DATA];
}

/* ----------------------------------------------------------------------------------------------
 * what it can do, and the memory it wants */

/* A packed weight is renewed by its parameter's version; other tensors have none. */
static bool weight_is_param(const plan *p, const plan_step *step)
{
    const int first = step->wrt == 0 ? 0 : op_table[step->op].n_outputs;
    const int slot = step->in[first + 1];

    return slot < 0 || p->slot[slot].place == SLOT_PARAM;
}

/* Loops that cannot add to what they write leave tied gradients to ref. */
static bool adds_nowhere(const plan *p, const plan_step *step)
{
    for (int i = 0; i < step->n_out; i++)
        if (step->out[i] >= 0 && p->slot[step->out[i]].place == SLOT_GRAD)
            return false;
    return true;
}

static bool dnn_supports(const exec *e, const plan *p, const plan_step *step)
{
    const fast_kernel *const fast = &fast_kernels[step->op];
    const dnn_kernel *kernel[3];
    exec_call c;

    if (p->real != DTYPE_F32)
        return false;
    if (!is_dense(p, step))
        return (step->wrt == 0 ? fast->forward : fast->backward) != NULL &&
               (fast->adds || adds_nowhere(p, step));
    if (e->double_sums)
        return false;
    exec_step_shapes(&c, p, step);
    return weight_is_param(p, step) && find_kernels(kernel, e, &c, step->op);
}

/* Roles run one after the other, so their scratch is shared. */
static size_t dnn_scratch(const exec *e, const plan *p, const plan_step *step)
{
    const dnn_kernel *kernel[3];
    size_t bytes = 0;
    exec_call c;

    exec_step_shapes(&c, p, step);
    if (!is_dense(p, step))
        return fast_kernels[step->op].scratch ? fast_kernels[step->op].scratch(&c, e->threads) : 0;
    if (find_kernels(kernel, e, &c, step->op))
        for (int role = 0; role < 3; role++)
            if (kernel[role])
                bytes = THAW_MAX(bytes, dnn_scratch_bytes(kernel[role]));
    if (sums_bias(&c)) {
        const exec_operand *const d = &c.d_out[0];
        const int64_t K = d->shape->dim[d->shape->rank - 1];

        bytes = THAW_MAX(bytes, fast_column_scratch((int64_t)d->elements / K, K));
    }
    return bytes;
}

/* ----------------------------------------------------------------------------------------------
 * open and close, wake and sleep */

static thaw_status dnn_exec_open(exec *e)
{
    dnn_state *const state = thaw__new(1, sizeof *state);
    thaw_status status;

    if (!state)
        return thaw_fail(THAW_E_NOMEM, "out of memory opening executor 'dnn'");
    fast_set_threads(e->threads);
    status = dnn_open(&state->library);
    if (status != THAW_OK)
        thaw__free(state);
    else
        e->impl = state;
    return status;
}

/* Give back packed weights that no session uses. */
static void drop_unused(exec *e)
{
    dnn_state *const state = e->impl;

    for (packing **at = &state->packings; *at;) {
        packing *const p = *at;

        if (p->users > 0) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        e->packed_bytes -= p->bytes;
        thaw__free(p->data);
        thaw__free(p);
    }
}

static void dnn_exec_close(exec *e)
{
    dnn_state *const state = e->impl;

    if (!state)
        return;
    drop_unused(e);
    dnn_close(state->library);
    thaw__free(state);
    e->impl = NULL;
}

/* The packed copy of a parameter for a kernel, one use more; made, but not filled, where there is
 * none. */
static thaw_status use_packing(packing **out, exec *e, const dnn_kernel *kernel, int tensor)
{
    dnn_state *const state = e->impl;
    packing *p;

    for (p = state->packings; p; p = p->next)
        if (p->tensor == tensor && dnn_same_packing(p->kernel, kernel)) {
            p->users++;
            *out = p;
            return THAW_OK;
        }
    p = thaw__new(1, sizeof *p);
    if (p)
        p->data = thaw__alloc(dnn_packed_bytes(kernel));
    if (!p || !p->data) {
        thaw__free(p);
        return thaw_fail(THAW_E_NOMEM, "out of memory for the packed weight '%s'",
                         e->params->item[tensor].name);
    }
    p->kernel = kernel;
    p->tensor = tensor;
    p->users = 1;
    p->bytes = dnn_packed_bytes(kernel);
    p->next = state->packings;
    state->packings = p;
    e->packed_bytes += p->bytes;
    *out = p;
    return THAW_OK;
}

static thaw_status wake_step(dnn_step *out, exec_session *s, int i)
{
    const plan_step *const step = &s->plan->step[i];
    const int first = step->wrt == 0 ? 0 : op_table[step->op].n_outputs;
    const dnn_kernel *reader;
    exec_call c;

    exec_step_shapes(&c, s->plan, step);
    if (!find_kernels(out->kernel, s->exec, &c, step->op))
        return thaw_fail(THAW_E_INTERNAL, "layer '%s' lost its kernel", step->name);
    reader = weight_reader(out->kernel);
    if (!reader || dnn_packed_bytes(reader) == 0)
        return THAW_OK;
    return use_packing(&out->packing, s->exec, reader, s->plan->slot[step->in[first + 1]].index);
}

static int count_steps(const plan *p)
{
    return p->n_once + p->n_step;
}

static thaw_status dnn_wake(exec_session *s)
{
    dnn_step *const steps = thaw__new((size_t)count_steps(s->plan) + 1, sizeof *steps);

    if (!steps)
        return thaw_fail(THAW_E_NOMEM, "out of memory making a plan ready");
    s->impl = steps;
    for (int i = 0; i < count_steps(s->plan); i++)
        if (s->own[i] && is_dense(s->plan, &s->plan->step[i]))
            THAW_CHECK(wake_step(&steps[i], s, i));
    /* Only now: what the plan before this one had packed has found its new users. */
    drop_unused(s->exec);
    return THAW_OK;
}

static void dnn_sleep(exec_session *s)
{
    dnn_step *const steps = s->impl;

    for (int i = 0; steps && i < count_steps(s->plan); i++)
        if (steps[i].packing)
            steps[i].packing->users--;
    thaw__free(steps);
    s->impl = NULL;
}

/* ----------------------------------------------------------------------------------------------
 * run */

/* The weight as the kernel wants it, packed again where the parameter has changed. */
static thaw_status ready_weight(const void **out, const exec_session *s, packing *p,
                                const float *plain)
{
    const param *item;

    *out = plain;
    if (!p)
        return THAW_OK;
    item = &s->exec->params->item[p->tensor];
    if (p->version != item->version) {
        THAW_CHECK(dnn_pack(p->kernel, p->data, item->data));
        p->version = item->version;
    }
    *out = p->data;
    return THAW_OK;
}

/* exec_step_adds for the gradients of one step; forward steps write no gradients here. */
static bool adds_to(const exec_session *s, const plan_step *step, int input)
{
    return step->wrt != 0 && exec_step_adds(s, step->out[input]);
}

static void run_bias_sum(const exec_session *s, const plan_step *step, const exec_call *c)
{
    const int64_t K = (int64_t)c->d_in[2].elements;

    fast_column_sum(c->d_in[2].data, c->d_out[0].data, (int64_t)c->d_out[0].elements / K, K,
                    adds_to(s, step, 2), c->scratch, s->exec->threads);
}

static thaw_status run_dense(exec_session *s, int i)
{
    const plan_step *const step = &s->plan->step[i];
    const dnn_step *const mine = (const dnn_step *)s->impl + i;
    dnn_operands o = {0};
    exec_call c;

    exec_step_call(&c, s, i);
    o = (dnn_operands){.src = c.in[0].data,
                       .bias = c.in[2].data,
                       .d_dst = c.d_out[0].data,
                       .dst = c.out[0].data,
                       .d_src = c.d_in[0].data,
                       .d_weight = c.d_in[1].data,
                       .d_bias = c.d_in[2].data,
                       .scratch = c.scratch,
                       .accumulate = adds_to(s, step, 1)};
    THAW_CHECK(ready_weight(&o.weight, s, mine->packing, c.in[1].data));
    for (int role = 0; role < 3; role++)
        if (mine->kernel[role])
            THAW_CHECK(dnn_run(mine->kernel[role], &o));
    if (sums_bias(&c))
        run_bias_sum(s, step, &c);
    return THAW_OK;
}

static thaw_status dnn_exec_run(exec_session *s, int i)
{
    const plan_step *const step = &s->plan->step[i];
    fast_call c = {.threads = s->exec->threads};

    fast_set_threads(s->exec->threads);
    if (is_dense(s->plan, step))
        return run_dense(s, i);
    exec_step_call(&c.op, s, i);
    for (int k = 0; k < step->n_out && step->wrt != 0; k++)
        c.add[k] = adds_to(s, step, k);
    (step->wrt == 0 ? fast_kernels[step->op].forward : fast_kernels[step->op].backward)(&c);
    return THAW_OK;
}

static void dnn_exec_describe(char buffer[128])
{
    dnn_describe(buffer, 128);
}

const exec_ops exec_dnn = {
    .name = "dnn",
    .supports = dnn_supports,
    .scratch = dnn_scratch,
    .open = dnn_exec_open,
    .close = dnn_exec_close,
    .wake = dnn_wake,
    .sleep = dnn_sleep,
    .run = dnn_exec_run,
    .describe = dnn_exec_describe,
};
