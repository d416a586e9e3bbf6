/*
 * fast_bf16.c - bf16 numbers to floats and back.
 *
 * The one idea: loops over bf16 are the loops over floats, on pieces of FAST_TILE that are widened
 * into the first-level cache and rounded on their way out, so memory sees bf16 alone.
 */
#include "exec/fast.h"

#include <string.h>

#define LEAST 32768 /* fewer elements are not worth waking a thread */

FAST_CLONES static void widen(float *restrict to, const uint16_t *restrict from, int64_t n)
{
    FAST_SIMD
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = (uint32_t)from[i] << 16;

        memcpy(&to[i], &bits, sizeof bits);
    }
}

/* To nearest even; what is not a number stays so. */
FAST_CLONES static void narrow(uint16_t *restrict to, const float *restrict from, int64_t n)
{
    FAST_SIMD
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, &from[i], sizeof bits);
        const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
        const uint32_t quiet = bits >> 16 | 0x40u;

        to[i] = (uint16_t)((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded);
    }
}

/* Copies for several instruction sets would be seen outside the library. */
void fast_widen(float *restrict to, const uint16_t *restrict from, int64_t n)
{
    widen(to, from, n);
}

void fast_narrow(uint16_t *restrict to, const float *restrict from, int64_t n)
{
    narrow(to, from, n);
}

typedef struct cast_job {
    void *to;
    const void *from;
    dtype to_type, from_type;
} cast_job;

static void cast_range(const void *job, int64_t first, int64_t last)
{
    const cast_job *const j = job;
    char *const to = (char *)j->to + (size_t)first * dtype_size(j->to_type);
    const char *const from = (const char *)j->from + (size_t)first * dtype_size(j->from_type);

    if (j->to_type == j->from_type)
        memcpy(to, from, (size_t)(last - first) * dtype_size(j->to_type));
    else if (j->to_type == DTYPE_BF16)
        narrow((uint16_t *)(void *)to, (const float *)(const void *)from, last - first);
    else
        widen((float *)(void *)to, (const uint16_t *)(const void *)from, last - first);
}

static void cast(const fast_call *c, const exec_operand *to, const exec_operand *from)
{
    const cast_job job = {
        .to = to->data, .from = from->data, .to_type = to->dtype, .from_type = from->dtype};

    fast_parallel(c->threads, (int64_t)to->elements, LEAST, cast_range, &job);
}

void fast_cast(const fast_call *c)
{
    cast(c, &c->op.out[0], &c->op.in[0]);
}

void fast_cast_backward(const fast_call *c)
{
    cast(c, &c->op.d_in[0], &c->op.d_out[0]);
}

fast_tile fast_tile_of(int64_t rows, int64_t C)
{
    const int64_t columns = THAW_MIN(C, FAST_TILE);

    return (fast_tile){.rows = columns < C ? 1 : THAW_MIN(FAST_TILE / columns, rows),
                       .columns = columns};
}

const float *fast_widened(float *room, const void *from, int64_t offset, int64_t n)
{
    if (!from)
        return NULL;
    widen(room, (const uint16_t *)from + offset, n);
    return room;
}
