/*
 * test_cut.c - where a network may be cut, and that its two parts together are the whole.
 */
#include "check.h"

#include "plan/plans.h"

/* A stem, a block with a shortcut around it, and a head; the stem has parameters 0 … 2, the block
 * 3 … 5. */
#define STEM_END  3
#define BLOCK_END 6
static void setup_residual(setup *s)
{
    net n = net_create(DTYPE_F32);
    const value_id conv = net_conv(&n, "stem.conv", net_image(&n, 8, 3), 8, 3, 1);
    const value_id stem = net_map(&n, OP_RELU, "stem.relu", net_norm(&n, "stem.bn", conv));
    const value_id branch = net_norm(&n, "block.bn", net_conv(&n, "block.conv", stem, 8, 3, 1));
    const value_id end = net_map(&n, OP_RELU, "block.relu", net_add(&n, "block.add", branch, stem));
    const value_id output = net_head(&n, end, 3);

    setup_init(s, n, output);
}

static plan_cut cut_of(const setup *s)
{
    plan_cut cut;

    CHECK_OK(plan_find_cut(&cut, &s->request));
    return cut;
}

/* Module m and those before it rest, with their norms. */
static void rest(setup *s, int n_params, int n_modules)
{
    for (int p = 0; p < n_params; p++)
        s->trainable[p] = false;
    memset(s->mode, 0, (size_t)n_modules);
}

static void nothing_frozen_is_no_cut(void **state)
{
    setup s;

    (void)state;
    setup_residual(&s);
    CHECK_INT(cut_of(&s).value, NO_VALUE);
    rest(&s, STEM_END, 0); /* frozen, but its norm takes the batch's statistics */
    CHECK_STR(cut_of(&s).name, "stem.conv");
    s.trainable[0] = true;
    CHECK_INT(cut_of(&s).value, NO_VALUE);
    setup_done(&s);
}

static void a_cut_lies_behind_what_is_frozen(void **state)
{
    plan_cut cut;
    setup s;

    (void)state;
    setup_residual(&s);
    rest(&s, STEM_END, 2);
    cut = cut_of(&s);
    CHECK_STR(cut.name, "stem");
    CHECK_INT(cut.bytes, 8 * 8 * 8 * 4);
    CHECK(cut.share > 0.2 && cut.share < 0.5);
    CHECK_STR(s.n.g->value[cut.value].name, "stem.relu");

    /* within the block two values are alive: the cut stays before it */
    rest(&s, STEM_END + 1, 3);
    CHECK_INT(cut_of(&s).value, cut.value);

    rest(&s, BLOCK_END, 4);
    cut = cut_of(&s);
    CHECK_MSG(cut.share > 0.9, "the share is %g", cut.share);
    CHECK(strncmp(cut.name, "stem", 4) != 0);
    setup_done(&s);
}

static void without_an_effect_everything_is_frozen(void **state)
{
    setup s;

    (void)state;
    setup_residual(&s);
    s.request.effect = NULL;
    CHECK_INT(cut_of(&s).value, s.request.output);
    CHECK_NEAR(cut_of(&s).share, 1, 0, 0);
    setup_done(&s);
}

static void masks_and_little_work_are_no_cut(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id x = net_input(&n, "x", DTYPE_F32, shape_2(DIM_BATCH, 64));
    const value_id sample = net_input(&n, "sample", DTYPE_I64, shape_1(DIM_BATCH));
    const op_attrs attrs = net_dropout_attrs(0.5);
    const value_id fc1 = net_linear(&n, "fc1", x, 32);
    const value_id y = net_op(&n, OP_DROPOUT, &attrs, "drop", 0, 2, (value_id[]){fc1, sample});
    const value_id relu = net_map(&n, OP_RELU, "relu", y);
    const value_id output = net_linear(&n, "fc2", net_linear(&n, "fc", relu, 32), 3);
    setup s;

    (void)state;
    setup_init(&s, n, output);
    s.trainable[0] = s.trainable[1] = false;
    CHECK_INT(cut_of(&s).value, fc1);
    s.mode[0] = 0; /* the mask is off */
    CHECK_INT(cut_of(&s).value, relu);
    s.trainable[0] = true;
    CHECK_INT(cut_of(&s).value, NO_VALUE);
    setup_done(&s);
}

static int count_grads(const plan *p)
{
    int n = 0;

    for (int i = 0; i < p->n_slots; i++)
        n += p->slot[i].place == SLOT_GRAD;
    return n;
}

/* Steps of the prefix, then those of the suffix, are the whole's, name by name. */
static void the_parts_are_the_whole(void **state)
{
    plan *whole, *prefix, *suffix;
    plan_cut cut;
    setup s;

    (void)state;
    setup_residual(&s);
    rest(&s, STEM_END, 2);
    cut = cut_of(&s);
    whole = setup_compile(&s);
    s.request.part = PLAN_SUFFIX;
    s.request.cut = cut.value;
    suffix = setup_compile(&s);
    s.request.part = PLAN_PREFIX;
    s.request.training = false;
    s.request.effect = NULL;
    s.request.loss_op = OP_COUNT;
    prefix = setup_compile(&s);

    CHECK_INT(prefix->n_step, prefix->n_forward);
    CHECK_INT(prefix->n_forward + suffix->n_forward, whole->n_forward);
    CHECK_INT(prefix->n_step + suffix->n_step, whole->n_step);
    for (int i = 0; i < whole->n_step; i++) {
        const plan_step *want = &whole->step[i];
        const plan_step *got =
            i < prefix->n_step ? &prefix->step[i] : &suffix->step[i - prefix->n_step];

        CHECK_STR(got->name, want->name);
        CHECK_INT(got->op, want->op);
        CHECK_INT(got->wrt, want->wrt);
        CHECK_INT(memcmp(&got->attrs, &want->attrs, sizeof got->attrs), 0);
    }
    CHECK_INT(count_grads(suffix), count_grads(whole));
    CHECK_INT(suffix->slot[0].place, SLOT_INPUT);
    CHECK_INT(suffix->slot[0].bytes, cut.bytes * (size_t)s.request.batch);
    CHECK_INT(prefix->results.loss, -1);
    CHECK_INT(prefix->results.predicted, -1);
    CHECK_INT(prefix->slot[prefix->results.output].bytes, suffix->slot[0].bytes);
    plan_destroy(prefix);
    plan_destroy(suffix);
    plan_destroy(whole);
    setup_done(&s);
}

static void a_wrong_place_is_said(void **state)
{
    plan *p = NULL;
    setup s;

    (void)state;
    setup_residual(&s);
    s.request.part = PLAN_SUFFIX;
    s.request.cut = (value_id)s.n.g->n_values;
    CHECK_ERROR(plan_compile(&p, &s.request), THAW_E_USAGE, "no value");
    s.request.cut = 0;
    CHECK_ERROR(plan_compile(&p, &s.request), THAW_E_USAGE, "no value");
    for (size_t v = 0; v < s.n.g->n_values; v++)
        if (strcmp(s.n.g->value[v].name, "block.bn") == 0 && s.n.g->value[v].kind == VALUE_NODE) {
            s.request.cut = (value_id)v; /* beside the shortcut */
            CHECK_ERROR(plan_compile(&p, &s.request), THAW_E_USAGE, "no place to cut");
            break;
        }
    setup_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_frozen_is_no_cut),
        cmocka_unit_test(a_cut_lies_behind_what_is_frozen),
        cmocka_unit_test(without_an_effect_everything_is_frozen),
        cmocka_unit_test(masks_and_little_work_are_no_cut),
        cmocka_unit_test(the_parts_are_the_whole),
        cmocka_unit_test(a_wrong_place_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
