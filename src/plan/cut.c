/*
 * cut.c - where a network can be cut in two, and the graph of either part.
 *
 * The idea: what the frozen beginning of a network makes of a sample is always the same, so it can
 * be computed once and kept. A walk over the nodes finds the last point at which a single value is
 * all that the rest of the network reads of the sample, and at which nothing that trains or draws
 * random numbers has touched it. Knows nothing of where such values are kept.
 */
#include "plan/plan.h"

#include <stdio.h>
#include <string.h>

/* Recomputing less than this is not worth a copy of every sample. */
#define LEAST_SHARE          0.02
#define LEAST_FLOPS_PER_BYTE 4.0

/* What is known of the values of a graph whose sizes are bound. */
typedef struct survey {
    const graph *g;
    bool *data;        /* [n_values] depends on the sample */
    bool *fixed;       /* [n_values] and on nothing that changes */
    int *last_read;    /* [n_values] number of the last node that reads it; n_nodes: the result */
    int first_varying; /* number of the first node that no cut may leave out */
} survey;

static thaw_status survey_alloc(survey *s, graph *g)
{
    s->g = g;
    s->data = region_alloc(g->region, g->n_values, sizeof *s->data);
    s->fixed = region_alloc(g->region, g->n_values, sizeof *s->fixed);
    s->last_read = region_alloc(g->region, g->n_values, sizeof *s->last_read);
    if (!s->data || !s->fixed || !s->last_read)
        return thaw_fail(THAW_E_NOMEM, "no memory for a plan of %zu nodes", g->n_nodes);
    return THAW_OK;
}

/* Batch statistics and random masks: what such a node makes of a sample is another thing each
 * time. */
static bool varies(const plan_request *r, const graph_node *node)
{
    const uint8_t mode = thaw__plan_mode_of(node->op);

    if (!mode || !r->effect || node->module < 0 || node->module >= r->effect->n_modules)
        return false;
    return (r->effect->mode[node->module] & mode) != 0;
}

static bool is_trained(const plan_request *r, const graph_value *v)
{
    return v->kind == VALUE_PARAM && r->effect && v->index < r->effect->n_params &&
           r->effect->trainable[v->index];
}

/* Input 0 is the sample; others number it, for random masks alone. */
static void look_at_values(survey *s, const plan_request *r, value_id output)
{
    const graph *g = s->g;

    s->first_varying = (int)g->n_nodes;
    for (size_t v = 0; v < g->n_values; v++) {
        const graph_value *value = &g->value[v];

        s->last_read[v] = -1;
        s->data[v] = value->kind == VALUE_INPUT && value->index == 0;
        s->fixed[v] = !is_trained(r, value);
    }
    for (size_t k = 0; k < g->n_nodes; k++) {
        const graph_node *node = &g->node[k];
        bool data = false, fixed = !varies(r, node);

        if (!fixed && s->first_varying == (int)g->n_nodes)
            s->first_varying = (int)k;
        for (int i = 0; i < node->n_in; i++)
            if (node->in[i] != NO_VALUE) {
                data |= s->data[node->in[i]];
                fixed &= s->fixed[node->in[i]];
                s->last_read[node->in[i]] = (int)k;
            }
        for (int j = 0; j < node->n_out; j++) {
            s->data[node->out[j]] = data;
            s->fixed[node->out[j]] = fixed;
        }
    }
    s->last_read[output] = (int)g->n_nodes;
}

/* The one value of the sample that is still read after node k, and is fixed; else NO_VALUE. */
static value_id only_value_after(const survey *s, int k)
{
    value_id found = NO_VALUE;

    for (size_t v = 0; v < s->g->n_values; v++) {
        const graph_value *value = &s->g->value[v];

        if (!s->data[v] || s->last_read[v] <= k || value->producer > k)
            continue;
        if (found != NO_VALUE || !s->fixed[v] || value->kind != VALUE_NODE)
            return NO_VALUE;
        found = (value_id)v;
    }
    return found;
}

/* The outermost layer that ends here: "layer3" where the last node is "layer3.5.relu_out". */
static void name_cut(char name[PLAN_CUT_NAME], const graph *g, int producer)
{
    const char *full = g->node[producer].name;
    size_t n = strcspn(full, ".");

    while (full[n] != '\0') {
        bool goes_on = false;

        for (size_t k = (size_t)producer + 1; k < g->n_nodes; k++)
            goes_on |= strncmp(g->node[k].name, full, n + 1) == 0;
        if (!goes_on)
            break;
        n += 1 + strcspn(full + n + 1, ".");
    }
    (void)snprintf(name, PLAN_CUT_NAME, "%.*s", (int)n, full);
}

static double flops_up_to(const graph *g, size_t end)
{
    double sum = 0;

    for (size_t k = 0; k < end; k++)
        sum += graph_node_flops(g, &g->node[k]);
    return sum;
}

static thaw_status measure_cut(plan_cut *cut, const survey *s, value_id v, int k)
{
    const double behind = flops_up_to(s->g, (size_t)k + 1);
    const double all = flops_up_to(s->g, s->g->n_nodes);
    size_t bytes;

    THAW_CHECK(shape_bytes(&bytes, &s->g->value[v].shape, s->g->value[v].dtype));
    if (bytes == 0 || behind < LEAST_SHARE * all || behind < LEAST_FLOPS_PER_BYTE * (double)bytes)
        return THAW_OK;
    cut->value = v;
    cut->bytes = bytes;
    cut->share = behind / all;
    for (int i = 0; i <= k; i++)
        cut->products |=
            s->g->node[i].op == OP_LINEAR && s->g->value[s->g->node[i].out[0]].dtype == DTYPE_BF16;
    name_cut(cut->name, s->g, s->g->value[v].producer);
    return THAW_OK;
}

/* The model knows nothing of casts; and what was cast need not be kept in the wider type. */
static bool is_copy(const graph *g, value_id v)
{
    return g->node[g->value[v].producer].op == OP_CAST;
}

thaw_status plan_find_cut(plan_cut *out, const plan_request *request)
{
    plan_cut cut = {.value = NO_VALUE};
    thaw_status status = THAW_OK;
    plan_build b = {.request = request, .output = request->output};
    graph *g = NULL;
    survey s;

    THAW_TRY(graph_clone(&g, request->model, 1, 0));
    b.g = g;
    THAW_TRY(thaw__plan_precision(&b));
    THAW_TRY(survey_alloc(&s, g));
    look_at_values(&s, request, b.output);
    for (int k = s.first_varying - 1; k >= 0; k--) {
        const value_id v = only_value_after(&s, k);

        if (v == NO_VALUE || is_copy(g, v))
            continue;
        THAW_TRY(measure_cut(&cut, &s, v, k));
        break;
    }
    *out = cut;
done:
    graph_destroy(g);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * the part behind a cut as a graph of its own */

/* A copy under way: value v of `from` is map[v] of `to`. */
typedef struct copying {
    graph *to;
    const graph *from;
    value_id *map;
    value_id cut;
} copying;

static thaw_status copy_inputs(copying *c)
{
    for (size_t v = 0; v < c->from->n_values; v++) {
        const graph_value *value = &c->from->value[v];
        const graph_value *given = value->index == 0 ? &c->from->value[c->cut] : value;
        value_id *to = &c->map[value->index == 0 ? (size_t)c->cut : v];

        if (value->kind == VALUE_INPUT)
            THAW_CHECK(graph_input(to, c->to, given->name, given->dtype, &given->shape));
    }
    return THAW_OK;
}

static thaw_status copy_node(copying *c, const graph_node *node)
{
    value_id in[OP_MAX_INPUTS], out[OP_MAX_OUTPUTS];

    for (int i = 0; i < node->n_in; i++) {
        const value_id v = node->in[i];
        const graph_value *value = v == NO_VALUE ? NULL : &c->from->value[v];

        if (value && value->kind == VALUE_PARAM)
            THAW_CHECK(graph_param(&c->map[v], c->to, value->index, value->name, value->dtype,
                                   &value->shape));
        in[i] = value ? c->map[v] : NO_VALUE;
    }
    THAW_CHECK(
        graph_op(out, c->to, node->op, &node->attrs, node->name, node->module, node->n_in, in));
    for (int j = 0; j < node->n_out; j++)
        c->map[node->out[j]] = out[j];
    return THAW_OK;
}

/* Its inputs are there: it reads the cut, what follows from it, or parameters alone. */
static bool lies_behind(const copying *c, const graph_node *node)
{
    for (int i = 0; i < node->n_in; i++)
        if (node->in[i] != NO_VALUE && c->from->value[node->in[i]].kind != VALUE_PARAM &&
            c->map[node->in[i]] == NO_VALUE)
            return false;
    for (int j = 0; j < node->n_out; j++)
        if (node->out[j] == c->cut)
            return false;
    return true;
}

static thaw_status copy_behind(graph **out, value_id *output, const graph *from, value_id cut)
{
    copying c = {.from = from, .cut = cut};
    thaw_status status;

    THAW_TRY(graph_create(&c.to, from->real));
    c.map = region_alloc(c.to->region, from->n_values, sizeof *c.map);
    if (!c.map) {
        status =
            thaw_fail(THAW_E_NOMEM, "no memory for part of a graph of %zu nodes", from->n_nodes);
        goto done;
    }
    for (size_t v = 0; v < from->n_values; v++)
        c.map[v] = NO_VALUE;
    THAW_TRY(copy_inputs(&c));
    for (size_t k = 0; k < from->n_nodes; k++)
        if (lies_behind(&c, &from->node[k]))
            THAW_TRY(copy_node(&c, &from->node[k]));
    if (c.map[*output] == NO_VALUE) {
        status = thaw_fail(THAW_E_USAGE, "value %d is no place to cut the graph", cut);
        goto done;
    }
    *output = c.map[*output];
    *out = c.to;
    c.to = NULL;
done:
    graph_destroy(c.to);
    return status;
}

thaw_status thaw__plan_take_part(plan_build *b)
{
    const plan_request *r = b->request;
    graph *part = NULL;

    if (r->part == PLAN_WHOLE)
        return THAW_OK;
    if (r->cut < 0 || (size_t)r->cut >= b->g->n_values || b->g->value[r->cut].kind != VALUE_NODE)
        return thaw_fail(THAW_E_USAGE, "the graph has no value %d to be cut at", r->cut);
    if (r->part == PLAN_PREFIX) {
        b->output = r->cut;
        return THAW_OK;
    }
    THAW_CHECK(copy_behind(&part, &b->output, b->g, r->cut));
    graph_destroy(b->g);
    b->g = part;
    return THAW_OK;
}
