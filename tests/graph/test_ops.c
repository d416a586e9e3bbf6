/*
 * test_ops.c - the op table: every row is complete and agrees with itself.
 */
#include "check.h"

#include "graph/graph.h"

static int count_words(const char *s)
{
    int n = 0;

    for (; *s; s++)
        n += *s != ' ' && (s[1] == ' ' || s[1] == '\0');
    return n;
}

static void rows_agree_with_themselves(void **state)
{
    (void)state;
    for (int op = 0; op < OP_COUNT; op++) {
        const op_info *info = &op_table[op];

        CHECK_MSG(info->name && info->inputs, "op %d has no row", op);
        CHECK_MSG(info->least_inputs >= 1 && info->least_inputs <= info->most_inputs &&
                      info->most_inputs < OP_MAX_INPUTS,
                  "%s: %d to %d inputs", info->name, info->least_inputs, info->most_inputs);
        CHECK_MSG(info->n_outputs >= 1 && info->n_outputs <= OP_MAX_OUTPUTS, "%s: %d outputs",
                  info->name, info->n_outputs);
        CHECK_MSG(count_words(info->inputs) == info->most_inputs, "%s: %d inputs, names '%s'",
                  info->name, info->most_inputs, info->inputs);
        CHECK_MSG(info->mutates < OP_IN(info->most_inputs), "%s mutates inputs it has not",
                  info->name);
    }
}

static void gradients_are_of_inputs_and_read_what_is_there(void **state)
{
    (void)state;
    for (int op = 0; op < OP_COUNT; op++) {
        const op_info *info = &op_table[op];

        for (int i = 0; i < OP_MAX_INPUTS; i++) {
            const op_grad *grad = &info->grad[i];

            CHECK_MSG(i < info->most_inputs || grad->kind == GRAD_NONE,
                      "%s: a gradient of input %d of %d", info->name, i, info->most_inputs);
            CHECK_MSG(grad->group >= 0 && grad->group < OP_MAX_INPUTS, "%s: group %d", info->name,
                      grad->group);
            CHECK_MSG((grad->reads & 0xFFFFu) < OP_IN(info->most_inputs) &&
                          (grad->reads >> 16) < OP_IN(info->n_outputs),
                      "%s: gradient of input %d reads 0x%x", info->name, i, grad->reads);
            CHECK_MSG(!(grad->kind != GRAD_NONE && (info->mutates & OP_IN(i))),
                      "%s: input %d is updated and has a gradient", info->name, i);
        }
    }
}

static void names_are_unique(void **state)
{
    (void)state;
    for (int i = 0; i < OP_COUNT; i++)
        for (int k = 0; k < i; k++)
            CHECK_MSG(strcmp(op_table[i].name, op_table[k].name) != 0, "two ops '%s'",
                      op_table[i].name);
}

static void inputs_have_names(void **state)
{
    char buffer[16];

    (void)state;
    CHECK_STR(op_input_name(buffer, OP_CONV2D, 0), "src");
    CHECK_STR(op_input_name(buffer, OP_CONV2D, 2), "bias");
    CHECK_STR(op_input_name(buffer, OP_BATCH_NORM_TRAIN, 5), "count");
    CHECK_STR(op_input_name(buffer, OP_RELU, 1), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_agree_with_themselves),
        cmocka_unit_test(gradients_are_of_inputs_and_read_what_is_there),
        cmocka_unit_test(names_are_unique),
        cmocka_unit_test(inputs_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
