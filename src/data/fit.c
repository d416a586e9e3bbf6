/*
 * fit.c - a picture of any size to the one size that a network reads: the centre, or in training a
 * part drawn at random, in colours drawn at random.
 *
 * What is drawn depends on (seed, epoch, sample) alone. Sizes and places are rounded as torchvision
 * rounds them.
 */
#include "data/picture.h"

#include <math.h>

#define CROP_TRIES 10

/* ----------------------------------------------------------------------------------------------
 * drawing */

picture_draw picture_draw_begin(philox_key key, int64_t epoch, int64_t sample)
{
    /* 2^32 blocks of words for each epoch and sample */
    return (picture_draw){
        .key = key, .epoch = (uint64_t)epoch << 32, .sample = (uint64_t)sample, .used = 0};
}

double picture_draw_uniform(picture_draw *d)
{
    if (d->used % 4 == 0)
        philox(d->word, d->key, d->epoch + d->used / 4, d->sample);
    return philox_uniform(d->word[d->used++ % 4]);
}

/* The whole picture, cut to a ratio of sides between 3/4 and 4/3. */
static picture_box crop_fallback(int64_t width, int64_t height)
{
    const double ratio = (double)width / (double)height;
    picture_box b = {.width = width, .height = height};

    if (ratio < 3.0 / 4)
        b.height = (int64_t)rint((double)width / (3.0 / 4));
    else if (ratio > 4.0 / 3)
        b.width = (int64_t)rint((double)height * (4.0 / 3));
    b.x = (width - b.width) / 2;
    b.y = (height - b.height) / 2;
    return b;
}

picture_box crop_draw(picture_draw *draw, int64_t width, int64_t height, const double scale[2])
{
    const double area = (double)width * (double)height;
    const double least = log(3.0 / 4), most = log(4.0 / 3);

    for (int i = 0; i < CROP_TRIES; i++) {
        const double part = area * (scale[0] + picture_draw_uniform(draw) * (scale[1] - scale[0]));
        const double ratio = exp(least + picture_draw_uniform(draw) * (most - least));
        picture_box b = {.width = (int64_t)rint(sqrt(part * ratio)),
                         .height = (int64_t)rint(sqrt(part / ratio))};

        if (b.width < 1 || b.width > width || b.height < 1 || b.height > height)
            continue;
        b.y = (int64_t)(picture_draw_uniform(draw) * (double)(height - b.height + 1));
        b.x = (int64_t)(picture_draw_uniform(draw) * (double)(width - b.width + 1));
        return b;
    }
    return crop_fallback(width, height);
}

/* ----------------------------------------------------------------------------------------------
 * fitting */

/* The shorter side becomes `shorter`, the longer one keeps the shape. */
static void shorter_side(int64_t *width, int64_t *height, const picture *src, int64_t shorter)
{
    const int64_t w = src->width, h = src->height;

    *width = w <= h ? shorter : (int64_t)((double)(shorter * w) / (double)h);
    *height = h <= w ? shorter : (int64_t)((double)(shorter * h) / (double)w);
}

/* Half of what is left over, to the nearest even number where it lies between two. */
static int64_t centre(int64_t size, int64_t cut)
{
    return (int64_t)rint((double)(size - cut) / 2);
}

static thaw_status fit_centre(picture *dst, const picture *src, const picture_recipe *r,
                              const char *name)
{
    const picture_box all = {.width = src->width, .height = src->height};
    picture_box window = {.width = r->width, .height = r->height};
    int64_t width = r->width, height = r->height;

    if (r->shorter_side > 0) {
        shorter_side(&width, &height, src, r->shorter_side);
        window.x = centre(width, r->width);
        window.y = centre(height, r->height);
    }
    return picture_resize(dst, src, &all, width, height, &window, r->filter, name);
}

static thaw_status fit_drawn(picture *dst, const picture *src, const picture_recipe *r,
                             picture_draw *draw, const char *name)
{
    const picture_box part = crop_draw(draw, src->width, src->height, r->crop_scale);
    const picture_box window = {.width = r->width, .height = r->height};

    return picture_resize(dst, src, &part, r->width, r->height, &window, r->filter, name);
}

thaw_status picture_fit(picture *dst, picture *src, const picture_recipe *r, picture_draw *draw,
                        const char *name)
{
    if (r->channels == 1)
        THAW_CHECK(picture_channels(src, 1, name));
    if (draw && r->crop_scale[1] > 0)
        THAW_CHECK(fit_drawn(dst, src, r, draw, name));
    else
        THAW_CHECK(fit_centre(dst, src, r, name));
    THAW_CHECK(picture_channels(dst, r->channels, name));
    if (draw)
        colour_jitter(dst, r->jitter, draw);
    return THAW_OK;
}

thaw_status picture_recipe_check(const picture_recipe *r)
{
    if (r->height < 1 || r->width < 1 || r->height > 65536 || r->width > 65536)
        return thaw_fail(THAW_E_RANGE, "'data.image_size' is %lld x %lld, expected 1 to 65536",
                         (long long)r->height, (long long)r->width);
    if (r->shorter_side != 0 && r->shorter_side < THAW_MAX(r->height, r->width))
        return thaw_fail(THAW_E_SHAPE,
                         "'data.resize_to' is %lld, but %lld x %lld pixels are cut out of it: "
                         "raise it to %lld or more",
                         (long long)r->shorter_side, (long long)r->width, (long long)r->height,
                         (long long)THAW_MAX(r->height, r->width));
    if (r->crop_scale[0] < 0 || r->crop_scale[1] > 1 || r->crop_scale[0] > r->crop_scale[1])
        return thaw_fail(THAW_E_RANGE,
                         "'data.random_resized_crop' is [%g, %g], expected two shares of the area "
                         "in [0, 1], the smaller first",
                         r->crop_scale[0], r->crop_scale[1]);
    return THAW_OK;
}
