/*
 * report.h - what a run did, read back from its folder, and the pages and plots made of it.
 *
 * Private to the report_*.c of this layer. Reading (report_read.c, report_mistakes.c) knows nothing
 * of how things look; drawing (report_svg.c, report_html.c, report_text.c) knows nothing of files.
 */
#ifndef THAW_TRAIN_REPORT_H
#define THAW_TRAIN_REPORT_H

#include "train/train.h"

/* A step, or the mean of `stride` of them. */
typedef struct report_step {
    double iteration, epoch; /* of the last one */
    double loss, smoothed, grad_norm;
    double lr, lr_least, lr_most, rate;
    int phase; /* from 0 */
} report_step;

typedef struct report_eval {
    double iteration, epoch, loss, metric;
    int phase;
    bool best;
    const char *split, *metric_name;
} report_eval;

typedef struct report_phase {
    const char *name;
    bool began, ended;
    int64_t from, to; /* iterations; to: the last one seen */
    int64_t trainable, total, skipped;
    uint64_t peak;
    double lr_least, lr_most; /* at its beginning */
    double loss, metric;      /* at its end; NAN: not known */
    double seconds, rate;
} report_phase;

/* Of a text of the run, in order. */
typedef struct report_note {
    int64_t iteration;
    const char *kind, *text;
} report_note;

/* A sample that the best weights get wrong. */
typedef struct report_mistake {
    int64_t id; /* number of the sample in its file */
    int32_t label, guess;
    double loss, sure; /* of its true class; probability of the guess */
    char *png;         /* base64 */
    const char *file;  /* of pictures: where it lies below their folder; NULL */
} report_mistake;

/* How the best weights do on the validation images. */
typedef struct report_judgement {
    int n_classes; /* 0: not judged */
    int64_t *confusion;
    const char *const *class_name; /* NULL: numbers */
    report_mistake *mistake;
    int n_mistakes;
    int64_t n, hits;
    const char *why_not; /* not judged: the reason */
} report_judgement;

typedef struct report_data {
    thaw_region *region;
    const char *run;
    report_step *step;
    size_t n_steps, cap_steps;
    int64_t stride, in_last; /* steps a point stands for; of the last one */
    report_eval *eval;
    size_t n_evals, cap_evals;
    report_phase *phase;
    int n_phases;
    report_note *note;
    size_t n_notes, cap_notes;
    double baseline;
    int64_t broken; /* lines that are no events */
    uint64_t peak;
    const char *ending; /* NULL: the run has not ended */
    report_judgement judgement;
} report_data;

/* Points kept of a run's steps; neighbours are averaged when there are more. */
#define REPORT_STEPS 2048

/* report_read.c: events.jsonl of a run folder. Lines that are no events, such as one cut off by a
 * crash, are counted and left out. THAW_E_MISSING when there are none. */
thaw_status report_read(report_data **out, const char *run) THAW_MUST_USE;
void report_destroy(report_data *r);

/* The best evaluation on "valid", or on whatever there is; NULL: none. */
const report_eval *report_best(const report_data *r);

/* report_mistakes.c: judge the best weights; a reason not to is kept, not returned. */
thaw_status report_judge(report_data *r, job *j, int most) THAW_MUST_USE;

/* ----------------------------------------------------------------------------------------------
 * drawing */

/* Points of a line; a y that is no number breaks it. */
typedef struct chart_line {
    const char *name;
    const double *x, *y;
    size_t n;
    bool dots; /* marked points */
    bool dashed;
    int colour; /* 0 … CHART_COLOURS-1 */
} chart_line;
#define CHART_COLOURS 8

typedef struct chart_band {
    const char *name;
    double from, to;
} chart_band;

typedef struct chart {
    const char *title, *x_name;
    const chart_line *line;
    size_t n_lines;
    const chart_band *band;
    size_t n_bands;
    double x_least, x_most; /* x_most > x_least */
    bool logarithmic;       /* y; what is not above 0 is left out */
} chart;

/* Whether a point lies in the chart: a history may hold any numbers. */
bool chart_shows(const chart *c, double x, double y);

/* Ends of the y axis and the distance of its marks; false: there is nothing to draw. Logarithmic
 * axes are in powers of ten. */
typedef struct chart_axis {
    double least, most, step;
} chart_axis;
bool chart_y_axis(chart_axis *out, const chart *c);
chart_axis chart_marks(double least, double most, int about);

void chart_svg(text *out, const chart *c);                         /* report_svg.c */
void chart_text(text *out, const chart *c, int width, int height); /* report_text.c */
void report_metric(text *out, const char *name, double x); /* for people: a share in percent */
void html_add(text *out, const char *s);                   /* escaped */

thaw_status report_html(text *out, const report_data *r, const outlook *o) THAW_MUST_USE;
thaw_status report_text(text *out, const report_data *r) THAW_MUST_USE;

/* report_tensorboard.c: the scalars of a run as a TensorBoard event file's bytes. */
thaw_status report_tensorboard(text *out, const report_data *r) THAW_MUST_USE;

#endif
