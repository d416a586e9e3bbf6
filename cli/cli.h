/*
 * cli.h - the program's own parts: the table of commands, the table of options, and what shows a
 * run on a terminal, in a log, or to another program.
 *
 * Stands on <thaw/thaw.h> alone, as any other user of the library. Allocates nothing: texts are
 * those of argv, tables have fixed sizes.
 */
#ifndef THAW_CLI_H
#define THAW_CLI_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <thaw/thaw.h>

#define CLI_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ----------------------------------------------------------------------------------------------
 * options (options.c) */

/* Each option's bit; a command's row says which it takes. */
enum {
    OPTION_SET = 1 << 0,
    OPTION_RUN = 1 << 1,
    OPTION_JSON = 1 << 2,
    OPTION_THREADS = 1 << 3,
    OPTION_EXECUTOR = 1 << 4,
    OPTION_STEPS = 1 << 5,
    OPTION_SPLIT = 1 << 6,
    OPTION_RECIPE = 1 << 7,
    OPTION_QUIET = 1 << 8,
    OPTION_MARKDOWN = 1 << 9,
    OPTION_PRESET = 1 << 10,
    OPTION_EPOCHS = 1 << 11,
    OPTION_LIST = 1 << 12,
    OPTION_TEXT = 1 << 13
};

#define CLI_MAX_OPERANDS 4096

/* A command line, parsed. Everything points into argv. */
typedef struct cli_args {
    const struct cli_command *command; /* whose words these are */
    const char *operand[CLI_MAX_OPERANDS];
    int n_operands;
    const char *const *sets; /* [n_sets], "key=value" */
    int n_sets;
    const char *run, *executor, *split, *recipe, *preset;
    int threads, epochs;
    bool json, steps, quiet, markdown, list, text, help;
} cli_args;

typedef struct cli_command {
    const char *name;
    const char *operands; /* as shown: "RECIPE" */
    int least, most;      /* how many */
    unsigned options;     /* bits of the options it takes */
    int (*run)(const cli_args *args);
    const char *summary; /* one line, for the list of commands */
    const char *help;    /* more, for `thaw help COMMAND` */
} cli_command;

/*
 * Fill args from argv[0 … n), the words after the command's name. The words of --set are moved to
 * the front of argv, where args->sets points. Returns 0, or the exit code of a wrong command line,
 * which has been reported.
 */
int cli_parse(cli_args *args, const cli_command *command, int n, char **argv);

/* The options of a command, one line each, for its help. */
void cli_print_options(const cli_command *command, FILE *to);

/* ----------------------------------------------------------------------------------------------
 * commands (commands.c has the table, cmd_*.c what they do); each returns an exit code */

extern const cli_command cli_commands[];
extern const int cli_n_commands;
const cli_command *cli_find(const char *name); /* NULL: none */

int cmd_train(const cli_args *args);
int cmd_resume(const cli_args *args);
int cmd_eval(const cli_args *args);
int cmd_predict(const cli_args *args);
int cmd_plan(const cli_args *args);
int cmd_show(const cli_args *args);
int cmd_diff(const cli_args *args);
int cmd_report(const cli_args *args);
int cmd_init(const cli_args *args);
int cmd_freeze(const cli_args *args);
int cmd_unfreeze(const cli_args *args);
int cmd_lr(const cli_args *args);
int cmd_help(const cli_args *args);
int cmd_version(const cli_args *args);

/* Read the recipe at `path` with the --set options. */
thaw_status cli_load(thaw_recipe **out, const char *path, const cli_args *args) THAW_MUST_USE;

/* The options of a run that stand on the command line. */
thaw_run_options cli_run_options(const cli_args *args);

/* ----------------------------------------------------------------------------------------------
 * saying things (say.c) */

/* "thaw: error: ..." on stderr. cli_usage also says where help on the command is (args NULL: on all
 * of them), and returns the exit code of a wrong command line. */
void cli_error(const char *format, ...) THAW_PRINTF(1, 2);
int cli_usage(const cli_args *args, const char *format, ...) THAW_PRINTF(2, 3);

/* Report a failed call of the library, one line for each line of its text, and return the exit
 * code. THAW_OK: nothing, 0. */
int cli_report(thaw_status status);

/* Print a text of the library on stdout and free it; the exit code, not 0 when it cannot be
 * written. */
int cli_print(char *text);

/*
 * A text of n bytes that may quote what others have written (names in files, names of files): bytes
 * that a terminal might take for orders are shown as '?'. cli_put leaves line ends and tabs as they
 * are; cli_put_name, for what must stay one word of a line, does not.
 */
void cli_put(FILE *to, const char *text, size_t n);
void cli_put_name(FILE *to, const char *text, size_t n);

/* A string of JSON on stdout; what is not UTF-8 becomes U+FFFD. */
void cli_print_json(const char *s);

/* Bytes of the first `most` characters of UTF-8, 4 each at most, and how many characters those are;
 * a byte that belongs to none counts as one. */
size_t cli_cut(int *characters, const char *s, int most);

/* " (did you mean 'train'?)" into a buffer of `size` bytes, or "" where nothing is near.
 * nth(i) is candidate i, NULL after the last. */
const char *cli_near(char *buffer, size_t size, const char *wanted, const char *(*nth)(int i));

/* Whether `stream` is a terminal that shows colors, and NO_COLOR is not set. */
bool cli_color(FILE *stream);

/* "12.3 MiB", "1,234,567", "2 min 05 s" into a buffer of 32 bytes, which is returned. */
const char *cli_bytes(char *buffer, uint64_t bytes);
const char *cli_count(char *buffer, int64_t n);
const char *cli_duration(char *buffer, double seconds);

/* ----------------------------------------------------------------------------------------------
 * progress (progress.c) */

typedef enum progress_mode {
    PROGRESS_LIVE, /* a terminal: one line that is redrawn, and plain lines above it */
    PROGRESS_LOG,  /* plain lines */
    PROGRESS_JSON, /* one object per event */
    PROGRESS_QUIET /* the table at the end only */
} progress_mode;

#define PROGRESS_NAME 32 /* characters of a phase's name that are shown */

/* One row of the table at the end. */
typedef struct progress_row {
    char name[4 * PROGRESS_NAME + 1];
    int64_t trainable, total;
    double lr_least, lr_most;
    double loss, metric; /* of the last evaluation in the phase; NAN: none */
    bool is_rmse;        /* the metric is an error of numbers, not the accuracy */
    double waited;       /* share of the time, for data */
    double seconds, rate;
    uint64_t peak_bytes;
    int skipped;
} progress_row;

#define PROGRESS_MAX_ROWS 128

typedef struct progress {
    progress_mode mode;
    FILE *to;
    bool color;
    double last;   /* when something was drawn, seconds */
    bool drawn;    /* the live line stands on the screen */
    int width;     /* of the live line */
    double metric; /* of the last evaluation; NAN: none yet */
    int n_rows;    /* rows[n_rows] is the phase at work */
    int n_phases;
    progress_row rows[PROGRESS_MAX_ROWS + 1];
} progress;

void progress_init(progress *p, const cli_args *args);

/* A thaw_event_fn; user is the progress. Always goes on: who wants to stop sets the stop flag. */
bool progress_event(void *user, const thaw_event *event);

/* Leave the live line, so that what follows starts on a line of its own. */
void progress_leave(progress *p);

/* What can be done with the run in this folder, now that it has ended. */
void progress_hint(const progress *p, const char *run);

/* The table of phases. */
void progress_table(FILE *to, const progress *p);

#endif
