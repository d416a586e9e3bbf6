/*
 * toml.h - documents in TOML 1.0: reading (toml.c, toml_scan.c, toml_word.c, toml_utf8.c), editing,
 * and writing values back (toml_print.c). Knows nothing of recipes.
 */
#ifndef THAW_TRAIN_TOML_H
#define THAW_TRAIN_TOML_H

#include "base/base.h"

/*
 * A TOML 1.0 document: a tree of values that keeps source order and the line and column of each key
 * and value. Read with an explicit stack; depth at most 64. No recursion, no locale.
 */
typedef enum toml_type {
    TOML_STRING,
    TOML_INTEGER,
    TOML_FLOAT,
    TOML_BOOLEAN,
    TOML_DATETIME,
    TOML_ARRAY,
    TOML_TABLE
} toml_type;

typedef struct toml_value {
    toml_type type;
    const char
        *key; /* in a table: its key; else NULL. NUL-terminated; key_length counts NULs in it */
    size_t key_length;
    int key_line, key_column; /* of the key, from 1; columns count characters */
    int line, column;         /* of the value, from 1 */
    const char *origin;       /* NULL: the document; else where the value came from instead */
    const char *string;       /* TOML_STRING (NUL-terminated; length may differ when it holds NUL),
                                 TOML_DATETIME: its text */
    size_t length;
    int64_t integer;
    double real;
    bool boolean;
    struct toml_value *first; /* TOML_ARRAY, TOML_TABLE: members in source order */
    struct toml_value *next;
    size_t n;                /* members */
    struct toml_value *last; /* the reader's own, as the two below: last member, */
    uint8_t made, depth;     /* how a table or array came to be, nesting from the root */
} toml_value;

typedef struct toml_document {
    thaw_region *region;
    toml_value *root;
} toml_document;

/* `name` stands in messages: "name:3:7: what; what to do". size bytes of UTF-8. Status
 * THAW_E_RECIPE. */
thaw_status toml_parse(toml_document **out, const char *text, size_t size,
                       const char *name) THAW_MUST_USE;
void toml_destroy(toml_document *d);
const toml_value *toml_get(const toml_value *table, const char *key); /* NULL: none */

/* toml_utf8.c: bytes of the sequence at p, 0 when it is malformed; a character as UTF-8. */
size_t toml_utf8_length(const unsigned char *p, size_t left);
void toml_add_utf8(text *t, uint32_t c);

/* toml_word.c: a value without quotes (a date leaves its text to the caller); word is scratch.
 * NULL, or what is wrong with it. */
const char *toml_word(toml_value *v, char *word) THAW_MUST_USE;

/*
 * Read one value from text and put it into a table of d under a key: in the place of the value that
 * was there, which it replaces, or at the end. Errors as toml_parse; the table is unchanged then.
 */
thaw_status toml_put(toml_value **out, toml_document *d, toml_value *table, const char *key,
                     const char *source, size_t size, const char *name) THAW_MUST_USE;

/* toml_print.c: a string, quoted and escaped; the key of v, quoted where it must be; a value on one
 * line. */
void toml_add_string(text *out, const char *s, size_t n);
void toml_add_key(text *out, const toml_value *v);
void toml_add_value(text *out, const toml_value *v);

#endif
