/*
 * augment.c - random changes of one image: a mirror image, a shift.
 *
 * What is drawn depends on (seed, epoch, sample) alone, so a sample looks the same whoever prepares
 * it and wherever in a run it was resumed. Works on stored pixels, before normalisation.
 */
#include "data/data.h"

#include <string.h>

augmentation augment_draw(philox_key key, int64_t epoch, int64_t id, int shift, bool flip)
{
    const int span = 2 * shift + 1;
    augmentation a = {0};
    uint32_t word[4];

    philox(word, key, (uint64_t)epoch, (uint64_t)id);
    a.dy = (int)(philox_uniform(word[0]) * span) - shift;
    a.dx = (int)(philox_uniform(word[1]) * span) - shift;
    a.flip = flip && (word[2] & 1) != 0;
    return a;
}

/* Move all rows and columns by (dy, dx). An image is one run of bytes, so the move is one copy;
 * what it wraps around the sides is then cleared. */
static void move(uint8_t *dst, const uint8_t *src, int64_t height, int64_t row, int64_t dy,
                 int64_t dx)
{
    const int64_t offset = dy * row + dx, size = height * row;
    const int64_t to = THAW_MAX(offset, 0), from = THAW_MAX(-offset, 0);
    const int64_t first = THAW_MAX(dy, 0), end = height + THAW_MIN(dy, 0);

    memcpy(dst + to, src + from, (size_t)(size - to - from));
    memset(dst, 0, (size_t)(first * row));
    memset(dst + end * row, 0, (size_t)((height - end) * row));
    for (int64_t y = first; y < end; y++)
        for (int64_t x = 0; x < THAW_MAX(dx, -dx); x++)
            dst[y * row + (dx > 0 ? x : row - 1 - x)] = 0;
}

static inline void mirror_row(uint8_t *row, int64_t width, int64_t channels)
{
    for (int64_t left = 0, right = width - 1; left < right; left++, right--)
        for (int64_t c = 0; c < channels; c++) {
            const uint8_t kept = row[left * channels + c];

            row[left * channels + c] = row[right * channels + c];
            row[right * channels + c] = kept;
        }
}

void augment_apply(uint8_t *dst, const uint8_t *src, int64_t height, int64_t width,
                   int64_t channels, const augmentation *a)
{
    const int64_t row = width * channels;
    /* mirrored then moved right is moved left then mirrored, which can be done in place */
    const int64_t dx = a->flip ? -a->dx : a->dx;

    move(dst, src, height, row, a->dy, dx * channels);
    if (!a->flip)
        return;
    for (int64_t y = 0; y < height; y++)
        if (channels == 1) /* a constant here is what makes mirroring fast */
            mirror_row(dst + y * row, width, 1);
        else
            mirror_row(dst + y * row, width, channels);
}
