/*
 * pth - state dicts as torch.save writes them: a pickle that says what the tensors are, and
 * storages that hold their elements.
 *
 * Both forms are read: the zip archive, where each storage is an entry, and the one before it,
 * where pickles and storages follow one another. What either yields is a table of storages with
 * their places in the file; from there on the forms are the same. Elements are read later, from
 * where they lie.
 */
#include "ckpt/ckpt.h"

#include <stdlib.h>
#include <string.h>

#define LONGEST_PICKLE ((size_t)16 << 20)
#define MOST_STORAGES  100000
#define MOST_TENSORS   100000
#define LONGEST_NAME   512

/* Elements of tensors, somewhere in the file. */
typedef struct storage {
    const pickle_value *value; /* the first that mentions it */
    const pickle_value *key;
    size_t begin;
    bool placed;
} storage;

typedef struct reader {
    pth_file *file;
    uint64_t size;
    char *bytes; /* the pickle */
    pickle *pickle;
    storage *storage; /* sorted by key */
    size_t n_storages, cap_storages, cap_tensors;
} reader;

/* ----------------------------------------------------------------------------------------------
 * the table of storages
 */

static int compare_keys(const pickle_value *a, const pickle_value *b)
{
    const int order = memcmp(a->text, b->text, THAW_MIN(a->n, b->n));

    return order ? order : (a->n > b->n) - (a->n < b->n);
}

static int by_key(const void *a, const void *b)
{
    const storage *x = a, *y = b;

    return compare_keys(x->key, y->key);
}

/* Mentions of one storage must say the same of it. */
static thaw_status check_mentions(reader *r)
{
    size_t n = 0;

    for (size_t i = 0; i < r->n_storages; i++) {
        const storage *const s = &r->storage[i];
        const storage *const before = n > 0 ? &r->storage[n - 1] : NULL;

        if (!before || compare_keys(before->key, s->key) != 0)
            r->storage[n++] = *s;
        else if (before->value->dtype != s->value->dtype ||
                 before->value->number != s->value->number)
            return thaw_fail(THAW_E_DATA, "a storage has two types or sizes");
    }
    r->n_storages = n;
    return THAW_OK;
}

static thaw_status list_storages(reader *r)
{
    const pickle *const p = r->pickle;

    for (size_t i = 1; i < p->n_values; i++) {
        const pickle_value *const v = &p->value[i];

        if (v->kind != PICKLE_STORAGE)
            continue;
        if (r->n_storages == MOST_STORAGES)
            return thaw_fail(THAW_E_LIMIT, "more than %d storages", MOST_STORAGES);
        THAW_CHECK(
            thaw__reserve(&r->storage, &r->cap_storages, r->n_storages + 1, sizeof *r->storage));
        r->storage[r->n_storages++] = (storage){.value = v, .key = &p->value[v->first]};
    }
    if (r->n_storages > 0)
        qsort(r->storage, r->n_storages, sizeof *r->storage, by_key);
    return check_mentions(r);
}

static storage *find_storage(const reader *r, const pickle_value *key)
{
    const storage wanted = {.key = key};

    return r->n_storages > 0 ? bsearch(&wanted, r->storage, r->n_storages, sizeof wanted, by_key)
                             : NULL;
}

static thaw_status storage_bytes(size_t *out, const storage *s)
{
    if (!size_mul(out, (size_t)s->value->number, dtype_size((dtype)s->value->dtype)))
        return thaw_fail(THAW_E_DATA, "a storage of %lld elements", (long long)s->value->number);
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * zip archives
 */

static thaw_status read_bytes(reader *r, size_t begin, size_t n)
{
    r->bytes = thaw__alloc(n + 1);
    if (!r->bytes)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a pickle of %zu bytes", n);
    return os_pread_all(r->file->fd, r->bytes, n, (int64_t)begin, r->file->path);
}

/* root/leaf, looked for in the archive. */
static thaw_status find_in(const zip_entry **out, const zip_file *z, const char *root,
                           size_t n_root, const char *leaf, size_t n_leaf)
{
    char name[2 * LONGEST_NAME];

    *out = NULL;
    if (n_root + n_leaf + 2 > sizeof name)
        return THAW_OK;
    memcpy(name, root, n_root);
    memcpy(name + n_root, leaf, n_leaf);
    name[n_root + n_leaf] = '\0';
    if (strlen(name) == n_root + n_leaf)
        *out = zip_find(z, name);
    return THAW_OK;
}

/* "data.pkl", and how long the name of its folder is, with the slash. */
static thaw_status find_pickle(const zip_entry **out, size_t *n_root, const zip_file *z)
{
    static const char leaf[] = "/data.pkl";
    const size_t n_leaf = strlen(leaf);
    const zip_entry *found = NULL;

    for (int i = 0; i < z->n; i++) {
        const char *name = z->entry[i].name, *slash = strchr(name, '/');

        if (!slash || strcmp(slash, leaf) != 0)
            continue;
        if (found)
            return thaw_fail(THAW_E_DATA, "two entries of the archive are called 'data.pkl'");
        found = &z->entry[i];
    }
    if (!found)
        return thaw_fail(THAW_E_SUPPORT,
                         "a zip archive without 'data.pkl': torch.save did not write it");
    *out = found;
    *n_root = strlen(found->name) - n_leaf + 1;
    return THAW_OK;
}

static thaw_status check_byte_order(const reader *r, const zip_entry *e)
{
    char word[8] = "";

    if (!e)
        return THAW_OK;
    THAW_CHECK(os_pread_all(r->file->fd, word, THAW_MIN(e->bytes, sizeof word - 1),
                            (int64_t)e->begin, r->file->path));
    if (strcmp(word, "little") != 0)
        return thaw_fail(THAW_E_SUPPORT, "the numbers' bytes are not little-endian: save it again "
                                         "on an ordinary machine");
    return THAW_OK;
}

static thaw_status place_in_zip(reader *r, const zip_file *z, const char *root, size_t n_root)
{
    for (size_t i = 0; i < r->n_storages; i++) {
        storage *const s = &r->storage[i];
        char key[LONGEST_NAME + 8];
        const zip_entry *e = NULL;
        size_t bytes = 0;

        if (s->key->n > LONGEST_NAME)
            return thaw_fail(THAW_E_LIMIT, "the name of a storage is too long");
        memcpy(key, "data/", 5);
        memcpy(key + 5, s->key->text, s->key->n);
        THAW_CHECK(find_in(&e, z, root, n_root, key, 5 + s->key->n));
        THAW_CHECK(storage_bytes(&bytes, s));
        if (!e)
            return thaw_fail(THAW_E_DATA, "a storage of %zu bytes is not in the archive", bytes);
        if (e->bytes != bytes)
            return thaw_fail(THAW_E_DATA, "storage '%s' has %zu bytes, %zu are wanted", e->name,
                             e->bytes, bytes);
        s->begin = e->begin;
        s->placed = true;
    }
    return THAW_OK;
}

static thaw_status open_zip(reader *r)
{
    zip_file *z = NULL;
    const zip_entry *pickle = NULL, *e = NULL;
    size_t n_root = 0, used;
    thaw_status status;

    THAW_TRY(zip_read(&z, r->file->fd, (int64_t)r->size));
    THAW_TRY(find_pickle(&pickle, &n_root, z));
    THAW_TRY(find_in(&e, z, pickle->name, n_root, "constants.pkl", strlen("constants.pkl")));
    if (e) {
        status = thaw_fail(THAW_E_SUPPORT, "a TorchScript program and no state dict: save "
                                           "model.state_dict() in Python");
        goto done;
    }
    THAW_TRY(find_in(&e, z, pickle->name, n_root, "byteorder", strlen("byteorder")));
    THAW_TRY(check_byte_order(r, e));
    if (pickle->bytes > LONGEST_PICKLE) {
        status = thaw_fail(THAW_E_LIMIT, "a pickle of %zu bytes", pickle->bytes);
        goto done;
    }
    THAW_TRY(read_bytes(r, pickle->begin, pickle->bytes));
    THAW_TRY(pickle_read(&r->pickle, &used, r->bytes, pickle->bytes));
    THAW_TRY(list_storages(r));
    THAW_TRY(place_in_zip(r, z, pickle->name, n_root));
done:
    zip_destroy(z);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * the form before: magic number, version, machine, object, keys of the storages, storages
 */

static const char old_magic[] = "\x80\x02\x8A\x0A\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19.";
#define OLD_MAGIC   (sizeof old_magic - 1)
#define OLD_VERSION 1001

/* The pickle at `at`; at then is behind it. */
static thaw_status next_pickle(pickle **out, size_t *at, const reader *r, size_t n)
{
    size_t used;

    THAW_CHECK(pickle_read(out, &used, r->bytes + *at, n - *at));
    *at += used;
    return THAW_OK;
}

static thaw_status check_version(size_t *at, const reader *r, size_t n)
{
    pickle *p = NULL;
    thaw_status status;

    THAW_TRY(next_pickle(&p, at, r, n));
    if (p->value[p->root].kind != PICKLE_INTEGER || p->value[p->root].number != OLD_VERSION)
        status = thaw_fail(THAW_E_SUPPORT, "a version of torch.save's form that is not known");
done:
    pickle_destroy(p);
    return status;
}

static thaw_status check_machine(size_t *at, const reader *r, size_t n)
{
    const pickle_value *little;
    pickle *p = NULL;
    thaw_status status;

    THAW_TRY(next_pickle(&p, at, r, n));
    little = pickle_get(p, &p->value[p->root], "little_endian");
    if (!little || little->kind != PICKLE_BOOL || little->number != 1)
        status =
            thaw_fail(THAW_E_SUPPORT, "the numbers' bytes are not little-endian: save it again "
                                      "on an ordinary machine");
done:
    pickle_destroy(p);
    return status;
}

/* A storage is its number of elements, 8 bytes, and the elements. */
static thaw_status place_next(uint64_t *at, reader *r, const pickle_value *key)
{
    storage *const s = key->kind == PICKLE_TEXT ? find_storage(r, key) : NULL;
    int64_t n;
    size_t bytes = 0;

    if (!s || s->placed)
        return thaw_fail(THAW_E_DATA, "a storage that belongs to no tensor, or is there twice");
    THAW_CHECK(storage_bytes(&bytes, s));
    if (*at > r->size || r->size - *at < 8 || r->size - *at - 8 < bytes)
        return thaw_fail(THAW_E_DATA, "the file is cut off at a storage of %zu bytes", bytes);
    THAW_CHECK(os_pread_all(r->file->fd, &n, sizeof n, (int64_t)*at, r->file->path));
    if (n != s->value->number)
        return thaw_fail(THAW_E_DATA, "a storage of %lld elements has %lld",
                         (long long)s->value->number, (long long)n);
    s->begin = (size_t)(*at + 8);
    s->placed = true;
    *at += 8 + bytes;
    return THAW_OK;
}

static thaw_status place_in_turn(reader *r, const pickle *keys, uint64_t at)
{
    const pickle_value *const list = &keys->value[keys->root];
    uint32_t cell = list->first;

    if (list->kind != PICKLE_LIST)
        return thaw_fail(THAW_E_DATA, "the list of storages is no list");
    for (uint32_t i = 0; i < list->n; i++, cell = keys->cell[cell].next)
        THAW_CHECK(place_next(&at, r, &keys->value[keys->cell[cell].value]));
    for (size_t i = 0; i < r->n_storages; i++)
        if (!r->storage[i].placed)
            return thaw_fail(THAW_E_DATA, "a tensor's storage is not in the file");
    if (at != r->size)
        return thaw_fail(THAW_E_DATA, "%llu bytes after the last storage",
                         (unsigned long long)(r->size - at));
    return THAW_OK;
}

static thaw_status open_old(reader *r)
{
    const size_t n = (size_t)THAW_MIN(r->size, LONGEST_PICKLE);
    size_t at = OLD_MAGIC;
    pickle *keys = NULL;
    thaw_status status;

    THAW_TRY(read_bytes(r, 0, n));
    THAW_TRY(check_version(&at, r, n));
    THAW_TRY(check_machine(&at, r, n));
    THAW_TRY(next_pickle(&r->pickle, &at, r, n));
    THAW_TRY(next_pickle(&keys, &at, r, n));
    THAW_TRY(list_storages(r));
    THAW_TRY(place_in_turn(r, keys, at));
done:
    pickle_destroy(keys);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * tensors
 */

/* Up to SHAPE_MAX_RANK numbers of 0 or more. */
static thaw_status read_tuple(int64_t *out, int *n, const pickle *p, const pickle_value *tuple)
{
    if (tuple->n > SHAPE_MAX_RANK)
        return thaw_fail(THAW_E_SUPPORT, "more than %d axes are not supported", SHAPE_MAX_RANK);
    for (uint32_t i = 0; i < tuple->n; i++) {
        const pickle_value *const v = pickle_item(p, tuple, i);

        if (v->kind != PICKLE_INTEGER || v->number < 0)
            return thaw_fail(THAW_E_DATA, "a size or stride that is no number of 0 or more");
        out[i] = v->number;
    }
    *n = (int)tuple->n;
    return THAW_OK;
}

/* Row-major without gaps; axes of one element may have any stride. */
static bool is_dense(const pth_tensor *t)
{
    int64_t want = 1;

    for (int i = t->shape.rank - 1; i >= 0; i--) {
        if (t->shape.dim[i] != 1 && t->stride[i] != want)
            return false;
        want *= t->shape.dim[i];
    }
    return true;
}

/* Elements from the first to the last one of a view, both included. */
static bool view_span(size_t *out, const pth_tensor *t)
{
    size_t span = 1, reach;

    for (int i = 0; i < t->shape.rank; i++) {
        if (t->shape.dim[i] == 0) {
            *out = 0;
            return true;
        }
        if (!size_mul(&reach, (size_t)t->shape.dim[i] - 1, (size_t)t->stride[i]) ||
            !size_add(&span, span, reach))
            return false;
    }
    *out = span;
    return true;
}

static thaw_status check_view(pth_tensor *t, const storage *s, int64_t offset)
{
    const size_t have = (size_t)s->value->number;
    size_t span, elements, bytes;

    THAW_CHECK(shape_elements(&elements, &t->shape));
    if (!view_span(&span, t) || offset < 0 || (uint64_t)offset > have ||
        span > have - (size_t)offset)
        return thaw_fail(THAW_E_DATA, "it goes beyond its storage of %zu elements", have);
    if (elements > have)
        return thaw_fail(THAW_E_SUPPORT,
                         "it has %zu elements in a storage of %zu: save a copy of it", elements,
                         have);
    THAW_CHECK(storage_bytes(&bytes, s));
    t->begin = s->begin + (size_t)offset * dtype_size(t->dtype);
    t->dense = is_dense(t);
    return THAW_OK;
}

static thaw_status read_tensor(pth_tensor *t, const reader *r, const pickle_value *v)
{
    const pickle *const p = r->pickle;
    const pickle_value *const value = pickle_item(p, v, 0);
    const storage *const s = find_storage(r, &p->value[value->first]);
    int n_strides = 0;

    t->dtype = (dtype)value->dtype;
    THAW_CHECK(read_tuple(t->shape.dim, &t->shape.rank, p, pickle_item(p, v, 2)));
    THAW_CHECK(read_tuple(t->stride, &n_strides, p, pickle_item(p, v, 3)));
    if (n_strides != t->shape.rank)
        return thaw_fail(THAW_E_DATA, "%d axes have %d strides", t->shape.rank, n_strides);
    return check_view(t, s, pickle_item(p, v, 1)->number);
}

static thaw_status copy_name(const char **out, const reader *r, const pickle_value *key)
{
    char *name;

    if (key->kind != PICKLE_TEXT || key->n == 0 || key->n > LONGEST_NAME)
        return thaw_fail(THAW_E_DATA, "a tensor's name is no text of 1 to %d bytes", LONGEST_NAME);
    for (uint32_t i = 0; i < key->n; i++)
        if ((unsigned char)key->text[i] < ' ' || key->text[i] == 0x7F)
            return thaw_fail(THAW_E_DATA, "a tensor's name has control characters");
    name = region_alloc(r->file->region, key->n + 1, 1);
    if (!name)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the names of tensors");
    memcpy(name, key->text, key->n);
    *out = name;
    return THAW_OK;
}

static thaw_status add_tensor(reader *r, const pickle_value *key, const pickle_value *v)
{
    pth_file *const f = r->file;
    pth_tensor t = {0};
    thaw_status status;

    THAW_CHECK(copy_name(&t.name, r, key));
    status = read_tensor(&t, r, v);
    if (status != THAW_OK)
        return thaw_fail_context(status, "tensor '%s'", t.name);
    if (f->n == MOST_TENSORS)
        return thaw_fail(THAW_E_LIMIT, "more than %d tensors", MOST_TENSORS);
    THAW_CHECK(thaw__reserve(&f->tensor, &r->cap_tensors, (size_t)f->n + 1, sizeof t));
    f->tensor[f->n++] = t;
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * the state dict
 */

static bool holds_tensors(const pickle *p, const pickle_value *dict)
{
    uint32_t cell = dict->first;

    if (dict->kind != PICKLE_DICT)
        return false;
    for (uint32_t i = 0; i < dict->n; i++, cell = p->cell[cell].next)
        if (i % 2 == 1 && p->value[p->cell[cell].value].kind == PICKLE_TENSOR)
            return true;
    return false;
}

/* Where training programs keep a network's state; averaged weights are the ones to evaluate. */
static const char *const state_keys[] = {"state_dict_ema",   "model_ema", "state_dict", "model",
                                         "model_state_dict", "net",       "module"};

static thaw_status find_state(const pickle_value **out, reader *r)
{
    const pickle *const p = r->pickle;
    const pickle_value *const root = &p->value[p->root];

    *out = root;
    if (holds_tensors(p, root))
        return THAW_OK;
    for (size_t i = 0; i < THAW_COUNT(state_keys) && root->kind == PICKLE_DICT; i++) {
        *out = pickle_get(p, root, state_keys[i]);
        r->file->taken_from = state_keys[i];
        if (*out && holds_tensors(p, *out))
            return THAW_OK;
    }
    return thaw_fail(THAW_E_SUPPORT,
                     "it holds no state dict: save model.state_dict() with torch.save in Python");
}

/* What wrappers of networks put in front of every name. */
static const char *const wrappers[] = {"module.", "_orig_mod.", "model."};

static bool take_off(pth_file *f, const char *prefix)
{
    const size_t n = strlen(prefix);

    for (int i = 0; i < f->n; i++)
        if (strncmp(f->tensor[i].name, prefix, n) != 0 || !f->tensor[i].name[n])
            return false;
    for (int i = 0; i < f->n; i++)
        f->tensor[i].name += n;
    return f->n > 0;
}

static thaw_status read_state(reader *r)
{
    const pickle *const p = r->pickle;
    const pickle_value *dict;
    uint32_t cell;

    THAW_CHECK(find_state(&dict, r));
    cell = dict->first;
    for (uint32_t i = 0; i + 1 < dict->n; i += 2) {
        const pickle_cell key = p->cell[cell], value = p->cell[key.next];

        if (p->value[value.value].kind == PICKLE_TENSOR)
            THAW_CHECK(add_tensor(r, &p->value[key.value], &p->value[value.value]));
        cell = value.next;
    }
    for (size_t i = 0; i < THAW_COUNT(wrappers);)
        i = take_off(r->file, wrappers[i]) ? 0 : i + 1;
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * open, read, close
 */

static thaw_status read_file(reader *r)
{
    char start[OLD_MAGIC] = {0};

    THAW_CHECK(os_pread_all(r->file->fd, start, (size_t)THAW_MIN(r->size, sizeof start), 0,
                            r->file->path));
    if (memcmp(start, "PK\3\4", 4) == 0)
        THAW_CHECK(open_zip(r));
    else if (memcmp(start, old_magic, OLD_MAGIC) == 0)
        THAW_CHECK(open_old(r));
    else
        return thaw_fail(THAW_E_SUPPORT, "this is no file of torch.save");
    return read_state(r);
}

thaw_status pth_open(pth_file **out, const char *path)
{
    reader r = {0};
    pth_file *f = thaw__new(1, sizeof *f);
    int64_t size = 0;
    thaw_status status;

    if (!f)
        return thaw_fail(THAW_E_NOMEM, "out of memory opening '%s'", path);
    f->fd = -1;
    THAW_TRY(ckpt_open_file(&f->region, &f->path, &f->fd, &size, path));
    r.file = f;
    r.size = (uint64_t)size;
    status = read_file(&r);
    if (status != THAW_OK) {
        status = thaw_fail_context(status, "'%s'", path);
        goto done;
    }
    *out = f;
    f = NULL;
done:
    thaw__free(r.storage);
    pickle_destroy(r.pickle);
    thaw__free(r.bytes);
    pth_close(f);
    return status;
}

void pth_close(pth_file *f)
{
    if (!f)
        return;
    os_close(f->fd);
    thaw__free(f->tensor);
    region_destroy(f->region);
    thaw__free(f);
}

/* The elements of a view, in row-major order. */
static void gather(char *dst, const char *src, const pth_tensor *t, size_t elements)
{
    const size_t size = dtype_size(t->dtype);
    int64_t at[SHAPE_MAX_RANK] = {0};
    size_t place = 0;

    for (size_t i = 0; i < elements; i++) {
        memcpy(dst + i * size, src + place * size, size);
        for (int a = t->shape.rank - 1; a >= 0; a--) {
            place += (size_t)t->stride[a];
            if (++at[a] < t->shape.dim[a])
                break;
            place -= (size_t)t->stride[a] * (size_t)t->shape.dim[a];
            at[a] = 0;
        }
    }
}

static thaw_status read_strided(void *dst, dtype to, const pth_file *f, const pth_tensor *t,
                                size_t elements)
{
    const size_t size = dtype_size(t->dtype);
    char *span_bytes = NULL, *dense = NULL;
    thaw_status status = THAW_OK;
    size_t span = 0;

    THAW_ASSERT(view_span(&span, t)); /* looked at when it was opened */
    span_bytes = thaw__new(span, size);
    dense = thaw__new(elements, size);
    if (!span_bytes || !dense) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for a view of %zu elements", elements);
        goto done;
    }
    THAW_TRY(os_pread_all(f->fd, span_bytes, span * size, (int64_t)t->begin, f->path));
    gather(dense, span_bytes, t, elements);
    if (to == t->dtype)
        memcpy(dst, dense, elements * size);
    else
        THAW_TRY(tensor_convert(dst, to, dense, t->dtype, elements));
done:
    thaw__free(dense);
    thaw__free(span_bytes);
    return status;
}

thaw_status pth_read(void *dst, dtype to, const pth_file *f, const pth_tensor *t)
{
    thaw_status status;
    size_t n = 0;

    THAW_CHECK(shape_elements(&n, &t->shape));
    status = t->dense ? ckpt_read_range(dst, to, f->fd, t->begin, n, t->dtype, f->path)
                      : read_strided(dst, to, f, t, n);
    return status == THAW_OK ? status : thaw_fail_context(status, "tensor '%s'", t->name);
}
