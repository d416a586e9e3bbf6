/*
 * history.c - what a run has been through since its first step, carried on by every resume: the
 * metrics of each epoch, and where it ran.
 *
 * Both are lists of JSON objects, one a line, that only grow. So they are kept as the text they are
 * saved as, and never taken apart again.
 */
#include "train/train.h"

#include <math.h>
#include <string.h>

#define HISTORY_MOST ((size_t)32 << 20) /* bytes; what comes after is left out */

static const char head[] = "{\"format\": 1, \"rows\": [\n", tail[] = "\n]}\n";

void rows_add(text *rows, const char *row)
{
    if (rows->length < HISTORY_MOST)
        text_addf(rows, "%s%s", rows->length > 0 ? ",\n" : "", row);
}

void rows_print(text *out, const text *rows)
{
    text_addf(out, "%s%s%s", head, rows->data ? rows->data : "", tail);
    out->failed = out->failed || rows->failed;
}

static bool is_rows(const char *data, size_t size)
{
    const size_t ends = sizeof head - 1 + sizeof tail - 1;

    return size >= ends && memcmp(data, head, sizeof head - 1) == 0 &&
           memcmp(data + size - (sizeof tail - 1), tail, sizeof tail - 1) == 0 &&
           strlen(data) == size;
}

thaw_status rows_read(text *rows, const char *checkpoint, const char *name)
{
    char *path = os_path(checkpoint, name), *data = NULL;
    thaw_status status = THAW_OK;
    size_t size = 0;

    if (!path)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the path of a checkpoint");
    if (os_kind_of(path) == OS_ABSENT) /* checkpoints of the first version have none */
        goto done;
    THAW_TRY(os_read_file(&data, &size, path, 2 * HISTORY_MOST));
    if (!is_rows(data, size)) {
        status =
            thaw_fail(THAW_E_CORRUPT, "'%s' is no list of rows as this version writes it", path);
        goto done;
    }
    text_done(rows);
    text_add_n(rows, data + sizeof head - 1, size - (sizeof head - 1) - (sizeof tail - 1));
    if (rows->failed)
        status = thaw_fail(THAW_E_NOMEM, "out of memory for '%s'", path);
done:
    thaw__free(data);
    thaw__free(path);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * metrics */

/* What every row has; the caller adds to it and closes it. */
static void begin_row(text *row, const trainer *t, const char *event)
{
    const run_state *s = &t->state;

    text_addf(row, "{\"event\": \"%s\", \"iteration\": %lld, \"epoch\": ", event,
              (long long)s->iteration);
    text_add_json_double(row, (double)s->epoch + (double)s->index / (double)t->job->train->n);
    text_addf(row, ", \"phase\": %d, \"phase_name\": ", t->phase < 0 ? 1 : t->phase + 1);
    text_add_json_string(row, thaw_schedule_phase_name(t->job->schedule, THAW_MAX(t->phase, 0)));
}

static void add_number(text *row, const char *name, double value)
{
    text_addf(row, ", \"%s\": ", name);
    text_add_json_double(row, value);
}

static void end_row(text *rows, text *row)
{
    text_add(row, "}");
    if (row->failed)
        rows->failed = true;
    else
        rows_add(rows, row->data);
    text_done(row);
}

void history_add_update(trainer *t, const update *u)
{
    run_state *s = &t->state;

    s->epoch_updates++;
    if (!u->applied) {
        s->epoch_skipped++;
        return;
    }
    s->epoch_loss += u->loss * (double)u->samples;
    s->epoch_images += u->samples;
}

void history_end_epoch(trainer *t, double lr)
{
    run_state *s = &t->state;
    text row = TEXT_INIT;

    if (s->epoch_updates == 0)
        return;
    begin_row(&row, t, "epoch");
    add_number(&row, "loss", s->epoch_images > 0 ? s->epoch_loss / (double)s->epoch_images : NAN);
    add_number(&row, "lr", lr);
    text_addf(&row, ", \"updates\": %d, \"skipped\": %d", s->epoch_updates, s->epoch_skipped);
    end_row(&t->history, &row);
    s->epoch_loss = 0;
    s->epoch_images = 0;
    s->epoch_updates = s->epoch_skipped = 0;
}

void history_add_eval(trainer *t, const thaw_event *e)
{
    text row = TEXT_INIT;

    begin_row(&row, t, "eval");
    text_add(&row, ", \"split\": ");
    text_add_json_string(&row, e->split);
    add_number(&row, "loss", e->loss);
    add_number(&row, e->metric_name, e->metric);
    text_addf(&row, ", \"best\": %s", e->best ? "true" : "false");
    end_row(&t->history, &row);
}
