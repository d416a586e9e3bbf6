/*
 * main.c - finds the command in the table and runs it. What a command does is in its cmd_*.c.
 */
#include <string.h>

#include "cli.h"

/* Words that people try before they know the commands. */
static const struct {
    const char *word, *command;
} synonyms[] = {
    {"--help", "help"},
    {"-h", "help"},
    {"--version", "version"},
    {"-V", "version"},
};

static const char *command_name(int i)
{
    return i < cli_n_commands ? cli_commands[i].name : NULL;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "help";
    const cli_command *command;
    cli_args args;
    char near[128];
    int code;

    /* A closed pipe behind us must not end a training run. */
    (void)signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < CLI_COUNT(synonyms); i++)
        if (strcmp(name, synonyms[i].word) == 0)
            name = synonyms[i].command;
    command = cli_find(name);
    if (!command)
        return cli_usage("unknown command '%s'%s", name,
                         cli_near(near, sizeof near, name, command_name));
    code = cli_parse(&args, command, argc > 2 ? argc - 2 : 0, argv + 2);
    if (code != 0)
        return code;
    if (args.help) {
        const cli_args help = {.operand = {command->name}, .n_operands = 1};

        return cmd_help(&help);
    }
    return command->run(&args);
}
