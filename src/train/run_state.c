/*
 * run_state.c - a run's progress as state.json: how far it is, its position in the data, each
 * parameter's own updates, and where its history ends; and taking up a checkpoint, with optimizer
 * state by name. Nothing is matched by position.
 */
#include "train/train.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define STATE_FORMAT 1
#define STATE_MOST   (16u << 20) /* bytes of state.json */

/* Numbers of run_state that are kept, a row each. */
enum number_type { NUMBER_INT, NUMBER_INT64, NUMBER_DOUBLE };
#define ROW(type, member)                                                                          \
    {                                                                                              \
#member, type, offsetof(run_state, member), false                                          \
    }
#define LATER_ROW(type, member)                                                                    \
    {                                                                                              \
#member, type, offsetof(run_state, member), true                                           \
    }
static const struct number_row {
    const char *name;
    enum number_type type;
    size_t offset;
    bool later; /* not in files of the first version: stays what it is without a value */
} number_table[] = {
    ROW(NUMBER_INT64, iteration),
    ROW(NUMBER_INT64, epoch),
    ROW(NUMBER_INT64, index),
    ROW(NUMBER_INT64, updates),
    ROW(NUMBER_INT64, built_at),
    ROW(NUMBER_INT64, images),
    ROW(NUMBER_INT, skipped),
    ROW(NUMBER_INT, skipped_in_row),
    ROW(NUMBER_DOUBLE, loss_smoothed),
    ROW(NUMBER_DOUBLE, best),
    ROW(NUMBER_INT64, best_iteration),
    ROW(NUMBER_DOUBLE, phase_best),
    ROW(NUMBER_INT64, phase_best_iteration),
    ROW(NUMBER_INT, phase_stale),
    ROW(NUMBER_DOUBLE, phase_seconds),
    ROW(NUMBER_INT64, phase_images),
    ROW(NUMBER_INT, phase_skipped),
    ROW(NUMBER_INT64, events_bytes),
    ROW(NUMBER_DOUBLE, last_loss),
    ROW(NUMBER_DOUBLE, last_metric),
    LATER_ROW(NUMBER_DOUBLE, epoch_loss),
    LATER_ROW(NUMBER_INT64, epoch_images),
    LATER_ROW(NUMBER_INT, epoch_updates),
    LATER_ROW(NUMBER_INT, epoch_skipped),
    LATER_ROW(NUMBER_DOUBLE, best_loss),
};

/* ----------------------------------------------------------------------------------------------
 * state.json, out */

static void print_number(text *out, const run_state *s, const struct number_row *row)
{
    const char *at = (const char *)s + row->offset;
    int64_t big;
    double real;
    int number;

    text_addf(out, "    \"%s\": ", row->name);
    if (row->type == NUMBER_INT) {
        memcpy(&number, at, sizeof number);
        text_addf(out, "%d", number);
    } else if (row->type == NUMBER_INT64) {
        memcpy(&big, at, sizeof big);
        text_addf(out, "%lld", (long long)big);
    } else {
        memcpy(&real, at, sizeof real);
        text_add_json_double(out, real);
    }
    text_add(out, ",\n");
}

static void print_progress(text *out, const run_state *s)
{
    text_add(out, "  \"progress\": {\n");
    for (size_t i = 0; i < THAW_COUNT(number_table); i++)
        print_number(out, s, &number_table[i]);
    text_add(out, "    \"fired\": [");
    for (int i = 0; i < s->n_fired; i++)
        text_addf(out, "%s[%d, %lld]", i ? ", " : "", s->fired[i].phase,
                  (long long)s->fired[i].iteration);
    text_add(out, "]\n  },\n");
}

/* Own update counts of parameters that have been updated, and whose state waits for a thaw. */
static void print_own_updates(text *out, const params *p)
{
    int shown = 0;

    text_add(out, "  \"own_updates\": {");
    for (int i = 0; i < p->n_trained; i++) {
        if (p->item[i].steps == 0)
            continue;
        text_add(out, shown++ ? ",\n    " : "\n    ");
        text_add_json_string(out, p->item[i].name);
        text_addf(out, ": [%lld, %s]", (long long)p->item[i].steps,
                  p->item[i].parked ? "true" : "false");
    }
    text_add(out, "\n  }\n");
}

void state_print(text *out, const trainer *t)
{
    run_state now = t->state;

    if (t->phase >= 0)
        now.phase_seconds += os()->monotonic() - t->phase_begun;
    text_addf(out, "{\n  \"format\": %d,\n", STATE_FORMAT);
    origin_print(out, t);
    text_addf(out, "  \"samples\": %lld,\n  \"edits\": ", (long long)t->job->train->n);
    record_print_edits(out, t->record);
    text_add(out, ",\n");
    print_progress(out, &now);
    print_own_updates(out, t->job->params);
    text_add(out, "}\n");
}

/* ----------------------------------------------------------------------------------------------
 * taking up */

static thaw_status bad_state(const char *path, const char *what)
{
    return thaw_fail(THAW_E_CORRUPT, "'%s': %s", path, what);
}

static thaw_status parse_number(run_state *s, const json_t *progress, const struct number_row *row,
                                const char *path)
{
    const json_t *v = json_object_get(progress, row->name);
    char *at = (char *)s + row->offset;

    if (!v && row->later)
        return THAW_OK;
    if (row->type == NUMBER_DOUBLE) {
        const double real = json_is_null(v) ? NAN : json_number_value(v);

        if (!json_is_number(v) && !json_is_null(v))
            return bad_state(path, "a number of its progress is missing");
        memcpy(at, &real, sizeof real);
        return THAW_OK;
    }
    if (!json_is_integer(v))
        return bad_state(path, "a count of its progress is missing");
    const int64_t big = json_integer_value(v);
    const int number = (int)big;
    if (row->type == NUMBER_INT)
        memcpy(at, &number, sizeof number);
    else
        memcpy(at, &big, sizeof big);
    return THAW_OK;
}

/* record_read refuses what no run can have written. */
static thaw_status parse_fired(run_state *s, const json_t *fired, const char *path)
{
    const size_t n = json_array_size(fired);

    s->fired = thaw__new(n + 1, sizeof *s->fired);
    if (!s->fired)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the list of ended phases");
    for (size_t i = 0; i < n; i++) {
        const json_t *pair = json_array_get(fired, i);
        const json_t *phase = json_array_get(pair, 0), *iteration = json_array_get(pair, 1);

        if (!json_is_integer(phase) || !json_is_integer(iteration))
            return bad_state(path, "the list of ended phases is malformed");
        s->fired[i] =
            (thaw_fired){(int32_t)json_integer_value(phase), json_integer_value(iteration)};
    }
    s->n_fired = (int)n;
    return THAW_OK;
}

static thaw_status parse_progress(run_state *out, const json_t *root, const char *path)
{
    const json_t *progress = json_object_get(root, "progress");
    run_state s = RUN_STATE_INIT;
    thaw_status status;

    for (size_t i = 0; i < THAW_COUNT(number_table); i++)
        THAW_TRY(parse_number(&s, progress, &number_table[i], path));
    THAW_TRY(parse_fired(&s, json_object_get(progress, "fired"), path));
    if (s.iteration < 0 || s.epoch < 0 || s.index < 0 || s.events_bytes < 0) {
        status = bad_state(path, "its progress is out of range");
        goto done;
    }
    thaw__free(out->fired);
    *out = s;
    s.fired = NULL;
done:
    thaw__free(s.fired);
    return status;
}

/* Its place in the data, once these are known to be the same. */
static thaw_status check_position(const run_state *s, const dataset *d, const char *path)
{
    return s->index < d->n ? THAW_OK : bad_state(path, "its progress is out of range");
}

static thaw_status check_format(const json_t *root, const char *path)
{
    if (json_integer_value(json_object_get(root, "format")) != STATE_FORMAT)
        return bad_state(path, "its format is not 1, the one this version reads");
    return THAW_OK;
}

/* The file that has the state of a parameter; NULL: none has. Parked state lies apart. */
static const st_file *file_of(const trainer *t, int i, const st_file *own, const st_file *parked)
{
    const char *const state = t->job->recipe->rule->state_name[0];
    text name = TEXT_INIT;
    const st_file *found = NULL;

    text_addf(&name, "%s.%s", t->job->params->item[i].name, state);
    if (!name.failed && st_find(own, name.data))
        found = own;
    else if (!name.failed && parked && st_find(parked, name.data))
        found = parked;
    text_done(&name);
    return found;
}

/* One parameter that has own updates. *lost counts those whose parked state was not to be kept. */
static thaw_status load_own(trainer *t, int *lost, int i, const json_t *entry, const st_file *own,
                            const st_file *parked)
{
    const int n_state = t->job->recipe->rule->n_state(&t->hyper);
    const json_t *steps = json_array_get(entry, 0);
    const bool is_parked = json_is_true(json_array_get(entry, 1));
    param *item = &t->job->params->item[i];
    const st_file *f = n_state > 0 ? file_of(t, i, own, parked) : own;

    if (!json_is_integer(steps))
        return bad_state(own->path, "a parameter's own count of updates is malformed");
    if (!f && is_parked && !parked && !t->job->recipe->save_parked) {
        ++*lost;
        return THAW_OK;
    }
    THAW_CHECK(moments_load(t, f ? f : own, i));
    item->steps = json_integer_value(steps);
    item->parked = is_parked;
    item->in_file = f && f == parked;
    return THAW_OK;
}

/* Optimizer state of every parameter that has own updates, by name. */
static thaw_status load_moments(trainer *t, const json_t *own_updates, const char *checkpoint)
{
    char *own_path = os_path(checkpoint, "optimizer.safetensors");
    char *parked_at = parked_path(checkpoint);
    st_file *own = NULL, *parked = NULL;
    thaw_status status = THAW_OK;
    int lost = 0;

    if (!own_path || !parked_at) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for the paths of a checkpoint");
        goto done;
    }
    THAW_TRY(st_open(&own, own_path));
    if (os_kind_of(parked_at) != OS_ABSENT)
        THAW_TRY(st_open(&parked, parked_at));
    for (int i = 0; i < t->job->params->n_trained; i++) {
        const json_t *entry = json_object_get(own_updates, t->job->params->item[i].name);

        if (entry)
            THAW_TRY(load_own(t, &lost, i, entry, own, parked));
    }
    if (lost > 0)
        text_addf(&t->note,
                  "the parked optimizer state of %d parameters is not in the checkpoint "
                  "(checkpoint.parked = false): they start with new state when they thaw\n",
                  lost);
    THAW_TRY(parked_put_away(t));
done:
    st_close(parked);
    st_close(own);
    thaw__free(parked_at);
    thaw__free(own_path);
    return status;
}

static thaw_status read_state(json_t **out, const char *path)
{
    char *data = NULL;
    size_t size;
    thaw_status status;

    THAW_CHECK(os_read_file(&data, &size, path, STATE_MOST));
    status = json_parse(out, data, size, path);
    thaw__free(data);
    return status == THAW_E_DATA ? THAW_E_CORRUPT : status;
}

thaw_status state_peek(run_state *out, const char *checkpoint)
{
    char *path = os_path(checkpoint, "state.json");
    json_t *root = NULL;
    thaw_status status;

    if (!path)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the paths of a checkpoint");
    THAW_TRY(read_state(&root, path));
    THAW_TRY(check_format(root, path));
    THAW_TRY(parse_progress(out, root, path));
done:
    json_decref(root);
    thaw__free(path);
    return status;
}

/* Edits made by hand become part of the schedule, and of later checkpoints. */
static thaw_status take_up_edits(trainer *t, const char *checkpoint)
{
    THAW_CHECK(record_read(&t->record, checkpoint));
    if (t->record->n_fired > 0 &&
        t->record->fired[t->record->n_fired - 1].phase >= t->job->recipe->n_phases)
        return bad_state(checkpoint, "a phase has ended that the recipe does not have");
    THAW_CHECK(record_apply(t->record, t->job->schedule));
    if (t->record->n_edits > 0)
        text_addf(&t->note, "phases edited by hand: %d time%s\n", t->record->n_edits,
                  t->record->n_edits == 1 ? "" : "s");
    return THAW_OK;
}

/* How much state a parameter has depends on the phase that built the optimizer, which is not always
 * the one that comes next. */
static thaw_status take_up_settings(trainer *t)
{
    const thaw_progress then = {
        .iteration = t->state.built_at, .fired = t->state.fired, .n_fired = t->state.n_fired};
    const thaw_effect *built;

    if (t->state.built_at < 0)
        return THAW_OK;
    THAW_CHECK(thaw_schedule_effect(&built, t->job->schedule, &then));
    t->hyper = t->job->recipe->phase[built->built_phase].hyper;
    return THAW_OK;
}

thaw_status state_load(trainer *t, const char *checkpoint)
{
    char *state_path = os_path(checkpoint, "state.json");
    json_t *root = NULL;
    thaw_status status;

    if (!state_path)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the paths of a checkpoint");
    THAW_TRY(read_state(&root, state_path));
    THAW_TRY(check_format(root, state_path));
    THAW_TRY(parse_progress(&t->state, root, state_path));
    THAW_TRY(resume_check(t, root, checkpoint));
    THAW_TRY(check_position(&t->state, t->job->train, state_path));
    THAW_TRY(take_up_edits(t, checkpoint));
    THAW_TRY(take_up_settings(t));
    THAW_TRY(load_moments(t, json_object_get(root, "own_updates"), checkpoint));
    THAW_TRY(phase_best_load(t, checkpoint));
    THAW_TRY(rows_read(&t->history, checkpoint, HISTORY_NAME));
    THAW_TRY(rows_read(&t->provenance, checkpoint, PROVENANCE_NAME));
    THAW_TRY(loader_seek(t->loader, t->state.epoch, t->state.index));
    t->saved_iteration = t->evaluated_iteration = t->state.iteration;
done:
    json_decref(root);
    thaw__free(state_path);
    return status;
}
