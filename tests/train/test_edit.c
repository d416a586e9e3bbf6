/*
 * test_edit.c - an edit by hand commits a checkpoint beside the old one, and a run that goes on
 * from it is, bit for bit, the run whose recipe had said so.
 */
#include "train/small_runs.h"

#include <sys/stat.h>

/* 5 steps an epoch. */
#define RUN                                                                                        \
    "seed = 3\n" SMALL_MLP SMALL_DATA                                                              \
    "[train]\nexecutor = 'ref'\n[aliases]\nbase = ['backbone.fc1']\n"                              \
    "[optimizer]\nname = 'adamw'\nlr = 0.01\n[schedule]\nname = 'constant'\n"                      \
    "[checkpoint]\nevery = 'off'\nkeep = 9\non_phase = false\n"
#define LATER "[[phase]]\nsteps = 4\nname = 'later'\noptimizer = 'keep'\n"

typedef struct scene {
    char *folder, run[512], other[512], checkpoint[512];
} scene;

static void train(const char *source, const scene *s, const char *run, int64_t stop_at)
{
    thaw_recipe *recipe = small_recipe(source, s->folder);
    small_record record = {.stop_at = stop_at};
    const thaw_run_options options = {
        .run = run, .threads = 1, .on_event = small_listen, .user = &record};

    CHECK_STATUS(thaw_train(recipe, &options), stop_at > 0 ? THAW_E_STOPPED : THAW_OK);
    thaw_recipe_destroy(recipe);
}

static void go_on(const char *run, small_record *record)
{
    const thaw_run_options options = {
        .run = run, .threads = 1, .on_event = small_listen, .user = record};

    CHECK_OK(thaw_resume(&options));
}

/* A run stopped after step 4 of 8, and one with another recipe that was left alone. */
static scene begin(const char *phases, const char *oracle)
{
    scene s = {.folder = check_folder()};
    char source[2048];

    small_data(s.folder);
    (void)small_path(s.run, s.folder, "run");
    (void)small_path(s.other, s.folder, "other");
    (void)small_path(s.checkpoint, s.run, "checkpoints/step-000004");
    (void)snprintf(source, sizeof source, "%s%s", RUN, phases);
    train(source, &s, s.run, 4);
    if (oracle) {
        (void)snprintf(source, sizeof source, "%s%s", RUN, oracle);
        train(source, &s, s.other, 0);
    }
    return s;
}

static void end(scene *s)
{
    check_folder_remove(s->folder);
}

static void edit(const char *path, thaw_edit_kind kind, double coefficient, const char *pattern)
{
    char *text = NULL;

    CHECK_OK(thaw_edit(&text, path, kind, coefficient, &pattern, 1));
    CHECK_CONTAINS(text, "committed '");
    thaw_text_free(text);
}

static void same_end(const scene *s)
{
    char a[512], b[512];

    (void)small_path(a, s->run, "checkpoints/step-000008");
    (void)small_path(b, s->other, "checkpoints/step-000008");
    small_same_files(a, b, "model.safetensors");
    small_same_files(a, b, "optimizer.safetensors");
}

/* ---- what a run does with edits */

static void test_edits_are_what_the_recipe_could_have_said(void **state)
{
    static const struct {
        const char *first; /* of the phase both have */
        thaw_edit_kind kind;
        double coefficient;
        const char *pattern, *said;
    } row[] = {
        {"", THAW_EDIT_FREEZE, 1, "backbone.fc1", "freeze = 'backbone.fc1'\n"},
        {"freeze = 'backbone'\n", THAW_EDIT_UNFREEZE, 1, "backbone\\.fc[23]",
         "unfreeze = 'backbone\\.fc[23]'\n"},
        {"", THAW_EDIT_LR, 0.25, "backbone", "lr_coefficients = { backbone = 0.25 }\n"},
        {"", THAW_EDIT_LR, 0, "head", "lr_coefficients = { head = 0 }\n"},
        {"lr_coefficients = { backbone = 0.5 }\n", THAW_EDIT_LR, 1, "backbone",
         "lr_coefficients = { backbone = 1 }\n"},
    };

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        char phases[1024], oracle[1024];
        small_record record = {0};
        scene s;

        (void)snprintf(phases, sizeof phases, "[[phase]]\nsteps = 8\n%s", row[i].first);
        (void)snprintf(oracle, sizeof oracle, "[[phase]]\nsteps = 4\n%s" LATER "%s", row[i].first,
                       row[i].said);
        s = begin(phases, oracle);
        edit(s.run, row[i].kind, row[i].coefficient, row[i].pattern);
        go_on(s.run, &record);
        CHECK_CONTAINS(record.words, "step-000004.edit-1");
        CHECK_CONTAINS(record.words, "edited by hand: 1 time");
        same_end(&s);
        end(&s);
    }
}

/* After what the schedule does at that iteration, and before what comes later. */
static void test_order_with_phases(void **state)
{
    scene s = begin("[[phase]]\nsteps = 4\n[[phase]]\nsteps = 2\nfreeze = 'head'\noptimizer = "
                    "'keep'\n[[phase]]\nsteps = 2\nfreeze = 'head'\noptimizer = 'keep'\n",
                    "[[phase]]\nsteps = 6\n[[phase]]\nsteps = 2\nfreeze = 'head'\noptimizer = "
                    "'keep'\n");
    small_record record = {0};

    (void)state;
    edit(s.run, THAW_EDIT_UNFREEZE, 1, "head");
    go_on(s.run, &record);
    same_end(&s);
    end(&s);
}

/* Stopped again, the edits are in the checkpoints that follow; a second one joins the first. */
static void test_edits_last(void **state)
{
    scene s = begin("[[phase]]\nsteps = 8\n",
                    "[[phase]]\nsteps = 4\n[[phase]]\nsteps = 2\nfreeze = 'head'\nlr_coefficients "
                    "= { backbone = 0.5 }\noptimizer = 'keep'\n[[phase]]\nsteps = 2\nunfreeze = "
                    "'head'\noptimizer = 'keep'\n");
    small_record record = {.stop_at = 6};
    const thaw_run_options options = {
        .run = s.run, .threads = 1, .on_event = small_listen, .user = &record};
    char later[512];

    (void)state;
    edit(s.run, THAW_EDIT_FREEZE, 1, "head");
    edit(s.run, THAW_EDIT_LR, 0.5, "backbone");
    CHECK_STATUS(thaw_resume(&options), THAW_E_STOPPED);
    CHECK_CONTAINS(record.words, "step-000004.edit-2");
    edit(small_path(later, s.run, "checkpoints/step-000006"), THAW_EDIT_UNFREEZE, 1, "head");
    record.stop_at = 0;
    go_on(s.run, &record);
    CHECK_CONTAINS(record.words, "edited by hand: 3 times");
    same_end(&s);
    end(&s);
}

/* ---- what lies on disk */

static void test_old_checkpoint_stays(void **state)
{
    scene s = begin("[[phase]]\nsteps = 8\n", NULL);
    char made[512], a[512], b[512], *before, *after;
    size_t n, m;
    struct stat x, y;
    run_record *r = NULL;

    (void)state;
    before = check_read_file(&n, small_path(a, s.checkpoint, MANIFEST_NAME));
    edit(s.checkpoint, THAW_EDIT_LR, 0.5, "base");
    after = check_read_file(&m, a);
    CHECK(n == m && memcmp(before, after, n) == 0);
    free(before);
    free(after);
    CHECK_OK(ckpt_verify(s.checkpoint));
    CHECK_OK(ckpt_verify(small_path(made, s.run, "checkpoints/step-000004.edit-1")));
    CHECK(stat(small_path(a, s.checkpoint, "model.safetensors"), &x) == 0);
    CHECK(stat(small_path(b, made, "model.safetensors"), &y) == 0);
    CHECK_MSG(x.st_ino == y.st_ino, "the weights were copied");
    CHECK_OK(record_read(&r, made));
    CHECK_INT(r->iteration, 4);
    CHECK_INT(r->samples, SMALL_TRAIN);
    CHECK_INT(r->n_edits, 1);
    CHECK_INT(r->edit[0].iteration, 4);
    CHECK_INT(r->edit[0].kind, THAW_EDIT_LR);
    CHECK_STR(r->edit[0].pattern[0], "backbone.fc1"); /* the alias is gone */
    CHECK_NEAR(r->edit[0].coefficient, 0.5, 0, 0);
    record_destroy(r);
    end(&s);
}

static void test_mistakes_change_nothing(void **state)
{
    scene s = begin("[[phase]]\nsteps = 8\n", NULL);
    const char *pattern = "haed";
    char *text = NULL, none[512];
    ckpt_id *id = NULL;
    int n = 0, lock = -1;

    (void)state;
    CHECK_ERROR(thaw_edit(&text, s.run, THAW_EDIT_FREEZE, 1, &pattern, 1), THAW_E_NOMATCH,
                "did you mean 'head'");
    pattern = "(";
    CHECK_STATUS(thaw_edit(&text, s.run, THAW_EDIT_FREEZE, 1, &pattern, 1), THAW_E_PATTERN);
    pattern = "head";
    CHECK_STATUS(thaw_edit(&text, s.run, THAW_EDIT_LR, -1, &pattern, 1), THAW_E_RANGE);
    CHECK_STATUS(thaw_edit(&text, s.run, THAW_EDIT_LR, (double)NAN, &pattern, 1), THAW_E_RANGE);
    CHECK_STATUS(thaw_edit(&text, s.run, THAW_EDIT_FREEZE, 1, &pattern, 0), THAW_E_USAGE);
    CHECK_STATUS(
        thaw_edit(&text, small_path(none, s.folder, "none"), THAW_EDIT_FREEZE, 1, &pattern, 1),
        THAW_E_MISSING);
    CHECK_ERROR(thaw_edit(&text, s.folder, THAW_EDIT_FREEZE, 1, &pattern, 1), THAW_E_MISSING,
                "no checkpoint");
    CHECK_OK(ckpt_lock(&lock, s.run));
    CHECK_STATUS(thaw_edit(&text, s.checkpoint, THAW_EDIT_FREEZE, 1, &pattern, 1), THAW_E_CREATE);
    os_close(lock);
    CHECK_OK(ckpt_list(&id, &n, small_path(none, s.run, "checkpoints")));
    CHECK_INT(n, 1);
    CHECK(text == NULL);
    thaw__free(id);
    end(&s);
}

/* A damaged checkpoint is not edited. */
static void test_damage_is_not_linked(void **state)
{
    scene s = begin("[[phase]]\nsteps = 8\n", NULL);
    const char *pattern = "head";
    char path[512], *text = NULL;
    size_t n;
    char *data = check_read_file(&n, small_path(path, s.checkpoint, "model.safetensors"));

    (void)state;
    data[n - 1] ^= 1;
    check_write_file(path, data, n);
    CHECK_STATUS(thaw_edit(&text, s.checkpoint, THAW_EDIT_FREEZE, 1, &pattern, 1), THAW_E_CORRUPT);
    free(data);
    end(&s);
}

static void test_what_is_told(void **state)
{
    scene s = begin("[[phase]]\nsteps = 8\n", NULL);
    const char *pattern = "head";
    char *text = NULL;
    small_record record = {0};

    (void)state;
    CHECK_OK(thaw_edit(&text, s.run, THAW_EDIT_FREEZE, 1, &pattern, 1));
    CHECK_CONTAINS(text, "18 parameters freeze");
    thaw_text_free(text);
    CHECK_OK(thaw_edit(&text, s.run, THAW_EDIT_FREEZE, 1, &pattern, 1));
    CHECK_CONTAINS(text, "nothing changes for now");
    thaw_text_free(text);
    go_on(s.run, &record);
    CHECK_OK(thaw_edit(&text, s.checkpoint, THAW_EDIT_FREEZE, 1, &pattern, 1));
    CHECK_CONTAINS(text, "step-000004.edit-3");
    CHECK_CONTAINS(text, "later steps");
    thaw_text_free(text);
    CHECK_OK(thaw_edit(&text, s.run, THAW_EDIT_UNFREEZE, 1, &pattern, 1));
    CHECK_CONTAINS(text, "the run is over");
    thaw_text_free(text);
    end(&s);
}

/* ---- state.json from elsewhere */

static void test_hostile_records(void **state)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"progress\": {\"iteration\": -1}}",
        "{\"progress\": {\"iteration\": 4}, \"samples\": -2}",
        "{\"progress\": {\"iteration\": 4}, \"samples\": 9223372036854775807}",
        "{\"progress\": {\"iteration\": 4, \"fired\": [[0]]}}",
        "{\"progress\": {\"iteration\": 4}, \"edits\": {}}",
        "{\"progress\": {\"iteration\": 4}, \"edits\": [1]}",
        "{\"progress\": {\"iteration\": 4}, \"edits\": [{\"op\": \"melt\", \"iteration\": 1}]}",
        "{\"progress\": {\"iteration\": 4}, \"edits\": [{\"op\": \"freeze\", \"iteration\": 5, "
        "\"patterns\": [\"x\"]}]}",
        "{\"progress\": {\"iteration\": 4}, \"edits\": [{\"op\": \"freeze\", \"iteration\": 4, "
        "\"patterns\": []}]}",
        "{\"progress\": {\"iteration\": 4}, \"edits\": [{\"op\": \"freeze\", \"iteration\": 4, "
        "\"patterns\": [3]}]}",
        "{\"progress\": {\"iteration\": 4}, \"edits\": [{\"op\": \"lr\", \"iteration\": 4, "
        "\"patterns\": [\"x\"]}]}",
        "{\"progress\": {\"iteration\": 4}, \"edits\": [{\"op\": \"lr\", \"iteration\": 4, "
        "\"coefficient\": -1, \"patterns\": [\"x\"]}]}",
    };
    char *folder = check_folder();

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(bad); i++) {
        run_record *r = NULL;

        check_write_file(check_path(folder, "state.json"), bad[i], strlen(bad[i]));
        CHECK_MSG(record_read(&r, folder) == THAW_E_CORRUPT && !r, "taken: %s", bad[i]);
    }
    check_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edits_are_what_the_recipe_could_have_said),
        cmocka_unit_test(test_order_with_phases),
        cmocka_unit_test(test_edits_last),
        cmocka_unit_test(test_old_checkpoint_stays),
        cmocka_unit_test(test_mistakes_change_nothing),
        cmocka_unit_test(test_damage_is_not_linked),
        cmocka_unit_test(test_what_is_told),
        cmocka_unit_test(test_hostile_records),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
