/*
 * optim.c - what happens to gradients and optimizer state at a change of phase, and one update of
 * all that trains.
 *
 * Everything is derived from the effect: who has state, who is updated, at which rate.
 */
#include "optim/optim.h"

#include <math.h>

/* ----------------------------------------------------------------------------------------------
 * change of phase */

/* A parameter without state tensors (plain SGD) still has its own update count; `steps` tells
 * whether it was there. */
static bool has_state(const param *item, int wanted)
{
    return item->n_state == wanted && (wanted > 0 || item->steps > 0);
}

static thaw_status begin_state(optim_report *report, params *p, int i, int n_state)
{
    param *item = &p->item[i];

    if (has_state(item, n_state)) {
        report->kept += !item->parked;
        report->resumed += item->parked;
        item->parked = item->in_file = false;
        return THAW_OK;
    }
    report->made++;
    return params_make_state(p, i, n_state);
}

/* State of a parameter that no longer trains. */
static void end_state(optim_report *report, params *p, int i, thaw_on_freeze on_freeze)
{
    param *item = &p->item[i];

    if (item->n_state == 0 && item->steps == 0)
        return;
    if (on_freeze == THAW_ON_FREEZE_RESET) {
        params_drop_state(p, i);
        report->dropped++;
        return;
    }
    if (item->parked)
        return;
    report->parked++;
    item->parked = true;
    item->in_file = on_freeze == THAW_ON_FREEZE_PARK;
}

thaw_status optim_migrate(optim_report *report, params *p, const optim_rule *rule,
                          const optim_hyper *h, const thaw_effect *effect, bool rebuild)
{
    const int n_state = rule->n_state(h);
    optim_report r = {.rebuilt = rebuild};

    for (int i = 0; i < p->n_trained; i++) {
        if (rebuild) {
            r.dropped += p->item[i].n_state > 0 || p->item[i].steps > 0;
            params_drop_state(p, i);
        } else if (!effect->updated[i]) {
            end_state(&r, p, i, effect->on_freeze);
        }
    }
    THAW_CHECK(params_set_trainable(p, effect->trainable));
    for (int i = 0; i < p->n_trained; i++)
        if (effect->updated[i])
            THAW_CHECK(begin_state(&r, p, i, n_state));
    *report = r;
    return THAW_OK;
}

thaw_status optim_rows(plan_update **rows, int *n, const params *p, const optim_rule *rule,
                       const optim_hyper *h, const thaw_effect *effect)
{
    plan_update *row = thaw__new((size_t)p->n_trained, sizeof *row);
    int count = 0;

    if (!row)
        return thaw_fail(THAW_E_NOMEM, "out of memory for the update rows of %d parameters",
                         p->n_trained);
    for (int i = 0; i < p->n_trained; i++)
        if (effect->updated[i])
            row[count++] =
                (plan_update){.rule = rule->name,
                              .param = i,
                              .state_bytes = (size_t)rule->n_state(h) * p->item[i].bytes};
    *rows = row;
    *n = count;
    return THAW_OK;
}

/* ----------------------------------------------------------------------------------------------
 * updates */

/* As one thread would: the halves of the pairwise sum, then their halves, … until a piece is small
 * enough; the pieces are summed by whoever is free, and joined in their order. */
#define PIECES (1 << 5)
#define PIECE  ((size_t)1 << 15) /* elements that are worth another thread */

typedef struct norm_piece {
    size_t begin, n;
    double sum;
} norm_piece;

static int cut_pieces(norm_piece *piece, size_t begin, size_t n, int most)
{
    const size_t half = tensor_sum_half(n);
    int cut;

    if (most == 1 || n <= PIECE || half == 0) {
        *piece = (norm_piece){.begin = begin, .n = n};
        return 1;
    }
    cut = cut_pieces(piece, begin, half, most / 2);
    return cut + cut_pieces(piece + cut, begin + half, n - half, most / 2);
}

static double join_pieces(const norm_piece **next, size_t n, int most)
{
    const size_t half = tensor_sum_half(n);
    double first;

    if (most == 1 || n <= PIECE || half == 0)
        return (*next)++->sum;
    first = join_pieces(next, half, most / 2);
    return first + join_pieces(next, n - half, most / 2);
}

static double sum_squares(const param *item, int threads)
{
    const char *const grad = item->grad;
    const size_t size = dtype_size(item->dtype);
    norm_piece piece[PIECES];
    const norm_piece *next = piece;
    const int n = cut_pieces(piece, 0, item->elements, PIECES);

    (void)threads; /* without OpenMP */
#ifdef _OPENMP
#pragma omp parallel for schedule(static) num_threads(threads) if (n > 1 && threads > 1)
#endif
    for (int k = 0; k < n; k++)
        piece[k].sum = tensor_sum_squares(grad + piece[k].begin * size, item->dtype, piece[k].n);
    return join_pieces(&next, item->elements, PIECES);
}

double optim_grad_norm(const params *p, double scale, int threads)
{
    double total = 0;

    for (int i = 0; i < p->n_trained; i++)
        if (p->item[i].grad)
            total += sum_squares(&p->item[i], threads);
    return sqrt(total) * scale;
}

double optim_clip_factor(double norm, double clip)
{
    return isinf(clip) ? 1 : fmin(1, clip / (norm + 1e-6));
}

static double decay_of(const param *item, const optim_hyper *h)
{
    return item->shape.rank >= 2 || h->decay_norms_and_biases ? h->weight_decay : 0;
}

void optim_step(params *p, const optim_rule *rule, const optim_hyper *h, const thaw_effect *effect,
                double base_lr, double ramp, double grad_scale, int threads)
{
    for (int i = 0; i < p->n_trained; i++) {
        param *item = &p->item[i];

        if (!effect->updated[i])
            continue;
        item->steps++;
        const double warming = effect->thawed && effect->thawed[i] ? ramp : 1;
        const optim_args args = {.dtype = item->dtype,
                                 .n = item->elements,
                                 .w = item->data,
                                 .g = item->grad,
                                 .state = item->state,
                                 .grad_scale = grad_scale,
                                 .t = item->steps,
                                 .lr = base_lr * effect->lr_scale[i] * warming,
                                 .weight_decay = decay_of(item, h),
                                 .hyper = h,
                                 .threads = threads};

        rule->apply(&args);
        params_touch(p, i);
    }
}
