/*
 * networks.h - networks made for a test, and the logits of one with the reference runs' start
 * values for two fixed images.
 */
#ifndef TEST_NETWORKS_H
#define TEST_NETWORKS_H

#include "exec/exec.h"
#include "model/model.h"

#include "check.h"

enum { IMAGES = 2, SIDE = 64, CLASSES = 10 };

static inline model_config config_of(const char *arch)
{
    model_config c = MODEL_CONFIG_INIT;

    (void)snprintf(c.arch, sizeof c.arch, "%s", arch);
    return c;
}

static inline model *create(const model_config *c, dtype real)
{
    model *m = NULL;

    CHECK_OK(model_create(&m, c, real));
    return m;
}

static inline const model_tensor *find(const model *m, const char *name)
{
    for (int i = 0; i < m->n_tensors; i++)
        if (strcmp(m->tensor[i].name, name) == 0)
            return &m->tensor[i];
    return NULL;
}

static inline params *start_by_name(const model *m)
{
    params *p = NULL;

    CHECK_OK(params_create(&p, m->graph->real));
    for (int i = 0; i < m->n_tensors; i++) {
        const model_tensor *t = &m->tensor[i];

        CHECK_OK(params_add(p, t->name, &t->shape, t->dtype, t->buffer));
        if (t->dtype != DTYPE_I64)
            params_fill(p, i, t->fill);
    }
    params_init_all_by_name(p);
    return p;
}

static inline double pixel(size_t i)
{
    const size_t c = i % 3, w = i / 3 % SIDE, h = i / 3 / SIDE % SIDE, b = i / 3 / SIDE / SIDE;

    return (double)(float)((double)((h * 31 + w * 17 + c * 7 + b * 13) % 29) / 14 - 1);
}

/* The images, in f32 or f64. */
static inline void *draw_images(dtype real)
{
    const size_t n = (size_t)IMAGES * SIDE * SIDE * 3;
    void *image = malloc(n * sizeof(double));

    CHECK(image != NULL);
    for (size_t i = 0; i < n; i++)
        if (real == DTYPE_F64)
            ((double *)image)[i] = pixel(i);
        else
            ((float *)image)[i] = (float)pixel(i);
    return image;
}

/* logits: [IMAGES, CLASSES]; c is for images of SIDE by SIDE pixels. */
static inline void forward(double *logits, const model_config *c, const char *executor, dtype real)
{
    plan_request request = PLAN_REQUEST_INIT;
    void *image = draw_images(real);
    const void *input[] = {image};
    const exec_run_args args = {.input = input};
    exec_session *session = NULL;
    exec *e = NULL;
    plan *p = NULL;
    model *m = create(c, real);
    params *weights = start_by_name(m);

    CHECK_OK(exec_open(&e, exec_find(executor), weights, 1));
    request.model = m->graph;
    request.output = m->output;
    request.batch = IMAGES;
    request.n_params = m->n_tensors;
    request.scratch = exec_scratch;
    request.scratch_user = e;
    CHECK_OK(plan_compile(&p, &request));
    CHECK_OK(exec_wake(&session, e, p));
    CHECK_OK(exec_run(session, &args));
    CHECK_OK(tensor_convert(logits, DTYPE_F64, exec_read(session, p->results.output), real,
                            IMAGES * CLASSES));
    exec_sleep(session);
    plan_destroy(p);
    exec_close(e);
    params_destroy(weights);
    model_destroy(m);
    free(image);
}

/* The next line of a record: the logits that follow the arch's name, from both executors. */
static inline void compare_logits(FILE *record, const model_config *c)
{
    double want[IMAGES * CLASSES], got[IMAGES * CLASSES];

    for (int i = 0; i < IMAGES * CLASSES; i++)
        CHECK(fscanf(record, "%lf", &want[i]) == 1);
    forward(got, c, "ref", DTYPE_F64);
    CHECK_CLOSE(got, want, IMAGES * CLASSES, 1e-10, 1e-10);
    forward(got, c, "dnn", DTYPE_F32);
    CHECK_CLOSE(got, want, IMAGES * CLASSES, 1e-4, 1e-4);
}

#endif
