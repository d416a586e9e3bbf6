/*
 * test_culprit.c - ten steps that are not finite: the message names where that began, whatever it
 * was: samples, a parameter, a layer's output, a gradient, a sum.
 */
#include "train/small_runs.h"

/* Batches of 16 in the order of the file; class 2 does not count. */
#define HEAD                                                                                       \
    SMALL_MLP "[data]\nformat = 'callback'\nbatch = 16\nshuffle = false\nwrap = true\n"            \
              "[loss]\nignore_index = 2\n[optimizer]\nname = 'sgd'\nlr = 0.1\n"

static void fill(const small_run *r, const char *name, float value)
{
    const param *p = small_param(r, name);

    for (size_t i = 0; i < p->elements; i++)
        ((float *)p->data)[i] = value;
}

static void poison_parameter(small_run *r)
{
    ((float *)small_param(r, "backbone.fc2.weight")->data)[3] = INFINITY;
}

static void poison_output(small_run *r)
{
    fill(r, "backbone.fc2.weight", 1e30f);
    fill(r, "backbone.fc2.bias", 0);
    fill(r, "backbone.fc1.weight", 0);
    fill(r, "backbone.fc1.bias", 1e30f);
}

/* The network's output is 0, but a weight's gradient is a sum of numbers near the largest. */
static void poison_gradient(small_run *r)
{
    fill(r, "backbone.fc2.weight", 0);
    fill(r, "backbone.fc2.bias", 3e38f);
    fill(r, "head.weight", 0);
    fill(r, "head.bias", 0);
}

/* The same in micro-batches small enough for each to be finite. */
static void poison_sum(small_run *r)
{
    poison_gradient(r);
    fill(r, "backbone.fc2.bias", 2e38f);
}

static void run_one(const char *source, const char *executor, small_samples *samples,
                    void (*poison)(small_run *r), const char *words)
{
    params_snapshot *before = NULL;
    text t = TEXT_INIT;
    small_run r;

    text_addf(&t, "%s[train]\nexecutor = '%s'\n[[phase]]\nsteps = 20\n", source, executor);
    small_open(&r, t.data, ".", samples);
    if (poison)
        poison(&r);
    CHECK_OK(params_snapshot_take(&before, r.job->params, false));
    CHECK_ERROR(trainer_run(r.trainer), THAW_E_NUMERIC, words);
    CHECK_CONTAINS(thaw_error(), "step 10: the loss or its gradient was not finite 10 times");
    CHECK_INT(r.trainer->state.skipped, 10);
    for (int i = 0; i < r.job->params->n; i++)
        CHECK_BYTES((const char *)r.job->params->item[i].data, params_snapshot_data(before, i),
                    r.job->params->item[i].bytes);
    params_snapshot_destroy(before);
    small_close(&r);
    text_done(&t);
}

static void test_every_beginning(void **state)
{
    static const char *const executor[] = {"ref", "dnn"};
    static const struct {
        const char *source;
        void (*poison)(small_run *r);
        const char *words;
    } table[] = {
        {HEAD, poison_parameter, "parameter 'backbone.fc2.weight' is not finite itself"},
        {HEAD, poison_output, "it begins in the output of layer 'backbone.fc2' ("},
        {HEAD, poison_gradient, "it begins in the gradient of parameter 'head.weight';"},
        {HEAD "accumulate = 8\n", poison_gradient, "it begins in the gradient of parameter 'head"},
    };

    (void)state;
    for (size_t e = 0; e < THAW_COUNT(executor); e++)
        for (size_t i = 0; i < THAW_COUNT(table); i++) {
            small_samples samples = {.all_bad = false};

            run_one(table[i].source, executor[e], &samples, table[i].poison, table[i].words);
        }
}

static void test_samples(void **state)
{
    small_samples samples = {.bad[5] = true};

    (void)state;
    run_one(HEAD "accumulate = 2\n", "dnn", &samples, NULL,
            "it begins in the data, sample 5 of the training data");
}

/* Each micro-batch is finite, their sum is not. */
static void test_sums(void **state)
{
    small_samples samples = {.all_bad = false};

    (void)state;
    run_one(SMALL_MLP "[data]\nformat = 'callback'\nbatch = 3\nshuffle = false\nwrap = true\n"
                      "[loss]\nignore_index = 2\n[optimizer]\naccumulate = 6\n",
            "ref", &samples, poison_sum, "it begins in the gradient of parameter 'head.weight'");
}

/* In a residual network, whose running statistics move while the step is looked at. */
static void poison_convolution(small_run *r)
{
    fill(r, "layer2.0.conv1.weight", 3e38f);
}

static void test_norms(void **state)
{
    small_samples samples = {.all_bad = false};

    (void)state;
    run_one(SMALL_RESNET SMALL_CALLBACK, "ref", &samples, poison_convolution,
            "it begins in the output of layer 'layer2.0.conv1' (");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_beginning),
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_norms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
