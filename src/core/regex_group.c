/*
 * regex_group.c - what stands in parentheses in a Python regular expression: groups, references,
 * look-around, conditions, flags and comments, in PCRE2's words.
 *
 * Groups are numbered alike in both languages, so names become numbers.
 */
#include "core/core.h"
#include "core/regex.h"

#include <string.h>

#define GROUPS_MAX 1000

/* Text up to and with `stop`, as UTF-8. */
static thaw_status read_until(text *out, regex_parser *p, char stop, const char *what)
{
    for (;;) {
        regex_token t;

        if (p->next.end)
            return thaw_fail(THAW_E_PATTERN, "pattern '%s': %s is not closed by '%c'", p->pattern,
                             what, stop);
        THAW_CHECK(regex_advance(&t, p));
        if (!t.escaped && t.c == (uint32_t)stop)
            break;
        if (t.escaped)
            text_add(out, "\\");
        utf8_put(out, t.c);
    }
    if (out->failed)
        return thaw_fail(THAW_E_NOMEM, "out of memory for pattern '%s'", p->pattern);
    if (!out->length)
        return regex_fail(p, THAW_E_PATTERN, "an empty name");
    return THAW_OK;
}

/* ---- groups */

static thaw_status open_group(int *out, regex_parser *p, const char *name)
{
    if (p->n_groups >= GROUPS_MAX)
        return regex_fail(p, THAW_E_LIMIT, "too many groups");
    if (name && name_map_get(&p->names, name) >= 0)
        return regex_fail(p, THAW_E_PATTERN, "a group name that is used twice");
    THAW_CHECK(
        thaw__reserve(&p->group, &p->group_capacity, (size_t)p->n_groups + 2, sizeof(*p->group)));
    *out = ++p->n_groups;
    p->group[*out] = (regex_group){0};
    if (name) {
        const char *own = region_strdup(p->region, name);

        if (!own)
            return thaw_fail(THAW_E_NOMEM, "out of memory for a pattern");
        THAW_CHECK(name_map_put(&p->names, own, *out));
    }
    return THAW_OK;
}

static thaw_status check_look_behind_group(const regex_parser *p, int g)
{
    if (p->look_behind_groups < 0)
        return THAW_OK;
    if (g > p->n_groups || !p->group[g].closed)
        return regex_fail(p, THAW_E_PATTERN, "a reference to an open group");
    if (g >= p->look_behind_groups)
        return regex_fail(p, THAW_E_PATTERN, "a reference to a group of the same look-behind");
    return THAW_OK;
}

thaw_status regex_put_reference(regex_parser *p, regex_sequence *s, int g)
{
    if (g < 1 || g > p->n_groups)
        return regex_fail(p, THAW_E_PATTERN, "a reference to a group that is not there");
    if (!p->group[g].closed)
        return regex_fail(p, THAW_E_PATTERN, "a reference to an open group");
    THAW_CHECK(check_look_behind_group(p, g));
    if ((p->flags & REGEX_IGNORECASE) && (p->flags & REGEX_ASCII))
        return regex_fail(p, THAW_E_SUPPORT, "back-references under (?ai) are not supported");
    text_addf(p->out, p->flags & REGEX_IGNORECASE ? "(?i:\\g{%d})" : "\\g{%d}", g);
    regex_put_other(p, s, REGEX_OTHER, p->group[g].low, p->group[g].high);
    return THAW_OK;
}

/* ---- parentheses */

static thaw_status close_group(regex_parser *p)
{
    bool hit;

    THAW_CHECK(regex_accept(&hit, p, ')'));
    return hit ? THAW_OK : regex_fail(p, THAW_E_PATTERN, "a parenthesis is not closed");
}

static thaw_status check_group_name(const regex_parser *p, const char *name)
{
    for (const char *c = name; *c; c++) {
        const bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || *c == '_';

        if ((unsigned char)*c >= 0x80)
            return regex_fail(p, THAW_E_SUPPORT, "group names outside ASCII are not supported");
        if (!letter && (c == name || *c < '0' || *c > '9'))
            return regex_fail(p, THAW_E_PATTERN, "a bad character in a group name");
    }
    return THAW_OK;
}

/* "(?=", "(?!", "(?<=", "(?<!" */
static thaw_status parse_look(regex_parser *p, regex_sequence *s, uint32_t c, bool verbose)
{
    regex_sequence inner;
    regex_token t = {.c = c};
    const bool behind = c == '<';
    const int before = p->look_behind_groups;

    if (behind) {
        if (!regex_next_in(p, "=!"))
            return regex_fail(p, THAW_E_PATTERN, "an unknown extension after '(?<'");
        THAW_CHECK(regex_advance(&t, p));
        if (before < 0)
            p->look_behind_groups = p->n_groups + 1;
    }
    p->prefix_open = false;
    text_addf(p->out, "(?:(?%s%c", behind ? "<" : "", (char)t.c);
    THAW_CHECK(regex_alternatives(&inner, p, verbose));
    p->look_behind_groups = before;
    THAW_CHECK(close_group(p));
    text_add(p->out, "))");
    if (behind && inner.low != inner.high)
        return regex_fail(p, THAW_E_PATTERN, "look-behind requires a fixed width");
    regex_put_other(p, s, REGEX_OTHER, 0, 0);
    return THAW_OK;
}

/* "(?P<name>", "(?P=name)" */
static thaw_status parse_named(regex_parser *p, regex_sequence *s, bool verbose)
{
    thaw_status status = THAW_OK;
    text name = TEXT_INIT;
    regex_sequence inner;
    bool group, reference;
    int g = 0;

    THAW_TRY(regex_accept(&group, p, '<'));
    THAW_TRY(regex_accept(&reference, p, '='));
    if (!group && !reference) {
        status = regex_fail(p, THAW_E_PATTERN, "an unknown extension after '(?P'");
        goto done;
    }
    THAW_TRY(read_until(&name, p, group ? '>' : ')', "a group name"));
    THAW_TRY(check_group_name(p, name.data));
    if (reference) {
        g = name_map_get(&p->names, name.data);
        if (g < 0)
            status = regex_fail(p, THAW_E_PATTERN, "an unknown group name");
        else
            status = regex_put_reference(p, s, g);
        goto done;
    }
    THAW_TRY(open_group(&g, p, name.data));
    p->prefix_open = false;
    text_add(p->out, "(");
    THAW_TRY(regex_alternatives(&inner, p, verbose));
    THAW_TRY(close_group(p));
    text_add(p->out, ")");
    p->group[g] = (regex_group){.closed = true, .low = inner.low, .high = inner.high};
    regex_put_other(p, s, REGEX_OTHER, inner.low, inner.high);
done:
    text_done(&name);
    return status;
}

static thaw_status condition_group(int *out, regex_parser *p, const char *name)
{
    int64_t number = 0;

    if (name[0] >= '0' && name[0] <= '9') {
        if (strspn(name, "0123456789") != strlen(name) || !parse_int64(&number, name))
            return regex_fail(p, THAW_E_PATTERN, "a bad group number");
        if (number < 1 || number > GROUPS_MAX)
            return regex_fail(p, THAW_E_PATTERN, "a group number out of range");
        p->largest_condition = THAW_MAX(p->largest_condition, (int)number);
        *out = (int)number;
        return THAW_OK;
    }
    THAW_CHECK(check_group_name(p, name));
    *out = name_map_get(&p->names, name);
    return *out < 0 ? regex_fail(p, THAW_E_PATTERN, "an unknown group name") : THAW_OK;
}

/* "(?(1)yes|no)" */
static thaw_status parse_condition(regex_parser *p, regex_sequence *s, bool verbose)
{
    thaw_status status = THAW_OK;
    text name = TEXT_INIT;
    regex_sequence yes, no = {0};
    bool two;
    int g = 0;

    if (++p->nested > REGEX_NEST_MAX) {
        status = regex_fail(p, THAW_E_LIMIT, "nested too deep");
        goto done;
    }
    THAW_TRY(read_until(&name, p, ')', "a group name"));
    THAW_TRY(condition_group(&g, p, name.data));
    THAW_TRY(check_look_behind_group(p, g));
    p->prefix_open = false;
    text_addf(p->out, "(?(%d)", g);
    THAW_TRY(regex_parse_sequence(&yes, p, &verbose, false));
    THAW_TRY(regex_accept(&two, p, '|'));
    if (two) {
        text_add(p->out, "|");
        THAW_TRY(regex_parse_sequence(&no, p, &verbose, false));
        if (regex_at(p, '|')) {
            status = regex_fail(p, THAW_E_PATTERN, "a condition with more than two branches");
            goto done;
        }
    }
    THAW_TRY(close_group(p));
    text_add(p->out, ")");
    p->nested--;
    regex_put_other(p, s, REGEX_OTHER, two ? THAW_MIN(yes.low, no.low) : 0,
                    THAW_MAX(yes.high, no.high));
done:
    text_done(&name);
    return status;
}

static thaw_status parse_comment(regex_parser *p)
{
    regex_token t;

    do {
        if (p->next.end)
            return regex_fail(p, THAW_E_PATTERN, "a comment is not closed");
        THAW_CHECK(regex_advance(&t, p));
    } while (t.escaped || t.c != ')');
    return THAW_OK;
}

static unsigned flag_of(uint32_t c)
{
    static const struct {
        char letter;
        unsigned flag;
    } table[] = {{'i', REGEX_IGNORECASE}, {'m', REGEX_MULTILINE}, {'s', REGEX_DOTALL},
                 {'x', REGEX_VERBOSE},    {'a', REGEX_ASCII},     {'u', REGEX_UNICODE},
                 {'L', REGEX_LOCALE},     {'t', REGEX_TEMPLATE}};

    for (size_t i = 0; i < THAW_COUNT(table); i++)
        if (c == (uint32_t)table[i].letter)
            return table[i].flag;
    return 0;
}

/* Letters up to one of `stops`; t is the first letter, and the stop at the end. */
static thaw_status parse_letters(unsigned *flags, regex_token *t, regex_parser *p,
                                 const char *stops)
{
    for (;;) {
        const unsigned flag = t->escaped || t->end ? 0 : flag_of(t->c);

        if (!flag)
            return regex_fail(p, THAW_E_PATTERN, "an unknown flag");
        if (flag & (REGEX_LOCALE | REGEX_TEMPLATE))
            return regex_fail(p, flag & REGEX_LOCALE ? THAW_E_PATTERN : THAW_E_SUPPORT,
                              "flags L and t are not supported");
        *flags |= flag;
        if (p->next.end)
            return regex_fail(p, THAW_E_PATTERN, "flags are not closed");
        THAW_CHECK(regex_advance(t, p));
        if (!t->escaped && t->c && t->c < 0x80 && strchr(stops, (int)t->c))
            return THAW_OK;
    }
}

/* "(?i)", "(?i:", "(?-i:", "(?i-s:"; *global: the first form. */
static thaw_status parse_flags(bool *global, unsigned *add, unsigned *del, regex_parser *p,
                               regex_token t)
{
    *global = false;
    *add = *del = 0;
    if (t.c != '-')
        THAW_CHECK(parse_letters(add, &t, p, ")-:"));
    if ((*add & REGEX_ASCII) && (*add & REGEX_UNICODE))
        return regex_fail(p, THAW_E_PATTERN, "flags a and u are incompatible");
    if (t.c == ')') {
        *global = true;
        return THAW_OK;
    }
    if (t.c == '-') {
        if (p->next.end)
            return regex_fail(p, THAW_E_PATTERN, "a missing flag");
        THAW_CHECK(regex_advance(&t, p));
        THAW_CHECK(parse_letters(del, &t, p, ":"));
        if (*del & (REGEX_ASCII | REGEX_UNICODE))
            return regex_fail(p, THAW_E_PATTERN, "flags a and u cannot be turned off");
    }
    return *add & *del ? regex_fail(p, THAW_E_PATTERN, "a flag turned on and off") : THAW_OK;
}

/* The inside of "(…", "(?:…", "(?>…" or "(?flags:…". */
static thaw_status parse_group(regex_parser *p, regex_sequence *s, const char *open, unsigned add,
                               unsigned del, bool verbose)
{
    regex_sequence inner;
    const unsigned before = p->flags;
    const bool capture = open[1] == '\0';
    int g = 0;

    if (capture)
        THAW_CHECK(open_group(&g, p, NULL));
    p->prefix_open = false;
    if (add & (REGEX_ASCII | REGEX_UNICODE))
        p->flags &= ~(unsigned)(REGEX_ASCII | REGEX_UNICODE);
    p->flags = (p->flags | add) & ~del;
    text_add(p->out, open);
    THAW_CHECK(regex_alternatives(&inner, p,
                                  (verbose || (add & REGEX_VERBOSE)) && !(del & REGEX_VERBOSE)));
    p->flags = before;
    THAW_CHECK(close_group(p));
    text_add(p->out, ")");
    if (capture)
        p->group[g] = (regex_group){.closed = true, .low = inner.low, .high = inner.high};
    regex_put_other(p, s, REGEX_OTHER, inner.low, inner.high);
    return THAW_OK;
}

thaw_status regex_parenthesis(regex_parser *p, regex_sequence *s, bool *verbose, bool first)
{
    regex_token t;
    unsigned add, del;
    bool hit, global;

    THAW_CHECK(regex_accept(&hit, p, '?'));
    if (!hit)
        return parse_group(p, s, "(", 0, 0, *verbose);
    if (p->next.end)
        return regex_fail(p, THAW_E_PATTERN, "an unexpected end");
    THAW_CHECK(regex_advance(&t, p));
    if (t.escaped)
        return regex_fail(p, THAW_E_PATTERN, "an unknown extension after '(?'");
    switch (t.c) {
    case 'P':
        return parse_named(p, s, *verbose);
    case ':':
        return parse_group(p, s, "(?:", 0, 0, *verbose);
    case '>':
        return parse_group(p, s, "(?>", 0, 0, *verbose);
    case '#':
        return parse_comment(p);
    case '(':
        return parse_condition(p, s, *verbose);
    case '=':
    case '!':
    case '<':
        return parse_look(p, s, t.c, *verbose);
    default:
        break;
    }
    if (t.c != '-' && !flag_of(t.c))
        return regex_fail(p, THAW_E_PATTERN, "an unknown extension after '(?'");
    THAW_CHECK(parse_flags(&global, &add, &del, p, t));
    if (!global)
        return parse_group(p, s, "(?:", add, del, *verbose);
    if (!first || s->last != REGEX_NOTHING)
        return regex_fail(p, THAW_E_PATTERN, "global flags not at the start of the expression");
    if ((p->flags | add) & REGEX_ASCII && (p->flags | add) & REGEX_UNICODE)
        return regex_fail(p, THAW_E_PATTERN, "flags a and u are incompatible");
    p->flags |= add;
    *verbose = p->flags & REGEX_VERBOSE;
    return THAW_OK;
}
