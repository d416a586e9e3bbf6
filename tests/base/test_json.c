/*
 * test_json.c - JSON through jansson: memory from the hook and every allocation failing, duplicate
 * keys, places of mistakes, and how much a text may unfold into.
 */
#include "base/base.h"

#include <jansson.h>

#include "check.h"

static thaw_status parse(json_t **out, const char *source)
{
    return json_parse(out, source, strlen(source), "f.json");
}

static void test_values(void **state)
{
    json_t *root = NULL;

    (void)state;
    CHECK_OK(parse(&root, "{\"a\": [1, 2.5, \"x,[{\"], \"b\": null}"));
    CHECK_INT(json_array_size(json_object_get(root, "a")), 3);
    CHECK(json_real_value(json_array_get(json_object_get(root, "a"), 1)) == 2.5);
    json_decref(root);
}

static void test_mistakes(void **state)
{
    static const struct {
        const char *source, *error;
    } row[] = {
        {"", "f.json:1:0: '[' or '{' expected near end of file"},
        {"{\"a\": 1,\n \"a\": 2}", "f.json:2:4: duplicate object key near '\"a\"'"},
        {"{\"a\": 1} x", "f.json:1:10: end of file expected near 'x'"},
        {"[1,2", "f.json:1:4: ']' expected near end of file"},
        {"[\"\\u\n\n", "f.json:2:0: invalid escape near '\"\\u '"},
        {"[\"\xff\"]", "f.json:1:2: unable to decode byte 0xff near '\"'"},
    };

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        json_t *root = NULL;

        CHECK_STATUS(parse(&root, row[i].source), THAW_E_DATA);
        CHECK_STR(thaw_error(), row[i].error);
        CHECK(root == NULL);
    }
}

/* Brackets and commas of strings do not count; an empty object counts twice. */
static void test_limit(void **state)
{
    enum { MANY = 100000 };
    char *source = malloc(3 * MANY + 16);
    json_t *root = NULL;

    (void)state;
    CHECK(source != NULL);
    memset(source, '{', 3 * MANY);
    source[0] = '[';
    source[1] = '"';
    source[3 * MANY] = '\0';
    strcat(source, "\"]");
    CHECK_OK(parse(&root, source));
    json_decref(root);

    source[0] = '\0';
    for (int i = 0; i < MANY; i++)
        memcpy(source + 3 * i, i ? ",{}" : "[{}", 3);
    memcpy(source + 3 * MANY, "]", 2);
    root = NULL;
    CHECK_STATUS(parse(&root, source), THAW_E_LIMIT);
    CHECK_STR(thaw_error(), "f.json: more than 100000 values");
    CHECK(root == NULL);

    memcpy(source + 3 * (MANY / 2 - 1), "]", 2);
    check_alloc_fail(10000000, false);
    thaw__mem_peak_reset();
    CHECK_OK(parse(&root, source));
    CHECK_MSG(thaw__mem_peak() < (size_t)64 << 20, "%zu bytes at once", thaw__mem_peak());
    CHECK_MSG(thaw__mem_peak() > 3 * MANY, "jansson's memory is not counted");
    json_decref(root);
    CHECK_INT(thaw__mem_current(), 0);
    (void)check_alloc_restore();
    free(source);
}

static void test_no_memory(void **state)
{
    static const char source[] = "{\"words\": [\"one\", \"two\", {\"three\": 3.5}], \"n\": -4}";

    (void)state;
    for (long n = 1, more = 1; more; n++) {
        json_t *root = NULL;
        thaw_status status;

        check_alloc_fail(n, false);
        status = parse(&root, source);
        more = check_alloc_restore();
        CHECK_MSG(status == (more ? THAW_E_NOMEM : THAW_OK), "allocation %ld: %s", n,
                  thaw_status_name(status));
        CHECK((root != NULL) == (status == THAW_OK));
        json_decref(root);
        CHECK_MSG(more || n > 10, "only %ld allocations go through the hook", n);
        CHECK_INT(thaw__mem_current(), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
