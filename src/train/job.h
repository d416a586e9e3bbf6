/*
 * job.h - a run put together, before anything is trained: network and weights, data, schedule,
 * compiled plans and what they take. Training, evaluating, predicting and planning stand on it.
 */
#ifndef THAW_TRAIN_JOB_H
#define THAW_TRAIN_JOB_H

#include "ckpt/ckpt.h"
#include "params/params.h"
#include "plan/plan.h"
#include "train/recipe.h"

/*
 * A budget is what is counted, in bytes, while a phase runs in batches of a size. Where there is a
 * cache of features it takes what is left, and is counted by whoever knows how much that is.
 */
typedef struct budget {
    size_t libraries; /* program and libraries, as measured */
    size_t data;      /* samples in memory */
    size_t opening;   /* the most there was while they were read, before all that follows */
    size_t loading;   /* batches being made, of training and of an evaluation beside it */
    size_t weights, gradients, state;
    size_t packed;      /* weights as kernels want them */
    size_t activations; /* and scratch, of training or of evaluating */
    size_t copies;      /* to undo a step, to go back to the best, to be saved */
    size_t cache;
    bool across; /* something looks across samples, so a batch cannot be cut */
} budget;

/*
 * A run put together: network with weights, data, schedule, executor. Shared by training, resuming,
 * evaluating and planning.
 */
typedef struct job {
    const thaw_recipe *recipe;
    const thaw_run_options *options;
    model *model;
    params *params;
    thaw_schedule *schedule;
    dataset *train, *valid, *test; /* NULL: the recipe has no such split */
    struct job_source *source;     /* adapters of the caller's own data, or NULL */
    exec *exec;
    int threads;
    bool *recomputes;   /* [n_phases] all that is cheap, to save memory; NULL: none */
    int *pieces;        /* [n_phases] micro-batches in which a batch is run; NULL: one each */
    budget *budget;     /* [n_phases] what each takes; NULL until budget_fit */
    bool saves;         /* checkpoints are made, so that room for copies is needed */
    int64_t eval_batch; /* samples of a batch in evaluations; 0: the data's */
    void *targets;      /* of a batch for a squared error: one-hot rows; made when first needed */
    struct culprit *watch; /* looks for values that are not finite while set; NULL: nobody does */
    char *load_note;       /* what loading the weights replaced or left over; "" for nothing */
    bool tuned;            /* kernels are chosen as measured */
    text tune_note;        /* lines to tell of that */
} job;

/* What a job needs to do; data and executor cost time and memory. */
#define JOB_DATA 1u
#define JOB_EXEC 2u

/*
 * Open. weights: a safetensors file or a folder with model.safetensors and config.json that
 * replaces the recipe's; NULL: the recipe's. Both recipe and options are borrowed for the job's
 * life.
 */
thaw_status job_open(job **out, const thaw_recipe *recipe, const thaw_run_options *options,
                     const char *weights, unsigned needs) THAW_MUST_USE;
void job_close(job *j);
dataset *job_split(const job *j, const char *split); /* NULL: none of that name */

/* Of numbers to predict: a line about what any network has to beat. */
void job_add_guess(text *out, const job *j);

/* The sealed schedule of a recipe over a network and so many training samples. Mistakes come with
 * their places in the recipe. */
thaw_status job_schedule(thaw_schedule **out, const thaw_recipe *recipe, const thaw_tree *tree,
                         int64_t samples) THAW_MUST_USE;

/* Where a network's head comes from: the file must have one, or may, or it is not looked for. One
 * for another number of classes starts anew in any case. */
typedef enum head_wish { HEAD_OF_FILE, HEAD_IF_THERE, HEAD_NEW } head_wish;

/*
 * Values of a file's tensors; then start values of all others. note (may be NULL): what did not
 * fit, freed with thaw__free. loaded (may be NULL): [n_tensors], set to true where the file had
 * one; weights_start leaves those alone, NULL: none.
 */
thaw_status weights_load(char **note, bool *loaded, params *p, model *m, const char *path,
                         head_wish head) THAW_MUST_USE;
void weights_start(params *p, const model *m, const thaw_recipe *recipe, const bool *loaded);

/*
 * A file's tensors matched with a network's, in the naming in which most of them agree. entry[i] is
 * tensor i of the network, NULL where it is missing; used[k] says that entry k of the file is some
 * tensor's.
 */
typedef struct weights_match {
    const model *model;
    bundle *file;
    const char *naming; /* NULL: the network's own */
    const bundle_entry **entry;
    model_part *part; /* which rows of its entry each tensor is */
    bool *used;
    int n_found;
} weights_match;
thaw_status match_open(weights_match **out, const model *m, const char *path) THAW_MUST_USE;
void match_close(weights_match *match);

/* Whether the file has the network, but nothing of its head. */
bool match_without_head(const weights_match *match);

/* Whether tensor i has its entry's shape, or that of its part of it. */
bool match_fits(const weights_match *match, int i);

/* Tensor i's name in the naming of the match; and " (did you mean …)" where the file has a near
 * one.
 */
void match_add_name(text *out, const weights_match *match, int i);
void match_add_near(text *out, const weights_match *match, int i);

/* The naming and element type of the file into the network's configuration, to leave in them. */
void match_keep_form(model *m, const weights_match *match);

/* What matched, is missing and is left over, for people and for programs. */
thaw_status match_account(text *out, const model *m, const char *path, bool json) THAW_MUST_USE;

/*
 * What the place of a network's weights says the network is: config.json of a folder; without one,
 * the names and shapes of the tensors. THAW_E_SUPPORT when they fit no network.
 */
thaw_status model_place_config(model_config *out, const char *path) THAW_MUST_USE;

/* All tensors as sources for a file, from the parameters or a snapshot of them; free with
 * thaw__free. */
thaw_status weights_sources(st_source **out, const params *p,
                            const params_snapshot *from) THAW_MUST_USE;

/* These sources under the names and in the element type that the network's weights came in, *made
 * of them: tensors that are parts of one there are joined. List and copies are the region's. */
thaw_status weights_as_loaded(st_source **out, int *made, thaw_region *region,
                              const st_source *from, int n, const model_config *c) THAW_MUST_USE;

/* Compiled plans, awake, by purpose, part, batch and plan digest of the effect. */
#define PLANS_MOST 16
typedef struct plan_entry {
    plan *plan;
    exec_session *session;
    uint64_t digest;
    int64_t batch;
    bool training;
    plan_part part;
    value_id cut;
    uint64_t used; /* clock of its last use */
} plan_entry;
typedef struct plans {
    plan_entry entry[PLANS_MOST];
    int n;
    uint64_t clock;
} plans;

/* What plans of a recipe compute in bf16 with; BF16_NONE: nothing. Asked for by name it is done,
 * whatever it costs. */
bf16_unit plans_bf16(const thaw_recipe *r);

/* What to say of it: by what, and where it is slower than f32. Nothing without bf16. */
void plans_print_bf16(text *out, const thaw_recipe *r);

/* The plan for batches of n samples, compiled and awake. effect NULL: evaluation. rows: the
 * optimizer's, for training. */
thaw_status plans_get(const plan_entry **out, plans *cache, job *j, const thaw_effect *effect,
                      int64_t n, const optim_hyper *hyper) THAW_MUST_USE;
/* Compile without waking. */
thaw_status plans_compile(plan **out, job *j, const thaw_effect *effect, int64_t n,
                          const optim_hyper *hyper) THAW_MUST_USE;
void plans_drop_training(plans *cache, uint64_t keep_digest);
void plans_done(plans *cache);

/*
 * Choices of kernels by measuring, plan.tune = "measure" (tune.c); else none of these does
 * anything. A run keeps them as TUNE_NAME in its folder and in each checkpoint.
 *
 * tune_take     those of a folder (NULL, or without the file: none), unless there are some already.
 *               Measured otherwise than this process would: a line of tune_note. THAW_E_DATA when
 *               the file is damaged
 * tune_measure  what the plans of all phases leave to choose, unless it is chosen already; before
 *               any other plan is compiled. run: the folder, or NULL
 * tune_count    choices, and how many of them are not the table's
 */
#define TUNE_NAME "tune.json"
thaw_status tune_take(job *j, const char *folder) THAW_MUST_USE;
thaw_status tune_measure(job *j, const char *run) THAW_MUST_USE;
void tune_count(int *n, int *others, const job *j);
void tune_print(text *out, const job *j);

/*
 * Memory of a run before it begins (budget.c): of each phase, from its plan, and whether that is
 * within train.memory_limit and what the machine has. Where it is not, all that is cheap is made
 * again instead of kept, which changes no bit of a result: j->recomputes says so. Where that is not
 * enough for the limit, and a batch may be cut into equal pieces without another result than by
 * rounding, j->pieces says so. The prediction depends on the recipe, the data and the kernels
 * alone, so that a resume cuts alike.
 *
 * notes: a line for each phase that recomputes for it, and for each whose batch is cut. machine:
 * look at what it has, too. Errors: THAW_E_NOMEM with the largest batch that fits.
 */
thaw_status budget_fit(text *notes, job *j, bool machine) THAW_MUST_USE;
thaw_status budget_of(budget *out, job *j, int phase, int64_t batch) THAW_MUST_USE;
size_t budget_sum(const budget *b); /* SIZE_MAX: more than can be counted */
thaw_status budget_phase(size_t *bytes, job *j, int phase, int64_t batch) THAW_MUST_USE;
int job_pieces(const job *j, int phase);
plan_recompute job_recompute(const job *j, int phase);
int64_t job_micro_batch(const job *j, int phase);

/* Run an awake plan on one batch; then read an f64 scalar of its results. */
thaw_status run_batch(const plan_entry *e, job *j, const batch *b, bool accumulate) THAW_MUST_USE;
double read_scalar(const plan_entry *e, int slot);

typedef struct features features; /* features.h */

/* How samples are loaded to be judged: in order, none changed at random. */
loader_options evaluation_loading(const thaw_recipe *r);

#endif
