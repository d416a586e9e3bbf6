/* test_rng.c - known answers of the generators, and permutations that are ones. */
#include "base/base.h"

#include "check.h"

/* Vectors of the Random123 distribution for philox4x32-10. */
static void philox_known_answers(void **state)
{
    static const struct {
        uint32_t key[2];
        uint64_t high, low;
        uint32_t want[4];
    } row[] = {
        {{0, 0}, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff},
         UINT64_MAX,
         UINT64_MAX,
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0xa4093822, 0x299f31d0},
         UINT64_C(0x0370734413198a2e),
         UINT64_C(0x85a308d3243f6a88),
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        uint32_t out[4];

        philox(out, (philox_key){{row[i].key[0], row[i].key[1]}}, row[i].high, row[i].low);
        CHECK_BYTES(out, row[i].want, sizeof out);
    }
}

static void hashes_known_answers(void **state)
{
    uint64_t s = 0;

    (void)state;
    CHECK(hash_fnv1a("") == UINT64_C(0xcbf29ce484222325));
    CHECK(hash_fnv1a("a") == UINT64_C(0xaf63dc4c8601ec8c));
    CHECK(hash_fnv1a("foobar") == UINT64_C(0x85944171f73967e8));
    CHECK(splitmix64(&s) == UINT64_C(0xe220a8397b1dcdaf));
    CHECK(splitmix64(&s) == UINT64_C(0x6e789e6aa1b965f4));
}

static void permutations_hit_everything_once(void **state)
{
    static const uint64_t size[] = {1, 2, 3, 4, 5, 16, 17, 100, 1000, 4097};
    char seen[5000];

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(size); i++)
        for (uint64_t seed = 0; seed < 5; seed++) {
            const philox_key key = philox_stream(seed, "order");

            memset(seen, 0, sizeof seen);
            for (uint64_t k = 0; k < size[i]; k++) {
                const uint64_t p = permute(k, size[i], key);

                CHECK_MSG(p < size[i] && !seen[p], "n %d, seed %d: %d comes twice", (int)size[i],
                          (int)seed, (int)p);
                seen[p] = 1;
            }
        }
}

/* Orders of different epochs differ, and look shuffled: an element stays in its place about once in
 * an order. */
static void permutations_shuffle(void **state)
{
    int stays = 0, same = 0;

    (void)state;
    for (uint64_t epoch = 0; epoch < 100; epoch++)
        for (uint64_t k = 0; k < 1000; k++) {
            const uint64_t p = permute(k, 1000, philox_stream(epoch, "order"));

            stays += p == k;
            same += p == permute(k, 1000, philox_stream(epoch + 1, "order"));
        }
    CHECK_MSG(stays > 50 && stays < 200, "%d of 100000 stay, expected about 100", stays);
    CHECK_MSG(same > 50 && same < 200, "%d of 100000 repeat, expected about 100", same);
}

static void streams_differ_by_name_and_seed(void **state)
{
    const philox_key a = philox_stream(1, "dropout"), b = philox_stream(2, "dropout"),
                     c = philox_stream(1, "flip");

    (void)state;
    CHECK(memcmp(&a, &b, sizeof a) != 0 && memcmp(&a, &c, sizeof a) != 0);
    CHECK(philox_uniform(0) == 0 && philox_uniform(UINT32_MAX) < 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(hashes_known_answers),
        cmocka_unit_test(permutations_hit_everything_once),
        cmocka_unit_test(permutations_shuffle),
        cmocka_unit_test(streams_differ_by_name_and_seed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
