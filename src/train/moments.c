/*
 * moments.c - optimizer state as named tensors of files: what a checkpoint holds, and what is
 * parked, which is state of frozen layers that leaves memory.
 *
 * Parked state lies in one file of the run's folder, written anew by a change of phase and never
 * changed, so a checkpoint takes it over by a link. Without a run folder it stays in memory: what
 * is learned must not depend on where a run is kept.
 */
#include "train/train.h"

#include <stdio.h>
#include <string.h>

/* "layer1.0.conv1.weight.exp_avg" */
static char *name_moment(thaw_region *names, const param *item, const char *state)
{
    const size_t size = strlen(item->name) + strlen(state) + 2;
    char *name = region_alloc(names, size, 1);

    if (name)
        (void)snprintf(name, size, "%s.%s", item->name, state);
    return name;
}

thaw_status moments_sources(st_source **out, int *n, thaw_region *names, const trainer *t,
                            bool parked)
{
    const params *p = t->job->params;
    st_source *s = thaw__new((size_t)p->n_trained * PARAM_MAX_STATE, sizeof *s);
    int count = 0;

    if (!s)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a list of optimizer state");
    for (int i = 0; i < p->n_trained; i++)
        for (int k = 0; k < p->item[i].n_state && p->item[i].in_file == parked; k++) {
            const param *item = &p->item[i];
            const char *name = name_moment(names, item, t->job->recipe->rule->state_name[k]);

            if (!name) {
                thaw__free(s);
                return thaw_fail(THAW_E_NOMEM, "out of memory for the names of optimizer state");
            }
            s[count++] = (st_source){
                .name = name, .dtype = item->dtype, .shape = item->shape, .data = item->state[k]};
        }
    *out = s;
    *n = count;
    return THAW_OK;
}

static int n_state(const trainer *t)
{
    return t->job->recipe->rule->n_state(&t->hyper);
}

static thaw_status load_moment(params *p, const st_file *f, int i, int k, const char *state)
{
    char name[1024];
    const st_entry *e;

    (void)snprintf(name, sizeof name, "%s.%s", p->item[i].name, state);
    e = st_find(f, name);
    if (!e || !shape_equal(&e->shape, &p->item[i].shape))
        return thaw_fail(THAW_E_CORRUPT,
                         "'%s': optimizer state '%s' is missing or has another shape", f->path,
                         name);
    return st_read(p->item[i].state[k], p->item[i].dtype, f, e);
}

thaw_status moments_load(trainer *t, const st_file *f, int i)
{
    params *p = t->job->params;
    thaw_status status;

    THAW_TRY(params_hold_state(p, i, n_state(t)));
    for (int k = 0; k < p->item[i].n_state; k++)
        THAW_TRY(load_moment(p, f, i, k, t->job->recipe->rule->state_name[k]));
done:
    if (status != THAW_OK)
        params_release_state(p, i);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * parking */

static bool is_away(const trainer *t, int i)
{
    const param *item = &t->job->params->item[i];

    return item->in_file && item->n_state == 0 && n_state(t) > 0;
}

bool parked_any(const trainer *t)
{
    for (int i = 0; i < t->job->params->n_trained; i++)
        if (is_away(t, i))
            return true;
    return false;
}

char *parked_path(const char *folder)
{
    return os_path(folder, PARKED_NAME);
}

/* Whether this effect wakes what is away, or sends more there: then the file is made anew. */
static bool moves(const trainer *t, const thaw_effect *effect)
{
    const params *p = t->job->params;

    for (int i = 0; i < p->n_trained; i++)
        if (effect->updated[i] ? is_away(t, i)
                               : effect->on_freeze == THAW_ON_FREEZE_PARK && !p->item[i].parked &&
                                     p->item[i].n_state > 0)
            return true;
    return false;
}

thaw_status parked_take_up(trainer *t, const thaw_effect *effect)
{
    char *path = NULL;
    st_file *f = NULL;
    thaw_status status = THAW_OK;

    if (!parked_any(t) || !moves(t, effect))
        return THAW_OK;
    path = parked_path(t->options->run);
    if (!path)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the path of parked state");
    THAW_TRY(st_open(&f, path));
    for (int i = 0; i < t->job->params->n_trained; i++)
        if (is_away(t, i))
            THAW_TRY(moments_load(t, f, i));
done:
    st_close(f);
    thaw__free(path);
    return status;
}

static thaw_status write_parked(int fd, const char *name, const void *user)
{
    st_source *s = NULL;
    thaw_region *names = NULL;
    thaw_status status;
    int n;

    THAW_TRY(region_create(&names));
    THAW_TRY(moments_sources(&s, &n, names, user, true));
    THAW_TRY(st_write(fd, name, s, n, NULL));
done:
    thaw__free(s);
    region_destroy(names);
    return status;
}

thaw_status parked_put_away(trainer *t)
{
    params *p = t->job->params;
    int n = 0;

    for (int i = 0; i < p->n_trained; i++)
        n += p->item[i].in_file && p->item[i].n_state > 0;
    if (n == 0 || !t->options->run)
        return THAW_OK;
    THAW_CHECK(os_replace_with(t->options->run, PARKED_NAME, write_parked, t));
    for (int i = 0; i < p->n_trained; i++)
        if (p->item[i].in_file)
            params_release_state(p, i);
    return THAW_OK;
}
