/*
 * weights.c - start values: random ones, and those of a model folder, with a plain account of what
 * did not fit.
 *
 * Names must agree. A head of another size is replaced and said so; anything else missing or of
 * another shape is an error that lists every difference, with near names, before a step is trained.
 */
#include "train/train.h"

#include <string.h>

void weights_start(params *p, const model *m, const thaw_recipe *recipe)
{
    for (int i = 0; i < m->n_tensors; i++) {
        const model_tensor *t = &m->tensor[i];

        if (t->bound > 0)
            params_init_uniform(p, i, (uint64_t)recipe->seed, t->bound);
        else if (t->dtype != DTYPE_I64)
            params_fill(p, i, t->fill);
    }
    if (recipe->init_by_name)
        params_init_by_name(p);
}

/* What came of matching a file's names with the network's. */
typedef struct matching {
    const bundle *file;
    const model *model;
    text problems; /* each makes loading fail */
    int n_problems;
    text note; /* for people */
    bool new_head;
    int loaded;
} matching;

static void note_problem(matching *x)
{
    text_add(&x->problems, x->n_problems++ > 0 ? "\n" : "");
}

static void missing_name(matching *x, const model_tensor *t)
{
    const char **names = thaw__new((size_t)x->file->n, sizeof *names);

    note_problem(x);
    text_addf(&x->problems, "%s: '%s' is missing", x->file->path, t->name);
    if (!names)
        return;
    for (int i = 0; i < x->file->n; i++)
        names[i] = x->file->entry[i].name;
    text_add_near(&x->problems, t->name, names, (size_t)x->file->n, 1);
    thaw__free(names);
}

static void wrong_shape(matching *x, const model_tensor *t, const bundle_entry *e)
{
    char have[128], want[128];

    shape_format(have, &e->shape);
    shape_format(want, &t->shape);
    if (t->head) {
        text_addf(&x->note, "%s'%s' is %s in the file and %s here: it starts anew",
                  x->note.length ? "; " : "", t->name, have, want);
        return;
    }
    note_problem(x);
    text_addf(&x->problems, "%s: '%s' is %s in the file, but the network's is %s", x->file->path,
              t->name, have, want);
}

static thaw_status load_tensor(matching *x, params *p, int i)
{
    const model_tensor *t = &x->model->tensor[i];
    const bundle_entry *e = bundle_find(x->file, t->name);

    if (t->head && x->new_head)
        return THAW_OK;
    if (!e && t->dtype == DTYPE_I64)
        return THAW_OK; /* counters of norms: older files lack them, and nothing depends on their
                           value */
    if (!e) {
        missing_name(x, t);
        return THAW_OK;
    }
    if (!shape_equal(&e->shape, &t->shape)) {
        wrong_shape(x, t, e);
        return THAW_OK;
    }
    THAW_CHECK(bundle_read(p->item[i].data, p->item[i].dtype, x->file, e));
    params_touch(p, i);
    x->loaded++;
    return THAW_OK;
}

#define SHOWN_LEFTOVERS 5

static void note_leftovers(matching *x, const params *p)
{
    int n = 0;

    for (int i = 0; i < x->file->n; i++) {
        if (params_find(p, x->file->entry[i].name) >= 0)
            continue;
        if (n < SHOWN_LEFTOVERS)
            text_addf(&x->note, "%s'%s'",
                      n                ? ", "
                      : x->note.length ? "; not used: "
                                       : "not used: ",
                      x->file->entry[i].name);
        n++;
    }
    if (n > SHOWN_LEFTOVERS)
        text_addf(&x->note, " and %d more", n - SHOWN_LEFTOVERS);
}

thaw_status weights_load(char **note, params *p, const model *m, const char *path, bool new_head)
{
    matching x = {.model = m, .new_head = new_head};
    bundle *file = NULL;
    thaw_status status;

    THAW_TRY(bundle_open(&file, path));
    x.file = file;
    if (file->pth && file->pth->taken_from)
        text_addf(&x.note, "taken from '%s'", file->pth->taken_from);
    if (new_head)
        text_addf(&x.note, "%sthe head '%s' starts anew", x.note.length ? "; " : "", m->head);
    for (int i = 0; i < m->n_tensors; i++)
        THAW_TRY(load_tensor(&x, p, i));
    if (x.n_problems > 0) {
        status = thaw_fail(THAW_E_SHAPE, "%s", x.problems.data ? x.problems.data : "out of memory");
        goto done;
    }
    note_leftovers(&x, p);
    if (note)
        THAW_TRY(text_take(note, &x.note, "the account of the loaded weights"));
done:
    text_done(&x.problems);
    text_done(&x.note);
    bundle_close(file);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * writing */

thaw_status weights_sources(st_source **out, const params *p, const params_snapshot *from)
{
    st_source *s = thaw__new((size_t)p->n, sizeof *s);

    if (!s)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a list of %d tensors", p->n);
    for (int i = 0; i < p->n; i++)
        s[i] = (st_source){.name = p->item[i].name,
                           .dtype = p->item[i].dtype,
                           .shape = p->item[i].shape,
                           .data = from ? params_snapshot_data(from, i) : p->item[i].data};
    *out = s;
    return THAW_OK;
}
