/*
 * picture.c - a file of pixels, whatever its kind: which decoder it needs, turning it upright, and
 * its number of channels.
 */
#include "data/picture.h"

#include <string.h>
#include <strings.h>

void picture_done(picture *p)
{
    thaw__free(p->pixels);
    *p = (picture){0};
}

thaw_status picture_shape(picture *p, int64_t width, int64_t height, int channels, const char *name)
{
    size_t n = (size_t)channels;

    if (width < 1 || height < 1 || channels < 1 || !size_mul(&n, n, (size_t)width) ||
        !size_mul(&n, n, (size_t)height))
        return thaw_fail(THAW_E_DATA, "'%s' has %lld x %lld pixels", name, (long long)width,
                         (long long)height);
    if (n > p->room) {
        thaw__free(p->pixels);
        p->pixels = thaw__alloc(n);
        p->room = p->pixels ? n : 0;
    }
    if (!p->pixels) {
        *p = (picture){0};
        return thaw_fail(THAW_E_NOMEM, "out of memory for '%s': %lld x %lld pixels", name,
                         (long long)width, (long long)height);
    }
    p->width = width;
    p->height = height;
    p->channels = channels;
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * kinds */

typedef thaw_status decode_fn(picture *out, int *orientation, const void *bytes, size_t size,
                              const char *name, const picture_limits *limits);

static const struct picture_kind {
    const char *magic;
    size_t n;
    decode_fn *decode; /* NULL: known, but not read */
    const char *name;
} kinds[] = {
    {"\xFF\xD8\xFF", 3, jpeg_decode, "JPEG"},
    {"\x89PNG\r\n\x1A\n", 8, png_decode, "PNG"},
    {"GIF8", 4, NULL, "a GIF"},
    {"RIFF", 4, NULL, "a WebP"},
    {"BM", 2, NULL, "a BMP"},
    {"II*\0", 4, NULL, "a TIFF"},
    {"MM\0*", 4, NULL, "a TIFF"},
};

static thaw_status find_kind(const struct picture_kind **out, const void *bytes, size_t size,
                             const char *name)
{
    if (size == 0)
        return thaw_fail(THAW_E_DATA, "'%s' is empty", name);
    for (size_t i = 0; i < THAW_COUNT(kinds); i++) {
        if (size < kinds[i].n || memcmp(bytes, kinds[i].magic, kinds[i].n) != 0)
            continue;
        if (!kinds[i].decode)
            return thaw_fail(THAW_E_DATA, "'%s' is %s: only JPEG and PNG are read", name,
                             kinds[i].name);
        *out = &kinds[i];
        return THAW_OK;
    }
    return thaw_fail(THAW_E_DATA, "'%s' is no picture: neither JPEG nor PNG by its content", name);
}

thaw_status picture_probe(const void *bytes, size_t size, const char *name,
                          const picture_limits *limits)
{
    enum { PNG_WIDTH = 16, PNG_HEIGHT = 20, PNG_LEAST = 24 };
    const struct picture_kind *kind = NULL;
    int64_t width, height;

    THAW_CHECK(find_kind(&kind, bytes, size, name));
    if (kind->decode != png_decode)
        return THAW_OK;
    if (size < PNG_LEAST)
        return thaw_fail(THAW_E_DATA, "'%s' ends too early", name);
    width = big_endian((const uint8_t *)bytes + PNG_WIDTH);
    height = big_endian((const uint8_t *)bytes + PNG_HEIGHT);
    if (width < 1 || height < 1 || width > limits->most_pixels ||
        height > limits->most_pixels / width)
        return thaw_fail(THAW_E_LIMIT,
                         "'%s' has %lld x %lld pixels, more than %lld: make it smaller or raise "
                         "'data.max_pixels'",
                         name, (long long)width, (long long)height, (long long)limits->most_pixels);
    return THAW_OK;
}

bool picture_named(const char *name)
{
    static const char *const ending[] = {".jpg", ".jpeg", ".png"};
    const size_t n = strlen(name);

    for (size_t i = 0; i < THAW_COUNT(ending); i++)
        if (n > strlen(ending[i]) && strcasecmp(name + n - strlen(ending[i]), ending[i]) == 0)
            return true;
    return false;
}

thaw_status picture_decode(picture *out, const void *bytes, size_t size, const char *name,
                           const picture_limits *limits)
{
    const struct picture_kind *kind = NULL;
    int orientation = 1;

    THAW_CHECK(find_kind(&kind, bytes, size, name));
    THAW_CHECK(kind->decode(out, &orientation, bytes, size, name, limits));
    return orientation == 1 ? THAW_OK : picture_upright(out, orientation, name);
}

thaw_status picture_read(picture *out, const char *path, const picture_limits *limits)
{
    char *bytes = NULL;
    size_t size = 0;
    thaw_status status;

    THAW_TRY(os_read_file(&bytes, &size, path, PICTURE_MOST_BYTES));
    THAW_TRY(picture_decode(out, bytes, size, path, limits));
done:
    thaw__free(bytes);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * upright */

/* Where pixel (0, 0) of the upright picture is stored, and the steps to its right and lower
 * neighbours, in pixels of the stored one; by orientation - 1. */
typedef struct turn {
    bool from_right, from_bottom; /* of the stored picture */
    bool swapped;                 /* its columns become rows */
} turn;
static const turn turns[8] = {
    {false, false, false}, {true, false, false}, {true, true, false}, {false, true, false},
    {false, false, true},  {false, true, true},  {true, true, true},  {true, false, true},
};

DATA_INLINE void copy_turned(uint8_t *dst, const picture *src, const turn *t, int channels)
{
    const int64_t right = t->from_right ? -channels : channels;
    const int64_t row = src->width * channels, down = t->from_bottom ? -row : row;
    const int64_t across = t->swapped ? down : right, along = t->swapped ? right : down;
    const int64_t width = t->swapped ? src->height : src->width;
    const int64_t height = t->swapped ? src->width : src->height;
    const uint8_t *first = src->pixels + (t->from_right ? row - channels : 0) +
                           (t->from_bottom ? (src->height - 1) * row : 0);

    for (int64_t y = 0; y < height; y++) {
        const uint8_t *from = first + y * along;

        for (int64_t x = 0; x < width; x++, from += across, dst += channels)
            for (int c = 0; c < channels; c++)
                dst[c] = from[c];
    }
}

thaw_status picture_upright(picture *p, int orientation, const char *name)
{
    const turn *t = &turns[orientation - 1];
    picture made = {0};

    THAW_CHECK(picture_shape(&made, t->swapped ? p->height : p->width,
                             t->swapped ? p->width : p->height, p->channels, name));
    if (p->channels == 3)
        copy_turned(made.pixels, p, t, 3);
    else
        copy_turned(made.pixels, p, t, 1);
    picture_done(p);
    *p = made;
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * channels */

thaw_status picture_channels(picture *p, int channels, const char *name)
{
    const int64_t n = p->width * p->height;
    picture made = {0};

    if (channels == p->channels)
        return THAW_OK;
    THAW_CHECK(picture_shape(&made, p->width, p->height, channels, name));
    for (int64_t i = 0; i < n; i++)
        if (channels == 1)
            made.pixels[i] = colour_grey(p->pixels + 3 * i);
        else
            memset(made.pixels + 3 * i, p->pixels[i], 3);
    picture_done(p);
    *p = made;
    return THAW_OK;
}
