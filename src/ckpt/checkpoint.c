/*
 * checkpoint - committing a checkpoint so that it is there in full or not at all.
 *
 * All that will be written is hashed; all files are written into a folder of a random name, each on
 * disk; the manifest comes last; then the folder's own names are put on disk; then one rename that
 * must not replace gives it the name by which it counts, and that name is put on disk. Until the
 * rename nothing looks at the folder. Nothing here knows what the files mean.
 */
#include "ckpt/ckpt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define NEW_FILE       (O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW)
#define FOLDER_FLAGS   (O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
#define PIECE_BYTES    ((size_t)1 << 20)
#define TENSORS_SUFFIX ".safetensors"
#define ROOM_TO_KEEP   ((size_t)1 << 20) /* for folders, the manifest and rounding up to blocks */

/* What the manifest will say of a file, and the header of a file of tensors. */
typedef struct draft {
    manifest_file row;
    char *header;
    size_t header_size;
    int first; /* of its digests */
} draft;

typedef struct commit {
    const char *folder; /* where it will lie */
    int folder_fd;
    ckpt_id id;
    char name[CKPT_NAME];
    char temporary[OS_RANDOM_NAME];
    int fd; /* of the temporary folder */
    bool made;
    const ckpt_file *file;
    draft *draft; /* of each file */
    digests digests;
    int n, n_made; /* files, and those that may exist in the temporary folder */
    bool manifest_made;
    text manifest;
} commit;

/* ----------------------------------------------------------------------------------------------
 * digests of the three kinds of file */

static thaw_status make_rows(draft *d, int n)
{
    d->row.by_tensor = true;
    d->row.tensor = thaw__new((size_t)n, sizeof *d->row.tensor);
    if (!d->row.tensor)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the digests of '%s'", d->row.name);
    d->row.n_tensors = n;
    return THAW_OK;
}

static thaw_status ask_bytes(commit *c, draft *d, const ckpt_file *f)
{
    d->row.size = f->size;
    return digests_ask(&c->digests, f->bytes, f->size);
}

static thaw_status ask_tensors(commit *c, draft *d, const ckpt_file *f)
{
    THAW_CHECK(
        st_header(&d->header, &d->header_size, f->name, f->tensor, f->n_tensors, f->metadata_json));
    THAW_CHECK(make_rows(d, f->n_tensors));
    d->row.size = d->header_size;
    THAW_CHECK(digests_ask(&c->digests, d->header, d->header_size));
    for (int i = 0; i < f->n_tensors; i++) {
        size_t bytes = 0;

        THAW_CHECK(shape_bytes(&bytes, &f->tensor[i].shape, f->tensor[i].dtype));
        THAW_CHECK(digests_ask(&c->digests, f->tensor[i].data, bytes));
        d->row.tensor[i].name = f->tensor[i].name;
        d->row.size += bytes;
    }
    return THAW_OK;
}

/* As tensors where it can be read as such. */
static thaw_status ask_file(digests *d, const ckpt_file *f)
{
    const size_t n = strlen(f->name), suffix = strlen(TENSORS_SUFFIX);

    if (n > suffix && strcmp(f->name + n - suffix, TENSORS_SUFFIX) == 0) {
        const thaw_status status = digests_ask_file(d, f->link, true);

        if (status == THAW_OK || status == THAW_E_NOMEM || status == THAW_E_IO)
            return status;
    }
    return digests_ask_file(d, f->link, false);
}

/* A file taken over is read where it comes from. */
static thaw_status ask_linked(commit *c, draft *d, const ckpt_file *f)
{
    const digest_file *from;
    const st_entry *last;

    THAW_CHECK(ask_file(&c->digests, f));
    from = &c->digests.file[c->digests.n_files - 1];
    d->first = from->first;
    d->row.size = (uint64_t)from->size;
    if (!from->st)
        return THAW_OK;
    last = from->st->n > 0 ? &from->st->entry[from->st->n - 1] : NULL;
    d->row.size = last ? last->begin + last->bytes : from->st->header_bytes;
    THAW_CHECK(make_rows(d, from->st->n));
    for (int i = 0; i < from->st->n; i++)
        d->row.tensor[i].name = from->st->entry[i].name;
    return THAW_OK;
}

/* All of them at once, so that they can be computed side by side. */
static thaw_status digest_files(commit *c)
{
    c->draft = thaw__new((size_t)c->n, sizeof *c->draft);
    if (!c->draft)
        return thaw_fail(THAW_E_NOMEM, "out of memory saving '%s'", c->name);
    for (int i = 0; i < c->n; i++) {
        const ckpt_file *f = &c->file[i];
        draft *d = &c->draft[i];

        d->row.name = f->name;
        d->first = c->digests.n;
        THAW_CHECK((f->link ? ask_linked : f->tensor ? ask_tensors : ask_bytes)(c, d, f));
    }
    THAW_CHECK(digests_compute(&c->digests));
    for (int i = 0; i < c->n; i++) {
        manifest_file *row = &c->draft[i].row;
        const sha256_message *m = &c->digests.message[c->draft[i].first];

        memcpy(row->sha256, m[0].hex, sizeof row->sha256);
        for (int t = 0; t < row->n_tensors; t++)
            memcpy(row->tensor[t].digest, m[1 + t].hex, sizeof m->hex);
    }
    return THAW_OK;
}

static void drop_drafts(commit *c)
{
    for (int i = 0; c->draft && i < c->n; i++) {
        thaw__free(c->draft[i].header);
        thaw__free(c->draft[i].row.tensor);
    }
    thaw__free(c->draft);
    digests_done(&c->digests);
}

/* ----------------------------------------------------------------------------------------------
 * writing them */

static thaw_status put_bytes(int fd, const draft *d, const ckpt_file *f)
{
    (void)d;
    return os_write_all(fd, f->bytes, f->size, f->name);
}

static thaw_status put_tensors(int fd, const draft *d, const ckpt_file *f)
{
    THAW_CHECK(os_write_all(fd, d->header, d->header_size, f->name));
    for (int i = 0; i < f->n_tensors; i++) {
        size_t bytes = 0;

        THAW_CHECK(shape_bytes(&bytes, &f->tensor[i].shape, f->tensor[i].dtype));
        THAW_CHECK(os_write_all(fd, f->tensor[i].data, bytes, f->name));
    }
    return THAW_OK;
}

static thaw_status put_copy(int fd, const draft *d, const ckpt_file *f)
{
    thaw_status status = THAW_OK;
    char *buffer = thaw__alloc(PIECE_BYTES);
    int64_t size = 0, piece;
    int from = -1;

    (void)d;
    if (!buffer)
        return thaw_fail(THAW_E_NOMEM, "out of memory copying '%s'", f->link);
    THAW_TRY(os_open_file(&from, &size, f->link));
    for (int64_t at = 0; at < size; at += piece) {
        piece = THAW_MIN(size - at, (int64_t)PIECE_BYTES);
        THAW_TRY(os_pread_all(from, buffer, (size_t)piece, at, f->link));
        THAW_TRY(os_write_all(fd, buffer, (size_t)piece, f->name));
    }
done:
    os_close(from);
    thaw__free(buffer);
    return status;
}

/* Write one new file, on disk when the call returns. */
static thaw_status write_file(commit *c, const draft *d, const ckpt_file *f,
                              thaw_status (*content)(int, const draft *, const ckpt_file *))
{
    thaw_status status = THAW_OK;
    const int fd = os_open_at(c->fd, f->name, NEW_FILE, 0644);

    if (fd < 0)
        return os_fail(THAW_E_IO, "create", f->name);
    THAW_TRY(content(fd, d, f));
    THAW_TRY(os_sync(fd, f->name));
done:
    if (os()->close(fd) != 0 && errno != EINTR && status == THAW_OK)
        status = os_fail(THAW_E_IO, "close", f->name);
    return status;
}

static thaw_status add_file(commit *c, int i)
{
    const ckpt_file *f = &c->file[i];
    const draft *d = &c->draft[i];

    c->n_made++;
    if (!f->link || os()->link(AT_FDCWD, f->link, c->fd, f->name) != 0)
        THAW_CHECK(write_file(c, d, f, f->link ? put_copy : f->tensor ? put_tensors : put_bytes));
    manifest_add(&c->manifest, &d->row, i == 0);
    return THAW_OK;
}

static thaw_status add_manifest(commit *c)
{
    ckpt_file f = {.name = MANIFEST_NAME};

    THAW_CHECK(manifest_end(&c->manifest));
    f.bytes = c->manifest.data;
    f.size = c->manifest.length;
    c->manifest_made = true;
    return write_file(c, NULL, &f, put_bytes);
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
    thaw_status status = THAW_OK;

    thaw__free(path);
    if (!path)
        return thaw_fail(THAW_E_NOMEM, "out of memory saving '%s'", c->name);
    if (kind == OS_ABSENT)
        return THAW_OK;
    if (kind == OS_FOLDER)
        status = ckpt_verify_id(c->folder, c->id, CKPT_DIGESTS);
    if (status == THAW_E_IO || status == THAW_E_NOMEM)
        return thaw_fail_context(status, "checkpoint '%s' exists already", c->name);
    if (status == THAW_E_CORRUPT) {
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
    THAW_TRY(digest_files(&c));

    manifest_begin(&c.manifest, c.id);
    for (int i = 0; i < n; i++)
        THAW_TRY(add_file(&c, i));
    THAW_TRY(add_manifest(&c));
    THAW_TRY(os_sync(c.fd, c.temporary));
    THAW_TRY(give_name(&c));
    point_latest(&c);
done:
    if (c.made)
        remove_temporary(&c);
    drop_drafts(&c);
    text_done(&c.manifest);
    os_close(c.fd);
    os_close(c.folder_fd);
    return status;
}
