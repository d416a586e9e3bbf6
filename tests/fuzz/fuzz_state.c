/*
 * fuzz_state.c - any bytes as a checkpoint's state.json: read as the record of a run or refused
 * with one line, and an edit added to it is there when it is read back.
 */
#include "train/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[32];
static char path[sizeof folder + sizeof "/state.json"];

static void remove_folder(void)
{
    (void)unlink(path);
    (void)rmdir(folder);
}

static void make_folder(void)
{
    (void)snprintf(folder, sizeof folder, "%s/thaw-fuzz-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    THAW_ASSERT(mkdtemp(folder) != NULL);
    (void)snprintf(path, sizeof path, "%s/state.json", folder);
    THAW_ASSERT(atexit(remove_folder) == 0);
}

static void write_state(const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");

    THAW_ASSERT(f != NULL);
    THAW_ASSERT(fwrite(data, 1, size, f) == size);
    THAW_ASSERT(fclose(f) == 0);
}

static void require_refusal(thaw_status status)
{
    THAW_ASSERT(status == THAW_E_CORRUPT || status == THAW_E_LIMIT);
    THAW_ASSERT(thaw_error()[0] != '\0' && !strchr(thaw_error(), '\n'));
}

static void check(const run_record *r)
{
    THAW_ASSERT(r->iteration >= 0 && r->samples >= 0);
    for (int i = 0; i < r->n_edits; i++) {
        const run_edit *e = &r->edit[i];

        THAW_ASSERT(e->iteration >= 0 && e->iteration <= r->iteration && e->n_patterns > 0);
        for (int k = 0; k < e->n_patterns; k++)
            THAW_ASSERT(e->pattern[k] != NULL);
    }
}

static void add_edit(const run_record *r)
{
    const char *pattern = "head";
    const run_edit edit = {.iteration = r->iteration,
                           .kind = THAW_EDIT_LR,
                           .coefficient = 0.5,
                           .pattern = &pattern,
                           .n_patterns = 1};
    run_record *again = NULL;
    char *json = NULL;

    THAW_ASSERT(record_with_edit(&json, folder, &edit) == THAW_OK);
    write_state(json, strlen(json));
    THAW_ASSERT(record_read(&again, folder) == THAW_OK);
    THAW_ASSERT(again->n_edits == r->n_edits + 1 && again->iteration == r->iteration);
    THAW_ASSERT(strcmp(again->edit[r->n_edits].pattern[0], pattern) == 0);
    record_destroy(again);
    thaw__free(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t before = thaw__mem_current();
    run_record *r = NULL;
    thaw_status status;

    if (!*folder)
        make_folder();
    write_state(data, size);
    status = record_read(&r, folder);
    if (status == THAW_OK) {
        check(r);
        add_edit(r);
    } else {
        require_refusal(status);
    }
    record_destroy(r);
    THAW_ASSERT(thaw__mem_current() == before);
    return 0;
}
