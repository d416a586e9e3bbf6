/*
 * positions.c - position embeddings for another image size: a square grid of patches, with the
 * class token's first, is interpolated to the network's grid.
 *
 * Bicubic with the coefficient -0.75, pixel centres at halves, edges repeated and no antialiasing:
 * what Hugging Face's ViT does with `interpolate_pos_encoding`. (torchvision aligns the corners
 * instead, and timm smooths when it shrinks.)
 */
#include "model/model.h"

#include <math.h>
#include <string.h>

#define TAPS 4

/* Keys, 1981, with a = -0.75: weights of the pixels at -1, 0, 1 and 2 around a point `t` past 0. */
static void cubic(double weight[TAPS], double t)
{
    const double a = -0.75;

    for (int i = 0; i < TAPS; i++) {
        const double x = fabs(t + 1 - i);

        weight[i] = x <= 1 ? ((a + 2) * x - (a + 3)) * x * x + 1
                           : ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
    }
}

/* Where output `i` of n falls among m inputs: the pixel at or below it, and the weights. */
static int64_t place(double weight[TAPS], int64_t i, int64_t n, int64_t m)
{
    const double at = ((double)i + 0.5) * (double)m / (double)n - 0.5, below = floor(at);

    cubic(weight, at - below);
    return (int64_t)below;
}

static int64_t clamp(int64_t i, int64_t n)
{
    return THAW_MAX(THAW_MIN(i, n - 1), (int64_t)0);
}

void model_resize_positions(double *dst, const int64_t grid[2], const double *src, int64_t side,
                            int64_t features)
{
    memcpy(dst, src, (size_t)features * sizeof *dst);
    src += features;
    dst += features;
    for (int64_t row = 0; row < grid[0]; row++)
        for (int64_t column = 0; column < grid[1]; column++, dst += features) {
            double down[TAPS], across[TAPS];
            const int64_t y = place(down, row, grid[0], side) - 1;
            const int64_t x = place(across, column, grid[1], side) - 1;

            memset(dst, 0, (size_t)features * sizeof *dst);
            for (int i = 0; i < TAPS * TAPS; i++) {
                const double weight = down[i / TAPS] * across[i % TAPS];
                const double *const from =
                    src + (clamp(y + i / TAPS, side) * side + clamp(x + i % TAPS, side)) * features;

                for (int64_t f = 0; f < features; f++)
                    dst[f] += weight * from[f];
            }
        }
}

int64_t model_positions_side(const model_tensor *t, const shape *stored)
{
    const int64_t patches = stored->rank == 3 ? stored->dim[1] - 1 : 0;
    const int64_t side = patches > 0 ? (int64_t)llround(sqrt((double)patches)) : 0;

    if (t->grid[0] == 0 || stored->rank != 3 || stored->dim[0] != 1 ||
        stored->dim[2] != t->shape.dim[2] || side > 65536 || side * side != patches)
        return 0;
    return side;
}
