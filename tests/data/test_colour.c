/*
 * test_colour.c - brightness, contrast and saturation against Pillow's, bit for bit; and what
 * jitter draws.
 */
#include "pictures.h"

static void test_recorded(void **state)
{
    static const struct {
        const char *word;
        void (*change)(picture *, float);
    } row[] = {{"brightness", colour_brightness},
               {"contrast", colour_contrast},
               {"saturation", colour_saturation}};
    static const char *const factor[] = {"0.0", "0.4", "1.0", "1.7"};
    char name[64];

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++)
        for (size_t k = 0; k < THAW_COUNT(factor); k++) {
            picture p = {0};

            read_file(&p, "colours.png");
            row[i].change(&p, strtof(factor[k], NULL));
            (void)snprintf(name, sizeof name, "colours_%s_%s", row[i].word, factor[k]);
            check_recorded(&p, name, 0);
            picture_done(&p);
        }
}

static void jittered(picture *out, const double strength[3], int64_t epoch, int64_t sample)
{
    picture_draw draw = picture_draw_begin(philox_stream(3, "test"), epoch, sample);

    read_file(out, "colours.png");
    colour_jitter(out, strength, &draw);
}

static void test_jitter(void **state)
{
    static const double none[3] = {0}, some[3] = {0.4, 0.4, 0.4};
    picture a = {0}, b = {0};
    int64_t n;

    (void)state;
    jittered(&a, none, 0, 0);
    check_recorded(&a, "colours.png", 0);
    n = a.width * a.height * 3;
    jittered(&a, some, 1, 5);
    jittered(&b, some, 1, 5);
    CHECK_BYTES(a.pixels, b.pixels, n);
    jittered(&b, some, 2, 5);
    CHECK(memcmp(a.pixels, b.pixels, (size_t)n) != 0);
    jittered(&b, some, 1, 6);
    CHECK(memcmp(a.pixels, b.pixels, (size_t)n) != 0);
    picture_done(&a);
    picture_done(&b);
}

static void test_grey_picture(void **state)
{
    picture p = {0};

    (void)state;
    CHECK_OK(picture_shape(&p, 2, 1, 1, "grey"));
    p.pixels[0] = 100;
    p.pixels[1] = 200;
    colour_saturation(&p, 0);
    CHECK_INT(p.pixels[0], 100);
    colour_contrast(&p, 0);
    CHECK_INT(p.pixels[0], 150);
    colour_brightness(&p, 2);
    CHECK_INT(p.pixels[1], 255);
    picture_done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded),
        cmocka_unit_test(test_jitter),
        cmocka_unit_test(test_grey_picture),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
