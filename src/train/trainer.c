/*
 * trainer.c - the loop: what is the effect now; if it is new, migrate and compile; one update;
 * evaluate, save, stop.
 *
 * Whether a phase begins is asked before every step and never remembered as an event, so a resume,
 * a skipped step or two triggers at once cannot lose one.
 */
#include "train/train.h"

#include "train/features.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MOST_SKIPPED 10 /* non-finite steps in a row that end a run */

static thaw_progress progress_of(const trainer *t)
{
    return (thaw_progress){
        .iteration = t->state.iteration, .fired = t->state.fired, .n_fired = t->state.n_fired};
}

static const recipe_phase *phase_of(const trainer *t, int phase)
{
    return &t->job->recipe->phase[phase];
}

/* ----------------------------------------------------------------------------------------------
 * change of phase */

/* Updates that the curve in force is planned for: until the next phase that rebuilds the optimizer.
 */
static int64_t plan_curve(const trainer *t)
{
    const thaw_progress now = progress_of(t);
    int64_t begin, end = t->total;

    for (int p = t->effect->phase + 1; p < thaw_schedule_n_phases(t->job->schedule); p++)
        if (phase_of(t, p)->options.optimizer == THAW_OPTIMIZER_REBUILD) {
            thaw_schedule_phase_span(&end, &begin, t->job->schedule, &now, p);
            break;
        }
    return end - t->effect->built_at;
}

/* Updates of an epoch where the curve in force began. */
static double epoch_of_curve(const trainer *t)
{
    const thaw_progress then = {
        .iteration = t->effect->built_at, .fired = t->state.fired, .n_fired = t->state.n_fired};
    const int phase = thaw_schedule_phase_at(t->job->schedule, &then);

    return (double)thaw_schedule_phase_options(t->job->schedule, phase)->steps_per_epoch;
}

/* Rates of the phase in force: its own where it says so, else the recipe's. */
static void set_rates(trainer *t)
{
    const thaw_recipe *r = t->job->recipe;
    const recipe_phase *p = phase_of(t, t->effect->built_phase);
    const recipe_curve *c = p->curve ? p->curve : &r->curve;

    t->hyper = p->hyper;
    t->base_lr = p->lr;
    t->clip_norm = p->clip_norm;
    t->curve = (curve_config){.rule = c->rule,
                              .warmup = c->warmup,
                              .step_size = c->step_size,
                              .gamma = c->gamma,
                              .least = c->least,
                              .per_epoch = c->per_epoch,
                              .updates_per_epoch = epoch_of_curve(t)};
    t->curve_total = plan_curve(t);
}

static double rate_now(const trainer *t)
{
    return t->base_lr * curve_at(&t->curve, t->state.updates, t->curve_total);
}

/* Who trains, and the least and greatest rate of those where the base rate is lr, times ramp for
 * what thawed with the phase. */
static void count_trainable(thaw_event *e, const trainer *t, double lr, double ramp)
{
    const params *p = t->job->params;

    e->lr = lr;
    e->lr_least = INFINITY;
    for (int i = 0; i < p->n_trained; i++) {
        e->total += (int64_t)p->item[i].elements;
        if (!t->effect->trainable[i])
            continue;
        e->trainable += (int64_t)p->item[i].elements;
        const double own = lr * t->effect->lr_scale[i] * (t->effect->thawed[i] ? ramp : 1);
        e->lr_least = fmin(e->lr_least, own);
        e->lr_most = fmax(e->lr_most, own);
    }
    if (e->trainable == 0)
        e->lr_least = 0;
}

/* Where the state of what freezes goes. */
static const char *parking(const trainer *t)
{
    if (t->effect->on_freeze != THAW_ON_FREEZE_PARK)
        return "set aside";
    return t->options->run ? "parked" : "parked in memory, as there is no run folder";
}

static void describe_change(text *out, const trainer *t, const optim_report *r,
                            double compile_seconds)
{
    const struct {
        int n;
        const char *what;
    } row[] = {{r->kept, "kept"},
               {r->made, "new"},
               {r->resumed, "taken up again"},
               {r->parked, parking(t)},
               {r->dropped, "dropped"}};
    int shown = 0;

    text_add(out, "optimizer state: ");
    for (size_t i = 0; i < THAW_COUNT(row); i++)
        if (row[i].n > 0)
            text_addf(out, "%s%d %s", shown++ ? ", " : "", row[i].n, row[i].what);
    text_addf(out, "%s; plan ready in %.0f ms\n", shown ? "" : "none", compile_seconds * 1e3);
    features_print(out, t->job, features_outlook(t->features));
}

/*
 * Make ready what the present phase runs: the plan that trains; with features, one of what lies
 * behind the cut, and one of what lies before.
 */
static thaw_status wake_plans(trainer *t)
{
    const int64_t n = THAW_MIN(t->batch, t->job->train->n);
    const bool served = features_serve(t->features, t->job->train);
    const value_id cut = served ? features_cut(t->features) : NO_VALUE;
    const plan_entry *e;

    if (served && !features_complete(t->features, t->job->train))
        THAW_CHECK(plans_get_part(&e, &t->plans, t->job, NULL, n, NULL, PLAN_PREFIX, cut));
    THAW_CHECK(plans_get_part(&e, &t->plans, t->job, t->effect, n, &t->hyper,
                              served ? PLAN_SUFFIX : PLAN_WHOLE, cut));
    return THAW_OK;
}

static thaw_status announce_phase(trainer *t, const optim_report *report, double seconds)
{
    budget b = t->job->budget[t->effect->phase];
    thaw_event event = {.kind = THAW_EVENT_PHASE};
    text words = TEXT_INIT;

    count_trainable(&event, t, rate_now(t), thaw__effect_ramp(t->effect, t->state.iteration));
    describe_change(&words, t, report, seconds);
    if (event.trainable == 0)
        text_add(&words, "\nevery parameter is frozen: nothing will be learned");
    event.text = words.data;
    b.cache = features_bytes(t->features);
    event.planned_bytes = budget_sum(&b);
    trainer_tell(t, &event);
    text_done(&words);
    return THAW_OK;
}

/* Seconds that training has waited for data so far. */
static double waited(const trainer *t)
{
    return t->waited + (t->loader ? loader_waited(t->loader) : 0);
}

/* Share of the phase's time, as far as this process has trained it. */
static double waited_share(const trainer *t)
{
    const double seconds = os()->monotonic() - t->phase_begun;

    return seconds > 0 ? (waited(t) - t->phase_waited) / seconds : 0;
}

static void begin_phase_clocks(trainer *t, bool resumed)
{
    if (!resumed) {
        t->state.phase_best = NAN;
        t->state.phase_stale = 0;
        t->state.phase_seconds = 0;
        t->state.phase_images = 0;
        t->state.phase_skipped = 0;
        params_snapshot_destroy(t->phase_weights);
        t->phase_weights = NULL;
    }
    t->phase_begun = t->rate_time = os()->monotonic();
    t->phase_waited = waited(t);
    t->rate_images = 0;
    t->rate = 0;
}

/* A phase counted in epochs begins at the start of one; the rest of an epoch that steps left open
 * is not used. */
static void align_epoch(trainer *t)
{
    if (t->job->recipe->loader.wrap || t->state.index == 0 ||
        phase_of(t, t->effect->phase)->options.unit != THAW_EPOCHS)
        return;
    history_end_epoch(t, NAN);
    t->state.epoch++;
    t->state.index = 0;
}

/* Batches of the phase's size from where the data stands. Plans for others are not needed again. */
static thaw_status set_batch(trainer *t, int64_t size)
{
    loader_options loading = t->job->recipe->loader;

    if (size == t->batch)
        return THAW_OK;
    loading.batch = size;
    t->waited = waited(t);
    loader_destroy(t->loader);
    t->loader = NULL;
    THAW_CHECK(loader_create(&t->loader, t->job->train, &loading));
    t->batch = size;
    plans_drop_training(&t->plans, 0);
    return loader_seek(t->loader, t->state.epoch, t->state.index);
}

static thaw_status change_effect(trainer *t, const thaw_effect *effect, bool resumed)
{
    const double begun = os()->monotonic();
    const bool rebuild = effect->built_at != t->state.built_at;
    const bool new_phase = effect->phase != t->phase;
    const optim_rule *rule = t->job->recipe->rule;
    const int n_state = rule->n_state(&t->hyper);
    optim_report report;

    save_wait(t);
    t->effect = effect;
    if (rebuild) {
        t->state.built_at = effect->built_at;
        t->state.updates = 0;
    }
    set_rates(t);
    THAW_CHECK(set_batch(t, job_micro_batch(t->job, effect->phase)));
    if (!rebuild)
        THAW_CHECK(parked_take_up(t, effect));
    THAW_CHECK(optim_migrate(&report, t->job->params, rule, &t->hyper, effect, rebuild));
    THAW_CHECK(parked_put_away(t));
    plans_drop_training(&t->plans, rule->n_state(&t->hyper) == n_state ? effect->plan_digest : 0);
    THAW_CHECK(trainer_aim(t, effect));
    THAW_CHECK(wake_plans(t));
    if (!new_phase)
        return THAW_OK;
    t->phase = effect->phase;
    begin_phase_clocks(t, resumed);
    if (!resumed) {
        align_epoch(t);
        THAW_CHECK(loader_seek(t->loader, t->state.epoch, t->state.index));
    }
    return announce_phase(t, &report, os()->monotonic() - begun);
}

/* ----------------------------------------------------------------------------------------------
 * evaluating */

/* Of numbers to predict the error is the metric. */
static const char *metric_name(const trainer *t)
{
    return t->job->train->target ? "rmse" : "accuracy";
}

/* A metric such that the greater is the better. */
static double merit(const trainer *t, double metric)
{
    return t->job->train->target ? -metric : metric;
}

/* What `until` of the phase watches, the greater the better. */
static double watched(const trainer *t, const thaw_event *event)
{
    const char *name = t->phase >= 0 ? phase_of(t, t->phase)->options.until_metric : NULL;

    return name && strcmp(name, "valid.loss") == 0 ? -event->loss : merit(t, event->metric);
}

/* With few images to judge by, many weights get the same metric: the surer ones are taken. */
static bool best_so_far(const trainer *t, const thaw_event *event)
{
    const double now = merit(t, event->metric), then = merit(t, t->state.best);

    return isnan(then) || now > then || (now == then && event->loss < t->state.best_loss);
}

static thaw_status judge_metric(trainer *t, thaw_event *event)
{
    run_state *s = &t->state;
    const double least_gain = t->phase >= 0 ? phase_of(t, t->phase)->options.until_min_change : 0;
    const double value = watched(t, event);

    if (best_so_far(t, event)) {
        event->best = true;
        s->best = event->metric;
        s->best_loss = event->loss;
        s->best_iteration = s->iteration;
    }
    if (isfinite(value) && (isnan(s->phase_best) || value > s->phase_best + least_gain)) {
        s->phase_best = value;
        s->phase_stale = 0;
        return phase_best_keep(t);
    }
    s->phase_stale++;
    return THAW_OK;
}

static thaw_status evaluate_split(trainer *t, const char *split)
{
    thaw_event event = {
        .kind = THAW_EVENT_EVAL, .split = split, .metric_name = metric_name(t), .mae = NAN};
    dataset *d = job_split(t->job, split);
    eval_sums sums;

    if (!d)
        return THAW_OK;
    if (features_stale(t->features))
        THAW_CHECK(trainer_aim(t, t->effect));
    THAW_CHECK(evaluate(&sums, NULL, &t->plans, t->job, d, t->features));
    features_take_counts(&event.cache_hits, &event.cache_misses, t->features);
    event.loss = sums.loss;
    event.metric = (double)sums.hits / (double)sums.n;
    if (d->target) {
        event.metric = sqrt(sums.squared / (double)sums.n);
        event.mae = sums.absolute / (double)sums.n;
    }
    event.seconds = sums.seconds;
    event.rate = (double)sums.n / sums.seconds;
    if (strcmp(split, "valid") == 0) {
        t->state.last_loss = sums.loss;
        t->state.last_metric = event.metric;
        t->evaluated_iteration = t->state.iteration;
        THAW_CHECK(judge_metric(t, &event));
        history_add_eval(t, &event);
        if (event.best)
            save_best(t);
    }
    trainer_tell(t, &event);
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * stepping */

static void measure_rate(trainer *t, const update *u)
{
    const double now = os()->monotonic();

    t->rate_images += u->samples;
    if (now - t->rate_time < 0.5 && t->rate > 0)
        return;
    if (now > t->rate_time)
        t->rate = (double)t->rate_images / (now - t->rate_time);
    t->rate_time = now;
    t->rate_images = 0;
}

static double estimate_left(const trainer *t)
{
    const int64_t pieces = t->phase >= 0 ? job_pieces(t->job, t->phase) : 1;
    const double per_step = (double)(t->batch * t->job->recipe->accumulate * pieces);

    return t->rate > 0 ? (double)(t->total - t->state.iteration) * per_step / t->rate : -1;
}

static void tell_step(trainer *t, const update *u)
{
    thaw_event event = {.kind = THAW_EVENT_STEP,
                        .loss = u->loss,
                        .grad_norm = u->grad_norm,
                        .metric = t->state.last_metric,
                        .metric_name = metric_name(t),
                        .rate = t->rate,
                        .waited = waited_share(t),
                        .seconds_left = estimate_left(t),
                        .skipped = u->applied ? 0 : t->state.skipped_in_row};

    features_take_counts(&event.cache_hits, &event.cache_misses, t->features);
    count_trainable(&event, t, u->lr, u->ramp);
    trainer_tell(t, &event);
}

static void tell_phase_end(trainer *t)
{
    const double seconds = t->state.phase_seconds + os()->monotonic() - t->phase_begun;
    thaw_event event = {.kind = THAW_EVENT_PHASE_END,
                        .loss = t->state.last_loss,
                        .metric = t->state.last_metric,
                        .metric_name = metric_name(t),
                        .seconds = seconds,
                        .rate = (double)t->state.phase_images / seconds,
                        .waited = waited_share(t),
                        .skipped = t->state.phase_skipped};

    count_trainable(&event, t, rate_now(t), thaw__effect_ramp(t->effect, t->state.iteration));
    trainer_tell(t, &event);
}

static void tell_text(trainer *t, thaw_event_kind kind, const char *words)
{
    thaw_event event = {.kind = kind, .text = words};

    trainer_tell(t, &event);
}

/* Asked once, it is done once. */
static bool save_requested(const trainer *t)
{
    volatile int *const save = t->options->save;
    const bool wanted = save && *save;

    if (wanted)
        *save = 0;
    return wanted;
}

/* By the clock none is due while one is under way: what steps and epochs ask for alone decides
 * which checkpoints there are. */
static bool save_due(const trainer *t, const update *u)
{
    const thaw_recipe *r = t->job->recipe;

    return (r->save_steps > 0 && t->state.iteration % r->save_steps == 0) ||
           (r->save_epochs > 0 && u->epoch_ended && t->state.epoch % r->save_epochs == 0) ||
           (os()->monotonic() - t->saved_at >= r->save_seconds && !save_pending(t)) ||
           save_requested(t);
}

/* The phase of the step just made has no further step. */
static bool phase_ended(const trainer *t)
{
    const thaw_progress now = progress_of(t);

    return t->state.iteration >= t->total ||
           thaw_schedule_phase_at(t->job->schedule, &now) != t->phase;
}

/* Ends the phase when its metric has stopped improving: the decision becomes part of the progress.
 */
static thaw_status fire_until(trainer *t)
{
    const thaw_phase_options *o = &phase_of(t, t->phase)->options;
    run_state *s = &t->state;
    thaw_fired *grown;

    if (!o->until_metric || s->phase_stale < o->until_patience || phase_ended(t))
        return THAW_OK;
    grown = thaw__resize(s->fired, (size_t)s->n_fired + 1, sizeof *grown);
    if (!grown)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the list of ended phases");
    s->fired = grown;
    s->fired[s->n_fired++] = (thaw_fired){.phase = t->phase, .iteration = s->iteration};
    return THAW_OK;
}

static void find_total(trainer *t)
{
    const thaw_progress now = progress_of(t);
    int64_t begin;

    thaw_schedule_phase_span(&begin, &t->total, t->job->schedule, &now,
                             thaw_schedule_n_phases(t->job->schedule) - 1);
}

bool trainer_stopping(const trainer *t)
{
    return t->stop || (t->options->stop && *t->options->stop);
}

/* The last evaluation of a phase, and one more where its weights are others than they were. */
static thaw_status evaluate_end(trainer *t)
{
    text words = TEXT_INIT;

    if (t->evaluated_iteration != t->state.iteration)
        THAW_CHECK(evaluate_split(t, "valid"));
    save_begin(t);
    if (!phase_best_restore(t))
        return THAW_OK;
    text_addf(&words, "phase '%s': its best weights are back, those of step %lld",
              thaw_schedule_phase_name(t->job->schedule, t->phase),
              (long long)t->state.phase_best_iteration);
    tell_text(t, THAW_EVENT_NOTE, words.data ? words.data : "");
    text_done(&words);
    return evaluate_split(t, "valid");
}

/* One note a line. */
static void tell_notes(trainer *t)
{
    char *line = t->note.data;

    while (line && *line) {
        char *end = strchr(line, '\n');

        if (end)
            *end = '\0';
        tell_text(t, THAW_EVENT_NOTE, line);
        line = end ? end + 1 : NULL;
    }
    text_done(&t->note);
}

/* Once, at the start. */
static void note_bf16(trainer *t)
{
    if (plans_bf16(t->job->recipe) == BF16_NONE)
        return;
    plans_print_bf16(&t->note, t->job->recipe);
    text_add(&t->note, "\n");
}

/* Pictures that were found broken since the last time. */
static void note_data(trainer *t)
{
    dataset *const split[] = {t->job->train, t->job->valid, t->job->test};

    for (size_t i = 0; i < THAW_COUNT(split); i++)
        if (split[i])
            dataset_take_notes(&t->note, split[i]);
    tell_notes(t);
}

static thaw_status fail_numeric(trainer *t)
{
    text where = TEXT_INIT;
    thaw_status status;

    THAW_TRY(trainer_find_culprit(&where, t));
    status = thaw_fail(THAW_E_NUMERIC,
                       "step %lld: the loss or its gradient was not finite %d times in a row: %s; "
                       "try a smaller 'optimizer.lr' or set 'optimizer.clip_norm'",
                       (long long)t->state.iteration, MOST_SKIPPED,
                       where.data ? where.data : "where it began is not known");
done:
    text_done(&where);
    return status;
}

static thaw_status after_update(trainer *t, const update *u)
{
    const thaw_recipe *r = t->job->recipe;
    bool due;

    save_poll(t);
    measure_rate(t, u);
    tell_step(t, u);
    features_take_notes(&t->note, t->features);
    note_data(t);
    history_add_update(t, u);
    if (u->epoch_ended)
        history_end_epoch(t, u->lr);
    if (t->state.skipped_in_row >= MOST_SKIPPED)
        return fail_numeric(t);
    if (u->epoch_ended && r->eval_every > 0 && t->state.epoch % r->eval_every == 0) {
        THAW_CHECK(evaluate_split(t, "valid"));
        THAW_CHECK(fire_until(t));
        find_total(t);
    }
    due = save_due(t, u);
    if (phase_ended(t)) {
        THAW_CHECK(evaluate_end(t));
        tell_phase_end(t);
        due = due || r->save_on_phase;
    }
    if (due)
        save_checkpoint(t);
    save_begin(t);
    return THAW_OK;
}

static thaw_status one_step(trainer *t)
{
    const thaw_progress now = progress_of(t);
    const thaw_effect *effect = NULL;
    update u;

    THAW_CHECK(thaw_schedule_effect(&effect, t->job->schedule, &now));
    if (!t->effect || effect->digest != t->effect->digest || effect->phase != t->phase)
        THAW_CHECK(change_effect(t, effect, false));
    THAW_CHECK(trainer_update(&u, t));
    return u.given_up ? THAW_OK : after_update(t, &u);
}

/* ---------------------------------------------------------------------------------------------- a
 * run */

static void tell_run(trainer *t)
{
    thaw_event event = {
        .kind = THAW_EVENT_RUN,
        .baseline = t->job->valid && t->job->valid->label ? dataset_majority(t->job->valid) : 0};
    const bool resumed = t->saved_iteration >= 0;
    text words = TEXT_INIT;

    for (int i = 0; i < t->job->params->n_trained; i++)
        event.total += (int64_t)t->job->params->item[i].elements;
    text_addf(&words, "network: %s, %s%s\n", t->job->model->config.arch,
              resumed                      ? "as the checkpoint has it"
              : t->job->recipe->model_path ? "from "
                                           : "random start",
              !resumed && t->job->recipe->model_path ? t->job->recipe->model_path : "");
    if (t->job->load_note && t->job->load_note[0])
        text_addf(&words, "%s\n", t->job->load_note);
    text_addf(&words, "data: %s",
              t->job->train->description ? t->job->train->description : "the caller's");
    job_add_guess(&words, t->job);
    event.text = words.data;
    trainer_tell(t, &event);
    text_done(&words);
}

/* The state at which a resumed run stands belongs to a phase that has begun already. */
static thaw_status take_up_phase(trainer *t)
{
    const thaw_progress now = progress_of(t);
    const thaw_effect *effect = NULL;
    int64_t begin, end;

    THAW_CHECK(thaw_schedule_effect(&effect, t->job->schedule, &now));
    thaw_schedule_phase_span(&begin, &end, t->job->schedule, &now, effect->phase);
    return change_effect(t, effect, t->state.iteration > begin);
}

/* The first phase's cache serves here already. */
static thaw_status evaluate_start(trainer *t)
{
    const thaw_progress now = progress_of(t);
    const thaw_effect *effect = NULL;

    THAW_CHECK(thaw_schedule_effect(&effect, t->job->schedule, &now));
    THAW_CHECK(trainer_aim(t, effect));
    return evaluate_split(t, "valid");
}

static thaw_status finish(trainer *t)
{
    if (!t->job->valid)
        save_best(t); /* nobody has judged: the last weights are all there is to take along */
    THAW_CHECK(save_last(t));
    if (!job_split(t->job, "test"))
        return THAW_OK;
    return evaluate_split(t, "test");
}

/* Where the result lies. */
static void tell_finished(trainer *t)
{
    const run_state *const s = &t->state;
    text words = TEXT_INIT;

    text_add(&words, "finished");
    if (t->options->run && isnan(s->best))
        text_addf(&words, "; the weights are in '%s/best'", t->options->run);
    else if (t->options->run && t->job->train->target)
        text_addf(&words, "; the best weights, with an RMSE of %.4g in step %lld, are in '%s/best'",
                  s->best, (long long)s->best_iteration, t->options->run);
    else if (t->options->run)
        text_addf(&words,
                  "; the best weights, with an accuracy of %.2f%% in step %lld, are in '%s/best'",
                  100 * s->best, (long long)s->best_iteration, t->options->run);
    tell_text(t, THAW_EVENT_END, words.failed ? "finished" : words.data);
    text_done(&words);
}

/* To the end, or until a stop is asked for; THAW_E_STOPPED from within an evaluation. */
static thaw_status run_steps(trainer *t)
{
    save_begin(t);
    if (t->state.iteration > 0 && t->state.iteration < t->total)
        THAW_CHECK(take_up_phase(t));
    while (t->state.iteration < t->total && !trainer_stopping(t))
        THAW_CHECK(one_step(t));
    if (t->state.iteration < t->total)
        return THAW_OK;
    THAW_CHECK(finish(t));
    tell_finished(t);
    return THAW_OK;
}

static thaw_status stop_saved(trainer *t)
{
    THAW_CHECK(save_last(t));
    tell_text(t, THAW_EVENT_END, "stopped on request");
    return thaw_fail(THAW_E_STOPPED, "stopped on request after step %lld of %lld%s",
                     (long long)t->state.iteration, (long long)t->total,
                     t->options->run ? "; resume goes on from there" : "");
}

/* The step before an evaluation that was given up is not over: it cannot be saved. */
static thaw_status stop_unsaved(trainer *t)
{
    save_wait(t);
    tell_text(t, THAW_EVENT_END,
              "stopped on request, without the end of an evaluation that would have taken long: "
              "what came after the newest checkpoint will be done again");
    return thaw_fail(THAW_E_STOPPED,
                     "stopped on request during the evaluation after step %lld of %lld%s",
                     (long long)t->state.iteration, (long long)t->total,
                     t->options->run ? "; resume goes on from the newest checkpoint" : "");
}

thaw_status trainer_run(trainer *t)
{
    thaw_status status = THAW_OK;

    if (t->options->run && !t->saver)
        THAW_CHECK(saver_create(&t->saver, t));
    THAW_CHECK(tune_measure(t->job, t->options->run));
    text_add(&t->note, t->job->tune_note.data ? t->job->tune_note.data : "");
    provenance_add(t);
    find_total(t);
    tell_run(t);
    note_bf16(t);
    if (t->state.iteration > 0)
        best_put_back(t);
    note_data(t);
    if (t->state.iteration == 0 && t->job->recipe->eval_at_start)
        status = evaluate_start(t);
    if (status == THAW_OK)
        status = run_steps(t);
    if (status == THAW_E_STOPPED)
        return stop_unsaved(t);
    return status == THAW_OK && t->state.iteration < t->total ? stop_saved(t) : status;
}

thaw_status trainer_create(trainer **out, job *j)
{
    trainer *t = thaw__new(1, sizeof *t);
    loader_options loading;
    thaw_status status;

    if (!t)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the trainer");
    t->job = j;
    t->options = j->options;
    t->state = (run_state)RUN_STATE_INIT;
    t->phase = t->events_fd = -1;
    t->saved_iteration = t->evaluated_iteration = -1;
    t->saved_at = os()->monotonic();
    t->hyper = j->recipe->hyper;
    j->saves = j->options->run != NULL;
    THAW_TRY(budget_fit(&t->note, j, true));
    loading = j->recipe->loader;
    loading.batch = t->batch = job_micro_batch(j, 0);
    THAW_TRY(loader_create(&t->loader, j->train, &loading));
    THAW_TRY(features_create(&t->features, j));
    *out = t;
    t = NULL;
done:
    trainer_destroy(t);
    return status;
}

void trainer_destroy(trainer *t)
{
    if (!t)
        return;
    saver_destroy(t->saver);
    text_done(&t->history);
    text_done(&t->provenance);
    plans_done(&t->plans);
    loader_destroy(t->loader);
    features_destroy(t->features, t->options->run && t->state.iteration < t->total);
    params_snapshot_destroy(t->undo);
    params_snapshot_destroy(t->phase_weights);
    thaw__free(t->state.fired);
    record_destroy(t->record);
    text_done(&t->note);
    if (t->events_fd >= 0)
        os_close(t->events_fd);
    thaw__free(t);
}
