/*
 * thaw/thaw.h - fine-tune neural networks in phases.
 *
 * A recipe says which network, which data, and which layers may learn how fast in each phase;
 * thaw_train follows it and reports what happens through events. The control plane alone is in
 * <thaw/control.h>, which this header includes.
 *
 * Text is UTF-8 and NUL-terminated. Objects are not thread-safe. The library never prints and never
 * exits. Not collective.
 */
#ifndef THAW_THAW_H
#define THAW_THAW_H

#include <thaw/control.h>

#ifdef __cplusplus
extern "C" {
#endif

#define THAW_VERSION_MAJOR 0
#define THAW_VERSION_MINOR 1
#define THAW_VERSION_PATCH 0
#define THAW_VERSION       "0.1.0"

/* Version of the library at run time, and of the kernel library and instruction set it uses. Static
 * storage. */
THAW_API const char *thaw_version(void);
THAW_API const char *thaw_kernels(void);

/* ------------------------------------------------------------------------------------------------
 * recipe */

typedef struct thaw_recipe thaw_recipe;

/*
 * Read and check a recipe (TOML). Every mistake in it is found at once: thaw_error() then has one
 * line for each, with file, line, column and a suggestion.
 *
 * path     the file; relative paths inside are relative to its folder
 * sets     n_sets texts "key=value" that override keys, such as "phase.2.lr=1e-4"; the value's type
 * is checked like the file's
 *
 * The recipe belongs to the caller. Errors: THAW_E_MISSING, THAW_E_RECIPE.
 */
THAW_API THAW_MUST_USE thaw_status thaw_recipe_load(thaw_recipe **out, const char *path,
                                                    const char *const *sets, int n_sets);

/* The same from a text of `size` bytes; `name` stands in messages, `folder` is what relative paths
 * are relative to. */
THAW_API THAW_MUST_USE thaw_status thaw_recipe_parse(thaw_recipe **out, const char *text,
                                                     size_t size, const char *name,
                                                     const char *folder, const char *const *sets,
                                                     int n_sets);
THAW_API void thaw_recipe_destroy(thaw_recipe *recipe);

/* Every key of a recipe with type, default, range and meaning, as plain text or Markdown. */
THAW_API THAW_MUST_USE thaw_status thaw_recipe_help(char **out, bool markdown);

/* ------------------------------------------------------------------------------------------------
 * events */

typedef enum thaw_event_kind {
    THAW_EVENT_RUN,   /* before anything runs: text says what was loaded; baseline is the majority
                         class's share */
    THAW_EVENT_PHASE, /* a phase begins: trainable, total; text says what happened to optimizer
                         state and plan */
    THAW_EVENT_STEP, /* an update was made (or skipped: `skipped` is the reason's count in a row) */
    THAW_EVENT_EVAL, /* an evaluation: split, loss, metric */
    THAW_EVENT_SAVE, /* a checkpoint was committed: text is its path */
    THAW_EVENT_PHASE_END,  /* a phase ended: its totals */
    THAW_EVENT_NOTE,       /* something a person should know: text */
    THAW_EVENT_END,        /* the run ended: text says how */
    THAW_EVENT_SAVE_FAILED /* what could not be saved, and why: text; training goes on, and earlier
                              checkpoints are as they were */
} thaw_event_kind;

/* What happened. Fields that a kind does not list above are still set where known. Valid during the
 * call only. */
typedef struct thaw_event {
    thaw_event_kind kind;
    int phase, n_phases; /* phase from 1 */
    const char *phase_name;
    int64_t iteration;               /* steps done since the start of the run */
    int64_t phase_step, phase_steps; /* done in this phase, and planned */
    double epoch;                    /* epochs done since the start, with fraction */
    double loss, loss_smoothed;      /* natural logarithm, mean over the update's targets */
    double metric;           /* accuracy in [0, 1]; of numbers to predict the error's root of mean
                                square */
    const char *metric_name; /* "accuracy", "rmse" */
    double mae;              /* mean absolute error of an evaluation; NAN: classes */
    const char *split;       /* "valid", "test" */
    double lr, lr_least,
        lr_most;      /* base rate now; least and greatest rate of the layers that train */
    double grad_norm; /* before clipping */
    double rate;      /* images a second, over the last while (a step) or the phase (its end) */
    double waited;    /* share of the phase's time, in [0, 1], in which training waited for data */
    double seconds;   /* of the phase or evaluation so far */
    double seconds_left;      /* of the whole run, estimated; negative: not known */
    int64_t trainable, total; /* parameters, elements */
    double baseline;
    uint64_t peak_bytes;    /* largest memory of the process so far (VmHWM) */
    uint64_t planned_bytes; /* predicted peak of the phase, copies for checkpoints included */
    int skipped; /* non-finite steps in a row, 0 for a step that was made; for PHASE_END: in the
                    phase */
    bool best;   /* an evaluation better than all before */
    int64_t cache_hits, cache_misses; /* samples of this step or evaluation whose frozen beginning
                                         was read back, and computed; 0 without a cache */
    const char *text;
} thaw_event;

/* One event as a line of JSON, with the newline; free with thaw_text_free. */
THAW_API THAW_MUST_USE thaw_status thaw_event_json(char **out, const thaw_event *event);

/* Return true to go on, false to stop after the current step: a checkpoint is saved and thaw_train
 * returns THAW_E_STOPPED. */
typedef bool thaw_event_fn(void *user, const thaw_event *event);

/* ------------------------------------------------------------------------------------------------
 * training */

/*
 * Samples made by the caller instead of files named in the recipe.
 *
 * read   fill images [n, height, width, channels] (float, final values) and labels [n] (in [0,
 * classes)) for the samples numbered index[0 … n); valid: of the validation set. Called from
 * another thread than thaw_train's, one call at a time. Must give the same sample for the same
 * number each time, or a resumed run differs.
 */
typedef struct thaw_source {
    int64_t n_train, n_valid;
    int64_t height, width, channels;
    int classes;
    thaw_status (*read)(void *user, bool valid, const int64_t *index, int64_t n, float *images,
                        int32_t *labels);
    void *user;
} thaw_source;

/* How to run. Zero-initialise, then set what differs. */
typedef struct thaw_run_options {
    const char *run; /* folder for the run's files; made if absent, must not hold a run already.
                        NULL: nothing is saved */
    const char *executor;      /* "dnn", "ref"; NULL: the recipe's */
    int threads;               /* 0: as many as this process may use */
    const thaw_source *source; /* NULL: the recipe's data */
    thaw_event_fn *on_event;   /* may be NULL */
    void *user;
    const char *const *sets; /* thaw_resume: overrides, as for thaw_recipe_load; the run's recipe
                                keeps them */
    int n_sets;
    const volatile int *stop; /* set to non-zero by a signal handler to stop after the micro-batch
                                 under way, save, and return THAW_E_STOPPED; an update that is not
                                 complete then is made again by a resume. An evaluation under way
                                 that would take over 5 s more is given up: then nothing is saved,
                                 and a resume goes on from the newest checkpoint; may be NULL */
    volatile int *save; /* set to non-zero by a signal handler to save after this step and go on;
                           set back to 0 when that begins; may be NULL */
} thaw_run_options;

/*
 * Train a recipe from its start to its end. The run folder gets recipe.toml (resolved),
 * events.jsonl, checkpoints/ and best/ (a folder with config.json and model.safetensors that opens
 * in Python).
 *
 * Errors: THAW_E_STOPPED when asked to stop (saved, resumable); THAW_E_NUMERIC after ten non-finite
 * steps in a row; those of reading the model and data; THAW_E_CREATE when the run folder is in use
 * or holds a run.
 */
THAW_API THAW_MUST_USE thaw_status thaw_train(const thaw_recipe *recipe,
                                              const thaw_run_options *options);

/*
 * Go on from the newest checkpoint of options->run that verifies, with the run's own recipe, as if
 * nothing had happened.
 *
 * The recipe, the data and the program are compared with those of the checkpoint. What only steps
 * to come depend on may have changed (later phases, the length of the present one, what is saved
 * when, another thread count), and a note says so. THAW_E_MISMATCH names what may not, one line
 * each.
 */
THAW_API THAW_MUST_USE thaw_status thaw_resume(const thaw_run_options *options);

/* Result of an evaluation. */
typedef struct thaw_eval_result {
    int64_t n;
    double loss;      /* mean, natural logarithm */
    double accuracy;  /* in [0, 1]; NAN with numbers to predict */
    double top5;      /* share of samples whose class is among the five likeliest, in [0, 1]; NAN
                         with five classes or fewer, and with numbers */
    double rmse, mae; /* errors of numbers: root of mean square, mean of absolutes; NAN: classes */
    double baseline;  /* share of the largest class */
    double seconds;
    int n_classes;
    int64_t *confusion;      /* [n_classes, n_classes]: row true class, column predicted; free with
                                thaw_eval_done, */
    const char **class_name; /* [n_classes]; NULL: they have none */
} thaw_eval_result;
THAW_API void thaw_eval_done(thaw_eval_result *result);

/*
 * Evaluate a network on one split of a recipe's data.
 *
 * path    a run folder (its best weights), a checkpoint folder, or a model folder; NULL: the
 * recipe's own model recipe  NULL where path is a run folder or a checkpoint in one: the run's
 * recipe split   "train", "valid" or "test"
 */
THAW_API THAW_MUST_USE thaw_status thaw_eval(thaw_eval_result *result, const char *path,
                                             const thaw_recipe *recipe, const char *split,
                                             const thaw_run_options *options);

/* ------------------------------------------------------------------------------------------------
 * predicting */

#define THAW_PREDICT_TOP 5

/* What a network says of one file. Valid during the call only. */
typedef struct thaw_prediction {
    const char *file;
    const char *error; /* why there is no answer; NULL: there is one */
    int n_top;         /* at most THAW_PREDICT_TOP; 0 with an error, and for numbers */
    struct thaw_guess {
        int number;       /* of the class, from 0 */
        const char *name; /* NULL: it has none */
        double probability;
    } top[THAW_PREDICT_TOP]; /* likeliest first */
    double value;            /* of a network that predicts numbers; else NaN */
} thaw_prediction;

/* Return true to go on, false to stop. */
typedef bool thaw_predict_fn(void *user, const thaw_prediction *prediction);

/*
 * A network made ready. path: a run folder (its best weights), a checkpoint or a model folder.
 * Pictures are cut, resized and normalised as its preprocessor_config.json says, or as its run's
 * recipe does.
 *
 * Errors: THAW_E_MISSING without weights; those of reading a model.
 */
typedef struct thaw_predictor thaw_predictor;
THAW_API THAW_MUST_USE thaw_status thaw_predictor_open(thaw_predictor **out, const char *path,
                                                       const thaw_run_options *options);
THAW_API void thaw_predictor_close(thaw_predictor *predictor);

/* Answer for n JPEG or PNG files, in their order. A file that cannot be read is an answer with
 * `error`, not a failure. */
THAW_API THAW_MUST_USE thaw_status thaw_predict(thaw_predictor *predictor, const char *const *files,
                                                size_t n, thaw_predict_fn *on_file, void *user);

/* What would happen, per phase: groups with rates and counts, steps, what backward leaves out,
 * memory. Text or JSON. */
THAW_API THAW_MUST_USE thaw_status thaw_plan(char **out, const thaw_recipe *recipe,
                                             const thaw_run_options *options, bool steps,
                                             bool json);

/*
 * The layer tree of a model folder, checkpoint, run or recipe file, with parameter counts. Where
 * there are phases: whether each layer trains in each of them, its coefficient, and its rate before
 * the curve; of a checkpoint also the present phase and the edits made by hand. The text shows
 * blocks that are alike once; JSON shows all.
 */
THAW_API THAW_MUST_USE thaw_status thaw_show(char **out, const char *path, bool json);

/*
 * What two checkpoints, runs or recipes differ in: who trains and how fast, now (where both are
 * checkpoints) and at the end of each phase. Only the layers in which they differ are listed.
 * differ    false: they have the same phase state, whatever the weights
 */
THAW_API THAW_MUST_USE thaw_status thaw_diff(char **out, bool *differ, const char *a, const char *b,
                                             bool json);

/*
 * What a run did. As a page: writes report.html (one file, without script or network) and
 * tensorboard/ (the scalars for TensorBoard) into the run's folder, replacing older ones, and `out`
 * says where. As text: a table of phases and plots for a terminal, nothing is written.
 *
 * The best weights are judged on the run's validation data; where these are no longer to be had,
 * the report says why and has the rest. options: threads and executor for that; may be NULL.
 *
 * Errors: THAW_E_MISSING when run is no run folder; THAW_E_DATA when it has not begun; THAW_E_IO.
 */
THAW_API THAW_MUST_USE thaw_status thaw_report(char **out, const char *run,
                                               const thaw_run_options *options, bool as_text);

typedef enum thaw_edit_kind { THAW_EDIT_FREEZE, THAW_EDIT_UNFREEZE, THAW_EDIT_LR } thaw_edit_kind;

/*
 * Change the phase state of a checkpoint by hand: commit a new checkpoint beside it that differs
 * in the phase state alone. Resuming the run goes on from it and keeps the edit, and the
 * optimizer's state, until a later phase says otherwise about the same layers.
 *
 * path         a run folder (its newest checkpoint) or a checkpoint in one
 * coefficient  THAW_EDIT_LR: finite, 0 or more; 1 removes the layers' own entries
 * patterns     n layer patterns, or aliases of the run's recipe
 * out          what was done, one line each, the new checkpoint's path in the first
 *
 * Errors: THAW_E_NOMATCH, THAW_E_PATTERN, THAW_E_RANGE; THAW_E_CREATE when the run is in use;
 * THAW_E_CORRUPT. Nothing has changed then.
 */
THAW_API THAW_MUST_USE thaw_status thaw_edit(char **out, const char *path, thaw_edit_kind kind,
                                             double coefficient, const char *const *patterns,
                                             int n);

/*
 * A recipe to begin with: looks at a network and at data, and chooses phases, image size, batch and
 * length that suit both. The phases are ordinary ones, to be read and edited.
 *
 * model    a model folder, a file of weights, or the name of an architecture that needs no more
 * than its name
 * preset   of thaw_presets; NULL: "halves" for pretrained weights, one phase for random ones
 * options  of the preset; NULL or a length of 0: a length in epochs that suits the data
 * data     n_data paths: a folder of pictures, or with train/, valid/ and test/ below it; a list of
 * pictures; or IDX images; then the same for validation and for testing. None: to be filled in.
 * They are opened as a run does, and what is wrong with them is an error
 *
 * Errors: THAW_E_NOMATCH for an unknown preset, those of thaw_schedule_preset and of reading the
 * model and the data.
 */
THAW_API THAW_MUST_USE thaw_status thaw_init(char **out, const char *model, const char *preset,
                                             const thaw_preset_options *options,
                                             const char *const *data, int n_data);

#ifdef __cplusplus
}
#endif
#endif
