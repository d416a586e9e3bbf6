/*
 * test_recompute.c - cheap results made again backward: what is repeated, that it lowers the peak,
 * and that a plan that repeats something else is not believed.
 */
#include "plan/plans.h"

/* Three blocks of convolutions and norms with shortcuts. */
static value_id make_blocks(net *n)
{
    static const int64_t width[] = {32, 32}, kernel[] = {3, 3};
    value_id x = net_image(n, 16, 3);

    x = net_norm(n, "bn0", net_conv(n, "conv0", x, 16, 3, 1));
    x = net_map(n, OP_RELU, "relu0", x);
    x = net_block(n, "first", x, 2, width, kernel, 1);
    x = net_block(n, "second", x, 2, width, kernel, 1);
    x = net_block(n, "third", x, 2, width, kernel, 2);
    return net_head(n, x, 5);
}

static void begin(setup *s, bool fuse, plan_recompute how)
{
    net n = net_create(DTYPE_F32);
    const value_id output = make_blocks(&n);

    setup_init(s, n, output);
    s->request.fold = s->request.fuse = fuse;
    s->request.recompute = how;
}

static plan *compile(bool fuse, plan_recompute how)
{
    setup s;
    plan *p;

    begin(&s, fuse, how);
    p = setup_compile(&s);
    setup_done(&s);
    return p;
}

static void test_memory_is_saved(void **state)
{
    plan *kept = compile(true, PLAN_RECOMPUTE_NEVER);
    plan *again = compile(true, PLAN_RECOMPUTE_ALWAYS);

    (void)state;
    CHECK_INT(plan_count_again(kept), 0);
    CHECK(plan_count_again(again) > 2);
    CHECK_INT(again->n_step, kept->n_step + plan_count_again(again));
    CHECK_INT(again->n_forward, kept->n_forward);
    CHECK_MSG((double)again->arena_bytes < 0.85 * (double)kept->arena_bytes,
              "%zu bytes instead of %zu", again->arena_bytes, kept->arena_bytes);
    CHECK(again->digest != kept->digest);
    plan_destroy(again);
    plan_destroy(kept);
}

/* Each repeats a forward step, once, before the first that reads it; and somebody does. */
static void test_each_is_made_once(void **state)
{
    plan *p = compile(true, PLAN_RECOMPUTE_ALWAYS);
    int last[256];

    (void)state;
    memset(last, -1, sizeof last);
    CHECK(p->n_step < (int)THAW_COUNT(last));
    for (int s = 0; s < p->n_step; s++) {
        const plan_step *step = &p->step[s];

        if (step->again < 0)
            continue;
        CHECK(step->again < p->n_forward && s >= p->n_forward);
        CHECK_INT(last[step->again], -1);
        last[step->again] = s;
        CHECK_STR(step->name, p->step[step->again].name);
        CHECK(p->slot[step->out[0]].first == s && p->slot[step->out[0]].last > s);
    }
    plan_destroy(p);
}

/* Forward only, nobody trains, or nothing but the head: there is nothing to save. */
static void test_nothing_to_save(void **state)
{
    setup s;
    plan *p;

    (void)state;
    begin(&s, true, PLAN_RECOMPUTE_ALWAYS);
    setup_freeze_before(&s, s.n.n_params - 2);
    p = setup_compile(&s);
    CHECK_INT(plan_count_again(p), 0);
    plan_destroy(p);
    s.request.training = false;
    p = setup_compile(&s);
    CHECK_INT(plan_count_again(p), 0);
    plan_destroy(p);
    setup_done(&s);
}

/* Beside narrow convolutions a pass over memory is much, beside wide ones little. */
static void test_auto_weighs(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id output = net_small_resnet(&n);
    setup s;
    plan *p;

    (void)state;
    setup_init(&s, n, output);
    s.request.fold = s.request.fuse = true;
    s.request.recompute = PLAN_RECOMPUTE_ALWAYS;
    p = setup_compile(&s);
    CHECK(plan_count_again(p) > 0);
    plan_destroy(p);
    s.request.recompute = PLAN_RECOMPUTE_AUTO;
    p = setup_compile(&s);
    CHECK_INT(plan_count_again(p), 0);
    plan_destroy(p);
    setup_done(&s);
    p = compile(true, PLAN_RECOMPUTE_AUTO);
    CHECK(plan_count_again(p) > 0);
    plan_destroy(p);
}

static void test_dump_says_so(void **state)
{
    plan *p = compile(true, PLAN_RECOMPUTE_ALWAYS);
    text words = TEXT_INIT, json = TEXT_INIT;

    (void)state;
    plan_dump(&words, p, NULL);
    CHECK_CONTAINS(words.data, "again batch_norm_again+relu");
    plan_dump_json(&json, p, NULL);
    CHECK_CONTAINS(json.data, "\"again\":");
    text_done(&json);
    text_done(&words);
    plan_destroy(p);
}

static int first_again(const plan *p)
{
    for (int s = 0; s < p->n_step; s++)
        if (p->step[s].again >= 0)
            return s;
    return -1;
}

/* A step that repeats another, or itself, or with other inputs. */
static void test_verify_looks(void **state)
{
    setup s;
    plan *p;
    plan_step kept, *step;
    int *in;

    (void)state;
    begin(&s, true, PLAN_RECOMPUTE_ALWAYS);
    p = setup_compile(&s);
    CHECK(first_again(p) >= 0);
    step = &p->step[first_again(p)];
    kept = *step;
    step->again = 0;
    CHECK_ERROR(plan_verify(p, &s.effect), THAW_E_INTERNAL, "it repeats another op");
    step->again = (int)(step - p->step);
    CHECK_ERROR(plan_verify(p, &s.effect), THAW_E_INTERNAL, "it repeats no forward step");
    *step = kept;
    step->attrs.norm.eps *= 2;
    CHECK_ERROR(plan_verify(p, &s.effect), THAW_E_INTERNAL, "it repeats another op");
    *step = kept;
    in = (int *)(uintptr_t)step->in;
    in[1] = step->in[2];
    CHECK_ERROR(plan_verify(p, &s.effect), THAW_E_INTERNAL, "with other inputs");
    plan_destroy(p);
    setup_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_saved), cmocka_unit_test(test_each_is_made_once),
        cmocka_unit_test(test_nothing_to_save), cmocka_unit_test(test_auto_weighs),
        cmocka_unit_test(test_dump_says_so),    cmocka_unit_test(test_verify_looks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
