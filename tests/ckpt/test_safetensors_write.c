/*
 * Writing safetensors: read back by a reader that shares no code with ours, on jansson.
 */
#include <fcntl.h>

#include <jansson.h>

#include "check.h"
#include "ckpt/ckpt.h"
#include "faults.h"

/* Check one tensor of a file in memory against what was written. */
static void check_tensor(const json_t *header, const char *data, size_t n_data, const st_source *s)
{
    const json_t *t = json_object_get(header, s->name);
    const json_t *at = json_object_get(t, "data_offsets"), *axes = json_object_get(t, "shape");
    const json_int_t begin = json_integer_value(json_array_get(at, 0));
    const json_int_t end = json_integer_value(json_array_get(at, 1));
    size_t bytes = dtype_size(s->dtype);

    CHECK_MSG(t != NULL, "tensor '%s' is missing", s->name);
    CHECK_STR(json_string_value(json_object_get(t, "dtype")), dtype_safetensors(s->dtype));
    CHECK_INT(json_object_size(t), 3);
    CHECK_INT(json_array_size(at), 2);
    CHECK_INT(json_array_size(axes), s->shape.rank);
    for (int i = 0; i < s->shape.rank; i++) {
        CHECK_INT(json_integer_value(json_array_get(axes, (size_t)i)), s->shape.dim[i]);
        bytes *= (size_t)s->shape.dim[i];
    }
    CHECK_INT(end - begin, bytes);
    CHECK((size_t)end <= n_data);
    if (bytes > 0)
        CHECK_BYTES(data + begin, s->data, bytes);
}

static void check_file(const char *path, const st_source *tensor, int n, const char *format)
{
    size_t size = 0, total = 0;
    char *file = check_read_file(&size, path);
    uint64_t length = 0;
    json_error_t error;
    json_t *header;

    CHECK(size >= 8);
    memcpy(&length, file, 8);
    CHECK(length <= size - 8);
    CHECK_INT(length % 8, 0);
    CHECK_INT(file[8], '{');
    header = json_loadb(file + 8, length, JSON_REJECT_DUPLICATES, &error);
    CHECK_MSG(header != NULL, "the header is not JSON: %s", error.text);
    for (int i = 0; i < n; i++) {
        size_t bytes = 0;

        check_tensor(header, file + 8 + length, size - 8 - length, &tensor[i]);
        CHECK_OK(shape_bytes(&bytes, &tensor[i].shape, tensor[i].dtype));
        total += bytes;
    }
    CHECK_INT(total, size - 8 - length);
    CHECK_INT(json_object_size(header), (size_t)n + (format != NULL));
    CHECK_STR(json_string_value(json_object_get(json_object_get(header, "__metadata__"), "format")),
              format);
    json_decref(header);
    free(file);
}

static const float numbers[6] = {1, 2, 3, 4, 5, -6};
static const st_source all[] = {
    {"layer1.0.conv1.weight", DTYPE_F32, {3, {1, 2, 3}}, numbers},
    {"odd", DTYPE_U8, {1, {3}}, numbers},
    {"scalar", DTYPE_F64, {0, {0}}, numbers},
    {"none", DTYPE_BF16, {2, {0, 7}}, NULL},
    {"with \"quotes\" \\ and \xC3\xA4", DTYPE_I64, {1, {2}}, numbers},
};

static void test_round_trip(void **state)
{
    char *folder = check_folder();
    const size_t before = thaw__mem_current();

    (void)state;
    for (int n = 0; n <= (int)THAW_COUNT(all); n++)
        for (int with = 0; with < 2; with++) {
            const char *path = check_path(folder, "f");
            const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
            st_file *f = NULL;

            CHECK_OK(st_write(fd, "f", all, n, with ? "{\"format\":\"pt\"}" : NULL));
            close(fd);
            check_file(path, all, n, with ? "pt" : NULL);
            CHECK_OK(st_open(&f, path));
            CHECK_INT(f->n, n);
            for (int i = 0; i < n; i++) {
                const st_entry *e = st_find(f, all[i].name);

                CHECK(e && e->dtype == all[i].dtype && shape_equal(&e->shape, &all[i].shape));
            }
            st_close(f);
        }
    CHECK_INT(thaw__mem_current(), before);
    check_folder_remove(folder);
}

static void test_refused(void **state)
{
    const st_source twice[] = {{"a", DTYPE_U8, {0, {0}}, numbers},
                               {"a", DTYPE_U8, {0, {0}}, numbers}};
    const st_source reserved = {"__metadata__", DTYPE_U8, {0, {0}}, numbers};
    const st_source empty = {"", DTYPE_U8, {0, {0}}, numbers};
    const st_source large = {"a", DTYPE_F64, {2, {INT64_MAX, 2}}, numbers};
    const st_source unbound = {"a", DTYPE_F32, {1, {DIM_BATCH}}, numbers};

    (void)state;
    CHECK_ERROR(st_write(-1, "f", twice, 2, NULL), THAW_E_USAGE, "two tensors are named 'a'");
    CHECK_ERROR(st_write(-1, "f", &reserved, 1, NULL), THAW_E_USAGE,
                "a tensor cannot be named '__metadata__'");
    CHECK_ERROR(st_write(-1, "f", &empty, 1, NULL), THAW_E_USAGE, "a tensor cannot be named ''");
    CHECK_STATUS(st_write(-1, "f", &large, 1, NULL), THAW_E_SHAPE);
    CHECK_STATUS(st_write(-1, "f", &unbound, 1, NULL), THAW_E_SHAPE);
    CHECK_ERROR(st_write(-1, "f", all, 1, NULL), THAW_E_IO,
                "cannot write 'f': Bad file descriptor");
}

static void test_failing(void **state)
{
    static const int kinds[] = {EIO, ENOSPC, EINTR, FAULT_SHORT};
    char *folder = check_folder();
    const char *path = check_path(folder, "f");
    const size_t before = thaw__mem_current();
    bool more = true;

    (void)state;
    for (long n = 1; more; n++) {
        const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        thaw_status status;

        check_alloc_fail(n, false);
        status = st_write(fd, "f", all, (int)THAW_COUNT(all), NULL);
        more = check_alloc_restore();
        CHECK_INT(status, more ? THAW_E_NOMEM : THAW_OK);
        CHECK_INT(thaw__mem_current(), before);
        close(fd);
    }
    for (size_t k = 0; k < THAW_COUNT(kinds); k++)
        for (int forever = 0; forever < 2; forever++)
            for (long n = 1; n == 1 || more; n++) {
                const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
                thaw_status status;

                faults_arm(n, kinds[k], forever != 0);
                status = st_write(fd, "f", all, (int)THAW_COUNT(all), NULL);
                more = faults_disarm();
                close(fd);
                if (status == THAW_OK)
                    check_file(path, all, (int)THAW_COUNT(all), NULL);
                CHECK_MSG(status == THAW_OK || status == THAW_E_IO, "%s", thaw_status_name(status));
                CHECK_INT(thaw__mem_current(), before);
            }
    check_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_failing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
