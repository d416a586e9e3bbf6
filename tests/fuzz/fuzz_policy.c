/*
 * fuzz_policy.c - any text as a saved policy and as checkpoint metadata: taken or refused, nothing
 * left behind, and what was taken is saved and read again as the same.
 */
#include "core/core.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static thaw_tree *grow(void)
{
    static const char *const names[] = {"a.w", "a.b.w", "a.b.c.w", "d.w", "root"};
    thaw_tree *t = NULL;
    thaw_status status = thaw_tree_create(&t);

    for (size_t i = 0; i < THAW_COUNT(names) && status == THAW_OK; i++)
        status = thaw_tree_add_param(t, names[i], 1, false);
    if (status == THAW_OK)
        status = thaw_tree_seal(t);
    THAW_ASSERT(status == THAW_OK);
    return t;
}

static char *saved(const thaw_policy *p)
{
    char *json = NULL;
    const thaw_status status = thaw_policy_save(&json, p);

    THAW_ASSERT(status == THAW_OK);
    return json;
}

static void try_policy(const char *json)
{
    const thaw_rates rates = THAW_RATES_INIT;
    thaw_tree *t = grow();
    thaw_policy *p = NULL;
    thaw_status status = thaw_policy_create(&p, t);
    char *before, *after;

    THAW_ASSERT(status == THAW_OK);
    for (int way = 0; way < 2; way++) {
        before = saved(p);
        status = thaw_policy_load(p, json, way ? &rates : NULL);
        after = saved(p);
        if (status != THAW_OK) {
            THAW_ASSERT(!strcmp(before, after));
        } else {
            char *again;

            status = thaw_policy_load(p, after, way ? &rates : NULL);
            THAW_ASSERT(status == THAW_OK);
            again = saved(p);
            THAW_ASSERT(!strcmp(after, again));
            thaw_text_free(again);
        }
        thaw_text_free(after);
        thaw_text_free(before);
    }
    thaw_policy_destroy(p);
    thaw_tree_destroy(t);
}

static void try_metadata(const char *json)
{
    static const thaw_freeze_spec expected[] = {{"a", true}, {"b", false}};
    char *warning = NULL;
    int64_t step;
    const thaw_status status =
        thaw_freeze_metadata_compare(&warning, "folder", json, expected, 2, true);

    THAW_ASSERT(status == THAW_OK || status == THAW_E_DATA);
    (void)thaw_peek_saved_step(&step, json);
    thaw_text_free(warning);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t before = thaw__mem_current();
    char *json = malloc(size + 1);

    if (!json)
        return 0;
    memcpy(json, data, size);
    json[size] = '\0';
    try_policy(json);
    try_metadata(json);
    free(json);
    THAW_ASSERT(thaw__mem_current() == before);
    return 0;
}
