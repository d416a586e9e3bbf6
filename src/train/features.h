/*
 * features - the cache of features (feature_store.c, features.c), and what evaluates with it.
 *
 * What the frozen beginning of the network makes of a sample is computed once and read back in
 * later epochs, evaluations and phases that have the same beginning. A run's losses and weights
 * are the same with it and without, to the bit wherever the kernels give the same bits for any
 * batch; it is never part of a checkpoint and never needed.
 */
#ifndef THAW_FEATURES_H
#define THAW_FEATURES_H

#include "train/train.h"

/* Bytes that stores may still take, shared by those of a run. */
typedef struct feature_budget {
    size_t memory;
    uint64_t disk;
    bool disk_failed;
} feature_budget;

/* Rows of `bytes` numbers by cell. Files of an earlier process are taken up where the digest is
 * theirs. */
typedef struct feature_store_options {
    char digest[65]; /* SHA-256 of all that the rows follow from, in hexadecimal */
    int64_t n_cells;
    size_t bytes;           /* of one row */
    feature_budget *budget; /* borrowed */
    const char *folder; /* files lie in a folder of theirs in it; NULL: memory alone; borrowed */
} feature_store_options;

typedef struct feature_store feature_store;
thaw_status feature_store_create(feature_store **out, const feature_store_options *o) THAW_MUST_USE;
void feature_store_destroy(feature_store *s, bool keep_files);

/* Whether a row is there: may be called on any thread, at any time (a loader_skip_fn). */
bool feature_store_has(const void *store, int64_t cell);

/* Read a row; false: it is not there, or no longer what was written. Keep one, where there is
 * room. */
bool feature_store_get(void *row, int32_t *label, feature_store *s, int64_t cell);
void feature_store_put(feature_store *s, int64_t cell, const void *row, int32_t label);

typedef struct feature_counts {
    int64_t memory, disk; /* rows */
    uint64_t disk_bytes;
} feature_counts;
feature_counts feature_store_counts(const feature_store *s);
text *
feature_store_problem(feature_store *s); /* what to tell, a line each; the caller empties it */
void feature_files_remove(const char *folder); /* of one store, with the folder */

/* What of a phase could be kept, and why not. */
typedef struct feature_outlook {
    plan_cut cut;
    bool training;      /* of training, too: nothing is random there */
    const char *reason; /* why nothing is kept of training, or of nothing at all; NULL */
    bool any_batch;     /* the kernels give the same bits for any batch */
    int64_t n_cells;    /* of training and validation */
    uint64_t memory;    /* bytes that may be taken */
} feature_outlook;
thaw_status features_foresee(feature_outlook *out, job *j, const thaw_effect *effect) THAW_MUST_USE;
uint64_t features_foreseen(const feature_outlook *o, int64_t batch); /* bytes taken in memory */
void features_print(text *out, const job *j, const feature_outlook *o);

/* The stores of a run, and the cut in force. */
thaw_status features_create(features **out, job *j) THAW_MUST_USE;
void features_destroy(features *f, bool keep_files);

/*
 * Find what can be kept under an effect, for batches of at most so many samples; what was kept and
 * does not follow from the present weights is forgotten. No loader may be working with a store: see
 * features_attach. NULL: no effect, nothing is kept.
 */
thaw_status features_aim(features *f, const thaw_effect *effect, int64_t batch) THAW_MUST_USE;

/* Whether batches of a data set come from here now. */
bool features_serve(const features *f, const dataset *d);

/* Whether every sample of a data set is known. */
bool features_complete(const features *f, const dataset *d);

/* Have a loader of a data set leave out what is known. */
void features_attach(const features *f, loader *l, const dataset *d);

/* Whether weights before the cut have changed since features_aim, which then has to be called
 * again. */
bool features_stale(const features *f);

/* The batch with the values at the cut in the place of images: in `out`, until the next call. */
thaw_status features_batch(batch *out, features *f, plans *cache, loader *l, const batch *b,
                           const dataset *d) THAW_MUST_USE;

/* Cut and memory of what is in force. Samples that were read back, and computed, since the last
 * call; notes: what to tell, a line each. */
value_id features_cut(const features *f); /* NO_VALUE: none */
const feature_outlook *features_outlook(const features *f);
uint64_t features_bytes(const features *f);
void features_take_counts(int64_t *hits, int64_t *misses, features *f);
void features_take_notes(text *notes, features *f);

/*
 * Loss (mean) and hits over a data set, or with numbers to predict their errors. confusion: NULL or
 * [K, K] zeroed, added to; untouched with numbers. features: NULL, or those to use.
 */
#define NEAR_HITS 5
typedef struct eval_sums {
    double loss, valid;
    int64_t hits, n;
    int64_t near;             /* the label is among the NEAR_HITS greatest outputs */
    double squared, absolute; /* of the errors; 0 with classes */
    double seconds;
} eval_sums;
thaw_status evaluate(eval_sums *out, int64_t *confusion, plans *cache, job *j, dataset *d,
                     features *f) THAW_MUST_USE;

/* As plans_get and plans_compile, of a part of the network: the prefix of a cut (effect NULL), or
 * the suffix. */
thaw_status plans_get_part(const plan_entry **out, plans *cache, job *j, const thaw_effect *effect,
                           int64_t n, const optim_hyper *hyper, plan_part part,
                           value_id cut) THAW_MUST_USE;
thaw_status plans_compile_part(plan **out, job *j, const thaw_effect *effect, int64_t n,
                               const optim_hyper *hyper, plan_part part,
                               value_id cut) THAW_MUST_USE;
void plans_drop_parts(plans *cache, value_id keep_cut); /* of other cuts */

/* Aim the cache at an effect, or again at the one it has where weights have changed under it. */
thaw_status trainer_aim(trainer *t, const thaw_effect *effect) THAW_MUST_USE;

#endif
