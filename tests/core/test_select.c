/* test_select.c - from patterns to layers. */
#include "trees.h"

static void check_selected(const thaw_tree *t, const char *const *patterns, int n,
                           const char *const *want, int n_want)
{
    selection s;

    CHECK_OK(thaw__select(&s, t, patterns, n));
    CHECK_INT(s.n, n_want);
    for (int i = 0; i < n_want; i++)
        CHECK_STR(thaw_tree_module_path(t, s.module[i]), want[i]);
    selection_done(&s);
}

static void layers_come_in_order_and_once(void **state)
{
    static const char *const patterns[] = {"head", "backbone\\.layer1", ".*layer1", "head"};
    static const char *const want[] = {"backbone.layer1", "head"};
    thaw_tree *t = small_tree();

    (void)state;
    check_selected(t, patterns, 4, want, 2);
    check_selected(t, NULL, 0, NULL, 0);
    thaw_tree_destroy(t);
}

static void an_exact_name_selects_itself(void **state)
{
    static const char *const names[] = {"bank.a+b.w", "bank.aab.w", "bank.proj[0].w", "bank.w(.w"};
    static const char *const plus[] = {"bank.a+b"}, *const index[] = {"bank.proj[0]"},
                             *const open[] = {"bank.w("};
    static const char *const both[] = {"bank.a+b", "bank.aab"};
    thaw_tree *t = tree_of(names, THAW_COUNT(names));

    (void)state;
    check_selected(t, plus, 1, both, 2);
    check_selected(t, index, 1, index, 1);
    check_selected(t, open, 1, open, 1);
    thaw_tree_destroy(t);
}

static void a_pattern_without_a_layer_is_an_error(void **state)
{
    static const char *const typo[] = {"head", "backbone.layr1"}, *const root[] = {""},
                             *const bad[] = {"a("};
    thaw_tree *t = small_tree();
    selection s = {NULL, 77};

    (void)state;
    CHECK_ERROR(thaw__select(&s, t, typo, 2), THAW_E_NOMATCH, "'backbone.layer1'");
    CHECK_INT(s.n, 77);
    CHECK_STATUS(thaw__select(&s, t, root, 1), THAW_E_NOMATCH);
    CHECK_STATUS(thaw__select(&s, t, bad, 1), THAW_E_PATTERN);
    thaw_tree_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_come_in_order_and_once),
        cmocka_unit_test(an_exact_name_selects_itself),
        cmocka_unit_test(a_pattern_without_a_layer_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
