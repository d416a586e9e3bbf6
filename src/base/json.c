/*
 * json.c - JSON files as jansson's trees, under our rules: memory from the allocator hook, no
 * duplicate keys, a limit on what a file can unfold into, and one form of message.
 *
 * jansson keeps its allocator for the whole process, so it is told of ours only where the program
 * has installed one. Knows nothing of what the files say.
 */
#include "base/base.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* An empty object, which counts twice, becomes 400 bytes. */
#define MOST_VALUES 100000
#define MOST_TOKEN  (1 << 20)

/*
 * jansson 2.14 does not look whether its buffer for a token could grow, and then copies beyond it.
 * So that buffer never meets a failure: once memory has run out, sizes as the buffer has them (a
 * power of two, 32 or more) come out of a reserve, which is larger than all tokens can make it, and
 * everything else fails, which ends the parsing.
 */
typedef struct reserve {
    char *begin;
    size_t size, used;
    bool needed;
} reserve;

static _Thread_local reserve spare;
static atomic_bool ours;

static void *allocate(size_t size)
{
    void *block = spare.needed ? NULL : thaw__alloc(size);

    if (block)
        return block;
    spare.needed = true;
    if (size < 32 || (size & (size - 1)) != 0 || size > spare.size - spare.used)
        return NULL;
    spare.used += size;
    return spare.begin + spare.used - size;
}

static void release(void *block)
{
    const char *p = block;

    if (!spare.begin || p < spare.begin || p >= spare.begin + spare.size)
        thaw__free(block);
}

/* jansson allocates as the library does: its own way again once no allocator is installed. */
static void follow_hook(void)
{
    const bool hooked = thaw__mem_hooked();

    if (atomic_load(&ours) == hooked)
        return;
    json_set_alloc_funcs(hooked ? allocate : malloc, hooked ? release : free);
    atomic_store(&ours, hooked);
}

/* What a text can unfold into at most: so many values, its longest token of so many bytes. */
typedef struct census {
    size_t values, longest;
} census;

/* One value, and one behind each opening bracket and each comma that no string hides. */
static census count(const char *data, size_t size)
{
    census c = {.values = 1};
    size_t token = 0;
    bool quoted = false;

    for (size_t i = 0; i < size; i++) {
        const char at = data[i];

        token++;
        if (quoted && at == '\\') {
            i++;
            token++;
        } else if (at == '"') {
            quoted = !quoted;
        } else if (!quoted && strchr(",:[]{} \n", at)) {
            c.values += at == ',' || at == '[' || at == '{';
            token = 0;
        }
        c.longest = THAW_MAX(c.longest, token);
    }
    return c;
}

static thaw_status check_census(const census *c, const char *name)
{
    if (c->values > MOST_VALUES)
        return thaw_fail(THAW_E_LIMIT, "%s: more than %d values", name, MOST_VALUES);
    if (c->longest > MOST_TOKEN)
        return thaw_fail(THAW_E_LIMIT, "%s: a text of more than %d bytes", name, MOST_TOKEN);
    return THAW_OK;
}

/* The tree, or NULL: error says why, or memory has run out. */
static json_t *load(bool *no_memory, json_error_t *error, const char *data, size_t size)
{
    json_t *root = json_loadb(data, size, JSON_REJECT_DUPLICATES, error);

    *no_memory = spare.needed || (!root && json_error_code(error) == json_error_out_of_memory);
    if (*no_memory) {
        json_decref(root);
        return NULL;
    }
    return root;
}

thaw_status json_parse(json_t **out, const char *data, size_t size, const char *name)
{
    const census c = count(data, size);
    json_error_t error = {0};
    bool no_memory;
    json_t *root;

    THAW_CHECK(check_census(&c, name));
    follow_hook();
    spare = (reserve){.size = 4 * c.longest + 4096};
    spare.begin = thaw__alloc(spare.size);
    if (!spare.begin)
        return thaw_fail(THAW_E_NOMEM, "out of memory reading '%s'", name);
    root = load(&no_memory, &error, data, size);
    thaw__free(spare.begin);
    spare = (reserve){0};
    if (no_memory)
        return thaw_fail(THAW_E_NOMEM, "out of memory reading '%s'", name);
    for (char *p = error.text; *p; p++)
        if ((unsigned char)*p < ' ') /* it quotes the file, and must stay one line */
            *p = ' ';
    if (!root)
        return thaw_fail(THAW_E_DATA, "%s:%d:%d: %s", name, error.line, error.column, error.text);
    *out = root;
    return THAW_OK;
}
