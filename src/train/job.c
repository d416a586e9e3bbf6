/*
 * job.c - puts a run together from its recipe: data, network with weights, schedule, executor, in
 * this order, since each decides sizes of the next.
 */
#include "train/train.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

/* ----------------------------------------------------------------------------------------------
 * data */

/* The caller's own data, seen as two data sets. */
typedef struct split_source {
    const thaw_source *source;
    bool valid;
    pthread_mutex_t
        *turn; /* of both: loaders of training and evaluation read ahead on threads of their own */
} split_source;

struct job_source {
    pthread_mutex_t turn;
    split_source train, valid;
};

static thaw_status read_split(void *user, const int64_t *index, int64_t n, float *images,
                              int32_t *labels)
{
    const split_source *s = user;
    thaw_status status;

    (void)pthread_mutex_lock(s->turn);
    status = s->source->read(s->source->user, s->valid, index, n, images, labels);
    (void)pthread_mutex_unlock(s->turn);
    if (status != THAW_OK)
        return thaw_fail(status, "reading %lld %s samples failed in the caller's function",
                         (long long)n, s->valid ? "validation" : "training");
    for (int64_t i = 0; i < n; i++)
        if (labels[i] < 0 || labels[i] >= s->source->classes)
            return thaw_fail(THAW_E_DATA, "sample %lld: label %d is outside 0 … %d",
                             (long long)index[i], (int)labels[i], s->source->classes - 1);
    return THAW_OK;
}

static thaw_status open_source(job *j, const thaw_source *s)
{
    j->source = thaw__new(1, sizeof *j->source);
    if (!j->source)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the data");
    (void)pthread_mutex_init(&j->source->turn, NULL);
    j->source->train = (split_source){s, false, &j->source->turn};
    j->source->valid = (split_source){s, true, &j->source->turn};
    THAW_CHECK(dataset_from_callback(&j->train, s->n_train, s->height, s->width, s->channels,
                                     s->classes, read_split, &j->source->train));
    if (s->n_valid > 0)
        THAW_CHECK(dataset_from_callback(&j->valid, s->n_valid, s->height, s->width, s->channels,
                                         s->classes, read_split, &j->source->valid));
    return THAW_OK;
}

static thaw_status open_split(dataset **out, const thaw_recipe *r, const recipe_split *split)
{
    if (!split->images)
        return THAW_OK;
    return dataset_open_idx(out, split->images, split->labels, &split->subset, r->n_classes);
}

static thaw_status open_pictures(job *j)
{
    dataset *d[3] = {NULL};

    THAW_CHECK(dataset_open_pictures(d, &j->recipe->pictures));
    j->train = d[0];
    j->valid = d[1];
    j->test = d[2];
    return THAW_OK;
}

static thaw_status open_data(job *j)
{
    const thaw_recipe *r = j->recipe;

    if (j->options->source)
        return open_source(j, j->options->source);
    if (!r->train.images)
        return thaw_fail(THAW_E_RECIPE, "%s: 'data.train' is missing: the images to learn from",
                         r->name);
    if (recipe_has_pictures(r))
        return open_pictures(j);
    THAW_CHECK(open_split(&j->train, r, &r->train));
    THAW_CHECK(open_split(&j->valid, r, &r->valid));
    return open_split(&j->test, r, &r->test);
}

dataset *job_split(const job *j, const char *split)
{
    const struct {
        const char *name;
        dataset *data;
    } table[] = {{"train", j->train}, {"valid", j->valid}, {"test", j->test}};

    for (size_t i = 0; i < THAW_COUNT(table); i++)
        if (strcmp(table[i].name, split) == 0)
            return table[i].data;
    return NULL;
}

void job_add_guess(text *out, const job *j)
{
    double mean, valid_mean, deviation;

    if (!j->train->target || !j->valid || !j->valid->target)
        return;
    dataset_numbers(&mean, &deviation, j->train);
    dataset_numbers(&valid_mean, &deviation, j->valid);
    text_addf(out, "\nguessing their mean, %.4g, would have an RMSE of %.4g", mean,
              hypot(deviation, valid_mean - mean));
}

/* ----------------------------------------------------------------------------------------------
 * network */

thaw_status model_folder_config(model_config *out, const char *folder)
{
    char *path = os_path(folder, "config.json"), *json = NULL;
    size_t size;
    thaw_status status;

    if (!path)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the path of a configuration");
    THAW_TRY(os_read_file(&json, &size, path, 1 << 20));
    THAW_TRY(model_config_parse(out, json, size, path));
done:
    thaw__free(json);
    thaw__free(path);
    return status;
}

/* Sizes of a transformer that the recipe gives. */
static void merge_vit(model_config *c, const model_config *own)
{
    const struct {
        int64_t *to, from;
    } size[] = {{&c->vit.patch, own->vit.patch},
                {&c->vit.hidden, own->vit.hidden},
                {&c->vit.inner, own->vit.inner},
                {&c->vit.layers, own->vit.layers},
                {&c->vit.heads, own->vit.heads}};

    for (size_t i = 0; i < THAW_COUNT(size); i++)
        if (size[i].from > 0)
            *size[i].to = size[i].from;
    if (own->vit.eps > 0)
        c->vit.eps = own->vit.eps;
}

/* What the recipe's [model] says goes over what the model's folder says; the data's sizes fill what
 * neither does. */
static void merge_config(model_config *c, const thaw_recipe *r, const dataset *d)
{
    const model_config *own = &r->config;
    const int64_t scale = THAW_MAX(r->loader.scale, 1);

    if (own->arch[0])
        memcpy(c->arch, own->arch, sizeof c->arch);
    if (own->n_widths > 0) {
        c->n_widths = own->n_widths;
        memcpy(c->widths, own->widths, sizeof c->widths);
    }
    if (own->n_blocks > 0) {
        c->n_blocks = own->n_blocks;
        memcpy(c->blocks, own->blocks, sizeof c->blocks);
    }
    c->small_stem = c->small_stem || own->small_stem;
    if (own->dropout > 0)
        c->dropout = own->dropout;
    if (own->norm_momentum > 0)
        c->norm_momentum = own->norm_momentum;
    merge_vit(c, own);
    if (own->height > 0) {
        c->height = own->height;
        c->width = own->width;
    } else if (d) {
        c->height = d->height * scale;
        c->width = d->width * scale;
    }
    if (own->channels > 0)
        c->channels = own->channels;
    else if (d)
        c->channels = r->loader.channels > 0 ? r->loader.channels : d->channels;
    if (own->n_classes > 0)
        c->n_classes = own->n_classes;
    else if (d)
        c->n_classes = d->n_classes;
}

static thaw_status check_data_fits(const model_config *c, const thaw_recipe *r, const dataset *d)
{
    const int64_t scale = THAW_MAX(r->loader.scale, 1);
    const int64_t channels = r->loader.channels > 0 ? r->loader.channels : d->channels;

    if (d->height * scale != c->height || d->width * scale != c->width || channels != c->channels)
        return thaw_fail(THAW_E_SHAPE,
                         "the network takes images of %lld x %lld x %lld, but the data gives %lld "
                         "x %lld x %lld; set "
                         "'data.scale' or 'data.channels', or the network's size",
                         (long long)c->height, (long long)c->width, (long long)c->channels,
                         (long long)(d->height * scale), (long long)(d->width * scale),
                         (long long)channels);
    if (d->target && c->n_classes != 1)
        return thaw_fail(THAW_E_SHAPE,
                         "the data have one number to predict, but the network has %lld outputs; "
                         "set 'model.num_classes = 1'",
                         (long long)c->n_classes);
    if (d->n_classes > c->n_classes)
        return thaw_fail(
            THAW_E_SHAPE,
            "the data has %d classes, but the network only %lld; set 'model.num_classes = %d'",
            d->n_classes, (long long)c->n_classes, d->n_classes);
    return THAW_OK;
}

/* Where a network comes from: `weights` given by the caller, else the recipe's; NULL: nowhere. */
static thaw_status weights_place(const char **path, bool *folder, const thaw_recipe *r,
                                 const char *weights)
{
    *path = weights ? weights : r->model_path;
    if (*path && os_kind_of(*path) == OS_ABSENT)
        return thaw_fail(THAW_E_MISSING, "'%s' is not there: a model folder or file was expected",
                         *path);
    *folder = *path && os_kind_of(*path) == OS_FOLDER;
    return THAW_OK;
}

static thaw_status make_params(job *j)
{
    THAW_CHECK(params_create(&j->params, j->recipe->real));
    for (int i = 0; i < j->model->n_tensors; i++) {
        const model_tensor *t = &j->model->tensor[i];

        THAW_CHECK(params_add(j->params, t->name, &t->shape, t->dtype, t->buffer));
    }
    return THAW_OK;
}

/* Names of the classes: the data's; else those of a folder whose head is taken over. */
static thaw_status find_labels(job *j, const char *folder)
{
    model_config *c = &j->model->config;
    char *path = NULL, *json = NULL;
    size_t size;
    thaw_status status = THAW_OK;

    if (j->train && j->train->class_name) {
        c->label = j->train->class_name;
        c->n_labels = j->train->n_classes;
    }
    c->regression = j->train && j->train->target;
    if (c->n_labels > 0 || c->regression || !folder || j->recipe->new_head)
        return THAW_OK;
    path = os_path(folder, "config.json");
    if (!path)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the path of a configuration");
    THAW_TRY(os_read_file(&json, &size, path, 1 << 20));
    THAW_TRY(model_labels_parse(c, json, size, path, j->model->region));
done:
    thaw__free(json);
    thaw__free(path);
    return status;
}

/* Values for all tensors: those of the file, where there is one, and start values. */
static thaw_status fill_params(job *j, const char *path, head_wish head)
{
    bool *const loaded = thaw__new((size_t)j->model->n_tensors, sizeof *loaded);
    thaw_status status = THAW_OK;

    if (!loaded)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the network's weights");
    if (path)
        THAW_TRY(weights_load(&j->load_note, loaded, j->params, j->model, path, head));
    weights_start(j->params, j->model, j->recipe, loaded);
done:
    thaw__free(loaded);
    return status;
}

/* Weights that were asked for are judged as they are; those of a recipe are there to learn. */
static head_wish wish_of(const job *j, const char *weights)
{
    if (!weights && j->recipe->new_head)
        return HEAD_NEW;
    return !weights && j->train ? HEAD_IF_THERE : HEAD_OF_FILE;
}

static thaw_status open_model(job *j, const char *weights)
{
    const thaw_recipe *r = j->recipe;
    model_config c = {.n_classes = 0};
    const char *path = NULL;
    bool folder = false;

    THAW_CHECK(weights_place(&path, &folder, r, weights));
    if (path && (folder || !r->config.arch[0]))
        THAW_CHECK(model_place_config(&c, path));
    if (!weights || !folder)
        merge_config(&c, r, j->train);
    if (!c.arch[0])
        return thaw_fail(THAW_E_RECIPE, "%s: [model] needs 'path' or 'arch'", r->name);
    THAW_CHECK(model_create(&j->model, &c, r->real));
    if (j->train)
        THAW_CHECK(check_data_fits(&j->model->config, r, j->train));
    THAW_CHECK(find_labels(j, folder ? path : NULL));
    THAW_CHECK(make_params(j));
    return fill_params(j, path, wish_of(j, weights));
}

/* ----------------------------------------------------------------------------------------------
 * schedule */

static thaw_status add_change(thaw_schedule *s, const recipe_change *c)
{
    const char *const *patterns = (const char *const *)c->pattern;

    if (c->kind == CHANGE_FREEZE)
        return thaw_schedule_freeze(s, patterns, c->n_patterns);
    if (c->kind == CHANGE_UNFREEZE)
        return thaw_schedule_unfreeze(s, patterns, c->n_patterns);
    if (c->kind == CHANGE_PINNED)
        return thaw_schedule_pin(s, patterns, c->n_patterns);
    return thaw_schedule_coefficient(s, c->coefficient, patterns, c->n_patterns);
}

/* Of a phase or stage, or of one change in it; no line: nowhere in the file. */
static recipe_place place_of_problem(const thaw_recipe *r, const schedule_problem *p)
{
    if (p->phase >= 0) {
        const recipe_phase *phase = &r->phase[p->phase];
        const recipe_change *c = p->change >= 0 ? &phase->change[p->change] : NULL;

        return c && c->line > 0 ? (recipe_place){c->line, c->column}
                                : (recipe_place){phase->line, 0};
    }
    if (p->stage >= 0) {
        const recipe_stage_place *stage = &r->stage_place[p->stage];

        return p->change >= 0 ? stage->spec[p->change] : stage->at;
    }
    return p->change >= 0 ? r->freeze_place[p->change] : (recipe_place){0, 0};
}

/* Every mistake of the schedule, each with its place in the recipe in front. */
static thaw_status place_problems(const thaw_recipe *r, const thaw_schedule *s, thaw_status code)
{
    const schedule_problem *problem;
    const int n = thaw__schedule_problems(&problem, s);
    text all = TEXT_INIT;

    for (int i = 0; i < n; i++) {
        const recipe_place at = place_of_problem(r, &problem[i]);

        text_addf(&all, "%s%s:", i ? "\n" : "", r->name);
        if (at.line > 0)
            text_addf(&all, "%d:", at.line);
        if (at.column > 0)
            text_addf(&all, "%d:", at.column);
        text_addf(&all, " %s", problem[i].text);
    }
    if (n > 0 && !all.failed)
        code = thaw_fail(code, "%s", all.data);
    text_done(&all);
    return code;
}

/* An update never crosses the end of an epoch: the last one may have fewer micro-batches. */
static int64_t steps_of_epoch(const thaw_recipe *r, int64_t size, int64_t samples)
{
    const int64_t batches = (samples + size - 1) / size;

    return (batches + r->accumulate - 1) / r->accumulate;
}

thaw_status job_schedule(thaw_schedule **out, const thaw_recipe *r, const thaw_tree *tree,
                         int64_t samples)
{
    thaw_schedule *s = NULL;
    thaw_status status;

    THAW_TRY(thaw_schedule_create(&s, tree));
    thaw_schedule_frozen_norm_eval(s, r->frozen_norm_eval);
    THAW_TRY(recipe_add_stages(s, r));
    for (int p = 0; p < r->n_phases; p++) {
        thaw_phase_options options = r->phase[p].options;

        options.steps_per_epoch = steps_of_epoch(r, recipe_batch(r, p), samples);
        options.samples_per_step = recipe_batch(r, p) * r->accumulate;
        THAW_TRY(thaw_schedule_add_phase(s, &options));
        for (int c = 0; c < r->phase[p].n_changes; c++)
            THAW_TRY(add_change(s, &r->phase[p].change[c]));
    }
    status = thaw_schedule_seal(s);
    if (status != THAW_OK) {
        status = place_problems(r, s, status);
        goto done;
    }
    *out = s;
    s = NULL;
done:
    thaw_schedule_destroy(s);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * all of it */

/* Ways of dense layers that the recipe leaves. */
static unsigned ways_of(const thaw_recipe *r)
{
    return r->tune == TUNE_LIBRARY ? EXEC_ONLY(WAY_LIBRARY)
           : r->winograd           ? EXEC_ANY_WAY
                                   : EXEC_ANY_WAY & ~EXEC_ONLY(WAY_WINOGRAD);
}

thaw_status job_open(job **out, const thaw_recipe *recipe, const thaw_run_options *options,
                     const char *weights, unsigned needs)
{
    const exec_ops *ops = recipe->executor;
    thaw_status status = THAW_OK;
    job *j = thaw__new(1, sizeof *j);

    if (!j)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a run");
    j->recipe = recipe;
    j->options = options;
    j->saves = true;
    j->threads = options->threads > 0 ? options->threads : os_processors();
    if (options->executor) {
        ops = exec_find(options->executor);
        if (!ops) {
            status = thaw_fail(THAW_E_USAGE, "unknown executor '%s'; there are 'dnn' and 'ref'",
                               options->executor);
            goto done;
        }
    }
    if (needs & JOB_DATA)
        THAW_TRY(open_data(j));
    THAW_TRY(open_model(j, weights));
    THAW_TRY(job_schedule(&j->schedule, recipe, j->model->tree, j->train ? j->train->n : 1));
    if (needs & JOB_EXEC)
        THAW_TRY(exec_open(&j->exec, ops, j->params, j->threads));
    if (j->exec) {
        exec_set_sums(j->exec, recipe->double_sums);
        exec_set_ways(j->exec, ways_of(recipe));
    }
    THAW_TRY(tune_take(j, weights));
    THAW_TRY(tune_take(j, recipe->folder));
    *out = j;
    j = NULL;
done:
    job_close(j);
    return status;
}

void job_close(job *j)
{
    if (!j)
        return;
    exec_close(j->exec);
    thaw_schedule_destroy(j->schedule);
    params_destroy(j->params);
    model_destroy(j->model);
    dataset_destroy(j->test);
    dataset_destroy(j->valid);
    dataset_destroy(j->train);
    if (j->source)
        (void)pthread_mutex_destroy(&j->source->turn);
    thaw__free(j->source);
    thaw__free(j->recomputes);
    thaw__free(j->budget);
    thaw__free(j->pieces);
    thaw__free(j->targets);
    thaw__free(j->load_note);
    text_done(&j->tune_note);
    thaw__free(j);
}
