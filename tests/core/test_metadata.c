/* test_metadata.c - canonical freeze metadata and its comparison; the bulk is in tests/golden. */
#include "trees.h"

static const thaw_freeze_spec shuffled[] = {
    {"b", true}, {"a", true}, {"b", true}, {"a", false}, {"caf\xc3\xa9 \"x\"\n", false}};

static void equal_meaning_gives_equal_bytes(void **state)
{
    thaw_freeze_spec out[5];
    char *json, *file;
    int n;

    (void)state;
    thaw_canonical_freeze_meta(out, &n, shuffled, 5);
    CHECK_INT(n, 4);
    CHECK(!out[0].frozen && out[1].frozen);
    CHECK_OK(thaw_freeze_meta_json(&json, shuffled, 5));
    CHECK_STR(json, "[{\"module\": \"a\", \"frozen\": false}, {\"module\": \"a\", \"frozen\": "
                    "true}, {\"module\": \"b\", \"frozen\": true}, {\"module\": \"caf\\u00e9 "
                    "\\\"x\\\"\\n\", \"frozen\": false}]");
    CHECK_OK(thaw_freeze_metadata_json(&file, 3, 9, NULL, 0));
    CHECK_STR(file, "{\n  \"step\": 3,\n  \"tokens_seen\": 9,\n  \"vlm_freeze\": []\n}");
    thaw_text_free(file);
    thaw_text_free(json);
}

static const char saved[] = "{\"step\": 7, \"vlm_freeze\": [{\"module\": \"a\", \"frozen\": true},"
                            " {\"module\": \"old\", \"frozen\": true}]}";

static void differences_are_told_or_refused(void **state)
{
    static const thaw_freeze_spec same[] = {{"a", true}, {"new", true}}, other[] = {{"a", false}};
    char *warning = NULL;

    (void)state;
    CHECK_OK(thaw_freeze_metadata_compare(&warning, "/ck", saved, same, 2, false));
    CHECK(!warning);
    CHECK_ERROR(thaw_freeze_metadata_compare(&warning, "/ck", saved, other, 1, false),
                THAW_E_MISMATCH,
                "VLM freeze mismatch at /ck: saved=[{'module': 'a', 'frozen': True}], "
                "current=[{'module': 'a', 'frozen': False}] (cross-arch keys ignored: "
                "saved-only=['old'], current-only=[]) (set checkpoint.ignore_freeze_mismatch=true "
                "to override)");
    CHECK(!warning);
    CHECK_OK(thaw_freeze_metadata_compare(&warning, "/ck", saved, other, 1, true));
    CHECK_CONTAINS(warning, "proceeding because checkpoint.ignore_freeze_mismatch=True");
    thaw_text_free(warning);
    CHECK_OK(thaw_freeze_metadata_compare(&warning, "/ck", saved, other, -1, false));
    CHECK_OK(thaw_freeze_metadata_compare(&warning, "/ck", NULL, other, 1, false));
    CHECK(!warning);
}

static void broken_metadata(void **state)
{
    static const thaw_freeze_spec a[] = {{"a", true}};
    char *warning = NULL;
    int64_t step = -1;

    (void)state;
    CHECK_OK(thaw_freeze_metadata_compare(&warning, "/ck", "{\"step\": 7,", a, 1, false));
    CHECK_CONTAINS(warning, "Could not read /ck/metadata.json");
    thaw_text_free(warning);
    CHECK_STATUS(thaw_freeze_metadata_compare(&warning, "/ck", "{\"vlm_freeze\": {}}", a, 1, false),
                 THAW_E_DATA);
    CHECK_STATUS(thaw_freeze_metadata_compare(
                     &warning, "/ck", "{\"vlm_freeze\": [{\"frozen\": true}]}", a, 1, false),
                 THAW_E_DATA);
    CHECK_STATUS(
        thaw_freeze_metadata_compare(&warning, "/ck", "{\"vlm_freeze\": [1]}", a, 1, false),
        THAW_E_DATA);
    CHECK_OK(thaw_freeze_metadata_compare(
        &warning, "/ck", "{\"vlm_freeze\": [{\"module\": \"a\", \"frozen\": 1.0}]}", a, 1, false));
    CHECK(!warning);
    CHECK(thaw_peek_saved_step(&step, saved));
    CHECK_INT(step, 7);
    CHECK(!thaw_peek_saved_step(&step, "{\"step\": null}"));
    CHECK(!thaw_peek_saved_step(&step, "{\"step\": 1.5}"));
    CHECK(!thaw_peek_saved_step(&step, "["));
    CHECK(!thaw_peek_saved_step(&step, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_meaning_gives_equal_bytes),
        cmocka_unit_test(differences_are_told_or_refused),
        cmocka_unit_test(broken_metadata),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
