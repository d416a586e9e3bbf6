/* test_tree.c - numbering of modules and parameters, second names, and what is refused. */
#include "trees.h"

static void parameters_are_numbered_in_pre_order(void **state)
{
    static const char *const names[] = {"b.x.w", "a.w", "root", "b.w", "a.y.w", "b.x.b"};
    static const char *const want[] = {"root", "b.w", "b.x.w", "b.x.b", "a.w", "a.y.w"};
    static const char *const modules[] = {"", "b", "b.x", "a", "a.y"};
    thaw_tree *t = tree_of(names, THAW_COUNT(names));

    (void)state;
    for (int i = 0; i < 6; i++)
        CHECK_STR(thaw_tree_param_name(t, i), want[i]);
    CHECK_INT(thaw_tree_n_modules(t), 5);
    for (int m = 0; m < 5; m++)
        CHECK_STR(thaw_tree_module_path(t, m), modules[m]);
    CHECK_INT(thaw_tree_module_parent(t, 0), -1);
    CHECK_INT(thaw_tree_module_parent(t, 2), 1);
    CHECK_INT(thaw_tree_param_module(t, 3), 2);
    CHECK_INT(thaw_tree_find_param(t, "a.w"), 4);
    CHECK_INT(thaw_tree_find_module(t, "a.y"), 4);
    CHECK_INT(thaw_tree_find_param(t, "nothing"), -1);
    CHECK(!thaw_tree_is_layer(t, 0));
    CHECK(thaw_tree_is_layer(t, 1));
    thaw_tree_destroy(t);
}

static void modules_without_parameters_are_no_layers(void **state)
{
    thaw_tree *t;
    int m;

    (void)state;
    CHECK_OK(thaw_tree_create(&t));
    CHECK_OK(thaw_tree_add_module(&m, t, "net.drop", THAW_MODULE_DROPOUT));
    CHECK_OK(thaw_tree_add_param(t, "net.fc.weight", 3, false));
    CHECK_OK(thaw_tree_add_module(NULL, t, "net.fc", THAW_MODULE_NORM));
    CHECK_OK(thaw_tree_seal(t));
    CHECK(!thaw_tree_is_layer(t, thaw_tree_find_module(t, "net.drop")));
    CHECK_INT(thaw_tree_module_kind(t, thaw_tree_find_module(t, "net.fc")), THAW_MODULE_NORM);
    CHECK_INT(thaw_tree_module_kind(t, thaw_tree_find_module(t, "net.drop")), THAW_MODULE_DROPOUT);
    thaw_tree_destroy(t);
}

/* The name that is met first in pre-order is the parameter's, whichever was given first. */
static void tied_parameters_have_one_number(void **state)
{
    thaw_tree *t;

    (void)state;
    CHECK_OK(thaw_tree_create(&t));
    CHECK_OK(thaw_tree_add_module(NULL, t, "embed", THAW_MODULE_PLAIN));
    CHECK_OK(thaw_tree_add_param(t, "out.weight", 6, false));
    CHECK_OK(thaw_tree_add_param(t, "out.bias", 2, false));
    CHECK_OK(thaw_tree_tie(t, "embed.weight", "out.weight"));
    CHECK_OK(thaw_tree_seal(t));
    CHECK_INT(thaw_tree_n_params(t), 2);
    CHECK_STR(thaw_tree_param_name(t, 0), "embed.weight");
    CHECK_INT(thaw_tree_find_param(t, "out.weight"), 0);
    CHECK_INT(thaw_tree_param_module(t, 0), thaw_tree_find_module(t, "embed"));
    CHECK_INT(thaw_tree_param_numel(t, 0), 6);
    CHECK(thaw_tree_is_layer(t, thaw_tree_find_module(t, "out")));
    thaw_tree_destroy(t);
}

static void reused_modules_are_listed_once(void **state)
{
    thaw_tree *t;

    (void)state;
    CHECK_OK(thaw_tree_create(&t));
    CHECK_OK(thaw_tree_add_param(t, "a.shared.fc.weight", 6, false));
    CHECK_OK(thaw_tree_tie(t, "b.shared", "a.shared"));
    CHECK_OK(thaw_tree_tie(t, "c.again", "b.shared"));
    CHECK_OK(thaw_tree_seal(t));
    CHECK_INT(thaw_tree_n_modules(t), 6); /* root, a, a.shared, a.shared.fc, b, c */
    CHECK_INT(thaw_tree_find_module(t, "b.shared"), thaw_tree_find_module(t, "a.shared"));
    CHECK_INT(thaw_tree_find_module(t, "c.again.fc"), thaw_tree_find_module(t, "a.shared.fc"));
    CHECK_INT(thaw_tree_find_param(t, "b.shared.fc.weight"), 0);
    CHECK_INT(thaw_tree_find_param(t, "c.again.fc.weight"), 0);
    CHECK_INT(thaw_tree_find_param(t, "c.again.fc.bias"), -1);
    CHECK(thaw_tree_is_layer(t, thaw_tree_find_module(t, "b")));
    thaw_tree_destroy(t);
}

static void bad_names_and_ties_are_refused(void **state)
{
    static const char *const bad[] = {"", ".", "a.", ".a", "a..b", "a.\xff", "\xc0\x80.w"};
    thaw_tree *t;

    (void)state;
    CHECK_OK(thaw_tree_create(&t));
    for (size_t i = 0; i < THAW_COUNT(bad); i++)
        CHECK_STATUS(thaw_tree_add_param(t, bad[i], 1, false), THAW_E_DATA);
    CHECK_OK(thaw_tree_add_param(t, "a.b.w", 1, false));
    CHECK_ERROR(thaw_tree_add_param(t, "a.b.w", 1, false), THAW_E_USAGE, "'a.b.w'");
    CHECK_ERROR(thaw_tree_add_param(t, "a.b.v", -1, false), THAW_E_RANGE, "'a.b.v'");
    CHECK_STATUS(thaw_tree_tie(t, "c.w", "no.such"), THAW_E_NOMATCH);
    CHECK_STATUS(thaw_tree_tie(t, "a.b.w", "a.b.w"), THAW_E_USAGE);
    CHECK_OK(thaw_tree_tie(t, "c", "a.b"));
    CHECK_ERROR(thaw_tree_add_param(t, "c.more", 1, false), THAW_E_USAGE, "second path");
    CHECK_OK(thaw_tree_seal(t));
    CHECK_ERROR(thaw_tree_add_param(t, "late.w", 1, false), THAW_E_USAGE, "sealed");
    thaw_tree_destroy(t);
}

static void a_module_cannot_contain_itself(void **state)
{
    thaw_tree *t;

    (void)state;
    CHECK_OK(thaw_tree_create(&t));
    CHECK_OK(thaw_tree_add_param(t, "a.b.w", 1, false));
    CHECK_OK(thaw_tree_tie(t, "a.b.c", "a"));
    CHECK_ERROR(thaw_tree_seal(t), THAW_E_USAGE, "contains itself");
    thaw_tree_destroy(t);
    CHECK_OK(thaw_tree_create(&t));
    CHECK_OK(thaw_tree_add_module(NULL, t, "early", THAW_MODULE_PLAIN));
    CHECK_OK(thaw_tree_add_param(t, "late.w", 1, false));
    CHECK_OK(thaw_tree_tie(t, "early.x", "late"));
    CHECK_ERROR(thaw_tree_seal(t), THAW_E_USAGE, "other way round");
    thaw_tree_destroy(t);
}

static void count(void *user, int begin, int end)
{
    for (int p = begin; p < end; p++)
        ((int *)user)[p]++;
}

/* Each second use doubles the paths; the walk must not. */
static void many_second_paths_are_walked_once(void **state)
{
    int seen[2] = {0, 0};
    thaw_tree *t;

    (void)state;
    CHECK_OK(thaw_tree_create(&t));
    CHECK_OK(thaw_tree_add_param(t, "m0.w", 1, false));
    for (int i = 1; i < 60; i++) {
        char twice[32], name[32];

        snprintf(name, sizeof(name), "m%d", i - 1);
        snprintf(twice, sizeof(twice), "m%d.a", i);
        CHECK_OK(thaw_tree_tie(t, twice, name));
        snprintf(twice, sizeof(twice), "m%d.b", i);
        CHECK_OK(thaw_tree_tie(t, twice, name));
    }
    CHECK_OK(thaw_tree_seal(t));
    CHECK_OK(thaw__tree_below(t, thaw_tree_find_module(t, "m59"), count, seen));
    CHECK_INT(seen[0], 1);
    thaw_tree_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_are_numbered_in_pre_order),
        cmocka_unit_test(modules_without_parameters_are_no_layers),
        cmocka_unit_test(tied_parameters_have_one_number),
        cmocka_unit_test(reused_modules_are_listed_once),
        cmocka_unit_test(bad_names_and_ties_are_refused),
        cmocka_unit_test(a_module_cannot_contain_itself),
        cmocka_unit_test(many_second_paths_are_walked_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
