/*
 * options.c - the table of options and the one parser that reads a command line by it.
 *
 * Forms: --name VALUE, --name=VALUE, --flag; operands anywhere; "--" ends the options.
 */
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

typedef enum option_kind { KIND_FLAG, KIND_TEXT, KIND_COUNT, KIND_LIST } option_kind;

typedef struct cli_option {
    unsigned bit;
    const char *name;
    const char *value; /* as shown; NULL for a flag */
    option_kind kind;
    size_t offset; /* of its field in cli_args */
    const char *help;
} cli_option;

#define FIELD(name) offsetof(cli_args, name)

static const cli_option option_table[] = {
    {OPTION_SET, "--set", "KEY=VALUE", KIND_LIST, 0,
     "override a key of the recipe, such as phase.2.lr=1e-4; may be given again"},
    {OPTION_RECIPE, "--recipe", "FILE", KIND_TEXT, FIELD(recipe), "the recipe whose data are used"},
    {OPTION_RUN, "--run", "DIR", KIND_TEXT, FIELD(run), "folder for the run's files"},
    {OPTION_SPLIT, "--split", "NAME", KIND_TEXT, FIELD(split),
     "train, valid or test (default: valid)"},
    {OPTION_THREADS, "--threads", "N", KIND_COUNT, FIELD(threads),
     "threads (default: OMP_NUM_THREADS, else the processors this process may use)"},
    {OPTION_EXECUTOR, "--executor", "NAME", KIND_TEXT, FIELD(executor),
     "dnn (oneDNN) or ref (plain loops); default: the recipe's"},
    {OPTION_PRESET, "--preset", "NAME", KIND_TEXT, FIELD(preset), "the preset to expand"},
    {OPTION_EPOCHS, "--epochs", "N", KIND_COUNT, FIELD(epochs),
     "length of all phases together (default: by the number of images)"},
    {OPTION_LIST, "--list", NULL, KIND_FLAG, FIELD(list), "list the presets"},
    {OPTION_STEPS, "--steps", NULL, KIND_FLAG, FIELD(steps), "list every step of the plans"},
    {OPTION_TEXT, "--text", NULL, KIND_FLAG, FIELD(text),
     "for a terminal: a table and plots, nothing is written"},
    {OPTION_JSON, "--json", NULL, KIND_FLAG, FIELD(json), "for programs: JSON on standard output"},
    {OPTION_QUIET, "--quiet", NULL, KIND_FLAG, FIELD(quiet), "only the table at the end"},
    {OPTION_MARKDOWN, "--markdown", NULL, KIND_FLAG, FIELD(markdown), "with recipe: as Markdown"},
    {0, "--help", NULL, KIND_FLAG, FIELD(help), "this text"},
};

static bool takes(const cli_command *command, const cli_option *option)
{
    return option->bit == 0 || (command->options & option->bit) != 0;
}

static const char *option_name(int i)
{
    return i < (int)CLI_COUNT(option_table) ? option_table[i].name : NULL;
}

/* The option whose name is the first n bytes of word. */
static const cli_option *find(const char *word, size_t n)
{
    for (size_t i = 0; i < CLI_COUNT(option_table); i++)
        if (strlen(option_table[i].name) == n && strncmp(option_table[i].name, word, n) == 0)
            return &option_table[i];
    return strcmp(word, "-h") == 0 ? find("--help", 6) : NULL;
}

static int parse_count(const cli_args *args, int *out, const cli_option *option, const char *value)
{
    char *end;
    long n;

    errno = 0;
    n = strtol(value, &end, 10);
    if (errno != 0 || *end != '\0' || end == value || n < 1 || n > INT_MAX)
        return cli_usage(args, "'%s' is no value for %s: a whole number of 1 or more is", value,
                         option->name);
    *out = (int)n;
    return 0;
}

/* Store the value of an option; argv is where the values of --set are gathered. */
static int store(cli_args *args, const cli_option *option, char *value, char **argv)
{
    void *field = (char *)args + option->offset;

    switch (option->kind) {
    case KIND_FLAG:
        *(bool *)field = true;
        return 0;
    case KIND_TEXT:
        if (*value == '\0')
            return cli_usage(args, "%s has an empty value", option->name);
        *(const char **)field = value;
        return 0;
    case KIND_COUNT:
        return parse_count(args, field, option, value);
    case KIND_LIST:
        if (!strchr(value, '='))
            return cli_usage(args, "'%s' is no value for %s: %s is", value, option->name,
                             option->value);
        argv[args->n_sets++] = value;
        return 0;
    }
    return 0;
}

static int parse_option(cli_args *args, const cli_command *command, int n, char **argv, int *at)
{
    char *word = argv[*at];
    const size_t length = strcspn(word, "=");
    const cli_option *option = find(word, length);
    char near[128];
    char *value = NULL;

    if (!option)
        return cli_usage(args, "unknown option '%.*s'%s", (int)length, word,
                         cli_near(near, sizeof near, word, option_name));
    if (!takes(command, option))
        return cli_usage(args, "'thaw %s' has no option %s", command->name, option->name);
    if (word[length] == '=')
        value = word + length + 1;
    if (!option->value && value)
        return cli_usage(args, "%s takes no value", option->name);
    if (option->value && !value) {
        if (*at + 1 >= n)
            return cli_usage(args, "%s needs a value: %s %s", option->name, option->name,
                             option->value);
        value = argv[++*at];
    }
    return store(args, option, value, argv);
}

int cli_parse(cli_args *args, const cli_command *command, int n, char **argv)
{
    bool options = true;
    int code;

    *args = (cli_args){.command = command};
    for (int i = 0; i < n; i++) {
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (options && argv[i][0] == '-' && argv[i][1] != '\0') {
            code = parse_option(args, command, n, argv, &i);
            if (code != 0)
                return code;
        } else if (args->n_operands == command->most) {
            return cli_usage(args, "'thaw %s' does not know what to do with '%s'", command->name,
                             argv[i]);
        } else {
            args->operand[args->n_operands++] = argv[i];
        }
    }
    args->sets = (const char *const *)argv;
    if (!args->help && args->n_operands < command->least)
        return cli_usage(args, "'thaw %s' needs %s", command->name, command->operands);
    return 0;
}

void cli_print_options(const cli_command *command, FILE *to)
{
    for (size_t i = 0; i < CLI_COUNT(option_table); i++) {
        const cli_option *option = &option_table[i];
        char left[40];

        if (!takes(command, option))
            continue;
        snprintf(left, sizeof left, "%s%s%s", option->name, option->value ? " " : "",
                 option->value ? option->value : "");
        fprintf(to, "  %-18s %s\n", left, option->help);
    }
}
