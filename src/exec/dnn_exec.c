/*
 * dnn_exec.c - the fast executor: convolutions and linear layers on oneDNN, everything else on
 * vectorised loops, the rest left to ref.
 *
 * A convolution's posts are the kernel's own: a norm is folded into its weight, a sum begins with
 * what the output holds already, the activation comes last. The loops take their posts along, too.
 *
 * Knows nothing of why a step is in the plan.
 */
#include "exec/exec.h"

#include "exec/choose.h"
#include "exec/packing.h"

#include <math.h>
#include <string.h>

typedef struct dnn_state {
    dnn_library *library;
    packing_list packings;
    choice_list choices;
} dnn_state;

/* The kernels of a dense step by role. */
typedef struct dnn_kernels {
    dense role[3];  /* not ready: not in this step */
    bool sums_bias; /* the bias's gradient is nobody's by-product */
} dnn_kernels;

/* What a step of a session needs beyond its slots. */
typedef struct dnn_step {
    dnn_kernels kernels;
    packing *packing;      /* NULL: none is kept */
    size_t own_packing;    /* bytes at the end of its scratch, packed at each run; 0: none */
    packing_source source; /* of the weight, forward and data gradient */
    uint64_t checked;      /* version of the weight that `finite` belongs to */
    bool finite;
} dnn_step;

typedef struct dnn_session {
    bool astray; /* something is not a number in this run, where a kernel would hide it */
    dnn_step step[];
} dnn_session;

/* ----------------------------------------------------------------------------------------------
 * problems */

static bool has_bf16(const plan *p, const plan_step *step)
{
    for (int i = 0; i < step->n_reads; i++)
        if (step->in[i] >= 0 && p->slot[step->in[i]].dtype == DTYPE_BF16)
            return true;
    for (int i = 0; i < step->n_out; i++)
        if (step->out[i] >= 0 && p->slot[step->out[i]].dtype == DTYPE_BF16)
            return true;
    return false;
}

/* Steps for oneDNN. */
static bool is_dense(const plan *p, const plan_step *step)
{
    return step->op == OP_CONV2D ||
           (step->op == OP_LINEAR && (has_bf16(p, step) || !fast_is_small_linear(p, step)));
}

static const exec_operand *either(const exec_operand *a, const exec_operand *b)
{
    return a->shape ? a : b;
}

static void fill_linear(dnn_problem *p, const exec_operand *src, const exec_operand *weight)
{
    p->linear = DNN_LAYER;
    p->channels = weight->shape->dim[1];
    p->kernels = weight->shape->dim[0];
    p->batch = (int64_t)src->elements / p->channels;
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

static int count_steps(const plan *p)
{
    return p->n_once + p->n_step;
}

static bool has_post(const plan_step *step, op_kind op)
{
    for (int k = 0; k < step->n_post; k++)
        if (step->post[k].op == op)
            return true;
    return false;
}

static bool folds(const plan_step *step)
{
    return step->op == OP_CONV2D && has_post(step, OP_BATCH_NORM_INFER);
}

/* What only the forward kernel does: an activation; and a folded norm gives it a bias. */
static void fill_posts(dnn_problem *p, const plan_step *step)
{
    p->bias |= folds(step);
    p->activation = has_post(step, OP_RELU)    ? DNN_RELU
                    : has_post(step, OP_RELU6) ? DNN_RELU6
                                               : DNN_LINEAR;
}

/* Rows over which a product costs less than packing its weight. */
enum { FEW_ROWS = 128 };

/* Whether the weight of a dense step is new in each run of its plan. */
static bool weight_trains(const plan *p, const plan_step *step)
{
    const plan_step *const forward = step->wrt == 0 ? step : &p->step[step->forward];
    const int weight = p->slot[forward->in[1]].index;

    for (int i = 0; i < p->n_slots; i++)
        if (p->slot[i].place == SLOT_GRAD && p->slot[i].index == weight)
            return true;
    return false;
}

/* The problem of a step in one role. false when the step's operands do not say all of it: a
 * gradient of the bias alone. */
static bool problem_of(dnn_problem *p, const exec_call *c, const plan *whole, const plan_step *step,
                       dnn_role role)
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
    if (role == DNN_FORWARD)
        fill_posts(p, step);
    p->adds = has_post(step, OP_ADD);
    p->bf16 = src->dtype == DTYPE_BF16;
    if (step->op == OP_CONV2D)
        fill_convolution(p, c->attrs, src->shape, weight->shape, dst->shape);
    else
        fill_linear(p, src, weight);
    p->renewed = weight_trains(whole, step);
    p->plain =
        p->linear && !p->bf16 && role != DNN_BACKWARD_WEIGHT && p->batch <= FEW_ROWS && p->renewed;
    return true;
}

static bool has_role(const exec_call *c, dnn_role role)
{
    if (role == DNN_FORWARD)
        return c->wrt == 0;
    return (c->wrt & (role == DNN_BACKWARD_DATA ? OP_IN(0) : OP_IN(1))) != 0;
}

static exec_way way_of(const exec *e, const dnn_problem *p)
{
    const dnn_state *const state = e->impl;

    return e->by_table ? choice_by_table(p, e->ways) : choice_of(&state->choices, p, e->ways);
}

/* false when one is lacking. */
static bool find_kernels(dnn_kernels *k, const exec *e, const exec_call *c, const plan *p,
                         const plan_step *step)
{
    const dnn_state *const state = e->impl;

    fast_set_threads(e->threads);
    *k = (dnn_kernels){.sums_bias = (c->wrt & OP_IN(2)) != 0};
    for (int role = 0; role < 3; role++) {
        dnn_problem problem;

        if (!has_role(c, (dnn_role)role))
            continue;
        if (!problem_of(&problem, c, p, step, (dnn_role)role))
            return false;
        k->role[role] = dense_find(state->library, &problem, way_of(e, &problem));
        if (!k->role[role].ready)
            return false;
        k->sums_bias &= !k->role[role].makes_bias;
    }
    return true;
}

/* NULL: none of them reads the weight. */
static const dense *weight_reader(const dnn_kernels *k)
{
    for (int role = DNN_FORWARD; role <= (int)DNN_BACKWARD_DATA; role++)
        if (k->role[role].ready)
            return &k->role[role];
    return NULL;
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

static bool is_norm(const plan_step *step)
{
    return step->op == OP_BATCH_NORM_TRAIN || step->op == OP_BATCH_NORM_INFER ||
           step->op == OP_BATCH_NORM_AGAIN;
}

/* All that plan_fuse makes of convolutions, norms and sums, and no more. */
static bool takes_posts(const plan_step *step)
{
    static const uint64_t known =
        1ull << OP_BATCH_NORM_INFER | 1ull << OP_ADD | 1ull << OP_RELU | 1ull << OP_RELU6;

    for (int k = 0; k < step->n_post; k++)
        if (!(known >> step->post[k].op & 1))
            return false;
    return step->n_post == 0 || step->op == OP_CONV2D || step->op == OP_ADD || is_norm(step);
}

static bool dnn_supports(const exec *e, const plan *p, const plan_step *step)
{
    const fast_kernel *const fast = &fast_kernels[step->op];
    dnn_kernels kernels;
    exec_call c;

    if (p->real != DTYPE_F32 || !takes_posts(step))
        return false;
    if (!is_dense(p, step))
        return (step->wrt == 0 ? fast->forward : fast->backward) != NULL &&
               (fast->adds || adds_nowhere(p, step)) && (fast->bf16 || !has_bf16(p, step));
    if (e->double_sums)
        return false;
    exec_step_shapes(&c, p, step);
    return weight_is_param(p, step) && find_kernels(&kernels, e, &c, p, step);
}

/* What the weight that a dense step reads is made of; the forward step knows all of a norm. */
static packing_source source_of(const plan *p, const plan_step *step)
{
    const plan_step *const forward = step->wrt == 0 ? step : &p->step[step->forward];
    packing_source source = {.weight = p->slot[forward->in[1]].index};

    if (!folds(step))
        return source;
    source.folds = 1;
    source.bias = forward->n_in > 2 && forward->in[2] >= 0 ? p->slot[forward->in[2]].index : -1;
    for (int i = 0; i < 4; i++)
        source.norm[i] = p->slot[forward->post[0].in[1 + i]].index;
    source.eps = forward->post[0].attrs.norm.eps;
    return source;
}

static size_t weight_bytes(const plan *p, const plan_step *step)
{
    const int first = step->wrt == 0 ? 0 : op_table[step->op].n_outputs;

    return step->in[first + 1] < 0 ? 0 : p->slot[step->in[first + 1]].bytes;
}

static size_t fold_scratch(const plan *p, const plan_step *step, const dnn_kernels *k)
{
    const dense *const reader = weight_reader(k);
    packing_source source;

    if (!reader || !folds(step))
        return 0;
    source = source_of(p, step);
    return packing_scratch(reader, &source, weight_bytes(p, step));
}

/* So many rows that packing a weight takes no time beside the product. */
enum { MANY_ROWS = 256 };

/*
 * Bytes of the weight that a step packs for itself, at the end of its scratch. What an update
 * changes has to be packed again after each anyway, so copies of it need not be kept.
 */
static size_t own_packing(const plan *p, const plan_step *step, const exec_call *c,
                          const dnn_kernels *k)
{
    const exec_operand *const dst = either(&c->out[0], &c->d_out[0]);
    const dense *const reader = weight_reader(k);

    if (!reader || folds(step) || dense_packed_bytes(reader) == 0 ||
        dst->elements / (size_t)dst->shape->dim[dst->shape->rank - 1] < MANY_ROWS ||
        !weight_trains(p, step))
        return 0;
    return dnn_aligned(dense_packed_bytes(reader));
}

/* Roles run one after the other, so their scratch is shared. */
static size_t dnn_scratch(const exec *e, const plan *p, const plan_step *step)
{
    dnn_kernels k;
    size_t bytes = 0;
    exec_call c;

    exec_step_shapes(&c, p, step);
    if (!is_dense(p, step))
        return fast_kernels[step->op].scratch ? fast_kernels[step->op].scratch(&c, e->threads) : 0;
    if (find_kernels(&k, e, &c, p, step)) {
        bytes = fold_scratch(p, step, &k);
        for (int role = 0; role < 3; role++)
            if (k.role[role].ready)
                bytes = THAW_MAX(bytes, dense_scratch(&k.role[role], e->threads));
        bytes = dnn_aligned(bytes) + own_packing(p, step, &c, &k);
    }
    if (k.sums_bias) {
        const exec_operand *const d = &c.d_out[0];
        const int64_t K = d->shape->dim[d->shape->rank - 1];

        bytes = THAW_MAX(bytes, fast_column_scratch((int64_t)d->elements / K, K));
    }
    return dnn_aligned(bytes);
}

/* ----------------------------------------------------------------------------------------------
 * choices */

/* Whether a step has a problem in this role that can be computed in several ways. */
static bool has_choice(dnn_problem *problem, const exec *e, const plan *p, const plan_step *step,
                       dnn_role role)
{
    int n = 0;
    exec_call c;

    if (!is_dense(p, step))
        return false;
    exec_step_shapes(&c, p, step);
    if (!has_role(&c, role) || !problem_of(problem, &c, p, step, role))
        return false;
    for (int way = 0; way < EXEC_WAYS; way++)
        n += choice_allowed(problem, (exec_way)way, e->ways);
    return n > 1;
}

static thaw_status measure_step(dnn_state *state, const exec *e, const plan *p,
                                const plan_step *step)
{
    for (int role = 0; role < 3; role++) {
        dnn_problem problem;
        choice made;

        if (!has_choice(&problem, e, p, step, (dnn_role)role) ||
            choice_find(&state->choices, &problem))
            continue;
        THAW_CHECK(measure_ways(&made, state->library, &problem, e->ways, e->threads));
        THAW_CHECK(choice_add(&state->choices, &made));
    }
    return THAW_OK;
}

static thaw_status dnn_measure(exec *e, const plan *p)
{
    dnn_state *const state = e->impl;

    fast_set_threads(e->threads);
    for (int i = 0; i < count_steps(p); i++)
        if (dnn_supports(e, p, &p->step[i]))
            THAW_CHECK(measure_step(state, e, p, &p->step[i]));
    return THAW_OK;
}

static thaw_status dnn_choose(exec *e, const exec_choice *c, const char *name)
{
    dnn_state *const state = e->impl;
    choice made = {.way = (exec_way)c->way, .table = (exec_way)c->table};

    memcpy(made.seconds, c->seconds, sizeof made.seconds);
    if (!choice_parse(&made.key, c->problem))
        return thaw_fail(THAW_E_DATA, "%s: no layer computes that", name);
    if (!choice_possible(&made.key, made.way))
        return thaw_fail(THAW_E_DATA, "%s: it cannot be computed by '%s'", name,
                         exec_way_name(c->way));
    if (choice_find(&state->choices, &made.key))
        return thaw_fail(THAW_E_DATA, "%s: it is there twice", name);
    return choice_add(&state->choices, &made);
}

static bool dnn_choice_at(exec_choice *out, const exec *e, int i)
{
    const choice_list *const list = &((const dnn_state *)e->impl)->choices;

    if (i >= list->n)
        return false;
    *out = (exec_choice){.way = list->item[i].way, .table = list->item[i].table};
    choice_format(out->problem, &list->item[i].key);
    memcpy(out->seconds, list->item[i].seconds, sizeof out->seconds);
    return true;
}

static void dnn_tell(text *out, const exec *e, const plan *p, const plan_step *step, bool json)
{
    static const char *const role_name[] = {"forward", "data", "weight"};
    const choice_list *const list = &((const dnn_state *)e->impl)->choices;
    const char *before = json ? ",\"kernels\":{" : "";
    bool measured = false;

    if (!dnn_supports(e, p, step))
        return;
    for (int role = 0; role < 3; role++) {
        dnn_problem problem;

        if (!has_choice(&problem, e, p, step, (dnn_role)role))
            continue;
        text_addf(out, json ? "%s\"%s\":\"%s\"" : "%s%s: %s", before, role_name[role],
                  exec_way_name((int)way_of(e, &problem)));
        before = json ? "," : ", ";
        measured = measured || (!e->by_table && choice_find(list, &problem));
    }
    if (json && *before == ',' && !before[1])
        text_addf(out, ",\"measured\":%s}", measured ? "true" : "false");
    else if (measured)
        text_add(out, ", measured");
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

static void dnn_exec_close(exec *e)
{
    dnn_state *const state = e->impl;

    if (!state)
        return;
    packing_drop_unused(e, &state->packings);
    choice_list_done(&state->choices);
    dnn_close(state->library);
    thaw__free(state);
    e->impl = NULL;
}

static thaw_status wake_step(dnn_step *out, exec_session *s, int i)
{
    const plan_step *const step = &s->plan->step[i];
    dnn_state *const state = s->exec->impl;
    const dense *reader;
    exec_call c;

    exec_step_shapes(&c, s->plan, step);
    if (!find_kernels(&out->kernels, s->exec, &c, s->plan, step))
        return thaw_fail(THAW_E_INTERNAL, "layer '%s' lost its kernel", step->name);
    reader = weight_reader(&out->kernels);
    if (!reader)
        return THAW_OK;
    out->source = source_of(s->plan, step);
    out->own_packing = own_packing(s->plan, step, &c, &out->kernels);
    if (out->own_packing > 0)
        return THAW_OK;
    return packing_use(&out->packing, s->exec, &state->packings, reader, &out->source);
}

/* What some plans need together. */
typedef struct need_count {
    packing_count packings;
    const dnn_kernel **kernel; /* each once */
    int n_kernels;
} need_count;

static void count_kernels(need_count *count, const dnn_kernels *k)
{
    for (int role = 0; role < 3; role++) {
        const dnn_kernel *const kernel = k->role[role].kernel;
        bool known = !kernel;

        for (int i = 0; i < count->n_kernels && !known; i++)
            known = count->kernel[i] == kernel;
        if (!known)
            count->kernel[count->n_kernels++] = kernel;
    }
}

/* As wake_step does, for one plan of several. */
static void count_needs(need_count *count, const exec *e, const plan *p)
{
    for (int i = 0; i < count_steps(p); i++) {
        const plan_step *const step = &p->step[i];
        packing_source source;
        dnn_kernels k;
        exec_call c;

        if (!is_dense(p, step) || !dnn_supports(e, p, step))
            continue;
        exec_step_shapes(&c, p, step);
        if (!find_kernels(&k, e, &c, p, step))
            continue;
        count_kernels(count, &k);
        if (!weight_reader(&k) || own_packing(p, step, &c, &k) > 0)
            continue;
        source = source_of(p, step);
        packing_add_need(&count->packings, e, weight_reader(&k), &source);
    }
}

static thaw_status dnn_foresee(exec_needs *out, const exec *e, const plan *const *p, int n)
{
    need_count count = {.n_kernels = 0};
    size_t most = 1;
    thaw_status status = THAW_OK;

    for (int i = 0; i < n; i++)
        most += (size_t)count_steps(p[i]);
    count.packings.need = thaw__new(most, sizeof *count.packings.need);
    count.kernel = thaw__new(3 * most, sizeof *count.kernel);
    if (!count.packings.need || !count.kernel) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for the memory of %d plans", n);
        goto done;
    }
    for (int i = 0; i < n; i++)
        count_needs(&count, e, p[i]);
    *out = (exec_needs){
        .packed = count.packings.bytes, .library = dnn_more_bytes(), .kernels = count.n_kernels};
done:
    thaw__free(count.kernel);
    thaw__free(count.packings.need);
    return status;
}

static thaw_status dnn_wake(exec_session *s)
{
    const size_t n = (size_t)count_steps(s->plan);
    dnn_state *const state = s->exec->impl;
    dnn_session *const mine = thaw__alloc(sizeof *mine + n * sizeof *mine->step);

    if (!mine)
        return thaw_fail(THAW_E_NOMEM, "out of memory making a plan ready");
    memset(mine, 0, sizeof *mine + n * sizeof *mine->step);
    s->impl = mine;
    for (int i = 0; i < count_steps(s->plan); i++)
        if (s->own[i] && is_dense(s->plan, &s->plan->step[i]))
            THAW_CHECK(wake_step(&mine->step[i], s, i));
    /* Only now: what the plan before this one had packed has found its new users. */
    packing_drop_unused(s->exec, &state->packings);
    return THAW_OK;
}

static void dnn_sleep(exec_session *s)
{
    dnn_session *const mine = s->impl;

    for (int i = 0; mine && i < count_steps(s->plan); i++)
        packing_leave(mine->step[i].packing);
    thaw__free(mine);
    s->impl = NULL;
}

/* ----------------------------------------------------------------------------------------------
 * run */

/* exec_step_adds for the gradients of one step; forward steps write no gradients here. */
static bool adds_to(const exec_session *s, const plan_step *step, int input)
{
    return step->wrt != 0 && exec_step_adds(s, step->out[input]);
}

static void run_bias_sum(const exec_session *s, const plan_step *step, const exec_call *c)
{
    const int64_t K = (int64_t)c->d_in[2].elements;

    fast_column_sum(c->d_in[2].data, c->d_out[0].data, c->d_out[0].dtype,
                    (int64_t)c->d_out[0].elements / K, K, adds_to(s, step, 2), c->scratch,
                    s->exec->threads);
}

typedef struct copy_job {
    char *to;
    const char *from;
} copy_job;

static void copy_range(const void *job, int64_t first, int64_t last)
{
    const copy_job *const j = job;

    memcpy(j->to + first, j->from + first, (size_t)(last - first));
}

/* The other operand of a sum, where it is not in the output's memory already. */
static void place_addend(const exec_session *s, int i, void *dst)
{
    const plan_step *const step = &s->plan->step[i];
    const int64_t bytes = (int64_t)s->plan->slot[step->out[0]].bytes;

    for (int k = 0; k < step->n_post; k++) {
        exec_call c;

        if (step->post[k].op != OP_ADD)
            continue;
        exec_post_call(&c, s, i, k);
        const copy_job job = {.to = dst, .from = c.in[1 - step->post[k].chain].data};

        if (job.from != dst)
            fast_parallel(s->exec->threads, bytes, 1 << 17, copy_range, &job);
    }
}

/*
 * Before a kernel with an activation runs: whether it would hide that something is not a number.
 * Weights are looked at when they have changed, inputs of the run each time; what lies between is
 * made of these.
 */
static bool goes_astray(const exec_session *s, int i, const exec_call *c)
{
    const plan_step *const step = &s->plan->step[i];
    dnn_step *const mine = &((dnn_session *)s->impl)->step[i];
    const uint64_t version = packing_version(s->exec, &mine->source);

    if (mine->checked != version) {
        mine->finite = packing_is_finite(s->exec, &mine->source);
        mine->checked = version;
    }
    if (!mine->finite)
        return true;
    return s->plan->slot[step->in[0]].place == SLOT_INPUT &&
           !tensor_all_finite(c->in[0].data, c->in[0].dtype, c->in[0].elements);
}

/* Not a number, everywhere; and so in all later kernels that would hide it. */
static void mark_astray(const exec_session *s, int i, const exec_call *c)
{
    dnn_session *const mine = s->impl;

    if (i == 0)
        mine->astray = false;
    if (!has_post(&s->plan->step[i], OP_RELU) && !has_post(&s->plan->step[i], OP_RELU6))
        return;
    mine->astray = mine->astray || goes_astray(s, i, c);
    if (mine->astray)
        memset(c->out[0].data, 0xff, c->out[0].elements * dtype_size(c->out[0].dtype));
}

static thaw_status pack_own(dnn_operands *o, const dnn_step *mine, const plan_step *step,
                            int threads)
{
    char *const packed = (char *)o->scratch + (step->scratch_bytes - mine->own_packing);

    THAW_CHECK(dense_pack(weight_reader(&mine->kernels), packed, o->weight, threads));
    o->weight = packed;
    return THAW_OK;
}

static thaw_status run_dense(exec_session *s, int i)
{
    const plan_step *const step = &s->plan->step[i];
    const dnn_step *const mine = &((dnn_session *)s->impl)->step[i];
    dnn_operands o = {0};
    exec_call c;

    exec_step_call(&c, s, i);
    o = (dnn_operands){.src = c.in[0].data,
                       .weight = c.in[1].data,
                       .bias = c.in[2].data,
                       .d_dst = c.d_out[0].data,
                       .dst = c.out[0].data,
                       .d_src = c.d_in[0].data,
                       .d_weight = c.d_in[1].data,
                       .d_bias = c.d_in[2].data,
                       .scratch = c.scratch,
                       .accumulate = adds_to(s, step, 1)};
    if (mine->own_packing > 0)
        THAW_CHECK(pack_own(&o, mine, step, s->exec->threads));
    else if (mine->packing)
        THAW_CHECK(packing_weight(&o.weight, &o.bias, s->exec, mine->packing, c.scratch));
    place_addend(s, i, step->wrt == 0 ? o.dst : o.d_src);
    for (int role = 0; role < 3; role++)
        if (mine->kernels.role[role].ready)
            THAW_CHECK(dense_run(&mine->kernels.role[role], &o, s->exec->threads));
    if (mine->kernels.sums_bias)
        run_bias_sum(s, step, &c);
    if (step->wrt == 0)
        mark_astray(s, i, &c);
    return THAW_OK;
}

/* The posts of a step on the loops: one pass over memory does them, too. */
static void fill_fast_posts(fast_call *c, const exec_session *s, int i)
{
    const plan_step *const step = &s->plan->step[i];
    const plan_step *const forward = step->wrt == 0 ? step : &s->plan->step[step->forward];
    const int *const in = step->part > 0 ? forward->post[step->part - 1].in : forward->in;

    for (int k = 0; k < step->n_post; k++) {
        exec_call post;

        exec_post_call(&post, s, i, k);
        if (step->post[k].op == OP_ADD) {
            c->post.addend = post.in[1 - step->post[k].chain].data;
            continue;
        }
        c->post.clips = true;
        c->post.limit = step->post[k].op == OP_RELU6 ? 6.0f : NAN;
        c->post.clipped = post.out[0].data;
        if (!is_norm(step))
            continue;
        c->post.weight = exec_step_pointer(s, in[1]);
        c->post.bias = exec_step_pointer(s, in[2]);
    }
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
    fill_fast_posts(&c, s, i);
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
    .foresee = dnn_foresee,
    .open = dnn_exec_open,
    .close = dnn_exec_close,
    .wake = dnn_wake,
    .sleep = dnn_sleep,
    .run = dnn_exec_run,
    .describe = dnn_exec_describe,
    .measure = dnn_measure,
    .choose = dnn_choose,
    .choice_at = dnn_choice_at,
    .tell = dnn_tell,
};
