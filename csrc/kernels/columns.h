// A block of rows through a whole network of narrow layers: forward, loss and gradient.
//
// As matrix products with the vectors along n_out, layers of 1, 4 or 16 outputs leave
// most lanes empty and spend their time on the edges of tiles. Here everything is
// stored by columns, feature i of row r at i * stride + r, and the vectors run along
// the rows: all lanes are full whatever the sizes, and weights are broadcast from where
// they lie.
//
// Forward and the input gradient are the chains of product.h, the same bits. The sums
// over rows (dw, db, loss) are kNarrowLanes chains, of the rows equal modulo
// kNarrowLanes, added by halves: the same order whatever the vector width.
#pragma once

#include "columns_loss.h"
#include "columns_products.h"
#include "dropout.h"

namespace siglin::SIGLIN_TARGET {
namespace {

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
    const bool plain =
        from_logits(args.loss.kind) || layers[last].activation == Activation::identity;
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
