/*
 * test_augment.c - mirror and shift against a pixel-by-pixel model, and what is drawn: even, in
 * range, and a function of (seed, epoch, sample).
 */
#include "data/data.h"

#include "check.h"

#define MOST (9 * 11 * 3)

static void check_apply(int64_t h, int64_t w, int64_t c, augmentation a)
{
    uint8_t src[MOST] = {0}, got[MOST], want[MOST];

    for (int64_t i = 0; i < h * w * c; i++) {
        src[i] = (uint8_t)(i % 255 + 1);
        got[i] = 0xee;
    }
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++)
            for (int64_t k = 0; k < c; k++) {
                const int64_t fy = y - a.dy, fx = x - a.dx, column = a.flip ? w - 1 - fx : fx;
                const bool inside = fy >= 0 && fy < h && fx >= 0 && fx < w;

                want[(y * w + x) * c + k] = inside ? src[(fy * w + column) * c + k] : 0;
            }
    augment_apply(got, src, h, w, c, &a);
    for (int64_t i = 0; i < h * w * c; i++)
        CHECK_MSG(got[i] == want[i], "%lldx%lldx%lld moved by %d, %d%s: byte %lld: got %d, want %d",
                  (long long)h, (long long)w, (long long)c, a.dy, a.dx, a.flip ? ", mirrored" : "",
                  (long long)i, got[i], want[i]);
}

static void test_apply(void **state)
{
    static const int64_t size[][3] = {{9, 11, 1}, {5, 4, 3}, {4, 4, 2},
                                      {1, 1, 1},  {1, 7, 1}, {7, 1, 4}};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(size); i++) {
        const int h = (int)size[i][0], w = (int)size[i][1];

        for (int dy = 1 - h; dy < h; dy++)
            for (int dx = 1 - w; dx < w; dx++)
                for (int flip = 0; flip < 2; flip++)
                    check_apply(h, w, size[i][2], (augmentation){dy, dx, flip});
    }
}

static void test_draw(void **state)
{
    const philox_key key = philox_stream(1, "data augmentation");
    int64_t seen[5][5][2] = {0};
    const int n = 50000;

    (void)state;
    for (int id = 0; id < n; id++) {
        const augmentation a = augment_draw(key, 3, id, 2, true);
        const augmentation again = augment_draw(key, 3, id, 2, true);

        CHECK(a.dy >= -2 && a.dy <= 2 && a.dx >= -2 && a.dx <= 2);
        CHECK(a.dy == again.dy && a.dx == again.dx && a.flip == again.flip);
        seen[a.dy + 2][a.dx + 2][a.flip]++;
    }
    for (int y = 0; y < 5; y++)
        for (int x = 0; x < 5; x++)
            for (int flip = 0; flip < 2; flip++)
                CHECK_NEAR(seen[y][x][flip], n / 50.0, 0, 6 * sqrt(n / 50.0));
}

static void test_keys(void **state)
{
    const philox_key key = philox_stream(1, "data augmentation"),
                     other = philox_stream(2, "data augmentation");
    int by_epoch = 0, by_seed = 0, off = 0;

    (void)state;
    for (int id = 0; id < 1000; id++) {
        const augmentation a = augment_draw(key, 0, id, 3, true),
                           b = augment_draw(key, 1, id, 3, true),
                           c = augment_draw(other, 0, id, 3, true),
                           d = augment_draw(key, 0, id, 0, false);

        by_epoch += a.dy == b.dy && a.dx == b.dx && a.flip == b.flip;
        by_seed += a.dy == c.dy && a.dx == c.dx && a.flip == c.flip;
        off += d.dy != 0 || d.dx != 0 || d.flip;
    }
    /* 1 in 98 by chance */
    CHECK_MSG(by_epoch < 40, "%d of 1000 samples look the same in the next epoch", by_epoch);
    CHECK_MSG(by_seed < 40, "%d of 1000 samples look the same with another seed", by_seed);
    CHECK_INT(off, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_apply),
        cmocka_unit_test(test_draw),
        cmocka_unit_test(test_keys),
    };

    return cmocka_run_group_tests_name("data/augment", tests, NULL, NULL);
}
