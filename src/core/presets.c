/*
 * presets.c - well-known ways to fine-tune, expanded into ordinary phases over a network's blocks.
 *
 * A preset only adds phases and changes to an open schedule, which can then be printed as recipe
 * text and edited; nothing remembers that a preset made them.
 */
#include "core/core.h"

#include <math.h>
#include <string.h>

#define PHASES_MOST 10000

typedef struct expansion {
    thaw_schedule *schedule;
    const thaw_tree *tree;
    thaw_preset_options o;
    block_list b;
    const char **pattern; /* scratch: [n_units] names as patterns */
    int n_patterns;
} expansion;

typedef thaw_status expand_fn(expansion *x);

/* ---- helpers of every preset */

static void clear_patterns(expansion *x)
{
    for (int i = 0; i < x->n_patterns; i++)
        thaw__free((void *)(uintptr_t)x->pattern[i]);
    x->n_patterns = 0;
}

static thaw_status add_pattern(expansion *x, int module)
{
    char *escaped;

    THAW_CHECK(thaw_pattern_escape(&escaped, x->tree->module[module].path));
    x->pattern[x->n_patterns++] = escaped;
    return THAW_OK;
}

/* The units of groups [begin, end) as patterns. */
static thaw_status take_groups(expansion *x, int begin, int end)
{
    clear_patterns(x);
    for (int i = 0; i < x->b.n_units; i++)
        if (x->b.group[i] >= begin && x->b.group[i] < end)
            THAW_CHECK(add_pattern(x, x->b.unit[i]));
    return THAW_OK;
}

static thaw_status freeze_groups(expansion *x, int begin, int end)
{
    THAW_CHECK(take_groups(x, begin, end));
    return x->n_patterns ? thaw_schedule_freeze(x->schedule, x->pattern, x->n_patterns) : THAW_OK;
}

static thaw_status set_rate(expansion *x, double coefficient)
{
    if (!x->n_patterns)
        return THAW_OK;
    if (coefficient == 1.0)
        return thaw_schedule_pin(x->schedule, x->pattern, x->n_patterns);
    return thaw_schedule_coefficient(x->schedule, coefficient, x->pattern, x->n_patterns);
}

static thaw_status begin_phase(expansion *x, int64_t length, thaw_optimizer_mode optimizer,
                               const char *format, int number)
{
    text name = TEXT_INIT;
    thaw_phase_options phase = THAW_PHASE_OPTIONS_INIT;
    thaw_status status;

    text_add(&name, format);
    if (number > 0)
        text_addf(&name, " %d", number);
    phase.name = name.failed ? NULL : name.data;
    phase.unit = x->o.unit;
    phase.length = length;
    phase.optimizer = optimizer;
    status = thaw_schedule_add_phase(x->schedule, &phase);
    text_done(&name);
    return status;
}

/* Length of part i of n, as even as whole numbers are, at least 1; the first ones are the longer.
 */
static int64_t share(const expansion *x, int i, int n)
{
    return THAW_MAX(x->o.length / n + (i < x->o.length % n), 1);
}

/* ---- the presets */

/* The modules right below the root, with what containers own, apart from units of groups `end` on.
 */
static thaw_status take_below(expansion *x, int end)
{
    const tree_module *module = x->tree->module;

    clear_patterns(x);
    for (int m = 1; m < x->tree->n_modules; m = module[m].end) {
        bool above = !module[m].layer;

        for (int i = 0; i < x->b.n_units; i++)
            above = above || (x->b.unit[i] == m && x->b.group[i] >= end);
        if (!above)
            THAW_CHECK(add_pattern(x, m));
    }
    return THAW_OK;
}

/* What of groups [begin, end) lies below one of those. */
static thaw_status take_inner(expansion *x, int begin, int end)
{
    clear_patterns(x);
    for (int i = 0; i < x->b.n_units; i++)
        if (x->b.group[i] >= begin && x->b.group[i] < end &&
            x->tree->module[x->b.unit[i]].parent != 0)
            THAW_CHECK(add_pattern(x, x->b.unit[i]));
    return THAW_OK;
}

/* All of the body; what of the head lies below one of its modules. */
static thaw_status take_body(expansion *x)
{
    return take_below(x, x->b.n_groups - 1);
}

static thaw_status take_inner_head(expansion *x)
{
    return take_inner(x, x->b.n_groups - 1, x->b.n_groups);
}

static thaw_status begin_with_head(expansion *x, int64_t length)
{
    THAW_CHECK(begin_phase(x, length, THAW_OPTIMIZER_REBUILD, "head", 0));
    THAW_CHECK(take_body(x));
    THAW_CHECK(thaw_schedule_freeze(x->schedule, x->pattern, x->n_patterns));
    THAW_CHECK(take_inner_head(x));
    return x->n_patterns ? thaw_schedule_unfreeze(x->schedule, x->pattern, x->n_patterns) : THAW_OK;
}

static thaw_status linear_probe(expansion *x)
{
    THAW_CHECK(begin_with_head(x, share(x, 0, 2)));
    THAW_CHECK(begin_phase(x, share(x, 1, 2), THAW_OPTIMIZER_REBUILD, "all", 0));
    THAW_CHECK(take_body(x));
    THAW_CHECK(thaw_schedule_unfreeze(x->schedule, x->pattern, x->n_patterns));
    THAW_CHECK(set_rate(x, x->o.factor));
    THAW_CHECK(take_inner_head(x));
    return set_rate(x, 1.0);
}

/* The last phase thaws by the modules below the root, so that what containers own is not left out.
 */
static thaw_status gradual(expansion *x)
{
    const int n = x->b.n_groups;

    THAW_CHECK(begin_with_head(x, share(x, 0, n)));
    for (int i = 1; i < n; i++) {
        THAW_CHECK(begin_phase(x, share(x, i, n), THAW_OPTIMIZER_REBUILD, "top", i + 1));
        THAW_CHECK(i < n - 1 ? take_groups(x, n - 1 - i, n - i) : take_body(x));
        THAW_CHECK(thaw_schedule_unfreeze(x->schedule, x->pattern, x->n_patterns));
    }
    return THAW_OK;
}

/* As people write it: 0.1 gives 0.01, not the double next to it. */
static double square(double factor)
{
    const double rounded = round(factor * factor * 1e12) / 1e12;

    return rounded > 0 ? rounded : factor * factor;
}

/* The upper half keeps its rate when the rest thaws; a network of one block has no lower half. */
static thaw_status halves(expansion *x)
{
    const int head = x->b.n_groups - 1, half = head > 1 ? (head + 1) / 2 : 0;
    const int parts = half > 0 ? 3 : 2;

    THAW_CHECK(begin_with_head(x, share(x, 0, parts)));
    THAW_CHECK(
        begin_phase(x, share(x, 1, parts), THAW_OPTIMIZER_REBUILD, half ? "upper half" : "all", 0));
    THAW_CHECK(half ? take_groups(x, half, head) : take_body(x));
    THAW_CHECK(thaw_schedule_unfreeze(x->schedule, x->pattern, x->n_patterns));
    THAW_CHECK(set_rate(x, x->o.factor));
    if (half > 0) {
        THAW_CHECK(begin_phase(x, share(x, 2, parts), THAW_OPTIMIZER_REBUILD, "all", 0));
        THAW_CHECK(take_below(x, half));
        THAW_CHECK(thaw_schedule_unfreeze(x->schedule, x->pattern, x->n_patterns));
        THAW_CHECK(set_rate(x, square(x->o.factor)));
        THAW_CHECK(take_inner(x, half, head));
        THAW_CHECK(set_rate(x, x->o.factor));
    }
    THAW_CHECK(take_inner_head(x));
    return set_rate(x, 1.0);
}

static thaw_status discriminative(expansion *x)
{
    const int n = x->b.n_groups;

    THAW_CHECK(begin_phase(x, x->o.length, THAW_OPTIMIZER_REBUILD, "all", 0));
    for (int i = 0; i < n; i++) {
        THAW_CHECK(take_groups(x, i, i + 1));
        THAW_CHECK(set_rate(x, pow(x->o.factor, n - 1 - i)));
    }
    return THAW_OK;
}

/* Only layers that own parameters take an exponent, so no container makes a step of its own and the
 * last layer gets exactly 1 (C6b). */
static thaw_status layer_decay(expansion *x)
{
    const tree_module *module = x->tree->module;
    int depth = 0;

    for (int m = 1; m < x->tree->n_modules; m++)
        depth += module[m].own_end > module[m].param_begin;
    THAW_CHECK(begin_phase(x, x->o.length, THAW_OPTIMIZER_REBUILD, "all", 0));
    for (int m = 1; m < x->tree->n_modules; m++) {
        if (module[m].own_end == module[m].param_begin)
            continue;
        clear_patterns(x);
        THAW_CHECK(add_pattern(x, m));
        THAW_CHECK(set_rate(x, pow(x->o.factor, --depth)));
    }
    return THAW_OK;
}

/* FreezeOut (Brock et al. 2017), linear: block i of n freezes at start + (1 - start) * i / n. */
static thaw_status freeze_out(expansion *x)
{
    const int n = x->b.n_groups;
    int64_t now = 0;

    for (int i = 0; i < n; i++) {
        const double share_at = i < n - 1 ? x->o.start + (1 - x->o.start) * i / n : 1;
        const int64_t end = (int64_t)llround(share_at * (double)x->o.length);

        THAW_CHECK(
            begin_phase(x, THAW_MAX(end - now, 0), THAW_OPTIMIZER_KEEP, i ? "frozen" : "all", i));
        if (i)
            THAW_CHECK(freeze_groups(x, i - 1, i));
        now = THAW_MAX(end, now);
    }
    return THAW_OK;
}

/* chosen[g]: drawn for this phase; depends on the seed and the number of the phase alone. */
static void draw(bool *chosen, const expansion *x, int phase, int first, int end)
{
    char stream[64];
    text name = TEXT_INIT;

    text_addf(&name, "random-blocks/%d", phase);
    strncpy(stream, name.failed ? "" : name.data, sizeof(stream) - 1);
    stream[sizeof(stream) - 1] = '\0';
    text_done(&name);
    memset(chosen, 0, (size_t)x->b.n_groups);
    for (int i = 0; i < x->o.blocks && i < end - first; i++)
        chosen[first + (int)permute((uint64_t)i, (uint64_t)(end - first),
                                    philox_stream(x->o.seed, stream))] = true;
}

static thaw_status change_groups(expansion *x, const bool *from, const bool *to, int first, int end,
                                 bool freeze)
{
    clear_patterns(x);
    for (int i = 0; i < x->b.n_units; i++) {
        const int g = x->b.group[i];

        if (g >= first && g < end && from[g] == freeze && to[g] != freeze)
            THAW_CHECK(add_pattern(x, x->b.unit[i]));
    }
    if (!x->n_patterns)
        return THAW_OK;
    return (freeze ? thaw_schedule_freeze : thaw_schedule_unfreeze)(x->schedule, x->pattern,
                                                                    x->n_patterns);
}

/* LISA (Pan et al. 2024): stem and head always train, of the blocks between a few at random. */
static thaw_status random_blocks(expansion *x)
{
    const int n = x->b.n_groups, first = n > 2, end = n - 1;
    const int64_t phases = x->o.length / x->o.every + (x->o.length % x->o.every != 0);
    bool *from = thaw__new((size_t)n, sizeof(*from)), *to = thaw__new((size_t)n, sizeof(*to));
    thaw_status status = THAW_OK;

    if (!from || !to) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for a preset");
        goto done;
    }
    if (phases > PHASES_MOST) {
        status = thaw_fail(THAW_E_RANGE, "%lld draws are too many; make 'every' larger",
                           (long long)phases);
        goto done;
    }
    memset(from, true, (size_t)n);
    for (int p = 0; p < (int)phases; p++) {
        draw(to, x, p, first, end);
        THAW_TRY(begin_phase(x, THAW_MIN(x->o.every, x->o.length - p * x->o.every),
                             p ? THAW_OPTIMIZER_KEEP : THAW_OPTIMIZER_REBUILD, "draw", p + 1));
        THAW_TRY(change_groups(x, from, to, first, end, true));
        THAW_TRY(change_groups(x, from, to, first, end, false));
        memcpy(from, to, (size_t)n);
    }
done:
    thaw__free(to);
    thaw__free(from);
    return status;
}

static const struct {
    const char *name, *help;
    double factor;
    expand_fn *expand;
} table[] = {
    {"linear-probe", "the head alone, then everything, the body at `factor` of the rate", 0.1,
     linear_probe},
    {"halves",
     "the head, then the upper half at `factor` of the rate, then all, below at its square", 0.1,
     halves},
    {"gradual", "from the top, one block more each phase", 1, gradual},
    {"discriminative", "one phase; each block `factor` of the rate of the one above it", 0.5,
     discriminative},
    {"layer-decay", "one phase; each layer that owns parameters `factor` of the one above it", 0.9,
     layer_decay},
    {"freeze-out", "everything, then from the bottom one block less each phase, from `start` on", 1,
     freeze_out},
    {"random-blocks", "stem and head, and `blocks` others drawn anew every `every`", 1,
     random_blocks},
};

size_t thaw_presets(const char **name, const char **help, size_t i)
{
    if (i < THAW_COUNT(table)) {
        *name = table[i].name;
        *help = table[i].help;
    }
    return THAW_COUNT(table);
}

static thaw_status check_options(const thaw_preset_options *o)
{
    if (o->length < 1 || o->every < 1 || o->blocks < 1)
        return thaw_fail(THAW_E_RANGE, "length, every and blocks of a preset are 1 or more");
    if (!(o->factor > 0 && o->factor <= 1) || !(o->start >= 0 && o->start <= 1))
        return thaw_fail(THAW_E_RANGE, "factor %g must lie in (0, 1], start %g in [0, 1]",
                         o->factor, o->start);
    return THAW_OK;
}

static thaw_status fail_name(const char *name)
{
    const char *names[THAW_COUNT(table)];
    text near = TEXT_INIT;
    thaw_status status;

    for (size_t i = 0; i < THAW_COUNT(table); i++)
        names[i] = table[i].name;
    text_add_near(&near, name, names, THAW_COUNT(table), 2);
    status =
        thaw_fail(THAW_E_NOMATCH, "there is no preset '%s'%s", name, near.data ? near.data : "");
    text_done(&near);
    return status;
}

thaw_status thaw_schedule_preset(thaw_schedule *schedule, const char *name,
                                 const thaw_preset_options *options)
{
    expansion x = {.schedule = schedule, .tree = schedule->tree, .o = *options};
    thaw_status status = THAW_OK;
    size_t i = 0;

    while (i < THAW_COUNT(table) && strcmp(table[i].name, name) != 0)
        i++;
    if (i == THAW_COUNT(table))
        return fail_name(name);
    x.o.factor = x.o.factor == 0 ? table[i].factor : x.o.factor;
    x.o.every = x.o.every ? x.o.every : THAW_MAX(x.o.length / 10, 1);
    x.o.blocks = x.o.blocks ? x.o.blocks : 2;
    x.o.start = x.o.start == 0 ? 0.5 : x.o.start;
    THAW_CHECK(check_options(&x.o));
    THAW_TRY(thaw__blocks(&x.b, x.tree));
    if (x.b.n_groups < 2) {
        status = thaw_fail(THAW_E_SUPPORT, "a network of fewer than two blocks has no use for '%s'",
                           name);
        goto done;
    }
    x.pattern = thaw__new((size_t)x.tree->n_modules, sizeof(*x.pattern));
    if (!x.pattern) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for a preset");
        goto done;
    }
    THAW_TRY(table[i].expand(&x));
done:
    if (x.pattern)
        clear_patterns(&x);
    thaw__free(x.pattern);
    block_list_done(&x.b);
    return status;
}
