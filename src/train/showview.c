/*
 * showview.c - a network's layer tree with parameter counts and, where there is a schedule, who
 * trains in each phase: a column a phase, with coefficient and rate.
 *
 * Numbered blocks that are alike in all of this are shown once. JSON is for programs and shows
 * every layer.
 */
#include "train/train.h"

#include <string.h>

/* ----------------------------------------------------------------------------------------------
 * how a layer stands in a phase */

stand stand_of(const thaw_tree *tree, const thaw_effect *effect, int module)
{
    const tree_module *const m = &tree->module[module];
    stand s = {0};

    for (int p = m->param_begin; p < m->param_end; p++) {
        const double scale = effect ? effect->lr_scale[p] : 1;

        s.total += tree->param[p].numel;
        if (!effect || !effect->trainable[p])
            continue;
        s.least = s.trainable > 0 ? THAW_MIN(s.least, scale) : scale;
        s.most = s.trainable > 0 ? THAW_MAX(s.most, scale) : scale;
        s.trainable += tree->param[p].numel;
    }
    return s;
}

const char *stand_state(const stand *s)
{
    return s->trainable == 0 ? "frozen" : s->trainable < s->total ? "mixed" : "trainable";
}

static void print_range(text *out, double least, double most)
{
    text_add_short_double(out, least);
    if (most > least) {
        text_add(out, "…");
        text_add_short_double(out, most);
    }
}

void stand_print(text *out, const stand *s, double lr)
{
    if (s->trainable == 0) {
        text_add(out, "-");
        return;
    }
    text_add(out, s->trainable < s->total ? "~ " : "x ");
    print_range(out, s->least, s->most);
    text_add(out, "  ");
    print_range(out, lr * s->least, lr * s->most);
}

/* ----------------------------------------------------------------------------------------------
 * blocks that are alike */

typedef struct view {
    const outlook *o;
    const thaw_tree *tree;
    const thaw_effect **effect; /* [n_phases] */
    int n_phases;
    int *alike; /* [n_modules] how many siblings, with itself, a line stands for; 0: not shown */
    int name_column, *column; /* of the parameters; [n_phases] of the phases */
} view;

static const char *leaf_of(const char *path)
{
    const char *dot = strrchr(path, '.');

    return dot ? dot + 1 : path;
}

static bool numbered(const thaw_tree *t, int module)
{
    const char *leaf = leaf_of(t->module[module].path);

    return *leaf && strspn(leaf, "0123456789") == strlen(leaf);
}

static bool same_params(const view *v, int a, int b, int n)
{
    for (int i = 0; i < n; i++) {
        if (v->tree->param[a + i].numel != v->tree->param[b + i].numel)
            return false;
        for (int p = 0; p < v->n_phases; p++)
            if (v->effect[p]->trainable[a + i] != v->effect[p]->trainable[b + i] ||
                v->effect[p]->lr_scale[a + i] != v->effect[p]->lr_scale[b + i])
                return false;
    }
    return true;
}

/* The same layers with the same parameters, and alike in every phase. */
static bool alike(const view *v, int a, int b)
{
    const tree_module *const m = v->tree->module;
    const size_t skip_a = strlen(m[a].path), skip_b = strlen(m[b].path);
    const int n = m[a].param_end - m[a].param_begin;

    if (m[a].end - a != m[b].end - b || m[b].param_end - m[b].param_begin != n)
        return false;
    for (int i = 1; i < m[a].end - a; i++)
        if (strcmp(m[a + i].path + skip_a, m[b + i].path + skip_b) != 0)
            return false;
    return same_params(v, m[a].param_begin, m[b].param_begin, n);
}

/* Siblings follow one another in pre-order: what is past the end of one is the next. */
static void fold(view *v)
{
    const thaw_tree *t = v->tree;
    const tree_module *const m = t->module;

    for (int i = 0; i < t->n_modules; i++)
        v->alike[i] = 1;
    for (int i = 1; i < t->n_modules; i++) {
        int next = m[i].end;

        if (v->alike[i] == 0 || !m[i].layer || !numbered(t, i))
            continue;
        while (next < t->n_modules && m[next].parent == m[i].parent && m[next].layer &&
               numbered(t, next) && alike(v, i, next)) {
            memset(&v->alike[next], 0, (size_t)(m[next].end - next) * sizeof *v->alike);
            v->alike[i]++;
            next = m[next].end;
        }
    }
}

/* ----------------------------------------------------------------------------------------------
 * text */

static int depth_of(const thaw_tree *t, int module)
{
    int depth = 0;

    for (; t->module[module].parent > 0; module = t->module[module].parent)
        depth++;
    return depth;
}

static void print_name(text *out, const view *v, int module)
{
    const tree_module *const m = v->tree->module;
    int last = module;

    for (int d = depth_of(v->tree, module); d > 0; d--)
        text_add(out, "  ");
    text_add(out, module == 0 ? "(all)" : leaf_of(m[module].path));
    for (int i = 1; i < v->alike[module]; i++)
        last = m[last].end;
    if (last != module)
        text_addf(out, "…%s (%d alike)", leaf_of(m[last].path), v->alike[module]);
}

static void print_head(text *out, const view *v, int phase)
{
    text_addf(out, "%s%d %s", outlook_phase(v->o) == phase ? ">" : "", phase + 1,
              thaw_schedule_phase_name(v->o->schedule, phase));
}

static void print_cell(text *out, const view *v, int module, int phase)
{
    const stand s = stand_of(v->tree, v->effect[phase], module);

    stand_print(out, &s, outlook_rate(v->o, v->effect[phase]));
}

/* The greater of a width and that of a text without line breaks, which is emptied. */
static int widest(int width, text *t)
{
    int own = 0;

    for (size_t i = 0; i < t->length; i++)
        own += ((unsigned char)t->data[i] & 0xC0) != 0x80;
    t->length = 0;
    return THAW_MAX(width, own);
}

static bool shown(const view *v, int module)
{
    return v->alike[module] > 0 &&
           v->tree->module[module].param_end > v->tree->module[module].param_begin;
}

static void measure(view *v)
{
    text t = TEXT_INIT;
    int column = 5;

    for (int m = 0; m < v->tree->n_modules; m++)
        if (shown(v, m)) {
            print_name(&t, v, m);
            column = widest(column, &t);
        }
    v->name_column = column;
    column += 14;
    for (int p = 0; p < v->n_phases; p++) {
        int width;

        v->column[p] = column + 2;
        print_head(&t, v, p);
        width = widest(0, &t);
        for (int m = 0; m < v->tree->n_modules; m++)
            if (shown(v, m)) {
                print_cell(&t, v, m, p);
                width = widest(width, &t);
            }
        column += width + 2;
    }
    text_done(&t);
}

static void print_layer(text *out, const view *v, int module)
{
    const stand all = stand_of(v->tree, NULL, module);
    char count[32];

    print_name(out, v, module);
    text_pad(out, (size_t)v->name_column);
    text_addf(out, "  %12s", format_count(count, all.total));
    for (int p = 0; p < v->n_phases; p++) {
        text_pad(out, (size_t)v->column[p]);
        print_cell(out, v, module, p);
    }
    text_add(out, "\n");
}

static void print_origin(text *out, const outlook *o)
{
    const int phase = outlook_phase(o);

    if (phase < 0)
        return;
    text_addf(out, "%s: iteration %lld, phase %d '%s'\n", o->checkpoint,
              (long long)o->record->iteration, phase + 1,
              thaw_schedule_phase_name(o->schedule, phase));
    for (int i = 0; i < o->record->n_edits; i++) {
        const run_edit *const e = &o->record->edit[i];

        text_addf(out, "edited at iteration %lld: %s", (long long)e->iteration, edit_name(e->kind));
        if (e->kind == THAW_EDIT_LR) {
            text_add(out, " ");
            text_add_double(out, e->coefficient);
        }
        for (int k = 0; k < e->n_patterns; k++)
            text_addf(out, " '%s'", e->pattern[k]);
        text_add(out, "\n");
    }
    text_add(out, "\n");
}

static void print_text(text *out, view *v)
{
    fold(v);
    measure(v);
    print_origin(out, v->o);
    if (v->n_phases > 0)
        text_add(out, "x trains, - is frozen, ~ is mixed; then coefficient and rate, before the "
                      "curve\n\n");
    text_add(out, "layer");
    text_pad(out, (size_t)v->name_column);
    text_add(out, "    parameters");
    for (int p = 0; p < v->n_phases; p++) {
        text_pad(out, (size_t)v->column[p]);
        print_head(out, v, p);
    }
    text_add(out, "\n");
    for (int m = 0; m < v->tree->n_modules; m++)
        if (shown(v, m))
            print_layer(out, v, m);
}

/* ----------------------------------------------------------------------------------------------
 * JSON */

static void print_pair(text *out, const char *name, const stand *s, double scale)
{
    text_addf(out, ", \"%s\": [", name);
    if (s->trainable > 0) {
        text_add_json_double(out, scale * s->least);
        text_add(out, ", ");
        text_add_json_double(out, scale * s->most);
    }
    text_add(out, "]");
}

static void print_layer_json(text *out, const view *v, int module)
{
    const stand all = stand_of(v->tree, NULL, module);

    text_add(out, module ? ",\n  {\"layer\": " : "\n  {\"layer\": ");
    text_add_json_string(out, v->tree->module[module].path);
    text_addf(out, ", \"parameters\": %lld, \"phases\": [", (long long)all.total);
    for (int p = 0; p < v->n_phases; p++) {
        const stand s = stand_of(v->tree, v->effect[p], module);

        text_addf(out, "%s{\"state\": \"%s\", \"trainable\": %lld", p ? ", " : "", stand_state(&s),
                  (long long)s.trainable);
        print_pair(out, "coefficients", &s, 1);
        print_pair(out, "rates", &s, outlook_rate(v->o, v->effect[p]));
        text_add(out, "}");
    }
    text_add(out, "]}");
}

static void print_phases_json(text *out, const view *v)
{
    const thaw_progress now = outlook_now(v->o);

    text_add(out, ", \"phases\": [");
    for (int p = 0; p < v->n_phases; p++) {
        int64_t begin, end;

        thaw_schedule_phase_span(&begin, &end, v->o->schedule, &now, p);
        text_add(out, p ? ",\n  {\"name\": " : "\n  {\"name\": ");
        text_add_json_string(out, thaw_schedule_phase_name(v->o->schedule, p));
        text_addf(out, ", \"begin\": %lld, \"end\": %lld, \"lr\": ", (long long)begin,
                  (long long)end);
        text_add_json_double(out, outlook_rate(v->o, v->effect[p]));
        text_add(out, "}");
    }
    text_add(out, "]");
}

static void print_json(text *out, view *v)
{
    text_addf(out, "{\"phase\": %d", outlook_phase(v->o) + 1);
    if (v->o->record) {
        text_addf(out, ", \"iteration\": %lld, \"edits\": ", (long long)v->o->record->iteration);
        record_print_edits(out, v->o->record);
    }
    print_phases_json(out, v);
    text_add(out, ", \"layers\": [");
    for (int m = 0; m < v->tree->n_modules; m++)
        if (v->tree->module[m].param_end > v->tree->module[m].param_begin)
            print_layer_json(out, v, m);
    text_add(out, "\n]");
}

/* ----------------------------------------------------------------------------------------------
 * both */

thaw_status show_view(text *out, const outlook *o, bool json)
{
    view v = {.o = o, .tree = o->model->tree};
    thaw_status status = THAW_OK;

    v.n_phases = o->schedule ? thaw_schedule_n_phases(o->schedule) : 0;
    v.effect = thaw__new((size_t)v.n_phases, sizeof(*v.effect));
    v.alike = thaw__new((size_t)v.tree->n_modules, sizeof(*v.alike));
    v.column = thaw__new((size_t)v.n_phases, sizeof(*v.column));
    if (!v.effect || !v.alike || !v.column) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for the view of a network");
        goto done;
    }
    for (int p = 0; p < v.n_phases; p++)
        THAW_TRY(outlook_effect(&v.effect[p], o, p, false));
    (json ? print_json : print_text)(out, &v);
    if (o->weights)
        THAW_TRY(match_account(out, o->model, o->weights, json));
    text_add(out, json ? "}\n" : "");
done:
    thaw__free(v.column);
    thaw__free(v.alike);
    thaw__free(v.effect);
    return status;
}
