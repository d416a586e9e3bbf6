/*
 * fuzz_pattern.c - pattern matching against two small matchers of other build.
 *
 * The input is a pattern, a newline and a name. As a regular expression it is compared with a
 * matcher that works on sets of positions, as far as that one knows the constructs; as a shell
 * pattern, with one that follows the words of CPython's fnmatch.translate. Anything else must
 * merely not crash, hang or leak.
 */
#include "core/core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NAME_MOST 63 /* a set of positions is one word */

/* ---- the other matcher of regular expressions */

typedef enum verdict { KNOWN, INVALID, UNKNOWN } verdict;

/*
 * Parses and matches at once: each function takes the set of positions where a part may begin, and
 * gives the set of positions where it may end. A part is parsed again for each repeat.
 */
typedef struct matcher {
    const char *pattern; /* where parsing is */
    const char *name;
    int n; /* of the name */
    verdict verdict;
    int depth;
    long steps;
} matcher;

static uint64_t alternatives(matcher *m, uint64_t from);

static uint64_t give_up(matcher *m, verdict v)
{
    if (m->verdict != UNKNOWN)
        m->verdict = v == INVALID && m->verdict == KNOWN ? INVALID : v;
    m->pattern += strlen(m->pattern);
    return 0;
}

static bool word(int c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* Members of \d \w \s; the others are their complements. */
static bool in_category(int letter, int c)
{
    switch (letter | 0x20) {
    case 'd':
        return (c >= '0' && c <= '9') == (letter == 'd');
    case 'w':
        return word(c) == (letter == 'w');
    default:
        return ((c >= 9 && c <= 13) || (c >= 0x1C && c <= ' ')) == (letter == 's');
    }
}

/* Behind a backslash: a category letter (*category set), or a character. */
static int escaped(matcher *m, bool *category)
{
    static const char from[] = "abfnrtv", to[] = "\a\b\f\n\r\t\v";
    const int c = *m->pattern;
    const char *plain = c ? strchr(from, c) : NULL;

    *category = false;
    if (!c || c == '\n') {
        (void)give_up(m, c ? UNKNOWN : INVALID);
        return 0;
    }
    m->pattern++;
    if (strchr("dDsSwW", c)) {
        *category = true;
        return c;
    }
    if (plain)
        return to[plain - from];
    if ((c >= '0' && c <= '9') || strchr("xuUN", c))
        (void)give_up(m, UNKNOWN);
    else if (word(c) && c != '_')
        (void)give_up(m, INVALID);
    return c;
}

typedef struct char_set {
    bool has[128];
} char_set;

static int set_member(matcher *m, char_set *set, bool *category)
{
    int c = *m->pattern;

    *category = false;
    if (!c) {
        (void)give_up(m, INVALID);
        return 0;
    }
    m->pattern++;
    if (c == '\\')
        c = escaped(m, category);
    for (int i = 1; i < 128 && *category; i++)
        set->has[i] = set->has[i] || in_category(c, i);
    return c;
}

/* Behind '['. */
static void read_set(matcher *m, char_set *set)
{
    const bool negate = *m->pattern == '^';
    bool first = true;

    m->pattern += negate;
    while (m->verdict == KNOWN && (first || *m->pattern != ']')) {
        bool low_category, high_category;
        const int low = set_member(m, set, &low_category);
        int high = low;

        first = false;
        if (*m->pattern == '-' && m->pattern[1] == ']') {
            set->has['-'] = true;
            m->pattern++;
        } else if (*m->pattern == '-') {
            m->pattern++;
            high = set_member(m, set, &high_category);
            if (m->verdict == KNOWN && (low_category || high_category || high < low))
                (void)give_up(m, INVALID);
        }
        for (int c = low; c <= high && !low_category && c > 0 && c < 128; c++)
            set->has[c] = true;
    }
    if (*m->pattern == ']')
        m->pattern++;
    for (int c = 1; c < 128 && negate; c++)
        set->has[c] = !set->has[c];
}

static uint64_t step_over(const matcher *m, uint64_t from, const char_set *set)
{
    uint64_t to = 0;

    for (int i = 0; i < m->n; i++)
        if (from >> i & 1 && set->has[(int)m->name[i]])
            to |= UINT64_C(1) << (i + 1);
    return to;
}

static bool boundary(const matcher *m, int i)
{
    const bool before = i > 0 && word(m->name[i - 1]), after = i < m->n && word(m->name[i]);

    return before != after;
}

/* Positions at which a zero-width mark holds; *known whether c is one, behind a backslash or not.
 */
static uint64_t mark(const matcher *m, int c, bool behind, bool *known)
{
    const uint64_t end = UINT64_C(1) << m->n, all = end | (end - 1);
    uint64_t at = 0;

    *known = true;
    if ((behind && c == 'A') || (!behind && c == '^'))
        return 1;
    if (behind && c == 'Z')
        return end;
    if (!behind && c == '$')
        return end | (m->n && m->name[m->n - 1] == '\n' ? end >> 1 : 0);
    *known = behind && (c == 'b' || c == 'B');
    for (int i = 0; i <= m->n && *known; i++)
        if (boundary(m, i))
            at |= UINT64_C(1) << i;
    return c == 'b' ? at : m->n ? all & ~at : 0;
}

static void close_parenthesis(matcher *m)
{
    if (*m->pattern == ')')
        m->pattern++;
    else
        (void)give_up(m, INVALID);
}

/* Behind "(?=" or "(?!": each position on its own. */
static uint64_t look_ahead(matcher *m, uint64_t from, bool negative)
{
    const char *begin = m->pattern, *end = begin;
    uint64_t to = 0;

    for (int i = 0; i <= m->n; i++) {
        m->pattern = begin;
        if ((alternatives(m, UINT64_C(1) << i) != 0) != negative)
            to |= UINT64_C(1) << i;
        end = m->pattern;
    }
    m->pattern = end;
    close_parenthesis(m);
    return from & to;
}

/* Behind '('. */
static uint64_t group(matcher *m, uint64_t from)
{
    uint64_t to;

    if (*m->pattern == '?') {
        const char c = m->pattern[1];

        if (c != ':' && c != '=' && c != '!')
            return give_up(m, UNKNOWN);
        m->pattern += 2;
        if (c != ':')
            return look_ahead(m, from, c == '!');
    }
    to = alternatives(m, from);
    close_parenthesis(m);
    return to;
}

/* One item without its repeat; *place: it is a mark and cannot be repeated. */
static uint64_t item(matcher *m, uint64_t from, bool *place)
{
    char_set set = {{false}};
    const int c = *m->pattern++;
    bool category = false;
    uint64_t at;

    at = mark(m, c == '\\' ? *m->pattern : c, c == '\\', place);
    if (*place) {
        m->pattern += c == '\\';
        return from & at;
    }
    if (c == '(')
        return group(m, from);
    if (c == '[') {
        read_set(m, &set);
    } else if (c == '.') {
        memset(set.has, true, sizeof(set.has));
        set.has['\n'] = false;
    } else if (c == '\\') {
        const int e = escaped(m, &category);

        for (int i = 1; i < 128; i++)
            set.has[i] = category ? in_category(e, i) : i == e;
    } else {
        set.has[c] = true;
    }
    return step_over(m, from, &set);
}

/* A repeat at the pattern; false: none. Lazy repeats match the same names. */
static bool repeat(matcher *m, long *low, long *high)
{
    const char *s = m->pattern;
    char *end;

    *low = *s == '+';
    *high = *s == '?' ? 1 : -1;
    if (*s == '{') {
        const bool lower = s[1] >= '0' && s[1] <= '9';

        if (!lower && s[1] != ',')
            return false;
        *low = lower ? strtol(s + 1, &end, 10) : 0;
        s = lower ? end : s + 1;
        *high = *s == ',' ? -1 : *low;
        if (*s == ',' && s[1] >= '0' && s[1] <= '9') {
            *high = strtol(s + 1, &end, 10);
            s = end;
        } else {
            s += *s == ',';
        }
        if (*s != '}')
            return false;
        if (*low > 1000 || *high > 1000)
            (void)give_up(m, UNKNOWN);
        else if (*high >= 0 && *high < *low)
            (void)give_up(m, INVALID);
    } else if (*s != '*' && *s != '+' && *s != '?') {
        return false;
    }
    if (m->verdict != KNOWN)
        return true;
    m->pattern = s + 1;
    if (*m->pattern == '+')
        (void)give_up(m, UNKNOWN);
    m->pattern += *m->pattern == '?';
    return true;
}

static uint64_t repeated(matcher *m, uint64_t from, const char *begin, long low, long high)
{
    const char *end = m->pattern;
    uint64_t at = from, all = low == 0 ? from : 0;
    bool place;

    for (long i = 1; m->verdict == KNOWN && (high < 0 || i <= high); i++) {
        const uint64_t before = all;

        m->pattern = begin;
        at = item(m, at, &place);
        if (i >= low)
            all |= at;
        if (!at || (i > low && all == before && i > low + m->n))
            break;
    }
    if (m->verdict == KNOWN)
        m->pattern = end;
    return all;
}

static uint64_t sequence(matcher *m, uint64_t from)
{
    while (*m->pattern && *m->pattern != '|' && *m->pattern != ')' && m->verdict == KNOWN) {
        const char *begin = m->pattern;
        uint64_t to;
        long low, high;
        bool place;

        if (++m->steps > 20000)
            return give_up(m, UNKNOWN);
        if (strchr("*+?", *begin) || (*begin == '{' && repeat(m, &low, &high)))
            return give_up(m, m->verdict == UNKNOWN ? UNKNOWN : INVALID);
        to = item(m, from, &place);
        if (m->verdict == KNOWN && repeat(m, &low, &high)) {
            if (place)
                return give_up(m, INVALID);
            to = repeated(m, from, begin, low, high);
            begin = m->pattern;
            if (m->verdict == KNOWN && repeat(m, &low, &high))
                return give_up(m, INVALID);
            m->pattern = begin;
        }
        from = to;
    }
    return from;
}

static uint64_t alternatives(matcher *m, uint64_t from)
{
    uint64_t to;

    if (++m->depth > 40)
        return give_up(m, UNKNOWN);
    to = sequence(m, from);
    while (*m->pattern == '|' && m->verdict == KNOWN) {
        m->pattern++;
        to |= sequence(m, from);
    }
    m->depth--;
    return to;
}

static bool plain_ascii(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s >= 0x80)
            return false;
    return true;
}

static void differ(const char *what, const char *pattern, const char *name)
{
    fprintf(stderr, "%s: pattern '%s', name '%s': %s\n", what, pattern, name, thaw_error());
    abort();
}

static void check_regex(const char *pattern, const char *name)
{
    matcher m = {.pattern = pattern, .name = name, .n = (int)strlen(name)};
    name_pattern *p = NULL;
    const thaw_status status = pattern_compile(&p, pattern);
    thaw_status matched = THAW_OK;
    bool hit = false;
    uint64_t ends;

    if (status == THAW_OK)
        matched = pattern_match(&hit, p, name);
    pattern_destroy(p);
    if (matched != THAW_OK && matched != THAW_E_LIMIT)
        differ("matching fails", pattern, name);
    if (!plain_ascii(pattern) || !plain_ascii(name) || strlen(name) > NAME_MOST)
        return;
    ends = alternatives(&m, 1);
    if (m.verdict == KNOWN && *m.pattern)
        m.verdict = INVALID;
    if (m.verdict == UNKNOWN || status == THAW_E_LIMIT || matched == THAW_E_LIMIT)
        return;
    if ((m.verdict == INVALID) != (status == THAW_E_PATTERN))
        differ(status ? "a good pattern is refused" : "a bad pattern is accepted", pattern, name);
    if (status == THAW_OK && hit != (ends >> m.n & 1))
        differ(hit ? "matches but should not" : "does not match but should", pattern, name);
}

/* ---- the other matcher of shell patterns */

/* Whether c is in the regular-expression set that CPython would write for the body s[0, n). */
static bool in_body(const char *s, int n, unsigned char c)
{
    char chunk[66][66]; /* between range hyphens */
    int length[66], n_chunks = 0, from = 0, k = s[0] == '!' ? 2 : 1;
    bool negate, in = false;

    while (k < n) {
        const char *hyphen = memchr(s + k, '-', (size_t)(n - k));
        const int at = hyphen ? (int)(hyphen - s) : n;

        if (at >= n)
            break;
        memcpy(chunk[n_chunks], s + from, (size_t)(at - from));
        length[n_chunks++] = at - from;
        from = at + 1;
        k = at + 3;
    }
    memcpy(chunk[n_chunks], s + from, (size_t)(n - from));
    length[n_chunks] = n - from;
    if (length[n_chunks] || !n_chunks)
        n_chunks++;
    else
        chunk[n_chunks - 1][length[n_chunks - 1]++] = '-';
    for (k = n_chunks - 1; k > 0; k--) {
        if ((unsigned char)chunk[k - 1][length[k - 1] - 1] <= (unsigned char)chunk[k][0])
            continue;
        memmove(chunk[k - 1] + length[k - 1] - 1, chunk[k] + 1, (size_t)length[k] - 1);
        length[k - 1] += length[k] - 2;
        for (int i = k; i + 1 < n_chunks; i++) {
            memcpy(chunk[i], chunk[i + 1], sizeof(chunk[i]));
            length[i] = length[i + 1];
        }
        n_chunks--;
    }
    negate = length[0] > 0 && chunk[0][0] == '!';
    if (length[0] == negate && n_chunks == 1)
        return negate;
    for (int i = 0; i < n_chunks; i++)
        for (k = i == 0 && negate; k < length[i]; k++)
            in = in || (unsigned char)chunk[i][k] == c;
    for (int i = 0; i + 1 < n_chunks; i++) {
        if (length[i] == (i == 0 && negate))
            in = in || c == '-';
        else
            in = in || ((unsigned char)chunk[i][length[i] - 1] <= c &&
                        c <= (unsigned char)chunk[i + 1][0]);
    }
    return in != negate;
}

/* The positions behind one element of the pattern, out of those before it; *next: the next element.
 */
static uint64_t shell_element(const char **next, const char *pattern, const char *name, int n,
                              uint64_t from)
{
    const char *close = NULL;
    uint64_t to = 0;

    if (*pattern == '[') {
        close = pattern + 1 + (pattern[1] == '!');
        close = *close ? strchr(close + (*close == ']'), ']') : NULL;
    }
    *next = close ? close + 1 : pattern + 1;
    for (int i = 0; i <= n; i++) {
        if (*pattern == '*' && to)
            to |= UINT64_C(1) << i;
        if (!(from >> i & 1))
            continue;
        if (*pattern == '*')
            to |= UINT64_C(1) << i;
        else if (i < n &&
                 (close ? in_body(pattern + 1, (int)(close - pattern - 1), (unsigned char)name[i])
                        : *pattern == '?' || *pattern == name[i]))
            to |= UINT64_C(2) << i;
    }
    return to;
}

static bool shell_match(const char *pattern, const char *name)
{
    const int n = (int)strlen(name);
    uint64_t at = 1;

    while (*pattern)
        at = shell_element(&pattern, pattern, name, n, at);
    return at >> n & 1;
}

static void check_shell(const char *pattern, const char *name)
{
    name_glob *g = NULL;
    const thaw_status status = glob_compile(&g, pattern);
    const bool hit = status == THAW_OK && glob_match(g, name);
    bool want;

    glob_destroy(g);
    if (!plain_ascii(pattern) || !plain_ascii(name) || strlen(pattern) > NAME_MOST ||
        strlen(name) > NAME_MOST)
        return;
    want = shell_match(pattern, name);
    if (status != THAW_OK || hit != want)
        differ(want ? "fnmatch: does not match but should" : "fnmatch: matches but should not",
               pattern, name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *whole = malloc(size + 1), *name;

    if (!whole || memchr(data, 0, size)) {
        free(whole);
        return 0;
    }
    memcpy(whole, data, size);
    whole[size] = '\0';
    name = strchr(whole, '\n');
    if (name) {
        *name++ = '\0';
        if (utf8_valid(name)) {
            check_regex(whole, name);
            check_shell(whole, name);
        }
    }
    free(whole);
    return 0;
}
