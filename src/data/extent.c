/*
 * extent.c - what a picture will take in memory while it is decoded, from the header of its file.
 *
 * A few bytes are read, nothing is decoded, and nothing is judged: what cannot be understood here
 * takes the size of its file, and the decoder will say what is wrong with it.
 */
#include "data/picture.h"

#include <string.h>

enum { SOI = 0xD8, TEM = 0x01, RST = 0xD0, EOI = 0xD9, SOS = 0xDA, APP1 = 0xE1 };
enum { SOF = 0xC0, DHT = 0xC4, JPG = 0xC8, DAC = 0xCC };

#define MOST_SEGMENTS 1000
#define EXIF_HEADER   6
#define BLOCK         8
#define BLOCK_BYTES   128 /* of coefficients: 64 of 16 bits */
#define MOST_PARTS    4   /* components of a JPEG */

/* A file of which the beginning has been read already. */
typedef struct header {
    int fd;
    const char *path;
    size_t size;
    const uint8_t *bytes;
    size_t n;
} header;

static bool peek(uint8_t *out, const header *h, size_t at, size_t n)
{
    if (at > h->size || n > h->size - at)
        return false;
    if (at + n <= h->n)
        memcpy(out, h->bytes + at, n);
    else
        return os_pread_all(h->fd, out, n, (int64_t)at, h->path) == THAW_OK;
    return true;
}

static size_t pair(const uint8_t *p)
{
    return (size_t)p[0] << 8 | p[1];
}

/* Sizes are of 16 or 31 bits, so that products of two with a few channels fit. */
static size_t pixels_of(size_t width, size_t height, int channels)
{
    return width * height * (size_t)channels;
}

/* ----------------------------------------------------------------------------------------------
 * JPEG */

/* Coefficients of all components, which a progressive picture keeps until its last scan. */
static size_t coefficients(const uint8_t *frame, size_t width, size_t height)
{
    const int parts = THAW_MIN(frame[5], MOST_PARTS);
    size_t widest = 1, highest = 1, sum = 0;

    for (int i = 0; i < parts; i++) {
        widest = THAW_MAX(widest, (size_t)frame[7 + 3 * i] >> 4);
        highest = THAW_MAX(highest, (size_t)frame[7 + 3 * i] & 15);
    }
    for (int i = 0; i < parts; i++) {
        const size_t across = ((size_t)frame[7 + 3 * i] >> 4) * width / widest;
        const size_t down = ((size_t)frame[7 + 3 * i] & 15) * height / highest;

        sum += (across / BLOCK + 1) * (down / BLOCK + 1) * BLOCK_BYTES;
    }
    return sum;
}

static size_t frame_bytes(const uint8_t *frame, int marker, bool turned, int channels)
{
    const size_t height = pair(frame + 1), width = pair(frame + 3);
    const int own = frame[5] == 1 ? 1 : 3;
    const size_t pixels = pixels_of(width, height, own);
    size_t beside = turned ? pixels : 0;

    if (channels == 1 && own == 3)
        beside = THAW_MAX(beside, pixels_of(width, height, 1));
    if (marker % 4 == 2)
        beside = THAW_MAX(beside, coefficients(frame, width, height));
    return pixels + beside;
}

/* Whether the segment of n bytes at `at` says that the picture has to be turned. */
static bool is_turned(const header *h, size_t at, size_t n)
{
    uint8_t *const data = thaw__alloc(n);
    const bool exif =
        data && peek(data, h, at, n) && n > EXIF_HEADER && memcmp(data, "Exif\0\0", 6) == 0;
    const bool turned = exif && exif_orientation(data + EXIF_HEADER, n - EXIF_HEADER) != 1;

    thaw__free(data);
    return turned;
}

static bool is_frame(int marker)
{
    return marker >= SOF && marker <= SOF + 15 && marker != DHT && marker != JPG && marker != DAC;
}

static size_t jpeg_bytes(const header *h, int channels)
{
    uint8_t mark[4], frame[6 + 3 * MOST_PARTS] = {0};
    bool turned = false;
    size_t at = 2, n;

    for (int i = 0; i < MOST_SEGMENTS && peek(mark, h, at, sizeof mark); i++) {
        if (mark[0] != 0xFF || mark[1] == SOS || mark[1] == EOI)
            return 0;
        if (mark[1] == 0xFF) { /* a filling */
            at++;
            continue;
        }
        if (mark[1] == TEM || (mark[1] >= RST && mark[1] <= SOI)) {
            at += 2;
            continue;
        }
        n = pair(mark + 2);
        if (n < 2)
            return 0;
        if (is_frame(mark[1]))
            return peek(frame, h, at + 4, THAW_MIN(n - 2, sizeof frame))
                       ? frame_bytes(frame, mark[1], turned, channels)
                       : 0;
        if (mark[1] == APP1)
            turned = turned || is_turned(h, at + 4, n - 2);
        at += 2 + n;
    }
    return 0;
}

/* ----------------------------------------------------------------------------------------------
 * PNG */

static size_t png_bytes(const header *h, int channels)
{
    enum { IHDR = 16, SIZES = 10, TYPE = 9, COLOUR = 2, PALETTE = 1 };
    uint8_t head[SIZES];

    if (!peek(head, h, IHDR, sizeof head))
        return 0;
    const size_t width = big_endian(head), height = big_endian(head + 4);
    const int own = head[TYPE] & (COLOUR | PALETTE) ? 3 : 1;

    if (width > INT32_MAX || height > INT32_MAX || height > SIZE_MAX / 8 / THAW_MAX(width, 1))
        return 0;
    return pixels_of(width, height, channels == 1 && own == 3 ? 4 : own);
}

size_t picture_extent(int fd, const char *path, size_t size, const void *bytes, size_t n,
                      int channels)
{
    static const uint8_t png[] = {0x89, 'P', 'N', 'G'}, jpeg[] = {0xFF, SOI};
    const header h = {fd, path, size, bytes, n};
    size_t more = 0;

    if (n >= sizeof jpeg && memcmp(bytes, jpeg, sizeof jpeg) == 0)
        more = jpeg_bytes(&h, channels);
    else if (n >= sizeof png && memcmp(bytes, png, sizeof png) == 0)
        more = png_bytes(&h, channels);
    return size + more;
}
