// Losses of a block of rows, and their gradients with respect to the pre-activations.
// Adding one: see losses.inc.
#pragma once

#include "../kernel_table.h"
#include "activation.h"
#include "cross_entropy.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// What a loss is at some outputs, and scale times its gradient by z. The scale has the
// rows' weights in it.
template <class T>
struct LossParts {
    Vec<T> loss;
    Vec<T> dz;
};

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

// exp(z) for any z. Beyond the range of normal exp(-z) it has fewer digits.
template <class T>
SIGLIN_INLINE Vec<T> exp_any(Vec<T> z) {
    const Vec<T> zero = {};
    const Vec<T> e = exp_negative<T>(magnitude<T>(z));
    return select<T>(z > zero, broadcast(T(1)) / e, e);
}

// Each loss but cross_entropy (cross_entropy.h) has parts(z, t, scale): z are the
// pre-activations, or the outputs where it does not start from logits. It is made of
// its number.
namespace loss {

struct bce {
    explicit bce(double) {}
    template <class T>
    SIGLIN_INLINE LossParts<T> parts(Vec<T> z, Vec<T> t, Vec<T> scale) const {
        const SigmoidParts<T> s = sigmoid_parts<T>(z);
        const Vec<T> far = bce_far<T>(z, t);
        return {log1p_unit<T>(s.exp) - bce_far_loss<T>(z, far),
                scale * bce_gradient<T>(z, far, s.scaled_lower())};
    }
};

// (a - t)^2 / 2
struct squared_error {
    explicit squared_error(double) {}
    template <class T>
    SIGLIN_INLINE LossParts<T> parts(Vec<T> a, Vec<T> t, Vec<T> scale) const {
        const Vec<T> difference = a - t;
        return {broadcast(T(0.5)) * (difference * difference), scale * difference};
    }
};

// Half the Poisson deviance t log(t / a) - t + a with a = exp(z), but for t log(t). In
// t z, z is at most kLimit, where exp(z) is infinite: infinity less infinity would be
// NaN. 0 times an infinite z is 0.
struct poisson {
    explicit poisson(double) {}
    template <class T>
    SIGLIN_INLINE LossParts<T> parts(Vec<T> z, Vec<T> t, Vec<T> scale) const {
        const Vec<T> zero = {};
        const Vec<T> a = exp_any<T>(z);
        const Vec<T> finite = smaller(broadcast(ExpConstants<T>::kLimit), z);
        const Vec<T> product = select<T>(t == zero, zero, t * finite);
        return {(a - t) - product, scale * (a - t)};
    }
};

// (a - t)^2 / 2 up to |a - t| = delta, from there on the straight line that goes on
// from it (Huber 1964): with r, the difference within [-delta, delta], r (a - t) - r^2
// / 2.
struct huber {
    explicit huber(double number) : delta(number) {}
    template <class T>
    SIGLIN_INLINE LossParts<T> parts(Vec<T> a, Vec<T> t, Vec<T> scale) const {
        const Vec<T> most = broadcast(static_cast<T>(delta));
        const Vec<T> difference = a - t;
        // NaN stays: the second operand of a comparison that fails.
        const Vec<T> r = larger<T>(-most, smaller(most, difference));
        return {r * (difference - broadcast(T(0.5)) * r), scale * r};
    }
    double delta;
};

// q (t - a) where t is above a, (1 - q) (a - t) elsewhere (Koenker and Bassett 1978);
// at t the gradient is 0.
struct quantile {
    explicit quantile(double number) : q(number) {}
    template <class T>
    SIGLIN_INLINE LossParts<T> parts(Vec<T> a, Vec<T> t, Vec<T> scale) const {
        const Vec<T> zero = {};
        const Vec<T> difference = a - t;
        const Vec<T> above = broadcast(static_cast<T>(1 - q));
        const Vec<T> below = broadcast(static_cast<T>(-q));
        // NaN stays, times 0.
        const Vec<T> slope =
            select<T>(difference > zero, above,
                      select<T>(difference < zero, below, difference * zero));
        return {slope * difference, scale * slope};
    }
    double q;
};

}  // namespace loss

// visit(the loss's struct), of all but cross_entropy.
template <class Visit>
SIGLIN_INLINE void with_loss(const LossChoice& choice, Visit visit) {
    switch (choice.kind) {
#define SIGLIN_ROW_LOSS(name, from_logits) \
    case Loss::name:                       \
        break;
#define SIGLIN_LOSS(name, from_logits)    \
    case Loss::name:                      \
        visit(loss::name(choice.number)); \
        break;
#include "../losses.inc"
    }
}

// What each output adds to a loss lies between these where probabilities are clipped.
template <class T>
struct LossLimits {
    T least;
    T most;

    explicit LossLimits(bool clips)
        : least(static_cast<T>(clips ? -__builtin_log(1 - kEps) : -__builtin_inf())),
          most(static_cast<T>(clips ? -__builtin_log(kEps) : __builtin_inf())) {}

    SIGLIN_INLINE Vec<T> apply(Vec<T> loss) const {
        const Vec<T> low = broadcast(least);
        const Vec<T> high = broadcast(most);
        const Vec<T> floored = select<T>(loss < low, low, loss);
        return select<T>(floored > high, high, floored);  // NaN stays
    }

  private:
    static constexpr double kEps = sizeof(T) == 4 ? 0x1p-23 : 0x1p-52;
};

// Weights of outputs, 1 or others: what wraps a loss. weight_at(i, lanes): those of the
// outputs from i on.
template <class T, class WeightAt>
struct Weights {
    T scale;
    LossLimits<T> limits;
    WeightAt weight_at;

    // A weight times the scale is at most 1; the scale alone may be large.
    SIGLIN_INLINE Vec<T> scale_at(index_t i, auto lanes) const {
        return weight_at(i, lanes) * broadcast(scale);
    }
    // 0 times an infinite loss is 0.
    SIGLIN_INLINE Vec<T> weighted(Vec<T> loss, index_t i, auto lanes) const {
        const Vec<T> zero = {};
        const Vec<T> w = weight_at(i, lanes);
        return select<T>(w == zero, zero, w * limits.apply(loss));
    }
};
template <class T, class WeightAt>
Weights(T, LossLimits<T>, WeightAt) -> Weights<T, WeightAt>;

// The summed loss of the n outputs from `at` on, in the order of the vector lanes.
template <class F, class T, class W>
SIGLIN_INLINE double loss_of_run(F loss, const LossArgs<T>& args, index_t at, index_t n,
                                 const W& weights) {
    T* const z = args.z + at;
    const T* const t = args.t + at;
    const bool bends = args.derivative != nullptr && !from_logits(args.loss.kind);
    const T* const derivative = bends ? args.derivative + at : nullptr;
    Vec<T> total = {};
    for_each_block<T>(n, [&](index_t i, auto lanes) SIGLIN_LAMBDA_INLINE {
        const LossParts<T> parts = loss.template parts<T>(
            load(z + i, lanes), load(t + i, lanes), weights.scale_at(i, lanes));
        total += keep<T>(weights.weighted(parts.loss, i, lanes), lanes);
        if (args.want_gradient) {
            store(z + i,
                  derivative == nullptr ? parts.dz
                                        : parts.dz * load(derivative + i, lanes),
                  lanes);
        }
    });
    return static_cast<double>(sum<T>(total));
}

// The same of all rows, whatever their weights are.
template <class F, class T>
double loss_of_rows(F loss, const LossArgs<T>& args) {
    const index_t n = args.rows * args.cols;
    const LossLimits<T> limits(args.clips);
    // All outputs together where each has a weight of its own, or none; else row by
    // row.
    const T* const each = args.cols == 1 ? args.weights : nullptr;
    const bool by_rows = args.weights != nullptr && each == nullptr;
    const index_t run = by_rows ? args.cols : n;
    double total = 0;
    for (index_t at = 0; at < n; at += run) {
        const Vec<T> same = broadcast(by_rows ? args.weights[at / run] : T(1));
        const Weights weights{args.scale, limits,
                              [&](index_t i, auto lanes) SIGLIN_LAMBDA_INLINE {
                                  return each == nullptr ? same : load(each + i, lanes);
                              }};
        total += loss_of_run(loss, args, at, run, weights);
    }
    return total;
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
    double total = 0;
    if (args.loss.kind != Loss::cross_entropy) {
        with_loss(args.loss, [&](auto loss) {
            total = loss_of_rows<decltype(loss), T>(loss, args);
        });
        return total;
    }
    const LossLimits<T> limits(args.clips);
    const auto least = static_cast<double>(limits.least);
    const auto most = static_cast<double>(limits.most);
    for_each_cross_entropy<T>(
        args.z, args.t, args.rows, args.cols,
        [&](index_t row, auto lanes) SIGLIN_LAMBDA_INLINE {
            const Vec<T> scale = broadcast(args.scale);
            return args.weights == nullptr ? scale
                                           : scale * load(args.weights + row, lanes);
        },
        [&](index_t row, double loss) {
            loss = loss < least ? least : loss > most ? most : loss;
            const double weight =
                args.weights == nullptr ? 1 : static_cast<double>(args.weights[row]);
            total += weight == 0 ? 0 : weight * loss;
        });
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
