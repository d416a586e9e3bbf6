/*
 * regex.h - what the parts of the regular-expression translator share: regex.c (grammar),
 * regex_group.c (parentheses) and charset.c (characters and sets). For nobody else.
 */
#ifndef THAW_CORE_REGEX_H
#define THAW_CORE_REGEX_H

#include "core/core.h"

enum {
    REGEX_IGNORECASE = 1,
    REGEX_MULTILINE = 2,
    REGEX_DOTALL = 4,
    REGEX_VERBOSE = 8,
    REGEX_ASCII = 16,
    REGEX_UNICODE = 32,
    REGEX_LOCALE = 64,
    REGEX_TEMPLATE = 128
};

/* Python's \w: letters, everything numeric, and the underscore. */
#define REGEX_WORD       "[\\p{L}\\p{N}_]"
#define REGEX_WORD_ASCII "[0-9A-Z_a-z]"

#define REGEX_NEST_MAX 150

typedef struct regex_token {
    uint32_t c;
    bool escaped; /* c stood behind a backslash */
    bool end;
    int size; /* characters of the pattern */
} regex_token;

/* What the last item of a sequence was, as far as a repeat after it cares. */
typedef enum regex_kind {
    REGEX_NOTHING,
    REGEX_AT, /* a position: cannot be repeated */
    REGEX_LITERAL,
    REGEX_OTHER,
    REGEX_REPEAT
} regex_kind;

/* Fewest and most characters a part can match, as Python counts them. */
typedef struct regex_sequence {
    uint64_t low, high;
    uint64_t last_low, last_high;
    regex_kind last;
} regex_sequence;

typedef struct regex_group {
    bool closed;
    uint64_t low, high;
} regex_group;

typedef struct regex_parser {
    const char *pattern;
    thaw_region *region;
    uint32_t *code; /* [n] the pattern's characters */
    int n, at;
    regex_token next;
    text *out;
    text *prefix;         /* what every match begins with */
    bool prefix_open;     /* the next literal still belongs to it */
    size_t prefix_before; /* its length before the last literal */
    unsigned flags;
    int nested;
    regex_group *group; /* from 1 */
    size_t group_capacity;
    int n_groups;
    name_map names;
    int look_behind_groups; /* first group that stands inside the look-behind; -1: outside of one */
    int largest_condition;
} regex_parser;

/* One member of a set, and a whole set. */
typedef struct regex_set {
    char category; /* d D s S w W; 0: a literal */
    uint32_t literal;
} regex_set;

thaw_status regex_fail(const regex_parser *p, thaw_status code, const char *what) THAW_MUST_USE;
thaw_status regex_advance(regex_token *out, regex_parser *p) THAW_MUST_USE;
bool regex_at(const regex_parser *p, char c);
thaw_status regex_accept(bool *hit, regex_parser *p, char c) THAW_MUST_USE;

/* Whether the next token is one of these plain characters. */
bool regex_next_in(const regex_parser *p, const char *set);

/* An item other than a literal has been written, of that least and greatest width. */
void regex_put_other(regex_parser *p, regex_sequence *s, regex_kind kind, uint64_t low,
                     uint64_t high);
thaw_status regex_parse_sequence(regex_sequence *out, regex_parser *p, bool *verbose,
                                 bool first) THAW_MUST_USE;
thaw_status regex_alternatives(regex_sequence *out, regex_parser *p, bool verbose) THAW_MUST_USE;

/* regex_group.c */
thaw_status regex_put_reference(regex_parser *p, regex_sequence *s, int g) THAW_MUST_USE;
thaw_status regex_parenthesis(regex_parser *p, regex_sequence *s, bool *verbose,
                              bool first) THAW_MUST_USE;

/* charset.c */
thaw_status regex_octal(uint32_t *value, regex_parser *p, int most) THAW_MUST_USE;
thaw_status regex_escape(regex_set *out, regex_parser *p, uint32_t c) THAW_MUST_USE;
thaw_status regex_put_set(regex_parser *p, const regex_set *one, bool negate) THAW_MUST_USE;
thaw_status regex_parse_set(regex_parser *p) THAW_MUST_USE;
void regex_put_literal(regex_parser *p, uint32_t c);

/* Code point of a Unicode name such as "GREEK SMALL LETTER ALPHA"; false when it is not known here.
 */
bool regex_char_name(uint32_t *out, const char *name);

#endif
