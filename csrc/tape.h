// The passes of a loop that is written by hand: forward, which keeps what backward
// needs.
#pragma once

#include <vector>

#include "layer.h"
#include "plan.h"

namespace siglin {

// What a forward pass leaves of a hidden layer: its outputs and their derivatives, both
// contiguous.
template <class T>
struct TapedLayer {
    MatrixView<T> a;
    MatrixView<T> derivative;
};

// tape has an entry for each hidden layer, z and out (contiguous) are of the last one.
template <class T>
void tape_forward(const NetworkPlan& plan, const T* params, MatrixView<const T> x,
                  const std::vector<TapedLayer<T>>& tape, MatrixView<T> z,
                  MatrixView<T> out, const Progress& progress);

// grads (n_params), and dx if it has data, from dz of the last layer.
template <class T>
void tape_backward(const NetworkPlan& plan, const T* params, T* grads,
                   MatrixView<const T> x, const std::vector<TapedLayer<T>>& tape,
                   const T* dz, MatrixView<T> dx, const Progress& progress);

// The mean loss of the last layer's pre-activations z; dz (contiguous) gets its
// gradient.
template <class T>
double output_loss(const NetworkPlan& plan, MatrixView<const T> z,
                   MatrixView<const T> t, T* dz, const Progress& progress);

// dz (contiguous) of the last layer, from its pre-activations z and from da.
template <class T>
void output_backward(const NetworkPlan& plan, MatrixView<const T> z,
                     MatrixView<const T> da, T* dz, const Progress& progress);

}  // namespace siglin
