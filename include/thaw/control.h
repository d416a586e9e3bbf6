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
    bool until_restore; /* the program takes the phase's best weights back at its end */
    /* parameters that were frozen at the end of the phase before and train in this one: their rate
       rises over this many steps, see thaw_effect_warmup; 0: at once */
    int64_t thaw_warmup;
    int64_t steps_per_epoch, samples_per_step; /* of this phase; 0: those of the schedule */
} thaw_phase_options;
#define THAW_PHASE_OPTIONS_INIT                                                                    \
    {                                                                                              \
        NULL, THAW_STEPS, 0, THAW_OPTIMIZER_REBUILD, THAW_ON_FREEZE_KEEP, NULL, 0, 0.0, false, 0,  \
            0, 0                                                                                   \
    }

/*
 * Whether a phase with until_metric ends after the n evaluations made in it so far: the last
 * until_patience of them did not improve on the best before by more than until_min_change. Smaller
 * is better for a metric whose name ends in "loss", else larger; a NaN never improves. A program
 * that gets true records it as a thaw_fired.
 */
THAW_API bool thaw_until_reached(const thaw_phase_options *options, const double *value, int n);

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

/*
 * A name as a pattern that matches it alone: regular-expression characters behind backslashes. Free
 * with thaw_text_free.
 */
THAW_API THAW_MUST_USE thaw_status thaw_pattern_escape(char **out, const char *name);

/*
 * How to expand a preset. Zero-initialise, then set what differs; 0 stands for the preset's own
 * value.
 *
 * unit, length  of the whole; divided among the phases, each of which has at least 1
 * factor        in (0, 1]: rate of the body, or of a block against the one above it
 * start         freeze-out: share of the length after which the first block freezes, in (0, 1]
 * every         random-blocks: length of one draw
 * blocks        random-blocks: how many blocks train at a time beside stem and head
 * seed          random-blocks: the draw of a phase depends on it and the phase's number alone
 */
typedef struct thaw_preset_options {
    thaw_unit unit;
    int64_t length;
    double factor;
    double start;
    int64_t every;
    int blocks;
    uint64_t seed;
} thaw_preset_options;

/*
 * Add the phases of a preset to a schedule that is not sealed. The network's blocks are guessed
 * from its names: numbered siblings are blocks, what comes before them the stem, the last layer the
 * head. The phases are ordinary ones and can be printed with thaw_schedule_text.
 *
 * Errors: THAW_E_NOMATCH for an unknown name; THAW_E_RANGE; THAW_E_SUPPORT for a network with fewer
 * than two blocks. After an error some phases may have been added.
 */
THAW_API THAW_MUST_USE thaw_status thaw_schedule_preset(thaw_schedule *schedule, const char *name,
                                                        const thaw_preset_options *options);

/* Name and meaning of preset number i, static storage; returns how many there are. i may be past
 * the last, and the outputs are untouched then. */
THAW_API size_t thaw_presets(const char **name, const char **help, size_t i);

/* The phases as [[phase]] tables of a recipe; free with thaw_text_free. */
THAW_API THAW_MUST_USE thaw_status thaw_schedule_text(char **out, const thaw_schedule *schedule);

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
 * What is allowed in a sealed schedule and yet rarely meant, one line each: a coefficient of 1 that
 * lets a layer inherit another, a phase in which nothing is trained, an alias without parameters,
 * aliases that overlap and differ. Empty when there is nothing to say; free with thaw_text_free.
 */
THAW_API THAW_MUST_USE thaw_status thaw_schedule_notes(char **out, thaw_schedule *schedule);

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

/*
 * Warm-up of what thawed with the phase: a further factor of the rate at an iteration of that
 * phase, (k + 1) / (N + 1) in its step k < N = thaw_warmup, from 0; else 1. A function of the
 * iteration alone, so nothing of it is kept.
 */
THAW_API double thaw_effect_warmup(const thaw_effect *effect, int param, int64_t iteration);
THAW_API uint64_t thaw_effect_digest(const thaw_effect *effect);

/* ----------------------------------------------------------------------------------------------
 * live policy */

/*
 * Freezing and coefficients changed by hand while a model trains, with the optimizer groups that
 * follow from them: for programs without a schedule. The policy says which parameters train and at
 * what rate; the program's optimizer does it.
 *
 * A parameter is frozen if any of its names lies at or below a frozen layer, or if a module that
 * uses it is one whose own parameters alone are frozen. The tree must outlive the policy.
 */
typedef struct thaw_policy thaw_policy;
THAW_API THAW_MUST_USE thaw_status thaw_policy_create(thaw_policy **out, const thaw_tree *tree);
THAW_API void thaw_policy_destroy(thaw_policy *policy);

/* A parameter that the model is built with untrained. Unlike a `fixed` one, unfreezing its layer
 * makes it train; loading a saved state does not. */
THAW_API THAW_MUST_USE thaw_status thaw_policy_start_untrained(thaw_policy *policy,
                                                               const char *param);

/* What to do where the optimizer's groups do not allow a change in place. */
typedef enum thaw_rebuild {
    THAW_REBUILD_REFUSE,   /* fail with THAW_E_REBUILD; the phase state is changed all the same */
    THAW_REBUILD_IF_NEEDED /* build the groups anew with the rates of the last build */
} thaw_rebuild;

/*
 * Layers whose whole name one of the n patterns matches, or that are named exactly: their module
 * numbers in layer order, without duplicates, into layers, which has room for thaw_tree_n_modules()
 * numbers; their count into *n_layers. No patterns select nothing.
 *
 * Errors: THAW_E_NOMATCH when a pattern matches no layer (near names are suggested), THAW_E_PATTERN
 * when Python would refuse it, THAW_E_SUPPORT naming a construct that is not supported,
 * THAW_E_LIMIT when it takes too long. Nothing has changed then.
 */
THAW_API THAW_MUST_USE thaw_status thaw_policy_select(int *layers, int *n_layers,
                                                      const thaw_policy *policy,
                                                      const char *const *patterns, int n);

/* Freeze everything at or below the selected layers. Groups stay as they are. Errors: those of
 * thaw_policy_select. */
THAW_API THAW_MUST_USE thaw_status thaw_policy_freeze(thaw_policy *policy,
                                                      const char *const *patterns, int n);

/*
 * Thaw everything at or below the selected layers. Where an ancestor is frozen, its rule is pushed
 * down so that all that stands beside them stays frozen.
 *
 * Errors: those of thaw_policy_select; THAW_E_REBUILD when a parameter trains now and has no group
 * (only where groups exist): thaw_policy_build is the way on.
 */
THAW_API THAW_MUST_USE thaw_status thaw_policy_unfreeze(thaw_policy *policy,
                                                        const char *const *patterns, int n,
                                                        thaw_rebuild rebuild);

/*
 * Set the coefficient of the selected layers, a finite number of 0 or more. The nearest entry at or
 * above a layer counts, without multiplying; 1 removes the layer's own entry, so that it inherits.
 * 0 pauses: gradients flow and optimizer state moves on, the values do not change.
 *
 * Groups at or below the layers get the new rate at once, decays so far included. Errors: those of
 * thaw_policy_select; THAW_E_RANGE; THAW_E_REBUILD when a trainable parameter there has no group,
 * or a group's coefficient is 0 and would become another: no group has changed then, the
 * coefficient has.
 */
THAW_API THAW_MUST_USE thaw_status thaw_policy_coefficient(thaw_policy *policy, double coefficient,
                                                           const char *const *patterns, int n,
                                                           thaw_rebuild rebuild);

/* The same with exactly 1 as an entry of its own, whatever an ancestor has. */
THAW_API THAW_MUST_USE thaw_status thaw_policy_pin(thaw_policy *policy, const char *const *patterns,
                                                   int n, thaw_rebuild rebuild);

THAW_API bool thaw_policy_trainable(const thaw_policy *policy, int param);

/* What a module has: a rule for its subtree, one for its own parameters, a coefficient of its own,
 * and the coefficient in force. */
typedef struct thaw_layer_state {
    bool frozen, frozen_own, has_coefficient;
    double coefficient; /* NaN without one */
    double effective;
} thaw_layer_state;
THAW_API thaw_layer_state thaw_policy_layer(const thaw_policy *policy, int module);

/* Base rate, multiplied by gamma after every step_size-th epoch (1 or more). */
typedef struct thaw_rates {
    double lr;
    int64_t step_size;
    double gamma;
} thaw_rates;
#define THAW_RATES_INIT                                                                            \
    {                                                                                              \
        1e-3, 10, 0.1                                                                              \
    }

/*
 * Make the groups from the phase state: one for the root's own parameters and one for each layer
 * that owns trainable ones, in layer order; a tied parameter is in its first owner's. Everything of
 * the optimizer starts anew. Nothing trainable gives no groups, which is no error. THAW_E_RANGE.
 */
THAW_API THAW_MUST_USE thaw_status thaw_policy_build(thaw_policy *policy, const thaw_rates *rates);
THAW_API void thaw_policy_discard_groups(thaw_policy *policy);
THAW_API bool thaw_policy_has_groups(const thaw_policy *policy);

/* Tell the scheduler that an epoch ended. */
THAW_API void thaw_policy_epoch_end(thaw_policy *policy);

/* One group; what it points to is valid until the groups are built or discarded again. */
typedef struct thaw_group {
    const char *layer; /* "" for the root */
    const int *param;  /* [n_params], rising */
    int n_params;
    double lr;          /* now: base, decays and coefficient */
    double coefficient; /* applied to this group */
} thaw_group;
THAW_API int thaw_policy_n_groups(const thaw_policy *policy);
THAW_API thaw_group thaw_policy_group(const thaw_policy *policy, int group);

/*
 * The whole state as JSON text, to be kept in a checkpoint; free with thaw_text_free.
 */
THAW_API THAW_MUST_USE thaw_status thaw_policy_save(char **json, const thaw_policy *policy);

/*
 * Replace the state by a saved one. rates NULL: the phase state only, groups are discarded. Else
 * the groups are built with these rates first, and then those that were saved get their rate back
 * by layer name, and the scheduler its settings and progress; a layer without a saved group starts
 * fresh, a saved group without a layer is dropped.
 *
 * Errors: THAW_E_DATA when the text is not such a state; THAW_E_MISMATCH when it has rules for a
 * layer that does not exist, or no groups where rates is given. The policy is unchanged then.
 */
THAW_API THAW_MUST_USE thaw_status thaw_policy_load(thaw_policy *policy, const char *json,
                                                    const thaw_rates *rates);

/* Free a text that a function of this header or of <thaw/thaw.h> returned through a char **. NULL
 * is allowed. */
THAW_API void thaw_text_free(char *text);

/* ----------------------------------------------------------------------------------------------
 * step-scheduled freezing by parameter patterns */

/* Freeze (or thaw) what `module` names: an alias, or an fnmatch pattern on parameter names. */
typedef struct thaw_freeze_spec {
    const char *module;
    bool frozen;
} thaw_freeze_spec;

/* Specs that hold from update number start_step (from 0) on. */
typedef struct thaw_freeze_stage {
    int64_t start_step;
    const thaw_freeze_spec *spec;
    int n_specs;
} thaw_freeze_stage;

/* A name for a list of fnmatch patterns. */
typedef struct thaw_alias {
    const char *name;
    const char *const *pattern;
    int n_patterns;
} thaw_alias;

/*
 * Set the flag of every parameter whose first name matches one of the n patterns, as Python's
 * fnmatch.fnmatchcase does.
 *
 * flipped    elements of the parameters whose flag changed
 * trainable  [thaw_tree_n_params()], in and out; a fixed parameter is never made trainable
 */
THAW_API THAW_MUST_USE thaw_status thaw_freeze_params(int64_t *flipped, bool *trainable,
                                                      const thaw_tree *tree,
                                                      const char *const *patterns, int n,
                                                      bool frozen);

/* Elements that the last spec of a module flipped. */
typedef struct thaw_freeze_total {
    const char *module; /* the spec's text */
    int64_t flipped;
} thaw_freeze_total;

/*
 * Apply specs in order; each module is looked up among the aliases, else it is a pattern itself.
 * totals has room for n_specs; *n_totals modules are told, each once, at its first position.
 */
THAW_API THAW_MUST_USE thaw_status thaw_apply_freeze_specs(thaw_freeze_total *totals, int *n_totals,
                                                           bool *trainable, const thaw_tree *tree,
                                                           const thaw_freeze_spec *specs,
                                                           int n_specs, const thaw_alias *aliases,
                                                           int n_aliases);

/*
 * The specs that hold at a step, one for each module: base, then the stages with start_step <= step
 * in the order of their steps. out has room for all specs given; its texts are the arguments'.
 *
 * valid, n_valid  the modules that may be named; n_valid negative: any
 *
 * THAW_E_NOMATCH: a spec that holds names another module; the text is Python's.
 */
THAW_API THAW_MUST_USE thaw_status thaw_effective_freeze(
    thaw_freeze_spec *out, int *n_out, int64_t step, const thaw_freeze_spec *base, int n_base,
    const thaw_freeze_stage *stages, int n_stages, const char *const *valid, int n_valid);

/* Sorted, without duplicates, contradictions kept: equal meaning gives equal bytes. out has room
 * for n_specs; its texts are the arguments'. */
THAW_API void thaw_canonical_freeze_meta(thaw_freeze_spec *out, int *n_out,
                                         const thaw_freeze_spec *specs, int n_specs);

/* The canonical form as compact JSON, and as the file metadata.json; free with thaw_text_free. */
THAW_API THAW_MUST_USE thaw_status thaw_freeze_meta_json(char **out, const thaw_freeze_spec *specs,
                                                         int n_specs);
THAW_API THAW_MUST_USE thaw_status thaw_freeze_metadata_json(char **out, int64_t step,
                                                             int64_t tokens_seen,
                                                             const thaw_freeze_spec *specs,
                                                             int n_specs);

/*
 * Compare what a checkpoint says was meant with what is meant now, before any tensor is loaded.
 * Modules named on one side only are left out.
 *
 * warning   a text to show, or NULL when there is nothing to say; free with thaw_text_free
 * folder    stands in messages
 * metadata  text of metadata.json; NULL: there is none, and nothing to compare
 * expected  n_expected specs, in canonical form or not; negative: nothing is expected
 * ignore    a difference is a warning, not an error
 *
 * Errors: THAW_E_MISMATCH when they differ; THAW_E_DATA when an entry names no module.
 */
THAW_API THAW_MUST_USE thaw_status thaw_freeze_metadata_compare(char **warning, const char *folder,
                                                                const char *metadata,
                                                                const thaw_freeze_spec *expected,
                                                                int n_expected, bool ignore);

/* The step that a metadata.json tells; false when it tells none or cannot be read. */
THAW_API bool thaw_peek_saved_step(int64_t *step, const char *metadata);

/* Aliases that an architecture brings: "joint_decoder", "cross_attention", "mot", "moma". Static
 * storage. THAW_E_NOMATCH for another name; the text is Python's. */
THAW_API THAW_MUST_USE thaw_status thaw_arch_aliases(const thaw_alias **aliases, int *n_aliases,
                                                     const char *arch);

/* Stages as a configuration may list them: start steps strictly rising. THAW_E_RECIPE. */
THAW_API THAW_MUST_USE thaw_status thaw_check_freeze_stages(const thaw_freeze_stage *stages,
                                                            int n_stages);

/* Whether the base specs freeze the vision encoder, or every part of it that they name. */
THAW_API bool thaw_encoder_frozen(const thaw_freeze_spec *base, int n_base);

/*
 * Whether a checkpoint is due after `step` updates: every `interval` (1 or more); but inside the
 * window [first, last] at first, and at first plus each power of two. first > last: no window.
 */
THAW_API bool thaw_save_due(int64_t step, int64_t interval, int64_t first, int64_t last);

#ifdef __cplusplus
}
#endif
#endif
