// The outputs of a few rows: what a caller asks for who has one row at a time.
#pragma once

#include "runner.h"

namespace siglin {

// Computes out (rows, n_out) with the activations on the stack, where they find room;
// returns whether they did. The bits of NetworkRunner::predict: the same kernels in the
// same order. At 2-3-1 its buffer and its lists take longer than the arithmetic.
template <class T>
bool predict_few(const NetworkPlan& plan, const T* params, MatrixView<const T> x,
                 MatrixView<T> out);

}  // namespace siglin
