/*
 * evaluate.c - loss and accuracy over a data set: frozen weights, norms in inference mode, no
 * dropout, no augmentation. Has its own loader and plans, so evaluating never changes training.
 */
#include "train/train.h"

#include "train/features.h"

#include <math.h>
#include <string.h>

/* Samples of the largest batch that a run meets. */
static int64_t most_batch(const thaw_recipe *r, int64_t n)
{
    n = THAW_MAX(n, r->loader.batch);
    for (int i = 0; i < r->n_phases; i++)
        n = THAW_MAX(n, recipe_batch(r, i));
    return n;
}

/* With a squared error the targets are the numbers to predict, or 1 for the class and 0 for the
 * others: [n, K]. */
static thaw_status make_targets(const void **out, job *j, const batch *b)
{
    const size_t K = (size_t)j->model->config.n_classes, size = dtype_size(j->recipe->real);
    const size_t room = (size_t)most_batch(j->recipe, b->n) * K;

    if (!j->targets)
        j->targets = thaw__new(room, size);
    if (!j->targets)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the targets of a batch");
    *out = j->targets;
    if (b->targets)
        return tensor_convert(j->targets, j->recipe->real, b->targets, DTYPE_F32, (size_t)b->n);
    memset(j->targets, 0, (size_t)b->n * K * size);
    for (int64_t i = 0; i < b->n; i++) {
        const size_t at = (size_t)i * K + (size_t)b->labels[i];

        if (j->recipe->real == DTYPE_F64)
            ((double *)j->targets)[at] = 1;
        else
            ((float *)j->targets)[at] = 1;
    }
    return THAW_OK;
}

/* Inputs of a plan by number: those of the network, then the targets. */
static thaw_status bind_inputs(const void *input[4], job *j, const batch *b)
{
    int n = 0;

    input[n++] = b->images;
    if (j->model->graph->n_inputs > 1)
        input[n++] = b->ids;
    input[n] = b->labels;
    return j->recipe->loss == OP_MSE ? make_targets(&input[n], j, b) : THAW_OK;
}

thaw_status run_batch(const plan_entry *e, job *j, const batch *b, bool accumulate)
{
    const void *input[4] = {0};
    const exec_run_args args = {.input = input,
                                .accumulate = accumulate,
                                .seed = (uint64_t)j->recipe->seed,
                                .epoch = b->epoch,
                                .watch = j->watch ? culprit_look : NULL,
                                .watch_user = j->watch};

    THAW_CHECK(bind_inputs(input, j, b));
    if (j->watch)
        j->watch->batch = b;
    return exec_run(e->session, &args);
}

double read_scalar(const plan_entry *e, int slot)
{
    return *(const double *)exec_read(e->session, slot);
}

/* First greatest of the n outputs of a sample. */
static int32_t greatest(const void *output, dtype real, size_t row, int64_t n)
{
    int32_t best = 0;

    for (int32_t k = 1; k < n; k++) {
        const size_t at = row * (size_t)n + (size_t)k, was = row * (size_t)n + (size_t)best;

        if (real == DTYPE_F64 ? ((const double *)output)[at] > ((const double *)output)[was]
                              : ((const float *)output)[at] > ((const float *)output)[was])
            best = k;
    }
    return best;
}

/* Where everything is frozen, what was kept of a sample may be the network's output itself: then it
 * is an input of the run, which a session does not hold. */
static const void *output_of(const plan_entry *e, const batch *b)
{
    const int slot = e->plan->results.output;

    return e->plan->slot[slot].place == SLOT_INPUT ? b->images : exec_read(e->session, slot);
}

static void sum_errors(eval_sums *sums, const plan_entry *e, const batch *b)
{
    const void *output = output_of(e, b);

    for (int64_t i = 0; i < b->n; i++) {
        const double y =
            e->plan->real == DTYPE_F64 ? ((const double *)output)[i] : ((const float *)output)[i];
        const double error = y - b->targets[i];

        sums->squared += error * error;
        sums->absolute += fabs(error);
    }
    sums->n += b->n;
}

static double output_at(const void *output, dtype real, size_t i)
{
    return real == DTYPE_F64 ? ((const double *)output)[i] : ((const float *)output)[i];
}

/* Whether fewer than NEAR_HITS outputs of a sample are ahead of its label's; of equal ones the
 * first is. */
static bool is_near(const void *output, dtype real, size_t row, int64_t n, int32_t label)
{
    const double own = output_at(output, real, row * (size_t)n + (size_t)label);
    int ahead = 0;

    for (int64_t k = 0; k < n && ahead < NEAR_HITS; k++) {
        const double y = output_at(output, real, row * (size_t)n + (size_t)k);

        ahead += k != label && !(y < own) && (k < label || y != own);
    }
    return ahead < NEAR_HITS;
}

static void count_hits(eval_sums *sums, int64_t *confusion, const job *j, const plan_entry *e,
                       const batch *b)
{
    const plan_results *r = &e->plan->results;
    const int32_t *predicted = r->predicted >= 0 ? exec_read(e->session, r->predicted) : NULL;
    const void *output = output_of(e, b);
    const int64_t K = j->model->config.n_classes;

    for (int64_t i = 0; i < b->n; i++) {
        const int32_t guess =
            predicted ? predicted[i] : greatest(output, e->plan->real, (size_t)i, K);

        sums->hits += guess == b->labels[i];
        sums->near += is_near(output, e->plan->real, (size_t)i, K, b->labels[i]);
        if (confusion)
            confusion[b->labels[i] * K + guess]++;
    }
    sums->n += b->n;
}

loader_options evaluation_loading(const thaw_recipe *r)
{
    loader_options o = r->loader;

    o.shuffle = o.wrap = o.flip = o.vary = false;
    o.shift = 0;
    o.views = 0;
    return o;
}

enum { STOP_SECONDS = 5 }; /* that an evaluation may take to its end when a stop is asked for */

/* Where a stop is asked for: whether the samples that are left will soon be done. */
static bool worth_ending(const job *j, double begun, int64_t done, int64_t n)
{
    if (!j->options->stop || !*j->options->stop)
        return true;
    return (os()->monotonic() - begun) / (double)done * (double)(n - done) <= STOP_SECONDS;
}

thaw_status evaluate(eval_sums *out, int64_t *confusion, plans *cache, job *j, dataset *d,
                     features *f)
{
    const double begun = os()->monotonic();
    const bool served = features_serve(f, d);
    loader_options options = evaluation_loading(j->recipe);
    eval_sums sums = {0};
    loader *l = NULL;
    bool last = false;
    thaw_status status;

    if (j->eval_batch > 0)
        options.batch = j->eval_batch;
    THAW_TRY(loader_create(&l, d, &options));
    features_attach(f, l, d);
    do {
        const plan_entry *e;
        const batch *b;
        batch room;

        THAW_TRY(loader_next(&b, l));
        if (served) {
            THAW_TRY(features_batch(&room, f, cache, l, b, d));
            b = &room;
        }
        THAW_TRY(plans_get_part(&e, cache, j, NULL, b->n, NULL, served ? PLAN_SUFFIX : PLAN_WHOLE,
                                served ? features_cut(f) : NO_VALUE));
        THAW_TRY(run_batch(e, j, b, false));
        sums.loss += read_scalar(e, e->plan->results.loss);
        sums.valid += read_scalar(e, e->plan->results.valid);
        if (b->targets)
            sum_errors(&sums, e, b);
        else
            count_hits(&sums, confusion, j, e, b);
        last = b->last;
        if (!last && !worth_ending(j, begun, sums.n, d->n)) {
            status = thaw_fail(THAW_E_STOPPED, "stopped on request during an evaluation");
            goto done;
        }
    } while (!last);
    sums.loss = sums.valid > 0 ? sums.loss / sums.valid : NAN;
    sums.seconds = os()->monotonic() - begun;
    *out = sums;
done:
    loader_destroy(l);
    return status;
}
