/*
 * test_footprint.c - the memory that is predicted for a run is what its process takes: the peak of
 * ten runs of different kinds, each in a process of its own, is at most what was predicted, and not
 * much less. Where program and libraries take more by themselves than they did where that was
 * measured, which a run of a tiny network tells, the rest is compared.
 *
 * With arguments this program is such a process: it does the run of that number in that folder.
 */
#include "train/small_runs.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>

extern char **environ;

#define MIB (1 << 20)

typedef struct footprint {
    const char *name;
    int side, samples; /* images to train on; a quarter as many to evaluate */
    const char *recipe;
} footprint;

#define RESNET50    "[model]\narch = 'resnet50'\n"
#define VIT         "[model]\narch = 'vit_tiny_patch16_224'\n"
#define BATCH(n)    "[data]\nformat = 'callback'\nbatch = " #n "\n"
#define SGD         "[optimizer]\nname = 'sgd'\nlr = 1e-3\nmomentum = 0.9\n"
#define STEP        "[[phase]]\nsteps = 1\n"
#define STEM        "'conv1', 'bn1'"
#define UNCACHED    "[cache]\nfeatures = 'off'\n"
#define CACHE(size) "[cache]\nmemory = '" size "'\n"

enum { CLASSES = 10, LIBRARIES = 0 };

/* The first one shows what program and libraries take. */
static const footprint row[] = {
    {"libraries", 32, 16,
     "[model]\narch = 'resnet18'\nwidths = [16, 16, 32, 32]\n" BATCH(4) SGD STEP},
    {"resnet18, everything, batch 24", 112, 24, "[model]\narch = 'resnet18'\n" BATCH(24) SGD STEP},
    {"resnet50, everything, adamw, batch 8", 128, 8,
     RESNET50 BATCH(8) "[plan]\nrecompute = 'never'\n" STEP},
    {"resnet50, everything, made again, batch 16", 128, 16,
     RESNET50 BATCH(16) SGD "[plan]\nrecompute = 'always'\n" STEP},
    {"resnet50 from a file, head, no cache, batch 32", 128, 32,
     "[model]\npath = 'run-3/best'\n" BATCH(32) SGD UNCACHED STEP "freeze = [" STEM
                                                                  ", 'layer.*']\n"},
    {"resnet50, last stage, cached, adamw, batch 16", 128, 32,
     RESNET50 BATCH(16) CACHE("1GiB") "[[phase]]\nepochs = 2\nfreeze = [" STEM ", 'layer[1-3]']\n"},
    {"mobilenet_v2, everything, adamw, batch 32", 128, 32,
     "[model]\narch = 'mobilenet_v2'\n" BATCH(32) STEP},
    {"efficientnet_lite0, last blocks, batch 32", 128, 32,
     "[model]\narch = 'efficientnet_lite0'\n" BATCH(32) SGD UNCACHED STEP
     "freeze = ['conv_stem', 'bn1', 'blocks[.][0-4].*']\n"},
    {"vit_tiny, everything, adamw, 32 cut by a limit", 224, 32,
     VIT BATCH(32) "[train]\nmemory_limit = '600MiB'\n" STEP},
    {"resnet18, everything, bf16, batch 16", 96, 16,
     "[model]\narch = 'resnet18'\n" BATCH(16) SGD "[train]\nprecision = 'bf16'\n" STEP},
    {"resnet50, head, last stage, everything, batch 8", 128, 8,
     RESNET50 BATCH(8) SGD CACHE("64MiB") STEP "freeze = [" STEM ", 'layer.*']\n" STEP
                                               "unfreeze = 'layer4'\n" STEP "unfreeze = '.*'\n"},
};

/* ----------------------------------------------------------------------------------------------
 * one run, in a process of its own */

static thaw_status draw(void *user, bool valid, const int64_t *index, int64_t n, float *images,
                        int32_t *labels)
{
    const footprint *const f = user;
    const size_t image = (size_t)f->side * (size_t)f->side * 3;

    (void)valid;
    for (int64_t i = 0; i < n; i++) {
        labels[i] = (int32_t)(index[i] % CLASSES);
        for (size_t k = 0; k < image; k++)
            images[(size_t)i * image + k] = (float)((k * 7 + (size_t)index[i] * 13) % 29) / 29;
    }
    return THAW_OK;
}

/* The most that any phase takes, as a run is told. */
static bool note_planned(void *user, const thaw_event *e)
{
    uint64_t *const most = user;

    if (e->kind == THAW_EVENT_PHASE)
        *most = THAW_MAX(*most, e->planned_bytes);
    return true;
}

static int run_one(int number, const char *folder)
{
    footprint f = row[number];
    const thaw_source source = {.n_train = f.samples,
                                .n_valid = f.samples / 4,
                                .height = f.side,
                                .width = f.side,
                                .channels = 3,
                                .classes = CLASSES,
                                .read = draw,
                                .user = &f};
    uint64_t planned = 0;
    char run[512];
    thaw_run_options options = {
        .threads = 1, .source = &source, .on_event = note_planned, .user = &planned};
    thaw_recipe *recipe = small_recipe(f.recipe, folder);

    CHECK(snprintf(run, sizeof run, "%s/run-%d", folder, number) < (int)sizeof run);
    options.run = run;
    CHECK_OK(thaw_train(recipe, &options));
    thaw_recipe_destroy(recipe);
    printf("%llu %llu\n", (unsigned long long)planned, (unsigned long long)os_memory_peak());
    return 0;
}

/* ----------------------------------------------------------------------------------------------
 * all of them */

typedef struct outcome {
    double planned, taken; /* MiB */
} outcome;

static outcome run_apart(int number, const char *folder)
{
    char text_of_number[16], out[512], *told;
    char *const arguments[] = {"test_footprint", text_of_number, (char *)(uintptr_t)folder, NULL};
    unsigned long long planned = 0, taken = 0;
    posix_spawn_file_actions_t actions;
    pid_t child;
    int code;

    (void)snprintf(text_of_number, sizeof text_of_number, "%d", number);
    (void)small_path(out, folder, "out");
    CHECK(posix_spawn_file_actions_init(&actions) == 0);
    CHECK(posix_spawn_file_actions_addopen(&actions, 1, out, O_WRONLY | O_CREAT | O_TRUNC, 0644) ==
          0);
    CHECK(posix_spawn(&child, "/proc/self/exe", &actions, NULL, arguments, environ) == 0);
    (void)posix_spawn_file_actions_destroy(&actions);
    CHECK(waitpid(child, &code, 0) == child);
    told = check_read_file(NULL, out);
    CHECK_MSG(code == 0 && sscanf(told, "%llu %llu", &planned, &taken) == 2,
              "'%s' ended with %d and '%s'", row[number].name, code, told);
    free(told);
    return (outcome){(double)planned / MIB, (double)taken / MIB};
}

static void test_predicted_is_taken(void **state)
{
    char *folder = check_folder();
    const outcome own = run_apart(LIBRARIES, folder);
    const double more = fmax(own.taken - own.planned, 0);
    int wrong = 0;

    (void)state;
    printf("%-50s %9s %9s %8s\n", "MiB", "predicted", "taken", "");
    for (int i = 1; i < (int)THAW_COUNT(row); i++) {
        const outcome o = run_apart(i, folder);
        const double planned = o.planned + more;
        const bool good = planned >= o.taken && planned <= o.taken + fmax(0.1 * o.taken, 32);

        printf("%-50s %9.1f %9.1f %+7.1f%%%s\n", row[i].name, planned, o.taken,
               100 * (planned / o.taken - 1), good ? "" : " wrong");
        wrong += !good;
    }
    check_folder_remove(folder);
    CHECK_MSG(wrong == 0, "%d predictions were wrong", wrong);
}

/* A sanitizer's own memory is most of what is taken. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_predicted_is_taken)};

    if (argc > 2)
        return run_one(atoi(argv[1]), argv[2]);
    return SANITIZED ? 0 : cmocka_run_group_tests(tests, NULL, NULL);
}
