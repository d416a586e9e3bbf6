/*
 * test_plan_verify.c - plans are damaged one place at a time, and verify must complain each time.
 *
 * A damage is a function that changes something in a fresh plan; sweeps apply one kind of damage
 * everywhere it fits.
 */
#include "check.h"

#include "plan/plans.h"

static size_t some_scratch(const void *user, const plan *p, const plan_step *step)
{
    (void)user;
    (void)p;
    return step->op == OP_CONV2D ? 1000 : 0;
}

/* A residual network whose stem is frozen, with two update rows. */
static void setup_plan(setup *s)
{
    static const plan_update rows[] = {{"sgd", 10, 64}, {"sgd", 11, 64}};
    net n = net_create(DTYPE_F32);
    const value_id output = net_small_resnet(&n);

    setup_init(s, n, output);
    s->trainable[0] = s->trainable[1] = s->trainable[2] = false;
    s->mode[1] = 0;
    s->request.scratch = some_scratch;
    s->request.update = rows;
    s->request.n_update = 2;
}

/* Lists of slots are constant in a plan; here they are damaged. */
static int *writable(const int *list)
{
    return (int *)(uintptr_t)list;
}

static void must_complain(const setup *s, const plan *p, const char *what, int place)
{
    const thaw_status status = plan_verify(p, s->request.effect);

    CHECK_MSG(status == THAW_E_INTERNAL || status == THAW_E_SHAPE, "%s, place %d: verify says %s",
              what, place, thaw_status_name(status));
}

/* ----------------------------------------------------------------------------------------------
 * single damages */

static void drop_loss(plan *p)
{
    p->results.loss = -1;
}
static void loss_is_predicted(plan *p)
{
    p->results.loss = p->results.predicted;
}
static void output_dies(plan *p)
{
    p->slot[p->results.output].last--;
}
static void result_out_of_range(plan *p)
{
    p->results.valid = p->n_slots;
}
static void arena_too_small(plan *p)
{
    p->arena_bytes -= MEMORY_ALIGN;
}
static void forward_part_longer(plan *p)
{
    p->n_forward++;
}
static void forward_part_shorter(plan *p)
{
    p->n_forward--;
}
static void forward_part_longer_than_all(plan *p)
{
    p->n_forward = p->n_step + 1;
}
static void wrong_section(plan *p)
{
    p->step[3].section = SECTION_ONCE;
}
static void unknown_op(plan *p)
{
    p->step[3].op = OP_COUNT;
}
static void slot_out_of_range(plan *p)
{
    writable(p->step[3].in)[0] = p->n_slots;
}
static void update_of_a_frozen_parameter(plan *p)
{
    p->update[1].param = 0;
}
static void update_of_no_parameter(plan *p)
{
    p->update[0].param = 100000;
}
static void no_steps(plan *p)
{
    p->n_step = p->n_forward = 0;
}
static void not_training(plan *p)
{
    p->training = false;
}
static void norm_in_training_mode_without_a_module(plan *p)
{
    for (int i = 0; i < p->n_step; i++)
        if (p->step[i].op == OP_BATCH_NORM_TRAIN)
            p->step[i].module = -1;
}
static void statistics_in_the_arena(plan *p)
{
    for (int i = 0; i < p->n_step; i++)
        if (p->step[i].op == OP_BATCH_NORM_TRAIN && !p->step[i].wrt)
            p->slot[p->step[i].in[3]].place = SLOT_ARENA;
}
static void other_attributes_backward(plan *p)
{
    for (int i = 0; i < p->n_step; i++)
        if (p->step[i].op == OP_MAX_POOL2D || (p->step[i].op == OP_CONV2D && p->step[i].wrt))
            p->step[i].attrs.conv.groups = 3;
}

static void single_damages_are_noticed(void **state)
{
    static const struct {
        const char *name;
        void (*damage)(plan *p);
    } table[] = {
        {"drop_loss", drop_loss},
        {"loss_is_predicted", loss_is_predicted},
        {"output_dies", output_dies},
        {"result_out_of_range", result_out_of_range},
        {"arena_too_small", arena_too_small},
        {"forward_part_longer", forward_part_longer},
        {"forward_part_shorter", forward_part_shorter},
        {"forward_part_longer_than_all", forward_part_longer_than_all},
        {"wrong_section", wrong_section},
        {"unknown_op", unknown_op},
        {"slot_out_of_range", slot_out_of_range},
        {"update_of_a_frozen_parameter", update_of_a_frozen_parameter},
        {"update_of_no_parameter", update_of_no_parameter},
        {"no_steps", no_steps},
        {"not_training", not_training},
        {"norm_in_training_mode_without_a_module", norm_in_training_mode_without_a_module},
        {"statistics_in_the_arena", statistics_in_the_arena},
        {"other_attributes_backward", other_attributes_backward},
    };
    setup s;

    (void)state;
    setup_plan(&s);
    for (size_t i = 0; i < THAW_COUNT(table); i++) {
        plan *p = setup_compile(&s);

        table[i].damage(p);
        must_complain(&s, p, table[i].name, (int)i);
        plan_destroy(p);
    }
    setup_done(&s);
}

/* ----------------------------------------------------------------------------------------------
 * sweeps: damage, ask, repair */

#define SWEEP(what, place, lvalue, damaged)                                                        \
    do {                                                                                           \
        const __typeof__(lvalue) kept_ = (lvalue);                                                 \
        (lvalue) = (damaged);                                                                      \
        must_complain(&s, p, (what), (place));                                                     \
        (lvalue) = kept_;                                                                          \
    } while (0)

static void every_slot_matters(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_plan(&s);
    p = setup_compile(&s);
    for (int i = 0; i < p->n_slots; i++) {
        plan_slot *slot = &p->slot[i];

        SWEEP("bytes", i, slot->bytes, slot->bytes + 4);
        SWEEP("place", i, slot->place, (slot_place)9);
        SWEEP("type", i, slot->dtype, slot->dtype == DTYPE_F32 ? DTYPE_I32 : DTYPE_F32);
        if (slot->shape.rank > 0)
            SWEEP("axis", i, slot->shape.dim[0], slot->shape.dim[0] + 1);
        if (slot->place != SLOT_ARENA) {
            SWEEP("index", i, slot->index, -1);
            continue;
        }
        SWEEP("life ends early", i, slot->last, slot->last - 1);
        SWEEP("life ends too late", i, slot->last, p->n_step + 1);
        SWEEP("life begins late", i, slot->first, slot->first + 1);
        SWEEP("life begins early", i, slot->first, slot->first - 1);
        SWEEP("not aligned", i, slot->offset, slot->offset + 4);
        SWEEP("outside", i, slot->offset, p->arena_bytes);
        SWEEP("far outside", i, slot->offset, SIZE_MAX / MEMORY_ALIGN * MEMORY_ALIGN);
        SWEEP("a parameter", i, slot->place, SLOT_PARAM);
        SWEEP("an input", i, slot->place, SLOT_INPUT);
    }
    CHECK_OK(plan_verify(p, s.request.effect));
    plan_destroy(p);
    setup_done(&s);
}

static void every_overlap_is_noticed(void **state)
{
    setup s;
    plan *p;
    int pairs = 0;

    (void)state;
    setup_plan(&s);
    p = setup_compile(&s);
    for (int a = 0; a < p->n_slots; a++)
        for (int b = 0; b < p->n_slots; b++) {
            plan_slot *x = &p->slot[a], *y = &p->slot[b];

            /* At one step alone it could be in place. */
            if (a == b || x->place != SLOT_ARENA || y->place != SLOT_ARENA ||
                THAW_MIN(x->last, y->last) - THAW_MAX(x->first, y->first) < 1)
                continue;
            SWEEP("overlap", a * 1000 + b, x->offset, y->offset);
            pairs++;
        }
    CHECK(pairs > 1000);
    plan_destroy(p);
    setup_done(&s);
}

static void every_input_and_output_matters(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_plan(&s);
    p = setup_compile(&s);
    for (int i = 0; i < p->n_step; i++) {
        plan_step *step = &p->step[i];
        const op_info *info = &op_table[step->op];

        for (int k = 0; k < step->n_in; k++) {
            const bool optional = !step->wrt && k >= info->least_inputs;

            if (step->in[k] >= 0 && !optional)
                SWEEP("no input", i * 100 + k, writable(step->in)[k], -1);
            if (step->in[k] >= 0)
                SWEEP("input of another shape", i * 100 + k, writable(step->in)[k],
                      p->results.valid);
            else if (k >= info->n_outputs)
                SWEEP("kept for nothing", i * 100 + k, writable(step->in)[k], 0);
        }
        for (int k = 0; k < step->n_out; k++)
            if (step->out[k] >= 0) {
                SWEEP("no output", i * 100 + k, writable(step->out)[k], -1);
                SWEEP("another output", i * 100 + k, writable(step->out)[k],
                      i > 0 ? p->step[0].out[0] : p->results.output);
            } else {
                SWEEP("unwanted output", i * 100 + k, writable(step->out)[k], p->results.output);
            }
        for (int k = 0; step->wrt && k < OP_MAX_INPUTS; k++)
            SWEEP("wrt", i * 100 + k, step->wrt, step->wrt ^ OP_IN(k));
        SWEEP("fewer inputs", i, step->n_in, info->least_inputs - 1);
        SWEEP("more inputs", i, step->n_in, step->n_in + 20);
        SWEEP("fewer outputs", i, step->n_out, 0);
        if (step->wrt) {
            SWEEP("no forward step", i, step->forward, -1);
            SWEEP("another forward step", i, step->forward, i);
            SWEEP("the wrong forward step", i, step->forward, step->forward - 1);
        }
        if (step->scratch_bytes > 0) {
            const int slot = step->out[0] >= 0 && p->slot[step->out[0]].place == SLOT_ARENA
                                 ? step->out[0]
                                 : step->in[0];

            SWEEP("scratch outside", i, step->scratch_offset, p->arena_bytes);
            SWEEP("scratch not aligned", i, step->scratch_offset, step->scratch_offset + 1);
            SWEEP("scratch over a slot", i, step->scratch_offset, p->slot[slot].offset);
        }
    }
    CHECK_OK(plan_verify(p, s.request.effect));
    plan_destroy(p);
    setup_done(&s);
}

static bool writes_arena(const plan *p, const plan_step *step)
{
    for (int j = 0; j < step->n_out; j++)
        if (step->out[j] >= 0 && p->slot[step->out[j]].place == SLOT_ARENA)
            return true;
    return false;
}

static void order_matters(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_plan(&s);
    p = setup_compile(&s);
    for (int i = 0; i + 1 < p->n_step; i++) {
        const plan_step a = p->step[i], b = p->step[i + 1];

        if (!writes_arena(p, &a) && !writes_arena(p, &b))
            continue;
        p->step[i] = b;
        p->step[i + 1] = a;
        must_complain(&s, p, "swapped steps", i);
        p->step[i] = a;
        p->step[i + 1] = b;
    }
    plan_destroy(p);
    setup_done(&s);
}

static void gradients_match_the_effect(void **state)
{
    setup s;
    plan *p;

    (void)state;
    setup_plan(&s);
    p = setup_compile(&s);
    for (int i = 0; i < p->n_slots; i++)
        if (p->slot[i].place == SLOT_GRAD) {
            SWEEP("gradient of a frozen one", i, p->slot[i].index, 0);
            SWEEP("gradient of a buffer", i, p->slot[i].index, NET_BUFFERS);
            SWEEP("a second gradient", i, p->slot[i].index, p->slot[i].index == 5 ? 6 : 5);
        }
    for (int i = 0; i < s.n.n_params; i++)
        SWEEP("another effect", i, s.trainable[i], !s.trainable[i]);
    for (int i = 0; i < s.n.n_modules; i++)
        if (find_step(p, "layer1.bn1", OP_BATCH_NORM_TRAIN, 0) >= 0 &&
            p->step[find_step(p, "layer1.bn1", OP_BATCH_NORM_TRAIN, 0)].module == i)
            SWEEP("another mode", i, s.mode[i], 0);
    CHECK_STATUS(plan_verify(p, NULL), THAW_E_INTERNAL);
    plan_destroy(p);
    setup_done(&s);
}

static void out_of_memory_is_survived(void **state)
{
    setup s;
    plan *p;
    bool more = true;

    (void)state;
    setup_plan(&s);
    p = setup_compile(&s);
    for (int i = 1; more; i++) {
        thaw_status status;

        check_alloc_fail(i, false);
        status = plan_verify(p, s.request.effect);
        more = check_alloc_restore();
        CHECK_INT(status, more ? THAW_E_NOMEM : THAW_OK);
    }
    plan_destroy(p);
    setup_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single_damages_are_noticed),
        cmocka_unit_test(every_slot_matters),
        cmocka_unit_test(every_overlap_is_noticed),
        cmocka_unit_test(every_input_and_output_matters),
        cmocka_unit_test(order_matters),
        cmocka_unit_test(gradients_match_the_effect),
        cmocka_unit_test(out_of_memory_is_survived),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
