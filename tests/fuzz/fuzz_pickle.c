/*
 * Fuzz target: any bytes as a pickle. What is read has items that are values of it, text inside of
 * the bytes, and no cycle; nothing may leak.
 */
#include "ckpt/ckpt.h"

#include "fuzz_file.h"

static void look_at(const pickle *p, const char *data, size_t size)
{
    for (size_t i = 0; i < p->n_values; i++) {
        const pickle_value *const v = &p->value[i];

        if (v->kind == PICKLE_TEXT)
            require(v->text >= data && v->text + v->n <= data + size, "text outside of the pickle");
        if (v->kind == PICKLE_DICT)
            require(v->n % 2 == 0, "a key without a value");
        if (v->kind == PICKLE_TENSOR)
            require(pickle_item(p, v, 3) && pickle_item(p, v, 0)->kind == PICKLE_STORAGE,
                    "a tensor without a storage");
        if (v->kind == PICKLE_STORAGE)
            require(p->value[v->first].kind == PICKLE_TEXT, "a storage without a key");
    }
    for (size_t i = 1; i < p->n_cells; i++)
        require(p->cell[i].value > 0 && p->cell[i].value < p->n_values &&
                    p->cell[i].next < p->n_cells,
                "an item that is no value");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pickle *p = NULL;
    size_t used = 0;

    if (pickle_read(&p, &used, (const char *)data, size) == THAW_OK) {
        require(used > 0 && used <= size, "a pickle longer than its bytes");
        look_at(p, (const char *)data, size);
    }
    pickle_destroy(p);
    require(thaw__mem_current() == 0, "a leak");
    return 0;
}
