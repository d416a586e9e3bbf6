/*
 * faults.h - a table of operating-system calls whose n-th operation fails, falls short, or is the
 * last one of the process. Everything is static inline, like check.h.
 *
 *     for (long n = 1;; n++) {
 *         faults_arm(n, EIO, false);
 *         status = thing_save(...);
 *         if (!faults_disarm())
 *             break;                       // operation n was never reached
 *         ...
 *     }
 *
 * Operations of other threads count too, unless faults_only says whose are meant.
 */
#ifndef THAW_TESTS_FAULTS_H
#define THAW_TESTS_FAULTS_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/base.h"

#define FAULT_SHORT (-1) /* in place of an errno: reads and writes do half, the rest succeeds */
#define FAULT_EXIT  (-2) /* the process ends before the operation, with exit code 99 */
#define FAULT_COUNT (-3) /* nothing fails, operations are counted */

/* Whose operations are counted and may fail; the caller is the thread that arms. */
typedef enum faults_of { FAULTS_OF_ALL, FAULTS_OF_CALLER, FAULTS_OF_OTHERS } faults_of;

typedef struct faults {
    atomic_long n;
    long at;
    int kind;
    bool forever;
    faults_of of;
    pthread_t caller;
} faults;
static faults faults_state __attribute__((unused));

static inline bool faults_counts(const faults *f)
{
    return f->of == FAULTS_OF_ALL ||
           (pthread_equal(pthread_self(), f->caller) != 0) == (f->of == FAULTS_OF_CALLER);
}

/* Is the operation now beginning one that fails? Then errno is set. */
static inline bool faults_strike(void)
{
    faults *f = &faults_state;
    long n;

    if (!faults_counts(f))
        return false;
    n = ++f->n;
    if (f->kind == FAULT_COUNT || (f->forever ? n < f->at : n != f->at))
        return false;
    if (f->kind == FAULT_EXIT)
        _exit(99);
    if (f->kind == FAULT_SHORT)
        return false;
    errno = f->kind;
    return true;
}

/* Number of bytes a read or write may do now. */
static inline size_t faults_cut(size_t n)
{
    const faults *f = &faults_state;
    const bool hit = f->forever ? f->n >= f->at : f->n == f->at;

    return f->kind == FAULT_SHORT && hit && faults_counts(f) && n > 1 ? n / 2 : n;
}

static inline int faults_open(int dir_fd, const char *path, int flags, unsigned mode)
{
    return faults_strike() ? -1 : os_posix.open(dir_fd, path, flags, mode);
}

/* A failing close still closes, as on Linux. */
static inline int faults_close(int fd)
{
    const bool struck = faults_strike();
    const int result = os_posix.close(fd);

    if (struck)
        errno = faults_state.kind;
    return struck ? -1 : result;
}

static inline ptrdiff_t faults_read(int fd, void *buffer, size_t n)
{
    return faults_strike() ? -1 : os_posix.read(fd, buffer, faults_cut(n));
}

static inline ptrdiff_t faults_pread(int fd, void *buffer, size_t n, int64_t offset)
{
    return faults_strike() ? -1 : os_posix.pread(fd, buffer, faults_cut(n), offset);
}

static inline ptrdiff_t faults_write(int fd, const void *buffer, size_t n)
{
    return faults_strike() ? -1 : os_posix.write(fd, buffer, faults_cut(n));
}

static inline int faults_fsync(int fd)
{
    return faults_strike() ? -1 : os_posix.fsync(fd);
}

static inline int faults_mkdir(int dir_fd, const char *path, unsigned mode)
{
    return faults_strike() ? -1 : os_posix.mkdir(dir_fd, path, mode);
}

static inline int faults_rename_new(int old_dir, const char *old_path, int new_dir,
                                    const char *new_path)
{
    return faults_strike() ? -1 : os_posix.rename_new(old_dir, old_path, new_dir, new_path);
}

static inline int faults_rename(int old_dir, const char *old_path, int new_dir,
                                const char *new_path)
{
    return faults_strike() ? -1 : os_posix.rename(old_dir, old_path, new_dir, new_path);
}

static inline int faults_link(int old_dir, const char *old_path, int new_dir, const char *new_path)
{
    return faults_strike() ? -1 : os_posix.link(old_dir, old_path, new_dir, new_path);
}

static inline int faults_symlink(const char *target, int dir_fd, const char *path)
{
    return faults_strike() ? -1 : os_posix.symlink(target, dir_fd, path);
}

static inline int faults_unlink(int dir_fd, const char *path, bool directory)
{
    return faults_strike() ? -1 : os_posix.unlink(dir_fd, path, directory);
}

static inline int faults_truncate(int fd, int64_t size)
{
    return faults_strike() ? -1 : os_posix.truncate(fd, size);
}

static inline int faults_lock(int fd)
{
    return faults_strike() ? -1 : os_posix.lock(fd);
}

static inline int64_t faults_free_bytes(int fd)
{
    return faults_strike() ? -1 : os_posix.free_bytes(fd);
}

/* From here on the at-th operation (from 1) meets this kind of fault, or all from it on. */
static inline void faults_arm(long at, int kind, bool forever)
{
    static os_table table;

    table = os_posix;
    table.open = faults_open;
    table.close = faults_close;
    table.read = faults_read;
    table.pread = faults_pread;
    table.write = faults_write;
    table.fsync = faults_fsync;
    table.mkdir = faults_mkdir;
    table.rename_new = faults_rename_new;
    table.rename = faults_rename;
    table.link = faults_link;
    table.symlink = faults_symlink;
    table.unlink = faults_unlink;
    table.truncate = faults_truncate;
    table.lock = faults_lock;
    table.free_bytes = faults_free_bytes;
    faults_state.n = 0;
    faults_state.at = at;
    faults_state.kind = kind;
    faults_state.forever = forever;
    faults_state.of = FAULTS_OF_ALL;
    faults_state.caller = pthread_self();
    os_install(&table);
}

/* Between arming and what is tested. */
static inline void faults_only(faults_of of)
{
    faults_state.of = of;
}

/* Back to normal; was the operation reached? */
static inline bool faults_disarm(void)
{
    os_install(NULL);
    return faults_state.n >= faults_state.at;
}

#endif
