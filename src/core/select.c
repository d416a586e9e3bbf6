/*
 * select.c - from patterns to layers: all of them or an error, in layer order, each once.
 */
#include "core/core.h"

#include <stdlib.h>
#include <string.h>

void selection_done(selection *s)
{
    thaw__free(s->module);
    *s = (selection){0};
}

/* "pattern 'x' matches no layer (did you mean 'y'?)" */
static thaw_status fail_no_match(const thaw_tree *t, const char *pattern)
{
    const char **name = thaw__new((size_t)t->n_modules, sizeof(*name));
    size_t n = 0;
    text near = TEXT_INIT;
    thaw_status status;

    for (int m = 1; name && m < t->n_modules; m++)
        if (t->module[m].layer)
            name[n++] = t->module[m].path;
    if (name)
        text_add_near(&near, pattern, name, n, 3);
    status = thaw_fail(THAW_E_NOMATCH, "pattern '%s' matches no layer%s", pattern,
                       near.data ? near.data : "");
    text_done(&near);
    thaw__free(name);
    return status;
}

thaw_status thaw__select_one(bool *chosen, const thaw_tree *t, const char *python)
{
    thaw_status status = THAW_OK;
    name_pattern *compiled = NULL;
    const int exact = name_map_get(&t->modules, python);
    bool any = exact > 0 && t->module[exact].layer && !strcmp(t->module[exact].path, python);

    status = pattern_compile(&compiled, python);
    if (status != THAW_OK) {
        /* a name such as "proj[0" is no expression, yet it is a name */
        if (!any || status == THAW_E_NOMEM)
            return status;
        chosen[exact] = true;
        return THAW_OK;
    }
    if (any)
        chosen[exact] = true;
    for (int m = 1; m < t->n_modules; m++) {
        bool hit = false;

        if (!t->module[m].layer || chosen[m])
            continue;
        THAW_TRY(pattern_match(&hit, compiled, t->module[m].path));
        chosen[m] = hit;
        any = any || hit;
    }
    /* hits of earlier patterns were left out above */
    for (int m = 1; !any && m < t->n_modules; m++)
        if (chosen[m] && t->module[m].layer)
            THAW_TRY(pattern_match(&any, compiled, t->module[m].path));
    if (!any)
        status = fail_no_match(t, python);
done:
    pattern_destroy(compiled);
    return status;
}

thaw_status selection_take(selection *out, const thaw_tree *t, const bool *chosen)
{
    int *module = thaw__new((size_t)t->n_modules, sizeof(*module));
    int n = 0;

    if (!module)
        return thaw_fail(THAW_E_NOMEM, "out of memory for %d layers", t->n_modules);
    for (int m = 1; m < t->n_modules; m++)
        if (chosen[m])
            module[n++] = m;
    *out = (selection){.module = module, .n = n};
    return THAW_OK;
}

thaw_status thaw__select(selection *out, const thaw_tree *t, const char *const *patterns, int n)
{
    thaw_status status = THAW_OK;
    bool *chosen = NULL;

    if (!t->sealed)
        return thaw_fail(THAW_E_USAGE, "the module tree is not sealed");
    chosen = thaw__new((size_t)t->n_modules, sizeof(*chosen));
    if (!chosen)
        return thaw_fail(THAW_E_NOMEM, "out of memory for %d layers", t->n_modules);
    for (int i = 0; i < n; i++)
        THAW_TRY(thaw__select_one(chosen, t, patterns[i]));
    THAW_TRY(selection_take(out, t, chosen));
done:
    thaw__free(chosen);
    return status;
}
