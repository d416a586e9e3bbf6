/*
 * commands.c - the table of commands: their names, what they take, and their help.
 */
#include <string.h>

#include "cli.h"

#define HOW (OPTION_THREADS | OPTION_EXECUTOR)

#define EDIT_HELP                                                                                  \
    "CHECKPOINT is a checkpoint folder, or a run (its newest checkpoint). Each PATTERN is a "      \
    "layer's\n"                                                                                    \
    "name, a regular expression that matches a whole one, or an alias of the run's recipe. A "     \
    "new\n"                                                                                        \
    "checkpoint is committed beside the old one; `thaw resume` goes on from it and keeps the "     \
    "edit,\n"                                                                                      \
    "and the optimizer's state, until a later phase says otherwise.\n"

const cli_command cli_commands[] = {
    {"train", "RECIPE", 1, 1, OPTION_SET | OPTION_RUN | OPTION_JSON | OPTION_QUIET | HOW, cmd_train,
     "train a network phase by phase, as a recipe says",
     "Reads RECIPE (see `thaw help recipe`), trains, and leaves in the run folder: recipe.toml "
     "(every\n"
     "value and where it came from), events.jsonl, checkpoints/ and best/ (config.json and\n"
     "model.safetensors with the names that PyTorch users expect). The run folder is --run, or\n"
     "runs/NAME for a recipe NAME.toml.\n"
     "\n"
     "Ctrl-C and SIGTERM stop after the micro-batch under way and save; the exit code is then 75\n"
     "and `thaw resume` goes on. A second one leaves at once. SIGUSR1 saves and goes on.\n"},
    {"resume", "RUN", 1, 1, OPTION_SET | OPTION_JSON | OPTION_QUIET | HOW, cmd_resume,
     "go on with a run that was stopped or killed",
     "Goes on from the newest checkpoint of the folder RUN that verifies, with the run's own "
     "recipe,\n"
     "as if nothing had happened. One that is damaged is passed over, and said why; one that the\n"
     "disk does not give ends the command (exit code 74): it may be unharmed, so try again, or\n"
     "move it away.\n"
     "\n"
     "RUN/recipe.toml may have been edited, and --set changes it for good: phases that have not\n"
     "begun, the length of the present one, what is evaluated and saved when. Each change is "
     "named;\n"
     "one of what steps already made depended on is refused (exit code 78), and so are other "
     "data.\n"
     "Another number of threads or another version of thaw is allowed: results may then differ in\n"
     "the last bits.\n"},
    {"eval", "[PATH]", 0, 1, OPTION_RECIPE | OPTION_SET | OPTION_SPLIT | OPTION_JSON | HOW,
     cmd_eval, "measure loss and accuracy on one split of the data",
     "PATH is a run folder (its best weights), a checkpoint folder or a model folder; without it "
     "the\n"
     "recipe's own model is measured. The data are those of --recipe, or of the run.\n"},
    {"predict", "MODEL [FILE...]", 1, CLI_MAX_OPERANDS, OPTION_JSON | HOW, cmd_predict,
     "say what a network takes pictures for",
     "MODEL is a run folder (its best weights), a checkpoint or a model folder. For each JPEG or "
     "PNG\n"
     "file a line with its name, its class and how sure the network is, between tabs; with --json "
     "the\n"
     "likeliest five. Without FILE, or with '-', the names come from standard input, one a line. "
     "Files\n"
     "that cannot be read are reported and the rest is answered; the exit code is then 65.\n"},
    {"plan", "RECIPE", 1, 1, OPTION_SET | OPTION_STEPS | OPTION_JSON | HOW, cmd_plan,
     "show what a recipe would do, phase by phase, without training",
     "Per phase: every parameter group with its rate and count, how many steps, what backward "
     "leaves\n"
     "out, and the memory it will need.\n"},
    {"show", "PATH", 1, 1, OPTION_JSON, cmd_show,
     "show the layers of a model, checkpoint, run or recipe",
     "The tree of layers with parameter counts, and where PATH has phases, a column for each: "
     "what\n"
     "trains (x), is frozen (-) or mixed (~), the coefficient, and the rate before the curve. "
     "Blocks\n"
     "that are alike are shown once. Of a checkpoint also the present phase (>) and the edits "
     "made\n"
     "by hand; a run stands for its newest checkpoint.\n"},
    {"diff", "A B", 2, 2, OPTION_JSON, cmd_diff,
     "show what two checkpoints, runs or recipes differ in",
     "Who trains and how fast, now (of two checkpoints) and at the end of each phase. Only layers\n"
     "that differ are listed; weights are not compared. The exit code is 0 where the phase state "
     "is\n"
     "the same, and 1 where it differs.\n"},
    {"report", "RUN", 1, 1, OPTION_TEXT | HOW, cmd_report,
     "write a page about a run: curves, phases, rates, mistakes",
     "Writes report.html into the run folder: loss and metric over time with the phases behind "
     "them,\n"
     "the rate of each group of layers, who trained when, time and memory of each phase, the\n"
     "confusion matrix of the best weights on the validation images and their worst mistakes. One\n"
     "file without script or network. The scalars for TensorBoard go to tensorboard/ beside it.\n"
     "With --text the table and the plots are drawn in the terminal instead.\n"},
    {"init", "MODEL [DATA...]", 0, 4, OPTION_PRESET | OPTION_EPOCHS | OPTION_LIST, cmd_init,
     "look at a network and at data, and print a recipe that suits both",
     "MODEL is a model folder, a .safetensors or .pth file, or the name of an architecture. DATA "
     "is\n"
     "a folder with a folder of pictures for each class, a folder with train/, valid/ and test/ "
     "of\n"
     "that kind, a list (.csv), or a file of images; further ones are for validation and testing.\n"
     "The recipe says why each value is what it is, and runs as it is:\n\n"
     "  thaw init MODEL DATA >recipe.toml && thaw train recipe.toml\n\n"
     "Without --preset a pretrained network learns in three phases: the head, the upper half, "
     "then\n"
     "everything, the lower the slower. `thaw init --list` lists the presets.\n"},
    {"freeze", "CHECKPOINT PATTERN...", 2, CLI_MAX_OPERANDS, 0, cmd_freeze,
     "freeze layers of a checkpoint by hand", EDIT_HELP},
    {"unfreeze", "CHECKPOINT PATTERN...", 2, CLI_MAX_OPERANDS, 0, cmd_unfreeze,
     "let layers of a checkpoint train again by hand", EDIT_HELP},
    {"lr", "CHECKPOINT COEFFICIENT PATTERN...", 3, CLI_MAX_OPERANDS, 0, cmd_lr,
     "change the rate of layers of a checkpoint by hand",
     EDIT_HELP "COEFFICIENT multiplies the base rate; 0 pauses the layers, 1 removes their own "
               "entry, so that\n"
               "they have what the layer above them has.\n"},
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
