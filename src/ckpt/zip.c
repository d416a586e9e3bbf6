/*
 * zip - the directory of an archive whose entries are stored, so that each is a piece of the file.
 *
 * Only what torch.save writes is understood. The directory at the end is believed where it and the
 * headers in front of the entries agree, and never about places: every range is checked against the
 * file and against its neighbours. It knows nothing of what the entries hold.
 */
#include "ckpt/ckpt.h"

#include <stdlib.h>
#include <string.h>

#define MOST_ENTRIES      100000
#define LONGEST_DIRECTORY ((size_t)24 << 20)
#define LONGEST_NAME      512

/* Sizes of the fixed parts of records, with their signatures. */
enum { END = 22, END64 = 56, LOCATOR64 = 20, CENTRAL = 46, LOCAL = 30 };

typedef struct reader {
    zip_file *zip;
    int fd;
    uint64_t size;                 /* of the file */
    uint64_t begin, bytes, n, end; /* directory; first byte after what may hold entries */
    const unsigned char *at, *stop;
    struct place {
        uint64_t begin, end;
        int number;
    } * place; /* of each entry with its header */
} reader;

static uint64_t number(const unsigned char *p, int bytes)
{
    uint64_t v = 0;

    for (int i = bytes; i > 0; i--)
        v = v << 8 | p[i - 1];
    return v;
}

static bool has_signature(const unsigned char *p, const char *signature)
{
    return memcmp(p, signature, 4) == 0;
}

/* ----------------------------------------------------------------------------------------------
 * where the directory is */

/* The larger numbers of the zip64 records, in the place of those that the old record cannot say. */
static thaw_status read_end64(reader *r, uint64_t end_at)
{
    unsigned char locator[LOCATOR64], record[END64];
    uint64_t at;

    if (end_at < LOCATOR64)
        return THAW_OK;
    THAW_CHECK(os_pread_all(r->fd, locator, sizeof locator, (int64_t)(end_at - LOCATOR64), "zip"));
    if (!has_signature(locator, "PK\6\7"))
        return THAW_OK;
    at = number(locator + 8, 8);
    if (end_at < LOCATOR64 + END64 || at > end_at - LOCATOR64 - END64)
        return thaw_fail(THAW_E_DATA, "the zip64 record lies outside of the archive");
    THAW_CHECK(os_pread_all(r->fd, record, sizeof record, (int64_t)at, "zip"));
    if (!has_signature(record, "PK\6\6"))
        return thaw_fail(THAW_E_DATA, "there is no zip64 record at byte %llu",
                         (unsigned long long)at);
    if (number(record + 16, 4) != 0 || number(record + 20, 4) != 0 ||
        number(record + 24, 8) != number(record + 32, 8))
        return thaw_fail(THAW_E_SUPPORT, "an archive on several disks");
    r->n = number(record + 32, 8);
    r->bytes = number(record + 40, 8);
    r->begin = number(record + 48, 8);
    r->end = at;
    return THAW_OK;
}

static thaw_status find_directory(reader *r)
{
    unsigned char record[END];
    uint64_t at;

    if (r->size < END)
        return thaw_fail(THAW_E_DATA, "%llu bytes are too few for a zip archive",
                         (unsigned long long)r->size);
    at = r->size - END;
    THAW_CHECK(os_pread_all(r->fd, record, sizeof record, (int64_t)at, "zip"));
    if (!has_signature(record, "PK\5\6"))
        return thaw_fail(THAW_E_DATA, "the zip archive does not end with its directory: it is cut "
                                      "off, or was not written by torch.save");
    if (number(record + 4, 2) != 0 || number(record + 6, 2) != 0 ||
        number(record + 8, 2) != number(record + 10, 2))
        return thaw_fail(THAW_E_SUPPORT, "an archive on several disks");
    r->n = number(record + 10, 2);
    r->bytes = number(record + 12, 4);
    r->begin = number(record + 16, 4);
    r->end = at;
    THAW_CHECK(read_end64(r, at));
    if (r->begin > r->end || r->bytes != r->end - r->begin)
        return thaw_fail(THAW_E_DATA,
                         "the archive's directory of %llu bytes at %llu does not end where it "
                         "should, at %llu",
                         (unsigned long long)r->bytes, (unsigned long long)r->begin,
                         (unsigned long long)r->end);
    if (r->n > MOST_ENTRIES || r->bytes > LONGEST_DIRECTORY)
        return thaw_fail(THAW_E_LIMIT, "%llu entries are too many for an archive of weights",
                         (unsigned long long)r->n);
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * one entry */

/* A relative path: components that are not empty, "." or "..", without anything odd. */
static bool name_valid(const char *name, size_t n)
{
    size_t length = 0;

    for (size_t i = 0; i <= n; i++) {
        const unsigned char c = i < n ? (unsigned char)name[i] : '/';

        if (c != '/') {
            if (c < ' ' || c == 0x7F || c == '\\' || c == ':')
                return false;
            length++;
            continue;
        }
        if (length == 0 || (length == 1 && name[i - 1] == '.') ||
            (length == 2 && name[i - 1] == '.' && name[i - 2] == '.'))
            return false;
        length = 0;
    }
    return n > 0;
}

/* Put the 64-bit numbers of a zip64 field in the place of those that are all ones. */
static thaw_status read_extra(uint64_t *const value[3], const unsigned char *p, size_t n)
{
    while (n >= 4) {
        const size_t length = number(p + 2, 2), tag = number(p, 2);

        if (length > n - 4)
            return thaw_fail(THAW_E_DATA, "an extra field goes beyond its record");
        for (size_t i = 0, at = 0; tag == 1 && i < 3; i++) {
            if (*value[i] != UINT32_MAX)
                continue;
            if (length - at < 8)
                return thaw_fail(THAW_E_DATA, "a zip64 field is too short");
            *value[i] = number(p + 4 + at, 8);
            at += 8;
        }
        p += 4 + length;
        n -= 4 + length;
    }
    return THAW_OK;
}

/* The header in front of the entry's bytes: the same name, and then the bytes. */
static thaw_status check_local(reader *r, zip_entry *e, uint64_t at)
{
    unsigned char head[LOCAL + LONGEST_NAME];
    const size_t length = strlen(e->name);

    if (at > r->begin || r->begin - at < LOCAL + length)
        return thaw_fail(THAW_E_DATA, "it lies outside of the archive");
    THAW_CHECK(os_pread_all(r->fd, head, LOCAL + length, (int64_t)at, "zip"));
    if (!has_signature(head, "PK\3\4") || number(head + 8, 2) != 0 ||
        number(head + 26, 2) != length || memcmp(head + LOCAL, e->name, length) != 0)
        return thaw_fail(THAW_E_DATA, "its header at byte %llu does not agree with the directory",
                         (unsigned long long)at);
    e->begin = (size_t)(at + LOCAL + length + number(head + 28, 2));
    if (e->begin > r->begin || e->bytes > r->begin - e->begin)
        return thaw_fail(THAW_E_DATA, "its %zu bytes go beyond the archive", e->bytes);
    r->place[r->zip->n] =
        (struct place){.begin = at, .end = e->begin + e->bytes, .number = r->zip->n};
    return THAW_OK;
}

static thaw_status read_entry(reader *r, zip_entry *e, const unsigned char *p, size_t extra)
{
    uint64_t stored = number(p + 20, 4), bytes = number(p + 24, 4), at = number(p + 42, 4);
    uint64_t *const value[3] = {&bytes, &stored, &at};

    if (number(p + 8, 2) & 1)
        return thaw_fail(THAW_E_SUPPORT, "it is encrypted");
    if (number(p + 10, 2) != 0)
        return thaw_fail(THAW_E_SUPPORT, "it is compressed, which torch.save does not do");
    if (number(p + 34, 2) != 0)
        return thaw_fail(THAW_E_SUPPORT, "it is on another disk");
    THAW_CHECK(read_extra(value, p + CENTRAL + strlen(e->name), extra));
    if (stored != bytes)
        return thaw_fail(THAW_E_DATA, "stored in %llu bytes, it has %llu",
                         (unsigned long long)stored, (unsigned long long)bytes);
    e->bytes = (size_t)bytes;
    return check_local(r, e, at);
}

static thaw_status next_entry(reader *r)
{
    const unsigned char *const p = r->at;
    const size_t left = (size_t)(r->stop - p);
    zip_file *const z = r->zip;
    zip_entry *const e = &z->entry[z->n];
    size_t name, extra, comment;
    char *copy;
    thaw_status status;

    if (left < CENTRAL || !has_signature(p, "PK\1\2"))
        return thaw_fail(THAW_E_DATA, "entry %d of the archive's directory is damaged", z->n);
    name = number(p + 28, 2);
    extra = number(p + 30, 2);
    comment = number(p + 32, 2);
    if (name + extra + comment > left - CENTRAL)
        return thaw_fail(THAW_E_DATA, "entry %d of the archive's directory is cut off", z->n);
    if (name > LONGEST_NAME || !name_valid((const char *)p + CENTRAL, name))
        return thaw_fail(THAW_E_DATA, "entry %d of the archive has a name that is no plain path",
                         z->n);
    copy = region_alloc(z->region, name + 1, 1);
    if (!copy)
        return thaw_fail(THAW_E_NOMEM, "out of memory for an archive's directory");
    memcpy(copy, p + CENTRAL, name);
    e->name = copy;
    status = read_entry(r, e, p, extra);
    if (status != THAW_OK)
        return thaw_fail_context(status, "entry '%s'", e->name);
    z->n++;
    r->at += CENTRAL + name + extra + comment;
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * all entries together */

static int by_place(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static int by_name(const void *a, const void *b)
{
    const zip_entry *x = a, *y = b;

    return strcmp(x->name, y->name);
}

static thaw_status check_together(reader *r)
{
    zip_file *const z = r->zip;

    if (z->n == 0)
        return THAW_OK;
    qsort(r->place, (size_t)z->n, sizeof *r->place, by_place);
    for (int i = 1; i < z->n; i++)
        if (r->place[i].begin < r->place[i - 1].end)
            return thaw_fail(THAW_E_DATA, "entries '%s' and '%s' overlap",
                             z->entry[r->place[i - 1].number].name,
                             z->entry[r->place[i].number].name);
    qsort(z->entry, (size_t)z->n, sizeof *z->entry, by_name);
    for (int i = 1; i < z->n; i++)
        if (by_name(&z->entry[i - 1], &z->entry[i]) == 0)
            return thaw_fail(THAW_E_DATA, "entry '%s' is there twice", z->entry[i].name);
    return THAW_OK;
}

static thaw_status read_directory(reader *r)
{
    unsigned char *directory = thaw__alloc((size_t)r->bytes + 1);
    thaw_status status = THAW_OK;

    /* An entry takes at least so many bytes: a number that claims more costs nothing. */
    if (r->n > r->bytes / CENTRAL) {
        status = thaw_fail(THAW_E_DATA, "the archive's directory is too short for %llu entries",
                           (unsigned long long)r->n);
        goto done;
    }
    r->place = thaw__new((size_t)r->n, sizeof *r->place);
    r->zip->entry = thaw__new((size_t)r->n, sizeof *r->zip->entry);
    if (!directory || !r->place || !r->zip->entry) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for an archive's directory");
        goto done;
    }
    THAW_TRY(os_pread_all(r->fd, directory, (size_t)r->bytes, (int64_t)r->begin, "zip"));
    r->at = directory;
    r->stop = directory + r->bytes;
    for (uint64_t i = 0; i < r->n; i++)
        THAW_TRY(next_entry(r));
    if (r->at != r->stop) {
        status = thaw_fail(THAW_E_DATA, "%zu bytes after the last entry of the archive's directory",
                           (size_t)(r->stop - r->at));
        goto done;
    }
    THAW_TRY(check_together(r));
done:
    thaw__free(directory);
    thaw__free(r->place);
    return status;
}

thaw_status zip_read(zip_file **out, int fd, int64_t size)
{
    reader r = {.fd = fd, .size = (uint64_t)size};
    thaw_status status;

    r.zip = thaw__new(1, sizeof *r.zip);
    if (!r.zip)
        return thaw_fail(THAW_E_NOMEM, "out of memory for an archive's directory");
    THAW_TRY(region_create(&r.zip->region));
    THAW_TRY(find_directory(&r));
    THAW_TRY(read_directory(&r));
    *out = r.zip;
    r.zip = NULL;
done:
    zip_destroy(r.zip);
    return status;
}

void zip_destroy(zip_file *z)
{
    if (!z)
        return;
    thaw__free(z->entry);
    region_destroy(z->region);
    thaw__free(z);
}

const zip_entry *zip_find(const zip_file *z, const char *name)
{
    const zip_entry key = {.name = name};

    return z->n > 0 ? bsearch(&key, z->entry, (size_t)z->n, sizeof key, by_name) : NULL;
}
