/*
 * recipe.h - what a recipe says once it has been read, every value resolved: the plain struct that
 * jobs are made of. How it is read is recipe_reader.h's.
 */
#ifndef THAW_TRAIN_RECIPE_H
#define THAW_TRAIN_RECIPE_H

#include "core/core.h"
#include "data/data.h"
#include "data/picture.h"
#include "exec/exec.h"
#include "model/model.h"
#include "optim/optim.h"
#include "plan/plan.h"

#include <thaw/thaw.h>

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

/* Which kernels dense layers get where several do: plan.tune. */
typedef enum recipe_tune { TUNE_TABLE, TUNE_MEASURE, TUNE_LIBRARY } recipe_tune;

typedef enum recipe_precision {
    PRECISION_AUTO,
    PRECISION_F32,
    PRECISION_BF16,
    PRECISION_F64
} recipe_precision;

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
    int n_classes;                   /* of the labels; 0: from the data */
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

    dtype real; /* of weights, statistics and losses */
    recipe_precision precision;
    const exec_ops *executor;
    bool double_sums;      /* train.sums */
    uint64_t memory_limit; /* bytes; 0: what the machine has */
    bool frozen_norm_eval;
    bool fold, fuse, inplace, winograd; /* of [plan] */
    recipe_tune tune;
    plan_recompute recompute;
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

/* config.json of a model folder. */
thaw_status model_folder_config(model_config *out, const char *folder) THAW_MUST_USE;

bool recipe_has_pictures(const thaw_recipe *recipe);

/* Samples of one micro-batch in a phase. */
int64_t recipe_batch(const thaw_recipe *recipe, int phase);

/* The step-scheduled form, to a schedule that has no phase yet (recipe_stage.c). */
thaw_status recipe_add_stages(thaw_schedule *schedule, const thaw_recipe *recipe) THAW_MUST_USE;

#endif
