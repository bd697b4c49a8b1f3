// x86-64-v2: SSE4.2, 16 registers of 16 bytes, no fused multiply-add.
#pragma once

#include <emmintrin.h>

namespace siglin::SIGLIN_TARGET {
namespace {
inline constexpr int kVecBytes = 16;
inline constexpr bool kHasFma = false;
inline constexpr int kTileRows = 6;
}  // namespace
}  // namespace siglin::SIGLIN_TARGET

#include "vec_types.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// Two roundings: this target has no fused multiply-add.
SIGLIN_INLINE f32v fma(f32v a, f32v b, f32v c) { return a * b + c; }
SIGLIN_INLINE f64v fma(f64v a, f64v b, f64v c) { return a * b + c; }

SIGLIN_INLINE f32v square_root(f32v a) { return _mm_sqrt_ps(a); }
SIGLIN_INLINE f64v square_root(f64v a) { return _mm_sqrt_pd(a); }

// a where a < b, else b: b also where either is NaN. (GCC makes two instructions of the
// comparison.)
SIGLIN_INLINE f32v smaller(f32v a, f32v b) { return _mm_min_ps(a, b); }
SIGLIN_INLINE f64v smaller(f64v a, f64v b) { return _mm_min_pd(a, b); }

// Whether any lane has its sign bit set.
SIGLIN_INLINE bool any_negative(f32v a) { return _mm_movemask_ps(a) != 0; }
SIGLIN_INLINE bool any_negative(f64v a) { return _mm_movemask_pd(a) != 0; }

template <class T>
using Lanes = CountedLanes<T>;

template <class T>
SIGLIN_INLINE Lanes<T> first_lanes(index_t count) {
    return {static_cast<int>(count)};
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
