// One layer: forward, and the gradients of its inputs and parameters.
#pragma once

#include "activation.h"
#include "gemm.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// activation(a) over the rows [begin, end) of a, as one long row where they touch.
template <class T>
void activate_rows(const ForwardArgs<T>& args, index_t begin, index_t end) {
    const MatrixView<T>& a = args.a;
    const MatrixView<T>& d = args.derivative;
    const bool wants_derivative = d.data != nullptr;
    if (a.stride == a.cols && (!wants_derivative || d.stride == d.cols)) {
        T* first = a.data + begin * a.stride;
        activate(args.activation, first, first,
                 wants_derivative ? d.data + begin * d.stride : nullptr,
                 (end - begin) * a.cols);
        return;
    }
    for (index_t i = begin; i < end; ++i) {
        T* row = a.data + i * a.stride;
        activate(args.activation, row, row,
                 wants_derivative ? d.data + i * d.stride : nullptr, a.cols);
    }
}

// The contract is ForwardArgs'.
template <class T>
void forward(const ForwardArgs<T>& args) {
    Product<T> product = {args.a.rows,   args.a.cols, args.x.cols,   args.x.data,
                          args.x.stride, 1,           args.w.data,   args.w.stride,
                          false,         args.a.data, args.a.stride, args.b};
    product.packed = args.packed;
    multiply(product, args.workspace);
    if (args.activation != Activation::identity || args.derivative.data != nullptr) {
        activate_rows(args, 0, args.a.rows);
    }
}

// sums[j] (+)= sum over i of v[i, j]: four chains, of the rows i mod 4 each, added as
// (0 + 1) + (2 + 3). One chain would wait for every addition; the order is the same for
// every vector width.
template <class T>
void column_sums(const MatrixView<const T>& v, T* sums, bool accumulate) {
    for_each_block<T>(v.cols, [&](index_t j, auto lanes) {
        Vec<T> chain[4] = {};
        const T* p = v.data + j;
        index_t i = 0;
        for (; i + 4 <= v.rows; i += 4, p += 4 * v.stride) {
            for (int c = 0; c < 4; ++c) {
                chain[c] += load(p + c * v.stride, lanes);
            }
        }
        for (int c = 0; i < v.rows; ++i, ++c, p += v.stride) {
            chain[c] += load(p, lanes);
        }
        Vec<T> total = (chain[0] + chain[1]) + (chain[2] + chain[3]);
        if (accumulate) {
            total = load(sums + j, lanes) + total;
        }
        store(sums + j, total, lanes);
    });
}

// The contract is WeightGradientArgs'.
template <class T>
void weight_gradient(const WeightGradientArgs<T>& args) {
    const MatrixView<const T>& x = args.x;
    const MatrixView<const T>& dz = args.dz;
    Product<T> product = {x.cols,  dz.cols,   x.rows, x.data,  1,      x.stride,
                          dz.data, dz.stride, false,  args.dw, dz.cols};
    const bool one_after_the_other = args.w_step == 0 || args.w_step == dz.cols;
    if (dz.cols == 1 && args.packed == nullptr && one_after_the_other) {
        // One output: dw.T = dz.T @ x fills the vectors along n_in, with the same
        // chains.
        product = {1,      x.cols,   x.rows, dz.data, 0,     dz.stride,
                   x.data, x.stride, false,  args.dw, x.cols};
    }
    product.accumulate = args.accumulate;
    product.packed = args.packed;
    product.w = args.w;
    product.w_row = one_after_the_other ? product.c_row : args.w_step;
    product.w_panel = args.w_panel == 0 ? kTileCols<T> : args.w_panel;
    product.lr = args.lr;
    multiply(product, args.workspace);
}

// The contract is InputGradientArgs'.
template <class T>
void input_gradient(const InputGradientArgs<T>& args) {
    const MatrixView<T>& dx = args.dx;
    Product<T> product = {dx.rows,        dx.cols, args.dz.cols, args.dz.data,
                          args.dz.stride, 1,       args.w.data,  args.w.stride,
                          true,           dx.data, dx.stride};
    product.packed = args.packed;
    multiply(product, args.workspace);
    if (args.factor != nullptr && args.factor_is_relu) {
        scale_by_relu(args.factor, dx.data, dx.rows * dx.cols);
    } else if (args.factor != nullptr) {
        scale_by(args.factor, dx.data, dx.rows * dx.cols);
    }
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
