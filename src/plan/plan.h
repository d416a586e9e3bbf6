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
    int first, last; /* SLOT_ARENA: the step that writes it and the last one that reads it; the
                        number of steps (one past the last) for a result */
    const char *name;
} plan_slot;

/*
 * Every slot is written by one step. In place: an output may have the memory of an input that lives
 * no longer than this step, at the same offset and of the same size, so a kernel of these must work
 * when the two pointers are equal:
 *
 *   forward    relu, relu6, dropout, batch_norm_train, batch_norm_infer: dst over src; add: dst
 *              over a or b; flatten: dst over src where the bytes keep their order (one pixel or
 *              one channel)
 *   backward   relu, relu6, dropout, batch_norm_train: d_src over d_dst; batch_norm_infer too where
 *              it makes d_src alone; flatten as in forward
 *
 * A flatten of an input of the run that keeps the order of bytes is no step: its output is one more
 * SLOT_INPUT slot with the same index.
 *
 * Posts: ops that a step does to its first output before anybody sees it, one after the other, as
 * in "conv2d+batch_norm_infer+add+relu". What lies between has no slot. A forward step with an add
 * among its posts may also have its output over the other operand of that add, unless that is what
 * it reads itself. In a backward step the posts' gradients come first, the last post's first of
 * all: it takes the gradient of what the posts made.
 *
 *   conv2d             batch_norm_infer, where nobody trains convolution or norm, so that a kernel
 *                      may fold the norm into the weight; then add; then, where no gradient passes
 *                      through, relu or relu6
 *   batch_norm_train, batch_norm_infer        add; then relu or relu6
 *   add                relu or relu6
 *   batch_norm_again   as batch_norm_train
 *   backward           conv2d: d src with batch_norm_infer; norms with relu or relu6
 *
 * The last post of a conv2d: d src may be an add, too: the sum with what another use of the input
 * sent back, over whose memory it may lie.
 */
/*
 * Recomputing. A step among the backward ones with `again` repeats a forward step that costs a pass
 * over memory: the same op (batch_norm_again for batch_norm_train), attributes, posts and inputs,
 * of which some may be repeated, too. Backward steps that come later read what it makes, to the
 * bit the first output of that step, whose memory is free in between.
 */
typedef enum plan_recompute {
    PLAN_RECOMPUTE_AUTO, /* where it saves a twentieth of the memory and takes a twentieth of the
                            work at most */
    PLAN_RECOMPUTE_NEVER,
    PLAN_RECOMPUTE_ALWAYS, /* all that lowers the peak */
} plan_recompute;

typedef enum plan_section { SECTION_ONCE, SECTION_STEP, SECTION_UPDATE } plan_section;

typedef struct plan_post {
    op_kind op;
    int chain; /* the input that is the result so far */
    int module;
    op_attrs attrs;
    const char *name;
    int n_in;
    const int *in; /* slots of its other inputs by place, -1 at `chain`; backward: of those that its
                      gradient reads, then its output or -1. Part of the step's list. */
} plan_post;
#define PLAN_MAX_POSTS 3

typedef struct plan_step {
    plan_section section;
    op_kind op;
    uint32_t wrt; /* as graph_node.wrt */
    int forward;  /* backward: number of its forward step; else -1 */
    int part;     /* backward: the forward step's post that it belongs to, from 1; 0: its own op */
    int again;    /* number of the forward step whose first output it makes once more; -1: none */
    int module;
    op_attrs attrs;
    const char *name;
    int n_in, n_out;
    const int *in, *out; /* slot numbers, -1 as NO_VALUE */
    int n_reads;         /* length of `in`: n_in, then what the posts read */
    int n_post;
    const plan_post *post;
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
    int n_backward_pruned; /* forward steps that no gradient passes through, of n_forward; ops that
                              can have one only */
} plan;

/*
 * A plan of part of the network. The prefix makes the value `cut` of its inputs, in inference, and
 * has no other result. The suffix is all the rest: its input 0 is that value.
 */
typedef enum plan_part { PLAN_WHOLE, PLAN_PREFIX, PLAN_SUFFIX } plan_part;

/* What the machine multiplies bf16 with: not at all; in several instructions (slower than f32);
 * AVX-512 BF16; AMX. Ordered. */
typedef enum bf16_unit { BF16_NONE, BF16_EMULATED, BF16_VECTOR, BF16_TILE } bf16_unit;

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
    const size_t *param_bytes; /* [n_params]; NULL: not known, counted as 0 */
    const plan_update *update;
    int n_update;
    /* Scratch an executor wants for a step, in bytes; NULL: none. */
    size_t (*scratch)(const void *user, const plan *p, const plan_step *step);
    const void *scratch_user;
    bool inplace; /* let activations reuse their input's memory; default true */
    plan_part part;
    value_id cut;   /* of `model`, unless PLAN_WHOLE */
    bool fold;      /* norms at rest become posts of the convolution before them; default true */
    bool fuse;      /* sums and activations become posts of the step before them; default true */
    bf16_unit bf16; /* compute in bf16 what this unit does faster, by the table in precision.c;
                       default BF16_NONE: nothing. Graphs in f64 stay so. */
    plan_recompute recompute;
} plan_request;
#define PLAN_REQUEST_INIT                                                                          \
    {                                                                                              \
        .loss_op = OP_COUNT, .inplace = true, .fold = true, .fuse = true                           \
    }

/*
 * Compile. Inputs of the plan, by number: those of the model's graph, then the targets (int32 [B,
 * …] for cross entropy, real for mse) where there is a loss. There is an argmax of the output
 * unless the loss is mse. A training plan with nobody trainable has the forward part alone. The
 * plan belongs to the caller. plan_verify has seen it.
 *
 * Errors: THAW_E_SHAPE when the shapes do not fit for this batch; THAW_E_MISMATCH when graph,
 * effect and request disagree about numbers of tensors or modules; THAW_E_SUPPORT when a trainable
 * parameter does not influence the loss; THAW_E_NOMEM.
 */
thaw_status plan_compile(plan **out, const plan_request *request) THAW_MUST_USE;
void plan_destroy(plan *p);

/*
 * The latest value that is all the rest of the network reads of a sample, and that is the same
 * whenever the same sample comes in: nothing that trains under the request's effect, no batch
 * statistics and no random mask lies before it. Of the request, model, output, effect and bf16
 * are read.
 */
#define PLAN_CUT_NAME 64
typedef struct plan_cut {
    value_id value; /* NO_VALUE: there is none with work before it that is worth its memory */
    size_t bytes;   /* of one sample */
    double share;   /* of the forward work that lies before it, in (0, 1] */
    bool products;  /* a linear layer before it computes in bf16: bits may depend on the batch */
    char name[PLAN_CUT_NAME]; /* the layer that ends there: "layer3" */
} plan_cut;
thaw_status plan_find_cut(plan_cut *out, const plan_request *request) THAW_MUST_USE;

/*
 * Check a plan against itself and the effect it was compiled for (NULL: nobody trains): arities and
 * shapes by the op table, every input defined before use and alive, no two live slots overlap but
 * in place, one gradient per trainable parameter and none for a frozen one, norms and dropout run
 * as the effect says. THAW_E_INTERNAL says what is wrong.
 */
thaw_status plan_verify(const plan *p, const thaw_effect *effect) THAW_MUST_USE;

/* Forward steps whose result is bf16, casts aside. */
int plan_count_bf16(const plan *p);

/* Steps that make something once more. */
int plan_count_again(const plan *p);

/* Steps whose first output lies where one of their inputs does. */
int plan_count_shared(const plan *p);

/* Steps whose posts have an op, such as norms folded; forward steps alone. */
int plan_count_posts(const plan *p, op_kind op);

/* Predicted peak of one run: arena, inputs, parameters, gradients, optimizer state. */
size_t plan_peak_bytes(const plan *p);

/* Somebody who knows more of a step: words for its line, or, as JSON, members that begin with a
 * comma. */
typedef struct plan_teller {
    void (*tell)(const void *user, text *out, const plan *p, const plan_step *step, bool json);
    const void *user;
} plan_teller;

/* Steps and memory as text, one line a step, or as one JSON object. more may be NULL. */
void plan_dump(text *out, const plan *p, const plan_teller *more);
void plan_dump_json(text *out, const plan *p, const plan_teller *more);

/* What changes from a to b, as one line without its end: "adds 14 steps (5 forward, 9 backward), 12
 * more parameters train, +312.0 MiB". */
void plan_compare(text *out, const plan *a, const plan *b);

/* ----------------------------------------------------------------------------------------------
 * for the files of this layer */

/* A plan in the making. The graph's region holds the lists. */
typedef struct plan_build {
    const plan_request *request;
    graph *g;                                /* the model's with shapes bound; passes change it */
    value_id output, loss, valid, predicted; /* NO_VALUE: the plan has none */
    bool *trainable;                         /* [request->n_params] wants a gradient */
    bool *live;                              /* [g->n_nodes] becomes a step, or part of one */
    int *head;    /* [g->n_nodes] the node whose step this one is part of; itself: its own step */
    int *next;    /* [g->n_nodes] its first or next post, -1: none */
    int *step_of; /* [g->n_nodes] its number, -1: none */
    int *slot_of; /* [g->n_values] slot number, -1 without one */
    int *host;    /* [plan->n_slots] slot whose memory it takes over in place, -1: has its own */
    plan *plan;
} plan_build;

/* Passes, in the order of the table in compile.c. */
thaw_status thaw__plan_precision(plan_build *b) THAW_MUST_USE; /* f32 or bf16: before a cut */
thaw_status thaw__plan_take_part(plan_build *b) THAW_MUST_USE; /* a cut: before all passes */
thaw_status thaw__plan_modes(plan_build *b) THAW_MUST_USE; /* norms and dropout as the phase asks */
thaw_status thaw__plan_prune(plan_build *b) THAW_MUST_USE; /* fills live */
thaw_status thaw__plan_fuse(plan_build *b) THAW_MUST_USE;  /* fills head and next */
thaw_status
thaw__plan_order(plan_build *b) THAW_MUST_USE; /* fills steps and slots, step_of, slot_of */
thaw_status thaw__plan_recompute(plan_build *b) THAW_MUST_USE; /* adds steps and slots */
thaw_status thaw__plan_inplace(plan_build *b) THAW_MUST_USE;   /* fills host */
thaw_status thaw__plan_memory(plan_build *b) THAW_MUST_USE;    /* fills offsets, arena_bytes */

/* Value v is an input of the run under another shape, so its node is no step; *index is the input.
 */
bool thaw__plan_view(int *index, const graph *g, value_id v);

/* The mode bit that an op needs to stay as it is, 0: none. */
uint8_t thaw__plan_mode_of(op_kind op);

/* Whether `post` may stand after `before`, the step's own op or an earlier post, as in the table of
 * posts above; of a step whose own op is `own`. */
bool thaw__plan_may_post(op_kind own, op_kind before, op_kind post, bool backward);

/* The op that makes the first output of a forward op once more, OP_COUNT: none; and slot i of what
 * it reads, in place of `forward`. */
op_kind thaw__plan_again_op(op_kind op);
int thaw__plan_again_input(const plan_step *forward, int i);

/* Whether output `out` of a step may take over the memory of its input `in`, life spans aside. */
bool thaw__plan_may_share(const plan *p, const plan_step *step, int in, int out);

/* The input whose memory output `out` of step number s has in place, -1: none. */
int thaw__plan_shared_input(const plan *p, int s, int out);

/* Blocks of memory that live from step first to step last, both included. */
typedef struct memory_block {
    size_t bytes;
    int first, last;
    size_t offset; /* result: multiple of 64 */
} memory_block;
#define MEMORY_ALIGN 64

/*
 * Give each block an offset so that no two that live at the same step overlap; *total is the memory
 * needed. THAW_E_SHAPE when the sum overflows, THAW_E_NOMEM.
 */
thaw_status thaw__memory_layout(size_t *total, memory_block *block, size_t n) THAW_MUST_USE;

/* Largest sum of the (rounded) sizes of the blocks that live at one step: no layout needs less. */
size_t thaw__memory_bound(const memory_block *block, size_t n);

#endif
