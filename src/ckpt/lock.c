/*
 * lock - one writer a run folder.
 *
 * The lock is the kernel's flock on a file, so it ends with its owner however that ends; what the
 * file says, a process number and a host, is for the message to whoever comes second.
 */
#include "ckpt/ckpt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define OWNER_SIZE 300

/* Who holds it, from the file; cut at the first byte that belongs in no such text. */
static void read_owner(char out[OWNER_SIZE], int fd)
{
    const ptrdiff_t n = os()->pread(fd, out, OWNER_SIZE - 1, 0);
    size_t length = 0;

    while (n > 0 && length < (size_t)n && out[length] >= ' ' && out[length] < 0x7F &&
           out[length] != '\'')
        length++;
    out[length] = '\0';
}

/* A lock without its owner's name is a lock, too: failures do not matter. */
static void write_owner(int fd)
{
    char host[200] = "", owner[OWNER_SIZE];

    if (gethostname(host, sizeof host - 1) != 0)
        host[0] = '\0';
    (void)snprintf(owner, sizeof owner, "process %ld on host %s\n", (long)getpid(), host);
    if (os()->truncate(fd, 0) == 0)
        (void)os()->write(fd, owner, strlen(owner));
}

static thaw_status fail_locked(int fd, const char *run_folder)
{
    char owner[OWNER_SIZE];

    read_owner(owner, fd);
    return thaw_fail(THAW_E_CREATE, "run folder '%s' is in use by %s: wait for it or stop it",
                     run_folder, *owner ? owner : "another process");
}

thaw_status ckpt_lock(int *out, const char *run_folder)
{
    thaw_status status = THAW_OK;
    char *path = os_path(run_folder, "lock");
    int fd = -1;

    if (!path)
        return thaw_fail(THAW_E_NOMEM, "out of memory locking '%s'", run_folder);
    fd = os_open_at(AT_FDCWD, path, O_RDWR | O_CREAT | O_NOFOLLOW, 0644);
    if (fd < 0) {
        status = os_fail(THAW_E_CREATE, "create", path);
        goto done;
    }
    if (os()->lock(fd) != 0) {
        status =
            errno == EWOULDBLOCK ? fail_locked(fd, run_folder) : os_fail(THAW_E_OS, "lock", path);
        goto done;
    }
    write_owner(fd);
    THAW_TRY(os_sync_parent(run_folder)); /* whoever made it may have been killed too early */

    *out = fd;
    fd = -1;
done:
    os_close(fd);
    thaw__free(path);
    return status;
}
