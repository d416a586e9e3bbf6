/*
 * plan - compiles a graph for one phase, one batch size and one purpose into a list of steps over
 * one arena.
 *
 * Frozen work is not skipped at run time: it is not in the plan. A plan is immutable, has no
 * pointers into parameters or memory (it names slots by number), can be printed as text and JSON,
 * and knows its memory before anything runs.
 *
 * Knows nothing of executors (how much scratch a step needs comes in through a function) or of
 * optimizers (rows of the update section come in ready made).
 */
#ifndef THAW_PLAN_H
#define THAW_PLAN_H

#include "core/core.h"
#include "graph/graph.h"

/* Where a slot's bytes are. */
typedef enum slot_place {
    SLOT_ARENA, /* at `offset` of the arena while it lives */
    SLOT_PARAM, /* data of model tensor `index` */
    SLOT_GRAD,  /* gradient of model tensor `index` */
    SLOT_INPUT, /* input `index` of the run */
} slot_place;

typedef struct plan_slot {
    slot_place place;
    int index;
    dtype dtype;
    shape shape; /* bound */
    size_t bytes;
    size_t offset;   /* SLOT_ARENA: multiple of 64 */
    int first, last; /* steps between which it lives, for SLOT_ARENA; a result lives to the end */
    const char *name;
} plan_slot;

typedef enum plan_section { SECTION_ONCE, SECTION_STEP, SECTION_UPDATE } plan_section;

typedef struct plan_step {
    plan_section section;
    op_kind op;
    uint32_t wrt; /* as graph_node.wrt */
    int module;
    op_attrs attrs;
    const char *name;
    int n_in, n_out;
    const int *in, *out;                  /* slot numbers, -1 as NO_VALUE */
    size_t scratch_offset, scratch_bytes; /* in the arena, during this step only */
    double flops;
} plan_step;

/* A row of the update section, made by the optimizer. */
typedef struct plan_update {
    const char *rule; /* "adamw"; static storage */
    int param;
    size_t state_bytes;
} plan_update;

/* Values a caller may read after a run, by slot number; -1 when the plan has none. */
typedef struct plan_results {
    int loss, valid; /* f64 scalars: sum of the losses, number of valid targets */
    int output;      /* the network's output */
    int predicted;   /* i32: argmax of the output */
} plan_results;

typedef struct plan {
    thaw_region *region;
    uint64_t digest; /* of everything below */
    int64_t batch;
    bool training; /* has a backward part */
    dtype real;
    plan_slot *slot;
    int n_slots;
    plan_step *step; /* once, then step; n_once + n_step in all */
    int n_once, n_step;
    int n_forward; /* of n_step: the forward part */
    plan_update *update;
    int n_update;
    plan_results results;
    size_t arena_bytes; /* slots and scratch */
    size_t input_bytes;
    size_t param_bytes, grad_bytes, state_bytes; /* of the whole model; of what trains */
    int n_pruned_grads;                          /* parameters without a gradient here */
    int n_backward_pruned; /* forward nodes that have no backward step, of n_forward */
} plan;

/*
 * What to compile. The graph is the model's forward graph with inputs and parameters; `loss_op` is
 * added on top when it is not OP_COUNT.
 */
typedef struct plan_request {
    const graph *model;
    value_id output; /* the network's output in `model` */
    const thaw_effect
        *effect;     /* who trains and how norms and dropout run; NULL: nobody, inference */
    bool training;   /* false: evaluation, norms in inference mode, no dropout, no gradients */
    op_kind loss_op; /* OP_CROSS_ENTROPY, OP_MSE, or OP_COUNT for none */
    op_attrs loss_attrs;
    int64_t batch;
    int n_params;              /* model tensors, parameters and buffers */
    const size_t *param_bytes; /* [n_params] */
    const plan_update *update;
    int n_update;
    /* Scratch an executor wants for a step, in bytes; NULL: none. */
    size_t (*scratch)(const void *user, const plan *p, const plan_step *step);
    const void *scratch_user;
    bool inplace; /* let activations reuse their input's memory; default true */
} plan_request;
#define PLAN_REQUEST_INIT                                                                          \
    {                                                                                              \
        .loss_op = OP_COUNT, .inplace = true                                                       \
    }

/*
 * Compile. Inputs of the plan, by number: those of the model's graph, then the targets (int32 [B,
 * …] for cross entropy, real for mse) where there is a loss. The plan belongs to the caller. In
 * builds with assertions plan_verify runs after every pass.
 *
 * Errors: THAW_E_SHAPE when the shapes do not fit for this batch; THAW_E_NOMEM.
 */
thaw_status plan_compile(plan **out, const plan_request *request) THAW_MUST_USE;
void plan_destroy(plan *p);

/* Every input defined before use; no two live slots overlap; one gradient per trainable parameter,
 * none for a frozen one. */
thaw_status plan_verify(const plan *p, const thaw_effect *effect) THAW_MUST_USE;

/* Predicted peak of one run: arena, inputs, parameters, gradients, optimizer state. */
size_t plan_peak_bytes(const plan *p);

/* Steps, slots and memory as text, one line a step, or as JSON. */
void plan_dump(text *out, const plan *p);
void plan_dump_json(text *out, const plan *p);

/* "phase 2 adds 14 steps, +312 MiB": what changes from a to b, as text. */
void plan_compare(text *out, const plan *a, const plan *b);

#endif
