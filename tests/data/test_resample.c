/*
 * test_resample.c - resized pictures against those of Pillow, bit for bit: smaller, larger, one
 * side only, down to one pixel; and windows against the whole.
 */
#include "pictures.h"

static void check_size(const char *source, const char *word, resample_filter filter, int width,
                       int height)
{
    const picture_box window = {.width = width, .height = height};
    picture src = {0}, dst = {0};
    char name[128];

    (void)snprintf(name, sizeof name, "resize_%s.png", source);
    read_file(&src, name);
    const picture_box all = {.width = src.width, .height = src.height};
    CHECK_OK(picture_resize(&dst, &src, &all, width, height, &window, filter, name));
    (void)snprintf(name, sizeof name, "resize_%s_%s_%dx%d", source, word, width, height);
    check_recorded(&dst, name, 0);
    picture_done(&dst);
    picture_done(&src);
}

static void test_sizes(void **state)
{
    static const int size[][2] = {{20, 14}, {67, 10}, {96, 70}, {13, 45}, {1, 1}};
    static const char *const source[] = {"photo", "hard", "plain"};

    (void)state;
    for (size_t s = 0; s < THAW_COUNT(source); s++)
        for (size_t i = 0; i < THAW_COUNT(size); i++) {
            check_size(source[s], "bilinear", RESAMPLE_BILINEAR, size[i][0], size[i][1]);
            check_size(source[s], "bicubic", RESAMPLE_BICUBIC, size[i][0], size[i][1]);
        }
}

static void test_part(void **state)
{
    const picture_box part = {5, 3, 48, 37}, window = {0, 0, 24, 24};
    picture src = {0}, dst = {0};

    (void)state;
    read_file(&src, "resize_photo.png");
    CHECK_OK(picture_resize(&dst, &src, &part, 24, 24, &window, RESAMPLE_BICUBIC, "part"));
    check_recorded(&dst, "resize_photo_cropped", 0);
    picture_done(&dst);
    picture_done(&src);
}

/* A window has the numbers that the whole has there. */
static void test_window(void **state)
{
    const picture_box whole = {0, 0, 40, 27}, window = {11, 6, 17, 15};
    picture src = {0}, all = {0}, dst = {0};

    (void)state;
    read_file(&src, "resize_photo.png");
    const picture_box from = {.width = src.width, .height = src.height};
    CHECK_OK(picture_resize(&all, &src, &from, 40, 27, &whole, RESAMPLE_BILINEAR, "all"));
    CHECK_OK(picture_resize(&dst, &src, &from, 40, 27, &window, RESAMPLE_BILINEAR, "window"));
    for (int64_t y = 0; y < window.height; y++)
        CHECK_BYTES(dst.pixels + y * window.width * 3,
                    all.pixels + ((window.y + y) * 40 + window.x) * 3, window.width * 3);
    picture_done(&dst);
    picture_done(&all);
    picture_done(&src);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_part),
        cmocka_unit_test(test_window),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
