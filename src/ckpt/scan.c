/*
 * scan - a pull reader for JSON of a known form.
 *
 * Headers and manifests have a fixed, shallow form, and come from files we did not write. A tree
 * builder would turn three hostile bytes into a hundred of memory; here the caller asks for what
 * must come next, nothing is kept, and every error names its byte. It knows no file format.
 */
#include "ckpt/ckpt.h"

#include <inttypes.h>
#include <string.h>

#define LARGEST_INTEGER (UINT64_C(1) << 53) /* what every JSON reader holds exactly */

scan scan_of(const char *what, const char *data, size_t n)
{
    return (scan){.what = what, .begin = data, .at = data, .end = data + n};
}

static thaw_status fail_at(const scan *s, const char *expected)
{
    const size_t byte = (size_t)(s->at - s->begin);
    const unsigned char c = s->at < s->end ? (unsigned char)*s->at : 0;

    if (s->at >= s->end)
        return thaw_fail(THAW_E_DATA, "%s byte %zu: it ends where %s should come", s->what, byte,
                         expected);
    if (c > ' ' && c < 0x7F)
        return thaw_fail(THAW_E_DATA, "%s byte %zu: '%c' where %s should come", s->what, byte, c,
                         expected);
    return thaw_fail(THAW_E_DATA, "%s byte %zu: byte 0x%02X where %s should come", s->what, byte, c,
                     expected);
}

static void skip_blanks(scan *s)
{
    while (s->at < s->end && *s->at && strchr(" \t\r\n", *s->at))
        s->at++;
}

/* Pass this character if it comes next, after blanks. */
static bool took(scan *s, char c)
{
    skip_blanks(s);
    if (s->at >= s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

thaw_status scan_open(scan *s, char bracket)
{
    if (!took(s, bracket))
        return fail_at(s, bracket == '{' ? "'{'" : "'['");
    s->fresh = true;
    return THAW_OK;
}

thaw_status scan_more(bool *more, scan *s, char closing)
{
    const bool first = s->fresh;

    s->fresh = false;
    if (took(s, closing)) {
        *more = false;
        return THAW_OK;
    }
    if (!first && !took(s, ','))
        return fail_at(s, closing == '}' ? "',' or '}'" : "',' or ']'");
    *more = true;
    return THAW_OK;
}

thaw_status scan_integer(uint64_t *out, scan *s)
{
    uint64_t n = 0;
    const char *first;

    skip_blanks(s);
    first = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9') {
        n = 10 * n + (uint64_t)(*s->at++ - '0');
        if (n > LARGEST_INTEGER)
            return thaw_fail(THAW_E_DATA, "%s byte %zu: a number above 2^53", s->what,
                             (size_t)(first - s->begin));
    }
    if (s->at == first)
        return fail_at(s, "a whole number of 0 or more");
    if (*first == '0' && s->at > first + 1)
        return thaw_fail(THAW_E_DATA, "%s byte %zu: a number with a leading zero", s->what,
                         (size_t)(first - s->begin));
    *out = n;
    return THAW_OK;
}

thaw_status scan_end(scan *s)
{
    skip_blanks(s);
    return s->at == s->end ? THAW_OK : fail_at(s, "the end");
}

/* ----------------------------------------------------------------------------------------------
 * strings */

static bool hex4(uint32_t *out, const char *at, const char *end)
{
    uint32_t v = 0;

    if (end - at < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        static const char digits[] = "0123456789abcdef";
        const char c = at[i] >= 'A' && at[i] <= 'F' ? (char)(at[i] - 'A' + 'a') : at[i];
        const char *digit = c ? strchr(digits, c) : NULL;

        if (!digit)
            return false;
        v = 16 * v + (uint32_t)(digit - digits);
    }
    *out = v;
    return true;
}

/* After "\u": one code point, of one escape or of a surrogate pair. */
static thaw_status scan_code_point(uint32_t *out, scan *s)
{
    uint32_t c, low;

    if (!hex4(&c, s->at, s->end))
        return fail_at(s, "four hexadecimal digits");
    if (c == 0)
        return fail_at(s, "a character other than NUL");
    s->at += 4;
    if (c >= 0xD800 && c < 0xDC00 && s->end - s->at >= 2 && s->at[0] == '\\' && s->at[1] == 'u' &&
        hex4(&low, s->at + 2, s->end) && low >= 0xDC00 && low < 0xE000) {
        s->at += 6;
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    if (c >= 0xD800 && c < 0xE000)
        return fail_at(s, "the other half of a surrogate pair");
    *out = c;
    return THAW_OK;
}

static size_t encode_utf8(char out[4], uint32_t c)
{
    static const struct {
        uint32_t below, lead;
    } form[] = {{0x80, 0}, {0x800, 0xC0}, {0x10000, 0xE0}, {0x110000, 0xF0}};
    size_t n = 1;

    while (c >= form[n - 1].below)
        n++;
    for (size_t i = n; i > 1; i--, c >>= 6)
        out[i - 1] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)(form[n - 1].lead | c);
    return n;
}

static thaw_status scan_escape(char out[4], size_t *n, scan *s)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *known;
    uint32_t c = 0;

    if (s->at < s->end && *s->at == 'u') {
        s->at++;
        THAW_CHECK(scan_code_point(&c, s));
        *n = encode_utf8(out, c);
        return THAW_OK;
    }
    known = s->at < s->end && *s->at ? strchr(from, *s->at) : NULL;
    if (!known)
        return fail_at(s, "an escape of JSON");
    s->at++;
    *out = to[known - from];
    *n = 1;
    return THAW_OK;
}

/* Length of the UTF-8 character at p, 0 when it is malformed (Unicode 15, table 3-7). */
static size_t utf8_length(const char *p, const char *end)
{
    const unsigned char *b = (const unsigned char *)p;
    const size_t n = b[0] < 0x80                    ? 1
                     : b[0] >= 0xC2 && b[0] < 0xE0  ? 2
                     : b[0] >= 0xE0 && b[0] < 0xF0  ? 3
                     : b[0] >= 0xF0 && b[0] <= 0xF4 ? 4
                                                    : 0;

    if (n == 0 || (size_t)(end - p) < n)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((b[i] & 0xC0) != 0x80)
            return 0;
    if ((b[0] == 0xE0 && b[1] < 0xA0) || (b[0] == 0xED && b[1] >= 0xA0) ||
        (b[0] == 0xF0 && b[1] < 0x90) || (b[0] == 0xF4 && b[1] >= 0x90))
        return 0;
    return n;
}

/* The next character of a string, unescaped; n is 0 after the closing quote. */
static thaw_status scan_character(char out[4], size_t *n, scan *s)
{
    if (s->at >= s->end || (unsigned char)*s->at < ' ')
        return fail_at(s, "the end of a string");
    if (*s->at == '"') {
        s->at++;
        *n = 0;
        return THAW_OK;
    }
    if (*s->at == '\\') {
        s->at++;
        return scan_escape(out, n, s);
    }
    *n = utf8_length(s->at, s->end);
    if (*n == 0)
        return fail_at(s, "UTF-8");
    memcpy(out, s->at, *n);
    s->at += *n;
    return THAW_OK;
}

thaw_status scan_string(char *out, size_t capacity, scan *s)
{
    size_t length = 0, n = 1;
    const char *first;

    if (!took(s, '"'))
        return fail_at(s, "a string");
    first = s->at;
    while (n > 0) {
        char c[4];

        THAW_CHECK(scan_character(c, &n, s));
        if (out && n == 1 && ((unsigned char)*c < ' ' || *c == 0x7F))
            return thaw_fail(THAW_E_DATA, "%s byte %zu: a name with control character 0x%02X",
                             s->what, (size_t)(first - s->begin), (unsigned)*c);
        if (out && length + n >= capacity)
            return thaw_fail(THAW_E_LIMIT, "%s byte %zu: a string longer than %zu bytes", s->what,
                             (size_t)(first - s->begin), capacity - 1);
        if (out)
            memcpy(out + length, c, n);
        length += n;
    }
    if (out)
        out[length] = '\0';
    return THAW_OK;
}

thaw_status scan_key(char *out, size_t capacity, scan *s)
{
    THAW_CHECK(scan_string(out, capacity, s));
    return took(s, ':') ? THAW_OK : fail_at(s, "':'");
}

/* ----------------------------------------------------------------------------------------------
 * values that nobody asks for */

#define DEEPEST 16

/* Numbers and words: their characters alone are looked at, as the value is thrown away. */
static thaw_status pass_word(scan *s)
{
    const char *first;

    skip_blanks(s);
    first = s->at;
    while (s->at < s->end && *s->at && strchr("+-.0123456789Eaeflnrstu", *s->at))
        s->at++;
    return s->at > first ? THAW_OK : fail_at(s, "a value");
}

static thaw_status pass_nested(scan *s, int depth)
{
    bool more, object;

    skip_blanks(s);
    if (s->at < s->end && *s->at == '"')
        return scan_string(NULL, 0, s);
    if (s->at >= s->end || (*s->at != '{' && *s->at != '['))
        return pass_word(s);
    object = *s->at == '{';
    if (depth == DEEPEST)
        return thaw_fail(THAW_E_LIMIT, "%s byte %zu: more than %d brackets in one another", s->what,
                         (size_t)(s->at - s->begin), DEEPEST);
    THAW_CHECK(scan_open(s, *s->at));
    for (;;) {
        THAW_CHECK(scan_more(&more, s, object ? '}' : ']'));
        if (!more)
            return THAW_OK;
        if (object)
            THAW_CHECK(scan_key(NULL, 0, s));
        THAW_CHECK(pass_nested(s, depth + 1));
    }
}

thaw_status scan_pass(scan *s)
{
    return pass_nested(s, 0);
}
