/*
 * test_evaluate.c - loss, hits and the confusion matrix over a data set, counted a second time here
 * from the outputs of single samples.
 */
#include "train/small_runs.h"

#include "train/features.h"

#define EVAL_TAIL "[[phase]]\nsteps = 1\n"

static void evaluate_split_of(eval_sums *sums, int64_t *confusion, small_run *r, const char *split)
{
    plans cache = {0};

    CHECK_OK(evaluate(sums, confusion, &cache, r->job, job_split(r->job, split), NULL));
    plans_done(&cache);
}

/* The logits of a perceptron [64, 3] for a sample of SMALL_DATA, by hand. */
static void logits_of(double out[SMALL_CLASSES], const small_run *r, int64_t sample)
{
    const param *w = small_param(r, "head.weight"), *b = small_param(r, "head.bias");

    for (int k = 0; k < SMALL_CLASSES; k++) {
        out[k] = ((const double *)b->data)[k];
        for (int i = 0; i < 64; i++)
            out[k] += ((const double *)w->data)[k * 64 + i] *
                      ((small_pixel(sample, i / SMALL_SIDE, i % SMALL_SIDE) / 255.0 - 0.3) / 0.4);
    }
}

static int greatest(const double x[SMALL_CLASSES])
{
    int best = 0;

    for (int k = 1; k < SMALL_CLASSES; k++)
        if (x[k] > x[best])
            best = k;
    return best;
}

static double cross_entropy(const double x[SMALL_CLASSES], int64_t label)
{
    double sum = 0;

    for (int k = 0; k < SMALL_CLASSES; k++)
        sum += exp(x[k]);
    return log(sum) - x[label];
}

static double squared_error(const double x[SMALL_CLASSES], int64_t label)
{
    double sum = 0;

    for (int k = 0; k < SMALL_CLASSES; k++)
        sum += pow(x[k] - (k == label ? 1 : 0), 2);
    return sum / SMALL_CLASSES;
}

#define LINEAR "[model]\narch = 'mlp'\nwidths = [64, 3]\n"

/* 7 samples in batches of 4 and 3. */
static void count_again(const char *folder, const char *loss,
                        double (*loss_of)(const double *, int64_t))
{
    int64_t want[SMALL_CLASSES * SMALL_CLASSES] = {0}, got[SMALL_CLASSES * SMALL_CLASSES] = {0};
    double sum = 0;
    int64_t hits = 0;
    text t = TEXT_INIT;
    eval_sums sums;
    small_run r;

    text_addf(&t, LINEAR SMALL_DATA "%s" SMALL_REF_F64 EVAL_TAIL, loss);
    small_open(&r, t.data, folder, NULL);
    for (int64_t i = 0; i < SMALL_VALID; i++) {
        const int64_t label = i % SMALL_CLASSES;
        double x[SMALL_CLASSES];

        logits_of(x, &r, 3000 + i);
        sum += loss_of(x, label);
        hits += greatest(x) == label;
        want[label * SMALL_CLASSES + greatest(x)]++;
    }
    evaluate_split_of(&sums, got, &r, "valid");
    CHECK_INT(sums.n, SMALL_VALID);
    CHECK_INT(sums.hits, hits);
    CHECK_NEAR(sums.loss, sum / SMALL_VALID, 1e-12, 0);
    CHECK_BYTES(got, want, sizeof want);
    small_close(&r);
    text_done(&t);
}

/* Among the five greatest of eight outputs: counted from single samples. */
static void test_near_hits(void **state)
{
    enum { K = 8 };
    int64_t confusion[K * K] = {0}, near = 0;
    eval_sums sums;
    small_run r;

    small_open(&r,
               "[model]\narch = 'mlp'\nwidths = [64, 8]\nnum_classes = 8\n" SMALL_DATA SMALL_REF_F64
                   EVAL_TAIL,
               *state, NULL);
    for (int64_t i = 0; i < SMALL_VALID; i++) {
        const int label = (int)(i % SMALL_CLASSES);
        const param *w = small_param(&r, "head.weight"), *b = small_param(&r, "head.bias");
        double x[K];
        int ahead = 0;

        for (int k = 0; k < K; k++) {
            x[k] = ((const double *)b->data)[k];
            for (int p = 0; p < 64; p++)
                x[k] +=
                    ((const double *)w->data)[k * 64 + p] *
                    ((small_pixel(3000 + i, p / SMALL_SIDE, p % SMALL_SIDE) / 255.0 - 0.3) / 0.4);
        }
        for (int k = 0; k < K; k++)
            ahead += x[k] > x[label];
        near += ahead < 5;
    }
    evaluate_split_of(&sums, confusion, &r, "valid");
    CHECK_INT(sums.near, near);
    CHECK_MSG(near > 0 && near < SMALL_VALID, "%lld of %d tell little", (long long)near,
              SMALL_VALID);
    small_close(&r);
}

static void test_counted_again(void **state)
{
    count_again(*state, "", cross_entropy);
    count_again(*state, "[loss]\nname = 'mse'\n", squared_error);
}

/* Executors and precisions agree; a confusion matrix is added to. */
static void test_executors_agree(void **state)
{
    static const char *const train[] = {"executor = 'ref'\nprecision = 'f64'\n",
                                        "executor = 'ref'\n", "executor = 'dnn'\n"};
    int64_t confusion[SMALL_CLASSES * SMALL_CLASSES] = {0};
    eval_sums sums[3];

    for (int i = 0; i < 3; i++) {
        text t = TEXT_INIT;
        small_run r;

        text_addf(&t, SMALL_RESNET "init = 'by-name'\n" SMALL_DATA "[train]\n%s" EVAL_TAIL,
                  train[i]);
        small_open(&r, t.data, *state, NULL);
        evaluate_split_of(&sums[i], confusion, &r, "train");
        small_close(&r);
        text_done(&t);
        CHECK_INT(sums[i].hits, sums[0].hits);
        CHECK_NEAR(sums[i].loss, sums[0].loss, 1e-5, 0);
    }
    for (int i = 0; i < SMALL_CLASSES * SMALL_CLASSES; i++)
        CHECK_INT(confusion[i] % 3, 0);
}

/* Evaluating moves nothing: no statistics, no dropout, no data position; twice gives the same. */
static void test_leaves_no_trace(void **state)
{
    params_snapshot *before = NULL;
    eval_sums a, b;
    small_run r;

    small_open(&r,
               SMALL_RESNET "dropout = 0.5\n" SMALL_DATA "shift = 2\nflip = true\n"
                            "[train]\nexecutor = 'ref'\n" EVAL_TAIL,
               *state, NULL);
    CHECK_OK(params_snapshot_take(&before, r.job->params, false));
    evaluate_split_of(&a, NULL, &r, "train");
    evaluate_split_of(&b, NULL, &r, "train");
    CHECK(a.loss == b.loss && a.hits == b.hits);
    for (int i = 0; i < r.job->params->n; i++)
        CHECK_BYTES((const char *)r.job->params->item[i].data, params_snapshot_data(before, i),
                    r.job->params->item[i].bytes);
    params_snapshot_destroy(before);
    small_close(&r);
}

/* Not one target counts: no loss, and no division by nothing that looks like one. */
static void test_all_ignored(void **state)
{
    eval_sums sums;
    small_run r;

    small_split(*state, "one", 0, 1);
    small_open(&r,
               LINEAR "[data]\ntrain = 'train-images-idx3-ubyte'\nvalid = 'one-images-idx3-ubyte'\n"
                      "num_classes = 3\n[loss]\nignore_index = 0\n" SMALL_REF_F64 EVAL_TAIL,
               *state, NULL);
    evaluate_split_of(&sums, NULL, &r, "valid");
    CHECK(isnan(sums.loss));
    CHECK_INT(sums.n, 1);
    small_close(&r);
}

/* The caller's failure is the evaluation's. */
static void test_failing_source(void **state)
{
    small_samples samples = {.fail_after = 1};
    plans cache = {0};
    eval_sums sums;
    small_run r;

    (void)state;
    small_open(&r, LINEAR SMALL_CALLBACK "prefetch = false\n[train]\nexecutor = 'ref'\n" EVAL_TAIL,
               ".", &samples);
    CHECK_ERROR(evaluate(&sums, NULL, &cache, r.job, r.job->valid, NULL), THAW_E_IO,
                "validation samples failed");
    plans_done(&cache);
    small_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_near_hits),       cmocka_unit_test(test_counted_again),
        cmocka_unit_test(test_executors_agree), cmocka_unit_test(test_leaves_no_trace),
        cmocka_unit_test(test_all_ignored),     cmocka_unit_test(test_failing_source),
    };

    return cmocka_run_group_tests(tests, small_setup, small_teardown);
}
