/*
 * bench_phases - fine-tunes a residual network in phases on synthetic images as a program with its
 * own data does, and prints the time of each step: thaw's side of bench/compare.py.
 *
 *   bench_phases make ARCH FOLDER                          write a network for all to begin with
 *   bench_phases FOLDER BATCH SIDE THREADS IMAGES PHASE… [KEY=VALUE…]
 *
 * PHASE is FROZEN:EPOCHS: how many of the five stages of the network (stem, layer1 … layer4) are
 * frozen, and for how long; KEY=VALUE overrides the recipe. peer_phases.py does the same and prints
 * the same. Only the public interface is used, so everything between command and step counts.
 */
#include <thaw/thaw.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CLASSES = 1000, STRIDE = 993, MOST_PHASES = 8 };

/* Image i is a window of one strip of noise that begins at i * STRIDE, so images cost no memory. */
typedef struct bench {
    int64_t side, images, batch;
    float *noise;
    double launched, last, ended; /* last: when the step before, or the phase's start, was over */
    bool begun;
} bench;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Numbers from a counter alone: a program in another language has the same. */
static uint32_t hash(uint32_t i)
{
    i *= UINT32_C(2654435761);
    i = (i ^ i >> 16) * UINT32_C(0x45d9f3b);
    return i ^ i >> 16;
}

static bool make_noise(bench *b)
{
    const size_t n = (size_t)(b->side * b->side * 3 + b->images * STRIDE);

    b->noise = malloc(n * sizeof *b->noise);
    for (size_t i = 0; b->noise && i < n; i++)
        b->noise[i] = (float)(hash((uint32_t)i) >> 8) / 8388608.0f - 1.0f;
    return b->noise != NULL;
}

static thaw_status read_images(void *user, bool valid, const int64_t *index, int64_t n,
                               float *images, int32_t *labels)
{
    const bench *const b = user;
    const size_t size = (size_t)(b->side * b->side * 3);

    (void)valid;
    for (int64_t i = 0; i < n; i++) {
        memcpy(images + (size_t)i * size, b->noise + index[i] * STRIDE, size * sizeof *images);
        labels[i] = (int32_t)(hash((uint32_t)index[i] + 1000000) % CLASSES);
    }
    return THAW_OK;
}

static bool show(void *user, const thaw_event *e)
{
    bench *const b = user;
    const double time = now();

    if (e->kind == THAW_EVENT_PHASE) {
        if (!b->begun)
            printf("begun %.6f\n", time - b->launched);
        else
            printf("change %d %.6f\n", e->phase, time - b->ended);
        b->begun = true;
        b->last = time;
    } else if (e->kind == THAW_EVENT_STEP) {
        const int64_t per_epoch = b->images / b->batch;

        printf("step %d %lld %.6f %.7g\n", e->phase, (long long)((e->phase_step - 1) / per_epoch),
               time - b->last, e->loss);
        (void)fflush(stdout);
        b->last = now();
    } else if (e->kind == THAW_EVENT_PHASE_END) {
        b->ended = time;
    }
    return true;
}

static int fail(void)
{
    (void)fprintf(stderr, "bench_phases: %s\n", thaw_error());
    return 1;
}

static int train(bench *b, const char *recipe_text, const char *run, int threads,
                 const char *const *sets, int n_sets)
{
    const thaw_source source = {.n_train = b->images,
                                .n_valid = run ? b->batch : 0,
                                .height = b->side,
                                .width = b->side,
                                .channels = 3,
                                .classes = CLASSES,
                                .read = read_images,
                                .user = b};
    const thaw_run_options options = {
        .run = run, .threads = threads, .source = &source, .on_event = show, .user = b};
    thaw_recipe *recipe;
    thaw_status status =
        thaw_recipe_parse(&recipe, recipe_text, strlen(recipe_text), "bench", ".", sets, n_sets);

    if (status != THAW_OK || !make_noise(b))
        return fail();
    status = thaw_train(recipe, &options);
    thaw_recipe_destroy(recipe);
    free(b->noise);
    return status == THAW_OK ? 0 : fail();
}

/* Thirty steps that learn nothing: running statistics get the scale of the layers, as those of a
 * network have that was trained. */
static int make(const char *arch, const char *folder)
{
    bench b = {.side = 64, .images = 120, .batch = 4};
    char text[512];

    (void)snprintf(text, sizeof text,
                   "seed = 1\n[model]\narch = \"%s\"\n[data]\nformat = \"callback\"\nbatch = 4\n"
                   "[optimizer]\nname = \"sgd\"\nlr = 0.0\n[train]\neval_at_start = false\n"
                   "[[phase]]\nname = \"all\"\nepochs = 1\n",
                   arch);
    return train(&b, text, folder, 0, NULL, 0);
}

static void write_recipe(char *text, size_t size, char **argument, int n_phases)
{
    static const char *const stage[] = {"\"conv1\", \"bn1\"", "\"layer1\"", "\"layer2\"",
                                        "\"layer3\"", "\"layer4\""};
    size_t n = (size_t)snprintf(text, size,
                                "[model]\npath = \"%s\"\nimage_size = %s\n[data]\n"
                                "format = \"callback\"\nshuffle = false\nbatch = %s\n"
                                "[optimizer]\nname = \"sgd\"\nlr = 0.005\nmomentum = 0.9\n",
                                argument[1], argument[3], argument[2]);

    for (int i = 0; i < n_phases && n < size; i++) {
        const char *const colon = strchr(argument[6 + i], ':');
        const int n_frozen = atoi(argument[6 + i]);

        n += (size_t)snprintf(text + n, size - n, "[[phase]]\nepochs = %s\nfreeze = [", colon + 1);
        for (int s = 0; s < 5 && n < size; s++)
            n += (size_t)snprintf(text + n, size - n, "%s%s, ",
                                  s == n_frozen ? "]\nunfreeze = [" : "", stage[s]);
        n += (size_t)snprintf(text + n, size - n, "]\n");
    }
}

static void print_peak(void)
{
    FILE *const f = fopen("/proc/self/status", "r");
    char line[128];
    long kib;

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            printf("peak %.1f\n", (double)kib / 1024);
    if (f)
        (void)fclose(f);
}

int main(int n, char **argument)
{
    const char *const launched = getenv("BENCH_LAUNCHED"); /* on this machine's monotonic clock */
    bench b = {.launched = launched ? strtod(launched, NULL) : now()};
    char text[4096];
    int n_phases = 0, result;

    if (n == 4 && strcmp(argument[1], "make") == 0)
        return make(argument[2], argument[3]);
    while (6 + n_phases < n && n_phases < MOST_PHASES && !strchr(argument[6 + n_phases], '=') &&
           strchr(argument[6 + n_phases], ':'))
        n_phases++;
    if (n_phases == 0) {
        (void)fprintf(stderr,
                      "usage: bench_phases make ARCH FOLDER\n"
                      "       bench_phases FOLDER BATCH SIDE THREADS IMAGES PHASE... [KEY=VALUE...]"
                      "\nPHASE: frozen stages, 0 to 5, a colon, epochs\n");
        return 64;
    }
    b.batch = strtoll(argument[2], NULL, 10);
    b.side = strtoll(argument[3], NULL, 10);
    b.images = strtoll(argument[5], NULL, 10);
    write_recipe(text, sizeof text, argument, n_phases);
    result = train(&b, text, NULL, atoi(argument[4]), (const char *const *)argument + 6 + n_phases,
                   n - 6 - n_phases);
    print_peak();
    return result;
}
