/*
 * rng.c - hashes and random numbers that depend on a name and a position, never on what was drawn
 * before.
 */
#include "base/base.h"

#include <string.h>

uint64_t hash_fnv1a_n(uint64_t h, const void *p, size_t n)
{
    const unsigned char *byte = p;

    for (size_t i = 0; i < n; i++)
        h = (h ^ byte[i]) * UINT64_C(0x100000001B3);
    return h;
}

uint64_t hash_fnv1a(const char *s)
{
    return hash_fnv1a_n(HASH_INIT, s, strlen(s));
}

uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

philox_key philox_stream(uint64_t seed, const char *stream)
{
    uint64_t state = seed ^ hash_fnv1a(stream);
    const uint64_t k = splitmix64(&state);

    return (philox_key){{(uint32_t)k, (uint32_t)(k >> 32)}};
}

/* Constants and rounds of Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011,
 * section 3.3. */
void philox(uint32_t out[4], philox_key key, uint64_t counter_high, uint64_t counter_low)
{
    uint32_t c[4] = {(uint32_t)counter_low, (uint32_t)(counter_low >> 32), (uint32_t)counter_high,
                     (uint32_t)(counter_high >> 32)};
    uint32_t k0 = key.k[0], k1 = key.k[1];

    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c[0];
        const uint64_t p1 = (uint64_t)0xCD9E8D57u * c[2];
        const uint32_t n0 = (uint32_t)(p1 >> 32) ^ c[1] ^ k0;
        const uint32_t n2 = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;

        c[1] = (uint32_t)p1;
        c[3] = (uint32_t)p0;
        c[0] = n0;
        c[2] = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
}

double philox_uniform(uint32_t word)
{
    return (double)word * (1.0 / 4294967296.0);
}

/* Half-width of a balanced Feistel network over the smallest even number of bits that holds n
 * values. */
static int half_bits(uint64_t n)
{
    int bits = 2;

    while (bits < 64 && (n - 1) >> bits)
        bits += 2;
    return bits / 2;
}

uint64_t permute(uint64_t i, uint64_t n, philox_key key)
{
    const int half = half_bits(n);
    const uint64_t mask = half == 32 ? UINT32_MAX : ((uint64_t)1 << half) - 1;

    /* Values at or over n are sent through again; at most 4n values are in the domain, so few walks
     * are long. */
    do {
        uint64_t left = i >> half, right = i & mask;

        for (uint64_t round = 0; round < 4; round++) {
            uint32_t word[4];
            uint64_t next;

            philox(word, key, round, right);
            next = left ^ (word[0] & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}
