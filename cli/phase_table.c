/*
 * phase_table.c - the table at the end of a run: one row a phase. Columns are a table themselves:
 * what stands above, and how a cell is made.
 */
#include <limits.h>
#include <math.h>
#include <string.h>

#include "cli.h"

#define CELL (4 * PROGRESS_NAME + 1)

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
    snprintf(cell, CELL, isnan(row->metric) ? "-" : "%.2f%%", 100 * row->metric);
}

static void cell_rmse(char *cell, const progress_row *row)
{
    snprintf(cell, CELL, isnan(row->metric) ? "-" : "%.4g", row->metric);
}

static bool has_accuracy(const progress_row *row)
{
    return !row->is_rmse;
}

static bool has_rmse(const progress_row *row)
{
    return row->is_rmse;
}

static void cell_waited(char *cell, const progress_row *row)
{
    snprintf(cell, CELL, "%.0f%%", 100 * row->waited);
}

static bool has_waited(const progress_row *row)
{
    return row->waited >= 0.005;
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

static bool has_skipped(const progress_row *row)
{
    return row->skipped > 0;
}

static const struct column {
    const char *title;
    void (*make)(char *cell, const progress_row *row);
    bool left;
    bool (*wanted)(const progress_row *row); /* shown where a row wants it; NULL: always */
} columns[] = {
    {"phase", cell_name, true, NULL},
    {"trainable", cell_trainable, false, NULL},
    {"learning rate", cell_lr, false, NULL},
    {"loss", cell_loss, false, NULL},
    {"accuracy", cell_accuracy, false, has_accuracy},
    {"RMSE", cell_rmse, false, has_rmse},
    {"time", cell_time, false, NULL},
    {"images/s", cell_rate, false, NULL},
    {"waited for data", cell_waited, false, has_waited},
    {"peak memory", cell_memory, false, NULL},
    {"skipped", cell_skipped, false, has_skipped},
};

/* The columns that some row wants. */
static size_t choose_columns(const struct column *chosen[CLI_COUNT(columns)], const progress *p)
{
    size_t n = 0;

    for (size_t c = 0; c < CLI_COUNT(columns); c++) {
        bool wanted = !columns[c].wanted;

        for (int r = 0; r < p->n_rows && !wanted; r++)
            wanted = columns[c].wanted(&p->rows[r]);
        if (wanted)
            chosen[n++] = &columns[c];
    }
    return n;
}

/* In characters. */
static int width_of(const char *cell)
{
    int characters;

    (void)cli_cut(&characters, cell, INT_MAX);
    return characters;
}

void progress_table(FILE *to, const progress *p)
{
    const struct column *column[CLI_COUNT(columns)];
    const size_t n = choose_columns(column, p);
    int width[CLI_COUNT(columns)];
    char cell[CELL];

    if (p->n_rows == 0)
        return;
    for (size_t c = 0; c < n; c++) {
        width[c] = width_of(column[c]->title);
        for (int r = 0; r < p->n_rows; r++) {
            column[c]->make(cell, &p->rows[r]);
            width[c] = width_of(cell) > width[c] ? width_of(cell) : width[c];
        }
    }
    fputc('\n', to);
    for (int r = -1; r < p->n_rows; r++)
        for (size_t c = 0; c < n; c++) {
            if (r < 0)
                snprintf(cell, CELL, "%s", column[c]->title);
            else
                column[c]->make(cell, &p->rows[r]);
            fputs(c > 0 ? "  " : "", to);
            fprintf(to, "%*s", column[c]->left ? 0 : width[c] - width_of(cell), "");
            cli_put_name(to, cell, strlen(cell));
            fprintf(to, "%*s", column[c]->left ? width[c] - width_of(cell) : 0, "");
            fputs(c + 1 == n ? "\n" : "", to);
        }
    if (p->n_phases > p->n_rows && p->n_rows == PROGRESS_MAX_ROWS)
        fprintf(to, "(the last %d of %d phases)\n", p->n_rows, p->n_phases);
    fputc('\n', to);
}
