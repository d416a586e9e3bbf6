/*
 * ref_f64.c - the reference kernels for double: ref_kernels.inc compiled with this element type.
 */
#include "exec/exec.h"
#include "exec/fast.h"

#include <math.h>
#include <string.h>

#define REAL        double
#define REF_KERNELS ref_kernels_f64
#include "exec/ref_kernels.inc"
