/*
 * small_runs.h - runs of a few steps on images drawn here, with everything they tell written down.
 * Everything is static inline, like check.h.
 */
#ifndef THAW_TESTS_SMALL_RUNS_H
#define THAW_TESTS_SMALL_RUNS_H

#include "train/train.h"

#include "check.h"
#include "data/idx_files.h"

enum { SMALL_SIDE = 8, SMALL_CLASSES = 3, SMALL_TRAIN = 18, SMALL_VALID = 7, SMALL_MOST = 64 };

/* With batch 4, an epoch has batches of 4, 4, 4, 4 and 2. */
#define SMALL_DATA                                                                                 \
    "[data]\ntrain = 'train-images-idx3-ubyte'\nvalid = 'valid-images-idx3-ubyte'\n"               \
    "batch = 4\nmean = 0.3\nstd = 0.4\n"
#define SMALL_CALLBACK "[data]\nformat = 'callback'\nbatch = 4\n"
#define SMALL_MLP      "[model]\narch = 'mlp'\nwidths = [64, 6, 5, 3]\n"
#define SMALL_RESNET                                                                               \
    "[model]\narch = 'resnet18'\nwidths = [4, 4, 8, 8]\nblocks = [1, 1, 1, 1]\nstem = 'small'\n"
#define SMALL_REF_F64  "[train]\nexecutor = 'ref'\nprecision = 'f64'\n"
#define SMALL_BACKBONE "freeze = ['conv1', 'bn1', 'layer.*']\n"

/* ----------------------------------------------------------------------------------------------
 * data */

/* A bar whose direction is the class, under noise that depends on the sample alone. */
static inline unsigned char small_pixel(int64_t sample, int y, int x)
{
    uint64_t noise = (uint64_t)sample * 4096 + (uint64_t)(y * SMALL_SIDE + x);
    const int64_t direction = sample % SMALL_CLASSES;
    const bool bar = direction == 0 ? y == 3 : direction == 1 ? x == 4 : x == y;

    return (unsigned char)((bar ? 150 : 0) + (splitmix64(&noise) >> 33) % 100);
}

static inline void small_split(const char *folder, const char *split, int64_t first, uint32_t n)
{
    bytes images = idx_bytes(0x803, 3, (uint32_t[]){n, SMALL_SIDE, SMALL_SIDE}, 0, 1);
    bytes labels = idx_labels(n, SMALL_CLASSES);
    char name[64];

    for (uint32_t i = 0; i < n; i++)
        for (int k = 0; k < SMALL_SIDE * SMALL_SIDE; k++)
            images.data[images.n++] = small_pixel(first + i, k / SMALL_SIDE, k % SMALL_SIDE);
    (void)snprintf(name, sizeof name, "%s-images-idx3-ubyte", split);
    write_bytes(folder, name, &images);
    (void)snprintf(name, sizeof name, "%s-labels-idx1-ubyte", split);
    write_bytes(folder, name, &labels);
}

/* The files that SMALL_DATA names. */
static inline void small_data(const char *folder)
{
    small_split(folder, "train", 0, SMALL_TRAIN);
    small_split(folder, "valid", 3000, SMALL_VALID);
}

/* The same samples from a callback; pixels of those of epoch positions in `bad` are NaN. */
typedef struct small_samples {
    bool bad[SMALL_TRAIN];
    bool all_bad;
    float bad_pixel; /* what they are instead of NaN; 0: nothing */
    int fail_after;  /* calls; 0: never */
    int bad_label;   /* sample with label 7; 0: none */
    int calls;
} small_samples;

static inline thaw_status small_read(void *user, bool valid, const int64_t *index, int64_t n,
                                     float *images, int32_t *labels)
{
    small_samples *s = user;

    if (s->fail_after > 0 && ++s->calls > s->fail_after)
        return THAW_E_IO;
    for (int64_t i = 0; i < n; i++) {
        const int64_t sample = index[i] + (valid ? 3000 : 0);
        const bool bad = !valid && (s->all_bad || s->bad[index[i]]);
        float *image = images + i * SMALL_SIDE * SMALL_SIDE;

        for (int k = 0; k < SMALL_SIDE * SMALL_SIDE; k++)
            image[k] =
                bad ? (s->bad_pixel != 0 ? s->bad_pixel : NAN)
                    : ((float)small_pixel(sample, k / SMALL_SIDE, k % SMALL_SIDE) / 255 - 0.3f) /
                          0.4f;
        labels[i] = (int32_t)(index[i] % SMALL_CLASSES);
        if (!valid && s->bad_label > 0 && index[i] == s->bad_label)
            labels[i] = 7;
    }
    return THAW_OK;
}

static inline thaw_source small_source(small_samples *s)
{
    return (thaw_source){.n_train = SMALL_TRAIN,
                         .n_valid = SMALL_VALID,
                         .height = SMALL_SIDE,
                         .width = SMALL_SIDE,
                         .channels = 1,
                         .classes = SMALL_CLASSES,
                         .read = small_read,
                         .user = s};
}

/* ----------------------------------------------------------------------------------------------
 * what a run tells */

typedef struct small_record {
    int64_t stop_at; /* ask to stop at this step; 0: never */
    thaw_event_fn *more;
    void *more_user;
    int n_steps, n_phases, n_evals, n_saves, n_ends, n_notes, n_runs, n_phase_ends;
    struct {
        double loss, grad_norm, lr, epoch;
        int skipped, phase;
    } step[SMALL_MOST];
    struct {
        int64_t iteration, steps, trainable;
        double epoch;
        uint64_t planned_bytes;
        char name[32], text[256];
    } phase[SMALL_MOST]; /* beginnings, in order */
    struct {
        double loss, metric;
        int64_t iteration;
        bool best;
    } eval[SMALL_MOST];
    struct {
        int64_t iteration;
        int phase, skipped;
    } phase_end[SMALL_MOST];
    char saved[512], words[2048]; /* newest checkpoint; texts of RUN, NOTE and END, one a line */
} small_record;

static inline void small_note(small_record *r, const char *words)
{
    const size_t used = strlen(r->words);

    (void)snprintf(r->words + used, sizeof r->words - used, "%s\n", words);
}

static inline void small_note_phase(small_record *r, const thaw_event *e)
{
    const int i = r->n_phases++;

    r->phase[i].iteration = e->iteration;
    r->phase[i].steps = e->phase_steps;
    r->phase[i].trainable = e->trainable;
    r->phase[i].epoch = e->epoch;
    r->phase[i].planned_bytes = e->planned_bytes;
    (void)snprintf(r->phase[i].name, sizeof r->phase[i].name, "%s", e->phase_name);
    (void)snprintf(r->phase[i].text, sizeof r->phase[i].text, "%s", e->text);
}

static inline void small_note_step(small_record *r, const thaw_event *e)
{
    const int i = r->n_steps++;

    r->step[i].loss = e->loss;
    r->step[i].grad_norm = e->grad_norm;
    r->step[i].lr = e->lr;
    r->step[i].epoch = e->epoch;
    r->step[i].skipped = e->skipped;
    r->step[i].phase = e->phase;
}

static inline void small_note_rest(small_record *r, const thaw_event *e)
{
    switch (e->kind) {
    case THAW_EVENT_EVAL:
        r->eval[r->n_evals].loss = e->loss;
        r->eval[r->n_evals].metric = e->metric;
        r->eval[r->n_evals].iteration = e->iteration;
        r->eval[r->n_evals++].best = e->best;
        break;
    case THAW_EVENT_SAVE:
        (void)snprintf(r->saved, sizeof r->saved, "%s", e->text);
        r->n_saves++;
        break;
    case THAW_EVENT_PHASE_END:
        r->phase_end[r->n_phase_ends].iteration = e->iteration;
        r->phase_end[r->n_phase_ends].skipped = e->skipped;
        r->phase_end[r->n_phase_ends++].phase = e->phase;
        break;
    case THAW_EVENT_RUN:
    case THAW_EVENT_NOTE:
    case THAW_EVENT_END:
        r->n_runs += e->kind == THAW_EVENT_RUN;
        r->n_notes += e->kind == THAW_EVENT_NOTE;
        r->n_ends += e->kind == THAW_EVENT_END;
        small_note(r, e->text);
        break;
    default:
        break;
    }
}

static inline bool small_listen(void *user, const thaw_event *e)
{
    small_record *r = user;

    if (e->kind == THAW_EVENT_PHASE && r->n_phases < SMALL_MOST)
        small_note_phase(r, e);
    else if (e->kind == THAW_EVENT_STEP && r->n_steps < SMALL_MOST)
        small_note_step(r, e);
    else
        small_note_rest(r, e);
    if (r->more && !r->more(r->more_user, e))
        return false;
    return !(e->kind == THAW_EVENT_STEP && e->iteration == r->stop_at);
}

/* ----------------------------------------------------------------------------------------------
 * runs */

static inline thaw_recipe *small_recipe(const char *source, const char *folder)
{
    thaw_recipe *r = NULL;

    CHECK_OK(thaw_recipe_parse(&r, source, strlen(source), "r.toml", folder, NULL, 0));
    return r;
}

/* A job and a trainer in the open; it holds pointers to itself. */
typedef struct small_run {
    thaw_recipe *recipe;
    thaw_source source;
    thaw_run_options options;
    small_record record;
    job *job;
    trainer *trainer;
} small_run;

/* samples NULL: the recipe names files, which lie in folder. */
static inline void small_open(small_run *r, const char *source, const char *folder,
                              small_samples *samples)
{
    *r = (small_run){.recipe = small_recipe(source, folder)};
    r->options = (thaw_run_options){.threads = 1, .on_event = small_listen, .user = &r->record};
    if (samples) {
        r->source = small_source(samples);
        r->options.source = &r->source;
    }
    CHECK_OK(job_open(&r->job, r->recipe, &r->options, NULL, JOB_DATA | JOB_EXEC));
    CHECK_OK(trainer_create(&r->trainer, r->job));
}

static inline void small_close(small_run *r)
{
    trainer_destroy(r->trainer);
    job_close(r->job);
    thaw_recipe_destroy(r->recipe);
}

/* folder/name, in the caller's own memory: check_path forgets. */
static inline const char *small_path(char out[512], const char *folder, const char *name)
{
    CHECK(snprintf(out, 512, "%s/%s", folder, name) < 512);
    return out;
}

/* A text with the first `old` in it replaced. */
static inline const char *small_replace(char out[4096], const char *in, const char *old,
                                        const char *new)
{
    const char *at = strstr(in, old);

    CHECK_MSG(at, "'%s' is not there", old);
    CHECK(snprintf(out, 4096, "%.*s%s%s", (int)(at - in), in, new, at + strlen(old)) < 4096);
    return out;
}

/* The parameter or buffer of that name. */
static inline const param *small_param(const small_run *r, const char *name)
{
    const int i = params_find(r->job->params, name);

    CHECK_MSG(i >= 0, "there is no tensor '%s'", name);
    return &r->job->params->item[i];
}

/* All tensors of two runs, the same bit for bit. */
static inline void small_same_tensors(const small_run *a, const small_run *b)
{
    for (int i = 0; i < a->job->params->n; i++) {
        const param *x = &a->job->params->item[i], *y = &b->job->params->item[i];

        CHECK_MSG(memcmp(x->data, y->data, x->bytes) == 0, "'%s' differs", x->name);
    }
}

static inline void small_same_files(const char *a, const char *b, const char *name)
{
    char path[512];
    size_t n, m;
    char *x = check_read_file(&n, small_path(path, a, name));
    char *y = check_read_file(&m, small_path(path, b, name));

    CHECK_MSG(n == m && memcmp(x, y, n) == 0, "'%s' differs between '%s' and '%s'", name, a, b);
    free(x);
    free(y);
}

/* A temporary folder with data in it, for every test of a program: *state is its path. */
static inline int small_setup(void **state)
{
    *state = check_folder();
    small_data(*state);
    return 0;
}

static inline int small_teardown(void **state)
{
    check_folder_remove(*state);
    return 0;
}

/* A run folder and all in it, but for the link to its newest checkpoint. */
static inline void small_copy(const char *from, const char *to)
{
    os_names names;

    CHECK(mkdir(to, 0755) == 0);
    CHECK_OK(os_list(&names, from));
    for (size_t i = 0; i < names.n; i++) {
        char a[512], b[512], *data;
        size_t n;

        (void)small_path(a, from, names.name[i]);
        (void)small_path(b, to, names.name[i]);
        if (strcmp(names.name[i], "latest") == 0)
            continue;
        if (os_kind_of(a) == OS_FOLDER) {
            small_copy(a, b);
            continue;
        }
        data = check_read_file(&n, a);
        check_write_file(b, data, n);
        free(data);
    }
    os_names_free(&names);
}

#endif
