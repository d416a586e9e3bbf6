/* test_phasetext.c - phases as recipe text, and names as patterns. */
#include "trees.h"

static void phases_are_printed(void **state)
{
    const char *const body[] = {"backbone\\.bn1", "backbone\\.conv1"}, *head = "head";
    const thaw_phase_options first = {.name = "it's", .unit = THAW_EPOCHS, .length = 2},
                             second = {.length = 30,
                                       .optimizer = THAW_OPTIMIZER_KEEP,
                                       .on_freeze = THAW_ON_FREEZE_PARK,
                                       .until_metric = "valid.loss",
                                       .until_patience = 3,
                                       .until_min_change = 0.5};
    thaw_tree *t = small_tree();
    thaw_schedule *s;
    char *printed;

    (void)state;
    CHECK_OK(thaw_schedule_create(&s, t));
    CHECK_OK(thaw_schedule_add_phase(s, &first));
    CHECK_OK(thaw_schedule_freeze(s, body, 2));
    CHECK_OK(thaw_schedule_coefficient(s, 0.1, body, 1));
    CHECK_OK(thaw_schedule_pin(s, &head, 1));
    CHECK_OK(thaw_schedule_unfreeze(s, body, 1));
    CHECK_OK(thaw_schedule_add_phase(s, &second));
    CHECK_OK(thaw_schedule_text(&printed, s));
    CHECK_STR(printed, "[[phase]]\n"
                       "name = \"it's\"\n"
                       "epochs = 2\n"
                       "freeze = ['backbone\\.bn1', 'backbone\\.conv1']\n"
                       "lr_coefficients = { 'backbone\\.bn1' = 0.1, 'head' = \"pin\" }\n"
                       "unfreeze = ['backbone\\.bn1']\n"
                       "\n"
                       "[[phase]]\n"
                       "name = 'phase 2'\n"
                       "steps = 30\n"
                       "optimizer = \"keep\"\n"
                       "on_freeze = \"park\"\n"
                       "until = { metric = 'valid.loss', patience = 3, min_change = 0.5 }\n");
    thaw_text_free(printed);
    thaw_schedule_destroy(s);
    thaw_tree_destroy(t);
}

/* An escaped name is a pattern that matches the name and nothing else. */
static void escaped_names_match_themselves(void **state)
{
    static const char *const name[] = {"a.b",  "bank.a+b", "proj[0]", "w(y)", "p|q",
                                       "$d^e", "x{2}",     "a\\b",    "q?*",  "caf\xc3\xa9"};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(name); i++) {
        char *escaped;
        name_pattern *p = NULL;

        CHECK_OK(thaw_pattern_escape(&escaped, name[i]));
        CHECK_OK(pattern_compile(&p, escaped));
        CHECK_STR(pattern_only_match(p), name[i]);
        pattern_destroy(p);
        thaw_text_free(escaped);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phases_are_printed),
        cmocka_unit_test(escaped_names_match_themselves),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
