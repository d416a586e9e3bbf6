/*
 * test_model.c - building any network: the table of architectures, the order of tensors, buffers
 * after parameters, ranges, and running out of memory at every allocation.
 */
#include "base/base.h"
#include "model/model.h"

#include "check.h"

static model_config config_of(const char *arch)
{
    model_config c = MODEL_CONFIG_INIT;

    (void)snprintf(c.arch, sizeof c.arch, "%s", arch);
    c.height = c.width = 32; /* a patch of the coarsest one */
    if (strcmp(arch, "mlp") == 0) {
        c.n_widths = 3;
        c.widths[1] = 8;
    }
    return c;
}

/* Whatever the network: parameters in the tree's order, then buffers; names used once; every module
 * of a parameter in the tree; values of the graph numbered like the tensors. */
static void check_network(const model *m)
{
    size_t values = 0;

    CHECK_INT(thaw_tree_n_params(m->tree), m->n_params);
    for (int i = 0; i < m->n_tensors; i++) {
        CHECK_INT(m->tensor[i].buffer, i >= m->n_params);
        CHECK_MSG(i >= m->n_params ||
                      strcmp(thaw_tree_param_name(m->tree, i), m->tensor[i].name) == 0,
                  "tensor %d is '%s', in the tree '%s'", i, m->tensor[i].name,
                  thaw_tree_param_name(m->tree, i));
        for (int k = 0; k < i; k++)
            CHECK_MSG(strcmp(m->tensor[k].name, m->tensor[i].name) != 0, "two tensors are '%s'",
                      m->tensor[i].name);
        CHECK(shape_is_bound(&m->tensor[i].shape));
    }
    for (size_t v = 0; v < m->graph->n_values; v++) {
        const graph_value *value = &m->graph->value[v];

        if (value->kind != VALUE_PARAM)
            continue;
        values++;
        CHECK(value->index >= 0 && value->index < m->n_tensors);
        CHECK_MSG(strcmp(value->name, m->tensor[value->index].name) == 0,
                  "value '%s' has the number of '%s'", value->name, m->tensor[value->index].name);
        CHECK(shape_equal(&value->shape, &m->tensor[value->index].shape));
    }
    CHECK_INT(values, m->n_tensors);
    for (size_t i = 0; i < m->graph->n_nodes; i++)
        for (int k = 0; k < m->graph->node[i].n_in; k++)
            if (m->graph->value[m->graph->node[i].in[k]].kind == VALUE_PARAM)
                CHECK(m->graph->node[i].module >= 0);
}

static void test_every_arch(void **state)
{
    size_t n;
    const char *const *name = model_archs(&n);

    (void)state;
    CHECK(n >= 6);
    for (size_t i = 0; i < n; i++) {
        const model_config c = config_of(name[i]);
        const shape want = shape_2(DIM_BATCH, 10);
        model *m = NULL;

        CHECK_OK(model_create(&m, &c, DTYPE_F32));
        check_network(m);
        CHECK(shape_equal(&m->graph->value[m->output].shape, &want));
        CHECK(thaw_tree_find_module(m->tree, m->head) >= 0);
        model_destroy(m);
    }
}

static void test_unknown_arch(void **state)
{
    model_config c = config_of("resnet19");
    model *m = NULL;

    (void)state;
    CHECK_ERROR(model_create(&m, &c, DTYPE_F32), THAW_E_SUPPORT, "'resnet18'");
    c.arch[0] = '\0';
    CHECK_STATUS(model_create(&m, &c, DTYPE_F32), THAW_E_SUPPORT);
    CHECK(m == NULL);
}

static void test_ranges(void **state)
{
    model *m = NULL;
    model_config c;

    (void)state;
#define REFUSED(change, part)                                                                      \
    c = config_of("resnet18");                                                                     \
    change;                                                                                        \
    CHECK_ERROR(model_create(&m, &c, DTYPE_F32), THAW_E_RANGE, part)
    REFUSED(c.n_classes = 0, "classes");
    REFUSED(c.n_classes = 1000001, "classes");
    REFUSED(c.height = -1, "height");
    REFUSED(c.width = 65537, "width");
    REFUSED(c.channels = 65537, "channels");
    REFUSED(c.dropout = 1, "dropout");
    REFUSED(c.dropout = -0.5, "dropout");
    REFUSED(c.dropout = NAN, "dropout");
    REFUSED(c.n_widths = -1, "widths");
    REFUSED(c.n_blocks = 9, "block");
    CHECK(m == NULL);
}

static void test_out_of_memory(void **state)
{
    static const char *const arch[] = {"mlp", "resnet18"};
    const size_t before = thaw__mem_current();

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(arch); i++) {
        const model_config c = config_of(arch[i]);
        bool more = true;

        for (long n = 1; more; n++) {
            model *m = NULL;
            thaw_status status;

            check_alloc_fail(n, n % 2);
            status = model_create(&m, &c, DTYPE_F32);
            more = check_alloc_restore();
            CHECK_MSG(status == (more ? THAW_E_NOMEM : THAW_OK), "allocation %ld: %s", n,
                      thaw_status_name(status));
            CHECK((m == NULL) == more);
            model_destroy(m);
            CHECK_INT(thaw__mem_current(), before);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_arch),
        cmocka_unit_test(test_unknown_arch),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
