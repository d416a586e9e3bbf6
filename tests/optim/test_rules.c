/* test_rules.c - update rules against arithmetic written out step by step, in f64 and f32. */
#include "optim/optim.h"

#include "check.h"

enum { N = 5, STEPS = 7 };

static double gradient(int step, int i)
{
    return sin(1.7 * step + i) * (i + 1);
}

/* One parameter followed by hand: w, first and second moment. */
typedef struct hand {
    double w[N], m[N], v[N];
} hand;

typedef void by_hand_fn(hand *h, int i, double g, int t, double lr, double decay,
                        const optim_hyper *hyper);

static void sgd_by_hand(hand *h, int i, double g, int t, double lr, double decay,
                        const optim_hyper *o)
{
    g += decay * h->w[i];
    if (o->momentum > 0) {
        h->m[i] = t == 1 ? g : o->momentum * h->m[i] + g;
        g = o->nesterov ? g + o->momentum * h->m[i] : h->m[i];
    }
    h->w[i] -= lr * g;
}

static void moments(hand *h, int i, double g, int t, double lr, const optim_hyper *o)
{
    h->m[i] = o->beta1 * h->m[i] + (1 - o->beta1) * g;
    h->v[i] = o->beta2 * h->v[i] + (1 - o->beta2) * g * g;
    h->w[i] -=
        lr * (h->m[i] / (1 - pow(o->beta1, t))) / (sqrt(h->v[i] / (1 - pow(o->beta2, t))) + o->eps);
}

static void adam_by_hand(hand *h, int i, double g, int t, double lr, double decay,
                         const optim_hyper *o)
{
    moments(h, i, g + decay * h->w[i], t, lr, o);
}

static void adamw_by_hand(hand *h, int i, double g, int t, double lr, double decay,
                          const optim_hyper *o)
{
    h->w[i] *= 1 - lr * decay;
    moments(h, i, g, t, lr, o);
}

static void follow(const char *name, by_hand_fn *by_hand, optim_hyper hyper, dtype d)
{
    const optim_rule *rule = optim_rule_find(name);
    const size_t size = dtype_size(d);
    double w[N], g[N];
    char w_any[N * 8], g_any[N * 8], state0[N * 8] = {0}, state1[N * 8] = {0};
    void *state[] = {state0, state1};
    hand h = {{0}, {0}, {0}};

    for (int i = 0; i < N; i++)
        h.w[i] = w[i] = (double)(float)(0.3 * i - 0.5);
    CHECK_OK(tensor_convert(w_any, d, w, DTYPE_F64, N));
    for (int t = 1; t <= STEPS; t++) {
        const double lr = 0.01 / t, decay = 0.1;

        for (int i = 0; i < N; i++) {
            g[i] = gradient(t, i);
            by_hand(&h, i, g[i] * 0.25, t, lr, decay, &hyper);
        }
        CHECK_OK(tensor_convert(g_any, d, g, DTYPE_F64, N));
        const optim_args a = {.dtype = d,
                              .n = N,
                              .w = w_any,
                              .g = g_any,
                              .state = state,
                              .grad_scale = 0.25,
                              .t = t,
                              .lr = lr,
                              .weight_decay = decay,
                              .hyper = &hyper,
                              .threads = 1};
        rule->apply(&a);
    }
    CHECK_OK(tensor_convert(w, DTYPE_F64, w_any, d, N));
    CHECK_CLOSE(w, h.w, N, size == 8 ? 1e-14 : 2e-6, size == 8 ? 1e-15 : 1e-7);
}

static void rules_do_what_their_papers_say(void **state)
{
    static const dtype types[] = {DTYPE_F64, DTYPE_F32};
    optim_hyper plain = OPTIM_HYPER_INIT, momentum = OPTIM_HYPER_INIT, nesterov,
                betas = OPTIM_HYPER_INIT;

    (void)state;
    momentum.momentum = 0.9;
    nesterov = momentum;
    nesterov.nesterov = true;
    betas.beta1 = 0.8;
    betas.beta2 = 0.95;
    for (size_t i = 0; i < 2; i++) {
        follow("sgd", sgd_by_hand, plain, types[i]);
        follow("sgd", sgd_by_hand, momentum, types[i]);
        follow("sgd", sgd_by_hand, nesterov, types[i]);
        follow("adam", adam_by_hand, plain, types[i]);
        follow("adam", adam_by_hand, betas, types[i]);
        follow("adamw", adamw_by_hand, plain, types[i]);
    }
}

static void threads_do_not_change_bits(void **state)
{
    enum { MANY = 200000 };
    float *w[2], *m[2], *v[2], *g = thaw__new(MANY, sizeof *g);
    const optim_hyper hyper = OPTIM_HYPER_INIT;

    (void)state;
    for (int i = 0; i < MANY; i++)
        g[i] = (float)gradient(1, i % 97);
    for (int k = 0; k < 2; k++) {
        w[k] = thaw__new(MANY, sizeof(float));
        m[k] = thaw__new(MANY, sizeof(float));
        v[k] = thaw__new(MANY, sizeof(float));
        void *tensors[] = {m[k], v[k]};
        for (int t = 1; t < 4; t++) {
            const optim_args a = {.dtype = DTYPE_F32,
                                  .n = MANY,
                                  .w = w[k],
                                  .g = g,
                                  .state = tensors,
                                  .grad_scale = 1,
                                  .t = t,
                                  .lr = 0.1,
                                  .hyper = &hyper,
                                  .threads = k + 1};
            optim_rule_find("adam")->apply(&a);
        }
    }
    CHECK_BYTES(w[0], w[1], MANY * sizeof(float));
    for (int k = 0; k < 2; k++) {
        thaw__free(w[k]);
        thaw__free(m[k]);
        thaw__free(v[k]);
    }
    thaw__free(g);
}

static void the_table_is_complete(void **state)
{
    size_t n;
    const optim_rule *rule = optim_rules(&n);
    const optim_hyper h = OPTIM_HYPER_INIT;

    (void)state;
    CHECK(n >= 3);
    for (size_t i = 0; i < n; i++) {
        CHECK(optim_rule_find(rule[i].name) == &rule[i]);
        CHECK(strlen(rule[i].help) > 10);
        for (int k = 0; k < rule[i].n_state(&h); k++)
            CHECK(rule[i].state_name[k] != NULL);
    }
    CHECK(optim_rule_find("sdg") == NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_do_what_their_papers_say),
        cmocka_unit_test(threads_do_not_change_bits),
        cmocka_unit_test(the_table_is_complete),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
