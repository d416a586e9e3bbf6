/*
 * core - the control plane: module tree, patterns, phase state, schedule and effect. Names, counts
 * and numbers only; no tensors, no graphs, no files. libthaw-core is this layer and base, and needs
 * nothing but PCRE2.
 *
 * The phase state is one ordered list of operations (those of the schedule that progress has
 * reached, plus recorded edits) folded from the start: who is frozen, the coefficients and the mask
 * are results, never stored twice.
 */
#ifndef THAW_CORE_H
#define THAW_CORE_H

#include "base/base.h"

#include <thaw/control.h>

/*
 * What the phase state asks for at one moment. Parameters in module-tree order, modules in
 * pre-order. Immutable; owned by the schedule that computed it and valid as long as that. Equal
 * digests mean equal effects.
 */
struct thaw_effect {
    int phase; /* 0-based number of the phase */
    int n_params, n_modules;
    const bool *trainable; /* [n_params] gradients exist */
    const bool *updated; /* [n_params] trainable and known to the optimizer; differs from trainable
                            only after a phase with optimizer = "hold", which leaves the optimizer's
                            groups as they are */
    const double
        *lr_scale; /* [n_params] coefficient in force in the optimizer; 1.0 without one; 0 pauses */
    const uint8_t
        *mode;        /* [n_modules] THAW_MODE_… bits: how norms and dropout of this module run */
    int64_t built_at; /* iteration at which the optimizer was last rebuilt (0: the start); a change
                         restarts curve and state */
    int built_phase; /* phase whose rate and curve are in force: the last one that did not "hold" */
    thaw_on_freeze on_freeze; /* what "keep" does with state of what freezes */
    const bool *thawed;       /* [n_params] trains, and was frozen at the end of the phase before;
                                 none where thaw_warmup is 0 */
    int64_t thaw_warmup;      /* steps over which the rates of those rise; 0: at once */
    int64_t phase_begin;      /* iteration from which these steps count */
    uint64_t digest;          /* of everything above but phase */
    uint64_t plan_digest;     /* of trainable and mode alone: what a plan depends on */
};
#define THAW_MODE_NORM_TRAIN                                                                       \
    1u                       /* batch statistics, running statistics move; else inference mode     \
                              */
#define THAW_MODE_DROPOUT 2u /* dropout is on */

/* ----------------------------------------------------------------------------------------------
 * names (namemap.c) */

/* Map from names to numbers. Zero-initialise; names are borrowed and must outlive the map. */
typedef struct name_map {
    struct name_slot {
        const char *name;
        int value;
    } * slot;
    size_t capacity, n; /* capacity: 0 or a power of two */
} name_map;

thaw_status name_map_put(name_map *map, const char *name, int value) THAW_MUST_USE;
int name_map_get(const name_map *map, const char *name); /* -1: none */
void name_map_done(name_map *map);

/* Next code point of valid UTF-8, *s moved behind it; 0 at the end. */
uint32_t utf8_next(const char **s);
void utf8_put(text *t, uint32_t c);
bool utf8_valid(const char *s);

/* ----------------------------------------------------------------------------------------------
 * tree (tree.c) */

/* One use of a parameter by a module: its own, or one it shares with an earlier module. */
typedef struct tree_entry {
    const char *path;
    int param;
    int next; /* in the same module, while the tree grows; -1: last */
} tree_entry;

typedef struct tree_module {
    const char *path;
    int parent; /* -1: root */
    thaw_module_kind kind;
    bool layer; /* has a parameter somewhere and is not the root: stands in the layer names */
    int end;    /* one past the last module below, in pre-order */
    int entry_begin, entry_end; /* what the module itself uses */
    int param_begin;            /* parameters first met here or below: [param_begin, param_end) */
    int own_end;                /* those first met in this module itself: [param_begin, own_end) */
    int param_end;
    /* while the tree grows */
    int same_as; /* a second path of that module; -1: none */
    int first_child, last_child, next_sibling, last_entry;
} tree_module;

typedef struct tree_param {
    const char *name;
    int64_t numel;
    bool fixed;
    int module; /* first owner */
} tree_param;

/* An edge of the tree that leads to something met before. */
typedef struct tree_link {
    int module; /* where the edge starts */
    int target; /* parameter (tied) or module (reused) */
} tree_link;

/*
 * Modules in pre-order and parameters in module-tree order, so that everything below a module is
 * one range of each. What is reachable twice is numbered once; `tied` and `reused` hold the other
 * edges, sorted by where they start.
 */
struct thaw_tree {
    thaw_region *region; /* names */
    bool sealed, has_fixed;
    tree_module *module;
    tree_entry *entry;
    tree_param *param;
    size_t module_capacity, entry_capacity, param_capacity;
    int n_modules, n_entries, n_params;
    tree_link *tied, *reused;
    size_t tied_capacity, reused_capacity;
    int n_tied, n_reused;
    name_map modules; /* path: module, second paths too */
    name_map params;  /* name or tied name: parameter */
    uint64_t digest;  /* of all names and their structure */
};

/* Call visit for ranges [begin, end) of the parameters at or below a module, the shared ones too;
 * some may come twice. */
typedef void tree_visit_fn(void *user, int begin, int end);
thaw_status thaw__tree_below(const thaw_tree *tree, int module, tree_visit_fn *visit,
                             void *user) THAW_MUST_USE;

/* ----------------------------------------------------------------------------------------------
 * patterns (regex.c, pattern.c, glob.c, select.c) */

/*
 * Translate a Python regular expression (the `re` module of CPython 3.11, str patterns) into
 * PCRE2's language, every construct spelled out so that it means the same. prefix gets the text
 * that every match must begin with; *literal tells whether it is the only match. Errors:
 * THAW_E_PATTERN when Python would refuse it, THAW_E_SUPPORT naming the construct we cannot
 * express, THAW_E_LIMIT when nested too deep.
 */
thaw_status regex_translate(text *out, text *prefix, bool *literal,
                            const char *pattern) THAW_MUST_USE;

/* A compiled pattern. */
typedef struct name_pattern name_pattern;
thaw_status pattern_compile(name_pattern **out, const char *python) THAW_MUST_USE;
thaw_status pattern_compile_engine(name_pattern **out, const char *pcre2) THAW_MUST_USE;
void pattern_destroy(name_pattern *p);
const char *pattern_only_match(const name_pattern *p); /* NULL: there may be several */

/* Whether the whole name matches. THAW_E_LIMIT when the effort exceeds a fixed bound. */
thaw_status pattern_match(bool *out, const name_pattern *p, const char *name) THAW_MUST_USE;

/* Python's fnmatch.fnmatchcase: whole name, code points. */
typedef struct name_glob name_glob;
thaw_status glob_compile(name_glob **out, const char *python) THAW_MUST_USE;
void glob_destroy(name_glob *g);
bool glob_match(const name_glob *g, const char *name);

/* Modules chosen by patterns, in layer order, without duplicates; free with selection_done. */
typedef struct selection {
    int *module;
    int n;
} selection;
thaw_status thaw__select_one(bool *chosen, const thaw_tree *tree,
                             const char *pattern) THAW_MUST_USE; /* sets bits of chosen */
thaw_status selection_take(selection *out, const thaw_tree *tree, const bool *chosen) THAW_MUST_USE;
thaw_status thaw__select(selection *out, const thaw_tree *tree, const char *const *patterns,
                         int n) THAW_MUST_USE;
void selection_done(selection *s);

/* ----------------------------------------------------------------------------------------------
 * blocks (blocks.c) */

/* Units of a network in order, and the block that each belongs to, from 0 (stem) to n_groups - 1
 * (head). */
typedef struct block_list {
    int *unit, *group; /* [n_units] module numbers; block numbers, rising */
    int n_units, n_groups;
} block_list;
thaw_status thaw__blocks(block_list *out, const thaw_tree *tree) THAW_MUST_USE;
void block_list_done(block_list *b);

/* ----------------------------------------------------------------------------------------------
 * Python's texts, and JSON (pytext.c, jsonread.c) */

/* repr() of a string as CPython 3.11 writes it, non-printable characters escaped. */
void text_add_python(text *t, const char *s);

/* json.dumps of a string: everything outside ASCII as \\uXXXX. */
void text_add_ascii_json(text *t, const char *s);

typedef enum json_kind {
    JSON_IS_NULL,
    JSON_IS_BOOL,
    JSON_IS_NUMBER,
    JSON_IS_TEXT,
    JSON_IS_LIST,
    JSON_IS_OBJECT
} json_kind;

/* A JSON value; members in source order, as a list. */
typedef struct json_node {
    json_kind kind;
    bool truth;
    const char *text; /* JSON_IS_TEXT: decoded; JSON_IS_NUMBER: as written */
    const char *key;  /* in an object */
    struct json_node *first, *next;
} json_node;

/* Read a whole text; nodes live in the region. THAW_E_DATA with the position of the first mistake.
 */
thaw_status json_read(json_node **out, thaw_region *region, const char *source) THAW_MUST_USE;
const json_node *json_get(const json_node *object, const char *key); /* the last one; NULL: none */
void text_add_python_value(text *t, const json_node *value);         /* repr() of the value */

/* ----------------------------------------------------------------------------------------------
 * phase state (state.c) */

#define RULE_SUBTREE 1u /* in F: everything at or below is frozen */
#define RULE_OWN     2u /* in O: only what the module itself owns is frozen */

/* F, O, C and the mask: the fold of a list of operations. */
typedef struct phase_state {
    const thaw_tree *tree;
    uint8_t *rule;       /* [n_modules] RULE_… */
    double *coefficient; /* [n_modules] NAN: no entry */
    bool *trainable;     /* [n_params] */
    bool *scratch[2];    /* [n_params] each */
} phase_state;

thaw_status phase_state_init(phase_state *s, const thaw_tree *tree) THAW_MUST_USE;
void phase_state_done(phase_state *s);
void phase_state_reset(
    phase_state *s); /* everything trainable but what is fixed, no coefficients */
thaw_status phase_state_freeze(phase_state *s, const selection *layers) THAW_MUST_USE;
thaw_status phase_state_unfreeze(phase_state *s, const selection *layers) THAW_MUST_USE;

/* F and O alone: insert a rule; remove what covers a layer, keeping what stands beside it. */
void phase_state_insert_rule(phase_state *s, int module);
void phase_state_remove_rule(phase_state *s, int module);
/* covered[p]: some path of p is at or below a member of F, or its owner is in O. */
thaw_status phase_state_covered(bool *covered, const phase_state *s) THAW_MUST_USE;
/* Coefficient in force for each module: the nearest entry at or above it, else 1. */
void phase_state_coefficients(double *per_module, const phase_state *s);
double phase_state_coefficient_at(const phase_state *s, int module);

/* ----------------------------------------------------------------------------------------------
 * schedule (schedule.c, seal.c, effect.c) */

typedef enum schedule_change_type {
    SCHEDULE_FREEZE,
    SCHEDULE_UNFREEZE,
    SCHEDULE_COEFFICIENT,
    SCHEDULE_PIN,
    SCHEDULE_SPEC /* SPEC B: parameters by fnmatch, not layers */
} schedule_change_type;

/* One operation. Patterns as given; what they select is known once sealed. */
typedef struct schedule_change {
    schedule_change_type type;
    double coefficient;
    bool frozen;        /* SCHEDULE_SPEC */
    const char *module; /* SCHEDULE_SPEC: alias or pattern as written */
    const char **pattern;
    int n_patterns;
    selection layers; /* for SCHEDULE_SPEC: parameters */
} schedule_change;

typedef struct change_list {
    schedule_change *item;
    size_t capacity;
    int n;
} change_list;

typedef struct schedule_phase {
    thaw_phase_options options; /* texts belong to the schedule */
    int64_t steps;              /* length in steps, once sealed */
    change_list changes;
} schedule_phase;

/* Changes at a fixed iteration: a stage of the step-scheduled form, or an edit made by hand. */
typedef struct schedule_stage {
    int64_t start;
    bool edit; /* after everything else of its iteration */
    int order; /* of adding */
    change_list changes;
} schedule_stage;

/* Something wrong with a schedule, and where. */
typedef struct schedule_problem {
    thaw_status code;
    int phase;  /* -1: not in a phase */
    int stage;  /* number in the order of adding; -1: not in a stage */
    int change; /* in its list; -1: the phase or stage itself */
    char *text;
} schedule_problem;

typedef struct effect_entry {
    thaw_effect effect;
    uint64_t key; /* of the phase, the stages reached and where phases began */
    struct effect_entry *next;
} effect_entry;

struct thaw_schedule {
    const thaw_tree *tree;
    thaw_region *region;
    bool sealed, norm_eval, has_hold;
    int64_t steps_per_epoch, samples_per_step, tokens_per_step; /* 0: not known */
    schedule_phase *phase;
    schedule_stage *stage;
    size_t phase_capacity, stage_capacity, problem_capacity, alias_capacity;
    int n_phases, n_stages, n_problems, n_aliases;
    change_list base; /* before the first phase */
    change_list *open;
    struct schedule_alias {
        const char *name;
        const char **pattern;
        int n;
    } * alias;
    schedule_problem *problem;
    phase_state state; /* scratch of the fold */
    effect_entry *effects;
    effect_entry *latest; /* given out last; holds in [latest_begin, latest_end) */
    int64_t latest_begin, latest_end;
    uint64_t latest_fired;
};

/* What thaw_schedule_seal found wrong, one by one, for who wants to add where it stands. */
int thaw__schedule_problems(const schedule_problem **out, const thaw_schedule *schedule);

/* Factor of the rates of what is `thawed`, at an iteration of the effect's phase. */
double thaw__effect_ramp(const thaw_effect *effect, int64_t iteration);

/* First iteration of a phase, as far as fired metrics tell. */
int64_t thaw__phase_begin(const thaw_schedule *s, const thaw_progress *progress, int phase);

/* End of a phase that begins at `begin`, as far as fired metrics tell; the next one begins there.
 */
int64_t thaw__phase_end(const thaw_schedule *s, const thaw_progress *progress, int phase,
                        int64_t begin);

/* THAW_E_RANGE unless the coefficient is finite and 0 or more. */
thaw_status thaw__check_coefficient(double coefficient) THAW_MUST_USE;

/*
 * Parameters whose name matches one of the fnmatch patterns, in order. all_names: tied names count
 * too (C23); else only the first name does (SPEC B3).
 */
thaw_status thaw__match_params(selection *out, const thaw_tree *tree, const char *const *patterns,
                               int n, bool all_names) THAW_MUST_USE;

/* Apply one change to a state. */
thaw_status phase_state_apply(phase_state *s, const schedule_change *change) THAW_MUST_USE;

#endif
