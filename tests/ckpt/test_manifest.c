/*
 * Manifests: what is written is read back; anything else is refused, down to the last bit.
 */
#include "saving.h"

#define MARK  "0123456789abcdef"
#define ONES  "1111111111111111111111111111111111111111111111111111111111111111"
#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"

static void test_round_trip(void **state)
{
    manifest_tensor tensors[] = {{"a\"b", ZEROS}, {"c", ONES}};
    const manifest_file files[] = {
        {.name = "m.safetensors",
         .size = 123,
         .by_tensor = true,
         .sha256 = ONES,
         .tensor = tensors,
         .n_tensors = 2},
        {.name = "none.safetensors", .by_tensor = true, .sha256 = ZEROS},
        {.name = "x.json", .sha256 = ZEROS},
    };
    char *folder = check_folder();
    manifest *m = NULL;
    text t = TEXT_INIT;

    (void)state;
    manifest_begin(&t, (ckpt_id){12, 3});
    manifest_add(&t, &files[0], true);
    manifest_add(&t, &files[1], false);
    manifest_add(&t, &files[2], false);
    CHECK_OK(manifest_end(&t));
    check_write_file(check_path(folder, MANIFEST_NAME), t.data, t.length);
    CHECK_OK(manifest_read(&m, folder));
    CHECK_INT(m->id.step, 12);
    CHECK_INT(m->id.edit, 3);
    CHECK_INT(m->format, 2);
    CHECK_INT(m->n, 3);
    CHECK_STR(m->file[0].name, "m.safetensors");
    CHECK_INT(m->file[0].size, 123);
    CHECK(m->file[0].by_tensor && m->file[1].by_tensor && !m->file[2].by_tensor);
    CHECK_STR(m->file[0].sha256, ONES);
    CHECK_INT(m->file[0].n_tensors, 2);
    CHECK_STR(m->file[0].tensor[0].name, "a\"b");
    CHECK_STR(m->file[0].tensor[0].digest, ZEROS);
    CHECK_STR(m->file[0].tensor[1].digest, ONES);
    CHECK_INT(m->file[1].n_tensors, 0);
    CHECK_STR(m->file[2].name, "x.json");
    CHECK_STR(m->file[2].sha256, ZEROS);
    CHECK_INT(m->file[2].n_tensors, 0);
    manifest_destroy(m);

    for (size_t bit = 0; bit < 8 * t.length; bit++) {
        t.data[bit / 8] ^= (char)(1 << bit % 8);
        check_write_file(check_path(folder, MANIFEST_NAME), t.data, t.length);
        CHECK_STATUS(manifest_read(&m, folder), THAW_E_CORRUPT);
        t.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    for (size_t n = 0; n < t.length; n++) {
        check_write_file(check_path(folder, MANIFEST_NAME), t.data, n);
        CHECK_STATUS(manifest_read(&m, folder), THAW_E_CORRUPT);
    }
    text_done(&t);
    check_folder_remove(folder);
}

#define SECOND "{\"format\":2,\"step\":1,\"edit\":0,\"files\":{"

/* With a right digest at its end, as one who means harm would write it. */
static const struct {
    const char *body;
    thaw_status status;
    const char *message;
} refused[] = {
    {"", THAW_E_CORRUPT, "manifest byte 0: '\"' where '{' should come"},
    {"{", THAW_E_CORRUPT, "'self' where 'format' should come"},
    {"{\"format\":0,", THAW_E_CORRUPT, "there is no format 0"},
    {"{\"format\":3,", THAW_E_SUPPORT, "format 3 is newer than this program, which knows 2"},
    {"{\"format\":1,\"edit\":0,", THAW_E_CORRUPT, "'edit' where 'step' should come"},
    {"{\"format\":1,\"step\":-1,", THAW_E_CORRUPT, "'-' where a whole number"},
    {"{\"format\":1,\"step\":1,\"edit\":2147483648,", THAW_E_CORRUPT, "edit 2147483648 is out of"},
    {"{\"format\":1,\"step\":1,\"edit\":0,\"files\":{\"../x\":{", THAW_E_CORRUPT,
     "'../x' cannot be a file of a checkpoint"},
    {"{\"format\":1,\"step\":1,\"edit\":0,\"files\":{\"/etc/passwd\":{", THAW_E_CORRUPT,
     "'/etc/passwd' cannot be a file of a checkpoint"},
    {"{\"format\":1,\"step\":1,\"edit\":0,\"files\":{\"MANIFEST.json\":{", THAW_E_CORRUPT,
     "'MANIFEST.json' cannot be a file of a checkpoint"},
    {"{\"format\":1,\"step\":1,\"edit\":0,\"files\":{\"a\":{\"size\":1,\"sha256\":\"00\"",
     THAW_E_CORRUPT, "'00' is not 64 hexadecimal digits"},
    {"{\"format\":1,\"step\":1,\"edit\":0,\"files\":{\"a\":{\"size\":1,\"sha256\":\"" ZEROS "0\"",
     THAW_E_CORRUPT, "a string longer than 64 bytes"},
    {"{\"format\":1,\"step\":1,\"edit\":0,\"files\":{\"a\":{\"size\":1,\"sha256\":\"" ZEROS
     "\",\"mark\":\"" MARK "\",\"tensors\":{}},\"a\":{",
     THAW_E_CORRUPT, "'a' is listed twice"},
    {"{\"format\":1,\"step\":1,\"edit\":0,\"files\":{\"a\":{\"size\":1,\"sha256\":\"" ZEROS
     "\",\"mark\":\"" MARK "\",\"tensors\":{},\"x\":1}",
     THAW_E_CORRUPT, "more members than there should be"},
    {"{\"format\":1,\"step\":1,\"edit\":0,\"files\":{},\"x\":1,", THAW_E_CORRUPT,
     "'x' where 'self' should come"},
    {"{\"format\":1,\"step\":1,\"edit\":0,\"files\":{\"a\":{\"size\":1,\"header\":\"" ZEROS "\"",
     THAW_E_CORRUPT, "'header' where 'sha256' should come"},
    {SECOND "\"../x\":{", THAW_E_CORRUPT, "'../x' cannot be a file of a checkpoint"},
    {SECOND "\"a\":{\"size\":1}", THAW_E_CORRUPT, "'sha256' is missing"},
    {SECOND "\"a\":{\"size\":1,\"mark\":\"" MARK "\"", THAW_E_CORRUPT,
     "'mark' where 'sha256' should come"},
    {SECOND "\"a\":{\"size\":1,\"sha256\":\"" MARK "\"", THAW_E_CORRUPT,
     "'" MARK "' is not 64 hexadecimal digits"},
    {SECOND "\"a\":{\"size\":1,\"sha256\":\"" ZEROS "\",\"tensors\":{}", THAW_E_CORRUPT,
     "more members than there should be"},
    {SECOND "\"a\":{\"size\":1,\"header\":\"" ZEROS "\"}", THAW_E_CORRUPT, "'tensors' is missing"},
    {SECOND "\"a\":{\"size\":1,\"header\":\"" ZEROS "\",\"tensors\":{\"t\":\"" MARK "\"",
     THAW_E_CORRUPT, "'" MARK "' is not 64 hexadecimal digits"},
    {SECOND "\"a\":{\"size\":1,\"sha256\":\"" ZEROS "\"},\"a\":{", THAW_E_CORRUPT,
     "'a' is listed twice"},
};

static void test_refused(void **state)
{
    char *folder = check_folder();
    const size_t before = thaw__mem_current();

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(refused); i++) {
        char whole[1024], digest[65];
        manifest *m = NULL;
        int n;

        sha256_hex(digest, refused[i].body, strlen(refused[i].body));
        n = snprintf(whole, sizeof whole, "%s\"self\":\"%s\"}\n", refused[i].body, digest);
        check_write_file(check_path(folder, MANIFEST_NAME), whole, (size_t)n);
        CHECK_ERROR(manifest_read(&m, folder), refused[i].status, refused[i].message);
        CHECK_CONTAINS(thaw_error(), check_path(folder, MANIFEST_NAME));
        CHECK(m == NULL);
        CHECK_INT(thaw__mem_current(), before);
    }
    check_folder_remove(folder);
}

static void test_absent(void **state)
{
    char *folder = check_folder();
    manifest *m = NULL;

    (void)state;
    CHECK_ERROR(manifest_read(&m, folder), THAW_E_CORRUPT,
                "has no MANIFEST.json: it was not finished");
    CHECK_STATUS(manifest_read(&m, check_path(folder, "none")), THAW_E_MISSING);
    check_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_absent),
    };

    saving_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
