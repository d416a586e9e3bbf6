/*
 * notes.c - what is allowed in a schedule and yet rarely meant: a person should know before
 * training starts.
 */
#include "core/core.h"

#include <math.h>
#include <string.h>

static void add_line(text *t, const char *line)
{
    text_addf(t, "%s%s", t->length ? "\n" : "", line);
}

/* C6: a coefficient of 1 removes an entry, and the layer inherits. */
static void note_inherited(text *t, const schedule_phase *p, const schedule_change *c,
                           const phase_state *state)
{
    for (int i = 0; i < c->layers.n; i++) {
        const int m = c->layers.module[i];
        const double now = phase_state_coefficient_at(state, m);
        text line = TEXT_INIT;

        if (now == 1.0)
            continue;
        text_addf(&line,
                  "phase '%s': a coefficient of 1 removes the entry of '%s', which then "
                  "inherits ",
                  p->options.name, state->tree->module[m].path);
        text_add_double(&line, now);
        text_add(&line, "; pin it to give it 1");
        t->failed = t->failed || line.failed;
        add_line(t, line.failed ? "" : line.data);
        text_done(&line);
        return;
    }
}

static thaw_status note_coefficients(text *t, thaw_schedule *s)
{
    phase_state_reset(&s->state);
    for (int i = 0; i < s->n_phases; i++)
        for (int k = 0; k < s->phase[i].changes.n; k++) {
            const schedule_change *c = &s->phase[i].changes.item[k];

            THAW_CHECK(phase_state_apply(&s->state, c));
            if (c->type == SCHEDULE_COEFFICIENT && c->coefficient == 1.0)
                note_inherited(t, &s->phase[i], c, &s->state);
        }
    return THAW_OK;
}

/* C7c: no group at all is legal, and a phase for nothing. */
static thaw_status note_idle_phases(text *t, thaw_schedule *s)
{
    for (int i = 0; i < s->n_phases; i++) {
        const thaw_progress start = {0};
        thaw_progress at = {0};
        const thaw_effect *e;
        int64_t end;
        int n = 0;
        text line = TEXT_INIT;

        thaw_schedule_phase_span(&at.iteration, &end, s, &start, i);
        if (end == at.iteration)
            continue;
        THAW_CHECK(thaw_schedule_effect(&e, s, &at));
        for (int p = 0; p < e->n_params; p++)
            n += e->updated[p] && e->lr_scale[p] > 0;
        if (n)
            continue;
        text_addf(&line, "phase '%s': nothing is trained", s->phase[i].options.name);
        t->failed = t->failed || line.failed;
        add_line(t, line.failed ? "" : line.data);
        text_done(&line);
    }
    return THAW_OK;
}

/* C22: an alias may be empty, but hardly on purpose. */
static thaw_status note_empty_aliases(text *t, const thaw_schedule *s)
{
    for (int i = 0; i < s->n_aliases; i++) {
        selection hits;
        text line = TEXT_INIT;

        THAW_CHECK(thaw__match_params(&hits, s->tree, s->alias[i].pattern, s->alias[i].n, true));
        if (hits.n == 0) {
            text_addf(&line, "alias '%s' matches no parameter", s->alias[i].name);
            t->failed = t->failed || line.failed;
            add_line(t, line.failed ? "" : line.data);
        }
        text_done(&line);
        selection_done(&hits);
    }
    return THAW_OK;
}

static bool share_a_parameter(const selection *a, const selection *b)
{
    for (int i = 0, k = 0; i < a->n && k < b->n;) {
        if (a->module[i] == b->module[k])
            return true;
        if (a->module[i] < b->module[k])
            i++;
        else
            k++;
    }
    return false;
}

/* Number k of all lists that may hold specs; NULL past the last. */
static const change_list *list_at(const thaw_schedule *s, int k)
{
    if (k == 0)
        return &s->base;
    if (k <= s->n_phases)
        return &s->phase[k - 1].changes;
    return k <= s->n_phases + s->n_stages ? &s->stage[k - 1 - s->n_phases].changes : NULL;
}

static bool overlaps(const schedule_change *a, const schedule_change *b)
{
    return b->type == SCHEDULE_SPEC && a->frozen != b->frozen &&
           strcmp(a->module, b->module) != 0 && share_a_parameter(&a->layers, &b->layers);
}

/* C16: aliases that overlap mean something else in another order. */
static void note_overlaps(text *t, const thaw_schedule *s, const schedule_change *a, int list,
                          int item)
{
    for (; list_at(s, list); list++, item = 0)
        for (; item < list_at(s, list)->n; item++) {
            const schedule_change *b = &list_at(s, list)->item[item];
            text line = TEXT_INIT;

            if (!overlaps(a, b))
                continue;
            text_addf(&line, "'%s' and '%s' overlap and differ; the later one holds where they do",
                      a->module, b->module);
            t->failed = t->failed || line.failed;
            if (!line.failed && !(t->data && strstr(t->data, line.data)))
                add_line(t, line.data);
            text_done(&line);
        }
}

thaw_status thaw_schedule_notes(char **out, thaw_schedule *s)
{
    thaw_status status = THAW_OK;
    text t = TEXT_INIT;

    if (!s->sealed)
        return thaw_fail(THAW_E_USAGE, "the schedule is not sealed");
    THAW_TRY(note_coefficients(&t, s));
    THAW_TRY(note_idle_phases(&t, s));
    THAW_TRY(note_empty_aliases(&t, s));
    for (int k = 0; list_at(s, k); k++)
        for (int i = 0; i < list_at(s, k)->n; i++)
            if (list_at(s, k)->item[i].type == SCHEDULE_SPEC)
                note_overlaps(&t, s, &list_at(s, k)->item[i], k, i + 1);
    text_add(&t, "");
    THAW_TRY(text_take(out, &t, "notes on a schedule"));
done:
    text_done(&t);
    return status;
}
