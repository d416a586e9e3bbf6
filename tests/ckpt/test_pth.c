/*
 * Files of torch.save: those that record_torch.py recorded, with every element compared, and where
 * THAW_TORCH_FILES names another folder of them, those. Then spoiled ones, which are refused in one
 * line and cost little memory.
 */
#include <fcntl.h>
#include <inttypes.h>

#include "check.h"
#include "ckpt/ckpt.h"

static const char *recorded_folder(void)
{
    const char *given = getenv("THAW_TORCH_FILES");

    return given ? given : THAW_TEST_DIR "/ckpt/torch";
}

static const char *path_of(const char *name)
{
    char file[64];

    CHECK(snprintf(file, sizeof file, "%s.pth", name) < (int)sizeof file);
    return check_path(recorded_folder(), file);
}

/* ----------------------------------------------------------------------------------------------
 * what is right
 */

static void compare_tensor(const char *file, const bundle *b, FILE *want)
{
    char name[128], type[8];
    double number[64], got[64];
    const bundle_entry *e;
    shape s = {0};
    size_t n;

    CHECK(fscanf(want, "%127s %7s %d", name, type, &s.rank) == 3);
    for (int i = 0; i < s.rank; i++)
        CHECK(fscanf(want, "%" SCNd64, &s.dim[i]) == 1);
    CHECK_OK(shape_elements(&n, &s));
    CHECK(n <= 64);
    for (size_t i = 0; i < n; i++)
        CHECK(fscanf(want, "%lf", &number[i]) == 1);
    e = bundle_find(b, name);
    CHECK_MSG(e, "%s: there is no '%s'", file, name);
    CHECK_STR(dtype_safetensors(e->dtype), type);
    CHECK_MSG(shape_equal(&e->shape, &s), "%s: '%s' has another shape", file, name);
    CHECK_OK(bundle_read(got, DTYPE_F64, b, e));
    CHECK_CLOSE(got, number, n, 0, 0);
}

static void test_recorded(void **state)
{
    FILE *want = fopen(check_path(recorded_folder(), "tensors.txt"), "r");
    char name[32];
    int n, files = 0;

    (void)state;
    CHECK(want != NULL);
    while (fscanf(want, "%31s %d", name, &n) == 2) {
        bundle *b = NULL;

        CHECK_OK(bundle_open(&b, path_of(name)));
        CHECK_INT(b->n, n);
        for (int i = 0; i < n; i++)
            compare_tensor(name, b, want);
        bundle_close(b);
        files++;
    }
    CHECK_INT(files, 10);
    fclose(want);
    CHECK_INT(thaw__mem_current(), 0);
}

/* Averaged weights are taken before the others, and it is said which. */
static void test_taken_from(void **state)
{
    static const struct {
        const char *file, *key;
    } row[] = {{"training", "state_dict_ema"}, {"plain_dict", "model"}, {"network", NULL}};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        pth_file *f = NULL;

        CHECK_OK(pth_open(&f, path_of(row[i].file)));
        CHECK_STR(f->taken_from, row[i].key);
        pth_close(f);
    }
}

static void test_folder_with_bin(void **state)
{
    char *folder = check_folder(), *data;
    bundle *b = NULL;
    size_t size;

    (void)state;
    data = check_read_file(&size, path_of("network"));
    check_write_file(check_path(folder, "pytorch_model.bin"), data, size);
    CHECK_OK(bundle_open(&b, folder));
    CHECK(bundle_find(b, "0.weight") != NULL);
    bundle_close(b);
    free(data);
    check_folder_remove(folder);
}

/* ----------------------------------------------------------------------------------------------
 * what is not
 */

/* Open these bytes; whatever comes of it, it is one line, or a file whose tensors can be read. */
static void try_bytes(const char *path, const char *data, size_t n)
{
    bundle *b = NULL;
    void *out;
    size_t bytes;

    check_write_file(path, data, n);
    if (bundle_open(&b, path) != THAW_OK) {
        CHECK_MSG(!strchr(thaw_error(), '\n'), "two lines: '%s'", thaw_error());
        CHECK_CONTAINS(thaw_error(), path);
        return;
    }
    for (int i = 0; i < b->n; i++) {
        CHECK_OK(shape_bytes(&bytes, &b->entry[i].shape, b->entry[i].dtype));
        out = malloc(bytes + 1);
        CHECK_OK(bundle_read(out, b->entry[i].dtype, b, &b->entry[i]));
        free(out);
    }
    bundle_close(b);
}

/* Cut anywhere; and with any byte of it changed. */
static void spoil(const char *name)
{
    char *folder = check_folder(), path[512];
    uint64_t seed = hash_fnv1a(name);
    size_t size;
    char *data = check_read_file(&size, path_of(name));

    CHECK(snprintf(path, sizeof path, "%s/x.pth", folder) < (int)sizeof path);
    thaw__mem_peak_reset();
    for (int i = 0; i < 300; i++)
        try_bytes(path, data, splitmix64(&seed) % size);
    for (int i = 0; i < 2000; i++) {
        char *const at = data + splitmix64(&seed) % size;
        const char was = *at;

        *at = (char)splitmix64(&seed);
        try_bytes(path, data, size);
        *at = was;
    }
    CHECK_MSG(thaw__mem_peak() < (size_t)64 << 20, "%zu bytes at once", thaw__mem_peak());
    free(data);
    check_folder_remove(folder);
    CHECK_INT(thaw__mem_current(), 0);
}

static void test_spoiled(void **state)
{
    (void)state;
    spoil("views");
    spoil("old_views");
    spoil("training");
}

static void test_not_torch(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *message;
    } row[] = {
        {"PK\3\4", 4, "4 bytes are too few for a zip archive"},
        {"PK\3\4 and something that is no directory at all", 46, "does not end with its directory"},
        {"\x80\x02\x8A\x0A\x6C\xFC\x9C\x46", 8, "no file of torch.save"},
        {"\x80\x02\x8A\x0A\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19.", 15, "the pickle is cut off"},
        {"\x80\x02\x8A\x0A\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19.\x80\x02M\xEA\x03.", 21,
         "a version of torch.save's form that is not known"},
    };
    char *folder = check_folder();
    const char *path = check_path(folder, "x.pth");

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        bundle *b = NULL;

        check_write_file(path, row[i].bytes, row[i].n);
        CHECK_MSG(bundle_open(&b, path) != THAW_OK, "row %zu opens", i);
        CHECK_CONTAINS(thaw_error(), row[i].message);
        CHECK_CONTAINS(thaw_error(), "x.pth");
    }
    check_folder_remove(folder);
}

static void test_no_memory(void **state)
{
    bool more = true;

    (void)state;
    for (long n = 1; more; n++) {
        bundle *b = NULL;
        thaw_status status;

        check_alloc_fail(n, false);
        status = bundle_open(&b, path_of("training"));
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
        cmocka_unit_test(test_recorded),        cmocka_unit_test(test_taken_from),
        cmocka_unit_test(test_folder_with_bin), cmocka_unit_test(test_spoiled),
        cmocka_unit_test(test_not_torch),       cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
