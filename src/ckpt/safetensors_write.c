/*
 * safetensors_write - writing named tensors so that any reader of the format opens them.
 *
 * The header is made whole in memory, then the data follows in the order given, without a copy. It
 * knows nothing of who needs the file or of how it gets onto the disk.
 */
#include "ckpt/ckpt.h"

#include <stdlib.h>
#include <string.h>

#define DATA_ALIGNMENT 8

static void add_tensor(text *t, const st_source *s, size_t begin, size_t bytes)
{
    text_add_json_string(t, s->name);
    text_addf(t, ":{\"dtype\":\"%s\",\"shape\":[", dtype_safetensors(s->dtype));
    for (int i = 0; i < s->shape.rank; i++)
        text_addf(t, "%s%lld", i ? "," : "", (long long)s->shape.dim[i]);
    text_addf(t, "],\"data_offsets\":[%zu,%zu]}", begin, begin + bytes);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static thaw_status check_names(const st_source *tensor, int n)
{
    thaw_status status = THAW_OK;
    const char **name = thaw__new((size_t)n, sizeof *name);

    if (!name)
        return thaw_fail(THAW_E_NOMEM, "out of memory for %d names", n);
    for (int i = 0; i < n; i++)
        name[i] = tensor[i].name;
    if (n > 0)
        qsort(name, (size_t)n, sizeof *name, by_text);
    for (int i = 0; i < n && status == THAW_OK; i++)
        if (!*name[i] || strcmp(name[i], "__metadata__") == 0)
            status = thaw_fail(THAW_E_USAGE, "a tensor cannot be named '%s'", name[i]);
        else if (i > 0 && strcmp(name[i - 1], name[i]) == 0)
            status = thaw_fail(THAW_E_USAGE, "two tensors are named '%s'", name[i]);
    thaw__free(name);
    return status;
}

static thaw_status add_all(text *t, const st_source *tensor, int n, const char *metadata_json)
{
    size_t begin = 0;

    text_add_n(t, "\0\0\0\0\0\0\0\0{", 9);
    if (metadata_json)
        text_addf(t, "\"__metadata__\":%s%s", metadata_json, n > 0 ? "," : "");
    for (int i = 0; i < n; i++) {
        size_t bytes = 0;

        THAW_CHECK(shape_bytes(&bytes, &tensor[i].shape, tensor[i].dtype));
        add_tensor(t, &tensor[i], begin, bytes);
        if (i + 1 < n)
            text_add(t, ",");
        if (!size_add(&begin, begin, bytes))
            return thaw_fail(THAW_E_LIMIT, "the tensors are too large for one file");
    }
    text_add(t, "}");
    while (t->length % DATA_ALIGNMENT != 0 && !t->failed)
        text_add(t, " ");
    return THAW_OK;
}

thaw_status st_header(char **out, size_t *size, const char *file_name, const st_source *tensor,
                      int n, const char *metadata_json)
{
    thaw_status status = THAW_OK;
    text t = TEXT_INIT;
    uint64_t length;

    THAW_TRY(check_names(tensor, n));
    THAW_TRY(add_all(&t, tensor, n, metadata_json));
    length = t.length;
    THAW_TRY(text_take(out, &t, file_name));
    *size = (size_t)length;
    length -= sizeof length;
    memcpy(*out, &length, sizeof length);
done:
    text_done(&t);
    return status;
}

thaw_status st_write(int fd, const char *file_name, const st_source *tensor, int n,
                     const char *metadata_json)
{
    thaw_status status = THAW_OK;
    char *header = NULL;
    size_t size = 0;

    THAW_TRY(st_header(&header, &size, file_name, tensor, n, metadata_json));
    THAW_TRY(os_write_all(fd, header, size, file_name));
    for (int i = 0; i < n; i++) {
        size_t bytes = 0;

        THAW_TRY(shape_bytes(&bytes, &tensor[i].shape, tensor[i].dtype));
        THAW_TRY(os_write_all(fd, tensor[i].data, bytes, file_name));
    }
done:
    thaw__free(header);
    return status;
}
