/*
 * test_choose.c - which kernel a dense layer gets: the ways that are possible all give ref's
 * result, the table is of the shape alone, the clock decides where it is asked, and texts of
 * problems are read back or refused.
 */
#include "check.h"

#include "exec/choose.h"
#include "exec/op_cases.h"

/* Each look at this clock finds that up to a millisecond has passed: choices are drawn. */
static uint64_t drawn;
static double clock_now;

static double draw_clock(void)
{
    clock_now += (double)(splitmix64(&drawn) >> 44) * 1e-9;
    return clock_now;
}

static void install_clock(os_table *table, uint64_t seed)
{
    *table = os_posix;
    table->monotonic = draw_clock;
    drawn = seed;
    os_install(table);
}

/* ----------------------------------------------------------------------------------------------
 * results */

static double tolerance(const op_case *c)
{
    size_t longest = c->out_elements[0];

    for (int i = 0; i < c->n_in; i++)
        longest = THAW_MAX(longest, c->in_elements[i]);
    return 1.2e-7 * (8 + sqrt((double)longest));
}

static void compare(op_kind op, uint64_t seed)
{
    op_result got, want;
    op_run how = OP_RUN_INIT;
    op_case c;

    op_case_make(&c, op, seed, OP_CASE_LARGE);
    op_case_run(&want, &c, &how);
    how.real = DTYPE_F32;
    how.ops = &exec_dnn;
    how.measured = true;
    op_case_run(&got, &c, &how);
    op_result_check(&c, &got, &want, tolerance(&c), 1e-7);
    op_result_done(&got);
    op_result_done(&want);
    op_case_done(&c);
}

static void test_ways_agree(void **state)
{
    os_table table;

    (void)state;
    install_clock(&table, 5);
    for (uint64_t seed = 1; seed <= 300; seed++)
        compare(OP_CONV2D, seed);
    for (uint64_t seed = 1; seed <= 20; seed++)
        compare(OP_LINEAR, seed);
    os_install(NULL);
}

/* ----------------------------------------------------------------------------------------------
 * measuring */

static dnn_problem pixelwise(dnn_role role, int64_t channels, int64_t kernels, int64_t side,
                             int64_t stride)
{
    return (dnn_problem){.role = role,
                         .groups = 1,
                         .batch = 4,
                         .channels = channels,
                         .kernels = kernels,
                         .height = side,
                         .width = side,
                         .out_height = (side - 1) / stride + 1,
                         .out_width = (side - 1) / stride + 1,
                         .window = {1, 1},
                         .stride = {stride, stride},
                         .dilation = {1, 1}};
}

/* The chosen way is the fastest; where the table's is nearly as fast, that one. */
static void check_choice(const choice *made)
{
    for (int way = 0; way < EXEC_WAYS; way++)
        CHECK_MSG(!(made->seconds[way] < 0.97 * made->seconds[made->way]),
                  "way %d takes %g s, the chosen one, %d, %g s", way, made->seconds[way], made->way,
                  made->seconds[made->way]);
    CHECK_MSG(made->way == made->table ||
                  made->seconds[made->way] < 0.97 * made->seconds[made->table],
              "left the table's way, %g s, for one of %g s", made->seconds[made->table],
              made->seconds[made->way]);
}

static void test_clock_decides(void **state)
{
    int others = 0, ways[EXEC_WAYS] = {0};
    dnn_library *library;
    os_table table;

    (void)state;
    fast_set_threads(1);
    CHECK_OK(dnn_open(&library));
    install_clock(&table, 7);
    for (int64_t i = 0; i < 60; i++) {
        const dnn_problem p = pixelwise((dnn_role)(i % 3), 16 + i, 40 - i / 2, 5, 1 + i / 3 % 2);
        choice made;

        CHECK_OK(measure_ways(&made, library, &p, EXEC_ANY_WAY, 1));
        CHECK_INT(made.table, choice_by_table(&p, EXEC_ANY_WAY));
        check_choice(&made);
        others += made.way != made.table;
        ways[made.way]++;
    }
    os_install(NULL);
    dnn_close(library);
    CHECK_MSG(others >= 5 && ways[0] >= 5 && ways[1] >= 5,
              "%d choices unlike the table's, %d library, %d product", others, ways[0], ways[1]);
}

static double still_clock(void)
{
    return 3;
}

/* Where no way is faster the table's stays; and no allocation is left behind by a failure. */
static void test_measure_edges(void **state)
{
    const dnn_problem p = pixelwise(DNN_BACKWARD_WEIGHT, 64, 32, 9, 1);
    const size_t before = thaw__mem_current();
    os_table table = os_posix;
    dnn_library *library;
    choice made;

    (void)state;
    table.monotonic = still_clock;
    os_install(&table);
    fast_set_threads(1);
    CHECK_OK(dnn_open(&library));
    CHECK_OK(measure_ways(&made, library, &p, EXEC_ANY_WAY, 1));
    CHECK_INT(made.way, choice_by_table(&p, EXEC_ANY_WAY));
    CHECK_INT(made.key.batch, 0);
    const size_t kept = thaw__mem_current();
    for (int n = 1, more = 1; more; n++) {
        thaw_status status;

        check_alloc_fail(n, false);
        status = measure_ways(&made, library, &p, EXEC_ANY_WAY, 1);
        more = check_alloc_restore();
        CHECK_INT(status, more ? THAW_E_NOMEM : THAW_OK);
        CHECK_INT(thaw__mem_current(), kept);
    }
    dnn_close(library);
    os_install(NULL);
    CHECK_INT(thaw__mem_current(), before);
}

/* ----------------------------------------------------------------------------------------------
 * channels by themselves */

static double naive(const fast_depthwise *p, const float *src, const float *d_dst, int64_t c,
                    int64_t r, int64_t s)
{
    double sum = 0;

    for (int64_t n = 0; n < p->batch; n++)
        for (int64_t y = 0; y < p->out_height; y++)
            for (int64_t x = 0; x < p->out_width; x++) {
                const int64_t h = y * p->stride[0] - p->pad[0] + r * p->dilation[0];
                const int64_t w = x * p->stride[1] - p->pad[1] + s * p->dilation[1];

                if (h >= 0 && h < p->height && w >= 0 && w < p->width)
                    sum +=
                        (double)src[((n * p->height + h) * p->width + w) * p->channels + c] *
                        (double)
                            d_dst[((n * p->out_height + y) * p->out_width + x) * p->channels + c];
            }
    return sum;
}

static float *draw(size_t n, uint64_t *seed)
{
    float *const x = thaw__new(n, sizeof *x);

    for (size_t i = 0; i < n; i++)
        x[i] = (float)(int32_t)(uint32_t)splitmix64(seed) / 2147483648.0f;
    return x;
}

static int64_t between(uint64_t *seed, int64_t least, int64_t most)
{
    return least + (int64_t)(splitmix64(seed) % (uint64_t)(most - least + 1));
}

/* A window beyond the image may leave nothing at all to sum. */
static bool draw_depthwise(fast_depthwise *p, uint64_t *seed)
{
    *p = (fast_depthwise){.batch = between(seed, 1, 3),
                          .height = between(seed, 1, 12),
                          .width = between(seed, 1, 12),
                          .channels = between(seed, 1, 40)};
    for (int i = 0; i < 2; i++) {
        p->window[i] = between(seed, 1, 7);
        p->stride[i] = between(seed, 1, 3);
        p->dilation[i] = between(seed, 1, 2);
        p->pad[i] = between(seed, 0, 4);
    }
    p->out_height = (p->height + p->pad[0] - 1) / p->stride[0] + 1;
    p->out_width = between(seed, 1, (p->width + p->pad[1] - 1) / p->stride[1] + 1);
    return p->window[0] * p->window[1] <= FAST_DEPTHWISE_TAPS;
}

static void test_depthwise(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        uint64_t draws = seed;
        fast_depthwise p;

        CHECK(draw_depthwise(&p, &draws));
        const int64_t taps = p.window[0] * p.window[1];
        const size_t n = (size_t)(p.channels * taps);
        float *const src = draw((size_t)(p.batch * p.height * p.width * p.channels), &draws);
        float *const d = draw((size_t)(p.batch * p.out_height * p.out_width * p.channels), &draws);
        float *const got = draw(n, &draws), *const again = draw(n, &draws);

        fast_depthwise_weight(got, src, d, &p, false, 1);
        fast_depthwise_weight(again, src, d, &p, false, 3);
        CHECK_BYTES(again, got, n * sizeof *got);
        fast_depthwise_weight(again, src, d, &p, true, 2);
        for (size_t i = 0; i < n; i++) {
            const int64_t c = (int64_t)i / taps, t = (int64_t)i % taps;
            const double want = naive(&p, src, d, c, t / p.window[1], t % p.window[1]);

            CHECK_MSG(fabs((double)got[i] - want) <= 2e-5 &&
                          fabs((double)again[i] - 2 * want) <= 4e-5,
                      "seed %d, element %zu: %g, added %g, want %g", (int)seed, i, (double)got[i],
                      (double)again[i], want);
        }
        thaw__free(again);
        thaw__free(got);
        thaw__free(d);
        thaw__free(src);
    }
}

/* ----------------------------------------------------------------------------------------------
 * table and list */

static void test_possible(void **state)
{
    dnn_problem p = pixelwise(DNN_BACKWARD_WEIGHT, 8, 32, 9, 2);

    (void)state;
    /* the library's own would write past its scratch */
    CHECK(!choice_possible(&p, WAY_LIBRARY) && choice_possible(&p, WAY_PRODUCT));
    CHECK_INT(choice_by_table(&p, EXEC_ANY_WAY), WAY_PRODUCT);
    p.channels = 16;
    CHECK(choice_possible(&p, WAY_LIBRARY) && choice_possible(&p, WAY_PRODUCT));
    p.window[0] = p.window[1] = 3;
    p.pad[0] = p.pad[1] = 1;
    CHECK(choice_possible(&p, WAY_LIBRARY) && !choice_possible(&p, WAY_PRODUCT));
    p = pixelwise(DNN_BACKWARD_WEIGHT, 32, 32, 9, 1);
    p.groups = 32;
    p.window[0] = p.window[1] = 5;
    p.pad[0] = p.pad[1] = 2;
    CHECK_INT(choice_by_table(&p, EXEC_ANY_WAY), WAY_LOOPS);
    p.window[0] = p.window[1] = 8;
    CHECK(!choice_possible(&p, WAY_LOOPS));
    p = (dnn_problem){
        .role = DNN_FORWARD, .linear = DNN_LAYER, .batch = 4, .channels = 8, .kernels = 8};
    CHECK(choice_possible(&p, WAY_LIBRARY) && !choice_possible(&p, WAY_PRODUCT));
}

static dnn_problem threefold(dnn_role role, int64_t channels, int64_t kernels, int64_t size)
{
    dnn_problem p = pixelwise(role, channels, kernels, size, 1);

    p.window[0] = p.window[1] = 3;
    p.pad[0] = p.pad[1] = 1;
    p.out_height = p.height;
    p.out_width = p.width;
    return p;
}

/* Tiles that are mostly edge, thin layers and weights that would take much memory stay where they
 * are. */
static void test_winograd(void **state)
{
    (void)state;
    for (int role = 0; role < 3; role++) {
        dnn_problem p = threefold((dnn_role)role, 64, 128, 14);

        CHECK_INT(choice_by_table(&p, EXEC_ANY_WAY), WAY_WINOGRAD);
        p.batch = 1;
        CHECK_INT(choice_by_table(&p, EXEC_ANY_WAY), WAY_WINOGRAD);
        p = threefold((dnn_role)role, 64, 64, 2);
        CHECK_INT(choice_by_table(&p, EXEC_ANY_WAY), WAY_LIBRARY);
        p = threefold((dnn_role)role, 32, 64, 14);
        CHECK_INT(choice_by_table(&p, EXEC_ANY_WAY), WAY_LIBRARY);
        CHECK(choice_possible(&p, WAY_WINOGRAD));
        p = threefold((dnn_role)role, 512, 512, 14);
        CHECK_INT(choice_by_table(&p, EXEC_ANY_WAY), WAY_LIBRARY);
        p.batch = 16;
        p.renewed = 1;
        CHECK_INT(choice_by_table(&p, EXEC_ANY_WAY), WAY_WINOGRAD);
        p.batch = 2; /* the gradient of the weight needs no packing */
        CHECK_INT(choice_by_table(&p, EXEC_ANY_WAY),
                  role == DNN_BACKWARD_WEIGHT ? WAY_WINOGRAD : WAY_LIBRARY);
        p.batch = 1;
        CHECK_INT(choice_by_table(&p, EXEC_ANY_WAY), WAY_LIBRARY);
        p = threefold((dnn_role)role, 64, 64, 14);
        p.bf16 = 1;
        CHECK(!choice_possible(&p, WAY_WINOGRAD));
    }
}

/* What is not allowed is not taken, measured or not; but where the library has nothing. */
static void test_allowed(void **state)
{
    const unsigned only = EXEC_ONLY(WAY_LIBRARY), but = EXEC_ANY_WAY & ~EXEC_ONLY(WAY_WINOGRAD);
    dnn_problem p = threefold(DNN_FORWARD, 64, 128, 14);
    dnn_library *library;
    choice_list list = {0};
    choice made;

    (void)state;
    CHECK_INT(choice_by_table(&p, but), WAY_LIBRARY);
    CHECK_INT(choice_by_table(&p, only), WAY_LIBRARY);
    made = (choice){.key = choice_key(&p), .way = WAY_WINOGRAD};
    CHECK_OK(choice_add(&list, &made));
    CHECK_INT(choice_of(&list, &p, EXEC_ANY_WAY), WAY_WINOGRAD);
    CHECK_INT(choice_of(&list, &p, but), WAY_LIBRARY);
    choice_list_done(&list);
    CHECK_OK(dnn_open(&library));
    CHECK_OK(measure_ways(&made, library, &p, but, 1));
    CHECK_INT(made.way, WAY_LIBRARY);
    CHECK(isnan(made.seconds[WAY_WINOGRAD]) && !isnan(made.seconds[WAY_LIBRARY]));
    dnn_close(library);
    p = pixelwise(DNN_BACKWARD_DATA, 64, 32, 9, 1);
    CHECK_INT(choice_by_table(&p, but), WAY_PRODUCT);
    CHECK_INT(choice_by_table(&p, only), WAY_LIBRARY);
    p = pixelwise(DNN_BACKWARD_WEIGHT, 8, 32, 9, 2);
    CHECK_INT(choice_by_table(&p, only), WAY_PRODUCT);
}

/* A choice holds for any batch, bias, addend and activation; not for another role. */
static void test_list(void **state)
{
    dnn_problem p = pixelwise(DNN_FORWARD, 64, 32, 9, 1);
    choice made = {.key = choice_key(&p), .way = WAY_PRODUCT};
    choice_list list = {0};

    (void)state;
    CHECK_INT(choice_of(&list, &p, EXEC_ANY_WAY), WAY_LIBRARY);
    for (int i = 0; i < 200; i++) {
        made.key.channels = 64 + i;
        CHECK_OK(choice_add(&list, &made));
    }
    p.batch = 99;
    p.bias = p.adds = 1;
    p.activation = DNN_RELU;
    CHECK_INT(choice_of(&list, &p, EXEC_ANY_WAY), WAY_PRODUCT);
    CHECK(choice_find(&list, &p) == &list.item[0]);
    p.role = DNN_BACKWARD_WEIGHT;
    CHECK(choice_find(&list, &p) == NULL);
    choice_list_done(&list);
}

/* ----------------------------------------------------------------------------------------------
 * texts */

static void test_texts(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 500; seed++) {
        uint64_t draw = seed;
        dnn_problem back, p = pixelwise((dnn_role)(seed % 3), 1 + (int64_t)(seed * 37 % 3000), 7,
                                        1 + (int64_t)(splitmix64(&draw) % 300), 1 + seed % 4);
        char text[EXEC_CHOICE_TEXT];

        p.batch = 0;
        if (seed % 5 == 0)
            p = (dnn_problem){.role = p.role,
                              .linear = DNN_LAYER,
                              .channels = (int64_t)seed,
                              .kernels = INT32_MAX};
        choice_format(text, &p);
        CHECK_MSG(choice_parse(&back, text), "'%s' is not read back", text);
        CHECK_BYTES(&back, &p, sizeof p);
    }
}

static void test_bad_texts(void **state)
{
    static const char *const bad[] = {
        "",
        "weight of linear",
        "weight of linear 3 to 0",
        "weight of linear 3 to 4 ",
        "weight of linear 03 to 4",
        "weight of linear 3 to 4, 5",
        "height of linear 3 to 4",
        "weight of linear 3 to 99999999999999999999999",
        "weight of linear 3 to 4294967296",
        "weight of linear -3 to 4",
        "data of convolution 4 x 2 x 2 to 4 x 2 x 2, window 1 x 1, stride 0 x 1, pad 0 x 0, "
        "dilation 1 x 1, groups 1",
        "data of convolution 4 x 2 x 2 to 4 x 2 x 2, window 1 x 1, stride 1 x 1, pad 0 x 0, "
        "dilation 1 x 1, groups 0",
        "data of convolution 4 x 2 x 2 to 4 x 2 x 2, window 1 x 1, stride 1 x 1, pad 0 x 0, "
        "dilation 1 x 1, groups 4294967297",
        "data of convolution 4 x 2 x 2 to 4 x 2 x 2, window 1 x 1, stride 1 x 1, pad 0 x 0",
    };
    dnn_problem p;

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(bad); i++)
        CHECK_MSG(!choice_parse(&p, bad[i]), "'%s' is taken for a problem", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ways_agree),    cmocka_unit_test(test_clock_decides),
        cmocka_unit_test(test_measure_edges), cmocka_unit_test(test_depthwise),
        cmocka_unit_test(test_possible),      cmocka_unit_test(test_winograd),
        cmocka_unit_test(test_allowed),       cmocka_unit_test(test_list),
        cmocka_unit_test(test_texts),         cmocka_unit_test(test_bad_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
