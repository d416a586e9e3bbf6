/*
 * train - the one trainer, the recipe it follows, and what it reports. Everything under src/ comes
 * together here; the terminal does not: the trainer tells through events, the caller shows.
 */
#ifndef THAW_TRAIN_H
#define THAW_TRAIN_H

#include "ckpt/ckpt.h"
#include "core/core.h"
#include "data/data.h"
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
    const char *key;          /* in a table: its key; else NULL */
    int key_line, key_column; /* of the key, from 1 */
    int line, column;         /* of the value, from 1 */
    const char *string;       /* TOML_STRING (NUL-terminated; length may differ when it holds NUL),
                                 TOML_DATETIME: its text */
    size_t length;
    int64_t integer;
    double real;
    bool boolean;
    struct toml_value *first; /* TOML_ARRAY, TOML_TABLE: members in source order */
    struct toml_value *next;
    size_t n; /* members */
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

/* ----------------------------------------------------------------------------------------------
 * recipe (recipe.c) */

/* Operations of a phase, in source order. */
typedef enum change_kind { CHANGE_FREEZE, CHANGE_UNFREEZE, CHANGE_COEFFICIENT } change_kind;
typedef struct recipe_change {
    change_kind kind;
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
    double lr;                 /* NAN: the optimizer's */
    double weight_decay;       /* NAN: the optimizer's */
    const recipe_curve *curve; /* NULL: the recipe's */
    int line;
} recipe_phase;

/* One split of the data: an IDX file pair and what to take of it. images NULL: no such split. */
typedef struct recipe_split {
    const char *images, *labels;
    dataset_subset subset;
} recipe_split;

/* A recipe with every value resolved. Strings belong to it. */
struct thaw_recipe {
    thaw_region *region;
    const char *name;   /* of the file, for messages */
    const char *folder; /* relative paths in the recipe are relative to it */
    int64_t seed;

    const char *model_path; /* folder with config.json and model.safetensors; NULL: config alone */
    model_config
        config;        /* from [model]; fields left at 0 come from the model's folder or the data */
    bool init_by_name; /* model.init = "by-name": start values of the reference runs */

    recipe_split train, valid, test;
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
    bool frozen_norm_eval;
    int64_t eval_every; /* epochs; 0: only at the ends of phases */
    bool eval_at_start;

    int64_t save_steps;  /* a checkpoint every so many steps; 0: off */
    int64_t save_epochs; /* every so many epochs; 0: off */
    double save_seconds; /* INFINITY: off */
    int keep;
    bool save_on_phase;

    recipe_phase *phase;
    int n_phases;
    char *resolved; /* the recipe as TOML with every value and its origin as a comment */
};

/* One line per key: name, type, default, range, help; for `thaw help recipe` and docs/recipe.md. */
void recipe_help(text *out, bool markdown);

/* ----------------------------------------------------------------------------------------------
 * trainer (trainer.c …) */

/* A run put together: model with weights, data, schedule, executor. Shared by train, resume, eval
 * and plan. */
typedef struct job {
    const thaw_recipe *recipe;
    const thaw_source *source; /* NULL: the recipe's data */
    model *model;
    params *params;
    thaw_schedule *schedule;
    dataset *train, *valid, *test;
    exec *exec;
    int threads;
    char *load_note; /* what loading the weights replaced, missed or left over; "" for nothing */
} job;

#endif
