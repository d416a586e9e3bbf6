/*
 * test_moments.c - parked optimizer state: out of memory while its layer is frozen, the same bits
 * when it thaws, with and without a run folder, and after a resume.
 */
#include "train/small_runs.h"

#include <fcntl.h>

/* The backbone learns, is frozen under each of the three ways, and learns again. */
#define PARTS(ways, more)                                                                          \
    SMALL_RESNET SMALL_DATA                                                                        \
        "[train]\nexecutor = 'ref'\neval_every = 0\n[optimizer]\nname = 'adamw'\nlr = 0.01\n"      \
        "[checkpoint]\nevery = 'off'\nkeep = 9\n" more "[[phase]]\nsteps = 2\n"                    \
        "[[phase]]\nsteps = 2\noptimizer = 'keep'\non_freeze = '" ways "'\n" SMALL_BACKBONE        \
        "[[phase]]\nsteps = 2\noptimizer = 'keep'\non_freeze = 'park'\nunfreeze = 'layer4'\n"      \
        "freeze = 'fc'\n"                                                                          \
        "[[phase]]\nsteps = 2\noptimizer = 'keep'\nunfreeze = '.*'\n"
#define STEPS 8

static const char park[] = PARTS("park", "");
static const char forget[] = PARTS("park", "parked = false\n");
static const char keep[] = PARTS("keep", "");

/* Bytes of optimizer state after each step. */
typedef struct memory_log {
    const small_run *run;
    size_t state[STEPS + 1], parked[STEPS + 1];
} memory_log;

static bool note_memory(void *user, const thaw_event *e)
{
    memory_log *log = user;

    if (e->kind != THAW_EVENT_STEP)
        return true;
    log->state[e->iteration] = params_state_bytes(log->run->job->params);
    for (int i = 0; i < log->run->job->params->n_trained; i++)
        if (log->run->job->params->item[i].parked)
            log->parked[e->iteration] += log->run->job->params->item[i].bytes;
    return true;
}

static void run_noted(small_run *r, memory_log *log, const char *source, const char *data,
                      const char *run)
{
    small_open(r, source, data, NULL);
    *log = (memory_log){.run = r};
    r->record.more = note_memory;
    r->record.more_user = log;
    r->options.run = run;
    if (run)
        CHECK_OK(os_make_folders(run));
    CHECK_OK(trainer_run(r->trainer));
}

/* Two moments of everything that trains, and nothing for what is parked. */
static void test_memory(void **state)
{
    memory_log log, kept;
    char run[512];
    small_run r;
    size_t all;

    run_noted(&r, &log, park, *state, small_path(run, *state, "run"));
    all = log.state[1];
    CHECK(all > 0);
    CHECK_INT(log.parked[2], 0);
    for (int step = 3; step <= 6; step++) {
        CHECK(log.parked[step] > 0);
        CHECK_INT(log.state[step], all - 2 * log.parked[step]);
    }
    CHECK(log.parked[5] < log.parked[4]);
    CHECK_INT(log.state[7], all);
    CHECK_CONTAINS(r.record.phase[1].text, "2 kept");
    CHECK_CONTAINS(r.record.phase[1].text, " parked");
    CHECK_CONTAINS(r.record.phase[2].text, "taken up again");
    CHECK_CONTAINS(r.record.phase[2].text, "2 parked");
    small_close(&r);
    run_noted(&r, &kept, keep, *state, small_path(run, *state, "keep"));
    CHECK_INT(kept.state[3], all);
    CHECK_CONTAINS(r.record.phase[1].text, "set aside");
    small_close(&r);
}

/* Where the state waits changes nothing that is learned. */
static void test_same_bits(void **state)
{
    memory_log log;
    char run[512];
    small_run in_file, in_memory, kept;

    run_noted(&in_file, &log, park, *state, small_path(run, *state, "run"));
    run_noted(&in_memory, &log, park, *state, NULL);
    CHECK_INT(log.state[3], log.state[1]);
    CHECK_CONTAINS(in_memory.record.phase[1].text, "parked in memory, as there is no run folder");
    run_noted(&kept, &log, keep, *state, NULL);
    small_same_tensors(&in_file, &in_memory);
    small_same_tensors(&in_file, &kept);
    for (int i = 0; i < in_file.job->params->n_trained; i++) {
        const param *a = &in_file.job->params->item[i], *b = &kept.job->params->item[i];

        CHECK_INT(a->steps, b->steps);
        CHECK(!a->parked && a->n_state == 2);
        for (int k = 0; k < 2; k++)
            CHECK_BYTES((const char *)a->state[k], b->state[k], a->bytes);
    }
    small_close(&in_file);
    small_close(&in_memory);
    small_close(&kept);
}

static thaw_status go(const char *source, const char *data, const char *run, small_record *r)
{
    const thaw_run_options options = {
        .run = run, .threads = 1, .on_event = small_listen, .user = r};
    thaw_recipe *recipe;
    thaw_status status;

    if (!source)
        return thaw_resume(&options);
    recipe = small_recipe(source, data);
    status = thaw_train(recipe, &options);
    thaw_recipe_destroy(recipe);
    return status;
}

static void remove_checkpoint(const char *run, int step)
{
    char name[64], path[512];

    (void)snprintf(name, sizeof name, "checkpoints/step-%06d", step);
    CHECK(nftw(small_path(path, run, name), check_folder_remove_one, 16, FTW_DEPTH | FTW_PHYS) ==
          0);
}

static void same_end(const char *a, const char *b)
{
    small_same_files(a, b, "checkpoints/step-000008/model.safetensors");
    small_same_files(a, b, "checkpoints/step-000008/optimizer.safetensors");
}

/* What became of the optimizer's state at changes of phase is told alike. */
static void same_changes(const small_record *whole, const small_record *resumed)
{
    for (int i = 0; i < resumed->n_phases; i++)
        for (int k = 0; k < whole->n_phases; k++) {
            const size_t n = strcspn(whole->phase[k].text, ";");

            if (whole->phase[k].iteration == resumed->phase[i].iteration)
                CHECK_MSG(strncmp(whole->phase[k].text, resumed->phase[i].text, n + 1) == 0,
                          "phase '%s': '%s' instead of '%.*s'", resumed->phase[i].name,
                          resumed->phase[i].text, (int)n, whole->phase[k].text);
        }
}

/* Stopped at every step, also when the run's own file is of a later moment or gone. */
static void test_resume(void **state)
{
    char whole[512], run[512], name[64], path[512];
    small_record all = {0};

    CHECK_OK(go(park, *state, small_path(whole, *state, "whole"), &all));
    for (int stop = 1; stop < STEPS; stop++) {
        small_record rest = {0};

        (void)snprintf(name, sizeof name, "stopped-%d", stop);
        small_path(run, *state, name);
        CHECK_STATUS(go(park, *state, run, &(small_record){.stop_at = stop}), THAW_E_STOPPED);
        (void)snprintf(name, sizeof name, "checkpoints/step-%06d/" PARKED_NAME, stop);
        CHECK_INT(os_kind_of(small_path(path, run, name)),
                  stop >= 3 && stop <= 6 ? OS_FILE : OS_ABSENT);
        if (stop % 2)
            CHECK(unlink(small_path(path, run, PARKED_NAME)) == 0 || stop < 3);
        CHECK_OK(go(NULL, NULL, run, &rest));
        same_end(whole, run);
        if (stop != 2 && stop != 4 && stop != 6) /* else the phase is told as taken up */
            same_changes(&all, &rest);
        /* what the checkpoint says is parked is not parked once more */
        if (stop == 3 || stop == 5)
            CHECK_MSG(!strstr(rest.phase[0].text, "parked"), "%s", rest.phase[0].text);
    }
    remove_checkpoint(whole, 8);
    remove_checkpoint(whole, 6);
    CHECK_OK(go(NULL, NULL, whole, &(small_record){0}));
    same_end(run, whole);
}

/* Not asked to be kept: said at the resume, and made anew. */
static void test_not_kept(void **state)
{
    char run[512], path[512];
    small_record r = {0};

    small_path(run, *state, "run");
    CHECK_STATUS(go(forget, *state, run, &(small_record){.stop_at = 6}), THAW_E_STOPPED);
    CHECK_INT(os_kind_of(small_path(path, run, "checkpoints/step-000006/" PARKED_NAME)), OS_ABSENT);
    CHECK_OK(go(NULL, NULL, run, &r));
    CHECK_CONTAINS(r.words, "is not in the checkpoint (checkpoint.parked = false)");
    CHECK_CONTAINS(r.phase[r.n_phases - 1].text, "new");
}

/* A parked file that lacks a tensor. */
static void test_damage(void **state)
{
    static const float number[4];
    const st_source other = {
        .name = "other", .dtype = DTYPE_F32, .shape = shape_1(4), .data = number};
    char run[512], path[512];
    small_run r;
    int fd;

    small_open(&r, park, *state, NULL);
    r.options.run = small_path(run, *state, "run");
    CHECK_OK(os_make_folders(run));
    r.record.stop_at = 4;
    CHECK_STATUS(trainer_run(r.trainer), THAW_E_STOPPED);
    fd = open(small_path(path, run, PARKED_NAME), O_WRONLY | O_TRUNC);
    CHECK(fd >= 0);
    CHECK_OK(st_write(fd, path, &other, 1, NULL));
    close(fd);
    r.record.stop_at = 0;
    r.trainer->stop = false;
    CHECK_ERROR(trainer_run(r.trainer), THAW_E_CORRUPT, "is missing or has another shape");
    small_close(&r);
}

/* Every allocation fails once, on the way out of memory and on the way back; then all is well. */
static void test_no_memory(void **state)
{
    char run[512];
    small_run r, plain;
    memory_log log;
    int n;

    run_noted(&plain, &log, keep, *state, NULL);
    small_open(&r, park, *state, NULL);
    r.options.run = small_path(run, *state, "run");
    CHECK_OK(os_make_folders(run));
    for (int64_t stop = 2; stop <= 6; stop += 4) {
        const thaw_progress then = {.iteration = stop};
        const thaw_effect *effect = NULL;
        thaw_status status = THAW_E_NOMEM;
        optim_report report;

        r.record.stop_at = stop;
        r.trainer->stop = false;
        CHECK_STATUS(trainer_run(r.trainer), THAW_E_STOPPED);
        CHECK_OK(thaw_schedule_effect(&effect, r.job->schedule, &then));
        for (n = 1; status != THAW_OK; n++) {
            check_alloc_fail(n, false);
            status = parked_take_up(r.trainer, effect);
            check_alloc_restore();
            CHECK(status == THAW_OK || status == THAW_E_NOMEM);
        }
        CHECK(stop == 2 || n > 2);
        CHECK_OK(
            optim_migrate(&report, r.job->params, r.recipe->rule, &r.recipe->hyper, effect, false));
        status = THAW_E_NOMEM;
        for (n = 1; status != THAW_OK; n++) {
            check_alloc_fail(n, false);
            status = parked_put_away(r.trainer);
            check_alloc_restore();
            CHECK(status == THAW_OK || status == THAW_E_NOMEM);
        }
        CHECK(stop == 6 || n > 2);
    }
    r.record.stop_at = 0;
    r.trainer->stop = false;
    CHECK_OK(trainer_run(r.trainer));
    small_same_tensors(&r, &plain);
    small_close(&plain);
    small_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_memory, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_same_bits, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_resume, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_not_kept, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_damage, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, small_setup, small_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
