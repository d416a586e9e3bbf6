/*
 * Pickles, written here byte by byte: what they make, and what is refused, with the byte and the
 * reason.
 */
#include "check.h"
#include "ckpt/ckpt.h"

#define BYTES(s) s, sizeof(s) - 1

static pickle *read_pickle(const char *data, size_t n)
{
    pickle *p = NULL;
    size_t used = 0;

    CHECK_OK(pickle_read(&p, &used, data, n));
    CHECK_INT(used, n);
    return p;
}

static void test_numbers(void **state)
{
    static const struct {
        const char *data;
        size_t n;
        pickle_kind kind;
        int64_t number;
    } row[] = {
        {BYTES("K\x07."), PICKLE_INTEGER, 7},
        {BYTES("M\x01\x02."), PICKLE_INTEGER, 513},
        {BYTES("J\xFE\xFF\xFF\xFF."), PICKLE_INTEGER, -2},
        {BYTES("\x8A\x00."), PICKLE_INTEGER, 0},
        {BYTES("\x8A\x01\xFF."), PICKLE_INTEGER, -1},
        {BYTES("\x8A\x02\xFF\x00."), PICKLE_INTEGER, 255},
        {BYTES("\x8A\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F."), PICKLE_INTEGER, INT64_MAX},
        {BYTES("\x88."), PICKLE_BOOL, 1},
        {BYTES("\x89."), PICKLE_BOOL, 0},
        {BYTES("N."), PICKLE_NONE, 0},
        {BYTES("K\x01K\x02\x30."), PICKLE_INTEGER, 1},
    };

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        pickle *p = read_pickle(row[i].data, row[i].n);

        CHECK_INT(p->value[p->root].kind, row[i].kind);
        CHECK_INT(p->value[p->root].number, row[i].number);
        pickle_destroy(p);
    }
    pickle *p = read_pickle(BYTES("G\xBF\xF8\x00\x00\x00\x00\x00\x00."));
    CHECK_NEAR(p->value[p->root].real, -1.5, 0, 0);
    pickle_destroy(p);
}

/* {"a": (1, [2, 3]), "b": <the same list>}, through the memo */
static void test_containers(void **state)
{
    pickle *p = read_pickle(BYTES("\x80\x02}q\x01(X\x01\x00\x00\x00"
                                  "aK\x01]q\x02(K\x02K\x03"
                                  "e\x86X\x01\x00\x00\x00"
                                  "bh\x02u."));
    const pickle_value *root = &p->value[p->root], *a = pickle_get(p, root, "a");

    (void)state;
    CHECK_INT(root->kind, PICKLE_DICT);
    CHECK_INT(a->kind, PICKLE_TUPLE);
    CHECK(pickle_item(p, a, 1) == pickle_get(p, root, "b"));
    CHECK_INT(pickle_item(p, pickle_item(p, a, 1), 1)->number, 3);
    CHECK(pickle_item(p, a, 2) == NULL);
    CHECK(pickle_get(p, root, "c") == NULL);
    pickle_destroy(p);
}

static void test_ordered_dict(void **state)
{
    static const char global[] = "ccollections\nOrderedDict\n";
    char data[128];
    size_t n = sizeof global - 1;
    pickle *p;

    (void)state;
    memcpy(data, global, n);
    memcpy(data + n,
           "(](](K\x01K\x02"
           "eetR.",
           14);
    n += 14;
    p = read_pickle(data, n);
    CHECK_INT(p->value[p->root].kind, PICKLE_DICT);
    CHECK_INT(p->value[p->root].n, 2);
    pickle_destroy(p);
}

static const struct {
    const char *data;
    size_t n;
    thaw_status status;
    const char *message;
} refused[] = {
    {BYTES(""), THAW_E_DATA, "the pickle is cut off"},
    {BYTES("K"), THAW_E_DATA, "pickle byte 0: the pickle is cut off"},
    {BYTES("K\x01"), THAW_E_DATA, "the pickle is cut off"},
    {BYTES("."), THAW_E_DATA, "a value is missing on the stack"},
    {BYTES("(."), THAW_E_DATA, "a value is missing on the stack"},
    {BYTES("0"), THAW_E_DATA, "a value is missing on the stack"},
    {BYTES("K\x01\x86."), THAW_E_DATA, "a value is missing on the stack"},
    {BYTES("(K\x01\x86."), THAW_E_DATA, "a value is missing on the stack"},
    {BYTES("K\x01t."), THAW_E_DATA, "a mark is missing"},
    {BYTES("(u."), THAW_E_DATA, "items for something that is no dictionary"},
    {BYTES("](K\x01K\x02u."), THAW_E_DATA, "items for something that is no dictionary"},
    {BYTES("}(K\x01"
           "e."),
     THAW_E_DATA, "items for something that is no list"},
    {BYTES("}(K\x01u."), THAW_E_DATA, "a key without a value"},
    {BYTES("K\x01K\x02s."), THAW_E_DATA, "a value is missing|no dictionary"},
    {BYTES("h\x05."), THAW_E_DATA, "memo 5 is asked for and was never filled"},
    {BYTES("q\x05."), THAW_E_DATA, "a value is missing on the stack"},
    {BYTES("Nr\xFF\xFF\xFF\xFF."), THAW_E_LIMIT, "a memo of more than"},
    {BYTES("X\xFF\xFF\xFF\x7Fx."), THAW_E_DATA, "the pickle is cut off"},
    {BYTES("\x8D\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFFx."), THAW_E_DATA, "the pickle is cut off"},
    {BYTES("\x8A\x09\x01\x01\x01\x01\x01\x01\x01\x01\x01."), THAW_E_LIMIT, "an integer of 9 bytes"},
    {BYTES("\x80\x01."), THAW_E_SUPPORT, "pickle protocol 1"},
    {BYTES("\x80\x06."), THAW_E_SUPPORT, "pickle protocol 6"},
    {BYTES("I1\n."), THAW_E_SUPPORT, "instruction 0x49, which no state dict uses"},
    {BYTES("ios\nsystem\n."), THAW_E_SUPPORT, "instruction 0x69"},
    {BYTES("cos\nsystem\n."), THAW_E_SUPPORT, "pickle byte 0: it holds a 'os.system'"},
    {BYTES("cposix\nsystem\n(X\x02\x00\x00\x00lstR."), THAW_E_SUPPORT, "'posix.system'"},
    {BYTES("cbuiltins\neval\n."), THAW_E_SUPPORT, "'builtins.eval', which is no tensor"},
    {BYTES("X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93."), THAW_E_SUPPORT, "'os.system'"},
    {BYTES("K\x01K\x02\x93."), THAW_E_DATA, "a name that is no text"},
    {BYTES("ctorch\nx\x1B[31m\n."), THAW_E_SUPPORT, "'torch.x?[31m'"},
    {BYTES("ctorch\nFloatStorage\n)R."), THAW_E_SUPPORT, "a call of 'torch.FloatStorage'"},
    {BYTES("K\x01)R."), THAW_E_DATA, "a call of something that cannot be called"},
    {BYTES("ctorch._utils\n_rebuild_tensor_v2\n)R."), THAW_E_DATA, "argument 0 of a tensor"},
    {BYTES("ctorch._utils\n_rebuild_parameter\n)R."), THAW_E_DATA, "neither"},
    {BYTES("ccollections\nOrderedDict\nK\x01\x85R."), THAW_E_SUPPORT, "made of something else"},
    {BYTES("K\x01}b."), THAW_E_SUPPORT, "attributes of something that has none"},
    {BYTES("K\x01Q."), THAW_E_DATA, "no storage of tensors"},
    {BYTES(")Q."), THAW_E_DATA, "no storage of tensors"},
    {BYTES("]q\x01h\x01"
           "a."),
     THAW_E_DATA, "contains itself"},
    {BYTES("}q\x01(NX\x01\x00\x00\x00xNh\x01u."), THAW_E_DATA, "contains itself"},
    {BYTES("]q\x01(h\x01\x85"
           "e."),
     THAW_E_DATA, "contains itself"},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(refused); i++) {
        pickle *p = NULL;
        size_t used;
        const thaw_status status = pickle_read(&p, &used, refused[i].data, refused[i].n);

        CHECK_MSG(status == refused[i].status, "row %zu: %s '%s'", i, thaw_status_name(status),
                  status ? thaw_error() : "");
        if (!strchr(refused[i].message, '|'))
            CHECK_CONTAINS(thaw_error(), refused[i].message);
    }
    CHECK_INT(thaw__mem_current(), 0);
}

/* Bombs: much from little, deep, long. The limits are reached before memory or time is. */
static void bomb(const char *begin, size_t n_begin, const char *piece, size_t n_piece, size_t times,
                 const char *message)
{
    char *data = malloc(n_begin + n_piece * times + 1);
    pickle *p = NULL;
    size_t used;

    CHECK(data != NULL);
    memcpy(data, begin, n_begin);
    for (size_t i = 0; i < times; i++)
        memcpy(data + n_begin + i * n_piece, piece, n_piece);
    data[n_begin + n_piece * times] = '.';
    thaw__mem_peak_reset();
    CHECK_STATUS(pickle_read(&p, &used, data, n_begin + n_piece * times + 1), THAW_E_LIMIT);
    CHECK_CONTAINS(thaw_error(), message);
    CHECK_MSG(thaw__mem_peak() < (size_t)48 << 20, "%zu bytes at once", thaw__mem_peak());
    free(data);
}

static void test_bombs(void **state)
{
    (void)state;
    bomb("N", 1, "\x85", 1, 300, "nested more than 200 deep");
    bomb("N", 1, "\x85", 1, 5000000, "more than 400000 values");
    bomb("", 0, "(", 1, 5000000, "a stack of more than");
    bomb("]q\x01Nq\x02\x30", 7,
         "h\x02"
         "a",
         3, 2000000, "more than 1000000 items");
    bomb("N", 1, "\x80\x02", 2, 5000000, "more than 4000000 steps");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),      cmocka_unit_test(test_containers),
        cmocka_unit_test(test_ordered_dict), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bombs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
