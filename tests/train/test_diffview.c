/*
 * test_diffview.c - what two phase states differ in, listed once for what lies together, and
 * nothing where they are the same.
 */
#include "train/small_runs.h"

#include <jansson.h>

#define REST "[train]\nexecutor = 'ref'\n[checkpoint]\nevery = '2 steps'\nkeep = 9\n"
#define BASE SMALL_RESNET SMALL_DATA REST

typedef struct pair {
    char a[512], b[512];
} pair;

static pair write_pair(const char *folder, const char *a, const char *b)
{
    pair p;

    check_write_file(small_path(p.a, folder, "a.toml"), a, strlen(a));
    check_write_file(small_path(p.b, folder, "b.toml"), b, strlen(b));
    return p;
}

static char *diff(const char *a, const char *b, bool json, bool want)
{
    char *text = NULL;
    bool differ = !want;

    CHECK_OK(thaw_diff(&text, &differ, a, b, json));
    CHECK_MSG(differ == want, "%s %s: %s", a, b, text);
    return text;
}

static void check_diff(const char *folder, const char *a, const char *b, const char *want)
{
    const pair p = write_pair(folder, a, b);
    char *text = diff(p.a, p.b, false, true);

    CHECK_CONTAINS(text, want);
    thaw_text_free(text);
}

static void test_same(void **state)
{
    const char *one = BASE "[[phase]]\nsteps = 2\nfreeze = ['layer1', 'layer2']\n";
    const char *other = BASE "[[phase]]\nname = 'x'\nsteps = 2\nfreeze = 'layer[12]'\n";
    const pair p = write_pair(*state, one, other);
    char *text = diff(p.a, p.b, false, false);

    CHECK_CONTAINS(text, "the same phase state");
    thaw_text_free(text);
    text = diff(p.a, p.b, true, false);
    CHECK_CONTAINS(text, "\"differ\": false");
    thaw_text_free(text);
}

static void test_layers(void **state)
{
    const char *folder = *state;
    const char *one = BASE "[[phase]]\nsteps = 2\nname = 'p'\n";

    check_diff(folder, one, BASE "[[phase]]\nsteps = 2\nfreeze = 'layer3'\n",
               "phase 1 'p':\n  layer3  ");
    check_diff(folder, one, BASE "[[phase]]\nsteps = 2\nfreeze = 'layer3.0.bn1'\n",
               "\n  layer3.0.bn1  ");
    check_diff(folder, one, BASE "[[phase]]\nsteps = 2\nlr_coefficients = { layer3 = 0.5 }\n",
               "B: x 0.5  0.0005\n");
    check_diff(folder, one, "freeze = [{ module = 'fc.bias' }]\n" BASE "[[phase]]\nsteps = 2\n",
               "\n  fc.bias  ");
}

static void test_plans(void **state)
{
    const char *folder = *state;
    const char *one = BASE "[[phase]]\nsteps = 2\n";

    check_diff(folder, one, BASE "[[phase]]\nsteps = 3\n", "steps: 2 in A, 3 in B");
    check_diff(folder, one, BASE "[[phase]]\nsteps = 2\nlr = 0.5\n", "lr: 0.001 in A, 0.5 in B");
    check_diff(folder, one, BASE "[[phase]]\nsteps = 2\n[[phase]]\nsteps = 1\n", ", 2 phases");
}

static void test_other_networks(void **state)
{
    const char *folder = *state;

    check_diff(folder, BASE "[[phase]]\nsteps = 2\n",
               SMALL_MLP SMALL_DATA REST "[[phase]]\nsteps = 2\n", "only in A: conv1.weight\n");
}

static json_t *parse(char *text)
{
    json_error_t error;
    json_t *root = json_loads(text, 0, &error);

    CHECK_MSG(root, "%s in %s", error.text, text);
    thaw_text_free(text);
    return root;
}

static void test_json(void **state)
{
    const pair p = write_pair(*state, BASE "[[phase]]\nsteps = 2\n",
                              BASE "[[phase]]\nsteps = 3\nfreeze = ['fc', 'layer1']\n");
    json_t *root = parse(diff(p.a, p.b, true, true));
    const json_t *moment = json_array_get(json_object_get(root, "moments"), 0);
    const json_t *found = json_object_get(moment, "differences");

    CHECK_INT(json_array_size(found), 3); /* steps, layer1, fc */
    CHECK_STR(json_string_value(json_object_get(json_array_get(found, 1), "layer")), "layer1");
    CHECK_STR(
        json_string_value(json_object_get(json_object_get(json_array_get(found, 2), "b"), "state")),
        "frozen");
    json_decref(root);
}

/* Where a run stands differs; edits differ; other weights do not. */
static void test_checkpoints(void **state)
{
    char *folder = *state, *text = NULL;
    const char *pattern = "layer4";
    char run[512], two[512], four[512], six[512];
    thaw_recipe *recipe =
        small_recipe(BASE "[[phase]]\nsteps = 5\nfreeze = 'layer.*'\n[[phase]]\nsteps = 3\n"
                          "unfreeze = 'layer.*'\n",
                     folder);
    const thaw_run_options options = {.run = small_path(run, folder, "run"), .threads = 1};

    CHECK_OK(thaw_train(recipe, &options));
    thaw_recipe_destroy(recipe);
    (void)small_path(two, run, "checkpoints/step-000002");
    (void)small_path(four, run, "checkpoints/step-000004");
    (void)small_path(six, run, "checkpoints/step-000006");
    thaw_text_free(diff(two, four, false, false));
    text = diff(four, six, false, true);
    CHECK_CONTAINS(text, "now:\n");
    CHECK(!strstr(text, "phase 1 '") && !strstr(text, "phase 2 '"));
    thaw_text_free(text);
    CHECK_OK(thaw_edit(&text, four, THAW_EDIT_UNFREEZE, 1, &pattern, 1));
    thaw_text_free(text);
    (void)small_path(six, run, "checkpoints/step-000004.edit-1");
    text = diff(four, six, false, true);
    CHECK_CONTAINS(text, "now:\n  layer4");
    CHECK_CONTAINS(text, "phase 1 'phase 1':\n  layer4");
    CHECK(!strstr(text, "phase 2 '")); /* which thaws it anyway */
    thaw_text_free(text);
}

static void test_mistakes(void **state)
{
    const pair p = write_pair(*state, BASE "[[phase]]\nsteps = 2\n", "seeed = 1\n");
    const char *config = "{\"model_type\": \"resnet18\", \"num_labels\": 3, \"image_size\": 16, "
                         "\"num_channels\": 1}";
    char *text = NULL;
    bool differ = false;

    CHECK_STATUS(thaw_diff(&text, &differ, p.a, p.b, false), THAW_E_RECIPE);
    CHECK_STATUS(thaw_diff(&text, &differ, p.a, "absent", false), THAW_E_MISSING);
    check_write_file(check_path(*state, "config.json"), config, strlen(config));
    CHECK_ERROR(thaw_diff(&text, &differ, *state, p.a, false), THAW_E_USAGE, "without phases");
    CHECK(text == NULL && !differ);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same),     cmocka_unit_test(test_layers),
        cmocka_unit_test(test_plans),    cmocka_unit_test(test_other_networks),
        cmocka_unit_test(test_json),     cmocka_unit_test(test_checkpoints),
        cmocka_unit_test(test_mistakes),
    };

    return cmocka_run_group_tests(tests, small_setup, small_teardown);
}
