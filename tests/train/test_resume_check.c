/*
 * test_resume_check.c - each class of difference between a checkpoint and what goes on from it:
 * named, and refused or allowed.
 */
#include "train/recipe_reader.h"
#include "train/small_runs.h"

/* Stopped at step 4, in the second phase, which goes from step 2 to 7. */
static const char source[] =
    SMALL_MLP SMALL_DATA "[optimizer]\nname = 'adamw'\nlr = 0.01\n[train]\nexecutor = 'ref'\n"
                         "[checkpoint]\nevery = 'off'\n"
                         "[aliases]\nearly = 'backbone'\nlate = 'head'\n"
                         "[[phase]]\nsteps = 2\nfreeze = 'early'\n"
                         "[[phase]]\nsteps = 5\nunfreeze = 'backbone'\n"
                         "[[phase]]\nsteps = 3\nfreeze = 'late'\n";

static int prepare(void **state)
{
    char *const folder = check_folder();
    small_record r = {.stop_at = 4};
    char run[512];
    thaw_recipe *recipe;

    small_data(folder);
    recipe = small_recipe(source, folder);
    CHECK_STATUS(thaw_train(recipe, &(thaw_run_options){.run = small_path(run, folder, "run"),
                                                        .threads = 1,
                                                        .on_event = small_listen,
                                                        .user = &r}),
                 THAW_E_STOPPED);
    thaw_recipe_destroy(recipe);
    *state = folder;
    return 0;
}

static int clean(void **state)
{
    check_folder_remove(*state);
    return 0;
}

/* Take the checkpoint up with these changes; notes: what was allowed, free with text_done. */
static thaw_status take_up(text *notes, const char *folder, const char *recipe_text,
                           const char *const *sets, int n_sets, int threads)
{
    char run[512], path[512], checkpoint[512];
    const thaw_run_options options = {.run = small_path(run, folder, "run"), .threads = threads};
    thaw_recipe *recipe = NULL;
    trainer *t = NULL;
    job *j = NULL;
    thaw_status status;

    small_path(path, run, "recipe.toml");
    small_path(checkpoint, run, "checkpoints/step-000004");
    if (recipe_text)
        CHECK_OK(thaw_recipe_parse(&recipe, recipe_text, strlen(recipe_text), "edited.toml", folder,
                                   sets, n_sets));
    else
        CHECK_OK(thaw_recipe_load(&recipe, path, sets, n_sets));
    CHECK_OK(job_open(&j, recipe, &options, checkpoint, JOB_DATA | JOB_EXEC));
    CHECK_OK(trainer_create(&t, j));
    status = state_load(t, checkpoint);
    text_add(notes, t->note.data ? t->note.data : "");
    trainer_destroy(t);
    job_close(j);
    thaw_recipe_destroy(recipe);
    return status;
}

static void refused(const char *folder, const char *set, const char *words)
{
    text notes = TEXT_INIT;

    CHECK_ERROR(take_up(&notes, folder, NULL, &set, 1, 1), THAW_E_MISMATCH, words);
    CHECK_MSG(!strchr(thaw_error(), '\n'), "'%s' differs in more than one thing: %s", set,
              thaw_error());
    text_done(&notes);
}

static void allowed(const char *folder, const char *set, const char *words)
{
    text notes = TEXT_INIT;

    CHECK_OK(take_up(&notes, folder, NULL, &set, 1, 1));
    CHECK_CONTAINS(notes.data ? notes.data : "", words);
    text_done(&notes);
}

/* ----------------------------------------------------------------------------------------------
 * recipe */

static void test_same(void **state)
{
    text notes = TEXT_INIT;

    CHECK_OK(take_up(&notes, *state, NULL, NULL, 0, 1));
    CHECK_STR(notes.data ? notes.data : "", "");
    text_done(&notes);
}

static void test_refused_keys(void **state)
{
    static const struct {
        const char *set, *words;
    } table[] = {
        {"data.seed=9", "'data.seed' is 9, was 0: steps already made depended on it; put it back"},
        {"seed=9", "'seed' is 9, was 0"},
        {"data.batch=2", "'data.batch' is 2, was 4"},
        {"data.shuffle=false", "'data.shuffle' is false, was true"},
        {"data.mean=0.5", "'data.mean' is 0.5, was 0.3"},
        {"model.dropout=0.5", "'model.dropout' is 0.5, was 0.0"},
        {"optimizer.lr=0.5", "'optimizer.lr' is 0.5, was 0.01"},
        {"optimizer.clip_norm=1", "'optimizer.clip_norm' is 1, was inf"},
        {"schedule.warmup=2", "'schedule.warmup' is 2, was 0.0"},
        {"loss.label_smoothing=0.1", "'loss.label_smoothing' is 0.1, was 0.0"},
        {"train.frozen_norm=train", "'train.frozen_norm' is \"train\", was \"eval\""},
        {"phase.1.lr=0.1", "'phase.1.lr' is 0.1, was not set: the phase is over"},
        {"phase.1.steps=3", "'phase.1.steps' is 3, was 2: the phase is over"},
        {"phase.2.lr=0.1", "'phase.2.lr' is 0.1, was not set: the phase has begun"},
        {"phase.2.unfreeze=head", "'phase.2.unfreeze' is \"head\", was \"backbone\""},
        {"phase.2.steps=2", "phase 2 would end at step 4, but 4 steps are made"},
        {"aliases.early=head", "an alias that phase 1 uses stands for other layers"},
    };

    for (size_t i = 0; i < THAW_COUNT(table); i++)
        refused(*state, table[i].set, table[i].words);
}

static void test_every_key_is_judged(void **state)
{
    size_t n;
    const recipe_key *const key = recipe_keys(&n);

    (void)state;
    for (size_t i = 0; i < n; i++)
        CHECK_MSG(resume_judges(key[i].section, key[i].name),
                  "the table of resume_check.c does not say what a change of '%s%s%s' means",
                  key[i].section, *key[i].section ? "." : "", key[i].name);
}

static void test_allowed_keys(void **state)
{
    static const struct {
        const char *set, *words;
    } table[] = {
        {"name=better", "recipe: 'name' is \"better\", was not set: nothing that is learned"},
        {"checkpoint.keep=9", "'checkpoint.keep' is 9, was 3: nothing that is learned depends"},
        {"checkpoint.every=2 steps", "'checkpoint.every' is \"2 steps\", was \"off\""},
        {"data.prefetch=false", "'data.prefetch' is false, was true"},
        {"train.eval_every=2", "'train.eval_every' is 2, was 1: this holds from here on"},
        {"train.executor=dnn", "'train.executor' is \"dnn\", was \"ref\": results may differ"},
        {"train.sums=double", "'train.sums' is \"double\", was \"float\": results may differ"},
        {"plan.fuse=false", "'plan.fuse' is false, was true: results may differ"},
        {"train.memory_limit=1GiB", "'train.memory_limit' is \"1GiB\", was not set: results may"},
        {"phase.1.name=z", "'phase.1.name' is \"z\", was not set: nothing that is learned"},
        {"phase.2.steps=9", "phase 2 ends at step 11 instead of 7, and its curve"},
        {"phase.2.steps=3", "phase 2 ends at step 5 instead of 7"},
        {"phase.2.until.patience=1", "'phase.2.until' is "},
        {"phase.3.lr=0.1", "phase 3, which has not begun, has changed"},
        {"aliases.late=backbone", "phase 3, which has not begun, has changed"},
    };

    for (size_t i = 0; i < THAW_COUNT(table); i++)
        allowed(*state, table[i].set, table[i].words);
}

/* The checkpoint's recipe with its end replaced. */
static thaw_status with_end(text *notes, const char *folder, const char *from, const char *end)
{
    text t = TEXT_INIT;
    thaw_status status;

    text_add_n(&t, source, (size_t)(strstr(source, from) - source));
    text_add(&t, end);
    status = take_up(notes, folder, t.data, NULL, 0, 1);
    text_done(&t);
    return status;
}

static void test_phases_come_and_go(void **state)
{
    const char *const third = "[[phase]]\nsteps = 3\n", *const second = "[[phase]]\nsteps = 5\n";
    text notes = TEXT_INIT;

    CHECK_OK(with_end(&notes, *state, third, ""));
    CHECK_CONTAINS(notes.data, "phase 3, which had not begun, is gone");
    CHECK_OK(with_end(&notes, *state, third,
                      "[[phase]]\nsteps = 3\nfreeze = 'late'\n[[phase]]\nepochs = 1\n"));
    CHECK_CONTAINS(notes.data, "phase 4 is new");
    CHECK_ERROR(with_end(&notes, *state, second, ""), THAW_E_MISMATCH,
                "phase 2 has begun, but the recipe has only 1 now");
    text_done(&notes);
}

/* Between two phases the next one has not begun. */
static void test_stopped_between_phases(void **state)
{
    static const char *const sets[] = {"phase.2.lr=3"};
    small_record first = {.stop_at = 2}, second = {.stop_at = 3};
    thaw_recipe *recipe = small_recipe(source, *state);
    thaw_run_options o = {.threads = 1, .on_event = small_listen};
    char run[512];

    o.run = small_path(run, *state, "between");
    o.user = &first;
    CHECK_STATUS(thaw_train(recipe, &o), THAW_E_STOPPED);
    o.user = &second;
    o.sets = sets;
    o.n_sets = 1;
    CHECK_STATUS(thaw_resume(&o), THAW_E_STOPPED);
    CHECK_CONTAINS(second.words, "recipe: phase 2, which has not begun, has changed");
    thaw_recipe_destroy(recipe);
}

/* All at once, a line each. */
static void test_all_are_named(void **state)
{
    static const char *const sets[] = {"data.batch=2", "optimizer.lr=1", "phase.1.lr=3",
                                       "checkpoint.keep=7"};
    text notes = TEXT_INIT;

    CHECK_ERROR(take_up(&notes, *state, NULL, sets, THAW_COUNT(sets), 1), THAW_E_MISMATCH,
                "'data.batch'");
    CHECK_CONTAINS(thaw_error(), "\n'optimizer.lr'");
    CHECK_CONTAINS(thaw_error(), "\n'phase.1.lr'");
    CHECK_MSG(!strstr(thaw_error(), "keep"), "what is allowed stands among the refused: %s",
              thaw_error());
    text_done(&notes);
}

/* ----------------------------------------------------------------------------------------------
 * data */

static void test_moved_data(void **state)
{
    const char *const sets[] = {"data.train=moved/train-images-idx3-ubyte",
                                "data.train_labels=moved/train-labels-idx1-ubyte",
                                "data.valid=moved/valid-images-idx3-ubyte",
                                "data.valid_labels=moved/valid-labels-idx1-ubyte"};
    char moved[512], *path[4];
    text notes = TEXT_INIT;

    small_path(moved, *state, "moved");
    CHECK(mkdir(moved, 0777) == 0);
    small_data(moved);
    for (int i = 0; i < 4; i++) { /* relative paths are the recipe's, which lies in the run */
        text t = TEXT_INIT;
        const char *const value = strchr(sets[i], '=') + 1;

        text_addf(&t, "%.*s%s/%s", (int)(value - sets[i]), sets[i], (char *)*state, value);
        CHECK_OK(text_take(&path[i], &t, "a path"));
    }
    CHECK_OK(take_up(&notes, *state, NULL, (const char *const *)path, 4, 1));
    CHECK_CONTAINS(notes.data, "what it gives is the same");
    for (int i = 0; i < 4; i++)
        thaw__free(path[i]);
    text_done(&notes);
}

static void change_byte(const char *folder, const char *name, long from_end, int by, int modulo)
{
    size_t n;
    const char *const path = check_path(folder, name);
    char *bytes = check_read_file(&n, path);

    bytes[(long)n - from_end] = (char)(((unsigned char)bytes[(long)n - from_end] + by) % modulo);
    check_write_file(path, bytes, n);
    free(bytes);
}

static void test_changed_data(void **state)
{
    static const struct {
        const char *file, *words;
        int modulo;
    } table[] = {
        {"train-labels-idx1-ubyte", "the training data has changed since ", SMALL_CLASSES},
        {"train-images-idx3-ubyte", "as many samples of each class, but other pixels", 256},
        {"valid-labels-idx1-ubyte", "the validation data has changed since ", SMALL_CLASSES},
        {"valid-images-idx3-ubyte", "as many samples of each class, but other pixels", 256},
    };
    text notes = TEXT_INIT;

    for (size_t i = 0; i < THAW_COUNT(table); i++) {
        change_byte(*state, table[i].file, 1, 1, table[i].modulo);
        CHECK_ERROR(take_up(&notes, *state, NULL, NULL, 0, 1), THAW_E_MISMATCH, table[i].words);
        if (table[i].modulo == SMALL_CLASSES)
            CHECK_CONTAINS(thaw_error(), " samples, had ");
        small_data(*state);
    }
    small_split(*state, "train", 0, SMALL_TRAIN + 1);
    CHECK_ERROR(take_up(&notes, *state, NULL, NULL, 0, 1), THAW_E_MISMATCH,
                "19 samples, were 18; put the old data back or start a new run");
    small_data(*state);
    CHECK_ERROR(
        with_end(&notes, *state, "valid = ",
                 "batch = 4\nmean = 0.3\nstd = 0.4\n[optimizer]\nname = 'adamw'\nlr = 0.01\n"
                 "[train]\nexecutor = 'ref'\n[[phase]]\nsteps = 2\nfreeze = 'backbone'\n"
                 "[[phase]]\nsteps = 5\nunfreeze = 'backbone'\n"),
        THAW_E_MISMATCH, "was made with validation data, but there are none now");
    text_done(&notes);
}

/* ----------------------------------------------------------------------------------------------
 * program */

static void edit_state(const char *folder, const char *old, const char *new)
{
    char path[512];
    size_t n;
    char *all, *at;
    text t = TEXT_INIT;

    small_path(path, folder, "run/checkpoints/step-000004/state.json");
    all = check_read_file(&n, path);
    at = strstr(all, old);
    CHECK_MSG(at, "'%s' has no '%s'", path, old);
    text_add_n(&t, all, (size_t)(at - all));
    text_add(&t, new);
    text_add(&t, at + strlen(old));
    check_write_file(path, t.data, t.length);
    text_done(&t);
    free(all);
}

static void test_other_program(void **state)
{
    text notes = TEXT_INIT;

    edit_state(*state, "\"thaw\": \"" THAW_VERSION, "\"thaw\": \"0.0.1");
    edit_state(*state, "\"kernels\": \"", "\"kernels\": \"other ");
    CHECK_OK(take_up(&notes, *state, NULL, NULL, 0, 2));
    CHECK_CONTAINS(notes.data, "resumed with thaw " THAW_VERSION " instead of 0.0.1: results may");
    CHECK_CONTAINS(notes.data, "resumed with kernels of ");
    CHECK_CONTAINS(notes.data, "resumed with 2 threads instead of 1");
    text_done(&notes);
}

/* Every allocation may fail: that is never a difference. */
static void test_out_of_memory(void **state)
{
    static const char *const sets[] = {"checkpoint.keep=7"};
    char run[512], path[512], checkpoint[512];
    const thaw_run_options options = {.run = small_path(run, *state, "run"), .threads = 1};
    thaw_recipe *recipe = NULL;
    job *j = NULL;

    small_path(path, run, "recipe.toml");
    small_path(checkpoint, run, "checkpoints/step-000004");
    CHECK_OK(thaw_recipe_load(&recipe, path, sets, 1));
    CHECK_OK(job_open(&j, recipe, &options, checkpoint, JOB_DATA | JOB_EXEC));
    for (int n = 1, more = 1; more; n++) {
        trainer *t = NULL;
        thaw_status status;

        CHECK_OK(trainer_create(&t, j));
        check_alloc_fail(n, false);
        status = state_load(t, checkpoint);
        more = check_alloc_restore();
        CHECK_MSG(status == THAW_OK || (more && status != THAW_E_MISMATCH),
                  "allocation %d: %s, '%s'", n, thaw_status_name(status), thaw_error());
        trainer_destroy(t);
    }
    job_close(j);
    thaw_recipe_destroy(recipe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_same, prepare, clean),
        cmocka_unit_test_setup_teardown(test_refused_keys, prepare, clean),
        cmocka_unit_test(test_every_key_is_judged),
        cmocka_unit_test_setup_teardown(test_allowed_keys, prepare, clean),
        cmocka_unit_test_setup_teardown(test_phases_come_and_go, prepare, clean),
        cmocka_unit_test_setup_teardown(test_stopped_between_phases, prepare, clean),
        cmocka_unit_test_setup_teardown(test_all_are_named, prepare, clean),
        cmocka_unit_test_setup_teardown(test_moved_data, prepare, clean),
        cmocka_unit_test_setup_teardown(test_changed_data, prepare, clean),
        cmocka_unit_test_setup_teardown(test_other_program, prepare, clean),
        cmocka_unit_test_setup_teardown(test_out_of_memory, prepare, clean),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
