/*
 * init.c - a recipe to begin with: a network, a preset's phases written out over its layers, and
 * the data to be filled in.
 *
 * Nothing remembers the preset: what is printed is read, edited and run like any other recipe.
 */
#include "train/train.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define EPOCHS_FIRST 10 /* length tried first where none is asked for, */
#define EPOCHS_MOST  10240

/* ----------------------------------------------------------------------------------------------
 * the network */

static thaw_status fail_model(const char *name)
{
    size_t n;
    const char *const *archs = model_archs(&n);
    text near = TEXT_INIT;
    thaw_status status;

    text_add_near(&near, name, archs, n, 2);
    status = thaw_fail(THAW_E_MISSING, "'%s' is neither a model folder nor an architecture%s", name,
                       near.data ? near.data : "");
    text_done(&near);
    return status;
}

static thaw_status arch_config(model_config *c, const char *name)
{
    size_t n;
    const char *const *archs = model_archs(&n);

    for (size_t i = 0; i < n; i++)
        if (strcmp(archs[i], name) == 0 && strlen(name) < sizeof c->arch) {
            *c = (model_config)MODEL_CONFIG_INIT;
            memcpy(c->arch, name, strlen(name) + 1);
            c->height = c->width = 224;
            c->channels = 3;
            return THAW_OK;
        }
    return fail_model(name);
}

/* ----------------------------------------------------------------------------------------------
 * the phases */

static bool has_empty_phase(const thaw_schedule *s)
{
    for (int p = 0; p < s->n_phases; p++)
        if (s->phase[p].options.length == 0)
            return true;
    return false;
}

static thaw_status expand(thaw_schedule **out, const thaw_tree *tree, const char *preset,
                          const thaw_preset_options *options)
{
    thaw_schedule *s = NULL;
    thaw_status status;

    THAW_TRY(thaw_schedule_create(&s, tree));
    THAW_TRY(thaw_schedule_preset(s, preset, options));
    *out = s;
    s = NULL;
done:
    thaw_schedule_destroy(s);
    return status;
}

/* Without a length: the first of 10, 20, 40 … epochs that leaves no phase empty. */
static thaw_status expand_fitting(thaw_schedule **out, const thaw_tree *tree, const char *preset,
                                  const thaw_preset_options *options)
{
    thaw_preset_options o = options ? *options : (thaw_preset_options){.seed = 1};
    const bool open = o.length == 0;

    if (open) {
        o.unit = THAW_EPOCHS;
        o.length = EPOCHS_FIRST;
    }
    THAW_CHECK(expand(out, tree, preset, &o));
    while (open && has_empty_phase(*out) && o.length < EPOCHS_MOST) {
        thaw_schedule_destroy(*out);
        *out = NULL;
        o.length *= 2;
        THAW_CHECK(expand(out, tree, preset, &o));
    }
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * the text */

/* A string for TOML; a path that is there as an absolute one, since nobody knows yet where the
 * recipe will lie. */
static void add_path(text *t, const char *path)
{
    char absolute[PATH_MAX];
    const char *const shown = realpath(path, absolute) ? absolute : path;

    toml_add_string(t, shown, strlen(shown));
}

static void add_head(text *t, const char *preset)
{
    const char *name = "", *help = "";
    const size_t n = thaw_presets(&name, &help, 0);

    for (size_t i = 0; i < n; i++) {
        (void)thaw_presets(&name, &help, i);
        if (strcmp(name, preset) == 0)
            break;
    }
    text_addf(t,
              "# Made from the preset '%s': %s.\n"
              "# What is not written here has its default: `thaw help recipe` explains every key.\n"
              "# `thaw plan` shows what this recipe would do, `thaw train` does it.\n"
              "seed = 1\n\n",
              name, help);
}

static void add_model(text *t, const char *name, bool place)
{
    text_add(t, "[model]\n");
    if (place) {
        text_add(t, "path = ");
        add_path(t, name);
        text_add(t, "\n# new_head = true      # start the last layer anew although it would fit\n");
    } else {
        text_addf(t, "arch = \"%s\"\n", name);
        text_add(t, "# path = \"folder\"      # a pretrained network instead: config.json and "
                    "model.safetensors\n");
    }
}

static void add_data(text *t, const char *const *data, int n_data)
{
    text_add(t, "\n[data]\ntrain = ");
    if (n_data > 0)
        add_path(t, data[0]);
    else
        text_add(t, "\"train-images-idx3-ubyte.gz\"   # to be filled in: images; labels lie beside "
                    "them");
    text_add(t, n_data > 1 ? "\nvalid = " : "\n# valid = \"t10k-images-idx3-ubyte.gz\"");
    if (n_data > 1)
        add_path(t, data[1]);
    text_add(t, "\nbatch = 32\n"
                "# mean = 0.5            # of the pixels of the training images, in [0, 1]; and\n"
                "# std = 0.5             # their deviation\n");
}

static void add_rest(text *t)
{
    text_add(t,
             "\n[optimizer]\nname = \"adamw\"\nlr = 1e-3               # base rate: a layer's "
             "coefficient multiplies it\n"
             "\n[schedule]\nname = \"cosine\"         # the rate falls within a phase\n"
             "\n# The phases, one after another. Patterns are regular expressions that match "
             "whole layer\n# names; a coefficient scales a layer's rate, \"pin\" keeps it at 1.\n");
}

static thaw_status check_text(const text *t)
{
    thaw_recipe *recipe = NULL;
    thaw_status status;

    if (t->failed)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a recipe");
    status = thaw_recipe_parse(&recipe, t->data, t->length, "the new recipe", ".", NULL, 0);
    thaw_recipe_destroy(recipe);
    return status;
}

thaw_status thaw_init(char **out, const char *model_name, const char *preset,
                      const thaw_preset_options *options, const char *const *data, int n_data)
{
    const bool place = os_kind_of(model_name) != OS_ABSENT;
    thaw_schedule *s = NULL;
    char *phases = NULL;
    model *m = NULL;
    text t = TEXT_INIT;
    model_config config;
    thaw_status status;

    THAW_TRY(place ? model_place_config(&config, model_name) : arch_config(&config, model_name));
    THAW_TRY(model_create(&m, &config, DTYPE_F32));
    THAW_TRY(expand_fitting(&s, m->tree, preset, options));
    THAW_TRY(thaw_schedule_text(&phases, s));
    add_head(&t, preset);
    add_model(&t, model_name, place);
    add_data(&t, data, n_data);
    add_rest(&t);
    text_addf(&t, "\n%s", phases);
    THAW_TRY(check_text(&t));
    THAW_TRY(text_take(out, &t, "a recipe"));
done:
    text_done(&t);
    thaw__free(phases);
    thaw_schedule_destroy(s);
    model_destroy(m);
    return status;
}
