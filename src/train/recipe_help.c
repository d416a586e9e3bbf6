/*
 * recipe_help.c - the key table for people: plain text for the terminal, Markdown for the manual.
 */
#include "train/recipe_reader.h"

#include <string.h>

enum { TYPE_COLUMN = 24, DEFAULT_COLUMN = 56, WIDTH = 100 };

static void add_kind(text *t, const recipe_key *row)
{
    static const char *const word[] = {
        [KEY_STRING] = "string",
        [KEY_PATH] = "path",
        [KEY_CHOICE] = "",
        [KEY_INTEGER] = "integer",
        [KEY_NUMBER] = "number",
        [KEY_BOOLEAN] = "true, false",
        [KEY_INTERVAL] = "string",
        [KEY_SIZE] = "string or integer",
        [KEY_COEFFICIENTS] = "table",
        [KEY_TABLE] = "table",
    };

    text_add(t, word[row->kind]);
    for (size_t i = 0; row->kind == KEY_CHOICE && row->choice(i); i++)
        text_addf(t, "%s%s", i > 0 ? ", " : "", row->choice(i));
    if (row->most_n > 0)
        text_add(t, row->list_only ? " list" : " or list");
}

/* " in [1, 4]", " >= 0". */
static void add_range(text *t, const recipe_key *row)
{
    if (row->kind != KEY_INTEGER && row->kind != KEY_NUMBER && row->kind != KEY_COEFFICIENTS)
        return;
    if (row->least < -9e18)
        return;
    if (row->most > 9e18) {
        text_add(t, row->above_least ? " > " : " >= ");
        recipe_add_bound(t, row->least);
        return;
    }
    text_add(t, row->above_least ? " in (" : " in [");
    recipe_add_bound(t, row->least);
    text_add(t, ", ");
    recipe_add_bound(t, row->most);
    text_add(t, row->below_most ? ")" : "]");
}

static void add_default(text *t, const recipe_key *row)
{
    text_add(t, row->standard ? row->standard : row->required ? "required" : "-");
}

static void add_condition(text *t, const recipe_key *row, const char *when)
{
    recipe_add_when(t, row->section, when);
    for (const char *p = strchr(when, '='); p && *p; p++)
        text_add(t, *p == '=' ? " = " : *p == '|' ? " or " : (char[]){*p, '\0'});
}

/* "with optimizer.name = sgd" where the key is not for everyone. */
static void add_when(text *t, const recipe_key *row)
{
    if (!row->when)
        return;
    text_add(t, " (with ");
    add_condition(t, row, row->when);
    if (row->also) {
        text_add(t, " and ");
        add_condition(t, row, row->also);
    }
    text_add(t, ")");
}

static void add_plain_row(text *t, const recipe_key *row)
{
    text_addf(t, "  %s", row->name);
    text_pad(t, TYPE_COLUMN);
    add_kind(t, row);
    add_range(t, row);
    text_add(t, " ");
    text_pad(t, DEFAULT_COLUMN);
    add_default(t, row);
    text_add(t, "\n      ");
    text_add(t, row->help);
    add_when(t, row);
    text_add(t, "\n");
}

/* '|' would end the cell. */
static void add_cell(text *t, const text *cell)
{
    for (size_t i = 0; i < cell->length; i++)
        text_addf(t, "%s%c", cell->data[i] == '|' ? "\\" : "", cell->data[i]);
    text_add(t, " | ");
}

static void add_markdown_row(text *t, const recipe_key *row)
{
    text cell[3] = {TEXT_INIT, TEXT_INIT, TEXT_INIT};

    add_kind(&cell[0], row);
    add_range(&cell[0], row);
    add_default(&cell[1], row);
    text_add(&cell[2], row->help);
    add_when(&cell[2], row);
    text_addf(t, "| `%s` | ", row->name);
    for (size_t i = 0; i < THAW_COUNT(cell); i++) {
        add_cell(t, &cell[i]);
        t->failed |= cell[i].failed;
        text_done(&cell[i]);
    }
    t->length -= t->failed ? 0 : 1;
    text_add(t, "\n");
}

static void add_section(text *t, const recipe_section *section, bool markdown)
{
    const char *const bracket = strcmp(section->name, "phase") == 0 ? "[[phase]]" : section->name;
    bool head = false;
    size_t n;
    const recipe_key *const row = recipe_keys(&n);

    if (*section->name == '\0')
        text_addf(t, "%s%s\n", markdown ? "\n## Top\n\n" : "\n", section->help);
    else
        text_addf(t, markdown ? "\n## `%s`\n\n%s\n" : "\n[%s] %s\n", bracket, section->help);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(row[i].section, section->name) != 0)
            continue;
        if (markdown && !head)
            text_add(t, "\n| key | type and range | default | meaning |\n|---|---|---|---|\n");
        head = true;
        if (markdown)
            add_markdown_row(t, &row[i]);
        else
            add_plain_row(t, &row[i]);
    }
}

static void print_keys(text *out, bool markdown)
{
    size_t n;
    const recipe_section *const section = recipe_sections(&n);

    text_add(out, markdown
                      ? "# Recipes\n\nA recipe is a TOML 1.0 file. Every key, generated from the "
                        "program's own table:\n`thaw help recipe --markdown > docs/recipe.md`.\n"
                      : "A recipe is a TOML file with these keys: type and range, default, "
                        "meaning.\n");
    for (size_t i = 0; i < n; i++)
        add_section(out, &section[i], markdown);
}

thaw_status thaw_recipe_help(char **out, bool markdown)
{
    text t = TEXT_INIT;

    print_keys(&t, markdown);
    return text_take(out, &t, "the help of recipes");
}
