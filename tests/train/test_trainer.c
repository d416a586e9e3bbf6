/*
 * test_trainer.c - phases by steps and by epochs, ends by metric, rates, stopping, and that looking
 * does not change what is learned.
 */
#include "train/small_runs.h"

#define ADAMW "[optimizer]\nname = 'adamw'\nlr = 0.01\n"
#define REF   "[train]\nexecutor = 'ref'\n"

static void run_recipe(small_run *r, const char *source, const char *folder)
{
    small_open(r, source, folder, NULL);
    CHECK_OK(trainer_run(r->trainer));
}

/* ----------------------------------------------------------------------------------------------
 * phases */

/* An epoch has 5 batches. The phase by epochs begins at the start of one, whatever steps left. */
static void test_steps_and_epochs(void **state)
{
    static const int64_t begin[] = {0, 3, 8, 9, 14};
    static const double epoch[] = {0, 1, 2, 2 + 4.0 / 18, 4};
    small_run r;

    run_recipe(&r,
               SMALL_MLP SMALL_DATA ADAMW REF
               "[[phase]]\nname = 'a'\nsteps = 3\nfreeze = 'backbone'\n"
               "[[phase]]\nname = 'b'\nepochs = 1\n"
               "[[phase]]\nname = 'c'\nsteps = 1\n"
               "[[phase]]\nname = 'd'\nsteps = 5\n"
               "[[phase]]\nname = 'e'\nepochs = 2\n"
               "unfreeze = 'backbone'\n",
               *state);
    CHECK_INT(r.record.n_phases, 5);
    CHECK_INT(r.record.n_steps, 24);
    for (int i = 0; i < 5; i++) {
        CHECK_INT(r.record.phase[i].iteration, begin[i]);
        CHECK_STR(r.record.phase[i].name, ((const char *[]){"a", "b", "c", "d", "e"})[i]);
        CHECK_NEAR(r.record.phase[i].epoch, epoch[i], 1e-12, 0);
    }
    CHECK_INT(r.record.phase[0].trainable, 5 * 3 + 3);
    CHECK_INT(r.record.phase[4].trainable, 64 * 6 + 6 + 6 * 5 + 5 + 5 * 3 + 3);
    CHECK_NEAR(r.record.step[2].epoch, 12.0 / 18, 1e-12, 0);
    CHECK_NEAR(r.record.step[7].epoch, 2, 1e-12, 0);
    CHECK_NEAR(r.record.step[23].epoch, 6, 1e-12, 0);
    CHECK_INT(r.record.n_phase_ends, 5);
    for (int i = 0; i < 5; i++) {
        CHECK_INT(r.record.phase_end[i].phase, i + 1);
        CHECK_INT(r.record.phase_end[i].iteration, i < 4 ? begin[i + 1] : 24);
    }
    CHECK_INT(r.record.n_runs, 1);
    CHECK_INT(r.record.n_ends, 1);
    small_close(&r);
}

/* A phase of no length changes what is frozen and no more. */
static void test_empty_phases(void **state)
{
    small_run r;

    run_recipe(&r,
               SMALL_MLP SMALL_DATA ADAMW REF "[[phase]]\nsteps = 0\nfreeze = 'backbone'\n"
                                              "[[phase]]\nsteps = 2\n[[phase]]\nepochs = 0\n",
               *state);
    CHECK_INT(r.record.n_steps, 2);
    CHECK_INT(r.record.n_phases, 1);
    CHECK_INT(r.record.phase[0].trainable, 5 * 3 + 3);
    small_close(&r);
}

/* Nothing trains: said, and nothing moves. */
static void test_all_frozen(void **state)
{
    params_snapshot *before = NULL;
    small_run r;

    small_open(&r, SMALL_RESNET SMALL_DATA ADAMW REF "[[phase]]\nsteps = 2\nfreeze = '.*'\n",
               *state, NULL);
    CHECK_OK(params_snapshot_take(&before, r.job->params, false));
    CHECK_OK(trainer_run(r.trainer));
    CHECK_CONTAINS(r.record.phase[0].text, "nothing will be learned");
    for (int i = 0; i < r.job->params->n; i++)
        CHECK_BYTES((const char *)r.job->params->item[i].data, params_snapshot_data(before, i),
                    r.job->params->item[i].bytes);
    params_snapshot_destroy(before);
    small_close(&r);
}

/* ----------------------------------------------------------------------------------------------
 * until */

/* lr 0 never improves: after the first evaluation two more end the phase. */
#define UNTIL                                                                                      \
    SMALL_MLP SMALL_DATA                                                                           \
        "[optimizer]\nname = 'sgd'\nlr = 0.0\n" REF "[checkpoint]\nevery = 'off'\n"                \
        "[[phase]]\nepochs = 6\nuntil = { patience = 2 }\n[[phase]]\nsteps = 3\nlr = 0.01\n"

static void test_until(void **state)
{
    small_run r;

    run_recipe(&r, UNTIL, *state);
    CHECK_INT(r.record.n_phases, 2);
    CHECK_INT(r.record.phase[0].steps, 30);
    CHECK_INT(r.record.phase[1].iteration, 15);
    CHECK_INT(r.record.n_steps, 18);
    CHECK_INT(r.trainer->state.n_fired, 1);
    CHECK_INT(r.trainer->state.fired[0].iteration, 15);
    small_close(&r);
}

/* What a metric ended stays ended when the run goes on later. */
static void test_until_and_resume(void **state)
{
    thaw_recipe *recipe = small_recipe(UNTIL, *state);
    char whole[512];

    small_path(whole, *state, "whole");
    for (int stop = 0; stop < 18; stop += 2) {
        char run[512], name[32];
        small_record first = {.stop_at = stop}, second = {0};
        thaw_run_options o = {.threads = 1, .on_event = small_listen};

        (void)snprintf(name, sizeof name, "until-%d", stop);
        o.run = stop ? small_path(run, *state, name) : whole;
        o.user = &first;
        CHECK_STATUS(thaw_train(recipe, &o), stop ? THAW_E_STOPPED : THAW_OK);
        if (!stop)
            continue;
        o.user = &second;
        CHECK_OK(thaw_resume(&o));
        CHECK_INT(first.n_steps + second.n_steps, 18);
        small_same_files(whole, run, "checkpoints/step-000018/model.safetensors");
        small_same_files(whole, run, "checkpoints/step-000018/optimizer.safetensors");
    }
    thaw_recipe_destroy(recipe);
}

/* The loss, unlike the accuracy, gets better by falling. */
static void test_until_loss(void **state)
{
    small_run r;

    run_recipe(&r,
               SMALL_MLP SMALL_DATA
               "[optimizer]\nname = 'adam'\nlr = 0.003\n" REF
               "[[phase]]\nepochs = 4\nuntil = { metric = 'valid.loss', patience = 1 }\n",
               *state);
    for (int i = 1; i < r.record.n_evals; i++)
        CHECK_MSG(r.record.eval[i].loss < r.record.eval[i - 1].loss,
                  "this data's loss should fall in every epoch: %.9g, then %.9g",
                  r.record.eval[i - 1].loss, r.record.eval[i].loss);
    CHECK_INT(r.record.n_steps, 20);
    small_close(&r);
}

/* An improvement below min_change is none. */
static void test_until_min_change(void **state)
{
    small_run r;

    run_recipe(&r,
               SMALL_MLP SMALL_DATA
               "[optimizer]\nname = 'adam'\nlr = 0.003\n" REF "[[phase]]\nepochs = 4\n"
               "until = { metric = 'valid.loss', patience = 1, min_change = 10 }\n",
               *state);
    CHECK_INT(r.record.n_steps, 10);
    small_close(&r);
}

/* ----------------------------------------------------------------------------------------------
 * rates */

static void test_curve_starts_again_at_a_rebuild(void **state)
{
    static const double want[] = {0.4, 0.3, 0.2, 0.1, 0.4, 0.2, 0.05, 0.025};
    small_run r;

    run_recipe(&r,
               SMALL_MLP SMALL_DATA "[optimizer]\nname = 'sgd'\nlr = 0.4\n[schedule]\n"
                                    "name = 'linear'\n" REF "[[phase]]\nsteps = 2\n"
                                    "[[phase]]\nsteps = 2\noptimizer = 'keep'\n"
                                    "[[phase]]\nsteps = 2\n"
                                    "[[phase]]\nsteps = 2\nlr = 0.05\n",
               *state);
    for (int i = 0; i < 8; i++)
        CHECK_NEAR(r.record.step[i].lr, want[i], 1e-12, 0);
    small_close(&r);
}

/* A phase with settings of its own does what a recipe of one phase does that has them in
 * [optimizer]; each differs from the run without. */
static void test_settings_of_phases(void **state)
{
    static const struct {
        const char *optimizer, *own;
    } table[] = {
        {"name = 'sgd'\n", "momentum = 0.5\n"},
        {"name = 'sgd'\nmomentum = 0.5\n", "nesterov = true\n"},
        {"name = 'sgd'\n", "clip_norm = 0.01\n"},
        {"name = 'sgd'\n", "weight_decay = 0.5\n"},
        {"name = 'adam'\n", "betas = [0.5, 0.6]\n"},
        {"name = 'adamw'\n", "eps = 0.1\n"},
    };

    for (size_t i = 0; i < THAW_COUNT(table); i++) {
        const char *const general[] = {"", table[i].own, ""}, *const own[] = {"", "", table[i].own};
        small_run r[3];

        for (int k = 0; k < 3; k++) {
            text t = TEXT_INIT;

            text_addf(&t,
                      SMALL_MLP SMALL_DATA "[optimizer]\nlr = 0.05\n%s%s" SMALL_REF_F64
                                           "[[phase]]\nsteps = 3\n%s",
                      table[i].optimizer, general[k], own[k]);
            run_recipe(&r[k], t.data, *state);
            text_done(&t);
        }
        small_same_tensors(&r[1], &r[2]);
        CHECK_MSG(memcmp(small_param(&r[0], "head.weight")->data,
                         small_param(&r[2], "head.weight")->data,
                         small_param(&r[0], "head.weight")->bytes) != 0,
                  "%s changes nothing", table[i].own);
        for (int k = 0; k < 3; k++)
            small_close(&r[k]);
    }
}

/* A skipped step does not move the curve; see test_update for the rest. */
static void test_curve_counts_updates(void **state)
{
    small_samples samples = {.bad[5] = true};
    small_run r;

    (void)state;
    small_open(&r,
               SMALL_MLP SMALL_CALLBACK "shuffle = false\n[optimizer]\nname = 'sgd'\nlr = 0.4\n"
                                        "[schedule]\nname = 'linear'\n" REF
                                        "[[phase]]\nsteps = 4\n",
               ".", &samples);
    CHECK_OK(trainer_run(r.trainer));
    CHECK_NEAR(r.record.step[0].lr, 0.4, 1e-12, 0);
    CHECK_NEAR(r.record.step[1].lr, 0.3, 1e-12, 0);
    CHECK_NEAR(r.record.step[2].lr, 0.3, 1e-12, 0);
    CHECK_NEAR(r.record.step[3].lr, 0.2, 1e-12, 0);
    small_close(&r);
}

/* A coefficient is a factor of the first step that plain SGD takes. */
static void test_coefficients(void **state)
{
    static const char *const phase[] = {
        "", "lr_coefficients = { backbone = 0.5, 'backbone.fc2' = 0 }\n"};
    double moved[2][6];

    for (int i = 0; i < 2; i++) {
        params_snapshot *before = NULL;
        text t = TEXT_INIT;
        small_run r;

        text_addf(&t,
                  SMALL_MLP SMALL_DATA "[optimizer]\nname = 'sgd'\nlr = 0.1\n" SMALL_REF_F64
                                       "[[phase]]\nsteps = 1\n%s",
                  phase[i]);
        small_open(&r, t.data, *state, NULL);
        CHECK_OK(params_snapshot_take(&before, r.job->params, false));
        CHECK_OK(trainer_run(r.trainer));
        CHECK_INT(r.job->params->n, 6);
        for (int p = 0; p < 6; p++)
            moved[i][p] = ((const double *)r.job->params->item[p].data)[1] -
                          ((const double *)params_snapshot_data(before, p))[1];
        params_snapshot_destroy(before);
        small_close(&r);
        text_done(&t);
    }
    for (int p = 0; p < 6; p++) /* fc1, fc2, head: weight and bias of each */
        CHECK_NEAR(moved[1][p], moved[0][p] * (p < 2 ? 0.5 : p < 4 ? 0 : 1), 1e-9, 1e-15);
}

/* ----------------------------------------------------------------------------------------------
 * looking and learning */

/* How often we evaluate, save and read ahead changes nothing in what is learned. */
static void test_looking_changes_nothing(void **state)
{
    static const char *const train[] = {"eval_every = 0\neval_at_start = false\n",
                                        "eval_every = 1\n", "eval_every = 2\n"};
    small_run r[4];

    for (int i = 0; i < 4; i++) {
        text t = TEXT_INIT;

        text_addf(&t,
                  SMALL_RESNET "dropout = 0.3\n" SMALL_DATA "flip = true\nshift = 2\n%s" ADAMW REF
                               "%s[[phase]]\nepochs = 3\n",
                  i == 3 ? "prefetch = false\n" : "", train[i % 3]);
        run_recipe(&r[i], t.data, *state);
        text_done(&t);
    }
    CHECK_INT(r[0].record.n_evals, 1);
    CHECK_INT(r[1].record.n_evals, 4);
    CHECK_INT(r[2].record.n_evals, 3);
    for (int i = 1; i < 4; i++)
        small_same_tensors(&r[0], &r[i]);
    for (int i = 0; i < 4; i++)
        small_close(&r[i]);
}

/* The seed decides; nothing else does. */
static void test_seeds(void **state)
{
    static const char *const source[] = {
        "seed = 1\n" SMALL_MLP SMALL_DATA ADAMW REF "[[phase]]\nsteps = 3\n",
        "seed = 2\n" SMALL_MLP SMALL_DATA ADAMW REF "[[phase]]\nsteps = 3\n"};
    small_run a, b, c;

    run_recipe(&a, source[0], *state);
    run_recipe(&b, source[0], *state);
    run_recipe(&c, source[1], *state);
    small_same_tensors(&a, &b);
    CHECK(memcmp(small_param(&a, "head.weight")->data, small_param(&c, "head.weight")->data,
                 small_param(&a, "head.weight")->bytes) != 0);
    small_close(&a);
    small_close(&b);
    small_close(&c);
}

/* The bars are learned: a trainer that trains the wrong way round would pass much else. */
static void test_it_learns(void **state)
{
    small_run r;

    run_recipe(&r,
               SMALL_RESNET SMALL_DATA
               "[optimizer]\nname = 'adamw'\nlr = 0.02\n[[phase]]\nepochs = 2\n" SMALL_BACKBONE
               "[[phase]]\nepochs = 8\nunfreeze = ['conv1', 'bn1', 'layer.*']\n",
               *state);
    CHECK_MSG(r.record.eval[r.record.n_evals - 1].metric >= 6.0 / 7, "accuracy %g after 10 epochs",
              r.record.eval[r.record.n_evals - 1].metric);
    CHECK(r.record.step[r.record.n_steps - 1].loss < 0.5 * r.record.step[0].loss);
    small_close(&r);
}

/* An endless stream: batches are always full, and an epoch may end inside one. */
static void test_wrap(void **state)
{
    small_run r;

    run_recipe(&r,
               SMALL_MLP SMALL_DATA "wrap = true\nshuffle = false\n" ADAMW REF
                                    "[[phase]]\nsteps = 6\n[[phase]]\nsteps = 4\n",
               *state);
    for (int i = 0; i < 10; i++)
        CHECK_NEAR(r.record.step[i].epoch, 4 * (i + 1) / 18.0, 1e-12, 0);
    CHECK_INT(r.trainer->state.images, 40);
    small_close(&r);
}

/* Both ways to ask. */
static void test_stopping(void **state)
{
    volatile int stop = 1;
    small_run r;

    small_open(&r, SMALL_MLP SMALL_DATA ADAMW REF "[[phase]]\nsteps = 5\n", *state, NULL);
    r.options.stop = &stop;
    CHECK_ERROR(trainer_run(r.trainer), THAW_E_STOPPED, "after step 0 of 5");
    small_close(&r);
    small_open(&r, SMALL_MLP SMALL_DATA ADAMW REF "[[phase]]\nsteps = 5\n", *state, NULL);
    r.record.stop_at = 2;
    CHECK_ERROR(trainer_run(r.trainer), THAW_E_STOPPED, "after step 2 of 5");
    CHECK_INT(r.record.n_steps, 2);
    CHECK_CONTAINS(r.record.words, "stopped on request");
    small_close(&r);
}

/* A stop between two micro-batches leaves the update undone: what a resume makes of it is the same.
 */
static void test_stopping_between_micro_batches(void **state)
{
    static const char source[] = SMALL_RESNET
        "dropout = 0.3\n" SMALL_CALLBACK
        "[optimizer]\nname = 'adamw'\nlr = 0.01\naccumulate = 3\n" REF "[[phase]]\nsteps = 5\n";
    small_samples samples = {.bad[0] = false};
    volatile int stop = 0;
    params_snapshot *before = NULL;
    small_run a, b;
    update u;

    (void)state;
    small_open(&a, source, ".", &samples);
    CHECK_OK(trainer_run(a.trainer));
    small_open(&b, source, ".", &samples);
    b.options.stop = &stop;
    b.record.stop_at = 2;
    CHECK_STATUS(trainer_run(b.trainer), THAW_E_STOPPED);
    b.trainer->stop = false;
    b.record.stop_at = 0;
    CHECK_OK(params_snapshot_take(&before, b.job->params, false));
    stop = 1;
    CHECK_OK(trainer_update(&u, b.trainer));
    CHECK(u.given_up && !u.applied);
    CHECK_INT(b.trainer->state.iteration, 2);
    CHECK_INT(b.trainer->state.index, b.trainer->tried.index);
    for (int i = 0; i < b.job->params->n; i++)
        CHECK_BYTES((const char *)b.job->params->item[i].data, params_snapshot_data(before, i),
                    b.job->params->item[i].bytes);
    stop = 0;
    CHECK_OK(trainer_run(b.trainer));
    small_same_tensors(&a, &b);
    params_snapshot_destroy(before);
    small_close(&a);
    small_close(&b);
}

/* A stop between the last step of an epoch and the evaluation behind it. */
static volatile int stop_asked;
static double clock_now;

static bool stop_at_five(void *user, const thaw_event *e)
{
    (void)user;
    if (e->kind == THAW_EVENT_STEP && e->iteration == 5)
        stop_asked = 1;
    return true;
}

static double slow_machine(void)
{
    return clock_now += 20;
}

/* It is ended where that does not take long; else given up, with what was saved before in place.
 * Either way a resume ends at the same bits. */
static void test_stopping_in_an_evaluation(void **state)
{
    thaw_recipe *recipe = small_recipe(SMALL_MLP SMALL_DATA ADAMW REF
                                       "[checkpoint]\nevery = '3 steps'\n[[phase]]\nsteps = 10\n",
                                       *state);
    char whole[512], run[512];
    thaw_run_options o = {.threads = 1, .run = small_path(whole, *state, "whole")};
    os_table slow = os_posix;

    slow.monotonic = slow_machine;
    CHECK_OK(thaw_train(recipe, &o));
    for (int i = 0; i < 2; i++) {
        small_record r = {.more = stop_at_five}, again = {0};

        o = (thaw_run_options){.threads = 1,
                               .run = small_path(run, *state, i ? "slow" : "fast"),
                               .stop = &stop_asked,
                               .on_event = small_listen,
                               .user = &r};
        os_install(i ? &slow : NULL);
        CHECK_ERROR(thaw_train(recipe, &o), THAW_E_STOPPED,
                    i ? "during the evaluation after step 5 of 10; resume goes on from the newest"
                      : "after step 5 of 10; resume goes on from there");
        os_install(NULL);
        CHECK_INT(r.n_steps, 5);
        CHECK_INT(r.n_evals, i ? 1 : 2);
        CHECK_INT(r.n_ends, 1);
        stop_asked = 0;
        o.user = &again;
        CHECK_OK(thaw_resume(&o));
        CHECK_INT(again.n_steps, i ? 7 : 5);
        small_same_files(whole, run, "checkpoints/step-000010/model.safetensors");
        small_same_files(whole, run, "checkpoints/step-000010/history.json");
        small_same_files(whole, run, "best/model.safetensors");
    }
    thaw_recipe_destroy(recipe);
}

/* Asked once, a checkpoint more is saved, and training goes on. */
static volatile int save_asked;
static bool ask_at_two(void *user, const thaw_event *e)
{
    (void)user;
    if (e->kind == THAW_EVENT_STEP && e->iteration == 2)
        save_asked = 1;
    return true;
}

static void test_saving_on_request(void **state)
{
    thaw_recipe *recipe = small_recipe(SMALL_MLP SMALL_DATA ADAMW REF
                                       "[checkpoint]\nevery = 'off'\n[[phase]]\nsteps = 5\n",
                                       *state);
    char run[512], checkpoints[512];
    small_record record = {.more = ask_at_two};
    thaw_run_options o = {.run = small_path(run, *state, "asked"),
                          .threads = 1,
                          .on_event = small_listen,
                          .user = &record,
                          .save = &save_asked};
    ckpt_id *id = NULL;
    int n;

    CHECK_OK(thaw_train(recipe, &o));
    CHECK_INT(save_asked, 0);
    CHECK_INT(record.n_saves, 2);
    CHECK_OK(ckpt_list(&id, &n, small_path(checkpoints, run, "checkpoints")));
    CHECK_INT(n, 2);
    CHECK_INT(id[0].step, 5);
    CHECK_INT(id[1].step, 2);
    thaw__free(id);
    thaw_recipe_destroy(recipe);
}

/* Best weights are those of the best evaluation; of equal ones that with the smallest loss. */
static void test_best(void **state)
{
    small_run r;
    double best = -1, loss = NAN;
    int by_loss = 0;

    run_recipe(&r, SMALL_MLP SMALL_DATA ADAMW REF "[[phase]]\nepochs = 6\n", *state);
    CHECK_INT(r.record.n_evals, 7);
    for (int i = 0; i < r.record.n_evals; i++) {
        const double metric = r.record.eval[i].metric;
        const bool equal = metric == best && r.record.eval[i].loss < loss;

        CHECK_INT(r.record.eval[i].best, metric > best || equal);
        by_loss += equal;
        if (r.record.eval[i].best) {
            best = metric;
            loss = r.record.eval[i].loss;
            CHECK(r.trainer->state.best_iteration >= r.record.eval[i].iteration);
        }
    }
    CHECK_MSG(by_loss > 0, "no two evaluations had the same metric");
    CHECK_NEAR(r.trainer->state.best, best, 0, 0);
    CHECK_NEAR(r.trainer->state.best_loss, loss, 0, 0);
    small_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_and_epochs),
        cmocka_unit_test(test_empty_phases),
        cmocka_unit_test(test_all_frozen),
        cmocka_unit_test(test_until),
        cmocka_unit_test(test_until_and_resume),
        cmocka_unit_test(test_until_loss),
        cmocka_unit_test(test_until_min_change),
        cmocka_unit_test(test_curve_starts_again_at_a_rebuild),
        cmocka_unit_test(test_settings_of_phases),
        cmocka_unit_test(test_curve_counts_updates),
        cmocka_unit_test(test_coefficients),
        cmocka_unit_test(test_looking_changes_nothing),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_it_learns),
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_stopping),
        cmocka_unit_test(test_stopping_between_micro_batches),
        cmocka_unit_test_setup_teardown(test_stopping_in_an_evaluation, small_setup,
                                        small_teardown),
        cmocka_unit_test(test_saving_on_request),
        cmocka_unit_test(test_best),
    };

    return cmocka_run_group_tests(tests, small_setup, small_teardown);
}
