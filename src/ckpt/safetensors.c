/*
 * safetensors - reading files of named tensors, every byte of them hostile.
 *
 * A file is an 8-byte little-endian header length, a JSON header, and the data. Opening checks all
 * that can be said without the data: the header's form, each tensor's size, and that the tensors
 * tile the data exactly, so that no two readers can see different things in one file. Data is read
 * later, by pread into the caller's memory: a file that shrinks meanwhile is an error, not a crash.
 */
#include "ckpt/ckpt.h"

#include <stdlib.h>
#include <string.h>

/* The reference implementation takes 100 MB; a third of it is more than MOST_TENSORS need, and what
 * a hostile file can make us allocate. */
#define LONGEST_HEADER (32 << 20)
#define MOST_TENSORS   100000
#define LONGEST_NAME   512
#define PIECE_BYTES    ((size_t)1 << 20)

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the data of safetensors files is little-endian, and is read as it is"
#endif

/* What is being opened; thrown away when opening fails. */
typedef struct reader {
    scan scan;
    st_file *file;
    size_t entry_capacity;
    size_t data_begin, data_bytes;
    bool has_metadata;
} reader;

/* ----------------------------------------------------------------------------------------------
 * what it is instead */

static const struct {
    const char *magic;
    size_t n;
    thaw_status code;
    const char *what;
} other_formats[] = {
    {"\x80\x02", 2, THAW_E_SUPPORT,
     "a Python pickle, which can run code: convert it to safetensors"},
    {"\x80\x03", 2, THAW_E_SUPPORT,
     "a Python pickle, which can run code: convert it to safetensors"},
    {"\x80\x04", 2, THAW_E_SUPPORT,
     "a Python pickle, which can run code: convert it to safetensors"},
    {"\x80\x05", 2, THAW_E_SUPPORT,
     "a Python pickle, which can run code: convert it to safetensors"},
    {"PK\x03\x04", 4, THAW_E_SUPPORT,
     "a zip file, such as torch.save() writes, which can run code: convert it to safetensors"},
    {"GGUF", 4, THAW_E_SUPPORT, "a GGUF file: convert it to safetensors"},
    {"\x89HDF", 4, THAW_E_SUPPORT, "an HDF5 file: convert it to safetensors"},
    {"\x93NUMPY", 6, THAW_E_SUPPORT, "a NumPy file: convert it to safetensors"},
    {"\x1f\x8b", 2, THAW_E_SUPPORT, "compressed with gzip: decompress it first"},
    {"version https://git-lfs", 23, THAW_E_DATA,
     "a Git LFS pointer and not the file itself: fetch it with 'git lfs pull'"},
    {"<!DOCTYPE", 9, THAW_E_DATA, "a web page: the download failed"},
    {"<html", 5, THAW_E_DATA, "a web page: the download failed"},
    {"{", 1, THAW_E_DATA, "JSON text and not a safetensors file"},
};

/* The first bytes make no safetensors file: do they make another one? THAW_OK when unknown. */
static thaw_status recognise_other(const char *start, size_t n)
{
    for (size_t i = 0; i < THAW_COUNT(other_formats); i++)
        if (n >= other_formats[i].n &&
            memcmp(start, other_formats[i].magic, other_formats[i].n) == 0)
            return thaw_fail(other_formats[i].code, "this is %s", other_formats[i].what);
    return THAW_OK;
}

static uint64_t little_endian_64(const char *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

/* The header's length, from the first bytes of a file of `size`. */
static thaw_status header_length(size_t *out, int fd, int64_t size)
{
    char start[24] = {0};
    const size_t n = (size_t)THAW_MIN(size, (int64_t)sizeof start);
    uint64_t length;

    THAW_CHECK(os_pread_all(fd, start, n, 0, "start"));
    length = little_endian_64(start);
    if (n > 8 && start[8] == '{' && length <= LONGEST_HEADER && length <= (uint64_t)size - 8) {
        *out = (size_t)length;
        return THAW_OK;
    }
    THAW_CHECK(recognise_other(start, n));
    if (n < 8)
        return thaw_fail(THAW_E_DATA, "%zu bytes are too few for a safetensors file", n);
    if (length > LONGEST_HEADER)
        return thaw_fail(THAW_E_DATA, "header length %llu is above the limit of %d bytes",
                         (unsigned long long)length, LONGEST_HEADER);
    if (length > (uint64_t)size - 8)
        return thaw_fail(THAW_E_DATA, "header length %llu goes beyond the %lld bytes of the file",
                         (unsigned long long)length, (long long)size);
    return thaw_fail(THAW_E_DATA, "the header does not begin with '{'");
}

/* ----------------------------------------------------------------------------------------------
 * one tensor */

/* Types of the format that no dtype of ours holds. */
static const char *const foreign_types[] = {"U16",     "U32",     "U64",     "C64",     "F8_E4M3",
                                            "F8_E5M2", "F8_E8M0", "F6_E2M3", "F6_E3M2", "F4"};

static thaw_status fail_dtype(const char *name)
{
    for (size_t i = 0; i < THAW_COUNT(foreign_types); i++)
        if (strcmp(name, foreign_types[i]) == 0)
            return thaw_fail(THAW_E_SUPPORT,
                             "dtype '%s' is not supported: convert it to F32 or BF16", name);
    return thaw_fail(THAW_E_DATA, "unknown dtype '%s'", name);
}

static thaw_status scan_dtype(reader *r, st_entry *e)
{
    char name[16];

    THAW_CHECK(scan_string(name, sizeof name, &r->scan));
    return dtype_find_safetensors(&e->dtype, name) ? THAW_OK : fail_dtype(name);
}

static thaw_status scan_shape(reader *r, st_entry *e)
{
    bool more;

    THAW_CHECK(scan_open(&r->scan, '['));
    for (;;) {
        uint64_t n;

        THAW_CHECK(scan_more(&more, &r->scan, ']'));
        if (!more)
            return THAW_OK;
        THAW_CHECK(scan_integer(&n, &r->scan));
        if (e->shape.rank == SHAPE_MAX_RANK)
            return thaw_fail(THAW_E_SUPPORT, "more than %d axes are not supported", SHAPE_MAX_RANK);
        e->shape.dim[e->shape.rank++] = (int64_t)n;
    }
}

static thaw_status scan_offsets(reader *r, st_entry *e)
{
    uint64_t at[2];
    bool more;

    THAW_CHECK(scan_open(&r->scan, '['));
    for (int i = 0; i < 2; i++) {
        THAW_CHECK(scan_more(&more, &r->scan, ']'));
        if (!more)
            return thaw_fail(THAW_E_DATA, "data_offsets holds %d numbers, not 2", i);
        THAW_CHECK(scan_integer(&at[i], &r->scan));
    }
    THAW_CHECK(scan_more(&more, &r->scan, ']'));
    if (more)
        return thaw_fail(THAW_E_DATA, "data_offsets holds more than 2 numbers");
    if (at[0] > at[1])
        return thaw_fail(THAW_E_DATA, "data_offsets [%llu, %llu] end before they begin",
                         (unsigned long long)at[0], (unsigned long long)at[1]);
    if (at[1] > r->data_bytes)
        return thaw_fail(THAW_E_DATA, "data_offsets [%llu, %llu] go beyond the %zu bytes of data",
                         (unsigned long long)at[0], (unsigned long long)at[1], r->data_bytes);
    e->begin = (size_t)at[0];
    e->bytes = (size_t)(at[1] - at[0]);
    return THAW_OK;
}

static const struct {
    const char *key;
    thaw_status (*read)(reader *r, st_entry *e);
} entry_keys[] = {{"dtype", scan_dtype}, {"shape", scan_shape}, {"data_offsets", scan_offsets}};

static thaw_status scan_entry_key(unsigned *seen, reader *r, st_entry *e)
{
    char key[16];

    THAW_CHECK(scan_key(key, sizeof key, &r->scan));
    for (unsigned i = 0; i < THAW_COUNT(entry_keys); i++) {
        if (strcmp(key, entry_keys[i].key) != 0)
            continue;
        if (*seen & 1u << i)
            return thaw_fail(THAW_E_DATA, "'%s' is given twice", key);
        *seen |= 1u << i;
        return entry_keys[i].read(r, e);
    }
    return thaw_fail(THAW_E_DATA, "unknown key '%s'", key);
}

static thaw_status check_size(const st_entry *e)
{
    char shown[128];
    size_t want = 0;

    if (shape_bytes(&want, &e->shape, e->dtype) != THAW_OK)
        return THAW_E_DATA; /* the text stands */
    if (want != e->bytes)
        return thaw_fail(THAW_E_DATA, "%s of %s is %zu bytes, but data_offsets span %zu",
                         shape_format(shown, &e->shape), dtype_safetensors(e->dtype), want,
                         e->bytes);
    return THAW_OK;
}

static thaw_status scan_entry(reader *r, st_entry *e)
{
    unsigned seen = 0;
    bool more;

    THAW_CHECK(scan_open(&r->scan, '{'));
    for (;;) {
        THAW_CHECK(scan_more(&more, &r->scan, '}'));
        if (!more)
            break;
        THAW_CHECK(scan_entry_key(&seen, r, e));
    }
    for (unsigned i = 0; i < THAW_COUNT(entry_keys); i++)
        if (!(seen & 1u << i))
            return thaw_fail(THAW_E_DATA, "'%s' is missing", entry_keys[i].key);
    return check_size(e);
}

/* ----------------------------------------------------------------------------------------------
 * the header */

/* Only checked and passed: the text is kept as it stands. Keys are not compared with each other:
 * nothing is looked up in it. */
static thaw_status scan_metadata(reader *r)
{
    const char *begin = r->scan.at;
    bool more;

    if (r->has_metadata)
        return thaw_fail(THAW_E_DATA, "'__metadata__' is given twice");
    r->has_metadata = true;
    THAW_CHECK(scan_open(&r->scan, '{'));
    for (;;) {
        THAW_CHECK(scan_more(&more, &r->scan, '}'));
        if (!more)
            break;
        THAW_CHECK(scan_key(NULL, 0, &r->scan));
        THAW_CHECK(scan_string(NULL, 0, &r->scan));
    }
    while (*begin != '{')
        begin++;
    r->file->metadata = region_alloc(r->file->region, (size_t)(r->scan.at - begin) + 1, 1);
    if (!r->file->metadata)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the metadata");
    memcpy(r->file->metadata, begin, (size_t)(r->scan.at - begin));
    return THAW_OK;
}

static thaw_status scan_tensor(reader *r, const char *name)
{
    st_file *f = r->file;
    st_entry e = {0};
    thaw_status status = THAW_OK;

    if (!*name)
        return thaw_fail(THAW_E_DATA, "a tensor has an empty name");
    if (f->n == MOST_TENSORS)
        return thaw_fail(THAW_E_LIMIT, "more than %d tensors", MOST_TENSORS);
    status = scan_entry(r, &e);
    if (status != THAW_OK)
        return thaw_fail_context(status, "tensor '%s'", name);

    THAW_CHECK(thaw__reserve(&f->entry, &r->entry_capacity, (size_t)f->n + 1, sizeof e));
    e.name = region_strdup(f->region, name);
    if (!e.name)
        return thaw_fail(THAW_E_NOMEM, "out of memory for tensor '%s'", name);
    f->entry[f->n++] = e;
    return THAW_OK;
}

static thaw_status scan_header(reader *r)
{
    char name[LONGEST_NAME + 1];
    bool more;

    THAW_CHECK(scan_open(&r->scan, '{'));
    for (;;) {
        THAW_CHECK(scan_more(&more, &r->scan, '}'));
        if (!more)
            return scan_end(&r->scan);
        THAW_CHECK(scan_key(name, sizeof name, &r->scan));
        THAW_CHECK(strcmp(name, "__metadata__") == 0 ? scan_metadata(r) : scan_tensor(r, name));
    }
}

/* ----------------------------------------------------------------------------------------------
 * all tensors together */

static int by_place(const void *a, const void *b)
{
    const st_entry *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* In the order of the data, each tensor begins where the one before it ended. */
static thaw_status check_tiling(reader *r)
{
    st_file *f = r->file;
    size_t at = 0;

    for (int i = 0; i < f->n; i++) {
        st_entry *e = &f->entry[i];

        if (e->begin < at)
            return thaw_fail(THAW_E_DATA,
                             "tensor '%s' at data byte %zu overlaps '%s', which ends at %zu",
                             e->name, e->begin, f->entry[i - 1].name, at);
        if (e->begin > at)
            return thaw_fail(THAW_E_DATA, "%zu unused bytes before tensor '%s' at data byte %zu",
                             e->begin - at, e->name, e->begin);
        at += e->bytes;
        e->begin += r->data_begin;
    }
    if (at != r->data_bytes)
        return thaw_fail(THAW_E_DATA, "%zu bytes after the last tensor", r->data_bytes - at);
    return THAW_OK;
}

static int by_name_of(const void *a, const void *b, void *entries)
{
    const st_entry *entry = entries;

    return strcmp(entry[*(const int *)a].name, entry[*(const int *)b].name);
}

static thaw_status index_names(st_file *f)
{
    f->by_name = region_alloc(f->region, (size_t)f->n, sizeof *f->by_name);
    if (!f->by_name)
        return thaw_fail(THAW_E_NOMEM, "out of memory for %d names", f->n);
    for (int i = 0; i < f->n; i++)
        f->by_name[i] = i;
    if (f->n > 0)
        qsort_r(f->by_name, (size_t)f->n, sizeof *f->by_name, by_name_of, f->entry);
    for (int i = 1; i < f->n; i++)
        if (by_name_of(&f->by_name[i - 1], &f->by_name[i], f->entry) == 0)
            return thaw_fail(THAW_E_DATA, "tensor '%s' is given twice",
                             f->entry[f->by_name[i]].name);
    return THAW_OK;
}

static thaw_status read_header(st_file *f, int64_t size)
{
    thaw_status status = THAW_OK;
    reader r = {.file = f};
    char *header = NULL;
    size_t n = 0;

    THAW_TRY(header_length(&n, f->fd, size));
    header = thaw__alloc(n + 1);
    if (!header) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for a header of %zu bytes", n);
        goto done;
    }
    THAW_TRY(os_pread_all(f->fd, header, n, 8, "header"));
    r.scan = scan_of("header", header, n);
    r.data_begin = f->header_bytes = n + 8;
    r.data_bytes = (size_t)size - r.data_begin;
    THAW_TRY(scan_header(&r));
    if (f->n > 0)
        qsort(f->entry, (size_t)f->n, sizeof *f->entry, by_place);
    THAW_TRY(index_names(f));
    THAW_TRY(check_tiling(&r));
done:
    thaw__free(header);
    return status;
}

thaw_status ckpt_open_file(thaw_region **region, char **kept, int *fd, int64_t *size,
                           const char *path)
{
    THAW_CHECK(region_create(region));
    *kept = region_strdup(*region, path);
    if (!*kept)
        return thaw_fail(THAW_E_NOMEM, "out of memory opening '%s'", path);
    return os_open_file(fd, size, path);
}

thaw_status st_open(st_file **out, const char *path)
{
    thaw_status status = THAW_OK;
    st_file *f = thaw__new(1, sizeof *f);
    int64_t size = 0;

    if (!f)
        return thaw_fail(THAW_E_NOMEM, "out of memory opening '%s'", path);
    f->fd = -1;
    THAW_TRY(ckpt_open_file(&f->region, &f->path, &f->fd, &size, path));
    status = read_header(f, size);
    if (status != THAW_OK) {
        status = thaw_fail_context(status, "'%s'", path);
        goto done;
    }

    *out = f;
    f = NULL;
done:
    st_close(f);
    return status;
}

void st_close(st_file *f)
{
    if (!f)
        return;
    os_close(f->fd);
    thaw__free(f->entry);
    region_destroy(f->region);
    thaw__free(f);
}

const st_entry *st_find(const st_file *f, const char *name)
{
    int low = 0, high = f->n;

    while (low < high) {
        const int middle = low + (high - low) / 2;
        const st_entry *e = &f->entry[f->by_name[middle]];
        const int order = strcmp(name, e->name);

        if (order == 0)
            return e;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* ----------------------------------------------------------------------------------------------
 * data */

/* Piece by piece, so that converting needs no second copy of a large tensor. */
static thaw_status read_converting(char *dst, dtype to, int fd, size_t begin, size_t bytes,
                                   dtype from, const char *name)
{
    thaw_status status = THAW_OK;
    const size_t from_size = dtype_size(from), to_size = dtype_size(to);
    const size_t piece = THAW_MIN(bytes, PIECE_BYTES);
    char *buffer = thaw__alloc(piece);

    if (!buffer)
        return thaw_fail(THAW_E_NOMEM, "out of memory reading '%s'", name);
    for (size_t at = 0; at < bytes; at += piece) {
        const size_t n = THAW_MIN(piece, bytes - at);

        THAW_TRY(os_pread_all(fd, buffer, n, (int64_t)(begin + at), name));
        THAW_TRY(tensor_convert(dst + at / from_size * to_size, to, buffer, from, n / from_size));
    }
done:
    thaw__free(buffer);
    return status;
}

thaw_status ckpt_read_range(void *dst, dtype to, int fd, size_t begin, size_t n, dtype from,
                            const char *name)
{
    const size_t bytes = n * dtype_size(from);

    if (to == from)
        return os_pread_all(fd, dst, bytes, (int64_t)begin, name);
    return read_converting(dst, to, fd, begin, bytes, from, name);
}

thaw_status st_read(void *dst, dtype to, const st_file *f, const st_entry *e)
{
    const thaw_status status = ckpt_read_range(dst, to, f->fd, e->begin,
                                               e->bytes / dtype_size(e->dtype), e->dtype, f->path);

    return status == THAW_OK ? status : thaw_fail_context(status, "tensor '%s'", e->name);
}
