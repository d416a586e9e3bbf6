/*
 * features.c - what the frozen beginning of the network makes of samples, kept for a run: where the
 * cut lies, what its values depend on, and batches of them.
 *
 * The idea: a row is found by a digest of everything it follows from, so what changed can only be
 * absent, never wrong. Whether a row was read or computed shows nowhere but in the time it took: a
 * sample is computed alone, or in a batch whose bits are those it has alone.
 */
#include "train/train.h"

#include "train/features.h"

#include <fcntl.h>
#include <string.h>

#define MEMORY_SHARE                                                                               \
    4 /* of the free memory one in so many bytes, where the recipe leaves it open */

typedef struct feature_set {
    dataset *data; /* NULL: the set is not served */
    loader_options loading;
    char digest[65];
    feature_store *store;
} feature_set;

enum { SET_TRAIN, SET_VALID, N_SETS };

struct features {
    job *job;
    char *folder; /* of files; NULL: none */
    char session[OS_RANDOM_NAME];
    feature_budget budget;
    uint64_t memory; /* its size at first */
    feature_outlook view;
    feature_set set[N_SETS];
    int *used; /* tensors that values at the cut follow from */
    int n_used;
    uint64_t versions; /* sum of theirs when the digests were taken */

    int64_t batch; /* samples that there is room for */
    char *rows;    /* [batch] values at the cut */
    int32_t *labels;
    void *image; /* one */
    int64_t hits, misses;
};

/* ----------------------------------------------------------------------------------------------
 * what could be kept */

static int64_t cells_of(const job *j, bool training)
{
    int64_t n = j->valid ? j->valid->n : 0;

    if (training)
        n += loader_cells(j->train, &j->recipe->loader);
    return n;
}

/* Bytes that the cache may take; less where the run as a whole may take so many. */
static thaw_status memory_budget(uint64_t *out, job *j)
{
    const thaw_recipe *r = j->recipe;
    uint64_t most = r->cache_memory;
    size_t needed = 0;

    if (most == UINT64_MAX)
        most = os_memory_available() / MEMORY_SHARE;
    for (int p = 0; r->memory_limit > 0 && p < thaw_schedule_n_phases(j->schedule); p++) {
        size_t bytes;

        THAW_CHECK(budget_phase(&bytes, j, p, job_micro_batch(j, p)));
        needed = THAW_MAX(needed, bytes);
    }
    if (r->memory_limit > 0)
        most = THAW_MIN(most, r->memory_limit > needed ? r->memory_limit - needed : 0);
    *out = THAW_MIN(most, SIZE_MAX);
    return THAW_OK;
}

/* memory: what may be taken, where that is known already. */
static thaw_status foresee(feature_outlook *out, job *j, const thaw_effect *effect,
                           const uint64_t *memory)
{
    feature_outlook o = {.cut.value = NO_VALUE};
    plan_request request = PLAN_REQUEST_INIT;

    request.model = j->model->graph;
    request.output = j->model->output;
    request.effect = effect;
    request.bf16 = plans_bf16(j->recipe);
    o.any_batch = exec_any_batch(j->exec);
    o.training = !loader_options_random(&j->recipe->loader);
    if (j->recipe->cache_off)
        o.reason = "'cache.features' is 'off'";
    else
        THAW_CHECK(plan_find_cut(&o.cut, &request));
    o.any_batch &= !o.cut.products;
    if (!o.reason && o.cut.value == NO_VALUE)
        o.reason = "the network does not begin with frozen layers whose output stays the same";
    else if (!o.reason && !o.training)
        o.reason = "augmentation makes each image anew; 'cache.views' limits how often";
    o.n_cells = cells_of(j, o.training);
    if (memory)
        o.memory = *memory;
    else
        THAW_CHECK(memory_budget(&o.memory, j));
    *out = o;
    return THAW_OK;
}

thaw_status features_foresee(feature_outlook *out, job *j, const thaw_effect *effect)
{
    return foresee(out, j, effect, NULL);
}

/* "50.0 MiB in memory", "8.0 GiB: 4.0 GiB in memory, 4.0 GiB in files". */
static void print_places(text *out, const job *j, const feature_outlook *o)
{
    const double all = (double)o->n_cells * (double)o->cut.bytes;
    const double memory = THAW_MIN((double)o->memory, all);
    const double disk = THAW_MIN((double)j->recipe->cache_disk, all - memory);
    char size[32], part[32];

    if (memory >= all) {
        text_addf(out, "%s in memory", format_bytes(size, (uint64_t)all));
        return;
    }
    text_addf(out, "%s: %s in memory", format_bytes(size, (uint64_t)all),
              format_bytes(part, (uint64_t)memory));
    if (disk > 0)
        text_addf(out, ", %s in files", format_bytes(part, (uint64_t)disk));
    if (memory + disk < all)
        text_addf(out,
                  ", %.0f%% computed each time; 'cache.memory' and 'cache.disk' give more room",
                  100 * (1 - (memory + disk) / all));
}

void features_print(text *out, const job *j, const feature_outlook *o)
{
    char size[32];
    double share;

    if (o->cut.value == NO_VALUE) {
        text_addf(out, "cache: none: %s", o->reason);
        return;
    }
    /* all but a little is not all */
    share = o->cut.share < 1 ? THAW_MIN(100 * o->cut.share, 99) : 100;
    text_addf(out,
              "cache: prefix up to '%s' (%.0f%% of the forward work), %s a sample, %lld samples, ",
              o->cut.name, share, format_bytes(size, o->cut.bytes), (long long)o->n_cells);
    print_places(out, j, o);
    if (o->reason)
        text_addf(out, "; for evaluation alone: %s", o->reason);
    if (!o->any_batch)
        text_add(out, "; computed one sample at a time, as kernels here give other bits for other "
                      "batches");
}

/* ----------------------------------------------------------------------------------------------
 * digests */

/* A text cut short would stand for another prefix. */
static thaw_status add_text(sha256 *h, const text *t)
{
    if (t->failed)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the cache of features");
    sha256_add(h, t->data ? t->data : "", t->length + 1);
    return THAW_OK;
}

/* What computes, and the steps of the prefix. */
static thaw_status add_plan(sha256 *h, const features *f, const plan *p)
{
    const plan_teller ways = {exec_tell, f->job->exec};
    char kernels[128];
    text t = TEXT_INIT;
    thaw_status status;

    exec_describe(kernels, f->job->recipe->executor);
    text_addf(&t, "%s %s %s threads %d plan %016llx\n", thaw_version(), exec_name(f->job->exec),
              kernels, f->job->threads, (unsigned long long)p->digest);
    plan_dump(&t, p, &ways);
    status = add_text(h, &t);
    text_done(&t);
    for (int i = 0; i < p->n_once + p->n_step; i++)
        sha256_add(h, &p->step[i].attrs, sizeof p->step[i].attrs);
    return status;
}

/* Name, type, shape and content; of what no other process will see, the version of the content. */
static thaw_status add_tensor(sha256 *h, const features *f, const param *item)
{
    text t = TEXT_INIT;
    thaw_status status;

    text_addf(&t, "%s %s rank %d", item->name, dtype_name(item->dtype), item->shape.rank);
    for (int i = 0; i < item->shape.rank; i++)
        text_addf(&t, " %lld", (long long)item->shape.dim[i]);
    status = add_text(h, &t);
    text_done(&t);
    if (f->folder)
        sha256_add(h, item->data, item->bytes);
    else
        sha256_add(h, &item->version, sizeof item->version);
    return status;
}

static uint64_t versions_of(const features *f)
{
    uint64_t sum = 0;

    for (int i = 0; i < f->n_used; i++)
        sum += f->job->params->item[f->used[i]].version;
    return sum;
}

/* Tensors that a plan reads, in its order. */
static thaw_status find_used(features *f, const plan *p)
{
    int *used = thaw__new((size_t)p->n_slots + 1, sizeof *used);
    int n = 0;

    if (!used)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the cache of features");
    for (int i = 0; i < p->n_slots; i++)
        if (p->slot[i].place == SLOT_PARAM)
            used[n++] = p->slot[i].index;
    thaw__free(f->used);
    f->used = used;
    f->n_used = n;
    f->versions = versions_of(f);
    return THAW_OK;
}

/* Digest of all that turns an image into a row. */
static thaw_status digest_prefix(char out[65], features *f, value_id cut)
{
    plan *p = NULL;
    sha256 *h = NULL;
    thaw_status status;

    THAW_TRY(plans_compile_part(&p, f->job, NULL, 1, NULL, PLAN_PREFIX, cut));
    THAW_TRY(find_used(f, p));
    THAW_TRY(sha256_begin(&h));
    THAW_TRY(add_plan(h, f, p));
    for (int i = 0; i < f->n_used; i++)
        THAW_TRY(add_tensor(h, f, &f->job->params->item[f->used[i]]));
    sha256_end(out, h);
    h = NULL;
done:
    sha256_end(NULL, h);
    plan_destroy(p);
    return status;
}

/* And of the images. What a callback gives, and all of the files of pictures, is known to this
 * process alone. */
static thaw_status digest_set(char out[65], const features *f, const feature_set *set,
                              const char prefix[65])
{
    const dataset *d = set->data;
    text t = TEXT_INIT;
    thaw_status status;
    sha256 *h = NULL;

    text_addf(&t, "%s %016llx %lld %lldx%lldx%lld %s ", prefix, (unsigned long long)d->digest,
              (long long)d->n, (long long)d->height, (long long)d->width, (long long)d->channels,
              d->read || d->pictures ? f->session : "stored");
    loader_options_print(&t, &set->loading);
    THAW_TRY(sha256_begin(&h));
    THAW_TRY(add_text(h, &t));
    if (d->id)
        sha256_add(h, d->id, (size_t)d->n * sizeof *d->id);
    sha256_end(out, h);
    h = NULL;
done:
    sha256_end(NULL, h);
    text_done(&t);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * stores */

static void drop_store(feature_set *set)
{
    feature_store_destroy(set->store, false);
    set->store = NULL;
    set->digest[0] = '\0';
}

static thaw_status open_store(features *f, feature_set *set, const char digest[65])
{
    feature_store_options o = {.n_cells = loader_cells(set->data, &set->loading),
                               .bytes = f->view.cut.bytes,
                               .budget = &f->budget,
                               .folder = f->budget.disk > 0 ? f->folder : NULL};

    memcpy(o.digest, digest, sizeof o.digest);
    THAW_CHECK(feature_store_create(&set->store, &o));
    memcpy(set->digest, digest, sizeof set->digest);
    return THAW_OK;
}

/* Files that belong to no store of now: of an earlier process, for other phases. */
static void sweep_folder(const features *f)
{
    os_names names = {0};

    if (!f->folder || os_kind_of(f->folder) != OS_FOLDER || os_list(&names, f->folder) != THAW_OK)
        return;
    for (size_t i = 0; i < names.n; i++) {
        bool wanted = strlen(names.name[i]) != 16;
        char *path = os_path(f->folder, names.name[i]);

        for (int k = 0; k < N_SETS; k++)
            wanted |= f->set[k].store && strncmp(names.name[i], f->set[k].digest, 16) == 0;
        if (!wanted)
            feature_files_remove(path);
        thaw__free(path);
    }
    os_names_free(&names);
}

static void choose_sets(features *f)
{
    const job *j = f->job;

    f->set[SET_TRAIN].data = f->view.training ? j->train : NULL;
    f->set[SET_TRAIN].loading = j->recipe->loader;
    f->set[SET_VALID].data = j->valid;
    f->set[SET_VALID].loading = evaluation_loading(j->recipe);
}

static thaw_status open_stores(features *f)
{
    char prefix[65], digest[65];

    THAW_CHECK(digest_prefix(prefix, f, f->view.cut.value));
    choose_sets(f);
    for (int k = 0; k < N_SETS; k++) {
        feature_set *set = &f->set[k];

        if (!set->data) {
            drop_store(set);
            continue;
        }
        THAW_CHECK(digest_set(digest, f, set, prefix));
        if (set->store && strcmp(digest, set->digest) == 0)
            continue;
        drop_store(set);
        THAW_CHECK(open_store(f, set, digest));
    }
    sweep_folder(f);
    return THAW_OK;
}

/* Room for a batch of rows, and for an image that has to be made again. */
static thaw_status make_room(features *f, int64_t batch)
{
    const graph *g = f->job->model->graph;
    shape image = g->value[0].shape;
    size_t image_bytes, bytes;

    for (size_t v = 0; v < g->n_values; v++)
        if (g->value[v].kind == VALUE_INPUT && g->value[v].index == 0)
            image = g->value[v].shape;
    image.dim[0] = 1;
    THAW_CHECK(shape_bytes(&image_bytes, &image, f->job->recipe->real));
    thaw__free(f->rows);
    thaw__free(f->labels);
    thaw__free(f->image);
    f->rows = NULL;
    if (size_mul(&bytes, (size_t)batch, f->view.cut.bytes))
        f->rows = thaw__alloc(bytes);
    f->labels = thaw__new((size_t)batch, sizeof *f->labels);
    f->image = thaw__alloc(image_bytes);
    f->batch = batch;
    if (!f->rows || !f->labels || !f->image)
        return thaw_fail(THAW_E_NOMEM, "out of memory for %lld cached samples of a batch",
                         (long long)batch);
    return THAW_OK;
}

static void forget(features *f)
{
    for (int k = 0; k < N_SETS; k++) {
        drop_store(&f->set[k]);
        f->set[k].data = NULL;
    }
    f->view = (feature_outlook){.cut.value = NO_VALUE};
}

thaw_status features_aim(features *f, const thaw_effect *effect, int64_t batch)
{
    feature_outlook view;
    bool same;

    if (!effect) {
        forget(f);
        return THAW_OK;
    }
    THAW_CHECK(foresee(&view, f->job, effect, &f->memory));
    same = view.cut.value == f->view.cut.value && view.cut.value != NO_VALUE && !features_stale(f);
    if (view.cut.value == NO_VALUE)
        forget(f);
    f->view = view;
    if (view.cut.value == NO_VALUE)
        return THAW_OK;
    if (!same)
        THAW_CHECK(open_stores(f));
    return same && batch <= f->batch ? THAW_OK : make_room(f, batch);
}

/* ----------------------------------------------------------------------------------------------
 * batches */

static feature_set *set_of(const features *f, const dataset *d)
{
    for (int k = 0; f && d && k < N_SETS; k++)
        if (f->set[k].data == d && f->set[k].store)
            return (feature_set *)(uintptr_t)&f->set[k];
    return NULL;
}

bool features_serve(const features *f, const dataset *d)
{
    return set_of(f, d) != NULL;
}

bool features_complete(const features *f, const dataset *d)
{
    const feature_set *set = set_of(f, d);
    const feature_counts have = set ? feature_store_counts(set->store) : (feature_counts){0};

    return set && have.memory + have.disk == loader_cells(d, &set->loading);
}

void features_attach(const features *f, loader *l, const dataset *d)
{
    const feature_set *set = set_of(f, d);

    loader_skip(l, set ? feature_store_has : NULL, set ? set->store : NULL);
}

bool features_stale(const features *f)
{
    return f->view.cut.value != NO_VALUE && versions_of(f) != f->versions;
}

/* Run the prefix on n images; its values are at *out until the next run. */
static thaw_status run_prefix(const char **out, features *f, plans *cache, const void *images,
                              const batch *b, int64_t n)
{
    const void *input[4] = {images, b->ids};
    const exec_run_args args = {.input = input};
    const plan_entry *e;

    THAW_CHECK(plans_get_part(&e, cache, f->job, NULL, n, NULL, PLAN_PREFIX, f->view.cut.value));
    THAW_CHECK(exec_run(e->session, &args));
    *out = exec_read(e->session, e->plan->results.output);
    f->misses += n;
    return THAW_OK;
}

/* Samples of the next run of the prefix: few sizes, so that there are few plans. */
static int64_t run_size(const features *f, int64_t left, int64_t n)
{
    int64_t size = 1;

    if (!f->view.any_batch)
        return 1;
    if (left == n)
        return n;
    while (2 * size <= left)
        size *= 2;
    return size;
}

static size_t image_bytes(const features *f)
{
    const model_config *c = &f->job->model->config;

    return (size_t)(c->height * c->width * c->channels) * dtype_size(f->job->recipe->real);
}

static void keep_row(features *f, feature_set *set, const batch *b, int64_t k, const char *row)
{
    char *to = f->rows + (size_t)k * f->view.cut.bytes;

    memcpy(to, row, f->view.cut.bytes);
    feature_store_put(set->store, b->cells[k], to, f->labels[k]);
}

/* The images that the batch has: samples that were not known when it was prepared. */
static thaw_status compute_images(features *f, feature_set *set, plans *cache, const batch *b)
{
    const char *images = b->images;
    int64_t k = 0;

    for (int64_t done = 0; done < b->n_images;) {
        const int64_t n = run_size(f, b->n_images - done, b->n);
        const char *row;

        THAW_CHECK(run_prefix(&row, f, cache, images + (size_t)done * image_bytes(f), b, n));
        for (int64_t i = 0; i < n; i++, k++) {
            while (b->skipped[k])
                k++;
            keep_row(f, set, b, k, row + (size_t)i * f->view.cut.bytes);
        }
        done += n;
    }
    return THAW_OK;
}

/* A sample whose image was left out, and whose row cannot be read after all. */
static thaw_status compute_again(features *f, feature_set *set, plans *cache, loader *l,
                                 const batch *b, int64_t k)
{
    const char *row;

    THAW_CHECK(loader_image(f->image, &f->labels[k], l, k));
    THAW_CHECK(run_prefix(&row, f, cache, f->image, b, 1));
    keep_row(f, set, b, k, row);
    return THAW_OK;
}

thaw_status features_batch(batch *out, features *f, plans *cache, loader *l, const batch *b,
                           const dataset *d)
{
    feature_set *set = set_of(f, d);

    THAW_ASSERT(set && b->n <= f->batch);
    memcpy(f->labels, b->labels, (size_t)b->n * sizeof *f->labels);
    THAW_CHECK(compute_images(f, set, cache, b));
    for (int64_t k = 0; k < b->n; k++) {
        char *row = f->rows + (size_t)k * f->view.cut.bytes;

        if (!b->skipped[k])
            continue;
        if (feature_store_get(row, &f->labels[k], set->store, b->cells[k]))
            f->hits++;
        else
            THAW_CHECK(compute_again(f, set, cache, l, b, k));
    }
    *out = *b;
    out->images = f->rows;
    out->labels = f->labels;
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * making and asking */

value_id features_cut(const features *f)
{
    return f ? f->view.cut.value : NO_VALUE;
}

const feature_outlook *features_outlook(const features *f)
{
    return &f->view;
}

/* When the cache is as full as it gets; and a batch of rows. */
uint64_t features_foreseen(const feature_outlook *o, int64_t batch)
{
    uint64_t wanted = 0;

    if (o->cut.value == NO_VALUE)
        return 0;
    wanted = (uint64_t)o->n_cells * o->cut.bytes;
    return THAW_MIN(wanted, o->memory) + (uint64_t)batch * o->cut.bytes;
}

uint64_t features_bytes(const features *f)
{
    return features_foreseen(&f->view, f->batch);
}

void features_take_counts(int64_t *hits, int64_t *misses, features *f)
{
    *hits = f->hits;
    *misses = f->misses;
    f->hits = f->misses = 0;
}

void features_take_notes(text *notes, features *f)
{
    for (int k = 0; k < N_SETS; k++) {
        text *problem = f->set[k].store ? feature_store_problem(f->set[k].store) : NULL;

        if (!problem || problem->length == 0)
            continue;
        text_add(notes, problem->data);
        text_done(problem);
    }
}

static thaw_status find_folder(features *f)
{
    const thaw_recipe *r = f->job->recipe;
    const char *run = f->job->options->run;

    if (r->cache_disk == 0 || (!r->cache_folder && !run))
        return THAW_OK;
    f->budget.disk = r->cache_disk;
    f->folder = r->cache_folder ? thaw__strdup(r->cache_folder) : os_path(run, "features");
    return f->folder ? THAW_OK : thaw_fail(THAW_E_NOMEM, "out of memory for the cache's folder");
}

thaw_status features_create(features **out, job *j)
{
    features *f = thaw__new(1, sizeof *f);
    thaw_status status;

    if (!f)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the cache of features");
    f->job = j;
    f->view.cut.value = NO_VALUE;
    THAW_TRY(memory_budget(&f->memory, j));
    f->budget.memory = (size_t)f->memory;
    os_random_name(f->session);
    THAW_TRY(find_folder(f));
    *out = f;
    f = NULL;
done:
    features_destroy(f, false);
    return status;
}

void features_destroy(features *f, bool keep_files)
{
    if (!f)
        return;
    for (int k = 0; k < N_SETS; k++)
        feature_store_destroy(f->set[k].store, keep_files);
    if (f->folder && !keep_files)
        (void)os()->unlink(AT_FDCWD, f->folder, true);
    thaw__free(f->image);
    thaw__free(f->labels);
    thaw__free(f->rows);
    thaw__free(f->used);
    thaw__free(f->folder);
    thaw__free(f);
}
