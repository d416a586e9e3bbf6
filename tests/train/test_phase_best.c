/*
 * test_phase_best.c - `until` with restore: the best weights of a phase are there when it ends,
 * also after a resume, and are not taken from or given to other phases.
 */
#include "train/small_runs.h"

/* A rate so high that the loss gets worse again; evaluated after each epoch of 5 steps. */
#define RUN(until, phases)                                                                         \
    "seed = 3\n" SMALL_RESNET SMALL_DATA                                                           \
    "[train]\nexecutor = 'ref'\n[optimizer]\nname = 'sgd'\nlr = 0.3\nmomentum = 0.9\n"             \
    "[checkpoint]\nevery = 'off'\nkeep = 9\n[[phase]]\nname = 'a'\nepochs = 6\n" until phases

static const char restore[] =
    RUN("until = { metric = 'valid.loss', patience = 2, restore = true }\n",
        "[[phase]]\nname = 'b'\nsteps = 3\nlr = 0.001\n");
static const char plain[] = RUN("until = { metric = 'valid.loss', patience = 2 }\n", "");
static const char alone[] =
    RUN("until = { metric = 'valid.loss', patience = 2, restore = true }\n", "");

/* Weights at the best evaluation of the first phase. */
typedef struct best_log {
    const small_run *run;
    params_snapshot *weights;
    double loss;
    int64_t iteration, end;
} best_log;

static bool note_best(void *user, const thaw_event *e)
{
    best_log *log = user;

    if (e->kind == THAW_EVENT_PHASE_END && e->phase == 1)
        log->end = e->iteration;
    if (e->kind != THAW_EVENT_EVAL || e->phase != 1 || e->iteration == 0 || log->end)
        return true;
    if (!log->weights || e->loss < log->loss) {
        CHECK_OK(params_snapshot_take(&log->weights, log->run->job->params, false));
        log->loss = e->loss;
        log->iteration = e->iteration;
    }
    return true;
}

static void run_noted(small_run *r, best_log *log, const char *source, const char *data)
{
    small_open(r, source, data, NULL);
    *log = (best_log){.run = r};
    r->record.more = note_best;
    r->record.more_user = log;
    CHECK_OK(trainer_run(r->trainer));
}

static bool has_weights(const small_run *r, const params_snapshot *s)
{
    for (int i = 0; i < r->job->params->n; i++)
        if (memcmp(r->job->params->item[i].data, params_snapshot_data(s, i),
                   r->job->params->item[i].bytes) != 0)
            return false;
    return true;
}

static void test_best_weights_are_back(void **state)
{
    best_log log;
    small_run r;

    run_noted(&r, &log, alone, *state);
    CHECK_MSG(log.iteration < log.end, "the run should get worse: best at step %lld of %lld",
              (long long)log.iteration, (long long)log.end);
    CHECK(has_weights(&r, log.weights));
    CHECK_CONTAINS(r.record.words, "phase 'a': its best weights are back, those of step");
    CHECK_NEAR(r.record.eval[r.record.n_evals - 1].loss, log.loss, 0, 0);
    CHECK_NEAR(r.trainer->state.last_loss, log.loss, 0, 0);
    CHECK(r.trainer->phase_weights == NULL);
    params_snapshot_destroy(log.weights);
    small_close(&r);

    run_noted(&r, &log, plain, *state);
    CHECK(!has_weights(&r, log.weights));
    params_snapshot_destroy(log.weights);
    small_close(&r);
}

static thaw_status go(const char *source, const char *data, const char *run, small_record *r)
{
    const thaw_run_options options = {
        .run = run, .threads = 1, .on_event = small_listen, .user = r};
    thaw_recipe *recipe;
    thaw_status status;

    if (!source)
        return thaw_resume(&options);
    recipe = small_recipe(source, data);
    status = thaw_train(recipe, &options);
    thaw_recipe_destroy(recipe);
    return status;
}

/* Stopped anywhere: before there is a best, after it, at the very end of the phase, behind it. */
static void test_resume(void **state)
{
    small_record all = {0};
    char whole[512], run[512], name[64], last[64], path[512];

    CHECK_OK(go(restore, *state, small_path(whole, *state, "whole"), &all));
    (void)snprintf(last, sizeof last, "checkpoints/step-%06d/model.safetensors", all.n_steps);
    for (int stop = 1; stop < all.n_steps; stop++) {
        (void)snprintf(name, sizeof name, "stopped-%d", stop);
        small_path(run, *state, name);
        CHECK_STATUS(go(restore, *state, run, &(small_record){.stop_at = stop}), THAW_E_STOPPED);
        (void)snprintf(name, sizeof name, "checkpoints/step-%06d/phase_best.safetensors", stop);
        CHECK_INT(os_kind_of(small_path(path, run, name)),
                  stop >= 5 && stop < all.phase_end[0].iteration ? OS_FILE : OS_ABSENT);
        CHECK_OK(go(NULL, NULL, run, &(small_record){0}));
        small_same_files(whole, run, last);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_best_weights_are_back, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_resume, small_setup, small_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
