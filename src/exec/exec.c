/*
 * exec.c - the frame that all executors share: the arena, sessions, where a slot's bytes are, and
 * which executor runs a step.
 *
 * The one idea: a plan names slots by number, and a number becomes an address only while a step
 * runs. So the arena may move between runs, gradients may come and go, and nothing here goes stale.
 *
 * Knows nothing of what a kernel computes.
 */
#include "exec/exec.h"

#include <stdio.h>
#include <string.h>

static const exec_ops *const executors[] = {&exec_dnn, &exec_ref};

const exec_ops *exec_find(const char *name)
{
    for (size_t i = 0; i < THAW_COUNT(executors); i++)
        if (strcmp(executors[i]->name, name) == 0)
            return executors[i];
    return NULL;
}

const char *const *exec_names(size_t *n)
{
    static const char *const name[] = {"dnn", "ref"};

    *n = THAW_COUNT(name);
    return name;
}

void exec_describe(char buffer[128], const exec_ops *ops)
{
    if (ops->describe)
        ops->describe(buffer);
    else
        snprintf(buffer, 128, "%s", ops->name);
}

/* Measured: the library's AVX-512 kernels do, those for narrower vectors do not all. */
bool exec_any_batch(const exec *e)
{
    char what[128];

    if (e->ops == &exec_ref)
        return true;
    if (!e->ops->describe)
        return false;
    e->ops->describe(what);
    return strstr(what, "avx512") != NULL;
}

bf16_unit exec_bf16(const exec_ops *ops)
{
    static const struct {
        const char *word;
        bf16_unit unit;
    } table[] = {{"amx", BF16_TILE},
                 {"fp16", BF16_VECTOR}, /* later than, and with, AVX-512 BF16 */
                 {"bf16", BF16_VECTOR},
                 {"avx512", BF16_EMULATED}};
    char what[128];

    if (!ops->describe || ops == &exec_ref)
        return BF16_NONE;
    ops->describe(what);
    for (size_t i = 0; i < THAW_COUNT(table); i++)
        if (strstr(what, table[i].word))
            return table[i].unit;
    return BF16_NONE;
}

const char *exec_name(const exec *e)
{
    return e->ops->name;
}

/* ----------------------------------------------------------------------------------------------
 * executor */

thaw_status exec_open(exec **out, const exec_ops *ops, params *p, int threads)
{
    thaw_status status = THAW_OK;
    exec *e = thaw__new(1, sizeof *e);

    if (!e)
        return thaw_fail(THAW_E_NOMEM, "out of memory opening executor '%s'", ops->name);
    e->ops = ops;
    e->params = p;
    e->threads = THAW_MAX(threads, 1);
    e->ways = EXEC_ANY_WAY;
    if (ops->open)
        THAW_TRY(ops->open(e));
    *out = e;
    e = NULL;
done:
    thaw__free(e);
    return status;
}

void exec_set_sums(exec *e, bool in_double)
{
    e->double_sums = in_double;
}

void exec_set_ways(exec *e, unsigned ways)
{
    e->ways = ways;
}

/* ----------------------------------------------------------------------------------------------
 * choices */

const char *exec_way_name(int way)
{
    static const char *const name[EXEC_WAYS] = {"library", "product", "loops", "winograd"};

    return way >= 0 && way < EXEC_WAYS ? name[way] : NULL;
}

thaw_status exec_measure(exec *e, const plan *p)
{
    return e->ops->measure ? e->ops->measure(e, p) : THAW_OK;
}

thaw_status exec_choose(exec *e, const exec_choice *c, const char *name)
{
    return e->ops->choose ? e->ops->choose(e, c, name) : THAW_OK;
}

bool exec_choice_at(exec_choice *out, const exec *e, int i)
{
    return e->ops->choice_at && e->ops->choice_at(out, e, i);
}

void exec_by_table(exec *e, bool on)
{
    e->by_table = on;
}

void exec_tell(const void *e, text *out, const plan *p, const plan_step *step, bool json)
{
    const exec *const self = e;

    if (self->ops->tell)
        self->ops->tell(out, self, p, step, json);
}

/* ----------------------------------------------------------------------------------------------
 * closing, memory */

void exec_close(exec *e)
{
    if (!e)
        return;
    if (e->ops->close)
        e->ops->close(e);
    thaw__free(e->arena);
    thaw__free(e);
}

size_t exec_packed_bytes(const exec *e)
{
    return e->packed_bytes;
}

thaw_status exec_foresee(exec_needs *out, const exec *e, const plan *const *p, int n)
{
    *out = (exec_needs){0};
    return e->ops->foresee ? e->ops->foresee(out, e, p, n) : THAW_OK;
}

size_t exec_scratch(const void *e, const plan *p, const plan_step *step)
{
    const exec *const self = e;

    if (!self->ops->supports(self, p, step))
        return exec_ref.scratch(self, p, step);
    return self->ops->scratch ? self->ops->scratch(self, p, step) : 0;
}

/* What the arena must hold for a plan of so many bytes and all that are awake. */
static size_t arena_needed(const exec *e, size_t bytes)
{
    for (const exec_session *s = e->awake; s; s = s->next)
        bytes = THAW_MAX(bytes, s->plan->arena_bytes);
    return bytes;
}

/*
 * Give the arena the size that is needed now, also a smaller one: after a phase that trains all,
 * the head alone must not hold the memory of both. The old arena is given back first, so that the
 * predicted peak is the peak. When there is no room for the new one the old size is asked for
 * again, so that sessions already awake still run.
 */
static thaw_status fit_arena(exec *e, size_t plan_bytes)
{
    const size_t before = e->arena_bytes, bytes = arena_needed(e, plan_bytes);
    char size[32];

    if (bytes == before)
        return THAW_OK;
    thaw__free(e->arena);
    e->arena = thaw__alloc(bytes);
    e->arena_bytes = bytes;
    if (e->arena)
        return THAW_OK;
    e->arena = before > 0 ? thaw__alloc(before) : NULL;
    e->arena_bytes = e->arena ? before : 0;
    return thaw_fail(THAW_E_NOMEM,
                     "out of memory: the plan's activations need %s; use a smaller "
                     "batch",
                     format_bytes(size, bytes));
}

/* ----------------------------------------------------------------------------------------------
 * slots and steps */

void *exec_step_pointer(const exec_session *s, int slot)
{
    const plan_slot *const p = slot < 0 ? NULL : &s->plan->slot[slot];

    if (!p)
        return NULL;
    switch (p->place) {
    case SLOT_ARENA:
        return s->exec->arena + p->offset;
    case SLOT_PARAM:
        return s->exec->params->item[p->index].data;
    case SLOT_GRAD:
        return s->exec->params->item[p->index].grad;
    case SLOT_INPUT:
        /* Inputs are only read; a step's operands have one type for both directions. */
        return s->args ? (void *)(uintptr_t)s->args->input[p->index] : NULL;
    }
    return NULL;
}

void *exec_step_scratch(const exec_session *s, int i)
{
    const plan_step *const step = &s->plan->step[i];

    return step->scratch_bytes > 0 ? s->exec->arena + step->scratch_offset : NULL;
}

bool exec_step_adds(const exec_session *s, int slot)
{
    return slot >= 0 && s->plan->slot[slot].place == SLOT_GRAD && s->args && s->args->accumulate;
}

static size_t count_elements(const shape *s)
{
    size_t n = 1;

    for (int i = 0; i < s->rank; i++)
        n *= (size_t)s->dim[i];
    return n;
}

/* `n` slots from slot[first] on as operands; slots beyond those given stay zero. */
static void set_operands(exec_operand *operand, int most, const plan *p, const int *slot, int n)
{
    THAW_ASSERT(n >= 0 && n <= most);
    for (int i = 0; i < n; i++)
        if (slot[i] >= 0) {
            const plan_slot *const from = &p->slot[slot[i]];

            operand[i] = (exec_operand){.shape = &from->shape,
                                        .elements = count_elements(&from->shape),
                                        .dtype = from->dtype};
        }
}

/* The slot numbers of a step by role. */
typedef struct step_roles {
    const int *in, *out, *d_in, *d_out;
    int n_in, n_out; /* of the forward op */
} step_roles;

static step_roles roles_of(const plan_step *step)
{
    const int n_out = op_table[step->op].n_outputs;
    const int n_in = step->n_in - 2 * n_out;

    if (step->wrt == 0)
        return (step_roles){
            .in = step->in, .out = step->out, .n_in = step->n_in, .n_out = step->n_out};
    return (step_roles){.in = step->in + n_out,
                        .out = step->in + n_out + n_in,
                        .d_in = step->out,
                        .d_out = step->in,
                        .n_in = n_in,
                        .n_out = n_out};
}

void exec_step_shapes(exec_call *c, const plan *p, const plan_step *step)
{
    const step_roles role = roles_of(step);

    *c = (exec_call){.attrs = &step->attrs, .wrt = step->wrt};
    set_operands(c->in, OP_MAX_INPUTS, p, role.in, role.n_in);
    set_operands(c->out, OP_MAX_OUTPUTS, p, role.out, role.n_out);
    if (step->wrt != 0) {
        set_operands(c->d_in, OP_MAX_INPUTS, p, role.d_in, role.n_in);
        set_operands(c->d_out, OP_MAX_OUTPUTS, p, role.d_out, role.n_out);
    }
}

static void set_data(exec_operand *operand, const exec_session *s, const int *slot, int n)
{
    for (int i = 0; i < n; i++)
        operand[i].data = exec_step_pointer(s, slot[i]);
}

void exec_step_call(exec_call *c, const exec_session *s, int i)
{
    const plan_step *const step = &s->plan->step[i];
    const step_roles role = roles_of(step);

    exec_step_shapes(c, s->plan, step);
    c->seed = s->args ? s->args->seed : 0;
    c->epoch = s->args ? s->args->epoch : 0;
    c->scratch = exec_step_scratch(s, i);
    set_data(c->in, s, role.in, role.n_in);
    set_data(c->out, s, role.out, role.n_out);
    if (step->wrt != 0) {
        set_data(c->d_in, s, role.d_in, role.n_in);
        set_data(c->d_out, s, role.d_out, role.n_out);
    }
}

/* Backward, posts are gradients but for sums of these. */
static bool is_gradient(const plan_step *step, const plan_post *post)
{
    return step->wrt != 0 && post->op != OP_ADD;
}

/* The result so far, or its gradient: of the shape of what the whole step makes, or takes. */
static int chain_slot(const plan_step *step, const plan_post *post)
{
    return is_gradient(step, post) ? step->in[0] : step->out[0];
}

void exec_post_shapes(exec_call *c, const plan *p, const plan_step *step, int k)
{
    const plan_post *const post = &step->post[k];
    const bool gradient = is_gradient(step, post);
    const int n_in = post->n_in - (gradient ? 1 : 0), chain = chain_slot(step, post);

    *c = (exec_call){.attrs = &post->attrs, .wrt = gradient ? OP_IN(post->chain) : 0};
    set_operands(c->in, OP_MAX_INPUTS, p, post->in, n_in);
    if (!gradient) {
        set_operands(&c->in[post->chain], 1, p, &chain, 1);
        set_operands(c->out, 1, p, &chain, 1);
        return;
    }
    set_operands(c->out, 1, p, &post->in[n_in], 1);
    set_operands(c->d_out, 1, p, &chain, 1);
    set_operands(&c->d_in[post->chain], 1, p, &chain, 1);
}

void exec_post_call(exec_call *c, const exec_session *s, int i, int k)
{
    const plan_step *const step = &s->plan->step[i];
    const plan_post *const post = &step->post[k];
    const int n_in = post->n_in - (is_gradient(step, post) ? 1 : 0);

    exec_post_shapes(c, s->plan, step, k);
    c->seed = s->args ? s->args->seed : 0;
    c->epoch = s->args ? s->args->epoch : 0;
    set_data(c->in, s, post->in, n_in);
    if (is_gradient(step, post))
        set_data(c->out, s, &post->in[n_in], 1);
}

bool exec_step_sums(const plan_step *step)
{
    for (int k = 0; k < step->n_post; k++)
        if (step->post[k].op == OP_ADD)
            return true;
    return false;
}

/* ----------------------------------------------------------------------------------------------
 * sessions */

static int count_steps(const plan *p)
{
    return p->n_once + p->n_step;
}

/* A plan was compiled against shapes; the parameters it will touch must have them. */
static thaw_status check_slots(const exec *e, const plan *p)
{
    for (int i = 0; i < p->n_slots; i++) {
        const plan_slot *const slot = &p->slot[i];
        const param *item;

        if (slot->place != SLOT_PARAM && slot->place != SLOT_GRAD)
            continue;
        if (slot->index < 0 || slot->index >= e->params->n)
            return thaw_fail(THAW_E_INTERNAL, "plan slot '%s' is tensor %d of %d", slot->name,
                             slot->index, e->params->n);
        item = &e->params->item[slot->index];
        if (slot->bytes != item->bytes || slot->dtype != item->dtype)
            return thaw_fail(THAW_E_MISMATCH,
                             "tensor '%s' has %zu bytes of %s, the plan wants %zu of %s",
                             item->name, item->bytes, dtype_name(item->dtype), slot->bytes,
                             dtype_name(slot->dtype));
    }
    return THAW_OK;
}

/* A limit known only once the batch is. */
static thaw_status check_steps(const plan *p)
{
    for (int i = 0; i < count_steps(p); i++) {
        const plan_step *const step = &p->step[i];
        exec_call c;

        exec_step_shapes(&c, p, step);
        if (step->op == OP_BATCH_NORM_TRAIN && c.in[0].shape && c.in[0].elements > 0 &&
            c.in[0].elements == (size_t)c.in[0].shape->dim[c.in[0].shape->rank - 1])
            return thaw_fail(THAW_E_SHAPE,
                             "layer '%s' cannot normalise over a batch of one value per channel; "
                             "use a larger batch",
                             step->name);
    }
    return THAW_OK;
}

/* Model tensors that forward steps update in place. */
static void find_touched(exec_session *s)
{
    const plan *const p = s->plan;

    for (int i = 0; i < count_steps(p); i++) {
        const plan_step *const step = &p->step[i];
        const uint32_t mutates = step->wrt == 0 ? op_table[step->op].mutates : 0;

        for (int j = 0; j < step->n_in; j++)
            if ((mutates & OP_IN(j)) && step->in[j] >= 0 &&
                p->slot[step->in[j]].place == SLOT_PARAM)
                s->touched[s->n_touched++] = p->slot[step->in[j]].index;
    }
}

static size_t most_touched(const plan *p)
{
    size_t n = 0;

    for (int i = 0; i < count_steps(p); i++)
        n += (size_t)p->step[i].n_in;
    return n;
}

thaw_status exec_wake(exec_session **out, exec *e, const plan *p)
{
    thaw_status status = THAW_OK;
    exec_session *s = NULL;

    THAW_TRY(check_slots(e, p));
    THAW_TRY(check_steps(p));
    s = thaw__new(1, sizeof *s);
    if (s) {
        s->exec = e;
        s->plan = p;
        s->own = thaw__new((size_t)count_steps(p) + 1, sizeof *s->own);
        s->touched = thaw__new(most_touched(p) + 1, sizeof *s->touched);
    }
    if (!s || !s->own || !s->touched) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory making a plan ready");
        goto done;
    }
    for (int i = 0; i < count_steps(p); i++)
        s->own[i] = e->ops->supports(e, p, &p->step[i]);
    find_touched(s);
    THAW_TRY(fit_arena(e, p->arena_bytes));
    if (e->ops->wake)
        THAW_TRY(e->ops->wake(s));
    s->next = e->awake;
    e->awake = s;
    *out = s;
    s = NULL;
done:
    exec_sleep(s);
    return status;
}

void exec_sleep(exec_session *s)
{
    if (!s)
        return;
    for (exec_session **at = &s->exec->awake; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    if (s->exec->ops->sleep)
        s->exec->ops->sleep(s);
    thaw__free(s->touched);
    thaw__free(s->own);
    thaw__free(s);
}

/*
 * The once section runs with every run: sessions share the arena, so what it made for the last run
 * is gone by now.
 */
thaw_status exec_run(exec_session *s, const exec_run_args *args)
{
    thaw_status status = THAW_OK;

    if (s->exec->arena_bytes < s->plan->arena_bytes)
        return thaw_fail(THAW_E_NOMEM,
                         "the arena was given up for a larger one that did not fit in memory");
    s->args = args;
    for (int i = 0; i < count_steps(s->plan) && status == THAW_OK; i++) {
        status = s->own[i] ? s->exec->ops->run(s, i) : exec_ref.run(s, i);
        if (args->watch && status == THAW_OK)
            args->watch(args->watch_user, s, i);
    }
    /* Also after an error: a step before it may have changed them. */
    for (int i = 0; i < s->n_touched; i++)
        params_touch(s->exec->params, s->touched[i]);
    s->args = NULL;
    return status;
}

const void *exec_read(const exec_session *s, int slot)
{
    return exec_step_pointer(s, slot);
}

const char *exec_step_executor(const exec_session *s, int i)
{
    return s->own[i] ? s->exec->ops->name : exec_ref.name;
}
