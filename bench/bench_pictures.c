/*
 * bench_pictures.c - how many photographs a second become images of a network: read, decoded,
 * resized, the centre cut out, normalised. For each number of threads given (1 and 2 without);
 * bench/peer_pillow.py does the same with Pillow on the same files.
 *
 *     python3 bench/peer_pillow.py make FOLDER        # writes photographs
 *     build/bench_pictures FOLDER [THREADS...]
 *     python3 bench/peer_pillow.py FOLDER [THREADS...]
 */
#include "data/picture.h"

#include <stdio.h>
#include <stdlib.h>

#define PASSES 5

static void stop(void)
{
    fprintf(stderr, "bench_pictures: %s\n", thaw_error());
    exit(1);
}

/* Seconds of one pass over all batches. */
static double pass(loader *l)
{
    const double start = os()->monotonic();
    const batch *b;

    do
        if (loader_next(&b, l) != THAW_OK)
            stop();
    while (!b->last);
    return os()->monotonic() - start;
}

static void measure(const dataset *d, int threads)
{
    loader_options o = {.batch = 32,
                        .mean = {0.485, 0.456, 0.406},
                        .std = {0.229, 0.224, 0.225},
                        .n_mean = 3,
                        .workers = threads};
    double best = 1e30;
    loader *l = NULL;

    if (loader_create(&l, d, &o) != THAW_OK)
        stop();
    for (int i = 0; i < PASSES; i++) {
        const double seconds = pass(l);

        best = THAW_MIN(best, seconds);
    }
    printf("%d thread%s: %.1f images/s\n", threads, threads == 1 ? " " : "s", (double)d->n / best);
    loader_destroy(l);
}

int main(int argc, char **argv)
{
    picture_source s = {.train = argc > 1 ? argv[1] : NULL, .recipe = PICTURE_RECIPE_INIT};
    dataset *d[3] = {NULL};

    if (argc < 2) {
        puts("bench_pictures: give a folder of pictures (bench/peer_pillow.py makes one)");
        return 0;
    }
    if (dataset_open_pictures(d, &s) != THAW_OK)
        stop();
    printf("%s\n", d[0]->description);
    for (int i = 2; i < argc; i++)
        measure(d[0], atoi(argv[i]));
    if (argc == 2)
        for (int threads = 1; threads <= 2; threads++)
            measure(d[0], threads);
    dataset_destroy(d[0]);
    return 0;
}
