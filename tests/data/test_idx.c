/*
 * test_idx.c - IDX files: what is read from good ones, plain or compressed, and one clear message
 * for each way to be malformed.
 */
#include "data/data.h"

#include "idx_files.h"

static thaw_status parse(const bytes *b, idx_kind kind)
{
    idx_array a = {0};
    const thaw_status status = idx_parse(&a, b->data, b->n, "some-idx", kind);

    CHECK_MSG(status == THAW_OK || a.data == NULL, "output touched on failure");
    thaw__free(a.data);
    return status;
}

static void test_good(void **state)
{
    const bytes images = idx_images(5, 3, 4), labels = idx_labels(5, 3);
    const bytes colour = idx_bytes(0x804, 4, (uint32_t[]){2, 3, 4, 3}, 72, 256);
    const bytes packed = gzip_of(&images);
    char *folder = check_folder();
    idx_array a = {0};

    (void)state;
    CHECK_OK(idx_parse(&a, images.data, images.n, "x", IDX_IMAGES));
    CHECK(a.n == 5 && a.height == 3 && a.width == 4 && a.channels == 1);
    CHECK_BYTES(a.data, images.data + 16, 60);
    thaw__free(a.data);
    CHECK_OK(idx_read(&a, write_bytes(folder, "no-ending", &packed), IDX_IMAGES));
    CHECK(a.n == 5 && a.height == 3 && a.width == 4 && a.channels == 1);
    CHECK_BYTES(a.data, images.data + 16, 60);
    thaw__free(a.data);
    CHECK_OK(idx_read(&a, write_bytes(folder, "plain.gz", &labels), IDX_LABELS));
    CHECK(a.n == 5 && a.height == 1 && a.width == 1 && a.channels == 1);
    CHECK_BYTES(a.data, labels.data + 8, 5);
    thaw__free(a.data);
    CHECK_OK(idx_parse(&a, colour.data, colour.n, "x", IDX_IMAGES));
    CHECK(a.n == 2 && a.height == 3 && a.width == 4 && a.channels == 3);
    thaw__free(a.data);
    check_folder_remove(folder);
}

/* One malformed header: magic number, sizes, elements that follow, and what the message says. */
static const struct {
    uint32_t magic;
    int rank;
    uint32_t dim[4];
    size_t elements;
    idx_kind kind;
    const char *part;
} malformed[] = {
    {0x89504e47, 0, {0}, 40, IDX_IMAGES, "magic number 0x89504e47, expected 0x00000803"},
    {0x01000801, 1, {4}, 4, IDX_LABELS, "magic number 0x01000801, expected 0x00000801"},
    {0x00000701, 1, {4}, 4, IDX_LABELS, "magic number 0x00000701, expected 0x00000801"},
    {0x00000d03, 3, {1, 2, 2}, 16, IDX_IMAGES, "type f32 (0x0d), expected u8 (0x08)"},
    {0x00000901, 1, {4}, 4, IDX_LABELS, "type i8 (0x09), expected u8 (0x08)"},
    {0x00000801,
     1,
     {4},
     4,
     IDX_IMAGES,
     "has 1 axes, expected [n, H, W] or [n, H, W, C] for images"},
    {0x00000803, 3, {1, 2, 2}, 4, IDX_LABELS, "swapped?"},
    {0x00000800, 0, {0}, 4, IDX_LABELS, "has 0 axes, expected [n] for labels"},
    {0x000008ff, 4, {1, 1, 1, 1}, 4, IDX_IMAGES, "has 255 axes"},
    {0x00000803, 3, {0, 28, 28}, 0, IDX_IMAGES, "header says 0 samples"},
    {0x00000803, 3, {2, 0, 28}, 0, IDX_IMAGES, "axis 1 has size 0"},
    {0x00000803, 3, {2, 28, 0}, 0, IDX_IMAGES, "axis 2 has size 0"},
    {0x00000804, 4, {1, 2, 2, 5}, 20, IDX_IMAGES, "has 5 channels, expected 1 to 4"},
    {0x00000803, 3, {0xffffffff, 0xffffffff, 0xffffffff}, 9, IDX_IMAGES, "more than 4294967296"},
    {0x00000803, 3, {0x80000000, 2, 2}, 9, IDX_IMAGES, "more than 4294967296 bytes"},
    {0x00000803, 3, {0x80000000, 0x80000000, 4}, 9, IDX_IMAGES, "more than 4294967296 bytes"},
    {0x00000801, 1, {0xffffffff}, 9, IDX_LABELS, "4294967295 bytes of elements follow"},
    {0x00000803, 3, {2, 3, 4}, 23, IDX_IMAGES, "24 bytes of elements follow, the file can hold"},
    {0x00000803, 3, {2, 3, 4}, 25, IDX_IMAGES, "1 bytes follow the last element"},
    {0x00000801, 1, {10}, 300, IDX_LABELS, "290 bytes follow the last element"},
    {0x00000803, 2, {2, 3}, 0, IDX_IMAGES, "ends within its header"},
};

static void test_malformed(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(malformed); i++) {
        const bytes b = idx_bytes(malformed[i].magic, malformed[i].rank, malformed[i].dim,
                                  malformed[i].elements, 2);

        CHECK_ERROR(parse(&b, malformed[i].kind), THAW_E_DATA, malformed[i].part);
        CHECK_CONTAINS(thaw_error(), "'some-idx'");
    }
}

/* The same behind gzip: no size that the header claims may be asked of memory before it is checked.
 */
static void test_malformed_gzip(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(malformed); i++) {
        const bytes plain = idx_bytes(malformed[i].magic, malformed[i].rank, malformed[i].dim,
                                      malformed[i].elements, 2);
        const bytes b = gzip_of(&plain);

        thaw__mem_peak_reset();
        CHECK_ERROR(parse(&b, malformed[i].kind), THAW_E_DATA, "'some-idx'");
        CHECK_MSG(thaw__mem_peak() < 1 << 20, "case %zu took %zu bytes", i, thaw__mem_peak());
    }
}

static void test_every_length(void **state)
{
    const bytes images = idx_images(4, 5, 5), labels = idx_labels(40, 3);
    const bytes *const both[] = {&images, &labels};

    (void)state;
    for (int k = 0; k < 2; k++) {
        for (size_t n = 0; n < both[k]->n; n++) {
            bytes b = *both[k];

            b.n = n;
            CHECK_ERROR(parse(&b, k ? IDX_LABELS : IDX_IMAGES), THAW_E_DATA, "too short");
        }
        CHECK_OK(parse(both[k], k ? IDX_LABELS : IDX_IMAGES));
    }
}

static void test_gzip_sizes(void **state)
{
    const bytes less = idx_bytes(0x803, 3, (uint32_t[]){4, 10, 10}, 399, 2);
    const bytes more = idx_bytes(0x803, 3, (uint32_t[]){4, 10, 10}, 401, 2);
    bytes b = gzip_of(&less);

    (void)state;
    CHECK_ERROR(parse(&b, IDX_IMAGES), THAW_E_DATA, "400 bytes of elements follow, there are 399");
    b = gzip_of(&more);
    CHECK_ERROR(parse(&b, IDX_IMAGES), THAW_E_DATA, "too long");
}

static void test_no_memory(void **state)
{
    const bytes images = idx_images(40, 5, 5), b = gzip_of(&images);

    (void)state;
    for (int n = 1, more = 1; more; n++) {
        thaw_status status;

        check_alloc_fail(n, false);
        status = parse(&b, IDX_IMAGES);
        more = check_alloc_restore();
        CHECK_STATUS(status, more ? THAW_E_NOMEM : THAW_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),           cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_malformed_gzip), cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_gzip_sizes),     cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests_name("data/idx", tests, NULL, NULL);
}
