// The activations: a = f(z), and f'(z) in the form that survives saturation.
// Adding one: see activations.inc.
#pragma once

#include "../kernel_table.h"
#include "elementary.h"

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

// 1 / (1 + exp(-z)).  Error: at most 1 ulp for every finite z where the target has fma,
// 2 ulp on x86_v2 (test_sigmoid.py); -inf -> 0, +inf -> 1, NaN -> NaN; subnormal
// results kept.
struct sigmoid {
    template <class T>
    static SIGLIN_INLINE Vec<T> value(Vec<T> z) {
        return sigmoid_parts<T>(z).value(z);
    }
    template <class T>
    static SIGLIN_INLINE ValueAndDerivative<T> both(Vec<T> z) {
        const SigmoidParts<T> parts = sigmoid_parts<T>(z);
        return {parts.value(z), parts.derivative()};
    }
    template <class T>
    static SIGLIN_INLINE Vec<T> from_value(Vec<T> a) {
        return a * (broadcast(T(1)) - a);
    }
};

// Error: test_activation.py.
struct tanh {
    template <class T>
    static SIGLIN_INLINE Vec<T> value(Vec<T> z) {
        return tanh_parts<T>(z).value;
    }
    template <class T>
    static SIGLIN_INLINE ValueAndDerivative<T> both(Vec<T> z) {
        return tanh_parts<T>(z);
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
#define SIGLIN_ACTIVATION(name)    \
    case Activation::name:         \
        visit(activation::name{}); \
        break;
#include "../activations.inc"
#undef SIGLIN_ACTIVATION
    }
}

// a[i] = f(z[i]), and derivative[i] = f'(z[i]) if wanted. a may be z; either may be
// null.
template <class T>
void activate(Activation f, const T* z, T* a, T* derivative, index_t n) {
    with_activation(f, [&](auto activation) {
        using F = decltype(activation);
        if (derivative == nullptr) {
            for_each_block<T>(n, [&](index_t i, auto lanes) {
                store(a + i, F::template value<T>(load(z + i, lanes)), lanes);
            });
        } else if (a == nullptr) {
            for_each_block<T>(n, [&](index_t i, auto lanes) {
                const auto both = F::template both<T>(load(z + i, lanes));
                store(derivative + i, both.derivative, lanes);
            });
        } else {
            for_each_block<T>(n, [&](index_t i, auto lanes) {
                const auto both = F::template both<T>(load(z + i, lanes));
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

// sum[i] += addend[i]
template <class T>
void add_to(const T* addend, T* sum, index_t n) {
    for_each_block<T>(n, [&](index_t i, auto lanes) {
        store(sum + i, load(sum + i, lanes) + load(addend + i, lanes), lanes);
    });
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
