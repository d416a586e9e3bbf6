/* test_curve.c - values of the curves at their corners, warm-up, units. */
#include "optim/optim.h"

#include "check.h"

static curve_config curve(const char *name)
{
    return (curve_config){.rule = curve_find(name),
                          .step_size = 10,
                          .gamma = 0.5,
                          .least = 0.1,
                          .updates_per_epoch = 4};
}

static void corners(void **state)
{
    static const struct {
        const char *name;
        int64_t t;
        double want;
    } row[] = {
        {"constant", 0, 1},   {"constant", 1000, 1}, {"step", 0, 1},   {"step", 9, 1},
        {"step", 10, 0.5},    {"step", 25, 0.25},    {"cosine", 0, 1}, {"cosine", 50, 0.55},
        {"cosine", 100, 0.1}, {"cosine", 500, 0.1},  {"linear", 0, 1}, {"linear", 50, 0.55},
        {"linear", 100, 0.1}, {"linear", 101, 0.1},
    };

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        const curve_config c = curve(row[i].name);

        CHECK_NEAR(curve_at(&c, row[i].t, 100), row[i].want, 1e-12, 1e-12);
    }
}

static void warmup_rises_to_one_and_the_curve_follows(void **state)
{
    curve_config c = curve("linear");
    double before = 0;

    (void)state;
    c.warmup = 10;
    for (int64_t t = 0; t < 10; t++) {
        const double now = curve_at(&c, t, 110);

        CHECK(now > before && now < 1);
        before = now;
    }
    CHECK_NEAR(curve_at(&c, 10, 110), 1, 1e-12, 0);
    CHECK_NEAR(curve_at(&c, 60, 110), 0.55, 1e-12, 0);
    CHECK_NEAR(curve_at(&c, 110, 110), 0.1, 1e-12, 0);
}

/* The documented meaning of step_size: epochs, at whose ends the rate changes. */
static void epochs_are_whole(void **state)
{
    curve_config c = curve("step");

    (void)state;
    c.per_epoch = true;
    c.step_size = 2;
    CHECK_NEAR(curve_at(&c, 7, 100), 1, 0, 0);
    CHECK_NEAR(curve_at(&c, 8, 100), 0.5, 0, 0);
    CHECK_NEAR(curve_at(&c, 15, 100), 0.5, 0, 0);
    CHECK_NEAR(curve_at(&c, 16, 100), 0.25, 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(corners),
        cmocka_unit_test(warmup_rises_to_one_and_the_curve_follows),
        cmocka_unit_test(epochs_are_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
