/*
 * cmd_look.c - `thaw plan`, `thaw show`, `thaw diff` and `thaw report`: texts of the library,
 * printed.
 */
#include "cli.h"

int cmd_plan(const cli_args *args)
{
    const thaw_run_options options = cli_run_options(args);
    thaw_recipe *recipe = NULL;
    char *text = NULL;
    thaw_status status = cli_load(&recipe, args->operand[0], args);

    if (status == THAW_OK)
        status = thaw_plan(&text, recipe, &options, args->steps, args->json);
    thaw_recipe_destroy(recipe);
    return status == THAW_OK ? cli_print(text) : cli_report(status);
}

int cmd_show(const cli_args *args)
{
    char *text = NULL;
    const thaw_status status = thaw_show(&text, args->operand[0], args->json);

    return status == THAW_OK ? cli_print(text) : cli_report(status);
}

int cmd_report(const cli_args *args)
{
    const thaw_run_options options = cli_run_options(args);
    char *text = NULL;
    const thaw_status status = thaw_report(&text, args->operand[0], &options, args->text);

    return status == THAW_OK ? cli_print(text) : cli_report(status);
}

int cmd_diff(const cli_args *args)
{
    char *text = NULL;
    bool differ = false;
    int code;
    const thaw_status status =
        thaw_diff(&text, &differ, args->operand[0], args->operand[1], args->json);

    if (status != THAW_OK)
        return cli_report(status);
    code = cli_print(text);
    return code == 0 && differ ? 1 : code;
}
