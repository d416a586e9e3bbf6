/*
 * Fuzz target: any bytes as a safetensors file. What opens must be readable in full and consistent;
 * nothing may leak.
 */
#include "ckpt/ckpt.h"

#include "fuzz_file.h"

static void read_all(const st_file *f, size_t size)
{
    for (int i = 0; i < f->n; i++) {
        const st_entry *e = &f->entry[i];
        size_t bytes = 0;
        void *out;

        require(e->begin <= size && e->bytes <= size - e->begin, "a tensor outside of the file");
        require(shape_bytes(&bytes, &e->shape, e->dtype) == THAW_OK && bytes == e->bytes,
                "a tensor of the wrong size");
        require(st_find(f, e->name) == e, "a tensor that is not found");
        out = thaw__new(e->bytes, 8);
        require(out != NULL, "out of memory");
        require(st_read(out, e->dtype, f, e) == THAW_OK, "a tensor that cannot be read");
        if (dtype_is_float(e->dtype))
            require(st_read(out, DTYPE_F64, f, e) == THAW_OK, "a tensor that cannot be converted");
        thaw__free(out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    st_file *f = NULL;

    snprintf(path, sizeof path, "/proc/self/fd/%d", input_file(data, size));
    if (st_open(&f, path) == THAW_OK)
        read_all(f, size);
    st_close(f);
    require(thaw__mem_current() == 0, "a leak");
    return 0;
}
