/* cuda_bf16.h of the tests' double: brain floats, rounded to nearest even. */
#ifndef CUDA_DOUBLE_BF16_H
#define CUDA_DOUBLE_BF16_H

#include <stdint.h>
#include <string.h>

struct __nv_bfloat16 {
    uint16_t bits;
    __nv_bfloat16() = default;
    explicit __nv_bfloat16(float x)
    {
        uint32_t u;
        memcpy(&u, &x, sizeof u);
        bool is_nan = (u & 0x7FFFFFFFu) > 0x7F800000u;
        bits = is_nan ? 0x7FFF : static_cast<uint16_t>((u + 0x7FFF + (u >> 16 & 1)) >> 16);
    }
    operator float() const
    {
        uint32_t u = static_cast<uint32_t>(bits) << 16;
        float x;
        memcpy(&x, &u, sizeof x);
        return x;
    }
};

#endif
