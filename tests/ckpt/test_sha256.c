/*
 * Digests: the examples of FIPS 180-4, whole and in pieces.
 */
#include "check.h"
#include "ckpt/ckpt.h"

static void test_examples(void **state)
{
    static const char *const example[][2] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(example); i++) {
        const char *data = example[i][0];
        char got[65] = "";
        sha256 *h = NULL;

        sha256_hex(got, data, strlen(data));
        CHECK_STR(got, example[i][1]);
        CHECK_OK(sha256_begin(&h));
        for (const char *p = data; *p; p++)
            sha256_add(h, p, 1);
        sha256_end(got, h);
        CHECK_STR(got, example[i][1]);
    }
}

/* Ended without being wanted, and never begun: nothing leaks, nothing breaks. */
static void test_unwanted(void **state)
{
    sha256 *h = NULL;

    (void)state;
    CHECK_OK(sha256_begin(&h));
    sha256_add(h, "x", 1);
    sha256_end(NULL, h);
    sha256_end(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_examples),
        cmocka_unit_test(test_unwanted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
