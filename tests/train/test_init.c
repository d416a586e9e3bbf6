/*
 * test_init.c - a recipe from a preset parses, and its phases do to a network what the preset
 * promises.
 */
#include "train/small_runs.h"

typedef struct made {
    thaw_recipe *recipe;
    model *model;
    thaw_schedule *schedule;
    char *text;
} made;

static made make(const char *model_name, const char *preset, const thaw_preset_options *options)
{
    made m = {0};
    model_config config = MODEL_CONFIG_INIT;

    CHECK_OK(thaw_init(&m.text, model_name, preset, options, NULL, 0));
    m.recipe = small_recipe(m.text, "/");
    strcpy(config.arch, "resnet18");
    config.height = config.width = 64;
    config.channels = 3;
    CHECK_OK(model_create(&m.model, &config, DTYPE_F32));
    CHECK_OK(job_schedule(&m.schedule, m.recipe, m.model->tree, 3200));
    return m;
}

static void unmake(made *m)
{
    thaw_schedule_destroy(m->schedule);
    model_destroy(m->model);
    thaw_recipe_destroy(m->recipe);
    thaw_text_free(m->text);
}

static const thaw_effect *effect_in(const made *m, int phase)
{
    const thaw_progress start = {0};
    const thaw_effect *e = NULL;
    thaw_progress at = {0};
    int64_t end;

    thaw_schedule_phase_span(&at.iteration, &end, m->schedule, &start, phase);
    CHECK_MSG(end > at.iteration, "phase %d is empty", phase + 1);
    CHECK_OK(thaw_schedule_effect(&e, m->schedule, &at));
    return e;
}

static bool is_head(const made *m, int p)
{
    return strncmp(thaw_tree_param_name(m->model->tree, p), "fc.", 3) == 0;
}

static void test_linear_probe(void **state)
{
    made m = make("resnet18", "linear-probe", NULL);

    (void)state;
    CHECK_INT(thaw_schedule_n_phases(m.schedule), 2);
    for (int p = 0; p < m.model->n_params; p++) {
        CHECK(effect_in(&m, 0)->trainable[p] == is_head(&m, p));
        CHECK(effect_in(&m, 1)->trainable[p]);
        CHECK_NEAR(effect_in(&m, 1)->lr_scale[p], is_head(&m, p) ? 1 : 0.1, 0, 0);
    }
    unmake(&m);
}

static bool in_lower_half(const made *m, int p)
{
    static const char *const lower[] = {"conv1.", "bn1.", "layer1.", "layer2."};
    const char *const name = thaw_tree_param_name(m->model->tree, p);

    for (size_t i = 0; i < THAW_COUNT(lower); i++)
        if (strncmp(name, lower[i], strlen(lower[i])) == 0)
            return true;
    return false;
}

static void test_halves(void **state)
{
    made m = make("resnet18", "halves", NULL);

    (void)state;
    CHECK_INT(thaw_schedule_n_phases(m.schedule), 3);
    for (int p = 0; p < m.model->n_params; p++) {
        const bool lower = in_lower_half(&m, p);

        CHECK(effect_in(&m, 0)->trainable[p] == is_head(&m, p));
        CHECK_MSG(effect_in(&m, 1)->trainable[p] == !lower, "'%s'",
                  thaw_tree_param_name(m.model->tree, p));
        CHECK(effect_in(&m, 2)->trainable[p]);
        CHECK_NEAR(effect_in(&m, 2)->lr_scale[p], is_head(&m, p) ? 1 : lower ? 0.01 : 0.1, 0, 0);
    }
    unmake(&m);
}

static void test_random_weights(void **state)
{
    made m = make("resnet18", NULL, NULL);

    (void)state;
    CHECK_INT(thaw_schedule_n_phases(m.schedule), 1);
    for (int p = 0; p < m.model->n_params; p++)
        CHECK(effect_in(&m, 0)->trainable[p]);
    CHECK_CONTAINS(m.text, "random weights");
    unmake(&m);
}

static void test_gradual(void **state)
{
    made m = make("resnet18", "gradual", NULL);
    const int n = thaw_schedule_n_phases(m.schedule);

    (void)state;
    CHECK(n > 2);
    for (int p = 0; p < m.model->n_params; p++) {
        CHECK(effect_in(&m, 0)->trainable[p] == is_head(&m, p));
        CHECK(effect_in(&m, n - 1)->trainable[p]);
        for (int k = 1; k < n; k++) {
            const thaw_effect *before = effect_in(&m, k - 1), *now = effect_in(&m, k);

            CHECK_MSG(!before->trainable[p] || now->trainable[p], "phase %d freezes", k + 1);
            /* from the top: what lies above something that trains does too */
            CHECK(p == 0 || !now->trainable[p - 1] || now->trainable[p] ||
                  strstr(thaw_tree_param_name(m.model->tree, p), "downsample"));
        }
    }
    unmake(&m);
}

static void test_rates_fall_towards_the_bottom(void **state)
{
    static const char *const presets[] = {"discriminative", "layer-decay"};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(presets); i++) {
        made m = make("resnet18", presets[i], NULL);
        const thaw_effect *e = effect_in(&m, 0);

        CHECK_INT(thaw_schedule_n_phases(m.schedule), 1);
        for (int p = 0; p < m.model->n_params; p++) {
            CHECK(e->trainable[p]);
            CHECK(p == 0 || e->lr_scale[p - 1] <= e->lr_scale[p]);
        }
        CHECK(e->lr_scale[m.model->n_params - 1] == 1.0);
        CHECK(e->lr_scale[0] < 0.5);
        unmake(&m);
    }
}

static void test_freeze_out(void **state)
{
    made m = make("resnet18", "freeze-out", NULL);
    const int n = thaw_schedule_n_phases(m.schedule);

    (void)state;
    CHECK(n > 2);
    for (int p = 0; p < m.model->n_params; p++) {
        CHECK(effect_in(&m, 0)->trainable[p]);
        for (int k = 1; k < n; k++)
            CHECK(effect_in(&m, k - 1)->trainable[p] || !effect_in(&m, k)->trainable[p]);
        CHECK(effect_in(&m, n - 1)->trainable[p] == is_head(&m, p));
    }
    unmake(&m);
}

static void test_random_blocks(void **state)
{
    made m = make("resnet18", "random-blocks", NULL);
    const int stem = thaw_tree_find_param(m.model->tree, "conv1.weight");
    const int head = thaw_tree_find_param(m.model->tree, "fc.weight");
    static const char *const blocks[] = {"layer1.0", "layer1.1", "layer2.0", "layer2.1",
                                         "layer3.0", "layer3.1", "layer4.0", "layer4.1"};
    uint64_t seen = 0;

    (void)state;
    CHECK(thaw_schedule_n_phases(m.schedule) >= 10);
    for (int k = 0; k < thaw_schedule_n_phases(m.schedule); k++) {
        const thaw_effect *e = effect_in(&m, k);

        CHECK(e->trainable[stem] && e->trainable[head]);
        seen |= (uint64_t)1 << (e->digest % 64);
        for (size_t b = 0; b < THAW_COUNT(blocks); b++) {
            const int module = thaw_tree_find_module(m.model->tree, blocks[b]);
            const stand s = stand_of(m.model->tree, e, module);

            CHECK_MSG(module > 0 && (s.trainable == 0 || s.trainable == s.total),
                      "'%s' is drawn in part", blocks[b]);
        }
    }
    CHECK_MSG((seen & (seen - 1)) != 0, "every draw is the same");
    unmake(&m);
}

/* Every preset in the list, with the length asked for. */
static void test_lengths(void **state)
{
    const char *name = NULL, *help = NULL;
    const size_t n = thaw_presets(&name, &help, 0);
    const thaw_preset_options options = {.unit = THAW_STEPS, .length = 640, .seed = 3};

    (void)state;
    for (size_t i = 0; i < n; i++) {
        const thaw_progress start = {0};
        int64_t begin, end;
        made m;

        (void)thaw_presets(&name, &help, i);
        m = make("resnet18", name, &options);
        CHECK_CONTAINS(m.text, name);
        thaw_schedule_phase_span(&begin, &end, m.schedule, &start,
                                 thaw_schedule_n_phases(m.schedule) - 1);
        CHECK_MSG(end == 640, "'%s' has %lld steps, not 640", name, (long long)end);
        unmake(&m);
    }
}

static void test_model_folder_and_data(void **state)
{
    static const char config[] = "{\"model_type\": \"mlp\", \"widths\": [64, 6, 5, 3], "
                                 "\"num_labels\": 3, \"image_size\": [8, 8], \"num_channels\": 1}";
    char *folder = check_folder(), *text = NULL;
    char file[512], valid[512];
    const char *data[2];

    (void)state;
    data[0] = small_path(file, folder, "train-images-idx3-ubyte");
    data[1] = small_path(valid, folder, "valid-images-idx3-ubyte");
    small_data(folder);
    check_write_file(check_path(folder, "config.json"), config, strlen(config));
    CHECK_OK(thaw_init(&text, folder, "linear-probe", NULL, NULL, 0));
    CHECK_CONTAINS(text, folder);
    thaw_text_free(text);
    /* with data everything is opened as a run would, and there are no weights yet */
    CHECK_ERROR(thaw_init(&text, folder, "linear-probe", NULL, data, 2), THAW_E_MISSING, folder);
    CHECK_OK(thaw_init(&text, "resnet18", "linear-probe", NULL, data, 2));
    thaw_recipe *r = small_recipe(text, "/");
    CHECK_STR(r->train.images, file);
    CHECK_STR(r->valid.images, valid);
    CHECK_INT(r->loader.batch, 4);
    thaw_recipe_destroy(r);
    thaw_text_free(text);
    check_folder_remove(folder);
}

static void test_mistakes(void **state)
{
    const thaw_preset_options bad = {.length = -1};
    char *text = NULL;

    (void)state;
    CHECK_ERROR(thaw_init(&text, "resnet18", "gradul", NULL, NULL, 0), THAW_E_NOMATCH,
                "did you mean 'gradual'");
    CHECK_ERROR(thaw_init(&text, "resnet19", "gradual", NULL, NULL, 0), THAW_E_MISSING,
                "did you mean 'resnet18'");
    CHECK_ERROR(thaw_init(&text, "mlp", "gradual", NULL, NULL, 0), THAW_E_RANGE, "widths");
    CHECK_STATUS(thaw_init(&text, "resnet18", "gradual", &bad, NULL, 0), THAW_E_RANGE);
    CHECK_STATUS(thaw_init(&text, "/tmp", "gradual", NULL, NULL, 0), THAW_E_MISSING);
    CHECK(text == NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_probe),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_random_weights),
        cmocka_unit_test(test_gradual),
        cmocka_unit_test(test_rates_fall_towards_the_bottom),
        cmocka_unit_test(test_freeze_out),
        cmocka_unit_test(test_random_blocks),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_model_folder_and_data),
        cmocka_unit_test(test_mistakes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
