// Vector types of kVecBytes bytes over the compiler's vector extensions (GCC and
// Clang), and the loads and stores that every instruction set shares. A vec_<isa>.h
// defines kVecBytes, includes this, and adds what the extensions cannot say: fma,
// square_root, and Lanes with its masked load and store.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "../view.h"

#define SIGLIN_INLINE __attribute__((always_inline)) inline
// A function of its own, which knows nothing of its callers.
#if defined(__clang__)
#define SIGLIN_NOT_INLINE __attribute__((noinline))
#else
#define SIGLIN_NOT_INLINE __attribute__((noipa))
#endif
#define SIGLIN_LAMBDA_INLINE __attribute__((always_inline))

namespace siglin::SIGLIN_TARGET {
namespace {

using f32v = float __attribute__((vector_size(kVecBytes)));
using f64v = double __attribute__((vector_size(kVecBytes)));
using i32v = std::int32_t __attribute__((vector_size(kVecBytes)));
using i64v = std::int64_t __attribute__((vector_size(kVecBytes)));
using u32v = std::uint32_t __attribute__((vector_size(kVecBytes)));
using u64v = std::uint64_t __attribute__((vector_size(kVecBytes)));

template <class T>
struct VecOf;
template <>
struct VecOf<float> {
    using Vec = f32v;
    using Int = i32v;
    using Unsigned = u32v;
    using IntScalar = std::int32_t;
};
template <>
struct VecOf<double> {
    using Vec = f64v;
    using Int = i64v;
    using Unsigned = u64v;
    using IntScalar = std::int64_t;
};

template <class T>
using Vec = typename VecOf<T>::Vec;
template <class T>
using IntVec = typename VecOf<T>::Int;

template <class T>
using UnsignedVec = typename VecOf<T>::Unsigned;

template <class T>
inline constexpr int kLanes = kVecBytes / static_cast<int>(sizeof(T));

// Of any alignment: a memcpy of a vector's size is one instruction. (Clang drops the
// aligned(4) of a vector type that comes through a template.)
template <class T>
SIGLIN_INLINE Vec<T> load(const T* p) {
    Vec<T> v;
    __builtin_memcpy(&v, p, sizeof(v));
    return v;
}

template <class T>
SIGLIN_INLINE void store(T* p, Vec<T> v) {
    __builtin_memcpy(p, &v, sizeof(v));
}

// Written {s, s, ...}: as `zero + s` GCC 12 keeps an addition and loses half the speed.
template <class T>
SIGLIN_INLINE Vec<T> broadcast(T s) {
    if constexpr (kLanes<T> == 2) {
        return Vec<T>{s, s};
    } else if constexpr (kLanes<T> == 4) {
        return Vec<T>{s, s, s, s};
    } else if constexpr (kLanes<T> == 8) {
        return Vec<T>{s, s, s, s, s, s, s, s};
    } else {
        return Vec<T>{s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s};
    }
}

// Lanes without a masked load: the first `count` lanes one by one, the rest zero.
template <class T>
struct CountedLanes {
    int count;
};

template <class T>
SIGLIN_INLINE Vec<T> load(const T* p, CountedLanes<T> lanes) {
    Vec<T> v = {};
    for (int i = 0; i < kLanes<T>; ++i) {
        if (i < lanes.count) {
            v[i] = p[i];
        }
    }
    return v;
}

template <class T>
SIGLIN_INLINE Vec<T> keep(Vec<T> v, CountedLanes<T> lanes) {
    Vec<T> kept = {};
    for (int i = 0; i < kLanes<T>; ++i) {
        if (i < lanes.count) {
            kept[i] = v[i];
        }
    }
    return kept;
}

template <class T>
SIGLIN_INLINE void store(T* p, Vec<T> v, CountedLanes<T> lanes) {
    for (int i = 0; i < kLanes<T>; ++i) {
        if (i < lanes.count) {
            p[i] = v[i];
        }
    }
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
