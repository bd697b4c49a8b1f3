// A block of rows through a whole network of narrow layers: forward, loss and gradient.
//
// As matrix products with the vectors along n_out, layers of 1, 4 or 16 outputs leave
// most lanes empty and spend their time on the edges of tiles. Here everything is
// stored by columns, feature i of row r at i * stride + r, and the vectors run along
// the rows: all lanes are full whatever the sizes, and weights are broadcast from where
// they lie.
//
// Forward and the input gradient are the chains of gemm.h, the same bits. The sums over
// rows (dw, db, loss) are kNeuronLanes chains, of the rows equal modulo kNeuronLanes,
// added by halves: the same order whatever the vector width.
#pragma once

#include "../kernel_table.h"
#include "loss.h"
#include "neuron.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// A number that is known when compiling.
template <int kValue>
struct Count {
    static constexpr int value = kValue;
};

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
    index_t stride;
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

// The four steps of every vector i in [0, n), as a pipeline: while vector i is in the
// last step, those after it are in the others. A core has many units but looks at some
// 64 waiting instructions only, and one vector's chain of latencies has 50.
template <class Step>
SIGLIN_INLINE void in_steps(index_t n, Step step) {
    constexpr index_t D = 3;
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

template <class Steps, class T>
void activate_in_steps(T* a, T* derivative, index_t n) {
    constexpr index_t L = kLanes<T>;
    constexpr index_t kMost = 64;
    Steps steps[kMost];
    for (; n > 0; n -= kMost * L, a += kMost * L, derivative += kMost * L) {
        const index_t count = n / L < kMost ? n / L : kMost;
        in_steps(count, [&](index_t i, auto step) SIGLIN_LAMBDA_INLINE {
            constexpr int kStep = decltype(step)::value;
            if constexpr (kStep == 0) {
                steps[i].first(load(a + i * L));
            } else if constexpr (kStep == 1) {
                steps[i].second();
            } else if constexpr (kStep == 2) {
                steps[i].third();
            } else {
                const auto both = steps[i].last(load(a + i * L));
                store(a + i * L, both.value);
                store(derivative + i * L, both.derivative);
            }
        });
    }
}

// a becomes f(a) and derivative f'(a); n is a multiple of kLanes.
template <class T>
void activate_block(Activation f, T* a, T* derivative, index_t n) {
    switch (f) {
        case Activation::identity:
            break;
        case Activation::sigmoid:
            activate_in_steps<SigmoidSteps<T>>(a, derivative, n);
            break;
        case Activation::tanh:
            activate_in_steps<TanhSteps<T>>(a, derivative, n);
            break;
        default:
            activate<T>(f, a, a, derivative, n);
    }
}

// The loss of the rows that exist; z (for squared_error the outputs) becomes dz, 0 past
// the rows.
template <class T>
struct BlockLoss {
    T* z;
    const T* derivative;  // of squared_error; null: 1
    const T* t;
    index_t features;
    index_t stride;
    index_t rows;
    T scale;
};

// v in the rows that exist, 0 past the end, for vector i of a feature.
template <class T>
SIGLIN_INLINE Vec<T> keep_rows(Vec<T> v, index_t i, index_t rows) {
    const index_t left = rows - i * kLanes<T>;
    return left >= kLanes<T> ? v : keep<T>(v, first_lanes<T>(left > 0 ? left : 0));
}

template <class T>
double bce_block(const BlockLoss<T>& args) {
    constexpr index_t L = kLanes<T>;
    constexpr index_t kVecs = Wide<T>::kVecs;
    const Vec<T> zero = {};
    const index_t vecs = args.stride / L;
    Wide<T> total;
    Wide<T> product;
    clear(total);
    clear(product);
    double logarithms = 0;
    constexpr index_t kFactors = kProductRows / kNeuronLanes<T>;
    index_t factors_left = kFactors;
    for (index_t f = 0; f < args.features; ++f) {
        T* z = args.z + f * args.stride;
        const T* t = args.t + f * args.stride;
        for (index_t begin = 0; begin < vecs;) {
            const index_t wanted = factors_left * kVecs;
            const index_t count = vecs - begin < wanted ? vecs - begin : wanted;
            for (index_t i = 0; i < count; ++i) {
                const index_t at = begin + i;
                const Vec<T> zi = load(z + at * L);
                const Vec<T> ti = load(t + at * L);
                const SigmoidParts<T> parts =
                    sigmoid_parts<T>(reduced_exp<T, false>(magnitude<T>(zi)));
                const Vec<T> exp = keep_rows<T>(parts.exp, at, args.rows);
                const Vec<T> linear = fma(-ti, zi, select<T>(zi > zero, zi, zero));
                const Vec<T> dz = broadcast(args.scale) * (parts.value(zi) - ti);
                store(z + at * L, keep_rows<T>(dz, at, args.rows));
                Vec<T>& sum = total.v[at % kVecs];
                sum += keep_rows<T>(linear, at, args.rows);
                Vec<T>& q = product.v[at % kVecs];
                q = fma(q, exp, q) + exp;
            }
            begin += count;
            factors_left -= count / kVecs;
            if (factors_left == 0) {
                logarithms += log_of_products(product);
                clear(product);
                factors_left = kFactors;
            }
        }
    }
    logarithms += log_of_products(product);
    return static_cast<double>(sum(total)) + logarithms;
}

template <class T>
double squared_error_block(const BlockLoss<T>& args) {
    constexpr index_t L = kLanes<T>;
    constexpr index_t kVecs = Wide<T>::kVecs;
    const Vec<T> scale = broadcast(args.scale);
    Wide<T> total;
    clear(total);
    for (index_t f = 0; f < args.features; ++f) {
        for (index_t i = 0; i < args.stride / L; i += kVecs) {
#pragma GCC unroll 8
            for (index_t v = 0; v < kVecs; ++v) {
                const index_t at = f * args.stride + (i + v) * L;
                const Vec<T> difference = keep_rows<T>(
                    load(args.z + at) - load(args.t + at), i + v, args.rows);
                total.v[v] = fma(difference, difference, total.v[v]);
                Vec<T> dz = scale * difference;
                if (args.derivative != nullptr) {
                    dz *= load(args.derivative + at);
                }
                store(args.z + at, dz);
            }
        }
    }
    return 0.5 * static_cast<double>(sum(total));
}

// One vector for each group of lanes of a Wide.
template <class T>
inline constexpr int kGroups = Wide<T>::kVecs;

// out[i] (+)= the sum over the lanes of wide sum i, which is the vectors groups[g][i].
template <int kCount, class T, class Out>
SIGLIN_INLINE void store_sums(Vec<T> (&groups)[kGroups<T>][kCount], bool accumulate,
                              Out out) {
    constexpr int L = kLanes<T>;
#pragma GCC unroll 8
    for (int width = kGroups<T> / 2; width > 0; width /= 2) {
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
    Vec<T> groups[kGroups<T>][kIn * kOut];
#pragma GCC unroll 1
    for (int g = 0; g < kGroups<T>; ++g) {
        const T* x = args.x + i * stride + g * L;
        const T* dz = args.dz + j * stride + g * L;
        Vec<T> acc[kIn * kOut] = {};
#pragma GCC unroll 1
        for (index_t r = 0; r < stride;
             r += kNeuronLanes<T>, x += kNeuronLanes<T>, dz += kNeuronLanes<T>) {
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
    Vec<T> groups[kGroups<T>][kOut];
#pragma GCC unroll 1
    for (int g = 0; g < kGroups<T>; ++g) {
        const T* dz = args.dz + j * args.stride + g * L;
        Vec<T> acc[kOut] = {};
#pragma GCC unroll 1
        for (index_t r = 0; r < args.stride;
             r += kNeuronLanes<T>, dz += kNeuronLanes<T>) {
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
void weight_gradient_block(const WeightArgs<T>& args) {
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
        (args.rows + kNeuronLanes<T> - 1) / kNeuronLanes<T> * kNeuronLanes<T>;
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
    T* a = args.scratch;
    for (index_t l = 0; l <= last; ++l) {
        const RowLayer& layer = layers[l];
        const T* bias = layer.b >= 0 ? args.params + layer.b : nullptr;
        feature_product<T>({args.params + layer.w, 1, layer.n_out, layer.n_out,
                            layer.n_in, input, bias, nullptr, a, stride});
        const index_t n = layer.n_out * stride;
        if (l < last || args.loss == Loss::squared_error) {
            activate_block(layer.activation, a, a + n, n);
        }
        input = a;
        a += 2 * n;
    }
    T* out = a - 2 * layers[last].n_out * stride;
    const bool linear = layers[last].activation == Activation::identity;
    const BlockLoss<T> block = {
        out,       linear ? nullptr : out + layers[last].n_out * stride,
        args.t,    layers[last].n_out,
        stride,    args.rows,
        args.scale};
    const double loss =
        args.loss == Loss::bce ? bce_block(block) : squared_error_block(block);
    T* dz = out;
    for (index_t l = last; l >= 0; --l) {
        const RowLayer& layer = layers[l];
        const T* x = l == 0 ? args.x : out - 2 * layer.n_in * stride;
        weight_gradient_block<T>({x, layer.n_in, dz, layer.n_out, args.grads + layer.w,
                                  layer.b >= 0 ? args.grads + layer.b : nullptr, stride,
                                  args.accumulate});
        if (l > 0) {
            out -= 2 * layer.n_in * stride;
            T* derivative = out + layer.n_in * stride;
            const bool is_linear = layers[l - 1].activation == Activation::identity;
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
