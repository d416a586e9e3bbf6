/*
 * family_patterns.c - the families regex and fnmatch: Python's answers to (pattern, name).
 */
#include "golden/golden.h"

#include <string.h>

/* What Python refuses, we refuse; an extended construct may be named as unsupported instead. */
static void check_regex(golden_run *g, const char *python, const char *name, const json_t *want)
{
    name_pattern *p = NULL;
    thaw_status status = pattern_compile(&p, python);
    bool hit = false;

    if (json_is_string(want)) {
        golden_check(g, status == THAW_E_PATTERN, "'%s' is accepted or fails otherwise: %s", python,
                     status ? thaw_error() : "accepted");
    } else {
        if (status == THAW_OK)
            status = pattern_match(&hit, p, name);
        golden_check(g, status == THAW_OK && hit == json_is_true(want), "'%s' on '%s': %s", python,
                     name,
                     status ? thaw_error()
                     : hit  ? "matches"
                            : "does not match");
    }
    pattern_destroy(p);
}

void golden_regex(golden_run *g, const json_t *root)
{
    const json_t *row;
    size_t i;

    json_array_foreach(json_object_get(root, "cases"), i, row)
        check_regex(g, json_string_value(json_array_get(row, 0)),
                    json_string_value(json_array_get(row, 1)), json_array_get(row, 2));
}

void golden_fnmatch(golden_run *g, const json_t *root)
{
    const json_t *row;
    size_t i;

    json_array_foreach(json_object_get(root, "cases"), i, row)
    {
        const char *python = json_string_value(json_array_get(row, 0));
        const char *name = json_string_value(json_array_get(row, 1));
        name_glob *p = NULL;
        const thaw_status status = glob_compile(&p, python);
        const bool hit = status == THAW_OK && glob_match(p, name);

        golden_check(g, status == THAW_OK && hit == json_is_true(json_array_get(row, 2)),
                     "'%s' on '%s': %s", python, name,
                     status ? thaw_error()
                     : hit  ? "matches"
                            : "does not match");
        glob_destroy(p);
    }
}
