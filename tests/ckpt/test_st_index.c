/*
 * Reading the index of a sharded network: every malformed one is refused with a message that says
 * what is wrong with it.
 */
#include "check.h"
#include "ckpt/ckpt.h"

#define MAP(inside) "{\"weight_map\":{" inside "}}"
#define SHARD       "\"model-00001-of-00002.safetensors\""

static const struct {
    const char *json;
    thaw_status status;
    const char *message;
} refused[] = {
    {"", THAW_E_DATA, "index byte 0: it ends where '{' should come"},
    {"[]", THAW_E_DATA, "'[' where '{' should come"},
    {"{}", THAW_E_DATA, "'weight_map' is missing"},
    {"{\"weight_map\":[]}", THAW_E_DATA, "'[' where '{' should come"},
    {"{\"weight_map\":{},\"weight_map\":{}}", THAW_E_DATA, "'weight_map' is given twice"},
    {"{\"metadata\":{},\"metadata\":{},\"weight_map\":{}}", THAW_E_DATA,
     "'metadata' is given twice"},
    {"{\"weight_map\":{},\"shards\":1}", THAW_E_DATA, "unknown key 'shards'"},
    {"{\"weight_map\":{}} x", THAW_E_DATA, "'x' where the end should come"},
    {"{\"weight_map\":{}", THAW_E_DATA, "it ends where ',' or '}' should come"},
    {"{\"metadata\":}", THAW_E_DATA, "'}' where a value should come"},
    {"{\"metadata\":[[[[[[[[[[[[[[[[[[[[", THAW_E_LIMIT, "more than 16 brackets"},
    {MAP("\"a\":1"), THAW_E_DATA, "'1' where a string should come"},
    {MAP("\"a\":" SHARD ",\"b\":" SHARD ",\"a\":" SHARD), THAW_E_DATA, "tensor 'a' is given twice"},
    {MAP("\"\":" SHARD), THAW_E_DATA, "a tensor has an empty name"},
    {MAP("\"a\":\"\""), THAW_E_DATA, "'' cannot be a shard"},
    {MAP("\"a\":\"../x.safetensors\""), THAW_E_DATA, "'../x.safetensors' cannot be a shard"},
    {MAP("\"a\":\"/etc/x.safetensors\""), THAW_E_DATA, "cannot be a shard"},
    {MAP("\"a\":\"b/x.safetensors\""), THAW_E_DATA, "cannot be a shard"},
    {MAP("\"a\":\"b\\\\x.safetensors\""), THAW_E_DATA, "cannot be a shard"},
    {MAP("\"a\":\".safetensors\""), THAW_E_DATA, "cannot be a shard"},
    {MAP("\"a\":\"..\""), THAW_E_DATA, "cannot be a shard"},
    {MAP("\"a\":\"x.bin\""), THAW_E_DATA, "'x.bin' cannot be a shard"},
    {MAP("\"a\":\"x\\u0000.safetensors\""), THAW_E_DATA, "a character other than NUL"},
    {MAP("\"a\xff\":" SHARD), THAW_E_DATA, "UTF-8"},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(refused); i++) {
        st_index *x = NULL;

        CHECK_ERROR(st_index_parse(&x, refused[i].json, strlen(refused[i].json), "i.json"),
                    refused[i].status, refused[i].message);
        CHECK_CONTAINS(thaw_error(), "'i.json': ");
        CHECK_MSG(x == NULL, "'%s' was made", refused[i].json);
    }
    CHECK_INT(thaw__mem_current(), 0);
}

static const char good[] =
    "{\"metadata\": {\"total_size\": 1.5e3, \"more\": [true, null, {\"x\": \"y\"}]},\n"
    "\"weight_map\": {\"b\": \"two.safetensors\", \"a\": \"one.safetensors\",\n"
    "  \"c\": \"two.safetensors\"}}\n";

static void test_read(void **state)
{
    static const char *const name[] = {"a", "b", "c"};
    static const char *const shard[] = {"one.safetensors", "two.safetensors", "two.safetensors"};
    st_index *x = NULL;

    (void)state;
    CHECK_OK(st_index_parse(&x, good, strlen(good), "i"));
    CHECK_INT(x->n, 3);
    CHECK_INT(x->n_shards, 2);
    for (int i = 0; i < 3; i++) {
        CHECK_STR(x->entry[i].name, name[i]);
        CHECK_STR(x->shard[x->entry[i].shard], shard[i]);
    }
    st_index_destroy(x);
}

static void test_too_many_shards(void **state)
{
    text t = TEXT_INIT;
    st_index *x = NULL;

    (void)state;
    text_add(&t, "{\"weight_map\": {");
    for (int i = 0; i < 501; i++)
        text_addf(&t, "%s\"%d\": \"%d.safetensors\"", i ? ", " : "", i, i);
    text_add(&t, "}}");
    CHECK_ERROR(st_index_parse(&x, t.data, t.length, "i"), THAW_E_LIMIT, "more than 500 shards");
    text_done(&t);
}

static void test_no_memory(void **state)
{
    bool more = true;

    (void)state;
    for (long n = 1; more; n++) {
        st_index *x = NULL;
        thaw_status status;

        check_alloc_fail(n, false);
        status = st_index_parse(&x, good, strlen(good), "i");
        more = check_alloc_restore();
        CHECK_MSG(status == (more ? THAW_E_NOMEM : THAW_OK), "allocation %ld: %s '%s'", n,
                  thaw_status_name(status), thaw_error());
        CHECK((status == THAW_OK) == (x != NULL));
        st_index_destroy(x);
        CHECK_INT(thaw__mem_current(), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_too_many_shards),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
