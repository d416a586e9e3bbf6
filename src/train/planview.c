/*
 * planview.c - what would happen, per phase, before anything does: who trains at which rate, for
 * how many steps, what backward leaves out, and the memory it takes. As text for people and as JSON
 * for programs.
 */
#include "train/train.h"

#include "train/features.h"

#include <math.h>
#include <string.h>

/* One phase as it will be. */
typedef struct phase_view {
    int number;
    int64_t begin, end;
    const thaw_effect *effect;
    const recipe_phase *settings; /* in force */
    plan *plan;
    feature_outlook features;
} phase_view;

/* Consecutive layers of one top-level module with one rate. */
typedef struct group_run {
    const char *top;
    size_t top_length;
    double lr;
    int layers;
    int64_t elements;
} group_run;

static size_t top_length(const char *path)
{
    return strcspn(path, ".");
}

static int owner(const job *j, int index)
{
    return thaw_tree_param_module(j->model->tree, index);
}

/* The next group of parameters with one owner, from *i on; false at the end. */
static bool next_group(group_run *g, int *module, int *i, const job *j, const phase_view *v)
{
    const params *p = j->params;

    while (*i < p->n_trained && !v->effect->trainable[*i])
        (*i)++;
    if (*i >= p->n_trained)
        return false;
    *module = owner(j, *i);
    *g = (group_run){.top = thaw_tree_module_path(j->model->tree, *module),
                     .lr = v->settings->lr * v->effect->lr_scale[*i] *
                           (v->effect->updated[*i] ? 1 : 0),
                     .layers = 1};
    g->top_length = top_length(g->top);
    for (; *i < p->n_trained && owner(j, *i) == *module; (*i)++)
        if (v->effect->trainable[*i])
            g->elements += (int64_t)p->item[*i].elements;
    return true;
}

static void print_run(text *out, const group_run *g)
{
    char count[32];

    text_addf(out, "    %-24.*s rate ", (int)g->top_length, g->top);
    text_add_short_double(out, g->lr);
    text_pad(out, 48);
    text_addf(out, "%12s parameters in %d layer%s\n", format_count(count, g->elements), g->layers,
              g->layers == 1 ? "" : "s");
}

static void print_groups(text *out, const job *j, const phase_view *v)
{
    group_run run = {0}, g;
    int i = 0, module;

    while (next_group(&g, &module, &i, j, v)) {
        if (run.layers > 0 && run.lr == g.lr && run.top_length == g.top_length &&
            strncmp(run.top, g.top, g.top_length) == 0) {
            run.layers++;
            run.elements += g.elements;
            continue;
        }
        if (run.layers > 0)
            print_run(out, &run);
        run = g;
    }
    if (run.layers > 0)
        print_run(out, &run);
    else
        text_add(out, "    nothing trains\n");
}

static int64_t count_elements(const job *j, const thaw_effect *effect)
{
    int64_t n = 0;

    for (int i = 0; i < j->params->n_trained; i++)
        if (!effect || effect->trainable[i])
            n += (int64_t)j->params->item[i].elements;
    return n;
}

/* ----------------------------------------------------------------------------------------------
 * settings of the optimizer */

typedef struct setting_pair {
    const char *name;
    double own, general; /* of the phase in force, of [optimizer] */
} setting_pair;

/* `rate` is not among them: the groups show it. */
#define SETTINGS 6
static void list_settings(setting_pair out[SETTINGS], const thaw_recipe *r, const recipe_phase *p)
{
    const setting_pair pair[SETTINGS] = {
        {"weight_decay", p->hyper.weight_decay, r->hyper.weight_decay},
        {"momentum", p->hyper.momentum, r->hyper.momentum},
        {"beta1", p->hyper.beta1, r->hyper.beta1},
        {"beta2", p->hyper.beta2, r->hyper.beta2},
        {"eps", p->hyper.eps, r->hyper.eps},
        {"clip_norm", p->clip_norm, r->clip_norm}};

    memcpy(out, pair, sizeof pair);
}

/* Those that are not the recipe's. */
static void print_settings(text *out, const job *j, const phase_view *v)
{
    setting_pair pair[SETTINGS];
    int shown = 0;

    list_settings(pair, j->recipe, v->settings);
    for (int i = 0; i < SETTINGS; i++) {
        if (pair[i].own == pair[i].general)
            continue;
        text_addf(out, "%s%s ", shown++ ? ", " : "    of its own: ", pair[i].name);
        text_add_short_double(out, pair[i].own);
    }
    if (v->settings->hyper.nesterov != j->recipe->hyper.nesterov)
        text_addf(out, "%snesterov %s", shown++ ? ", " : "    of its own: ",
                  v->settings->hyper.nesterov ? "true" : "false");
    text_add(out, shown ? "\n" : "");
}

static void print_settings_json(text *out, const job *j, const phase_view *v)
{
    setting_pair pair[SETTINGS];

    list_settings(pair, j->recipe, v->settings);
    text_addf(out, "\"settings\": {\"nesterov\": %s",
              v->settings->hyper.nesterov ? "true" : "false");
    for (int i = 0; i < SETTINGS; i++) {
        text_addf(out, ", \"%s\": ", pair[i].name);
        text_add_json_double(out, pair[i].own);
    }
    text_add(out, "}");
}

/* ----------------------------------------------------------------------------------------------
 * a phase */

static budget budget_in(const job *j, const phase_view *v)
{
    budget b = j->budget[v->number];

    b.cache = features_foreseen(&v->features, v->plan->batch);
    return b;
}

#define BUDGET_PARTS 9
typedef struct budget_part {
    const char *name, *member; /* for people, in JSON */
    size_t bytes;
} budget_part;

static void list_parts(budget_part out[BUDGET_PARTS], const budget *b)
{
    const budget_part part[BUDGET_PARTS] = {
        {"activations and scratch", "activations", b->activations},
        {"weights", "weights", b->weights},
        {"weights as kernels want them", "packed", b->packed},
        {"gradients", "gradients", b->gradients},
        {"optimizer", "optimizer", b->state},
        {"copies", "copies", b->copies},
        {"data", "data", b->data + b->loading},
        {"cache", "cache", b->cache},
        {"program and libraries", "program", b->libraries}};

    memcpy(out, part, sizeof part);
}

static void print_memory(text *out, const job *j, const phase_view *v)
{
    const budget b = budget_in(j, v);
    budget_part part[BUDGET_PARTS];
    char size[32];

    list_parts(part, &b);
    text_addf(out, "    memory: %s at its peak", format_bytes(size, budget_sum(&b)));
    for (int i = 0; i < BUDGET_PARTS; i++)
        if (part[i].bytes > 0)
            text_addf(out, "%s %s %s", i == 0 ? ":" : ",", part[i].name,
                      format_bytes(size, part[i].bytes));
    text_add(out, "\n");
}

static void print_memory_json(text *out, const job *j, const phase_view *v)
{
    const budget b = budget_in(j, v);
    budget_part part[BUDGET_PARTS];

    list_parts(part, &b);
    text_addf(out, ", \"peak_bytes\": %zu, \"memory\": {", budget_sum(&b));
    for (int i = 0; i < BUDGET_PARTS; i++)
        text_addf(out, "%s\"%s\": %zu", i == 0 ? "" : ", ", part[i].member, part[i].bytes);
    text_add(out, "}");
}

/* Keys of [plan] and [cache] that switch something off, and do. */
static void print_off(text *out, const thaw_recipe *r, bool json)
{
    const struct {
        const char *key;
        bool off;
    } row[] = {{"plan.fold", !r->fold},
               {"plan.fuse", !r->fuse},
               {"plan.inplace", !r->inplace},
               {"plan.winograd", !r->winograd},
               {"plan.recompute", r->recompute == PLAN_RECOMPUTE_NEVER},
               {"plan.tune", r->tune == TUNE_LIBRARY},
               {"cache.features", r->cache_off}};
    const char *before = json ? "" : "switched off: ";
    int n = 0;

    text_add(out, json ? ", \"off\": [" : "");
    for (size_t i = 0; i < THAW_COUNT(row); i++)
        if (row[i].off)
            text_addf(out, json ? "%s\"%s\"" : "%s'%s'", n++ > 0 ? ", " : before, row[i].key);
    text_add(out, json ? "]" : n > 0 ? "\n" : "");
}

/* What is done in the step before it, of each kind. */
static void print_posts(text *out, const plan *p)
{
    static const struct {
        op_kind op[2]; /* the same one twice: alone */
        const char *one, *many;
    } row[] = {{{OP_BATCH_NORM_INFER, OP_BATCH_NORM_INFER}, "norm folded", "norms folded"},
               {{OP_ADD, OP_ADD}, "sum fused", "sums fused"},
               {{OP_RELU, OP_RELU6}, "activation fused", "activations fused"}};
    const char *before = "    forward: ";

    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        const bool two = row[i].op[0] != row[i].op[1];
        const int n =
            plan_count_posts(p, row[i].op[0]) + (two ? plan_count_posts(p, row[i].op[1]) : 0);

        if (n == 0)
            continue;
        text_addf(out, "%s%d %s", before, n, n == 1 ? row[i].one : row[i].many);
        before = ", ";
    }
    if (*before == ',')
        text_add(out, "\n");
    if (plan_count_again(p) > 0)
        text_addf(out, "    backward: %d %s made again instead of kept\n", plan_count_again(p),
                  plan_count_again(p) == 1 ? "result" : "results");
    if (plan_count_shared(p) > 0)
        text_addf(out, "    in place: %d of %d results lie where what they are made of did\n",
                  plan_count_shared(p), p->n_once + p->n_step);
}

static void print_posts_json(text *out, const plan *p)
{
    text_addf(out, ", \"folded\": %d, \"fused\": %d, \"again\": %d, \"shared\": %d",
              plan_count_posts(p, OP_BATCH_NORM_INFER),
              plan_count_posts(p, OP_ADD) + plan_count_posts(p, OP_RELU) +
                  plan_count_posts(p, OP_RELU6),
              plan_count_again(p), plan_count_shared(p));
}

static void print_bf16(text *out, const job *j, const plan *p)
{
    const int n = plan_count_bf16(p), all = p->n_forward;

    if (plans_bf16(j->recipe) == BF16_NONE)
        return;
    text_add(out, "    ");
    plans_print_bf16(out, j->recipe);
    text_addf(out, "; %d of %d forward steps\n", n, all);
}

static void print_phase(text *out, const job *j, const phase_view *v, bool steps)
{
    const plan_teller ways = {exec_tell, j->exec};
    char trainable[32], all[32];
    const int64_t n = count_elements(j, v->effect), total = count_elements(j, NULL);

    text_addf(out, "phase %d of %d: %s, steps %lld to %lld\n", v->number + 1,
              thaw_schedule_n_phases(j->schedule), thaw_schedule_phase_name(j->schedule, v->number),
              (long long)v->begin, (long long)v->end);
    text_addf(out, "    trains %s of %s parameters (%.1f%%)\n", format_count(trainable, n),
              format_count(all, total), 100.0 * (double)n / (double)THAW_MAX(total, 1));
    print_groups(out, j, v);
    print_settings(out, j, v);
    text_addf(out,
              "    backward: %d of %d forward steps need none; %d parameters have no gradient\n",
              v->plan->n_backward_pruned, v->plan->n_forward, v->plan->n_pruned_grads);
    text_addf(out, "    plan: %d steps forward, %d backward, %d updates, batch %lld\n",
              v->plan->n_forward, v->plan->n_step - v->plan->n_forward, v->plan->n_update,
              (long long)v->plan->batch);
    print_posts(out, v->plan);
    print_bf16(out, j, v->plan);
    print_memory(out, j, v);
    text_add(out, "    ");
    features_print(out, j, &v->features);
    text_add(out, "\n");
    if (steps)
        plan_dump(out, v->plan, &ways);
}

static void print_cache_json(text *out, const feature_outlook *o)
{
    if (o->cut.value == NO_VALUE) {
        text_add(out, ", \"cache\": null");
        return;
    }
    text_add(out, ", \"cache\": {\"up_to\": ");
    text_add_json_string(out, o->cut.name);
    text_add(out, ", \"share\": ");
    text_add_json_double(out, o->cut.share);
    text_addf(out, ", \"sample_bytes\": %zu, \"samples\": %lld, \"training\": %s}", o->cut.bytes,
              (long long)o->n_cells, o->training ? "true" : "false");
}

static void print_phase_json(text *out, const job *j, const phase_view *v, bool steps)
{
    const plan_teller ways = {exec_tell, j->exec};
    group_run g;
    int i = 0, module, shown = 0;

    text_addf(out, "%s\n  {\"phase\": %d, \"name\": ", v->number ? "," : "", v->number + 1);
    text_add_json_string(out, thaw_schedule_phase_name(j->schedule, v->number));
    text_addf(
        out,
        ", \"begin\": %lld, \"end\": %lld, \"trainable\": %lld, \"total\": %lld, \"groups\": [",
        (long long)v->begin, (long long)v->end, (long long)count_elements(j, v->effect),
        (long long)count_elements(j, NULL));
    while (next_group(&g, &module, &i, j, v)) {
        text_add(out, shown++ ? ", {\"layer\": " : "{\"layer\": ");
        text_add_json_string(out, thaw_tree_module_path(j->model->tree, module));
        text_add(out, ", \"lr\": ");
        text_add_json_double(out, g.lr);
        text_addf(out, ", \"elements\": %lld}", (long long)g.elements);
    }
    text_add(out, "], ");
    print_settings_json(out, j, v);
    text_addf(out, ", \"forward\": %d, \"backward\": %d", v->plan->n_forward,
              v->plan->n_step - v->plan->n_forward);
    print_memory_json(out, j, v);
    text_addf(out, ", \"bf16\": %d", plan_count_bf16(v->plan));
    print_posts_json(out, v->plan);
    print_cache_json(out, &v->features);
    if (steps) {
        text_add(out, ", \"plan\": ");
        plan_dump_json(out, v->plan, &ways);
    }
    text_add(out, "}");
}

static thaw_status view_phase(phase_view *v, job *j)
{
    const thaw_recipe *r = j->recipe;
    thaw_progress progress = {0};

    thaw_schedule_phase_span(&v->begin, &v->end, j->schedule, &progress, v->number);
    progress.iteration = v->begin;
    THAW_CHECK(thaw_schedule_effect(&v->effect, j->schedule, &progress));
    v->settings = &r->phase[v->effect->built_phase];
    THAW_CHECK(features_foresee(&v->features, j, v->effect));
    return plans_compile(&v->plan, j, v->effect, job_micro_batch(j, v->number),
                         &v->settings->hyper);
}

/* Where kernels are not the table's. */
static void print_tune(text *out, const job *j, bool json)
{
    int n, others;

    tune_count(&n, &others, j);
    if (json && j->recipe->tune == TUNE_MEASURE)
        text_addf(out, ", \"tune\": {\"measured\": %s, \"choices\": %d, \"others\": %d}",
                  j->tuned ? "true" : "false", n, others);
    if (json)
        return;
    if (j->tuned)
        text_addf(out, "kernels: %d choices as measured, %d of them unlike the table's\n", n,
                  others);
    else if (j->recipe->tune == TUNE_MEASURE)
        text_add(out, "kernels: by the table here; a run measures them before its first step\n");
}

thaw_status plan_view(text *out, job *j, bool steps, bool json)
{
    const int n = thaw_schedule_n_phases(j->schedule);
    plan *before = NULL;
    text notes = TEXT_INIT;
    thaw_status status = THAW_OK;

    THAW_TRY(budget_fit(&notes, j, false));

    if (json)
        text_add(out, "{\"phases\": [");
    for (int p = 0; p < n; p++) {
        phase_view v = {.number = p};

        THAW_TRY(view_phase(&v, j));
        if (json)
            print_phase_json(out, j, &v, steps);
        else
            print_phase(out, j, &v, steps);
        if (!json && before) {
            text_add(out, "    ");
            plan_compare(out, before, v.plan);
            text_add(out, "\n");
        }
        plan_destroy(before);
        before = v.plan;
    }
    text_add(out, json ? "\n]" : "");
    print_off(out, j->recipe, json);
    print_tune(out, j, json);
    text_add(out, json ? "}\n" : "");
    if (!json)
        text_addf(out, "%s%s", j->tune_note.data ? j->tune_note.data : "",
                  notes.data ? notes.data : "");
done:
    text_done(&notes);
    plan_destroy(before);
    return status;
}
