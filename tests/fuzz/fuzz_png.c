/*
 * fuzz_png.c - any bytes as a PNG.
 */
#include "fuzz_picture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_picture(png_decode, data, size);
}
