/*
 * fast_math.h - functions of one float that the compiler makes vectors of: exponential, and the
 * share of a normal distribution. Right to about two units in the last place; NaN stays NaN.
 */
#ifndef THAW_EXEC_FAST_MATH_H
#define THAW_EXEC_FAST_MATH_H

#include "exec/fast.h"

#include <string.h>

/* Cody and Waite, 1980: e^x = 2^n e^r with |r| <= ln 2 / 2. Below -87 it is 0. */
FAST_INLINE float fast_exp(float x)
{
    const float shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number */
    const float y = x > 88.0f ? 88.0f : x < -87.0f ? -87.0f : x;
    const float shifted = y * 1.44269504f + shift, n = shifted - shift;
    const float r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f, scale;
    int32_t bits;

    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    memcpy(&bits, &shifted, sizeof bits); /* n stands in its last bits */
    bits = (int32_t)(((uint32_t)bits << 23) + 0x3f800000u);
    memcpy(&scale, &bits, sizeof scale);
    return x < -87.0f ? 0.0f : p * scale;
}

/* Part of a standard normal distribution below x, and its density there. The part is a polynomial
 * in 1 / (1 + c |x|) times e^(-x²/2), fitted to a relative error of 1e-7. */
FAST_INLINE void fast_normal(float *part, float *density, float x)
{
    const float e = fast_exp(-0.5f * x * x);
    const float t = 1.0f / (1.0f + 0.23334523779f * (x < 0.0f ? -x : x)); /* 0.33 / sqrt 2 */
    float p = -0.13534677028656006f, tail;

    p = p * t + 0.4602419137954712f;
    p = p * t - 0.3511585295200348f;
    p = p * t + 0.40850868821144104f;
    p = p * t + 0.04721566289663315f;
    p = p * t + 0.20122553408145905f;
    p = p * t + 0.18295565247535706f;
    p = p * t + 0.18635782599449158f;
    tail = 0.5f * p * t * e;
    *part = x < 0.0f ? tail : 1.0f - tail;
    *density = 0.39894228040143268f * e;
}

#endif
