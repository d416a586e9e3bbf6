/*
 * Marks: the same in pieces of any size, and changed by any changed bit.
 */
#include "check.h"
#include "ckpt/ckpt.h"

static void whole(char out[17], const void *data, size_t n)
{
    mark m = mark_begin();

    mark_add(&m, data, n);
    mark_end(out, &m);
}

static void test_pieces(void **state)
{
    unsigned char data[300];
    char want[17], got[17];

    (void)state;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 37 + 11);
    for (size_t n = 0; n <= sizeof data; n++)
        for (size_t piece = 1; piece <= 70; piece += n % 3 + 1) {
            mark m = mark_begin();

            whole(want, data, n);
            for (size_t at = 0; at < n; at += piece)
                mark_add(&m, data + at, THAW_MIN(piece, n - at));
            mark_end(got, &m);
            CHECK_MSG(strcmp(got, want) == 0, "%zu bytes in pieces of %zu: %s, not %s", n, piece,
                      got, want);
        }
    CHECK_INT(strlen(want), 16);
}

static void test_bits(void **state)
{
    unsigned char data[131] = {0};
    char before[17], after[17];

    (void)state;
    whole(before, data, sizeof data);
    for (size_t bit = 0; bit < 8 * sizeof data; bit++)
        for (size_t other = bit; other < 8 * sizeof data; other += 64) {
            data[bit / 8] ^= (unsigned char)(1 << bit % 8);
            if (other != bit) /* two flips in words of the same lane */
                data[other / 8] ^= (unsigned char)(1 << other % 8);
            whole(after, data, sizeof data);
            CHECK_MSG(strcmp(before, after) != 0, "bits %zu and %zu go unnoticed", bit, other);
            memset(data, 0, sizeof data);
        }
}

/* Zeros more or less at the end are seen, too. */
static void test_length(void **state)
{
    static const unsigned char zeros[100];
    char a[17], b[17];

    (void)state;
    for (size_t n = 0; n < sizeof zeros; n++) {
        whole(a, zeros, n);
        whole(b, zeros, n + 1);
        CHECK(strcmp(a, b) != 0);
    }
}

/* The value is part of the format: it must not change. */
static void test_value(void **state)
{
    char got[17];

    (void)state;
    whole(got, "abc", 3);
    CHECK_STR(got, "59e97bc4dec254b5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_value),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
