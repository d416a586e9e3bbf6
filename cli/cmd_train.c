/*
 * cmd_train.c - `thaw train` and `thaw resume`: sets the signals and the display up, and calls the
 * library.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

/* ----------------------------------------------------------------------------------------------
 * stopping on request */

static volatile int stop_requested, save_requested;
static struct timespec stop_time;

static void on_save(int number)
{
    save_requested = number;
}

/* The first signal asks for a stop after the current micro-batch; the second leaves at once. */
static void on_stop(int number)
{
    static const char text[] = "\nthaw: stopping; once more to leave at once\n";

    if (stop_requested)
        _exit(128 + number);
    (void)clock_gettime(CLOCK_MONOTONIC, &stop_time);
    stop_requested = number;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        return;
}

static void watch_signals(void)
{
    static const struct {
        int number;
        void (*handler)(int number);
    } table[] = {{SIGINT, on_stop}, {SIGTERM, on_stop}, {SIGHUP, on_stop}, {SIGUSR1, on_save}};

    for (size_t i = 0; i < CLI_COUNT(table); i++) {
        struct sigaction action = {.sa_handler = table[i].handler, .sa_flags = SA_RESTART}, old;

        sigemptyset(&action.sa_mask);
        if (sigaction(table[i].number, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(table[i].number, &action, NULL); /* nohup's choice stays */
    }
}

/* Seconds since the first signal asked for a stop; negative: none has. */
static double seconds_since_stop(void)
{
    struct timespec now;

    if (!stop_requested || clock_gettime(CLOCK_MONOTONIC, &now) != 0)
        return -1;
    return (double)(now.tv_sec - stop_time.tv_sec) +
           1e-9 * (double)(now.tv_nsec - stop_time.tv_nsec);
}

/* ----------------------------------------------------------------------------------------------
 * running */

thaw_status cli_load(thaw_recipe **out, const char *path, const cli_args *args)
{
    return thaw_recipe_load(out, path, args->sets, args->n_sets);
}

/* What OMP_NUM_THREADS asks for, as other programs with the same runtime obey it; 0: nothing. */
static int threads_of_environment(void)
{
    const char *value = getenv("OMP_NUM_THREADS");
    const long n = value ? strtol(value, NULL, 10) : 0;

    return n >= 1 && n <= 1024 ? (int)n : 0;
}

thaw_run_options cli_run_options(const cli_args *args)
{
    return (thaw_run_options){.run = args->run,
                              .executor = args->executor,
                              .threads = args->threads ? args->threads : threads_of_environment()};
}

/* The end of both commands: what to say, and the exit code. */
static int finish(progress *p, thaw_status status, const char *run)
{
    const double seconds = seconds_since_stop();

    progress_leave(p);
    if (status == THAW_OK)
        progress_hint(p, run);
    if (status != THAW_E_STOPPED)
        return cli_report(status);
    fprintf(stderr, "thaw: stopped");
    if (seconds >= 0)
        fprintf(stderr, " %.2f s after the signal", seconds);
    fprintf(stderr, "; go on with: thaw resume %s\n", run);
    return thaw_exit_code(status);
}

/* "runs/" and the recipe's file name without its ending. */
static int default_run(char *out, size_t size, const cli_args *args)
{
    const char *recipe = args->operand[0];
    const char *slash = strrchr(recipe, '/');
    const char *name = slash ? slash + 1 : recipe;
    const char *dot = strrchr(name, '.');
    const int n = (int)(dot && dot > name ? dot - name : (ptrdiff_t)strlen(name));

    if (n == 0 || (size_t)snprintf(out, size, "runs/%.*s", n, name) >= size)
        return cli_usage(args, "no name for a run folder in '%s': give one with --run", recipe);
    return 0;
}

/* A run is never overwritten; say so before the data are read. */
static int check_free(const cli_args *args, const char *run)
{
    static const char *const marks[] = {"recipe.toml", "events.jsonl", "checkpoints"};
    char path[4096];

    for (size_t i = 0; i < CLI_COUNT(marks); i++) {
        if ((size_t)snprintf(path, sizeof path, "%s/%s", run, marks[i]) >= sizeof path)
            return cli_usage(args, "the path '%s' is too long", run);
        if (access(path, F_OK) == 0) {
            cli_error("'%s' holds a run already: go on with 'thaw resume %s', or choose another "
                      "folder with --run [%s]",
                      run, run, thaw_status_name(THAW_E_CREATE));
            return thaw_exit_code(THAW_E_CREATE);
        }
    }
    return 0;
}

int cmd_train(const cli_args *args)
{
    thaw_run_options options = cli_run_options(args);
    thaw_recipe *recipe = NULL;
    static progress p;
    char run[4096];
    thaw_status status;
    int code;

    status = cli_load(&recipe, args->operand[0], args);
    if (status != THAW_OK)
        return cli_report(status);
    if (!options.run) {
        code = default_run(run, sizeof run, args);
        if (code != 0)
            goto done;
        options.run = run;
    }
    code = check_free(args, options.run);
    if (code != 0)
        goto done;
    progress_init(&p, args);
    watch_signals();
    options.on_event = progress_event;
    options.user = &p;
    options.stop = &stop_requested;
    options.save = &save_requested;
    code = finish(&p, thaw_train(recipe, &options), options.run);
done:
    thaw_recipe_destroy(recipe);
    return code;
}

int cmd_resume(const cli_args *args)
{
    thaw_run_options options = cli_run_options(args);
    static progress p;

    progress_init(&p, args);
    watch_signals();
    options.run = args->operand[0];
    options.sets = args->sets;
    options.n_sets = args->n_sets;
    options.on_event = progress_event;
    options.user = &p;
    options.stop = &stop_requested;
    options.save = &save_requested;
    return finish(&p, thaw_resume(&options), options.run);
}
