/*
 * fuse.c - which ops are done in one pass over memory: a step's posts.
 *
 * The idea: a chain of nodes is one step when nobody else ever sees what lies between them,
 * backward included. Such a value needs no memory and no pass over it. Chains never mix what a
 * gradient passes through with what it does not, so a frozen part is cut into the same steps, and
 * gives the same bits, whatever trains behind it. Knows nothing of how a kernel does it.
 */
#include "plan/plan.h"

/* ----------------------------------------------------------------------------------------------
 * what may follow what */

/* Forward posts come in this order, each rank at most once. */
static const struct {
    int own;  /* rank as a step's own op, 0: takes no posts */
    int post; /* rank as a post, 0: never one */
} rank_table[OP_COUNT] = {
    [OP_CONV2D] = {1, 0},
    [OP_BATCH_NORM_TRAIN] = {2, 0},
    [OP_BATCH_NORM_INFER] = {2, 2},
    [OP_BATCH_NORM_AGAIN] = {2, 0},
    [OP_ADD] = {3, 3},
    [OP_RELU] = {0, 4},
    [OP_RELU6] = {0, 4},
};

/* Ops whose gradient may be the first thing that the gradient of an op does; or a sum, the last. */
static bool may_join_backward(op_kind own, op_kind before, op_kind post)
{
    if (own == OP_CONV2D && post == OP_ADD)
        return before == own || before == OP_BATCH_NORM_INFER;
    if (own != before)
        return false;
    if (own == OP_CONV2D)
        return post == OP_BATCH_NORM_INFER;
    return (own == OP_BATCH_NORM_TRAIN || own == OP_BATCH_NORM_INFER) &&
           (post == OP_RELU || post == OP_RELU6);
}

bool thaw__plan_may_post(op_kind own, op_kind before, op_kind post, bool backward)
{
    const int rank = own == before ? rank_table[own].own : rank_table[before].post;

    if (backward)
        return may_join_backward(own, before, post);
    return rank > 0 && rank_table[post].post > rank;
}

/* ----------------------------------------------------------------------------------------------
 * who reads what */

typedef struct fusing {
    plan_build *b;
    int *readers; /* [n_values] live readers; results have one more */
    int *reader;  /* [n_values] the last of them */
} fusing;

static void count_result(fusing *f, value_id v)
{
    if (v != NO_VALUE)
        f->readers[v]++;
}

static thaw_status count_readers(fusing *f)
{
    const plan_build *b = f->b;
    const graph *g = b->g;

    f->readers = region_alloc(g->region, g->n_values, sizeof *f->readers);
    f->reader = region_alloc(g->region, g->n_values, sizeof *f->reader);
    if (!f->readers || !f->reader)
        return thaw_fail(THAW_E_NOMEM, "no memory for a plan of %zu nodes", g->n_nodes);
    for (size_t k = 0; k < g->n_nodes; k++)
        for (int i = 0; b->live[k] && i < g->node[k].n_in; i++)
            if (g->node[k].in[i] != NO_VALUE) {
                f->readers[g->node[k].in[i]]++;
                f->reader[g->node[k].in[i]] = (int)k;
            }
    count_result(f, b->output);
    count_result(f, b->loss);
    count_result(f, b->valid);
    count_result(f, b->predicted);
    for (int p = 0; g->param_grad && p < g->n_params; p++)
        count_result(f, g->param_grad[p]);
    return THAW_OK;
}

/* The one node that reads a value, -1: there are others, or none. */
static int only_reader(const fusing *f, value_id v)
{
    return f->readers[v] == 1 ? f->reader[v] : -1;
}

/* ----------------------------------------------------------------------------------------------
 * forward */

static bool has_gradient(const graph *g, value_id v)
{
    return g->grad && g->grad[v] != NO_VALUE;
}

static bool trains(const plan_build *b, value_id v)
{
    return v != NO_VALUE && b->g->value[v].kind == VALUE_PARAM &&
           b->trainable[b->g->value[v].index];
}

/* Somebody's weight, or a value made before step `own` runs. */
static bool is_ready(const plan_build *b, value_id v, int own)
{
    return v == NO_VALUE || b->g->value[v].kind != VALUE_NODE ||
           b->head[b->g->value[v].producer] < own;
}

static bool is_allowed(const plan_build *b, const graph_node *post)
{
    return post->op == OP_BATCH_NORM_INFER ? b->request->fold : b->request->fuse;
}

/* A norm is folded where neither it nor the convolution learns. */
static bool is_at_rest(const plan_build *b, const graph_node *own, const graph_node *post)
{
    for (int i = 1; post->op == OP_BATCH_NORM_INFER && i < post->n_in; i++)
        if (trains(b, post->in[i]) || b->g->value[post->in[i]].kind != VALUE_PARAM)
            return false;
    for (int i = 1; post->op == OP_BATCH_NORM_INFER && i < own->n_in; i++)
        if (trains(b, own->in[i]) ||
            (own->in[i] != NO_VALUE && b->g->value[own->in[i]].kind != VALUE_PARAM))
            return false;
    return true;
}

/*
 * Kernel libraries' activations make a zero of what is not a number, which would hide from the loss
 * that a network in training has gone astray.
 */
static bool may_hide_nan(const graph *g, const graph_node *own, const graph_node *post)
{
    return own->op == OP_CONV2D && (post->op == OP_RELU || post->op == OP_RELU6) &&
           has_gradient(g, post->out[0]);
}

/* Whether node `post`, which alone reads what `last` makes, becomes a post of `own`'s step. */
static bool joins(const fusing *f, int own, int last, int post)
{
    const plan_build *b = f->b;
    const graph *g = b->g;
    const graph_node *x = &g->node[own], *y = &g->node[last], *z = &g->node[post];

    if (z->wrt || post >= g->n_forward || !thaw__plan_may_post(x->op, y->op, z->op, false) ||
        !is_allowed(b, z) || !is_at_rest(b, x, z) || may_hide_nan(g, x, z) ||
        has_gradient(g, y->out[0]) != has_gradient(g, z->out[0]))
        return false;
    for (int i = 0; i < z->n_in; i++)
        if (z->in[i] != y->out[0] && !is_ready(b, z->in[i], own))
            return false;
    /* One that reads its chain as src, not as weight. */
    return z->in[0] == y->out[0] || z->op == OP_ADD;
}

static void fuse_forward(fusing *f, int own)
{
    plan_build *b = f->b;
    int last = own;

    for (int post = only_reader(f, b->g->node[last].out[0]); post >= 0 && joins(f, own, last, post);
         post = only_reader(f, b->g->node[last].out[0])) {
        b->next[last] = post;
        b->head[post] = own;
        last = post;
    }
}

/* ----------------------------------------------------------------------------------------------
 * backward */

/* The gradient that a backward node takes comes from the gradient of the post right behind it. */
static void fuse_backward(fusing *f, int own)
{
    plan_build *b = f->b;
    const graph *g = b->g;
    const graph_node *x = &g->node[own], *z;
    const value_id d = x->in[0];
    int post;

    if (d == NO_VALUE || g->value[d].kind != VALUE_NODE || only_reader(f, d) != own)
        return;
    post = g->value[d].producer;
    z = &g->node[post];
    if (z->wrt != OP_IN(0) || b->next[x->forward] != z->forward || b->head[post] != post ||
        !thaw__plan_may_post(x->op, x->op, z->op, true) ||
        (x->op == OP_CONV2D && x->wrt != OP_IN(0)))
        return;
    /* A norm that goes away altogether is worth more than its activation. */
    if (b->next[post] >= 0)
        b->head[b->next[post]] = b->next[post];
    b->next[post] = -1;
    b->next[own] = post;
    b->head[post] = own;
}

/* A window of one pixel that sees all of them: its gradient is a product of matrices, whose kernels
 * can add to what is there. */
static bool is_product(const graph *g, const graph_node *node)
{
    const op_attrs *a = &node->attrs;
    const shape *weight;

    if (node->op != OP_CONV2D || node->wrt != OP_IN(0))
        return false;
    weight = &g->value[g->node[node->forward].in[1]].shape;
    return weight->dim[2] == 1 && weight->dim[3] == 1 && a->conv.groups == 1 &&
           a->conv.stride[0] == 1 && a->conv.stride[1] == 1 && a->conv.pad[0] == 0 &&
           a->conv.pad[1] == 0;
}

/* The sum of what several uses of a value send back begins with what is there already. */
static void fuse_sum(fusing *f, int own)
{
    plan_build *b = f->b;
    const graph *g = b->g;
    const value_id made = g->node[own].out[0];
    const int sum = made == NO_VALUE ? -1 : only_reader(f, made);
    int last = own;

    if (!b->request->fuse || sum < own || g->node[sum].op != OP_ADD || g->node[sum].wrt ||
        !is_product(g, &g->node[own]) || !is_ready(b, g->node[sum].in[0], own) ||
        g->node[sum].in[1] != made)
        return;
    while (b->next[last] >= 0)
        last = b->next[last];
    b->next[last] = sum;
    b->head[sum] = own;
}

thaw_status thaw__plan_fuse(plan_build *b)
{
    const graph *g = b->g;
    fusing f = {.b = b};

    b->head = region_alloc(g->region, g->n_nodes, sizeof *b->head);
    b->next = region_alloc(g->region, g->n_nodes, sizeof *b->next);
    if (!b->head || !b->next)
        return thaw_fail(THAW_E_NOMEM, "no memory for a plan of %zu nodes", g->n_nodes);
    for (size_t k = 0; k < g->n_nodes; k++) {
        b->head[k] = (int)k;
        b->next[k] = -1;
    }
    THAW_CHECK(count_readers(&f));
    for (size_t k = 0; k < g->n_nodes; k++) {
        if (!b->live[k] || b->head[k] != (int)k)
            continue;
        if (k < (size_t)g->n_forward)
            fuse_forward(&f, (int)k);
        else if (g->node[k].wrt) {
            fuse_backward(&f, (int)k);
            fuse_sum(&f, (int)k);
        }
    }
    return THAW_OK;
}

int plan_count_posts(const plan *p, op_kind op)
{
    int n = 0;

    for (int s = p->n_once; s < p->n_once + p->n_forward; s++)
        for (int k = 0; k < p->step[s].n_post; k++)
            n += p->step[s].post[k].op == op;
    return n;
}
