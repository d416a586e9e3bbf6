/*
 * sha256_lanes - the digests of many messages at once.
 *
 * SHA-256 is a chain: no block can begin before the one before it has ended, and without the
 * processor's own instructions for it one message keeps a vector unit mostly idle. Messages are
 * independent, so each lane of a vector follows a message of its own; a lane that has come to an
 * end takes the longest message that waits. Memory and files alike are handed to a lane in runs of
 * blocks. It knows nothing of tensors or checkpoints.
 */
#include "ckpt/ckpt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK      ((size_t)64)
#define MOST_LANES 16
#define MOST_READ                                                                                  \
    ((size_t)32 << 10) /* of a file at a time: all lanes' together stay in the cache */

/* A file is digested as it lies, in big-endian words; ours are little-endian. */
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

static const uint32_t round_constant[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* The other order of the four bytes of each word. */
#define TURN_WORDS 0x0c0d0e0f08090a0b, 0x0405060700010203

/* Rows become columns in groups of four words, within each 128 bits: x holds a row of each message.
 */
#define TURN_FOUR(UNPACK, x, i)                                                                    \
    do {                                                                                           \
        const VECTOR ab = UNPACK##lo_epi32(x[i], x[i + 1]);                                        \
        const VECTOR AB = UNPACK##hi_epi32(x[i], x[i + 1]);                                        \
        const VECTOR cd = UNPACK##lo_epi32(x[i + 2], x[i + 3]);                                    \
        const VECTOR CD = UNPACK##hi_epi32(x[i + 2], x[i + 3]);                                    \
                                                                                                   \
        x[i] = UNPACK##lo_epi64(ab, cd);                                                           \
        x[i + 1] = UNPACK##hi_epi64(ab, cd);                                                       \
        x[i + 2] = UNPACK##lo_epi64(AB, CD);                                                       \
        x[i + 3] = UNPACK##hi_epi64(AB, CD);                                                       \
    } while (0)

#define SUFFIX _512
#define VECTOR __m512i
#define WIDTH  16
#define TARGET __attribute__((target("avx512f,avx512bw")))

TARGET static inline void turned_512(VECTOR w[16], const unsigned char *const from[MOST_LANES],
                                     size_t at)
{
    const VECTOR order = _mm512_broadcast_i32x4(_mm_set_epi64x(TURN_WORDS));
    VECTOR x[16];

#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        x[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(from[i] + at), order);
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4)
        TURN_FOUR(_mm512_unpack, x, i);
        /* now the same with groups of four messages and quarters of a vector */
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const VECTOR a = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
        const VECTOR b = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xDD);
        const VECTOR c = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
        const VECTOR d = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xDD);

        w[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        w[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
        w[i + 8] = _mm512_shuffle_i32x4(a, c, 0xDD);
        w[i + 12] = _mm512_shuffle_i32x4(b, d, 0xDD);
    }
}

#define LOAD(p)           _mm512_load_si512(p)
#define STORE(p, x)       _mm512_store_si512(p, x)
#define ALL(x)            _mm512_set1_epi32((int)(x))
#define ADD(x, y)         _mm512_add_epi32(x, y)
#define ROTATE(x, n)      _mm512_ror_epi32(x, n)
#define SHIFT(x, n)       _mm512_srli_epi32(x, n)
#define XOR3(x, y, z)     _mm512_ternarylogic_epi32(x, y, z, 0x96)
#define CHOOSE(x, y, z)   _mm512_ternarylogic_epi32(x, y, z, 0xCA)
#define MAJORITY(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0xE8)
#include "ckpt/sha256_lanes.inc"

#define SUFFIX _256
#define VECTOR __m256i
#define WIDTH  8
#define TARGET __attribute__((target("avx2")))

TARGET static inline void turned_256(VECTOR w[16], const unsigned char *const from[MOST_LANES],
                                     size_t at)
{
    const VECTOR order = _mm256_broadcastsi128_si256(_mm_set_epi64x(TURN_WORDS));

    for (int half = 0; half < 2; half++) {
        VECTOR x[8];

#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            x[i] = _mm256_shuffle_epi8(
                _mm256_loadu_si256((const __m256i *)(const void *)(from[i] + at + 32 * half)),
                order);
#pragma GCC unroll 2
        for (int i = 0; i < 8; i += 4)
            TURN_FOUR(_mm256_unpack, x, i);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            w[8 * half + i] = _mm256_permute2x128_si256(x[i], x[i + 4], 0x20);
            w[8 * half + i + 4] = _mm256_permute2x128_si256(x[i], x[i + 4], 0x31);
        }
    }
}

#define LOAD(p)         _mm256_load_si256((const __m256i *)(const void *)(p))
#define STORE(p, x)     _mm256_store_si256((__m256i *)(void *)(p), x)
#define ALL(x)          _mm256_set1_epi32((int)(x))
#define ADD(x, y)       _mm256_add_epi32(x, y)
#define ROTATE(x, n)    _mm256_or_si256(_mm256_srli_epi32(x, n), _mm256_slli_epi32(x, 32 - (n)))
#define SHIFT(x, n)     _mm256_srli_epi32(x, n)
#define XOR3(x, y, z)   _mm256_xor_si256(x, _mm256_xor_si256(y, z))
#define CHOOSE(x, y, z) _mm256_xor_si256(z, _mm256_and_si256(x, _mm256_xor_si256(y, z)))
#define MAJORITY(x, y, z)                                                                          \
    _mm256_or_si256(_mm256_and_si256(x, y), _mm256_and_si256(z, _mm256_or_si256(x, y)))
#include "ckpt/sha256_lanes.inc"

/* Where the processor knows SHA-256 itself, it is at least as fast with one message. */
static bool knows_sha(void)
{
    unsigned a, b, c, d;

    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & 1u << 29);
}
#endif

/* ----------------------------------------------------------------------------------------------
 * which
 */

typedef void blocks_fn(uint32_t state[8][MOST_LANES], const unsigned char *const from[MOST_LANES],
                       size_t n);

/* The function for so many lanes; NULL: not on this machine. */
static blocks_fn *find_blocks(int lanes)
{
#if defined(__x86_64__)
    if (lanes == 16 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))
        return blocks_512;
    if (lanes == 8 && __builtin_cpu_supports("avx2"))
        return blocks_256;
#endif
    (void)lanes;
    return NULL;
}

int sha256_lanes(void)
{
#if defined(__x86_64__)
    if (knows_sha())
        return 1;
#endif
    return find_blocks(16) ? 16 : find_blocks(8) ? 8 : 1;
}

/* ----------------------------------------------------------------------------------------------
 * messages in lanes
 */

typedef struct lane {
    sha256_message *m;         /* NULL: none is left for it */
    size_t taken;              /* bytes of the message that have been handed to it */
    const unsigned char *from; /* blocks that are ready */
    size_t blocks;
    bool last;             /* no others follow */
    unsigned char *buffer; /* of bytes read, and of a message's end */
} lane;

typedef struct lanes {
    lane lane[MOST_LANES];
    int n;
    sha256_message **waiting; /* the longest one first */
    int n_waiting, next;
    size_t read; /* at most, into a buffer */
    blocks_fn *blocks;
    uint32_t (*state)[MOST_LANES];
} lanes;

/* After the message's last bytes, n of them in the buffer: a one, zeros, its length in bits. */
static void pad(lane *l, size_t n)
{
    const uint64_t bits = 8 * (uint64_t)l->m->n;
    const size_t end = (n + 8) / BLOCK * BLOCK + BLOCK;

    l->buffer[n] = 0x80;
    memset(l->buffer + n + 1, 0, end - n - 1);
    for (size_t i = 0; i < 8; i++)
        l->buffer[end - 1 - i] = (unsigned char)(bits >> 8 * i);
    l->blocks = end / BLOCK;
    l->last = true;
}

static thaw_status refill(const lanes *all, lane *l)
{
    const sha256_message *m = l->m;
    const size_t left = m->n - l->taken, n = THAW_MIN(left, all->read);
    const unsigned char *data = m->data;

    if (data && left >= BLOCK) { /* where it lies */
        l->from = data + l->taken;
        l->blocks = left / BLOCK;
        l->taken += l->blocks * BLOCK;
        return THAW_OK;
    }
    if (data)
        memcpy(l->buffer, data + l->taken, left);
    else
        THAW_CHECK(os_pread_all(m->fd, l->buffer, n, (int64_t)(m->begin + l->taken), m->name));
    l->from = l->buffer;
    l->taken += n;
    l->blocks = n / BLOCK;
    if (n == left)
        pad(l, n);
    return THAW_OK;
}

static thaw_status take_message(lanes *all, int which)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    lane *l = &all->lane[which];

    l->m = all->next < all->n_waiting ? all->waiting[all->next++] : NULL;
    l->taken = 0;
    l->last = false;
    if (!l->m)
        return THAW_OK;
    for (int i = 0; i < 8; i++)
        all->state[i][which] = start[i];
    return refill(all, l);
}

/* Blocks that every lane has ready; 0 when all are done. Lanes without a message get to see another
 * one's blocks, and nobody looks at what comes of it. */
static size_t look(const unsigned char *from[MOST_LANES], const lanes *all)
{
    const lane *some = NULL;
    size_t ready = SIZE_MAX;

    for (int i = 0; i < all->n; i++)
        if (all->lane[i].m) {
            some = &all->lane[i];
            ready = THAW_MIN(ready, some->blocks);
        }
    for (int i = 0; some && i < all->n; i++)
        from[i] = all->lane[i].m ? all->lane[i].from : some->from;
    return some ? ready : 0;
}

static thaw_status advance(lanes *all, int which, size_t blocks)
{
    lane *l = &all->lane[which];

    if (!l->m)
        return THAW_OK;
    l->from += blocks * BLOCK;
    l->blocks -= blocks;
    if (l->blocks > 0)
        return THAW_OK;
    if (!l->last)
        return refill(all, l);
    for (int i = 0; i < 8; i++)
        (void)snprintf(l->m->hex + 8 * i, 9, "%08x", all->state[i][which]);
    return take_message(all, which);
}

static thaw_status run(lanes *all)
{
    const unsigned char *from[MOST_LANES];

    for (int i = 0; i < all->n; i++)
        THAW_CHECK(take_message(all, i));
    for (size_t n = look(from, all); n > 0; n = look(from, all)) {
        all->blocks(all->state, from, n);
        for (int i = 0; i < all->n; i++)
            THAW_CHECK(advance(all, i, n));
    }
    return THAW_OK;
}

static int longest_first(const void *a, const void *b)
{
    const sha256_message *x = *(sha256_message *const *)a, *y = *(sha256_message *const *)b;

    return x->n > y->n ? -1 : x->n < y->n;
}

static thaw_status digest_in_lanes(sha256_message *m, int n, int n_lanes)
{
    thaw_status status = THAW_OK;
    lanes all = {.n = n_lanes, .n_waiting = n, .blocks = find_blocks(n_lanes)};
    unsigned char *buffers = NULL;
    size_t stride;

    all.waiting = thaw__new((size_t)n, sizeof(sha256_message *));
    all.state = thaw__new(8, sizeof *all.state);
    if (!all.waiting || !all.state) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for %d SHA-256 digests", n);
        goto done;
    }
    for (int i = 0; i < n; i++)
        all.waiting[i] = &m[i];
    qsort(all.waiting, (size_t)n, sizeof(sha256_message *), longest_first);
    all.read = THAW_MIN(all.waiting[0]->n / BLOCK * BLOCK + BLOCK, MOST_READ);
    stride = all.read + 2 * BLOCK;
    buffers = thaw__new((size_t)n_lanes, stride);
    if (!buffers) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for %d SHA-256 digests", n);
        goto done;
    }
    for (int i = 0; i < n_lanes; i++)
        all.lane[i].buffer = buffers + (size_t)i * stride;
    status = run(&all);
done:
    thaw__free(buffers);
    thaw__free(all.state);
    thaw__free(all.waiting);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * one after the other
 */

static thaw_status digest_alone(sha256_message *m)
{
    thaw_status status = THAW_OK;
    const size_t piece = m->data ? 0 : THAW_MIN(m->n, MOST_READ);
    char *buffer = thaw__alloc(THAW_MAX(piece, 1));
    sha256 *h = NULL;

    if (!buffer)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a SHA-256 digest");
    THAW_TRY(sha256_begin(&h));
    if (m->data)
        sha256_add(h, m->data, m->n);
    for (size_t at = 0; !m->data && at < m->n; at += piece) {
        const size_t n = THAW_MIN(piece, m->n - at);

        THAW_TRY(os_pread_all(m->fd, buffer, n, (int64_t)(m->begin + at), m->name));
        sha256_add(h, buffer, n);
    }
done:
    sha256_end(status == THAW_OK ? m->hex : NULL, h);
    thaw__free(buffer);
    return status;
}

thaw_status sha256_all(sha256_message *m, int n, int lanes)
{
    if (n > 1 && find_blocks(lanes))
        return digest_in_lanes(m, n, lanes);
    for (int i = 0; i < n; i++)
        THAW_CHECK(digest_alone(&m[i]));
    return THAW_OK;
}
