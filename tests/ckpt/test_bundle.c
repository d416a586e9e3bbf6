/*
 * The tensors of a network in one file, in a folder, and in shards: found by name, read and
 * converted; and shards that are not what the index says are refused.
 */
#include <fcntl.h>

#include "check.h"
#include "ckpt/ckpt.h"

static const float numbers[] = {1, -2, 0.5f, 4, 5, 6};

static const char *in(const char *folder, const char *name)
{
    return check_path(folder, name);
}

static void write_shard(const char *folder, const char *file, const char *const *name, int n)
{
    st_source source[8];
    const char *path = in(folder, file);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    CHECK(fd >= 0 && n <= 6);
    for (int i = 0; i < n; i++)
        source[i] = (st_source){name[i], DTYPE_F32, shape_1(6 - i), numbers + i};
    CHECK_OK(st_write(fd, path, source, n, NULL));
    close(fd);
}

static void write_index(const char *folder, const char *map)
{
    char json[512];

    CHECK(snprintf(json, sizeof json, "{\"weight_map\": {%s}}", map) < (int)sizeof json);
    check_write_file(in(folder, "model.safetensors.index.json"), json, strlen(json));
}

static void write_two(const char *folder)
{
    write_shard(folder, "m-1.safetensors", (const char *[]){"conv.weight", "bn.bias"}, 2);
    write_shard(folder, "m-2.safetensors", (const char *[]){"fc.weight"}, 1);
}

static int setup(void **state)
{
    *state = check_folder();
    return 0;
}

static int teardown(void **state)
{
    check_folder_remove(*state);
    return 0;
}

#define GOOD_MAP                                                                                   \
    "\"fc.weight\": \"m-2.safetensors\", \"conv.weight\": \"m-1.safetensors\", "                   \
    "\"bn.bias\": \"m-1.safetensors\""

static void test_shards(void **state)
{
    static const char *const name[] = {"bn.bias", "conv.weight", "fc.weight"};
    bundle *b = NULL;
    double got[6];

    write_two(*state);
    write_index(*state, GOOD_MAP);
    CHECK_OK(bundle_open(&b, *state));
    CHECK_INT(b->n, 3);
    CHECK_CONTAINS(b->path, "model.safetensors.index.json");
    for (int i = 0; i < 3; i++)
        CHECK_STR(b->entry[i].name, name[i]);
    CHECK_INT(bundle_find(b, "bn.bias")->shape.dim[0], 5);
    CHECK(bundle_find(b, "bn") == NULL);
    CHECK_OK(bundle_read(got, DTYPE_F64, b, bundle_find(b, "bn.bias")));
    CHECK_CLOSE(got, numbers + 1, 5, 0, 0);
    CHECK_OK(bundle_read(got, DTYPE_F64, b, bundle_find(b, "fc.weight")));
    CHECK_CLOSE(got, numbers, 6, 0, 0);
    bundle_close(b);
}

/* One file is taken before an index, a file may be given itself, and a folder may have neither. */
static void test_one_file(void **state)
{
    bundle *b = NULL;

    CHECK_ERROR(bundle_open(&b, *state), THAW_E_MISSING, "has no weights: 'model.safetensors'");
    write_index(*state, GOOD_MAP);
    CHECK_ERROR(bundle_open(&b, *state), THAW_E_MISSING, "m-2.safetensors");
    write_shard(*state, "model.safetensors", (const char *[]){"x"}, 1);
    CHECK_OK(bundle_open(&b, *state));
    CHECK_INT(b->n, 1);
    CHECK_CONTAINS(b->path, "/model.safetensors");
    bundle_close(b);
    CHECK_OK(bundle_open(&b, in(*state, "model.safetensors")));
    CHECK(bundle_find(b, "x") != NULL);
    bundle_close(b);
    b = NULL;
    CHECK_ERROR(bundle_open(&b, in(*state, "none.safetensors")), THAW_E_MISSING, "none");
    CHECK(b == NULL);
}

static void test_not_as_listed(void **state)
{
    static const struct {
        const char *map, *message;
    } row[] = {
        {GOOD_MAP ", \"more\": \"m-2.safetensors\"",
         "tensor 'more' is not in 'm-2.safetensors', where it is listed"},
        {"\"fc.weight\": \"m-2.safetensors\", \"conv.weight\": \"m-1.safetensors\"",
         "tensor 'bn.bias' of shard 'm-1.safetensors' is not listed"},
        {"\"fc.weight\": \"m-2.safetensors\", \"conv.weight\": \"m-1.safetensors\", "
         "\"bn.bias\": \"m-2.safetensors\"",
         "tensor 'bn.bias' is listed in 'm-2.safetensors', but 'm-1.safetensors' holds it"},
    };

    write_two(*state);
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        bundle *b = NULL;

        write_index(*state, row[i].map);
        CHECK_ERROR(bundle_open(&b, *state), THAW_E_DATA, row[i].message);
        CHECK_CONTAINS(thaw_error(), "model.safetensors.index.json");
        CHECK(b == NULL);
    }
    CHECK_INT(thaw__mem_current(), 0);
}

static void test_no_memory(void **state)
{
    bool more = true;

    write_two(*state);
    write_index(*state, GOOD_MAP);
    for (long n = 1; more; n++) {
        bundle *b = NULL;
        thaw_status status;

        check_alloc_fail(n, false);
        status = bundle_open(&b, *state);
        more = check_alloc_restore();
        CHECK_MSG(status == (more ? THAW_E_NOMEM : THAW_OK), "allocation %ld: %s '%s'", n,
                  thaw_status_name(status), thaw_error());
        bundle_close(b);
        CHECK_INT(thaw__mem_current(), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_shards, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_as_listed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
