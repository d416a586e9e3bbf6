/*
 * test_infer.c - shape rules against sizes worked out by hand (those of windows with PyTorch), and
 * what is said when shapes do not fit.
 */
#include "check.h"

#include "graph/nets.h"

/* Shapes as text, so that a case is one line: "B,8,8,3 f32 | 4,3,3,3 f32". "-" is an input left
 * out. */
typedef struct infer_case {
    op_kind op;
    op_attrs attrs;
    const char *in, *out; /* out: the result, or for a case that fails a part of the message */
    thaw_status status;
} infer_case;

static bool read_shape(shape *s, dtype *d, const char **rest)
{
    static const struct {
        const char *name;
        dtype dtype;
    } types[] = {{"f32", DTYPE_F32},
                 {"f64", DTYPE_F64},
                 {"bf16", DTYPE_BF16},
                 {"i32", DTYPE_I32},
                 {"i64", DTYPE_I64}};
    char word[64];
    int used = 0;

    *s = (shape){0};
    *d = DTYPE_F32;
    if (sscanf(*rest, " %63s%n", word, &used) != 1)
        return false;
    *rest += used;
    if (strcmp(word, "-") == 0)
        s->rank = -1;
    for (char *p = word; s->rank >= 0 && strcmp(word, "()") != 0; p++) {
        s->dim[s->rank++] = *p == 'B' ? DIM_BATCH : *p == 'T' ? DIM_LENGTH : strtoll(p, &p, 10);
        if (*p == 'B' || *p == 'T')
            p++;
        if (*p != ',')
            break;
    }
    if (sscanf(*rest, " %63s%n", word, &used) == 1 && word[0] != '|') {
        *rest += used;
        for (size_t i = 0; i < THAW_COUNT(types); i++)
            if (strcmp(types[i].name, word) == 0)
                *d = types[i].dtype;
    }
    if (sscanf(*rest, " |%n", &used) == 0 && strchr(*rest, '|'))
        *rest = strchr(*rest, '|') + 1;
    return true;
}

static void format_results(char *out, size_t size, op_kind op, const shape *s, const dtype *d)
{
    size_t n = 0;

    for (int j = 0; j < op_table[op].n_outputs; j++) {
        char buffer[128];

        n += (size_t)snprintf(out + n, size - n, "%s%s %s", j ? " | " : "",
                              shape_format(buffer, &s[j]), dtype_name(d[j]));
    }
}

static void run_case(const infer_case *c)
{
    shape in[OP_MAX_INPUTS], out[OP_MAX_OUTPUTS];
    dtype in_dtype[OP_MAX_INPUTS], out_dtype[OP_MAX_OUTPUTS];
    const char *rest = c->in;
    char got[512];
    thaw_status status;
    int n = 0;

    while (n < OP_MAX_INPUTS && read_shape(&in[n], &in_dtype[n], &rest))
        n++;
    status = graph_infer(out, out_dtype, c->op, &c->attrs, "it", DTYPE_F32, n, in, in_dtype);
    CHECK_MSG(status == c->status, "%s of %s: got %s '%s', want %s", op_table[c->op].name, c->in,
              thaw_status_name(status), status ? thaw_error() : "", thaw_status_name(c->status));
    if (status != THAW_OK) {
        CHECK_CONTAINS(thaw_error(), c->out);
        CHECK_CONTAINS(thaw_error(), "'it'");
        CHECK_CONTAINS(thaw_error(), op_table[c->op].name);
        return;
    }
    format_results(got, sizeof got, c->op, out, out_dtype);
    CHECK_MSG(strcmp(got, c->out) == 0, "%s of %s: got %s, want %s", op_table[c->op].name, c->in,
              got, c->out);
}

#define CONV(stride_, pad_, dilation_, groups_)                                                    \
    {                                                                                              \
        .conv = {                                                                                  \
            .stride = {stride_, stride_},                                                          \
            .pad = {pad_, pad_},                                                                   \
            .dilation = {dilation_, dilation_},                                                    \
            .groups = groups_                                                                      \
        }                                                                                          \
    }
#define POOL(kernel_, stride_, pad_)                                                               \
    {                                                                                              \
        .pool = {.kernel = {kernel_, kernel_}, .stride = {stride_, stride_}, .pad = {pad_, pad_} } \
    }
#define NORM(eps_, momentum_)                                                                      \
    {                                                                                              \
        .norm = {.eps = eps_, .momentum = momentum_ }                                              \
    }
#define HEADS(heads_)                                                                              \
    {                                                                                              \
        .attention = {.heads = heads_ }                                                            \
    }
#define NONE                                                                                       \
    {                                                                                              \
        .pool = {.kernel = {0} }                                                                   \
    }

static const infer_case fit_table[] = {
    {OP_CONV2D, CONV(1, 1, 1, 1), "B,8,8,3 | 4,3,3,3", "[B, 8, 8, 4] f32", THAW_OK},
    {OP_CONV2D, CONV(2, 3, 1, 1), "2,224,224,3 | 64,3,7,7 | 64", "[2, 112, 112, 64] f32", THAW_OK},
    {OP_CONV2D, CONV(2, 0, 1, 1), "2,10,11,3 | 6,3,3,3 | -", "[2, 4, 5, 6] f32", THAW_OK},
    {OP_CONV2D, CONV(2, 0, 2, 1), "2,11,12,3 | 6,3,3,3", "[2, 4, 4, 6] f32", THAW_OK},
    {OP_CONV2D, CONV(3, 2, 3, 1), "1,17,9,2 | 5,2,3,5", "[1, 5, 1, 5] f32", THAW_OK},
    {OP_CONV2D, CONV(1, 0, 1, 4), "1,5,5,8 | 12,2,3,3 | 12", "[1, 3, 3, 12] f32", THAW_OK},
    {OP_CONV2D, CONV(1, 1, 1, 8), "1,5,5,8 | 8,1,3,3", "[1, 5, 5, 8] f32", THAW_OK},
    {OP_CONV2D, CONV(1, 0, 1, 1), "1,3,3,1 | 1,1,3,3", "[1, 1, 1, 1] f32", THAW_OK},
    {OP_LINEAR, NONE, "B,8 | 3,8 | 3", "[B, 3] f32", THAW_OK},
    {OP_LINEAR, NONE, "B,T,8 | 3,8", "[B, T, 3] f32", THAW_OK},
    {OP_BATCH_NORM_TRAIN, NORM(1e-5, 0.1), "B,4,4,6 | 6 | 6 | 6 | 6 | () i64",
     "[B, 4, 4, 6] f32 | [6] f32 | [6] f32", THAW_OK},
    {OP_BATCH_NORM_INFER, NORM(0, 0), "B,6 | 6 | 6 | 6 | 6", "[B, 6] f32", THAW_OK},
    {OP_BATCH_NORM_AGAIN, NORM(0, 0), "B,6 | 6 | 6 | 6 | 6", "[B, 6] f32", THAW_OK},
    {OP_RELU, NONE, "B,T,8", "[B, T, 8] f32", THAW_OK},
    {OP_RELU6, NONE, "3", "[3] f32", THAW_OK},
    {OP_ADD, NONE, "B,2,2,8 | B,2,2,8", "[B, 2, 2, 8] f32", THAW_OK},
    {OP_MAX_POOL2D, POOL(3, 2, 1), "B,112,112,64", "[B, 56, 56, 64] f32 | [B, 56, 56, 64] u8",
     THAW_OK},
    {OP_MAX_POOL2D, POOL(2, 2, 0), "1,5,7,2", "[1, 2, 3, 2] f32 | [1, 2, 3, 2] u8", THAW_OK},
    {OP_MAX_POOL2D, POOL(16, 1, 8), "1,16,16,1", "[1, 17, 17, 1] f32 | [1, 17, 17, 1] u8", THAW_OK},
    {OP_AVG_POOL2D, POOL(3, 2, 1), "B,7,8,5", "[B, 4, 4, 5] f32", THAW_OK},
    {OP_GLOBAL_AVG_POOL, NONE, "B,7,8,5", "[B, 5] f32", THAW_OK},
    {OP_FLATTEN, NONE, "B,7,8,5", "[B, 280] f32", THAW_OK},
    {OP_DROPOUT, {.dropout = {.p = 0.5}}, "B,9 | B i64", "[B, 9] f32", THAW_OK},
    {OP_CROSS_ENTROPY, {.loss = {.smoothing = 0.1}}, "B,10 | B i32", "[] f64 | [] f64", THAW_OK},
    {OP_CROSS_ENTROPY, NONE, "B,T,10 | B,T i32", "[] f64 | [] f64", THAW_OK},
    {OP_MSE, NONE, "B,10 | B,10", "[] f64 | [] f64", THAW_OK},
    {OP_ARGMAX, NONE, "B,T,10", "[B, T] i32", THAW_OK},
    {OP_LAYER_NORM, NORM(1e-12, 0), "B,T,6 | 6 | 6", "[B, T, 6] f32", THAW_OK},
    {OP_RMS_NORM, NORM(1e-6, 0), "B,T,6 | 6", "[B, T, 6] f32", THAW_OK},
    {OP_GELU, NONE, "B,T,8", "[B, T, 8] f32", THAW_OK},
    {OP_ATTENTION, HEADS(3), "B,197,192 | B,197,192 | B,197,192", "[B, 197, 192] f32", THAW_OK},
    {OP_ATTENTION, HEADS(2), "B,T,8 | B,T,8 | B,T,8", "[B, T, 8] f32", THAW_OK},
    {OP_ATTENTION, HEADS(1), "2,3,8 | 2,5,8 | 2,5,8", "[2, 3, 8] f32", THAW_OK},
    {OP_ATTENTION, HEADS(2), "B,8 | B,5,8 | B,5,8", "[B, 8] f32", THAW_OK},
    {OP_TOKENS, NONE, "B,14,14,192 | 1,1,192 | 1,197,192", "[B, 197, 192] f32", THAW_OK},
    {OP_TOKEN, {.token = {.index = 4}}, "B,5,8", "[B, 8] f32", THAW_OK},
    {OP_TOKEN, NONE, "B,T,8", "[B, 8] f32", THAW_OK},
    {OP_CAST, NONE, "B,T,8", "[B, T, 8] bf16", THAW_OK},
    {OP_CAST, NONE, "B,8 bf16", "[B, 8] f32", THAW_OK},
    {OP_CONV2D, CONV(1, 1, 1, 1), "B,8,8,3 bf16 | 4,3,3,3 | 4", "[B, 8, 8, 4] bf16", THAW_OK},
    {OP_LINEAR, NONE, "B,8 bf16 | 4,8", "[B, 4] bf16", THAW_OK},
    {OP_ADD, NONE, "B,8 bf16 | B,8 bf16", "[B, 8] bf16", THAW_OK},
    {OP_BATCH_NORM_TRAIN, NORM(1e-5, 0.1), "B,6 bf16 | 6 | 6 | 6 | 6 | () i64",
     "[B, 6] bf16 | [6] f32 | [6] f32", THAW_OK},
    {OP_MAX_POOL2D, POOL(3, 2, 1), "B,8,8,4 bf16", "[B, 4, 4, 4] bf16 | [B, 4, 4, 4] u8", THAW_OK},
};

static const infer_case misfit_table[] = {
    {OP_CONV2D, CONV(1, 1, 1, 1), "B,8,8,4 | 4,3,3,3",
     "src [B, 8, 8, 4] does not fit weight [4, 3, 3, 3]", THAW_E_SHAPE},
    {OP_CONV2D, CONV(1, 1, 1, 2), "B,8,8,3 | 4,1,3,3", "input channels", THAW_E_SHAPE},
    {OP_CONV2D, CONV(1, 1, 1, 2), "B,8,8,4 | 5,2,3,3", "multiple of the groups", THAW_E_SHAPE},
    {OP_CONV2D, CONV(1, 1, 1, 1), "B,8,8,3 | 4,3,3,3 | 5",
     "bias [5] does not fit weight [4, 3, 3, 3]", THAW_E_SHAPE},
    {OP_CONV2D, CONV(1, 0, 1, 1), "B,2,8,3 | 4,3,3,3", "does not fit the height of 2",
     THAW_E_SHAPE},
    {OP_CONV2D, CONV(1, 0, 4, 1), "B,9,8,3 | 4,3,3,3", "(dilation 4) does not fit the width of 8",
     THAW_E_SHAPE},
    {OP_CONV2D, CONV(0, 0, 1, 1), "B,8,8,3 | 4,3,3,3", "stride or dilation is 0", THAW_E_RANGE},
    {OP_CONV2D, CONV(1, -1, 1, 1), "B,8,8,3 | 4,3,3,3", "padding is -1", THAW_E_RANGE},
    {OP_CONV2D, CONV(1, 0, 1, 0), "B,8,8,3 | 4,3,3,3", "groups is 0", THAW_E_RANGE},
    {OP_CONV2D, CONV(1, 0, 2000000000, 1), "B,8,8,3 | 4,3,9223372036854775807,3", "does not fit",
     THAW_E_SHAPE},
    {OP_CONV2D, CONV(1, 1, 1, 1), "B,8,3 | 4,3,3,3", "src is [B, 8, 3], not [B, H, W, C]",
     THAW_E_SHAPE},
    {OP_CONV2D, CONV(1, 1, 1, 1), "B,8,8,3 i32 | 4,3,3,3", "holds i32, not f32", THAW_E_SHAPE},
    {OP_CONV2D, CONV(1, 1, 1, 1), "B,8,-5,3 | 4,3,3,3", "[B, 8, -5, 3]", THAW_E_SHAPE},
    {OP_CONV2D, CONV(1, 1, 1, 1), "B,T,8,3 | 4,3,3,3", "height", THAW_E_SHAPE},
    {OP_CONV2D, CONV(1, 1, 1, 1), "B,8,8,3 bf16 | 4,3,3,3 bf16", "weight", THAW_E_SHAPE},
    {OP_ADD, NONE, "B,8 bf16 | B,8", "b [B, 8] holds f32, not bf16", THAW_E_SHAPE},
    {OP_ADD, NONE, "B,8 | B,8 bf16", "b [B, 8] holds bf16, not f32", THAW_E_SHAPE},
    {OP_GELU, NONE, "B,8 bf16", "src [B, 8] holds bf16, not f32", THAW_E_SHAPE},
    {OP_LINEAR, NONE, "B,512 | 10,256", "src [B, 512] does not fit weight [10, 256]", THAW_E_SHAPE},
    {OP_LINEAR, NONE, "256 | 10,256", "src [256]", THAW_E_SHAPE},
    {OP_LINEAR, NONE, "B,256 | 10,256 | 9", "bias [9]", THAW_E_SHAPE},
    {OP_BATCH_NORM_TRAIN, NORM(1e-5, 0.1), "B,6 | 6 | 6 | 5 | 6 | () i64", "mean [5]",
     THAW_E_SHAPE},
    {OP_BATCH_NORM_TRAIN, NORM(1e-5, 0.1), "B,6 | 6 | 6 | 6 | 6 | 1 i64", "count is [1]",
     THAW_E_SHAPE},
    {OP_BATCH_NORM_TRAIN, NORM(1e-5, 0.1), "B,6 | 6 | 6 | 6 | 6 | ()",
     "count [] holds f32, not i64", THAW_E_SHAPE},
    {OP_BATCH_NORM_TRAIN, NORM(1e-5, 1.5), "B,6 | 6 | 6 | 6 | 6 | () i64", "momentum is 1.5",
     THAW_E_RANGE},
    {OP_BATCH_NORM_INFER, NORM(-1, 0), "B,6 | 6 | 6 | 6 | 6", "eps is -1", THAW_E_RANGE},
    {OP_BATCH_NORM_INFER, NORM(NAN, 0), "B,6 | 6 | 6 | 6 | 6", "eps is nan", THAW_E_RANGE},
    {OP_ADD, NONE, "B,2,2,8 | B,2,2,4", "a [B, 2, 2, 8] does not fit b [B, 2, 2, 4]", THAW_E_SHAPE},
    {OP_MAX_POOL2D, POOL(3, 2, 2), "B,8,8,4", "padding is 2, not at most half", THAW_E_RANGE},
    {OP_MAX_POOL2D, POOL(17, 1, 0), "B,32,32,4", "area is 289", THAW_E_RANGE},
    {OP_MAX_POOL2D, POOL(3, 0, 0), "B,32,32,4", "stride", THAW_E_RANGE},
    {OP_AVG_POOL2D, POOL(3, 1, 0), "B,2,2,4", "does not fit", THAW_E_SHAPE},
    {OP_AVG_POOL2D, POOL(0, 1, 0), "B,2,2,4", "does not fit", THAW_E_SHAPE},
    {OP_GLOBAL_AVG_POOL, NONE, "B,4", "src is [B, 4]", THAW_E_SHAPE},
    {OP_FLATTEN, NONE, "B,9223372036854775807,2,2", "cannot be one row", THAW_E_SHAPE},
    {OP_DROPOUT, {.dropout = {.p = 1}}, "B,9 | B i64", "p is 1", THAW_E_RANGE},
    {OP_DROPOUT, {.dropout = {.p = 0.5}}, "B,9 | 9 i64", "sample [9]", THAW_E_SHAPE},
    {OP_CROSS_ENTROPY, NONE, "B,10 | B,10 i32", "target [B, 10]", THAW_E_SHAPE},
    {OP_CROSS_ENTROPY, {.loss = {.smoothing = 1}}, "B,10 | B i32", "smoothing is 1", THAW_E_RANGE},
    {OP_MSE, NONE, "B,10 | B,9", "target [B, 9]", THAW_E_SHAPE},
    {OP_MSE, NONE, "B,3,10 | B,3,10", "pred is [B, 3, 10]", THAW_E_SHAPE},
    {OP_ARGMAX, NONE, "()", "src is []", THAW_E_SHAPE},
    {OP_LAYER_NORM, NORM(1e-5, 0), "B,T,6 | 6 | 5", "bias [5]", THAW_E_SHAPE},
    {OP_LAYER_NORM, NORM(-1, 0), "B,T,6 | 6 | 6", "eps is -1", THAW_E_RANGE},
    {OP_RMS_NORM, NORM(1e-5, 0), "6 | 6", "src is [6]", THAW_E_SHAPE},
    {OP_ATTENTION, HEADS(2), "B,7,8 | B,7,6 | B,7,6", "q [B, 7, 8] does not fit k [B, 7, 6]",
     THAW_E_SHAPE},
    {OP_ATTENTION, HEADS(2), "B,7,8 | B,7,8 | B,6,8", "v [B, 6, 8]", THAW_E_SHAPE},
    {OP_ATTENTION, HEADS(3), "B,7,8 | B,7,8 | B,7,8", "heads is 3", THAW_E_RANGE},
    {OP_ATTENTION, HEADS(0), "B,7,8 | B,7,8 | B,7,8", "heads is 0", THAW_E_RANGE},
    {OP_ATTENTION, HEADS(2), "B,8 | B,8 | B,8", "k is [B, 8]", THAW_E_SHAPE},
    {OP_ATTENTION, HEADS(2), "B,1,1,8 | B,1,8 | B,1,8", "q is [B, 1, 1, 8]", THAW_E_SHAPE},
    {OP_ATTENTION, HEADS(2), "B,8 | B,0,8 | B,0,8", "at least one key", THAW_E_SHAPE},
    {OP_TOKENS, NONE, "B,2,2,8 | 1,8 | 1,5,8", "first [1, 8]", THAW_E_SHAPE},
    {OP_TOKENS, NONE, "B,2,2,8 | 1,1,8 | 1,4,8", "position [1, 4, 8]", THAW_E_SHAPE},
    {OP_TOKENS, NONE, "B,9223372036854775807,2,8 | 1,1,8 | 1,4,8", "so many pixels", THAW_E_SHAPE},
    {OP_TOKEN, {.token = {.index = 5}}, "B,5,8", "the token is 5", THAW_E_RANGE},
    {OP_TOKEN, NONE, "B,8", "src is [B, 8]", THAW_E_SHAPE},
};

static void shapes_that_fit(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(fit_table); i++)
        run_case(&fit_table[i]);
}

static void shapes_that_do_not_fit_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(misfit_table); i++)
        run_case(&misfit_table[i]);
}

static void every_op_has_a_rule_and_a_case(void **state)
{
    (void)state;
    for (int op = 0; op < OP_COUNT; op++) {
        bool found = false;

        for (size_t i = 0; i < THAW_COUNT(fit_table); i++)
            found |= (int)fit_table[i].op == op;
        CHECK_MSG(found, "%s has no case in fit_table", op_table[op].name);
    }
}

/* The window formula against counting the positions one by one. */
static void windows_match_counting(void **state)
{
    uint64_t seed = 1;

    (void)state;
    for (int round = 0; round < 2000; round++) {
        const int64_t size = (int64_t)(splitmix64(&seed) % 20) + 1;
        const int64_t kernel = (int64_t)(splitmix64(&seed) % 6) + 1;
        const int32_t stride = (int32_t)(splitmix64(&seed) % 4) + 1;
        const int32_t pad = (int32_t)(splitmix64(&seed) % 4);
        const int32_t dilation = (int32_t)(splitmix64(&seed) % 3) + 1;
        const op_attrs attrs = net_conv_attrs(stride, pad, dilation, 1);
        const shape in[2] = {shape_4(1, size, 40, 1), shape_4(1, 1, kernel, 1)};
        const dtype types[2] = {DTYPE_F32, DTYPE_F32};
        int64_t want = 0;
        shape out;
        dtype out_type;
        thaw_status status;

        for (int64_t at = -pad; at + dilation * (kernel - 1) < size + pad; at += stride)
            want++;
        status = graph_infer(&out, &out_type, OP_CONV2D, &attrs, "it", DTYPE_F32, 2, in, types);
        CHECK_MSG(status == (want ? THAW_OK : THAW_E_SHAPE) && (!want || out.dim[1] == want),
                  "size %lld kernel %lld stride %d pad %d dilation %d: got %s %lld, want %lld",
                  (long long)size, (long long)kernel, stride, pad, dilation,
                  thaw_status_name(status), (long long)(status ? 0 : out.dim[1]), (long long)want);
    }
}

static void outputs_stay_untouched_on_failure(void **state)
{
    const shape in[2] = {shape_2(3, 4), shape_2(3, 5)};
    const dtype types[2] = {DTYPE_F32, DTYPE_F32};
    shape out = shape_1(99);
    dtype out_type = DTYPE_BOOL;

    (void)state;
    CHECK_STATUS(graph_infer(&out, &out_type, OP_ADD, &(op_attrs){.conv = {.groups = 0}}, "it",
                             DTYPE_F32, 2, in, types),
                 THAW_E_SHAPE);
    CHECK_INT(out.dim[0], 99);
    CHECK_INT(out_type, DTYPE_BOOL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_that_fit),
        cmocka_unit_test(shapes_that_do_not_fit_are_named),
        cmocka_unit_test(every_op_has_a_rule_and_a_case),
        cmocka_unit_test(windows_match_counting),
        cmocka_unit_test(outputs_stay_untouched_on_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
