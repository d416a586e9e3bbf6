/*
 * family_layers.c - the families models, mentor_seq and frozenset: trees, and the live policy on
 * them. Where a step carries a document overlay, the overlay is what counts.
 */
#include "golden/golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- models */

static void check_model(golden_run *g, const golden_model *m)
{
    const json_t *parameters = json_object_get(m->json, "parameters"), *p;
    const json_t *layers = json_object_get(m->json, "layer_names");
    size_t i, n = 0;

    golden_check(g, thaw_tree_n_params(m->tree) == m->n_params, "%s: %d parameters, want %d",
                 m->name, thaw_tree_n_params(m->tree), m->n_params);
    json_array_foreach(parameters, i, p)
    {
        const char *name = thaw_tree_param_name(m->tree, (int)i);

        golden_check(g, !strcmp(name, text_of(p, "name")), "%s: parameter %zu is '%s', want '%s'",
                     m->name, i, name, text_of(p, "name"));
        golden_check(g,
                     thaw_tree_param_numel(m->tree, (int)i) ==
                         json_integer_value(json_object_get(p, "numel")),
                     "%s: size of '%s'", m->name, name);
    }
    for (int k = 0; k < thaw_tree_n_modules(m->tree); k++) {
        const char *want = json_string_value(json_array_get(layers, n));

        if (!thaw_tree_is_layer(m->tree, k))
            continue;
        golden_check(g, want && !strcmp(want, thaw_tree_module_path(m->tree, k)),
                     "%s: layer %zu is '%s', want '%s'", m->name, n,
                     thaw_tree_module_path(m->tree, k), want ? want : "(none)");
        n++;
    }
    golden_check(g, n == json_array_size(layers), "%s: %zu layers, want %zu", m->name, n,
                 json_array_size(layers));
}

void golden_models(golden_run *g, const json_t *root)
{
    const char *name;
    json_t *json;

    json_object_foreach(json_object_get(root, "models"), name,
                        json) for (const golden_model *m = g->models; m;
                                   m = m->next) if (m->json == json) check_model(g, m);
}

/* ---- mentor_seq */

typedef struct sequence {
    golden_run *g;
    const golden_model *model;
    thaw_policy *policy;
    const char *id;
    size_t number; /* of the step */
    char *saved;
} sequence;

static double number_of(const json_t *args, const char *key, double otherwise)
{
    const json_t *v = json_object_get(args, key);

    return v ? json_number_value(v) : otherwise;
}

static thaw_rates rates_of(const json_t *args)
{
    thaw_rates r = THAW_RATES_INIT;

    r.lr = number_of(args, "lr", r.lr);
    r.step_size = (int64_t)number_of(args, "step_size", (double)r.step_size);
    r.gamma = number_of(args, "gamma", r.gamma);
    return r;
}

static thaw_status resume(sequence *s, const thaw_rates *rates)
{
    char *json = NULL;
    thaw_status status;

    THAW_CHECK(thaw_policy_save(&json, s->policy));
    status = thaw_policy_load(s->policy, json, rates);
    thaw_text_free(json);
    return status;
}

static thaw_status run_op(sequence *s, const char *op, const json_t *args, int *layers,
                          int *n_layers)
{
    int n;
    const char **patterns = golden_texts(&n, json_object_get(args, "patterns"));
    const thaw_rebuild rebuild =
        json_is_true(json_object_get(args, "reset")) ? THAW_REBUILD_IF_NEEDED : THAW_REBUILD_REFUSE;
    const thaw_rates rates = rates_of(args);
    const double coefficient = number_of(args, "coefficient", 1);
    thaw_status status = THAW_OK;

    if (!strcmp(op, "select"))
        status = thaw_policy_select(layers, n_layers, s->policy, patterns, n);
    else if (!strcmp(op, "freeze"))
        status = thaw_policy_freeze(s->policy, patterns, n);
    else if (!strcmp(op, "unfreeze"))
        status = thaw_policy_unfreeze(s->policy, patterns, n, rebuild);
    else if (!strcmp(op, "set_lr"))
        status = thaw_policy_coefficient(s->policy, coefficient, patterns, n, rebuild);
    else if (!strcmp(op, "create"))
        status = thaw_policy_build(s->policy, &rates);
    else if (!strcmp(op, "scheduler_step"))
        thaw_policy_epoch_end(s->policy);
    else if (!strcmp(op, "resume"))
        status = resume(s, NULL);
    else if (!strcmp(op, "resume_training"))
        status = resume(s, &rates);
    else
        golden_check(s->g, false, "%s: unknown operation '%s'", s->id, op);
    thaw__free(patterns);
    return status;
}

static const char *error_type(thaw_status status)
{
    static const struct {
        thaw_status status;
        const char *type;
    } types[] = {{THAW_OK, ""},
                 {THAW_E_NOMATCH, "ValueError"},
                 {THAW_E_RANGE, "ValueError"},
                 {THAW_E_PATTERN, "re.error"},
                 {THAW_E_REBUILD, "RuntimeError"},
                 {THAW_E_MISMATCH, "RuntimeError"}};

    for (size_t i = 0; i < THAW_COUNT(types); i++)
        if (types[i].status == status)
            return types[i].type;
    return thaw_status_name(status);
}

/* Everything of the state that a record tells, compared; true when all of it agrees. */
static bool same_rules(const sequence *s, const json_t *want, bool own)
{
    size_t n = 0;

    for (int m = 0; m < thaw_tree_n_modules(s->model->tree); m++) {
        const thaw_layer_state state = thaw_policy_layer(s->policy, m);
        const json_t *v;
        bool found = false;
        size_t i;

        if (!(own ? state.frozen_own : state.frozen))
            continue;
        json_array_foreach(want, i, v) found =
            found || !strcmp(json_string_value(v), thaw_tree_module_path(s->model->tree, m));
        if (!found)
            return false;
        n++;
    }
    return n == json_array_size(want);
}

static bool same_coefficients(const sequence *s, const json_t *want)
{
    size_t n = 0;

    for (int m = 0; m < thaw_tree_n_modules(s->model->tree); m++) {
        const thaw_layer_state state = thaw_policy_layer(s->policy, m);
        const json_t *v = json_object_get(want, thaw_tree_module_path(s->model->tree, m));

        if (!state.has_coefficient)
            continue;
        if (!v || fabs(json_number_value(v) - state.coefficient) > 1e-9 * fabs(state.coefficient))
            return false;
        n++;
    }
    return n == json_object_size(want);
}

static bool same_group(const sequence *s, const thaw_group *have, const json_t *want)
{
    const json_t *members = json_array_get(want, 1);
    const double lr = json_number_value(json_array_get(want, 2));

    if (have->n_params != (int)json_array_size(members) ||
        !(fabs(have->lr - lr) <= 1e-9 * fabs(lr)))
        return false;
    for (int i = 0; i < have->n_params; i++) {
        const json_int_t p = json_integer_value(json_array_get(members, (size_t)i));

        if (p < 0 || p >= s->model->n_params || s->model->param[p] != have->param[i])
            return false;
    }
    return true;
}

static bool same_groups(const sequence *s, const json_t *want)
{
    if (!want || json_is_null(want))
        return !thaw_policy_has_groups(s->policy);
    if (!thaw_policy_has_groups(s->policy) ||
        thaw_policy_n_groups(s->policy) != (int)json_array_size(want))
        return false;
    for (int i = 0; i < thaw_policy_n_groups(s->policy); i++) {
        const thaw_group have = thaw_policy_group(s->policy, i);
        const json_t *v;
        bool found = false;
        size_t k;

        json_array_foreach(want, k, v)
        {
            const char *layer = json_string_value(json_array_get(v, 0));

            if (layer && !strcmp(layer, have.layer))
                found = same_group(s, &have, v);
        }
        if (!found)
            return false;
    }
    return true;
}

static bool same_layers(const sequence *s, const json_t *want, const int *layers, int n)
{
    if (n != (int)json_array_size(want))
        return false;
    for (int i = 0; i < n; i++)
        if (strcmp(json_string_value(json_array_get(want, (size_t)i)),
                   thaw_tree_module_path(s->model->tree, layers[i])) != 0)
            return false;
    return true;
}

/* The value of a field: the document's where it says one, else the code's. */
static const json_t *wanted(const json_t *code, const json_t *document, const char *key)
{
    const json_t *v = json_object_get(document, key);

    return v ? v : json_object_get(code, key);
}

typedef struct outcome {
    thaw_status status;
    const int *layers;
    int n_layers;
} outcome;

enum { ERROR, FROZEN, FROZEN_OWN, TRAINABLE, COEFFICIENTS, GROUPS, RESULT, FIELDS };

static void compare(bool same[FIELDS], const sequence *s, const outcome *o, const json_t *code,
                    const json_t *document)
{
    const json_t *result = wanted(code, document, "result");
    const thaw_status got = o->status;
    bool flags[4096];

    for (int p = 0; p < thaw_tree_n_params(s->model->tree) && p < 4096; p++)
        flags[p] = thaw_policy_trainable(s->policy, p);
    same[ERROR] = !strcmp(error_type(got), text_of(wanted(code, document, "error"), "type"));
    same[FROZEN] = same_rules(s, wanted(code, document, "frozen"), false);
    same[FROZEN_OWN] = same_rules(s, wanted(code, document, "frozen_own"), true);
    same[TRAINABLE] =
        golden_bits_equal(json_string_value(wanted(code, document, "trainable")), flags, s->model);
    same[COEFFICIENTS] = same_coefficients(s, wanted(code, document, "coefficients"));
    same[GROUPS] = same_groups(s, wanted(code, document, "groups"));
    same[RESULT] = got != THAW_OK || !result || same_layers(s, result, o->layers, o->n_layers);
}

static bool all_same(const bool same[FIELDS])
{
    for (int i = 0; i < FIELDS; i++)
        if (!same[i])
            return false;
    return true;
}

/* An ambiguous step may follow either reading. */
static void check_step(sequence *s, const json_t *step, const outcome *o)
{
    static const char *const names[FIELDS] = {"error",        "frozen", "frozen_own", "trainable",
                                              "coefficients", "groups", "result"};
    const json_t *code = json_object_get(step, "code"),
                 *document = json_object_get(step, "document");
    bool same[FIELDS], other[FIELDS];

    compare(same, s, o, code, document);
    s->g->apart = json_array_size(json_object_get(step, "ambiguous")) > 0;
    if (s->g->apart && !all_same(same)) {
        compare(other, s, o, code, NULL);
        if (all_same(other))
            memcpy(same, other, sizeof(same));
    }
    for (int i = 0; i < FIELDS; i++)
        golden_check(s->g, same[i], "%s step %zu (%s): %s differs; %s", s->id, s->number,
                     text_of(step, "op"), names[i], o->status ? thaw_error() : "");
    s->g->apart = false;
}

static void start_untrained(sequence *s)
{
    const json_t *v;
    size_t i;

    json_array_foreach(json_object_get(s->model->json, "initially_not_trainable"), i, v)
    {
        const int p = s->model->param[json_integer_value(v)];

        if (thaw_policy_start_untrained(s->policy, thaw_tree_param_name(s->model->tree, p)))
            golden_check(s->g, false, "%s: %s", s->id, thaw_error());
    }
}

static void run_sequence(golden_run *g, const json_t *json)
{
    sequence s = {.g = g, .id = text_of(json, "id")};
    const json_t *step;
    int *layers;

    s.model = golden_find_model(g, text_of(json, "model"));
    if (!s.model)
        return;
    if (thaw_policy_create(&s.policy, s.model->tree) != THAW_OK) {
        golden_check(g, false, "%s: %s", s.id, thaw_error());
        return;
    }
    layers = thaw__new((size_t)thaw_tree_n_modules(s.model->tree), sizeof(*layers));
    start_untrained(&s);
    json_array_foreach(json_object_get(json, "steps"), s.number, step)
    {
        outcome o = {.layers = layers};

        o.status =
            run_op(&s, text_of(step, "op"), json_object_get(step, "args"), layers, &o.n_layers);
        check_step(&s, step, &o);
    }
    thaw__free(layers);
    thaw_policy_destroy(s.policy);
}

void golden_mentor_seq(golden_run *g, const json_t *root)
{
    const json_t *sequence;
    size_t i;

    json_array_foreach(json_object_get(root, "sequences"), i, sequence) run_sequence(g, sequence);
}

/* ---- frozenset */

static bool is_member(const json_t *list, const char *path)
{
    const json_t *v;
    size_t i;

    json_array_foreach(list, i, v) if (!strcmp(json_string_value(v), path)) return true;
    return false;
}

static void check_children(golden_run *g, const golden_model *m, const json_t *c)
{
    const json_t *want = json_object_get(c, "result");
    const int parent = thaw_tree_find_module(m->tree, text_of(c, "parent"));
    size_t n = 0;
    bool same = true;

    for (int k = 0; k < thaw_tree_n_modules(m->tree) && same && parent > 0; k++)
        if (thaw_tree_module_parent(m->tree, k) == parent && thaw_tree_is_layer(m->tree, k)) {
            const char *path = json_string_value(json_array_get(want, n++));

            same = path && !strcmp(path, thaw_tree_module_path(m->tree, k));
        }
    golden_check(g, same && n == json_array_size(want), "%s: children of '%s'", m->name,
                 text_of(c, "parent"));
}

static void remove_targets(phase_state *s, const golden_model *m, const json_t *targets)
{
    int n;
    const char **name = golden_texts(&n, targets);

    for (int i = 0; i < n; i++) {
        const int k = thaw_tree_find_module(m->tree, name[i]);

        if (k > 0)
            phase_state_remove_rule(s, k);
    }
    thaw__free(name);
}

static void check_removal(golden_run *g, const golden_model *m, const json_t *c)
{
    const json_t *want = json_object_get(c, "result"), *frozen = json_object_get(c, "frozen"), *v;
    const bool many = json_object_get(c, "targets");
    phase_state s;
    size_t i, n = 0;
    bool same = true;

    if (phase_state_init(&s, m->tree) != THAW_OK)
        return;
    json_array_foreach(frozen, i, v)
    {
        const int k = thaw_tree_find_module(m->tree, json_string_value(v));

        if (k > 0)
            phase_state_insert_rule(&s, k);
    }
    remove_targets(&s, m, json_object_get(c, many ? "targets" : "target"));
    for (int k = 0; k < thaw_tree_n_modules(m->tree); k++)
        if (s.rule[k] & RULE_SUBTREE) {
            same = same && is_member(want, thaw_tree_module_path(m->tree, k));
            n++;
        }
    golden_check(g, same && n == json_array_size(want), "%s: removing '%s' gives another set",
                 m->name, many ? "several layers" : text_of(c, "target"));
    phase_state_done(&s);
}

void golden_frozenset(golden_run *g, const json_t *root)
{
    const json_t *c;
    size_t i;

    json_array_foreach(json_object_get(root, "cases"), i, c)
    {
        const golden_model *m = golden_find_model(g, text_of(c, "model"));

        if (!m)
            continue;
        if (!strcmp(text_of(c, "fn"), "immediate_children"))
            check_children(g, m, c);
        else
            check_removal(g, m, c);
    }
}
