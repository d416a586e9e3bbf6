/*
 * family_config.c - the configuration records of the checkpoint family: a TOML file and
 * command-line overrides in, freeze specs, stages and aliases out, or the error that loading gives.
 *
 * The file belongs to another program, so only the sections and keys that freezing needs are looked
 * at; of an unknown key in a section, the list of the other program's valid keys is not compared.
 */
#include "golden/golden.h"
#include "train/toml.h"
#include "train/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STAGES_MOST 64
#define SPECS_MOST  64

/* What loading makes. A text in `error` means that it failed; "" that it failed, whatever the text.
 */
typedef struct config {
    bool has_vlm;
    char arch[64];
    thaw_freeze_spec freeze[SPECS_MOST];
    int n_freeze;
    thaw_freeze_stage stage[STAGES_MOST];
    thaw_freeze_spec specs[STAGES_MOST][SPECS_MOST];
    int n_stages;
    const json_t *module_patterns; /* NULL: those of the architecture it was made for */
    char made_for[64];
    bool ignore;
    int64_t max_text_len;
    text error;
    bool failed;
} config;

/* ---- values: TOML and Python literals, both as JSON */

static json_t *from_toml(const toml_value *v)
{
    json_t *out;

    switch (v->type) {
    case TOML_INTEGER:
        return json_integer(v->integer);
    case TOML_FLOAT:
        return json_real(v->real);
    case TOML_BOOLEAN:
        return json_boolean(v->boolean);
    case TOML_ARRAY:
        out = json_array();
        for (const toml_value *m = v->first; m; m = m->next)
            json_array_append_new(out, from_toml(m));
        return out;
    case TOML_TABLE:
        out = json_object();
        for (const toml_value *m = v->first; m; m = m->next)
            json_object_set_new(out, m->key, from_toml(m));
        return out;
    default:
        return json_string(v->string);
    }
}

/* True, False and None, single quotes and trailing commas become JSON's; what is no literal stays a
 * text, as on the command line. */
static json_t *from_literal(const char *s)
{
    static const struct {
        const char *python, *json;
    } words[] = {{"True", "true"}, {"False", "false"}, {"None", "null"}, {"(", "["},
                 {")", "]"},       {",]", "]"},        {",}", "}"}};
    const char *whole = s;
    text t = TEXT_INIT;
    char quote = 0;
    json_t *out;

    while (*s) {
        size_t w = 0;

        while (!quote && w < THAW_COUNT(words) &&
               strncmp(s, words[w].python, strlen(words[w].python)) != 0)
            w++;
        if (!quote && w < THAW_COUNT(words)) {
            text_add(&t, words[w].json);
            s += strlen(words[w].python);
            continue;
        }
        if ((*s == '\'' || *s == '"') && (!quote || quote == *s)) {
            quote = quote ? 0 : *s;
            text_add(&t, "\"");
        } else {
            text_add_n(&t, s, 1);
        }
        s++;
    }
    out = json_loads(t.data ? t.data : "", JSON_DECODE_ANY, NULL);
    text_done(&t);
    return out ? out : json_string(whole);
}

/* ---- failing as the other program does */

static void fail(config *c, const char *format, ...) THAW_PRINTF(2, 3);
static void fail(config *c, const char *format, ...)
{
    va_list args;

    if (c->failed)
        return;
    c->failed = true;
    va_start(args, format);
    text_vaddf(&c->error, format, args);
    va_end(args);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Unknown keys of a table, sorted; valid ends with NULL and is sorted. */
static void check_keys(config *c, const json_t *table, const char *type, const char *const *valid)
{
    const char *unknown[64], *key;
    size_t n = 0;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)table, key, v)
    {
        size_t k = 0;

        while (valid[k] && strcmp(valid[k], key) != 0)
            k++;
        if (!valid[k] && n < THAW_COUNT(unknown))
            unknown[n++] = key;
    }
    if (!n || c->failed)
        return;
    qsort(unknown, n, sizeof(*unknown), by_text);
    fail(c, "Unknown config keys in %s: [", type);
    for (size_t i = 0; i < n; i++) {
        text_add(&c->error, i ? ", " : "");
        text_add_python(&c->error, unknown[i]);
    }
    text_add(&c->error, "]. Valid keys: [");
    for (size_t k = 0; valid[k]; k++)
        text_addf(&c->error, "%s'%s'", k ? ", " : "", valid[k]);
    text_add(&c->error, "]");
}

static bool to_bool(const json_t *v)
{
    const char *s = json_string_value(v);

    if (s)
        return !strcasecmp(s, "true") || !strcmp(s, "1") || !strcasecmp(s, "yes");
    return json_is_true(v) || (json_is_number(v) && json_number_value(v) != 0);
}

static int64_t to_int(config *c, const json_t *v)
{
    const char *s = json_string_value(v);
    int64_t n = 0;

    if (!s)
        return json_is_boolean(v) ? json_is_true(v) : (int64_t)json_number_value(v);
    if (!parse_int64(&n, s)) {
        fail(c, "invalid literal for int() with base 10: ");
        text_add_python(&c->error, s);
    }
    return n;
}

/* ---- the parts */

static void read_specs(config *c, thaw_freeze_spec *out, int *n, const json_t *list)
{
    static const char *const valid[] = {"frozen", "module", NULL};
    const json_t *v;
    size_t i;

    *n = 0;
    json_array_foreach(list, i, v)
    {
        const json_t *module = json_object_get(v, "module"), *frozen = json_object_get(v, "frozen");

        check_keys(c, v, "FreezeSpec", valid);
        if (!module)
            fail(c, "%s", ""); /* a TypeError, whose text is Python's own */
        if (c->failed || *n >= SPECS_MOST)
            return;
        out[(*n)++] = (thaw_freeze_spec){.module = text_of(v, "module"),
                                         .frozen = !frozen || to_bool(frozen)};
    }
}

static void read_stages(config *c, const json_t *list)
{
    static const char *const valid[] = {"specs", "start_step", NULL};
    const json_t *v;
    size_t i;

    c->n_stages = 0;
    json_array_foreach(list, i, v)
    {
        thaw_freeze_stage *s = &c->stage[c->n_stages];
        const json_t *start = json_object_get(v, "start_step"),
                     *specs = json_object_get(v, "specs");

        check_keys(c, v, "FreezeStage", valid);
        if (!start || !specs)
            fail(c, "%s", "");
        if (c->failed || c->n_stages >= STAGES_MOST)
            return;
        s->start_step = to_int(c, start);
        s->spec = c->specs[c->n_stages];
        read_specs(c, c->specs[c->n_stages], &s->n_specs, specs);
        c->n_stages++;
    }
}

static void check_arch(config *c, const char *arch)
{
    const thaw_alias *aliases;
    int n;

    if (thaw_arch_aliases(&aliases, &n, arch) != THAW_OK)
        fail(c, "%s", thaw_error());
}

/* The checks that every construction of the section ends with. */
static void check_vlm(config *c)
{
    check_arch(c, c->arch);
    if (c->max_text_len <= 0)
        fail(c, "vlm.max_text_len must be positive");
    if (thaw_check_freeze_stages(c->stage, c->n_stages) != THAW_OK)
        fail(c, "%s", thaw_error());
}

/* Keys of architectures that freezing does not look at. */
static bool other_key(const char *key)
{
    static const char *const prefixes[] = {"cross_attention_", "mot_", "moma_"};

    for (size_t i = 0; i < THAW_COUNT(prefixes); i++)
        if (!strncmp(key, prefixes[i], strlen(prefixes[i])))
            return true;
    return false;
}

static const char *class_of(const char *arch)
{
    static const char *const names[][2] = {{"joint_decoder", "JointDecoderConfig"},
                                           {"cross_attention", "CrossAttentionConfig"},
                                           {"mot", "MoTConfig"},
                                           {"moma", "MoMaConfig"}};

    for (size_t i = 0; i < THAW_COUNT(names); i++)
        if (!strcmp(names[i][0], arch))
            return names[i][1];
    return "VLMConfig";
}

static void check_vlm_keys(config *c, const json_t *vlm)
{
    static const char *const valid[] = {"arch",         "freeze",          "freeze_schedule",
                                        "max_text_len", "module_patterns", NULL};
    json_t *ours = json_object(), *v;
    const char *key;

    json_object_foreach((json_t *)(uintptr_t)vlm, key, v) if (!other_key(key))
        json_object_set(ours, key, v);
    check_keys(c, ours, class_of(c->made_for), valid);
    json_decref(ours);
}

static void read_vlm(config *c, const json_t *vlm)
{
    const json_t *v = json_object_get(vlm, "arch");

    if (!json_is_object(vlm))
        return;
    if (v)
        snprintf(c->arch, sizeof(c->arch), "%s", json_string_value(v) ? json_string_value(v) : "");
    if (!c->has_vlm) {
        check_arch(c, c->arch);
        snprintf(c->made_for, sizeof(c->made_for), "%s", c->arch);
    }
    c->has_vlm = true;
    check_vlm_keys(c, vlm);
    if ((v = json_object_get(vlm, "max_text_len")))
        c->max_text_len = to_int(c, v);
    if ((v = json_object_get(vlm, "freeze")))
        read_specs(c, c->freeze, &c->n_freeze, v);
    if ((v = json_object_get(vlm, "freeze_schedule")))
        read_stages(c, v);
    if ((v = json_object_get(vlm, "module_patterns")))
        c->module_patterns = v;
    check_vlm(c);
}

static void read_layer(config *c, const json_t *root)
{
    const json_t *ignore =
        json_object_get(json_object_get(root, "checkpoint"), "ignore_freeze_mismatch");

    read_vlm(c, json_object_get(root, "vlm"));
    if (ignore)
        c->ignore = to_bool(ignore);
}

/* "--section.key=value" as nested tables. */
static json_t *overrides_of(const json_t *cli)
{
    json_t *root = json_object();
    const json_t *v;
    size_t i;

    json_array_foreach(cli, i, v)
    {
        char path[256];
        const char *arg = json_string_value(v), *equals = strchr(arg, '=');
        json_t *at = root, *value;

        if (strncmp(arg, "--", 2) != 0)
            continue;
        snprintf(path, sizeof(path), "%.*s", equals ? (int)(equals - arg - 2) : 255, arg + 2);
        value = equals ? from_literal(equals + 1) : json_true();
        for (char *part = path, *dot; part; part = dot) {
            dot = strchr(part, '.');
            if (dot)
                *dot++ = '\0';
            if (!dot)
                json_object_set_new(at, part, value);
            else if (!json_object_get(at, part))
                json_object_set_new(at, part, json_object());
            at = json_object_get(at, part);
        }
    }
    return root;
}

/* ---- comparing */

static json_t *specs_json(const thaw_freeze_spec *specs, int n)
{
    json_t *list = json_array();

    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_pack("[s, b]", specs[i].module, specs[i].frozen));
    return list;
}

static json_t *patterns_json(const config *c)
{
    const thaw_alias *aliases = NULL;
    int n = 0;
    json_t *out;

    if (c->module_patterns)
        return json_deep_copy(c->module_patterns);
    out = json_object();
    if (thaw_arch_aliases(&aliases, &n, c->made_for) != THAW_OK)
        n = 0;
    for (int i = 0; i < n; i++) {
        json_t *list = json_array();

        for (int k = 0; k < aliases[i].n_patterns; k++)
            json_array_append_new(list, json_string(aliases[i].pattern[k]));
        json_object_set_new(out, aliases[i].name, list);
    }
    return out;
}

static json_t *result_json(const config *c)
{
    json_t *stages = json_array();

    for (int i = 0; i < c->n_stages; i++)
        json_array_append_new(stages, json_pack("[I, o]", (json_int_t)c->stage[i].start_step,
                                                specs_json(c->stage[i].spec, c->stage[i].n_specs)));
    return json_pack("{s: s, s: o, s: o, s: o, s: b, s: b}", "arch", c->arch, "freeze",
                     specs_json(c->freeze, c->n_freeze), "freeze_schedule", stages,
                     "module_patterns", patterns_json(c), "ignore_freeze_mismatch", c->ignore,
                     "encoder_frozen", thaw_encoder_frozen(c->freeze, c->n_freeze));
}

/* Up to the list of valid keys, where the text has one of another program's section. */
static bool same_error(const config *c, const json_t *want)
{
    const char *message = text_of(want, "message"), *valid = strstr(message, " Valid keys: ");
    const char *have = c->error.data ? c->error.data : "";

    if (!c->failed)
        return false;
    if (!strcmp(text_of(want, "type"), "TypeError"))
        return true;
    if (valid && !strstr(message, " in FreezeSpec:") && !strstr(message, " in FreezeStage:"))
        return !strncmp(have, message, (size_t)(valid - message));
    return !strcmp(have, message);
}

static void check_config(golden_run *g, const json_t *record)
{
    const char *toml = text_of(record, "toml"), *name = text_of(record, "name");
    toml_document *document = NULL;
    config *c = thaw__new(1, sizeof(*c));
    json_t *root = NULL, *overrides = overrides_of(json_object_get(record, "cli")), *have = NULL;
    const json_t *want = json_object_get(record, "result");

    c->max_text_len = 512;
    snprintf(c->arch, sizeof(c->arch), "joint_decoder");
    snprintf(c->made_for, sizeof(c->made_for), "joint_decoder");
    c->freeze[c->n_freeze++] = (thaw_freeze_spec){"vision_encoder", true};
    if (toml_parse(&document, toml, strlen(toml), name) != THAW_OK) {
        fail(c, "%s", thaw_error());
    } else {
        root = from_toml(document->root);
        read_layer(c, root);
        if (json_object_size(overrides))
            read_layer(c, overrides);
    }
    if (want) {
        have = result_json(c);
        golden_check(g, !c->failed && json_equal(have, want), "configuration '%s': %s", name,
                     c->failed ? c->error.data : "another result");
    } else {
        golden_check(g, same_error(c, json_object_get(record, "error")),
                     "configuration '%s': '%s', want '%s'", name,
                     c->failed ? c->error.data : "(no error)",
                     text_of(json_object_get(record, "error"), "message"));
    }
    json_decref(have);
    json_decref(root);
    json_decref(overrides);
    toml_destroy(document);
    text_done(&c->error);
    thaw__free(c);
}

void golden_configs(golden_run *g, const json_t *list)
{
    const json_t *record;
    size_t i;

    json_array_foreach(list, i, record) check_config(g, record);
}
