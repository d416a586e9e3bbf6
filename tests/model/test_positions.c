/*
 * test_positions.c - position embeddings of other image sizes against PyTorch's bicubic
 * interpolation with align_corners = False.
 */
#include "model/model.h"

#include "check.h"

enum { FEATURES = 2, MOST = 64 };

/* Feature f of token i: ((7 i + 5 f) mod 11) / 4 - 1. */
static void fill(double *x, int64_t tokens)
{
    for (int64_t i = 0; i < tokens; i++)
        for (int64_t f = 0; f < FEATURES; f++)
            x[i * FEATURES + f] = (double)((i * 7 + f * 5) % 11) / 4 - 1;
}

static void check_resize(int64_t side, int64_t rows, int64_t columns, const double *want)
{
    const int64_t grid[2] = {rows, columns};
    double src[MOST], dst[MOST];

    fill(src, 1 + side * side);
    model_resize_positions(dst, grid, src, side, FEATURES);
    CHECK_CLOSE(dst, src, FEATURES, 0, 0); /* the class token's */
    CHECK_CLOSE(dst + FEATURES, want, (size_t)(rows * columns * FEATURES), 1e-12, 1e-12);
}

static void test_larger(void **state)
{
    static const double want[] = {
        0.8457773437499995,   -0.8516103515624995,  -0.05790917968749994, 0.5032480468749997,
        0.29475195312499985,  0.8559091796874996,   1.6496103515624991,   -0.047777343749999944,
        0.7427773437499997,   -1.1668222656250005,  -0.16090917968749965, 0.3288984374999994,
        0.1917519531250001,   0.7746621093749999,   1.5466103515624992,   -0.15077734374999965,
        0.57177734375,        -1.1256103515625,     -0.3319091796875,     0.229248046875,
        0.020751953125,       0.5819091796875,      1.3756103515625,      -0.32177734375,
        0.4007773437500002,   0.5071909179687485,   -0.5029091796874997,  0.6647197265624996,
        -0.15024804687499974, 0.22600927734375045,  1.2046103515625,      -0.49277734374999965,
        0.29777734375000003,  1.8307265625000007,   -0.6059091796875001,  1.0413476562500001,
        -0.2532480468750001,  -0.02321875000000004, 1.1016103515625002,   -0.5957773437500001};

    (void)state;
    check_resize(3, 5, 4, want);
}

static void test_smaller(void **state)
{
    static const double want[] = {0.0686848958333337, 0.12301974826388917,  0.98193359375,
                                  0.655517578125,     -0.07859519675925919, 0.02169234664351868,
                                  0.5498046874999998, 0.24546983506944423,  0.08447265625,
                                  0.160888671875,     0.15744357638888842,  -0.1928439670138894};

    (void)state;
    check_resize(4, 2, 3, want);
}

static void test_narrow(void **state)
{
    static const double want[] = {1.235696064139941,    -0.4165110240524779,  1.1711916909620987,
                                  -0.392321884110787,   0.9347667638483965,   -0.3036625364431487,
                                  0.6250000000000002,   -0.18750000000000006, 0.315233236151603,
                                  -0.07133746355685117, 0.07880830903790151,  0.017321884110786945,
                                  0.014303935860058292, 0.041511024052478085};

    (void)state;
    check_resize(2, 1, 7, want);
}

/* The same size is left as it is, but for rounding. */
static void test_same(void **state)
{
    double src[MOST];

    (void)state;
    fill(src, 1 + 4 * 4);
    check_resize(4, 4, 4, src + FEATURES);
}

static void test_side(void **state)
{
    const model_tensor t = {.shape = {.rank = 3, .dim = {1, 5, 8}}, .grid = {2, 2}};
    const model_tensor other = {.shape = {.rank = 3, .dim = {1, 5, 8}}};
    static const struct {
        int64_t dim[3];
        int64_t side;
    } table[] = {{{1, 5, 8}, 2},   {{1, 197, 8}, 14}, {{1, 2, 8}, 1},
                 {{1, 196, 8}, 0}, {{1, 197, 9}, 0},  {{2, 197, 8}, 0},
                 {{1, 1, 8}, 0},   {{1, 0, 8}, 0},    {{1, INT64_MAX, 8}, 0}};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(table); i++) {
        const shape s = shape_of(3, table[i].dim);

        CHECK_INT(model_positions_side(&t, &s), table[i].side);
        CHECK_INT(model_positions_side(&other, &s), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_larger), cmocka_unit_test(test_smaller),
        cmocka_unit_test(test_narrow), cmocka_unit_test(test_same),
        cmocka_unit_test(test_side),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
