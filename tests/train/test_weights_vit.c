/*
 * test_weights_vit.c - a vision transformer's weights under the names of other libraries, where
 * queries, keys and values are one tensor; and positions of another image size.
 */
#include "train/small_runs.h"

#include <fcntl.h>

enum { LAYERS = 2 };

typedef struct vit {
    model *model;
    params *params;
} vit;

static vit vit_open(int64_t side)
{
    model_config c = {.arch = "vit", .height = side, .width = side, .channels = 1, .n_classes = 3};
    vit v = {NULL, NULL};

    c.vit.patch = 4;
    c.vit.hidden = 8;
    c.vit.layers = LAYERS;
    c.vit.heads = 2;
    CHECK_OK(model_create(&v.model, &c, DTYPE_F32));
    CHECK_OK(params_create(&v.params, DTYPE_F32));
    for (int i = 0; i < v.model->n_tensors; i++) {
        const model_tensor *t = &v.model->tensor[i];

        CHECK_OK(params_add(v.params, t->name, &t->shape, t->dtype, t->buffer));
    }
    return v;
}

static void vit_close(vit *v)
{
    params_destroy(v->params);
    model_destroy(v->model);
}

/* Write what `from` holds under these names. */
static void save_as(const char *path, vit *from, const char *naming)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    st_source *list = NULL, *source = NULL;
    thaw_region *region = NULL;
    int n = 0;

    CHECK(fd >= 0);
    (void)snprintf(from->model->config.naming, sizeof from->model->config.naming, "%s", naming);
    CHECK_OK(region_create(&region));
    CHECK_OK(weights_sources(&list, from->params, NULL));
    CHECK_OK(weights_as_loaded(&source, &n, region, list, from->params->n, &from->model->config));
    /* Six tensors of each block are two, but under the names of transformers, which are ours. */
    CHECK_INT(n, from->params->n -
                     (*model_naming_kept(&from->model->config, naming) ? 4 * LAYERS : 0));
    CHECK_OK(st_write(fd, path, source, n, NULL));
    thaw__free(list);
    region_destroy(region);
    close(fd);
}

static void test_names(void **state)
{
    vit from = vit_open(8);
    const char *naming[8] = {""};
    char path[512];
    int n = 1;

    while (model_naming(&from.model->config, n - 1)) {
        naming[n] = model_naming(&from.model->config, n - 1);
        n++;
    }
    CHECK_INT(n, 5);
    params_init_all_by_name(from.params);
    small_path(path, *state, "vit.safetensors");
    for (int k = 0; k < n; k++) {
        vit to = vit_open(8);
        char *note = NULL;

        save_as(path, &from, naming[k]);
        CHECK_OK(weights_load(&note, NULL, to.params, to.model, path, HEAD_OF_FILE));
        CHECK_STR(note ? note : "", "");
        CHECK_STR(to.model->config.naming, model_naming_kept(&to.model->config, naming[k]));
        for (int i = 0; i < to.params->n; i++)
            CHECK_MSG(memcmp(to.params->item[i].data, from.params->item[i].data,
                             to.params->item[i].bytes) == 0,
                      "'%s' under the names of '%s' is another", to.params->item[i].name,
                      naming[k]);
        thaw__free(note);
        vit_close(&to);
    }
    vit_close(&from);
}

static void test_positions(void **state)
{
    vit from = vit_open(8), to = vit_open(16);
    const int at = params_find(to.params, "vit.embeddings.position_embeddings");
    const int64_t grid[2] = {4, 4};
    double src[5 * 8], want[17 * 8], got[17 * 8];
    char path[512], *note = NULL;

    params_init_all_by_name(from.params);
    small_path(path, *state, "vit.safetensors");
    save_as(path, &from, "timm");
    CHECK_OK(weights_load(&note, NULL, to.params, to.model, path, HEAD_OF_FILE));
    CHECK_STR(note, "'pos_embed' is for 2 x 2 patches in the file and for 4 x 4 here: interpolated "
                    "(bicubic)");
    CHECK_OK(tensor_convert(src, DTYPE_F64, from.params->item[at].data, DTYPE_F32, 5 * 8));
    CHECK_OK(tensor_convert(got, DTYPE_F64, to.params->item[at].data, DTYPE_F32, 17 * 8));
    model_resize_positions(want, grid, src, 2, 8);
    CHECK_CLOSE(got, want, 17 * 8, 1e-6, 1e-7);
    thaw__free(note);
    vit_close(&from);
    vit_close(&to);
}

/* A joint tensor of another size is told as such. */
static void test_other_width(void **state)
{
    vit from = vit_open(8), to = vit_open(8);
    char path[512];
    const int q = params_find(to.params, "vit.encoder.layer.0.attention.attention.query.weight");

    params_init_all_by_name(from.params);
    small_path(path, *state, "vit.safetensors");
    save_as(path, &from, "timm");
    to.model->tensor[q].shape.dim[0] = 7;
    CHECK_ERROR(weights_load(NULL, NULL, to.params, to.model, path, HEAD_OF_FILE), THAW_E_SHAPE,
                "'blocks.0.attn.qkv.weight' is [24, 8] in the file");
    vit_close(&from);
    vit_close(&to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_positions, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_other_width, small_setup, small_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
