/*
 * dump.c - a plan as text for people, as JSON for programs, and the difference of two in a line.
 *
 * The idea: everything a person asks of a plan (what runs, how large, where does memory go) can be
 * read off the plan alone, in a form that is the same on every machine.
 */
#include "plan/plan.h"

#include <inttypes.h>

static const char *const section_name[] = {
    [SECTION_ONCE] = "once", [SECTION_STEP] = "step", [SECTION_UPDATE] = "update"};

/* What a person compares steps by: the output, or the first gradient. -1: none. */
static int main_output(const plan_step *step)
{
    for (int j = 0; j < step->n_out; j++)
        if (step->out[j] >= 0)
            return j;
    return -1;
}

static size_t output_bytes(const plan *p, const plan_step *step)
{
    size_t sum = 0;

    for (int j = 0; j < step->n_out; j++)
        if (step->out[j] >= 0)
            sum += p->slot[step->out[j]].bytes;
    return sum;
}

/* Name of a model tensor as far as the plan knows it. */
static const char *tensor_name(const plan *p, int index)
{
    for (int i = 0; i < p->n_slots; i++)
        if (p->slot[i].place == SLOT_PARAM && p->slot[i].index == index)
            return p->slot[i].name;
    return "?";
}

static int last_of_section(const plan *p, plan_section section)
{
    return section == SECTION_ONCE ? p->n_once : p->n_once + p->n_step;
}

static int first_of_section(const plan *p, plan_section section)
{
    return section == SECTION_ONCE ? 0 : p->n_once;
}

typedef struct memory_line {
    const char *name;
    size_t bytes;
} memory_line;
#define N_MEMORY_LINES 6

static void list_memory(memory_line line[N_MEMORY_LINES], const plan *p)
{
    line[0] = (memory_line){"activations", p->arena_bytes};
    line[1] = (memory_line){"inputs", p->input_bytes};
    line[2] = (memory_line){"parameters", p->param_bytes};
    line[3] = (memory_line){"gradients", p->grad_bytes};
    line[4] = (memory_line){"optimizer", p->state_bytes};
    line[5] = (memory_line){"peak", plan_peak_bytes(p)};
}

/* ----------------------------------------------------------------------------------------------
 * text */

enum {
    COLUMN_OP = 7,
    COLUMN_LAYER = 45,
    COLUMN_SHAPE = 73,
    COLUMN_BYTES = 97,
    COLUMN_PLACE = 109,
    COLUMN_MORE = 128
};

/* "conv2d+add+relu", or "conv2d: d weight, d bias" */
static void add_op(text *out, const plan_step *step)
{
    char input[16];
    const char *before = ": ";

    text_add(out, op_table[step->op].name);
    for (int k = 0; k < step->n_post; k++)
        text_addf(out, "+%s", op_table[step->post[k].op].name);
    for (int i = 0; i < step->n_out; i++)
        if (step->wrt & OP_IN(i)) {
            text_addf(out, "%sd %s", before, op_input_name(input, step->op, i));
            before = ", ";
        }
}

static void add_place(text *out, const plan *p, int s, int output)
{
    static const char *const place_name[] = {[SLOT_ARENA] = "",
                                             [SLOT_PARAM] = "parameter",
                                             [SLOT_GRAD] = "gradient",
                                             [SLOT_INPUT] = "input"};
    const plan_step *step = &p->step[s];
    const char *place = place_name[p->slot[step->out[output]].place];
    char buffer[32];

    if (thaw__plan_shared_input(p, s, output) >= 0)
        place = "in place";
    if (*place || step->scratch_bytes > 0)
        text_pad(out, COLUMN_PLACE);
    text_add(out, place);
    if (step->scratch_bytes > 0)
        text_addf(out, "%sscratch %s", *place ? ", " : "",
                  format_bytes(buffer, step->scratch_bytes));
}

static void add_more(text *out, const plan *p, const plan_step *step, const plan_teller *more)
{
    text words = TEXT_INIT;

    if (!more)
        return;
    more->tell(more->user, &words, p, step, false);
    if (words.length > 0) {
        text_add(out, " ");
        text_pad(out, COLUMN_MORE);
        text_add(out, words.data);
    }
    out->failed |= words.failed;
    text_done(&words);
}

static void dump_step(text *out, const plan *p, int s, const plan_teller *more)
{
    const plan_step *step = &p->step[s];
    const int output = main_output(step);
    char buffer[128];

    text_addf(out, "%5d", s);
    text_pad(out, COLUMN_OP);
    if (step->again >= 0)
        text_add(out, "again ");
    add_op(out, step);
    text_add(out, " ");
    text_pad(out, COLUMN_LAYER);
    text_add(out, step->name);
    if (output >= 0) {
        text_add(out, " ");
        text_pad(out, COLUMN_SHAPE);
        text_add(out, shape_format(buffer, &p->slot[step->out[output]].shape));
        text_add(out, p->slot[step->out[output]].dtype == DTYPE_BF16 ? " bf16 " : " ");
        text_pad(out, COLUMN_BYTES);
        text_add(out, format_bytes(buffer, output_bytes(p, step)));
        add_place(out, p, s, output);
    }
    add_more(out, p, step, more);
    text_add(out, "\n");
}

static void dump_updates(text *out, const plan *p)
{
    char buffer[32];

    if (p->n_update > 0)
        text_add(out, "update\n");
    for (int i = 0; i < p->n_update; i++) {
        text_addf(out, "%5d", i);
        text_pad(out, COLUMN_OP);
        text_add(out, p->update[i].rule);
        text_pad(out, COLUMN_LAYER);
        text_add(out, tensor_name(p, p->update[i].param));
        text_add(out, " ");
        text_pad(out, COLUMN_BYTES);
        text_addf(out, "%s\n", format_bytes(buffer, p->update[i].state_bytes));
    }
}

void plan_dump(text *out, const plan *p, const plan_teller *more)
{
    memory_line line[N_MEMORY_LINES];
    char buffer[32];

    text_addf(out, "%s, batch %" PRId64 ", %s%s, %d steps (%d forward, %d backward)\n",
              p->training ? "training" : "forward only", p->batch,
              plan_count_bf16(p) > 0 ? "bf16 and " : "", dtype_name(p->real), p->n_once + p->n_step,
              p->n_forward, p->n_step - p->n_forward);
    for (plan_section section = SECTION_ONCE; section <= SECTION_STEP; section++) {
        if (first_of_section(p, section) < last_of_section(p, section))
            text_addf(out, "%s\n", section_name[section]);
        for (int s = first_of_section(p, section); s < last_of_section(p, section); s++)
            dump_step(out, p, s, more);
    }
    dump_updates(out, p);
    text_add(out, "memory\n");
    list_memory(line, p);
    for (int i = 0; i < N_MEMORY_LINES; i++) {
        text_addf(out, "  %s", line[i].name);
        text_pad(out, 16);
        text_addf(out, "%s\n", format_bytes(buffer, line[i].bytes));
    }
}

/* ----------------------------------------------------------------------------------------------
 * JSON */

static void json_shape(text *out, const shape *s)
{
    text_add(out, "[");
    for (int i = 0; i < s->rank; i++)
        text_addf(out, "%s%" PRId64, i ? "," : "", s->dim[i]);
    text_add(out, "]");
}

static void json_wrt(text *out, const plan_step *step)
{
    char input[16];
    const char *before = "";

    text_add(out, "[");
    for (int i = 0; i < step->n_out; i++)
        if (step->wrt & OP_IN(i)) {
            text_add(out, before);
            text_add_json_string(out, op_input_name(input, step->op, i));
            before = ",";
        }
    text_add(out, "]");
}

static void json_slots(text *out, const int *slot, int n)
{
    text_add(out, "[");
    for (int i = 0; i < n; i++)
        text_addf(out, "%s%d", i ? "," : "", slot[i]);
    text_add(out, "]");
}

/* Ops and layers that are part of the step. */
static void json_posts(text *out, const plan_step *step)
{
    text_add(out, ",\"posts\":[");
    for (int k = 0; k < step->n_post; k++) {
        text_addf(out, "%s{\"op\":", k ? "," : "");
        text_add_json_string(out, op_table[step->post[k].op].name);
        text_add(out, ",\"layer\":");
        text_add_json_string(out, step->post[k].name);
        text_add(out, "}");
    }
    text_add(out, "]");
}

static void json_step(text *out, const plan *p, int s, const plan_teller *more)
{
    const plan_step *step = &p->step[s];
    const int output = main_output(step);

    text_addf(out, "{\"number\":%d,\"op\":", s);
    text_add_json_string(out, op_table[step->op].name);
    text_addf(out, ",\"direction\":\"%s\",\"wrt\":",
              s < p->n_once + p->n_forward ? "forward" : "backward");
    json_wrt(out, step);
    json_posts(out, step);
    if (step->wrt)
        text_addf(out, ",\"forward\":%d,\"part\":%d", step->forward, step->part);
    if (step->again >= 0)
        text_addf(out, ",\"again\":%d", step->again);
    text_add(out, ",\"layer\":");
    text_add_json_string(out, step->name);
    text_add(out, ",\"shape\":");
    if (output >= 0)
        json_shape(out, &p->slot[step->out[output]].shape);
    else
        text_add(out, "null");
    text_addf(out,
              ",\"bytes\":%zu,\"in_place\":%s,\"scratch\":%zu,\"flops\":", output_bytes(p, step),
              output >= 0 && thaw__plan_shared_input(p, s, output) >= 0 ? "true" : "false",
              step->scratch_bytes);
    text_add_json_double(out, step->flops);
    text_add(out, ",\"in\":");
    json_slots(out, step->in, step->n_reads);
    text_add(out, ",\"out\":");
    json_slots(out, step->out, step->n_out);
    if (more)
        more->tell(more->user, out, p, step, true);
    text_add(out, "}");
}

static void json_updates(text *out, const plan *p)
{
    text_add(out, ",\"update\":[");
    for (int i = 0; i < p->n_update; i++) {
        text_addf(out, "%s{\"rule\":", i ? "," : "");
        text_add_json_string(out, p->update[i].rule);
        text_add(out, ",\"tensor\":");
        text_add_json_string(out, tensor_name(p, p->update[i].param));
        text_addf(out, ",\"state_bytes\":%zu}", p->update[i].state_bytes);
    }
    text_add(out, "]");
}

static void json_slot_list(text *out, const plan *p)
{
    static const char *const place_name[] = {[SLOT_ARENA] = "arena",
                                             [SLOT_PARAM] = "parameter",
                                             [SLOT_GRAD] = "gradient",
                                             [SLOT_INPUT] = "input"};

    text_add(out, ",\"slots\":[");
    for (int i = 0; i < p->n_slots; i++) {
        const plan_slot *slot = &p->slot[i];

        text_addf(out, "%s{\"place\":\"%s\",\"name\":", i ? "," : "", place_name[slot->place]);
        text_add_json_string(out, slot->name);
        text_addf(out, ",\"type\":\"%s\",\"shape\":", dtype_name(slot->dtype));
        json_shape(out, &slot->shape);
        text_addf(out, ",\"bytes\":%zu", slot->bytes);
        if (slot->place == SLOT_ARENA)
            text_addf(out, ",\"offset\":%zu,\"first\":%d,\"last\":%d}", slot->offset, slot->first,
                      slot->last);
        else
            text_addf(out, ",\"index\":%d}", slot->index);
    }
    text_add(out, "]");
}

void plan_dump_json(text *out, const plan *p, const plan_teller *more)
{
    memory_line line[N_MEMORY_LINES];

    text_addf(out,
              "{\"digest\":\"%016" PRIx64 "\",\"training\":%s,\"batch\":%" PRId64
              ",\"type\":\"%s\",\"forward\":%d,\"backward\":%d",
              p->digest, p->training ? "true" : "false", p->batch, dtype_name(p->real),
              p->n_forward, p->n_step - p->n_forward);
    for (plan_section section = SECTION_ONCE; section <= SECTION_STEP; section++) {
        const int first = first_of_section(p, section);

        text_addf(out, ",\"%s\":[", section_name[section]);
        for (int s = first; s < last_of_section(p, section); s++) {
            text_add(out, s > first ? "," : "");
            json_step(out, p, s, more);
        }
        text_add(out, "]");
    }
    json_updates(out, p);
    json_slot_list(out, p);
    text_addf(out,
              ",\"results\":{\"loss\":%d,\"valid\":%d,\"output\":%d,\"predicted\":%d},\"memory\":{",
              p->results.loss, p->results.valid, p->results.output, p->results.predicted);
    list_memory(line, p);
    for (int i = 0; i < N_MEMORY_LINES; i++)
        text_addf(out, "%s\"%s\":%zu", i ? "," : "", line[i].name, line[i].bytes);
    text_add(out, "}}");
}

/* ----------------------------------------------------------------------------------------------
 * difference */

static int count_gradients(const plan *p)
{
    int n = 0;

    for (int i = 0; i < p->n_slots; i++)
        n += p->slot[i].place == SLOT_GRAD;
    return n;
}

static int magnitude(int n)
{
    return n < 0 ? -n : n;
}

static const char *plural(int n)
{
    return magnitude(n) == 1 ? "" : "s";
}

void plan_compare(text *out, const plan *a, const plan *b)
{
    const int forward = b->n_forward - a->n_forward;
    const int backward = b->n_step - b->n_forward - (a->n_step - a->n_forward);
    const int steps = b->n_once + b->n_step - a->n_once - a->n_step;
    const int trained = count_gradients(b) - count_gradients(a);
    const size_t before = plan_peak_bytes(a), after = plan_peak_bytes(b);
    char buffer[32];

    if (a->digest == b->digest) {
        text_add(out, "changes nothing");
        return;
    }
    if (steps == 0)
        text_add(out, "has as many steps");
    else
        text_addf(out, "%s %d step%s", steps > 0 ? "adds" : "drops", magnitude(steps),
                  plural(steps));
    if (forward != 0 || backward != 0)
        text_addf(out, " (%+d forward, %+d backward)", forward, backward);
    if (trained != 0)
        text_addf(out, ", %d %s parameter%s train%s", magnitude(trained),
                  trained > 0 ? "more" : "fewer", plural(trained),
                  magnitude(trained) == 1 ? "s" : "");
    text_addf(out, ", %s%s", after >= before ? "+" : "-",
              format_bytes(buffer, after >= before ? after - before : before - after));
}
