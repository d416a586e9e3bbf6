/*
 * check.h - what the test programs share, on top of cmocka: comparing arrays with the worst element
 * shown, statuses with their error text, a temporary folder, and an allocator that fails at the
 * n-th call.
 *
 * A failing check prints "file:line: what was wrong" and ends the test case. Everything is static
 * inline: a test program includes this header and links with nothing more than libthaw and cmocka.
 */
#ifndef THAW_TESTS_CHECK_H
#define THAW_TESTS_CHECK_H

#include <ftw.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <thaw/status.h>

/* Fail with a formatted reason. */
#define CHECK_FAIL(...) check_fail_at(__FILE__, __LINE__, __VA_ARGS__)

/* A condition; the message shows it. CHECK_MSG adds a formatted explanation. */
#define CHECK(x)          ((x) ? (void)0 : check_fail_at(__FILE__, __LINE__, "not true: %s", #x))
#define CHECK_MSG(x, ...) ((x) ? (void)0 : check_fail_at(__FILE__, __LINE__, __VA_ARGS__))

/* A call that must succeed; shows thaw_error() when it does not. */
#define CHECK_OK(x) check_status_at(__FILE__, __LINE__, #x, (x), THAW_OK, NULL)

/* A call that must fail with this status. */
#define CHECK_STATUS(x, want) check_status_at(__FILE__, __LINE__, #x, (x), (want), NULL)

/* The same, and thaw_error() must contain `part`. */
#define CHECK_ERROR(x, want, part) check_status_at(__FILE__, __LINE__, #x, (x), (want), (part))

/* Integers and texts; the message shows both. */
#define CHECK_INT(got, want)       check_int_at(__FILE__, __LINE__, #got, (int64_t)(got), (int64_t)(want))
#define CHECK_STR(got, want)       check_str_at(__FILE__, __LINE__, #got, (got), (want))
#define CHECK_CONTAINS(text, part) check_contains_at(__FILE__, __LINE__, #text, (text), (part))

/* Two numbers, |got - want| <= atol + rtol * |want|; NaN fails, equal infinities pass. */
#define CHECK_NEAR(got, want, rtol, atol)                                                          \
    check_near_at(__FILE__, __LINE__, #got, (double)(got), (double)(want), (rtol), (atol))

/* Two arrays of n elements, each of them float or double (told apart by the element's size). Shows
 * the worst element. */
#define CHECK_CLOSE(got, want, n, rtol, atol)                                                      \
    check_close_at(__FILE__, __LINE__, (got), sizeof *(got), (want), sizeof *(want), (size_t)(n),  \
                   (rtol), (atol))

/* Two blocks of n bytes, the same bit for bit. Shows the first byte that differs. */
#define CHECK_BYTES(got, want, n)                                                                  \
    check_bytes_at(__FILE__, __LINE__, #got, (got), (want), (size_t)(n))

THAW_PRINTF(3, 4)
static inline void check_fail_at(const char *file, int line, const char *format, ...)
{
    char message[2048];
    va_list args;

    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    print_error("%s:%d: %s\n", file, line, message);
    _fail(file, line);
}

static inline void check_status_at(const char *file, int line, const char *call, thaw_status got,
                                   thaw_status want, const char *part)
{
    if (got != want)
        check_fail_at(file, line, "%s: got %s, want %s; error text: '%s'", call,
                      thaw_status_name(got), thaw_status_name(want), thaw_error());
    else if (part && !strstr(thaw_error(), part))
        check_fail_at(file, line, "%s: error text '%s' does not contain '%s'", call, thaw_error(),
                      part);
}

static inline void check_int_at(const char *file, int line, const char *what, int64_t got,
                                int64_t want)
{
    if (got != want)
        check_fail_at(file, line, "%s: got %lld, want %lld", what, (long long)got, (long long)want);
}

static inline void check_str_at(const char *file, int line, const char *what, const char *got,
                                const char *want)
{
    if (!got || !want ? got != want : strcmp(got, want) != 0)
        check_fail_at(file, line, "%s: got '%s', want '%s'", what, got ? got : "(null)",
                      want ? want : "(null)");
}

static inline void check_contains_at(const char *file, int line, const char *what,
                                     const char *string, const char *part)
{
    if (!string || !strstr(string, part))
        check_fail_at(file, line, "%s: '%s' does not contain '%s'", what,
                      string ? string : "(null)", part);
}

/* Error as a multiple of what is allowed: 1 or less passes. NaN and mismatched infinities give
 * INFINITY. */
static inline double check_excess(double got, double want, double rtol, double atol)
{
    const double allowed = atol + rtol * fabs(want);
    const double error = fabs(got - want);

    if (got == want)
        return 0;
    if (!(error <= allowed))
        return isfinite(error) && allowed > 0 ? error / allowed : INFINITY;
    return allowed > 0 ? error / allowed : 0;
}

static inline void check_near_at(const char *file, int line, const char *what, double got,
                                 double want, double rtol, double atol)
{
    const double excess = check_excess(got, want, rtol, atol);

    if (!(excess <= 1))
        check_fail_at(file, line, "%s: got %.17g, want %.17g, error %.3g (%.3g times the allowed)",
                      what, got, want, fabs(got - want), excess);
}

static inline double check_element(const void *array, size_t size, size_t i)
{
    if (size == sizeof(float))
        return (double)((const float *)array)[i];
    return ((const double *)array)[i];
}

static inline void check_close_at(const char *file, int line, const void *got, size_t got_size,
                                  const void *want, size_t want_size, size_t n, double rtol,
                                  double atol)
{
    double worst = -1;
    size_t at = 0, misses = 0;

    for (size_t i = 0; i < n; i++) {
        const double excess = check_excess(check_element(got, got_size, i),
                                           check_element(want, want_size, i), rtol, atol);

        if (!(excess <= 1))
            misses++;
        if (excess > worst) {
            worst = excess;
            at = i;
        }
    }
    if (misses > 0)
        check_fail_at(file, line,
                      "element %zu of %zu: got %.9g, want %.9g (%.3g times the allowed; %zu of %zu "
                      "elements miss)",
                      at, n, check_element(got, got_size, at), check_element(want, want_size, at),
                      worst, misses, n);
}

static inline void check_bytes_at(const char *file, int line, const char *what, const void *got,
                                  const void *want, size_t n)
{
    const unsigned char *a = got, *b = want;

    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i])
            check_fail_at(file, line, "%s: byte %zu of %zu: got 0x%02x, want 0x%02x", what, i, n,
                          a[i], b[i]);
}

/* ----------------------------------------------------------------------------------------------
 * temporary folder */

/* A new, empty folder; give it back with check_folder_remove. The path is malloc'ed. */
static inline char *check_folder(void)
{
    const char *tmp = getenv("TMPDIR");
    char path[4096];
    char *out;

    snprintf(path, sizeof path, "%s/thaw-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(path))
        CHECK_FAIL("cannot make a temporary folder '%s'", path);
    out = malloc(strlen(path) + 1);
    CHECK(out != NULL);
    strcpy(out, path);
    return out;
}

static inline int check_folder_remove_one(const char *path, const struct stat *st, int flag,
                                          struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

/* Remove the folder and all that is in it, and free the path. */
static inline void check_folder_remove(char *path)
{
    if (path)
        nftw(path, check_folder_remove_one, 32, FTW_DEPTH | FTW_PHYS);
    free(path);
}

/* folder + "/" + name in one of eight buffers that are used in turn: good for arguments of a call.
 */
static inline const char *check_path(const char *folder, const char *name)
{
    static char buffer[8][4096];
    static int next;
    char *const b = buffer[next++ % 8];

    snprintf(b, sizeof buffer[0], "%s/%s", folder, name);
    return b;
}

/* Write a whole file; for input files of tests. */
static inline void check_write_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");

    CHECK_MSG(f != NULL, "cannot create '%s'", path);
    CHECK_MSG(fwrite(data, 1, n, f) == n, "cannot write '%s'", path);
    CHECK_MSG(fclose(f) == 0, "cannot write '%s'", path);
}

/* A whole file, NUL added; malloc'ed. size may be NULL. */
static inline char *check_read_file(size_t *size, const char *path)
{
    FILE *f = fopen(path, "rb");
    char *data;
    long n;

    CHECK_MSG(f != NULL, "cannot open '%s'", path);
    fseek(f, 0, SEEK_END);
    n = ftell(f);
    CHECK_MSG(n >= 0, "cannot read '%s'", path);
    rewind(f);
    data = malloc((size_t)n + 1);
    CHECK(data != NULL);
    CHECK_MSG(fread(data, 1, (size_t)n, f) == (size_t)n, "cannot read '%s'", path);
    data[n] = '\0';
    fclose(f);
    if (size)
        *size = (size_t)n;
    return data;
}

/* ----------------------------------------------------------------------------------------------
 * failing allocations */

/*
 * The n-th allocation of the library from here on fails (from 1), the others succeed; forever: all
 * from the n-th on fail. check_alloc_restore() ends it and returns whether the n-th was reached, so
 * that a loop over n knows when the last one is behind it:
 *
 *     for (int n = 1, more = 1; more; n++) {
 *         check_alloc_fail(n, false);
 *         status = thing_create(&thing);
 *         more = check_alloc_restore();
 *         CHECK(status == THAW_OK || status == THAW_E_NOMEM);
 *         ...
 *     }
 *
 * Blocks made before or during may be freed after: both allocators are malloc underneath.
 */
typedef struct check_allocator {
    long count, fail_at;
    bool forever;
} check_allocator;
static check_allocator check_alloc_state __attribute__((unused));

static inline void *check_alloc_hook(void *user, size_t size)
{
    check_allocator *a = user;
    const long n = __atomic_add_fetch(&a->count, 1, __ATOMIC_SEQ_CST);

    if (n == a->fail_at || (a->forever && n > a->fail_at))
        return NULL;
    return aligned_alloc(64, (size + 63) / 64 * 64);
}

static inline void check_release_hook(void *user, void *block, size_t size)
{
    (void)user;
    (void)size;
    free(block);
}

static inline void check_alloc_fail(long n, bool forever)
{
    const thaw_allocator a = {check_alloc_hook, check_release_hook, &check_alloc_state};

    check_alloc_state = (check_allocator){.fail_at = n, .forever = forever};
    thaw_set_allocator(&a);
}

static inline bool check_alloc_restore(void)
{
    thaw_set_allocator(NULL);
    return check_alloc_state.count >= check_alloc_state.fail_at;
}

#endif
