/*
 * test_picture.c - every kind of file against the pixels that Pillow makes of it; what is refused,
 * in which words; and hundreds of damaged files.
 */
#include "pictures.h"

static void check_file(const char *name)
{
    picture p = {0};

    read_file(&p, name);
    check_recorded(&p, name, 0);
    picture_done(&p);
}

static void test_png_files(void **state)
{
    static const char *const name[] = {"rgb.png",           "grey.png",  "bits1.png",
                                       "palette.png",       "alpha.png", "grey_alpha.png",
                                       "palette_clear.png", "deep.png",  "deep_grey.png",
                                       "interlaced.png",    "turned.png"};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(name); i++)
        check_file(name[i]);
}

static void test_jpeg_files(void **state)
{
    static const char *const name[] = {"colour.jpg", "full_chroma.jpg", "grey.jpg",
                                       "progressive.jpg", "cmyk.jpg"};
    char turned[32];

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(name); i++)
        check_file(name[i]);
    for (int i = 1; i <= 8; i++) {
        (void)snprintf(turned, sizeof turned, "turned%d.jpg", i);
        check_file(turned);
    }
}

static void test_kinds(void **state)
{
    picture p = {0};

    (void)state;
    CHECK_ERROR(picture_decode(&p, "", 0, "a.jpg", &plain_limits), THAW_E_DATA, "'a.jpg' is empty");
    CHECK_ERROR(picture_decode(&p, "<html>", 6, "a.jpg", &plain_limits), THAW_E_DATA,
                "neither JPEG nor PNG");
    CHECK_ERROR(picture_decode(&p, "GIF89a", 6, "a.gif", &plain_limits), THAW_E_DATA,
                "'a.gif' is a GIF");
    CHECK_STATUS(picture_read(&p, "/nowhere/a.png", &plain_limits), THAW_E_MISSING);
    CHECK_STATUS(picture_read(&p, "/dev/zero", &plain_limits), THAW_E_DATA);
    CHECK(picture_named("x.JPG") && picture_named("a.b.png") && picture_named("b.Jpeg"));
    CHECK(!picture_named(".jpg") && !picture_named("jpg") && !picture_named("a.gif"));
}

static void test_probe(void **state)
{
    const picture_limits small = {.most_pixels = 29 * 22 - 1};
    file_bytes f = load_file("rgb.png"), j = load_file("colour.jpg");

    (void)state;
    CHECK_OK(picture_probe(f.data, 64, "a", &plain_limits));
    CHECK_OK(picture_probe(j.data, 64, "a", &plain_limits));
    CHECK_ERROR(picture_probe(f.data, 64, "a", &small), THAW_E_LIMIT, "29 x 22 pixels");
    CHECK_ERROR(picture_probe(f.data, 20, "a", &small), THAW_E_DATA, "ends too early");
    thaw__free(f.data);
    thaw__free(j.data);
}

static void test_limits(void **state)
{
    const picture_limits small = {.most_pixels = 29 * 22 - 1};
    picture p = {0};

    (void)state;
    CHECK_ERROR(picture_read(&p, PICTURES "rgb.png", &small), THAW_E_LIMIT, "data.max_pixels");
    CHECK_ERROR(picture_read(&p, PICTURES "colour.jpg", &small), THAW_E_LIMIT, "data.max_pixels");
    picture_done(&p);
}

/* One damaged file: read or refused in one line, with bounded memory and nothing left. */
static int try_damaged(const uint8_t *data, size_t size)
{
    const size_t before = thaw__mem_current();
    picture p = {0};
    thaw_status status;

    thaw__mem_peak_reset();
    status = picture_decode(&p, data, size, "damaged", &plain_limits);
    CHECK_MSG(thaw__mem_peak() - before < (size_t)64 << 20, "%zu bytes of memory",
              thaw__mem_peak() - before);
    if (status != THAW_OK) {
        CHECK(status == THAW_E_DATA || status == THAW_E_LIMIT);
        CHECK_CONTAINS(thaw_error(), "'damaged'");
        CHECK_MSG(!strchr(thaw_error(), '\n'), "more than a line: %s", thaw_error());
    }
    picture_done(&p);
    CHECK_INT(thaw__mem_current(), before);
    return status != THAW_OK;
}

static void damage(const char *name, int *tried, int *refused)
{
    const philox_key key = philox_stream(1, name);
    file_bytes f = load_file(name);
    uint8_t *copy = thaw__alloc(f.size);
    uint32_t word[4];

    for (size_t n = 0; n < 12; n++, ++*tried) /* cut off */
        *refused += try_damaged(f.data, f.size * n / 12);
    for (uint64_t k = 0; k < 40; k++, ++*tried) { /* bytes changed, most of them near the start */
        memcpy(copy, f.data, f.size);
        for (uint64_t i = 0; i <= k % 8; i++) {
            philox(word, key, k, i);
            copy[word[0] % (k % 2 ? f.size : THAW_MIN(f.size, (size_t)200))] = (uint8_t)word[1];
        }
        *refused += try_damaged(copy, f.size);
    }
    thaw__free(copy);
    thaw__free(f.data);
}

static void test_damaged(void **state)
{
    static const char *const name[] = {"rgb.png",        "palette.png", "deep.png",
                                       "interlaced.png", "turned.png",  "colour.jpg",
                                       "grey.jpg",       "cmyk.jpg",    "progressive.jpg",
                                       "turned6.jpg",    "bits1.png",   "full_chroma.jpg"};
    int tried = 0, refused = 0;

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(name); i++)
        damage(name[i], &tried, &refused);
    CHECK(tried > 500 && refused > tried / 3);
}

/* A few bytes that state a huge picture. */
static void test_bombs(void **state)
{
    file_bytes png = load_file("rgb.png"), jpeg = load_file("progressive.jpg");
    picture p = {0};
    size_t frame = 0;

    (void)state;
    png.data[18] = png.data[22] = 0x40; /* 16,413 x 16,406 */
    CHECK_STATUS(picture_decode(&p, png.data, png.size, "bomb", &plain_limits), THAW_E_DATA);
    while (jpeg.data[frame] != 0xFF || jpeg.data[frame + 1] != 0xC2)
        frame++;
    for (int side = 0x08; side <= 0xFF; side += 0x20) {
        jpeg.data[frame + 5] = jpeg.data[frame + 7] = (uint8_t)side;
        CHECK_INT(try_damaged(jpeg.data, jpeg.size), 1);
    }
    picture_done(&p);
    thaw__free(png.data);
    thaw__free(jpeg.data);
}

static void test_channels(void **state)
{
    picture p = {0};

    (void)state;
    CHECK_OK(picture_shape(&p, 2, 1, 3, "p"));
    memcpy(p.pixels, (uint8_t[]){255, 0, 0, 10, 20, 30}, 6);
    CHECK_OK(picture_channels(&p, 1, "p"));
    CHECK_INT(p.pixels[0], 76);
    CHECK_INT(p.pixels[1], 18);
    CHECK_OK(picture_channels(&p, 3, "p"));
    CHECK_BYTES(p.pixels, ((uint8_t[]){76, 76, 76, 18, 18, 18}), 6);
    CHECK_STATUS(picture_shape(&p, INT64_MAX, INT64_MAX, 3, "p"), THAW_E_DATA);
    picture_done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_png_files), cmocka_unit_test(test_jpeg_files),
        cmocka_unit_test(test_kinds),     cmocka_unit_test(test_probe),
        cmocka_unit_test(test_limits),    cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_bombs),     cmocka_unit_test(test_channels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
