/*
 * init_text.c - the recipe that `thaw init` writes: every value with the reason for it beside it.
 * What the values are has been decided before.
 */
#include "train/init.h"
#include "train/toml.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NAMED_CLASSES 12  /* more are counted only */
#define FEW           200 /* pictures to learn from: an evaluation is a hint then */

static void add_path(text *t, const char *path)
{
    char absolute[PATH_MAX];
    const char *const shown = realpath(path, absolute) ? absolute : path;

    toml_add_string(t, shown, strlen(shown));
}

static const char *preset_help(const char *preset)
{
    const char *name = "", *help = "";
    const size_t n = thaw_presets(&name, &help, 0);

    for (size_t i = 0; i < n; i++) {
        (void)thaw_presets(&name, &help, i);
        if (strcmp(name, preset) == 0)
            return help;
    }
    return "";
}

/* A name from a file in a comment: on its line, whatever it has in it. */
static void add_plain(text *t, const char *s)
{
    for (; *s; s++)
        text_add_n(t, (unsigned char)*s < 0x20 || *s == 0x7f ? "?" : s, 1);
}

static void add_classes(text *t, const dataset *train, const dataset *valid)
{
    const size_t n = (size_t)train->n_classes;
    int64_t *const count = thaw__new(2 * n + 1, sizeof *count);

    if (!count)
        return;
    dataset_count_classes(count, train);
    if (valid && (size_t)valid->n_classes == n)
        dataset_count_classes(&count[n], valid);
    text_add(t, ":");
    for (size_t i = 0; i < n; i++) {
        text_add(t, i ? ", " : " ");
        add_plain(t, train->class_name[i]);
        text_addf(t, " %lld", (long long)(count[i] + count[n + i]));
    }
    for (size_t i = 0; i < n && valid && (size_t)valid->n_classes == n; i++)
        if (count[n + i] == 0) {
            text_add(t, "\n# Nothing is left to check with of the class ");
            add_plain(t, train->class_name[i]);
            text_add(t, ": how it fares is not measured.");
        }
    thaw__free(count);
}

#define FAR_OFF 10 /* mean or deviation of numbers that hardly any rate suits */

static void add_numbers(text *t, const dataset *train)
{
    double mean, deviation;

    dataset_numbers(&mean, &deviation, train);
    text_addf(t, "# Their mean is %.4g, their deviation %.4g.\n", mean, deviation);
    if (fabs(mean) > FAR_OFF || deviation > FAR_OFF)
        text_addf(
            t,
            "# A network learns numbers near 0 and of size 1 well, and gets nowhere soon with "
            "such as these: put\n# (number - %.2g) / %.2g into the list instead, and turn "
            "back what `thaw predict` says.\n",
            mean, THAW_MAX(deviation, 1));
}

static void add_found(text *t, const dataset *train, const dataset *valid)
{
    const long long n = train->n, held = valid ? valid->n : 0;

    text_addf(t, "\n# The data: %lld images to learn from, %lld to check with", n, held);
    if (train->target)
        text_add(t, ", a number each");
    else
        text_addf(t, ", in %d classes", train->n_classes);
    if (train->class_name && train->n_classes <= NAMED_CLASSES)
        add_classes(t, train, valid);
    text_add(t, "\n");
    if (train->target)
        add_numbers(t, train);
    if (n < FEW && held > 0 && !train->target)
        text_addf(t,
                  "# That is few. With %lld to check with, each of them is %.3g points of the "
                  "accuracy: it is\n# a hint, no measurement. What it has learned, `thaw predict` "
                  "shows on pictures of your own.\n",
                  held, 100.0 / (double)held);
}

static void add_head(text *t, const init_choice *c)
{
    if (c->preset)
        text_addf(t, "# Made from the preset '%s': %s.\n", c->preset, preset_help(c->preset));
    else if (c->place)
        text_add(t, "# Fine-tuning in three phases: the head, the upper half, then everything.\n");
    else
        text_add(t, "# Training from random weights.\n");
    text_add(t,
             "# What is not written here has its default: `thaw help recipe` explains every key.\n"
             "# `thaw plan` shows what this recipe would do, `thaw train` does it.\n"
             "seed = 1\n\n");
}

/* What becomes of the last layer, which has an output for each class. */
static void add_last_layer(text *t, const init_choice *c)
{
    const bool classes = c->train && !c->train->target;

    if (c->no_head)
        text_add(t, "# It comes without a head; one that starts at random is put on it.\n");
    else if (classes && c->train->n_classes != c->config.n_classes)
        text_addf(t, "# Its head has %lld outputs; a new one for %d classes takes its place.\n",
                  (long long)c->config.n_classes, c->train->n_classes);
    else
        text_add(t, "# new_head = true      # start the last layer anew although it would fit\n");
}

static void add_model(text *t, const init_choice *c)
{
    text_add(t, "[model]\n");
    if (c->place) {
        text_add(t, "path = ");
        add_path(t, c->model);
        text_addf(t, "   # %s\n", c->config.arch);
        add_last_layer(t, c);
    } else {
        text_addf(t, "arch = \"%s\"\n", c->model);
        text_add(t, "# path = \"folder\"      # a pretrained network instead: a folder with "
                    "config.json and\n#                      # model.safetensors, or a "
                    ".safetensors or .pth file\n");
    }
}

static void add_number(text *t, const char *key, double value)
{
    text_addf(t, "%s = ", key);
    text_add_short_double(t, value);
}

static void add_pictures(text *t, const init_choice *c)
{
    const picture_recipe *const r = c->recipe ? &c->recipe->pictures.recipe : NULL;

    if (c->side > 0)
        text_addf(t, "image_size = %-8lld  # what %s was trained on\n", (long long)c->side,
                  c->config.arch);
    else if (r && r->height == r->width)
        text_addf(t, "image_size = %-8lld  # side of the images made of the pictures\n",
                  (long long)r->height);
    if (c->data.numbers)
        text_add(t, "target = \"number\"      # the list has numbers to predict\n");
    if (!c->data.path[1])
        text_addf(t, "valid_fraction = %g   # of %s, to check with; or valid = \"...\"\n",
                  c->valid_fraction, c->data.numbers ? "the list" : "each class");
    if (!c->data.numbers)
        text_add(t,
                 "broken = \"skip\"        # of pictures that cannot be read: they are named, and "
                 "others take\n                       # their place; \"refuse\" ends the run\n");
    text_add(t,
             "flip = true            # pictures may be seen in a mirror; false for letters and "
             "the like\n"
             "random_resized_crop = [0.5, 1.0]   # in training a part of each picture is shown\n");
    if (c->std > 0) {
        add_number(t, "mean", c->mean);
        text_add(t, "        # as the network's pictures were\n");
        add_number(t, "std", c->std);
        text_add(t, "\n");
    } else {
        text_add(t,
                 "# mean, std            # as the network's folder says, else those of ImageNet\n");
    }
}

static void add_idx(text *t, const init_choice *c)
{
    if (c->channels > 0)
        text_addf(t, "channels = %lld           # the network has seen colours\n",
                  (long long)c->channels);
    if (c->scale > 1)
        text_addf(t,
                  "scale = %lld              # each pixel as %lld x %lld, nearer to what the "
                  "network has seen\n",
                  (long long)c->scale, (long long)c->scale, (long long)c->scale);
    if (c->std > 0) {
        add_number(t, "mean", c->mean);
        text_add(t, "        # of the pixels of the training images, in [0, 1]; and\n");
        add_number(t, "std", c->std);
        text_add(t, "         # their deviation\n");
    } else {
        text_add(t, "# mean = 0.5            # of the pixels of the training images, in [0, 1]; "
                    "and\n# std = 0.5             # their deviation\n");
    }
}

static void add_data(text *t, const init_choice *c)
{
    static const char *const format[] = {"idx", "callback", "folder", "csv"};
    static const char *const key[] = {"train", "valid", "test"};

    if (c->train)
        add_found(t, c->train, c->valid);
    text_addf(t, "%s[data]\nformat = \"%s\"\n", c->train ? "" : "\n", format[c->data.format]);
    for (int i = 0; i < 3; i++)
        if (c->data.path[i]) {
            text_addf(t, "%s = ", key[i]);
            add_path(t, c->data.path[i]);
            text_add(t, "\n");
        }
    if (!c->data.path[0])
        text_add(t, "train = \"train-images-idx3-ubyte.gz\"   # to be filled in: images; labels "
                    "lie beside them\n# valid = \"t10k-images-idx3-ubyte.gz\"\n");
    text_addf(t, "batch = %lld", (long long)c->batch);
    if (c->memory > 0) {
        char bytes[32];

        text_addf(t, "              # images of a step; takes up to %s of memory",
                  format_bytes(bytes, c->memory));
    }
    text_add(t, "\n");
    if (c->data.format == DATA_IDX)
        add_idx(t, c);
    else
        add_pictures(t, c);
}

static void add_rest(text *t, const init_choice *c)
{
    const bool staged = c->place && !c->preset;

    text_addf(t,
              "\n[optimizer]\nname = \"adamw\"\nlr = %s               # base rate: a layer's "
              "coefficient multiplies it\nweight_decay = 0.01\n"
              "\n[schedule]\nname = \"cosine\"         # the rate falls within a phase\n"
              "\n# The phases, one after another. Patterns are regular expressions that match "
              "whole layer\n# names; a coefficient scales a layer's rate, \"pin\" keeps it at 1.\n",
              staged ? "3e-3" : "1e-3");
    if (staged)
        text_add(t, "# The head starts at random: it learns alone first, so that what the network "
                    "knows is not\n# shaken by it. Then layers thaw from the top, the lower the "
                    "slower.\n");
    else if (!c->preset)
        text_add(t, "# From random weights everything learns at once. Phases pay with a pretrained "
                    "network.\n");
}

void init_print(text *t, const init_choice *c, const char *phases)
{
    add_head(t, c);
    add_model(t, c);
    add_data(t, c);
    add_rest(t, c);
    text_addf(t, "\n%s", phases);
}
