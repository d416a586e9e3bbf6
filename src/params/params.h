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

#define PARAM_MAX_STATE 2

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
void params_zero_grads(params *p);

/* Make n state tensors (zeroed, steps 0) for parameter i; or drop its state. */
thaw_status params_make_state(params *p, int i, int n) THAW_MUST_USE;
void params_drop_state(params *p, int i);

/* Bytes of data, gradients, optimizer state now held. */
size_t params_data_bytes(const params *p);
size_t params_grad_bytes(const params *p);
size_t params_state_bytes(const params *p);

/*
 * Copy of all tensors' data (parameters and buffers), for best weights and for undoing a skipped
 * step's running statistics. snapshot_take reuses the memory of an earlier one. buffers_only leaves
 * parameters out.
 */
typedef struct params_snapshot params_snapshot;
thaw_status params_snapshot_take(params_snapshot **inout, const params *p,
                                 bool buffers_only) THAW_MUST_USE;
void params_snapshot_restore(const params_snapshot *s, params *p);
const void *params_snapshot_data(const params_snapshot *s, int i);
void params_snapshot_destroy(params_snapshot *s);

/*
 * Initial values. random: PyTorch's defaults for the kind of tensor (Kaiming uniform with a = sqrt
 * 5 for weights of 2 or more axes, the bound of the bias from the fan-in of its weight, 1 for norm
 * weights), drawn from (seed, name). by_name: the values of the reference runs, which depend on
 * name and shape alone (splitmix64 of the FNV-1a of the name).
 */
thaw_status params_init_random(params *p, int i, uint64_t seed, int64_t fan_in) THAW_MUST_USE;
void params_init_by_name(params *p);

#endif
