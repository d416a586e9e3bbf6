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

static int find_layer(const thaw_tree *t, const char *path)
{
    const int m = name_map_get(&t->modules, path);

    return m > 0 && t->module[m].layer && !strcmp(t->module[m].path, path) ? m : -1;
}

/* *any: whether any layer matches, chosen before or not. */
static thaw_status match_layers(bool *chosen, bool *any, const thaw_tree *t,
                                const name_pattern *compiled)
{
    const char *only = pattern_only_match(compiled);
    const int single = only ? find_layer(t, only) : -1;

    if (single >= 0)
        *any = chosen[single] = true;
    for (int m = 1; m < t->n_modules && !only; m++) {
        bool hit = false;

        if (!t->module[m].layer || (chosen[m] && *any))
            continue;
        THAW_CHECK(pattern_match(&hit, compiled, t->module[m].path));
        chosen[m] = chosen[m] || hit;
        *any = *any || hit;
    }
    return THAW_OK;
}

/* SPEC A3.6: a name such as "proj[0]" selects itself, whatever it is as an expression. */
thaw_status thaw__select_one(bool *chosen, const thaw_tree *t, const char *python)
{
    const int exact = find_layer(t, python);
    name_pattern *compiled = NULL;
    bool any = exact > 0;
    thaw_status status = pattern_compile(&compiled, python);

    if (status == THAW_OK)
        status = match_layers(chosen, &any, t, compiled);
    else if (any && status != THAW_E_NOMEM)
        status = THAW_OK;
    if (status == THAW_OK && exact > 0)
        chosen[exact] = true;
    if (status == THAW_OK && !any)
        status = fail_no_match(t, python);
    pattern_destroy(compiled);
    return status;
}

thaw_status selection_take(selection *out, const thaw_tree *t, const bool *chosen)
{
    int *module, n = 0;

    for (int m = 1; m < t->n_modules; m++)
        n += chosen[m];
    module = thaw__new((size_t)n, sizeof(*module));
    if (!module)
        return thaw_fail(THAW_E_NOMEM, "out of memory for %d layers", n);
    n = 0;
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
