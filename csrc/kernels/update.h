// Optimiser steps over flat vectors, one pass each.
#pragma once

#include "../kernel_table.h"
#include "../simd/vec.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// for_each_block, but after a first step p + i is a whole number of vectors. A vector
// in two cache lines is loaded and stored twice: of 16,384 doubles 16 or 48 bytes into
// a line, gd took 2.4 us instead of 2.6 (x86_v4) and 2.8 (x86_v3) on a Zen 4. Not for
// sums: their order would follow the alignment.
template <class T, class Body>
SIGLIN_INLINE void for_each_aligned_block(const T* p, index_t n, Body body) {
    constexpr index_t kWorthAligning = 16 * kLanes<T>;
    index_t i = 0;
    if (n >= kWorthAligning) {
        const auto past = static_cast<index_t>(reinterpret_cast<std::uintptr_t>(p) %
                                               kVecBytes / sizeof(T));
        if (past != 0) {
            i = kLanes<T> - past;
            body(0, first_lanes<T>(i));
        }
    }
#pragma GCC unroll 4
    for (; i + kLanes<T> <= n; i += kLanes<T>) {
        body(i, AllLanes{});
    }
    if (i < n) {
        body(i, first_lanes<T>(n - i));
    }
}

// step(i, lanes, write) returns the new parameters from i on, and stores the state it
// keeps if `write`. All new parameters are looked at before the first is stored: x * 0
// is 0 for every finite x, NaN for the others.
template <class T, class Step>
SIGLIN_INLINE double apply(const UpdateArgs<T>& args, Step step) {
    const Vec<T> zero = {};
    if (!args.unchecked) {
        Vec<T> check = {};
        for_each_block<T>(args.n, [&](index_t i, auto lanes) {
            check += keep<T>(step(i, lanes, false), lanes) * zero;
        });
        if (sum<T>(check) != 0) {
            return __builtin_nan("");
        }
    }
    if (!args.want_norm) {
        for_each_aligned_block(args.param, args.n,
                               [&](index_t i, auto lanes) SIGLIN_LAMBDA_INLINE {
                                   store(args.param + i, step(i, lanes, true), lanes);
                               });
        return 0;
    }
    Vec<T> norm = {};
    for_each_block<T>(args.n, [&](index_t i, auto lanes) {
        const Vec<T> fresh = step(i, lanes, true);
        const Vec<T> change = keep<T>(fresh - load(args.param + i, lanes), lanes);
        norm = fma(change, change, norm);
        store(args.param + i, fresh, lanes);
    });
    return static_cast<double>(sum<T>(norm));
}

// The functions work on a copy of their arguments: no store can change it, so the
// pointers stay in registers instead of being loaded for every vector.

template <class T>
SIGLIN_INLINE Vec<T> gradient(const UpdateArgs<T>& args, index_t i, auto lanes) {
    return load(args.grad + i, lanes) * broadcast(args.factor);
}

// w - lr * g
template <class T>
double gd(const UpdateArgs<T>& given) {
    const UpdateArgs<T> args = given;
    const Vec<T> minus_lr = broadcast(-args.lr);
    return apply(args, [&](index_t i, auto lanes, bool) SIGLIN_LAMBDA_INLINE {
        return fma(minus_lr, gradient(args, i, lanes), load(args.param + i, lanes));
    });
}

// m = beta1 * m + g; w - lr * m
template <class T>
double momentum(const UpdateArgs<T>& given) {
    const UpdateArgs<T> args = given;
    const Vec<T> minus_lr = broadcast(-args.lr);
    const Vec<T> beta1 = broadcast(args.beta1);
    return apply(args, [&](index_t i, auto lanes, bool write) SIGLIN_LAMBDA_INLINE {
        const Vec<T> m = fma(beta1, load(args.m + i, lanes), gradient(args, i, lanes));
        if (write) {
            store(args.m + i, m, lanes);
        }
        return fma(minus_lr, m, load(args.param + i, lanes));
    });
}

// m = beta1 * m + g; w - lr * (g + beta1 * m)
template <class T>
double nesterov(const UpdateArgs<T>& given) {
    const UpdateArgs<T> args = given;
    const Vec<T> minus_lr = broadcast(-args.lr);
    const Vec<T> beta1 = broadcast(args.beta1);
    return apply(args, [&](index_t i, auto lanes, bool write) SIGLIN_LAMBDA_INLINE {
        const Vec<T> g = gradient(args, i, lanes);
        const Vec<T> m = fma(beta1, load(args.m + i, lanes), g);
        if (write) {
            store(args.m + i, m, lanes);
        }
        return fma(minus_lr, fma(beta1, m, g), load(args.param + i, lanes));
    });
}

// m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; w - lr m / (sqrt(v) +
// eps) (Kingma and Ba 2015, with the bias correction in lr and eps).
template <class T>
SIGLIN_INLINE double adam_step(const UpdateArgs<T>& given, bool decays) {
    const UpdateArgs<T> args = given;
    const Vec<T> minus_lr = broadcast(-args.lr);
    const Vec<T> beta1 = broadcast(args.beta1);
    const Vec<T> beta2 = broadcast(args.beta2);
    const Vec<T> rest1 = broadcast(T(1) - args.beta1);
    const Vec<T> rest2 = broadcast(T(1) - args.beta2);
    const Vec<T> eps = broadcast(args.eps);
    const Vec<T> minus_decay = broadcast(-args.decay);
    return apply(args, [&](index_t i, auto lanes, bool write) SIGLIN_LAMBDA_INLINE {
        const Vec<T> g = gradient(args, i, lanes);
        const Vec<T> m = fma(beta1, load(args.m + i, lanes), rest1 * g);
        const Vec<T> v = fma(beta2, load(args.v + i, lanes), rest2 * (g * g));
        if (write) {
            store(args.m + i, m, lanes);
            store(args.v + i, v, lanes);
        }
        const Vec<T> step = m / (square_root(v) + eps);
        const Vec<T> w = load(args.param + i, lanes);
        return fma(minus_lr, step, decays ? fma(minus_decay, w, w) : w);
    });
}

template <class T>
double adam(const UpdateArgs<T>& args) {
    return adam_step(args, false);
}

// The same, and w - lr weight_decay w beside it (Loshchilov and Hutter 2019).
template <class T>
double adamw(const UpdateArgs<T>& args) {
    return adam_step(args, true);
}

// The largest |x[i]|, or a NaN if there is one; 0 of nothing. As integers: the bits of
// magnitudes are in the order of their values, and those of NaNs beyond infinity.
template <class T>
T largest_magnitude(const T* x, index_t n) {
    constexpr int kChains = 4;
    constexpr int L = kLanes<T>;
    IntVec<T> most[kChains] = {};
    const auto take = [&](int chain, Vec<T> v) SIGLIN_LAMBDA_INLINE {
        const IntVec<T> b = bits<T>(magnitude<T>(v));
        most[chain] = b > most[chain] ? b : most[chain];
    };
    index_t i = 0;
    for (; i + kChains * L <= n; i += kChains * L) {
#pragma GCC unroll 4
        for (int c = 0; c < kChains; ++c) {
            take(c, load(x + i + c * L));
        }
    }
    for_each_block<T>(n - i, [&](index_t j, auto lanes) SIGLIN_LAMBDA_INLINE {
        take(0, load(x + i + j, lanes));
    });
    for (int c = 1; c < kChains; ++c) {
        take(0, from_bits<T>(most[c]));
    }
    typename VecOf<T>::IntScalar largest = 0;
    for (int lane = 0; lane < L; ++lane) {
        largest = most[0][lane] > largest ? most[0][lane] : largest;
    }
    T result;
    __builtin_memcpy(&result, &largest, sizeof(result));
    return result;
}

// The first i with x[i] outside [low, high] (a NaN always is), or -1.
template <class T>
index_t first_outside(const T* x, index_t n, T low, T high) {
    constexpr index_t kChunk = 512;
    for (index_t i = 0; i < n; i += kChunk) {
        const index_t count = n - i < kChunk ? n - i : kChunk;
        IntVec<T> bad = {};
        for_each_block<T>(count, [&](index_t j, auto lanes) {
            const Vec<T> v = load(x + i + j, lanes);
            const auto inside = reinterpret_cast<IntVec<T>>(v >= broadcast(low)) &
                                reinterpret_cast<IntVec<T>>(v <= broadcast(high));
            bad |= bits<T>(keep<T>(from_bits<T>(~inside), lanes));
        });
        T any[kLanes<T>];
        store(any, from_bits<T>(bad));
        bool found = false;
        for (int lane = 0; lane < kLanes<T>; ++lane) {
            found |= !(any[lane] == 0);
        }
        if (found) {
            for (index_t j = 0; j < count; ++j) {
                if (!(x[i + j] >= low && x[i + j] <= high)) {
                    return i + j;
                }
            }
        }
    }
    return -1;
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
