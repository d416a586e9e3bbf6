/*
 * test_budget.c - memory predicted before a run: a batch that is too large is cut where that
 * changes nothing but rounding, and refused with the largest that fits where it would.
 */
#include "train/small_runs.h"

#define OPTIMIZER "[optimizer]\nname = 'adam'\nlr = 0.01\n"
#define MLP                                                                                        \
    SMALL_MLP "dropout = 0.2\n[data]\nformat = 'callback'\nbatch = 12\n" OPTIMIZER SMALL_REF_F64
#define RESNET                                                                                     \
    SMALL_RESNET                                                                                   \
    "[data]\nformat = 'callback'\nbatch = 12\n[plan]\nrecompute = 'never'\n" OPTIMIZER SMALL_REF_F64
#define PHASES "[[phase]]\nsteps = 3\nfreeze = 'backbone'\n[[phase]]\nepochs = 3\nunfreeze = '.*'\n"

static const thaw_run_options one_thread = {.threads = 1};

/* A job with this limit; 0: none. It saves nothing. */
static void open_limited(small_run *r, const char *head, const char *phases, size_t limit,
                         small_samples *samples)
{
    text t = TEXT_INIT;

    *r = (small_run){.options = one_thread, .source = small_source(samples)};
    r->options.source = &r->source;
    r->options.on_event = small_listen;
    r->options.user = &r->record;
    text_add(&t, head);
    if (limit > 0)
        text_addf(&t, "memory_limit = %zu\n", limit);
    text_add(&t, phases);
    r->recipe = small_recipe(t.data, ".");
    CHECK_OK(job_open(&r->job, r->recipe, &r->options, NULL, JOB_DATA | JOB_EXEC));
    r->job->saves = false;
    text_done(&t);
}

/* What a batch of so many takes in a phase. */
static size_t need_of(const char *head, const char *phases, int phase, int64_t batch)
{
    small_samples samples = {.all_bad = false};
    size_t bytes = 0;
    small_run r;

    open_limited(&r, head, phases, 0, &samples);
    CHECK_OK(budget_phase(&bytes, r.job, phase, batch));
    small_close(&r);
    return bytes;
}

/* ----------------------------------------------------------------------------------------------
 * cutting */

static void compare(const small_run *a, const small_run *b)
{
    CHECK_INT(a->record.n_steps, b->record.n_steps);
    for (int i = 0; i < a->record.n_steps; i++)
        CHECK_NEAR(a->record.step[i].loss, b->record.step[i].loss, 1e-12, 0);
    for (int i = 0; i < a->job->params->n; i++)
        CHECK_CLOSE((const double *)a->job->params->item[i].data,
                    (const double *)b->job->params->item[i].data, a->job->params->item[i].elements,
                    1e-9, 1e-12);
}

/* In every size that fits something: the same losses and weights to rounding. */
static void test_cut_batches_learn_the_same(void **state)
{
    small_samples samples = {.all_bad = false};
    small_run whole, cut;
    int seen = 0;

    (void)state;
    open_limited(&whole, MLP, PHASES, 0, &samples);
    CHECK_OK(trainer_create(&whole.trainer, whole.job));
    CHECK_OK(trainer_run(whole.trainer));
    CHECK_INT(job_pieces(whole.job, 1), 1);
    for (int64_t batch = 1; batch < 12; batch++) {
        open_limited(&cut, MLP, PHASES, need_of(MLP, PHASES, 1, batch), &samples);
        CHECK_OK(trainer_create(&cut.trainer, cut.job));
        CHECK(job_pieces(cut.job, 1) > 1);
        CHECK_INT(12 % job_pieces(cut.job, 1), 0);
        CHECK(job_micro_batch(cut.job, 1) <= batch);
        CHECK_OK(trainer_run(cut.trainer));
        CHECK_CONTAINS(cut.record.words, "results differ by rounding alone");
        CHECK_INT(cut.trainer->state.images, whole.trainer->state.images);
        compare(&cut, &whole);
        seen |= 1 << job_pieces(cut.job, 1);
        small_close(&cut);
    }
    CHECK_MSG(seen == (1 << 2 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 12), "pieces seen: %x", seen);
    small_close(&whole);
}

static void test_enough_is_left_alone(void **state)
{
    const size_t need = need_of(MLP, PHASES, 1, 12);
    small_samples samples = {.all_bad = false};
    text notes = TEXT_INIT;
    small_run r;

    (void)state;
    open_limited(&r, MLP, PHASES, need, &samples);
    CHECK_OK(budget_fit(&notes, r.job, true));
    CHECK_INT(job_pieces(r.job, 0), 1);
    CHECK_INT(job_pieces(r.job, 1), 1);
    CHECK_INT(notes.length, 0);
    small_close(&r);
    open_limited(&r, MLP, PHASES, need - 1, &samples);
    CHECK_OK(budget_fit(&notes, r.job, true));
    CHECK_INT(job_pieces(r.job, 1), 2);
    CHECK_CONTAINS(notes.data, "phase 'phase 2': a batch of 12 runs as 2 of 6, to stay within");
    text_done(&notes);
    small_close(&r);
}

/* ----------------------------------------------------------------------------------------------
 * refusing */

/* Batch norms that train see the batch: it is the caller's to choose. */
static void test_norms_are_not_cut(void **state)
{
    static const char phases[] = "[[phase]]\nsteps = 2\n";
    small_samples samples = {.all_bad = false};

    (void)state;
    for (int64_t batch = 2; batch < 12; batch += 3) {
        text notes = TEXT_INIT;
        char words[96];
        small_run r;

        (void)snprintf(words, sizeof words, "the largest batch that fits is %lld, which is for you",
                       (long long)batch);
        open_limited(&r, RESNET, phases, need_of(RESNET, phases, 0, batch), &samples);
        CHECK_ERROR(budget_fit(&notes, r.job, true), THAW_E_NOMEM, words);
        CHECK_CONTAINS(thaw_error(), "'train.memory_limit' allows ");
        CHECK_ERROR(trainer_create(&r.trainer, r.job), THAW_E_NOMEM, words);
        text_done(&notes);
        small_close(&r);
    }
}

/* ----------------------------------------------------------------------------------------------
 * making again */

#define CHEAP                                                                                      \
    "[model]\narch = 'resnet18'\nwidths = [4, 4, 8, 8]\nblocks = [1, 1, 1, 1]\nstem = "            \
    "'small'\n"                                                                                    \
    "[data]\nformat = 'callback'\nbatch = 18\n" OPTIMIZER "[plan]\nrecompute = '"
#define TRAIN "'\n[train]\n"

static size_t need_at(const char *recompute, int64_t batch)
{
    text t = TEXT_INIT;
    size_t bytes;

    text_addf(&t, "%s%s%s", CHEAP, recompute, TRAIN);
    bytes = need_of(t.data, "[[phase]]\nsteps = 3\n", 0, batch);
    text_done(&t);
    return bytes;
}

/* With less memory than what is kept takes, it is made again: no bit of a run is another. */
static void test_limit_makes_again(void **state)
{
    static const char phases[] = "[[phase]]\nsteps = 3\n";
    const size_t kept = need_at("auto", 18), again = need_at("always", 18);
    small_samples samples = {.all_bad = false};
    small_run free_of_it, limited;

    (void)state;
    CHECK_MSG(again < kept, "%zu bytes are not less than %zu", again, kept);
    open_limited(&free_of_it, CHEAP "auto" TRAIN, phases, 0, &samples);
    open_limited(&limited, CHEAP "auto" TRAIN, phases, again, &samples);
    CHECK_OK(trainer_create(&free_of_it.trainer, free_of_it.job));
    CHECK_OK(trainer_create(&limited.trainer, limited.job));
    CHECK_INT(job_recompute(free_of_it.job, 0), PLAN_RECOMPUTE_AUTO);
    CHECK_INT(job_recompute(limited.job, 0), PLAN_RECOMPUTE_ALWAYS);
    CHECK_INT(job_pieces(limited.job, 0), 1);
    CHECK(budget_sum(&limited.job->budget[0]) <= again);
    CHECK_OK(trainer_run(free_of_it.trainer));
    CHECK_OK(trainer_run(limited.trainer));
    CHECK_CONTAINS(limited.record.words, "cheap results are made again backward");
    for (int i = 0; i < limited.record.n_steps; i++)
        CHECK(limited.record.step[i].loss == free_of_it.record.step[i].loss);
    small_same_tensors(&limited, &free_of_it);
    small_close(&limited);
    small_close(&free_of_it);
}

/* What the refusal names as the largest that fits does fit, and one more does not. */
static void test_named_batch_fits(void **state)
{
    static const char phases[] = "[[phase]]\nsteps = 2\n";
    small_samples samples = {.all_bad = false};
    const size_t limit = need_at("always", 7) + 100;

    (void)state;
    for (int more = 0; more < 2; more++) {
        char recipe[1024];
        text notes = TEXT_INIT;
        const char *named;
        small_run r;
        int fits = 0;

        open_limited(&r, CHEAP "auto" TRAIN, phases, limit, &samples);
        CHECK_ERROR(budget_fit(&notes, r.job, false), THAW_E_NOMEM, "the largest batch that fits");
        named = strstr(thaw_error(), "that fits is ");
        CHECK(named && sscanf(named, "that fits is %d", &fits) == 1);
        CHECK_INT(fits, 7);
        small_close(&r);
        (void)snprintf(recipe, sizeof recipe,
                       "[model]\narch = 'resnet18'\nwidths = [4, 4, 8, 8]\n"
                       "blocks = [1, 1, 1, 1]\nstem = 'small'\n[data]\nformat = 'callback'\n"
                       "batch = %d\n" OPTIMIZER "[train]\n",
                       fits + more);
        open_limited(&r, recipe, phases, limit, &samples);
        CHECK_STATUS(budget_fit(&notes, r.job, false), more ? THAW_E_NOMEM : THAW_OK);
        if (!more)
            CHECK(budget_sum(&r.job->budget[0]) <= limit);
        text_done(&notes);
        small_close(&r);
    }
}

/* Data that are read take more than a small run does: that counts. */
static void test_opening_counts(void **state)
{
    small_samples samples = {.all_bad = false};
    budget b;
    small_run r;

    (void)state;
    open_limited(&r, MLP, PHASES, 0, &samples);
    CHECK_OK(budget_of(&b, r.job, 0, 12));
    CHECK_INT(b.opening, 0);
    r.job->train->opening = (size_t)3 << 30;
    CHECK_OK(budget_of(&b, r.job, 0, 12));
    CHECK_INT(budget_sum(&b), b.libraries + ((size_t)3 << 30));
    r.job->train->opening = SIZE_MAX;
    CHECK_OK(budget_of(&b, r.job, 0, 12));
    CHECK(budget_sum(&b) == SIZE_MAX);
    small_close(&r);
}

/* Frozen ones do not. */
static void test_resting_norms_are_cut(void **state)
{
    static const char phases[] = "[[phase]]\nsteps = 2\nfreeze = ['bn1', 'layer.*']\n";
    small_samples samples = {.all_bad = false};
    text notes = TEXT_INIT;
    small_run r;

    (void)state;
    open_limited(&r, RESNET, phases, need_of(RESNET, phases, 0, 6), &samples);
    CHECK_OK(budget_fit(&notes, r.job, true));
    CHECK_INT(job_pieces(r.job, 0), 2);
    text_done(&notes);
    small_close(&r);
}

static void test_too_little_for_one(void **state)
{
    small_samples samples = {.all_bad = false};
    text notes = TEXT_INIT;
    small_run r;

    (void)state;
    open_limited(&r, MLP, PHASES, need_of(MLP, PHASES, 0, 1) - 1, &samples);
    CHECK_ERROR(budget_fit(&notes, r.job, true), THAW_E_NOMEM, "too little for a batch of 1");
    text_done(&notes);
    small_close(&r);
}

/* A million pictures at once: known before anything is allocated. */
static void test_machine(void **state)
{
    small_samples samples = {.all_bad = false};
    text notes = TEXT_INIT;
    small_run r = {.options = one_thread, .source = small_source(&samples)};

    (void)state;
    r.source.n_train = 1 << 20;
    r.source.height = r.source.width = 224;
    r.options.source = &r.source;
    r.recipe = small_recipe(SMALL_RESNET "[data]\nformat = 'callback'\nbatch = 1048576\n"
                                         "[[phase]]\nsteps = 1\n",
                            ".");
    CHECK_OK(job_open(&r.job, r.recipe, &r.options, NULL, JOB_DATA | JOB_EXEC));
    CHECK_OK(budget_fit(&notes, r.job, false));
    CHECK_ERROR(budget_fit(&notes, r.job, true), THAW_E_NOMEM, "this machine allows ");
    text_done(&notes);
    small_close(&r);
}

/* Refused runs leave no folder behind. */
static void test_no_folder(void **state)
{
    thaw_recipe *recipe = small_recipe(SMALL_MLP SMALL_DATA OPTIMIZER
                                       "[train]\nmemory_limit = '1MiB'\n[[phase]]\nsteps = 1\n",
                                       *state);
    char run[512];
    const thaw_run_options options = {.run = small_path(run, *state, "refused"), .threads = 1};

    CHECK_STATUS(thaw_train(recipe, &options), THAW_E_NOMEM);
    CHECK_INT(os_kind_of(run), OS_ABSENT);
    thaw_recipe_destroy(recipe);
}

static void test_out_of_memory(void **state)
{
    small_samples samples = {.all_bad = false};
    small_run r;

    (void)state;
    open_limited(&r, MLP, PHASES, need_of(MLP, PHASES, 1, 5), &samples);
    for (int n = 1, more = 1; more; n++) {
        text notes = TEXT_INIT;
        thaw_status status;

        check_alloc_fail(n, false);
        status = budget_fit(&notes, r.job, false);
        more = check_alloc_restore();
        CHECK_MSG(status == (more ? THAW_E_NOMEM : THAW_OK) || (more && notes.failed),
                  "allocation %d: %s, '%s'", n, thaw_status_name(status), thaw_error());
        text_done(&notes);
    }
    small_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_batches_learn_the_same),
        cmocka_unit_test(test_enough_is_left_alone),
        cmocka_unit_test(test_norms_are_not_cut),
        cmocka_unit_test(test_resting_norms_are_cut),
        cmocka_unit_test(test_too_little_for_one),
        cmocka_unit_test(test_limit_makes_again),
        cmocka_unit_test(test_named_batch_fits),
        cmocka_unit_test(test_opening_counts),
        cmocka_unit_test(test_machine),
        cmocka_unit_test_setup_teardown(test_no_folder, small_setup, small_teardown),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
