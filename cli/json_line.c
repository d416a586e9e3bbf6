/*
 * json_line.c - events as JSON, one object a line. The table says which fields an event has; the
 * program's locale is never set, so numbers have a point.
 */
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

typedef enum field_kind {
    FIELD_INT,
    FIELD_INT64,
    FIELD_UINT64,
    FIELD_DOUBLE,
    FIELD_TEXT, /* left out where NULL */
    FIELD_BOOL
} field_kind;

#define ROW(kind, name)                                                                            \
    {                                                                                              \
#name, kind, offsetof(thaw_event, name)                                                    \
    }

static const struct {
    const char *name;
    field_kind kind;
    size_t offset;
} event_fields[] = {
    ROW(FIELD_INT, phase),
    ROW(FIELD_INT, n_phases),
    ROW(FIELD_TEXT, phase_name),
    ROW(FIELD_INT64, iteration),
    ROW(FIELD_INT64, phase_step),
    ROW(FIELD_INT64, phase_steps),
    ROW(FIELD_DOUBLE, epoch),
    ROW(FIELD_DOUBLE, loss),
    ROW(FIELD_DOUBLE, loss_smoothed),
    ROW(FIELD_DOUBLE, metric),
    ROW(FIELD_TEXT, metric_name),
    ROW(FIELD_TEXT, split),
    ROW(FIELD_DOUBLE, lr),
    ROW(FIELD_DOUBLE, lr_least),
    ROW(FIELD_DOUBLE, lr_most),
    ROW(FIELD_DOUBLE, grad_norm),
    ROW(FIELD_DOUBLE, rate),
    ROW(FIELD_DOUBLE, seconds),
    ROW(FIELD_DOUBLE, seconds_left),
    ROW(FIELD_INT64, trainable),
    ROW(FIELD_INT64, total),
    ROW(FIELD_DOUBLE, baseline),
    ROW(FIELD_UINT64, peak_bytes),
    ROW(FIELD_UINT64, planned_bytes),
    ROW(FIELD_INT, skipped),
    ROW(FIELD_BOOL, best),
    ROW(FIELD_TEXT, text),
};

static const char *const event_names[] = {
    [THAW_EVENT_RUN] = "run",   [THAW_EVENT_PHASE] = "phase", [THAW_EVENT_STEP] = "step",
    [THAW_EVENT_EVAL] = "eval", [THAW_EVENT_SAVE] = "save",   [THAW_EVENT_PHASE_END] = "phase_end",
    [THAW_EVENT_NOTE] = "note", [THAW_EVENT_END] = "end",
};

/* Bytes of the UTF-8 sequence at s, 0 when it is malformed. */
static int utf8_length(const unsigned char *s)
{
    const int n = s[0] < 0x80   ? 1
                  : s[0] < 0xC2 ? 0
                  : s[0] < 0xE0 ? 2
                  : s[0] < 0xF0 ? 3
                  : s[0] < 0xF5 ? 4
                                : 0;

    for (int i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) ||
        (s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F))
        return 0;
    return n;
}

void json_string(FILE *to, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;

    fputc('"', to);
    while (*s != '\0') {
        const int n = utf8_length(s);

        if (n == 0)
            fputs("\\ufffd", to);
        else if (*s == '"' || *s == '\\')
            fprintf(to, "\\%c", *s);
        else if (*s == '\n')
            fputs("\\n", to);
        else if (*s < 0x20 || *s == 0x7F)
            fprintf(to, "\\u%04x", *s);
        else
            fwrite(s, 1, (size_t)n, to);
        s += n ? n : 1;
    }
    fputc('"', to);
}

void json_number(FILE *to, double value)
{
    char digits[40];

    if (!isfinite(value)) {
        fputs("null", to);
        return;
    }
    /* the shortest text that reads back as the same number */
    for (int n = 6; n <= 17; n++) {
        snprintf(digits, sizeof digits, "%.*g", n, value);
        if (strtod(digits, NULL) == value)
            break;
    }
    fputs(digits, to);
}

static void put_field(FILE *to, const void *field, field_kind kind)
{
    switch (kind) {
    case FIELD_INT:
        fprintf(to, "%d", *(const int *)field);
        break;
    case FIELD_INT64:
        fprintf(to, "%lld", (long long)*(const int64_t *)field);
        break;
    case FIELD_UINT64:
        fprintf(to, "%llu", (unsigned long long)*(const uint64_t *)field);
        break;
    case FIELD_DOUBLE:
        json_number(to, *(const double *)field);
        break;
    case FIELD_TEXT:
        json_string(to, *(const char *const *)field);
        break;
    case FIELD_BOOL:
        fputs(*(const bool *)field ? "true" : "false", to);
        break;
    }
}

void json_event(FILE *to, const thaw_event *event)
{
    fprintf(to, "{\"event\": \"%s\"", event_names[event->kind]);
    for (size_t i = 0; i < CLI_COUNT(event_fields); i++) {
        const void *field = (const char *)event + event_fields[i].offset;

        if (event_fields[i].kind == FIELD_TEXT && !*(const char *const *)field)
            continue;
        fprintf(to, ", \"%s\": ", event_fields[i].name);
        put_field(to, field, event_fields[i].kind);
    }
    fputs("}\n", to);
}
