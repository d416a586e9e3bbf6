/*
 * pictures.h - what the tests of pictures share: recorded pixels (tests/data/pictures/NAME.ppm,
 * what Pillow makes of NAME) and the comparison with them.
 */
#ifndef THAW_TESTS_PICTURES_H
#define THAW_TESTS_PICTURES_H

#include "data/picture.h"

#include "check.h"

#define PICTURES THAW_TEST_DIR "/data/pictures/"

static const picture_limits plain_limits = {.most_pixels = PICTURE_MOST_PIXELS};

/* A recorded picture, RGB. */
static inline void recorded(picture *out, const char *name)
{
    char path[512];
    long width = 0, height = 0;
    FILE *f;

    (void)snprintf(path, sizeof path, PICTURES "%s.ppm", name);
    f = fopen(path, "rb");
    CHECK_MSG(f, "no '%s'", path);
    CHECK_INT(fscanf(f, "P6 %ld %ld 255", &width, &height), 2);
    (void)fgetc(f);
    CHECK_OK(picture_shape(out, width, height, 3, path));
    CHECK_INT(fread(out->pixels, 1, (size_t)(width * height * 3), f), width * height * 3);
    (void)fclose(f);
}

static inline void read_file(picture *out, const char *name)
{
    char path[512];

    (void)snprintf(path, sizeof path, PICTURES "%s", name);
    CHECK_OK(picture_read(out, path, &plain_limits));
}

/* got, as RGB, against the recorded picture: no number further off than `most`. */
static inline void check_recorded(picture *got, const char *name, int most)
{
    picture want = {0};
    int worst = 0;
    int64_t at = 0;

    recorded(&want, name);
    CHECK_OK(picture_channels(got, 3, name));
    CHECK_MSG(got->width == want.width && got->height == want.height,
              "%s: %lld x %lld, not %lld x %lld", name, (long long)got->width,
              (long long)got->height, (long long)want.width, (long long)want.height);
    for (int64_t i = 0; i < want.width * want.height * 3; i++)
        if (abs(got->pixels[i] - want.pixels[i]) > worst) {
            worst = abs(got->pixels[i] - want.pixels[i]);
            at = i;
        }
    CHECK_MSG(worst <= most, "%s: number %lld is %d, not %d", name, (long long)at, got->pixels[at],
              want.pixels[at]);
    picture_done(&want);
}

/* A file of bytes in memory. */
typedef struct file_bytes {
    uint8_t *data;
    size_t size;
} file_bytes;

static inline file_bytes load_file(const char *name)
{
    char path[512], *data;
    file_bytes f = {0};

    (void)snprintf(path, sizeof path, PICTURES "%s", name);
    CHECK_OK(os_read_file(&data, &f.size, path, PICTURE_MOST_BYTES));
    f.data = (uint8_t *)data;
    return f;
}

#endif
