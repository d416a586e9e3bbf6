/*
 * choose.c - the table of ways, and the list of choices that goes before it; see choose.h.
 */
#include "exec/choose.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------------------------------------
 * what is possible */

/* A window of one pixel, that may skip pixels. */
static bool is_pixelwise(const dnn_problem *p)
{
    return p->linear == DNN_CONVOLUTION && p->groups == 1 && p->window[0] == 1 &&
           p->window[1] == 1 && p->pad[0] == 0 && p->pad[1] == 0 &&
           p->out_height == (p->height - 1) / p->stride[0] + 1 &&
           p->out_width == (p->width - 1) / p->stride[1] + 1;
}

static bool skips(const dnn_problem *p)
{
    return p->stride[0] > 1 || p->stride[1] > 1;
}

/* Each channel by itself. */
static bool is_depthwise(const dnn_problem *p)
{
    return p->linear == DNN_CONVOLUTION && p->groups == p->channels && p->kernels == p->channels;
}

static bool is_window_of(const dnn_problem *p, int64_t least, int64_t most)
{
    return p->window[0] <= most && p->window[1] <= most && p->window[0] * p->window[1] <= most &&
           p->window[0] * p->window[1] >= least;
}

/* Channels of a vector. With fewer, the library's weight gradient of a window that skips pixels
 * (its bug 6035, in 2.6.3 too) writes past its scratch, over other tensors. */
enum { VECTOR = 16 };

bool choice_possible(const dnn_problem *p, exec_way way)
{
    const bool weight = p->role == DNN_BACKWARD_WEIGHT;

    if (way == WAY_LOOPS)
        return weight && !p->bf16 && is_depthwise(p) && is_window_of(p, 1, FAST_DEPTHWISE_TAPS);
    if (way == WAY_WINOGRAD)
        return winograd_possible(p);
    if (way == WAY_PRODUCT)
        return p->linear == DNN_CONVOLUTION ? is_pixelwise(p) : weight;
    return !(weight && is_pixelwise(p) && skips(p) && p->channels < VECTOR);
}

bool choice_allowed(const dnn_problem *p, exec_way way, unsigned ways)
{
    return choice_possible(p, way) &&
           ((ways & EXEC_ONLY(way)) != 0 || !choice_possible(p, WAY_LIBRARY));
}

/* ----------------------------------------------------------------------------------------------
 * the table */

/* The gradient of a layer's weight over so few rows costs less than bringing it from the layout of
 * oneDNN's own kernel to ours: it is made as a product, in place. */
enum { FEW_ROWS = 128 };

/* The weight gradient of channels by themselves is fast in the library for three by three alone. */
enum { LARGE_WINDOW = 10 };

/* Where a window of one pixel is computed by products of matrices: row by row, the first that fits.
 * Measured with AVX-512 and AVX2, on one thread and two: what is faster is so in each of these. */
static const struct {
    dnn_role role;
    bool skips;
    int64_t least_channels, most_channels, least_weights, most_pixels; /* of one image */
} product_table[] = {
    {DNN_FORWARD, true, 1024, INT64_MAX, 1 << 20, 16},
    {DNN_BACKWARD_DATA, false, 0, INT64_MAX, 0, INT64_MAX},
    {DNN_BACKWARD_DATA, true, 0, INT64_MAX, 1 << 14, INT64_MAX},
    {DNN_BACKWARD_WEIGHT, true, 0, VECTOR - 1, 0, INT64_MAX},
    {DNN_BACKWARD_WEIGHT, true, 0, INT64_MAX, 1 << 17, INT64_MAX},
    {DNN_BACKWARD_WEIGHT, false, 1024, INT64_MAX, 1 << 17, INT64_MAX},
    {DNN_BACKWARD_WEIGHT, false, 0, INT64_MAX, 1 << 17, 64},
};

/*
 * Winograd's way wants tiles that are mostly image. Measured with AVX-512: 1.7 to 2.5 times as fast
 * forward and to the input, 1.4 to 2 to the weight; with AVX2 1.6 to 2.6 times in each. It also
 * wants four times the weight's memory: a larger weight is worth it only where it is packed for one
 * run, over so many pixels that they outweigh the packing, or else the sums, which are as large.
 */
enum { MOST_WINOGRAD_WEIGHTS = 1 << 16, LEAST_WINOGRAD_CHANNELS = 64 };
static const int64_t many_pixels[] = {
    [DNN_FORWARD] = 768, [DNN_BACKWARD_DATA] = 768, [DNN_BACKWARD_WEIGHT] = 384};

static bool is_for_winograd(const dnn_problem *p)
{
    const int64_t pixels = p->batch * p->out_height * p->out_width;

    return (p->channels * p->kernels <= MOST_WINOGRAD_WEIGHTS ||
            (p->renewed && pixels >= many_pixels[p->role])) &&
           THAW_MIN(p->channels, p->kernels) >= LEAST_WINOGRAD_CHANNELS && winograd_saving(p) >= 2;
}

static bool is_for_product(const dnn_problem *p)
{
    for (size_t i = 0; i < THAW_COUNT(product_table); i++)
        if (product_table[i].role == p->role && product_table[i].skips == skips(p) &&
            p->channels >= product_table[i].least_channels &&
            p->channels <= product_table[i].most_channels &&
            p->channels * p->kernels >= product_table[i].least_weights &&
            p->out_height * p->out_width <= product_table[i].most_pixels)
            return true;
    return false;
}

static exec_way preferred(const dnn_problem *p, unsigned ways)
{
    if (p->linear)
        return p->role == DNN_BACKWARD_WEIGHT && p->batch <= FEW_ROWS ? WAY_PRODUCT : WAY_LIBRARY;
    if (choice_allowed(p, WAY_WINOGRAD, ways) && is_for_winograd(p))
        return WAY_WINOGRAD;
    if (choice_allowed(p, WAY_LOOPS, ways) && is_window_of(p, LARGE_WINDOW, FAST_DEPTHWISE_TAPS))
        return WAY_LOOPS;
    return choice_possible(p, WAY_PRODUCT) && is_for_product(p) ? WAY_PRODUCT : WAY_LIBRARY;
}

exec_way choice_by_table(const dnn_problem *p, unsigned ways)
{
    const exec_way way = preferred(p, ways);

    return choice_allowed(p, way, ways) ? way : WAY_LIBRARY;
}

/* ----------------------------------------------------------------------------------------------
 * the list */

dnn_problem choice_key(const dnn_problem *p)
{
    dnn_problem key = *p;

    key.batch = 0;
    key.bias = key.adds = key.activation = key.plain = key.renewed = 0;
    return key;
}

const choice *choice_find(const choice_list *list, const dnn_problem *p)
{
    const dnn_problem key = choice_key(p);

    for (int i = 0; i < list->n; i++)
        if (memcmp(&list->item[i].key, &key, sizeof key) == 0)
            return &list->item[i];
    return NULL;
}

thaw_status choice_add(choice_list *list, const choice *c)
{
    if (list->n == list->capacity) {
        const int capacity = THAW_MAX(64, 2 * list->capacity);
        choice *const grown = thaw__resize(list->item, (size_t)capacity, sizeof *grown);

        if (!grown)
            return thaw_fail(THAW_E_NOMEM, "out of memory for the choices of kernels");
        list->item = grown;
        list->capacity = capacity;
    }
    list->item[list->n++] = *c;
    return THAW_OK;
}

void choice_list_done(choice_list *list)
{
    thaw__free(list->item);
    *list = (choice_list){0};
}

exec_way choice_of(const choice_list *list, const dnn_problem *p, unsigned ways)
{
    const choice *const made = choice_find(list, p);

    return made && choice_allowed(p, made->way, ways) ? made->way : choice_by_table(p, ways);
}

/* ----------------------------------------------------------------------------------------------
 * as text */

static const char *const role_name[] = {
    [DNN_FORWARD] = "forward", [DNN_BACKWARD_DATA] = "data", [DNN_BACKWARD_WEIGHT] = "weight"};

/* Numbers of a convolution in the order of its text. */
#define CONVOLUTION_NUMBERS 15
#define N                   "%" PRId64
#define LINEAR_TEXT         "%s of linear " N " to " N "%s"
#define CONVOLUTION_TEXT                                                                           \
    "%s of convolution " N " x " N " x " N " to " N " x " N " x " N ", window " N " x " N          \
    ", stride " N " x " N ", pad " N " x " N ", dilation " N " x " N ", groups %d%s"
#define BF16_TEXT ", bf16"

void choice_format(char out[EXEC_CHOICE_TEXT], const dnn_problem *p)
{
    const char *const role = role_name[p->role], *const type = p->bf16 ? BF16_TEXT : "";

    if (p->linear)
        (void)snprintf(out, EXEC_CHOICE_TEXT, LINEAR_TEXT, role, p->channels, p->kernels, type);
    else
        (void)snprintf(out, EXEC_CHOICE_TEXT, CONVOLUTION_TEXT, role, p->channels, p->height,
                       p->width, p->kernels, p->out_height, p->out_width, p->window[0],
                       p->window[1], p->stride[0], p->stride[1], p->pad[0], p->pad[1],
                       p->dilation[0], p->dilation[1], p->groups, type);
}

/* Numbers that no layer has would end in a division by zero, or beyond what can be counted. */
static bool is_sane(const dnn_problem *p)
{
    const int64_t size[] = {p->channels,    p->kernels,   p->height,    p->width,
                            p->out_height,  p->out_width, p->window[0], p->window[1],
                            p->dilation[0], p->stride[0], p->stride[1], p->dilation[1]};

    if (p->linear)
        return p->channels > 0 && p->kernels > 0 && p->channels <= INT32_MAX &&
               p->kernels <= INT32_MAX;
    for (size_t i = 0; i < THAW_COUNT(size); i++)
        if (size[i] < 1 || size[i] > INT32_MAX)
            return false;
    return p->groups > 0 && p->pad[0] >= 0 && p->pad[1] >= 0;
}

/* The numbers in a text, in order; how many there are, at most `most`. */
static int find_numbers(int64_t *out, int most, const char *text)
{
    int n = 0;

    while (n < most && *(text += strcspn(text, "0123456789"))) {
        char *end;

        out[n++] = strtoll(text, &end, 10);
        text = end;
    }
    return n;
}

/* The text that the result would have must be the very same. */
bool choice_parse(dnn_problem *out, const char *text)
{
    char same[EXEC_CHOICE_TEXT];
    int64_t x[CONVOLUTION_NUMBERS] = {0};
    const int n = find_numbers(x, CONVOLUTION_NUMBERS, text);
    const bool bf16 = strstr(text, BF16_TEXT) != NULL;

    for (int role = 0; role < (int)THAW_COUNT(role_name); role++) {
        dnn_problem p = {.role = (dnn_role)role, .channels = x[0], .bf16 = bf16};

        if (n == (bf16 ? 3 : 2)) {
            p.linear = DNN_LAYER;
            p.kernels = x[1];
        } else {
            p.height = x[1];
            p.width = x[2];
            p.kernels = x[3];
            p.out_height = x[4];
            p.out_width = x[5];
            memcpy(p.window, x + 6, sizeof p.window);
            memcpy(p.stride, x + 8, sizeof p.stride);
            memcpy(p.pad, x + 10, sizeof p.pad);
            memcpy(p.dilation, x + 12, sizeof p.dilation);
            p.groups = (int32_t)x[14];
        }
        choice_format(same, &p);
        if (strcmp(same, text) != 0)
            continue;
        *out = p;
        return is_sane(&p);
    }
    return false;
}
