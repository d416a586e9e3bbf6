/*
 * toml_reader.h - a TOML document while it is read: private to toml.c and toml_scan.c.
 */
#ifndef THAW_TRAIN_TOML_READER_H
#define THAW_TRAIN_TOML_READER_H

#include "train/toml.h"

enum { TOML_DEPTH = 64 };

typedef struct toml_place {
    int line, column;
} toml_place;

typedef struct toml_key_part {
    const char *name;
    size_t length;
    toml_place at;
} toml_key_part;

typedef struct toml_reader {
    const char *at, *end;
    const char *counted; /* `line` and `column` are those of this byte, at or before `at` */
    int line, column;
    const char *name; /* of the document */
    toml_document *doc;
    text scratch; /* the string or number being read */
    toml_key_part part[TOML_DEPTH];
    int n_parts;
    size_t n_keys;
    toml_value *section; /* table that key/value lines go to */
    struct {
        toml_value *value;
        bool after_item; /* a comma or the closing bracket comes next */
    } open[TOML_DEPTH + 1];
    int n_open;
} toml_reader;

/*
 * Positions and failing. toml_bad: "name:line:column: what; what to do". Line and column of the
 * next byte are counted once for each byte, so long lines stay cheap.
 */
toml_place toml_here(toml_reader *r);
thaw_status toml_bad(const toml_reader *r, toml_place at, const char *format, ...)
    THAW_PRINTF(3, 4) THAW_MUST_USE;
thaw_status toml_no_memory(const toml_reader *r) THAW_MUST_USE;

/* Byte i from here, or -1 at the end. */
static inline int toml_peek(const toml_reader *r, size_t i)
{
    return i < (size_t)(r->end - r->at) ? (unsigned char)r->at[i] : -1;
}

bool toml_is_bare(int c); /* may stand in a key without quotes */

/* Length of the newline that comes next; 0: none does. Over it, blanks, or all of both and
 * comments. */
size_t toml_newline_length(const toml_reader *r);
bool toml_skip_newline(toml_reader *r);
void toml_skip_blanks(toml_reader *r);
thaw_status toml_skip_lines(toml_reader *r) THAW_MUST_USE;

/* Nothing but a comment may follow `after` on this line. */
thaw_status toml_end_line(toml_reader *r, const char *after) THAW_MUST_USE;

/* The whole document is checked first, so that nothing later has to. */
thaw_status toml_check_utf8(const toml_reader *start) THAW_MUST_USE;

/* A string, of a kind that may hold newlines or not, whose opening quote comes next; a value
 * without quotes. toml_keep_string: what is in scratch, in the document's memory. */
thaw_status toml_read_string(toml_reader *r, const char **out, size_t *length,
                             bool may_be_multi) THAW_MUST_USE;
thaw_status toml_read_word(toml_reader *r, toml_value *v) THAW_MUST_USE;
thaw_status toml_keep_string(toml_reader *r, const char **out, size_t *length) THAW_MUST_USE;

#endif
