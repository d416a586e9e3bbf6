/*
 * test_state.c - the fold of freeze, unfreeze and coefficients, and what must hold for any sequence
 * of them on any tree.
 */
#include "trees.h"

#define TREES 400

static selection pick(const thaw_tree *t, const char *const *patterns, int n)
{
    selection s;

    CHECK_OK(thaw__select(&s, t, patterns, n));
    return s;
}

static void freeze(phase_state *s, const char *const *patterns, int n)
{
    selection layers = pick(s->tree, patterns, n);

    CHECK_OK(phase_state_freeze(s, &layers));
    selection_done(&layers);
}

static void unfreeze(phase_state *s, const char *const *patterns, int n)
{
    selection layers = pick(s->tree, patterns, n);

    CHECK_OK(phase_state_unfreeze(s, &layers));
    selection_done(&layers);
}

static void check_rules(const phase_state *s, unsigned rule, const char *want)
{
    text t = TEXT_INIT;

    for (int m = 0; m < s->tree->n_modules; m++)
        if (s->rule[m] & rule)
            text_addf(&t, "%s ", s->tree->module[m].path);
    CHECK_STR(t.data ? t.data : "", want);
    text_done(&t);
}

static void an_ancestor_is_expanded(void **state)
{
    static const char *const names[] = {"net.gate",  "net.a.w",   "net.b.x.w",
                                        "net.b.own", "net.b.y.w", "head.w"};
    static const char *const net[] = {"net"}, *const x[] = {"net.b.x"};
    thaw_tree *t = tree_of(names, THAW_COUNT(names));
    phase_state s;

    (void)state;
    CHECK_OK(phase_state_init(&s, t));
    freeze(&s, net, 1);
    check_rules(&s, RULE_SUBTREE, "net ");
    unfreeze(&s, x, 1);
    check_rules(&s, RULE_SUBTREE, "net.a net.b.y ");
    check_rules(&s, RULE_OWN, "net net.b ");
    for (int p = 0; p < t->n_params; p++)
        CHECK_INT(s.trainable[p], p == thaw_tree_find_param(t, "net.b.x.w") ||
                                      p == thaw_tree_find_param(t, "head.w"));
    freeze(&s, net, 1);
    check_rules(&s, RULE_SUBTREE, "net ");
    check_rules(&s, RULE_OWN, "");
    phase_state_done(&s);
    thaw_tree_destroy(t);
}

static void a_tied_parameter_is_frozen_by_any_of_its_names(void **state)
{
    static const char *const out[] = {"out"}, *const embed[] = {"embed"};
    thaw_tree *t;
    phase_state s;

    (void)state;
    CHECK_OK(thaw_tree_create(&t));
    CHECK_OK(thaw_tree_add_param(t, "embed.weight", 1, false));
    CHECK_OK(thaw_tree_add_param(t, "out.bias", 1, false));
    CHECK_OK(thaw_tree_tie(t, "out.weight", "embed.weight"));
    CHECK_OK(thaw_tree_seal(t));
    CHECK_OK(phase_state_init(&s, t));
    freeze(&s, out, 1);
    CHECK(!s.trainable[0]);
    unfreeze(&s, embed, 1);
    CHECK(!s.trainable[0]); /* still covered through "out" */
    unfreeze(&s, out, 1);
    CHECK(s.trainable[0]);
    phase_state_done(&s);
    thaw_tree_destroy(t);
}

static void coefficients_are_inherited_from_the_nearest(void **state)
{
    static const char *const names[] = {"a.w", "a.b.w", "a.b.c.w", "d.w"};
    thaw_tree *t = tree_of(names, THAW_COUNT(names));
    const char *a = "a", *b = "a.b";
    schedule_change change = {.type = SCHEDULE_COEFFICIENT, .coefficient = 0.1};
    double scale[5];
    phase_state s;

    (void)state;
    CHECK_OK(phase_state_init(&s, t));
    change.layers = pick(t, &b, 1);
    change.coefficient = 0.5;
    CHECK_OK(phase_state_apply(&s, &change));
    selection_done(&change.layers);
    change.layers = pick(t, &a, 1);
    change.coefficient = 0.1;
    CHECK_OK(phase_state_apply(&s, &change));
    phase_state_coefficients(scale, &s);
    CHECK_NEAR(scale[thaw_tree_find_module(t, "a")], 0.1, 0, 0);
    CHECK_NEAR(scale[thaw_tree_find_module(t, "a.b.c")], 0.5, 0, 0);
    CHECK_NEAR(scale[thaw_tree_find_module(t, "d")], 1, 0, 0);
    selection_done(&change.layers);
    change = (schedule_change){.type = SCHEDULE_COEFFICIENT, .coefficient = 1.0};
    change.layers = pick(t, &b, 1);
    CHECK_OK(phase_state_apply(&s, &change)); /* 1 removes the entry: 0.1 is inherited */
    CHECK_NEAR(phase_state_coefficient_at(&s, thaw_tree_find_module(t, "a.b.c")), 0.1, 0, 0);
    change.type = SCHEDULE_PIN;
    CHECK_OK(phase_state_apply(&s, &change));
    CHECK_NEAR(phase_state_coefficient_at(&s, thaw_tree_find_module(t, "a.b.c")), 1, 0, 0);
    selection_done(&change.layers);
    phase_state_done(&s);
    thaw_tree_destroy(t);
}

/* ---- properties */

static void random_operations(phase_state *s, uint64_t *seed, int n)
{
    for (int i = 0; i < n; i++) {
        const char *pattern[3];
        const int k = random_layers(pattern, s->tree, seed);

        if (draw_below(seed, 2))
            freeze(s, pattern, k);
        else
            unfreeze(s, pattern, k);
    }
}

/* No rule at or below another; an own rule never below a subtree rule. */
static void check_minimal(const phase_state *s, uint64_t seed)
{
    const tree_module *module = s->tree->module;

    for (int m = 0; m < s->tree->n_modules; m++)
        for (int a = module[m].parent; a >= 0 && s->rule[m]; a = module[a].parent)
            CHECK_MSG(!(s->rule[a] & RULE_SUBTREE), "seed %llx: '%s' lies below '%s'",
                      (unsigned long long)seed, module[m].path, module[a].path);
}

static void rules_are_minimal_and_cover_what_is_frozen(void **state)
{
    (void)state;
    for (uint64_t tree = 0; tree < TREES; tree++) {
        uint64_t seed = tree;
        thaw_tree *t = random_tree(&seed, false);
        bool *covered = thaw__new((size_t)t->n_params, 1);
        phase_state s;

        CHECK_OK(phase_state_init(&s, t));
        random_operations(&s, &seed, 8);
        check_minimal(&s, tree);
        CHECK_OK(phase_state_covered(covered, &s));
        for (int p = 0; p < t->n_params; p++)
            CHECK_MSG(covered[p] == !s.trainable[p], "tree %llu: '%s' covered %d, trainable %d",
                      (unsigned long long)tree, t->param[p].name, covered[p], s.trainable[p]);
        phase_state_done(&s);
        thaw__free(covered);
        thaw_tree_destroy(t);
    }
}

/* With shared and fixed parameters: what is covered never trains. */
static void what_is_covered_never_trains(void **state)
{
    (void)state;
    for (uint64_t tree = 0; tree < TREES; tree++) {
        uint64_t seed = tree + 7000;
        thaw_tree *t = random_tree(&seed, true);
        bool *covered = thaw__new((size_t)t->n_params, 1);
        phase_state s;

        CHECK_OK(phase_state_init(&s, t));
        random_operations(&s, &seed, 8);
        CHECK_OK(phase_state_covered(covered, &s));
        for (int p = 0; p < t->n_params; p++)
            CHECK_MSG(!(s.trainable[p] && (covered[p] || t->param[p].fixed)),
                      "tree %llu: '%s' trains", (unsigned long long)tree, t->param[p].name);
        phase_state_done(&s);
        thaw__free(covered);
        thaw_tree_destroy(t);
    }
}

static void freezing_then_unfreezing_changes_nothing(void **state)
{
    (void)state;
    for (uint64_t tree = 0; tree < TREES; tree++) {
        uint64_t seed = tree + 20000;
        thaw_tree *t = random_tree(&seed, tree % 2);
        const char *pattern[3];
        phase_state s, before;
        int n;

        CHECK_OK(phase_state_init(&s, t));
        CHECK_OK(phase_state_init(&before, t));
        n = random_layers(pattern, t, &seed);
        freeze(&s, pattern, n);
        unfreeze(&s, pattern, n);
        CHECK_BYTES(s.trainable, before.trainable, (size_t)t->n_params);
        CHECK_BYTES(s.rule, before.rule, (size_t)t->n_modules);
        phase_state_done(&before);
        phase_state_done(&s);
        thaw_tree_destroy(t);
    }
}

static void both_are_idempotent(void **state)
{
    (void)state;
    for (uint64_t tree = 0; tree < TREES; tree++) {
        uint64_t seed = tree + 30000;
        thaw_tree *t = random_tree(&seed, tree % 2);
        const char *pattern[3];
        phase_state s, once;
        int n;

        CHECK_OK(phase_state_init(&s, t));
        CHECK_OK(phase_state_init(&once, t));
        random_operations(&s, &seed, 5);
        for (int way = 0; way < 2; way++) {
            n = random_layers(pattern, t, &seed);
            (way ? freeze : unfreeze)(&s, pattern, n);
            memcpy(once.trainable, s.trainable, (size_t)t->n_params * sizeof *s.trainable);
            memcpy(once.rule, s.rule, (size_t)t->n_modules * sizeof *s.rule);
            (way ? freeze : unfreeze)(&s, pattern, n);
            CHECK_BYTES(s.trainable, once.trainable, (size_t)t->n_params);
            CHECK_BYTES(s.rule, once.rule, (size_t)t->n_modules);
        }
        phase_state_done(&once);
        phase_state_done(&s);
        thaw_tree_destroy(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_ancestor_is_expanded),
        cmocka_unit_test(a_tied_parameter_is_frozen_by_any_of_its_names),
        cmocka_unit_test(coefficients_are_inherited_from_the_nearest),
        cmocka_unit_test(rules_are_minimal_and_cover_what_is_frozen),
        cmocka_unit_test(what_is_covered_never_trains),
        cmocka_unit_test(freezing_then_unfreezing_changes_nothing),
        cmocka_unit_test(both_are_idempotent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
