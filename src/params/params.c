/*
 * params.c - parameters, buffers, gradients and optimizer state by name. Memory exists for exactly
 * what is asked.
 */
#include "params/params.h"

#include <math.h>
#include <string.h>

thaw_status params_create(params **out, dtype real)
{
    params *p = thaw__new(1, sizeof *p);

    if (!p)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the parameters");
    p->real = real;
    *out = p;
    return THAW_OK;
}

void params_destroy(params *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->n; i++) {
        params_drop_state(p, i);
        thaw__free(p->item[i].grad);
        thaw__free(p->item[i].data);
        thaw__free(p->item[i].name);
    }
    thaw__free(p->item);
    thaw__free(p);
}

thaw_status params_add(params *p, const char *name, const shape *s, dtype d, bool buffer)
{
    thaw_status status = THAW_OK;
    param item = {.shape = *s, .dtype = d, .buffer = buffer, .version = 1};
    size_t capacity = (size_t)p->n;

    THAW_ASSERT(buffer || p->n == p->n_trained);
    THAW_TRY(shape_elements(&item.elements, s));
    THAW_TRY(shape_bytes(&item.bytes, s, d));
    item.name = thaw__strdup(name);
    item.data = thaw__new(item.bytes, 1);
    if (!item.name || !item.data) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for '%s', %zu bytes", name, item.bytes);
        goto done;
    }
    if (p->n % 64 == 0) {
        capacity += 64;
        param *grown = thaw__resize(p->item, capacity, sizeof *grown);

        if (!grown) {
            status = thaw_fail(THAW_E_NOMEM, "out of memory for %zu parameters", capacity);
            goto done;
        }
        p->item = grown;
    }
    p->item[p->n++] = item;
    p->n_trained += !buffer;
    item.name = NULL;
    item.data = NULL;
done:
    thaw__free(item.data);
    thaw__free(item.name);
    return status;
}

int params_find(const params *p, const char *name)
{
    for (int i = 0; i < p->n; i++)
        if (strcmp(p->item[i].name, name) == 0)
            return i;
    return -1;
}

void params_touch(params *p, int i)
{
    p->item[i].version++;
}

/* ----------------------------------------------------------------------------------------------
 * gradients, state */

thaw_status params_set_trainable(params *p, const bool *trainable)
{
    for (int i = 0; i < p->n_trained; i++)
        if (!trainable[i]) {
            thaw__free(p->item[i].grad);
            p->item[i].grad = NULL;
        }
    for (int i = 0; i < p->n_trained; i++) {
        param *item = &p->item[i];

        if (!trainable[i] || item->grad)
            continue;
        item->grad = thaw__new(item->bytes, 1);
        if (!item->grad)
            return thaw_fail(THAW_E_NOMEM, "out of memory for the gradient of '%s', %zu bytes",
                             item->name, item->bytes);
    }
    return THAW_OK;
}

thaw_status params_make_state(params *p, int i, int n)
{
    params_drop_state(p, i);
    return params_hold_state(p, i, n);
}

thaw_status params_hold_state(params *p, int i, int n)
{
    param *item = &p->item[i];

    params_release_state(p, i);
    for (int k = 0; k < n; k++) {
        item->state[k] = thaw__new(item->bytes, 1);
        item->n_state = k + 1;
        if (!item->state[k]) {
            params_release_state(p, i);
            return thaw_fail(THAW_E_NOMEM,
                             "out of memory for the optimizer state of '%s', %zu bytes", item->name,
                             item->bytes);
        }
    }
    return THAW_OK;
}

void params_release_state(params *p, int i)
{
    param *item = &p->item[i];

    for (int k = 0; k < item->n_state; k++) {
        thaw__free(item->state[k]);
        item->state[k] = NULL;
    }
    item->n_state = 0;
}

void params_drop_state(params *p, int i)
{
    params_release_state(p, i);
    p->item[i].steps = 0;
    p->item[i].parked = p->item[i].in_file = false;
}

size_t params_data_bytes(const params *p)
{
    size_t bytes = 0;

    for (int i = 0; i < p->n; i++)
        bytes += p->item[i].bytes;
    return bytes;
}

size_t params_grad_bytes(const params *p)
{
    size_t bytes = 0;

    for (int i = 0; i < p->n; i++)
        bytes += p->item[i].grad ? p->item[i].bytes : 0;
    return bytes;
}

size_t params_state_bytes(const params *p)
{
    size_t bytes = 0;

    for (int i = 0; i < p->n; i++)
        bytes += (size_t)p->item[i].n_state * p->item[i].bytes;
    return bytes;
}

/* ----------------------------------------------------------------------------------------------
 * snapshots */

struct params_snapshot {
    int n;
    bool buffers_only;
    void *data[]; /* [n]; NULL where left out */
};

void params_snapshot_destroy(params_snapshot *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->n; i++)
        thaw__free(s->data[i]);
    thaw__free(s);
}

static thaw_status snapshot_create(params_snapshot **out, const params *p, bool buffers_only)
{
    params_snapshot *s = thaw__new(1, sizeof *s + (size_t)p->n * sizeof s->data[0]);

    if (!s)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a copy of the parameters");
    s->n = p->n;
    s->buffers_only = buffers_only;
    for (int i = 0; i < p->n; i++) {
        if (buffers_only && !p->item[i].buffer)
            continue;
        s->data[i] = thaw__alloc(p->item[i].bytes);
        if (!s->data[i]) {
            params_snapshot_destroy(s);
            return thaw_fail(THAW_E_NOMEM, "out of memory for a copy of the parameters");
        }
    }
    *out = s;
    return THAW_OK;
}

thaw_status params_snapshot_take(params_snapshot **inout, const params *p, bool buffers_only)
{
    params_snapshot *s = *inout;

    if (!s)
        THAW_CHECK(snapshot_create(&s, p, buffers_only));
    THAW_ASSERT(s->n == p->n && s->buffers_only == buffers_only);
    for (int i = 0; i < p->n; i++)
        if (s->data[i])
            memcpy(s->data[i], p->item[i].data, p->item[i].bytes);
    *inout = s;
    return THAW_OK;
}

void params_snapshot_restore(const params_snapshot *s, params *p)
{
    for (int i = 0; i < p->n; i++)
        if (s->data[i] && memcmp(p->item[i].data, s->data[i], p->item[i].bytes) != 0) {
            memcpy(p->item[i].data, s->data[i], p->item[i].bytes);
            params_touch(p, i);
        }
}

const void *params_snapshot_data(const params_snapshot *s, int i)
{
    return s->data[i];
}

void *params_snapshot_room(params_snapshot *s, int i)
{
    return s->data[i];
}

/* ----------------------------------------------------------------------------------------------
 * start values */

static void put_real(param *item, size_t i, double value)
{
    if (item->dtype == DTYPE_F64)
        ((double *)item->data)[i] = (double)(float)value;
    else
        ((float *)item->data)[i] = (float)value;
}

void params_init_uniform(params *p, int i, uint64_t seed, double bound)
{
    param *item = &p->item[i];
    const philox_key key = philox_stream(seed, item->name);

    for (size_t k = 0; k < item->elements; k++) {
        uint32_t word[4];

        philox(word, key, 0, k);
        put_real(item, k, (2 * philox_uniform(word[0]) - 1) * bound);
    }
    params_touch(p, i);
}

void params_fill(params *p, int i, double value)
{
    for (size_t k = 0; k < p->item[i].elements; k++)
        put_real(&p->item[i], k, value);
    params_touch(p, i);
}

static double by_name_value(const param *item, uint64_t *state, bool is_norm_weight)
{
    const double u = (double)(splitmix64(state) >> 40) / 16777216.0;

    if (item->shape.rank >= 2)
        return (2 * u - 1) * sqrt(3.0 / (double)(item->elements / (size_t)item->shape.dim[0]));
    return is_norm_weight ? 1 + 0.1 * (2 * u - 1) : 0.1 * (2 * u - 1);
}

void params_init_by_name(params *p, int i)
{
    param *item = &p->item[i];
    const size_t length = strlen(item->name);
    const bool is_weight = length >= 6 && strcmp(item->name + length - 6, "weight") == 0;
    uint64_t state = hash_fnv1a(item->name);

    for (size_t k = 0; k < item->elements; k++)
        put_real(item, k, by_name_value(item, &state, is_weight));
    params_touch(p, i);
}

void params_init_all_by_name(params *p)
{
    for (int i = 0; i < p->n_trained; i++)
        params_init_by_name(p, i);
}
