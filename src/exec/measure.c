/*
 * measure.c - a dense layer's problem is run in every way that is allowed, on numbers of its own,
 * and the fastest is chosen.
 *
 * Ways take turns, and the best time of each counts: what else the machine does then falls on all
 * alike. The table's way stays unless another is clearly faster, so that noise changes nothing.
 */
#include "exec/choose.h"

#include <math.h>
#include <string.h>

/* Rounds go on up to the second number while they have taken less than this, as short times are
 * easily disturbed. */
enum { ROUNDS = 3, MOST_ROUNDS = 12 };
#define ENOUGH 0.05 /* seconds */

/* Scratch that a way may want beyond the table's: what a prediction by the table leaves room for.
 */
#define SPARE ((size_t)4 << 20)

/* Another way than the table's must take less than this share of its time. */
#define CLEARLY 0.97

typedef struct measurement {
    const dnn_problem *problem;
    dense way[EXEC_WAYS];    /* not ready: not allowed */
    void *packed[EXEC_WAYS]; /* weight as the kernel wants it; NULL: as it is */
    float *src, *dst, *weight, *bias;
    void *scratch;
    int threads;
} measurement;

/* ----------------------------------------------------------------------------------------------
 * operands */

/* bf16: the upper halves of the numbers. */
static void cut_short(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        uint16_t half;

        memcpy(&bits, &x[i], sizeof bits);
        half = (uint16_t)(bits >> 16);
        memcpy((char *)x + i * sizeof half, &half, sizeof half);
    }
}

static thaw_status make_numbers(float **out, const shape *s, bool bf16)
{
    uint64_t state = 1;
    size_t n = 0, bytes = 0;
    float *x;

    THAW_CHECK(shape_bytes(&bytes, s, DTYPE_F32));
    THAW_CHECK(shape_elements(&n, s));
    x = thaw__alloc(bytes);
    if (!x)
        return thaw_fail(THAW_E_NOMEM, "out of memory for measuring a kernel");
    for (size_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        x[i] = (float)(int32_t)(state >> 32) / 2147483648.0f;
    }
    if (bf16)
        cut_short(x, n);
    *out = x;
    return THAW_OK;
}

static thaw_status make_operands(measurement *m)
{
    const dnn_problem *const p = m->problem;
    const bool image = p->linear == DNN_CONVOLUTION;
    const shape src = image ? shape_4(p->batch, p->height, p->width, p->channels)
                            : shape_2(p->batch, p->channels);
    const shape dst = image ? shape_4(p->batch, p->out_height, p->out_width, p->kernels)
                            : shape_2(p->batch, p->kernels);
    const shape weight =
        image ? shape_4(p->kernels, p->channels / p->groups, p->window[0], p->window[1])
              : shape_2(p->kernels, p->channels);
    const shape bias = shape_1(p->kernels);

    THAW_CHECK(make_numbers(&m->src, &src, p->bf16 != 0));
    THAW_CHECK(make_numbers(&m->dst, &dst, p->bf16 != 0));
    THAW_CHECK(make_numbers(&m->weight, &weight, false));
    return make_numbers(&m->bias, &bias, false);
}

static int64_t count_rows(const dnn_problem *p)
{
    return p->linear ? p->batch : p->batch * p->out_height * p->out_width;
}

static thaw_status make_room(measurement *m)
{
    size_t bytes = fast_column_scratch(count_rows(m->problem), m->problem->kernels);

    for (int way = 0; way < EXEC_WAYS; way++) {
        const dense *const d = &m->way[way];
        const size_t packed = dense_packed_bytes(d);

        if (!d->ready)
            continue;
        bytes = THAW_MAX(bytes, dense_scratch(d, m->threads));
        if (m->problem->role == DNN_BACKWARD_WEIGHT || packed == 0)
            continue;
        m->packed[way] = thaw__alloc(packed);
        if (!m->packed[way])
            return thaw_fail(THAW_E_NOMEM, "out of memory for measuring a kernel");
        THAW_CHECK(dense_pack(d, m->packed[way], m->weight, m->threads));
    }
    m->scratch = thaw__alloc(bytes);
    return m->scratch ? THAW_OK : thaw_fail(THAW_E_NOMEM, "out of memory for measuring a kernel");
}

static void measurement_done(measurement *m)
{
    for (int way = 0; way < EXEC_WAYS; way++)
        thaw__free(m->packed[way]);
    thaw__free(m->scratch);
    thaw__free(m->bias);
    thaw__free(m->weight);
    thaw__free(m->dst);
    thaw__free(m->src);
}

/* ----------------------------------------------------------------------------------------------
 * running */

static thaw_status run_once(double *seconds, const measurement *m, int way)
{
    const dnn_problem *const p = m->problem;
    const dense *const d = &m->way[way];
    const dnn_operands o = {.src = m->src,
                            .d_dst = m->dst,
                            .bias = m->bias,
                            .weight = m->packed[way] ? m->packed[way] : m->weight,
                            .dst = m->dst,
                            .d_src = m->src,
                            .d_weight = m->weight,
                            .d_bias = m->bias,
                            .scratch = m->scratch};
    const double begun = os()->monotonic();

    THAW_CHECK(dense_run(d, &o, m->threads));
    if (p->role == DNN_BACKWARD_WEIGHT && p->bias && !d->makes_bias)
        fast_column_sum(m->bias, m->dst, p->bf16 ? DTYPE_BF16 : DTYPE_F32, count_rows(p),
                        p->kernels, false, m->scratch, m->threads);
    *seconds = os()->monotonic() - begun;
    return THAW_OK;
}

/* The first round warms up. */
static thaw_status run_rounds(double best[EXEC_WAYS], const measurement *m)
{
    double sum = 0;

    for (int way = 0; way < EXEC_WAYS; way++)
        best[way] = NAN;
    for (int round = 0; round <= ROUNDS || (round <= MOST_ROUNDS && sum < ENOUGH); round++)
        for (int way = 0; way < EXEC_WAYS; way++) {
            double seconds;

            if (!m->way[way].ready)
                continue;
            THAW_CHECK(run_once(&seconds, m, way));
            sum += seconds;
            if (round > 0)
                best[way] = fmin(best[way], seconds);
        }
    return THAW_OK;
}

static exec_way fastest(const double seconds[EXEC_WAYS], exec_way table)
{
    exec_way best = table;

    for (int way = 0; way < EXEC_WAYS; way++)
        if (seconds[way] < (best == table ? CLEARLY : 1) * seconds[best])
            best = (exec_way)way;
    return best;
}

static void find_ways(measurement *m, dnn_library *library, exec_way table, unsigned ways)
{
    size_t most = SIZE_MAX, most_packed = SIZE_MAX;

    m->way[table] = dense_find(library, m->problem, table);
    if (m->way[table].ready) {
        most_packed = dense_packed_bytes(&m->way[table]) + SPARE;
        most = dense_scratch(&m->way[table], m->threads) + SPARE;
    }
    for (int i = 0; i < EXEC_WAYS; i++) {
        const exec_way way = (exec_way)i;
        dense d;

        if (way == table || !choice_allowed(m->problem, way, ways))
            continue;
        d = dense_find(library, m->problem, way);
        if (d.ready && dense_scratch(&d, m->threads) <= most &&
            dense_packed_bytes(&d) <= most_packed)
            m->way[way] = d;
    }
}

thaw_status measure_ways(choice *out, dnn_library *library, const dnn_problem *p, unsigned ways,
                         int threads)
{
    const exec_way table = choice_by_table(p, ways);
    measurement m = {.problem = p, .threads = threads};
    choice made = {.key = choice_key(p), .table = table};
    thaw_status status;

    find_ways(&m, library, table, ways);
    THAW_TRY(make_operands(&m));
    THAW_TRY(make_room(&m));
    THAW_TRY(run_rounds(made.seconds, &m));
    made.way = fastest(made.seconds, table);
    *out = made;
done:
    measurement_done(&m);
    return status;
}
