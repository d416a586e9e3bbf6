/*
 * Digests of many messages at once are those that libcrypto makes of each, for every number of
 * lanes that the machine can do, however long the messages are and wherever they lie.
 */
#include <fcntl.h>

#include "check.h"
#include "ckpt/ckpt.h"
#include "faults.h"

enum { BYTES = 200000, MOST = 100 };

static const int widths[] = {16, 8, 1};

static unsigned char *some_bytes(void)
{
    unsigned char *data = malloc(BYTES);
    uint64_t seed = 7;

    CHECK(data != NULL);
    for (int i = 0; i < BYTES; i++)
        data[i] = (unsigned char)splitmix64(&seed);
    return data;
}

static void check_all(const sha256_message *m, int n, int lanes, const unsigned char *data)
{
    char want[65];

    for (int i = 0; i < n; i++) {
        const unsigned char *at = m[i].data ? m[i].data : data + m[i].begin;

        sha256_hex(want, at, m[i].n);
        CHECK_MSG(!strcmp(m[i].hex, want), "%d lanes, message %d of %d, %zu bytes%s: %s, not %s",
                  lanes, i, n, m[i].n, m[i].data ? "" : " of a file", m[i].hex, want);
    }
}

/* Every length up to some blocks, alone and beside others of other lengths. */
static void test_lengths(void **state)
{
    unsigned char *data = some_bytes();
    sha256_message m[MOST];

    (void)state;
    for (size_t w = 0; w < THAW_COUNT(widths); w++)
        for (size_t length = 0; length <= 260; length++)
            for (int n = 1; n <= 3; n++) {
                for (int i = 0; i < n; i++)
                    m[i] = (sha256_message){.data = data + i, .n = length + 29 * (size_t)i};
                CHECK_OK(sha256_all(m, n, widths[w]));
                check_all(m, n, widths[w], data);
            }
    free(data);
}

/* Any number of messages of any lengths, in memory and in files, the latter also longer than what
 * is read at a time. */
static void test_many(void **state)
{
    static const size_t edges[] = {0, 32767, 32768, 32769, 65535, 65536, 98304, 131072 + 55};
    char *folder = check_folder();
    unsigned char *data = some_bytes();
    sha256_message m[MOST];
    uint64_t seed = 11;
    int fd;

    (void)state;
    check_write_file(check_path(folder, "bytes"), data, BYTES);
    fd = open(check_path(folder, "bytes"), O_RDONLY);
    CHECK(fd >= 0);
    for (int round = 0; round < 150; round++) {
        const int n = 1 + (int)(splitmix64(&seed) % MOST);

        for (int i = 0; i < n; i++) {
            const uint64_t x = splitmix64(&seed);
            const size_t length = x % 13 == 0  ? edges[x / 13 % THAW_COUNT(edges)]
                                  : x % 3 == 0 ? x / 16 % 20000
                                               : x / 16 % 700;
            const size_t begin = splitmix64(&seed) % (BYTES - length);

            m[i] = splitmix64(&seed) % 2
                       ? (sha256_message){.data = data + begin, .n = length}
                       : (sha256_message){.fd = fd, .begin = begin, .n = length, .name = "bytes"};
        }
        CHECK_OK(sha256_all(m, n, widths[round % 3]));
        check_all(m, n, widths[round % 3], data);
    }
    CHECK_OK(sha256_all(m, 0, sha256_lanes()));
    close(fd);
    free(data);
    check_folder_remove(folder);
}

/* Each read and each allocation failing: said so, and nothing is left behind. */
static void test_failing(void **state)
{
    char *folder = check_folder();
    unsigned char *data = some_bytes();
    const size_t before = thaw__mem_current();
    int fd;

    (void)state;
    check_write_file(check_path(folder, "bytes"), data, BYTES);
    fd = open(check_path(folder, "bytes"), O_RDONLY);
    CHECK(fd >= 0);
    for (size_t w = 0; w < THAW_COUNT(widths); w++) {
        sha256_message m[3] = {
            {.fd = fd, .n = 70000, .name = "bytes"},
            {.data = data, .n = 1000},
            {.fd = fd, .begin = 9, .n = 40000, .name = "bytes"},
        };

        for (long n = 1, more = 1; more; n++) {
            thaw_status status;

            faults_arm(n, EIO, false);
            status = sha256_all(m, 3, widths[w]);
            more = faults_disarm();
            CHECK_INT(status, more ? THAW_E_IO : THAW_OK);
            if (more)
                CHECK_CONTAINS(thaw_error(), "cannot read 'bytes': ");
            CHECK_INT(thaw__mem_current(), before);
        }
        faults_arm(2, FAULT_SHORT, true);
        CHECK_OK(sha256_all(m, 3, widths[w]));
        faults_disarm();
        check_all(m, 3, widths[w], data);
        for (long n = 1, more = 1; more; n++) {
            thaw_status status;

            check_alloc_fail(n, false);
            status = sha256_all(m, 3, widths[w]);
            more = check_alloc_restore();
            CHECK_INT(status, more ? THAW_E_NOMEM : THAW_OK);
            CHECK_INT(thaw__mem_current(), before);
        }
        m[2].n = BYTES;
        CHECK_ERROR(sha256_all(m, 3, widths[w]), THAW_E_IO, "'bytes' ended 9 bytes early");
    }
    close(fd);
    free(data);
    check_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_failing),
    };

    print_message("%d lanes are the fastest here\n", sha256_lanes());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
