/*
 * tune.c - choices of kernels, measured once before the first step and kept: in the run's folder,
 * and in every checkpoint, from where a resume takes them up again. So times decide once, and bits
 * never after.
 *
 * A file that was measured with other kernels or threads is no error: what it says is measured
 * again. One that is damaged is refused, as nobody knows what the run was made with.
 */
#include "train/train.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#define TUNE_FORMAT  1
#define TUNE_BYTES   ((size_t)1 << 20)
#define MOST_CHOICES 4096

/* ----------------------------------------------------------------------------------------------
 * out */

static void print_choice(text *out, const exec_choice *c)
{
    text_add_json_string(out, c->problem);
    text_addf(out, ": {\"way\": \"%s\", \"table\": \"%s\", \"seconds\": {", exec_way_name(c->way),
              exec_way_name(c->table));
    for (int way = 0; way < EXEC_WAYS; way++) {
        text_addf(out, "%s\"%s\": ", way > 0 ? ", " : "", exec_way_name(way));
        text_add_json_double(out, c->seconds[way]);
    }
    text_add(out, "}}");
}

void tune_print(text *out, const job *j)
{
    exec_choice c;

    text_addf(out, "{\n  \"format\": %d,\n  \"kernels\": ", TUNE_FORMAT);
    text_add_json_string(out, thaw_kernels());
    text_addf(out, ",\n  \"threads\": %d,\n  \"choices\": {", j->threads);
    for (int i = 0; exec_choice_at(&c, j->exec, i); i++) {
        text_add(out, i > 0 ? ",\n    " : "\n    ");
        print_choice(out, &c);
    }
    text_add(out, "\n  }\n}\n");
}

static thaw_status write_file(const job *j, const char *folder)
{
    text t = TEXT_INIT;
    thaw_status status;

    tune_print(&t, j);
    status = t.failed ? thaw_fail(THAW_E_NOMEM, "out of memory for the choices of kernels")
                      : os_replace_file(folder, TUNE_NAME, t.data, t.length);
    text_done(&t);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * in */

/* -1: no such way. */
static int find_way(const json_t *name)
{
    int way = 0;

    while (way < EXEC_WAYS &&
           (!json_is_string(name) || strcmp(json_string_value(name), exec_way_name(way)) != 0))
        way++;
    return way < EXEC_WAYS ? way : -1;
}

/* What stands in the file is not repeated: it may be anything. */
static thaw_status read_choice(exec_choice *out, const char *problem, const json_t *v,
                               const char *name)
{
    const json_t *const seconds = json_object_get(v, "seconds");
    exec_choice c = {.way = find_way(json_object_get(v, "way")),
                     .table = find_way(json_object_get(v, "table"))};

    if (strlen(problem) >= sizeof c.problem)
        return thaw_fail(THAW_E_DATA, "%s: no layer computes that", name);
    memcpy(c.problem, problem, strlen(problem) + 1);
    if (c.way < 0 || c.table < 0)
        return thaw_fail(THAW_E_DATA, "%s: its way is unknown", name);
    for (int way = 0; way < EXEC_WAYS; way++) {
        const json_t *const s = json_object_get(seconds, exec_way_name(way));

        c.seconds[way] = json_is_number(s) ? json_number_value(s) : NAN;
        if (s && !json_is_null(s) && !(c.seconds[way] >= 0))
            return thaw_fail(THAW_E_DATA, "%s: its times are malformed", name);
    }
    *out = c;
    return THAW_OK;
}

static thaw_status take_choices(job *j, json_t *choices, const char *path)
{
    const char *problem;
    thaw_status status = THAW_OK;
    json_t *v;
    int i = 0;

    json_object_foreach(choices, problem, v)
    {
        text name = TEXT_INIT;
        exec_choice c;

        text_addf(&name, "'%s': choice %d", path, ++i);
        status = name.failed ? thaw_fail(THAW_E_NOMEM, "out of memory for the choices of kernels")
                             : read_choice(&c, problem, v, name.data);
        if (status == THAW_OK)
            status = exec_choose(j->exec, &c, name.data);
        text_done(&name);
        THAW_CHECK(status);
    }
    return THAW_OK;
}

/* Whether a file's choices are for these kernels and threads; a line says so where they are not. */
static bool is_ours(text *note, const job *j, const json_t *root, const char *path)
{
    const char *const kernels = json_string_value(json_object_get(root, "kernels"));
    const int64_t threads = json_integer_value(json_object_get(root, "threads"));

    if (strcmp(kernels, thaw_kernels()) == 0 && threads == j->threads)
        return true;
    text_addf(note,
              "'%s' was measured with %s on %lld threads, this is %s on %d: kernels are measured "
              "again, and results may differ in the last bits\n",
              path, kernels, (long long)threads, thaw_kernels(), j->threads);
    return false;
}

static thaw_status take_file(job *j, const char *path)
{
    char *data = NULL;
    size_t size = 0;
    json_t *root = NULL, *choices;
    thaw_status status;

    THAW_TRY(os_read_file(&data, &size, path, TUNE_BYTES));
    THAW_TRY(json_parse(&root, data, size, path));
    choices = json_object_get(root, "choices");
    if (json_integer_value(json_object_get(root, "format")) != TUNE_FORMAT ||
        !json_is_string(json_object_get(root, "kernels")) ||
        !json_is_integer(json_object_get(root, "threads")) || !json_is_object(choices) ||
        json_object_size(choices) > MOST_CHOICES) {
        status = thaw_fail(THAW_E_DATA,
                           "'%s' is no list of choices in format %d; remove it to have kernels "
                           "measured again",
                           path, TUNE_FORMAT);
        goto done;
    }
    if (!is_ours(&j->tune_note, j, root, path))
        goto done;
    THAW_TRY(take_choices(j, choices, path));
    j->tuned = true;
done:
    json_decref(root);
    thaw__free(data);
    return status;
}

thaw_status tune_take(job *j, const char *folder)
{
    char *path;
    thaw_status status = THAW_OK;

    if (!folder || !j->exec || j->recipe->tune != TUNE_MEASURE || j->tuned)
        return THAW_OK;
    path = os_path(folder, TUNE_NAME);
    if (!path)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a path");
    if (os_kind_of(path) != OS_ABSENT)
        status = take_file(j, path);
    thaw__free(path);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * measuring */

static thaw_status measure_phase(job *j, int phase)
{
    thaw_progress progress = {0};
    const thaw_effect *effect;
    plan *p = NULL;
    int64_t end;
    thaw_status status;

    thaw_schedule_phase_span(&progress.iteration, &end, j->schedule, &progress, phase);
    THAW_CHECK(thaw_schedule_effect(&effect, j->schedule, &progress));
    THAW_CHECK(plans_compile(&p, j, effect, THAW_MIN(job_micro_batch(j, phase), j->train->n),
                             &j->recipe->phase[effect->built_phase].hyper));
    status = exec_measure(j->exec, p);
    plan_destroy(p);
    return status;
}

void tune_count(int *n, int *others, const job *j)
{
    exec_choice c;

    *others = 0;
    for (*n = 0; exec_choice_at(&c, j->exec, *n); ++*n)
        *others += c.way != c.table;
}

thaw_status tune_measure(job *j, const char *run)
{
    const double begun = os()->monotonic();
    int n, others;

    if (j->recipe->tune != TUNE_MEASURE || j->tuned)
        return THAW_OK;
    for (int p = 0; p < thaw_schedule_n_phases(j->schedule); p++)
        THAW_CHECK(measure_phase(j, p));
    j->tuned = true;
    tune_count(&n, &others, j);
    text_addf(&j->tune_note,
              "kernels: %d choices measured in %.1f s, %d of them unlike the table's\n", n,
              os()->monotonic() - begun, others);
    return run ? write_file(j, run) : THAW_OK;
}
