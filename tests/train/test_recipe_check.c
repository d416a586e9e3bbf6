/*
 * test_recipe_check.c - mistakes in recipes: every kind, its place and the remedy it names.
 */
#include "train/recipe_reader.h"
#include "train/train.h"

#include "check.h"

#define MINIMAL                                                                                    \
    "[model]\narch = 'mlp'\n[data]\ntrain = 'train-images-idx3-ubyte'\n[[phase]]\nsteps = 10\n"

static thaw_status parse(thaw_recipe **out, const char *source, const char *const *sets, int n_sets)
{
    return thaw_recipe_parse(out, source, strlen(source), "r.toml", "/folder", sets, n_sets);
}

/* Lines in front of the minimal recipe, and one line of the error. */
static const struct {
    const char *source, *error;
} mistakes[] = {
    {"a = 'x\n", "r.toml:1:5: the string that begins here is not closed on its line"},
    {"[optimizer]\nlr = 1\nmomentun = 3\n",
     "r.toml:3:1: unknown key 'optimizer.momentun' (did you mean 'optimizer.momentum'?)"},
    {"[optimzer]\nlr = 1\n", "r.toml:1:2: unknown key 'optimzer' (did you mean 'optimizer'?)"},
    {"lr = 1\n", "r.toml:1:1: unknown key 'lr' (did you mean 'optimizer.lr' or 'phase.lr'?)"},
    {"[train]\nbatch = 1\n", "r.toml:2:1: unknown key 'train.batch' (did you mean 'data.batch' or "
                             "'phase.batch'?)"},
    {"zzzzzzzzzz = 1\n", "r.toml:1:1: unknown key 'zzzzzzzzzz'; 'thaw help recipe' lists all keys"},
    {"[train]\neval_every = 'x'\n",
     "r.toml:2:14: 'train.eval_every': expected an integer, found the string 'x'"},
    {"[train]\neval_every = 1.5\n",
     "r.toml:2:14: 'train.eval_every': expected an integer, found the number 1.5"},
    {"[train]\neval_every = [1]\n", "'train.eval_every': expected an integer, found a list"},
    {"[optimizer]\nlr = true\n", "r.toml:2:6: 'optimizer.lr': expected a number, found true"},
    {"[optimizer]\nlr = 2024-01-01\n", "expected a number, found the date 2024-01-01"},
    {"[optimizer]\nlr = -1\n", "r.toml:2:6: 'optimizer.lr' must be from 0 to 1000000, not -1"},
    {"[optimizer]\nlr = nan\n", "'optimizer.lr' must be from 0 to 1000000, not nan"},
    {"[optimizer]\nbetas = 0.9\n", "expected a list of 2 numbers, found the number 0.9"},
    {"[optimizer]\nbetas = [0.9]\n", "'optimizer.betas' must have 2 to 2 values, not 1"},
    {"[optimizer]\nbetas = [0.9, 1]\n",
     "r.toml:2:15: 'optimizer.betas' must be from 0 to 1 (1 excluded), not 1"},
    {"[optimizer]\neps = 0\n", "'optimizer.eps' must be from 0 to 1 (0 excluded), not 0"},
    {"[optimizer]\naccumulate = 0\n", "'optimizer.accumulate' must be from 1 to 1000000, not 0"},
    {"seed = -1\n", "r.toml:1:8: 'seed' must be 0 or more, not -1"},
    {"[optimizer]\nname = 'adamm'\n", "r.toml:2:8: 'optimizer.name': 'adamm' is none of 'sgd', "
                                      "'adam', 'adamw' (did you mean 'adam'?)"},
    {"[optimizer]\nname = 3\n", "'optimizer.name': expected a name in quotes, found the integer 3"},
    {"[optimizer]\nmomentum = 0.9\n", "r.toml:2:1: 'optimizer.momentum' has no effect with "
                                      "optimizer.name = 'adamw', only with 'sgd'"},
    {"[optimizer]\nname = 'sgd'\nnesterov = true\n",
     "r.toml:3:12: Nesterov's form needs a momentum"},
    {"[schedule]\nname = 'step'\n", "r.toml:1:2: 'schedule.step_size' is missing; add it"},
    {"[schedule]\ngamma = 0.5\n", "'schedule.gamma' has no effect with schedule.name = 'constant'"},
    {"[loss]\nname = 'mse'\nlabel_smoothing = 0.1\n", "'loss.label_smoothing' has no effect"},
    {"[train]\nprecision = 'f64'\nexecutor = 'dnn'\n",
     "r.toml:3:12: executor 'dnn' computes in f32"},
    {"[checkpoint]\nevery = '10 parsecs'\n", "r.toml:2:9: 'checkpoint.every' must be like '10min'"},
    {"[checkpoint]\nevery = '0 steps'\n", "'checkpoint.every' must be like"},
    {"[checkpoint]\nevery = 'min'\n", "'checkpoint.every' must be like"},
    {"train = 3\n", "r.toml:1:9: 'train' must be a table; write it as [train]"},
    {"[aliases]\na = []\n", "r.toml:2:5: alias 'a' is empty"},
    {"[aliases]\na = [1]\n", "r.toml:2:6: alias 'a': expected a layer pattern in quotes"},
    {"[aliases]\na = 'b'\nb = 'c'\n", "r.toml:2:5: alias 'a' names the alias 'b'"},
    {"aliases = 3\n", "r.toml:1:11: 'aliases' must be a table"},
    {"freeze = ['a']\n", "r.toml:1:10: 'freeze' must be a list of tables"},
    {"freeze = 'a'\n", "r.toml:1:10: 'freeze' must be a list of tables"},
    {"freeze = [{ modul = 'a', module = 'b' }]\n", "r.toml:1:13: unknown key 'freeze.modul'"},
    {"freeze = [{ frozen = true }]\n", "'freeze.module' is missing; add it"},
    {"freeze_schedule = [{ start_step = 1, specs = 3 }]\n",
     "'freeze_schedule.specs': expected a list of tables, found the integer 3"},
    {"freeze_schedule = [{ start_step = 1, specs = [] }, { start_step = 1, specs = [] }]\n",
     "r.toml:1:67: 'freeze_schedule' must have rising start_steps, but 1 follows 1"},
    {"module_patterns = { a = 1 }\n", "r.toml:1:25: 'module_patterns.a': expected a pattern"},
    {"module_patterns = 1\n", "'module_patterns' must be a table"},
};

static void mistakes_name_place_and_remedy(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(mistakes); i++) {
        char source[1024];
        thaw_recipe *r = NULL;

        snprintf(source, sizeof source, "%s" MINIMAL, mistakes[i].source);
        CHECK_ERROR(parse(&r, source, NULL, 0), THAW_E_RECIPE, mistakes[i].error);
        CHECK_MSG(r == NULL && !strchr(thaw_error(), '\n'), "one mistake gave more lines: %s",
                  thaw_error());
    }
}

/* Lines behind the minimal recipe, so within its phase, or whole recipes. */
static const struct {
    const char *before, *after, *error;
} more_mistakes[] = {
    {MINIMAL, "epochs = 1\n",
     "r.toml:7:1: phase 1 has two lengths, 'steps' and 'epochs'; keep one"},
    {MINIMAL, "[[phase]]\nlr = 1\n", "r.toml:7:3: phase 2 has no length; add epochs, steps"},
    {MINIMAL, "freeze = ['a', 'b']\nunfreeze = 'b'\n",
     "r.toml:8:12: phase 1 both freezes and unfreezes 'b'; keep one"},
    {MINIMAL, "freeze = [1]\n",
     "r.toml:7:11: 'phase.freeze': expected a string or a list of strings"},
    {MINIMAL, "freeze = ''\n", "r.toml:7:10: 'phase.freeze' must not be empty"},
    {MINIMAL, "lr_coefficients.layer4.0 = 1\n", "a layer name with dots needs quotes"},
    {MINIMAL, "lr_coefficients = { a = -1 }\n",
     "r.toml:7:25: 'phase.lr_coefficients' must be from 0 to 1000000, not -1"},
    {MINIMAL, "optimizer = 'hold'\nlr = 1\n", "r.toml:8:1: phase 1 holds the optimizer as it is"},
    {MINIMAL, "momentum = 0.9\n",
     "r.toml:7:1: 'phase.momentum' has no effect with optimizer.name = 'adamw', only with 'sgd'"},
    {MINIMAL, "betas = [0.9, 1]\n", "r.toml:7:15: 'phase.betas' must be from 0 to 1 (1 excluded)"},
    {MINIMAL, "clip_norm = 0\n", "r.toml:7:13: 'phase.clip_norm' must be above 0, not 0"},
    {MINIMAL, "eps = 1e-6\noptimizer = 'hold'\n",
     "r.toml:7:1: phase 1 holds the optimizer as it is, so 'eps' has no effect"},
    {"[optimizer]\nname = 'sgd'\n" MINIMAL, "eps = 1e-6\n",
     "r.toml:9:1: 'phase.eps' has no effect with optimizer.name = 'sgd', only with 'adam|adamw'"},
    {"[optimizer]\nname = 'sgd'\nmomentum = 0.9\nnesterov = true\n" MINIMAL, "momentum = 0\n",
     "r.toml:11:12: Nesterov's form needs a momentum; set 'momentum' above 0 in phase 1"},
    {"[optimizer]\nname = 'sgd'\n" MINIMAL, "nesterov = true\n",
     "r.toml:9:12: Nesterov's form needs a momentum"},
    {"[optimizer]\nname = 'sgd'\n" MINIMAL,
     "[[phase]]\nsteps = 1\noptimizer = 'keep'\nmomentum = 0.5\n",
     "r.toml:12:1: phase 2 keeps the optimizer, but its momentum is 0.5 and that of phase 1 is 0, "
     "which has no velocities; set optimizer = 'rebuild' here"},
    {"[optimizer]\nname = 'sgd'\nmomentum = 0.9\n" MINIMAL,
     "[[phase]]\nsteps = 1\noptimizer = 'hold'\n"
     "[[phase]]\nsteps = 1\nmomentum = 0\noptimizer = 'keep'\n",
     "r.toml:15:1: phase 3 keeps the optimizer, but its momentum is 0 and that of phase 1 is 0.9, "
     "which has velocities"},
    {"[optimizer]\nname = 'sgd'\nmomentum = 0.9\n" MINIMAL,
     "momentum = 0\n[[phase]]\nsteps = 1\noptimizer = 'keep'\n",
     "r.toml:13:1: phase 2 keeps the optimizer, but its momentum is 0.9"},
    {MINIMAL, "thaw_warmup = 5\noptimizer = 'hold'\n",
     "r.toml:7:1: phase 1 holds the optimizer as it is, so 'thaw_warmup' has no effect"},
    {MINIMAL, "until = { patience = 1, metric = 'train.loss' }\n", "'phase.until.metric'"},
    {MINIMAL, "batch = 0\n", "r.toml:7:9: 'phase.batch' must be from 1"},
    {MINIMAL, "thaw_warmup = -1\n", "r.toml:7:15: 'phase.thaw_warmup' must be from 0"},
    {MINIMAL, "[[phase]]\ntokens = 5\n",
     "r.toml:8:1: phase 2 counts tokens, but the data are images"},
    {MINIMAL, "on_freeze = 'park'\n", "'phase.on_freeze' has no effect with phase.optimizer"},
    {MINIMAL, "until = { patience = 1 }\n",
     "r.toml:7:1: 'until' watches 'valid.accuracy', which needs"},
    {MINIMAL, "schedule = { nam = 'step' }\n", "r.toml:7:14: unknown key 'schedule.nam'"},
    {MINIMAL, "schedule = 'step'\n", "'phase.schedule': expected a table, found the string 'step'"},
    {"[model]\narch = 'mlp'\n[data]\ntrain = 'images-idx3'\n", "",
     "r.toml: the recipe has no phase; add a [[phase]]"},
    {"[model]\narch = 'mlp'\n[data]\ntrain = 'images-idx3'\n", "[phase]\nsteps = 1\n",
     "r.toml:5:2: phases are lists of tables; begin each with [[phase]]"},
    {"[data]\ntrain = 'images-idx3'\n[[phase]]\nsteps = 1\n", "",
     "r.toml: the recipe names no model; add 'model.path' or 'model.arch'"},
    {"model = { arch = 'mlp' }\n[data]\n", "[[phase]]\nsteps = 1\n",
     "r.toml:2:2: 'data.train' is missing; add it"},
    {"model = { arch = 'mlp' }\n[data]\ntrain = 'x'\n", "[[phase]]\nsteps = 1\n",
     "r.toml:3:1: 'data.train_labels' is missing, and its name cannot be told from 'data.train'"},
    {"model = { arch = 'mlp' }\n[data]\nformat = 'callback'\nflip = true\n", "[[phase]]\nsteps=1\n",
     "r.toml:4:1: 'data.flip' has no effect with data.format = 'callback', only with "
     "'idx|folder|csv'"},
    {"model = { arch = 'mlp' }\n[data]\ntrain = 'images-idx3'\nvalid_first = 3\n",
     "[[phase]]\nsteps = 1\n", "r.toml:4:1: 'data.valid_first' needs 'data.valid'"},
    {"model = { arch = 'mlp', num_classes = 2 }\n[data]\ntrain = 'images-idx3'\n",
     "classes = [1, 2, 3]\n[[phase]]\nsteps = 1\n",
     "r.toml:1:39: 'model.num_classes' is 2, but 'data.classes' has 3"},
    {"model = { arch = 'mlp' }\n[data]\ntrain = 'images-idx3'\n",
     "classes = [1, 2, 1]\n[[phase]]\nsteps = 1\n", "r.toml:4:11: 'data.classes' has 1 twice"},
    {"model = { arch = 'mlp' }\n[data]\ntrain = 'images-idx3'\n",
     "mean = [0, 0]\nstd = [1, 1, 1]\n[[phase]]\nsteps = 1\n",
     "r.toml:5:7: 'data.std' has 3 values, but 'data.mean' has 2"},
    {"model = { arch = 'mlp' }\n[data]\ntrain = 'images-idx3'\nchannels = 1\n",
     "mean = [0, 0]\n[[phase]]\nsteps = 1\n", "r.toml:5:8: 2 values, but 'data.channels' is 1"},
    {"model = { arch = 'mlp' }\n[data]\ntrain = 'images-idx3'\nvalid = 'images-idx3'\n",
     "[train]\neval_every = 0\n[[phase]]\nsteps = 1\nuntil.patience = 1\n",
     "'until' needs evaluations within the phase, but 'train.eval_every' is 0"},
};

static void contradictions_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(more_mistakes); i++) {
        char source[1024];
        thaw_recipe *r = NULL;

        snprintf(source, sizeof source, "%s%s", more_mistakes[i].before, more_mistakes[i].after);
        CHECK_ERROR(parse(&r, source, NULL, 0), THAW_E_RECIPE, more_mistakes[i].error);
        CHECK_MSG(!strchr(thaw_error(), '\n') || strstr(source, "nam = "),
                  "one mistake gave more lines: %s", thaw_error());
    }
}

static void all_mistakes_come_at_once_in_order(void **state)
{
    static const char source[] =
        "lr = 1\n[optimizer]\nlr = 'x'\nmomentum = 1\n[[phase]]\nsteps = 1\n"
        "frezee = 'a'\n[data]\ntrain = 'images-idx3'\nflip = 1\n";
    static const char *const lines[] = {
        "--set 'data.batch=0': 'data.batch' must be from 1 to 1048576, not 0",
        "r.toml: the recipe names no model",
        "\nr.toml:1:1: unknown key 'lr'",
        "\nr.toml:3:6: 'optimizer.lr': expected a number",
        "\nr.toml:4:1: 'optimizer.momentum' has no effect",
        "\nr.toml:7:1: unknown key 'phase.frezee' (did you mean 'phase.freeze'",
        "\nr.toml:10:8: 'data.flip': expected true or false, found the integer 1",
    };
    const char *const set = "data.batch=0";
    const char *at;
    thaw_recipe *r = NULL;

    (void)state;
    CHECK_STATUS(parse(&r, source, &set, 1), THAW_E_RECIPE);
    at = thaw_error();
    for (size_t i = 0; i < THAW_COUNT(lines); i++) {
        const char *const next = strstr(at, lines[i]);

        CHECK_MSG(next != NULL, "'%s' is not there, or not in order: %s", lines[i], thaw_error());
        at = next;
    }
}

static void very_many_mistakes_are_cut(void **state)
{
    text t = TEXT_INIT;
    thaw_recipe *r = NULL;

    (void)state;
    for (int i = 0; i < 5000; i++)
        text_addf(&t, "unknown-%d = 1\n", i);
    CHECK_ERROR(parse(&r, t.data, NULL, 0), THAW_E_RECIPE, " more mistakes are not shown");
    text_done(&t);
}

/* Every key, and every section itself, takes every sort of value: read or refused with a line. */
static void no_value_of_another_sort_is_taken_amiss(void **state)
{
    static const char *const values[] = {
        "1",     "-1",      "1.5",         "nan", "true",      "2024-01-01",  "'x'",
        "''",    "'.*'",    "[]",          "[1]", "[0.5, 2]",  "['x']",       "['']",
        "[[1]]", "[['x']]", "[{ a = 1 }]", "{}",  "{ a = 1 }", "{ a = 'x' }", "{ a = { b = [1] } }",
    };
    size_t n_keys, n_sections;
    const recipe_key *const key = recipe_keys(&n_keys);
    const recipe_section *const section = recipe_sections(&n_sections);
    int taken = 0, refused = 0;

    (void)state;
    for (size_t i = 0; i < n_keys + n_sections; i++)
        for (size_t k = 0; k < THAW_COUNT(values); k++) {
            thaw_recipe *r = NULL;
            thaw_status status;
            text t = TEXT_INIT;

            if (i >= n_keys)
                text_add(&t, section[i - n_keys].name);
            else if (strncmp(key[i].section, "phase", 5) == 0)
                text_addf(&t, "phase.1%s.%s", key[i].section + 5, key[i].name);
            else
                text_addf(&t, "%s%s%s", key[i].section, *key[i].section ? "." : "", key[i].name);
            text_addf(&t, "=%s", values[k]);
            status = parse(&r, MINIMAL, (const char *[]){t.data}, 1);
            CHECK_MSG(status == THAW_OK || status == THAW_E_RECIPE, "%s: %s", t.data, thaw_error());
            CHECK_MSG((status == THAW_OK) == (r != NULL), "%s", t.data);
            taken += status == THAW_OK;
            refused += status != THAW_OK;
            thaw_recipe_destroy(r);
            text_done(&t);
        }
    CHECK_MSG(taken > 100 && refused > 2000, "%d taken, %d refused", taken, refused);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_name_place_and_remedy),
        cmocka_unit_test(contradictions_are_found),
        cmocka_unit_test(all_mistakes_come_at_once_in_order),
        cmocka_unit_test(very_many_mistakes_are_cut),
        cmocka_unit_test(no_value_of_another_sort_is_taken_amiss),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
