/*
 * blocks.c - a network as an ordered list of blocks, bottom to top, guessed from its names.
 *
 * Siblings that are numbered ("0", "1", …, or "layer1", "layer2", …) are blocks; what holds such
 * siblings somewhere is looked into; anything else is a unit of its own. What comes before the
 * first block is the stem, the last unit that owns parameters is the head, and the rest goes to the
 * block below it. Nothing here depends on an architecture.
 */
#include "core/core.h"

#include <string.h>

/* The part of a module's own name before its digits; 0 digits: it is not numbered. */
static size_t stem_length(const char *path, size_t *digits)
{
    const char *dot = strrchr(path, '.'), *name = dot ? dot + 1 : path;
    size_t n = strlen(name);

    *digits = 0;
    while (n > 0 && name[n - 1] >= '0' && name[n - 1] <= '9') {
        n--;
        ++*digits;
    }
    return n;
}

static bool same_family(const thaw_tree *t, int a, int b)
{
    const char *x = t->module[a].path, *y = t->module[b].path;
    const char *dot = strrchr(x, '.');
    const size_t start = dot ? (size_t)(dot - x) + 1 : 0;
    size_t x_digits, y_digits;
    const size_t n = stem_length(x, &x_digits), m = stem_length(y, &y_digits);

    return x_digits && y_digits && n == m && !strncmp(x + start, y + start, n);
}

/* Whether a module has a numbered sibling that is a layer too. */
static bool is_numbered(const thaw_tree *t, int m)
{
    const int parent = t->module[m].parent;

    if (t->module[m].kind == THAW_MODULE_NORM)
        return false; /* "bn1" and "bn2" go with what they follow */
    for (int c = parent + 1; c < t->module[parent].end; c = t->module[c].end)
        if (c != m && t->module[c].layer && same_family(t, m, c))
            return true;
    return false;
}

static bool holds_numbered(const thaw_tree *t, int m)
{
    for (int c = m + 1; c < t->module[m].end; c++)
        if (t->module[c].layer && is_numbered(t, c))
            return true;
    return false;
}

/*
 * Units in order, and which of them are numbered. A container that is looked into is no unit
 * itself; parameters of its own belong to no block.
 */
static int list_units(int *unit, bool *numbered, const thaw_tree *t)
{
    int n = 0;

    for (int m = 1; m < t->n_modules;) {
        const bool block = t->module[m].layer && is_numbered(t, m);

        if (t->module[m].layer && !block && holds_numbered(t, m)) {
            m++;
            continue;
        }
        if (t->module[m].layer) {
            unit[n] = m;
            numbered[n++] = block;
        }
        m = t->module[m].end;
    }
    return n;
}

static bool owns(const thaw_tree *t, int m)
{
    return t->module[m].param_end > t->module[m].param_begin;
}

/* Number the groups: unit i belongs to group[i]. Returns how many groups there are. */
static int group_units(int *group, const int *unit, const bool *numbered, int n, const thaw_tree *t)
{
    int first = 0, head = n - 1, n_groups = 0;

    while (first < n && !numbered[first])
        first++;
    while (head > 0 && !owns(t, unit[head]))
        head--;
    for (int i = 0; i < n; i++) {
        const bool stem = first < n && i > 0 && i <= first && !numbered[i];
        const bool rest = first < n && i > first && !numbered[i] && i != head;

        n_groups += i == 0 || !(stem || rest || i > head);
        group[i] = n_groups - 1;
    }
    return n_groups;
}

thaw_status thaw__blocks(block_list *out, const thaw_tree *t)
{
    thaw_status status = THAW_OK;
    block_list made = {0};
    bool *numbered = thaw__new((size_t)t->n_modules, sizeof(*numbered));

    made.unit = thaw__new((size_t)t->n_modules, sizeof(*made.unit));
    made.group = thaw__new((size_t)t->n_modules, sizeof(*made.group));
    if (!numbered || !made.unit || !made.group) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for the blocks of a network");
        goto done;
    }
    made.n_units = list_units(made.unit, numbered, t);
    made.n_groups = group_units(made.group, made.unit, numbered, made.n_units, t);
    *out = made;
    made = (block_list){0};
done:
    block_list_done(&made);
    thaw__free(numbered);
    return status;
}

void block_list_done(block_list *b)
{
    thaw__free(b->group);
    thaw__free(b->unit);
    *b = (block_list){0};
}
