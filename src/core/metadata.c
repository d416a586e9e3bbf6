/*
 * metadata.c - what a checkpoint records of freeze specs, and whether it agrees with what is meant
 * now (SPEC B5, B9). It records intent, not the mask; a digest of the mask belongs beside it.
 */
#include "core/core.h"

#include <stdlib.h>
#include <string.h>

static int order_specs(const void *a, const void *b)
{
    const thaw_freeze_spec *x = a, *y = b;
    const int order = strcmp(x->module, y->module);

    return order ? order : (int)x->frozen - (int)y->frozen;
}

void thaw_canonical_freeze_meta(thaw_freeze_spec *out, int *n_out, const thaw_freeze_spec *specs,
                                int n_specs)
{
    int n = 0;

    *n_out = 0;
    if (n_specs < 1)
        return;
    memcpy(out, specs, (size_t)n_specs * sizeof(*out));
    qsort(out, (size_t)n_specs, sizeof(*out), order_specs);
    for (int i = 0; i < n_specs; i++)
        if (n == 0 || order_specs(&out[n - 1], &out[i]) != 0)
            out[n++] = out[i];
    *n_out = n;
}

static thaw_status canonical(thaw_freeze_spec **out, int *n, const thaw_freeze_spec *specs,
                             int n_specs)
{
    *out = thaw__new((size_t)THAW_MAX(n_specs, 0), sizeof(**out));
    if (!*out)
        return thaw_fail(THAW_E_NOMEM, "out of memory for freeze specs");
    thaw_canonical_freeze_meta(*out, n, specs, n_specs);
    return THAW_OK;
}

thaw_status thaw_freeze_meta_json(char **out, const thaw_freeze_spec *specs, int n_specs)
{
    thaw_status status = THAW_OK;
    thaw_freeze_spec *list;
    text t = TEXT_INIT;
    int n = 0;

    THAW_CHECK(canonical(&list, &n, specs, n_specs));
    text_add(&t, "[");
    for (int i = 0; i < n; i++) {
        text_add(&t, i ? ", {\"module\": " : "{\"module\": ");
        text_add_ascii_json(&t, list[i].module);
        text_addf(&t, ", \"frozen\": %s}", list[i].frozen ? "true" : "false");
    }
    text_add(&t, "]");
    status = text_take(out, &t, "freeze metadata");
    thaw__free(list);
    return status;
}

thaw_status thaw_freeze_metadata_json(char **out, int64_t step, int64_t tokens_seen,
                                      const thaw_freeze_spec *specs, int n_specs)
{
    thaw_status status = THAW_OK;
    thaw_freeze_spec *list;
    text t = TEXT_INIT;
    int n = 0;

    THAW_CHECK(canonical(&list, &n, specs, n_specs));
    text_addf(&t, "{\n  \"step\": %lld,\n  \"tokens_seen\": %lld,\n  \"vlm_freeze\": [",
              (long long)step, (long long)tokens_seen);
    for (int i = 0; i < n; i++) {
        text_add(&t, i ? ",\n    {\n      \"module\": " : "\n    {\n      \"module\": ");
        text_add_ascii_json(&t, list[i].module);
        text_addf(&t, ",\n      \"frozen\": %s\n    }", list[i].frozen ? "true" : "false");
    }
    text_add(&t, n ? "\n  ]\n}" : "]\n}");
    status = text_take(out, &t, "freeze metadata");
    thaw__free(list);
    return status;
}

/* ---- comparing */

/* Saved entries of modules that are expected too stand against expected ones that were saved too.
 */
typedef struct comparison {
    const json_node *saved; /* a list of objects with a module each */
    const thaw_freeze_spec *expected;
    int n_expected;
} comparison;

static const char *saved_module(const json_node *entry)
{
    return json_get(entry, "module")->text;
}

static bool is_expected(const comparison *c, const char *module)
{
    for (int i = 0; i < c->n_expected; i++)
        if (!strcmp(c->expected[i].module, module))
            return true;
    return false;
}

static bool is_saved(const comparison *c, const char *module)
{
    for (const json_node *e = c->saved->first; e; e = e->next)
        if (!strcmp(saved_module(e), module))
            return true;
    return false;
}

/* Python holds 1 and 1.0 equal to True, 0 to False; any further key makes entries differ. */
static bool same_entry(const json_node *saved, const thaw_freeze_spec *expected)
{
    const json_node *frozen = json_get(saved, "frozen");
    double number;

    for (const json_node *v = saved->first; v; v = v->next)
        if (strcmp(v->key, "module") != 0 && strcmp(v->key, "frozen") != 0)
            return false;
    if (!frozen || strcmp(saved_module(saved), expected->module) != 0)
        return false;
    if (frozen->kind == JSON_IS_BOOL)
        return frozen->truth == expected->frozen;
    return frozen->kind == JSON_IS_NUMBER && parse_double(&number, frozen->text) &&
           number == (expected->frozen ? 1.0 : 0.0);
}

static bool lists_agree(const comparison *c)
{
    const json_node *e = c->saved->first;
    int i = 0;

    for (;;) {
        while (e && !is_expected(c, saved_module(e)))
            e = e->next;
        while (i < c->n_expected && !is_saved(c, c->expected[i].module))
            i++;
        if (!e || i == c->n_expected)
            return !e && i == c->n_expected;
        if (!same_entry(e, &c->expected[i]))
            return false;
        e = e->next;
        i++;
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void add_names(text *t, const char **name, size_t n)
{
    if (n)
        qsort(name, n, sizeof(*name), by_name);
    text_add(t, "[");
    for (size_t i = 0, told = 0; i < n; i++) {
        if (i && !strcmp(name[i], name[i - 1]))
            continue;
        text_add(t, told++ ? ", " : "");
        text_add_python(t, name[i]);
    }
    text_add(t, "]");
}

/* " (cross-arch keys ignored: saved-only=[...], current-only=[...])", or nothing. */
static void add_dropped(text *t, const comparison *c)
{
    size_t n_saved = 0, n_entries = 0, n_current = 0;
    const char **name;

    for (const json_node *e = c->saved->first; e; e = e->next)
        n_entries++;
    name = thaw__new(n_entries + (size_t)c->n_expected, sizeof(*name));
    if (!name) {
        t->failed = true;
        return;
    }
    for (const json_node *e = c->saved->first; e; e = e->next)
        if (!is_expected(c, saved_module(e)))
            name[n_saved++] = saved_module(e);
    for (int i = 0; i < c->n_expected; i++)
        if (!is_saved(c, c->expected[i].module))
            name[n_saved + n_current++] = c->expected[i].module;
    if (n_saved + n_current) {
        text_add(t, " (cross-arch keys ignored: saved-only=");
        add_names(t, name, n_saved);
        text_add(t, ", current-only=");
        add_names(t, name + n_saved, n_current);
        text_add(t, ")");
    }
    thaw__free(name);
}

static void add_difference(text *t, const comparison *c, const char *folder)
{
    const char *comma = "";

    text_addf(t, "VLM freeze mismatch at %s: saved=[", folder);
    for (const json_node *e = c->saved->first; e; e = e->next)
        if (is_expected(c, saved_module(e))) {
            text_add(t, comma);
            text_add_python_value(t, e);
            comma = ", ";
        }
    text_add(t, "], current=[");
    comma = "";
    for (int i = 0; i < c->n_expected; i++)
        if (is_saved(c, c->expected[i].module)) {
            text_addf(t, "%s{'module': ", comma);
            text_add_python(t, c->expected[i].module);
            text_addf(t, ", 'frozen': %s}", c->expected[i].frozen ? "True" : "False");
            comma = ", ";
        }
    text_add(t, "]");
    add_dropped(t, c);
}

static thaw_status check_entries(const json_node *saved, const char *folder)
{
    if (saved->kind != JSON_IS_LIST)
        return thaw_fail(THAW_E_DATA, "%s/metadata.json: 'vlm_freeze' is no list", folder);
    for (const json_node *e = saved->first; e; e = e->next) {
        const json_node *module = json_get(e, "module");

        if (!module || module->kind != JSON_IS_TEXT)
            return thaw_fail(THAW_E_DATA,
                             "%s/metadata.json: an entry of 'vlm_freeze' names no module", folder);
    }
    return THAW_OK;
}

/* The saved list, or NULL with or without a warning when there is nothing to compare. */
static thaw_status read_saved(const json_node **saved, char **warning, thaw_region *region,
                              const char *folder, const char *metadata)
{
    json_node *root;
    const thaw_status status = json_read(&root, region, metadata);
    text t = TEXT_INIT;

    *saved = NULL;
    if (status == THAW_E_NOMEM)
        return status;
    if (status != THAW_OK) {
        text_addf(&t, "Could not read %s/metadata.json: %s", folder, thaw_error());
        return text_take(warning, &t, "a warning");
    }
    *saved = json_get(root, "vlm_freeze");
    if (*saved && (*saved)->kind == JSON_IS_NULL)
        *saved = NULL;
    return *saved ? check_entries(*saved, folder) : THAW_OK;
}

static thaw_status tell_difference(char **warning, const comparison *c, const char *folder,
                                   bool ignore)
{
    text t = TEXT_INIT;
    thaw_status status;

    add_difference(&t, c, folder);
    if (ignore) {
        text_add(&t, " \xE2\x80\x94 proceeding because checkpoint.ignore_freeze_mismatch=True");
        return text_take(warning, &t, "a warning");
    }
    text_add(&t, " (set checkpoint.ignore_freeze_mismatch=true to override)");
    status = thaw_fail(t.failed ? THAW_E_NOMEM : THAW_E_MISMATCH, "%s", t.failed ? "" : t.data);
    text_done(&t);
    return status;
}

thaw_status thaw_freeze_metadata_compare(char **warning, const char *folder, const char *metadata,
                                         const thaw_freeze_spec *expected, int n_expected,
                                         bool ignore)
{
    thaw_status status = THAW_OK;
    thaw_region *region = NULL;
    thaw_freeze_spec *list = NULL;
    comparison c;
    char *said = NULL;

    if (!metadata || n_expected < 0) {
        *warning = NULL;
        return THAW_OK;
    }
    THAW_TRY(region_create(&region));
    THAW_TRY(canonical(&list, &c.n_expected, expected, n_expected));
    c.expected = list;
    THAW_TRY(read_saved(&c.saved, &said, region, folder, metadata));
    if (c.saved && !lists_agree(&c))
        THAW_TRY(tell_difference(&said, &c, folder, ignore));
    *warning = said;
done:
    thaw__free(list);
    region_destroy(region);
    return status;
}

bool thaw_peek_saved_step(int64_t *step, const char *metadata)
{
    thaw_region *region = NULL;
    json_node *root;
    const json_node *value = NULL;
    bool found = false;

    if (metadata && region_create(&region) == THAW_OK &&
        json_read(&root, region, metadata) == THAW_OK)
        value = json_get(root, "step");
    if (value && value->kind == JSON_IS_NUMBER)
        found = parse_int64(step, value->text);
    region_destroy(region);
    return found;
}
