/* test_policy.c - freezing and coefficients on a live model; the bulk is in tests/golden. */
#include "trees.h"

static const thaw_rates rates = {0.1, 2, 0.5};

static const thaw_group *group_of(thaw_group *out, const thaw_policy *p, const char *layer)
{
    for (int i = 0; i < thaw_policy_n_groups(p); i++) {
        *out = thaw_policy_group(p, i);
        if (!strcmp(out->layer, layer))
            return out;
    }
    return NULL;
}

static void unfreezing_needs_a_group(void **state)
{
    const char *body = "backbone";
    thaw_tree *t = small_tree();
    thaw_policy *p;
    thaw_group g;

    (void)state;
    CHECK_OK(thaw_policy_create(&p, t));
    CHECK_OK(thaw_policy_freeze(p, &body, 1));
    CHECK_OK(thaw_policy_build(p, &rates));
    CHECK_INT(thaw_policy_n_groups(p), 1);
    /* the container owns nothing itself; what lies below it counts (C1) */
    CHECK_ERROR(thaw_policy_unfreeze(p, &body, 1, THAW_REBUILD_REFUSE), THAW_E_REBUILD,
                "'backbone.conv1.weight'");
    CHECK(thaw_policy_trainable(p, 0));
    CHECK_INT(thaw_policy_n_groups(p), 1);
    CHECK_OK(thaw_policy_unfreeze(p, &body, 1, THAW_REBUILD_IF_NEEDED));
    CHECK_INT(thaw_policy_n_groups(p), 8);
    CHECK(group_of(&g, p, "backbone.bn1"));
    CHECK_INT(g.n_params, 2);
    thaw_policy_destroy(p);
    thaw_tree_destroy(t);
}

static void freezing_leaves_groups_alone(void **state)
{
    const char *head = "head";
    thaw_tree *t = small_tree();
    thaw_policy *p;
    thaw_group g;

    (void)state;
    CHECK_OK(thaw_policy_create(&p, t));
    CHECK_OK(thaw_policy_build(p, &rates));
    CHECK_OK(thaw_policy_freeze(p, &head, 1));
    CHECK(group_of(&g, p, "head"));
    CHECK_OK(thaw_policy_unfreeze(p, &head, 1, THAW_REBUILD_REFUSE));
    CHECK(thaw_policy_trainable(p, 8));
    thaw_policy_destroy(p);
    thaw_tree_destroy(t);
}

static void zero_cannot_be_scaled(void **state)
{
    const char *head = "head";
    thaw_tree *t = small_tree();
    thaw_policy *p;
    thaw_group g;

    (void)state;
    CHECK_OK(thaw_policy_create(&p, t));
    CHECK_OK(thaw_policy_coefficient(p, 0, &head, 1, THAW_REBUILD_REFUSE));
    CHECK_OK(thaw_policy_build(p, &rates));
    CHECK_NEAR(group_of(&g, p, "head")->lr, 0, 0, 0);
    CHECK_OK(thaw_policy_coefficient(p, 0, &head, 1, THAW_REBUILD_REFUSE));
    CHECK_STATUS(thaw_policy_coefficient(p, 0.5, &head, 1, THAW_REBUILD_REFUSE), THAW_E_REBUILD);
    CHECK_NEAR(group_of(&g, p, "head")->lr, 0, 0, 0);
    CHECK_NEAR(thaw_policy_layer(p, thaw_tree_find_module(t, "head")).coefficient, 0.5, 0, 0);
    CHECK_OK(thaw_policy_coefficient(p, 0.5, &head, 1, THAW_REBUILD_IF_NEEDED));
    CHECK_NEAR(group_of(&g, p, "head")->lr, 0.05, 1e-15, 0);
    thaw_policy_destroy(p);
    thaw_tree_destroy(t);
}

static void bad_arguments(void **state)
{
    const char *head = "head", *typo = "haed";
    thaw_tree *t = small_tree(), *open;
    thaw_policy *p;

    (void)state;
    CHECK_OK(thaw_tree_create(&open));
    CHECK_STATUS(thaw_policy_create(&p, open), THAW_E_USAGE);
    thaw_tree_destroy(open);
    CHECK_OK(thaw_policy_create(&p, t));
    CHECK_STATUS(thaw_policy_coefficient(p, NAN, &head, 1, THAW_REBUILD_REFUSE), THAW_E_RANGE);
    CHECK_STATUS(thaw_policy_coefficient(p, -1, &head, 1, THAW_REBUILD_REFUSE), THAW_E_RANGE);
    CHECK_STATUS(thaw_policy_freeze(p, &typo, 1), THAW_E_NOMATCH);
    CHECK_STATUS(thaw_policy_start_untrained(p, "no.such"), THAW_E_NOMATCH);
    CHECK_STATUS(thaw_policy_build(p, &(thaw_rates){0.1, 0, 0.5}), THAW_E_RANGE);
    CHECK_STATUS(thaw_policy_build(p, &(thaw_rates){NAN, 1, 0.5}), THAW_E_RANGE);
    CHECK(!thaw_policy_has_groups(p));
    thaw_policy_destroy(p);
    thaw_policy_destroy(NULL);
    thaw_tree_destroy(t);
}

/* Changing a coefficient and ending an epoch give the same rates in either order, for any sequence:
 * decays neither get lost nor accumulate rounding. */
static void coefficients_commute_with_the_curve(void **state)
{
    thaw_tree *t = small_tree();

    (void)state;
    for (uint64_t seed = 1; seed < 200; seed++) {
        uint64_t draw = seed;
        thaw_policy *a, *b;
        const char *layer[3];
        const int n = random_layers(layer, t, &draw);
        const double c = (1 + draw_below(&draw, 9)) / 8.0;

        CHECK_OK(thaw_policy_create(&a, t));
        CHECK_OK(thaw_policy_create(&b, t));
        CHECK_OK(thaw_policy_build(a, &rates));
        CHECK_OK(thaw_policy_build(b, &rates));
        for (int i = 0; i < 30; i++)
            thaw_policy_epoch_end(a);
        CHECK_OK(thaw_policy_coefficient(a, c, layer, n, THAW_REBUILD_REFUSE));
        for (int i = 0; i < 30; i++) {
            if (i == (int)(seed % 30))
                CHECK_OK(thaw_policy_coefficient(b, c, layer, n, THAW_REBUILD_REFUSE));
            thaw_policy_epoch_end(b);
        }
        for (int g = 0; g < thaw_policy_n_groups(a); g++) {
            const double x = thaw_policy_group(a, g).lr, y = thaw_policy_group(b, g).lr;

            CHECK_BYTES(&x, &y, sizeof(x));
        }
        thaw_policy_destroy(b);
        thaw_policy_destroy(a);
    }
    thaw_tree_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unfreezing_needs_a_group),
        cmocka_unit_test(freezing_leaves_groups_alone),
        cmocka_unit_test(zero_cannot_be_scaled),
        cmocka_unit_test(bad_arguments),
        cmocka_unit_test(coefficients_commute_with_the_curve),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
