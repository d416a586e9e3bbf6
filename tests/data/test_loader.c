/*
 * test_loader.c - batches: their order, that a position decides them entirely, and that neither a
 * seek nor the thread changes what comes out.
 */
#include "data/data.h"

#include <pthread.h>
#include <signal.h>

#include "check.h"

#define N     23
#define H     4
#define W     5
#define IMAGE (H * W)

/* N images of noise; sample i is number 100 + 3 i of its file. */
static uint8_t pixels[N * IMAGE];
static int32_t label[N];
static int64_t id[N];
static const dataset noise = {.n = N,
                              .height = H,
                              .width = W,
                              .channels = 1,
                              .n_classes = 4,
                              .pixels = pixels,
                              .label = label,
                              .id = id};

static int make_noise(void **state)
{
    uint64_t s = 3;

    (void)state;
    for (int i = 0; i < N * IMAGE; i++)
        pixels[i] = (uint8_t)splitmix64(&s);
    for (int i = 0; i < N; i++) {
        label[i] = i % 4;
        id[i] = 100 + 3 * i;
    }
    return 0;
}

static loader *create(const dataset *d, const loader_options *o)
{
    loader *l = NULL;

    CHECK_OK(loader_create(&l, d, o));
    return l;
}

static const batch *next(loader *l)
{
    const batch *b = NULL;

    CHECK_OK(loader_next(&b, l));
    return b;
}

/* Nothing but the order: no augmentation, the identity as normalisation. */
static loader_options plain(int64_t batch_size)
{
    loader_options o = LOADER_OPTIONS_INIT;

    o.batch = batch_size;
    return o;
}

/* Everything that is random. */
static loader_options random_options(int64_t batch_size)
{
    loader_options o = plain(batch_size);

    o.shuffle = true;
    o.seed = 77;
    o.shift = 2;
    o.flip = true;
    o.mean[0] = 0.3;
    o.std[0] = 0.25;
    return o;
}

/* Entry k of an unchanged batch is that sample. */
static void check_entry(const batch *b, int64_t k, int64_t sample)
{
    const float *image = (const float *)b->images + k * IMAGE;

    CHECK_INT(b->ids[k], 100 + 3 * sample);
    CHECK_INT(b->labels[k], sample % 4);
    for (int i = 0; i < IMAGE; i++)
        CHECK_MSG(image[i] == (float)(pixels[sample * IMAGE + i] / 255.0),
                  "sample %lld, number %d: got %g", (long long)sample, i, (double)image[i]);
}

static void test_stored_order(void **state)
{
    const loader_options o = plain(5);
    loader *l = create(&noise, &o);

    (void)state;
    for (int64_t epoch = 0; epoch < 3; epoch++)
        for (int64_t index = 0; index < N; index += 5) {
            const batch *b = next(l);

            CHECK_INT(b->epoch, epoch);
            CHECK_INT(b->index, index);
            CHECK_INT(b->n, index == 20 ? 3 : 5);
            CHECK_INT(b->last, index == 20);
            for (int64_t k = 0; k < b->n; k++)
                check_entry(b, k, index + k);
        }
    loader_destroy(l);
    loader_destroy(NULL);
}

/* Read an epoch: which sample stands where. */
static void read_order(int64_t order[N], loader *l)
{
    bool seen[N] = {false};
    int64_t at = 0;
    bool last = false;

    while (!last) {
        const batch *b = next(l);

        CHECK_INT(b->index, at);
        for (int64_t k = 0; k < b->n; k++, at++) {
            const int64_t sample = (b->ids[k] - 100) / 3;

            CHECK_MSG(!seen[sample], "sample %lld comes twice in epoch %lld", (long long)sample,
                      (long long)b->epoch);
            seen[sample] = true;
            check_entry(b, k, sample);
            order[at] = sample;
        }
        last = b->last;
    }
    CHECK_INT(at, N);
}

static void test_shuffled_epochs(void **state)
{
    loader_options o = plain(4);
    int64_t order[6][N], other[N];
    loader *l;

    (void)state;
    o.shuffle = true;
    o.seed = 1;
    l = create(&noise, &o);
    for (int e = 0; e < 6; e++) {
        read_order(order[e], l);
        for (int k = 0; k < e; k++)
            CHECK_MSG(memcmp(order[e], order[k], sizeof order[e]) != 0,
                      "epochs %d and %d have one order", k, e);
    }
    loader_destroy(l);
    o.seed = 2;
    l = create(&noise, &o);
    read_order(other, l);
    CHECK_MSG(memcmp(order[0], other, sizeof other) != 0, "seeds 1 and 2 give one order");
    loader_destroy(l);
}

/* ----------------------------------------------------------------------------------------------
 * one sample after the other, whatever the batches */

#define EPOCHS 4

typedef struct sample_record {
    float image[IMAGE];
    int32_t label;
    int64_t id;
} sample_record;

/* Every sample of the first epochs, by place, read one by one from the start. */
static void record_stream(sample_record *out, loader_options o)
{
    loader *l;

    o.batch = 1;
    o.wrap = false;
    o.prefetch = false;
    l = create(&noise, &o);
    for (int i = 0; i < EPOCHS * N; i++) {
        const batch *b = next(l);

        memcpy(out[i].image, b->images, sizeof out[i].image);
        out[i].label = b->labels[0];
        out[i].id = b->ids[0];
    }
    loader_destroy(l);
}

/* A batch must be the stream's samples from its position on. */
static void check_against(const batch *b, const sample_record *stream)
{
    const int64_t at = b->epoch * N + b->index;

    for (int64_t k = 0; k < b->n && at + k < EPOCHS * N; k++) {
        const sample_record *want = &stream[at + k];

        CHECK_INT(b->ids[k], want->id);
        CHECK_INT(b->labels[k], want->label);
        CHECK_BYTES((const float *)b->images + k * IMAGE, want->image, sizeof want->image);
    }
}

static void check_from(loader *l, int64_t epoch, int64_t index, const sample_record *stream,
                       const loader_options *o)
{
    CHECK_OK(loader_seek(l, epoch, index));
    for (int i = 0; i < 3; i++) {
        const batch *b = next(l);
        int64_t end = index + b->n;

        CHECK_INT(b->epoch, epoch);
        CHECK_INT(b->index, index);
        CHECK_INT(b->n, o->wrap ? o->batch : THAW_MIN(o->batch, N - index));
        CHECK_INT(b->last, !o->wrap && end == N);
        check_against(b, stream);
        for (; end >= N; end -= N)
            epoch++;
        index = end;
    }
}

static void test_seek(void **state)
{
    static const int64_t size[] = {1, 4, N, 60};
    static sample_record stream[EPOCHS * N];

    (void)state;
    record_stream(stream, random_options(1));
    for (size_t s = 0; s < THAW_COUNT(size); s++)
        for (int variant = 0; variant < 4; variant++) {
            loader_options o = random_options(size[s]);
            loader *l;

            o.wrap = variant & 1;
            o.prefetch = variant & 2;
            l = create(&noise, &o);
            for (int64_t epoch = 2; epoch >= 0; epoch--)
                for (int64_t index = 0; index < N; index += index == 21 ? 1 : 3)
                    check_from(l, epoch, index, stream, &o);
            loader_destroy(l);
        }
}

static void test_seek_keeps_the_batch(void **state)
{
    const loader_options o = plain(5);
    loader *l = create(&noise, &o);
    const batch *b = next(l);

    (void)state;
    CHECK_OK(loader_seek(l, 9, 7));
    check_entry(b, 4, 4);
    b = next(l);
    CHECK_INT(b->epoch, 9);
    check_entry(b, 0, 7);
    loader_destroy(l);
}

static void test_seek_refused(void **state)
{
    const loader_options o = plain(5);
    loader *l = create(&noise, &o);

    (void)state;
    CHECK_STATUS(loader_seek(l, 0, N), THAW_E_RANGE);
    CHECK_ERROR(loader_seek(l, 0, -1), THAW_E_RANGE, "sample -1 to go to is outside 0 to 22");
    CHECK_STATUS(loader_seek(l, -1, 0), THAW_E_RANGE);
    CHECK_STATUS(loader_seek(l, INT64_MAX, 0), THAW_E_RANGE);
    CHECK_INT(next(l)->index, 0);
    loader_destroy(l);
}

static void test_wrap(void **state)
{
    loader_options o = plain(10);
    loader *l;

    (void)state;
    o.wrap = true;
    l = create(&noise, &o);
    for (int64_t i = 0; i < 20; i++) {
        const batch *b = next(l);

        CHECK_INT(b->n, 10);
        CHECK_INT(b->epoch, 10 * i / N);
        CHECK_INT(b->index, 10 * i % N);
        CHECK(!b->last);
        for (int64_t k = 0; k < 10; k++)
            check_entry(b, k, (10 * i + k) % N);
    }
    loader_destroy(l);
}

static void test_double_and_channels(void **state)
{
    loader_options o = plain(3);
    loader *l;
    const double *got;

    (void)state;
    o.real = DTYPE_F64;
    o.channels = 3;
    o.scale = 2;
    o.n_mean = 3;
    for (int c = 0; c < 3; c++)
        o.mean[c] = 0.1 * c;
    l = create(&noise, &o);
    got = next(l)->images;
    for (int64_t i = 0; i < 3 * 4 * IMAGE * 3; i++) {
        const int64_t c = i % 3, x = i / 3 % (2 * W), y = i / 3 / (2 * W) % (2 * H);
        const int64_t from = i / 3 / (4 * IMAGE) * IMAGE + y / 2 * W + x / 2;
        const double want = pixels[from] / 255.0 - 0.1 * (double)c;

        CHECK_MSG(got[i] == want, "number %lld: got %.17g, want %.17g", (long long)i, got[i], want);
    }
    loader_destroy(l);
}

/* ----------------------------------------------------------------------------------------------
 * callbacks */

typedef struct source {
    int64_t calls, fail_at; /* fail_at: the call that fails, from 1; 0: none */
    thaw_status code;
    const char *words; /* of the failure; NULL: none of its own */
    int64_t bad_label; /* the sample that gets label 9; -1: none */
    int milliseconds;
    bool signals_open; /* SIGTERM was not blocked in a call */
} source;

static thaw_status read_source(void *user, const int64_t *index, int64_t n, float *images,
                               int32_t *labels)
{
    source *s = user;
    sigset_t blocked;

    s->calls++;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    s->signals_open = s->signals_open || !sigismember(&blocked, SIGTERM);
    if (s->milliseconds > 0)
        usleep(1000 * (unsigned)s->milliseconds);
    if (s->calls == s->fail_at)
        return s->words ? thaw_fail(s->code, "%s", s->words) : s->code;
    for (int64_t k = 0; k < n; k++) {
        labels[k] = index[k] == s->bad_label ? 9 : (int32_t)(index[k] % 4);
        for (int i = 0; i < IMAGE; i++)
            images[k * IMAGE + i] = (float)index[k] + 0.01f * (float)i;
    }
    return THAW_OK;
}

static dataset *source_set(source *s)
{
    dataset *d = NULL;

    CHECK_OK(dataset_from_callback(&d, N, H, W, 1, 4, read_source, s));
    return d;
}

static void check_made(const batch *b, int64_t k, int64_t number, dtype real)
{
    CHECK_INT(b->ids[k], number);
    CHECK_INT(b->labels[k], number % 4);
    for (int i = 0; i < IMAGE; i++) {
        const float want = (float)number + 0.01f * (float)i;
        const double got = real == DTYPE_F32 ? (double)((const float *)b->images)[k * IMAGE + i]
                                             : ((const double *)b->images)[k * IMAGE + i];

        CHECK_MSG(got == (double)want, "number %d of sample %lld: got %.17g, want %.17g", i,
                  (long long)number, got, (double)want);
    }
}

static void test_callback(void **state)
{
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        source s = {.bad_label = -1};
        dataset *d = source_set(&s);
        loader_options o = plain(6);
        loader *l;

        o.real = variant & 1 ? DTYPE_F64 : DTYPE_F32;
        o.prefetch = variant & 2;
        o.channels = 1;
        l = create(d, &o);
        for (int64_t i = 0; i < 8; i++) {
            const batch *b = next(l);

            CHECK_INT(b->n, i % 4 == 3 ? 5 : 6);
            for (int64_t k = 0; k < b->n; k++)
                check_made(b, k, i % 4 * 6 + k, o.real);
        }
        loader_destroy(l);
        /* the thread may have begun one more */
        CHECK_MSG(s.calls == 8 || (o.prefetch && s.calls == 9), "%lld calls", (long long)s.calls);
        CHECK_MSG(!o.prefetch || !s.signals_open, "the thread takes signals");

        dataset_destroy(d);
    }
}

static void test_callback_failure(void **state)
{
    static const char *const words[] = {"the camera is unplugged", NULL};

    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        source s = {.bad_label = -1, .fail_at = 3, .code = THAW_E_IO, .words = words[variant & 1]};
        dataset *d = source_set(&s);
        loader_options o = plain(6);
        const batch *b = NULL;
        loader *l;

        o.prefetch = variant & 2;
        l = create(d, &o);
        CHECK_INT(next(l)->index, 0);
        CHECK_INT(next(l)->index, 6);
        CHECK_ERROR(loader_next(&b, l), THAW_E_IO,
                    s.words ? s.words
                            : "the read function failed (E_IO) for 6 samples from number 12");
        CHECK_MSG(b == NULL, "output touched on failure");
        CHECK_INT(next(l)->index, 12); /* the place is kept: trying again works */
        loader_destroy(l);
        dataset_destroy(d);
    }
}

static void test_callback_label(void **state)
{
    source s = {.bad_label = 8};
    dataset *d = source_set(&s);
    const loader_options o = plain(6);
    const batch *b = NULL;
    loader *l = create(d, &o);

    (void)state;
    CHECK_INT(next(l)->index, 0);
    CHECK_ERROR(loader_next(&b, l), THAW_E_DATA, "sample 8 the label 9, expected 0 to 3");
    loader_destroy(l);
    dataset_destroy(d);
}

/* Leaving and moving while the thread is at work. */
static void test_busy_thread(void **state)
{
    source s = {.bad_label = -1, .milliseconds = 5};
    dataset *d = source_set(&s);
    const loader_options o = plain(6);
    loader *l;

    (void)state;
    for (int i = 0; i < 10; i++) {
        l = create(d, &o);
        for (int k = 0; k < i % 3; k++)
            check_made(next(l), 0, 6 * k, DTYPE_F32);
        CHECK_OK(loader_seek(l, 1, i));
        if (i % 2)
            check_made(next(l), 0, i, DTYPE_F32);
        loader_destroy(l);
    }
    l = create(d, &o);
    for (int i = 0; i < 4; i++)
        (void)next(l);
    CHECK_MSG(loader_waited(l) > 0.015 && loader_waited(l) < 60, "waited %g s for 4 times 5 ms",
              loader_waited(l));
    loader_destroy(l);
    dataset_destroy(d);
}

/* ---------------------------------------------------------------------------------------------- */

static void test_prefetch_changes_nothing(void **state)
{
    (void)state;
    for (int64_t size = 1; size <= 30; size += 7)
        for (int wrap = 0; wrap < 2; wrap++) {
            loader_options o = random_options(size);
            loader *a, *b;

            o.wrap = wrap;
            a = create(&noise, &o);
            o.prefetch = false;
            b = create(&noise, &o);
            for (int i = 0; i < 50; i++) {
                const batch *p = next(a), *q = next(b);

                CHECK_INT(p->n, q->n);
                CHECK_INT(p->epoch, q->epoch);
                CHECK_INT(p->index, q->index);
                CHECK_INT(p->last, q->last);
                CHECK_BYTES(p->ids, q->ids, (size_t)p->n * sizeof *p->ids);
                CHECK_BYTES(p->labels, q->labels, (size_t)p->n * sizeof *p->labels);
                CHECK_BYTES(p->images, q->images, (size_t)p->n * IMAGE * sizeof(float));
            }
            loader_destroy(a);
            loader_destroy(b);
        }
}

static void test_options_refused(void **state)
{
    source s = {.bad_label = -1};
    dataset *made = source_set(&s);
    dataset colour = noise;
    const loader_options ok = plain(4);
    loader *l = NULL;
    const struct {
        const dataset *d;
        loader_options o;
        thaw_status status;
        const char *part;
    } row[] = {
        {&noise, {.batch = 0, .std = {1}, .n_mean = 1}, THAW_E_RANGE, "'batch' is 0"},
        {&noise, {.batch = -3, .std = {1}, .n_mean = 1}, THAW_E_RANGE, "'batch' is -3"},
        {&noise, {.batch = INT64_MAX, .std = {1}, .n_mean = 1}, THAW_E_RANGE, "'batch'"},
        {&noise, {.batch = 1, .scale = -1, .std = {1}, .n_mean = 1}, THAW_E_RANGE, "'scale' is -1"},
        {&noise, {.batch = 1, .shift = -1, .std = {1}, .n_mean = 1}, THAW_E_RANGE, "'shift' is -1"},
        {&noise,
         {.batch = 1, .shift = 4, .std = {1}, .n_mean = 1},
         THAW_E_RANGE,
         "'shift' is 4, expected 0 to 3"},
        {&noise, {.batch = 1, .channels = 5, .std = {1}, .n_mean = 1}, THAW_E_RANGE, "'channels'"},
        {&noise, {.batch = 1, .n_mean = 1}, THAW_E_RANGE, "'std' above 0"},
        {&noise, {.batch = 1, .mean = {NAN}, .std = {1}, .n_mean = 1}, THAW_E_RANGE, "finite"},
        {&noise, {.batch = 1, .std = {1, 1}, .n_mean = 2}, THAW_E_SHAPE, "have 2 values"},
        {&noise, {.batch = 1, .std = {1}}, THAW_E_SHAPE, "have 0 values"},
        {&noise, {.batch = 1, .real = DTYPE_BF16, .std = {1}, .n_mean = 1}, THAW_E_SUPPORT, "bf16"},
        {&colour,
         {.batch = 1, .channels = 3, .std = {1}, .n_mean = 1},
         THAW_E_SHAPE,
         "'channels' is 3 but the images have 2"},
        {made, {.batch = 1, .shift = 1, .std = {1}, .n_mean = 1}, THAW_E_SUPPORT, "leave them out"},
        {made, {.batch = 1, .flip = true, .std = {1}, .n_mean = 1}, THAW_E_SUPPORT, "leave"},
        {made, {.batch = 1, .scale = 2, .std = {1}, .n_mean = 1}, THAW_E_SUPPORT, "leave"},
        {made, {.batch = 1, .channels = 3, .std = {1}, .n_mean = 1}, THAW_E_SHAPE, "makes images"},
    };

    (void)state;
    colour.channels = 2;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        CHECK_ERROR(loader_create(&l, row[i].d, &row[i].o), row[i].status, row[i].part);
        CHECK(l == NULL);
    }
    l = create(&noise, &ok);
    loader_destroy(l);
    dataset_destroy(made);
}

static void test_no_memory(void **state)
{
    source s = {.bad_label = -1};
    dataset *made = source_set(&s);
    const dataset *const set[] = {&noise, made};

    (void)state;
    for (int k = 0; k < 2; k++)
        for (int n = 1, more = 1; more; n++) {
            loader_options o = k ? plain(4) : random_options(4);
            loader *l = NULL;
            const batch *b = NULL;
            thaw_status status;

            o.real = DTYPE_F64;
            check_alloc_fail(n, false);
            status = loader_create(&l, set[k], &o);
            if (status == THAW_OK)
                status = loader_next(&b, l);
            more = check_alloc_restore();
            CHECK_STATUS(status, more ? THAW_E_NOMEM : THAW_OK);
            loader_destroy(l);
        }
    dataset_destroy(made);
}

/* Nothing allocates between batches. */
static void test_steady(void **state)
{
    const loader_options o = random_options(4);
    loader *l = create(&noise, &o);
    size_t before;

    (void)state;
    before = thaw__mem_current();
    thaw__mem_peak_reset();
    for (int i = 0; i < 100; i++)
        (void)next(l);
    CHECK_INT(thaw__mem_peak(), before);
    loader_destroy(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stored_order),
        cmocka_unit_test(test_shuffled_epochs),
        cmocka_unit_test(test_seek),
        cmocka_unit_test(test_seek_keeps_the_batch),
        cmocka_unit_test(test_seek_refused),
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_double_and_channels),
        cmocka_unit_test(test_callback),
        cmocka_unit_test(test_callback_failure),
        cmocka_unit_test(test_callback_label),
        cmocka_unit_test(test_busy_thread),
        cmocka_unit_test(test_prefetch_changes_nothing),
        cmocka_unit_test(test_options_refused),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_steady),
    };

    return cmocka_run_group_tests_name("data/loader", tests, make_noise, NULL);
}
