/*
 * report_read.c - what a run did, from its events.jsonl.
 *
 * The file may be long: it is read in pieces, line by line, and the steps are thinned while they
 * come in, so memory does not grow with the run. It may also end in the middle of a line, where a
 * crash cut it; such lines are counted and left out.
 */
#include "train/train.h"

#include "train/report.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#define PIECE       (1u << 18)
#define LINE_MOST   (1u << 20) /* a longer one is no event */
#define PHASES_MOST 100000

static thaw_status fail_memory(void)
{
    return thaw_fail(THAW_E_NOMEM, "out of memory for the report of a run");
}

/* ----------------------------------------------------------------------------------------------
 * fields of one event */

static double number_of(const json_t *e, const char *key)
{
    const json_t *const v = json_object_get(e, key);

    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

/* 0 or more; what is no count is 0. */
static int64_t count_of(const json_t *e, const char *key)
{
    const json_t *const v = json_object_get(e, key);

    return json_is_integer(v) ? THAW_MAX((int64_t)json_integer_value(v), 0) : 0;
}

/* From 0; -1: none. */
static int phase_number(const json_t *e)
{
    const int64_t number = count_of(e, "phase");

    return number <= PHASES_MOST ? (int)number - 1 : -1;
}

/* A copy that lives as long as the report; "" where there is none. */
static const char *word_of(report_data *r, const json_t *e, const char *key)
{
    const char *const s = json_string_value(json_object_get(e, key));
    const char *const copy = region_strdup(r->region, s ? s : "");

    return copy ? copy : "";
}

/* The phase an event belongs to, made if it is new; NULL: the event names none, or no memory. */
static report_phase *phase_of(report_data *r, const json_t *e)
{
    const int i = phase_number(e);
    report_phase *bigger;

    if (i < 0)
        return NULL;
    if (i >= r->n_phases) {
        bigger = thaw__resize(r->phase, (size_t)i + 1, sizeof *bigger);
        if (!bigger)
            return NULL;
        r->phase = bigger;
        for (; r->n_phases <= i; r->n_phases++)
            r->phase[r->n_phases] = (report_phase){
                .name = "", .loss = (double)NAN, .metric = (double)NAN, .rate = (double)NAN};
    }
    return &r->phase[i];
}

/* ----------------------------------------------------------------------------------------------
 * one event of each kind */

/* Every two points become one. */
static void thin(report_data *r)
{
    for (size_t i = 0; i + 1 < r->n_steps; i += 2) {
        const report_step *const a = &r->step[i];
        report_step merged = r->step[i + 1];

        if (a->phase == merged.phase) {
            merged.loss = (a->loss + merged.loss) / 2;
            merged.grad_norm = (a->grad_norm + merged.grad_norm) / 2;
            merged.rate = (a->rate + merged.rate) / 2;
        }
        r->step[i / 2] = merged;
    }
    r->n_steps /= 2;
    r->stride *= 2;
}

static thaw_status add_step(report_data *r, const json_t *e)
{
    const report_step s = {.iteration = number_of(e, "iteration"),
                           .epoch = number_of(e, "epoch"),
                           .loss = number_of(e, "loss"),
                           .smoothed = number_of(e, "loss_smoothed"),
                           .grad_norm = number_of(e, "grad_norm"),
                           .lr = number_of(e, "lr"),
                           .lr_least = number_of(e, "lr_least"),
                           .lr_most = number_of(e, "lr_most"),
                           .rate = number_of(e, "rate"),
                           .phase = phase_number(e)};
    report_phase *const p = phase_of(r, e);

    if (p)
        p->to = THAW_MAX(p->to, count_of(e, "iteration"));
    if (r->in_last > 0 && r->in_last < r->stride && r->step[r->n_steps - 1].phase == s.phase) {
        report_step *const last = &r->step[r->n_steps - 1];
        const double loss = last->loss + (s.loss - last->loss) / (double)(r->in_last + 1);

        *last = s;
        last->loss = loss;
        r->in_last++;
        return THAW_OK;
    }
    if (r->n_steps == REPORT_STEPS)
        thin(r);
    THAW_CHECK(thaw__reserve(&r->step, &r->cap_steps, r->n_steps + 1, sizeof *r->step));
    r->step[r->n_steps++] = s;
    r->in_last = 1;
    return THAW_OK;
}

static thaw_status add_eval(report_data *r, const json_t *e)
{
    THAW_CHECK(thaw__reserve(&r->eval, &r->cap_evals, r->n_evals + 1, sizeof *r->eval));
    r->eval[r->n_evals++] = (report_eval){.iteration = number_of(e, "iteration"),
                                          .epoch = number_of(e, "epoch"),
                                          .loss = number_of(e, "loss"),
                                          .metric = number_of(e, "metric"),
                                          .phase = phase_number(e),
                                          .best = json_is_true(json_object_get(e, "best")),
                                          .split = word_of(r, e, "split"),
                                          .metric_name = word_of(r, e, "metric_name")};
    return THAW_OK;
}

static thaw_status add_note(report_data *r, const json_t *e)
{
    if (!json_is_string(json_object_get(e, "text")))
        return THAW_OK;
    THAW_CHECK(thaw__reserve(&r->note, &r->cap_notes, r->n_notes + 1, sizeof *r->note));
    r->note[r->n_notes++] = (report_note){.iteration = count_of(e, "iteration"),
                                          .kind = word_of(r, e, "event"),
                                          .text = word_of(r, e, "text")};
    return THAW_OK;
}

static thaw_status add_run(report_data *r, const json_t *e)
{
    r->baseline = number_of(e, "baseline");
    r->ending = NULL;
    return add_note(r, e);
}

static thaw_status add_phase(report_data *r, const json_t *e)
{
    report_phase *const p = phase_of(r, e);

    if (!p)
        return THAW_OK;
    p->name = word_of(r, e, "phase_name");
    if (!p->began)
        p->from = p->to = count_of(e, "iteration");
    p->began = true;
    p->trainable = count_of(e, "trainable");
    p->total = count_of(e, "total");
    p->lr_least = number_of(e, "lr_least");
    p->lr_most = number_of(e, "lr_most");
    return add_note(r, e);
}

static thaw_status add_phase_end(report_data *r, const json_t *e)
{
    report_phase *const p = phase_of(r, e);

    if (!p)
        return THAW_OK;
    p->ended = true;
    p->to = count_of(e, "iteration");
    p->loss = number_of(e, "loss");
    p->metric = number_of(e, "metric");
    p->seconds = number_of(e, "seconds");
    p->rate = number_of(e, "rate");
    p->skipped = count_of(e, "skipped");
    p->peak = (uint64_t)count_of(e, "peak_bytes");
    r->peak = THAW_MAX(r->peak, p->peak);
    return THAW_OK;
}

static thaw_status add_end(report_data *r, const json_t *e)
{
    r->ending = word_of(r, e, "text");
    r->peak = THAW_MAX(r->peak, (uint64_t)count_of(e, "peak_bytes"));
    return THAW_OK;
}

static const struct event_row {
    const char *name;
    thaw_status (*add)(report_data *r, const json_t *e);
} event_table[] = {
    {"step", add_step},           {"eval", add_eval}, {"run", add_run}, {"phase", add_phase},
    {"phase_end", add_phase_end}, {"note", add_note}, {"end", add_end},
};

static thaw_status take_line(report_data *r, const char *line, size_t n)
{
    json_t *e = NULL;
    thaw_status status = json_parse(&e, line, n, "events.jsonl");
    const char *const name = json_string_value(json_object_get(e, "event"));

    if (status == THAW_E_NOMEM)
        return status;
    status = THAW_OK;
    if (!name)
        r->broken++;
    for (size_t i = 0; name && i < THAW_COUNT(event_table); i++)
        if (strcmp(event_table[i].name, name) == 0)
            status = event_table[i].add(r, e);
    json_decref(e);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * the file */

/* Lines of a piece; what is left of it, at its end, is moved to its start. */
static thaw_status take_lines(report_data *r, char *buffer, size_t *held)
{
    size_t from = 0;

    for (;;) {
        const char *const end = memchr(buffer + from, '\n', *held - from);

        if (!end)
            break;
        THAW_CHECK(take_line(r, buffer + from, (size_t)(end - buffer) - from));
        from = (size_t)(end - buffer) + 1;
    }
    *held -= from;
    memmove(buffer, buffer + from, *held);
    return THAW_OK;
}

static thaw_status read_lines(report_data *r, const char *path)
{
    char *const buffer = thaw__alloc(LINE_MOST);
    size_t held = 0;
    int64_t size = 0;
    int fd = -1;
    thaw_status status;

    if (!buffer)
        return fail_memory();
    THAW_TRY(os_open_file(&fd, &size, path));
    for (int64_t at = 0; at < size;) {
        const size_t n = (size_t)THAW_MIN((int64_t)THAW_MIN(PIECE, LINE_MOST - held), size - at);

        THAW_TRY(os_pread_all(fd, buffer + held, n, at, path));
        at += (int64_t)n;
        held += n;
        THAW_TRY(take_lines(r, buffer, &held));
        if (held == LINE_MOST) { /* no line end in all of it: what follows it is a line again */
            r->broken++;
            held = 0;
        }
    }
    r->broken += held > 0;
done:
    if (fd >= 0)
        os_close(fd);
    thaw__free(buffer);
    return status;
}

thaw_status report_read(report_data **out, const char *run)
{
    report_data *r = thaw__new(1, sizeof *r);
    char *path = os_path(run, EVENTS_NAME);
    thaw_status status;

    if (!r || !path) {
        status = fail_memory();
        goto done;
    }
    r->stride = 1;
    r->baseline = (double)NAN;
    THAW_TRY(region_create(&r->region));
    r->run = region_strdup(r->region, run);
    if (!r->run) {
        status = fail_memory();
        goto done;
    }
    if (os_kind_of(path) != OS_FILE) {
        status = thaw_fail(THAW_E_MISSING,
                           "'%s' is no run: it has no events.jsonl; give the folder that `thaw "
                           "train` wrote",
                           run);
        goto done;
    }
    THAW_TRY(read_lines(r, path));
    if (r->n_phases == 0) {
        status = thaw_fail(THAW_E_DATA, "'%s' tells of no phase; the run has not begun", path);
        goto done;
    }
    *out = r;
    r = NULL;
done:
    thaw__free(path);
    report_destroy(r);
    return status;
}

void report_destroy(report_data *r)
{
    if (!r)
        return;
    for (int i = 0; i < r->judgement.n_mistakes; i++)
        thaw__free(r->judgement.mistake[i].png);
    thaw__free(r->judgement.mistake);
    thaw__free(r->judgement.confusion);
    thaw__free(r->step);
    thaw__free(r->eval);
    thaw__free(r->phase);
    thaw__free(r->note);
    region_destroy(r->region);
    thaw__free(r);
}

const report_eval *report_best(const report_data *r)
{
    const report_eval *found = NULL;

    for (size_t i = 0; i < r->n_evals; i++)
        if (r->eval[i].best || !found)
            found = &r->eval[i];
    return found;
}
