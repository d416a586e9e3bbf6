/*
 * update.c - one update of the parameters: micro-batches, the finiteness check, clipping, the
 * optimizer.
 *
 * Gradients are summed over the update's targets and divided by their number as the optimizer reads
 * them, so micro-batches of any sizes weigh their samples equally. A step whose loss or gradient is
 * not finite leaves no trace but its count: the running statistics it moved are put back.
 */
#include "train/train.h"

#include "train/features.h"

#include <math.h>

#define SMOOTHING 0.95 /* weight of the past in the smoothed loss */

static void advance_data(run_state *s, const dataset *d, const batch *b, bool wrap)
{
    const int64_t next = b->index + b->n;

    s->images += b->n;
    s->phase_images += b->n;
    s->epoch = b->epoch;
    s->index = next;
    if (wrap || b->last) {
        s->epoch += next / d->n;
        s->index = next % d->n;
    }
}

thaw_status trainer_aim(trainer *t, const thaw_effect *effect)
{
    const int64_t batch = THAW_MAX(t->batch, t->job->recipe->loader.batch);

    loader_skip(t->loader, NULL, NULL);
    THAW_CHECK(features_aim(t->features, effect, batch));
    features_attach(t->features, t->loader, t->job->train);
    plans_drop_parts(&t->plans, features_cut(t->features));
    return THAW_OK;
}

/* The next batch, and the plan that trains on it. */
static thaw_status next_batch(const batch **out, batch *room, const plan_entry **e, trainer *t)
{
    const bool served = features_serve(t->features, t->job->train) && !t->job->watch;
    const batch *b;

    THAW_CHECK(loader_next(&b, t->loader));
    if (served) {
        THAW_CHECK(features_batch(room, t->features, &t->plans, t->loader, b, t->job->train));
        b = room;
    }
    *out = b;
    return plans_get_part(e, &t->plans, t->job, t->effect, b->n, &t->hyper,
                          served ? PLAN_SUFFIX : PLAN_WHOLE,
                          served ? features_cut(t->features) : NO_VALUE);
}

/* Forward and backward over the update's micro-batches; sums of losses and targets. */
static thaw_status run_micro_batches(double *loss, double *valid, update *u, trainer *t)
{
    const thaw_recipe *r = t->job->recipe;
    const int64_t n = r->accumulate * job_pieces(t->job, t->effect->phase);

    for (int64_t k = 0; k < n && !u->epoch_ended && !u->given_up; k++) {
        const plan_entry *e;
        const batch *b;
        batch room;

        THAW_CHECK(next_batch(&b, &room, &e, t));
        THAW_CHECK(run_batch(e, t->job, b, k > 0));
        *loss += read_scalar(e, e->plan->results.loss);
        *valid += read_scalar(e, e->plan->results.valid);
        advance_data(&t->state, t->job->train, b, r->loader.wrap);
        u->samples += b->n;
        u->epoch_ended = b->last;
        u->given_up = k + 1 < n && !b->last && trainer_stopping(t) && !t->job->watch;
    }
    return THAW_OK;
}

/* As if the update had not begun. */
static thaw_status take_back(trainer *t)
{
    params_snapshot_restore(t->undo, t->job->params);
    t->state = t->tried;
    return loader_seek(t->loader, t->state.epoch, t->state.index);
}

static void smooth_loss(run_state *s, double loss)
{
    s->loss_smoothed =
        isnan(s->loss_smoothed) ? loss : SMOOTHING * s->loss_smoothed + (1 - SMOOTHING) * loss;
}

static void apply(trainer *t, update *u, double valid)
{
    const thaw_recipe *r = t->job->recipe;
    const double clip = optim_clip_factor(u->grad_norm, t->clip_norm);

    optim_step(t->job->params, r->rule, &t->hyper, t->effect, u->lr, u->ramp, clip / valid,
               t->job->threads);
    t->state.updates++;
    t->state.skipped_in_row = 0;
    smooth_loss(&t->state, u->loss);
}

static void skip(trainer *t)
{
    params_snapshot_restore(t->undo, t->job->params);
    t->state.skipped++;
    t->state.phase_skipped++;
    t->state.skipped_in_row++;
}

thaw_status trainer_update(update *u, trainer *t)
{
    double loss = 0, valid = 0;

    *u = (update){0};
    t->tried = t->state;
    if (features_stale(t->features))
        THAW_CHECK(trainer_aim(t, t->effect));
    THAW_CHECK(params_snapshot_take(&t->undo, t->job->params, true));
    THAW_CHECK(run_micro_batches(&loss, &valid, u, t));
    if (u->given_up)
        return take_back(t);
    u->lr = t->base_lr * curve_at(&t->curve, t->state.updates, t->curve_total);
    u->ramp = thaw__effect_ramp(t->effect, t->state.iteration);
    u->loss = loss / valid;
    u->grad_norm = optim_grad_norm(t->job->params, 1 / valid, t->job->threads);
    u->applied = isfinite(u->loss) && isfinite(u->grad_norm);
    if (u->applied)
        apply(t, u, valid);
    else
        skip(t);
    t->state.iteration++;
    return THAW_OK;
}

thaw_status trainer_find_culprit(text *out, trainer *t)
{
    const run_state now = t->state;
    culprit c = {.job = t->job};
    update u = {0};
    double loss = 0, valid = 0;
    thaw_status status;

    loader_skip(t->loader, NULL, NULL); /* the whole network is looked at */
    THAW_CHECK(take_back(t));
    t->job->watch = &c;
    status = run_micro_batches(&loss, &valid, &u, t);
    t->job->watch = NULL;
    features_attach(t->features, t->loader, t->job->train);
    params_snapshot_restore(t->undo, t->job->params);
    t->state = now;
    if (status == THAW_OK) {
        culprit_of_gradients(&c, t->job->params);
        text_add(out, c.words.data ? c.words.data : "");
    }
    text_done(&c.words);
    return status;
}
