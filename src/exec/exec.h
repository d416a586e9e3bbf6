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

typedef struct exec_ops {
    const char *name; /* "ref", "dnn" */
    /* Whether this executor has its own kernel for a step (else ref's is used), and the scratch
     * bytes it wants for it. */
    bool (*supports)(const plan *p, const plan_step *step);
    size_t (*scratch)(const plan *p, const plan_step *step, int threads);
    thaw_status (*open)(exec *e);
    void (*close)(exec *e);
    thaw_status (*wake)(exec_session *s);
    void (*sleep)(exec_session *s);
    /* Run step i of the plan. THAW_OK, or an error of the kernel library. */
    thaw_status (*run)(exec_session *s, int i);
} exec_ops;

const exec_ops *exec_find(const char *name); /* NULL: no such executor */
const char *const *exec_names(size_t *n);

/* Open an executor on these parameters (borrowed, must outlive it). threads: 1 or more. */
thaw_status exec_open(exec **out, const exec_ops *ops, params *p, int threads) THAW_MUST_USE;
void exec_close(exec *e);

/* For plan_request.scratch: user is the exec. */
size_t exec_scratch(const void *e, const plan *p, const plan_step *step);

/*
 * Make a plan ready: kernels are created, weights packed, the shared arena grown to what it needs.
 * The plan is borrowed and must outlive the session. Sessions of one executor share the arena: what
 * one run leaves there is gone after another's.
 */
thaw_status exec_wake(exec_session **out, exec *e, const plan *p) THAW_MUST_USE;
void exec_sleep(exec_session *s);

typedef struct exec_run_args {
    const void *const *input; /* one pointer per plan input */
    bool accumulate; /* add to the gradients instead of replacing them: micro-batches after the
                        first */
    uint64_t
        seed; /* of the run: dropout masks are keyed by (seed, layer, epoch, sample, element) */
    int64_t epoch;
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

/* Version of the kernel library and the instruction set in use, such as "oneDNN 2.6.3,
 * avx512_core_vnni". */
void exec_describe(char buffer[128], const exec_ops *ops);

#endif
