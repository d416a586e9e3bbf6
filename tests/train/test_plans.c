/*
 * test_plans.c - compiled plans: what the head alone leaves out and saves, that the predicted peak
 * is not exceeded, and which plans are kept.
 */
#include "train/small_runs.h"

static const thaw_effect *effect_at(job *j, int64_t iteration)
{
    const thaw_progress at = {.iteration = iteration};
    const thaw_effect *effect = NULL;

    CHECK_OK(thaw_schedule_effect(&effect, j->schedule, &at));
    return effect;
}

/* ----------------------------------------------------------------------------------------------
 * the head alone */

/* ResNet-50 at 224 x 224, batch 32, on data nobody reads: compiling alone. */
static job *open_resnet50(thaw_recipe **recipe, thaw_run_options *options, thaw_source *source,
                          small_samples *samples)
{
    job *j = NULL;

    *source = small_source(samples);
    source->height = source->width = 224;
    source->channels = 3;
    source->classes = 10;
    *options = (thaw_run_options){.threads = 1, .source = source};
    *recipe = small_recipe("[model]\narch = 'resnet50'\n[data]\nformat = 'callback'\nbatch = 32\n"
                           "[optimizer]\nname = 'adamw'\n"
                           "[[phase]]\nsteps = 1\n" SMALL_BACKBONE
                           "[[phase]]\nsteps = 1\nunfreeze = 'layer4'\n"
                           "[[phase]]\nsteps = 1\nunfreeze = ['conv1', 'bn1', 'layer.*']\n",
                           ".");
    CHECK_OK(job_open(&j, *recipe, options, NULL, JOB_DATA));
    return j;
}

/* Backward steps below a layer whose name begins so. */
static int count_backward(const plan *p, const char *layer)
{
    int n = 0;

    for (int i = p->n_once + p->n_forward; i < p->n_once + p->n_step; i++) {
        n += strncmp(p->step[i].name, layer, strlen(layer)) == 0;
        for (int k = 0; k < p->step[i].n_post; k++)
            n += strncmp(p->step[i].post[k].name, layer, strlen(layer)) == 0;
    }
    return n;
}

static void test_head_alone(void **state)
{
    static const char *const backbone[] = {"conv1",  "bn1",    "relu",   "maxpool", "layer1",
                                           "layer2", "layer3", "layer4", "avgpool"};
    small_samples samples = {.all_bad = false};
    thaw_run_options options;
    thaw_source source;
    thaw_recipe *recipe;
    plan *p[3];
    job *j = open_resnet50(&recipe, &options, &source, &samples);

    (void)state;
    for (int i = 0; i < 3; i++)
        CHECK_OK(plans_compile(&p[i], j, effect_at(j, i), 32, &recipe->hyper));
    for (size_t i = 0; i < THAW_COUNT(backbone); i++) {
        CHECK_MSG(count_backward(p[0], backbone[i]) == 0, "the head's plan goes back through '%s'",
                  backbone[i]);
        CHECK_INT(count_backward(p[1], backbone[i]) > 0, i >= 7);
        CHECK(count_backward(p[2], backbone[i]) > 0);
    }
    CHECK(count_backward(p[0], "fc") > 0);
    CHECK_INT(p[0]->n_update, 2);
    CHECK_INT(p[2]->n_update, 161);
    CHECK_MSG(3 * plan_peak_bytes(p[0]) < plan_peak_bytes(p[2]), "head %zu bytes, all %zu",
              plan_peak_bytes(p[0]), plan_peak_bytes(p[2]));
    CHECK(plan_peak_bytes(p[0]) < plan_peak_bytes(p[1]));
    CHECK(plan_peak_bytes(p[1]) < plan_peak_bytes(p[2]));
    for (int i = 0; i < 3; i++)
        plan_destroy(p[i]);
    job_close(j);
    thaw_recipe_destroy(recipe);
}

/* ----------------------------------------------------------------------------------------------
 * memory */

typedef struct memory_watch {
    small_run *run;
    size_t before; /* without parameters, gradients, state, arena */
    uint64_t planned;
} memory_watch;

/* What the allocator gave out at most in a step of each phase is what the plan said, and the little
 * that is no tensor. */
static bool watch_memory(void *user, const thaw_event *e)
{
    memory_watch *w = user;

    if (e->kind == THAW_EVENT_PHASE) {
        /* program, data and batches are in `before`, or not from this allocator */
        const budget *b = &w->run->job->budget[e->phase - 1];

        w->planned = e->planned_bytes - b->libraries - b->data - b->loading;
        thaw__mem_peak_reset();
    }
    if (e->kind == THAW_EVENT_STEP) {
        const size_t used = thaw__mem_peak() - w->before;

        CHECK_MSG(used <= w->planned + w->planned / 50 + (64 << 10),
                  "step %lld: %zu bytes used, %llu planned", (long long)e->iteration, used,
                  (unsigned long long)w->planned);
        thaw__mem_peak_reset();
    }
    return true;
}

static void watch_run(const char *folder, const char *train)
{
    memory_watch w = {0};
    text t = TEXT_INIT;
    small_run r;

    text_addf(&t,
              "[model]\narch = 'resnet18'\nwidths = [32, 32, 32, 32]\nblocks = [1, 1, 1, 1]\n"
              "stem = 'small'\n[data]\ntrain = 'train-images-idx3-ubyte'\nbatch = 18\nscale = 2\n"
              "prefetch = false\n[optimizer]\nname = 'adamw'\n[train]\n%s"
              "[checkpoint]\nevery = 'off'\n"
              "[[phase]]\nsteps = 2\n[[phase]]\nsteps = 2\n" SMALL_BACKBONE,
              train);
    small_open(&r, t.data, folder, NULL);
    w.run = &r;
    /* The plan counts parameters; the rest of what is there now it cannot know. */
    w.before = thaw__mem_current() - params_data_bytes(r.job->params);
    r.record.more = watch_memory;
    r.record.more_user = &w;
    CHECK_OK(trainer_run(r.trainer));
    small_close(&r);
    text_done(&t);
}

static void test_predicted_peak(void **state)
{
    watch_run(*state, "executor = 'ref'\n");
    watch_run(*state, "executor = 'ref'\nprecision = 'f64'\n");
}

/* ----------------------------------------------------------------------------------------------
 * what lies in the arena */

typedef struct arena_fill {
    small_run *run;
    int byte;
} arena_fill;

/* Before the first step, whatever memory may hold. */
static bool fill_arena(void *user, const thaw_event *e)
{
    const arena_fill *f = user;

    if (e->kind == THAW_EVENT_PHASE)
        memset(f->run->job->exec->arena, f->byte, f->run->job->exec->arena_bytes);
    return true;
}

static void one_step(small_run *r, const char *folder, const char *executor, const char *widths,
                     int byte)
{
    arena_fill f = {r, byte};
    text t = TEXT_INIT;

    text_addf(&t,
              "[model]\narch = 'resnet18'\nblocks = [1, 1, 1, 1]\nstem = 'small'\nwidths = "
              "%s\n" SMALL_DATA "scale = 2\n[optimizer]\nname = 'sgd'\n[train]\nexecutor = '%s'\n"
              "[[phase]]\nsteps = 1\n",
              widths, executor);
    small_open(r, t.data, folder, NULL);
    r->record.more = fill_arena;
    r->record.more_user = &f;
    CHECK_OK(trainer_run(r->trainer));
    text_done(&t);
}

/* Gradients of networks whose channels fill no vector, on whatever garbage: those of ref. A kernel
 * library that wrote past its scratch was found here. */
static void test_garbage_in_the_arena(void **state)
{
    static const char *const widths[] = {"[4, 4, 8, 8]", "[3, 64, 5, 64]", "[6, 12, 20, 24]",
                                         "[32, 16, 8, 4]"};
    static const int bytes[] = {0, 0xff, 0x3f}; /* 0, NaN, 0.75 */

    for (size_t w = 0; w < THAW_COUNT(widths); w++) {
        small_run want;

        one_step(&want, *state, "ref", widths[w], 0xff);
        for (size_t b = 0; b < THAW_COUNT(bytes); b++) {
            small_run got;

            one_step(&got, *state, "dnn", widths[w], bytes[b]);
            for (int i = 0; i < got.job->params->n_trained; i++) {
                const param *x = &got.job->params->item[i], *y = &want.job->params->item[i];
                const double size = sqrt(tensor_sum_squares(y->grad, DTYPE_F32, y->elements));

                CHECK_CLOSE((const float *)x->grad, (const float *)y->grad, x->elements, 1e-4,
                            1e-4 * (size + 1e-2));
            }
            small_close(&got);
        }
        small_close(&want);
    }
}

/* ----------------------------------------------------------------------------------------------
 * the cache */

static void test_cache(void **state)
{
    const plan_entry *a, *b;
    plans cache = {0};
    small_run r;

    small_open(&r,
               SMALL_RESNET SMALL_DATA "[train]\nexecutor = 'ref'\n"
                                       "[[phase]]\nsteps = 1\n[[phase]]\nsteps = 1\n"
                                       "lr = 0.5\n[[phase]]\nsteps = 1\nfreeze = 'layer1'\n",
               *state, NULL);
    const thaw_effect *first = effect_at(r.job, 0), *second = effect_at(r.job, 1),
                      *third = effect_at(r.job, 2);

    CHECK_OK(plans_get(&a, &cache, r.job, first, 4, &r.recipe->hyper));
    CHECK_OK(plans_get(&b, &cache, r.job, second, 4, &r.recipe->hyper));
    CHECK(a == b); /* rates are not in a plan */
    CHECK_INT(cache.n, 1);
    CHECK_OK(plans_get(&b, &cache, r.job, second, 2, &r.recipe->hyper));
    CHECK_OK(plans_get(&b, &cache, r.job, NULL, 4, NULL));
    CHECK(!b->training);
    CHECK_OK(plans_get(&b, &cache, r.job, third, 4, &r.recipe->hyper));
    CHECK_INT(cache.n, 4);
    plans_drop_training(&cache, third->plan_digest);
    CHECK_INT(cache.n, 2);
    for (int64_t n = 2; n < 2 + 2 * PLANS_MOST; n++) {
        CHECK_OK(plans_get(&b, &cache, r.job, NULL, n, NULL));
        CHECK_INT(b->batch, n);
        CHECK(cache.n <= PLANS_MOST);
        CHECK_OK(plans_get(&a, &cache, r.job, third, 4, &r.recipe->hyper)); /* stays: it is used */
        CHECK(a->training && a->batch == 4);
    }
    plans_done(&cache);
    CHECK_INT(cache.n, 0);
    small_close(&r);
}

/* Without room for it, nothing is left behind and the cache is as it was. */
static void test_out_of_memory(void **state)
{
    plans cache = {0};
    small_run r;
    size_t before;

    small_open(&r, SMALL_MLP SMALL_DATA "[train]\nexecutor = 'ref'\n[[phase]]\nsteps = 1\n", *state,
               NULL);
    const thaw_effect *effect = effect_at(r.job, 0);
    const plan_entry *e;

    CHECK_OK(plans_get(&e, &cache, r.job, effect, 4, &r.recipe->hyper)); /* the arena has grown */
    plans_done(&cache);
    before = thaw__mem_current();
    for (long n = 1, more = true; more; n++) {
        thaw_status status;

        check_alloc_fail(n, false);
        status = plans_get(&e, &cache, r.job, effect, 4, &r.recipe->hyper);
        more = check_alloc_restore();
        CHECK_MSG(status == (more ? THAW_E_NOMEM : THAW_OK), "allocation %ld: %s", n,
                  thaw_status_name(status));
        CHECK_INT(cache.n, !more);
        plans_done(&cache);
        CHECK_INT(thaw__mem_current(), before);
    }
    small_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head_alone),           cmocka_unit_test(test_predicted_peak),
        cmocka_unit_test(test_garbage_in_the_arena), cmocka_unit_test(test_cache),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, small_setup, small_teardown);
}
