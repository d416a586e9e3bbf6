/*
 * rules.c - the update rules, one row each: SGD, Adam, AdamW, in f32 and f64.
 *
 * A rule sees one parameter: its values, gradient, state and own update number. What it must not
 * know: phases, schedules, other parameters.
 */
#include "optim/optim.h"

#include "base/clones.h"

#include <math.h>
#include <string.h>

/* Small tensors are not worth waking the other threads for. */
#define LEAST_ELEMENTS 65536

/* What clones share is compiled into each. */
#define FOR_CLONES static inline __attribute__((always_inline))

#ifdef _OPENMP
#define SIMD _Pragma("omp simd")
#else
#define SIMD
#endif

/* A rule for elements of [first, last). */
typedef void range_fn(const optim_args *a, size_t first, size_t last);

static void over_ranges(range_fn *run, const optim_args *a)
{
    const size_t n = a->n > LEAST_ELEMENTS && a->threads > 1 ? (size_t)a->threads : 1;

#ifdef _OPENMP
#pragma omp parallel for schedule(static) num_threads((int)n) if (n > 1)
#endif
    for (size_t t = 0; t < n; t++)
        run(a, a->n * t / n, a->n * (t + 1) / n);
}

#define REAL       float
#define SQRT       sqrtf
#define RULE(name) name##_f32
#include "optim/rules_real.inc"
#undef REAL
#undef SQRT
#undef RULE

#define REAL       double
#define SQRT       sqrt
#define RULE(name) name##_f64
#include "optim/rules_real.inc"
#undef REAL
#undef SQRT
#undef RULE

#define BY_DTYPE(name)                                                                             \
    static void name(const optim_args *a)                                                          \
    {                                                                                              \
        if (a->dtype == DTYPE_F64)                                                                 \
            name##_f64(a);                                                                         \
        else                                                                                       \
            name##_f32(a);                                                                         \
    }

BY_DTYPE(sgd)
BY_DTYPE(adam)
BY_DTYPE(adamw)

static int velocity_if_any(const optim_hyper *h)
{
    return h->momentum > 0 ? 1 : 0;
}

static int two_moments(const optim_hyper *h)
{
    (void)h;
    return 2;
}

static const optim_rule rule_table[] = {
    {"sgd",
     "v = momentum·v + g + decay·w; w -= lr·v; with nesterov w -= lr·(g + decay·w + momentum·v)",
     velocity_if_any,
     {"momentum_buffer"},
     sgd},
    {"adam",
     "Kingma and Ba, 2015, algorithm 1; decay is added to the gradient",
     two_moments,
     {"exp_avg", "exp_avg_sq"},
     adam},
    {"adamw",
     "Loshchilov and Hutter, 2019, algorithm 2: adam with w *= 1 - lr·decay beside it",
     two_moments,
     {"exp_avg", "exp_avg_sq"},
     adamw},
};

const optim_rule *optim_rules(size_t *n)
{
    *n = THAW_COUNT(rule_table);
    return rule_table;
}

const optim_rule *optim_rule_find(const char *name)
{
    for (size_t i = 0; i < THAW_COUNT(rule_table); i++)
        if (strcmp(rule_table[i].name, name) == 0)
            return &rule_table[i];
    return NULL;
}
