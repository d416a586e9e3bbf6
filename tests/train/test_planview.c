/*
 * test_planview.c - `thaw plan` for the recipes in plans/, compared with the texts beside them; and
 * as JSON.
 *
 * Write the texts anew, to be read before they are committed:  THAW_UPDATE_GOLDEN=1 test_planview
 */
#include "train/small_runs.h"

#include <jansson.h>

static const struct {
    const char *name;
    int64_t side, channels, n_train;
    int classes;
    bool steps;
} recipes[] = {
    {"mlp-steps", 8, 1, 18, 3, true},           {"small-resnet", 28, 1, 1000, 5, false},
    {"resnet50", 224, 3, 1281167, 1000, false}, {"middle-only", 16, 3, 100, 10, false},
    {"nothing-and-hold", 8, 1, 40, 3, false},   {"settings", 8, 1, 18, 3, false},
};

/* The plan of recipe i; free with thaw_text_free. */
static char *plan_of(size_t i, bool json)
{
    small_samples samples = {.all_bad = false};
    thaw_source source = small_source(&samples);
    const thaw_run_options options = {.threads = 1, .executor = "ref", .source = &source};
    thaw_recipe *recipe = NULL;
    char path[256], *out = NULL;

    source.height = source.width = recipes[i].side;
    source.channels = recipes[i].channels;
    source.n_train = recipes[i].n_train;
    source.classes = recipes[i].classes;
    (void)snprintf(path, sizeof path, "%s/train/plans/%s.toml", THAW_TEST_DIR, recipes[i].name);
    CHECK_OK(thaw_recipe_load(&recipe, path, NULL, 0));
    CHECK_OK(thaw_plan(&out, recipe, &options, recipes[i].steps, json));
    thaw_recipe_destroy(recipe);
    return out;
}

static void compare_lines(const char *path, const char *got, const char *want)
{
    for (int line = 1; *got || *want; line++) {
        const size_t n = strcspn(got, "\n"), m = strcspn(want, "\n");

        CHECK_MSG(n == m && memcmp(got, want, n) == 0, "%s:%d: got '%.*s', want '%.*s'", path, line,
                  (int)n, got, (int)m, want);
        got += n + (got[n] == '\n');
        want += m + (want[m] == '\n');
    }
}

static void test_texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(recipes); i++) {
        char path[256], *got = plan_of(i, false), *want;

        (void)snprintf(path, sizeof path, "%s/train/plans/%s.txt", THAW_TEST_DIR, recipes[i].name);
        if (getenv("THAW_UPDATE_GOLDEN"))
            check_write_file(path, got, strlen(got));
        want = check_read_file(NULL, path);
        compare_lines(path, got, want);
        free(want);
        thaw_text_free(got);
    }
}

/* The same facts for programs. */
static void test_json(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(recipes); i++) {
        char *text = plan_of(i, true);
        json_error_t error;
        json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
        const json_t *phases;

        CHECK_MSG(root, "%s: line %d: %s", recipes[i].name, error.line, error.text);
        phases = json_object_get(root, "phases");
        CHECK(json_array_size(phases) >= 2);
        for (size_t p = 0; p < json_array_size(phases); p++) {
            const json_t *phase = json_array_get(phases, p);
            const json_t *groups = json_object_get(phase, "groups");
            json_int_t sum = 0;

            CHECK_INT(json_integer_value(json_object_get(phase, "phase")), p + 1);
            for (size_t g = 0; g < json_array_size(groups); g++)
                sum += json_integer_value(json_object_get(json_array_get(groups, g), "elements"));
            CHECK(json_is_number(
                json_object_get(json_object_get(phase, "settings"), "weight_decay")));
            CHECK_INT(sum, json_integer_value(json_object_get(phase, "trainable")));
            CHECK(json_integer_value(json_object_get(phase, "peak_bytes")) > 0);
            CHECK_INT(json_is_object(json_object_get(phase, "plan")), recipes[i].steps);
        }
        json_decref(root);
        thaw_text_free(text);
    }
}

/* Every allocation may fail: an error or success, and nothing left behind. */
static void test_out_of_memory(void **state)
{
    small_samples samples = {.all_bad = false};
    const thaw_source source = small_source(&samples);
    const thaw_run_options options = {.threads = 1, .executor = "ref", .source = &source};
    thaw_recipe *recipe = NULL;
    const size_t before = thaw__mem_current();

    (void)state;
    CHECK_OK(thaw_recipe_load(&recipe, THAW_TEST_DIR "/train/plans/mlp-steps.toml", NULL, 0));
    const size_t with_recipe = thaw__mem_current();
    for (long n = 1, more = true; more; n++) {
        thaw_status status;
        char *out = NULL;

        check_alloc_fail(n, n % 2);
        status = thaw_plan(&out, recipe, &options, n % 3 == 0, n % 5 == 0);
        more = check_alloc_restore();
        CHECK_MSG(status == THAW_OK || status == THAW_E_NOMEM, "allocation %ld: %s: %s", n,
                  thaw_status_name(status), thaw_error());
        CHECK((out == NULL) == (status != THAW_OK));
        thaw_text_free(out);
        CHECK_INT(thaw__mem_current(), with_recipe);
    }
    thaw_recipe_destroy(recipe);
    CHECK_INT(thaw__mem_current(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
