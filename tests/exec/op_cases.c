/*
 * op_cases.c - random problems for every op, and running them on any executor.
 */
#include "check.h"

#include "exec/op_cases.h"

/* ----------------------------------------------------------------------------------------------
 * chance */

typedef struct dice {
    uint64_t state;
    op_case_size size;
} dice;

static int64_t pick(dice *d, int64_t least, int64_t most)
{
    return least + (int64_t)(splitmix64(&d->state) % (uint64_t)(most - least + 1));
}

/* Channels: small ones, or past the width of a vector register. */
static int64_t pick_channels(dice *d)
{
    return pick(d, 1, d->size == OP_CASE_SMALL ? 4 : 40);
}

static int64_t pick_side(dice *d)
{
    return pick(d, 1, d->size == OP_CASE_SMALL ? 6 : 17);
}

/* A float, uniform in [least, most]. */
static double pick_real(dice *d, double least, double most)
{
    const double u = (double)(splitmix64(&d->state) >> 11) / 9007199254740992.0;

    return (double)(float)(least + u * (most - least));
}

/* ----------------------------------------------------------------------------------------------
 * values */

static void fill(double *x, size_t n, dice *d, double least, double most)
{
    for (size_t i = 0; i < n; i++)
        x[i] = pick_real(d, least, most);
}

/* Most values lie within [-1, 1]; these inputs need something else. */
static void fill_apart_from_kinks(double *x, size_t n, dice *d)
{
    for (size_t i = 0; i < n; i++)
        do
            x[i] = pick_real(d, -3, 9);
        while (fabs(x[i]) < 1e-3 || fabs(x[i] - 6) < 1e-3);
}

/* All different, 1e-3 or more apart. */
static void fill_distinct(double *x, size_t n, dice *d)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (double)(float)(((double)i - (double)n / 2) / 256);
    for (size_t i = n; i > 1; i--) {
        const size_t j = (size_t)pick(d, 0, (int64_t)i - 1);
        const double kept = x[i - 1];

        x[i - 1] = x[j];
        x[j] = kept;
    }
}

static void fill_real(double *x, size_t n, dice *d, op_kind op, int input)
{
    const bool norm =
        op == OP_BATCH_NORM_TRAIN || op == OP_BATCH_NORM_INFER || op == OP_BATCH_NORM_AGAIN;

    if (op == OP_RELU || op == OP_RELU6)
        fill_apart_from_kinks(x, n, d);
    else if (op == OP_MAX_POOL2D || op == OP_ARGMAX)
        fill_distinct(x, n, d);
    else if (norm && input == 4)
        fill(x, n, d, 0.5, 1.5);
    else if (op == OP_CROSS_ENTROPY || op == OP_GELU || (op == OP_ATTENTION && input == 0))
        fill(x, n, d, -3, 3);
    else
        fill(x, n, d, -1, 1);
}

/* ----------------------------------------------------------------------------------------------
 * shapes and attributes, op by op */

static shape pick_image(dice *d)
{
    return shape_4(pick(d, 1, 3), pick_side(d), pick_side(d), pick_channels(d));
}

/* A shape of rank 2 to 4. */
static shape pick_shape(dice *d)
{
    shape s = pick_image(d);
    const int rank = (int)pick(d, 2, 4);

    s.dim[rank - 1] = s.dim[3];
    s.rank = rank;
    for (int i = rank; i < SHAPE_MAX_RANK; i++)
        s.dim[i] = 0;
    return s;
}

static void make_conv2d(op_case *c, dice *d)
{
    const int64_t groups = pick(d, 0, 2) == 0 ? pick(d, 2, 4) : 1;
    const bool depthwise = groups > 1 && pick(d, 0, 1) == 0;
    const int64_t C = depthwise ? 1 : (pick_channels(d) + groups - 1) / groups;
    const int64_t K = depthwise ? pick(d, 1, 2) : (pick_channels(d) + groups - 1) / groups;
    const int64_t each = depthwise ? pick_channels(d) : groups;

    c->in_shape[0] = pick_image(d);
    c->in_shape[0].dim[3] = C * each;
    c->in_shape[1] = shape_4(K * each, C, pick(d, 1, 3), pick(d, 1, 3));
    c->in_shape[2] = shape_1(K * each);
    c->n_in = (int)pick(d, 2, 3);
    c->attrs.conv.groups = (int32_t)each;
    for (int i = 0; i < 2; i++) {
        c->attrs.conv.stride[i] = (int32_t)pick(d, 1, 3);
        c->attrs.conv.pad[i] = (int32_t)pick(d, 0, 2);
        c->attrs.conv.pad_more[i] = (int32_t)(pick(d, 0, 2) == 0 ? pick(d, 1, 2) : 0);
        c->attrs.conv.dilation[i] = (int32_t)pick(d, 1, 2);
    }
}

/* Large ones have weights on either side of what the fast executor holds for small. */
static void make_linear(op_case *c, dice *d)
{
    if (d->size == OP_CASE_LARGE && pick(d, 0, 1)) {
        c->in_shape[0] = shape_2(pick(d, 1, 9), pick(d, 300, 450));
        c->in_shape[1] = shape_2(pick(d, 250, 450), c->in_shape[0].dim[1]);
    } else {
        c->in_shape[0] = pick_shape(d);
        c->in_shape[1] = shape_2(pick_channels(d), c->in_shape[0].dim[c->in_shape[0].rank - 1]);
    }
    c->in_shape[2] = shape_1(c->in_shape[1].dim[0]);
    c->n_in = (int)pick(d, 2, 3);
}

/* Two rows at least: one has no variance. More in f32, where few rows may lie so close together
 * that the gradient is made of rounding. */
static void make_batch_norm(op_case *c, dice *d)
{
    c->in_shape[0] = pick_shape(d);
    c->in_shape[0].dim[0] += d->size == OP_CASE_SMALL ? 1 : 7;
    for (int i = 1; i < 5; i++)
        c->in_shape[i] = shape_1(c->in_shape[0].dim[c->in_shape[0].rank - 1]);
    c->in_shape[5] = shape_of(0, NULL);
    c->in_dtype[5] = DTYPE_I64;
    c->n_in = op_table[c->op].most_inputs;
    c->attrs.norm.eps = 1e-5;
    c->attrs.norm.momentum = pick_real(d, 0.05, 0.5);
}

static void make_map(op_case *c, dice *d)
{
    c->n_in = op_table[c->op].most_inputs;
    c->in_shape[0] = pick_shape(d);
    c->in_shape[1] = c->in_shape[0];
}

static void make_pool(op_case *c, dice *d)
{
    c->n_in = 1;
    c->in_shape[0] = pick_image(d);
    for (int i = 0; i < 2; i++) {
        c->attrs.pool.kernel[i] = (int32_t)pick(d, 1, 4);
        c->attrs.pool.stride[i] = (int32_t)pick(d, 1, 3);
        c->attrs.pool.pad[i] = (int32_t)pick(d, 0, c->attrs.pool.kernel[i] / 2);
    }
    if (c->op == OP_AVG_POOL2D)
        c->attrs.pool.count_pad = (int32_t)pick(d, 0, 1);
}

static void make_image(op_case *c, dice *d)
{
    c->n_in = 1;
    c->in_shape[0] = pick_image(d);
}

static void make_dropout(op_case *c, dice *d)
{
    make_map(c, d);
    c->in_shape[1] = shape_1(c->in_shape[0].dim[0]);
    c->in_dtype[1] = DTYPE_I64;
    c->attrs.dropout.p = (double)pick(d, 0, 4) / 5;
    c->attrs.dropout.stream = splitmix64(&d->state);
}

static void make_cross_entropy(op_case *c, dice *d)
{
    make_map(c, d);
    c->in_shape[1] = shape_of(c->in_shape[0].rank - 1, c->in_shape[0].dim);
    c->in_dtype[1] = DTYPE_I32;
    c->attrs.loss.smoothing = (double)pick(d, 0, 1) / 10;
    c->attrs.loss.ignore = -100;
}

static void make_mse(op_case *c, dice *d)
{
    c->n_in = 2;
    c->in_shape[0] = shape_2(pick(d, 1, 5), pick_channels(d));
    c->in_shape[1] = c->in_shape[0];
}

static void make_row_norm(op_case *c, dice *d)
{
    c->in_shape[0] = pick_shape(d);
    c->in_shape[0].dim[c->in_shape[0].rank - 1] +=
        3; /* two features are 1 and -1, whatever they were */
    c->in_shape[1] = shape_1(c->in_shape[0].dim[c->in_shape[0].rank - 1]);
    c->in_shape[2] = c->in_shape[1];
    c->n_in = op_table[c->op].most_inputs;
    c->attrs.norm.eps = 1e-5;
}

static void make_gelu(op_case *c, dice *d)
{
    make_map(c, d);
    c->attrs.gelu.tanh = (int32_t)pick(d, 0, 1);
}

static int64_t pick_length(dice *d)
{
    return pick(d, 1, d->size == OP_CASE_SMALL ? 5 : 150);
}

/* As many queries as keys, another number, or one. */
static void make_attention(op_case *c, dice *d)
{
    const int64_t heads = pick(d, 1, 3), B = pick(d, 1, 3);
    const int64_t D = heads * pick(d, 1, d->size == OP_CASE_SMALL ? 4 : 70);
    const int64_t S = pick_length(d), T = pick(d, 0, 1) ? S : pick_length(d);

    c->n_in = 3;
    c->attrs.attention.heads = (int32_t)heads;
    c->in_shape[0] = shape_of(3, (const int64_t[]){B, T, D});
    if (pick(d, 0, 3) == 0)
        c->in_shape[0] = shape_2(B, D);
    c->in_shape[1] = c->in_shape[2] = shape_of(3, (const int64_t[]){B, S, D});
}

static void make_tokens(op_case *c, dice *d)
{
    const shape src = pick_image(d);

    c->n_in = 3;
    c->in_shape[0] = src;
    c->in_shape[1] = shape_of(3, (const int64_t[]){1, 1, src.dim[3]});
    c->in_shape[2] = shape_of(3, (const int64_t[]){1, 1 + src.dim[1] * src.dim[2], src.dim[3]});
}

static void make_token(op_case *c, dice *d)
{
    const int64_t T = pick_length(d);

    c->n_in = 1;
    c->in_shape[0] = shape_of(3, (const int64_t[]){pick(d, 1, 3), T, pick_channels(d)});
    c->attrs.token.index = (int32_t)pick(d, 0, T - 1);
}

static const struct {
    void (*make)(op_case *c, dice *d);
    uint32_t params; /* OP_IN bits of model tensors */
} maker[OP_COUNT] = {
    [OP_CONV2D] = {make_conv2d, OP_IN(1) | OP_IN(2)},
    [OP_LINEAR] = {make_linear, OP_IN(1) | OP_IN(2)},
    [OP_BATCH_NORM_TRAIN] = {make_batch_norm, 0x3e},
    [OP_BATCH_NORM_INFER] = {make_batch_norm, 0x1e},
    [OP_BATCH_NORM_AGAIN] = {make_batch_norm, 0x06},
    [OP_RELU] = {make_map, 0},
    [OP_RELU6] = {make_map, 0},
    [OP_ADD] = {make_map, 0},
    [OP_MAX_POOL2D] = {make_pool, 0},
    [OP_AVG_POOL2D] = {make_pool, 0},
    [OP_GLOBAL_AVG_POOL] = {make_image, 0},
    [OP_FLATTEN] = {make_image, 0},
    [OP_DROPOUT] = {make_dropout, 0},
    [OP_CROSS_ENTROPY] = {make_cross_entropy, 0},
    [OP_MSE] = {make_mse, 0},
    [OP_ARGMAX] = {make_map, 0},
    [OP_LAYER_NORM] = {make_row_norm, OP_IN(1) | OP_IN(2)},
    [OP_RMS_NORM] = {make_row_norm, OP_IN(1)},
    [OP_GELU] = {make_gelu, 0},
    [OP_ATTENTION] = {make_attention, 0},
    [OP_TOKENS] = {make_tokens, OP_IN(1) | OP_IN(2)},
    [OP_TOKEN] = {make_token, 0},
    [OP_CAST] = {make_map, 0},
};

/* ----------------------------------------------------------------------------------------------
 * cases */

static void *test_alloc(size_t count, size_t size)
{
    void *p = thaw__new(THAW_MAX(count, (size_t)1), size);

    CHECK_MSG(p != NULL, "out of memory");
    return p;
}

/* Targets are classes, one in five left out; everything else is a sample's number or a count. */
static void *fill_integers(const op_case *c, int input, dice *d)
{
    const size_t n = c->in_elements[input];
    const int64_t K = c->in_shape[0].dim[c->in_shape[0].rank - 1];
    int32_t *target;
    int64_t *number;

    if (c->in_dtype[input] == DTYPE_I32) {
        target = test_alloc(n, sizeof *target);
        for (size_t i = 0; i < n; i++)
            target[i] = pick(d, 0, 4) == 0 ? c->attrs.loss.ignore : (int32_t)pick(d, 0, K - 1);
        return target;
    }
    number = test_alloc(n, sizeof *number);
    for (size_t i = 0; i < n; i++)
        number[i] = pick(d, 0, 1 << 20);
    return number;
}

static void fill_case(op_case *c, dice *d)
{
    for (int i = 0; i < c->n_in; i++) {
        CHECK_OK(shape_elements(&c->in_elements[i], &c->in_shape[i]));
        c->in_param[i] = maker[c->op].params & OP_IN(i);
        if (op_table[c->op].grad[i].kind == GRAD_NODE)
            c->wrt |= OP_IN(i);
        if (c->in_dtype[i] != DTYPE_F64) {
            c->integer[i] = fill_integers(c, i, d);
            continue;
        }
        c->real[i] = test_alloc(c->in_elements[i], sizeof(double));
        fill_real(c->real[i], c->in_elements[i], d, c->op, i);
    }
    for (int j = 0; j < op_table[c->op].n_outputs; j++)
        CHECK_OK(shape_elements(&c->out_elements[j], &c->out_shape[j]));
    if (c->wrt && c->out_shape[0].rank > 0) {
        c->d_out = test_alloc(c->out_elements[0], sizeof(double));
        fill(c->d_out, c->out_elements[0], d, -1, 1);
    }
}

/* Windows that do not fit the image are thrown away and drawn again. */
void op_case_make(op_case *c, op_kind op, uint64_t seed, op_case_size size)
{
    dice d = {.state = seed * 1000 + (uint64_t)op, .size = size};
    thaw_status status;

    do {
        memset(c, 0, sizeof *c);
        c->seed = seed;
        c->op = op;
        for (int i = 0; i < OP_MAX_INPUTS; i++)
            c->in_dtype[i] = DTYPE_F64;
        maker[op].make(c, &d);
        status = graph_infer(c->out_shape, c->out_dtype, op, &c->attrs, "case", DTYPE_F64, c->n_in,
                             c->in_shape, c->in_dtype);
    } while (status != THAW_OK && (op == OP_CONV2D || maker[op].make == make_pool));
    CHECK_MSG(status == THAW_OK, "%s: %s", op_case_text(c), thaw_error());
    if (op == OP_CAST) /* to the same type, where nothing is bf16 */
        c->out_dtype[0] = DTYPE_F64;
    fill_case(c, &d);
}

void op_case_done(op_case *c)
{
    for (int i = 0; i < OP_MAX_INPUTS; i++) {
        thaw__free(c->real[i]);
        thaw__free(c->integer[i]);
    }
    thaw__free(c->d_out);
}

const char *op_case_text(const op_case *c)
{
    static char line[1024];
    const int32_t *const a = c->attrs.conv.stride; /* conv, pool: all int32 */
    const bool window = c->op == OP_CONV2D || maker[c->op].make == make_pool;
    char buffer[128];
    int at = snprintf(line, sizeof line, "%s, seed %llu:", op_table[c->op].name,
                      (unsigned long long)c->seed);

    for (int i = 0; i < c->n_in; i++)
        at += snprintf(line + at, sizeof line - (size_t)at, " %s",
                       shape_format(buffer, &c->in_shape[i]));
    if (window)
        snprintf(line + at, sizeof line - (size_t)at, ", attributes %d %d, %d %d, %d %d, %d", a[0],
                 a[1], a[2], a[3], a[4], a[5], a[6]);
    return line;
}

/* What the planner may share, and the gradients that do not read the input that is gone. */
static const struct {
    bool forward, backward;
    uint32_t wrt;
} shares[OP_COUNT] = {
    [OP_RELU] = {true, true, OP_IN(0)},
    [OP_RELU6] = {true, true, OP_IN(0)},
    [OP_ADD] = {true, false, 0},
    [OP_DROPOUT] = {true, true, OP_IN(0)},
    [OP_BATCH_NORM_TRAIN] = {true, true, OP_IN(2)},
    [OP_BATCH_NORM_INFER] = {true, true, OP_IN(0) | OP_IN(2)},
    [OP_BATCH_NORM_AGAIN] = {true, false, 0},
    [OP_LAYER_NORM] = {true, true, OP_IN(2)},
    [OP_RMS_NORM] = {true, true, 0},
    [OP_GELU] = {true, true, 0},
};

bool op_case_in_place(uint32_t *wrt, op_kind op)
{
    *wrt = shares[op].wrt;
    return shares[op].forward;
}

bool op_case_d_in_place(op_kind op)
{
    return shares[op].backward;
}

/* ----------------------------------------------------------------------------------------------
 * bf16 */

/* Types of the problem with activations in bf16; the answer of graph_infer. */
static thaw_status infer_bf16(dtype *in, dtype *out, const op_case *c, dtype real)
{
    shape out_shape[OP_MAX_OUTPUTS];

    for (int i = 0; i < c->n_in; i++)
        in[i] = c->in_dtype[i] != DTYPE_F64 ? c->in_dtype[i] : c->in_param[i] ? real : DTYPE_BF16;
    return graph_infer(out_shape, out, c->op, &c->attrs, "case", real, c->n_in, c->in_shape, in);
}

bool op_case_takes_bf16(const op_case *c)
{
    dtype in[OP_MAX_INPUTS], out[OP_MAX_OUTPUTS];
    const thaw_status status = infer_bf16(in, out, c, DTYPE_F32);

    return status == THAW_OK;
}

static void round_all(double *x, size_t n)
{
    for (size_t i = 0; x && i < n; i++) {
        uint16_t narrow;

        CHECK_OK(tensor_convert(&narrow, DTYPE_BF16, &x[i], DTYPE_F64, 1));
        CHECK_OK(tensor_convert(&x[i], DTYPE_F64, &narrow, DTYPE_BF16, 1));
    }
}

void op_case_round(op_case *c)
{
    const bool dense = c->op == OP_CONV2D || c->op == OP_LINEAR;

    for (int i = 0; i < c->n_in; i++)
        if (!c->in_param[i] || (dense && i == 1))
            round_all(c->real[i], c->in_elements[i]);
    round_all(c->d_out, c->out_elements[0]);
}

/* ----------------------------------------------------------------------------------------------
 * plans */

static int add_slot(op_plan *p, slot_place place, int index, const shape *s, dtype d)
{
    plan_slot *const slot = &p->slot[p->plan.n_slots];

    CHECK((size_t)p->plan.n_slots < THAW_COUNT(p->slot));
    *slot = (plan_slot){.place = place, .index = index, .dtype = d, .shape = *s, .name = "case"};
    CHECK_OK(shape_bytes(&slot->bytes, s, d));
    if (place == SLOT_ARENA) {
        slot->offset = p->plan.arena_bytes;
        p->plan.arena_bytes += (slot->bytes + 63) / 64 * 64;
    }
    return p->plan.n_slots++;
}

/* An input of the plan with these doubles in type d (NULL: zeros), or integers. */
static int add_input(op_plan *p, const void *value, dtype from, dtype d, const shape *s, size_t n)
{
    void *const block = test_alloc(n, sizeof(double));

    if (value && from == d)
        memcpy(block, value, n * dtype_size(d));
    else if (value)
        CHECK_OK(tensor_convert(block, d, value, from, n));
    p->input[p->n_inputs] = block;
    return add_slot(p, SLOT_INPUT, p->n_inputs++, s, d);
}

static int add_param(op_plan *p, const op_case *c, int i, dtype d)
{
    const int number = p->params->n;
    const bool buffer = !(c->wrt & OP_IN(i));
    const void *const value = c->real[i] ? (void *)c->real[i] : c->integer[i];
    char name[32];

    snprintf(name, sizeof name, "tensor%d", i);
    CHECK_OK(params_add(p->params, name, &c->in_shape[i], d, buffer));
    if (d == c->in_dtype[i])
        memcpy(p->params->item[number].data, value, p->params->item[number].bytes);
    else
        CHECK_OK(tensor_convert(p->params->item[number].data, d, value, c->in_dtype[i],
                                c->in_elements[i]));
    p->tensor[i] = number;
    return add_slot(p, SLOT_PARAM, number, &c->in_shape[i], d);
}

static int *add_numbers(op_plan *p, const int *number, int n)
{
    int *const at = p->number + p->n_numbers;

    CHECK((size_t)(p->n_numbers + n) <= THAW_COUNT(p->number));
    memcpy(at, number, (size_t)n * sizeof *at);
    p->n_numbers += n;
    return at;
}

static int add_step(op_plan *p, op_kind op, uint32_t wrt, const op_attrs *attrs, const int *in,
                    int n_in, const int *out, int n_out)
{
    CHECK((size_t)p->plan.n_step < THAW_COUNT(p->step));
    p->step[p->plan.n_step] = (plan_step){.section = SECTION_STEP,
                                          .op = op,
                                          .wrt = wrt,
                                          .forward = wrt ? p->forward : -1,
                                          .again = -1,
                                          .module = -1,
                                          .name = "case",
                                          .n_in = n_in,
                                          .n_reads = n_in,
                                          .n_out = n_out,
                                          .in = add_numbers(p, in, n_in),
                                          .out = add_numbers(p, out, n_out)};
    if (attrs)
        p->step[p->plan.n_step].attrs = *attrs;
    return p->plan.n_step++;
}

/* A copy of an input in the arena, which a step may write over. */
static int add_copy(op_plan *p, int slot, int zeros)
{
    const plan_slot *const from = &p->slot[slot];
    const int in[2] = {slot, zeros};
    const int out = add_slot(p, SLOT_ARENA, -1, &from->shape, from->dtype);

    add_step(p, OP_ADD, 0, NULL, in, 2, &out, 1);
    return out;
}

/* One backward step for the gradients of one group that are wanted, with what they read. */
static void add_backward(op_plan *p, const op_case *c, const op_run *how, int group, int d_out,
                         const int *in)
{
    const op_info *const info = &op_table[c->op];
    int from[OP_MAX_OUTPUTS * 2 + OP_MAX_INPUTS], to[OP_MAX_INPUTS];
    const int n_out = info->n_outputs, n_from = 2 * n_out + c->n_in;
    uint32_t wrt = 0, reads = 0;

    for (int i = 0; i < c->n_in; i++)
        if (info->grad[i].kind == GRAD_NODE && info->grad[i].group == group &&
            (how->wrt & OP_IN(i))) {
            wrt |= OP_IN(i);
            reads |= info->grad[i].reads;
        }
    if (!wrt)
        return;
    for (int j = 0; j < n_out; j++) {
        from[j] = j == 0 ? d_out : -1;
        from[backward_out(info, c->n_in, j)] = reads & OP_OUT(j) ? p->out[j] : -1;
    }
    for (int i = 0; i < c->n_in; i++) {
        const dtype d = p->slot[in[i]].dtype;

        from[backward_in(info, c->n_in, i)] = reads & OP_IN(i) ? in[i] : -1;
        to[i] = -1;
        if (wrt & OP_IN(i)) {
            p->d_in[i] = p->tensor[i] >= 0
                             ? add_slot(p, SLOT_GRAD, p->tensor[i], &c->in_shape[i], d)
                             : add_slot(p, SLOT_ARENA, -1, &c->in_shape[i], d);
            to[i] = p->d_in[i];
            p->backward[i] = p->plan.n_step;
        }
    }
    add_step(p, c->op, wrt, &c->attrs, from, n_from, to, c->n_in);
}

/* Inputs, then the forward step. */
static void add_forward(op_plan *p, const op_case *c, const op_run *how, int *in, int *zeros)
{
    const int n_out = op_table[c->op].n_outputs;
    dtype in_type[OP_MAX_INPUTS], out_type[OP_MAX_OUTPUTS];

    if (how->bf16)
        CHECK_OK(infer_bf16(in_type, out_type, c, how->real));
    for (int i = 0; i < c->n_in; i++) {
        const dtype d = how->bf16                     ? in_type[i]
                        : c->in_dtype[i] == DTYPE_F64 ? how->real
                                                      : c->in_dtype[i];
        const void *const value = c->real[i] ? (void *)c->real[i] : c->integer[i];

        in[i] = c->in_param[i]
                    ? add_param(p, c, i, d)
                    : add_input(p, value, c->in_dtype[i], d, &c->in_shape[i], c->in_elements[i]);
    }
    if (how->in_place || how->d_in_place)
        *zeros =
            add_input(p, NULL, how->real, p->slot[in[0]].dtype, &c->in_shape[0], c->in_elements[0]);
    if (how->in_place)
        in[0] = add_copy(p, in[0], *zeros);
    for (int j = 0; j < n_out; j++) {
        const bool real =
            c->out_dtype[j] == DTYPE_F64 && c->op != OP_CROSS_ENTROPY && c->op != OP_MSE;

        p->out[j] = add_slot(p, SLOT_ARENA, -1, &c->out_shape[j],
                             how->bf16 ? out_type[j]
                             : real    ? how->real
                                       : c->out_dtype[j]);
    }
    if (how->in_place)
        p->slot[p->out[0]].offset = p->slot[in[0]].offset;
    p->forward = add_step(p, c->op, 0, &c->attrs, in, c->n_in, p->out, n_out);
}

static void set_trainable(op_plan *p, const op_case *c, const op_run *how)
{
    bool trainable[OP_MAX_INPUTS] = {false};

    for (int i = 0; i < c->n_in; i++)
        if (p->tensor[i] >= 0 && p->tensor[i] < p->params->n_trained)
            trainable[p->tensor[i]] = how->wrt & c->wrt & OP_IN(i);
    CHECK_OK(params_set_trainable(p->params, trainable));
}

void op_plan_make(op_plan *p, const op_case *c, const op_run *how)
{
    int in[OP_MAX_INPUTS], d_out = -1, zeros = -1;

    memset(p, 0, sizeof *p);
    for (int i = 0; i < OP_MAX_INPUTS; i++)
        p->tensor[i] = p->d_in[i] = p->backward[i] = -1;
    p->plan.slot = p->slot;
    p->plan.step = p->step;
    p->plan.real = how->real;
    p->plan.batch = c->in_shape[0].dim[0];
    p->plan.training = true;
    CHECK_OK(params_create(&p->params, how->real));
    add_forward(p, c, how, in, &zeros);
    p->plan.n_forward = p->plan.n_step;
    if (c->d_out) {
        d_out = add_input(p, c->d_out, DTYPE_F64, p->slot[p->out[0]].dtype, &c->out_shape[0],
                          c->out_elements[0]);
        if (how->d_in_place)
            d_out = add_copy(p, d_out, zeros);
    }
    for (int group = 0; group < OP_MAX_INPUTS; group++)
        add_backward(p, c, how, group, d_out, in);
    if (how->d_in_place && p->d_in[0] >= 0)
        p->slot[p->d_in[0]].offset = p->slot[d_out].offset;

    set_trainable(p, c, how);
    CHECK_OK(exec_open(&p->exec, how->ops, p->params, how->threads));
    if (how->measured)
        CHECK_OK(exec_measure(p->exec, &p->plan));
    for (int i = 0; i < p->plan.n_step; i++) {
        p->step[i].scratch_bytes = exec_scratch(p->exec, &p->plan, &p->step[i]);
        p->step[i].scratch_offset = p->plan.arena_bytes;
        p->plan.arena_bytes += (p->step[i].scratch_bytes + 63) / 64 * 64;
    }
    CHECK_OK(exec_wake(&p->session, p->exec, &p->plan));
}

void op_plan_done(op_plan *p)
{
    exec_sleep(p->session);
    exec_close(p->exec);
    params_destroy(p->params);
    for (int i = 0; i < p->n_inputs; i++)
        thaw__free(p->input[i]);
}

/* ----------------------------------------------------------------------------------------------
 * results */

static double *as_doubles(const void *data, dtype d, size_t n)
{
    double *const out = test_alloc(n, sizeof *out);

    if (d == DTYPE_F64)
        memcpy(out, data, n * sizeof *out);
    else
        CHECK_OK(tensor_convert(out, DTYPE_F64, data, d, n));
    return out;
}

static void collect(op_result *r, const op_case *c, const op_plan *p)
{
    for (int j = 0; j < op_table[c->op].n_outputs; j++) {
        r->n_out[j] = c->out_elements[j];
        r->out[j] = as_doubles(exec_read(p->session, p->out[j]), p->slot[p->out[j]].dtype,
                               c->out_elements[j]);
    }
    for (int i = 0; i < c->n_in; i++) {
        const param *const tensor = p->tensor[i] < 0 ? NULL : &p->params->item[p->tensor[i]];

        r->n_in[i] = c->in_elements[i];
        if (p->d_in[i] >= 0) {
            r->d_in[i] = as_doubles(exec_read(p->session, p->d_in[i]), p->slot[p->d_in[i]].dtype,
                                    c->in_elements[i]);
            r->backward_executor[i] = exec_step_executor(p->session, p->backward[i]);
        }
        if (op_table[c->op].mutates & OP_IN(i))
            r->after[i] = as_doubles(tensor->data, tensor->dtype, tensor->elements);
    }
    r->forward_executor = exec_step_executor(p->session, p->forward);
}

void op_case_run(op_result *r, const op_case *c, const op_run *how)
{
    op_plan *const p = test_alloc(1, sizeof *p);
    const void *input[THAW_COUNT(p->input)];
    exec_run_args args = {.input = input, .seed = c->seed, .epoch = (int64_t)(c->seed % 5)};

    memset(r, 0, sizeof *r);
    op_plan_make(p, c, how);
    for (int i = 0; i < p->n_inputs; i++)
        input[i] = p->input[i];
    for (int i = 0; i < how->times; i++) {
        args.accumulate = i > 0;
        CHECK_OK(exec_run(p->session, &args));
    }
    collect(r, c, p);
    op_plan_done(p);
    thaw__free(p);
}

void op_result_done(op_result *r)
{
    for (int j = 0; j < OP_MAX_OUTPUTS; j++)
        thaw__free(r->out[j]);
    for (int i = 0; i < OP_MAX_INPUTS; i++) {
        thaw__free(r->d_in[i]);
        thaw__free(r->after[i]);
    }
}

static void check_array(const op_case *c, const char *what, int number, const double *got,
                        const double *want, size_t n, double rtol, double atol)
{
    double most = 0, worst = 0;
    size_t at = 0;

    if (!got && !want)
        return;
    CHECK_MSG(got && want, "%s: %s %d is missing in one of two results", op_case_text(c), what,
              number);
    for (size_t i = 0; i < n; i++)
        most = fabs(want[i]) > most ? fabs(want[i]) : most;
    for (size_t i = 0; i < n; i++) {
        const double excess = check_excess(got[i], want[i], 0, atol + rtol * most);

        if (excess > worst) {
            worst = excess;
            at = i;
        }
    }
    CHECK_MSG(worst <= 1,
              "%s: %s %d: element %zu of %zu: got %.17g, want %.17g (%.3g times the "
              "allowed)",
              op_case_text(c), what, number, at, n, got[at], want[at], worst);
}

void op_result_check(const op_case *c, const op_result *got, const op_result *want, double rtol,
                     double atol)
{
    for (int j = 0; j < OP_MAX_OUTPUTS; j++)
        check_array(c, "output", j, got->out[j], want->out[j], want->n_out[j], rtol, atol);
    for (int i = 0; i < OP_MAX_INPUTS; i++) {
        check_array(c, "gradient of input", i, got->d_in[i], want->d_in[i], want->n_in[i], rtol,
                    atol);
        check_array(c, "updated input", i, got->after[i], want->after[i], want->n_in[i], rtol,
                    atol);
    }
}
