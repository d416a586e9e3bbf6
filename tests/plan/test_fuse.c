/*
 * test_fuse.c - which ops become posts of the step before them: norms at rest, sums, activations;
 * and what must not, because somebody learns, looks on, or would be deceived.
 */
#include "check.h"

#include "plan/plans.h"

static void setup_resnet(setup *s)
{
    net n = net_create(DTYPE_F32);
    const value_id output = net_small_resnet(&n);

    setup_init(s, n, output);
    s->request.fold = s->request.fuse = true;
}

/* "conv2d+batch_norm_infer+relu", of the step with this layer and op. */
static const char *posts_of(const plan *p, const char *layer, op_kind op, uint32_t wrt)
{
    static char line[128];
    const plan_step *const step = need_step(p, layer, op, wrt);
    size_t n = (size_t)snprintf(line, sizeof line, "%s", op_table[op].name);

    for (int k = 0; k < step->n_post; k++)
        n += (size_t)snprintf(line + n, sizeof line - n, "+%s", op_table[step->post[k].op].name);
    return line;
}

static const char *forward_of(const plan *p, const char *layer, op_kind op)
{
    return posts_of(p, layer, op, 0);
}

static void evaluation_folds_everything(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_resnet(&s);
    s.request.training = false;
    p = setup_compile(&s);
    CHECK_STR(forward_of(p, "conv1", OP_CONV2D), "conv2d+batch_norm_infer+relu");
    CHECK_STR(forward_of(p, "layer1.conv1", OP_CONV2D), "conv2d+batch_norm_infer+relu");
    CHECK_STR(forward_of(p, "layer1.conv2", OP_CONV2D), "conv2d+batch_norm_infer+add+relu");
    /* The shortcut comes last, so it is the one that adds. */
    CHECK_STR(forward_of(p, "layer2.conv2", OP_CONV2D), "conv2d+batch_norm_infer");
    CHECK_STR(forward_of(p, "layer2.downsample.0", OP_CONV2D), "conv2d+batch_norm_infer+add+relu");
    CHECK_INT(plan_count_posts(p, OP_BATCH_NORM_INFER), 6);
    CHECK_INT(plan_count_posts(p, OP_ADD), 2);
    CHECK_INT(plan_count_posts(p, OP_RELU), 5);
    plan_destroy(p);
    setup_done(&s);
}

static void each_kind_can_be_switched_off(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_resnet(&s);
    s.request.training = s.request.fold = false;
    p = setup_compile(&s);
    CHECK_STR(forward_of(p, "conv1", OP_CONV2D), "conv2d");
    CHECK_STR(forward_of(p, "bn1", OP_BATCH_NORM_INFER), "batch_norm_infer+relu");
    plan_destroy(p);
    s.request.fold = true;
    s.request.fuse = false;
    p = setup_compile(&s);
    CHECK_STR(forward_of(p, "layer1.conv2", OP_CONV2D), "conv2d+batch_norm_infer");
    CHECK_STR(forward_of(p, "layer1", OP_ADD), "add");
    plan_destroy(p);
    setup_done(&s);
}

/* All train: norms take what follows them, forward; backward the activation right behind one. */
static void training_fuses_around_norms(void **state)
{
    const uint32_t all = OP_IN(0) | OP_IN(1) | OP_IN(2);
    setup s;
    plan *p;

    (void)state;
    setup_resnet(&s);
    p = setup_compile(&s);
    CHECK_STR(forward_of(p, "conv1", OP_CONV2D), "conv2d");
    CHECK_STR(forward_of(p, "bn1", OP_BATCH_NORM_TRAIN), "batch_norm_train+relu");
    CHECK_STR(forward_of(p, "layer1.bn2", OP_BATCH_NORM_TRAIN), "batch_norm_train+add+relu");
    CHECK_STR(posts_of(p, "bn1", OP_BATCH_NORM_TRAIN, all), "batch_norm_train+relu");
    /* The sum's other operand wants that gradient, too. */
    CHECK_STR(posts_of(p, "layer1.bn2", OP_BATCH_NORM_TRAIN, all), "batch_norm_train");
    CHECK_STR(posts_of(p, "layer1", OP_RELU, OP_IN(0)), "relu");
    CHECK_INT(need_step(p, "layer1", OP_RELU, OP_IN(0))->part, 2);
    plan_destroy(p);
    setup_done(&s);
}

/* The head alone trains: the same steps as in evaluation. The last block, too: up to there. */
static void a_frozen_part_is_cut_the_same_way(void **state)
{
    setup s;
    plan *evaluation, *head, *block;
    int n_same = 0;

    (void)state;
    setup_resnet(&s);
    s.request.training = false;
    evaluation = setup_compile(&s);
    s.request.training = true;
    setup_freeze_before(&s, s.n.n_params - 2);
    head = setup_compile(&s);
    for (int i = s.n.n_params - 11; i < s.n.n_params; i++)
        s.trainable[i] = true;
    block = setup_compile(&s);
    for (int i = 0; i < head->n_forward; i++) {
        const plan_step *x = &head->step[i], *y = &evaluation->step[i], *z = &block->step[i];

        CHECK_INT(x->op, y->op);
        CHECK_INT(x->n_post, y->n_post);
        for (int k = 0; k < x->n_post; k++)
            CHECK_INT(x->post[k].op, y->post[k].op);
        n_same += n_same == i && i < block->n_forward && x->op == z->op && x->n_post == z->n_post;
    }
    CHECK(n_same >= 4);
    plan_destroy(block);
    plan_destroy(head);
    plan_destroy(evaluation);
    setup_done(&s);
}

/* conv2 and its norm are frozen between layers that learn. */
static void a_frozen_middle_loses_its_norms_gradient(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_resnet(&s);
    memset(s.mode, 0, sizeof s.mode);
    for (int i = 3; i < s.n.n_params; i++)
        s.trainable[i] = false;
    p = setup_compile(&s);
    CHECK_STR(forward_of(p, "layer1.conv1", OP_CONV2D), "conv2d+batch_norm_infer");
    CHECK_STR(posts_of(p, "layer1.conv1", OP_CONV2D, OP_IN(0)), "conv2d+batch_norm_infer");
    CHECK_INT(find_step(p, "layer1.bn1", OP_BATCH_NORM_INFER, OP_IN(0)), -1);
    /* The kernel's activation would hide what is not a number from the loss. */
    CHECK_STR(forward_of(p, "layer1", OP_RELU), "relu");
    CHECK_STR(forward_of(p, "layer1.conv2", OP_CONV2D), "conv2d+batch_norm_infer+add");
    /* bn1 learns: it is not folded. */
    CHECK_STR(forward_of(p, "conv1", OP_CONV2D), "conv2d");
    plan_destroy(p);
    setup_done(&s);
}

static void who_learns_is_not_folded(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_resnet(&s);
    memset(s.mode, 0, sizeof s.mode);
    for (int only = 0; only < 3; only++) {
        for (int i = 0; i < s.n.n_params; i++)
            s.trainable[i] = i == only;
        p = setup_compile(&s);
        CHECK_STR(forward_of(p, "conv1", OP_CONV2D), "conv2d");
        CHECK_STR(forward_of(p, "bn1", OP_BATCH_NORM_INFER), "batch_norm_infer+relu");
        plan_destroy(p);
    }
    setup_done(&s);
}

/* The sum's operand may be read by a later layer: it stays, and the output is another place. */
static void an_output_lies_over_the_addend(void **state)
{
    setup s;
    plan *p;
    int n = 0;

    (void)state;
    setup_resnet(&s);
    s.request.training = false;
    p = setup_compile(&s);
    for (int i = 0; i < p->n_step; i++) {
        const plan_step *const step = &p->step[i];
        const int in = thaw__plan_shared_input(p, i, 0);

        if (step->op != OP_CONV2D || in < 0)
            continue;
        CHECK(in >= step->n_in);
        n++;
    }
    CHECK_INT(n, 2);
    plan_destroy(p);
    setup_done(&s);
}

/* What is a result, or has two readers, keeps its step. */
static void what_is_seen_stays(void **state)
{
    net n = net_create(DTYPE_F32);
    const value_id image = net_image(&n, 8, 3);
    const value_id conv = net_conv(&n, "conv", image, 4, 3, 1);
    const value_id norm = net_norm(&n, "bn", conv);
    const value_id relu = net_map(&n, OP_RELU, "relu", norm);
    const value_id sum = net_add(&n, "sum", relu, norm);
    setup s;
    plan *p;

    (void)state;
    setup_init(&s, n, net_map(&n, OP_RELU, "last", sum));
    s.request.fold = s.request.fuse = true;
    s.request.training = false;
    s.request.loss_op = OP_COUNT;
    p = setup_compile(&s);
    CHECK_STR(forward_of(p, "conv", OP_CONV2D), "conv2d+batch_norm_infer");
    CHECK_STR(forward_of(p, "relu", OP_RELU), "relu");
    CHECK_STR(forward_of(p, "sum", OP_ADD), "add+relu");
    plan_destroy(p);
    s.request.output = conv;
    p = setup_compile(&s);
    CHECK_STR(forward_of(p, "conv", OP_CONV2D), "conv2d");
    plan_destroy(p);
    setup_done(&s);
}

/* A block's input gets gradients from the shortcut and from the first convolution: the second is
 * added over the first, where a product of matrices makes it. */
static void gradients_are_summed_in_place(void **state)
{
    static const int64_t kernel[] = {1, 3, 1};
    net n = net_create(DTYPE_F32);
    value_id x = net_conv(&n, "conv1", net_image(&n, 8, 3), 8, 3, 1);
    setup s;
    plan *p;
    int step;

    (void)state;
    x = net_map(&n, OP_RELU, "relu", x);
    x = net_block(&n, "block", x, 3, (int64_t[]){4, 4, 8}, kernel, 1);
    setup_init(&s, n, net_head(&n, x, 5));
    s.request.fold = s.request.fuse = true;
    p = setup_compile(&s);
    CHECK_STR(posts_of(p, "block.conv1", OP_CONV2D, OP_IN(0)), "conv2d+add");
    step = find_step(p, "block.conv1", OP_CONV2D, OP_IN(0));
    CHECK(thaw__plan_shared_input(p, step, 0) >= p->step[step].n_in);
    plan_destroy(p);
    /* With a norm at rest between, both. */
    memset(s.mode, 0, sizeof s.mode);
    for (int i = 1; i < 4; i++)
        s.trainable[i] = false;
    p = setup_compile(&s);
    CHECK_STR(posts_of(p, "block.conv1", OP_CONV2D, OP_IN(0)), "conv2d+batch_norm_infer+add");
    plan_destroy(p);
    s.request.fuse = false;
    p = setup_compile(&s);
    CHECK_STR(posts_of(p, "block.conv1", OP_CONV2D, OP_IN(0)), "conv2d+batch_norm_infer");
    plan_destroy(p);
    setup_done(&s);
}

/* plan_verify sees a fold of what learns, and posts in another order. */
static void verify_sees_wrong_posts(void **state)
{
    plan_post post[PLAN_MAX_POSTS];
    plan_step *step;
    setup s;
    plan *p;

    (void)state;
    setup_resnet(&s);
    setup_freeze_before(&s, s.n.n_params - 2);
    p = setup_compile(&s);
    CHECK_OK(plan_verify(p, &s.effect));
    s.trainable[0] = true;
    CHECK_ERROR(plan_verify(p, &s.effect), THAW_E_INTERNAL, "one of the two learns");
    s.trainable[0] = false;
    step = &p->step[0];
    memcpy(post, step->post, (size_t)step->n_post * sizeof *post);
    step->post = post;
    post[0].op = OP_RELU;
    CHECK_ERROR(plan_verify(p, &s.effect), THAW_E_INTERNAL, "step 0");
    post[0].op = OP_BATCH_NORM_INFER;
    post[1].n_in = 2;
    CHECK_ERROR(plan_verify(p, &s.effect), THAW_E_INTERNAL, "post with another list");
    plan_destroy(p);
    setup_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(evaluation_folds_everything),
        cmocka_unit_test(each_kind_can_be_switched_off),
        cmocka_unit_test(training_fuses_around_norms),
        cmocka_unit_test(a_frozen_part_is_cut_the_same_way),
        cmocka_unit_test(a_frozen_middle_loses_its_norms_gradient),
        cmocka_unit_test(who_learns_is_not_folded),
        cmocka_unit_test(an_output_lies_over_the_addend),
        cmocka_unit_test(what_is_seen_stays),
        cmocka_unit_test(gradients_are_summed_in_place),
        cmocka_unit_test(verify_sees_wrong_posts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
