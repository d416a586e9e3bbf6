/*
 * jpeg.c - JPEG to pixels through libjpeg-turbo, the only file that knows it.
 *
 * The library reports errors by leaving through a function pointer; here that pointer jumps back
 * into decode_guarded, so nothing above sees it. Sizes, scans and the library's own memory are
 * bounded before it asks for any: a file that is too short for the size it states is refused first.
 * That memory is the one thing here that does not come from our allocator, since the library has no
 * hook for it: a few rows, and of a progressive picture its coefficients up to MOST_STORED.
 */
#include "data/picture.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h> /* after it, as it must be */

#define MOST_SCANS    100                  /* encoders make about 10 */
#define MOST_STORED   (INT64_C(192) << 20) /* bytes of coefficients kept between scans */
#define EXIF_HEADER   6
#define BLOCK_BYTES   (INT64_C(64) * sizeof(JCOEF))
#define BLOCKS_A_BYTE 8 /* a block of 64 samples takes a bit or more */

typedef struct jpeg_reader {
    struct jpeg_decompress_struct c; /* c.client_data is the reader */
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    struct jpeg_source_mgr source;
    jmp_buf back;
    char why[JMSG_LENGTH_MAX];
    const char *name;
    size_t size;
    const picture_limits *limits;
    picture *out;
    int *orientation;
    uint8_t *row; /* of CMYK; ours to free */
} jpeg_reader;

/* ----------------------------------------------------------------------------------------------
 * what the library calls */

_Noreturn static void leave(j_common_ptr c)
{
    jpeg_reader *r = c->client_data;

    c->err->format_message(c, r->why);
    longjmp(r->back, 1);
}

_Noreturn static void leave_with(jpeg_reader *r, const char *why)
{
    (void)snprintf(r->why, sizeof r->why, "%s", why);
    longjmp(r->back, 1);
}

static void say_nothing(j_common_ptr c)
{
    (void)c;
}

/* Warnings are about damage that still gives a picture, as every viewer shows it. */
static void overlook(j_common_ptr c, int level)
{
    (void)c;
    (void)level;
}

static void count_scans(j_common_ptr c)
{
    jpeg_reader *r = c->client_data;

    if (r->c.input_scan_number > MOST_SCANS)
        leave_with(r, "has more than 100 scans");
}

static void source_nothing(j_decompress_ptr c)
{
    (void)c;
}

static boolean source_end(j_decompress_ptr c)
{
    leave_with(c->client_data, "ends too early");
}

static void source_skip(j_decompress_ptr c, long n)
{
    if (n <= 0)
        return;
    if ((size_t)n > c->src->bytes_in_buffer)
        leave_with(c->client_data, "ends too early");
    c->src->next_input_byte += n;
    c->src->bytes_in_buffer -= (size_t)n;
}

/* ----------------------------------------------------------------------------------------------
 * sizes */

static int64_t blocks(const jpeg_reader *r)
{
    int64_t n = 0;

    for (int i = 0; i < r->c.num_components; i++)
        n += (int64_t)r->c.comp_info[i].width_in_blocks * r->c.comp_info[i].height_in_blocks;
    return n;
}

static thaw_status check_size(jpeg_reader *r)
{
    const long long width = r->c.image_width, height = r->c.image_height;
    const int64_t n = blocks(r);

    if (width * height > r->limits->most_pixels)
        return thaw_fail(THAW_E_LIMIT,
                         "'%s' has %lld x %lld pixels, more than %lld: make it smaller or raise "
                         "'data.max_pixels'",
                         r->name, width, height, (long long)r->limits->most_pixels);
    if (n / BLOCKS_A_BYTE > (int64_t)r->size)
        return thaw_fail(THAW_E_DATA, "'%s' states %lld x %lld pixels, but has only %zu bytes",
                         r->name, width, height, r->size);
    if (jpeg_has_multiple_scans(&r->c) && n * (int64_t)BLOCK_BYTES > MOST_STORED)
        return thaw_fail(THAW_E_LIMIT,
                         "'%s' is progressive with %lld x %lld pixels, too many to keep: save it "
                         "as a plain (baseline) JPEG",
                         r->name, width, height);
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * colours */

static void choose_colours(jpeg_reader *r)
{
    switch ((int)r->c.jpeg_color_space) {
    case JCS_GRAYSCALE:
        r->c.out_color_space = JCS_GRAYSCALE;
        break;
    case JCS_CMYK:
    case JCS_YCCK:
        r->c.out_color_space = JCS_CMYK;
        break;
    case JCS_YCbCr:
    case JCS_RGB:
        r->c.out_color_space = JCS_RGB;
        break;
    default:
        leave_with(r, "has colours of an unknown kind");
    }
}

/* a * b / 255, rounded. */
static unsigned share(unsigned a, unsigned b)
{
    const unsigned n = a * b + 128;

    return ((n >> 8) + n) >> 8;
}

/* Four inks to three lights. Inks are stored inverted, as Adobe does and all follow. */
static void rgb_of_cmyk(uint8_t *rgb, const uint8_t *cmyk, int64_t n)
{
    for (int64_t i = 0; i < n; i++, rgb += 3, cmyk += 4)
        for (int c = 0; c < 3; c++) {
            const unsigned light = cmyk[3], ink = share(255u - cmyk[c], light);

            rgb[c] = (uint8_t)(light > ink ? light - ink : 0);
        }
}

/* ----------------------------------------------------------------------------------------------
 * decoding */

static void find_orientation(jpeg_reader *r)
{
    for (jpeg_saved_marker_ptr m = r->c.marker_list; m; m = m->next)
        if (m->data_length > EXIF_HEADER && memcmp(m->data, "Exif\0\0", EXIF_HEADER) == 0) {
            *r->orientation = exif_orientation(m->data + EXIF_HEADER, m->data_length - EXIF_HEADER);
            return;
        }
}

static void read_rows(jpeg_reader *r)
{
    picture *p = r->out;
    const bool inks = r->c.out_color_space == JCS_CMYK;

    while (r->c.output_scanline < r->c.output_height) {
        uint8_t *dst = p->pixels + (int64_t)r->c.output_scanline * p->width * p->channels;
        JSAMPROW row = inks ? r->row : dst;

        if (jpeg_read_scanlines(&r->c, &row, 1) != 1)
            leave_with(r, "ends too early");
        if (inks)
            rgb_of_cmyk(dst, r->row, p->width);
    }
}

static thaw_status make_room(jpeg_reader *r)
{
    const bool inks = r->c.out_color_space == JCS_CMYK;

    THAW_CHECK(picture_shape(r->out, r->c.output_width, r->c.output_height,
                             r->c.out_color_space == JCS_GRAYSCALE ? 1 : 3, r->name));
    r->row = inks ? thaw__new(r->c.output_width, 4) : NULL;
    if (inks && !r->row)
        return thaw_fail(THAW_E_NOMEM, "out of memory for '%s'", r->name);
    return THAW_OK;
}

static thaw_status decode_all(jpeg_reader *r)
{
    jpeg_save_markers(&r->c, JPEG_APP0 + 1, 0xFFFF);
    if (jpeg_read_header(&r->c, TRUE) != JPEG_HEADER_OK)
        leave_with(r, "holds no picture");
    THAW_CHECK(check_size(r));
    find_orientation(r);
    choose_colours(r);
    jpeg_calc_output_dimensions(&r->c);
    THAW_CHECK(make_room(r));
    if (!jpeg_start_decompress(&r->c))
        leave_with(r, "ends too early");
    read_rows(r);
    return THAW_OK;
}

/* The library's jumps end here; r lives in the caller, so nothing of it is lost by them. */
static thaw_status decode_guarded(jpeg_reader *r)
{
    if (setjmp(r->back) != 0)
        return r->errors.msg_code == JERR_OUT_OF_MEMORY
                   ? thaw_fail(THAW_E_NOMEM, "out of memory for '%s'", r->name)
                   : thaw_fail(THAW_E_DATA, "'%s' is no good JPEG: %s", r->name, r->why);
    jpeg_create_decompress(&r->c);
    r->c.client_data = r;
    r->c.mem->max_memory_to_use = (long)(MOST_STORED + (MOST_STORED >> 2));
    r->c.progress = &r->progress;
    r->c.src = &r->source;
    return decode_all(r);
}

thaw_status jpeg_decode(picture *out, int *orientation, const void *bytes, size_t size,
                        const char *name, const picture_limits *limits)
{
    jpeg_reader r = {.name = name,
                     .size = size,
                     .limits = limits,
                     .out = out,
                     .orientation = orientation,
                     .progress.progress_monitor = count_scans,
                     .source = {.next_input_byte = bytes,
                                .bytes_in_buffer = size,
                                .init_source = source_nothing,
                                .fill_input_buffer = source_end,
                                .skip_input_data = source_skip,
                                .resync_to_restart = jpeg_resync_to_restart,
                                .term_source = source_nothing}};
    thaw_status status;

    *orientation = 1;
    r.c.err = jpeg_std_error(&r.errors);
    r.c.client_data = &r;
    r.errors.error_exit = leave;
    r.errors.output_message = say_nothing;
    r.errors.emit_message = overlook;
    status = decode_guarded(&r);
    jpeg_destroy_decompress(&r.c);
    thaw__free(r.row);
    return status;
}
