/*
 * test_fit.c - how pictures become images: the centre, stretched, a part drawn at random; and that
 * what is drawn depends on seed, epoch and sample alone.
 */
#include "pictures.h"

static void ramp(picture *p, int64_t width, int64_t height)
{
    CHECK_OK(picture_shape(p, width, height, 1, "ramp"));
    for (int64_t i = 0; i < width * height; i++)
        p->pixels[i] = (uint8_t)(i % width);
}

/* Nothing is resized, so the cut shows where it lies. */
static void test_centre(void **state)
{
    static const int64_t width[] = {20, 21, 22, 23}, left[] = {5, 6, 6, 6};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(width); i++) {
        const picture_recipe r = {.height = 10, .width = 10, .shorter_side = 10, .channels = 1};
        picture src = {0}, dst = {0};

        ramp(&src, width[i], 10);
        CHECK_OK(picture_fit(&dst, &src, &r, NULL, "ramp"));
        CHECK_INT(dst.width, 10);
        CHECK_INT(dst.pixels[0], left[i]); /* halves go to the even side, as in Python */
        CHECK_INT(dst.pixels[9], left[i] + 9);
        picture_done(&src);
        picture_done(&dst);
    }
}

static void test_channels(void **state)
{
    picture_recipe r = {.height = 8, .width = 6, .channels = 3};
    picture src = {0}, dst = {0};

    (void)state;
    ramp(&src, 12, 12);
    CHECK_OK(picture_fit(&dst, &src, &r, NULL, "ramp"));
    CHECK_INT(dst.width * 100 + dst.height * 10 + dst.channels, 683);
    CHECK_INT(dst.pixels[3], dst.pixels[5]);
    r.channels = 1;
    CHECK_OK(picture_channels(&src, 3, "ramp"));
    CHECK_OK(picture_fit(&dst, &src, &r, NULL, "ramp"));
    CHECK_INT(dst.channels, 1);
    picture_done(&src);
    picture_done(&dst);
}

static void test_crops(void **state)
{
    static const double scale[2] = {0.25, 0.5};
    const philox_key key = philox_stream(1, "test");
    double least = 1, most = 0;

    (void)state;
    for (int64_t i = 0; i < 2000; i++) {
        picture_draw a = picture_draw_begin(key, 3, i), b = picture_draw_begin(key, 3, i);
        const picture_box c = crop_draw(&a, 200, 150, scale), d = crop_draw(&b, 200, 150, scale);
        const double share = (double)(c.width * c.height) / (200 * 150);

        CHECK_BYTES(&c, &d, sizeof c);
        CHECK(c.x >= 0 && c.y >= 0 && c.x + c.width <= 200 && c.y + c.height <= 150);
        CHECK(share > 0.24 && share < 0.51);
        CHECK((double)c.width / (double)c.height > 0.73 &&
              (double)c.width / (double)c.height < 1.36);
        least = fmin(least, share);
        most = fmax(most, share);
    }
    CHECK(least < 0.26 && most > 0.49);
}

/* Too long for any part of the whole area: cut to the allowed shape. */
static void test_fallback(void **state)
{
    static const double scale[2] = {1, 1};
    picture_draw draw = picture_draw_begin(philox_stream(1, "test"), 0, 0);
    const picture_box c = crop_draw(&draw, 1000, 30, scale);

    (void)state;
    CHECK_INT(c.height, 30);
    CHECK_INT(c.width, 40);
    CHECK_INT(c.x, 480);
}

static void test_draws(void **state)
{
    const philox_key key = philox_stream(1, "test");
    picture_draw a = picture_draw_begin(key, 1, 2), b = picture_draw_begin(key, 1, 3);
    int same = 0;

    (void)state;
    for (int i = 0; i < 100; i++) {
        const double x = picture_draw_uniform(&a), y = picture_draw_uniform(&b);

        CHECK(x >= 0 && x < 1);
        same += x == y;
    }
    CHECK_INT(same, 0);
}

static void test_refused(void **state)
{
    picture_recipe r = PICTURE_RECIPE_INIT;

    (void)state;
    CHECK_OK(picture_recipe_check(&r));
    r.shorter_side = 223;
    CHECK_ERROR(picture_recipe_check(&r), THAW_E_SHAPE, "data.resize_to");
    r = (picture_recipe)PICTURE_RECIPE_INIT;
    r.crop_scale[0] = 0.5;
    CHECK_ERROR(picture_recipe_check(&r), THAW_E_RANGE, "data.random_resized_crop");
    r = (picture_recipe)PICTURE_RECIPE_INIT;
    r.height = 0;
    CHECK_ERROR(picture_recipe_check(&r), THAW_E_RANGE, "data.image_size");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_centre), cmocka_unit_test(test_channels),
        cmocka_unit_test(test_crops),  cmocka_unit_test(test_fallback),
        cmocka_unit_test(test_draws),  cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
