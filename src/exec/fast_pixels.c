/*
 * fast_pixels.c - the pixels that a window of one pixel sees as it moves over an image, gathered
 * into rows and put back: with them a convolution with such a window is a product of matrices.
 *
 * Knows nothing of what is done with the rows.
 */
#include "exec/fast.h"

#include <string.h>

typedef struct pixels_job {
    char *to;
    const char *from;
    fast_pixels p;
} pixels_job;

/* Lines [first, last) of all batch * out_height. */
static void take_lines(const void *job, int64_t first, int64_t last)
{
    const pixels_job *const j = job;
    const fast_pixels *const p = &j->p;
    const size_t C = (size_t)p->channels * p->size; /* bytes of a pixel */

    for (int64_t line = first; line < last; line++) {
        const int64_t b = line / p->out_height, y = line % p->out_height * p->stride[0];
        const char *const from = j->from + (size_t)((b * p->height + y) * p->width) * C;
        char *const to = j->to + (size_t)(line * p->out_width) * C;

        for (int64_t x = 0; x < p->out_width; x++)
            memcpy(to + (size_t)x * C, from + (size_t)(x * p->stride[1]) * C, C);
    }
}

/* Lines [first, last) of all batch * height. */
static void put_lines(const void *job, int64_t first, int64_t last)
{
    const pixels_job *const j = job;
    const fast_pixels *const p = &j->p;
    const size_t C = (size_t)p->channels * p->size; /* bytes of a pixel */

    for (int64_t line = first; line < last; line++) {
        const int64_t b = line / p->height, y = line % p->height;
        const int64_t from_line = b * p->out_height + y / p->stride[0];
        char *const to = j->to + (size_t)(line * p->width) * C;

        memset(to, 0, (size_t)p->width * C);
        if (y % p->stride[0] != 0 || y / p->stride[0] >= p->out_height)
            continue;
        for (int64_t x = 0; x < p->out_width; x++)
            memcpy(to + (size_t)(x * p->stride[1]) * C,
                   j->from + (size_t)(from_line * p->out_width + x) * C, C);
    }
}

void fast_take_pixels(void *rows, const void *image, const fast_pixels *p, int threads)
{
    const pixels_job job = {.to = rows, .from = image, .p = *p};

    fast_parallel(threads, p->batch * p->out_height, 2, take_lines, &job);
}

void fast_put_pixels(void *image, const void *rows, const fast_pixels *p, int threads)
{
    const pixels_job job = {.to = image, .from = rows, .p = *p};

    fast_parallel(threads, p->batch * p->height, 2, put_lines, &job);
}
