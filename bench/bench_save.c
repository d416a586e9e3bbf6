/*
 * bench_save - what saving costs a run, and how soon a killed one trains again.
 *
 *   bench_save [ARCH BATCH SIDE THREADS SAVES]      resnet50 8 224 2 4
 *
 * Trains ARCH with AdamW on synthetic images and saves in the middle now and then. What a save
 * costs is how much longer than those before and after it the steps take from the one that asks for
 * it until the checkpoint is there; a minute of training holds one of them. Then a program of its
 * own resumes the run: the time from its start to its first step.
 */
#include <thaw/thaw.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BEFORE = 3, APART = 2, MOST_STEPS = 512, IMAGES = 4096 };

typedef struct bench {
    int64_t side;
    int saves, steps, wanted;
    volatile int save;
    double last, step[MOST_STEPS];
    bool beside[MOST_STEPS]; /* a save was under way in the step */
    bool saving, saved;      /* one is asked for and not told of before this step; told of in it */
    int quiet;               /* steps since nothing was saved */
} bench;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static thaw_status read_images(void *user, bool valid, const int64_t *index, int64_t n,
                               float *images, int32_t *labels)
{
    const bench *const b = user;
    const int64_t size = b->side * b->side * 3;

    (void)valid;
    for (int64_t i = 0; i < n; i++) {
        uint32_t x = (uint32_t)index[i] * 2654435761U + 1;

        for (int64_t k = 0; k < size; k++) {
            x = x * 1664525U + 1013904223U;
            images[i * size + k] = (float)(x >> 8) / 8388608.0F - 1.0F;
        }
        labels[i] = (int32_t)(index[i] % 1000);
    }
    return THAW_OK;
}

static bool on_event(void *user, const thaw_event *e)
{
    bench *const b = user;
    const double time = now();

    if (e->kind == THAW_EVENT_PHASE) {
        b->last = now();
    } else if (e->kind == THAW_EVENT_SAVE) {
        b->saved = true;
    } else if (e->kind == THAW_EVENT_STEP && b->steps < MOST_STEPS) {
        b->beside[b->steps] = b->saving;
        b->saving = b->saving && !b->saved;
        b->step[b->steps++] = time - b->last;
        b->last = time;
        b->quiet = b->beside[b->steps - 1] ? 0 : b->quiet + 1;
        if (b->wanted == b->saves && b->quiet > APART)
            return false;
        if (b->wanted < b->saves && b->quiet >= (b->wanted == 0 ? BEFORE : APART)) {
            b->wanted++;
            b->save = 1;
            b->saving = true;
            b->saved = false;
        }
    }
    return true;
}

/* Mean of the steps without a save that are next to these, APART on either side; a machine's pace
 * drifts more over minutes than a save costs. */
static double pace(const bench *b, int first, int end)
{
    double sum = 0;
    int n = 0;

    for (int i = first - APART < 1 ? 1 : first - APART; i < end + APART && i < b->steps; i++)
        if (!b->beside[i]) { /* the first step of all packs weights */
            sum += b->step[i];
            n++;
        }
    return sum / n;
}

static void report(const bench *b)
{
    double lost = 0, usual = 0;
    int n = 0;

    printf("seconds each save cost:");
    for (int i = 1, end; i < b->steps; i = end) {
        double cost = 0;

        for (end = i; end < b->steps && b->beside[end]; end++)
            cost += b->step[end];
        if (end == i) {
            end++;
            continue;
        }
        usual += pace(b, i, end);
        cost -= (end - i) * pace(b, i, end);
        printf(" %.3f", cost);
        lost += cost;
        n++;
    }
    printf("\nstep %.3f s; a save costs %.3f s: %.2f%% of a minute\n", usual / n, lost / n,
           100 * lost / n / 60);
}

/* The child stops at its first step: where the phase is ready. */
static bool leave_at_phase(void *user, const thaw_event *e)
{
    (void)user;
    if (e->kind == THAW_EVENT_PHASE)
        _exit(0);
    return true;
}

static void measure_resume(const char *run, thaw_run_options options)
{
    for (int i = 0; i < 3; i++) {
        const double begun = now();
        int code = 0;
        pid_t child;

        (void)fflush(stdout);
        child = fork();
        if (child == 0) {
            options.on_event = leave_at_phase;
            options.run = run;
            if (thaw_resume(&options) != THAW_OK)
                (void)fprintf(stderr, "bench_save: %s\n", thaw_error());
            _exit(1);
        }
        (void)waitpid(child, &code, 0);
        printf("from start to the first step of a resumed run: %.2f s%s\n", now() - begun,
               code == 0 ? "" : " (failed)");
    }
}

int main(int argc, char **argv)
{
    const char *const arch = argc > 1 ? argv[1] : "resnet50";
    const int batch = argc > 2 ? atoi(argv[2]) : 8, threads = argc > 4 ? atoi(argv[4]) : 2;
    bench b = {.side = argc > 3 ? atoi(argv[3]) : 224, .saves = argc > 5 ? atoi(argv[5]) : 4};
    const thaw_source source = {.n_train = IMAGES,
                                .height = b.side,
                                .width = b.side,
                                .channels = 3,
                                .classes = 1000,
                                .read = read_images,
                                .user = &b};
    char folder[] = "/var/tmp/thaw-bench-save-XXXXXX", text[1024], remove[128];
    thaw_recipe *recipe = NULL;
    thaw_run_options options = {
        .threads = threads, .source = &source, .on_event = on_event, .user = &b, .save = &b.save};
    char run[64];
    pid_t child;
    int code = 0;

    if (!mkdtemp(folder))
        return 1;
    (void)snprintf(run, sizeof run, "%s/run", folder);
    (void)snprintf(text, sizeof text,
                   "[model]\narch = '%s'\nnum_classes = 1000\n[data]\nformat = 'callback'\nbatch = "
                   "%d\n[optimizer]\nname = 'adamw'\nlr = 1e-5\n[checkpoint]\nevery = 'off'\n"
                   "[[phase]]\nepochs = 100\n",
                   arch, batch);
    options.run = run;
    /* In a child: so that this program stays small, and a resume begins with nothing warm. */
    child = fork();
    if (child == 0) {
        thaw_status status = thaw_recipe_parse(&recipe, text, strlen(text), "bench", ".", NULL, 0);

        if (status == THAW_OK)
            status = thaw_train(recipe, &options);
        if (status != THAW_E_STOPPED)
            (void)fprintf(stderr, "bench_save: %s\n", thaw_error());
        else
            report(&b);
        thaw_recipe_destroy(recipe);
        (void)fflush(stdout);
        _exit(status == THAW_E_STOPPED ? 0 : 1);
    }
    (void)waitpid(child, &code, 0);
    if (code == 0)
        measure_resume(run, options);
    (void)snprintf(remove, sizeof remove, "rm -rf '%s'", folder);
    return system(remove) == 0 && code == 0 ? 0 : 1;
}
