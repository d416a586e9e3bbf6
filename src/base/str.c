/*
 * str.c - growing text, numbers to and from text without the locale, JSON text, and near names.
 */
#include "base/base.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------------------------------------
 * growing text */

static bool text_room(text *t, size_t more)
{
    size_t want;

    if (t->failed)
        return false;
    if (!size_add(&want, t->length, more) || !size_add(&want, want, 1) ||
        thaw__reserve(&t->data, &t->capacity, want, 1) != THAW_OK)
        t->failed = true;
    return !t->failed;
}

void text_add_n(text *t, const char *s, size_t n)
{
    if (!text_room(t, n))
        return;
    memcpy(t->data + t->length, s, n);
    t->length += n;
    t->data[t->length] = '\0';
}

void text_add(text *t, const char *s)
{
    text_add_n(t, s, strlen(s));
}

void text_vaddf(text *t, const char *format, va_list args)
{
    va_list again;
    int n;

    va_copy(again, args);
    n = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (n < 0 || !text_room(t, (size_t)n))
        return;
    (void)vsnprintf(t->data + t->length, (size_t)n + 1, format, args);
    t->length += (size_t)n;
}

void text_addf(text *t, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    text_vaddf(t, format, args);
    va_end(args);
}

void text_pad(text *t, size_t column)
{
    size_t begin = t->length;

    if (!text_room(t, 0))
        return;
    while (begin > 0 && t->data[begin - 1] != '\n')
        begin--;
    /* Columns count characters, not bytes: skip UTF-8 continuation bytes. */
    size_t width = 0;
    for (size_t i = begin; i < t->length; i++)
        width += ((unsigned char)t->data[i] & 0xC0) != 0x80;
    for (; width < column; width++)
        text_add_n(t, " ", 1);
}

thaw_status text_take(char **out, text *t, const char *what)
{
    text_add_n(t, "", 0);
    if (t->failed) {
        text_done(t);
        return thaw_fail(THAW_E_NOMEM, "out of memory for %s", what);
    }
    *out = t->data;
    *t = (text)TEXT_INIT;
    return THAW_OK;
}

void text_done(text *t)
{
    thaw__free(t->data);
    *t = (text)TEXT_INIT;
}

/* ----------------------------------------------------------------------------------------------
 * numbers */

/* snprintf and strtod use the locale's decimal point; the C library gives no portable way around it
 * but looking. */
static char decimal_point(void)
{
    char half[8];

    (void)snprintf(half, sizeof half, "%.1f", 0.5);
    return half[1];
}

/* With as few digits as read back as the same double, but no more than `most`. */
static void add_digits(text *t, double value, int most)
{
    char buffer[40];
    char *point;

    if (isnan(value) || isinf(value)) {
        text_add(t, isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
        return;
    }
    /* Fewest digits alone would make 20 to 2e+01. */
    if (value == trunc(value) && fabs(value) < pow(10, THAW_MIN(most, 15))) {
        (void)snprintf(buffer, sizeof buffer, "%.0f", value);
        text_add(t, buffer);
        return;
    }
    for (int digits = 1; digits <= most; digits++) {
        (void)snprintf(buffer, sizeof buffer, "%.*g", digits, value);
        if (strtod(buffer, NULL) == value)
            break;
    }
    point = strchr(buffer, decimal_point());
    if (point)
        *point = '.';
    text_add(t, buffer);
}

void text_add_double(text *t, double value)
{
    add_digits(t, value, 17);
}

void text_add_short_double(text *t, double value)
{
    add_digits(t, value, 6);
}

bool parse_double(double *out, const char *s)
{
    char copy[400];
    const size_t n = strlen(s);
    char *end, *point;
    double value;

    if (n == 0 || n >= sizeof copy || strspn(s, "0123456789+-.eE") != n)
        return false;
    memcpy(copy, s, n + 1);
    point = strchr(copy, '.');
    if (point)
        *point = decimal_point();
    value = strtod(copy, &end);
    if (*end != '\0' || isinf(value))
        return false;
    *out = value;
    return true;
}

bool parse_int64(int64_t *out, const char *s)
{
    char *end;
    long long value;

    if (s[0] == '\0' || strspn(s, "0123456789+-") != strlen(s))
        return false;
    errno = 0;
    value = strtoll(s, &end, 10);
    if (*end != '\0' || errno != 0)
        return false;
    *out = value;
    return true;
}

bool parse_bytes(uint64_t *out, const char *s)
{
    static const struct {
        const char *name;
        int shift;
    } unit[] = {{"", 0}, {"B", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
    const size_t n = strspn(s, "0123456789");
    const char *const after = s + n + strspn(s + n, " ");
    char digits[20] = {0};
    int64_t count;

    if (n == 0 || n >= sizeof digits)
        return false;
    memcpy(digits, s, n);
    for (size_t i = 0; i < THAW_COUNT(unit); i++)
        if (strcmp(after, unit[i].name) == 0 && parse_int64(&count, digits) &&
            count <= (INT64_MAX >> unit[i].shift)) {
            *out = (uint64_t)count << unit[i].shift;
            return true;
        }
    return false;
}

char *format_bytes(char *buffer, uint64_t bytes)
{
    static const char *const unit[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)bytes;
    int u = -1;

    if (bytes < 1024) {
        (void)snprintf(buffer, 32, "%" PRIu64 " B", bytes);
        return buffer;
    }
    while (value >= 1024 && u + 1 < (int)THAW_COUNT(unit)) {
        value /= 1024;
        u++;
    }
    (void)snprintf(buffer, 32,
                   value < 10    ? "%.2f %s"
                   : value < 100 ? "%.1f %s"
                                 : "%.0f %s",
                   value, unit[u]);
    return buffer;
}

char *format_count(char *buffer, int64_t n)
{
    char digits[24];
    size_t out = 0, length;

    (void)snprintf(digits, sizeof digits, "%" PRIu64, n < 0 ? 0 - (uint64_t)n : (uint64_t)n);
    length = strlen(digits);
    if (n < 0)
        buffer[out++] = '-';
    for (size_t i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            buffer[out++] = ',';
        buffer[out++] = digits[i];
    }
    buffer[out] = '\0';
    return buffer;
}

char *format_duration(char *buffer, double seconds)
{
    const bool known = seconds >= 0 && seconds <= 1e9;
    const int64_t s = known ? (int64_t)(seconds + 0.5) : 0;

    if (!known)
        (void)snprintf(buffer, 32, "?");
    else if (seconds < 10)
        (void)snprintf(buffer, 32, "%.1f s", seconds);
    else if (s < 60)
        (void)snprintf(buffer, 32, "%d s", (int)s);
    else if (s < 3600)
        (void)snprintf(buffer, 32, "%d min %02d s", (int)(s / 60), (int)(s % 60));
    else
        (void)snprintf(buffer, 32, "%" PRId64 " h %02d min", s / 3600, (int)(s / 60 % 60));
    return buffer;
}

/* ----------------------------------------------------------------------------------------------
 * UTF-8, JSON, repr */

/* Length of the valid UTF-8 sequence at s and its code point; 0 when it is not one. */
static size_t utf8_decode(uint32_t *out, const unsigned char *s)
{
    static const struct {
        unsigned char mask, lead;
        uint32_t least;
    } form[] = {{0x80, 0x00, 0}, {0xE0, 0xC0, 0x80}, {0xF0, 0xE0, 0x800}, {0xF8, 0xF0, 0x10000}};

    for (size_t n = 0; n < THAW_COUNT(form); n++) {
        uint32_t c;

        if ((s[0] & form[n].mask) != form[n].lead)
            continue;
        c = s[0] & (unsigned char)~form[n].mask;
        for (size_t i = 1; i <= n; i++) {
            if ((s[i] & 0xC0) != 0x80)
                return 0;
            c = c << 6 | (s[i] & 0x3F);
        }
        if (c < form[n].least || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000))
            return 0;
        *out = c;
        return n + 1;
    }
    return 0;
}

static const char *short_escape(uint32_t c, const char *quotes)
{
    static const struct {
        char c;
        const char *text;
    } table[] = {{'\n', "\\n"}, {'\r', "\\r"}, {'\t', "\\t"}, {'\\', "\\\\"}};

    for (size_t i = 0; i < THAW_COUNT(table); i++)
        if (c == (uint32_t)table[i].c)
            return table[i].text;
    if (c == (uint32_t)quotes[0])
        return quotes[0] == '"' ? "\\\"" : "\\'";
    return NULL;
}

void text_add_json_string(text *t, const char *s)
{
    const unsigned char *p = (const unsigned char *)s;

    text_add(t, "\"");
    while (*p) {
        uint32_t c = 0;
        const size_t n = utf8_decode(&c, p);
        const char *escape = n ? short_escape(c, "\"") : "\\ufffd";

        if (escape)
            text_add(t, escape);
        else if (c < 0x20)
            text_addf(t, "\\u%04x", c);
        else
            text_add_n(t, (const char *)p, n);
        p += n ? n : 1;
    }
    text_add(t, "\"");
}

void text_add_json_double(text *t, double value)
{
    if (!isfinite(value))
        text_add(t, "null");
    else if (value == 0 && signbit(value))
        text_add(t, "-0.0"); /* "-0" would be read as an integer, which has no sign */
    else
        text_add_double(t, value);
}

void text_add_repr(text *t, const char *s)
{
    const unsigned char *p = (const unsigned char *)s;
    const char *quote = strchr(s, '\'') && !strchr(s, '"') ? "\"" : "'";

    text_add(t, quote);
    while (*p) {
        uint32_t c = 0;
        const size_t n = utf8_decode(&c, p);
        const char *escape = n ? short_escape(c, quote) : NULL;

        if (escape)
            text_add(t, escape);
        else if (n == 0)
            text_addf(t, "\\udc%02x", *p);
        else if (c < 0x20 || (c >= 0x7F && c <= 0xA0) || c == 0xAD)
            text_addf(t, "\\x%02x", c);
        else
            text_add_n(t, (const char *)p, n);
        p += n ? n : 1;
    }
    text_add(t, quote);
}

/* ----------------------------------------------------------------------------------------------
 * near names */

#define NEAR_LONGEST 128

/* Optimal string alignment distance: insert, delete, replace, or swap two neighbours, each once.
 * Anything above `most` stands for more than that. */
static int edit_distance(const char *a, const char *b, int most)
{
    const size_t n = strlen(a), m = strlen(b);
    int row[3][NEAR_LONGEST + 1];

    if (n > NEAR_LONGEST || m > NEAR_LONGEST || THAW_MAX(n, m) - THAW_MIN(n, m) > (size_t)most)
        return most + 1;
    for (size_t j = 0; j <= m; j++)
        row[0][j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int *now = row[i % 3], *above = row[(i + 2) % 3], *two_above = row[(i + 1) % 3];
        int least = (int)i;

        now[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int best = above[j - 1] + (a[i - 1] != b[j - 1]);

            best = THAW_MIN(best, above[j] + 1);
            best = THAW_MIN(best, now[j - 1] + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = THAW_MIN(best, two_above[j - 2] + 1);
            now[j] = best;
            least = THAW_MIN(least, best);
        }
        if (least > most + 1) /* a swap looks two rows back, so one more may still be mended */
            return most + 1;
    }
    return row[n % 3][m];
}

void text_add_near(text *t, const char *wanted, const char *const *candidates, size_t n,
                   size_t most)
{
    const size_t length = strlen(wanted);
    const int limit = length > NEAR_LONGEST ? 0 : THAW_MAX(2, (int)length / 3);
    size_t shown = 0;

    for (int distance = 0; distance <= limit && shown < most; distance++)
        for (size_t i = 0; i < n && shown < most; i++)
            if (edit_distance(wanted, candidates[i], distance) == distance) {
                text_addf(t, "%s'%s'", shown == 0 ? " (did you mean " : " or ", candidates[i]);
                shown++;
            }
    if (shown > 0)
        text_add(t, "?)");
}
