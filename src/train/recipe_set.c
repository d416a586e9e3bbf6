/*
 * recipe_set.c - one --set key=value, applied to the recipe's tree before anything is checked.
 *
 * So an override is checked as if it stood in the file. Text that is no TOML value counts as a
 * string: "optimizer.name=adamw" needs no quotes.
 */
#include "train/recipe_reader.h"

#include <string.h>

enum { MOST_PARTS = 8 };

typedef struct override {
    const char *origin; /* "--set 'key=value'" */
    const char *part[MOST_PARTS];
    int n_parts;
    const char *value;
} override;

THAW_PRINTF(3, 4)
static void bad_set(recipe_reader *rd, const override *o, const char *format, ...)
{
    const toml_value at = {.origin = o->origin};
    text t = TEXT_INIT;
    va_list args;

    va_start(args, format);
    text_vaddf(&t, format, args);
    va_end(args);
    if (t.failed)
        rd->no_memory = true;
    else
        recipe_bad_key(rd, &at, "%s", t.data);
    text_done(&t);
}

/* First '=' that stands in no quotes, or NULL. */
static const char *find_equals(const char *set)
{
    char quote = '\0';

    for (const char *p = set; *p; p++) {
        if (quote != '\0')
            quote = *p == quote ? '\0' : quote;
        else if (*p == '"' || *p == '\'')
            quote = *p;
        else if (*p == '=')
            return p;
    }
    return NULL;
}

/* Parts of the dotted key: those of the document "key=0". */
static bool split_key(override *o, recipe_reader *rd, const char *key, size_t n)
{
    toml_document *doc = NULL;
    text t = TEXT_INIT;
    thaw_status status;
    bool good = false;

    text_add_n(&t, key, n);
    text_add(&t, "=0");
    if (t.failed) {
        rd->no_memory = true;
        return false;
    }
    if (strpbrk(t.data, "\r\n#"))
        goto done;
    status = toml_parse(&doc, t.data, t.length, "");
    rd->no_memory |= status == THAW_E_NOMEM;
    if (status != THAW_OK)
        goto done;
    for (const toml_value *v = doc->root->first; v; v = v->first) {
        if (o->n_parts == MOST_PARTS || strlen(v->key) != v->key_length)
            goto done;
        o->part[o->n_parts] = recipe_strdup(rd, v->key);
        if (!o->part[o->n_parts++])
            goto done;
    }
    good = true;
done:
    text_done(&t);
    toml_destroy(doc);
    return good;
}

static toml_value *member(const toml_value *table, const char *key)
{
    for (toml_value *v = table->first; v; v = v->next)
        if (v->key && strcmp(v->key, key) == 0)
            return v;
    return NULL;
}

/* The phase that "phase.2" names; part 1 is its number. */
static toml_value *find_phase(recipe_reader *rd, const override *o)
{
    toml_value *const phases = member(rd->doc->root, "phase");
    const long long n = phases && phases->type == TOML_ARRAY ? (long long)phases->n : 0;
    toml_value *v;
    int64_t number;

    if (o->n_parts < 3 || !parse_int64(&number, o->part[1])) {
        bad_set(rd, o, "name the phase by its number, from 1, and a key: phase.1.lr");
        return NULL;
    }
    if (number < 1 || number > n) {
        bad_set(rd, o, "there is no phase %lld; the recipe has %lld", (long long)number, n);
        return NULL;
    }
    v = phases->first;
    while (--number > 0)
        v = v->next;
    return v;
}

/* The table that holds the key; tables on the way are made. NULL: that was said. */
static toml_value *find_table(recipe_reader *rd, const override *o)
{
    const bool in_phase = strcmp(o->part[0], "phase") == 0;
    toml_value *table = in_phase ? find_phase(rd, o) : rd->doc->root;

    for (int i = in_phase ? 2 : 0; table && i + 1 < o->n_parts; i++) {
        toml_value *const v = member(table, o->part[i]);

        table = v ? v : recipe_put(rd, table, o->part[i], "{}", o->origin);
        if (table && table->type != TOML_TABLE) {
            bad_set(rd, o, "'%s' is not a table", o->part[i]);
            return NULL;
        }
    }
    return table;
}

/* The row of the key table, or NULL. */
static const recipe_key *find_row(recipe_reader *rd, const override *o)
{
    const bool in_phase = strcmp(o->part[0], "phase") == 0;
    text section = TEXT_INIT;
    const recipe_key *row = NULL;

    for (int i = 0; i + 1 < o->n_parts; i++)
        if (!in_phase || i != 1)
            text_addf(&section, "%s%s", i > 0 ? "." : "", o->part[i]);
    if (!section.failed) {
        const char *const name = section.data ? section.data : "";

        row = recipe_key_find(strcmp(name, "phase.schedule") == 0 ? "schedule" : name,
                              o->part[o->n_parts - 1]);
    }
    rd->no_memory |= section.failed;
    text_done(&section);
    return row;
}

/* Whether text that parses as something else was meant as a string all the same. */
static bool wants_string(const recipe_key *row, const toml_value *v)
{
    if (!row || v->type == TOML_STRING || v->type == TOML_ARRAY || v->type == TOML_TABLE)
        return false;
    return row->kind == KEY_STRING || row->kind == KEY_PATH || row->kind == KEY_CHOICE;
}

static void put_as_string(recipe_reader *rd, const override *o, toml_value *table)
{
    text t = TEXT_INIT;

    toml_add_string(&t, o->value, strlen(o->value));
    if (t.failed)
        rd->no_memory = true;
    else if (!recipe_put(rd, table, o->part[o->n_parts - 1], t.data, o->origin))
        bad_set(rd, o, "the value is not UTF-8 text");
    text_done(&t);
}

static void put_value(recipe_reader *rd, const override *o, toml_value *table)
{
    const toml_value *v;

    if (o->value[0] == '\0') {
        bad_set(rd, o, "a value is missing behind '='; an empty string is \"\"");
        return;
    }
    v = recipe_put(rd, table, o->part[o->n_parts - 1], o->value, o->origin);
    if (v ? wants_string(find_row(rd, o), v) : !strchr("\"'[{", o->value[0]))
        put_as_string(rd, o, table);
    else if (!v && !rd->no_memory)
        bad_set(rd, o, "the value is not valid TOML; check its quotes and brackets");
}

void recipe_set(recipe_reader *rd, const char *set)
{
    const char *const equals = find_equals(set);
    override o = {0};
    toml_value *table;
    text origin = TEXT_INIT;

    text_add(&origin, "--set ");
    text_add_repr(&origin, set);
    o.origin = origin.failed ? NULL : recipe_strdup(rd, origin.data);
    rd->no_memory |= origin.failed;
    text_done(&origin);
    if (rd->no_memory)
        return;
    if (!equals || equals == set) {
        bad_set(rd, &o, "expected key=value, such as data.batch=64");
        return;
    }
    if (!split_key(&o, rd, set, (size_t)(equals - set))) {
        bad_set(rd, &o, "'%.*s' is not a key; keys look like data.batch or phase.2.lr",
                (int)THAW_MIN(equals - set, 100), set);
        return;
    }
    o.value = equals + 1 + strspn(equals + 1, " \t");
    table = find_table(rd, &o);
    if (table)
        put_value(rd, &o, table);
}
