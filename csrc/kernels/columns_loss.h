// What is not a product in a block by columns: activations and losses.
#pragma once

#include "columns_products.h"
#include "loss.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// a becomes f(a) and derivative f'(a), beyond the reach of f's steps what they are at
// its end; n is a multiple of kLanes. kept: 3 kStrip vectors.
template <class F, class T>
void activate_strips(T* a, T* derivative, index_t n, T* kept) {
    constexpr index_t kLength = kStrip * kLanes<T>;
    for (; n > 0; n -= kLength, a += kLength, derivative += kLength) {
        const index_t length = n < kLength ? n : kLength;
        pipeline<F>(a, length / kLanes<T>, kept,
                    [&](index_t i, const auto& both, auto lanes) SIGLIN_LAMBDA_INLINE {
                        store(a + i, both.value, lanes);
                        store(derivative + i, both.derivative, lanes);
                    });
    }
}

template <class T>
void activate_block(Activation f, T* a, T* derivative, index_t n, T* kept) {
    with_activation(f, [&](auto activation) {
        using F = decltype(activation);
        if constexpr (requires { typename F::template Steps<T>; }) {
            activate_strips<F>(a, derivative, n, kept);
        } else if (f != Activation::identity) {
            activate<T>(f, a, a, derivative, n);
        }
    });
}

// The loss of the rows that exist; z (where the loss starts from them, the outputs)
// becomes dz, 0 past the rows.
template <class T>
struct BlockLoss {
    LossChoice loss;
    T* z;
    const T* derivative;  // of outputs; null: 1
    const T* t;
    index_t features;
    index_t stride;
    index_t rows;
    T scale;
    const T* weights;  // of the rows; null: 1
    bool clips;
};

// v in the first `rows` lanes, 0 past them; rows may be any number.
template <class T>
SIGLIN_INLINE Vec<T> keep_rows(Vec<T> v, index_t rows) {
    return rows >= kLanes<T> ? v : keep<T>(v, first_lanes<T>(rows > 0 ? rows : 0));
}

// Steps of the bce loss and its gradient at one output, for in_steps.
template <class T>
struct BceSteps {
    Vec<T> a;
    Vec<T> b;
    Vec<T> scale;

    // exp(-|z|) = scale * exp(-(a + b))
    SIGLIN_INLINE void first(Vec<T> z) {
        const ReducedArgument<T> e = reduced_argument<T, Tail::flush>(magnitude<T>(z));
        a = e.r;
        b = e.r_low;
        scale = e.scale1;
    }
    SIGLIN_INLINE void second() { b = exp_tail<T>(a, b); }
    SIGLIN_INLINE void third() {}
    SIGLIN_INLINE SigmoidParts<T> last() const {
        return sigmoid_parts<T>({a, b, scale, broadcast(T(1))});
    }
};

template <class T>
double bce_block(const BlockLoss<T>& args, T* kept) {
    constexpr index_t L = kLanes<T>;
    // As many rows on every target: a strip of its narrowest vectors.
    constexpr index_t kRows = kStrip * 16 / static_cast<index_t>(sizeof(T));
    constexpr index_t kMost = kRows / L;
    static_assert(kRows <= kProductRows);
    const Vec<T> zero = {};
    Vec<T> total[kGroups] = {};
    // Products of 1 + exp(-|z|), as in neuron.h, over as many outputs as there is room
    // for: ten logarithms of 64-32-10 would be 3 % of its step.
    Vec<T> product[kGroups] = {};
    index_t factors = 0;
    double logarithms = 0;
    for (index_t f = 0; f < args.features; ++f) {
        for (index_t begin = 0; begin < args.stride; begin += kMost * L) {
            T* z = args.z + f * args.stride + begin;
            const T* t = args.t + f * args.stride + begin;
            const index_t left = (args.stride - begin) / L;
            const index_t count = left < kMost ? left : kMost;
            if (factors + count * L > kProductRows) {
                logarithms += log_of_products(widen<T>(product));
                for (auto& q : product) {
                    q = zero;
                }
                factors = 0;
            }
            factors += count * L;
            in_steps(count, [&](index_t i, auto step) SIGLIN_LAMBDA_INLINE {
                constexpr int kStep = decltype(step)::value;
                BceSteps<T> steps = load_steps<BceSteps<T>>(kept, i);
                if constexpr (kStep == 0) {
                    steps.first(load(z + i * L));
                    store_steps(kept, i, steps);
                } else if constexpr (kStep == 1) {
                    steps.second();
                    store_steps(kept, i, steps);
                } else if constexpr (kStep == 3) {
                    const SigmoidParts<T> parts = steps.last();
                    const Vec<T> zi = load(z + i * L);
                    const Vec<T> ti = load(t + i * L);
                    const index_t rows = args.rows - begin - i * L;
                    const Vec<T> exp = keep_rows<T>(parts.exp, rows);
                    const Vec<T> far = bce_far<T>(zi, ti);
                    const Vec<T> dz = broadcast(args.scale) *
                                      bce_gradient<T>(zi, far, parts.scaled_lower());
                    store(z + i * L, keep_rows<T>(dz, rows));
                    total[static_cast<std::size_t>(i) % kGroups] -=
                        keep_rows<T>(bce_far_loss<T>(zi, far), rows);
                    Vec<T>& q = product[static_cast<std::size_t>(i) % kGroups];
                    q = fma(q, exp, q) + exp;
                }
            });
        }
    }
    logarithms += log_of_products(widen<T>(product));
    return static_cast<double>(sum(widen<T>(total))) + logarithms;
}

// body(at, g, r, left) for each vector of rows of a feature: it is vector g of its wide
// one, and `left` rows of it and beyond exist.
template <class T, class Body>
SIGLIN_INLINE void for_each_vector(index_t stride, index_t rows, Body body) {
    for (index_t r = 0; r < stride; r += kNarrowLanes<T>) {
#pragma GCC unroll 8
        for (index_t g = 0; g < kGroups; ++g) {
            const index_t at = r + g * kLanes<T>;
            body(at, static_cast<std::size_t>(g), rows - at);
        }
    }
}

template <class F, class T, class W>
SIGLIN_INLINE double elementwise_block(F loss, const BlockLoss<T>& args,
                                       const W& weights) {
    Vec<T> total[kGroups] = {};
    for (index_t f = 0; f < args.features; ++f) {
        T* const z = args.z + f * args.stride;
        const T* const t = args.t + f * args.stride;
        const T* const derivative =
            args.derivative == nullptr ? nullptr : args.derivative + f * args.stride;
        for_each_vector<T>(
            args.stride, args.rows,
            [&](index_t at, std::size_t g, index_t left) SIGLIN_LAMBDA_INLINE {
                const LossParts<T> parts = loss.template parts<T>(
                    load(z + at), load(t + at), weights.scale_at(at, AllLanes{}));
                total[g] +=
                    keep_rows<T>(weights.weighted(parts.loss, at, AllLanes{}), left);
                const Vec<T> dz =
                    derivative == nullptr ? parts.dz : parts.dz * load(derivative + at);
                store(z + at, keep_rows<T>(dz, left));
            });
    }
    return static_cast<double>(sum(widen<T>(total)));
}

// A class is a row of vectors: a softmax needs no transposes.
template <class T, class W>
SIGLIN_INLINE double cross_entropy_block(const BlockLoss<T>& args, const W& weights) {
    Vec<T> total[kGroups] = {};
    for_each_vector<T>(
        args.stride, args.rows,
        [&](index_t at, std::size_t g, index_t left) SIGLIN_LAMBDA_INLINE {
            const Vec<T> loss = cross_entropy_lanes<T>(
                {args.z + at, args.stride}, {args.t + at, args.stride}, args.features,
                weights.scale_at(at, AllLanes{}));
            total[g] += keep_rows<T>(weights.weighted(loss, at, AllLanes{}), left);
        });
    const index_t past = args.stride - args.rows;
    for (index_t c = 0; past > 0 && c < args.features; ++c) {
        for (index_t r = args.rows; r < args.stride; ++r) {
            args.z[c * args.stride + r] = T(0);
        }
    }
    return static_cast<double>(sum(widen<T>(total)));
}

template <class T, class W>
double any_block(const BlockLoss<T>& args, const W& weights) {
    double total = 0;
    if (args.loss.kind == Loss::cross_entropy) {
        return cross_entropy_block(args, weights);
    }
    with_loss(args.loss, [&](auto loss) SIGLIN_LAMBDA_INLINE {
        total = elementwise_block(loss, args, weights);
    });
    return total;
}

template <class T>
double block_loss(const BlockLoss<T>& args, T* kept) {
    if (args.loss.kind == Loss::bce && args.weights == nullptr && !args.clips) {
        return bce_block(args, kept);
    }
    const Weights each{args.scale, LossLimits<T>(args.clips),
                       [&](index_t at, auto) SIGLIN_LAMBDA_INLINE {
                           return args.weights == nullptr ? broadcast(T(1))
                                                          : load(args.weights + at);
                       }};
    return any_block(args, each);
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
