/*
 * status.c - the last error's text of each thread, and what the codes are called.
 *
 * The text lies in a fixed buffer so that running out of memory can be reported too. A longer text
 * is cut at its end.
 */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERROR_SIZE 16384 /* a list of recipe mistakes is the longest text there is */

static _Thread_local char error_text[ERROR_SIZE];

static const struct {
    const char *name;
    int exit_code;
} status_table[] = {
    [THAW_OK] = {"OK", 0},
    [THAW_E_USAGE] = {"E_USAGE", 64},
    [THAW_E_RECIPE] = {"E_RECIPE", 78},
    [THAW_E_PATTERN] = {"E_PATTERN", 78},
    [THAW_E_NOMATCH] = {"E_NOMATCH", 78},
    [THAW_E_LIMIT] = {"E_LIMIT", 78},
    [THAW_E_RANGE] = {"E_RANGE", 78},
    [THAW_E_REBUILD] = {"E_REBUILD", 78},
    [THAW_E_MISMATCH] = {"E_MISMATCH", 78},
    [THAW_E_DATA] = {"E_DATA", 65},
    [THAW_E_SHAPE] = {"E_SHAPE", 65},
    [THAW_E_MISSING] = {"E_MISSING", 66},
    [THAW_E_CORRUPT] = {"E_CORRUPT", 65},
    [THAW_E_CREATE] = {"E_CREATE", 73},
    [THAW_E_IO] = {"E_IO", 74},
    [THAW_E_NOMEM] = {"E_NOMEM", 71},
    [THAW_E_OS] = {"E_OS", 71},
    [THAW_E_NUMERIC] = {"E_NUMERIC", 70},
    [THAW_E_STOPPED] = {"E_STOPPED", 75},
    [THAW_E_SUPPORT] = {"E_SUPPORT", 69},
    [THAW_E_INTERNAL] = {"E_INTERNAL", 70},
};

const char *thaw_error(void)
{
    return error_text;
}

const char *thaw_status_name(thaw_status status)
{
    if ((size_t)status >= THAW_COUNT(status_table))
        return "E_UNKNOWN";
    return status_table[status].name;
}

int thaw_exit_code(thaw_status status)
{
    if ((size_t)status >= THAW_COUNT(status_table))
        return status_table[THAW_E_INTERNAL].exit_code;
    return status_table[status].exit_code;
}

thaw_status thaw_fail(thaw_status code, const char *format, ...)
{
    char made[ERROR_SIZE]; /* the arguments may point into the old text */
    va_list args;

    va_start(args, format);
    (void)vsnprintf(made, sizeof made, format, args);
    va_end(args);
    memcpy(error_text, made, strlen(made) + 1);
    return code;
}

thaw_status thaw_fail_context(thaw_status code, const char *format, ...)
{
    char context[1024];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(context, sizeof context, format, args);
    va_end(args);
    return thaw_fail(code, "%s: %s", context, error_text);
}

_Noreturn void thaw__assert_failed(const char *what, const char *file, int line)
{
    (void)fprintf(stderr, "thaw: internal error: '%s' does not hold at %s:%d\n", what, file, line);
    abort();
}
