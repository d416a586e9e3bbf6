/*
 * plan_verify.c - does a plan hold together?
 *
 * The idea: believe nothing that compiling found out. Everything is checked again from the plan
 * alone, the op table and the effect: shapes by the shape rules, life spans by who writes and
 * reads, memory by comparing all pairs of slots. Cheap enough to run after every compile.
 */
#include "plan/plan.h"

#include <string.h>

typedef struct verify_call {
    const plan *p;
    const thaw_effect *effect;
    int n_steps;
} verify_call;

/* ----------------------------------------------------------------------------------------------
 * complaints */

static thaw_status bad_step(const verify_call *c, int s, const char *what)
{
    const plan_step *step = &c->p->step[s];

    return thaw_fail(THAW_E_INTERNAL, "plan: step %d, %s '%s': %s", s,
                     step->op < OP_COUNT ? op_table[step->op].name : "?", step->name, what);
}

static thaw_status bad_slot(const verify_call *c, int i, const char *what)
{
    return thaw_fail(THAW_E_INTERNAL, "plan: slot %d, '%s': %s", i, c->p->slot[i].name, what);
}

/* ----------------------------------------------------------------------------------------------
 * slots alone */

static thaw_status check_slot(const verify_call *c, int i)
{
    const plan_slot *slot = &c->p->slot[i];
    size_t bytes, end;

    if (slot->place > SLOT_INPUT || slot->dtype >= DTYPE_COUNT)
        return bad_slot(c, i, "unknown place or type");
    THAW_CHECK(shape_bytes(&bytes, &slot->shape, slot->dtype));
    if (bytes != slot->bytes)
        return bad_slot(c, i, "its bytes are not those of its shape");
    if (slot->place != SLOT_ARENA)
        return slot->index >= 0 ? THAW_OK : bad_slot(c, i, "no index");
    if (slot->offset % MEMORY_ALIGN != 0)
        return bad_slot(c, i, "its offset is not aligned");
    if (!size_add(&end, slot->offset, slot->bytes) || end > c->p->arena_bytes)
        return bad_slot(c, i, "it ends outside the arena");
    if (slot->first < 0 || slot->last < slot->first || slot->last > c->n_steps)
        return bad_slot(c, i, "it ends before it begins");
    return THAW_OK;
}

static thaw_status check_slots(const verify_call *c)
{
    for (int i = 0; i < c->p->n_slots; i++)
        THAW_CHECK(check_slot(c, i));
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * steps alone */

/* One op of a forward step: its own, or one of its posts. What lies between them has no slot. */
typedef struct step_part {
    op_kind op;
    int module;
    const op_attrs *attrs;
    const int *in;
    int n_in;
    int n_out;
    int chain; /* the input that comes from the part before, -1: none */
} step_part;

static step_part part_of(const plan_step *step, int part)
{
    const plan_post *post = part > 0 ? &step->post[part - 1] : NULL;

    if (!post)
        return (step_part){step->op, step->module, &step->attrs, step->in, step->n_in, step->n_out,
                           -1};
    return (step_part){post->op,   post->module, &post->attrs,
                       post->in,   post->n_in,   op_table[post->op].n_outputs,
                       post->chain};
}

/* Slot of a part's output, -1: it has none, as it goes on to the next post. */
static int out_of(const plan_step *step, int part, int j)
{
    return part == (j > 0 ? 0 : step->n_post) ? step->out[j] : -1;
}

/* Shape and type of what lies between the parts: as of the whole step's first output. */
static int chain_slot(const plan_step *step)
{
    return step->out[0];
}

/* Of a backward step's posts, sums alone are no gradients. */
static bool is_gradient(const plan_step *step, const plan_post *post)
{
    return step->wrt != 0 && post->op != OP_ADD;
}

static thaw_status check_post_lists(const verify_call *c, int s)
{
    const plan_step *step = &c->p->step[s];
    int n = step->n_in;
    op_kind before = step->op;

    if (step->n_post < 0 || step->n_post > PLAN_MAX_POSTS)
        return bad_step(c, s, "too many posts");
    for (int k = 0; k < step->n_post; k++) {
        const plan_post *post = &step->post[k];

        if (post->op >= OP_COUNT ||
            !thaw__plan_may_post(step->op, before, post->op, step->wrt != 0))
            return bad_step(c, s, "a post that may not stand there");
        if (post->n_in < op_table[post->op].least_inputs || post->chain < 0 ||
            post->n_in > op_table[post->op].most_inputs + (is_gradient(step, post) ? 1 : 0) ||
            post->chain >= post->n_in || post->in != step->in + n)
            return bad_step(c, s, "a post with another list of inputs than its op has");
        n += post->n_in;
        before = post->op;
    }
    return n == step->n_reads ? THAW_OK : bad_step(c, s, "its list is not that of its posts");
}

/* Before anything of the lists is read. */
static thaw_status check_arity(const verify_call *c, int s)
{
    const plan_step *step = &c->p->step[s], *forward;
    const op_info *info;
    step_part part;

    if (step->op >= OP_COUNT)
        return bad_step(c, s, "unknown op");
    info = &op_table[step->op];
    THAW_CHECK(check_post_lists(c, s));
    if (!step->wrt)
        return step->n_in >= info->least_inputs && step->n_in <= info->most_inputs &&
                       step->n_out == info->n_outputs
                   ? THAW_OK
                   : bad_step(c, s, "wrong number of inputs or outputs");
    if (step->forward < 0 || step->forward >= s)
        return bad_step(c, s, "it has no forward step before it");
    forward = &c->p->step[step->forward];
    if (step->part < 0 || step->part > forward->n_post)
        return bad_step(c, s, "its forward step has no such part");
    part = part_of(forward, step->part);
    if (forward->wrt || part.op != step->op)
        return bad_step(c, s, "its forward step is another op");
    if (step->n_out != part.n_in || step->n_in != 2 * part.n_out + part.n_in)
        return bad_step(c, s, "wrong number of inputs or outputs");
    return THAW_OK;
}

static bool has_slots(const plan *p, const int *list, int n)
{
    for (int i = 0; i < n; i++)
        if (list[i] < -1 || list[i] >= p->n_slots)
            return false;
    return true;
}

/* Shapes and types of one part's outputs, by the op's rule. */
static thaw_status infer_part(shape *out_shape, dtype *out_dtype, const verify_call *c, int s,
                              int number)
{
    const plan *p = c->p;
    const plan_step *step = &p->step[s];
    const step_part part = part_of(step, number);
    const op_info *info = &op_table[part.op];
    shape in_shape[OP_MAX_INPUTS];
    dtype in_dtype[OP_MAX_INPUTS];

    for (int i = 0; i < part.n_in; i++) {
        const int slot = i == part.chain ? chain_slot(step) : part.in[i];

        if (slot < 0 && i < info->least_inputs)
            return bad_step(c, s, "an input is missing");
        in_shape[i] = slot < 0 ? (shape){.rank = -1} : p->slot[slot].shape;
        in_dtype[i] = slot < 0 ? p->real : p->slot[slot].dtype;
        if ((info->mutates & OP_IN(i)) && p->slot[slot].place != SLOT_PARAM)
            return bad_step(c, s, "it updates something that is no tensor of the model");
    }
    return graph_infer(out_shape, out_dtype, part.op, part.attrs, step->name, p->real, part.n_in,
                       in_shape, in_dtype);
}

static bool trains(const verify_call *c, int param)
{
    return c->effect && param < c->effect->n_params && c->effect->trainable[param];
}

/* A norm stands behind a convolution only where neither learns: it may be folded into the weight.
 */
static thaw_status check_folded(const verify_call *c, int s)
{
    const plan *p = c->p;
    const plan_step *step = &p->step[s];

    if (step->n_post == 0 || step->op != OP_CONV2D || step->post[0].op != OP_BATCH_NORM_INFER)
        return THAW_OK;
    for (int i = 1; i < step->n_reads; i++) {
        const plan_slot *slot = &p->slot[THAW_MAX(step->in[i], 0)];
        const bool norm =
            step->in + i > step->post[0].in && step->in + i < step->post[0].in + step->post[0].n_in;

        if (step->in[i] < 0 || (i >= step->n_in && !norm))
            continue;
        if (!step->wrt && (slot->place != SLOT_PARAM || (p->training && trains(c, slot->index))))
            return bad_step(c, s, "it folds a norm, and one of the two learns");
    }
    return THAW_OK;
}

/* Shapes and types of the outputs are what the ops' rules say; posts keep that of the first. */
static thaw_status check_forward(const verify_call *c, int s)
{
    const plan *p = c->p;
    const plan_step *step = &p->step[s];
    shape out_shape[OP_MAX_OUTPUTS];
    dtype out_dtype[OP_MAX_OUTPUTS];

    for (int j = 0; j < step->n_out; j++)
        if (step->out[j] < 0)
            return bad_step(c, s, "an output is missing or has another shape than the op makes");
    for (int part = 0; part <= step->n_post; part++) {
        const int n_out = part == 0 ? step->n_out : 1;

        THAW_CHECK(infer_part(out_shape, out_dtype, c, s, part));
        for (int j = 0; j < n_out; j++)
            if (!shape_equal(&p->slot[step->out[j]].shape, &out_shape[j]) ||
                p->slot[step->out[j]].dtype != out_dtype[j])
                return bad_step(c, s,
                                "an output is missing or has another shape than the op makes");
    }
    return check_folded(c, s);
}

static bool same_tensor(const plan *p, int a, int b)
{
    return p->slot[a].dtype == p->slot[b].dtype &&
           shape_equal(&p->slot[a].shape, &p->slot[b].shape);
}

/* Slot b, or what a step made of it once more. */
static bool same_value(const plan *p, int a, int b)
{
    const plan_step *maker;

    if (a == b || a < 0 || b < 0 || p->slot[a].place != SLOT_ARENA ||
        p->slot[a].first >= p->n_once + p->n_step)
        return a == b;
    maker = &p->step[p->slot[a].first];
    return maker->again >= 0 && maker->again < p->slot[a].first && maker->out[0] == a &&
           p->step[maker->again].out[0] == b;
}

/* It makes what the forward step made: the same op and posts of the same values. */
static thaw_status check_again(const verify_call *c, int s)
{
    const plan *p = c->p;
    const plan_step *step = &p->step[s], *forward;
    const int more = step->op == OP_BATCH_NORM_AGAIN ? 1 : 0;

    if (step->wrt || step->again >= p->n_once + p->n_forward || step->again >= s)
        return bad_step(c, s, "it repeats no forward step");
    forward = &p->step[step->again];
    if (forward->wrt || forward->again >= 0 || thaw__plan_again_op(forward->op) != step->op ||
        memcmp(&forward->attrs, &step->attrs, sizeof step->attrs) != 0 ||
        forward->module != step->module || forward->n_post != step->n_post ||
        forward->n_reads != step->n_reads + more || step->n_out != 1)
        return bad_step(c, s, "it repeats another op");
    for (int i = 0; i < step->n_reads; i++)
        if (!same_value(p, step->in[i], thaw__plan_again_input(forward, i)))
            return bad_step(c, s, "it repeats a step with other inputs");
    for (int k = 0; k < step->n_post; k++)
        if (forward->post[k].op != step->post[k].op ||
            forward->post[k].chain != step->post[k].chain ||
            forward->post[k].n_in != step->post[k].n_in ||
            memcmp(&forward->post[k].attrs, &step->post[k].attrs, sizeof(op_attrs)) != 0)
            return bad_step(c, s, "it repeats a step with other posts");
    return same_tensor(p, step->out[0], forward->out[0])
               ? THAW_OK
               : bad_step(c, s, "it makes another shape than the step that it repeats");
}

/* A slot that a backward step reads is the forward step's own, or what made it once more, where its
 * gradients read it, else it is left out. */
static bool reads_right(const plan *p, int slot, int forward, bool reads)
{
    return reads ? same_value(p, slot, forward) : slot == -1;
}

static thaw_status check_reads(const verify_call *c, int s, const plan_step *forward)
{
    const plan_step *step = &c->p->step[s];
    const op_info *info = &op_table[step->op];
    const step_part part = part_of(forward, step->part);
    uint32_t reads = 0;

    for (int i = 0; i < step->n_out; i++)
        if (step->wrt & OP_IN(i))
            reads |= info->grad[i].reads;
    for (int i = 0; i < part.n_in; i++)
        if (!reads_right(c->p, step->in[backward_in(info, step->n_out, i)], part.in[i],
                         (reads & OP_IN(i)) != 0) ||
            ((reads & OP_IN(i)) && i == part.chain))
            return bad_step(c, s,
                            "an input of the forward step is missing, another, or kept for "
                            "nothing");
    for (int j = 0; j < part.n_out; j++)
        if (!reads_right(c->p, step->in[backward_out(info, step->n_out, j)],
                         out_of(forward, step->part, j), (reads & OP_OUT(j)) != 0))
            return bad_step(c, s,
                            "an output of the forward step is missing, another, or kept for "
                            "nothing");
    return THAW_OK;
}

/* A sum of gradients: both of one shape. */
static thaw_status check_backward_sum(const verify_call *c, int s, const plan_post *post)
{
    const plan_step *step = &c->p->step[s];
    const int other = post->in[1 - post->chain];

    if (step->wrt != OP_IN(0) || step->out[0] < 0 || other < 0 ||
        !same_tensor(c->p, other, step->out[0]))
        return bad_step(c, s, "its sum is of two shapes");
    return THAW_OK;
}

/* The post of a backward step is the one behind its own part of the forward step, and reads what
 * its gradient does. */
static thaw_status check_backward_post(const verify_call *c, int s, const plan_step *forward)
{
    const plan_step *step = &c->p->step[s];
    const plan_post *post = step->post;
    step_part part;
    uint32_t reads;

    if (step->n_post > 0 && step->post[step->n_post - 1].op == OP_ADD)
        THAW_CHECK(check_backward_sum(c, s, &step->post[step->n_post - 1]));
    if (step->n_post == 0 || post->op == OP_ADD)
        return THAW_OK;
    if (step->part + 1 > forward->n_post || (step->op == OP_CONV2D && step->wrt != OP_IN(0)))
        return bad_step(c, s, "its post is not in the forward step");
    part = part_of(forward, step->part + 1);
    if (post->op != part.op || post->module != part.module || post->chain != part.chain ||
        post->n_in != part.n_in + 1 || memcmp(&post->attrs, part.attrs, sizeof post->attrs) != 0)
        return bad_step(c, s, "its post is another layer");
    reads = op_table[post->op].grad[part.chain].reads;
    for (int i = 0; i < part.n_in; i++)
        if (!reads_right(c->p, post->in[i], part.in[i], (reads & OP_IN(i)) != 0))
            return bad_step(c, s, "its post reads another input than forward");
    if (!reads_right(c->p, post->in[part.n_in], out_of(forward, step->part + 1, 0),
                     (reads & OP_OUT(0)) != 0))
        return bad_step(c, s, "its post reads another output than forward");
    return THAW_OK;
}

/* Gradients are made where wanted, and all gradients have the shapes of what they belong to. */
static thaw_status check_made(const verify_call *c, int s, const plan_step *forward)
{
    const plan *p = c->p;
    const plan_step *step = &p->step[s];
    const step_part part = part_of(forward, step->part);
    bool starts = out_of(forward, step->part, 0) == p->results.loss;

    for (int i = 0; i < 32; i++)
        if (((step->wrt >> i) & 1) &&
            (i >= step->n_out || op_table[step->op].grad[i].kind != GRAD_NODE))
            return bad_step(c, s, "a gradient is wanted that the op does not have");
    for (int i = 0; i < step->n_out; i++) {
        const int source = i == part.chain ? chain_slot(forward) : part.in[i];

        if ((step->out[i] >= 0) != ((step->wrt & OP_IN(i)) != 0))
            return bad_step(c, s, "a wanted gradient is not made, or one that is not wanted is");
        if (step->out[i] >= 0 && (source < 0 || !same_tensor(p, step->out[i], source)))
            return bad_step(c, s, "a gradient has another shape than its input");
    }
    for (int j = 0; j < part.n_out; j++) {
        const int made = j == 0 ? chain_slot(forward) : out_of(forward, step->part, j);

        starts |= step->in[j] >= 0;
        if (step->in[j] >= 0 && (made < 0 || !same_tensor(p, step->in[j], made)))
            return bad_step(c, s, "a gradient that it takes has another shape than the output");
    }
    return starts ? THAW_OK : bad_step(c, s, "it has no gradient to start from");
}

static thaw_status check_backward(const verify_call *c, int s)
{
    const plan_step *step = &c->p->step[s];
    const plan_step *forward = &c->p->step[step->forward];
    const step_part part = part_of(forward, step->part);

    if (part.module != step->module || memcmp(part.attrs, &step->attrs, sizeof step->attrs) != 0)
        return bad_step(c, s, "its forward step is another layer");
    THAW_CHECK(check_made(c, s, forward));
    THAW_CHECK(check_reads(c, s, forward));
    return check_backward_post(c, s, forward);
}

/* Norms and dropout run as the effect says, and only while training. */
static thaw_status check_mode(const verify_call *c, int s)
{
    const plan_step *step = &c->p->step[s];
    const uint8_t mode = thaw__plan_mode_of(step->op);

    if (!mode || step->wrt)
        return THAW_OK;
    if (!c->effect || step->module < 0 || step->module >= c->effect->n_modules ||
        !(c->effect->mode[step->module] & mode))
        return bad_step(c, s, "the phase does not let it run in training mode");
    return THAW_OK;
}

static thaw_status check_steps(const verify_call *c)
{
    const plan *p = c->p;

    if (p->n_forward < 0 || p->n_forward > p->n_step)
        return thaw_fail(THAW_E_INTERNAL, "plan: %d forward steps of %d", p->n_forward, p->n_step);
    for (int s = 0; s < c->n_steps; s++) {
        const plan_step *step = &p->step[s];

        THAW_CHECK(check_arity(c, s));
        if (!has_slots(p, step->in, step->n_reads) || !has_slots(p, step->out, step->n_out))
            return bad_step(c, s, "unknown slot");
        if (step->section != (s < p->n_once ? SECTION_ONCE : SECTION_STEP))
            return bad_step(c, s, "it is in the wrong section");
        if (step->wrt && s < p->n_once + p->n_forward)
            return bad_step(c, s, "a backward step among the forward ones");
        if (!step->wrt && step->op != OP_ADD && step->again < 0 && s >= p->n_once + p->n_forward)
            return bad_step(c, s, "a forward step among the backward ones");
        if (step->again >= 0)
            THAW_CHECK(check_again(c, s));
        THAW_CHECK(step->wrt ? check_backward(c, s) : check_forward(c, s));
        THAW_CHECK(check_mode(c, s));
    }
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * who writes and reads what */

static thaw_status check_writes(const verify_call *c, int s, int *writes)
{
    const plan_step *step = &c->p->step[s];

    for (int j = 0; j < step->n_out; j++) {
        const plan_slot *slot = &c->p->slot[THAW_MAX(step->out[j], 0)];

        if (step->out[j] < 0)
            continue;
        if (slot->place != SLOT_ARENA && slot->place != SLOT_GRAD)
            return bad_step(c, s, "it writes a parameter or an input");
        if (writes[step->out[j]]++)
            return bad_step(c, s, "it writes what another step has written");
        if (slot->place == SLOT_ARENA && slot->first != s)
            return bad_step(c, s, "its output does not begin to live here");
    }
    return THAW_OK;
}

static thaw_status check_uses(const verify_call *c)
{
    const plan *p = c->p;
    thaw_status status = THAW_OK;
    int *writes = thaw__new((size_t)p->n_slots, sizeof *writes);

    if (!writes)
        return thaw_fail(THAW_E_NOMEM, "no memory to verify a plan");
    for (int s = 0; s < c->n_steps; s++) {
        const plan_step *step = &p->step[s];

        for (int i = 0; i < step->n_reads; i++) {
            const plan_slot *slot = &p->slot[THAW_MAX(step->in[i], 0)];

            if (step->in[i] < 0 || slot->place == SLOT_PARAM || slot->place == SLOT_INPUT)
                continue;
            if (slot->place == SLOT_GRAD || !writes[step->in[i]])
                status = bad_step(c, s, "it reads what no step before it made");
            else if (slot->last < s)
                status = bad_step(c, s, "it reads what does not live any more");
            if (status != THAW_OK)
                goto done;
        }
        THAW_TRY(check_writes(c, s, writes));
    }
    for (int i = 0; i < p->n_slots; i++)
        if (!writes[i] && (p->slot[i].place == SLOT_ARENA || p->slot[i].place == SLOT_GRAD)) {
            status = bad_slot(c, i, "nobody writes it");
            goto done;
        }
done:
    thaw__free(writes);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * memory */

static bool ranges_meet(size_t a, size_t a_bytes, size_t b, size_t b_bytes)
{
    return a < b + b_bytes && b < a + a_bytes;
}

/* a's memory goes over to b at b's first step, in place. */
static bool takes_over(const plan *p, int a, int b)
{
    const int s = p->slot[b].first;
    const plan_step *step = &p->step[s];

    if (p->slot[a].last != s || p->slot[a].offset != p->slot[b].offset)
        return false;
    for (int i = 0; i < step->n_reads; i++)
        for (int j = 0; j < step->n_out; j++)
            if (step->in[i] == a && step->out[j] == b && thaw__plan_may_share(p, step, i, j))
                return true;
    return false;
}

static thaw_status check_overlap(const verify_call *c)
{
    const plan *p = c->p;

    for (int a = 0; a < p->n_slots; a++) {
        const plan_slot *x = &p->slot[a];

        for (int b = a + 1; x->place == SLOT_ARENA && b < p->n_slots; b++) {
            const plan_slot *y = &p->slot[b];

            if (y->place == SLOT_ARENA && x->first <= y->last && y->first <= x->last &&
                ranges_meet(x->offset, x->bytes, y->offset, y->bytes) && !takes_over(p, a, b) &&
                !takes_over(p, b, a))
                return thaw_fail(THAW_E_INTERNAL,
                                 "plan: slots %d '%s' and %d '%s' live at the same time in the "
                                 "same memory",
                                 a, x->name, b, y->name);
        }
    }
    return THAW_OK;
}

static thaw_status check_scratch(const verify_call *c)
{
    const plan *p = c->p;

    for (int s = 0; s < c->n_steps; s++) {
        const plan_step *step = &p->step[s];
        size_t end;

        if (step->scratch_bytes == 0)
            continue;
        if (step->scratch_offset % MEMORY_ALIGN != 0 ||
            !size_add(&end, step->scratch_offset, step->scratch_bytes) || end > p->arena_bytes)
            return bad_step(c, s, "its scratch memory is not in the arena");
        for (int i = 0; i < p->n_slots; i++)
            if (p->slot[i].place == SLOT_ARENA && p->slot[i].first <= s && s <= p->slot[i].last &&
                ranges_meet(step->scratch_offset, step->scratch_bytes, p->slot[i].offset,
                            p->slot[i].bytes))
                return bad_step(c, s, "its scratch memory is a slot that lives");
    }
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * gradients and results */

static thaw_status check_gradients(const verify_call *c)
{
    const plan *p = c->p;
    const int n_params = c->effect ? c->effect->n_params : 0;
    thaw_status status = THAW_OK;
    int *grads = thaw__new((size_t)n_params, sizeof *grads);

    if (!grads)
        return thaw_fail(THAW_E_NOMEM, "no memory to verify a plan");
    for (int i = 0; i < p->n_slots; i++) {
        if (p->slot[i].place != SLOT_GRAD)
            continue;
        if (!trains(c, p->slot[i].index) || !p->training)
            status = bad_slot(c, i, "a gradient of a parameter that does not train");
        else if (grads[p->slot[i].index]++)
            status = bad_slot(c, i, "a second gradient of one parameter");
        if (status != THAW_OK)
            goto done;
    }
    for (int i = 0; p->training && i < n_params; i++)
        if (trains(c, i) && !grads[i]) {
            status = thaw_fail(THAW_E_INTERNAL, "plan: parameter %d trains and has no gradient", i);
            goto done;
        }
    for (int i = 0; i < p->n_update; i++)
        if (!trains(c, p->update[i].param)) {
            status = thaw_fail(THAW_E_INTERNAL, "plan: parameter %d does not train and is updated",
                               p->update[i].param);
            goto done;
        }
done:
    thaw__free(grads);
    return status;
}

static thaw_status check_result(const verify_call *c, int slot, dtype d, int rank, const char *name)
{
    const plan *p = c->p;

    if (slot < -1 || slot >= p->n_slots)
        return thaw_fail(THAW_E_INTERNAL, "plan: the result '%s' is slot %d of %d", name, slot,
                         p->n_slots);
    if (slot < 0)
        return THAW_OK;
    if (p->slot[slot].dtype != d || (rank >= 0 && p->slot[slot].shape.rank != rank))
        return bad_slot(c, slot, "a result of another type or shape");
    if (p->slot[slot].place == SLOT_ARENA && p->slot[slot].last != c->n_steps)
        return bad_slot(c, slot, "a result that does not live to the end");
    return THAW_OK;
}

/* Real where it is the network's; what a prefix makes may be bf16. */
static dtype output_type(const verify_call *c)
{
    const plan *p = c->p;
    const bool whole = p->results.loss >= 0 || p->results.predicted >= 0;
    const int slot = p->results.output;

    return !whole && slot >= 0 && slot < p->n_slots && p->slot[slot].dtype == DTYPE_BF16
               ? DTYPE_BF16
               : p->real;
}

static thaw_status check_results(const verify_call *c)
{
    const plan_results *r = &c->p->results;

    if (c->p->training && (r->loss < 0 || r->valid < 0))
        return thaw_fail(THAW_E_INTERNAL, "plan: it trains without a loss");
    THAW_CHECK(check_result(c, r->loss, DTYPE_F64, 0, "loss"));
    THAW_CHECK(check_result(c, r->valid, DTYPE_F64, 0, "valid"));
    THAW_CHECK(check_result(c, r->output, output_type(c), -1, "output"));
    return check_result(c, r->predicted, DTYPE_I32, -1, "predicted");
}

static thaw_status (*const check_table[])(const verify_call *c) = {
    check_slots,   check_steps,     check_uses,    check_overlap,
    check_scratch, check_gradients, check_results,
};

thaw_status plan_verify(const plan *p, const thaw_effect *effect)
{
    const verify_call call = {.p = p, .effect = effect, .n_steps = p->n_once + p->n_step};

    for (size_t i = 0; i < THAW_COUNT(check_table); i++)
        THAW_CHECK(check_table[i](&call));
    return THAW_OK;
}
