/*
 * pickle_tree - what a pickle has made, looked at: items, keys, and that nothing contains itself.
 */
#include "ckpt/ckpt.h"

#include <string.h>

#define DEEPEST 200

static bool has_items(const pickle_value *v)
{
    return v->kind == PICKLE_TUPLE || v->kind == PICKLE_LIST || v->kind == PICKLE_DICT ||
           v->kind == PICKLE_TENSOR;
}

void pickle_destroy(pickle *p)
{
    if (!p)
        return;
    thaw__free(p->value);
    thaw__free(p->cell);
    thaw__free(p);
}

const pickle_value *pickle_item(const pickle *p, const pickle_value *v, uint32_t i)
{
    uint32_t cell;

    if (!has_items(v) || i >= v->n)
        return NULL;
    for (cell = v->first; i > 0; i--)
        cell = p->cell[cell].next;
    return &p->value[p->cell[cell].value];
}

bool pickle_is_text(const pickle_value *v, const char *text)
{
    return v && v->kind == PICKLE_TEXT && strlen(text) == v->n && memcmp(v->text, text, v->n) == 0;
}

const pickle_value *pickle_get(const pickle *p, const pickle_value *dict, const char *key)
{
    const pickle_value *found = NULL;
    uint32_t cell = dict->first;

    if (dict->kind != PICKLE_DICT)
        return NULL;
    for (uint32_t i = 0; i + 1 < dict->n; i += 2) {
        const pickle_cell *const k = &p->cell[cell], *const v = &p->cell[k->next];

        if (pickle_is_text(&p->value[k->value], key))
            found = &p->value[v->value];
        cell = v->next;
    }
    return found;
}

/* ----------------------------------------------------------------------------------------------
 * no value contains itself
 */

typedef struct visit {
    uint32_t value, cell, left;
} visit;

static thaw_status enter(visit *path, int *depth, pickle *p, uint32_t value)
{
    pickle_value *const v = &p->value[value];

    if (!has_items(v) || v->done)
        return THAW_OK;
    if (v->open)
        return thaw_fail(THAW_E_DATA, "a value of the pickle contains itself");
    if (*depth == DEEPEST)
        return thaw_fail(THAW_E_LIMIT, "values nested more than %d deep", DEEPEST);
    v->open = true;
    path[(*depth)++] = (visit){value, v->first, v->n};
    return THAW_OK;
}

/* Depth first, with the path as an explicit stack: each value is entered once. */
thaw_status pickle_check_acyclic(pickle *p)
{
    visit path[DEEPEST];
    int depth = 0;

    THAW_CHECK(enter(path, &depth, p, p->root));
    while (depth > 0) {
        visit *const top = &path[depth - 1];
        pickle_cell cell;

        if (top->left == 0) {
            p->value[top->value].open = false;
            p->value[top->value].done = true;
            depth--;
            continue;
        }
        cell = p->cell[top->cell];
        top->cell = cell.next;
        top->left--;
        THAW_CHECK(enter(path, &depth, p, cell.value));
    }
    return THAW_OK;
}
