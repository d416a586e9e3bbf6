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

#include <pthread.h>

/* ----------------------------------------------------------------------------------------------
 * data sets */

/*
 * Samples that the caller makes: read n of them, numbers index[0 … n) in [0, size of the set), into
 * images [n, H, W, C] (final values: no normalisation is applied) and labels [n]. Called from the
 * prefetch thread, one call at a time. Returns THAW_OK, or a failure that ends the run.
 */
typedef thaw_status dataset_read_fn(void *user, const int64_t *index, int64_t n, float *images,
                                    int32_t *labels);

/* A data set in memory: n samples of u8 pixels [H, W, C] with a class each; or files of pictures,
 * read when they are needed; or one that a callback makes. Immutable. */
typedef struct dataset {
    dataset_read_fn *read; /* NULL: pixels and labels are in memory */
    void *user;
    int64_t n;
    int64_t height, width, channels;
    int n_classes;
    uint8_t *pixels; /* [n, H, W, C] */
    int32_t *label;  /* [n], in [0, n_classes); NULL with a callback, and with numbers */
    float *target;   /* [n]: a number to predict instead of a class; NULL: classes */
    const char *const *class_name; /* [n_classes]; NULL: they have none */
    struct picture_set *pictures;  /* files of pictures; NULL: pixels in memory, or a callback */
    int64_t *id;     /* [n]: number of the sample in its file; keys random streams; what a callback
                        is asked for; NULL: sample i is number i */
    size_t opening;  /* bytes taken while it was read, where that was more than it has */
    uint64_t digest; /* of pixels and labels: tells whether a data set changed between runs */
    char *description; /* "1000 images 28x28x1 in 5 classes from '…'" */
} dataset;
void dataset_destroy(dataset *d);

/* Bytes it has in memory. */
size_t dataset_bytes(const dataset *d);

/*
 * Which samples of a source to take, applied in this order. The samples stay in the order of the
 * file. More than there are is an error, never silently fewer. The draw of a class depends on
 * (seed, its label in the file, how many there are of it), not on which other classes are kept.
 */
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
 * gzip by content: images [n, H, W] or [n, H, W, C], labels [n]. subset may be NULL;
 * n_classes_expected 0: subset.n_classes, or without subset.classes the largest label of the whole
 * file + 1. All labels of the file are checked, also those that the subset leaves out.
 *
 * Errors, each naming file and value: THAW_E_MISSING; THAW_E_DATA for a wrong magic number, type or
 * rank, a short or an over-long file, counts that differ, a label out of range, an empty result,
 * fewer samples than the subset asks for; THAW_E_RANGE for numbers in the subset that no file could
 * satisfy.
 */
thaw_status dataset_open_idx(dataset **out, const char *images, const char *labels,
                             const dataset_subset *subset, int n_classes_expected) THAW_MUST_USE;

/* A data set of n samples made by `read`; no pixels, labels or digest. THAW_E_RANGE for a size
 * below 1. */
thaw_status dataset_from_callback(dataset **out, int64_t n, int64_t height, int64_t width,
                                  int64_t channels, int n_classes, dataset_read_fn *read,
                                  void *user) THAW_MUST_USE;

/* Count per class; [n_classes], zeroed first. Share of the largest class, in [0, 1]: the baseline
 * any network must beat. Both 0 where labels come from a callback or are numbers; the share also
 * when out of memory. */
void dataset_count_classes(int64_t *count, const dataset *d);
double dataset_majority(const dataset *d);

/* Mean and deviation of the numbers to predict; 0 where there are none. */
void dataset_numbers(double *mean, double *deviation, const dataset *d);

/* Where sample i's picture lies: below the folder or list it came from, in memory of the data set;
 * NULL: its samples are no files. */
const char *dataset_file(const dataset *d, int64_t i);

/* What a person should know of the data, one line each: files that were left out or replaced since
 * the last call. Appended to `out`; may be called while batches are made. */
void dataset_take_notes(text *out, dataset *d);

/* ----------------------------------------------------------------------------------------------
 * batches */

/* One batch, ready for a plan's inputs. Owned by the loader, valid until the next loader_next. */
typedef struct batch {
    int64_t n;             /* samples; the last of an epoch may be smaller */
    const void *images;    /* [n, H, W, C] of `real` */
    const int32_t *labels; /* [n]; 0 where targets are numbers */
    const float *targets;  /* [n]: numbers to predict; NULL: classes */
    const int64_t *ids;    /* [n] */
    int64_t epoch;         /* of its first sample */
    int64_t index;         /* position of its first sample in the epoch */
    bool last;             /* the epoch ends with this batch (never with wrap) */

    /* [n] place in the data set, plus its size for each view before this one: samples of one cell
     * look the same, unless the options are random */
    const int64_t *cells;
    const bool *skipped; /* [n] loader_skip left its image out: `images` has the others alone, in
                            order; with a callback its label is 0 then */
    int64_t n_images;    /* of them */
} batch;

/* With a callback the images are final: shift, flip, scale and another number of channels are
 * refused, mean and std have no effect. */
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
    int64_t views; /* augmentation draws so many views of each sample, and epoch e has view e mod
                      views; 0: a new one in each epoch */
    bool prefetch; /* prepare the next batch on a thread */
    bool vary;     /* pictures: parts and colours drawn at random, as their recipe says */
    int workers;   /* pictures: threads that read them; 0: as many as there are processors */
} loader_options;
#define LOADER_OPTIONS_INIT                                                                        \
    {                                                                                              \
        .batch = 32, .std = {1, 1, 1, 1}, .n_mean = 1, .prefetch = true                            \
    }

/* Whether a sample may look different each time it is met. */
bool loader_options_random(const loader_options *o);

/* Cells that batches can name: samples times views. */
int64_t loader_cells(const dataset *d, const loader_options *o);

/* What turns stored samples into images, as text: options with the same text make the same images
 * of one data set. */
void loader_options_print(text *out, const loader_options *o);

/* Bytes that a loader takes at most: room for its batches, and for those who make them. SIZE_MAX:
 * more than can be counted. */
size_t loader_bytes(const dataset *d, const loader_options *o);

/* Opaque. The data set is borrowed. Starts at epoch 0, sample 0. THAW_E_RANGE and THAW_E_SHAPE name
 * the option that does not fit. */
typedef struct loader loader;
thaw_status loader_create(loader **out, const dataset *d,
                          const loader_options *options) THAW_MUST_USE;
void loader_destroy(loader *l);

/* Go to sample `index` of `epoch`; the next batch starts there. index in [0, n), epoch 0 or more.
 * The current batch stays valid. */
thaw_status loader_seek(loader *l, int64_t epoch, int64_t index) THAW_MUST_USE;

/*
 * The next batch. After a batch with `last` the next one begins the next epoch. Failures of a
 * callback surface here, also those met on the thread; the position stays, so that calling again
 * tries again.
 */
thaw_status loader_next(const batch **out, loader *l) THAW_MUST_USE;

/*
 * From the next batch on, leave out images that skip says are not wanted; NULL: none. It is called
 * on the thread that prepares, also while the caller works on a batch.
 */
typedef bool loader_skip_fn(const void *user, int64_t cell);
void loader_skip(loader *l, loader_skip_fn *skip, const void *user);

/* The image and label of sample k of the batch that loader_next gave last, though it was skipped.
 */
thaw_status loader_image(void *image, int32_t *label, loader *l, int64_t k) THAW_MUST_USE;

/* Seconds the caller has waited for data so far. */
double loader_waited(const loader *l);

/* ----------------------------------------------------------------------------------------------
 * parts: what the files of this layer share, and what tests and fuzzing call */

/* crew.c: threads that share a number of tasks. The caller is worker 0. work(user, worker, i) runs
 * once for each i in [0, n), in any order; crew_run returns when all are done. */
typedef struct crew crew;
thaw_status crew_create(crew **out, int workers) THAW_MUST_USE;
void crew_destroy(crew *c);
int crew_size(const crew *c);
void crew_run(crew *c, int64_t n, void (*work)(void *user, int worker, int64_t i), void *user);

/* A thread that takes no signals: those are for the program's own. Code of pthread_create. */
int crew_thread(pthread_t *out, void *(*body)(void *), void *user);

/* gunzip.c: the bytes of a file or of a block of memory, decompressed when they begin like gzip. */
typedef struct byte_source byte_source;
thaw_status byte_source_open(byte_source **out, const char *path) THAW_MUST_USE;
thaw_status byte_source_open_memory(byte_source **out, const void *bytes, size_t size,
                                    const char *name) THAW_MUST_USE; /* both borrowed */
void byte_source_close(byte_source *s);

/* The next n bytes; *got is less only at the end. Nothing is decompressed beyond them. A damaged
 * gzip stream is THAW_E_DATA. */
thaw_status byte_source_read(size_t *got, byte_source *s, void *buffer, size_t n) THAW_MUST_USE;

/* THAW_E_DATA unless all bytes have been read, checksums hold and nothing follows. */
thaw_status byte_source_finish(byte_source *s) THAW_MUST_USE;

/* What its bytes can be at most: the exact number of a plain file, the most that deflate can make
 * of a compressed one. Tells impossible sizes before memory is asked for. */
uint64_t byte_source_most(const byte_source *s);
bool byte_source_plain(const byte_source *s); /* so that number is exact */

/* A number as files of images store it. */
static inline uint32_t big_endian(const uint8_t p[4])
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* idx.c: one IDX file. Labels have height, width and channels 1. */
typedef enum idx_kind { IDX_IMAGES, IDX_LABELS } idx_kind;
typedef struct idx_array {
    int64_t n, height, width, channels;
    uint8_t *data; /* [n, H, W, C]; free with thaw__free */
} idx_array;
thaw_status idx_read(idx_array *out, const char *path, idx_kind kind) THAW_MUST_USE;
thaw_status idx_parse(idx_array *out, const void *bytes, size_t size, const char *name,
                      idx_kind kind) THAW_MUST_USE;

/* subset.c: which of n samples to take. */
typedef struct sample_selection {
    int64_t n;
    int64_t *index; /* [n], rising; free with thaw__free */
    int n_classes;
    int32_t class_of[256]; /* class number of a label in the file; -1: left out */
} sample_selection;
thaw_status dataset_select(sample_selection *out, const uint8_t *label, int64_t n,
                           const dataset_subset *subset, int n_classes_expected,
                           const char *labels_name) THAW_MUST_USE;

/* augment.c: one sample's random change. Mirrored first, then moved by (dy, dx); what comes in from
 * outside is 0. */
typedef struct augmentation {
    int dy, dx;
    bool flip;
} augmentation;
augmentation augment_draw(philox_key key, int64_t epoch, int64_t id, int shift, bool flip);
void augment_apply(uint8_t *dst, const uint8_t *src, int64_t height, int64_t width,
                   int64_t channels, const augmentation *a);

/* pixels.c: u8 [H, W, channels_in] to numbers [H * scale, W * scale, channels_out] by a table. */
typedef struct pixel_map {
    dtype real;
    int64_t height, width;
    int channels_in, channels_out, scale;
    union {
        float f32[4][256];
        double f64[4][256];
    } value;
} pixel_map;
void pixel_map_init(pixel_map *m, const dataset *d, const loader_options *o);
void pixel_map_apply(void *dst, const pixel_map *m, const uint8_t *src);

/* png_write.c: an image [height, width, channels of 1 or 3] as a PNG file in base64, for pages;
 * free with thaw__free. THAW_E_LIMIT over 4096 pixels a side. */
thaw_status png_base64(char **out, const uint8_t *pixel, int64_t height, int64_t width,
                       int channels) THAW_MUST_USE;

#endif
