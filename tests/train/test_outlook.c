/*
 * test_outlook.c - what a path is opened as, and what is shown of it: marks, coefficients and rates
 * in every phase, the phase a checkpoint stands in, its edits.
 */
#include "train/small_runs.h"

#include <jansson.h>

#define DEEP                                                                                       \
    "[model]\narch = 'resnet18'\nwidths = [4, 4, 8, 8]\nblocks = [4, 3, 1, 1]\nstem = 'small'\n"
#define REST                                                                                       \
    "[train]\nexecutor = 'ref'\n[optimizer]\nname = 'sgd'\nlr = 0.01\n"                            \
    "[checkpoint]\nevery = '2 steps'\nkeep = 9\n"
#define PHASES                                                                                     \
    "[[phase]]\nname = 'head'\nsteps = 3\nfreeze = ['conv1', 'bn1', 'layer.*']\n"                  \
    "[[phase]]\nname = 'top'\nepochs = 1\nlr = 0.004\nunfreeze = 'layer4.0.conv2'\n"               \
    "lr_coefficients = { 'layer4' = 0.5 }\n"

static char *show(const char *path, bool json)
{
    char *text = NULL;

    CHECK_OK(thaw_show(&text, path, json));
    return text;
}

/* The line of a layer, without the spaces that draw columns. */
static void find_line(char out[256], const char *text, const char *layer)
{
    const char *line = text;
    size_t n = 0;

    while (line && strncmp(line + strspn(line, " "), layer, strlen(layer)) != 0) {
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    CHECK_MSG(line, "there is no line '%s' in\n%s", layer, text);
    for (; line && *line && *line != '\n' && n < 255; line++)
        if (*line != ' ' || (n > 0 && out[n - 1] != ' '))
            out[n++] = *line;
    out[n] = '\0';
}

static void check_line(const char *text, const char *layer, const char *want)
{
    char line[256];

    find_line(line, text, layer);
    CHECK_STR(line, want);
}

static void write_recipe(const char *folder, const char *name, const char *source)
{
    check_write_file(check_path(folder, name), source, strlen(source));
}

static void train_until(const char *source, const char *folder, const char *run, int64_t stop_at)
{
    thaw_recipe *recipe = small_recipe(source, folder);
    small_record record = {.stop_at = stop_at};
    const thaw_run_options options = {
        .run = run, .threads = 1, .on_event = small_listen, .user = &record};

    CHECK_STATUS(thaw_train(recipe, &options), stop_at > 0 ? THAW_E_STOPPED : THAW_OK);
    thaw_recipe_destroy(recipe);
}

static void test_text_of_a_recipe(void **state)
{
    char *folder = *state, *text;
    char path[512];

    write_recipe(folder, "r.toml", DEEP SMALL_DATA REST PHASES);
    text = show(small_path(path, folder, "r.toml"), false);
    check_line(text, "layer ", "layer parameters 1 head 2 top");
    check_line(text, "fc", "fc 27 x 1 0.01 x 1 0.004");
    check_line(text, "layer2", "layer2 936 - -");
    check_line(text, "layer4", "layer4 1,264 - ~ 0.5 0.002");
    check_line(text, "(all)", "(all) 4,431 ~ 1 0.01 ~ 0.5…1 0.002…0.004");
    thaw_text_free(text);
}

/* Alike in parameters and phases: one line; told apart by one of them: not. */
static void test_folding(void **state)
{
    char *folder = *state, *text;
    char path[512];

    write_recipe(folder, "f.toml", DEEP SMALL_DATA REST PHASES);
    text = show(small_path(path, folder, "f.toml"), false);
    check_line(text, "0…3", "0…3 (4 alike) 304 - -"); /* layer1 */
    check_line(text, "1…2", "1…2 (2 alike) 304 - -"); /* layer2 */
    thaw_text_free(text);

    write_recipe(folder, "f.toml",
                 DEEP SMALL_DATA REST "[[phase]]\nsteps = 1\nfreeze = 'layer1.1.conv2'\n"
                                      "lr_coefficients = { 'layer2.2.bn1' = 0.5 }\n");
    text = show(path, false);
    check_line(text, "1 ", "1 304 ~ 1 0.01");
    check_line(text, "2…3", "2…3 (2 alike) 304 x 1 0.01");
    CHECK(!strstr(text, "1…2"));
    thaw_text_free(text);
}

static const json_t *json_layer(const json_t *root, const char *name)
{
    const json_t *list = json_object_get(root, "layers");

    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *layer = json_array_get(list, i);

        if (strcmp(json_string_value(json_object_get(layer, "layer")), name) == 0)
            return layer;
    }
    CHECK_FAIL("no layer '%s'", name);
    return NULL;
}

static void check_json(const json_t *root, const char *layer, int phase, const char *state,
                       double coefficient, double rate)
{
    const json_t *p =
        json_array_get(json_object_get(json_layer(root, layer), "phases"), (size_t)phase);

    CHECK_STR(json_string_value(json_object_get(p, "state")), state);
    CHECK_NEAR(json_number_value(json_array_get(json_object_get(p, "coefficients"), 0)),
               coefficient, 0, 0);
    CHECK_NEAR(json_number_value(json_array_get(json_object_get(p, "rates"), 1)), rate, 1e-12, 0);
}

static json_t *parse(char *text)
{
    json_error_t error;
    json_t *root = json_loads(text, 0, &error);

    CHECK_MSG(root, "%s at line %d", error.text, error.line);
    thaw_text_free(text);
    return root;
}

static void test_json_of_a_recipe(void **state)
{
    char *folder = *state;
    char path[512];
    json_t *root;

    write_recipe(folder, "j.toml", DEEP SMALL_DATA REST PHASES);
    root = parse(show(small_path(path, folder, "j.toml"), true));
    CHECK_INT(json_integer_value(json_object_get(root, "phase")), 0);
    CHECK_INT(json_array_size(json_object_get(root, "phases")), 2);
    check_json(root, "fc", 0, "trainable", 1, 0.01);
    check_json(root, "layer4", 0, "frozen", 0, 0);
    check_json(root, "layer4", 1, "mixed", 0.5, 0.002);
    check_json(root, "layer1.2.conv1", 1, "frozen", 0, 0); /* nothing is folded */
    json_decref(root);
}

/* Where phases in epochs lie is known without the data. */
static void test_checkpoint(void **state)
{
    char *folder = *state, *text = NULL;
    char run[512], path[512], data[512];
    const char *patterns[] = {"layer4", "layer3"};
    json_t *root;

    train_until(DEEP SMALL_DATA REST PHASES, folder, small_path(run, folder, "run"), 4);
    CHECK(unlink(small_path(data, folder, "train-images-idx3-ubyte")) == 0);
    CHECK_OK(thaw_edit(&text, run, THAW_EDIT_UNFREEZE, 1, patterns, 2));
    thaw_text_free(text);
    text = show(run, false);
    CHECK_CONTAINS(text, "step-000004.edit-1: iteration 4, phase 2 'top'\n");
    CHECK_CONTAINS(text, "edited at iteration 4: unfreeze 'layer4' 'layer3'\n");
    check_line(text, "layer ", "layer parameters 1 head >2 top");
    check_line(text, "layer4", "layer4 1,264 - x 0.5 0.002");
    thaw_text_free(text);
    root = parse(show(small_path(path, run, "checkpoints/step-000002"), true));
    CHECK_INT(json_integer_value(json_object_get(root, "phase")), 1);
    CHECK_INT(json_integer_value(json_object_get(root, "iteration")), 2);
    CHECK_INT(json_array_size(json_object_get(root, "edits")), 0);
    json_decref(root);
    small_data(folder);
}

static void test_network_alone(void **state)
{
    char *folder = *state, *text;
    char path[512];

    write_recipe(folder, "config.json",
                 "{\"model_type\": \"resnet18\", \"num_labels\": 3, \"image_size\": 16, "
                 "\"num_channels\": 1}");
    text = show(folder, false);
    check_line(text, "fc", "fc 1,539");
    CHECK(!strstr(text, "before the curve"));
    thaw_text_free(text);
    CHECK(unlink(small_path(path, folder, "config.json")) == 0);
}

static void test_mistakes(void **state)
{
    char *folder = *state, *text = NULL;
    char path[512];

    CHECK_STATUS(thaw_show(&text, small_path(path, folder, "absent"), false), THAW_E_MISSING);
    CHECK_ERROR(thaw_show(&text, "/", false), THAW_E_MISSING, "neither recipe.toml nor");
    write_recipe(folder, "bad.toml", "[model]\narc = 'mlp'\n");
    CHECK_STATUS(thaw_show(&text, small_path(path, folder, "bad.toml"), false), THAW_E_RECIPE);
    CHECK(text == NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_of_a_recipe), cmocka_unit_test(test_folding),
        cmocka_unit_test(test_json_of_a_recipe), cmocka_unit_test(test_checkpoint),
        cmocka_unit_test(test_network_alone),    cmocka_unit_test(test_mistakes),
    };

    return cmocka_run_group_tests(tests, small_setup, small_teardown);
}
