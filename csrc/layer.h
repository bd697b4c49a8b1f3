// One layer on the kernel table in use: what _functions.py and Dense call.
#pragma once

#include "kernel_table.h"
#include "progress.h"

namespace siglin {

// Work of so many multiply-adds, some 50 ms of one thread at most, may be done in one
// piece.
inline constexpr double kMostInOnePiece = 1e9;

// Each of these shares its work among the threads where there is enough. An element of
// a result has the same bits however its rows are shared, so the cuts may follow the
// number of threads.

// Where w is given packed as well, that is read instead.

// a = activation(x @ w + b), and its derivative if derivative.data is given.
template <class T>
void layer_forward(MatrixView<const T> x, MatrixView<const T> w, const T* b,
                   Activation activation, MatrixView<T> a, MatrixView<T> derivative,
                   const Progress* progress = nullptr, const T* packed_w = nullptr);

// dx = (dz @ w.T) * factor; factor may be null, else it and dx are contiguous. As
// InputGradientArgs.
template <class T>
void layer_input_gradient(MatrixView<const T> dz, MatrixView<const T> w,
                          MatrixView<T> dx, const T* factor, bool factor_is_relu,
                          const Progress* progress = nullptr,
                          const T* packed_w = nullptr);

// dw = x.T @ dz, or added to dw. With w.data, or with w packed, w -= lr * (that): see
// WeightGradientArgs.
template <class T>
void layer_weight_gradient(MatrixView<const T> x, MatrixView<const T> dz, T* dw,
                           bool accumulate, MatrixView<T> w, T lr,
                           const Progress* progress = nullptr, T* packed_w = nullptr);

// dx = dz @ w.T (if dx.data), dw = x.T @ dz, db = sum of rows of dz (if db).
template <class T>
void layer_backward(MatrixView<const T> x, MatrixView<const T> w, const T* dz,
                    MatrixView<T> dx, T* dw, T* db, const Progress* progress = nullptr);

}  // namespace siglin
