/*
 * base - what every layer stands on: failure, memory, text, numbers, random streams, and the
 * operating system.
 *
 * Knows nothing of tensors, names of layers, files formats or training. Everything here is usable
 * before main() has done anything and after anything has failed.
 */
#ifndef THAW_BASE_H
#define THAW_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <thaw/status.h>

/* ----------------------------------------------------------------------------------------------
 * failing */

/* Set this thread's error text and return code. One line, no trailing stop, names in single quotes.
 */
thaw_status thaw_fail(thaw_status code, const char *format, ...) THAW_PRINTF(2, 3);

/* Put "context: " in front of the current error text; only the recipe reader and readers of named
 * files do this. */
thaw_status thaw_fail_context(thaw_status code, const char *format, ...) THAW_PRINTF(2, 3);

/* Run x; on failure set the local `status` and go to the local label `done`. */
#define THAW_TRY(x)                                                                                \
    do {                                                                                           \
        status = (x);                                                                              \
        if (status != THAW_OK)                                                                     \
            goto done;                                                                             \
    } while (0)

/* Run x; on failure return its status. For functions that hold nothing. */
#define THAW_CHECK(x)                                                                              \
    do {                                                                                           \
        const thaw_status check_status = (x);                                                      \
        if (check_status != THAW_OK)                                                               \
            return check_status;                                                                   \
    } while (0)

/* A broken invariant of ours: prints what and where, then aborts. Not for anything a user or a file
 * can cause. */
#define THAW_ASSERT(x) ((x) ? (void)0 : thaw__assert_failed(#x, __FILE__, __LINE__))
_Noreturn void thaw__assert_failed(const char *what, const char *file, int line);

#define THAW_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define THAW_MIN(a, b)    ((a) < (b) ? (a) : (b))
#define THAW_MAX(a, b)    ((a) > (b) ? (a) : (b))

/* ----------------------------------------------------------------------------------------------
 * sizes */

/* *out = a * b (or a + b); false, *out untouched, when the result does not fit. */
static inline bool size_mul(size_t *out, size_t a, size_t b)
{
    size_t r;

    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

static inline bool size_add(size_t *out, size_t a, size_t b)
{
    size_t r;

    if (__builtin_add_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

/* ----------------------------------------------------------------------------------------------
 * memory */

/*
 * All heap memory of the library. Blocks are aligned to 64 bytes. NULL when out of memory: the
 * caller says what it was for with thaw_fail(THAW_E_NOMEM, ...). thaw__free(NULL) does nothing.
 *
 * thaw__new: count * size bytes, zeroed; a count of 0 gives a valid, freeable pointer; NULL also
 * when the product overflows. thaw__alloc: size bytes, not zeroed. thaw__resize: grow or shrink to
 * count * size bytes, contents kept, the new part zeroed; the old block stays valid on failure.
 */
void *thaw__new(size_t count, size_t size);
void *thaw__alloc(size_t size);
void *thaw__resize(void *block, size_t count, size_t size);
void thaw__free(void *block);
char *thaw__strdup(const char *text);
char *thaw__strndup(const char *text, size_t n);

/* Bytes handed out now, and the largest that figure has been since the last reset. Atomic counters.
 */
size_t thaw__mem_current(void);
size_t thaw__mem_peak(void);
void thaw__mem_peak_reset(void);

/* Has the program installed an allocator? */
bool thaw__mem_hooked(void);

/*
 * Make sure *items (of `size` bytes each) has room for `want` of them; grows by doubling. *capacity
 * is kept by the caller beside the pointer, 0 with NULL at first. For lists that grow one by one.
 */
thaw_status thaw__reserve(void *items, size_t *capacity, size_t want, size_t size) THAW_MUST_USE;

/* Region dropped as a whole; everything made by one compile or one parse comes from one. */
typedef struct thaw_region thaw_region;
thaw_status region_create(thaw_region **out) THAW_MUST_USE;
void region_destroy(thaw_region *region);
void *region_alloc(thaw_region *region, size_t count,
                   size_t size); /* zeroed; NULL when out of memory */
char *region_strdup(thaw_region *region, const char *text);
size_t region_bytes(const thaw_region *region); /* taken so far; NULL: none */

/* ----------------------------------------------------------------------------------------------
 * text */

/*
 * Growing text. Start with TEXT_INIT, end with text_done. `data` is always NUL-terminated, never
 * NULL after a successful call. Out of memory sets `failed`, later calls do nothing, and text_take
 * reports it: check once, at the end.
 */
typedef struct text {
    char *data;
    size_t length;
    size_t capacity;
    bool failed;
} text;
#define TEXT_INIT                                                                                  \
    {                                                                                              \
        0                                                                                          \
    }

void text_add(text *t, const char *s);
void text_add_n(text *t, const char *s, size_t n);
void text_addf(text *t, const char *format, ...) THAW_PRINTF(2, 3);
void text_vaddf(text *t, const char *format, va_list args) THAW_PRINTF(2, 0);
void text_pad(text *t, size_t column); /* spaces up to that column of the current line */
thaw_status text_take(char **out, text *t,
                      const char *what) THAW_MUST_USE; /* caller frees with thaw__free */
void text_done(text *t);

/* Shortest decimal text that reads back as the same double ("0.001", "1e-05", "nan"); never uses
 * the locale. */
void text_add_double(text *t, double value);
void text_add_short_double(text *t, double value); /* for people: at most 6 digits */

/* JSON: a quoted, escaped string (invalid UTF-8 becomes U+FFFD); a number, with null for what JSON
 * cannot say. */
void text_add_json_string(text *t, const char *s);
void text_add_json_double(text *t, double value);

/*
 * A whole JSON text as jansson's tree; give it back with json_decref. Its memory comes from the
 * hook where one is installed. No two keys of an object are equal. THAW_E_DATA "name:line:column:
 * what", THAW_E_LIMIT when it holds too much.
 */
struct json_t;
thaw_status json_parse(struct json_t **out, const char *data, size_t size,
                       const char *name) THAW_MUST_USE;

/* "1.2 MiB", "340 B" / "1,234,567" / "2 min 05 s" into a buffer of at least 32 bytes, which is
 * returned. */
char *format_bytes(char *buffer, uint64_t bytes);
char *format_count(char *buffer, int64_t n);
char *format_duration(char *buffer, double seconds);

/* Whole text as a number, decimal point whatever the locale, no surrounding blanks; false when it
 * is not one. */
bool parse_double(double *out, const char *s);
bool parse_int64(int64_t *out, const char *s);
bool parse_bytes(uint64_t *out, const char *s); /* "512MiB", "4 GiB", "1000000": up to TiB */

/*
 * Up to `most` candidates nearest to `wanted` by edit distance (swaps count one), as " (did you
 * mean 'a' or 'b'?)", or
 * "" when none is near. Result is appended to t.
 */
void text_add_near(text *t, const char *wanted, const char *const *candidates, size_t n,
                   size_t most);

/* Python's repr() of a string: quotes, \\ \n \r \t \xNN \uNNNN escapes. */
void text_add_repr(text *t, const char *s);

/* ----------------------------------------------------------------------------------------------
 * random */

uint64_t hash_fnv1a(const char *s); /* FNV-1a, 64 bits, of the bytes up to NUL */
uint64_t hash_fnv1a_n(uint64_t h, const void *p,
                      size_t n); /* continue a hash; start from HASH_INIT */
#define HASH_INIT UINT64_C(0xCBF29CE484222325)
uint64_t splitmix64(uint64_t *state); /* next output */

/*
 * Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011): four 32-bit words that depend on key and
 * counter alone. Streams are named by key = mix(seed, stream name); counters by what is drawn
 * (epoch, sample, element), so that no generator state exists to be saved.
 */
typedef struct philox_key {
    uint32_t k[2];
} philox_key;
philox_key philox_stream(uint64_t seed, const char *stream);
void philox(uint32_t out[4], philox_key key, uint64_t counter_high, uint64_t counter_low);
double philox_uniform(uint32_t word); /* in [0, 1) */

/*
 * i-th element of a permutation of 0 … n-1 fixed by the key: a Feistel network with cycle walking,
 * O(1) and invertible nowhere needed. n is 1 or more, i in [0, n).
 */
uint64_t permute(uint64_t i, uint64_t n, philox_key key);

/* ----------------------------------------------------------------------------------------------
 * operating system */

/*
 * Every file operation and clock reading goes through this table, so that tests can make the n-th
 * one fail, cut it short, or exit there. Functions have the contract of their POSIX namesakes
 * (result, errno).
 */
typedef struct os_table {
    int (*open)(int dir_fd, const char *path, int flags, unsigned mode);
    int (*close)(int fd);
    ptrdiff_t (*read)(int fd, void *buffer, size_t n);
    ptrdiff_t (*pread)(int fd, void *buffer, size_t n, int64_t offset);
    ptrdiff_t (*write)(int fd, const void *buffer, size_t n);
    int (*fsync)(int fd);
    int (*mkdir)(int dir_fd, const char *path, unsigned mode);
    int (*rename_new)(int old_dir, const char *old_path, int new_dir,
                      const char *new_path); /* fails on an existing target */
    int (*rename)(int old_dir, const char *old_path, int new_dir,
                  const char *new_path); /* replaces */
    int (*link)(int old_dir, const char *old_path, int new_dir, const char *new_path);
    int (*symlink)(const char *target, int dir_fd, const char *path);
    int (*unlink)(int dir_fd, const char *path, bool directory);
    int (*truncate)(int fd, int64_t size);
    int (*lock)(int fd); /* exclusive flock, without waiting */
    int64_t (*free_bytes)(int fd);
    double (*monotonic)(void); /* seconds from an arbitrary start */
    double (*wall)(void);      /* seconds since 1970-01-01 UTC */
} os_table;

extern const os_table os_posix;
const os_table *os(void);               /* the table in force */
void os_install(const os_table *table); /* NULL: back to os_posix; for tests */

/* What a path names, after following links. */
typedef enum os_kind { OS_ABSENT, OS_FILE, OS_FOLDER, OS_OTHER } os_kind;
os_kind os_kind_of(const char *path);

/*
 * A whole regular file in memory, NUL added after its `size` bytes; free with thaw__free. Errors:
 * THAW_E_MISSING when it is not there, THAW_E_DATA when it is no regular file, THAW_E_LIMIT over
 * max_bytes, THAW_E_IO. FIFOs and devices are refused without being opened for reading.
 */
thaw_status os_read_file(char **out, size_t *size, const char *path,
                         size_t max_bytes) THAW_MUST_USE;

/* thaw_fail with errno's text: "cannot open 'a/b': No such file or directory". */
thaw_status os_fail(thaw_status code, const char *doing, const char *name);

/* The table's open, close-on-exec, going on after EINTR: a descriptor, or -1 and errno. */
int os_open_at(int dir_fd, const char *path, int flags, unsigned mode);

/* fsync, going on after EINTR and nothing else: a failed one must not be tried again. The second
 * is for the name of a folder, which lies in its parent. */
thaw_status os_sync(int fd, const char *name) THAW_MUST_USE;
thaw_status os_sync_parent(const char *folder) THAW_MUST_USE;

/* ".tmp-" and 16 random hexadecimal digits. */
#define OS_RANDOM_NAME 22
void os_random_name(char out[OS_RANDOM_NAME]);

/* A regular file open for os_pread_all. Close with os_close. */
thaw_status os_open_file(int *fd, int64_t *size, const char *path) THAW_MUST_USE;
thaw_status os_pread_all(int fd, void *buffer, size_t n, int64_t offset,
                         const char *name) THAW_MUST_USE;
void os_close(int fd);

/* All of an open file will be read soon, in no order: a hint, so that a disk need not seek. */
void os_will_read(int fd);

/* Write n bytes, going on after short writes and EINTR. `name` is for the message. */
thaw_status os_write_all(int fd, const void *data, size_t n, const char *name) THAW_MUST_USE;

/*
 * A new file, on disk before the call returns: written under a random name in dir, fsynced, renamed
 * over `name`, directory fsynced. os_replace_file writes these bytes; os_replace_with lets `write`
 * do it (fd is open; `name` is for messages).
 */
typedef thaw_status os_writer(int fd, const char *name, const void *user);
thaw_status os_replace_file(const char *dir, const char *name, const void *data,
                            size_t n) THAW_MUST_USE;
thaw_status os_replace_with(const char *dir, const char *name, os_writer *write,
                            const void *user) THAW_MUST_USE;

/* mkdir -p; the names of new folders are on disk before the call returns. */
thaw_status os_make_folders(const char *path) THAW_MUST_USE;

/* Names in a folder without "." and "..", sorted by bytes; one block, free with os_names_free. */
typedef struct os_names {
    char **name;
    size_t n;
} os_names;
thaw_status os_list(os_names *out, const char *path) THAW_MUST_USE;
void os_names_free(os_names *names);

/* dir + "/" + name; free with thaw__free; NULL when out of memory. */
char *os_path(const char *dir, const char *name);

/* Processors this process may use: the smaller of its affinity mask and its cgroup's quota, at
 * least 1. */
int os_processors(void);

/* From now on the calling thread leaves the processors to other threads first, where the system can
 * do that for one thread alone. There is no way back. */
void os_lower_priority(void);

/*
 * Bytes of memory this process may still take before others have to give some up; 0 when the system
 * does not tell. os_memory_left: the same by these texts of /proc/meminfo and /proc/self/cgroup.
 */
uint64_t os_memory_available(void);
uint64_t os_memory_left(const char *meminfo, const char *proc_cgroup, const char *mount);

/* Largest resident memory of the whole process so far (VmHWM), libraries included; 0 when the
 * system does not tell. */
uint64_t os_memory_peak(void);

/* Processors the cgroup with this /proc/self/cgroup text may use, rounded up; 0 without a limit.
 * `mount` is where the hierarchies are mounted, "/sys/fs/cgroup". */
int os_quota(const char *proc_cgroup, const char *mount);

#endif
