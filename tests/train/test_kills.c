/*
 * test_kills.c - the program, killed at random instants and resumed until it is done, ends with the
 * bits of one that was left alone: weights, optimizer state, and the loss of every step.
 *
 * THAW_KILLS asks for more than the ordinary number of kills, THAW_KILLS_SEED for other instants.
 */
#include "train/small_runs.h"

#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "ckpt/saving.h"

#define RECIPE                                                                                     \
    "seed = 11\n" SMALL_RESNET "dropout = 0.25\n" SMALL_DATA "shift = 1\nflip = true\n"            \
    "[optimizer]\nname = 'adamw'\nlr = 0.005\naccumulate = 2\nclip_norm = 2.0\n"                   \
    "[schedule]\nname = 'cosine'\nwarmup = 1\n"                                                    \
    "[checkpoint]\nevery = 2\nkeep = 2\n"                                                          \
    "[[phase]]\nsteps = 20\n" SMALL_BACKBONE                                                       \
    "[[phase]]\nsteps = 20\nunfreeze = 'layer4'\nlr_coefficients = { layer4 = 0.5 }\n"             \
    "[[phase]]\nsteps = 20\nunfreeze = 'layer3'\nfreeze = 'layer4'\noptimizer = 'keep'\n"          \
    "on_freeze = 'park'\n"                                                                         \
    "[[phase]]\nsteps = 21\nunfreeze = '.*'\noptimizer = 'rebuild'\n"
#define STEPS 81
#define LAST  "checkpoints/step-000081/"

static char program[512];

static double seconds_now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static pid_t begin(const char *folder, const char *run)
{
    char recipe[512], path[512], log[512];
    const bool again = access(small_path(path, run, "recipe.toml"), F_OK) == 0;
    pid_t child;

    small_path(recipe, folder, "r.toml");
    small_path(log, folder, "log");
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        const int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0644);

        (void)dup2(fd, STDOUT_FILENO);
        (void)dup2(fd, STDERR_FILENO);
        if (again)
            (void)execl(program, "thaw", "resume", run, "--threads", "1", (char *)NULL);
        else
            (void)execl(program, "thaw", "train", recipe, "--run", run, "--threads", "1",
                        (char *)NULL);
        _exit(127);
    }
    return child;
}

/* Waits so long at most, then kills; true when the program had ended, and well. */
static bool end_or_kill(pid_t child, double seconds, const char *folder)
{
    const double begun = seconds_now();
    char path[512];
    int result = 0;
    pid_t got;

    while ((got = waitpid(child, &result, WNOHANG)) == 0 && seconds_now() - begun < seconds)
        (void)usleep(500);
    if (got == 0) {
        (void)kill(child, SIGKILL);
        CHECK(waitpid(child, &result, 0) == child);
    }
    if (WIFSIGNALED(result) && WTERMSIG(result) == SIGKILL)
        return false;
    CHECK_MSG(WIFEXITED(result) && WEXITSTATUS(result) == 0, "the program ended with %d: %s",
              result, check_read_file(NULL, small_path(path, folder, "log")));
    return true;
}

/* SHA-256 of the losses of all steps, each of which must stand in the history once. */
static void digest_losses(char out[65], const char *run)
{
    char path[512];
    char *all = check_read_file(NULL, small_path(path, run, "events.jsonl")), *rest = NULL;
    double loss[STEPS];
    int n = 0;

    for (char *line = strtok_r(all, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *e = json_loads(line, 0, NULL);

        CHECK_MSG(e, "'%s': not JSON: %s", run, line);
        if (strcmp(json_string_value(json_object_get(e, "event")), "step") == 0) {
            CHECK(n < STEPS);
            CHECK_INT(json_integer_value(json_object_get(e, "iteration")), n + 1);
            loss[n++] = json_number_value(json_object_get(e, "loss"));
        }
        json_decref(e);
    }
    CHECK_INT(n, STEPS);
    sha256_hex(out, loss, sizeof loss);
    free(all);
}

static void same_runs(const char *a, const char *b)
{
    static const char *const file[] = {LAST "model.safetensors", LAST "optimizer.safetensors",
                                       LAST "history.json", "best/model.safetensors"};
    char x[65], y[65];

    for (size_t i = 0; i < THAW_COUNT(file); i++)
        small_same_files(a, b, file[i]);
    digest_losses(x, a);
    digest_losses(y, b);
    CHECK_STR(x, y);
}

static long number_of(const char *name, long standard)
{
    const char *asked = getenv(name);

    return asked ? atol(asked) : standard;
}

static void test_kills(void **state)
{
    const char *folder = *state;
    const long wanted = number_of("THAW_KILLS", 100);
    uint64_t random = (uint64_t)number_of("THAW_KILLS_SEED", 1);
    char whole[512], run[512], path[512], name[32];
    long kills = 0;
    double begun = seconds_now(), length;

    check_write_file(small_path(path, folder, "r.toml"), RECIPE, sizeof RECIPE - 1);
    CHECK(end_or_kill(begin(folder, small_path(whole, folder, "whole")), 300, folder));
    length = seconds_now() - begun;
    for (int i = 0; kills < wanted; i++) {
        (void)snprintf(name, sizeof name, "run-%d", i);
        small_path(run, folder, name);
        for (;;) {
            const double part = (double)(splitmix64(&random) >> 11) * 0x1p-53;

            if (end_or_kill(begin(folder, run), part * length / 3, folder))
                break;
            kills++;
        }
        same_runs(whole, run);
        (void)nftw(run, check_folder_remove_one, 32, FTW_DEPTH | FTW_PHYS);
    }
    print_message("%ld kills in %.0f s\n", kills, seconds_now() - begun);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kills, small_setup, small_teardown)};
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 16);

    /* the program lies in the folder above that of the tests */
    if (n > 0)
        program[n] = '\0';
    for (int i = 0; i < 2 && strrchr(program, '/'); i++)
        *strrchr(program, '/') = '\0';
    (void)strcat(program, "/thaw");
    saving_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
