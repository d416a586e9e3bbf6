/*
 * colour.c - brightness, contrast and saturation of a picture.
 *
 * Each is a mix of the picture with a poorer one (black, its mean grey, itself in grey); factor 1
 * is the picture, more goes beyond. Rounding is Pillow's, in the same order of operations in float,
 * so that the same factors give the same pixels.
 */
#include "data/picture.h"

#include <string.h>

uint8_t colour_grey(const uint8_t *rgb)
{
    return (uint8_t)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

/* From poor (factor 0) to rich (factor 1) and beyond. */
static uint8_t mix(int poor, int rich, float factor)
{
    const float x = (float)poor + factor * (float)(rich - poor);

    return x <= 0 ? 0 : x >= 255 ? 255 : (uint8_t)x;
}

static int64_t pixels_of(const picture *p)
{
    return p->width * p->height;
}

static void mix_with(picture *p, int poor, float factor)
{
    const int64_t n = pixels_of(p) * p->channels;
    uint8_t table[256];

    for (int i = 0; i < 256; i++)
        table[i] = mix(poor, i, factor);
    for (int64_t i = 0; i < n; i++)
        p->pixels[i] = table[p->pixels[i]];
}

void colour_brightness(picture *p, float factor)
{
    mix_with(p, 0, factor);
}

void colour_contrast(picture *p, float factor)
{
    const int64_t n = pixels_of(p);
    int64_t sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += p->channels == 1 ? p->pixels[i] : colour_grey(p->pixels + 3 * i);
    mix_with(p, (int)((double)sum / (double)n + 0.5), factor);
}

void colour_saturation(picture *p, float factor)
{
    const int64_t n = pixels_of(p);

    if (p->channels == 1)
        return;
    for (int64_t i = 0; i < n; i++) {
        uint8_t *rgb = p->pixels + 3 * i;
        const int grey = colour_grey(rgb);

        for (int c = 0; c < 3; c++)
            rgb[c] = mix(grey, rgb[c], factor);
    }
}

void colour_jitter(picture *p, const double strength[3], picture_draw *draw)
{
    static const uint8_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                         {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    static void (*const change[])(picture *, float) = {colour_brightness, colour_contrast,
                                                       colour_saturation};
    const uint8_t *order = orders[(int)(picture_draw_uniform(draw) * 6)];
    float factor[3];

    for (int i = 0; i < 3; i++) {
        const double least = strength[i] < 1 ? 1 - strength[i] : 0;

        factor[i] = (float)(least + picture_draw_uniform(draw) * (1 + strength[i] - least));
    }
    for (int i = 0; i < 3; i++)
        if (strength[order[i]] > 0)
            change[order[i]](p, factor[order[i]]);
}
