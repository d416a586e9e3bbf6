/*
 * test_update.c - one update: what is frozen keeps its bytes whatever the optimizer, micro-batches
 * equal one large batch, clipping, and steps whose loss is not finite.
 */
#include "train/small_runs.h"

/* ----------------------------------------------------------------------------------------------
 * what is frozen stands still */

typedef struct frozen_watch {
    small_run *run;
    params_snapshot *at_freeze;
} frozen_watch;

/* At the start of phase 2: everything, as it is then. */
static bool take_at_freeze(void *user, const thaw_event *e)
{
    frozen_watch *w = user;

    if (e->kind == THAW_EVENT_PHASE && e->phase == 2)
        CHECK_OK(params_snapshot_take(&w->at_freeze, w->run->job->params, false));
    return true;
}

static bool below(const char *name, const char *const *layer)
{
    for (; *layer; layer++)
        if (strncmp(name, *layer, strlen(*layer)) == 0)
            return true;
    return false;
}

/* Tensors of these layers have the bytes of the freeze, all others not; statistics of frozen norms
 * (num_batches_tracked among them) move only where frozen_norm = "train". */
static void check_standing(const frozen_watch *w, const char *const *layer, bool statistics_move)
{
    const params *p = w->run->job->params;

    for (int i = 0; i < p->n; i++) {
        const bool same =
            memcmp(p->item[i].data, params_snapshot_data(w->at_freeze, i), p->item[i].bytes) == 0;
        const bool stands =
            below(p->item[i].name, layer) && !(p->item[i].buffer && statistics_move);

        CHECK_MSG(same == stands, "'%s' %s", p->item[i].name,
                  stands ? "is frozen and has moved" : "should have moved and has not");
    }
}

static const char *const optimizers[] = {"name = 'sgd'\nmomentum = 0.9\n",
                                         "name = 'sgd'\nmomentum = 0.9\nnesterov = true\n",
                                         "name = 'adam'\n", "name = 'adamw'\n"};
static const char *const executors[] = {"executor = 'ref'\n", "executor = 'dnn'\n",
                                        "executor = 'ref'\nprecision = 'f64'\n"};
static const char *const changes[] = {
    "optimizer = 'rebuild'\n", "optimizer = 'keep'\non_freeze = 'keep'\n",
    "optimizer = 'keep'\non_freeze = 'park'\n", "optimizer = 'keep'\non_freeze = 'reset'\n",
    "optimizer = 'hold'\n"};

/* All learn with momentum and weight decay, then some freeze (PAINS 24, 27). */
static void freeze_and_look(const char *folder, const char *optimizer, const char *executor,
                            const char *change, bool statistics_move)
{
    static const char *const layer[] = {"conv1", "bn1", "layer1", "layer3", NULL};
    frozen_watch w = {0};
    small_run r;
    text t = TEXT_INIT;

    text_addf(&t,
              SMALL_RESNET SMALL_DATA
              "[optimizer]\n%slr = 0.01\nweight_decay = 0.1\n[train]\n%sfrozen_norm = '%s'\n"
              "[[phase]]\nsteps = 2\n"
              "[[phase]]\nsteps = 3\nfreeze = ['conv1', 'bn1', 'layer1', 'layer3']\n%s",
              optimizer, executor, statistics_move ? "train" : "eval", change);
    small_open(&r, t.data, folder, NULL);
    w.run = &r;
    r.record.more = take_at_freeze;
    r.record.more_user = &w;
    CHECK_OK(trainer_run(r.trainer));
    CHECK_INT(r.record.n_steps, 5);
    check_standing(&w, layer, statistics_move);
    params_snapshot_destroy(w.at_freeze);
    small_close(&r);
    text_done(&t);
}

static void test_frozen_bytes_stand(void **state)
{
    for (size_t o = 0; o < THAW_COUNT(optimizers); o++)
        for (size_t e = 0; e < THAW_COUNT(executors); e++)
            for (size_t c = 0; c < THAW_COUNT(changes); c++)
                freeze_and_look(*state, optimizers[o], executors[e], changes[c], false);
}

static void test_frozen_norms_in_training_mode(void **state)
{
    for (size_t e = 0; e < THAW_COUNT(executors); e++)
        freeze_and_look(*state, optimizers[0], executors[e], changes[0], true);
}

/* A norm with one of its two parameters trainable is not frozen: its statistics move. */
static void test_half_frozen_norm(void **state)
{
    small_run r;
    int64_t count;

    small_open(&r,
               SMALL_RESNET SMALL_DATA "[optimizer]\nname = 'sgd'\nlr = 0.01\n"
                                       "[train]\nexecutor = 'ref'\n"
                                       "[[phase]]\nsteps = 2\n" SMALL_BACKBONE
                                       "[[phase]]\nsteps = 2\nunfreeze = 'layer4.0.bn2'\n",
               *state, NULL);
    CHECK_OK(trainer_run(r.trainer));
    memcpy(&count, small_param(&r, "layer4.0.bn2.num_batches_tracked")->data, sizeof count);
    CHECK_INT(count, 2);
    memcpy(&count, small_param(&r, "layer4.0.bn1.num_batches_tracked")->data, sizeof count);
    CHECK_INT(count, 0);
    small_close(&r);
}

/* ----------------------------------------------------------------------------------------------
 * micro-batches, clipping */

#define PLAIN_SGD "[optimizer]\nname = 'sgd'\nlr = 0.1\nmomentum = 0.9\n"

static void compare_runs(const char *folder, const char *a, const char *b)
{
    small_run x, y;

    small_open(&x, a, folder, NULL);
    CHECK_OK(trainer_run(x.trainer));
    small_open(&y, b, folder, NULL);
    CHECK_OK(trainer_run(y.trainer));
    CHECK_INT(x.record.n_steps, y.record.n_steps);
    for (int i = 0; i < x.record.n_steps; i++) {
        CHECK_NEAR(x.record.step[i].loss, y.record.step[i].loss, 1e-12, 0);
        CHECK_NEAR(x.record.step[i].grad_norm, y.record.step[i].grad_norm, 1e-12, 0);
    }
    for (int i = 0; i < x.job->params->n; i++)
        CHECK_CLOSE((const double *)x.job->params->item[i].data,
                    (const double *)y.job->params->item[i].data, x.job->params->item[i].elements,
                    1e-12, 1e-13);
    small_close(&x);
    small_close(&y);
}

/* Batches of 8, 8, 2 in one go and as 4 + 4, 4 + 4, 2; and of 12, 6 as 4 + 4 + 4, 4 + 2: each
 * sample counts the same. */
static void test_accumulating_is_a_larger_batch(void **state)
{
#define BATCHED(batch, accumulate, loss)                                                           \
    SMALL_MLP "[data]\ntrain = 'train-images-idx3-ubyte'\nbatch = " batch "\n" PLAIN_SGD           \
              "accumulate = " accumulate "\n" loss SMALL_REF_F64 "[[phase]]\nepochs = 2\n"
    compare_runs(*state, BATCHED("8", "1", ""), BATCHED("4", "2", ""));
    compare_runs(*state, BATCHED("12", "1", ""), BATCHED("4", "3", ""));
    compare_runs(*state, BATCHED("8", "1", "[loss]\nlabel_smoothing = 0.1\n"),
                 BATCHED("4", "2", "[loss]\nlabel_smoothing = 0.1\n"));
    compare_runs(*state, BATCHED("8", "1", "[loss]\nname = 'mse'\n"),
                 BATCHED("4", "2", "[loss]\nname = 'mse'\n"));
    /* class 2 does not count: micro-batches have different numbers of targets */
    compare_runs(*state, BATCHED("8", "1", "[loss]\nignore_index = 2\n"),
                 BATCHED("4", "2", "[loss]\nignore_index = 2\n"));
}

/* The first step of plain SGD is lr times the clipped gradient. */
static void test_clipping(void **state)
{
    static const char *const clip[] = {"", "clip_norm = 0.05\n", "clip_norm = 1000.0\n"};
    double moved[3], norm[3];

    for (int i = 0; i < 3; i++) {
        params_snapshot *before = NULL;
        text t = TEXT_INIT;
        small_run r;
        double sum = 0;

        text_addf(&t,
                  SMALL_MLP SMALL_DATA "[optimizer]\nname = 'sgd'\nlr = 0.5\n%s" SMALL_REF_F64
                                       "[[phase]]\nsteps = 1\n",
                  clip[i]);
        small_open(&r, t.data, *state, NULL);
        CHECK_OK(params_snapshot_take(&before, r.job->params, false));
        CHECK_OK(trainer_run(r.trainer));
        for (int p = 0; p < r.job->params->n; p++)
            for (size_t k = 0; k < r.job->params->item[p].elements; k++)
                sum += pow(((const double *)r.job->params->item[p].data)[k] -
                               ((const double *)params_snapshot_data(before, p))[k],
                           2);
        moved[i] = sqrt(sum);
        norm[i] = r.record.step[0].grad_norm;
        params_snapshot_destroy(before);
        small_close(&r);
        text_done(&t);
    }
    CHECK(norm[0] > 0.05);
    CHECK_NEAR(norm[1], norm[0], 0, 0);
    CHECK_NEAR(moved[0], 0.5 * norm[0], 1e-12, 0);
    CHECK_NEAR(moved[1], 0.5 * 0.05 * norm[0] / (norm[0] + 1e-6), 1e-12, 0);
    CHECK_NEAR(moved[2], moved[0], 0, 0);
}

/* ----------------------------------------------------------------------------------------------
 * not finite */

#define CALLBACK_RESNET                                                                            \
    SMALL_RESNET SMALL_CALLBACK "shuffle = false\n"                                                \
                                "[optimizer]\nname = 'adamw'\nlr = 0.01\nweight_decay = 0.1\n"

typedef struct skip_watch {
    small_run *run;
    params_snapshot *before;
    int skipped, moved;
} skip_watch;

/* After each step: a skipped one has left everything as it was, one that was made has not. */
static bool compare_with_last(void *user, const thaw_event *e)
{
    skip_watch *w = user;
    const params *p = w->run->job->params;
    int differ = 0;

    if (e->kind != THAW_EVENT_STEP)
        return true;
    for (int i = 0; i < p->n; i++) {
        const bool same =
            memcmp(p->item[i].data, params_snapshot_data(w->before, i), p->item[i].bytes) == 0;

        CHECK_MSG(same || e->skipped == 0, "step %lld was skipped, but '%s' has changed",
                  (long long)e->iteration, p->item[i].name);
        differ += !same;
        CHECK_MSG(tensor_all_finite(p->item[i].data, p->item[i].dtype, p->item[i].elements),
                  "step %lld: '%s' is not finite", (long long)e->iteration, p->item[i].name);
    }
    w->skipped += e->skipped > 0;
    w->moved += differ > 0;
    CHECK_OK(params_snapshot_take(&w->before, p, false));
    return true;
}

/* Sample 5 is NaN: the second batch of each epoch is skipped; the phases still change on time. */
static void skip_some(const char *executor)
{
    small_samples samples = {.bad[5] = true};
    skip_watch w = {0};
    text t = TEXT_INIT;
    small_run r;

    text_addf(&t,
              CALLBACK_RESNET "[train]\nexecutor = '%s'\n[[phase]]\nsteps = 3\n"
                              "[[phase]]\nepochs = 1\n[[phase]]\nsteps = 2\nfreeze = 'layer1'\n",
              executor);
    small_open(&r, t.data, ".", &samples);
    w.run = &r;
    r.record.more = compare_with_last;
    r.record.more_user = &w;
    CHECK_OK(params_snapshot_take(&w.before, r.job->params, false));
    CHECK_OK(trainer_run(r.trainer));
    CHECK_INT(r.record.n_steps, 10);
    CHECK_INT(w.skipped, 3);
    CHECK_INT(w.moved, 7);
    CHECK_INT(r.trainer->state.skipped, 3);
    CHECK_INT(r.trainer->state.iteration, 10);
    for (int i = 0; i < 10; i++)
        CHECK_INT(r.record.step[i].skipped, i == 1 || i == 4 || i == 9);
    CHECK_INT(r.record.n_phases, 3);
    CHECK_INT(r.record.phase[1].iteration, 3);
    CHECK_INT(r.record.phase[2].iteration, 8);
    for (int i = 0; i < 3; i++)
        CHECK_INT(r.record.phase_end[i].skipped, 1);
    CHECK(isfinite(r.trainer->state.loss_smoothed));
    params_snapshot_destroy(w.before);
    small_close(&r);
    text_done(&t);
}

static void test_skipped_steps_leave_no_trace(void **state)
{
    (void)state;
    skip_some("ref");
    skip_some("dnn");
}

/* Squared errors are summed in double, so a loss may be finite where its gradient is not. */
static void test_gradient_alone_not_finite(void **state)
{
    small_samples samples = {.bad[5] = true, .bad_pixel = 1e25F};
    small_run r;

    (void)state;
    small_open(&r,
               SMALL_MLP SMALL_CALLBACK
               "shuffle = false\n[optimizer]\nname = 'sgd'\nlr = 0.01\n[loss]\nname = 'mse'\n"
               "[train]\nexecutor = 'ref'\n[[phase]]\nsteps = 3\n",
               ".", &samples);
    CHECK_OK(trainer_run(r.trainer));
    for (int i = 0; i < 3; i++)
        CHECK_INT(r.record.step[i].skipped, i == 1);
    CHECK_MSG(isfinite(r.record.step[1].loss), "the loss is %g", r.record.step[1].loss);
    small_close(&r);
}

/* One bad micro-batch spoils its update, and the good ones of it move no statistics either. */
static void test_skipped_micro_batches(void **state)
{
    small_samples samples = {.bad[6] = true};
    skip_watch w = {0};
    small_run r;

    (void)state;
    small_open(&r,
               CALLBACK_RESNET "accumulate = 2\n[train]\nexecutor = 'ref'\n[[phase]]\nepochs = 1\n",
               ".", &samples);
    w.run = &r;
    r.record.more = compare_with_last;
    r.record.more_user = &w;
    CHECK_OK(params_snapshot_take(&w.before, r.job->params, false));
    CHECK_OK(trainer_run(r.trainer));
    CHECK_INT(r.record.n_steps, 3);
    CHECK_INT(r.record.step[0].skipped, 1);
    CHECK_INT(r.record.step[1].skipped, 0);
    CHECK_INT(w.skipped, 1);
    CHECK_INT(r.trainer->state.updates, 2);
    params_snapshot_destroy(w.before);
    small_close(&r);
}

/* Ten in a row end the run; a good step in between starts the count again. No checkpoint ever holds
 * a NaN. */
static void test_ten_in_a_row(void **state)
{
    small_samples samples = {.all_bad = true};
    const thaw_source source = small_source(&samples);
    char run[512];
    small_record record = {0};
    const thaw_run_options options = {.run = small_path(run, *state, "run"),
                                      .threads = 1,
                                      .source = &source,
                                      .on_event = small_listen,
                                      .user = &record};
    thaw_recipe *recipe = small_recipe(CALLBACK_RESNET "[train]\nexecutor = 'ref'\n"
                                                       "[checkpoint]\nevery = '1 steps'\n"
                                                       "[[phase]]\nsteps = 20\n",
                                       ".");

    CHECK_ERROR(thaw_train(recipe, &options), THAW_E_NUMERIC, "10 times in a row");
    CHECK_INT(record.n_steps, 10);
    for (int i = 0; i < 10; i++)
        CHECK_INT(record.step[i].skipped, i + 1);
    CHECK(record.n_saves > 0);
    for (int i = 0; i < 3; i++) {
        st_file *f = NULL;
        char path[600];

        (void)snprintf(path, sizeof path, "%s/checkpoints/step-%06d/model.safetensors", run, 9 - i);
        CHECK_OK(st_open(&f, path));
        for (int k = 0; k < f->n; k++) {
            double value[4096];
            size_t n;

            CHECK_OK(shape_elements(&n, &f->entry[k].shape));
            CHECK(n <= THAW_COUNT(value));
            CHECK_OK(st_read(value, DTYPE_F64, f, &f->entry[k]));
            CHECK_MSG(tensor_all_finite(value, DTYPE_F64, n), "'%s' in '%s'", f->entry[k].name,
                      path);
        }
        st_close(f);
    }
    thaw_recipe_destroy(recipe);
}

/* A stop in the middle of them is a stop like others, and the count goes on where it was. */
static void test_stopped_among_ten(void **state)
{
    small_samples samples = {.all_bad = true};
    const thaw_source source = small_source(&samples);
    char run[512], path[512];
    small_record first = {.stop_at = 3}, second = {0};
    thaw_run_options options = {.run = small_path(run, *state, "three"),
                                .threads = 1,
                                .source = &source,
                                .on_event = small_listen,
                                .user = &first};
    thaw_recipe *recipe = small_recipe(CALLBACK_RESNET "[train]\nexecutor = 'ref'\n"
                                                       "[[phase]]\nsteps = 20\n",
                                       ".");

    CHECK_ERROR(thaw_train(recipe, &options), THAW_E_STOPPED, "after step 3 of 20");
    CHECK_INT(first.step[2].skipped, 3);
    CHECK_OK(ckpt_verify(small_path(path, run, "checkpoints/step-000003")));
    options.user = &second;
    CHECK_ERROR(thaw_resume(&options), THAW_E_NUMERIC, "10 times in a row");
    CHECK_INT(second.n_steps, 7);
    CHECK_INT(second.step[0].skipped, 4);
    thaw_recipe_destroy(recipe);
}

/* Every target ignored: nothing to divide by, so nothing to learn. */
static void test_no_valid_target(void **state)
{
    small_run r;

    small_open(&r,
               SMALL_MLP "[data]\ntrain = 'train-images-idx3-ubyte'\nbatch = 1\nshuffle = false\n"
                         "[loss]\nignore_index = 1\n[train]\nexecutor = 'ref'\n"
                         "[[phase]]\nsteps = 3\n",
               *state, NULL);
    CHECK_OK(trainer_run(r.trainer));
    CHECK_INT(r.record.step[0].skipped, 0);
    CHECK_INT(r.record.step[1].skipped, 1);
    CHECK_INT(r.record.step[2].skipped, 0);
    small_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frozen_bytes_stand),
        cmocka_unit_test(test_frozen_norms_in_training_mode),
        cmocka_unit_test(test_half_frozen_norm),
        cmocka_unit_test(test_accumulating_is_a_larger_batch),
        cmocka_unit_test(test_clipping),
        cmocka_unit_test(test_skipped_steps_leave_no_trace),
        cmocka_unit_test(test_gradient_alone_not_finite),
        cmocka_unit_test(test_skipped_micro_batches),
        cmocka_unit_test(test_ten_in_a_row),
        cmocka_unit_test(test_stopped_among_ten),
        cmocka_unit_test(test_no_valid_target),
    };

    return cmocka_run_group_tests(tests, small_setup, small_teardown);
}
