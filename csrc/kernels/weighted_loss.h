// Losses whose rows have weights, and the penalties on weights.
#pragma once

#include "../kernel_table.h"
#include "loss.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// What each row adds to a loss lies between these where probabilities are clipped.
template <class T>
struct LossLimits {
    T least;
    T most;

    SIGLIN_INLINE Vec<T> apply(Vec<T> loss) const {
        const Vec<T> low = broadcast(least);
        const Vec<T> high = broadcast(most);
        const Vec<T> floored = select<T>(loss < low, low, loss);
        return select<T>(floored > high, high, floored);  // NaN stays
    }
};

template <class T>
LossLimits<T> loss_limits(bool clips) {
    if (!clips) {
        return {static_cast<T>(-__builtin_inf()), static_cast<T>(__builtin_inf())};
    }
    constexpr double kEps = sizeof(T) == 4 ? 0x1p-23 : 0x1p-52;
    return {static_cast<T>(-__builtin_log(1 - kEps)),
            static_cast<T>(-__builtin_log(kEps))};
}

// The weighted loss of n outputs from `at` on. weight(i, lanes): the weights of the
// outputs at + i.
template <class T, class Weight>
SIGLIN_INLINE double weighted_run(const LossArgs<T>& args, const LossLimits<T>& limits,
                                  index_t at, index_t n, Weight weight) {
    T* const z = args.z + at;
    const T* const t = args.t + at;
    const T* const derivative =
        args.derivative == nullptr ? nullptr : args.derivative + at;
    Vec<T> total = {};
    const Vec<T> zero = {};
    const auto each = [&](auto parts_of) SIGLIN_LAMBDA_INLINE {
        for_each_block<T>(n, [&](index_t i, auto lanes) {
            // A weight times the scale is at most 1; the scale alone may be large.
            const Vec<T> w = weight(i, lanes);
            const LossParts<T> parts = parts_of(load(z + i, lanes), load(t + i, lanes),
                                                w * broadcast(args.scale), i, lanes);
            const Vec<T> loss = limits.apply(parts.loss);
            // 0 times an infinite loss is 0.
            total += keep<T>(select<T>(w == zero, zero, w * loss), lanes);
            if (args.want_gradient) {
                store(z + i, parts.dz, lanes);
            }
        });
    };
    switch (args.loss) {
        case Loss::bce:
            each([&](Vec<T> logit, Vec<T> target, Vec<T> scale, index_t, auto)
                     SIGLIN_LAMBDA_INLINE {
                         return bce_parts<T>(logit, target, scale);
                     });
            break;
        case Loss::poisson:
            each([&](Vec<T> log_a, Vec<T> target, Vec<T> scale, index_t, auto)
                     SIGLIN_LAMBDA_INLINE {
                         return poisson_parts<T>(log_a, target, scale);
                     });
            break;
        case Loss::squared_error:
            each([&](Vec<T> a, Vec<T> target, Vec<T> scale, index_t i,
                     auto lanes) SIGLIN_LAMBDA_INLINE {
                const Vec<T> difference = a - target;
                Vec<T> g = scale * difference;
                if (derivative != nullptr) {
                    g *= load(derivative + i, lanes);
                }
                return LossParts<T>{broadcast(T(0.5)) * (difference * difference), g};
            });
            break;
        case Loss::cross_entropy:
            break;  // goes row by row
    }
    return static_cast<double>(sum<T>(total));
}

// The contract is WeightedLossArgs'.
template <class T>
double weighted_loss_gradient(const WeightedLossArgs<T>& given) {
    const LossArgs<T>& args = given.plain;
    const T* const weights = given.weights;
    const LossLimits<T> limits = loss_limits<T>(given.clips);
    const auto weight_of = [&](index_t row) {
        return weights == nullptr ? T(1) : weights[row];
    };
    const index_t cols = args.cols;
    double total = 0;
    if (args.loss == Loss::cross_entropy) {
        const auto least = static_cast<double>(limits.least);
        const auto most = static_cast<double>(limits.most);
        for_each_cross_entropy<T>(
            args.z, args.t, args.rows, cols,
            [&](index_t row, auto lanes) SIGLIN_LAMBDA_INLINE {
                const Vec<T> scale = broadcast(args.scale);
                return weights == nullptr ? scale : scale * load(weights + row, lanes);
            },
            [&](index_t row, double loss) {
                loss = loss < least ? least : loss > most ? most : loss;
                const auto weight = static_cast<double>(weight_of(row));
                total += weight == 0 ? 0 : weight * loss;
            });
        return total;
    }
    if (weights == nullptr) {
        const auto ones = [](index_t, auto) { return broadcast(T(1)); };
        total = weighted_run<T>(args, limits, 0, args.rows * cols, ones);
    } else if (cols == 1) {
        const auto each = [&](index_t i, auto lanes) {
            return load(weights + i, lanes);
        };
        total = weighted_run<T>(args, limits, 0, args.rows, each);
    } else {
        for (index_t r = 0; r < args.rows; ++r) {
            const Vec<T> w = broadcast(weights[r]);
            const auto same = [w](index_t, auto) { return w; };
            total += weighted_run<T>(args, limits, r * cols, cols, same);
        }
    }
    return total;
}

// The contract is PenaltyArgs'. Summed in double by chunks: a float32 sum of many
// squares would lose digits that a comparison of losses wants.
template <class T>
double penalise(const PenaltyArgs<T>& given) {
    constexpr index_t kChunk = 1024;
    const PenaltyArgs<T> args = given;
    const Vec<T> zero = {};
    const Vec<T> l1 = broadcast(args.l1);
    const Vec<T> l2 = broadcast(args.l2);
    double squares = 0;
    double sizes = 0;
    for (index_t begin = 0; begin < args.n; begin += kChunk) {
        const index_t n = args.n - begin < kChunk ? args.n - begin : kChunk;
        Vec<T> square = {};
        Vec<T> size = {};
        for_each_block<T>(n, [&](index_t j, auto lanes) SIGLIN_LAMBDA_INLINE {
            const index_t i = begin + j;
            const Vec<T> w = load(args.w + i, lanes);
            const Vec<T> kept = keep<T>(w, lanes);
            square = fma(kept, kept, square);
            size += magnitude<T>(kept);
            if (args.grad != nullptr) {
                Vec<T> g = fma(l2, w, load(args.grad + i, lanes));
                if (args.l1 != 0) {
                    const Vec<T> sign =
                        select<T>(w > zero, l1, zero) - select<T>(w < zero, l1, zero);
                    g += sign;
                }
                store(args.grad + i, g, lanes);
            }
        });
        squares += static_cast<double>(sum<T>(square));
        sizes += static_cast<double>(sum<T>(size));
    }
    return static_cast<double>(args.l1) * sizes +
           0.5 * static_cast<double>(args.l2) * squares;
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
