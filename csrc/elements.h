// What is done to elements, or to the rows of one matrix: shared among the threads
// where there is enough of it.
#pragma once

#include "kernel_table.h"
#include "progress.h"

namespace siglin {

// The work of one element, in multiply-adds.
template <class T>
double activation_cost(Activation f);

// a[i] = activation(z[i]) for n elements; a may be z.
template <class T>
void activate_elements(Activation activation, const T* z, T* a, index_t n,
                       const Progress* progress = nullptr);

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

// param -= lr * grad, row by row where the rows do not touch.
template <class T>
void gradient_descent(MatrixView<T> param, MatrixView<const T> grad, T lr);

}  // namespace siglin
