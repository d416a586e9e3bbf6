/*
 * Committing: whatever fails and wherever the process ends, the checkpoint is there in full or not
 * at all, and the older one is as it was.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "faults.h"
#include "saving.h"

static const ckpt_file one = {.name = "a.json", .bytes = "{}", .size = 2};

static void test_commit(void **state)
{
    char *folder = check_folder(), target[64] = "";
    char *inside = os_path(folder, "run/checkpoints");
    const size_t before = thaw__mem_current();
    ckpt_id newest;

    (void)state;
    CHECK_OK(saving_commit(inside, 7));
    CHECK_OK(saving_commit(inside, 1234567));
    CHECK_OK(saving_commit_edit(inside, 7, 1));
    CHECK(saving_is_right(inside, 7));
    CHECK(saving_is_right(inside, 1234567));
    CHECK_INT(os_kind_of(check_path(inside, "step-000007")), OS_FOLDER);
    CHECK_INT(os_kind_of(check_path(inside, "step-1234567")), OS_FOLDER);
    CHECK_INT(os_kind_of(check_path(inside, "step-000007.edit-1")), OS_FOLDER);
    CHECK_INT(saving_count(inside, "."), 0);
    CHECK(readlink(check_path(inside, "latest"), target, sizeof target - 1) > 0);
    CHECK_STR(target, "step-000007.edit-1");
    CHECK_OK(ckpt_newest(&newest, NULL, inside));
    CHECK_INT(newest.step, 1234567);
    CHECK_INT(thaw__mem_current(), before);
    thaw__free(inside);
    check_folder_remove(folder);
}

static void test_refused(void **state)
{
    const ckpt_file twice[] = {one, one};
    static const char *const bad[] = {
        "", ".", "..", ".x", "a/b", "/a", "a\n", "a b", "a\\b", "MANIFEST.json", "\xC3\xA4", "a:b"};
    char *folder = check_folder();

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(bad); i++) {
        const ckpt_file f = {.name = bad[i], .bytes = "", .size = 0};

        CHECK_ERROR(ckpt_commit(folder, 1, 0, &f, 1), THAW_E_USAGE,
                    "cannot be a file of a checkpoint");
    }
    CHECK_ERROR(ckpt_commit(folder, 1, 0, twice, 2), THAW_E_USAGE,
                "two files of a checkpoint are named 'a.json'");
    CHECK_STATUS(ckpt_commit(folder, -1, 0, &one, 1), THAW_E_USAGE);
    CHECK_STATUS(ckpt_commit(folder, 1, -1, &one, 1), THAW_E_USAGE);
    check_write_file(check_path(folder, "file"), "", 0);
    CHECK_STATUS(ckpt_commit(check_path(folder, "file"), 1, 0, &one, 1), THAW_E_CREATE);
    CHECK_INT(saving_count(folder, ""), 1);
    check_folder_remove(folder);
}

/* One that is there stays as it is; one that is damaged makes room. */
static void test_exists(void **state)
{
    char *folder = check_folder();

    (void)state;
    CHECK_OK(saving_commit(folder, 1));
    CHECK_ERROR(ckpt_commit(folder, 1, 0, &one, 1), THAW_E_CREATE,
                "checkpoint 'step-000001' exists already in '");
    CHECK(saving_is_right(folder, 1));
    CHECK_INT(saving_count(folder, ".tmp"), 0);

    check_write_file(check_path(folder, "step-000001/progress.json"), "{}", 2);
    CHECK_OK(saving_commit(folder, 1));
    CHECK(saving_is_right(folder, 1));
    CHECK_INT(saving_count(folder, "step-000001.bad-"), 1);
    check_folder_remove(folder);
}

static int open_unreadable(int dir_fd, const char *path, int flags, unsigned mode)
{
    if (strstr(path, "step-000001/")) {
        errno = EIO;
        return -1;
    }
    return os_posix.open(dir_fd, path, flags, mode);
}

/* One that cannot be read now may be whole: it does not have to make room. */
static void test_exists_unreadable(void **state)
{
    char *folder = check_folder();
    os_table table = os_posix;

    (void)state;
    CHECK_OK(saving_commit(folder, 1));
    table.open = open_unreadable;
    os_install(&table);
    CHECK_ERROR(saving_commit(folder, 1), THAW_E_IO, "checkpoint 'step-000001' exists already: ");
    os_install(NULL);
    CHECK(saving_is_right(folder, 1));
    CHECK_INT(saving_count(folder, "step-"), 1);
    check_folder_remove(folder);
}

/* Another process makes the name between our look and our rename. */
static int rename_after_rival(int old_dir, const char *old_path, int new_dir, const char *new_path)
{
    CHECK(os_posix.mkdir(new_dir, new_path, 0755) == 0);
    return os_posix.rename_new(old_dir, old_path, new_dir, new_path);
}

/* The same with a rename that replaces: an empty folder does not stop it. */
static int replace_after_rival(int old_dir, const char *old_path, int new_dir, const char *new_path)
{
    CHECK(os_posix.mkdir(new_dir, new_path, 0755) == 0);
    return os_posix.rename(old_dir, old_path, new_dir, new_path);
}

static void test_rival(void **state)
{
    static os_table table;
    char *folder = check_folder();

    (void)state;
    table = os_posix;
    table.rename_new = rename_after_rival;
    os_install(&table);
    CHECK_ERROR(saving_commit(folder, 1), THAW_E_CREATE, "exists already");
    os_install(NULL);
    CHECK_INT(saving_count(folder, ".tmp"), 0);
    CHECK_INT(saving_count(check_path(folder, "step-000001"), ""), 0);

    /* the test is tested: only the exclusive rename keeps them apart */
    table.rename_new = replace_after_rival;
    os_install(&table);
    CHECK_OK(saving_commit(folder, 2));
    os_install(NULL);
    check_folder_remove(folder);
}

/* Somebody who may write in the folder foresees a name and leads it elsewhere. */
static const char *victim;

static int mkdir_with_trap(int dir_fd, const char *path, unsigned mode)
{
    const int result = os_posix.mkdir(dir_fd, path, mode);
    int inner;

    if (result != 0 || strncmp(path, ".tmp-", 5) != 0)
        return result;
    inner = os_posix.open(dir_fd, path, O_RDONLY | O_DIRECTORY, 0);
    CHECK(inner >= 0 && symlinkat(victim, inner, "model.safetensors") == 0);
    (void)close(inner);
    return 0;
}

static void test_trap(void **state)
{
    char *folder = check_folder(), *other = check_folder(), *precious, *now;
    os_table table = os_posix;

    (void)state;
    precious = os_path(other, "precious");
    victim = precious;
    check_write_file(victim, "do not touch", 12);
    table.mkdir = mkdir_with_trap;
    os_install(&table);
    CHECK_ERROR(saving_commit(folder, 1), THAW_E_IO, "cannot create 'model.safetensors'");
    os_install(NULL);
    now = check_read_file(NULL, precious);
    CHECK_STR(now, "do not touch");
    CHECK_INT(saving_count(folder, ""), 0);
    free(now);
    thaw__free(precious);
    check_folder_remove(other);
    check_folder_remove(folder);
}

static int close_failing(int fd)
{
    struct stat s;
    const bool file = fstat(fd, &s) == 0 && S_ISREG(s.st_mode);

    (void)os_posix.close(fd);
    errno = EIO;
    return file ? -1 : 0;
}

/* Some file systems tell only when a file is closed that it could not be written. */
static void test_close_that_fails(void **state)
{
    char *folder = check_folder();
    os_table table = os_posix;

    (void)state;
    CHECK_OK(saving_commit(folder, 1));
    table.close = close_failing;
    os_install(&table);
    CHECK_ERROR(saving_commit(folder, 2), THAW_E_IO, "cannot close 'model.safetensors'");
    os_install(NULL);
    CHECK(saving_is_right(folder, 1));
    CHECK_INT(saving_count(folder, "step-"), 1);
    CHECK_INT(saving_count(folder, ".tmp"), 0);
    check_folder_remove(folder);
}

static void test_link(void **state)
{
    char *folder = check_folder();
    char *from = os_path(folder, "step-000001/model.safetensors");
    const ckpt_file edit[] = {{.name = "model.safetensors", .link = from}, one};
    struct stat a, b;

    (void)state;
    CHECK_OK(saving_commit(folder, 1));
    CHECK_OK(ckpt_commit(folder, 1, 1, edit, 2));
    CHECK_OK(ckpt_verify(check_path(folder, "step-000001.edit-1")));
    CHECK(stat(from, &a) == 0);
    CHECK(stat(check_path(folder, "step-000001.edit-1/model.safetensors"), &b) == 0);
    CHECK_INT(a.st_ino, b.st_ino);

    /* where the file system cannot link, the bytes are copied */
    for (long n = 1, more = 1; more; n++) {
        ckpt_id id = {1, (int)n + 1};
        char *path = ckpt_path(folder, id);

        thaw_status status;

        faults_arm(n, EPERM, false);
        status = ckpt_commit(folder, 1, id.edit, edit, 2);
        more = faults_disarm();
        if (status == THAW_OK)
            CHECK_OK(ckpt_verify(path));
        else
            CHECK_INT(os_kind_of(path), OS_ABSENT);
        thaw__free(path);
    }
    CHECK(saving_is_right(folder, 1));
    thaw__free(from);
    check_folder_remove(folder);
}

static int64_t little_room(int fd)
{
    (void)fd;
    return 1000;
}

static void test_room(void **state)
{
    char *folder = check_folder();
    static os_table full;

    (void)state;
    full = os_posix;
    full.free_bytes = little_room;
    os_install(&full);
    CHECK_ERROR(saving_commit(folder, 1), THAW_E_IO,
                "checkpoint 'step-000001' needs 1.00 MiB, but only 1000 B are free in '");
    os_install(NULL);
    CHECK_INT(saving_count(folder, ""), 0);
    check_folder_remove(folder);
}

/* ----------------------------------------------------------------------------------------------
 * faults */

static const int kinds[] = {EIO, ENOSPC, EINTR, EDQUOT, FAULT_SHORT};

/* What must hold after a commit of step 2 that met a fault, step 1 having been there before. */
static void check_after(const char *folder, thaw_status status, long n, int kind)
{
    ckpt_id newest = {-1, 0};
    text skipped = TEXT_INIT;

    CHECK_OK(ckpt_newest(&newest, &skipped, folder));
    CHECK_MSG(newest.step == (status == THAW_OK ? 2 : 1),
              "operation %ld, fault %d: %s, and the newest is %lld", n, kind,
              thaw_status_name(status), (long long)newest.step);
    CHECK_MSG(skipped.length == 0, "operation %ld, fault %d: %s", n, kind, skipped.data);
    CHECK(saving_is_right(folder, newest.step));
    CHECK(saving_is_right(folder, 1));
    CHECK_MSG(status == THAW_OK || os_kind_of(check_path(folder, "step-000002")) == OS_ABSENT,
              "operation %ld, fault %d: it failed, and is there", n, kind);
    text_done(&skipped);
}

static void test_faults(void **state)
{
    const size_t before = thaw__mem_current();

    (void)state;
    for (size_t k = 0; k < THAW_COUNT(kinds); k++) {
        bool more = true;

        for (long n = 1; more; n++) {
            char *folder = check_folder();
            thaw_status status;

            CHECK_OK(saving_commit(folder, 1));
            faults_arm(n, kinds[k], false);
            status = saving_commit(folder, 2);
            more = faults_disarm();
            check_after(folder, status, n, kinds[k]);
            CHECK_INT(thaw__mem_current(), before);

            /* and after it, saving works again, and clears up */
            if (status != THAW_OK)
                CHECK_OK(saving_commit(folder, 2));
            ckpt_retain(folder, 2, NULL, 0);
            CHECK_INT(saving_count(folder, ".tmp"), 0);
            CHECK_INT(saving_count(folder, "step-"), 2);
            check_folder_remove(folder);
        }
    }
}

/* For ever: then nothing can be taken back either, but the older one must be found and be right,
 * and one that is called committed must be. */
static void test_faults_for_ever(void **state)
{
    const size_t before = thaw__mem_current();

    (void)state;
    for (size_t k = 0; k < THAW_COUNT(kinds); k++) {
        bool more = true;

        for (long n = 1; more; n++) {
            char *folder = check_folder();
            ckpt_id newest = {-1, 0};
            thaw_status status;
            char error[512];

            CHECK_OK(saving_commit(folder, 1));
            faults_arm(n, kinds[k], true);
            status = saving_commit(folder, 2);
            more = faults_disarm();
            snprintf(error, sizeof error, "%s", thaw_error());
            CHECK(saving_is_right(folder, 1));
            CHECK_OK(ckpt_newest(&newest, NULL, folder));
            CHECK_MSG(status != THAW_OK || newest.step == 2, "operation %ld, fault %d: step 2 lost",
                      n, kinds[k]);
            CHECK(saving_is_right(folder, newest.step));
            if (newest.step == 2 && status != THAW_OK)
                CHECK_CONTAINS(error, "is written but may not outlast a crash");
            CHECK_INT(thaw__mem_current(), before);
            ckpt_retain(folder, 2, NULL, 0);
            CHECK_INT(saving_count(folder, ".tmp"), 0);
            check_folder_remove(folder);
        }
    }
}

static void test_out_of_memory(void **state)
{
    const size_t before = thaw__mem_current();

    (void)state;
    for (int forever = 0; forever < 2; forever++)
        for (long n = 1, more = 1; more; n++) {
            char *folder = check_folder();
            thaw_status status;

            CHECK_OK(saving_commit(folder, 1));
            check_alloc_fail(n, forever != 0);
            status = saving_commit(folder, 2);
            more = check_alloc_restore();
            CHECK_INT(status, more ? THAW_E_NOMEM : THAW_OK);
            CHECK_INT(thaw__mem_current(), before);
            check_after(folder, status, n, ENOMEM);
            CHECK_INT(saving_count(folder, ".tmp"), 0);
            check_folder_remove(folder);
        }
}

/* ----------------------------------------------------------------------------------------------
 * kills */

/* The child's work: save, and retain; the scenario says over what. */
static void save_in_child(const char *folder, int scenario)
{
    if (scenario == 2)
        check_write_file(check_path(folder, "step-000002/progress.json"), "{}", 2);
    faults_state.kind = FAULT_EXIT;
    if (saving_commit(folder, scenario == 2 ? 2 : 3) == THAW_OK)
        ckpt_retain(folder, 1, NULL, 0);
}

static void test_kill_everywhere(void **state)
{
    int64_t killed = 0;

    (void)state;
    for (int scenario = 0; scenario < 3; scenario++)
        for (long n = 1;; n++) {
            char *folder = check_folder();
            ckpt_id newest = {-1, 0};
            thaw_status found;
            int code = 0;
            pid_t child;

            for (int step = 1; scenario > 0 && step <= 2; step++)
                CHECK_OK(saving_commit(folder, step));
            child = fork();
            if (child == 0) {
                faults_arm(n, FAULT_COUNT, false);
                save_in_child(folder, scenario);
                _exit(0);
            }
            CHECK(waitpid(child, &code, 0) == child && WIFEXITED(code));
            found = ckpt_newest(&newest, NULL, folder);
            if (scenario > 0 || WEXITSTATUS(code) == 0)
                CHECK_MSG(found == THAW_OK, "scenario %d, killed at %ld: %s", scenario, n,
                          thaw_error());
            if (found == THAW_OK) {
                CHECK(saving_is_right(folder, newest.step));
                CHECK_MSG(newest.step >= (scenario == 0   ? 3
                                          : scenario == 1 ? 2
                                                          : 1),
                          "scenario %d, killed at %ld: back to %lld", scenario, n,
                          (long long)newest.step);
                CHECK(scenario == 2 || newest.step == 3 || WEXITSTATUS(code) == 99);
            }

            /* the next process goes on from there */
            CHECK_OK(saving_commit(folder, 9));
            ckpt_retain(folder, 1, NULL, 0);
            CHECK_INT(saving_count(folder, ".tmp"), 0);
            CHECK_INT(saving_count(folder, "step-") - saving_count(folder, "step-000002.bad-"), 1);
            check_folder_remove(folder);
            if (WEXITSTATUS(code) == 0)
                break;
            CHECK_INT(WEXITSTATUS(code), 99);
            killed++;
        }
    CHECK_MSG(killed > 100, "only %lld kills", (long long)killed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commit),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_exists),
        cmocka_unit_test(test_exists_unreadable),
        cmocka_unit_test(test_rival),
        cmocka_unit_test(test_trap),
        cmocka_unit_test(test_close_that_fails),
        cmocka_unit_test(test_link),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_faults_for_ever),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_kill_everywhere),
    };

    saving_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
