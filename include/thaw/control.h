/*
 * thaw/control.h - the control plane on its own: for C and C++ programs with their own training
 * engine.
 *
 * A program lists its parameters by name (a module tree grows from the names), states a schedule of
 * phases, and asks at each step who may learn and how fast. Nothing here allocates tensors, reads
 * files, prints or exits. Link with libthaw-core (or libthaw, which contains it).
 *
 * Text is UTF-8 and NUL-terminated. Objects are not thread-safe; different objects may be used by
 * different threads.
 */
#ifndef THAW_CONTROL_H
#define THAW_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include <thaw/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* -------------------------------------------------------------------------------------------
 * module tree */

/*
 * The layers of a network: a rooted, ordered tree of modules with their parameters. A parameter's
 * name is its module's path, a dot, and an attribute; "layer1.0.conv1.weight" is owned by the
 * module "layer1.0.conv1". Modules come into being with the first name that needs them.
 */
typedef struct thaw_tree thaw_tree;

/* What a module is, as far as phases care. */
typedef enum thaw_module_kind {
    THAW_MODULE_PLAIN,
    THAW_MODULE_NORM,
    THAW_MODULE_DROPOUT
} thaw_module_kind;

THAW_API THAW_MUST_USE thaw_status thaw_tree_create(thaw_tree **out);
THAW_API void thaw_tree_destroy(thaw_tree *tree);

/* Add a module that owns no parameters (dropout, an activation), or give an existing one its kind.
 * module_out may be NULL. */
THAW_API THAW_MUST_USE thaw_status thaw_tree_add_module(int *module_out, thaw_tree *tree,
                                                        const char *path, thaw_module_kind kind);

/*
 * Add a parameter; numel is its number of elements, 0 or more. fixed: the network's author never
 * trains it (C12d); no operation makes it trainable. param_out (may be NULL) gets its number:
 * parameters are numbered in module-tree order once thaw_tree_seal has been called, in the order of
 * adding before.
 */
THAW_API THAW_MUST_USE thaw_status thaw_tree_add_param(thaw_tree *tree, const char *name,
                                                       int64_t numel, bool fixed);

/* A second name for a parameter (a tied weight), or for a module and all below it (a module used
 * twice). */
THAW_API THAW_MUST_USE thaw_status thaw_tree_tie(thaw_tree *tree, const char *alias,
                                                 const char *name);

/* Number modules in pre-order and parameters in module-tree order; nothing can be added afterwards.
 */
THAW_API THAW_MUST_USE thaw_status thaw_tree_seal(thaw_tree *tree);

THAW_API int thaw_tree_n_params(const thaw_tree *tree);
THAW_API int
thaw_tree_n_modules(const thaw_tree *tree); /* with the root, which is module 0 with path "" */
THAW_API const char *thaw_tree_param_name(const thaw_tree *tree, int param);
THAW_API int64_t thaw_tree_param_numel(const thaw_tree *tree, int param);
THAW_API int thaw_tree_param_module(const thaw_tree *tree, int param); /* owner */
THAW_API const char *thaw_tree_module_path(const thaw_tree *tree, int module);
THAW_API thaw_module_kind thaw_tree_module_kind(const thaw_tree *tree, int module);
THAW_API int thaw_tree_module_parent(const thaw_tree *tree, int module); /* -1: root */

/* Whether the module stands in the layer names: it is not the root, and it or a module below it has
 * a parameter, a tied one included. Known once the tree is sealed. */
THAW_API bool thaw_tree_is_layer(const thaw_tree *tree, int module);

/* By name or path, second names and paths included. */
THAW_API int thaw_tree_find_param(const thaw_tree *tree, const char *name);  /* -1: none */
THAW_API int thaw_tree_find_module(const thaw_tree *tree, const char *path); /* -1: none */

/* ----------------------------------------------------------------------------------------------
 * schedule */

/*
 * Phases as data. Build one with thaw_schedule_create, add phases and their operations in order,
 * then thaw_schedule_seal, which resolves every pattern against the tree and reports everything
 * that is wrong before training starts.
 */
typedef struct thaw_schedule thaw_schedule;

typedef enum thaw_unit { THAW_STEPS, THAW_EPOCHS, THAW_SAMPLES, THAW_TOKENS } thaw_unit;

/*
 * What a phase does with the optimizer. rebuild: new state, counts and curve for all. keep: state
 * of what stays is kept, made for what thaws, and on_freeze says what happens to the state of what
 * freezes. hold: groups and rates stay exactly as they are, newly thawed parameters without a group
 * get gradients but no updates (what plain PyTorch does when nobody touches the optimizer).
 */
typedef enum thaw_optimizer_mode {
    THAW_OPTIMIZER_REBUILD,
    THAW_OPTIMIZER_KEEP,
    THAW_OPTIMIZER_HOLD
} thaw_optimizer_mode;
typedef enum thaw_on_freeze {
    THAW_ON_FREEZE_KEEP,
    THAW_ON_FREEZE_RESET,
    THAW_ON_FREEZE_PARK
} thaw_on_freeze;

/* One phase. Zero-initialise, then set what differs. */
typedef struct thaw_phase_options {
    const char *name; /* for people; NULL: "phase N" */
    thaw_unit unit;
    int64_t length; /* in units; 1 or more (0 is allowed for a phase that only changes state) */
    thaw_optimizer_mode optimizer;
    thaw_on_freeze on_freeze;
    /* until a metric stops improving: the phase ends after `patience` evaluations without an
       improvement of min_change; NULL: never; `length` stays the maximum */
    const char *until_metric;
    int until_patience;
    double until_min_change;
} thaw_phase_options;

THAW_API THAW_MUST_USE thaw_status thaw_schedule_create(thaw_schedule **out, const thaw_tree *tree);
THAW_API void thaw_schedule_destroy(thaw_schedule *schedule);

/* Begin a phase; the operations that follow belong to it and take effect at its first step. */
THAW_API THAW_MUST_USE thaw_status thaw_schedule_add_phase(thaw_schedule *schedule,
                                                           const thaw_phase_options *options);

/*
 * Operations, in order; the last one on a parameter wins. A pattern is a Python regular expression
 * that must match a whole layer name; a pattern equal to a layer's name always selects that layer.
 */
THAW_API THAW_MUST_USE thaw_status thaw_schedule_freeze(thaw_schedule *schedule,
                                                        const char *const *patterns, int n);
THAW_API THAW_MUST_USE thaw_status thaw_schedule_unfreeze(thaw_schedule *schedule,
                                                          const char *const *patterns, int n);
THAW_API THAW_MUST_USE thaw_status thaw_schedule_coefficient(thaw_schedule *schedule,
                                                             double coefficient,
                                                             const char *const *patterns, int n);

/* Pin the coefficient of layers at exactly 1, whatever an ancestor has; a coefficient of 1 instead
 * removes the layer's own entry, so that it inherits. */
THAW_API THAW_MUST_USE thaw_status thaw_schedule_pin(thaw_schedule *schedule,
                                                     const char *const *patterns, int n);

/*
 * The step-scheduled form: parameters chosen by fnmatch patterns, at fixed iterations.
 *
 * alias      a name for a list of fnmatch patterns on parameter names
 * spec       freeze or thaw what an alias or a pattern names; belongs to the stage begun last, else
 *            to the base, which holds from the start. After thaw_schedule_add_phase it belongs to
 *            that phase
 * add_stage  the operations that follow, of either form, take effect before update number
 *            start_step (from 0), whatever phase that is in; after those of a phase that begins
 *            there. The optimizer is kept. A stage whose step is skipped still holds from then on
 */
THAW_API THAW_MUST_USE thaw_status thaw_schedule_alias(thaw_schedule *schedule, const char *name,
                                                       const char *const *patterns, int n);
THAW_API THAW_MUST_USE thaw_status thaw_schedule_spec(thaw_schedule *schedule, const char *module,
                                                      bool frozen);
THAW_API THAW_MUST_USE thaw_status thaw_schedule_add_stage(thaw_schedule *schedule,
                                                           int64_t start_step);

/* true (the default): norm layers whose parameters are all frozen run in inference mode. false: as
 * plain PyTorch. */
THAW_API void thaw_schedule_frozen_norm_eval(thaw_schedule *schedule, bool eval);

/* How many steps an epoch has, and samples and tokens a step; needed before sealing where units
 * other than steps are used. */
THAW_API void thaw_schedule_set_sizes(thaw_schedule *schedule, int64_t steps_per_epoch,
                                      int64_t samples_per_step, int64_t tokens_per_step);

/*
 * Resolve every pattern, check everything, and close the schedule. All mistakes are found at once:
 * thaw_error() then has one line for each, and the status is that of the first. After a failure the
 * schedule is still open, and may be destroyed or sealed again.
 *
 * Errors: THAW_E_NOMATCH, THAW_E_PATTERN, THAW_E_LIMIT (a pattern that takes too long),
 * THAW_E_RECIPE (a layer or module asked for two things by one phase or stage), THAW_E_RANGE (a
 * stage beyond the end, a length that does not fit), THAW_E_USAGE (no phase).
 */
THAW_API THAW_MUST_USE thaw_status thaw_schedule_seal(thaw_schedule *schedule);

/*
 * Record a change made by hand at an iteration (an edit of a checkpoint), in a sealed schedule. It
 * takes effect after everything the schedule itself does at that iteration, and what comes later
 * still wins. The optimizer is kept. Effects given out before stay valid but may be out of date.
 */
THAW_API THAW_MUST_USE thaw_status thaw_schedule_edit_freeze(thaw_schedule *schedule,
                                                             int64_t iteration,
                                                             const char *const *patterns, int n);
THAW_API THAW_MUST_USE thaw_status thaw_schedule_edit_unfreeze(thaw_schedule *schedule,
                                                               int64_t iteration,
                                                               const char *const *patterns, int n);
THAW_API THAW_MUST_USE thaw_status thaw_schedule_edit_coefficient(thaw_schedule *schedule,
                                                                  int64_t iteration,
                                                                  double coefficient,
                                                                  const char *const *patterns,
                                                                  int n);

/*
 * Where training is. Everything the phase depends on, and all of it goes into a checkpoint.
 *
 * iteration   steps begun and finished, skipped ones too: this clock moves the phases
 * fired       [n_fired]: for each phase that a metric ended, its number and the iteration at which
 * the next one began
 */
typedef struct thaw_fired {
    int32_t phase;
    int64_t iteration;
} thaw_fired;
typedef struct thaw_progress {
    int64_t iteration;
    const thaw_fired *fired;
    int32_t n_fired;
} thaw_progress;

THAW_API int thaw_schedule_n_phases(const thaw_schedule *schedule);
THAW_API const char *thaw_schedule_phase_name(const thaw_schedule *schedule, int phase);
/* As given to add_phase, with the name filled in. */
THAW_API const thaw_phase_options *thaw_schedule_phase_options(const thaw_schedule *schedule,
                                                               int phase);
THAW_API int thaw_schedule_phase_at(const thaw_schedule *schedule, const thaw_progress *progress);

/* Iterations [*begin, *end) of a phase as far as progress tells (a metric may still end it
 * earlier). */
THAW_API void thaw_schedule_phase_span(int64_t *begin, int64_t *end, const thaw_schedule *schedule,
                                       const thaw_progress *progress, int phase);

/* What holds at this progress; owned by the schedule, cached by phase: asking again without a
 * change costs next to nothing. */
typedef struct thaw_effect thaw_effect;
THAW_API THAW_MUST_USE thaw_status thaw_schedule_effect(const thaw_effect **out,
                                                        thaw_schedule *schedule,
                                                        const thaw_progress *progress);

THAW_API int thaw_effect_phase(const thaw_effect *effect);
THAW_API bool thaw_effect_trainable(const thaw_effect *effect, int param);
THAW_API double thaw_effect_lr_scale(const thaw_effect *effect, int param);
THAW_API uint64_t thaw_effect_digest(const thaw_effect *effect);

#ifdef __cplusplus
}
#endif
#endif
