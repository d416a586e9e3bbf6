/*
 * mlp.c - multilayer perceptrons: backbone.fc1 … backbone.fcN with ReLU, and head.
 */
#include "model/model.h"

#include <stdio.h>

/* widths: input, hidden …, output. Either end may be left to the data: 0. */
thaw_status mlp_complete(model_config *c)
{
    int64_t inputs;

    if (c->channels == 0)
        c->channels = 1;
    if (c->n_widths < 2)
        return thaw_fail(THAW_E_RANGE,
                         "an mlp needs 'widths' with at least its input and its output, such as "
                         "[784, 128, 10]; got %d of them",
                         c->n_widths);
    if (c->height == 0) { /* no image size given: one row of pixels as wide as the input */
        c->height = 1;
        c->width = c->widths[0] / c->channels;
    }
    inputs = c->height * c->width * c->channels;
    if (c->widths[0] == 0)
        c->widths[0] = inputs;
    if (c->widths[0] != inputs)
        return thaw_fail(
            THAW_E_SHAPE,
            "an mlp with %lld inputs does not fit images of %lld x %lld x %lld = %lld values",
            (long long)c->widths[0], (long long)c->height, (long long)c->width,
            (long long)c->channels, (long long)inputs);
    c->widths[c->n_widths - 1] = c->n_classes;
    return THAW_OK;
}

value_id mlp_build(model_builder *b, value_id x)
{
    const model_config *c = &b->model->config;
    char path[40];

    x = layer_plain(b, OP_FLATTEN, "flatten", x);
    for (int i = 1; i + 1 < c->n_widths; i++) {
        (void)snprintf(path, sizeof path, "backbone.fc%d", i);
        x = layer_linear(b, path, x, c->widths[i], false);
        (void)snprintf(path, sizeof path, "backbone.relu%d", i);
        x = layer_plain(b, OP_RELU, path, x);
    }
    x = layer_dropout(b, "dropout", x, c->dropout);
    return layer_linear(b, "head", x, c->n_classes, true);
}
