/*
 * fuzz_config.c - any bytes as config.json: refused with one line, or a configuration that prints
 * as one that reads back the same, and of which a network is built or refused.
 */
#include "model/model.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require_refusal(thaw_status status)
{
    THAW_ASSERT(status == THAW_E_DATA || status == THAW_E_LIMIT || status == THAW_E_SUPPORT ||
                status == THAW_E_RANGE || status == THAW_E_SHAPE);
    THAW_ASSERT(thaw_error()[0] != '\0' && !strchr(thaw_error(), '\n'));
}

static void read_back(const model_config *c)
{
    model_config again;
    text first = TEXT_INIT, second = TEXT_INIT;

    model_config_print(&first, c);
    THAW_ASSERT(model_config_parse(&again, first.data, first.length, "printed") == THAW_OK);
    model_config_print(&second, &again);
    THAW_ASSERT(strcmp(first.data, second.data) == 0);
    text_done(&second);
    text_done(&first);
}

static void build(const model_config *c)
{
    model *m = NULL;
    thaw_status status;
    int64_t blocks = 0;

    for (int i = 0; i < c->n_blocks; i++)
        blocks += THAW_MIN(THAW_MAX(c->blocks[i], 0), 1000);
    if (blocks > 16)
        return; /* correct, but slow */
    status = model_create(&m, c, DTYPE_F32);
    if (status != THAW_OK)
        require_refusal(status);
    model_destroy(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t before = thaw__mem_current();
    model_config c = MODEL_CONFIG_INIT;
    const thaw_status status = model_config_parse(&c, (const char *)data, size, "config.json");

    if (status == THAW_OK) {
        read_back(&c);
        build(&c);
    } else {
        require_refusal(status);
    }
    THAW_ASSERT(thaw__mem_current() == before);
    return 0;
}
