/*
 * test_switches.c - every optimisation can be switched off by a key of the recipe, for comparison:
 * one at a time, and all at once. Where it is promised that not a bit changes none does, elsewhere
 * losses and weights differ by rounding; and 'thaw plan' says what is off.
 */
#include "train/recipe_reader.h"
#include "train/small_runs.h"

#define SGD    "[optimizer]\nname = 'sgd'\nlr = 0.02\nmomentum = 0.9\n"
#define PHASES "[[phase]]\nsteps = 3\n" SMALL_BACKBONE "[[phase]]\nsteps = 4\nunfreeze = '.*'\n"
#define VIT                                                                                        \
    "[model]\narch = 'vit'\npatch_size = 4\nhidden_size = 16\nintermediate_size = 32\n"            \
    "num_hidden_layers = 2\nnum_attention_heads = 2\n"

/* A recipe with all that can be on, but for one key; each row changes what it names. */
typedef struct settings {
    const char *train, *plan, *cache, *data;
} settings;

#define PLAN(fold, fuse, inplace, winograd, recompute, tune)                                       \
    "[plan]\nfold = " fold "\nfuse = " fuse "\ninplace = " inplace "\nwinograd = " winograd        \
    "\nrecompute = '" recompute "'\ntune = '" tune "'\n"
#define ALL_ON PLAN("true", "true", "true", "true", "always", "table")
#define CACHED "[cache]\nmemory = '16MiB'\n"

static const settings all_on = {"", ALL_ON, CACHED, ""};

static const struct {
    const char *key;
    bool same_bits;
    const char *said; /* by 'thaw plan'; NULL: it is no such key */
    settings with;
} row[] = {
    {"fold",
     false,
     "switched off: 'plan.fold'\n",
     {"", PLAN("false", "true", "true", "true", "always", "table"), CACHED, ""}},
    {"fuse",
     false,
     "switched off: 'plan.fuse'\n",
     {"", PLAN("true", "false", "true", "true", "always", "table"), CACHED, ""}},
    {"inplace",
     true,
     "switched off: 'plan.inplace'\n",
     {"", PLAN("true", "true", "false", "true", "always", "table"), CACHED, ""}},
    {"winograd",
     false,
     "switched off: 'plan.winograd'\n",
     {"", PLAN("true", "true", "true", "false", "always", "table"), CACHED, ""}},
    {"recompute",
     true,
     "switched off: 'plan.recompute'\n",
     {"", PLAN("true", "true", "true", "true", "never", "table"), CACHED, ""}},
    {"recompute",
     true,
     NULL,
     {"", PLAN("true", "true", "true", "true", "auto", "table"), CACHED, ""}},
    {"tune",
     false,
     "switched off: 'plan.tune'\n",
     {"", PLAN("true", "true", "true", "true", "always", "library"), CACHED, ""}},
    {"features",
     true,
     "switched off: 'cache.features'\n",
     {"", ALL_ON, "[cache]\nfeatures = 'off'\n", ""}},
    {"prefetch", true, NULL, {"", ALL_ON, CACHED, "prefetch = false\n"}},
    {"sums", false, NULL, {"[train]\nsums = 'double'\n", ALL_ON, CACHED, ""}},
    {"executor", false, NULL, {"[train]\nexecutor = 'ref'\n", ALL_ON, CACHED, ""}},
    {"everything",
     false,
     "switched off: 'plan.fold', 'plan.fuse', 'plan.inplace', 'plan.winograd', 'plan.recompute', "
     "'plan.tune', "
     "'cache.features'\n",
     {"[train]\nexecutor = 'ref'\n", PLAN("false", "false", "false", "false", "never", "library"),
      "[cache]\nfeatures = 'off'\n", "prefetch = false\n"}},
};

static void run(small_run *r, const char *network, const settings *s, const char *precision,
                const char *phases, const char *folder)
{
    text t = TEXT_INIT;

    text_addf(&t, "%s" SMALL_DATA "%s" SGD "%s%s%s%s%s", network, s->data,
              *precision && !*s->train ? "[train]\n" : s->train, precision, s->plan, s->cache,
              phases);
    small_open(r, t.data, folder, NULL);
    CHECK_OK(trainer_run(r->trainer));
    text_done(&t);
}

static void compare_bits(const char *what, const small_run *a, const small_run *b)
{
    CHECK_INT(a->record.n_steps, b->record.n_steps);
    for (int i = 0; i < a->record.n_steps; i++)
        CHECK_MSG(a->record.step[i].loss == b->record.step[i].loss &&
                      a->record.step[i].grad_norm == b->record.step[i].grad_norm,
                  "%s: step %d has the loss %.17g instead of %.17g", what, i + 1,
                  b->record.step[i].loss, a->record.step[i].loss);
    CHECK_INT(a->record.n_evals, b->record.n_evals);
    for (int i = 0; i < a->record.n_evals; i++)
        CHECK_MSG(a->record.eval[i].loss == b->record.eval[i].loss,
                  "%s: evaluation %d has the loss %.17g instead of %.17g", what, i + 1,
                  b->record.eval[i].loss, a->record.eval[i].loss);
    small_same_tensors(a, b);
}

static void compare_losses(const char *what, const small_run *a, const small_run *b)
{
    CHECK_INT(a->record.n_steps, b->record.n_steps);
    for (int i = 0; i < a->record.n_steps; i++)
        CHECK_MSG(fabs(a->record.step[i].loss - b->record.step[i].loss) <
                      2e-4 * fabs(a->record.step[i].loss),
                  "%s: step %d has the loss %.9g, not %.9g", what, i + 1, b->record.step[i].loss,
                  a->record.step[i].loss);
}

/* ----------------------------------------------------------------------------------------------
 * off, one by one */

static void check_said(const small_run *r, const char *said)
{
    text words = TEXT_INIT, json = TEXT_INIT;

    CHECK_OK(plan_view(&words, r->job, false, false));
    CHECK_CONTAINS(words.data, said);
    CHECK_OK(plan_view(&json, r->job, false, true));
    CHECK_CONTAINS(json.data, "\"off\": [\"");
    text_done(&json);
    text_done(&words);
}

static void test_each_off(void **state)
{
    small_run on, off;
    text words = TEXT_INIT;

    run(&on, SMALL_RESNET, &all_on, "", PHASES, *state);
    CHECK_OK(plan_view(&words, on.job, false, false));
    CHECK(!strstr(words.data, "switched off"));
    CHECK_CONTAINS(words.data, "norms folded");
    CHECK_CONTAINS(words.data, "activations fused");
    CHECK_CONTAINS(words.data, "made again instead of kept");
    CHECK_CONTAINS(words.data, "results lie where what they are made of did");
    CHECK_CONTAINS(words.data, "cache: prefix up to");
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        const bool cached = strcmp(row[i].key, "features") == 0;

        run(&off, SMALL_RESNET, &row[i].with, "", PHASES, *state);
        if (row[i].same_bits && (!cached || exec_any_batch(on.job->exec)))
            compare_bits(row[i].key, &on, &off);
        else
            compare_losses(row[i].key, &on, &off);
        if (row[i].said)
            check_said(&off, row[i].said);
        small_close(&off);
    }
    text_done(&words);
    small_close(&on);
}

/* In a network wide enough for it; which it is in, by what 'thaw plan' says of its kernels. */
static void test_winograd(void **state)
{
    static const char wide[] = "[model]\narch = 'resnet18'\nwidths = [64, 64, 4, 4]\n"
                               "blocks = [1, 1, 1, 1]\nstem = 'small'\n";
    static const settings without = {"", PLAN("true", "true", "true", "false", "always", "table"),
                                     CACHED, ""};
    small_run on, off;
    text words = TEXT_INIT;

    run(&on, wide, &all_on, "", PHASES, *state);
    run(&off, wide, &without, "", PHASES, *state);
    CHECK_OK(plan_view(&words, on.job, true, false));
    CHECK_CONTAINS(words.data, "winograd");
    text_done(&words);
    CHECK_OK(plan_view(&words, off.job, true, false));
    CHECK(!strstr(words.data, ": winograd"));
    compare_losses("winograd", &on, &off);
    CHECK(on.record.step[2].loss != off.record.step[2].loss);
    text_done(&words);
    small_close(&off);
    small_close(&on);
}

/* No key of the section is forgotten here. */
static void test_all_keys_are_here(void **state)
{
    size_t n;
    const recipe_key *key = recipe_keys(&n);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        bool known = strcmp(key[i].section, "plan") != 0;

        for (size_t k = 0; k < THAW_COUNT(row); k++)
            known = known || strcmp(row[k].key, key[i].name) == 0;
        CHECK_MSG(known, "'plan.%s' is switched off nowhere", key[i].name);
    }
}

/* ----------------------------------------------------------------------------------------------
 * the same bits */

/* Steps that make something again in the plan of the last phase. */
static int count_again(const small_run *r)
{
    const thaw_effect *effect = NULL;
    const thaw_progress end = {.iteration = 6};
    plan *p = NULL;
    int n;

    CHECK_OK(thaw_schedule_effect(&effect, r->job->schedule, &end));
    CHECK_OK(plans_compile(&p, r->job, effect, 4, &r->job->recipe->hyper));
    n = plan_count_again(p);
    plan_destroy(p);
    return n;
}

/* Kept or made again: whole runs are the same. */
static void test_recomputing(void **state)
{
    static const struct {
        const char *what, *network, *phases, *precision;
    } net[] = {
        {"resnet", SMALL_RESNET, PHASES, ""},
        {"vit", VIT, "[[phase]]\nsteps = 6\n", ""},
        {"resnet in bf16", SMALL_RESNET, PHASES, "precision = 'bf16'\n"},
        {"vit in bf16", VIT, "[[phase]]\nsteps = 6\n", "precision = 'bf16'\n"},
    };
    static const char *const how[] = {"never", "auto", "always"};

    for (size_t i = 0; i < THAW_COUNT(net); i++) {
        small_run r[3];

        for (int k = 0; k < 3; k++) {
            char plan[64];
            const settings s = {"", plan, "", ""};

            (void)snprintf(plan, sizeof plan, "[plan]\nrecompute = '%s'\n", how[k]);
            run(&r[k], net[i].network, &s, net[i].precision, net[i].phases, *state);
        }
        CHECK_INT(count_again(&r[0]), 0);
        CHECK_MSG(count_again(&r[2]) > 0, "%s: nothing is made again", net[i].what);
        compare_bits(net[i].what, &r[0], &r[1]);
        compare_bits(net[i].what, &r[0], &r[2]);
        for (int k = 0; k < 3; k++)
            small_close(&r[k]);
    }
}

static bool has_cast(const plan *p)
{
    for (int i = 0; i < p->n_slots; i++)
        if (p->slot[i].dtype == DTYPE_BF16)
            return true;
    for (int i = 0; i < p->n_once + p->n_step; i++)
        if (p->step[i].op == OP_CAST)
            return true;
    return false;
}

/* f32 by name, and nothing said: the same plan, without a conversion, and the same bits. */
static void test_precision(void **state)
{
    const settings s = {"", "", "", ""};
    uint64_t digest[2];
    small_run r[2];

    for (int k = 0; k < 2; k++) {
        const thaw_effect *effect = NULL;
        const thaw_progress end = {.iteration = 6};
        plan *p = NULL;

        run(&r[k], SMALL_RESNET, &s, k == 0 ? "precision = 'f32'\n" : "", PHASES, *state);
        CHECK_OK(thaw_schedule_effect(&effect, r[k].job->schedule, &end));
        CHECK_OK(plans_compile(&p, r[k].job, effect, 4, &r[k].job->recipe->hyper));
        CHECK(!has_cast(p));
        digest[k] = p->digest;
        plan_destroy(p);
    }
    CHECK_INT(digest[0], digest[1]);
    compare_bits("precision", &r[0], &r[1]);
    for (int k = 0; k < 2; k++)
        small_close(&r[k]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_off, small_setup, small_teardown),
        cmocka_unit_test(test_all_keys_are_here),
        cmocka_unit_test_setup_teardown(test_winograd, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_recomputing, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_precision, small_setup, small_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
