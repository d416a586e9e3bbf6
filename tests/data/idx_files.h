/*
 * idx_files.h - makes IDX data for tests: bytes in memory, gzip of them, and pairs of files.
 */
#ifndef THAW_TESTS_IDX_FILES_H
#define THAW_TESTS_IDX_FILES_H

#include "check.h"

#include <zlib.h>

/* Bytes with room for what a test wants to append. */
typedef struct bytes {
    size_t n;
    unsigned char data[1 << 16];
} bytes;

static inline void bytes_u32(bytes *b, uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        b->data[b->n++] = (unsigned char)(value >> shift);
}

/* Magic number, sizes, then `elements` elements that count up from 0 modulo `modulus`. */
static inline bytes idx_bytes(uint32_t magic, int rank, const uint32_t *dim, size_t elements,
                              int modulus)
{
    bytes b = {0};

    bytes_u32(&b, magic);
    for (int i = 0; i < rank; i++)
        bytes_u32(&b, dim[i]);
    for (size_t i = 0; i < elements; i++)
        b.data[b.n++] = (unsigned char)(i % (size_t)modulus);
    return b;
}

/* n images of h x w; pixel k of all is k mod 251. */
static inline bytes idx_images(uint32_t n, uint32_t h, uint32_t w)
{
    return idx_bytes(0x803, 3, (uint32_t[]){n, h, w}, (size_t)n * h * w, 251);
}

/* n labels 0, 1, …, modulus - 1, 0, 1, … */
static inline bytes idx_labels(uint32_t n, int modulus)
{
    return idx_bytes(0x801, 1, &n, n, modulus);
}

static inline bytes gzip_of(const bytes *b)
{
    bytes out = {0};
    z_stream z = {0};

    CHECK(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    z.next_in = (Bytef *)(uintptr_t)b->data;
    z.avail_in = (uInt)b->n;
    z.next_out = out.data;
    z.avail_out = sizeof out.data;
    CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
    out.n = z.total_out;
    deflateEnd(&z);
    return out;
}

static inline const char *write_bytes(const char *folder, const char *name, const bytes *b)
{
    const char *path = check_path(folder, name);

    check_write_file(path, b->data, b->n);
    return path;
}

#define FASHION "/usr/share/datasets/fashion-mnist/"

#endif
