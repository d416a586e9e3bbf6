/*
 * recipe_print.c - the resolved recipe: every value that holds, as TOML, with where it comes from.
 *
 * What is printed reads back as the same recipe from any folder, since paths are absolute by now.
 */
#include "train/recipe_reader.h"

enum { COMMENT_COLUMN = 40 };

static void add_line(text *out, const toml_value *v)
{
    size_t start = out->length;

    toml_add_key(out, v);
    text_add(out, " = ");
    toml_add_value(out, v);
    text_add(out, " ");
    for (start = out->length - start; start < COMMENT_COLUMN; start++)
        text_add(out, " ");
    if (v->origin)
        text_addf(out, "# %s\n", v->origin);
    else
        text_addf(out, "# line %d\n", v->line);
}

static void add_table(text *out, const toml_value *table)
{
    for (const toml_value *v = table->first; v; v = v->next)
        add_line(out, v);
}

static void add_section(text *out, const char *name, const toml_value *v)
{
    if (v->type == TOML_TABLE && v->n > 0) {
        text_addf(out, "\n[%s]\n", name);
        add_table(out, v);
    }
    if (v->type != TOML_ARRAY)
        return;
    for (const toml_value *item = v->first; item; item = item->next) {
        text_addf(out, "\n[[%s]]\n", name);
        add_table(out, item);
    }
}

void recipe_print(text *out, const recipe_reader *rd)
{
    size_t n;
    const recipe_section *const section = recipe_sections(&n);

    text_add(out, "# Every value of this recipe, and where it comes from: a line of ");
    text_add_repr(out, rd->recipe->name);
    text_add(out, ", --set, or the default.\n");
    for (const toml_value *v = rd->doc->root->first; v; v = v->next)
        if (v->type != TOML_TABLE && v->type != TOML_ARRAY)
            add_line(out, v);
    for (size_t i = 1; i < n; i++) {
        const toml_value *const v = toml_get(rd->doc->root, section[i].name);

        if (v)
            add_section(out, section[i].name, v);
    }
}
