// aarch64: NEON, 32 registers of 16 bytes, fused multiply-add, no masked load.
#pragma once

#include <arm_neon.h>

namespace siglin::SIGLIN_TARGET {
namespace {
inline constexpr int kVecBytes = 16;
inline constexpr bool kHasFma = true;
inline constexpr int kTileRows = 12;
}  // namespace
}  // namespace siglin::SIGLIN_TARGET

#include "vec_types.h"

namespace siglin::SIGLIN_TARGET {
namespace {

SIGLIN_INLINE f32v fma(f32v a, f32v b, f32v c) {
    return (f32v)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
SIGLIN_INLINE f64v fma(f64v a, f64v b, f64v c) {
    return (f64v)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}

SIGLIN_INLINE f32v square_root(f32v a) { return (f32v)vsqrtq_f32((float32x4_t)a); }
SIGLIN_INLINE f64v square_root(f64v a) { return (f64v)vsqrtq_f64((float64x2_t)a); }

// a where a < b, else b: b also where either is NaN.
SIGLIN_INLINE f32v smaller(f32v a, f32v b) { return a < b ? a : b; }
SIGLIN_INLINE f64v smaller(f64v a, f64v b) { return a < b ? a : b; }

// Whether any lane has its sign bit set.
SIGLIN_INLINE bool any_negative(f32v a) {
    return (vmaxvq_u32((uint32x4_t)a) >> 31) != 0;
}
SIGLIN_INLINE bool any_negative(f64v a) {
    return ((vgetq_lane_u64((uint64x2_t)a, 0) | vgetq_lane_u64((uint64x2_t)a, 1)) >>
            63) != 0;
}

template <class T>
using Lanes = CountedLanes<T>;

template <class T>
SIGLIN_INLINE Lanes<T> first_lanes(index_t count) {
    return {static_cast<int>(count)};
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
