/*
 * subset.c - which samples of a file to take: classes, then a range, then a random few of each
 * class.
 *
 * Works on labels alone and gives a rising list of sample numbers, so it never touches pixels. A
 * draw is the beginning of a permutation fixed by (seed, label): nothing is remembered between
 * calls.
 */
#include "data/data.h"

#include <string.h>

#define LABELS 256 /* values a u8 label can have */

static const dataset_subset everything = {0};

static int largest_label(const int64_t count[LABELS])
{
    int largest = 0;

    for (int i = 0; i < LABELS; i++)
        if (count[i] > 0)
            largest = i;
    return largest;
}

static thaw_status check_numbers(const dataset_subset *u)
{
    const struct {
        const char *name;
        int64_t value;
    } row[] = {{"skip", u->skip},
               {"first", u->first},
               {"per_class", u->per_class},
               {"the number of classes", u->n_classes}};

    for (size_t i = 0; i < THAW_COUNT(row); i++)
        if (row[i].value < 0)
            return thaw_fail(THAW_E_RANGE, "%s of a data subset is %lld, expected 0 or more",
                             row[i].name, (long long)row[i].value);
    if (u->classes && (u->n_classes < 1 || u->n_classes > LABELS))
        return thaw_fail(THAW_E_RANGE, "a data subset has %d classes, expected 1 to %d",
                         u->n_classes, LABELS);
    return THAW_OK;
}

static thaw_status choose_class(int32_t class_of[LABELS], int64_t label, int32_t number,
                                const int64_t count[LABELS], const char *name)
{
    if (label < 0 || label >= LABELS || count[label] == 0)
        return thaw_fail(THAW_E_DATA,
                         "class %lld was chosen but '%s' has no such label: its largest is %d",
                         (long long)label, name, largest_label(count));
    if (class_of[label] >= 0)
        return thaw_fail(THAW_E_RANGE, "class %lld is chosen twice in a data subset",
                         (long long)label);
    class_of[label] = number;
    return THAW_OK;
}

/* The number each label gets, and how many classes there are. */
static thaw_status number_classes(sample_selection *s, const dataset_subset *u, int expected,
                                  const int64_t count[LABELS], const char *name)
{
    const int labels = largest_label(count) + 1;

    if (!u->classes) {
        for (int i = 0; i < LABELS; i++)
            s->class_of[i] = i;
        s->n_classes = expected > 0 ? expected : labels;
        return THAW_OK;
    }
    for (int i = 0; i < LABELS; i++)
        s->class_of[i] = -1;
    for (int i = 0; i < u->n_classes; i++)
        THAW_CHECK(choose_class(s->class_of, u->classes[i], i, count, name));
    if (expected > 0 && u->n_classes > expected)
        return thaw_fail(THAW_E_DATA,
                         "%d classes of '%s' were chosen, expected at most %d: choose fewer, or "
                         "raise the number of classes",
                         u->n_classes, name, expected);
    s->n_classes = expected > 0 ? expected : u->n_classes;
    return THAW_OK;
}

/* Every label of the file, whether the subset keeps it or not: a wrong one means a wrong file. */
static thaw_status check_labels(const uint8_t *label, int64_t n, int expected, const char *name)
{
    for (int64_t i = 0; i < n; i++)
        if (label[i] >= expected)
            return thaw_fail(THAW_E_DATA,
                             "label %lld of '%s' is %d, expected 0 to %d: raise the number of "
                             "classes, or choose classes",
                             (long long)i, name, label[i], expected - 1);
    return THAW_OK;
}

static void keep_classes(sample_selection *s, const uint8_t *label, int64_t n)
{
    s->n = 0;
    for (int64_t i = 0; i < n; i++)
        if (s->class_of[label[i]] >= 0)
            s->index[s->n++] = i;
}

static thaw_status keep_range(sample_selection *s, const dataset_subset *u, const char *name)
{
    const int64_t left = s->n - u->skip;

    if (left <= 0)
        return thaw_fail(THAW_E_DATA,
                         "no samples are left of '%s': skip is %lld and there are %lld to choose "
                         "from",
                         name, (long long)u->skip, (long long)s->n);
    if (u->first > left)
        return thaw_fail(THAW_E_DATA,
                         "the first %lld samples of '%s' were asked for and there are %lld to "
                         "choose from: lower first or skip",
                         (long long)u->first, name, (long long)left);
    s->n = u->first > 0 ? u->first : left;
    memmove(s->index, s->index + u->skip, (size_t)s->n * sizeof *s->index);
    return THAW_OK;
}

/* Mark `keep` of the class's `have` samples; place is room for their places in s->index. */
static void draw_class(bool *keep, int64_t *place, const sample_selection *s, const uint8_t *label,
                       int wanted_label, int64_t have, int64_t want, uint64_t seed)
{
    philox_key key = philox_stream(seed, "data subset");
    uint32_t word[4];
    int64_t n = 0;

    philox(word, key, 0, (uint64_t)wanted_label);
    key = (philox_key){{word[0], word[1]}};
    for (int64_t i = 0; i < s->n; i++)
        if (label[s->index[i]] == wanted_label)
            place[n++] = i;
    for (int64_t i = 0; i < want; i++)
        keep[place[permute((uint64_t)i, (uint64_t)have, key)]] = true;
}

/* Every class that there is must have enough samples. */
static thaw_status check_enough(int64_t have[LABELS], const sample_selection *s,
                                const uint8_t *label, int64_t want, const char *name)
{
    memset(have, 0, LABELS * sizeof *have);
    for (int64_t i = 0; i < s->n; i++)
        have[label[s->index[i]]]++;
    for (int i = 0; i < LABELS; i++)
        if (s->class_of[i] >= 0 && s->class_of[i] < s->n_classes && have[i] < want)
            return thaw_fail(THAW_E_DATA,
                             "class %d of '%s' has %lld samples to choose from, per_class asks for "
                             "%lld: lower it, or choose other classes",
                             i, name, (long long)have[i], (long long)want);
    return THAW_OK;
}

static thaw_status keep_some(sample_selection *s, const uint8_t *label, const dataset_subset *u,
                             const char *name)
{
    thaw_status status = THAW_OK;
    int64_t have[LABELS];
    int64_t *place = NULL, n = 0;
    bool *keep = NULL;

    THAW_TRY(check_enough(have, s, label, u->per_class, name));
    keep = thaw__new((size_t)s->n, sizeof *keep);
    place = thaw__new((size_t)s->n, sizeof *place);
    if (!keep || !place) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory to choose samples of '%s'", name);
        goto done;
    }
    for (int i = 0; i < LABELS; i++)
        if (have[i] > 0)
            draw_class(keep, place, s, label, i, have[i], u->per_class, u->seed);
    for (int64_t i = 0; i < s->n; i++)
        if (keep[i])
            s->index[n++] = s->index[i];
    s->n = n;
done:
    thaw__free(place);
    thaw__free(keep);
    return status;
}

thaw_status dataset_select(sample_selection *out, const uint8_t *label, int64_t n,
                           const dataset_subset *subset, int n_classes_expected,
                           const char *labels_name)
{
    thaw_status status = THAW_OK;
    const dataset_subset *u = subset ? subset : &everything;
    int64_t count[LABELS] = {0};
    sample_selection s = {0};

    THAW_TRY(check_numbers(u));
    for (int64_t i = 0; i < n; i++)
        count[label[i]]++;
    THAW_TRY(number_classes(&s, u, n_classes_expected, count, labels_name));
    if (!u->classes)
        THAW_TRY(check_labels(label, n, s.n_classes, labels_name));
    s.index = thaw__new((size_t)n, sizeof *s.index);
    if (!s.index) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory to choose samples of '%s'", labels_name);
        goto done;
    }
    keep_classes(&s, label, n);
    THAW_TRY(keep_range(&s, u, labels_name));
    if (u->per_class > 0)
        THAW_TRY(keep_some(&s, label, u, labels_name));
    *out = s;
    s.index = NULL;
done:
    thaw__free(s.index);
    return status;
}
