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

/* A part of a set between two range hyphens: characters [begin, end) of the body. */
typedef struct piece {
    int begin, end;
    uint32_t last; /* its last character after gluing; the first is code[begin] */
} piece;

/*
 * The body of a set, code[begin, end), without a leading '!'. Hyphens that make ranges are found as
 * Python does: from the second character on, then three further on. A range that is upside down is
 * deleted together with its ends, and its neighbours are glued, from the last to the first.
 */
static void compile_body(name_glob *g, const uint32_t *code, int begin, int end, int first,
                         uint32_t *glued, int *cut)
{
    int n = 0, from = begin, k = first, n_cuts = 0;

    for (;;) {
        while (k < end && code[k] != '-')
            k++;
        if (k >= end)
            break;
        cut[n_cuts++] = k;
        k += 3;
    }
    /* an empty last piece gives its hyphen to the one before */
    if (n_cuts && cut[n_cuts - 1] == end - 1)
        n_cuts--;
    /* Glue into text with range hyphens marked as 0, which no pattern has. */
    for (int c = 0; c <= n_cuts; c++) {
        const int stop = c < n_cuts ? cut[c] : end;

        for (int i = from; i < stop; i++)
            glued[n++] = code[i];
        if (c < n_cuts)
            glued[n++] = 0;
        from = stop + 1;
    }
    for (int i = n - 2; i > 0; i--)
        if (glued[i] == 0 && glued[i - 1] > glued[i + 1]) {
            memmove(glued + i - 1, glued + i + 2, (size_t)(n - i - 2) * sizeof(*glued));
            n -= 3;
            i = THAW_MIN(i, n - 1);
        }
    for (int i = 0; i < n; i++) {
        const bool range = i + 2 < n && glued[i + 1] == 0;

        add_range(g, glued[i], range ? glued[i + 2] : glued[i]);
        i += range ? 2 : 0;
    }
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

static void compile_set(name_glob *g, const uint32_t *code, int body, int close, uint32_t *glued,
                        int *cut)
{
    const bool negate = code[body] == '!';
    const int begin = body + negate;
    glob_element *e = &g->element[g->n_elements++];

    *e = (glob_element){.kind = ELEMENT_SET, .negate = negate, .range_begin = g->n_ranges};
    if (begin < close)
        compile_body(g, code, begin, close, begin + 1, glued, cut);
    e->range_end = g->n_ranges;
}

thaw_status glob_compile(name_glob **out, const char *python)
{
    const size_t bytes = strlen(python);
    thaw_status status = THAW_OK;
    name_glob *g = NULL;
    thaw_region *region = NULL;
    uint32_t *code, *glued;
    int *cut, n = 0;

    if (!utf8_valid(python))
        return thaw_fail(THAW_E_PATTERN, "pattern '%s' is not valid UTF-8", python);
    if (bytes > 100000)
        return thaw_fail(THAW_E_LIMIT, "a pattern of %zu bytes is too long", bytes);
    THAW_TRY(region_create(&region));
    g = region_alloc(region, 1, sizeof(*g));
    code = region_alloc(region, bytes + 1, sizeof(*code));
    glued = region_alloc(region, bytes + 1, sizeof(*glued));
    cut = region_alloc(region, bytes + 1, sizeof(*cut));
    if (g) {
        g->element = region_alloc(region, bytes + 1, sizeof(*g->element));
        g->range = region_alloc(region, bytes + 1, sizeof(*g->range));
    }
    if (!g || !code || !glued || !cut || !g->element || !g->range) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for pattern '%s'", python);
        goto done;
    }
    for (const char *s = python; *s;)
        code[n++] = utf8_next(&s);
    for (int i = 0; i < n; i++) {
        const int close = code[i] == '[' ? find_close(code, n, i + 1) : n;

        if (code[i] == '*')
            g->element[g->n_elements++].kind = ELEMENT_STAR;
        else if (code[i] == '?')
            g->element[g->n_elements++].kind = ELEMENT_ANY;
        else if (close < n)
            compile_set(g, code, i + 1, close, glued, cut);
        else
            g->element[g->n_elements++].c = code[i];
        i = close < n ? close : i;
    }
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
