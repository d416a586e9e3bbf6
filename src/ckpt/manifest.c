/*
 * manifest - what a checkpoint claims to hold: each file's size and SHA-256; of a safetensors file
 * the SHA-256 of its header and of each tensor, which together cover it.
 *
 * The text ends with the digest of all that stands before it, so that no flipped bit of the
 * manifest itself goes unnoticed. It is JSON for people and other programs; we read back only what
 * we can have written, now or in format 1, where a file of tensors had one SHA-256 and each tensor
 * a mark.
 */
#include "ckpt/ckpt.h"

#include <string.h>

#define FORMAT       2
#define MOST_FILES   1000
#define MOST_DIGESTS 100000
#define LONGEST_NAME 512

#define TAIL_BEGIN "\"self\":\""
#define TAIL_END   "\"}\n"
#define TAIL_SIZE  (sizeof TAIL_BEGIN - 1 + 64 + sizeof TAIL_END - 1)

/* ----------------------------------------------------------------------------------------------
 * writing */

void manifest_begin(text *t, ckpt_id id)
{
    text_addf(t, "{\"format\":%d,\n\"step\":%lld,\n\"edit\":%d,\n\"files\":{", FORMAT,
              (long long)id.step, id.edit);
}

void manifest_add(text *t, const manifest_file *f, bool first)
{
    text_add(t, first ? "\n" : ",\n");
    text_add_json_string(t, f->name);
    text_addf(t, ":{\"size\":%llu,\"%s\":\"%s\"", (unsigned long long)f->size,
              f->by_tensor ? "header" : "sha256", f->sha256);
    if (f->by_tensor)
        text_add(t, ",\"tensors\":{");
    for (int i = 0; i < f->n_tensors; i++) {
        text_add(t, i ? ",\n" : "\n");
        text_add_json_string(t, f->tensor[i].name);
        text_addf(t, ":\"%s\"", f->tensor[i].digest);
    }
    text_add(t, f->by_tensor ? "}}" : "}");
}

thaw_status manifest_end(text *t)
{
    char digest[65];

    text_add(t, "},\n");
    if (t->failed)
        return thaw_fail(THAW_E_NOMEM, "out of memory for '%s'", MANIFEST_NAME);
    sha256_hex(digest, t->data, t->length);
    text_addf(t, TAIL_BEGIN "%s" TAIL_END, digest);
    if (t->failed)
        return thaw_fail(THAW_E_NOMEM, "out of memory for '%s'", MANIFEST_NAME);
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * reading */

typedef struct reader {
    scan scan;
    manifest *m;
    size_t file_capacity;
} reader;

static thaw_status expect_key(reader *r, const char *want)
{
    char key[16];

    THAW_CHECK(scan_key(key, sizeof key, &r->scan));
    if (strcmp(key, want) != 0)
        return thaw_fail(THAW_E_DATA, "'%s' where '%s' should come", key, want);
    return THAW_OK;
}

/* The next member must be this one. */
static thaw_status next_member(reader *r, const char *want)
{
    bool more;

    THAW_CHECK(scan_more(&more, &r->scan, '}'));
    if (!more)
        return thaw_fail(THAW_E_DATA, "'%s' is missing", want);
    return expect_key(r, want);
}

static thaw_status end_of_members(reader *r)
{
    bool more;

    THAW_CHECK(scan_more(&more, &r->scan, '}'));
    return more ? thaw_fail(THAW_E_DATA, "more members than there should be") : THAW_OK;
}

/* That many hexadecimal digits. */
static thaw_status scan_digits(char *out, size_t n, reader *r)
{
    THAW_CHECK(scan_string(out, n + 1, &r->scan));
    if (strspn(out, "0123456789abcdef") != n)
        return thaw_fail(THAW_E_DATA, "'%s' is not %zu hexadecimal digits", out, n);
    return THAW_OK;
}

static thaw_status scan_name(const char **out, reader *r)
{
    char name[LONGEST_NAME + 1];

    THAW_CHECK(scan_key(name, sizeof name, &r->scan));
    *out = region_strdup(r->m->region, name);
    return *out ? THAW_OK : thaw_fail(THAW_E_NOMEM, "out of memory for '%s'", name);
}

static thaw_status scan_tensors(reader *r, manifest_file *f)
{
    thaw_status status = THAW_OK;
    manifest_tensor *tensor = NULL;
    size_t capacity = 0;
    int n = 0;
    bool more;

    THAW_TRY(scan_open(&r->scan, '{'));
    for (;;) {
        THAW_TRY(scan_more(&more, &r->scan, '}'));
        if (!more)
            break;
        if (n == MOST_DIGESTS) {
            status = thaw_fail(THAW_E_LIMIT, "more than %d tensors", MOST_DIGESTS);
            goto done;
        }
        THAW_TRY(thaw__reserve(&tensor, &capacity, (size_t)n + 1, sizeof *tensor));
        THAW_TRY(scan_name(&tensor[n].name, r));
        THAW_TRY(scan_digits(tensor[n].digest, r->m->format == 1 ? 16 : 64, r));
        n++;
    }
    f->tensor = region_alloc(r->m->region, (size_t)n, sizeof *tensor);
    if (!f->tensor) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for %d tensors", n);
        goto done;
    }
    if (n > 0)
        memcpy(f->tensor, tensor, (size_t)n * sizeof *tensor);
    f->n_tensors = n;
done:
    thaw__free(tensor);
    return status;
}

/* After the size: the digest of a file, or of a header and then of each tensor. */
static thaw_status scan_digests(reader *r, manifest_file *f)
{
    char key[16];
    bool more;

    THAW_CHECK(scan_more(&more, &r->scan, '}'));
    if (!more)
        return thaw_fail(THAW_E_DATA, "'sha256' is missing");
    THAW_CHECK(scan_key(key, sizeof key, &r->scan));
    f->by_tensor = strcmp(key, "header") == 0;
    if (!f->by_tensor && strcmp(key, "sha256") != 0)
        return thaw_fail(THAW_E_DATA, "'%s' where 'sha256' should come", key);
    THAW_CHECK(scan_digits(f->sha256, 64, r));
    if (!f->by_tensor)
        return THAW_OK;
    THAW_CHECK(next_member(r, "tensors"));
    return scan_tensors(r, f);
}

/* The same in format 1: always all of them, and the mark of the file, which we need no more. */
static thaw_status scan_digests_1(reader *r, manifest_file *f)
{
    char mark[17];

    THAW_CHECK(next_member(r, "sha256"));
    THAW_CHECK(scan_digits(f->sha256, 64, r));
    THAW_CHECK(next_member(r, "mark"));
    THAW_CHECK(scan_digits(mark, 16, r));
    THAW_CHECK(next_member(r, "tensors"));
    return scan_tensors(r, f);
}

static thaw_status scan_file(reader *r)
{
    manifest_file f = {0};
    manifest *m = r->m;

    if (m->n == MOST_FILES)
        return thaw_fail(THAW_E_LIMIT, "more than %d files", MOST_FILES);
    THAW_CHECK(scan_name(&f.name, r));
    if (!ckpt_name_valid(f.name))
        return thaw_fail(THAW_E_DATA, "'%s' cannot be a file of a checkpoint", f.name);
    for (int i = 0; i < m->n; i++)
        if (strcmp(m->file[i].name, f.name) == 0)
            return thaw_fail(THAW_E_DATA, "'%s' is listed twice", f.name);
    THAW_CHECK(scan_open(&r->scan, '{'));
    THAW_CHECK(next_member(r, "size"));
    THAW_CHECK(scan_integer(&f.size, &r->scan));
    THAW_CHECK(m->format == 1 ? scan_digests_1(r, &f) : scan_digests(r, &f));
    THAW_CHECK(end_of_members(r));
    THAW_CHECK(thaw__reserve(&m->file, &r->file_capacity, (size_t)m->n + 1, sizeof f));
    m->file[m->n++] = f;
    return THAW_OK;
}

static thaw_status scan_manifest(reader *r)
{
    uint64_t format, step, edit;
    bool more;

    THAW_CHECK(scan_open(&r->scan, '{'));
    THAW_CHECK(next_member(r, "format"));
    THAW_CHECK(scan_integer(&format, &r->scan));
    if (format > FORMAT)
        return thaw_fail(THAW_E_SUPPORT, "format %llu is newer than this program, which knows %d",
                         (unsigned long long)format, FORMAT);
    if (format < 1)
        return thaw_fail(THAW_E_DATA, "there is no format %llu", (unsigned long long)format);
    r->m->format = (int)format;
    THAW_CHECK(next_member(r, "step"));
    THAW_CHECK(scan_integer(&step, &r->scan));
    THAW_CHECK(next_member(r, "edit"));
    THAW_CHECK(scan_integer(&edit, &r->scan));
    if (edit > INT32_MAX)
        return thaw_fail(THAW_E_DATA, "edit %llu is out of range", (unsigned long long)edit);
    r->m->id = (ckpt_id){.step = (int64_t)step, .edit = (int)edit};
    THAW_CHECK(next_member(r, "files"));
    THAW_CHECK(scan_open(&r->scan, '{'));
    for (;;) {
        THAW_CHECK(scan_more(&more, &r->scan, '}'));
        if (!more)
            break;
        THAW_CHECK(scan_file(r));
    }
    THAW_CHECK(next_member(r, "self"));
    THAW_CHECK(scan_string(NULL, 0, &r->scan));
    THAW_CHECK(end_of_members(r));
    return scan_end(&r->scan);
}

/* The text must end with the digest of what stands before. */
static thaw_status check_self(const char *data, size_t n)
{
    char digest[65];
    const char *tail;

    if (n < TAIL_SIZE)
        return thaw_fail(THAW_E_DATA, "%zu bytes are too few for a manifest", n);
    tail = data + n - TAIL_SIZE;
    sha256_hex(digest, data, n - TAIL_SIZE);
    if (memcmp(tail, TAIL_BEGIN, sizeof TAIL_BEGIN - 1) != 0 ||
        memcmp(data + n - (sizeof TAIL_END - 1), TAIL_END, sizeof TAIL_END - 1) != 0 ||
        memcmp(tail + sizeof TAIL_BEGIN - 1, digest, 64) != 0)
        return thaw_fail(THAW_E_DATA, "it does not have the digest it ends with");
    return THAW_OK;
}

/* Damage of any kind is THAW_E_CORRUPT, what the machine lacks is not. */
static thaw_status fail_as_corrupt(thaw_status status, const char *path)
{
    const bool kept = status == THAW_E_NOMEM || status == THAW_E_IO || status == THAW_E_SUPPORT;

    return thaw_fail_context(kept ? status : THAW_E_CORRUPT, "'%s'", path);
}

thaw_status manifest_read(manifest **out, const char *path)
{
    thaw_status status = THAW_OK;
    reader r = {.m = thaw__new(1, sizeof *r.m)};
    char *file = os_path(path, MANIFEST_NAME), *data = NULL;
    size_t n = 0;

    if (!r.m || !file) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory reading '%s'", path);
        goto done;
    }
    THAW_TRY(region_create(&r.m->region));
    status = os_read_file(&data, &n, file, MANIFEST_LONGEST);
    if (status == THAW_E_MISSING && os_kind_of(path) == OS_FOLDER)
        status =
            thaw_fail(THAW_E_CORRUPT, "'%s' has no %s: it was not finished", path, MANIFEST_NAME);
    else if (status == THAW_E_DATA || status == THAW_E_LIMIT)
        status = THAW_E_CORRUPT;
    if (status != THAW_OK)
        goto done;
    r.scan = scan_of("manifest", data, n);
    status = check_self(data, n);
    if (status == THAW_OK)
        status = scan_manifest(&r);
    if (status != THAW_OK) {
        status = fail_as_corrupt(status, file);
        goto done;
    }

    *out = r.m;
    r.m = NULL;
done:
    thaw__free(data);
    thaw__free(file);
    manifest_destroy(r.m);
    return status;
}

void manifest_destroy(manifest *m)
{
    if (!m)
        return;
    thaw__free(m->file);
    region_destroy(m->region);
    thaw__free(m);
}
