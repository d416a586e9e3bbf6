/*
 * oracle_run.c - trains what recorded reference runs say and compares every step.
 *
 *   oracle_run [--executor NAME] [--f64] [--sums float|double] [--threads N]
 *              [--print-recipe] [--print-steps] FILE…
 *
 * A run file, plain or gzip, holds a recipe in JSON, the loss and gradient norm of each step and
 * the norm of each tensor at the end, with tolerances. The recipe is translated into ours and given
 * to the one trainer. One line a file: the worst errors as fractions of their tolerances. With
 * --f64 the tolerance is 1e-7 throughout. Sums are in double unless said otherwise: a unit whose
 * ReLU stands within rounding of zero goes one way or the other by the last bit, and a run of that
 * kind leaves its path for good; chains of float additions lose three of those bits. Exit status 1
 * when a file does not agree or the images are not on this machine.
 */
#include "train/train.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define F64_TOLERANCE 1e-7
#define FILE_MOST     (64 << 20) /* bytes of a run file, unpacked */

typedef struct settings {
    const char *executor, *sums;
    bool f64, print_recipe, print_steps;
    int threads;
} settings;

/* ----------------------------------------------------------------------------------------------
 * translation */

static void add_number(text *t, const char *key, const json_t *value)
{
    if (!value)
        return;
    text_addf(t, "%s = ", key);
    if (json_is_integer(value))
        text_addf(t, "%lld", (long long)json_integer_value(value));
    else if (json_is_boolean(value))
        text_add(t, json_is_true(value) ? "true" : "false");
    else
        text_add_double(t, json_number_value(value));
    text_add(t, "\n");
}

/* A list of numbers or strings. */
static void add_list(text *t, const char *key, const json_t *list)
{
    if (!json_is_array(list))
        return;
    text_addf(t, "%s = [", key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);

        text_add(t, i ? ", " : "");
        if (json_is_string(v))
            text_add_json_string(t, json_string_value(v));
        else if (json_is_integer(v))
            text_addf(t, "%lld", (long long)json_integer_value(v));
        else
            text_add_double(t, json_number_value(v));
    }
    text_add(t, "]\n");
}

static void add_model(text *t, const json_t *m)
{
    static const char *const number[] = {"patch_size",          "hidden_size",
                                         "intermediate_size",   "num_hidden_layers",
                                         "num_attention_heads", "image_size"};

    text_add(t, "[model]\narch = ");
    text_add_json_string(t, json_string_value(json_object_get(m, "arch")));
    text_add(t, "\ninit = \"by-name\"\n");
    add_list(t, "widths", json_object_get(m, "widths"));
    add_number(t, "num_classes", json_object_get(m, "num_classes"));
    add_number(t, "num_classes", json_object_get(m, "num_labels"));
    for (size_t i = 0; i < THAW_COUNT(number); i++)
        add_number(t, number[i], json_object_get(m, number[i]));
}

static const char *data_folder(void)
{
    const char *given = getenv("THAW_FASHION_MNIST");

    return given ? given : "/usr/share/datasets/fashion-mnist";
}

static void add_data(text *t, const json_t *d)
{
    const char *split = json_string_value(json_object_get(d, "split"));

    text_addf(t, "[data]\nformat = \"idx\"\ntrain = \"%s/%s-images-idx3-ubyte.gz\"\n",
              data_folder(), strcmp(split, "train") == 0 ? "train" : "t10k");
    text_add(t, "mean = 0.2860\nstd = 0.3530\nshuffle = false\nwrap = true\nnum_classes = 10\n");
    add_number(t, "first", json_object_get(d, "first"));
    add_number(t, "batch", json_object_get(d, "batch"));
    add_number(t, "channels", json_object_get(d, "channels"));
    add_number(t, "scale", json_object_get(d, "scale"));
}

static void add_optimizer(text *t, const json_t *recipe)
{
    static const char *const number[] = {"lr", "momentum", "nesterov", "eps", "weight_decay"};
    const json_t *o = json_object_get(recipe, "optimizer");

    text_add(t, "[optimizer]\nname = ");
    text_add_json_string(t, json_string_value(json_object_get(o, "name")));
    text_add(t, "\n");
    for (size_t i = 0; i < THAW_COUNT(number); i++)
        add_number(t, number[i], json_object_get(o, number[i]));
    add_list(t, "betas", json_object_get(o, "betas"));
    add_number(t, "clip_norm", json_object_get(recipe, "clip_norm"));
    add_number(t, "accumulate", json_object_get(recipe, "accumulate"));
}

static void add_schedule(text *t, const json_t *s)
{
    if (!json_is_object(s)) {
        text_add(t, "[schedule]\nname = \"constant\"\n");
        return;
    }
    text_add(t, "[schedule]\nunit = \"step\"\nname = ");
    text_add_json_string(t, json_string_value(json_object_get(s, "name")));
    text_add(t, "\n");
    add_number(t, "step_size", json_object_get(s, "step_size"));
    add_number(t, "gamma", json_object_get(s, "gamma"));
}

/* The reference's "keep" leaves the optimizer untouched: ours is called "hold". */
static void add_phase(text *t, json_t *p)
{
    const char *optimizer = json_string_value(json_object_get(p, "optimizer"));
    const bool hold = optimizer && strcmp(optimizer, "keep") == 0;
    json_t *coefficients = json_object_get(p, "lr_coefficients"), *value;
    const char *key;
    int shown = 0;

    text_add(t, "[[phase]]\n");
    add_number(t, "steps", json_object_get(p, "steps"));
    if (!hold) /* there a new rate has no effect, which a recipe must not pretend */
        add_number(t, "lr", json_object_get(p, "lr"));
    add_list(t, "freeze", json_object_get(p, "freeze"));
    add_list(t, "unfreeze", json_object_get(p, "unfreeze"));
    if (hold)
        text_add(t, "optimizer = \"hold\"\n");
    if (!coefficients)
        return;
    text_add(t, "lr_coefficients = { ");
    json_object_foreach(coefficients, key, value)
    {
        text_add(t, shown++ ? ", " : "");
        text_add_json_string(t, key);
        text_add(t, " = ");
        /* The reference stores a 1; ours would remove the entry, and an ancestor's would hold. */
        if (json_number_value(value) == 1)
            text_add(t, "\"pin\"");
        else
            text_add_double(t, json_number_value(value));
    }
    text_add(t, " }\n");
}

static void translate(text *t, const json_t *recipe, const settings *s)
{
    const char *norm = json_string_value(json_object_get(recipe, "frozen_norm"));
    const json_t *phases = json_object_get(recipe, "phases");

    add_model(t, json_object_get(recipe, "model"));
    add_data(t, json_object_get(recipe, "data"));
    add_optimizer(t, recipe);
    add_schedule(t, json_object_get(recipe, "scheduler"));
    text_addf(t,
              "[train]\nexecutor = \"%s\"\nsums = \"%s\"\n"
              "precision = \"%s\"\nfrozen_norm = \"%s\"\n",
              s->executor, s->sums, s->f64 ? "f64" : "f32", norm ? norm : "eval");
    for (size_t i = 0; i < json_array_size(phases); i++)
        add_phase(t, json_array_get(phases, i));
}

/* ----------------------------------------------------------------------------------------------
 * comparing */

typedef struct steps {
    double *loss, *grad_norm;
    size_t n, capacity;
} steps;

static bool record_step(void *user, const thaw_event *e)
{
    steps *s = user;

    if (e->kind == THAW_EVENT_STEP && s->n < s->capacity) {
        s->loss[s->n] = e->loss;
        s->grad_norm[s->n++] = e->grad_norm;
    }
    return true;
}

/* Worst error of a kind, as a fraction of its tolerance; NaN counts as infinite. */
typedef struct worst {
    double fraction;
    int compared, total;
    char where[128];
} worst;

static void compare(worst *w, double got, double want, double tolerance, const char *where)
{
    const double error = fabs(got - want) / fmax(fabs(want), 1e-12) / tolerance;

    w->compared++;
    if (error <= w->fraction)
        return;
    w->fraction = isnan(error) ? INFINITY : error;
    (void)snprintf(w->where, sizeof w->where, "%s", where);
}

static worst compare_steps(const json_t *run, const char *key, const double *got, size_t n,
                           const settings *s)
{
    const json_t *want = json_object_get(run, key);
    char name[40], where[40];
    worst w = {.total = (int)json_array_size(want)};

    (void)snprintf(name, sizeof name, "tolerance_%s", key);
    const json_t *tolerance = json_object_get(run, name);
    for (size_t i = 0; i < json_array_size(want); i++) {
        const json_t *t = json_array_get(tolerance, i);

        if (!json_is_number(t))
            continue;
        (void)snprintf(where, sizeof where, "step %zu", i);
        if (s->print_steps)
            printf("%s %zu: %.9g, want %.9g\n", key, i, i < n ? got[i] : NAN,
                   json_number_value(json_array_get(want, i)));
        compare(&w, i < n ? got[i] : NAN, json_number_value(json_array_get(want, i)),
                s->f64 ? F64_TOLERANCE : json_number_value(t), where);
    }
    return w;
}

static double tensor_norm(const param *p)
{
    if (p->dtype == DTYPE_I64)
        return fabs((double)*(const int64_t *)p->data);
    return sqrt(tensor_sum_squares(p->data, p->dtype, p->elements));
}

static worst compare_final(const json_t *run, const params *p, const settings *s)
{
    json_t *final = json_object_get(run, "final"), *want;
    const char *name;
    worst w = {0};

    json_object_foreach(final, name, want)
    {
        const json_t *tolerance = json_object_get(want, "tolerance_l2");
        const int i = params_find(p, name);

        w.total++;
        if (!json_is_number(tolerance))
            continue;
        compare(&w, i < 0 ? NAN : tensor_norm(&p->item[i]),
                json_number_value(json_object_get(want, "l2")),
                s->f64 ? F64_TOLERANCE : json_number_value(tolerance), name);
    }
    return w;
}

static bool report(const char *name, const worst w[3])
{
    static const char *const kind[] = {"loss", "grad_norm", "final"};
    bool good = true;

    printf("%-26s", name);
    for (int i = 0; i < 3; i++) {
        if (w[i].compared > 0)
            printf(" %s %.3f at %s (%d of %d);", kind[i], w[i].fraction, w[i].where, w[i].compared,
                   w[i].total);
        else
            printf(" %s not compared;", kind[i]);
        good = good && w[i].fraction <= 1;
    }
    printf(" %s\n", good ? "agrees" : "DOES NOT AGREE");
    return good;
}

/* ----------------------------------------------------------------------------------------------
 * running */

static thaw_status train(job **out, steps *s, const char *recipe_text, thaw_recipe **recipe,
                         thaw_run_options *options)
{
    trainer *t = NULL;
    thaw_status status;

    options->on_event = record_step;
    options->user = s;
    THAW_TRY(thaw_recipe_parse(recipe, recipe_text, strlen(recipe_text), "recipe", ".", NULL, 0));
    THAW_TRY(job_open(out, *recipe, options, NULL, JOB_DATA | JOB_EXEC));
    THAW_TRY(trainer_create(&t, *out));
    THAW_TRY(trainer_run(t));
done:
    trainer_destroy(t);
    return status;
}

/* What of a recipe we cannot train; NULL: nothing. */
static const char *missing_part(const json_t *recipe)
{
    const char *arch = json_string_value(json_object_get(json_object_get(recipe, "model"), "arch"));
    const json_t *data = json_object_get(recipe, "data");
    const char *kind = json_string_value(json_object_get(data, "kind"));
    size_t n;
    const char *const *archs = model_archs(&n);

    if (!kind || strcmp(kind, "fashion-mnist") != 0 ||
        !json_is_string(json_object_get(data, "split")))
        return "its data";
    if (!json_is_string(json_object_get(json_object_get(recipe, "optimizer"), "name")))
        return "its optimizer";
    for (size_t i = 0; arch && i < n; i++)
        if (strcmp(archs[i], arch) == 0)
            return NULL;
    return "its network";
}

static bool run_recorded(const json_t *run, const settings *s)
{
    const json_t *recipe_json = json_object_get(run, "recipe");
    const char *name = json_string_value(json_object_get(recipe_json, "name"));
    const size_t n = json_array_size(json_object_get(run, "loss"));
    thaw_run_options options = {.threads = s->threads};
    thaw_recipe *recipe = NULL;
    job *j = NULL;
    text t = TEXT_INIT;
    steps got = {.loss = thaw__new(n, sizeof(double)),
                 .grad_norm = thaw__new(n, sizeof(double)),
                 .capacity = n};
    bool good = false;
    thaw_status status;

    if (missing_part(recipe_json)) {
        printf("%-26s UNSUPPORTED: %s\n", name, missing_part(recipe_json));
        goto done;
    }
    translate(&t, recipe_json, s);
    if (s->print_recipe)
        printf("%s\n", t.data);
    status = train(&j, &got, t.data, &recipe, &options);
    if (status == THAW_OK) {
        const worst w[3] = {compare_steps(run, "loss", got.loss, got.n, s),
                            compare_steps(run, "grad_norm", got.grad_norm, got.n, s),
                            compare_final(run, j->params, s)};

        good = report(name, w);
    } else {
        printf("%-26s %s: %s\n", name, status == THAW_E_SUPPORT ? "UNSUPPORTED" : "FAILED",
               thaw_error());
    }
done:
    job_close(j);
    thaw_recipe_destroy(recipe);
    text_done(&t);
    thaw__free(got.loss);
    thaw__free(got.grad_norm);
    return good;
}

/* NULL, with the reason in error, when there is no JSON in the file. */
static json_t *load_run(const char *path, json_error_t *error)
{
    gzFile f = gzopen(path, "rb");
    text all = TEXT_INIT;
    json_t *run = NULL;
    char part[65536];
    int n = 0;

    (void)snprintf(error->text, sizeof error->text, "cannot read it");
    while (f && all.length < FILE_MOST && (n = gzread(f, part, sizeof part)) > 0)
        text_add_n(&all, part, (size_t)n);
    if (f && n == 0 && !all.failed)
        run = json_loadb(all.data ? all.data : "", all.length, 0, error);
    text_done(&all);
    if (f)
        (void)gzclose(f);
    return run;
}

static bool run_file(const char *path, const settings *s)
{
    json_error_t error;
    json_t *run = load_run(path, &error);
    bool good;

    if (!run || !json_is_string(json_object_get(json_object_get(run, "recipe"), "name"))) {
        printf("%s: not a run file: %s\n", path, run ? "it has no recipe with a name" : error.text);
        json_decref(run);
        return false;
    }
    good = run_recorded(run, s);
    json_decref(run);
    return good;
}

static int usage(void)
{
    (void)fprintf(stderr, "usage: oracle_run [--executor NAME] [--f64] [--sums float|double] "
                          "[--threads N] "
                          "[--print-recipe] [--print-steps] FILE...\n");
    return 64;
}

static bool images_missing(void)
{
    char *path = os_path(data_folder(), "train-images-idx3-ubyte.gz");
    const bool missing = !path || os_kind_of(path) != OS_FILE;

    if (missing)
        printf("no Fashion-MNIST in '%s'; install Debian's dataset-fashion-mnist or set "
               "THAW_FASHION_MNIST to the folder of the four .gz files\n",
               data_folder());
    thaw__free(path);
    return missing;
}

int main(int argc, char **argv)
{
    settings s = {.executor = "auto", .sums = "double", .threads = 1};
    int bad = 0, files = 0;

    if (argc > 1 && images_missing())
        return 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--f64") == 0)
            s.f64 = true;
        else if (strcmp(argv[i], "--print-recipe") == 0)
            s.print_recipe = true;
        else if (strcmp(argv[i], "--print-steps") == 0)
            s.print_steps = true;
        else if (strcmp(argv[i], "--executor") == 0 && i + 1 < argc)
            s.executor = argv[++i];
        else if (strcmp(argv[i], "--sums") == 0 && i + 1 < argc)
            s.sums = argv[++i];
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            s.threads = atoi(argv[++i]);
        else if (argv[i][0] == '-')
            return usage();
        else {
            files++;
            bad += !run_file(argv[i], &s);
            (void)fflush(stdout);
        }
    }
    if (files == 0)
        return usage();
    return bad ? 1 : 0;
}
