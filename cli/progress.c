/*
 * progress.c - shows a run while it goes on, from the trainer's events alone.
 *
 * On a terminal one line is redrawn, at most ten times a second, as wide as the window allows; in a
 * log there is a line for every evaluation and one every ten seconds; for programs one JSON object
 * per event. Never stops a run: where the output cannot be written, it is not.
 */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

#define LIVE_SECONDS 0.1 /* between two redraws */
#define LOG_SECONDS  10  /* between two lines in a log */

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void progress_init(progress *p, const cli_args *args)
{
    const char *term = getenv("TERM");

    *p = (progress){.to = stdout, .metric = NAN};
    p->color = cli_color(stdout);
    p->last = now();
    if (args->json)
        p->mode = PROGRESS_JSON;
    else if (args->quiet)
        p->mode = PROGRESS_QUIET;
    else if (isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0)
        p->mode = PROGRESS_LIVE;
    else
        p->mode = PROGRESS_LOG;
}

void progress_leave(progress *p)
{
    if (p->drawn)
        fputs("\r\033[K", p->to);
    p->drawn = false;
    fflush(p->to);
}

void progress_hint(const progress *p, const char *run)
{
    if (p->mode == PROGRESS_LIVE || p->mode == PROGRESS_LOG)
        fprintf(p->to, "next: thaw report %s; thaw eval %s; thaw predict %s/best FILE...\n", run,
                run, run);
}

/* ----------------------------------------------------------------------------------------------
 * one step: the live line, or a line in the log */

/* A part of the line, and when it is left out: the highest rank goes first where room is short. */
typedef struct line_part {
    int rank;
    char text[32 + 4 * PROGRESS_NAME];
} line_part;
#define N_PARTS 8

/* Errors of numbers are no percentages. */
static bool is_rmse(const thaw_event *e)
{
    return e->metric_name && strcmp(e->metric_name, "rmse") == 0;
}

static void make_parts(line_part part[N_PARTS], const progress *p, const thaw_event *e)
{
    char count[32];
    const double share =
        e->phase_steps > 0 ? 100.0 * (double)e->phase_step / (double)e->phase_steps : 0;

    memset(part, 0, N_PARTS * sizeof *part);
    snprintf(part[0].text, sizeof part[0].text, "phase %d/%d %s", e->phase, e->n_phases,
             p->rows[p->n_rows].name);
    part[1].rank = 4;
    snprintf(part[1].text, sizeof part[1].text, "epoch %.1f", e->epoch);
    part[2].rank = 1;
    snprintf(part[2].text, sizeof part[2].text, "%3.0f%%", share);
    part[3].rank = 2;
    snprintf(part[3].text, sizeof part[3].text, "loss %.4f", e->loss_smoothed);
    part[4].rank = 5;
    if (!isnan(p->metric) && is_rmse(e))
        snprintf(part[4].text, sizeof part[4].text, "rmse %.4g", p->metric);
    else if (!isnan(p->metric))
        snprintf(part[4].text, sizeof part[4].text, "%s %.1f%%",
                 e->metric_name ? e->metric_name : "accuracy", 100 * p->metric);
    part[5].rank = 7;
    snprintf(part[5].text, sizeof part[5].text, "lr %.3g", e->lr);
    part[6].rank = 6;
    if (e->rate > 0)
        snprintf(part[6].text, sizeof part[6].text, "%s images/s",
                 cli_count(count, (int64_t)(e->rate + 0.5)));
    part[7].rank = 3;
    if (e->seconds_left >= 0)
        snprintf(part[7].text, sizeof part[7].text, "%s left",
                 cli_duration(count, e->seconds_left));
}

/* The parts that fit into `width` columns, two blanks between them. */
static void join_parts(char *line, size_t size, const line_part part[N_PARTS], int width)
{
    size_t length = 0;
    int characters;

    for (int most = N_PARTS; most >= 0; most--) {
        length = 0;
        line[0] = '\0';
        for (int i = 0; i < N_PARTS; i++)
            if (part[i].rank <= most && part[i].text[0] != '\0' && length < size)
                length += (size_t)snprintf(line + length, size - length, "%s%s",
                                           length > 0 ? "  " : "", part[i].text);
        if (line[cli_cut(&characters, line, width)] == '\0')
            return;
    }
    line[cli_cut(&characters, line, width)] = '\0';
}

static int terminal_width(void)
{
    struct winsize size;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 20)
        return 79;
    return size.ws_col - 1; /* the last column would wrap on some terminals */
}

static void show_step(progress *p, const thaw_event *e)
{
    const double t = now();
    line_part part[N_PARTS];
    char line[N_PARTS * sizeof(part->text)];

    if (t - p->last < (p->mode == PROGRESS_LIVE ? LIVE_SECONDS : LOG_SECONDS))
        return;
    p->last = t;
    make_parts(part, p, e);
    if (p->mode == PROGRESS_LIVE) {
        join_parts(line, sizeof line, part, terminal_width());
        fputs("\r\033[K", p->to);
        cli_put_name(p->to, line, strlen(line));
        p->drawn = true;
    } else {
        join_parts(line, sizeof line, part, INT_MAX);
        cli_put_name(p->to, line, strlen(line));
        fputc('\n', p->to);
    }
    fflush(p->to);
}

static void on_step(progress *p, const thaw_event *e)
{
    progress_row *row = &p->rows[p->n_rows];

    row->lr_least = fmin(row->lr_least, e->lr_least);
    row->lr_most = fmax(row->lr_most, e->lr_most);
    if (e->skipped > 0) {
        progress_leave(p);
        fprintf(p->to, "step %lld: loss or gradient is not finite, update skipped (%d in a row)\n",
                (long long)e->iteration, e->skipped);
        return;
    }
    if (p->mode != PROGRESS_QUIET)
        show_step(p, e);
}

/* ----------------------------------------------------------------------------------------------
 * the other events */

/* Lines of the library's text, each indented; nothing for none. */
static void print_lines(progress *p, const char *indent, const char *text)
{
    while (text && *text != '\0') {
        const size_t n = strcspn(text, "\n");

        fputs(indent, p->to);
        cli_put(p->to, text, n);
        fputc('\n', p->to);
        text += n + (text[n] == '\n');
    }
}

static void on_run(progress *p, const thaw_event *e)
{
    if (p->mode == PROGRESS_QUIET)
        return;
    print_lines(p, "", e->text);
    if (e->baseline > 0)
        fprintf(p->to, "guessing the largest class would be right for %.1f%%\n", 100 * e->baseline);
}

static void on_phase(progress *p, const thaw_event *e)
{
    progress_row *row = &p->rows[p->n_rows];
    char trainable[32], total[32], bytes[32];
    int characters;

    *row = (progress_row){.trainable = e->trainable,
                          .total = e->total,
                          .lr_least = INFINITY,
                          .lr_most = -INFINITY,
                          .loss = NAN,
                          .metric = NAN};
    if (e->phase_name)
        memcpy(row->name, e->phase_name, cli_cut(&characters, e->phase_name, PROGRESS_NAME));
    p->n_phases = e->n_phases;
    if (p->mode == PROGRESS_QUIET)
        return;
    fprintf(p->to, "%sphase %d/%d ", p->color ? "\033[1m" : "", e->phase, e->n_phases);
    cli_put_name(p->to, row->name, strlen(row->name));
    fprintf(p->to, "%s: %s of %s parameters train (%.1f%%)", p->color ? "\033[0m" : "",
            cli_count(trainable, e->trainable), cli_count(total, e->total),
            e->total > 0 ? 100 * (double)e->trainable / (double)e->total : 0);
    if (e->planned_bytes > 0)
        fprintf(p->to, ", %s planned", cli_bytes(bytes, e->planned_bytes));
    fputc('\n', p->to);
    print_lines(p, "  ", e->text);
}

static void on_eval(progress *p, const thaw_event *e)
{
    progress_row *row = &p->rows[p->n_rows];

    /* the table and the live line follow what phases are judged by, not the test at the end */
    if (!e->split || strcmp(e->split, "test") != 0) {
        p->metric = e->metric;
        row->loss = e->loss;
        row->metric = e->metric;
        row->is_rmse = is_rmse(e);
    }
    p->last = now(); /* in a log this line stands for the step's */
    if (p->mode == PROGRESS_QUIET)
        return;
    fprintf(p->to, "  epoch %-5.4g", e->epoch);
    if (isfinite(e->loss_smoothed) && e->iteration > 0)
        fprintf(p->to, "  train loss %.4f", e->loss_smoothed);
    if (is_rmse(e)) {
        fprintf(p->to, "  %s loss %.4f  RMSE %.4g  MAE %.4g%s\n", e->split ? e->split : "valid",
                e->loss, e->metric, e->mae, e->best ? "  best" : "");
        return;
    }
    fprintf(p->to, "  %s loss %.4f  %s %.2f%%%s\n", e->split ? e->split : "valid", e->loss,
            e->metric_name ? e->metric_name : "accuracy", 100 * e->metric, e->best ? "  best" : "");
}

static void on_save(progress *p, const thaw_event *e)
{
    if (p->mode != PROGRESS_QUIET)
        print_lines(p, "  saved ", e->text);
}

static void on_save_failed(progress *p, const thaw_event *e)
{
    print_lines(p, "warning: ", e->text);
}

static void on_phase_end(progress *p, const thaw_event *e)
{
    progress_row *row = &p->rows[p->n_rows];

    row->seconds = e->seconds;
    row->rate = e->rate;
    row->waited = e->waited;
    row->peak_bytes = e->peak_bytes;
    row->skipped = e->skipped;
    /* the table keeps the last phases of a very long run */
    if (p->n_rows == PROGRESS_MAX_ROWS)
        memmove(p->rows, p->rows + 1, (PROGRESS_MAX_ROWS - 1) * sizeof *p->rows + sizeof *p->rows);
    else
        p->n_rows++;
    p->rows[p->n_rows] = (progress_row){.loss = NAN, .metric = NAN};
}

static void on_note(progress *p, const thaw_event *e)
{
    print_lines(p, "note: ", e->text);
}

static void on_end(progress *p, const thaw_event *e)
{
    progress_table(p->to, p);
    print_lines(p, "", e->text);
}

static void (*const show[])(progress *p, const thaw_event *e) = {
    [THAW_EVENT_RUN] = on_run,
    [THAW_EVENT_PHASE] = on_phase,
    [THAW_EVENT_STEP] = on_step,
    [THAW_EVENT_EVAL] = on_eval,
    [THAW_EVENT_SAVE] = on_save,
    [THAW_EVENT_PHASE_END] = on_phase_end,
    [THAW_EVENT_NOTE] = on_note,
    [THAW_EVENT_END] = on_end,
    [THAW_EVENT_SAVE_FAILED] = on_save_failed,
};

static void print_json(progress *p, const thaw_event *e)
{
    char *line = NULL;

    if (thaw_event_json(&line, e) == THAW_OK)
        fputs(line, p->to);
    thaw_text_free(line);
}

bool progress_event(void *user, const thaw_event *event)
{
    progress *p = user;

    if ((size_t)event->kind >= CLI_COUNT(show))
        return true;
    if (p->mode == PROGRESS_JSON) {
        print_json(p, event);
    } else {
        if (event->kind != THAW_EVENT_STEP)
            progress_leave(p);
        show[event->kind](p, event);
    }
    if (event->kind != THAW_EVENT_STEP || p->mode == PROGRESS_JSON)
        fflush(p->to);
    return true;
}
