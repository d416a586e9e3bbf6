/*
 * predict.c - a network at work: files of pictures in, classes with probabilities out.
 *
 * Pictures become images as the model's folder says (preprocessor_config.json), else as the recipe
 * of the run it lies in does in evaluation. A file that cannot be read spoils only its own answer.
 */
#include "train/toml.h"
#include "train/train.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define TOGETHER 32 /* pictures of a batch */

struct thaw_predictor {
    thaw_recipe *recipe;
    job *job;
    plans plans;
    crew *crew;
    picture_recipe fit;
    loader_options loading;
    size_t image_bytes;
    char *images;             /* [TOGETHER] of image_bytes */
    int32_t labels[TOGETHER]; /* the plan's loss wants targets: zeros */
    int64_t ids[TOGETHER];
    char *trouble[TOGETHER]; /* why a file could not be read; NULL: it was */
    const char *const *file; /* of the batch at work */
};

static const thaw_run_options no_options;

static thaw_status fail_memory(void)
{
    return thaw_fail(THAW_E_NOMEM, "out of memory for predicting");
}

/* ----------------------------------------------------------------------------------------------
 * opening */

/* The recipe that does nothing but name the network. */
static thaw_status recipe_of_model(thaw_recipe **out, const char *folder)
{
    text source = TEXT_INIT;
    thaw_status status;

    text_add(&source, "[model]\npath = ");
    toml_add_string(&source, folder, strlen(folder));
    text_add(&source, "\n[data]\nformat = 'callback'\n[[phase]]\nsteps = 1\n");
    if (source.failed)
        status = fail_memory();
    else
        status = thaw_recipe_parse(out, source.data, source.length, folder, ".", NULL, 0);
    text_done(&source);
    return status;
}

/* Sizes and normalisation: those of the run's recipe where there is one, else the usual ones; the
 * folder's own file goes over both. */
static thaw_status find_fit(thaw_predictor *p, const model_place *at)
{
    static const double mean[3] = {0.485, 0.456, 0.406}, std[3] = {0.229, 0.224, 0.225};
    const model_config *const c = &p->job->model->config;
    thaw_recipe *run = NULL;
    preprocess own = {0};
    thaw_status status = THAW_OK;

    p->fit = (picture_recipe)PICTURE_RECIPE_INIT;
    p->fit.shorter_side = 0;
    p->loading = (loader_options)LOADER_OPTIONS_INIT;
    if (c->channels == 3) {
        memcpy(p->loading.mean, mean, sizeof mean);
        memcpy(p->loading.std, std, sizeof std);
        p->loading.n_mean = 3;
    }
    if (at->recipe) {
        THAW_TRY(thaw_recipe_load(&run, at->recipe, NULL, 0));
        p->loading = evaluation_loading(run);
    }
    if (os_kind_of(at->weights) == OS_FOLDER)
        THAW_TRY(preprocess_read(&own, at->weights));
    if (own.found)
        preprocess_apply(&p->fit, &p->loading, &own);
    p->fit.height = c->height;
    p->fit.width = c->width;
    p->fit.channels = (int)c->channels;
    if (p->fit.shorter_side < THAW_MAX(c->height, c->width))
        p->fit.shorter_side = 0;
    p->loading.real = p->recipe->real;
    if (c->height < 1 || c->width < 1 || (c->channels != 1 && c->channels != 3))
        status = thaw_fail(
            THAW_E_SUPPORT, "'%s' takes no pictures: its images are %lld x %lld with %lld channels",
            at->weights, (long long)c->height, (long long)c->width, (long long)c->channels);
    else
        status = picture_recipe_check(&p->fit);
done:
    thaw_recipe_destroy(run);
    return status;
}

static thaw_status make_room(thaw_predictor *p)
{
    const size_t pixels = (size_t)p->fit.height * (size_t)p->fit.width; /* checked by the recipe */

    if (!size_mul(&p->image_bytes, pixels, (size_t)p->fit.channels * dtype_size(p->recipe->real)))
        return thaw_fail(THAW_E_RANGE, "images of %lld x %lld are too large",
                         (long long)p->fit.width, (long long)p->fit.height);
    p->images = thaw__new(TOGETHER, p->image_bytes);
    if (!p->images)
        return fail_memory();
    return crew_create(&p->crew, p->job->threads);
}

thaw_status thaw_predictor_open(thaw_predictor **out, const char *path,
                                const thaw_run_options *options)
{
    thaw_predictor *p = thaw__new(1, sizeof *p);
    model_place at = {0};
    thaw_status status;

    if (!p)
        return fail_memory();
    THAW_TRY(model_place_find(&at, path));
    if (!at.weights) {
        status = thaw_fail(THAW_E_MISSING,
                           "'%s' has no weights; give a model folder, a checkpoint, or a run that "
                           "has a best/ folder",
                           path);
        goto done;
    }
    THAW_TRY(recipe_of_model(&p->recipe, at.weights));
    THAW_TRY(job_open(&p->job, p->recipe, options ? options : &no_options, NULL, JOB_EXEC));
    THAW_TRY(find_fit(p, &at));
    THAW_TRY(make_room(p));
    *out = p;
    p = NULL;
done:
    model_place_done(&at);
    thaw_predictor_close(p);
    return status;
}

void thaw_predictor_close(thaw_predictor *p)
{
    if (!p)
        return;
    plans_done(&p->plans);
    crew_destroy(p->crew);
    job_close(p->job);
    thaw_recipe_destroy(p->recipe);
    thaw__free(p->images);
    thaw__free(p);
}

/* ----------------------------------------------------------------------------------------------
 * answering */

/* On a thread of the crew: one file's image, or why there is none. */
static void load_file(void *user, int worker, int64_t i)
{
    thaw_predictor *const p = user;
    char *const image = p->images + (size_t)i * p->image_bytes;

    (void)worker;
    p->trouble[i] = NULL;
    if (os_kind_of(p->file[i]) == OS_FOLDER)
        (void)thaw_fail(THAW_E_DATA, "'%s' is a folder: name the pictures in it", p->file[i]);
    else if (picture_load(image, p->file[i], &p->fit, &p->loading) == THAW_OK)
        return;
    memset(image, 0, p->image_bytes);
    p->trouble[i] = thaw__strdup(thaw_error());
}

static double output_at(const void *output, dtype real, size_t i)
{
    return real == DTYPE_F64 ? ((const double *)output)[i] : (double)((const float *)output)[i];
}

/* The likeliest classes, best first: softmax over the outputs of row i. */
static void rank(thaw_prediction *out, const thaw_predictor *p, const void *output, size_t row)
{
    const model_config *const c = &p->job->model->config;
    const size_t K = (size_t)c->n_classes;
    double most = -HUGE_VAL, sum = 0;

    for (size_t k = 0; k < K; k++)
        most = fmax(most, output_at(output, p->recipe->real, row * K + k));
    for (size_t k = 0; k < K; k++)
        sum += exp(output_at(output, p->recipe->real, row * K + k) - most);
    for (size_t k = 0; k < K; k++) {
        const double share = exp(output_at(output, p->recipe->real, row * K + k) - most) / sum;
        int at = out->n_top;

        while (at > 0 && out->top[at - 1].probability < share)
            at--;
        if (at == THAW_PREDICT_TOP)
            continue;
        out->n_top = THAW_MIN(out->n_top + 1, THAW_PREDICT_TOP);
        memmove(&out->top[at + 1], &out->top[at], (size_t)(out->n_top - 1 - at) * sizeof *out->top);
        out->top[at].number = (int)k;
        out->top[at].name = (int)k < c->n_labels ? c->label[k] : NULL;
        out->top[at].probability = share;
    }
}

static bool answer(const thaw_predictor *p, const void *output, int i, thaw_predict_fn *on_file,
                   void *user)
{
    thaw_prediction out = {.file = p->file[i], .error = p->trouble[i], .value = (double)NAN};

    if (!out.error && p->job->model->config.regression)
        out.value = output_at(output, p->recipe->real, (size_t)i);
    else if (!out.error)
        rank(&out, p, output, (size_t)i);
    return on_file(user, &out);
}

static thaw_status run_some(thaw_predictor *p, int n, bool *go_on, thaw_predict_fn *on_file,
                            void *user)
{
    const batch b = {
        .n = n, .images = p->images, .labels = p->labels, .ids = p->ids, .n_images = n};
    const plan_entry *e;
    const void *output;

    crew_run(p->crew, n, load_file, p);
    THAW_CHECK(plans_get(&e, &p->plans, p->job, NULL, n, NULL));
    THAW_CHECK(run_batch(e, p->job, &b, false));
    output = exec_read(e->session, e->plan->results.output);
    for (int i = 0; i < n && *go_on; i++)
        *go_on = answer(p, output, i, on_file, user);
    return THAW_OK;
}

thaw_status thaw_predict(thaw_predictor *p, const char *const *files, size_t n,
                         thaw_predict_fn *on_file, void *user)
{
    thaw_status status = THAW_OK;
    bool go_on = true;

    for (size_t at = 0; at < n && go_on && status == THAW_OK; at += TOGETHER) {
        const int some = (int)THAW_MIN(n - at, (size_t)TOGETHER);

        p->file = files + at;
        status = run_some(p, some, &go_on, on_file, user);
        for (int i = 0; i < some; i++) {
            thaw__free(p->trouble[i]);
            p->trouble[i] = NULL;
        }
    }
    return status;
}
