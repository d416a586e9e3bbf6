/*
 * png_write.c - a small picture as a PNG file (W3C PNG, 3rd edition), in base64, for pages that
 * have everything in them. Rows without filter: pictures here are a few kilobytes.
 */
#include "data/data.h"

#include <string.h>
#include <zlib.h>

#define SIDE_MOST 4096

static void put_u32(unsigned char *at, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        at[i] = (unsigned char)(v >> (24 - 8 * i));
}

/* length, type, data, CRC of type and data; returns the bytes written. */
static size_t put_chunk(unsigned char *at, const char *type, const unsigned char *data, size_t n)
{
    put_u32(at, (uint32_t)n);
    memcpy(at + 4, type, 4);
    if (n > 0)
        memmove(at + 8, data, n);
    put_u32(at + 8 + n, (uint32_t)crc32(0, at + 4, (uInt)(n + 4)));
    return n + 12;
}

static void put_base64(char *to, const unsigned char *from, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < n; i += 3) {
        const uint32_t v = (uint32_t)from[i] << 16 | (i + 1 < n ? (uint32_t)from[i + 1] << 8 : 0) |
                           (i + 2 < n ? from[i + 2] : 0);

        *to++ = digit[v >> 18];
        *to++ = digit[v >> 12 & 63];
        *to++ = i + 1 < n ? digit[v >> 6 & 63] : '=';
        *to++ = i + 2 < n ? digit[v & 63] : '=';
    }
    *to = '\0';
}

/* Each row behind the number of its filter, 0. */
static void put_rows(unsigned char *to, const uint8_t *pixel, size_t height, size_t row)
{
    for (size_t y = 0; y < height; y++) {
        *to++ = 0;
        memcpy(to, pixel + y * row, row);
        to += row;
    }
}

thaw_status png_base64(char **out, const uint8_t *pixel, int64_t height, int64_t width,
                       int channels)
{
    static const unsigned char magic[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    const size_t row = (size_t)width * (size_t)channels, raw = ((size_t)row + 1) * (size_t)height;
    unsigned char head[13] = {[8] = 8, [9] = channels == 3 ? 2 : 0}, *rows = NULL, *file = NULL;
    uLongf packed;
    size_t n = sizeof magic;
    char *coded = NULL;
    thaw_status status = THAW_OK;

    if (height < 1 || width < 1 || height > SIDE_MOST || width > SIDE_MOST ||
        (channels != 1 && channels != 3))
        return thaw_fail(THAW_E_LIMIT, "a picture of %lld x %lld pixels is too large for a report",
                         (long long)width, (long long)height);
    packed = compressBound((uLong)raw);
    rows = thaw__alloc(raw);
    file = thaw__alloc(packed + 128);
    if (rows && file) {
        put_rows(rows, pixel, (size_t)height, row);
        memcpy(file, magic, sizeof magic);
        put_u32(head, (uint32_t)width);
        put_u32(head + 4, (uint32_t)height);
        n += put_chunk(file + n, "IHDR", head, sizeof head);
        if (compress2(file + n + 8, &packed, rows, (uLong)raw, 9) == Z_OK) {
            n += put_chunk(file + n, "IDAT", file + n + 8, packed);
            n += put_chunk(file + n, "IEND", NULL, 0);
            coded = thaw__alloc((n + 2) / 3 * 4 + 1);
        }
    }
    if (coded)
        put_base64(coded, file, n);
    else
        status = thaw_fail(THAW_E_NOMEM, "out of memory for a picture of the report");
    if (coded)
        *out = coded;
    thaw__free(rows);
    thaw__free(file);
    return status;
}
