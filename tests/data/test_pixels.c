/*
 * test_pixels.c - stored pixels to numbers: exact values, repeated channels, enlarged images, in
 * both types.
 */
#include "data/data.h"

#include "check.h"

#define MOST_NUMBERS (6 * 5 * 9 * 4)

/* The number at (y, x, c) of the output, straight from the definition. */
static double model(const dataset *d, const loader_options *o, int64_t y, int64_t x, int c)
{
    const int scale = o->scale > 1 ? o->scale : 1, k = o->n_mean == 1 ? 0 : c;
    const int64_t at =
        ((y / scale) * d->width + x / scale) * d->channels + (d->channels == 1 ? 0 : c);

    return (d->pixels[at] / 255.0 - o->mean[k]) / o->std[k];
}

static void check_case(int64_t channels, int channels_out, int scale, int n_mean, dtype real)
{
    uint8_t pixels[2 * 3 * 4];
    const dataset d = {.n = 1, .height = 2, .width = 3, .channels = channels, .pixels = pixels};
    loader_options o = LOADER_OPTIONS_INIT;
    const int64_t h = 2 * (scale > 1 ? scale : 1), w = 3 * (scale > 1 ? scale : 1);
    const int c_out = channels_out > 0 ? channels_out : (int)channels;
    const size_t n = (size_t)(h * w * c_out);
    double want[MOST_NUMBERS], got[MOST_NUMBERS];
    float narrow[MOST_NUMBERS], want_narrow[MOST_NUMBERS];
    pixel_map m;

    for (int i = 0; i < 24; i++)
        pixels[i] = (uint8_t)(i * 37 + 11);
    o.channels = channels_out;
    o.scale = scale;
    o.real = real;
    o.n_mean = n_mean;
    for (int c = 0; c < 4; c++) {
        o.mean[c] = 0.286 + 0.1 * c;
        o.std[c] = 0.353 - 0.05 * c;
    }
    for (size_t i = 0; i < n; i++) {
        const int64_t at = (int64_t)i / c_out;

        want[i] = model(&d, &o, at / w, at % w, (int)(i % (size_t)c_out));
        want_narrow[i] = (float)want[i];
    }
    pixel_map_init(&m, &d, &o);
    pixel_map_apply(real == DTYPE_F32 ? (void *)narrow : (void *)got, &m, pixels);
    if (real == DTYPE_F32)
        CHECK_BYTES(narrow, want_narrow, n * sizeof *narrow);
    else
        CHECK_BYTES(got, want, n * sizeof *got);
}

static void test_all_cases(void **state)
{
    (void)state;
    for (int real = DTYPE_F32; real <= DTYPE_F64; real++)
        for (int scale = 0; scale <= 3; scale++)
            for (int out = 0; out <= 4; out++) {
                check_case(1, out, scale, 1, (dtype)real);
                check_case(1, out, scale, out > 0 ? out : 1, (dtype)real);
                if (out > 0) {
                    check_case(out, 0, scale, out, (dtype)real);
                    check_case(out, out, scale, 1, (dtype)real);
                }
            }
}

static void test_every_pixel_value(void **state)
{
    uint8_t pixels[256];
    const dataset d = {.n = 1, .height = 16, .width = 16, .channels = 1, .pixels = pixels};
    loader_options o = LOADER_OPTIONS_INIT;
    float got[256];
    pixel_map m;

    (void)state;
    for (int i = 0; i < 256; i++)
        pixels[i] = (uint8_t)i;
    pixel_map_init(&m, &d, &o);
    pixel_map_apply(got, &m, pixels);
    for (int i = 0; i < 256; i++) /* with the default mean and std: the nearest float to i / 255 */
        CHECK_MSG(got[i] == (float)(i / 255.0), "pixel %d: got %.9g, want %.9g", i, (double)got[i],
                  i / 255.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_cases),
        cmocka_unit_test(test_every_pixel_value),
    };

    return cmocka_run_group_tests_name("data/pixels", tests, NULL, NULL);
}
