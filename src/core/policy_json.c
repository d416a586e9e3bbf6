/*
 * policy_json.c - a policy's state as JSON, and back.
 *
 * Everything is kept by name: layers, not positions, so that a state fits a model whose optimizer
 * was built from another mask. Lists are in layer order, so equal states give equal bytes.
 */
#include "core/policy.h"

#include <math.h>
#include <string.h>

/* ---- saving */

static void add_rules(text *t, const thaw_policy *p, const char *key, unsigned rule)
{
    const char *comma = "";

    text_addf(t, ",\n  \"%s\": [", key);
    for (int m = 0; m < p->tree->n_modules; m++)
        if (p->state.rule[m] & rule) {
            text_add(t, comma);
            text_add_json_string(t, p->tree->module[m].path);
            comma = ", ";
        }
    text_add(t, "]");
}

static void add_rates(text *t, const char *key, const thaw_rates *r)
{
    text_addf(t, "\"%s\": {\"lr\": ", key);
    text_add_double(t, r->lr);
    text_addf(t, ", \"step_size\": %lld, \"gamma\": ", (long long)r->step_size);
    text_add_double(t, r->gamma);
    text_add(t, "}");
}

static void add_groups(text *t, const thaw_policy *p)
{
    text_add(t, ",\n  \"optimizer\": {");
    add_rates(t, "built_with", &p->rates);
    text_add(t, ", ");
    add_rates(t, "scheduler", &p->in_force);
    text_addf(t, ", \"epoch\": %lld, \"groups\": [", (long long)p->epoch);
    for (int i = 0; i < p->n_groups; i++) {
        const policy_group *g = &p->group[i];

        text_add(t, i ? ",\n    {\"layer\": " : "\n    {\"layer\": ");
        text_add_json_string(t, p->tree->module[g->module].path);
        text_add(t, ", \"base\": ");
        text_add_double(t, g->base);
        text_add(t, ", \"coefficient\": ");
        text_add_double(t, g->applied);
        text_addf(t, ", \"born\": %lld}", (long long)g->born);
    }
    text_add(t, "]}");
}

thaw_status thaw_policy_save(char **json, const thaw_policy *p)
{
    text t = TEXT_INIT;
    const char *comma = "";

    text_add(&t, "{\n  \"format\": \"thaw-policy-1\"");
    add_rules(&t, p, "frozen", RULE_SUBTREE);
    add_rules(&t, p, "frozen_own", RULE_OWN);
    text_add(&t, ",\n  \"coefficients\": {");
    for (int m = 0; m < p->tree->n_modules; m++)
        if (!isnan(p->state.coefficient[m])) {
            text_add(&t, comma);
            text_add_json_string(&t, p->tree->module[m].path);
            text_add(&t, ": ");
            text_add_double(&t, p->state.coefficient[m]);
            comma = ", ";
        }
    text_add(&t, "}");
    if (p->has_optimizer)
        add_groups(&t, p);
    text_add(&t, "\n}\n");
    return text_take(json, &t, "a policy");
}

/* ---- loading */

static thaw_status find_layer(int *out, const thaw_policy *p, const char *name)
{
    const int m = name ? name_map_get(&p->tree->modules, name) : -1;

    if (!name)
        return thaw_fail(THAW_E_DATA, "a policy has a layer that is no text");
    if (m < 0 || !p->tree->module[m].layer || strcmp(p->tree->module[m].path, name) != 0)
        return thaw_fail(THAW_E_MISMATCH,
                         "the saved policy has a rule for '%s', which is no layer of this model",
                         name);
    *out = m;
    return THAW_OK;
}

/* Own-parameter rules come after subtree rules; one that a subtree rule covers says nothing new. */
static thaw_status load_rules(phase_state *s, const thaw_policy *p, const json_node *list,
                              unsigned rule)
{
    if (!list || list->kind != JSON_IS_LIST)
        return thaw_fail(THAW_E_DATA, "a policy lacks a list of frozen layers");
    for (const json_node *v = list->first; v; v = v->next) {
        int m, above;

        THAW_CHECK(find_layer(&m, p, v->kind == JSON_IS_TEXT ? v->text : NULL));
        if (rule == RULE_SUBTREE) {
            phase_state_insert_rule(s, m);
            continue;
        }
        for (above = m; above >= 0 && !(s->rule[above] & RULE_SUBTREE);)
            above = p->tree->module[above].parent;
        if (above < 0)
            s->rule[m] |= RULE_OWN;
    }
    return THAW_OK;
}

static thaw_status read_double(double *out, const json_node *v, const char *what)
{
    if (!v || v->kind != JSON_IS_NUMBER || !parse_double(out, v->text) || !isfinite(*out))
        return thaw_fail(THAW_E_DATA, "a policy's %s is no number", what);
    return THAW_OK;
}

static thaw_status read_count(int64_t *out, const json_node *v, const char *what)
{
    if (!v || v->kind != JSON_IS_NUMBER || !parse_int64(out, v->text) || *out < 0)
        return thaw_fail(THAW_E_DATA, "a policy's %s is no count", what);
    return THAW_OK;
}

static thaw_status load_coefficients(phase_state *s, const thaw_policy *p, const json_node *object)
{
    if (!object || object->kind != JSON_IS_OBJECT)
        return thaw_fail(THAW_E_DATA, "a policy lacks its coefficients");
    for (const json_node *v = object->first; v; v = v->next) {
        double c;
        int m;

        THAW_CHECK(find_layer(&m, p, v->key));
        THAW_CHECK(read_double(&c, v, "coefficient"));
        THAW_CHECK(thaw__check_coefficient(c));
        s->coefficient[m] = c;
    }
    return THAW_OK;
}

static thaw_status load_state(phase_state *s, const thaw_policy *p, const json_node *root)
{
    const json_node *format = json_get(root, "format");

    if (!format || format->kind != JSON_IS_TEXT || strcmp(format->text, "thaw-policy-1") != 0)
        return thaw_fail(THAW_E_DATA, "the text is no policy of a format known here");
    THAW_CHECK(load_rules(s, p, json_get(root, "frozen"), RULE_SUBTREE));
    THAW_CHECK(load_rules(s, p, json_get(root, "frozen_own"), RULE_OWN));
    THAW_CHECK(load_coefficients(s, p, json_get(root, "coefficients")));
    THAW_CHECK(phase_state_covered(s->scratch[0], s));
    for (int i = 0; i < p->tree->n_params; i++)
        s->trainable[i] = !s->scratch[0][i] && !p->untrained[i] && !p->tree->param[i].fixed;
    return THAW_OK;
}

/* What the saved optimizer says, checked before anything changes. */
typedef struct saved_groups {
    thaw_rates in_force;
    int64_t epoch;
    policy_group *group;
    int n;
    int *of_module; /* [n_modules] number of its group; -1: none */
} saved_groups;

static thaw_status read_group(policy_group *g, const thaw_policy *p, const json_node *v)
{
    const json_node *layer = json_get(v, "layer");

    if (!layer || layer->kind != JSON_IS_TEXT)
        return thaw_fail(THAW_E_DATA, "a policy has a group without a layer");
    g->module = name_map_get(&p->tree->modules, layer->text);
    THAW_CHECK(read_double(&g->base, json_get(v, "base"), "base rate"));
    THAW_CHECK(read_double(&g->applied, json_get(v, "coefficient"), "coefficient"));
    return read_count(&g->born, json_get(v, "born"), "decays");
}

static thaw_status read_groups(saved_groups *out, const thaw_policy *p, const json_node *root)
{
    const json_node *optimizer = json_get(root, "optimizer");
    const json_node *scheduler = json_get(optimizer, "scheduler");
    const json_node *groups = json_get(optimizer, "groups");
    size_t n = 0;

    if (!optimizer)
        return thaw_fail(THAW_E_MISMATCH, "the saved policy has no optimizer groups to go on with");
    if (!groups || groups->kind != JSON_IS_LIST)
        return thaw_fail(THAW_E_DATA, "a policy lacks its groups");
    THAW_CHECK(read_double(&out->in_force.lr, json_get(scheduler, "lr"), "rate"));
    THAW_CHECK(read_double(&out->in_force.gamma, json_get(scheduler, "gamma"), "gamma"));
    THAW_CHECK(read_count(&out->in_force.step_size, json_get(scheduler, "step_size"), "step size"));
    THAW_CHECK(read_count(&out->epoch, json_get(optimizer, "epoch"), "epoch"));
    if (out->in_force.step_size < 1)
        return thaw_fail(THAW_E_DATA, "a policy's step size is 0");
    for (const json_node *v = groups->first; v; v = v->next)
        n++;
    out->group = thaw__new(n, sizeof(*out->group));
    out->of_module = thaw__new((size_t)p->tree->n_modules, sizeof(*out->of_module));
    if (!out->group || !out->of_module)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a policy");
    for (int m = 0; m < p->tree->n_modules; m++)
        out->of_module[m] = -1;
    for (const json_node *v = groups->first; v; v = v->next) {
        policy_group *g = &out->group[out->n];

        THAW_CHECK(read_group(g, p, v));
        if (g->module >= 0)
            out->of_module[g->module] = out->n;
        out->n++;
    }
    return THAW_OK;
}

/* A saved group gives its rate to the layer's; a layer without one starts at its rate now. */
static void adopt_groups(thaw_policy *p, const saved_groups *saved)
{
    p->in_force = saved->in_force;
    p->epoch = saved->epoch;
    for (int g = 0; g < p->n_groups; g++) {
        const int i = saved->of_module[p->group[g].module];

        p->group[g].born = i < 0 ? groups_decays(p) : saved->group[i].born;
        if (i >= 0) {
            p->group[g].base = saved->group[i].base;
            p->group[g].applied = saved->group[i].applied;
        }
    }
}

thaw_status thaw_policy_load(thaw_policy *p, const char *json, const thaw_rates *rates)
{
    thaw_status status = THAW_OK;
    thaw_region *region = NULL;
    json_node *root;
    phase_state fresh = {0}, before;
    saved_groups saved = {0};

    THAW_TRY(region_create(&region));
    THAW_TRY(json_read(&root, region, json));
    THAW_TRY(phase_state_init(&fresh, p->tree));
    THAW_TRY(load_state(&fresh, p, root));
    if (rates)
        THAW_TRY(read_groups(&saved, p, root));
    before = p->state;
    p->state = fresh;
    fresh = before;
    if (rates) {
        status = thaw_policy_build(p, rates);
        if (status != THAW_OK) {
            fresh = p->state;
            p->state = before;
            goto done;
        }
        adopt_groups(p, &saved);
    } else {
        groups_done(p);
    }
done:
    thaw__free(saved.of_module);
    thaw__free(saved.group);
    phase_state_done(&fresh);
    region_destroy(region);
    return status;
}
