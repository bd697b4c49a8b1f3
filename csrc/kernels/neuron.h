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

template <class T>
SIGLIN_INLINE T sum(const Wide<T>& wide) {
    T lanes[kNeuronLanes];
    for (int i = 0; i < Wide<T>::kVecs; ++i) {
        store(lanes + i * kLanes<T>, wide.v[i]);
    }
    for (index_t width = kNeuronLanes / 2; width > 0; width /= 2) {
        for (index_t i = 0; i < width; ++i) {
            lanes[i] += lanes[i + width];
        }
    }
    return lanes[0];
}

// The contract is NeuronArgs'.
template <class T>
double neuron_loss_gradient(const NeuronArgs<T>& args) {
    constexpr int kVecs = Wide<T>::kVecs;
    constexpr int L = kLanes<T>;
    const Vec<T> zero = {};
    Wide<T> total = {};
    Wide<T> db = {};
    Wide<T> dw[kNeuronInputs];
    for (index_t i = 0; i < args.n_in; ++i) {
        dw[i] = {};
    }
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
        // Not unrolled: two of these at a time do not fit 16 registers.
#pragma GCC unroll 1
        for (int v = 0; v < kVecs; ++v) {
            const BceParts<T> parts =
                bce_parts<T>(dz.v[v], load(args.t + r + v * L), args.scale);
            Vec<T> loss = parts.loss;
            dz.v[v] = parts.dz;
            if (const index_t left = args.rows - r - v * L; left < L) {  // past the end
                const auto lanes = first_lanes<T>(left > 0 ? left : 0);
                loss = left > 0 ? keep<T>(loss, lanes) : zero;
                dz.v[v] = left > 0 ? keep<T>(dz.v[v], lanes) : zero;
            }
            total.v[v] += loss;
            db.v[v] += dz.v[v];
        }
        for (index_t i = 0; i < args.n_in; ++i) {
            const T* x = args.x + i * args.x_stride + r;
#pragma GCC unroll 16
            for (int v = 0; v < kVecs; ++v) {
                dw[i].v[v] = fma(load(x + v * L), dz.v[v], dw[i].v[v]);
            }
        }
    }
    for (index_t i = 0; i < args.n_in; ++i) {
        args.dw[i] = sum(dw[i]);
    }
    if (args.db != nullptr) {
        *args.db = sum(db);
    }
    return static_cast<double>(sum(total));
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
