/*
 * regex.c - Python regular expressions in PCRE2's words.
 *
 * A recursive descent over the grammar of CPython 3.11's re module (Lib/re/_parser.py) that emits
 * each item as one self-contained PCRE2 unit with every character class spelled out, so that no
 * option, locale or library version can change its meaning. Widths are computed on the way, because
 * Python refuses look-behind of varying width. Knows nothing of layers; sets and characters are in
 * charset.c.
 */
#include "core/regex.h"
#include "core/core.h"

#include <string.h>

#define REPEAT_MAX UINT64_C(4294967295) /* Python's MAXREPEAT */
#define PCRE2_MOST 65535u               /* longest subject and largest repeat, see pattern.c */

thaw_status regex_fail(const regex_parser *p, thaw_status code, const char *what)
{
    return thaw_fail(code, "pattern '%s': %s, at character %d", p->pattern, what,
                     THAW_MIN(p->at, p->n) + 1);
}

/* ---- tokens: one character, or a backslash and one character */

static thaw_status fetch(regex_parser *p)
{
    p->next = (regex_token){.end = p->at >= p->n};
    if (p->next.end)
        return THAW_OK;
    p->next.c = p->code[p->at];
    p->next.size = 1;
    if (p->next.c == '\\') {
        if (p->at + 1 >= p->n)
            return regex_fail(p, THAW_E_PATTERN, "a backslash at the end");
        p->next.escaped = true;
        p->next.c = p->code[p->at + 1];
        p->next.size = 2;
    }
    return THAW_OK;
}

thaw_status regex_advance(regex_token *out, regex_parser *p)
{
    *out = p->next;
    p->at += p->next.size;
    return fetch(p);
}

bool regex_at(const regex_parser *p, char c)
{
    return !p->next.end && !p->next.escaped && p->next.c == (uint32_t)c;
}

/* *hit: whether c was next; it is consumed then. */
thaw_status regex_accept(bool *hit, regex_parser *p, char c)
{
    regex_token t;

    *hit = regex_at(p, c);
    return *hit ? regex_advance(&t, p) : THAW_OK;
}

bool regex_next_in(const regex_parser *p, const char *set)
{
    return !p->next.end && !p->next.escaped && p->next.c < 0x80 && p->next.c &&
           strchr(set, (int)p->next.c);
}

/* ---- what has been parsed */

static uint64_t cap(uint64_t n, uint64_t most)
{
    return n < most ? n : most;
}

static void put_item(regex_sequence *s, regex_kind kind, uint64_t low, uint64_t high)
{
    s->low = cap(s->low + low, REPEAT_MAX - 1);
    s->high = cap(s->high + high, REPEAT_MAX);
    s->last = kind;
    s->last_low = low;
    s->last_high = high;
}

/* A literal prefix of every match lets most names be refused without the engine. */
static void put_literal(regex_parser *p, regex_sequence *s, uint32_t c)
{
    regex_put_literal(p, c);
    p->prefix_before = p->prefix->length;
    if (p->prefix_open && !(p->flags & REGEX_IGNORECASE))
        utf8_put(p->prefix, c);
    else
        p->prefix_open = false;
    put_item(s, REGEX_LITERAL, 1, 1);
}

void regex_put_other(regex_parser *p, regex_sequence *s, regex_kind kind, uint64_t low,
                     uint64_t high)
{
    p->prefix_open = false;
    put_item(s, kind, low, high);
}

/* ---- escapes outside sets */

/* \1 to \99 are groups, \0, \01 and \123 octal. */
static thaw_status parse_digits(regex_parser *p, regex_sequence *s, uint32_t first)
{
    regex_token t;
    uint32_t second;

    if (first == '0') {
        uint32_t value = 0;

        THAW_CHECK(regex_octal(&value, p, 2));
        put_literal(p, s, value);
        return THAW_OK;
    }
    if (!regex_next_in(p, "0123456789"))
        return regex_put_reference(p, s, (int)(first - '0'));
    THAW_CHECK(regex_advance(&t, p));
    second = t.c;
    if (first < '8' && second < '8' && regex_next_in(p, "01234567")) {
        THAW_CHECK(regex_advance(&t, p));
        const uint32_t value = (first - '0') * 64 + (second - '0') * 8 + (t.c - '0');

        if (value > 0377)
            return regex_fail(p, THAW_E_PATTERN, "an octal escape above \\377");
        put_literal(p, s, value);
        return THAW_OK;
    }
    return regex_put_reference(p, s, (int)((first - '0') * 10 + (second - '0')));
}

static thaw_status parse_escape(regex_parser *p, regex_sequence *s, uint32_t c)
{
    static const struct {
        char letter;
        const char *unicode, *ascii;
    } at[] = {
        {'A', "\\A", "\\A"},
        {'Z', "\\z", "\\z"},
        {'b', "(?:(?<=" REGEX_WORD ")(?!" REGEX_WORD ")|(?<!" REGEX_WORD ")(?=" REGEX_WORD "))",
         "(?:(?<=" REGEX_WORD_ASCII ")(?!" REGEX_WORD_ASCII ")|(?<!" REGEX_WORD_ASCII
         ")(?=" REGEX_WORD_ASCII "))"},
        /* not in an empty text, up to Python 3.13 */
        {'B',
         "(?:(?!\\A\\z)(?:(?<=" REGEX_WORD ")(?=" REGEX_WORD ")|(?<!" REGEX_WORD ")(?!" REGEX_WORD
         ")))",
         "(?:(?!\\A\\z)(?:(?<=" REGEX_WORD_ASCII ")(?=" REGEX_WORD_ASCII ")|(?<!" REGEX_WORD_ASCII
         ")(?!" REGEX_WORD_ASCII ")))"},
    };
    regex_set set = {0};

    for (size_t i = 0; i < THAW_COUNT(at); i++)
        if (c == (uint32_t)at[i].letter) {
            text_add(p->out, p->flags & REGEX_ASCII ? at[i].ascii : at[i].unicode);
            regex_put_other(p, s, REGEX_AT, 0, 0);
            return THAW_OK;
        }
    if (c >= '0' && c <= '9')
        return parse_digits(p, s, c);
    THAW_CHECK(regex_escape(&set, p, c));
    if (set.category) {
        THAW_CHECK(regex_put_set(p, &set, false));
        regex_put_other(p, s, REGEX_OTHER, 1, 1);
    } else {
        put_literal(p, s, set.literal);
    }
    return THAW_OK;
}

/* ---- repeats */

/* Number of a "{m,n}"; *there false and the position unchanged when the brace is a literal. */
static thaw_status parse_counts(bool *there, uint64_t *low, uint64_t *high, regex_parser *p)
{
    const int here = p->at;
    uint64_t number[2] = {0, 0};
    int digits[2] = {0, 0};
    bool comma = false, closed;
    regex_token t;

    for (int i = 0; i < 2; i++) {
        while (regex_next_in(p, "0123456789")) {
            THAW_CHECK(regex_advance(&t, p));
            number[i] = cap(number[i] * 10 + (t.c - '0'), REPEAT_MAX);
            digits[i]++;
        }
        if (i == 0)
            THAW_CHECK(regex_accept(&comma, p, ','));
        if (!comma)
            break;
    }
    THAW_CHECK(regex_accept(&closed, p, '}'));
    *there = closed && (comma || digits[0]);
    if (!*there) {
        p->at = here;
        return fetch(p);
    }
    *low = digits[0] ? number[0] : 0;
    *high = !comma ? *low : digits[1] ? number[1] : REPEAT_MAX;
    if ((digits[0] && *low >= REPEAT_MAX) || (digits[1] && *high >= REPEAT_MAX))
        return regex_fail(p, THAW_E_PATTERN, "the repetition number is too large");
    if (*high < *low)
        return regex_fail(p, THAW_E_PATTERN, "min repeat greater than max repeat");
    return THAW_OK;
}

/* Counts past PCRE2's largest mean the same as it, since no subject is longer. */
static void put_counts(text *out, uint64_t low, uint64_t high)
{
    const unsigned least = (unsigned)cap(low, PCRE2_MOST);

    if (high >= PCRE2_MOST)
        text_addf(out, "{%u,}", least);
    else if (low == high)
        text_addf(out, "{%u}", least);
    else
        text_addf(out, "{%u,%u}", least, (unsigned)high);
}

static thaw_status parse_repeat(regex_parser *p, regex_sequence *s, uint32_t c)
{
    uint64_t low = c == '+', high = c == '?' ? 1 : REPEAT_MAX;
    bool hit;

    if (c == '{') {
        THAW_CHECK(parse_counts(&hit, &low, &high, p));
        if (!hit) {
            put_literal(p, s, '{');
            return THAW_OK;
        }
    }
    if (s->last == REGEX_NOTHING || s->last == REGEX_AT)
        return regex_fail(p, THAW_E_PATTERN, "nothing to repeat");
    if (s->last == REGEX_REPEAT)
        return regex_fail(p, THAW_E_PATTERN, "multiple repeat");
    put_counts(p->out, low, high);
    THAW_CHECK(regex_accept(&hit, p, '?'));
    if (hit) {
        text_add(p->out, "?");
    } else {
        THAW_CHECK(regex_accept(&hit, p, '+'));
        if (hit)
            text_add(p->out, "+");
    }
    if (p->prefix_open && s->last == REGEX_LITERAL && low == 0)
        p->prefix->length = p->prefix_before;
    p->prefix_open = false;
    s->low = cap(s->low - s->last_low + s->last_low * low, REPEAT_MAX - 1);
    s->high = cap(s->high - s->last_high + cap(s->last_high, REPEAT_MAX) * high, REPEAT_MAX);
    s->last = REGEX_REPEAT;
    return THAW_OK;
}

/* ---- sequences and alternatives */

static thaw_status skip_line(regex_parser *p)
{
    regex_token t = {0};

    while (!p->next.end && (t.escaped || t.c != '\n'))
        THAW_CHECK(regex_advance(&t, p));
    return THAW_OK;
}

static void put_at(regex_parser *p, regex_sequence *s, const char *one, const char *many)
{
    text_add(p->out, p->flags & REGEX_MULTILINE ? many : one);
    put_item(s, REGEX_AT, 0, 0);
}

static thaw_status parse_special(regex_parser *p, regex_sequence *s, uint32_t c, bool *verbose,
                                 bool first)
{
    switch (c) {
    case '[':
        THAW_CHECK(regex_parse_set(p));
        regex_put_other(p, s, REGEX_OTHER, 1, 1);
        return THAW_OK;
    case '(':
        return regex_parenthesis(p, s, verbose, first);
    case '*':
    case '+':
    case '?':
    case '{':
        return parse_repeat(p, s, c);
    case '.':
        text_add(p->out, p->flags & REGEX_DOTALL ? "(?s:.)" : "[^\\x{a}]");
        regex_put_other(p, s, REGEX_OTHER, 1, 1);
        return THAW_OK;
    case '^':
        p->prefix_open = false;
        put_at(p, s, "\\A", "(?:\\A|(?<=\\x{a}))");
        return THAW_OK;
    case '$':
        p->prefix_open = false;
        put_at(p, s, "(?=\\x{a}?\\z)", "(?=\\x{a}|\\z)");
        return THAW_OK;
    default:
        put_literal(p, s, c);
        return THAW_OK;
    }
}

thaw_status regex_parse_sequence(regex_sequence *out, regex_parser *p, bool *verbose, bool first)
{
    regex_sequence s = {0};

    while (!p->next.end && !regex_at(p, '|') && !regex_at(p, ')')) {
        regex_token t;

        THAW_CHECK(regex_advance(&t, p));
        if (*verbose && !t.escaped && t.c && t.c < 0x80 && strchr(" \t\n\r\v\f", (int)t.c))
            continue;
        if (*verbose && !t.escaped && t.c == '#') {
            THAW_CHECK(skip_line(p));
            continue;
        }
        if (t.escaped)
            THAW_CHECK(parse_escape(p, &s, t.c));
        else
            THAW_CHECK(parse_special(p, &s, t.c, verbose, first));
    }
    *out = s;
    return THAW_OK;
}

thaw_status regex_alternatives(regex_sequence *out, regex_parser *p, bool verbose)
{
    const bool top = p->nested == 0;
    regex_sequence all = {.low = REPEAT_MAX - 1}, one;
    bool more = true, first = top;

    if (++p->nested > REGEX_NEST_MAX)
        return regex_fail(p, THAW_E_LIMIT, "nested too deep");
    while (more) {
        THAW_CHECK(regex_parse_sequence(&one, p, &verbose, first));
        all.low = THAW_MIN(all.low, one.low);
        all.high = THAW_MAX(all.high, one.high);
        THAW_CHECK(regex_accept(&more, p, '|'));
        if (more) {
            text_add(p->out, "|");
            p->prefix_open = false;
            if (top) {
                p->prefix->length = 0;
                verbose = p->flags & REGEX_VERBOSE;
            }
        }
        first = false;
    }
    p->nested--;
    *out = all;
    return THAW_OK;
}

static thaw_status decode(regex_parser *p, const char *pattern)
{
    const size_t bytes = strlen(pattern);
    const char *s = pattern;

    if (bytes > 10000)
        return thaw_fail(THAW_E_LIMIT, "a pattern of %zu bytes is too long; 10000 is the most",
                         bytes);
    if (!utf8_valid(pattern))
        return thaw_fail(THAW_E_PATTERN, "pattern '%s' is not valid UTF-8", pattern);
    p->code = region_alloc(p->region, bytes + 1, sizeof(*p->code));
    if (!p->code)
        return thaw_fail(THAW_E_NOMEM, "out of memory for pattern '%s'", pattern);
    while (*s)
        p->code[p->n++] = utf8_next(&s);
    return THAW_OK;
}

thaw_status regex_translate(text *out, text *prefix, bool *literal, const char *pattern)
{
    thaw_status status = THAW_OK;
    regex_sequence whole;
    regex_parser p = {.pattern = pattern,
                      .out = out,
                      .prefix = prefix,
                      .prefix_open = true,
                      .look_behind_groups = -1};

    THAW_TRY(region_create(&p.region));
    THAW_TRY(decode(&p, pattern));
    THAW_TRY(fetch(&p));
    THAW_TRY(regex_alternatives(&whole, &p, false));
    if (!p.next.end)
        status = regex_fail(&p, THAW_E_PATTERN, "an unbalanced parenthesis");
    else if (p.largest_condition > p.n_groups)
        status = regex_fail(&p, THAW_E_PATTERN, "a condition on a group that is not there");
    else if (out->failed || prefix->failed)
        status = thaw_fail(THAW_E_NOMEM, "out of memory for pattern '%s'", pattern);
    if (prefix->data)
        prefix->data[prefix->length] = '\0';
    *literal = p.prefix_open;
done:
    name_map_done(&p.names);
    thaw__free(p.group);
    region_destroy(p.region);
    return status;
}
