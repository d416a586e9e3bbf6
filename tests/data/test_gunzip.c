/*
 * test_gunzip.c - bytes, compressed or not, from files and memory: the same bytes in pieces of any
 * size, and every way a compressed file can be damaged.
 */
#include "data/data.h"

#include "idx_files.h"

static bytes content(size_t n)
{
    bytes b = {.n = n};
    uint64_t state = 1;

    for (size_t i = 0; i < n; i++)
        b.data[i] = (unsigned char)(splitmix64(&state) % 7);
    return b;
}

/* All of it in pieces of `piece` bytes must be `want`, with nothing after it. */
static void check_pieces(byte_source *s, const bytes *want, size_t piece)
{
    bytes got = {0};
    size_t n = piece;

    while (n == piece) {
        CHECK_OK(
            byte_source_read(&n, s, got.data + got.n, THAW_MIN(piece, sizeof got.data - got.n)));
        got.n += n;
    }
    CHECK_INT(got.n, want->n);
    CHECK_BYTES(got.data, want->data, want->n);
    CHECK_OK(byte_source_finish(s));
}

static void test_same_bytes(void **state)
{
    static const size_t size[] = {0, 1, 2, 3, 1000, 50000}, piece[] = {1, 7, 4096, 60000};
    char *folder = check_folder();

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(size); i++)
        for (size_t k = 0; k < THAW_COUNT(piece); k++)
            for (int packed = 0; packed < 2; packed++) {
                const bytes want = content(size[i]);
                const bytes file = packed ? gzip_of(&want) : want;
                byte_source *s = NULL;

                CHECK_OK(byte_source_open(&s, write_bytes(folder, "any", &file)));
                check_pieces(s, &want, piece[k]);
                byte_source_close(s);
                CHECK_OK(byte_source_open_memory(&s, file.data, file.n, "memory"));
                CHECK(byte_source_most(s) >= want.n);
                check_pieces(s, &want, piece[k]);
                byte_source_close(s);
            }
    check_folder_remove(folder);
}

static thaw_status read_all(const bytes *b, size_t n)
{
    static unsigned char buffer[1 << 16];
    byte_source *s = NULL;
    size_t got = 0;
    thaw_status status = byte_source_open_memory(&s, b->data, b->n, "some.gz");

    if (status == THAW_OK)
        status = byte_source_read(&got, s, buffer, n);
    if (status == THAW_OK && got < n)
        status = thaw_fail(THAW_E_DATA, "only %zu bytes", got);
    if (status == THAW_OK)
        status = byte_source_finish(s);
    byte_source_close(s);
    return status;
}

static void test_damage(void **state)
{
    const bytes plain = content(5000), packed = gzip_of(&plain);
    bytes b;

    (void)state;
    CHECK_OK(read_all(&packed, 5000));
    for (size_t n = 2; n < packed.n; n++) {
        b = packed;
        b.n = n;
        CHECK_ERROR(read_all(&b, 5000), THAW_E_DATA, "'some.gz' is cut short");
    }
    b = packed;
    b.data[packed.n - 4] ^= 1;
    CHECK_ERROR(read_all(&b, 5000), THAW_E_DATA, "incorrect length check");
    b = packed;
    b.data[packed.n - 8] ^= 1;
    CHECK_ERROR(read_all(&b, 5000), THAW_E_DATA, "incorrect data check");
    b = packed;
    b.data[2] = 7;
    CHECK_ERROR(read_all(&b, 5000), THAW_E_DATA, "unknown compression method");
    b = packed;
    memcpy(b.data + b.n, "junk", 4);
    b.n += 4;
    CHECK_ERROR(read_all(&b, 5000), THAW_E_DATA, "4 bytes after the end");
    CHECK_ERROR(read_all(&packed, 4999), THAW_E_DATA, "too long");
    CHECK_ERROR(read_all(&plain, 4999), THAW_E_DATA, "1 bytes follow the last element");
    for (size_t i = 10; i < packed.n; i++) { /* after the header, whose bits have no checksum */
        b = packed;
        b.data[i] ^= 4;
        CHECK_STATUS(read_all(&b, 5000), THAW_E_DATA);
    }
}

static void test_bomb_is_not_inflated(void **state)
{
    static unsigned char small[16];
    const bytes zeros = {.n = sizeof zeros.data}, packed = gzip_of(&zeros);
    byte_source *s = NULL;
    size_t got = 0;

    (void)state;
    CHECK_MSG(packed.n < 200, "64 KiB of zeros take %zu bytes", packed.n);
    CHECK_OK(byte_source_open_memory(&s, packed.data, packed.n, "bomb"));
    CHECK(byte_source_most(s) >= zeros.n);
    CHECK_OK(byte_source_read(&got, s, small, sizeof small));
    CHECK_INT(got, sizeof small);
    CHECK_ERROR(byte_source_finish(s), THAW_E_DATA, "too long");
    byte_source_close(s);
}

static void test_missing(void **state)
{
    byte_source *s = NULL;

    (void)state;
    CHECK_ERROR(byte_source_open(&s, "/nowhere/at.all"), THAW_E_MISSING, "/nowhere/at.all");
    CHECK_STATUS(byte_source_open(&s, "/"), THAW_E_DATA);
    CHECK(s == NULL);
    byte_source_close(NULL);
}

static void test_no_memory(void **state)
{
    const bytes plain = content(3000), packed = gzip_of(&plain);

    (void)state;
    for (int n = 1, more = 1; more; n++) {
        thaw_status status;

        check_alloc_fail(n, false);
        status = read_all(&packed, 3000);
        more = check_alloc_restore();
        CHECK_STATUS(status, more ? THAW_E_NOMEM : THAW_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_bomb_is_not_inflated),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests_name("data/gunzip", tests, NULL, NULL);
}
