/*
 * phasetext.c - the phases of a schedule as recipe text, to be read, edited and parsed again.
 *
 * The step-scheduled form is left out: it has its own place in a recipe.
 */
#include "core/core.h"

#include <string.h>

/* TOML: a literal string where it can be one, so that backslashes stay as they are. */
static void add_string(text *t, const char *s)
{
    bool literal = true;

    for (const char *c = s; *c; c++)
        literal = literal && *c != '\'' && (unsigned char)*c >= 0x20 && *c != 0x7F;
    if (literal)
        text_addf(t, "'%s'", s);
    else
        text_add_json_string(t, s);
}

static const char *list_key(const schedule_change *c)
{
    return c->type == SCHEDULE_FREEZE     ? "freeze"
           : c->type == SCHEDULE_UNFREEZE ? "unfreeze"
                                          : "lr_coefficients";
}

static void add_list(text *t, const schedule_change *c)
{
    for (int i = 0; i < c->n_patterns; i++) {
        text_add(t, i ? ", " : "");
        add_string(t, c->pattern[i]);
    }
}

static void add_rates(text *t, const schedule_change *c)
{
    for (int i = 0; i < c->n_patterns; i++) {
        text_add(t, i ? ", " : "");
        add_string(t, c->pattern[i]);
        text_add(t, " = ");
        if (c->type == SCHEDULE_PIN)
            text_add(t, "\"pin\"");
        else
            text_add_double(t, c->coefficient);
    }
}

/* Neighbours with the same key become one. */
static void add_changes(text *t, const change_list *list)
{
    for (int i = 0; i < list->n;) {
        const char *key = list_key(&list->item[i]);
        const bool rates = !strcmp(key, "lr_coefficients");
        bool first = true;

        if (list->item[i].type == SCHEDULE_SPEC) {
            i++;
            continue;
        }
        text_addf(t, "%s = %s", key, rates ? "{ " : "[");
        for (; i < list->n && !strcmp(list_key(&list->item[i]), key); i++) {
            text_add(t, first ? "" : ", ");
            first = false;
            if (rates)
                add_rates(t, &list->item[i]);
            else
                add_list(t, &list->item[i]);
        }
        text_add(t, rates ? " }\n" : "]\n");
    }
}

static void add_phase(text *t, const schedule_phase *p)
{
    static const char *const units[] = {[THAW_STEPS] = "steps",
                                        [THAW_EPOCHS] = "epochs",
                                        [THAW_SAMPLES] = "samples",
                                        [THAW_TOKENS] = "tokens"};
    static const char *const modes[] = {[THAW_OPTIMIZER_REBUILD] = "rebuild",
                                        [THAW_OPTIMIZER_KEEP] = "keep",
                                        [THAW_OPTIMIZER_HOLD] = "hold"};
    static const char *const freezes[] = {[THAW_ON_FREEZE_KEEP] = "keep",
                                          [THAW_ON_FREEZE_RESET] = "reset",
                                          [THAW_ON_FREEZE_PARK] = "park"};
    const thaw_phase_options *o = &p->options;

    text_add(t, "[[phase]]\nname = ");
    add_string(t, o->name);
    text_addf(t, "\n%s = %lld\n", units[o->unit], (long long)o->length);
    add_changes(t, &p->changes);
    if (o->optimizer != THAW_OPTIMIZER_REBUILD)
        text_addf(t, "optimizer = \"%s\"\n", modes[o->optimizer]);
    if (o->on_freeze != THAW_ON_FREEZE_KEEP)
        text_addf(t, "on_freeze = \"%s\"\n", freezes[o->on_freeze]);
    if (o->thaw_warmup > 0)
        text_addf(t, "thaw_warmup = %lld\n", (long long)o->thaw_warmup);
    if (o->until_metric) {
        text_add(t, "until = { metric = ");
        add_string(t, o->until_metric);
        text_addf(t, ", patience = %d, min_change = ", o->until_patience);
        text_add_double(t, o->until_min_change);
        text_add(t, o->until_restore ? ", restore = true }\n" : " }\n");
    }
}

thaw_status thaw_schedule_text(char **out, const thaw_schedule *s)
{
    text t = TEXT_INIT;

    for (int i = 0; i < s->n_phases; i++) {
        text_add(&t, i ? "\n" : "");
        add_phase(&t, &s->phase[i]);
    }
    return text_take(out, &t, "the phases of a schedule");
}

thaw_status thaw_pattern_escape(char **out, const char *name)
{
    text t = TEXT_INIT;

    for (const char *c = name; *c; c++) {
        if (strchr(".\\+*?()[]{}|^$", *c))
            text_add(&t, "\\");
        text_add_n(&t, c, 1);
    }
    return text_take(out, &t, "a pattern");
}
