/*
 * plans.c - compiled plans by purpose and batch size, awake as long as they are used. A plan
 * depends on nothing but the effect's plan digest, the batch and the purpose, so asking again is
 * free.
 */
#include "train/train.h"

#include "train/features.h"

static void entry_done(plan_entry *e)
{
    exec_sleep(e->session);
    plan_destroy(e->plan);
    *e = (plan_entry){0};
}

static void drop_entry(plans *cache, int i)
{
    entry_done(&cache->entry[i]);
    cache->entry[i] = cache->entry[--cache->n];
    cache->entry[cache->n] = (plan_entry){0};
}

void plans_drop_training(plans *cache, uint64_t keep_digest)
{
    for (int i = cache->n - 1; i >= 0; i--)
        if (cache->entry[i].training && cache->entry[i].digest != keep_digest)
            drop_entry(cache, i);
}

void plans_done(plans *cache)
{
    while (cache->n > 0)
        drop_entry(cache, cache->n - 1);
}

static int oldest_entry(const plans *cache)
{
    int oldest = 0;

    for (int i = 1; i < cache->n; i++)
        if (cache->entry[i].used < cache->entry[oldest].used)
            oldest = i;
    return oldest;
}

void plans_drop_parts(plans *cache, value_id keep_cut)
{
    for (int i = cache->n - 1; i >= 0; i--)
        if (cache->entry[i].part != PLAN_WHOLE && cache->entry[i].cut != keep_cut)
            drop_entry(cache, i);
}

bf16_unit plans_bf16(const thaw_recipe *r)
{
    const bf16_unit here = exec_bf16(r->executor);

    if (r->precision == PRECISION_BF16)
        return THAW_MAX(here, BF16_VECTOR);
    return r->precision == PRECISION_AUTO && here >= BF16_VECTOR ? here : BF16_NONE;
}

void plans_print_bf16(text *out, const thaw_recipe *r)
{
    static const char *const how[] = {
        [BF16_NONE] = "bf16: by plain loops, as nothing here multiplies it: far slower than f32",
        [BF16_EMULATED] = ("bf16: emulated, as this processor has no instruction that multiplies "
                           "it: slower than f32"),
        [BF16_VECTOR] = "bf16: with AVX-512 BF16",
        [BF16_TILE] = "bf16: with AMX"};

    if (plans_bf16(r) != BF16_NONE)
        text_add(out, how[exec_bf16(r->executor)]);
}

thaw_status plans_compile_part(plan **out, job *j, const thaw_effect *effect, int64_t n,
                               const optim_hyper *hyper, plan_part part, value_id cut)
{
    const thaw_recipe *r = j->recipe;
    size_t *bytes = thaw__new((size_t)j->params->n, sizeof *bytes);
    plan_update *rows = NULL;
    plan_request request = PLAN_REQUEST_INIT;
    thaw_status status = THAW_OK;

    if (!bytes)
        return thaw_fail(THAW_E_NOMEM, "out of memory for a plan");
    for (int i = 0; i < j->params->n; i++)
        bytes[i] = j->params->item[i].bytes;
    if (effect)
        THAW_TRY(optim_rows(&rows, &request.n_update, j->params, r->rule, hyper, effect));
    request.model = j->model->graph;
    request.output = j->model->output;
    request.effect = effect;
    request.training = effect != NULL;
    request.fold = r->fold;
    request.fuse = r->fuse;
    request.inplace = r->inplace;
    request.bf16 = plans_bf16(r);
    request.recompute = effect ? job_recompute(j, effect->phase) : PLAN_RECOMPUTE_NEVER;
    request.part = part;
    request.cut = cut;
    request.loss_op = part == PLAN_PREFIX ? OP_COUNT : r->loss;
    request.loss_attrs = r->loss_attrs;
    request.batch = n;
    request.n_params = j->params->n;
    request.param_bytes = bytes;
    request.update = rows;
    if (j->exec) {
        request.scratch = exec_scratch;
        request.scratch_user = j->exec;
    }
    THAW_TRY(plan_compile(out, &request));
done:
    thaw__free(rows);
    thaw__free(bytes);
    return status;
}

thaw_status plans_compile(plan **out, job *j, const thaw_effect *effect, int64_t n,
                          const optim_hyper *hyper)
{
    return plans_compile_part(out, j, effect, n, hyper, PLAN_WHOLE, NO_VALUE);
}

static bool same_use(const plan_entry *a, const plan_entry *b)
{
    return a->training == b->training && a->batch == b->batch && a->digest == b->digest &&
           a->part == b->part && a->cut == b->cut;
}

thaw_status plans_get_part(const plan_entry **out, plans *cache, job *j, const thaw_effect *effect,
                           int64_t n, const optim_hyper *hyper, plan_part part, value_id cut)
{
    plan_entry e = {.digest = effect ? effect->plan_digest : 0,
                    .batch = n,
                    .training = effect != NULL,
                    .part = part,
                    .cut = cut,
                    .used = ++cache->clock};

    for (int i = 0; i < cache->n; i++) {
        plan_entry *have = &cache->entry[i];

        if (same_use(have, &e)) {
            have->used = cache->clock;
            *out = have;
            return THAW_OK;
        }
    }
    if (cache->n == PLANS_MOST)
        drop_entry(cache, oldest_entry(cache));
    THAW_CHECK(plans_compile_part(&e.plan, j, effect, n, hyper, part, cut));
    const thaw_status status = exec_wake(&e.session, j->exec, e.plan);
    if (status != THAW_OK) {
        plan_destroy(e.plan);
        return status;
    }
    cache->entry[cache->n++] = e;
    *out = &cache->entry[cache->n - 1];
    return THAW_OK;
}

thaw_status plans_get(const plan_entry **out, plans *cache, job *j, const thaw_effect *effect,
                      int64_t n, const optim_hyper *hyper)
{
    return plans_get_part(out, cache, j, effect, n, hyper, PLAN_WHOLE, NO_VALUE);
}
