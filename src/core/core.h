/*
 * core - the control plane: module tree, patterns, phase state, schedule and effect. Names, counts
 * and numbers only; no tensors, no graphs, no files. libthaw-core is this layer and base, and needs
 * nothing but PCRE2.
 *
 * The phase state is one ordered list of operations (those of the schedule that progress has
 * reached, plus recorded edits) folded from the start: who is frozen, the coefficients and the mask
 * are results, never stored twice.
 */
#ifndef THAW_CORE_H
#define THAW_CORE_H

#include "base/base.h"

#include <thaw/control.h>

/*
 * What the phase state asks for at one moment. Parameters in module-tree order, modules in
 * pre-order. Immutable; owned by the schedule that computed it and valid as long as that. Equal
 * digests mean equal effects.
 */
struct thaw_effect {
    int phase; /* 0-based number of the phase */
    int n_params, n_modules;
    const bool *trainable; /* [n_params] gradients exist */
    const bool *updated; /* [n_params] trainable and known to the optimizer; differs from trainable
                            only after a phase with optimizer = "hold", which leaves the optimizer's
                            groups as they are */
    const double
        *lr_scale; /* [n_params] coefficient in force in the optimizer; 1.0 without one; 0 pauses */
    const uint8_t
        *mode;        /* [n_modules] THAW_MODE_… bits: how norms and dropout of this module run */
    int64_t built_at; /* iteration at which the optimizer was last rebuilt (0: the start); a change
                         restarts curve and state */
    int built_phase; /* phase whose rate and curve are in force: the last one that did not "hold" */
    thaw_on_freeze on_freeze; /* what "keep" does with state of what freezes */
    uint64_t digest;          /* of everything above but phase */
    uint64_t plan_digest;     /* of trainable and mode alone: what a plan depends on */
};
#define THAW_MODE_NORM_TRAIN 1u /* batch statistics, running statistics move; else inference mode  \
                                 */
#define THAW_MODE_DROPOUT 2u    /* dropout is on */

#endif
