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

// a where a > b, else b: b also where either is NaN.
template <class T>
SIGLIN_INLINE Vec<T> larger(Vec<T> a, Vec<T> b) {
    return a > b ? a : b;
}

template <class T, int kCount>
struct Part {
    // GCC takes no `using` for a dependent vector type.
    typedef T Type __attribute__((vector_size(kCount * sizeof(T))));
};

// Lane 0 + lane 1 + ..., halves first: the order is fixed by the number of lanes. The
// compilers make one shuffle of the memcpy to two halves; lanes in an array go through
// memory.
template <class T, int kCount = kLanes<T>>
SIGLIN_INLINE T sum(typename Part<T, kCount>::Type v) {
    if constexpr (kCount == 2) {
        return v[0] + v[1];
    } else {
        typename Part<T, kCount / 2>::Type half[2];
        __builtin_memcpy(half, &v, sizeof(v));
        return sum<T, kCount / 2>(half[0] + half[1]);
    }
}

// Lane c of the result is lane c ^ kBit.
template <int kBit, class V, std::size_t... kAt>
SIGLIN_INLINE V swapped(V v, std::index_sequence<kAt...>) {
    return __builtin_shufflevector(v, v, static_cast<int>(kAt ^ kBit)...);
}
template <int kBit, class T>
SIGLIN_INLINE Vec<T> swapped(Vec<T> v) {
    return swapped<kBit>(v, std::make_index_sequence<kLanes<T>>{});
}

// Lane c of a where bit kBit of c is clear, else lane c - kBit of b; upper: lane c +
// kBit of a, else lane c of b. What transpositions and sums of many vectors are made
// of.
template <int kBit, bool kUpper, class V>
SIGLIN_INLINE V exchange(V a, V b) {
    constexpr int L = static_cast<int>(sizeof(V) / sizeof(a[0]));
    constexpr auto from = [](int c) {
        return (c & kBit) != 0 ? L + (kUpper ? c : c - kBit) : (kUpper ? c + kBit : c);
    };
    if constexpr (L == 2) {
        return __builtin_shufflevector(a, b, from(0), from(1));
    } else if constexpr (L == 4) {
        return __builtin_shufflevector(a, b, from(0), from(1), from(2), from(3));
    } else if constexpr (L == 8) {
        return __builtin_shufflevector(a, b, from(0), from(1), from(2), from(3),
                                       from(4), from(5), from(6), from(7));
    } else {
        return __builtin_shufflevector(a, b, from(0), from(1), from(2), from(3),
                                       from(4), from(5), from(6), from(7), from(8),
                                       from(9), from(10), from(11), from(12), from(13),
                                       from(14), from(15));
    }
}

// v[i] lane j <-> v[j] lane i (Eklundh 1972).
template <class T, int kBit = kLanes<T> / 2>
SIGLIN_INLINE void transpose(Vec<T> (&v)[kLanes<T>]) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes<T>; ++i) {
        if ((i & kBit) == 0) {
            const Vec<T> a = v[i];
            const Vec<T> b = v[i + kBit];
            v[i] = exchange<kBit, false>(a, b);
            v[i + kBit] = exchange<kBit, true>(a, b);
        }
    }
    if constexpr (kBit > 1) {
        transpose<T, kBit / 2>(v);
    }
}

// Lane i of the result is sum(v[i]), in the order of sum.
template <class T, int kBit = kLanes<T> / 2>
SIGLIN_INLINE Vec<T> sums(Vec<T> (&v)[kLanes<T>]) {
#pragma GCC unroll 16
    for (int i = 0; i < kBit; ++i) {
        v[i] = exchange<kBit, false>(v[i], v[i + kBit]) +
               exchange<kBit, true>(v[i], v[i + kBit]);
    }
    if constexpr (kBit > 1) {
        return sums<T, kBit / 2>(v);
    } else {
        return v[0];
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
