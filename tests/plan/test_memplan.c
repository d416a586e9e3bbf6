/*
 * test_memplan.c - random blocks: what lives at the same step never overlaps, and the arena is not
 * much larger than the most that lives at once.
 */
#include "check.h"

#include "plan/plans.h"

#define BLOCKS 200

static void check_layout(const memory_block *block, size_t n, size_t total, uint64_t seed)
{
    for (size_t a = 0; a < n; a++) {
        CHECK_MSG(block[a].offset % MEMORY_ALIGN == 0, "seed %llu: block %zu at %zu",
                  (unsigned long long)seed, a, block[a].offset);
        CHECK_MSG(block[a].offset + block[a].bytes <= total,
                  "seed %llu: block %zu ends at %zu of %zu", (unsigned long long)seed, a,
                  block[a].offset + block[a].bytes, total);
        for (size_t b = 0; b < a; b++)
            CHECK_MSG(block[a].first > block[b].last || block[b].first > block[a].last ||
                          block[a].offset >= block[b].offset + block[b].bytes ||
                          block[b].offset >= block[a].offset + block[a].bytes,
                      "seed %llu: blocks %zu [%zu, +%zu) and %zu [%zu, +%zu) overlap",
                      (unsigned long long)seed, a, block[a].offset, block[a].bytes, b,
                      block[b].offset, block[b].bytes);
    }
}

/* Returns arena / bound. */
static double run_random(uint64_t seed, int longest)
{
    memory_block block[BLOCKS];
    uint64_t random = seed;
    const size_t n = splitmix64(&random) % BLOCKS + 1;
    size_t total = 0, bound;

    for (size_t i = 0; i < n; i++) {
        const int first = (int)(splitmix64(&random) % 300);

        block[i] = (memory_block){.bytes = splitmix64(&random) %
                                           ((size_t)1 << (splitmix64(&random) % 16 + 1)),
                                  .first = first,
                                  .last = first + (int)(splitmix64(&random) % (uint64_t)longest)};
    }
    CHECK_OK(thaw__memory_layout(&total, block, n));
    check_layout(block, n, total, seed);
    bound = thaw__memory_bound(block, n);
    CHECK_MSG(total >= bound, "seed %llu: %zu bytes for %zu", (unsigned long long)seed, total,
              bound);
    return (double)total / (double)bound;
}

static void random_blocks_do_not_overlap(void **state)
{
    const char *const from = getenv("THAW_TEST_SEED");
    const uint64_t first = from ? strtoull(from, NULL, 10) : 1;
    double worst = 0, sum = 0;
    int n = 0;

    (void)state;
    for (uint64_t seed = first; seed < first + 300; seed++, n++) {
        const double ratio = run_random(seed, seed % 3 == 0 ? 300 : 20);

        CHECK_MSG(ratio <= 1.3, "seed %llu: the arena is %g times the bound",
                  (unsigned long long)seed, ratio);
        worst = THAW_MAX(worst, ratio);
        sum += ratio;
    }
    CHECK_MSG(sum / n < 1.05, "the arena is %g times the bound on average, %g at worst", sum / n,
              worst);
}

static void blocks_that_never_meet_share_one_place(void **state)
{
    memory_block block[] = {{100, 0, 1, 9}, {60, 2, 2, 9}, {90, 3, 9, 9}};
    size_t total = 0;

    (void)state;
    CHECK_OK(thaw__memory_layout(&total, block, 3));
    CHECK_INT(total, 128);
    for (int i = 0; i < 3; i++)
        CHECK_INT(block[i].offset, 0);
}

static void the_bound_counts_what_lives_together(void **state)
{
    const memory_block block[] = {{64, 0, 4, 0}, {65, 3, 6, 0}, {1, 4, 4, 0}, {1000, 7, 7, 0}};

    (void)state;
    CHECK_INT(thaw__memory_bound(block, 3), 64 + 128 + 64);
    CHECK_INT(thaw__memory_bound(block, 4), 1024);
    CHECK_INT(thaw__memory_bound(block, 0), 0);
}

static void sizes_that_overflow_are_refused(void **state)
{
    memory_block block[] = {{SIZE_MAX / 2 + 1, 0, 1, 0}, {SIZE_MAX / 2 + 1, 1, 2, 0}};
    size_t total = 77;

    (void)state;
    CHECK_STATUS(thaw__memory_layout(&total, block, 2), THAW_E_SHAPE);
    block[0].bytes = SIZE_MAX;
    CHECK_STATUS(thaw__memory_layout(&total, block, 1), THAW_E_SHAPE);
    CHECK_INT(total, 77);
}

/* Real networks: the arena is nearly what must live at once (each chain of steps in place once). */
static void networks_waste_little(void **state)
{
    static const int depth[4] = {3, 4, 6, 3};

    (void)state;
    for (int training = 0; training < 2; training++) {
        net n = net_create(DTYPE_F32);
        const value_id output = net_resnet(&n, depth);
        memory_block block[2048];
        size_t n_blocks = 0, bound;
        setup s;
        plan *p;

        setup_init(&s, n, output);
        s.request.training = training;
        s.request.inplace = false;
        p = setup_compile(&s);
        for (int i = 0; i < p->n_slots; i++)
            if (p->slot[i].place == SLOT_ARENA)
                block[n_blocks++] = (memory_block){
                    .bytes = p->slot[i].bytes, .first = p->slot[i].first, .last = p->slot[i].last};
        bound = thaw__memory_bound(block, n_blocks);
        CHECK_MSG((double)p->arena_bytes <= 1.02 * (double)bound, "training %d: %zu for %zu",
                  training, p->arena_bytes, bound);
        plan_destroy(p);
        setup_done(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_blocks_do_not_overlap),
        cmocka_unit_test(blocks_that_never_meet_share_one_place),
        cmocka_unit_test(the_bound_counts_what_lives_together),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(networks_waste_little),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
