/*
 * api.c - the public functions: what <thaw/thaw.h> promises, in terms of jobs and trainers.
 */
#include "train/train.h"

#include "train/features.h"

#include <math.h>
#include <string.h>

const char *thaw_version(void)
{
    return THAW_VERSION;
}

const char *thaw_kernels(void)
{
    static _Thread_local char words[128];

    exec_describe(words, exec_find("dnn"));
    return words;
}

thaw_status thaw_event_json(char **out, const thaw_event *event)
{
    text t = TEXT_INIT;

    event_print_json(&t, event);
    return text_take(out, &t, "an event");
}

/* ----------------------------------------------------------------------------------------------
 * run folders */

typedef struct run_folder {
    const char *path;
    char *recipe; /* path/recipe.toml */
    char *checkpoints;
    int lock;
} run_folder;
#define RUN_FOLDER_INIT                                                                            \
    {                                                                                              \
        .lock = -1                                                                                 \
    }

static thaw_status name_folder(run_folder *f, const char *path)
{
    f->path = path;
    f->recipe = os_path(path, "recipe.toml");
    f->checkpoints = os_path(path, "checkpoints");
    if (!f->recipe || !f->checkpoints)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the paths of a run");
    return THAW_OK;
}

static void leave_folder(run_folder *f)
{
    if (f->lock >= 0)
        os_close(f->lock);
    thaw__free(f->recipe);
    thaw__free(f->checkpoints);
}

static thaw_status begin_folder(run_folder *f, const thaw_recipe *recipe, const char *path)
{
    THAW_CHECK(name_folder(f, path));
    if (os_kind_of(f->recipe) != OS_ABSENT)
        return thaw_fail(
            THAW_E_CREATE,
            "'%s' holds a run already; go on with 'thaw resume %s', or choose another folder", path,
            path);
    THAW_CHECK(os_make_folders(path));
    THAW_CHECK(ckpt_lock(&f->lock, path));
    return os_replace_file(path, "recipe.toml", recipe->resolved, strlen(recipe->resolved));
}

static const thaw_run_options no_options;

thaw_status thaw_train(const thaw_recipe *recipe, const thaw_run_options *options)
{
    run_folder folder = RUN_FOLDER_INIT;
    trainer *t = NULL;
    job *j = NULL;
    thaw_status status;

    options = options ? options : &no_options;
    THAW_TRY(job_open(&j, recipe, options, NULL, JOB_DATA | JOB_EXEC));
    THAW_TRY(trainer_create(&t, j)); /* refuses what does not fit before there is a folder */
    if (options->run)
        THAW_TRY(begin_folder(&folder, recipe, options->run));
    if (options->run)
        THAW_TRY(events_open(t, options->run));
    THAW_TRY(trainer_run(t));
done:
    trainer_destroy(t);
    job_close(j);
    leave_folder(&folder);
    return status;
}

/* Path of the newest checkpoint that verifies; NULL when the run has none yet. Reasons of skipped
 * ones go to `notes`. */
static thaw_status newest_checkpoint(char **out, text *notes, const run_folder *f)
{
    ckpt_id id;
    thaw_status status = ckpt_newest(&id, notes, f->checkpoints);

    *out = NULL;
    if (status == THAW_E_MISSING)
        return THAW_OK;
    if (status == THAW_E_CORRUPT) /* a person decides whether all of the work is done again */
        status = thaw_fail(status, "%s; to start from the beginning, move '%s' away", thaw_error(),
                           f->checkpoints);
    if (status != THAW_OK)
        return status;
    *out = ckpt_path(f->checkpoints, id);
    return *out ? THAW_OK : thaw_fail(THAW_E_NOMEM, "out of memory for the path of a checkpoint");
}

thaw_status thaw_resume(const thaw_run_options *options)
{
    run_folder folder = RUN_FOLDER_INIT;
    thaw_recipe *recipe = NULL;
    text notes = TEXT_INIT;
    char *checkpoint = NULL;
    trainer *t = NULL;
    job *j = NULL;
    thaw_status status;

    if (!options || !options->run)
        return thaw_fail(THAW_E_USAGE, "resuming needs the folder of a run");
    THAW_TRY(name_folder(&folder, options->run));
    if (os_kind_of(folder.recipe) == OS_ABSENT) {
        status = thaw_fail(THAW_E_MISSING, "'%s' holds no run: there is no recipe.toml in it",
                           options->run);
        goto done;
    }
    THAW_TRY(ckpt_lock(&folder.lock, options->run));
    THAW_TRY(thaw_recipe_load(&recipe, folder.recipe, options->sets, options->n_sets));
    THAW_TRY(newest_checkpoint(&checkpoint, &notes, &folder));
    THAW_TRY(job_open(&j, recipe, options, checkpoint, JOB_DATA | JOB_EXEC));
    THAW_TRY(trainer_create(&t, j));
    text_add(&t->note, notes.data ? notes.data : "");
    if (checkpoint) {
        THAW_TRY(state_load(t, checkpoint));
        text_addf(&t->note, "going on from '%s'\n", checkpoint);
    } else {
        text_add(&t->note, "the run has no checkpoint yet: it starts from the beginning\n");
    }
    if (options->n_sets > 0)
        THAW_TRY(os_replace_file(options->run, "recipe.toml", recipe->resolved,
                                 strlen(recipe->resolved)));
    THAW_TRY(events_open(t, options->run));
    THAW_TRY(trainer_run(t));
done:
    trainer_destroy(t);
    job_close(j);
    thaw__free(checkpoint);
    thaw_recipe_destroy(recipe);
    leave_folder(&folder);
    text_done(&notes);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * looking */

void model_place_done(model_place *p)
{
    thaw__free(p->weights);
    thaw__free(p->recipe);
}

static thaw_status keep_path(char **out, const char *path)
{
    *out = thaw__strdup(path);
    return *out ? THAW_OK : thaw_fail(THAW_E_NOMEM, "out of memory for a path");
}

thaw_status model_place_find(model_place *p, const char *path)
{
    run_folder f = RUN_FOLDER_INIT;
    char *best = os_path(path, "best"), *config = os_path(path, "config.json");
    text notes = TEXT_INIT;
    thaw_status status = THAW_OK;

    THAW_TRY(name_folder(&f, path));
    if (!best || !config) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for a path");
        goto done;
    }
    if (os_kind_of(path) == OS_ABSENT) {
        status = thaw_fail(THAW_E_MISSING, "'%s' is not there", path);
        goto done;
    }
    if (os_kind_of(f.recipe) == OS_FILE)
        THAW_TRY(keep_path(&p->recipe, f.recipe));
    if (os_kind_of(config) == OS_FILE || os_kind_of(path) == OS_FILE)
        THAW_TRY(keep_path(&p->weights, path));
    else if (os_kind_of(best) == OS_FOLDER)
        THAW_TRY(keep_path(&p->weights, best));
    else
        THAW_TRY(newest_checkpoint(&p->weights, &notes, &f));
    if (!p->weights)
        status =
            thaw_fail(THAW_E_MISSING,
                      "'%s' is no run, checkpoint or model folder: it has neither recipe.toml nor "
                      "config.json",
                      path);
done:
    thaw__free(best);
    thaw__free(config);
    text_done(&notes);
    leave_folder(&f);
    return status;
}

/* A copy of the names of all classes, in one block; none where some have no name. */
static thaw_status copy_names(const char ***out, const model_config *c)
{
    const size_t n = (size_t)c->n_classes, pointers = n * sizeof **out;
    size_t bytes = pointers;
    char *block, *at;

    if (c->n_labels < c->n_classes)
        return THAW_OK;
    for (size_t i = 0; i < n; i++)
        bytes += strlen(c->label[i]) + 1;
    block = thaw__new(bytes, 1);
    if (!block)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the names of %zu classes", n);
    *out = (const char **)(void *)block;
    at = block + pointers;
    for (size_t i = 0; i < n; i++) {
        const size_t length = strlen(c->label[i]) + 1;

        (*out)[i] = memcpy(at, c->label[i], length);
        at += length;
    }
    return THAW_OK;
}

static thaw_status evaluate_job(thaw_eval_result *result, job *j, const char *split)
{
    dataset *d = job_split(j, split);
    thaw_eval_result r = {.n_classes = (int)j->model->config.n_classes};
    plans cache = {0};
    eval_sums sums;
    thaw_status status;

    if (!d && strcmp(split, "train") != 0 && strcmp(split, "valid") != 0 &&
        strcmp(split, "test") != 0)
        return thaw_fail(THAW_E_USAGE, "unknown split '%s'; there are 'train', 'valid' and 'test'",
                         split);
    if (!d)
        return thaw_fail(THAW_E_MISSING, "the recipe has no '%s' images; set 'data.%s'", split,
                         split);
    r.confusion = thaw__new((size_t)r.n_classes * (size_t)r.n_classes, sizeof *r.confusion);
    if (!r.confusion)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a confusion matrix of %d classes",
                         r.n_classes);
    THAW_TRY(copy_names(&r.class_name, &j->model->config));
    THAW_TRY(evaluate(&sums, r.confusion, &cache, j, d, NULL));
    r.n = sums.n;
    r.loss = sums.loss;
    r.accuracy = d->target ? NAN : (double)sums.hits / (double)sums.n;
    r.top5 = d->target || r.n_classes <= NEAR_HITS ? NAN : (double)sums.near / (double)sums.n;
    r.rmse = d->target ? sqrt(sums.squared / (double)sums.n) : NAN;
    r.mae = d->target ? sums.absolute / (double)sums.n : NAN;
    r.baseline = d->label ? dataset_majority(d) : 0;
    r.seconds = sums.seconds;
    *result = r;
    r.confusion = NULL;
    r.class_name = NULL;
done:
    plans_done(&cache);
    thaw_eval_done(&r);
    return status;
}

thaw_status thaw_eval(thaw_eval_result *result, const char *path, const thaw_recipe *recipe,
                      const char *split, const thaw_run_options *options)
{
    thaw_recipe *own = NULL;
    model_place p = {0};
    job *j = NULL;
    thaw_status status = THAW_OK;

    options = options ? options : &no_options;
    if (path)
        THAW_TRY(model_place_find(&p, path));
    if (!recipe && !p.recipe) {
        status = thaw_fail(THAW_E_USAGE, "evaluating '%s' needs a recipe that names the data",
                           path ? path : "");
        goto done;
    }
    if (!recipe)
        THAW_TRY(thaw_recipe_load(&own, p.recipe, NULL, 0));
    THAW_TRY(job_open(&j, recipe ? recipe : own, options, p.weights, JOB_DATA | JOB_EXEC));
    THAW_TRY(evaluate_job(result, j, split));
done:
    job_close(j);
    thaw_recipe_destroy(own);
    model_place_done(&p);
    return status;
}

void thaw_eval_done(thaw_eval_result *result)
{
    thaw__free(result->confusion);
    thaw__free(result->class_name);
    result->confusion = NULL;
    result->class_name = NULL;
}

thaw_status thaw_plan(char **out, const thaw_recipe *recipe, const thaw_run_options *options,
                      bool steps, bool json)
{
    text t = TEXT_INIT;
    job *j = NULL;
    thaw_status status;

    options = options ? options : &no_options;
    THAW_TRY(job_open(&j, recipe, options, NULL, JOB_DATA | JOB_EXEC));
    THAW_TRY(plan_view(&t, j, steps, json));
    THAW_TRY(text_take(out, &t, "the view of a plan"));
done:
    text_done(&t);
    job_close(j);
    return status;
}

thaw_status thaw_show(char **out, const char *path, bool json)
{
    outlook *o = NULL;
    text t = TEXT_INIT;
    thaw_status status;

    THAW_TRY(outlook_open(&o, path));
    THAW_TRY(show_view(&t, o, json));
    THAW_TRY(text_take(out, &t, "the view of a network"));
done:
    text_done(&t);
    outlook_close(o);
    return status;
}

static thaw_status open_phases(outlook **out, const char *path)
{
    THAW_CHECK(outlook_open(out, path));
    if (!(*out)->schedule)
        return thaw_fail(THAW_E_USAGE,
                         "'%s' is a network without phases; compare recipes, runs or "
                         "checkpoints",
                         path);
    return THAW_OK;
}

thaw_status thaw_diff(char **out, bool *differ, const char *a, const char *b, bool json)
{
    outlook *of_a = NULL, *of_b = NULL;
    text t = TEXT_INIT;
    bool found = false;
    thaw_status status;

    THAW_TRY(open_phases(&of_a, a));
    THAW_TRY(open_phases(&of_b, b));
    THAW_TRY(diff_view(&t, &found, of_a, of_b, json));
    THAW_TRY(text_take(out, &t, "what two phase states differ in"));
    *differ = found;
done:
    text_done(&t);
    outlook_close(of_a);
    outlook_close(of_b);
    return status;
}
