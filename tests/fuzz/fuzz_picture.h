/*
 * fuzz_picture.h - any bytes as a picture of one kind: pixels or one line of refusal, with bounded
 * memory and nothing left behind. Small limits, so that time goes into the reader and not into
 * large pictures.
 */
#ifndef FUZZ_PICTURE_H
#define FUZZ_PICTURE_H

#include "data/picture.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef thaw_status decode_fn(picture *out, int *orientation, const void *bytes, size_t size,
                              const char *name, const picture_limits *limits);

static inline int fuzz_picture(decode_fn *decode, const uint8_t *data, size_t size)
{
    const picture_limits limits = {.most_pixels = 1 << 16};
    const size_t before = thaw__mem_current();
    picture p = {0};
    int orientation = 0;
    thaw_status status;

    thaw__mem_peak_reset();
    status = decode(&p, &orientation, data, size, "fuzz", &limits);
    THAW_ASSERT(thaw__mem_peak() - before < (size_t)64 << 20);
    THAW_ASSERT(orientation >= 1 && orientation <= 8);
    if (status == THAW_OK) {
        THAW_ASSERT(p.width > 0 && p.height > 0 && (p.channels == 1 || p.channels == 3));
        THAW_ASSERT(p.width * p.height <= limits.most_pixels);
        (void)hash_fnv1a_n(HASH_INIT, p.pixels, (size_t)(p.width * p.height * p.channels));
        THAW_ASSERT(picture_upright(&p, orientation, "fuzz") == THAW_OK);
    } else {
        THAW_ASSERT(strstr(thaw_error(), "'fuzz'") && !strchr(thaw_error(), '\n'));
    }
    picture_done(&p);
    THAW_ASSERT(thaw__mem_current() == before);
    return 0;
}

#endif
