/*
 * st_index - the index of a network whose safetensors come in shards: which file holds which
 * tensor.
 *
 * A shard is a name, never a path: nothing in an index can make thaw open a file outside of its
 * folder. It knows no tensors; whether they are where the index says is for bundle.c to check.
 */
#include "ckpt/ckpt.h"

#include <stdlib.h>
#include <string.h>

#define MOST_TENSORS 100000
#define MOST_SHARDS  500 /* all are open at once */
#define LONGEST_NAME 512
#define SHARD_SUFFIX ".safetensors"

typedef struct reader {
    scan scan;
    st_index *index;
    bool has_map, has_metadata;
} reader;

/* One component, visible, of the right kind. */
static bool shard_valid(const char *name)
{
    const size_t n = strlen(name), suffix = strlen(SHARD_SUFFIX);

    return ckpt_name_valid(name) && n > suffix && strcmp(name + n - suffix, SHARD_SUFFIX) == 0;
}

static thaw_status find_shard(int *out, st_index *x, const char *name)
{
    /* Tensors of one shard mostly follow one another: look from the newest back. */
    for (int i = x->n_shards; i > 0; i--)
        if (strcmp(x->shard[i - 1], name) == 0) {
            *out = i - 1;
            return THAW_OK;
        }
    if (!shard_valid(name))
        return thaw_fail(THAW_E_DATA,
                         "'%s' cannot be a shard: the name of a .safetensors file in the same "
                         "folder is wanted",
                         name);
    if (x->n_shards == MOST_SHARDS)
        return thaw_fail(THAW_E_LIMIT, "more than %d shards", MOST_SHARDS);
    THAW_CHECK(thaw__reserve(&x->shard, &x->cap_shards, (size_t)x->n_shards + 1, sizeof *x->shard));
    x->shard[x->n_shards] = region_strdup(x->region, name);
    if (!x->shard[x->n_shards])
        return thaw_fail(THAW_E_NOMEM, "out of memory for shard '%s'", name);
    *out = x->n_shards++;
    return THAW_OK;
}

static thaw_status scan_tensor(reader *r)
{
    char name[LONGEST_NAME + 1], shard[256];
    st_index *const x = r->index;
    st_index_entry e = {0};

    THAW_CHECK(scan_key(name, sizeof name, &r->scan));
    THAW_CHECK(scan_string(shard, sizeof shard, &r->scan));
    if (!*name)
        return thaw_fail(THAW_E_DATA, "a tensor has an empty name");
    if (x->n == MOST_TENSORS)
        return thaw_fail(THAW_E_LIMIT, "more than %d tensors", MOST_TENSORS);
    THAW_CHECK(find_shard(&e.shard, x, shard));
    THAW_CHECK(thaw__reserve(&x->entry, &x->cap_entries, (size_t)x->n + 1, sizeof e));
    e.name = region_strdup(x->region, name);
    if (!e.name)
        return thaw_fail(THAW_E_NOMEM, "out of memory for tensor '%s'", name);
    x->entry[x->n++] = e;
    return THAW_OK;
}

static thaw_status scan_map(reader *r)
{
    bool more;

    if (r->has_map)
        return thaw_fail(THAW_E_DATA, "'weight_map' is given twice");
    r->has_map = true;
    THAW_CHECK(scan_open(&r->scan, '{'));
    for (;;) {
        THAW_CHECK(scan_more(&more, &r->scan, '}'));
        if (!more)
            return THAW_OK;
        THAW_CHECK(scan_tensor(r));
    }
}

static thaw_status scan_metadata(reader *r)
{
    if (r->has_metadata)
        return thaw_fail(THAW_E_DATA, "'metadata' is given twice");
    r->has_metadata = true;
    return scan_pass(&r->scan);
}

static thaw_status scan_index(reader *r)
{
    char key[32];
    bool more;

    THAW_CHECK(scan_open(&r->scan, '{'));
    for (;;) {
        THAW_CHECK(scan_more(&more, &r->scan, '}'));
        if (!more)
            break;
        THAW_CHECK(scan_key(key, sizeof key, &r->scan));
        if (strcmp(key, "weight_map") == 0)
            THAW_CHECK(scan_map(r));
        else if (strcmp(key, "metadata") == 0)
            THAW_CHECK(scan_metadata(r));
        else
            return thaw_fail(THAW_E_DATA, "unknown key '%s'", key);
    }
    THAW_CHECK(scan_end(&r->scan));
    return r->has_map ? THAW_OK : thaw_fail(THAW_E_DATA, "'weight_map' is missing");
}

static int by_name(const void *a, const void *b)
{
    const st_index_entry *x = a, *y = b;

    return strcmp(x->name, y->name);
}

static thaw_status check_names(st_index *x)
{
    if (x->n > 0)
        qsort(x->entry, (size_t)x->n, sizeof *x->entry, by_name);
    for (int i = 1; i < x->n; i++)
        if (strcmp(x->entry[i - 1].name, x->entry[i].name) == 0)
            return thaw_fail(THAW_E_DATA, "tensor '%s' is given twice", x->entry[i].name);
    return THAW_OK;
}

thaw_status st_index_parse(st_index **out, const char *json, size_t size, const char *name)
{
    reader r = {.scan = scan_of("index", json, size)};
    st_index *x = thaw__new(1, sizeof *x);
    thaw_status status;

    if (!x)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the index '%s'", name);
    r.index = x;
    THAW_TRY(region_create(&x->region));
    status = scan_index(&r);
    if (status == THAW_OK)
        status = check_names(x);
    if (status != THAW_OK) {
        status = thaw_fail_context(status, "'%s'", name);
        goto done;
    }
    *out = x;
    x = NULL;
done:
    st_index_destroy(x);
    return status;
}

void st_index_destroy(st_index *x)
{
    if (!x)
        return;
    thaw__free(x->shard);
    thaw__free(x->entry);
    region_destroy(x->region);
    thaw__free(x);
}
