/*
 * ref_f32.c - the reference kernels for float: ref_kernels.inc compiled with this element type.
 */
#include "exec/exec.h"
#include "exec/fast.h"

#include <math.h>
#include <string.h>

#define REAL        float
#define REF_KERNELS ref_kernels_f32
#include "exec/ref_kernels.inc"
