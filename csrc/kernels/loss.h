// Losses of a block of rows, and their gradients with respect to the pre-activations.
#pragma once

#include "../kernel_table.h"
#include "activation.h"
#include "cross_entropy.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// In each of these z comes in as the pre-activations (the outputs for squared_error),
// and goes out as dz = scale * dloss/dz if want_gradient, else with nothing of use.
// Each returns the sum of the loss over n outputs, in the order of the vector lanes.

template <class T>
struct LossParts {
    Vec<T> loss;
    Vec<T> dz;
};

// The sum of the losses that parts_of(z, t) gives.
template <class T, class PartsOf>
SIGLIN_INLINE double parts_row(T* z, const T* t, index_t n, bool want_gradient,
                               PartsOf parts_of) {
    Vec<T> total = {};
    for_each_block<T>(n, [&](index_t i, auto lanes) {
        const LossParts<T> parts = parts_of(load(z + i, lanes), load(t + i, lanes));
        total += keep<T>(parts.loss, lanes);
        if (want_gradient) {
            store(z + i, parts.dz, lanes);
        }
    });
    return static_cast<double>(sum<T>(total));
}

// The bce loss -t log(a) - (1 - t) log(1 - a) and its gradient a - t keep their digits
// for every logit, since both come from what is left where z goes to infinity: with far
// = t less the a of that limit, 1 or 0 by the sign of z,
//
//     loss = log(1 + exp(-|z|)) - far z,    a - t = sigma(-|z|) - far where z < 0,
//                                                 = -sigma(-|z|) - far elsewhere.
//
// Where t is 1 and z is large, a is 1 in floating point and a - t would be 0.
template <class T>
SIGLIN_INLINE Vec<T> bce_far(Vec<T> z, Vec<T> t) {
    const Vec<T> zero = {};
    return t - select<T>(bits<T>(z) < 0, zero, broadcast(T(1)));
}

// far z, which is never positive. 0 times an infinite z is 0.
template <class T>
SIGLIN_INLINE Vec<T> bce_far_loss(Vec<T> z, Vec<T> far) {
    const Vec<T> zero = {};
    return smaller(far * z, zero);
}

// a - t. lower: sigma(-|z|).
template <class T>
SIGLIN_INLINE Vec<T> bce_gradient(Vec<T> z, Vec<T> far, Vec<T> lower) {
    return from_bits<T>(bits<T>(lower) | (~bits<T>(z) & kSignBit<T>)) - far;
}

// exp: exp(-|z|).
template <class T>
SIGLIN_INLINE Vec<T> bce_loss(Vec<T> z, Vec<T> t, Vec<T> exp) {
    return log1p_unit<T>(exp) - bce_far_loss<T>(z, bce_far<T>(z, t));
}

// dz = scale * (a - t).
template <class T>
SIGLIN_INLINE LossParts<T> bce_parts(Vec<T> z, Vec<T> t, Vec<T> scale) {
    const SigmoidParts<T> parts = sigmoid_parts<T>(z);
    const Vec<T> far = bce_far<T>(z, t);
    return {log1p_unit<T>(parts.exp) - bce_far_loss<T>(z, far),
            scale * bce_gradient<T>(z, far, parts.scaled_lower())};
}

template <class T>
SIGLIN_INLINE double bce_row(T* z, const T* t, index_t n, T scale, bool want_gradient) {
    return parts_row<T>(z, t, n, want_gradient,
                        [scale](Vec<T> zi, Vec<T> ti) SIGLIN_LAMBDA_INLINE {
                            return bce_parts<T>(zi, ti, broadcast(scale));
                        });
}

// (a - t)^2 / 2; dz = scale * (a - t) * derivative.
template <class T>
SIGLIN_INLINE double squared_error_row(T* a, const T* derivative, const T* t, index_t n,
                                       T scale, bool want_gradient) {
    Vec<T> total = {};
    for_each_block<T>(n, [&](index_t i, auto lanes) {
        const Vec<T> difference = load(a + i, lanes) - load(t + i, lanes);
        total = fma(difference, difference, total);
        if (want_gradient) {
            Vec<T> g = broadcast(scale) * difference;
            if (derivative != nullptr) {
                g *= load(derivative + i, lanes);
            }
            store(a + i, g, lanes);
        }
    });
    return 0.5 * static_cast<double>(sum<T>(total));
}

// exp(z) for any z. Beyond the range of normal exp(-z) it has fewer digits.
template <class T>
SIGLIN_INLINE Vec<T> exp_any(Vec<T> z) {
    const Vec<T> zero = {};
    const Vec<T> e = exp_negative<T>(magnitude<T>(z));
    return select<T>(z > zero, broadcast(T(1)) / e, e);
}

// Half the Poisson deviance t log(t / a) - t + a with a = exp(z), but for t log(t); dz
// = scale * (exp(z) - t). In t z, z is at most kLimit, where exp(z) is infinite:
// infinity less infinity would be NaN. 0 times an infinite z is 0.
template <class T>
SIGLIN_INLINE LossParts<T> poisson_parts(Vec<T> z, Vec<T> t, Vec<T> scale) {
    const Vec<T> zero = {};
    const Vec<T> a = exp_any<T>(z);
    const Vec<T> finite = smaller(broadcast(ExpConstants<T>::kLimit), z);
    const Vec<T> product = select<T>(t == zero, zero, t * finite);
    return {(a - t) - product, scale * (a - t)};
}

template <class T>
SIGLIN_INLINE double poisson_row(T* z, const T* t, index_t n, T scale,
                                 bool want_gradient) {
    return parts_row<T>(z, t, n, want_gradient,
                        [scale](Vec<T> zi, Vec<T> ti) SIGLIN_LAMBDA_INLINE {
                            return poisson_parts<T>(zi, ti, broadcast(scale));
                        });
}

// z becomes exp(z), the outputs of a poisson network.
template <class T>
void exponential(T* z, index_t n) {
    for_each_block<T>(n, [&](index_t i, auto lanes) {
        store(z + i, exp_any<T>(load(z + i, lanes)), lanes);
    });
}

// The contract is LossArgs'.
template <class T>
double loss_gradient(const LossArgs<T>& args) {
    const index_t n = args.rows * args.cols;
    switch (args.loss) {
        case Loss::bce:
            return bce_row<T>(args.z, args.t, n, args.scale, args.want_gradient);
        case Loss::squared_error:
            return squared_error_row<T>(args.z, args.derivative, args.t, n, args.scale,
                                        args.want_gradient);
        case Loss::poisson:
            return poisson_row<T>(args.z, args.t, n, args.scale, args.want_gradient);
        case Loss::cross_entropy:
            break;
    }
    double total = 0;
    for_each_cross_entropy<T>(
        args.z, args.t, args.rows, args.cols,
        [&](index_t, auto) { return broadcast(args.scale); },
        [&](index_t, double loss) { total += loss; });
    return total;
}

// Each row of z becomes its softmax.
template <class T>
void softmax(T* z, index_t rows, index_t cols) {
    for (index_t i = 0; i < rows; ++i) {
        softmax_row<T>(z + i * cols, cols, highest(z + i * cols, cols));
    }
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
