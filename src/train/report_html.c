/*
 * report_html.c - a run as one page: no script, no network, everything inside.
 *
 * Text of the run (names, notes, recipe) is data: it goes through html_add. What the page looks
 * like is the style sheet's business alone.
 */
#include "train/train.h"

#include "train/report.h"

#include <math.h>
#include <string.h>

#define ROWS_MOST   16 /* layers in the picture of who trains */
#define MATRIX_MOST 24 /* classes whose confusion fits a page */
#define NOTES_MOST  200

static const char style[] =
    ":root{--bg:#fff;--fg:#1c2430;--soft:#64707f;--rule:#dde2e9;--card:#f6f8fa;--a:#eef2f7;"
    "--b:#e2e9f2;--c0:#1f6fd6;--c1:#d4572a;--c2:#2b8a4b;--c3:#8a4bc2;--c4:#b58a00;--c5:#0b8f96;"
    "--c6:#c2397d;--c7:#6b6f76}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#14181d;--fg:#e4e9ef;--soft:#95a1b0;"
    "--rule:#2d3540;--card:#1c2229;--a:#1a2028;--b:#222a34;--c0:#6aa8ff;--c1:#ff9068;--c2:#66cc88;"
    "--c3:#c093ee;--c4:#e0bb4b;--c5:#55c8cf;--c6:#f283b6;--c7:#a4a9b1}}\n"
    "body{background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif;max-width:900px;"
    "margin:2em auto;padding:0 1em}\n"
    "h1{font-size:1.5em;margin:0}h2{font-size:1.15em;margin:2em 0 .5em}\n"
    ".sub{color:var(--soft);white-space:pre-line;margin:.2em 0 "
    "1.2em}.tiles{display:flex;flex-wrap:wrap;gap:10px}\n"
    ".tile{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:.6em 1em;"
    "min-width:120px}.tile b{display:block;font-size:1.35em}.tile span{color:var(--soft);"
    "font-size:.85em}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92em}\n"
    "th,td{padding:.28em .7em;text-align:right;border-bottom:1px solid var(--rule)}\n"
    "th{color:var(--soft);font-weight:600}th:first-child,td:first-child{text-align:left}\n"
    ".wide{overflow-x:auto}svg{width:100%;height:auto;display:block;margin:.6em 0}\n"
    "svg text{fill:var(--fg);font:12px system-ui,sans-serif}svg .mark,svg .bandname{fill:"
    "var(--soft);font-size:11px}svg .title{font-weight:600}\n"
    ".band0{fill:var(--a)}.band1{fill:var(--b)}.grid{stroke:var(--rule);fill:none}\n"
    ".line{fill:none;stroke-width:1.7}.dashed{stroke-dasharray:5 4}\n"
    ".c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}"
    ".c4{stroke:var(--c4)}.c5{stroke:var(--c5)}.c6{stroke:var(--c6)}.c7{stroke:var(--c7)}\n"
    ".dot{fill:var(--bg);stroke-width:2}.cell{fill:var(--c0)}\n"
    ".matrix td{text-align:center;min-width:2.2em;border:1px solid var(--bg)}\n"
    ".pictures{display:flex;flex-wrap:wrap;gap:14px}figure{margin:0;width:128px;font-size:.82em;"
    "overflow-wrap:anywhere}\n"
    "figure img{width:128px;image-rendering:pixelated;border:1px solid var(--rule);"
    "border-radius:4px;background:#808080}\n"
    "pre{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:.8em;"
    "overflow-x:auto;font-size:.82em;line-height:1.35}summary{cursor:pointer;margin-top:1em}\n";

/* ----------------------------------------------------------------------------------------------
 * small pieces */

static void add_percent(text *out, double x)
{
    if (isfinite(x))
        text_addf(out, "%.2f%%", 100 * x);
    else
        text_add(out, "–");
}

static void add_number(text *out, double x)
{
    if (isfinite(x))
        text_add_short_double(out, x);
    else
        text_add(out, "–");
}

static bool is_share(const char *metric)
{
    return strcmp(metric, "accuracy") == 0;
}

static void open_tile(text *out)
{
    text_add(out, "<div class=\"tile\"><b>");
}

static void close_tile(text *out, const char *words)
{
    text_add(out, "</b><span>");
    html_add(out, words);
    text_add(out, "</span></div>\n");
}

static const char *metric_of(const report_data *r)
{
    return r->n_evals > 0 ? r->eval[0].metric_name : "accuracy";
}

static double seconds_of(const report_data *r)
{
    double seconds = 0;

    for (int i = 0; i < r->n_phases; i++)
        seconds += r->phase[i].seconds;
    return seconds;
}

/* ----------------------------------------------------------------------------------------------
 * head and table */

static void add_tiles(text *out, const report_data *r)
{
    const report_eval *const best = report_best(r);
    char number[32];

    text_add(out, "<div class=\"tiles\">\n");
    if (best) {
        open_tile(out);
        report_metric(out, best->metric_name, best->metric);
        text_add(out, "</b><span>best ");
        html_add(out, best->metric_name);
        text_addf(out, " (%s), step %.0f</span></div>\n", best->split, best->iteration);
    }
    if (isfinite(r->baseline) && r->baseline > 0 && is_share(metric_of(r))) {
        open_tile(out);
        add_percent(out, r->baseline);
        close_tile(out, "largest class alone");
    }
    open_tile(out);
    text_addf(out, "%d", r->n_phases);
    close_tile(out, "phases");
    open_tile(out);
    text_add(out, format_count(number, r->phase[r->n_phases - 1].to));
    close_tile(out, "steps");
    open_tile(out);
    text_add(out, format_duration(number, seconds_of(r)));
    close_tile(out, "in finished phases");
    if (r->peak > 0) {
        open_tile(out);
        text_add(out, format_bytes(number, r->peak));
        close_tile(out, "peak memory");
    }
    text_add(out, "</div>\n");
}

static void add_range(text *out, double least, double most)
{
    add_number(out, least);
    if (most > least) {
        text_add(out, "…");
        add_number(out, most);
    }
}

static void add_phase_row(text *out, const report_data *r, int i)
{
    const report_phase *const p = &r->phase[i];
    char number[32];

    text_addf(out, "<tr><td>%d ", i + 1);
    html_add(out, p->name);
    text_addf(out, "</td><td>%s", format_count(number, p->trainable));
    text_addf(out, " (%.1f%%)</td><td>",
              p->total > 0 ? 100 * (double)p->trainable / (double)p->total : 0.0);
    add_range(out, p->lr_least, p->lr_most);
    text_addf(out, "</td><td>%lld</td><td>", (long long)(p->to - p->from));
    if (isfinite(p->loss))
        text_addf(out, "%.4g", p->loss);
    else
        text_add(out, "–");
    text_add(out, "</td><td>");
    report_metric(out, metric_of(r), p->metric);
    text_addf(out, "</td><td>%s</td><td>",
              p->ended ? format_duration(number, p->seconds) : "unfinished");
    if (isfinite(p->rate))
        text_addf(out, "%.1f", p->rate);
    else
        text_add(out, "–");
    text_addf(out, "</td><td>%s</td></tr>\n", p->peak > 0 ? format_bytes(number, p->peak) : "–");
}

static void add_phases(text *out, const report_data *r)
{
    text_add(out, "<h2>Phases</h2>\n<div class=\"wide\"><table>\n<tr><th>phase</th><th>trainable"
                  "</th><th>rate at its start</th><th>steps</th><th>loss</th><th>");
    html_add(out, metric_of(r));
    text_add(out, "</th><th>time</th><th>images/s</th><th>peak memory</th></tr>\n");
    for (int i = 0; i < r->n_phases; i++)
        if (r->phase[i].began)
            add_phase_row(out, r, i);
    text_add(out, "</table></div>\n");
}

/* ----------------------------------------------------------------------------------------------
 * charts of the run */

typedef struct columns {
    double *iteration, *smoothed, *rate;    /* [n_steps] */
    double *at, *valid_loss, *valid_metric; /* [n_evals] of the main split, NAN others */
    double ends[2], base[2];
    chart_band *band;
    int n_bands;
} columns;

static void columns_done(columns *c)
{
    thaw__free(c->iteration);
    thaw__free(c->smoothed);
    thaw__free(c->rate);
    thaw__free(c->at);
    thaw__free(c->valid_loss);
    thaw__free(c->valid_metric);
    thaw__free(c->band);
}

static thaw_status fail_memory(void)
{
    return thaw_fail(THAW_E_NOMEM, "out of memory for the report of a run");
}

static thaw_status columns_make(columns *c, const report_data *r)
{
    *c = (columns){.iteration = thaw__new(r->n_steps, sizeof(double)),
                   .smoothed = thaw__new(r->n_steps, sizeof(double)),
                   .rate = thaw__new(r->n_steps, sizeof(double)),
                   .at = thaw__new(r->n_evals, sizeof(double)),
                   .valid_loss = thaw__new(r->n_evals, sizeof(double)),
                   .valid_metric = thaw__new(r->n_evals, sizeof(double)),
                   .band = thaw__new((size_t)r->n_phases, sizeof *c->band)};
    if (!c->iteration || !c->smoothed || !c->rate || !c->at || !c->valid_loss || !c->valid_metric ||
        !c->band)
        return fail_memory();
    for (size_t i = 0; i < r->n_steps; i++) {
        c->iteration[i] = r->step[i].iteration;
        c->smoothed[i] = r->step[i].smoothed;
    }
    for (size_t i = 0; i < r->n_evals; i++) {
        const bool valid = strcmp(r->eval[i].split, "valid") == 0;

        c->at[i] = r->eval[i].iteration;
        c->valid_loss[i] = valid ? r->eval[i].loss : (double)NAN;
        c->valid_metric[i] = valid ? r->eval[i].metric : (double)NAN;
    }
    for (int i = 0; i < r->n_phases; i++)
        if (r->phase[i].to > r->phase[i].from)
            c->band[c->n_bands++] = (chart_band){.name = r->phase[i].name,
                                                 .from = (double)r->phase[i].from,
                                                 .to = (double)r->phase[i].to};
    c->ends[1] = THAW_MAX((double)r->phase[r->n_phases - 1].to, 1.0);
    c->base[0] = c->base[1] = r->baseline;
    return THAW_OK;
}

static chart chart_of(const columns *c, const char *title, const chart_line *line, size_t n)
{
    return (chart){.title = title,
                   .x_name = "step",
                   .line = line,
                   .n_lines = n,
                   .band = c->band,
                   .n_bands = (size_t)c->n_bands,
                   .x_least = c->ends[0],
                   .x_most = c->ends[1]};
}

static void add_curves(text *out, const report_data *r, const columns *c)
{
    const chart_line loss[] = {
        {.name = "training, smoothed", .x = c->iteration, .y = c->smoothed, .n = r->n_steps},
        {.name = "validation",
         .x = c->at,
         .y = c->valid_loss,
         .n = r->n_evals,
         .dots = true,
         .colour = 1}};
    const chart_line metric[] = {{.name = "validation",
                                  .x = c->at,
                                  .y = c->valid_metric,
                                  .n = r->n_evals,
                                  .dots = true,
                                  .colour = 1},
                                 {.name = "largest class alone",
                                  .x = c->ends,
                                  .y = c->base,
                                  .n = 2,
                                  .dashed = true,
                                  .colour = 7}};
    const bool base = is_share(metric_of(r)) && r->baseline > 0;
    chart drawn = chart_of(c, "Loss", loss, THAW_COUNT(loss));

    text_add(out, "<h2>Loss and metric</h2>\n");
    chart_svg(out, &drawn);
    drawn = chart_of(c, metric_of(r), metric, base ? 2 : 1);
    chart_svg(out, &drawn);
}

/* ----------------------------------------------------------------------------------------------
 * who trained when, and how fast */

typedef struct layers {
    const thaw_tree *tree;
    const thaw_effect **effect; /* [n_phases] */
    int n_phases;
    double *base; /* [n_phases] rate before the curve */
    int module[ROWS_MOST];
    int n;
} layers;

static int children_with_parameters(const thaw_tree *t, int module, int *found, int most)
{
    const tree_module *const m = t->module;
    int n = 0;

    for (int i = module + 1; i < m[module].end; i = m[i].end) {
        if (m[i].param_end == m[i].param_begin)
            continue;
        if (n < most)
            found[n] = i;
        n++;
    }
    return n;
}

/* Replace row `at` by its children where they fit. */
static bool open_row(layers *l, int at)
{
    int child[ROWS_MOST];
    const int n = children_with_parameters(l->tree, l->module[at], child, ROWS_MOST);
    const tree_module *const m = &l->tree->module[l->module[at]];

    if (n < 2 || l->n - 1 + n > ROWS_MOST || m->own_end > m->param_begin)
        return false;
    memmove(&l->module[at + n], &l->module[at + 1], (size_t)(l->n - at - 1) * sizeof *l->module);
    memcpy(&l->module[at], child, (size_t)n * sizeof *child);
    l->n += n - 1;
    return true;
}

/* The root's children; the largest is opened as long as the rows fit. */
static void choose_rows(layers *l)
{
    const tree_module *const m = l->tree->module;
    bool opened = true;

    l->n = THAW_MIN(children_with_parameters(l->tree, 0, l->module, ROWS_MOST), ROWS_MOST);
    while (opened) {
        opened = false;
        for (int i = 0; i < l->n && !opened; i++) {
            const int a = l->module[i];

            if (2 * (m[a].param_end - m[a].param_begin) > m[0].param_end)
                opened = open_row(l, i);
        }
    }
}

static thaw_status layers_make(layers *l, const outlook *o)
{
    *l = (layers){.tree = o->model->tree, .n_phases = thaw_schedule_n_phases(o->schedule)};
    l->effect = thaw__new((size_t)l->n_phases, sizeof(thaw_effect *));
    l->base = thaw__new((size_t)l->n_phases, sizeof *l->base);
    if (!l->effect || !l->base)
        return fail_memory();
    for (int p = 0; p < l->n_phases; p++) {
        THAW_CHECK(outlook_effect(&l->effect[p], o, p, false));
        l->base[p] = outlook_rate(o, l->effect[p]);
    }
    choose_rows(l);
    return THAW_OK;
}

static void layers_done(layers *l)
{
    thaw__free(l->effect);
    thaw__free(l->base);
}

static void add_cell(text *out, const layers *l, int row, int phase, double x, double y,
                     double width)
{
    const stand s = stand_of(l->tree, l->effect[phase], l->module[row]);

    if (s.trainable == 0)
        return;
    text_addf(out,
              "<rect class=\"cell\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"16\" rx=\"3\" "
              "opacity=\"%.2f\"><title>",
              x + 1, y, THAW_MAX(width - 2, 1.0),
              0.35 + 0.65 * (double)s.trainable / (double)THAW_MAX(s.total, 1));
    html_add(out, l->tree->module[l->module[row]].path);
    text_add(out, ": ");
    text_add(out, stand_state(&s));
    text_add(out, ", rate ");
    add_range(out, s.least * l->base[phase], s.most * l->base[phase]);
    text_add(out, "</title></rect>\n");
}

static void add_who(text *out, const report_data *r, const layers *l)
{
    const double left = 170, width = 680, row = 22, top = 24;
    const double steps = THAW_MAX((double)r->phase[r->n_phases - 1].to, 1.0);
    const int n = THAW_MIN(l->n_phases, r->n_phases);

    text_addf(out,
              "<h2>Who trained when</h2>\n<svg viewBox=\"0 0 860 %.0f\" role=\"img\" "
              "aria-label=\"which layers trained in which phase\">\n",
              top + row * l->n + 8);
    for (int p = 0; p < n; p++) {
        const double from = left + width * (double)r->phase[p].from / steps;
        const double wide = width * (double)(r->phase[p].to - r->phase[p].from) / steps;

        if (wide <= 0)
            continue;
        text_addf(out,
                  "<rect class=\"band%d\" x=\"%.1f\" y=\"0\" width=\"%.1f\" "
                  "height=\"%.0f\"/>\n<text class=\"bandname\" text-anchor=\"middle\" "
                  "x=\"%.1f\" y=\"15\">",
                  p % 2, from, wide, top + row * l->n + 8, from + wide / 2);
        html_add(out, wide > 30 ? r->phase[p].name : "");
        text_add(out, "</text>\n");
        for (int i = 0; i < l->n; i++)
            add_cell(out, l, i, p, from, top + row * i, wide);
    }
    for (int i = 0; i < l->n; i++) {
        text_addf(out, "<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">", left - 8,
                  top + row * i + 12);
        html_add(out, l->tree->module[l->module[i]].path);
        text_add(out, "</text>\n");
    }
    text_add(out,
             "</svg>\n<p class=\"sub\">Full colour: all of the layer's parameters learn; paler: "
             "some of them. Empty: frozen.</p>\n");
}

/* Whether two rows have the same rate in every phase. */
static bool same_rates(const layers *l, int a, int b)
{
    for (int p = 0; p < l->n_phases; p++) {
        const stand s = stand_of(l->tree, l->effect[p], l->module[a]);
        const stand t = stand_of(l->tree, l->effect[p], l->module[b]);

        if ((s.trainable > 0) != (t.trainable > 0) || s.least != t.least || s.most != t.most)
            return false;
    }
    return true;
}

/* The rate of row `row` at each step: the base rate then, times its coefficient in that phase. */
static void fill_rates(double *y, const report_data *r, const layers *l, int row)
{
    for (size_t i = 0; i < r->n_steps; i++) {
        const int p = r->step[i].phase;
        stand s = {0};

        if (p >= 0 && p < l->n_phases)
            s = stand_of(l->tree, l->effect[p], l->module[row]);
        y[i] = s.trainable > 0 ? r->step[i].lr * s.most : (double)NAN;
    }
}

static void name_rows(text *out, const layers *l, int first)
{
    int last = first, n = 1;

    for (int i = first + 1; i < l->n; i++)
        if (same_rates(l, first, i)) {
            last = i;
            n++;
        }
    text_add(out, l->tree->module[l->module[first]].path);
    if (n > 1)
        text_addf(out, "%s%s", n == 2 ? ", " : " … ", l->tree->module[l->module[last]].path);
}

static thaw_status add_rates(text *out, const report_data *r, const columns *c, const layers *l)
{
    chart_line line[CHART_COLOURS] = {{0}};
    double *y[CHART_COLOURS] = {0};
    text name[CHART_COLOURS] = {TEXT_INIT};
    size_t n = 0;
    thaw_status status = THAW_OK;

    for (int i = 0; i < l->n && n < CHART_COLOURS; i++) {
        bool again = false;

        for (int k = 0; k < i; k++)
            again |= same_rates(l, k, i);
        if (again)
            continue;
        y[n] = thaw__new(r->n_steps, sizeof **y);
        name_rows(&name[n], l, i);
        if (!y[n] || name[n].failed) {
            status = fail_memory();
            goto done;
        }
        fill_rates(y[n], r, l, i);
        line[n] = (chart_line){
            .name = name[n].data, .x = c->iteration, .y = y[n], .n = r->n_steps, .colour = (int)n};
        n++;
    }
    {
        chart drawn = chart_of(c, "Learning rate of each group", line, n);

        drawn.logarithmic = true;
        chart_svg(out, &drawn);
    }
done:
    for (size_t i = 0; i < CHART_COLOURS; i++) {
        thaw__free(y[i]);
        text_done(&name[i]);
    }
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * judgement */

static void add_class(text *out, const report_judgement *j, int k)
{
    if (j->class_name)
        html_add(out, j->class_name[k]);
    else
        text_addf(out, "%d", k);
}

static int64_t row_sum(const report_judgement *j, int k)
{
    int64_t sum = 0;

    for (int i = 0; i < j->n_classes; i++)
        sum += j->confusion[(int64_t)k * j->n_classes + i];
    return sum;
}

static int64_t column_sum(const report_judgement *j, int k)
{
    int64_t sum = 0;

    for (int i = 0; i < j->n_classes; i++)
        sum += j->confusion[(int64_t)i * j->n_classes + k];
    return sum;
}

static void add_matrix(text *out, const report_judgement *j)
{
    text_add(out, "<p class=\"sub\">Rows: the true class. Columns: what the network says.</p>\n"
                  "<div class=\"wide\"><table class=\"matrix\"><tr><th></th>");
    for (int k = 0; k < j->n_classes; k++) {
        text_add(out, "<th>");
        add_class(out, j, k);
        text_add(out, "</th>");
    }
    text_add(out, "<th>recall</th></tr>\n");
    for (int i = 0; i < j->n_classes; i++) {
        const int64_t sum = row_sum(j, i);

        text_add(out, "<tr><th>");
        add_class(out, j, i);
        text_add(out, "</th>");
        for (int k = 0; k < j->n_classes; k++) {
            const int64_t n = j->confusion[(int64_t)i * j->n_classes + k];
            const double share = sum > 0 ? (double)n / (double)sum : 0;

            text_addf(out,
                      "<td style=\"background:color-mix(in srgb,var(--c%d) %.0f%%,transparent)\">"
                      "%lld</td>",
                      i == k ? 2 : 1, 70 * sqrt(share), (long long)n);
        }
        text_add(out, "<td>");
        add_percent(out, sum > 0 ? (double)j->confusion[(int64_t)i * j->n_classes + i] / (double)sum
                                 : (double)NAN);
        text_add(out, "</td></tr>\n");
    }
    text_add(out, "<tr><th>precision</th>");
    for (int k = 0; k < j->n_classes; k++) {
        const int64_t sum = column_sum(j, k);

        text_add(out, "<td>");
        add_percent(out, sum > 0 ? (double)j->confusion[(int64_t)k * j->n_classes + k] / (double)sum
                                 : (double)NAN);
        text_add(out, "</td>");
    }
    text_add(out, "<td></td></tr>\n</table></div>\n");
}

static void add_mistakes(text *out, const report_judgement *j)
{
    text_add(out, "<h2>The worst mistakes</h2>\n<div class=\"pictures\">\n");
    for (int i = 0; i < j->n_mistakes; i++) {
        const report_mistake *const m = &j->mistake[i];

        text_add(out, "<figure>");
        if (m->png) {
            text_add(out, "<img alt=\"\" src=\"data:image/png;base64,");
            text_add(out, m->png);
            text_add(out, "\">");
        }
        text_add(out, "<figcaption>is <b>");
        add_class(out, j, m->label);
        text_add(out, "</b>, taken for <b>");
        add_class(out, j, m->guess);
        text_addf(out, "</b> (%.0f%% sure), ", 100 * m->sure);
        if (m->file)
            html_add(out, m->file);
        else
            text_addf(out, "sample %lld", (long long)m->id);
        text_add(out, "</figcaption></figure>\n");
    }
    text_add(out, "</div>\n");
}

static void add_judgement(text *out, const report_judgement *j)
{
    text_add(out, "<h2>What the best weights take for what</h2>\n");
    if (j->n_classes == 0) {
        text_add(out, "<p class=\"sub\">Not judged: ");
        html_add(out, j->why_not ? j->why_not : "not asked for");
        text_add(out, ".</p>\n");
        return;
    }
    text_addf(out, "<p>%lld of %lld validation images are right.</p>\n", (long long)j->hits,
              (long long)j->n);
    if (j->n_classes <= MATRIX_MOST)
        add_matrix(out, j);
    else
        text_addf(out,
                  "<p class=\"sub\">%d classes: too many for a table here; <code>thaw eval "
                  "--json</code> has them.</p>\n",
                  j->n_classes);
    if (j->n_mistakes > 0)
        add_mistakes(out, j);
}

/* ----------------------------------------------------------------------------------------------
 * the rest */

static void add_notes(text *out, const report_data *r)
{
    const size_t from = r->n_notes > NOTES_MOST ? r->n_notes - NOTES_MOST : 0;

    text_add(out, "<details><summary>What the run said</summary><pre>");
    for (size_t i = from; i < r->n_notes; i++) {
        text_addf(out, "step %lld: ", (long long)r->note[i].iteration);
        html_add(out, r->note[i].text);
        text_add(out, "\n");
    }
    text_add(out, "</pre></details>\n");
}

static thaw_status add_layers(text *out, const outlook *o)
{
    text tree = TEXT_INIT;
    const thaw_status status = show_view(&tree, o, false);

    if (status == THAW_OK && tree.data) {
        text_add(out, "<details><summary>Layers and their rates in every phase</summary><pre>");
        html_add(out, tree.data);
        text_add(out, "</pre></details>\n");
    }
    text_done(&tree);
    return status;
}

thaw_status report_html(text *out, const report_data *r, const outlook *o)
{
    columns c = {0};
    layers l = {0};
    thaw_status status;

    THAW_TRY(columns_make(&c, r));
    THAW_TRY(layers_make(&l, o));
    text_add(out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta "
                  "name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>");
    html_add(out, r->run);
    text_add(out, "</title>\n<style>\n");
    text_add(out, style);
    text_add(out, "</style></head><body>\n<h1>");
    html_add(out, r->run);
    text_add(out, "</h1>\n<p class=\"sub\">");
    html_add(out, r->n_notes > 0 ? r->note[0].text : "");
    text_add(out, "<br>thaw " THAW_VERSION ", ");
    html_add(out, r->ending ? r->ending : "not ended");
    text_add(out, "</p>\n");
    add_tiles(out, r);
    add_phases(out, r);
    add_curves(out, r, &c);
    add_who(out, r, &l);
    THAW_TRY(add_rates(out, r, &c, &l));
    add_judgement(out, &r->judgement);
    add_notes(out, r);
    THAW_TRY(add_layers(out, o));
    text_add(out, "</body></html>\n");
    if (out->failed)
        status = fail_memory();
done:
    columns_done(&c);
    layers_done(&l);
    return status;
}
