/*
 * diffview.c - what two checkpoints, runs or recipes differ in, in phase state: who trains with
 * which coefficient, now and at the end of each phase, and where phases lie.
 *
 * Parameters are matched by name. A layer is listed once for all that lies below it where that
 * differs in one way; weights do not matter.
 */
#include "train/train.h"

#include <string.h>

typedef struct diff {
    const outlook *a, *b;
    const thaw_effect *in_a, *in_b; /* of the moment being compared */
    int *other;                     /* [n_params of a] number in b; -1: not there */
    text *out;                      /* of the moment: its lines */
    bool json;
    int n, n_all; /* differences of the moment, and of all */
} diff;

/* ----------------------------------------------------------------------------------------------
 * lines */

static void print_side_json(text *out, const char *side, const stand *s)
{
    text_addf(out, ", \"%s\": {\"state\": \"%s\", \"coefficient\": ", side, stand_state(s));
    if (s->trainable > 0)
        text_add_json_double(out, s->least);
    else
        text_add(out, "null");
    text_add(out, "}");
}

static void add_line(diff *d, const char *name, const stand *a, const stand *b)
{
    text *const t = d->out;

    if (d->json) {
        text_add(t, d->n ? ",\n    {\"layer\": " : "\n    {\"layer\": ");
        text_add_json_string(t, name);
        print_side_json(t, "a", a);
        print_side_json(t, "b", b);
        text_add(t, "}");
    } else {
        text_addf(t, "  %s", name[0] ? name : "(all)");
        text_pad(t, 34);
        text_add(t, "  A: ");
        stand_print(t, a, outlook_rate(d->a, d->in_a));
        text_pad(t, 60);
        text_add(t, "  B: ");
        stand_print(t, b, outlook_rate(d->b, d->in_b));
        text_add(t, "\n");
    }
    d->n++;
}

static stand stand_of_param(const thaw_effect *e, int p, int64_t numel)
{
    const double scale = e->trainable[p] ? e->lr_scale[p] : 0;

    return (stand){e->trainable[p] ? numel : 0, numel, scale, scale};
}

static bool same_at(const thaw_effect *x, int p, const thaw_effect *y, int q)
{
    return x->trainable[p] == y->trainable[q] &&
           (!x->trainable[p] || x->lr_scale[p] == y->lr_scale[q]);
}

static void compare_param(diff *d, int p)
{
    const tree_param *const it = &d->a->model->tree->param[p];
    const int q = d->other[p];
    stand a, b;

    if (q < 0 || same_at(d->in_a, p, d->in_b, q))
        return;
    a = stand_of_param(d->in_a, p, it->numel);
    b = stand_of_param(d->in_b, q, it->numel);
    add_line(d, it->name, &a, &b);
}

/* All at or below a module stands the same on each side, and is on both. */
static bool uniform(const diff *d, const tree_module *m)
{
    const int first = m->param_begin;

    for (int p = first; p < m->param_end; p++)
        if (d->other[p] < 0 || !same_at(d->in_a, p, d->in_a, first) ||
            !same_at(d->in_b, d->other[p], d->in_b, d->other[first]))
            return false;
    return true;
}

static void compare_layers(diff *d)
{
    const thaw_tree *const t = d->a->model->tree;

    for (int i = 0, next; i < t->n_modules; i = next) {
        const tree_module *const m = &t->module[i];
        const int p = m->param_begin;

        next = m->end;
        if (p == m->param_end)
            continue;
        if (!uniform(d, m)) {
            next = i + 1;
            for (int own = p; own < m->own_end; own++)
                compare_param(d, own);
        } else if (!same_at(d->in_a, p, d->in_b, d->other[p])) {
            const stand a = stand_of_param(d->in_a, p, 1);
            const stand b = stand_of_param(d->in_b, d->other[p], 1);

            add_line(d, m->path, &a, &b);
        }
    }
}

/* ----------------------------------------------------------------------------------------------
 * moments */

static void end_moment(text *all, diff *d, int phase)
{
    if (d->n > 0 && d->json) {
        text_add(all, d->n_all ? ",\n  {\"moment\": " : "\n  {\"moment\": ");
        if (phase < 0)
            text_add(all, "\"now\"");
        else
            text_addf(all, "\"phase\", \"phase\": %d", phase + 1);
        text_addf(all, ", \"differences\": [%s]}", d->out->data);
    } else if (d->n > 0) {
        if (phase < 0)
            text_add(all, "now:\n");
        else
            text_addf(all, "phase %d '%s':\n", phase + 1,
                      thaw_schedule_phase_name(d->a->schedule, phase));
        text_add(all, d->out->data);
    }
    d->n_all += d->n;
    d->n = 0;
    d->out->length = 0;
}

static void add_numbers(diff *d, const char *what, double a, double b)
{
    text *const t = d->out;

    if (a == b)
        return;
    if (d->json)
        text_addf(t, "%s\n    {\"%s\": {\"a\": ", d->n ? "," : "", what);
    else
        text_addf(t, "  %s: ", what);
    text_add_json_double(t, a);
    text_add(t, d->json ? ", \"b\": " : " in A, ");
    text_add_json_double(t, b);
    text_add(t, d->json ? "}}" : " in B\n");
    d->n++;
}

/* Where a phase is planned to lie, whatever metrics have ended meanwhile. */
static void compare_plans(diff *d, int phase)
{
    const thaw_progress start = {0};
    int64_t begin[2], end[2];

    thaw_schedule_phase_span(&begin[0], &end[0], d->a->schedule, &start, phase);
    thaw_schedule_phase_span(&begin[1], &end[1], d->b->schedule, &start, phase);
    add_numbers(d, "steps", (double)(end[0] - begin[0]), (double)(end[1] - begin[1]));
    add_numbers(d, "lr", outlook_rate(d->a, d->in_a), outlook_rate(d->b, d->in_b));
}

static thaw_status compare_moments(text *all, diff *d)
{
    const int n_a = thaw_schedule_n_phases(d->a->schedule);
    const int n_b = thaw_schedule_n_phases(d->b->schedule);

    if (d->a->record && d->b->record) {
        const thaw_progress in_a = outlook_now(d->a), in_b = outlook_now(d->b);

        THAW_CHECK(thaw_schedule_effect(&d->in_a, d->a->schedule, &in_a));
        THAW_CHECK(thaw_schedule_effect(&d->in_b, d->b->schedule, &in_b));
        compare_layers(d);
        end_moment(all, d, -1);
    }
    for (int p = 0; p < THAW_MIN(n_a, n_b); p++) {
        THAW_CHECK(outlook_effect(&d->in_a, d->a, p, true));
        THAW_CHECK(outlook_effect(&d->in_b, d->b, p, true));
        compare_plans(d, p);
        compare_layers(d);
        end_moment(all, d, p);
    }
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * networks */

static void add_only(text *all, diff *d, const char *side, const thaw_tree *has,
                     const thaw_tree *lacks)
{
    int n = 0;

    if (d->json)
        text_addf(all, ", \"only_%s\": [", side);
    for (int p = 0; p < has->n_params; p++) {
        if (thaw_tree_find_param(lacks, has->param[p].name) >= 0)
            continue;
        if (d->json) {
            text_add(all, n ? ", " : "");
            text_add_json_string(all, has->param[p].name);
        } else {
            text_addf(all, "only in %s: %s\n", side, has->param[p].name);
        }
        n++;
    }
    text_add(all, d->json ? "]" : "");
    d->n_all += n;
}

static void add_origin(text *all, const char *side, const outlook *o, bool json)
{
    if (json) {
        text_addf(all, ", \"%s\": {\"phases\": %d", side, thaw_schedule_n_phases(o->schedule));
        if (o->record)
            text_addf(all, ", \"phase\": %d, \"iteration\": %lld", outlook_phase(o) + 1,
                      (long long)o->record->iteration);
        text_add(all, "}");
        return;
    }
    text_addf(all, "%s: %s, %d phases", side, o->record ? o->checkpoint : o->recipe->name,
              thaw_schedule_n_phases(o->schedule));
    if (o->record)
        text_addf(all, "; iteration %lld, in phase %d", (long long)o->record->iteration,
                  outlook_phase(o) + 1);
    text_add(all, "\n");
}

static void print_all(text *out, diff *d, const text *moments, const text *only)
{
    const bool differ = d->n_all > 0;

    if (d->json)
        text_addf(out, "{\"differ\": %s", differ ? "true" : "false");
    add_origin(out, d->json ? "a" : "A", d->a, d->json);
    add_origin(out, d->json ? "b" : "B", d->b, d->json);
    text_add(out, only->data ? only->data : "");
    text_add(out, d->json ? ", \"moments\": [" : "");
    text_add(out, moments->data ? moments->data : "");
    if (d->json)
        text_add(out, "\n]}\n");
    else if (!differ)
        text_add(out, "the same phase state\n");
}

thaw_status diff_view(text *out, bool *differ, const outlook *a, const outlook *b, bool json)
{
    const thaw_tree *const in_a = a->model->tree, *const in_b = b->model->tree;
    text lines = TEXT_INIT, moments = TEXT_INIT, only = TEXT_INIT;
    diff d = {.a = a, .b = b, .json = json, .out = &lines};
    thaw_status status = THAW_OK;

    d.other = thaw__new((size_t)in_a->n_params, sizeof *d.other);
    if (!d.other) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for comparing phases");
        goto done;
    }
    for (int p = 0; p < in_a->n_params; p++)
        d.other[p] = thaw_tree_find_param(in_b, in_a->param[p].name);
    THAW_TRY(compare_moments(&moments, &d));
    add_only(&only, &d, json ? "a" : "A", in_a, in_b);
    add_only(&only, &d, json ? "b" : "B", in_b, in_a);
    d.n_all += thaw_schedule_n_phases(a->schedule) != thaw_schedule_n_phases(b->schedule);
    print_all(out, &d, &moments, &only);
    if (lines.failed || moments.failed || only.failed) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for comparing phases");
        goto done;
    }
    *differ = d.n_all > 0;
done:
    thaw__free(d.other);
    text_done(&lines);
    text_done(&moments);
    text_done(&only);
    return status;
}
