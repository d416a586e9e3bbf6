/*
 * recompute.c - cheap results are made again backward instead of being kept from forward.
 *
 * The idea: a norm, an activation or a sum costs a pass over memory, while what it made waits for
 * half of the step until a gradient reads it. Where all that it was made of is there anyway, such a
 * step runs once more, right before the first that reads its result. The same kernel on the same
 * numbers makes the same bits. Steps that are made again may follow from each other; each is made
 * once. Only those that lower the peak are. Knows nothing of executors.
 */
#include "plan/plan.h"

#include <string.h>

/* What a byte moved costs in floating-point operations, and the share of a step's work that 'auto'
 * spends at most: measured on residual networks. */
#define FLOPS_PER_BYTE 10.0
#define MOST_SHARE     0.05
#define LEAST_GAIN     0.05 /* of the memory, for 'auto' */

/* An input of less than one in so many bytes of the result is kept for it. */
#define SMALL 16

/* The op that makes an op's first output again, OP_COUNT: none. */
static const struct {
    bool is_cheap;
    op_kind op;
} again_table[OP_COUNT] = {
    [OP_BATCH_NORM_TRAIN] = {true, OP_BATCH_NORM_AGAIN},
    [OP_BATCH_NORM_INFER] = {true, OP_BATCH_NORM_INFER},
    [OP_RELU] = {true, OP_RELU},
    [OP_RELU6] = {true, OP_RELU6},
    [OP_ADD] = {true, OP_ADD},
    [OP_GELU] = {true, OP_GELU},
    [OP_DROPOUT] = {true, OP_DROPOUT},
    [OP_LAYER_NORM] = {true, OP_LAYER_NORM},
    [OP_RMS_NORM] = {true, OP_RMS_NORM},
};

op_kind thaw__plan_again_op(op_kind op)
{
    return again_table[op].is_cheap ? again_table[op].op : OP_COUNT;
}

int thaw__plan_again_input(const plan_step *forward, int i)
{
    if (forward->op != OP_BATCH_NORM_TRAIN || i < 3)
        return forward->in[i];
    if (i < op_table[OP_BATCH_NORM_AGAIN].most_inputs)
        return forward->out[i - 2]; /* its statistics instead of the running ones */
    return forward->in[i + 1];
}

/* How many slots the step that repeats this one reads. */
static int count_again_inputs(const plan_step *forward)
{
    return forward->n_reads - (forward->op == OP_BATCH_NORM_TRAIN ? 1 : 0);
}

/* ----------------------------------------------------------------------------------------------
 * who reads what */

typedef struct survey {
    const plan *p;
    thaw_region *region;
    int n_steps, end; /* end: of the forward steps */
    int *maker;       /* [n_slots] forward step that could make it again, -1 */
    int *last;        /* [n_slots] last forward step that reads it, or makes it */
    int *first_back;  /* [n_slots] first backward step that reads it, n_steps: none */
    int *last_back;   /* [n_slots] last one, or n_steps for a result */
    bool *dropped;    /* [n_slots] is not kept from forward to backward */
    bool *copied;     /* [n_slots] is made again: what is dropped, and what that follows from */
    int *when;        /* [n_slots] before which step */
    int64_t *change;  /* [n_steps + 2] of the bytes alive */
} survey;

static bool is_kept(const survey *v, int slot)
{
    return v->p->slot[slot].place != SLOT_ARENA || v->last_back[slot] >= v->end;
}

static bool is_small(const survey *v, int slot, int beside)
{
    return v->p->slot[slot].bytes * SMALL <= v->p->slot[beside].bytes;
}

/* Its own op and its posts are cheap, and what it reads is kept or can be made again. */
static bool can_repeat(const survey *v, const plan_step *step)
{
    if (step->wrt || step->out[0] < 0 || v->p->slot[step->out[0]].place != SLOT_ARENA ||
        !again_table[step->op].is_cheap)
        return false;
    for (int k = 0; k < step->n_post; k++)
        if (!again_table[step->post[k].op].is_cheap)
            return false;
    for (int i = 0; i < count_again_inputs(step); i++) {
        const int slot = thaw__plan_again_input(step, i);

        if (slot >= 0 && !is_kept(v, slot) && v->maker[slot] < 0 &&
            !is_small(v, slot, step->out[0]))
            return false;
    }
    return true;
}

static void look(survey *v)
{
    const plan *p = v->p;

    for (int i = 0; i < p->n_slots; i++) {
        v->maker[i] = v->last_back[i] = -1;
        v->last[i] = p->slot[i].first;
        v->first_back[i] = v->n_steps;
        if (p->slot[i].last >= v->n_steps)
            v->last_back[i] = v->n_steps;
    }
    for (int s = 0; s < v->n_steps; s++)
        for (int i = 0; i < p->step[s].n_reads; i++) {
            const int slot = p->step[s].in[i];

            if (slot < 0)
                continue;
            if (s < v->end)
                v->last[slot] = s;
            else {
                v->first_back[slot] = THAW_MIN(v->first_back[slot], s);
                v->last_back[slot] = THAW_MAX(v->last_back[slot], s);
            }
        }
    for (int s = p->n_once; s < v->end; s++)
        if (can_repeat(v, &p->step[s]))
            v->maker[p->step[s].out[0]] = s;
}

static thaw_status survey_alloc(survey *v, plan_build *b)
{
    const plan *p = b->plan;
    const size_t n = (size_t)p->n_slots;

    *v = (survey){.p = p,
                  .region = b->g->region,
                  .n_steps = p->n_once + p->n_step,
                  .end = p->n_once + p->n_forward};
    v->maker = region_alloc(v->region, n, sizeof *v->maker);
    v->last = region_alloc(v->region, n, sizeof *v->last);
    v->first_back = region_alloc(v->region, n, sizeof *v->first_back);
    v->last_back = region_alloc(v->region, n, sizeof *v->last_back);
    v->dropped = region_alloc(v->region, n, sizeof *v->dropped);
    v->copied = region_alloc(v->region, n, sizeof *v->copied);
    v->when = region_alloc(v->region, n, sizeof *v->when);
    v->change = region_alloc(v->region, (size_t)v->n_steps + 2, sizeof *v->change);
    if (!v->maker || !v->last || !v->first_back || !v->last_back || !v->dropped || !v->copied ||
        !v->when || !v->change)
        return thaw_fail(THAW_E_NOMEM, "no memory for a plan of %d steps", v->n_steps);
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * what is made again, and when */

/* Whether a slot that is read once more before step `when` has to be made again for that. */
static bool needs_copy(const survey *v, int slot, int when)
{
    return v->dropped[slot] || (v->p->slot[slot].place == SLOT_ARENA && v->last_back[slot] < when &&
                                v->maker[slot] >= 0);
}

/* From the last step to the first: who reads a result again comes before it. */
static void find_times(survey *v)
{
    const plan *p = v->p;

    for (int i = 0; i < p->n_slots; i++) {
        v->when[i] = v->dropped[i] ? v->first_back[i] : v->n_steps;
        v->copied[i] = v->dropped[i];
    }
    for (int s = v->end; s-- > p->n_once;) {
        const plan_step *step = &p->step[s];
        const int made = step->out[0];

        if (made < 0 || v->maker[made] != s || !v->copied[made])
            continue;
        for (int i = 0; i < count_again_inputs(step); i++) {
            const int slot = thaw__plan_again_input(step, i);

            if (slot < 0 || !needs_copy(v, slot, v->when[made]))
                continue;
            v->copied[slot] = true;
            v->when[slot] = THAW_MIN(v->when[slot], v->when[made]);
        }
    }
}

static void live(survey *v, int slot, int first, int last)
{
    v->change[first] += (int64_t)v->p->slot[slot].bytes;
    v->change[last + 1] -= (int64_t)v->p->slot[slot].bytes;
}

/* The last time that the copy of a slot is read. */
static int last_of_copy(const survey *v, int slot, const int *again_last)
{
    const int last = v->dropped[slot] ? v->last_back[slot] : v->when[slot];

    return THAW_MAX(last, again_last[slot]);
}

/* Most bytes alive at one step. What is made before a step counts as alive at it. */
static int64_t peak(survey *v, int *again_last)
{
    const plan *p = v->p;
    int64_t now = 0, most = 0;

    find_times(v);
    for (int i = 0; i < p->n_slots; i++)
        again_last[i] = -1;
    for (int s = p->n_once; s < v->end; s++) {
        const plan_step *step = &p->step[s];

        if (step->out[0] < 0 || v->maker[step->out[0]] != s || !v->copied[step->out[0]])
            continue;
        for (int i = 0; i < count_again_inputs(step); i++) {
            const int slot = thaw__plan_again_input(step, i);

            if (slot >= 0)
                again_last[slot] = THAW_MAX(again_last[slot], v->when[step->out[0]]);
        }
    }
    memset(v->change, 0, ((size_t)v->n_steps + 2) * sizeof *v->change);
    for (int i = 0; i < p->n_slots; i++) {
        int last = THAW_MAX(v->last[i], v->dropped[i] ? -1 : v->last_back[i]);

        if (p->slot[i].place != SLOT_ARENA)
            continue;
        if (!v->copied[i])
            last = THAW_MAX(last, again_last[i]);
        else
            live(v, i, v->when[i], last_of_copy(v, i, again_last));
        live(v, i, p->slot[i].first, THAW_MIN(last, v->n_steps));
    }
    for (int s = 0; s < v->n_steps; s++) {
        now += v->change[s];
        most = THAW_MAX(most, now);
    }
    return most;
}

/* Drop all that can be made again, then keep what the peak has room for: first what is made last,
 * whose memory is needed for the shortest time. */
static thaw_status choose(survey *v, int64_t *before, int64_t *after)
{
    const plan *p = v->p;
    int *again_last = region_alloc(v->region, (size_t)p->n_slots, sizeof *again_last);

    if (!again_last)
        return thaw_fail(THAW_E_NOMEM, "no memory for a plan of %d steps", v->n_steps);
    *before = peak(v, again_last);
    for (int i = 0; i < p->n_slots; i++)
        v->dropped[i] =
            v->maker[i] >= 0 && v->first_back[i] < v->n_steps && v->last_back[i] < v->n_steps;
    *after = peak(v, again_last);
    for (int i = p->n_slots; i-- > 0;) {
        if (!v->dropped[i])
            continue;
        v->dropped[i] = false;
        if (peak(v, again_last) > *after)
            v->dropped[i] = true;
    }
    (void)peak(v, again_last);
    return THAW_OK;
}

/* Bytes that the steps made again move. */
static double traffic(const survey *v)
{
    double sum = 0;

    for (int s = v->p->n_once; s < v->end; s++) {
        const plan_step *step = &v->p->step[s];

        if (step->out[0] < 0 || v->maker[step->out[0]] != s || !v->copied[step->out[0]])
            continue;
        sum += (double)v->p->slot[step->out[0]].bytes;
        for (int i = 0; i < count_again_inputs(step); i++)
            if (thaw__plan_again_input(step, i) >= 0)
                sum += (double)v->p->slot[thaw__plan_again_input(step, i)].bytes;
    }
    return sum;
}

static bool is_worth_it(const survey *v, int64_t before, int64_t after)
{
    double flops = 0;

    for (int s = 0; s < v->n_steps; s++)
        flops += v->p->step[s].flops;
    return (double)(before - after) >= LEAST_GAIN * (double)before &&
           traffic(v) * FLOPS_PER_BYTE <= MOST_SHARE * flops;
}

/* ----------------------------------------------------------------------------------------------
 * the new list of steps */

typedef struct rebuilding {
    survey *v;
    plan *p;
    plan_step *step; /* the new list */
    int n;
    int *number; /* [n_steps] new number of an old step */
    int *copy;   /* [n_slots] slot of what is made again, -1 */
} rebuilding;

static int read_now(const rebuilding *r, int slot)
{
    return slot >= 0 && r->copy[slot] >= 0 ? r->copy[slot] : slot;
}

static int add_copy(rebuilding *r, int slot)
{
    plan *p = r->p;

    p->slot[p->n_slots] = p->slot[slot];
    return r->copy[slot] = p->n_slots++;
}

static thaw_status repeat(rebuilding *r, int forward)
{
    const plan_step *from = &r->p->step[forward];
    const int n_reads = count_again_inputs(from);
    int *in = region_alloc(r->p->region, (size_t)n_reads + 1, sizeof *in), *out = in + n_reads;
    plan_post *post = region_alloc(r->p->region, (size_t)from->n_post, sizeof *post);
    plan_step *to = &r->step[r->n];

    if (!in || !post)
        return thaw_fail(THAW_E_NOMEM, "no memory for the steps of a plan");
    for (int i = 0; i < n_reads; i++)
        in[i] = read_now(r, thaw__plan_again_input(from, i));
    *to = *from;
    to->op = again_table[from->op].op;
    to->again = forward;
    to->n_in = from->n_in - (from->n_reads - n_reads);
    to->n_out = 1;
    to->n_reads = n_reads;
    to->in = in;
    to->out = out;
    to->post = post;
    for (int k = 0; k < from->n_post; k++) {
        post[k] = from->post[k];
        post[k].in = in + (from->post[k].in - from->in) - (from->n_reads - n_reads);
    }
    out[0] = add_copy(r, from->out[0]);
    r->n++;
    return THAW_OK;
}

/* A step that was there: it reads copies from now on. */
static void take_over(rebuilding *r, int s)
{
    plan_step *to = &r->step[r->n];
    int *in = (int *)(uintptr_t)r->p->step[s].in;

    *to = r->p->step[s];
    if (to->forward >= 0)
        to->forward = r->number[to->forward];
    for (int i = 0; s >= r->v->end && i < to->n_reads; i++)
        if (in[i] >= 0 && r->v->dropped[in[i]])
            in[i] = read_now(r, in[i]);
    r->number[s] = r->n++;
}

/* Life spans of what lies in the arena, from the new list. */
static void renew_spans(plan *p)
{
    const int n = p->n_once + p->n_step;
    const int result[] = {p->results.loss, p->results.valid, p->results.output,
                          p->results.predicted};

    for (int s = 0; s < n; s++) {
        for (int i = 0; i < p->step[s].n_reads; i++)
            if (p->step[s].in[i] >= 0)
                p->slot[p->step[s].in[i]].last = s;
        for (int j = 0; j < p->step[s].n_out; j++)
            if (p->step[s].out[j] >= 0) {
                plan_slot *slot = &p->slot[p->step[s].out[j]];

                slot->first = slot->last = s;
            }
    }
    for (size_t i = 0; i < THAW_COUNT(result); i++)
        if (result[i] >= 0)
            p->slot[result[i]].last = n;
}

/* Room for the copies behind the slots that are there. */
static thaw_status make_room(rebuilding *r, int n_copies)
{
    plan *p = r->p;
    const size_t n = (size_t)(p->n_slots + n_copies);
    plan_slot *slot = region_alloc(p->region, n, sizeof *slot);

    r->step = region_alloc(p->region, (size_t)(r->v->n_steps + n_copies), sizeof *r->step);
    r->number = region_alloc(r->v->region, (size_t)r->v->n_steps, sizeof *r->number);
    r->copy = region_alloc(r->v->region, n, sizeof *r->copy);
    if (!slot || !r->step || !r->number || !r->copy)
        return thaw_fail(THAW_E_NOMEM, "no memory for the steps of a plan");
    for (size_t i = 0; i < n; i++)
        r->copy[i] = -1;
    memcpy(slot, p->slot, (size_t)p->n_slots * sizeof *slot);
    p->slot = slot;
    return THAW_OK;
}

static thaw_status rebuild(survey *v, plan *p)
{
    rebuilding r = {.v = v, .p = p};
    const int n_slots = p->n_slots;
    int n_copies = 0;

    for (int i = 0; i < n_slots; i++)
        n_copies += v->copied[i];
    THAW_CHECK(make_room(&r, n_copies));
    for (int s = 0; s < v->n_steps; s++) {
        for (int f = p->n_once; s >= v->end && f < v->end; f++) {
            const int made = p->step[f].out[0];

            if (made >= 0 && v->maker[made] == f && v->copied[made] && v->when[made] == s)
                THAW_CHECK(repeat(&r, f));
        }
        take_over(&r, s);
    }
    p->step = r.step;
    p->n_step = r.n - p->n_once;
    renew_spans(p);
    return THAW_OK;
}

thaw_status thaw__plan_recompute(plan_build *b)
{
    const plan_recompute how = b->request->recompute;
    int64_t before = 0, after = 0;
    survey v;

    if (how == PLAN_RECOMPUTE_NEVER || !b->g->grad)
        return THAW_OK;
    THAW_CHECK(survey_alloc(&v, b));
    look(&v);
    THAW_CHECK(choose(&v, &before, &after));
    if (after >= before || (how == PLAN_RECOMPUTE_AUTO && !is_worth_it(&v, before, after)))
        return THAW_OK;
    return rebuild(&v, b->plan);
}

int plan_count_again(const plan *p)
{
    int n = 0;

    for (int s = 0; s < p->n_once + p->n_step; s++)
        n += p->step[s].again >= 0;
    return n;
}
