/*
 * test_run_state.c - stopping at every step and resuming changes no bit; what a checkpoint must
 * agree with; what it refuses.
 */
#include "train/small_runs.h"

#include <fcntl.h>

#include "ckpt/saving.h"

#include <jansson.h>

/* Everything that a resume could lose: norms, dropout, augmentation, micro-batches, a short last
 * batch, moments, a curve, phases that rebuild, keep with parked state, and hold. 10 steps. */
#define HEAD "seed = 5\n" SMALL_RESNET "dropout = 0.25\n" SMALL_DATA "shift = 1\nflip = true\n"
#define TAIL                                                                                       \
    "lr = 0.01\nweight_decay = 0.05\naccumulate = 2\nclip_norm = 2.0\n"                            \
    "[schedule]\nname = 'cosine'\nwarmup = 1\n"                                                    \
    "[checkpoint]\nevery = 'off'\nkeep = 2\n"                                                      \
    "[[phase]]\nsteps = 2\n" SMALL_BACKBONE                                                        \
    "[[phase]]\nepochs = 1\nunfreeze = 'layer4'\nlr_coefficients = { layer4 = 0.5 }\n"             \
    "[[phase]]\nsteps = 2\nunfreeze = 'layer3'\nfreeze = 'layer4'\noptimizer = 'keep'\n"           \
    "on_freeze = 'park'\n"                                                                         \
    "[[phase]]\nepochs = 1\nunfreeze = ['layer4', 'layer2']\noptimizer = 'hold'\n"
#define STEPS 10

static const char adamw[] = HEAD "[train]\nexecutor = 'ref'\n[optimizer]\nname = 'adamw'\n" TAIL;
static const char sgd[] =
    HEAD "[train]\nexecutor = 'ref'\nfrozen_norm = 'train'\n[optimizer]\nname = 'sgd'\n"
         "momentum = 0.9\nnesterov = true\n" TAIL;
static const char bf16[] =
    HEAD "[train]\nexecutor = 'dnn'\nprecision = 'bf16'\n[optimizer]\nname = 'adam'\n" TAIL;
static const char dnn[] = HEAD "[train]\nexecutor = 'dnn'\n[optimizer]\nname = 'adam'\n" TAIL;

/* The state of the checkpoint is that of the phase that ends, whatever the next one needs. */
#define SETTINGS_TAIL                                                                              \
    "[checkpoint]\nevery = 'off'\nkeep = 2\n"                                                      \
    "[[phase]]\nsteps = 2\n%s\n"                                                                   \
    "[[phase]]\nsteps = 3\n%s\n"                                                                   \
    "[[phase]]\nsteps = 3\noptimizer = 'keep'\nclip_norm = 0.3\nlr = 0.02\n%s\n"                   \
    "[[phase]]\nsteps = 2\n%s\n"
#define SETTINGS_HEAD                                                                              \
    "seed = 3\n" SMALL_MLP SMALL_DATA "[train]\nexecutor = 'ref'\n[optimizer]\nlr = 0.05\n"

static thaw_status begin(const char *source, const char *data, const char *run, small_record *r)
{
    thaw_recipe *recipe = small_recipe(source, data);
    const thaw_run_options options = {
        .run = run, .threads = 1, .on_event = small_listen, .user = r};
    const thaw_status status = thaw_train(recipe, &options);

    thaw_recipe_destroy(recipe);
    return status;
}

static thaw_status go_on(const char *run, small_record *r)
{
    const thaw_run_options options = {
        .run = run, .threads = 1, .on_event = small_listen, .user = r};

    return thaw_resume(&options);
}

/* Losses in events.jsonl by step; each step must stand there once, in order. */
static void read_history(double loss[STEPS], const char *run)
{
    char *all = check_read_file(NULL, check_path(run, "events.jsonl")), *rest = NULL;
    int n = 0;

    for (char *line = strtok_r(all, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_error_t error;
        json_t *e = json_loads(line, 0, &error);

        CHECK_MSG(e, "events.jsonl: %s in '%s'", error.text, line);
        if (strcmp(json_string_value(json_object_get(e, "event")), "step") == 0) {
            CHECK(n < STEPS);
            CHECK_INT(json_integer_value(json_object_get(e, "iteration")), n + 1);
            loss[n++] = json_number_value(json_object_get(e, "loss"));
        }
        json_decref(e);
    }
    CHECK_INT(n, STEPS);
    free(all);
}

static void same_runs(const char *a, const char *b)
{
    static const char *const file[] = {
        "checkpoints/step-000010/model.safetensors",
        "checkpoints/step-000010/optimizer.safetensors", "checkpoints/step-000010/config.json",
        "checkpoints/step-000010/history.json", "best/model.safetensors"};
    double x[STEPS], y[STEPS];

    for (size_t i = 0; i < THAW_COUNT(file); i++)
        small_same_files(a, b, file[i]);
    read_history(x, a);
    read_history(y, b);
    for (int i = 0; i < STEPS; i++)
        CHECK_MSG(x[i] == y[i], "loss of step %d: %.17g in '%s', %.17g in '%s'", i + 1, x[i], a,
                  y[i], b);
}

static void stop_everywhere(const char *data, const char *source)
{
    char whole[512], run[512], name[32];

    small_path(whole, data, "whole");
    CHECK_OK(begin(source, data, whole, &(small_record){0}));
    for (int stop = 1; stop < STEPS; stop++) {
        small_record first = {.stop_at = stop}, second = {0};

        (void)snprintf(name, sizeof name, "stopped-%d", stop);
        small_path(run, data, name);
        CHECK_STATUS(begin(source, data, run, &first), THAW_E_STOPPED);
        CHECK_INT(first.n_steps, stop);
        CHECK_OK(go_on(run, &second));
        CHECK_INT(second.n_steps, STEPS - stop);
        CHECK_CONTAINS(second.words, "going on from");
        same_runs(whole, run);
    }
    small_path(run, data, "every");
    CHECK_STATUS(begin(source, data, run, &(small_record){.stop_at = 1}), THAW_E_STOPPED);
    for (int stop = 2; stop < STEPS; stop++)
        CHECK_STATUS(go_on(run, &(small_record){.stop_at = stop}), THAW_E_STOPPED);
    CHECK_OK(go_on(run, &(small_record){0}));
    same_runs(whole, run);
}

static void test_adamw_is_the_same_bits(void **state)
{
    stop_everywhere(*state, adamw);
}

static void test_sgd_is_the_same_bits(void **state)
{
    stop_everywhere(*state, sgd);
}

static void test_dnn_is_the_same_bits(void **state)
{
    stop_everywhere(*state, dnn);
}

static void test_bf16_is_the_same_bits(void **state)
{
    stop_everywhere(*state, bf16);
}

static void test_settings_are_the_same_bits(void **state)
{
    static const char *const source[][5] = {
        {"name = 'sgd'\nmomentum = 0.9\n", "", "momentum = 0", "momentum = 0", "nesterov = true"},
        {"name = 'sgd'\nclip_norm = 0.1\n", "momentum = 0.5", "clip_norm = inf", "",
         "momentum = 0.8\nnesterov = true"},
        {"name = 'adamw'\n", "betas = [0.5, 0.7]", "eps = 1e-3", "betas = [0.8, 0.9]", "eps = 0.1"},
    };

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(source); i++) {
        char *folder = check_folder();
        text t = TEXT_INIT;

        small_data(folder);
        text_addf(&t, SETTINGS_HEAD "%s" SETTINGS_TAIL, source[i][0], source[i][1], source[i][2],
                  source[i][3], source[i][4]);
        stop_everywhere(folder, t.data);
        text_done(&t);
        check_folder_remove(folder);
    }
}

/* A finished run is taken up and ends at once. */
static void test_finished(void **state)
{
    char run[512];
    small_record r = {0};

    CHECK_OK(begin(adamw, *state, small_path(run, *state, "run"), &(small_record){0}));
    CHECK_OK(go_on(run, &r));
    CHECK_INT(r.n_steps, 0);
    CHECK_INT(r.n_phases, 0);
    CHECK_CONTAINS(r.words, "finished");
}

/* Killed before the first checkpoint: from the beginning. A damaged newest checkpoint: the one
 * before, and said so. */
static void test_nothing_or_damage(void **state)
{
    char whole[512], run[512], path[512];
    small_record r = {0};
    char *bytes;
    size_t n;

    small_path(whole, *state, "whole");
    small_path(run, *state, "run");
    CHECK_OK(begin(adamw, *state, whole, &(small_record){0}));
    CHECK_STATUS(begin(adamw, *state, run, &(small_record){.stop_at = 3}), THAW_E_STOPPED);
    small_path(path, run, "checkpoints/step-000003/optimizer.safetensors");
    bytes = check_read_file(&n, path);
    bytes[n - 1] ^= 1;
    check_write_file(path, bytes, n);
    free(bytes);
    CHECK_OK(go_on(run, &r));
    CHECK_INT(r.n_steps, STEPS - 2);
    CHECK_CONTAINS(r.words, "step-000003");
    same_runs(whole, run);

    /* where none is left intact, nobody but a person gives up all of the work */
    small_path(run, *state, "damaged");
    CHECK_STATUS(begin(adamw, *state, run, &(small_record){.stop_at = 1}), THAW_E_STOPPED);
    check_write_file(small_path(path, run, "checkpoints/step-000001/config.json"), "{}", 2);
    CHECK_ERROR(go_on(run, &r), THAW_E_CORRUPT, "the only checkpoint in '");
    CHECK_CONTAINS(thaw_error(), "; to start from the beginning, move '");

    small_path(run, *state, "none");
    CHECK_STATUS(begin(adamw, *state, run, &(small_record){.stop_at = 1}), THAW_E_STOPPED);
    CHECK(nftw(small_path(path, run, "checkpoints"), check_folder_remove_one, 16,
               FTW_DEPTH | FTW_PHYS) == 0);
    r = (small_record){0};
    CHECK_OK(go_on(run, &r));
    CHECK_INT(r.n_steps, STEPS);
    CHECK_CONTAINS(r.words, "from the beginning");
    same_runs(whole, run);
}

/* ----------------------------------------------------------------------------------------------
 * what does not agree */

static void edit_file(const char *path, const char *old, const char *new)
{
    size_t n;
    char *all = check_read_file(&n, path);
    char *at = strstr(all, old);
    text t = TEXT_INIT;

    CHECK_MSG(at, "'%s' has no '%s'", path, old);
    text_add_n(&t, all, (size_t)(at - all));
    text_add(&t, new);
    text_add(&t, at + strlen(old));
    check_write_file(path, t.data, t.length);
    text_done(&t);
    free(all);
}

/* state_load from the checkpoint of step 3 in a copy of data/stopped, after an edit of its
 * state.json. */
static void refuse(const char *data, const char *old, const char *new, thaw_status want,
                   const char *part)
{
    static int number;
    char run[512], checkpoint[512], path[512], name[32];
    small_run r;

    (void)snprintf(name, sizeof name, "refused-%d", number++);
    small_copy(small_path(path, data, "stopped"), small_path(run, data, name));
    small_path(checkpoint, run, "checkpoints/step-000003");
    edit_file(small_path(path, checkpoint, "state.json"), old, new);
    small_open(&r, adamw, data, NULL);
    CHECK_ERROR(state_load(r.trainer, checkpoint), want, part);
    small_close(&r);
}

static void test_refusals(void **state)
{
    char run[512];

    CHECK_STATUS(
        begin(adamw, *state, small_path(run, *state, "stopped"), &(small_record){.stop_at = 3}),
        THAW_E_STOPPED);
    refuse(*state, "\"format\": 1", "\"format\": 2", THAW_E_CORRUPT, "format");
    refuse(*state, "\"adamw\"", "\"sgd\"", THAW_E_MISMATCH, "'sgd'");
    refuse(*state, "\"data\": \"", "\"data\": \"0", THAW_E_MISMATCH, "data has changed");
    refuse(*state, "\"iteration\": 3", "\"iteration\": -3", THAW_E_CORRUPT, "out of range");
    refuse(*state, "\"index\": ", "\"index\": 100000", THAW_E_CORRUPT, "out of range");
    refuse(*state, "\"index\": ", "\"index\": 18, \"was\": ", THAW_E_CORRUPT, "out of range");
    refuse(*state, "\"index\": ", "\"index\": -1, \"was\": ", THAW_E_CORRUPT, "out of range");
    refuse(*state, "\"epoch\": ", "\"epoch\": -1, \"was\": ", THAW_E_CORRUPT, "out of range");
    refuse(*state, "\"events_bytes\": ", "\"events_bytes\": -", THAW_E_CORRUPT, "out of range");
    refuse(*state, "\"epoch\": ", "\"epok\": ", THAW_E_CORRUPT, "missing");
    refuse(*state, "\"loss_smoothed\": ", "\"loss_smoothed\": \"x\", \"y\": ", THAW_E_CORRUPT,
           "missing");
    refuse(*state, "\"fired\": [", "\"fired\": [3", THAW_E_CORRUPT, "malformed");
    refuse(*state, ": [1, false]", ": [1.5, false]", THAW_E_CORRUPT, "malformed");
    refuse(*state, "{", "{{", THAW_E_CORRUPT, "state.json:1:2: ");
}

/* Optimizer state of as many elements, but for another matrix. */
static void test_moments_of_another_shape(void **state)
{
    char path[512], name[2][128];
    st_source s[2];
    st_file *f = NULL;
    small_run r;
    const param *item;
    shape other;
    int fd;

    small_open(&r, adamw, *state, NULL);
    item = &r.job->params->item[0];
    other = item->shape;
    other.dim[0] = item->shape.dim[1];
    other.dim[1] = item->shape.dim[0];
    CHECK(!shape_equal(&other, &item->shape));
    for (int k = 0; k < 2; k++) {
        (void)snprintf(name[k], sizeof name[k], "%s.%s", item->name, r.recipe->rule->state_name[k]);
        s[k] = (st_source){name[k], item->dtype, other, item->data};
    }
    fd = open(small_path(path, *state, "moments.safetensors"), O_WRONLY | O_CREAT, 0644);
    CHECK_OK(st_write(fd, path, s, 2, NULL));
    (void)close(fd);
    CHECK_OK(st_open(&f, path));
    CHECK_ERROR(moments_load(r.trainer, f, 0), THAW_E_CORRUPT, "is missing or has another shape");
    CHECK_INT(item->n_state, 0);
    st_close(f);
    small_close(&r);
}

/* The images have changed: no bit of the run would be what it was. */
static void test_changed_data(void **state)
{
    char run[512], labels[512], *bytes;
    size_t n;

    small_path(run, *state, "run");
    small_path(labels, *state, "train-labels-idx1-ubyte");
    CHECK_STATUS(begin(adamw, *state, run, &(small_record){.stop_at = 3}), THAW_E_STOPPED);
    bytes = check_read_file(&n, labels);
    bytes[n - 1] = (char)((bytes[n - 1] + 1) % SMALL_CLASSES);
    check_write_file(labels, bytes, n);
    free(bytes);
    CHECK_ERROR(go_on(run, &(small_record){0}), THAW_E_MISMATCH, "data has changed");
}

/* Another number of threads is allowed, and said. */
static void test_other_threads(void **state)
{
    char run[512];
    small_record r = {0};
    const thaw_run_options options = {
        .run = small_path(run, *state, "run"), .threads = 2, .on_event = small_listen, .user = &r};

    CHECK_STATUS(begin(adamw, *state, run, &(small_record){.stop_at = 3}), THAW_E_STOPPED);
    CHECK_OK(thaw_resume(&options));
    CHECK_CONTAINS(r.words, "resumed with 2 threads instead of 1");
}

/* Only so many checkpoints are kept, and those at the ends of phases; without these, the newest and
 * that of the best weights. */
static void test_retention(void **state)
{
    static const int64_t ends[] = {10, 7, 5, 2};
    char run[512], checkpoints[512], source[4096];
    ckpt_id *id = NULL;
    int n;

    CHECK_OK(begin(adamw, *state, small_path(run, *state, "run"), &(small_record){0}));
    CHECK_OK(ckpt_list(&id, &n, small_path(checkpoints, run, "checkpoints")));
    CHECK_INT(n, THAW_COUNT(ends));
    for (int i = 0; i < n; i++)
        CHECK_INT(id[i].step, ends[i]);
    thaw__free(id);

    (void)small_replace(source, adamw, "every = 'off'\nkeep = 2",
                        "every = 1\nkeep = 1\non_phase = false");
    CHECK_OK(begin(source, *state, small_path(run, *state, "few"), &(small_record){0}));
    CHECK_OK(ckpt_list(&id, &n, small_path(checkpoints, run, "checkpoints")));
    CHECK_INT(id[0].step, 10);
    CHECK_MSG(n <= 2, "%d checkpoints are left", n);
    thaw__free(id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_adamw_is_the_same_bits, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_sgd_is_the_same_bits, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_settings_are_the_same_bits, small_setup,
                                        small_teardown),
        cmocka_unit_test_setup_teardown(test_dnn_is_the_same_bits, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_bf16_is_the_same_bits, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_finished, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_nothing_or_damage, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_refusals, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_moments_of_another_shape, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_changed_data, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_other_threads, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_retention, small_setup, small_teardown),
    };

    saving_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
