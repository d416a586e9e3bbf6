/*
 * Losing power: the operations of saving are recorded, and states that a disk could be left in are
 * made from them (lost_power.h) and given to the search for the newest checkpoint. Whatever comes
 * of it, each checkpoint whose saving had returned must be there and right, and none that is torn
 * may be taken for good.
 *
 * The test is tested: leaving out any one fsync, or the verification, must be noticed.
 */
#include "lost_power.h"
#include "saving.h"

/* ----------------------------------------------------------------------------------------------
 * scenarios */

static void save(const char *folder, int64_t step)
{
    CHECK_OK(saving_commit(folder, step));
    lost_promise(step);
}

static void retain(const char *folder, int keep)
{
    lost_release(keep);
    ckpt_retain(folder, keep, NULL, 0);
}

static void prepare_nothing(const char *folder)
{
    (void)folder;
}

static void prepare_folder(const char *folder)
{
    CHECK_OK(os_make_folders(folder));
}

static void prepare_two(const char *folder)
{
    CHECK_OK(saving_commit(folder, 1));
    CHECK_OK(saving_commit(folder, 2));
}

/* As a crash before may have left it: a torn checkpoint and an unfinished one. */
static void prepare_torn(const char *folder)
{
    CHECK_OK(saving_commit(folder, 1));
    CHECK_OK(saving_commit(folder, 2));
    check_write_file(saving_file(folder, 2, "model.safetensors"), "", 0);
    CHECK(mkdir(check_path(folder, ".tmp-1111111111111111"), 0755) == 0);
    check_write_file(check_path(folder, ".tmp-1111111111111111/model.safetensors"), "x", 1);
}

static void run_first(const char *folder)
{
    save(folder, 3);
}

/* The folders were made by a process that was killed before their names were on disk. */
static void run_after_killed_maker(const char *folder)
{
    char run[4096];

    snprintf(run, sizeof run, "%s", folder);
    *strrchr(run, '/') = '\0';
    CHECK(os()->mkdir(AT_FDCWD, run, 0755) == 0);
    save(folder, 3);
}

static void run_after_killed_maker_of_both(const char *folder)
{
    CHECK(os()->mkdir(AT_FDCWD, folder, 0755) == 0);
    save(folder, 3);
}

static void run_repeated(const char *folder)
{
    for (int step = 3; step <= 6; step++)
        save(folder, step);
}

static void run_keep_one(const char *folder)
{
    for (int step = 3; step <= 6; step++) {
        save(folder, step);
        retain(folder, 1);
    }
}

static void run_keep_two(const char *folder)
{
    for (int step = 3; step <= 7; step++) {
        save(folder, step);
        retain(folder, 2);
    }
}

/* Step 2 is there, and damaged. */
static void run_again(const char *folder)
{
    save(folder, 2);
    retain(folder, 2);
    save(folder, 3);
    retain(folder, 2);
}

static void run_edit(const char *folder)
{
    char *from = os_path(folder, "step-000002/model.safetensors");
    const ckpt_file edit[] = {{.name = "model.safetensors", .link = from},
                              {.name = "progress.json", .bytes = "{}", .size = 2}};

    CHECK_OK(ckpt_commit(folder, 2, 1, edit, 2));
    retain(folder, 1);
    thaw__free(from);
    save(folder, 3);
    retain(folder, 1);
}

typedef struct scenario {
    const char *name, *folder;
    void (*prepare)(const char *folder);
    void (*run)(const char *folder);
    int had; /* newest step that was right before */
} scenario;

static void prepare_run(const char *folder)
{
    char run[4096];

    snprintf(run, sizeof run, "%s", folder);
    *strrchr(run, '/') = '\0';
    CHECK_OK(os_make_folders(run));
}

static const scenario scenarios[] = {
    {"first", "run/checkpoints", prepare_nothing, run_first, 0},
    {"first, run folder by a killed process", "run/checkpoints", prepare_nothing,
     run_after_killed_maker, 0},
    {"first, folder by a killed process", "run/checkpoints", prepare_run,
     run_after_killed_maker_of_both, 0},
    {"first in an empty folder", "checkpoints", prepare_folder, run_first, 0},
    {"repeated", "checkpoints", prepare_two, run_repeated, 2},
    {"keeping one", "checkpoints", prepare_two, run_keep_one, 2},
    {"keeping two", "checkpoints", prepare_two, run_keep_two, 2},
    {"resumed after a crash", "checkpoints", prepare_torn, run_keep_two, 1},
    {"saved again over a torn one", "checkpoints", prepare_torn, run_again, 1},
    {"edited", "checkpoints", prepare_two, run_edit, 2},
};

/* ----------------------------------------------------------------------------------------------
 * what must hold */

/* What is wrong with this state, or "". */
static void judge(char out[512], const lost_disk *d, const char *folder, const scenario *s,
                  bool trusting)
{
    int64_t step[16];
    const int n = lost_promised(step, d, s->had);
    ckpt_id newest = {-1, 0}, *id = NULL;
    int n_ids = 0;
    thaw_status status = ckpt_newest(&newest, NULL, folder);

    out[0] = '\0';
    if (trusting) { /* as one would who takes the name for the thing */
        CHECK_OK(ckpt_list(&id, &n_ids, folder));
        status = n_ids > 0 ? THAW_OK : THAW_E_MISSING;
        newest = n_ids > 0 ? id[0] : newest;
        thaw__free(id);
    }
    if (status != THAW_OK && n > 0)
        snprintf(out, 512, "nothing is found, though step %lld was promised: %s",
                 (long long)step[n - 1], thaw_error());
    else if (n > 0 && newest.step < step[n - 1])
        snprintf(out, 512, "step %lld is found, though step %lld was promised",
                 (long long)newest.step, (long long)step[n - 1]);
    else if (status == THAW_OK && newest.edit == 0 && !saving_is_right(folder, newest.step))
        snprintf(out, 512, "step %lld is found, and is torn", (long long)newest.step);
    for (int i = 0; i < n && !out[0]; i++)
        if (!saving_is_right(folder, step[i]) && s->run != run_edit)
            snprintf(out, 512, "step %lld was promised, and is lost: %s", (long long)step[i],
                     thaw_error());
}

/* Number of fsyncs recorded; the state with which something went wrong is described in out. */
static long try_states(char out[512], const scenario *s, long n_states, int skip, bool trusting,
                       int *n_syncs)
{
    char *real = check_folder(), *made = check_folder(), *folder = os_path(real, s->folder);
    static lost_disk d;
    long i;

    CHECK(folder != NULL);
    s->prepare(folder);
    lost_record(real, skip, NULL);
    s->run(folder);
    lost_record_end();
    if (n_syncs)
        *n_syncs = lost.n_syncs;
    out[0] = '\0';
    for (i = 0; i < n_states && !out[0]; i++) {
        char state[64], inside[128];

        snprintf(state, sizeof state, "%s/s", made);
        snprintf(inside, sizeof inside, "%s/%s", state, s->folder);
        lost_choose(&d);
        lost_make(&d, state);
        judge(out, &d, inside, s, trusting);
        nftw(state, check_folder_remove_one, 32, FTW_DEPTH | FTW_PHYS);
    }
    lost_free();
    thaw__free(folder);
    check_folder_remove(real);
    check_folder_remove(made);
    return i;
}

/* THAW_POWERLOSS_STATES asks for more than the ordinary number of states. */
static long states_wanted(void)
{
    const char *asked = getenv("THAW_POWERLOSS_STATES");

    return asked ? atol(asked) : 20000;
}

static void test_states(void **state)
{
    const long each = states_wanted() / (long)THAW_COUNT(scenarios) + 1;
    const size_t before = thaw__mem_current();
    char wrong[512];

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(scenarios); i++) {
        (void)try_states(wrong, &scenarios[i], each, 0, false, NULL);
        CHECK_MSG(!*wrong, "%s: %s", scenarios[i].name, wrong);
    }
    CHECK_INT(thaw__mem_current(), before);
}

/*
 * Without any one fsync, something must be lost. The exception is the one for the folder's own
 * name, the first of each commit, where that name has long been on disk.
 */
static void test_each_fsync_matters(void **state)
{
    enum { ENOUGH = 3000, EACH_COMMIT = 7 };
    static const struct {
        int scenario;
        bool folder_on_disk;
    } rows[] = {{0, false}, {1, false}, {2, false}, {4, true}};
    int missing = 0;

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(rows); i++) {
        const scenario *s = &scenarios[rows[i].scenario];
        char wrong[512];
        int n_syncs = 0;

        (void)try_states(wrong, s, 1, 0, false, &n_syncs);
        for (int skip = 1; skip <= n_syncs; skip++) {
            if (rows[i].folder_on_disk && skip % EACH_COMMIT == 1)
                continue;
            (void)try_states(wrong, s, ENOUGH, skip, false, NULL);
            CHECK_MSG(*wrong, "%s: leaving out fsync %d of %d goes unnoticed", s->name, skip,
                      n_syncs);
            missing++;
        }
    }
    CHECK_MSG(missing >= 40, "only %d fsyncs", missing);
}

/* One who trusts names instead of verifying must meet a torn checkpoint. */
static void test_verification_matters(void **state)
{
    char wrong[512];

    (void)state;
    (void)try_states(wrong, &scenarios[7], 3000, 0, true, NULL);
    CHECK_CONTAINS(wrong, "is found, and is torn");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_each_fsync_matters),
        cmocka_unit_test(test_verification_matters),
    };

    saving_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
