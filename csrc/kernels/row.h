// One training row through a whole small network in one call: what single-row descent
// is made of. At 2-3-1 the calls and checks of layer.h would cost more than the
// arithmetic.
#pragma once

#include <type_traits>

#include "../kernel_table.h"
#include "activation.h"
#include "dropout.h"
#include "loss.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// a = f(b + x @ w), derivative = f'(...) unless that is 1: the chains of product.h, one
// row of them.
template <class F, class T>
SIGLIN_INLINE void row_forward(const RowLayer& layer, const T* params, const T* x, T* a,
                               T* derivative) {
    const T* w = params + layer.w;
    for_each_block<T>(layer.n_out, [&](index_t j, auto lanes) {
        Vec<T> z = {};
        if (layer.b >= 0) {
            z = load(params + layer.b + j, lanes);
        }
        for (index_t i = 0; i < layer.n_in; ++i) {
            z = fma(broadcast(x[i]), load(w + i * layer.n_out + j, lanes), z);
        }
        if constexpr (std::is_same_v<F, activation::identity>) {
            store(a + j, z, lanes);
        } else {
            const auto both = F::template both<T>(z);
            store(a + j, both.value, lanes);
            store(derivative + j, both.derivative, lanes);
        }
    });
}

// dw = x.T @ dz, db = dz; the zeros added are those the longer sums start from.
template <class T>
SIGLIN_INLINE void row_gradients(const RowLayer& layer, const T* x, const T* dz,
                                 T* grads) {
    const Vec<T> zero = {};
    for_each_block<T>(layer.n_out, [&](index_t j, auto lanes) {
        const Vec<T> g = load(dz + j, lanes);
        T* dw = grads + layer.w + j;
        for (index_t i = 0; i < layer.n_in; ++i, dw += layer.n_out) {
            store(dw, fma(broadcast(x[i]), g, zero), lanes);
        }
        if (layer.b >= 0) {
            store(grads + layer.b + j, g + zero, lanes);
        }
    });
}

// dx = (dz @ w.T) * factor. Four at a time, whose chains overlap, and which are one
// store that the load of them can take over.
template <class T>
SIGLIN_INLINE void row_input_gradient(const RowLayer& layer, const T* params,
                                      const T* dz, const T* factor, T* dx) {
    constexpr int kTogether = 4;
    using Sums = typename Part<T, kTogether>::Type;
    const T* w = params + layer.w;
    index_t i = 0;
    for (; i + kTogether <= layer.n_in; i += kTogether, w += kTogether * layer.n_out) {
        T sum[kTogether] = {};
        for (index_t k = 0; k < layer.n_out; ++k) {
#pragma GCC unroll 4
            for (int c = 0; c < kTogether; ++c) {
                sum[c] = fma_scalar(dz[k], w[c * layer.n_out + k], sum[c]);
            }
        }
        Sums sums = {sum[0], sum[1], sum[2], sum[3]};
        if (factor != nullptr) {
            Sums factors;
            __builtin_memcpy(&factors, factor + i, sizeof(factors));
            sums *= factors;
        }
        __builtin_memcpy(dx + i, &sums, sizeof(sums));
    }
    for (; i < layer.n_in; ++i, w += layer.n_out) {
        T sum = 0;
        for (index_t k = 0; k < layer.n_out; ++k) {
            sum = fma_scalar(dz[k], w[k], sum);
        }
        dx[i] = factor == nullptr ? sum : sum * factor[i];
    }
}

// The contract is RowArgs'.
template <class T>
double row_loss_gradient(const RowArgs<T>& args) {
    const RowLayer* layers = args.layers;
    const index_t last = args.count - 1;
    const bool drops = args.drops.probability > 0;
    const T* input = args.x;
    T* a = args.scratch;
    for (index_t l = 0; l <= last; ++l) {
        const RowLayer& layer = layers[l];
        const bool logits = l == last && from_logits(args.loss.kind);
        const Activation f = logits ? Activation::identity : layer.activation;
        const bool linear = f == Activation::identity;
        T* derivative = linear ? nullptr : a + layer.n_out;
        with_activation(f, [&](auto activation) {
            row_forward<decltype(activation)>(layer, args.params, input, a, derivative);
        });
        if (drops && l < last) {
            drop_out<T>({args.drops, l, 1, layer.n_out, a, a + layer.n_out, linear});
        }
        input = a;
        a += 2 * layer.n_out;
    }
    // From here on a layer's outputs are at `out`, its derivatives behind them.
    T* out = a - 2 * layers[last].n_out;
    const index_t n_out = layers[last].n_out;
    const T* derivative =
        layers[last].activation == Activation::identity ? nullptr : out + n_out;
    const double loss =
        loss_gradient<T>({args.loss, out, derivative, args.t, 1, n_out, T(1), true});
    T* dz = out;
    for (index_t l = last; l >= 0; --l) {
        const RowLayer& layer = layers[l];
        const T* x = l == 0 ? args.x : out - 2 * layer.n_in;
        row_gradients(layer, x, dz, args.grads);
        if (l > 0) {
            out -= 2 * layer.n_in;
            T* factor = out + layer.n_in;
            const bool bends =
                drops || layers[l - 1].activation != Activation::identity;
            row_input_gradient(layer, args.params, dz, bends ? factor : nullptr,
                               factor);
            dz = factor;
        }
    }
    return loss;
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
