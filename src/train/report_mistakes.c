/*
 * report_mistakes.c - how a run's best weights judge its validation images: who is taken for whom,
 * and the images they are most wrong about.
 *
 * The images come from the loader as the network sees them; undoing the normalisation gives what a
 * person would see, whatever format the data have.
 */
#include "train/train.h"

#include "train/report.h"

#include <math.h>
#include <string.h>

#define PICTURE_SIDE 112 /* larger pictures are shown with fewer pixels */

static double value_at(const void *x, dtype real, size_t i)
{
    return real == DTYPE_F64 ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

/* ----------------------------------------------------------------------------------------------
 * pictures */

static uint8_t byte_of(double x)
{
    return (uint8_t)(!(x > 0) ? 0 : x >= 255 ? 255 : lrint(x));
}

/* The shape [B, H, W, C] of a plan's images; false for anything else. */
static bool image_shape(shape *out, const plan *p)
{
    for (int i = 0; i < p->n_slots; i++)
        if (p->slot[i].place == SLOT_INPUT && p->slot[i].index == 0 && p->slot[i].shape.rank == 4) {
            *out = p->slot[i].shape;
            return true;
        }
    return false;
}

/* Sample i of a batch as a PNG in base64; NULL in *out where its shape is no picture's. */
static thaw_status picture_of(char **out, const plan *p, const batch *b, const loader_options *o,
                              int64_t i)
{
    shape s;
    int64_t skip, height, width, channels;
    uint8_t *pixel;
    thaw_status status;

    *out = NULL;
    if (!image_shape(&s, p) || (s.dim[3] != 1 && s.dim[3] != 3))
        return THAW_OK;
    channels = s.dim[3];
    skip = 1 + (THAW_MAX(s.dim[1], s.dim[2]) - 1) / PICTURE_SIDE;
    height = (s.dim[1] + skip - 1) / skip;
    width = (s.dim[2] + skip - 1) / skip;
    pixel = thaw__new((size_t)(height * width), (size_t)channels);
    if (!pixel)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a picture of the report");
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++)
            for (int64_t c = 0; c < channels; c++) {
                const int64_t at = ((i * s.dim[1] + y * skip) * s.dim[2] + x * skip) * channels + c;
                const int k = o->n_mean > 1 ? (int)c : 0;

                pixel[(y * width + x) * channels + c] = byte_of(
                    255 * (value_at(b->images, p->real, (size_t)at) * o->std[k] + o->mean[k]));
            }
    status = png_base64(out, pixel, height, width, (int)channels);
    thaw__free(pixel);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * judging */

typedef struct judge {
    const dataset *data;
    report_judgement *out;
    int most;
    const loader_options *options;
} judge;

/* Loss of the true class, the guess, and how sure it is. */
static report_mistake judge_row(const void *logits, dtype real, size_t row, int n_classes,
                                int32_t label)
{
    report_mistake m = {.label = label};
    double most = -HUGE_VAL, sum = 0;

    for (int k = 0; k < n_classes; k++) {
        const double v = value_at(logits, real, row * (size_t)n_classes + (size_t)k);

        if (v > most) {
            most = v;
            m.guess = k;
        }
    }
    for (int k = 0; k < n_classes; k++)
        sum += exp(value_at(logits, real, row * (size_t)n_classes + (size_t)k) - most);
    m.sure = 1 / sum;
    m.loss = most + log(sum) - value_at(logits, real, row * (size_t)n_classes + (size_t)label);
    return m;
}

/* Put a mistake where it belongs among the worst, which are sorted; the least bad one falls out. */
static thaw_status keep_mistake(judge *g, report_mistake *m, const plan *p, const batch *b,
                                int64_t i)
{
    report_judgement *const out = g->out;
    int at = out->n_mistakes;

    while (at > 0 && out->mistake[at - 1].loss < m->loss)
        at--;
    if (at == g->most || !isfinite(m->loss))
        return THAW_OK;
    THAW_CHECK(picture_of(&m->png, p, b, g->options, i));
    if (out->n_mistakes == g->most)
        thaw__free(out->mistake[--out->n_mistakes].png);
    memmove(&out->mistake[at + 1], &out->mistake[at],
            (size_t)(out->n_mistakes - at) * sizeof *out->mistake);
    out->mistake[at] = *m;
    out->n_mistakes++;
    return THAW_OK;
}

static thaw_status judge_batch(judge *g, const plan_entry *e, const batch *b)
{
    const void *const logits = exec_read(e->session, e->plan->results.output);
    report_judgement *const out = g->out;

    for (int64_t i = 0; i < b->n; i++) {
        report_mistake m =
            judge_row(logits, e->plan->real, (size_t)i, out->n_classes, b->labels[i]);

        m.id = b->ids[i];
        m.file = dataset_file(g->data, b->cells[i] % g->data->n);
        out->n++;
        out->hits += m.guess == m.label;
        out->confusion[(int64_t)m.label * out->n_classes + m.guess]++;
        if (m.guess != m.label)
            THAW_CHECK(keep_mistake(g, &m, e->plan, b, i));
    }
    return THAW_OK;
}

static thaw_status judge_all(judge *g, job *j, const dataset *d)
{
    plans cache = {0};
    loader *l = NULL;
    const batch *b;
    thaw_status status;

    THAW_TRY(loader_create(&l, d, g->options));
    do {
        const plan_entry *e;

        THAW_TRY(loader_next(&b, l));
        THAW_TRY(plans_get(&e, &cache, j, NULL, b->n, NULL));
        THAW_TRY(run_batch(e, j, b, false));
        THAW_TRY(judge_batch(g, e, b));
    } while (!b->last);
done:
    loader_destroy(l);
    plans_done(&cache);
    return status;
}

/* The data set is closed before the report is written. */
static thaw_status copy_names(report_data *r, const dataset *d)
{
    const int n = r->judgement.n_classes;
    const char **name;

    if (!d->class_name || d->n_classes != n)
        return THAW_OK;
    name = region_alloc(r->region, (size_t)n, sizeof *name);
    if (!name)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the report of a run");
    for (int k = 0; k < n; k++) {
        const char *const copy = region_strdup(r->region, d->class_name[k]);

        name[k] = copy ? copy : "";
    }
    r->judgement.class_name = name;
    return THAW_OK;
}

/* Without memory for a name the sample's number serves. */
static void copy_files(report_data *r)
{
    for (int i = 0; i < r->judgement.n_mistakes; i++) {
        report_mistake *const m = &r->judgement.mistake[i];

        m->file = m->file ? region_strdup(r->region, m->file) : NULL;
    }
}

thaw_status report_judge(report_data *r, job *j, int most)
{
    const loader_options options = evaluation_loading(j->recipe);
    report_judgement *const out = &r->judgement;
    judge g = {.data = j->valid, .out = out, .most = most, .options = &options};
    const int n = (int)j->model->config.n_classes;

    if (!j->valid || j->valid->target) {
        out->why_not = j->valid ? "the targets are numbers, not classes"
                                : "the recipe has no validation images";
        return THAW_OK;
    }
    out->confusion = thaw__new((size_t)n * (size_t)n, sizeof *out->confusion);
    out->mistake = thaw__new((size_t)most + 1, sizeof *out->mistake);
    if (!out->confusion || !out->mistake)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the report of a run");
    out->n_classes = n;
    THAW_CHECK(copy_names(r, j->valid));
    THAW_CHECK(judge_all(&g, j, j->valid));
    copy_files(r);
    return THAW_OK;
}
