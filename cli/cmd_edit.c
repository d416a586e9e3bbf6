/*
 * cmd_edit.c - `thaw freeze`, `thaw unfreeze` and `thaw lr`: change the phase state of a
 * checkpoint, by committing another one beside it.
 */
#include <errno.h>
#include <stdlib.h>

#include "cli.h"

/* The operands from number `first` on are patterns. */
static int edit(const cli_args *args, thaw_edit_kind kind, double coefficient, int first)
{
    char *text = NULL;
    const thaw_status status = thaw_edit(&text, args->operand[0], kind, coefficient,
                                         &args->operand[first], args->n_operands - first);

    return status == THAW_OK ? cli_print(text) : cli_report(status);
}

int cmd_freeze(const cli_args *args)
{
    return edit(args, THAW_EDIT_FREEZE, 1, 1);
}

int cmd_unfreeze(const cli_args *args)
{
    return edit(args, THAW_EDIT_UNFREEZE, 1, 1);
}

int cmd_lr(const cli_args *args)
{
    char *end;
    double coefficient;

    errno = 0;
    coefficient = strtod(args->operand[1], &end);
    if (errno != 0 || end == args->operand[1] || *end != '\0')
        return cli_usage(args, "'%s' is no coefficient: a number of 0 or more is",
                         args->operand[1]);
    return edit(args, THAW_EDIT_LR, coefficient, 2);
}
