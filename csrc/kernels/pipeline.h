// Vectors through functions of four steps, as a pipeline.
#pragma once

#include "../kernel_table.h"
#include "../simd/vec.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// A number that is known when compiling.
template <int kValue>
struct Count {
    static constexpr int value = kValue;
};

// The four steps of every vector i in [0, n), as a pipeline: while vector i is in the
// last step, those after it are in the others. A core has many units but looks at some
// 64 waiting instructions only, and one vector's chain of latencies has 50.
template <class Step>
SIGLIN_INLINE void in_steps(index_t n, Step step) {
    constexpr index_t D = 4;
    const auto guarded = [&](index_t i) SIGLIN_LAMBDA_INLINE {
        if (i < n) {
            step(i, Count<0>{});
        }
        if (i >= D && i - D < n) {
            step(i - D, Count<1>{});
        }
        if (i >= 2 * D && i - 2 * D < n) {
            step(i - 2 * D, Count<2>{});
        }
        if (i >= 3 * D) {
            step(i - 3 * D, Count<3>{});
        }
    };
#pragma GCC unroll 1
    for (index_t i = 0; i < 3 * D; ++i) {
        guarded(i);
    }
#pragma GCC unroll 1
    for (index_t i = 3 * D; i < n; ++i) {
        step(i, Count<0>{});
        step(i - D, Count<1>{});
        step(i - 2 * D, Count<2>{});
        step(i - 3 * D, Count<3>{});
    }
#pragma GCC unroll 1
    for (index_t i = n > 3 * D ? n : 3 * D; i < n + 3 * D; ++i) {
        guarded(i);
    }
}

// What the vectors of a strip keep between their steps, in memory that the compiler
// takes for any other: of an array of its own GCC carries the values from one iteration
// to the next in registers it does not have.
inline constexpr index_t kStrip = kNarrowStrip;

template <class Steps, class T>
SIGLIN_INLINE Steps load_steps(const T* kept, index_t i) {
    constexpr index_t L = kLanes<T>;
    const T* p = kept + 3 * i * L;
    return {load(p), load(p + L), load(p + 2 * L)};
}

template <class Steps, class T>
SIGLIN_INLINE void store_steps(T* kept, index_t i, const Steps& steps) {
    constexpr index_t L = kLanes<T>;
    T* p = kept + 3 * i * L;
    store(p, steps.a);
    store(p + L, steps.b);
    store(p + 2 * L, steps.scale);
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
