/*
 * piclist.c - which pictures a data set has, and what is to be learned from each: from folders
 * named as the classes, or from a list in a CSV file.
 *
 * The order is that of names, whatever order the disk gives, so that sample numbers mean the same
 * everywhere. Files are not opened here.
 */
#include "data/picture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MOST_DEPTH    32
#define MOST_PICTURES ((size_t)1 << 31)
#define MOST_LIST     ((size_t)1 << 30) /* bytes of a CSV file */
#define MOST_CLASSES  1000000

static thaw_status no_memory(const char *where)
{
    return thaw_fail(THAW_E_NOMEM, "out of memory for the list of pictures in '%s'", where);
}

void picture_list_done(picture_list *l)
{
    region_destroy(l->region);
    thaw__free(l->entry);
    thaw__free(l->class_name);
    *l = (picture_list){0};
}

static thaw_status begin(picture_list *l)
{
    *l = (picture_list){0};
    return region_create(&l->region);
}

static thaw_status add_entry(picture_list *l, const picture_entry *e, const char *where)
{
    if (l->n >= MOST_PICTURES || !e->path || !e->shown)
        return no_memory(where);
    THAW_CHECK(thaw__reserve(&l->entry, &l->capacity, l->n + 1, sizeof *l->entry));
    l->entry[l->n] = *e;
    l->entry[l->n].id = (int64_t)l->n;
    l->n++;
    return THAW_OK;
}

static thaw_status add_class(picture_list *l, const char *name, const char *where)
{
    char *copy = region_strdup(l->region, name);

    if (!copy || l->n_classes >= MOST_CLASSES)
        return no_memory(where);
    THAW_CHECK(
        thaw__reserve(&l->class_name, &l->class_capacity, l->n_classes + 1, sizeof *l->class_name));
    l->class_name[l->n_classes++] = copy;
    return THAW_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int32_t class_of(const picture_list *l, const char *name)
{
    const char **found = l->n_classes > 0 ? bsearch(&name, l->class_name, l->n_classes,
                                                    sizeof *l->class_name, by_name)
                                          : NULL;

    return found ? (int32_t)(found - l->class_name) : -1;
}

/* The classes of another list, by name: its numbers hold here too. */
static thaw_status copy_classes(picture_list *l, const picture_list *from, const char *where)
{
    for (size_t i = 0; i < from->n_classes; i++)
        THAW_CHECK(add_class(l, from->class_name[i], where));
    return THAW_OK;
}

static thaw_status unknown_class(const picture_list *l, const char *name, const char *where)
{
    text near = TEXT_INIT;
    thaw_status status;

    text_add_near(&near, name, (const char *const *)l->class_name, l->n_classes, 1);
    status = thaw_fail(THAW_E_DATA, "'%s' has class '%s', which the training data lack%s", where,
                       name, near.data ? near.data : "");
    text_done(&near);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * folders */

/* Folders below one, itself among them, sorted by path. */
typedef struct folder_names {
    char **path;
    size_t n, capacity;
} folder_names;

static void folder_names_done(folder_names *f)
{
    for (size_t i = 0; i < f->n; i++)
        thaw__free(f->path[i]);
    thaw__free(f->path);
}

/* Adds dir/name where it is a folder. */
static thaw_status find_folder_at(folder_names *f, const char *dir, const char *name)
{
    char *path = os_path(dir, name);
    thaw_status status = THAW_OK;

    if (!path)
        return no_memory(dir);
    if (os_kind_of(path) == OS_FOLDER)
        status = thaw__reserve(&f->path, &f->capacity, f->n + 1, sizeof *f->path);
    if (status == THAW_OK && os_kind_of(path) == OS_FOLDER) {
        f->path[f->n++] = path;
        return THAW_OK;
    }
    thaw__free(path);
    return status;
}

/* Breadth first: the list is its own queue. A link to a folder above ends at the depth limit. */
static thaw_status find_folders(folder_names *f, const char *top)
{
    const size_t base = strlen(top);
    os_names names = {0};
    thaw_status status = THAW_OK;

    THAW_TRY(thaw__reserve(&f->path, &f->capacity, 1, sizeof *f->path));
    f->path[0] = thaw__strdup(top);
    if (!f->path[0])
        return no_memory(top);
    f->n = 1;
    for (size_t at = 0; at < f->n; at++) {
        int depth = 0;

        for (const char *p = f->path[at] + base; *p; p++)
            depth += *p == '/';
        if (depth > MOST_DEPTH) {
            status = thaw_fail(THAW_E_LIMIT,
                               "'%s' lies more than %d folders deep: is there a link "
                               "to a folder above?",
                               f->path[at], MOST_DEPTH);
            goto done;
        }
        THAW_TRY(os_list(&names, f->path[at]));
        for (size_t i = 0; i < names.n; i++) {
            if (names.name[i][0] != '.' && !picture_named(names.name[i]))
                THAW_TRY(find_folder_at(f, f->path[at], names.name[i]));
        }
        os_names_free(&names);
        names = (os_names){0};
    }
    qsort(f->path, f->n, sizeof *f->path, by_name);
done:
    os_names_free(&names);
    return status;
}

static thaw_status add_folder(picture_list *l, const char *folder, size_t base, int32_t label)
{
    os_names names = {0};
    thaw_status status;

    THAW_TRY(os_list(&names, folder));
    for (size_t i = 0; i < names.n; i++) {
        char *path;
        picture_entry e = {.label = label};

        if (names.name[i][0] == '.')
            continue;
        path = os_path(folder, names.name[i]);
        if (!path) {
            status = no_memory(folder);
            goto done;
        }
        if (picture_named(path)) {
            e.path = region_strdup(l->region, path);
            e.shown = e.path ? e.path + base : NULL;
            status = add_entry(l, &e, folder);
        } else {
            l->others += os_kind_of(path) == OS_FILE;
        }
        thaw__free(path);
        if (status != THAW_OK)
            goto done;
    }
done:
    os_names_free(&names);
    return status;
}

/* All pictures at or below the folder of a class. */
static thaw_status add_class_folder(picture_list *l, const char *top, const char *name,
                                    int32_t label, bool must)
{
    char *path = os_path(top, name);
    folder_names f = {0};
    const size_t before = l->n;
    thaw_status status = THAW_OK;

    if (!path)
        return no_memory(top);
    THAW_TRY(find_folders(&f, path));
    for (size_t i = 0; i < f.n; i++)
        THAW_TRY(add_folder(l, f.path[i], strlen(top) + 1, label));
    if (must && l->n == before)
        status = thaw_fail(THAW_E_DATA,
                           "'%s' has no JPEG or PNG files, but is the folder of a "
                           "class: put some there or remove it",
                           path);
done:
    folder_names_done(&f);
    thaw__free(path);
    return status;
}

static thaw_status add_class_name(picture_list *l, const char *folder, const char *name,
                                  size_t *pictures)
{
    char *path = os_path(folder, name);
    bool is_folder;

    if (!path)
        return no_memory(folder);
    is_folder = os_kind_of(path) == OS_FOLDER;
    *pictures += !is_folder && picture_named(path);
    thaw__free(path);
    return is_folder ? add_class(l, name, folder) : THAW_OK;
}

/* Names of the folders in one, sorted; they are the classes. */
static thaw_status add_class_names(picture_list *l, const char *folder, size_t *pictures)
{
    os_names names = {0};
    thaw_status status;

    THAW_TRY(os_list(&names, folder));
    for (size_t i = 0; i < names.n; i++)
        if (names.name[i][0] != '.')
            THAW_TRY(add_class_name(l, folder, names.name[i], pictures));
done:
    os_names_free(&names);
    return status;
}

static thaw_status list_folder(picture_list *l, const char *folder, const picture_list *classes)
{
    picture_list own = {0};
    size_t loose = 0;
    thaw_status status;

    THAW_TRY(begin(&own));
    if (os_kind_of(folder) != OS_FOLDER) {
        status = thaw_fail(THAW_E_MISSING,
                           "'%s' is no folder: pictures are expected in it, in a "
                           "folder for each class",
                           folder);
        goto done;
    }
    THAW_TRY(add_class_names(&own, folder, &loose));
    if (own.n_classes == 0) {
        status = thaw_fail(THAW_E_DATA,
                           "'%s' has no folders in it%s: put the pictures of each "
                           "class into a folder with the name of the class",
                           folder, loose > 0 ? ", only pictures" : "");
        goto done;
    }
    THAW_TRY(copy_classes(l, classes ? classes : &own, folder));
    for (size_t i = 0; i < own.n_classes; i++) {
        const int32_t label = class_of(l, own.class_name[i]);

        if (label < 0) {
            status = unknown_class(l, own.class_name[i], folder);
            goto done;
        }
        THAW_TRY(add_class_folder(l, folder, own.class_name[i], label, !classes));
    }
done:
    picture_list_done(&own);
    return status;
}

thaw_status picture_list_folder(picture_list *out, const char *folder, const picture_list *classes)
{
    picture_list l = {0};
    thaw_status status;

    THAW_TRY(begin(&l));
    THAW_TRY(list_folder(&l, folder, classes));
    *out = l;
    l = (picture_list){0};
done:
    picture_list_done(&l);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * CSV: "file,label" on each line, RFC 4180 quotes; a first line of names may say that these are
 * other columns */

#define MOST_COLUMNS 64 /* further ones are nobody's business */

typedef struct csv {
    char *at;
    const char *file;
    int line;
    char *field[MOST_COLUMNS]; /* of the present line */
    int n_fields;
    int path_at, value_at; /* columns */
} csv;

/* The next field, unquoted in place. *end: ',' or '\n' after it, 0 at the end of the file. */
static thaw_status csv_field(char **out, char *end, csv *c)
{
    char *to = c->at;

    *out = to;
    if (*c->at == '"') {
        c->at++;
        while (*c->at && (*c->at != '"' || c->at[1] == '"')) {
            c->at += *c->at == '"';
            *to++ = *c->at++;
        }
        if (*c->at != '"')
            return thaw_fail(THAW_E_DATA, "%s:%d: a quote is not closed", c->file, c->line);
        c->at++;
    } else {
        while (*c->at && !strchr(",\r\n", *c->at))
            *to++ = *c->at++;
    }
    while (*c->at == '\r')
        c->at++;
    *end = *c->at;
    if (*end && *end != ',' && *end != '\n')
        return thaw_fail(THAW_E_DATA, "%s:%d: text after a closing quote", c->file, c->line);
    c->at += *end != '\0';
    *to = '\0';
    return THAW_OK;
}

/* The next line's fields; none of an empty one. */
static thaw_status csv_line(csv *c)
{
    char end, *field;

    c->line++;
    c->n_fields = 0;
    do {
        THAW_CHECK(csv_field(&field, &end, c));
        if (c->n_fields < MOST_COLUMNS)
            c->field[c->n_fields++] = field;
    } while (end == ',');
    if (c->n_fields == 1 && c->field[0][0] == '\0')
        c->n_fields = 0;
    return THAW_OK;
}

/* The first column with one of these names; -1: none. */
static int column_of(const csv *c, const char *const *name, size_t n)
{
    for (int i = 0; i < c->n_fields; i++)
        for (size_t k = 0; k < n; k++)
            if (strcasecmp(c->field[i], name[k]) == 0)
                return i;
    return -1;
}

/* A first line that names columns, and no picture. Without a name that says so, what is to be
 * learned stands behind the file. */
static bool take_header(csv *c)
{
    static const char *const files[] = {"file",      "filename", "file_name",  "path",   "filepath",
                                        "file_path", "image",    "image_path", "picture"};
    static const char *const values[] = {"label", "class", "target", "value", "category"};
    const int path = column_of(c, files, THAW_COUNT(files));
    const int value = column_of(c, values, THAW_COUNT(values));

    for (int i = 0; i < c->n_fields; i++)
        if (picture_named(c->field[i]))
            return false;
    if (path < 0)
        return false;
    c->path_at = path;
    c->value_at = value >= 0 ? value : path + 1 < c->n_fields ? path + 1 : 0;
    return true;
}

static const char *csv_column(const csv *c, int column)
{
    return column < c->n_fields ? c->field[column] : "";
}

/* A row of the file; the label's text waits in `shown` of the second list until all are known. */
typedef struct csv_rows {
    const char **value;
    size_t n, capacity;
} csv_rows;

static thaw_status add_row(picture_list *l, csv_rows *rows, const csv *c, const char *path,
                           const char *value, bool numbers)
{
    const char *slash = strrchr(c->file, '/');
    picture_entry e = {0};
    text full = TEXT_INIT;
    double number = 0;

    if (*path == '\0' || *value == '\0')
        return thaw_fail(THAW_E_DATA,
                         "%s:%d: a file and what is to be learned from it are expected, with a "
                         "comma between",
                         c->file, c->line);
    if (numbers && (!parse_double(&number, value) || !isfinite((float)number)))
        return thaw_fail(THAW_E_DATA, "%s:%d: '%s' is no finite number", c->file, c->line, value);
    if (path[0] != '/' && slash)
        text_add_n(&full, c->file, (size_t)(slash - c->file) + 1);
    text_add(&full, path);
    e.path = full.failed ? NULL : region_strdup(l->region, full.data);
    e.shown = region_strdup(l->region, path);
    e.target = (float)number;
    text_done(&full);
    THAW_CHECK(add_entry(l, &e, c->file));
    THAW_CHECK(thaw__reserve(&rows->value, &rows->capacity, rows->n + 1, sizeof *rows->value));
    rows->value[rows->n++] = value;
    return THAW_OK;
}

/* Classes are the different labels, sorted. */
static thaw_status label_rows(picture_list *l, const csv_rows *rows, const char *file,
                              const picture_list *classes)
{
    const char **sorted;
    thaw_status status = THAW_OK;

    if (classes)
        return copy_classes(l, classes, file);
    sorted = thaw__new(rows->n, sizeof *sorted);
    if (!sorted)
        return no_memory(file);
    memcpy(sorted, rows->value, rows->n * sizeof *sorted);
    qsort(sorted, rows->n, sizeof *sorted, by_name);
    for (size_t i = 0; i < rows->n && status == THAW_OK; i++)
        if (i == 0 || strcmp(sorted[i], sorted[i - 1]) != 0)
            status = add_class(l, sorted[i], file);
    thaw__free(sorted);
    return status;
}

static thaw_status list_csv(picture_list *l, csv *c, bool numbers, const picture_list *classes)
{
    csv_rows rows = {0};
    thaw_status status = THAW_OK;

    while (*c->at) {
        THAW_TRY(csv_line(c));
        if (c->n_fields > 0 && !(c->line == 1 && take_header(c)))
            THAW_TRY(add_row(l, &rows, c, csv_column(c, c->path_at), csv_column(c, c->value_at),
                             numbers));
    }
    if (l->n == 0) {
        status = thaw_fail(THAW_E_DATA, "'%s' lists no pictures", c->file);
        goto done;
    }
    if (numbers)
        goto done;
    THAW_TRY(label_rows(l, &rows, c->file, classes));
    for (size_t i = 0; i < l->n; i++) {
        l->entry[i].label = class_of(l, rows.value[i]);
        if (l->entry[i].label < 0) {
            status = unknown_class(l, rows.value[i], c->file);
            goto done;
        }
    }
done:
    thaw__free(rows.value);
    return status;
}

thaw_status picture_list_csv(picture_list *out, const char *file, bool numbers,
                             const picture_list *classes)
{
    picture_list l = {0};
    char *data = NULL;
    size_t size;
    thaw_status status;

    THAW_TRY(os_read_file(&data, &size, file, MOST_LIST));
    THAW_TRY(begin(&l));
    if (strlen(data) != size) {
        status = thaw_fail(THAW_E_DATA, "'%s' is no text: it has NUL characters", file);
        goto done;
    }
    csv c = {.at = data, .file = file, .value_at = 1};
    if (strncmp(c.at, "\xEF\xBB\xBF", 3) == 0) /* some programs put a mark in front */
        c.at += 3;
    THAW_TRY(list_csv(&l, &c, numbers, classes));
    *out = l;
    l = (picture_list){0};
done:
    picture_list_done(&l);
    thaw__free(data);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * splitting */

/* How many of n go: rounded, but of two or more neither none nor all. */
static uint64_t part_of(uint64_t n, double share)
{
    const uint64_t part = (uint64_t)((double)n * share + 0.5);

    if (n < 2)
        return 0;
    return THAW_MIN(THAW_MAX(part, 1), n - 1);
}

thaw_status picture_list_split(picture_list *out, picture_list *from, double share, uint64_t seed)
{
    const size_t n_classes = THAW_MAX(from->n_classes, 1);
    uint64_t *count = thaw__new(n_classes, 2 * sizeof *count), *seen = count + n_classes;
    picture_list l = {0};
    size_t kept = 0;
    thaw_status status;

    if (!count)
        return no_memory("a validation set");
    THAW_TRY(begin(&l));
    THAW_TRY(copy_classes(&l, from, "a validation set"));
    THAW_TRY(thaw__reserve(&l.entry, &l.capacity, from->n, sizeof *l.entry));
    for (size_t i = 0; i < from->n; i++)
        count[from->entry[i].label]++;
    for (size_t i = 0; i < from->n; i++) {
        const picture_entry e = from->entry[i];
        const char *name = from->n_classes > 0 ? from->class_name[e.label] : "";
        const philox_key key = philox_stream(seed ^ hash_fnv1a(name), "validation split");
        picture_entry copy = e;

        if (permute(seen[e.label]++, count[e.label], key) >= part_of(count[e.label], share)) {
            from->entry[kept++] = e;
            continue;
        }
        copy.path = region_strdup(l.region, e.path);
        copy.shown = copy.path && strlen(e.path) >= strlen(e.shown)
                         ? copy.path + strlen(e.path) - strlen(e.shown)
                         : NULL;
        if (!copy.shown) {
            status = no_memory("a validation set");
            goto done;
        }
        l.entry[l.n++] = copy;
    }
    from->n = kept;
    *out = l;
    l = (picture_list){0};
done:
    picture_list_done(&l);
    thaw__free(count);
    return status;
}
