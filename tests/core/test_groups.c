/* test_groups.c - one group for each module that owns trainable parameters. */
#include "trees.h"

static void groups_follow_layer_order(void **state)
{
    static const char *const names[] = {"scale", "net.gate", "net.fc.w", "net.fc.b", "out.w"};
    static const char *const want[] = {"", "net", "net.fc", "out"};
    thaw_tree *t = tree_of(names, THAW_COUNT(names));
    const thaw_rates rates = THAW_RATES_INIT;
    thaw_policy *p;

    (void)state;
    CHECK_OK(thaw_policy_create(&p, t));
    CHECK_INT(thaw_policy_n_groups(p), 0);
    CHECK_OK(thaw_policy_build(p, &rates));
    CHECK_INT(thaw_policy_n_groups(p), 4);
    for (int i = 0; i < 4; i++)
        CHECK_STR(thaw_policy_group(p, i).layer, want[i]);
    CHECK_INT(thaw_policy_group(p, 2).n_params, 2);
    CHECK_NEAR(thaw_policy_group(p, 0).lr, 1e-3, 0, 0);
    thaw_policy_discard_groups(p);
    CHECK(!thaw_policy_has_groups(p));
    thaw_policy_destroy(p);
    thaw_tree_destroy(t);
}

static void nothing_trainable_gives_no_groups(void **state)
{
    const char *all = ".*";
    thaw_tree *t = small_tree();
    const thaw_rates rates = THAW_RATES_INIT;
    thaw_policy *p;

    (void)state;
    CHECK_OK(thaw_policy_create(&p, t));
    CHECK_OK(thaw_policy_freeze(p, &all, 1));
    CHECK_OK(thaw_policy_build(p, &rates));
    CHECK(thaw_policy_has_groups(p));
    CHECK_INT(thaw_policy_n_groups(p), 0);
    thaw_policy_destroy(p);
    thaw_tree_destroy(t);
}

static void a_tied_parameter_is_in_one_group(void **state)
{
    const thaw_rates rates = THAW_RATES_INIT;
    thaw_tree *t;
    thaw_policy *p;

    (void)state;
    CHECK_OK(thaw_tree_create(&t));
    CHECK_OK(thaw_tree_add_param(t, "embed.weight", 1, false));
    CHECK_OK(thaw_tree_add_param(t, "out.bias", 1, false));
    CHECK_OK(thaw_tree_tie(t, "out.weight", "embed.weight"));
    CHECK_OK(thaw_tree_seal(t));
    CHECK_OK(thaw_policy_create(&p, t));
    CHECK_OK(thaw_policy_build(p, &rates));
    CHECK_INT(thaw_policy_n_groups(p), 2);
    CHECK_INT(thaw_policy_group(p, 0).n_params, 1);
    CHECK_INT(thaw_policy_group(p, 1).n_params, 1);
    thaw_policy_destroy(p);
    thaw_tree_destroy(t);
}

static void the_rate_falls_in_steps(void **state)
{
    const char *head = "head";
    thaw_tree *t = small_tree();
    thaw_policy *p;
    double lr = 0.5;

    (void)state;
    CHECK_OK(thaw_policy_create(&p, t));
    CHECK_OK(thaw_policy_coefficient(p, 0.25, &head, 1, THAW_REBUILD_REFUSE));
    CHECK_OK(thaw_policy_build(p, &(thaw_rates){0.5, 3, 0.1}));
    for (int epoch = 0; epoch < 20; epoch++) {
        CHECK_NEAR(thaw_policy_group(p, 0).lr, lr, 1e-12, 0);
        CHECK_NEAR(thaw_policy_group(p, thaw_policy_n_groups(p) - 1).lr, lr / 4, 1e-12, 0);
        thaw_policy_epoch_end(p);
        lr *= epoch % 3 == 2 ? 0.1 : 1;
    }
    thaw_policy_destroy(p);
    thaw_tree_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_follow_layer_order),
        cmocka_unit_test(nothing_trainable_gives_no_groups),
        cmocka_unit_test(a_tied_parameter_is_in_one_group),
        cmocka_unit_test(the_rate_falls_in_steps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
