/*
 * save.c - checkpoints and best weights, written beside training.
 *
 * At a save everything that the files will hold and that may change is copied, which takes as long
 * as copying memory does; a thread then writes and commits it while training goes on. Frozen
 * weights are written from where they are. One save is under way at
 * a time: the next one waits for it, and so does a change of the phase state, so that what has been
 * left behind is on disk before anything is frozen or thawed. What became of a save is told at the
 * next step boundary. A failed one leaves the older checkpoints as they were, and training goes on.
 *
 * Nothing that is learned depends on any of this: the writer reads nothing but its own copy.
 */
#include "train/train.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define ERROR_MOST 1024
#define ALIGNMENT  ((size_t)64)

/* Copies of tensors, one after the other; the next save uses the memory again. */
typedef struct room {
    st_source *tensor;
    int n;
    char *data;
    size_t size;
} room;

/* One of the two things a save may write, and what became of it. */
typedef struct part {
    bool wanted;
    thaw_status status;
    char error[ERROR_MOST];
} part;

struct saver {
    char *checkpoints, *best_folder, *parked_file;
    int keep, history_fd;
    const char *recipe; /* resolved */
    const model_config *network;

    /* what is to be written; the thread's alone while it runs */
    part checkpoint, best;
    int64_t iteration, best_iteration; /* of the checkpoint, of the best weights */
    room weights, moments, phase_best;
    thaw_region *names; /* of the moments */
    bool with_parked, with_phase_best;
    text state, config, history, provenance, metadata; /* metadata: of the best weights */
    text preprocess; /* PREPROCESS_NAME; empty: the data are no pictures */
    text tune;       /* TUNE_NAME; empty: kernels are the table's */
    ckpt_id *protect;
    int n_protect;

    pthread_t thread;
    bool running;
    atomic_bool finished;
    bool best_lost; /* the newest best weights are not in best/ … */
    bool best_held; /* … but their copy is still there */
};

/* ----------------------------------------------------------------------------------------------
 * copying */

static void room_done(room *r)
{
    thaw__free(r->tensor);
    thaw__free(r->data);
    *r = (room){0};
}

/* Tensors that nobody changes before the next change of effect, which waits for the writer. */
typedef struct steady {
    const bool *trainable; /* [n]; NULL: nothing trains yet */
    int n;                 /* of those beyond, buffers, each may change */
} steady;

static bool stays(const steady *s, int i)
{
    return s && (!s->trainable || (i < s->n && !s->trainable[i]));
}

static thaw_status room_size(size_t *out, const st_source *tensor, int n, const steady *s)
{
    size_t total = 0, bytes = 0;

    for (int i = 0; i < n; i++) {
        if (stays(s, i))
            continue;
        THAW_CHECK(shape_bytes(&bytes, &tensor[i].shape, tensor[i].dtype));
        if (!size_add(&total, total, bytes) || !size_add(&total, total, ALIGNMENT - 1))
            return thaw_fail(THAW_E_LIMIT, "the tensors of a checkpoint are too large together");
        total &= ~(ALIGNMENT - 1);
    }
    *out = total;
    return THAW_OK;
}

/* Takes a list of tensors, copies what they point to, and lets the list stand for the copies; but
 * for what is steady. */
static thaw_status room_hold(room *r, st_source *tensor, int n, const steady *s)
{
    size_t size = 0, at = 0, bytes = 0;

    thaw__free(r->tensor);
    r->tensor = tensor;
    r->n = n;
    THAW_CHECK(room_size(&size, tensor, n, s));
    if (size != r->size) {
        thaw__free(r->data);
        r->size = 0;
        r->data = thaw__alloc(size);
        if (!r->data)
            return thaw_fail(THAW_E_NOMEM, "out of memory for a copy of %zu bytes to save", size);
        r->size = size;
    }
    for (int i = 0; i < n; i++) {
        if (stays(s, i))
            continue;
        THAW_CHECK(shape_bytes(&bytes, &tensor[i].shape, tensor[i].dtype));
        memcpy(r->data + at, tensor[i].data, bytes);
        tensor[i].data = r->data + at;
        at = (at + bytes + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    }
    return THAW_OK;
}

/* From now on nothing stands for what may change. */
static thaw_status room_own(room *r)
{
    size_t size = 0, at = 0, bytes = 0;
    char *data;

    THAW_CHECK(room_size(&size, r->tensor, r->n, NULL));
    data = size == r->size ? r->data : thaw__alloc(size);
    if (!data)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a copy of %zu bytes to save", size);
    for (int i = 0; i < r->n && data != r->data; i++) {
        THAW_CHECK(shape_bytes(&bytes, &r->tensor[i].shape, r->tensor[i].dtype));
        memcpy(data + at, r->tensor[i].data, bytes);
        r->tensor[i].data = data + at;
        at = (at + bytes + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    }
    if (data != r->data)
        thaw__free(r->data);
    r->data = data;
    r->size = size;
    return THAW_OK;
}

static void hold_rows(saver *s, const trainer *t)
{
    text_done(&s->history);
    rows_print(&s->history, &t->history);
    text_done(&s->provenance);
    rows_print(&s->provenance, &t->provenance);
}

static thaw_status hold_weights(saver *s, const trainer *t, const params_snapshot *from)
{
    const steady present = {t->effect ? t->effect->trainable : NULL, t->job->params->n_trained};
    st_source *list = NULL;

    s->best_held = false;
    THAW_CHECK(weights_sources(&list, t->job->params, from));
    text_done(&s->config);
    model_config_print(&s->config, &t->job->model->config);
    hold_rows(s, t);
    return room_hold(&s->weights, list, t->job->params->n, from ? NULL : &present);
}

static thaw_status hold_moments(saver *s, const trainer *t)
{
    st_source *list = NULL;
    int n = 0;

    region_destroy(s->names);
    s->names = NULL;
    THAW_CHECK(region_create(&s->names));
    THAW_CHECK(moments_sources(&list, &n, s->names, t, false));
    return room_hold(&s->moments, list, n, NULL);
}

static thaw_status hold_phase_best(saver *s, const trainer *t)
{
    st_source *list = NULL;

    s->with_phase_best = t->phase_weights != NULL;
    if (!t->phase_weights) {
        room_done(&s->phase_best);
        return THAW_OK;
    }
    THAW_CHECK(weights_sources(&list, t->job->params, t->phase_weights));
    return room_hold(&s->phase_best, list, t->job->params->n, NULL);
}

/* Checkpoints that stay however old they are: those between phases, and the one of the best
 * weights. */
static thaw_status hold_protected(saver *s, const trainer *t)
{
    const thaw_progress now = {
        .iteration = t->state.iteration, .fired = t->state.fired, .n_fired = t->state.n_fired};
    const int n = thaw_schedule_n_phases(t->job->schedule);
    int64_t begin, end;

    thaw__free(s->protect);
    s->protect = thaw__new((size_t)n + 1, sizeof *s->protect);
    s->n_protect = 0;
    if (!s->protect)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a list of checkpoints");
    for (int p = 1; p < n && t->job->recipe->save_on_phase; p++) {
        thaw_schedule_phase_span(&begin, &end, t->job->schedule, &now, p);
        if (begin <= now.iteration)
            s->protect[s->n_protect++] = (ckpt_id){.step = begin};
    }
    s->protect[s->n_protect++] = (ckpt_id){.step = t->state.best_iteration};
    return THAW_OK;
}

static thaw_status hold_checkpoint(saver *s, const trainer *t)
{
    if (!s->best.wanted || s->best.status != THAW_OK) /* else they are held already */
        THAW_CHECK(hold_weights(s, t, NULL));
    s->iteration = t->state.iteration;
    THAW_CHECK(hold_moments(s, t));
    THAW_CHECK(hold_phase_best(s, t));
    THAW_CHECK(hold_protected(s, t));
    hold_rows(s, t);
    s->with_parked = t->job->recipe->save_parked && parked_any(t);
    text_done(&s->state);
    state_print(&s->state, t);
    text_done(&s->tune);
    if (t->job->tuned)
        tune_print(&s->tune, t->job);
    if (s->tune.failed || s->state.failed || s->config.failed || s->history.failed ||
        s->provenance.failed)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a checkpoint");
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * writing: on the thread, from the copies alone */

static ckpt_file text_file(const char *name, const text *t)
{
    return (ckpt_file){.name = name, .bytes = t->data, .size = t->length};
}

static ckpt_file tensor_file(const char *name, const room *r, const char *metadata)
{
    return (ckpt_file){
        .name = name, .tensor = r->tensor, .n_tensors = r->n, .metadata_json = metadata};
}

static thaw_status write_checkpoint(saver *s)
{
    ckpt_file file[11] = {
        tensor_file("model.safetensors", &s->weights, "{\"format\":\"pt\"}"),
        tensor_file("optimizer.safetensors", &s->moments, NULL),
        text_file("config.json", &s->config),
        text_file("state.json", &s->state),
        text_file(HISTORY_NAME, &s->history),
        text_file(PROVENANCE_NAME, &s->provenance),
        {.name = "recipe.toml", .bytes = s->recipe, .size = strlen(s->recipe)},
    };
    int n = 7;

    if (s->preprocess.length > 0)
        file[n++] = text_file(PREPROCESS_NAME, &s->preprocess);
    if (s->tune.length > 0)
        file[n++] = text_file(TUNE_NAME, &s->tune);
    if (s->with_parked)
        file[n++] = (ckpt_file){.name = PARKED_NAME, .link = s->parked_file};
    if (s->with_phase_best)
        file[n++] = tensor_file(PHASE_BEST_NAME, &s->phase_best, NULL);
    /* the checkpoint says how long the history was; without it, it is only shorter */
    if (s->history_fd >= 0 && os_sync(s->history_fd, EVENTS_NAME) != THAW_OK)
        s->history_fd = -1;
    THAW_CHECK(os_make_folders(s->checkpoints));
    THAW_CHECK(ckpt_commit(s->checkpoints, s->iteration, 0, file, n));
    ckpt_retain(s->checkpoints, s->keep, s->protect, s->n_protect);
    return THAW_OK;
}

static thaw_status put_best_weights(int fd, const char *name, const void *user)
{
    const saver *s = user;
    st_source *tensor = NULL;
    thaw_region *region = NULL;
    int n = 0;
    thaw_status status;

    THAW_TRY(region_create(&region));
    THAW_TRY(weights_as_loaded(&tensor, &n, region, s->weights.tensor, s->weights.n, s->network));
    THAW_TRY(st_write(fd, name, tensor, n, s->metadata.data));
done:
    region_destroy(region);
    return status;
}

/* The weights come last: where they are of the right step, the rest is there too. */
static thaw_status write_best(saver *s)
{
    THAW_CHECK(os_make_folders(s->best_folder));
    if (s->preprocess.length > 0)
        THAW_CHECK(os_replace_file(s->best_folder, PREPROCESS_NAME, s->preprocess.data,
                                   s->preprocess.length));
    THAW_CHECK(os_replace_file(s->best_folder, HISTORY_NAME, s->history.data, s->history.length));
    THAW_CHECK(
        os_replace_file(s->best_folder, PROVENANCE_NAME, s->provenance.data, s->provenance.length));
    THAW_CHECK(os_replace_file(s->best_folder, "config.json", s->config.data, s->config.length));
    return os_replace_with(s->best_folder, "model.safetensors", put_best_weights, s);
}

/* The text of a failure belongs to the thread in which it happened. */
static void note(part *p, thaw_status status)
{
    p->status = status;
    if (status != THAW_OK)
        (void)snprintf(p->error, sizeof p->error, "%s", thaw_error());
}

static void *write_all(void *user)
{
    saver *s = user;

    if (s->best.wanted && s->best.status == THAW_OK)
        note(&s->best, write_best(s));
    if (s->checkpoint.wanted && s->checkpoint.status == THAW_OK)
        note(&s->checkpoint, write_checkpoint(s));
    atomic_store(&s->finished, true);
    return NULL;
}

static void *write_beside(void *user)
{
    os_lower_priority();
    return write_all(user);
}

/*
 * Signals are for the thread that trains. Where there can be no thread, training waits. Steps are
 * done by threads that wait for each other: an equal beside them would hold up all of them, one
 * that comes second finds time enough between.
 */
static void start(saver *s, bool beside)
{
    sigset_t all, before;

    atomic_store(&s->finished, false);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    s->running = pthread_create(&s->thread, NULL, beside ? write_beside : write_all, s) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!s->running)
        (void)write_all(s);
}

/* ----------------------------------------------------------------------------------------------
 * telling */

static void tell_saved(trainer *t, const saver *s)
{
    char *path = ckpt_path(s->checkpoints, (ckpt_id){.step = s->iteration});
    thaw_event event = {.kind = THAW_EVENT_SAVE, .text = path};

    trainer_tell(t, &event);
    thaw__free(path);
}

static void tell_failed(trainer *t, const char *what, int64_t iteration, const part *p)
{
    thaw_event event = {.kind = THAW_EVENT_SAVE_FAILED};
    text words = TEXT_INIT;

    text_addf(&words, "%s of step %lld could not be saved: %s; training goes on", what,
              (long long)iteration, p->error);
    event.text = words.data ? words.data : p->error;
    trainer_tell(t, &event);
    text_done(&words);
}

/* The thread has ended: what it did is told, and a save that failed may be tried again. */
static void tell_outcome(trainer *t)
{
    saver *s = t->saver;

    if (s->best.wanted) {
        s->best_lost = s->best.status != THAW_OK;
        if (s->best_lost)
            tell_failed(t, "the best weights", s->best_iteration, &s->best);
    }
    if (s->checkpoint.wanted && s->checkpoint.status == THAW_OK) {
        tell_saved(t, s);
    } else if (s->checkpoint.wanted) {
        t->saved_iteration = -1;
        tell_failed(t, "the checkpoint", s->iteration, &s->checkpoint);
    }
    s->best.wanted = s->checkpoint.wanted = false;
}

static void end(trainer *t)
{
    if (t->saver->running)
        (void)pthread_join(t->saver->thread, NULL);
    t->saver->running = false;
    tell_outcome(t);
}

/* ----------------------------------------------------------------------------------------------
 * for the trainer */

bool save_pending(const trainer *t)
{
    return t->saver && (t->saver->best.wanted || t->saver->checkpoint.wanted);
}

static void begin(trainer *t, bool beside)
{
    if (!save_pending(t) || t->saver->running)
        return;
    start(t->saver, beside);
    if (!t->saver->running)
        end(t);
}

void save_begin(trainer *t)
{
    begin(t, true);
}

/* Weights may change now. Best ones that are still to be written have to be the saver's own. */
void save_wait(trainer *t)
{
    saver *s = t->saver;

    begin(t, false);
    if (s && s->running)
        end(t);
    if (s && s->best_held && (!s->best_lost || room_own(&s->weights) != THAW_OK))
        s->best_held = false;
}

void save_poll(trainer *t)
{
    if (t->saver && t->saver->running && atomic_load(&t->saver->finished))
        end(t);
}

static void print_metadata(saver *s, const trainer *t)
{
    text_done(&s->metadata);
    text_addf(&s->metadata, "{\"format\":\"pt\",\"iteration\":\"%lld\"",
              (long long)s->best_iteration);
    if (isfinite(t->state.best)) { /* else nobody has judged them */
        text_addf(&s->metadata, ",\"%s\":\"", t->job->train->target ? "rmse" : "accuracy");
        text_add_double(&s->metadata, t->state.best);
        text_add(&s->metadata, "\"");
    }
    text_add(&s->metadata, "}");
}

/* Training must not end because memory for a copy is short: that is a failed save like others. */
static void want(part *p, thaw_status status)
{
    note(p, status);
    p->wanted = true;
}

void save_best_of(trainer *t, const params_snapshot *from)
{
    saver *s = t->saver;
    thaw_status status;

    if (!s)
        return;
    s->best_held = false; /* older ones */
    save_wait(t);
    s->best_iteration = isnan(t->state.best) ? t->state.iteration : t->state.best_iteration;
    print_metadata(s, t);
    status = hold_weights(s, t, from);
    if (status == THAW_OK &&
        (s->metadata.failed || s->config.failed || s->history.failed || s->provenance.failed))
        status = thaw_fail(THAW_E_NOMEM, "out of memory for the best weights");
    s->best_held = status == THAW_OK;
    want(&s->best, status);
}

void save_best(trainer *t)
{
    save_best_of(t, NULL);
}

/* Before their copy makes room for others. */
static void try_best_again(trainer *t)
{
    saver *s = t->saver;

    if (!s->best_lost || s->best.wanted)
        return;
    if (s->best_held) {
        want(&s->best, THAW_OK);
        save_wait(t);
    } else {
        best_put_back(t);
    }
}

void save_checkpoint(trainer *t)
{
    saver *s = t->saver;

    if (!s)
        return;
    if (s->running)
        save_wait(t);
    try_best_again(t);
    want(&s->checkpoint, hold_checkpoint(s, t));
    t->saved_iteration = t->state.iteration;
    t->saved_at = os()->monotonic();
}

static bool is_saved(const trainer *t)
{
    return t->saved_iteration == t->state.iteration;
}

thaw_status save_last(trainer *t)
{
    saver *s = t->saver;

    if (!s)
        return THAW_OK;
    for (int tries = 0; tries < 2; tries++) {
        if (!is_saved(t))
            save_checkpoint(t);
        save_wait(t);
        try_best_again(t);
    }
    if (!is_saved(t))
        return thaw_fail(s->checkpoint.status,
                         "the last checkpoint, of step %lld, could not be saved: %s; a resume goes "
                         "on from the one before",
                         (long long)t->state.iteration, s->checkpoint.error);
    if (s->best_lost)
        return thaw_fail(s->best.status, "the best weights could not be saved: %s", s->best.error);
    return THAW_OK;
}

size_t save_copy_bytes(const job *j, int phase, const plan *p)
{
    const bool restores = phase >= 0 && j->recipe->phase[phase].options.until_restore;
    size_t bytes = p->grad_bytes; /* what trains; the rest is written from where it is */

    for (int i = j->params->n_trained; i < j->params->n; i++)
        if (!size_add(&bytes, bytes, j->params->item[i].bytes))
            return SIZE_MAX;
    if (restores && !size_add(&bytes, bytes, p->param_bytes))
        return SIZE_MAX;
    return size_add(&bytes, bytes, p->state_bytes) ? bytes : SIZE_MAX;
}

thaw_status saver_create(saver **out, const trainer *t)
{
    const char *run = t->options->run;
    saver *s = thaw__new(1, sizeof *s);

    if (!s)
        return thaw_fail(THAW_E_NOMEM, "out of memory for saving");
    s->checkpoints = os_path(run, "checkpoints");
    s->best_folder = os_path(run, "best");
    s->parked_file = parked_path(run);
    s->recipe = t->job->recipe->resolved;
    s->network = &t->job->model->config;
    s->keep = t->job->recipe->keep;
    s->history_fd = t->events_fd;
    if (recipe_has_pictures(t->job->recipe))
        preprocess_print(&s->preprocess, &t->job->recipe->pictures.recipe, &t->job->recipe->loader);
    if (!s->checkpoints || !s->best_folder || !s->parked_file || s->preprocess.failed) {
        saver_destroy(s);
        return thaw_fail(THAW_E_NOMEM, "out of memory for the paths of a run");
    }
    *out = s;
    return THAW_OK;
}

void saver_destroy(saver *s)
{
    if (!s)
        return;
    if (s->running)
        (void)pthread_join(s->thread, NULL);
    room_done(&s->weights);
    room_done(&s->moments);
    room_done(&s->phase_best);
    region_destroy(s->names);
    text_done(&s->state);
    text_done(&s->config);
    text_done(&s->metadata);
    text_done(&s->preprocess);
    text_done(&s->tune);
    text_done(&s->history);
    text_done(&s->provenance);
    thaw__free(s->protect);
    thaw__free(s->checkpoints);
    thaw__free(s->best_folder);
    thaw__free(s->parked_file);
    thaw__free(s);
}
