/*
 * record.c - the part of a checkpoint's state.json that belongs to the phase state: how far the run
 * is, which phases a metric ended, and the edits made by hand.
 *
 * Can be read without data, weights or a trainer, so that looking at a checkpoint and editing it
 * cost little. Adding an edit leaves everything else in the file as it is.
 */
#include "train/train.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#define STATE_MOST   (16u << 20)        /* bytes of state.json */
#define SAMPLES_MOST (INT64_C(1) << 48) /* so that sums with it cannot overflow */

static const char *const edit_names[] = {
    [THAW_EDIT_FREEZE] = "freeze", [THAW_EDIT_UNFREEZE] = "unfreeze", [THAW_EDIT_LR] = "lr"};

const char *edit_name(thaw_edit_kind kind)
{
    return edit_names[kind];
}

/* ----------------------------------------------------------------------------------------------
 * reading */

static thaw_status bad(const char *path, const char *what)
{
    return thaw_fail(THAW_E_CORRUPT, "'%s': %s", path, what);
}

static thaw_status fail_memory(void)
{
    return thaw_fail(THAW_E_NOMEM, "out of memory for the edits of a checkpoint");
}

static thaw_status load_json(json_t **out, char **path, const char *checkpoint)
{
    char *data = NULL;
    size_t size;
    thaw_status status;

    *path = os_path(checkpoint, "state.json");
    if (!*path)
        return fail_memory();
    THAW_CHECK(os_read_file(&data, &size, *path, STATE_MOST));
    status = json_parse(out, data, size, *path);
    thaw__free(data);
    return status == THAW_E_DATA ? THAW_E_CORRUPT : status;
}

/* Each phase ends once, and by now. */
static bool fired_valid(const run_record *r, int n, int64_t phase, int64_t iteration)
{
    return phase >= 0 && phase <= INT32_MAX && iteration >= 0 && iteration <= r->iteration &&
           (n == 0 || phase > r->fired[n - 1].phase);
}

static thaw_status read_fired(run_record *r, const json_t *list, const char *path)
{
    const size_t n = json_array_size(list);

    r->fired = region_alloc(r->region, n + 1, sizeof *r->fired);
    if (!r->fired)
        return fail_memory();
    for (size_t i = 0; i < n; i++) {
        const json_t *pair = json_array_get(list, i);
        const json_t *phase = json_array_get(pair, 0), *at = json_array_get(pair, 1);

        if (!json_is_integer(phase) || !json_is_integer(at) ||
            !fired_valid(r, (int)i, json_integer_value(phase), json_integer_value(at)))
            return bad(path, "the list of ended phases is malformed");
        r->fired[i] = (thaw_fired){(int32_t)json_integer_value(phase), json_integer_value(at)};
    }
    r->n_fired = (int)n;
    return THAW_OK;
}

static bool find_kind(thaw_edit_kind *out, const json_t *name)
{
    for (size_t i = 0; json_is_string(name) && i < THAW_COUNT(edit_names); i++)
        if (strcmp(json_string_value(name), edit_names[i]) == 0) {
            *out = (thaw_edit_kind)i;
            return true;
        }
    return false;
}

static thaw_status read_patterns(run_edit *e, thaw_region *region, const json_t *list,
                                 const char *path)
{
    const size_t n = json_array_size(list);

    e->pattern = region_alloc(region, n + 1, sizeof *e->pattern);
    if (!e->pattern)
        return fail_memory();
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, i);

        if (!json_is_string(item))
            return bad(path, "an edit has a pattern that is no text");
        e->pattern[i] = region_strdup(region, json_string_value(item));
        if (!e->pattern[i])
            return fail_memory();
    }
    e->n_patterns = (int)n;
    return n > 0 ? THAW_OK : bad(path, "an edit has no patterns");
}

static thaw_status read_edit(run_edit *e, const run_record *r, const json_t *item, const char *path)
{
    const json_t *iteration = json_object_get(item, "iteration");
    const json_t *coefficient = json_object_get(item, "coefficient");

    if (!find_kind(&e->kind, json_object_get(item, "op")))
        return bad(path, "an edit does something this version does not know");
    e->iteration = json_integer_value(iteration);
    if (!json_is_integer(iteration) || e->iteration < 0 || e->iteration > r->iteration)
        return bad(path, "an edit was made at an iteration that has not been reached");
    e->coefficient = e->kind == THAW_EDIT_LR ? json_number_value(coefficient) : 1;
    if (e->kind == THAW_EDIT_LR && (!json_is_number(coefficient) || !(e->coefficient >= 0)))
        return bad(path, "an edit of a rate has no coefficient");
    return read_patterns(e, r->region, json_object_get(item, "patterns"), path);
}

static thaw_status read_all(run_record *r, const json_t *root, const char *path)
{
    const json_t *progress = json_object_get(root, "progress");
    const json_t *iteration = json_object_get(progress, "iteration");
    const json_t *edits = json_object_get(root, "edits");
    const size_t n = json_array_size(edits);

    r->iteration = json_integer_value(iteration);
    r->samples = json_integer_value(json_object_get(root, "samples"));
    if (!json_is_integer(iteration) || r->iteration < 0 || r->samples < 0 ||
        r->samples > SAMPLES_MOST)
        return bad(path, "its progress is out of range");
    THAW_CHECK(read_fired(r, json_object_get(progress, "fired"), path));
    if (edits && !json_is_array(edits))
        return bad(path, "'edits' is not a list");
    r->edit = region_alloc(r->region, n + 1, sizeof *r->edit);
    if (!r->edit)
        return fail_memory();
    for (size_t i = 0; i < n; i++)
        THAW_CHECK(read_edit(&r->edit[i], r, json_array_get(edits, i), path));
    r->n_edits = (int)n;
    return THAW_OK;
}

thaw_status record_read(run_record **out, const char *checkpoint)
{
    json_t *root = NULL;
    char *path = NULL;
    run_record *r = thaw__new(1, sizeof *r);
    thaw_status status;

    if (!r)
        return fail_memory();
    THAW_TRY(region_create(&r->region));
    THAW_TRY(load_json(&root, &path, checkpoint));
    THAW_TRY(read_all(r, root, path));
    *out = r;
    r = NULL;
done:
    json_decref(root);
    thaw__free(path);
    record_destroy(r);
    return status;
}

void record_destroy(run_record *r)
{
    if (!r)
        return;
    region_destroy(r->region);
    thaw__free(r);
}

thaw_progress record_progress(const run_record *r)
{
    return (thaw_progress){
        .iteration = r->iteration, .fired = r->fired, .n_fired = (int32_t)r->n_fired};
}

/* ----------------------------------------------------------------------------------------------
 * edits */

thaw_status edit_apply(thaw_schedule *s, const run_edit *e)
{
    const char *const *patterns = (const char *const *)e->pattern;

    if (e->kind == THAW_EDIT_FREEZE)
        return thaw_schedule_edit_freeze(s, e->iteration, patterns, e->n_patterns);
    if (e->kind == THAW_EDIT_UNFREEZE)
        return thaw_schedule_edit_unfreeze(s, e->iteration, patterns, e->n_patterns);
    return thaw_schedule_edit_coefficient(s, e->iteration, e->coefficient, patterns, e->n_patterns);
}

thaw_status record_apply(const run_record *r, thaw_schedule *s)
{
    for (int i = 0; i < r->n_edits; i++)
        THAW_CHECK(edit_apply(s, &r->edit[i]));
    return THAW_OK;
}

static void print_edit(text *out, const run_edit *e)
{
    text_addf(out, "{\"iteration\": %lld, \"op\": \"%s\", ", (long long)e->iteration,
              edit_name(e->kind));
    if (e->kind == THAW_EDIT_LR) {
        text_add(out, "\"coefficient\": ");
        text_add_json_double(out, e->coefficient);
        text_add(out, ", ");
    }
    text_add(out, "\"patterns\": [");
    for (int i = 0; i < e->n_patterns; i++) {
        text_add(out, i ? ", " : "");
        text_add_json_string(out, e->pattern[i]);
    }
    text_add(out, "]}");
}

void record_print_edits(text *out, const run_record *r)
{
    text_add(out, "[");
    for (int i = 0; r && i < r->n_edits; i++) {
        text_add(out, i ? ",\n    " : "\n    ");
        print_edit(out, &r->edit[i]);
    }
    text_add(out, r && r->n_edits > 0 ? "\n  ]" : "]");
}

static int add_piece(const char *data, size_t n, void *user)
{
    text *out = user;

    text_add_n(out, data, n);
    return out->failed ? -1 : 0;
}

thaw_status record_with_edit(char **out, const char *checkpoint, const run_edit *edit)
{
    text one = TEXT_INIT;
    json_t *root = NULL, *edits, *last;
    text all = TEXT_INIT;
    char *path = NULL;
    thaw_status status;

    print_edit(&one, edit);
    THAW_TRY(load_json(&root, &path, checkpoint));
    edits = json_object_get(root, "edits");
    if (!edits && json_object_set_new(root, "edits", json_array()) == 0)
        edits = json_object_get(root, "edits");
    if (one.failed || json_parse(&last, one.data, one.length, "an edit") != THAW_OK ||
        json_array_append_new(edits, last) != 0) {
        status = fail_memory();
        goto done;
    }
    if (json_dump_callback(root, add_piece, &all, JSON_INDENT(2)) != 0) {
        status = fail_memory();
        goto done;
    }
    text_add(&all, "\n");
    THAW_TRY(text_take(out, &all, "the edits of a checkpoint"));
done:
    text_done(&all);
    json_decref(root);
    thaw__free(path);
    text_done(&one);
    return status;
}
