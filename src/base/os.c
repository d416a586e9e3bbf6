/*
 * os - files and folders over a replaceable table of operations.
 *
 * Everything that changes a disk goes through os(), one system call an entry, so that tests can
 * make any single operation fail, fall short or be the last one. The helpers below add what callers
 * always need: going on after short writes and signals, refusing what is no regular file, and
 * getting names onto the disk. Nothing here knows what the files hold.
 */
#include "base/base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

/* A call interrupted this often in a row is not interrupted by chance: give up instead of spinning.
 */
#define MOST_INTERRUPTIONS 1000

#define READ_FLAGS (O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

/* ----------------------------------------------------------------------------------------------
 * the POSIX table */

static int posix_open(int dir_fd, const char *path, int flags, unsigned mode)
{
    return openat(dir_fd, path, flags, (mode_t)mode);
}

static int posix_close(int fd)
{
    return close(fd);
}

static ptrdiff_t posix_read(int fd, void *buffer, size_t n)
{
    return read(fd, buffer, n);
}

static ptrdiff_t posix_pread(int fd, void *buffer, size_t n, int64_t offset)
{
    return pread(fd, buffer, n, (off_t)offset);
}

static ptrdiff_t posix_write(int fd, const void *buffer, size_t n)
{
    return write(fd, buffer, n);
}

static int posix_fsync(int fd)
{
    return fsync(fd);
}

static int posix_mkdir(int dir_fd, const char *path, unsigned mode)
{
    return mkdirat(dir_fd, path, (mode_t)mode);
}

static int posix_rename(int old_dir, const char *old_path, int new_dir, const char *new_path)
{
    return renameat(old_dir, old_path, new_dir, new_path);
}

/*
 * Some network file systems have no exclusive rename. There we look first: a plain rename would
 * still refuse a folder that holds anything, and the run folder's lock keeps other writers out.
 */
static int posix_rename_new(int old_dir, const char *old_path, int new_dir, const char *new_path)
{
    struct stat there;

    if (renameat2(old_dir, old_path, new_dir, new_path, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    if (fstatat(new_dir, new_path, &there, AT_SYMLINK_NOFOLLOW) == 0) {
        errno = EEXIST;
        return -1;
    }
    return errno == ENOENT ? renameat(old_dir, old_path, new_dir, new_path) : -1;
}

static int posix_link(int old_dir, const char *old_path, int new_dir, const char *new_path)
{
    return linkat(old_dir, old_path, new_dir, new_path, 0);
}

static int posix_symlink(const char *target, int dir_fd, const char *path)
{
    return symlinkat(target, dir_fd, path);
}

static int posix_unlink(int dir_fd, const char *path, bool directory)
{
    return unlinkat(dir_fd, path, directory ? AT_REMOVEDIR : 0);
}

static int posix_truncate(int fd, int64_t size)
{
    return ftruncate(fd, (off_t)size);
}

static int posix_lock(int fd)
{
    return flock(fd, LOCK_EX | LOCK_NB);
}

static int64_t posix_free_bytes(int fd)
{
    struct statvfs v;
    int64_t bytes;

    if (fstatvfs(fd, &v) != 0)
        return -1;
    return __builtin_mul_overflow(v.f_bavail, v.f_frsize, &bytes) ? INT64_MAX : bytes;
}

static double seconds_of(clockid_t clock)
{
    struct timespec t = {0};

    (void)clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double posix_monotonic(void)
{
    return seconds_of(CLOCK_MONOTONIC);
}

static double posix_wall(void)
{
    return seconds_of(CLOCK_REALTIME);
}

const os_table os_posix = {
    .open = posix_open,
    .close = posix_close,
    .read = posix_read,
    .pread = posix_pread,
    .write = posix_write,
    .fsync = posix_fsync,
    .mkdir = posix_mkdir,
    .rename_new = posix_rename_new,
    .rename = posix_rename,
    .link = posix_link,
    .symlink = posix_symlink,
    .unlink = posix_unlink,
    .truncate = posix_truncate,
    .lock = posix_lock,
    .free_bytes = posix_free_bytes,
    .monotonic = posix_monotonic,
    .wall = posix_wall,
};

static const os_table *installed = &os_posix;

const os_table *os(void)
{
    return installed;
}

void os_install(const os_table *table)
{
    installed = table ? table : &os_posix;
}

/* ----------------------------------------------------------------------------------------------
 * errors */

thaw_status os_fail(thaw_status code, const char *doing, const char *name)
{
    /* not strerror(): it is neither thread-safe nor free of the locale */
    const int number = errno;
    const char *reason = strerrordesc_np(number);

    if (!reason)
        return thaw_fail(code, "cannot %s '%s': error number %d", doing, name, number);
    return thaw_fail(code, "cannot %s '%s': %s", doing, name, reason);
}

static thaw_status fail_to_open(const char *path)
{
    const bool absent = errno == ENOENT || errno == ENOTDIR;

    return os_fail(absent ? THAW_E_MISSING : THAW_E_IO, "open", path);
}

/* Was the call that just failed interrupted, and is it worth repeating? */
static bool again(int *interruptions)
{
    return errno == EINTR && ++*interruptions < MOST_INTERRUPTIONS;
}

/* ----------------------------------------------------------------------------------------------
 * opening and closing */

int os_open_at(int dir_fd, const char *path, int flags, unsigned mode)
{
    int tries = 0;
    int fd;

    do
        fd = os()->open(dir_fd, path, flags | O_CLOEXEC, mode);
    while (fd < 0 && again(&tries));
    return fd;
}

void os_close(int fd)
{
    const int kept = errno;

    if (fd >= 0)
        (void)os()->close(fd);
    errno = kept;
}

/* A tenth of a share where all processors are wanted, and all that nobody wants. Linux counts this
 * by thread, against POSIX, which has only processes. */
void os_lower_priority(void)
{
#ifdef __linux__
    (void)setpriority(PRIO_PROCESS, 0, 10);
#endif
}

void os_will_read(int fd)
{
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED);
}

thaw_status os_sync(int fd, const char *name)
{
    int tries = 0;
    int result;

    do
        result = os()->fsync(fd);
    while (result != 0 && again(&tries));
    return result == 0 ? THAW_OK : os_fail(THAW_E_IO, "put on disk", name);
}

static os_kind kind_of_mode(mode_t mode)
{
    return S_ISREG(mode) ? OS_FILE : S_ISDIR(mode) ? OS_FOLDER : OS_OTHER;
}

os_kind os_kind_of(const char *path)
{
    struct stat s;

    if (stat(path, &s) != 0)
        return errno == ENOENT || errno == ENOTDIR ? OS_ABSENT : OS_OTHER;
    return kind_of_mode(s.st_mode);
}

static thaw_status check_regular(const struct stat *s, const char *path)
{
    if (S_ISREG(s->st_mode))
        return THAW_OK;
    return thaw_fail(THAW_E_DATA, "'%s' is a %s, not a regular file", path,
                     S_ISDIR(s->st_mode)                          ? "folder"
                     : S_ISFIFO(s->st_mode)                       ? "pipe"
                     : S_ISCHR(s->st_mode) || S_ISBLK(s->st_mode) ? "device"
                                                                  : "special file");
}

thaw_status os_open_file(int *out, int64_t *size, const char *path)
{
    thaw_status status = THAW_OK;
    struct stat s;
    int fd = -1;

    /* looked at first, since opening alone may act on a device, and again once it is open */
    if (stat(path, &s) != 0)
        return fail_to_open(path);
    THAW_CHECK(check_regular(&s, path));

    fd = os_open_at(AT_FDCWD, path, READ_FLAGS, 0);
    if (fd < 0)
        return fail_to_open(path);
    if (fstat(fd, &s) != 0) {
        status = os_fail(THAW_E_IO, "examine", path);
        goto done;
    }
    THAW_TRY(check_regular(&s, path));

    *out = fd;
    *size = (int64_t)s.st_size;
    fd = -1;
done:
    os_close(fd);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * reading and writing */

thaw_status os_pread_all(int fd, void *buffer, size_t n, int64_t offset, const char *name)
{
    char *to = buffer;
    int tries = 0;

    while (n > 0) {
        const ptrdiff_t got = os()->pread(fd, to, n, offset);

        if (got < 0 && again(&tries))
            continue;
        if (got < 0)
            return os_fail(THAW_E_IO, "read", name);
        if (got == 0)
            return thaw_fail(THAW_E_IO, "'%s' ended %zu bytes early, at byte %lld", name, n,
                             (long long)offset);
        tries = 0;
        to += got;
        n -= (size_t)got;
        offset += got;
    }
    return THAW_OK;
}

thaw_status os_write_all(int fd, const void *data, size_t n, const char *name)
{
    const char *from = data;
    int tries = 0;

    while (n > 0) {
        const ptrdiff_t put = os()->write(fd, from, n);

        if (put < 0 && again(&tries))
            continue;
        if (put < 0)
            return os_fail(THAW_E_IO, "write", name);
        if (put == 0 && ++tries >= MOST_INTERRUPTIONS)
            return thaw_fail(THAW_E_IO, "cannot write '%s': nothing was taken", name);
        if (put > 0)
            tries = 0;
        from += put;
        n -= (size_t)put;
    }
    return THAW_OK;
}

static thaw_status fail_too_long(const char *path, size_t max_bytes)
{
    return thaw_fail(THAW_E_LIMIT, "'%s' is longer than the %zu bytes allowed", path, max_bytes);
}

/* Append what one read gives to data[0 … *n), which keeps room for a NUL; *end at the end. */
static thaw_status read_some(char **data, size_t *capacity, size_t *n, bool *end, int fd,
                             const char *path)
{
    int tries = 0;
    ptrdiff_t got;

    THAW_CHECK(thaw__reserve(data, capacity, *n + 2, 1));
    do
        got = os()->read(fd, *data + *n, *capacity - 1 - *n);
    while (got < 0 && again(&tries));
    if (got < 0)
        return os_fail(THAW_E_IO, "read", path);
    *end = got == 0;
    *n += (size_t)got;
    return THAW_OK;
}

/* Reads up to the end, whatever the size claims to be: the file may be growing, or lie in /proc. */
thaw_status os_read_file(char **out, size_t *size, const char *path, size_t max_bytes)
{
    thaw_status status = THAW_OK;
    char *data = NULL;
    size_t capacity = 0, n = 0;
    int64_t claimed = 0;
    bool end = false;
    int fd = -1;

    THAW_CHECK(os_open_file(&fd, &claimed, path));
    if ((uint64_t)claimed > max_bytes) {
        status = fail_too_long(path, max_bytes);
        goto done;
    }
    capacity = (size_t)claimed + 2; /* not reserved, which would round it up */
    data = thaw__alloc(capacity);
    if (!data) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory reading '%s'", path);
        goto done;
    }
    while (!end) {
        THAW_TRY(read_some(&data, &capacity, &n, &end, fd, path));
        if (n > max_bytes) {
            status = fail_too_long(path, max_bytes);
            goto done;
        }
    }
    data[n] = '\0';

    *out = data;
    *size = n;
    data = NULL;
done:
    thaw__free(data);
    os_close(fd);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * making names */

void os_random_name(char out[OS_RANDOM_NAME])
{
    uint64_t bits = 0;

    if (getrandom(&bits, sizeof bits, 0) != (ssize_t)sizeof bits)
        bits = (uint64_t)getpid() ^ (uint64_t)(1e9 * os()->monotonic());
    (void)snprintf(out, OS_RANDOM_NAME, ".tmp-%016llx", (unsigned long long)bits);
}

/* A new file in dir that `write` fills, on disk; its name may not be yet. `name`: for messages. */
static thaw_status write_new(int dir, const char *temporary, const char *name, os_writer *write,
                             const void *user)
{
    thaw_status status = THAW_OK;
    int fd = os_open_at(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);

    if (fd < 0)
        return os_fail(THAW_E_CREATE, "create", name);
    THAW_TRY(write(fd, name, user));
    THAW_TRY(os_sync(fd, name));
done:
    if (os()->close(fd) != 0 && errno != EINTR && status == THAW_OK)
        status = os_fail(THAW_E_IO, "close", name);
    return status;
}

thaw_status os_replace_with(const char *dir, const char *name, os_writer *write, const void *user)
{
    thaw_status status = THAW_OK;
    char temporary[OS_RANDOM_NAME];
    const int fd = os_open_at(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0);
    bool made = true;

    if (fd < 0)
        return fail_to_open(dir);
    os_random_name(temporary);
    THAW_TRY(write_new(fd, temporary, name, write, user));
    if (os()->rename(fd, temporary, fd, name) != 0) {
        status = os_fail(THAW_E_CREATE, "replace", name);
        goto done;
    }
    made = false;
    THAW_TRY(os_sync(fd, dir));
done:
    if (made)
        (void)os()->unlink(fd, temporary, false);
    os_close(fd);
    return status;
}

typedef struct span {
    const void *data;
    size_t n;
} span;

static thaw_status write_bytes(int fd, const char *name, const void *user)
{
    const span *b = user;

    return os_write_all(fd, b->data, b->n, name);
}

thaw_status os_replace_file(const char *dir, const char *name, const void *data, size_t n)
{
    return os_replace_with(dir, name, write_bytes, &(span){data, n});
}

thaw_status os_sync_parent(const char *folder)
{
    thaw_status status = THAW_OK;
    const int fd = os_open_at(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY, 0);
    const int parent = fd < 0 ? -1 : os_open_at(fd, "..", O_RDONLY | O_DIRECTORY, 0);

    status = parent < 0 ? fail_to_open(folder) : os_sync(parent, folder);
    os_close(parent);
    os_close(fd);
    return status;
}

static thaw_status make_folder(const char *path)
{
    if (os()->mkdir(AT_FDCWD, path, 0755) == 0)
        return os_sync_parent(path);
    if (errno == EEXIST && os_kind_of(path) == OS_FOLDER)
        return THAW_OK;
    return os_fail(THAW_E_CREATE, "create folder", path);
}

/* Where the component of a path that begins at or after `from` ends; `from` when there is none. */
static size_t component_end(const char *path, size_t from)
{
    const size_t begin = from + strspn(path + from, "/");

    return path[begin] ? begin + strcspn(path + begin, "/") : from;
}

/* Put the name of the folder path[0 … end) on disk, if that can be: where we may not, no process of
 * ours made it. */
static void sync_existing(char *path, size_t end)
{
    const char kept = path[end];
    thaw_status ignored;

    path[end] = '\0';
    ignored = os_sync_parent(path);
    (void)ignored;
    path[end] = kept;
}

/* Before the first new folder, the name of the one that will hold it: a process that made that one
 * may have been killed before it did so. */
thaw_status os_make_folders(const char *path)
{
    thaw_status status = THAW_OK;
    char *part = thaw__strdup(path);
    size_t before = 0, end = component_end(path, 0);
    bool made = false;

    if (!part)
        return thaw_fail(THAW_E_NOMEM, "out of memory creating folder '%s'", path);
    for (; end > before; before = end, end = component_end(path, end)) {
        part[end] = '\0';
        if (made || os_kind_of(part) != OS_FOLDER) {
            if (!made && before > 0)
                sync_existing(part, before);
            THAW_TRY(make_folder(part));
            made = true;
        }
        part[end] = path[end];
    }
done:
    thaw__free(part);
    return status;
}

char *os_path(const char *dir, const char *name)
{
    text t = TEXT_INIT;
    char *path = NULL;

    text_addf(&t, "%s%s%s", dir, *dir && dir[strlen(dir) - 1] == '/' ? "" : "/", name);
    if (text_take(&path, &t, "a path") != THAW_OK)
        path = NULL;
    text_done(&t);
    return path;
}

/* ----------------------------------------------------------------------------------------------
 * listing */

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names of an open folder, each with its NUL, one after the other. */
static thaw_status collect_names(text *all, size_t *n, DIR *folder, const char *path)
{
    for (;;) {
        const struct dirent *e;

        errno = 0;
        e = readdir(folder);
        if (!e)
            break;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        text_add_n(all, e->d_name, strlen(e->d_name) + 1);
        ++*n;
    }
    if (errno != 0)
        return os_fail(THAW_E_IO, "list", path);
    if (all->failed)
        return thaw_fail(THAW_E_NOMEM, "out of memory listing '%s'", path);
    return THAW_OK;
}

/* One block: n pointers, then the names they point to. */
static thaw_status sort_names(os_names *out, const text *all, size_t n, const char *path)
{
    char **name = NULL, *bytes;
    size_t size;

    if (size_mul(&size, n, sizeof *name) && size_add(&size, size, all->length))
        name = thaw__new(1, size);
    if (!name)
        return thaw_fail(THAW_E_NOMEM, "out of memory listing '%s'", path);
    bytes = (char *)(name + n);
    if (all->length > 0)
        memcpy(bytes, all->data, all->length);
    for (size_t i = 0; i < n; i++, bytes += strlen(bytes) + 1)
        name[i] = bytes;
    if (n > 0)
        qsort(name, n, sizeof *name, by_bytes);

    *out = (os_names){.name = name, .n = n};
    return THAW_OK;
}

thaw_status os_list(os_names *out, const char *path)
{
    thaw_status status = THAW_OK;
    text all = TEXT_INIT;
    size_t n = 0;
    const int fd = os_open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
    DIR *folder;

    if (fd < 0)
        return fail_to_open(path);
    folder = fdopendir(fd);
    if (!folder) {
        status = os_fail(THAW_E_IO, "list", path);
        os_close(fd);
        return status;
    }
    THAW_TRY(collect_names(&all, &n, folder, path));
    THAW_TRY(sort_names(out, &all, n, path));
done:
    text_done(&all);
    (void)closedir(folder);
    return status;
}

void os_names_free(os_names *names)
{
    if (!names)
        return;
    thaw__free(names->name);
    *names = (os_names){0};
}
