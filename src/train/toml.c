/*
 * toml.c - reader of TOML 1.0 documents (https://toml.io/en/v1.0.0).
 *
 * One pass over checked UTF-8. Nesting lives on an explicit stack, so hostile depth cannot exhaust
 * the machine's; limits on depth, keys and size bound time and memory. Each table remembers how it
 * came to be (header, dotted key, inline), which is all that TOML's rules against redefinition
 * need. The first mistake ends the reading: what follows a syntax error is guesswork.
 *
 * Must not know what a recipe is.
 */
#include "train/toml_reader.h"

#include <string.h>

enum { MAX_KEYS = 10000, MAX_BYTES = 1 << 20 };

/* How a table or an array came to be. */
enum made {
    MADE_WHOLE,    /* inline table, array of values: closed once it has been read */
    MADE_IMPLICIT, /* a table on the way to a header's table: may still get its own header */
    MADE_HEADER,   /* [table], the element of an [[array]] */
    MADE_DOTTED,   /* by dotted keys: only dotted keys of the same section may add to it */
    MADE_TABLES    /* [[array]]: grows by headers */
};

/* A key in single quotes, escaped, cut when long; in a buffer that is returned. */
typedef struct quoted {
    char text[160];
} quoted;
static const char *quote(quoted *q, const char *name)
{
    text t = TEXT_INIT;

    text_add_repr(&t, name);
    if (!t.data)
        memcpy(q->text, "a key", sizeof "a key");
    else if (t.length < sizeof q->text)
        memcpy(q->text, t.data, t.length + 1);
    else
        memcpy(q->text, "a long key", sizeof "a long key");
    text_done(&t);
    return q->text;
}

/* ----------------------------------------------------------------------------------------------
 * the tree */

static toml_value *find(const toml_value *table, const char *key, size_t length)
{
    for (toml_value *v = table->first; v; v = v->next)
        if (v->key_length == length && memcmp(v->key, key, length) == 0)
            return v;
    return NULL;
}

/* A new last member; part NULL: of an array. */
static thaw_status append(toml_value **out, toml_reader *r, toml_value *parent,
                          const toml_key_part *part, toml_place at)
{
    toml_value *v;

    if (parent->depth >= TOML_DEPTH)
        return toml_bad(r, at, "values are nested deeper than %d", TOML_DEPTH);
    v = region_alloc(r->doc->region, 1, sizeof *v);
    if (!v)
        return toml_no_memory(r);
    v->depth = (uint8_t)(parent->depth + 1);
    v->line = at.line;
    v->column = at.column;
    if (part) {
        v->key = part->name;
        v->key_length = part->length;
        v->key_line = part->at.line;
        v->key_column = part->at.column;
    }
    if (parent->last)
        parent->last->next = v;
    else
        parent->first = v;
    parent->last = v;
    parent->n++;
    *out = v;
    return THAW_OK;
}

static thaw_status append_container(toml_value **out, toml_reader *r, toml_value *parent,
                                    const toml_key_part *part, toml_place at, toml_type type,
                                    enum made made)
{
    THAW_CHECK(append(out, r, parent, part, at));
    (*out)->type = type;
    (*out)->made = (uint8_t)made;
    return THAW_OK;
}

static thaw_status read_key_part(toml_reader *r)
{
    toml_key_part *part;

    if (r->n_parts == TOML_DEPTH)
        return toml_bad(r, toml_here(r), "a key has more than %d parts", TOML_DEPTH);
    if (++r->n_keys > MAX_KEYS)
        return toml_bad(r, toml_here(r), "the document has more than %d keys", MAX_KEYS);
    part = &r->part[r->n_parts++];
    part->at = toml_here(r);
    if (toml_peek(r, 0) == '"' || toml_peek(r, 0) == '\'')
        return toml_read_string(r, &part->name, &part->length, false);
    r->scratch.length = 0;
    while (toml_is_bare(toml_peek(r, r->scratch.length)) && !r->scratch.failed)
        text_add_n(&r->scratch, r->at + r->scratch.length, 1);
    r->at += r->scratch.length;
    if (r->scratch.length == 0 && !r->scratch.failed)
        return toml_bad(r, part->at,
                        "a key is expected here: letters, digits, '_' and '-', or quoted");
    return toml_keep_string(r, &part->name, &part->length);
}

/* a.b."c" */
static thaw_status read_key(toml_reader *r)
{
    r->n_parts = 0;
    for (;;) {
        toml_skip_blanks(r);
        THAW_CHECK(read_key_part(r));
        toml_skip_blanks(r);
        if (toml_peek(r, 0) != '.')
            return THAW_OK;
        r->at++;
    }
}

static thaw_status defined_before(const toml_reader *r, const toml_key_part *part,
                                  const toml_value *v)
{
    quoted q;

    return toml_bad(r, part->at, "%s is already defined on line %d; join the two",
                    quote(&q, part->name), v->key ? v->key_line : v->line);
}

/* From a table along all but the last part of a dotted key. */
static thaw_status enter_dotted(toml_value **table, toml_reader *r)
{
    for (int i = 0; i + 1 < r->n_parts; i++) {
        const toml_key_part *const part = &r->part[i];
        toml_value *v = find(*table, part->name, part->length);

        if (!v)
            THAW_CHECK(append_container(&v, r, *table, part, part->at, TOML_TABLE, MADE_DOTTED));
        if (v->type != TOML_TABLE || (v->made != MADE_DOTTED && v->made != MADE_IMPLICIT))
            return defined_before(r, part, v);
        v->made = MADE_DOTTED;
        *table = v;
    }
    return THAW_OK;
}

/* From the root along all but the last part of a header's key. */
static thaw_status enter_header(toml_value **table, toml_reader *r)
{
    *table = r->doc->root;
    for (int i = 0; i + 1 < r->n_parts; i++) {
        const toml_key_part *const part = &r->part[i];
        toml_value *v = find(*table, part->name, part->length);

        if (!v)
            THAW_CHECK(append_container(&v, r, *table, part, part->at, TOML_TABLE, MADE_IMPLICIT));
        if (v->type == TOML_ARRAY && v->made == MADE_TABLES)
            v = v->last;
        if (v->type != TOML_TABLE || v->made == MADE_WHOLE)
            return defined_before(r, part, v);
        *table = v;
    }
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * values */

/* Read the value that comes next, or open it when it is a container. */
static thaw_status begin_value(toml_reader *r, toml_value *v)
{
    const toml_place at = toml_here(r);
    const int c = toml_peek(r, 0);

    v->line = at.line;
    v->column = at.column;
    if (c == '"' || c == '\'') {
        v->type = TOML_STRING;
        return toml_read_string(r, &v->string, &v->length, true);
    }
    if (c != '[' && c != '{')
        return toml_read_word(r, v);
    v->type = c == '[' ? TOML_ARRAY : TOML_TABLE;
    v->made = MADE_WHOLE;
    r->at++;
    r->open[r->n_open].value = v;
    r->open[r->n_open++].after_item = false;
    return THAW_OK;
}

static thaw_status step_array(toml_reader *r, toml_value *array)
{
    bool *const after_item = &r->open[r->n_open - 1].after_item;
    toml_value *item;

    THAW_CHECK(toml_skip_lines(r));
    if (toml_peek(r, 0) == ']') {
        r->at++;
        r->n_open--;
        return THAW_OK;
    }
    if (toml_peek(r, 0) < 0)
        return toml_bad(r, (toml_place){array->line, array->column},
                        "the array that begins here is not closed");
    if (*after_item) {
        if (toml_peek(r, 0) != ',')
            return toml_bad(r, toml_here(r), "expected ',' or ']' in an array");
        r->at++;
        *after_item = false;
        return THAW_OK;
    }
    THAW_CHECK(append(&item, r, array, NULL, toml_here(r)));
    *after_item = true;
    return begin_value(r, item);
}

/* key = value, into a table; the value may be left open. */
static thaw_status read_pair(toml_reader *r, toml_value *table)
{
    const toml_key_part *part;
    toml_value *v;

    THAW_CHECK(read_key(r));
    THAW_CHECK(enter_dotted(&table, r));
    part = &r->part[r->n_parts - 1];
    v = find(table, part->name, part->length);
    if (v)
        return defined_before(r, part, v);
    if (toml_peek(r, 0) != '=')
        return toml_bad(r, toml_here(r), "expected '=' behind a key");
    r->at++;
    toml_skip_blanks(r);
    THAW_CHECK(append(&v, r, table, part, toml_here(r)));
    return begin_value(r, v);
}

static thaw_status step_inline(toml_reader *r, toml_value *table)
{
    bool *const after_item = &r->open[r->n_open - 1].after_item;

    toml_skip_blanks(r);
    if (toml_peek(r, 0) == '}' && (*after_item || table->n == 0)) {
        r->at++;
        r->n_open--;
        return THAW_OK;
    }
    if (toml_peek(r, 0) < 0 || toml_newline_length(r) > 0 || toml_peek(r, 0) == '#')
        return toml_bad(
            r, (toml_place){table->line, table->column},
            "the inline table that begins here is not closed on its line; for more lines "
            "use a [table]");
    if (toml_peek(r, 0) == '}')
        return toml_bad(r, toml_here(r), "no comma may stand before '}'; remove it");
    if (*after_item) {
        if (toml_peek(r, 0) != ',')
            return toml_bad(r, toml_here(r), "expected ',' or '}' in an inline table");
        r->at++;
        *after_item = false;
        toml_skip_blanks(r);
        return THAW_OK;
    }
    *after_item = true;
    return read_pair(r, table);
}

/* Close every container that is open. */
static thaw_status finish_values(toml_reader *r)
{
    while (r->n_open > 0) {
        toml_value *const top = r->open[r->n_open - 1].value;

        THAW_CHECK(top->type == TOML_ARRAY ? step_array(r, top) : step_inline(r, top));
    }
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * documents */

static thaw_status define_table(toml_reader *r, toml_value *parent, const toml_key_part *part)
{
    toml_value *v = find(parent, part->name, part->length);

    if (!v)
        THAW_CHECK(append_container(&v, r, parent, part, part->at, TOML_TABLE, MADE_HEADER));
    else if (v->type != TOML_TABLE || v->made != MADE_IMPLICIT)
        return defined_before(r, part, v);
    v->made = MADE_HEADER;
    v->key_line = v->line = part->at.line;
    v->key_column = v->column = part->at.column;
    r->section = v;
    return THAW_OK;
}

static thaw_status define_element(toml_reader *r, toml_value *parent, const toml_key_part *part)
{
    toml_value *v = find(parent, part->name, part->length);

    if (!v)
        THAW_CHECK(append_container(&v, r, parent, part, part->at, TOML_ARRAY, MADE_TABLES));
    else if (v->type != TOML_ARRAY || v->made != MADE_TABLES)
        return defined_before(r, part, v);
    return append_container(&r->section, r, v, NULL, part->at, TOML_TABLE, MADE_HEADER);
}

/* [a.b] or [[a.b]] */
static thaw_status read_header(toml_reader *r)
{
    const bool element = toml_peek(r, 1) == '[';
    const char *const close = element ? "]]" : "]";
    toml_value *parent;
    const toml_key_part *part;

    r->at += element ? 2 : 1;
    THAW_CHECK(read_key(r));
    if (toml_peek(r, 0) != ']' || (element && toml_peek(r, 1) != ']'))
        return toml_bad(r, toml_here(r), "expected '%s' behind the table's name", close);
    r->at += strlen(close);
    THAW_CHECK(enter_header(&parent, r));
    part = &r->part[r->n_parts - 1];
    THAW_CHECK(element ? define_element(r, parent, part) : define_table(r, parent, part));
    return toml_end_line(r, "a table's name");
}

static thaw_status read_document(toml_reader *r)
{
    if (toml_peek(r, 0) == 0xEF && toml_peek(r, 1) == 0xBB && toml_peek(r, 2) == 0xBF)
        return toml_bad(r, toml_here(r),
                        "a byte order mark stands here; save the file without one");
    r->section = r->doc->root;
    for (;;) {
        THAW_CHECK(toml_skip_lines(r));
        if (toml_peek(r, 0) < 0)
            return THAW_OK;
        if (toml_peek(r, 0) == '[') {
            THAW_CHECK(read_header(r));
            continue;
        }
        THAW_CHECK(read_pair(r, r->section));
        THAW_CHECK(finish_values(r));
        THAW_CHECK(toml_end_line(r, "a value"));
    }
}

static thaw_status start(toml_reader *r, toml_document *doc, const char *from, size_t size,
                         const char *name)
{
    static const char nothing[] = "";

    if (size == 0)
        from = nothing;
    *r = (toml_reader){.at = from,
                       .end = from + size,
                       .counted = from,
                       .line = 1,
                       .column = 1,
                       .name = name,
                       .doc = doc};
    if (size > MAX_BYTES)
        return toml_bad(r, toml_here(r), "the document is larger than %d MiB", MAX_BYTES >> 20);
    return toml_check_utf8(r);
}

thaw_status toml_parse(toml_document **out, const char *from, size_t size, const char *name)
{
    thaw_status status = THAW_OK;
    toml_document *doc = thaw__new(1, sizeof *doc);
    toml_reader r = {.name = name};

    if (!doc)
        return toml_no_memory(&r);
    THAW_TRY(region_create(&doc->region));
    doc->root = region_alloc(doc->region, 1, sizeof *doc->root);
    if (!doc->root) {
        status = toml_no_memory(&r);
        goto done;
    }
    doc->root->type = TOML_TABLE;
    doc->root->made = MADE_HEADER;
    doc->root->line = doc->root->column = 1;
    THAW_TRY(start(&r, doc, from, size, name));
    THAW_TRY(read_document(&r));
    *out = doc;
    doc = NULL;
done:
    text_done(&r.scratch);
    toml_destroy(doc);
    return status;
}

void toml_destroy(toml_document *d)
{
    if (!d)
        return;
    region_destroy(d->region);
    thaw__free(d);
}

const toml_value *toml_get(const toml_value *table, const char *key)
{
    return table->type == TOML_TABLE ? find(table, key, strlen(key)) : NULL;
}

/* ----------------------------------------------------------------------------------------------
 * editing */

thaw_status toml_put(toml_value **out, toml_document *d, toml_value *table, const char *key,
                     const char *source, size_t size, const char *name)
{
    thaw_status status;
    toml_value made = {.type = TOML_TABLE, .made = MADE_WHOLE, .depth = table->depth};
    toml_value *v = find(table, key, strlen(key)), *item;
    toml_reader r = {.name = name};

    THAW_TRY(start(&r, d, source, size, name));
    toml_skip_blanks(&r);
    THAW_TRY(append(&item, &r, &made, NULL, toml_here(&r)));
    THAW_TRY(begin_value(&r, item));
    THAW_TRY(finish_values(&r));
    toml_skip_blanks(&r);
    if (toml_peek(&r, 0) >= 0) {
        status = toml_bad(&r, toml_here(&r), "something follows the value; remove it");
        goto done;
    }
    if (!v) {
        toml_key_part part = {.length = strlen(key)};

        part.name = region_strdup(d->region, key);
        if (!part.name) {
            status = toml_no_memory(&r);
            goto done;
        }
        THAW_TRY(append(&v, &r, table, &part, (toml_place){0, 0}));
    }
    item->key = v->key;
    item->key_length = v->key_length;
    item->key_line = v->key_line;
    item->key_column = v->key_column;
    item->next = v->next;
    *v = *item;
    *out = v;
done:
    text_done(&r.scratch);
    return status;
}
