/*
 * pixels.c - stored pixels to the numbers a network reads.
 *
 * A pixel has 256 values, so normalisation is a table per channel, worked out in double and rounded
 * once; an image is then only look-ups, channels repeated and pixels repeated on the way.
 */
#include "data/data.h"

#include <string.h>

void pixel_map_init(pixel_map *m, const dataset *d, const loader_options *o)
{
    *m = (pixel_map){.real = o->real,
                     .height = d->height,
                     .width = d->width,
                     .channels_in = (int)d->channels,
                     .channels_out = o->channels > 0 ? o->channels : (int)d->channels,
                     .scale = o->scale > 1 ? o->scale : 1};
    for (int c = 0; c < m->channels_out; c++) {
        const int k = o->n_mean == 1 ? 0 : c;

        for (int i = 0; i < 256; i++) {
            const double x = (i / 255.0 - o->mean[k]) / o->std[k];

            if (o->real == DTYPE_F32)
                m->value.f32[c][i] = (float)x;
            else
                m->value.f64[c][i] = x;
        }
    }
}

/*
 * The same loops for both types. n pixels one after the other, with the numbers of channels as
 * constants where the call has them; enlarged, a row is made once and copied scale - 1 times.
 */
#define DEFINE_APPLY(real, field)                                                                  \
    static inline void plain_##field(real *dst, const pixel_map *m, const uint8_t *src, int64_t n, \
                                     int in, int out)                                              \
    {                                                                                              \
        for (int64_t i = 0; i < n; i++, src += in, dst += out)                                     \
            for (int c = 0; c < out; c++)                                                          \
                dst[c] = m->value.field[c][src[in == 1 ? 0 : c]];                                  \
    }                                                                                              \
    static void enlarged_##field(real *dst, const pixel_map *m, const uint8_t *src)                \
    {                                                                                              \
        const int64_t row = m->width * m->scale * m->channels_out;                                 \
                                                                                                   \
        for (int64_t y = 0; y < m->height; y++) {                                                  \
            const real *made = dst;                                                                \
                                                                                                   \
            for (int64_t x = 0; x < m->width; x++, src += m->channels_in)                          \
                for (int s = 0; s < m->scale; s++, dst += m->channels_out)                         \
                    plain_##field(dst, m, src, 1, m->channels_in, m->channels_out);                \
            for (int s = 1; s < m->scale; s++, dst += row)                                         \
                memcpy(dst, made, (size_t)row * sizeof *dst);                                      \
        }                                                                                          \
    }                                                                                              \
    static void apply_##field(real *dst, const pixel_map *m, const uint8_t *src)                   \
    {                                                                                              \
        const int64_t n = m->height * m->width;                                                    \
                                                                                                   \
        if (m->scale > 1)                                                                          \
            enlarged_##field(dst, m, src);                                                         \
        else if (m->channels_in == 1 && m->channels_out == 1)                                      \
            plain_##field(dst, m, src, n, 1, 1);                                                   \
        else if (m->channels_in == 1 && m->channels_out == 3)                                      \
            plain_##field(dst, m, src, n, 1, 3);                                                   \
        else                                                                                       \
            plain_##field(dst, m, src, n, m->channels_in, m->channels_out);                        \
    }

DEFINE_APPLY(float, f32)
DEFINE_APPLY(double, f64)

void pixel_map_apply(void *dst, const pixel_map *m, const uint8_t *src)
{
    if (m->real == DTYPE_F32)
        apply_f32(dst, m, src);
    else
        apply_f64(dst, m, src);
}
