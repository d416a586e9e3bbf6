/* test_optim.c - optimizer state across phases, frozen bytes, own update counts, norms and
 * clipping. */
#include "optim/optim.h"

#include "check.h"

enum { PARAMS = 3 };

/* An effect made by hand: who trains, who is updated, the coefficients. */
typedef struct hand_effect {
    bool trainable[PARAMS], updated[PARAMS];
    double scale[PARAMS];
    thaw_effect effect;
} hand_effect;

static thaw_effect *make_effect(hand_effect *h, const char *bits, thaw_on_freeze on_freeze)
{
    for (int i = 0; i < PARAMS; i++) {
        h->trainable[i] = bits[i] != '0';
        h->updated[i] = bits[i] == '1';
        h->scale[i] = 1;
    }
    h->effect = (thaw_effect){.n_params = PARAMS,
                              .trainable = h->trainable,
                              .updated = h->updated,
                              .lr_scale = h->scale,
                              .on_freeze = on_freeze};
    return &h->effect;
}

static params *three_params(void)
{
    static const char *const name[] = {"a.weight", "b.weight", "b.bias"};
    const shape matrix = shape_2(4, 4), vector = shape_1(4), buffer = shape_1(2);
    params *p = NULL;

    CHECK_OK(params_create(&p, DTYPE_F64));
    for (int i = 0; i < PARAMS; i++)
        CHECK_OK(params_add(p, name[i], i < 2 ? &matrix : &vector, DTYPE_F64, false));
    CHECK_OK(params_add(p, "bn.running_mean", &buffer, DTYPE_F64, true));
    params_init_all_by_name(p);
    return p;
}

static void set_gradients(params *p, double value)
{
    for (int i = 0; i < PARAMS; i++)
        for (size_t k = 0; p->item[i].grad && k < p->item[i].elements; k++)
            ((double *)p->item[i].grad)[k] = value * (double)(k + 1);
}

static void run_steps(params *p, const optim_rule *rule, const optim_hyper *h, const thaw_effect *e,
                      int n)
{
    for (int i = 0; i < n; i++) {
        set_gradients(p, 0.1 * (i + 1));
        optim_step(p, rule, h, e, 0.05, 1, 1, 1);
    }
}

/* FAILURES 66 and 67: momentum, moments and weight decay are all on; a frozen parameter's bytes
 * stay. */
static void frozen_bytes_stay(void **state)
{
    size_t n;
    const optim_rule *rule = optim_rules(&n);
    const optim_hyper h = {.momentum = 0.9,
                           .nesterov = true,
                           .beta1 = 0.9,
                           .beta2 = 0.99,
                           .eps = 1e-8,
                           .weight_decay = 0.1,
                           .decay_norms_and_biases = true};

    (void)state;
    for (size_t r = 0; r < n; r++) {
        hand_effect all, part;
        params *p = three_params();
        double before[16], other[4];
        optim_report report;

        CHECK_OK(optim_migrate(&report, p, &rule[r], &h,
                               make_effect(&all, "111", THAW_ON_FREEZE_KEEP), true));
        run_steps(p, &rule[r], &h, &all.effect, 3);
        memcpy(before, p->item[1].data, sizeof before);
        memcpy(other, p->item[2].data, sizeof other);
        const uint64_t version = p->item[1].version;

        CHECK_OK(optim_migrate(&report, p, &rule[r], &h,
                               make_effect(&part, "101", THAW_ON_FREEZE_KEEP), false));
        run_steps(p, &rule[r], &h, &part.effect, 5);
        CHECK_BYTES(p->item[1].data, before, sizeof before);
        CHECK(p->item[1].version == version);
        CHECK_INT(p->item[1].steps, 3);
        CHECK_INT(p->item[0].steps, 8);
        CHECK_MSG(memcmp(p->item[2].data, other, sizeof other) != 0, "%s moved nothing",
                  rule[r].name);
        params_destroy(p);
    }
}

static void keep_reset_and_rebuild(void **state)
{
    const optim_rule *adam = optim_rule_find("adam");
    const optim_hyper h = OPTIM_HYPER_INIT;
    hand_effect e;
    params *p = three_params();
    optim_report r;

    (void)state;
    CHECK_OK(optim_migrate(&r, p, adam, &h, make_effect(&e, "110", THAW_ON_FREEZE_KEEP), true));
    CHECK(r.rebuilt && r.made == 2 && r.kept == 0);
    CHECK_INT(params_state_bytes(p), 2 * 2 * 16 * 8);
    CHECK_INT(params_grad_bytes(p), 2 * 16 * 8);
    run_steps(p, adam, &h, &e.effect, 2);

    CHECK_OK(optim_migrate(&r, p, adam, &h, make_effect(&e, "011", THAW_ON_FREEZE_KEEP), false));
    CHECK(r.kept == 1 && r.made == 1 && r.parked == 1 && r.dropped == 0);
    CHECK(p->item[0].parked && p->item[0].n_state == 2);

    CHECK_OK(optim_migrate(&r, p, adam, &h, make_effect(&e, "111", THAW_ON_FREEZE_KEEP), false));
    CHECK(r.resumed == 1 && r.kept == 2);
    CHECK_INT(p->item[0].steps, 2);

    CHECK_OK(optim_migrate(&r, p, adam, &h, make_effect(&e, "001", THAW_ON_FREEZE_RESET), false));
    CHECK(r.dropped == 2 && r.kept == 1);
    CHECK_INT(params_state_bytes(p), 2 * 4 * 8);

    CHECK_OK(optim_migrate(&r, p, adam, &h, make_effect(&e, "111", THAW_ON_FREEZE_KEEP), true));
    CHECK(r.made == 3 && r.kept == 0);
    CHECK_INT(p->item[2].steps, 0);
    params_destroy(p);
}

/* A parameter that trains without being known to the optimizer has a gradient and stays where it
 * is. */
static void trainable_but_not_updated(void **state)
{
    const optim_rule *sgd = optim_rule_find("sgd");
    const optim_hyper h = OPTIM_HYPER_INIT;
    hand_effect e;
    params *p = three_params();
    double before[16];
    optim_report r;

    (void)state;
    memcpy(before, p->item[1].data, sizeof before);
    CHECK_OK(optim_migrate(&r, p, sgd, &h, make_effect(&e, "1h0", THAW_ON_FREEZE_KEEP), true));
    CHECK(p->item[1].grad != NULL);
    run_steps(p, sgd, &h, &e.effect, 2);
    CHECK_BYTES(p->item[1].data, before, sizeof before);
    params_destroy(p);
}

/* Adam's first steps of a layer thawed at step 10,000 are those of a layer that starts there. */
static void late_layers_start_like_early_ones(void **state)
{
    const optim_rule *adam = optim_rule_find("adam");
    const optim_hyper h = OPTIM_HYPER_INIT;
    hand_effect e;
    optim_report r;
    params *late = three_params(), *early = three_params();

    (void)state;
    CHECK_OK(optim_migrate(&r, late, adam, &h, make_effect(&e, "100", THAW_ON_FREEZE_KEEP), true));
    run_steps(late, adam, &h, &e.effect, 10000);
    CHECK_OK(optim_migrate(&r, late, adam, &h, make_effect(&e, "110", THAW_ON_FREEZE_KEEP), false));
    run_steps(late, adam, &h, &e.effect, 20);
    CHECK_OK(optim_migrate(&r, early, adam, &h, make_effect(&e, "010", THAW_ON_FREEZE_KEEP), true));
    run_steps(early, adam, &h, &e.effect, 20);
    CHECK_BYTES(late->item[1].data, early->item[1].data, 16 * sizeof(double));
    params_destroy(late);
    params_destroy(early);
}

static void coefficients_scale_and_zero_pauses(void **state)
{
    const optim_rule *sgd = optim_rule_find("sgd");
    const optim_hyper h = {.weight_decay = 0.5};
    hand_effect e;
    params *p = three_params();
    double before[16], bias[4];
    optim_report r;

    (void)state;
    make_effect(&e, "111", THAW_ON_FREEZE_KEEP);
    e.scale[0] = 0;
    e.scale[1] = 0.5;
    CHECK_OK(optim_migrate(&r, p, sgd, &h, &e.effect, true));
    memcpy(before, p->item[0].data, sizeof before);
    memcpy(bias, p->item[2].data, sizeof bias);
    const double w = ((double *)p->item[1].data)[0];
    set_gradients(p, 1);
    optim_step(p, sgd, &h, &e.effect, 0.1, 1, 1, 1);
    CHECK_BYTES(p->item[0].data, before, sizeof before);
    CHECK_NEAR(((double *)p->item[1].data)[0], w - 0.05 * (1 + 0.5 * w), 1e-14, 0);
    /* decay_norms_and_biases is off: a vector has no decay */
    CHECK_NEAR(((double *)p->item[2].data)[0], bias[0] - 0.1, 1e-14, 0);
    params_destroy(p);
}

static void norms_and_clipping(void **state)
{
    const optim_rule *sgd = optim_rule_find("sgd");
    const optim_hyper h = OPTIM_HYPER_INIT;
    hand_effect e;
    params *p = three_params();
    optim_report r;

    (void)state;
    CHECK_OK(optim_migrate(&r, p, sgd, &h, make_effect(&e, "001", THAW_ON_FREEZE_KEEP), true));
    set_gradients(p, 2);
    CHECK_NEAR(optim_grad_norm(p, 0.5, 1), sqrt(1 + 4 + 9 + 16), 1e-14, 0);
    ((double *)p->item[2].grad)[1] = NAN;
    CHECK(isnan(optim_grad_norm(p, 1, 1)));
    CHECK_NEAR(optim_clip_factor(4, 1), 1 / (4 + 1e-6), 1e-15, 0);
    CHECK(optim_clip_factor(0.5, 1) == 1 && optim_clip_factor(1e30, INFINITY) == 1);
    params_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frozen_bytes_stay),
        cmocka_unit_test(keep_reset_and_rebuild),
        cmocka_unit_test(trainable_but_not_updated),
        cmocka_unit_test(late_layers_start_like_early_ones),
        cmocka_unit_test(coefficients_scale_and_zero_pauses),
        cmocka_unit_test(norms_and_clipping),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
