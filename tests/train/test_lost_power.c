/*
 * test_lost_power.c - a run whose power goes: every file operation of training and saving is
 * recorded, and states that a disk could be left in are given to a resume. It must begin at a
 * checkpoint no older than the last one that was told to be saved, know every step before it, and
 * end at the bits of a run that nothing ever happened to.
 *
 * The test is tested: the fsyncs of each file and folder are left out, and that must be noticed.
 */
#include "small_runs.h"

#include <jansson.h>

#include "ckpt/saving.h"
#include "lost_power.h"

/* Saves with retention, best weights, a change of phase that keeps state, one that parks it. */
#define RECIPE                                                                                     \
    "[model]\narch = 'mlp'\nwidths = [64, 4, 3]\n" SMALL_DATA                                      \
    "prefetch = false\n[optimizer]\nname = 'adamw'\nclip_norm = 1\n"                               \
    "[train]\nexecutor = 'ref'\n[checkpoint]\nevery = '1 steps'\nkeep = 2\n"                       \
    "[[phase]]\nsteps = 2\nfreeze = 'backbone'\n"                                                  \
    "[[phase]]\nsteps = 2\nunfreeze = 'backbone'\noptimizer = 'keep'\n"                            \
    "[[phase]]\nsteps = 1\nfreeze = 'head'\noptimizer = 'keep'\non_freeze = 'park'\n"
#define LAST "checkpoints/step-000005/"

enum { STEPS = 5, STOPPED_AT = 2, FINISHED = 1000, WORDS = 700 };

static struct {
    char folder[512], whole[512], stopped[512];
    thaw_recipe *recipe;
    double loss[STEPS];
} here;

/* ----------------------------------------------------------------------------------------------
 * runs */

/* What a run tells that is of interest here. */
typedef struct listener {
    int64_t stop_at; /* step; 0: never */
    int64_t begun_at;
    bool recorded;
} listener;

static bool listen(void *user, const thaw_event *e)
{
    listener *l = user;
    const char *step = e->kind == THAW_EVENT_SAVE ? strrchr(e->text, '-') : NULL;

    if (e->kind == THAW_EVENT_RUN)
        l->begun_at = e->iteration;
    if (step && l->recorded)
        lost_promise(atoll(step + 1));
    return !(e->kind == THAW_EVENT_STEP && e->iteration == l->stop_at);
}

/* What a user does: begin, or go on with what was begun. */
static thaw_status train(const char *run, listener *l)
{
    const thaw_run_options options = {.threads = 1, .run = run, .on_event = listen, .user = l};
    char path[512];

    return os_kind_of(small_path(path, run, "recipe.toml")) == OS_FILE
               ? thaw_resume(&options)
               : thaw_train(here.recipe, &options);
}

/* Losses of the steps in a run's history. False, and why, where a step is not there once. */
static bool read_losses(double loss[STEPS], char why[WORDS], const char *run)
{
    char path[512], *rest = NULL;
    char *all = check_read_file(NULL, small_path(path, run, "events.jsonl"));
    int n = 0;

    why[0] = '\0';
    for (char *line = strtok_r(all, "\n", &rest); line && !why[0];
         line = strtok_r(NULL, "\n", &rest)) {
        json_t *e = json_loads(line, 0, NULL);
        const char *kind = json_string_value(json_object_get(e, "event"));
        const int64_t step = json_integer_value(json_object_get(e, "iteration"));

        if (!kind)
            snprintf(why, WORDS, "the history holds the line '%.100s'", line);
        else if (strcmp(kind, "step") == 0 && step != n + 1)
            snprintf(why, WORDS, "step %lld stands in the history after step %d", (long long)step,
                     n);
        else if (strcmp(kind, "step") == 0 && n < STEPS)
            loss[n++] = json_number_value(json_object_get(e, "loss"));
        json_decref(e);
    }
    if (!why[0] && n != STEPS)
        snprintf(why, WORDS, "the history ends with step %d", n);
    free(all);
    return !why[0];
}

static bool same_file(char why[WORDS], const char *run, const char *name)
{
    char path[512];
    size_t n = 0, m = 0;
    char *want = check_read_file(&n, small_path(path, here.whole, name)), *got = NULL;
    bool same;

    if (os_kind_of(small_path(path, run, name)) == OS_FILE)
        got = check_read_file(&m, path);
    same = got && n == m && memcmp(want, got, n) == 0;
    if (!same)
        snprintf(why, WORDS, "'%s' is %s", name, got ? "not what it should be" : "not there");
    free(want);
    free(got);
    return same;
}

/* ----------------------------------------------------------------------------------------------
 * what must hold */

/* A run that was told to be finished is there as it stands. */
static void judge_finished(char why[WORDS], const char *run)
{
    static const char *const file[] = {"recipe.toml",
                                       "best/config.json",
                                       "best/history.json",
                                       "best/model.safetensors",
                                       LAST "model.safetensors",
                                       LAST "optimizer.safetensors"};
    char path[512];
    text rows = TEXT_INIT;

    for (size_t i = 0; i < THAW_COUNT(file); i++)
        if (!same_file(why, run, file[i]))
            return;
    if (rows_read(&rows, small_path(path, run, "best"), PROVENANCE_NAME) != THAW_OK ||
        rows.length == 0)
        snprintf(why, WORDS, "'best/" PROVENANCE_NAME "' is not what it should be");
    text_done(&rows);
}

/* What is wrong with this state, or "". */
static void judge(char why[WORDS], const lost_disk *d, const char *run, int64_t had)
{
    static const char *const file[] = {LAST "model.safetensors", LAST "optimizer.safetensors",
                                       LAST "history.json", "best/model.safetensors"};
    int64_t promise[16] = {0};
    const int n = lost_promised(promise, d, had);
    const bool finished = n > 0 && promise[n - 1] == FINISHED;
    const int64_t newest = n == 0 ? 0 : finished ? STEPS : promise[n - 1];
    double loss[STEPS];
    listener l = {.begun_at = -1};

    why[0] = '\0';
    if (finished)
        judge_finished(why, run);
    if (why[0])
        return;
    if (train(run, &l) != THAW_OK)
        snprintf(why, WORDS, "cannot go on: %s", thaw_error());
    else if (l.begun_at < newest)
        snprintf(why, WORDS, "goes on from step %lld", (long long)l.begun_at);
    else if (read_losses(loss, why, run) && memcmp(loss, here.loss, sizeof loss) != 0)
        snprintf(why, WORDS, "a loss differs");
    for (size_t i = 0; i < THAW_COUNT(file) && !why[0]; i++)
        (void)same_file(why, run, file[i]);
    if (why[0] && n > 0) {
        const size_t used = strlen(why);

        snprintf(why + used, WORDS - used, ", though step %lld was promised", (long long)newest);
    }
}

/* ----------------------------------------------------------------------------------------------
 * scenarios */

typedef struct scenario {
    const char *name;
    bool resumed;
} scenario;

static const scenario scenarios[] = {{"begun", false}, {"resumed", true}};

/* Train while everything is recorded. */
static void record(const scenario *s, const char *root, const char *skip_site)
{
    char run[512];
    listener l = {.recorded = true};

    (void)small_path(run, root, "run");
    if (s->resumed)
        small_copy(here.stopped, run);
    lost_record(root, 0, skip_site);
    CHECK_OK(train(run, &l));
    lost_promise(FINISHED);
    lost_record_end();
}

static void try_state(char why[WORDS], const lost_disk *d, const scenario *s, const char *made)
{
    char state[512], run[512];

    (void)small_path(state, made, "s");
    (void)small_path(run, state, "run");
    lost_make(d, state);
    judge(why, d, run, s->resumed ? STOPPED_AT : 0);
    (void)nftw(state, check_folder_remove_one, 32, FTW_DEPTH | FTW_PHYS);
}

/* The states right after each promise in which all that was not put on disk is lost, but for names
 * in half of them; until something is wrong. */
static void try_worst(char why[WORDS], const scenario *s, const char *made)
{
    static lost_disk d;

    why[0] = '\0';
    for (int i = lost.n - 1; i >= 0 && !why[0]; i--) {
        if (lost.event[i].kind != LOST_PROMISE)
            continue;
        lost_choose_worst(&d, i + 1, false);
        try_state(why, &d, s, made);
        if (why[0])
            return;
        lost_choose_worst(&d, i + 1, true);
        try_state(why, &d, s, made);
    }
}

/* ----------------------------------------------------------------------------------------------
 * tests */

/* THAW_RUN_POWERLOSS_STATES asks for more than the ordinary number of states. */
static long states_wanted(void)
{
    const char *asked = getenv("THAW_RUN_POWERLOSS_STATES");

    return asked ? atol(asked) : 600;
}

static void test_states(void **state)
{
    static lost_disk d;
    char why[WORDS];

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(scenarios); i++) {
        const scenario *s = &scenarios[i];
        char *root = check_folder(), *made = check_folder();

        record(s, root, NULL);
        try_worst(why, s, made);
        CHECK_MSG(!why[0], "%s: %s", s->name, why);
        for (long n = states_wanted() / (long)THAW_COUNT(scenarios); n > 0; n--) {
            lost_choose(&d);
            try_state(why, &d, s, made);
            CHECK_MSG(!why[0], "%s: %s", s->name, why);
        }
        lost_free();
        check_folder_remove(root);
        check_folder_remove(made);
    }
}

/* The fsyncs of this file or folder are left out. */
static void leave_out(const scenario *s, const char *site)
{
    char *root = check_folder(), *made = check_folder(), why[WORDS];

    record(s, root, site);
    try_worst(why, s, made);
    CHECK_MSG(why[0], "%s: leaving out each fsync of '%s' goes unnoticed", s->name, site);
    lost_free();
    check_folder_remove(root);
    check_folder_remove(made);
}

static void test_each_fsync_matters(void **state)
{
    const scenario *s = &scenarios[0];
    char *root = check_folder();
    static char site[LOST_MOST_SITES][LOST_NAME];
    int n;

    (void)state;
    record(s, root, NULL);
    n = lost.n_sites;
    memcpy(site, lost.site, sizeof site);
    lost_free();
    check_folder_remove(root);
    CHECK_MSG(n >= 15, "only %d files and folders", n);
    for (int i = 0; i < n; i++)
        leave_out(s, site[i]);
}

static int set_up(void **state)
{
    listener l = {0}, short_one = {.stop_at = STOPPED_AT};
    char why[WORDS];

    (void)small_setup(state);
    (void)snprintf(here.folder, sizeof here.folder, "%s", (const char *)*state);
    here.recipe = small_recipe(RECIPE, here.folder);
    CHECK_OK(train(small_path(here.whole, here.folder, "whole"), &l));
    CHECK_STATUS(train(small_path(here.stopped, here.folder, "stopped"), &short_one),
                 THAW_E_STOPPED);
    CHECK_MSG(read_losses(here.loss, why, here.whole), "%s", why);
    return 0;
}

static int tear_down(void **state)
{
    thaw_recipe_destroy(here.recipe);
    return small_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_each_fsync_matters),
    };

    saving_in_memory();
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
