// x86-64-v4: AVX-512 (F, BW, CD, DQ, VL), 32 registers of 64 bytes, mask registers.
#pragma once

#include <immintrin.h>

namespace siglin::SIGLIN_TARGET {
namespace {
inline constexpr int kVecBytes = 64;
inline constexpr bool kHasFma = true;
inline constexpr int kTileRows = 12;
}  // namespace
}  // namespace siglin::SIGLIN_TARGET

#include "vec_types.h"

namespace siglin::SIGLIN_TARGET {
namespace {

SIGLIN_INLINE f32v fma(f32v a, f32v b, f32v c) { return _mm512_fmadd_ps(a, b, c); }
SIGLIN_INLINE f64v fma(f64v a, f64v b, f64v c) { return _mm512_fmadd_pd(a, b, c); }

SIGLIN_INLINE f32v square_root(f32v a) {
    return _mm512_maskz_sqrt_ps(static_cast<__mmask16>(-1), a);
}
SIGLIN_INLINE f64v square_root(f64v a) {
    return _mm512_maskz_sqrt_pd(static_cast<__mmask8>(-1), a);
}

// a where a < b, else b: b also where either is NaN. (GCC makes two instructions of the
// comparison.)
SIGLIN_INLINE f32v smaller(f32v a, f32v b) {
    return _mm512_maskz_min_ps(static_cast<__mmask16>(-1), a, b);
}
SIGLIN_INLINE f64v smaller(f64v a, f64v b) {
    return _mm512_maskz_min_pd(static_cast<__mmask8>(-1), a, b);
}

template <class T>
struct Lanes {
    __mmask16 mask;
};

template <class T>
SIGLIN_INLINE Lanes<T> first_lanes(index_t count) {
    return {static_cast<__mmask16>((1U << count) - 1U)};
}

SIGLIN_INLINE f32v load(const float* p, Lanes<float> lanes) {
    return _mm512_maskz_loadu_ps(lanes.mask, p);
}
SIGLIN_INLINE f64v load(const double* p, Lanes<double> lanes) {
    return _mm512_maskz_loadu_pd(static_cast<__mmask8>(lanes.mask), p);
}
SIGLIN_INLINE void store(float* p, f32v v, Lanes<float> lanes) {
    _mm512_mask_storeu_ps(p, lanes.mask, v);
}
SIGLIN_INLINE void store(double* p, f64v v, Lanes<double> lanes) {
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>(lanes.mask), v);
}

template <class T>
SIGLIN_INLINE Vec<T> keep(Vec<T> v, Lanes<T> lanes) {
    if constexpr (sizeof(T) == 4) {
        return _mm512_maskz_mov_ps(lanes.mask, v);
    } else {
        return _mm512_maskz_mov_pd(static_cast<__mmask8>(lanes.mask), v);
    }
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
