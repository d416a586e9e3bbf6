/*
 * test_features.c - a run is the same with the cache of features and without, whatever is short,
 * damaged or stopped; and what was kept is never used for anything else.
 */
#include "train/small_runs.h"

#include "train/features.h"

#define HEAD     "[[phase]]\nepochs = 2\n" SMALL_BACKBONE
#define TOP      "[[phase]]\nepochs = 2\nunfreeze = 'layer4'\n"
#define GRADUAL  HEAD TOP "[[phase]]\nsteps = 3\nunfreeze = '.*'\n" HEAD
#define SGD      "[optimizer]\nname = 'sgd'\nlr = 0.05\nmomentum = 0.9\n"
#define DNN      "[train]\nexecutor = 'dnn'\n"
#define REF      "[train]\nexecutor = 'ref'\n"
#define TO_FILES "[cache]\nmemory = '0'\ndisk = '1MiB'\n"

/* ----------------------------------------------------------------------------------------------
 * with and without */

typedef struct tally {
    int64_t hits, misses, eval_hits, eval_misses;
} tally;

static bool count(void *user, const thaw_event *e)
{
    tally *t = user;

    if (e->kind == THAW_EVENT_STEP) {
        t->hits += e->cache_hits;
        t->misses += e->cache_misses;
    }
    if (e->kind == THAW_EVENT_EVAL) {
        t->eval_hits += e->cache_hits;
        t->eval_misses += e->cache_misses;
    }
    return true;
}

static void run_to_end(small_run *r, tally *t, const char *recipe, const char *cache,
                       const char *folder, small_samples *samples)
{
    text all = TEXT_INIT;

    text_addf(&all, "%s%s", recipe, cache);
    small_open(r, all.data, folder, samples);
    r->record.more = count;
    r->record.more_user = t;
    CHECK_OK(trainer_run(r->trainer));
    text_done(&all);
}

static void check_same_story(const small_record *a, const small_record *b)
{
    CHECK_INT(a->n_steps, b->n_steps);
    CHECK_INT(a->n_evals, b->n_evals);
    for (int i = 0; i < a->n_steps; i++) {
        CHECK_NEAR(a->step[i].loss, b->step[i].loss, 0, 0);
        CHECK_NEAR(a->step[i].grad_norm, b->step[i].grad_norm, 0, 0);
    }
    for (int i = 0; i < a->n_evals; i++) {
        CHECK_NEAR(a->eval[i].loss, b->eval[i].loss, 0, 0);
        CHECK_NEAR(a->eval[i].metric, b->eval[i].metric, 0, 0);
    }
}

/* The recipe without a cache and with this one; the tally of the second. */
static tally compare(const char *recipe, const char *cache, const char *folder,
                     small_samples *samples)
{
    tally with = {0}, without = {0};
    small_run a, b;

    run_to_end(&a, &without, recipe, "[cache]\nfeatures = 'off'\n", folder, samples);
    run_to_end(&b, &with, recipe, cache, folder, samples);
    check_same_story(&a.record, &b.record);
    small_same_tensors(&a, &b);
    CHECK_INT(without.hits + without.misses + without.eval_hits, 0);
    small_close(&a);
    small_close(&b);
    return with;
}

/* Each of so many samples was computed once, or was under way when a batch ahead asked for it. */
static void check_once(int64_t misses, int64_t samples, int phases)
{
    CHECK_MSG(misses >= samples && misses <= samples + 4 * phases,
              "%lld samples were computed, expected %lld and hardly more", (long long)misses,
              (long long)samples);
}

/* Bits are the same where the kernels give the same for any batch; the caller asks first. */
static bool kernels_allow(const char *folder)
{
    small_run r;
    bool allow;

    small_open(&r, SMALL_MLP SMALL_DATA DNN "[[phase]]\nsteps = 1\n", folder, NULL);
    allow = exec_any_batch(r.job->exec);
    small_close(&r);
    return allow;
}

static const char *const executors[] = {REF, REF "precision = 'f64'\n", REF "precision = 'bf16'\n",
                                        DNN, DNN "precision = 'bf16'\n"};

static void test_gradual(void **state)
{
    const size_t n = THAW_COUNT(executors) - (kernels_allow(*state) ? 0 : 2);

    for (size_t i = 0; i < n; i++) {
        text t = TEXT_INIT;
        tally got;

        text_addf(&t, SMALL_RESNET SMALL_DATA SGD "%s" GRADUAL, executors[i]);
        got = compare(t.data, "", *state, NULL);
        /* each of three phases computes its samples once, and reads them in its second epoch */
        check_once(got.misses, 3 * SMALL_TRAIN, 3);
        CHECK_INT(got.hits + got.misses, 6 * SMALL_TRAIN);
        CHECK_INT(got.eval_misses, 3 * SMALL_VALID);
        CHECK(got.eval_hits > 3 * SMALL_VALID);
        text_done(&t);
    }
}

/* Phases that share the frozen beginning share what was kept, whatever else they change. */
static void test_phases_share(void **state)
{
    const tally got = compare(SMALL_MLP SMALL_DATA REF
                              "[[phase]]\nepochs = 1\nfreeze = 'backbone.*'\n"
                              "[[phase]]\nepochs = 2\nlr = 0.01\nbatch = 5\n"
                              "[[phase]]\nepochs = 1\nlr_coefficients = { head = 2.0 }\n",
                              "", *state, NULL);

    check_once(got.misses, SMALL_TRAIN, 1);
    CHECK_INT(got.hits + got.misses, 4 * SMALL_TRAIN);
    CHECK_INT(got.eval_misses, SMALL_VALID);
}

static void test_other_ways_to_train(void **state)
{
    static const char *const recipes[] = {
        SMALL_MLP SMALL_DATA "shuffle = false\n" REF
                             "[[phase]]\nepochs = 3\nfreeze = 'backbone.*'\n",
        SMALL_MLP SMALL_DATA "wrap = true\n" REF "[[phase]]\nsteps = 14\nfreeze = 'backbone.*'\n",
        SMALL_MLP SMALL_DATA "prefetch = false\n" REF
                             "[[phase]]\nsteps = 14\nfreeze = 'backbone.*'\n",
        SMALL_MLP SMALL_DATA "[optimizer]\naccumulate = 3\n" REF
                             "[[phase]]\nepochs = 3\nfreeze = 'backbone.*'\n",
        SMALL_MLP SMALL_DATA "[loss]\nname = 'mse'\n" REF
                             "[[phase]]\nepochs = 3\nfreeze = 'backbone.*'\n",
        SMALL_RESNET "dropout = 0.5\n" SMALL_DATA REF HEAD TOP,
        SMALL_RESNET SMALL_DATA REF "frozen_norm = 'train'\n" HEAD,
        SMALL_RESNET SMALL_DATA REF
        "[[phase]]\nepochs = 4\nuntil = { patience = 1, restore = true }\n" SMALL_BACKBONE TOP,
    };

    for (size_t i = 0; i < THAW_COUNT(recipes); i++) {
        const tally got = compare(recipes[i], "", *state, NULL);

        CHECK_MSG(got.hits > 0, "recipe %zu: nothing was read back", i);
    }
}

static void test_a_callback_is_asked_once(void **state)
{
    small_samples samples = {.fail_after = 1000};
    tally got = {0};
    small_run r;

    (void)compare(SMALL_MLP SMALL_CALLBACK REF "[[phase]]\nepochs = 4\nfreeze = 'backbone.*'\n", "",
                  *state, &samples);
    samples.calls = 0;
    run_to_end(&r, &got,
               SMALL_MLP SMALL_CALLBACK REF "[[phase]]\nepochs = 4\nfreeze = 'backbone.*'\n", "",
               *state, &samples);
    check_once(got.misses, SMALL_TRAIN, 1);
    /* five batches of training, two of validation, and one that was made ahead of its time */
    CHECK_MSG(samples.calls <= 5 + 2 + 2, "%d calls", samples.calls);
    small_close(&r);
}

static void test_augmentation(void **state)
{
#define AUGMENTED                                                                                  \
    SMALL_MLP SMALL_DATA "shift = 1\nflip = true\n" REF                                            \
                         "[[phase]]\nepochs = 5\nfreeze = 'backbone.*'\n"
    tally got = compare(AUGMENTED, "", *state, NULL);
    small_run a, b;

    CHECK_INT(got.hits + got.misses, 0); /* of training; evaluation has no random images */
    CHECK_INT(got.eval_misses, SMALL_VALID);
    CHECK(got.eval_hits >= 5 * SMALL_VALID);

    run_to_end(&a, &(tally){0}, AUGMENTED, "[cache]\nviews = 2\nfeatures = 'off'\n", *state, NULL);
    got = (tally){0};
    run_to_end(&b, &got, AUGMENTED, "[cache]\nviews = 2\n", *state, NULL);
    check_same_story(&a.record, &b.record);
    small_same_tensors(&a, &b);
    check_once(got.misses, 2 * SMALL_TRAIN, 1);
    CHECK_INT(got.hits + got.misses, 5 * SMALL_TRAIN);
    small_close(&a);
    small_close(&b);
}

/* Too little room for all, in memory, in files, in both. */
static void test_short_of_room(void **state)
{
    static const char *const caches[] = {
        "[cache]\nmemory = '0'\n",
        "[cache]\nmemory = '200'\n",
        "[cache]\nmemory = '200'\ndisk = '1MiB'\nfolder = 'features'\n",
        "[cache]\nmemory = '0'\ndisk = '1MiB'\nfolder = 'features'\n",
        "[cache]\nmemory = '0'\ndisk = '1000'\nfolder = 'features'\n",
    };
    char path[512];

    for (size_t i = 0; i < THAW_COUNT(caches); i++) {
        const tally got =
            compare(SMALL_RESNET SMALL_DATA SGD REF HEAD TOP, caches[i], *state, NULL);

        CHECK_INT(got.hits + got.misses, 4 * SMALL_TRAIN);
        CHECK_INT(os_kind_of(small_path(path, *state, "features")), OS_ABSENT);
        if (i == 3)
            check_once(got.misses, 2 * SMALL_TRAIN, 2);
    }
}

/* A stage freezes a layer in the middle of a phase whose best weights, which come back at its end,
 * had it otherwise: then nothing kept since is right any more. */
static void test_weights_that_change_under_it(void **state)
{
    small_run r;
    int tensor;

    small_open(&r, SMALL_MLP SMALL_DATA REF "[[phase]]\nepochs = 2\nfreeze = 'backbone.*'\n",
               *state, NULL);
    r.record.stop_at = 6;
    CHECK_STATUS(trainer_run(r.trainer), THAW_E_STOPPED);
    CHECK(features_complete(r.trainer->features, r.job->train));
    CHECK(!features_stale(r.trainer->features));
    tensor = params_find(r.job->params, "backbone.fc1.weight");
    CHECK(tensor >= 0);
    ((float *)r.job->params->item[tensor].data)[0] += 1;
    params_touch(r.job->params, tensor);
    CHECK(features_stale(r.trainer->features));
    CHECK_OK(trainer_aim(r.trainer, r.trainer->effect));
    CHECK(!features_complete(r.trainer->features, r.job->train));
    small_close(&r);
}

/* ----------------------------------------------------------------------------------------------
 * what a digest covers */

#define KEPT                                                                                       \
    "[[phase]]\nepochs = 1\n" SMALL_BACKBONE                                                       \
    "[cache]\nmemory = '0'\ndisk = '1MiB'\nfolder = 'kept'\n"

/* Aim at the first phase; fill: one epoch of each view through it. Whether everything was there at
 * once. */
static bool was_there(small_run *r, bool fill)
{
    const thaw_effect *effect = NULL;
    const thaw_progress begin = {0};
    plans plans = {0};
    features *f = NULL;
    const batch *b;
    batch room;
    bool there;

    CHECK_OK(thaw_schedule_effect(&effect, r->job->schedule, &begin));
    CHECK_OK(features_create(&f, r->job));
    CHECK_OK(features_aim(f, effect, 8));
    there = features_complete(f, r->job->train);
    features_attach(f, r->trainer->loader, r->job->train);
    for (int64_t i = 0; fill && i < 5 * THAW_MAX(r->job->recipe->loader.views, 1); i++) {
        CHECK_OK(loader_next(&b, r->trainer->loader));
        CHECK_OK(features_batch(&room, f, &plans, r->trainer->loader, b, r->job->train));
    }
    loader_skip(r->trainer->loader, NULL, NULL);
    plans_done(&plans);
    features_destroy(f, true);
    return there;
}

static void flip_bit(small_run *r, const char *name)
{
    const int i = params_find(r->job->params, name);

    CHECK(i >= 0);
    ((unsigned char *)r->job->params->item[i].data)[0] ^= 1;
}

static void change_weight(small_run *r)
{
    flip_bit(r, "layer2.0.conv1.weight");
}

static void change_statistic(small_run *r)
{
    flip_bit(r, "bn1.running_var");
}

static void change_head(small_run *r)
{
    flip_bit(r, "fc.weight");
}

static void change_attribute(small_run *r)
{
    graph *g = r->job->model->graph;

    for (size_t k = 0; k < g->n_nodes; k++)
        if (g->node[k].op == OP_BATCH_NORM_TRAIN) {
            g->node[k].attrs.norm.eps *= 2;
            return;
        }
}

static void change_pixel(small_run *r)
{
    dataset *d = r->job->train;

    d->pixels[5] ^= 1;
    d->digest ^= 1; /* as reading a changed file gives it */
}

static void change_label(small_run *r)
{
    dataset *d = r->job->train;

    d->label[3] ^= 1;
    d->digest ^= 2; /* as reading a changed file gives it */
}

static void change_threads(small_run *r)
{
    r->job->threads = 2;
}

static void test_a_changed_ingredient_never_hits(void **state)
{
#define PLAIN SMALL_RESNET SMALL_DATA REF KEPT
#define OTHER_STD                                                                                  \
    SMALL_RESNET "[data]\ntrain = 'train-images-idx3-ubyte'\nvalid = 'valid-images-idx3-ubyte'\n"  \
                 "batch = 4\nmean = 0.3\nstd = 0.41\n"
#define MOVED(shift, views, seed)                                                                  \
    SMALL_RESNET SMALL_DATA "shift = " shift "\nseed = " seed "\n" REF KEPT "views = " views "\n"
#define FAST(more) SMALL_RESNET SMALL_DATA "[train]\n" more KEPT
    static const struct {
        const char *what, *recipe;
        void (*change)(small_run *r);
        bool hits;
        const char *base; /* NULL: PLAIN */
    } row[] = {
        {"run", MOVED("1", "2", "5"), NULL, true, MOVED("1", "2", "5")},
        {"shift", MOVED("2", "2", "5"), NULL, false, MOVED("1", "2", "5")},
        {"number of views", MOVED("1", "3", "5"), NULL, false, MOVED("1", "2", "5")},
        {"seed of views", MOVED("1", "2", "6"), NULL, false, MOVED("1", "2", "5")},
        {"mirror",
         SMALL_RESNET SMALL_DATA "shift = 1\nflip = true\nseed = 5\n" REF KEPT "views = 2\n", NULL,
         false, MOVED("1", "2", "5")},
        {"run", FAST(""), NULL, true, FAST("")},
        {"precision, bf16", FAST("precision = 'bf16'\n"), NULL, false, FAST("")},
        {"way of summing", FAST("sums = 'double'\n"), NULL, false, FAST("")},
        {"folding", FAST("") "[plan]\nfold = false\n", NULL, false, FAST("")},
        {"label", PLAIN, change_label, false, NULL},
        {"nothing", PLAIN, NULL, true, NULL},
        {"the head", PLAIN, change_head, true, NULL},
        {"a bit of a weight", PLAIN, change_weight, false, NULL},
        {"a bit of a statistic", PLAIN, change_statistic, false, NULL},
        {"an attribute", PLAIN, change_attribute, false, NULL},
        {"a pixel", PLAIN, change_pixel, false, NULL},
        {"threads", PLAIN, change_threads, false, NULL},
        {"normalisation", OTHER_STD REF KEPT, NULL, false, NULL},
        {"precision", SMALL_RESNET SMALL_DATA REF "precision = 'f64'\n" KEPT, NULL, false, NULL},
        {"the executor", SMALL_RESNET SMALL_DATA DNN KEPT, NULL, false, NULL},
        {"the subset", SMALL_RESNET SMALL_DATA "skip = 1\n" REF KEPT, NULL, false, NULL},
        {"the size", SMALL_RESNET SMALL_DATA "scale = 2\n" REF KEPT, NULL, false, NULL},
        {"views", SMALL_RESNET SMALL_DATA "shift = 1\n" REF KEPT "views = 1\n", NULL, false, NULL},
    };
    small_run r;

    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        small_open(&r, row[i].base ? row[i].base : PLAIN, *state, NULL);
        (void)was_there(&r, true);
        CHECK(was_there(&r, false));
        small_close(&r);
        small_open(&r, row[i].recipe, *state, NULL);
        if (row[i].change)
            row[i].change(&r);
        CHECK_MSG(was_there(&r, false) == row[i].hits, "with another %s it %s", row[i].what,
                  row[i].hits ? "should have been there" : "must not be there");
        small_close(&r);
    }
}

/* What a callback gives is known to one process alone. */
static void test_files_of_a_callback_are_not_taken_up(void **state)
{
    small_samples samples = {.all_bad = false};
    small_run r;

    small_open(&r, SMALL_RESNET SMALL_CALLBACK REF KEPT, *state, &samples);
    (void)was_there(&r, true);
    CHECK(!was_there(&r, false));
    small_close(&r);
}

/* ----------------------------------------------------------------------------------------------
 * stopped and taken up */

static const char resumed[] = SMALL_RESNET SMALL_DATA SGD REF TO_FILES HEAD TOP;

static thaw_status begin_run(const char *data, const char *run, small_record *record)
{
    thaw_recipe *recipe = small_recipe(resumed, data);
    const thaw_run_options o = {.run = run, .threads = 1, .on_event = small_listen, .user = record};
    const thaw_status status = thaw_train(recipe, &o);

    thaw_recipe_destroy(recipe);
    return status;
}

static thaw_status resume_run(const char *run, small_record *record)
{
    const thaw_run_options o = {.run = run, .threads = 1, .on_event = small_listen, .user = record};

    return thaw_resume(&o);
}

/* Every file below the folder of features loses a bit in its middle. */
static int damage_features(const char *run)
{
    char path[512], inner[512];
    os_names folders = {0}, files = {0};
    int n = 0;

    CHECK_OK(os_list(&folders, small_path(path, run, "features")));
    for (size_t i = 0; i < folders.n; i++) {
        small_path(inner, path, folders.name[i]);
        CHECK_OK(os_list(&files, inner));
        for (size_t k = 0; k < files.n; k++) {
            char file[512];
            size_t size;
            char *bytes = check_read_file(&size, small_path(file, inner, files.name[k]));

            bytes[size - 3] = (char)(bytes[size - 3] ^ 16);
            CHECK_OK(os_replace_file(inner, files.name[k], bytes, size));
            free(bytes);
            n++;
        }
        os_names_free(&files);
    }
    os_names_free(&folders);
    return n;
}

static void test_resume(void **state)
{
    char straight[512], run[512], path[512], name[32];
    char *folder = check_folder();

    small_path(straight, folder, "straight");
    CHECK_OK(begin_run(*state, straight, &(small_record){0}));
    CHECK_INT(os_kind_of(small_path(path, straight, "features")), OS_ABSENT);
    for (int stop = 2; stop < 20; stop += 3) {
        const bool damage = stop % 2 == 0;
        small_record first = {.stop_at = stop}, second = {0};

        (void)snprintf(name, sizeof name, "run%d", stop);
        small_path(run, folder, name);
        CHECK_STATUS(begin_run(*state, run, &first), THAW_E_STOPPED);
        CHECK_INT(os_kind_of(small_path(path, run, "features")), OS_FOLDER);
        if (damage)
            CHECK(damage_features(run) > 0);
        CHECK_OK(resume_run(run, &second));
        CHECK_INT(strstr(second.words, "damaged") != NULL, damage);
        small_same_files(straight, run, "checkpoints/latest/model.safetensors");
        CHECK_INT(os_kind_of(small_path(path, run, "features")), OS_ABSENT);
    }
    check_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_gradual, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_phases_share, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_other_ways_to_train, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_a_callback_is_asked_once, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_augmentation, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_short_of_room, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_weights_that_change_under_it, small_setup,
                                        small_teardown),
        cmocka_unit_test_setup_teardown(test_a_changed_ingredient_never_hits, small_setup,
                                        small_teardown),
        cmocka_unit_test_setup_teardown(test_files_of_a_callback_are_not_taken_up, small_setup,
                                        small_teardown),
        cmocka_unit_test_setup_teardown(test_resume, small_setup, small_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
