/*
 * exif.c - which way up a picture was taken: one number out of the first directory of a TIFF block.
 *
 * Every offset is checked against the block before it is followed, and nothing is followed twice,
 * so any bytes may be given. What cannot be understood says nothing: the picture is taken as it is.
 */
#include "data/picture.h"

#include <string.h>

#define TAG_ORIENTATION 0x0112
#define TYPE_SHORT      3
#define ENTRY           12 /* bytes: tag, type, count, value */

static uint32_t number(const uint8_t *p, int bytes, bool big_endian)
{
    uint32_t n = 0;

    for (int i = 0; i < bytes; i++)
        n = n << 8 | p[big_endian ? i : bytes - 1 - i];
    return n;
}

int exif_orientation(const uint8_t *tiff, size_t n)
{
    bool big;
    size_t at, entries;

    if (n < 8 || (memcmp(tiff, "II*\0", 4) != 0 && memcmp(tiff, "MM\0*", 4) != 0))
        return 1;
    big = tiff[0] == 'M';
    at = number(tiff + 4, 4, big);
    if (at > n || n - at < 2)
        return 1;
    entries = number(tiff + at, 2, big);
    at += 2;
    for (size_t i = 0; i < entries && n - at >= ENTRY; i++, at += ENTRY) {
        const uint8_t *e = tiff + at;
        uint32_t value;

        if (number(e, 2, big) != TAG_ORIENTATION)
            continue;
        value = number(e + 8, 2, big);
        return number(e + 2, 2, big) == TYPE_SHORT && number(e + 4, 4, big) == 1 && value >= 1 &&
                       value <= 8
                   ? (int)value
                   : 1;
    }
    return 1;
}
