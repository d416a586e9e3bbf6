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

/* What loading finds. */
typedef struct loading {
    const weights_match *match;
    text problems; /* each makes loading fail */
    int n_problems;
    text note; /* for people */
    bool new_head;
} loading;

static void note_problem(loading *x)
{
    text_add(&x->problems, x->n_problems++ > 0 ? "\n" : "");
}

/* Start one more remark of the note. */
static void begin_note(loading *x)
{
    text_add(&x->note, x->note.length ? "; " : "");
}

static void missing_name(loading *x, int i)
{
    note_problem(x);
    text_addf(&x->problems, "%s: '", x->match->file->path);
    match_add_name(&x->problems, x->match, i);
    text_add(&x->problems, "' is missing");
    match_add_near(&x->problems, x->match, i);
}

static void wrong_shape(loading *x, const model_tensor *t, const bundle_entry *e)
{
    char have[128], want[128];

    shape_format(have, &e->shape);
    shape_format(want, &t->shape);
    if (t->head) {
        begin_note(x);
        text_addf(&x->note, "'%s' is %s in the file and %s here: it starts anew", e->name, have,
                  want);
        return;
    }
    note_problem(x);
    text_addf(&x->problems, "%s: '%s' is %s in the file, but the network's is %s",
              x->match->file->path, e->name, have, want);
}

static thaw_status load_tensor(loading *x, params *p, int i)
{
    const model_tensor *const t = &x->match->model->tensor[i];
    const bundle_entry *const e = x->match->entry[i];

    if (t->head && x->new_head)
        return THAW_OK;
    if (!e && t->dtype == DTYPE_I64)
        return THAW_OK; /* counters of norms: older files lack them, and nothing depends on their
                           value */
    if (!e)
        missing_name(x, i);
    else if (!shape_equal(&e->shape, &t->shape))
        wrong_shape(x, t, e);
    else {
        THAW_CHECK(bundle_read(p->item[i].data, p->item[i].dtype, x->match->file, e));
        params_touch(p, i);
    }
    return THAW_OK;
}

#define SHOWN_LEFTOVERS 5

static void note_leftovers(loading *x)
{
    int n = 0;

    for (int i = 0; i < x->match->file->n; i++) {
        if (x->match->used[i])
            continue;
        if (n == 0)
            begin_note(x);
        if (n < SHOWN_LEFTOVERS)
            text_addf(&x->note, "%s'%s'", n ? ", " : "not used: ", x->match->file->entry[i].name);
        n++;
    }
    if (n > SHOWN_LEFTOVERS)
        text_addf(&x->note, " and %d more", n - SHOWN_LEFTOVERS);
}

static void note_origin(loading *x)
{
    const pth_file *const pth = x->match->file->pth;

    if (pth && pth->taken_from) {
        begin_note(x);
        text_addf(&x->note, "taken from '%s'", pth->taken_from);
    }
    if (x->new_head) {
        begin_note(x);
        text_addf(&x->note, "the head '%s' starts anew", x->match->model->head);
    }
}

thaw_status weights_load(char **note, params *p, model *m, const char *path, bool new_head)
{
    loading x = {.new_head = new_head};
    weights_match *match = NULL;
    thaw_status status;

    THAW_TRY(match_open(&match, m, path));
    x.match = match;
    note_origin(&x);
    for (int i = 0; i < m->n_tensors; i++)
        THAW_TRY(load_tensor(&x, p, i));
    if (x.n_problems > 0) {
        status = thaw_fail(THAW_E_SHAPE, "%s", x.problems.data ? x.problems.data : "out of memory");
        goto done;
    }
    note_leftovers(&x);
    if (note)
        THAW_TRY(text_take(note, &x.note, "the account of the loaded weights"));
    match_keep_form(m, match);
done:
    text_done(&x.problems);
    text_done(&x.note);
    match_close(match);
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

/* One tensor as it leaves: its name in the naming the weights came in, its elements in their type.
 */
static thaw_status foreign_source(st_source *s, thaw_region *region, const model_config *c)
{
    text name = TEXT_INIT;
    size_t n = 0;
    void *data;

    model_name_in(&name, c, c->naming, s->name);
    s->name = name.failed ? NULL : region_strdup(region, name.data);
    text_done(&name);
    if (!s->name)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the names of tensors");
    if (!dtype_is_float(s->dtype) || dtype_size(c->stored) >= dtype_size(s->dtype) ||
        dtype_size(c->stored) > 2)
        return THAW_OK;
    THAW_CHECK(shape_elements(&n, &s->shape));
    data = region_alloc(region, THAW_MAX(n, 1), dtype_size(c->stored));
    if (!data)
        return thaw_fail(THAW_E_NOMEM, "out of memory for tensor '%s'", s->name);
    THAW_CHECK(tensor_convert(data, c->stored, s->data, s->dtype, n));
    s->data = data;
    s->dtype = c->stored;
    return THAW_OK;
}

thaw_status weights_as_loaded(st_source **out, thaw_region *region, const st_source *from, int n,
                              const model_config *c)
{
    st_source *s = region_alloc(region, (size_t)n, sizeof *s);

    if (!s)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a list of %d tensors", n);
    for (int i = 0; i < n; i++) {
        s[i] = from[i];
        THAW_CHECK(foreign_source(&s[i], region, c));
    }
    *out = s;
    return THAW_OK;
}
