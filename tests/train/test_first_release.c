/*
 * test_first_release.c - a run that the first version began, as it lay on disk after step 3, goes
 * on with this one: its checkpoint has the first format, and its state and recipe lack what has
 * come since. What it ends with is what the whole run gives now.
 */
#include "small_runs.h"

#include "ckpt/saving.h"

#define RECORDED THAW_TEST_DIR "/train/first-release"
#define LAST     "checkpoints/step-000006"

/* The recipe of the recorded run, but for where its data lay. */
#define RECIPE                                                                                     \
    "seed = 5\n[model]\narch = 'mlp'\nwidths = [64, 4, 3]\ndropout = 0.25\n" SMALL_DATA            \
    "[optimizer]\nname = 'adamw'\nlr = 0.01\n[train]\nexecutor = 'ref'\n"                          \
    "[checkpoint]\nevery = 'off'\nkeep = 1\n"                                                      \
    "[[phase]]\nsteps = 2\nfreeze = 'backbone'\n"                                                  \
    "[[phase]]\nsteps = 4\nunfreeze = 'backbone'\noptimizer = 'keep'\n"

/* A recipe in the run's folder says where the data are now. */
static void go_on(const char *data, const char *run, small_record *record)
{
    static const char *const key[] = {
        "train=%s/train-images-idx3-ubyte", "train_labels=%s/train-labels-idx1-ubyte",
        "valid=%s/valid-images-idx3-ubyte", "valid_labels=%s/valid-labels-idx1-ubyte"};
    char set[THAW_COUNT(key)][600];
    const char *sets[THAW_COUNT(key)];
    const thaw_run_options options = {.run = run,
                                      .threads = 1,
                                      .sets = sets,
                                      .n_sets = (int)THAW_COUNT(key),
                                      .on_event = small_listen,
                                      .user = record};

    for (size_t i = 0; i < THAW_COUNT(key); i++) {
        const char *const value = strchr(key[i], '%');

        (void)snprintf(set[i], sizeof set[i], "data.%.*s%s%s", (int)(value - key[i]), key[i], data,
                       value + 2);
        sets[i] = set[i];
    }
    CHECK_OK(thaw_resume(&options));
}

/* All tensors of a file of two runs; instruction sets may differ in a last bit. */
static void check_tensors(const char *a, const char *b, const char *name)
{
    char x_path[512], y_path[512];
    st_file *x = NULL, *y = NULL;

    CHECK_OK(st_open(&x, small_path(x_path, a, name)));
    CHECK_OK(st_open(&y, small_path(y_path, b, name)));
    CHECK_INT(x->n, y->n);
    for (int i = 0; i < x->n; i++) {
        const st_entry *const other = st_find(y, x->entry[i].name);
        float u[512], v[512];
        size_t n = 0;

        CHECK_MSG(other, "'%s' has no '%s'", y_path, x->entry[i].name);
        CHECK_OK(shape_elements(&n, &x->entry[i].shape));
        CHECK(n <= THAW_COUNT(u) && shape_equal(&other->shape, &x->entry[i].shape));
        CHECK_OK(st_read(u, DTYPE_F32, x, &x->entry[i]));
        CHECK_OK(st_read(v, DTYPE_F32, y, other));
        CHECK_CLOSE(u, v, n, 1e-4, 1e-6);
    }
    st_close(x);
    st_close(y);
}

static void test_goes_on(void **state)
{
    char run[512], whole[512], path[512];
    small_record again = {0}, now = {0};
    thaw_recipe *recipe = small_recipe(RECIPE, *state);
    const thaw_run_options options = {.run = small_path(whole, *state, "whole"),
                                      .threads = 1,
                                      .on_event = small_listen,
                                      .user = &now};
    manifest *m = NULL;

    small_copy(RECORDED, small_path(run, *state, "run"));
    CHECK_OK(manifest_read(&m, small_path(path, run, "checkpoints/step-000003")));
    CHECK_INT(m->format, 1);
    manifest_destroy(m);
    go_on(*state, run, &again);
    CHECK_CONTAINS(again.words, "going on from");
    CHECK_CONTAINS(again.words, "what it gives is the same");
    CHECK_MSG(!strstr(again.words, "skipped"), "%s", again.words);
    CHECK_INT(again.n_steps, 3);

    CHECK_OK(thaw_train(recipe, &options));
    for (int i = 0; i < 3; i++)
        CHECK_NEAR(again.step[i].loss, now.step[i + 3].loss, 1e-4, 0);
    check_tensors(run, whole, LAST "/model.safetensors");
    check_tensors(run, whole, LAST "/optimizer.safetensors");
    thaw_recipe_destroy(recipe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_goes_on, small_setup, small_teardown),
    };

    saving_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
