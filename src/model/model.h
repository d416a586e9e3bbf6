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
} model_config;
#define MODEL_CONFIG_INIT                                                                          \
    {                                                                                              \
        .n_classes = 10                                                                            \
    }

/* How a tensor starts when no file gives it. */
typedef enum tensor_init { INIT_RANDOM, INIT_ZERO, INIT_ONE } tensor_init;

typedef struct model_tensor {
    const char *name; /* "layer1.0.bn1.running_mean" */
    shape shape;
    dtype dtype; /* the model's real type, or I64 */
    bool buffer;
    bool head; /* its first axis is the number of classes: replaced when a checkpoint has another
                  number */
    tensor_init init;
    int64_t fan_in; /* INIT_RANDOM: of the weight it belongs to */
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

#endif
