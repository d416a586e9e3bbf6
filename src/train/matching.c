/*
 * matching.c - which tensor of a file is which of a network, whatever library named them.
 *
 * Every naming the network has is tried, its own first, and the one in which most tensors are found
 * is taken. Nothing is read but names and shapes.
 */
#include "train/train.h"

#include <stdio.h>
#include <string.h>

/* Tensors of the network that the file has under this naming, put into entry and part. */
static thaw_status try_naming(int *found, const bundle_entry **entry, model_part *part,
                              const model *m, const bundle *file, const char *naming)
{
    text name = TEXT_INIT;

    *found = 0;
    for (int i = 0; i < m->n_tensors; i++) {
        name.length = 0;
        part[i] = (model_part){0, 1};
        if (naming)
            part[i] = model_name_in(&name, &m->config, naming, m->tensor[i].name);
        else
            text_add(&name, m->tensor[i].name);
        if (name.failed)
            break;
        entry[i] = bundle_find(file, name.data);
        *found += entry[i] != NULL;
    }
    if (name.failed) {
        text_done(&name);
        return thaw_fail(THAW_E_NOMEM, "out of memory for the names of tensors");
    }
    text_done(&name);
    return THAW_OK;
}

static thaw_status match_names(weights_match *x)
{
    const size_t n = (size_t)x->model->n_tensors;
    const bundle_entry **entry = thaw__new(n, sizeof(*entry));
    model_part *part = thaw__new(n, sizeof *part);
    thaw_status status;
    int found;

    x->entry = thaw__new(n, sizeof(*x->entry));
    x->part = thaw__new(n, sizeof *x->part);
    x->used = thaw__new((size_t)x->file->n, sizeof *x->used);
    if (!entry || !part || !x->entry || !x->part || !x->used) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for matching %zu tensors", n);
        goto done;
    }
    THAW_TRY(try_naming(&x->n_found, x->entry, x->part, x->model, x->file, NULL));
    for (int i = 0; model_naming(&x->model->config, i); i++) {
        THAW_TRY(
            try_naming(&found, entry, part, x->model, x->file, model_naming(&x->model->config, i)));
        if (found <= x->n_found)
            continue;
        memcpy(x->entry, entry, n * sizeof(*entry));
        memcpy(x->part, part, n * sizeof *part);
        x->n_found = found;
        x->naming = model_naming(&x->model->config, i);
    }
    for (size_t i = 0; i < n; i++)
        if (x->entry[i])
            x->used[x->entry[i] - x->file->entry] = true;
done:
    thaw__free(part);
    thaw__free(entry);
    return status;
}

static thaw_status match_bundle(weights_match **out, const model *m, bundle *file)
{
    weights_match *x = thaw__new(1, sizeof *x);
    thaw_status status;

    if (!x) {
        bundle_close(file);
        return thaw_fail(THAW_E_NOMEM, "out of memory for matching tensors");
    }
    x->model = m;
    x->file = file;
    status = match_names(x);
    if (status == THAW_OK)
        *out = x;
    else
        match_close(x);
    return status;
}

thaw_status match_open(weights_match **out, const model *m, const char *path)
{
    bundle *file = NULL;

    THAW_CHECK(bundle_open(&file, path));
    return match_bundle(out, m, file);
}

void match_close(weights_match *x)
{
    if (!x)
        return;
    bundle_close(x->file);
    thaw__free(x->part);
    thaw__free(x->entry);
    thaw__free(x->used);
    thaw__free(x);
}

void match_add_name(text *out, const weights_match *x, int i)
{
    if (x->naming)
        model_name_in(out, &x->model->config, x->naming, x->model->tensor[i].name);
    else
        text_add(out, x->model->tensor[i].name);
}

void match_add_near(text *out, const weights_match *x, int i)
{
    const char **names = thaw__new((size_t)x->file->n, sizeof *names);
    text name = TEXT_INIT;
    size_t n = 0;

    if (!names)
        return;
    for (int k = 0; k < x->file->n; k++)
        if (!x->used[k])
            names[n++] = x->file->entry[k].name;
    match_add_name(&name, x, i);
    if (!name.failed)
        text_add_near(out, name.data, names, n, 1);
    text_done(&name);
    thaw__free(names);
}

bool match_without_head(const weights_match *x)
{
    for (int i = 0; i < x->model->n_tensors; i++)
        if (x->model->tensor[i].head && x->entry[i])
            return false;
    return x->n_found > 0;
}

void match_keep_form(model *m, const weights_match *x)
{
    (void)snprintf(m->config.naming, sizeof m->config.naming, "%s",
                   x->naming ? model_naming_kept(&m->config, x->naming) : "");
    for (int i = 0; i < m->n_params; i++)
        if (x->entry[i] && dtype_is_float(x->entry[i]->dtype)) {
            m->config.stored = x->entry[i]->dtype;
            return;
        }
}

/* ----------------------------------------------------------------------------------------------
 * the account
 */

static bool counts_as_missing(const weights_match *x, int i)
{
    return !x->entry[i] && x->model->tensor[i].dtype != DTYPE_I64;
}

bool match_fits(const weights_match *x, int i)
{
    shape want = x->model->tensor[i].shape;

    if (x->part[i].count > 1)
        want.dim[0] *= x->part[i].count;
    return x->entry[i] && shape_equal(&x->entry[i]->shape, &want);
}

/* Positions of another image size fit, too: they are interpolated. */
static bool fits(const weights_match *x, int i)
{
    return match_fits(x, i) ||
           (x->entry[i] && model_positions_side(&x->model->tensor[i], &x->entry[i]->shape) > 0);
}

static void print_account(text *out, const weights_match *x)
{
    char have[128], want[128];
    const char *type = "";
    int matched = 0;

    for (int i = 0; i < x->model->n_tensors; i++)
        matched += fits(x, i);
    for (int i = 0; i < x->model->n_params && !*type; i++)
        type = x->entry[i] ? dtype_name(x->entry[i]->dtype) : "";
    text_addf(out, "\nweights: %s\n  %d of %d tensors match, %s, names as in %s\n", x->file->path,
              matched, x->model->n_tensors, type, x->naming ? x->naming : "this network");
    if (x->file->pth && x->file->pth->taken_from)
        text_addf(out, "  taken from '%s'\n", x->file->pth->taken_from);
    for (int i = 0; i < x->model->n_tensors; i++) {
        if (counts_as_missing(x, i)) {
            text_add(out, "  missing: ");
            match_add_name(out, x, i);
            match_add_near(out, x, i);
            text_add(out, "\n");
        } else if (x->entry[i] && !fits(x, i)) {
            text_addf(out, "  other shape: %s is %s, %s wanted\n", x->entry[i]->name,
                      shape_format(have, &x->entry[i]->shape),
                      shape_format(want, &x->model->tensor[i].shape));
        }
    }
    for (int k = 0; k < x->file->n; k++)
        if (!x->used[k])
            text_addf(out, "  left over: %s\n", x->file->entry[k].name);
}

typedef bool chosen_fn(const weights_match *x, int i);

static bool other_shape(const weights_match *x, int i)
{
    return x->entry[i] && !fits(x, i);
}

static void print_names(text *out, const char *key, const weights_match *x, chosen_fn *chosen)
{
    int n = 0;

    text_addf(out, ", \"%s\": [", key);
    for (int i = 0; i < x->model->n_tensors; i++)
        if (chosen(x, i)) {
            text_add(out, n++ ? ", " : "");
            text_add_json_string(out, x->model->tensor[i].name);
        }
    text_add(out, "]");
}

static void print_account_json(text *out, const weights_match *x)
{
    int n = 0;

    text_add(out, ", \"weights\": {\"file\": ");
    text_add_json_string(out, x->file->path);
    text_add(out, ", \"names\": ");
    text_add_json_string(out, x->naming ? x->naming : "");
    print_names(out, "matched", x, fits);
    print_names(out, "missing", x, counts_as_missing);
    print_names(out, "other_shape", x, other_shape);
    text_add(out, ", \"left_over\": [");
    for (int k = 0; k < x->file->n; k++)
        if (!x->used[k]) {
            text_add(out, n++ ? ", " : "");
            text_add_json_string(out, x->file->entry[k].name);
        }
    text_add(out, "]}");
}

thaw_status match_account(text *out, const model *m, const char *path, bool json)
{
    weights_match *x = NULL;

    THAW_CHECK(match_open(&x, m, path));
    (json ? print_account_json : print_account)(out, x);
    match_close(x);
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * which network
 */

/* The number of classes is that of the head's rows, which are the same number in every naming. */
static void take_classes(model_config *c, const model *m, const weights_match *x)
{
    for (int i = 0; i < m->n_tensors; i++)
        if (m->tensor[i].head && x->entry[i] && x->entry[i]->shape.rank > 0)
            c->n_classes = x->entry[i]->shape.dim[0];
}

/* The image size is that of the positions. */
static void take_size(model_config *c, const model *m, const weights_match *x)
{
    for (int i = 0; i < m->n_params; i++)
        if (x->entry[i] && m->tensor[i].grid[0] > 0)
            c->height = c->width =
                m->config.vit.patch * model_positions_side(&m->tensor[i], &x->entry[i]->shape);
}

/* Every parameter is there with its shape, the head's number of classes apart; or all but the head.
 */
static bool all_fit(const model *m, const weights_match *x)
{
    const bool headless = match_without_head(x);

    for (int i = 0; i < m->n_params; i++)
        if (m->tensor[i].head ? !x->entry[i] && !headless : !fits(x, i))
            return false;
    return true;
}

/* Of the networks that a file has everything for, the one that takes the most of it. */
static thaw_status try_arch(model_config *best, int *most, const char *arch, const char *path)
{
    model_config c = MODEL_CONFIG_INIT;
    weights_match *x = NULL;
    model *m = NULL;
    thaw_status status;

    (void)snprintf(c.arch, sizeof c.arch, "%s", arch);
    if (model_create(&m, &c, DTYPE_F32) != THAW_OK)
        return THAW_OK; /* it cannot be built without a configuration */
    THAW_TRY(match_open(&x, m, path));
    if (x->n_found > *most && all_fit(m, x)) {
        *most = x->n_found;
        *best = c;
        take_classes(best, m, x);
        take_size(best, m, x);
    }
done:
    match_close(x);
    model_destroy(m);
    return status;
}

static thaw_status recognise(model_config *out, const char *path)
{
    model_config c = {.n_classes = 0};
    int most = 0;
    size_t n;
    const char *const *archs = model_archs(&n);

    for (size_t i = 0; i < n; i++)
        THAW_CHECK(try_arch(&c, &most, archs[i], path));
    if (most == 0)
        return thaw_fail(THAW_E_SUPPORT,
                         "'%s': its tensors fit no network known here; say which it is with "
                         "'model.arch', or put config.json beside it",
                         path);
    *out = c;
    return THAW_OK;
}

thaw_status model_place_config(model_config *out, const char *path)
{
    char *config = NULL;
    bool there;

    if (os_kind_of(path) == OS_FOLDER) {
        config = os_path(path, "config.json");
        if (!config)
            return thaw_fail(THAW_E_NOMEM, "out of memory for the path of a configuration");
        there = os_kind_of(config) != OS_ABSENT;
        thaw__free(config);
        if (there)
            return model_folder_config(out, path);
    }
    return recognise(out, path);
}
