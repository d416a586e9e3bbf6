/*
 * recipe_reader.h - how recipes are read: the table of keys, and the one pass over the tree that
 * sets, completes, checks and prints it. For the recipe_*.c, and for what judges or describes keys.
 */
#ifndef THAW_TRAIN_RECIPE_READER_H
#define THAW_TRAIN_RECIPE_READER_H

#include "train/recipe.h"
#include "train/toml.h"

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
    size_t offset, size; /* of the field in the section's struct; size 0: set stores it,
                            or it only decides which other keys there are */
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

/* recipe_stage.c: the step-scheduled form. */
void recipe_read_stages(recipe_reader *rd);
const char **recipe_strings(recipe_reader *rd, int *n, const toml_value *v); /* string or list */

/* recipe_check.c: what no key can know alone. */
void recipe_check(recipe_reader *rd);

/* recipe_pictures.c: [data] for pictures; look_at_model once [model] is read. */
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

#endif
