/*
 * specs.c - the step-scheduled form of freezing (SPEC part B): specs name parameters by fnmatch
 * patterns or aliases of them, stages add specs at steps, and metadata records what was meant.
 *
 * Plain functions over plain lists; the schedule builds on the same matching.
 */
#include "core/core.h"

#include <stdlib.h>
#include <string.h>

thaw_status thaw__match_params(selection *out, const thaw_tree *t, const char *const *patterns,
                               int n, bool all_names)
{
    thaw_status status = THAW_OK;
    bool *chosen = thaw__new((size_t)t->n_params, sizeof(*chosen));
    selection made = {.module = thaw__new((size_t)t->n_params, sizeof(int))};
    name_glob *g = NULL;

    if (!chosen || !made.module) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for %d parameters", t->n_params);
        goto done;
    }
    for (int i = 0; i < n; i++) {
        THAW_TRY(glob_compile(&g, patterns[i]));
        for (int p = 0; p < t->n_params && !all_names; p++)
            chosen[p] = chosen[p] || glob_match(g, t->param[p].name);
        for (int e = 0; e < t->n_entries && all_names; e++)
            chosen[t->entry[e].param] =
                chosen[t->entry[e].param] || glob_match(g, t->entry[e].path);
        glob_destroy(g);
        g = NULL;
    }
    for (int p = 0; p < t->n_params; p++)
        if (chosen[p])
            made.module[made.n++] = p;
    *out = made;
    made = (selection){0};
done:
    glob_destroy(g);
    selection_done(&made);
    thaw__free(chosen);
    return status;
}
