/*
 * memplan.c - offsets in the arena from life spans.
 *
 * The idea: place the blocks one after the other, each into the smallest gap that holds it among
 * the blocks placed before that live at the same time (Pisarchyk and Lee, "Efficient memory
 * management for deep neural net inference", 2020). Which order is best depends on the network, so
 * several are tried and the smallest result is kept. Knows nothing of what the blocks hold.
 */
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

typedef struct placed_block {
    memory_block block; /* bytes rounded up to MEMORY_ALIGN */
    size_t index;       /* in the caller's list */
} placed_block;

/* ----------------------------------------------------------------------------------------------
 * orders to place blocks in; ties go to the caller's order, so that the result is fixed */

static int by_index(const placed_block *a, const placed_block *b)
{
    return (a->index > b->index) - (a->index < b->index);
}

static int by_size(const void *x, const void *y)
{
    const placed_block *a = x, *b = y;

    if (a->block.bytes != b->block.bytes)
        return a->block.bytes < b->block.bytes ? 1 : -1;
    return by_index(a, b);
}

static int by_span(const void *x, const void *y)
{
    const placed_block *a = x, *b = y;
    const int span_a = a->block.last - a->block.first, span_b = b->block.last - b->block.first;

    if (span_a != span_b)
        return span_a < span_b ? 1 : -1;
    return by_size(a, b);
}

static int by_area(const void *x, const void *y)
{
    const placed_block *a = x, *b = y;
    const double area_a = (double)a->block.bytes * (a->block.last - a->block.first + 1);
    const double area_b = (double)b->block.bytes * (b->block.last - b->block.first + 1);

    if (area_a != area_b)
        return area_a < area_b ? 1 : -1;
    return by_index(a, b);
}

static int by_first(const void *x, const void *y)
{
    const placed_block *a = x, *b = y;

    if (a->block.first != b->block.first)
        return a->block.first > b->block.first ? 1 : -1;
    return by_size(a, b);
}

static int (*const order_table[])(const void *, const void *) = {by_size, by_area, by_span,
                                                                 by_first};

/* ----------------------------------------------------------------------------------------------
 * placing */

static bool meet(const memory_block *a, const memory_block *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* Offset of the smallest gap that holds the block; placed has n blocks sorted by offset. */
static size_t best_gap(const memory_block *block, const memory_block *placed, size_t n)
{
    size_t end = 0, best = SIZE_MAX, offset = 0;

    for (size_t i = 0; i < n; i++) {
        if (!meet(block, &placed[i]))
            continue;
        if (placed[i].offset > end && placed[i].offset - end >= block->bytes &&
            placed[i].offset - end < best) {
            best = placed[i].offset - end;
            offset = end;
        }
        end = THAW_MAX(end, placed[i].offset + placed[i].bytes);
    }
    return best == SIZE_MAX ? end : offset;
}

static void insert_by_offset(memory_block *placed, size_t n, const memory_block *block)
{
    size_t i = n;

    for (; i > 0 && placed[i - 1].offset > block->offset; i--)
        placed[i] = placed[i - 1];
    placed[i] = *block;
}

/* Place the blocks in the order given; returns the memory used. */
static size_t place_all(placed_block *block, memory_block *placed, size_t n)
{
    size_t total = 0;

    for (size_t i = 0; i < n; i++) {
        memory_block *b = &block[i].block;

        b->offset = best_gap(b, placed, i);
        insert_by_offset(placed, i, b);
        total = THAW_MAX(total, b->offset + b->bytes);
    }
    return total;
}

/* Round sizes up; the sum of all must fit, so that no offset can overflow. */
static thaw_status round_up(placed_block *out, const memory_block *block, size_t n)
{
    size_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        size_t bytes = THAW_MAX(block[i].bytes, 1);

        if (!size_add(&bytes, bytes, MEMORY_ALIGN - 1) || !size_add(&sum, sum, bytes))
            return thaw_fail(THAW_E_SHAPE, "the activations of this plan need more memory than can "
                                           "be addressed; use a smaller batch");
        out[i] = (placed_block){.block = block[i], .index = i};
        out[i].block.bytes = bytes / MEMORY_ALIGN * MEMORY_ALIGN;
    }
    return THAW_OK;
}

size_t thaw__memory_bound(const memory_block *block, size_t n)
{
    size_t most = 0;

    /* The sum is largest at some block's first step. */
    for (size_t i = 0; i < n; i++) {
        size_t sum = 0;

        for (size_t k = 0; k < n; k++)
            if (block[k].first <= block[i].first && block[i].first <= block[k].last)
                sum +=
                    (THAW_MAX(block[k].bytes, 1) + MEMORY_ALIGN - 1) / MEMORY_ALIGN * MEMORY_ALIGN;
        most = THAW_MAX(most, sum);
    }
    return most;
}

thaw_status thaw__memory_layout(size_t *total, memory_block *block, size_t n)
{
    thaw_status status = THAW_OK;
    placed_block *work = thaw__new(n, sizeof *work);
    memory_block *placed = thaw__new(n, sizeof *placed);
    size_t best = SIZE_MAX, bound;

    if (!work || !placed) {
        status = thaw_fail(THAW_E_NOMEM, "no memory to lay out %zu blocks", n);
        goto done;
    }
    THAW_TRY(round_up(work, block, n));
    bound = thaw__memory_bound(block, n);
    for (size_t k = 0; k < THAW_COUNT(order_table) && best > bound; k++) {
        size_t need;

        qsort(work, n, sizeof *work, order_table[k]);
        need = place_all(work, placed, n);
        for (size_t i = 0; need < best && i < n; i++)
            block[work[i].index].offset = work[i].block.offset;
        best = THAW_MIN(best, need);
    }
    *total = best;
done:
    thaw__free(placed);
    thaw__free(work);
    return status;
}

/* ----------------------------------------------------------------------------------------------
 * the pass */

/* The slot at whose place in memory slot i begins its life. */
static int root_of(const plan_build *b, int i)
{
    while (b->host[i] >= 0)
        i = b->host[i];
    return i;
}

/* One block for each chain of slots that take over each other's memory, one for each scratch. */
static size_t list_blocks(memory_block *block, int *block_of, const plan_build *b)
{
    const plan *p = b->plan;
    size_t n = 0;

    for (int i = 0; i < p->n_slots; i++) {
        const plan_slot *slot = &p->slot[i];
        memory_block *chain;

        if (slot->place != SLOT_ARENA)
            continue;
        if (b->host[i] < 0) {
            block_of[i] = (int)n;
            block[n++] =
                (memory_block){.bytes = slot->bytes, .first = slot->first, .last = slot->last};
            continue;
        }
        block_of[i] = block_of[root_of(b, i)];
        chain = &block[block_of[i]];
        chain->last = THAW_MAX(chain->last, slot->last);
    }
    for (int s = 0; s < p->n_once + p->n_step; s++)
        if (p->step[s].scratch_bytes > 0)
            block[n++] = (memory_block){.bytes = p->step[s].scratch_bytes, .first = s, .last = s};
    return n;
}

thaw_status thaw__plan_memory(plan_build *b)
{
    plan *p = b->plan;
    const int n_steps = p->n_once + p->n_step;
    memory_block *block =
        region_alloc(b->g->region, (size_t)p->n_slots + (size_t)n_steps, sizeof *block);
    int *block_of = region_alloc(b->g->region, (size_t)p->n_slots, sizeof *block_of);
    size_t n, total = 0;

    if (!block || !block_of)
        return thaw_fail(THAW_E_NOMEM, "no memory to lay out %d slots", p->n_slots);
    n = list_blocks(block, block_of, b);
    if (n > 0)
        THAW_CHECK(thaw__memory_layout(&total, block, n));
    for (int i = 0; i < p->n_slots; i++)
        if (p->slot[i].place == SLOT_ARENA)
            p->slot[i].offset = block[block_of[i]].offset;
    for (int s = n_steps; s-- > 0;)
        if (p->step[s].scratch_bytes > 0)
            p->step[s].scratch_offset = block[--n].offset;
    p->arena_bytes = total;
    return THAW_OK;
}
