/*
 * cmd_init.c - `thaw init`: a recipe for a network and data, on standard output.
 */
#include "cli.h"

static int list_presets(void)
{
    const char *name = "", *help = "";
    const size_t n = thaw_presets(&name, &help, 0);

    for (size_t i = 0; i < n; i++) {
        (void)thaw_presets(&name, &help, i);
        printf("%-16s  %s\n", name, help);
    }
    return 0;
}

int cmd_init(const cli_args *args)
{
    const thaw_preset_options options = {.unit = THAW_EPOCHS, .length = args->epochs, .seed = 1};
    char *text = NULL;
    thaw_status status;

    if (args->list)
        return list_presets();
    if (args->n_operands < 1)
        return cli_usage(args, "'thaw init' needs a MODEL, and the DATA to learn from");
    status = thaw_init(&text, args->operand[0], args->preset, &options, &args->operand[1],
                       args->n_operands - 1);
    return status == THAW_OK ? cli_print(text) : cli_report(status);
}
