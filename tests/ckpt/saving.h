/*
 * saving.h - what the tests of checkpoints share: small checkpoints whose every byte depends on
 * their step, and looking whether one is there unharmed.
 */
#ifndef THAW_TESTS_SAVING_H
#define THAW_TESTS_SAVING_H

#include "check.h"
#include "ckpt/ckpt.h"

#define SAVING_N 40

/* Temporary folders in memory where there is such a place: thousands of real fsyncs take minutes,
 * and what is tested does not depend on them. */
static inline void saving_in_memory(void)
{
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
}

/* Commit step with three files: tensors, other tensors, JSON. */
static inline thaw_status saving_commit_edit(const char *folder, int64_t step, int edit)
{
    float weight[SAVING_N], moment[SAVING_N];
    char json[64];
    const st_source model[] = {{"layer.weight", DTYPE_F32, shape_2(4, 5), weight},
                               {"layer.bias", DTYPE_F32, shape_1(20), weight + 20}};
    const st_source optimizer[] = {{"layer.weight.m", DTYPE_F32, shape_1(SAVING_N), moment}};
    ckpt_file file[3] = {{.name = "model.safetensors",
                          .tensor = model,
                          .n_tensors = 2,
                          .metadata_json = "{\"format\":\"pt\"}"},
                         {.name = "optimizer.safetensors", .tensor = optimizer, .n_tensors = 1},
                         {.name = "progress.json", .bytes = json}};

    for (int i = 0; i < SAVING_N; i++) {
        weight[i] = (float)(step * 1000 + edit * 100 + i);
        moment[i] = -weight[i];
    }
    file[2].size = (size_t)snprintf(json, sizeof json, "{\"step\": %lld, \"edit\": %d}",
                                    (long long)step, edit);
    return ckpt_commit(folder, step, edit, file, 3);
}

static inline thaw_status saving_commit(const char *folder, int64_t step)
{
    return saving_commit_edit(folder, step, 0);
}

/* The checkpoint holds what saving_commit put there; not only by its own digests. */
static inline bool saving_is_right(const char *folder, int64_t step)
{
    const ckpt_id id = {step, 0};
    char *path = ckpt_path(folder, id), *model = os_path(path, "model.safetensors");
    st_file *f = NULL;
    float weight[20];
    bool right = ckpt_verify(path) == THAW_OK && st_open(&f, model) == THAW_OK &&
                 st_find(f, "layer.bias") &&
                 st_read(weight, DTYPE_F32, f, st_find(f, "layer.bias")) == THAW_OK;

    for (int i = 0; right && i < 20; i++)
        right = weight[i] == (float)(step * 1000 + 20 + i);
    st_close(f);
    thaw__free(model);
    thaw__free(path);
    return right;
}

/* Path of a file of a checkpoint, as check_path gives it. */
static inline const char *saving_file(const char *folder, int64_t step, const char *name)
{
    char inner[300];

    snprintf(inner, sizeof inner, "step-%06lld/%s", (long long)step, name);
    return check_path(folder, inner);
}

/* Names in the folder that begin so. */
static inline int saving_count(const char *folder, const char *prefix)
{
    os_names names = {0};
    int n = 0;

    if (os_list(&names, folder) == THAW_OK)
        for (size_t i = 0; i < names.n; i++)
            n += strncmp(names.name[i], prefix, strlen(prefix)) == 0;
    os_names_free(&names);
    return n;
}

#endif
