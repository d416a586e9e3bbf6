/*
 * golden.h - what the families of golden_run share: the record files, the models in them, and the
 * count of checks.
 *
 * A record is data made by another implementation; each family drives ours with it and compares.
 */
#ifndef THAW_TESTS_GOLDEN_H
#define THAW_TESTS_GOLDEN_H

#include "core/core.h"

#include <jansson.h>

/* A model of the files, as a tree of ours. */
typedef struct golden_model {
    const char *name;
    json_t *json;
    thaw_tree *tree;
    int *param; /* number in the file: number in the tree */
    int n_params;
    struct golden_model *next;
} golden_model;

typedef struct golden_family {
    const char *name;
    long checks, mismatches, ambiguous;
} golden_family;

typedef struct golden_run {
    golden_model *models;
    golden_family *now;
    const char *file;
    bool apart; /* the record is ambiguous: counted apart */
    int shown;
} golden_run;

/* Count one check; a failed one is told on stderr, the first few of them. */
void golden_check(golden_run *g, bool ok, const char *format, ...) THAW_PRINTF(3, 4);

/* Count one check that a call succeeded. */
void golden_ok(golden_run *g, thaw_status status, const char *what);

const golden_model *golden_find_model(golden_run *g, const char *name); /* NULL, told: none */

const char *text_of(const json_t *object, const char *key); /* "" when absent */

/* "101" of trainable flags in the file's order. */
bool golden_bits_equal(const char *bits, const bool *trainable, const golden_model *m);

/* [[module, frozen], …] as specs; free with thaw__free. */
thaw_freeze_spec *golden_specs(int *n, const json_t *list);

/* [text, …]; free with thaw__free. A lone text is a list of one. */
const char **golden_texts(int *n, const json_t *list);

/* {name: [pattern, …]} as aliases; free with golden_aliases_free. */
thaw_alias *golden_aliases(int *n, const json_t *object);
void golden_aliases_free(thaw_alias *aliases, int n);

typedef void golden_fn(golden_run *g, const json_t *root);
golden_fn golden_models, golden_mentor_seq, golden_frozenset, golden_regex, golden_fnmatch,
    golden_freeze, golden_schedule, golden_checkpoint, golden_trainloop, golden_optim;

/* The configuration records of the checkpoint family. */
void golden_configs(golden_run *g, const json_t *list);

#endif
