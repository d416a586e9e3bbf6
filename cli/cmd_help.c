/*
 * cmd_help.c - `thaw help` and `thaw version`. Everything comes from the tables of commands,
 * options and recipe keys.
 */
#include <string.h>

#include "cli.h"

static const struct {
    int code;
    const char *meaning;
} exit_codes[] = {
    {0, "done"},
    {1, "`thaw diff`: the phase states differ"},
    {64, "the command line is wrong"},
    {65, "a data file, model or checkpoint is malformed or does not fit"},
    {66, "an input file or folder is not there"},
    {69, "not supported by this build, executor or format"},
    {70, "ten non-finite steps in a row, or a fault of the program itself"},
    {71, "out of memory, or another system call failed"},
    {73, "an output cannot be created, holds a run already, or is in use"},
    {74, "reading or writing failed underway"},
    {75, "stopped on request: start `thaw resume`"},
    {78, "the recipe is wrong, or not the one a run was begun with"},
    {130, "left at once on a second Ctrl-C (143: SIGTERM): the last checkpoint stands"},
};

static int help_exit(const cli_args *args)
{
    (void)args;
    for (size_t i = 0; i < CLI_COUNT(exit_codes); i++)
        printf("%3d  %s\n", exit_codes[i].code, exit_codes[i].meaning);
    return 0;
}

static int help_recipe(const cli_args *args)
{
    char *text = NULL;
    const thaw_status status = thaw_recipe_help(&text, args->markdown);

    return status == THAW_OK ? cli_print(text) : cli_report(status);
}

/* What can be asked about besides the commands. */
static const struct {
    const char *name;
    int (*print)(const cli_args *args);
    const char *summary;
} topics[] = {
    {"recipe", help_recipe, "every key of a recipe"},
    {"exit", help_exit, "the exit codes"},
};

static int help_command(const cli_command *command)
{
    printf("usage: thaw %s%s%s [OPTION...]\n\n%s\noptions:\n", command->name,
           command->operands[0] ? " " : "", command->operands, command->help);
    cli_print_options(command, stdout);
    return 0;
}

static int help_all(void)
{
    puts("thaw fine-tunes neural networks in phases: a phase says which layers learn, and how\n"
         "fast.\n\nusage: thaw COMMAND ...\n");
    for (int i = 0; i < cli_n_commands; i++) {
        char left[40];

        snprintf(left, sizeof left, "%s %s", cli_commands[i].name, cli_commands[i].operands);
        printf("  %-36s  %s\n", left, cli_commands[i].summary);
    }
    puts("");
    for (size_t i = 0; i < CLI_COUNT(topics); i++)
        printf("  help %-31s  %s\n", topics[i].name, topics[i].summary);
    puts("\n`thaw help COMMAND` says more.");
    return 0;
}

/* All names that can follow `thaw help`. */
static const char *topic_name(int i)
{
    if (i < cli_n_commands)
        return cli_commands[i].name;
    i -= cli_n_commands;
    return i < (int)CLI_COUNT(topics) ? topics[i].name : NULL;
}

int cmd_help(const cli_args *args)
{
    const char *const name = args->n_operands > 0 ? args->operand[0] : NULL;
    const cli_command *command;
    char near[128];

    if (!name)
        return help_all();
    for (size_t i = 0; i < CLI_COUNT(topics); i++)
        if (strcmp(topics[i].name, name) == 0)
            return topics[i].print(args);
    command = cli_find(name);
    if (!command)
        return cli_usage(NULL, "there is no help on '%s'%s", name,
                         cli_near(near, sizeof near, name, topic_name));
    return help_command(command);
}

int cmd_version(const cli_args *args)
{
    (void)args;
    printf("thaw %s\nkernels: %s\n", thaw_version(), thaw_kernels());
    return 0;
}
