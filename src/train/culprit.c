/*
 * culprit.c - where a loss or gradient that is not finite began: the first value of a run that is
 * not, seen by looking at every step's operands and results right after it.
 *
 * Nobody looks in ordinary steps. Only what a step reads from outside (samples, parameters) is
 * looked at before its results: all else was the result of an earlier step.
 */
#include "train/train.h"

#include <string.h>

/* Number of the first element that is not finite; n: all are. */
static size_t first_bad(const void *data, dtype type, size_t n)
{
    const char *const bytes = data;

    for (size_t i = 0; i < n; i++)
        if (!tensor_all_finite(bytes + i * dtype_size(type), type, 1))
            return i;
    return n;
}

/* The sample that element i of a batch's values belongs to, by its number in the file. */
static void add_sample(text *out, const culprit *c, const plan_slot *slot, size_t i)
{
    const size_t n = (size_t)c->batch->n, elements = slot->bytes / dtype_size(slot->dtype);

    if (slot->shape.rank < 1 || slot->shape.dim[0] != c->batch->n || elements % n != 0)
        return;
    i /= elements / n;
    text_addf(out, ", sample %lld of the training data",
              (long long)(c->batch->ids ? c->batch->ids[i] : (int64_t)i));
}

static void add_layer(text *out, const culprit *c, const plan_step *step)
{
    const char *path =
        step->module >= 0 ? thaw_tree_module_path(c->job->model->tree, step->module) : "";

    if (*path)
        text_addf(out, "layer '%s' (%s)", path, op_table[step->op].name);
    else
        text_addf(out, "the %s", op_table[step->op].name);
}

/* What an operand or result of a step is, in words. */
static void describe(culprit *c, const plan_step *step, const plan_slot *slot, size_t i)
{
    text *const out = &c->words;

    c->found = true;
    switch (slot->place) {
    case SLOT_INPUT:
        text_add(out, "it begins in the data");
        break;
    case SLOT_PARAM:
        text_addf(out, "parameter '%s' is not finite itself",
                  c->job->params->item[slot->index].name);
        return;
    case SLOT_GRAD:
        text_addf(out, "it begins in the gradient of parameter '%s'",
                  c->job->params->item[slot->index].name);
        return;
    case SLOT_ARENA:
        text_add(out, step->wrt == 0 ? "it begins in the output of "
                                     : "it begins in the gradient with respect to the input of ");
        add_layer(out, c, step);
        break;
    }
    add_sample(out, c, slot, i);
}

static void look_at(culprit *c, const exec_session *s, const plan_step *step, int number)
{
    const plan_slot *const slot = number >= 0 ? &s->plan->slot[number] : NULL;
    size_t n, bad;

    if (!slot || !dtype_is_float(slot->dtype) || c->found)
        return;
    n = slot->bytes / dtype_size(slot->dtype);
    bad = first_bad(exec_read(s, number), slot->dtype, n);
    if (bad < n)
        describe(c, step, slot, bad);
}

/* Running statistics are moved by the step itself, so they do not count as what it reads. */
static bool from_outside(const culprit *c, const plan_slot *slot)
{
    return slot->place == SLOT_INPUT ||
           (slot->place == SLOT_PARAM && slot->index < c->job->params->n_trained);
}

void culprit_look(void *user, const exec_session *s, int i)
{
    const plan_step *const step = &s->plan->step[i];
    culprit *const c = user;

    for (int k = 0; k < step->n_in && !c->found; k++)
        if (step->in[k] >= 0 && from_outside(c, &s->plan->slot[step->in[k]]))
            look_at(c, s, step, step->in[k]);
    for (int k = 0; k < step->n_out; k++)
        look_at(c, s, step, step->out[k]);
}

/* Each step's were finite: their sum over micro-batches, or over all parameters, is not. */
void culprit_of_gradients(culprit *c, const params *p)
{
    double most = -1;
    int largest = -1;

    for (int i = 0; i < p->n_trained && !c->found; i++) {
        const param *item = &p->item[i];
        const double sum =
            item->grad ? tensor_sum_squares(item->grad, item->dtype, item->elements) : -1;

        if (item->grad && first_bad(item->grad, item->dtype, item->elements) < item->elements) {
            c->found = true;
            text_addf(&c->words,
                      "it begins in the gradient of parameter '%s', summed over the "
                      "update's micro-batches",
                      item->name);
        } else if (sum > most) {
            most = sum;
            largest = i;
        }
    }
    if (!c->found && largest >= 0)
        text_addf(&c->words, "no single value is; the largest gradient is that of parameter '%s'",
                  p->item[largest].name);
}
