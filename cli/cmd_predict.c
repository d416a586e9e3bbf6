/*
 * cmd_predict.c - `thaw predict`: what a network says of pictures, given as operands or as a list
 * on standard input.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "cli.h"

#define LIST_MOST 64        /* lines answered at a time */
#define PATH_MOST (1 << 12) /* bytes of a path */

typedef struct answers {
    bool json;
    int failed;
} answers;

static void print_json_answer(const thaw_prediction *p)
{
    fputs("{\"file\": ", stdout);
    cli_print_json(p->file);
    if (p->error) {
        fputs(", \"error\": ", stdout);
        cli_print_json(p->error);
    } else if (p->n_top == 0) {
        if (isfinite(p->value))
            printf(", \"value\": %.9g", p->value);
        else
            fputs(", \"value\": null", stdout);
    } else {
        fputs(", \"top\": [", stdout);
        for (int i = 0; i < p->n_top; i++) {
            printf("%s{\"class\": %d, ", i ? ", " : "", p->top[i].number);
            if (p->top[i].name) {
                fputs("\"name\": ", stdout);
                cli_print_json(p->top[i].name);
                fputs(", ", stdout);
            }
            printf("\"probability\": %.6f}", p->top[i].probability);
        }
        putchar(']');
    }
    fputs("}\n", stdout);
}

/* file, tab, class, tab, probability: for eyes and for cut(1). */
static void print_answer(const thaw_prediction *p)
{
    cli_put_name(stdout, p->file, strlen(p->file));
    if (p->n_top == 0) {
        printf("\t%.6g\n", p->value);
        return;
    }
    putchar('\t');
    if (p->top[0].name)
        cli_put_name(stdout, p->top[0].name, strlen(p->top[0].name));
    else
        printf("%d", p->top[0].number);
    printf("\t%.2f%%\n", 100 * p->top[0].probability);
}

static bool on_file(void *user, const thaw_prediction *p)
{
    answers *const a = user;

    a->failed += p->error != NULL;
    if (a->json)
        print_json_answer(p);
    else if (p->error)
        cli_error("%s", p->error);
    else
        print_answer(p);
    return !ferror(stdout);
}

/* The next path: a line, of either kind of system, or what ends with a NUL as find -print0 has it.
 * Returns its length, 0 at the end of the stream, -1: it is too long. */
static int read_path(char path[PATH_MOST])
{
    int n = 0;

    for (int c = getc(stdin); c != EOF; c = getc(stdin)) {
        if (c != '\n' && c != '\0') {
            if (n == PATH_MOST - 1)
                return -1;
            path[n++] = (char)c;
            continue;
        }
        n -= c == '\n' && n > 0 && path[n - 1] == '\r';
        if (n > 0)
            break;
    }
    path[n] = '\0';
    return n;
}

/* Returns the number of paths, -1: one is too long. */
static int read_list(char line[LIST_MOST][PATH_MOST], const char *file[LIST_MOST])
{
    int n = 0;

    while (n < LIST_MOST) {
        const int length = read_path(line[n]);

        if (length < 0)
            return -1;
        if (length == 0)
            break;
        file[n] = line[n];
        n++;
    }
    return n;
}

static thaw_status predict_list(thaw_predictor *p, answers *a, bool *too_long)
{
    static char line[LIST_MOST][PATH_MOST];
    const char *file[LIST_MOST];
    thaw_status status = THAW_OK;

    while (status == THAW_OK) {
        const int n = read_list(line, file);

        *too_long = n < 0;
        if (n <= 0)
            break;
        status = thaw_predict(p, file, (size_t)n, on_file, a);
        (void)fflush(stdout);
    }
    return status;
}

int cmd_predict(const cli_args *args)
{
    const thaw_run_options options = cli_run_options(args);
    const bool list = args->n_operands == 1 || strcmp(args->operand[1], "-") == 0;
    answers a = {.json = args->json};
    thaw_predictor *p = NULL;
    bool too_long = false;
    thaw_status status = thaw_predictor_open(&p, args->operand[0], &options);

    if (status == THAW_OK)
        status =
            list ? predict_list(p, &a, &too_long)
                 : thaw_predict(p, &args->operand[1], (size_t)args->n_operands - 1, on_file, &a);
    thaw_predictor_close(p);
    if (status != THAW_OK)
        return cli_report(status);
    if (fflush(stdout) != 0) {
        cli_error("standard output cannot be written: %s", strerror(errno));
        return thaw_exit_code(THAW_E_IO);
    }
    if (too_long) {
        cli_error("a line of the list has %d bytes or more: one path a line is expected",
                  PATH_MOST - 1);
        return thaw_exit_code(THAW_E_USAGE);
    }
    return a.failed > 0 ? thaw_exit_code(THAW_E_DATA) : 0;
}
