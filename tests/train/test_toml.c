/*
 * test_toml.c - the TOML reader against recorded answers of Python's tomllib, and what tomllib does
 * not say: lines and columns, source order, messages, limits.
 *
 * tests/train/toml/corpus.txt has one case a line: a document, a tab, and "error" or the tree in
 * the notation of `print_tree`, both with backslash escapes. tests/train/make_toml_corpus.py writes
 * it.
 */
#include "train/toml.h"

#include "check.h"

/* ----------------------------------------------------------------------------------------------
 * the notation of the corpus */

static void print_bytes(text *t, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)s[i];

        if (c < 0x20 || c > 0x7E || c == '"' || c == '\\')
            text_addf(t, "\\x%02x", c);
        else
            text_add_n(t, &s[i], 1);
    }
}

static void print_real(text *t, double x)
{
    uint64_t bits;

    memcpy(&bits, &x, sizeof bits);
    if (isnan(x))
        text_add(t, "nan");
    else
        text_addf(t, "%016llx", (unsigned long long)bits);
}

static void print_tree(text *t, const toml_value *v);

static void print_members(text *t, const toml_value *v)
{
    for (const toml_value *item = v->first; item; item = item->next) {
        if (item->key) {
            text_add(t, "\"");
            print_bytes(t, item->key, item->key_length);
            text_add(t, "\"=");
        }
        print_tree(t, item);
        text_add(t, item->next ? "," : "");
    }
}

static void print_tree(text *t, const toml_value *v)
{
    switch (v->type) {
    case TOML_STRING:
        text_add(t, "\"");
        print_bytes(t, v->string, v->length);
        text_add(t, "\"");
        break;
    case TOML_INTEGER:
        text_addf(t, "%lld", (long long)v->integer);
        break;
    case TOML_FLOAT:
        text_add(t, "f");
        print_real(t, v->real);
        break;
    case TOML_BOOLEAN:
        text_add(t, v->boolean ? "true" : "false");
        break;
    case TOML_DATETIME:
        text_add(t, "date");
        break;
    case TOML_ARRAY:
        text_add(t, "[");
        print_members(t, v);
        text_add(t, "]");
        break;
    case TOML_TABLE:
        text_add(t, "{");
        print_members(t, v);
        text_add(t, "}");
        break;
    }
}

/* Undo the escapes of a field in place; returns its length. */
static size_t unescape(char *s)
{
    char *to = s;

    for (const char *p = s; *p; p++) {
        char hex[3] = {0};

        if (*p != '\\') {
            *to++ = *p;
            continue;
        }
        p++;
        if (*p == 'x') {
            memcpy(hex, p + 1, 2);
            *to++ = (char)strtol(hex, NULL, 16);
            p += 2;
        } else {
            *to++ = *p == 'n' ? '\n' : *p == 't' ? '\t' : *p == 'r' ? '\r' : *p;
        }
    }
    *to = '\0';
    return (size_t)(to - s);
}

/* The tree of a document, or "error"; free with thaw__free. */
static char *read_tree(const char *source, size_t size)
{
    toml_document *doc = NULL;
    text t = TEXT_INIT;
    char *out = NULL;
    const thaw_status status = toml_parse(&doc, source, size, "doc");

    CHECK_MSG(status == THAW_OK || status == THAW_E_RECIPE, "status %s", thaw_status_name(status));
    if (status == THAW_OK) {
        print_tree(&t, doc->root);
    } else {
        text_add(&t, "error");
        CHECK_MSG(doc == NULL, "output touched on failure");
        CHECK_MSG(strncmp(thaw_error(), "doc:", 4) == 0 && !strchr(thaw_error(), '\n'),
                  "error text '%s'", thaw_error());
    }
    toml_destroy(doc);
    CHECK_OK(text_take(&out, &t, "a tree"));
    return out;
}

static void agrees_with_tomllib(void **state)
{
    size_t size, n = 0, n_errors = 0, misses = 0;
    char *const all = check_read_file(&size, THAW_TEST_DIR "/train/toml/corpus.txt");
    char *line = all;

    (void)state;
    for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1, n++) {
        char *const want = strchr(line, '\t') + 1;
        char *got, *shown;
        size_t length;

        *end = want[-1] = '\0';
        shown = malloc(strlen(line) + 1);
        CHECK(shown != NULL);
        strcpy(shown, line);
        length = unescape(line);
        got = read_tree(line, length);
        n_errors += strcmp(want, "error") == 0;
        if (strcmp(got, want) != 0 && misses++ < 20)
            print_error("case %zu: %s\n  got  %s (%s)\n  want %s\n", n + 1, shown, got,
                        strcmp(got, "error") == 0 ? thaw_error() : "", want);
        thaw__free(got);
        free(shown);
    }
    free(all);
    print_message("%zu documents, %zu of them invalid, %zu mismatches\n", n, n_errors, misses);
    CHECK_INT(misses, 0);
    CHECK(n >= 500 && n_errors >= 200);
}

/* ----------------------------------------------------------------------------------------------
 * what tomllib does not say */

static toml_document *parse(const char *source)
{
    toml_document *doc = NULL;

    CHECK_OK(toml_parse(&doc, source, strlen(source), "doc"));
    return doc;
}

#define CHECK_PLACES(v, kl, kc, l, c)                                                              \
    do {                                                                                           \
        CHECK_INT((v)->key_line, kl);                                                              \
        CHECK_INT((v)->key_column, kc);                                                            \
        CHECK_INT((v)->line, l);                                                                   \
        CHECK_INT((v)->column, c);                                                                 \
    } while (0)

static void places_count_characters(void **state)
{
    toml_document *const d = parse("a = 1\n  \"h\xC3\xA9\" = 'x' # c\r\nb = { c.d = [ 2,\n\t3 ] }\n"
                                   "s = '''\n\xE2\x82\xAC\n''' \nafter = 1\n[t.u]\nv=true\n"
                                   "[[w]]\n[[w]]\nx = 0x1F");
    const toml_value *const root = d->root;
    const toml_value *v;

    (void)state;
    CHECK_PLACES(toml_get(root, "a"), 1, 1, 1, 5);
    CHECK_PLACES(toml_get(root, "h\xC3\xA9"), 2, 3, 2, 10);
    v = toml_get(root, "b");
    CHECK_PLACES(v, 3, 1, 3, 5);
    v = toml_get(toml_get(v, "c"), "d");
    CHECK_PLACES(v, 3, 9, 3, 13);
    CHECK_PLACES(v->first, 0, 0, 3, 15);
    CHECK_PLACES(v->last, 0, 0, 4, 2);
    CHECK_PLACES(toml_get(root, "s"), 5, 1, 5, 5);
    CHECK_PLACES(toml_get(root, "after"), 8, 1, 8, 9);
    CHECK_PLACES(toml_get(toml_get(root, "t"), "u"), 9, 4, 9, 4);
    v = toml_get(root, "w");
    CHECK_INT(v->n, 2);
    CHECK_PLACES(v->first, 0, 0, 11, 3);
    CHECK_PLACES(v->last, 0, 0, 12, 3);
    CHECK_PLACES(toml_get(v->last, "x"), 13, 1, 13, 5);
    CHECK_INT(toml_get(v->last, "x")->integer, 31);
    toml_destroy(d);
}

static void dates_keep_their_text(void **state)
{
    toml_document *const d = parse("a = 2024-02-29 23:59:59.123456789+05:30\nb = 07:30:00\n"
                                   "c = 2000-01-01t00:00:00z\nd = 1979-05-27 # c");

    (void)state;
    CHECK_STR(toml_get(d->root, "a")->string, "2024-02-29 23:59:59.123456789+05:30");
    CHECK_STR(toml_get(d->root, "b")->string, "07:30:00");
    CHECK_STR(toml_get(d->root, "c")->string, "2000-01-01t00:00:00z");
    CHECK_STR(toml_get(d->root, "d")->string, "1979-05-27");
    CHECK_INT(toml_get(d->root, "d")->length, 10);
    toml_destroy(d);
}

/* Where a mistake is, and what is said of it. */
static const struct {
    const char *source, *error;
} mistakes[] = {
    {"a = 1\nb = hello\n", "doc:2:5: this is not a value; a string needs quotes"},
    {"a = True\n", "doc:1:5: this is not a value; booleans are 'true' and 'false'"},
    {"a =\n", "doc:1:4: a value is missing; write one"},
    {"a 1\n", "doc:1:3: expected '=' behind a key"},
    {"a = 1 2\n", "doc:1:7: something follows a value; put it on a line of its own"},
    {"a = 'x\n", "doc:1:5: the string that begins here is not closed on its line"},
    {"\n\na = \"\"\"x\n\n", "doc:3:5: the string that begins here is not closed"},
    {"a = [1, 2\nb = 3\n", "doc:2:1: expected ',' or ']' in an array"},
    {"a = [1,\n\n", "doc:1:5: the array that begins here is not closed"},
    {"a = { b = 1,\n c = 2 }\n", "doc:1:5: the inline table that begins here is not closed on its"},
    {"a = { b = 1, }\n", "doc:1:14: no comma may stand before '}'; remove it"},
    {"a = 1\na = 2\n", "doc:2:1: 'a' is already defined on line 1; join the two"},
    {"[a]\n[b]\n[a]\n", "doc:3:2: 'a' is already defined on line 1; join the two"},
    {"\xC3\xA4 = 1\n", "doc:1:1: a key is expected here"},
    {"'\xC3\xA4' = \"\\q\"\n", "doc:1:8: unknown escape in a string; write \\\\ for a backslash"},
    {"a = \"\\uD800\"\n", "doc:1:6: U+D800 is not a Unicode character"},
    {"a = \"\\u12\"\n", "doc:1:6: this escape needs 4 hexadecimal digits"},
    {"# x\na = '\x01'\n", "doc:2:6: control character U+0001 in a string; remove it"},
    {"# \x07\n", "doc:1:3: control character U+0007 in a comment; remove it"},
    {"a = 1\nb = '\xFF'\n", "doc:2:6: byte 0xff is not UTF-8; save the file as UTF-8"},
    {"\xEF\xBB\xBF"
     "a = 1\n",
     "doc:1:1: a byte order mark stands here; save the file without one"},
    {"a = 9223372036854775808\n", "doc:1:5: this integer does not fit in 64 bits"},
    {"a = 1e999\n", "doc:1:5: this number is too large or too long for a double"},
    {"a = 007\n", "doc:1:5: a number must not begin with '0'; leave it out"},
    {"a = .5\n", "doc:1:5: a number must not begin with '.'; put a '0' before it"},
    {"a = 5.\n", "doc:1:5: digits are missing behind the point; add a '0'"},
    {"a = 2023-02-29\n", "doc:1:5: this is not a date or time"},
    {"[a\n", "doc:1:3: expected ']' behind the table's name"},
    {"[[a]\n", "doc:1:4: expected ']]' behind the table's name"},
    {"[a] b = 1\n", "doc:1:5: something follows a table's name"},
};

static void messages_name_place_and_remedy(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(mistakes); i++) {
        toml_document *doc = NULL;

        CHECK_ERROR(toml_parse(&doc, mistakes[i].source, strlen(mistakes[i].source), "doc"),
                    THAW_E_RECIPE, mistakes[i].error);
    }
}

/* `repeat` copies of a text between two others. */
static char *repeated(const char *before, const char *text_, size_t repeat, const char *after)
{
    text t = TEXT_INIT;
    char *out = NULL;

    text_add(&t, before);
    for (size_t i = 0; i < repeat; i++)
        text_add(&t, text_);
    text_add(&t, after);
    CHECK_OK(text_take(&out, &t, "a document"));
    return out;
}

static void hostile_sizes_are_refused(void **state)
{
    static const struct {
        const char *before, *text, *after;
        size_t repeat;
        const char *error; /* NULL: fine */
    } table[] = {
        {"a = ", "[", "", 100000, "doc:1:69: values are nested deeper than 64"},
        {"a = ", "{b=", "", 100000, "values are nested deeper than 64"},
        {"a = ", "1.", "", 100000, "this is not a value"},
        {"a", ".a", " = 1", 100000, "a key has more than 64 parts"},
        {"[a", ".a", "]", 62, NULL},
        {"", "[[a]]\n", "", 10001, "the document has more than 10000 keys"},
        {"a = [", "1,", "]", 200000, NULL},
        {"a = [", "1,", "]", 600000, "the document is larger than 1 MiB"},
        {"a = 0.", "1", "", 1000, "too long for a double"},
        {"a = '", "x", "'", 500000, NULL},
        {"", "\n", "", 500000, NULL},
    };

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(table); i++) {
        char *const source =
            repeated(table[i].before, table[i].text, table[i].repeat, table[i].after);
        toml_document *doc = NULL;

        if (table[i].error)
            CHECK_ERROR(toml_parse(&doc, source, strlen(source), "doc"), THAW_E_RECIPE,
                        table[i].error);
        else
            CHECK_OK(toml_parse(&doc, source, strlen(source), "doc"));
        toml_destroy(doc);
        thaw__free(source);
    }
}

static void empty_and_nul(void **state)
{
    static const char nul[] = "\"a\\u0000b\" = 1\n\"a\\u0000c\" = \"x\\u0000y\"";
    toml_document *doc = NULL;

    (void)state;
    CHECK_OK(toml_parse(&doc, NULL, 0, "doc"));
    CHECK_INT(doc->root->n, 0);
    toml_destroy(doc);
    CHECK_OK(toml_parse(&doc, nul, sizeof nul - 1, "doc"));
    CHECK_INT(doc->root->n, 2);
    CHECK_INT(doc->root->last->key_length, 3);
    CHECK_INT(doc->root->last->length, 3);
    toml_destroy(doc);
}

static void values_can_be_put(void **state)
{
    toml_document *const d = parse("a = 1\nb = 2\nc = 3\n");
    toml_value *v = NULL;
    char *got;
    text t = TEXT_INIT;

    (void)state;
    CHECK_OK(toml_put(&v, d, d->root, "b", "[1, {x=2}]", 10, "put"));
    CHECK_STR(v->key, "b");
    CHECK_OK(toml_put(&v, d, d->root, "d", " 'z'", 4, "put"));
    CHECK_ERROR(toml_put(&v, d, d->root, "a", "1 2", 3, "put"), THAW_E_RECIPE,
                "put:1:3: something");
    CHECK_ERROR(toml_put(&v, d, d->root, "e", "[1", 2, "put"), THAW_E_RECIPE, "put:1:1: the array");
    CHECK_ERROR(toml_put(&v, d, d->root, "e", "", 0, "put"), THAW_E_RECIPE, "a value is missing");
    print_tree(&t, d->root);
    CHECK_OK(text_take(&got, &t, "a tree"));
    CHECK_STR(got, "{\"a\"=1,\"b\"=[1,{\"x\"=2}],\"c\"=3,\"d\"=\"z\"}");
    thaw__free(got);
    toml_destroy(d);
}

static void every_allocation_may_fail(void **state)
{
    static const char source[] = "[a.b]\nc = [1, 'x', { d = 2.5 }]\n[[e]]\nf = 2000-01-01\n";
    const size_t before = thaw__mem_current();

    (void)state;
    for (int n = 1, more = 1; more; n++) {
        toml_document *doc = NULL;
        thaw_status status;

        check_alloc_fail(n, false);
        status = toml_parse(&doc, source, sizeof source - 1, "doc");
        more = check_alloc_restore();
        CHECK_MSG(status == (more ? THAW_E_NOMEM : THAW_OK), "allocation %d: %s, '%s'", n,
                  thaw_status_name(status), thaw_error());
        CHECK((doc == NULL) == (status != THAW_OK));
        toml_destroy(doc);
        CHECK_INT(thaw__mem_current(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_tomllib),
        cmocka_unit_test(places_count_characters),
        cmocka_unit_test(dates_keep_their_text),
        cmocka_unit_test(messages_name_place_and_remedy),
        cmocka_unit_test(hostile_sizes_are_refused),
        cmocka_unit_test(empty_and_nul),
        cmocka_unit_test(values_can_be_put),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
