/*
 * glob.c - fnmatch as Python does it on POSIX: whole name, code points, nothing special in the
 * name.
 *
 * The pattern is compiled to elements following fnmatch.translate of CPython 3.11, sets included;
 * matching walks both texts once, going back to the last star only, so it takes at most
 * length(pattern) * length(name) steps. C's fnmatch(3) differs in escapes, sets and locale.
 */
#include "core/core.h"

#include <string.h>

typedef enum element_kind { ELEMENT_CHAR, ELEMENT_ANY, ELEMENT_STAR, ELEMENT_SET } element_kind;

typedef struct glob_range {
    uint32_t low, high;
} glob_range;

typedef struct glob_element {
    element_kind kind;
    uint32_t c;
    bool negate;
    int range_begin, range_end; /* ELEMENT_SET: what it holds; empty and negated: any character */
} glob_element;

struct name_glob {
    thaw_region *region;
    glob_element *element;
    int n_elements;
    glob_range *range;
    int n_ranges;
};

static void add_range(name_glob *g, uint32_t low, uint32_t high)
{
    g->range[g->n_ranges++] = (glob_range){low, high};
}

/* Scratch for the body of one set; each has room for the whole pattern. */
typedef struct set_scratch {
    uint32_t *glued;
    int *cut;
} set_scratch;

/*
 * The pieces of a body code[begin, end) between range hyphens, a hyphen written as 0, which no
 * pattern has. Hyphens that make ranges are looked for from the second character on, then three
 * further on; one at the very end is a member. Returns the length.
 */
static int cut_body(set_scratch *s, const uint32_t *code, int begin, int end)
{
    int n = 0, n_cuts = 0, from = begin;

    for (int k = begin + 1; k < end; k++)
        if (code[k] == '-') {
            s->cut[n_cuts++] = k;
            k += 2;
        }
    if (n_cuts && s->cut[n_cuts - 1] == end - 1)
        n_cuts--;
    for (int c = 0; c <= n_cuts; c++) {
        const int stop = c < n_cuts ? s->cut[c] : end;

        for (int i = from; i < stop; i++)
            s->glued[n++] = code[i];
        if (c < n_cuts)
            s->glued[n++] = 0;
        from = stop + 1;
    }
    return n;
}

/* A range that is upside down is deleted with both its ends and its neighbours are glued, from the
 * last to the first. Returns the length that is left. */
static int drop_empty_ranges(uint32_t *glued, int n)
{
    for (int i = n - 2; i > 0; i--)
        if (glued[i] == 0 && glued[i - 1] > glued[i + 1]) {
            memmove(glued + i - 1, glued + i + 2, (size_t)(n - i - 2) * sizeof(*glued));
            n -= 3;
            i = THAW_MIN(i, n - 1);
        }
    return n;
}

/* A '!' that gluing has brought to the front negates after all, as in CPython; a range hyphen
 * behind it is a member then. Returns whether it does. */
static bool compile_body(name_glob *g, const uint32_t *code, int begin, int end, set_scratch *s)
{
    int n = drop_empty_ranges(s->glued, cut_body(s, code, begin, end));
    const bool negate = begin < end && code[begin - 1] != '!' && n > 0 && s->glued[0] == '!';

    for (int i = negate; i < n; i++) {
        const uint32_t low = s->glued[i] ? s->glued[i] : '-';
        const bool range = s->glued[i] && i + 2 < n && s->glued[i + 1] == 0;

        add_range(g, low, range ? s->glued[i + 2] : low);
        i += range ? 2 : 0;
    }
    return negate;
}

/* Position of the ']' that closes a set whose body begins at `body`; n when there is none. */
static int find_close(const uint32_t *code, int n, int body)
{
    int j = body;

    if (j < n && code[j] == '!')
        j++;
    if (j < n && code[j] == ']')
        j++;
    while (j < n && code[j] != ']')
        j++;
    return j;
}

static void compile_set(name_glob *g, const uint32_t *code, int body, int close, set_scratch *s)
{
    const bool negate = code[body] == '!';
    glob_element *e = &g->element[g->n_elements++];

    *e = (glob_element){.kind = ELEMENT_SET, .negate = negate, .range_begin = g->n_ranges};
    if (body + negate < close && compile_body(g, code, body + negate, close, s))
        e->negate = true;
    e->range_end = g->n_ranges;
}

static void compile_elements(name_glob *g, const uint32_t *code, int n, set_scratch *s)
{
    for (int i = 0; i < n; i++) {
        const int close = code[i] == '[' ? find_close(code, n, i + 1) : n;

        if (code[i] == '*')
            g->element[g->n_elements++].kind = ELEMENT_STAR;
        else if (code[i] == '?')
            g->element[g->n_elements++].kind = ELEMENT_ANY;
        else if (close < n)
            compile_set(g, code, i + 1, close, s);
        else
            g->element[g->n_elements++].c = code[i];
        i = close < n ? close : i;
    }
}

thaw_status glob_compile(name_glob **out, const char *python)
{
    const size_t bytes = strlen(python);
    thaw_status status = THAW_OK;
    name_glob *g = NULL;
    thaw_region *region = NULL;
    set_scratch scratch;
    uint32_t *code;
    int n = 0;

    if (!utf8_valid(python))
        return thaw_fail(THAW_E_PATTERN, "pattern '%s' is not valid UTF-8", python);
    if (bytes > 10000)
        return thaw_fail(THAW_E_LIMIT, "a pattern of %zu bytes is too long; 10000 is the most",
                         bytes);
    THAW_TRY(region_create(&region));
    g = region_alloc(region, 1, sizeof(*g));
    code = region_alloc(region, bytes + 1, sizeof(*code));
    scratch.glued = region_alloc(region, bytes + 1, sizeof(*scratch.glued));
    scratch.cut = region_alloc(region, bytes + 1, sizeof(*scratch.cut));
    if (g) {
        g->element = region_alloc(region, bytes + 1, sizeof(*g->element));
        g->range = region_alloc(region, bytes + 1, sizeof(*g->range));
    }
    if (!g || !code || !scratch.glued || !scratch.cut || !g->element || !g->range) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for pattern '%s'", python);
        goto done;
    }
    for (const char *s = python; *s;)
        code[n++] = utf8_next(&s);
    compile_elements(g, code, n, &scratch);
    g->region = region;
    *out = g;
    region = NULL;
done:
    region_destroy(region);
    return status;
}

void glob_destroy(name_glob *g)
{
    if (g)
        region_destroy(g->region);
}

static bool element_matches(const name_glob *g, const glob_element *e, uint32_t c)
{
    if (e->kind == ELEMENT_CHAR)
        return e->c == c;
    if (e->kind == ELEMENT_ANY)
        return true;
    for (int i = e->range_begin; i < e->range_end; i++)
        if (g->range[i].low <= c && c <= g->range[i].high)
            return !e->negate;
    return e->negate;
}

bool glob_match(const name_glob *g, const char *name)
{
    int at = 0, star = -1;
    const char *s = name, *resume = NULL;

    for (;;) {
        const char *next = s;
        const uint32_t c = utf8_next(&next);

        if (at < g->n_elements && g->element[at].kind == ELEMENT_STAR) {
            star = at++;
            resume = s;
        } else if (!c) {
            return at == g->n_elements;
        } else if (at < g->n_elements && element_matches(g, &g->element[at], c)) {
            at++;
            s = next;
        } else if (star >= 0) {
            (void)utf8_next(&resume);
            s = resume;
            at = star + 1;
        } else {
            return false;
        }
    }
}
