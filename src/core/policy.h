/*
 * policy.h - the live policy's inside, shared by policy.c (phase state), groups.c (optimizer
 * groups) and policy_json.c (saving). For nobody else.
 */
#ifndef THAW_CORE_POLICY_H
#define THAW_CORE_POLICY_H

#include "core/core.h"

/*
 * One group: what a module owns. The rate is computed from its parts, base * curve * coefficient;
 * "lr *= new / applied" and "lr *= gamma" are what an observer of it sees.
 */
typedef struct policy_group {
    int module;
    int begin, n; /* in thaw_policy.member */
    double base;
    double applied;
    int64_t born; /* decays of the scheduler before this group was made */
} policy_group;

struct thaw_policy {
    const thaw_tree *tree;
    phase_state state;
    bool *untrained; /* [n_params] built with the flag off */
    bool *grouped;   /* [n_params] in some group */
    bool has_optimizer;
    thaw_rates rates;    /* arguments of the last build */
    thaw_rates in_force; /* those of the scheduler, which a load may have brought */
    int64_t epoch;       /* of the scheduler */
    policy_group *group;
    int *member; /* parameters of the groups */
    int n_groups;
};

void groups_done(thaw_policy *p);

/* How often the scheduler has multiplied by gamma. */
int64_t groups_decays(const thaw_policy *p);

#endif
