/*
 * dataset.c - data sets: made from a pair of IDX files, from a callback, or from part of another
 * one.
 *
 * Once made, a data set never changes; its digest tells whether its files did since a run was
 * saved. Must not know how batches are made.
 */
#include "data/picture.h"

#include <math.h>
#include <string.h>

/* Digest of everything a run can see of the data. */
static uint64_t digest_of(const dataset *d)
{
    const int64_t size[5] = {d->n, d->height, d->width, d->channels, d->n_classes};
    const size_t pixels = (size_t)(d->n * d->height * d->width * d->channels);
    uint64_t h = hash_fnv1a_n(HASH_INIT, size, sizeof size);

    h = hash_fnv1a_n(h, d->pixels, pixels);
    return hash_fnv1a_n(h, d->label, (size_t)d->n * sizeof *d->label);
}

/* "1000 images 28x28x1 in 5 classes from '…'" */
static thaw_status describe(dataset *d, const char *from)
{
    text t = TEXT_INIT;

    text_addf(&t, "%lld images %lldx%lldx%lld in %d classes from %s", (long long)d->n,
              (long long)d->height, (long long)d->width, (long long)d->channels, d->n_classes,
              from);
    return text_take(&d->description, &t, "the description of a data set");
}

static thaw_status describe_file(dataset *d, const char *path)
{
    thaw_status status = THAW_OK;
    char *from = NULL;
    text t = TEXT_INIT;

    text_addf(&t, "'%s'", path);
    THAW_TRY(text_take(&from, &t, "the description of a data set"));
    THAW_TRY(describe(d, from));
done:
    thaw__free(from);
    return status;
}

size_t dataset_bytes(const dataset *d)
{
    const size_t n = (size_t)d->n, image = (size_t)(d->height * d->width * d->channels);
    size_t sum = d->pictures ? picture_set_bytes(d->pictures) : 0;

    sum += d->pixels ? n * image : 0;
    sum += d->label ? n * sizeof *d->label : 0;
    sum += d->target ? n * sizeof *d->target : 0;
    return sum + (d->id ? n * sizeof *d->id : 0);
}

void dataset_destroy(dataset *d)
{
    if (!d)
        return;
    picture_set_destroy(d->pictures);
    thaw__free(d->description);
    thaw__free(d->id);
    thaw__free(d->target);
    thaw__free(d->label);
    thaw__free(d->pixels);
    thaw__free(d);
}

/* Keep the selected images: moved to the front, since the selection rises, then the rest given
 * back. */
static void keep_pixels(dataset *d, const sample_selection *s, int64_t n_before)
{
    const size_t image = (size_t)(d->height * d->width * d->channels);
    uint8_t *smaller;

    if (s->n == n_before)
        return;
    for (int64_t i = 0; i < s->n; i++)
        memmove(d->pixels + (size_t)i * image, d->pixels + (size_t)s->index[i] * image, image);
    smaller = thaw__resize(d->pixels, (size_t)s->n * image, 1);
    if (smaller)
        d->pixels = smaller;
}

/* images' data goes over to *out. */
static thaw_status from_arrays(dataset **out, idx_array *images, const idx_array *labels,
                               const char *images_name, sample_selection *s)
{
    thaw_status status = THAW_OK;
    dataset *d = thaw__new(1, sizeof *d);

    if (!d)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the data set '%s'", images_name);
    *d = (dataset){.n = s->n,
                   .height = images->height,
                   .width = images->width,
                   .channels = images->channels,
                   .n_classes = s->n_classes};
    d->label = thaw__new((size_t)s->n, sizeof *d->label);
    if (!d->label) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for the labels of '%s'", images_name);
        goto done;
    }
    THAW_TRY(describe_file(d, images_name));
    for (int64_t i = 0; i < s->n; i++)
        d->label[i] = s->class_of[labels->data[s->index[i]]];
    /* the whole files, before what is not wanted of them is given back */
    d->opening = (size_t)images->n * ((size_t)(d->height * d->width * d->channels) + 1) +
                 (size_t)s->n * (sizeof *d->label + sizeof *d->id);
    d->pixels = images->data;
    images->data = NULL;
    keep_pixels(d, s, images->n);
    d->id = s->index;
    s->index = NULL;
    d->digest = digest_of(d);
    *out = d;
    d = NULL;
done:
    dataset_destroy(d);
    return status;
}

thaw_status dataset_open_idx(dataset **out, const char *images, const char *labels,
                             const dataset_subset *subset, int n_classes_expected)
{
    thaw_status status = THAW_OK;
    idx_array image_array = {0}, label_array = {0};
    sample_selection s = {0};

    /* labels first: they are small, and most mistakes show there */
    THAW_TRY(idx_read(&label_array, labels, IDX_LABELS));
    THAW_TRY(
        dataset_select(&s, label_array.data, label_array.n, subset, n_classes_expected, labels));
    THAW_TRY(idx_read(&image_array, images, IDX_IMAGES));
    if (image_array.n != label_array.n) {
        status = thaw_fail(THAW_E_DATA,
                           "'%s' has %lld images but '%s' has %lld labels: give the two files of "
                           "one set",
                           images, (long long)image_array.n, labels, (long long)label_array.n);
        goto done;
    }
    THAW_TRY(from_arrays(out, &image_array, &label_array, images, &s));
done:
    thaw__free(s.index);
    thaw__free(label_array.data);
    thaw__free(image_array.data);
    return status;
}

static thaw_status check_callback(int64_t n, int64_t height, int64_t width, int64_t channels,
                                  int n_classes)
{
    const struct {
        const char *name;
        int64_t value;
    } row[] = {{"samples", n},
               {"rows", height},
               {"columns", width},
               {"channels", channels},
               {"classes", n_classes}};
    const shape image = shape_4(1, height, width, channels);
    size_t elements;

    for (size_t i = 0; i < THAW_COUNT(row); i++)
        if (row[i].value < 1)
            return thaw_fail(THAW_E_RANGE, "a data source has %lld %s, expected 1 or more",
                             (long long)row[i].value, row[i].name);
    return shape_elements(&elements, &image);
}

thaw_status dataset_from_callback(dataset **out, int64_t n, int64_t height, int64_t width,
                                  int64_t channels, int n_classes, dataset_read_fn *read,
                                  void *user)
{
    thaw_status status = THAW_OK;
    dataset *d = NULL;

    THAW_CHECK(check_callback(n, height, width, channels, n_classes));
    if (!read)
        return thaw_fail(THAW_E_USAGE, "a data source has no read function");
    d = thaw__new(1, sizeof *d);
    if (!d)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a data set");
    *d = (dataset){.read = read,
                   .user = user,
                   .n = n,
                   .height = height,
                   .width = width,
                   .channels = channels,
                   .n_classes = n_classes};
    THAW_TRY(describe(d, "the calling program"));
    *out = d;
    d = NULL;
done:
    dataset_destroy(d);
    return status;
}

void dataset_count_classes(int64_t *count, const dataset *d)
{
    memset(count, 0, (size_t)d->n_classes * sizeof *count);
    if (!d->label)
        return;
    for (int64_t i = 0; i < d->n; i++)
        count[d->label[i]]++;
}

double dataset_majority(const dataset *d)
{
    int64_t *count = d->label ? thaw__new((size_t)d->n_classes, sizeof *count) : NULL;
    int64_t most = 0;

    if (!count)
        return 0;
    dataset_count_classes(count, d);
    for (int i = 0; i < d->n_classes; i++)
        most = THAW_MAX(most, count[i]);
    thaw__free(count);
    return (double)most / (double)d->n;
}

void dataset_numbers(double *mean, double *deviation, const dataset *d)
{
    double sum = 0, squares = 0;

    *mean = *deviation = 0;
    if (!d->target)
        return;
    for (int64_t i = 0; i < d->n; i++)
        sum += d->target[i];
    *mean = sum / (double)d->n;
    for (int64_t i = 0; i < d->n; i++)
        squares += (d->target[i] - *mean) * (d->target[i] - *mean);
    *deviation = sqrt(squares / (double)d->n);
}
