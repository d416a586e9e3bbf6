/*
 * test_dataset.c - data sets from pairs of files, from callbacks and from parts of others; and the
 * real Fashion-MNIST where it is installed.
 */
#include "data/data.h"

#include "idx_files.h"

/* Files of one set: 30 images of 4 x 5, labels 0 1 2 0 1 2 … */
typedef struct pair {
    char *folder;
    const char *images, *labels;
} pair;

static int pair_create(void **state)
{
    static pair p;
    const bytes images = idx_images(30, 4, 5), labels = idx_labels(30, 3);
    const bytes packed = gzip_of(&images);

    p.folder = check_folder();
    p.images = strdup(write_bytes(p.folder, "images.gz", &packed));
    p.labels = strdup(write_bytes(p.folder, "labels", &labels));
    *state = &p;
    return 0;
}

static int pair_destroy(void **state)
{
    pair *p = *state;

    check_folder_remove(p->folder);
    free((void *)(uintptr_t)p->images);
    free((void *)(uintptr_t)p->labels);
    return 0;
}

static dataset *open_pair(const pair *p, const dataset_subset *u)
{
    dataset *d = NULL;

    CHECK_OK(dataset_open_idx(&d, p->images, p->labels, u, 0));
    return d;
}

/* Sample i of d must be sample `file` of the pair, with this class. */
static void check_sample(const dataset *d, int64_t i, int64_t file, int class)
{
    CHECK_INT(d->id[i], file);
    CHECK_INT(d->label[i], class);
    for (int64_t k = 0; k < 20; k++)
        CHECK_INT(d->pixels[i * 20 + k], (file * 20 + k) % 251);
}

static void test_whole(void **state)
{
    const pair *p = *state;
    dataset *d = open_pair(p, NULL);
    char want[4300];
    int64_t count[3];

    CHECK(d->n == 30 && d->height == 4 && d->width == 5 && d->channels == 1 && d->n_classes == 3);
    for (int64_t i = 0; i < 30; i++)
        check_sample(d, i, i, (int)(i % 3));
    snprintf(want, sizeof want, "30 images 4x5x1 in 3 classes from '%s'", p->images);
    CHECK_STR(d->description, want);
    dataset_count_classes(count, d);
    for (int c = 0; c < 3; c++)
        CHECK_INT(count[c], 10);
    CHECK_NEAR(dataset_majority(d), 1.0 / 3, 1e-15, 0);
    dataset_destroy(d);
    dataset_destroy(NULL);
}

static void test_subset(void **state)
{
    const int64_t classes[] = {2, 0};
    dataset *d = open_pair(
        *state, &(dataset_subset){.classes = classes, .n_classes = 2, .skip = 3, .first = 5});

    /* of 0 2 3 5 6 8 9 11 12 … */
    CHECK(d->n == 5 && d->n_classes == 2);
    check_sample(d, 0, 5, 0);
    check_sample(d, 1, 6, 1);
    check_sample(d, 2, 8, 0);
    check_sample(d, 3, 9, 1);
    check_sample(d, 4, 11, 0);
    CHECK_NEAR(dataset_majority(d), 0.6, 1e-15, 0);
    dataset_destroy(d);
}

static void test_digest(void **state)
{
    const pair *p = *state;
    const bytes images = idx_images(30, 4, 5);
    bytes labels = idx_labels(30, 3);
    dataset *a = open_pair(p, NULL), *b = open_pair(p, NULL), *c = NULL;

    CHECK(a->digest == b->digest);
    dataset_destroy(b);
    /* one label, one pixel, the shape, the number of classes: each changes it */
    labels.data[10] = (unsigned char)((labels.data[10] + 1) % 3);
    CHECK_OK(dataset_open_idx(&b, p->images, write_bytes(p->folder, "l2", &labels), NULL, 0));
    CHECK(a->digest != b->digest);
    dataset_destroy(b);
    for (int i = 0; i < 2; i++) {
        bytes other = i ? idx_images(30, 5, 4) : images;

        other.data[100] ^= i ? 0 : 1;
        CHECK_OK(dataset_open_idx(&c, write_bytes(p->folder, "i2", &other), p->labels, NULL, 0));
        CHECK(a->digest != c->digest);
        dataset_destroy(c);
    }
    CHECK_OK(dataset_open_idx(&c, p->images, p->labels, NULL, 4));
    CHECK_INT(c->n_classes, 4);
    CHECK(a->digest != c->digest);
    dataset_destroy(c);
    dataset_destroy(a);
}

static void test_refused(void **state)
{
    const pair *p = *state;
    const bytes few = idx_labels(29, 3);
    const int64_t five[] = {5};
    dataset *d = NULL;

    CHECK_ERROR(dataset_open_idx(&d, p->images, "/nowhere/l", NULL, 0), THAW_E_MISSING,
                "'/nowhere/l'");
    CHECK_ERROR(dataset_open_idx(&d, "/nowhere/i", p->labels, NULL, 0), THAW_E_MISSING,
                "'/nowhere/i'");
    CHECK_ERROR(dataset_open_idx(&d, p->labels, p->images, NULL, 0), THAW_E_DATA, "swapped?");
    CHECK_ERROR(dataset_open_idx(&d, p->images, write_bytes(p->folder, "few", &few), NULL, 0),
                THAW_E_DATA, "has 30 images but '");
    CHECK_CONTAINS(thaw_error(), "/few' has 29 labels");
    CHECK_ERROR(dataset_open_idx(&d, p->images, p->labels, NULL, 2), THAW_E_DATA,
                "is 2, expected 0 to 1");
    CHECK_ERROR(dataset_open_idx(&d, p->images, p->labels, &(dataset_subset){.per_class = 11}, 0),
                THAW_E_DATA, "has 10 samples to choose from, per_class asks for 11");
    CHECK_ERROR(dataset_open_idx(&d, p->images, p->labels,
                                 &(dataset_subset){.classes = five, .n_classes = 1}, 0),
                THAW_E_DATA, "class 5 was chosen");
    CHECK(d == NULL);
}

static thaw_status read_nothing(void *user, const int64_t *index, int64_t n, float *images,
                                int32_t *labels)
{
    (void)user, (void)index, (void)n, (void)images, (void)labels;
    return THAW_OK;
}

static void test_callback(void **state)
{
    dataset *d = NULL;
    int64_t count[4] = {9, 9, 9, 9};

    (void)state;
    CHECK_OK(dataset_from_callback(&d, 100, 2, 3, 7, 4, read_nothing, NULL));
    CHECK(d->n == 100 && d->height == 2 && d->width == 3 && d->channels == 7 && d->n_classes == 4);
    CHECK(!d->pixels && !d->label && d->digest == 0);
    CHECK_STR(d->description, "100 images 2x3x7 in 4 classes from the calling program");
    dataset_count_classes(count, d);
    CHECK_INT(count[0] + count[3], 0);
    CHECK(dataset_majority(d) == 0);
    dataset_destroy(d);
    d = NULL;
    CHECK_ERROR(dataset_from_callback(&d, 0, 2, 3, 7, 4, read_nothing, NULL), THAW_E_RANGE,
                "has 0 samples");
    CHECK_ERROR(dataset_from_callback(&d, 1, 2, 3, -7, 4, read_nothing, NULL), THAW_E_RANGE,
                "has -7 channels");
    CHECK_STATUS(dataset_from_callback(&d, 1, 2, 3, 1, 0, read_nothing, NULL), THAW_E_RANGE);
    CHECK_STATUS(dataset_from_callback(&d, 1, INT64_MAX, 3, 1, 1, read_nothing, NULL),
                 THAW_E_SHAPE);
    CHECK_STATUS(dataset_from_callback(&d, 1, 2, 3, 1, 1, NULL, NULL), THAW_E_USAGE);
    CHECK(d == NULL);
}

static void test_no_memory(void **state)
{
    const pair *p = *state;

    for (int n = 1, more = 1; more; n++) {
        dataset *d = NULL;
        thaw_status status;

        check_alloc_fail(n, false);
        status = dataset_open_idx(&d, p->images, p->labels, &(dataset_subset){.per_class = 3}, 0);
        more = check_alloc_restore();
        /* giving back what a subset leaves over may fail unnoticed */
        CHECK_MSG(status == THAW_E_NOMEM || status == THAW_OK, "allocation %d: %s", n,
                  thaw_error());
        CHECK(more || status == THAW_OK);
        dataset_destroy(d);
    }
}

static void test_fashion_mnist(void **state)
{
    const int64_t classes[] = {2, 4, 6, 8, 9};
    const dataset_subset u = {.classes = classes, .n_classes = 5, .per_class = 20, .seed = 3};
    dataset *d = NULL;
    int64_t count[10];
    uint64_t sum = 0;

    (void)state;
    CHECK_MSG(access(FASHION "train-images-idx3-ubyte.gz", R_OK) == 0,
              "no '" FASHION "': install Debian's dataset-fashion-mnist, as ./dev check does");
    CHECK_OK(dataset_open_idx(&d, FASHION "train-images-idx3-ubyte.gz",
                              FASHION "train-labels-idx1-ubyte.gz", NULL, 10));
    CHECK(d->n == 60000 && d->height == 28 && d->width == 28 && d->n_classes == 10);
    for (int64_t i = 0; i < d->n * 784; i++)
        sum += d->pixels[i];
    /* the known mean of the set, to the four places it is quoted with */
    CHECK_NEAR((double)sum / 255 / 784 / 60000, 0.2860, 0, 5e-5);
    dataset_count_classes(count, d);
    for (int c = 0; c < 10; c++)
        CHECK_INT(count[c], 6000);
    CHECK_NEAR(dataset_majority(d), 0.1, 1e-15, 0);
    dataset_destroy(d);

    CHECK_OK(dataset_open_idx(&d, FASHION "t10k-images-idx3-ubyte.gz",
                              FASHION "t10k-labels-idx1-ubyte.gz", &u, 0));
    CHECK(d->n == 100 && d->n_classes == 5);
    CHECK_NEAR(dataset_majority(d), 0.2, 1e-15, 0);
    dataset_destroy(d);
    d = NULL;
    CHECK_ERROR(dataset_open_idx(&d, FASHION "t10k-images-idx3-ubyte.gz",
                                 FASHION "train-labels-idx1-ubyte.gz", NULL, 10),
                THAW_E_DATA, "10000 images but");
}

/* A few of many samples: the whole file was there before. */
static void test_opening_is_known(void **state)
{
    const pair *p = *state;
    const dataset_subset few = {.first = 2};
    dataset *all = open_pair(p, NULL), *some;

    thaw__mem_peak_reset();
    const size_t before = thaw__mem_peak();
    some = open_pair(p, &few);
    CHECK_MSG(thaw__mem_peak() - before <= some->opening + (256 << 10),
              "%zu bytes were taken, not %zu", thaw__mem_peak() - before, some->opening);
    CHECK(dataset_bytes(some) < dataset_bytes(all));
    CHECK(some->opening > (size_t)(all->n * all->height * all->width * all->channels));
    CHECK(all->opening >= dataset_bytes(all));
    dataset_destroy(some);
    dataset_destroy(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),         cmocka_unit_test(test_subset),
        cmocka_unit_test(test_digest),        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_callback),      cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_fashion_mnist), cmocka_unit_test(test_opening_is_known),
    };

    return cmocka_run_group_tests_name("data/dataset", tests, pair_create, pair_destroy);
}
