/* cuda_fp16.h of the tests' double: half floats, rounded to nearest even. */
#ifndef CUDA_DOUBLE_FP16_H
#define CUDA_DOUBLE_FP16_H

#include <stdint.h>
#include <string.h>

struct __half {
    uint16_t bits;
    __half() = default;
    explicit __half(float x);
    operator float() const;
};

inline __half::__half(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    uint32_t sign = u >> 16 & 0x8000, a = u & 0x7FFFFFFFu;
    if (a > 0x7F800000u) {
        bits = 0x7FFF;
    } else if (a >= 0x477FF000u) { /* rounds to more than the largest */
        bits = static_cast<uint16_t>(sign | 0x7C00);
    } else if (a < 0x38800000u) { /* subnormal: a multiple of 2^-24 */
        float magnitude;
        memcpy(&magnitude, &a, sizeof magnitude);
        float shifted = magnitude + 0.5F; /* the unit of its last place is 2^-24 */
        uint32_t s;
        memcpy(&s, &shifted, sizeof s);
        bits = static_cast<uint16_t>(sign | (s - 0x3F000000u));
    } else {
        uint32_t rounded = a + 0xFFF + (a >> 13 & 1);
        bits = static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
    }
}

inline __half::operator float() const
{
    uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16, a = bits & 0x7FFF, u;
    float x;
    if (a >= 0x7C00) {
        u = sign | 0x7F800000u | (a & 0x3FF) << 13;
    } else if (a >= 0x400) {
        u = sign | ((a << 13) + 0x38000000u);
    } else {
        x = static_cast<float>(a) * 5.9604644775390625e-8F; /* 2^-24 */
        memcpy(&u, &x, sizeof u);
        u |= sign;
    }
    memcpy(&x, &u, sizeof x);
    return x;
}

#endif
