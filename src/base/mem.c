/*
 * mem.c - all heap memory of the library: the allocator hook, counting, growing lists, regions.
 *
 * Every block carries its size in a 64-byte header, so that blocks stay aligned for vector code and
 * the allocator hook is told the size it gets back. The counters are what tests of memory use read.
 * Large blocks are mappings of their own: what is given back is the system's again at once, however
 * a heap would have cut it up, so that memory which is predicted is memory which is used; and they
 * grow without a copy.
 */
#include "base/base.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HEADER 64

/* Blocks from here on are mapped. Sanitizers see more of those that are not. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define LARGE SIZE_MAX
#else
#define LARGE ((size_t)1 << 20)
#endif

/* What stands in front of a block. */
typedef struct block_head {
    size_t whole; /* bytes, with the header */
    bool mapped;  /* whatever the hook is by now */
} block_head;

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

static bool is_mapped(size_t whole)
{
    return whole >= LARGE && !thaw__mem_hooked();
}

static char *map(size_t whole)
{
    void *const block =
        mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return block == MAP_FAILED ? NULL : block;
}

static block_head head_of(const void *block)
{
    block_head head;

    memcpy(&head, (const char *)block - HEADER, sizeof head);
    return head;
}

static void *set_head(char *block, size_t whole, bool mapped)
{
    const block_head head = {whole, mapped};

    memcpy(block, &head, sizeof head);
    return block + HEADER;
}

void *thaw__alloc(size_t size)
{
    size_t whole;
    char *block;

    if (!size_add(&whole, size, HEADER))
        return NULL;
    const bool mapped = is_mapped(whole);
    block = mapped ? map(whole) : hook.alloc(hook.user, whole);
    if (!block)
        return NULL;
    count_more(whole);
    return set_head(block, whole, mapped);
}

void thaw__free(void *block)
{
    if (!block)
        return;
    const block_head head = head_of(block);
    char *const start = (char *)block - HEADER;

    atomic_fetch_sub(&current_bytes, head.whole);
    if (head.mapped)
        (void)munmap(start, head.whole);
    else
        hook.release(hook.user, start, head.whole);
}

void *thaw__new(size_t count, size_t size)
{
    size_t n;
    void *block;

    if (!size_mul(&n, count, size))
        return NULL;
    block = thaw__alloc(n);
    if (block && !head_of(block).mapped) /* the system's pages are zero */
        memset(block, 0, n);
    return block;
}

/* Another size of a mapping; what is new is zero. NULL: it stays as it is. */
static void *remap(void *block, size_t old, size_t n)
{
    size_t whole;
    char *moved;

    if (!size_add(&whole, n, HEADER))
        return NULL;
    moved = mremap((char *)block - HEADER, old, whole, MREMAP_MAYMOVE);
    if ((void *)moved == MAP_FAILED)
        return NULL;
    if (whole > old)
        count_more(whole - old);
    else
        atomic_fetch_sub(&current_bytes, old - whole);
    /* the rest of the last page is as it was */
    const size_t kept = THAW_MIN(old, whole), unit = (size_t)sysconf(_SC_PAGESIZE);
    const size_t page = (kept + unit - 1) / unit * unit;
    memset(moved + kept, 0, THAW_MIN(page, whole) - kept);
    return set_head(moved, whole, true);
}

void *thaw__resize(void *block, size_t count, size_t size)
{
    const block_head old = block ? head_of(block) : (block_head){0};
    size_t n;
    void *grown;

    if (!size_mul(&n, count, size))
        return NULL;
    if (old.mapped && n >= LARGE && !thaw__mem_hooked())
        return remap(block, old.whole, n);
    grown = thaw__new(n, 1);
    if (grown && block) {
        memcpy(grown, block, THAW_MIN(old.whole - HEADER, n));
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

size_t region_bytes(const thaw_region *region)
{
    size_t sum = 0;

    for (const region_chunk *c = region ? region->chunk : NULL; c; c = c->next)
        sum += c->size;
    return sum;
}

char *region_strdup(thaw_region *region, const char *s)
{
    const size_t n = strlen(s) + 1;
    char *copy = region_alloc(region, n, 1);

    if (copy)
        memcpy(copy, s, n);
    return copy;
}
