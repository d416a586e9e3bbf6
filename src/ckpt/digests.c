/*
 * digests - the digests of a checkpoint's files, asked for one by one and computed together.
 *
 * A file has one digest. A file of tensors has one of its header and one of each tensor: its header
 * says where each lies, and they tile the data without a gap, so that together these cover every
 * byte once, and say which tensor is not what it was. It does not know what the digests should be.
 */
#include "ckpt/ckpt.h"

#include <string.h>

thaw_status digests_ask(digests *d, const void *data, size_t n)
{
    THAW_CHECK(
        thaw__reserve(&d->message, &d->message_capacity, (size_t)d->n + 1, sizeof *d->message));
    d->message[d->n++] = (sha256_message){.data = n > 0 ? data : "", .n = n};
    return THAW_OK;
}

/* Bytes of an open file of the list. */
static thaw_status ask_range(digests *d, int fd, size_t begin, size_t n, const char *path)
{
    THAW_CHECK(digests_ask(d, NULL, 0));
    if (n > 0)
        d->message[d->n - 1] = (sha256_message){.fd = fd, .begin = begin, .n = n, .name = path};
    return THAW_OK;
}

static thaw_status ask_tensors(digests *d, const digest_file *f)
{
    THAW_CHECK(ask_range(d, f->st->fd, 0, f->st->header_bytes, f->path));
    for (int i = 0; i < f->st->n; i++)
        THAW_CHECK(ask_range(d, f->st->fd, f->st->entry[i].begin, f->st->entry[i].bytes, f->path));
    return THAW_OK;
}

thaw_status digests_ask_file(digests *d, const char *path, bool by_tensor)
{
    digest_file *f;

    THAW_CHECK(thaw__reserve(&d->file, &d->file_capacity, (size_t)d->n_files + 1, sizeof *f));
    f = &d->file[d->n_files++]; /* in the list from here on, whatever becomes of it */
    *f = (digest_file){.fd = -1, .first = d->n, .path = thaw__strdup(path)};
    if (!f->path)
        return thaw_fail(THAW_E_NOMEM, "out of memory reading '%s'", path);
    if (by_tensor) {
        THAW_CHECK(st_open(&f->st, path));
        os_will_read(f->st->fd);
        return ask_tensors(d, f);
    }
    THAW_CHECK(os_open_file(&f->fd, &f->size, path));
    os_will_read(f->fd);
    return ask_range(d, f->fd, 0, (size_t)f->size, f->path);
}

thaw_status digests_compute(digests *d)
{
    return sha256_all(d->message, d->n, sha256_lanes());
}

void digests_done(digests *d)
{
    for (int i = 0; i < d->n_files; i++) {
        os_close(d->file[i].fd);
        st_close(d->file[i].st);
        thaw__free(d->file[i].path);
    }
    thaw__free(d->file);
    thaw__free(d->message);
    *d = (digests){0};
}
