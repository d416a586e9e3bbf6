/*
 * feature_store.c - rows of numbers by cell, in memory as far as the budget goes, then in files.
 *
 * The idea: what is kept here can always be made again. So nothing is ever pushed out (each epoch
 * asks for every row once, and what was kept first serves as well as what came last), a row that
 * does not read back as it was written is one that was never kept, and a disk that fails is used no
 * more. Knows nothing of what rows mean; that a digest fits is all it asks of files from before.
 */
#include "train/train.h"

#include "train/features.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define SLAB_BYTES  ((size_t)4 << 20)
#define CHUNK_BYTES ((size_t)8 << 20)
#define MAGIC       UINT64_C(0x3174616566746874) /* differs where bytes are in another order */
#define DIGEST      64
#define MARK        16

typedef enum row_place { ROW_NOWHERE, ROW_MEMORY, ROW_PENDING, ROW_DISK } row_place;

/* A file of rows: head, then its index, then the rows. */
typedef struct chunk_head {
    uint64_t magic, rows, bytes;
    char digest[DIGEST];
    char index_mark[MARK]; /* of the index */
} chunk_head;

typedef struct chunk_entry {
    int64_t cell, label;
    char mark[MARK]; /* of the row */
} chunk_entry;

struct feature_store {
    feature_store_options o;
    atomic_uchar *place; /* [n_cells]; read by the thread that prepares batches, too */
    int64_t *at;         /* [n_cells] row among all in memory; number of the chunk and row in it */
    int32_t *label;      /* [n_cells] */
    int64_t n_memory, n_disk;

    char **slab; /* each has slab_rows */
    size_t n_slabs, cap_slabs;
    int64_t slab_rows;

    char *folder; /* of this digest; NULL: memory alone */
    int64_t chunk_rows;
    int64_t n_chunks; /* numbers given to files so far */
    uint64_t disk_used;
    chunk_entry *index; /* [chunk_rows] of the chunk that fills; NULL: none does */
    char *rows;
    int64_t n_pending;
    text problem;
    bool told_damage;
};

/* ----------------------------------------------------------------------------------------------
 * files */

static void mark_of(char out[MARK], const void *data, size_t n)
{
    mark m = mark_begin();
    char hex[MARK + 1];

    mark_add(&m, data, n);
    mark_end(hex, &m);
    memcpy(out, hex, MARK);
}

static size_t chunk_size(const feature_store *s, int64_t rows)
{
    return sizeof(chunk_head) + (size_t)rows * (sizeof(chunk_entry) + s->o.bytes);
}

static char *chunk_path(const feature_store *s, int64_t number)
{
    char name[40];

    (void)snprintf(name, sizeof name, "%08lld.chunk", (long long)number);
    return os_path(s->folder, name);
}

static thaw_status write_chunk(int fd, const char *name, const void *user)
{
    const feature_store *s = user;
    const size_t index = (size_t)s->n_pending * sizeof *s->index;
    chunk_head head = {.magic = MAGIC, .rows = (uint64_t)s->n_pending, .bytes = s->o.bytes};

    memcpy(head.digest, s->o.digest, DIGEST);
    mark_of(head.index_mark, s->index, index);
    THAW_CHECK(os_write_all(fd, &head, sizeof head, name));
    THAW_CHECK(os_write_all(fd, s->index, index, name));
    return os_write_all(fd, s->rows, (size_t)s->n_pending * s->o.bytes, name);
}

static void drop_pending(feature_store *s)
{
    for (int64_t i = 0; i < s->n_pending; i++)
        atomic_store_explicit(&s->place[s->index[i].cell], ROW_NOWHERE, memory_order_release);
    s->n_pending = 0;
}

/* No more rows go to disk; those that are there can still be read. */
static void give_up_disk(feature_store *s, const char *why)
{
    drop_pending(s);
    s->o.budget->disk = 0;
    s->o.budget->disk_failed = true;
    text_addf(&s->problem, "the cache of features writes no more files: %s\n", why);
}

/* The rows collected so far become a file. */
static void flush(feature_store *s)
{
    const size_t size = chunk_size(s, s->n_pending);
    char name[40];

    if (s->n_pending == 0)
        return;
    (void)snprintf(name, sizeof name, "%08lld.chunk", (long long)s->n_chunks);
    if (os_make_folders(s->folder) != THAW_OK ||
        os_replace_with(s->folder, name, write_chunk, s) != THAW_OK) {
        give_up_disk(s, thaw_error());
        return;
    }
    for (int64_t i = 0; i < s->n_pending; i++) {
        s->at[s->index[i].cell] = s->n_chunks * s->chunk_rows + i;
        atomic_store_explicit(&s->place[s->index[i].cell], ROW_DISK, memory_order_release);
    }
    s->n_disk += s->n_pending;
    s->disk_used += size;
    s->o.budget->disk -= THAW_MIN(s->o.budget->disk, size);
    s->n_pending = 0;
    s->n_chunks++;
}

/* Room in the chunk that fills; the files' limit is kept. */
static bool open_pending(feature_store *s)
{
    if (!s->folder || s->o.budget->disk < chunk_size(s, s->chunk_rows))
        return false;
    if (!s->index) {
        s->index = thaw__new((size_t)s->chunk_rows, sizeof *s->index);
        s->rows = thaw__new((size_t)s->chunk_rows, s->o.bytes);
    }
    return s->index && s->rows;
}

static void put_on_disk(feature_store *s, int64_t cell, const void *row)
{
    chunk_entry *e;

    if (!open_pending(s))
        return;
    e = &s->index[s->n_pending];
    *e = (chunk_entry){.cell = cell, .label = s->label[cell]};
    mark_of(e->mark, row, s->o.bytes);
    memcpy(s->rows + (size_t)s->n_pending * s->o.bytes, row, s->o.bytes);
    s->at[cell] = s->n_pending++;
    atomic_store_explicit(&s->place[cell], ROW_PENDING, memory_order_release);
    if (s->n_pending == s->chunk_rows)
        flush(s);
}

/* One row and its entry; false where anything is not as it was written. */
static bool read_row(void *row, const feature_store *s, int64_t cell)
{
    const int64_t number = s->at[cell] / s->chunk_rows, at = s->at[cell] % s->chunk_rows;
    char *path = chunk_path(s, number);
    chunk_entry e;
    chunk_head head;
    char mark[MARK];
    int64_t size;
    int fd = -1;
    bool good;

    good = path && os_open_file(&fd, &size, path) == THAW_OK &&
           os_pread_all(fd, &head, sizeof head, 0, path) == THAW_OK;
    good = good && at < (int64_t)head.rows && head.rows <= (uint64_t)s->chunk_rows &&
           os_pread_all(fd, &e, sizeof e, (int64_t)(sizeof head + (size_t)at * sizeof e), path) ==
               THAW_OK &&
           os_pread_all(fd, row, s->o.bytes,
                        (int64_t)(chunk_size(s, (int64_t)head.rows) -
                                  (head.rows - (uint64_t)at) * s->o.bytes),
                        path) == THAW_OK;
    if (fd >= 0)
        os_close(fd);
    thaw__free(path);
    if (!good || e.cell != cell)
        return false;
    mark_of(mark, row, s->o.bytes);
    return memcmp(mark, e.mark, MARK) == 0;
}

/* ----------------------------------------------------------------------------------------------
 * files from before */

static void tell_damage(feature_store *s)
{
    if (!s->told_damage)
        text_add(&s->problem, "part of the cache of features was damaged or gone and is computed "
                              "again\n");
    s->told_damage = true;
}

static bool head_fits(const feature_store *s, const chunk_head *head, int64_t size)
{
    return head->magic == MAGIC && head->bytes == s->o.bytes && head->rows > 0 &&
           head->rows <= (uint64_t)s->chunk_rows &&
           memcmp(head->digest, s->o.digest, DIGEST) == 0 &&
           (uint64_t)size == chunk_size(s, (int64_t)head->rows);
}

static bool index_fits(const feature_store *s, const chunk_head *head, const chunk_entry *index)
{
    char mark[MARK];

    mark_of(mark, index, (size_t)head->rows * sizeof *index);
    if (memcmp(mark, head->index_mark, MARK) != 0)
        return false;
    for (uint64_t i = 0; i < head->rows; i++)
        if (index[i].cell < 0 || index[i].cell >= s->o.n_cells || index[i].label < INT32_MIN ||
            index[i].label > INT32_MAX)
            return false;
    return true;
}

/* Take up one file; false: it is not what it should be. */
static bool adopt(feature_store *s, const char *path, int64_t number)
{
    chunk_entry *index = NULL;
    chunk_head head;
    int64_t size;
    int fd = -1;
    bool good = os_open_file(&fd, &size, path) == THAW_OK && size >= (int64_t)sizeof head &&
                os_pread_all(fd, &head, sizeof head, 0, path) == THAW_OK &&
                head_fits(s, &head, size);

    if (good)
        index = thaw__new((size_t)head.rows, sizeof *index);
    good =
        good && index &&
        os_pread_all(fd, index, (size_t)head.rows * sizeof *index, sizeof head, path) == THAW_OK &&
        index_fits(s, &head, index);
    for (uint64_t i = 0; good && i < head.rows; i++) {
        const int64_t cell = index[i].cell;

        s->n_disk += atomic_load(&s->place[cell]) == ROW_NOWHERE;
        s->at[cell] = number * s->chunk_rows + (int64_t)i;
        s->label[cell] = (int32_t)index[i].label;
        atomic_store_explicit(&s->place[cell], ROW_DISK, memory_order_release);
    }
    if (good) {
        s->disk_used += (uint64_t)size;
        s->o.budget->disk -= THAW_MIN(s->o.budget->disk, (uint64_t)size);
    }
    if (fd >= 0)
        os_close(fd);
    thaw__free(index);
    return good;
}

/* "00000012.chunk" */
static bool chunk_number(int64_t *out, const char *name)
{
    char digits[9] = {0};

    if (strlen(name) != 14 || strcmp(name + 8, ".chunk") != 0 || strspn(name, "0123456789") != 8)
        return false;
    memcpy(digits, name, 8);
    return parse_int64(out, digits);
}

static void remove_file(const char *folder, const char *name)
{
    char *path = os_path(folder, name);

    if (path)
        (void)os()->unlink(AT_FDCWD, path, false);
    thaw__free(path);
}

static void adopt_files(feature_store *s)
{
    os_names names = {0};

    if (os_kind_of(s->folder) != OS_FOLDER || os_list(&names, s->folder) != THAW_OK)
        return;
    for (size_t i = 0; i < names.n; i++) {
        char *path = os_path(s->folder, names.name[i]);
        int64_t number = 0;

        if (path && chunk_number(&number, names.name[i]) && adopt(s, path, number)) {
            s->n_chunks = THAW_MAX(s->n_chunks, number + 1);
        } else {
            if (chunk_number(&number, names.name[i]))
                tell_damage(s);
            remove_file(s->folder, names.name[i]);
        }
        thaw__free(path);
    }
    os_names_free(&names);
}

void feature_files_remove(const char *folder)
{
    os_names names = {0};

    if (!folder || os_kind_of(folder) != OS_FOLDER || os_list(&names, folder) != THAW_OK)
        return;
    for (size_t i = 0; i < names.n; i++)
        remove_file(folder, names.name[i]);
    os_names_free(&names);
    (void)os()->unlink(AT_FDCWD, folder, true);
}

/* ----------------------------------------------------------------------------------------------
 * memory */

static bool add_slab(feature_store *s)
{
    const size_t bytes = (size_t)s->slab_rows * s->o.bytes;
    char *slab;

    if (s->o.budget->memory < bytes ||
        thaw__reserve(&s->slab, &s->cap_slabs, s->n_slabs + 1, sizeof *s->slab) != THAW_OK)
        return false;
    slab = thaw__alloc(bytes);
    if (!slab)
        return false;
    s->o.budget->memory -= bytes;
    s->slab[s->n_slabs++] = slab;
    return true;
}

static char *memory_row(const feature_store *s, int64_t at)
{
    return s->slab[at / s->slab_rows] + (size_t)(at % s->slab_rows) * s->o.bytes;
}

static bool put_in_memory(feature_store *s, int64_t cell, const void *row)
{
    if (s->n_memory == (int64_t)s->n_slabs * s->slab_rows && !add_slab(s))
        return false;
    s->at[cell] = s->n_memory++;
    memcpy(memory_row(s, s->at[cell]), row, s->o.bytes);
    atomic_store_explicit(&s->place[cell], ROW_MEMORY, memory_order_release);
    return true;
}

/* ----------------------------------------------------------------------------------------------
 * what callers see */

bool feature_store_has(const void *store, int64_t cell)
{
    const feature_store *s = store;

    return atomic_load_explicit(&s->place[cell], memory_order_acquire) != ROW_NOWHERE;
}

bool feature_store_get(void *row, int32_t *label, feature_store *s, int64_t cell)
{
    const row_place place = (row_place)atomic_load(&s->place[cell]);

    if (place == ROW_NOWHERE)
        return false;
    *label = s->label[cell];
    if (place == ROW_MEMORY)
        memcpy(row, memory_row(s, s->at[cell]), s->o.bytes);
    else if (place == ROW_PENDING)
        memcpy(row, s->rows + (size_t)s->at[cell] * s->o.bytes, s->o.bytes);
    else if (!read_row(row, s, cell)) {
        tell_damage(s);
        s->n_disk--;
        atomic_store_explicit(&s->place[cell], ROW_NOWHERE, memory_order_release);
        return false;
    }
    return true;
}

void feature_store_put(feature_store *s, int64_t cell, const void *row, int32_t label)
{
    if (feature_store_has(s, cell))
        return;
    s->label[cell] = label;
    if (!put_in_memory(s, cell, row))
        put_on_disk(s, cell, row);
}

feature_counts feature_store_counts(const feature_store *s)
{
    return (feature_counts){
        .memory = s->n_memory, .disk = s->n_disk + s->n_pending, .disk_bytes = s->disk_used};
}

text *feature_store_problem(feature_store *s)
{
    return &s->problem;
}

/* folder/<first digits of the digest> */
static thaw_status name_folder(feature_store *s)
{
    char name[17] = {0};

    if (!s->o.folder)
        return THAW_OK;
    memcpy(name, s->o.digest, sizeof name - 1);
    s->folder = os_path(s->o.folder, name);
    return s->folder ? THAW_OK : thaw_fail(THAW_E_NOMEM, "out of memory for the cache's folder");
}

/* Rows of a block of about so many bytes. */
static int64_t rows_of(const feature_store *s, size_t block)
{
    return THAW_MIN((int64_t)THAW_MAX(block / s->o.bytes, 1), s->o.n_cells);
}

thaw_status feature_store_create(feature_store **out, const feature_store_options *o)
{
    feature_store *s = thaw__new(1, sizeof *s);
    const size_t n = (size_t)o->n_cells;
    thaw_status status = THAW_OK;

    THAW_ASSERT(o->n_cells > 0 && o->bytes > 0);
    if (s) {
        s->o = *o;
        s->place = thaw__new(n, sizeof *s->place);
        s->at = thaw__new(n, sizeof *s->at);
        s->label = thaw__new(n, sizeof *s->label);
    }
    if (!s || !s->place || !s->at || !s->label) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for a cache of %zu samples", n);
        goto done;
    }
    s->slab_rows = rows_of(s, THAW_MIN(SLAB_BYTES, o->budget->memory / 4));
    s->chunk_rows = rows_of(s, CHUNK_BYTES);
    THAW_TRY(name_folder(s));
    if (s->folder)
        adopt_files(s);
    *out = s;
    s = NULL;
done:
    feature_store_destroy(s, true);
    return status;
}

void feature_store_destroy(feature_store *s, bool keep_files)
{
    if (!s)
        return;
    if (keep_files && s->folder)
        flush(s);
    else
        feature_files_remove(s->folder);
    if (s->o.budget) {
        s->o.budget->memory += s->n_slabs * (size_t)s->slab_rows * s->o.bytes;
        s->o.budget->disk += s->o.budget->disk_failed ? 0 : s->disk_used;
    }
    for (size_t i = 0; i < s->n_slabs; i++)
        thaw__free(s->slab[i]);
    thaw__free(s->slab);
    thaw__free(s->rows);
    thaw__free(s->index);
    thaw__free(s->folder);
    thaw__free(s->label);
    thaw__free(s->at);
    thaw__free(s->place);
    text_done(&s->problem);
    thaw__free(s);
}
