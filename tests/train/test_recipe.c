/*
 * test_recipe.c - recipes: what is stored, --set, the resolved recipe, help and the manual.
 */
#include "train/recipe_reader.h"

#include "check.h"

#define MINIMAL                                                                                    \
    "[model]\narch = 'mlp'\n[data]\ntrain = 'train-images-idx3-ubyte'\n[[phase]]\nsteps = 10\n"

static thaw_status parse(thaw_recipe **out, const char *source, const char *const *sets, int n_sets)
{
    return thaw_recipe_parse(out, source, strlen(source), "r.toml", "/folder", sets, n_sets);
}

static thaw_recipe *good(const char *source)
{
    thaw_recipe *r = NULL;

    CHECK_OK(parse(&r, source, NULL, 0));
    return r;
}

/* ----------------------------------------------------------------------------------------------
 * what is stored */

static const char whole[] = "name = 'all keys'\n"
                            "seed = 7\n"
                            "[model]\n"
                            "path = 'net'\n"
                            "arch = 'resnet18'\n"
                            "num_classes = 3\n"
                            "widths = [32, 64]\n"
                            "blocks = [1, 2]\n"
                            "stem = 'small'\n"
                            "channels = 3\n"
                            "image_size = [28, 32]\n"
                            "dropout = 0.25\n"
                            "init = 'by-name'\n"
                            "[data]\n"
                            "format = 'idx'\n"
                            "train = 'd/train-images-idx3-ubyte.gz'\n"
                            "valid = '/v-images-idx3'\n"
                            "test = 't'\n"
                            "test_labels = 'tl'\n"
                            "num_classes = 3\n"
                            "classes = [4, 0, 9]\n"
                            "skip = 1\n"
                            "first = 2\n"
                            "per_class = 3\n"
                            "valid_skip = 4\n"
                            "valid_first = 5\n"
                            "valid_per_class = 6\n"
                            "test_skip = 7\n"
                            "test_first = 8\n"
                            "test_per_class = 9\n"
                            "batch = 64\n"
                            "shuffle = false\n"
                            "seed = 11\n"
                            "wrap = true\n"
                            "mean = [0.1, 0.2, 0.3]\n"
                            "std = 0.5\n"
                            "channels = 3\n"
                            "scale = 2\n"
                            "shift = 4\n"
                            "flip = true\n"
                            "prefetch = false\n"
                            "[optimizer]\n"
                            "name = 'adam'\n"
                            "lr = 0.01\n"
                            "betas = [0.8, 0.99]\n"
                            "eps = 1e-6\n"
                            "weight_decay = 0.1\n"
                            "decay_norms_and_biases = false\n"
                            "clip_norm = 2\n"
                            "accumulate = 4\n"
                            "[schedule]\n"
                            "name = 'step'\n"
                            "step_size = 3\n"
                            "gamma = 0.5\n"
                            "warmup = 2\n"
                            "[loss]\n"
                            "label_smoothing = 0.1\n"
                            "ignore_index = -1\n"
                            "[aliases]\n"
                            "top = ['layer4', 'fc']\n"
                            "one = 'conv1'\n"
                            "[train]\n"
                            "precision = 'f64'\n"
                            "executor = 'ref'\n"
                            "frozen_norm = 'train'\n"
                            "eval_every = 2\n"
                            "eval_at_start = false\n"
                            "[checkpoint]\n"
                            "every = '2 epochs'\n"
                            "keep = 5\n"
                            "on_phase = false\n"
                            "parked = false\n"
                            "[[phase]]\n"
                            "name = 'first'\n"
                            "epochs = 2\n"
                            "freeze = ['layer1', 'one']\n"
                            "lr = 1.0\n"
                            "weight_decay = 0\n"
                            "batch = 16\n"
                            "betas = [0.7, 0.8]\n"
                            "eps = 1e-5\n"
                            "clip_norm = 5\n"
                            "[[phase]]\n"
                            "samples = 3000\n"
                            "unfreeze = 'top'\n"
                            "lr_coefficients = { top = 0.1, 'layer1.0' = 0 }\n"
                            "freeze = 'fc'\n"
                            "optimizer = 'keep'\n"
                            "on_freeze = 'park'\n"
                            "thaw_warmup = 20\n"
                            "schedule = { name = 'cosine', least = 0.1, unit = 'epoch' }\n"
                            "[phase.until]\n"
                            "metric = 'valid.loss'\n"
                            "patience = 2\n"
                            "min_change = 0.01\n"
                            "restore = true\n";

static void check_model_and_data(const thaw_recipe *r)
{
    CHECK_STR(r->title, "all keys");
    CHECK_INT(r->seed, 7);
    CHECK_STR(r->folder, "/folder");
    CHECK_STR(r->model_path, "/folder/net");
    CHECK_STR(r->config.arch, "resnet18");
    CHECK_INT(r->config.n_classes, 3);
    CHECK_INT(r->config.n_widths, 2);
    CHECK_INT(r->config.widths[1], 64);
    CHECK_INT(r->config.n_blocks, 2);
    CHECK_INT(r->config.blocks[1], 2);
    CHECK(r->config.small_stem);
    CHECK_INT(r->config.channels, 3);
    CHECK_INT(r->config.height, 28);
    CHECK_INT(r->config.width, 32);
    CHECK_NEAR(r->config.dropout, 0.25, 0, 0);
    CHECK(r->init_by_name && r->format == DATA_IDX);
    CHECK_STR(r->train.images, "/folder/d/train-images-idx3-ubyte.gz");
    CHECK_STR(r->train.labels, "/folder/d/train-labels-idx1-ubyte.gz");
    CHECK_STR(r->valid.labels, "/v-labels-idx1");
    CHECK_STR(r->test.images, "/folder/t");
    CHECK_STR(r->test.labels, "/folder/tl");
    CHECK_INT(r->n_classes, 3);
    CHECK_INT(r->valid.subset.n_classes, 3);
    CHECK_INT(r->valid.subset.classes[2], 9);
    CHECK_INT(r->train.subset.skip, 1);
    CHECK_INT(r->train.subset.first, 2);
    CHECK_INT(r->train.subset.per_class, 3);
    CHECK_INT(r->valid.subset.skip, 4);
    CHECK_INT(r->valid.subset.first, 5);
    CHECK_INT(r->valid.subset.per_class, 6);
    CHECK_INT(r->test.subset.skip, 7);
    CHECK_INT(r->test.subset.first, 8);
    CHECK_INT(r->test.subset.per_class, 9);
    CHECK_INT(r->train.subset.seed, 7);
}

static void check_loader_and_optimizer(const thaw_recipe *r)
{
    const double mean[] = {0.1, 0.2, 0.3}, std[] = {0.5, 0.5, 0.5};

    CHECK_INT(r->loader.batch, 64);
    CHECK(!r->loader.shuffle && r->loader.wrap && r->loader.flip && !r->loader.prefetch);
    CHECK_INT(r->loader.seed, 11);
    CHECK_INT(r->loader.n_mean, 3);
    CHECK_CLOSE(r->loader.mean, mean, 3, 0, 0);
    CHECK_CLOSE(r->loader.std, std, 3, 0, 0);
    CHECK_INT(r->loader.channels, 3);
    CHECK_INT(r->loader.scale, 2);
    CHECK_INT(r->loader.shift, 4);
    CHECK_INT(r->loader.real, DTYPE_F64);
    CHECK_STR(r->rule->name, "adam");
    CHECK_NEAR(r->lr, 0.01, 0, 0);
    CHECK_NEAR(r->hyper.beta1, 0.8, 0, 0);
    CHECK_NEAR(r->hyper.beta2, 0.99, 0, 0);
    CHECK_NEAR(r->hyper.eps, 1e-6, 0, 0);
    CHECK_NEAR(r->hyper.weight_decay, 0.1, 0, 0);
    CHECK(!r->hyper.decay_norms_and_biases);
    CHECK_NEAR(r->clip_norm, 2, 0, 0);
    CHECK_INT(r->accumulate, 4);
    CHECK_STR(r->curve.rule->name, "step");
    CHECK_NEAR(r->curve.step_size, 3, 0, 0);
    CHECK_NEAR(r->curve.gamma, 0.5, 0, 0);
    CHECK_NEAR(r->curve.warmup, 2, 0, 0);
    CHECK(r->curve.per_epoch);
}

static void check_training(const thaw_recipe *r)
{
    CHECK_INT(r->loss, OP_CROSS_ENTROPY);
    CHECK_NEAR(r->loss_attrs.loss.smoothing, 0.1, 0, 0);
    CHECK_INT(r->loss_attrs.loss.ignore, -1);
    CHECK_INT(r->real, DTYPE_F64);
    CHECK_STR(r->executor->name, "ref");
    CHECK(!r->frozen_norm_eval && !r->eval_at_start && !r->save_on_phase && !r->save_parked);
    CHECK_INT(r->eval_every, 2);
    CHECK_INT(r->save_steps, 0);
    CHECK_INT(r->save_epochs, 2);
    CHECK(isinf(r->save_seconds));
    CHECK_INT(r->keep, 5);
}

static void check_change(const recipe_change *c, change_kind kind, const char *written,
                         const char *first, int n, double coefficient, int line, int column)
{
    CHECK_INT(c->kind, kind);
    CHECK_STR(c->written, written);
    CHECK_STR(c->pattern[0], first);
    CHECK_INT(c->n_patterns, n);
    CHECK_NEAR(c->coefficient, coefficient, 0, 0);
    CHECK_INT(c->line, line);
    CHECK_INT(c->column, column);
}

static void every_key_is_stored(void **state)
{
    thaw_recipe *const r = good(whole);
    const recipe_phase *const a = r->phase, *const b = r->phase + 1;

    (void)state;
    check_model_and_data(r);
    check_loader_and_optimizer(r);
    check_training(r);
    CHECK_INT(r->n_phases, 2);
    CHECK_STR(a->options.name, "first");
    CHECK_INT(a->options.unit, THAW_EPOCHS);
    CHECK_INT(a->options.length, 2);
    CHECK_INT(a->options.optimizer, THAW_OPTIMIZER_REBUILD);
    CHECK_NEAR(a->lr, 1, 0, 0);
    CHECK_NEAR(a->hyper.weight_decay, 0, 0, 0);
    CHECK_NEAR(a->hyper.beta1, 0.7, 0, 0);
    CHECK_NEAR(a->hyper.beta2, 0.8, 0, 0);
    CHECK_NEAR(a->hyper.eps, 1e-5, 0, 0);
    CHECK_NEAR(a->clip_norm, 5, 0, 0);
    CHECK(a->curve == NULL && a->options.until_metric == NULL);
    CHECK_INT(a->line, 73);
    CHECK_INT(a->n_changes, 2);
    check_change(&a->change[0], CHANGE_FREEZE, "layer1", "layer1", 1, 0, 76, 11);
    check_change(&a->change[1], CHANGE_FREEZE, "one", "conv1", 1, 0, 76, 21);
    CHECK_INT(b->options.unit, THAW_SAMPLES);
    CHECK_INT(b->options.optimizer, THAW_OPTIMIZER_KEEP);
    CHECK_INT(b->options.on_freeze, THAW_ON_FREEZE_PARK);
    CHECK_NEAR(b->lr, 0.01, 0, 0);
    CHECK_NEAR(b->hyper.weight_decay, 0.1, 0, 0);
    CHECK_NEAR(b->hyper.beta1, 0.8, 0, 0);
    CHECK_NEAR(b->hyper.eps, 1e-6, 0, 0);
    CHECK_NEAR(b->clip_norm, 2, 0, 0);
    CHECK_STR(b->curve->rule->name, "cosine");
    CHECK_NEAR(b->curve->least, 0.1, 0, 0);
    CHECK(b->curve->per_epoch);
    CHECK_STR(b->options.until_metric, "valid.loss");
    CHECK_INT(b->options.until_patience, 2);
    CHECK_NEAR(b->options.until_min_change, 0.01, 0, 0);
    CHECK(b->options.until_restore && !a->options.until_restore);
    CHECK_INT(a->batch, 16);
    CHECK_INT(b->batch, 0);
    CHECK_INT(recipe_batch(r, 0), 16);
    CHECK_INT(recipe_batch(r, 1), 64);
    CHECK_INT(a->options.thaw_warmup, 0);
    CHECK_INT(b->options.thaw_warmup, 20);
    CHECK_INT(b->n_changes, 4);
    check_change(&b->change[0], CHANGE_UNFREEZE, "top", "layer4", 2, 0, 85, 12);
    check_change(&b->change[1], CHANGE_COEFFICIENT, "top", "layer4", 2, 0.1, 86, 21);
    check_change(&b->change[2], CHANGE_COEFFICIENT, "layer1.0", "layer1.0", 1, 0, 86, 32);
    check_change(&b->change[3], CHANGE_FREEZE, "fc", "fc", 1, 0, 87, 10);
    thaw_recipe_destroy(r);
}

static void defaults_hold_where_nothing_is_said(void **state)
{
    thaw_recipe *const r = good(MINIMAL);

    (void)state;
    CHECK_INT(r->seed, 0);
    CHECK(r->title == NULL && r->model_path == NULL && r->valid.images == NULL);
    CHECK_INT(r->config.n_classes, 0);
    CHECK_INT(r->config.height, 0);
    CHECK_STR(r->train.labels, "/folder/train-labels-idx1-ubyte");
    CHECK(r->train.subset.classes == NULL);
    CHECK_INT(r->loader.batch, 32);
    CHECK(r->loader.shuffle && r->loader.prefetch && !r->loader.wrap);
    CHECK_NEAR(r->loader.std[3], 1, 0, 0);
    CHECK_INT(r->loader.n_mean, 1);
    CHECK_STR(r->rule->name, "adamw");
    CHECK_NEAR(r->lr, 0.001, 0, 0);
    CHECK_NEAR(r->hyper.beta2, 0.999, 0, 0);
    CHECK_NEAR(r->hyper.weight_decay, 0, 0, 0);
    CHECK(r->hyper.decay_norms_and_biases && isinf(r->clip_norm));
    CHECK_INT(r->accumulate, 1);
    CHECK_STR(r->curve.rule->name, "constant");
    CHECK(!r->curve.per_epoch);
    CHECK_INT(r->loss, OP_CROSS_ENTROPY);
    CHECK_INT(r->loss_attrs.loss.ignore, -100);
    CHECK_INT(r->real, DTYPE_F32);
    CHECK_STR(r->executor->name, "dnn");
    CHECK(r->frozen_norm_eval && r->eval_at_start && r->save_on_phase && r->save_parked);
    CHECK_NEAR(r->save_seconds, 600, 0, 0);
    CHECK_INT(r->keep, 3);
    CHECK_INT(r->n_phases, 1);
    CHECK_INT(r->phase[0].options.unit, THAW_STEPS);
    thaw_recipe_destroy(r);
}

static void intervals_have_units(void **state)
{
    static const struct {
        const char *text;
        double seconds;
        int64_t steps, epochs;
    } table[] = {
        {"'90 s'", 90, 0, 0},         {"'2h'", 7200, 0, 0},      {"'500 steps'", INFINITY, 500, 0},
        {"'1 step'", INFINITY, 1, 0}, {"250", INFINITY, 250, 0}, {"'1 epoch'", INFINITY, 0, 1},
        {"'off'", INFINITY, 0, 0},    {"'10min'", 600, 0, 0}};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(table); i++) {
        char source[512];
        thaw_recipe *r;

        snprintf(source, sizeof source, "[checkpoint]\nevery = %s\n" MINIMAL, table[i].text);
        r = good(source);
        CHECK_MSG(r->save_seconds == table[i].seconds && r->save_steps == table[i].steps &&
                      r->save_epochs == table[i].epochs,
                  "%s: %g s, %lld steps, %lld epochs", table[i].text, r->save_seconds,
                  (long long)r->save_steps, (long long)r->save_epochs);
        thaw_recipe_destroy(r);
    }
}

static void auto_takes_what_can_compute(void **state)
{
    thaw_recipe *const r = good("[train]\nprecision = 'f64'\n" MINIMAL);

    (void)state;
    CHECK_STR(r->executor->name, "ref");
    thaw_recipe_destroy(r);
}

static void step_scheduled_form_is_read(void **state)
{
    thaw_recipe *const r =
        good("freeze = [{ module = 'vision' }, { module = 'a.*', frozen = false }]\n"
             "[[freeze_schedule]]\nstart_step = -1\nspecs = []\n"
             "[[freeze_schedule]]\nstart_step = 10\n"
             "specs = [{ module = 'x', frozen = true }, { module = 'y' }]\n"
             "[module_patterns]\nvision = ['v', 'v.*']\none = 'o'\n" MINIMAL);

    (void)state;
    CHECK_INT(r->n_module_patterns, 2);
    CHECK_STR(r->module_patterns[0].name, "vision");
    CHECK_INT(r->module_patterns[0].n_patterns, 2);
    CHECK_STR(r->module_patterns[0].pattern[1], "v.*");
    CHECK_STR(r->module_patterns[1].pattern[0], "o");
    CHECK_INT(r->n_freeze, 2);
    CHECK_STR(r->freeze[0].module, "vision");
    CHECK(r->freeze[0].frozen && !r->freeze[1].frozen);
    CHECK_INT(r->n_freeze_stages, 2);
    CHECK_INT(r->freeze_stage[0].start_step, -1);
    CHECK_INT(r->freeze_stage[0].n_specs, 0);
    CHECK_INT(r->freeze_stage[1].start_step, 10);
    CHECK_INT(r->freeze_stage[1].n_specs, 2);
    CHECK_STR(r->freeze_stage[1].spec[1].module, "y");
    CHECK(r->freeze_stage[1].spec[1].frozen);
    CHECK_CONTAINS(r->resolved, "specs = [{ module = \"x\", frozen = true }, { module = \"y\", "
                                "frozen = true }]");
    thaw_recipe_destroy(r);
}

static void coefficients_can_be_pinned(void **state)
{
    thaw_recipe *const r = good(MINIMAL "lr_coefficients = { a = 0.5, 'b.c' = 'pin' }\n");

    (void)state;
    CHECK_INT(r->phase[0].n_changes, 2);
    check_change(&r->phase[0].change[0], CHANGE_COEFFICIENT, "a", "a", 1, 0.5, 7, 21);
    check_change(&r->phase[0].change[1], CHANGE_PINNED, "b.c", "b.c", 1, 1, 7, 30);
    thaw_recipe_destroy(r);
}

/* A phase that says nothing has the settings of [optimizer], not those of the phase before. */
static void settings_of_phases(void **state)
{
    thaw_recipe *const r =
        good("[optimizer]\nname = 'sgd'\nmomentum = 0.9\nnesterov = true\n" MINIMAL
             "momentum = 0\nnesterov = false\n[[phase]]\nsteps = 1\n"
             "[[phase]]\nsteps = 1\nmomentum = 0.5\nclip_norm = inf\n");

    (void)state;
    CHECK_NEAR(r->phase[0].hyper.momentum, 0, 0, 0);
    CHECK(!r->phase[0].hyper.nesterov && r->phase[1].hyper.nesterov);
    CHECK_NEAR(r->phase[1].hyper.momentum, 0.9, 0, 0);
    CHECK_NEAR(r->phase[2].hyper.momentum, 0.5, 0, 0);
    CHECK(isinf(r->phase[2].clip_norm));
    CHECK_CONTAINS(r->resolved, "\nclip_norm = inf                         # line 18\n");
    thaw_recipe_destroy(r);
}

/* ----------------------------------------------------------------------------------------------
 * --set */

static void sets_are_checked_like_the_file(void **state)
{
    static const struct {
        const char *set, *line; /* of the resolved recipe, or of the error */
    } table[] = {
        {"data.batch=64", "\nbatch = 64 "},
        {"optimizer.name=sgd", "\nname = \"sgd\" "},
        {"optimizer.name = 'sgd'", "\nname = \"sgd\" "},
        {"phase.1.lr=1e-4", "\nlr = 0.0001 "},
        {"phase.1.steps=7", "\nsteps = 7 "},
        {"phase.1.name=2024", "\nname = \"2024\" "},
        {"name=true", "\nname = \"true\" "},
        {"phase.1.freeze=conv1", "\nfreeze = \"conv1\" "},
        {"phase.1.freeze=[\"a\", 'b']", "\nfreeze = [\"a\", \"b\"] "},
        {"phase.1.lr_coefficients.\"layer4.0\"=0.5", "\nlr_coefficients = { \"layer4.0\" = 0.5 } "},
        {"phase.1.schedule.name=cosine", "\nschedule = { name = \"cosine\""},
        {"aliases.top=layer4", "\n[aliases]\ntop = \"layer4\" "},
        {"model.path=a folder", "\npath = \"/folder/a folder\" "},
        {"seed=3", "\nsubset_seed = 3 "},
        {"checkpoint.every=500 steps", "\nevery = \"500 steps\" "},
        {"checkpoint.every=500", "\nevery = 500 "},
        {"data.batch=x", "!'data.batch': expected an integer, found the string 'x'"},
        {"data.batch=0", "!'data.batch' must be from 1 to 1048576, not 0"},
        {"data.bach=1", "!unknown key 'data.bach' (did you mean 'data.batch'"},
        {"dta.batch=1", "!unknown key 'dta' (did you mean 'data'"},
        {"phase.2.lr=1", "!there is no phase 2; the recipe has 1"},
        {"phase.0.lr=1", "!there is no phase 0; the recipe has 1"},
        {"phase.lr=1", "!name the phase by its number, from 1, and a key: phase.1.lr"},
        {"phase.1.lrr=1", "!unknown key 'phase.lrr' (did you mean 'phase.lr'"},
        {"phase.1=3", "!name the phase by its number"},
        {"data", "!expected key=value, such as data.batch=64"},
        {"=1", "!expected key=value"},
        {"data.batch=", "!a value is missing behind '='"},
        {"da ta=1", "!'da ta' is not a key"},
        {"data.batch.x=1", "!'batch' is not a table"},
        {"data.classes=[1", "!the value is not valid TOML"},
        {"optimizer.name=\xFF", "!the value is not UTF-8 text"},
        {"optimizer=sgd", "!'optimizer' must be a table"},
    };
    const char *const source =
        "[model]\narch='mlp'\n[data]\ntrain='images-idx3'\nbatch=8\n[[phase]]\nsteps=1\n";

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(table); i++) {
        thaw_recipe *r = NULL;

        if (table[i].line[0] == '!') {
            CHECK_ERROR(parse(&r, source, &table[i].set, 1), THAW_E_RECIPE, table[i].line + 1);
            CHECK_MSG(strncmp(thaw_error(), "--set ", 6) == 0, "no --set in front: %s",
                      thaw_error());
            continue;
        }
        CHECK_OK(parse(&r, source, &table[i].set, 1));
        CHECK_CONTAINS(r->resolved, table[i].line);
        CHECK_CONTAINS(r->resolved, "# --set ");
        thaw_recipe_destroy(r);
    }
}

static void later_sets_win(void **state)
{
    static const char *const sets[] = {"data.batch=16", "data.batch=48", "phase.1.steps=2"};
    thaw_recipe *r = NULL;

    (void)state;
    CHECK_OK(parse(&r, MINIMAL, sets, THAW_COUNT(sets)));
    CHECK_INT(r->loader.batch, 48);
    CHECK_INT(r->phase[0].options.length, 2);
    thaw_recipe_destroy(r);
}

/* ----------------------------------------------------------------------------------------------
 * the resolved recipe */

/* Lines without their comments; free with thaw__free. */
static char *values_of(const char *resolved)
{
    text t = TEXT_INIT;
    char *out;

    for (const char *p = resolved; *p; p += strcspn(p, "\n") + 1) {
        size_t n = strcspn(p, "#\n");

        while (n > 0 && p[n - 1] == ' ')
            n--;
        text_add_n(&t, p, n);
        text_add(&t, "\n");
    }
    CHECK_OK(text_take(&out, &t, "values"));
    return out;
}

static void resolved_recipe_reads_back(void **state)
{
    static const char *const source[] = {whole, MINIMAL};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(source); i++) {
        thaw_recipe *const r = good(source[i]);
        thaw_recipe *again = NULL;
        char *first, *second;

        CHECK_OK(thaw_recipe_parse(&again, r->resolved, strlen(r->resolved), "recipe.toml",
                                   "/some/run", NULL, 0));
        first = values_of(r->resolved);
        second = values_of(again->resolved);
        CHECK_STR(second, first);
        CHECK_STR(again->train.labels, r->train.labels);
        CHECK_INT(again->n_phases, r->n_phases);
        for (int p = 0; p < r->n_phases; p++)
            CHECK_INT(again->phase[p].n_changes, r->phase[p].n_changes);
        thaw__free(first);
        thaw__free(second);
        thaw_recipe_destroy(again);
        thaw_recipe_destroy(r);
    }
}

static void resolved_recipe_says_where_from(void **state)
{
    static const char *const set = "optimizer.lr=0.5";
    thaw_recipe *r = NULL;

    (void)state;
    CHECK_OK(parse(&r, MINIMAL, &set, 1));
    CHECK_CONTAINS(r->resolved, "\narch = \"mlp\"                            # line 2\n");
    CHECK_CONTAINS(r->resolved,
                   "\nlr = 0.5                                # --set 'optimizer.lr=0.5'\n");
    CHECK_CONTAINS(r->resolved, "\nbatch = 32                              # default\n");
    CHECK_CONTAINS(r->resolved, "\ntrain = \"/folder/train-images-idx3-ubyte\" # line 4\n");
    thaw_recipe_destroy(r);
}

static void files_are_relative_to_the_recipe(void **state)
{
    char *const folder = check_folder();
    const char *const path = check_path(folder, "r.toml");
    thaw_recipe *r = NULL;
    char want[4200];

    (void)state;
    check_write_file(path, MINIMAL, strlen(MINIMAL));
    CHECK_OK(thaw_recipe_load(&r, path, NULL, 0));
    snprintf(want, sizeof want, "%s/train-images-idx3-ubyte", folder);
    CHECK_STR(r->train.images, want);
    CHECK_STR(r->name, path);
    thaw_recipe_destroy(r);
    r = NULL;
    CHECK_ERROR(thaw_recipe_load(&r, check_path(folder, "none.toml"), NULL, 0), THAW_E_MISSING,
                "none.toml");
    CHECK(r == NULL);
    CHECK_OK(thaw_recipe_parse(&r, MINIMAL, strlen(MINIMAL), "r", "sub", NULL, 0));
    CHECK_MSG(r->folder[0] == '/' && strstr(r->folder, "/sub"), "folder '%s'", r->folder);
    thaw_recipe_destroy(r);
    check_folder_remove(folder);
}

static void every_allocation_may_fail(void **state)
{
    static const char *const sets[] = {"phase.1.lr=1", "data.batch=4"};
    const size_t before = thaw__mem_current();

    (void)state;
    for (int n = 1, more = 1; more; n++) {
        thaw_recipe *r = NULL;
        thaw_status status;

        check_alloc_fail(n, false);
        status = parse(&r, whole, sets, THAW_COUNT(sets));
        more = check_alloc_restore();
        CHECK_MSG(status == (more ? THAW_E_NOMEM : THAW_OK), "allocation %d: %s, '%s'", n,
                  thaw_status_name(status), thaw_error());
        CHECK((r == NULL) == (status != THAW_OK));
        thaw_recipe_destroy(r);
        CHECK_INT(thaw__mem_current(), before);
    }
    for (int n = 1, more = 1; more; n++) {
        thaw_recipe *r = NULL;
        thaw_status status;

        check_alloc_fail(n, false);
        status = parse(&r, "lr = 1\n[optimizer]\nname = 'adm'\nmomentum = 3\nlr = 'x'\n", NULL, 0);
        more = check_alloc_restore();
        CHECK_STATUS(status, more ? THAW_E_NOMEM : THAW_E_RECIPE);
        CHECK_INT(thaw__mem_current(), before);
    }
}

/* ----------------------------------------------------------------------------------------------
 * help */

static void help_has_every_key(void **state)
{
    size_t n;
    const recipe_key *const key = recipe_keys(&n);
    char *plain, *markdown;

    (void)state;
    CHECK_OK(thaw_recipe_help(&plain, false));
    CHECK_OK(thaw_recipe_help(&markdown, true));
    for (size_t i = 0; i < n; i++) {
        CHECK_CONTAINS(plain, key[i].name);
        CHECK_CONTAINS(plain, key[i].help);
        CHECK_CONTAINS(markdown, key[i].help);
    }
    thaw__free(plain);
    thaw__free(markdown);
}

static void manual_is_up_to_date(void **state)
{
    char *const manual = check_read_file(NULL, THAW_TEST_DIR "/../docs/recipe.md");
    char *help;

    (void)state;
    CHECK_OK(thaw_recipe_help(&help, true));
    CHECK_MSG(strcmp(manual, help) == 0,
              "docs/recipe.md is out of date: build/thaw help recipe --markdown > docs/recipe.md");
    thaw__free(help);
    free(manual);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_is_stored),
        cmocka_unit_test(defaults_hold_where_nothing_is_said),
        cmocka_unit_test(intervals_have_units),
        cmocka_unit_test(auto_takes_what_can_compute),
        cmocka_unit_test(step_scheduled_form_is_read),
        cmocka_unit_test(coefficients_can_be_pinned),
        cmocka_unit_test(settings_of_phases),
        cmocka_unit_test(sets_are_checked_like_the_file),
        cmocka_unit_test(later_sets_win),
        cmocka_unit_test(resolved_recipe_reads_back),
        cmocka_unit_test(resolved_recipe_says_where_from),
        cmocka_unit_test(files_are_relative_to_the_recipe),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(help_has_every_key),
        cmocka_unit_test(manual_is_up_to_date),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
