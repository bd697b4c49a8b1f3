// One layer on the kernel table in use: what functions.py and Dense call.
#pragma once

#include <functional>

#include "kernel_table.h"

namespace siglin {

// Called between pieces of work with the multiply-adds done since; may throw to stop.
using Progress = std::function<void(double)>;

// a[i] = activation(z[i]) for n elements; a may be z.
template <class T>
void activate_elements(Activation activation, const T* z, T* a, index_t n);

// Each of these shares its work among the threads where there is enough. An element of
// a result has the same bits however its rows are shared, so the cuts may follow the
// number of threads.

// a = activation(x @ w + b), and its derivative if derivative.data is given.
template <class T>
void layer_forward(MatrixView<const T> x, MatrixView<const T> w, const T* b,
                   Activation activation, MatrixView<T> a, MatrixView<T> derivative,
                   const Progress* progress = nullptr);

// dx = (dz @ w.T) * factor; factor may be null, else it and dx are contiguous.
template <class T>
void layer_input_gradient(MatrixView<const T> dz, MatrixView<const T> w,
                          MatrixView<T> dx, const T* factor,
                          const Progress* progress = nullptr);

// dw = x.T @ dz, or added to dw. With w, w -= lr * (that): see WeightGradientArgs.
template <class T>
void layer_weight_gradient(MatrixView<const T> x, MatrixView<const T> dz, T* dw,
                           bool accumulate, T* w, T lr,
                           const Progress* progress = nullptr);

// dz = da * activation'(z), or from a where z.data is null. dz is contiguous.
template <class T>
void pre_activation_gradient(Activation activation, MatrixView<const T> a,
                             MatrixView<const T> z, MatrixView<const T> da, T* dz);

// dz = da * derivative; dz is contiguous.
template <class T>
void multiply(MatrixView<const T> derivative, MatrixView<const T> da, T* dz);

// dx = dz @ w.T (if dx.data), dw = x.T @ dz, db = sum of rows of dz (if db).
template <class T>
void layer_backward(MatrixView<const T> x, MatrixView<const T> w, const T* dz,
                    MatrixView<T> dx, T* dw, T* db);

// param -= lr * grad, row by row where the rows do not touch.
template <class T>
void gradient_descent(MatrixView<T> param, MatrixView<const T> grad, T lr);

}  // namespace siglin
