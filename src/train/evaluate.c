/*
 * evaluate.c - loss and accuracy over a data set: frozen weights, norms in inference mode, no
 * dropout, no augmentation. Has its own loader and plans, so evaluating never changes training.
 */
#include "train/train.h"

#include <math.h>

/* Inputs of a plan by number: those of the network, then the targets. */
static void bind_inputs(const void *input[4], const job *j, const batch *b)
{
    int n = 0;

    input[n++] = b->images;
    if (j->model->graph->n_inputs > 1)
        input[n++] = b->ids;
    input[n] = b->labels;
}

thaw_status run_batch(const plan_entry *e, job *j, const batch *b, bool accumulate)
{
    const void *input[4] = {0};
    const exec_run_args args = {.input = input,
                                .accumulate = accumulate,
                                .seed = (uint64_t)j->recipe->seed,
                                .epoch = b->epoch};

    bind_inputs(input, j, b);
    return exec_run(e->session, &args);
}

double read_scalar(const plan_entry *e, int slot)
{
    return *(const double *)exec_read(e->session, slot);
}

static void count_hits(eval_sums *sums, int64_t *confusion, const job *j, const plan_entry *e,
                       const batch *b)
{
    const int32_t *predicted = exec_read(e->session, e->plan->results.predicted);

    for (int64_t i = 0; i < b->n; i++) {
        sums->hits += predicted[i] == b->labels[i];
        if (confusion)
            confusion[b->labels[i] * j->model->config.n_classes + predicted[i]]++;
    }
    sums->n += b->n;
}

static loader_options plain_loading(const thaw_recipe *r)
{
    loader_options o = r->loader;

    o.shuffle = o.wrap = o.flip = false;
    o.shift = 0;
    return o;
}

thaw_status evaluate(eval_sums *out, int64_t *confusion, plans *cache, job *j, dataset *d)
{
    const double begun = os()->monotonic();
    const loader_options options = plain_loading(j->recipe);
    eval_sums sums = {0};
    loader *l = NULL;
    const batch *b = NULL;
    thaw_status status;

    THAW_TRY(loader_create(&l, d, &options));
    do {
        const plan_entry *e;

        THAW_TRY(loader_next(&b, l));
        THAW_TRY(plans_get(&e, cache, j, NULL, b->n, NULL));
        THAW_TRY(run_batch(e, j, b, false));
        sums.loss += read_scalar(e, e->plan->results.loss);
        sums.valid += read_scalar(e, e->plan->results.valid);
        count_hits(&sums, confusion, j, e, b);
    } while (!b->last);
    sums.loss = sums.valid > 0 ? sums.loss / sums.valid : NAN;
    sums.seconds = os()->monotonic() - begun;
    *out = sums;
done:
    loader_destroy(l);
    return status;
}
