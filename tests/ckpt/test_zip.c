/*
 * The directory of an archive, built here: what is right is found; every field that lies about
 * places, sizes or kinds is refused.
 */
#include <fcntl.h>

#include "check.h"
#include "ckpt/ckpt.h"

/* Two entries "a/x" with 4 bytes and "a/y" with 3, the directory at 73, its end record at 171. */
enum {
    NAME = 3,
    LOCAL_X = 0,
    LOCAL_Y = 37,
    CENTRAL_X = 73,
    CENTRAL_Y = CENTRAL_X + 49,
    END = CENTRAL_Y + 49,
    SIZE = END + 22
};

static void put(unsigned char *p, uint64_t v, int n)
{
    for (int i = 0; i < n; i++)
        p[i] = (unsigned char)(v >> 8 * i);
}

static void put_entry(unsigned char *z, int local, int central, const char *name, const char *data)
{
    const size_t n = strlen(data);

    memcpy(z + local, "PK\3\4", 4);
    put(z + local + 26, NAME, 2);
    memcpy(z + local + 30, name, NAME);
    memcpy(z + local + 30 + NAME, data, n);
    memcpy(z + central, "PK\1\2", 4);
    put(z + central + 20, n, 4);
    put(z + central + 24, n, 4);
    put(z + central + 28, NAME, 2);
    put(z + central + 42, (uint64_t)local, 4);
    memcpy(z + central + 46, name, NAME);
}

static void build(unsigned char z[SIZE])
{
    memset(z, 0, SIZE);
    put_entry(z, LOCAL_X, CENTRAL_X, "a/x", "XXXX");
    put_entry(z, LOCAL_Y, CENTRAL_Y, "a/y", "YYY");
    memcpy(z + END, "PK\5\6", 4);
    put(z + END + 8, 2, 2);
    put(z + END + 10, 2, 2);
    put(z + END + 12, END - CENTRAL_X, 4);
    put(z + END + 16, CENTRAL_X, 4);
}

static thaw_status read_bytes(zip_file **out, const void *data, size_t n)
{
    char path[] = "/tmp/thaw-zip-XXXXXX";
    const int fd = mkstemp(path);
    thaw_status status;

    CHECK(fd >= 0 && write(fd, data, n) == (ssize_t)n);
    unlink(path);
    *out = NULL;
    status = zip_read(out, fd, (int64_t)n);
    close(fd);
    return status;
}

static void test_found(void **state)
{
    unsigned char z[SIZE];
    zip_file *f;

    (void)state;
    build(z);
    CHECK_OK(read_bytes(&f, z, SIZE));
    CHECK_INT(f->n, 2);
    CHECK_INT(zip_find(f, "a/x")->begin, 33);
    CHECK_INT(zip_find(f, "a/x")->bytes, 4);
    CHECK_INT(zip_find(f, "a/y")->begin, 70);
    CHECK(zip_find(f, "a") == NULL);
    zip_destroy(f);
}

static const struct {
    int at;
    uint64_t value;
    int bytes;
    thaw_status status;
    const char *message;
} spoiled[] = {
    {END, 0, 4, THAW_E_DATA, "does not end with its directory"},
    {END + 4, 1, 2, THAW_E_SUPPORT, "several disks"},
    {END + 10, 3, 2, THAW_E_SUPPORT, "several disks"},
    {END + 8, 0x00030003, 4, THAW_E_DATA, "too short for 3 entries"},
    {END + 8, 0x00010001, 4, THAW_E_DATA, "49 bytes after the last entry"},
    {END + 12, 99, 4, THAW_E_DATA, "does not end where it should, at 171"},
    {END + 16, 0xFFFFFFFF, 4, THAW_E_DATA, "does not end where it should"},
    {CENTRAL_X, 0, 4, THAW_E_DATA, "entry 0 of the archive's directory is damaged"},
    {CENTRAL_Y, 0, 4, THAW_E_DATA, "entry 1 of the archive's directory is damaged"},
    {CENTRAL_X + 8, 1, 2, THAW_E_SUPPORT, "entry 'a/x': it is encrypted"},
    {CENTRAL_X + 10, 8, 2, THAW_E_SUPPORT, "entry 'a/x': it is compressed"},
    {CENTRAL_X + 20, 3, 4, THAW_E_DATA, "entry 'a/x': stored in 3 bytes, it has 4"},
    {CENTRAL_X + 28, 0, 2, THAW_E_DATA, "no plain path"},
    {CENTRAL_X + 28, 200, 2, THAW_E_DATA, "cut off"},
    {CENTRAL_X + 34, 1, 2, THAW_E_SUPPORT, "another disk"},
    {CENTRAL_X + 42, 37, 4, THAW_E_DATA, "does not agree with the directory"},
    {CENTRAL_X + 42, 0xFFFFFFF0, 4, THAW_E_DATA, "outside of the archive"},
    {CENTRAL_X + 46, 0x2E2E2F, 3, THAW_E_DATA, "no plain path"},
    {CENTRAL_X + 46, 0x2E2F61, 3, THAW_E_DATA, "no plain path"},
    {CENTRAL_X + 46, 0x2F2E2E, 3, THAW_E_DATA, "no plain path"},
    {CENTRAL_X + 46, 0x785C61, 3, THAW_E_DATA, "no plain path"},
    {CENTRAL_X + 46, 0x780061, 3, THAW_E_DATA, "no plain path"},
    {LOCAL_X, 0, 4, THAW_E_DATA, "does not agree with the directory"},
    {LOCAL_X + 8, 8, 2, THAW_E_DATA, "does not agree with the directory"},
    {LOCAL_X + 28, 0xFFFF, 2, THAW_E_DATA, "entry 'a/x': its 4 bytes go beyond the archive"},
    {LOCAL_X + 28, 4, 2, THAW_E_DATA, "entries 'a/x' and 'a/y' overlap"},
};

static void test_spoiled(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(spoiled); i++) {
        unsigned char z[SIZE];
        zip_file *f;

        build(z);
        put(z + spoiled[i].at, spoiled[i].value, spoiled[i].bytes);
        CHECK_ERROR(read_bytes(&f, z, SIZE), spoiled[i].status, spoiled[i].message);
        CHECK_MSG(f == NULL, "row %zu was made", i);
    }
    CHECK_INT(thaw__mem_current(), 0);
}

static void test_sizes(void **state)
{
    unsigned char z[SIZE];
    zip_file *f;

    (void)state;
    build(z);
    put(z + CENTRAL_X + 20, 5, 4); /* reaches into the next entry */
    put(z + CENTRAL_X + 24, 5, 4);
    CHECK_ERROR(read_bytes(&f, z, SIZE), THAW_E_DATA, "overlap");
    build(z);
    memcpy(z + LOCAL_Y + 30, "a/x", 3);
    memcpy(z + CENTRAL_Y + 46, "a/x", 3);
    CHECK_ERROR(read_bytes(&f, z, SIZE), THAW_E_DATA, "entry 'a/x' is there twice");
    build(z);
    CHECK_ERROR(read_bytes(&f, z, SIZE - 1), THAW_E_DATA, "does not end with its directory");
    CHECK_ERROR(read_bytes(&f, z, 21), THAW_E_DATA, "21 bytes are too few");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found),
        cmocka_unit_test(test_spoiled),
        cmocka_unit_test(test_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
