/*
 * resume_check.c - what differs between a checkpoint and what is to go on from it: each difference
 * is named, and a table says whether it is refused or allowed, and what it means.
 *
 * The rule behind the table: what steps already made depended on must be as it was; what only steps
 * to come depend on may change. Phases are judged one by one, data by their content. What differs
 * in data and program is in resume_origin.c.
 */
#include "train/recipe_reader.h"
#include "train/train.h"

#include <stdio.h>
#include <string.h>

/* ----------------------------------------------------------------------------------------------
 * verdicts */

typedef enum verdict {
    REFUSED,
    FREE,    /* nothing that is learned depends on it */
    LATER,   /* holds for what comes */
    BITS,    /* allowed, but results may differ */
    CONTENT, /* a path, or a choice from a file: what it gives is compared instead */
    PHASES   /* compared phase by phase */
} verdict;

static const char *const consequence[] = {
    [REFUSED] = ("steps already made depended on it; put it back, set it in a phase that has not "
                 "begun, or start a new run"),
    [FREE] = "nothing that is learned depends on it",
    [LATER] = "this holds from here on",
    [BITS] = "results may differ from those of the run so far in the last bits",
    [CONTENT] = "what it gives is the same",
    [PHASES] = "",
};

/*
 * key NULL: the rest of the section. A recipe's key without a row is refused, but none should be:
 * sections of which new keys may be of any kind are told key by key.
 */
static const struct {
    const char *section, *key;
    verdict verdict;
} table[] = {
    {"", "name", FREE},
    {"", "seed", REFUSED},
    {"", "phase", PHASES},
    {"model", "path", CONTENT},
    {"model", NULL, REFUSED},
    {"data", "train", CONTENT},
    {"data", "train_labels", CONTENT},
    {"data", "valid", CONTENT},
    {"data", "valid_labels", CONTENT},
    {"data", "valid_skip", CONTENT},
    {"data", "valid_first", CONTENT},
    {"data", "valid_per_class", CONTENT},
    {"data", "test", FREE},
    {"data", "test_labels", FREE},
    {"data", "test_skip", FREE},
    {"data", "test_first", FREE},
    {"data", "test_per_class", FREE},
    {"data", "prefetch", FREE},
    {"data", "workers", FREE},
    {"data", "format", REFUSED},
    {"data", "num_classes", REFUSED},
    {"data", "classes", REFUSED},
    {"data", "skip", REFUSED},
    {"data", "first", REFUSED},
    {"data", "per_class", REFUSED},
    {"data", "subset_seed", REFUSED},
    {"data", "batch", REFUSED},
    {"data", "shuffle", REFUSED},
    {"data", "seed", REFUSED},
    {"data", "wrap", REFUSED},
    {"data", "mean", REFUSED},
    {"data", "std", REFUSED},
    {"data", "channels", REFUSED},
    {"data", "scale", REFUSED},
    {"data", "shift", REFUSED},
    {"data", "flip", REFUSED},
    {"data", "valid_fraction", REFUSED},
    {"data", "split_seed", REFUSED},
    {"data", "target", REFUSED},
    {"data", "image_size", REFUSED},
    {"data", "resize", REFUSED},
    {"data", "crop", REFUSED},
    {"data", "resize_to", REFUSED},
    {"data", "random_resized_crop", REFUSED},
    {"data", "colour_jitter", REFUSED},
    {"data", "broken", REFUSED},
    {"data", "max_pixels", REFUSED},
    {"optimizer", NULL, REFUSED},
    {"schedule", NULL, REFUSED},
    {"loss", NULL, REFUSED},
    {"train", "executor", BITS},
    {"train", "sums", BITS},
    {"train", "memory_limit", BITS},
    {"train", "precision", REFUSED},
    {"train", "frozen_norm", REFUSED},
    {"train", "eval_every", LATER},
    {"train", "eval_at_start", FREE},
    {"plan", "recompute", FREE},
    {"plan", "inplace", FREE},
    {"plan", NULL, BITS},
    {"cache", "views", REFUSED},
    {"cache", NULL, FREE},
    {"checkpoint", NULL, FREE},
    {"aliases", NULL, PHASES},
    {"module_patterns", NULL, REFUSED},
    {"freeze", NULL, REFUSED},
    {"freeze_schedule", NULL, REFUSED},
    {"phase", NULL, PHASES},
    {"phase.until", NULL, PHASES},
};

/* THAW_COUNT(table): there is none. */
static size_t find_row(const char *section, const char *key)
{
    size_t i = 0;

    while (i < THAW_COUNT(table) && (strcmp(table[i].section, section) != 0 ||
                                     (table[i].key && strcmp(table[i].key, key) != 0)))
        i++;
    return i;
}

bool resume_judges(const char *section, const char *key)
{
    return find_row(section, key) < THAW_COUNT(table);
}

static verdict verdict_of(const char *section, const char *key)
{
    const size_t row = find_row(section, key);

    return row < THAW_COUNT(table) ? table[row].verdict : REFUSED;
}

/* ----------------------------------------------------------------------------------------------
 * what was found */

void resume_refuse(resume_findings *f, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    text_add(&f->refused, f->n_refused++ > 0 ? "\n" : "");
    text_vaddf(&f->refused, format, args);
    va_end(args);
}

void resume_allow(resume_findings *f, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    text_vaddf(&f->allowed, format, args);
    text_add(&f->allowed, "\n");
    va_end(args);
}

static bool same_value(resume_findings *f, const toml_value *a, const toml_value *b)
{
    text x = TEXT_INIT, y = TEXT_INIT;
    bool same;

    if (!a || !b)
        return a == b;
    toml_add_value(&x, a);
    toml_add_value(&y, b);
    f->no_memory |= x.failed || y.failed;
    same = f->no_memory || (x.length == y.length && memcmp(x.data, y.data, x.length) == 0);
    text_done(&x);
    text_done(&y);
    return same;
}

static void add_value(text *t, const toml_value *v)
{
    const size_t start = t->length;

    if (!v) {
        text_add(t, "not set");
        return;
    }
    toml_add_value(t, v);
    if (t->length > start + 80) {
        t->length = start;
        text_add(t, v->type == TOML_TABLE ? "another table" : "another value");
    }
}

/* "'optimizer.lr' is 0.1, was 0.01: …" */
static void report(resume_findings *f, const char *name, const toml_value *was,
                   const toml_value *is, verdict v, const char *meaning)
{
    text t = TEXT_INIT;

    text_addf(&t, "'%s' is ", name);
    add_value(&t, is);
    text_add(&t, ", was ");
    add_value(&t, was);
    text_addf(&t, ": %s", meaning);
    f->no_memory |= t.failed;
    if (!t.failed && v == REFUSED)
        resume_refuse(f, "%s", t.data);
    else if (!t.failed)
        resume_allow(f, "recipe: %s", t.data);
    text_done(&t);
}

/* ----------------------------------------------------------------------------------------------
 * sections */

static void judge(resume_findings *f, const char *section, const toml_value *was,
                  const toml_value *is)
{
    const char *const key = is ? is->key : was->key;
    const verdict v = verdict_of(section, key);
    text name = TEXT_INIT;

    if (v == PHASES || same_value(f, was, is))
        return;
    text_addf(&name, "%s%s%s", section, *section ? "." : "", key);
    if (name.failed)
        f->no_memory = true;
    else
        report(f, name.data, was, is, v, consequence[v]);
    text_done(&name);
}

/* Of the old and the new table of a section, either of which may be missing. */
static void compare_keys(resume_findings *f, const char *section, const toml_value *was,
                         const toml_value *is)
{
    for (const toml_value *v = is ? is->first : NULL; v; v = v->next)
        judge(f, section, was ? toml_get(was, v->key) : NULL, v);
    for (const toml_value *v = was ? was->first : NULL; v; v = v->next)
        if (!is || !toml_get(is, v->key))
            judge(f, section, v, NULL);
}

static bool is_section(const toml_value *v)
{
    return v && v->type == TOML_TABLE;
}

static void compare_root(resume_findings *f, const toml_value *was, const toml_value *is)
{
    for (const toml_value *v = is->first; v; v = v->next) {
        const toml_value *const old = toml_get(was, v->key);

        if (v->type == TOML_TABLE)
            compare_keys(f, v->key, is_section(old) ? old : NULL, v);
        else
            judge(f, "", old, v);
    }
    for (const toml_value *v = was->first; v; v = v->next) {
        if (toml_get(is, v->key))
            continue;
        if (v->type == TOML_TABLE)
            compare_keys(f, v->key, v, NULL);
        else
            judge(f, "", v, NULL);
    }
}

/* ----------------------------------------------------------------------------------------------
 * phases */

/* Where the run stands among the phases it was begun with. */
typedef struct standing {
    thaw_progress progress;
    int n_begun; /* phases of which a step has been made, or that are over */
    int current; /* the one that is not over; -1: between two */
    int64_t end; /* of the current one */
} standing;

static thaw_status find_standing(standing *out, const thaw_recipe *old, const trainer *t)
{
    thaw_schedule *s = NULL;
    int64_t begin;
    int phase;

    THAW_CHECK(job_schedule(&s, old, t->job->model->tree, t->job->train->n));
    *out = (standing){.progress = {.iteration = t->state.iteration,
                                   .fired = t->state.fired,
                                   .n_fired = t->state.n_fired},
                      .current = -1};
    phase = thaw_schedule_phase_at(s, &out->progress);
    thaw_schedule_phase_span(&begin, &out->end, s, &out->progress, phase);
    out->n_begun = phase;
    if (out->progress.iteration > begin) {
        out->n_begun = phase + 1;
        out->current = phase;
    }
    thaw_schedule_destroy(s);
    return THAW_OK;
}

static const char *const length_keys[] = {"epochs", "steps", "samples", "tokens"};

static bool is_length(const char *key)
{
    for (size_t i = 0; i < THAW_COUNT(length_keys); i++)
        if (strcmp(length_keys[i], key) == 0)
            return true;
    return false;
}

/* A phase that is not over may become longer or shorter, but not end before where the run is. */
static void judge_length(resume_findings *f, const standing *s, const trainer *t)
{
    int64_t begin, end;

    thaw_schedule_phase_span(&begin, &end, t->job->schedule, &s->progress, s->current);
    if (end == s->end)
        return;
    if (end <= s->progress.iteration)
        resume_refuse(f, "phase %d would end at step %lld, but %lld steps are made; make it longer",
                      s->current + 1, (long long)end, (long long)s->progress.iteration);
    else
        resume_allow(f,
                     "recipe: phase %d ends at step %lld instead of %lld, and its curve is planned "
                     "for that from here on",
                     s->current + 1, (long long)end, (long long)s->end);
}

static void judge_phase_key(resume_findings *f, const standing *s, int phase, const toml_value *was,
                            const toml_value *is)
{
    const char *const key = is ? is->key : was->key;
    const bool open = phase == s->current;
    char name[96];
    verdict v = REFUSED;

    if (same_value(f, was, is) || (open && is_length(key)))
        return;
    if (strcmp(key, "name") == 0)
        v = FREE;
    else if (open && strcmp(key, "until") == 0)
        v = LATER;
    (void)snprintf(name, sizeof name, "phase.%d.%s", phase + 1, key);
    report(f, name, was, is, v,
           v != REFUSED ? consequence[v]
           : open ? "the phase has begun; put it back, or let it end here and add another phase"
                  : "the phase is over; put it back or start a new run");
}

/* What aliases stand for. */
static bool same_changes(const recipe_phase *a, const recipe_phase *b)
{
    if (a->n_changes != b->n_changes)
        return false;
    for (int i = 0; i < a->n_changes; i++) {
        const recipe_change *const x = &a->change[i], *const y = &b->change[i];

        if (x->kind != y->kind || x->coefficient != y->coefficient ||
            x->n_patterns != y->n_patterns)
            return false;
        for (int k = 0; k < x->n_patterns; k++)
            if (strcmp(x->pattern[k], y->pattern[k]) != 0)
                return false;
    }
    return true;
}

static void compare_begun(resume_findings *f, const standing *s, int phase, const toml_value *was,
                          const toml_value *is, const trainer *t, const thaw_recipe *old)
{
    const int before = f->n_refused;

    for (const toml_value *v = is->first; v; v = v->next)
        judge_phase_key(f, s, phase, toml_get(was, v->key), v);
    for (const toml_value *v = was->first; v; v = v->next)
        if (!toml_get(is, v->key))
            judge_phase_key(f, s, phase, v, NULL);
    if (f->n_refused == before && !same_changes(&old->phase[phase], &t->job->recipe->phase[phase]))
        resume_refuse(f,
                      "an alias that phase %d uses stands for other layers than before, and the "
                      "phase has begun; put it back or use another name",
                      phase + 1);
    if (phase == s->current)
        judge_length(f, s, t);
}

static const toml_value *nth(const toml_value *list, int i)
{
    const toml_value *v = list ? list->first : NULL;

    while (v && i-- > 0)
        v = v->next;
    return v;
}

static thaw_status compare_phases(resume_findings *f, const trainer *t, const thaw_recipe *old,
                                  const toml_value *was, const toml_value *is)
{
    const int n = t->job->recipe->n_phases;
    standing s = {0};

    THAW_CHECK(find_standing(&s, old, t));
    for (int p = 0; p < s.n_begun; p++) {
        if (p < n)
            compare_begun(f, &s, p, nth(was, p), nth(is, p), t, old);
        else
            resume_refuse(f, "phase %d has begun, but the recipe has only %d now; put it back",
                          p + 1, n);
    }
    for (int p = s.n_begun; p < THAW_MAX(n, old->n_phases); p++) {
        if (p >= old->n_phases)
            resume_allow(f, "recipe: phase %d is new", p + 1);
        else if (p >= n)
            resume_allow(f, "recipe: phase %d, which had not begun, is gone", p + 1);
        else if (!same_value(f, nth(was, p), nth(is, p)) ||
                 !same_changes(&old->phase[p], &t->job->recipe->phase[p]))
            resume_allow(f, "recipe: phase %d, which has not begun, has changed", p + 1);
    }
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * all of it */

/* Both in the form that this version of the program prints. */
static thaw_status compare_recipes(resume_findings *f, const trainer *t, const char *checkpoint)
{
    const char *const now = t->job->recipe->resolved;
    char *path = os_path(checkpoint, "recipe.toml");
    toml_document *was = NULL, *is = NULL;
    thaw_recipe *old = NULL;
    thaw_status status = THAW_OK;

    if (!path)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the path of a recipe");
    if (os_kind_of(path) == OS_ABSENT)
        goto done;
    THAW_TRY(thaw_recipe_load(&old, path, NULL, 0));
    THAW_TRY(toml_parse(&was, old->resolved, strlen(old->resolved), path));
    THAW_TRY(toml_parse(&is, now, strlen(now), "the resolved recipe"));
    compare_root(f, was->root, is->root);
    THAW_TRY(compare_phases(f, t, old, toml_get(was->root, "phase"), toml_get(is->root, "phase")));
done:
    toml_destroy(is);
    toml_destroy(was);
    thaw_recipe_destroy(old);
    thaw__free(path);
    return status;
}

thaw_status resume_check(trainer *t, const struct json_t *state, const char *checkpoint)
{
    resume_findings f = {0};
    thaw_status status = THAW_OK;

    resume_compare_origin(&f, t, state, checkpoint);
    THAW_TRY(compare_recipes(&f, t, checkpoint));
    if (f.no_memory || f.refused.failed || f.allowed.failed)
        status = thaw_fail(THAW_E_NOMEM, "out of memory comparing a run with its checkpoint");
    else if (f.n_refused > 0)
        status = thaw_fail(THAW_E_MISMATCH, "%s", f.refused.data);
    else if (f.allowed.data)
        text_add(&t->note, f.allowed.data);
done:
    text_done(&f.refused);
    text_done(&f.allowed);
    return status;
}
