/*
 * preprocess.c - preprocessor_config.json: how pictures become images of a network, in the file
 * beside its weights that Python's image processors read.
 *
 * Reading takes what it knows and leaves the rest; writing says all that evaluation does, so that
 * the folder alone is enough to repeat it.
 */
#include "train/train.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#define MOST_BYTES ((size_t)1 << 20)

static thaw_status bad(const char *file, const char *key, const char *wanted)
{
    return thaw_fail(THAW_E_DATA, "%s: '%s' must be %s", file, key, wanted);
}

static bool is_side(const json_t *v)
{
    return json_is_integer(v) && json_integer_value(v) >= 1 && json_integer_value(v) <= 65536;
}

/* A side, {"shortest_edge": side} or {"height": side, "width": side}. One number is *edge. */
static thaw_status read_size(int64_t *edge, int64_t *height, int64_t *width, const json_t *root,
                             const char *key, const char *file)
{
    const json_t *v = json_object_get(root, key), *shortest = json_object_get(v, "shortest_edge");
    const json_t *h = json_object_get(v, "height"), *w = json_object_get(v, "width");

    *edge = *height = *width = 0;
    if (!v || json_is_null(v))
        return THAW_OK;
    if (is_side(v))
        *edge = json_integer_value(v);
    else if (is_side(shortest))
        *edge = json_integer_value(shortest);
    else if (is_side(h) && is_side(w)) {
        *height = json_integer_value(h);
        *width = json_integer_value(w);
    } else
        return bad(file, key, "a side, or an object with 'shortest_edge' or 'height' and 'width'");
    return THAW_OK;
}

static thaw_status read_numbers(double out[4], int *n, const json_t *root, const char *key,
                                const char *file)
{
    const json_t *v = json_object_get(root, key);

    if (!v || json_is_null(v))
        return THAW_OK;
    if (!json_is_array(v) || json_array_size(v) < 1 || json_array_size(v) > 4)
        return bad(file, key, "a list of 1 to 4 numbers");
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *item = json_array_get(v, i);

        if (!json_is_number(item) || !isfinite(json_number_value(item)))
            return bad(file, key, "a list of numbers");
        out[i] = json_number_value(item);
    }
    *n = (int)json_array_size(v);
    return THAW_OK;
}

static bool is_off(const json_t *root, const char *key)
{
    return json_is_false(json_object_get(root, key));
}

/* The numbers are those of Pillow's filters. */
static thaw_status read_filter(preprocess *p, const json_t *root, const char *file)
{
    const json_t *v = json_object_get(root, "resample");

    if (!v || json_is_null(v))
        return THAW_OK;
    if (!json_is_integer(v) || (json_integer_value(v) != 2 && json_integer_value(v) != 3))
        return bad(file, "resample", "2 (bilinear) or 3 (bicubic); others are not done here");
    p->filter = json_integer_value(v) == 3 ? RESAMPLE_BICUBIC : RESAMPLE_BILINEAR;
    return THAW_OK;
}

/*
 * `size` is what pictures are resized to; `crop_size` what is cut out. One number as `size` means
 * the shorter side for processors that cut, and both sides for those that do not.
 */
static thaw_status read_sizes(preprocess *p, const json_t *root, const char *file)
{
    const json_t *share = json_object_get(root, "crop_pct");
    const bool cuts = json_is_true(json_object_get(root, "do_center_crop"));
    int64_t edge, height, width, cut, cut_height, cut_width;

    THAW_CHECK(read_size(&edge, &height, &width, root, "size", file));
    THAW_CHECK(read_size(&cut, &cut_height, &cut_width, root, "crop_size", file));
    if (cut > 0)
        cut_height = cut_width = cut;
    if (cuts && cut_height > 0) {
        p->height = cut_height;
        p->width = cut_width;
        p->shorter_side = edge > 0 ? edge : THAW_MAX(height, width);
        p->shorter_side = THAW_MAX(p->shorter_side, THAW_MAX(cut_height, cut_width));
    } else {
        p->height = edge > 0 ? edge : height;
        p->width = edge > 0 ? edge : width;
    }
    if (edge > 0 && !cuts && json_is_number(share) && json_number_value(share) > 0 &&
        json_number_value(share) <= 1)
        p->shorter_side = (int64_t)((double)edge / json_number_value(share));
    return THAW_OK;
}

static thaw_status read_all(preprocess *p, const json_t *root, const char *file)
{
    int n_mean = 0, n_std = 0;

    if (!json_is_object(root))
        return thaw_fail(THAW_E_DATA, "%s: must be a JSON object", file);
    THAW_CHECK(read_sizes(p, root, file));
    THAW_CHECK(read_filter(p, root, file));
    if (is_off(root, "do_normalize")) {
        p->n_mean = 1;
        p->mean[0] = 0;
        p->std[0] = 1;
        return THAW_OK;
    }
    THAW_CHECK(read_numbers(p->mean, &n_mean, root, "image_mean", file));
    THAW_CHECK(read_numbers(p->std, &n_std, root, "image_std", file));
    if (n_mean != n_std)
        return bad(file, "image_std", "as long as 'image_mean'");
    for (int i = 0; i < n_std; i++)
        if (!(p->std[i] > 0))
            return bad(file, "image_std", "a list of numbers above 0");
    p->n_mean = n_mean;
    return THAW_OK;
}

thaw_status preprocess_parse(preprocess *out, const char *json, size_t size, const char *file)
{
    preprocess p = {.found = true};
    json_t *root = NULL;
    thaw_status status;

    THAW_CHECK(json_parse(&root, json, size, file));
    status = read_all(&p, root, file);
    json_decref(root);
    if (status == THAW_OK)
        *out = p;
    return status;
}

thaw_status preprocess_read(preprocess *out, const char *folder)
{
    char *path = os_path(folder, PREPROCESS_NAME), *json = NULL;
    size_t size;
    thaw_status status = THAW_OK;

    if (!path)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the path of a configuration");
    if (os_kind_of(path) != OS_FILE) {
        *out = (preprocess){0};
        goto done;
    }
    THAW_TRY(os_read_file(&json, &size, path, MOST_BYTES));
    THAW_TRY(preprocess_parse(out, json, size, path));
done:
    thaw__free(json);
    thaw__free(path);
    return status;
}

void preprocess_apply(picture_recipe *r, loader_options *o, const preprocess *p)
{
    if (p->height > 0) {
        r->height = p->height;
        r->width = p->width;
        r->shorter_side = p->shorter_side;
    }
    r->filter = p->filter;
    if (p->n_mean > 0) {
        memcpy(o->mean, p->mean, sizeof o->mean);
        memcpy(o->std, p->std, sizeof o->std);
        o->n_mean = p->n_mean;
    }
}

static void print_numbers(text *out, const char *key, const double *value, const loader_options *o,
                          int channels)
{
    text_addf(out, "  \"%s\": [", key);
    for (int i = 0; i < channels; i++) {
        text_add(out, i ? ", " : "");
        text_add_json_double(out, value[o->n_mean == 1 ? 0 : i]);
    }
    text_add(out, "],\n");
}

void preprocess_print(text *out, const picture_recipe *r, const loader_options *o)
{
    const bool cuts = r->shorter_side > 0;

    text_addf(out, "{\n  \"image_processor_type\": \"%s\",\n",
              cuts ? "BitImageProcessor" : "ViTImageProcessor");
    text_add(out, "  \"do_resize\": true,\n");
    if (cuts)
        text_addf(out,
                  "  \"size\": {\"shortest_edge\": %lld},\n  \"do_center_crop\": true,\n"
                  "  \"crop_size\": {\"height\": %lld, \"width\": %lld},\n",
                  (long long)r->shorter_side, (long long)r->height, (long long)r->width);
    else
        text_addf(out, "  \"size\": {\"height\": %lld, \"width\": %lld},\n", (long long)r->height,
                  (long long)r->width);
    text_addf(out, "  \"resample\": %d,\n", r->filter == RESAMPLE_BICUBIC ? 3 : 2);
    text_add(out, "  \"do_rescale\": true,\n  \"rescale_factor\": 0.00392156862745098,\n");
    text_add(out, "  \"do_normalize\": true,\n");
    print_numbers(out, "image_mean", o->mean, o, r->channels);
    print_numbers(out, "image_std", o->std, o, r->channels);
    text_addf(out, "  \"do_convert_rgb\": %s\n}\n", r->channels == 3 ? "true" : "false");
}
