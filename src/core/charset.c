/*
 * charset.c - characters, escapes and sets of Python regular expressions in PCRE2's words.
 *
 * Every set comes out as one bracket of hexadecimal ranges and Unicode properties, so that POSIX
 * classes, locale and the engine's own idea of \w cannot interfere. Python's tables are those of
 * Unicode 14; \w is letters, numbers and the underscore, \d is Nd, \s is str.isspace().
 */
#include "core/core.h"
#include "core/regex.h"

#include <string.h>

#define LAST_CHAR 0x10FFFFu

enum {
    CAT_DIGIT = 1,
    CAT_NOT_DIGIT = 2,
    CAT_WORD = 4,
    CAT_NOT_WORD = 8,
    CAT_SPACE = 16,
    CAT_NOT_SPACE = 32
};

typedef struct char_range {
    uint32_t low, high;
} char_range;

typedef struct charset {
    char_range *range;
    size_t capacity;
    int n;
    unsigned categories;
} charset;

static const char_range spaces[] = {
    {0x9, 0xD},       {0x1C, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},     {0x1680, 0x1680},
    {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}};
static const char_range ascii_spaces[] = {{0x9, 0xD}, {' ', ' '}};
static const char_range ascii_digits[] = {{'0', '9'}};
static const char_range ascii_word[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};

/* Where Python's caseless families are larger than PCRE2's. */
static const uint32_t families[][4] = {
    {'i', 'I', 0x130, 0x131}, {0x390, 0x1FD3}, {0x3B0, 0x1FE3}, {0xFB05, 0xFB06}};

static thaw_status add_range(charset *set, uint32_t low, uint32_t high)
{
    THAW_CHECK(thaw__reserve(&set->range, &set->capacity, (size_t)set->n + 1, sizeof(*set->range)));
    set->range[set->n++] = (char_range){low, high};
    return THAW_OK;
}

static thaw_status add_ranges(charset *set, const char_range *range, size_t n)
{
    for (size_t i = 0; i < n; i++)
        THAW_CHECK(add_range(set, range[i].low, range[i].high));
    return THAW_OK;
}

static thaw_status add_complement(charset *set, const char_range *range, size_t n)
{
    uint32_t from = 0;

    for (size_t i = 0; i < n; i++) {
        if (range[i].low > from)
            THAW_CHECK(add_range(set, from, range[i].low - 1));
        from = range[i].high + 1;
    }
    return add_range(set, from, LAST_CHAR);
}

/* ---- reading */

static bool hexadecimal(uint32_t *digit, uint32_t c)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    const char *at = c && c < 0x80 ? strchr(digits, (int)c) : NULL;

    if (!at)
        return false;
    *digit = (uint32_t)(at - digits);
    if (*digit > 15)
        *digit -= 6;
    return true;
}

static thaw_status read_hex(uint32_t *value, regex_parser *p, int digits)
{
    uint64_t v = 0;

    for (int i = 0; i < digits; i++) {
        regex_token t;
        uint32_t digit;

        if (p->next.end || p->next.escaped || !hexadecimal(&digit, p->next.c))
            return regex_fail(p, THAW_E_PATTERN, "an incomplete escape");
        v = v * 16 + digit;
        THAW_CHECK(regex_advance(&t, p));
    }
    if (v > LAST_CHAR)
        return regex_fail(p, THAW_E_PATTERN, "an escape outside Unicode");
    if (v >= 0xD800 && v < 0xE000)
        return regex_fail(p, THAW_E_SUPPORT, "surrogates are not supported");
    *value = (uint32_t)v;
    return THAW_OK;
}

/* Up to `most` more octal digits behind those in *value. */
thaw_status regex_octal(uint32_t *value, regex_parser *p, int most)
{
    for (int i = 0;
         i < most && !p->next.end && !p->next.escaped && p->next.c >= '0' && p->next.c < '8'; i++) {
        regex_token t;

        THAW_CHECK(regex_advance(&t, p));
        *value = *value * 8 + (t.c - '0');
    }
    return THAW_OK;
}

static thaw_status read_name(uint32_t *value, regex_parser *p)
{
    thaw_status status = THAW_OK;
    text name = TEXT_INIT;
    regex_token t;
    bool open;

    THAW_TRY(regex_accept(&open, p, '{'));
    while (open && !p->next.end && !regex_at(p, '}')) {
        THAW_TRY(regex_advance(&t, p));
        utf8_put(&name, t.c);
    }
    if (name.failed) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for pattern '%s'", p->pattern);
        goto done;
    }
    if (!open || p->next.end || !name.length) {
        status = regex_fail(p, THAW_E_PATTERN, "a bad \\N{name}");
        goto done;
    }
    THAW_TRY(regex_advance(&t, p));
    if (!regex_char_name(value, name.data))
        status = regex_fail(p, THAW_E_SUPPORT,
                            "the character name is not known here; write it as \\uXXXX");
done:
    text_done(&name);
    return status;
}

/*
 * What stands behind a backslash, inside sets and out: a category or one character. Digits other
 * than octal ones are the caller's.
 */
thaw_status regex_escape(regex_set *out, regex_parser *p, uint32_t c)
{
    static const char plain[][2] = {{'a', '\a'}, {'b', '\b'}, {'f', '\f'}, {'n', '\n'},
                                    {'r', '\r'}, {'t', '\t'}, {'v', '\v'}};

    *out = (regex_set){0};
    if (c && c < 0x80 && strchr("dDsSwW", (int)c)) {
        out->category = (char)c;
        return THAW_OK;
    }
    for (size_t i = 0; i < THAW_COUNT(plain); i++)
        if (c == (uint32_t)plain[i][0]) {
            out->literal = (uint32_t)plain[i][1];
            return THAW_OK;
        }
    switch (c) {
    case 'x':
        return read_hex(&out->literal, p, 2);
    case 'u':
        return read_hex(&out->literal, p, 4);
    case 'U':
        return read_hex(&out->literal, p, 8);
    case 'N':
        return read_name(&out->literal, p);
    default:
        break;
    }
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return regex_fail(p, THAW_E_PATTERN, "an escape that Python does not know");
    out->literal = c;
    return THAW_OK;
}

static thaw_status set_escape(regex_set *out, regex_parser *p, uint32_t c)
{
    if (c >= '0' && c <= '7') {
        *out = (regex_set){.literal = c - '0'};
        THAW_CHECK(regex_octal(&out->literal, p, 2));
        return out->literal > 0377 ? regex_fail(p, THAW_E_PATTERN, "an octal escape above \\377")
                                   : THAW_OK;
    }
    if (c == '8' || c == '9')
        return regex_fail(p, THAW_E_PATTERN, "an escape that Python does not know");
    return regex_escape(out, p, c);
}

/* ---- writing */

static void put_char(text *out, uint32_t c)
{
    const bool plain =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';

    if (plain)
        text_addf(out, "%c", (char)c);
    else
        text_addf(out, "\\x{%x}", (unsigned)c);
}

static const uint32_t *family_of(uint32_t low, uint32_t high, const uint32_t *after)
{
    for (size_t f = after ? (size_t)((after - families[0]) / 4) + 1 : 0; f < THAW_COUNT(families);
         f++)
        for (int i = 0; i < 4; i++)
            if (families[f][i] && families[f][i] >= low && families[f][i] <= high)
                return families[f];
    return NULL;
}

static bool has_case(uint32_t c)
{
    return c >= 0x80 || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

void regex_put_literal(regex_parser *p, uint32_t c)
{
    const bool ignore = p->flags & REGEX_IGNORECASE && has_case(c);
    const uint32_t *family = family_of(c, c, NULL);

    if (!ignore || (p->flags & REGEX_ASCII && c >= 0x80)) {
        put_char(p->out, c);
    } else if (p->flags & REGEX_ASCII) {
        text_addf(p->out, "[%c%c]", (char)(c | 0x20), (char)(c & ~0x20u));
    } else if (family) {
        text_add(p->out, "[");
        for (int i = 0; i < 4 && family[i]; i++)
            put_char(p->out, family[i]);
        text_add(p->out, "]");
    } else {
        text_addf(p->out, "(?i:\\x{%x})", (unsigned)c);
    }
}

/* The other case of each ASCII letter in the set. */
static thaw_status add_ascii_case(charset *set)
{
    const int n = set->n;

    for (int i = 0; i < n; i++)
        for (uint32_t c = 'A'; c <= 'Z'; c++) {
            const char_range r = set->range[i];

            if (r.low <= c && c <= r.high)
                THAW_CHECK(add_range(set, c | 0x20, c | 0x20));
            if (r.low <= (c | 0x20) && (c | 0x20) <= r.high)
                THAW_CHECK(add_range(set, c, c));
        }
    return THAW_OK;
}

static thaw_status add_families(charset *set)
{
    const int n = set->n;

    for (int i = 0; i < n; i++)
        for (const uint32_t *f = family_of(set->range[i].low, set->range[i].high, NULL); f;
             f = family_of(set->range[i].low, set->range[i].high, f))
            for (int k = 0; k < 4 && f[k]; k++)
                THAW_CHECK(add_range(set, f[k], f[k]));
    return THAW_OK;
}

/* Categories become ranges where they are plain, and stay bits where Unicode properties say it. */
static thaw_status spell_categories(charset *set, bool ascii)
{
    if (ascii) {
        static const struct {
            unsigned yes, no;
            const char_range *range;
            size_t n;
        } table[] = {{CAT_DIGIT, CAT_NOT_DIGIT, ascii_digits, THAW_COUNT(ascii_digits)},
                     {CAT_WORD, CAT_NOT_WORD, ascii_word, THAW_COUNT(ascii_word)},
                     {CAT_SPACE, CAT_NOT_SPACE, ascii_spaces, THAW_COUNT(ascii_spaces)}};

        for (size_t i = 0; i < THAW_COUNT(table); i++) {
            if (set->categories & table[i].yes)
                THAW_CHECK(add_ranges(set, table[i].range, table[i].n));
            if (set->categories & table[i].no)
                THAW_CHECK(add_complement(set, table[i].range, table[i].n));
        }
        set->categories = 0;
    }
    if (set->categories & CAT_SPACE)
        THAW_CHECK(add_ranges(set, spaces, THAW_COUNT(spaces)));
    if (set->categories & CAT_NOT_SPACE)
        THAW_CHECK(add_complement(set, spaces, THAW_COUNT(spaces)));
    return THAW_OK;
}

static void put_bracket(text *out, const charset *set, bool negate)
{
    text_add(out, negate ? "[^" : "[");
    for (int i = 0; i < set->n; i++) {
        put_char(out, set->range[i].low);
        if (set->range[i].high != set->range[i].low) {
            text_add(out, "-");
            put_char(out, set->range[i].high);
        }
    }
    if (set->categories & CAT_DIGIT)
        text_add(out, "\\p{Nd}");
    if (set->categories & CAT_NOT_DIGIT)
        text_add(out, "\\P{Nd}");
    if (set->categories & CAT_WORD)
        text_add(out, "\\p{L}\\p{N}_");
    text_add(out, "]");
}

/* \W is a complement and cannot stand inside a bracket: it becomes an alternative, or a filter. */
static thaw_status put_set(regex_parser *p, charset *set, bool negate)
{
    const bool ascii = p->flags & REGEX_ASCII, ignore = p->flags & REGEX_IGNORECASE;
    bool rest;

    if (ignore)
        THAW_CHECK(ascii ? add_ascii_case(set) : add_families(set));
    THAW_CHECK(spell_categories(set, ascii));
    rest = set->n || set->categories & (CAT_DIGIT | CAT_NOT_DIGIT | CAT_WORD);
    text_add(p->out, ignore && !ascii ? "(?i:" : "(?:");
    if (set->categories & CAT_NOT_WORD) {
        if (rest) {
            text_add(p->out, negate ? "(?!" : "");
            put_bracket(p->out, set, false);
            text_add(p->out, negate ? ")" : "|");
        }
        text_add(p->out, negate ? REGEX_WORD : "[^\\p{L}\\p{N}_]");
    } else {
        put_bracket(p->out, set, negate);
    }
    text_add(p->out, ")");
    return THAW_OK;
}

static unsigned category_bit(char letter)
{
    static const char letters[] = "dDwWsS";

    return 1u << (strchr(letters, letter) - letters);
}

thaw_status regex_put_set(regex_parser *p, const regex_set *one, bool negate)
{
    thaw_status status = THAW_OK;
    charset set = {0};

    if (one->category)
        set.categories = category_bit(one->category);
    else
        THAW_TRY(add_range(&set, one->literal, one->literal));
    THAW_TRY(put_set(p, &set, negate));
done:
    thaw__free(set.range);
    return status;
}

/* One member; *close when it was the ']' that ends the set. */
static thaw_status read_member(regex_set *out, bool *close, regex_parser *p, bool first)
{
    regex_token t;

    *close = false;
    *out = (regex_set){0};
    if (p->next.end)
        return regex_fail(p, THAW_E_PATTERN, "a set is not closed");
    THAW_CHECK(regex_advance(&t, p));
    if (t.escaped)
        return set_escape(out, p, t.c);
    out->literal = t.c;
    *close = t.c == ']' && !first;
    return THAW_OK;
}

static thaw_status add_member(charset *set, const regex_set *one)
{
    if (!one->category)
        return add_range(set, one->literal, one->literal);
    set->categories |= category_bit(one->category);
    return THAW_OK;
}

static thaw_status read_members(charset *set, regex_parser *p)
{
    for (bool first = true;; first = false) {
        regex_set low, high;
        bool close, hyphen;

        THAW_CHECK(read_member(&low, &close, p, first));
        if (close)
            return THAW_OK;
        THAW_CHECK(regex_accept(&hyphen, p, '-'));
        if (!hyphen) {
            THAW_CHECK(add_member(set, &low));
            continue;
        }
        THAW_CHECK(read_member(&high, &close, p, false));
        if (close) {
            THAW_CHECK(add_member(set, &low));
            return add_range(set, '-', '-');
        }
        if (low.category || high.category || high.literal < low.literal)
            return regex_fail(p, THAW_E_PATTERN, "a bad character range");
        THAW_CHECK(add_range(set, low.literal, high.literal));
    }
}

/* Behind the '['. */
thaw_status regex_parse_set(regex_parser *p)
{
    thaw_status status = THAW_OK;
    charset set = {0};
    bool negate;

    THAW_TRY(regex_accept(&negate, p, '^'));
    THAW_TRY(read_members(&set, p));
    THAW_TRY(put_set(p, &set, negate));
done:
    thaw__free(set.range);
    return status;
}
