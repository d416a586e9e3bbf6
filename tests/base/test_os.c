/*
 * Files and folders: what they promise, what they refuse, and what they do when the system fails
 * them.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "check.h"
#include "faults.h"

static void test_read_file(void **state)
{
    char *folder = check_folder(), *data = NULL;
    size_t n = 0;

    (void)state;
    check_write_file(check_path(folder, "a"), "hello", 5);
    CHECK_OK(os_read_file(&data, &n, check_path(folder, "a"), 5));
    CHECK_INT(n, 5);
    CHECK_STR(data, "hello");
    thaw__free(data);

    check_write_file(check_path(folder, "empty"), "", 0);
    CHECK_OK(os_read_file(&data, &n, check_path(folder, "empty"), 0));
    CHECK_INT(n, 0);
    CHECK_STR(data, "");
    thaw__free(data);

    data = NULL;
    CHECK_ERROR(os_read_file(&data, &n, check_path(folder, "a"), 4), THAW_E_LIMIT,
                "is longer than the 4 bytes allowed");
    CHECK_ERROR(os_read_file(&data, &n, check_path(folder, "b"), 4), THAW_E_MISSING,
                "No such file or directory");
    CHECK_ERROR(os_read_file(&data, &n, check_path(folder, "a/b"), 4), THAW_E_MISSING, "/a/b'");
    CHECK(data == NULL);
    check_folder_remove(folder);
}

/* Files whose size says 0 are read to their end all the same, and limited all the same. */
static void test_read_proc(void **state)
{
    char *data = NULL;
    size_t n = 0;

    (void)state;
    if (os_kind_of("/proc/self/status") == OS_ABSENT)
        return; /* a bare chroot */
    CHECK_OK(os_read_file(&data, &n, "/proc/self/status", 1 << 20));
    CHECK_CONTAINS(data, "Name:");
    CHECK_INT(strlen(data), n);
    thaw__free(data);
    data = NULL;
    CHECK_STATUS(os_read_file(&data, &n, "/proc/self/status", 10), THAW_E_LIMIT);
    CHECK(data == NULL);
}

/* None of these may block, be opened for good, or be read. */
static void test_refuse_special(void **state)
{
    char *folder = check_folder(), *data = NULL;
    const char *fifo = check_path(folder, "fifo");
    size_t n;

    (void)state;
    CHECK(mkfifo(fifo, 0600) == 0);
    CHECK_ERROR(os_read_file(&data, &n, fifo, 100), THAW_E_DATA, "is a pipe, not a regular file");
    CHECK_ERROR(os_read_file(&data, &n, "/dev/zero", 100), THAW_E_DATA, "is a device");
    CHECK_ERROR(os_read_file(&data, &n, folder, 100), THAW_E_DATA, "is a folder");
    check_folder_remove(folder);
}

static void test_kinds(void **state)
{
    char *folder = check_folder();

    (void)state;
    check_write_file(check_path(folder, "a"), "", 0);
    CHECK(symlink("a", check_path(folder, "to-a")) == 0);
    CHECK(symlink("nothing", check_path(folder, "dangling")) == 0);
    CHECK_INT(os_kind_of(check_path(folder, "a")), OS_FILE);
    CHECK_INT(os_kind_of(check_path(folder, "to-a")), OS_FILE);
    CHECK_INT(os_kind_of(check_path(folder, "dangling")), OS_ABSENT);
    CHECK_INT(os_kind_of(check_path(folder, "a/b")), OS_ABSENT);
    CHECK_INT(os_kind_of(folder), OS_FOLDER);
    CHECK_INT(os_kind_of("/dev/null"), OS_OTHER);
    check_folder_remove(folder);
}

static void test_pread(void **state)
{
    char *folder = check_folder();
    const char *path = check_path(folder, "a");
    char b[8] = "";
    int64_t size = 0;
    int fd = -1;

    (void)state;
    check_write_file(path, "0123456789", 10);
    CHECK_OK(os_open_file(&fd, &size, path));
    CHECK_INT(size, 10);
    CHECK_OK(os_pread_all(fd, b, 4, 3, "a"));
    CHECK_STR(b, "3456");
    CHECK_ERROR(os_pread_all(fd, b, 4, 8, "a"), THAW_E_IO, "'a' ended 2 bytes early, at byte 10");
    os_close(fd);
    os_close(-1);
    check_folder_remove(folder);
}

static void test_replace(void **state)
{
    char *folder = check_folder(), *data;
    os_names names;
    size_t n;

    (void)state;
    CHECK_OK(os_replace_file(folder, "a", "one", 3));
    CHECK_OK(os_replace_file(folder, "a", "three", 5));
    CHECK_OK(os_read_file(&data, &n, check_path(folder, "a"), 100));
    CHECK_STR(data, "three");
    thaw__free(data);
    CHECK_OK(os_list(&names, folder));
    CHECK_INT(names.n, 1);
    os_names_free(&names);
    CHECK_ERROR(os_replace_file("/nowhere/at/all", "a", "x", 1), THAW_E_MISSING, "/nowhere/at/all");
    check_folder_remove(folder);
}

/* What was put on disk (f: a file, d: a folder) and renamed (r), in order. */
static char order[16];

static void note(char what)
{
    const size_t n = strlen(order);

    CHECK(n + 1 < sizeof order);
    order[n] = what;
}

static int noted_fsync(int fd)
{
    struct stat s;

    CHECK(fstat(fd, &s) == 0);
    note(S_ISDIR(s.st_mode) ? 'd' : 'f');
    return os_posix.fsync(fd);
}

static int noted_rename(int old_dir, const char *old_path, int new_dir, const char *new_path)
{
    note('r');
    return os_posix.rename(old_dir, old_path, new_dir, new_path);
}

/* The content is on disk before the name is its, and the name before the call returns. */
static void test_replace_is_durable(void **state)
{
    char *folder = check_folder();
    os_table table = os_posix;

    (void)state;
    table.fsync = noted_fsync;
    table.rename = noted_rename;
    os_install(&table);
    CHECK_OK(os_replace_file(folder, "a", "one", 3));
    os_install(NULL);
    CHECK_STR(order, "frd");
    check_folder_remove(folder);
}

static void test_folders(void **state)
{
    char *folder = check_folder();
    const char *deep = check_path(folder, "a//b/c/");

    (void)state;
    CHECK_OK(os_make_folders(deep));
    CHECK_OK(os_make_folders(deep));
    CHECK_INT(os_kind_of(check_path(folder, "a/b/c")), OS_FOLDER);
    check_write_file(check_path(folder, "a/file"), "", 0);
    CHECK_ERROR(os_make_folders(check_path(folder, "a/file/x")), THAW_E_CREATE,
                "cannot create folder");
    check_folder_remove(folder);
}

static void test_list_sorted(void **state)
{
    static const char *const want[] = {"B", "a", "a1", "a10", "a2", "\xC3\xA4"};
    char *folder = check_folder();
    os_names names = {0};

    (void)state;
    CHECK_OK(os_list(&names, folder));
    CHECK_INT(names.n, 0);
    os_names_free(&names);
    for (size_t i = THAW_COUNT(want); i-- > 0;)
        check_write_file(check_path(folder, want[i]), "", 0);
    CHECK_OK(os_list(&names, folder));
    CHECK_INT(names.n, THAW_COUNT(want));
    for (size_t i = 0; i < names.n; i++)
        CHECK_STR(names.name[i], want[i]);
    os_names_free(&names);
    CHECK_STATUS(os_list(&names, check_path(folder, "none")), THAW_E_MISSING);
    CHECK_STATUS(os_list(&names, check_path(folder, "a")), THAW_E_MISSING);
    check_folder_remove(folder);
}

static void test_path(void **state)
{
    static const char *const join[][3] = {{"a", "b", "a/b"}, {"/", "b", "/b"}, {"a/", "b", "a/b"}};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(join); i++) {
        char *path = os_path(join[i][0], join[i][1]);

        CHECK_STR(path, join[i][2]);
        thaw__free(path);
    }
}

static void test_rename_new(void **state)
{
    char *folder = check_folder();
    const int fd = os_open_at(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY, 0);

    (void)state;
    CHECK(os()->mkdir(fd, "a", 0755) == 0);
    CHECK(os()->mkdir(fd, "b", 0755) == 0);
    CHECK(os()->rename_new(fd, "a", fd, "b") == -1);
    CHECK_INT(errno, EEXIST);
    CHECK(os()->rename_new(fd, "a", fd, "c") == 0);
    CHECK(os()->free_bytes(fd) > 0);
    CHECK(os()->monotonic() <= os()->monotonic());
    CHECK(os()->wall() > 1e9);
    os_close(fd);
    check_folder_remove(folder);
}

static void test_random_names(void **state)
{
    char a[OS_RANDOM_NAME], b[OS_RANDOM_NAME];

    (void)state;
    os_random_name(a);
    os_random_name(b);
    CHECK_INT(strlen(a), OS_RANDOM_NAME - 1);
    CHECK(strncmp(a, ".tmp-", 5) == 0);
    CHECK(strcmp(a, b) != 0);
}

/* ----------------------------------------------------------------------------------------------
 * faults */

static const int kinds[] = {EIO, ENOSPC, EINTR, FAULT_SHORT};

static int count_names(const char *folder)
{
    os_names names = {0};
    int n;

    CHECK_OK(os_list(&names, folder));
    n = (int)names.n;
    os_names_free(&names);
    return n;
}

/* Whatever fails while a file is replaced, it holds the old or the new text, nothing leaks, and
 * nothing else lies beside it unless the disk is gone for good. */
static void test_replace_faults(void **state)
{
    (void)state;
    for (size_t k = 0; k < THAW_COUNT(kinds); k++)
        for (int forever = 0; forever < 2; forever++)
            for (long n = 1;; n++) {
                char *folder = check_folder(), *text_now;
                const size_t before = thaw__mem_current();
                thaw_status status;
                bool reached;

                CHECK_OK(os_replace_file(folder, "a", "old", 3));
                faults_arm(n, kinds[k], forever != 0);
                status = os_replace_file(folder, "a", "newer text", 10);
                reached = faults_disarm();
                CHECK_INT(thaw__mem_current(), before);
                text_now = check_read_file(NULL, check_path(folder, "a"));
                CHECK_MSG(strcmp(text_now, "newer text") == 0 ||
                              (strcmp(text_now, "old") == 0 && status != THAW_OK),
                          "operation %ld, fault %d: status %s, the file holds '%s'", n, kinds[k],
                          thaw_status_name(status), text_now);
                if (!forever)
                    CHECK_MSG(count_names(folder) == 1, "operation %ld, fault %d: %d files", n,
                              kinds[k], count_names(folder));
                if (kinds[k] == FAULT_SHORT || (kinds[k] == EINTR && !forever))
                    CHECK_MSG(status == THAW_OK || kinds[k] == EINTR,
                              "operation %ld: a short write is no error, but: %s", n, thaw_error());
                free(text_now);
                check_folder_remove(folder);
                if (!reached)
                    break;
            }
}

static void test_read_faults(void **state)
{
    char *folder = check_folder();
    const char *path = check_path(folder, "a");

    (void)state;
    check_write_file(path, "some text", 9);
    for (size_t k = 0; k < THAW_COUNT(kinds); k++)
        for (int forever = 0; forever < 2; forever++)
            for (long n = 1;; n++) {
                const size_t before = thaw__mem_current();
                char *data = NULL;
                size_t size = 0;
                thaw_status status;
                bool reached;

                faults_arm(n, kinds[k], forever != 0);
                status = os_read_file(&data, &size, path, 100);
                reached = faults_disarm();
                CHECK_MSG(status == THAW_OK ? strcmp(data, "some text") == 0 : data == NULL,
                          "operation %ld, fault %d", n, kinds[k]);
                thaw__free(data);
                CHECK_INT(thaw__mem_current(), before);
                if (!reached)
                    break;
            }
    check_folder_remove(folder);
}

/* Calls that a signal may interrupt; the first of each row of calls is. */
static int interruptions;

static bool interrupted(void)
{
    const bool now = interruptions++ % 2 == 0;

    if (now)
        errno = EINTR;
    return now;
}

static int interrupted_open(int dir_fd, const char *path, int flags, unsigned mode)
{
    return interrupted() ? -1 : os_posix.open(dir_fd, path, flags, mode);
}

static ptrdiff_t interrupted_read(int fd, void *buffer, size_t n)
{
    return interrupted() ? -1 : os_posix.read(fd, buffer, n);
}

static ptrdiff_t interrupted_pread(int fd, void *buffer, size_t n, int64_t offset)
{
    return interrupted() ? -1 : os_posix.pread(fd, buffer, n, offset);
}

static ptrdiff_t interrupted_write(int fd, const void *buffer, size_t n)
{
    return interrupted() ? -1 : os_posix.write(fd, buffer, n);
}

static int interrupted_fsync(int fd)
{
    return interrupted() ? -1 : os_posix.fsync(fd);
}

/* What a signal has interrupted is done again. */
static void test_interrupted(void **state)
{
    char *folder = check_folder(), *data = NULL, part[4];
    os_table table = os_posix;
    int64_t length = 0;
    size_t size = 0;
    int fd = -1;

    (void)state;
    table.open = interrupted_open;
    table.read = interrupted_read;
    table.pread = interrupted_pread;
    table.write = interrupted_write;
    table.fsync = interrupted_fsync;
    interruptions = 0;
    os_install(&table);
    CHECK_OK(os_replace_file(folder, "a", "some text", 9));
    CHECK_OK(os_read_file(&data, &size, check_path(folder, "a"), 100));
    CHECK_STR(data, "some text");
    CHECK_OK(os_open_file(&fd, &length, check_path(folder, "a")));
    CHECK_OK(os_pread_all(fd, part, 4, 5, "a"));
    CHECK(memcmp(part, "text", 4) == 0);
    os_close(fd);
    CHECK_OK(os_make_folders(check_path(folder, "x/y")));
    os_install(NULL);
    CHECK_MSG(interruptions >= 16, "only %d calls", interruptions);
    thaw__free(data);
    check_folder_remove(folder);
}

static const char *put_in_place; /* opened instead of what was looked at */

static int open_another(int dir_fd, const char *path, int flags, unsigned mode)
{
    (void)path;
    return os_posix.open(dir_fd, put_in_place, flags, mode);
}

/* Between looking and opening somebody puts a folder or a pipe there. */
static void test_exchanged(void **state)
{
    char *folder = check_folder(), *pipe, *file, *data = NULL;
    os_table table = os_posix;
    size_t size = 0;

    (void)state;
    pipe = os_path(folder, "pipe");
    file = os_path(folder, "a");
    CHECK(mkfifo(pipe, 0644) == 0);
    check_write_file(file, "text", 4);
    table.open = open_another;
    os_install(&table);
    put_in_place = folder;
    CHECK_ERROR(os_read_file(&data, &size, file, 100), THAW_E_DATA, "is a folder");
    put_in_place = pipe;
    CHECK_ERROR(os_read_file(&data, &size, file, 100), THAW_E_DATA, "is a pipe");
    os_install(NULL);
    CHECK(data == NULL);
    thaw__free(file);
    thaw__free(pipe);
    check_folder_remove(folder);
}

static int syncs, sync_failing; /* so far; which of them, from 1 */

static int sync_that_fails(int fd)
{
    if (++syncs == sync_failing) {
        errno = EIO;
        return -1;
    }
    return os_posix.fsync(fd);
}

/* Asked again, a disk that has lost what was written says that all is well. */
static void test_sync_is_not_repeated(void **state)
{
    os_table table = os_posix;

    (void)state;
    table.fsync = sync_that_fails;
    for (sync_failing = 1; sync_failing <= 2; sync_failing++) {
        char *folder = check_folder();

        syncs = 0;
        os_install(&table);
        CHECK_ERROR(os_replace_file(folder, "a", "text", 4), THAW_E_IO, "cannot put on disk '");
        os_install(NULL);
        CHECK_INT(syncs, sync_failing);
        check_folder_remove(folder);
    }
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
    char *folder = check_folder(), *now;
    os_table table = os_posix;

    (void)state;
    CHECK_OK(os_replace_file(folder, "a", "old", 3));
    table.close = close_failing;
    os_install(&table);
    CHECK_ERROR(os_replace_file(folder, "a", "newer", 5), THAW_E_IO, "cannot close '");
    os_install(NULL);
    now = check_read_file(NULL, check_path(folder, "a"));
    CHECK_STR(now, "old");
    CHECK_INT(count_names(folder), 1);
    free(now);
    check_folder_remove(folder);
}

static void test_out_of_memory(void **state)
{
    char *folder = check_folder();
    os_names names = {0};

    (void)state;
    check_write_file(check_path(folder, "a"), "some text", 9);
    for (long n = 1, more = 1; more; n++) {
        const size_t before = thaw__mem_current();
        thaw_status status;
        char *data = NULL;
        size_t size;

        check_alloc_fail(n, false);
        status = os_read_file(&data, &size, check_path(folder, "a"), 100);
        if (status == THAW_OK)
            status = os_list(&names, folder);
        if (status == THAW_OK)
            status = os_make_folders(check_path(folder, "x/y"));
        more = check_alloc_restore();
        CHECK_MSG(status == THAW_OK || status == THAW_E_NOMEM, "allocation %ld: %s", n,
                  thaw_error());
        thaw__free(data);
        os_names_free(&names);
        CHECK_INT(thaw__mem_current(), before);
    }
    check_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_file),
        cmocka_unit_test(test_read_proc),
        cmocka_unit_test(test_refuse_special),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_pread),
        cmocka_unit_test(test_replace),
        cmocka_unit_test(test_replace_is_durable),
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_list_sorted),
        cmocka_unit_test(test_path),
        cmocka_unit_test(test_rename_new),
        cmocka_unit_test(test_random_names),
        cmocka_unit_test(test_replace_faults),
        cmocka_unit_test(test_read_faults),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_exchanged),
        cmocka_unit_test(test_sync_is_not_repeated),
        cmocka_unit_test(test_close_that_fails),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
