/*
 * recipe_stage.c - the step-scheduled form of freezing: parameters named by shell-style patterns,
 * from the start and at fixed steps, beside the phases.
 *
 * Whether a pattern matches a parameter is for the schedule to say, which knows the network.
 */
#include "train/recipe_reader.h"

#include <string.h>

const char **recipe_strings(recipe_reader *rd, int *n, const toml_value *v)
{
    size_t count;
    const toml_value *item = recipe_items(&count, v);
    const char **const out = recipe_alloc(rd, count, sizeof *out);

    *n = 0;
    for (size_t i = 0; out && i < count; i++, item = item->next)
        if (item->type == TOML_STRING)
            out[(*n)++] = recipe_strdup(rd, item->string);
    return out;
}

/* ----------------------------------------------------------------------------------------------
 * reading */

static void read_pattern_list(recipe_reader *rd, thaw_alias *out, const toml_value *v)
{
    size_t n;
    const toml_value *item = recipe_items(&n, v);
    const char **patterns;
    int n_patterns = 0;

    if (v->key_length == 0 || strlen(v->key) != v->key_length)
        recipe_bad_key(rd, v, "a module needs a name");
    for (size_t i = 0; i < n; i++, item = item->next)
        if (item->type != TOML_STRING || strlen(item->string) != item->length)
            recipe_bad_value(
                rd, item, "'module_patterns.%s': expected a pattern in quotes, or a list of them",
                v->key);
    patterns = recipe_strings(rd, &n_patterns, v);
    *out = (thaw_alias){recipe_strdup(rd, v->key), patterns, n_patterns};
}

static void read_module_patterns(recipe_reader *rd)
{
    thaw_recipe *const r = rd->recipe;
    const toml_value *const table = toml_get(rd->doc->root, "module_patterns");

    if (!table)
        return;
    if (table->type != TOML_TABLE) {
        recipe_bad_value(rd, table, "'module_patterns' must be a table of names and patterns");
        return;
    }
    r->module_patterns = recipe_alloc(rd, table->n, sizeof *r->module_patterns);
    for (const toml_value *v = table->first; v && r->module_patterns; v = v->next)
        read_pattern_list(rd, &r->module_patterns[r->n_module_patterns++], v);
}

static bool are_tables(const toml_value *list)
{
    if (!list || list->type != TOML_ARRAY)
        return false;
    for (const toml_value *v = list->first; v; v = v->next)
        if (v->type != TOML_TABLE)
            return false;
    return true;
}

/* Whether there is such a list at the top; something else of the name is a mistake. */
static bool find_list(const toml_value **out, recipe_reader *rd, const char *name)
{
    *out = toml_get(rd->doc->root, name);
    if (*out && !are_tables(*out))
        recipe_bad_value(rd, *out, "'%s' must be a list of tables", name);
    return are_tables(*out);
}

static recipe_place place_of(const toml_value *v)
{
    return (recipe_place){v->line, v->column};
}

/* Each stands where the name of its module does. */
static thaw_freeze_spec *read_specs(recipe_reader *rd, recipe_place **place, int *n,
                                    const toml_value *list)
{
    thaw_freeze_spec *const out = recipe_alloc(rd, list->n, sizeof *out);
    int i = 0;

    *place = recipe_alloc(rd, list->n, sizeof **place);
    for (toml_value *v = list->first; out && v && !rd->no_memory; v = v->next, i++) {
        recipe_read_section(rd, "freeze", v, &out[i]);
        (*place)[i] = place_of(toml_get(v, "module") ? toml_get(v, "module") : v);
    }
    *n = i;
    return out;
}

static void read_stage(recipe_reader *rd, thaw_freeze_stage *out, recipe_stage_place *place,
                       toml_value *table)
{
    const toml_value *const start = toml_get(table, "start_step");
    recipe_place *specs = NULL;

    recipe_read_section(rd, "freeze_schedule", table, out);
    place->at = place_of(start ? start : table);
    if (are_tables(toml_get(table, "specs")))
        out->spec = read_specs(rd, &specs, &out->n_specs, toml_get(table, "specs"));
    place->spec = specs;
}

static void read_schedule(recipe_reader *rd, const toml_value *list)
{
    thaw_recipe *const r = rd->recipe;

    r->freeze_stage = recipe_alloc(rd, list->n, sizeof *r->freeze_stage);
    r->stage_place = recipe_alloc(rd, list->n, sizeof *r->stage_place);
    for (toml_value *v = list->first; v && !rd->no_memory; v = v->next) {
        thaw_freeze_stage *const stage = &r->freeze_stage[r->n_freeze_stages];

        read_stage(rd, stage, &r->stage_place[r->n_freeze_stages++], v);
        if (r->n_freeze_stages > 1 && stage->start_step <= stage[-1].start_step)
            recipe_bad_value(
                rd, toml_get(v, "start_step"),
                "'freeze_schedule' must have rising start_steps, but %lld follows %lld",
                (long long)stage->start_step, (long long)stage[-1].start_step);
    }
}

void recipe_read_stages(recipe_reader *rd)
{
    const toml_value *list;

    read_module_patterns(rd);
    if (find_list(&list, rd, "freeze"))
        rd->recipe->freeze = read_specs(rd, &rd->recipe->freeze_place, &rd->recipe->n_freeze, list);
    if (find_list(&list, rd, "freeze_schedule"))
        read_schedule(rd, list);
}

/* ----------------------------------------------------------------------------------------------
 * use */

thaw_status recipe_add_stages(thaw_schedule *schedule, const thaw_recipe *r)
{
    for (int i = 0; i < r->n_module_patterns; i++)
        THAW_CHECK(thaw_schedule_alias(schedule, r->module_patterns[i].name,
                                       r->module_patterns[i].pattern,
                                       r->module_patterns[i].n_patterns));
    for (int i = 0; i < r->n_freeze; i++)
        THAW_CHECK(thaw_schedule_spec(schedule, r->freeze[i].module, r->freeze[i].frozen));
    for (int i = 0; i < r->n_freeze_stages; i++) {
        const thaw_freeze_stage *const stage = &r->freeze_stage[i];

        THAW_CHECK(thaw_schedule_add_stage(schedule, stage->start_step));
        for (int k = 0; k < stage->n_specs; k++)
            THAW_CHECK(thaw_schedule_spec(schedule, stage->spec[k].module, stage->spec[k].frozen));
    }
    return THAW_OK;
}
