/*
 * lost_power.h - a table of operating-system calls that records what is asked of a disk, and states
 * that the disk could be left in when the power goes, made from the record. Everything is static
 * inline, like check.h.
 *
 * The model is harsher than any journal. What was not put on disk by fsync of the same file or
 * folder may be there or not, each operation by itself: writes may be missing, cut, or zeros; names
 * may be missing or, when removed, still there. An operation that was put on disk holds.
 *
 *     lost_record(root, 0, NULL);             // the folder, with what lies in it on disk
 *     CHECK_OK(thing_save(...));
 *     lost_promise(7);                        // from here on it must be there
 *     lost_record_end();
 *     for (...) {
 *         lost_choose(&d);                    // or lost_choose_worst
 *         lost_make(&d, path);                // a folder as it could be found
 *         ...
 *     }
 *     lost_free();
 *
 * An fsync, or all of one file, can be left out, to see that a test notices.
 */
#ifndef THAW_TESTS_LOST_POWER_H
#define THAW_TESTS_LOST_POWER_H

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/stat.h>

#include "base/base.h"
#include "check.h"

#define LOST_MOST_EVENTS  8000
#define LOST_MOST_NODES   1000
#define LOST_MOST_ENTRIES 64
#define LOST_MOST_SITES   64
#define LOST_NAME         256

typedef enum lost_kind {
    LOST_ADD,
    LOST_REMOVE,
    LOST_RENAME,
    LOST_WRITE,
    LOST_TRUNCATE,
    LOST_PROMISE,
    LOST_RELEASE
} lost_kind;

typedef struct lost_event {
    lost_kind kind;
    int node;   /* the folder or file that changes */
    int target; /* the node that a name comes to stand for */
    char name[LOST_NAME], to[LOST_NAME];
    size_t at, n;
    char *data;
    int64_t number;  /* of a promise; of a release: how many promises are kept */
    int synced_when; /* events before the fsync that made it last; INT32_MAX: none did */
} lost_event;

typedef struct lost_node {
    ino_t ino;
    char kind; /* 'd' folder, 'f' file, 'l' link */
    size_t size;
    size_t most;   /* bytes it ever had */
    char *content; /* before the recording, on disk */
    int n;
    struct {
        char name[LOST_NAME];
        int node;
    } entry[LOST_MOST_ENTRIES]; /* the same of a folder */
} lost_node;

typedef struct lost_record_of {
    lost_node *node;
    int n_nodes;
    lost_event *event;
    int n;
    int n_syncs;
    int skip;              /* number of an fsync that does nothing, from 1; 0: none */
    const char *skip_site; /* one of `site`, all of whose fsyncs do nothing; NULL: none */
    char site[LOST_MOST_SITES][LOST_NAME]; /* files and folders that were put on disk, by their
                                              paths in the root; ".tmp" for random names */
    int n_sites;
    size_t root_length;
    pthread_mutex_t mutex;
} lost_record_of;
static lost_record_of lost __attribute__((unused));

/* ----------------------------------------------------------------------------------------------
 * recording */

static inline void lost_enter(void)
{
    (void)pthread_mutex_lock(&lost.mutex);
}

static inline void lost_leave(void)
{
    (void)pthread_mutex_unlock(&lost.mutex);
}

static inline int lost_node_of(ino_t ino)
{
    for (int i = 0; i < lost.n_nodes; i++)
        if (lost.node[i].ino == ino)
            return i;
    return -1;
}

static inline int lost_add_node(ino_t ino, char kind)
{
    CHECK(lost.n_nodes < LOST_MOST_NODES);
    lost.node[lost.n_nodes] = (lost_node){.ino = ino, .kind = kind};
    return lost.n_nodes++;
}

/* Node of an open descriptor, -1 outside of what is recorded. */
static inline int lost_node_of_fd(int fd)
{
    struct stat s;

    return fstat(fd, &s) == 0 ? lost_node_of(s.st_ino) : -1;
}

/* Node of the folder in which the last component of a path lies, and that component. */
static inline int lost_place(char name[LOST_NAME], int dir_fd, const char *path)
{
    char folder[4096];
    char *slash;
    struct stat s;

    snprintf(folder, sizeof folder, "%s", path);
    slash = strrchr(folder, '/');
    snprintf(name, LOST_NAME, "%s", slash ? slash + 1 : path);
    if (!slash)
        return lost_node_of_fd(dir_fd);
    *slash = '\0';
    return fstatat(dir_fd, folder, &s, 0) == 0 ? lost_node_of(s.st_ino) : -1;
}

static inline lost_event *lost_add_event(lost_kind kind, int in)
{
    lost_event *e = &lost.event[lost.n++];

    CHECK(lost.n < LOST_MOST_EVENTS);
    *e = (lost_event){.kind = kind, .node = in, .synced_when = INT32_MAX};
    return e;
}

/* A name that was just made; its node is new unless it is a hard link. */
static inline void lost_record_name(int dir_fd, const char *path)
{
    char name[LOST_NAME];
    const int in = lost_place(name, dir_fd, path);
    struct stat s;
    lost_event *e;

    if (in < 0)
        return;
    CHECK(fstatat(dir_fd, path, &s, AT_SYMLINK_NOFOLLOW) == 0);
    e = lost_add_event(LOST_ADD, in);
    memcpy(e->name, name, sizeof name);
    e->target = lost_node_of(s.st_ino);
    if (e->target >= 0 && (S_ISDIR(s.st_mode) || s.st_nlink == 1)) {
        lost.node[e->target].ino = 0; /* a file that is gone; its number is in use again */
        e->target = -1;
    }
    if (e->target < 0)
        e->target = lost_add_node(s.st_ino, S_ISDIR(s.st_mode)   ? 'd'
                                            : S_ISLNK(s.st_mode) ? 'l'
                                                                 : 'f');
}

static inline int lost_open(int dir_fd, const char *path, int flags, unsigned mode)
{
    bool there;
    int fd;

    lost_enter();
    there = faccessat(dir_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    fd = os_posix.open(dir_fd, path, flags, mode);
    if (fd >= 0 && !there && (flags & O_CREAT))
        lost_record_name(dir_fd, path);
    lost_leave();
    return fd;
}

static inline off_t lost_offset(int fd)
{
    struct stat s;

    if (fcntl(fd, F_GETFL) & O_APPEND)
        return fstat(fd, &s) == 0 ? s.st_size : 0;
    return lseek(fd, 0, SEEK_CUR);
}

static inline ptrdiff_t lost_write(int fd, const void *data, size_t n)
{
    ptrdiff_t put;
    off_t at;
    int in;

    lost_enter();
    in = lost_node_of_fd(fd);
    at = lost_offset(fd);
    put = os_posix.write(fd, data, n);
    if (put > 0 && in >= 0) {
        lost_event *e = lost_add_event(LOST_WRITE, in);

        e->at = (size_t)at;
        e->n = (size_t)put;
        e->data = malloc((size_t)put);
        CHECK(e->data != NULL);
        memcpy(e->data, data, (size_t)put);
        lost.node[in].most = THAW_MAX(lost.node[in].most, e->at + e->n);
    }
    lost_leave();
    return put;
}

static inline int lost_truncate(int fd, int64_t size)
{
    int in, result;

    lost_enter();
    in = lost_node_of_fd(fd);
    result = os_posix.truncate(fd, size);
    if (result == 0 && in >= 0)
        lost_add_event(LOST_TRUNCATE, in)->at = (size_t)size;
    lost_leave();
    return result;
}

/* What stands behind an open descriptor, as a row of `site`. */
static inline const char *lost_site(int fd)
{
    char link[64], path[2 * LOST_NAME], site[LOST_NAME], *random;
    ssize_t n;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path - 1);
    CHECK(n >= (ssize_t)lost.root_length);
    path[n] = '\0';
    snprintf(site, sizeof site, "%s", path + lost.root_length);
    random = strstr(site, ".tmp-");
    if (random && strlen(random) >= OS_RANDOM_NAME - 1)
        memmove(random + 4, random + OS_RANDOM_NAME - 1, strlen(random + OS_RANDOM_NAME - 1) + 1);
    for (int i = 0; i < lost.n_sites; i++)
        if (strcmp(lost.site[i], site) == 0)
            return lost.site[i];
    CHECK(lost.n_sites < LOST_MOST_SITES);
    memcpy(lost.site[lost.n_sites], site, sizeof site);
    return lost.site[lost.n_sites++];
}

static inline int lost_fsync(int fd)
{
    int in;

    lost_enter();
    in = lost_node_of_fd(fd);
    if (in >= 0) {
        const char *site = lost_site(fd);

        if (++lost.n_syncs == lost.skip || (lost.skip_site && strcmp(site, lost.skip_site) == 0))
            in = -1;
    }
    for (int i = 0; in >= 0 && i < lost.n; i++)
        if (lost.event[i].node == in && lost.event[i].kind <= LOST_TRUNCATE &&
            lost.event[i].synced_when == INT32_MAX)
            lost.event[i].synced_when = lost.n;
    lost_leave();
    return 0;
}

static inline int lost_mkdir(int dir_fd, const char *path, unsigned mode)
{
    int result;

    lost_enter();
    result = os_posix.mkdir(dir_fd, path, mode);
    if (result == 0)
        lost_record_name(dir_fd, path);
    lost_leave();
    return result;
}

static inline void lost_record_rename(int old_dir, const char *old_path, int new_dir,
                                      const char *new_path)
{
    struct stat s;
    lost_event *e;

    CHECK(fstatat(new_dir, new_path, &s, AT_SYMLINK_NOFOLLOW) == 0);
    CHECK_INT(lost_node_of_fd(old_dir), lost_node_of_fd(new_dir));
    e = lost_add_event(LOST_RENAME, lost_node_of_fd(new_dir));
    e->target = lost_node_of(s.st_ino);
    snprintf(e->name, sizeof e->name, "%s", old_path);
    snprintf(e->to, sizeof e->to, "%s", new_path);
}

static inline int lost_rename_new(int old_dir, const char *old_path, int new_dir,
                                  const char *new_path)
{
    int result;

    lost_enter();
    result = os_posix.rename_new(old_dir, old_path, new_dir, new_path);
    if (result == 0)
        lost_record_rename(old_dir, old_path, new_dir, new_path);
    lost_leave();
    return result;
}

static inline int lost_rename(int old_dir, const char *old_path, int new_dir, const char *new_path)
{
    int result;

    lost_enter();
    result = os_posix.rename(old_dir, old_path, new_dir, new_path);
    if (result == 0)
        lost_record_rename(old_dir, old_path, new_dir, new_path);
    lost_leave();
    return result;
}

static inline int lost_link(int old_dir, const char *old_path, int new_dir, const char *new_path)
{
    int result;

    lost_enter();
    result = os_posix.link(old_dir, old_path, new_dir, new_path);
    if (result == 0)
        lost_record_name(new_dir, new_path);
    lost_leave();
    return result;
}

static inline int lost_symlink(const char *target, int dir_fd, const char *path)
{
    int result;

    lost_enter();
    result = os_posix.symlink(target, dir_fd, path);
    if (result == 0)
        lost_record_name(dir_fd, path);
    lost_leave();
    return result;
}

static inline int lost_unlink(int dir_fd, const char *path, bool directory)
{
    char name[LOST_NAME];
    int in, result;

    lost_enter();
    in = lost_place(name, dir_fd, path);
    result = os_posix.unlink(dir_fd, path, directory);
    if (result == 0 && in >= 0)
        memcpy(lost_add_event(LOST_REMOVE, in)->name, name, sizeof name);
    lost_leave();
    return result;
}

/* What lies in a folder before the recording is on disk. */
static inline int lost_scan(const char *path)
{
    struct stat s;
    int self;
    DIR *dir = opendir(path);

    CHECK(dir && stat(path, &s) == 0);
    self = lost_add_node(s.st_ino, 'd');
    for (const struct dirent *e; (e = readdir(dir));) {
        char inside[4096];
        int child;

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(inside, sizeof inside, "%s/%s", path, e->d_name);
        CHECK(lstat(inside, &s) == 0);
        if (S_ISDIR(s.st_mode)) {
            child = lost_scan(inside);
        } else if ((child = lost_node_of(s.st_ino)) < 0) {
            lost_node *f =
                &lost.node[child = lost_add_node(s.st_ino, S_ISLNK(s.st_mode) ? 'l' : 'f')];

            if (S_ISREG(s.st_mode))
                f->content = check_read_file(&f->size, inside);
            f->most = f->size;
        }
        CHECK(lost.node[self].n < LOST_MOST_ENTRIES);
        snprintf(lost.node[self].entry[lost.node[self].n].name, LOST_NAME, "%s", e->d_name);
        lost.node[self].entry[lost.node[self].n++].node = child;
    }
    closedir(dir);
    return self;
}

/* From here on what is done under `root` is recorded. skip, skip_site: fsyncs to be left out, as
 * above; 0, NULL. */
static inline void lost_record(const char *root, int skip, const char *skip_site)
{
    static os_table table;
    char real[PATH_MAX];

    lost.node = calloc(LOST_MOST_NODES, sizeof *lost.node);
    lost.event = calloc(LOST_MOST_EVENTS, sizeof *lost.event);
    CHECK(lost.node && lost.event && realpath(root, real));
    (void)pthread_mutex_init(&lost.mutex, NULL); /* a failed check may have left it locked */
    lost.n_nodes = lost.n = lost.n_syncs = lost.n_sites = 0;
    lost.skip = skip;
    lost.skip_site = skip_site;
    lost.root_length = strlen(real);
    lost_scan(root);
    table = os_posix;
    table.open = lost_open;
    table.write = lost_write;
    table.fsync = lost_fsync;
    table.mkdir = lost_mkdir;
    table.rename_new = lost_rename_new;
    table.rename = lost_rename;
    table.link = lost_link;
    table.symlink = lost_symlink;
    table.unlink = lost_unlink;
    table.truncate = lost_truncate;
    os_install(&table);
}

static inline void lost_record_end(void)
{
    os_install(NULL);
}

static inline void lost_free(void)
{
    for (int i = 0; i < lost.n; i++)
        free(lost.event[i].data);
    for (int i = 0; i < lost.n_nodes; i++)
        free(lost.node[i].content);
    free(lost.node);
    free(lost.event);
    lost.node = NULL;
    lost.event = NULL;
}

/* What `number` stands for is on disk, somebody has been told; and, from here on, only the last
 * `keep` promises hold. */
static inline void lost_promise(int64_t number)
{
    lost_enter();
    lost_add_event(LOST_PROMISE, -1)->number = number;
    lost_leave();
}

static inline void lost_release(int keep)
{
    lost_enter();
    lost_add_event(LOST_RELEASE, -1)->number = keep;
    lost_leave();
}

/* ----------------------------------------------------------------------------------------------
 * states */

static uint64_t lost_random __attribute__((unused)) = 1;

static inline uint64_t lost_below(uint64_t n)
{
    return splitmix64(&lost_random) % n;
}

/* A state of the disk: which events count, and how writes went. */
typedef struct lost_disk {
    int crash;                            /* events that had been begun */
    unsigned char fate[LOST_MOST_EVENTS]; /* 0: lost; 1: done; 2: half; 3: zeros */
} lost_disk;

static inline void lost_choose(lost_disk *d)
{
    const uint64_t mode = lost_below(6), cut = lost_below((uint64_t)lost.n + 1);

    /* the end is where everything has been promised: it gets a third of the states */
    d->crash = lost_below(3) == 0 ? lost.n : (int)lost_below((uint64_t)lost.n + 1);
    for (int i = 0; i < d->crash; i++) {
        const lost_event *e = &lost.event[i];
        const bool kept = mode == 0   ? false
                          : mode == 1 ? true
                          : mode == 2 ? (uint64_t)i < cut
                          : mode == 3 ? (uint64_t)i != cut
                          : mode == 4 ? lost_below(2) == 0
                                      : lost_below(8) == 0;

        d->fate[i] = e->synced_when < d->crash ? 1 : kept ? 1 : 0;
        if (d->fate[i] == 0 && e->kind == LOST_WRITE && lost_below(2) == 0)
            d->fate[i] = (unsigned char)(2 + lost_below(2));
    }
}

/* The power goes after `crash` events. Names that are not on disk: none of them (or all, where
 * named is true) is there; what was written and is not on disk is lost. */
static inline void lost_choose_worst(lost_disk *d, int crash, bool named)
{
    d->crash = crash;
    for (int i = 0; i < crash; i++) {
        const lost_event *e = &lost.event[i];

        d->fate[i] = e->synced_when < crash || (named && e->kind < LOST_WRITE);
    }
}

static inline void lost_make_file(const lost_disk *d, int which, const char *path)
{
    const lost_node *f = &lost.node[which];
    char *content = calloc(f->most + 1, 1);
    size_t size = f->size;
    int fd;

    CHECK(content != NULL);
    if (f->content)
        memcpy(content, f->content, f->size);
    for (int i = 0; i < d->crash; i++) {
        const lost_event *e = &lost.event[i];
        const size_t n = d->fate[i] == 2 ? e->n / 2 : e->n;

        if (e->node != which || d->fate[i] == 0)
            continue;
        if (e->kind == LOST_TRUNCATE) {
            memset(content + THAW_MIN(e->at, f->most), 0, f->most - THAW_MIN(e->at, f->most));
            size = THAW_MIN(size, e->at);
        } else if (e->kind == LOST_WRITE) {
            if (d->fate[i] == 3)
                memset(content + e->at, 0, n);
            else
                memcpy(content + e->at, e->data, n);
            size = THAW_MAX(size, e->at + n);
        }
    }
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    CHECK(fd >= 0 && write(fd, content, size) == (ssize_t)size);
    close(fd);
    free(content);
}

static inline int lost_entry_index(const lost_node *folder, const char *name)
{
    for (int i = 0; i < folder->n; i++)
        if (strcmp(folder->entry[i].name, name) == 0)
            return i;
    return -1;
}

static inline void lost_entry_remove(lost_node *folder, const char *name)
{
    const int i = lost_entry_index(folder, name);

    if (i >= 0)
        folder->entry[i] = folder->entry[--folder->n];
}

static inline void lost_entry_put(lost_node *folder, const char *name, int target)
{
    int i = lost_entry_index(folder, name);

    if (i < 0)
        i = folder->n++;
    CHECK(i < LOST_MOST_ENTRIES);
    snprintf(folder->entry[i].name, LOST_NAME, "%s", name);
    folder->entry[i].node = target;
}

static inline void lost_make_folder(const lost_disk *d, int which, const char *path, int depth)
{
    lost_node folder = lost.node[which];

    CHECK(depth < 8 && mkdir(path, 0755) == 0);
    for (int i = 0; i < d->crash; i++) {
        const lost_event *e = &lost.event[i];

        if (e->node != which || d->fate[i] == 0)
            continue;
        if (e->kind != LOST_ADD)
            lost_entry_remove(&folder, e->name);
        if (e->kind != LOST_REMOVE)
            lost_entry_put(&folder, e->kind == LOST_ADD ? e->name : e->to, e->target);
    }
    for (int i = 0; i < folder.n; i++) {
        char inside[4096];
        const int target = folder.entry[i].node;

        snprintf(inside, sizeof inside, "%s/%s", path, folder.entry[i].name);
        if (lost.node[target].kind == 'd')
            lost_make_folder(d, target, inside, depth + 1);
        else if (lost.node[target].kind == 'f')
            lost_make_file(d, target, inside);
        else
            CHECK(symlink("nowhere", inside) == 0);
    }
}

/* The root as it would be found. */
static inline void lost_make(const lost_disk *d, const char *path)
{
    lost_make_folder(d, 0, path, 0);
}

/* Numbers that had been promised when the power went, in their order, and not been released;
 * `had`: one from before, or 0. */
static inline int lost_promised(int64_t number[16], const lost_disk *d, int64_t had)
{
    int n = 0;

    if (had > 0)
        number[n++] = had;
    for (int i = 0; i < d->crash; i++) {
        const lost_event *e = &lost.event[i];

        if (e->kind == LOST_PROMISE) {
            CHECK(n < 16);
            number[n++] = e->number;
        }
        if (e->kind == LOST_RELEASE && e->number < n) {
            memmove(number, number + n - e->number, (size_t)e->number * sizeof *number);
            n = (int)e->number;
        }
    }
    return n;
}

#endif
