/*
 * main.c - finds the command in the table and runs it. What a command does is in its cmd_*.c.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/*
 * Threads that spin while they wait halve the speed of a machine that has anything else to do. The
 * OpenMP runtime reads its wait policy once, before main, so the program starts itself again where
 * nobody has chosen one.
 */
static void wait_passively(char **argv)
{
    char self[4096];
    ssize_t n;

    if (getenv("OMP_WAIT_POLICY") || setenv("OMP_WAIT_POLICY", "passive", 0) != 0)
        return;
    n = readlink("/proc/self/exe", self, sizeof self);
    if (n < 0 || (size_t)n >= sizeof self)
        return;
    self[n] = '\0';
    (void)execv(self, argv); /* it comes back only where it failed: then go on as we are */
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "help";
    const cli_command *command;
    cli_args args;
    char near[128];
    int code;

    wait_passively(argv);
    /* A closed pipe behind us must not end a training run, nor must a file that may not grow. */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    for (size_t i = 0; i < CLI_COUNT(synonyms); i++)
        if (strcmp(name, synonyms[i].word) == 0)
            name = synonyms[i].command;
    command = cli_find(name);
    if (!command)
        return cli_usage(NULL, "unknown command '%s'%s", name,
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
