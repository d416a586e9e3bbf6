/*
 * fuzz_jpeg.c - any bytes as a JPEG.
 */
#include "fuzz_picture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_picture(jpeg_decode, data, size);
}
