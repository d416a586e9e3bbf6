/*
 * optim - update rules, learning-rate curves, clipping, and what happens to optimizer state when
 * the phase changes.
 *
 * State lives in params, keyed by parameter name; the learning rate of a parameter is computed at
 * each update as base × curve(updates since the last rebuild) × coefficient, never stored as a
 * product that drifts.
 *
 * Knows nothing of models or executors.
 */
#ifndef THAW_OPTIM_H
#define THAW_OPTIM_H

#include "params/params.h"
#include "plan/plan.h"

/* Constants of the update rules. */
typedef struct optim_hyper {
    double momentum;             /* sgd: in [0, 1) */
    bool nesterov;               /* sgd */
    double beta1, beta2;         /* adam, adamw: in [0, 1) */
    double eps;                  /* adam, adamw: added after the square root */
    double weight_decay;         /* at least 0 */
    bool decay_norms_and_biases; /* false: parameters with fewer than two axes take no weight decay
                                  */
} optim_hyper;
#define OPTIM_HYPER_INIT                                                                           \
    {                                                                                              \
        .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .decay_norms_and_biases = true                  \
    }

/* Arguments of one update of one parameter; data types are f32 or f64 as `dtype` says. */
typedef struct optim_args {
    dtype dtype;
    size_t n;
    void *w;             /* [n] */
    const void *g;       /* [n]: multiplied by grad_scale as it is read, itself unchanged */
    void *const *state;  /* the rule's state tensors, each [n] */
    double grad_scale;   /* 1 / valid targets of the update, times the clipping factor */
    int64_t t;           /* this parameter's own update number, from 1 */
    double lr;           /* effective learning rate, at least 0 */
    double weight_decay; /* of this parameter */
    const optim_hyper *hyper;
    int threads;
} optim_args;

typedef struct optim_rule {
    const char *name;                        /* "sgd", "adam", "adamw" */
    const char *help;                        /* the update in one line, with its source */
    int (*n_state)(const optim_hyper *h);    /* state tensors a parameter needs */
    const char *state_name[PARAM_MAX_STATE]; /* names in checkpoints: "exp_avg" */
    void (*apply)(const optim_args *a);
} optim_rule;

const optim_rule *optim_rule_find(const char *name); /* NULL: none */
const optim_rule *optim_rules(size_t *n);

/*
 * Learning-rate curves: the factor at update t (from 0) of `total` updates planned for this curve,
 * 1 at the start of a curve without warm-up. t counts applied updates since the last rebuild of the
 * optimizer.
 */
typedef struct curve_config {
    const struct curve_rule *rule;
    double warmup;    /* updates over which the factor rises linearly from 0 (exclusive) to 1 */
    double step_size; /* step: in units */
    double gamma;     /* step */
    double least;     /* cosine, linear: factor at the end */
    bool per_epoch;   /* the curve's t is the epoch (t / updates_per_epoch, rounded down), not the
                         update */
    double updates_per_epoch;
} curve_config;
typedef struct curve_rule {
    const char *name; /* "constant", "step", "cosine", "linear" */
    const char *help;
    double (*at)(const curve_config *c, double t, double total);
} curve_rule;
const curve_rule *curve_find(const char *name);
const curve_rule *curve_rules(size_t *n);
double curve_at(const curve_config *c, int64_t t, int64_t total);

/* What a change of phase did to optimizer state, for the line that is printed. Counts are
 * parameters. */
typedef struct optim_report {
    bool rebuilt;
    int kept, made, dropped, parked, resumed;
} optim_report;

/*
 * Bring the parameters' state from whatever it was to what `effect` asks for: gradients and state
 * exist exactly for what trains; rebuild starts all of it from zero; keep follows
 * effect->on_freeze. Idempotent for the same effect with rebuild = false.
 */
thaw_status optim_migrate(optim_report *report, params *p, const optim_rule *rule,
                          const optim_hyper *h, const thaw_effect *effect,
                          bool rebuild) THAW_MUST_USE;

/* Rows of the plan's update section for what `effect` trains. *rows is freed with thaw__free. */
thaw_status optim_rows(plan_update **rows, int *n, const params *p, const optim_rule *rule,
                       const optim_hyper *h, const thaw_effect *effect) THAW_MUST_USE;

/* L2 norm of all gradients, each times scale; NaN or infinite when one is. In an order that does
 * not depend on the threads. */
double optim_grad_norm(const params *p, double scale, int threads);

/* Factor min(1, clip / (norm + 1e-6)); 1 when clip is infinite. */
double optim_clip_factor(double norm, double clip);

/*
 * Update every parameter that effect says is updated, with rate base_lr × effect->lr_scale[i], and
 * × ramp where it thawed with the phase; raises versions and own step counts. base_lr has the
 * curve's factor in it.
 */
void optim_step(params *p, const optim_rule *rule, const optim_hyper *h, const thaw_effect *effect,
                double base_lr, double ramp, double grad_scale, int threads);

#endif
