/*
 * tree.c - the module tree: grown from names, then numbered once.
 *
 * Sealing walks the tree in pre-order and numbers modules and parameters as they are first met, so
 * that whatever lies below a module is one range of each. The few edges that lead to something
 * already met (tied weights, modules used twice) are kept apart as links.
 */
#include "core/core.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static thaw_status new_module(int *out, thaw_tree *t, const char *path, int parent)
{
    THAW_CHECK(thaw__reserve(&t->module, &t->module_capacity, (size_t)t->n_modules + 1,
                             sizeof(*t->module)));
    const int m = t->n_modules;
    const char *own = region_strdup(t->region, path);

    if (!own)
        return thaw_fail(THAW_E_NOMEM, "out of memory for module '%s'", path);
    THAW_CHECK(name_map_put(&t->modules, own, m));
    t->module[m] = (tree_module){.path = own,
                                 .parent = parent,
                                 .same_as = -1,
                                 .first_child = -1,
                                 .last_child = -1,
                                 .next_sibling = -1,
                                 .entry_begin = -1,
                                 .last_entry = -1};
    if (parent >= 0) {
        tree_module *p = &t->module[parent];

        if (p->last_child < 0)
            p->first_child = m;
        else
            t->module[p->last_child].next_sibling = m;
        p->last_child = m;
    }
    t->n_modules++;
    *out = m;
    return THAW_OK;
}

thaw_status thaw_tree_create(thaw_tree **out)
{
    thaw_status status = THAW_OK;
    thaw_tree *t = thaw__new(1, sizeof(*t));
    int root;

    if (!t)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a module tree");
    THAW_TRY(region_create(&t->region));
    THAW_TRY(new_module(&root, t, "", -1));
    *out = t;
    t = NULL;
done:
    thaw_tree_destroy(t);
    return status;
}

void thaw_tree_destroy(thaw_tree *t)
{
    if (!t)
        return;
    name_map_done(&t->params);
    name_map_done(&t->modules);
    thaw__free(t->reused);
    thaw__free(t->tied);
    thaw__free(t->param);
    thaw__free(t->entry);
    thaw__free(t->module);
    region_destroy(t->region);
    thaw__free(t);
}

/* A name is components joined by single dots, in valid UTF-8. */
static thaw_status check_name(const thaw_tree *t, const char *name)
{
    const size_t n = strlen(name);

    if (t->sealed)
        return thaw_fail(THAW_E_USAGE, "cannot add '%s': the module tree is sealed", name);
    if (!utf8_valid(name))
        return thaw_fail(THAW_E_DATA, "a name is not valid UTF-8: '%s'", name);
    if (!n || name[0] == '.' || name[n - 1] == '.' || strstr(name, ".."))
        return thaw_fail(THAW_E_DATA, "'%s' is no name: components must not be empty", name);
    if (t->n_modules > INT_MAX / 2 || t->n_entries > INT_MAX / 2)
        return thaw_fail(THAW_E_LIMIT, "too many names in one module tree");
    return THAW_OK;
}

/* The module of that path, made with all its ancestors where it is not there. */
static thaw_status reach_module(int *out, thaw_tree *t, const char *path, size_t length)
{
    thaw_status status = THAW_OK;
    char *prefix = thaw__strndup(path, length);
    int at = 0;

    if (!prefix)
        return thaw_fail(THAW_E_NOMEM, "out of memory for module '%s'", path);
    for (size_t i = 0; length && i <= length; i++) {
        if (i < length && prefix[i] != '.')
            continue;
        prefix[i] = '\0';
        int next = name_map_get(&t->modules, prefix);

        if (next < 0)
            THAW_TRY(new_module(&next, t, prefix, at));
        if (t->module[next].same_as >= 0) {
            status = thaw_fail(THAW_E_USAGE,
                               "'%s' is a second path of '%s'; nothing can be added below it",
                               prefix, t->module[t->module[next].same_as].path);
            goto done;
        }
        at = next;
        if (i < length)
            prefix[i] = '.';
    }
    *out = at;
done:
    thaw__free(prefix);
    return status;
}

thaw_status thaw_tree_add_module(int *module_out, thaw_tree *t, const char *path,
                                 thaw_module_kind kind)
{
    int m = 0;

    if (*path) {
        THAW_CHECK(check_name(t, path));
        THAW_CHECK(reach_module(&m, t, path, strlen(path)));
    } else if (t->sealed) {
        return thaw_fail(THAW_E_USAGE, "the module tree is sealed");
    }
    t->module[m].kind = kind;
    if (module_out)
        *module_out = m;
    return THAW_OK;
}

/* Let the module that owns `path` use parameter `param` under that name. */
static thaw_status add_entry(thaw_tree *t, const char *path, int param)
{
    const char *dot = strrchr(path, '.');
    const char *own;
    int m;

    THAW_CHECK(reach_module(&m, t, path, dot ? (size_t)(dot - path) : 0));
    THAW_CHECK(
        thaw__reserve(&t->entry, &t->entry_capacity, (size_t)t->n_entries + 1, sizeof(*t->entry)));
    own = region_strdup(t->region, path);
    if (!own)
        return thaw_fail(THAW_E_NOMEM, "out of memory for parameter '%s'", path);
    THAW_CHECK(name_map_put(&t->params, own, param));
    const int e = t->n_entries++;

    t->entry[e] = (tree_entry){.path = own, .param = param, .next = -1};
    if (t->module[m].last_entry < 0)
        t->module[m].entry_begin = e;
    else
        t->entry[t->module[m].last_entry].next = e;
    t->module[m].last_entry = e;
    return THAW_OK;
}

thaw_status thaw_tree_add_param(thaw_tree *t, const char *name, int64_t numel, bool fixed)
{
    THAW_CHECK(check_name(t, name));
    if (numel < 0)
        return thaw_fail(THAW_E_RANGE, "parameter '%s' has %lld elements", name, (long long)numel);
    if (name_map_get(&t->params, name) >= 0)
        return thaw_fail(THAW_E_USAGE, "parameter '%s' is there twice", name);
    THAW_CHECK(
        thaw__reserve(&t->param, &t->param_capacity, (size_t)t->n_params + 1, sizeof(*t->param)));
    THAW_CHECK(add_entry(t, name, t->n_params));
    t->has_fixed = t->has_fixed || fixed;
    t->param[t->n_params++] = (tree_param){
        .name = t->entry[t->n_entries - 1].path, .numel = numel, .fixed = fixed, .module = -1};
    return THAW_OK;
}

thaw_status thaw_tree_tie(thaw_tree *t, const char *alias, const char *name)
{
    THAW_CHECK(check_name(t, alias));
    const int param = name_map_get(&t->params, name);
    const int module = name_map_get(&t->modules, name);
    const char *dot = strrchr(alias, '.');
    int parent, made;

    if (name_map_get(&t->params, alias) >= 0 || name_map_get(&t->modules, alias) >= 0)
        return thaw_fail(THAW_E_USAGE, "'%s' is there already and cannot become '%s'", alias, name);
    if (param >= 0)
        return add_entry(t, alias, param);
    if (module <= 0)
        return thaw_fail(THAW_E_NOMATCH, "'%s' cannot be tied to '%s', which is not there", alias,
                         name);
    THAW_CHECK(reach_module(&parent, t, alias, dot ? (size_t)(dot - alias) : 0));
    THAW_CHECK(new_module(&made, t, alias, parent));
    t->module[made].same_as = t->module[module].same_as >= 0 ? t->module[module].same_as : module;
    return THAW_OK;
}

/* ---- sealing */

/* What the numbering is made into, beside the growing tree. */
typedef struct sealing {
    tree_module *module;
    tree_entry *entry;
    tree_param *param;
    int n_modules, n_entries, n_params;
    int *module_number, *param_number; /* old: new; -1: not met yet */
} sealing;

static thaw_status add_link(tree_link **list, size_t *capacity, int *n, int module, int target)
{
    THAW_CHECK(thaw__reserve(list, capacity, (size_t)*n + 1, sizeof(**list)));
    (*list)[(*n)++] = (tree_link){.module = module, .target = target};
    return THAW_OK;
}

/* Give a module that is met for the first time its number, and its parameters theirs. */
static thaw_status number_module(sealing *s, thaw_tree *t, int old)
{
    const tree_module *from = &t->module[old];
    const int m = s->n_modules++;
    tree_module *to = &s->module[m];

    *to = *from;
    to->parent = from->parent < 0 ? -1 : s->module_number[from->parent];
    s->module_number[old] = m;
    to->param_begin = s->n_params;
    to->entry_begin = s->n_entries;
    for (int e = from->entry_begin; e >= 0; e = t->entry[e].next) {
        const int old_param = t->entry[e].param;
        const bool tied = s->param_number[old_param] >= 0;

        if (!tied) {
            const int p = s->n_params++;

            s->param_number[old_param] = p;
            s->param[p] = t->param[old_param];
            s->param[p].name = t->entry[e].path;
            s->param[p].module = m;
        } else {
            THAW_CHECK(
                add_link(&t->tied, &t->tied_capacity, &t->n_tied, m, s->param_number[old_param]));
        }
        s->entry[s->n_entries++] =
            (tree_entry){.path = t->entry[e].path, .param = s->param_number[old_param]};
    }
    to->entry_end = s->n_entries;
    to->own_end = s->n_params;
    return THAW_OK;
}

/* A second path: remember where it leads. Only to something complete, or the tree has a cycle. */
static thaw_status link_module(sealing *s, thaw_tree *t, int old)
{
    const tree_module *from = &t->module[old];
    const int target = s->module_number[from->same_as];
    const int parent = s->module_number[from->parent];

    if (target < 0)
        return thaw_fail(THAW_E_USAGE,
                         "'%s' comes before '%s' in the tree; tie them the other way round",
                         from->path, t->module[from->same_as].path);
    for (int a = parent; a >= 0; a = s->module[a].parent)
        if (a == target)
            return thaw_fail(THAW_E_USAGE, "'%s' contains itself as '%s'", s->module[a].path,
                             from->path);
    return add_link(&t->reused, &t->reused_capacity, &t->n_reused, parent, target);
}

/* Pre-order without recursion: first child, else next sibling of the nearest ancestor that has one.
 */
static thaw_status walk(sealing *s, thaw_tree *t)
{
    for (int at = 0; at >= 0;) {
        const bool second = t->module[at].same_as >= 0;

        THAW_CHECK(second ? link_module(s, t, at) : number_module(s, t, at));
        if (t->module[at].first_child >= 0) {
            at = t->module[at].first_child;
            continue;
        }
        while (at >= 0 && t->module[at].next_sibling < 0)
            at = t->module[at].parent;
        if (at >= 0)
            at = t->module[at].next_sibling;
    }
    return THAW_OK;
}

/* Ends of the ranges, and which modules are layers, from the last module to the first. */
static void close_ranges(sealing *s, const thaw_tree *t)
{
    for (int m = s->n_modules - 1; m >= 0; m--) {
        tree_module *it = &s->module[m];

        it->end = THAW_MAX(it->end, m + 1);
        it->param_end = THAW_MAX(it->param_end, it->own_end);
        it->layer = it->layer || it->entry_end > it->entry_begin;
        if (it->parent >= 0) {
            tree_module *up = &s->module[it->parent];

            up->end = THAW_MAX(up->end, it->end);
            up->param_end = THAW_MAX(up->param_end, it->param_end);
            up->layer = up->layer || it->layer;
        }
    }
    for (int i = 0; i < t->n_reused; i++)
        if (s->module[t->reused[i].target].layer)
            for (int a = t->reused[i].module; a >= 0 && !s->module[a].layer;
                 a = s->module[a].parent)
                s->module[a].layer = true;
    s->module[0].layer = false;
}

static int order_links(const void *a, const void *b)
{
    const tree_link *x = a, *y = b;

    return x->module != y->module ? (x->module < y->module ? -1 : 1)
                                  : (x->target > y->target) - (x->target < y->target);
}

static uint64_t tree_digest(const sealing *s)
{
    uint64_t h = HASH_INIT;

    for (int m = 0; m < s->n_modules; m++)
        h = hash_fnv1a_n(h, s->module[m].path, strlen(s->module[m].path) + 1);
    for (int e = 0; e < s->n_entries; e++) {
        h = hash_fnv1a_n(h, s->entry[e].path, strlen(s->entry[e].path) + 1);
        h = hash_fnv1a_n(h, &s->entry[e].param, sizeof(s->entry[e].param));
    }
    return h;
}

/* Take the numbered arrays over, and let the maps give the new numbers. */
static void install(thaw_tree *t, sealing *s)
{
    for (size_t i = 0; i < t->modules.capacity; i++)
        if (t->modules.slot[i].name) {
            const int old = t->modules.slot[i].value;
            const int same = t->module[old].same_as;

            t->modules.slot[i].value = s->module_number[same >= 0 ? same : old];
        }
    for (size_t i = 0; i < t->params.capacity; i++)
        if (t->params.slot[i].name)
            t->params.slot[i].value = s->param_number[t->params.slot[i].value];
    if (t->n_tied)
        qsort(t->tied, (size_t)t->n_tied, sizeof(*t->tied), order_links);
    if (t->n_reused)
        qsort(t->reused, (size_t)t->n_reused, sizeof(*t->reused), order_links);
    THAW_ASSERT(s->n_params == t->n_params && s->n_entries == t->n_entries);
    t->n_modules = s->n_modules;
    t->digest = tree_digest(s);
    thaw__free(t->module);
    thaw__free(t->entry);
    thaw__free(t->param);
    t->module = s->module;
    t->entry = s->entry;
    t->param = s->param;
    s->module = NULL;
    s->entry = NULL;
    s->param = NULL;
    t->sealed = true;
}

thaw_status thaw_tree_seal(thaw_tree *t)
{
    thaw_status status = THAW_OK;
    sealing s = {0};

    if (t->sealed)
        return THAW_OK;
    t->n_tied = t->n_reused = 0;
    s.module = thaw__new((size_t)t->n_modules, sizeof(*s.module));
    s.entry = thaw__new((size_t)t->n_entries, sizeof(*s.entry));
    s.param = thaw__new((size_t)t->n_params, sizeof(*s.param));
    s.module_number = thaw__new((size_t)t->n_modules, sizeof(*s.module_number));
    s.param_number = thaw__new((size_t)t->n_params, sizeof(*s.param_number));
    if (!s.module || !s.entry || !s.param || !s.module_number || !s.param_number) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for %d modules", t->n_modules);
        goto done;
    }
    for (int m = 0; m < t->n_modules; m++)
        s.module_number[m] = -1;
    for (int p = 0; p < t->n_params; p++)
        s.param_number[p] = -1;
    THAW_TRY(walk(&s, t));
    close_ranges(&s, t);
    install(t, &s);
done:
    thaw__free(s.param_number);
    thaw__free(s.module_number);
    thaw__free(s.param);
    thaw__free(s.entry);
    thaw__free(s.module);
    return status;
}

/* ---- asking */

int thaw_tree_n_params(const thaw_tree *t)
{
    return t->n_params;
}

int thaw_tree_n_modules(const thaw_tree *t)
{
    return t->n_modules;
}

const char *thaw_tree_param_name(const thaw_tree *t, int param)
{
    return t->param[param].name;
}

int64_t thaw_tree_param_numel(const thaw_tree *t, int param)
{
    return t->param[param].numel;
}

int thaw_tree_param_module(const thaw_tree *t, int param)
{
    return t->param[param].module;
}

const char *thaw_tree_module_path(const thaw_tree *t, int module)
{
    return t->module[module].path;
}

thaw_module_kind thaw_tree_module_kind(const thaw_tree *t, int module)
{
    return t->module[module].kind;
}

int thaw_tree_module_parent(const thaw_tree *t, int module)
{
    return t->module[module].parent;
}

bool thaw_tree_is_layer(const thaw_tree *t, int module)
{
    return t->module[module].layer;
}

/*
 * Below a second path of a module the names are those of its first: "b.shared.weight" is
 * "a.shared.weight". Replace the shortest such prefix, as often as there is one.
 */
static int find_below_second_path(const thaw_tree *t, const name_map *map, const char *name)
{
    int found = -1;
    char *at = thaw__strdup(name);

    for (int tries = 0; at && tries < 64 && found < 0; tries++) {
        char *dot = at;
        char *longer = NULL;

        while ((dot = strchr(dot, '.')) && !longer) {
            *dot = '\0';
            const int m = name_map_get(&t->modules, at);

            if (m >= 0 && strcmp(t->module[m].path, at) != 0) {
                text joined = TEXT_INIT;

                text_addf(&joined, "%s.%s", t->module[m].path, dot + 1);
                if (text_take(&longer, &joined, "a name") != THAW_OK)
                    longer = NULL;
            }
            *dot++ = '.';
        }
        if (!longer)
            break;
        thaw__free(at);
        at = longer;
        found = name_map_get(map, at);
    }
    thaw__free(at);
    return found;
}

int thaw_tree_find_param(const thaw_tree *t, const char *name)
{
    const int p = name_map_get(&t->params, name);

    return p < 0 && t->n_reused && t->sealed ? find_below_second_path(t, &t->params, name) : p;
}

int thaw_tree_find_module(const thaw_tree *t, const char *path)
{
    const int m = name_map_get(&t->modules, path);

    return m < 0 && t->n_reused && t->sealed ? find_below_second_path(t, &t->modules, path) : m;
}

/* First link that starts at or after a module. */
static int first_link(const tree_link *link, int n, int module)
{
    int low = 0;

    while (low < n) {
        const int middle = low + (n - low) / 2;

        if (link[middle].module < module)
            low = middle + 1;
        else
            n = middle;
    }
    return low;
}

static void visit_range(const thaw_tree *t, int m, tree_visit_fn *visit, void *user)
{
    const tree_module *it = &t->module[m];

    if (it->param_end > it->param_begin)
        visit(user, it->param_begin, it->param_end);
    for (int i = first_link(t->tied, t->n_tied, m); i < t->n_tied && t->tied[i].module < it->end;
         i++)
        visit(user, t->tied[i].target, t->tied[i].target + 1);
}

/*
 * Reused modules can hang below reused modules, and every link leads to an earlier module; so one
 * pass from the last wanted module to the first meets each of them once.
 */
thaw_status thaw__tree_below(const thaw_tree *t, int module, tree_visit_fn *visit, void *user)
{
    bool *wanted;

    visit_range(t, module, visit, user);
    if (!t->n_reused)
        return THAW_OK;
    wanted = thaw__new((size_t)t->n_modules, sizeof(*wanted));
    if (!wanted)
        return thaw_fail(THAW_E_NOMEM, "out of memory for %d modules", t->n_modules);
    wanted[module] = true;
    for (int m = t->n_modules - 1; m >= 0; m--) {
        if (!wanted[m])
            continue;
        if (m != module)
            visit_range(t, m, visit, user);
        for (int i = first_link(t->reused, t->n_reused, m);
             i < t->n_reused && t->reused[i].module < t->module[m].end; i++)
            wanted[t->reused[i].target] = true;
    }
    thaw__free(wanted);
    return THAW_OK;
}
