/*
 * test_bf16_runs.c - whole runs in bf16: as good as in f32, with masters that stay f32 and frozen
 * parts that stay as they are; what 'auto' chooses; what is said of it.
 */
#include "train/small_runs.h"

#define SGD     "[optimizer]\nname = 'sgd'\nlr = 0.05\nmomentum = 0.9\n"
#define PHASES  "[[phase]]\nsteps = 6\n" SMALL_BACKBONE "[[phase]]\nsteps = 6\nunfreeze = 'layer4'\n"
#define BF16    "[train]\nprecision = 'bf16'\n"
#define N_SEEDS 3

static void run(small_run *r, const char *recipe, const char *folder)
{
    small_open(r, recipe, folder, NULL);
    CHECK_OK(trainer_run(r->trainer));
}

/* Half of the numbers of a trained f32 tensor would not survive a rounding to bf16. */
static bool is_rounded(const param *p)
{
    for (size_t i = 0; i < p->elements; i++)
        if (((const uint32_t *)p->data)[i] & 0xFFFF)
            return false;
    return true;
}

static void test_masters_are_f32(void **state)
{
    static const char *const executors[] = {"", "executor = 'ref'\n"};

    for (size_t i = 0; i < THAW_COUNT(executors); i++) {
        text t = TEXT_INIT;
        small_run r;

        text_addf(&t, SMALL_RESNET SMALL_DATA SGD BF16 "%s[[phase]]\nsteps = 6\n", executors[i]);
        run(&r, t.data, *state);
        for (int k = 0; k < r.job->params->n; k++) {
            const param *const p = &r.job->params->item[k];

            if (p->dtype == DTYPE_I64)
                continue;
            CHECK_INT(p->dtype, DTYPE_F32);
            CHECK_MSG(!is_rounded(p), "'%s' has been rounded to bf16", p->name);
        }
        small_close(&r);
        text_done(&t);
    }
}

/* A phase change in bf16: what is frozen keeps its bytes, what thaws does not. */
static void test_phases(void **state)
{
    static const char recipe[] = SMALL_RESNET SMALL_DATA SGD BF16 PHASES;
    small_run before, after;

    small_open(&before, recipe, *state, NULL);
    run(&after, recipe, *state);
    for (int k = 0; k < after.job->params->n; k++) {
        const param *const a = &after.job->params->item[k], *const b = &before.job->params->item[k];
        const bool moves = strncmp(a->name, "layer4", 6) == 0 || strncmp(a->name, "fc", 2) == 0;

        CHECK_MSG((memcmp(a->data, b->data, a->bytes) != 0) == moves, "'%s' %s", a->name,
                  moves ? "did not move" : "moved");
    }
    CHECK_INT(after.record.n_steps, 12);
    small_close(&after);
    small_close(&before);
}

/* Mean loss of the last steps of a run, and of the validation. */
static double end_of_run(const char *precision, int seed, const char *folder)
{
    enum { LAST = 10 };
    text t = TEXT_INIT;
    small_run r;
    double sum = 0;

    text_addf(&t,
              "seed = %d\n" SMALL_RESNET SMALL_DATA
              "[optimizer]\nname = 'sgd'\nlr = 0.02\n[train]\nprecision = '%s'\n"
              "[[phase]]\nsteps = 60\n",
              seed, precision);
    run(&r, t.data, folder);
    for (int i = r.record.n_steps - LAST; i < r.record.n_steps; i++)
        sum += r.record.step[i].loss / LAST;
    small_close(&r);
    text_done(&t);
    return sum;
}

/* The difference is less than that between seeds. */
static void test_losses_are_within_noise(void **state)
{
    double f32[N_SEEDS], bf16[N_SEEDS], mean = 0, bias = 0, spread = 0;

    for (int i = 0; i < N_SEEDS; i++) {
        f32[i] = end_of_run("f32", i + 1, *state);
        bf16[i] = end_of_run("bf16", i + 1, *state);
        mean += f32[i] / N_SEEDS;
        bias += (bf16[i] - f32[i]) / N_SEEDS;
    }
    for (int i = 0; i < N_SEEDS; i++)
        spread = fmax(spread, fabs(f32[i] - mean));
    CHECK_MSG(fabs(bias) <= spread + 0.02, "losses %g %g %g in bf16, %g %g %g in f32", bf16[0],
              bf16[1], bf16[2], f32[0], f32[1], f32[2]);
}

/* The first loss is that of f32 but for rounding. */
static void test_first_loss(void **state)
{
    small_run a, b;

    run(&a, SMALL_RESNET SMALL_DATA SGD "[[phase]]\nsteps = 1\n", *state);
    run(&b, SMALL_RESNET SMALL_DATA SGD BF16 "[[phase]]\nsteps = 1\n", *state);
    CHECK_NEAR(b.record.step[0].loss, a.record.step[0].loss, 3e-2, 0);
    CHECK_NEAR(b.record.step[0].grad_norm, a.record.step[0].grad_norm, 0.1, 0);
    CHECK_MSG(b.record.step[0].loss != a.record.step[0].loss, "nothing was computed in bf16");
    small_close(&a);
    small_close(&b);
}

/* Only where the processor multiplies bf16; asked for by name it is done, and said what it costs.
 */
static void test_what_auto_chooses(void **state)
{
    const bool fast = exec_bf16(&exec_dnn) >= BF16_VECTOR;
    small_run r;

    run(&r, SMALL_RESNET SMALL_DATA "[train]\nprecision = 'auto'\n[[phase]]\nsteps = 1\n", *state);
    CHECK_INT(plans_bf16(r.recipe) != BF16_NONE, fast);
    CHECK_INT(strstr(r.record.words, "bf16: ") != NULL, fast);
    small_close(&r);

    run(&r,
        SMALL_RESNET SMALL_DATA "[train]\nprecision = 'auto'\nexecutor = 'ref'\n"
                                "[[phase]]\nsteps = 1\n",
        *state);
    CHECK_INT(plans_bf16(r.recipe), BF16_NONE);
    small_close(&r);

    run(&r, SMALL_RESNET SMALL_DATA BF16 "[[phase]]\nsteps = 1\n", *state);
    CHECK(plans_bf16(r.recipe) >= BF16_VECTOR);
    CHECK_CONTAINS(r.record.words, fast ? "bf16: with" : "slower than f32");
    small_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_masters_are_f32, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_phases, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_losses_are_within_noise, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_first_loss, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_what_auto_chooses, small_setup, small_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
