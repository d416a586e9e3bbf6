/*
 * data - data sets and the loader that turns them into batches.
 *
 * Sample i of epoch e is a pure function of (data set, seed, e, i): the shuffled order is a
 * seekable permutation and augmentation is keyed by (seed, epoch, sample). So the position is two
 * integers, resuming needs no generator state, and the batches are the same for any number of
 * worker threads.
 *
 * Knows nothing of models or phases. Rank and size come in as two integers when several machines
 * come.
 */
#ifndef THAW_DATA_H
#define THAW_DATA_H

#include "tensor/tensor.h"

/* ----------------------------------------------------------------------------------------------
 * data sets */

/*
 * Samples that the caller makes: read n of them, numbers index[0 … n) in [0, size of the set), into
 * images [n, H, W, C] (final values: no normalisation is applied) and labels [n]. Called from the
 * prefetch thread, one call at a time. Returns THAW_OK, or a failure that ends the run.
 */
typedef thaw_status dataset_read_fn(void *user, const int64_t *index, int64_t n, float *images,
                                    int32_t *labels);

/* A data set in memory: n samples of u8 pixels [H, W, C] with a class each; or one that a callback
 * makes. Immutable. */
typedef struct dataset {
    dataset_read_fn *read; /* NULL: pixels and labels are in memory */
    void *user;
    int64_t n;
    int64_t height, width, channels;
    int n_classes;
    uint8_t *pixels;   /* [n, H, W, C] */
    int32_t *label;    /* [n], in [0, n_classes) */
    int64_t *id;       /* [n]: number of the sample in its file; keys random streams */
    uint64_t digest;   /* of pixels and labels: tells whether a data set changed between runs */
    char *description; /* "1000 images 28x28x1 in 5 classes from '…'" */
} dataset;
void dataset_destroy(dataset *d);

/* Which samples of a source to take, applied in this order. */
typedef struct dataset_subset {
    const int64_t *classes; /* labels to keep, renumbered 0 … n_classes-1 in this order; NULL: all,
                               as they are */
    int n_classes;
    int64_t skip;      /* leave out the first samples (after the classes were chosen) */
    int64_t first;     /* then keep this many; 0: all */
    int64_t per_class; /* keep this many of each class, drawn with `seed`; 0: all */
    uint64_t seed;
} dataset_subset;

/*
 * IDX images and labels (http://yann.lecun.com/exdb/mnist format: u8, big-endian sizes), plain or
 * gzip by content. subset may be NULL; n_classes_expected 0: largest label + 1 (without
 * subset.classes). Files are read with checked sizes.
 *
 * Errors, each naming file and value: THAW_E_MISSING; THAW_E_DATA for a wrong magic number, type or
 * rank, a short or an over-long file, counts that differ, a label out of range, an empty result,
 * fewer samples of a class than per_class.
 */
thaw_status dataset_open_idx(dataset **out, const char *images, const char *labels,
                             const dataset_subset *subset, int n_classes_expected) THAW_MUST_USE;

/* A data set of n samples made by `read`; no pixels, labels or digest. */
thaw_status dataset_from_callback(dataset **out, int64_t n, int64_t height, int64_t width,
                                  int64_t channels, int n_classes, dataset_read_fn *read,
                                  void *user) THAW_MUST_USE;

/* Samples [from, from + n) or those listed, as a new data set (pixels copied). */
thaw_status dataset_slice(dataset **out, const dataset *d, int64_t from, int64_t n) THAW_MUST_USE;

/* Count per class; [n_classes], zeroed first. Share of the largest class, in [0, 1]: the baseline
 * any network must beat. */
void dataset_count_classes(int64_t *count, const dataset *d);
double dataset_majority(const dataset *d);

/* ----------------------------------------------------------------------------------------------
 * batches */

/* One batch, ready for a plan's inputs. Owned by the loader, valid until the next loader_next. */
typedef struct batch {
    int64_t n;             /* samples; the last of an epoch may be smaller */
    const void *images;    /* [n, H, W, C] of `real` */
    const int32_t *labels; /* [n] */
    const int64_t *ids;    /* [n] */
    int64_t epoch;         /* of its first sample */
    int64_t index;         /* position of its first sample in the epoch */
    bool last;             /* the epoch ends with this batch (never with wrap) */
} batch;

typedef struct loader_options {
    int64_t batch; /* 1 or more */
    dtype real;    /* F32 or F64 */
    bool shuffle;
    uint64_t seed; /* of order and augmentation */
    bool wrap; /* one endless stream: batches are always full, the epoch's end may lie inside one */
    int channels; /* channels given out; a single one is repeated; 0: as stored */
    int scale;    /* each pixel repeated scale × scale times; 0 or 1: as stored */
    double mean[4],
        std[4]; /* x = (pixel / 255 - mean[c]) / std[c]; computed in double, rounded once */
    int n_mean; /* 1 (for all channels) or channels */
    int shift; /* random shift by up to this many pixels in each direction, filled with zero pixels;
                  0: none */
    bool flip; /* mirror left-right with probability 1/2 */
    bool prefetch; /* prepare the next batch on a thread */
} loader_options;
#define LOADER_OPTIONS_INIT                                                                        \
    {                                                                                              \
        .batch = 32, .std = {1, 1, 1, 1}, .n_mean = 1, .prefetch = true                            \
    }

/* Opaque. The data set is borrowed. Starts at epoch 0, sample 0. */
typedef struct loader loader;
thaw_status loader_create(loader **out, const dataset *d,
                          const loader_options *options) THAW_MUST_USE;
void loader_destroy(loader *l);

/* Go to sample `index` of `epoch`; the next batch starts there. index in [0, n). */
thaw_status loader_seek(loader *l, int64_t epoch, int64_t index) THAW_MUST_USE;

/*
 * The next batch. After a batch with `last` the next one begins the next epoch. THAW_E_NOMEM or
 * errors of the thread surface here.
 */
thaw_status loader_next(const batch **out, loader *l) THAW_MUST_USE;

/* Batches an epoch has; with wrap: n / batch rounded up. Seconds the caller has waited for data so
 * far. */
int64_t loader_batches(const loader *l);
double loader_waited(const loader *l);

#endif
