/*
 * model - the networks thaw can build: names, shapes and graphs, under the names PyTorch users
 * expect.
 *
 * Declares what a network is made of; loading weights and training are not its business. Knows
 * nothing of plans or executors.
 */
#ifndef THAW_MODEL_H
#define THAW_MODEL_H

#include "core/core.h"
#include "graph/graph.h"

#define MODEL_MAX_STAGES 8

/* What to build; the content of config.json. */
typedef struct model_config {
    char arch[32];                   /* a name of model_archs() */
    int64_t height, width, channels; /* input image */
    int64_t n_classes;
    int n_widths; /* mlp: input, hidden …, output widths; resnet: channels of the stages, n_widths 0
                     for 64·2^i */
    int64_t widths[MODEL_MAX_STAGES];
    int n_blocks; /* resnet: blocks of each stage, 0 for the arch's own */
    int64_t blocks[MODEL_MAX_STAGES];
    bool small_stem; /* resnet: 3×3 stride-1 first convolution and no max pooling, for small images
                      */
    double dropout;  /* before the head; 0: none */
    double norm_momentum; /* share of a batch in the running statistics of batch norms; 0: the
                             arch's own */
    struct {
        int64_t patch; /* side of the square that becomes a token */
        int64_t hidden,
            inner; /* features of a token, and between the two layers of its perceptron */
        int64_t layers, heads;
        double eps;           /* of the layer norms */
        bool tanh_gelu;       /* the approximation instead of the error function */
    } vit;                    /* 0: the arch's own */
    const char *const *label; /* [n_labels] names of the first classes; borrowed, not compared */
    int n_labels;
    bool regression; /* the outputs are numbers, not classes */
    char naming[24]; /* model_naming() in which the weights came; "": the network's own */
    dtype stored;    /* element type in which they came, where it is narrower than the run's */
} model_config;
#define MODEL_CONFIG_INIT                                                                          \
    {                                                                                              \
        .n_classes = 10                                                                            \
    }

/* One parameter or buffer of a network. */
typedef struct model_tensor {
    const char *name; /* "layer1.0.bn1.running_mean" */
    shape shape;
    dtype dtype; /* the model's real type, or I64 for counters */
    bool buffer;
    bool
        head; /* its first axis is the number of classes: replaced when a file has another number */
    double bound; /* starts uniform in [-bound, bound) when positive; else all elements start as
                     `fill` */
    double fill;
    int64_t grid[2]; /* of position embeddings: rows and columns of patches; else 0 */
} model_tensor;

typedef struct model {
    thaw_region *region;
    model_config config;
    thaw_tree *tree; /* sealed */
    graph *graph; /* forward; input 0 is "image" [B,H,W,C], input 1 "sample" [B] (i64) when it has
                     dropout */
    value_id output;      /* logits [B, n_classes] */
    model_tensor *tensor; /* parameters in module-tree order, then buffers */
    int n_tensors, n_params;
    const char *head; /* path of the layer that makes the logits: "fc" */
} model;

/* Build. Errors: THAW_E_SUPPORT for an unknown arch (with near names), THAW_E_RANGE, THAW_E_SHAPE
 * when sizes do not fit. */
thaw_status model_create(model **out, const model_config *config, dtype real) THAW_MUST_USE;
void model_destroy(model *m);

const char *const *model_archs(size_t *n);

/* config.json from and to text. Unknown keys are kept out; wrong types and ranges are errors that
 * name the key. */
thaw_status model_config_parse(model_config *out, const char *json, size_t size,
                               const char *file) THAW_MUST_USE;
void model_config_print(text *out, const model_config *config);

/* Whether a text can be a network's name: letters, digits and . _ - + / alone, so that it may stand
 * in a message. */
bool model_is_name(const char *s);

/* labels.c: names of classes, which model_config_parse leaves out. Those of the file go into a
 * region; without any, or with more than n_classes, the names stay as they are. Says too whether
 * the outputs are numbers. */
thaw_status model_labels_parse(model_config *c, const char *json, size_t size, const char *file,
                               thaw_region *region) THAW_MUST_USE;
void model_labels_print(text *out, const model_config *config);

/* Ours is the index-th of `count` equal groups of rows of a tensor; of one group: the whole. */
typedef struct model_part {
    int index, count;
} model_part;

/*
 * positions.c: position embeddings [1, 1 + patches, features] of another image size.
 * model_positions_side: the side of the square grid that a stored tensor of this shape is for, when
 * it can be brought to t's grid; else 0. model_resize_positions: from that square to grid, the
 * class token's as it is.
 */
int64_t model_positions_side(const model_tensor *t, const shape *stored);
void model_resize_positions(double *dst, const int64_t grid[2], const double *src, int64_t side,
                            int64_t features);

/*
 * Names in other libraries. model_naming: the i-th naming there is for a network beside its own,
 * NULL after the last. model_name_in: what a tensor is called in it, added to out; its own name
 * where there is no such naming or no other name. Which part of that tensor it is is returned.
 * model_naming_kept: the naming for weights that came in this one and leave with a head.
 */
const char *model_naming(const model_config *c, int i);
const char *model_naming_kept(const model_config *c, const char *naming);
model_part model_name_in(text *out, const model_config *c, const char *naming, const char *name);

/*
 * config_foreign.c: config.json as the library wrote that the weights come from. It says which
 * network that is, or *known stays false; THAW_E_SUPPORT for one that is built otherwise than ours.
 * Printing adds the keys that this library wants to find again; false where it wants none.
 */
struct json_t;
thaw_status model_config_foreign(bool *known, model_config *c, const struct json_t *root,
                                 const char *file) THAW_MUST_USE;
bool model_config_print_foreign(text *out, const model_config *c);

/* ------------------------------------------------------------- building, for the files of this
 * layer */

typedef struct model_tensor_list {
    model_tensor *item;
    size_t n, capacity;
} model_tensor_list;

/* A network under construction. After the first failure every layer_… call does nothing. */
typedef struct model_builder {
    model *model;
    dtype real;
    thaw_status status;
    model_tensor_list params, buffers;
} model_builder;

typedef struct conv_layer {
    int64_t out; /* channels */
    int kernel, stride, pad;
    int64_t groups; /* 0: one */
    bool same;      /* in place of pad: as many outputs as the stride leaves of the inputs, the odd
                       zero at the end, as TensorFlow does */
} conv_layer;

typedef struct norm_layer {
    double eps, momentum; /* new = (1 - momentum) * old + momentum * batch */
} norm_layer;
#define NORM_LAYER_INIT                                                                            \
    {                                                                                              \
        .eps = 1e-5, .momentum = 0.1                                                               \
    }

/*
 * Layers: `path` is the layer's name in PyTorch, src a value [B, H, W, C] or [B, features]; the
 * result is the layer's output. Paths are copied.
 */
value_id layer_conv(model_builder *b, const char *path, value_id src, conv_layer c);
value_id layer_batch_norm(model_builder *b, const char *path, value_id src, norm_layer norm);
value_id layer_linear(model_builder *b, const char *path, value_id src, int64_t out, bool head);
value_id layer_dropout(model_builder *b, const char *path, value_id src, double p);
value_id layer_max_pool(model_builder *b, const char *path, value_id src, int kernel, int stride,
                        int pad);
value_id layer_plain(model_builder *b, op_kind op, const char *path, value_id src);
value_id layer_add(model_builder *b, const char *path, value_id x, value_id y);
const char *layer_path(model_builder *b, const char *path, const char *leaf); /* "path.leaf" */

/* What layers are made of: a tensor "path.attribute", whose value in the graph is returned, and a
 * node of layer `path`, whose first output is. */
value_id layer_tensor(model_builder *b, const char *path, const char *attribute, model_tensor t);
value_id layer_op(model_builder *b, op_kind op, const op_attrs *attrs, const char *path, int n_in,
                  const value_id *in);
thaw_status model_builder_finish(model_builder *b) THAW_MUST_USE;

/* Networks: rows of the table in model.c. */
thaw_status mlp_complete(model_config *c) THAW_MUST_USE;
value_id mlp_build(model_builder *b, value_id image);
thaw_status resnet_complete(model_config *c) THAW_MUST_USE;
value_id resnet_build(model_builder *b, value_id image);
thaw_status mobile_complete(model_config *c) THAW_MUST_USE;
value_id mobile_build(model_builder *b, value_id image);
thaw_status vit_complete(model_config *c) THAW_MUST_USE;
value_id vit_build(model_builder *b, value_id image);

#endif
