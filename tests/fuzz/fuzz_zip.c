/*
 * Fuzz target: any bytes as a zip archive. What is accepted must be what it says: entries inside
 * the file, apart from each other, sorted and found by name; nothing may leak.
 */
#include "ckpt/ckpt.h"

#include <string.h>

#include "fuzz_file.h"

static bool apart(const zip_entry *a, const zip_entry *b)
{
    return a->bytes == 0 || b->bytes == 0 || a->begin + a->bytes <= b->begin ||
           b->begin + b->bytes <= a->begin;
}

static void check(const zip_file *z, size_t size)
{
    for (int i = 0; i < z->n; i++) {
        const zip_entry *const e = &z->entry[i];

        require(e->begin <= size && e->bytes <= size - e->begin, "an entry outside the file");
        require(zip_find(z, e->name) == e, "an entry that is not found by its name");
        require(!strstr(e->name, "../") && e->name[0] != '/', "a name that leaves the archive");
        require(i == 0 || strcmp(z->entry[i - 1].name, e->name) < 0, "entries out of order");
        for (int k = 0; k < i && i < 64; k++)
            require(apart(e, &z->entry[k]), "entries that share bytes");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int fd = input_file(data, size);
    zip_file *z = NULL;

    if (zip_read(&z, fd, (int64_t)size) == THAW_OK)
        check(z, size);
    zip_destroy(z);
    require(thaw__mem_current() == 0, "a leak");
    return 0;
}
