/*
 * picset.c - data sets whose samples are files of pictures, decoded when they are asked for.
 *
 * A sample depends on its file and on what was drawn for it, nothing else; a broken file is always
 * replaced by the same other one. What was found broken on the way is kept only to be told once and
 * not to be tried again.
 */
#include "data/picture.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define PROBED      4096 /* bytes at each end of a file that are looked at */
#define MOST_LISTED 10   /* broken files that are named */

struct picture_set {
    picture_list list;
    picture_recipe recipe;
    bool skip;
    atomic_bool *broken; /* [n] */
    size_t making;       /* bytes that the largest of the files takes */
    pthread_mutex_t lock;
    text notes; /* under the lock; one line each */
    int n_notes;
};

void picture_set_destroy(picture_set *s)
{
    if (!s)
        return;
    picture_list_done(&s->list);
    thaw__free(s->broken);
    text_done(&s->notes);
    pthread_mutex_destroy(&s->lock);
    thaw__free(s);
}

size_t picture_set_bytes(const picture_set *s)
{
    return region_bytes(s->list.region) + s->list.capacity * sizeof *s->list.entry +
           s->list.n * sizeof *s->broken;
}

/* Beside the file's own pixels there are those of the network's size, in colour and as they are. */
size_t picture_set_making(const picture_set *s)
{
    return s->making + 2 * (size_t)(s->recipe.height * s->recipe.width) * 3;
}

static void add_note(picture_set *s, const char *what, const char *then)
{
    pthread_mutex_lock(&s->lock);
    if (s->n_notes++ < MOST_LISTED)
        text_addf(&s->notes, "%s; %s\n", what, then);
    else if (s->n_notes == MOST_LISTED + 1)
        text_add(&s->notes, "further broken pictures are not listed\n");
    pthread_mutex_unlock(&s->lock);
}

const char *dataset_file(const dataset *d, int64_t i)
{
    return d->pictures ? d->pictures->list.entry[i].shown : NULL;
}

void dataset_take_notes(text *out, dataset *d)
{
    picture_set *s = d->pictures;

    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    if (s->notes.length > 0)
        text_add(out, s->notes.data);
    text_done(&s->notes);
    s->notes = (text)TEXT_INIT;
    pthread_mutex_unlock(&s->lock);
}

/* ----------------------------------------------------------------------------------------------
 * making samples */

static picture_limits limits_of(const picture_recipe *r)
{
    return (picture_limits){.most_pixels = r->most_pixels};
}

static thaw_status make_from(picture *dst, picture *file, const picture_set *s, int64_t i,
                             picture_draw *draw)
{
    const picture_limits limits = limits_of(&s->recipe);
    const char *path = s->list.entry[i].path;

    THAW_CHECK(picture_read(file, path, &limits));
    return picture_fit(dst, file, &s->recipe, draw, path);
}

/* Whether a failure lies in the file, so that another file may do. */
static bool is_broken(thaw_status status)
{
    return status == THAW_E_DATA || status == THAW_E_LIMIT || status == THAW_E_MISSING;
}

/* The next sample of the same class that nobody has found broken; -1: none is left. */
static int64_t next_of_class(const dataset *d, int64_t i, int64_t first)
{
    for (int64_t k = (i + 1) % d->n; k != first; k = (k + 1) % d->n)
        if (!d->label || d->label[k] == d->label[first])
            return k;
    return -1;
}

/* What to do about a picture that is broken, behind what is wrong with it. */
static thaw_status refuse_one(thaw_status status)
{
    text why = TEXT_INIT;

    text_add(&why, thaw_error());
    if (!why.failed)
        status = thaw_fail(status, "%s; remove it, or set data.broken = \"skip\"", why.data);
    text_done(&why);
    return status;
}

thaw_status picture_set_make(picture *dst, picture *file, const dataset *d, int64_t i,
                             const picture_draw *draw)
{
    picture_set *s = d->pictures;
    thaw_status status = THAW_E_DATA;

    for (int64_t k = i; k >= 0; k = next_of_class(d, k, i)) {
        picture_draw own = draw ? *draw : (picture_draw){0};

        if (atomic_load(&s->broken[k]))
            continue;
        status = make_from(dst, file, s, k, draw ? &own : NULL);
        if (status == THAW_OK || !is_broken(status))
            return status;
        if (!s->skip)
            return refuse_one(status);
        if (!atomic_exchange(&s->broken[k], true))
            add_note(s, thaw_error(), "another picture of its class takes its place");
    }
    return thaw_fail(THAW_E_DATA, "'%s' and all other pictures of its class are broken",
                     s->list.entry[i].path);
}

thaw_status picture_load(void *out, const char *path, const picture_recipe *r,
                         const loader_options *o)
{
    const picture_limits limits = limits_of(r);
    const dataset one = {.n = 1, .height = r->height, .width = r->width, .channels = r->channels};
    picture file = {0}, fitted = {0};
    pixel_map map;
    thaw_status status;

    THAW_TRY(picture_recipe_check(r));
    THAW_TRY(picture_read(&file, path, &limits));
    THAW_TRY(picture_fit(&fitted, &file, r, NULL, path));
    pixel_map_init(&map, &one, o);
    pixel_map_apply(out, &map, fitted.pixels);
done:
    picture_done(&fitted);
    picture_done(&file);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * opening: both ends of each file */

/* One end is read at a time; *hash goes on with the size and both. *making: the most that one takes
 * so far. */
static thaw_status probe_ends(uint64_t *hash, size_t *making, const char *path,
                              const picture_recipe *r)
{
    const picture_limits limits = limits_of(r);
    uint8_t bytes[PROBED];
    const size_t n = sizeof bytes;
    size_t own = 0;
    int64_t size = 0;
    int fd = -1;
    thaw_status status;

    THAW_CHECK(os_open_file(&fd, &size, path));
    const size_t first = THAW_MIN((size_t)size, n), last = THAW_MIN((size_t)size - first, n);
    THAW_TRY(os_pread_all(fd, bytes, first, 0, path));
    *hash = hash_fnv1a_n(hash_fnv1a_n(*hash, &size, sizeof size), bytes, first);
    if ((size_t)size > PICTURE_MOST_BYTES) {
        status = thaw_fail(THAW_E_LIMIT, "'%s' has %lld bytes, more than %zu", path,
                           (long long)size, PICTURE_MOST_BYTES);
        goto done;
    }
    THAW_TRY(picture_probe(bytes, first, path, &limits));
    own = picture_extent(fd, path, (size_t)size, bytes, first, r->channels);
    THAW_TRY(os_pread_all(fd, bytes, last, size - (int64_t)last, path));
    *hash = hash_fnv1a_n(*hash, bytes, last);
    *making = THAW_MAX(*making, own);
done:
    os_close(fd);
    return status;
}

/* A number belongs to its picture alone, so no other can take its place: where broken ones are to
 * be left out, they have to be found now. */
static thaw_status probe(uint64_t *hash, picture_set *s, picture *room, const char *path,
                         bool whole)
{
    const picture_limits limits = limits_of(&s->recipe);

    THAW_CHECK(probe_ends(hash, &s->making, path, &s->recipe));
    return whole ? picture_read(room, path, &limits) : THAW_OK;
}

/* What was broken is listed: in the notes, or as the error. */
static thaw_status refuse_broken(const text *all, int64_t broken, const char *where)
{
    if (all->failed)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a list of broken pictures");
    return thaw_fail(THAW_E_DATA,
                     "%s%lld broken picture%s in '%s': remove them, or set data.broken = \"skip\"",
                     all->data, (long long)broken, broken == 1 ? "" : "s", where);
}

static thaw_status probe_all(picture_set *s, uint64_t *digest, bool numbers, const char *where)
{
    picture_list *l = &s->list;
    text all = TEXT_INIT;
    picture room = {0};
    size_t kept = 0;
    int64_t broken = 0;
    thaw_status status = THAW_OK;

    for (size_t i = 0; i < l->n; i++) {
        const picture_entry *e = &l->entry[i];
        uint64_t h = hash_fnv1a_n(*digest, e->shown, strlen(e->shown) + 1);

        h = hash_fnv1a_n(h, &e->label, sizeof e->label);
        h = hash_fnv1a_n(h, &e->target, sizeof e->target);
        status = probe(&h, s, &room, e->path, numbers && s->skip);
        if (status == THAW_OK) {
            *digest = h;
            l->entry[kept++] = *e;
            continue;
        }
        if (!is_broken(status))
            goto done;
        if (s->skip && broken == 0)
            text_add(&all, thaw_error());
        if (s->skip)
            add_note(s, thaw_error(), "it is left out");
        else if (broken < MOST_LISTED)
            text_addf(&all, "%s\n", thaw_error());
        broken++;
    }
    status = THAW_OK;
    if (broken > 0 && !s->skip)
        status = refuse_broken(&all, broken, where);
    else if (kept == 0)
        status = thaw_fail(THAW_E_DATA, "'%s' has no pictures that can be read: %s", where,
                           all.data ? all.data : "there are none");
    l->n = kept;
done:
    picture_done(&room);
    text_done(&all);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * data sets */

/* What decides about pixels, beside the files. */
static uint64_t digest_of_recipe(const picture_recipe *r)
{
    const int64_t whole[] = {r->height,       r->width,           r->channels,
                             r->shorter_side, (int64_t)r->filter, r->most_pixels};
    const double real[] = {r->crop_scale[0], r->crop_scale[1], r->jitter[0], r->jitter[1],
                           r->jitter[2]};

    return hash_fnv1a_n(hash_fnv1a_n(HASH_INIT, whole, sizeof whole), real, sizeof real);
}

static thaw_status describe(dataset *d, const picture_source *source, const char *from)
{
    text t = TEXT_INIT;

    text_addf(&t, "%lld pictures ", (long long)d->n);
    if (source->numbers)
        text_add(&t, "with a number each");
    else
        text_addf(&t, "in %d classes", d->n_classes);
    text_addf(&t, " from '%s', made %lldx%lldx%lld", from, (long long)d->height,
              (long long)d->width, (long long)d->channels);
    return text_take(&d->description, &t, "the description of a data set");
}

static thaw_status fill(dataset *d, const picture_source *source)
{
    const picture_list *l = &d->pictures->list;

    d->id = thaw__new(l->n, sizeof *d->id);
    if (source->numbers)
        d->target = thaw__new(l->n, sizeof *d->target);
    else
        d->label = thaw__new(l->n, sizeof *d->label);
    d->pictures->broken = thaw__new(l->n, sizeof *d->pictures->broken);
    if (!d->id || (!d->target && !d->label) || !d->pictures->broken)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a data set of %zu pictures", l->n);
    for (size_t i = 0; i < l->n; i++) {
        d->id[i] = l->entry[i].id;
        if (source->numbers)
            d->target[i] = l->entry[i].target;
        else
            d->label[i] = l->entry[i].label;
    }
    d->n = (int64_t)l->n;
    d->class_name = source->numbers ? NULL : l->class_name;
    d->n_classes = source->numbers ? 1 : (int)l->n_classes;
    return THAW_OK;
}

/* The list goes over to *out. */
static thaw_status from_list(dataset **out, picture_list *list, const picture_source *source,
                             const char *from)
{
    const picture_recipe *r = &source->recipe;
    dataset *d = thaw__new(1, sizeof *d);
    thaw_status status = THAW_OK;

    if (!d)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a data set");
    *d = (dataset){.height = r->height, .width = r->width, .channels = r->channels};
    d->pictures = thaw__new(1, sizeof *d->pictures);
    if (!d->pictures) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for a data set");
        goto done;
    }
    pthread_mutex_init(&d->pictures->lock, NULL);
    d->pictures->recipe = *r;
    d->pictures->skip = source->skip_broken;
    d->pictures->list = *list;
    *list = (picture_list){0};
    d->digest = digest_of_recipe(r);
    THAW_TRY(probe_all(d->pictures, &d->digest, source->numbers, from));
    if (d->pictures->list.others > 0) {
        char what[96];

        (void)snprintf(what, sizeof what, "%lld files that are neither JPEG nor PNG by name",
                       (long long)d->pictures->list.others);
        add_note(d->pictures, what, "they are left out");
    }
    THAW_TRY(fill(d, source));
    THAW_TRY(describe(d, source, from));
    *out = d;
    d = NULL;
done:
    dataset_destroy(d);
    return status;
}

static thaw_status list_of(picture_list *out, const picture_source *source, const char *path,
                           const picture_list *classes)
{
    return source->lists ? picture_list_csv(out, path, source->numbers, classes)
                         : picture_list_folder(out, path, classes);
}

static thaw_status split_off(picture_list *out, picture_list *train, const picture_source *source)
{
    THAW_CHECK(picture_list_split(out, train, source->valid_fraction, source->seed));
    if (out->n > 0)
        return THAW_OK;
    return thaw_fail(THAW_E_DATA,
                     "'%s' has no class with two pictures, so none can be set aside to check with: "
                     "add pictures, name some as data.valid, or set data.valid_fraction = 0",
                     source->train);
}

static thaw_status open_lists(picture_list list[3], const picture_source *source)
{
    THAW_CHECK(list_of(&list[0], source, source->train, NULL));
    if (source->valid)
        THAW_CHECK(list_of(&list[1], source, source->valid, &list[0]));
    else if (source->valid_fraction > 0)
        THAW_CHECK(split_off(&list[1], &list[0], source));
    return source->test ? list_of(&list[2], source, source->test, &list[0]) : THAW_OK;
}

thaw_status dataset_open_pictures(dataset *out[3], const picture_source *source)
{
    const char *from[3] = {source->train, source->valid ? source->valid : source->train,
                           source->test};
    picture_list list[3] = {{0}};
    dataset *made[3] = {NULL};
    thaw_status status;

    THAW_TRY(picture_recipe_check(&source->recipe));
    THAW_TRY(open_lists(list, source));
    for (int i = 0; i < 3; i++)
        if (list[i].region)
            THAW_TRY(from_list(&made[i], &list[i], source, from[i]));
    memcpy(out, made, sizeof made);
    memset(made, 0, sizeof made);
done:
    for (int i = 0; i < 3; i++) {
        dataset_destroy(made[i]);
        picture_list_done(&list[i]);
    }
    return status;
}
