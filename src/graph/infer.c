/*
 * infer.c - shapes and element types of what a node makes, from those of what it takes.
 *
 * The idea: one row per op, with the rule for the shapes and one letter per input and output for
 * its element type. Axes that are not bound yet (batch, length) pass through unread: no rule
 * computes with axis 0, and axis 1 is computed with only where it is an image's height. Output
 * sizes of windows are PyTorch's, rounded down.
 *
 * B batch, H W height and width, P Q the same after a window, C K channels in and out.
 */
#include "graph/graph.h"

#include <math.h>
#include <stdio.h>

/* Arguments of graph_infer, for the rules. in[i].rank is -1 for an input left out. */
typedef struct infer_call {
    op_kind op;
    const op_attrs *attrs;
    const char *name;
    int n_in;
    const shape *in;
    shape *out;
} infer_call;

/*
 * Elements of one letter: r real (f32 or f64), d f64, i i32, l i64, u u8; a an activation, real or
 * bf16, all of an op the same; c the other one of these two.
 */
typedef struct infer_rule {
    thaw_status (*shapes)(const infer_call *c);
    const char *in, *out;
} infer_rule;

/* ----------------------------------------------------------------------------------------------
 * complaints */

static thaw_status misfit(const infer_call *c, int i, int j, const char *why)
{
    char a[128], b[128], name_a[16], name_b[16];

    return thaw_fail(THAW_E_SHAPE, "layer '%s': %s: %s %s does not fit %s %s: %s", c->name,
                     op_table[c->op].name, op_input_name(name_a, c->op, i),
                     shape_format(a, &c->in[i]), op_input_name(name_b, c->op, j),
                     shape_format(b, &c->in[j]), why);
}

static thaw_status bad_attr(const infer_call *c, const char *what, double value, const char *range)
{
    return thaw_fail(THAW_E_RANGE, "layer '%s': %s: %s is %g, not %s", c->name,
                     op_table[c->op].name, what, value, range);
}

static thaw_status want_rank(const infer_call *c, int i, int rank, const char *axes)
{
    char a[128], name[16];

    if (c->in[i].rank == rank)
        return THAW_OK;
    return thaw_fail(THAW_E_SHAPE, "layer '%s': %s: %s is %s, not %s", c->name,
                     op_table[c->op].name, op_input_name(name, c->op, i),
                     shape_format(a, &c->in[i]), axes);
}

/* Input i, if given, is a vector as long as axis `axis` of input j. */
static thaw_status want_vector(const infer_call *c, int i, int j, int axis)
{
    if (i >= c->n_in || c->in[i].rank == -1)
        return THAW_OK;
    if (c->in[i].rank != 1 || c->in[i].dim[0] != c->in[j].dim[axis])
        return misfit(c, i, j, "one value per channel wanted");
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * windows */

/* One axis of a sliding window. */
typedef struct window {
    int64_t size, kernel, stride, pad, pad_more, dilation;
} window;

/* floor((size + 2 pad + pad_more - dilation (kernel - 1) - 1) / stride) + 1 */
static thaw_status slide(int64_t *out, const infer_call *c, const char *axis, window w)
{
    int64_t reach, padded;

    if (w.stride < 1 || w.dilation < 1)
        return bad_attr(c, "stride or dilation", (double)THAW_MIN(w.stride, w.dilation),
                        "1 or more");
    if (w.pad < 0 || w.pad_more < 0)
        return bad_attr(c, "padding", (double)THAW_MIN(w.pad, w.pad_more), "0 or more");
    if (w.kernel < 1 || w.size < 1 || __builtin_mul_overflow(w.kernel - 1, w.dilation, &reach) ||
        __builtin_add_overflow(reach, 1, &reach) ||
        __builtin_add_overflow(w.size, 2 * w.pad + w.pad_more, &padded) || reach > padded)
        return thaw_fail(THAW_E_SHAPE,
                         "layer '%s': %s: a window of %lld (dilation %lld) does not fit the %s "
                         "of %lld with padding %lld",
                         c->name, op_table[c->op].name, (long long)w.kernel, (long long)w.dilation,
                         axis, (long long)w.size, (long long)w.pad);
    *out = (padded - reach) / w.stride + 1;
    return THAW_OK;
}

/* src [B,H,W,C] -> [B,P,Q,channels] */
static thaw_status slide_image(const infer_call *c, const int64_t kernel[2],
                               const int32_t stride[2], const int32_t pad[2],
                               const int32_t pad_more[2], const int32_t dilation[2],
                               int64_t channels)
{
    static const char *const axis[2] = {"height", "width"};
    const shape *src = &c->in[0];
    int64_t size[2];

    for (int i = 0; i < 2; i++)
        THAW_CHECK(slide(&size[i], c, axis[i],
                         (window){.size = src->dim[1 + i],
                                  .kernel = kernel[i],
                                  .stride = stride[i],
                                  .pad = pad[i],
                                  .pad_more = pad_more[i],
                                  .dilation = dilation[i]}));
    c->out[0] = shape_4(src->dim[0], size[0], size[1], channels);
    return THAW_OK;
}

/* src [B,H,W,C]  weight [K,C/g,R,S]  bias [K] -> [B,P,Q,K] */
static thaw_status infer_conv2d(const infer_call *c)
{
    const shape *src = &c->in[0], *weight = &c->in[1];
    const int32_t groups = c->attrs->conv.groups;

    THAW_CHECK(want_rank(c, 0, 4, "[B, H, W, C]"));
    THAW_CHECK(want_rank(c, 1, 4, "[K, C / groups, R, S]"));
    if (groups < 1)
        return bad_attr(c, "the number of groups", groups, "1 or more");
    if (src->dim[3] % groups != 0 || src->dim[3] / groups != weight->dim[1])
        return misfit(c, 0, 1, "other number of input channels");
    if (weight->dim[0] % groups != 0)
        return misfit(c, 0, 1, "output channels are not a multiple of the groups");
    THAW_CHECK(want_vector(c, 2, 1, 0));
    return slide_image(c, &weight->dim[2], c->attrs->conv.stride, c->attrs->conv.pad,
                       c->attrs->conv.pad_more, c->attrs->conv.dilation, weight->dim[0]);
}

/* src [B,H,W,C] -> [B,P,Q,C] */
static thaw_status infer_pool2d(const infer_call *c)
{
    static const int32_t no_dilation[2] = {1, 1}, no_more[2] = {0, 0};
    const op_attrs *a = c->attrs;
    const int64_t kernel[2] = {a->pool.kernel[0], a->pool.kernel[1]};

    THAW_CHECK(want_rank(c, 0, 4, "[B, H, W, C]"));
    for (int i = 0; i < 2; i++)
        if (a->pool.pad[i] > kernel[i] / 2)
            return bad_attr(c, "padding", a->pool.pad[i], "at most half the window");
    return slide_image(c, kernel, a->pool.stride, a->pool.pad, no_more, no_dilation,
                       c->in[0].dim[3]);
}

/* The place of the largest value in its window is kept in one byte. */
static thaw_status infer_max_pool2d(const infer_call *c)
{
    const op_attrs *a = c->attrs;

    THAW_CHECK(infer_pool2d(c));
    if ((int64_t)a->pool.kernel[0] * a->pool.kernel[1] > 256)
        return bad_attr(c, "the window's area",
                        (double)a->pool.kernel[0] * (double)a->pool.kernel[1], "256 or less");
    c->out[1] = c->out[0];
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * the others */

/* src [...,I]  weight [O,I]  bias [O] -> [...,O] */
static thaw_status infer_linear(const infer_call *c)
{
    const shape *src = &c->in[0], *weight = &c->in[1];

    THAW_CHECK(want_rank(c, 1, 2, "[O, I]"));
    if (src->rank < 2 || src->dim[src->rank - 1] != weight->dim[1])
        return misfit(c, 0, 1, "other number of input features");
    THAW_CHECK(want_vector(c, 2, 1, 0));
    c->out[0] = *src;
    c->out[0].dim[src->rank - 1] = weight->dim[0];
    return THAW_OK;
}

/* src [...,C]  weight [C]  bias [C]  mean [C]  var [C] -> dst */
static thaw_status infer_batch_norm_infer(const infer_call *c)
{
    const shape *src = &c->in[0];
    char a[128];

    if (src->rank < 2)
        return thaw_fail(THAW_E_SHAPE, "layer '%s': %s: src is %s, not [B, ..., C]", c->name,
                         op_table[c->op].name, shape_format(a, src));
    if (!(c->attrs->norm.eps >= 0) || !isfinite(c->attrs->norm.eps))
        return bad_attr(c, "eps", c->attrs->norm.eps, "0 or more");
    for (int i = 1; i <= 4; i++)
        THAW_CHECK(want_vector(c, i, 0, src->rank - 1));
    c->out[0] = *src;
    return THAW_OK;
}

/* The same and count [] -> dst  batch_mean [C]  batch_rstd [C] */
static thaw_status infer_batch_norm_train(const infer_call *c)
{
    const double momentum = c->attrs->norm.momentum;

    THAW_CHECK(infer_batch_norm_infer(c));
    THAW_CHECK(want_rank(c, 5, 0, "one number"));
    if (!(momentum >= 0 && momentum <= 1))
        return bad_attr(c, "momentum", momentum, "in [0, 1]");
    c->out[1] = c->in[3];
    c->out[2] = c->in[3];
    return THAW_OK;
}

static thaw_status infer_same(const infer_call *c)
{
    c->out[0] = c->in[0];
    return THAW_OK;
}

static thaw_status infer_add(const infer_call *c)
{
    if (!shape_equal(&c->in[0], &c->in[1]))
        return misfit(c, 0, 1, "the shapes differ");
    return infer_same(c);
}

static thaw_status infer_global_avg_pool(const infer_call *c)
{
    THAW_CHECK(want_rank(c, 0, 4, "[B, H, W, C]"));
    c->out[0] = shape_2(c->in[0].dim[0], c->in[0].dim[3]);
    return THAW_OK;
}

static thaw_status infer_flatten(const infer_call *c)
{
    const shape *src = &c->in[0];
    int64_t n;
    char a[128];

    THAW_CHECK(want_rank(c, 0, 4, "[B, H, W, C]"));
    if (src->dim[1] < 0 || __builtin_mul_overflow(src->dim[1], src->dim[2], &n) ||
        __builtin_mul_overflow(n, src->dim[3], &n))
        return thaw_fail(THAW_E_SHAPE, "layer '%s': flatten: %s cannot be one row", c->name,
                         shape_format(a, src));
    c->out[0] = shape_2(src->dim[0], n);
    return THAW_OK;
}

/* src  sample [B] -> dst */
static thaw_status infer_dropout(const infer_call *c)
{
    const double p = c->attrs->dropout.p;

    if (!(p >= 0 && p < 1))
        return bad_attr(c, "p", p, "in [0, 1)");
    if (c->in[0].rank < 1 || c->in[1].rank != 1 || c->in[0].dim[0] != c->in[1].dim[0])
        return misfit(c, 0, 1, "one number per sample wanted");
    return infer_same(c);
}

/* logits [...,K]  target [...] -> loss []  valid [] */
static thaw_status infer_cross_entropy(const infer_call *c)
{
    const shape *logits = &c->in[0];
    const double smoothing = c->attrs->loss.smoothing;
    shape rows = *logits;

    rows.rank--;
    if (logits->rank < 2 || !shape_equal(&rows, &c->in[1]))
        return misfit(c, 0, 1, "one target per row wanted");
    if (!(smoothing >= 0 && smoothing < 1))
        return bad_attr(c, "label smoothing", smoothing, "in [0, 1)");
    c->out[0] = shape_of(0, NULL);
    c->out[1] = c->out[0];
    return THAW_OK;
}

/* pred [B,K]  target [B,K] -> loss []  valid [] */
static thaw_status infer_mse(const infer_call *c)
{
    THAW_CHECK(want_rank(c, 0, 2, "[B, K]"));
    THAW_CHECK(infer_add(c));
    c->out[0] = shape_of(0, NULL);
    c->out[1] = c->out[0];
    return THAW_OK;
}

/* src [...,K] -> index [...] */
static thaw_status infer_argmax(const infer_call *c)
{
    if (c->in[0].rank < 1)
        return want_rank(c, 0, 1, "[..., K]");
    c->out[0] = c->in[0];
    c->out[0].rank--;
    return THAW_OK;
}

/* src [...,C]  weight [C]  bias [C] -> dst */
static thaw_status infer_row_norm(const infer_call *c)
{
    const shape *src = &c->in[0];

    if (src->rank < 2)
        return want_rank(c, 0, 2, "[B, ..., C]");
    if (!(c->attrs->norm.eps >= 0) || !isfinite(c->attrs->norm.eps))
        return bad_attr(c, "eps", c->attrs->norm.eps, "0 or more");
    for (int i = 1; i < c->n_in; i++)
        THAW_CHECK(want_vector(c, i, 0, src->rank - 1));
    return infer_same(c);
}

/* q [B,T,D] or [B,D]  k [B,S,D]  v [B,S,D] -> dst as q */
static thaw_status infer_attention(const infer_call *c)
{
    const shape *q = &c->in[0], *k = &c->in[1];
    const int32_t heads = c->attrs->attention.heads;

    if (q->rank != 2)
        THAW_CHECK(want_rank(c, 0, 3, "[B, T, D] or [B, D]"));
    THAW_CHECK(want_rank(c, 1, 3, "[B, S, D]"));
    if (q->dim[0] != k->dim[0] || q->dim[q->rank - 1] != k->dim[2])
        return misfit(c, 0, 1, "other batch or features");
    if (!shape_equal(k, &c->in[2]))
        return misfit(c, 2, 1, "one value for each key wanted");
    if (heads < 1 || k->dim[2] % heads != 0)
        return bad_attr(c, "the number of heads", heads, "a divisor of the features");
    if (k->dim[1] == 0)
        return misfit(c, 0, 1, "at least one key wanted");
    return infer_same(c);
}

/* src [B,P,Q,D]  first [1,1,D]  position [1,1+PQ,D] -> dst [B,1+PQ,D] */
static thaw_status infer_tokens(const infer_call *c)
{
    const shape *src = &c->in[0];
    const shape first = {.rank = 3, .dim = {1, 1, src->dim[3]}};
    shape position = first;
    int64_t n;

    THAW_CHECK(want_rank(c, 0, 4, "[B, P, Q, D]"));
    if (!shape_equal(&c->in[1], &first))
        return misfit(c, 1, 0, "[1, 1, D] wanted");
    if (src->dim[1] < 0 || __builtin_mul_overflow(src->dim[1], src->dim[2], &n) || n == INT64_MAX)
        return misfit(c, 0, 2, "so many pixels cannot be one row");
    position.dim[1] = n + 1;
    if (!shape_equal(&c->in[2], &position))
        return misfit(c, 2, 0, "one position for the first token and each pixel wanted");
    c->out[0] = position;
    c->out[0].dim[0] = src->dim[0];
    return THAW_OK;
}

/* src [B,T,D] -> dst [B,D] */
static thaw_status infer_token(const infer_call *c)
{
    const shape *src = &c->in[0];
    const int32_t index = c->attrs->token.index;

    THAW_CHECK(want_rank(c, 0, 3, "[B, T, D]"));
    if (index < 0 || (src->dim[1] >= 0 && index >= src->dim[1]))
        return bad_attr(c, "the token", index, "one of the sequence");
    c->out[0] = shape_2(src->dim[0], src->dim[2]);
    return THAW_OK;
}

static const infer_rule rule_table[OP_COUNT] = {
    [OP_CONV2D] = {infer_conv2d, "arr", "a"},
    [OP_LINEAR] = {infer_linear, "arr", "a"},
    [OP_BATCH_NORM_TRAIN] = {infer_batch_norm_train, "arrrrl", "arr"},
    [OP_BATCH_NORM_INFER] = {infer_batch_norm_infer, "arrrr", "a"},
    [OP_BATCH_NORM_AGAIN] = {infer_batch_norm_infer, "arrrr", "a"},
    [OP_RELU] = {infer_same, "a", "a"},
    [OP_RELU6] = {infer_same, "a", "a"},
    [OP_ADD] = {infer_add, "aa", "a"},
    [OP_MAX_POOL2D] = {infer_max_pool2d, "a", "au"},
    [OP_AVG_POOL2D] = {infer_pool2d, "a", "a"},
    [OP_GLOBAL_AVG_POOL] = {infer_global_avg_pool, "a", "a"},
    [OP_FLATTEN] = {infer_flatten, "a", "a"},
    [OP_DROPOUT] = {infer_dropout, "al", "a"},
    [OP_CROSS_ENTROPY] = {infer_cross_entropy, "ri", "dd"},
    [OP_MSE] = {infer_mse, "rr", "dd"},
    [OP_ARGMAX] = {infer_argmax, "r", "i"},
    [OP_LAYER_NORM] = {infer_row_norm, "rrr", "r"},
    [OP_RMS_NORM] = {infer_row_norm, "rr", "r"},
    [OP_GELU] = {infer_same, "r", "r"},
    [OP_ATTENTION] = {infer_attention, "rrr", "r"},
    [OP_TOKENS] = {infer_tokens, "rrr", "r"},
    [OP_TOKEN] = {infer_token, "r", "r"},
    [OP_CAST] = {infer_same, "a", "c"},
};

/* real: of the graph; activation: of the op's. */
static dtype dtype_of_letter(char letter, dtype real, dtype activation)
{
    static const struct {
        char letter;
        dtype dtype;
    } table[] = {{'d', DTYPE_F64}, {'i', DTYPE_I32}, {'l', DTYPE_I64}, {'u', DTYPE_U8}};

    for (size_t i = 0; i < THAW_COUNT(table); i++)
        if (table[i].letter == letter)
            return table[i].dtype;
    if (letter == 'c')
        return activation == DTYPE_BF16 ? real : DTYPE_BF16;
    return letter == 'a' ? activation : real;
}

/* The first activation that is there decides for all. */
static dtype activation_type(const infer_rule *rule, dtype real, int n_in, const shape *in_shape,
                             const dtype *in_dtype)
{
    for (int i = 0; i < n_in; i++)
        if (rule->in[i] == 'a' && in_shape[i].rank >= 0)
            return in_dtype[i] == DTYPE_BF16 ? DTYPE_BF16 : real;
    return real;
}

/* Axes are sizes, or unbound where the contract allows it. */
static bool axes_valid(const shape *s)
{
    if (s->rank > SHAPE_MAX_RANK)
        return false;
    for (int i = 0; i < s->rank; i++)
        if (s->dim[i] < 0 && !(i == 0 && s->dim[i] == DIM_BATCH) &&
            !(i == 1 && s->dim[i] == DIM_LENGTH))
            return false;
    return true;
}

thaw_status graph_infer(shape *out_shape, dtype *out_dtype, op_kind op, const op_attrs *attrs,
                        const char *name, dtype real, int n_in, const shape *in_shape,
                        const dtype *in_dtype)
{
    const op_info *info = &op_table[op];
    const infer_rule *rule = &rule_table[op];
    shape made[OP_MAX_OUTPUTS] = {{0}};
    const infer_call call = {
        .op = op, .attrs = attrs, .name = name, .n_in = n_in, .in = in_shape, .out = made};
    char buffer[128], input[16];
    dtype activation;

    if (!rule->shapes || n_in < info->least_inputs || n_in > info->most_inputs)
        return thaw_fail(THAW_E_INTERNAL, "layer '%s': no shape rule for %s with %d inputs", name,
                         info->name, n_in);
    activation = activation_type(rule, real, n_in, in_shape, in_dtype);
    for (int i = 0; i < n_in; i++) {
        const dtype want = dtype_of_letter(rule->in[i], real, activation);

        if (in_shape[i].rank == -1 && i >= info->least_inputs)
            continue;
        if (in_shape[i].rank < 0 || !axes_valid(&in_shape[i]))
            return thaw_fail(THAW_E_SHAPE, "layer '%s': %s: %s has the shape %s", name, info->name,
                             op_input_name(input, op, i), shape_format(buffer, &in_shape[i]));
        if (in_dtype[i] != want)
            return thaw_fail(THAW_E_SHAPE, "layer '%s': %s: %s %s holds %s, not %s", name,
                             info->name, op_input_name(input, op, i),
                             shape_format(buffer, &in_shape[i]), dtype_name(in_dtype[i]),
                             dtype_name(want));
    }
    THAW_CHECK(rule->shapes(&call));
    for (int j = 0; j < info->n_outputs; j++) {
        out_shape[j] = made[j];
        out_dtype[j] = dtype_of_letter(rule->out[j], real, activation);
    }
    return THAW_OK;
}
