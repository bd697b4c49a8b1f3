// The perceptron rule.
#pragma once

#include <functional>
#include <vector>

#include "view.h"

namespace siglin {

// Row by row: w += (t - y) x, b += t - y with y = step(x . w + b), until an epoch
// without a mistake. Returns the mistakes of each epoch. b may be null.
template <class T>
std::vector<index_t> fit_perceptron(T* w, T* b, MatrixView<const T> x, const T* t,
                                    index_t t_stride, index_t epochs,
                                    const std::function<bool()>& interrupted);

}  // namespace siglin
