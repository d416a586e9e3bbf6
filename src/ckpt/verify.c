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

#define PIECE_BYTES ((size_t)1 << 20)

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

thaw_status ckpt_digest_range(char sha[65], char mark_out[17], int fd, size_t begin, size_t n,
                              const char *name)
{
    thaw_status status = THAW_OK;
    char *buffer = thaw__alloc(THAW_MAX(THAW_MIN(n, PIECE_BYTES), 1));
    mark m = mark_begin();
    sha256 *h = NULL;
    size_t piece;

    if (!buffer)
        return thaw_fail(THAW_E_NOMEM, "out of memory reading '%s'", name);
    if (sha)
        THAW_TRY(sha256_begin(&h));
    for (size_t at = 0; at < n; at += piece) {
        piece = THAW_MIN(n - at, PIECE_BYTES);
        THAW_TRY(os_pread_all(fd, buffer, piece, (int64_t)(begin + at), name));
        if (sha)
            sha256_add(h, buffer, piece);
        if (mark_out)
            mark_add(&m, buffer, piece);
    }
    if (mark_out)
        mark_end(mark_out, &m);
done:
    sha256_end(status == THAW_OK ? sha : NULL, h);
    thaw__free(buffer);
    return status;
}

/* The file has the wrong digest: the text of the error names the first tensor that has. */
static thaw_status blame_tensor(const manifest_file *f, const char *path)
{
    thaw_status status = THAW_OK;
    st_file *st = NULL;
    char found[17];

    if (f->n_tensors == 0)
        return thaw_fail(THAW_E_CORRUPT, "'%s' is damaged: its SHA-256 is not the manifest's",
                         path);
    if (st_open(&st, path) != THAW_OK)
        return thaw_fail(THAW_E_CORRUPT, "'%s' is damaged in its header", path);
    for (int i = 0; i < f->n_tensors; i++) {
        const st_entry *e = st_find(st, f->tensor[i].name);

        if (!e) {
            status = thaw_fail(THAW_E_CORRUPT, "'%s' is damaged: it lacks tensor '%s'", path,
                               f->tensor[i].name);
            goto done;
        }
        THAW_TRY(ckpt_digest_range(NULL, found, st->fd, e->begin, e->bytes, path));
        if (strcmp(found, f->tensor[i].mark) != 0) {
            status = thaw_fail(THAW_E_CORRUPT, "'%s' is damaged in tensor '%s'", path, e->name);
            goto done;
        }
    }
    status = thaw_fail(THAW_E_CORRUPT, "'%s' is damaged in its header", path);
done:
    st_close(st);
    return status;
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

static thaw_status verify_file(const char *folder, const manifest_file *f, ckpt_care care)
{
    thaw_status status = THAW_OK;
    char *path = os_path(folder, f->name);
    char sha[65], found[17];
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
    THAW_TRY(
        ckpt_digest_range(care == CKPT_DIGESTS ? sha : NULL, found, fd, 0, (size_t)size, path));
    if (strcmp(found, f->mark) != 0 || (care == CKPT_DIGESTS && strcmp(sha, f->sha256) != 0))
        status = blame_tensor(f, path);
done:
    os_close(fd);
    thaw__free(path);
    return status;
}

static thaw_status verify(const char *path, const ckpt_id *called, ckpt_care care)
{
    thaw_status status = THAW_OK;
    manifest *m = NULL;
    char name[CKPT_NAME];

    THAW_CHECK(manifest_read(&m, path));
    if (called && (m->id.step != called->step || m->id.edit != called->edit)) {
        ckpt_name_of(name, m->id);
        status = thaw_fail(THAW_E_CORRUPT, "'%s' holds checkpoint '%s'", path, name);
        goto done;
    }
    for (int i = 0; i < m->n; i++)
        THAW_TRY(verify_file(path, &m->file[i], care));
done:
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

thaw_status ckpt_digest(char out[65], const char *path)
{
    manifest *m = NULL;

    THAW_CHECK(manifest_read(&m, path));
    memcpy(out, m->digest, sizeof m->digest);
    manifest_destroy(m);
    return THAW_OK;
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
        if (skipped)
            text_addf(skipped, "skipped '%s': %s\n", name, thaw_error());
    }
    status = n == 0 ? thaw_fail(THAW_E_MISSING, "no checkpoint in '%s'", folder)
                    : thaw_fail(THAW_E_MISSING,
                                "none of the %d checkpoints in '%s' is intact; the "
                                "oldest: %s",
                                n, folder, thaw_error());
done:
    thaw__free(id);
    return status;
}
