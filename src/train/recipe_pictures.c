/*
 * recipe_pictures.c - defaults of [data] for pictures: what the pretrained network saw, as its
 * folder tells, else what networks trained on ImageNet saw.
 *
 * They are worked out while the recipe is read, so that the resolved recipe says them all and a run
 * does not depend on the folder afterwards.
 */
#include "train/recipe_reader.h"

#include <string.h>

#define STANDARD_SIDE  224
#define STANDARD_SHARE 0.875 /* of the shorter side that is cut out: 224 of 256 */

void recipe_look_at_model(recipe_reader *rd)
{
    const char *const folder = rd->recipe->model_path;
    thaw_status status = THAW_OK;

    if (folder && os_kind_of(folder) == OS_FOLDER)
        status = preprocess_read(&rd->preprocess, folder);
    if (status == THAW_E_NOMEM)
        rd->no_memory = true;
    else if (status != THAW_OK)
        recipe_bad_key(rd, NULL, "%s", thaw_error());
}

bool recipe_has_pictures(const thaw_recipe *r)
{
    return r->format == DATA_FOLDER || r->format == DATA_CSV;
}

static void add_numbers(text *out, const double *value, int n)
{
    text_add(out, "[");
    for (int i = 0; i < n; i++) {
        text_add(out, i ? ", " : "");
        text_add_double(out, value[i]);
    }
    text_add(out, "]");
}

/* mean and std */
void recipe_derive_normal(text *out, const recipe_reader *rd, const toml_value *section,
                          const char *name)
{
    static const double mean[3] = {0.485, 0.456, 0.406}, std[3] = {0.229, 0.224, 0.225};
    const bool is_mean = strcmp(name, "mean") == 0;
    const preprocess *p;

    (void)section;
    if (!recipe_has_pictures(rd->recipe)) {
        text_add(out, is_mean ? "0.0" : "1.0");
        return;
    }
    p = &rd->preprocess;
    if (p->n_mean > 0)
        add_numbers(out, is_mean ? p->mean : p->std, p->n_mean);
    else if (rd->recipe->loader.channels == 1)
        text_add(out, "0.5");
    else
        add_numbers(out, is_mean ? mean : std, 3);
}

void recipe_derive_channels(text *out, const recipe_reader *rd, const toml_value *section,
                            const char *name)
{
    (void)section;
    (void)name;
    if (!recipe_has_pictures(rd->recipe))
        text_add(out, "0");
    else
        text_addf(out, "%d", rd->recipe->config.channels == 1 ? 1 : 3);
}

void recipe_derive_side(text *out, const recipe_reader *rd, const toml_value *section,
                        const char *name)
{
    const thaw_recipe *r = rd->recipe;
    const preprocess *p = &rd->preprocess;
    int64_t height = STANDARD_SIDE, width = STANDARD_SIDE;
    model_config c = {.height = 0};

    (void)section;
    (void)name;
    if (r->config.height > 0) {
        height = r->config.height;
        width = r->config.width;
    } else if (p->height > 0) {
        height = p->height;
        width = p->width;
    } else if (r->model_path && os_kind_of(r->model_path) == OS_FOLDER &&
               model_folder_config(&c, r->model_path) == THAW_OK && c.height > 0) {
        height = c.height;
        width = c.width;
    }
    if (height == width)
        text_addf(out, "%lld", (long long)height);
    else
        text_addf(out, "[%lld, %lld]", (long long)height, (long long)width);
}

void recipe_derive_resize(text *out, const recipe_reader *rd, const toml_value *section,
                          const char *name)
{
    (void)section;
    (void)name;
    text_add(out, rd->preprocess.filter == RESAMPLE_BICUBIC ? "'bicubic'" : "'bilinear'");
}

void recipe_derive_crop(text *out, const recipe_reader *rd, const toml_value *section,
                        const char *name)
{
    const preprocess *p = &rd->preprocess;

    (void)section;
    (void)name;
    text_add(out, p->height > 0 && p->shorter_side == 0 ? "'none'" : "'center'");
}

/* As much more than the image as the network's own preprocessing has. */
void recipe_derive_resize_to(text *out, const recipe_reader *rd, const toml_value *section,
                             const char *name)
{
    const preprocess *p = &rd->preprocess;
    const picture_recipe *r = &rd->recipe->pictures.recipe;
    const int64_t side = THAW_MAX(r->height, r->width);
    double share = STANDARD_SHARE;

    (void)section;
    (void)name;
    if (p->shorter_side > 0)
        share = (double)THAW_MAX(p->height, p->width) / (double)p->shorter_side;
    text_addf(out, "%lld", (long long)((double)side / share + 0.5));
}

void recipe_derive_loss(text *out, const recipe_reader *rd, const toml_value *section,
                        const char *name)
{
    (void)section;
    (void)name;
    text_add(out, rd->recipe->pictures.numbers ? "'mse'" : "'cross_entropy'");
}

void recipe_derive_metric(text *out, const recipe_reader *rd, const toml_value *section,
                          const char *name)
{
    (void)section;
    (void)name;
    text_add(out, rd->recipe->pictures.numbers ? "'valid.rmse'" : "'valid.accuracy'");
}

void recipe_set_side(recipe_reader *rd, void *target, const toml_value *v)
{
    picture_recipe *r = &((thaw_recipe *)target)->pictures.recipe;

    (void)rd;
    r->height = v->type == TOML_ARRAY ? v->first->integer : v->integer;
    r->width = v->type == TOML_ARRAY ? v->last->integer : v->integer;
}

static void set_list(double *out, const toml_value *v)
{
    for (const toml_value *item = v->first; item; item = item->next)
        *out++ = item->type == TOML_INTEGER ? (double)item->integer : item->real;
}

void recipe_set_crop_scale(recipe_reader *rd, void *target, const toml_value *v)
{
    thaw_recipe *r = target;

    (void)rd;
    set_list(r->pictures.recipe.crop_scale, v);
    r->loader.vary = true;
}

void recipe_set_jitter(recipe_reader *rd, void *target, const toml_value *v)
{
    thaw_recipe *r = target;

    (void)rd;
    set_list(r->pictures.recipe.jitter, v);
    r->loader.vary = true;
}

/* ----------------------------------------------------------------------------------------------
 * what no key knows alone */

static const toml_value *data_key(const recipe_reader *rd, const char *key)
{
    const toml_value *const table = toml_get(rd->doc->root, "data");

    return table ? toml_get(table, key) : NULL;
}

static void check_normal(recipe_reader *rd)
{
    const thaw_recipe *r = rd->recipe;

    if (r->loader.channels == 2 || r->loader.channels == 4)
        recipe_bad_value(rd, data_key(rd, "channels"),
                         "pictures have 1 channel (grey) or 3 (colours), not %d",
                         r->loader.channels);
}

static void check_numbers(recipe_reader *rd)
{
    const thaw_recipe *r = rd->recipe;
    const toml_value *const loss = toml_get(rd->doc->root, "loss");

    if (r->pictures.numbers && r->loss != OP_MSE)
        recipe_bad_value(rd, loss ? toml_get(loss, "name") : NULL,
                         "numbers are learned with loss.name = 'mse' (data.target = 'number')");
    for (int i = 0; i < r->n_phases; i++) {
        const char *const metric = r->phase[i].options.until_metric;

        if (metric && (strcmp(metric, "valid.rmse") == 0) != r->pictures.numbers &&
            strcmp(metric, "valid.loss") != 0)
            recipe_bad_key(rd, NULL, "phase %d: 'until' watches '%s', but the data have %s", i + 1,
                           metric, r->pictures.numbers ? "numbers to predict" : "classes");
    }
}

static void check_sources(recipe_reader *rd)
{
    const thaw_recipe *r = rd->recipe;

    if (r->valid.images && r->pictures.valid_fraction > 0)
        recipe_bad_value(rd, data_key(rd, "valid_fraction"),
                         "'data.valid_fraction' has no effect beside 'data.valid'; remove one");
    if (picture_recipe_check(&r->pictures.recipe) != THAW_OK)
        recipe_bad_value(rd, data_key(rd, "image_size"), "%s", thaw_error());
}

void recipe_check_pictures(recipe_reader *rd)
{
    thaw_recipe *const r = rd->recipe;

    check_numbers(rd);
    if (!recipe_has_pictures(r))
        return;
    r->pictures.recipe.channels = r->loader.channels;
    r->pictures.lists = r->format == DATA_CSV;
    r->pictures.train = r->train.images;
    r->pictures.valid = r->valid.images;
    r->pictures.test = r->test.images;
    check_normal(rd);
    check_sources(rd);
}
