/*
 * graph - a network as a list of nodes over values, and its gradients as more nodes of the same
 * list.
 *
 * The op table (ops.def) says everything the compiler needs to know about an op. A backward node is
 * the forward op's own row with a non-zero `wrt`: it takes the gradients of the forward outputs,
 * then the forward inputs and the forward outputs it reads, and makes the gradients of the inputs
 * in `wrt`. So there are no separate backward ops.
 *
 * Knows nothing of models, phases or executors: which parameters want a gradient comes in as an
 * array of booleans.
 */
#ifndef THAW_GRAPH_H
#define THAW_GRAPH_H

#include "tensor/tensor.h"

typedef enum op_kind {
#define OP(id, name, inputs, least, most, outputs, mutates, grads) OP_##id,
#include "graph/ops.def"
#undef OP
    OP_COUNT
} op_kind;

#define OP_MAX_INPUTS  8
#define OP_MAX_OUTPUTS 4

/* Sets of inputs and outputs of a forward node. */
#define OP_IN(i)  (1u << (i))
#define OP_OUT(j) (0x10000u << (j))

/* What one input's gradient needs. kind GRAD_NONE: the input has no gradient (integers, running
 * statistics). */
typedef enum grad_kind { GRAD_NONE, GRAD_NODE, GRAD_SAME } grad_kind;
typedef struct op_grad {
    grad_kind kind;
    int group;      /* gradients with one group come from one backward node */
    uint32_t reads; /* OP_IN and OP_OUT bits */
} op_grad;

typedef struct op_info {
    const char *name;
    const char *inputs; /* their names, separated by blanks */
    int least_inputs, most_inputs, n_outputs;
    uint32_t mutates; /* OP_IN bits: updated in place by the forward node */
    op_grad grad[OP_MAX_INPUTS];
} op_info;

extern const op_info op_table[OP_COUNT];

/* Name of an op's input, such as "weight", into a buffer of at least 16 bytes, which is returned.
 */
char *op_input_name(char *buffer, op_kind op, int input);

/* Constants of one node. Only the member of its op is used; unused bytes are zero, so that
 * attributes compare as bytes. */
typedef union op_attrs {
    struct {
        int32_t stride[2], pad[2], dilation[2], groups; /* rows, columns */
        int32_t pad_more[2]; /* zeros at the end beyond `pad`, which is at both ends */
    } conv;
    struct {
        int32_t kernel[2], stride[2], pad[2];
        int32_t count_pad; /* avg_pool2d: padding counts in the mean */
    } pool;
    struct {
        double eps, momentum; /* new = (1 - momentum) * old + momentum * batch */
    } norm;
    struct {
        double p;        /* probability of zero; the rest is scaled by 1 / (1 - p) */
        uint64_t stream; /* names the mask's random stream: hash of the layer's path */
    } dropout;
    struct {
        double smoothing; /* label smoothing in [0, 1) */
        int32_t ignore;   /* target value that leaves a row out */
    } loss;
    struct {
        int32_t tanh; /* 0: with the error function; 1: its approximation by a tangent */
    } gelu;
    struct {
        int32_t heads; /* each attends over its own D / heads features */
    } attention;
    struct {
        int32_t index; /* which token, from 0 */
    } token;
} op_attrs;

typedef int32_t value_id;
#define NO_VALUE (-1)

typedef enum value_kind {
    VALUE_INPUT, /* given at each run; index: which input */
    VALUE_PARAM, /* lives in params; index: which tensor of the model (parameters first, then
                    buffers) */
    VALUE_NODE,  /* made by a node */
} value_kind;

typedef struct graph_value {
    value_kind kind;
    int32_t index;    /* input or model tensor number; -1 for nodes' values */
    int32_t producer; /* node number; -1 for inputs and parameters */
    dtype dtype;
    shape shape;
    const char *name; /* for people; owned by the graph */
} graph_value;

typedef struct graph_node {
    op_kind op;
    uint32_t
        wrt; /* 0: forward; else OP_IN bits of the forward inputs whose gradients this node makes */
    int32_t forward; /* backward: number of its forward node; else -1 */
    int32_t module;  /* module number in the model's tree, -1: none */
    op_attrs attrs;
    const char *name; /* the layer's path, such as "layer1.0.conv1" */
    int n_in, n_out;
    /*
     * forward: inputs and outputs as in the op table; a left-out optional input is NO_VALUE.
     * backward: in = gradients of the forward outputs (NO_VALUE: zero, or one for the loss itself),
     * then the forward inputs, then the forward outputs (NO_VALUE where not read); out = one per
     * forward input (NO_VALUE where not in wrt).
     */
    value_id *in, *out;
} graph_node;

typedef struct graph {
    thaw_region *region;
    dtype real; /* DTYPE_F32 or DTYPE_F64: type of activations and parameters */
    graph_value *value;
    size_t n_values, cap_values;
    graph_node *node;
    size_t n_nodes, cap_nodes;
    int n_inputs;
    int n_forward;        /* nodes before graph_differentiate added the backward ones */
    value_id loss;        /* NO_VALUE without one */
    value_id *param_grad; /* after graph_differentiate: gradient value of each model tensor, or
                             NO_VALUE */
    value_id *grad;       /* after graph_differentiate: gradient of each value made before it, or
                             NO_VALUE (also for the loss, where it means one) */
    int n_params;         /* length of param_grad: model tensors, parameters and buffers */
} graph;

thaw_status graph_create(graph **out, dtype real) THAW_MUST_USE;
void graph_destroy(graph *g);

/* A copy of a graph without gradients, with DIM_BATCH bound to batch and DIM_LENGTH to length (0
 * leaves it) in inputs, and every shape inferred anew. */
thaw_status graph_clone(graph **out, const graph *g, int64_t batch, int64_t length) THAW_MUST_USE;

thaw_status graph_input(value_id *out, graph *g, const char *name, dtype d,
                        const shape *s) THAW_MUST_USE;
/* Model tensor `index`. Asked for again (a tied weight), it is the same value with one more use. */
thaw_status graph_param(value_id *out, graph *g, int index, const char *name, dtype d,
                        const shape *s) THAW_MUST_USE;

/*
 * Add a forward node. `in` has n_in values (NO_VALUE: optional input left out); its outputs are
 * written to `out`, as many as the op has. Shapes are inferred; THAW_E_SHAPE names the layer, the
 * op and both shapes when they do not fit.
 */
thaw_status graph_op(value_id *out, graph *g, op_kind op, const op_attrs *attrs, const char *name,
                     int module, int n_in, const value_id *in) THAW_MUST_USE;

/*
 * Shapes and dtypes of a forward node's outputs from those of its inputs (one rule per op; symbolic
 * axes pass through). in_shape[i].rank is -1 for an input left out.
 */
thaw_status graph_infer(shape *out_shape, dtype *out_dtype, op_kind op, const op_attrs *attrs,
                        const char *name, dtype real, int n_in, const shape *in_shape,
                        const dtype *in_dtype) THAW_MUST_USE;

/*
 * Append the nodes that compute d loss / d p for every model tensor p with trainable[p]; only those
 * that lie on a path from a trainable parameter to the loss. Contributions of several uses are
 * summed by add nodes as they become known, so the last use comes first. Where one forward node has
 * several backward nodes, those that make gradients of parameters alone come first: then what only
 * they read is free before the gradient of the activation is made. Sets g->loss, g->grad and
 * g->param_grad. trainable has n_params entries (buffers: false). Once per graph.
 *
 * Errors: THAW_E_SUPPORT when a parameter's gradient would be another value's memory (a parameter
 * that is itself an operand of add).
 */
thaw_status graph_differentiate(graph *g, value_id loss, const bool *trainable,
                                int n_params) THAW_MUST_USE;

/* Position of a forward input / output among a backward node's inputs. */
static inline int backward_in(const op_info *op, int n_forward_in, int i)
{
    (void)n_forward_in;
    return op->n_outputs + i;
}
static inline int backward_out(const op_info *op, int n_forward_in, int j)
{
    return op->n_outputs + n_forward_in + j;
}

/* For the files of this layer: append as it is; names and lists are copied. */
thaw_status thaw__graph_add_value(value_id *out, graph *g, const graph_value *v) THAW_MUST_USE;
thaw_status thaw__graph_add_node(graph *g, const graph_node *n) THAW_MUST_USE;

/* Rough count of floating-point operations of one node with bound shapes (multiply and add count
 * two). */
double graph_node_flops(const graph *g, const graph_node *node);

#endif
