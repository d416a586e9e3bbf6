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

/* An empty object, which counts twice, becomes 400 bytes. */
#define MOST_VALUES 100000

static _Thread_local bool no_memory;
static atomic_bool ours;

static void *allocate(size_t size)
{
    void *block = thaw__alloc(size);

    no_memory = no_memory || !block;
    return block;
}

/* jansson allocates as the library does: its own way again once no allocator is installed. */
static void follow_hook(void)
{
    const bool hooked = thaw__mem_hooked();

    if (atomic_load(&ours) == hooked)
        return;
    json_set_alloc_funcs(hooked ? allocate : malloc, hooked ? thaw__free : free);
    atomic_store(&ours, hooked);
}

/* Values that a text can hold at most: one, and one behind each opening bracket and each comma that
 * no string hides. */
static size_t most_values(const char *data, size_t size)
{
    size_t n = 1;
    bool quoted = false;

    for (size_t i = 0; i < size; i++) {
        if (quoted && data[i] == '\\')
            i++;
        else if (data[i] == '"')
            quoted = !quoted;
        else
            n += !quoted && (data[i] == ',' || data[i] == '[' || data[i] == '{');
    }
    return n;
}

thaw_status json_parse(json_t **out, const char *data, size_t size, const char *name)
{
    json_error_t error = {0};
    json_t *root;

    if (most_values(data, size) > MOST_VALUES)
        return thaw_fail(THAW_E_LIMIT, "%s: more than %d values", name, MOST_VALUES);
    follow_hook();
    no_memory = false;
    root = json_loadb(data, size, JSON_REJECT_DUPLICATES, &error);
    if (!root && (no_memory || json_error_code(&error) == json_error_out_of_memory))
        return thaw_fail(THAW_E_NOMEM, "out of memory reading '%s'", name);
    if (!root)
        return thaw_fail(THAW_E_DATA, "%s:%d:%d: %s", name, error.line, error.column, error.text);
    *out = root;
    return THAW_OK;
}
