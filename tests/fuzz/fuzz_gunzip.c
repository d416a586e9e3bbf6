/*
 * fuzz_gunzip.c - any bytes behind a gzip header: the same bytes or the same refusal come out,
 * whatever the size of the pieces read, and never more than was said to be possible.
 *
 * The first byte chooses the pieces.
 */
#include "data/data.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEADER = 10, MOST = 1 << 14 };

/* What came of reading: how much, its hash, and the outcome of the end. */
typedef struct outcome {
    size_t n;
    uint64_t hash;
    thaw_status status;
} outcome;

static outcome read_all(const uint8_t *bytes, size_t size, size_t piece)
{
    static uint8_t buffer[4096];
    outcome o = {.hash = HASH_INIT};
    byte_source *s = NULL;
    size_t got = 0;

    o.status = byte_source_open_memory(&s, bytes, size, "fuzz");
    THAW_ASSERT(o.status == THAW_OK);
    do {
        o.status = byte_source_read(&got, s, buffer, piece);
        if (o.status != THAW_OK)
            break;
        o.n += got;
        o.hash = hash_fnv1a_n(o.hash, buffer, got);
    } while (got == piece && o.n < MOST);
    THAW_ASSERT(o.n <= byte_source_most(s));
    if (o.status == THAW_OK)
        o.status = byte_source_finish(s);
    byte_source_close(s);
    THAW_ASSERT(o.status == THAW_OK || o.status == THAW_E_DATA);
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t header[HEADER] = {0x1f, 0x8b, 8};
    const size_t before = thaw__mem_current();
    uint8_t *bytes;

    if (size == 0)
        return 0;
    bytes = thaw__alloc(size + HEADER);
    THAW_ASSERT(bytes != NULL);
    memcpy(bytes, header, HEADER);
    memcpy(bytes + HEADER, data + 1, size - 1);

    const size_t n = HEADER + size - 1;
    const outcome a = read_all(bytes, n, 1 + data[0] * (size_t)15), b = read_all(bytes, n, 4096);

    THAW_ASSERT(a.n >= MOST || b.n >= MOST || a.status == b.status);
    THAW_ASSERT(a.status != THAW_OK || b.status != THAW_OK || a.n >= MOST || a.hash == b.hash);
    thaw__free(bytes);
    THAW_ASSERT(thaw__mem_current() == before);
    return 0;
}
