// x86-64-v3: AVX2 and FMA, 16 registers of 32 bytes, masked loads by sign bits.
#pragma once

#include <immintrin.h>

namespace siglin::SIGLIN_TARGET {
namespace {
inline constexpr int kVecBytes = 32;
inline constexpr bool kHasFma = true;
inline constexpr int kTileRows = 6;
}  // namespace
}  // namespace siglin::SIGLIN_TARGET

#include "vec_types.h"

namespace siglin::SIGLIN_TARGET {
namespace {

SIGLIN_INLINE f32v fma(f32v a, f32v b, f32v c) { return _mm256_fmadd_ps(a, b, c); }
SIGLIN_INLINE f64v fma(f64v a, f64v b, f64v c) { return _mm256_fmadd_pd(a, b, c); }

SIGLIN_INLINE f32v square_root(f32v a) { return _mm256_sqrt_ps(a); }
SIGLIN_INLINE f64v square_root(f64v a) { return _mm256_sqrt_pd(a); }

// a where a < b, else b: b also where either is NaN. (GCC makes two instructions of the
// comparison.)
SIGLIN_INLINE f32v smaller(f32v a, f32v b) { return _mm256_min_ps(a, b); }
SIGLIN_INLINE f64v smaller(f64v a, f64v b) { return _mm256_min_pd(a, b); }

// Whether any lane has its sign bit set.
SIGLIN_INLINE bool any_negative(f32v a) { return _mm256_movemask_ps(a) != 0; }
SIGLIN_INLINE bool any_negative(f64v a) { return _mm256_movemask_pd(a) != 0; }

template <class T>
struct Lanes {
    IntVec<T> mask;
    int count;
};

template <class T>
SIGLIN_INLINE Lanes<T> first_lanes(index_t count) {
    using I = typename VecOf<T>::IntScalar;
    const I n = static_cast<I>(count);
    if constexpr (sizeof(T) == 4) {
        const IntVec<T> position = {0, 1, 2, 3, 4, 5, 6, 7};
        return {position < IntVec<T>{n, n, n, n, n, n, n, n}, static_cast<int>(n)};
    } else {
        const IntVec<T> position = {0, 1, 2, 3};
        return {position < IntVec<T>{n, n, n, n}, static_cast<int>(n)};
    }
}

SIGLIN_INLINE f32v load(const float* p, Lanes<float> lanes) {
    return _mm256_maskload_ps(p, reinterpret_cast<__m256i>(lanes.mask));
}
SIGLIN_INLINE f64v load(const double* p, Lanes<double> lanes) {
    return _mm256_maskload_pd(p, reinterpret_cast<__m256i>(lanes.mask));
}

template <class T>
SIGLIN_INLINE Vec<T> keep(Vec<T> v, Lanes<T> lanes) {
    return reinterpret_cast<Vec<T>>(reinterpret_cast<IntVec<T>>(v) & lanes.mask);
}

// In pieces: a masked store is some 40 operations on Zen 3 and none of its bytes are
// forwarded to a load that follows; the branches are the same for a whole loop.
SIGLIN_INLINE void store(float* p, f32v v, Lanes<float> lanes) {
    __m128 part = _mm256_castps256_ps128(v);
    if ((lanes.count & 4) != 0) {
        _mm_storeu_ps(p, part);
        p += 4;
        part = _mm256_extractf128_ps(v, 1);
    }
    if ((lanes.count & 2) != 0) {
        _mm_storel_pi(reinterpret_cast<__m64*>(p), part);
        p += 2;
        part = _mm_movehl_ps(part, part);
    }
    if ((lanes.count & 1) != 0) {
        _mm_store_ss(p, part);
    }
}
SIGLIN_INLINE void store(double* p, f64v v, Lanes<double> lanes) {
    __m128d part = _mm256_castpd256_pd128(v);
    if ((lanes.count & 2) != 0) {
        _mm_storeu_pd(p, part);
        p += 2;
        part = _mm256_extractf128_pd(v, 1);
    }
    if ((lanes.count & 1) != 0) {
        _mm_store_sd(p, part);
    }
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
