/*
 * showview.c - a network's layer tree with parameter counts and, where there is a schedule, who
 * trains in each phase: a column a phase, with the coefficient; '-' is frozen, '~' partly.
 */
#include "train/train.h"

#include <string.h>

/* How the parameters at or below a module stand in one phase. */
typedef struct stand {
    int64_t trainable, total;
    double least, most; /* coefficients of the trainable ones */
} stand;

static bool at_or_below(const char *path, const char *layer)
{
    const size_t n = strlen(layer);

    return n == 0 || (strncmp(path, layer, n) == 0 && (path[n] == '\0' || path[n] == '.'));
}

static stand stand_of(const model *m, const thaw_effect *effect, const char *layer)
{
    stand s = {.least = 1e300, .most = -1};

    for (int i = 0; i < m->n_params; i++) {
        if (!at_or_below(m->tensor[i].name, layer))
            continue;
        const int64_t n = thaw_tree_param_numel(m->tree, i);

        s.total += n;
        if (!effect || !effect->trainable[i])
            continue;
        s.trainable += n;
        s.least = THAW_MIN(s.least, effect->lr_scale[i]);
        s.most = THAW_MAX(s.most, effect->lr_scale[i]);
    }
    return s;
}

static void print_mark(text *out, const stand *s)
{
    if (s->trainable == 0) {
        text_add(out, "-");
        return;
    }
    text_add(out, s->trainable < s->total ? "~x" : "x");
    text_add_double(out, s->least);
    if (s->most > s->least) {
        text_add(out, "…");
        text_add_double(out, s->most);
    }
}

#define NAME_COLUMN 40
#define PHASE_WIDTH 14

static void print_heads(text *out, const thaw_schedule *schedule, int now)
{
    text_add(out, "layer");
    text_pad(out, NAME_COLUMN);
    text_add(out, "  parameters");
    for (int p = 0; schedule && p < thaw_schedule_n_phases(schedule); p++) {
        text_pad(out, NAME_COLUMN + PHASE_WIDTH + (size_t)p * PHASE_WIDTH);
        text_addf(out, "%s%.12s", p == now ? ">" : " ", thaw_schedule_phase_name(schedule, p));
    }
    text_add(out, "\n");
}

static int depth_of(const char *path)
{
    int depth = path[0] != '\0';

    for (; *path; path++)
        depth += *path == '.';
    return depth;
}

static void print_layer(text *out, const model *m, const thaw_effect **effect, int n_phases,
                        int module)
{
    const char *path = thaw_tree_module_path(m->tree, module);
    const char *leaf = strrchr(path, '.');
    const stand all = stand_of(m, NULL, path);
    char count[32];

    if (all.total == 0)
        return;
    for (int d = 1; d < depth_of(path); d++)
        text_add(out, "  ");
    text_add(out, path[0] == '\0' ? "(all)" : leaf ? leaf + 1 : path);
    text_pad(out, NAME_COLUMN);
    text_addf(out, "%12s", format_count(count, all.total));
    for (int p = 0; p < n_phases; p++) {
        const stand s = stand_of(m, effect[p], path);

        text_pad(out, NAME_COLUMN + PHASE_WIDTH + (size_t)p * PHASE_WIDTH + 1);
        print_mark(out, &s);
    }
    text_add(out, "\n");
}

static void print_layer_json(text *out, const model *m, const thaw_effect **effect, int n_phases,
                             int module)
{
    const char *path = thaw_tree_module_path(m->tree, module);
    const stand all = stand_of(m, NULL, path);

    text_add(out, module ? ",\n  {\"layer\": " : "\n  {\"layer\": ");
    text_add_json_string(out, path);
    text_addf(out, ", \"parameters\": %lld, \"phases\": [", (long long)all.total);
    for (int p = 0; p < n_phases; p++) {
        const stand s = stand_of(m, effect[p], path);

        text_addf(out, "%s{\"trainable\": %lld, \"coefficients\": [", p ? ", " : "",
                  (long long)s.trainable);
        if (s.trainable > 0) {
            text_add_json_double(out, s.least);
            text_add(out, ", ");
            text_add_json_double(out, s.most);
        }
        text_add(out, "]}");
    }
    text_add(out, "]}");
}

static thaw_status phase_effects(const thaw_effect ***out, thaw_schedule *schedule)
{
    const int n = schedule ? thaw_schedule_n_phases(schedule) : 0;
    const thaw_effect **effect = thaw__new((size_t)n + 1, sizeof(*effect));
    const thaw_progress start = {0};
    thaw_status status = THAW_OK;

    if (!effect)
        return thaw_fail(THAW_E_NOMEM, "out of memory for %d phases", n);
    for (int p = 0; p < n; p++) {
        thaw_progress at = {0};
        int64_t end;

        thaw_schedule_phase_span(&at.iteration, &end, schedule, &start, p);
        THAW_TRY(thaw_schedule_effect(&effect[p], schedule, &at));
    }
    *out = effect;
    effect = NULL;
done:
    thaw__free(effect);
    return status;
}

thaw_status show_view(text *out, const model *m, const thaw_recipe *recipe, thaw_schedule *schedule,
                      int64_t now, bool json)
{
    const thaw_progress at = {.iteration = now};
    const int here = schedule && now >= 0 ? thaw_schedule_phase_at(schedule, &at) : -1;
    const thaw_effect **effect = NULL;
    const int n = recipe && schedule ? thaw_schedule_n_phases(schedule) : 0;

    THAW_CHECK(phase_effects(&effect, n > 0 ? schedule : NULL));
    if (json)
        text_add(out, "{\"layers\": [");
    else
        print_heads(out, n > 0 ? schedule : NULL, here);
    for (int i = 0; i < thaw_tree_n_modules(m->tree); i++)
        (json ? print_layer_json : print_layer)(out, m, effect, n, i);
    if (json)
        text_addf(out, "\n], \"phase\": %d}\n", here + 1);
    thaw__free(effect);
    return THAW_OK;
}
