/*
 * test_events.c - events as lines of JSON, the history of a run, and its order.
 */
#include "train/small_runs.h"

#include <fcntl.h>
#include <jansson.h>
#include <sys/stat.h>

static json_t *line_of(const thaw_event *e)
{
    json_error_t error;
    char *line = NULL;
    json_t *root;

    CHECK_OK(thaw_event_json(&line, e));
    CHECK(line[strlen(line) - 1] == '\n' && strchr(line, '\n') == line + strlen(line) - 1);
    root = json_loads(line, JSON_REJECT_DUPLICATES, &error);
    CHECK_MSG(root, "%s: %s", error.text, line);
    thaw_text_free(line);
    return root;
}

/* Every kind, with values that are hard to write. */
static void test_every_kind(void **state)
{
    static const char *const name[] = {"run",  "phase",     "step", "eval",
                                       "save", "phase_end", "note", "end"};

    (void)state;
    for (int kind = THAW_EVENT_RUN; kind <= THAW_EVENT_END; kind++) {
        const thaw_event e = {.kind = (thaw_event_kind)kind,
                              .phase = 2,
                              .n_phases = 3,
                              .phase_name = "he said \"now\"",
                              .iteration = INT64_MAX,
                              .loss = NAN,
                              .loss_smoothed = INFINITY,
                              .lr = 1e-300,
                              .metric = 1.0 / 3,
                              .metric_name = "accuracy",
                              .split = "valid",
                              .planned_bytes = (uint64_t)1 << 52,
                              .text = "a\nb\t\\ \x01 ü"};
        json_t *root = line_of(&e);

        CHECK_STR(json_string_value(json_object_get(root, "event")), name[kind]);
        CHECK(json_integer_value(json_object_get(root, "iteration")) == INT64_MAX);
        CHECK_STR(json_string_value(json_object_get(root, "text")), e.text);
        if (kind == THAW_EVENT_STEP) {
            CHECK(json_is_null(json_object_get(root, "loss"))); /* JSON has no NaN */
            CHECK(json_is_null(json_object_get(root, "loss_smoothed")));
            CHECK(json_real_value(json_object_get(root, "lr")) == 1e-300);
        }
        if (kind == THAW_EVENT_EVAL) {
            CHECK(json_real_value(json_object_get(root, "metric")) == 1.0 / 3);
            CHECK_STR(json_string_value(json_object_get(root, "phase_name")), e.phase_name);
            CHECK(json_is_false(json_object_get(root, "best")));
        }
        json_decref(root);
    }
}

static void test_texts_left_out(void **state)
{
    const thaw_event e = {.kind = THAW_EVENT_NOTE};
    json_t *root = line_of(&e);

    (void)state;
    CHECK(json_object_get(root, "text") == NULL);
    json_decref(root);
}

#define RECIPE                                                                                     \
    SMALL_MLP SMALL_DATA "[train]\nexecutor = 'ref'\n"                                             \
                         "[[phase]]\nname = 'one'\nsteps = 2\n[[phase]]\nsteps = 1\n"

/* The history has what the caller was told, in its order. */
static void test_history(void **state)
{
    static const char want[] = "run eval phase step step eval phase_end save phase step eval "
                               "phase_end save end ";
    char run[512], path[512], got[512] = "", *all, *rest = NULL;
    small_record record = {0};
    const thaw_run_options options = {.run = small_path(run, *state, "run"),
                                      .threads = 1,
                                      .on_event = small_listen,
                                      .user = &record};
    thaw_recipe *recipe = small_recipe(RECIPE, *state);

    CHECK_OK(thaw_train(recipe, &options));
    all = check_read_file(NULL, small_path(path, run, "events.jsonl"));
    for (char *line = strtok_r(all, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *e = json_loads(line, JSON_REJECT_DUPLICATES, NULL);

        CHECK_MSG(e, "not JSON: %s", line);
        (void)snprintf(got + strlen(got), sizeof got - strlen(got), "%s ",
                       json_string_value(json_object_get(e, "event")));
        CHECK_INT(json_integer_value(json_object_get(e, "n_phases")), 2);
        CHECK(json_integer_value(json_object_get(e, "phase")) >= 1);
        json_decref(e);
    }
    CHECK_STR(got, want);
    CHECK_INT(record.n_steps, 3);
    CHECK_INT(record.n_evals, 3);
    CHECK_INT(record.n_saves, 2);
    free(all);
    thaw_recipe_destroy(recipe);
}

/* A full disk under the history does not end a run that can still learn. */
static void test_history_that_cannot_be_written(void **state)
{
    small_run r;

    small_open(&r, RECIPE, *state, NULL);
    r.trainer->events_fd = open("/dev/full", O_WRONLY);
    CHECK(r.trainer->events_fd >= 0);
    CHECK_OK(trainer_run(r.trainer));
    CHECK_INT(r.record.n_steps, 3);
    CHECK_INT(r.trainer->state.events_bytes, 0);
    small_close(&r);
}

static thaw_status resume_it(const char *run)
{
    const thaw_run_options options = {.run = run, .threads = 1};

    return thaw_resume(&options);
}

/* How many lines the history has, each of which must be a whole one, and how many are of `kind`. */
static int count_lines(const char *run, const char *kind)
{
    char path[512], *rest = NULL;
    size_t size;
    char *all = check_read_file(&size, small_path(path, run, "events.jsonl"));
    int n = 0;

    CHECK_INT(strlen(all), size);
    for (char *line = strtok_r(all, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *e = json_loads(line, JSON_REJECT_DUPLICATES, NULL);

        CHECK_MSG(e, "not JSON: %s", line);
        n += strcmp(json_string_value(json_object_get(e, "event")), kind) == 0;
        json_decref(e);
    }
    free(all);
    return n;
}

/* After lost power the history may be shorter than the checkpoint says: it goes on after its last
 * whole line, and is cut there again when resumed again. */
static void test_history_that_was_lost(void **state)
{
    char run[512], path[512];
    small_record record = {.stop_at = 2};
    const thaw_run_options options = {.run = small_path(run, *state, "lost"),
                                      .threads = 1,
                                      .on_event = small_listen,
                                      .user = &record};
    thaw_recipe *recipe = small_recipe(RECIPE, *state);

    CHECK_STATUS(thaw_train(recipe, &options), THAW_E_STOPPED);
    CHECK_INT(count_lines(run, "step"), 2);
    (void)small_path(path, run, "events.jsonl");
    /* from half of the second step's line on, all is gone */
    {
        char *all = check_read_file(NULL, path);
        const char *second = strstr(strstr(all, "\"step\"") + 1, "\"step\"");

        CHECK(truncate(path, second - all + 20) == 0);
        free(all);
    }
    CHECK_OK(resume_it(run));
    CHECK_INT(count_lines(run, "step"), 2); /* the first and the third */
    CHECK_INT(count_lines(run, "end"), 1);
    CHECK_OK(resume_it(run));
    CHECK_INT(count_lines(run, "step"), 2);
    thaw_recipe_destroy(recipe);
}

/* A write that stops half way leaves no half line before the next one. */
static void test_history_with_a_torn_line(void **state)
{
    char path[512];
    small_run r;
    thaw_event e = {.kind = THAW_EVENT_NOTE, .text = "one"};

    small_open(&r, RECIPE, *state, NULL);
    CHECK(mkdir(small_path(path, *state, "torn"), 0755) == 0);
    CHECK_OK(events_open(r.trainer, path));
    trainer_tell(r.trainer, &e);
    CHECK(write(r.trainer->events_fd, "{\"event\": \"no", 13) == 13);
    r.trainer->events_torn = true;
    trainer_tell(r.trainer, &e);
    CHECK_INT(count_lines(path, "note"), 2);
    small_close(&r);
}

typedef struct seen {
    int64_t iteration, phase_step;
    int wrong;
} seen;

/* Numbers that people watch only go up. */
static bool watch(void *user, const thaw_event *e)
{
    seen *s = user;

    s->wrong += e->iteration < s->iteration;
    s->iteration = e->iteration;
    if (e->kind == THAW_EVENT_STEP) {
        s->wrong += e->phase_step < 1 || e->phase_step > e->phase_steps;
        s->wrong += !(e->lr_least <= e->lr_most) || e->trainable > e->total;
        s->wrong += !(e->epoch > 0) || e->peak_bytes == 0;
    }
    return true;
}

static void test_numbers(void **state)
{
    seen s = {0};
    small_run r;

    small_open(&r, RECIPE, *state, NULL);
    r.record.more = watch;
    r.record.more_user = &s;
    CHECK_OK(trainer_run(r.trainer));
    CHECK_INT(s.wrong, 0);
    CHECK_INT(s.iteration, 3);
    small_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind),
        cmocka_unit_test(test_texts_left_out),
        cmocka_unit_test(test_history),
        cmocka_unit_test(test_history_that_cannot_be_written),
        cmocka_unit_test(test_history_that_was_lost),
        cmocka_unit_test(test_history_with_a_torn_line),
        cmocka_unit_test(test_numbers),
    };

    return cmocka_run_group_tests(tests, small_setup, small_teardown);
}
