/*
 * golden_run.c - run recorded vectors against the control plane: golden_run FILE|DIR…
 *
 * Takes any files in the schema of tests/golden/SCHEMA.md, plain or gzipped; which family a file
 * belongs to is told by its "schema" key. Prints one line a family, "NAME: N checks, M mismatches",
 * and exits with 1 when there is a mismatch or a file cannot be read. Models that records name are
 * looked up in the files given, in the folders they lie in, and in the project's own vectors.
 */
#include "golden/golden.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#define SHOWN_MOST 40

static const struct {
    const char *schema;
    golden_fn *run;
} table[] = {{"models", golden_models},       {"mentor-seq", golden_mentor_seq},
             {"frozenset", golden_frozenset}, {"regex", golden_regex},
             {"fnmatch", golden_fnmatch},     {"freeze", golden_freeze},
             {"schedule", golden_schedule},   {"checkpoint", golden_checkpoint},
             {"trainloop", golden_trainloop}, {"optim", golden_optim}};

static golden_family families[THAW_COUNT(table)];

typedef struct golden_file {
    char *path;
    json_t *root;
    int family; /* -1: not one of ours */
} golden_file;

typedef struct file_list {
    golden_file *file;
    size_t n;
} file_list;

/* ---- what golden.h promises */

void golden_check(golden_run *g, bool ok, const char *format, ...)
{
    va_list args;

    if (g->apart)
        g->now->ambiguous++;
    g->now->checks++;
    if (ok)
        return;
    g->now->mismatches++;
    if (g->shown++ >= SHOWN_MOST)
        return;
    fprintf(stderr, "%s: %s: ", g->file, g->now->name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
}

void golden_ok(golden_run *g, thaw_status status, const char *what)
{
    golden_check(g, status == THAW_OK, "%s: %s", what, status == THAW_OK ? "" : thaw_error());
}

const golden_model *golden_find_model(golden_run *g, const char *name)
{
    for (const golden_model *m = g->models; m; m = m->next)
        if (!strcmp(m->name, name))
            return m;
    golden_check(g, false, "no model '%s' in any file", name);
    return NULL;
}

const char *text_of(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s ? s : "";
}

bool golden_bits_equal(const char *bits, const bool *trainable, const golden_model *m)
{
    if ((int)strlen(bits) != m->n_params)
        return false;
    for (int i = 0; i < m->n_params; i++)
        if ((bits[i] == '1') != trainable[m->param[i]])
            return false;
    return true;
}

static void *must(void *block)
{
    if (!block) {
        fprintf(stderr, "golden_run: out of memory\n");
        exit(2);
    }
    return block;
}

thaw_freeze_spec *golden_specs(int *n, const json_t *list)
{
    thaw_freeze_spec *specs = must(thaw__new(json_array_size(list), sizeof(*specs)));

    *n = (int)json_array_size(list);
    for (int i = 0; i < *n; i++) {
        const json_t *pair = json_array_get(list, (size_t)i);
        const char *module = json_string_value(json_array_get(pair, 0));

        specs[i].module = module ? module : "";
        specs[i].frozen = json_is_true(json_array_get(pair, 1));
    }
    return specs;
}

const char **golden_texts(int *n, const json_t *list)
{
    const bool lone = json_is_string(list);
    const size_t size = lone ? 1 : json_array_size(list);
    const char **texts = must(thaw__new(size, sizeof(*texts)));

    *n = (int)size;
    for (size_t i = 0; i < size; i++)
        texts[i] = json_string_value(lone ? list : json_array_get(list, i));
    return texts;
}

thaw_alias *golden_aliases(int *n, const json_t *object)
{
    thaw_alias *aliases = must(thaw__new(json_object_size(object), sizeof(*aliases)));
    const char *name;
    json_t *list;

    *n = 0;
    json_object_foreach((json_t *)(uintptr_t)object, name, list)
    {
        thaw_alias *a = &aliases[(*n)++];

        a->name = name;
        a->pattern = golden_texts(&a->n_patterns, list);
    }
    return aliases;
}

void golden_aliases_free(thaw_alias *aliases, int n)
{
    for (int i = 0; i < n; i++)
        thaw__free((void *)(uintptr_t)aliases[i].pattern);
    thaw__free(aliases);
}

/* ---- models */

static thaw_status add_own(thaw_tree *t, const json_t *module, const json_t *parameters,
                           const char **first)
{
    const char *path = text_of(module, "path");
    const json_t *pair;
    size_t i;

    json_array_foreach(json_object_get(module, "params"), i, pair)
    {
        const size_t number = (size_t)json_integer_value(json_array_get(pair, 1));
        const json_t *p = json_array_get(parameters, number);
        char name[1024];

        snprintf(name, sizeof(name), "%s%s%s", path, *path ? "." : "",
                 json_string_value(json_array_get(pair, 0)));
        if (first[number]) {
            THAW_CHECK(thaw_tree_tie(t, name, first[number]));
            continue;
        }
        first[number] = text_of(p, "name");
        THAW_CHECK(
            thaw_tree_add_param(t, name, json_integer_value(json_object_get(p, "numel")), false));
    }
    return THAW_OK;
}

static thaw_status grow(golden_model *m)
{
    const json_t *parameters = json_object_get(m->json, "parameters"), *module;
    const char **first = must(thaw__new(json_array_size(parameters), sizeof(*first)));
    thaw_status status = THAW_OK;
    size_t i;

    json_array_foreach(json_object_get(m->json, "modules"), i, module)
    {
        const char *path = text_of(module, "path"), *same = text_of(module, "same_as");

        if (*same)
            THAW_TRY(thaw_tree_tie(m->tree, path, same));
        else
            THAW_TRY(thaw_tree_add_module(NULL, m->tree, path, THAW_MODULE_PLAIN));
        THAW_TRY(add_own(m->tree, module, parameters, first));
    }
    THAW_TRY(thaw_tree_seal(m->tree));
    m->n_params = (int)json_array_size(parameters);
    m->param = must(thaw__new((size_t)m->n_params, sizeof(*m->param)));
    for (int p = 0; p < m->n_params; p++) {
        m->param[p] =
            thaw_tree_find_param(m->tree, text_of(json_array_get(parameters, (size_t)p), "name"));
        if (m->param[p] < 0)
            THAW_TRY(thaw_fail(THAW_E_INTERNAL, "parameter %d is not in its tree", p));
    }
done:
    thaw__free(first);
    return status;
}

static void add_models(golden_run *g, json_t *root)
{
    const char *name;
    json_t *json;

    json_object_foreach(json_object_get(root, "models"), name, json)
    {
        golden_model *m = must(thaw__new(1, sizeof(*m))), **at = &g->models;

        m->name = name;
        m->json = json;
        if (thaw_tree_create(&m->tree) != THAW_OK || grow(m) != THAW_OK) {
            fprintf(stderr, "golden_run: model '%s': %s\n", name, thaw_error());
            exit(1);
        }
        while (*at)
            at = &(*at)->next;
        *at = m;
    }
}

/* ---- files */

/* gzread reads plain files as they are. */
static json_t *read_json(const char *path)
{
    gzFile f = gzopen(path, "rb");
    text all = TEXT_INIT;
    char buffer[65536];
    json_t *root = NULL;
    json_error_t error;
    int n;

    while (f && (n = gzread(f, buffer, sizeof(buffer))) > 0)
        text_add_n(&all, buffer, (size_t)n);
    if (f && all.data)
        root = json_loadb(all.data, all.length, JSON_ALLOW_NUL, &error);
    if (!root)
        fprintf(stderr, "golden_run: cannot read '%s' as JSON\n", path);
    if (f)
        gzclose(f);
    text_done(&all);
    return root;
}

/* Whether text begins with the family's name and the name ends there; '-' and '_' are one. */
static bool names_family(const char *text, const char *family)
{
    while (*family && (*text == *family || (*text == '_' && *family == '-'))) {
        text++;
        family++;
    }
    return !*family && !((*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z'));
}

/* By the schema that the file tells, else by the file's name. */
static int family_of(const json_t *root, const char *path)
{
    const char *schema = text_of(root, "schema"), *slash = strrchr(path, '/');

    for (size_t i = 0; i < THAW_COUNT(table); i++)
        if (names_family(*schema ? schema : slash ? slash + 1 : path, table[i].schema))
            return (int)i;
    return -1;
}

static bool add_file(file_list *list, const char *path)
{
    json_t *root = read_json(path);

    if (!root)
        return false;
    list->file = must(thaw__resize(list->file, list->n + 1, sizeof(*list->file)));
    list->file[list->n++] = (golden_file){
        .path = must(thaw__strdup(path)), .root = root, .family = family_of(root, path)};
    if (list->file[list->n - 1].family < 0)
        fprintf(stderr, "golden_run: '%s' is of no family known here\n", path);
    return list->file[list->n - 1].family >= 0;
}

static bool ends_with(const char *name, const char *end)
{
    const size_t n = strlen(name), m = strlen(end);

    return n >= m && !strcmp(name + n - m, end);
}

static bool is_record(const struct dirent *entry, const char *prefix)
{
    return !strncmp(entry->d_name, prefix, strlen(prefix)) &&
           (ends_with(entry->d_name, ".json") || ends_with(entry->d_name, ".json.gz"));
}

static bool add_folder(file_list *list, const char *folder, const char *prefix)
{
    struct dirent **entry;
    const int n = scandir(folder, &entry, NULL, alphasort);
    bool ok = n >= 0;

    for (int i = 0; i < n; i++) {
        char path[4096];

        snprintf(path, sizeof(path), "%s/%s", folder, entry[i]->d_name);
        if (is_record(entry[i], prefix))
            ok = add_file(list, path) && ok;
        free(entry[i]);
    }
    if (n >= 0)
        free(entry);
    return ok;
}

static void folder_of(char *folder, size_t size, const char *path)
{
    const char *slash = strrchr(path, '/');

    snprintf(folder, size, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
}

/* Models beside the files given, then those of the project. */
static void add_other_models(file_list *models, const file_list *given)
{
    char folder[4096];

    for (size_t i = 0; i < given->n; i++) {
        folder_of(folder, sizeof(folder), given->file[i].path);
        (void)add_folder(models, folder, "models");
    }
    (void)add_folder(models, THAW_TEST_DIR "/golden", "models");
}

static void files_done(file_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        json_decref(list->file[i].root);
        thaw__free(list->file[i].path);
    }
    thaw__free(list->file);
}

static void models_done(golden_run *g)
{
    for (golden_model *m = g->models, *next; m; m = next) {
        next = m->next;
        thaw_tree_destroy(m->tree);
        thaw__free(m->param);
        thaw__free(m);
    }
}

static bool report(void)
{
    bool ok = true;

    for (size_t i = 0; i < THAW_COUNT(families); i++) {
        const golden_family *f = &families[i];

        if (!f->checks)
            continue;
        printf("%s: %ld checks, %ld mismatches", f->name, f->checks, f->mismatches);
        if (f->ambiguous)
            printf(" (%ld checks of ambiguous records)", f->ambiguous);
        printf("\n");
        ok = ok && f->mismatches == 0;
    }
    return ok;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"models",    "mentor_seq", "frozenset", "regex",
                                        "fnmatch",   "freeze",     "schedule",  "checkpoint",
                                        "trainloop", "optim"};
    file_list given = {0}, others = {0};
    golden_run g = {0};
    bool ok = argc > 1;

    if (argc < 2)
        fprintf(stderr, "usage: golden_run FILE|DIR...\n");
    for (int i = 1; i < argc; i++) {
        struct stat st;
        const bool folder = stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode);

        ok = (folder ? add_folder(&given, argv[i], "") : add_file(&given, argv[i])) && ok;
    }
    add_other_models(&others, &given);
    for (size_t i = 0; i < given.n; i++)
        if (given.file[i].family == 0)
            add_models(&g, given.file[i].root);
    for (size_t i = 0; i < others.n; i++)
        add_models(&g, others.file[i].root);
    for (size_t i = 0; i < THAW_COUNT(families); i++)
        families[i].name = names[i];
    for (size_t i = 0; i < given.n; i++)
        if (given.file[i].family >= 0) {
            g.file = given.file[i].path;
            g.now = &families[given.file[i].family];
            table[given.file[i].family].run(&g, given.file[i].root);
        }
    ok = report() && ok && given.n > 0;
    models_done(&g);
    files_done(&others);
    files_done(&given);
    return ok ? 0 : 1;
}
