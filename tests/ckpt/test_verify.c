/*
 * Verifying: every kind of damage is found and named, and the newest checkpoint without any is the
 * one to go on from.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "faults.h"
#include "saving.h"

static const char *const files[] = {"model.safetensors", "optimizer.safetensors", "progress.json",
                                    MANIFEST_NAME};

static void test_names(void **state)
{
    static const char *const bad[] = {
        "",
        "step-",
        "step-1",
        "step-0000001",
        "step-000001x",
        "step--00001",
        "step-000001.",
        "step-000001.edit",
        "step-000001.edit-0",
        "latest",
        "step-000001.edit-01",
        "step-000001.edit--1",
        "step- 00001",
        "step-000001.bad-1",
        "Step-000001",
        "step-99999999999999999999",
        "step-000001.edit-99999999999",
        "step-000001.edit-1.edit-1",
    };
    static const ckpt_id good[] = {
        {0, 0}, {1, 0}, {999999, 1}, {1000000, 0}, {INT64_C(1) << 53, 77}};
    ckpt_id id = {5, 5};
    char name[CKPT_NAME];

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(bad); i++)
        CHECK_MSG(!ckpt_id_of(&id, bad[i]) && id.step == 5, "'%s' passes as a name", bad[i]);
    for (size_t i = 0; i < THAW_COUNT(good); i++) {
        ckpt_name_of(name, good[i]);
        CHECK(ckpt_id_of(&id, name));
        CHECK_INT(id.step, good[i].step);
        CHECK_INT(id.edit, good[i].edit);
    }
}

static void test_list(void **state)
{
    static const ckpt_id want[] = {{1000000, 0}, {20, 2}, {20, 1}, {20, 0}, {3, 0}};
    char *folder = check_folder();
    ckpt_id *id = NULL;
    int n = -1;

    (void)state;
    CHECK_OK(ckpt_list(&id, &n, check_path(folder, "none")));
    CHECK_INT(n, 0);
    thaw__free(id);
    for (size_t i = 0; i < THAW_COUNT(want); i++) {
        char name[CKPT_NAME];

        ckpt_name_of(name, want[THAW_COUNT(want) - 1 - i]);
        CHECK(mkdir(check_path(folder, name), 0755) == 0);
    }
    CHECK(mkdir(check_path(folder, ".tmp-1"), 0755) == 0);
    CHECK(symlink("step-000003", check_path(folder, "latest")) == 0);
    CHECK_OK(ckpt_list(&id, &n, folder));
    CHECK_INT(n, THAW_COUNT(want));
    for (int i = 0; i < n; i++)
        CHECK_MSG(id[i].step == want[i].step && id[i].edit == want[i].edit,
                  "place %d: step %lld, edit %d", i, (long long)id[i].step, id[i].edit);
    thaw__free(id);
    check_folder_remove(folder);
}

/* ----------------------------------------------------------------------------------------------
 * damage */

/* Flip a bit in place. */
static void flip(const char *path, size_t bit)
{
    const int fd = open(path, O_RDWR);
    unsigned char byte = 0;

    CHECK(fd >= 0);
    CHECK(pread(fd, &byte, 1, (off_t)(bit / 8)) == 1);
    byte ^= (unsigned char)(1 << bit % 8);
    CHECK(pwrite(fd, &byte, 1, (off_t)(bit / 8)) == 1);
    close(fd);
}

/* Every single bit of every file. */
static void test_every_bit(void **state)
{
    char *folder = check_folder(), *path;
    size_t found = 0;

    (void)state;
    CHECK_OK(saving_commit(folder, 1));
    path = ckpt_path(folder, (ckpt_id){1, 0});
    for (size_t i = 0; i < THAW_COUNT(files); i++) {
        char *file = os_path(path, files[i]);
        struct stat s;

        CHECK(stat(file, &s) == 0);
        for (size_t bit = 0; bit < 8 * (size_t)s.st_size; bit++) {
            flip(file, bit);
            CHECK_MSG(ckpt_verify(path) != THAW_OK, "bit %zu of '%s' flipped and not found", bit,
                      files[i]);
            CHECK_CONTAINS(thaw_error(), files[i]);
            flip(file, bit);
            found++;
        }
        thaw__free(file);
    }
    CHECK_OK(ckpt_verify(path));
    CHECK_MSG(found > 10000, "only %zu bits", found);
    thaw__free(path);
    check_folder_remove(folder);
}

static void test_tensor_named(void **state)
{
    char *folder = check_folder(), *path, *file;
    struct stat s;

    (void)state;
    CHECK_OK(saving_commit(folder, 1));
    path = ckpt_path(folder, (ckpt_id){1, 0});
    file = os_path(path, "model.safetensors");
    CHECK(stat(file, &s) == 0);
    flip(file, 8 * ((size_t)s.st_size - 1));
    CHECK_ERROR(ckpt_verify(path), THAW_E_CORRUPT, "is damaged in tensor 'layer.bias'");
    flip(file, 8 * ((size_t)s.st_size - 1));
    flip(file, 8 * ((size_t)s.st_size - 100));
    CHECK_ERROR(ckpt_verify(path), THAW_E_CORRUPT, "is damaged in tensor 'layer.weight'");
    flip(file, 8 * ((size_t)s.st_size - 100));
    flip(file, 70);
    CHECK_ERROR(ckpt_verify(path), THAW_E_CORRUPT, "is damaged in its header");
    flip(file, 70);
    flip(check_path(path, "progress.json"), 3);
    CHECK_ERROR(ckpt_verify(path), THAW_E_CORRUPT, "progress.json' is damaged");
    thaw__free(file);
    thaw__free(path);
    check_folder_remove(folder);
}

static void test_lacking_and_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(files); i++) {
        char *folder = check_folder(), *path, *file;
        struct stat s;

        CHECK_OK(saving_commit(folder, 1));
        path = ckpt_path(folder, (ckpt_id){1, 0});
        file = os_path(path, files[i]);
        CHECK(stat(file, &s) == 0);
        CHECK(truncate(file, s.st_size + 1) == 0);
        CHECK_STATUS(ckpt_verify(path), THAW_E_CORRUPT);
        CHECK_STATUS(ckpt_verify_id(folder, (ckpt_id){1, 0}, CKPT_SIZES), THAW_E_CORRUPT);
        for (off_t size = s.st_size - 1; size >= 0; size -= 7) {
            CHECK(truncate(file, size) == 0);
            CHECK_STATUS(ckpt_verify(path), THAW_E_CORRUPT);
        }
        CHECK(unlink(file) == 0);
        CHECK_STATUS(ckpt_verify(path), THAW_E_CORRUPT);
        CHECK(mkdir(file, 0755) == 0);
        CHECK_STATUS(ckpt_verify(path), THAW_E_CORRUPT);
        thaw__free(file);
        thaw__free(path);
        check_folder_remove(folder);
    }
}

/* A folder may have another name, but not that of another checkpoint. */
static void test_renamed(void **state)
{
    char *folder = check_folder();
    ckpt_id newest = {0, 0};
    text skipped = TEXT_INIT;

    (void)state;
    CHECK_OK(saving_commit(folder, 1));
    CHECK_OK(saving_commit(folder, 2));
    CHECK(rename(check_path(folder, "step-000002"), check_path(folder, "step-000003")) == 0);
    CHECK_OK(ckpt_verify(check_path(folder, "step-000003")));
    CHECK_OK(ckpt_newest(&newest, &skipped, folder));
    CHECK_INT(newest.step, 1);
    CHECK_CONTAINS(skipped.data, "skipped 'step-000003': '");
    CHECK_CONTAINS(skipped.data, "holds checkpoint 'step-000002'\n");
    text_done(&skipped);
    check_folder_remove(folder);
}

/* The same bytes, but elsewhere: what a link leads to may change. */
static void test_links(void **state)
{
    char *folder = check_folder(), *path;

    (void)state;
    CHECK_OK(saving_commit(folder, 1));
    path = ckpt_path(folder, (ckpt_id){1, 0});
    for (size_t i = 0; i < THAW_COUNT(files); i++) {
        char *file = os_path(path, files[i]), *away = os_path(folder, "away");

        CHECK(rename(file, away) == 0 && symlink(away, file) == 0);
        CHECK_STATUS(ckpt_verify_id(folder, (ckpt_id){1, 0}, CKPT_SIZES), THAW_E_CORRUPT);
        CHECK_ERROR(ckpt_verify(path), THAW_E_CORRUPT, "is a link, not a file of the checkpoint");
        CHECK(rename(away, file) == 0);
        CHECK_OK(ckpt_verify(path));
        thaw__free(away);
        thaw__free(file);
    }
    thaw__free(path);
    check_folder_remove(folder);
}

/* What each format looked like stays readable. */
static void test_formats(void **state)
{
    static const char *const folder[] = {THAW_TEST_DIR "/ckpt/format-1",
                                         THAW_TEST_DIR "/ckpt/format-2"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        ckpt_id newest = {0, 0};
        manifest *m = NULL;
        char *path;

        CHECK_OK(ckpt_newest(&newest, NULL, folder[i]));
        CHECK_INT(newest.step, 7);
        CHECK(saving_is_right(folder[i], 7));
        path = ckpt_path(folder[i], newest);
        CHECK_OK(manifest_read(&m, path));
        CHECK_INT(m->format, i + 1);
        manifest_destroy(m);
        thaw__free(path);
    }
}

static void copy_file(const char *to, const char *from, const char *name)
{
    char path[4096];
    size_t n;
    char *data;

    (void)snprintf(path, sizeof path, "%s/%s", from, name);
    data = check_read_file(&n, path);
    check_write_file(check_path(to, name), data, n);
    free(data);
}

/* Damage is named in a checkpoint of the first format as well; and what is taken over from one has
 * the digests of the present format. */
static void test_first_format_damaged(void **state)
{
    static const char old[] = THAW_TEST_DIR "/ckpt/format-1/step-000007";
    char *folder = check_folder(), *path = ckpt_path(folder, (ckpt_id){7, 0}), *file;
    ckpt_file edit = {.name = files[0]};
    struct stat s;

    (void)state;
    CHECK(mkdir(path, 0755) == 0);
    for (size_t i = 0; i < THAW_COUNT(files); i++)
        copy_file(path, old, files[i]);
    CHECK_OK(ckpt_verify(path));
    file = os_path(path, files[0]);
    edit.link = file;
    CHECK_OK(ckpt_commit(folder, 7, 1, &edit, 1));
    CHECK(stat(file, &s) == 0);
    flip(file, 8 * ((size_t)s.st_size - 1));
    CHECK_ERROR(ckpt_verify(path), THAW_E_CORRUPT, "is damaged in tensor 'layer.bias'");
    CHECK_ERROR(ckpt_verify(check_path(folder, "step-000007.edit-1")), THAW_E_CORRUPT,
                "is damaged in tensor 'layer.bias'");
    flip(file, 8 * ((size_t)s.st_size - 1));
    flip(file, 70);
    CHECK_ERROR(ckpt_verify(path), THAW_E_CORRUPT, "is damaged in its header");
    flip(file, 70);
    flip(check_path(path, "progress.json"), 3);
    CHECK_ERROR(ckpt_verify(path), THAW_E_CORRUPT, "progress.json' is damaged");
    thaw__free(file);
    thaw__free(path);
    check_folder_remove(folder);
}

/* A manifest with a right digest at its end that lists other tensors than the file holds. */
static void test_other_tensors(void **state)
{
    static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";
    char *folder = check_folder(), *path;
    manifest *m = NULL;

    (void)state;
    CHECK_OK(saving_commit(folder, 1));
    path = ckpt_path(folder, (ckpt_id){1, 0});
    CHECK_OK(manifest_read(&m, path));
    for (int n = 0; n <= 3; n++) {
        manifest_tensor listed[3] = {m->file[0].tensor[0], m->file[0].tensor[1], {.name = "more"}};
        manifest_file f = m->file[0];
        text t = TEXT_INIT;

        memcpy(listed[2].digest, zeros, sizeof zeros);
        f.tensor = listed;
        f.n_tensors = n;
        manifest_begin(&t, m->id);
        manifest_add(&t, &f, true);
        CHECK_OK(manifest_end(&t));
        check_write_file(check_path(path, MANIFEST_NAME), t.data, t.length);
        if (n < 2)
            CHECK_ERROR(ckpt_verify(path), THAW_E_CORRUPT, ", which the manifest lacks");
        else if (n == 2)
            CHECK_OK(ckpt_verify(path));
        else
            CHECK_ERROR(ckpt_verify(path), THAW_E_CORRUPT, "it lacks tensor 'more'");
        text_done(&t);
    }
    manifest_destroy(m);
    thaw__free(path);
    check_folder_remove(folder);
}

/* More files than are held open at once, the last of them damaged. */
static void test_many_files(void **state)
{
    enum { N = 100 };
    char *folder = check_folder(), name[N][32];
    ckpt_file file[N];

    (void)state;
    for (int i = 0; i < N; i++) {
        (void)snprintf(name[i], sizeof name[i], "file-%02d.txt", i);
        file[i] = (ckpt_file){.name = name[i], .bytes = name[i], .size = strlen(name[i])};
    }
    CHECK_OK(ckpt_commit(folder, 1, 0, file, N));
    CHECK_OK(ckpt_verify(check_path(folder, "step-000001")));
    for (int i = 0; i < N; i += 11) {
        char path[48];

        (void)snprintf(path, sizeof path, "step-000001/file-%02d.txt", i);
        flip(check_path(folder, path), 5);
        CHECK_ERROR(ckpt_verify(check_path(folder, "step-000001")), THAW_E_CORRUPT, name[i]);
        flip(check_path(folder, path), 5);
    }
    check_folder_remove(folder);
}

/* ----------------------------------------------------------------------------------------------
 * the newest */

/* All subsets of five checkpoints damaged: the newest of the others is found, and each newer one
 * is named with a reason. */
static void test_newest(void **state)
{
    enum { N = 5 };

    (void)state;
    for (int damaged = 0; damaged < 1 << N; damaged++) {
        char *folder = check_folder();
        ckpt_id newest = {-1, 0};
        text skipped = TEXT_INIT;
        int want = 0, lines = 0;

        for (int step = 1; step <= N; step++) {
            CHECK_OK(saving_commit(folder, step));
            if (damaged & 1 << (step - 1))
                flip(saving_file(folder, step, files[step % 4]), 77);
            else
                want = step;
        }
        if (want == 0) {
            CHECK_ERROR(ckpt_newest(&newest, &skipped, folder), THAW_E_CORRUPT,
                        "none of the 5 checkpoints in '");
            CHECK_INT(newest.step, -1);
        } else {
            CHECK_OK(ckpt_newest(&newest, &skipped, folder));
            CHECK_INT(newest.step, want);
        }
        for (const char *p = skipped.data; p && *p; p++)
            lines += *p == '\n';
        CHECK_INT(lines, N - want);
        text_done(&skipped);
        check_folder_remove(folder);
    }
}

static void test_none(void **state)
{
    char *folder = check_folder();
    ckpt_id newest;

    (void)state;
    CHECK_ERROR(ckpt_newest(&newest, NULL, folder), THAW_E_MISSING, "no checkpoint in '");
    CHECK_ERROR(ckpt_newest(&newest, NULL, check_path(folder, "none")), THAW_E_MISSING,
                "no checkpoint in '");
    check_folder_remove(folder);
}

/* Reading that fails, or memory that runs out, is never taken for a good checkpoint, nor for
 * damage: an older one is not taken instead. */
static void test_failing(void **state)
{
    static const int kinds[] = {EIO, EINTR, FAULT_SHORT};
    char *folder = check_folder();
    const size_t before = thaw__mem_current();
    ckpt_id newest;

    (void)state;
    CHECK_OK(saving_commit(folder, 1));
    CHECK_OK(saving_commit(folder, 2));
    for (size_t k = 0; k < THAW_COUNT(kinds); k++)
        for (int forever = 0; forever < 2; forever++)
            for (long n = 1, more = 1; more; n++) {
                thaw_status status;

                faults_arm(n, kinds[k], forever != 0);
                newest.step = 7;
                status = ckpt_newest(&newest, NULL, folder);
                more = faults_disarm();
                CHECK_MSG(status == THAW_OK ? newest.step == 2 : newest.step == 7,
                          "operation %ld, fault %d: %s, step %lld", n, kinds[k],
                          thaw_status_name(status), (long long)newest.step);
                CHECK_MSG(status == THAW_OK || status == THAW_E_IO, "operation %ld: %s", n,
                          thaw_error());
                CHECK(kinds[k] != FAULT_SHORT || status == THAW_OK);
                CHECK_INT(thaw__mem_current(), before);
            }
    for (long n = 1, more = 1; more; n++) {
        thaw_status status;

        check_alloc_fail(n, false);
        status = ckpt_newest(&newest, NULL, folder);
        more = check_alloc_restore();
        CHECK_INT(status, more ? THAW_E_NOMEM : THAW_OK);
        CHECK_INT(thaw__mem_current(), before);
    }
    check_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_tensor_named),
        cmocka_unit_test(test_lacking_and_cut),
        cmocka_unit_test(test_renamed),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_first_format_damaged),
        cmocka_unit_test(test_other_tensors),
        cmocka_unit_test(test_many_files),
        cmocka_unit_test(test_newest),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_failing),
    };

    saving_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
