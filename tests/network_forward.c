/*
 * network_forward: a network with the weights of a file, run forward on given images; its logits,
 * and its weights as a run leaves them in best/.
 *
 *     network_forward WEIGHTS SIDE IMAGES LOGITS [SAVED]
 *
 * IMAGES: f32, [n, SIDE, SIDE, 3]. LOGITS: f32, [n, classes]. Which network it is, is recognised.
 * The comparison with the network's own library is its caller's.
 */
#include "train/train.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static params *make_params(const model *m)
{
    params *p = NULL;

    if (params_create(&p, DTYPE_F32) != THAW_OK)
        return NULL;
    for (int i = 0; i < m->n_tensors; i++)
        if (params_add(p, m->tensor[i].name, &m->tensor[i].shape, m->tensor[i].dtype,
                       m->tensor[i].buffer) != THAW_OK)
            return NULL;
    return p;
}

static thaw_status forward(const char *logits_path, const model *m, params *p, const void *images,
                           int64_t n)
{
    plan_request request = PLAN_REQUEST_INIT;
    const void *input[] = {images};
    const exec_run_args args = {.input = input};
    exec_session *session = NULL;
    exec *e = NULL;
    plan *compiled = NULL;
    thaw_status status;

    THAW_TRY(exec_open(&e, exec_find("dnn"), p, 1));
    request.model = m->graph;
    request.output = m->output;
    request.batch = n;
    request.n_params = m->n_tensors;
    request.scratch = exec_scratch;
    request.scratch_user = e;
    THAW_TRY(plan_compile(&compiled, &request));
    THAW_TRY(exec_wake(&session, e, compiled));
    THAW_TRY(exec_run(session, &args));
    THAW_TRY(os_replace_file(".", logits_path, exec_read(session, compiled->results.output),
                             (size_t)(n * m->config.n_classes) * sizeof(float)));
done:
    exec_sleep(session);
    plan_destroy(compiled);
    exec_close(e);
    return status;
}

static thaw_status save(const char *path, const model *m, const params *p)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    st_source *sources = NULL, *list = NULL;
    int n = 0;
    thaw_region *region = NULL;
    thaw_status status;

    THAW_TRY(region_create(&region));
    THAW_TRY(weights_sources(&list, p, NULL));
    THAW_TRY(weights_as_loaded(&sources, &n, region, list, p->n, &m->config));
    THAW_TRY(st_write(fd, path, sources, n, NULL));
done:
    thaw__free(list);
    region_destroy(region);
    close(fd);
    return status;
}

static thaw_status run(char **argv, const char *saved)
{
    model_config config;
    model *m = NULL;
    params *p = NULL;
    char *images = NULL;
    size_t bytes;
    thaw_status status;

    THAW_TRY(model_place_config(&config, argv[1]));
    config.height = config.width = atoi(argv[2]);
    THAW_TRY(model_create(&m, &config, DTYPE_F32));
    p = make_params(m);
    if (!p) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory");
        goto done;
    }
    THAW_TRY(weights_load(NULL, NULL, p, m, argv[1], HEAD_OF_FILE));
    printf("%s\n", m->config.arch);
    THAW_TRY(os_read_file(&images, &bytes, argv[3], (size_t)1 << 30));
    THAW_TRY(forward(argv[4], m, p, images,
                     (int64_t)bytes / (config.height * config.width * 3 * (int64_t)sizeof(float))));
    if (saved)
        THAW_TRY(save(saved, m, p));
done:
    thaw__free(images);
    params_destroy(p);
    model_destroy(m);
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 5 || argc > 6) {
        fprintf(stderr, "usage: network_forward WEIGHTS SIDE IMAGES LOGITS [SAVED]\n");
        return 2;
    }
    if (run(argv, argc > 5 ? argv[5] : NULL) != THAW_OK) {
        fprintf(stderr, "%s\n", thaw_error());
        return 1;
    }
    return 0;
}
