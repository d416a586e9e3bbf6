/*
 * loader.c - batches in the order of a run: which samples, their numbers, and a thread that
 * prepares the next batch while the caller works on this one.
 *
 * A position (epoch, index) decides a batch entirely; the thread is given a position and a buffer
 * and keeps nothing between batches, so prefetching cannot change what comes out. Must not know
 * what batches are for.
 */
#include "data/picture.h"

#include <math.h>
#include <string.h>

#define MOST_EPOCHS  (INT64_C(1) << 53)
#define MOST_BATCH   (INT64_C(1) << 31)
#define MOST_SCALE   1024
#define MAX_CHANNELS 4

typedef struct position {
    int64_t epoch, index;
} position;

/* Room for one batch, and what became of making it. */
typedef struct slot {
    batch view;
    void *images;
    int32_t *labels;
    float *targets; /* NULL: classes */
    int64_t *ids, *cells, *epochs;
    int64_t *made; /* numbers in the batch of those that are made, without gaps */
    bool *skipped;
    position next; /* of the batch after it */
    thaw_status status;
    char error[1024];
} slot;

typedef enum job_state { JOB_NONE, JOB_ASKED, JOB_READY } job_state;

/* What a worker has of its own: room for an image on its way, and the first of its samples that
 * failed. */
typedef struct maker {
    picture file, fitted;
    uint8_t *changed; /* an image after augmentation */
    thaw_status status;
    int64_t failed; /* number among those that are made */
    char error[1024];
} maker;

struct loader {
    const dataset *d;
    loader_options o;
    philox_key order_stream, augment_stream, picture_stream;
    pixel_map map;
    size_t image; /* numbers in one prepared image */
    maker *maker; /* [n_makers]; NULL with a callback */
    int n_makers;
    crew *crew;      /* NULL: one worker, the thread that prepares */
    float *floats;   /* what a callback gave, on the way to double */
    int64_t *wanted; /* what a callback is asked for */
    loader_skip_fn *skip;
    const void *skip_user;
    slot slot[2];      /* the second one only with a thread */
    int n_slots, held; /* held: the slot that the caller reads */
    position at;       /* of the batch that the caller gets next */
    double waited;

    bool threaded;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows; the job's slot belongs to the thread while asked */
    pthread_cond_t wake, ready;
    job_state job;
    slot *job_slot;
    position job_at;
    bool quit;
};

/* ----------------------------------------------------------------------------------------------
 * which samples */

static philox_key order_of_epoch(const loader *l, int64_t epoch)
{
    uint32_t word[4];

    philox(word, l->order_stream, (uint64_t)epoch, 0);
    return (philox_key){{word[0], word[1]}};
}

/* Samples of the batch at a position: the rest of the epoch at most, unless the stream wraps. */
static int64_t batch_size(const loader *l, position at)
{
    return l->o.wrap ? l->o.batch : THAW_MIN(l->o.batch, l->d->n - at.index);
}

/* Walks through the samples from a position, into the following epochs. */
typedef struct walk {
    const loader *l;
    position at;
    philox_key order;
} walk;

static walk walk_from(const loader *l, position at)
{
    return (walk){l, at, order_of_epoch(l, at.epoch)};
}

/* Place in the data set of the sample at the walk's position. */
static int64_t walk_sample(const walk *w)
{
    if (!w->l->o.shuffle)
        return w->at.index;
    return (int64_t)permute((uint64_t)w->at.index, (uint64_t)w->l->d->n, w->order);
}

static void walk_on(walk *w)
{
    if (++w->at.index < w->l->d->n)
        return;
    w->at = (position){w->at.epoch + 1, 0};
    w->order = order_of_epoch(w->l, w->at.epoch);
}

/* ----------------------------------------------------------------------------------------------
 * views */

static bool is_augmented(const loader_options *o)
{
    return o->shift > 0 || o->flip || o->vary;
}

bool loader_options_random(const loader_options *o)
{
    return is_augmented(o) && o->views == 0;
}

/* What augmentation of an epoch is keyed by. */
static int64_t view_of(const loader_options *o, int64_t epoch)
{
    return o->views > 0 ? epoch % o->views : epoch;
}

static int64_t views_of(const loader_options *o)
{
    return is_augmented(o) ? THAW_MAX(o->views, 1) : 1;
}

int64_t loader_cells(const dataset *d, const loader_options *o)
{
    return d->n * views_of(o);
}

static int64_t cell_of(const loader *l, int64_t sample, int64_t epoch)
{
    return view_of(&l->o, epoch) % views_of(&l->o) * l->d->n + sample;
}

void loader_options_print(text *out, const loader_options *o)
{
    text_addf(out, "real %s channels %d scale %d n_mean %d", dtype_name(o->real), o->channels,
              o->scale, o->n_mean);
    for (int i = 0; i < MAX_CHANNELS; i++)
        text_addf(out, " %a/%a", o->mean[i], o->std[i]);
    if (is_augmented(o))
        text_addf(out, " shift %d flip %d vary %d views %lld seed %llu", o->shift, o->flip, o->vary,
                  (long long)o->views, (unsigned long long)o->seed);
}

/* ----------------------------------------------------------------------------------------------
 * preparing a batch */

/* Pixels of a sample, in the worker's room where they are no data set's own. */
static thaw_status find_pixels(const uint8_t **out, const loader *l, const slot *s, maker *m,
                               int64_t k)
{
    const dataset *d = l->d;
    const int64_t sample = s->cells[k] % d->n;
    picture_draw draw;

    if (!d->pictures) {
        *out = d->pixels + sample * d->height * d->width * d->channels;
        return THAW_OK;
    }
    draw = picture_draw_begin(l->picture_stream, view_of(&l->o, s->epochs[k]), s->ids[k]);
    THAW_CHECK(picture_set_make(&m->fitted, &m->file, d, sample, l->o.vary ? &draw : NULL));
    *out = m->fitted.pixels;
    return THAW_OK;
}

/* The image of sample k of a batch. */
static thaw_status prepare_image(const loader *l, void *dst, const slot *s, maker *m, int64_t k)
{
    const dataset *d = l->d;
    const uint8_t *src;

    THAW_CHECK(find_pixels(&src, l, s, m, k));
    if (m->changed) {
        const augmentation a = augment_draw(l->augment_stream, view_of(&l->o, s->epochs[k]),
                                            s->ids[k], l->o.shift, l->o.flip);

        augment_apply(m->changed, src, d->height, d->width, d->channels, &a);
        src = m->changed;
    }
    pixel_map_apply(dst, &l->map, src);
    return THAW_OK;
}

static thaw_status check_labels(const loader *l, const int64_t *id, const int32_t *given, int64_t n)
{
    for (int64_t k = 0; k < n; k++)
        if (given[k] < 0 || given[k] >= l->d->n_classes)
            return thaw_fail(THAW_E_DATA,
                             "the read function gave sample %lld the label %d, expected 0 to %d",
                             (long long)id[k], given[k], l->d->n_classes - 1);
    return THAW_OK;
}

/* Have the callback make n samples. */
static thaw_status call_back(loader *l, void *to, int32_t *labels, const int64_t *id, int64_t n)
{
    const bool narrow = l->o.real == DTYPE_F32;
    float *images = narrow ? to : l->floats;
    const uint64_t before = hash_fnv1a(thaw_error());
    thaw_status status;

    /* a copy, since the function may be careless with what is ours */
    memcpy(l->wanted, id, (size_t)n * sizeof *l->wanted);
    status = l->d->read(l->d->user, l->wanted, n, images, labels);
    if (status != THAW_OK && hash_fnv1a(thaw_error()) == before)
        return thaw_fail(status, "the read function failed (%s) for %lld samples from number %lld",
                         thaw_status_name(status), (long long)n, (long long)id[0]);
    THAW_CHECK(status);
    THAW_CHECK(check_labels(l, id, labels, n));
    if (!narrow)
        THAW_CHECK(tensor_convert(to, DTYPE_F64, images, DTYPE_F32, (size_t)n * l->image));
    return THAW_OK;
}

/* The callback's samples of a batch: those that are not skipped, which it makes without gaps; then
 * their labels go to their places, from the last on, so that none is overwritten. */
static thaw_status prepare_called(loader *l, slot *s, int64_t n)
{
    int64_t m = 0;

    for (int64_t k = 0; k < n; k++)
        if (!s->skipped[k])
            s->epochs[m++] = s->ids[k]; /* no image here is keyed by its epoch */
    if (m > 0)
        THAW_CHECK(call_back(l, s->images, s->labels, s->epochs, m));
    for (int64_t k = n; k-- > 0;)
        s->labels[k] = s->skipped[k] ? 0 : s->labels[--m];
    return THAW_OK;
}

typedef struct task {
    const loader *l;
    slot *s;
} task;

/* Of its failures a worker keeps the earliest, so that the same is told whoever met it. */
static void make_one(void *user, int worker, int64_t i)
{
    const task *t = user;
    const size_t stride = t->l->image * dtype_size(t->l->o.real);
    maker *m = &t->l->maker[worker];
    const thaw_status status =
        prepare_image(t->l, (char *)t->s->images + (size_t)i * stride, t->s, m, t->s->made[i]);

    if (status == THAW_OK || (m->status != THAW_OK && m->failed < i))
        return;
    m->status = status;
    m->failed = i;
    strncpy(m->error, thaw_error(), sizeof m->error - 1);
    m->error[sizeof m->error - 1] = '\0';
}

static thaw_status earliest_failure(const loader *l)
{
    const maker *first = NULL;

    for (int i = 0; i < l->n_makers; i++) {
        const maker *m = &l->maker[i];

        if (m->status != THAW_OK && (!first || m->failed < first->failed))
            first = m;
    }
    return first ? thaw_fail(first->status, "%s", first->error) : THAW_OK;
}

static thaw_status prepare_stored(loader *l, slot *s, int64_t n)
{
    const dataset *d = l->d;
    task t = {l, s};
    int64_t n_made = 0;

    for (int64_t k = 0; k < n; k++) {
        const int64_t sample = s->cells[k] % d->n;

        s->labels[k] = d->label ? d->label[sample] : 0;
        if (d->target)
            s->targets[k] = d->target[sample];
        if (!s->skipped[k])
            s->made[n_made++] = k;
    }
    for (int i = 0; i < l->n_makers; i++)
        l->maker[i].status = THAW_OK;
    if (l->crew)
        crew_run(l->crew, n_made, make_one, &t);
    else
        for (int64_t i = 0; i < n_made; i++)
            make_one(&t, 0, i);
    return earliest_failure(l);
}

static thaw_status prepare(loader *l, slot *s, position at)
{
    const dataset *d = l->d;
    const int64_t n = batch_size(l, at);
    int64_t n_images = 0;
    walk w = walk_from(l, at);

    for (int64_t k = 0; k < n; k++, walk_on(&w)) {
        const int64_t sample = walk_sample(&w);

        s->ids[k] = d->id ? d->id[sample] : sample;
        s->epochs[k] = w.at.epoch;
        s->cells[k] = cell_of(l, sample, w.at.epoch);
        s->skipped[k] = l->skip && l->skip(l->skip_user, s->cells[k]);
        n_images += !s->skipped[k];
    }
    THAW_CHECK(d->read ? prepare_called(l, s, n) : prepare_stored(l, s, n));
    s->next = w.at;
    s->view = (batch){.n = n,
                      .images = s->images,
                      .labels = s->labels,
                      .targets = s->targets,
                      .ids = s->ids,
                      .epoch = at.epoch,
                      .index = at.index,
                      .last = !l->o.wrap && at.index + n == d->n,
                      .cells = s->cells,
                      .skipped = s->skipped,
                      .n_images = n_images};
    return THAW_OK;
}

/* The outcome goes into the slot: the error text belongs to the thread that failed. */
static void prepare_into(loader *l, slot *s, position at)
{
    s->status = prepare(l, s, at);
    if (s->status != THAW_OK) {
        strncpy(s->error, thaw_error(), sizeof s->error - 1);
        s->error[sizeof s->error - 1] = '\0';
    }
}

/* ----------------------------------------------------------------------------------------------
 * the thread */

static void *thread_main(void *user)
{
    loader *l = user;

    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!l->quit && l->job != JOB_ASKED)
            pthread_cond_wait(&l->wake, &l->lock);
        if (l->quit)
            break;
        pthread_mutex_unlock(&l->lock);
        prepare_into(l, l->job_slot, l->job_at);
        pthread_mutex_lock(&l->lock);
        l->job = JOB_READY;
        pthread_cond_signal(&l->ready);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static void job_ask(loader *l, slot *s, position at)
{
    pthread_mutex_lock(&l->lock);
    l->job = JOB_ASKED;
    l->job_slot = s;
    l->job_at = at;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->lock);
}

/* Until nothing is under way; what was made stays in its slot. */
static void job_wait(loader *l)
{
    pthread_mutex_lock(&l->lock);
    while (l->job == JOB_ASKED)
        pthread_cond_wait(&l->ready, &l->lock);
    l->job = JOB_NONE;
    pthread_mutex_unlock(&l->lock);
}

static bool job_exists(loader *l)
{
    bool exists;

    pthread_mutex_lock(&l->lock);
    exists = l->job != JOB_NONE;
    pthread_mutex_unlock(&l->lock);
    return exists;
}

static void locks_done(loader *l)
{
    pthread_cond_destroy(&l->ready);
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->lock);
}

static thaw_status thread_start(loader *l)
{
    int code;

    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->wake, NULL);
    pthread_cond_init(&l->ready, NULL);
    code = crew_thread(&l->thread, thread_main, l);
    if (code != 0) {
        locks_done(l);
        return thaw_fail(THAW_E_OS,
                         "cannot start a thread that prepares data (error %d): turn prefetching "
                         "off",
                         code);
    }
    l->threaded = true;
    return THAW_OK;
}

static void thread_stop(loader *l)
{
    if (!l->threaded)
        return;
    pthread_mutex_lock(&l->lock);
    l->quit = true;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    locks_done(l);
    l->threaded = false;
}

/* ----------------------------------------------------------------------------------------------
 * making and using a loader */

static thaw_status check_range(const char *name, int64_t value, int64_t least, int64_t most)
{
    if (value >= least && value <= most)
        return THAW_OK;
    return thaw_fail(THAW_E_RANGE, "data option '%s' is %lld, expected %lld to %lld", name,
                     (long long)value, (long long)least, (long long)most);
}

static thaw_status check_normalisation(const loader_options *o, int channels)
{
    if (o->n_mean != 1 && o->n_mean != channels)
        return thaw_fail(THAW_E_SHAPE,
                         "data options 'mean' and 'std' have %d values, expected 1 or "
                         "one for each of %d channels",
                         o->n_mean, channels);
    for (int i = 0; i < o->n_mean; i++)
        if (!isfinite(o->mean[i]) || !isfinite(o->std[i]) || !(o->std[i] > 0))
            return thaw_fail(
                THAW_E_RANGE,
                "data options 'mean' and 'std' are %g and %g, expected finite numbers, "
                "'std' above 0",
                o->mean[i], o->std[i]);
    return THAW_OK;
}

/* Options that change pixels, against a data set in memory. */
static thaw_status check_pixels(const dataset *d, const loader_options *o)
{
    const int channels = o->channels > 0 ? o->channels : (int)d->channels;

    THAW_CHECK(check_range("channels", channels, 1, MAX_CHANNELS));
    if (channels != d->channels && d->channels != 1)
        return thaw_fail(THAW_E_SHAPE,
                         "data option 'channels' is %d but the images have %lld: only a single "
                         "channel is repeated",
                         channels, (long long)d->channels);
    THAW_CHECK(check_range("shift", o->shift, 0, THAW_MIN(d->height, d->width) - 1));
    return check_normalisation(o, channels);
}

static thaw_status check_final(const dataset *d, const loader_options *o)
{
    if (o->shift != 0 || o->flip || o->scale > 1)
        return thaw_fail(THAW_E_SUPPORT,
                         "data options 'shift', 'flip' and 'scale' have no effect on "
                         "images that the calling program makes: leave them out");
    if (o->channels > 0 && o->channels != d->channels)
        return thaw_fail(THAW_E_SHAPE,
                         "data option 'channels' is %d but the calling program makes images with "
                         "%lld",
                         o->channels, (long long)d->channels);
    return THAW_OK;
}

static thaw_status check_options(const dataset *d, const loader_options *o)
{
    THAW_CHECK(check_range("batch", o->batch, 1, MOST_BATCH));
    THAW_CHECK(check_range("scale", o->scale, 0, MOST_SCALE));
    THAW_CHECK(check_range("channels", o->channels, 0, INT32_MAX));
    if (o->real != DTYPE_F32 && o->real != DTYPE_F64)
        return thaw_fail(THAW_E_SUPPORT, "images are made as f32 or f64, not as %s",
                         dtype_name(o->real));
    return d->read ? check_final(d, o) : check_pixels(d, o);
}

/* Numbers in one prepared image, and bytes of a batch of them. */
static thaw_status measure(loader *l, size_t *bytes)
{
    const int64_t scale = THAW_MAX(l->o.scale, 1);
    const int64_t channels = l->o.channels > 0 ? l->o.channels : l->d->channels;
    shape image = shape_4(1, 1, 1, channels);

    if (__builtin_mul_overflow(l->d->height, scale, &image.dim[1]) ||
        __builtin_mul_overflow(l->d->width, scale, &image.dim[2]))
        return thaw_fail(THAW_E_SHAPE, "images of %lldx%lld cannot be enlarged %lld times",
                         (long long)l->d->height, (long long)l->d->width, (long long)scale);
    THAW_CHECK(shape_elements(&l->image, &image));
    image.dim[0] = l->o.batch;
    return shape_bytes(bytes, &image, l->o.real);
}

static bool allocate_slot(slot *s, const loader *l, size_t bytes)
{
    const size_t n = (size_t)l->o.batch;

    s->images = thaw__alloc(bytes);
    s->labels = thaw__new(n, sizeof *s->labels);
    s->targets = l->d->target ? thaw__new(n, sizeof *s->targets) : NULL;
    s->ids = thaw__new(n, sizeof *s->ids);
    s->cells = thaw__new(n, sizeof *s->cells);
    s->epochs = thaw__new(n, sizeof *s->epochs);
    s->made = thaw__new(n, sizeof *s->made);
    s->skipped = thaw__new(n, sizeof *s->skipped);
    return s->images && s->labels && (s->targets || !l->d->target) && s->ids && s->cells &&
           s->epochs && s->made && s->skipped;
}

static bool allocate_makers(loader *l)
{
    const bool changes = l->o.shift > 0 || l->o.flip;

    l->maker = thaw__new((size_t)l->n_makers, sizeof *l->maker);
    for (int i = 0; l->maker && changes && i < l->n_makers; i++) {
        l->maker[i].changed = thaw__alloc((size_t)(l->d->height * l->d->width * l->d->channels));
        if (!l->maker[i].changed)
            return false;
    }
    return l->maker != NULL;
}

static thaw_status allocate(loader *l)
{
    const dataset *d = l->d;
    const size_t n = (size_t)l->o.batch;
    size_t bytes = 0;
    bool ok = true;

    THAW_CHECK(measure(l, &bytes));
    for (int i = 0; i < l->n_slots; i++)
        ok = ok && allocate_slot(&l->slot[i], l, bytes);
    if (d->read) {
        l->wanted = thaw__new(n, sizeof *l->wanted);
        l->floats = l->o.real == DTYPE_F64 ? thaw__alloc(bytes / 2) : NULL;
        ok = ok && l->wanted && (l->floats || l->o.real != DTYPE_F64);
    } else {
        ok = ok && allocate_makers(l);
    }
    if (!ok)
        return thaw_fail(THAW_E_NOMEM,
                         "out of memory for batches of %zu images (%zu bytes): lower "
                         "the batch size",
                         n, bytes);
    return THAW_OK;
}

/* Threads only where samples cost something. */
static int makers_of(const dataset *d, const loader_options *o)
{
    if (d->read || !d->pictures || o->workers == 1)
        return 1;
    return o->workers > 0 ? o->workers : os_processors();
}

static thaw_status start_crew(loader *l)
{
    l->n_makers = makers_of(l->d, &l->o);
    if (l->n_makers == 1)
        return THAW_OK;
    THAW_CHECK(crew_create(&l->crew, l->n_makers));
    l->n_makers = crew_size(l->crew);
    return THAW_OK;
}

/* What each of those takes who make images. */
static size_t making_bytes(const dataset *d, const loader_options *o)
{
    const size_t stored = (size_t)(d->height * d->width * d->channels);
    size_t bytes = sizeof(maker);

    if (d->pictures)
        bytes += picture_set_making(d->pictures);
    return o->shift > 0 || o->flip ? bytes + stored : bytes;
}

size_t loader_bytes(const dataset *d, const loader_options *options)
{
    loader like = {.d = d, .o = *options};
    const size_t n = (size_t)options->batch, slots = options->prefetch ? 2 : 1;
    const size_t sample = sizeof(int32_t) + sizeof(float) + 4 * sizeof(int64_t) + sizeof(bool);
    size_t batch = 0, numbers = 0, makers = 0, sum;

    if (measure(&like, &batch) != THAW_OK || !size_mul(&numbers, n, sample) ||
        !size_add(&sum, batch, numbers) || !size_mul(&sum, sum, slots))
        return SIZE_MAX;
    if (d->read && options->real == DTYPE_F64 && !size_add(&sum, sum, batch / 2))
        return SIZE_MAX;
    if (!d->read && !size_mul(&makers, making_bytes(d, options), (size_t)makers_of(d, options)))
        return SIZE_MAX;
    return size_add(&sum, sum, makers) ? sum : SIZE_MAX;
}

thaw_status loader_create(loader **out, const dataset *d, const loader_options *options)
{
    thaw_status status = THAW_OK;
    loader *l = NULL;

    THAW_CHECK(check_options(d, options));
    l = thaw__new(1, sizeof *l);
    if (!l)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a data loader");
    l->d = d;
    l->o = *options;
    l->n_slots = options->prefetch ? 2 : 1;
    l->order_stream = philox_stream(options->seed, "data order");
    l->augment_stream = philox_stream(options->seed, "data augmentation");
    l->picture_stream = philox_stream(options->seed, "data pictures");
    if (!d->read)
        pixel_map_init(&l->map, d, options);
    THAW_TRY(start_crew(l));
    THAW_TRY(allocate(l));
    if (options->prefetch)
        THAW_TRY(thread_start(l));
    *out = l;
    l = NULL;
done:
    loader_destroy(l);
    return status;
}

void loader_destroy(loader *l)
{
    if (!l)
        return;
    thread_stop(l);
    crew_destroy(l->crew);
    for (int i = 0; i < l->n_slots; i++) {
        thaw__free(l->slot[i].skipped);
        thaw__free(l->slot[i].made);
        thaw__free(l->slot[i].epochs);
        thaw__free(l->slot[i].cells);
        thaw__free(l->slot[i].ids);
        thaw__free(l->slot[i].targets);
        thaw__free(l->slot[i].labels);
        thaw__free(l->slot[i].images);
    }
    for (int i = 0; l->maker && i < l->n_makers; i++) {
        picture_done(&l->maker[i].file);
        picture_done(&l->maker[i].fitted);
        thaw__free(l->maker[i].changed);
    }
    thaw__free(l->maker);
    thaw__free(l->wanted);
    thaw__free(l->floats);
    thaw__free(l);
}

thaw_status loader_seek(loader *l, int64_t epoch, int64_t index)
{
    if (epoch < 0 || epoch > MOST_EPOCHS)
        return thaw_fail(THAW_E_RANGE, "epoch %lld to go to is outside 0 to %lld", (long long)epoch,
                         (long long)MOST_EPOCHS);
    if (index < 0 || index >= l->d->n)
        return thaw_fail(THAW_E_RANGE, "sample %lld to go to is outside 0 to %lld",
                         (long long)index, (long long)l->d->n - 1);
    if (l->threaded)
        job_wait(l);
    l->at = (position){epoch, index};
    return THAW_OK;
}

/* The slot that is not the caller's, and the caller's own where there is only one. */
static int free_slot(const loader *l)
{
    return (l->held + 1) % l->n_slots;
}

static void take_from_thread(loader *l)
{
    if (!job_exists(l))
        job_ask(l, &l->slot[free_slot(l)], l->at);
    job_wait(l);
}

thaw_status loader_next(const batch **out, loader *l)
{
    slot *s = &l->slot[free_slot(l)];
    const double start = os()->monotonic();

    if (l->threaded)
        take_from_thread(l);
    else
        prepare_into(l, s, l->at);
    l->waited += os()->monotonic() - start;
    if (s->status != THAW_OK)
        return thaw_fail(s->status, "%s", s->error);

    l->held = free_slot(l);
    l->at = s->next;
    if (l->threaded)
        job_ask(l, &l->slot[free_slot(l)], l->at);
    *out = &s->view;
    return THAW_OK;
}

void loader_skip(loader *l, loader_skip_fn *skip, const void *user)
{
    if (l->threaded)
        job_wait(l); /* what it made was made by the old rule; it is made again */
    l->skip = skip;
    l->skip_user = user;
}

thaw_status loader_image(void *image, int32_t *label, loader *l, int64_t k)
{
    const slot *s = &l->slot[l->held];
    const int64_t sample = s->cells[k] % l->d->n;

    if (l->threaded)
        job_wait(l); /* it shares our scratch; the batch it made is made again */
    if (l->d->read)
        return call_back(l, image, label, &s->ids[k], 1);
    *label = l->d->label ? l->d->label[sample] : 0;
    return prepare_image(l, image, s, &l->maker[0], k);
}

double loader_waited(const loader *l)
{
    return l->waited;
}
