/*
 * thaw/status.h - status codes, the last error's text, and the few attributes the other headers
 * use.
 *
 * Every function that can fail returns a thaw_status, is marked must-use, and leaves its outputs
 * untouched on failure. The text of the failure is kept per thread and read with thaw_error().
 */
#ifndef THAW_STATUS_H
#define THAW_STATUS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define THAW_API               __attribute__((visibility("default")))
#define THAW_MUST_USE          __attribute__((warn_unused_result))
#define THAW_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define THAW_API
#define THAW_MUST_USE
#define THAW_PRINTF(fmt, args)
#endif

/*
 * What went wrong, coarse enough for a caller to act on. The numbers are stable; thaw_exit_code()
 * maps each to the exit code of the program (sysexits numbers, given in brackets).
 */
typedef enum thaw_status {
    THAW_OK = 0,
    THAW_E_USAGE =
        1, /* the call itself is wrong: a bad option, an argument out of its range [64] */
    THAW_E_RECIPE = 2,  /* the recipe: unknown key, wrong type, contradiction [78] */
    THAW_E_PATTERN = 3, /* a pattern is malformed [78] */
    THAW_E_NOMATCH = 4, /* a pattern or name selects nothing [78] */
    THAW_E_LIMIT = 5,   /* a limit was exceeded: match effort, depth, count, size [78] */
    THAW_E_RANGE = 6,   /* a number is outside its range, NaN or infinite [78] */
    THAW_E_REBUILD = 7, /* the optimizer must be rebuilt and the caller did not allow it [78] */
    THAW_E_MISMATCH =
        8,             /* two things that must agree do not: checkpoint and recipe, metadata [78] */
    THAW_E_DATA = 9,   /* a data or model file is malformed [65] */
    THAW_E_SHAPE = 10, /* shapes or dtypes do not fit [65] */
    THAW_E_MISSING = 11, /* an input file or folder is not there [66] */
    THAW_E_CORRUPT = 12, /* a checkpoint fails verification [65] */
    THAW_E_CREATE = 13,  /* an output cannot be created, or is in use by another process [73] */
    THAW_E_IO = 14,      /* reading or writing failed underway [74] */
    THAW_E_NOMEM = 15,   /* out of memory [71] */
    THAW_E_OS = 16,      /* another operating-system call failed [71] */
    THAW_E_NUMERIC = 17, /* too many non-finite losses or gradients in a row [70] */
    THAW_E_STOPPED = 18, /* stopped on request, state saved: start me again [75] */
    THAW_E_SUPPORT = 19, /* not supported by this build, executor or format [69] */
    THAW_E_INTERNAL = 20 /* an invariant of ours is broken [70] */
} thaw_status;

/* Text of this thread's last failure: one line, no trailing stop; "" when nothing failed. Valid
 * until the next failure. */
THAW_API const char *thaw_error(void);

/* Short name of a status, such as "E_RECIPE"; static storage; never NULL. */
THAW_API const char *thaw_status_name(thaw_status status);

/* Exit code of the program for a status: 0 for THAW_OK, else a number of sysexits.h, as listed
 * above. */
THAW_API int thaw_exit_code(thaw_status status);

/*
 * Where all of the library's own memory comes from. Set once, before any other call; not
 * thread-safe.
 *
 * alloc    returns size bytes aligned to 64, or NULL; size is 1 or more
 * release  takes back what alloc returned; size is what was asked for
 */
typedef struct thaw_allocator {
    void *(*alloc)(void *user, size_t size);
    void (*release)(void *user, void *block, size_t size);
    void *user;
} thaw_allocator;

/*
 * Install an allocator; NULL restores the default. The struct is copied. The libraries that read
 * JSON (jansson) and match patterns (PCRE2) use it, too. jansson knows one allocator for the whole
 * process, so a program that itself holds jansson's values must not install one.
 */
THAW_API void thaw_set_allocator(const thaw_allocator *allocator);

#ifdef __cplusplus
}
#endif
#endif
