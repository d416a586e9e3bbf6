/*
 * embed-train.c - a program with its own data fine-tunes a network in two phases, evaluates it and
 * keeps the weights.
 *
 *   embed-train [RUN-FOLDER]
 *
 * The data are drawn here: 12 x 12 images with a bright bar, whose direction is the class. Sample i
 * is always the same, so a run that was stopped can be resumed.
 */
#include <thaw/thaw.h>

#include <stdio.h>
#include <string.h>

enum { SIZE = 12, CLASSES = 4 };

static const char recipe_text[] = "seed = 1\n"
                                  "[model]\narch = \"mlp\"\nwidths = [144, 32, 16, 4]\n"
                                  "[data]\nformat = \"callback\"\nbatch = 20\n"
                                  "[optimizer]\nname = \"adamw\"\nlr = 0.01\n"
                                  "[[phase]]\nname = \"head\"\nepochs = 2\nfreeze = \"backbone\"\n"
                                  "[[phase]]\nname = \"all\"\nepochs = 6\nunfreeze = \"backbone\"\n"
                                  "lr_coefficients = { \"backbone\\\\.fc1\" = 0.5 }\n";

/* A bar through the image in one of four directions, under noise that depends on the sample's
 * number alone. */
static void draw(float image[SIZE][SIZE], int direction, uint32_t noise)
{
    static const int step[CLASSES][2] = {{0, 1}, {1, 0}, {1, 1}, {1, -1}};
    const int start = (int)(noise % 5) - 2 + SIZE / 2;

    for (int y = 0; y < SIZE; y++)
        for (int x = 0; x < SIZE; x++) {
            const int across = step[direction][1] * (y - start) - step[direction][0] * (x - start);

            noise = noise * 1664525u + 1013904223u;
            image[y][x] = (across == 0 ? 1.0f : 0.0f) + (float)(noise >> 16) / 65536.0f - 0.5f;
        }
}

static thaw_status read_bars(void *user, bool valid, const int64_t *index, int64_t n, float *images,
                             int32_t *labels)
{
    (void)user;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t number = (uint32_t)index[i] * 2 + valid;

        labels[i] = (int32_t)(index[i] % CLASSES);
        draw((float(*)[SIZE])(images + i * SIZE * SIZE), labels[i], number * 2654435761u);
    }
    return THAW_OK;
}

static bool show(void *user, const thaw_event *e)
{
    (void)user;
    if (e->kind == THAW_EVENT_PHASE)
        printf("phase %d of %d: %lld of %lld parameters train\n", e->phase, e->n_phases,
               (long long)e->trainable, (long long)e->total);
    if (e->kind == THAW_EVENT_EVAL)
        printf("  epoch %.0f: loss %.3f, accuracy %.1f%%\n", e->epoch, e->loss, 100 * e->metric);
    return true;
}

static int fail(thaw_status status)
{
    (void)fprintf(stderr, "embed-train: %s\n", thaw_error());
    return thaw_exit_code(status);
}

int main(int argc, char **argv)
{
    const thaw_source source = {.n_train = 400,
                                .n_valid = 200,
                                .height = SIZE,
                                .width = SIZE,
                                .channels = 1,
                                .classes = CLASSES,
                                .read = read_bars};
    const thaw_run_options options = {
        .run = argc > 1 ? argv[1] : "embed-run", .threads = 1, .source = &source, .on_event = show};
    thaw_recipe *recipe;
    thaw_eval_result result;
    thaw_status status =
        thaw_recipe_parse(&recipe, recipe_text, strlen(recipe_text), "bars", ".", NULL, 0);

    if (status != THAW_OK)
        return fail(status);
    status = thaw_train(recipe, &options);
    if (status == THAW_OK)
        status = thaw_eval(&result, options.run, recipe, "valid", &options);
    thaw_recipe_destroy(recipe);
    if (status != THAW_OK)
        return fail(status);
    printf("best weights, in %s/best: accuracy %.1f%% of %lld, baseline %.1f%%\n", options.run,
           100 * result.accuracy, (long long)result.n, 100 * result.baseline);
    thaw_eval_done(&result);
    return 0;
}
