/*
 * mem.c - all heap memory of the library: the allocator hook, counting, growing lists, regions.
 *
 * Every block carries its size in a 64-byte header, so that blocks stay aligned for vector code and
 * the allocator hook is told the size it gets back. The counters are what tests of memory use read.
 */
#include "base/base.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define HEADER 64

static void *default_alloc(void *user, size_t size)
{
    void *block = NULL;

    (void)user;
    if (posix_memalign(&block, HEADER, size) != 0)
        return NULL;
    return block;
}

static void default_release(void *user, void *block, size_t size)
{
    (void)user;
    (void)size;
    free(block);
}

static thaw_allocator hook = {default_alloc, default_release, NULL};
static atomic_size_t current_bytes, peak_bytes;

void thaw_set_allocator(const thaw_allocator *allocator)
{
    hook = allocator ? *allocator : (thaw_allocator){default_alloc, default_release, NULL};
}

bool thaw__mem_hooked(void)
{
    return hook.alloc != default_alloc;
}

static void count_more(size_t size)
{
    const size_t now = atomic_fetch_add(&current_bytes, size) + size;
    size_t peak = atomic_load(&peak_bytes);

    while (now > peak && !atomic_compare_exchange_weak(&peak_bytes, &peak, now))
        continue;
}

size_t thaw__mem_current(void)
{
    return atomic_load(&current_bytes);
}

size_t thaw__mem_peak(void)
{
    return atomic_load(&peak_bytes);
}

void thaw__mem_peak_reset(void)
{
    atomic_store(&peak_bytes, atomic_load(&current_bytes));
}

void *thaw__alloc(size_t size)
{
    size_t whole;
    char *block;

    if (!size_add(&whole, size, HEADER))
        return NULL;
    block = hook.alloc(hook.user, whole);
    if (!block)
        return NULL;
    memcpy(block, &whole, sizeof whole);
    count_more(whole);
    return block + HEADER;
}

static size_t block_whole(const void *block)
{
    size_t whole;

    memcpy(&whole, (const char *)block - HEADER, sizeof whole);
    return whole;
}

void thaw__free(void *block)
{
    size_t whole;

    if (!block)
        return;
    whole = block_whole(block);
    atomic_fetch_sub(&current_bytes, whole);
    hook.release(hook.user, (char *)block - HEADER, whole);
}

void *thaw__new(size_t count, size_t size)
{
    size_t n;
    void *block;

    if (!size_mul(&n, count, size))
        return NULL;
    block = thaw__alloc(n);
    if (block)
        memset(block, 0, n);
    return block;
}

void *thaw__resize(void *block, size_t count, size_t size)
{
    void *grown = thaw__new(count, size);

    if (grown && block) {
        const size_t old = block_whole(block) - HEADER;

        memcpy(grown, block, THAW_MIN(old, count * size));
        thaw__free(block);
    }
    return grown;
}

char *thaw__strndup(const char *s, size_t n)
{
    char *copy = thaw__new(n + 1, 1);

    if (copy)
        memcpy(copy, s, n);
    return copy;
}

char *thaw__strdup(const char *s)
{
    return thaw__strndup(s, strlen(s));
}

thaw_status thaw__reserve(void *items, size_t *capacity, size_t want, size_t size)
{
    void *block;
    size_t n = *capacity ? *capacity : 8;

    if (want <= *capacity)
        return THAW_OK;
    while (n < want)
        if (!size_mul(&n, n, 2))
            return thaw_fail(THAW_E_NOMEM, "a list of %zu items is too long", want);
    memcpy(&block, items, sizeof block);
    block = thaw__resize(block, n, size);
    if (!block)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a list of %zu items of %zu bytes", n,
                         size);
    memcpy(items, &block, sizeof block);
    *capacity = n;
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * regions */

#define REGION_CHUNK 16384

typedef struct region_chunk {
    struct region_chunk *next;
    size_t used, size;
} region_chunk;

struct thaw_region {
    region_chunk *chunk; /* newest first; only the newest has room */
};

thaw_status region_create(thaw_region **out)
{
    thaw_region *r = thaw__new(1, sizeof *r);

    if (!r)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a memory region");
    *out = r;
    return THAW_OK;
}

void region_destroy(thaw_region *region)
{
    if (!region)
        return;
    for (region_chunk *c = region->chunk, *next; c; c = next) {
        next = c->next;
        thaw__free(c);
    }
    thaw__free(region);
}

static region_chunk *region_grow(thaw_region *region, size_t n)
{
    const size_t head = (sizeof(region_chunk) + 15) & ~(size_t)15;
    size_t size = THAW_MAX(n, (size_t)REGION_CHUNK), whole;
    region_chunk *c;

    if (!size_add(&whole, size, head))
        return NULL;
    c = thaw__new(1, whole);
    if (!c)
        return NULL;
    c->used = head;
    c->size = whole;
    c->next = region->chunk;
    region->chunk = c;
    return c;
}

void *region_alloc(thaw_region *region, size_t count, size_t size)
{
    region_chunk *c = region->chunk;
    size_t n;
    void *p;

    if (!size_mul(&n, count, size) || !size_add(&n, n, 15))
        return NULL;
    n &= ~(size_t)15;
    if (!c || c->size - c->used < n)
        c = region_grow(region, n);
    if (!c)
        return NULL;
    p = (char *)c + c->used;
    c->used += n;
    return p;
}

char *region_strdup(thaw_region *region, const char *s)
{
    const size_t n = strlen(s) + 1;
    char *copy = region_alloc(region, n, 1);

    if (copy)
        memcpy(copy, s, n);
    return copy;
}

/* ----------------------------------------------------------------------------------------------
 * the process */

uint64_t thaw__process_peak(void)
{
    struct rusage usage;

    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return 0;
    return (uint64_t)usage.ru_maxrss * 1024;
}
