/*
 * bench_data.c - how long the loader needs for an image: Fashion-MNIST where it is installed, else
 * blank images of the same size. Processor time of the preparing thread, best of five passes.
 */
#include "data/data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FASHION "/usr/share/datasets/fashion-mnist/"

static const struct {
    const char *name;
    loader_options o;
} row[] = {
    {"stored order", {.batch = 64, .std = {1}, .n_mean = 1}},
    {"shuffled", {.batch = 64, .std = {1}, .n_mean = 1, .shuffle = true}},
    {"shuffled, shift", {.batch = 64, .std = {1}, .n_mean = 1, .shuffle = true, .shift = 2}},
    {"shuffled, shift, flip",
     {.batch = 64, .std = {1}, .n_mean = 1, .shuffle = true, .shift = 2, .flip = true}},
    {"shuffled, shift, flip, 3 channels",
     {.batch = 64,
      .std = {1},
      .n_mean = 1,
      .shuffle = true,
      .shift = 2,
      .flip = true,
      .channels = 3}},
    {"shuffled, f64", {.batch = 64, .std = {1}, .n_mean = 1, .shuffle = true, .real = DTYPE_F64}},
    {"stored order, 8 times larger", {.batch = 16, .std = {1}, .n_mean = 1, .scale = 8}},
};

static void stop(void)
{
    fprintf(stderr, "bench_data: %s\n", thaw_error());
    exit(1);
}

static double processor_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static dataset *open_set(void)
{
    const double start = processor_seconds();
    dataset *d = NULL;
    thaw_status status = dataset_open_idx(&d, FASHION "train-images-idx3-ubyte.gz",
                                          FASHION "train-labels-idx1-ubyte.gz", NULL, 0);

    if (status == THAW_OK) {
        printf("reading the files: %.2f s\n%s\n", processor_seconds() - start, d->description);
        return d;
    }
    if (status != THAW_E_MISSING)
        stop();
    d = thaw__new(1, sizeof *d);
    if (!d)
        stop();
    *d = (dataset){.n = 60000, .height = 28, .width = 28, .channels = 1, .n_classes = 1};
    d->pixels = thaw__new(60000, 28 * 28);
    d->label = thaw__new(60000, sizeof *d->label);
    if (!d->pixels || !d->label)
        stop();
    return d;
}

/* Seconds for one image. */
static double pass(loader *l)
{
    const double start = processor_seconds();
    const batch *b = NULL;
    int64_t n = 0;

    while (n < 20000) {
        if (loader_next(&b, l) != THAW_OK)
            stop();
        n += b->n;
    }
    return (processor_seconds() - start) / (double)n;
}

int main(void)
{
    dataset *d = open_set();

    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        double best = 1;
        loader *l = NULL;

        if (loader_create(&l, d, &row[i].o) != THAW_OK)
            stop();
        for (int k = 0; k < 5; k++)
            best = fmin(best, pass(l));
        printf("%-36s %7.2f us an image  %10.0f images/s\n", row[i].name, 1e6 * best, 1 / best);
        loader_destroy(l);
    }
    dataset_destroy(d);
    return 0;
}
