/*
 * test_preprocess.c - preprocessor_config.json: files of Hugging Face's processors read, ours
 * printed and read back, mistakes named.
 */
#include "train/train.h"

#include "check.h"

static thaw_status parse(preprocess *p, const char *json)
{
    return preprocess_parse(p, json, strlen(json), "p.json");
}

static void test_shapes(void **state)
{
    static const struct {
        const char *json;
        int64_t height, width, shorter;
    } row[] = {
        {"{}", 0, 0, 0},
        {"{\"size\": 224}", 224, 224, 0},
        {"{\"size\": {\"height\": 384, \"width\": 256}}", 384, 256, 0},
        {"{\"size\": {\"shortest_edge\": 256}, \"do_center_crop\": true, \"crop_size\": 224}", 224,
         224, 256},
        {"{\"size\": 256, \"do_center_crop\": true, \"crop_size\": {\"height\": 200, \"width\": "
         "220}}",
         200, 220, 256},
        {"{\"size\": {\"shortest_edge\": 224}, \"crop_pct\": 0.875}", 224, 224, 256},
        {"{\"size\": 224, \"do_center_crop\": false, \"crop_size\": 200}", 224, 224, 0},
        {"{\"size\": 100, \"do_center_crop\": true, \"crop_size\": 224}", 224, 224, 224},
    };

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        preprocess p;

        CHECK_OK(parse(&p, row[i].json));
        CHECK_MSG(p.height == row[i].height && p.width == row[i].width &&
                      p.shorter_side == row[i].shorter,
                  "%s: %lld x %lld of %lld", row[i].json, (long long)p.height, (long long)p.width,
                  (long long)p.shorter_side);
    }
}

static void test_numbers(void **state)
{
    preprocess p;

    (void)state;
    CHECK_OK(parse(&p, "{\"image_mean\": [0.5, 0.25, 0], \"image_std\": [1, 2, 3], "
                       "\"resample\": 3}"));
    CHECK_INT(p.n_mean, 3);
    CHECK_NEAR(p.mean[1], 0.25, 0, 0);
    CHECK_NEAR(p.std[2], 3, 0, 0);
    CHECK_INT(p.filter, RESAMPLE_BICUBIC);
    CHECK_OK(parse(&p, "{\"do_normalize\": false, \"image_mean\": [0.5], \"image_std\": [0.5]}"));
    CHECK_INT(p.n_mean, 1);
    CHECK_NEAR(p.mean[0], 0, 0, 0);
    CHECK_NEAR(p.std[0], 1, 0, 0);
}

static void test_mistakes(void **state)
{
    static const char *const row[][2] = {
        {"[]", "must be a JSON object"},
        {"{", "p.json:1:"},
        {"{\"size\": \"large\"}", "'size' must be"},
        {"{\"size\": 0}", "'size' must be"},
        {"{\"crop_size\": {\"height\": 3}}", "'crop_size' must be"},
        {"{\"resample\": 1}", "'resample' must be"},
        {"{\"image_mean\": 0.5}", "'image_mean' must be"},
        {"{\"image_mean\": [\"a\"]}", "'image_mean' must be"},
        {"{\"image_mean\": [0.5], \"image_std\": [1, 1]}", "'image_std' must be"},
        {"{\"image_mean\": [0.5], \"image_std\": [0]}", "'image_std' must be"},
    };
    preprocess p = {.height = 7};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++)
        CHECK_ERROR(parse(&p, row[i][0]), THAW_E_DATA, row[i][1]);
    CHECK_INT(p.height, 7);
}

/* What is printed is read back as the same. */
static void test_round_trip(void **state)
{
    picture_recipe r = PICTURE_RECIPE_INIT, back = {0};
    loader_options o = LOADER_OPTIONS_INIT, read = LOADER_OPTIONS_INIT;

    (void)state;
    o.mean[0] = 0.1;
    o.std[0] = 0.3;
    r.width = 200;
    r.filter = RESAMPLE_BICUBIC;
    for (int cut = 0; cut < 2; cut++) {
        preprocess p;
        text t = TEXT_INIT;

        r.shorter_side = cut ? 250 : 0;
        preprocess_print(&t, &r, &o);
        CHECK_OK(parse(&p, t.data));
        preprocess_apply(&back, &read, &p);
        CHECK_INT(back.height, 224);
        CHECK_INT(back.width, 200);
        CHECK_INT(back.shorter_side, r.shorter_side);
        CHECK_INT(back.filter, RESAMPLE_BICUBIC);
        CHECK_INT(read.n_mean, 3);
        CHECK_NEAR(read.mean[2], 0.1, 0, 0);
        CHECK_NEAR(read.std[1], 0.3, 0, 0);
        text_done(&t);
    }
}

static void test_folders(void **state)
{
    static const char json[] = "{\"size\": 64}";
    char *folder = check_folder();
    preprocess p = {.height = 7};

    (void)state;
    CHECK_OK(preprocess_read(&p, folder));
    CHECK(!p.found && p.height == 0);
    CHECK_OK(os_replace_file(folder, PREPROCESS_NAME, json, strlen(json)));
    CHECK_OK(preprocess_read(&p, folder));
    CHECK(p.found && p.height == 64);
    check_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),   cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_mistakes), cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_folders),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
