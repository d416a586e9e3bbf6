/*
 * report_chart.c - where the axes of a chart lie, in round numbers, as a person would choose them;
 * and how a metric is written.
 */
#include "train/train.h"

#include "train/report.h"

#include <math.h>
#include <string.h>

/* 1, 2 or 5 times a power of ten, at least x. */
static double round_up(double x)
{
    static const double mantissa[] = {1, 2, 5, 10};
    const double power = pow(10, floor(log10(x)));

    for (size_t i = 0; i < THAW_COUNT(mantissa); i++)
        if (mantissa[i] * power >= x * (1 - 1e-9))
            return mantissa[i] * power;
    return 10 * power;
}

/* Ends that differ by less than a millionth of their size are one value: marks between them would
 * be too close for a double to step from one to the next. */
chart_axis chart_marks(double least, double most, int about)
{
    const double size = THAW_MAX(fabs(least), fabs(most));
    const double span =
        most - least > THAW_MAX(1e-6 * size, 1e-300) ? most - least : THAW_MAX(size, 1e-3);
    const double step = round_up(span / about);

    return (chart_axis){.least = floor(least / step + 1e-9) * step,
                        .most = ceil(most / step - 1e-9) * step,
                        .step = step};
}

void report_metric(text *out, const char *name, double x)
{
    if (!isfinite(x))
        text_add(out, "–");
    else if (strcmp(name, "accuracy") == 0)
        text_addf(out, "%.2f%%", 100 * x);
    else
        text_add_short_double(out, x);
}

bool chart_shows(const chart *c, double x, double y)
{
    return x >= c->x_least && x <= c->x_most && fabs(y) < 1e300 && (!c->logarithmic || y > 0);
}

bool chart_y_axis(chart_axis *out, const chart *c)
{
    double least = HUGE_VAL, most = -HUGE_VAL;

    for (size_t i = 0; i < c->n_lines; i++)
        for (size_t k = 0; k < c->line[i].n; k++) {
            const double y = c->line[i].y[k];

            if (!chart_shows(c, c->line[i].x[k], y))
                continue;
            least = THAW_MIN(least, y);
            most = THAW_MAX(most, y);
        }
    if (least > most)
        return false;
    if (c->logarithmic)
        *out = (chart_axis){.least = floor(log10(least)), .most = ceil(log10(most)), .step = 1};
    else
        *out = chart_marks(least, most, 5);
    if (out->most <= out->least)
        out->most = out->least + out->step;
    return true;
}
