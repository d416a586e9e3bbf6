/*
 * pickle - the instructions of Python's pickles that a state dict uses, run on values of our own.
 *
 * A pickle is a program for a machine with a stack and a memo. Here it can make numbers, text,
 * tuples, lists, dictionaries, and what a short table of names makes of them; it cannot name
 * anything else, and nothing is ever called but the functions of that table. Steps, values, cells
 * and depth are limited. It knows nothing of files or of what the tensors are for.
 */
#include "ckpt/ckpt.h"

#include <string.h>

#define MOST_VALUES 400000
#define MOST_CELLS  1000000 /* items of all values; also the stack */
#define MOST_STEPS  4000000

typedef struct machine {
    pickle *made;
    uint32_t *stack, *memo;
    size_t n_stack, cap_stack, n_memo, cap_memo; /* n_memo: one more than the last one filled */
    const char *begin, *at, *end;
    bool stopped;
} machine;

/* What stands behind an instruction in the pickle. */
typedef struct argument {
    int64_t number;
    double real;
    const char *text, *second; /* of a global: module and name */
    size_t n, n_second;
} argument;

/* ----------------------------------------------------------------------------------------------
 * values, stack, memo
 */

static thaw_status add_value(uint32_t *out, machine *m, pickle_value v)
{
    pickle *const p = m->made;

    if (p->n_values == MOST_VALUES)
        return thaw_fail(THAW_E_LIMIT, "more than %d values", MOST_VALUES);
    THAW_CHECK(thaw__reserve(&p->value, &p->cap_values, p->n_values + 1, sizeof v));
    *out = (uint32_t)p->n_values;
    p->value[p->n_values++] = v;
    return THAW_OK;
}

static thaw_status push(machine *m, uint32_t value)
{
    if (m->n_stack == MOST_CELLS)
        return thaw_fail(THAW_E_LIMIT, "a stack of more than %d values", MOST_CELLS);
    THAW_CHECK(thaw__reserve(&m->stack, &m->cap_stack, m->n_stack + 1, sizeof *m->stack));
    m->stack[m->n_stack++] = value;
    return THAW_OK;
}

static thaw_status push_new(machine *m, pickle_value v)
{
    uint32_t value = 0;

    THAW_CHECK(add_value(&value, m, v));
    return push(m, value);
}

static pickle_value *value_of(const machine *m, uint32_t value)
{
    return &m->made->value[value];
}

/* The topmost value, taken off; a mark is none. */
static thaw_status pop(uint32_t *out, machine *m)
{
    if (m->n_stack == 0 || m->stack[m->n_stack - 1] == 0)
        return thaw_fail(THAW_E_DATA, "a value is missing on the stack");
    *out = m->stack[--m->n_stack];
    return THAW_OK;
}

/* Where on the stack what follows the last mark begins. */
static thaw_status find_mark(size_t *out, const machine *m)
{
    for (size_t i = m->n_stack; i > 0; i--)
        if (m->stack[i - 1] == 0) {
            *out = i;
            return THAW_OK;
        }
    return thaw_fail(THAW_E_DATA, "a mark is missing on the stack");
}

static thaw_status add_item(machine *m, uint32_t to, uint32_t item)
{
    pickle *const p = m->made;
    pickle_value *const v = &p->value[to];
    const uint32_t cell = (uint32_t)p->n_cells;

    if (p->n_cells == MOST_CELLS)
        return thaw_fail(THAW_E_LIMIT, "more than %d items", MOST_CELLS);
    THAW_CHECK(thaw__reserve(&p->cell, &p->cap_cells, p->n_cells + 1, sizeof *p->cell));
    p->cell[p->n_cells++] = (pickle_cell){.value = item};
    if (v->n == 0)
        v->first = cell;
    else
        p->cell[v->last].next = cell;
    v->last = cell;
    v->n++;
    return THAW_OK;
}

/* The values from `begin` on, taken off the stack, as items of a value. */
static thaw_status add_items(machine *m, uint32_t to, size_t begin)
{
    for (size_t i = begin; i < m->n_stack; i++)
        THAW_CHECK(add_item(m, to, m->stack[i]));
    m->n_stack = begin;
    return THAW_OK;
}

static thaw_status memoize(machine *m, uint64_t at)
{
    if (m->n_stack == 0 || m->stack[m->n_stack - 1] == 0)
        return thaw_fail(THAW_E_DATA, "a value is missing on the stack");
    if (at >= MOST_VALUES)
        return thaw_fail(THAW_E_LIMIT, "a memo of more than %d values", MOST_VALUES);
    THAW_CHECK(thaw__reserve(&m->memo, &m->cap_memo, (size_t)at + 1, sizeof *m->memo));
    for (; m->n_memo <= at; m->n_memo++)
        m->memo[m->n_memo] = 0;
    m->memo[at] = m->stack[m->n_stack - 1];
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * what may be named
 */

typedef thaw_status call_fn(machine *m, uint32_t arguments);

static const pickle_value *item_of(const machine *m, uint32_t value, uint32_t i)
{
    return pickle_item(m->made, value_of(m, value), i);
}

/* Number of the value that is item i; the item is there. */
static uint32_t item_number(const machine *m, uint32_t value, uint32_t i)
{
    return (uint32_t)(item_of(m, value, i) - m->made->value);
}

/* OrderedDict() or OrderedDict([(key, value), …]) */
static thaw_status call_dict(machine *m, uint32_t arguments)
{
    const uint32_t n = value_of(m, arguments)->n;
    const pickle_value *list;
    uint32_t dict = 0, cell, left;

    THAW_CHECK(add_value(&dict, m, (pickle_value){.kind = PICKLE_DICT}));
    list = item_of(m, arguments, 0);
    if (n > 1 || (n == 1 && list->kind != PICKLE_LIST))
        return thaw_fail(THAW_E_SUPPORT, "a dictionary made of something else than pairs");
    cell = n == 1 ? list->first : 0;
    left = n == 1 ? list->n : 0;
    for (; left > 0; left--, cell = m->made->cell[cell].next) {
        const uint32_t pair = m->made->cell[cell].value;

        if (!item_of(m, pair, 1))
            return thaw_fail(THAW_E_SUPPORT, "a dictionary made of something else than pairs");
        THAW_CHECK(add_item(m, dict, item_number(m, pair, 0)));
        THAW_CHECK(add_item(m, dict, item_number(m, pair, 1)));
    }
    return push(m, dict);
}

/* Storage, offset, shape, strides; what follows is about gradients. */
static thaw_status call_tensor(machine *m, uint32_t arguments)
{
    static const pickle_kind want[] = {PICKLE_STORAGE, PICKLE_INTEGER, PICKLE_TUPLE, PICKLE_TUPLE};
    uint32_t tensor = 0;

    THAW_CHECK(add_value(&tensor, m, (pickle_value){.kind = PICKLE_TENSOR}));
    for (uint32_t i = 0; i < THAW_COUNT(want); i++) {
        const pickle_value *v = item_of(m, arguments, i);

        if (!v || v->kind != want[i])
            return thaw_fail(THAW_E_DATA, "argument %u of a tensor is not what it should be", i);
        THAW_CHECK(add_item(m, tensor, item_number(m, arguments, i)));
    }
    return push(m, tensor);
}

/* The first argument itself: a parameter is its tensor, a size its tuple. */
static thaw_status call_first(machine *m, uint32_t arguments)
{
    const pickle_value *v = item_of(m, arguments, 0);

    if (!v || (v->kind != PICKLE_TENSOR && v->kind != PICKLE_TUPLE && v->kind != PICKLE_LIST))
        return thaw_fail(THAW_E_DATA, "the argument of a parameter or size is neither");
    return push(m, item_number(m, arguments, 0));
}

static thaw_status call_opaque(machine *m, uint32_t arguments)
{
    (void)arguments;
    return push_new(m, (pickle_value){.kind = PICKLE_OPAQUE});
}

#define NOT_STORAGE DTYPE_COUNT

/* Everything a pickle may name. call NULL: it may only be named. */
static const struct {
    const char *module, *name;
    call_fn *call;
    dtype storage;
} globals[] = {
    {"collections", "OrderedDict", call_dict, NOT_STORAGE},
    {"torch._utils", "_rebuild_tensor_v2", call_tensor, NOT_STORAGE},
    {"torch._utils", "_rebuild_tensor", call_tensor, NOT_STORAGE},
    {"torch._utils", "_rebuild_parameter", call_first, NOT_STORAGE},
    {"torch", "Size", call_first, NOT_STORAGE},
    {"torch", "FloatStorage", NULL, DTYPE_F32},
    {"torch", "DoubleStorage", NULL, DTYPE_F64},
    {"torch", "HalfStorage", NULL, DTYPE_F16},
    {"torch", "BFloat16Storage", NULL, DTYPE_BF16},
    {"torch", "LongStorage", NULL, DTYPE_I64},
    {"torch", "IntStorage", NULL, DTYPE_I32},
    {"torch", "ShortStorage", NULL, DTYPE_I16},
    {"torch", "CharStorage", NULL, DTYPE_I8},
    {"torch", "ByteStorage", NULL, DTYPE_U8},
    {"torch", "BoolStorage", NULL, DTYPE_BOOL},
    {"torch", "float32", NULL, NOT_STORAGE},
    {"torch", "float64", NULL, NOT_STORAGE},
    {"torch", "float16", NULL, NOT_STORAGE},
    {"torch", "bfloat16", NULL, NOT_STORAGE},
    {"torch", "int64", NULL, NOT_STORAGE},
    {"torch", "device", call_opaque, NOT_STORAGE},
    {"argparse", "Namespace", call_opaque, NOT_STORAGE},
    {"numpy", "dtype", call_opaque, NOT_STORAGE},
    {"numpy.core.multiarray", "scalar", call_opaque, NOT_STORAGE},
    {"numpy._core.multiarray", "scalar", call_opaque, NOT_STORAGE},
    {"_codecs", "encode", call_opaque, NOT_STORAGE},
};

static bool same_text(const char *a, size_t n, const char *b)
{
    return strlen(b) == n && memcmp(a, b, n) == 0;
}

/* Text of a hostile file for a message: at most 60 plain characters, '?' for others. */
static const char *shown(char out[64], const char *text, size_t n)
{
    size_t i;

    for (i = 0; i < n && i < 60; i++)
        out[i] = text[i] >= ' ' && text[i] < 0x7F ? text[i] : '?';
    out[i] = '\0';
    return out;
}

static thaw_status push_global(machine *m, const argument *a)
{
    char module[64], name[64];

    for (size_t i = 0; i < THAW_COUNT(globals); i++)
        if (same_text(a->text, a->n, globals[i].module) &&
            same_text(a->second, a->n_second, globals[i].name))
            return push_new(m, (pickle_value){.kind = PICKLE_GLOBAL, .number = (int64_t)i});
    return thaw_fail(THAW_E_SUPPORT,
                     "it holds a '%s.%s', which is no tensor and is not loaded: save "
                     "model.state_dict() alone",
                     shown(module, a->text, a->n), shown(name, a->second, a->n_second));
}

/* ----------------------------------------------------------------------------------------------
 * instructions
 */

static thaw_status do_nothing(machine *m, const argument *a)
{
    (void)m;
    (void)a;
    return THAW_OK;
}

static thaw_status do_proto(machine *m, const argument *a)
{
    (void)m;
    if (a->number < 2 || a->number > 5)
        return thaw_fail(THAW_E_SUPPORT, "pickle protocol %lld; 2 to 5 are understood",
                         (long long)a->number);
    return THAW_OK;
}

static thaw_status do_stop(machine *m, const argument *a)
{
    (void)a;
    THAW_CHECK(pop(&m->made->root, m));
    m->stopped = true;
    return THAW_OK;
}

static thaw_status do_mark(machine *m, const argument *a)
{
    (void)a;
    return push(m, 0);
}

static thaw_status do_pop(machine *m, const argument *a)
{
    (void)a;
    if (m->n_stack == 0)
        return thaw_fail(THAW_E_DATA, "a value is missing on the stack");
    m->n_stack--;
    return THAW_OK;
}

static thaw_status do_none(machine *m, const argument *a)
{
    (void)a;
    return push_new(m, (pickle_value){.kind = PICKLE_NONE});
}

static thaw_status do_true(machine *m, const argument *a)
{
    (void)a;
    return push_new(m, (pickle_value){.kind = PICKLE_BOOL, .number = 1});
}

static thaw_status do_false(machine *m, const argument *a)
{
    (void)a;
    return push_new(m, (pickle_value){.kind = PICKLE_BOOL});
}

static thaw_status do_integer(machine *m, const argument *a)
{
    return push_new(m, (pickle_value){.kind = PICKLE_INTEGER, .number = a->number});
}

/* Little-endian, two's complement; none is 0. */
static thaw_status do_long(machine *m, const argument *a)
{
    uint64_t v = 0;

    if (a->n > 8)
        return thaw_fail(THAW_E_LIMIT, "an integer of %zu bytes", a->n);
    for (size_t i = a->n; i > 0; i--)
        v = v << 8 | (unsigned char)a->text[i - 1];
    if (a->n > 0 && a->n < 8 && (unsigned char)a->text[a->n - 1] >= 0x80)
        v |= ~UINT64_C(0) << (8 * a->n);
    return push_new(m, (pickle_value){.kind = PICKLE_INTEGER, .number = (int64_t)v});
}

static thaw_status do_real(machine *m, const argument *a)
{
    return push_new(m, (pickle_value){.kind = PICKLE_REAL, .real = a->real});
}

static thaw_status do_text(machine *m, const argument *a)
{
    return push_new(m, (pickle_value){.kind = PICKLE_TEXT, .n = (uint32_t)a->n, .text = a->text});
}

static thaw_status do_empty_tuple(machine *m, const argument *a)
{
    (void)a;
    return push_new(m, (pickle_value){.kind = PICKLE_TUPLE});
}

static thaw_status do_empty_list(machine *m, const argument *a)
{
    (void)a;
    return push_new(m, (pickle_value){.kind = PICKLE_LIST});
}

static thaw_status do_empty_dict(machine *m, const argument *a)
{
    (void)a;
    return push_new(m, (pickle_value){.kind = PICKLE_DICT});
}

static thaw_status make_tuple(machine *m, size_t begin)
{
    uint32_t tuple = 0;

    THAW_CHECK(add_value(&tuple, m, (pickle_value){.kind = PICKLE_TUPLE}));
    THAW_CHECK(add_items(m, tuple, begin));
    return push(m, tuple);
}

static thaw_status do_tuple(machine *m, const argument *a)
{
    size_t begin = 0;
    uint32_t tuple = 0;

    (void)a;
    THAW_CHECK(find_mark(&begin, m));
    THAW_CHECK(add_value(&tuple, m, (pickle_value){.kind = PICKLE_TUPLE}));
    THAW_CHECK(add_items(m, tuple, begin));
    m->stack[begin - 1] = tuple; /* in the place of the mark */
    return THAW_OK;
}

static thaw_status short_tuple(machine *m, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (i >= m->n_stack || m->stack[m->n_stack - 1 - i] == 0)
            return thaw_fail(THAW_E_DATA, "a value is missing on the stack");
    return make_tuple(m, m->n_stack - n);
}

static thaw_status do_tuple1(machine *m, const argument *a)
{
    (void)a;
    return short_tuple(m, 1);
}

static thaw_status do_tuple2(machine *m, const argument *a)
{
    (void)a;
    return short_tuple(m, 2);
}

static thaw_status do_tuple3(machine *m, const argument *a)
{
    (void)a;
    return short_tuple(m, 3);
}

/* The container below the items that begin there, of this kind. */
static thaw_status container_below(uint32_t *out, const machine *m, size_t begin, pickle_kind kind)
{
    if (begin == 0 || m->stack[begin - 1] == 0 ||
        value_of(m, m->stack[begin - 1])->kind != (uint8_t)kind)
        return thaw_fail(THAW_E_DATA, "items for something that is no %s",
                         kind == PICKLE_DICT ? "dictionary" : "list");
    *out = m->stack[begin - 1];
    return THAW_OK;
}

/* Items after the last mark go into the container before it. */
static thaw_status fill(machine *m, pickle_kind kind)
{
    size_t begin = 0;
    uint32_t container = 0;

    THAW_CHECK(find_mark(&begin, m));
    THAW_CHECK(container_below(&container, m, begin - 1, kind));
    if (kind == PICKLE_DICT && (m->n_stack - begin) % 2 != 0)
        return thaw_fail(THAW_E_DATA, "a key without a value");
    THAW_CHECK(add_items(m, container, begin));
    m->n_stack--;
    return THAW_OK;
}

static thaw_status do_set_items(machine *m, const argument *a)
{
    (void)a;
    return fill(m, PICKLE_DICT);
}

static thaw_status do_appends(machine *m, const argument *a)
{
    (void)a;
    return fill(m, PICKLE_LIST);
}

static thaw_status fill_last(machine *m, pickle_kind kind, size_t n)
{
    uint32_t container = 0;

    for (size_t i = 0; i < n; i++)
        if (i >= m->n_stack || m->stack[m->n_stack - 1 - i] == 0)
            return thaw_fail(THAW_E_DATA, "a value is missing on the stack");
    THAW_CHECK(container_below(&container, m, m->n_stack - n, kind));
    return add_items(m, container, m->n_stack - n);
}

static thaw_status do_set_item(machine *m, const argument *a)
{
    (void)a;
    return fill_last(m, PICKLE_DICT, 2);
}

static thaw_status do_append(machine *m, const argument *a)
{
    (void)a;
    return fill_last(m, PICKLE_LIST, 1);
}

static thaw_status do_put(machine *m, const argument *a)
{
    return memoize(m, (uint64_t)a->number);
}

/* The place is the number of values memoized so far: such pickles leave no holes. */
static thaw_status do_memoize(machine *m, const argument *a)
{
    (void)a;
    return memoize(m, m->n_memo);
}

static thaw_status do_get(machine *m, const argument *a)
{
    const uint64_t at = (uint64_t)a->number;

    if (at >= m->n_memo || m->memo[at] == 0)
        return thaw_fail(THAW_E_DATA, "memo %llu is asked for and was never filled",
                         (unsigned long long)at);
    return push(m, m->memo[at]);
}

static thaw_status do_stack_global(machine *m, const argument *a)
{
    uint32_t name = 0, module = 0;

    (void)a;
    THAW_CHECK(pop(&name, m));
    THAW_CHECK(pop(&module, m));
    const pickle_value *const v = value_of(m, module), *const w = value_of(m, name);

    if (v->kind != PICKLE_TEXT || w->kind != PICKLE_TEXT)
        return thaw_fail(THAW_E_DATA, "a name that is no text");
    return push_global(
        m, &(argument){.text = v->text, .n = v->n, .second = w->text, .n_second = w->n});
}

static thaw_status do_global(machine *m, const argument *a)
{
    return push_global(m, a);
}

static thaw_status do_reduce(machine *m, const argument *a)
{
    uint32_t arguments = 0, function = 0;
    const pickle_value *f;

    (void)a;
    THAW_CHECK(pop(&arguments, m));
    THAW_CHECK(pop(&function, m));
    f = value_of(m, function);
    if (f->kind != PICKLE_GLOBAL || value_of(m, arguments)->kind != PICKLE_TUPLE)
        return thaw_fail(THAW_E_DATA, "a call of something that cannot be called");
    if (!globals[f->number].call)
        return thaw_fail(THAW_E_SUPPORT, "a call of '%s.%s'", globals[f->number].module,
                         globals[f->number].name);
    return globals[f->number].call(m, arguments);
}

/* Attributes: a dictionary's, such as the versions of modules, say nothing of the tensors. */
static thaw_status do_build(machine *m, const argument *a)
{
    uint32_t attributes = 0;

    (void)a;
    THAW_CHECK(pop(&attributes, m));
    if (m->n_stack == 0 || (value_of(m, m->stack[m->n_stack - 1])->kind != PICKLE_DICT &&
                            value_of(m, m->stack[m->n_stack - 1])->kind != PICKLE_OPAQUE))
        return thaw_fail(THAW_E_SUPPORT, "attributes of something that has none");
    return THAW_OK;
}

/* ("storage", type, key, device, elements) */
static thaw_status do_persistent(machine *m, const argument *a)
{
    pickle_value storage = {.kind = PICKLE_STORAGE};
    uint32_t id = 0;

    (void)a;
    THAW_CHECK(pop(&id, m));
    const pickle_value *const word = item_of(m, id, 0), *const type = item_of(m, id, 1);
    const pickle_value *const key = item_of(m, id, 2), *const n = item_of(m, id, 4);
    const pickle_value *const view = item_of(m, id, 5);

    if (value_of(m, id)->kind != PICKLE_TUPLE || !pickle_is_text(word, "storage") || !n ||
        type->kind != PICKLE_GLOBAL || key->kind != PICKLE_TEXT || n->kind != PICKLE_INTEGER ||
        globals[type->number].storage == NOT_STORAGE || n->number < 0 ||
        (view && view->kind != PICKLE_NONE))
        return thaw_fail(THAW_E_DATA, "a reference to something that is no storage of tensors");
    storage.dtype = (uint8_t)globals[type->number].storage;
    storage.first = (uint32_t)(key - m->made->value);
    storage.number = n->number;
    return push_new(m, storage);
}

/* ----------------------------------------------------------------------------------------------
 * reading instructions
 */

typedef enum argument_kind {
    ARG_NONE,
    ARG_U1,
    ARG_U2,
    ARG_I4,
    ARG_U4,
    ARG_U8,
    ARG_REAL,
    ARG_LINES, /* two lines of text */
    ARG_TEXT1, /* as many bytes as the first byte says, or the first 4, 8 */
    ARG_TEXT4,
    ARG_TEXT8
} argument_kind;

static const struct {
    argument_kind argument;
    thaw_status (*run)(machine *m, const argument *a);
} instructions[256] = {
    [0x80] = {ARG_U1, do_proto},
    ['.'] = {ARG_NONE, do_stop},
    [0x95] = {ARG_U8, do_nothing}, /* a frame: only of use when reading a stream */
    ['('] = {ARG_NONE, do_mark},
    ['0'] = {ARG_NONE, do_pop},
    ['N'] = {ARG_NONE, do_none},
    [0x88] = {ARG_NONE, do_true},
    [0x89] = {ARG_NONE, do_false},
    ['J'] = {ARG_I4, do_integer},
    ['K'] = {ARG_U1, do_integer},
    ['M'] = {ARG_U2, do_integer},
    [0x8A] = {ARG_TEXT1, do_long},
    ['G'] = {ARG_REAL, do_real},
    ['X'] = {ARG_TEXT4, do_text},
    [0x8C] = {ARG_TEXT1, do_text},
    [0x8D] = {ARG_TEXT8, do_text},
    ['T'] = {ARG_TEXT4, do_text},
    ['U'] = {ARG_TEXT1, do_text},
    ['B'] = {ARG_TEXT4, do_text},
    ['C'] = {ARG_TEXT1, do_text},
    [')'] = {ARG_NONE, do_empty_tuple},
    [']'] = {ARG_NONE, do_empty_list},
    ['}'] = {ARG_NONE, do_empty_dict},
    ['t'] = {ARG_NONE, do_tuple},
    [0x85] = {ARG_NONE, do_tuple1},
    [0x86] = {ARG_NONE, do_tuple2},
    [0x87] = {ARG_NONE, do_tuple3},
    ['s'] = {ARG_NONE, do_set_item},
    ['u'] = {ARG_NONE, do_set_items},
    ['a'] = {ARG_NONE, do_append},
    ['e'] = {ARG_NONE, do_appends},
    ['q'] = {ARG_U1, do_put},
    ['r'] = {ARG_U4, do_put},
    [0x94] = {ARG_NONE, do_memoize},
    ['h'] = {ARG_U1, do_get},
    ['j'] = {ARG_U4, do_get},
    ['c'] = {ARG_LINES, do_global},
    [0x93] = {ARG_NONE, do_stack_global},
    ['R'] = {ARG_NONE, do_reduce},
    [0x81] = {ARG_NONE, do_reduce},
    ['b'] = {ARG_NONE, do_build},
    ['Q'] = {ARG_NONE, do_persistent},
};

/* Bytes of the number that an argument begins with. */
static const size_t number_bytes[] = {
    [ARG_NONE] = 0, [ARG_U1] = 1,    [ARG_U2] = 2,    [ARG_I4] = 4,    [ARG_U4] = 4,   [ARG_U8] = 8,
    [ARG_REAL] = 8, [ARG_LINES] = 0, [ARG_TEXT1] = 1, [ARG_TEXT4] = 4, [ARG_TEXT8] = 8};

static thaw_status cut_off(void)
{
    return thaw_fail(THAW_E_DATA, "the pickle is cut off");
}

static thaw_status read_line(const char **text, size_t *n, machine *m)
{
    const char *end = memchr(m->at, '\n', (size_t)(m->end - m->at));

    if (!end)
        return cut_off();
    *text = m->at;
    *n = (size_t)(end - m->at);
    m->at = end + 1;
    return THAW_OK;
}

static thaw_status read_argument(argument *a, machine *m, argument_kind kind)
{
    const size_t n = number_bytes[kind];
    uint64_t v = 0;

    if ((size_t)(m->end - m->at) < n)
        return cut_off();
    for (size_t i = 0; i < n; i++) /* reals are big-endian, all others little-endian */
        v |= (uint64_t)(unsigned char)m->at[i] << 8 * (kind == ARG_REAL ? n - 1 - i : i);
    m->at += n;
    a->number = kind == ARG_I4 ? (int32_t)(uint32_t)v : (int64_t)v;
    if (kind == ARG_REAL)
        memcpy(&a->real, &v, sizeof v);
    if (kind == ARG_LINES) {
        THAW_CHECK(read_line(&a->text, &a->n, m));
        return read_line(&a->second, &a->n_second, m);
    }
    if (kind < ARG_TEXT1)
        return THAW_OK;
    if (v > (uint64_t)(m->end - m->at) || v > UINT32_MAX)
        return cut_off();
    a->text = m->at;
    a->n = (size_t)v;
    m->at += v;
    return THAW_OK;
}

static thaw_status step(machine *m)
{
    const unsigned char code = (unsigned char)*m->at;
    argument a = {0};

    if (!instructions[code].run)
        return thaw_fail(THAW_E_SUPPORT, "instruction 0x%02X, which no state dict uses", code);
    m->at++;
    THAW_CHECK(read_argument(&a, m, instructions[code].argument));
    return instructions[code].run(m, &a);
}

static thaw_status run(machine *m)
{
    for (int64_t i = 0; !m->stopped; i++) {
        const char *const at = m->at;
        thaw_status status;

        if (i == MOST_STEPS)
            return thaw_fail(THAW_E_LIMIT, "a pickle of more than %d steps", MOST_STEPS);
        if (m->at == m->end)
            return cut_off();
        status = step(m);
        if (status != THAW_OK)
            return thaw_fail_context(status, "pickle byte %zu", (size_t)(at - m->begin));
    }
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * all of it
 */

thaw_status pickle_read(pickle **out, size_t *used, const char *data, size_t n)
{
    machine m = {.begin = data, .at = data, .end = data + n};
    uint32_t mark = 0;
    thaw_status status;

    m.made = thaw__new(1, sizeof *m.made);
    if (!m.made)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a pickle");
    THAW_TRY(add_value(&mark, &m, (pickle_value){.kind = PICKLE_MARK}));
    THAW_TRY(thaw__reserve(&m.made->cell, &m.made->cap_cells, 1, sizeof *m.made->cell));
    m.made->n_cells = 1;
    THAW_TRY(run(&m));
    THAW_TRY(pickle_check_acyclic(m.made));
    if (used)
        *used = (size_t)(m.at - m.begin);
    *out = m.made;
    m.made = NULL;
done:
    pickle_destroy(m.made);
    thaw__free(m.stack);
    thaw__free(m.memo);
    return status;
}
