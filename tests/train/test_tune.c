/*
 * test_tune.c - choices of kernels by measuring: the clock decides once, before the first step; a
 * resume takes the choices from the checkpoint whatever the clock says then, and gives the same
 * bits; a file that is damaged is refused, one of another machine is measured again.
 */
#include "train/small_runs.h"

#include "ckpt/saving.h"

#define RECIPE                                                                                     \
    "seed = 3\n" SMALL_RESNET SMALL_DATA "[optimizer]\nlr = 0.01\n[plan]\ntune = 'measure'\n"      \
    "[checkpoint]\nevery = '3 steps'\nkeep = 9\n"                                                  \
    "[[phase]]\nsteps = 4\n" SMALL_BACKBONE "[[phase]]\nsteps = 4\nunfreeze = ['.*']\n"
#define LAST "checkpoints/step-000008/"

/* Each look at this clock finds that another time has passed: choices are drawn. */
static uint64_t drawn;
static double clock_now;

static double draw_clock(void)
{
    clock_now += (double)(splitmix64(&drawn) >> 44) * 1e-9;
    return clock_now;
}

static void install_clock(os_table *table, uint64_t seed)
{
    *table = os_posix;
    table->monotonic = draw_clock;
    drawn = seed;
    os_install(table);
}

static thaw_status train(const char *data, const char *run, uint64_t clock, small_record *r)
{
    thaw_recipe *recipe = small_recipe(RECIPE, data);
    const thaw_run_options options = {
        .run = run, .threads = 1, .on_event = small_listen, .user = r};
    os_table table;
    thaw_status status;

    install_clock(&table, clock);
    status = thaw_train(recipe, &options);
    os_install(NULL);
    thaw_recipe_destroy(recipe);
    return status;
}

static thaw_status resume(const char *run, uint64_t clock, const char *set, small_record *r)
{
    const thaw_run_options options = {.run = run,
                                      .threads = 1,
                                      .on_event = small_listen,
                                      .user = r,
                                      .sets = &set,
                                      .n_sets = set ? 1 : 0};
    os_table table;
    thaw_status status;

    install_clock(&table, clock);
    status = thaw_resume(&options);
    os_install(NULL);
    return status;
}

static bool same_files(const char *a, const char *b, const char *name)
{
    char path[512];
    size_t n, m;
    char *x = check_read_file(&n, small_path(path, a, name));
    char *y = check_read_file(&m, small_path(path, b, name));
    const bool same = n == m && memcmp(x, y, n) == 0;

    free(x);
    free(y);
    return same;
}

/* ----------------------------------------------------------------------------------------------
 * a run and its resume */

static void test_resume(void **state)
{
    char whole[512], run[512], path[512];
    small_record w = {0}, first = {.stop_at = 3}, second = {.stop_at = 5}, third = {0};
    small_record other = {0};

    CHECK_OK(train(*state, small_path(whole, *state, "whole"), 11, &w));
    CHECK_CONTAINS(w.words, "choices measured in");
    CHECK_INT(train(*state, small_path(run, *state, "run"), 11, &first), THAW_E_STOPPED);
    /* by another clock than the one that chose */
    CHECK_INT(resume(run, 12, NULL, &second), THAW_E_STOPPED);
    CHECK_OK(resume(run, 13, NULL, &third));
    CHECK_MSG(!strstr(second.words, "measured") && !strstr(third.words, "measured"),
              "a resume measures: %s%s", second.words, third.words);
    small_same_files(whole, run, LAST "model.safetensors");
    small_same_files(whole, run, LAST "optimizer.safetensors");
    /* and each checkpoint has what the run was begun with */
    small_same_files(run, small_path(path, run, "checkpoints/step-000003"), TUNE_NAME);
    small_same_files(run, small_path(path, run, "checkpoints/step-000008"), TUNE_NAME);
    /* that clock would have chosen otherwise */
    CHECK_OK(train(*state, small_path(path, *state, "other"), 13, &other));
    CHECK_MSG(!same_files(path, run, TUNE_NAME), "two clocks choose alike");
}

static void forget_checkpoints(const char *run)
{
    char from[512], to[512];

    CHECK(rename(small_path(from, run, "checkpoints"), small_path(to, run, "forgotten")) == 0);
}

/* A run that was killed before its first checkpoint has its choices in its folder. */
static void test_begins_again(void **state)
{
    char whole[512], run[512];
    small_record w = {0}, killed = {.stop_at = 1}, again = {0};

    CHECK_OK(train(*state, small_path(whole, *state, "whole"), 11, &w));
    CHECK_INT(train(*state, small_path(run, *state, "run"), 11, &killed), THAW_E_STOPPED);
    forget_checkpoints(run);
    CHECK_OK(resume(run, 12, NULL, &again));
    CHECK_CONTAINS(again.words, "from the beginning");
    small_same_files(whole, run, LAST "model.safetensors");
}

/* ----------------------------------------------------------------------------------------------
 * files */

/* tune.json of a run, with one text in the place of another. */
static void change(const char *run, const char *old, const char *new)
{
    static char now[1 << 16];
    char path[512];
    size_t n;
    char *was = check_read_file(&n, small_path(path, run, TUNE_NAME));
    const char *at = strstr(was, old);

    CHECK_MSG(at, "'%s' is not in the file", old);
    CHECK(snprintf(now, sizeof now, "%.*s%s%s", (int)(at - was), was, new, at + strlen(old)) <
          (int)sizeof now);
    free(was);
    CHECK_OK(os_replace_file(run, TUNE_NAME, now, strlen(now)));
}

static void begin(char run[512], const char *data)
{
    small_record r = {.stop_at = 1};

    CHECK_INT(train(data, small_path(run, data, "run"), 11, &r), THAW_E_STOPPED);
    forget_checkpoints(run);
}

static void test_damaged(void **state)
{
    static const struct {
        const char *old, *new, *message;
    } row[] = {
        {"{\n  \"format\": 1", "", "expected"},
        {"\"format\": 1", "\"format\": 2", "is no list of choices in format 1"},
        {"\"threads\": 1", "\"threads\": []", "is no list of choices in format 1"},
        {"\"kernels\": ", "\"kernel\": ", "is no list of choices in format 1"},
        {"\"choices\": {", "\"choices\": [], \"rest\": {", "is no list of choices"},
        {"forward of", "backward of", "choice 1: no layer computes that"},
        {"\"way\": \"", "\"way\": \"by ", "choice 1: its way is unknown"},
        {"\"table\": \"", "\"table\": 3, \"was\": \"", "choice 1: its way is unknown"},
        {"\"library\": ", "\"library\": -", "choice 1: its times are malformed"},
        {"\"library\": ", "\"library\": \"\", \"was\": ", "choice 1: its times are malformed"},
        {"\"choices\": {", "\"choices\": {\"weight of linear 0 to 0\": {\"way\": \"library\"},",
         "choice 1: its way is unknown"},
        {"\"choices\": {",
         "\"choices\": {\"forward of linear 3 to 4\": {\"way\": \"product\", \"table\": "
         "\"library\", \"seconds\": {\"library\": 1, \"product\": null}},",
         "choice 1: it cannot be computed by 'product'"},
    };
    char run[512];

    begin(run, *state);
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        char path[512];
        size_t n;
        char *whole = check_read_file(&n, small_path(path, run, TUNE_NAME));
        small_record r = {0};

        change(run, row[i].old, row[i].new);
        CHECK_INT(resume(run, 11, NULL, &r), THAW_E_DATA);
        CHECK_CONTAINS(thaw_error(), row[i].message);
        CHECK_CONTAINS(thaw_error(), TUNE_NAME);
        CHECK_MSG(!strchr(thaw_error(), '\n'), "more than a line: %s", thaw_error());
        CHECK_OK(os_replace_file(run, TUNE_NAME, whole, n));
        free(whole);
    }
}

static void test_other_machine(void **state)
{
    char run[512], path[512];
    small_record r = {0};

    begin(run, *state);
    change(run, "\"kernels\": \"oneDNN", "\"kernels\": \"oneDNN 0.9, mmx, not oneDNN");
    CHECK_OK(resume(run, 12, NULL, &r));
    CHECK_CONTAINS(r.words, "was measured with oneDNN 0.9, mmx");
    CHECK_CONTAINS(r.words, "choices measured in");
    small_same_files(run, small_path(path, run, "checkpoints/step-000008"), TUNE_NAME);
}

/* Where the recipe does not ask for it, nothing is measured, kept or taken up. */
static void test_table(void **state)
{
    char run[512], path[512];
    small_record r = {0};

    begin(run, *state);
    CHECK_OK(resume(run, 11, "plan.tune=table", &r));
    CHECK_MSG(!strstr(r.words, "measured"), "%s", r.words);
    CHECK(os_kind_of(small_path(path, run, "checkpoints/step-000008/" TUNE_NAME)) == OS_ABSENT);
}

/* ----------------------------------------------------------------------------------------------
 * showing */

static int count(const char *text, const char *word)
{
    int n = 0;

    for (const char *at = text; (at = strstr(at, word)); at += strlen(word))
        n++;
    return n;
}

static char *view(const char *run, bool steps, bool json)
{
    const thaw_run_options options = {.threads = 1};
    thaw_recipe *recipe = NULL;
    char path[512], *out = NULL;

    CHECK_OK(thaw_recipe_load(&recipe, small_path(path, run, "recipe.toml"), NULL, 0));
    CHECK_OK(thaw_plan(&out, recipe, &options, steps, json));
    thaw_recipe_destroy(recipe);
    return out;
}

/* What the file says is what a plan is made of; without it, the table's ways stand there. */
static void test_view(void **state)
{
    char run[512], path[512];
    char *text, *before;

    begin(run, *state);
    text = view(run, true, false);
    CHECK_CONTAINS(text, " choices as measured, ");
    CHECK_CONTAINS(text, "forward: ");
    CHECK_CONTAINS(text, ", measured\n");
    thaw_text_free(text);
    before = view(run, true, true);
    CHECK_CONTAINS(before, "\"tune\": {\"measured\": true, ");
    change(run, "\"way\": \"library\", \"table\": \"library\"",
           "\"way\": \"product\", \"table\": \"library\"");
    text = view(run, true, true);
    CHECK_MSG(count(text, "\":\"product\"") > count(before, "\":\"product\""),
              "the plan does not follow the file");
    thaw_text_free(before);
    thaw_text_free(text);
    CHECK(unlink(small_path(path, run, TUNE_NAME)) == 0);
    text = view(run, true, false);
    CHECK_CONTAINS(text, "kernels: by the table here");
    CHECK_MSG(!strstr(text, ", measured\n"), "measured by whom?");
    thaw_text_free(text);
}

/* However the clock chooses, the memory predicted is the table's: a resume must cut alike. */
static void test_prediction_is_the_tables(void **state)
{
    os_table table;
    size_t before, after;
    small_run r;
    int n, others;

    small_open(&r, RECIPE, *state, NULL);
    CHECK_OK(budget_phase(&before, r.job, 1, 4));
    install_clock(&table, 17);
    CHECK_OK(tune_measure(r.job, NULL));
    os_install(NULL);
    tune_count(&n, &others, r.job);
    CHECK_MSG(others > 0, "none of %d choices differs from the table's", n);
    CHECK_OK(budget_phase(&after, r.job, 1, 4));
    CHECK_INT(after, before);
    small_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_resume, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_begins_again, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_damaged, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_other_machine, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_table, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_view, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_prediction_is_the_tables, small_setup, small_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
