/*
 * params - the one owner of everything that outlives a plan: parameters, buffers, gradients and
 * optimizer state, each with the name it has in PyTorch.
 *
 * Tensor i of a model: parameters first, in the order of the module tree, then buffers (running
 * statistics). Gradients and optimizer state exist only for what trains. Every change of a tensor's
 * bytes raises its version, so that whoever keeps a converted copy (a kernel's packed weights)
 * knows when it is old.
 *
 * Knows nothing of graphs, plans or files.
 */
#ifndef THAW_PARAMS_H
#define THAW_PARAMS_H

#include "core/core.h"
#include "tensor/tensor.h"

#define PARAM_MAX_STATE 2 /* the most an update rule keeps for one parameter */

typedef struct param {
    char *name; /* "layer1.0.conv1.weight" */
    shape shape;
    dtype dtype; /* F32 or F64; I64 for counters */
    size_t elements, bytes;
    bool buffer; /* running statistics: never a gradient, never an optimizer's */
    void *data;
    uint64_t version; /* raised at every change of data; starts at 1 */

    void *grad; /* same dtype and shape, sum over the samples of an update; NULL unless it trains */
    int n_state;                  /* optimizer state tensors it has now; 0: none */
    void *state[PARAM_MAX_STATE]; /* f64 for F64 parameters, else f32 */
    int64_t steps;                /* its own updates since its state was made */
    bool parked;                  /* state belongs to a frozen parameter, waiting for it to thaw */
    bool in_file; /* it waits in a file where there is one: then n_state is 0, and steps stay */
} param;

typedef struct params {
    param *item;
    int n;         /* parameters and buffers */
    int n_trained; /* parameters alone: item[0 … n_trained) */
    dtype real;
} params;

thaw_status params_create(params **out, dtype real) THAW_MUST_USE;
void params_destroy(params *p);

/* Append a tensor of zeros (data allocated). All parameters must be added before the first buffer.
 */
thaw_status params_add(params *p, const char *name, const shape *s, dtype d,
                       bool buffer) THAW_MUST_USE;
int params_find(const params *p, const char *name); /* -1: none */

/* Mark tensor i as changed. */
void params_touch(params *p, int i);

/* Make gradients exist exactly where trainable[i] (n_trained entries). New ones are zero. */
thaw_status params_set_trainable(params *p, const bool *trainable) THAW_MUST_USE;

/* Make n state tensors (zeroed, steps 0) for parameter i; or drop its state. */
thaw_status params_make_state(params *p, int i, int n) THAW_MUST_USE;
void params_drop_state(params *p, int i);

/* Give back the memory of parameter i's state alone, or make room for it again (zeros): its count
 * and marks stay. */
void params_release_state(params *p, int i);
thaw_status params_hold_state(params *p, int i, int n) THAW_MUST_USE;

/* Bytes of data, gradients, optimizer state now held. */
size_t params_data_bytes(const params *p);
size_t params_grad_bytes(const params *p);
size_t params_state_bytes(const params *p);

/*
 * Copy of all tensors' data (parameters and buffers), for best weights and for undoing a skipped
 * step's running statistics. snapshot_take reuses the memory of an earlier one. buffers_only leaves
 * parameters out. Restoring leaves the version of what has not changed.
 */
typedef struct params_snapshot params_snapshot;
thaw_status params_snapshot_take(params_snapshot **inout, const params *p,
                                 bool buffers_only) THAW_MUST_USE;
void params_snapshot_restore(const params_snapshot *s, params *p);
const void *params_snapshot_data(const params_snapshot *s, int i);
void *params_snapshot_room(params_snapshot *s, int i); /* the same, to be filled from a file */
void params_snapshot_destroy(params_snapshot *s);

/*
 * Start values, rounded to f32 also where the parameters are f64.
 *
 * uniform: in [-bound, bound), drawn from (seed, name of the tensor): the same whatever else the
 * network has. fill: one value. by_name: the reference runs' values, which depend on name and shape
 * alone: splitmix64 started at the FNV-1a of the name; all parameters, no buffers.
 */
void params_init_uniform(params *p, int i, uint64_t seed, double bound);
void params_fill(params *p, int i, double value);
void params_init_by_name(params *p, int i);
void params_init_all_by_name(params *p);

#endif
