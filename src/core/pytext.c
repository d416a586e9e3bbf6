/*
 * pytext.c - texts exactly as Python writes them: repr() and json.dumps(), for messages and files
 * that must be equal byte for byte.
 */
#include "core/core.h"

#include <string.h>

/* str.isprintable(): all but control, format, private, unassigned, and separators other than ' '.
 * Unicode's tables are PCRE2's. */
static bool is_printable(const name_pattern *others, const char *s, size_t n)
{
    char one[5] = "";
    bool yes = false;

    if (n == 1)
        return *s >= 0x20 && *s < 0x7F;
    memcpy(one, s, n);
    return pattern_match(&yes, others, one) == THAW_OK && yes;
}

static void add_escape(text *t, uint32_t c)
{
    text_addf(t, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
}

void text_add_python(text *t, const char *s)
{
    name_pattern *others = NULL;
    const char quote = strchr(s, '\'') && !strchr(s, '"') ? '"' : '\'';

    if (pattern_compile_engine(&others, "[^\\p{C}\\p{Z}]") != THAW_OK) {
        t->failed = true;
        return;
    }
    text_addf(t, "%c", quote);
    for (const char *next = s; *s; s = next) {
        const uint32_t c = utf8_next(&next);
        const char *named = c < 0x80 ? strchr("\n\r\t\\", (int)c) : NULL;

        if (named)
            text_addf(t, "\\%c", "nrt\\"[strchr("\n\r\t\\", (int)c) - "\n\r\t\\"]);
        else if (c == (uint32_t)quote)
            text_addf(t, "\\%c", quote);
        else if (is_printable(others, s, (size_t)(next - s)))
            text_add_n(t, s, (size_t)(next - s));
        else
            add_escape(t, c);
    }
    text_addf(t, "%c", quote);
    pattern_destroy(others);
}

void text_add_ascii_json(text *t, const char *s)
{
    static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";

    text_add(t, "\"");
    while (*s) {
        const uint32_t c = utf8_next(&s);
        const char *named = c < 0x80 ? strchr(from, (int)c) : NULL;

        if (named)
            text_addf(t, "\\%c", to[named - from]);
        else if (c >= 0x10000)
            text_addf(t, "\\u%04x\\u%04x", (unsigned)(0xD800 + ((c - 0x10000) >> 10)),
                      (unsigned)(0xDC00 + ((c - 0x10000) & 0x3FF)));
        else if (c < 0x20 || c > 0x7F)
            text_addf(t, "\\u%04x", (unsigned)c);
        else
            text_addf(t, "%c", (char)c);
    }
    text_add(t, "\"");
}

/* Floats as Python prints them: an exponent only below 1e-4 and from 1e16 on, and always a point or
 * an exponent. `shortest` is the shortest text that reads back, which may choose otherwise. */
static void add_float(text *t, const char *shortest)
{
    const char *e = strchr(shortest, 'e');
    int64_t exponent = 0;
    char digits[32];
    int n = 0, point;

    if (!e || !parse_int64(&exponent, e + 1 + (e[1] == '+')) || exponent < -4 || exponent >= 16) {
        text_add(t, shortest);
        text_add(t, strpbrk(shortest, ".en") ? "" : ".0");
        return;
    }
    text_add(t, *shortest == '-' ? "-" : "");
    for (const char *c = shortest; c < e && n < 30; c++)
        if (*c >= '0' && *c <= '9')
            digits[n++] = *c;
    point = (int)exponent + 1;
    text_add(t, point <= 0 ? "0." : "");
    for (int i = point; i < 0; i++)
        text_add(t, "0");
    for (int i = 0; i < n || i < point; i++)
        text_addf(t, "%s%c", i > 0 && i == point ? "." : "", i < n ? digits[i] : '0');
    text_add(t, point >= n ? ".0" : "");
}

static void add_number(text *t, const char *number)
{
    static const char *const names[][2] = {
        {"NaN", "nan"}, {"Infinity", "inf"}, {"-Infinity", "-inf"}};
    text shortest = TEXT_INIT;
    double value;

    for (size_t i = 0; i < THAW_COUNT(names); i++)
        if (!strcmp(number, names[i][0])) {
            text_add(t, names[i][1]);
            return;
        }
    if (!strpbrk(number, ".eE") || !parse_double(&value, number)) {
        text_add(t, number);
        return;
    }
    text_add_double(&shortest, value);
    t->failed = t->failed || shortest.failed;
    if (!shortest.failed)
        add_float(t, shortest.data);
    text_done(&shortest);
}

static void add_members(text *t, const json_node *value)
{
    for (const json_node *v = value->first; v; v = v->next) {
        if (value->kind == JSON_IS_OBJECT) {
            text_add_python(t, v->key);
            text_add(t, ": ");
        }
        text_add_python_value(t, v);
        text_add(t, v->next ? ", " : "");
    }
}

void text_add_python_value(text *t, const json_node *value)
{
    switch (value->kind) {
    case JSON_IS_NULL:
        text_add(t, "None");
        return;
    case JSON_IS_BOOL:
        text_add(t, value->truth ? "True" : "False");
        return;
    case JSON_IS_NUMBER:
        add_number(t, value->text);
        return;
    case JSON_IS_TEXT:
        text_add_python(t, value->text);
        return;
    case JSON_IS_LIST:
    case JSON_IS_OBJECT:
        text_add(t, value->kind == JSON_IS_LIST ? "[" : "{");
        add_members(t, value);
        text_add(t, value->kind == JSON_IS_LIST ? "]" : "}");
        return;
    }
}
