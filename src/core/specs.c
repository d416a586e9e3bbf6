/*
 * specs.c - the step-scheduled form of freezing (SPEC part B): specs name parameters by fnmatch
 * patterns or aliases of them, stages add specs at steps, and metadata records what was meant.
 *
 * Plain functions over plain lists; the schedule builds on the same matching.
 */
#include "core/core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

thaw_status thaw__match_params(selection *out, const thaw_tree *t, const char *const *patterns,
                               int n, bool all_names)
{
    thaw_status status = THAW_OK;
    bool *chosen = thaw__new((size_t)t->n_params, sizeof(*chosen));
    selection made = {.module = thaw__new((size_t)t->n_params, sizeof(int))};
    name_glob *g = NULL;

    if (!chosen || !made.module) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for %d parameters", t->n_params);
        goto done;
    }
    for (int i = 0; i < n; i++) {
        THAW_TRY(glob_compile(&g, patterns[i]));
        for (int p = 0; p < t->n_params && !all_names; p++)
            chosen[p] = chosen[p] || glob_match(g, t->param[p].name);
        for (int e = 0; e < t->n_entries && all_names; e++)
            chosen[t->entry[e].param] =
                chosen[t->entry[e].param] || glob_match(g, t->entry[e].path);
        glob_destroy(g);
        g = NULL;
    }
    for (int p = 0; p < t->n_params; p++)
        if (chosen[p])
            made.module[made.n++] = p;
    *out = made;
    made = (selection){0};
done:
    glob_destroy(g);
    selection_done(&made);
    thaw__free(chosen);
    return status;
}

thaw_status thaw_freeze_params(int64_t *flipped, bool *trainable, const thaw_tree *t,
                               const char *const *patterns, int n, bool frozen)
{
    selection hits;
    int64_t sum = 0;

    THAW_CHECK(thaw__match_params(&hits, t, patterns, n, false));
    for (int i = 0; i < hits.n; i++) {
        const int p = hits.module[i];

        if (trainable[p] == !frozen || (t->param[p].fixed && !frozen))
            continue;
        trainable[p] = !frozen;
        if (__builtin_add_overflow(sum, t->param[p].numel, &sum))
            sum = INT64_MAX;
    }
    selection_done(&hits);
    *flipped = sum;
    return THAW_OK;
}

thaw_status thaw_apply_freeze_specs(thaw_freeze_total *totals, int *n_totals, bool *trainable,
                                    const thaw_tree *t, const thaw_freeze_spec *specs, int n_specs,
                                    const thaw_alias *aliases, int n_aliases)
{
    int n = 0;

    for (int i = 0; i < n_specs; i++) {
        const char *const *pattern = &specs[i].module;
        int n_patterns = 1, at = 0;
        int64_t flipped;

        for (int a = 0; a < n_aliases; a++)
            if (!strcmp(aliases[a].name, specs[i].module)) {
                pattern = aliases[a].pattern;
                n_patterns = aliases[a].n_patterns;
            }
        THAW_CHECK(
            thaw_freeze_params(&flipped, trainable, t, pattern, n_patterns, specs[i].frozen));
        while (at < n && strcmp(totals[at].module, specs[i].module) != 0)
            at++;
        totals[at] = (thaw_freeze_total){.module = specs[i].module, .flipped = flipped};
        n = THAW_MAX(n, at + 1);
    }
    *n_totals = n;
    return THAW_OK;
}

/* ---- what holds at a step */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Byte order of UTF-8 is code-point order, which is Python's. */
static thaw_status fail_module(const char *module, const char *where, const char *const *valid,
                               int n_valid)
{
    const char **sorted = thaw__new((size_t)n_valid, sizeof(*sorted));
    text t = TEXT_INIT;
    thaw_status status;

    if (!sorted)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a message");
    if (n_valid) {
        memcpy(sorted, valid, (size_t)n_valid * sizeof(*sorted));
        qsort(sorted, (size_t)n_valid, sizeof(*sorted), by_text);
    }
    text_add(&t, "FreezeSpec.module=");
    text_add_python(&t, module);
    text_addf(&t, " (from %s) not in known module aliases [", where);
    for (int i = 0; i < n_valid; i++) {
        if (i && !strcmp(sorted[i], sorted[i - 1]))
            continue;
        text_add(&t, i ? ", " : "");
        text_add_python(&t, sorted[i]);
    }
    text_add(&t, "]");
    status = thaw_fail(t.failed ? THAW_E_NOMEM : THAW_E_NOMATCH, "%s", t.failed ? "" : t.data);
    text_done(&t);
    thaw__free(sorted);
    return status;
}

/* The value is replaced, the place kept. */
static void put_spec(thaw_freeze_spec *out, int *n, thaw_freeze_spec spec)
{
    int at = 0;

    while (at < *n && strcmp(out[at].module, spec.module) != 0)
        at++;
    out[at] = spec;
    *n = THAW_MAX(*n, at + 1);
}

static thaw_status put_specs(thaw_freeze_spec *out, int *n, const thaw_freeze_spec *specs,
                             int n_specs, const char *where, const char *const *valid, int n_valid)
{
    for (int i = 0; i < n_specs; i++) {
        bool known = n_valid < 0;

        for (int v = 0; v < n_valid && !known; v++)
            known = !strcmp(valid[v], specs[i].module);
        if (!known)
            return fail_module(specs[i].module, where, valid, n_valid);
        put_spec(out, n, specs[i]);
    }
    return THAW_OK;
}

/* The stage that comes next after number `last` in the order of steps; -1: none. */
static int next_stage(const thaw_freeze_stage *stages, int n, int last)
{
    int found = -1;

    for (int i = 0; i < n; i++) {
        const bool after = last < 0 || stages[i].start_step > stages[last].start_step ||
                           (stages[i].start_step == stages[last].start_step && i > last);

        if (after && (found < 0 || stages[i].start_step < stages[found].start_step))
            found = i;
    }
    return found;
}

thaw_status thaw_effective_freeze(thaw_freeze_spec *out, int *n_out, int64_t step,
                                  const thaw_freeze_spec *base, int n_base,
                                  const thaw_freeze_stage *stages, int n_stages,
                                  const char *const *valid, int n_valid)
{
    char where[64];
    int n = 0;

    THAW_CHECK(put_specs(out, &n, base, n_base, "base", valid, n_valid));
    for (int i = next_stage(stages, n_stages, -1); i >= 0 && stages[i].start_step <= step;
         i = next_stage(stages, n_stages, i)) {
        snprintf(where, sizeof(where), "FreezeStage(start_step=%lld)",
                 (long long)stages[i].start_step);
        THAW_CHECK(put_specs(out, &n, stages[i].spec, stages[i].n_specs, where, valid, n_valid));
    }
    *n_out = n;
    return THAW_OK;
}

/* ---- configuration */

static const char *const transformer[] = {"transformer", "transformer.*"};
static const char *const vision_encoder[] = {"vision_encoder", "vision_encoder.*"};
static const char *const adapter[] = {"adapter", "adapter.*"};
static const char *const cross_layers[] = {"transformer.cross_attention_layers",
                                           "transformer.cross_attention_layers.*"};
static const char *const layers[] = {"transformer.layers", "transformer.layers.*"};

#define COMMON_ALIASES                                                                             \
    {"transformer", transformer, 2}, {"vision_encoder", vision_encoder, 2},                        \
    {                                                                                              \
        "adapter", adapter, 2                                                                      \
    }

static const thaw_alias joint_decoder[] = {COMMON_ALIASES};
static const thaw_alias cross_attention[] = {COMMON_ALIASES, {"cross_attention", cross_layers, 2}};
static const thaw_alias mot[] = {COMMON_ALIASES, {"mot", layers, 2}};
static const thaw_alias moma[] = {COMMON_ALIASES, {"moma", layers, 2}};

static const struct {
    const char *arch;
    const thaw_alias *alias;
    int n;
} archs[] = {{"cross_attention", cross_attention, THAW_COUNT(cross_attention)},
             {"joint_decoder", joint_decoder, THAW_COUNT(joint_decoder)},
             {"moma", moma, THAW_COUNT(moma)},
             {"mot", mot, THAW_COUNT(mot)}};

thaw_status thaw_arch_aliases(const thaw_alias **aliases, int *n_aliases, const char *arch)
{
    text t = TEXT_INIT;
    thaw_status status;

    for (size_t i = 0; i < THAW_COUNT(archs); i++)
        if (!strcmp(archs[i].arch, arch)) {
            *aliases = archs[i].alias;
            *n_aliases = archs[i].n;
            return THAW_OK;
        }
    text_add(&t, "Unknown vlm.arch: ");
    text_add_python(&t, arch);
    text_add(&t, ". Registered: [");
    for (size_t i = 0; i < THAW_COUNT(archs); i++)
        text_addf(&t, "%s'%s'", i ? ", " : "", archs[i].arch);
    text_add(&t, "]. Reserved (not yet implemented): [].");
    status = thaw_fail(t.failed ? THAW_E_NOMEM : THAW_E_NOMATCH, "%s", t.failed ? "" : t.data);
    text_done(&t);
    return status;
}

thaw_status thaw_check_freeze_stages(const thaw_freeze_stage *stages, int n_stages)
{
    for (int i = 1; i < n_stages; i++)
        if (stages[i].start_step <= stages[i - 1].start_step)
            return thaw_fail(THAW_E_RECIPE,
                             "vlm.freeze_schedule start_steps must be strictly monotonic");
    return THAW_OK;
}

bool thaw_encoder_frozen(const thaw_freeze_spec *base, int n_base)
{
    int named = 0;

    for (int i = 0; i < n_base; i++) {
        const char *m = base[i].module;
        const size_t n = strlen("vision_encoder");

        if (strncmp(m, "vision_encoder", n) != 0 || (m[n] && m[n] != '.'))
            continue;
        if (!base[i].frozen)
            return false;
        named++;
    }
    return named > 0;
}

bool thaw_save_due(int64_t step, int64_t interval, int64_t first, int64_t last)
{
    const int64_t into = step - first;

    if (step >= first && step <= last)
        return (into & (into - 1)) == 0;
    return step % interval == 0;
}
