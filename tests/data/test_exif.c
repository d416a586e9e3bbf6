/*
 * test_exif.c - the orientation in TIFF blocks of both byte orders, and blocks that lie about
 * themselves.
 */
#include "data/picture.h"

#include "check.h"

/* One directory with one entry. */
static size_t block(uint8_t out[64], bool big, unsigned tag, unsigned type, unsigned value)
{
    const struct {
        unsigned value;
        int bytes;
    } part[] = {{42, 2}, {8, 4}, {1, 2}, {tag, 2}, {type, 2}, {1, 4}, {value, 2}, {0, 2}, {0, 4}};
    size_t n = 2;

    memset(out, big ? 'M' : 'I', 2);
    for (size_t i = 0; i < THAW_COUNT(part); i++)
        for (int b = 0; b < part[i].bytes; b++)
            out[n++] = (uint8_t)(part[i].value >> 8 * (big ? part[i].bytes - 1 - b : b));
    return n;
}

static void test_orders(void **state)
{
    uint8_t tiff[64];

    (void)state;
    for (unsigned value = 0; value < 12; value++)
        for (int big = 0; big < 2; big++) {
            const size_t n = block(tiff, big, 0x0112, 3, value);

            CHECK_INT(exif_orientation(tiff, n), value >= 1 && value <= 8 ? (int)value : 1);
        }
    CHECK_INT(exif_orientation(tiff, block(tiff, true, 0x0113, 3, 6)), 1);
    CHECK_INT(exif_orientation(tiff, block(tiff, true, 0x0112, 4, 6)), 1);
}

static void test_damaged(void **state)
{
    uint8_t tiff[64];
    const size_t n = block(tiff, false, 0x0112, 3, 6);
    uint8_t *copy;

    (void)state;
    for (size_t cut = 0; cut < n; cut++) {
        copy = thaw__alloc(cut + 1); /* on the heap, so that sanitizers see what is read */
        memcpy(copy, tiff, cut);
        CHECK_INT(exif_orientation(copy, cut), cut >= 22 ? 6 : 1);
        thaw__free(copy);
    }
    memset(tiff + 4, 0xFF, 4); /* the directory lies outside */
    CHECK_INT(exif_orientation(tiff, n), 1);
    memcpy(tiff, "XX*\0", 4);
    CHECK_INT(exif_orientation(tiff, n), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_orders),
        cmocka_unit_test(test_damaged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
