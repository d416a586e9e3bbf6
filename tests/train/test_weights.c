/*
 * test_weights.c - start values, and loading those of a file: every difference named, near names,
 * heads of another size, other float types; and what we write, read by a reader of its own.
 */
#include "train/small_runs.h"

#include <fcntl.h>
#include <jansson.h>

#define NET                                                                                        \
    "[model]\npath = 'net'\n[data]\ntrain = 'train-images-idx3-ubyte'\nbatch = 4\n"                \
    "[train]\nexecutor = 'ref'\n[[phase]]\nsteps = 1\n"

static const char config[] =
    "{\"model_type\": \"resnet18\", \"image_size\": 8, \"num_channels\": 1, "
    "\"num_labels\": 3, \"widths\": [4, 4, 8, 8], "
    "\"blocks\": [1, 1, 1, 1], \"stem\": \"small\"}";

/* ----------------------------------------------------------------------------------------------
 * model folders */

/* The tensors of the small ResNet as a file has them, to be spoiled before they are written. */
typedef struct net_file {
    st_source source[128];
    int n;
    params *params; /* owns the data */
    model *model;
} net_file;

static void net_open(net_file *f)
{
    model_config c;
    st_source *sources = NULL;

    *f = (net_file){.n = 0};
    CHECK_OK(model_config_parse(&c, config, strlen(config), "c"));
    CHECK_OK(model_create(&f->model, &c, DTYPE_F32));
    CHECK_OK(params_create(&f->params, DTYPE_F32));
    for (int i = 0; i < f->model->n_tensors; i++) {
        const model_tensor *t = &f->model->tensor[i];

        CHECK_OK(params_add(f->params, t->name, &t->shape, t->dtype, t->buffer));
    }
    params_init_all_by_name(f->params);
    CHECK_OK(weights_sources(&sources, f->params, NULL));
    f->n = f->params->n;
    CHECK(f->n < 120);
    memcpy(f->source, sources, (size_t)f->n * sizeof *sources);
    thaw__free(sources);
}

static void net_close(net_file *f)
{
    params_destroy(f->params);
    model_destroy(f->model);
}

static st_source *net_find(net_file *f, const char *name)
{
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->source[i].name, name) == 0)
            return &f->source[i];
    CHECK_FAIL("no tensor '%s'", name);
    return NULL;
}

static void net_remove(net_file *f, const char *name)
{
    st_source *s = net_find(f, name);

    *s = f->source[--f->n];
}

/* folder/net with config.json and model.safetensors */
static void net_write(const net_file *f, const char *folder)
{
    char net[512], path[512];
    int fd;

    CHECK_OK(os_make_folders(small_path(net, folder, "net")));
    check_write_file(small_path(path, net, "config.json"), config, strlen(config));
    fd = open(small_path(path, net, "model.safetensors"), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    CHECK(fd >= 0);
    CHECK_OK(st_write(fd, path, f->source, f->n, NULL));
    close(fd);
}

/* ----------------------------------------------------------------------------------------------
 * loading */

static void test_all_there(void **state)
{
    net_file f;
    small_run r;

    net_open(&f);
    net_write(&f, *state);
    small_open(&r, NET, *state, NULL);
    CHECK_STR(r.job->load_note ? r.job->load_note : "", "");
    for (int i = 0; i < f.params->n; i++)
        CHECK_BYTES((const char *)r.job->params->item[i].data, f.params->item[i].data,
                    f.params->item[i].bytes);
    small_close(&r);
    net_close(&f);
}

/* Every mistake is in the one error, with near names. */
static void test_every_difference(void **state)
{
    net_file f;
    thaw_recipe *recipe;
    const thaw_run_options options = {.threads = 1};
    job *j = NULL;

    net_open(&f);
    net_find(&f, "layer1.0.conv1.weight")->name = "layer1.0.conv1.weigth";
    net_find(&f, "layer2.0.bn1.running_mean")->shape = shape_2(2, 2);
    net_find(&f, "conv1.weight")->shape = shape_4(4, 1, 9, 1);
    net_remove(&f, "layer4.0.bn2.weight");
    net_remove(&f, "layer3.0.bn1.num_batches_tracked"); /* older files lack these */
    net_write(&f, *state);
    recipe = small_recipe(NET, *state);
    CHECK_ERROR(job_open(&j, recipe, &options, NULL, JOB_DATA), THAW_E_SHAPE,
                "'layer1.0.conv1.weight' is missing");
    CHECK_CONTAINS(thaw_error(), "'layer1.0.conv1.weigth'");
    CHECK_CONTAINS(thaw_error(), "'layer4.0.bn2.weight' is missing");
    CHECK_CONTAINS(thaw_error(), "'conv1.weight' is [4, 1, 9, 1] in the file, but the network's is "
                                 "[4, 1, 3, 3]");
    CHECK_CONTAINS(thaw_error(), "'layer2.0.bn1.running_mean' is [2, 2]");
    CHECK_CONTAINS(thaw_error(), "model.safetensors");
    CHECK(strstr(thaw_error(), "num_batches_tracked") == NULL);
    CHECK(j == NULL);
    thaw_recipe_destroy(recipe);
    net_close(&f);
}

/* A head of another size starts anew and says so; what surrounds it is loaded. */
static void test_other_head(void **state)
{
    float big[7 * 8] = {0};
    net_file f;
    small_run r;

    net_open(&f);
    net_find(&f, "fc.weight")->shape = shape_2(7, 8);
    net_find(&f, "fc.weight")->data = big;
    net_find(&f, "fc.bias")->shape = shape_1(7);
    net_find(&f, "fc.bias")->data = big;
    net_write(&f, *state);
    small_open(&r, NET, *state, NULL);
    CHECK_CONTAINS(r.job->load_note, "'fc.weight' is [7, 8] in the file, and [3, 8] here");
    CHECK_MSG(!strstr(r.job->load_note, "fc.bias"), "told twice: '%s'", r.job->load_note);
    CHECK_BYTES((const char *)small_param(&r, "conv1.weight")->data, f.params->item[0].data,
                f.params->item[0].bytes);
    CHECK(tensor_sum_squares(small_param(&r, "fc.weight")->data, DTYPE_F32, 24) > 0);
    CHECK_OK(trainer_run(r.trainer));
    CHECK_CONTAINS(r.record.words, "'fc.weight' is [7, 8]");
    small_close(&r);
    net_close(&f);
}

/* A network that was stored without its last layer gets a new one to train, and is not judged. */
static void test_without_head(void **state)
{
    const thaw_run_options options = {.threads = 1};
    job *j = NULL;
    net_file f;
    small_run r;

    net_open(&f);
    net_remove(&f, "fc.weight");
    net_remove(&f, "fc.bias");
    net_write(&f, *state);
    small_open(&r, NET, *state, NULL);
    CHECK_STR(r.job->load_note, "the head 'fc' starts anew: the file has none");
    CHECK_BYTES((const char *)small_param(&r, "conv1.weight")->data, f.params->item[0].data,
                f.params->item[0].bytes);
    CHECK(tensor_sum_squares(small_param(&r, "fc.weight")->data, DTYPE_F32, 24) > 0);
    CHECK_ERROR(job_open(&j, r.recipe, &options, r.recipe->model_path, JOB_DATA), THAW_E_SHAPE,
                "has no head ('fc')");
    CHECK(j == NULL);
    small_close(&r);
    net_close(&f);
}

static void test_leftovers(void **state)
{
    static const char *const name[] = {"ema.decay", "fc2.weight", "a", "b", "c", "d", "e"};
    const float value = 1;
    net_file f;
    small_run r;

    net_open(&f);
    for (size_t i = 0; i < THAW_COUNT(name); i++)
        f.source[f.n++] =
            (st_source){.name = name[i], .dtype = DTYPE_F32, .shape = shape_1(1), .data = &value};
    net_write(&f, *state);
    small_open(&r, NET, *state, NULL);
    CHECK_CONTAINS(r.job->load_note, "not used: 'a', 'b', 'c', 'd', 'e'");
    CHECK_CONTAINS(r.job->load_note, "and 2 more");
    small_close(&r);
    net_close(&f);
}

/* Files in other float types: converted, exactly where the type holds the value. */
static void load_as(const char *folder, dtype d)
{
    char *data[128] = {NULL};
    float *rounded = malloc(1 << 20);
    net_file f;
    small_run r;

    net_open(&f);
    for (int i = 0; i < f.n; i++) {
        if (f.source[i].dtype != DTYPE_F32)
            continue;
        data[i] = malloc(f.params->item[i].elements * 8);
        CHECK(data[i] != NULL && rounded != NULL);
        CHECK_OK(tensor_convert(data[i], d, f.params->item[i].data, DTYPE_F32,
                                f.params->item[i].elements));
        f.source[i].dtype = d;
        f.source[i].data = data[i];
    }
    net_write(&f, folder);
    small_open(&r, NET, folder, NULL);
    for (int i = 0; i < f.n; i++) {
        const param *p = &r.job->params->item[i];

        if (!data[i])
            continue;
        CHECK_OK(tensor_convert(rounded, DTYPE_F32, data[i], d, p->elements));
        CHECK_BYTES((const char *)p->data, rounded, p->bytes);
        CHECK_CLOSE((const float *)p->data, (const float *)f.params->item[i].data, p->elements,
                    d == DTYPE_BF16 ? 4e-3 : 5e-4, 1e-6);
        free(data[i]);
    }
    free(rounded);
    small_close(&r);
    net_close(&f);
}

static void test_float_types(void **state)
{
    load_as(*state, DTYPE_F16);
    load_as(*state, DTYPE_BF16);
    load_as(*state, DTYPE_F64);
}

/* ----------------------------------------------------------------------------------------------
 * start values */

/* A tensor's start depends on seed and name, not on what else the network has. */
static void test_random_start(void **state)
{
    small_run a, b;
    const param *w;
    double largest = 0;

    small_open(&a, "seed = 3\n" SMALL_MLP SMALL_DATA "[[phase]]\nsteps = 1\n", *state, NULL);
    small_open(&b,
               "seed = 3\n[model]\narch = 'mlp'\nwidths = [64, 6, 3]\n" SMALL_DATA
               "[[phase]]\nsteps = 1\n",
               *state, NULL);
    w = small_param(&a, "backbone.fc1.weight");
    CHECK_BYTES((const char *)w->data, small_param(&b, "backbone.fc1.weight")->data, w->bytes);
    for (size_t i = 0; i < w->elements; i++)
        largest = fmax(largest, fabs((double)((const float *)w->data)[i]));
    CHECK(largest <= 1 / 8.0 && largest > 0.95 / 8);
    small_close(&a);
    small_close(&b);
    small_open(&a, SMALL_RESNET "init = 'by-name'\n" SMALL_DATA "[[phase]]\nsteps = 1\n", *state,
               NULL);
    CHECK_NEAR(*(const float *)small_param(&a, "bn1.running_var")->data, 1, 0, 0);
    CHECK_NEAR(*(const float *)small_param(&a, "bn1.running_mean")->data, 0, 0, 0);
    CHECK(*(const float *)small_param(&a, "bn1.weight")->data != 1);
    small_close(&a);
}

/* ----------------------------------------------------------------------------------------------
 * writing */

/* A reader of safetensors that shares nothing with ours: 8 bytes of length, JSON, data. */
static void read_plainly(const char *path, const params *want)
{
    size_t size, data;
    uint64_t header = 0;
    unsigned char *all = (unsigned char *)check_read_file(&size, path);
    json_error_t error;
    int n = 0;

    CHECK(size > 8);
    for (int i = 7; i >= 0; i--)
        header = header << 8 | all[i];
    CHECK(header <= size - 8);
    json_t *root = json_loadb((const char *)all + 8, header, JSON_REJECT_DUPLICATES, &error);
    CHECK_MSG(root, "'%s': %s", path, error.text);
    data = 8 + (size_t)header;
    CHECK_INT(data % 8, 0);
    CHECK_STR(json_string_value(json_object_get(json_object_get(root, "__metadata__"), "format")),
              "pt");
    for (int i = 0; i < want->n; i++) {
        const param *p = &want->item[i];
        const json_t *e = json_object_get(root, p->name);
        const json_t *at = json_object_get(e, "data_offsets"), *dim = json_object_get(e, "shape");
        const int64_t begin = json_integer_value(json_array_get(at, 0));

        CHECK_MSG(e, "'%s' has no '%s'", path, p->name);
        CHECK_STR(json_string_value(json_object_get(e, "dtype")),
                  p->dtype == DTYPE_I64 ? "I64" : "F32");
        CHECK_INT(json_array_size(dim), p->shape.rank);
        for (int k = 0; k < p->shape.rank; k++)
            CHECK_INT(json_integer_value(json_array_get(dim, (size_t)k)), p->shape.dim[k]);
        CHECK_INT(json_integer_value(json_array_get(at, 1)) - begin, p->bytes);
        CHECK(data + (size_t)begin + p->bytes <= size);
        CHECK_BYTES(all + data + begin, p->data, p->bytes);
        n++;
    }
    CHECK_INT(json_object_size(root), n + 1);
    json_decref(root);
    free(all);
}

/* What a run leaves opens elsewhere: layout, names as torchvision has them, values. */
static void test_written_file(void **state)
{
    static const char *const torchvision[] = {"conv1.weight",
                                              "bn1.num_batches_tracked",
                                              "layer1.0.conv2.weight",
                                              "layer2.0.downsample.0.weight",
                                              "layer2.0.downsample.1.running_var",
                                              "fc.bias"};
    char run[512], path[512];
    small_run r;

    small_open(&r, SMALL_RESNET SMALL_DATA "[[phase]]\nsteps = 3\n", *state, NULL);
    r.options.run = small_path(run, *state, "run");
    CHECK_OK(trainer_run(r.trainer));
    for (size_t i = 0; i < THAW_COUNT(torchvision); i++)
        (void)small_param(&r, torchvision[i]);
    read_plainly(small_path(path, run, "checkpoints/step-000003/model.safetensors"), r.job->params);
    small_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_there, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_every_difference, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_other_head, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_without_head, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_leftovers, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_float_types, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_random_start, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_written_file, small_setup, small_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
