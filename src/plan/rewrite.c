/*
 * rewrite.c - passes that change what a node is or where its result lies.
 *
 * The idea: two tables. One says which op depends on the phase's mode bits and what it is without
 * them; the other says which results may be written over an input. Both are walked, so that a new
 * op is one row.
 */
#include "plan/plan.h"

/* ----------------------------------------------------------------------------------------------
 * modes */

/* Running statistics are constants, and the last inputs and outputs are gone. */
static void use_running_statistics(plan_build *b, graph_node *node)
{
    (void)b;
    node->op = OP_BATCH_NORM_INFER;
    node->n_in = op_table[OP_BATCH_NORM_INFER].most_inputs;
    node->n_out = op_table[OP_BATCH_NORM_INFER].n_outputs;
}

/* Everybody reads the node's input instead; nobody needs the node any more. */
static void pass_through(plan_build *b, graph_node *node)
{
    graph *g = b->g;

    for (graph_node *user = node + 1; user < g->node + g->n_nodes; user++)
        for (int i = 0; i < user->n_in; i++)
            if (user->in[i] == node->out[0])
                user->in[i] = node->in[0];
    if (b->output == node->out[0])
        b->output = node->in[0];
}

/* The variance of one value is 0 / 0. */
static thaw_status want_several_rows(const graph *g, const graph_node *node)
{
    const shape *src = &g->value[node->in[0]].shape;
    int64_t rows = 1;
    char buffer[128];

    for (int i = 0; i < src->rank - 1 && rows == 1; i++)
        rows *= src->dim[i];
    if (rows > 1)
        return THAW_OK;
    return thaw_fail(THAW_E_SHAPE,
                     "layer '%s': batch statistics of %s: one value per channel; use a larger "
                     "batch, or freeze the layer",
                     node->name, shape_format(buffer, src));
}

static thaw_status always_fits(const graph *g, const graph_node *node)
{
    (void)g;
    (void)node;
    return THAW_OK;
}

static const struct {
    uint8_t mode; /* the bit that keeps the op as it is */
    thaw_status (*with)(const graph *g, const graph_node *node); /* may it stay? */
    void (*without)(plan_build *b, graph_node *node);            /* what else it becomes */
} mode_table[OP_COUNT] = {
    [OP_BATCH_NORM_TRAIN] = {THAW_MODE_NORM_TRAIN, want_several_rows, use_running_statistics},
    [OP_DROPOUT] = {THAW_MODE_DROPOUT, always_fits, pass_through},
};

uint8_t thaw__plan_mode_of(op_kind op)
{
    return mode_table[op].mode;
}

static bool mode_is_on(const plan_request *r, const graph_node *node, uint8_t mode)
{
    if (!r->training || !r->effect || node->module < 0)
        return false;
    if (node->op == OP_DROPOUT && node->attrs.dropout.p == 0)
        return false;
    return (r->effect->mode[node->module] & mode) != 0;
}

thaw_status thaw__plan_modes(plan_build *b)
{
    const plan_request *r = b->request;
    graph *g = b->g;

    for (size_t k = 0; k < g->n_nodes; k++) {
        graph_node *node = &g->node[k];
        const uint8_t mode = mode_table[node->op].mode;

        if (r->effect && node->module >= r->effect->n_modules)
            return thaw_fail(THAW_E_MISMATCH, "layer '%s' is module %d of the effect's %d",
                             node->name, node->module, r->effect->n_modules);
        if (!mode)
            continue;
        if (mode_is_on(r, node, mode))
            THAW_CHECK(mode_table[node->op].with(g, node));
        else
            mode_table[node->op].without(b, node);
    }
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * in place */

static bool any_time(const plan *p, const plan_step *step)
{
    (void)p;
    (void)step;
    return true;
}

/* Weight and bias gradients read d_dst too, and a kernel may do so after it wrote d_src. */
static bool makes_d_src_alone(const plan *p, const plan_step *step)
{
    (void)p;
    return (step->wrt & ~OP_IN(0)) == 0;
}

/* The image is the input forward and the output backward. */
static bool keeps_order(const plan *p, const plan_step *step)
{
    const shape *image = &p->slot[step->wrt ? step->out[0] : step->in[0]].shape;

    return image->dim[3] == 1 || (image->dim[1] == 1 && image->dim[2] == 1);
}

/* Output 0 over one of these inputs. */
static const struct {
    uint32_t forward;  /* OP_IN bits of forward inputs */
    uint32_t backward; /* OP_IN bits of a backward step's inputs: the gradients of outputs */
    bool (*when)(const plan *p, const plan_step *step);
} share_table[OP_COUNT] = {
    [OP_RELU] = {OP_IN(0), OP_IN(0), any_time},
    [OP_RELU6] = {OP_IN(0), OP_IN(0), any_time},
    [OP_ADD] = {OP_IN(0) | OP_IN(1), 0, any_time},
    [OP_DROPOUT] = {OP_IN(0), OP_IN(0), any_time},
    [OP_BATCH_NORM_TRAIN] = {OP_IN(0), OP_IN(0), any_time},
    [OP_BATCH_NORM_INFER] = {OP_IN(0), OP_IN(0), makes_d_src_alone},
    [OP_BATCH_NORM_AGAIN] = {OP_IN(0), 0, any_time},
    [OP_FLATTEN] = {OP_IN(0), OP_IN(0), keeps_order},
    [OP_LAYER_NORM] = {OP_IN(0), OP_IN(0), any_time},
    [OP_RMS_NORM] = {OP_IN(0), OP_IN(0), any_time},
    [OP_GELU] = {OP_IN(0), OP_IN(0), any_time},
};

/* The other operand of a sum among the posts; it must not be what the step itself reads. */
static bool is_addend(const plan_step *step, int in)
{
    if (in < step->n_in)
        return false;
    for (int i = 0; i < step->n_in; i++)
        if (step->in[i] == step->in[in])
            return false;
    for (int k = 0; k < step->n_post; k++)
        for (int i = 0; step->post[k].op == OP_ADD && i < step->post[k].n_in; i++)
            if (&step->post[k].in[i] == &step->in[in])
                return true;
    return false;
}

static bool op_shares(const plan *p, const plan_step *step, int in)
{
    const uint32_t inputs =
        step->wrt ? share_table[step->op].backward : share_table[step->op].forward;

    return in < THAW_MIN(step->n_in, OP_MAX_INPUTS) && (inputs & OP_IN(in)) &&
           share_table[step->op].when(p, step);
}

bool thaw__plan_may_share(const plan *p, const plan_step *step, int in, int out)
{
    const plan_slot *src, *dst;

    if (out != 0 || step->in[in] < 0 || step->out[out] < 0 ||
        !(op_shares(p, step, in) || is_addend(step, in)))
        return false;
    src = &p->slot[step->in[in]];
    dst = &p->slot[step->out[out]];
    return src->place == SLOT_ARENA && dst->place == SLOT_ARENA && src->bytes == dst->bytes;
}

int plan_count_shared(const plan *p)
{
    int n = 0;

    for (int s = 0; s < p->n_once + p->n_step; s++)
        n +=
            p->step[s].n_out > 0 && p->step[s].out[0] >= 0 && thaw__plan_shared_input(p, s, 0) >= 0;
    return n;
}

int thaw__plan_shared_input(const plan *p, int s, int out)
{
    const plan_step *step = &p->step[s];

    for (int i = 0; i < step->n_reads; i++)
        if (thaw__plan_may_share(p, step, i, out) && p->slot[step->in[i]].last == s &&
            p->slot[step->in[i]].offset == p->slot[step->out[out]].offset)
            return i;
    return -1;
}

/* The first input whose last reader is this step gives its memory to the output. */
static void share_step(plan_build *b, int s)
{
    const plan *p = b->plan;
    const plan_step *step = &p->step[s];

    for (int i = 0; i < step->n_reads; i++)
        if (thaw__plan_may_share(p, step, i, 0) && p->slot[step->in[i]].last == s) {
            b->host[step->out[0]] = step->in[i];
            return;
        }
}

thaw_status thaw__plan_inplace(plan_build *b)
{
    const plan *p = b->plan;

    b->host = region_alloc(b->g->region, (size_t)p->n_slots, sizeof *b->host);
    if (!b->host)
        return thaw_fail(THAW_E_NOMEM, "no memory for a plan of %d slots", p->n_slots);
    for (int i = 0; i < p->n_slots; i++)
        b->host[i] = -1;
    for (int s = 0; b->request->inplace && s < p->n_once + p->n_step; s++)
        share_step(b, s);
    return THAW_OK;
}
