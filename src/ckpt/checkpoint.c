/*
 * checkpoint - committing a checkpoint so that it is there in full or not at all.
 *
 * All files are written into a folder of a random name, each on disk and hashed on the way; the
 * manifest comes last; then the folder's own names are put on disk; then one rename that must not
 * replace gives it the name by which it counts, and that name is put on disk. Until the rename
 * nothing looks at the folder. Nothing here knows what the files mean.
 */
#include "ckpt/ckpt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define NEW_FILE     (O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW)
#define FOLDER_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
#define PIECE_BYTES  ((size_t)1 << 20)
#define ROOM_TO_KEEP ((size_t)1 << 20) /* for folders, the manifest and rounding up to blocks */

typedef struct commit {
    const char *folder; /* where it will lie */
    int folder_fd;
    ckpt_id id;
    char name[CKPT_NAME];
    char temporary[OS_RANDOM_NAME];
    int fd; /* of the temporary folder */
    bool made;
    const ckpt_file *file;
    int n, n_made; /* files, and those that may exist in the temporary folder */
    bool manifest_made;
    text manifest;
} commit;

/* A file being written. */
typedef struct output {
    int fd;
    const char *name;
    sha256 *whole;
    mark mark;
    uint64_t size;
} output;

static thaw_status put(output *o, const void *data, size_t n)
{
    THAW_CHECK(os_write_all(o->fd, data, n, o->name));
    sha256_add(o->whole, data, n);
    mark_add(&o->mark, data, n);
    o->size += n;
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * the three kinds of file */

static thaw_status put_bytes(output *o, manifest_file *row, const ckpt_file *f)
{
    (void)row;
    return put(o, f->bytes, f->size);
}

static thaw_status put_tensor(output *o, manifest_tensor *row, const st_source *s)
{
    mark m = mark_begin();
    size_t bytes = 0;

    THAW_CHECK(shape_bytes(&bytes, &s->shape, s->dtype));
    THAW_CHECK(put(o, s->data, bytes));
    mark_add(&m, s->data, bytes);
    mark_end(row->mark, &m);
    row->name = s->name;
    return THAW_OK;
}

static thaw_status put_tensors(output *o, manifest_file *row, const ckpt_file *f)
{
    thaw_status status = THAW_OK;
    char *header = NULL;
    size_t size = 0;

    THAW_TRY(st_header(&header, &size, f->name, f->tensor, f->n_tensors, f->metadata_json));
    THAW_TRY(put(o, header, size));
    row->tensor = thaw__new((size_t)f->n_tensors, sizeof *row->tensor);
    if (!row->tensor) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for the digests of '%s'", f->name);
        goto done;
    }
    for (; row->n_tensors < f->n_tensors; row->n_tensors++)
        THAW_TRY(put_tensor(o, &row->tensor[row->n_tensors], &f->tensor[row->n_tensors]));
done:
    thaw__free(header);
    return status;
}

static thaw_status put_copy(output *o, manifest_file *row, const ckpt_file *f)
{
    thaw_status status = THAW_OK;
    char *buffer = thaw__alloc(PIECE_BYTES);
    int64_t size = 0, piece;
    int fd = -1;

    (void)row;
    if (!buffer)
        return thaw_fail(THAW_E_NOMEM, "out of memory copying '%s'", f->link);
    THAW_TRY(os_open_file(&fd, &size, f->link));
    for (int64_t at = 0; at < size; at += piece) {
        piece = THAW_MIN(size - at, (int64_t)PIECE_BYTES);
        THAW_TRY(os_pread_all(fd, buffer, (size_t)piece, at, f->link));
        THAW_TRY(put(o, buffer, (size_t)piece));
    }
done:
    os_close(fd);
    thaw__free(buffer);
    return status;
}

/* Write one new file, on disk when the call returns. */
static thaw_status write_file(commit *c, manifest_file *row, const ckpt_file *f,
                              thaw_status (*content)(output *, manifest_file *, const ckpt_file *))
{
    thaw_status status = THAW_OK;
    output o = {.fd = -1, .name = f->name, .mark = mark_begin()};

    THAW_CHECK(sha256_begin(&o.whole));
    o.fd = os_open_at(c->fd, f->name, NEW_FILE, 0644);
    if (o.fd < 0) {
        status = os_fail(THAW_E_IO, "create", f->name);
        goto done;
    }
    THAW_TRY(content(&o, row, f));
    THAW_TRY(os_sync(o.fd, f->name));
    mark_end(row->mark, &o.mark);
    row->size = o.size;
done:
    sha256_end(status == THAW_OK ? row->sha256 : NULL, o.whole);
    if (o.fd >= 0 && os()->close(o.fd) != 0 && errno != EINTR && status == THAW_OK)
        status = os_fail(THAW_E_IO, "close", f->name);
    return status;
}

/* Digests of a file taken over, read from where it came from. */
static thaw_status digest_linked(manifest_file *row, const ckpt_file *f)
{
    thaw_status status = THAW_OK;
    int64_t size = 0;
    int fd = -1;

    THAW_CHECK(os_open_file(&fd, &size, f->link));
    THAW_TRY(ckpt_digest_range(row->sha256, row->mark, fd, 0, (size_t)size, f->link));
    row->size = (uint64_t)size;
done:
    os_close(fd);
    return status;
}

static thaw_status add_file(commit *c, const ckpt_file *f)
{
    thaw_status status = THAW_OK;
    manifest_file row = {.name = f->name};
    const bool first = c->n_made == 0;

    c->n_made++;
    if (f->link && os()->link(AT_FDCWD, f->link, c->fd, f->name) == 0)
        THAW_TRY(digest_linked(&row, f));
    else
        THAW_TRY(write_file(c, &row, f, f->link ? put_copy : f->tensor ? put_tensors : put_bytes));
    manifest_add(&c->manifest, &row, first);
done:
    thaw__free(row.tensor);
    return status;
}

static thaw_status add_manifest(commit *c)
{
    manifest_file row = {0};
    ckpt_file f = {.name = MANIFEST_NAME};

    THAW_CHECK(manifest_end(&c->manifest));
    f.bytes = c->manifest.data;
    f.size = c->manifest.length;
    c->manifest_made = true;
    return write_file(c, &row, &f, put_bytes);
}

/* ----------------------------------------------------------------------------------------------
 * before */

static thaw_status check_files(const commit *c)
{
    for (int i = 0; i < c->n; i++) {
        if (!ckpt_name_valid(c->file[i].name))
            return thaw_fail(THAW_E_USAGE, "'%s' cannot be a file of a checkpoint",
                             c->file[i].name);
        for (int j = 0; j < i; j++)
            if (strcmp(c->file[i].name, c->file[j].name) == 0)
                return thaw_fail(THAW_E_USAGE, "two files of a checkpoint are named '%s'",
                                 c->file[i].name);
    }
    return THAW_OK;
}

/* Bytes a file will take, about: headers are small beside what they describe. */
static thaw_status add_size(size_t *total, const ckpt_file *f)
{
    size_t bytes = 0;

    if (f->link)
        return THAW_OK;
    if (!f->tensor)
        bytes = f->size;
    for (int i = 0; i < f->n_tensors; i++) {
        size_t one = 0;

        THAW_CHECK(shape_bytes(&one, &f->tensor[i].shape, f->tensor[i].dtype));
        if (!size_add(&bytes, bytes, one) || !size_add(&bytes, bytes, strlen(f->tensor[i].name)))
            return thaw_fail(THAW_E_LIMIT, "the tensors of '%s' are too large", f->name);
    }
    if (!size_add(total, *total, bytes))
        return thaw_fail(THAW_E_LIMIT, "the checkpoint is too large");
    return THAW_OK;
}

static thaw_status check_room(const commit *c)
{
    const int64_t available = os()->free_bytes(c->folder_fd);
    size_t needed = ROOM_TO_KEEP;
    char need_text[32], have_text[32];

    for (int i = 0; i < c->n; i++)
        THAW_CHECK(add_size(&needed, &c->file[i]));
    if (available >= 0 && (uint64_t)available < needed)
        return thaw_fail(THAW_E_IO,
                         "checkpoint '%s' needs %s, but only %s are free in '%s': make room there, "
                         "or keep fewer checkpoints",
                         c->name, format_bytes(need_text, needed),
                         format_bytes(have_text, (uint64_t)available), c->folder);
    return THAW_OK;
}

/*
 * A checkpoint of this name that is damaged would be in the way for ever: a resume skips it, and
 * comes back to the step at which it was saved.
 */
static thaw_status check_absent(const commit *c)
{
    char aside[CKPT_NAME + OS_RANDOM_NAME], random[OS_RANDOM_NAME];
    char *path = os_path(c->folder, c->name);
    const os_kind kind = path ? os_kind_of(path) : OS_OTHER;

    thaw__free(path);
    if (!path)
        return thaw_fail(THAW_E_NOMEM, "out of memory saving '%s'", c->name);
    if (kind == OS_ABSENT)
        return THAW_OK;
    if (kind == OS_FOLDER && ckpt_verify_id(c->folder, c->id, CKPT_DIGESTS) == THAW_E_CORRUPT) {
        os_random_name(random);
        (void)snprintf(aside, sizeof aside, "%s.bad-%s", c->name, strchr(random, '-') + 1);
        if (os()->rename_new(c->folder_fd, c->name, c->folder_fd, aside) == 0)
            return THAW_OK;
    }
    return thaw_fail(THAW_E_CREATE, "checkpoint '%s' exists already in '%s'", c->name, c->folder);
}

static thaw_status prepare(commit *c)
{
    THAW_CHECK(check_files(c));
    /* a folder that is there may have been made by a process that was killed before its name was on
     * disk */
    THAW_CHECK(os_kind_of(c->folder) == OS_FOLDER ? os_sync_parent(c->folder)
                                                  : os_make_folders(c->folder));
    c->folder_fd = os_open_at(AT_FDCWD, c->folder, O_RDONLY | O_DIRECTORY, 0);
    if (c->folder_fd < 0)
        return os_fail(THAW_E_CREATE, "open", c->folder);
    THAW_CHECK(check_absent(c));
    THAW_CHECK(check_room(c));

    os_random_name(c->temporary);
    if (os()->mkdir(c->folder_fd, c->temporary, 0755) != 0)
        return os_fail(THAW_E_CREATE, "create a folder in", c->folder);
    c->made = true;
    c->fd = os_open_at(c->folder_fd, c->temporary, FOLDER_FLAGS, 0);
    if (c->fd < 0)
        return os_fail(THAW_E_IO, "open a new folder in", c->folder);
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * the commit, and after */

/* The rename is the commit. If its name cannot be put on disk, it is taken back. */
static thaw_status give_name(commit *c)
{
    thaw_status status;

    if (os()->rename_new(c->folder_fd, c->temporary, c->folder_fd, c->name) != 0)
        return errno == EEXIST ? thaw_fail(THAW_E_CREATE, "checkpoint '%s' exists already in '%s'",
                                           c->name, c->folder)
                               : os_fail(THAW_E_IO, "commit checkpoint", c->name);
    status = os_sync(c->folder_fd, c->folder);
    if (status == THAW_OK)
        c->made = false;
    else if (os()->rename_new(c->folder_fd, c->name, c->folder_fd, c->temporary) != 0) {
        c->made = false;
        return thaw_fail_context(status, "checkpoint '%s' is written but may not outlast a crash",
                                 c->name);
    }
    return status;
}

/* Best effort: whatever cannot be removed is a leftover for ckpt_retain. */
static void remove_temporary(commit *c)
{
    if (c->fd >= 0)
        for (int i = 0; i < c->n_made; i++)
            (void)os()->unlink(c->fd, c->file[i].name, false);
    if (c->fd >= 0 && c->manifest_made)
        (void)os()->unlink(c->fd, MANIFEST_NAME, false);
    (void)os()->unlink(c->folder_fd, c->temporary, true);
}

/* For people alone; nothing reads it, so nothing depends on it. */
static void point_latest(const commit *c)
{
    char name[OS_RANDOM_NAME];

    os_random_name(name);
    if (os()->symlink(c->name, c->folder_fd, name) != 0)
        return;
    if (os()->rename(c->folder_fd, name, c->folder_fd, "latest") != 0)
        (void)os()->unlink(c->folder_fd, name, false);
}

thaw_status ckpt_commit(const char *folder, int64_t step, int edit, const ckpt_file *file, int n)
{
    thaw_status status = THAW_OK;
    commit c = {.folder = folder, .folder_fd = -1, .fd = -1, .file = file, .n = n};

    if (step < 0 || edit < 0)
        return thaw_fail(THAW_E_USAGE, "a checkpoint cannot be of step %lld, edit %d",
                         (long long)step, edit);
    c.id = (ckpt_id){.step = step, .edit = edit};
    ckpt_name_of(c.name, c.id);
    THAW_TRY(prepare(&c));

    manifest_begin(&c.manifest, c.id);
    for (int i = 0; i < n; i++)
        THAW_TRY(add_file(&c, &file[i]));
    THAW_TRY(add_manifest(&c));
    THAW_TRY(os_sync(c.fd, c.temporary));
    THAW_TRY(give_name(&c));
    point_latest(&c);
done:
    if (c.made)
        remove_temporary(&c);
    text_done(&c.manifest);
    os_close(c.fd);
    os_close(c.folder_fd);
    return status;
}
