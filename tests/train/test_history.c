/*
 * test_history.c - every epoch's metrics since step 0 stand in each checkpoint, also after resumes;
 * damaged lists are refused.
 */
#include "train/small_runs.h"

#include <jansson.h>

#define RECIPE                                                                                     \
    "seed = 3\n" SMALL_MLP SMALL_DATA "[train]\nexecutor = 'ref'\n[optimizer]\nlr = 0.01\n"        \
    "[checkpoint]\nevery = 'off'\n[[phase]]\nepochs = 2\n[[phase]]\nepochs = 2\n"

static json_t *rows_of(const char *folder)
{
    char path[512];
    json_t *root = json_load_file(small_path(path, folder, HISTORY_NAME), 0, NULL);

    CHECK_MSG(root, "'%s' is no JSON", path);
    return root;
}

/* Losses of the steps of an epoch as they were told, against the mean in the history. */
static void check_rows(const char *folder, const small_record *r, int first_step)
{
    json_t *root = rows_of(folder);
    const json_t *rows = json_object_get(root, "rows");
    int epochs = 0, evals = 0;
    size_t i;
    const json_t *row;

    json_array_foreach(rows, i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "event")), "eval") == 0) {
            evals++;
            continue;
        }
        CHECK_INT(json_integer_value(json_object_get(row, "iteration")), 5 * ++epochs);
        CHECK_INT(json_integer_value(json_object_get(row, "updates")), 5);
        if (5 * (epochs - 1) >= first_step) {
            static const double samples[] = {4, 4, 4, 4, 2};
            double sum = 0;

            for (int k = 0; k < 5; k++)
                sum += samples[k] * r->step[5 * (epochs - 1) + k - first_step].loss;
            CHECK_NEAR(json_number_value(json_object_get(row, "loss")), sum / 18, 1e-12, 0);
        }
    }
    CHECK_INT(epochs, 4);
    CHECK_INT(evals, 5); /* one before the first step */
    json_decref(root);
}

static void test_whole_after_a_resume(void **state)
{
    char whole[512], run[512], path[512];
    small_record a = {0}, b = {.stop_at = 13}, c = {0};
    thaw_recipe *recipe = small_recipe(RECIPE, *state);
    thaw_run_options o = {.threads = 1, .on_event = small_listen};

    o.run = small_path(whole, *state, "whole");
    o.user = &a;
    CHECK_OK(thaw_train(recipe, &o));
    o.run = small_path(run, *state, "run");
    o.user = &b;
    CHECK_STATUS(thaw_train(recipe, &o), THAW_E_STOPPED);
    o.user = &c;
    CHECK_OK(thaw_resume(&o));
    check_rows(small_path(path, whole, "checkpoints/step-000020"), &a, 0);
    check_rows(small_path(path, run, "checkpoints/step-000020"), &c, 13);
    small_same_files(whole, run, "checkpoints/step-000020/" HISTORY_NAME);
    small_same_files(whole, run, "best/" HISTORY_NAME);
    thaw_recipe_destroy(recipe);
}

static void test_refusals(void **state)
{
    static const char *const bad[] = {"",
                                      "{}",
                                      "{\"format\": 1, \"rows\": [\n",
                                      "{\"format\": 2, \"rows\": [\n\n]}\n",
                                      "{\"format\": 1, \"rows\": [\n{\"a\": 1}\n]}",
                                      "{\"format\": 1, \"rows\": [\n{\"a\": 1},\n{\"a\""};
    char path[512];
    text rows = TEXT_INIT, out = TEXT_INIT;

    small_path(path, *state, HISTORY_NAME);
    CHECK_OK(rows_read(&rows, *state, HISTORY_NAME)); /* none is an empty one */
    CHECK_INT(rows.length, 0);
    for (size_t i = 0; i < THAW_COUNT(bad); i++) {
        check_write_file(path, bad[i], strlen(bad[i]));
        CHECK_ERROR(rows_read(&rows, *state, HISTORY_NAME), THAW_E_CORRUPT, HISTORY_NAME);
    }
    rows_add(&rows, "{\"a\": 1}");
    rows_add(&rows, "{\"a\": 2}");
    rows_print(&out, &rows);
    check_write_file(path, out.data, out.length);
    text_done(&rows);
    CHECK_OK(rows_read(&rows, *state, HISTORY_NAME));
    CHECK_STR(rows.data, "{\"a\": 1},\n{\"a\": 2}");
    text_done(&rows);
    text_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_whole_after_a_resume, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_refusals, small_setup, small_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
