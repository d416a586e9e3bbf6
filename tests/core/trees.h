/*
 * trees.h - module trees for the tests of core: fixed small ones, and random ones with tied
 * parameters, reused modules, own parameters of containers and fixed parameters.
 */
#ifndef THAW_TESTS_TREES_H
#define THAW_TESTS_TREES_H

#include "core/core.h"

#include "check.h"

/* A sealed tree of n parameters of one element each. */
static inline thaw_tree *tree_of(const char *const *names, size_t n)
{
    thaw_tree *t;

    CHECK_OK(thaw_tree_create(&t));
    for (size_t i = 0; i < n; i++)
        CHECK_OK(thaw_tree_add_param(t, names[i], 1, false));
    CHECK_OK(thaw_tree_seal(t));
    return t;
}

/* A small residual network: stem, two stages of two blocks, head. */
static const char *const small_names[] __attribute__((unused)) = {"backbone.conv1.weight",
                                                                  "backbone.bn1.weight",
                                                                  "backbone.bn1.bias",
                                                                  "backbone.layer1.0.conv1.weight",
                                                                  "backbone.layer1.0.bn1.weight",
                                                                  "backbone.layer1.1.conv1.weight",
                                                                  "backbone.layer10.0.conv1.weight",
                                                                  "backbone.layer10.1.conv1.weight",
                                                                  "head.weight",
                                                                  "head.bias"};

static inline thaw_tree *small_tree(void)
{
    return tree_of(small_names, THAW_COUNT(small_names));
}

/* Next number below n. */
static inline int draw_below(uint64_t *seed, int n)
{
    return (int)(splitmix64(seed) % (uint64_t)n);
}

static inline void random_path(char *path, size_t size, uint64_t *seed)
{
    static const char *const part[] = {"a", "b", "conv", "0", "1", "10", "mlp", "x_y"};
    const int depth = 1 + draw_below(seed, 4);

    path[0] = '\0';
    for (int d = 0; d < depth; d++) {
        const size_t n = strlen(path);

        snprintf(path + n, size - n, "%s%s", d ? "." : "", part[draw_below(seed, 8)]);
    }
}

/* Ties that the tree refuses are left out; a tree may need to be drawn again. */
static inline void random_ties(thaw_tree *t, uint64_t *seed, bool reuse)
{
    for (int i = 0; i < 4; i++) {
        char path[128], name[160];

        random_path(path, sizeof(path), seed);
        snprintf(name, sizeof(name), "%s.tied%d", path, i);
        if (thaw_tree_n_params(t) == 0)
            return;
        if (reuse && i == 3) {
            const int m = draw_below(seed, thaw_tree_n_modules(t));

            snprintf(name, sizeof(name), "zz%d.again", i);
            (void)!thaw_tree_tie(t, name, thaw_tree_module_path(t, m));
        } else if (draw_below(seed, 2)) {
            (void)!thaw_tree_tie(t, name,
                                 thaw_tree_param_name(t, draw_below(seed, thaw_tree_n_params(t))));
        }
    }
}

static inline thaw_tree *random_tree(uint64_t *seed, bool ties)
{
    const int n = 1 + draw_below(seed, 24);
    thaw_tree *t;

    CHECK_OK(thaw_tree_create(&t));
    for (int i = 0; i < n; i++) {
        char path[128], name[160];

        random_path(path, sizeof(path), seed);
        snprintf(name, sizeof(name), "%s.w%d", path, i);
        if (draw_below(seed, 20) == 0)
            snprintf(name, sizeof(name), "root%d", i);
        if (thaw_tree_add_param(t, name, draw_below(seed, 9), ties && draw_below(seed, 15) == 0))
            continue;
    }
    if (ties)
        random_ties(t, seed, draw_below(seed, 2));
    CHECK_OK(thaw_tree_seal(t));
    return t;
}

/* One to three random layers as exact names; 0 where the tree has no layer. */
static inline int random_layers(const char *pattern[3], const thaw_tree *t, uint64_t *seed)
{
    const int want = 1 + draw_below(seed, 3);
    int n = 0;

    for (int tries = 0; n < want && tries < 100; tries++) {
        const int m = draw_below(seed, thaw_tree_n_modules(t));

        if (thaw_tree_is_layer(t, m))
            pattern[n++] = thaw_tree_module_path(t, m);
    }
    return n;
}

#endif
