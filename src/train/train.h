/*
 * train - the one trainer, the recipe it follows, and what it reports. Everything under src/ comes
 * together here; the terminal does not: the trainer tells through events, the caller shows.
 */
#ifndef THAW_TRAIN_H
#define THAW_TRAIN_H

#include "ckpt/ckpt.h"
#include "core/core.h"
#include "data/data.h"
#include "data/picture.h"
#include "exec/exec.h"
#include "model/model.h"
#include "optim/optim.h"
#include "params/params.h"
#include "plan/plan.h"

#include <thaw/thaw.h>

/* ----------------------------------------------------------------------------------------------
 * TOML (toml.c) */

/*
 * A TOML 1.0 document: a tree of values that keeps source order and the line and column of each key
 * and value. Read with an explicit stack; depth at most 64. No recursion, no locale.
 */
typedef enum toml_type {
    TOML_STRING,
    TOML_INTEGER,
    TOML_FLOAT,
    TOML_BOOLEAN,
    TOML_DATETIME,
    TOML_ARRAY,
    TOML_TABLE
} toml_type;

typedef struct toml_value {
    toml_type type;
    const char
        *key; /* in a table: its key; else NULL. NUL-terminated; key_length counts NULs in it */
    size_t key_length;
    int key_line, key_column; /* of the key, from 1; columns count characters */
    int line, column;         /* of the value, from 1 */
    const char *origin;       /* NULL: the document; else where the value came from instead */
    const char *string;       /* TOML_STRING (NUL-terminated; length may differ when it holds NUL),
                                 TOML_DATETIME: its text */
    size_t length;
    int64_t integer;
    double real;
    bool boolean;
    struct toml_value *first; /* TOML_ARRAY, TOML_TABLE: members in source order */
    struct toml_value *next;
    size_t n;                /* members */
    struct toml_value *last; /* the reader's own, as the two below: last member, */
    uint8_t made, depth;     /* how a table or array came to be, nesting from the root */
} toml_value;

typedef struct toml_document {
    thaw_region *region;
    toml_value *root;
} toml_document;

/* `name` stands in messages: "name:3:7: what; what to do". size bytes of UTF-8. Status
 * THAW_E_RECIPE. */
thaw_status toml_parse(toml_document **out, const char *text, size_t size,
                       const char *name) THAW_MUST_USE;
void toml_destroy(toml_document *d);
const toml_value *toml_get(const toml_value *table, const char *key); /* NULL: none */

/* toml_utf8.c: bytes of the sequence at p, 0 when it is malformed; a character as UTF-8. */
size_t toml_utf8_length(const unsigned char *p, size_t left);
void toml_add_utf8(text *t, uint32_t c);

/* toml_word.c: a value without quotes (a date leaves its text to the caller); word is scratch.
 * NULL, or what is wrong with it. */
const char *toml_word(toml_value *v, char *word) THAW_MUST_USE;

/*
 * Read one value from text and put it into a table of d under a key: in the place of the value that
 * was there, which it replaces, or at the end. Errors as toml_parse; the table is unchanged then.
 */
thaw_status toml_put(toml_value **out, toml_document *d, toml_value *table, const char *key,
                     const char *source, size_t size, const char *name) THAW_MUST_USE;

/* ----------------------------------------------------------------------------------------------
 * recipe (recipe.c) */

/* Operations of a phase, in source order; a list of patterns makes one each. */
typedef enum change_kind {
    CHANGE_FREEZE,
    CHANGE_UNFREEZE,
    CHANGE_COEFFICIENT,
    CHANGE_PINNED /* the coefficient is 1, whatever an ancestor has */
} change_kind;
typedef struct recipe_change {
    change_kind kind;
    const char *written;  /* the pattern or alias as it stands in the recipe */
    const char **pattern; /* aliases already replaced by their patterns */
    int n_patterns;
    double coefficient;
    int line, column; /* where it stands; 0: from --set */
} recipe_change;

typedef struct recipe_curve {
    const curve_rule *rule;
    double step_size, gamma, least;
    double warmup; /* in updates, or epochs where per_epoch */
    bool per_epoch;
} recipe_curve;

typedef struct recipe_phase {
    thaw_phase_options options;
    recipe_change *change;
    int n_changes;
    double lr, clip_norm;      /* as in [optimizer] where the phase says nothing */
    optim_hyper hyper;         /* likewise */
    int64_t batch;             /* 0: the data's */
    const recipe_curve *curve; /* NULL: the recipe's */
    int line;
} recipe_phase;

/* Where a stage of the step-scheduled form and its changes stand; 0: from --set. */
typedef struct recipe_place {
    int line, column;
} recipe_place;
typedef struct recipe_stage_place {
    recipe_place at;
    const recipe_place *spec;
} recipe_stage_place;

/* One split of the data: an IDX file pair and what to take of it. images NULL: no such split. */
typedef struct recipe_split {
    const char *images, *labels;
    dataset_subset subset;
} recipe_split;

/* data.format, in the order of its choices. */
typedef enum data_format { DATA_IDX, DATA_CALLBACK, DATA_FOLDER, DATA_CSV } data_format;

/* preprocess.c: preprocessor_config.json of a model folder. Zeros: it does not say. */
#define PREPROCESS_NAME "preprocessor_config.json"
typedef struct preprocess {
    bool found;
    int64_t height, width; /* of the image */
    int64_t shorter_side;  /* resized to, before the centre is cut out; 0: stretched */
    resample_filter filter;
    double mean[4], std[4];
    int n_mean;
} preprocess;
thaw_status preprocess_parse(preprocess *out, const char *json, size_t size,
                             const char *file) THAW_MUST_USE;
thaw_status preprocess_read(preprocess *out, const char *folder) THAW_MUST_USE; /* may be absent */
void preprocess_print(text *out, const picture_recipe *r, const loader_options *o);
/* What the file says goes over r and o: with picture_load, one picture as that network wants it. */
void preprocess_apply(picture_recipe *r, loader_options *o, const preprocess *p);

/* A recipe with every value resolved. Strings belong to it. */
struct thaw_recipe {
    thaw_region *region;
    const char *name;   /* of the file, for messages */
    const char *folder; /* absolute; relative paths in the recipe are relative to it */
    const char *title;  /* what the recipe calls itself; NULL: nothing */
    int64_t seed;

    const char *model_path; /* folder with config.json and model.safetensors; NULL: config alone */
    model_config
        config;        /* from [model]; fields left at 0 come from the model's folder or the data */
    bool new_head;     /* the head starts anew although the file's would fit */
    bool init_by_name; /* model.init = "by-name": start values of the reference runs */

    data_format format;
    recipe_split train, valid, test; /* of pictures: a folder or list as `images` */
    picture_source pictures;         /* with the formats folder and csv */
    bool crop_centre;
    int n_classes; /* of the labels; 0: from the data */
    loader_options
        loader; /* of training; evaluation has the same without shuffle, shift, flip, wrap */

    const optim_rule *rule;
    optim_hyper hyper;
    double lr;
    double clip_norm; /* INFINITY: off */
    int64_t accumulate;
    recipe_curve curve;

    op_kind loss; /* OP_CROSS_ENTROPY or OP_MSE */
    op_attrs loss_attrs;

    dtype real; /* train.precision: f32, f64 */
    const exec_ops *executor;
    bool double_sums;      /* train.sums */
    uint64_t memory_limit; /* bytes; 0: what the machine has */
    bool frozen_norm_eval;
    bool fold, fuse;    /* plan.fold, plan.fuse */
    int64_t eval_every; /* epochs; 0: only at the ends of phases */
    bool eval_at_start;

    int64_t save_steps;  /* a checkpoint every so many steps; 0: off */
    int64_t save_epochs; /* every so many epochs; 0: off */
    double save_seconds; /* INFINITY: off */
    int keep;
    bool save_on_phase;
    bool save_parked; /* state parked by frozen layers goes into checkpoints */

    bool cache_off;                    /* features are not kept */
    uint64_t cache_memory, cache_disk; /* bytes; memory UINT64_MAX: a share of what is free */
    const char *cache_folder;          /* NULL: in the run's folder */

    recipe_phase *phase;
    int n_phases;

    /* the step-scheduled form: parameters by fnmatch patterns at fixed steps, beside the phases */
    thaw_alias *module_patterns;
    int n_module_patterns;
    thaw_freeze_spec *freeze; /* from the start */
    recipe_place *freeze_place;
    int n_freeze;
    thaw_freeze_stage *freeze_stage;
    recipe_stage_place *stage_place;
    int n_freeze_stages;

    char *resolved; /* the recipe as TOML with every value and its origin as a comment */
};

/* One line per key: name, type, default, range, help; for `thaw help recipe` and docs/recipe.md. */
void recipe_help(text *out, bool markdown);

/* ----------------------------------------------------------------------------------------------
 * how recipes are read (recipe_*.c only) */

/*
 * One pass over one tree: --set edits it, defaults are added to it, every value in it is checked
 * and stored, and printing it gives the resolved recipe. Mistakes are collected, not returned.
 */
typedef struct recipe_problem {
    int line, column;
    size_t number; /* order of finding */
    const char *text;
} recipe_problem;

typedef struct recipe_reader {
    thaw_recipe *recipe;
    toml_document *doc;
    recipe_problem *problem;
    size_t n_problems, cap_problems;
    bool no_memory;        /* something was left out: reading fails */
    preprocess preprocess; /* of the model's folder */
} recipe_reader;

/* What a key holds; a list holds several of the same. */
typedef enum key_kind {
    KEY_STRING,
    KEY_PATH,   /* made absolute */
    KEY_CHOICE, /* stored as its number, or by set */
    KEY_INTEGER,
    KEY_NUMBER,
    KEY_BOOLEAN,
    KEY_INTERVAL,     /* "10min", "500 steps", 500 */
    KEY_SIZE,         /* "2GiB", 1000000 */
    KEY_COEFFICIENTS, /* table of numbers or "pin" */
    KEY_TABLE         /* table with keys of its own: section "section.name" */
} key_kind;

/* A key of a recipe: everything about it. */
typedef struct recipe_key {
    const char *section, *name; /* "" for the top */
    key_kind kind;
    int least_n, most_n;  /* most_n > 0: lists of so many are allowed, */
    bool list_only;       /* and nothing else */
    const char *standard; /* default as TOML, or in words where derive is set; NULL: none */
    void (*derive)(text *out, const recipe_reader *rd, const toml_value *section,
                   const char *name); /* default as TOML, from other keys; may be nothing */
    bool required;
    const char *when; /* "name=sgd|adam": only beside that value; "train": only beside that key;
                         "optimizer.name=sgd": where another section has that value */
    const char *also; /* a second condition of the same kind */
    double least, most;
    bool above_least, below_most; /* the bound itself is excluded */
    const char *(*choice)(size_t i);
    size_t offset, size; /* of the field in the section's struct; size 0: set stores it */
    void (*set)(recipe_reader *rd, void *target, const toml_value *v);
    const char *help;
} recipe_key;

/* recipe_keys.c */
typedef struct recipe_section {
    const char *name, *help;
} recipe_section;
const recipe_key *recipe_keys(size_t *n);
const recipe_section *recipe_sections(size_t *n);
const recipe_key *recipe_key_find(const char *section, const char *name); /* NULL: none */

/* recipe_set.c: one --set. */
void recipe_set(recipe_reader *rd, const char *set);

/* recipe_section.c: keys of one table, with sub-tables; target is the section's struct. */
void recipe_read_section(recipe_reader *rd, const char *section, toml_value *table, void *target);
void recipe_unknown(recipe_reader *rd, const char *section, const toml_value *v);
const toml_value *recipe_items(size_t *n, const toml_value *v); /* of a list; a value is one */
void recipe_add_bound(text *t, double bound);                   /* of its range */
void recipe_add_when(text *t, const char *section,
                     const char *when); /* the key that its `when` looks at */

/* recipe_phase.c: aliases and phases. */
void recipe_read_phases(recipe_reader *rd);
void recipe_set_until(recipe_reader *rd, void *target, const toml_value *v);
void recipe_set_phase_curve(recipe_reader *rd, void *target, const toml_value *v);

/* The phase of that number as it stands in the file; NULL: there is none. */
const toml_value *recipe_phase_table(const recipe_reader *rd, int phase);

/* Samples of one micro-batch in a phase. */
int64_t recipe_batch(const thaw_recipe *recipe, int phase);

/* recipe_stage.c: the step-scheduled form. recipe_add_stages gives it to a schedule that has no
 * phase yet. */
void recipe_read_stages(recipe_reader *rd);
thaw_status recipe_add_stages(thaw_schedule *schedule, const thaw_recipe *recipe) THAW_MUST_USE;
const char **recipe_strings(recipe_reader *rd, int *n, const toml_value *v); /* string or list */

/* recipe_check.c: what no key can know alone. */
void recipe_check(recipe_reader *rd);

/* recipe_pictures.c: [data] for pictures; look_at_model once [model] is read. */
bool recipe_has_pictures(const thaw_recipe *recipe);
void recipe_look_at_model(recipe_reader *rd);
void recipe_check_pictures(recipe_reader *rd);
typedef void recipe_derive_fn(text *out, const recipe_reader *rd, const toml_value *section,
                              const char *name);
recipe_derive_fn recipe_derive_normal, recipe_derive_channels, recipe_derive_side,
    recipe_derive_resize, recipe_derive_crop, recipe_derive_resize_to, recipe_derive_loss,
    recipe_derive_metric;
void recipe_set_side(recipe_reader *rd, void *target, const toml_value *v);
void recipe_set_crop_scale(recipe_reader *rd, void *target, const toml_value *v);
void recipe_set_jitter(recipe_reader *rd, void *target, const toml_value *v);

/* recipe_print.c */
void recipe_print(text *out, const recipe_reader *rd);
void toml_add_string(text *out, const char *s, size_t n); /* quoted and escaped */
void toml_add_value(text *out, const toml_value *v);      /* on one line */

/* recipe.c: mistakes, at a key or at its value; v NULL: in the whole file. Memory of the recipe. */
void recipe_bad_key(recipe_reader *rd, const toml_value *v, const char *format, ...)
    THAW_PRINTF(3, 4);
void recipe_bad_value(recipe_reader *rd, const toml_value *v, const char *format, ...)
    THAW_PRINTF(3, 4);
void *recipe_alloc(recipe_reader *rd, size_t count, size_t size);
char *recipe_strdup(recipe_reader *rd, const char *s);

/* Put a value given as TOML into a table; origin is what the resolved recipe says of it. NULL after
 * a failure. */
toml_value *recipe_put(recipe_reader *rd, toml_value *table, const char *key, const char *source,
                       const char *origin);

/* ----------------------------------------------------------------------------------------------
 * trainer (trainer.c …) */

/*
 * A run put together: network with weights, data, schedule, executor. Shared by training, resuming,
 * evaluating and planning.
 */
typedef struct job {
    const thaw_recipe *recipe;
    const thaw_run_options *options;
    model *model;
    params *params;
    thaw_schedule *schedule;
    dataset *train, *valid, *test; /* NULL: the recipe has no such split */
    struct job_source *source;     /* adapters of the caller's own data, or NULL */
    exec *exec;
    int threads;
    int *pieces;        /* [n_phases] micro-batches in which a batch is run; NULL: one each */
    int64_t eval_batch; /* samples of a batch in evaluations; 0: the data's */
    void *targets;      /* of a batch for a squared error: one-hot rows; made when first needed */
    struct culprit *watch; /* looks for values that are not finite while set; NULL: nobody does */
    char *load_note;       /* what loading the weights replaced or left over; "" for nothing */
} job;

/* What a job needs to do; data and executor cost time and memory. */
#define JOB_DATA 1u
#define JOB_EXEC 2u

/*
 * Open. weights: a safetensors file or a folder with model.safetensors and config.json that
 * replaces the recipe's; NULL: the recipe's. Both recipe and options are borrowed for the job's
 * life.
 */
thaw_status job_open(job **out, const thaw_recipe *recipe, const thaw_run_options *options,
                     const char *weights, unsigned needs) THAW_MUST_USE;
void job_close(job *j);
dataset *job_split(const job *j, const char *split); /* NULL: none of that name */

/* The sealed schedule of a recipe over a network and so many training samples. Mistakes come with
 * their places in the recipe. */
thaw_status job_schedule(thaw_schedule **out, const thaw_recipe *recipe, const thaw_tree *tree,
                         int64_t samples) THAW_MUST_USE;

/* config.json of a model folder. */
thaw_status model_folder_config(model_config *out, const char *folder) THAW_MUST_USE;

/* Start values for all tensors; then those of a file. note (may be NULL): what did not fit, freed
 * with thaw__free. */
void weights_start(params *p, const model *m, const thaw_recipe *recipe);
thaw_status weights_load(char **note, params *p, model *m, const char *path,
                         bool new_head) THAW_MUST_USE;

/*
 * A file's tensors matched with a network's, in the naming in which most of them agree. entry[i] is
 * tensor i of the network, NULL where it is missing; used[k] says that entry k of the file is some
 * tensor's.
 */
typedef struct weights_match {
    const model *model;
    bundle *file;
    const char *naming; /* NULL: the network's own */
    const bundle_entry **entry;
    model_part *part; /* which rows of its entry each tensor is */
    bool *used;
    int n_found;
} weights_match;
thaw_status match_open(weights_match **out, const model *m, const char *path) THAW_MUST_USE;
void match_close(weights_match *match);

/* Whether tensor i has its entry's shape, or that of its part of it. */
bool match_fits(const weights_match *match, int i);

/* Tensor i's name in the naming of the match; and " (did you mean …)" where the file has a near
 * one.
 */
void match_add_name(text *out, const weights_match *match, int i);
void match_add_near(text *out, const weights_match *match, int i);

/* The naming and element type of the file into the network's configuration, to leave in them. */
void match_keep_form(model *m, const weights_match *match);

/* What matched, is missing and is left over, for people and for programs. */
thaw_status match_account(text *out, const model *m, const char *path, bool json) THAW_MUST_USE;

/*
 * What the place of a network's weights says the network is: config.json of a folder; without one,
 * the names and shapes of the tensors. THAW_E_SUPPORT when they fit no network.
 */
thaw_status model_place_config(model_config *out, const char *path) THAW_MUST_USE;

/* All tensors as sources for a file, from the parameters or a snapshot of them; free with
 * thaw__free. */
thaw_status weights_sources(st_source **out, const params *p,
                            const params_snapshot *from) THAW_MUST_USE;

/* These sources under the names and in the element type that the network's weights came in, *made
 * of them: tensors that are parts of one there are joined. List and copies are the region's. */
thaw_status weights_as_loaded(st_source **out, int *made, thaw_region *region,
                              const st_source *from, int n, const model_config *c) THAW_MUST_USE;

/* Compiled plans, awake, by purpose, part, batch and plan digest of the effect. */
#define PLANS_MOST 16
typedef struct plan_entry {
    plan *plan;
    exec_session *session;
    uint64_t digest;
    int64_t batch;
    bool training;
    plan_part part;
    value_id cut;
    uint64_t used; /* clock of its last use */
} plan_entry;
typedef struct plans {
    plan_entry entry[PLANS_MOST];
    int n;
    uint64_t clock;
} plans;

/* The plan for batches of n samples, compiled and awake. effect NULL: evaluation. rows: the
 * optimizer's, for training. */
thaw_status plans_get(const plan_entry **out, plans *cache, job *j, const thaw_effect *effect,
                      int64_t n, const optim_hyper *hyper) THAW_MUST_USE;
/* Compile without waking. */
thaw_status plans_compile(plan **out, job *j, const thaw_effect *effect, int64_t n,
                          const optim_hyper *hyper) THAW_MUST_USE;
void plans_drop_training(plans *cache, uint64_t keep_digest);
void plans_done(plans *cache);

/*
 * Memory of a run before it begins (budget.c): of each phase, from its plan, and whether that is
 * within train.memory_limit and what the machine has. Where a batch is too large for the limit and
 * may be cut into equal pieces without another result than by rounding, j->pieces says so. The
 * prediction depends on the recipe, the data and the kernels alone, so that a resume cuts alike.
 *
 * notes: a line for each phase whose batch is cut. machine: look at what it has, too. Errors:
 * THAW_E_NOMEM with the largest batch that fits.
 */
thaw_status budget_fit(text *notes, job *j, bool machine) THAW_MUST_USE;
thaw_status budget_phase(size_t *bytes, job *j, int phase, int64_t batch) THAW_MUST_USE;
int job_pieces(const job *j, int phase);
int64_t job_micro_batch(const job *j, int phase);

/* Run an awake plan on one batch; then read an f64 scalar of its results. */
thaw_status run_batch(const plan_entry *e, job *j, const batch *b, bool accumulate) THAW_MUST_USE;
double read_scalar(const plan_entry *e, int slot);

typedef struct features features; /* features.h */

/* How samples are loaded to be judged: in order, none changed at random. */
loader_options evaluation_loading(const thaw_recipe *r);

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

/* ---------------------------------------------------------------------------- training (trainer.c,
 * update.c …) */

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
    double best;          /* greatest metric so far, NAN before the first evaluation */
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
        .built_at = -1, .loss_smoothed = NAN, .best = NAN, .phase_best = NAN, .last_loss = NAN,    \
        .last_metric = NAN                                                                         \
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

/*
 * Saving beside training (save.c). save_best and save_checkpoint copy what they need: the weights
 * may change as soon as they return. They never fail; a failed save is told as an event when its
 * turn comes, and the newest checkpoint stays what it was.
 *
 * One save is under way at a time. Best weights and a checkpoint of the same step are one save:
 * save_begin lets the writer start on what has been copied. A further save waits for it. Without a
 * run folder there is no saver, and all of this does nothing.
 *
 * save_poll    at a step boundary: tells what became of a save that has ended
 * save_wait    for the end of the one under way, and tells
 * save_last    the present state is on disk when this returns THAW_OK, best weights too; what
 * failed is tried once more
 */
thaw_status saver_create(saver **out, const trainer *t) THAW_MUST_USE;
void saver_destroy(saver *s); /* what is under way is finished first */
void save_best(trainer *t);
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
