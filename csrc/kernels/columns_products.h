// The products of layers by columns: forward and input gradient, feature by feature,
// and the weight gradient, sums over the rows.
#pragma once

#include "../kernel_table.h"
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

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
