// Vectors as wide as AVX-512's for any instruction set: the compiler splits them. For
// the kernel check, so that the width of x86_v4 is proved on machines without it.
#pragma once

namespace siglin::SIGLIN_TARGET {
namespace {
inline constexpr int kVecBytes = 64;
inline constexpr bool kHasFma = true;
inline constexpr int kTileRows = 12;
}  // namespace
}  // namespace siglin::SIGLIN_TARGET

#include "simd/vec_types.h"

namespace siglin::SIGLIN_TARGET {
namespace {

SIGLIN_INLINE f32v fma(f32v a, f32v b, f32v c) {
    f32v r;
    for (int i = 0; i < 16; ++i) {
        r[i] = __builtin_fmaf(a[i], b[i], c[i]);
    }
    return r;
}
SIGLIN_INLINE f64v fma(f64v a, f64v b, f64v c) {
    f64v r;
    for (int i = 0; i < 8; ++i) {
        r[i] = __builtin_fma(a[i], b[i], c[i]);
    }
    return r;
}
SIGLIN_INLINE f32v square_root(f32v a) {
    f32v r;
    for (int i = 0; i < 16; ++i) {
        r[i] = __builtin_sqrtf(a[i]);
    }
    return r;
}
SIGLIN_INLINE f64v square_root(f64v a) {
    f64v r;
    for (int i = 0; i < 8; ++i) {
        r[i] = __builtin_sqrt(a[i]);
    }
    return r;
}

SIGLIN_INLINE f32v smaller(f32v a, f32v b) { return a < b ? a : b; }
SIGLIN_INLINE f64v smaller(f64v a, f64v b) { return a < b ? a : b; }

template <class V>
SIGLIN_INLINE bool any_sign_bit(V a, int lanes) {
    bool any = false;
    for (int i = 0; i < lanes; ++i) {
        any |= __builtin_signbit(a[i]) != 0;
    }
    return any;
}
SIGLIN_INLINE bool any_negative(f32v a) { return any_sign_bit(a, 16); }
SIGLIN_INLINE bool any_negative(f64v a) { return any_sign_bit(a, 8); }

template <class T>
using Lanes = CountedLanes<T>;

template <class T>
SIGLIN_INLINE Lanes<T> first_lanes(index_t count) {
    return {static_cast<int>(count)};
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
