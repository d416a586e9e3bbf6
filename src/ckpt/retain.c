/*
 * retain - deleting old checkpoints, and what commits that did not finish left behind.
 *
 * Deleting is the one thing here that can lose a run, so it waits until the newest checkpoint has
 * been verified byte by byte, and it takes a checkpoint out of sight by renaming before it removes
 * the first file: a kill in between leaves a leftover, not a torn checkpoint.
 */
#include "ckpt/ckpt.h"

#include <fcntl.h>
#include <string.h>

static const char temporary_prefix[] = ".tmp-";

/* A folder of plain files, or a single file or link; by best effort. */
static void remove_leftover(const char *folder, int fd, const char *name)
{
    os_names inside = {0};
    char *path = os_path(folder, name);
    int inner;

    if (!path || os()->unlink(fd, name, false) == 0)
        goto done;
    inner = os_open_at(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (inner < 0 || os_list(&inside, path) != THAW_OK) {
        os_close(inner);
        goto done;
    }
    for (size_t i = 0; i < inside.n; i++)
        (void)os()->unlink(inner, inside.name[i], false);
    os_close(inner);
    (void)os()->unlink(fd, name, true);
done:
    os_names_free(&inside);
    thaw__free(path);
}

static void remove_leftovers(const char *folder, int fd)
{
    os_names names = {0};

    if (os_list(&names, folder) != THAW_OK)
        return;
    for (size_t i = 0; i < names.n; i++)
        if (strncmp(names.name[i], temporary_prefix, sizeof temporary_prefix - 1) == 0)
            remove_leftover(folder, fd, names.name[i]);
    os_names_free(&names);
}

static void remove_checkpoint(const char *folder, int fd, ckpt_id id)
{
    char name[CKPT_NAME], hidden[OS_RANDOM_NAME];

    ckpt_name_of(name, id);
    os_random_name(hidden);
    if (os()->rename_new(fd, name, fd, hidden) == 0)
        remove_leftover(folder, fd, hidden);
}

static bool is_protected(ckpt_id id, const ckpt_id *protect, int n)
{
    for (int i = 0; i < n; i++)
        if (protect[i].step == id.step && protect[i].edit == id.edit)
            return true;
    return false;
}

/*
 * Number of checkpoints, from the newest, up to and with the keep-th good one; n when there are
 * fewer. The first good one must be so with this care.
 */
static int count_to_keep(const char *folder, const ckpt_id *id, int n, int keep, ckpt_care care)
{
    int good = 0;

    for (int i = 0; i < n; i++) {
        if (ckpt_verify_id(folder, id[i], good == 0 ? care : CKPT_SIZES) == THAW_OK)
            good++;
        if (good >= THAW_MAX(keep, 1))
            return i + 1;
    }
    return n;
}

/* The first from number `begin` that may go; n: none. */
static int next_to_go(const ckpt_id *id, int begin, int n, const ckpt_id *protect, int n_protect)
{
    while (begin < n && is_protected(id[begin], protect, n_protect))
        begin++;
    return begin;
}

void ckpt_retain(const char *folder, int keep, const ckpt_id *protect, int n_protect)
{
    const int fd = os_open_at(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY, 0);
    ckpt_id *id = NULL;
    int n = 0, i;

    if (fd < 0)
        return;
    if (ckpt_list(&id, &n, folder) == THAW_OK) {
        i = count_to_keep(folder, id, n, keep, CKPT_SIZES);
        /* every byte is read back only where something is to go */
        if (next_to_go(id, i, n, protect, n_protect) < n)
            i = count_to_keep(folder, id, n, keep, CKPT_DIGESTS);
        while ((i = next_to_go(id, i, n, protect, n_protect)) < n)
            remove_checkpoint(folder, fd, id[i++]);
    }
    remove_leftovers(folder, fd);
    thaw__free(id);
    os_close(fd);
}
