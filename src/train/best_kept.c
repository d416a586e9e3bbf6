/*
 * best_kept.c - best weights that a run has had and that best/ lacks are put there again.
 *
 * A full disk, or a kill between two files, may have kept them out. Which step's they are is part
 * of the run's state, and so is their metric; whatever still has the weights of that step will do:
 * the trainer itself, the phase's best ones, the step's checkpoint, which is kept for this.
 */
#include "train/train.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

/* The step that best/model.safetensors says its weights are of; -1: none. */
static int64_t iteration_of(const st_file *f)
{
    json_t *root = NULL;
    const char *words = NULL;
    int64_t n = -1;

    if (f->metadata && json_parse(&root, f->metadata, strlen(f->metadata), f->path) == THAW_OK)
        words = json_string_value(json_object_get(root, "iteration"));
    if (!words || !parse_int64(&n, words))
        n = -1;
    json_decref(root);
    return n;
}

/* Those of a later step are there when a run was killed before it could save that step: it will
 * come to them again. */
static bool is_there(const trainer *t)
{
    char *folder = os_path(t->options->run, "best");
    char *weights = folder ? os_path(folder, "model.safetensors") : NULL;
    char *config = folder ? os_path(folder, "config.json") : NULL;
    st_file *f = NULL;
    bool there = false;

    if (weights && config && os_kind_of(config) == OS_FILE && st_open(&f, weights) == THAW_OK)
        there = iteration_of(f) >= t->state.best_iteration;
    st_close(f);
    thaw__free(config);
    thaw__free(weights);
    thaw__free(folder);
    return there;
}

/* The weights of a step's checkpoint, where they are those that had the best metric: the end of a
 * phase may have taken others back after its evaluation. */
static thaw_status read_checkpoint(params_snapshot **out, const trainer *t, const char *path)
{
    char *weights = os_path(path, "model.safetensors");
    params_snapshot *snapshot = NULL;
    run_state then = RUN_STATE_INIT;
    st_file *f = NULL;
    thaw_status status = THAW_OK;

    if (!weights) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for the path of a checkpoint");
        goto done;
    }
    THAW_TRY(ckpt_verify(path));
    THAW_TRY(state_peek(&then, path));
    if (then.iteration != t->state.best_iteration || then.last_metric != t->state.best) {
        status = thaw_fail(THAW_E_MISSING, "the weights in '%s' are others", path);
        goto done;
    }
    THAW_TRY(st_open(&f, weights));
    THAW_TRY(params_snapshot_take(&snapshot, t->job->params, false));
    THAW_TRY(snapshot_read(snapshot, t->job->params, f));
    *out = snapshot;
    snapshot = NULL;
done:
    params_snapshot_destroy(snapshot);
    thaw__free(then.fired);
    st_close(f);
    thaw__free(weights);
    return status;
}

static thaw_status find_checkpoint_of_best(params_snapshot **out, const trainer *t)
{
    char *folder = os_path(t->options->run, "checkpoints"), *path = NULL;
    thaw_status status = THAW_OK;

    if (folder)
        path = ckpt_path(folder, (ckpt_id){.step = t->state.best_iteration});
    if (!path)
        status = thaw_fail(THAW_E_NOMEM, "out of memory for the path of a checkpoint");
    else if (os_kind_of(path) == OS_ABSENT)
        status = thaw_fail(THAW_E_MISSING, "no checkpoint has them");
    else
        status = read_checkpoint(out, t, path);
    thaw__free(path);
    thaw__free(folder);
    return status;
}

void best_put_back(trainer *t)
{
    const run_state *s = &t->state;
    const bool in_phase = t->phase_weights && s->phase_best_iteration == s->best_iteration;
    params_snapshot *read = NULL;
    thaw_status status = THAW_OK;

    if (!t->saver || isnan(s->best) || is_there(t))
        return;
    if (!in_phase && (s->iteration != s->best_iteration || s->last_metric != s->best))
        status = find_checkpoint_of_best(&read, t);
    if (status == THAW_OK) {
        save_best_of(t, in_phase ? t->phase_weights : read);
        save_wait(t);
        if (is_there(t))
            text_addf(&t->note, "best/ has the best weights again, those of step %lld\n",
                      (long long)s->best_iteration);
    } else {
        text_addf(&t->note, "best/ lacks the best weights, those of step %lld: %s\n",
                  (long long)s->best_iteration, thaw_error());
    }
    params_snapshot_destroy(read);
}
