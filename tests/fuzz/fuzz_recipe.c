/*
 * fuzz_recipe.c - any bytes as a recipe, the first line as a --set: read or refused, nothing left
 * behind, and a resolved recipe reads back as one that resolves to the same values.
 */
#include "train/train.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The same text without the comments on where values come from; they end their lines. */
static void add_values(text *out, const char *resolved)
{
    for (const char *line = resolved; *line; line += strcspn(line, "\n") + 1) {
        const size_t n = strcspn(line, "\n");
        size_t end = n;

        for (size_t i = 0; i + 2 < n; i++)
            if (memcmp(line + i, " # ", 3) == 0)
                end = i;
        while (end > 0 && line[end - 1] == ' ')
            end--;
        if (line[0] != '#')
            text_add_n(out, line, end);
        text_add(out, "\n");
    }
}

static void read_back(const char *resolved)
{
    text first = TEXT_INIT, second = TEXT_INIT;
    thaw_recipe *again = NULL;

    THAW_ASSERT(thaw_recipe_parse(&again, resolved, strlen(resolved), "fuzz", "/elsewhere", NULL,
                                  0) == THAW_OK);
    add_values(&first, resolved);
    add_values(&second, again->resolved);
    if (!strstr(resolved, "--set")) /* whose text may hold anything */
        THAW_ASSERT(strcmp(first.data, second.data) == 0);
    thaw_recipe_destroy(again);
    text_done(&second);
    text_done(&first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t before = thaw__mem_current();
    const uint8_t *const newline = memchr(data, '\n', size);
    const size_t n_set = newline ? (size_t)(newline - data) : 0;
    char *const set = thaw__strndup((const char *)data, n_set);
    const char *const sets[] = {set};
    const size_t rest = newline ? n_set + 1 : 0;
    thaw_recipe *recipe = NULL;
    thaw_status status;

    THAW_ASSERT(set != NULL);
    status = thaw_recipe_parse(&recipe, (const char *)data + rest, size - rest, "fuzz", "/folder",
                               sets, n_set > 0);
    if (status == THAW_OK)
        read_back(recipe->resolved);
    else
        THAW_ASSERT(status == THAW_E_RECIPE && recipe == NULL && thaw_error()[0] != '\0');
    thaw_recipe_destroy(recipe);
    thaw__free(set);
    THAW_ASSERT(thaw__mem_current() == before);
    return 0;
}
