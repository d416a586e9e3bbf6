/*
 * bench_layers - what a step of training a residual network could cost if it were nothing but its
 * convolutions, and what it costs: layer by layer, as a table.
 *
 *   bench_layers [ARCH [BATCH [SIDE [THREADS [ROUNDS [TRAINED]]]]]]
 *
 * Default: resnet50 32 224 2 3 all. TRAINED: all, last (the last stage and the head), kept (the
 * same, from kept features of what is frozen) or head; what is frozen is in inference mode.
 *
 * The limit of a layer is the fastest kernel's own time for it, the library's or one of our own:
 * forward, gradient of the input, gradient of the weight, each alone, channels last, its weight
 * packed. Ours is what the same layer takes inside a step, with all that is done in the same pass.
 * Both are measured in turns, and the medians of the rounds shown.
 */
#include "exec/choose.h"
#include "exec/exec.h"
#include "model/model.h"
#include "optim/optim.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROUNDS = 15, MOST_LAYERS = 256 };

/* One layer in one direction, by itself. */
typedef struct bare {
    dnn_problem problem;
    dense ready;
    void *weight; /* as the kernel wants it */
    double seconds[MOST_ROUNDS];
} bare;

typedef struct layer {
    int step; /* of the plan, forward */
    bare role[3];
    bool has[3];
} layer;

typedef struct bench {
    int64_t batch;
    int threads, rounds;
    model *model;
    params *params;
    thaw_effect effect;
    exec *exec;
    exec_session *session;
    plan *plan;
    const optim_rule *rule;
    optim_hyper hyper;
    float *image;
    int32_t *target;
    dnn_library *library;
    layer layer[MOST_LAYERS];
    int n_layers;
    void *src, *dst, *made, *gradient, *scratch; /* for layers by themselves */
    double *ours;                                /* [steps][MOST_ROUNDS] */
    double update[MOST_ROUNDS], last;
    int round;
} bench;

static void must(thaw_status status)
{
    if (status == THAW_OK)
        return;
    (void)fprintf(stderr, "bench_layers: %s\n", thaw_error());
    exit(1);
}

static void *must_have(void *p)
{
    if (p)
        return p;
    (void)fprintf(stderr, "bench_layers: out of memory\n");
    exit(1);
}

/* Numbers in [-0.05, 0.05). */
static void *make_numbers(size_t bytes, uint64_t state)
{
    const size_t n = bytes / sizeof(float) + 16;
    float *const x = must_have(thaw__alloc(n * sizeof *x));

    for (size_t i = 0; i < n; i++)
        x[i] = (float)(int32_t)(uint32_t)splitmix64(&state) / 42949672960.0f;
    return x;
}

/* ----------------------------------------------------------------------------------------------
 * the network */

static void make_network(bench *b, const char *arch, int64_t side)
{
    model_config config = MODEL_CONFIG_INIT;

    (void)snprintf(config.arch, sizeof config.arch, "%s", arch);
    config.height = config.width = side;
    config.channels = 3;
    config.n_classes = 1000;
    must(model_create(&b->model, &config, DTYPE_F32));
    must(params_create(&b->params, DTYPE_F32));
    for (int i = 0; i < b->model->n_tensors; i++) {
        const model_tensor *const t = &b->model->tensor[i];

        must(params_add(b->params, t->name, &t->shape, t->dtype, t->buffer));
    }
    params_init_all_by_name(b->params);
    b->image = make_numbers((size_t)(b->batch * side * side * 3) * sizeof(float), 1);
    b->target = must_have(thaw__new((size_t)b->batch, sizeof *b->target));
    for (int64_t i = 0; i < b->batch; i++)
        b->target[i] = (int32_t)(i * 37 % 1000);
}

static bool is_trained(const char *what, const char *layer)
{
    const bool head = strncmp(layer, "fc", 2) == 0;

    if (strcmp(what, "head") == 0)
        return head;
    return strcmp(what, "all") == 0 || head || strncmp(layer, "layer4", 6) == 0;
}

static void make_effect(bench *b, const char *what)
{
    const int n = b->model->n_params, n_modules = thaw_tree_n_modules(b->model->tree);
    bool *const trainable = must_have(thaw__new((size_t)n, sizeof *trainable));
    double *const scale = must_have(thaw__new((size_t)n, sizeof *scale));
    uint8_t *const mode = must_have(thaw__new((size_t)n_modules, sizeof *mode));
    optim_report report;

    for (int i = 0; i < n; i++) {
        trainable[i] = is_trained(what, b->model->tensor[i].name);
        scale[i] = 1;
    }
    for (int i = 0; i < n_modules; i++)
        mode[i] = is_trained(what, thaw_tree_module_path(b->model->tree, i))
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
    must(optim_migrate(&report, b->params, b->rule, &b->hyper, &b->effect, true));
}

/* From here on the network begins with the output of what is frozen, made of noise. */
static void keep_features(bench *b, plan_request *request)
{
    plan_cut cut;

    must(plan_find_cut(&cut, request));
    request->part = PLAN_SUFFIX;
    request->cut = cut.value;
    thaw__free(b->image);
    b->image = make_numbers((size_t)b->batch * cut.bytes, 1);
}

static void make_session(bench *b, bool kept)
{
    plan_request request = PLAN_REQUEST_INIT;

    must(exec_open(&b->exec, exec_find("dnn"), b->params, b->threads));
    request.model = b->model->graph;
    request.output = b->model->output;
    request.effect = &b->effect;
    request.training = true;
    request.loss_op = OP_CROSS_ENTROPY;
    request.loss_attrs.loss.ignore = -100;
    request.batch = b->batch;
    request.n_params = b->params->n;
    request.scratch = exec_scratch;
    request.scratch_user = b->exec;
    if (kept)
        keep_features(b, &request);
    must(plan_compile(&b->plan, &request));
    must(exec_wake(&b->session, b->exec, b->plan));
}

/* ----------------------------------------------------------------------------------------------
 * layers by themselves */

static bool is_dense(const plan_step *step)
{
    return step->op == OP_CONV2D || step->op == OP_LINEAR;
}

static dnn_problem problem_of(const plan *p, const plan_step *step, dnn_role role)
{
    const shape *const src = &p->slot[step->in[0]].shape, *const dst = &p->slot[step->out[0]].shape;
    const shape *const weight = &p->slot[step->in[1]].shape;
    dnn_problem k = {.role = role,
                     .batch = src->dim[0],
                     .channels = src->dim[src->rank - 1],
                     .kernels = weight->dim[0]};

    if (step->op == OP_LINEAR) {
        k.linear = DNN_LAYER;
        return k;
    }
    k.height = src->dim[1];
    k.width = src->dim[2];
    k.out_height = dst->dim[1];
    k.out_width = dst->dim[2];
    k.groups = step->attrs.conv.groups;
    for (int i = 0; i < 2; i++) {
        k.window[i] = weight->dim[2 + i];
        k.stride[i] = step->attrs.conv.stride[i];
        k.pad[i] = step->attrs.conv.pad[i];
        k.dilation[i] = step->attrs.conv.dilation[i];
    }
    return k;
}

static double run_bare(const bench *b, const bare *k)
{
    const double start = os()->monotonic();
    const dnn_operands o = {.src = b->src,
                            .d_dst = b->dst,
                            .weight = k->weight,
                            .dst = b->made,
                            .d_src = b->made,
                            .d_weight = b->gradient,
                            .scratch = b->scratch};

    must(dense_run(&k->ready, &o, b->threads));
    return os()->monotonic() - start;
}

/* All layers of the plan, and in which directions they run. */
static void find_layers(bench *b)
{
    const plan *const p = b->plan;

    for (int i = p->n_once; i < p->n_once + p->n_step; i++) {
        const plan_step *const step = &p->step[i];

        if (is_dense(step) && step->wrt == 0 && b->n_layers < MOST_LAYERS) {
            b->layer[b->n_layers].has[DNN_FORWARD] = true;
            b->layer[b->n_layers++].step = i;
        }
        for (int k = 0; k < b->n_layers && step->wrt != 0 && is_dense(step); k++)
            if (b->layer[k].step == step->forward) {
                b->layer[k].has[DNN_BACKWARD_DATA] |= (step->wrt & 1) != 0;
                b->layer[k].has[DNN_BACKWARD_WEIGHT] |= (step->wrt & 2) != 0;
            }
    }
}

/* Room that serves every layer. */
static void make_room(bench *b)
{
    size_t src = 0, dst = 0, weight = 0, scratch = 0;

    for (int i = 0; i < b->n_layers; i++) {
        const plan_step *const step = &b->plan->step[b->layer[i].step];

        src = THAW_MAX(src, b->plan->slot[step->in[0]].bytes);
        dst = THAW_MAX(dst, b->plan->slot[step->out[0]].bytes);
        weight = THAW_MAX(weight, b->params->item[b->plan->slot[step->in[1]].index].bytes);
        for (int role = 0; role < 3; role++)
            for (int way = 0; way < EXEC_WAYS; way++) {
                const dnn_problem p = problem_of(b->plan, step, (dnn_role)role);
                const dense d = choice_possible(&p, (exec_way)way)
                                    ? dense_find(b->library, &p, (exec_way)way)
                                    : (dense){0};

                scratch = THAW_MAX(scratch, d.ready ? dense_scratch(&d, b->threads) : 0);
            }
    }
    b->src = make_numbers(src, 2);
    b->dst = make_numbers(dst, 3);
    b->made = make_numbers(THAW_MAX(src, dst), 4);
    b->gradient = make_numbers(weight, 4);
    b->scratch = make_numbers(scratch, 5);
}

/* The fastest way: of two tries each, of one where that is far off. */
static void choose_way(bench *b, bare *k, const plan_step *step, dnn_role role)
{
    const size_t plain = b->params->item[b->plan->slot[step->in[1]].index].bytes;
    double best = INFINITY;

    k->problem = problem_of(b->plan, step, role);
    for (int way = 0; way < EXEC_WAYS; way++) {
        bare tried = *k;
        double took = INFINITY;

        if (!choice_possible(&k->problem, (exec_way)way))
            continue;
        tried.ready = dense_find(b->library, &k->problem, (exec_way)way);
        if (!tried.ready.ready)
            continue;
        tried.weight = make_numbers(THAW_MAX(plain, dense_packed_bytes(&tried.ready)), 6);
        for (int i = 0; i < 2 && (i == 0 || took < 1.5 * best); i++)
            took = fmin(took, run_bare(b, &tried));
        if (took < best) {
            thaw__free(k->weight);
            *k = tried;
            best = took;
        } else
            thaw__free(tried.weight);
    }
}

/* ----------------------------------------------------------------------------------------------
 * rounds */

static void note_step(void *user, const exec_session *s, int i)
{
    bench *const b = user;
    const double now = os()->monotonic();

    (void)s;
    b->ours[i * MOST_ROUNDS + b->round] = now - b->last;
    b->last = now;
}

static void run_step(bench *b)
{
    const void *const input[] = {b->image, b->target};
    const exec_run_args args = {.input = input, .watch = note_step, .watch_user = b};

    b->last = os()->monotonic();
    must(exec_run(b->session, &args));
    b->last = os()->monotonic();
    (void)optim_grad_norm(b->params, 1, b->threads);
    optim_step(b->params, b->rule, &b->hyper, &b->effect, 1e-3, 1, 1.0 / (double)b->batch,
               b->threads);
    b->update[b->round] = os()->monotonic() - b->last;
}

static void run_layers(bench *b)
{
    for (int i = 0; i < b->n_layers; i++)
        for (int role = 0; role < 3; role++)
            if (b->layer[i].has[role])
                b->layer[i].role[role].seconds[b->round] = run_bare(b, &b->layer[i].role[role]);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(const bench *b, const double *seconds)
{
    double sorted[MOST_ROUNDS];

    memcpy(sorted, seconds, sizeof sorted);
    qsort(sorted, (size_t)b->rounds, sizeof *sorted, by_value);
    return sorted[b->rounds / 2];
}

/* ----------------------------------------------------------------------------------------------
 * the table */

/* Forward and backward of a layer inside a step. */
static double ours_of(const bench *b, int forward)
{
    double sum = 0;

    for (int i = 0; i < b->plan->n_once + b->plan->n_step; i++)
        if (i == forward || (b->plan->step[i].wrt != 0 && b->plan->step[i].forward == forward &&
                             is_dense(&b->plan->step[i])))
            sum += median(b, &b->ours[i * MOST_ROUNDS]);
    return sum;
}

static void print_layer(double *limit, double *ours, const bench *b, const layer *l)
{
    const plan_step *const step = &b->plan->step[l->step];
    const dnn_problem *const p = &l->role[DNN_FORWARD].problem;
    double bare[3] = {0}, all = 0, mine = ours_of(b, l->step);
    const int roles = l->has[0] + l->has[1] + l->has[2];

    for (int role = 0; role < 3; role++)
        all += bare[role] = l->has[role] ? median(b, l->role[role].seconds) : 0;
    printf("| %s | ", step->name);
    if (p->linear)
        printf("%lld → %lld", (long long)p->channels, (long long)p->kernels);
    else
        printf("%lld × %lld² → %lld, %lld × %lld / %lld", (long long)p->channels,
               (long long)p->height, (long long)p->kernels, (long long)p->window[0],
               (long long)p->window[1], (long long)p->stride[0]);
    printf(" | %.1f | %.1f | %.1f | %.1f | %.1f | %.1f | %.0f%% |\n", 1e-9 * roles * step->flops,
           1e3 * bare[0], 1e3 * bare[1], 1e3 * bare[2], 1e3 * all, 1e3 * mine, 100 * all / mine);
    *limit += all;
    *ours += mine;
}

/* What is no layer with a large weight, by op. */
static void print_others(double *ours, const bench *b)
{
    for (int op = 0; op < OP_COUNT; op++) {
        double sum = 0;

        for (int i = 0; i < b->plan->n_once + b->plan->n_step; i++)
            if ((int)b->plan->step[i].op == op && !is_dense(&b->plan->step[i]))
                sum += median(b, &b->ours[i * MOST_ROUNDS]);
        if (sum > 0)
            printf("| all %s | | | | | | | %.1f | |\n", op_table[op].name, 1e3 * sum);
        *ours += sum;
    }
    printf("| norm of the gradient, update | | | | | | | %.1f | |\n", 1e3 * median(b, b->update));
    *ours += median(b, b->update);
}

static void print_table(const bench *b)
{
    double limit = 0, ours = 0;

    printf("| layer | shape, window / stride | GFLOP | forward | input's gradient | weight's | "
           "limit, ms | ours, ms | share |\n"
           "|-------|------------------------|-------|---------|------------------|----------|"
           "-----------|----------|-------|\n");
    for (int i = 0; i < b->n_layers; i++)
        print_layer(&limit, &ours, b, &b->layer[i]);
    printf("| **all layers** | | | | | | **%.1f** | **%.1f** | **%.0f%%** |\n", 1e3 * limit,
           1e3 * ours, 100 * limit / ours);
    print_others(&ours, b);
    printf("| **a step** | | | | | | **%.1f** | **%.1f** | **%.0f%%** |\n", 1e3 * limit, 1e3 * ours,
           100 * limit / ours);
    printf("\nlimit %.2f images/s, ours %.2f images/s: %.0f%%\n", (double)b->batch / limit,
           (double)b->batch / ours, 100 * limit / ours);
}

static void bench_done(bench *b)
{
    for (int i = 0; i < b->n_layers; i++)
        for (int role = 0; role < 3; role++)
            thaw__free(b->layer[i].role[role].weight);
    thaw__free(b->src);
    thaw__free(b->dst);
    thaw__free(b->made);
    thaw__free(b->gradient);
    thaw__free(b->scratch);
    thaw__free(b->ours);
    thaw__free(b->image);
    thaw__free(b->target);
    dnn_close(b->library);
    exec_sleep(b->session);
    exec_close(b->exec);
    plan_destroy(b->plan);
    thaw__free((void *)(uintptr_t)b->effect.trainable);
    thaw__free((void *)(uintptr_t)b->effect.lr_scale);
    thaw__free((void *)(uintptr_t)b->effect.mode);
    params_destroy(b->params);
    model_destroy(b->model);
}

static int64_t number(int n, char **argument, int i, int64_t otherwise)
{
    return n > i ? strtoll(argument[i], NULL, 10) : otherwise;
}

int main(int n, char **argument)
{
    static bench b; /* large */

    b.batch = number(n, argument, 2, 32);
    b.threads = (int)number(n, argument, 4, 2);
    b.rounds = (int)number(n, argument, 5, 3);
    if (b.batch < 1 || b.threads < 1 || b.rounds < 1 || b.rounds > MOST_ROUNDS) {
        (void)fprintf(stderr,
                      "usage: bench_layers [ARCH [BATCH [SIDE [THREADS [ROUNDS [TRAINED]]]]]]\n");
        return 64;
    }
    make_network(&b, n > 1 ? argument[1] : "resnet50", number(n, argument, 3, 224));
    make_effect(&b, n > 6 ? argument[6] : "all");
    make_session(&b, n > 6 && strcmp(argument[6], "kept") == 0);
    fast_set_threads(b.threads);
    must(dnn_open(&b.library));
    find_layers(&b);
    make_room(&b);
    for (int i = 0; i < b.n_layers; i++)
        for (int role = 0; role < 3; role++)
            if (b.layer[i].has[role])
                choose_way(&b, &b.layer[i].role[role], &b.plan->step[b.layer[i].step],
                           (dnn_role)role);
    b.ours = must_have(
        thaw__new((size_t)(b.plan->n_once + b.plan->n_step) * MOST_ROUNDS, sizeof *b.ours));
    run_step(&b); /* the first one finds its memory */
    for (b.round = 0; b.round < b.rounds; b.round++) {
        run_step(&b);
        run_layers(&b);
    }
    print_table(&b);
    bench_done(&b);
    return 0;
}
