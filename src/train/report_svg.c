/*
 * report_svg.c - a chart as inline SVG: axes, phases as bands, lines. Colours are classes, so that
 * the page decides how they look in light and dark.
 */
#include "train/train.h"

#include "train/report.h"

#include <math.h>

enum { WIDTH = 860, HEIGHT = 270, LEFT = 64, RIGHT = 12, TOP = 34, BOTTOM = 40 };

void html_add(text *out, const char *s)
{
    for (const char *p = s; *p; p++) {
        switch (*p) {
        case '&':
            text_add(out, "&amp;");
            break;
        case '<':
            text_add(out, "&lt;");
            break;
        case '>':
            text_add(out, "&gt;");
            break;
        case '"':
            text_add(out, "&quot;");
            break;
        case '\n':
        case '\t':
            text_add_n(out, p, 1);
            break;
        default: /* other control characters are not allowed in a page */
            text_add_n(out, (unsigned char)*p < 0x20 ? " " : p, 1);
        }
    }
}

typedef struct frame {
    const chart *c;
    chart_axis y;
} frame;

static double at_x(const frame *f, double x)
{
    return LEFT + (x - f->c->x_least) / (f->c->x_most - f->c->x_least) * (WIDTH - LEFT - RIGHT);
}

static double at_y(const frame *f, double y)
{
    if (f->c->logarithmic)
        y = log10(y);
    return HEIGHT - BOTTOM - (y - f->y.least) / (f->y.most - f->y.least) * (HEIGHT - TOP - BOTTOM);
}

static void add_coordinates(text *out, double x, double y)
{
    text_addf(out, "%.1f,%.1f", x, y);
}

static void add_label(text *out, double x, double y, const char *anchor, const char *class,
                      const char *words)
{
    text_addf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">", x, y, anchor,
              class);
    html_add(out, words);
    text_add(out, "</text>\n");
}

static void add_bands(text *out, const frame *f)
{
    for (size_t i = 0; i < f->c->n_bands; i++) {
        const chart_band *const b = &f->c->band[i];
        const double from = at_x(f, b->from), to = at_x(f, b->to);

        text_addf(out,
                  "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" class=\"band%d\"/>\n",
                  from, TOP, THAW_MAX(to - from, 0.0), HEIGHT - TOP - BOTTOM, (int)(i % 2));
        if (to - from > 24)
            add_label(out, (from + to) / 2, TOP + 13, "middle", "bandname", b->name);
    }
}

static void add_marks(text *out, const frame *f)
{
    const chart_axis x = chart_marks(f->c->x_least, f->c->x_most, 8);
    text number = TEXT_INIT;

    for (double v = f->y.least; v <= f->y.most + f->y.step / 2; v += f->y.step) {
        const double value = f->c->logarithmic ? pow(10, v) : fabs(v) < f->y.step / 2 ? 0 : v;
        const double y = at_y(f, f->c->logarithmic ? value : v);

        text_addf(out, "<path d=\"M%d %.1fH%d\" class=\"grid\"/>\n", LEFT, y, WIDTH - RIGHT);
        number.length = 0;
        text_add_short_double(&number, value);
        if (!number.failed)
            add_label(out, LEFT - 6, y + 4, "end", "mark", number.data);
    }
    for (double v = x.least; v <= x.most; v += x.step) {
        if (v < f->c->x_least || v > f->c->x_most)
            continue;
        number.length = 0;
        text_add_short_double(&number, v);
        if (!number.failed)
            add_label(out, at_x(f, v), HEIGHT - BOTTOM + 16, "middle", "mark", number.data);
    }
    text_done(&number);
}

static void add_path(text *out, const frame *f, const chart_line *l)
{
    bool pen = false;

    text_addf(out, "<path class=\"line c%d%s\" d=\"", l->colour % CHART_COLOURS,
              l->dashed ? " dashed" : "");
    for (size_t i = 0; i < l->n; i++) {
        if (!chart_shows(f->c, l->x[i], l->y[i])) {
            pen = false;
            continue;
        }
        text_add(out, pen ? "L" : "M");
        add_coordinates(out, at_x(f, l->x[i]), at_y(f, l->y[i]));
        pen = true;
    }
    text_add(out, "\"/>\n");
}

static void add_dots(text *out, const frame *f, const chart_line *l)
{
    for (size_t i = 0; i < l->n; i++)
        if (chart_shows(f->c, l->x[i], l->y[i])) {
            text_addf(out, "<circle class=\"dot c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>",
                      l->colour % CHART_COLOURS, at_x(f, l->x[i]), at_y(f, l->y[i]));
            html_add(out, l->name);
            text_add(out, ": ");
            text_add_short_double(out, l->y[i]);
            text_add(out, "</title></circle>\n");
        }
}

/* Names beside a stroke of their colour, from right to left above the frame. */
static void add_legend(text *out, const frame *f)
{
    double x = WIDTH - RIGHT;

    for (size_t i = f->c->n_lines; i-- > 0;) {
        const chart_line *const l = &f->c->line[i];
        size_t wide = 0;

        for (const char *p = l->name; *p; p++)
            wide += ((unsigned char)*p & 0xC0) != 0x80;
        add_label(out, x, TOP - 12, "end", "mark", l->name);
        x -= 6.2 * (double)wide + 22;
        text_addf(out, "<path class=\"line c%d%s\" d=\"M%.1f %dh16\"/>\n",
                  l->colour % CHART_COLOURS, l->dashed ? " dashed" : "", x, TOP - 16);
        x -= 14;
    }
}

void chart_svg(text *out, const chart *c)
{
    frame f = {.c = c};

    if (!chart_y_axis(&f.y, c))
        return;
    text_addf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
    html_add(out, c->title);
    text_add(out, "\">\n");
    add_bands(out, &f);
    add_marks(out, &f);
    add_label(out, LEFT, TOP - 12, "start", "title", c->title);
    add_label(out, WIDTH - RIGHT, HEIGHT - 6, "end", "mark", c->x_name);
    for (size_t i = 0; i < c->n_lines; i++) {
        add_path(out, &f, &c->line[i]);
        if (c->line[i].dots)
            add_dots(out, &f, &c->line[i]);
    }
    add_legend(out, &f);
    text_add(out, "</svg>\n");
}
