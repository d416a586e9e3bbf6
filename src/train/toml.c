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
#include "train/train.h"

#include <string.h>

enum { MAX_DEPTH = 64, MAX_KEYS = 10000, MAX_BYTES = 1 << 20 };

/* How a table or an array came to be. */
enum made {
    MADE_WHOLE,    /* inline table, array of values: closed once it has been read */
    MADE_IMPLICIT, /* a table on the way to a header's table: may still get its own header */
    MADE_HEADER,   /* [table], the element of an [[array]] */
    MADE_DOTTED,   /* by dotted keys: only dotted keys of the same section may add to it */
    MADE_TABLES    /* [[array]]: grows by headers */
};

typedef struct place {
    int line, column;
} place;

typedef struct key_part {
    const char *name;
    size_t length;
    place at;
} key_part;

typedef struct reader {
    const char *at, *end;
    const char *counted; /* `line` and `column` are those of this byte, at or before `at` */
    int line, column;
    const char *name; /* of the document */
    toml_document *doc;
    text scratch; /* the string or number being read */
    key_part part[MAX_DEPTH];
    int n_parts;
    size_t n_keys;
    toml_value *section; /* table that key/value lines go to */
    struct {
        toml_value *value;
        bool after_item; /* a comma or the closing bracket comes next */
    } open[MAX_DEPTH + 1];
    int n_open;
} reader;

/* ----------------------------------------------------------------------------------------------
 * places and failing */

/* Line and column of the next byte. Counts each byte once, so long lines stay cheap. */
static place here(reader *r)
{
    for (; r->counted < r->at; r->counted++)
        r->column += ((unsigned char)*r->counted & 0xC0) != 0x80;
    return (place){r->line, r->column};
}

static thaw_status no_memory(const reader *r)
{
    return thaw_fail(THAW_E_NOMEM, "out of memory reading '%s'", r->name);
}

THAW_PRINTF(3, 4)
static thaw_status bad(const reader *r, place at, const char *format, ...)
{
    text message = TEXT_INIT;
    va_list args;
    thaw_status status;

    va_start(args, format);
    text_vaddf(&message, format, args);
    va_end(args);
    if (message.failed || !message.data)
        status = no_memory(r);
    else
        status =
            thaw_fail(THAW_E_RECIPE, "%s:%d:%d: %s", r->name, at.line, at.column, message.data);
    text_done(&message);
    return status;
}

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
 * characters */

/* Byte i from here, or -1 at the end. */
static int peek(const reader *r, size_t i)
{
    return i < (size_t)(r->end - r->at) ? (unsigned char)r->at[i] : -1;
}

/* Whether c may not stand in a document as it is (tabs may, newlines are handled before). */
static bool is_control(int c)
{
    return (c >= 0 && c < 0x20 && c != '\t') || c == 0x7F;
}

static bool is_bare(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

/* Length of the newline that comes next; 0: none does. */
static size_t newline_length(const reader *r)
{
    if (peek(r, 0) == '\n')
        return 1;
    return peek(r, 0) == '\r' && peek(r, 1) == '\n' ? 2 : 0;
}

static bool skip_newline(reader *r)
{
    const size_t n = newline_length(r);

    if (n == 0)
        return false;
    r->at += n;
    r->counted = r->at;
    r->line++;
    r->column = 1;
    return true;
}

static void skip_blanks(reader *r)
{
    while (peek(r, 0) == ' ' || peek(r, 0) == '\t')
        r->at++;
}

static thaw_status control_character(reader *r, const char *where)
{
    return bad(r, here(r), "control character U+%04X %s; remove it", (unsigned)peek(r, 0), where);
}

static thaw_status skip_comment(reader *r)
{
    if (peek(r, 0) != '#')
        return THAW_OK;
    for (; peek(r, 0) >= 0 && newline_length(r) == 0; r->at++)
        if (is_control(peek(r, 0)))
            return control_character(r, "in a comment");
    return THAW_OK;
}

/* Blanks, comments and newlines. */
static thaw_status skip_lines(reader *r)
{
    do {
        skip_blanks(r);
        THAW_CHECK(skip_comment(r));
    } while (skip_newline(r));
    return THAW_OK;
}

/* Nothing but a comment may follow on this line. */
static thaw_status end_line(reader *r, const char *after)
{
    skip_blanks(r);
    THAW_CHECK(skip_comment(r));
    if (peek(r, 0) < 0 || skip_newline(r))
        return THAW_OK;
    return bad(r, here(r), "something follows %s; put it on a line of its own", after);
}

/* The whole document is checked first, so that nothing later has to. */
static thaw_status check_utf8(const reader *start)
{
    reader r = *start;

    while (r.at < r.end) {
        const size_t n = toml_utf8_length((const unsigned char *)r.at, (size_t)(r.end - r.at));

        if (n == 0)
            return bad(&r, here(&r), "byte 0x%02x is not UTF-8; save the file as UTF-8",
                       (unsigned)(unsigned char)*r.at);
        if (!skip_newline(&r))
            r.at += n;
    }
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * strings */

static int hex_value(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* \uXXXX or \UXXXXXXXX, standing behind the letter. */
static thaw_status take_unicode(reader *r, size_t n, place start)
{
    uint32_t c = 0;

    for (size_t i = 0; i < n; i++) {
        const int d = hex_value(peek(r, i));

        if (d < 0)
            return bad(r, start, "this escape needs %zu hexadecimal digits", n);
        c = c << 4 | (uint32_t)d;
    }
    if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
        return bad(r, start, "U+%X is not a Unicode character", (unsigned)c);
    r->at += n;
    toml_add_utf8(&r->scratch, c);
    return THAW_OK;
}

/* A backslash comes next, in a basic string. */
static thaw_status take_escape(reader *r, bool multi)
{
    static const char letter[] = "btnfr\"\\", meaning[] = "\b\t\n\f\r\"\\";
    const place start = here(r);
    const int c = peek(r, 1);
    const char *known = c > 0 ? strchr(letter, c) : NULL;

    r->at++;
    if (known) {
        r->at++;
        text_add_n(&r->scratch, &meaning[known - letter], 1);
        return THAW_OK;
    }
    if (c == 'u' || c == 'U') {
        r->at++;
        return take_unicode(r, c == 'u' ? 4 : 8, start);
    }
    if (multi) { /* the end of a line and all white space after it vanish */
        skip_blanks(r);
        if (skip_newline(r)) {
            do
                skip_blanks(r);
            while (skip_newline(r));
            return THAW_OK;
        }
    }
    return bad(r, start,
               "unknown escape in a string; write \\\\ for a backslash, or use '...' which takes "
               "everything as it is");
}

/* One character of a string's content, as it stands. */
static thaw_status take_plain(reader *r, bool multi, place start)
{
    const int c = peek(r, 0);

    if (c < 0)
        return bad(r, start, "the string that begins here is not closed");
    if (newline_length(r) > 0) {
        if (!multi)
            return bad(r, start, "the string that begins here is not closed on its line");
        (void)skip_newline(r);
        text_add_n(&r->scratch, "\n", 1);
        return THAW_OK;
    }
    if (is_control(c))
        return control_character(r, "in a string");
    text_add_n(&r->scratch, r->at, 1);
    r->at++;
    return THAW_OK;
}

/* Up to the closing quotes of a multi-line string, which one or two of its own may precede. */
static bool close_multi(reader *r, int quote_mark)
{
    size_t n = 0;

    while (n < 5 && peek(r, n) == quote_mark)
        n++;
    r->at += n;
    if (n < 3) {
        text_add_n(&r->scratch, r->at - n, n);
        return false;
    }
    text_add_n(&r->scratch, r->at - n, n - 3);
    return true;
}

/* Copy what was read to the document. */
static thaw_status keep_string(reader *r, const char **out, size_t *length)
{
    char *copy;

    if (r->scratch.failed)
        return no_memory(r);
    copy = region_alloc(r->doc->region, r->scratch.length + 1, 1);
    if (!copy)
        return no_memory(r);
    if (r->scratch.length > 0)
        memcpy(copy, r->scratch.data, r->scratch.length);
    *out = copy;
    *length = r->scratch.length;
    return THAW_OK;
}

/* A string; the opening quote comes next. Keys must not be of the multi-line kinds. */
static thaw_status read_string(reader *r, const char **out, size_t *length, bool may_be_multi)
{
    const place start = here(r);
    const int mark = peek(r, 0);
    const bool multi = may_be_multi && peek(r, 1) == mark && peek(r, 2) == mark;

    r->scratch.length = 0;
    r->at += multi ? 3 : 1;
    if (multi)
        (void)skip_newline(r);
    for (;;) {
        const int c = peek(r, 0);

        if (c == mark && !multi) {
            r->at++;
            break;
        }
        if (c == mark) {
            if (close_multi(r, mark))
                break;
        } else if (c == '\\' && mark == '"') {
            THAW_CHECK(take_escape(r, multi));
        } else {
            THAW_CHECK(take_plain(r, multi, start));
        }
    }
    return keep_string(r, out, length);
}

static bool is_word(int c)
{
    return is_bare(c) || c == '+' || c == '.' || c == ':';
}

/* Value without quotes, NUL-terminated in scratch. One blank may part a date from its time. */
static thaw_status take_word(reader *r)
{
    size_t n = 0;

    while (is_word(peek(r, n)))
        n++;
    if (n == 10 && r->at[4] == '-' && peek(r, 10) == ' ' && hex_value(peek(r, 11)) >= 0 &&
        hex_value(peek(r, 12)) >= 0 && peek(r, 13) == ':')
        for (n = 11; is_word(peek(r, n)); n++)
            ;
    r->scratch.length = 0;
    text_add_n(&r->scratch, r->at, n);
    r->at += n;
    return r->scratch.failed || !r->scratch.data ? no_memory(r) : THAW_OK;
}

static thaw_status read_word(reader *r, toml_value *v)
{
    const char *wrong;

    THAW_CHECK(take_word(r));
    wrong = toml_word(v, r->scratch.data);
    if (wrong)
        return bad(r, (place){v->line, v->column}, "%s", wrong);
    return v->type == TOML_DATETIME ? keep_string(r, &v->string, &v->length) : THAW_OK;
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
static thaw_status append(toml_value **out, reader *r, toml_value *parent, const key_part *part,
                          place at)
{
    toml_value *v;

    if (parent->depth >= MAX_DEPTH)
        return bad(r, at, "values are nested deeper than %d", MAX_DEPTH);
    v = region_alloc(r->doc->region, 1, sizeof *v);
    if (!v)
        return no_memory(r);
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

static thaw_status append_container(toml_value **out, reader *r, toml_value *parent,
                                    const key_part *part, place at, toml_type type, enum made made)
{
    THAW_CHECK(append(out, r, parent, part, at));
    (*out)->type = type;
    (*out)->made = (uint8_t)made;
    return THAW_OK;
}

static thaw_status read_key_part(reader *r)
{
    key_part *part;

    if (r->n_parts == MAX_DEPTH)
        return bad(r, here(r), "a key has more than %d parts", MAX_DEPTH);
    if (++r->n_keys > MAX_KEYS)
        return bad(r, here(r), "the document has more than %d keys", MAX_KEYS);
    part = &r->part[r->n_parts++];
    part->at = here(r);
    if (peek(r, 0) == '"' || peek(r, 0) == '\'')
        return read_string(r, &part->name, &part->length, false);
    r->scratch.length = 0;
    while (is_bare(peek(r, r->scratch.length)) && !r->scratch.failed)
        text_add_n(&r->scratch, r->at + r->scratch.length, 1);
    r->at += r->scratch.length;
    if (r->scratch.length == 0 && !r->scratch.failed)
        return bad(r, part->at, "a key is expected here: letters, digits, '_' and '-', or quoted");
    return keep_string(r, &part->name, &part->length);
}

/* a.b."c" */
static thaw_status read_key(reader *r)
{
    r->n_parts = 0;
    for (;;) {
        skip_blanks(r);
        THAW_CHECK(read_key_part(r));
        skip_blanks(r);
        if (peek(r, 0) != '.')
            return THAW_OK;
        r->at++;
    }
}

static thaw_status defined_before(const reader *r, const key_part *part, const toml_value *v)
{
    quoted q;

    return bad(r, part->at, "%s is already defined on line %d; join the two", quote(&q, part->name),
               v->key ? v->key_line : v->line);
}

/* From a table along all but the last part of a dotted key. */
static thaw_status enter_dotted(toml_value **table, reader *r)
{
    for (int i = 0; i + 1 < r->n_parts; i++) {
        const key_part *const part = &r->part[i];
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
static thaw_status enter_header(toml_value **table, reader *r)
{
    *table = r->doc->root;
    for (int i = 0; i + 1 < r->n_parts; i++) {
        const key_part *const part = &r->part[i];
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
static thaw_status begin_value(reader *r, toml_value *v)
{
    const place at = here(r);
    const int c = peek(r, 0);

    v->line = at.line;
    v->column = at.column;
    if (c == '"' || c == '\'') {
        v->type = TOML_STRING;
        return read_string(r, &v->string, &v->length, true);
    }
    if (c != '[' && c != '{')
        return read_word(r, v);
    v->type = c == '[' ? TOML_ARRAY : TOML_TABLE;
    v->made = MADE_WHOLE;
    r->at++;
    r->open[r->n_open].value = v;
    r->open[r->n_open++].after_item = false;
    return THAW_OK;
}

static thaw_status step_array(reader *r, toml_value *array)
{
    bool *const after_item = &r->open[r->n_open - 1].after_item;
    toml_value *item;

    THAW_CHECK(skip_lines(r));
    if (peek(r, 0) == ']') {
        r->at++;
        r->n_open--;
        return THAW_OK;
    }
    if (peek(r, 0) < 0)
        return bad(r, (place){array->line, array->column},
                   "the array that begins here is not closed");
    if (*after_item) {
        if (peek(r, 0) != ',')
            return bad(r, here(r), "expected ',' or ']' in an array");
        r->at++;
        *after_item = false;
        return THAW_OK;
    }
    THAW_CHECK(append(&item, r, array, NULL, here(r)));
    *after_item = true;
    return begin_value(r, item);
}

/* key = value, into a table; the value may be left open. */
static thaw_status read_pair(reader *r, toml_value *table)
{
    const key_part *part;
    toml_value *v;

    THAW_CHECK(read_key(r));
    THAW_CHECK(enter_dotted(&table, r));
    part = &r->part[r->n_parts - 1];
    v = find(table, part->name, part->length);
    if (v)
        return defined_before(r, part, v);
    if (peek(r, 0) != '=')
        return bad(r, here(r), "expected '=' behind a key");
    r->at++;
    skip_blanks(r);
    THAW_CHECK(append(&v, r, table, part, here(r)));
    return begin_value(r, v);
}

static thaw_status step_inline(reader *r, toml_value *table)
{
    bool *const after_item = &r->open[r->n_open - 1].after_item;

    skip_blanks(r);
    if (peek(r, 0) == '}' && (*after_item || table->n == 0)) {
        r->at++;
        r->n_open--;
        return THAW_OK;
    }
    if (peek(r, 0) < 0 || newline_length(r) > 0 || peek(r, 0) == '#')
        return bad(r, (place){table->line, table->column},
                   "the inline table that begins here is not closed on its line; for more lines "
                   "use a [table]");
    if (peek(r, 0) == '}')
        return bad(r, here(r), "no comma may stand before '}'; remove it");
    if (*after_item) {
        if (peek(r, 0) != ',')
            return bad(r, here(r), "expected ',' or '}' in an inline table");
        r->at++;
        *after_item = false;
        skip_blanks(r);
        return THAW_OK;
    }
    *after_item = true;
    return read_pair(r, table);
}

/* Close every container that is open. */
static thaw_status finish_values(reader *r)
{
    while (r->n_open > 0) {
        toml_value *const top = r->open[r->n_open - 1].value;

        THAW_CHECK(top->type == TOML_ARRAY ? step_array(r, top) : step_inline(r, top));
    }
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * documents */

static thaw_status define_table(reader *r, toml_value *parent, const key_part *part)
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

static thaw_status define_element(reader *r, toml_value *parent, const key_part *part)
{
    toml_value *v = find(parent, part->name, part->length);

    if (!v)
        THAW_CHECK(append_container(&v, r, parent, part, part->at, TOML_ARRAY, MADE_TABLES));
    else if (v->type != TOML_ARRAY || v->made != MADE_TABLES)
        return defined_before(r, part, v);
    return append_container(&r->section, r, v, NULL, part->at, TOML_TABLE, MADE_HEADER);
}

/* [a.b] or [[a.b]] */
static thaw_status read_header(reader *r)
{
    const bool element = peek(r, 1) == '[';
    const char *const close = element ? "]]" : "]";
    toml_value *parent;
    const key_part *part;

    r->at += element ? 2 : 1;
    THAW_CHECK(read_key(r));
    if (peek(r, 0) != ']' || (element && peek(r, 1) != ']'))
        return bad(r, here(r), "expected '%s' behind the table's name", close);
    r->at += strlen(close);
    THAW_CHECK(enter_header(&parent, r));
    part = &r->part[r->n_parts - 1];
    THAW_CHECK(element ? define_element(r, parent, part) : define_table(r, parent, part));
    return end_line(r, "a table's name");
}

static thaw_status read_document(reader *r)
{
    if (peek(r, 0) == 0xEF && peek(r, 1) == 0xBB && peek(r, 2) == 0xBF)
        return bad(r, here(r), "a byte order mark stands here; save the file without one");
    r->section = r->doc->root;
    for (;;) {
        THAW_CHECK(skip_lines(r));
        if (peek(r, 0) < 0)
            return THAW_OK;
        if (peek(r, 0) == '[') {
            THAW_CHECK(read_header(r));
            continue;
        }
        THAW_CHECK(read_pair(r, r->section));
        THAW_CHECK(finish_values(r));
        THAW_CHECK(end_line(r, "a value"));
    }
}

static thaw_status start(reader *r, toml_document *doc, const char *from, size_t size,
                         const char *name)
{
    static const char nothing[] = "";

    if (size == 0)
        from = nothing;
    *r = (reader){.at = from,
                  .end = from + size,
                  .counted = from,
                  .line = 1,
                  .column = 1,
                  .name = name,
                  .doc = doc};
    if (size > MAX_BYTES)
        return bad(r, here(r), "the document is larger than %d MiB", MAX_BYTES >> 20);
    return check_utf8(r);
}

thaw_status toml_parse(toml_document **out, const char *from, size_t size, const char *name)
{
    thaw_status status = THAW_OK;
    toml_document *doc = thaw__new(1, sizeof *doc);
    reader r = {.name = name};

    if (!doc)
        return no_memory(&r);
    THAW_TRY(region_create(&doc->region));
    doc->root = region_alloc(doc->region, 1, sizeof *doc->root);
    if (!doc->root) {
        status = no_memory(&r);
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
    reader r = {.name = name};

    THAW_TRY(start(&r, d, source, size, name));
    skip_blanks(&r);
    THAW_TRY(append(&item, &r, &made, NULL, here(&r)));
    THAW_TRY(begin_value(&r, item));
    THAW_TRY(finish_values(&r));
    skip_blanks(&r);
    if (peek(&r, 0) >= 0) {
        status = bad(&r, here(&r), "something follows the value; remove it");
        goto done;
    }
    if (!v) {
        key_part part = {.length = strlen(key)};

        part.name = region_strdup(d->region, key);
        if (!part.name) {
            status = no_memory(&r);
            goto done;
        }
        THAW_TRY(append(&v, &r, table, &part, (place){0, 0}));
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
