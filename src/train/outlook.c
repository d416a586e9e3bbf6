/*
 * outlook.c - opens what a path holds for looking at its phases: a recipe, a run, a checkpoint or a
 * model folder.
 *
 * A checkpoint knows its network, its recipe, how many samples it was trained on and its edits, so
 * neither weights nor data are touched; a recipe alone has to open its data, whose size says where
 * phases counted in epochs lie.
 */
#include "train/train.h"

#include <math.h>
#include <string.h>

static const thaw_run_options no_options;

static thaw_status fail_memory(void)
{
    return thaw_fail(THAW_E_NOMEM, "out of memory for looking at phases");
}

/* Whether a folder has a file of that name. */
static thaw_status holds(bool *out, const char *folder, const char *name)
{
    char *path = os_path(folder, name);

    if (!path)
        return fail_memory();
    *out = os_kind_of(path) == OS_FILE;
    thaw__free(path);
    return THAW_OK;
}

thaw_status find_checkpoint(char **out, text *notes, const char *path)
{
    char *folder = NULL;
    bool is_checkpoint = false;
    ckpt_id id;
    thaw_status status;

    *out = NULL;
    if (os_kind_of(path) == OS_ABSENT)
        return thaw_fail(THAW_E_MISSING, "'%s' is not there", path);
    THAW_CHECK(holds(&is_checkpoint, path, MANIFEST_NAME));
    if (is_checkpoint) {
        *out = thaw__strdup(path);
        return *out ? THAW_OK : fail_memory();
    }
    folder = os_path(path, "checkpoints");
    if (!folder)
        return fail_memory();
    status = ckpt_newest(&id, notes, folder);
    if (status == THAW_OK) {
        *out = ckpt_path(folder, id);
        status = *out ? THAW_OK : fail_memory();
    } else if (status == THAW_E_MISSING) {
        status = THAW_OK;
    }
    thaw__free(folder);
    return status;
}

static thaw_status open_recipe(outlook *o, const char *path)
{
    THAW_CHECK(thaw_recipe_load(&o->recipe, path, NULL, 0));
    THAW_CHECK(job_open(&o->job, o->recipe, &no_options, NULL, JOB_DATA));
    o->model = o->job->model;
    o->schedule = o->job->schedule;
    return THAW_OK;
}

static thaw_status open_model(outlook *o, const char *place)
{
    model_config config;

    THAW_CHECK(model_place_config(&config, place));
    THAW_CHECK(model_create(&o->own_model, &config, DTYPE_F32));
    o->model = o->own_model;
    return THAW_OK;
}

/* A network by itself: its weights are accounted for, where there are any. */
static thaw_status open_place(outlook *o, const char *place)
{
    THAW_CHECK(open_model(o, place));
    if (os_kind_of(place) == OS_FOLDER && !bundle_in_folder(place))
        return THAW_OK;
    o->weights = thaw__strdup(place);
    return o->weights ? THAW_OK : fail_memory();
}

/* Files of weights are told from recipes by their names. */
static bool names_weights(const char *path)
{
    static const char *const suffix[] = {".safetensors", ".pth", ".pt", ".bin"};
    const size_t n = strlen(path);

    for (size_t i = 0; i < THAW_COUNT(suffix); i++)
        if (n > strlen(suffix[i]) && strcmp(path + n - strlen(suffix[i]), suffix[i]) == 0)
            return true;
    return false;
}

static thaw_status open_checkpoint(outlook *o)
{
    char *recipe = os_path(o->checkpoint, "recipe.toml");
    thaw_status status;

    if (!recipe)
        return fail_memory();
    THAW_TRY(record_read(&o->record, o->checkpoint));
    THAW_TRY(thaw_recipe_load(&o->recipe, recipe, NULL, 0));
    THAW_TRY(open_model(o, o->checkpoint));
    if (o->record->samples == 0) {
        status = thaw_fail(THAW_E_SUPPORT,
                           "'%s' does not say how many samples it was trained on; resume the run "
                           "with this version first",
                           o->checkpoint);
        goto done;
    }
    THAW_TRY(job_schedule(&o->own_schedule, o->recipe, o->model->tree, o->record->samples));
    THAW_TRY(record_apply(o->record, o->own_schedule));
    o->schedule = o->own_schedule;
done:
    thaw__free(recipe);
    return status;
}

static thaw_status open_folder(outlook *o, const char *path)
{
    bool has_recipe = false, has_config = false;
    char *recipe = NULL;
    thaw_status status;

    THAW_TRY(find_checkpoint(&o->checkpoint, NULL, path));
    THAW_TRY(holds(&has_recipe, path, "recipe.toml"));
    THAW_TRY(holds(&has_config, path, "config.json"));
    if (o->checkpoint) {
        THAW_TRY(open_checkpoint(o));
    } else if (has_recipe) {
        recipe = os_path(path, "recipe.toml");
        status = recipe ? open_recipe(o, recipe) : fail_memory();
    } else if (has_config || bundle_in_folder(path)) {
        THAW_TRY(open_place(o, path));
    } else {
        status = thaw_fail(THAW_E_MISSING,
                           "'%s' is no run, checkpoint or model folder: it has neither recipe.toml "
                           "nor config.json",
                           path);
    }
done:
    thaw__free(recipe);
    return status;
}

thaw_status outlook_open(outlook **out, const char *path)
{
    outlook *o = thaw__new(1, sizeof *o);
    thaw_status status;

    if (!o)
        return fail_memory();
    if (os_kind_of(path) == OS_ABSENT)
        status = thaw_fail(THAW_E_MISSING, "'%s' is not there", path);
    else
        status = (os_kind_of(path) == OS_FOLDER ? open_folder
                  : names_weights(path)         ? open_place
                                                : open_recipe)(o, path);
    if (status == THAW_OK)
        *out = o;
    else
        outlook_close(o);
    return status;
}

void outlook_close(outlook *o)
{
    if (!o)
        return;
    thaw_schedule_destroy(o->own_schedule);
    model_destroy(o->own_model);
    job_close(o->job);
    thaw_recipe_destroy(o->recipe);
    record_destroy(o->record);
    thaw__free(o->checkpoint);
    thaw__free(o->weights);
    thaw__free(o);
}

thaw_progress outlook_now(const outlook *o)
{
    return o->record ? record_progress(o->record) : (thaw_progress){0};
}

int outlook_phase(const outlook *o)
{
    const thaw_progress now = outlook_now(o);

    return o->record ? thaw_schedule_phase_at(o->schedule, &now) : -1;
}

thaw_status outlook_effect(const thaw_effect **out, const outlook *o, int phase, bool at_end)
{
    const int present = outlook_phase(o);
    thaw_progress at = outlook_now(o);
    int64_t begin, end;

    thaw_schedule_phase_span(&begin, &end, o->schedule, &at, phase);
    if (at_end || phase < present)
        at.iteration = THAW_MAX(begin, end - 1);
    else if (phase > present)
        at.iteration = begin;
    return thaw_schedule_effect(out, o->schedule, &at);
}

double outlook_rate(const outlook *o, const thaw_effect *effect)
{
    return o->recipe->phase[effect->built_phase].lr;
}
