// A block of rows through a whole network of narrow layers: forward, loss and gradient.
//
// As matrix products with the vectors along n_out, layers of 1, 4 or 16 outputs leave
// most lanes empty and spend their time on the edges of tiles. Here everything is
// stored by columns, feature i of row r at i * stride + r, and the vectors run along
// the rows: all lanes are full whatever the sizes, and weights are broadcast from where
// they lie.
//
// Forward and the input gradient are the chains of gemm.h, the same bits. The sums over
// rows (dw, db, loss) are kNarrowLanes chains, of the rows equal modulo kNarrowLanes,
// added by halves: the same order whatever the vector width.
#pragma once

#include "../kernel_table.h"
#include "dropout.h"
#include "loss.h"
#include "neuron.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// visit(Count<n>{}), 1 <= n <= kMost.
template <int kMost, class Visit>
SIGLIN_INLINE void with_count(index_t n, Visit visit) {
    if constexpr (kMost > 1) {
        if (n < kMost) {
            with_count<kMost - 1>(n, visit);
            return;
        }
    }
    visit(Count<kMost>{});
}

// body(begin, Count<size>{}) for 0 ... n in pieces of at most kMost, as equal as can
// be.
template <int kMost, class Body>
SIGLIN_INLINE void in_pieces(index_t n, Body body) {
    index_t begin = 0;
    for (index_t pieces = (n + kMost - 1) / kMost; pieces > 0; --pieces) {
        const index_t size = (n - begin + pieces - 1) / pieces;
        with_count<kMost>(size,
                          [&](auto count) SIGLIN_LAMBDA_INLINE { body(begin, count); });
        begin += size;
    }
}

// Vectors of one kind of sum over rows: kNarrowLanes lanes.
inline constexpr int kGroups = 64 / kVecBytes;

// As the sum of neuron.h, whose other lanes stay zero.
template <class T>
SIGLIN_INLINE Wide<T> widen(const Vec<T> (&groups)[kGroups]) {
    Wide<T> wide;
    clear(wide);
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) {
        wide.v[g] = groups[g];
    }
    return wide;
}

inline constexpr bool kManyRegisters = kTileRows > 6;  // 32, else 16

// to[f, r] = (bias[f] + sum over p of w[f, p] * from[p, r]) * factor[f, r], the sum a
// chain in order. Forward: w[f, p] is w[p * n_out + f]; input gradient: w[f * n_out +
// p].
template <class T>
struct FeatureArgs {
    const T* w;  // w[f * w_row + p * w_step]
    index_t w_row;
    index_t w_step;
    index_t features;
    index_t k;
    const T* from;
    const T* bias;    // null: 0
    const T* factor;  // null: 1; may be `to`
    T* to;
    index_t stride;  // of from, factor and to; and the number of r
};

template <int kFeatures, int kVecs, class T>
SIGLIN_INLINE void feature_tile(const FeatureArgs<T>& args, index_t f, index_t r) {
    constexpr int L = kLanes<T>;
    const Vec<T> zero = {};
    Vec<T> acc[kFeatures][kVecs];
#pragma GCC unroll 16
    for (int i = 0; i < kFeatures; ++i) {
        const Vec<T> start = args.bias == nullptr ? zero : broadcast(args.bias[f + i]);
#pragma GCC unroll 16
        for (int v = 0; v < kVecs; ++v) {
            acc[i][v] = start;
        }
    }
    const T* w = args.w + f * args.w_row;
    const T* from = args.from + r;
    const index_t w_row = args.w_row;
    const index_t w_step = args.w_step;
    const index_t stride = args.stride;
#pragma GCC unroll 1
    for (index_t p = args.k; p > 0; --p) {
        Vec<T> x[kVecs];
#pragma GCC unroll 16
        for (int v = 0; v < kVecs; ++v) {
            x[v] = load(from + v * L);
        }
#pragma GCC unroll 16
        for (int i = 0; i < kFeatures; ++i) {
            const Vec<T> wi = broadcast(w[i * w_row]);
#pragma GCC unroll 16
            for (int v = 0; v < kVecs; ++v) {
                acc[i][v] = fma(x[v], wi, acc[i][v]);
            }
        }
        w += w_step;
        from += stride;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kFeatures; ++i) {
        const index_t at = (f + i) * stride + r;
#pragma GCC unroll 16
        for (int v = 0; v < kVecs; ++v) {
            Vec<T> value = acc[i][v];
            if (args.factor != nullptr) {
                value *= load(args.factor + at + v * L);
            }
            store(args.to + at + v * L, value);
        }
    }
}

// All rows of kFeatures features: kVecs vectors at a time, then half as many, ...
template <int kFeatures, int kVecs, class T>
SIGLIN_INLINE void feature_rows(const FeatureArgs<T>& args, index_t f, index_t r) {
    for (; r + kVecs * kLanes<T> <= args.stride; r += kVecs * kLanes<T>) {
        feature_tile<kFeatures, kVecs>(args, f, r);
    }
    if constexpr (kVecs > 1) {
        feature_rows<kFeatures, kVecs / 2>(args, f, r);
    }
}

template <int kFeatures, class T>
void features(const FeatureArgs<T>& args, index_t f) {
    // 8 or more chains hide the latency of the multiply-add; 12 accumulators, 2 vectors
    // and a broadcast fill 16 registers.
    constexpr int kVecs = kFeatures == 1 ? 8 : kFeatures <= 3 || kManyRegisters ? 4 : 2;
    feature_rows<kFeatures, kVecs>(args, f, 0);
}

template <class T>
void feature_product(const FeatureArgs<T>& args) {
    in_pieces<6>(args.features, [&](index_t f, auto count) SIGLIN_LAMBDA_INLINE {
        features<decltype(count)::value>(args, f);
    });
}

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
                total[g] += keep_rows<T>(
                    weights.weighted(parts.loss, at, AllLanes{}), left);
                const Vec<T> dz = derivative == nullptr
                                      ? parts.dz
                                      : parts.dz * load(derivative + at);
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
    if (args.weights != nullptr || args.clips) {
        const Weights each{args.scale, LossLimits<T>(args.clips),
                           [&](index_t at, auto) SIGLIN_LAMBDA_INLINE {
                               return args.weights == nullptr ? broadcast(T(1))
                                                              : load(args.weights + at);
                           }};
        return any_block(args, each);
    }
    if (args.loss.kind == Loss::bce) {
        return bce_block(args, kept);
    }
    return any_block(args, NoWeights<T>{args.scale});
}

// out[i] (+)= the sum over the lanes of wide sum i, which is the vectors groups[g][i].
template <int kCount, class T, class Out>
SIGLIN_INLINE void store_sums(Vec<T> (&groups)[kGroups][kCount], bool accumulate,
                              Out out) {
    constexpr int L = kLanes<T>;
#pragma GCC unroll 8
    for (int width = kGroups / 2; width > 0; width /= 2) {
#pragma GCC unroll 8
        for (int g = 0; g < width; ++g) {
#pragma GCC unroll 32
            for (int i = 0; i < kCount; ++i) {
                groups[g][i] += groups[g + width][i];
            }
        }
    }
#pragma GCC unroll 16
    for (int begin = 0; begin < kCount; begin += L) {
        Vec<T> v[L];
#pragma GCC unroll 16
        for (int i = 0; i < L; ++i) {
            v[i] = groups[0][begin + i < kCount ? begin + i : begin];
        }
        const Vec<T> total = sums<T>(v);
#pragma GCC unroll 16
        for (int i = 0; i < L; ++i) {
            if (begin + i < kCount) {
                T* to = out(begin + i);
                *to = accumulate ? *to + total[i] : total[i];
            }
        }
    }
}

// dw[i, j] (+)= sum over the rows of x[i, r] * dz[j, r].
template <class T>
struct WeightArgs {
    const T* x;
    index_t n_in;
    const T* dz;
    index_t n_out;
    T* dw;
    T* db;  // null: not wanted
    index_t stride;
    bool accumulate;
};

template <int kIn, int kOut, class T>
void weight_tile(const WeightArgs<T>& args, index_t i, index_t j) {
    constexpr int L = kLanes<T>;
    const index_t stride = args.stride;
    Vec<T> groups[kGroups][kIn * kOut];
#pragma GCC unroll 1
    for (int g = 0; g < kGroups; ++g) {
        const T* x = args.x + i * stride + g * L;
        const T* dz = args.dz + j * stride + g * L;
        Vec<T> acc[kIn * kOut] = {};
#pragma GCC unroll 1
        for (index_t r = 0; r < stride;
             r += kNarrowLanes<T>, x += kNarrowLanes<T>, dz += kNarrowLanes<T>) {
            Vec<T> d[kOut];
#pragma GCC unroll 16
            for (int b = 0; b < kOut; ++b) {
                d[b] = load(dz + b * stride);
            }
#pragma GCC unroll 16
            for (int a = 0; a < kIn; ++a) {
                const Vec<T> xa = load(x + a * stride);
#pragma GCC unroll 16
                for (int b = 0; b < kOut; ++b) {
                    acc[a * kOut + b] = fma(xa, d[b], acc[a * kOut + b]);
                }
            }
        }
#pragma GCC unroll 32
        for (int c = 0; c < kIn * kOut; ++c) {
            groups[g][c] = acc[c];
        }
    }
    store_sums<kIn * kOut, T>(groups, args.accumulate, [&](int c) SIGLIN_LAMBDA_INLINE {
        return args.dw + (i + c / kOut) * args.n_out + j + c % kOut;
    });
}

template <int kOut, class T>
void bias_tile(const WeightArgs<T>& args, index_t j) {
    constexpr int L = kLanes<T>;
    Vec<T> groups[kGroups][kOut];
#pragma GCC unroll 1
    for (int g = 0; g < kGroups; ++g) {
        const T* dz = args.dz + j * args.stride + g * L;
        Vec<T> acc[kOut] = {};
#pragma GCC unroll 1
        for (index_t r = 0; r < args.stride;
             r += kNarrowLanes<T>, dz += kNarrowLanes<T>) {
#pragma GCC unroll 16
            for (int b = 0; b < kOut; ++b) {
                acc[b] += load(dz + b * args.stride);
            }
        }
#pragma GCC unroll 16
        for (int b = 0; b < kOut; ++b) {
            groups[g][b] = acc[b];
        }
    }
    store_sums<kOut, T>(groups, args.accumulate,
                        [&](int c) SIGLIN_LAMBDA_INLINE { return args.db + j + c; });
}

template <class T>
void weight_gradient_of_many_rows(const WeightArgs<T>& args) {
    // 12 accumulators of 16 registers, 24 of 32; few outputs leave room for more
    // inputs.
    constexpr int kMostOut = kManyRegisters ? 4 : 3;
    in_pieces<kMostOut>(args.n_out, [&](index_t j, auto outs) SIGLIN_LAMBDA_INLINE {
        constexpr int kOut = decltype(outs)::value;
        constexpr int kIn = kOut == 1 ? 8 : kManyRegisters || kOut == 2 ? 6 : 4;
        in_pieces<kIn>(args.n_in, [&](index_t i, auto ins) SIGLIN_LAMBDA_INLINE {
            weight_tile<decltype(ins)::value, kOut>(args, i, j);
        });
    });
}

// by_rows[r, f] = columns[f, r], 0 in the features up to `padded`, a multiple of
// kLanes.
template <class T>
void to_rows(const T* columns, index_t features, index_t stride, index_t padded,
             T* by_rows) {
    constexpr index_t L = kLanes<T>;
    const Vec<T> zero = {};
    for (index_t f = 0; f < padded; f += L) {
        for (index_t r = 0; r < stride; r += L) {
            Vec<T> v[L];
#pragma GCC unroll 16
            for (int i = 0; i < L; ++i) {
                v[i] = f + i < features ? load(columns + (f + i) * stride + r) : zero;
            }
            transpose<T>(v);
#pragma GCC unroll 16
            for (int i = 0; i < L; ++i) {
                store(by_rows + (r + i) * padded + f, v[i]);
            }
        }
    }
}

// Few rows repay no sums over lanes: then x or dz is turned back into rows, the vectors
// run along its features, and each weight is one chain over the rows.
inline bool along_outputs(index_t n_in, index_t n_out) {
    return n_out >= 16 || n_out >= n_in;
}

// Turning costs about as much as 8 multiply-adds for each of its vectors, the sums as
// much as `rows` / 8 for each weight.
inline bool has_few_rows(index_t n_in, index_t n_out, index_t rows) {
    const bool outputs = along_outputs(n_in, n_out);
    return (outputs ? n_out : n_in) >= 16 && 8 * (outputs ? n_in : n_out) >= rows;
}

template <class T>
void weight_gradient_of_few_rows(const WeightArgs<T>& args, T* space) {
    constexpr index_t L = kLanes<T>;
    const bool outputs = along_outputs(args.n_in, args.n_out);
    const index_t lanes = outputs ? args.n_out : args.n_in;
    const index_t padded = (lanes + L - 1) / L * L;
    T* by_rows = space;
    T* product = space + args.stride * padded;
    to_rows(outputs ? args.dz : args.x, lanes, args.stride, padded, by_rows);
    feature_product<T>({outputs ? args.x : args.dz, args.stride, 1,
                        outputs ? args.n_in : args.n_out, args.stride, by_rows, nullptr,
                        nullptr, product, padded});
    for (index_t i = 0; i < args.n_in; ++i) {
        T* dw = args.dw + i * args.n_out;
        if (outputs) {
            for_each_block<T>(args.n_out, [&](index_t j, auto left) {
                Vec<T> sum = load(product + i * padded + j, left);
                if (args.accumulate) {
                    sum = load(dw + j, left) + sum;
                }
                store(dw + j, sum, left);
            });
        } else {
            for (index_t j = 0; j < args.n_out; ++j) {
                const T sum = product[j * padded + i];
                dw[j] = args.accumulate ? dw[j] + sum : sum;
            }
        }
    }
}

template <class T>
void weight_gradient_block(const WeightArgs<T>& args, T* space) {
    if (has_few_rows(args.n_in, args.n_out, args.stride)) {
        weight_gradient_of_few_rows(args, space);
    } else {
        weight_gradient_of_many_rows(args);
    }
    if (args.db != nullptr) {
        in_pieces<8>(args.n_out, [&](index_t j, auto count) SIGLIN_LAMBDA_INLINE {
            bias_tile<decltype(count)::value>(args, j);
        });
    }
}

// The contract is ColumnsArgs'.
template <class T>
void to_columns(const ColumnsArgs<T>& args) {
    constexpr index_t L = kLanes<T>;
    const MatrixView<const T>& from = args.from;
    const index_t padded =
        (args.rows + kNarrowLanes<T> - 1) / kNarrowLanes<T> * kNarrowLanes<T>;
    const index_t whole = from.cols / L * L;
    for (index_t begin = 0; begin < padded; begin += L) {
        const T* row[L] = {};
        const index_t count = args.rows - begin < L ? args.rows - begin : L;
        for (index_t r = 0; r < count; ++r) {
            const index_t at = begin + r;
            row[r] =
                from.data + (args.order == nullptr ? at : args.order[at]) * from.stride;
        }
        T* to = args.to + begin;
        if (count < L) {
            for (index_t j = 0; j < from.cols; ++j) {
                for (index_t r = 0; r < L; ++r) {
                    to[j * args.stride + r] = r < count ? row[r][j] : T(0);
                }
            }
            continue;
        }
        for (index_t j = 0; j < whole; j += L) {
            Vec<T> v[L];
#pragma GCC unroll 16
            for (int r = 0; r < L; ++r) {
                v[r] = load(row[r] + j);
            }
            transpose<T>(v);
#pragma GCC unroll 16
            for (int c = 0; c < L; ++c) {
                store(to + (j + c) * args.stride, v[c]);
            }
        }
        for (index_t j = whole; j < from.cols; ++j) {
            for (index_t r = 0; r < L; ++r) {
                to[j * args.stride + r] = row[r][j];
            }
        }
    }
}

// The contract is NarrowArgs'.
template <class T>
double narrow_loss_gradient(const NarrowArgs<T>& args) {
    const RowLayer* layers = args.layers;
    const index_t last = args.count - 1;
    const index_t stride = args.stride;
    const T* input = args.x;
    // Per layer: outputs, then derivatives, which become dz.
    T* kept = args.scratch;
    T* a = args.scratch + 3 * kStrip * kNarrowLanes<T>;
    for (index_t l = 0; l <= last; ++l) {
        const RowLayer& layer = layers[l];
        const T* bias = layer.b >= 0 ? args.params + layer.b : nullptr;
        feature_product<T>({args.params + layer.w, 1, layer.n_out, layer.n_out,
                            layer.n_in, input, bias, nullptr, a, stride});
        const index_t n = layer.n_out * stride;
        if (l < last || !from_logits(args.loss.kind)) {
            activate_block(layer.activation, a, a + n, n, kept);
        }
        if (l < last && args.drops.probability > 0) {
            drop_out_columns<T>({args.drops, l, args.rows, layer.n_out, a, a + n,
                                 layer.activation == Activation::identity},
                                stride, reinterpret_cast<std::uint32_t*>(a + 2 * n));
        }
        input = a;
        a += 2 * n;
    }
    T* out = a - 2 * layers[last].n_out * stride;
    const bool plain = from_logits(args.loss.kind) ||
                       layers[last].activation == Activation::identity;
    const double loss = block_loss<T>(
        {args.loss, out, plain ? nullptr : out + layers[last].n_out * stride, args.t,
         layers[last].n_out, stride, args.rows, args.scale, args.weights, args.clips},
        kept);
    T* dz = out;
    for (index_t l = last; l >= 0; --l) {
        const RowLayer& layer = layers[l];
        const T* x = l == 0 ? args.x : out - 2 * layer.n_in * stride;
        weight_gradient_block<T>(
            {x, layer.n_in, dz, layer.n_out, args.grads + layer.w,
             layer.b >= 0 ? args.grads + layer.b : nullptr, stride, args.accumulate},
            a);
        if (l > 0) {
            out -= 2 * layer.n_in * stride;
            T* derivative = out + layer.n_in * stride;
            const bool is_linear = layers[l - 1].activation == Activation::identity &&
                                   args.drops.probability == 0;
            feature_product<T>({args.params + layer.w, layer.n_out, 1, layer.n_in,
                                layer.n_out, dz, nullptr,
                                is_linear ? nullptr : derivative, derivative, stride});
            dz = derivative;
        }
    }
    return loss;
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
