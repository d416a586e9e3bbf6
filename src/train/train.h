/*
 * train - the one trainer, and what it reports and keeps. Everything under src/ comes together
 * here; the terminal does not: the trainer tells through events, the caller shows.
 *
 * The layer's other headers: toml.h, recipe.h, recipe_reader.h (what is asked for), job.h (put
 * together), features.h, outlook.h, report.h, init.h.
 */
#ifndef THAW_TRAIN_H
#define THAW_TRAIN_H

#include "train/job.h"

/* ----------------------------------------------------------------------------------------------
 * records (record.c): what state.json says of the phase state */

/* A change made by hand; patterns are layer patterns, aliases already replaced. */
typedef struct run_edit {
    int64_t
        iteration; /* it comes after what the schedule does there, and before what comes later */
    thaw_edit_kind kind;
    double coefficient; /* THAW_EDIT_LR */
    const char **pattern;
    int n_patterns;
} run_edit;

typedef struct run_record {
    thaw_region *region;
    int64_t iteration;
    int64_t samples; /* of the training data; 0: not told */
    thaw_fired *fired;
    int n_fired;
    run_edit *edit;
    int n_edits;
} run_record;

thaw_status record_read(run_record **out, const char *checkpoint) THAW_MUST_USE;
void record_destroy(run_record *r);
thaw_progress record_progress(const run_record *r);

/* Give edits to a sealed schedule: all of a record's, or one. */
thaw_status record_apply(const run_record *r, thaw_schedule *schedule) THAW_MUST_USE;
thaw_status edit_apply(thaw_schedule *schedule, const run_edit *edit) THAW_MUST_USE;
const char *edit_name(thaw_edit_kind kind); /* "freeze" */

/* The edits as a JSON list; r may be NULL. The state.json of a checkpoint with one edit more. */
void record_print_edits(text *out, const run_record *r);
thaw_status record_with_edit(char **json, const char *checkpoint,
                             const run_edit *edit) THAW_MUST_USE;

/* ----------------------------------------------------------------------------------------------
 * training (trainer.c, update.c, …) */

/* Where a run is: what a checkpoint keeps beside tensors. Everything else is derived from it and
 * the recipe. */
typedef struct run_state {
    int64_t iteration;    /* steps done, skipped ones too */
    int64_t epoch, index; /* position in the data: the next sample */
    int64_t updates;      /* applied since the optimizer was last built: the curve's clock */
    int64_t built_at;     /* iteration of that building; -1: never */
    int64_t images;       /* samples seen */
    int skipped, skipped_in_row;
    double loss_smoothed; /* NAN before the first step */
    double best;          /* best metric so far, NAN before the first evaluation */
    double best_loss;     /* of the same evaluation: where metrics are equal, it decides */
    int64_t best_iteration;
    thaw_fired *fired; /* phases that a metric ended */
    int n_fired;
    double phase_best;            /* for `until`: best of this phase; of a loss its negative */
    int64_t phase_best_iteration; /* of the best weights, where they are kept */
    int phase_stale;              /* evaluations since */
    double phase_seconds;         /* time spent in this phase by earlier processes */
    int64_t phase_images;
    int phase_skipped;
    int64_t events_bytes;          /* length of events.jsonl when the checkpoint was made */
    double last_loss, last_metric; /* of the last evaluation */
    double epoch_loss;             /* sum over the samples of the epoch so far */
    int64_t epoch_images;
    int epoch_updates, epoch_skipped;
} run_state;
#define RUN_STATE_INIT                                                                             \
    {                                                                                              \
        .built_at = -1, .loss_smoothed = NAN, .best = NAN, .best_loss = NAN, .phase_best = NAN,    \
        .last_loss = NAN, .last_metric = NAN                                                       \
    }

typedef struct saver saver;

typedef struct trainer {
    job *job;
    const thaw_run_options *options;
    loader *loader;
    plans plans;
    features *features;
    run_state state;
    const thaw_effect *effect; /* in force; NULL before the first step */
    int phase;                 /* announced; -1 before the first */
    optim_hyper hyper;         /* of the phase whose rates are in force */
    curve_config curve;
    double base_lr, clip_norm;
    int64_t curve_total;            /* updates the curve in force is planned for */
    int64_t total;                  /* iterations of the whole run */
    int64_t batch;                  /* of the loader */
    params_snapshot *undo;          /* buffers before a step, to undo a skipped one */
    params_snapshot *phase_weights; /* best of a phase that restores them; NULL: none so far */
    int events_fd;                  /* -1: none */
    bool events_torn;               /* half a line stands behind what state.events_bytes counts */
    saver *saver;                   /* NULL: nothing is saved */
    text history, provenance;       /* rows, see history.c */
    double phase_begun, rate_time, saved_at; /* monotonic seconds */
    double waited;                           /* by loaders that are gone */
    double phase_waited;                     /* `waited` of all loaders when the phase began */
    int64_t rate_images;
    double rate;
    int64_t saved_iteration; /* of the newest checkpoint, made or being made; -1: none */
    int64_t evaluated_iteration;
    run_state tried;    /* before the last update */
    text note;          /* what taking up a checkpoint has to tell */
    run_record *record; /* of the checkpoint taken up: its edits go on into later ones; or NULL */
    bool stop;
} trainer;

/* What one update did. */
typedef struct update {
    double loss, grad_norm, lr;
    double ramp; /* factor of lr for what thawed with the phase */
    int64_t samples;
    bool applied, epoch_ended;
    bool given_up; /* asked to stop between two micro-batches: it is as if nothing had been done */
} update;

/* One update: micro-batches, clipping, optimizer; or a skipped one. Advances t->state, iteration
 * included. */
thaw_status trainer_update(update *u, trainer *t) THAW_MUST_USE;

/* Whether the caller has asked for a stop. */
bool trainer_stopping(const trainer *t);

/*
 * The last update was not finite: do it again, looking at what each step makes, and say where it
 * began (culprit.c). What training has is as before, but for gradients.
 */
thaw_status trainer_find_culprit(text *out, trainer *t) THAW_MUST_USE;

/* culprit.c: the first value that is not finite in batches that are run. */
typedef struct culprit {
    const job *job;
    const batch *batch; /* the present one */
    bool found;
    text words;
} culprit;
exec_watch_fn culprit_look;
void culprit_of_gradients(culprit *c, const params *p); /* where no step was to blame */

/* Run from t->state to the end. */
thaw_status trainer_create(trainer **out, job *j) THAW_MUST_USE;
thaw_status trainer_run(trainer *t) THAW_MUST_USE;
void trainer_destroy(trainer *t);

/* Fill in what every event has, write it to events.jsonl, tell the caller; a refusal sets t->stop.
 */
void trainer_tell(trainer *t, thaw_event *e);
void event_print_json(text *out, const thaw_event *e);

/* Open the run's history to go on where the state says, or, where it is shorter, at the end of its
 * last whole line; the state then says so. Closed with the trainer. */
#define EVENTS_NAME "events.jsonl"
thaw_status events_open(trainer *t, const char *run) THAW_MUST_USE;

/*
 * Optimizer state in files (moments.c). moments_sources: of all that has some in memory, parked or
 * not; free with thaw__free, names live in the region. moments_load: of parameter i.
 */
thaw_status moments_sources(st_source **out, int *n, thaw_region *names, const trainer *t,
                            bool parked) THAW_MUST_USE;
thaw_status moments_load(trainer *t, const st_file *f, int i) THAW_MUST_USE;

/*
 * State that on_freeze = "park" took out of memory lies in the run's folder. Before a change to
 * `effect`, take_up reads it back where the change moves any; after it, put_away writes what is
 * parked and gives its memory back.
 */
#define PARKED_NAME "parked.safetensors"
bool parked_any(const trainer *t);     /* some of it is not in memory */
char *parked_path(const char *folder); /* NULL: no memory */
thaw_status parked_take_up(trainer *t, const thaw_effect *effect) THAW_MUST_USE;
thaw_status parked_put_away(trainer *t) THAW_MUST_USE;

/* Best weights of a phase that takes them back (phase_best.c): keep the present ones; take back
 * and forget, true where they differ; from the file of a checkpoint, where there is one. */
#define PHASE_BEST_NAME "phase_best.safetensors"
thaw_status phase_best_keep(trainer *t) THAW_MUST_USE;
bool phase_best_restore(trainer *t);
thaw_status phase_best_load(trainer *t, const char *checkpoint) THAW_MUST_USE;

/* All tensors of a file that a run has written; THAW_E_CORRUPT when one is not as p has it. */
thaw_status snapshot_read(params_snapshot *to, const params *p, const st_file *f) THAW_MUST_USE;

/* Where best/ lacks the best weights of the state, it gets them from whatever has them
 * (best_kept.c); what came of it is in t->note. */
void best_put_back(trainer *t);

/*
 * Lists of JSON objects in files of a checkpoint (history.c), kept as the text between the
 * brackets. rows_read: an absent file leaves the list as it is.
 */
#define HISTORY_NAME    "history.json"
#define PROVENANCE_NAME "provenance.json"
void rows_add(text *rows, const char *row);
void rows_print(text *out, const text *rows);
thaw_status rows_read(text *rows, const char *checkpoint, const char *name) THAW_MUST_USE;

/* Metrics of every epoch: training loss (mean over the samples of updates that were made), and
 * evaluations. No times: the same run has the same history, however often it was resumed. */
void history_add_update(trainer *t, const update *u);
void history_end_epoch(trainer *t, double lr);
void history_add_eval(trainer *t, const thaw_event *e);

/* provenance.c: how this process runs, from the present iteration on. */
void provenance_add(trainer *t);

/* state.json of the present state; taking up a checkpoint. */
void state_print(text *out, const trainer *t);
thaw_status state_load(trainer *t, const char *checkpoint) THAW_MUST_USE;

/* The numbers alone of some checkpoint; out->fired is freed by the caller. */
thaw_status state_peek(run_state *out, const char *checkpoint) THAW_MUST_USE;

/*
 * Saving beside training (save.c). save_best and save_checkpoint copy what they need: the weights
 * may change as soon as they return. They never fail; a failed save is told as an event when its
 * turn comes, and the newest checkpoint stays what it was.
 *
 * One save is under way at a time. Best weights and a checkpoint of the same step are one save:
 * save_begin lets the writer start on what has been copied. A further save waits for it. Without a
 * run folder there is no saver, and all of this does nothing.
 *
 * Best weights that could not be written are tried again with the next checkpoint, from their copy
 * or, once that is gone, as best_put_back finds them.
 *
 * save_best    the present weights; save_best_of: those of a snapshot, NULL for the present ones
 * save_poll    at a step boundary: tells what became of a save that has ended
 * save_wait    for the end of the one under way, and tells
 * save_last    the present state is on disk when this returns THAW_OK, best weights too; what
 * failed is tried once more
 */
thaw_status saver_create(saver **out, const trainer *t) THAW_MUST_USE;
void saver_destroy(saver *s); /* what is under way is finished first */
void save_best(trainer *t);
void save_best_of(trainer *t, const params_snapshot *from);
void save_checkpoint(trainer *t);
void save_begin(trainer *t);
bool save_pending(const trainer *t); /* something is copied or being written */
void save_poll(trainer *t);
void save_wait(trainer *t);
thaw_status save_last(trainer *t) THAW_MUST_USE;

/* Bytes of the copy in a phase that runs this plan. */
size_t save_copy_bytes(const job *j, int phase, const plan *p);

/*
 * What a checkpoint was made from and what goes on from it (resume_check.c). Every difference is
 * named: refused ones end in THAW_E_MISMATCH with a line each, allowed ones go to t->note. The
 * progress of t is the checkpoint's by then.
 */
struct json_t;
thaw_status resume_check(trainer *t, const struct json_t *state,
                         const char *checkpoint) THAW_MUST_USE;

/* resume_origin.c: program and data as members of state.json; what differs in them. */
typedef struct resume_findings {
    text refused, allowed; /* lines */
    int n_refused;
    bool no_memory;
} resume_findings;
bool resume_judges(const char *section, const char *key); /* the table of verdicts has a row */
void resume_refuse(resume_findings *f, const char *format, ...) THAW_PRINTF(2, 3);
void resume_allow(resume_findings *f, const char *format, ...) THAW_PRINTF(2, 3);
void origin_print(text *out, const trainer *t);
void resume_compare_origin(resume_findings *f, const trainer *t, const struct json_t *state,
                           const char *checkpoint);

/* Views of a recipe. */
thaw_status plan_view(text *out, job *j, bool steps, bool json) THAW_MUST_USE;

/* The checkpoint that a path means: itself, or the newest one of a run folder; NULL: neither. Free
 * with thaw__free. notes: reasons of those that were skipped. */
thaw_status find_checkpoint(char **out, text *notes, const char *path) THAW_MUST_USE;

/* What a path given to eval or predict is (api.c): its weights' folder or file, and the recipe that
 * lies with it; either may stay NULL. */
typedef struct model_place {
    char *weights, *recipe;
} model_place;
thaw_status model_place_find(model_place *p, const char *path) THAW_MUST_USE;
void model_place_done(model_place *p);

#include "train/outlook.h"

#endif
