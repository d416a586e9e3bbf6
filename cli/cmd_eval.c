/*
 * cmd_eval.c - `thaw eval`: loss, accuracy and the confusion matrix of one split.
 */
#include <math.h>

#include "cli.h"

#define SHOW_CLASSES 20 /* a matrix of more classes fits no screen */

/* `"name": value, `, null where JSON has no such number. */
static void print_number(const char *name, double value)
{
    if (isfinite(value))
        printf("\"%s\": %.17g, ", name, value);
    else
        printf("\"%s\": null, ", name);
}

/* split is one of the three names, so it needs no escapes */
static void print_json(const thaw_eval_result *r, const char *split)
{
    printf("{\"split\": \"%s\", \"n\": %lld, ", split, (long long)r->n);
    print_number("loss", r->loss);
    if (isnan(r->accuracy)) {
        print_number("rmse", r->rmse);
        print_number("mae", r->mae);
    } else {
        print_number("accuracy", r->accuracy);
        print_number("baseline", r->baseline);
    }
    print_number("seconds", r->seconds);
    fputs("\"confusion\": [", stdout);
    for (int i = 0; i < r->n_classes; i++)
        for (int j = 0; j < r->n_classes; j++)
            printf("%s%lld%s",
                   j > 0   ? ", "
                   : i > 0 ? ", ["
                           : "[",
                   (long long)r->confusion[(int64_t)i * r->n_classes + j],
                   j + 1 == r->n_classes ? "]" : "");
    fputs("]}\n", stdout);
}

static void print_confusion(const thaw_eval_result *r)
{
    fputs("\ntrue class (rows) against predicted class (columns)\n      ", stdout);
    for (int j = 0; j < r->n_classes; j++)
        printf(" %6d", j);
    for (int i = 0; i < r->n_classes; i++) {
        printf("\n%6d", i);
        for (int j = 0; j < r->n_classes; j++)
            printf(" %6lld", (long long)r->confusion[(int64_t)i * r->n_classes + j]);
    }
    fputc('\n', stdout);
}

static void print_text(const thaw_eval_result *r, const char *split)
{
    char count[32], duration[32];

    if (isnan(r->accuracy)) {
        printf("%s: %s images, loss %.4f, RMSE %.4g, MAE %.4g, %s\n", split, cli_count(count, r->n),
               r->loss, r->rmse, r->mae, cli_duration(duration, r->seconds));
        return;
    }
    printf("%s: %s images, loss %.4f, accuracy %.2f%% (the largest class alone: %.2f%%), %s\n",
           split, cli_count(count, r->n), r->loss, 100 * r->accuracy, 100 * r->baseline,
           cli_duration(duration, r->seconds));
    if (r->confusion && r->n_classes > 1 && r->n_classes <= SHOW_CLASSES)
        print_confusion(r);
}

int cmd_eval(const cli_args *args)
{
    const char *const path = args->n_operands > 0 ? args->operand[0] : NULL;
    const char *const split = args->split ? args->split : "valid";
    const thaw_run_options options = cli_run_options(args);
    thaw_eval_result result = {0};
    thaw_recipe *recipe = NULL;
    thaw_status status = THAW_OK;

    if (!path && !args->recipe)
        return cli_usage("'thaw eval' needs a PATH, a --recipe, or both");
    if (args->n_sets > 0 && !args->recipe)
        return cli_usage("--set changes a recipe: give it with --recipe");
    if (args->recipe)
        status = cli_load(&recipe, args->recipe, args);
    if (status == THAW_OK)
        status = thaw_eval(&result, path, recipe, split, &options);
    if (status == THAW_OK) {
        if (args->json)
            print_json(&result, split);
        else
            print_text(&result, split);
    }
    thaw_eval_done(&result);
    thaw_recipe_destroy(recipe);
    return cli_report(status);
}
