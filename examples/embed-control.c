/*
 * embed-control.c - a program with its own training loop asks thaw who may learn, and how fast.
 * Compiles as C and as C++; links with libthaw-core alone.
 */
#include <stdio.h>
#include <stdlib.h>

#include <thaw/control.h>

enum { N = 6 };
static const char *const name[N] = {"body.conv1.weight",  "body.bn1.weight", "body.bn1.bias",
                                    "body.layer1.weight", "head.weight",     "head.bias"};
static double value[N]; /* the program's own parameters, numbered as the tree does */

static void must(thaw_status status)
{
    if (status != THAW_OK) {
        fprintf(stderr, "%s\n", thaw_error());
        exit(thaw_exit_code(status));
    }
}

/* The head alone, then the top of the body at a tenth of the rate, then all but the norm. */
static thaw_schedule *make_schedule(const thaw_tree *tree)
{
    static const struct {
        const char *phase, *layers;
        double coefficient;
    } plan[] = {
        {"head", "body", 1}, {"top", "body\\.layer\\d", 0.1}, {"most", "body\\.(?!bn).*", 0.01}};
    thaw_schedule *schedule;

    must(thaw_schedule_create(&schedule, tree));
    for (int i = 0; i < 3; i++) {
        thaw_phase_options options = THAW_PHASE_OPTIONS_INIT;

        options.name = plan[i].phase;
        options.length = 4;
        must(thaw_schedule_add_phase(schedule, &options));
        must((i ? thaw_schedule_unfreeze : thaw_schedule_freeze)(schedule, &plan[i].layers, 1));
        must(thaw_schedule_coefficient(schedule, plan[i].coefficient, &plan[i].layers, 1));
    }
    must(thaw_schedule_seal(schedule));
    return schedule;
}

int main(void)
{
    thaw_tree *tree;
    thaw_schedule *schedule;
    const thaw_effect *effect = NULL;
    thaw_progress now = {0, NULL, 0};

    must(thaw_tree_create(&tree));
    for (int i = 0; i < N; i++)
        must(thaw_tree_add_param(tree, name[i], 1, false));
    must(thaw_tree_seal(tree));
    schedule = make_schedule(tree);
    for (; now.iteration < 12; now.iteration++) {
        const int before = effect ? thaw_effect_phase(effect) : -1;

        must(thaw_schedule_effect(&effect, schedule, &now));
        if (thaw_effect_phase(effect) != before)
            printf("phase '%s'\n", thaw_schedule_phase_name(schedule, before + 1));
        for (int i = 0; i < N; i++) {
            if (!thaw_effect_trainable(effect, i))
                continue;
            if (thaw_effect_phase(effect) != before)
                printf("  %-20s rate %g\n", name[i], 0.5 * thaw_effect_lr_scale(effect, i));
            value[i] -= 0.5 * thaw_effect_lr_scale(effect, i) * (value[i] - 1); /* its gradient */
        }
    }
    for (int i = 0; i < N; i++)
        printf("%-20s %.6f\n", name[i], value[i]);
    thaw_schedule_destroy(schedule);
    thaw_tree_destroy(tree);
    return 0;
}
