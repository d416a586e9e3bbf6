/*
 * jsonread.c - a small reader of JSON, so that libthaw-core can read phase states and metadata
 * without another library.
 *
 * Accepts what Python's json module accepts, NaN and Infinity included, to a fixed depth; what it
 * makes lives in a region and is dropped as a whole.
 */
#include "core/core.h"

#include <string.h>

#define DEPTH_MOST 64

typedef struct reader {
    const char *source, *at;
    thaw_region *region;
    int depth;
} reader;

static thaw_status fail_here(const reader *r, const char *what)
{
    int line = 1, column = 1;

    for (const char *c = r->source; c < r->at; c++) {
        column = *c == '\n' ? 1 : column + 1;
        line += *c == '\n';
    }
    return thaw_fail(THAW_E_DATA, "not JSON: %s at line %d column %d", what, line, column);
}

static void skip_blank(reader *r)
{
    r->at += strspn(r->at, " \t\r\n");
}

static bool take(reader *r, const char *word)
{
    const size_t n = strlen(word);

    if (strncmp(r->at, word, n) != 0)
        return false;
    r->at += n;
    return true;
}

/* ---- strings */

static bool read_hex(uint32_t *out, reader *r)
{
    *out = 0;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef0123456789ABCDEF";
        const char *d = *r->at ? strchr(digits, *r->at) : NULL;

        if (!d)
            return false;
        *out = *out * 16 + (uint32_t)((d - digits) % 16);
        r->at++;
    }
    return true;
}

/* Behind "\u". A lone surrogate cannot be a character of ours. */
static thaw_status read_code(text *t, reader *r)
{
    uint32_t c, low;

    if (!read_hex(&c, r))
        return fail_here(r, "a bad \\u escape");
    if (c >= 0xD800 && c < 0xDC00 && take(r, "\\u")) {
        if (!read_hex(&low, r) || low < 0xDC00 || low > 0xDFFF)
            return fail_here(r, "a lone surrogate");
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    if (!c || (c >= 0xD800 && c < 0xE000))
        return fail_here(r, c ? "a lone surrogate" : "a NUL character");
    utf8_put(t, c);
    return THAW_OK;
}

static thaw_status read_escape(text *t, reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *found;

    if (take(r, "u"))
        return read_code(t, r);
    found = *r->at ? strchr(from, *r->at) : NULL;
    if (!found)
        return fail_here(r, "a bad escape");
    text_add_n(t, to + (found - from), 1);
    r->at++;
    return THAW_OK;
}

/* Behind the opening quote. */
static thaw_status read_text(const char **out, reader *r)
{
    thaw_status status = THAW_OK;
    text t = TEXT_INIT;
    const char *own;

    while (*r->at != '"') {
        const size_t plain = strcspn(r->at, "\"\\");

        for (size_t i = 0; i < plain; i++)
            if ((unsigned char)r->at[i] < 0x20) {
                r->at += i;
                status = fail_here(r, "a control character in a text");
                goto done;
            }
        text_add_n(&t, r->at, plain);
        r->at += plain;
        if (!*r->at) {
            status = fail_here(r, "a text that does not end");
            goto done;
        }
        if (take(r, "\\"))
            THAW_TRY(read_escape(&t, r));
    }
    r->at++;
    own = region_strdup(r->region, t.data ? t.data : "");
    if (t.failed || !own)
        status = thaw_fail(THAW_E_NOMEM, "out of memory for JSON");
    else
        *out = own;
done:
    text_done(&t);
    return status;
}

/* ---- values */

static thaw_status read_value(json_node **out, reader *r);

static thaw_status read_number(json_node *v, reader *r)
{
    const char *s = r->at;
    char *own;
    size_t n;

    s += *s == '-';
    if (*s == '0')
        s++;
    else if (!(n = strspn(s, "0123456789")))
        return fail_here(r, "no value");
    else
        s += n;
    if (*s == '.' && (n = strspn(s + 1, "0123456789")))
        s += 1 + n;
    if (*s == 'e' || *s == 'E') {
        const char *e = s + 1 + (s[1] == '+' || s[1] == '-');

        n = strspn(e, "0123456789");
        s = n ? e + n : s;
    }
    own = region_alloc(r->region, (size_t)(s - r->at) + 1, 1);
    if (!own)
        return thaw_fail(THAW_E_NOMEM, "out of memory for JSON");
    memcpy(own, r->at, (size_t)(s - r->at));
    r->at = s;
    v->kind = JSON_IS_NUMBER;
    v->text = own;
    return THAW_OK;
}

/* Members of a list or object, behind its opening bracket. */
static thaw_status read_members(json_node *v, reader *r, char close)
{
    json_node **tail = &v->first;

    skip_blank(r);
    if (*r->at == close) {
        r->at++;
        return THAW_OK;
    }
    for (;;) {
        const char *key = NULL;

        skip_blank(r);
        if (close == '}') {
            if (!take(r, "\""))
                return fail_here(r, "a name in double quotes is expected");
            THAW_CHECK(read_text(&key, r));
            skip_blank(r);
            if (!take(r, ":"))
                return fail_here(r, "a colon is expected");
        }
        THAW_CHECK(read_value(tail, r));
        (*tail)->key = key;
        tail = &(*tail)->next;
        skip_blank(r);
        if (*r->at == close) {
            r->at++;
            return THAW_OK;
        }
        if (!take(r, ","))
            return fail_here(r, "a comma is expected");
    }
}

static thaw_status read_value(json_node **out, reader *r)
{
    static const struct {
        const char *word;
        json_kind kind;
        bool truth;
    } words[] = {{"null", JSON_IS_NULL, false},       {"true", JSON_IS_BOOL, true},
                 {"false", JSON_IS_BOOL, false},      {"NaN", JSON_IS_NUMBER, false},
                 {"Infinity", JSON_IS_NUMBER, false}, {"-Infinity", JSON_IS_NUMBER, false}};
    json_node *v = region_alloc(r->region, 1, sizeof(*v));

    if (!v)
        return thaw_fail(THAW_E_NOMEM, "out of memory for JSON");
    skip_blank(r);
    *out = v;
    for (size_t i = 0; i < THAW_COUNT(words); i++)
        if (take(r, words[i].word)) {
            v->kind = words[i].kind;
            v->truth = words[i].truth;
            v->text = words[i].word;
            return THAW_OK;
        }
    if (take(r, "\"")) {
        v->kind = JSON_IS_TEXT;
        return read_text(&v->text, r);
    }
    if (*r->at != '[' && *r->at != '{')
        return read_number(v, r);
    if (r->depth >= DEPTH_MOST)
        return fail_here(r, "nested too deep");
    r->depth++;
    v->kind = *r->at == '[' ? JSON_IS_LIST : JSON_IS_OBJECT;
    THAW_CHECK(read_members(v, r, *r->at++ == '[' ? ']' : '}'));
    r->depth--;
    return THAW_OK;
}

thaw_status json_read(json_node **out, thaw_region *region, const char *source)
{
    reader r = {.source = source, .at = source, .region = region};
    json_node *made;

    if (!utf8_valid(source))
        return thaw_fail(THAW_E_DATA, "not JSON: it is not valid UTF-8");
    THAW_CHECK(read_value(&made, &r));
    skip_blank(&r);
    if (*r.at)
        return fail_here(&r, "more after the value");
    *out = made;
    return THAW_OK;
}

const json_node *json_get(const json_node *object, const char *key)
{
    const json_node *found = NULL;

    if (!object || object->kind != JSON_IS_OBJECT)
        return NULL;
    for (const json_node *v = object->first; v; v = v->next)
        if (!strcmp(v->key, key))
            found = v;
    return found;
}
