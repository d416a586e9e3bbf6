/*
 * init_data.c - what lies at the paths that `thaw init` is given as data: folders of pictures,
 * lists of them, or IDX files. Only names are looked at here; reading them is the run's business,
 * and what is wrong with them is found there.
 */
#include "train/init.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Names of a split below a folder, the first that is there counts. */
#define MOST_NAMES 4
static const struct {
    data_format format;
    os_kind kind;
    const char *name[3][MOST_NAMES]; /* train, valid, test */
} layout[] = {
    {DATA_FOLDER,
     OS_FOLDER,
     {{"train", "training"}, {"valid", "val", "validation", "dev"}, {"test", "testing"}}},
    {DATA_CSV, OS_FILE, {{"train.csv"}, {"valid.csv", "val.csv"}, {"test.csv"}}},
    {DATA_IDX,
     OS_FILE,
     {{"train-images-idx3-ubyte.gz", "train-images-idx3-ubyte"},
      {"t10k-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte"}}},
};

void data_look_done(data_look *l)
{
    for (int i = 0; i < 3; i++)
        thaw__free(l->path[i]);
    *l = (data_look){0};
}

/* An absolute path, since nobody knows yet where the recipe will lie. */
static thaw_status keep(char **out, const char *path)
{
    char absolute[PATH_MAX];

    if (os_kind_of(path) == OS_ABSENT)
        return thaw_fail(THAW_E_MISSING,
                         "'%s' is not there: a folder of pictures, a list (.csv) or a file of "
                         "images was expected",
                         path);
    *out = thaw__strdup(realpath(path, absolute) ? absolute : path);
    return *out ? THAW_OK : thaw_fail(THAW_E_NOMEM, "out of memory for a path");
}

static thaw_status find_one(char **out, const char *folder, const char *name, os_kind kind)
{
    char *path = os_path(folder, name);
    thaw_status status = THAW_OK;

    if (!path)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a path");
    if (os_kind_of(path) == kind)
        status = keep(out, path);
    thaw__free(path);
    return status;
}

/* "Train" is as good as "train". */
static thaw_status find_below(char **out, const char *folder, const char *const *name, os_kind kind)
{
    for (int i = 0; i < MOST_NAMES && name[i] && !*out; i++) {
        char capital[32];

        (void)snprintf(capital, sizeof capital, "%s", name[i]);
        capital[0] = (char)(capital[0] - 'a' + 'A');
        THAW_CHECK(find_one(out, folder, name[i], kind));
        if (!*out)
            THAW_CHECK(find_one(out, folder, capital, kind));
    }
    return THAW_OK;
}

/* A folder with splits in it; *l stays empty where it has none. */
static thaw_status look_below(data_look *l, const char *folder)
{
    for (size_t i = 0; i < THAW_COUNT(layout) && !l->path[0]; i++) {
        l->format = layout[i].format;
        for (int s = 0; s < 3 && (s == 0 || l->path[0]); s++)
            THAW_CHECK(find_below(&l->path[s], folder, layout[i].name[s], layout[i].kind));
    }
    return THAW_OK;
}

static bool ends_in_csv(const char *path)
{
    const size_t n = strlen(path);

    return n > 4 && path[n - 4] == '.' && (path[n - 3] | 32) == 'c' && (path[n - 2] | 32) == 's' &&
           (path[n - 1] | 32) == 'v';
}

/* A list has numbers to predict when all are numbers, and not all of them whole: those are classes
 * more often. */
static bool has_numbers(const char *list)
{
    picture_list l = {0};
    bool fraction = false;

    if (picture_list_csv(&l, list, true, NULL) != THAW_OK)
        return false;
    for (size_t i = 0; i < l.n && !fraction; i++)
        fraction = floorf(l.entry[i].target) < l.entry[i].target;
    picture_list_done(&l);
    return fraction;
}

thaw_status data_look_at(data_look *out, const char *const *data, int n_data)
{
    data_look l = {0};
    thaw_status status = THAW_OK;

    if (n_data == 1 && os_kind_of(data[0]) == OS_FOLDER)
        THAW_TRY(look_below(&l, data[0]));
    if (!l.path[0]) {
        l.format = os_kind_of(data[0]) == OS_FOLDER ? DATA_FOLDER
                   : ends_in_csv(data[0])           ? DATA_CSV
                                                    : DATA_IDX;
        for (int s = 0; s < THAW_MIN(n_data, 3); s++)
            THAW_TRY(keep(&l.path[s], data[s]));
    }
    l.numbers = l.format == DATA_CSV && has_numbers(l.path[0]);
    *out = l;
    l = (data_look){0};
done:
    data_look_done(&l);
    return status;
}

/* Mean and deviation of all pixels, in [0, 1]. */
static void measure(data_look *l, const dataset *d)
{
    const size_t n = (size_t)(d->n * d->height * d->width * d->channels); /* is in memory */
    double sum = 0, squares = 0;

    for (size_t i = 0; i < n; i++) {
        sum += d->pixels[i];
        squares += (double)d->pixels[i] * d->pixels[i];
    }
    sum /= (double)n;
    l->mean = sum / 255;
    l->std = sqrt(THAW_MAX(squares / (double)n - sum * sum, 1)) / 255;
}

thaw_status data_look_idx(data_look *l, const thaw_recipe *r)
{
    dataset *d = NULL;

    THAW_CHECK(dataset_open_idx(&d, r->train.images, r->train.labels, &r->train.subset, 0));
    l->height = d->height;
    l->width = d->width;
    measure(l, d);
    dataset_destroy(d);
    return THAW_OK;
}
