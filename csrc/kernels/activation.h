// The activations: a = f(z), and f'(z) in the form that survives saturation.
// Adding one: see activations.inc.
#pragma once

#include "../kernel_table.h"
#include "elementary.h"
#include "pipeline.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// Each activation has: value(z); both(z), the value and the derivative from z; and
// from_value(a), the derivative where only a is known.
namespace activation {

struct identity {
    template <class T>
    static SIGLIN_INLINE Vec<T> value(Vec<T> z) {
        return z;
    }
    template <class T>
    static SIGLIN_INLINE ValueAndDerivative<T> both(Vec<T> z) {
        return {z, broadcast(T(1))};
    }
    template <class T>
    static SIGLIN_INLINE Vec<T> from_value(Vec<T>) {
        return broadcast(T(1));
    }
};

// One vector of F through the four steps; lanes beyond their reach by F's own way.
template <class F, class T>
SIGLIN_INLINE ValueAndDerivative<T> both_by_steps(Vec<T> z) {
    typename F::template Steps<T> steps;
    steps.first(z);
    steps.second();
    steps.third();
    ValueAndDerivative<T> both = steps.last(z);
    const Vec<T> reach = broadcast(F::template Steps<T>::kReach);
    if (any_negative(reach - magnitude<T>(z))) {
        const ValueAndDerivative<T> far = F::template beyond<T>(z);
        const auto within = magnitude<T>(z) <= reach;
        both = {select<T>(within, both.value, far.value),
                select<T>(within, both.derivative, far.derivative)};
    }
    return both;
}

// 1 / (1 + exp(-z)).  Error: at most 1 ulp for every finite z where the target has fma,
// 2 ulp on x86_v2 (test_sigmoid.py); -inf -> 0, +inf -> 1, NaN -> NaN; subnormal
// results kept.
struct sigmoid {
    template <class T>
    using Steps = SigmoidSteps<T>;
    template <class T>
    static SIGLIN_INLINE ValueAndDerivative<T> beyond(Vec<T> z) {
        const SigmoidParts<T> parts = sigmoid_parts<T>(z);
        return {parts.value(z), parts.derivative()};
    }
    template <class T>
    static SIGLIN_INLINE Vec<T> value(Vec<T> z) {
        return both_by_steps<sigmoid, T>(z).value;
    }
    template <class T>
    static SIGLIN_INLINE ValueAndDerivative<T> both(Vec<T> z) {
        return both_by_steps<sigmoid, T>(z);
    }
    template <class T>
    static SIGLIN_INLINE Vec<T> from_value(Vec<T> a) {
        return a * (broadcast(T(1)) - a);
    }
};

// Error: test_activation.py.
struct tanh {
    template <class T>
    using Steps = TanhSteps<T>;
    template <class T>
    static SIGLIN_INLINE ValueAndDerivative<T> beyond(Vec<T> z) {
        return tanh_parts<T>(z);
    }
    template <class T>
    static SIGLIN_INLINE Vec<T> value(Vec<T> z) {
        return both_by_steps<tanh, T>(z).value;
    }
    template <class T>
    static SIGLIN_INLINE ValueAndDerivative<T> both(Vec<T> z) {
        return both_by_steps<tanh, T>(z);
    }
    template <class T>
    static SIGLIN_INLINE Vec<T> from_value(Vec<T> a) {
        return (broadcast(T(1)) - a) * (broadcast(T(1)) + a);
    }
};

// The derivative at 0 is 0. NaN -> NaN.
struct relu {
    template <class T>
    static SIGLIN_INLINE Vec<T> value(Vec<T> z) {
        const Vec<T> zero = {};
        return select<T>(z <= zero, zero, z);
    }
    template <class T>
    static SIGLIN_INLINE ValueAndDerivative<T> both(Vec<T> z) {
        return {value<T>(z), from_value<T>(z)};
    }
    template <class T>
    static SIGLIN_INLINE Vec<T> from_value(Vec<T> a) {
        const Vec<T> zero = {};
        return select<T>(a > zero, broadcast(T(1)), zero);
    }
};

// max(0.1 z, z); the derivative at 0 is 0.1.
struct leaky_relu {
    static constexpr double kAlpha = 0.1;
    template <class T>
    static SIGLIN_INLINE Vec<T> value(Vec<T> z) {
        const Vec<T> zero = {};
        return select<T>(z > zero, z, z * broadcast(static_cast<T>(kAlpha)));
    }
    template <class T>
    static SIGLIN_INLINE ValueAndDerivative<T> both(Vec<T> z) {
        return {value<T>(z), from_value<T>(z)};
    }
    template <class T>
    static SIGLIN_INLINE Vec<T> from_value(Vec<T> a) {
        const Vec<T> zero = {};
        return select<T>(a > zero, broadcast(T(1)), broadcast(static_cast<T>(kAlpha)));
    }
};

// 1 where z > 0, else 0; NaN -> NaN. It has no useful derivative: 0.
struct step {
    template <class T>
    static SIGLIN_INLINE Vec<T> value(Vec<T> z) {
        const Vec<T> zero = {};
        const Vec<T> number = select<T>(z > zero, broadcast(T(1)), zero);
        return select<T>(z == z, number, z);
    }
    template <class T>
    static SIGLIN_INLINE ValueAndDerivative<T> both(Vec<T> z) {
        const Vec<T> zero = {};
        return {value<T>(z), zero};
    }
    template <class T>
    static SIGLIN_INLINE Vec<T> from_value(Vec<T>) {
        const Vec<T> zero = {};
        return zero;
    }
};

}  // namespace activation

// visit(F{}) with the struct of the activation.
template <class Visit>
SIGLIN_INLINE void with_activation(Activation f, Visit visit) {
    switch (f) {
#define SIGLIN_ACTIVATION(name, largest, steepest) \
    case Activation::name:                         \
        visit(activation::name{});                 \
        break;
#include "../activations.inc"
    }
}

// write(i, both, lanes) for `count` vectors, as a pipeline; kept: 3 vectors for each.
template <class F, class T, class Write>
SIGLIN_NOT_INLINE void pipeline(const T* z, index_t count, T* kept, Write write) {
    using Steps = typename F::template Steps<T>;
    constexpr index_t L = kLanes<T>;
    in_steps(count, [&](index_t v, auto step) SIGLIN_LAMBDA_INLINE {
        constexpr int kStep = decltype(step)::value;
        Steps steps = load_steps<Steps>(kept, v);
        if constexpr (kStep == 0) {
            steps.first(load(z + v * L));
        } else if constexpr (kStep == 1) {
            steps.second();
        } else if constexpr (kStep == 2) {
            steps.third();
        } else {
            write(v * L, steps.last(load(z + v * L)), AllLanes{});
            return;
        }
        store_steps(kept, v, steps);
    });
}

// for_each_block's loop for an F of four steps.
template <class F, class T, class Write>
SIGLIN_INLINE void for_each_by_steps(const T* z, index_t n, Write write) {
    constexpr index_t L = kLanes<T>;
    constexpr index_t kFewest = 8;  // vectors; fewer do not fill the pipeline
    alignas(64) T kept[3 * kStrip * L];
    const Vec<T> reach = broadcast(F::template Steps<T>::kReach);
    index_t i = 0;
    while (i + L <= n) {
        const index_t count = (n - i) / L < kStrip ? (n - i) / L : kStrip;
        Vec<T> beyond = {};
        for (index_t v = 0; v < count && count >= kFewest; ++v) {
            const Vec<T> room = reach - magnitude<T>(load(z + i + v * L));
            beyond = from_bits<T>(bits<T>(beyond) | bits<T>(room));
        }
        if (count >= kFewest && !any_negative(beyond)) {
            pipeline<F>(z + i, count, kept,
                        [&](index_t at, const auto& both, auto lanes)
                            SIGLIN_LAMBDA_INLINE { write(i + at, both, lanes); });
        } else {
            for (index_t v = 0; v < count; ++v) {
                const index_t at = i + v * L;
                write(at, F::template both<T>(load(z + at)), AllLanes{});
            }
        }
        i += count * L;
    }
    if (i < n) {
        const auto lanes = first_lanes<T>(n - i);
        write(i, F::template both<T>(load(z + i, lanes)), lanes);
    }
}

// write(i, both, lanes) for all of z; the value alone may be all that is used of both.
template <class F, class T, class Write>
SIGLIN_INLINE void for_each_activation(const T* z, index_t n, Write write) {
    if constexpr (requires { typename F::template Steps<T>; }) {
        for_each_by_steps<F, T>(z, n, write);
    } else {
        for_each_block<T>(n, [&](index_t i, auto lanes) {
            write(i, F::template both<T>(load(z + i, lanes)), lanes);
        });
    }
}

// a[i] = f(z[i]), and derivative[i] = f'(z[i]) if wanted. a may be z; either may be
// null.
template <class T>
void activate(Activation f, const T* z, T* a, T* derivative, index_t n) {
    with_activation(f, [&](auto activation) {
        using F = decltype(activation);
        if (derivative == nullptr) {
            for_each_activation<F, T>(z, n,
                                      [&](index_t i, const auto& both, auto lanes) {
                                          store(a + i, both.value, lanes);
                                      });
        } else if (a == nullptr) {
            for_each_activation<F, T>(z, n,
                                      [&](index_t i, const auto& both, auto lanes) {
                                          store(derivative + i, both.derivative, lanes);
                                      });
        } else {
            for_each_activation<F, T>(z, n,
                                      [&](index_t i, const auto& both, auto lanes) {
                                          store(a + i, both.value, lanes);
                                          store(derivative + i, both.derivative, lanes);
                                      });
        }
    });
}

// derivative[i] = f'(z[i]) given only a[i] = f(z[i]); derivative may be a.
template <class T>
void derivative_from_a(Activation f, const T* a, T* derivative, index_t n) {
    with_activation(f, [&](auto activation) {
        using F = decltype(activation);
        for_each_block<T>(n, [&](index_t i, auto lanes) {
            store(derivative + i, F::template from_value<T>(load(a + i, lanes)), lanes);
        });
    });
}

// value[i] *= factor[i]
template <class T>
void scale_by(const T* factor, T* value, index_t n) {
    for_each_block<T>(n, [&](index_t i, auto lanes) {
        store(value + i, load(value + i, lanes) * load(factor + i, lanes), lanes);
    });
}

// value[i] *= relu's derivative, given its output a[i]
template <class T>
void scale_by_relu(const T* a, T* value, index_t n) {
    for_each_block<T>(n, [&](index_t i, auto lanes) {
        const Vec<T> slope = activation::relu::from_value<T>(load(a + i, lanes));
        store(value + i, load(value + i, lanes) * slope, lanes);
    });
}

// sum[i] += addend[i]
template <class T>
void add_to(const T* addend, T* sum, index_t n) {
    for_each_block<T>(n, [&](index_t i, auto lanes) {
        store(sum + i, load(sum + i, lanes) + load(addend + i, lanes), lanes);
    });
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
