/*
 * test_showview.c - `thaw show`: the tree of a recipe, a run, a checkpoint and a model folder, as
 * text and as JSON that agrees with the effects.
 */
#include "train/small_runs.h"

#include <jansson.h>

#define RECIPE                                                                                     \
    SMALL_RESNET SMALL_DATA "[train]\nexecutor = 'ref'\n"                                          \
                            "[[phase]]\nname = 'head'\nsteps = 2\n" SMALL_BACKBONE                 \
                            "[[phase]]\nname = 'most'\nsteps = 2\n"                                \
                            "unfreeze = ['conv1', 'layer.*']\n"                                    \
                            "lr_coefficients = { layer3 = 0.5, 'layer3.0.conv1' = 0.25 }\n"

/* A recipe file and a run of it. */
static int make_run(void **state)
{
    char path[512], run[512];
    const thaw_run_options options = {.run = run, .threads = 1};
    thaw_recipe *recipe;

    CHECK_INT(small_setup(state), 0);
    check_write_file(small_path(path, *state, "r.toml"), RECIPE, strlen(RECIPE));
    small_path(run, *state, "run");
    recipe = small_recipe(RECIPE, *state);
    CHECK_OK(thaw_train(recipe, &options));
    thaw_recipe_destroy(recipe);
    return 0;
}

static char *show(const char *folder, const char *name, bool json)
{
    char path[512], *out = NULL;

    CHECK_OK(thaw_show(&out, small_path(path, folder, name), json));
    return out;
}

static const char *const places[] = {"r.toml", "run", "run/checkpoints/step-000004", "run/best"};

/* Every place shows every layer with parameters and how many. */
static void test_text(void **state)
{
    for (size_t i = 0; i < THAW_COUNT(places); i++) {
        char *text = show(*state, places[i], false);

        CHECK_CONTAINS(text, "conv1");
        CHECK_CONTAINS(text, "layer4");
        CHECK_CONTAINS(text, "fc");
        CHECK_CONTAINS(text, "2,911");
        if (i < 3) {
            CHECK_CONTAINS(text, "head");
            CHECK_CONTAINS(text, "most");
        }
        thaw_text_free(text);
    }
}

static json_t *json_of(const char *folder, const char *name)
{
    json_error_t error;
    char *text = show(folder, name, true);
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);

    CHECK_MSG(root, "%s: line %d: %s", name, error.line, error.text);
    thaw_text_free(text);
    return root;
}

static const json_t *layer_of(const json_t *root, const char *name)
{
    const json_t *layers = json_object_get(root, "layers");

    for (size_t i = 0; i < json_array_size(layers); i++)
        if (strcmp(json_string_value(json_object_get(json_array_get(layers, i), "layer")), name) ==
            0)
            return json_array_get(layers, i);
    CHECK_FAIL("there is no layer '%s'", name);
    return NULL;
}

static void check_layer(const json_t *root, const char *name, int phase, json_int_t trainable,
                        double least, double most)
{
    const json_t *in_phase =
        json_array_get(json_object_get(layer_of(root, name), "phases"), (size_t)phase);
    const json_t *range = json_object_get(in_phase, "coefficients");

    CHECK_INT(json_integer_value(json_object_get(in_phase, "trainable")), trainable);
    if (trainable == 0)
        return;
    CHECK_NEAR(json_number_value(json_array_get(range, 0)), least, 0, 0);
    CHECK_NEAR(json_number_value(json_array_get(range, 1)), most, 0, 0);
}

/* What trains where, and its coefficient: of recipe, run and checkpoint alike. */
static void test_json(void **state)
{
    for (size_t i = 0; i < 3; i++) {
        json_t *root = json_of(*state, places[i]);

        CHECK_INT(json_integer_value(json_object_get(layer_of(root, "fc"), "parameters")), 27);
        check_layer(root, "fc", 0, 27, 1, 1);
        check_layer(root, "layer3", 0, 0, 0, 0);
        check_layer(root, "conv1", 1, 36, 1, 1);
        check_layer(root, "bn1", 1, 0, 0, 0); /* never thawed */
        check_layer(root, "layer3.0.conv1", 1, 288, 0.25, 0.25);
        check_layer(root, "layer3", 1, 288 + 16 + 576 + 16 + 32 + 16, 0.25, 0.5);
        json_decref(root);
    }
    json_t *root = json_of(*state, "run/best"); /* a model alone has no phases */

    CHECK_INT(json_integer_value(json_object_get(layer_of(root, "fc"), "parameters")), 27);
    CHECK_INT(json_array_size(json_object_get(layer_of(root, "fc"), "phases")), 0);
    json_decref(root);
}

static void test_mistakes(void **state)
{
    char path[512], *out = NULL;

    CHECK_STATUS(thaw_show(&out, small_path(path, *state, "nowhere"), false), THAW_E_MISSING);
    CHECK_STATUS(thaw_show(&out, small_path(path, *state, "nowhere.toml"), false), THAW_E_MISSING);
    CHECK_STATUS(thaw_show(&out, *state, false), THAW_E_MISSING); /* nothing of ours in it */
    CHECK(out == NULL);
}

static void test_out_of_memory(void **state)
{
    for (size_t i = 0; i < THAW_COUNT(places); i++) {
        char path[512];
        const size_t before = thaw__mem_current();

        small_path(path, *state, places[i]);
        for (long n = 1, more = true; more; n += 1 + n / 20) {
            thaw_status status;
            char *out = NULL;

            check_alloc_fail(n, n % 2);
            status = thaw_show(&out, path, n % 3 == 0);
            more = check_alloc_restore();
            CHECK_MSG(status == THAW_OK || status == THAW_E_NOMEM, "%s, allocation %ld: %s: %s",
                      places[i], n, thaw_status_name(status), thaw_error());
            thaw_text_free(out);
            CHECK_MSG(thaw__mem_current() == before, "%s, allocation %ld: %zu bytes left behind",
                      places[i], n, thaw__mem_current() - before);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, make_run, small_teardown);
}
