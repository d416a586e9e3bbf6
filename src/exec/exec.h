/*
 * exec - runs plans. Two executors: `ref`, plain loops in f32 and f64, the oracle for all others;
 * and `dnn`, on oneDNN and vectorised loops, f32. A step that dnn does not support runs on ref's
 * kernel, never fails.
 *
 * Knows nothing of models, optimizers or training.
 */
#ifndef THAW_EXEC_H
#define THAW_EXEC_H

#include "params/params.h"
#include "plan/plan.h"

typedef struct exec exec;                 /* an executor at work: threads, arena, packed weights */
typedef struct exec_session exec_session; /* one plan, awake */

/* How a dense layer is computed, where several ways give the same result. */
typedef enum exec_way {
    WAY_LIBRARY,  /* the library's kernel for such a layer */
    WAY_PRODUCT,  /* a product of matrices; of gathered pixels, where the window skips some */
    WAY_LOOPS,    /* loops of our own: the weight gradient of channels by themselves */
    WAY_WINOGRAD, /* by tiles, with fewer multiplications; rounds otherwise */
    EXEC_WAYS
} exec_way;

/* Sets of ways: a bit each. */
#define EXEC_ONLY(way) (1u << (way))
#define EXEC_ANY_WAY   (EXEC_ONLY(EXEC_WAYS) - 1)

/* One that was made. problem: a layer's shape and role as text; seconds: of each way as measured,
 * NAN where it was not. */
#define EXEC_CHOICE_TEXT 192
typedef struct exec_choice {
    char problem[EXEC_CHOICE_TEXT];
    int way;   /* of exec_way_name */
    int table; /* the way of the table for the batch that was measured */
    double seconds[EXEC_WAYS];
} exec_choice;

/* What plans need while awake, beside the arena. */
typedef struct exec_needs {
    size_t packed;  /* bytes of packed weights: exec_packed_bytes */
    size_t library; /* bytes of the kernel library itself, beyond those of its oldest version */
    int kernels;    /* of the kernel library, each of which has code of its own */
} exec_needs;

/* One executor. Members other than name, supports and run may be NULL: nothing to do, no bytes. */
typedef struct exec_ops {
    const char *name; /* "ref", "dnn" */
    /* Whether this executor has its own kernel for a step (else ref's is used), and the scratch
     * bytes it wants for it. Called between open and close (e's impl holds the kernels that were
     * made to answer, for wake to find). */
    bool (*supports)(const exec *e, const plan *p, const plan_step *step);
    size_t (*scratch)(const exec *e, const plan *p, const plan_step *step);
    /* exec_foresee. */
    thaw_status (*foresee)(exec_needs *out, const exec *e, const plan *const *p, int n);
    /* e->impl is the executor's own. open leaves nothing behind when it fails. */
    thaw_status (*open)(exec *e);
    void (*close)(exec *e);
    /* s->impl is the executor's own. sleep is called also when wake failed, and when it was never
     * reached (impl NULL). */
    thaw_status (*wake)(exec_session *s);
    void (*sleep)(exec_session *s);
    /* Run step i of the plan. THAW_OK, or an error of the kernel library. */
    thaw_status (*run)(exec_session *s, int i);
    /* Version of the kernel library and instruction set. */
    void (*describe)(char buffer[128]);
    /* exec_measure, exec_choose, exec_choice_at, exec_tell. NULL: there is nothing to choose. */
    thaw_status (*measure)(exec *e, const plan *p);
    thaw_status (*choose)(exec *e, const exec_choice *c, const char *name);
    bool (*choice_at)(exec_choice *out, const exec *e, int i);
    void (*tell)(text *out, const exec *e, const plan *p, const plan_step *step, bool json);
} exec_ops;

const exec_ops *exec_find(const char *name); /* NULL: no such executor */
const char *const *exec_names(size_t *n);

/* Open an executor on these parameters (borrowed, must outlive it). threads: 1 or more. */
thaw_status exec_open(exec **out, const exec_ops *ops, params *p, int threads) THAW_MUST_USE;
void exec_close(exec *e);

/*
 * Whether convolutions and matrix products are summed in double, whatever that costs; ref always
 * does. A product of two floats is exact in double, so such a sum is rounded once. To be said
 * before plans are compiled for this executor.
 */
void exec_set_sums(exec *e, bool in_double);

/* The ways in which dense layers may be computed, from the start any; another is taken only where
 * the library has no kernel. To be said before plans are compiled for this executor. */
void exec_set_ways(exec *e, unsigned ways);

/*
 * Choices. What a plan needs follows from them, so they are made before plans are compiled; without
 * any, a table of the shape alone decides.
 *
 * exec_measure    time all ways of each dense layer of a plan, and choose; what is chosen already
 *                 stays. Takes memory for one layer's operands at a time. THAW_E_NOMEM, THAW_E_OS
 * exec_choose     a choice made before; nothing where the executor has none. THAW_E_DATA, with
 * `name` in front, when there is no such problem, it cannot be computed so, or it is chosen already
 * exec_choice_at  the i-th, in the order in which they were made; false: there are no more
 * exec_by_table   while set, plans are compiled as if there were none
 */
thaw_status exec_measure(exec *e, const plan *p) THAW_MUST_USE;
thaw_status exec_choose(exec *e, const exec_choice *c, const char *name) THAW_MUST_USE;
bool exec_choice_at(exec_choice *out, const exec *e, int i);
void exec_by_table(exec *e, bool on);
const char *exec_way_name(int way); /* "library"; NULL: no such way */

/* How a step is computed where that is a choice, for people ("weight: product, measured") or as
 * members of a JSON object; nothing where it is none. For plan_dump. */
void exec_tell(const void *e, text *out, const plan *p, const plan_step *step, bool json);

/* For plan_request.scratch: user is the exec. */
size_t exec_scratch(const void *e, const plan *p, const plan_step *step);

/*
 * Make a plan ready: kernels are created, weights packed, the shared arena made as large as the
 * largest plan awake needs, and no larger.
 * The plan is borrowed and must outlive the session. Sessions of one executor share the arena: what
 * one run leaves there is gone after another's.
 *
 * Errors: THAW_E_NOMEM; THAW_E_MISMATCH when a tensor is not what the plan was compiled for;
 * THAW_E_SHAPE when a batch norm would see one value per channel. Sessions already awake go on
 * working, unless after THAW_E_NOMEM not even the old arena could be had again: then their runs
 * fail with THAW_E_NOMEM until a wake succeeds.
 */
thaw_status exec_wake(exec_session **out, exec *e, const plan *p) THAW_MUST_USE;
void exec_sleep(exec_session *s);

/* Called after step i of a run, for a look at what it read and made (exec_read). */
typedef void exec_watch_fn(void *user, const exec_session *s, int i);

typedef struct exec_run_args {
    const void *const *input; /* one pointer per plan input */
    bool accumulate; /* add to the gradients instead of replacing them: micro-batches after the
                        first */
    uint64_t
        seed; /* of the run: dropout masks are keyed by (seed, layer, epoch, sample, element) */
    int64_t epoch;
    exec_watch_fn *watch; /* NULL: nobody looks */
    void *watch_user;
} exec_run_args;

/* Run all steps. Allocates nothing. Running statistics are updated in place and their versions
 * raised. */
thaw_status exec_run(exec_session *s, const exec_run_args *args) THAW_MUST_USE;

/* Address of a slot's bytes: a result, valid until the next run of any session of this executor. */
const void *exec_read(const exec_session *s, int slot);

/* Which executor runs step i: "dnn" or "ref". */
const char *exec_step_executor(const exec_session *s, int i);
size_t exec_packed_bytes(
    const exec *e); /* memory of packed weights and kernel libraries' scratch outside the arena */

/* What an executor multiplies bf16 with on this machine; ref is BF16_NONE. */
bf16_unit exec_bf16(const exec_ops *ops);

/* What an executor has with these plans awake, beside the arena. */
thaw_status exec_foresee(exec_needs *out, const exec *e, const plan *const *p, int n) THAW_MUST_USE;

/* Whether what a forward step makes of a sample has the same bits whatever else is in the batch. */
bool exec_any_batch(const exec *e);
const char *exec_name(const exec *e); /* "dnn" */

/* Version of the kernel library and the instruction set in use, such as "oneDNN 2.6.3,
 * avx512_core_vnni". */
void exec_describe(char buffer[128], const exec_ops *ops);

/* ----------------------------------------------------------------------------------------------
 * Inside the layer: what an executor sees. Nobody outside src/exec/ reads these. */

extern const exec_ops exec_ref;
extern const exec_ops exec_dnn;

struct exec {
    const exec_ops *ops;
    params *params;
    int threads;
    unsigned ways; /* those allowed */
    bool double_sums, by_table;
    char *arena; /* moves when its size changes: keep no pointers into it */
    size_t arena_bytes;
    exec_session *awake; /* all of them, linked by next */
    size_t packed_bytes; /* kept up to date by ops: the answer of exec_packed_bytes */
    void *impl;          /* of ops */
};

struct exec_session {
    exec *exec;
    const plan *plan;
    exec_session *next;
    const exec_run_args *args; /* during a run */
    bool *own;                 /* per step: runs on exec->ops; else on ref */
    int *touched;              /* model tensors that the plan updates in place */
    int n_touched;
    void *impl; /* of ops */
};

/* Where a slot's bytes are now; NULL for slot -1. Good during a run; valid until the next wake. */
void *exec_step_pointer(const exec_session *s, int slot);

/* Scratch of step i, step->scratch_bytes of it; NULL when it has none. */
void *exec_step_scratch(const exec_session *s, int i);

/* Whether a slot's bytes must be added to instead of replaced in this run. */
bool exec_step_adds(const exec_session *s, int slot);

/* One operand of a step. All members are zero where it is left out. */
typedef struct exec_operand {
    void *data;
    const shape *shape;
    size_t elements;
    dtype dtype;
} exec_operand;

/*
 * A step with its operands by role, whatever their position in the step: `in` and `out` are those
 * of the forward op in both directions; a backward step reads d_out and makes d_in.
 */
typedef struct exec_call {
    const op_attrs *attrs;
    uint32_t wrt; /* 0: forward */
    uint64_t seed;
    int64_t epoch;
    exec_operand in[OP_MAX_INPUTS], out[OP_MAX_OUTPUTS];
    exec_operand d_in[OP_MAX_INPUTS], d_out[OP_MAX_OUTPUTS];
    void *scratch;
} exec_call;

/* Fill everything but the data pointers and scratch: for supports and scratch, before a session is
 * there. */
void exec_step_shapes(exec_call *c, const plan *p, const plan_step *step);

/* Fill a call for step i. Outside a run the data pointers of run inputs are NULL. */
void exec_step_call(exec_call *c, const exec_session *s, int i);

/*
 * Fill a call for post k of step i, without scratch. Its input at `chain` and its output (backward:
 * the gradients of the two) are operands without data: where the result so far is, is up to the
 * executor. The second one fills shapes alone.
 */
void exec_post_call(exec_call *c, const exec_session *s, int i, int k);
void exec_post_shapes(exec_call *c, const plan *p, const plan_step *step, int k);

/* Whether a step has a sum among its posts. */
bool exec_step_sums(const plan_step *step);

/*
 * A reference kernel: plain loops, sums in double. Forward: reads in, writes out. Backward: makes
 * d_in[i] where its data is not NULL. Where the op works element by element, an output may be the
 * same memory as the input of the same shape.
 */
typedef void ref_kernel_fn(const exec_call *c);
typedef struct ref_kernel {
    ref_kernel_fn *forward, *backward;
    /* Elements of double scratch, from the operands' shapes alone; NULL: none. */
    size_t (*scratch)(const exec_call *c);
} ref_kernel;

extern const ref_kernel ref_kernels_f32[OP_COUNT];
extern const ref_kernel ref_kernels_f64[OP_COUNT];

#endif
