/*
 * test_labels.c - names of classes in config.json: printed, read back, and left alone where they do
 * not fit.
 */
#include "model/model.h"

#include "check.h"

static void test_round_trip(void **state)
{
    static const char *const name[] = {"a \"cat\"", "dog"};
    model_config c = {.arch = "mlp", .n_classes = 3, .label = name, .n_labels = 2}, back;
    thaw_region *region = NULL;
    text t = TEXT_INIT;

    (void)state;
    CHECK_OK(region_create(&region));
    model_config_print(&t, &c);
    CHECK_CONTAINS(t.data, "\"label2id\": {\"a \\\"cat\\\"\": 0, \"dog\": 1, \"LABEL_2\": 2}");
    CHECK_OK(model_config_parse(&back, t.data, t.length, "c"));
    CHECK_INT(back.n_labels, 0);
    CHECK_OK(model_labels_parse(&back, t.data, t.length, "c", region));
    CHECK_INT(back.n_labels, 3);
    CHECK_STR(back.label[0], "a \"cat\"");
    CHECK_STR(back.label[2], "LABEL_2");
    text_done(&t);
    c = (model_config){.arch = "mlp", .n_classes = 1, .regression = true};
    model_config_print(&t, &c);
    CHECK_CONTAINS(t.data, "\"problem_type\": \"regression\"");
    CHECK(!strstr(t.data, "id2label"));
    text_done(&t);
    region_destroy(region);
}

static void test_left_alone(void **state)
{
    static const char *const json[] = {
        "{}",
        "{\"id2label\": 3}",
        "{\"id2label\": {}}",
        "{\"id2label\": {\"0\": \"a\", \"2\": \"b\"}}",
        "{\"id2label\": {\"0\": 1}}",
        "{\"id2label\": {\"0\": \"a\", \"1\": \"b\", \"2\": \"c\"}}"};
    thaw_region *region = NULL;

    (void)state;
    CHECK_OK(region_create(&region));
    for (size_t i = 0; i < THAW_COUNT(json); i++) {
        model_config c = {.n_classes = 2};

        CHECK_OK(model_labels_parse(&c, json[i], strlen(json[i]), "c", region));
        CHECK(c.n_labels == 0 && !c.label);
    }
    region_destroy(region);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
