/*
 * cmd_eval.c - `thaw eval`: loss, accuracy, how each class fares, and the confusion matrix of one
 * split.
 */
#include <math.h>
#include <string.h>

#include "cli.h"

#define SHOW_CLASSES 20  /* a matrix of more classes fits no screen, */
#define LIST_CLASSES 100 /* and a table of more is for programs */
#define NAME_WIDTH   24  /* characters shown of a name, */
#define COLUMN_WIDTH 10  /* above a column fewer */

/* How one class fares. Shares in [0, 1]; NAN where there is nothing to divide by. */
typedef struct class_score {
    int64_t support;  /* samples of the class */
    double recall;    /* of them, those found */
    double precision; /* of those taken for it, the right ones */
} class_score;

static class_score score_of(const thaw_eval_result *r, int c)
{
    const int64_t K = r->n_classes;
    int64_t guessed = 0;
    class_score s = {0};

    for (int64_t k = 0; k < K; k++) {
        s.support += r->confusion[c * K + k];
        guessed += r->confusion[k * K + c];
    }
    s.recall = s.support > 0 ? (double)r->confusion[c * K + c] / (double)s.support : NAN;
    s.precision = guessed > 0 ? (double)r->confusion[c * K + c] / (double)guessed : NAN;
    return s;
}

/* `"name": value, `, null where JSON has no such number. */
static void print_number(const char *name, double value)
{
    if (isfinite(value))
        printf("\"%s\": %.17g, ", name, value);
    else
        printf("\"%s\": null, ", name);
}

static void print_json_classes(const thaw_eval_result *r)
{
    if (r->class_name) {
        fputs("\"classes\": [", stdout);
        for (int i = 0; i < r->n_classes; i++) {
            fputs(i ? ", " : "", stdout);
            cli_print_json(r->class_name[i]);
        }
        fputs("], ", stdout);
    }
    fputs("\"per_class\": [", stdout);
    for (int i = 0; i < r->n_classes; i++) {
        const class_score s = score_of(r, i);

        printf("%s{\"class\": %d, ", i ? ", " : "", i);
        if (r->class_name) {
            fputs("\"name\": ", stdout);
            cli_print_json(r->class_name[i]);
            fputs(", ", stdout);
        }
        print_number("recall", s.recall);
        print_number("precision", s.precision);
        printf("\"support\": %lld}", (long long)s.support);
    }
    fputs("], ", stdout);
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
        if (!isnan(r->top5))
            print_number("top5", r->top5);
        print_number("baseline", r->baseline);
    }
    print_number("seconds", r->seconds);
    if (!isnan(r->accuracy))
        print_json_classes(r);
    fputs("\"confusion\": [", stdout);
    for (int i = 0; i < r->n_classes && !isnan(r->accuracy); i++)
        for (int j = 0; j < r->n_classes; j++)
            printf("%s%lld%s",
                   j > 0   ? ", "
                   : i > 0 ? ", ["
                           : "[",
                   (long long)r->confusion[(int64_t)i * r->n_classes + j],
                   j + 1 == r->n_classes ? "]" : "");
    fputs("]}\n", stdout);
}

/* ----------------------------------------------------------------------------------------------
 * for eyes */

static const char *name_of(char number[16], const thaw_eval_result *r, int c)
{
    if (r->class_name)
        return r->class_name[c];
    (void)snprintf(number, 16, "%d", c);
    return number;
}

/* A class in a cell: left, or right where width is negative. */
static void print_name(const thaw_eval_result *r, int c, int width)
{
    char number[16];
    const char *const name = name_of(number, r, c);
    const int room = width < 0 ? -width : width;
    int characters;
    const size_t bytes = cli_cut(&characters, name, room);

    printf("%*s", width < 0 ? room - characters : 0, "");
    cli_put_name(stdout, name, bytes);
    printf("%*s", width > 0 ? room - characters : 0, "");
}

/* Characters of the longest name, between these bounds. */
static int name_width(const thaw_eval_result *r, int least, int most)
{
    int width = least, characters;
    char number[16];

    for (int i = 0; i < r->n_classes; i++) {
        (void)cli_cut(&characters, name_of(number, r, i), most);
        width = characters > width ? characters : width;
    }
    return width;
}

static void print_share(double share)
{
    if (isnan(share))
        printf("  %9s", "-");
    else
        printf("  %8.1f%%", 100 * share);
}

static void print_classes(const thaw_eval_result *r)
{
    const int width = name_width(r, 5, NAME_WIDTH);

    printf("\n%-*s  %7s  %9s  %9s\n", width, "class", "images", "recall", "precision");
    for (int i = 0; i < r->n_classes; i++) {
        const class_score s = score_of(r, i);

        print_name(r, i, width);
        printf("  %7lld", (long long)s.support);
        print_share(s.recall);
        print_share(s.precision);
        putchar('\n');
    }
}

static void print_confusion(const thaw_eval_result *r)
{
    const int left = name_width(r, 5, NAME_WIDTH), column = name_width(r, 6, COLUMN_WIDTH);

    printf("\ntrue class (rows) against predicted class (columns)\n%*s", left, "");
    for (int j = 0; j < r->n_classes; j++) {
        putchar(' ');
        print_name(r, j, -column);
    }
    for (int i = 0; i < r->n_classes; i++) {
        putchar('\n');
        print_name(r, i, left);
        for (int j = 0; j < r->n_classes; j++)
            printf(" %*lld", column, (long long)r->confusion[(int64_t)i * r->n_classes + j]);
    }
    putchar('\n');
}

static void print_text(const thaw_eval_result *r, const char *split)
{
    char count[32], duration[32];

    if (isnan(r->accuracy)) {
        printf("%s: %s images, loss %.4f, RMSE %.4g, MAE %.4g, %s\n", split, cli_count(count, r->n),
               r->loss, r->rmse, r->mae, cli_duration(duration, r->seconds));
        return;
    }
    printf("%s: %s images, loss %.4f, accuracy %.2f%%", split, cli_count(count, r->n), r->loss,
           100 * r->accuracy);
    if (!isnan(r->top5))
        printf(", top-5 %.2f%%", 100 * r->top5);
    printf(" (the largest class alone: %.2f%%), %s\n", 100 * r->baseline,
           cli_duration(duration, r->seconds));
    if (r->confusion && r->n_classes > 1 && r->n_classes <= LIST_CLASSES)
        print_classes(r);
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
        return cli_usage(args, "'thaw eval' needs a PATH, a --recipe, or both");
    if (args->n_sets > 0 && !args->recipe)
        return cli_usage(args, "--set changes a recipe: give it with --recipe");
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
