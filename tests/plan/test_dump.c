/*
 * test_dump.c - plans as text, as JSON that a JSON reader accepts, and compared.
 */
#include "check.h"

#include <jansson.h>

#include "plan/plans.h"

static const plan_update rows[] = {{"sgd", 4, 192}, {"sgd", 5, 16}};

static void setup_mlp(setup *s)
{
    net n = net_create(DTYPE_F32);
    const value_id output = net_mlp(&n);

    setup_init(s, n, output);
    setup_freeze_before(s, 4);
    s->request.update = rows;
    s->request.n_update = 2;
}

static void a_plan_is_a_line_a_step(void **state)
{
    static const char *const want = "training, batch 4, f32, 9 steps (7 forward, 2 backward)\n"
                                    "step\n"
                                    "    0  linear                                fc1              "
                                    "           [4, 16]            "
                                    "     256 B\n"
                                    "    1  relu                                  relu1            "
                                    "           [4, 16]            "
                                    "     256 B       in place\n"
                                    "    2  linear                                fc2              "
                                    "           [4, 12]            "
                                    "     192 B\n"
                                    "    3  relu                                  relu2            "
                                    "           [4, 12]            "
                                    "     192 B       in place\n"
                                    "    4  linear                                fc3              "
                                    "           [4, 4]             "
                                    "     64 B\n"
                                    "    5  argmax                                predicted        "
                                    "           [4]                "
                                    "     16 B\n"
                                    "    6  cross_entropy                         loss             "
                                    "           []                 "
                                    "     16 B\n"
                                    "    7  cross_entropy: d logits               loss             "
                                    "           [4, 4]             "
                                    "     64 B\n"
                                    "    8  linear: d weight, d bias              fc3              "
                                    "           [4, 12]            "
                                    "     208 B       gradient\n"
                                    "update\n"
                                    "    0  sgd                                   fc3.weight       "
                                    "                              "
                                    "     192 B\n"
                                    "    1  sgd                                   fc3.bias         "
                                    "                              "
                                    "     16 B\n"
                                    "memory\n"
                                    "  activations   512 B\n"
                                    "  inputs        144 B\n"
                                    "  parameters    1.56 KiB\n"
                                    "  gradients     208 B\n"
                                    "  optimizer     208 B\n"
                                    "  peak          2.61 KiB\n";
    text out = TEXT_INIT;
    setup s;
    plan *p;

    (void)state;
    setup_mlp(&s);
    p = setup_compile(&s);
    plan_dump(&out, p, NULL);
    CHECK_STR(out.data, want);
    text_done(&out);
    plan_destroy(p);
    setup_done(&s);
}

static json_int_t number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    CHECK_MSG(json_is_integer(value), "no number '%s'", key);
    return json_integer_value(value);
}

static void json_says_the_same(void **state)
{
    text out = TEXT_INIT;
    json_error_t error;
    const json_t *steps, *step;
    json_t *root;
    setup s;
    plan *p;

    (void)state;
    setup_mlp(&s);
    p = setup_compile(&s);
    plan_dump_json(&out, p, NULL);
    root = json_loads(out.data, JSON_REJECT_DUPLICATES, &error);
    CHECK_MSG(root != NULL, "%s at byte %d of %s", error.text, error.position, out.data);
    steps = json_object_get(root, "step");
    CHECK_INT(json_array_size(json_object_get(root, "once")), 0);
    CHECK_INT(json_array_size(steps), 9);
    CHECK_INT(json_array_size(json_object_get(root, "update")), 2);
    CHECK_INT(json_array_size(json_object_get(root, "slots")), p->n_slots);
    CHECK_INT(number(root, "forward"), 7);
    CHECK_INT(number(root, "backward"), 2);
    CHECK_INT(number(json_object_get(root, "memory"), "peak"), plan_peak_bytes(p));
    CHECK_INT(number(json_object_get(root, "results"), "loss"), p->results.loss);

    step = json_array_get(steps, 8);
    CHECK_STR(json_string_value(json_object_get(step, "op")), "linear");
    CHECK_STR(json_string_value(json_object_get(step, "direction")), "backward");
    CHECK_STR(json_string_value(json_object_get(step, "layer")), "fc3");
    CHECK_STR(json_string_value(json_array_get(json_object_get(step, "wrt"), 1)), "bias");
    CHECK_INT(number(step, "forward"), 4);
    CHECK_INT(number(step, "bytes"), 208);
    CHECK(json_is_true(json_object_get(json_array_get(steps, 1), "in_place")));
    CHECK(json_is_false(json_object_get(json_array_get(steps, 2), "in_place")));
    json_decref(root);
    text_done(&out);
    plan_destroy(p);
    setup_done(&s);
}

static void two_plans_are_compared(void **state)
{
    text out = TEXT_INIT;
    setup s;
    plan *head, *all;

    (void)state;
    setup_mlp(&s);
    head = setup_compile(&s);
    for (int i = 0; i < 6; i++)
        s.trainable[i] = true;
    all = setup_compile(&s);
    plan_compare(&out, head, all);
    CHECK_CONTAINS(out.data, "adds 6 steps (+0 forward, +6 backward), 4 more parameters train, +");
    text_done(&out);
    plan_compare(&out, all, head);
    CHECK_CONTAINS(out.data,
                   "drops 6 steps (+0 forward, -6 backward), 4 fewer parameters train, -");
    text_done(&out);
    plan_compare(&out, all, all);
    CHECK_STR(out.data, "changes nothing");
    text_done(&out);
    plan_destroy(all);
    plan_destroy(head);
    setup_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_is_a_line_a_step),
        cmocka_unit_test(json_says_the_same),
        cmocka_unit_test(two_plans_are_compared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
