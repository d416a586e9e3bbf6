/*
 * commands.c - the table of commands: their names, what they take, and their help.
 */
#include <string.h>

#include "cli.h"

#define HOW (OPTION_THREADS | OPTION_EXECUTOR)

const cli_command cli_commands[] = {
    {"train", "RECIPE", 1, 1, OPTION_SET | OPTION_RUN | OPTION_JSON | OPTION_QUIET | HOW, cmd_train,
     "train a network phase by phase, as a recipe says",
     "Reads RECIPE (see `thaw help recipe`), trains, and leaves in the run folder: recipe.toml "
     "(every\n"
     "value and where it came from), events.jsonl, checkpoints/ and best/ (config.json and\n"
     "model.safetensors with the names that PyTorch users expect). The run folder is --run, or\n"
     "runs/NAME for a recipe NAME.toml.\n"
     "\n"
     "Ctrl-C and SIGTERM stop after the current step and save; the exit code is then 75 and\n"
     "`thaw resume` goes on. A second Ctrl-C leaves at once.\n"},
    {"resume", "RUN", 1, 1, OPTION_JSON | OPTION_QUIET | HOW, cmd_resume,
     "go on with a run that was stopped or killed",
     "Goes on from the newest checkpoint of the folder RUN that verifies, with the run's own "
     "recipe,\n"
     "as if nothing had happened.\n"},
    {"eval", "[PATH]", 0, 1, OPTION_RECIPE | OPTION_SET | OPTION_SPLIT | OPTION_JSON | HOW,
     cmd_eval, "measure loss and accuracy on one split of the data",
     "PATH is a run folder (its best weights), a checkpoint folder or a model folder; without it "
     "the\n"
     "recipe's own model is measured. The data are those of --recipe, or of the run.\n"},
    {"plan", "RECIPE", 1, 1, OPTION_SET | OPTION_STEPS | OPTION_JSON | HOW, cmd_plan,
     "show what a recipe would do, phase by phase, without training",
     "Per phase: every parameter group with its rate and count, how many steps, what backward "
     "leaves\n"
     "out, and the memory it will need.\n"},
    {"show", "PATH", 1, 1, OPTION_JSON, cmd_show,
     "show the layers of a model, checkpoint, run or recipe",
     "The tree of layers with parameter counts, and where PATH has phases: what trains, what is\n"
     "frozen, and the learning-rate coefficients.\n"},
    {"help", "[COMMAND]", 0, 1, OPTION_MARKDOWN, cmd_help,
     "explain a command, or the keys of a recipe",
     "`thaw help recipe` lists every key of a recipe; `thaw help exit` the exit codes.\n"},
    {"version", "", 0, 0, 0, cmd_version, "print the version and the kernels in use",
     "The version of the library, and the kernel library and instruction set that it found.\n"},
};
const int cli_n_commands = (int)CLI_COUNT(cli_commands);

const cli_command *cli_find(const char *name)
{
    for (int i = 0; i < cli_n_commands; i++)
        if (strcmp(cli_commands[i].name, name) == 0)
            return &cli_commands[i];
    return NULL;
}
