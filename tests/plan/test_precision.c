/*
 * test_precision.c - which layers compute in bf16, where casts stand, and what stays f32.
 */
#include "check.h"

#include "plan/plans.h"

/* conv norm relu, a block with a shortcut around it, a head. */
static void setup_residual(setup *s, dtype real)
{
    net n = net_create(real);
    const value_id conv = net_conv(&n, "stem.conv", net_image(&n, 8, 3), 8, 3, 1);
    const value_id stem = net_map(&n, OP_RELU, "stem.relu", net_norm(&n, "stem.bn", conv));
    const value_id branch = net_norm(&n, "block.bn", net_conv(&n, "block.conv", stem, 8, 3, 1));
    const value_id end = net_map(&n, OP_RELU, "block.relu", net_add(&n, "block.add", branch, stem));
    const value_id output = net_head(&n, end, 3);

    setup_init(s, n, output);
}

static dtype output_type(const plan *p, const char *name, op_kind op)
{
    return p->slot[need_step(p, name, op, 0)->out[0]].dtype;
}

static int count_steps_of(const plan *p, op_kind op, bool backward)
{
    int n = 0;

    for (int s = 0; s < p->n_step; s++)
        n += p->step[s].op == op && (p->step[s].wrt != 0) == backward;
    return n;
}

static void nothing_is_bf16_unasked(void **state)
{
    static const bf16_unit units[] = {BF16_NONE, BF16_EMULATED};
    uint64_t digest = 0;

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(units); i++) {
        setup s;
        plan *p;

        setup_residual(&s, DTYPE_F32);
        s.request.bf16 = units[i];
        p = setup_compile(&s);
        CHECK_INT(plan_count_bf16(p), 0);
        CHECK_INT(count_steps_of(p, OP_CAST, false), 0);
        CHECK(i == 0 || p->digest == digest);
        digest = p->digest;
        plan_destroy(p);
        setup_done(&s);
    }
}

static void layers_follow_convolutions(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_residual(&s, DTYPE_F32);
    s.request.bf16 = BF16_VECTOR;
    p = setup_compile(&s);
    CHECK_INT(output_type(p, "stem.conv", OP_CONV2D), DTYPE_BF16);
    CHECK_INT(output_type(p, "stem.bn", OP_BATCH_NORM_TRAIN), DTYPE_BF16);
    CHECK_INT(output_type(p, "stem.relu", OP_RELU), DTYPE_BF16);
    CHECK_INT(output_type(p, "block.add", OP_ADD), DTYPE_BF16);
    /* the image and what the head reads; the second use of the stem needs no other copy */
    CHECK_INT(count_steps_of(p, OP_CAST, false), 2);
    CHECK_INT(count_steps_of(p, OP_CAST, true), 1);
    CHECK_INT(p->slot[p->results.output].dtype, DTYPE_F32);
    plan_destroy(p);
    setup_done(&s);
}

static void statistics_and_parameters_stay_f32(void **state)
{
    const plan_step *norm;
    setup s;
    plan *p;

    (void)state;
    setup_residual(&s, DTYPE_F32);
    s.request.bf16 = BF16_TILE;
    p = setup_compile(&s);
    norm = need_step(p, "stem.bn", OP_BATCH_NORM_TRAIN, 0);
    CHECK_INT(p->slot[norm->out[1]].dtype, DTYPE_F32);
    CHECK_INT(p->slot[norm->out[2]].dtype, DTYPE_F32);
    for (int i = 0; i < p->n_slots; i++)
        CHECK_MSG(p->slot[i].dtype != DTYPE_BF16 || p->slot[i].place == SLOT_ARENA,
                  "'%s' is bf16 outside the arena", p->slot[i].name);
    plan_destroy(p);
    setup_done(&s);
}

static void activations_take_half_the_memory(void **state)
{
    size_t bytes[2];
    setup s;

    (void)state;
    for (int i = 0; i < 2; i++) {
        plan *p;

        setup_residual(&s, DTYPE_F32);
        s.request.bf16 = i ? BF16_VECTOR : BF16_NONE;
        p = setup_compile(&s);
        bytes[i] = p->arena_bytes;
        plan_destroy(p);
        setup_done(&s);
    }
    CHECK_MSG(bytes[1] < bytes[0] * 6 / 10, "%zu bytes in bf16, %zu in f32", bytes[1], bytes[0]);
}

static void f64_stays_f64(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_residual(&s, DTYPE_F64);
    s.request.bf16 = BF16_TILE;
    p = setup_compile(&s);
    CHECK_INT(plan_count_bf16(p), 0);
    plan_destroy(p);
    setup_done(&s);
}

/* A small product stays as it is, a large one leads. */
static void linear_layers_lead_when_large(void **state)
{
    net n = net_create(DTYPE_F32);
    value_id x = net_input(&n, "rows", DTYPE_F32, shape_2(DIM_BATCH, 256));
    setup s;
    plan *p;

    (void)state;
    x = net_map(&n, OP_RELU, "relu1", net_linear(&n, "fc1", x, 512));
    x = net_map(&n, OP_RELU, "relu2", net_linear(&n, "fc2", x, 513));
    x = net_linear(&n, "fc3", x, 4);
    setup_init(&s, n, x);
    s.request.bf16 = BF16_VECTOR;
    p = setup_compile(&s);
    CHECK_INT(output_type(p, "fc1", OP_LINEAR), DTYPE_F32);
    CHECK_INT(output_type(p, "relu1", OP_RELU), DTYPE_F32);
    CHECK_INT(output_type(p, "fc2", OP_LINEAR), DTYPE_BF16);
    CHECK_INT(output_type(p, "relu2", OP_RELU), DTYPE_BF16);
    CHECK_INT(output_type(p, "fc3", OP_LINEAR), DTYPE_F32);
    plan_destroy(p);
    setup_done(&s);
}

/* A depthwise convolution takes what it is given, and asks for nothing. */
static void depthwise_convolutions_follow(void **state)
{
    net n = net_create(DTYPE_F32);
    const op_attrs depthwise = net_conv_attrs(1, 1, 1, 8);
    value_id in[2] = {net_image(&n, 8, 8)}, x;
    setup s;
    plan *p;

    (void)state;
    in[1] = net_param(&n, "first", "weight", shape_4(8, 1, 3, 3));
    x = net_op(&n, OP_CONV2D, &depthwise, "first", n.n_modules++, 2, in);
    x = net_conv(&n, "conv", x, 8, 1, 1);
    in[0] = x;
    in[1] = net_param(&n, "second", "weight", shape_4(8, 1, 3, 3));
    x = net_op(&n, OP_CONV2D, &depthwise, "second", n.n_modules++, 2, in);
    setup_init(&s, n, net_head(&n, x, 3));
    s.n = n;
    s.request.bf16 = BF16_TILE;
    p = setup_compile(&s);
    CHECK_INT(output_type(p, "first", OP_CONV2D), DTYPE_F32);
    CHECK_INT(output_type(p, "conv", OP_CONV2D), DTYPE_BF16);
    CHECK_INT(output_type(p, "second", OP_CONV2D), DTYPE_BF16);
    plan_destroy(p);
    setup_done(&s);
}

/* What is kept of a sample is bf16, and both parts agree on it; never the copy in f32. */
static void a_cut_keeps_bf16(void **state)
{
    plan_cut f32, bf16;
    plan *prefix, *suffix;
    setup s;

    (void)state;
    setup_residual(&s, DTYPE_F32);
    for (int p = 0; p < 6; p++)
        s.trainable[p] = false;
    memset(s.mode, 0, 4);
    CHECK_OK(plan_find_cut(&f32, &s.request));
    s.request.bf16 = BF16_VECTOR;
    CHECK_OK(plan_find_cut(&bf16, &s.request));
    CHECK_INT(bf16.value, f32.value);
    CHECK_INT(2 * bf16.bytes, f32.bytes);

    s.request.cut = bf16.value;
    s.request.part = PLAN_SUFFIX;
    suffix = setup_compile(&s);
    CHECK_INT(suffix->slot[0].place, SLOT_INPUT);
    CHECK_INT(suffix->slot[0].dtype, DTYPE_BF16);
    s.request.part = PLAN_PREFIX;
    s.request.training = false;
    s.request.loss_op = OP_COUNT;
    s.request.effect = NULL;
    prefix = setup_compile(&s);
    CHECK_INT(prefix->slot[prefix->results.output].dtype, DTYPE_BF16);
    plan_destroy(prefix);
    plan_destroy(suffix);
    setup_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_bf16_unasked),
        cmocka_unit_test(layers_follow_convolutions),
        cmocka_unit_test(statistics_and_parameters_stay_f32),
        cmocka_unit_test(activations_take_half_the_memory),
        cmocka_unit_test(f64_stays_f64),
        cmocka_unit_test(linear_layers_lead_when_large),
        cmocka_unit_test(depthwise_convolutions_follow),
        cmocka_unit_test(a_cut_keeps_bf16),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
