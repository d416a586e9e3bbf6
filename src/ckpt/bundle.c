/*
 * bundle - the tensors of one network as one sorted list, whichever files hold them.
 *
 * The idea: a list of entries, each with the number of its file and its number there. What a kind
 * of file adds is one function that opens it. Nothing is read but headers until bundle_read.
 */
#include "ckpt/ckpt.h"

#include <stdlib.h>
#include <string.h>

#define ONE_FILE      "model.safetensors"
#define INDEX_FILE    "model.safetensors.index.json"
#define LONGEST_INDEX ((size_t)32 << 20)

static thaw_status out_of_memory(const char *path)
{
    return thaw_fail(THAW_E_NOMEM, "out of memory opening '%s'", path);
}

/* ----------------------------------------------------------------------------------------------
 * safetensors */

/* Append what a safetensors file holds; it is then the bundle's. */
static thaw_status add_shard(bundle *b, const char *path)
{
    const int n = b->n_shards;
    st_file *f = NULL;
    bundle_entry *more;

    THAW_CHECK(st_open(&f, path));
    b->shard[b->n_shards++] = f;
    more = thaw__resize(b->entry, (size_t)b->n + (size_t)f->n, sizeof *more);
    if (!more)
        return out_of_memory(path);
    b->entry = more;
    for (int i = 0; i < f->n; i++)
        b->entry[b->n++] = (bundle_entry){.name = f->entry[i].name,
                                          .dtype = f->entry[i].dtype,
                                          .shape = f->entry[i].shape,
                                          .file = n,
                                          .number = i};
    return THAW_OK;
}

static thaw_status make_shards(bundle *b, int n)
{
    b->shard = thaw__new((size_t)n, sizeof(st_file *));
    return b->shard ? THAW_OK : out_of_memory(b->path);
}

static int find_entry(const st_index *x, const char *name)
{
    int low = 0, high = x->n;

    while (low < high) {
        const int middle = low + (high - low) / 2;
        const int order = strcmp(name, x->entry[middle].name);

        if (order == 0)
            return middle;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

/* Every tensor that a shard holds is listed as being there. */
static thaw_status check_listed(const bundle *b, const st_index *x)
{
    for (int i = 0; i < b->n; i++) {
        const bundle_entry *e = &b->entry[i];
        const int at = find_entry(x, e->name);

        if (at < 0)
            return thaw_fail(THAW_E_DATA, "'%s': tensor '%s' of shard '%s' is not listed", b->path,
                             e->name, x->shard[e->file]);
        if (x->entry[at].shard != e->file)
            return thaw_fail(THAW_E_DATA, "'%s': tensor '%s' is listed in '%s', but '%s' holds it",
                             b->path, e->name, x->shard[x->entry[at].shard], x->shard[e->file]);
    }
    return THAW_OK;
}

/* Every tensor listed is there: as many as there are, each listed once, so a missing one shows as
 * one that no shard holds. */
static thaw_status check_there(const bundle *b, const st_index *x)
{
    for (int i = 0; i < x->n; i++)
        if (!st_find(b->shard[x->entry[i].shard], x->entry[i].name))
            return thaw_fail(THAW_E_DATA, "'%s': tensor '%s' is not in '%s', where it is listed",
                             b->path, x->entry[i].name, x->shard[x->entry[i].shard]);
    return THAW_OK;
}

static thaw_status open_shards(bundle *b, const char *folder, const st_index *x)
{
    THAW_CHECK(make_shards(b, x->n_shards));
    for (int i = 0; i < x->n_shards; i++) {
        char *path = os_path(folder, x->shard[i]);
        const thaw_status status = path ? add_shard(b, path) : out_of_memory(folder);

        thaw__free(path);
        THAW_CHECK(status);
    }
    THAW_CHECK(check_listed(b, x));
    return check_there(b, x);
}

static thaw_status open_index(bundle *b, const char *folder)
{
    st_index *x = NULL;
    char *json = NULL;
    size_t size;
    thaw_status status;

    THAW_TRY(os_read_file(&json, &size, b->path, LONGEST_INDEX));
    THAW_TRY(st_index_parse(&x, json, size, b->path));
    THAW_TRY(open_shards(b, folder, x));
done:
    st_index_destroy(x);
    thaw__free(json);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * one file */

/* Does it begin as files of torch.save do? Anything else is for the reader of safetensors to judge.
 */
static thaw_status is_pth(bool *out, const char *path)
{
    char start[4] = "";
    int64_t size = 0;
    int fd = -1;
    thaw_status status;

    THAW_TRY(os_open_file(&fd, &size, path));
    THAW_TRY(os_pread_all(fd, start, (size_t)THAW_MIN(size, (int64_t)sizeof start), 0, path));
    *out = memcmp(start, "PK\3\4", 4) == 0 || memcmp(start, "\x80\x02\x8A\x0A", 4) == 0;
done:
    os_close(fd);
    return status;
}

static thaw_status open_pth(bundle *b)
{
    THAW_CHECK(pth_open(&b->pth, b->path));
    b->entry = thaw__new((size_t)b->pth->n, sizeof *b->entry);
    if (!b->entry)
        return out_of_memory(b->path);
    for (int i = 0; i < b->pth->n; i++)
        b->entry[b->n++] = (bundle_entry){.name = b->pth->tensor[i].name,
                                          .dtype = b->pth->tensor[i].dtype,
                                          .shape = b->pth->tensor[i].shape,
                                          .number = i};
    return THAW_OK;
}

static thaw_status open_one(bundle *b)
{
    bool pth = false;

    THAW_CHECK(is_pth(&pth, b->path));
    if (pth)
        return open_pth(b);
    THAW_CHECK(make_shards(b, 1));
    return add_shard(b, b->path);
}

/* ----------------------------------------------------------------------------------------------
 * folders */

/* What a folder may hold, in the order in which it is looked for. */
static const struct {
    const char *name;
    thaw_status (*open)(bundle *b, const char *folder);
} folder_files[] = {
    {ONE_FILE, NULL},
    {INDEX_FILE, open_index},
    {"pytorch_model.bin", NULL},
};

static thaw_status keep_path(bundle *b, const char *path)
{
    b->path = region_strdup(b->region, path);
    return b->path ? THAW_OK : out_of_memory(path);
}

bool bundle_in_folder(const char *folder)
{
    for (size_t i = 0; i < THAW_COUNT(folder_files); i++) {
        char *path = os_path(folder, folder_files[i].name);
        const bool there = path && os_kind_of(path) == OS_FILE;

        thaw__free(path);
        if (there)
            return true;
    }
    return false;
}

static thaw_status open_folder(bundle *b, const char *folder)
{
    for (size_t i = 0; i < THAW_COUNT(folder_files); i++) {
        char *path = os_path(folder, folder_files[i].name);
        thaw_status status = path ? keep_path(b, path) : out_of_memory(folder);

        thaw__free(path);
        THAW_CHECK(status);
        if (os_kind_of(b->path) != OS_ABSENT)
            return folder_files[i].open ? folder_files[i].open(b, folder) : open_one(b);
    }
    return thaw_fail(THAW_E_MISSING, "'%s' has no weights: '%s' or '%s' was expected", folder,
                     ONE_FILE, INDEX_FILE);
}

/* ----------------------------------------------------------------------------------------------
 * all of it */

static int by_name(const void *a, const void *b)
{
    const bundle_entry *x = a, *y = b;

    return strcmp(x->name, y->name);
}

/* Only torch's files can have one name twice and still open. */
static thaw_status check_names(const bundle *b)
{
    for (int i = 1; i < b->n; i++)
        if (by_name(&b->entry[i - 1], &b->entry[i]) == 0)
            return thaw_fail(THAW_E_DATA, "'%s': tensor '%s' is given twice", b->path,
                             b->entry[i].name);
    return THAW_OK;
}

thaw_status bundle_open(bundle **out, const char *path)
{
    bundle *b = thaw__new(1, sizeof *b);
    thaw_status status;

    if (!b)
        return out_of_memory(path);
    THAW_TRY(region_create(&b->region));
    THAW_TRY(keep_path(b, path));
    THAW_TRY(os_kind_of(path) == OS_FOLDER ? open_folder(b, path) : open_one(b));
    if (b->n > 0)
        qsort(b->entry, (size_t)b->n, sizeof *b->entry, by_name);
    THAW_TRY(check_names(b));
    *out = b;
    b = NULL;
done:
    bundle_close(b);
    return status;
}

void bundle_close(bundle *b)
{
    if (!b)
        return;
    for (int i = 0; i < b->n_shards; i++)
        st_close(b->shard[i]);
    pth_close(b->pth);
    thaw__free(b->shard);
    thaw__free(b->entry);
    region_destroy(b->region);
    thaw__free(b);
}

const bundle_entry *bundle_find(const bundle *b, const char *name)
{
    const bundle_entry key = {.name = name};

    return b->n > 0 ? bsearch(&key, b->entry, (size_t)b->n, sizeof key, by_name) : NULL;
}

thaw_status bundle_read(void *dst, dtype to, const bundle *b, const bundle_entry *e)
{
    const st_file *f;

    if (b->pth)
        return pth_read(dst, to, b->pth, &b->pth->tensor[e->number]);
    f = b->shard[e->file];
    return st_read(dst, to, f, &f->entry[e->number]);
}
