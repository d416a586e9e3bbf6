/* test_blocks.c - blocks guessed from names. */
#include "trees.h"

static void check_blocks(const char *const *names, size_t n, const char *want)
{
    thaw_tree *t = tree_of(names, n);
    block_list b;
    text got = TEXT_INIT;

    CHECK_OK(thaw__blocks(&b, t));
    for (int i = 0; i < b.n_units; i++)
        text_addf(&got, "%s%s",
                  i == 0                         ? ""
                  : b.group[i] == b.group[i - 1] ? "+"
                                                 : " ",
                  thaw_tree_module_path(t, b.unit[i]));
    CHECK_STR(got.data ? got.data : "", want);
    text_done(&got);
    block_list_done(&b);
    thaw_tree_destroy(t);
}

#define CHECK_BLOCKS(names, want) check_blocks(names, THAW_COUNT(names), want)

static void networks_people_have(void **state)
{
    static const char *const resnet[] = {
        "conv1.w", "bn1.w", "layer1.0.c.w", "layer1.1.c.w", "layer2.0.c.w", "layer2.1.c.w", "fc.w"};
    static const char *const gpt[] = {"h.wte.w",      "h.wpe.w",  "h.blocks.0.w",
                                      "h.blocks.1.w", "h.ln_f.w", "lm_head.w"};
    static const char *const mlp[] = {"backbone.fc1.w", "backbone.fc2.w", "head.w"};
    static const char *const plain[] = {"encoder.w", "decoder.w"};
    static const char *const one[] = {"net.w"};

    (void)state;
    CHECK_BLOCKS(resnet, "conv1+bn1 layer1 layer2 fc");
    CHECK_BLOCKS(gpt, "h.wte+h.wpe h.blocks.0 h.blocks.1+h.ln_f lm_head");
    CHECK_BLOCKS(mlp, "backbone.fc1 backbone.fc2 head");
    CHECK_BLOCKS(plain, "encoder decoder");
    CHECK_BLOCKS(one, "net");
}

/* A head that only shares a parameter owns nothing to train alone: the block below is the head. */
static void a_tied_head(void **state)
{
    thaw_tree *t;
    block_list b;

    (void)state;
    CHECK_OK(thaw_tree_create(&t));
    CHECK_OK(thaw_tree_add_param(t, "wte.w", 1, false));
    CHECK_OK(thaw_tree_add_param(t, "h.0.w", 1, false));
    CHECK_OK(thaw_tree_add_param(t, "h.1.w", 1, false));
    CHECK_OK(thaw_tree_add_param(t, "ln_f.w", 1, false));
    CHECK_OK(thaw_tree_tie(t, "lm_head.w", "wte.w"));
    CHECK_OK(thaw_tree_seal(t));
    CHECK_OK(thaw__blocks(&b, t));
    CHECK_INT(b.n_groups, 4);
    CHECK_INT(b.group[3], 3);
    CHECK_INT(b.group[4], 3);
    block_list_done(&b);
    thaw_tree_destroy(t);
}

static void any_tree_has_blocks_in_order(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 300; seed++) {
        uint64_t draw = seed;
        thaw_tree *t = random_tree(&draw, true);
        block_list b;

        CHECK_OK(thaw__blocks(&b, t));
        for (int i = 1; i < b.n_units; i++) {
            CHECK(b.unit[i] >= t->module[b.unit[i - 1]].end);
            CHECK(b.group[i] == b.group[i - 1] || b.group[i] == b.group[i - 1] + 1);
        }
        if (b.n_units)
            CHECK_INT(b.group[b.n_units - 1], b.n_groups - 1);
        block_list_done(&b);
        thaw_tree_destroy(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_people_have),
        cmocka_unit_test(a_tied_head),
        cmocka_unit_test(any_tree_has_blocks_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
