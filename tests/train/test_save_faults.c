/*
 * test_save_faults.c - a whole run, and a resumed one, each of whose file operations fails, falls
 * short, is interrupted, or is the last one of the process: an error or success, nothing left in
 * memory, every checkpoint that has its name whole, none of the older ones lost, and a resume that
 * ends at the bits of a run that nothing ever happened to.
 *
 * What training does and what the thread that saves does are counted apart, so that the numbers do
 * not depend on which of the two is faster. Every so manieth operation is tried, others for each
 * kind of fault; with THAW_EVERY_OPERATION=1 each of them.
 */
#include "small_runs.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "ckpt/saving.h"
#include "faults.h"

/* Saves with retention, best weights, a change of phase that keeps state, one that parks it. */
#define RECIPE                                                                                     \
    "[model]\narch = 'mlp'\nwidths = [64, 4, 3]\n" SMALL_DATA                                      \
    "prefetch = false\n[optimizer]\nname = 'adamw'\nclip_norm = 1\n"                               \
    "[train]\nexecutor = 'ref'\n[checkpoint]\nevery = '1 steps'\nkeep = 2\n"                       \
    "[[phase]]\nsteps = 2\nfreeze = 'backbone'\n"                                                  \
    "[[phase]]\nsteps = 2\nunfreeze = 'backbone'\noptimizer = 'keep'\n"                            \
    "[[phase]]\nsteps = 1\nfreeze = 'head'\noptimizer = 'keep'\non_freeze = 'park'\n"
#define LAST "checkpoints/step-000005/"

enum { STOPPED_AT = 2 };

static struct {
    char folder[512], whole[512], stopped[512];
    thaw_recipe *recipe;
} here;

/* ----------------------------------------------------------------------------------------------
 * runs */

static bool has_run(const char *run)
{
    char path[512];

    return os_kind_of(small_path(path, run, "recipe.toml")) == OS_FILE;
}

/* What a user does: begin, or go on with what was begun. */
static thaw_status train(const char *run)
{
    const thaw_run_options options = {.threads = 1, .run = run};

    return has_run(run) ? thaw_resume(&options) : thaw_train(here.recipe, &options);
}

static void train_to(const char *run, int64_t stop_at)
{
    small_record record = {.stop_at = stop_at};
    const thaw_run_options options = {
        .threads = 1, .run = run, .on_event = small_listen, .user = &record};

    CHECK_STATUS(thaw_train(here.recipe, &options), stop_at ? THAW_E_STOPPED : THAW_OK);
}

/* ----------------------------------------------------------------------------------------------
 * faults */

typedef struct fault {
    const char *name;
    int kind;
    bool forever;
} fault;

static const fault faults_tried[] = {
    {"EIO", EIO, false},           {"EIO for ever", EIO, true},
    {"ENOSPC", ENOSPC, false},     {"ENOSPC for ever", ENOSPC, true},
    {"short", FAULT_SHORT, false}, {"short for ever", FAULT_SHORT, true},
    {"EINTR", EINTR, false},       {"EINTR for ever", EINTR, true},
    {"exit", FAULT_EXIT, false},
};

/* One try: its words stand in every message. */
typedef struct attempt {
    const fault *fault;
    faults_of of;
    long n;
    bool resumed;
    char run[512], words[128];
} attempt;

/* Every checkpoint of the name of one is whole, and at least one is as new as those from before. */
static void check_checkpoints(const attempt *a)
{
    char path[512];
    ckpt_id *id = NULL;
    int count = 0;

    CHECK_OK(ckpt_list(&id, &count, small_path(path, a->run, "checkpoints")));
    for (int i = 0; i < count; i++) {
        char *one = ckpt_path(path, id[i]);

        CHECK_MSG(ckpt_verify(one) == THAW_OK, "%s: %s", a->words, thaw_error());
        thaw__free(one);
    }
    CHECK_MSG(!a->resumed || (count > 0 && id[0].step >= STOPPED_AT),
              "%s: older checkpoints are lost", a->words);
    thaw__free(id);
}

static void check_best(const attempt *a)
{
    char path[512];
    st_file *f = NULL;

    if (os_kind_of(small_path(path, a->run, "best/model.safetensors")) == OS_ABSENT)
        return;
    CHECK_MSG(st_open(&f, path) == THAW_OK, "%s: %s", a->words, thaw_error());
    st_close(f);
}

static void check_end(const attempt *a)
{
    static const char *const file[] = {LAST "model.safetensors", LAST "optimizer.safetensors",
                                       LAST "history.json", "best/model.safetensors"};

    CHECK_MSG(train(a->run) == THAW_OK, "%s: cannot go on: %s", a->words, thaw_error());
    for (size_t i = 0; i < THAW_COUNT(file); i++)
        small_same_files(here.whole, a->run, file[i]);
}

/* In this process; was the operation reached? */
static bool fail_at(attempt *a)
{
    const size_t before = thaw__mem_current();
    thaw_status status;
    bool reached;

    faults_arm(a->n, a->fault->kind, a->fault->forever);
    faults_only(a->of);
    status = train(a->run);
    reached = faults_disarm();
    CHECK_MSG(status == THAW_OK || reached, "%s: %s", a->words, thaw_error());
    CHECK_MSG(status == THAW_OK || (thaw_error()[0] && !strchr(thaw_error(), '\n')),
              "%s: the message is '%s'", a->words, thaw_error());
    CHECK_MSG(thaw__mem_current() == before, "%s: memory is left behind", a->words);
    return reached;
}

/* In a child that ends there. */
static bool end_at(const attempt *a)
{
    const pid_t child = fork();
    int result = 0;

    CHECK(child >= 0);
    if (child == 0) {
        faults_arm(a->n, FAULT_EXIT, false);
        faults_only(a->of);
        _exit(train(a->run) == THAW_OK ? 0 : 1);
    }
    CHECK(waitpid(child, &result, 0) == child);
    CHECK_MSG(WIFEXITED(result) && (WEXITSTATUS(result) == 99 || WEXITSTATUS(result) == 0),
              "%s: the process ended with %d", a->words, result);
    return WEXITSTATUS(result) == 99;
}

static bool try_once(attempt *a)
{
    bool reached;

    (void)small_path(a->run, here.folder, "run");
    (void)snprintf(a->words, sizeof a->words, "%s at operation %ld of %s, %s", a->fault->name, a->n,
                   a->of == FAULTS_OF_CALLER ? "training" : "saving",
                   a->resumed ? "resumed" : "begun");
    if (a->resumed)
        small_copy(here.stopped, a->run);
    reached = a->fault->kind == FAULT_EXIT ? end_at(a) : fail_at(a);
    check_checkpoints(a);
    check_best(a);
    check_end(a);
    check_folder_remove(strdup(a->run));
    return reached;
}

/* All kinds of faults of one thread's operations; kinds of one stride begin at different places. */
static void try_all(faults_of of, bool resumed)
{
    const char *const asked = getenv("THAW_EVERY_OPERATION");
    const long stride = asked && *asked != '0' ? 1 : 2 * (long)THAW_COUNT(faults_tried) + 1;
    long tries = 0, last = 0;

    for (size_t i = 0; i < THAW_COUNT(faults_tried); i++) {
        attempt a = {.fault = &faults_tried[i], .of = of, .resumed = resumed};
        bool more = true;

        for (a.n = 1 + (stride > 1 ? 2 * (long)i : 0); more; a.n += stride, tries++) {
            more = try_once(&a);
            last = THAW_MAX(last, a.n);
        }
    }
    print_message("%ld faults at operations 1 to %ld\n", tries, last);
}

static void test_faults_of_training(void **state)
{
    (void)state;
    try_all(FAULTS_OF_CALLER, false);
}

static void test_faults_of_saving(void **state)
{
    (void)state;
    try_all(FAULTS_OF_OTHERS, false);
}

static void test_faults_of_a_resumed_run(void **state)
{
    (void)state;
    try_all(FAULTS_OF_CALLER, true);
}

static void test_faults_of_saving_in_a_resumed_run(void **state)
{
    (void)state;
    try_all(FAULTS_OF_OTHERS, true);
}

/* ----------------------------------------------------------------------------------------------
 * the folder */

static int set_up(void **state)
{
    (void)small_setup(state);
    (void)snprintf(here.folder, sizeof here.folder, "%s", (const char *)*state);
    here.recipe = small_recipe(RECIPE, here.folder);
    train_to(small_path(here.whole, here.folder, "whole"), 0);
    train_to(small_path(here.stopped, here.folder, "stopped"), STOPPED_AT);
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
        cmocka_unit_test(test_faults_of_training),
        cmocka_unit_test(test_faults_of_saving),
        cmocka_unit_test(test_faults_of_a_resumed_run),
        cmocka_unit_test(test_faults_of_saving_in_a_resumed_run),
    };

    saving_in_memory();
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
