/*
 * verify - whether a checkpoint is what was written, and which one to continue from.
 *
 * A checkpoint counts only if its manifest and every byte of every file listed there are right;
 * what else lies in the folder does not matter. The search for the newest trusts no link and no
 * folder time: it reads names, and verifies.
 */
#include "ckpt/ckpt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES   ((size_t)1 << 20)
#define MOST_OPEN     32
#define MOST_MESSAGES 20000

/* ----------------------------------------------------------------------------------------------
 * names */

bool ckpt_name_valid(const char *name)
{
    const size_t n = strlen(name);

    if (n == 0 || n > 200 || name[0] == '.' || strcmp(name, MANIFEST_NAME) == 0)
        return false;
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7F || strchr("/\\:\"'*?<>|", *p))
            return false;
    return true;
}

void ckpt_name_of(char out[CKPT_NAME], ckpt_id id)
{
    if (id.edit == 0)
        (void)snprintf(out, CKPT_NAME, "step-%06lld", (long long)id.step);
    else
        (void)snprintf(out, CKPT_NAME, "step-%06lld.edit-%d", (long long)id.step, id.edit);
}

bool ckpt_id_of(ckpt_id *out, const char *name)
{
    ckpt_id id = {0};
    char back[CKPT_NAME];
    long long step = 0;

    /* whatever sscanf makes of it, only the one spelling that we write is accepted */
    if (strlen(name) >= CKPT_NAME || sscanf(name, "step-%18lld.edit-%9d", &step, &id.edit) < 1)
        return false;
    id.step = step;
    ckpt_name_of(back, id);
    if (step < 0 || id.edit < 0 || strcmp(name, back) != 0)
        return false;
    *out = id;
    return true;
}

char *ckpt_path(const char *folder, ckpt_id id)
{
    char name[CKPT_NAME];

    ckpt_name_of(name, id);
    return os_path(folder, name);
}

static int newest_first(const void *a, const void *b)
{
    const ckpt_id *x = a, *y = b;

    if (x->step != y->step)
        return x->step > y->step ? -1 : 1;
    return x->edit > y->edit ? -1 : x->edit < y->edit;
}

thaw_status ckpt_list(ckpt_id **out, int *n, const char *folder)
{
    os_names names = {0};
    ckpt_id *id;
    int found = 0;

    if (os_kind_of(folder) != OS_ABSENT)
        THAW_CHECK(os_list(&names, folder));
    id = thaw__new(names.n, sizeof *id);
    if (!id) {
        os_names_free(&names);
        return thaw_fail(THAW_E_NOMEM, "out of memory listing '%s'", folder);
    }
    for (size_t i = 0; i < names.n; i++)
        found += ckpt_id_of(&id[found], names.name[i]);
    if (found > 0)
        qsort(id, (size_t)found, sizeof *id, newest_first);
    os_names_free(&names);

    *out = id;
    *n = found;
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * verifying */

/* Format 1: mark of n bytes of an open file. */
static thaw_status mark_range(char out[17], int fd, size_t begin, size_t n, const char *name)
{
    thaw_status status = THAW_OK;
    char *buffer = thaw__alloc(THAW_MAX(THAW_MIN(n, PIECE_BYTES), 1));
    mark m = mark_begin();
    size_t piece;

    if (!buffer)
        return thaw_fail(THAW_E_NOMEM, "out of memory reading '%s'", name);
    for (size_t at = 0; at < n; at += piece) {
        piece = THAW_MIN(n - at, PIECE_BYTES);
        THAW_TRY(os_pread_all(fd, buffer, piece, (int64_t)(begin + at), name));
        mark_add(&m, buffer, piece);
    }
    mark_end(out, &m);
done:
    thaw__free(buffer);
    return status;
}

static thaw_status fail_lacking(const char *path, const char *tensor)
{
    return thaw_fail(THAW_E_CORRUPT, "'%s' is damaged: it lacks tensor '%s'", path, tensor);
}

static thaw_status fail_tensor(const char *path, const char *tensor)
{
    return thaw_fail(THAW_E_CORRUPT, "'%s' is damaged in tensor '%s'", path, tensor);
}

static thaw_status fail_header(const char *path)
{
    return thaw_fail(THAW_E_CORRUPT, "'%s' is damaged in its header", path);
}

/* A file has the wrong digest: the text of the error names the first tensor whose mark is wrong, if
 * there are marks. */
static thaw_status blame_tensor(const manifest_file *f, const char *path)
{
    thaw_status status = THAW_OK;
    st_file *st = NULL;
    char found[17];

    if (f->n_tensors == 0)
        return thaw_fail(THAW_E_CORRUPT, "'%s' is damaged: its SHA-256 is not the manifest's",
                         path);
    if (st_open(&st, path) != THAW_OK)
        return fail_header(path);
    for (int i = 0; i < f->n_tensors && status == THAW_OK; i++) {
        const st_entry *e = st_find(st, f->tensor[i].name);

        if (!e) {
            status = fail_lacking(path, f->tensor[i].name);
            goto done;
        }
        THAW_TRY(mark_range(found, st->fd, e->begin, e->bytes, path));
        if (strcmp(found, f->tensor[i].digest) != 0)
            status = fail_tensor(path, e->name);
    }
    if (status == THAW_OK)
        status = fail_header(path);
done:
    st_close(st);
    return status;
}

/* The header, and then each tensor: a header that is right says which ones there are. */
static thaw_status compare_tensors(const manifest_file *f, const digest_file *found,
                                   const sha256_message *m)
{
    const st_file *st = found->st;

    if (strcmp(m[0].hex, f->sha256) != 0)
        return fail_header(found->path);
    for (int i = 0; i < f->n_tensors; i++) {
        if (i >= st->n || strcmp(st->entry[i].name, f->tensor[i].name) != 0)
            return fail_lacking(found->path, f->tensor[i].name);
        if (strcmp(m[1 + i].hex, f->tensor[i].digest) != 0)
            return fail_tensor(found->path, f->tensor[i].name);
    }
    if (st->n > f->n_tensors)
        return thaw_fail(THAW_E_CORRUPT, "'%s' holds tensor '%s', which the manifest lacks",
                         found->path, st->entry[f->n_tensors].name);
    return THAW_OK;
}

static thaw_status compare(const manifest_file *f, const digest_file *found,
                           const sha256_message *m)
{
    if (f->by_tensor)
        return compare_tensors(f, found, m);
    return strcmp(m[0].hex, f->sha256) == 0 ? THAW_OK : blame_tensor(f, found->path);
}

/* A link could lead anywhere, and we never write one. */
static thaw_status refuse_link(const char *path)
{
    const int fd = os_open_at(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    const bool link = fd < 0 && errno == ELOOP;

    os_close(fd);
    return link ? thaw_fail(THAW_E_CORRUPT, "'%s' is a link, not a file of the checkpoint", path)
                : THAW_OK;
}

/* Look at a file, and ask for its digests where every byte counts. */
static thaw_status look_at_file(digests *d, const char *folder, const manifest_file *f,
                                ckpt_care care)
{
    thaw_status status = THAW_OK;
    char *path = os_path(folder, f->name);
    int64_t size = 0;
    int fd = -1;

    if (!path)
        return thaw_fail(THAW_E_NOMEM, "out of memory verifying '%s'", folder);
    THAW_TRY(refuse_link(path));
    status = os_open_file(&fd, &size, path);
    if (status == THAW_E_MISSING || status == THAW_E_DATA)
        status = thaw_fail(THAW_E_CORRUPT, "'%s' lacks its file '%s'", folder, f->name);
    if (status != THAW_OK)
        goto done;
    if ((uint64_t)size != f->size) {
        status = thaw_fail(THAW_E_CORRUPT, "'%s' is %lld bytes long, not %llu", path,
                           (long long)size, (unsigned long long)f->size);
        goto done;
    }
    if (care == CKPT_SIZES)
        goto done;
    status = digests_ask_file(d, path, f->by_tensor);
    if (status != THAW_OK && status != THAW_E_NOMEM && status != THAW_E_IO)
        status = fail_header(path);
done:
    os_close(fd);
    thaw__free(path);
    return status;
}

/* Digests of the files that have been looked at, beside what they should be. */
static thaw_status compare_all(digests *d, const manifest_file *f)
{
    THAW_CHECK(digests_compute(d));
    for (int i = 0; i < d->n_files; i++)
        THAW_CHECK(compare(&f[i], &d->file[i], &d->message[d->file[i].first]));
    return THAW_OK;
}

static thaw_status read_manifest(manifest **out, const char *path)
{
    char *file = os_path(path, MANIFEST_NAME);
    thaw_status status;

    if (!file)
        return thaw_fail(THAW_E_NOMEM, "out of memory verifying '%s'", path);
    status = refuse_link(file);
    thaw__free(file);
    return status == THAW_OK ? manifest_read(out, path) : status;
}

static thaw_status verify(const char *path, const ckpt_id *called, ckpt_care care)
{
    thaw_status status = THAW_OK;
    manifest *m = NULL;
    digests d = {0};
    char name[CKPT_NAME];

    THAW_CHECK(read_manifest(&m, path));
    if (called && (m->id.step != called->step || m->id.edit != called->edit)) {
        ckpt_name_of(name, m->id);
        status = thaw_fail(THAW_E_CORRUPT, "'%s' holds checkpoint '%s'", path, name);
        goto done;
    }
    for (int i = 0; i < m->n; i++) {
        THAW_TRY(look_at_file(&d, path, &m->file[i], care));
        /* our own checkpoints fit; others may not hold any number of files open */
        if (d.n_files == MOST_OPEN || d.n > MOST_MESSAGES) {
            THAW_TRY(compare_all(&d, &m->file[i + 1 - d.n_files]));
            digests_done(&d);
        }
    }
    if (d.n_files > 0)
        status = compare_all(&d, &m->file[m->n - d.n_files]);
done:
    digests_done(&d);
    manifest_destroy(m);
    return status;
}

thaw_status ckpt_verify(const char *path)
{
    return verify(path, NULL, CKPT_DIGESTS);
}

thaw_status ckpt_verify_id(const char *folder, ckpt_id id, ckpt_care care)
{
    char *path = ckpt_path(folder, id);
    thaw_status status;

    if (!path)
        return thaw_fail(THAW_E_NOMEM, "out of memory verifying '%s'", folder);
    status = verify(path, &id, care);
    thaw__free(path);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * the newest */

thaw_status ckpt_newest(ckpt_id *out, text *skipped, const char *folder)
{
    thaw_status status = THAW_OK;
    ckpt_id *id = NULL;
    char name[CKPT_NAME];
    int n = 0;

    THAW_CHECK(ckpt_list(&id, &n, folder));
    for (int i = 0; i < n; i++) {
        status = ckpt_verify_id(folder, id[i], CKPT_DIGESTS);
        if (status == THAW_OK)
            *out = id[i];
        if (status == THAW_OK || status == THAW_E_NOMEM)
            goto done;
        ckpt_name_of(name, id[i]);
        if (status == THAW_E_IO) { /* which says nothing about what it holds */
            status = thaw_fail(THAW_E_IO,
                               "checkpoint '%s' could not be read: %s; try again, or move it away "
                               "to go on from an older one",
                               name, thaw_error());
            goto done;
        }
        if (skipped)
            text_addf(skipped, "skipped '%s': %s\n", name, thaw_error());
    }
    if (n == 0)
        status = thaw_fail(THAW_E_MISSING, "no checkpoint in '%s'", folder);
    else if (n == 1)
        status = thaw_fail(THAW_E_CORRUPT, "the only checkpoint in '%s' is not intact: %s", folder,
                           thaw_error());
    else
        status = thaw_fail(THAW_E_CORRUPT,
                           "none of the %d checkpoints in '%s' is intact; the oldest: %s", n,
                           folder, thaw_error());
done:
    thaw__free(id);
    return status;
}
