/*
 * test_feature_store.c - rows come back as they were kept or not at all: within the budget, from
 * files of an earlier process, after damage, and on a disk that fails.
 */
#include "train/features.h"
#include "train/train.h"

#include <unistd.h>

#include "check.h"
#include "faults.h"

enum { CELLS = 40, NUMBERS = 6, BYTES = NUMBERS * 4 };

static const char digest_a[] = "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd";
static const char digest_b[] = "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccddddddddddddddde";

static feature_store *open_store(feature_budget *budget, const char *folder, const char *digest)
{
    feature_store_options o = {
        .n_cells = CELLS, .bytes = BYTES, .budget = budget, .folder = folder};
    feature_store *s = NULL;

    memcpy(o.digest, digest, sizeof o.digest);
    CHECK_OK(feature_store_create(&s, &o));
    return s;
}

static void make_row(float row[NUMBERS], int64_t cell)
{
    for (int i = 0; i < NUMBERS; i++)
        row[i] = (float)(cell * 10 + i);
}

static void put(feature_store *s, int64_t cell)
{
    float row[NUMBERS];

    make_row(row, cell);
    feature_store_put(s, cell, row, (int32_t)(cell % 7));
}

/* Whether a cell is there; if it is, as it was kept. */
static bool is_there(feature_store *s, int64_t cell)
{
    float row[NUMBERS], want[NUMBERS];
    int32_t label = -1;

    if (!feature_store_get(row, &label, s, cell)) {
        CHECK(!feature_store_has(s, cell));
        return false;
    }
    make_row(want, cell);
    CHECK_MSG(memcmp(row, want, sizeof row) == 0 && label == cell % 7, "cell %lld is wrong",
              (long long)cell);
    return true;
}

static int count_there(feature_store *s)
{
    int n = 0;

    for (int64_t cell = 0; cell < CELLS; cell++)
        n += is_there(s, cell);
    return n;
}

static void put_all(feature_store *s)
{
    for (int64_t cell = CELLS; cell-- > 0;)
        put(s, cell);
}

static void test_memory(void **state)
{
    feature_budget budget = {.memory = 1 << 20};
    feature_store *s = open_store(&budget, NULL, digest_a);

    (void)state;
    CHECK_INT(count_there(s), 0);
    put(s, 3);
    CHECK(is_there(s, 3));
    CHECK(!feature_store_has(s, 4));
    put_all(s);
    CHECK_INT(count_there(s), CELLS);
    CHECK_INT(feature_store_counts(s).memory, CELLS);
    CHECK(budget.memory < 1 << 20);
    feature_store_destroy(s, false);
    CHECK_INT(budget.memory, 1 << 20);
}

static void test_budgets_are_kept(void **state)
{
    for (size_t memory = 0; memory < CELLS * BYTES + 100; memory += 50)
        for (uint64_t disk = 0; disk < 4000; disk += 700) {
            feature_budget budget = {.memory = memory, .disk = disk};
            feature_store *s = open_store(&budget, *state, digest_a);
            feature_counts n;

            put_all(s);
            n = feature_store_counts(s);
            CHECK((size_t)n.memory * BYTES <= memory);
            CHECK(n.disk_bytes <= disk);
            CHECK_INT(count_there(s), n.memory + n.disk);
            CHECK(memory + disk > 0 || n.memory + n.disk == 0);
            feature_store_destroy(s, false);
            CHECK_INT(budget.memory, memory);
            CHECK_INT(budget.disk, disk);
        }
}

/* The one file there is; its folder to `inner`. */
static void find_file(char inner[512], char file[600], const char *folder)
{
    os_names names = {0};

    CHECK_OK(os_list(&names, folder));
    CHECK_INT(names.n, 1);
    (void)snprintf(inner, 512, "%s/%s", folder, names.name[0]);
    os_names_free(&names);
    CHECK_OK(os_list(&names, inner));
    CHECK_INT(names.n, 1);
    (void)snprintf(file, 600, "%s", names.name[0]);
    os_names_free(&names);
}

static void keep_in_files(const char *folder)
{
    feature_budget budget = {.disk = 1 << 20};
    feature_store *s = open_store(&budget, folder, digest_a);

    put_all(s);
    feature_store_destroy(s, true);
}

static int left_of_files(const char *folder, const char *digest)
{
    feature_budget budget = {.disk = 1 << 20};
    feature_store *s = open_store(&budget, folder, digest);
    const int n = count_there(s);

    feature_store_destroy(s, true);
    return n;
}

static void test_files_are_taken_up(void **state)
{
    feature_budget budget = {.disk = 1 << 20};
    feature_store *s;

    keep_in_files(*state);
    CHECK_INT(left_of_files(*state, digest_a), CELLS);
    s = open_store(&budget, *state, digest_a);
    CHECK(budget.disk < 1 << 20);
    feature_store_destroy(s, false);
    CHECK_INT(left_of_files(*state, digest_a), 0);
}

/* Its first digits, which name the folder, are the same. */
static void test_another_digest(void **state)
{
    keep_in_files(*state);
    CHECK_INT(left_of_files(*state, digest_b), 0);
}

static void test_every_damaged_byte(void **state)
{
    char inner[512], name[600], path[1200];
    size_t size;
    char *bytes;

    keep_in_files(*state);
    find_file(inner, name, *state);
    (void)snprintf(path, sizeof path, "%s/%s", inner, name);
    bytes = check_read_file(&size, path);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (char)(bytes[i] ^ 4);
        CHECK_OK(os_replace_file(inner, name, bytes, size));
        CHECK_MSG(left_of_files(*state, digest_a) < CELLS, "byte %zu of %zu went unnoticed", i,
                  size);
        bytes[i] = (char)(bytes[i] ^ 4);
    }
    for (size_t n = 0; n < size; n += 13) {
        CHECK_OK(os_replace_file(inner, name, bytes, n));
        CHECK_INT(left_of_files(*state, digest_a), 0);
    }
    CHECK_OK(os_replace_file(inner, name, bytes, size));
    CHECK_INT(left_of_files(*state, digest_a), CELLS);
    free(bytes);
}

static void test_damage_is_told_once(void **state)
{
    feature_budget budget = {.disk = 1 << 20};
    char inner[512], name[600], path[1200];
    feature_store *s;

    keep_in_files(*state);
    s = open_store(&budget, *state, digest_a);
    find_file(inner, name, *state);
    (void)snprintf(path, sizeof path, "%s/%s", inner, name);
    CHECK_INT(unlink(path), 0);
    CHECK_INT(count_there(s), 0);
    CHECK_STR(feature_store_problem(s)->data,
              "part of the cache of features was damaged or gone and is computed again\n");
    put_all(s);
    CHECK_INT(count_there(s), CELLS);
    feature_store_destroy(s, false);
}

/* Whatever operation fails: rows are right or absent, and the run can go on. */
static void test_failing_disk(void **state)
{
    static const int kinds[] = {ENOSPC, FAULT_SHORT};

    for (size_t k = 0; k < THAW_COUNT(kinds); k++)
        for (long n = 1;; n++) {
            feature_budget budget = {.disk = 1 << 20};
            feature_store *s;
            bool reached;

            faults_arm(n, kinds[k], false);
            s = open_store(&budget, *state, digest_a);
            put_all(s);
            (void)count_there(s);
            put_all(s);
            reached = faults_disarm();
            (void)count_there(s);
            feature_store_destroy(s, false);
            if (!reached)
                break;
        }
}

static void test_out_of_memory(void **state)
{
    (void)state;
    for (long n = 1;; n++) {
        feature_budget budget = {.memory = 1 << 20};
        feature_store_options o = {.n_cells = CELLS, .bytes = BYTES, .budget = &budget};
        feature_store *s = NULL;
        thaw_status status;

        memcpy(o.digest, digest_a, sizeof o.digest);
        check_alloc_fail(n, false);
        status = feature_store_create(&s, &o);
        if (status == THAW_OK)
            put_all(s);
        if (!check_alloc_restore()) {
            feature_store_destroy(s, false);
            break;
        }
        if (status == THAW_OK)
            (void)count_there(s);
        else
            CHECK_INT(status, THAW_E_NOMEM);
        feature_store_destroy(s, false);
    }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),
        cmocka_unit_test_setup_teardown(test_budgets_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files_are_taken_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_digest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_damaged_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage_is_told_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failing_disk, setup, teardown),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
