/*
 * op_cases.h - random problems for every op, and one way to run them on any executor: what the
 * tests of kernels share.
 *
 * A case is an op with attributes, shapes and values, fixed by a seed. Running it makes a plan by
 * hand (the forward step, then a backward step per group of gradients, each given exactly what the
 * op table says it reads), and hands back everything it made as doubles. So two executors, two
 * precisions, or a kernel and finite differences can be compared with no word about the op.
 *
 * Values are floats even in f64: both precisions start from the same numbers. Where a function has
 * a kink or a tie (relu, max pooling), values keep a distance of 1e-3 or more from it.
 */
#ifndef THAW_TESTS_EXEC_OP_CASES_H
#define THAW_TESTS_EXEC_OP_CASES_H

#include "exec/exec.h"

typedef struct op_case {
    uint64_t seed;
    op_kind op;
    op_attrs attrs;
    int n_in;
    shape in_shape[OP_MAX_INPUTS], out_shape[OP_MAX_OUTPUTS]; /* rank -1: left out */
    dtype in_dtype[OP_MAX_INPUTS], out_dtype[OP_MAX_OUTPUTS]; /* of the f64 problem */
    size_t in_elements[OP_MAX_INPUTS], out_elements[OP_MAX_OUTPUTS];
    bool in_param[OP_MAX_INPUTS]; /* a model tensor, else an input of the plan */
    uint32_t wrt;                 /* every input that can have a gradient */
    double *real[OP_MAX_INPUTS];  /* values of real inputs */
    void *integer[OP_MAX_INPUTS]; /* of the others, as in_dtype */
    double *d_out; /* gradient of output 0; NULL: the loss, or an op without gradients */
} op_case;

typedef enum op_case_size {
    OP_CASE_SMALL, /* a few dozen elements: for finite differences */
    OP_CASE_LARGE, /* channels up to 40, images up to 17: past a vector's width */
} op_case_size;

/* Make the case of this seed; end with op_case_done. */
void op_case_make(op_case *c, op_kind op, uint64_t seed, op_case_size size);
void op_case_done(op_case *c);

/* "conv2d, seed 12: [2, 5, 5, 4] [8, 2, 3, 3] [8]"; for messages. Static, changes with each call.
 */
const char *op_case_text(const op_case *c);

/* How to run a case. */
typedef struct op_run {
    const exec_ops *ops;
    dtype real;
    int threads;
    uint32_t wrt;  /* gradients to make, a subset of c->wrt */
    int times;     /* micro-batches: each after the first adds to the gradients of model tensors */
    bool in_place; /* output 0 over input 0 */
    bool d_in_place; /* gradient of input 0 over that of output 0 */
    bool measured;   /* kernels are chosen by the clock */
    bool bf16;       /* activations and their gradients are, where op_case_takes_bf16 */
} op_run;
#define OP_RUN_INIT                                                                                \
    {                                                                                              \
        .ops = &exec_ref, .real = DTYPE_F64, .threads = 1, .wrt = UINT32_MAX, .times = 1           \
    }

/* Whether an op allows in_place, with the gradients that can still be made then; d_in_place. */
bool op_case_in_place(uint32_t *wrt, op_kind op);
bool op_case_d_in_place(op_kind op);

/* Whether activations of a case may be bf16. Round the values that then are: the rest of the case
 * stays as it is, and an f64 run of it is what bf16 should come close to. */
bool op_case_takes_bf16(const op_case *c);
void op_case_round(op_case *c);

/* What a run made, as doubles. NULL where there is nothing. */
typedef struct op_result {
    size_t n_out[OP_MAX_OUTPUTS], n_in[OP_MAX_INPUTS];
    double *out[OP_MAX_OUTPUTS];
    double *d_in[OP_MAX_INPUTS];
    double *after[OP_MAX_INPUTS]; /* model tensors that the op updates in place */
    const char *forward_executor; /* who ran it: "ref", "dnn" */
    const char *backward_executor[OP_MAX_INPUTS];
} op_result;

/* Run; end with op_result_done. Fails the test when anything goes wrong. */
void op_case_run(op_result *r, const op_case *c, const op_run *how);
void op_result_done(op_result *r);

/*
 * A case as a plan on an executor, awake, for tests that look inside: steps are the forward one
 * (at `forward`), then the backward ones. Memory of the plan is in the struct: do not move it.
 */
typedef struct op_plan {
    plan plan;
    exec *exec;
    params *params;
    exec_session *session;
    int forward;
    int out[OP_MAX_OUTPUTS], d_in[OP_MAX_INPUTS]; /* slots; -1: none */
    int tensor[OP_MAX_INPUTS];                    /* numbers in params; -1: an input of the plan */
    int backward[OP_MAX_INPUTS];                  /* step that makes the gradient; -1: none */
    void *input[OP_MAX_INPUTS + 2];               /* values of the plan's inputs */
    int n_inputs;
    plan_slot slot[OP_MAX_INPUTS * 2 + OP_MAX_OUTPUTS + 4];
    plan_step step[OP_MAX_INPUTS + 3];
    int number[256]; /* of slots: operands of the steps */
    int n_numbers;
} op_plan;

void op_plan_make(op_plan *p, const op_case *c, const op_run *how);
void op_plan_done(op_plan *p);

/* Fail unless both results agree: |got - want| <= atol + rtol * the largest |want| of the array.
 * Says which array of which case, and the worst element. */
void op_result_check(const op_case *c, const op_result *got, const op_result *want, double rtol,
                     double atol);

#endif
