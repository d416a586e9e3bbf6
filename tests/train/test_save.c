/*
 * test_save.c - saving beside training: it does not stop a step, it saves what was there when it
 * was asked to, its failures are told and cost nothing but a checkpoint, and no bit depends on it.
 */
#include "train/small_runs.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "ckpt/saving.h"
#include "faults.h"

#define RECIPE                                                                                     \
    "seed = 3\n" SMALL_MLP "dropout = 0.25\n" SMALL_DATA                                           \
    "[train]\nexecutor = 'ref'\n[optimizer]\nname = 'adamw'\nlr = 0.01\n"                          \
    "[checkpoint]\nevery = '4 steps'\nkeep = 9\n"                                                  \
    "[[phase]]\nsteps = 10\nfreeze = ['backbone']\n"                                               \
    "[[phase]]\nsteps = 5\nunfreeze = ['.*']\noptimizer = 'keep'\n"
#define STEPS 15

static thaw_status begin(const char *source, const char *data, const char *run, small_record *r)
{
    thaw_recipe *recipe = small_recipe(source, data);
    const thaw_run_options options = {
        .run = run, .threads = 1, .on_event = small_listen, .user = r};
    const thaw_status status = thaw_train(recipe, &options);

    thaw_recipe_destroy(recipe);
    return status;
}

static void same_end(const char *a, const char *b)
{
    static const char *const file[] = {"checkpoints/step-000015/model.safetensors",
                                       "checkpoints/step-000015/optimizer.safetensors",
                                       "best/model.safetensors"};

    for (size_t i = 0; i < THAW_COUNT(file); i++)
        small_same_files(a, b, file[i]);
}

static int count_checkpoints(const char *run)
{
    char path[512];
    ckpt_id *id = NULL;
    int n = 0;

    CHECK_OK(ckpt_list(&id, &n, small_path(path, run, "checkpoints")));
    thaw__free(id);
    return n;
}

/* ----------------------------------------------------------------------------------------------
 * beside training */

/* A disk that takes nothing until training has come to a step. */
static struct slow {
    int64_t until;        /* step; 0: a disk like others */
    atomic_llong reached; /* step */
    atomic_bool waited;
    pthread_t trainer;
    bool in_vain;    /* it never came */
    bool interrupts; /* a signal could be taken by the thread that saves */
    bool on_trainer; /* the thread that trains put something on disk while it should not have */
} slow;

static int slow_fsync(int fd)
{
    sigset_t mask;

    if (slow.until == 0)
        return os_posix.fsync(fd);
    if (pthread_equal(pthread_self(), slow.trainer)) {
        slow.on_trainer = true;
        return os_posix.fsync(fd);
    }
    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
    slow.interrupts |= !sigismember(&mask, SIGTERM) || !sigismember(&mask, SIGINT);
    for (int i = 0; !slow.in_vain && atomic_load(&slow.reached) < slow.until; i++) {
        (void)usleep(1000);
        slow.in_vain = i == 20000;
    }
    atomic_store(&slow.waited, true);
    return os_posix.fsync(fd);
}

static bool note_reached(void *user, const thaw_event *e)
{
    (void)user;
    if (e->kind == THAW_EVENT_RUN)
        slow.until = 7; /* what comes before is the folder's own */
    if (e->kind == THAW_EVENT_STEP)
        atomic_store(&slow.reached, e->iteration);
    return true;
}

static void test_training_goes_on(void **state)
{
    char whole[512], run[512], source[4096];
    os_table table = os_posix;
    small_record quick = {0}, r = {.more = note_reached};

    /* best weights would be saved before, and the checkpoint would wait for them */
    (void)small_replace(source, RECIPE, "executor = 'ref'",
                        "executor = 'ref'\neval_at_start = false\neval_every = 0");
    CHECK_OK(begin(source, *state, small_path(whole, *state, "whole"), &quick));
    slow = (struct slow){.trainer = pthread_self()};
    table.fsync = slow_fsync;
    os_install(&table);
    CHECK_OK(begin(source, *state, small_path(run, *state, "run"), &r));
    os_install(NULL);
    CHECK_MSG(!slow.in_vain, "training did not go on while a checkpoint was being written");
    CHECK_MSG(atomic_load(&slow.waited), "nothing was saved on another thread");
    CHECK_MSG(!slow.on_trainer, "the thread that trains waited for the disk");
    CHECK_MSG(!slow.interrupts, "the thread that saves takes signals");
    CHECK_INT(r.n_steps, STEPS);
    CHECK_INT(r.n_saves, quick.n_saves);
    CHECK_INT(count_checkpoints(run), count_checkpoints(whole));
    /* the weights of step 4, though written when step 7 was done */
    small_same_files(whole, run, "checkpoints/step-000004/model.safetensors");
    small_same_files(whole, run, "checkpoints/step-000004/optimizer.safetensors");
    small_same_files(whole, run, "checkpoints/step-000010/model.safetensors");
    same_end(whole, run);
}

/* However often it is saved, or not at all, the run is the same; each save that steps ask for is
 * made. */
static void test_how_often_does_not_matter(void **state)
{
    char whole[512], run[512], source[4096];
    small_record a = {0}, b = {0}, none = {0};

    CHECK_OK(begin(RECIPE, *state, small_path(whole, *state, "whole"), &a));
    (void)small_replace(source, RECIPE, "'4 steps'\nkeep = 9", "1\nkeep = 99");
    CHECK_OK(begin(source, *state, small_path(run, *state, "often"), &b));
    CHECK_INT(b.n_saves, STEPS);
    CHECK_INT(count_checkpoints(run), STEPS);
    same_end(whole, run);
    CHECK_OK(begin(source, *state, NULL, &none));
    CHECK_INT(none.n_saves, 0);
    for (int i = 0; i < STEPS; i++) {
        CHECK_MSG(a.step[i].loss == b.step[i].loss, "step %d: %.17g, %.17g", i + 1, a.step[i].loss,
                  b.step[i].loss);
        CHECK_MSG(a.step[i].loss == none.step[i].loss, "step %d: %.17g, %.17g", i + 1,
                  a.step[i].loss, none.step[i].loss);
    }
}

/* SPEC: before layers thaw, what was saved before is on disk; a save at a boundary has the weights
 * of the old phase and the phase state of the new one. */
static bool look_at_boundary(void *user, const thaw_event *e)
{
    const char *run = user;
    char path[512];
    outlook *o = NULL;

    if (e->kind != THAW_EVENT_PHASE || e->phase != 2)
        return true;
    CHECK_OK(ckpt_verify(small_path(path, run, "checkpoints/step-000010")));
    CHECK_OK(outlook_open(&o, path));
    CHECK_INT(outlook_phase(o), 1);
    outlook_close(o);
    return true;
}

static void test_boundary(void **state)
{
    char run[512];
    small_record r = {.more = look_at_boundary, .more_user = run};

    CHECK_OK(begin(RECIPE, *state, small_path(run, *state, "run"), &r));
    CHECK_INT(r.n_phases, 2);
}

/* ----------------------------------------------------------------------------------------------
 * failing */

/* A checkpoint of this name, or of any, cannot be committed: the rename fails. */
static const char *fail_name;

static int failing_rename_new(int old_dir, const char *old_path, int new_dir, const char *new_path)
{
    if (strncmp(new_path, fail_name, strlen(fail_name)) == 0) {
        errno = ENOSPC;
        return -1;
    }
    return os_posix.rename_new(old_dir, old_path, new_dir, new_path);
}

typedef struct failures {
    int n;
    char text[512];
    int64_t iteration;
} failures;

static bool note_failure(void *user, const thaw_event *e)
{
    failures *f = user;

    if (e->kind == THAW_EVENT_SAVE_FAILED) {
        f->n++;
        f->iteration = e->iteration;
        (void)snprintf(f->text, sizeof f->text, "%s", e->text);
    }
    return true;
}

static thaw_status run_failing(const char *data, const char *run, const char *name, failures *f)
{
    os_table table = os_posix;
    small_record r = {.more = note_failure, .more_user = f};
    thaw_status status;

    fail_name = name;
    table.rename_new = failing_rename_new;
    os_install(&table);
    status = begin(RECIPE, data, run, &r);
    os_install(NULL);
    CHECK_INT(r.n_steps, STEPS);
    return status;
}

static void test_failure_is_told(void **state)
{
    char whole[512], run[512];
    failures f = {0};

    CHECK_OK(begin(RECIPE, *state, small_path(whole, *state, "whole"), &(small_record){0}));
    CHECK_OK(run_failing(*state, small_path(run, *state, "run"), "step-000004", &f));
    CHECK_INT(f.n, 1);
    CHECK_CONTAINS(f.text, "the checkpoint of step 4 could not be saved");
    CHECK_CONTAINS(f.text, "No space left on device");
    CHECK(f.iteration >= 4 && f.iteration <= 8);
    CHECK_INT(count_checkpoints(run), count_checkpoints(whole) - 1);
    same_end(whole, run);
}

/* What cannot be saved at the end is an error, whatever came before. */
static void test_failure_at_the_end(void **state)
{
    char run[512];
    failures f = {0};

    CHECK_ERROR(run_failing(*state, small_path(run, *state, "run"), "step-", &f), THAW_E_IO,
                "commit checkpoint 'step-000015'");
    CHECK_INT(f.n, 6); /* at 4, 8, 10, 12, and twice at 15 */
    CHECK_INT(count_checkpoints(run), 0);
    CHECK_STATUS(thaw_resume(&(thaw_run_options){.run = run, .threads = 1}), THAW_OK);
}

/* best/ cannot be made: the run ends, and says so. */
static void test_best_that_cannot_be_saved(void **state)
{
    char run[512], path[512];
    failures f = {0};
    small_record r = {.more = note_failure, .more_user = &f};

    small_path(run, *state, "run");
    CHECK(mkdir(run, 0755) == 0);
    check_write_file(small_path(path, run, "best"), "", 0);
    CHECK_ERROR(begin(RECIPE, *state, run, &r), THAW_E_CREATE, "the best weights");
    CHECK_CONTAINS(f.text, "the best weights of step");
    CHECK_INT(r.n_steps, STEPS);
    CHECK(count_checkpoints(run) > 0);
}

/* Short of memory for the copy: a save that failed like others. */
static void test_no_memory_for_the_copy(void **state)
{
    char run[512];
    small_run r;
    failures f = {0};

    small_open(&r, RECIPE, *state, NULL);
    r.options.run = small_path(run, *state, "run");
    CHECK_OK(os_make_folders(run));
    r.record.more = note_failure;
    r.record.more_user = &f;
    CHECK_OK(saver_create(&r.trainer->saver, r.trainer));
    for (int n = 1; n < 200; n++) {
        check_alloc_fail(n, false);
        save_checkpoint(r.trainer);
        if (!check_alloc_restore())
            break;
        save_wait(r.trainer);
        CHECK_MSG(f.n == n || count_checkpoints(run) == 1, "allocation %d", n);
        if (f.n < n) /* what is only said of the run's origin may be left out */
            break;
        CHECK_CONTAINS(f.text, "out of memory");
    }
    save_wait(r.trainer);
    CHECK_INT(count_checkpoints(run), 1);
    CHECK(f.n > 3);
    small_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_training_goes_on, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_how_often_does_not_matter, small_setup,
                                        small_teardown),
        cmocka_unit_test_setup_teardown(test_boundary, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_failure_is_told, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_failure_at_the_end, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_best_that_cannot_be_saved, small_setup,
                                        small_teardown),
        cmocka_unit_test_setup_teardown(test_no_memory_for_the_copy, small_setup, small_teardown),
    };

    saving_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
