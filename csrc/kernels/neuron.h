// One sigmoid neuron, logistic regression: forward, loss and gradient in one pass over
// x.
//
// As a matrix product one output fills one lane in four or eight, and each weight's
// gradient is one chain over all rows. Here the vectors run over the rows, of an x that
// is stored by columns: the sums over rows are kNeuronLanes chains, of the rows equal
// modulo kNeuronLanes, added by halves: the same order whatever the vector width.
#pragma once

#include "../kernel_table.h"
#include "loss.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// A vector of kNeuronLanes logical lanes.
template <class T>
struct Wide {
    static constexpr int kVecs = static_cast<int>(kNeuronLanes) / kLanes<T>;
    Vec<T> v[kVecs];
};

// Vector by vector: GCC clears a struct by `rep stos`, which takes longer than a sum.
template <class T>
SIGLIN_INLINE void clear(Wide<T>& wide) {
    const Vec<T> zero = {};
#pragma GCC unroll 8
    for (int i = 0; i < Wide<T>::kVecs; ++i) {
        wide.v[i] = zero;
    }
}

// combine(lane i, lane i + half) by halves, down to one vector; the rest is for the
// caller.
template <class T, class Combine>
SIGLIN_INLINE Vec<T> fold(const Wide<T>& wide, Combine combine) {
    constexpr int kVecs = Wide<T>::kVecs;
    Vec<T> v[kVecs];
#pragma GCC unroll 8
    for (int i = 0; i < kVecs; ++i) {
        v[i] = wide.v[i];
    }
#pragma GCC unroll 8
    for (int width = kVecs / 2; width > 0; width /= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < width; ++i) {
            v[i] = combine(v[i], v[i + width]);
        }
    }
    return v[0];
}

template <class T>
SIGLIN_INLINE T sum(const Wide<T>& wide) {
    return sum<T>(fold(wide, [](Vec<T> a, Vec<T> b) { return a + b; }));
}

// The product of the (1 + e) of so many rows is finite: at most 2^96, 2^512.
template <class T>
inline constexpr index_t kProductRows = sizeof(T) == 4 ? 96 : 512;

// log of the product of (1 + q) over all lanes.
template <class T>
SIGLIN_INLINE double log_of_products(const Wide<T>& wide) {
    T q[kLanes<T>];
    store(q, fold(wide, [](Vec<T> a, Vec<T> b) { return fma(a, b, a) + b; }));
    for (int width = kLanes<T> / 2; width > 0; width /= 2) {
        for (int i = 0; i < width; ++i) {
            q[i] = q[i] * q[i + width] + (q[i] + q[i + width]);
        }
    }
    return __builtin_log1p(static_cast<double>(q[0]));
}

// The contract is NeuronArgs'.
template <class T>
double neuron_loss_gradient(const NeuronArgs<T>& args) {
    constexpr int kVecs = Wide<T>::kVecs;
    constexpr int L = kLanes<T>;
    const Vec<T> zero = {};
    Wide<T> total;
    Wide<T> product;
    double logarithms = 0;
    Wide<T> db;
    Wide<T> dw[kNeuronInputs];
    for (index_t i = 0; i < args.n_in; ++i) {
        clear(dw[i]);
    }
    clear(total);
    clear(product);
    clear(db);
    const Vec<T> start = broadcast(args.b == nullptr ? T(0) : *args.b);
    for (index_t r = 0; r < args.rows; r += kNeuronLanes) {
        Wide<T> dz;
#pragma GCC unroll 16
        for (int v = 0; v < kVecs; ++v) {
            dz.v[v] = start;
        }
        for (index_t i = 0; i < args.n_in; ++i) {
            const T* x = args.x + i * args.x_stride + r;
            const Vec<T> w = broadcast(args.w[i]);
#pragma GCC unroll 16
            for (int v = 0; v < kVecs; ++v) {
                dz.v[v] = fma(load(x + v * L), w, dz.v[v]);
            }
        }
        // In two loops: the chain from z to dz is 110 cycles of latency and 90
        // instructions, of which a core sees two or three at a time; of half as much it
        // sees more. (150 rows, float64, Zen 3: one loop 1.02 us, two 0.76 us; three,
        // 0.79.)
        const index_t rows_left = args.rows - r;
        const int vecs = rows_left >= kNeuronLanes
                             ? kVecs
                             : static_cast<int>((rows_left + L - 1) / L);
        Wide<T> remainder;
        Wide<T> tail;
        Wide<T> scale;
#pragma GCC unroll 1
        for (int v = 0; v < vecs; ++v) {
            const ReducedExp<T> e = reduced_exp<T, false>(magnitude<T>(dz.v[v]));
            remainder.v[v] = e.r;
            tail.v[v] = e.tail;
            scale.v[v] = e.scale1;
        }
#pragma GCC unroll 1
        for (int v = 0; v < vecs; ++v) {
            const Vec<T> z = dz.v[v];
            const Vec<T> t = load(args.t + r + v * L);
            const SigmoidParts<T> parts = sigmoid_parts<T>(
                {remainder.v[v], tail.v[v], scale.v[v], broadcast(T(1))});
            Vec<T> exp = parts.exp;
            Vec<T> linear = fma(-t, z, select<T>(z > zero, z, zero));
            dz.v[v] = broadcast(args.scale) * (parts.value(z) - t);
            if (const index_t left = rows_left - v * L; left < L) {  // past the end
                const auto lanes = first_lanes<T>(left);
                exp = keep<T>(exp, lanes);
                linear = keep<T>(linear, lanes);
                dz.v[v] = keep<T>(dz.v[v], lanes);
            }
            product.v[v] = fma(product.v[v], exp, product.v[v]) + exp;
            total.v[v] += linear;
            db.v[v] += dz.v[v];
        }
        for (int v = vecs; v < kVecs; ++v) {
            dz.v[v] = zero;
        }
        for (index_t i = 0; i < args.n_in; ++i) {
            const T* x = args.x + i * args.x_stride + r;
#pragma GCC unroll 16
            for (int v = 0; v < kVecs; ++v) {
                dw[i].v[v] = fma(load(x + v * L), dz.v[v], dw[i].v[v]);
            }
        }
        if ((r + kNeuronLanes) % kProductRows<T> == 0) {
            logarithms += log_of_products(product);
            clear(product);
        }
    }
    logarithms += log_of_products(product);
    for (index_t i = 0; i < args.n_in; ++i) {
        args.dw[i] = sum(dw[i]);
    }
    if (args.db != nullptr) {
        *args.db = sum(db);
    }
    return static_cast<double>(sum(total)) + logarithms;
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
