/*
 * budget.c - the memory of a run, before it begins: the peak of each phase from its plan, and
 * whether that is allowed.
 *
 * Where that is too little, cheap results are made again backward instead of being kept. Where
 * 'train.memory_limit' is still too small for a batch, the batch is cut into equal pieces whose
 * gradients add up, as long as nothing in the network looks across samples: a batch norm that
 * trains does, and then the run is refused. The prediction is a function of the recipe, the data
 * and the kernels, never of what the process happens to have, nor of how kernels were measured: a
 * resume must cut alike.
 */
#include "train/train.h"

#include "train/features.h"

/* What the program, its libraries and small things take beside all that is counted, and the code
 * and state of each kernel that the library makes: measured. */
#define BASELINE ((size_t)28 << 20)
#define KERNEL   ((size_t)96 << 10)

int job_pieces(const job *j, int phase)
{
    return j->pieces ? j->pieces[phase] : 1;
}

plan_recompute job_recompute(const job *j, int phase)
{
    return j->recomputes && j->recomputes[phase] ? PLAN_RECOMPUTE_ALWAYS : j->recipe->recompute;
}

int64_t job_micro_batch(const job *j, int phase)
{
    return recipe_batch(j->recipe, phase) / job_pieces(j, phase);
}

/* ----------------------------------------------------------------------------------------------
 * prediction */

/* Sums that stay at the largest number instead of wrapping. */
static void add(size_t *sum, size_t n)
{
    if (!size_add(sum, *sum, n))
        *sum = SIZE_MAX;
}

/* Samples, one split after the other: *opening is the most that there was while they were read. */
static size_t data_bytes(size_t *opening, const job *j)
{
    const dataset *const split[] = {j->train, j->valid, j->test};
    size_t sum = 0;

    *opening = 0;
    for (size_t i = 0; i < THAW_COUNT(split); i++) {
        size_t then = sum;

        if (!split[i])
            continue;
        add(&then, split[i]->opening);
        *opening = THAW_MAX(*opening, then);
        add(&sum, dataset_bytes(split[i]));
    }
    return sum;
}

static size_t buffer_bytes(const params *p)
{
    size_t sum = 0;

    for (int i = p->n_trained; i < p->n; i++)
        add(&sum, p->item[i].bytes);
    return sum;
}

static bool sees_across_samples(const plan *p)
{
    for (int i = 0; i < p->n_once + p->n_step; i++)
        if (p->step[i].op == OP_BATCH_NORM_TRAIN)
            return true;
    return false;
}

static bool evaluates(const job *j)
{
    return j->valid || j->test;
}

/* Batches of training, and of the evaluation of a split that wants most. */
static size_t loader_room(const job *j, int64_t batch, int64_t eval)
{
    const dataset *const split[] = {j->valid, j->test};
    loader_options o = j->recipe->loader;
    size_t sum, most = 0;

    o.batch = batch;
    sum = loader_bytes(j->train, &o);
    o = evaluation_loading(j->recipe);
    o.batch = eval;
    for (size_t i = 0; i < THAW_COUNT(split); i++)
        if (split[i])
            most = THAW_MAX(most, loader_bytes(split[i], &o));
    add(&sum, most);
    return sum;
}

static size_t copy_bytes(const job *j, int phase, const plan *p)
{
    size_t sum = j->saves ? save_copy_bytes(j, phase, p) : 0;

    add(&sum, buffer_bytes(j->params)); /* to undo a step that was not finite */
    if (j->recipe->phase[phase].options.until_restore)
        add(&sum, p->param_bytes);
    return sum;
}

/* What the plans of a phase take. */
static thaw_status account(budget *b, const job *j, int phase, const plan *train,
                           const plan *evaluation)
{
    const plan *const both[] = {train, evaluation};
    exec_needs needs = {0};

    if (j->exec)
        THAW_CHECK(exec_foresee(&needs, j->exec, both, evaluates(j) ? 2 : 1));
    b->libraries = BASELINE + needs.library + (size_t)needs.kernels * KERNEL;
    b->packed = needs.packed;
    b->weights = train->param_bytes;
    b->gradients = train->grad_bytes;
    b->state = train->state_bytes;
    b->activations = train->arena_bytes;
    if (evaluates(j))
        b->activations = THAW_MAX(b->activations, evaluation->arena_bytes);
    b->copies = copy_bytes(j, phase, train);
    b->across = sees_across_samples(train);
    return THAW_OK;
}

/* With evaluations in batches of the same size or the data's, whichever is smaller. */
thaw_status budget_of(budget *out, job *j, int phase, int64_t batch)
{
    const thaw_recipe *r = j->recipe;
    const int64_t eval = THAW_MIN(batch, r->loader.batch);
    budget b = {.loading = loader_room(j, batch, eval)};
    const thaw_effect *effect;
    thaw_progress progress = {0};
    plan *train = NULL, *evaluation = NULL;
    int64_t end;
    thaw_status status;

    if (j->exec)
        exec_by_table(j->exec, true);
    thaw_schedule_phase_span(&progress.iteration, &end, j->schedule, &progress, phase);
    THAW_TRY(thaw_schedule_effect(&effect, j->schedule, &progress));
    THAW_TRY(plans_compile(&train, j, effect, THAW_MIN(batch, j->train->n),
                           &r->phase[effect->built_phase].hyper));
    THAW_TRY(plans_compile(&evaluation, j, NULL, eval, NULL));
    b.data = data_bytes(&b.opening, j);
    THAW_TRY(account(&b, j, phase, train, evaluation));
    *out = b;
done:
    if (j->exec)
        exec_by_table(j->exec, false);
    plan_destroy(evaluation);
    plan_destroy(train);
    return status;
}

size_t budget_sum(const budget *b)
{
    const size_t part[] = {b->data,   b->loading,     b->weights, b->gradients, b->state,
                           b->packed, b->activations, b->copies,  b->cache};
    size_t sum = 0;

    for (size_t i = 0; i < THAW_COUNT(part); i++)
        add(&sum, part[i]);
    sum = THAW_MAX(sum, b->opening);
    add(&sum, b->libraries);
    return sum;
}

thaw_status budget_phase(size_t *bytes, job *j, int phase, int64_t batch)
{
    budget b;

    THAW_CHECK(budget_of(&b, j, phase, batch));
    *bytes = budget_sum(&b);
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * fitting */

/* Greatest batch below `batch` that takes at most `allowed` bytes; 0: none. */
static thaw_status largest_fitting(int64_t *out, job *j, int phase, int64_t batch, size_t allowed)
{
    int64_t fits = 0, too_small = 0, too_large = batch;

    while (too_large - fits > 1) {
        const int64_t middle = fits + (too_large - fits) / 2;
        size_t bytes = 0;
        const thaw_status status = budget_phase(&bytes, j, phase, middle);

        if (status == THAW_E_SHAPE) /* a batch norm would see one value */
            too_small = middle;
        else if (status != THAW_OK)
            return status;
        if (bytes <= allowed)
            fits = middle;
        else
            too_large = middle;
    }
    *out = fits > too_small ? fits : 0;
    return THAW_OK;
}

/* What stands between a phase and its memory. */
typedef struct shortage {
    int phase;
    int64_t batch;
    size_t needed, allowed;
    bool across;     /* so the batch cannot be cut */
    const char *who; /* allows no more: "'train.memory_limit'" */
} shortage;

static thaw_status refuse(job *j, const shortage *s)
{
    char needed[32], allowed[32];
    const char *name = thaw_schedule_phase_name(j->schedule, s->phase);
    int64_t fits;

    THAW_CHECK(largest_fitting(&fits, j, s->phase, s->batch, s->allowed));
    format_bytes(needed, s->needed);
    format_bytes(allowed, s->allowed);
    if (fits == 0)
        return thaw_fail(
            THAW_E_NOMEM,
            "phase '%s' needs %s of memory with a batch of %lld, but %s allows %s, too "
            "little for a batch of 1; freeze more, or give it more memory",
            name, needed, (long long)s->batch, s->who, allowed);
    return thaw_fail(THAW_E_NOMEM,
                     "phase '%s' needs %s of memory with a batch of %lld, but %s allows %s; the "
                     "largest batch that fits is %lld%s",
                     name, needed, (long long)s->batch, s->who, allowed, (long long)fits,
                     s->across ? ", which is for you to choose: batch norms that train see a "
                                 "batch as a whole"
                               : "");
}

static thaw_status cut(text *notes, job *j, const shortage *s)
{
    char allowed[32], bytes_text[32];

    for (int64_t pieces = 2; pieces <= s->batch; pieces++) {
        size_t bytes;

        if (s->batch % pieces != 0)
            continue;
        THAW_CHECK(budget_phase(&bytes, j, s->phase, s->batch / pieces));
        if (bytes > s->allowed)
            continue;
        j->pieces[s->phase] = (int)pieces;
        text_addf(notes,
                  "phase '%s': a batch of %lld runs as %lld of %lld, to stay within %s of %s: %s; "
                  "results differ by rounding alone\n",
                  thaw_schedule_phase_name(j->schedule, s->phase), (long long)s->batch,
                  (long long)pieces, (long long)(s->batch / pieces), s->who,
                  format_bytes(allowed, s->allowed), format_bytes(bytes_text, bytes));
        return THAW_OK;
    }
    return refuse(j, s);
}

/* What the machine has for this process, with what the process has already. */
static size_t machine_allows(const job *j)
{
    const uint64_t left = os_memory_available();
    size_t sum = BASELINE, opening;

    if (left == 0 || left > SIZE_MAX)
        return SIZE_MAX;
    add(&sum, data_bytes(&opening, j));
    for (int i = 0; i < j->params->n; i++)
        add(&sum, j->params->item[i].bytes);
    add(&sum, (size_t)left);
    return sum;
}

/* What costs a little time and no bit of a result comes before all else. */
static thaw_status recompute(text *notes, job *j, shortage *s)
{
    char before[32], after[32];
    size_t bytes;

    if (s->needed <= s->allowed || j->recipe->recompute != PLAN_RECOMPUTE_AUTO)
        return THAW_OK;
    j->recomputes[s->phase] = true;
    THAW_CHECK(budget_phase(&bytes, j, s->phase, s->batch));
    if (bytes < s->needed)
        text_addf(
            notes,
            "phase '%s': cheap results are made again backward instead of being kept, to stay "
            "within %s: %s instead of %s; results are the same\n",
            thaw_schedule_phase_name(j->schedule, s->phase), s->who, format_bytes(after, bytes),
            format_bytes(before, s->needed));
    j->recomputes[s->phase] = bytes < s->needed;
    s->needed = THAW_MIN(bytes, s->needed);
    return THAW_OK;
}

static thaw_status fit_phase(text *notes, job *j, int phase, size_t machine)
{
    const uint64_t limit = j->recipe->memory_limit;
    shortage s = {.phase = phase, .batch = recipe_batch(j->recipe, phase)};
    budget b;

    THAW_CHECK(budget_of(&b, j, phase, s.batch));
    s.needed = budget_sum(&b);
    s.across = b.across;
    s.allowed = limit > 0 ? (size_t)THAW_MIN(limit, SIZE_MAX) : SIZE_MAX;
    s.who = "'train.memory_limit'";
    if (machine < s.allowed) {
        s.allowed = machine;
        s.who = "this machine";
    }
    THAW_CHECK(recompute(notes, j, &s));
    if (limit > 0 && s.needed > limit) {
        s.allowed = limit > SIZE_MAX ? SIZE_MAX : (size_t)limit;
        s.who = "'train.memory_limit'";
        THAW_CHECK(s.across ? refuse(j, &s) : cut(notes, j, &s));
    }
    THAW_CHECK(budget_of(&j->budget[phase], j, phase, job_micro_batch(j, phase)));
    s.needed = budget_sum(&j->budget[phase]);
    if (s.needed <= machine)
        return THAW_OK;
    s.batch = job_micro_batch(j, phase);
    s.allowed = machine;
    s.who = "this machine";
    return refuse(j, &s);
}

/* Evaluations in batches no larger than those that fit in every phase. */
static void fit_evaluation(job *j, int n)
{
    int64_t least = j->recipe->loader.batch;

    for (int p = 0; p < n; p++)
        if (j->pieces[p] > 1)
            least = THAW_MIN(least, job_micro_batch(j, p));
    j->eval_batch = least;
}

thaw_status budget_fit(text *notes, job *j, bool machine)
{
    const int n = thaw_schedule_n_phases(j->schedule);
    const size_t allows = machine ? machine_allows(j) : SIZE_MAX;

    thaw__free(j->recomputes);
    thaw__free(j->budget);
    thaw__free(j->pieces);
    j->recomputes = thaw__new((size_t)n, sizeof *j->recomputes);
    j->budget = thaw__new((size_t)n, sizeof *j->budget);
    j->pieces = thaw__new((size_t)n, sizeof *j->pieces);
    if (!j->recomputes || !j->budget || !j->pieces)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the budget of a run");
    for (int p = 0; p < n; p++)
        j->pieces[p] = 1;
    for (int p = 0; p < n; p++)
        THAW_CHECK(fit_phase(notes, j, p, allows));
    fit_evaluation(j, n);
    return THAW_OK;
}
