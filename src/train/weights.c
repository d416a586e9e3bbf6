/*
 * weights.c - start values: random ones, and those of a model folder, with a plain account of what
 * did not fit.
 *
 * Names must agree. A head of another size is replaced and said so; anything else missing or of
 * another shape is an error that lists every difference, with near names, before a step is trained.
 */
#include "train/train.h"

#include <string.h>

void weights_start(params *p, const model *m, const thaw_recipe *recipe, const bool *loaded)
{
    for (int i = 0; i < m->n_tensors; i++) {
        const model_tensor *t = &m->tensor[i];

        if (loaded && loaded[i])
            continue;
        if (recipe->init_by_name && i < p->n_trained)
            params_init_by_name(p, i);
        else if (t->bound > 0)
            params_init_uniform(p, i, (uint64_t)recipe->seed, t->bound);
        else if (t->dtype != DTYPE_I64)
            params_fill(p, i, t->fill);
    }
}

/* What loading finds. */
typedef struct loading {
    const weights_match *match;
    text problems; /* each makes loading fail */
    int n_problems;
    text note;                 /* for people */
    bool new_head, head_noted; /* nothing of it is taken from the file */
    bool *loaded;              /* NULL: nobody asks */
} loading;

static void note_problem(loading *x)
{
    text_add(&x->problems, x->n_problems++ > 0 ? "\n" : "");
}

/* Start one more remark of the note, each on its line. */
static void begin_note(loading *x)
{
    text_add(&x->note, x->note.length ? "\n" : "");
}

static void missing_name(loading *x, int i)
{
    note_problem(x);
    text_addf(&x->problems, "%s: '", x->match->file->path);
    match_add_name(&x->problems, x->match, i);
    text_add(&x->problems, "' is missing");
    match_add_near(&x->problems, x->match, i);
}

/* Once for weights and biases of a head for other classes. */
static void note_head(loading *x, const bundle_entry *e, const char *have, const char *want)
{
    if (x->head_noted)
        return;
    x->head_noted = true;
    begin_note(x);
    text_addf(&x->note, "the head starts anew: '%s' is %s in the file, and %s here", e->name, have,
              want);
}

static void wrong_shape(loading *x, const model_tensor *t, const bundle_entry *e)
{
    char have[128], want[128];

    shape_format(have, &e->shape);
    shape_format(want, &t->shape);
    if (t->head) {
        note_head(x, e, have, want);
        return;
    }
    note_problem(x);
    text_addf(&x->problems, "%s: '%s' is %s in the file, but the network's is %s",
              x->match->file->path, e->name, have, want);
}

/* The entry's elements as `to`, in memory to be freed. */
static thaw_status read_whole(void **out, dtype to, const loading *x, const bundle_entry *e)
{
    thaw_status status = THAW_OK;
    void *whole;
    size_t n;

    THAW_CHECK(shape_elements(&n, &e->shape));
    whole = thaw__new(THAW_MAX(n, 1), dtype_size(to));
    if (!whole)
        return thaw_fail(THAW_E_NOMEM, "out of memory for tensor '%s'", e->name);
    status = bundle_read(whole, to, x->match->file, e);
    if (status == THAW_OK)
        *out = whole;
    else
        thaw__free(whole);
    return status;
}

static thaw_status load_part(const loading *x, param *to, const bundle_entry *e, model_part part)
{
    void *whole = NULL;

    if (part.count == 1)
        return bundle_read(to->data, to->dtype, x->match->file, e);
    THAW_CHECK(read_whole(&whole, to->dtype, x, e));
    memcpy(to->data, (const char *)whole + (size_t)part.index * to->bytes, to->bytes);
    thaw__free(whole);
    return THAW_OK;
}

/* Position embeddings of another image size. */
static thaw_status load_positions(loading *x, param *to, const model_tensor *t,
                                  const bundle_entry *e)
{
    const int64_t side = model_positions_side(t, &e->shape);
    double *made = thaw__new(to->elements, sizeof *made);
    void *stored = NULL;
    thaw_status status;

    if (!made)
        return thaw_fail(THAW_E_NOMEM, "out of memory for tensor '%s'", e->name);
    THAW_TRY(read_whole(&stored, DTYPE_F64, x, e));
    model_resize_positions(made, t->grid, stored, side, t->shape.dim[2]);
    THAW_TRY(tensor_convert(to->data, to->dtype, made, DTYPE_F64, to->elements));
    begin_note(x);
    text_addf(&x->note,
              "'%s' is for %lld x %lld patches in the file and for %lld x %lld here: interpolated "
              "(bicubic)",
              e->name, (long long)side, (long long)side, (long long)t->grid[0],
              (long long)t->grid[1]);
done:
    thaw__free(stored);
    thaw__free(made);
    return status;
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
    else if (match_fits(x->match, i)) {
        THAW_CHECK(load_part(x, &p->item[i], e, x->match->part[i]));
        params_touch(p, i);
    } else if (model_positions_side(t, &e->shape) > 0) {
        THAW_CHECK(load_positions(x, &p->item[i], t, e));
        params_touch(p, i);
    } else {
        wrong_shape(x, t, e);
        return THAW_OK;
    }
    if (x->loaded)
        x->loaded[i] = e != NULL;
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
        text_addf(&x->note, "the head '%s' starts anew%s", x->match->model->head,
                  match_without_head(x->match) ? ": the file has none" : "");
    }
}

thaw_status weights_load(char **note, bool *loaded, params *p, model *m, const char *path,
                         head_wish head)
{
    loading x = {.loaded = loaded};
    weights_match *match = NULL;
    thaw_status status;

    THAW_TRY(match_open(&match, m, path));
    x.match = match;
    if (head == HEAD_OF_FILE && match_without_head(match)) {
        status = thaw_fail(THAW_E_SHAPE,
                           "'%s' has no head ('%s'), so it tells no classes apart yet: train it "
                           "first, with a recipe as `thaw init` writes it",
                           path, m->head);
        goto done;
    }
    x.new_head = head == HEAD_NEW || (head == HEAD_IF_THERE && match_without_head(match));
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

/* The tensor of this name among the first n; NULL: none. */
static st_source *find_source(st_source *s, int n, const char *name)
{
    for (int i = n - 1; i >= 0; i--)
        if (strcmp(s[i].name, name) == 0)
            return &s[i];
    return NULL;
}

/* Put a part into the tensor that holds all of them, made with the first. */
static thaw_status join_part(st_source *s, int *n, st_source of, model_part part,
                             thaw_region *region)
{
    st_source *whole = find_source(s, *n, of.name);
    size_t bytes = 0;

    THAW_CHECK(shape_bytes(&bytes, &of.shape, of.dtype));
    if (!whole) {
        void *data = region_alloc(region, bytes, (size_t)part.count);

        if (!data)
            return thaw_fail(THAW_E_NOMEM, "out of memory for tensor '%s'", of.name);
        whole = &s[(*n)++];
        *whole = of;
        whole->shape.dim[0] *= part.count;
        whole->data = data;
    }
    memcpy((char *)(uintptr_t)whole->data + (size_t)part.index * bytes, of.data, bytes);
    return THAW_OK;
}

/* One tensor under its name in the naming the weights came in, which may be a part there. */
static thaw_status name_source(st_source *s, int *n, st_source of, thaw_region *region,
                               const model_config *c)
{
    text name = TEXT_INIT;
    const model_part part = model_name_in(&name, c, c->naming, of.name);

    of.name = name.failed ? NULL : region_strdup(region, name.data);
    text_done(&name);
    if (!of.name)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the names of tensors");
    if (part.count > 1)
        return join_part(s, n, of, part, region);
    s[(*n)++] = of;
    return THAW_OK;
}

/* In the type in which the weights came, where that is narrower. */
static thaw_status narrow_source(st_source *s, thaw_region *region, const model_config *c)
{
    size_t n = 0;
    void *data;

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

thaw_status weights_as_loaded(st_source **out, int *made, thaw_region *region,
                              const st_source *from, int n, const model_config *c)
{
    st_source *s = region_alloc(region, (size_t)n, sizeof *s);
    int joined = 0;

    if (!s)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a list of %d tensors", n);
    for (int i = 0; i < n; i++)
        THAW_CHECK(name_source(s, &joined, from[i], region, c));
    for (int i = 0; i < joined; i++)
        THAW_CHECK(narrow_source(&s[i], region, c));
    *out = s;
    *made = joined;
    return THAW_OK;
}
