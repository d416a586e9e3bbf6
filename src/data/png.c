/*
 * png.c - PNG to pixels through libpng, the only file that knows it.
 *
 * libpng reports errors by a jump, which ends in decode_guarded here. Its memory comes from our
 * allocator, chunks that are not pixels are passed over unread, and a file that is too short for
 * the size it states is refused before memory for pixels is asked for.
 */
#include "data/picture.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <png.h>

#define MOST_INFLATION 1032 /* bytes that deflate makes of one, at most */
#define MOST_CHUNK     (1u << 20)
#define MOST_BLOCK     ((png_alloc_size_t)32 << 20) /* asked for at once; rows are shorter */
#define MOST_CHUNKS    100                          /* of those that are kept */

typedef struct png_reader {
    png_structp png;
    png_infop info;
    jmp_buf back;
    bool no_memory;
    char why[128];
    const char *name;
    const uint8_t *next;
    size_t left, size;
    const picture_limits *limits;
    picture *out;
    png_bytep *rows; /* of an interlaced picture */
} png_reader;

/* ----------------------------------------------------------------------------------------------
 * what the library calls */

_Noreturn static void leave(png_structp png, png_const_charp why)
{
    png_reader *r = png_get_error_ptr(png);

    (void)snprintf(r->why, sizeof r->why, "%s", why);
    longjmp(r->back, 1);
}

static void overlook(png_structp png, png_const_charp why)
{
    (void)png;
    (void)why;
}

static png_voidp take(png_structp png, png_alloc_size_t n)
{
    png_reader *r = png_get_mem_ptr(png);
    void *block;

    if (n > MOST_BLOCK)
        return NULL;
    block = thaw__alloc(n);
    r->no_memory |= !block;
    return block;
}

static void give(png_structp png, png_voidp block)
{
    (void)png;
    thaw__free(block);
}

static void read_bytes(png_structp png, png_bytep to, size_t n)
{
    png_reader *r = png_get_io_ptr(png);

    if (n > r->left)
        png_error(png, "ends too early");
    memcpy(to, r->next, n);
    r->next += n;
    r->left -= n;
}

/* ----------------------------------------------------------------------------------------------
 * decoding */

/* Pixels and the palette are read; nothing else is worth its risk. */
static void choose_chunks(png_reader *r)
{
    static const png_byte transparency[] = "tRNS";

    png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_NEVER, transparency, 1);
    png_set_chunk_malloc_max(r->png, MOST_CHUNK);
    png_set_chunk_cache_max(r->png, MOST_CHUNKS);
}

/* Eight bits of grey or of red, green and blue, whatever is stored. */
static void choose_colours(png_reader *r)
{
    const int type = png_get_color_type(r->png, r->info);

    png_set_strip_16(r->png);
    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(r->png);
    else if (type == PNG_COLOR_TYPE_GRAY)
        png_set_expand_gray_1_2_4_to_8(r->png);
    png_set_strip_alpha(r->png);
}

static thaw_status check_size(png_reader *r)
{
    const int64_t width = png_get_image_width(r->png, r->info);
    const int64_t height = png_get_image_height(r->png, r->info);
    const int64_t row = (int64_t)png_get_rowbytes(r->png, r->info);

    if (width > r->limits->most_pixels || height > r->limits->most_pixels / width)
        return thaw_fail(THAW_E_LIMIT,
                         "'%s' has %lld x %lld pixels, more than %lld: make it smaller or raise "
                         "'data.max_pixels'",
                         r->name, (long long)width, (long long)height,
                         (long long)r->limits->most_pixels);
    if (row * height / MOST_INFLATION > (int64_t)r->size)
        return thaw_fail(THAW_E_DATA, "'%s' states %lld x %lld pixels, but has only %zu bytes",
                         r->name, (long long)width, (long long)height, r->size);
    return THAW_OK;
}

/* Of an eXIf chunk before the pixels. libpng would allocate whatever length it states. */
static void find_orientation(int *orientation, const uint8_t *bytes, size_t size)
{
    enum { SIGNATURE = 8, HEAD = 8, CHECKSUM = 4 };

    for (size_t at = SIGNATURE; at + HEAD <= size;) {
        const uint8_t *chunk = bytes + at;
        const size_t n = big_endian(chunk), left = size - at - HEAD;

        if (n > left || memcmp(chunk + 4, "IDAT", 4) == 0)
            return;
        if (memcmp(chunk + 4, "eXIf", 4) == 0)
            *orientation = exif_orientation(chunk + HEAD, n);
        if (left - n < CHECKSUM)
            return;
        at += HEAD + n + CHECKSUM;
    }
}

/* In several passes over the whole picture, or row by row. */
static thaw_status read_rows(png_reader *r)
{
    picture *p = r->out;
    const size_t row = (size_t)p->width * (size_t)p->channels;

    r->rows = thaw__new((size_t)p->height, sizeof *r->rows);
    if (!r->rows)
        return thaw_fail(THAW_E_NOMEM, "out of memory for '%s'", r->name);
    for (int64_t y = 0; y < p->height; y++)
        r->rows[y] = p->pixels + (size_t)y * row;
    png_read_image(r->png, r->rows);
    return THAW_OK;
}

static thaw_status decode_all(png_reader *r)
{
    int channels;

    choose_chunks(r);
    png_set_read_fn(r->png, r, read_bytes);
    png_read_info(r->png, r->info);
    THAW_CHECK(check_size(r));
    choose_colours(r);
    (void)png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    channels = png_get_channels(r->png, r->info);
    THAW_CHECK(picture_shape(r->out, png_get_image_width(r->png, r->info),
                             png_get_image_height(r->png, r->info), channels, r->name));
    if ((channels != 1 && channels != 3) ||
        png_get_rowbytes(r->png, r->info) != (size_t)r->out->width * (size_t)channels)
        png_error(r->png, "has colours of an unknown kind");
    return read_rows(r);
}

/* The library's jumps end here; r lives in the caller, so nothing of it is lost by them. */
static thaw_status decode_guarded(png_reader *r)
{
    if (setjmp(r->back) != 0)
        return r->no_memory ? thaw_fail(THAW_E_NOMEM, "out of memory for '%s'", r->name)
                            : thaw_fail(THAW_E_DATA, "'%s' is no good PNG: %s", r->name, r->why);
    r->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, r, leave, overlook, r, take, give);
    if (r->png)
        r->info = png_create_info_struct(r->png);
    if (!r->info)
        return thaw_fail(THAW_E_NOMEM, "out of memory for '%s'", r->name);
    return decode_all(r);
}

thaw_status png_decode(picture *out, int *orientation, const void *bytes, size_t size,
                       const char *name, const picture_limits *limits)
{
    png_reader r = {
        .name = name, .next = bytes, .left = size, .size = size, .limits = limits, .out = out};
    thaw_status status;

    *orientation = 1;
    find_orientation(orientation, bytes, size);
    status = decode_guarded(&r);
    png_destroy_read_struct(&r.png, &r.info, NULL);
    thaw__free(r.rows);
    return status;
}
