/* test_params.c - memory for exactly what is asked, versions, snapshots, start values. */
#include "params/params.h"

#include "check.h"

static params *three(dtype real)
{
    const shape matrix = shape_2(4, 3), vector = shape_1(4), scalar = {.rank = 0};
    params *p = NULL;

    CHECK_OK(params_create(&p, real));
    CHECK_OK(params_add(p, "fc.weight", &matrix, real, false));
    CHECK_OK(params_add(p, "fc.bias", &vector, real, false));
    CHECK_OK(params_add(p, "bn.num_batches_tracked", &scalar, DTYPE_I64, true));
    return p;
}

static void gradients_and_state_exist_only_where_asked(void **state)
{
    const bool first[] = {true, false}, second[] = {false, true};
    params *p = three(DTYPE_F32);

    (void)state;
    CHECK_INT(params_data_bytes(p), (12 + 4) * 4 + 8);
    CHECK_OK(params_set_trainable(p, first));
    CHECK_INT(params_grad_bytes(p), 48);
    CHECK(((float *)p->item[0].grad)[5] == 0);
    CHECK_OK(params_make_state(p, 0, 2));
    CHECK_INT(params_state_bytes(p), 96);
    p->item[0].steps = 9;
    CHECK_OK(params_set_trainable(p, second));
    CHECK(p->item[0].grad == NULL && p->item[1].grad != NULL);
    CHECK_INT(p->item[0].steps, 9);
    params_drop_state(p, 0);
    CHECK_INT(params_state_bytes(p), 0);
    CHECK_INT(p->item[0].steps, 0);
    CHECK_INT(params_find(p, "fc.bias"), 1);
    CHECK_INT(params_find(p, "fc"), -1);
    params_destroy(p);
}

static void many_tensors_keep_their_names(void **state)
{
    const shape one = shape_1(1);
    char name[32];
    params *p = NULL;

    (void)state;
    CHECK_OK(params_create(&p, DTYPE_F32));
    for (int i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof name, "p%d", i);
        CHECK_OK(params_add(p, name, &one, DTYPE_F32, false));
    }
    CHECK_INT(params_find(p, "p299"), 299);
    CHECK_INT(p->n_trained, 300);
    params_destroy(p);
}

static void snapshots_restore_and_raise_versions(void **state)
{
    params *p = three(DTYPE_F64);
    params_snapshot *all = NULL, *buffers = NULL;
    int64_t *count = p->item[2].data;
    double *w = p->item[0].data;
    uint64_t version;

    (void)state;
    w[3] = 1.5;
    *count = 7;
    CHECK_OK(params_snapshot_take(&all, p, false));
    CHECK_OK(params_snapshot_take(&buffers, p, true));
    w[3] = 2.5;
    *count = 8;
    version = p->item[0].version;
    params_snapshot_restore(buffers, p);
    CHECK(w[3] == 2.5 && *count == 7);
    CHECK(p->item[0].version == version);
    CHECK(params_snapshot_data(buffers, 0) == NULL);
    params_snapshot_restore(all, p);
    CHECK(w[3] == 1.5 && p->item[0].version > version);
    params_snapshot_destroy(all);
    params_snapshot_destroy(buffers);
    params_destroy(p);
}

static void start_values_are_fixed_by_name(void **state)
{
    params *p = three(DTYPE_F32), *q = three(DTYPE_F64);
    const float *w = p->item[0].data;
    const double *v = q->item[0].data;

    (void)state;
    params_init_uniform(p, 0, 1, 0.5);
    params_init_uniform(q, 0, 1, 0.5);
    for (int i = 0; i < 12; i++) {
        CHECK(w[i] >= -0.5f && w[i] < 0.5f && w[i] != 0);
        CHECK((double)w[i] == v[i]);
    }
    params_init_all_by_name(p);
    params_init_all_by_name(q);
    for (int i = 0; i < 12; i++)
        CHECK((double)w[i] == v[i] && fabs(v[i]) <= 1); /* sqrt(3 / 3) */
    for (int i = 0; i < 4; i++)
        CHECK(fabs(((double *)q->item[1].data)[i]) <= 0.1);
    params_destroy(p);
    params_destroy(q);
}

static void running_out_leaves_everything_as_it_was(void **state)
{
    const shape s = shape_2(1000, 1000), huge = shape_2(INT64_MAX, 4);
    const bool yes[] = {true};

    (void)state;
    for (int n = 1; n < 20; n++) {
        const size_t before = thaw__mem_current();
        params *p = NULL;
        thaw_status status;

        check_alloc_fail(n, false);
        status = params_create(&p, DTYPE_F32);
        if (status == THAW_OK)
            status = params_add(p, "w", &s, DTYPE_F32, false);
        if (status == THAW_OK)
            status = params_set_trainable(p, yes);
        if (status == THAW_OK)
            status = params_make_state(p, 0, 2);
        (void)check_alloc_restore();
        CHECK_MSG(status == THAW_OK || status == THAW_E_NOMEM, "allocation %d: %s", n,
                  thaw_status_name(status));
        params_destroy(p);
        CHECK_INT(thaw__mem_current(), before);
    }
    params *p = NULL;
    CHECK_OK(params_create(&p, DTYPE_F32));
    CHECK_STATUS(params_add(p, "w", &huge, DTYPE_F32, false), THAW_E_SHAPE);
    CHECK_INT(p->n, 0);
    params_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_and_state_exist_only_where_asked),
        cmocka_unit_test(many_tensors_keep_their_names),
        cmocka_unit_test(snapshots_restore_and_raise_versions),
        cmocka_unit_test(start_values_are_fixed_by_name),
        cmocka_unit_test(running_out_leaves_everything_as_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
