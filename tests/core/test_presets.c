/* test_presets.c - presets expand into ordinary phases that do what they say. */
#include "trees.h"

static const char *const names[] = {"stem.conv.w",        "stem.bn.w",     "body.scale",
                                    "body.block1.w",      "body.block2.w", "body.block3.fc.w",
                                    "body.block3.norm.w", "head.w"};

static thaw_schedule *expand(const thaw_tree *t, const char *preset, thaw_preset_options o)
{
    thaw_schedule *s;

    CHECK_OK(thaw_schedule_create(&s, t));
    CHECK_OK(thaw_schedule_preset(s, preset, &o));
    CHECK_OK(thaw_schedule_seal(s));
    return s;
}

/* "1" and "0" of the parameters in order, in each phase. */
static void check_masks(thaw_schedule *s, const char *const *want, int n)
{
    CHECK_INT(thaw_schedule_n_phases(s), n);
    for (int i = 0; i < n; i++) {
        thaw_progress at = {0};
        const thaw_effect *e;
        char bits[32] = "";
        int64_t end;

        thaw_schedule_phase_span(&at.iteration, &end, s, &(thaw_progress){0}, i);
        CHECK_OK(thaw_schedule_effect(&e, s, &at));
        for (int p = 0; p < e->n_params; p++)
            bits[p] = e->trainable[p] ? '1' : '0';
        CHECK_STR(bits, want[i]);
    }
}

static void masks_of_each_preset(void **state)
{
    static const char *const probe[] = {"00000001", "11111111"};
    static const char *const gradual[] = {"00000001", "00000111", "00001111", "00011111",
                                          "11111111"};
    static const char *const freeze_out[] = {"11111111", "00111111", "00101111", "00100111",
                                             "00100001"};
    thaw_tree *t = tree_of(names, THAW_COUNT(names));
    thaw_schedule *s = expand(t, "linear-probe", (thaw_preset_options){.length = 10});
    int64_t begin, end;

    (void)state;
    check_masks(s, probe, 2);
    thaw_schedule_destroy(s);
    s = expand(t, "gradual", (thaw_preset_options){.length = 12});
    check_masks(s, gradual, 5);
    thaw_schedule_phase_span(&begin, &end, s, &(thaw_progress){0}, 4);
    CHECK_INT(end, 12);
    thaw_schedule_destroy(s);
    s = expand(t, "freeze-out", (thaw_preset_options){.length = 100});
    check_masks(s, freeze_out, 5);
    thaw_schedule_phase_span(&begin, &end, s, &(thaw_progress){0}, 1);
    CHECK_INT(begin, 50);
    CHECK_INT(end, 60);
    thaw_schedule_phase_span(&begin, &end, s, &(thaw_progress){0}, 4);
    CHECK_INT(end, 100);
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

/* C6b: no container takes an exponent, and the last layer gets exactly 1. */
static void rates_of_each_preset(void **state)
{
    static const double decay[] = {0.015625, 0.03125, 1, 0.0625, 0.125, 0.25, 0.5, 1};
    static const double blocks[] = {0.0625, 0.0625, 1, 0.125, 0.25, 0.5, 0.5, 1};
    thaw_tree *t = tree_of(names, THAW_COUNT(names));
    thaw_schedule *s = expand(t, "discriminative", (thaw_preset_options){.length = 1});
    const thaw_effect *e;

    (void)state;
    CHECK_OK(thaw_schedule_effect(&e, s, &(thaw_progress){0}));
    CHECK_CLOSE(e->lr_scale, blocks, 8, 1e-12, 0);
    thaw_schedule_destroy(s);
    s = expand(t, "layer-decay", (thaw_preset_options){.length = 1, .factor = 0.5});
    CHECK_OK(thaw_schedule_effect(&e, s, &(thaw_progress){0}));
    CHECK_NEAR(e->lr_scale[7], 1, 0, 0);
    CHECK_NEAR(e->lr_scale[6], 0.5, 1e-12, 0);
    CHECK_NEAR(e->lr_scale[0], decay[0] / 2, 1e-12, 0); /* "body" owns one too: seven steps */
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

static void draws_depend_on_the_seed_alone(void **state)
{
    thaw_tree *t = tree_of(names, THAW_COUNT(names));
    thaw_preset_options o = {.length = 40, .every = 2, .blocks = 1, .seed = 5};
    thaw_schedule *a = expand(t, "random-blocks", o), *b = expand(t, "random-blocks", o), *c;
    int differ = 0;

    (void)state;
    o.seed = 6;
    c = expand(t, "random-blocks", o);
    CHECK_INT(thaw_schedule_n_phases(a), 20);
    for (int64_t k = 0; k < 40; k += 2) {
        const thaw_progress at = {.iteration = k};
        const thaw_effect *x, *y, *z;
        int blocks;

        CHECK_OK(thaw_schedule_effect(&x, a, &at));
        CHECK_OK(thaw_schedule_effect(&y, b, &at));
        CHECK_OK(thaw_schedule_effect(&z, c, &at));
        CHECK_INT(x->digest, y->digest);
        differ += x->plan_digest != z->plan_digest;
        CHECK(x->trainable[0] && x->trainable[7]); /* stem and head always */
        blocks = x->trainable[3] + x->trainable[4] + x->trainable[5];
        CHECK_INT(blocks, 1);
        CHECK_INT(x->built_at, 0);
    }
    CHECK(differ > 3);
    thaw_schedule_destroy(c);
    thaw_schedule_destroy(b);
    thaw_schedule_destroy(a);
    thaw_tree_destroy(t);
}

static void every_preset_fits_any_tree(void **state)
{
    const char *name, *help;

    (void)state;
    for (uint64_t seed = 1; seed < 100; seed++) {
        uint64_t draw = seed;
        thaw_tree *t = random_tree(&draw, seed % 2);

        for (size_t i = 0; i < thaw_presets(&name, &help, i); i++) {
            const thaw_preset_options o = {.length = 7, .seed = seed};
            thaw_schedule *s;
            thaw_status status;

            CHECK_OK(thaw_schedule_create(&s, t));
            status = thaw_schedule_preset(s, name, &o);
            CHECK(status == THAW_OK || status == THAW_E_SUPPORT);
            if (status == THAW_OK)
                CHECK_OK(thaw_schedule_seal(s));
            thaw_schedule_destroy(s);
        }
        thaw_tree_destroy(t);
    }
}

static void bad_options(void **state)
{
    thaw_tree *t = tree_of(names, THAW_COUNT(names));
    thaw_schedule *s;
    thaw_preset_options o = {0};

    (void)state;
    CHECK_OK(thaw_schedule_create(&s, t));
    CHECK_ERROR(thaw_schedule_preset(s, "gradul", &o), THAW_E_NOMATCH, "'gradual'");
    CHECK_STATUS(thaw_schedule_preset(s, "gradual", &o), THAW_E_RANGE);
    o = (thaw_preset_options){.length = 1, .factor = 2};
    CHECK_STATUS(thaw_schedule_preset(s, "gradual", &o), THAW_E_RANGE);
    o = (thaw_preset_options){.length = 1, .start = NAN};
    CHECK_STATUS(thaw_schedule_preset(s, "freeze-out", &o), THAW_E_RANGE);
    o = (thaw_preset_options){.length = INT64_MAX, .every = 1};
    CHECK_STATUS(thaw_schedule_preset(s, "random-blocks", &o), THAW_E_RANGE);
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_of_each_preset),
        cmocka_unit_test(rates_of_each_preset),
        cmocka_unit_test(draws_depend_on_the_seed_alone),
        cmocka_unit_test(every_preset_fits_any_tree),
        cmocka_unit_test(bad_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
