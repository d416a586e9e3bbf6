/*
 * test_api.c - the public functions: run folders, evaluating a run, a checkpoint or a model folder,
 * and every call with the n-th allocation failing.
 */
#include "train/small_runs.h"

#define RECIPE                                                                                     \
    "seed = 4\n" SMALL_MLP SMALL_DATA "test = 'valid-images-idx3-ubyte'\n"                         \
    "[optimizer]\nlr = 0.01\n[train]\nexecutor = 'ref'\n"                                          \
    "[[phase]]\nname = 'head'\nsteps = 2\nfreeze = 'backbone'\n"                                   \
    "[[phase]]\nname = 'all'\nepochs = 1\nunfreeze = 'backbone'\n"

static thaw_status train_in(const char *folder, const char *run, small_record *record)
{
    const thaw_run_options options = {
        .run = run, .threads = 1, .on_event = small_listen, .user = record};
    thaw_recipe *recipe = small_recipe(RECIPE, folder);
    const thaw_status status = thaw_train(recipe, &options);

    thaw_recipe_destroy(recipe);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * run folders */

static void test_run_folders(void **state)
{
    char run[512], path[512];
    const thaw_run_options nowhere = {.run = small_path(path, *state, "nowhere"), .threads = 1};
    const thaw_run_options none = {.threads = 1};
    int lock;

    small_path(run, *state, "run");
    CHECK_OK(train_in(*state, run, &(small_record){0}));
    CHECK_ERROR(train_in(*state, run, &(small_record){0}), THAW_E_CREATE, "holds a run already");
    CHECK_CONTAINS(thaw_error(), "thaw resume");
    CHECK_ERROR(thaw_resume(&nowhere), THAW_E_MISSING, "no recipe.toml");
    CHECK(os_kind_of(nowhere.run) == OS_ABSENT);
    CHECK_STATUS(thaw_resume(&none), THAW_E_USAGE);
    CHECK_STATUS(thaw_resume(NULL), THAW_E_USAGE);
    CHECK_OK(ckpt_lock(&lock, run));
    CHECK_STATUS(thaw_resume(&(thaw_run_options){.run = run, .threads = 1}), THAW_E_CREATE);
    os_close(lock);
}

/* Without a folder nothing is written and everything else is the same. */
static void test_no_folder(void **state)
{
    small_record r = {0};

    CHECK_OK(train_in(*state, NULL, &r));
    CHECK_INT(r.n_steps, 7);
    CHECK_INT(r.n_saves, 0);
    CHECK_CONTAINS(r.words, "finished");
}

/* The run's own recipe says everything: it reads back, and its paths hold from anywhere. */
static void test_resolved_recipe(void **state)
{
    char run[512], path[512], checkpoint[512];
    thaw_recipe *recipe = NULL;

    small_path(run, *state, "run");
    CHECK_OK(train_in(*state, run, &(small_record){0}));
    CHECK_OK(thaw_recipe_load(&recipe, small_path(path, run, "recipe.toml"), NULL, 0));
    CHECK_INT(recipe->n_phases, 2);
    CHECK(recipe->train.images[0] == '/');
    thaw_recipe_destroy(recipe);
    small_same_files(run, small_path(checkpoint, run, "checkpoints/step-000007"), "recipe.toml");
}

/* ----------------------------------------------------------------------------------------------
 * evaluating */

static thaw_eval_result eval_path(const char *path, const thaw_recipe *recipe, const char *split)
{
    const thaw_run_options options = {.threads = 1};
    thaw_eval_result r = {0};

    CHECK_OK(thaw_eval(&r, path, recipe, split, &options));
    return r;
}

static void check_result(thaw_eval_result r, int64_t n, double loss)
{
    int64_t sum = 0, hits = 0;

    CHECK_INT(r.n, n);
    CHECK_INT(r.n_classes, SMALL_CLASSES);
    for (int i = 0; i < SMALL_CLASSES * SMALL_CLASSES; i++) {
        sum += r.confusion[i];
        hits += i % (SMALL_CLASSES + 1) == 0 ? r.confusion[i] : 0;
    }
    CHECK_INT(sum, n);
    CHECK_NEAR(r.accuracy, (double)hits / (double)n, 1e-15, 0);
    CHECK_NEAR(r.baseline, n == SMALL_VALID ? 3.0 / 7 : 1.0 / 3, 1e-12, 0);
    if (!isnan(loss))
        CHECK_NEAR(r.loss, loss, 1e-6, 0);
    thaw_eval_done(&r);
    CHECK(r.confusion == NULL);
}

/* A run stands for its best weights, a checkpoint and a model folder for their own. */
static void test_eval(void **state)
{
    char run[512], path[512];
    const thaw_run_options options = {.threads = 1};
    thaw_recipe *recipe = small_recipe(RECIPE, *state);
    thaw_eval_result r = {.n = -1};
    small_record record = {0};
    double best = -1, best_loss = NAN;

    small_path(run, *state, "run");
    CHECK_OK(train_in(*state, run, &record));
    for (int i = 0; i + 1 < record.n_evals; i++) /* the last one is of the test images */
        if (record.eval[i].metric > best ||
            (record.eval[i].metric == best && record.eval[i].loss < best_loss)) {
            best = record.eval[i].metric;
            best_loss = record.eval[i].loss;
        }
    check_result(eval_path(run, NULL, "valid"), SMALL_VALID, best_loss);
    check_result(eval_path(small_path(path, run, "best"), recipe, "valid"), SMALL_VALID, best_loss);
    check_result(eval_path(small_path(path, run, "checkpoints/step-000007"), NULL, "valid"),
                 SMALL_VALID, record.eval[record.n_evals - 2].loss);
    check_result(eval_path(small_path(path, run, "checkpoints/step-000007"), NULL, "test"),
                 SMALL_VALID, record.eval[record.n_evals - 1].loss);
    check_result(eval_path(run, recipe, "train"), SMALL_TRAIN, NAN);
    check_result(eval_path(NULL, recipe, "valid"), SMALL_VALID, record.eval[0].loss);
    CHECK_STATUS(thaw_eval(&r, small_path(path, run, "best"), NULL, "valid", &options),
                 THAW_E_USAGE);
    CHECK_ERROR(thaw_eval(&r, run, NULL, "tset", &options), THAW_E_USAGE, "'tset'");
    CHECK_STATUS(thaw_eval(&r, small_path(path, run, "nowhere"), recipe, "valid", &options),
                 THAW_E_MISSING);
    CHECK_STATUS(thaw_eval(&r, *state, recipe, "valid", &options), THAW_E_MISSING);
    CHECK_INT(r.n, -1);
    thaw_recipe_destroy(recipe);
}

static void test_versions(void **state)
{
    (void)state;
    CHECK_STR(thaw_version(), THAW_VERSION);
    CHECK_CONTAINS(thaw_kernels(), "oneDNN");
}

/* ----------------------------------------------------------------------------------------------
 * memory: an error or success, nothing left behind, and a run that can still be resumed */

static void check_outcome(thaw_status status, long n, size_t before)
{
    CHECK_MSG(status == THAW_OK || status == THAW_E_NOMEM, "allocation %ld: %s: %s", n,
              thaw_status_name(status), thaw_error());
    CHECK_MSG(thaw__mem_current() == before, "allocation %ld: %zu bytes left behind", n,
              thaw__mem_current() - before);
}

#define TINY                                                                                       \
    "[model]\narch = 'mlp'\nwidths = [64, 4, 3]\n" SMALL_DATA                                      \
    "prefetch = false\n[train]\nexecutor = '%s'\neval_every = 0\n[checkpoint]\nkeep = 1\n"         \
    "[[phase]]\nsteps = 1\nfreeze = 'backbone'\n[[phase]]\nsteps = 1\nunfreeze = 'backbone'\n"

static void train_without_memory(const char *folder, const char *executor)
{
    thaw_recipe *recipe;
    text t = TEXT_INIT;

    text_addf(&t, TINY, executor);
    recipe = small_recipe(t.data, folder);
    text_done(&t);
    const size_t before = thaw__mem_current();
    for (long n = 1, more = true; more; n += 1 + n / 40) {
        char *run = check_folder();
        const thaw_run_options options = {.threads = 1, .run = run};
        thaw_status status;

        check_alloc_fail(n, false);
        status = thaw_train(recipe, &options);
        more = check_alloc_restore();
        check_outcome(status, n, before);
        check_folder_remove(run);
    }
    thaw_recipe_destroy(recipe);
}

static void test_train_without_memory(void **state)
{
    train_without_memory(*state, "ref");
    train_without_memory(*state, "dnn");
}

/* However often it fails to resume, what it resumes from stays good. */
static void test_resume_without_memory(void **state)
{
    char run[512];
    thaw_recipe *recipe;
    text t = TEXT_INIT;
    small_record record = {.stop_at = 1}, last = {0};
    thaw_run_options options = {.threads = 1, .on_event = small_listen, .user = &record};

    text_addf(&t, TINY, "ref");
    recipe = small_recipe(t.data, *state);
    text_done(&t);
    options.run = small_path(run, *state, "run");
    CHECK_STATUS(thaw_train(recipe, &options), THAW_E_STOPPED);
    thaw_recipe_destroy(recipe);
    options.on_event = NULL;
    const size_t before = thaw__mem_current();
    for (long n = 1, more = true; more; n += 1 + n / 20) {
        thaw_status status;

        check_alloc_fail(n, true);
        status = thaw_resume(&options);
        more = check_alloc_restore();
        check_outcome(status, n, before);
    }
    options.on_event = small_listen;
    options.user = &last;
    CHECK_OK(thaw_resume(&options));
    CHECK_CONTAINS(last.words, "step-000002");
}

static void test_eval_without_memory(void **state)
{
    const thaw_run_options options = {.threads = 1};
    thaw_recipe *recipe;
    text t = TEXT_INIT;

    text_addf(&t, TINY, "ref");
    recipe = small_recipe(t.data, *state);
    text_done(&t);
    const size_t before = thaw__mem_current();
    for (long n = 1, more = true; more; n++) {
        thaw_eval_result r = {0};
        thaw_status status;

        check_alloc_fail(n, false);
        status = thaw_eval(&r, NULL, recipe, "valid", &options);
        more = check_alloc_restore();
        thaw_eval_done(&r);
        check_outcome(status, n, before);
    }
    thaw_recipe_destroy(recipe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_run_folders, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_no_folder, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_resolved_recipe, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_eval, small_setup, small_teardown),
        cmocka_unit_test(test_versions),
        cmocka_unit_test_setup_teardown(test_train_without_memory, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_resume_without_memory, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_eval_without_memory, small_setup, small_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
