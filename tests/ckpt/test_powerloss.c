/*
 * Losing power: the operations of saving are recorded, and states that a disk could be left in are
 * made from them and given to the search for the newest checkpoint.
 *
 * The model is harsher than any journal. What was not put on disk by fsync of the same file or
 * folder may be there or not, each operation by itself: writes may be missing, cut, or zeros; names
 * may be missing or, when removed, still there. An operation that was put on disk holds. Whatever
 * comes of it, each checkpoint whose saving had returned must be there and right, and none that is
 * torn may be taken for good.
 *
 * The test is tested: leaving out any one fsync, or the verification, must be noticed.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "faults.h"
#include "saving.h"

#define MOST_EVENTS  4000
#define MOST_NODES   400
#define MOST_ENTRIES 64
#define NAME_SIZE    256
#define CONTENT_SIZE 8192

/* ----------------------------------------------------------------------------------------------
 * recording */

typedef enum event_kind {
    EVENT_ADD,
    EVENT_REMOVE,
    EVENT_RENAME,
    EVENT_WRITE,
    EVENT_ACK,
    EVENT_RETAIN
} event_kind;

typedef struct event {
    event_kind kind;
    int node;   /* the folder or file that changes */
    int target; /* the node that a name comes to stand for */
    char name[NAME_SIZE], to[NAME_SIZE];
    size_t at, n;
    char *data;
    int64_t number;  /* step of an ack, count of a retain */
    int synced_when; /* events before the fsync that made it last; INT32_MAX: none did */
} event;

typedef struct node {
    ino_t ino;
    char kind; /* 'd' folder, 'f' file, 'l' link */
    size_t size;
    char *content; /* before the recording, on disk */
    int n;
    struct {
        char name[NAME_SIZE];
        int node;
    } entry[MOST_ENTRIES]; /* the same of a folder */
} node;

static struct {
    char root[64];
    node *node;
    int n_nodes;
    event *event;
    int n;
    int n_syncs, skip; /* fsyncs so far; number of the one that does nothing, from 1 */
} rec;

static int node_of(ino_t ino)
{
    for (int i = 0; i < rec.n_nodes; i++)
        if (rec.node[i].ino == ino)
            return i;
    return -1;
}

static int add_node(ino_t ino, char kind)
{
    CHECK(rec.n_nodes < MOST_NODES);
    rec.node[rec.n_nodes] = (node){.ino = ino, .kind = kind};
    return rec.n_nodes++;
}

/* Node of an open descriptor, -1 outside of what is recorded. */
static int node_of_fd(int fd)
{
    struct stat s;

    return fstat(fd, &s) == 0 ? node_of(s.st_ino) : -1;
}

/* Node of the folder in which the last component of a path lies, and that component. */
static int place(char name[NAME_SIZE], int dir_fd, const char *path)
{
    char folder[4096];
    char *slash;
    struct stat s;

    snprintf(folder, sizeof folder, "%s", path);
    slash = strrchr(folder, '/');
    snprintf(name, NAME_SIZE, "%s", slash ? slash + 1 : path);
    if (!slash)
        return node_of_fd(dir_fd);
    *slash = '\0';
    return fstatat(dir_fd, folder, &s, 0) == 0 ? node_of(s.st_ino) : -1;
}

static event *add_event(event_kind kind, int in)
{
    event *e = &rec.event[rec.n++];

    CHECK(rec.n < MOST_EVENTS);
    *e = (event){.kind = kind, .node = in, .synced_when = INT32_MAX};
    return e;
}

/* A name that was just made; its node is new unless it is a hard link. */
static void record_name(int dir_fd, const char *path)
{
    char name[NAME_SIZE];
    const int in = place(name, dir_fd, path);
    struct stat s;
    event *e;

    if (in < 0)
        return;
    CHECK(fstatat(dir_fd, path, &s, AT_SYMLINK_NOFOLLOW) == 0);
    e = add_event(EVENT_ADD, in);
    memcpy(e->name, name, sizeof name);
    e->target = node_of(s.st_ino);
    if (e->target >= 0 && (S_ISDIR(s.st_mode) || s.st_nlink == 1)) {
        rec.node[e->target].ino = 0; /* a file that is gone; its number is in use again */
        e->target = -1;
    }
    if (e->target < 0)
        e->target = add_node(s.st_ino, S_ISDIR(s.st_mode) ? 'd' : S_ISLNK(s.st_mode) ? 'l' : 'f');
}

static int rec_open(int dir_fd, const char *path, int flags, unsigned mode)
{
    const bool there = faccessat(dir_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    const int fd = os_posix.open(dir_fd, path, flags, mode);

    if (fd >= 0 && !there && (flags & O_CREAT))
        record_name(dir_fd, path);
    return fd;
}

static ptrdiff_t rec_write(int fd, const void *data, size_t n)
{
    const int in = node_of_fd(fd);
    const off_t at = lseek(fd, 0, SEEK_CUR);
    const ptrdiff_t put = os_posix.write(fd, data, n);

    if (put > 0 && in >= 0) {
        event *e = add_event(EVENT_WRITE, in);

        e->at = (size_t)at;
        e->n = (size_t)put;
        e->data = malloc((size_t)put);
        CHECK(e->data && e->at + e->n <= CONTENT_SIZE);
        memcpy(e->data, data, (size_t)put);
    }
    return put;
}

static int rec_fsync(int fd)
{
    const int in = node_of_fd(fd);

    if (in < 0 || ++rec.n_syncs == rec.skip)
        return 0;
    for (int i = 0; i < rec.n; i++)
        if (rec.event[i].node == in && rec.event[i].kind <= EVENT_WRITE &&
            rec.event[i].synced_when == INT32_MAX)
            rec.event[i].synced_when = rec.n;
    return 0;
}

static int rec_mkdir(int dir_fd, const char *path, unsigned mode)
{
    const int result = os_posix.mkdir(dir_fd, path, mode);

    if (result == 0)
        record_name(dir_fd, path);
    return result;
}

static int record_rename(int old_dir, const char *old_path, int new_dir, const char *new_path)
{
    struct stat s;
    event *e;

    CHECK(fstatat(new_dir, new_path, &s, AT_SYMLINK_NOFOLLOW) == 0);
    CHECK_INT(node_of_fd(old_dir), node_of_fd(new_dir));
    e = add_event(EVENT_RENAME, node_of_fd(new_dir));
    e->target = node_of(s.st_ino);
    snprintf(e->name, sizeof e->name, "%s", old_path);
    snprintf(e->to, sizeof e->to, "%s", new_path);
    return 0;
}

static int rec_rename_new(int old_dir, const char *old_path, int new_dir, const char *new_path)
{
    if (os_posix.rename_new(old_dir, old_path, new_dir, new_path) != 0)
        return -1;
    return record_rename(old_dir, old_path, new_dir, new_path);
}

static int rec_rename(int old_dir, const char *old_path, int new_dir, const char *new_path)
{
    if (os_posix.rename(old_dir, old_path, new_dir, new_path) != 0)
        return -1;
    return record_rename(old_dir, old_path, new_dir, new_path);
}

static int rec_link(int old_dir, const char *old_path, int new_dir, const char *new_path)
{
    const int result = os_posix.link(old_dir, old_path, new_dir, new_path);

    if (result == 0)
        record_name(new_dir, new_path);
    return result;
}

static int rec_symlink(const char *target, int dir_fd, const char *path)
{
    const int result = os_posix.symlink(target, dir_fd, path);

    if (result == 0)
        record_name(dir_fd, path);
    return result;
}

static int rec_unlink(int dir_fd, const char *path, bool directory)
{
    char name[NAME_SIZE];
    const int in = place(name, dir_fd, path);
    const int result = os_posix.unlink(dir_fd, path, directory);

    if (result == 0 && in >= 0)
        memcpy(add_event(EVENT_REMOVE, in)->name, name, sizeof name);
    return result;
}

/* What lies in a folder before the recording is on disk. */
static int scan_folder(const char *path)
{
    struct stat s;
    int self;
    DIR *dir = opendir(path);

    CHECK(dir && stat(path, &s) == 0);
    self = add_node(s.st_ino, 'd');
    for (const struct dirent *e; (e = readdir(dir));) {
        char inside[4096];
        int child;

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(inside, sizeof inside, "%s/%s", path, e->d_name);
        CHECK(lstat(inside, &s) == 0);
        if (S_ISDIR(s.st_mode)) {
            child = scan_folder(inside);
        } else if ((child = node_of(s.st_ino)) < 0) {
            child = add_node(s.st_ino, S_ISLNK(s.st_mode) ? 'l' : 'f');
            if (S_ISREG(s.st_mode))
                rec.node[child].content = check_read_file(&rec.node[child].size, inside);
        }
        CHECK(rec.node[self].n < MOST_ENTRIES);
        snprintf(rec.node[self].entry[rec.node[self].n].name, NAME_SIZE, "%s", e->d_name);
        rec.node[self].entry[rec.node[self].n++].node = child;
    }
    closedir(dir);
    return self;
}

static void record_begin(const char *root, int skip)
{
    static os_table table;

    rec.node = calloc(MOST_NODES, sizeof *rec.node);
    rec.event = calloc(MOST_EVENTS, sizeof *rec.event);
    CHECK(rec.node && rec.event);
    rec.n_nodes = rec.n = rec.n_syncs = 0;
    rec.skip = skip;
    snprintf(rec.root, sizeof rec.root, "%s", root);
    scan_folder(root);
    table = os_posix;
    table.open = rec_open;
    table.write = rec_write;
    table.fsync = rec_fsync;
    table.mkdir = rec_mkdir;
    table.rename_new = rec_rename_new;
    table.rename = rec_rename;
    table.link = rec_link;
    table.symlink = rec_symlink;
    table.unlink = rec_unlink;
    os_install(&table);
}

static void record_free(void)
{
    for (int i = 0; i < rec.n; i++)
        free(rec.event[i].data);
    for (int i = 0; i < rec.n_nodes; i++)
        free(rec.node[i].content);
    free(rec.node);
    free(rec.event);
}

/* ----------------------------------------------------------------------------------------------
 * scenarios */

static void save(const char *folder, int64_t step)
{
    CHECK_OK(saving_commit(folder, step));
    add_event(EVENT_ACK, -1)->number = step;
}

static void retain(const char *folder, int keep)
{
    add_event(EVENT_RETAIN, -1)->number = keep;
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
 * states */

static uint64_t random_state = 1;

static uint64_t random_below(uint64_t n)
{
    return splitmix64(&random_state) % n;
}

/* A state of the disk: which events count, and how writes went. */
typedef struct disk {
    int crash;                       /* events that had been begun */
    unsigned char fate[MOST_EVENTS]; /* 0: lost; 1: done; 2: half; 3: zeros */
} disk;

static void choose_state(disk *d)
{
    const uint64_t mode = random_below(6), cut = random_below((uint64_t)rec.n + 1);

    /* the end is where everything has been promised: it gets a third of the states */
    d->crash = random_below(3) == 0 ? rec.n : (int)random_below((uint64_t)rec.n + 1);
    for (int i = 0; i < d->crash; i++) {
        const event *e = &rec.event[i];
        const bool kept = mode == 0   ? false
                          : mode == 1 ? true
                          : mode == 2 ? (uint64_t)i < cut
                          : mode == 3 ? (uint64_t)i != cut
                          : mode == 4 ? random_below(2) == 0
                                      : random_below(8) == 0;

        d->fate[i] = e->synced_when < d->crash ? 1 : kept ? 1 : 0;
        if (d->fate[i] == 0 && e->kind == EVENT_WRITE && random_below(2) == 0)
            d->fate[i] = (unsigned char)(2 + random_below(2));
    }
}

static void make_file(const disk *d, int which, const char *path)
{
    char content[CONTENT_SIZE] = {0};
    const node *f = &rec.node[which];
    size_t size = f->size;
    int fd;

    if (f->content)
        memcpy(content, f->content, f->size);
    for (int i = 0; i < d->crash; i++) {
        const event *e = &rec.event[i];
        const size_t n = d->fate[i] == 2 ? e->n / 2 : e->n;

        if (e->node != which || e->kind != EVENT_WRITE || d->fate[i] == 0)
            continue;
        if (d->fate[i] == 3)
            memset(content + e->at, 0, n);
        else
            memcpy(content + e->at, e->data, n);
        size = THAW_MAX(size, e->at + n);
    }
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    CHECK(fd >= 0 && write(fd, content, size) == (ssize_t)size);
    close(fd);
}

static int entry_index(const node *folder, const char *name)
{
    for (int i = 0; i < folder->n; i++)
        if (strcmp(folder->entry[i].name, name) == 0)
            return i;
    return -1;
}

static void entry_remove(node *folder, const char *name)
{
    const int i = entry_index(folder, name);

    if (i >= 0)
        folder->entry[i] = folder->entry[--folder->n];
}

static void entry_put(node *folder, const char *name, int target)
{
    int i = entry_index(folder, name);

    if (i < 0)
        i = folder->n++;
    CHECK(i < MOST_ENTRIES);
    snprintf(folder->entry[i].name, NAME_SIZE, "%s", name);
    folder->entry[i].node = target;
}

static void make_folder_of(const disk *d, int which, const char *path, int depth)
{
    node folder = rec.node[which];

    CHECK(depth < 8 && mkdir(path, 0755) == 0);
    for (int i = 0; i < d->crash; i++) {
        const event *e = &rec.event[i];

        if (e->node != which || d->fate[i] == 0)
            continue;
        if (e->kind != EVENT_ADD)
            entry_remove(&folder, e->name);
        if (e->kind != EVENT_REMOVE)
            entry_put(&folder, e->kind == EVENT_ADD ? e->name : e->to, e->target);
    }
    for (int i = 0; i < folder.n; i++) {
        char inside[4096];
        const int target = folder.entry[i].node;

        snprintf(inside, sizeof inside, "%s/%s", path, folder.entry[i].name);
        if (rec.node[target].kind == 'd')
            make_folder_of(d, target, inside, depth + 1);
        else if (rec.node[target].kind == 'f')
            make_file(d, target, inside);
        else
            CHECK(symlink("nowhere", inside) == 0);
    }
}

/* ----------------------------------------------------------------------------------------------
 * what must hold */

/* Steps that had been promised when the power went, and were not to be deleted. */
static int promised(int64_t step[16], const disk *d, int had)
{
    int n = 0;

    if (had > 0)
        step[n++] = had;
    for (int i = 0; i < d->crash; i++) {
        const event *e = &rec.event[i];

        if (e->kind == EVENT_ACK) {
            CHECK(n < 16);
            step[n++] = e->number;
        }
        if (e->kind == EVENT_RETAIN && e->number < n) {
            memmove(step, step + n - e->number, (size_t)e->number * sizeof *step);
            n = (int)e->number;
        }
    }
    return n;
}

/* What is wrong with this state, or "". */
static void judge(char out[512], const disk *d, const char *folder, const scenario *s,
                  bool trusting)
{
    int64_t step[16];
    const int n = promised(step, d, s->had);
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
    static disk d;
    long i;

    CHECK(folder != NULL);
    s->prepare(folder);
    record_begin(real, skip);
    s->run(folder);
    os_install(NULL);
    if (n_syncs)
        *n_syncs = rec.n_syncs;
    out[0] = '\0';
    for (i = 0; i < n_states && !out[0]; i++) {
        char state[64], inside[128];

        snprintf(state, sizeof state, "%s/s", made);
        snprintf(inside, sizeof inside, "%s/%s", state, s->folder);
        choose_state(&d);
        make_folder_of(&d, 0, state, 0);
        judge(out, &d, inside, s, trusting);
        nftw(state, check_folder_remove_one, 32, FTW_DEPTH | FTW_PHYS);
    }
    record_free();
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
