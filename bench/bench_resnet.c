/*
 * bench_resnet - images a second of a residual network on synthetic images: forward, backward and
 * update, through the plan and the executor as the trainer uses them.
 *
 *   bench_resnet [ARCH [BATCH [SIDE [THREADS [ROUNDS [EXECUTOR [TRAINED [PLAN]]]]]]]]
 *
 * Default: resnet50 32 224 2 5 dnn all fused. TRAINED: all, last (the last stage and the head) or
 * head; what is frozen is in inference mode. PLAN: fused or plain.
 *
 * The first round warms up; the rest are timed one by one. Then one more round is timed step by
 * step, and its time printed by op and direction; with THAW_BENCH_STEPS set, for each step.
 */
#include "exec/exec.h"
#include "model/model.h"
#include "optim/optim.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct bench {
    const char *arch;
    int64_t batch, side;
    int threads, rounds;
    const char *trained;
    bool plain; /* nothing folded, fused or made again */
    model *model;
    params *params;
    thaw_effect effect;
    exec *exec;
    exec_session *session;
    plan *plan;
    float *image;
    int32_t *target;
    const optim_rule *rule;
    optim_hyper hyper;
} bench;

static void must(thaw_status status)
{
    if (status == THAW_OK)
        return;
    fprintf(stderr, "bench_resnet: %s\n", thaw_error());
    exit(1);
}

static void *must_have(void *p)
{
    if (p)
        return p;
    fprintf(stderr, "bench_resnet: out of memory\n");
    exit(1);
}

static int64_t number(int n, char **argument, int i, int64_t otherwise)
{
    return n > i ? strtoll(argument[i], NULL, 10) : otherwise;
}

static void make_model(bench *b)
{
    model_config config = MODEL_CONFIG_INIT;

    snprintf(config.arch, sizeof config.arch, "%s", b->arch);
    config.height = config.width = b->side;
    config.channels = 3;
    config.n_classes = 1000;
    must(model_create(&b->model, &config, DTYPE_F32));
    must(params_create(&b->params, DTYPE_F32));
    for (int i = 0; i < b->model->n_tensors; i++) {
        const model_tensor *const t = &b->model->tensor[i];

        must(params_add(b->params, t->name, &t->shape, t->dtype, t->buffer));
    }
    params_init_all_by_name(b->params);
}

/* Whether a layer trains in this measurement. */
static bool is_trained(const bench *b, const char *layer)
{
    const bool head = strncmp(layer, "fc", 2) == 0;

    if (strcmp(b->trained, "head") == 0)
        return head;
    return strcmp(b->trained, "last") != 0 || head || strncmp(layer, "layer4", 6) == 0;
}

static void make_effect(bench *b)
{
    const int n = b->model->n_params, n_modules = thaw_tree_n_modules(b->model->tree);
    bool *const trainable = must_have(thaw__new((size_t)n, sizeof *trainable));
    double *const scale = must_have(thaw__new((size_t)n, sizeof *scale));
    uint8_t *const mode = must_have(thaw__new((size_t)n_modules, sizeof *mode));

    for (int i = 0; i < n; i++) {
        trainable[i] = is_trained(b, b->model->tensor[i].name);
        scale[i] = 1;
    }
    for (int i = 0; i < n_modules; i++)
        mode[i] = is_trained(b, thaw_tree_module_path(b->model->tree, i))
                      ? THAW_MODE_NORM_TRAIN | THAW_MODE_DROPOUT
                      : 0;
    b->effect = (thaw_effect){.n_params = n,
                              .n_modules = n_modules,
                              .trainable = trainable,
                              .updated = trainable,
                              .lr_scale = scale,
                              .mode = mode};
    b->rule = optim_rule_find("sgd");
    b->hyper = (optim_hyper)OPTIM_HYPER_INIT;
    b->hyper.momentum = 0.9;
}

static void make_data(bench *b)
{
    const size_t n = (size_t)(b->batch * b->side * b->side * 3);
    uint64_t state = 1;

    b->image = must_have(thaw__new(n, sizeof *b->image));
    b->target = must_have(thaw__new((size_t)b->batch, sizeof *b->target));
    for (size_t i = 0; i < n; i++)
        b->image[i] = (float)(int32_t)(uint32_t)splitmix64(&state) / 2147483648.0f;
    for (int64_t i = 0; i < b->batch; i++)
        b->target[i] = (int32_t)(splitmix64(&state) % 1000);
}

static void make_session(bench *b, const exec_ops *ops)
{
    plan_request request = PLAN_REQUEST_INIT;
    size_t *const bytes = must_have(thaw__new((size_t)b->params->n, sizeof *bytes));
    optim_report report;
    double start;

    for (int i = 0; i < b->params->n; i++)
        bytes[i] = b->params->item[i].bytes;
    must(optim_migrate(&report, b->params, b->rule, &b->hyper, &b->effect, true));
    must(exec_open(&b->exec, ops, b->params, b->threads));
    request.model = b->model->graph;
    request.output = b->model->output;
    request.effect = &b->effect;
    request.training = true;
    request.loss_op = OP_CROSS_ENTROPY;
    request.loss_attrs.loss.ignore = -100;
    request.batch = b->batch;
    request.n_params = b->params->n;
    request.param_bytes = bytes;
    request.scratch = exec_scratch;
    request.scratch_user = b->exec;
    request.fold = request.fuse = !b->plain;
    start = os()->monotonic();
    must(plan_compile(&b->plan, &request));
    printf("compile %.0f ms", 1e3 * (os()->monotonic() - start));
    start = os()->monotonic();
    must(exec_wake(&b->session, b->exec, b->plan));
    printf(", wake %.0f ms, arena %.0f MiB\n", 1e3 * (os()->monotonic() - start),
           (double)b->plan->arena_bytes / 1048576);
    thaw__free(bytes);
}

static void update(bench *b)
{
    const double valid = *(const double *)exec_read(b->session, b->plan->results.valid);

    optim_step(b->params, b->rule, &b->hyper, &b->effect, 1e-3, 1, 1 / valid, b->threads);
}

/* Processor time of all threads: what counts on a machine that is shared. */
static double processor_seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static void run_rounds(bench *b)
{
    const void *const input[] = {b->image, b->target};
    const exec_run_args args = {.input = input};
    double best = INFINITY, all = 0;

    for (int i = 0; i <= b->rounds; i++) {
        const double start = os()->monotonic(), start_cpu = processor_seconds();
        double seconds, cpu;

        must(exec_run(b->session, &args));
        update(b);
        seconds = os()->monotonic() - start;
        cpu = processor_seconds() - start_cpu;
        printf("round %d: %.3f s, %.2f images/s, %.3f processor s, loss %.6f%s\n", i, seconds,
               (double)b->batch / seconds, cpu,
               *(const double *)exec_read(b->session, b->plan->results.loss) / (double)b->batch,
               i == 0 ? " (warm-up)" : "");
        fflush(stdout);
        if (i == 0)
            continue;
        all += seconds;
        best = THAW_MIN(best, seconds);
    }
    if (b->rounds > 0)
        printf("mean %.2f, best %.2f images/s\n", (double)(b->batch * b->rounds) / all,
               (double)b->batch / best);
}

/* One round as exec_run would do it, with a clock beside each step. Times are the processor's,
 * summed over threads. */
static void run_profile(bench *b)
{
    const void *const input[] = {b->image, b->target};
    const exec_run_args args = {.input = input};
    const bool each = getenv("THAW_BENCH_STEPS") != NULL;
    double seconds[OP_COUNT][4] = {{0}}, flops[OP_COUNT][4] = {{0}}, total = 0, start;
    static const char *const direction[] = {"forward", "backward src", "backward rest",
                                            "backward both"};

    b->session->args = &args;
    for (int i = 0; i < b->plan->n_once + b->plan->n_step; i++) {
        const plan_step *const step = &b->plan->step[i];
        const int d = step->wrt == 0 ? 0 : (int)(step->wrt & 1) + (step->wrt > 1 ? 2 : 0);
        double took;

        start = processor_seconds();
        must((b->session->own[i] ? b->exec->ops : &exec_ref)->run(b->session, i));
        took = processor_seconds() - start;
        seconds[step->op][d] += took;
        flops[step->op][d] += step->flops;
        total += took;
        if (each)
            printf("%8.2f ms %7.1f GF/s  %s %s wrt %u %s\n", 1e3 * took, 1e-9 * step->flops / took,
                   exec_step_executor(b->session, i), op_table[step->op].name, step->wrt,
                   step->name);
    }
    b->session->args = NULL;
    start = processor_seconds();
    update(b);
    printf("%8.1f ms  update\n", 1e3 * (processor_seconds() - start));
    for (int op = 0; op < OP_COUNT; op++)
        for (int d = 0; d < 4; d++)
            if (seconds[op][d] > 0)
                printf("%8.1f ms %5.1f%% %7.1f GF/s  %s %s\n", 1e3 * seconds[op][d],
                       100 * seconds[op][d] / total, 1e-9 * flops[op][d] / seconds[op][d],
                       op_table[op].name, direction[d]);
    printf("%8.1f ms  all steps\n", 1e3 * total);
}

static void bench_done(bench *b)
{
    exec_sleep(b->session);
    exec_close(b->exec);
    plan_destroy(b->plan);
    thaw__free((void *)(uintptr_t)b->effect.trainable);
    thaw__free((void *)(uintptr_t)b->effect.lr_scale);
    thaw__free((void *)(uintptr_t)b->effect.mode);
    thaw__free(b->image);
    thaw__free(b->target);
    params_destroy(b->params);
    model_destroy(b->model);
}

int main(int n, char **argument)
{
    bench b = {.arch = n > 1 ? argument[1] : "resnet50",
               .batch = number(n, argument, 2, 32),
               .side = number(n, argument, 3, 224),
               .threads = (int)number(n, argument, 4, 2),
               .rounds = (int)number(n, argument, 5, 5),
               .trained = n > 7 ? argument[7] : "all",
               .plain = n > 8 && strcmp(argument[8], "plain") == 0};
    const exec_ops *const ops = exec_find(n > 6 ? argument[6] : "dnn");
    char line[128];

    if (!ops || b.batch < 1 || b.side < 1 || b.threads < 1) {
        fprintf(stderr,
                "usage: bench_resnet [ARCH [BATCH [SIDE [THREADS [ROUNDS [EXECUTOR [TRAINED "
                "[PLAN]]]]]]]]\n");
        return 64;
    }
    exec_describe(line, ops);
    printf("%s, batch %lld, %lld x %lld, %d threads, %s, trained: %s\n", b.arch, (long long)b.batch,
           (long long)b.side, (long long)b.side, b.threads, line, b.trained);
    make_model(&b);
    make_effect(&b);
    make_data(&b);
    make_session(&b, ops);
    run_rounds(&b);
    run_profile(&b);
    printf("packed weights %.0f MiB\n", (double)exec_packed_bytes(b.exec) / 1048576);
    bench_done(&b);
    return 0;
}
