/*
 * test_fused.c - steps with posts on the fast executor, against each layer as a step of its own on
 * the reference one in f64: random blocks of convolutions, norms, sums and activations, with every
 * kind of freezing, forward and backward. And what folding must not touch.
 */
#include "check.h"

#include "exec/exec.h"
#include "graph/nets.h"

#include <math.h>

enum { BLOCKS = 40, CLASSES = 5 };

/* Who trains. */
typedef enum freezing { ALL, HEAD, LAST_BLOCK, FIRST_LAYER, NORMS, NONE, N_FREEZINGS } freezing;

typedef struct fused_net {
    net n;
    value_id output;
    params *params;
    exec *exec;
    plan *plan;
    exec_session *session;
    bool trainable[NET_BUFFERS];
    uint8_t mode[NET_BUFFERS];
    thaw_effect effect;
    int64_t batch, side;
} fused_net;

static int64_t pick(uint64_t *dice, int64_t least, int64_t most)
{
    return least + (int64_t)(splitmix64(dice) % (uint64_t)(most - least + 1));
}

static double noise(uint64_t *dice)
{
    return (double)(int32_t)(uint32_t)splitmix64(dice) / 2147483648.0;
}

/* Two blocks of random widths and windows, with relu or relu6 behind the first convolution. */
static void make_graph(fused_net *f, dtype real, uint64_t seed)
{
    static const int64_t kernels[][3] = {{3, 3}, {1, 3, 1}, {3, 1}};
    static const int depth[] = {2, 3, 2};
    value_id x;

    f->n = net_create(real);
    f->batch = pick(&seed, 2, 4);
    f->side = pick(&seed, 6, 13);
    x = net_image(&f->n, f->side, pick(&seed, 1, 4));
    x = net_norm(&f->n, "bn0", net_conv(&f->n, "conv0", x, pick(&seed, 3, 40), 3, 1));
    x = net_map(&f->n, pick(&seed, 0, 1) ? OP_RELU6 : OP_RELU, "relu0", x);
    for (int i = 0; i < 2; i++) {
        const int kind = (int)pick(&seed, 0, 2);
        const int64_t last = pick(&seed, 0, 1) ? net_channels(&f->n, x) : pick(&seed, 3, 40);
        const int64_t inner = pick(&seed, 3, 40);
        const int64_t width[3] = {inner, depth[kind] == 2 ? last : inner, last};

        x = net_block(&f->n, i ? "second" : "first", x, depth[kind], width, kernels[kind],
                      (int32_t)pick(&seed, 1, 2));
    }
    f->output = net_head(&f->n, x, CLASSES);
}

/* The same numbers in both precisions: floats. Variances are positive. */
static void make_params(fused_net *f, uint64_t seed)
{
    graph *const g = f->n.g;
    const int n = f->n.n_params + f->n.n_buffers;

    /* Buffers follow the parameters without a gap. */
    for (size_t v = 0; v < g->n_values; v++)
        if (g->value[v].kind == VALUE_PARAM && g->value[v].index >= NET_BUFFERS)
            g->value[v].index -= NET_BUFFERS - f->n.n_params;
    g->n_params = n;
    CHECK_OK(params_create(&f->params, g->real));
    for (int t = 0; t < n; t++)
        for (size_t v = 0; v < g->n_values; v++) {
            const graph_value *value = &g->value[v];

            if (value->kind == VALUE_PARAM && value->index == t)
                CHECK_OK(params_add(f->params, value->name, &value->shape, value->dtype,
                                    t >= f->n.n_params));
        }
    for (int i = 0; i < f->params->n; i++) {
        param *const item = &f->params->item[i];
        const bool positive = strstr(item->name, "running_var") != NULL;
        const double scale = item->shape.rank > 1
                                 ? sqrt(6.0 / (double)(item->elements / (size_t)item->shape.dim[0]))
                                 : 0.5;

        for (size_t k = 0; item->dtype != DTYPE_I64 && k < item->elements; k++) {
            const double u = noise(&seed);
            const float value =
                (float)(positive                                                ? 0.5 + u * u
                        : item->shape.rank == 1 && strstr(item->name, "weight") ? 1 + 0.3 * u
                                                                                : scale * u);

            if (item->dtype == DTYPE_F64)
                ((double *)item->data)[k] = (double)value;
            else
                ((float *)item->data)[k] = value;
        }
    }
}

static void set_effect(fused_net *f, freezing how, bool norms_train)
{
    memset(f->mode, norms_train ? THAW_MODE_NORM_TRAIN : 0, sizeof f->mode);
    for (int i = 0; i < f->n.n_params; i++) {
        const param *const item = &f->params->item[i];
        const bool norm = strstr(item->name, "bn") || strstr(item->name, "downsample.1");
        const bool head = strncmp(item->name, "fc", 2) == 0;

        f->trainable[i] = how == ALL || (how == HEAD && head) ||
                          (how == LAST_BLOCK && (head || strncmp(item->name, "second", 6) == 0)) ||
                          (how == FIRST_LAYER && strncmp(item->name, "conv0", 5) == 0) ||
                          (how == NORMS && norm);
    }
    f->effect = (thaw_effect){.n_params = f->n.n_params,
                              .n_modules = f->n.n_modules,
                              .trainable = f->trainable,
                              .updated = f->trainable,
                              .mode = f->mode};
}

static void open_as(fused_net *f, const exec_ops *ops, dtype real, uint64_t seed, freezing how,
                    bool norms_train, bool fused, plan_recompute recompute)
{
    plan_request request = PLAN_REQUEST_INIT;

    memset(f, 0, sizeof *f);
    make_graph(f, real, seed);
    make_params(f, seed);
    set_effect(f, how, norms_train);
    CHECK_OK(exec_open(&f->exec, ops, f->params, 1));
    request.model = f->n.g;
    request.output = f->output;
    request.effect = &f->effect;
    request.training = how != NONE;
    request.loss_op = OP_CROSS_ENTROPY;
    request.loss_attrs.loss.ignore = -100;
    request.batch = f->batch;
    request.n_params = f->params->n;
    request.scratch = exec_scratch;
    request.scratch_user = f->exec;
    request.fold = request.fuse = fused;
    request.recompute = recompute;
    CHECK_OK(plan_compile(&f->plan, &request));
    CHECK_OK(params_set_trainable(f->params, f->trainable));
    CHECK_OK(exec_wake(&f->session, f->exec, f->plan));
}

static void fused_open(fused_net *f, const exec_ops *ops, dtype real, uint64_t seed, freezing how,
                       bool norms_train, bool fused)
{
    open_as(f, ops, real, seed, how, norms_train, fused, PLAN_RECOMPUTE_NEVER);
}

static void fused_close(fused_net *f)
{
    exec_sleep(f->session);
    exec_close(f->exec);
    plan_destroy(f->plan);
    params_destroy(f->params);
    net_destroy(&f->n);
}

static void run(fused_net *f, uint64_t seed)
{
    const plan_slot *const image = &f->plan->slot[0];
    const size_t n = image->bytes / dtype_size(image->dtype);
    void *const pixels = thaw__alloc(image->bytes);
    int32_t target[4];
    const void *const input[] = {pixels, target};
    const exec_run_args args = {.input = input};

    for (size_t i = 0; i < n; i++)
        if (image->dtype == DTYPE_F64)
            ((double *)pixels)[i] = (double)(float)noise(&seed);
        else
            ((float *)pixels)[i] = (float)noise(&seed);
    for (int i = 0; i < 4; i++)
        target[i] = i;
    CHECK_OK(exec_run(f->session, &args));
    thaw__free(pixels);
}

static double value_at(const void *data, dtype d, size_t i)
{
    return d == DTYPE_F64 ? ((const double *)data)[i] : (double)((const float *)data)[i];
}

/* Largest difference over the largest value. */
static double distance(const void *a, dtype da, const void *b, dtype db, size_t n)
{
    double most = 0, scale = 1e-30;

    for (size_t i = 0; i < n; i++) {
        const double x = value_at(a, da, i), y = value_at(b, db, i);

        most = fmax(most, isfinite(x) ? fabs(x - y) : INFINITY);
        scale = fmax(scale, fabs(y));
    }
    return most / scale;
}

static void compare(const fused_net *got, const fused_net *want, double tolerance, const char *what)
{
    const dtype a = got->n.g->real, b = want->n.g->real;
    const double far = distance(exec_read(got->session, got->plan->results.output), a,
                                exec_read(want->session, want->plan->results.output), b,
                                (size_t)(got->batch * CLASSES));

    CHECK_MSG(far <= tolerance, "%s: the output is off by %g", what, far);
    for (int i = 0; i < got->params->n_trained; i++) {
        const param *const x = &got->params->item[i], *const y = &want->params->item[i];

        if (!x->grad)
            continue;
        CHECK_MSG(distance(x->grad, a, y->grad, b, x->elements) <= tolerance,
                  "%s: gradient of '%s' is off by %g", what, x->name,
                  distance(x->grad, a, y->grad, b, x->elements));
    }
}

/* A value within rounding of an activation's kink falls on either side of it: such seeds are few,
 * and found by the same difference without posts. */
static void compare_executors(const exec_ops *ops, dtype real, double tolerance)
{
    int n = 0;

    for (uint64_t seed = 1; seed <= BLOCKS; seed++) {
        const freezing how = (freezing)(seed % N_FREEZINGS);
        const bool norms_train = how != NONE && (seed / N_FREEZINGS) % 2 == 1;
        fused_net got, want, plain;
        char what[80];

        fused_open(&want, &exec_ref, DTYPE_F64, seed, how, norms_train, false);
        fused_open(&got, ops, real, seed, how, norms_train, true);
        fused_open(&plain, ops, real, seed, how, norms_train, false);
        run(&want, seed);
        run(&got, seed);
        run(&plain, seed);
        snprintf(what, sizeof what, "seed %llu, freezing %d, norms %d", (unsigned long long)seed,
                 (int)how, norms_train);
        for (int i = 0; i < got.plan->n_step && ops == &exec_dnn; i++)
            if (got.plan->step[i].n_post > 0)
                CHECK_STR(exec_step_executor(got.session, i), "dnn");
        CHECK(got.plan->n_step < plain.plan->n_step);
        compare(&got, &plain, tolerance, what);
        if (distance(exec_read(plain.session, plain.plan->results.output), real,
                     exec_read(want.session, want.plan->results.output), DTYPE_F64,
                     (size_t)(got.batch * CLASSES)) <= 1e-5) {
            compare(&got, &want, 20 * tolerance, what);
            n++;
        }
        fused_close(&plain);
        fused_close(&got);
        fused_close(&want);
    }
    CHECK(n > BLOCKS / 2);
}

static void test_dnn(void **state)
{
    (void)state;
    compare_executors(&exec_dnn, DTYPE_F32, 2e-4);
}

/* ref does the ops one after the other: the same numbers to the bit. */
static void test_ref(void **state)
{
    (void)state;
    compare_executors(&exec_ref, DTYPE_F64, 0);
}

/* ----------------------------------------------------------------------------------------------
 * recomputing */

static void compare_bits(const fused_net *got, const fused_net *want, const char *what)
{
    const plan_results *a = &got->plan->results, *b = &want->plan->results;

    CHECK_MSG(memcmp(exec_read(got->session, a->loss), exec_read(want->session, b->loss),
                     sizeof(double)) == 0,
              "%s: the loss has other bits", what);
    for (int i = 0; i < got->params->n; i++) {
        const param *const x = &got->params->item[i], *const y = &want->params->item[i];

        CHECK_MSG(memcmp(x->data, y->data, x->bytes) == 0, "%s: '%s' has other bits", what,
                  x->name);
        CHECK_MSG(!x->grad || memcmp(x->grad, y->grad, x->bytes) == 0,
                  "%s: the gradient of '%s' has other bits", what, x->name);
    }
}

/* What is made again has the bits that it had; and memory is saved where anything is. */
static void test_made_again(void **state)
{
    static const struct {
        const exec_ops *ops;
        dtype real;
    } kind[] = {{&exec_dnn, DTYPE_F32}, {&exec_ref, DTYPE_F32}, {&exec_ref, DTYPE_F64}};
    int n = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 3 * BLOCKS; seed++) {
        const freezing how = (freezing)(seed % NONE);
        const bool norms_train = seed % 4 != 0, fused = seed % 3 != 0;
        const size_t k = seed % THAW_COUNT(kind);
        fused_net got, want;
        char what[80];

        open_as(&want, kind[k].ops, kind[k].real, seed, how, norms_train, fused,
                PLAN_RECOMPUTE_NEVER);
        open_as(&got, kind[k].ops, kind[k].real, seed, how, norms_train, fused,
                PLAN_RECOMPUTE_ALWAYS);
        CHECK_INT(plan_count_again(want.plan), 0);
        for (int i = 0; i < 2; i++) {
            run(&want, seed + (uint64_t)i);
            run(&got, seed + (uint64_t)i);
        }
        snprintf(what, sizeof what, "seed %llu, freezing %d, norms %d, fused %d",
                 (unsigned long long)seed, (int)how, norms_train, fused);
        compare_bits(&got, &want, what);
        n += plan_count_again(got.plan) > 0;
        fused_close(&got);
        fused_close(&want);
    }
    CHECK_MSG(n > BLOCKS / 2, "only %d networks made anything again", n);
}

/* ----------------------------------------------------------------------------------------------
 * folding */

/* Parameters are as before; a change of any of them is seen in the next run. */
static void test_fold_follows_parameters(void **state)
{
    fused_net f, again;
    float before[4 * CLASSES];
    size_t n;

    (void)state;
    fused_open(&f, &exec_dnn, DTYPE_F32, 7, NONE, false, true);
    n = (size_t)(f.batch * CLASSES);
    fused_open(&again, &exec_dnn, DTYPE_F32, 7, NONE, false, true);
    run(&f, 1);
    for (int i = 0; i < f.params->n; i++)
        CHECK_BYTES(f.params->item[i].data, again.params->item[i].data, f.params->item[i].bytes);
    for (int i = 0; i < f.params->n; i++) {
        param *const item = &f.params->item[i];

        if (item->dtype != DTYPE_F32 || strncmp(item->name, "bn0", 3) != 0)
            continue;
        memcpy(before, exec_read(f.session, f.plan->results.output), n * sizeof *before);
        for (size_t k = 0; k < item->elements; k++)
            ((float *)item->data)[k] *= 1.5f;
        params_touch(f.params, i);
        run(&f, 1);
        CHECK_MSG(
            memcmp(before, exec_read(f.session, f.plan->results.output), n * sizeof *before) != 0,
            "'%s' was changed, and nobody noticed", item->name);
    }
    fused_close(&again);
    fused_close(&f);
}

/* A sample has the same bits in any batch, folded and fused: cached features rely on it. Compared
 * where the library's kernels have that property at all. */
static void test_batches(void **state)
{
    char isa[128];

    (void)state;
    exec_describe(isa, &exec_dnn);
    for (uint64_t seed = 1; strstr(isa, "avx512") && seed <= 12; seed++) {
        fused_net f;
        float first[CLASSES];

        fused_open(&f, &exec_dnn, DTYPE_F32, seed, NONE, false, true);
        run(&f, seed);
        memcpy(first, exec_read(f.session, f.plan->results.output), sizeof first);
        exec_sleep(f.session);
        plan_destroy(f.plan);
        for (int64_t batch = 1; batch <= 3; batch += 2) {
            plan_request request = PLAN_REQUEST_INIT;

            request.model = f.n.g;
            request.output = f.output;
            request.loss_op = OP_CROSS_ENTROPY;
            request.batch = f.batch = batch;
            request.n_params = f.params->n;
            request.scratch = exec_scratch;
            request.scratch_user = f.exec;
            CHECK_OK(plan_compile(&f.plan, &request));
            CHECK_OK(exec_wake(&f.session, f.exec, f.plan));
            run(&f, seed);
            CHECK_MSG(memcmp(exec_read(f.session, f.plan->results.output), first, sizeof first) ==
                          0,
                      "seed %llu: the first sample has other bits in a batch of %lld",
                      (unsigned long long)seed, (long long)batch);
            if (batch < 3) {
                exec_sleep(f.session);
                plan_destroy(f.plan);
            }
        }
        fused_close(&f);
    }
}

/* Kernels' activations make zero of what is not a number; the loss must show it all the same. */
static void test_not_a_number_is_seen(void **state)
{
    fused_net f;

    (void)state;
    fused_open(&f, &exec_dnn, DTYPE_F32, 3, HEAD, false, true);
    run(&f, 1);
    CHECK(isfinite(*(const double *)exec_read(f.session, f.plan->results.loss)));
    ((float *)f.params->item[0].data)[1] = NAN;
    params_touch(f.params, 0);
    run(&f, 1);
    CHECK(isnan(*(const double *)exec_read(f.session, f.plan->results.loss)));
    ((float *)f.params->item[0].data)[1] = 0;
    params_touch(f.params, 0);
    run(&f, 1);
    CHECK(isfinite(*(const double *)exec_read(f.session, f.plan->results.loss)));
    fused_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dnn),        cmocka_unit_test(test_ref),
        cmocka_unit_test(test_made_again), cmocka_unit_test(test_fold_follows_parameters),
        cmocka_unit_test(test_batches),    cmocka_unit_test(test_not_a_number_is_seen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
