/*
 * family_specs.c - the families freeze, schedule and checkpoint: freezing by parameter patterns,
 * what holds at a step, and what metadata says. Python's message texts count here.
 */
#include "golden/golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- freeze */

static void check_totals(golden_run *g, const char *id, const json_t *want,
                         const thaw_freeze_total *totals, int n)
{
    bool same = n == (int)json_array_size(want);

    for (int i = 0; i < n && same; i++) {
        const json_t *pair = json_array_get(want, (size_t)i);

        same = !strcmp(json_string_value(json_array_get(pair, 0)), totals[i].module) &&
               json_integer_value(json_array_get(pair, 1)) == totals[i].flipped;
    }
    golden_check(g, same, "%s: totals differ", id);
}

static void run_freeze_step(golden_run *g, const char *id, const golden_model *m, bool *trainable,
                            const json_t *step, const thaw_alias *aliases, int n_aliases)
{
    const char *fn = text_of(step, "fn");

    if (!strcmp(fn, "freeze_params")) {
        int n;
        const char **patterns = golden_texts(&n, json_object_get(step, "patterns"));
        int64_t flipped = -1;

        golden_ok(g,
                  thaw_freeze_params(&flipped, trainable, m->tree, patterns, n,
                                     json_is_true(json_object_get(step, "frozen"))),
                  id);
        golden_check(g, flipped == json_integer_value(json_object_get(step, "flipped")),
                     "%s: %lld elements flipped", id, (long long)flipped);
        thaw__free(patterns);
    } else if (!strcmp(fn, "apply_freeze_specs")) {
        int n, n_totals = 0;
        thaw_freeze_spec *specs = golden_specs(&n, json_object_get(step, "specs"));
        thaw_freeze_total *totals = thaw__new((size_t)n, sizeof(*totals));

        golden_ok(g,
                  thaw_apply_freeze_specs(totals, &n_totals, trainable, m->tree, specs, n, aliases,
                                          n_aliases),
                  id);
        check_totals(g, id, json_object_get(step, "totals"), totals, n_totals);
        thaw__free(totals);
        thaw__free(specs);
    }
}

static void run_freeze(golden_run *g, const json_t *sequence)
{
    const char *id = text_of(sequence, "id");
    const golden_model *m = golden_find_model(g, text_of(sequence, "model"));
    const json_t *step;
    thaw_alias *aliases;
    bool *trainable;
    size_t i;
    int n_aliases;

    if (!m)
        return;
    aliases = golden_aliases(&n_aliases, json_object_get(sequence, "pattern_map"));
    trainable = thaw__new((size_t)m->n_params, sizeof(*trainable));
    json_array_foreach(json_object_get(sequence, "steps"), i, step)
    {
        const char *bits = text_of(step, "trainable");

        if (i == 0)
            for (int p = 0; p < m->n_params; p++)
                trainable[m->param[p]] = bits[p] == '1';
        else
            run_freeze_step(g, id, m, trainable, step, aliases, n_aliases);
        golden_check(g, golden_bits_equal(bits, trainable, m), "%s: mask after step %zu", id, i);
    }
    thaw__free(trainable);
    golden_aliases_free(aliases, n_aliases);
}

void golden_freeze(golden_run *g, const json_t *root)
{
    const json_t *sequence;
    size_t i;

    json_array_foreach(json_object_get(root, "sequences"), i, sequence) run_freeze(g, sequence);
}

/* ---- schedule */

static void check_aliases(golden_run *g, const char *arch, const json_t *want)
{
    const thaw_alias *aliases = NULL;
    int n = 0;
    bool same =
        thaw_arch_aliases(&aliases, &n, arch) == THAW_OK && n == (int)json_object_size(want);

    for (int i = 0; i < n && same; i++) {
        const json_t *list = json_object_get(want, aliases[i].name);

        same = list && aliases[i].n_patterns == (int)json_array_size(list);
        for (int k = 0; k < aliases[i].n_patterns && same; k++)
            same =
                !strcmp(aliases[i].pattern[k], json_string_value(json_array_get(list, (size_t)k)));
    }
    golden_check(g, same, "aliases of '%s'", arch);
}

static bool same_specs(const thaw_freeze_spec *have, int n, const json_t *want)
{
    if (!json_is_array(want) || n != (int)json_array_size(want))
        return false;
    for (int i = 0; i < n; i++) {
        const json_t *pair = json_array_get(want, (size_t)i);

        if (strcmp(have[i].module, json_string_value(json_array_get(pair, 0))) != 0 ||
            have[i].frozen != json_is_true(json_array_get(pair, 1)))
            return false;
    }
    return true;
}

static void check_effective(golden_run *g, const json_t *c)
{
    const json_t *schedule = json_object_get(c, "schedule"), *row, *v;
    const json_t *known = json_object_get(c, "valid_modules");
    int n_base, n_stages = (int)json_array_size(schedule), n_valid, n_all;
    thaw_freeze_spec *base = golden_specs(&n_base, json_object_get(c, "base")), *out;
    thaw_freeze_stage *stages = thaw__new((size_t)n_stages, sizeof(*stages));
    const char **valid = golden_texts(&n_valid, known);
    size_t i;

    n_all = n_base;
    json_array_foreach(schedule, i, v)
    {
        stages[i].start_step = json_integer_value(json_array_get(v, 0));
        stages[i].spec = golden_specs(&stages[i].n_specs, json_array_get(v, 1));
        n_all += stages[i].n_specs;
    }
    if (!json_is_array(known))
        n_valid = -1;
    out = thaw__new((size_t)n_all, sizeof(*out));
    json_array_foreach(json_object_get(c, "results"), i, row)
    {
        const json_t *want = json_array_get(row, 1);
        const long long step = json_integer_value(json_array_get(row, 0));
        int n = 0;
        const thaw_status status =
            thaw_effective_freeze(out, &n, step, base, n_base, stages, n_stages, valid, n_valid);

        if (json_is_object(want))
            golden_check(
                g, status == THAW_E_NOMATCH && !strcmp(thaw_error(), text_of(want, "message")),
                "effective '%s' at %lld: '%s', want '%s'", text_of(c, "name"), step,
                status ? thaw_error() : "(no error)", text_of(want, "message"));
        else
            golden_check(g, status == THAW_OK && same_specs(out, n, want),
                         "effective '%s' at %lld: %s", text_of(c, "name"), step,
                         status ? thaw_error() : "another list");
    }
    for (int k = 0; k < n_stages; k++)
        thaw__free((void *)(uintptr_t)stages[k].spec);
    thaw__free(out);
    thaw__free(valid);
    thaw__free(stages);
    thaw__free(base);
}

/* Step and token count of a metadata file are not told apart from it; read them back. */
static void check_canonical(golden_run *g, const json_t *c)
{
    const char *want_file = text_of(c, "metadata_json");
    json_t *file = json_loads(want_file, 0, NULL);
    int n_specs, n = 0;
    thaw_freeze_spec *specs = golden_specs(&n_specs, json_object_get(c, "specs"));
    thaw_freeze_spec *out = thaw__new((size_t)n_specs, sizeof(*out));
    char *json = NULL, *metadata = NULL;

    thaw_canonical_freeze_meta(out, &n, specs, n_specs);
    golden_check(g, same_specs(out, n, json_object_get(c, "meta")), "canonical form of %s",
                 text_of(c, "json"));
    golden_ok(g, thaw_freeze_meta_json(&json, specs, n_specs), "canonical JSON");
    golden_check(g, json && !strcmp(json, text_of(c, "json")), "'%s', want '%s'", json,
                 text_of(c, "json"));
    golden_ok(g,
              thaw_freeze_metadata_json(
                  &metadata, json_integer_value(json_object_get(file, "step")),
                  json_integer_value(json_object_get(file, "tokens_seen")), specs, n_specs),
              "metadata file");
    golden_check(g, metadata && !strcmp(metadata, want_file), "'%s', want '%s'", metadata,
                 want_file);
    thaw_text_free(metadata);
    thaw_text_free(json);
    thaw__free(out);
    thaw__free(specs);
    json_decref(file);
}

void golden_schedule(golden_run *g, const json_t *root)
{
    const char *arch;
    json_t *c;
    size_t i;

    check_aliases(g, "joint_decoder", json_object_get(root, "default_module_patterns"));
    json_object_foreach(json_object_get(root, "arch_module_patterns"), arch, c)
        check_aliases(g, arch, c);
    json_array_foreach(json_object_get(root, "effective"), i, c) check_effective(g, c);
    json_array_foreach(json_object_get(root, "canonical"), i, c) check_canonical(g, c);
}

/* ---- checkpoint */

#define FOLDER "/checkpoints/step_7"

/* {DIR} in a wanted text stands for the folder. */
static char *with_folder(const char *template)
{
    text t = TEXT_INIT;
    char *out = NULL;

    for (const char *s = template; *s;) {
        if (!strncmp(s, "{DIR}", 5)) {
            text_add(&t, FOLDER);
            s += 5;
        } else {
            text_add_n(&t, s++, 1);
        }
    }
    return text_take(&out, &t, "a text") == THAW_OK ? out : NULL;
}

/* The wording of JSON parsers differs; that a file could not be read is told by both. */
static bool same_warning(const char *have, const json_t *warnings)
{
    const char *unreadable = "Could not read";
    char *want = NULL;
    bool same;

    if (json_array_size(warnings) != 1)
        return !have && json_array_size(warnings) == 0;
    want = with_folder(json_string_value(json_array_get(warnings, 0)));
    same = have && (!strcmp(have, want) || (!strncmp(have, unreadable, strlen(unreadable)) &&
                                            !strncmp(want, unreadable, strlen(unreadable))));
    thaw_text_free(want);
    return same;
}

/* Python takes 1 for true in a list it compares; a missing module is a KeyError there. */
static bool same_failure(const json_t *c, thaw_status status)
{
    char *want;
    bool same;

    if (status == THAW_E_DATA)
        return strcmp(text_of(c, "error"), "ValueError") != 0;
    want = with_folder(text_of(c, "message"));
    same = status == THAW_E_MISMATCH && want && !strcmp(thaw_error(), want);
    thaw_text_free(want);
    return same;
}

static char *metadata_of(const json_t *c)
{
    const json_t *raw = json_object_get(c, "metadata_text"),
                 *step = json_object_get(c, "peek_step");
    char *made = NULL;
    int n;

    if (raw)
        return json_is_string(raw) ? thaw__strdup(json_string_value(raw)) : NULL;
    if (!json_object_get(c, "saved"))
        return NULL;
    thaw_freeze_spec *saved = golden_specs(&n, json_object_get(c, "saved"));

    if (thaw_freeze_metadata_json(&made, json_integer_value(step), 0, saved, n) != THAW_OK)
        made = NULL;
    thaw__free(saved);
    return made;
}

static void check_compare(golden_run *g, const json_t *c)
{
    const json_t *list = json_object_get(c, "expected"), *peek = json_object_get(c, "peek_step");
    const char *name = text_of(c, "name");
    char *metadata = metadata_of(c), *warning = NULL;
    int n;
    thaw_freeze_spec *expected = golden_specs(&n, list);
    int64_t step = -1;
    bool has_step;
    const thaw_status status = thaw_freeze_metadata_compare(
        &warning, FOLDER, metadata, expected, json_is_array(list) ? n : -1,
        json_is_true(json_object_get(c, "ignore")));

    if (!strcmp(text_of(c, "outcome"), "loaded"))
        golden_check(g, status == THAW_OK, "%s: refused: %s", name, status ? thaw_error() : "");
    else
        golden_check(g, same_failure(c, status), "%s: '%s', want '%s'", name,
                     status ? thaw_error() : "loaded", text_of(c, "message"));
    golden_check(g, same_warning(warning, json_object_get(c, "warnings")), "%s: warning '%s'", name,
                 warning ? warning : "(none)");
    has_step = thaw_peek_saved_step(&step, metadata);
    golden_check(
        g, has_step == json_is_integer(peek) && (!has_step || step == json_integer_value(peek)),
        "%s: saved step %lld", name, (long long)step);
    thaw_text_free(warning);
    thaw_text_free(metadata);
    thaw__free(expected);
}

/* "0..39,100,101" */
static bool in_ranges(const char *ranges, long step)
{
    for (const char *s = ranges; *s;) {
        char *end;
        const long low = strtol(s, &end, 10);
        const long high = !strncmp(end, "..", 2) ? strtol(end + 2, &end, 10) : low;

        if (low <= step && step <= high)
            return true;
        s = *end == ',' ? end + 1 : end + strlen(end);
    }
    return false;
}

static bool has_integer(const json_t *list, long value)
{
    const json_t *v;
    size_t i;

    json_array_foreach(list, i, v) if (json_integer_value(v) == value) return true;
    return false;
}

static void check_should_save(golden_run *g, const json_t *c)
{
    const json_t *window = json_object_get(c, "window");
    const json_int_t interval = json_integer_value(json_object_get(c, "interval"));
    const bool has = json_is_array(window);
    const json_int_t first = has ? json_integer_value(json_array_get(window, 0)) : 1;
    const json_int_t last = has ? json_integer_value(json_array_get(window, 1)) : 0;

    for (long step = 0; step <= 4096; step++) {
        if (!in_ranges(text_of(c, "tested"), step))
            continue;
        golden_check(g,
                     thaw_save_due(step, interval, first, last) ==
                         has_integer(json_object_get(c, "save_steps"), step),
                     "save at %ld with interval %lld, window %lld..%lld", step, (long long)interval,
                     (long long)first, (long long)last);
        golden_check(
            g,
            (has && step >= first && step <= last && thaw_save_due(step, INT64_MAX, first, last)) ==
                has_integer(json_object_get(c, "milestones"), step),
            "milestone at %ld, window %lld..%lld", step, (long long)first, (long long)last);
    }
}

void golden_checkpoint(golden_run *g, const json_t *root)
{
    const json_t *c;
    size_t i;

    golden_configs(g, json_object_get(root, "config"));
    json_array_foreach(json_object_get(root, "compare"), i, c) check_compare(g, c);
    json_array_foreach(json_object_get(root, "should_save"), i, c) check_should_save(g, c);
}
