/*
 * events.c - telling what happens: every event gets the fields all events have, a line in the run's
 * events.jsonl, and goes to the caller, who may ask to stop. Failing to write the history never
 * stops training.
 */
#include "train/train.h"

#include <fcntl.h>
#include <math.h>
#include <string.h>

static const char *const kind_name[] = {
    [THAW_EVENT_RUN] = "run",
    [THAW_EVENT_PHASE] = "phase",
    [THAW_EVENT_STEP] = "step",
    [THAW_EVENT_EVAL] = "eval",
    [THAW_EVENT_SAVE] = "save",
    [THAW_EVENT_PHASE_END] = "phase_end",
    [THAW_EVENT_NOTE] = "note",
    [THAW_EVENT_END] = "end",
    [THAW_EVENT_SAVE_FAILED] = "save_failed",
};

/* Fields of an event in JSON, one row each; `kinds` has a bit for each kind that shows it. */
#define BIT(kind) (1u << (kind))
#define RUN       BIT(THAW_EVENT_RUN)
#define PHASE     BIT(THAW_EVENT_PHASE)
#define STEP      BIT(THAW_EVENT_STEP)
#define EVAL      BIT(THAW_EVENT_EVAL)
#define SAVE      BIT(THAW_EVENT_SAVE)
#define PHASE_END BIT(THAW_EVENT_PHASE_END)
#define END       BIT(THAW_EVENT_END)
#define ALL       (~0u)

/* FIELD_KNOWN: a double that is left out where it is not a number. */
enum field_type { FIELD_INT, FIELD_INT64, FIELD_DOUBLE, FIELD_KNOWN, FIELD_TEXT, FIELD_BOOL };
#define FIELD(type, kinds, name)                                                                   \
    {                                                                                              \
        type, kinds, #name, offsetof(thaw_event, name)                                             \
    }
static const struct field_row {
    enum field_type type;
    unsigned kinds;
    const char *name;
    size_t offset;
} field_table[] = {
    FIELD(FIELD_INT, ALL, phase),
    FIELD(FIELD_INT, ALL, n_phases),
    FIELD(FIELD_TEXT, PHASE | PHASE_END | EVAL, phase_name),
    FIELD(FIELD_INT64, ALL, iteration),
    FIELD(FIELD_DOUBLE, ALL, epoch),
    FIELD(FIELD_INT64, PHASE | STEP | PHASE_END, phase_step),
    FIELD(FIELD_INT64, PHASE | STEP | PHASE_END, phase_steps),
    FIELD(FIELD_TEXT, EVAL, split),
    FIELD(FIELD_DOUBLE, STEP | EVAL | PHASE_END, loss),
    FIELD(FIELD_DOUBLE, STEP, loss_smoothed),
    FIELD(FIELD_TEXT, EVAL, metric_name),
    FIELD(FIELD_DOUBLE, EVAL | PHASE_END, metric),
    FIELD(FIELD_KNOWN, EVAL, mae),
    FIELD(FIELD_BOOL, EVAL, best),
    FIELD(FIELD_DOUBLE, STEP | PHASE | PHASE_END, lr),
    FIELD(FIELD_DOUBLE, STEP | PHASE | PHASE_END, lr_least),
    FIELD(FIELD_DOUBLE, STEP | PHASE | PHASE_END, lr_most),
    FIELD(FIELD_DOUBLE, STEP, grad_norm),
    FIELD(FIELD_DOUBLE, STEP | EVAL | PHASE_END, rate),
    FIELD(FIELD_DOUBLE, STEP | PHASE_END, waited),
    FIELD(FIELD_DOUBLE, EVAL | PHASE_END, seconds),
    FIELD(FIELD_DOUBLE, STEP, seconds_left),
    FIELD(FIELD_INT64, RUN | PHASE | PHASE_END, trainable),
    FIELD(FIELD_INT64, RUN | PHASE | PHASE_END, total),
    FIELD(FIELD_DOUBLE, RUN, baseline),
    FIELD(FIELD_INT64, PHASE_END | END, peak_bytes),
    FIELD(FIELD_INT64, PHASE | PHASE_END, planned_bytes),
    FIELD(FIELD_INT, STEP | PHASE_END, skipped),
    FIELD(FIELD_INT64, STEP | EVAL, cache_hits),
    FIELD(FIELD_INT64, STEP | EVAL, cache_misses),
    FIELD(FIELD_TEXT, ALL, text),
};

static void print_field(text *out, const thaw_event *e, const struct field_row *f)
{
    const char *at = (const char *)e + f->offset;
    const char *words;
    int64_t big;
    double real;
    int number;
    bool flag;

    if (f->type == FIELD_TEXT) {
        memcpy(&words, at, sizeof words);
        if (!words)
            return;
    }
    if (f->type == FIELD_KNOWN) {
        memcpy(&real, at, sizeof real);
        if (isnan(real))
            return;
    }
    text_addf(out, ", \"%s\": ", f->name);
    switch (f->type) {
    case FIELD_INT:
        memcpy(&number, at, sizeof number);
        text_addf(out, "%d", number);
        break;
    case FIELD_INT64:
        memcpy(&big, at, sizeof big);
        text_addf(out, "%lld", (long long)big);
        break;
    case FIELD_DOUBLE:
    case FIELD_KNOWN:
        memcpy(&real, at, sizeof real);
        text_add_json_double(out, real);
        break;
    case FIELD_TEXT:
        text_add_json_string(out, words);
        break;
    case FIELD_BOOL:
        memcpy(&flag, at, sizeof flag);
        text_add(out, flag ? "true" : "false");
        break;
    }
}

void event_print_json(text *out, const thaw_event *e)
{
    text_addf(out, "{\"event\": \"%s\"", kind_name[e->kind]);
    for (size_t i = 0; i < THAW_COUNT(field_table); i++)
        if (field_table[i].kinds & BIT(e->kind))
            print_field(out, e, &field_table[i]);
    text_add(out, "}\n");
}

static void fill_common(thaw_event *e, const trainer *t)
{
    const run_state *s = &t->state;
    const thaw_progress progress = {
        .iteration = s->iteration, .fired = s->fired, .n_fired = s->n_fired};
    const int phase = t->phase < 0 ? 0 : t->phase;
    int64_t begin, end;

    thaw_schedule_phase_span(&begin, &end, t->job->schedule, &progress, phase);
    e->phase = phase + 1;
    e->n_phases = thaw_schedule_n_phases(t->job->schedule);
    e->phase_name = thaw_schedule_phase_name(t->job->schedule, phase);
    e->iteration = s->iteration;
    e->phase_step = s->iteration - begin;
    e->phase_steps = end - begin;
    e->epoch = (double)s->epoch + (double)s->index / (double)t->job->train->n;
    e->loss_smoothed = s->loss_smoothed;
    e->peak_bytes = os_memory_peak();
}

/* ----------------------------------------------------------------------------------------------
 * the history of a run: whole lines, `events_bytes` of them at any time
 */

/* Where the last whole line among the first n bytes ends. */
static thaw_status end_of_lines(int64_t *out, int fd, int64_t n)
{
    char piece[4096];

    while (n > 0) {
        const int64_t size = THAW_MIN(n, (int64_t)sizeof piece);

        n -= size;
        THAW_CHECK(os_pread_all(fd, piece, (size_t)size, n, EVENTS_NAME));
        for (int64_t i = size; i > 0; i--)
            if (piece[i - 1] == '\n') {
                *out = n + i;
                return THAW_OK;
            }
    }
    *out = 0;
    return THAW_OK;
}

/* Bytes of the history that is there, and how many of them, up to `most`, are whole lines. */
static thaw_status measure_history(int64_t *bytes, int64_t *whole, const char *path, int64_t most)
{
    thaw_status status;
    int fd = -1;

    *bytes = *whole = 0;
    if (os_kind_of(path) == OS_ABSENT)
        return THAW_OK;
    THAW_CHECK(os_open_file(&fd, bytes, path));
    status = end_of_lines(whole, fd, THAW_MIN(*bytes, most));
    os_close(fd);
    return status;
}

/* What came after the checkpoint is made again. After lost power there may be less than the
 * checkpoint knew of: then some lines are missing, and what follows them is still right. */
thaw_status events_open(trainer *t, const char *run)
{
    char *path = os_path(run, EVENTS_NAME);
    thaw_status status = THAW_OK;
    int64_t bytes, whole;

    if (!path)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the path of a run's history");
    THAW_TRY(measure_history(&bytes, &whole, path, t->state.events_bytes));
    t->events_fd = os_open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (t->events_fd < 0)
        status = os_fail(THAW_E_CREATE, "open", path);
    else if (bytes > whole && os()->truncate(t->events_fd, whole) != 0)
        status = os_fail(THAW_E_IO, "cut", path);
    else
        t->state.events_bytes = whole;
done:
    thaw__free(path);
    return status;
}

/* Half a line that could not be ended is taken away before anything is written behind it. */
static bool mend_history(trainer *t)
{
    if (t->events_torn && os()->truncate(t->events_fd, t->state.events_bytes) == 0)
        t->events_torn = false;
    return !t->events_torn;
}

static void write_history(trainer *t, const thaw_event *e)
{
    text line = TEXT_INIT;

    if (t->events_fd < 0 || !mend_history(t))
        return;
    event_print_json(&line, e);
    if (!line.failed) {
        if (os_write_all(t->events_fd, line.data, line.length, EVENTS_NAME) == THAW_OK)
            t->state.events_bytes += (int64_t)line.length;
        else
            t->events_torn = true;
    }
    text_done(&line);
}

void trainer_tell(trainer *t, thaw_event *e)
{
    fill_common(e, t);
    write_history(t, e);
    if (t->options->on_event && !t->options->on_event(t->options->user, e))
        t->stop = true;
}
