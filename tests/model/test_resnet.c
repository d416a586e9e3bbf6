/*
 * test_resnet.c - residual networks and MobileNetV2 against torchvision: names, shapes and order of
 * all tensors, and logits for a fixed input. Both records were made by record_torchvision.py.
 */
#include "exec/exec.h"
#include "model/model.h"

#include "check.h"

#include <zlib.h>

static model *create(const model_config *c, dtype real)
{
    model *m = NULL;

    CHECK_OK(model_create(&m, c, real));
    return m;
}

static model_config config_of(const char *arch)
{
    model_config c = MODEL_CONFIG_INIT;

    (void)snprintf(c.arch, sizeof c.arch, "%s", arch);
    return c;
}

static const model_tensor *find(const model *m, const char *name)
{
    for (int i = 0; i < m->n_tensors; i++)
        if (strcmp(m->tensor[i].name, name) == 0)
            return &m->tensor[i];
    return NULL;
}

/* "layer1.0.conv1.weight 64 64 3 3" */
static void compare_tensor(const char *arch, const model *m, char *line)
{
    char *rest = NULL;
    const char *name = strtok_r(line, " \n", &rest), *word;
    const model_tensor *t = find(m, name);
    shape s = {0};
    char have[128], want[128];

    CHECK_MSG(t, "%s: torchvision has '%s', we have not", arch, name);
    while ((word = strtok_r(NULL, " \n", &rest)))
        s.dim[s.rank++] = strtol(word, NULL, 10);
    CHECK_MSG(shape_equal(&s, &t->shape), "%s: '%s' is %s, torchvision's is %s", arch, name,
              shape_format(have, &t->shape), shape_format(want, &s));
    CHECK_INT(t->buffer, strstr(name, "running_") || strstr(name, "num_batches"));
    CHECK_INT(t->dtype, strstr(name, "num_batches") ? DTYPE_I64 : DTYPE_F32);
    CHECK_INT(t->head, strncmp(name, m->head, strlen(m->head)) == 0);
}

/* Names and shapes are torchvision's, one for one. */
static void test_tensors(void **state)
{
    gzFile f = gzopen(THAW_TEST_DIR "/model/torchvision_tensors.txt.gz", "rb");
    char line[256];
    int networks = 0;

    (void)state;
    CHECK(f != NULL);
    while (gzgets(f, line, sizeof line)) {
        char arch[32];
        int n;

        CHECK(sscanf(line, "%31s %d", arch, &n) == 2);
        model_config c = config_of(arch);
        c.n_classes = 1000;
        model *m = create(&c, DTYPE_F32);

        CHECK_INT(m->n_tensors, n);
        CHECK_INT(m->config.height, 224);
        CHECK_STR(m->head, strcmp(arch, "mobilenet_v2") == 0 ? "classifier.1" : "fc");
        for (int i = 0; i < n; i++) {
            CHECK(gzgets(f, line, sizeof line) != NULL);
            compare_tensor(arch, m, line);
        }
        networks++;
        model_destroy(m);
    }
    CHECK_INT(networks, 11);
    gzclose(f);
}

/* ----------------------------------------------------------------------------------------------
 * logits */

enum { IMAGES = 2, SIDE = 64 };

static params *start_by_name(const model *m)
{
    params *p = NULL;

    CHECK_OK(params_create(&p, m->graph->real));
    for (int i = 0; i < m->n_tensors; i++) {
        const model_tensor *t = &m->tensor[i];

        CHECK_OK(params_add(p, t->name, &t->shape, t->dtype, t->buffer));
        if (t->dtype != DTYPE_I64)
            params_fill(p, i, t->fill);
    }
    params_init_by_name(p);
    return p;
}

static double pixel(size_t i)
{
    const size_t c = i % 3, w = i / 3 % SIDE, h = i / 3 / SIDE % SIDE, b = i / 3 / SIDE / SIDE;

    return (double)(float)((double)((h * 31 + w * 17 + c * 7 + b * 13) % 29) / 14 - 1);
}

/* The images, in f32 or f64. */
static void *draw_images(dtype real)
{
    const size_t n = (size_t)IMAGES * SIDE * SIDE * 3;
    void *image = malloc(n * sizeof(double));

    CHECK(image != NULL);
    for (size_t i = 0; i < n; i++)
        if (real == DTYPE_F64)
            ((double *)image)[i] = pixel(i);
        else
            ((float *)image)[i] = (float)pixel(i);
    return image;
}

static void forward(double *logits, const char *arch, const char *executor, dtype real)
{
    model_config c = config_of(arch);
    plan_request request = PLAN_REQUEST_INIT;
    void *image = draw_images(real);
    const void *input[] = {image};
    const exec_run_args args = {.input = input};
    exec_session *session = NULL;
    exec *e = NULL;
    plan *p = NULL;

    c.height = c.width = SIDE;
    model *m = create(&c, real);
    params *weights = start_by_name(m);

    CHECK_OK(exec_open(&e, exec_find(executor), weights, 1));
    request.model = m->graph;
    request.output = m->output;
    request.batch = IMAGES;
    request.n_params = m->n_tensors;
    request.scratch = exec_scratch;
    request.scratch_user = e;
    CHECK_OK(plan_compile(&p, &request));
    CHECK_OK(exec_wake(&session, e, p));
    CHECK_OK(exec_run(session, &args));
    CHECK_OK(tensor_convert(logits, DTYPE_F64, exec_read(session, p->results.output), real,
                            IMAGES * 10));
    exec_sleep(session);
    plan_destroy(p);
    exec_close(e);
    params_destroy(weights);
    model_destroy(m);
    free(image);
}

static void test_logits(void **state)
{
    FILE *f = fopen(THAW_TEST_DIR "/model/torchvision_logits.txt", "r");
    char arch[32];

    (void)state;
    CHECK(f != NULL);
    for (int networks = 0; networks < 4; networks++) {
        double want[IMAGES * 10], got[IMAGES * 10];

        CHECK(fscanf(f, "%31s", arch) == 1);
        for (int i = 0; i < IMAGES * 10; i++)
            CHECK(fscanf(f, "%lf", &want[i]) == 1);
        forward(got, arch, "ref", DTYPE_F64);
        CHECK_CLOSE(got, want, IMAGES * 10, 1e-10, 1e-10);
        forward(got, arch, "dnn", DTYPE_F32);
        CHECK_CLOSE(got, want, IMAGES * 10, 1e-4, 1e-4);
    }
    fclose(f);
}

/* ----------------------------------------------------------------------------------------------
 * narrow ones */

static void test_small(void **state)
{
    model_config c = config_of("resnet18");

    (void)state;
    c.height = c.width = 28;
    c.channels = 1;
    c.n_widths = 2;
    c.widths[0] = 32;
    c.widths[1] = 48;
    c.n_blocks = 1;
    c.blocks[0] = 1;
    c.small_stem = true;
    c.dropout = 0.5;
    model *m = create(&c, DTYPE_F32);
    const shape stem = shape_4(32, 1, 3, 3), last = shape_2(10, 192);

    CHECK(shape_equal(&find(m, "conv1.weight")->shape, &stem));
    CHECK(shape_equal(&find(m, "fc.weight")->shape, &last)); /* widths go on by doubling */
    CHECK(find(m, "layer1.1.conv1.weight") == NULL);
    CHECK(find(m, "layer2.1.conv1.weight") != NULL);        /* others have the arch's own number */
    CHECK(find(m, "layer1.0.downsample.0.weight") == NULL); /* same size: nothing to adapt */
    CHECK(find(m, "layer2.0.downsample.0.weight") != NULL);
    CHECK_INT(m->graph->n_inputs, 2); /* dropout asks for sample numbers */
    CHECK(thaw_tree_find_module(m->tree, "dropout") >= 0);
    model_destroy(m);
}

static void test_bad_sizes(void **state)
{
    model_config c = config_of("resnet18"), saved = c;
    model *m = NULL;

    (void)state;
    c.n_widths = 5;
    CHECK_ERROR(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE, "4 stages");
    c = saved;
    c.n_widths = 1;
    c.widths[0] = -4;
    CHECK_STATUS(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE);
    c.widths[0] = 10000000;
    CHECK_ERROR(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE, "width");
    c.widths[0] = INT64_MAX / 4; /* doubles three times */
    CHECK_STATUS(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE);
    c = saved;
    c.n_blocks = 1;
    c.blocks[0] = 0;
    CHECK_STATUS(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE);
    c.blocks[0] = INT64_MAX;
    CHECK_STATUS(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE);
    c = saved;
    c.height = c.width = 1; /* a 7 x 7 kernel with padding 3 still has an output */
    CHECK_OK(model_create(&m, &c, DTYPE_F32));
    model_destroy(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_logits),
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_bad_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
