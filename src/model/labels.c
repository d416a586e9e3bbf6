/*
 * labels.c - names of the classes in config.json, under the keys of Hugging Face: id2label and
 * label2id.
 */
#include "model/model.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const char *name_of(char buffer[32], const model_config *c, int64_t i)
{
    if (i < c->n_labels)
        return c->label[i];
    (void)snprintf(buffer, 32, "LABEL_%lld", (long long)i);
    return buffer;
}

void model_labels_print(text *out, const model_config *c)
{
    char buffer[32];

    if (c->regression)
        text_add(out, "  \"problem_type\": \"regression\",\n");
    if (c->n_labels == 0)
        return;
    text_add(out, "  \"id2label\": {");
    for (int64_t i = 0; i < c->n_classes; i++) {
        text_addf(out, "%s\"%lld\": ", i ? ", " : "", (long long)i);
        text_add_json_string(out, name_of(buffer, c, i));
    }
    text_add(out, "},\n  \"label2id\": {");
    for (int64_t i = 0; i < c->n_classes; i++) {
        text_add(out, i ? ", " : "");
        text_add_json_string(out, name_of(buffer, c, i));
        text_addf(out, ": %lld", (long long)i);
    }
    text_add(out, "},\n");
}

static thaw_status copy_names(model_config *c, const json_t *names, thaw_region *region)
{
    const size_t n = json_object_size(names);
    const char **label = region_alloc(region, n, sizeof *label);
    char key[32];

    for (size_t i = 0; label && i < n; i++) {
        const json_t *v;

        (void)snprintf(key, sizeof key, "%zu", i);
        v = json_object_get(names, key);
        if (!json_is_string(v)) /* not numbered 0, 1, …: they are of no use */
            return THAW_OK;
        label[i] = region_strdup(region, json_string_value(v));
        if (!label[i])
            label = NULL;
    }
    if (!label)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the names of %zu classes", n);
    c->label = label;
    c->n_labels = (int)n;
    return THAW_OK;
}

thaw_status model_labels_parse(model_config *c, const char *json, size_t size, const char *file,
                               thaw_region *region)
{
    json_t *root = NULL;
    const json_t *names;
    const char *problem;
    thaw_status status = THAW_OK;

    THAW_CHECK(json_parse(&root, json, size, file));
    problem = json_string_value(json_object_get(root, "problem_type"));
    c->regression = problem && strcmp(problem, "regression") == 0;
    names = json_object_get(root, "id2label");
    if (json_is_object(names) && json_object_size(names) > 0 &&
        json_object_size(names) <= (size_t)c->n_classes)
        status = copy_names(c, names, region);
    json_decref(root);
    return status;
}
