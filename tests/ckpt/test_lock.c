/*
 * The run folder's lock: one owner, named to the second, gone with its process however it ends.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "faults.h"
#include "saving.h"

static void test_second(void **state)
{
    char *folder = check_folder(), want[64];
    int fd = -1, other = -1;

    (void)state;
    CHECK_OK(ckpt_lock(&fd, folder));
    snprintf(want, sizeof want, "is in use by process %ld on host ", (long)getpid());
    CHECK_ERROR(ckpt_lock(&other, folder), THAW_E_CREATE, want);
    CHECK_CONTAINS(thaw_error(), ": wait for it or stop it");
    CHECK_INT(other, -1);
    os_close(fd);
    CHECK_OK(ckpt_lock(&other, folder));
    os_close(other);
    CHECK_ERROR(ckpt_lock(&fd, check_path(folder, "none")), THAW_E_CREATE, "cannot create '");
    check_folder_remove(folder);
}

/* The text in the file is somebody else's: nothing odd in it reaches the message. */
static void test_hostile_owner(void **state)
{
    static const char odd[] = "x\033[2J\nsecond line";
    char *folder = check_folder();
    int fd = -1, other = -1, file;

    (void)state;
    CHECK_OK(ckpt_lock(&fd, folder));
    file = open(check_path(folder, "lock"), O_WRONLY | O_TRUNC);
    CHECK(write(file, odd, sizeof odd) == sizeof odd);
    CHECK_ERROR(ckpt_lock(&other, folder), THAW_E_CREATE, "is in use by x: wait");
    CHECK(ftruncate(file, 0) == 0);
    CHECK_ERROR(ckpt_lock(&other, folder), THAW_E_CREATE, "is in use by another process: wait");
    close(file);
    os_close(fd);
    check_folder_remove(folder);
}

static void test_killed_owner(void **state)
{
    char *folder = check_folder(), ready;
    int fd = -1, pipes[2], code;
    pid_t child;

    (void)state;
    CHECK(pipe(pipes) == 0);
    child = fork();
    if (child == 0) {
        if (ckpt_lock(&fd, folder) == THAW_OK && write(pipes[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    CHECK(read(pipes[0], &ready, 1) == 1);
    CHECK_STATUS(ckpt_lock(&fd, folder), THAW_E_CREATE);
    CHECK(kill(child, SIGKILL) == 0);
    CHECK(waitpid(child, &code, 0) == child);
    CHECK_OK(ckpt_lock(&fd, folder));
    os_close(fd);
    close(pipes[0]);
    close(pipes[1]);
    check_folder_remove(folder);
}

/* Eight at once, many times: never two owners. */
static void test_race(void **state)
{
    enum { PROCESSES = 8, ROUNDS = 20 };
    char *folder = check_folder();

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        pid_t child[PROCESSES];
        int owners = 0;

        for (int i = 0; i < PROCESSES; i++) {
            child[i] = fork();
            if (child[i] == 0) {
                int fd = -1, alone;

                if (ckpt_lock(&fd, folder) != THAW_OK)
                    _exit(0);
                alone = open(check_path(folder, "alone"), O_CREAT | O_EXCL | O_WRONLY, 0644);
                usleep(2000);
                if (alone < 0 || unlink(check_path(folder, "alone")) != 0)
                    _exit(2);
                _exit(1);
            }
        }
        for (int i = 0; i < PROCESSES; i++) {
            int code = 0;

            CHECK(waitpid(child[i], &code, 0) == child[i]);
            CHECK_MSG(WIFEXITED(code) && WEXITSTATUS(code) < 2, "two owners in round %d", round);
            owners += WEXITSTATUS(code);
        }
        CHECK(owners >= 1);
    }
    check_folder_remove(folder);
}

static void test_failing(void **state)
{
    char *folder = check_folder();
    int fd = -1;

    (void)state;
    for (long n = 1, more = 1; more; n++) {
        thaw_status status;

        faults_arm(n, EIO, false);
        status = ckpt_lock(&fd, folder);
        more = faults_disarm();
        if (status == THAW_OK)
            os_close(fd);
        CHECK_OK(ckpt_lock(&fd, folder));
        os_close(fd);
    }
    check_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_second),       cmocka_unit_test(test_hostile_owner),
        cmocka_unit_test(test_killed_owner), cmocka_unit_test(test_race),
        cmocka_unit_test(test_failing),
    };

    saving_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
