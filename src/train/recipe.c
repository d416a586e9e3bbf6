/*
 * recipe.c - reading a recipe from a file or a text, and the list of its mistakes.
 *
 * A recipe is one tree of values from beginning to end: the document, edited by --set, completed
 * with defaults, checked and stored, printed as the resolved recipe. Every mistake is collected, so
 * that one run shows them all; only a syntax error stands alone.
 */
#include "train/recipe_reader.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_BYTES = 1 << 20, MOST_ERROR = 15000 };

/* ----------------------------------------------------------------------------------------------
 * memory */

void *recipe_alloc(recipe_reader *rd, size_t count, size_t size)
{
    void *p = region_alloc(rd->recipe->region, count, size);

    if (!p)
        rd->no_memory = true;
    return p;
}

char *recipe_strdup(recipe_reader *rd, const char *s)
{
    char *p = region_strdup(rd->recipe->region, s);

    if (!p)
        rd->no_memory = true;
    return p;
}

static void mark_origin(toml_value *v, const char *origin)
{
    v->origin = origin;
    v->line = v->column = v->key_line = v->key_column = 0;
    for (toml_value *item = v->first; item; item = item->next)
        mark_origin(item, origin);
}

toml_value *recipe_put(recipe_reader *rd, toml_value *table, const char *key, const char *source,
                       const char *origin)
{
    toml_value *v;
    const thaw_status status = toml_put(&v, rd->doc, table, key, source, strlen(source), origin);

    if (status == THAW_E_NOMEM)
        rd->no_memory = true;
    if (status != THAW_OK)
        return NULL;
    mark_origin(v, origin);
    return v;
}

/* ----------------------------------------------------------------------------------------------
 * mistakes */

/* "recipe.toml:14:3: ", "--set 'a=b': ", or "recipe.toml: ". */
static void add_place(text *t, const recipe_reader *rd, const char *origin, int line, int column)
{
    if (origin)
        text_addf(t, "%s: ", origin);
    else if (line > 0)
        text_addf(t, "%s:%d:%d: ", rd->recipe->name, line, column);
    else
        text_addf(t, "%s: ", rd->recipe->name);
}

THAW_PRINTF(5, 0)
static void add_problem(recipe_reader *rd, const char *origin, int line, int column,
                        const char *format, va_list args)
{
    text t = TEXT_INIT;
    recipe_problem *p;

    add_place(&t, rd, origin, line, column);
    text_vaddf(&t, format, args);
    if (t.failed || thaw__reserve(&rd->problem, &rd->cap_problems, rd->n_problems + 1,
                                  sizeof *rd->problem) != THAW_OK) {
        rd->no_memory = true;
    } else {
        p = &rd->problem[rd->n_problems];
        *p = (recipe_problem){line, column, rd->n_problems, recipe_strdup(rd, t.data)};
        rd->n_problems += p->text != NULL;
    }
    text_done(&t);
}

void recipe_bad_key(recipe_reader *rd, const toml_value *v, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    add_problem(rd, v ? v->origin : NULL, v ? v->key_line : 0, v ? v->key_column : 0, format, args);
    va_end(args);
}

void recipe_bad_value(recipe_reader *rd, const toml_value *v, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    add_problem(rd, v ? v->origin : NULL, v ? v->line : 0, v ? v->column : 0, format, args);
    va_end(args);
}

static int by_place(const void *a, const void *b)
{
    const recipe_problem *const p = a, *const q = b;

    if (p->line != q->line)
        return p->line < q->line ? -1 : 1;
    if (p->column != q->column)
        return p->column < q->column ? -1 : 1;
    return p->number < q->number ? -1 : 1;
}

/* All mistakes, one line each, as this thread's error. */
static thaw_status fail_with_problems(recipe_reader *rd)
{
    text t = TEXT_INIT;
    thaw_status status;
    size_t shown;

    qsort(rd->problem, rd->n_problems, sizeof *rd->problem, by_place);
    for (shown = 0; shown < rd->n_problems; shown++) {
        const char *const line = rd->problem[shown].text;

        if (shown > 0 && t.length + strlen(line) > MOST_ERROR)
            break;
        text_addf(&t, "%s%s", shown > 0 ? "\n" : "", line);
    }
    if (shown < rd->n_problems)
        text_addf(&t, "\n%s: %zu more mistakes are not shown", rd->recipe->name,
                  rd->n_problems - shown);
    if (t.failed)
        status = thaw_fail(THAW_E_NOMEM, "out of memory reading '%s'", rd->recipe->name);
    else
        status = thaw_fail(THAW_E_RECIPE, "%s", t.data);
    text_done(&t);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * reading */

/* Folder as an absolute path, in the recipe's memory. */
static thaw_status find_folder(recipe_reader *rd, const char *folder)
{
    char here[4096];
    text t = TEXT_INIT;

    if (folder[0] != '/') {
        if (!getcwd(here, sizeof here))
            return thaw_fail(THAW_E_OS, "cannot find the current folder");
        text_add(&t, here);
        if (folder[0] != '\0' && strcmp(folder, ".") != 0)
            text_addf(&t, "%s%s", strcmp(here, "/") == 0 ? "" : "/", folder);
    } else {
        text_add(&t, folder);
    }
    if (t.failed)
        rd->no_memory = true;
    else
        rd->recipe->folder = recipe_strdup(rd, t.data);
    text_done(&t);
    return THAW_OK;
}

static thaw_status create(thaw_recipe **out)
{
    thaw_recipe *r = thaw__new(1, sizeof *r);
    thaw_status status;

    if (!r)
        return thaw_fail(THAW_E_NOMEM, "out of memory reading a recipe");
    status = region_create(&r->region);
    if (status != THAW_OK) {
        thaw__free(r);
        return status;
    }
    r->loader = (loader_options)LOADER_OPTIONS_INIT;
    r->pictures.recipe.most_pixels = PICTURE_MOST_PIXELS;
    r->hyper = (optim_hyper)OPTIM_HYPER_INIT;
    r->clip_norm = r->save_seconds = INFINITY;
    *out = r;
    return THAW_OK;
}

/* The table of a section; an absent one is added. NULL: it is no table, and that was said. */
static toml_value *section_table(recipe_reader *rd, const char *name)
{
    toml_value *v = rd->doc->root->first;

    while (v && strcmp(v->key, name) != 0)
        v = v->next;
    if (!v)
        return recipe_put(rd, rd->doc->root, name, "{}", NULL);
    if (v->type == TOML_TABLE)
        return v;
    recipe_bad_value(rd, v, "'%s' must be a table; write it as [%s]", name, name);
    return NULL;
}

static void read_all(recipe_reader *rd)
{
    static const char *const plain[] = {"model", "data", "optimizer", "loss",
                                        "train", "plan", "cache",     "checkpoint"};
    toml_value *table;

    recipe_read_section(rd, "", rd->doc->root, rd->recipe);
    for (size_t i = 0; i < THAW_COUNT(plain); i++) {
        table = section_table(rd, plain[i]);
        if (table)
            recipe_read_section(rd, plain[i], table, rd->recipe);
        if (i == 0)
            recipe_look_at_model(rd);
    }
    table = section_table(rd, "schedule");
    if (table)
        recipe_read_section(rd, "schedule", table, &rd->recipe->curve);
    recipe_read_phases(rd);
    recipe_read_stages(rd);
    recipe_check(rd);
}

static thaw_status resolve(recipe_reader *rd)
{
    text t = TEXT_INIT;

    recipe_print(&t, rd);
    if (t.failed)
        rd->no_memory = true;
    else
        rd->recipe->resolved = recipe_strdup(rd, t.data);
    text_done(&t);
    return rd->no_memory ? thaw_fail(THAW_E_NOMEM, "out of memory reading '%s'", rd->recipe->name)
                         : THAW_OK;
}

thaw_status thaw_recipe_parse(thaw_recipe **out, const char *source, size_t size, const char *name,
                              const char *folder, const char *const *sets, int n_sets)
{
    recipe_reader rd = {0};
    thaw_status status;

    THAW_TRY(toml_parse(&rd.doc, source, size, name));
    THAW_TRY(create(&rd.recipe));
    rd.recipe->name = recipe_strdup(&rd, name);
    THAW_TRY(find_folder(&rd, folder));
    for (int i = 0; i < n_sets; i++)
        recipe_set(&rd, sets[i]);
    if (!rd.no_memory)
        read_all(&rd);
    if (rd.no_memory)
        status = thaw_fail(THAW_E_NOMEM, "out of memory reading '%s'", name);
    else
        status = rd.n_problems > 0 ? fail_with_problems(&rd) : resolve(&rd);
    if (status != THAW_OK)
        goto done;
    *out = rd.recipe;
    rd.recipe = NULL;
done:
    thaw__free(rd.problem);
    thaw_recipe_destroy(rd.recipe);
    toml_destroy(rd.doc);
    return status;
}

thaw_status thaw_recipe_load(thaw_recipe **out, const char *path, const char *const *sets,
                             int n_sets)
{
    thaw_status status = THAW_OK;
    const char *const slash = strrchr(path, '/');
    char *source = NULL, *folder = NULL;
    size_t size;

    THAW_TRY(os_read_file(&source, &size, path, MOST_BYTES));
    folder =
        slash ? thaw__strndup(path, slash == path ? 1 : (size_t)(slash - path)) : thaw__strdup(".");
    if (!folder) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory reading '%s'", path);
        goto done;
    }
    THAW_TRY(thaw_recipe_parse(out, source, size, path, folder, sets, n_sets));
done:
    thaw__free(folder);
    thaw__free(source);
    return status;
}

void thaw_recipe_destroy(thaw_recipe *recipe)
{
    if (!recipe)
        return;
    region_destroy(recipe->region);
    thaw__free(recipe);
}
