/*
 * curve.c - learning-rate curves as closed forms of the update number: nothing to save, nothing to
 * drift.
 */
#include "optim/optim.h"

#include <math.h>
#include <string.h>

static double constant_at(const curve_config *c, double t, double total)
{
    (void)c;
    (void)t;
    (void)total;
    return 1;
}

static double step_at(const curve_config *c, double t, double total)
{
    (void)total;
    return pow(c->gamma, floor(t / c->step_size));
}

/* Share of the curve behind us, in [0, 1]. */
static double part_done(double t, double total)
{
    return total > 0 ? fmin(1, t / total) : 1;
}

static double cosine_at(const curve_config *c, double t, double total)
{
    const double pi = 3.14159265358979323846;

    return c->least + (1 - c->least) * 0.5 * (1 + cos(pi * part_done(t, total)));
}

static double linear_at(const curve_config *c, double t, double total)
{
    return 1 - (1 - c->least) * part_done(t, total);
}

static const curve_rule curve_table[] = {
    {"constant", "1 throughout", constant_at},
    {"step", "gamma to the power of the number of whole step_size gone by", step_at},
    {"cosine",
     "half a cosine from 1 to least over the curve's length (Loshchilov and Hutter, 2017, equation "
     "5)",
     cosine_at},
    {"linear", "straight from 1 to least over the curve's length", linear_at},
};

const curve_rule *curve_rules(size_t *n)
{
    *n = THAW_COUNT(curve_table);
    return curve_table;
}

const curve_rule *curve_find(const char *name)
{
    for (size_t i = 0; i < THAW_COUNT(curve_table); i++)
        if (strcmp(curve_table[i].name, name) == 0)
            return &curve_table[i];
    return NULL;
}

double curve_at(const curve_config *c, int64_t t, int64_t total)
{
    const double unit = c->per_epoch && c->updates_per_epoch > 0 ? c->updates_per_epoch : 1;
    const double warmup = c->warmup * unit;
    double now, length;

    if ((double)t < warmup)
        return ((double)t + 1) / (warmup + 1);
    now = (double)t - warmup;
    length = (double)total - warmup;
    if (c->per_epoch)
        return c->rule->at(c, floor(now / unit), length / unit);
    return c->rule->at(c, now, length);
}
