/*
 * test_config.c - config.json: read strictly, printed so that it reads back, and mistakes named by
 * file and key.
 */
#include "model/model.h"

#include "check.h"

#include <jansson.h>

static thaw_status parse(model_config *c, const char *json)
{
    return model_config_parse(c, json, strlen(json), "config.json");
}

static void test_reading(void **state)
{
    model_config c;

    (void)state;
    CHECK_OK(parse(&c,
                   "{\"model_type\": \"resnet18\", \"image_size\": [28, 32], \"num_channels\": 1, "
                   "\"num_labels\": 7, \"widths\": [16, 32], \"blocks\": [1, 1, 2, 1], "
                   "\"stem\": \"small\", \"dropout\": 0.25, \"torch_dtype\": \"float32\"}"));
    CHECK_STR(c.arch, "resnet18");
    CHECK_INT(c.height, 28);
    CHECK_INT(c.width, 32);
    CHECK_INT(c.channels, 1);
    CHECK_INT(c.n_classes, 7);
    CHECK_INT(c.n_widths, 2);
    CHECK_INT(c.widths[1], 32);
    CHECK_INT(c.n_blocks, 4);
    CHECK_INT(c.blocks[2], 2);
    CHECK(c.small_stem && c.dropout == 0.25);

    CHECK_OK(parse(&c, "{\"model_type\": \"mlp\", \"image_size\": 9}"));
    CHECK_INT(c.height, 9);
    CHECK_INT(c.width, 9);
    CHECK_INT(c.n_classes, 10);
    CHECK(!c.small_stem && c.dropout == 0 && c.n_widths == 0);
}

static void test_printing_reads_back(void **state)
{
    model_config c = {.arch = "resnet50",
                      .height = 31,
                      .width = 17,
                      .channels = 2,
                      .n_classes = 12345,
                      .n_widths = 3,
                      .widths = {8, 16, 24},
                      .n_blocks = 2,
                      .blocks = {1, 2},
                      .small_stem = true,
                      .dropout = 0.1,
                      .norm_momentum = 0.02},
                 back;
    text t = TEXT_INIT;
    json_error_t error;

    (void)state;
    model_config_print(&t, &c);
    json_t *root = json_loads(t.data, JSON_REJECT_DUPLICATES, &error);
    CHECK_MSG(root, "%s: %s", error.text, t.data);
    json_decref(root);
    CHECK_OK(model_config_parse(&back, t.data, t.length, "c"));
    CHECK_STR(back.arch, c.arch);
    CHECK_INT(back.height, 31);
    CHECK_INT(back.width, 17);
    CHECK_INT(back.channels, 2);
    CHECK_INT(back.n_classes, 12345);
    CHECK_INT(back.n_widths, 3);
    CHECK_INT(back.n_blocks, 2);
    for (int i = 0; i < 3; i++)
        CHECK_INT(back.widths[i], c.widths[i]);
    CHECK(back.small_stem && back.dropout == 0.1 && back.norm_momentum == 0.02);
    text_done(&t);
}

static void test_mistakes(void **state)
{
    static const struct {
        const char *json;
        thaw_status want;
        const char *part;
    } row[] = {
        {"", THAW_E_DATA, "config.json:1"},
        {"{\n\"model_type\": \"mlp\",\n}", THAW_E_DATA, "config.json:3"},
        {"[]", THAW_E_DATA, "object"},
        {"{}", THAW_E_DATA, "'model_type'"},
        {"{\"model_type\": 7}", THAW_E_DATA, "'model_type'"},
        {"{\"model_type\": \"mlp\", \"model_type\": \"mlp\"}", THAW_E_DATA, "config.json:1"},
        {"{\"model_type\": \"a-name-that-is-longer-than-any-network-has\"}", THAW_E_SUPPORT,
         "unknown network"},
        {"{\"model_type\": \"mlp\", \"image_size\": [1]}", THAW_E_DATA, "'image_size'"},
        {"{\"model_type\": \"mlp\", \"image_size\": [1, 2, 3]}", THAW_E_DATA, "'image_size'"},
        {"{\"model_type\": \"mlp\", \"image_size\": \"big\"}", THAW_E_DATA, "'image_size'"},
        {"{\"model_type\": \"mlp\", \"num_labels\": 2.5}", THAW_E_DATA, "'num_labels'"},
        {"{\"model_type\": \"mlp\", \"num_labels\": 99999999999999999999}", THAW_E_DATA,
         "config.json:1"},
        {"{\"model_type\": \"mlp\", \"num_channels\": null}", THAW_E_DATA, "'num_channels'"},
        {"{\"model_type\": \"mlp\", \"widths\": 5}", THAW_E_DATA, "'widths'"},
        {"{\"model_type\": \"mlp\", \"widths\": [1, \"2\"]}", THAW_E_DATA, "'widths'"},
        {"{\"model_type\": \"mlp\", \"widths\": [1,2,3,4,5,6,7,8,9]}", THAW_E_DATA, "at most 8"},
        {"{\"model_type\": \"mlp\", \"stem\": \"huge\"}", THAW_E_DATA, "'stem'"},
        {"{\"model_type\": \"mlp\", \"dropout\": \"a bit\"}", THAW_E_DATA, "'dropout'"},
        {"{\"model_type\": \"mlp\", \"norm_momentum\": []}", THAW_E_DATA, "'norm_momentum'"},
    };
    model_config c = {.n_classes = 77};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++)
        CHECK_ERROR(parse(&c, row[i].json), row[i].want, row[i].part);
    CHECK_INT(c.n_classes, 77);
}

/* Cut anywhere, it is an error and nothing else. */
static void test_short(void **state)
{
    static const char whole[] = "{\"model_type\": \"mlp\", \"widths\": [1, 2], \"dropout\": 0.5}";
    model_config c;

    (void)state;
    for (size_t n = 0; n + 1 < sizeof whole; n++)
        CHECK_STATUS(model_config_parse(&c, whole, n, "c"), THAW_E_DATA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reading),
        cmocka_unit_test(test_printing_reads_back),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
