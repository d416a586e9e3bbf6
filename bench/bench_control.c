/*
 * bench_control.c - how long the control plane takes on large trees: freezing by pattern, setting
 * coefficients, the effect of a schedule of 50 phases, and asking for an effect that has not
 * changed. Prints three sizes; exits with 1 when the largest is over its limits and --check is
 * given.
 */
#include <thaw/control.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PHASES  50
#define REPEATS 21

typedef struct timing {
    const char *name;
    double limit; /* seconds, at the largest size */
} timing;

enum { FREEZE, UNFREEZE, COEFFICIENT, EFFECT, ALL_EFFECTS, LOOKUP, SEAL, TIMINGS };
static const timing timings[TIMINGS] = {
    [FREEZE] = {"freeze by pattern", 10e-3},
    [UNFREEZE] = {"unfreeze by pattern", 10e-3},
    [COEFFICIENT] = {"set coefficients by pattern", 10e-3},
    [EFFECT] = {"effect at the last of 50 phases", 10e-3},
    [ALL_EFFECTS] = {"effects of all 50 phases, one after another", 1},
    [LOOKUP] = {"effect lookup, nothing changed", 1e-6},
    [SEAL] = {"sealing a schedule of 50 phases", 1},
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(thaw_status status)
{
    if (status == THAW_OK)
        return;
    fprintf(stderr, "bench_control: %s\n", thaw_error());
    exit(2);
}

/* Blocks of five modules, four of which own five parameters each: a network of many blocks. */
static thaw_tree *grow(int n_params)
{
    thaw_tree *t;
    char name[64];

    must(thaw_tree_create(&t));
    for (int i = 0; i < n_params; i++) {
        const int block = i / 20, part = i / 5 % 4, own = i % 5;

        snprintf(name, sizeof(name), "model.blocks.%d.part%d.w%d", block, part, own);
        must(thaw_tree_add_param(t, name, 1000, false));
    }
    must(thaw_tree_seal(t));
    return t;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *seconds)
{
    qsort(seconds, REPEATS, sizeof(*seconds), by_value);
    return seconds[REPEATS / 2];
}

typedef thaw_status change_fn(thaw_policy *p, const char *const *patterns, int n);

static thaw_status unfreeze(thaw_policy *p, const char *const *patterns, int n)
{
    return thaw_policy_unfreeze(p, patterns, n, THAW_REBUILD_REFUSE);
}

static thaw_status halve(thaw_policy *p, const char *const *patterns, int n)
{
    return thaw_policy_coefficient(p, 0.5, patterns, n, THAW_REBUILD_REFUSE);
}

static double time_change(thaw_policy *p, change_fn *change, const char *pattern)
{
    double seconds[REPEATS];

    for (int i = 0; i < REPEATS; i++) {
        const double begin = now();

        must(change(p, &pattern, 1));
        seconds[i] = now() - begin;
    }
    return median(seconds);
}

/* Thaws blocks from the top, a slice a phase, each with a coefficient. */
static thaw_schedule *plan(const thaw_tree *t, int n_params)
{
    const int blocks = n_params / 20;
    const char *all = "model", *slice = NULL;
    thaw_schedule *s;
    char pattern[64];

    must(thaw_schedule_create(&s, t));
    for (int i = 0; i < PHASES; i++) {
        const thaw_phase_options phase = {.length = 100};

        must(thaw_schedule_add_phase(s, &phase));
        if (i == 0)
            must(thaw_schedule_freeze(s, &all, 1));
        snprintf(pattern, sizeof(pattern), "model\\.blocks\\.%d", blocks - 1 - i);
        slice = pattern;
        must(thaw_schedule_unfreeze(s, &slice, 1));
        must(thaw_schedule_coefficient(s, 1.0 / (i + 2), &slice, 1));
    }
    return s;
}

static void time_schedule(double *result, const thaw_tree *t, int n_params)
{
    double seal[REPEATS], last[REPEATS], all[REPEATS], lookup[REPEATS];
    const thaw_effect *e;

    for (int i = 0; i < REPEATS; i++) {
        thaw_schedule *s = plan(t, n_params);
        thaw_progress at = {.iteration = 100 * PHASES - 1};
        double begin = now();

        must(thaw_schedule_seal(s));
        seal[i] = now() - begin;
        begin = now();
        must(thaw_schedule_effect(&e, s, &at));
        last[i] = now() - begin;
        begin = now();
        for (int k = 0; k < 10000; k++)
            must(thaw_schedule_effect(&e, s, &at));
        lookup[i] = (now() - begin) / 10000;
        begin = now();
        for (at.iteration = 0; at.iteration < 100 * (PHASES - 1); at.iteration += 100)
            must(thaw_schedule_effect(&e, s, &at));
        all[i] = now() - begin;
        thaw_schedule_destroy(s);
    }
    result[SEAL] = median(seal);
    result[EFFECT] = median(last);
    result[LOOKUP] = median(lookup);
    result[ALL_EFFECTS] = median(all);
}

static void measure(double *result, int n_params)
{
    thaw_tree *t = grow(n_params);
    thaw_policy *p;

    must(thaw_policy_create(&p, t));
    result[FREEZE] = time_change(p, thaw_policy_freeze, ".*part[0-2]");
    result[UNFREEZE] = time_change(p, unfreeze, ".*part[12]");
    result[COEFFICIENT] = time_change(p, halve, "model\\.blocks\\.\\d+");
    time_schedule(result, t, n_params);
    thaw_policy_destroy(p);
    thaw_tree_destroy(t);
}

int main(int argc, char **argv)
{
    static const int sizes[] = {10000, 31600, 100000};
    const bool check = argc > 1 && !strcmp(argv[1], "--check");
    double result[3][TIMINGS];
    int over = 0;

    printf("%-46s", "microseconds, median of 21");
    for (int i = 0; i < 3; i++) {
        char title[32];

        snprintf(title, sizeof(title), "%d/%d", sizes[i], sizes[i] / 4);
        printf("%14s", title);
        measure(result[i], sizes[i]);
    }
    printf("%12s\n", "limit");
    for (int k = 0; k < TIMINGS; k++) {
        printf("%-46s", timings[k].name);
        for (int i = 0; i < 3; i++)
            printf("%14.3f", 1e6 * result[i][k]);
        printf("%12.0f%s\n", 1e6 * timings[k].limit,
               result[2][k] > timings[k].limit ? "  OVER" : "");
        over += result[2][k] > timings[k].limit;
    }
    printf("(parameters/modules)\n");
    return check && over ? 1 : 0;
}
