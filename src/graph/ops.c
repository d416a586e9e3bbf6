/*
 * ops.c - the op table, generated from ops.def.
 *
 * The idea: a fact about an op stands in its row only; this file turns rows into an array that can
 * be indexed. It knows no op by name.
 */
#include "graph/graph.h"

#include <string.h>

#define IN(i)  OP_IN(i)
#define OUT(j) OP_OUT(j)
#define G(input, grad_group, grad_reads)                                                           \
    [input] = {.kind = GRAD_NODE, .group = (grad_group), .reads = (grad_reads)},
#define SAME(input) [input] = {.kind = GRAD_SAME},

/* The last place of `grad` is no op's: it keeps the list from being empty. */
#define OP(id, op_name, input_names, least, most, outputs, mutated, grads)                         \
    [OP_##id] = {.name = (op_name),                                                                \
                 .inputs = (input_names),                                                          \
                 .least_inputs = (least),                                                          \
                 .most_inputs = (most),                                                            \
                 .n_outputs = (outputs),                                                           \
                 .mutates = (mutated),                                                             \
                 .grad = {[OP_MAX_INPUTS - 1] = {.kind = GRAD_NONE}, grads}},

const op_info op_table[OP_COUNT] = {
#include "graph/ops.def"
};

char *op_input_name(char *buffer, op_kind op, int input)
{
    const char *name = op_table[op].inputs;
    size_t n;

    for (int i = 0; i < input; i++) {
        name += strcspn(name, " ");
        name += strspn(name, " ");
    }
    n = THAW_MIN(strcspn(name, " "), (size_t)15);
    memcpy(buffer, name, n);
    buffer[n] = '\0';
    return buffer;
}
