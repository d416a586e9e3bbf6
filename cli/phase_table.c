/*
 * phase_table.c - the table at the end of a run: one row a phase. Columns are a table themselves:
 * what stands above, and how a cell is made.
 */
#include <math.h>
#include <string.h>

#include "cli.h"

#define CELL 40

static void cell_name(char *cell, const progress_row *row)
{
    snprintf(cell, CELL, "%s", row->name);
}

static void cell_trainable(char *cell, const progress_row *row)
{
    char count[32];

    snprintf(cell, CELL, "%s (%.1f%%)", cli_count(count, row->trainable),
             row->total > 0 ? 100 * (double)row->trainable / (double)row->total : 0);
}

static void cell_lr(char *cell, const progress_row *row)
{
    if (!(row->lr_least <= row->lr_most))
        snprintf(cell, CELL, "-");
    else if (row->lr_least == row->lr_most)
        snprintf(cell, CELL, "%.3g", row->lr_most);
    else
        snprintf(cell, CELL, "%.3g to %.3g", row->lr_least, row->lr_most);
}

static void cell_loss(char *cell, const progress_row *row)
{
    snprintf(cell, CELL, isnan(row->loss) ? "-" : "%.4f", row->loss);
}

static void cell_accuracy(char *cell, const progress_row *row)
{
    snprintf(cell, CELL, isnan(row->accuracy) ? "-" : "%.2f%%", 100 * row->accuracy);
}

static void cell_time(char *cell, const progress_row *row)
{
    cli_duration(cell, row->seconds);
}

static void cell_rate(char *cell, const progress_row *row)
{
    if (row->rate > 0)
        cli_count(cell, (int64_t)(row->rate + 0.5));
    else
        snprintf(cell, CELL, "-");
}

static void cell_memory(char *cell, const progress_row *row)
{
    cli_bytes(cell, row->peak_bytes);
}

static void cell_skipped(char *cell, const progress_row *row)
{
    snprintf(cell, CELL, "%d", row->skipped);
}

static const struct {
    const char *title;
    void (*make)(char *cell, const progress_row *row);
    bool left;
} columns[] = {
    {"phase", cell_name, true},         {"trainable", cell_trainable, false},
    {"learning rate", cell_lr, false},  {"loss", cell_loss, false},
    {"accuracy", cell_accuracy, false}, {"time", cell_time, false},
    {"images/s", cell_rate, false},     {"peak memory", cell_memory, false},
    {"skipped", cell_skipped, false},
};

/* The last column is shown only where a step was skipped. */
static size_t n_columns(const progress *p)
{
    for (int r = 0; r < p->n_rows; r++)
        if (p->rows[r].skipped > 0)
            return CLI_COUNT(columns);
    return CLI_COUNT(columns) - 1;
}

void progress_table(FILE *to, const progress *p)
{
    const size_t n = n_columns(p);
    int width[CLI_COUNT(columns)];
    char cell[CELL];

    if (p->n_rows == 0)
        return;
    for (size_t c = 0; c < n; c++) {
        width[c] = (int)strlen(columns[c].title);
        for (int r = 0; r < p->n_rows; r++) {
            columns[c].make(cell, &p->rows[r]);
            width[c] = (int)strlen(cell) > width[c] ? (int)strlen(cell) : width[c];
        }
    }
    fputc('\n', to);
    for (int r = -1; r < p->n_rows; r++)
        for (size_t c = 0; c < n; c++) {
            if (r < 0)
                snprintf(cell, CELL, "%s", columns[c].title);
            else
                columns[c].make(cell, &p->rows[r]);
            fprintf(to, "%s%*s%s", c > 0 ? "  " : "", columns[c].left ? -width[c] : width[c], cell,
                    c + 1 == n ? "\n" : "");
        }
    if (p->n_phases > p->n_rows && p->n_rows == PROGRESS_MAX_ROWS)
        fprintf(to, "(the last %d of %d phases)\n", p->n_rows, p->n_phases);
    fputc('\n', to);
}
