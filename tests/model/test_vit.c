/*
 * test_vit.c - vision transformers: logits of torchvision for a fixed input (record_vit.py), sizes
 * of the named ones, mistakes in sizes, and what a frozen prefix leaves of a plan.
 */
#include "model/networks.h"

static model_config small_config(void)
{
    model_config c = config_of("vit");

    c.height = c.width = SIDE;
    c.vit.hidden = 64;
    c.vit.inner = 128;
    c.vit.layers = 2;
    c.vit.heads = 4;
    c.vit.eps = 1e-6;
    return c;
}

/* ----------------------------------------------------------------------------------------------
 * logits */

static void test_logits(void **state)
{
    FILE *f = fopen(THAW_TEST_DIR "/model/vit_logits.txt", "r");
    const model_config c = small_config();
    double want[IMAGES * CLASSES], got[IMAGES * CLASSES];

    (void)state;
    CHECK(f != NULL);
    for (int i = 0; i < IMAGES * CLASSES; i++)
        CHECK(fscanf(f, "%lf", &want[i]) == 1);
    forward(got, &c, "ref", DTYPE_F64);
    CHECK_CLOSE(got, want, IMAGES * CLASSES, 1e-10, 1e-10);
    forward(got, &c, "dnn", DTYPE_F32);
    CHECK_CLOSE(got, want, IMAGES * CLASSES, 1e-4, 1e-4);
    fclose(f);
}

/* ----------------------------------------------------------------------------------------------
 * sizes */

/* Numbers of parameters as published, with 1000 classes. */
static void test_sizes(void **state)
{
    static const struct {
        const char *arch;
        double millions;
    } known[] = {{"vit", 86.567656},
                 {"vit_b_16", 86.567656},
                 {"vit_b_32", 88.224232},
                 {"vit_tiny_patch16_224", 5.717416},
                 {"vit_small_patch16_224", 22.050664}};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(known); i++) {
        model_config c = config_of(known[i].arch);
        double sum = 0;

        c.n_classes = 1000;
        model *m = create(&c, DTYPE_F32);

        for (int t = 0; t < m->n_tensors; t++) {
            size_t n = 0;

            CHECK_OK(shape_elements(&n, &m->tensor[t].shape));
            sum += (double)n;
        }
        CHECK_NEAR(sum / 1e6, known[i].millions, 1e-9, 0);
        CHECK_STR(m->config.arch, "vit");
        CHECK_STR(m->head, "classifier");
        CHECK(find(m, "classifier.weight")->head && !find(m, "vit.layernorm.weight")->head);
        model_destroy(m);
    }
}

static void test_bad_sizes(void **state)
{
    model_config c = small_config();
    model *m = NULL;

    (void)state;
    c.height = 60;
    CHECK_ERROR(model_create(&m, &c, DTYPE_F32), THAW_E_SHAPE,
                "60 x 64 cannot be cut into patches of 16 x 16; choose an image size that is a "
                "multiple of 16, such as 48");
    c = small_config();
    c.vit.heads = 5;
    CHECK_ERROR(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE, "shared by 5 attention heads");
    c = small_config();
    c.vit.hidden = -64;
    CHECK_ERROR(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE, "the hidden size");
    c.vit.hidden = INT64_MAX;
    c.vit.inner = 0;
    CHECK_ERROR(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE, "the hidden size");
    c = small_config();
    c.vit.layers = 1001;
    CHECK_ERROR(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE, "the number of hidden layers");
    c = small_config();
    c.vit.eps = NAN;
    CHECK_ERROR(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE, "layer_norm_eps");
}

/* What Hugging Face writes beside a network reads as its sizes, and ours reads back. */
static void test_config(void **state)
{
    static const char json[] =
        "{\"architectures\": [\"ViTForImageClassification\"], \"attention_probs_dropout_prob\": "
        "0.0, \"encoder_stride\": 16, \"hidden_act\": \"gelu\", \"hidden_dropout_prob\": 0.0, "
        "\"hidden_size\": 192, \"image_size\": 224, \"initializer_range\": 0.02, "
        "\"intermediate_size\": 768, \"layer_norm_eps\": 1e-12, \"model_type\": \"vit\", "
        "\"num_attention_heads\": 3, \"num_channels\": 3, \"num_hidden_layers\": 12, "
        "\"patch_size\": 16, \"qkv_bias\": true, \"torch_dtype\": \"float32\"}";
    model_config c, back;
    text t = TEXT_INIT;

    (void)state;
    CHECK_OK(model_config_parse(&c, json, strlen(json), "config.json"));
    model *m = create(&c, DTYPE_F32);
    CHECK_INT(m->config.vit.hidden, 192);
    CHECK_INT(m->config.vit.layers, 12);
    CHECK(m->config.vit.eps == 1e-12 && !m->config.vit.tanh_gelu);
    m->config.vit.tanh_gelu = true;
    model_config_print(&t, &m->config);
    CHECK_OK(model_config_parse(&back, t.data, t.length, "config.json"));
    CHECK_BYTES(&back.vit, &m->config.vit, sizeof back.vit);
    text_done(&t);
    model_destroy(m);

    CHECK_ERROR(
        model_config_parse(&c, "{\"model_type\": \"vit\", \"hidden_act\": \"relu\"}", 43, "c.json"),
        THAW_E_SUPPORT, "c.json: 'hidden_act' is 'relu'");
    CHECK_ERROR(
        model_config_parse(&c, "{\"model_type\": \"vit\", \"qkv_bias\": false}", 40, "c.json"),
        THAW_E_SUPPORT, "c.json: 'qkv_bias' must be true");
    CHECK_ERROR(
        model_config_parse(&c, "{\"model_type\": \"vit\", \"hidden_size\": \"a\"}", 41, "c.json"),
        THAW_E_DATA, "c.json: 'hidden_size' must be a whole number");
}

/* ----------------------------------------------------------------------------------------------
 * freezing */

/* Blocks below the last frozen: nothing of them is in the backward part, and of the last block's
 * input there is no gradient. */
static void test_frozen_prefix(void **state)
{
    static const char *const frozen = "vit\\.embeddings|vit\\.encoder\\.layer\\.([0-9]|10)";
    const thaw_phase_options phase = {.name = "top", .length = 1};
    model_config c = config_of("vit_tiny_patch16_224");
    plan_request request = PLAN_REQUEST_INIT;
    thaw_schedule *s = NULL;
    const thaw_effect *effect = NULL;
    const thaw_progress start = {.iteration = 0};
    plan *p = NULL;
    model *m = create(&c, DTYPE_F32);
    int backward = 0;

    (void)state;
    CHECK_OK(thaw_schedule_create(&s, m->tree));
    CHECK_OK(thaw_schedule_add_phase(s, &phase));
    CHECK_OK(thaw_schedule_freeze(s, &frozen, 1));
    CHECK_OK(thaw_schedule_seal(s));
    CHECK_OK(thaw_schedule_effect(&effect, s, &start));
    request.model = m->graph;
    request.output = m->output;
    request.batch = 4;
    request.n_params = m->n_tensors;
    request.effect = effect;
    request.training = true;
    request.loss_op = OP_CROSS_ENTROPY;
    CHECK_OK(plan_compile(&p, &request));
    for (int i = 0; i < p->n_step; i++) {
        const plan_step *const step = &p->step[i];

        if (step->wrt == 0)
            continue;
        backward++;
        CHECK_MSG(strstr(step->name, "layer.11.") || strstr(step->name, "vit.layernorm") ||
                      strstr(step->name, "classifier") || step->op == OP_CROSS_ENTROPY,
                  "a backward step of '%s'", step->name);
        CHECK_MSG(!strstr(step->name, "layernorm_before") || !(step->wrt & OP_IN(0)),
                  "'%s' makes the gradient of a frozen block's output", step->name);
    }
    CHECK(backward > 10);
    plan_destroy(p);
    thaw_schedule_destroy(s);
    model_destroy(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits),        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_bad_sizes),     cmocka_unit_test(test_config),
        cmocka_unit_test(test_frozen_prefix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
