// The first layer of a network on rows in compressed sparse row form.
#pragma once

#include "kernel_table.h"
#include "progress.h"

namespace siglin {

// Some rows of x, in the order given (null: as they lie).
template <class T>
struct SparseRows {
    SparseView<T> x;
    const index_t* order;
    index_t rows;

    index_t start(index_t i) const { return x.starts[order == nullptr ? i : order[i]]; }
    index_t end(index_t i) const {
        return x.starts[(order == nullptr ? i : order[i]) + 1];
    }
    // `count` of them from one on.
    SparseRows some(index_t begin, index_t count) const;
    // How many values they have.
    index_t count() const;
    // The largest magnitude of their values, or 0; NaN if one is.
    T largest() const;
};

// Of a pass over the rows with n_out outputs, in multiply-adds.
template <class T>
double sparse_work(const SparseRows<T>& rows, index_t n_out);

// Both share their work among the threads where there is enough; the bits of an element
// do not depend on how.

// a (rows, n_out) = activation(x @ w + b), and its derivative unless null.
template <class T>
void sparse_layer_forward(const SparseRows<T>& rows, MatrixView<const T> w, const T* b,
                          Activation activation, T* a, T* derivative,
                          const Progress* progress);

// dw += x.T @ (scale * dz), w (n_in, n_out), dz (rows, n_out).
template <class T>
void sparse_layer_weight_gradient(const SparseRows<T>& rows, MatrixView<const T> dz,
                                  T scale, MatrixView<T> dw, const Progress* progress);

}  // namespace siglin
