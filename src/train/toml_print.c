/*
 * toml_print.c - values written as TOML. What is written reads back as the same value.
 */
#include "train/toml.h"

#include <math.h>
#include <string.h>

void toml_add_string(text *out, const char *s, size_t n)
{
    static const char plain[] = "\b\t\n\f\r\"\\", letter[] = "btnfr\"\\";

    text_add(out, "\"");
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)s[i];
        const char *const known = c != 0 ? strchr(plain, c) : NULL;

        if (known)
            text_addf(out, "\\%c", letter[known - plain]);
        else if (c < 0x20 || c == 0x7F)
            text_addf(out, "\\u%04X", c);
        else
            text_add_n(out, &s[i], 1);
    }
    text_add(out, "\"");
}

void toml_add_key(text *out, const toml_value *v)
{
    static const char bare[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

    if (v->key_length > 0 && strspn(v->key, bare) == v->key_length)
        text_add(out, v->key);
    else
        toml_add_string(out, v->key, v->key_length);
}

/* A point tells a number from an integer. */
static void add_real(text *out, double x)
{
    const size_t start = out->length;

    text_add_double(out, x);
    if (isfinite(x) && !out->failed && !strpbrk(out->data + start, ".e"))
        text_add(out, ".0");
}

static void add_members(text *out, const toml_value *v)
{
    for (const toml_value *item = v->first; item; item = item->next) {
        if (item->key) {
            toml_add_key(out, item);
            text_add(out, " = ");
        }
        toml_add_value(out, item);
        text_add(out, item->next ? ", " : "");
    }
}

void toml_add_value(text *out, const toml_value *v)
{
    switch (v->type) {
    case TOML_STRING:
        toml_add_string(out, v->string, v->length);
        break;
    case TOML_INTEGER:
        text_addf(out, "%lld", (long long)v->integer);
        break;
    case TOML_FLOAT:
        add_real(out, v->real);
        break;
    case TOML_BOOLEAN:
        text_add(out, v->boolean ? "true" : "false");
        break;
    case TOML_DATETIME:
        text_add(out, v->string);
        break;
    case TOML_ARRAY:
        text_add(out, "[");
        add_members(out, v);
        text_add(out, "]");
        break;
    case TOML_TABLE:
        text_add(out, v->n > 0 ? "{ " : "{");
        add_members(out, v);
        text_add(out, v->n > 0 ? " }" : "}");
        break;
    }
}
