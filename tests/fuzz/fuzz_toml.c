/*
 * fuzz_toml.c - any bytes as a TOML document: read or refused in one line with a place, nothing
 * left behind, and what was read prints as a value that reads back the same.
 */
#include "train/toml.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The whole document as one inline table, put into another document. */
static void read_back(const toml_value *root)
{
    static const char key[] = "k";
    text first = TEXT_INIT, second = TEXT_INIT;
    toml_document *doc = NULL;
    toml_value *v;
    thaw_status status;

    toml_add_value(&first, root);
    THAW_ASSERT(!first.failed);
    THAW_ASSERT(toml_parse(&doc, "", 0, "fuzz") == THAW_OK);
    status = toml_put(&v, doc, doc->root, key, first.data, first.length, "fuzz");
    if (status == THAW_OK) {
        toml_add_value(&second, v);
        THAW_ASSERT(second.length == first.length);
        THAW_ASSERT(memcmp(second.data, first.data, first.length) == 0);
    } else { /* it lies one table deeper now */
        THAW_ASSERT(strstr(thaw_error(), "deeper") || strstr(thaw_error(), "larger"));
    }
    toml_destroy(doc);
    text_done(&second);
    text_done(&first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t before = thaw__mem_current();
    toml_document *doc = NULL;
    const thaw_status status = toml_parse(&doc, (const char *)data, size, "fuzz");

    if (status == THAW_OK) {
        read_back(doc->root);
    } else {
        THAW_ASSERT(status == THAW_E_RECIPE && doc == NULL);
        THAW_ASSERT(strncmp(thaw_error(), "fuzz:", 5) == 0 && !strchr(thaw_error(), '\n'));
    }
    toml_destroy(doc);
    THAW_ASSERT(thaw__mem_current() == before);
    return 0;
}
