/*
 * Fuzz target: any bytes as the index of a sharded network. What is read is sorted, unique and
 * names nothing but files beside the index; nothing may leak.
 */
#include "ckpt/ckpt.h"

#include <string.h>

#include "fuzz_file.h"

static void look_at(const st_index *x)
{
    for (int i = 0; i < x->n_shards; i++)
        require(x->shard[i][0] != '.' && !strchr(x->shard[i], '/'), "a shard that is a path");
    for (int i = 0; i < x->n; i++) {
        require(x->entry[i].shard >= 0 && x->entry[i].shard < x->n_shards, "a shard of nothing");
        require(i == 0 || strcmp(x->entry[i - 1].name, x->entry[i].name) < 0, "names out of order");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    st_index *x = NULL;

    if (st_index_parse(&x, (const char *)data, size, "input") == THAW_OK)
        look_at(x);
    st_index_destroy(x);
    require(thaw__mem_current() == 0, "a leak");
    return 0;
}
