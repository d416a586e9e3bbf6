/*
 * run_state.c - what a checkpoint holds, written and taken up again: weights, optimizer state by
 * name, progress, data position, and where the run's history ends. Nothing is matched by position.
 */
#include "train/train.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define STATE_FORMAT 1
#define STATE_MOST   (64u << 20) /* bytes of state.json */

/* Numbers of run_state that are kept, a row each. */
enum number_type { NUMBER_INT, NUMBER_INT64, NUMBER_DOUBLE };
#define ROW(type, member)                                                                          \
    {                                                                                              \
#member, type, offsetof(run_state, member)                                                 \
    }
static const struct number_row {
    const char *name;
    enum number_type type;
    size_t offset;
} number_table[] = {
    ROW(NUMBER_INT64, iteration),      ROW(NUMBER_INT64, epoch),
    ROW(NUMBER_INT64, index),          ROW(NUMBER_INT64, updates),
    ROW(NUMBER_INT64, built_at),       ROW(NUMBER_INT64, images),
    ROW(NUMBER_INT, skipped),          ROW(NUMBER_INT, skipped_in_row),
    ROW(NUMBER_DOUBLE, loss_smoothed), ROW(NUMBER_DOUBLE, best),
    ROW(NUMBER_INT64, best_iteration), ROW(NUMBER_DOUBLE, phase_best),
    ROW(NUMBER_INT, phase_stale),      ROW(NUMBER_DOUBLE, phase_seconds),
    ROW(NUMBER_INT64, phase_images),   ROW(NUMBER_INT, phase_skipped),
    ROW(NUMBER_INT64, events_bytes),   ROW(NUMBER_DOUBLE, last_loss),
    ROW(NUMBER_DOUBLE, last_metric),
};

/* ----------------------------------------------------------------------------------------------
 * state.json, out */

static void print_number(text *out, const run_state *s, const struct number_row *row)
{
    const char *at = (const char *)s + row->offset;
    int64_t big;
    double real;
    int number;

    text_addf(out, "    \"%s\": ", row->name);
    if (row->type == NUMBER_INT) {
        memcpy(&number, at, sizeof number);
        text_addf(out, "%d", number);
    } else if (row->type == NUMBER_INT64) {
        memcpy(&big, at, sizeof big);
        text_addf(out, "%lld", (long long)big);
    } else {
        memcpy(&real, at, sizeof real);
        text_add_json_double(out, real);
    }
    text_add(out, ",\n");
}

static void print_progress(text *out, const run_state *s)
{
    text_add(out, "  \"progress\": {\n");
    for (size_t i = 0; i < THAW_COUNT(number_table); i++)
        print_number(out, s, &number_table[i]);
    text_add(out, "    \"fired\": [");
    for (int i = 0; i < s->n_fired; i++)
        text_addf(out, "%s[%d, %lld]", i ? ", " : "", s->fired[i].phase,
                  (long long)s->fired[i].iteration);
    text_add(out, "]\n  },\n");
}

/* Own update counts of parameters that have been updated, and whose state waits for a thaw. */
static void print_own_updates(text *out, const params *p)
{
    int shown = 0;

    text_add(out, "  \"own_updates\": {");
    for (int i = 0; i < p->n_trained; i++) {
        if (p->item[i].steps == 0)
            continue;
        text_add(out, shown++ ? ",\n    " : "\n    ");
        text_add_json_string(out, p->item[i].name);
        text_addf(out, ": [%lld, %s]", (long long)p->item[i].steps,
                  p->item[i].parked ? "true" : "false");
    }
    text_add(out, "\n  }\n");
}

static void print_state(text *out, const trainer *t)
{
    text_addf(out, "{\n  \"format\": %d,\n  \"thaw\": \"%s\",\n  \"kernels\": ", STATE_FORMAT,
              thaw_version());
    text_add_json_string(out, thaw_kernels());
    text_addf(out, ",\n  \"threads\": %d,\n  \"executor\": \"%s\",\n", t->job->threads,
              t->job->recipe->executor->name);
    text_addf(out, "  \"data\": \"%016llx\",\n", (unsigned long long)t->job->train->digest);
    text_add(out, "  \"optimizer\": ");
    text_add_json_string(out, t->job->recipe->rule->name);
    text_add(out, ",\n");
    text_addf(out, "  \"samples\": %lld,\n  \"edits\": ", (long long)t->job->train->n);
    record_print_edits(out, t->record);
    text_add(out, ",\n");
    print_progress(out, &t->state);
    print_own_updates(out, t->job->params);
    text_add(out, "}\n");
}

/* ----------------------------------------------------------------------------------------------
 * saving */

/* Sources of all optimizer state, named "layer1.0.conv1.weight.exp_avg". Names live in `names`. */
static thaw_status optimizer_sources(st_source **out, int *n, thaw_region *names, const trainer *t)
{
    const params *p = t->job->params;
    st_source *s = thaw__new((size_t)p->n_trained * PARAM_MAX_STATE, sizeof *s);
    int count = 0;

    if (!s)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a list of optimizer state");
    for (int i = 0; i < p->n_trained; i++)
        for (int k = 0; k < p->item[i].n_state; k++) {
            const param *item = &p->item[i];
            const char *state = t->job->recipe->rule->state_name[k];
            const size_t size = strlen(item->name) + strlen(state) + 2;
            char *name = region_alloc(names, size, 1);

            if (!name) {
                thaw__free(s);
                return thaw_fail(THAW_E_NOMEM, "out of memory for the names of optimizer state");
            }
            (void)snprintf(name, size, "%s.%s", item->name, state);
            s[count++] = (st_source){
                .name = name, .dtype = item->dtype, .shape = item->shape, .data = item->state[k]};
        }
    *out = s;
    *n = count;
    return THAW_OK;
}

static ckpt_file text_file(const char *name, const text *t)
{
    return (ckpt_file){.name = name, .bytes = t->data, .size = t->length};
}

static thaw_status commit(trainer *t, const char *folder, const text *state, const text *config)
{
    const text recipe = {.data = t->job->recipe->resolved,
                         .length = strlen(t->job->recipe->resolved)};
    st_source *weights = NULL, *moments = NULL;
    thaw_region *names = NULL;
    int n_moments = 0;
    thaw_status status;

    THAW_TRY(region_create(&names));
    THAW_TRY(weights_sources(&weights, t->job->params, NULL));
    THAW_TRY(optimizer_sources(&moments, &n_moments, names, t));
    const ckpt_file file[] = {
        {.name = "model.safetensors",
         .tensor = weights,
         .n_tensors = t->job->params->n,
         .metadata_json = "{\"format\":\"pt\"}"},
        {.name = "optimizer.safetensors", .tensor = moments, .n_tensors = n_moments},
        text_file("config.json", config),
        text_file("recipe.toml", &recipe),
        text_file("state.json", state),
    };
    THAW_TRY(ckpt_commit(folder, t->state.iteration, 0, file, (int)THAW_COUNT(file)));
done:
    thaw__free(weights);
    thaw__free(moments);
    region_destroy(names);
    return status;
}

static void tell_saved(trainer *t, const char *folder)
{
    char *path = ckpt_path(folder, (ckpt_id){.step = t->state.iteration});
    thaw_event event = {.kind = THAW_EVENT_SAVE, .text = path};

    trainer_tell(t, &event);
    thaw__free(path);
}

thaw_status state_save(trainer *t)
{
    const double seconds = t->state.phase_seconds;
    char *folder = os_path(t->options->run, "checkpoints");
    text state = TEXT_INIT, config = TEXT_INIT;
    thaw_status status = THAW_OK;

    if (t->phase >= 0)
        t->state.phase_seconds += os()->monotonic() - t->phase_begun;
    print_state(&state, t);
    t->state.phase_seconds = seconds;
    model_config_print(&config, &t->job->model->config);
    if (!folder || state.failed || config.failed) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for a checkpoint");
        goto done;
    }
    THAW_TRY(os_make_folders(folder));
    THAW_TRY(commit(t, folder, &state, &config));
    ckpt_retain(folder, t->job->recipe->keep, NULL, 0);
    tell_saved(t, folder);
done:
    text_done(&state);
    text_done(&config);
    thaw__free(folder);
    return status;
}

static thaw_status write_weights(int fd, const char *name, const void *user)
{
    const params *p = user;
    st_source *weights = NULL;
    thaw_status status;

    THAW_TRY(weights_sources(&weights, p, NULL));
    THAW_TRY(st_write(fd, name, weights, p->n, "{\"format\":\"pt\"}"));
done:
    thaw__free(weights);
    return status;
}

thaw_status state_save_best(trainer *t)
{
    char *folder;
    text config = TEXT_INIT;
    thaw_status status;

    if (!t->options->run)
        return THAW_OK;
    folder = os_path(t->options->run, "best");
    model_config_print(&config, &t->job->model->config);
    if (!folder || config.failed) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for the best weights");
        goto done;
    }
    THAW_TRY(os_make_folders(folder));
    THAW_TRY(os_replace_with(folder, "model.safetensors", write_weights, t->job->params));
    THAW_TRY(os_replace_file(folder, "config.json", config.data, config.length));
done:
    text_done(&config);
    thaw__free(folder);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * taking up */

static thaw_status bad_state(const char *path, const char *what)
{
    return thaw_fail(THAW_E_CORRUPT, "'%s': %s", path, what);
}

static thaw_status parse_number(run_state *s, const json_t *progress, const struct number_row *row,
                                const char *path)
{
    const json_t *v = json_object_get(progress, row->name);
    char *at = (char *)s + row->offset;

    if (row->type == NUMBER_DOUBLE) {
        const double real = json_is_null(v) ? NAN : json_number_value(v);

        if (!json_is_number(v) && !json_is_null(v))
            return bad_state(path, "a number of its progress is missing");
        memcpy(at, &real, sizeof real);
        return THAW_OK;
    }
    if (!json_is_integer(v))
        return bad_state(path, "a count of its progress is missing");
    const int64_t big = json_integer_value(v);
    const int number = (int)big;
    if (row->type == NUMBER_INT)
        memcpy(at, &number, sizeof number);
    else
        memcpy(at, &big, sizeof big);
    return THAW_OK;
}

static thaw_status parse_fired(run_state *s, const json_t *fired, const char *path)
{
    const size_t n = json_array_size(fired);

    s->fired = thaw__new(n + 1, sizeof *s->fired);
    if (!s->fired)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the list of ended phases");
    for (size_t i = 0; i < n; i++) {
        const json_t *pair = json_array_get(fired, i);
        const json_t *phase = json_array_get(pair, 0), *iteration = json_array_get(pair, 1);

        if (!json_is_integer(phase) || !json_is_integer(iteration))
            return bad_state(path, "the list of ended phases is malformed");
        s->fired[i] =
            (thaw_fired){(int32_t)json_integer_value(phase), json_integer_value(iteration)};
    }
    s->n_fired = (int)n;
    return THAW_OK;
}

static thaw_status parse_progress(run_state *out, const json_t *root, const dataset *d,
                                  const char *path)
{
    const json_t *progress = json_object_get(root, "progress");
    run_state s = RUN_STATE_INIT;
    thaw_status status;

    for (size_t i = 0; i < THAW_COUNT(number_table); i++)
        THAW_TRY(parse_number(&s, progress, &number_table[i], path));
    THAW_TRY(parse_fired(&s, json_object_get(progress, "fired"), path));
    if (s.iteration < 0 || s.epoch < 0 || s.index < 0 || s.index >= d->n || s.events_bytes < 0) {
        status = bad_state(path, "its progress is out of range");
        goto done;
    }
    thaw__free(out->fired);
    *out = s;
    s.fired = NULL;
done:
    thaw__free(s.fired);
    return status;
}

static thaw_status check_origin(const trainer *t, const json_t *root, const char *path)
{
    const json_t *data = json_object_get(root, "data"), *rule = json_object_get(root, "optimizer");
    char digest[17];

    if (json_integer_value(json_object_get(root, "format")) != STATE_FORMAT)
        return bad_state(path, "its format is not 1, the one this version reads");
    (void)snprintf(digest, sizeof digest, "%016llx", (unsigned long long)t->job->train->digest);
    if (!json_is_string(data) || strcmp(json_string_value(data), digest) != 0)
        return thaw_fail(THAW_E_MISMATCH,
                         "the training data has changed since '%s' was made (digest %s, now %s); "
                         "put the old data "
                         "back or start a new run",
                         path, json_is_string(data) ? json_string_value(data) : "none", digest);
    if (!json_is_string(rule) || strcmp(json_string_value(rule), t->job->recipe->rule->name) != 0)
        return thaw_fail(
            THAW_E_MISMATCH, "'%s' has the state of optimizer '%s', but the recipe says '%s'", path,
            json_is_string(rule) ? json_string_value(rule) : "?", t->job->recipe->rule->name);
    return THAW_OK;
}

/* Changes that are allowed but may change bits. */
static void note_differences(trainer *t, const json_t *root)
{
    const json_t *kernels = json_object_get(root, "kernels");
    const int64_t threads = json_integer_value(json_object_get(root, "threads"));

    if (threads != t->job->threads)
        text_addf(&t->note,
                  "resumed with %d threads instead of %lld: results may differ in the last bits\n",
                  t->job->threads, (long long)threads);
    if (json_is_string(kernels) && strcmp(json_string_value(kernels), thaw_kernels()) != 0)
        text_addf(&t->note,
                  "resumed with kernels of %s instead of %s: results may differ in the last bits\n",
                  thaw_kernels(), json_string_value(kernels));
}

static thaw_status load_moment(params *p, const st_file *f, int i, int k, const char *state)
{
    char name[1024];
    const st_entry *e;

    (void)snprintf(name, sizeof name, "%s.%s", p->item[i].name, state);
    e = st_find(f, name);
    if (!e || !shape_equal(&e->shape, &p->item[i].shape))
        return thaw_fail(THAW_E_CORRUPT,
                         "'%s': optimizer state '%s' is missing or has another shape", f->path,
                         name);
    return st_read(p->item[i].state[k], p->item[i].dtype, f, e);
}

/* Optimizer state of every parameter that has own updates, by name. */
static thaw_status load_moments(trainer *t, const json_t *own, const st_file *f)
{
    params *p = t->job->params;
    const optim_rule *rule = t->job->recipe->rule;
    const int n_state = rule->n_state(&t->job->recipe->hyper);

    for (int i = 0; i < p->n_trained; i++) {
        const json_t *entry = json_object_get(own, p->item[i].name);
        const json_t *steps = json_array_get(entry, 0);

        if (!entry)
            continue;
        if (!json_is_integer(steps))
            return bad_state(f->path, "a parameter's own count of updates is malformed");
        THAW_CHECK(params_make_state(p, i, n_state));
        p->item[i].steps = json_integer_value(steps);
        p->item[i].parked = json_is_true(json_array_get(entry, 1));
        for (int k = 0; k < n_state; k++)
            THAW_CHECK(load_moment(p, f, i, k, rule->state_name[k]));
    }
    return THAW_OK;
}

static thaw_status read_state(json_t **out, const char *path)
{
    json_error_t error;
    char *data = NULL;
    size_t size;

    THAW_CHECK(os_read_file(&data, &size, path, STATE_MOST));
    *out = json_loadb(data, size, JSON_REJECT_DUPLICATES, &error);
    thaw__free(data);
    if (!*out)
        return thaw_fail(THAW_E_CORRUPT, "'%s', line %d: %s", path, error.line, error.text);
    return THAW_OK;
}

/* Edits made by hand become part of the schedule, and of later checkpoints. */
static thaw_status take_up_edits(trainer *t, const char *checkpoint)
{
    THAW_CHECK(record_read(&t->record, checkpoint));
    THAW_CHECK(record_apply(t->record, t->job->schedule));
    if (t->record->n_edits > 0)
        text_addf(&t->note, "phases edited by hand: %d time%s\n", t->record->n_edits,
                  t->record->n_edits == 1 ? "" : "s");
    return THAW_OK;
}

thaw_status state_load(trainer *t, const char *checkpoint)
{
    char *state_path = os_path(checkpoint, "state.json");
    char *moments_path = os_path(checkpoint, "optimizer.safetensors");
    json_t *root = NULL;
    st_file *moments = NULL;
    thaw_status status;

    if (!state_path || !moments_path) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for the paths of a checkpoint");
        goto done;
    }
    THAW_TRY(read_state(&root, state_path));
    THAW_TRY(check_origin(t, root, state_path));
    THAW_TRY(parse_progress(&t->state, root, t->job->train, state_path));
    THAW_TRY(take_up_edits(t, checkpoint));
    note_differences(t, root);
    THAW_TRY(st_open(&moments, moments_path));
    THAW_TRY(load_moments(t, json_object_get(root, "own_updates"), moments));
    THAW_TRY(loader_seek(t->loader, t->state.epoch, t->state.index));
    t->saved_iteration = t->evaluated_iteration = t->state.iteration;
done:
    st_close(moments);
    json_decref(root);
    thaw__free(state_path);
    thaw__free(moments_path);
    return status;
}
