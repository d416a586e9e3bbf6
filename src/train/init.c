/*
 * init.c - a recipe to begin with: looks at a network and at data, and chooses what suits both:
 * phases, image size, batch, length.
 *
 * What depends on the data is found by opening a first draft of the recipe as a run would, so that
 * what is wrong with them is said here and now. Nothing remembers how the values came about: what
 * is printed is read, edited and run like any other recipe.
 */
#include "train/init.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define EPOCHS_FIRST    10 /* length tried first where nothing is known, */
#define EPOCHS_MOST     10240
#define EPOCHS_FEWEST   3 /* with data: as many as make */
#define EPOCHS_USUAL    30
#define STEPS_USUAL     1000 /* steps, within these bounds */
#define BATCH_MOST      64
#define BATCH_LEAST     4 /* of fewer images, norms that train see too little */
#define SCALE_MOST      4
#define VALID_FRACTION  0.2
#define STANDARD_PRESET "halves"

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

/* One phase in which everything learns. */
static thaw_status expand_plain(thaw_schedule *s, const thaw_preset_options *o)
{
    thaw_phase_options all = THAW_PHASE_OPTIONS_INIT;

    if (o->length < 0)
        return thaw_fail(THAW_E_RANGE, "a length of %lld is none", (long long)o->length);
    all.name = "all";
    all.unit = o->unit;
    all.length = o->length;
    return thaw_schedule_add_phase(s, &all);
}

static thaw_status expand(thaw_schedule **out, const thaw_tree *tree, const init_choice *c,
                          const thaw_preset_options *options)
{
    thaw_schedule *s = NULL;
    thaw_status status;

    THAW_TRY(thaw_schedule_create(&s, tree));
    if (c->preset || c->place)
        THAW_TRY(thaw_schedule_preset(s, c->preset ? c->preset : STANDARD_PRESET, options));
    else
        THAW_TRY(expand_plain(s, options));
    *out = s;
    s = NULL;
done:
    thaw_schedule_destroy(s);
    return status;
}

/* Few data are seen often, many a few times. */
static int64_t usual_epochs(const init_choice *c)
{
    int64_t steps;

    if (!c->train)
        return EPOCHS_FIRST;
    steps = (c->train->n + c->batch - 1) / c->batch;
    return THAW_MIN(THAW_MAX((STEPS_USUAL + steps - 1) / steps, EPOCHS_FEWEST), EPOCHS_USUAL);
}

/* Without a length: the usual one, doubled until it leaves no phase empty. */
static thaw_status expand_fitting(thaw_schedule **out, const thaw_tree *tree, const init_choice *c,
                                  const thaw_preset_options *options)
{
    thaw_preset_options o = options ? *options : (thaw_preset_options){.seed = 1};
    const bool open = o.length == 0;

    if (open) {
        o.unit = THAW_EPOCHS;
        o.length = usual_epochs(c);
    }
    THAW_CHECK(expand(out, tree, c, &o));
    while (open && has_empty_phase(*out) && o.length < EPOCHS_MOST) {
        thaw_schedule_destroy(*out);
        *out = NULL;
        o.length *= 2;
        THAW_CHECK(expand(out, tree, c, &o));
    }
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * the recipe, as a draft and as it is printed */

static thaw_status draft(text *t, const init_choice *c, const thaw_tree *tree,
                         const thaw_preset_options *options)
{
    thaw_schedule *s = NULL;
    char *phases = NULL;
    thaw_status status;

    text_done(t);
    *t = (text)TEXT_INIT;
    THAW_TRY(expand_fitting(&s, tree, c, options));
    THAW_TRY(thaw_schedule_text(&phases, s));
    init_print(t, c, phases);
    if (t->failed)
        status = thaw_fail(THAW_E_NOMEM, "out of memory for a recipe");
done:
    thaw__free(phases);
    thaw_schedule_destroy(s);
    return status;
}

static thaw_status parse(thaw_recipe **out, const text *t)
{
    return thaw_recipe_parse(out, t->data, t->length, "the new recipe", ".", NULL, 0);
}

/* ----------------------------------------------------------------------------------------------
 * what suits the network */

/* What networks were trained on whose weights come without saying so. */
static const struct usual_image {
    const char *arch;
    int64_t side;
    double mean, std;
} usual_image[] = {
    {"efficientnet_lite0", 224, 127 / 255.0, 128 / 255.0},
    {"efficientnet_lite1", 240, 127 / 255.0, 128 / 255.0},
    {"efficientnet_lite2", 260, 127 / 255.0, 128 / 255.0},
    {"vit_tiny_patch16_224", 224, 0.5, 0.5},
    {"vit_small_patch16_224", 224, 0.5, 0.5},
    {"vit_base_patch16_224", 224, 0.5, 0.5},
};

/* Which part of the network lies there, once there are data to open it with; what does not fit is
 * told when the weights are loaded. */
static thaw_status look_for_head(init_choice *c, const model *m)
{
    weights_match *match = NULL;

    if (!c->place || !c->data.path[0])
        return THAW_OK;
    THAW_CHECK(match_open(&match, m, c->model));
    c->no_head = match_without_head(match);
    match_close(match);
    return THAW_OK;
}

static thaw_status choose_image(init_choice *c)
{
    preprocess p = {0};

    if (c->place && os_kind_of(c->model) == OS_FOLDER)
        THAW_CHECK(preprocess_read(&p, c->model));
    for (size_t i = 0; i < THAW_COUNT(usual_image) && !p.found; i++)
        if (strcmp(usual_image[i].arch, c->config.arch) == 0) {
            c->side = usual_image[i].side;
            c->mean = usual_image[i].mean;
            c->std = usual_image[i].std;
        }
    if (p.n_mean > 0 && c->data.format == DATA_IDX) {
        c->mean = p.mean[0];
        c->std = p.std[0];
    }
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * what suits the data */

/* IDX images have a size of their own, which is made to fit the network. */
static thaw_status choose_idx(init_choice *c, const thaw_recipe *r)
{
    if (c->data.format != DATA_IDX)
        return THAW_OK;
    THAW_CHECK(data_look_idx(&c->data, r));
    if (!(c->std > 0)) {
        c->mean = c->data.mean;
        c->std = c->data.std;
    }
    if (c->place) {
        c->channels = c->config.channels > 1 ? c->config.channels : 0;
        c->scale = THAW_MIN(THAW_MAX(c->config.height / c->data.height, 1), SCALE_MOST);
    }
    return THAW_OK;
}

/* Memory of the most demanding phase with batches of n. */
static thaw_status most_memory(size_t *bytes, job *j, int64_t n)
{
    *bytes = 0;
    for (int p = 0; p < thaw_schedule_n_phases(j->schedule); p++) {
        size_t needed;

        THAW_CHECK(budget_phase(&needed, j, p, n));
        *bytes = THAW_MAX(*bytes, needed);
    }
    return THAW_OK;
}

/* The largest power of two that leaves four steps in an epoch, if that is no small one, and half of
 * the memory free. */
static thaw_status choose_batch(init_choice *c, job *j)
{
    const uint64_t left = os_memory_available();
    const uint64_t allowed = left > 0 ? left / 2 : UINT64_MAX;

    c->batch = BATCH_MOST;
    while (c->batch > BATCH_LEAST && c->batch > j->train->n / 4)
        c->batch /= 2;
    while (c->batch > j->train->n)
        c->batch /= 2;
    for (;;) {
        THAW_CHECK(most_memory(&c->memory, j, c->batch));
        if (c->memory <= allowed || c->batch == 1)
            return THAW_OK;
        c->batch /= 2;
    }
}

static const thaw_run_options no_options;

/* With one class there is nothing to learn; most likely the folder above was meant. */
static thaw_status check_classes(const init_choice *c, const dataset *train)
{
    if (train->target || train->n_classes > 1)
        return THAW_OK;
    return thaw_fail(THAW_E_DATA,
                     "'%s' has one class alone%s%s%s, so there is nothing to tell apart: put the "
                     "pictures of another kind beside it, in a folder of their own",
                     c->data.path[0], train->class_name ? ", '" : "",
                     train->class_name ? train->class_name[0] : "", train->class_name ? "'" : "");
}

/* The recipe over data that are there: a draft tells their size, a second one their number. */
static thaw_status suit_data(text *t, init_choice *c, const thaw_tree *tree,
                             const thaw_preset_options *options)
{
    thaw_recipe *first = NULL, *second = NULL;
    job *j = NULL;
    thaw_status status;

    THAW_TRY(draft(t, c, tree, options));
    THAW_TRY(parse(&first, t));
    THAW_TRY(choose_idx(c, first));
    THAW_TRY(draft(t, c, tree, options));
    THAW_TRY(parse(&second, t));
    THAW_TRY(job_open(&j, second, &no_options, NULL, JOB_DATA | JOB_EXEC));
    c->recipe = second;
    THAW_TRY(check_classes(c, j->train));
    c->train = j->train;
    c->valid = j->valid;
    THAW_TRY(choose_batch(c, j));
    THAW_TRY(draft(t, c, tree, options));
done:
    c->train = c->valid = NULL;
    c->recipe = NULL;
    job_close(j);
    thaw_recipe_destroy(second);
    thaw_recipe_destroy(first);
    return status;
}

thaw_status thaw_init(char **out, const char *model_name, const char *preset,
                      const thaw_preset_options *options, const char *const *data, int n_data)
{
    init_choice c = {.model = model_name,
                     .place = os_kind_of(model_name) != OS_ABSENT,
                     .preset = preset,
                     .batch = n_data > 0 ? BATCH_MOST : BATCH_MOST / 2,
                     .valid_fraction = VALID_FRACTION};
    thaw_recipe *recipe = NULL;
    model *m = NULL;
    text t = TEXT_INIT;
    thaw_status status;

    THAW_TRY(c.place ? model_place_config(&c.config, model_name)
                     : arch_config(&c.config, model_name));
    if (n_data > 0)
        THAW_TRY(data_look_at(&c.data, data, n_data));
    THAW_TRY(choose_image(&c));
    THAW_TRY(model_create(&m, &c.config, DTYPE_F32));
    THAW_TRY(look_for_head(&c, m));
    THAW_TRY(n_data > 0 ? suit_data(&t, &c, m->tree, options) : draft(&t, &c, m->tree, options));
    THAW_TRY(parse(&recipe, &t));
    THAW_TRY(text_take(out, &t, "a recipe"));
done:
    text_done(&t);
    thaw_recipe_destroy(recipe);
    model_destroy(m);
    data_look_done(&c.data);
    return status;
}
