// One layer on the kernel table in use: what _functions.py and Dense call.
#pragma once

#include <functional>

#include "kernel_table.h"

namespace siglin {

// Called between pieces of work, each of some 10 ms of a thread, with the work done
// since in multiply-adds; may throw to stop.
using Progress = std::function<void(double)>;

// Work of so many multiply-adds, some 50 ms of one thread at most, may be done in one
// piece.
inline constexpr double kMostInOnePiece = 1e9;

// a[i] = activation(z[i]) for n elements; a may be z.
template <class T>
void activate_elements(Activation activation, const T* z, T* a, index_t n,
                       const Progress* progress = nullptr);

// Takes all memory that products of this thread will need that pack an operand of at
// most so many elements: they cannot run out of it then. (A helper takes its own before
// it begins.)
template <class T>
void reserve_products(index_t packed);

// Each of these shares its work among the threads where there is enough. An element of
// a result has the same bits however its rows are shared, so the cuts may follow the
// number of threads.

// Where w is given packed as well, that is read instead.

// Whether the rows of so much work, in multiply-adds, would be shared.
bool shares_rows(double work);

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

// What pack_panels leaves of b (k, n): its size in elements, and the work shared. A
// packed operand takes at most so many: beyond, the copy would be as good as a second
// network in memory, and blocks pack what they need, piece by piece.
template <class T>
inline constexpr index_t kMostPacked = 64 * 1024 * 1024 / sizeof(T);
template <class T>
index_t packed_size(index_t k, index_t n);
template <class T>
void pack(const T* b, index_t step, bool transposed, index_t k, index_t n, T* packed);

// dz = da * activation'(z), or from a where z.data is null. dz is contiguous.
template <class T>
void pre_activation_gradient(Activation activation, MatrixView<const T> a,
                             MatrixView<const T> z, MatrixView<const T> da, T* dz,
                             const Progress* progress = nullptr);

// dz = da * derivative; dz is contiguous.
template <class T>
void multiply(MatrixView<const T> derivative, MatrixView<const T> da, T* dz,
              const Progress* progress = nullptr);

// sums[j] = sum of dz[i, j] over i; dz is contiguous.
template <class T>
void sum_rows(MatrixView<const T> dz, T* sums, const Progress* progress = nullptr);

// dx = dz @ w.T (if dx.data), dw = x.T @ dz, db = sum of rows of dz (if db).
template <class T>
void layer_backward(MatrixView<const T> x, MatrixView<const T> w, const T* dz,
                    MatrixView<T> dx, T* dw, T* db, const Progress* progress = nullptr);

// param -= lr * grad, row by row where the rows do not touch.
template <class T>
void gradient_descent(MatrixView<T> param, MatrixView<const T> grad, T lr);

}  // namespace siglin
