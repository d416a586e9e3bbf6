/*
 * Fuzz target: any bytes as a manifest, with a right digest at the end, since without one nothing
 * gets further.
 */
#include "ckpt/ckpt.h"

#include <string.h>

#include "fuzz_file.h"

static char folder[32];
static char path[sizeof folder + sizeof MANIFEST_NAME + 1];

static void remove_folder(void)
{
    (void)unlink(path);
    (void)rmdir(folder);
}

static void check(const manifest *m)
{
    require(m->id.step >= 0 && m->id.edit >= 0, "a negative number");
    for (int i = 0; i < m->n; i++) {
        require(ckpt_name_valid(m->file[i].name), "a name that leads elsewhere");
        require(strlen(m->file[i].sha256) == 64, "a short digest");
        for (int j = 0; j < m->file[i].n_tensors; j++)
            require(strlen(m->file[i].tensor[j].digest) == (m->format == 1 ? 16 : 64),
                    "a short digest of a tensor");
        require(m->file[i].by_tensor || m->format == 1 || m->file[i].n_tensors == 0,
                "tensors that nobody looks at");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char digest[65];
    manifest *m = NULL;
    FILE *f;

    if (!*path) {
        snprintf(folder, sizeof folder, "%s/thaw-fuzz-XXXXXX",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        require(mkdtemp(folder) != NULL, "no folder");
        snprintf(path, sizeof path, "%s/%s", folder, MANIFEST_NAME);
        require(atexit(remove_folder) == 0, "no atexit");
    }
    f = fopen(path, "wb");
    require(f != NULL, "no file");
    sha256_hex(digest, data, size);
    require(fwrite(data, 1, size, f) == size && fprintf(f, "\"self\":\"%s\"}\n", digest) > 0,
            "cannot write");
    require(fclose(f) == 0, "cannot write");
    if (manifest_read(&m, folder) == THAW_OK)
        check(m);
    manifest_destroy(m);
    require(thaw__mem_current() == 0, "a leak");
    return 0;
}
