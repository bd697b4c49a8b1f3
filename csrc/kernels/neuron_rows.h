// One neuron on an x stored by rows, of any size: loss and gradient in one pass.
//
// A few rows at a time: their products with w, their dz, and while they are still in L1
// what they add to the gradient. So x is read from memory once. Every sum has an order
// that depends on the shapes alone: a product of 64 bytes of logical lanes, added by
// halves; the loss and db of kNeuronLanes chains (neuron.h); dw of two chains of every
// other row.
#pragma once

#include "neuron.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// Rows of a block: enough that the chains of one block and the next overlap, few enough
// that a block of 100 inputs stays in L1. A divisor of kProductRows.
inline constexpr index_t kNeuronBlock = 32;
// Rows whose products are computed together: eight accumulators on AVX2.
inline constexpr int kDotRows = 4;
// How far ahead of its block a row is asked for, into L2 alone: prefetched into L1 it
// takes a place among the few misses that a core waits for, and x comes slower than
// without (1,000,000 rows of 32, float32, Zen 4, ms a step: 6.2 without, 5.1 into L2,
// 7.0 and more into L1; from 16 to 64 kB ahead all the same).
inline constexpr index_t kBytesAhead = 32 * 1024;

// The lanes of x[r] . w, still to be summed.
template <class T, int kRows>
SIGLIN_INLINE void product_lanes(const T* const* x, const T* w, index_t n_in,
                                 Vec<T>* products) {
    constexpr int kVecs = static_cast<int>(kNeuronLanes<T>) / kLanes<T>;
    constexpr int L = kLanes<T>;
    Vec<T> acc[kRows][kVecs];
    const Vec<T> zero = {};
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) {
            acc[r][v] = zero;
        }
    }
    index_t i = 0;
    for (; i + kNeuronLanes<T> <= n_in; i += kNeuronLanes<T>) {
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) {
            const Vec<T> weight = load(w + i + v * L);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                acc[r][v] = fma(load(x[r] + i + v * L), weight, acc[r][v]);
            }
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
        const index_t left = n_in - i - v * L;
        if (left > 0) {
            const auto lanes = first_lanes<T>(left < L ? left : L);
            const Vec<T> weight = load(w + i + v * L, lanes);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                acc[r][v] = fma(load(x[r] + i + v * L, lanes), weight, acc[r][v]);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
        for (int width = kVecs / 2; width > 0; width /= 2) {
#pragma GCC unroll 4
            for (int v = 0; v < width; ++v) {
                acc[r][v] = acc[r][v] + acc[r][v + width];
            }
        }
        products[r] = acc[r][0];
    }
}

// z[r] = start + x[r] . w of `rows` rows: a vector of them at a time, whose sums fill
// its lanes, then one by one.
template <class T>
SIGLIN_INLINE void row_products(const T* const* x, const T* w, index_t n_in, T start,
                                T* z, index_t rows) {
    constexpr int L = kLanes<T>;
    constexpr int kTogether = L < kDotRows ? L : kDotRows;
    index_t r = 0;
    for (; r + L <= rows; r += L) {
        Vec<T> products[L];
#pragma GCC unroll 4
        for (int i = 0; i < L; i += kTogether) {
            product_lanes<T, kTogether>(x + r + i, w, n_in, products + i);
        }
        store(z + r, broadcast(start) + sums<T>(products));
    }
    for (; r < rows; ++r) {
        Vec<T> product[1];
        product_lanes<T, 1>(x + r, w, n_in, product);
        z[r] = start + sum<T>(product[0]);
    }
}

// dw += dz[r] * x[r], kVecs vectors of it from x[.] + i on; the last with `lanes`. What
// lies `next` after x[r] is asked for meanwhile.
template <class T, int kVecs, class Lanes>
SIGLIN_INLINE void add_gradients(const T* const* x, index_t next, const T* dz,
                                 index_t rows, index_t i, Lanes lanes, T* dw) {
    constexpr int L = kLanes<T>;
    const auto load_vec = [&](const T* p, int v) SIGLIN_LAMBDA_INLINE {
        Vec<T> result;
        if (v == kVecs - 1) {
            result = load(p + v * L, lanes);
        } else {
            result = load(p + v * L);
        }
        return result;
    };
    Vec<T> even[kVecs];
    Vec<T> odd[kVecs];
    const Vec<T> zero = {};
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
        even[v] = odd[v] = zero;
    }
    for (index_t r = 0; r + 2 <= rows; r += 2) {
        const Vec<T> first = broadcast(dz[r]);
        const Vec<T> second = broadcast(dz[r + 1]);
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; v += 64 / kVecBytes) {
            __builtin_prefetch(x[r] + next + i + v * L, 0, 2);
            __builtin_prefetch(x[r + 1] + next + i + v * L, 0, 2);
        }
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) {
            even[v] = fma(load_vec(x[r] + i, v), first, even[v]);
            odd[v] = fma(load_vec(x[r + 1] + i, v), second, odd[v]);
        }
    }
    if (rows % 2 != 0) {
        const Vec<T> first = broadcast(dz[rows - 1]);
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) {
            even[v] = fma(load_vec(x[rows - 1] + i, v), first, even[v]);
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
        T* to = dw + i + v * L;
        const Vec<T> total = load_vec(dw + i, v) + (even[v] + odd[v]);
        if (v == kVecs - 1) {
            store(to, total, lanes);
        } else {
            store(to, total);
        }
    }
}

// kBytesAhead in rows, at least a block.
template <class T>
SIGLIN_INLINE index_t rows_ahead(const MatrixView<const T>& x) {
    const index_t row_bytes = x.cols * static_cast<index_t>(sizeof(T));
    const index_t rows = kBytesAhead / row_bytes;
    return rows > kNeuronBlock ? rows : kNeuronBlock;
}

// The rows of a block from i on that have an order of their own.
template <class T>
void prefetch_rows(const NeuronRowsArgs<T>& args, index_t i) {
    constexpr index_t kLine = 64 / sizeof(T);
    for (const index_t end = i + kNeuronBlock; i < end && i < args.x.rows; ++i) {
        const T* x = args.x.data + args.order[i] * args.x.stride;
        for (index_t j = 0; j < args.x.cols; j += kLine) {
            __builtin_prefetch(x + j, 0, 2);
        }
    }
}

// The losses of rows one by one, without weights: bce's logarithms are those of
// products.
template <class T>
struct PlainBce {
    static constexpr int kVecs = Wide<T>::kVecs;
    static constexpr int L = kLanes<T>;
    Wide<T> total;
    Wide<T> product;
    Wide<T> db;
    double logarithms = 0;
    T e[kNeuronBlock];
    T scale[kNeuronBlock];

    PlainBce() {
        clear(total);
        clear(product);
        clear(db);
    }
    // z becomes dz, of `rows` rows, rounded up to `count` with zeros.
    void take(T* z, const T* t, index_t rows, index_t count) {
        neuron_exp(z, e, scale, count);
        index_t r = 0;
        for (; r + kNeuronLanes<T> <= rows; r += kNeuronLanes<T>) {
#pragma GCC unroll 4
            for (int v = 0; v < kVecs; ++v) {
                const index_t at = r + v * L;
                neuron_rows<T>(z + at, e + at, t + at, AllLanes{}, total.v[v],
                               product.v[v], db.v[v]);
            }
        }
        for (int v = 0; r < count; ++v, r += L) {
            const index_t exist = rows - r < 0 ? 0 : rows - r < L ? rows - r : L;
            neuron_rows<T>(z + r, e + r, t + r, first_lanes<T>(exist), total.v[v],
                           product.v[v], db.v[v]);
        }
    }
    void end_products() {
        logarithms += log_of_products(product);
        clear(product);
    }
    double loss() {
        end_products();
        return static_cast<double>(sum(total)) + logarithms;
    }
};

// Any loss, and weights. The loss is chosen for each block, not for the pass: a pass of
// its own for each loss would be 8 kB of code, for a switch every 32 rows.
template <class T>
struct AnyLoss {
    static constexpr int L = kLanes<T>;
    LossChoice loss_of_rows;
    Wide<T> total;
    Wide<T> db;

    explicit AnyLoss(const NeuronRowsArgs<T>& args) : loss_of_rows(args.loss) {
        clear(total);
        clear(db);
    }
    void take(T* z, const T* t, const T* w, index_t rows, index_t count) {
        with_loss(loss_of_rows, [&](auto f) { take_by(f, z, t, w, rows, count); });
    }
    template <class F>
    void take_by(F f, T* z, const T* t, const T* w, index_t rows, index_t count) {
        for (index_t r = 0; r < count; r += kNeuronLanes<T>) {
#pragma GCC unroll 4
            for (int v = 0; v < Wide<T>::kVecs; ++v) {
                const index_t at = r + v * L;
                const index_t left = rows - at;
                const auto lanes = first_lanes<T>(left < 0 ? 0 : left < L ? left : L);
                const Vec<T> weight = load(w + at);
                const LossParts<T> parts =
                    f.template parts<T>(load(z + at), load(t + at), weight);
                const Vec<T> zero = {};
                total.v[v] += keep<T>(
                    select<T>(weight == zero, zero, weight * parts.loss), lanes);
                const Vec<T> dz = keep<T>(parts.dz, lanes);
                store(z + at, dz);
                db.v[v] += dz;
            }
        }
    }
    double loss() const { return static_cast<double>(sum(total)); }
};

// The contract is NeuronRowsArgs'.
template <class T>
double neuron_rows_gradient(const NeuronRowsArgs<T>& args) {
    constexpr int L = kLanes<T>;
    const index_t n_in = args.x.cols;
    const bool is_plain = args.loss.kind == Loss::bce && args.weights == nullptr;
    PlainBce<T> plain;
    AnyLoss<T> any(args);
    if (!args.accumulate) {
        for (index_t i = 0; i < n_in; ++i) {
            args.dw[i] = 0;
        }
    }
    const T start = args.b == nullptr ? T(0) : *args.b;
    const T* x[kNeuronBlock];
    const index_t ahead = rows_ahead(args.x);
    const index_t next = args.order == nullptr ? ahead * args.x.stride : 0;
    T z[kNeuronBlock];
    T t[kNeuronBlock];
    T w[kNeuronBlock];
    for (index_t r = 0; r < kNeuronBlock; ++r) {
        z[r] = t[r] = T(0);
        w[r] = T(1);
    }
    for (index_t begin = 0; begin < args.x.rows; begin += kNeuronBlock) {
        const index_t left = args.x.rows - begin;
        const index_t rows = left < kNeuronBlock ? left : kNeuronBlock;
        for (index_t r = 0; r < rows; ++r) {
            const index_t row =
                args.order == nullptr ? begin + r : args.order[begin + r];
            x[r] = args.x.data + row * args.x.stride;
            t[r] = args.t.data[row * args.t.stride];
            if (args.weights != nullptr) {
                w[r] = args.weights[row];
            }
        }
        if (args.order != nullptr) {
            prefetch_rows(args, begin + ahead);
        }
        row_products(x, args.w, n_in, start, z, rows);
        const index_t count =
            (rows + kNeuronLanes<T> - 1) / kNeuronLanes<T> * kNeuronLanes<T>;
        if (is_plain) {
            plain.take(z, t, rows, count);
        } else {
            any.take(z, t, w, rows, count);
        }
        for (index_t r = 0; r < count; r += L) {
            store(z + r, broadcast(args.scale) * load(z + r));
        }
        index_t i = 0;
        for (; i + 4 * L <= n_in; i += 4 * L) {
            add_gradients<T, 4>(x, next, z, rows, i, AllLanes{}, args.dw);
        }
        for (; i + 2 * L <= n_in; i += 2 * L) {
            add_gradients<T, 2>(x, next, z, rows, i, AllLanes{}, args.dw);
        }
        for (; i + L <= n_in; i += L) {
            add_gradients<T, 1>(x, next, z, rows, i, AllLanes{}, args.dw);
        }
        if (i < n_in) {
            add_gradients<T, 1>(x, next, z, rows, i, first_lanes<T>(n_in - i), args.dw);
        }
        if (is_plain && (begin + kNeuronBlock) % kProductRows == 0) {
            plain.end_products();
        }
    }
    if (args.db != nullptr) {
        *args.db = (args.accumulate ? *args.db : T(0)) +
                   args.scale * sum(is_plain ? plain.db : any.db);
    }
    return is_plain ? plain.loss() : any.loss();
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
