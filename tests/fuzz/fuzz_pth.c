/*
 * Fuzz target: any bytes as a file of torch.save, so as a zip archive with a pickle in it or as
 * pickles and storages in turn. What opens must be readable in full; nothing may leak.
 */
#include "ckpt/ckpt.h"

#include "fuzz_file.h"

static void read_all(const pth_file *f, size_t size)
{
    for (int i = 0; i < f->n; i++) {
        const pth_tensor *const t = &f->tensor[i];
        size_t bytes = 0;
        void *out;

        require(shape_bytes(&bytes, &t->shape, t->dtype) == THAW_OK && bytes <= size,
                "a tensor larger than the file");
        out = thaw__new(bytes, 8);
        require(out != NULL, "out of memory");
        require(pth_read(out, t->dtype, f, t) == THAW_OK, "a tensor that cannot be read");
        if (dtype_is_float(t->dtype))
            require(pth_read(out, DTYPE_F64, f, t) == THAW_OK, "a tensor that is not converted");
        thaw__free(out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    pth_file *f = NULL;

    snprintf(path, sizeof path, "/proc/self/fd/%d", input_file(data, size));
    if (pth_open(&f, path) == THAW_OK)
        read_all(f, size);
    pth_close(f);
    require(thaw__mem_current() == 0, "a leak");
    return 0;
}
