/*
 * Retention: it keeps what it must whatever fails, and never deletes behind a checkpoint that has
 * not been verified.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "faults.h"
#include "saving.h"

/* The steps there are, as text: "5 4 2". */
static const char *steps(const char *folder)
{
    static char out[256];
    ckpt_id *id = NULL;
    int n = 0, length = 0;

    CHECK_OK(ckpt_list(&id, &n, folder));
    out[0] = '\0';
    for (int i = 0; i < n; i++)
        length += snprintf(out + length, sizeof out - (size_t)length, "%s%lld", i ? " " : "",
                           (long long)id[i].step);
    thaw__free(id);
    return out;
}

static char *folder_with(int n)
{
    char *folder = check_folder();

    for (int step = 1; step <= n; step++)
        CHECK_OK(saving_commit(folder, step));
    return folder;
}

static void damage(const char *folder, int64_t step)
{
    check_write_file(saving_file(folder, step, "progress.json"), "{\"step\": X, \"edit\": 0}", 22);
}

static void test_keep(void **state)
{
    static const struct {
        int keep;
        const char *left;
    } rows[] = {{0, "5"}, {1, "5"}, {2, "5 4"}, {4, "5 4 3 2"}, {5, "5 4 3 2 1"}, {9, "5 4 3 2 1"}};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(rows); i++) {
        char *folder = folder_with(5);

        ckpt_retain(folder, rows[i].keep, NULL, 0);
        CHECK_STR(steps(folder), rows[i].left);
        ckpt_retain(folder, rows[i].keep, NULL, 0);
        CHECK_STR(steps(folder), rows[i].left);
        check_folder_remove(folder);
    }
}

static void test_protect(void **state)
{
    static const ckpt_id protect[] = {{1, 0}, {3, 0}, {2, 1}, {77, 0}};
    char *folder = folder_with(5);

    (void)state;
    ckpt_retain(folder, 1, protect, THAW_COUNT(protect));
    CHECK_STR(steps(folder), "5 3 1");
    check_folder_remove(folder);
}

/* What is damaged does not count, and is not deleted while it is newer than what counts. */
static void test_damaged(void **state)
{
    char *folder = folder_with(5);

    (void)state;
    damage(folder, 5);
    damage(folder, 3);
    ckpt_retain(folder, 1, NULL, 0);
    CHECK_STR(steps(folder), "5 4");
    check_folder_remove(folder);

    folder = folder_with(3);
    for (int step = 1; step <= 3; step++)
        damage(folder, step);
    ckpt_retain(folder, 1, NULL, 0);
    CHECK_STR(steps(folder), "3 2 1");
    check_folder_remove(folder);
}

static void test_leftovers(void **state)
{
    char *folder = folder_with(1), *victim = check_folder();

    (void)state;
    check_write_file(check_path(victim, "precious"), "x", 1);
    CHECK(mkdir(check_path(folder, ".tmp-0123456789abcdef"), 0755) == 0);
    check_write_file(check_path(folder, ".tmp-0123456789abcdef/model.safetensors"), "x", 1);
    check_write_file(check_path(folder, ".tmp-file"), "x", 1);
    CHECK(symlink("step-000001", check_path(folder, ".tmp-link")) == 0);
    CHECK(symlink(victim, check_path(folder, ".tmp-away")) == 0);
    check_write_file(check_path(folder, "notes.txt"), "x", 1);
    ckpt_retain(folder, 3, NULL, 0);
    CHECK_INT(saving_count(folder, ".tmp"), 0);
    CHECK_INT(saving_count(folder, "notes.txt"), 1);
    CHECK_INT(saving_count(victim, "precious"), 1);
    CHECK(saving_is_right(folder, 1));
    check_folder_remove(folder);
    check_folder_remove(victim);
    ckpt_retain("/nowhere/at/all", 1, NULL, 0);
}

/* Whatever operation or allocation fails: the newest one stays, and what is left is whole. */
static void test_failing(void **state)
{
    static const int kinds[] = {EIO, EACCES, EINTR};
    const size_t before = thaw__mem_current();

    (void)state;
    for (size_t k = 0; k <= THAW_COUNT(kinds); k++)
        for (int forever = 0; forever < 2; forever++)
            for (long n = 1, more = 1; more; n++) {
                char *folder = folder_with(3);
                ckpt_id *id = NULL;
                int left = 0;

                if (k < THAW_COUNT(kinds))
                    faults_arm(n, kinds[k], forever != 0);
                else
                    check_alloc_fail(n, forever != 0);
                ckpt_retain(folder, 1, NULL, 0);
                more = k < THAW_COUNT(kinds) ? faults_disarm() : check_alloc_restore();
                CHECK_OK(ckpt_list(&id, &left, folder));
                CHECK(left >= 1 && id[0].step == 3);
                for (int i = 0; i < left; i++)
                    CHECK_MSG(saving_is_right(folder, id[i].step), "step %lld is torn",
                              (long long)id[i].step);
                thaw__free(id);
                CHECK_INT(thaw__mem_current(), before);
                ckpt_retain(folder, 1, NULL, 0);
                CHECK_STR(steps(folder), "3");
                CHECK_INT(saving_count(folder, ".tmp"), 0);
                check_folder_remove(folder);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keep),    cmocka_unit_test(test_protect),
        cmocka_unit_test(test_damaged), cmocka_unit_test(test_leftovers),
        cmocka_unit_test(test_failing),
    };

    saving_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
