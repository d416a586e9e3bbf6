/*
 * toml_scan.c - the letters of a TOML document: places, blanks and comments, strings, and words up
 * to their end. Everything that moves through the text byte by byte is here; what the pieces mean
 * together is toml.c's.
 */
#include "train/toml_reader.h"

#include <string.h>

/* ----------------------------------------------------------------------------------------------
 * places and failing */

/* Line and column of the next byte. Counts each byte once, so long lines stay cheap. */
toml_place toml_here(toml_reader *r)
{
    for (; r->counted < r->at; r->counted++)
        r->column += ((unsigned char)*r->counted & 0xC0) != 0x80;
    return (toml_place){r->line, r->column};
}

thaw_status toml_no_memory(const toml_reader *r)
{
    return thaw_fail(THAW_E_NOMEM, "out of memory reading '%s'", r->name);
}

thaw_status toml_bad(const toml_reader *r, toml_place at, const char *format, ...)
{
    text message = TEXT_INIT;
    va_list args;
    thaw_status status;

    va_start(args, format);
    text_vaddf(&message, format, args);
    va_end(args);
    if (message.failed || !message.data)
        status = toml_no_memory(r);
    else
        status =
            thaw_fail(THAW_E_RECIPE, "%s:%d:%d: %s", r->name, at.line, at.column, message.data);
    text_done(&message);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * characters */

/* Whether c may not stand in a document as it is (tabs may, newlines are handled before). */
static bool is_control(int c)
{
    return (c >= 0 && c < 0x20 && c != '\t') || c == 0x7F;
}

bool toml_is_bare(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

/* Length of the newline that comes next; 0: none does. */
size_t toml_newline_length(const toml_reader *r)
{
    if (toml_peek(r, 0) == '\n')
        return 1;
    return toml_peek(r, 0) == '\r' && toml_peek(r, 1) == '\n' ? 2 : 0;
}

bool toml_skip_newline(toml_reader *r)
{
    const size_t n = toml_newline_length(r);

    if (n == 0)
        return false;
    r->at += n;
    r->counted = r->at;
    r->line++;
    r->column = 1;
    return true;
}

void toml_skip_blanks(toml_reader *r)
{
    while (toml_peek(r, 0) == ' ' || toml_peek(r, 0) == '\t')
        r->at++;
}

static thaw_status control_character(toml_reader *r, const char *where)
{
    return toml_bad(r, toml_here(r), "control character U+%04X %s; remove it",
                    (unsigned)toml_peek(r, 0), where);
}

static thaw_status skip_comment(toml_reader *r)
{
    if (toml_peek(r, 0) != '#')
        return THAW_OK;
    for (; toml_peek(r, 0) >= 0 && toml_newline_length(r) == 0; r->at++)
        if (is_control(toml_peek(r, 0)))
            return control_character(r, "in a comment");
    return THAW_OK;
}

/* Blanks, comments and newlines. */
thaw_status toml_skip_lines(toml_reader *r)
{
    do {
        toml_skip_blanks(r);
        THAW_CHECK(skip_comment(r));
    } while (toml_skip_newline(r));
    return THAW_OK;
}

/* Nothing but a comment may follow on this line. */
thaw_status toml_end_line(toml_reader *r, const char *after)
{
    toml_skip_blanks(r);
    THAW_CHECK(skip_comment(r));
    if (toml_peek(r, 0) < 0 || toml_skip_newline(r))
        return THAW_OK;
    return toml_bad(r, toml_here(r), "something follows %s; put it on a line of its own", after);
}

/* The whole document is checked first, so that nothing later has to. */
thaw_status toml_check_utf8(const toml_reader *start)
{
    toml_reader r = *start;

    while (r.at < r.end) {
        const size_t n = toml_utf8_length((const unsigned char *)r.at, (size_t)(r.end - r.at));

        if (n == 0)
            return toml_bad(&r, toml_here(&r), "byte 0x%02x is not UTF-8; save the file as UTF-8",
                            (unsigned)(unsigned char)*r.at);
        if (!toml_skip_newline(&r))
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
static thaw_status take_unicode(toml_reader *r, size_t n, toml_place start)
{
    uint32_t c = 0;

    for (size_t i = 0; i < n; i++) {
        const int d = hex_value(toml_peek(r, i));

        if (d < 0)
            return toml_bad(r, start, "this escape needs %zu hexadecimal digits", n);
        c = c << 4 | (uint32_t)d;
    }
    if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
        return toml_bad(r, start, "U+%X is not a Unicode character", (unsigned)c);
    r->at += n;
    toml_add_utf8(&r->scratch, c);
    return THAW_OK;
}

/* A backslash comes next, in a basic string. */
static thaw_status take_escape(toml_reader *r, bool multi)
{
    static const char letter[] = "btnfr\"\\", meaning[] = "\b\t\n\f\r\"\\";
    const toml_place start = toml_here(r);
    const int c = toml_peek(r, 1);
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
        toml_skip_blanks(r);
        if (toml_skip_newline(r)) {
            do
                toml_skip_blanks(r);
            while (toml_skip_newline(r));
            return THAW_OK;
        }
    }
    return toml_bad(
        r, start,
        "unknown escape in a string; write \\\\ for a backslash, or use '...' which takes "
        "everything as it is");
}

/* One character of a string's content, as it stands. */
static thaw_status take_plain(toml_reader *r, bool multi, toml_place start)
{
    const int c = toml_peek(r, 0);

    if (c < 0)
        return toml_bad(r, start, "the string that begins here is not closed");
    if (toml_newline_length(r) > 0) {
        if (!multi)
            return toml_bad(r, start, "the string that begins here is not closed on its line");
        (void)toml_skip_newline(r);
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
static bool close_multi(toml_reader *r, int quote_mark)
{
    size_t n = 0;

    while (n < 5 && toml_peek(r, n) == quote_mark)
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
thaw_status toml_keep_string(toml_reader *r, const char **out, size_t *length)
{
    char *copy;

    if (r->scratch.failed)
        return toml_no_memory(r);
    copy = region_alloc(r->doc->region, r->scratch.length + 1, 1);
    if (!copy)
        return toml_no_memory(r);
    if (r->scratch.length > 0)
        memcpy(copy, r->scratch.data, r->scratch.length);
    *out = copy;
    *length = r->scratch.length;
    return THAW_OK;
}

/* A string; the opening quote comes next. Keys must not be of the multi-line kinds. */
thaw_status toml_read_string(toml_reader *r, const char **out, size_t *length, bool may_be_multi)
{
    const toml_place start = toml_here(r);
    const int mark = toml_peek(r, 0);
    const bool multi = may_be_multi && toml_peek(r, 1) == mark && toml_peek(r, 2) == mark;

    r->scratch.length = 0;
    r->at += multi ? 3 : 1;
    if (multi)
        (void)toml_skip_newline(r);
    for (;;) {
        const int c = toml_peek(r, 0);

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
    return toml_keep_string(r, out, length);
}

static bool is_word(int c)
{
    return toml_is_bare(c) || c == '+' || c == '.' || c == ':';
}

/* Value without quotes, NUL-terminated in scratch. One blank may part a date from its time. */
static thaw_status take_word(toml_reader *r)
{
    size_t n = 0;

    while (is_word(toml_peek(r, n)))
        n++;
    if (n == 10 && r->at[4] == '-' && toml_peek(r, 10) == ' ' && hex_value(toml_peek(r, 11)) >= 0 &&
        hex_value(toml_peek(r, 12)) >= 0 && toml_peek(r, 13) == ':')
        for (n = 11; is_word(toml_peek(r, n)); n++)
            ;
    r->scratch.length = 0;
    text_add_n(&r->scratch, r->at, n);
    r->at += n;
    return r->scratch.failed || !r->scratch.data ? toml_no_memory(r) : THAW_OK;
}

thaw_status toml_read_word(toml_reader *r, toml_value *v)
{
    const char *wrong;

    THAW_CHECK(take_word(r));
    wrong = toml_word(v, r->scratch.data);
    if (wrong)
        return toml_bad(r, (toml_place){v->line, v->column}, "%s", wrong);
    return v->type == TOML_DATETIME ? toml_keep_string(r, &v->string, &v->length) : THAW_OK;
}
