/*
 * recipe_section.c - the keys of one table of a recipe: completed with defaults, checked against
 * the key table, stored.
 *
 * Works through the key table's rows, so it knows no key by name.
 */
#include "train/recipe_reader.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* "data.batch", "seed". */
static void add_name(text *t, const char *section, const char *name)
{
    text_addf(t, "%s%s%s", section, *section ? "." : "", name);
}

static void add_row_name(text *t, const recipe_key *row)
{
    add_name(t, row->section, row->name);
}

const toml_value *recipe_items(size_t *n, const toml_value *v)
{
    *n = v->type == TOML_ARRAY ? v->n : 1;
    return v->type == TOML_ARRAY ? v->first : v;
}

/* ----------------------------------------------------------------------------------------------
 * keys that do not exist */

/* Every key's full name; the caller frees it and the texts. */
typedef struct names {
    const char **name;
    size_t n;
    text block; /* the names, each NUL-terminated */
} names;

static bool list_names(names *out)
{
    size_t n_keys, n_sections;
    const recipe_key *const key = recipe_keys(&n_keys);
    const recipe_section *const section = recipe_sections(&n_sections);
    const char *p;

    *out = (names){0};
    for (size_t i = 0; i < n_keys; i++) {
        add_row_name(&out->block, &key[i]);
        text_add_n(&out->block, "", 1);
    }
    for (size_t i = 1; i < n_sections; i++) {
        text_add(&out->block, section[i].name);
        text_add_n(&out->block, "", 1);
    }
    out->n = n_keys + n_sections - 1;
    out->name = thaw__new(out->n, sizeof *out->name);
    if (!out->name || out->block.failed)
        return false;
    p = out->block.data;
    for (size_t i = 0; i < out->n; i++, p += strlen(p) + 1)
        out->name[i] = p;
    return true;
}

/* Keys of the same name in other sections come first: they are the likeliest mistake. */
static bool add_same_name(text *t, const char *name)
{
    size_t n, shown = 0;
    const recipe_key *const key = recipe_keys(&n);

    for (size_t i = 0; i < n && shown < 2; i++) {
        if (strcmp(key[i].name, name) != 0)
            continue;
        text_add(t, shown++ > 0 ? " or '" : " (did you mean '");
        add_row_name(t, &key[i]);
        text_add(t, "'");
    }
    if (shown > 0)
        text_add(t, "?)");
    return shown > 0;
}

static void unknown_key(recipe_reader *rd, const char *section, const toml_value *v)
{
    text full = TEXT_INIT, shown = TEXT_INIT, near = TEXT_INIT;
    names all;

    add_name(&full, section, v->key);
    if (list_names(&all) && !full.failed) {
        text_add_repr(&shown, full.data);
        if (!add_same_name(&near, v->key))
            text_add_near(&near, full.data, all.name, all.n, 1);
        if (!shown.failed && !near.failed)
            recipe_bad_key(rd, v, "unknown key %s%s", shown.data,
                           near.length > 0 ? near.data : "; 'thaw help recipe' lists all keys");
    } else {
        rd->no_memory = true;
    }
    rd->no_memory |= shown.failed || near.failed;
    thaw__free(all.name);
    text_done(&all.block);
    text_done(&near);
    text_done(&shown);
    text_done(&full);
}

/* ----------------------------------------------------------------------------------------------
 * checking values */

static const struct {
    const char *one, *many;
    toml_type type, or_type; /* what the value may be */
} kind_table[] = {
    [KEY_STRING] = {"a string", "strings", TOML_STRING, TOML_STRING},
    [KEY_PATH] = {"a path in quotes", "paths", TOML_STRING, TOML_STRING},
    [KEY_CHOICE] = {"a name in quotes", "names", TOML_STRING, TOML_STRING},
    [KEY_INTEGER] = {"an integer", "integers", TOML_INTEGER, TOML_INTEGER},
    [KEY_NUMBER] = {"a number", "numbers", TOML_FLOAT, TOML_INTEGER},
    [KEY_BOOLEAN] = {"true or false", "booleans", TOML_BOOLEAN, TOML_BOOLEAN},
    [KEY_INTERVAL] = {"an interval such as '10min'", "", TOML_STRING, TOML_INTEGER},
    [KEY_SIZE] = {"a size such as '2GiB'", "", TOML_STRING, TOML_INTEGER},
    [KEY_COEFFICIENTS] = {"a table of numbers", "", TOML_TABLE, TOML_TABLE},
    [KEY_TABLE] = {"a table", "tables", TOML_TABLE, TOML_TABLE},
};

static void add_found(text *t, const toml_value *v)
{
    static const char *const word[] = {
        [TOML_STRING] = "the string ", [TOML_INTEGER] = "the integer ",
        [TOML_FLOAT] = "the number ",  [TOML_BOOLEAN] = "",
        [TOML_DATETIME] = "the date ", [TOML_ARRAY] = "a list",
        [TOML_TABLE] = "a table",
    };

    text_add(t, word[v->type]);
    if (v->type == TOML_STRING && v->length > 60)
        text_add(t, "that begins here");
    else if (v->type == TOML_STRING)
        text_add_repr(t, v->string);
    else if (v->type != TOML_ARRAY && v->type != TOML_TABLE)
        toml_add_value(t, v);
}

static void add_expected(text *t, const recipe_key *row)
{
    if (!row->list_only)
        text_add(t, kind_table[row->kind].one);
    if (row->most_n == 0)
        return;
    text_add(t, row->list_only ? "a list of " : " or a list of ");
    if (row->least_n == row->most_n)
        text_addf(t, "%d ", row->most_n);
    text_add(t, kind_table[row->kind].many);
}

static void bad_type(recipe_reader *rd, const recipe_key *row, const toml_value *v)
{
    text t = TEXT_INIT;

    text_add(&t, "'");
    add_row_name(&t, row);
    text_add(&t, "': expected ");
    add_expected(&t, row);
    text_add(&t, ", found ");
    add_found(&t, v);
    if (t.failed)
        rd->no_memory = true;
    else
        recipe_bad_value(rd, v, "%s", t.data);
    text_done(&t);
}

void recipe_add_bound(text *t, double bound)
{
    if (floor(bound) == bound && fabs(bound) < 1e15)
        text_addf(t, "%.0f", bound);
    else
        text_add_double(t, bound);
}

/* "from 0 to 1 (1 excluded)", "1 or more". */
static void add_range(text *t, const recipe_key *row)
{
    const bool open_end = row->most > 9e18;

    text_add(t, open_end ? row->above_least ? "above " : "" : "from ");
    recipe_add_bound(t, row->least);
    if (open_end) {
        text_add(t, row->above_least ? "" : " or more");
        return;
    }
    text_add(t, " to ");
    recipe_add_bound(t, row->most);
    if (row->above_least || row->below_most) {
        text_add(t, " (");
        recipe_add_bound(t, row->above_least ? row->least : row->most);
        text_add(t, " excluded)");
    }
}

static bool check_range(recipe_reader *rd, const recipe_key *row, const toml_value *v)
{
    const double x = v->type == TOML_INTEGER ? (double)v->integer : v->real;
    text t = TEXT_INIT;

    if (x >= row->least && x <= row->most && !(row->above_least && x == row->least) &&
        !(row->below_most && x == row->most))
        return true;
    text_add(&t, "'");
    add_row_name(&t, row);
    text_add(&t, "' must be ");
    add_range(&t, row);
    text_add(&t, ", not ");
    toml_add_value(&t, v);
    if (t.failed)
        rd->no_memory = true;
    else
        recipe_bad_value(rd, v, "%s", t.data);
    text_done(&t);
    return false;
}

/* Number of a choice; -1: none of them. */
static int find_choice(const recipe_key *row, const char *name)
{
    for (size_t i = 0; row->choice(i); i++)
        if (strcmp(row->choice(i), name) == 0)
            return (int)i;
    return -1;
}

static bool check_choice(recipe_reader *rd, const recipe_key *row, const toml_value *v)
{
    const char *name[64];
    size_t n = 0;
    text t = TEXT_INIT, near = TEXT_INIT;

    if (find_choice(row, v->string) >= 0)
        return true;
    while (n < THAW_COUNT(name) && row->choice(n)) {
        name[n] = row->choice(n);
        n++;
    }
    text_add(&t, "'");
    add_row_name(&t, row);
    text_add(&t, "': ");
    text_add_repr(&t, v->string);
    text_add(&t, " is none of ");
    for (size_t i = 0; i < n; i++)
        text_addf(&t, "%s'%s'", i > 0 ? ", " : "", name[i]);
    text_add_near(&t, v->string, name, n, 1);
    if (t.failed)
        rd->no_memory = true;
    else
        recipe_bad_value(rd, v, "%s", t.data);
    text_done(&near);
    text_done(&t);
    return false;
}

static bool check_string(recipe_reader *rd, const recipe_key *row, const toml_value *v)
{
    if (strlen(v->string) == v->length && v->length > 0)
        return true;
    recipe_bad_value(rd, v, "'%s%s%s' must not be empty or hold NUL characters", row->section,
                     *row->section ? "." : "", row->name);
    return false;
}

static bool check_item(recipe_reader *rd, const recipe_key *row, const toml_value *v)
{
    if (v->type != kind_table[row->kind].type && v->type != kind_table[row->kind].or_type) {
        bad_type(rd, row, v);
        return false;
    }
    if (v->type == TOML_STRING && !check_string(rd, row, v))
        return false;
    if (v->type == TOML_INTEGER || v->type == TOML_FLOAT)
        return check_range(rd, row, v);
    return row->kind != KEY_CHOICE || check_choice(rd, row, v);
}

static bool check_coefficients(recipe_reader *rd, const recipe_key *row, const toml_value *table)
{
    bool good = true;

    for (const toml_value *v = table->first; v; v = v->next) {
        if (v->type == TOML_INTEGER || v->type == TOML_FLOAT) {
            good = check_range(rd, row, v) && good;
            continue;
        }
        if (v->type == TOML_STRING && strcmp(v->string, "pin") == 0)
            continue;
        good = false;
        recipe_bad_value(rd, v,
                         "'%s.%s': expected numbers, or 'pin'; a layer name with dots needs quotes",
                         row->section, row->name);
    }
    return good;
}

static bool check(recipe_reader *rd, const recipe_key *row, const toml_value *v)
{
    const bool list = v->type == TOML_ARRAY;
    bool good = true;
    size_t n;
    const toml_value *item = recipe_items(&n, v);

    if (list != (row->most_n > 0) && (list || row->list_only)) {
        bad_type(rd, row, v);
        return false;
    }
    if (list && (n < (size_t)row->least_n || n > (size_t)row->most_n)) {
        recipe_bad_value(rd, v, "'%s.%s' must have %d to %d values, not %zu", row->section,
                         row->name, row->least_n, row->most_n, n);
        return false;
    }
    for (size_t i = 0; i < n; i++, item = item->next)
        good = check_item(rd, row, item) && good;
    return row->kind == KEY_COEFFICIENTS && good ? check_coefficients(rd, row, v) : good;
}

/* ----------------------------------------------------------------------------------------------
 * storing */

/* Relative paths count from the recipe's folder. The tree gets the absolute one, for printing. */
static void make_absolute(recipe_reader *rd, toml_value *v)
{
    text t = TEXT_INIT;

    if (v->string[0] == '/')
        return;
    text_addf(&t, "%s/%s", rd->recipe->folder, v->string);
    if (t.failed) {
        rd->no_memory = true;
    } else {
        v->string = recipe_strdup(rd, t.data);
        v->length = t.length;
    }
    text_done(&t);
}

static void put_integer(void *field, size_t size, int64_t value)
{
    const int32_t narrow = (int32_t)value;
    const bool truth = value != 0;

    if (size == sizeof value)
        memcpy(field, &value, size);
    else if (size == sizeof narrow)
        memcpy(field, &narrow, size);
    else
        memcpy(field, &truth, size);
}

static void put_string(recipe_reader *rd, void *field, const toml_value *v)
{
    const char *const copy = recipe_strdup(rd, v->string);

    memcpy(field, &copy, sizeof copy);
}

static void store(recipe_reader *rd, const recipe_key *row, toml_value *v, void *target)
{
    const double real = v->type == TOML_INTEGER ? (double)v->integer : v->real;
    void *const field = (char *)target + row->offset;

    if (row->kind == KEY_PATH)
        make_absolute(rd, v);
    if (rd->no_memory)
        return;
    if (row->set)
        row->set(rd, target, v);
    else if (row->size == 0)
        return;
    else if (row->kind == KEY_NUMBER)
        memcpy(field, &real, sizeof real);
    else if (row->kind == KEY_INTEGER)
        put_integer(field, row->size, v->integer);
    else if (row->kind == KEY_BOOLEAN)
        put_integer(field, row->size, v->boolean);
    else if (row->kind == KEY_CHOICE && row->size != sizeof(char *))
        put_integer(field, row->size, find_choice(row, v->string));
    else
        put_string(rd, field, v);
}

/* ----------------------------------------------------------------------------------------------
 * one row */

/* Whether `name` is one of "a|b|c". */
static bool in_words(const char *words, const char *name)
{
    const size_t n = strlen(name);

    for (const char *p = words; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (strncmp(p, name, n) == 0 && (p[n] == '|' || p[n] == '\0'))
            return true;
    return false;
}

/* The other key that a condition names, or NULL. "section.key" stands elsewhere. */
static const toml_value *sibling(const recipe_reader *rd, const char *when, const toml_value *table)
{
    char name[32] = {0};
    char *dot;

    memcpy(name, when, THAW_MIN(strcspn(when, "="), sizeof name - 1));
    dot = strchr(name, '.');
    if (!dot)
        return toml_get(table, name);
    *dot = '\0';
    table = toml_get(rd->doc->root, name);
    return table && table->type == TOML_TABLE ? toml_get(table, dot + 1) : NULL;
}

void recipe_add_when(text *t, const char *section, const char *when)
{
    const int n = (int)strcspn(when, "=");

    if (!memchr(when, '.', (size_t)n))
        text_addf(t, "%s.", section);
    text_add_n(t, when, (size_t)n);
}

static bool holds(const recipe_reader *rd, const char *when, const toml_value *table)
{
    const toml_value *other;
    const char *words;

    if (!when)
        return true;
    other = sibling(rd, when, table);
    words = strchr(when, '=');
    if (!words)
        return other != NULL;
    return !other || other->type != TOML_STRING || in_words(words + 1, other->string);
}

static bool applies(const recipe_reader *rd, const recipe_key *row, const toml_value *table)
{
    return holds(rd, row->when, table) && holds(rd, row->also, table);
}

static void not_applicable(recipe_reader *rd, const recipe_key *row, const toml_value *table,
                           const toml_value *v)
{
    const char *const when = holds(rd, row->when, table) ? row->also : row->when;
    const toml_value *const other = sibling(rd, when, table);
    const char *const words = strchr(when, '=');
    text t = TEXT_INIT;

    if (words) {
        recipe_add_when(&t, row->section, when);
        text_add(&t, " = ");
        text_add_repr(&t, other->string);
        recipe_bad_key(rd, v, "'%s.%s' has no effect with %s, only with '%s'; remove it",
                       row->section, row->name, t.data ? t.data : "another", words + 1);
    } else {
        recipe_bad_key(rd, v, "'%s.%s' needs '%s.%s'; add that one or remove this", row->section,
                       row->name, row->section, when);
    }
    rd->no_memory |= t.failed;
    text_done(&t);
}

/* The row's default, put into the table. NULL: it has none here. */
static toml_value *complete(recipe_reader *rd, const recipe_key *row, toml_value *table)
{
    toml_value *v = NULL;
    text t = TEXT_INIT;

    if (row->derive)
        row->derive(&t, rd, table, row->name);
    else if (row->standard)
        text_add(&t, row->standard);
    if (t.failed)
        rd->no_memory = true;
    else if (t.length > 0)
        v = recipe_put(rd, table, row->name, t.data, "default");
    text_done(&t);
    return v;
}

static void missing(recipe_reader *rd, const recipe_key *row, const toml_value *table)
{
    if (row->derive)
        recipe_bad_key(rd, toml_get(table, row->when),
                       "'%s.%s' is missing, and its name cannot be told from '%s.%s'; add it",
                       row->section, row->name, row->section, row->when);
    else
        recipe_bad_key(rd, table->key_line > 0 ? table : NULL, "'%s.%s' is missing; add it",
                       row->section, row->name);
}

static toml_value *member(const toml_value *table, const char *key)
{
    for (toml_value *v = table->first; v; v = v->next)
        if (v->key_length == strlen(key) && strcmp(v->key, key) == 0)
            return v;
    return NULL;
}

static void read_row(recipe_reader *rd, const recipe_key *row, toml_value *table, void *target)
{
    toml_value *v = member(table, row->name);

    if (!applies(rd, row, table)) {
        if (v)
            not_applicable(rd, row, table, v);
        return;
    }
    if (!v)
        v = complete(rd, row, table);
    if (!v) {
        if (row->required && !rd->no_memory)
            missing(rd, row, table);
        return;
    }
    if (check(rd, row, v))
        store(rd, row, v, target);
}

/* Whether v is one of the tables that stand at the top. */
static bool is_section(const char *section, const toml_value *v)
{
    size_t n;
    const recipe_section *const known = recipe_sections(&n);

    for (size_t i = 1; *section == '\0' && i < n; i++)
        if (strcmp(known[i].name, v->key) == 0)
            return true;
    return false;
}

void recipe_read_section(recipe_reader *rd, const char *section, toml_value *table, void *target)
{
    size_t n;
    const recipe_key *const row = recipe_keys(&n);

    for (const toml_value *v = table->first; v; v = v->next)
        if (!recipe_key_find(section, v->key) && !is_section(section, v))
            unknown_key(rd, section, v);
    for (size_t i = 0; i < n && !rd->no_memory; i++)
        if (strcmp(row[i].section, section) == 0)
            read_row(rd, &row[i], table, target);
}
