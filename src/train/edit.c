/*
 * edit.c - changing the phase state of a checkpoint by hand: a new checkpoint beside the old one,
 * with the same files by hard link, but for one edit more in its state.json.
 *
 * The old checkpoint is never touched. What the edit means is worked out first, on a schedule, so
 * that a mistake changes nothing on disk.
 */
#include "train/toml.h"
#include "train/train.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static thaw_status fail_memory(void)
{
    return thaw_fail(THAW_E_NOMEM, "out of memory for an edit");
}

/* ----------------------------------------------------------------------------------------------
 * which checkpoint */

typedef struct target {
    char checkpoint[PATH_MAX]; /* absolute */
    char folder[PATH_MAX];     /* of the checkpoints */
    char run[PATH_MAX];        /* where the lock lies */
    ckpt_id id;
    int lock;
} target;

/* Cut the last component off; it is returned. */
static const char *cut(char *path)
{
    char *slash = strrchr(path, '/');

    if (!slash || slash == path)
        return NULL;
    *slash = '\0';
    return slash + 1;
}

static thaw_status resolve(char out[PATH_MAX], const char *path)
{
    if (!realpath(path, out))
        return thaw_fail(THAW_E_MISSING, "'%s' is not there", path);
    return THAW_OK;
}

static thaw_status place_run(target *t, const char *path)
{
    char *inside = os_path(path, MANIFEST_NAME);
    const bool one = inside && os_kind_of(inside) == OS_FILE;
    const char *name;

    thaw__free(inside);
    THAW_CHECK(resolve(t->run, path));
    if (!one)
        return THAW_OK;
    (void)cut(t->run);
    name = strrchr(t->run, '/');
    if (name && strcmp(name, "/checkpoints") == 0)
        (void)cut(t->run);
    return THAW_OK;
}

static thaw_status find_target(target *t, text *notes, const char *path)
{
    char *found = NULL;
    const char *name;
    thaw_status status;

    THAW_TRY(find_checkpoint(&found, notes, path));
    if (!found) {
        status = thaw_fail(THAW_E_MISSING, "'%s' has no checkpoint to edit", path);
        goto done;
    }
    THAW_TRY(resolve(t->checkpoint, found));
    memcpy(t->folder, t->checkpoint, sizeof t->folder);
    name = cut(t->folder);
    if (!name || !ckpt_id_of(&t->id, name)) {
        status = thaw_fail(THAW_E_USAGE,
                           "'%s' is not called like a checkpoint, such as step-000120; an edit "
                           "could not be told from it",
                           found);
        goto done;
    }
    THAW_TRY(ckpt_verify(t->checkpoint));
done:
    thaw__free(found);
    return status;
}

/* The edit's number, and whether resuming would take up another checkpoint than that one. */
static thaw_status next_edit(ckpt_id *out, bool *newer, const target *t)
{
    ckpt_id *id = NULL;
    int n = 0;

    *out = t->id;
    *newer = false;
    THAW_CHECK(ckpt_list(&id, &n, t->folder));
    for (int i = 0; i < n; i++) {
        if (id[i].step == t->id.step)
            out->edit = THAW_MAX(out->edit, id[i].edit);
        *newer = *newer || id[i].step > t->id.step;
    }
    thaw__free(id);
    if (out->edit == INT_MAX)
        return thaw_fail(THAW_E_LIMIT, "'%s' has been edited too often", t->checkpoint);
    out->edit++;
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * what the edit says */

static const toml_value *find_alias(const toml_document *d, const char *name)
{
    const toml_value *const aliases = toml_get(d->root, "aliases");

    return aliases && aliases->type == TOML_TABLE ? toml_get(aliases, name) : NULL;
}

static thaw_status add_pattern(run_edit *e, size_t *capacity, const char *pattern)
{
    THAW_CHECK(
        thaw__reserve(&e->pattern, capacity, (size_t)e->n_patterns + 1, sizeof(*e->pattern)));
    e->pattern[e->n_patterns++] = pattern;
    return THAW_OK;
}

/* Aliases of the recipe replaced by what they stand for. The texts are borrowed. */
static thaw_status expand_patterns(run_edit *e, const toml_document *d, const char *const *patterns,
                                   int n)
{
    size_t capacity = 0;

    for (int i = 0; i < n; i++) {
        const toml_value *const alias = find_alias(d, patterns[i]);

        if (!alias)
            THAW_CHECK(add_pattern(e, &capacity, patterns[i]));
        else if (alias->type == TOML_STRING)
            THAW_CHECK(add_pattern(e, &capacity, alias->string));
        for (const toml_value *v = alias ? alias->first : NULL; v; v = v->next)
            THAW_CHECK(add_pattern(e, &capacity, v->string));
    }
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * committing */

static thaw_status commit(const target *t, ckpt_id id, const char *state)
{
    manifest *m = NULL;
    ckpt_file *file = NULL;
    thaw_status status;

    THAW_TRY(manifest_read(&m, t->checkpoint));
    file = thaw__new((size_t)m->n, sizeof *file);
    if (!file) {
        status = fail_memory();
        goto done;
    }
    for (int i = 0; i < m->n; i++) {
        file[i].name = m->file[i].name;
        if (strcmp(file[i].name, "state.json") == 0) {
            file[i].bytes = state;
            file[i].size = strlen(state);
            continue;
        }
        file[i].link = os_path(t->checkpoint, file[i].name);
        if (!file[i].link) {
            status = fail_memory();
            goto done;
        }
    }
    THAW_TRY(ckpt_commit(t->folder, id.step, id.edit, file, m->n));
done:
    for (int i = 0; file && i < m->n; i++)
        thaw__free((void *)(uintptr_t)file[i].link);
    thaw__free(file);
    manifest_destroy(m);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * all of it */

static void tell_changes(text *out, const thaw_tree *tree, const thaw_effect *before,
                         const thaw_effect *after)
{
    int64_t frozen = 0, thawed = 0, rated = 0;
    char number[32];

    for (int p = 0; p < tree->n_params; p++) {
        const int64_t n = tree->param[p].numel;

        if (before->trainable[p] != after->trainable[p])
            *(after->trainable[p] ? &thawed : &frozen) += n;
        else if (after->trainable[p] && before->lr_scale[p] != after->lr_scale[p])
            rated += n;
    }
    if (frozen + thawed + rated == 0)
        text_add(out, "nothing changes for now: the layers were so already\n");
    if (frozen > 0)
        text_addf(out, "%s parameters freeze\n", format_count(number, frozen));
    if (thawed > 0)
        text_addf(out, "%s parameters thaw\n", format_count(number, thawed));
    if (rated > 0)
        text_addf(out, "%s parameters get another rate\n", format_count(number, rated));
}

static void tell_use(text *out, const outlook *o, bool newer)
{
    const thaw_progress now = outlook_now(o);
    int64_t begin, end;

    thaw_schedule_phase_span(&begin, &end, o->schedule, &now,
                             thaw_schedule_n_phases(o->schedule) - 1);
    if (now.iteration >= end)
        text_add(out, "the run is over: no step is left for it to act in\n");
    else if (newer)
        text_add(out, "the run has checkpoints of later steps: resuming goes on from those\n");
}

/* Record the edit in the schedule, which checks it, and tell what it changes. */
static thaw_status try_edit(text *out, const outlook *o, const run_edit *e)
{
    const thaw_progress now = outlook_now(o);
    const thaw_effect *before, *after;

    THAW_CHECK(thaw_schedule_effect(&before, o->schedule, &now));
    THAW_CHECK(edit_apply(o->schedule, e));
    THAW_CHECK(thaw_schedule_effect(&after, o->schedule, &now));
    tell_changes(out, o->model->tree, before, after);
    return THAW_OK;
}

static thaw_status edit_target(text *out, const target *t, run_edit *e, const char *const *patterns,
                               int n)
{
    outlook *o = NULL;
    toml_document *d = NULL;
    char *state = NULL, *path = NULL;
    text changes = TEXT_INIT;
    ckpt_id id;
    bool newer;
    thaw_status status;

    THAW_TRY(outlook_open(&o, t->checkpoint));
    THAW_TRY(toml_parse(&d, o->recipe->resolved, strlen(o->recipe->resolved), o->recipe->name));
    THAW_TRY(expand_patterns(e, d, patterns, n));
    e->iteration = o->record->iteration;
    THAW_TRY(try_edit(&changes, o, e));
    THAW_TRY(next_edit(&id, &newer, t));
    THAW_TRY(record_with_edit(&state, t->checkpoint, e));
    path = ckpt_path(t->folder, id);
    if (!path) {
        status = fail_memory();
        goto done;
    }
    THAW_TRY(commit(t, id, state));
    text_addf(out, "committed '%s'\n%s", path, changes.data ? changes.data : "");
    tell_use(out, o, newer);
done:
    text_done(&changes);
    thaw__free(path);
    thaw__free(state);
    toml_destroy(d);
    outlook_close(o);
    return status;
}

thaw_status thaw_edit(char **out, const char *path, thaw_edit_kind kind, double coefficient,
                      const char *const *patterns, int n)
{
    target *t = thaw__new(1, sizeof *t);
    run_edit e = {.kind = kind, .coefficient = coefficient};
    text words = TEXT_INIT;
    thaw_status status;

    if (!t)
        return fail_memory();
    t->lock = -1;
    if (n < 1) {
        status = thaw_fail(THAW_E_USAGE, "an edit needs at least one layer pattern");
        goto done;
    }
    THAW_TRY(place_run(t, path));
    if (os_kind_of(t->run) != OS_FOLDER) {
        status = thaw_fail(THAW_E_MISSING, "'%s' is no run or checkpoint folder", path);
        goto done;
    }
    THAW_TRY(ckpt_lock(&t->lock, t->run));
    THAW_TRY(find_target(t, &words, path));
    THAW_TRY(edit_target(&words, t, &e, patterns, n));
    THAW_TRY(text_take(out, &words, "what an edit did"));
done:
    if (t->lock >= 0)
        os_close(t->lock);
    thaw__free(e.pattern);
    text_done(&words);
    thaw__free(t);
    return status;
}
