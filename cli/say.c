/*
 * say.c - errors on stderr, near names, and numbers as people read them.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

bool cli_color(FILE *stream)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");

    return isatty(fileno(stream)) && !(no_color && *no_color) && term && strcmp(term, "dumb") != 0;
}

/* Control characters: C0, DEL, and C1, which are two bytes in UTF-8. */
static void put_tame(FILE *to, const char *text, size_t n, const char *allowed)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        const bool c1 = c == 0xC2 && i + 1 < n && (unsigned char)text[i + 1] < 0xA0;

        if (c1 || ((c < 0x20 || c == 0x7F) && !(c && strchr(allowed, c))))
            putc('?', to);
        else
            putc(c, to);
        i += c1;
    }
}

void cli_put(FILE *to, const char *text, size_t n)
{
    put_tame(to, text, n, "\n\t");
}

void cli_put_name(FILE *to, const char *text, size_t n)
{
    put_tame(to, text, n, "");
}

/* One line of an error, with the program's name in front and `tail` behind. */
static void error_line(const char *text, size_t n, const char *tail)
{
    const bool color = cli_color(stderr);

    fprintf(stderr, "thaw: %serror:%s ", color ? "\033[1;31m" : "", color ? "\033[0m" : "");
    cli_put(stderr, text, n);
    fprintf(stderr, "%s\n", tail);
}

void cli_error(const char *format, ...)
{
    char text[4096];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    error_line(text, strlen(text), "");
}

int cli_usage(const cli_args *args, const char *format, ...)
{
    const char *const command = args && args->command ? args->command->name : NULL;
    char text[4096], tail[64];
    va_list values;

    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    snprintf(tail, sizeof tail, "; see 'thaw help%s%s'", command ? " " : "",
             command ? command : "");
    error_line(text, strlen(text), tail);
    return thaw_exit_code(THAW_E_USAGE);
}

int cli_report(thaw_status status)
{
    const char *text = thaw_error();
    char tail[64];

    if (status == THAW_OK)
        return 0;
    snprintf(tail, sizeof tail, " [%s]", thaw_status_name(status));
    if (*text == '\0')
        text = "no reason given";
    while (*text != '\0') {
        const size_t n = strcspn(text, "\n");

        if (n > 0)
            error_line(text, n, tail);
        text += n + (text[n] == '\n');
    }
    return thaw_exit_code(status);
}

int cli_print(char *text)
{
    int code = 0;

    cli_put(stdout, text, strlen(text));
    if (*text != '\0' && text[strlen(text) - 1] != '\n')
        fputc('\n', stdout);
    if (fflush(stdout) != 0) {
        cli_error("standard output cannot be written");
        code = thaw_exit_code(THAW_E_IO);
    }
    thaw_text_free(text);
    return code;
}

#define NEAR_MAX 32

/* Edit distance of two words (Levenshtein 1966, with swaps of neighbours counted once); words too
 * long to be names are far from everything. */
static size_t distance(const char *a, const char *b)
{
    const size_t n = strlen(a), m = strlen(b);
    size_t d[NEAR_MAX + 1][NEAR_MAX + 1];

    if (n > NEAR_MAX || m > NEAR_MAX)
        return NEAR_MAX;
    for (size_t i = 0; i <= n; i++)
        for (size_t j = 0; j <= m; j++) {
            size_t best;

            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best)
                best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best)
                best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

const char *cli_near(char *buffer, size_t size, const char *wanted, const char *(*nth)(int i))
{
    const char *best = NULL;
    size_t least = 3; /* farther than two edits is no typing error */

    for (int i = 0; nth(i); i++) {
        const size_t d = distance(wanted, nth(i));

        if (d < least && d < strlen(nth(i))) {
            least = d;
            best = nth(i);
        }
    }
    buffer[0] = '\0';
    if (best)
        snprintf(buffer, size, " (did you mean '%s'?)", best);
    return buffer;
}

const char *cli_bytes(char *buffer, uint64_t bytes)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t i = 0;

    for (; value >= 1023.95 && i + 1 < CLI_COUNT(unit); i++)
        value /= 1024;
    snprintf(buffer, 32, i == 0 ? "%.0f %s" : "%.1f %s", value, unit[i]);
    return buffer;
}

const char *cli_count(char *buffer, int64_t n)
{
    char digits[24];
    size_t length, at = 0;

    snprintf(digits, sizeof digits, "%lld", (long long)n);
    length = strlen(digits);
    for (size_t i = 0; i < length; i++) {
        if (i > 0 && digits[i - 1] != '-' && (length - i) % 3 == 0)
            buffer[at++] = ',';
        buffer[at++] = digits[i];
    }
    buffer[at] = '\0';
    return buffer;
}

const char *cli_duration(char *buffer, double seconds)
{
    const double minutes = seconds / 60;

    if (!(seconds >= 0 && minutes < 60 * 24 * 1000))
        snprintf(buffer, 32, "?");
    else if (seconds < 9.95)
        snprintf(buffer, 32, "%.1f s", seconds);
    else if (seconds < 59.5)
        snprintf(buffer, 32, "%.0f s", seconds);
    else if (minutes < 60)
        snprintf(buffer, 32, "%d min %02d s", (int)(seconds + 0.5) / 60, (int)(seconds + 0.5) % 60);
    else
        snprintf(buffer, 32, "%d h %02d min", (int)minutes / 60, (int)minutes % 60);
    return buffer;
}

/* Bytes of the character at p (RFC 3629: shortest form, no surrogates, nothing above U+10FFFF); 0
 * where none is. */
static size_t utf8_length(const unsigned char *p)
{
    const size_t n = p[0] < 0x80                  ? 1
                     : p[0] < 0xC2 || p[0] > 0xF4 ? 0
                     : p[0] < 0xE0                ? 2
                     : p[0] < 0xF0                ? 3
                                                  : 4;

    for (size_t i = 1; i < n; i++) /* stops at NUL */
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) ||
        (p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F))
        return 0;
    return n;
}

size_t cli_cut(int *characters, const char *s, int most)
{
    size_t at = 0;

    for (*characters = 0; s[at] && *characters < most; ++*characters) {
        const size_t n = utf8_length((const unsigned char *)s + at);

        at += n > 0 ? n : 1;
    }
    return at;
}

void cli_print_json(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;

    putchar('"');
    while (*p) {
        const size_t n = utf8_length(p);

        if (n == 0)
            fputs("\\ufffd", stdout);
        else if (*p == '"' || *p == '\\')
            printf("\\%c", *p);
        else if (*p < 0x20)
            printf("\\u%04x", *p);
        else
            fwrite(p, 1, n, stdout);
        p += n > 0 ? n : 1;
    }
    putchar('"');
}
