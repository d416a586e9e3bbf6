/*
 * report_text.c - a run for a terminal: the table of phases and two plots. A character holds two by
 * four dots (Unicode's braille patterns); marked points are drawn over them.
 */
#include "train/train.h"

#include "train/report.h"

#include <math.h>
#include <string.h>

enum { CELLS_WIDE = 72, CELLS_HIGH = 12, MOST_CELLS = 120 * 40 };

typedef struct canvas {
    int width, height; /* characters */
    unsigned char dots[MOST_CELLS];
    bool mark[MOST_CELLS];
} canvas;

static void set_dot(canvas *v, double x, double y)
{
    /* bit of the dot in column x % 2, row y % 4 */
    static const unsigned char bit[2][4] = {{0x01, 0x02, 0x04, 0x40}, {0x08, 0x10, 0x20, 0x80}};
    const int column = (int)x, row = (int)y;

    if (column >= 0 && column < 2 * v->width && row >= 0 && row < 4 * v->height)
        v->dots[row / 4 * v->width + column / 2] |= bit[column % 2][row % 4];
}

static void set_mark(canvas *v, double x, double y)
{
    const int column = (int)(x / 2), row = (int)(y / 4);

    if (column >= 0 && column < v->width && row >= 0 && row < v->height)
        v->mark[row * v->width + column] = true;
}

/* Dots from a to b, close enough to touch. */
static void set_line(canvas *v, double ax, double ay, double bx, double by)
{
    const int n = 1 + (int)THAW_MAX(fabs(bx - ax), fabs(by - ay));

    for (int i = 0; i <= n; i++)
        set_dot(v, ax + (bx - ax) * i / n, ay + (by - ay) * i / n);
}

static void draw_series(canvas *v, const chart *c, const chart_axis *y_axis, const chart_line *l)
{
    double px = 0, py = 0;
    bool pen = false;

    for (size_t i = 0; i < l->n; i++) {
        const double y = l->y[i];
        double dx, dy;

        if (!chart_shows(c, l->x[i], y)) {
            pen = false;
            continue;
        }
        dx = (l->x[i] - c->x_least) / (c->x_most - c->x_least) * (2 * v->width - 1);
        dy = (y_axis->most - y) / (y_axis->most - y_axis->least) * (4 * v->height - 1);
        if (l->dots)
            set_mark(v, dx, dy);
        else if (pen)
            set_line(v, px, py, dx, dy);
        else
            set_dot(v, dx, dy);
        px = dx;
        py = dy;
        pen = true;
    }
}

static void add_braille(text *out, unsigned char dots)
{
    const char code[3] = {(char)0xE2, (char)(0xA0 + (dots >> 6)), (char)(0x80 + (dots & 0x3F))};

    if (dots == 0)
        text_add(out, " ");
    else
        text_add_n(out, code, 3);
}

static void add_row(text *out, const canvas *v, int row, const chart_axis *y)
{
    const bool first = row == 0, last = row == v->height - 1;
    text number = TEXT_INIT;

    if (first || last)
        text_add_short_double(&number, first ? y->most : y->least);
    text_addf(out, "%9s │", number.data ? number.data : "");
    text_done(&number);
    for (int i = 0; i < v->width; i++)
        if (v->mark[row * v->width + i])
            text_add(out, "●");
        else
            add_braille(out, v->dots[row * v->width + i]);
    text_add(out, "\n");
}

/* Column in which a phase begins; -1: outside of the chart. */
static int column_of(const chart *c, const chart_band *b, int width)
{
    if (!(b->from >= c->x_least && b->from <= c->x_most))
        return -1;
    return (int)((b->from - c->x_least) / (c->x_most - c->x_least) * width);
}

/* A rule with a tick where a phase begins, and the phases' names below it. */
static void add_foot(text *out, const chart *c, int width)
{
    int used = 0;

    text_add(out, "          └");
    for (int i = 0; i < width; i++) {
        bool tick = false;

        for (size_t k = 0; k < c->n_bands; k++)
            tick |= column_of(c, &c->band[k], width) == i;
        text_add(out, tick ? "┬" : "─");
    }
    text_add(out, "\n           ");
    for (size_t k = 0; k < c->n_bands; k++) {
        const int at = column_of(c, &c->band[k], width);

        if (at < used)
            continue;
        text_addf(out, "%*s%s ", at - used, "", c->band[k].name);
        used = at + 1;
        for (const char *p = c->band[k].name; *p; p++)
            used += ((unsigned char)*p & 0xC0) != 0x80;
    }
    text_add(out, "\n");
}

void chart_text(text *out, const chart *c, int width, int height)
{
    canvas *v;
    chart_axis y;

    if (!chart_y_axis(&y, c) || width < 1 || height < 1 || width > MOST_CELLS / height)
        return;
    v = thaw__new(1, sizeof *v);
    if (!v) {
        out->failed = true;
        return;
    }
    v->width = width;
    v->height = height;
    for (size_t i = 0; i < c->n_lines; i++)
        draw_series(v, c, &y, &c->line[i]);
    text_addf(out, "\n%s (", c->title);
    for (size_t i = 0; i < c->n_lines; i++)
        text_addf(out, "%s%s %s", i ? ", " : "", c->line[i].dots ? "●" : "⠒", c->line[i].name);
    text_add(out, ")\n");
    for (int row = 0; row < height; row++)
        add_row(out, v, row, &y);
    add_foot(out, c, width);
    thaw__free(v);
}

/* ----------------------------------------------------------------------------------------------
 * the report */

/* On to a column of the table, at least one space on where a cell is wider than its column. */
static void go_to(text *out, size_t column)
{
    text_add(out, " ");
    text_pad(out, column);
}

static void add_phase_line(text *out, const report_data *r, int i)
{
    const report_phase *const p = &r->phase[i];
    char number[32];

    text_addf(out, "%d %s", i + 1, p->name);
    go_to(out, 18);
    text_addf(out, "%s (%.1f%%)", format_count(number, p->trainable),
              p->total > 0 ? 100 * (double)p->trainable / (double)p->total : 0.0);
    go_to(out, 40);
    text_addf(out, "%lld", (long long)(p->to - p->from));
    go_to(out, 48);
    if (isfinite(p->loss))
        text_addf(out, "%.4g", p->loss);
    else
        text_add(out, "-");
    go_to(out, 58);
    report_metric(out, r->n_evals > 0 ? r->eval[0].metric_name : "", p->metric);
    go_to(out, 68);
    text_add(out, p->ended ? format_duration(number, p->seconds) : "unfinished");
    go_to(out, 82);
    text_add(out, p->peak > 0 ? format_bytes(number, p->peak) : "-");
    text_add(out, "\n");
}

static void add_table(text *out, const report_data *r)
{
    text_add(out,
             "phase             trainable             steps   loss      metric    time          "
             "peak memory\n");
    for (int i = 0; i < r->n_phases; i++)
        if (r->phase[i].began)
            add_phase_line(out, r, i);
}

static thaw_status add_plots(text *out, const report_data *r)
{
    double *const x = thaw__new(r->n_steps + r->n_evals, sizeof *x);
    double *const y = thaw__new(r->n_steps + r->n_evals, sizeof *y);
    double *const metric = thaw__new(r->n_evals, sizeof *metric);
    chart_band *const band = thaw__new((size_t)r->n_phases, sizeof *band);
    const double end = THAW_MAX((double)r->phase[r->n_phases - 1].to, 1.0);
    const size_t n = r->n_steps, m = r->n_evals;
    thaw_status status = THAW_OK;

    if (!x || !y || !metric || !band) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for the report of a run");
        goto done;
    }
    for (int i = 0; i < r->n_phases; i++)
        band[i] = (chart_band){.name = r->phase[i].name, .from = (double)r->phase[i].from};
    for (size_t i = 0; i < n; i++) {
        x[i] = r->step[i].iteration;
        y[i] = r->step[i].smoothed;
    }
    for (size_t i = 0; i < m; i++) {
        const bool valid = strcmp(r->eval[i].split, "valid") == 0;

        x[n + i] = r->eval[i].iteration;
        y[n + i] = valid ? r->eval[i].loss : (double)NAN;
        metric[i] = valid ? r->eval[i].metric : (double)NAN;
    }
    {
        const chart_line loss[] = {
            {.name = "training, smoothed", .x = x, .y = y, .n = n},
            {.name = "validation", .x = x + n, .y = y + n, .n = m, .dots = true}};
        const chart_line line = {
            .name = "validation", .x = x + n, .y = metric, .n = m, .dots = true};
        chart c = {.title = "loss",
                   .line = loss,
                   .n_lines = 2,
                   .band = band,
                   .n_bands = (size_t)r->n_phases,
                   .x_most = end};

        chart_text(out, &c, CELLS_WIDE, CELLS_HIGH);
        c.title = m > 0 ? r->eval[0].metric_name : "metric";
        c.line = &line;
        c.n_lines = 1;
        chart_text(out, &c, CELLS_WIDE, CELLS_HIGH);
    }
done:
    thaw__free(x);
    thaw__free(y);
    thaw__free(metric);
    thaw__free(band);
    return status;
}

static void add_classes(text *out, const report_judgement *j)
{
    if (j->n_classes == 0)
        return;
    text_addf(out, "\nvalidation images judged by the best weights: %lld of %lld right\n",
              (long long)j->hits, (long long)j->n);
    for (int i = 0; i < j->n_mistakes; i++) {
        const report_mistake *const m = &j->mistake[i];

        if (m->file)
            text_addf(out, "  %s: is ", m->file);
        else
            text_addf(out, "  sample %lld: is ", (long long)m->id);
        if (j->class_name)
            text_addf(out, "'%s', taken for '%s'", j->class_name[m->label],
                      j->class_name[m->guess]);
        else
            text_addf(out, "%d, taken for %d", (int)m->label, (int)m->guess);
        text_addf(out, " (%.0f%% sure)\n", 100 * m->sure);
    }
}

thaw_status report_text(text *out, const report_data *r)
{
    const report_eval *const best = report_best(r);

    text_addf(out, "%s: %s\n", r->run, r->ending ? r->ending : "not ended");
    if (best) {
        text_addf(out, "best %s on %s: ", best->metric_name, best->split);
        report_metric(out, best->metric_name, best->metric);
        text_addf(out, ", step %.0f\n", best->iteration);
    }
    text_add(out, "\n");
    add_table(out, r);
    THAW_CHECK(add_plots(out, r));
    add_classes(out, &r->judgement);
    return out->failed ? thaw_fail(THAW_E_NOMEM, "out of memory for the report of a run") : THAW_OK;
}
