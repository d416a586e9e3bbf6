/*
 * mark - a fast checksum beside the digest.
 *
 * SHA-256 without the processor's help is slower than a disk. Where the question is only whether
 * bytes are still what they were, and which tensor is not, this answers at the speed of memory:
 * four lanes of xor, odd multiplication and rotation, each step a bijection, so that a single
 * changed word can never go unnoticed.
 */
#include "ckpt/ckpt.h"

#include <stdio.h>
#include <string.h>

#define LANES    4
#define BLOCK    (LANES * sizeof(uint64_t))
#define MULTIPLY UINT64_C(0x9E3779B97F4A7C15) /* odd: 2^64 over the golden ratio */

static uint64_t mix(uint64_t h, uint64_t word)
{
    const uint64_t product = (h ^ word) * MULTIPLY;

    return product << 31 | product >> 33;
}

static void add_blocks(uint64_t lane[LANES], const unsigned char *data, size_t n)
{
    for (; n >= BLOCK; n -= BLOCK, data += BLOCK) {
        uint64_t word[LANES];

        memcpy(word, data, BLOCK);
        for (int i = 0; i < LANES; i++)
            lane[i] = mix(lane[i], word[i]);
    }
}

mark mark_begin(void)
{
    return (mark){.lane = {1, 2, 3, 4}};
}

void mark_add(mark *m, const void *data, size_t n)
{
    const unsigned char *from = data;
    const size_t held = m->size % BLOCK;
    const size_t first = THAW_MIN(held ? BLOCK - held : 0, n);

    m->size += n;
    if (first > 0)
        memcpy(m->rest + held, from, first);
    if (held > 0 && held + first == BLOCK)
        add_blocks(m->lane, m->rest, BLOCK);
    from += first;
    n -= first;
    add_blocks(m->lane, from, n);
    if (n % BLOCK > 0)
        memcpy(m->rest, from + (n - n % BLOCK), n % BLOCK);
}

void mark_end(char out[17], const mark *m)
{
    unsigned char last[BLOCK] = {0};
    uint64_t lane[LANES], all = m->size;

    memcpy(last, m->rest, m->size % BLOCK);
    memcpy(lane, m->lane, sizeof lane);
    add_blocks(lane, last, BLOCK);
    for (int i = 0; i < LANES; i++)
        all = mix(all, lane[i]);
    (void)snprintf(out, 17, "%016llx", (unsigned long long)splitmix64(&all));
}
