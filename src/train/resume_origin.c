/*
 * resume_origin.c - what a checkpoint was made from: program, kernels, threads and data, as they
 * stand in state.json; and how that differs from what goes on.
 *
 * Data are compared by a digest of their content. Counts and labels are kept beside it, so that a
 * difference can be named.
 */
#include "train/train.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const char *const splits[] = {"train", "valid"};

/* ----------------------------------------------------------------------------------------------
 * out */

/* Numbers of a data set, a row each. */
static const struct measure {
    const char *name, *words;
    size_t offset;
} measures[] = {
    {"samples", "samples", offsetof(dataset, n)},
    {"height", "rows of pixels", offsetof(dataset, height)},
    {"width", "columns of pixels", offsetof(dataset, width)},
    {"channels", "channels", offsetof(dataset, channels)},
};

static int64_t measure_of(const struct measure *m, const dataset *d)
{
    int64_t value;

    memcpy(&value, (const char *)d + m->offset, sizeof value);
    return value;
}

#define DIGEST_SIZE 17
static void print_digest(char out[DIGEST_SIZE], const dataset *d)
{
    (void)snprintf(out, DIGEST_SIZE, "%016llx", (unsigned long long)d->digest);
}

/* Samples of each class; NULL: the labels are not known, or no memory. */
static int64_t *count_classes(const dataset *d)
{
    int64_t *const count = d->label ? thaw__new((size_t)d->n_classes, sizeof *count) : NULL;

    if (count)
        dataset_count_classes(count, d);
    return count;
}

static void print_split(text *out, const char *name, const dataset *d)
{
    int64_t *const count = count_classes(d);
    char digest[DIGEST_SIZE];

    print_digest(digest, d);
    text_addf(out, "\n    \"%s\": {\"digest\": \"%s\"", name, digest);
    for (size_t i = 0; i < THAW_COUNT(measures); i++)
        text_addf(out, ", \"%s\": %lld", measures[i].name, (long long)measure_of(&measures[i], d));
    text_add(out, ", \"classes\": [");
    for (int c = 0; count && c < d->n_classes; c++)
        text_addf(out, "%s%lld", c ? ", " : "", (long long)count[c]);
    text_add(out, "]}");
    thaw__free(count);
}

void origin_print(text *out, const trainer *t)
{
    int shown = 0;

    text_addf(out, "  \"thaw\": \"%s\",\n  \"kernels\": ", thaw_version());
    text_add_json_string(out, thaw_kernels());
    text_addf(out, ",\n  \"threads\": %d,\n  \"executor\": \"%s\",\n", t->job->threads,
              t->job->recipe->executor->name);
    text_addf(out, "  \"data\": \"%016llx\",\n", (unsigned long long)t->job->train->digest);
    text_add(out, "  \"optimizer\": ");
    text_add_json_string(out, t->job->recipe->rule->name);
    text_add(out, ",\n  \"splits\": {");
    for (size_t i = 0; i < THAW_COUNT(splits); i++) {
        const dataset *d = job_split(t->job, splits[i]);

        if (!d)
            continue;
        text_add(out, shown++ ? "," : "");
        print_split(out, splits[i], d);
    }
    text_add(out, "\n  },\n");
}

/* ----------------------------------------------------------------------------------------------
 * data */

/* The first class whose samples are more or fewer than they were. */
static bool name_class(text *out, const dataset *d, const json_t *classes)
{
    int64_t *const count = count_classes(d);
    const size_t n = count ? (size_t)d->n_classes : 0, n_was = json_array_size(classes);
    bool found = false;

    if (n > 0 && n_was > 0 && n != n_was) {
        text_addf(out, "there are %zu classes, were %zu", n, n_was);
        found = true;
    }
    for (size_t c = 0; !found && c < n && c < n_was; c++) {
        const int64_t was = json_integer_value(json_array_get(classes, c));

        found = was != count[c];
        if (found)
            text_addf(out, "class %zu has %lld samples, had %lld", c, (long long)count[c],
                      (long long)was);
    }
    thaw__free(count);
    return found;
}

/* What tells two data sets of different digests apart, in words. */
static void name_difference(text *out, const dataset *d, const json_t *was)
{
    for (size_t i = 0; i < THAW_COUNT(measures); i++) {
        const json_t *const old = json_object_get(was, measures[i].name);
        const int64_t now = measure_of(&measures[i], d);

        if (json_is_integer(old) && json_integer_value(old) != now) {
            text_addf(out, "%lld %s, were %lld", (long long)now, measures[i].words,
                      (long long)json_integer_value(old));
            return;
        }
    }
    if (!name_class(out, d, json_object_get(was, "classes")))
        text_add(out, "as many samples of each class, but other pixels, labels or order");
}

/* The digest that a checkpoint has of a split; NULL: none. Older ones have the training data's
 * only. */
static const char *old_digest(const json_t *state, const json_t *split, const char *name)
{
    const json_t *digest = json_object_get(split, "digest");

    if (strcmp(name, "train") == 0)
        digest = json_object_get(state, "data");
    return json_string_value(digest);
}

static void compare_split(resume_findings *f, const trainer *t, const json_t *state,
                          const char *name, const char *checkpoint)
{
    const char *const what = strcmp(name, "train") == 0 ? "training" : "validation";
    const json_t *const all = json_object_get(state, "splits");
    const json_t *const was = json_object_get(all, name);
    const dataset *const d = job_split(t->job, name);
    const char *const before = old_digest(state, was, name);
    char now[DIGEST_SIZE];
    text words = TEXT_INIT;

    if (!all && strcmp(name, "train") != 0)
        return;
    if (!d || !before) {
        if ((d != NULL) != (before != NULL))
            resume_refuse(f, "'%s' was made %s %s data, but there %s now; %s", checkpoint,
                          before ? "with" : "without", what, d ? "are some" : "are none",
                          "put the recipe's 'data' section back or start a new run");
        return;
    }
    print_digest(now, d);
    if (strcmp(now, before) == 0)
        return;
    name_difference(&words, d, was);
    f->no_memory |= words.failed;
    resume_refuse(f,
                  "the %s data has changed since '%s' was made: %s; put the old data back or start "
                  "a new run",
                  what, checkpoint, words.data ? words.data : "");
    text_done(&words);
}

/* ----------------------------------------------------------------------------------------------
 * program */

static void compare_optimizer(resume_findings *f, const trainer *t, const json_t *state,
                              const char *checkpoint)
{
    const char *const was = json_string_value(json_object_get(state, "optimizer"));
    const char *const is = t->job->recipe->rule->name;

    if (!was || strcmp(was, is) != 0)
        resume_refuse(f, "'%s' has the state of optimizer '%s', but the recipe says '%s'",
                      checkpoint, was ? was : "?", is);
}

/* Allowed, but bits may change. */
static void compare_word(resume_findings *f, const json_t *state, const char *key, const char *what,
                         const char *is)
{
    const char *const was = json_string_value(json_object_get(state, key));

    if (was && strcmp(was, is) != 0)
        resume_allow(f, "resumed with %s %s instead of %s: results may differ in the last bits",
                     what, is, was);
}

void resume_compare_origin(resume_findings *f, const trainer *t, const json_t *state,
                           const char *checkpoint)
{
    const int64_t threads = json_integer_value(json_object_get(state, "threads"));

    for (size_t i = 0; i < THAW_COUNT(splits); i++)
        compare_split(f, t, state, splits[i], checkpoint);
    compare_optimizer(f, t, state, checkpoint);
    compare_word(f, state, "thaw", "thaw", thaw_version());
    compare_word(f, state, "kernels", "kernels of", thaw_kernels());
    if (threads != t->job->threads)
        resume_allow(f,
                     "resumed with %d threads instead of %lld: results may differ in the last "
                     "bits",
                     t->job->threads, (long long)threads);
}
