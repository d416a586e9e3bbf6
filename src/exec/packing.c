/*
 * packing.c - weights as kernels want them; see packing.h.
 *
 * A norm at rest multiplies each output channel by scale = weight / sqrt(variance + eps) and moves
 * it by bias - mean * scale, so a convolution with weight * scale and the moved bias does both.
 * Products are made in double and stored as f32.
 */
#include "exec/packing.h"

#include <math.h>
#include <string.h>

struct packing {
    packing *next;
    dense reader; /* one of those it serves: it knows the layout */
    packing_source source;
    int users; /* steps of sessions awake */
    uint64_t version;
    size_t bytes, bias; /* bias: where it begins in data */
    void *data;
};

enum { NORM_WEIGHT, NORM_BIAS, NORM_MEAN, NORM_VAR };

static const param *item_of(const exec *e, int tensor)
{
    return &e->params->item[tensor];
}

/* ----------------------------------------------------------------------------------------------
 * sources */

/* Calls visit for all tensors of a source. */
static int list_tensors(int tensor[6], const packing_source *source)
{
    int n = 0;

    tensor[n++] = source->weight;
    if (!source->folds)
        return n;
    if (source->bias >= 0)
        tensor[n++] = source->bias;
    for (int i = 0; i < 4; i++)
        tensor[n++] = source->norm[i];
    return n;
}

uint64_t packing_version(const exec *e, const packing_source *source)
{
    int tensor[6];
    const int n = list_tensors(tensor, source);
    uint64_t sum = 0;

    for (int i = 0; i < n; i++)
        sum += item_of(e, tensor[i])->version;
    return sum;
}

bool packing_is_finite(const exec *e, const packing_source *source)
{
    int tensor[6];
    const int n = list_tensors(tensor, source);

    for (int i = 0; i < n; i++)
        if (!tensor_all_finite(item_of(e, tensor[i])->data, item_of(e, tensor[i])->dtype,
                               item_of(e, tensor[i])->elements))
            return false;
    return true;
}

/* ----------------------------------------------------------------------------------------------
 * the list */

static bool serves(const dense *has, const packing_source *made_of, const dense *reader,
                   const packing_source *source)
{
    return memcmp(made_of, source, sizeof *source) == 0 && dense_same_packing(has, reader);
}

/* Where its bias begins, and its size. */
static size_t size_of(size_t *bias, const param *item, const dense *reader,
                      const packing_source *source)
{
    const size_t packed = dense_packed_bytes(reader), weight = packed > 0 ? packed : item->bytes;

    *bias = dnn_aligned(weight);
    return source->folds ? *bias + dnn_aligned((size_t)item->shape.dim[0] * sizeof(float)) : weight;
}

static bool is_needed(const dense *reader, const packing_source *source)
{
    return dense_packed_bytes(reader) > 0 || source->folds;
}

void packing_add_need(packing_count *c, const exec *e, const dense *reader,
                      const packing_source *source)
{
    size_t bias;

    if (!is_needed(reader, source))
        return;
    for (int i = 0; i < c->n; i++)
        if (serves(&c->need[i].reader, &c->need[i].source, reader, source))
            return;
    c->need[c->n++] = (struct packing_need){.reader = *reader, .source = *source};
    c->bytes += size_of(&bias, item_of(e, source->weight), reader, source);
}

static thaw_status make_packing(packing **out, exec *e, const dense *reader,
                                const packing_source *source)
{
    const param *item = item_of(e, source->weight);
    packing *p = thaw__new(1, sizeof *p);

    if (p) {
        p->bytes = size_of(&p->bias, item, reader, source);
        p->data = thaw__alloc(p->bytes);
    }
    if (!p || !p->data) {
        thaw__free(p);
        return thaw_fail(THAW_E_NOMEM, "out of memory for the packed weight '%s'", item->name);
    }
    p->reader = *reader;
    p->source = *source;
    *out = p;
    return THAW_OK;
}

thaw_status packing_use(packing **out, exec *e, packing_list *list, const dense *reader,
                        const packing_source *source)
{
    packing *p;

    if (!is_needed(reader, source)) {
        *out = NULL;
        return THAW_OK;
    }
    for (p = list->first; p && !serves(&p->reader, &p->source, reader, source);)
        p = p->next;
    if (!p) {
        THAW_CHECK(make_packing(&p, e, reader, source));
        p->next = list->first;
        list->first = p;
        e->packed_bytes += p->bytes;
    }
    p->users++;
    *out = p;
    return THAW_OK;
}

void packing_leave(packing *p)
{
    if (p)
        p->users--;
}

void packing_drop_unused(exec *e, packing_list *list)
{
    for (packing **at = &list->first; *at;) {
        packing *const p = *at;

        if (p->users > 0) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        e->packed_bytes -= p->bytes;
        thaw__free(p->data);
        thaw__free(p);
    }
}

/* ----------------------------------------------------------------------------------------------
 * filling */

static const float *values(const exec *e, int tensor)
{
    return item_of(e, tensor)->data;
}

/* The weight times the norm's scale, and the bias moved. */
static void fold(float *weight, float *bias, const exec *e, const packing_source *s)
{
    const param *const item = item_of(e, s->weight);
    const int64_t kernels = item->shape.dim[0];
    const size_t each = item->elements / (size_t)kernels;
    const float *const from = item->data;

    for (int64_t k = 0; k < kernels; k++) {
        const double root = sqrt((double)values(e, s->norm[NORM_VAR])[k] + s->eps);
        const double scale = (double)values(e, s->norm[NORM_WEIGHT])[k] / root;
        const double own = s->bias >= 0 ? (double)values(e, s->bias)[k] : 0;
        const double mean = (double)values(e, s->norm[NORM_MEAN])[k];
        const size_t first = (size_t)k * each;

        for (size_t i = first; i < first + each; i++)
            weight[i] = (float)((double)from[i] * scale);
        bias[k] = (float)((own - mean) * scale + (double)values(e, s->norm[NORM_BIAS])[k]);
    }
}

size_t packing_scratch(const dense *reader, const packing_source *source, size_t bytes)
{
    return source->folds && dense_packed_bytes(reader) > 0 ? bytes : 0;
}

static thaw_status fill(packing *p, const exec *e, void *scratch)
{
    const bool packs = dense_packed_bytes(&p->reader) > 0;
    const float *plain = values(e, p->source.weight);

    if (p->source.folds) {
        float *const folded = packs ? scratch : p->data;

        fold(folded, (float *)(void *)((char *)p->data + p->bias), e, &p->source);
        plain = folded;
    }
    return packs ? dense_pack(&p->reader, p->data, plain, e->threads) : THAW_OK;
}

thaw_status packing_weight(const void **weight, const float **bias, const exec *e, packing *p,
                           void *scratch)
{
    const uint64_t version = packing_version(e, &p->source);

    if (p->version != version) {
        THAW_CHECK(fill(p, e, scratch));
        p->version = version;
    }
    *weight = p->data;
    if (p->source.folds)
        *bias = (const float *)(const void *)((const char *)p->data + p->bias);
    return THAW_OK;
}
