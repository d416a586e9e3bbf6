/*
 * test_job.c - a run put together: the schedule's mistakes with their places in the recipe, lengths
 * in every unit, batches and warm-ups of phases, and that the phase state at a step is the same
 * however the run came there.
 */
#include "train/small_runs.h"

#define SGD "[optimizer]\nname = 'sgd'\nlr = 0.1\n"

/* ----------------------------------------------------------------------------------------------
 * mistakes, before anything runs */

#define TOP     SMALL_MLP SMALL_DATA
#define FREEZE  "freeze = [{ module = 'nothing.*' }]\n"
#define PATTERN "[module_patterns]\nhead = ['head.*']\n"
#define PHASES  "[[phase]]\nsteps = 4\n"
#define STAGE   "[[freeze_schedule]]\n"

static const struct {
    const char *source, *error;
} mistake[] = {
    /* [model] has 3 lines, [data] 6 */
    {TOP PHASES "freeze = ['backbone', 'none']\n",
     "r.toml:12:23: phase 'phase 1': pattern 'none' matches no layer"},
    {TOP PHASES "[[phase]]\nsteps = 2\nunfreeze = 'hed'\n", "r.toml:14:12: phase 'phase 2': "},
    {TOP PHASES "lr_coefficients = { hed = 0.5 }\n", "r.toml:12:21: phase 'phase 1': "},
    {TOP PHASES "lr_coefficients = { head = 0.5 }\n[[phase]]\nsteps = 1\nfreeze = '('\n",
     "r.toml:15:10: phase 'phase 2': "},
    {FREEZE TOP PHASES, "r.toml:1:22: 'nothing.*' is no alias and matches no parameter"},
    {TOP PHASES PATTERN STAGE "start_step = 2\nspecs = [{ module = 'hed' }]\n",
     "r.toml:16:21: stage at step 2: 'hed' is no alias and matches no parameter"},
    {TOP PHASES STAGE "start_step = 5\nspecs = [{ module = 'head.*' }]\n",
     "r.toml:13:14: stage at step 5: it is beyond the end; the schedule has 4 steps"},
    {TOP PHASES STAGE "start_step = 1\nspecs = [{ module = 'head.*' },\n"
                      "{ module = 'head.*', frozen = false }]\n",
     "r.toml:15:12: stage at step 1: 'head.*' is asked for two different things at once"},
    {TOP PHASES STAGE "start_step = 1\nspecs = [{ module = 'a' }, { module = 'b' }]\n" STAGE
                      "start_step = 9\nspecs = []\n",
     "r.toml:14:21: stage at step 1: 'a' is no alias and matches no parameter\n"
     "r.toml:14:39: stage at step 1: 'b' is no alias and matches no parameter\n"
     "r.toml:16:14: stage at step 9: it is beyond the end"},
};

static void mistakes_have_places(void **state)
{
    for (size_t i = 0; i < THAW_COUNT(mistake); i++) {
        thaw_recipe *r = small_recipe(mistake[i].source, *state);
        const thaw_run_options options = {.threads = 1};
        job *j = NULL;

        CHECK_MSG(job_open(&j, r, &options, NULL, JOB_DATA) != THAW_OK, "mistake %zu is not seen",
                  i);
        CHECK_CONTAINS(thaw_error(), mistake[i].error);
        CHECK(j == NULL);
        thaw_recipe_destroy(r);
    }
}

/* ----------------------------------------------------------------------------------------------
 * lengths and batches */

static void spans(const char *source, const char *folder, const int64_t *want, int n)
{
    const thaw_progress start = {0};
    int64_t begin, end = 0;
    small_run r;

    small_open(&r, source, folder, NULL);
    CHECK_INT(thaw_schedule_n_phases(r.job->schedule), n);
    for (int p = 0; p < n; p++) {
        thaw_schedule_phase_span(&begin, &end, r.job->schedule, &start, p);
        CHECK_MSG(end - begin == want[p], "phase %d has %lld steps, expected %lld", p + 1,
                  (long long)(end - begin), (long long)want[p]);
    }
    small_close(&r);
}

/* 18 samples. Batch 4 makes 5 batches an epoch, 3 makes 6, 7 makes 3. */
static void lengths_follow_the_batch(void **state)
{
    spans(TOP SGD "[[phase]]\nepochs = 2\n[[phase]]\nepochs = 2\nbatch = 3\n"
                  "[[phase]]\nepochs = 1\nbatch = 7\n[[phase]]\nsteps = 9\nbatch = 1\n",
          *state, (const int64_t[]){10, 12, 3, 9}, 4);
    spans(TOP SGD "accumulate = 2\n[[phase]]\nepochs = 2\n[[phase]]\nepochs = 2\nbatch = 7\n",
          *state, (const int64_t[]){6, 4}, 2);
    spans(TOP SGD "[[phase]]\nsamples = 16\n[[phase]]\nsamples = 17\n"
                  "[[phase]]\nsamples = 17\nbatch = 9\n",
          *state, (const int64_t[]){4, 5, 2}, 3);
    spans(TOP SGD "accumulate = 3\n[[phase]]\nsamples = 24\n[[phase]]\nsamples = 25\n", *state,
          (const int64_t[]){2, 3}, 2);
}

/* Each batch begins where the one before ended, whatever their sizes. */
static void batches_go_on_where_they_were(void **state)
{
    static const int64_t at[] = {4, 8, 11, 14, 17, 18, 18 + 12, 36, 40, 44};
    small_run r;

    small_open(&r,
               TOP SGD "[[phase]]\nsteps = 2\n[[phase]]\nsteps = 4\nbatch = 3\n"
                       "[[phase]]\nepochs = 1\nbatch = 12\n[[phase]]\nsteps = 2\n",
               *state, NULL);
    CHECK_OK(trainer_run(r.trainer));
    CHECK_INT(r.record.n_steps, 10);
    for (int i = 0; i < 10; i++)
        CHECK_NEAR(r.record.step[i].epoch, (double)at[i] / 18, 1e-12, 0);
    CHECK_INT(r.trainer->state.images, 44);
    small_close(&r);
}

/* A squared error keeps targets for the largest batch. */
static void larger_batches_have_targets(void **state)
{
    small_run r;

    small_open(&r,
               TOP SGD "[loss]\nname = 'mse'\n[[phase]]\nsteps = 1\nbatch = 1\n"
                       "[[phase]]\nsteps = 1\nbatch = 18\n",
               *state, NULL);
    CHECK_OK(trainer_run(r.trainer));
    small_close(&r);
}

/* ----------------------------------------------------------------------------------------------
 * the same however the run came there */

#define VARIED                                                                                     \
    "seed = 2\n" SMALL_RESNET SMALL_DATA                                                           \
    "shift = 1\n[train]\nexecutor = 'ref'\n[optimizer]\nname = 'adam'\nlr = 0.01\n"                \
    "[checkpoint]\nevery = 'off'\nkeep = 20\n"                                                     \
    "[[freeze_schedule]]\nstart_step = 4\nspecs = [{ module = 'layer1.*' }]\n"                     \
    "[[freeze_schedule]]\nstart_step = 9\nspecs = [{ module = 'layer1.*', frozen = false }]\n"     \
    "[[phase]]\nsteps = 3\n" SMALL_BACKBONE                                                        \
    "[[phase]]\nepochs = 1\nbatch = 7\nunfreeze = ['layer4', 'layer1']\nthaw_warmup = 2\n"         \
    "optimizer = 'keep'\n"                                                                         \
    "[[phase]]\nsteps = 4\nbatch = 5\nunfreeze = '.*'\nlr_coefficients = { layer2 = 0.5 }\n"       \
    "thaw_warmup = 10\noptimizer = 'keep'\n"
#define VARIED_STEPS 10

/* What was in force at each step. */
typedef struct force {
    const small_run *run;
    uint64_t digest[VARIED_STEPS + 1];
    bool trainable[VARIED_STEPS + 1][128];
    double lr_least[VARIED_STEPS + 1], lr_most[VARIED_STEPS + 1], loss[VARIED_STEPS + 1];
} force;

static bool note_force(void *user, const thaw_event *e)
{
    force *f = user;

    if (e->kind != THAW_EVENT_STEP)
        return true;
    CHECK(f->run->job->params->n_trained <= 128);
    f->digest[e->iteration] = f->run->trainer->effect->digest;
    memcpy(f->trainable[e->iteration], f->run->trainer->effect->trainable,
           (size_t)f->run->job->params->n_trained);
    f->lr_least[e->iteration] = e->lr_least;
    f->lr_most[e->iteration] = e->lr_most;
    f->loss[e->iteration] = e->loss;
    return true;
}

static void open_noted(small_run *r, force *f, const char *source, const char *folder)
{
    small_open(r, source, folder, NULL);
    f->run = r;
    r->record.more = note_force;
    r->record.more_user = f;
}

static void same_force(const force *a, const force *b, int from, int to)
{
    for (int k = from; k <= to; k++) {
        CHECK_MSG(a->digest[k] == b->digest[k], "another effect at step %d", k);
        CHECK(memcmp(a->trainable[k], b->trainable[k], sizeof a->trainable[k]) == 0);
        CHECK_NEAR(b->lr_least[k], a->lr_least[k], 0, 0);
        CHECK_NEAR(b->lr_most[k], a->lr_most[k], 0, 0);
        CHECK_NEAR(b->loss[k], a->loss[k], 0, 0);
    }
}

static void every_resume_point_is_the_same(void **state)
{
    static force whole, part;
    char checkpoint[512], name[64];
    small_run w, r;

    open_noted(&w, &whole, VARIED, *state);
    CHECK_OK(trainer_run(w.trainer));
    for (int stop = 1; stop < VARIED_STEPS; stop++) {
        char run[512];

        (void)snprintf(name, sizeof name, "stop-%d", stop);
        open_noted(&r, &part, VARIED, *state);
        r.options.run = small_path(run, *state, name);
        CHECK_OK(os_make_folders(run));
        r.record.stop_at = stop;
        CHECK_STATUS(trainer_run(r.trainer), THAW_E_STOPPED);
        same_force(&whole, &part, 1, stop);
        small_close(&r);

        (void)snprintf(name, sizeof name, "checkpoints/step-%06d", stop);
        small_path(checkpoint, run, name);
        part = (force){0};
        small_open(&r, VARIED, *state, NULL);
        small_close(&r);
        r = (small_run){.recipe = small_recipe(VARIED, *state)};
        r.options = (thaw_run_options){.threads = 1, .on_event = small_listen, .user = &r.record};
        part.run = &r;
        r.record.more = note_force;
        r.record.more_user = &part;
        CHECK_OK(job_open(&r.job, r.recipe, &r.options, checkpoint, JOB_DATA | JOB_EXEC));
        CHECK_OK(trainer_create(&r.trainer, r.job));
        CHECK_OK(state_load(r.trainer, checkpoint));
        CHECK_OK(trainer_run(r.trainer));
        same_force(&whole, &part, stop + 1, VARIED_STEPS);
        small_same_tensors(&w, &r);
        small_close(&r);
    }
    small_close(&w);
}

/* ----------------------------------------------------------------------------------------------
 * rates */

/* The rate of what thaws rises by equal steps; what trained before keeps its own. */
static void thawed_layers_warm_up(void **state)
{
    static const double want[] = {0.1 / 4, 0.2 / 4, 0.3 / 4, 0.1, 0.1};
    static force f;
    small_run r;

    open_noted(&r, &f,
               TOP SGD "[[phase]]\nsteps = 2\nfreeze = 'backbone'\n"
                       "[[phase]]\nsteps = 5\nunfreeze = 'backbone'\nthaw_warmup = 3\n"
                       "[[phase]]\nsteps = 1\nthaw_warmup = 3\n",
               *state);
    CHECK_OK(trainer_run(r.trainer));
    for (int k = 0; k < 5; k++) {
        CHECK_NEAR(f.lr_least[3 + k], want[k], 1e-12, 0);
        CHECK_NEAR(f.lr_most[3 + k], 0.1, 1e-12, 0);
    }
    CHECK_NEAR(f.lr_least[2], 0.1, 1e-12, 0);
    CHECK_NEAR(f.lr_least[8], 0.1, 1e-12, 0);
    small_close(&r);
}

/* The first step of plain SGD with thaw_warmup = 3 is a quarter of the one without. */
static void warm_up_scales_the_step(void **state)
{
    static const char *const warmup[] = {"", "thaw_warmup = 3\n"};
    params_snapshot *before = NULL;
    small_run r[2];

    for (int i = 0; i < 2; i++) {
        text source = TEXT_INIT;

        text_addf(&source, "%s%s",
                  TOP SGD SMALL_REF_F64
                  "[[phase]]\nsteps = 0\nfreeze = 'backbone'\n[[phase]]\nsteps = 1\n"
                  "unfreeze = 'backbone'\n",
                  warmup[i]);
        small_open(&r[i], source.data, *state, NULL);
        CHECK_OK(params_snapshot_take(&before, r[i].job->params, false));
        CHECK_OK(trainer_run(r[i].trainer));
        text_done(&source);
    }
    for (int i = 0; i < r[0].job->params->n_trained; i++) {
        const param *full = &r[0].job->params->item[i], *slow = &r[1].job->params->item[i];
        const double factor = r[1].trainer->effect->thawed[i] ? 0.25 : 1;
        const double *start = params_snapshot_data(before, i);

        CHECK_INT(r[1].trainer->effect->thawed[i], strncmp(full->name, "backbone", 8) == 0);
        for (size_t k = 0; k < full->elements; k++)
            CHECK_NEAR(((const double *)slow->data)[k] - start[k],
                       factor * (((const double *)full->data)[k] - start[k]), 1e-9, 1e-15);
    }
    params_snapshot_destroy(before);
    small_close(&r[0]);
    small_close(&r[1]);
}

/* A coefficient changed while the curve runs gives the rate that it would have had from the start.
 */
static void coefficients_commute_with_the_curve(void **state)
{
#define CURVE TOP SGD "[schedule]\nname = 'cosine'\nwarmup = 2\n"
#define SLOW  "lr_coefficients = { head = 0.3 }\n"
#define KEEP  "optimizer = 'keep'\n"
    static force early, late, back;
    small_run r;

    open_noted(&r, &early, CURVE "[[phase]]\nsteps = 8\n" SLOW, *state);
    CHECK_OK(trainer_run(r.trainer));
    small_close(&r);
    open_noted(&r, &late, CURVE "[[phase]]\nsteps = 3\n[[phase]]\nsteps = 5\n" KEEP SLOW, *state);
    CHECK_OK(trainer_run(r.trainer));
    small_close(&r);
    open_noted(&r, &back,
               CURVE "[[phase]]\nsteps = 3\nlr_coefficients = { head = 0.7 }\n"
                     "[[phase]]\nsteps = 2\n" KEEP SLOW
                     "[[phase]]\nsteps = 3\nlr_coefficients = { head = 1 }\n" KEEP,
               *state);
    CHECK_OK(trainer_run(r.trainer));
    small_close(&r);
    for (int k = 1; k <= 8; k++) {
        CHECK_NEAR(early.lr_least[k], 0.3 * early.lr_most[k], 1e-15, 0);
        CHECK_NEAR(late.lr_most[k], early.lr_most[k], 0, 0);
        CHECK_NEAR(late.lr_least[k], k <= 3 ? late.lr_most[k] : early.lr_least[k], 0, 0);
        CHECK_NEAR(back.lr_most[k], early.lr_most[k], 0, 0);
        CHECK_NEAR(back.lr_least[k], (k <= 3 ? 0.7 : k <= 5 ? 0.3 : 1) * back.lr_most[k], 1e-15, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_have_places),
        cmocka_unit_test(lengths_follow_the_batch),
        cmocka_unit_test(batches_go_on_where_they_were),
        cmocka_unit_test(larger_batches_have_targets),
        cmocka_unit_test(every_resume_point_is_the_same),
        cmocka_unit_test(thawed_layers_warm_up),
        cmocka_unit_test(warm_up_scales_the_step),
        cmocka_unit_test(coefficients_commute_with_the_curve),
    };

    return cmocka_run_group_tests(tests, small_setup, small_teardown);
}
