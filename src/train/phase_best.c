/*
 * phase_best.c - the best weights of a phase that takes them back at its end: kept in memory while
 * the phase runs, and in its checkpoints, so that a resume has them too.
 */
#include "train/train.h"

static bool restores(const trainer *t)
{
    return t->phase >= 0 && t->job->recipe->phase[t->phase].options.until_restore;
}

thaw_status phase_best_keep(trainer *t)
{
    if (!restores(t))
        return THAW_OK;
    THAW_CHECK(params_snapshot_take(&t->phase_weights, t->job->params, false));
    t->state.phase_best_iteration = t->state.iteration;
    return THAW_OK;
}

bool phase_best_restore(trainer *t)
{
    const bool older = t->phase_weights && t->state.phase_best_iteration < t->state.iteration;

    if (older) {
        save_wait(t); /* it reads what is frozen by now */
        params_snapshot_restore(t->phase_weights, t->job->params);
    }
    params_snapshot_destroy(t->phase_weights);
    t->phase_weights = NULL;
    return older;
}

thaw_status snapshot_read(params_snapshot *to, const params *p, const st_file *f)
{
    for (int i = 0; i < p->n; i++) {
        const st_entry *e = st_find(f, p->item[i].name);

        if (!e || !shape_equal(&e->shape, &p->item[i].shape))
            return thaw_fail(THAW_E_CORRUPT, "'%s': '%s' is missing or has another shape", f->path,
                             p->item[i].name);
        THAW_CHECK(st_read(params_snapshot_room(to, i), p->item[i].dtype, f, e));
    }
    return THAW_OK;
}

thaw_status phase_best_load(trainer *t, const char *checkpoint)
{
    char *path = os_path(checkpoint, PHASE_BEST_NAME);
    st_file *f = NULL;
    thaw_status status = THAW_OK;

    if (!path)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the path of a checkpoint");
    if (os_kind_of(path) == OS_ABSENT)
        goto done;
    THAW_TRY(st_open(&f, path));
    THAW_TRY(params_snapshot_take(&t->phase_weights, t->job->params, false));
    THAW_TRY(snapshot_read(t->phase_weights, t->job->params, f));
done:
    st_close(f);
    thaw__free(path);
    return status;
}
