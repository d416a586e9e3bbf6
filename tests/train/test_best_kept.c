/*
 * test_best_kept.c - best weights that could not be written, or that were lost, are in best/ again
 * after the next save or resume, with the bits that they would have had; and where a run goes on
 * from does not change because a disk failed to answer once.
 */
#include "small_runs.h"

#include <errno.h>

#include "ckpt/saving.h"
#include "faults.h"

/* A step saves, three of them are an epoch, each is evaluated: best weights have their checkpoint.
 */
#define RECIPE                                                                                     \
    "seed = 3\n" SMALL_MLP SMALL_DATA "[train]\nexecutor = 'ref'\n[optimizer]\nname = 'adamw'\n"   \
    "lr = 0.01\n[checkpoint]\nevery = '1 epoch'\nkeep = 1\n[[phase]]\nepochs = 6\n"
#define BEST "best/model.safetensors"

enum { STOPPED_AT = 15 };

static thaw_status begin(const char *source, const char *data, const char *run, small_record *r)
{
    thaw_recipe *recipe = small_recipe(source, data);
    const thaw_run_options options = {
        .run = run, .threads = 1, .on_event = small_listen, .user = r};
    const thaw_status status = thaw_train(recipe, &options);

    thaw_recipe_destroy(recipe);
    return status;
}

static thaw_status go_on(const char *run, small_record *r)
{
    const thaw_run_options options = {
        .run = run, .threads = 1, .on_event = small_listen, .user = r};

    return thaw_resume(&options);
}

static void remove_file(const char *run, const char *name)
{
    char path[512];

    CHECK(unlink(small_path(path, run, name)) == 0);
}

/* Step of the best weights by the files in best/. */
static int64_t best_iteration(const char *run)
{
    char path[512];
    const char *found;
    st_file *f = NULL;
    int64_t n;

    CHECK_OK(st_open(&f, small_path(path, run, BEST)));
    found = f->metadata ? strstr(f->metadata, "\"iteration\":\"") : NULL;
    CHECK(found != NULL);
    n = strtoll(found + strlen("\"iteration\":\""), NULL, 10);
    st_close(f);
    return n;
}

/* ----------------------------------------------------------------------------------------------
 * lost
 */

/* What is missing in best/, or old there, when a stopped run goes on. */
static void test_resume_puts_them_back(void **state)
{
    static const char *const lost[] = {BEST, "best/config.json"};
    char whole[512], run[512], early[512], path[512], other[512], name[32];

    CHECK_STATUS(begin(RECIPE, *state, small_path(whole, *state, "whole"),
                       &(small_record){.stop_at = STOPPED_AT}),
                 THAW_E_STOPPED);
    for (size_t i = 0; i < THAW_COUNT(lost); i++) {
        small_record first = {.stop_at = STOPPED_AT}, second = {.stop_at = STOPPED_AT + 1};

        (void)snprintf(name, sizeof name, "run%zu", i);
        CHECK_STATUS(begin(RECIPE, *state, small_path(run, *state, name), &first), THAW_E_STOPPED);
        remove_file(run, lost[i]);
        CHECK_STATUS(go_on(run, &second), THAW_E_STOPPED);
        CHECK_CONTAINS(second.words, "best/ has the best weights again, those of step ");
        small_same_files(whole, run, BEST);
        CHECK_INT(os_kind_of(small_path(path, run, "best/config.json")), OS_FILE);
    }
    /* those of an older step */
    (void)small_path(early, *state, "early");
    CHECK_STATUS(begin(RECIPE, *state, early, &(small_record){.stop_at = 5}), THAW_E_STOPPED);
    CHECK_MSG(best_iteration(early) < best_iteration(whole), "best at steps %lld and %lld",
              (long long)best_iteration(early), (long long)best_iteration(whole));
    remove_file(run, BEST);
    CHECK(link(small_path(path, early, BEST), small_path(other, run, BEST)) == 0);
    CHECK_STATUS(go_on(run, &(small_record){.stop_at = STOPPED_AT + 2}), THAW_E_STOPPED);
    CHECK_MSG(best_iteration(run) >= best_iteration(whole), "best/ still has step %lld",
              (long long)best_iteration(run));
    /* nothing to do, nothing said */
    CHECK_STATUS(go_on(run, &(small_record){.stop_at = STOPPED_AT + 3}), THAW_E_STOPPED);
}

/* The checkpoint of a step is made again, whole, but by its state it had another metric. */
static void change_metric(const char *run, int64_t step)
{
    char folder[512], *path = NULL, *link[16] = {NULL}, *state, *metric;
    ckpt_file file[16] = {{0}};
    os_names names;
    text t = TEXT_INIT;
    int n = 0;

    path = ckpt_path(small_path(folder, run, "checkpoints"), (ckpt_id){.step = step});
    CHECK(rename(path, small_path(folder, run, "away")) == 0);
    state = check_read_file(NULL, check_path(folder, "state.json"));
    metric = strstr(state, "\"last_metric\": ");
    CHECK(metric != NULL);
    metric += strlen("\"last_metric\": ");
    text_add_n(&t, state, (size_t)(metric - state));
    text_addf(&t, "9%s", metric);
    CHECK_OK(os_list(&names, folder));
    for (size_t i = 0; i < names.n; i++) {
        if (strcmp(names.name[i], MANIFEST_NAME) == 0)
            continue;
        CHECK(n < 16);
        file[n].name = names.name[i];
        if (strcmp(names.name[i], "state.json") == 0) {
            file[n].bytes = t.data;
            file[n].size = t.length;
        } else {
            file[n].link = link[n] = os_path(folder, names.name[i]);
        }
        n++;
    }
    CHECK_OK(ckpt_commit(small_path(folder, run, "checkpoints"), step, 0, file, n));
    for (int i = 0; i < n; i++)
        thaw__free(link[i]);
    os_names_free(&names);
    text_done(&t);
    free(state);
    thaw__free(path);
}

/* Go on without best/model.safetensors, which cannot be had from anywhere. */
static void stays_lost(const char *run)
{
    small_record r = {0};
    char path[512];

    remove_file(run, BEST);
    CHECK_OK(go_on(run, &r));
    CHECK_CONTAINS(r.words, "best/ lacks the best weights, those of step ");
    CHECK_INT(os_kind_of(small_path(path, run, BEST)), OS_ABSENT);
}

/* The checkpoint of the best weights is an older one than the run goes on from: kept for this. */
static void test_from_an_older_checkpoint(void **state)
{
    char whole[512], run[512], path[512], source[4096];
    small_record r = {0}, again = {0};
    char name[64], *bytes;
    int64_t step;
    size_t n;

    /* a rate so high that what comes first stays the best */
    (void)small_replace(source, RECIPE, "lr = 0.01", "lr = 3.0");
    CHECK_OK(begin(source, *state, small_path(whole, *state, "whole"), &r));
    CHECK_OK(begin(source, *state, small_path(run, *state, "run"), &(small_record){0}));
    CHECK_MSG(best_iteration(run) > 0 && best_iteration(run) < 30, "best at step %lld",
              (long long)best_iteration(run));
    remove_file(run, BEST);
    CHECK_OK(go_on(run, &again));
    CHECK_CONTAINS(again.words, "best/ has the best weights again");
    small_same_files(whole, run, BEST);

    /* one bit of that one is damaged, too: said, and nothing in their place */
    step = best_iteration(run);
    (void)snprintf(name, sizeof name, "checkpoints/step-%06lld/model.safetensors", (long long)step);
    bytes = check_read_file(&n, small_path(path, run, name));
    bytes[n - 1] ^= 1;
    check_write_file(path, bytes, n);
    stays_lost(run);

    /* or it is whole, and its weights are not those that were judged */
    bytes[n - 1] ^= 1;
    check_write_file(path, bytes, n);
    free(bytes);
    change_metric(run, step);
    check_write_file(small_path(path, run, BEST), "", 0);
    stays_lost(run);
}

/* Where nothing judges them, the last weights are kept, under their own step. */
static void test_nobody_judges(void **state)
{
    char run[512], source[4096];

    (void)small_replace(source, RECIPE, "valid = 'valid-images-idx3-ubyte'\n", "");
    CHECK_OK(begin(source, *state, small_path(run, *state, "run"), &(small_record){0}));
    CHECK_INT(best_iteration(run), 30);
}

/* ----------------------------------------------------------------------------------------------
 * not written
 */

static atomic_int renames_to_fail; /* onto model.safetensors */

static int failing_rename(int old_dir, const char *old_path, int new_dir, const char *new_path)
{
    if (strcmp(new_path, "model.safetensors") == 0 && atomic_load(&renames_to_fail) > 0) {
        atomic_fetch_sub(&renames_to_fail, 1);
        errno = ENOSPC;
        return -1;
    }
    return os_posix.rename(old_dir, old_path, new_dir, new_path);
}

/* However often writing best weights fails, they are there when it works again. */
static void test_written_later(void **state)
{
    char whole[512], run[512], name[32];
    os_table table = os_posix;

    table.rename = failing_rename;
    CHECK_OK(begin(RECIPE, *state, small_path(whole, *state, "whole"), &(small_record){0}));
    for (int n = 1; n <= 9; n++) {
        small_record r = {0};
        thaw_status status;

        (void)snprintf(name, sizeof name, "run%d", n);
        atomic_store(&renames_to_fail, n);
        os_install(&table);
        status = begin(RECIPE, *state, small_path(run, *state, name), &r);
        os_install(NULL);
        CHECK_INT(r.n_steps, 30);
        if (status != THAW_OK)
            CHECK_OK(go_on(run, &r));
        small_same_files(whole, run, BEST);
    }
}

/* ----------------------------------------------------------------------------------------------
 * a disk that does not answer
 */

static const char *unreadable; /* part of a path */

static int failing_open(int dir_fd, const char *path, int flags, unsigned mode)
{
    if (unreadable && strstr(path, unreadable)) {
        errno = EIO;
        return -1;
    }
    return os_posix.open(dir_fd, path, flags, mode);
}

static void test_unreadable_is_not_damaged(void **state)
{
    char whole[512], run[512];
    os_table table = os_posix;

    table.open = failing_open;
    CHECK_OK(begin(RECIPE, *state, small_path(whole, *state, "whole"), &(small_record){0}));
    CHECK_STATUS(begin(RECIPE, *state, small_path(run, *state, "run"),
                       &(small_record){.stop_at = STOPPED_AT}),
                 THAW_E_STOPPED);
    unreadable = "step-000015/";
    os_install(&table);
    CHECK_ERROR(go_on(run, &(small_record){0}), THAW_E_IO,
                "checkpoint 'step-000015' could not be read: cannot open '");
    CHECK_CONTAINS(thaw_error(), "or move it away to go on from an older one");
    CHECK_INT(thaw_exit_code(THAW_E_IO), 74);
    os_install(NULL);
    CHECK_OK(go_on(run, &(small_record){0}));
    small_same_files(whole, run, "checkpoints/step-000030/model.safetensors");
    small_same_files(whole, run, "checkpoints/step-000030/optimizer.safetensors");
    small_same_files(whole, run, BEST);
}

/* One that is damaged makes room when the run comes to its step again. */
static void test_damaged_makes_room(void **state)
{
    char whole[512], run[512], path[512], source[4096];
    small_record r = {0};

    (void)small_replace(source, RECIPE, "keep = 1", "keep = 2");
    CHECK_OK(begin(source, *state, small_path(whole, *state, "whole"), &(small_record){0}));
    CHECK_STATUS(begin(source, *state, small_path(run, *state, "run"),
                       &(small_record){.stop_at = STOPPED_AT}),
                 THAW_E_STOPPED);
    check_write_file(small_path(path, run, "checkpoints/step-000015/state.json"), "{}", 2);
    CHECK_OK(go_on(run, &r));
    CHECK_CONTAINS(r.words, "skipped 'step-000015': ");
    small_same_files(whole, run, "checkpoints/step-000030/model.safetensors");
    small_same_files(whole, run, BEST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_resume_puts_them_back, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_from_an_older_checkpoint, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_nobody_judges, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_written_later, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_unreadable_is_not_damaged, small_setup,
                                        small_teardown),
        cmocka_unit_test_setup_teardown(test_damaged_makes_room, small_setup, small_teardown),
    };

    saving_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
