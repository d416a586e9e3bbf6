/*
 * test_provenance.c - a checkpoint says how it was made; a resume that runs in the same way adds
 * nothing; the state of git is read from its files, wherever they lie.
 */
#include "train/small_runs.h"

#include <jansson.h>

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define RECIPE                                                                                     \
    SMALL_MLP SMALL_DATA "[train]\nexecutor = 'ref'\n[optimizer]\nlr = 0.01\n"                     \
                         "[[phase]]\nsteps = 4\n"

static void put(const char *folder, const char *name, const char *words)
{
    char path[512];

    check_write_file(small_path(path, folder, name), words, strlen(words));
}

/* The only row that a trainer in this working folder writes. */
static json_t *row_of(const char *data, const char *folder)
{
    char before[512];
    small_run r;
    json_error_t error;
    json_t *row;

    CHECK(getcwd(before, sizeof before) && chdir(folder) == 0);
    small_open(&r, RECIPE, data, NULL);
    provenance_add(r.trainer);
    provenance_add(r.trainer);
    CHECK(chdir(before) == 0);
    row = json_loads(r.trainer->provenance.data, 0, &error);
    CHECK_MSG(row, "%s: %s", error.text, r.trainer->provenance.data);
    small_close(&r);
    return row;
}

static const char *git_of(const json_t *row, const char *name)
{
    return json_string_value(json_object_get(json_object_get(row, "git"), name));
}

static void test_git(void **state)
{
    static const char *const folders[] = {".git", ".git/refs", ".git/refs/heads", "inner",
                                          "linked"};
    char path[512];
    json_t *row;

    for (size_t i = 0; i < THAW_COUNT(folders); i++)
        CHECK(mkdir(small_path(path, *state, folders[i]), 0755) == 0);
    put(*state, ".git/HEAD", "ref: refs/heads/main\n");
    put(*state, ".git/refs/heads/main", COMMIT "\n");
    row = row_of(*state, small_path(path, *state, "inner"));
    CHECK_STR(git_of(row, "commit"), COMMIT);
    CHECK_STR(git_of(row, "ref"), "refs/heads/main");
    CHECK(json_array_size(json_object_get(row, "argv")) > 0);
    CHECK_STR(json_string_value(json_object_get(row, "thaw")), thaw_version());
    json_decref(row);

    CHECK(unlink(small_path(path, *state, ".git/refs/heads/main")) == 0);
    put(*state, ".git/packed-refs",
        "# pack-refs\nbad refs/heads/mai\n" COMMIT " refs/heads/main\n");
    put(*state, "linked/.git", "gitdir: ../.git\n");
    row = row_of(*state, small_path(path, *state, "linked"));
    CHECK_STR(git_of(row, "commit"), COMMIT);
    json_decref(row);

    put(*state, ".git/HEAD", "nonsense\n");
    row = row_of(*state, *state);
    CHECK_STR(git_of(row, "commit"), "");
    json_decref(row);
}

/* Another number of threads is another row; the same is none. */
static void test_resumes(void **state)
{
    char run[512], path[512], *all;
    thaw_recipe *recipe = small_recipe(RECIPE, *state);
    small_record r = {.stop_at = 1};
    thaw_run_options o = {
        .run = small_path(run, *state, "run"), .threads = 1, .on_event = small_listen, .user = &r};

    CHECK_STATUS(thaw_train(recipe, &o), THAW_E_STOPPED);
    r.stop_at = 2;
    CHECK_STATUS(thaw_resume(&o), THAW_E_STOPPED);
    o.threads = 2;
    r.stop_at = 0;
    CHECK_OK(thaw_resume(&o));
    all = check_read_file(NULL, small_path(path, run, "checkpoints/step-000004/" PROVENANCE_NAME));
    CHECK_CONTAINS(all, "\"threads\": 1");
    CHECK_CONTAINS(all, "\"threads\": 2");
    CHECK_CONTAINS(all, "\"from\": 0");
    CHECK_CONTAINS(all, "\"from\": 2");
    CHECK(strstr(all, "\"from\": 1") == NULL);
    free(all);
    thaw_recipe_destroy(recipe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_git, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_resumes, small_setup, small_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
