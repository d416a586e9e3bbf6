/*
 * test_picset.c - data sets of picture files: batches that are the same for any number of workers
 * and from any position, broken files refused or replaced, and numbers instead of classes.
 */
#include "picture_files.h"

static picture_source source_of(const char *folder)
{
    picture_source s = {.train = folder, .recipe = PICTURE_RECIPE_INIT};

    s.recipe.height = s.recipe.width = 12;
    s.recipe.shorter_side = 14;
    s.recipe.crop_scale[0] = 0.4;
    s.recipe.crop_scale[1] = 1;
    s.recipe.jitter[0] = s.recipe.jitter[1] = s.recipe.jitter[2] = 0.3;
    return s;
}

static loader_options options_of(int workers)
{
    loader_options o = LOADER_OPTIONS_INIT;

    o.batch = 4;
    o.shuffle = o.flip = o.vary = true;
    o.seed = 5;
    o.workers = workers;
    o.prefetch = workers > 1;
    return o;
}

/* All of two epochs from (epoch, index) on, as one digest. */
static uint64_t digest_of(const dataset *d, const loader_options *o, int64_t epoch, int64_t index)
{
    const size_t image = (size_t)(d->height * d->width * d->channels) * sizeof(float);
    uint64_t h = HASH_INIT;
    loader *l = NULL;
    const batch *b;

    CHECK_OK(loader_create(&l, d, o));
    CHECK_OK(loader_seek(l, epoch, index));
    do {
        CHECK_OK(loader_next(&b, l));
        h = hash_fnv1a_n(h, b->images, (size_t)b->n * image);
        h = hash_fnv1a_n(h, b->labels, (size_t)b->n * sizeof *b->labels);
        h = hash_fnv1a_n(h, b->ids, (size_t)b->n * sizeof *b->ids);
    } while (!b->last || b->epoch < 1);
    loader_destroy(l);
    return h;
}

static void open_one(dataset **out, const picture_source *s)
{
    dataset *d[3] = {NULL};

    CHECK_OK(dataset_open_pictures(d, s));
    CHECK(!d[1] && !d[2]);
    *out = d[0];
}

static void test_any_workers(void **state)
{
    char *folder = check_folder();
    dataset *d;

    (void)state;
    put_ten(folder);
    const picture_source s = source_of(folder);
    open_one(&d, &s);
    CHECK_INT(d->n, 10);
    CHECK_INT(d->n_classes, 2);
    CHECK_STR(d->class_name[1], "dog");
    CHECK_NEAR(dataset_majority(d), 0.5, 0, 0);
    CHECK_CONTAINS(d->description, "10 pictures in 2 classes");
    for (int64_t epoch = 0; epoch < 2; epoch++)
        for (int64_t index = 0; index < 9; index += 4) {
            const loader_options one = options_of(1), many = options_of(3);

            CHECK_INT(digest_of(d, &one, epoch, index), digest_of(d, &many, epoch, index));
        }
    const loader_options drawn = options_of(1);
    loader_options plain = drawn;
    plain.vary = false;
    CHECK(digest_of(d, &drawn, 0, 0) != digest_of(d, &plain, 0, 0));
    dataset_destroy(d);
    check_folder_remove(folder);
}

/* An evaluated picture is the one that picture_load makes of its file. */
static void test_one_file(void **state)
{
    char *folder = check_folder(), path[512];
    float image[12 * 12 * 3];
    loader_options o = LOADER_OPTIONS_INIT;
    const batch *b;
    loader *l = NULL;
    dataset *d;

    (void)state;
    put_ten(folder);
    const picture_source s = source_of(folder);
    open_one(&d, &s);
    o.batch = 1;
    o.mean[0] = 0.4;
    o.std[0] = 0.3;
    CHECK_OK(loader_create(&l, d, &o));
    CHECK_OK(loader_next(&b, l));
    CHECK_OK(picture_load(image, below(path, folder, "cat/0.png"), &s.recipe, &o));
    CHECK_BYTES(b->images, image, sizeof image);
    loader_destroy(l);
    dataset_destroy(d);
    check_folder_remove(folder);
}

static void test_splits(void **state)
{
    char *folder = check_folder(), path[512];
    dataset *d[3] = {NULL}, *same[3] = {NULL};
    picture_source s = source_of(folder);

    (void)state;
    put_ten(folder);
    s.valid_fraction = 0.4;
    CHECK_OK(dataset_open_pictures(d, &s));
    CHECK_INT(d[0]->n, 6);
    CHECK_INT(d[1]->n, 4);
    CHECK_OK(dataset_open_pictures(same, &s));
    CHECK_INT(d[0]->digest, same[0]->digest);
    dataset_destroy(same[0]);
    dataset_destroy(same[1]);
    s.seed = 1;
    s.test = below(path, folder, "");
    CHECK_OK(dataset_open_pictures(same, &s));
    CHECK(d[0]->digest != same[0]->digest);
    CHECK_INT(same[2]->n, 10);
    for (int i = 0; i < 3; i++) {
        dataset_destroy(d[i]);
        dataset_destroy(same[i]);
    }
    check_folder_remove(folder);
}

static void test_refused(void **state)
{
    char *folder = check_folder(), path[512];
    picture_source s = source_of(folder);
    dataset *d[3] = {NULL};
    text notes = TEXT_INIT;

    (void)state;
    put_ten(folder);
    write_file(below(path, folder, "cat/empty.jpg"), "", 0);
    write_file(below(path, folder, "dog/text.png"), "no picture", 10);
    CHECK_ERROR(dataset_open_pictures(d, &s), THAW_E_DATA, "2 broken pictures");
    CHECK_CONTAINS(thaw_error(), "empty.jpg' is empty\n");
    CHECK_CONTAINS(thaw_error(), "text.png' is no picture");
    CHECK(!d[0]);
    s.skip_broken = true;
    open_one(&d[0], &s);
    CHECK_INT(d[0]->n, 10);
    dataset_take_notes(&notes, d[0]);
    CHECK_CONTAINS(notes.data, "empty.jpg' is empty; it is left out\n");
    text_done(&notes);
    dataset_take_notes(&notes, d[0]);
    CHECK_INT(notes.length, 0);
    text_done(&notes);
    dataset_destroy(d[0]);
    check_folder_remove(folder);
}

/* Damage that shows only when the file is decoded. */
static void test_replaced(void **state)
{
    const loader_options one = options_of(1), many = options_of(4);
    char *folder = check_folder();
    picture_source s = source_of(folder);
    text notes = TEXT_INIT;
    uint64_t first, second;
    loader *l = NULL;
    const batch *b;
    dataset *d;
    thaw_status status = THAW_OK;

    (void)state;
    put_ten(folder);
    put_part(folder, "cat/3.png", "alpha.png", 50);
    put_part(folder, "dog/6.jpg", "colour.jpg", 80);
    open_one(&d, &s);
    CHECK_OK(loader_create(&l, d, &one));
    for (int i = 0; i < 3 && status == THAW_OK; i++)
        status = loader_next(&b, l);
    CHECK_INT(status, THAW_E_DATA);
    CHECK_CONTAINS(thaw_error(), "ends too early");
    loader_destroy(l);
    dataset_destroy(d);

    s.skip_broken = true;
    open_one(&d, &s);
    first = digest_of(d, &many, 1, 4); /* begins in the middle, with nothing known */
    CHECK_INT(digest_of(d, &one, 1, 4), first);
    dataset_take_notes(&notes, d);
    CHECK_CONTAINS(notes.data, "another picture of its class takes its place");
    text_done(&notes);
    second = digest_of(d, &one, 0, 0);
    dataset_destroy(d);
    open_one(&d, &s);
    CHECK_INT(digest_of(d, &many, 0, 0), second);
    dataset_destroy(d);
    check_folder_remove(folder);
}

/* A whole class that is broken. */
static void test_nothing_left(void **state)
{
    const loader_options o = options_of(2);
    char *folder = check_folder();
    picture_source s = source_of(folder);
    thaw_status status = THAW_OK;
    loader *l = NULL;
    const batch *b;
    dataset *d;

    (void)state;
    put(folder, "a/0.png", "rgb.png");
    put_part(folder, "b/0.png", "rgb.png", 50);
    put_part(folder, "b/1.jpg", "colour.jpg", 50);
    s.skip_broken = true;
    open_one(&d, &s);
    CHECK_OK(loader_create(&l, d, &o));
    status = loader_next(&b, l);
    CHECK_INT(status, THAW_E_DATA);
    CHECK_CONTAINS(thaw_error(), "all other pictures of its class are broken");
    loader_destroy(l);
    dataset_destroy(d);
    check_folder_remove(folder);
}

static void test_numbers(void **state)
{
    static const char list[] = "cat/0.png,0.5\ncat/1.jpg,1.5\ndog/5.png,2.5\ndog/6.jpg,3.5\n";
    loader_options o = options_of(2);
    char *folder = check_folder(), path[512];
    picture_source s = source_of(path);
    const batch *b;
    loader *l = NULL;
    dataset *d;

    (void)state;
    put_ten(folder);
    put_part(folder, "cat/1.jpg", "colour.jpg", 70);
    write_file(below(path, folder, "list.csv"), list, strlen(list));
    s.lists = s.numbers = s.skip_broken = true;
    open_one(&d, &s);
    CHECK_INT(d->n, 3); /* the broken one is found at once */
    CHECK(!d->label && !d->class_name);
    CHECK_NEAR(dataset_majority(d), 0, 0, 0);
    o.shuffle = false;
    CHECK_OK(loader_create(&l, d, &o));
    CHECK_OK(loader_next(&b, l));
    CHECK_INT(b->n, 3);
    CHECK_CLOSE(b->targets, ((float[]){0.5F, 2.5F, 3.5F}), 3, 0, 0);
    loader_destroy(l);
    dataset_destroy(d);
    check_folder_remove(folder);
}

/* What the digest of a data set sees. */
static void test_digest(void **state)
{
    char *folder = check_folder();
    picture_source s = source_of(folder);
    uint64_t seen[4];
    dataset *d;

    (void)state;
    put_ten(folder);
    for (int i = 0; i < 4; i++) {
        if (i == 1)
            put(folder, "cat/0.png", "palette.png");
        if (i == 2)
            s.recipe.filter = RESAMPLE_BICUBIC;
        if (i == 3)
            put(folder, "dog/more.png", "rgb.png");
        open_one(&d, &s);
        seen[i] = d->digest;
        dataset_destroy(d);
        for (int k = 0; k < i; k++)
            CHECK(seen[k] != seen[i]);
    }
    check_folder_remove(folder);
}

static void test_no_memory(void **state)
{
    char *folder = check_folder();
    picture_source s = source_of(folder);
    const loader_options o = options_of(1);

    (void)state;
    put_ten(folder);
    s.valid_fraction = 0.3;
    for (int n = 1, more = 1; more; n++) {
        dataset *d[3] = {NULL};
        loader *l = NULL;
        const batch *b;
        thaw_status status;

        check_alloc_fail(n, false);
        status = dataset_open_pictures(d, &s);
        if (status == THAW_OK)
            status = loader_create(&l, d[0], &o);
        if (status == THAW_OK)
            status = loader_next(&b, l);
        more = check_alloc_restore();
        CHECK_MSG(status == (more ? THAW_E_NOMEM : THAW_OK), "allocation %d: %s, '%s'", n,
                  thaw_status_name(status), thaw_error());
        loader_destroy(l);
        dataset_destroy(d[0]);
        dataset_destroy(d[1]);
    }
    check_folder_remove(folder);
}

/* What is said to be taken by making batches is; what is read is no larger than its header says. */
static void test_memory_is_foreseen(void **state)
{
    static const char *const name[] = {"rgb.png",  "colour.jpg",      "grey.jpg",      "alpha.png",
                                       "cmyk.jpg", "progressive.jpg", "turned6.jpg",   "grey.png",
                                       "deep.png", "palette.png",     "interlaced.png"};
    char *folder = check_folder();
    dataset *d;

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(name); i++) {
        char path[512];
        file_bytes f = load_file(name[i]);
        picture p = {0};
        int64_t size;
        int fd;

        (void)snprintf(path, sizeof path, PICTURES "%s", name[i]);
        CHECK_OK(os_open_file(&fd, &size, path));
        /* the same whatever part of the file is at hand */
        const size_t extent = picture_extent(fd, path, f.size, f.data, f.size, 3);
        CHECK_INT(picture_extent(fd, path, f.size, f.data, 8, 3), extent);
        os_close(fd);
        thaw__mem_peak_reset();
        const size_t before = thaw__mem_peak();
        read_file(&p, name[i]);
        const size_t taken = thaw__mem_peak() - before;

        CHECK_MSG(extent >= f.size + (size_t)(p.width * p.height * p.channels),
                  "%s: %zu bytes are too few", name[i], extent);
        CHECK_MSG(taken <= extent + (100 << 10), "%s takes %zu bytes, not %zu", name[i], taken,
                  extent);
        picture_done(&p);
        thaw__free(f.data);
    }
    put_ten(folder);
    const picture_source s = source_of(folder);
    open_one(&d, &s);
    CHECK(dataset_bytes(d) > 10 * sizeof(picture_entry));
    for (int workers = 1; workers < 4; workers++) {
        const loader_options o = options_of(workers);

        thaw__mem_peak_reset();
        const size_t before = thaw__mem_peak(), foreseen = loader_bytes(d, &o);

        (void)digest_of(d, &o, 0, 0);
        /* and what the libraries take for a picture, for each worker at once */
        CHECK_MSG(thaw__mem_peak() - before <= foreseen + (size_t)workers * (64 << 10),
                  "%d workers take %zu bytes, not %zu", workers, thaw__mem_peak() - before,
                  foreseen);
    }
    dataset_destroy(d);
    check_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_workers), cmocka_unit_test(test_one_file),
        cmocka_unit_test(test_splits),      cmocka_unit_test(test_refused),
        cmocka_unit_test(test_replaced),    cmocka_unit_test(test_nothing_left),
        cmocka_unit_test(test_numbers),     cmocka_unit_test(test_digest),
        cmocka_unit_test(test_no_memory),   cmocka_unit_test(test_memory_is_foreseen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
