/*
 * fuzz_idx.c - any bytes as an IDX file of images and of labels, plain or compressed: read or
 * refused, within the file's bounds, with memory in proportion to the file, and nothing left
 * behind.
 */
#include "data/data.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Deflate makes at most 1032 bytes of one; the rest is for the reader itself. */
static bool in_proportion(size_t peak, size_t size)
{
    return peak < 1032 * size + (1 << 18);
}

static void try_as(const uint8_t *data, size_t size, idx_kind kind)
{
    idx_array a = {0};
    const size_t before = thaw__mem_current();
    thaw_status status;

    thaw__mem_peak_reset();
    status = idx_parse(&a, data, size, "fuzz", kind);
    THAW_ASSERT(in_proportion(thaw__mem_peak() - before, size));
    if (status == THAW_OK) {
        const size_t n = (size_t)(a.n * a.height * a.width * a.channels);

        THAW_ASSERT(n > 0 && a.channels <= 4);
        (void)hash_fnv1a_n(HASH_INIT, a.data, n); /* all of it is there */
    } else {
        THAW_ASSERT(a.data == NULL);
        THAW_ASSERT(strstr(thaw_error(), "'fuzz'") && !strchr(thaw_error(), '\n'));
    }
    thaw__free(a.data);
    THAW_ASSERT(thaw__mem_current() == before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_as(data, size, IDX_IMAGES);
    try_as(data, size, IDX_LABELS);
    return 0;
}
