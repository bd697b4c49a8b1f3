// The vector words of the kernels. SIGLIN_VEC_HEADER is the vec_<isa>.h of the target.
#pragma once

#include SIGLIN_VEC_HEADER

namespace siglin::SIGLIN_TARGET {
namespace {

struct AllLanes {};
struct OneLane {};

template <class T>
SIGLIN_INLINE Vec<T> load(const T* p, AllLanes) {
    return load(p);
}
template <class T>
SIGLIN_INLINE void store(T* p, Vec<T> v, AllLanes) {
    store(p, v);
}

template <class T>
SIGLIN_INLINE Vec<T> load(const T* p, OneLane) {
    Vec<T> v = {};
    v[0] = *p;
    return v;
}
template <class T>
SIGLIN_INLINE void store(T* p, Vec<T> v, OneLane) {
    *p = v[0];
}

// v in the lanes that exist, 0 in those past the end: for sums.
template <class T>
SIGLIN_INLINE Vec<T> keep(Vec<T> v, AllLanes) {
    return v;
}
template <class T>
SIGLIN_INLINE IntVec<T> bits(Vec<T> v) {
    return reinterpret_cast<IntVec<T>>(v);
}
template <class T>
SIGLIN_INLINE UnsignedVec<T> unsigned_bits(Vec<T> v) {
    return reinterpret_cast<UnsignedVec<T>>(v);
}
template <class T, class Bits>
SIGLIN_INLINE Vec<T> from_bits(Bits v) {
    return reinterpret_cast<Vec<T>>(v);
}

// One lane of fma.
SIGLIN_INLINE float fma_scalar(float a, float b, float c) {
    return kHasFma ? __builtin_fmaf(a, b, c) : a * b + c;
}
SIGLIN_INLINE double fma_scalar(double a, double b, double c) {
    return kHasFma ? __builtin_fma(a, b, c) : a * b + c;
}

template <class T>
inline constexpr int kMantissaBits = sizeof(T) == 4 ? 23 : 52;
template <class T>
inline constexpr typename VecOf<T>::IntScalar kExponentBias =
    sizeof(T) == 4 ? 127 : 1023;
template <class T>
inline constexpr typename VecOf<T>::IntScalar kSignBit =
    sizeof(T) == 4 ? typename VecOf<T>::IntScalar(INT32_MIN)
                   : typename VecOf<T>::IntScalar(INT64_MIN);

// yes where the mask is set, else no; a NaN in `no` or `yes` goes through unchanged.
// The mask is the result of a comparison, whose type the compilers spell differently.
template <class T, class Mask>
SIGLIN_INLINE Vec<T> select(Mask comparison, Vec<T> yes, Vec<T> no) {
    const auto mask = reinterpret_cast<IntVec<T>>(comparison);
    return from_bits<T>((mask & bits<T>(yes)) | (~mask & bits<T>(no)));
}

template <class T>
SIGLIN_INLINE Vec<T> magnitude(Vec<T> v) {
    return from_bits<T>(bits<T>(v) & ~kSignBit<T>);
}

// a where a < b, else b: b also where either is NaN.
template <class T>
SIGLIN_INLINE Vec<T> smaller(Vec<T> a, Vec<T> b) {
    return a < b ? a : b;
}

// a where a > b, else b: b also where either is NaN.
template <class T>
SIGLIN_INLINE Vec<T> larger(Vec<T> a, Vec<T> b) {
    return a > b ? a : b;
}

// Lane 0 + lane 1 + ..., halves first: the order is fixed by the number of lanes. The
// lanes are named one by one, so that they come by shuffles and not through memory.
template <class T, int kBegin = 0, int kStep = 1>
SIGLIN_INLINE T sum(Vec<T> v) {
    if constexpr (kStep == kLanes<T>) {
        return v[kBegin];
    } else {
        return sum<T, kBegin, 2 * kStep>(v) + sum<T, kBegin + kStep, 2 * kStep>(v);
    }
}

// Lanes where bit `kHalf` of the lane's number is set change places with those of b
// where it is not: a square of vectors is transposed by doing so to pairs of rows kHalf
// apart.
template <class T, int kHalf>
SIGLIN_INLINE void swap_halves(Vec<T>& a, Vec<T>& b) {
    constexpr int L = kLanes<T>;
#define SIGLIN_LOW(lane) (((lane) & kHalf) != 0 ? L + (lane) - kHalf : (lane))
#define SIGLIN_HIGH(lane) (((lane) & kHalf) != 0 ? L + (lane) : (lane) + kHalf)
#define SIGLIN_SHUFFLE_2(f) __builtin_shufflevector(a, b, f(0), f(1))
#define SIGLIN_SHUFFLE_4(f) __builtin_shufflevector(a, b, f(0), f(1), f(2), f(3))
#define SIGLIN_SHUFFLE_8(f) \
    __builtin_shufflevector(a, b, f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7))
#define SIGLIN_SHUFFLE_16(f)                                                      \
    __builtin_shufflevector(a, b, f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7), \
                            f(8), f(9), f(10), f(11), f(12), f(13), f(14), f(15))
    Vec<T> low;
    Vec<T> high;
    if constexpr (L == 2) {
        low = SIGLIN_SHUFFLE_2(SIGLIN_LOW);
        high = SIGLIN_SHUFFLE_2(SIGLIN_HIGH);
    } else if constexpr (L == 4) {
        low = SIGLIN_SHUFFLE_4(SIGLIN_LOW);
        high = SIGLIN_SHUFFLE_4(SIGLIN_HIGH);
    } else if constexpr (L == 8) {
        low = SIGLIN_SHUFFLE_8(SIGLIN_LOW);
        high = SIGLIN_SHUFFLE_8(SIGLIN_HIGH);
    } else {
        low = SIGLIN_SHUFFLE_16(SIGLIN_LOW);
        high = SIGLIN_SHUFFLE_16(SIGLIN_HIGH);
    }
#undef SIGLIN_LOW
#undef SIGLIN_HIGH
#undef SIGLIN_SHUFFLE_2
#undef SIGLIN_SHUFFLE_4
#undef SIGLIN_SHUFFLE_8
#undef SIGLIN_SHUFFLE_16
    a = low;
    b = high;
}

template <class T, int kHalf = kLanes<T> / 2>
SIGLIN_INLINE void transpose(Vec<T> (&square)[kLanes<T>]) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes<T>; ++i) {
        if ((i & kHalf) == 0) {
            swap_halves<T, kHalf>(square[i], square[i + kHalf]);
        }
    }
    if constexpr (kHalf > 1) {
        transpose<T, kHalf / 2>(square);
    }
}

// body(i, lanes) for whole vectors, then once for what is left.
template <class T, class Body>
SIGLIN_INLINE void for_each_block(index_t n, Body body) {
    index_t i = 0;
    for (; i + kLanes<T> <= n; i += kLanes<T>) {
        body(i, AllLanes{});
    }
    if (i < n) {
        body(i, first_lanes<T>(n - i));
    }
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
