// A batch of rows to train on, and a step of descent that is made while its gradients
// are found.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "kernel_table.h"
#include "sparse_layer.h"
#include "step_bound.h"
#include "view.h"

namespace siglin {

// A batch: rows of x and t, in the order given (null: as they lie).
template <class T>
struct Batch {
    MatrixView<const T> x;
    MatrixView<const T> t;
    const index_t* order;
    index_t rows;
    const T* weights = nullptr;  // of all rows, in the order of x; null: 1
    bool clips = false;          // as LossArgs
    Drops drops = {};
    // What the targets of each row add to its loss whatever the outputs are, in the
    // order of x (targets_loss); null: found anew.
    const double* of_targets = nullptr;
    double known_weight = 0;  // weight(), or 0: to be summed
    // With starts, the rows of x: x itself has no data then, and no stride.
    SparseView<T> sparse = {};

    // The sum of the weights.
    double weight() const {
        if (weights == nullptr || known_weight > 0) {
            return weights == nullptr ? static_cast<double>(rows) : known_weight;
        }
        double total = 0;
        for (index_t i = 0; i < rows; ++i) {
            total += static_cast<double>(weights[row(i)]);
        }
        return total;
    }
    // The number of row i of the batch.
    index_t row(index_t i) const { return order == nullptr ? i : order[i]; }
    const T* first_row() const { return x.data + row(0) * x.stride; }
    bool is_sparse() const { return sparse.starts != nullptr; }
    SparseRows<T> sparse_rows() const { return {sparse, order, rows}; }
};

// Lets a step of gradient descent subtract its gradients as it finds them, layer by
// layer from the last, in the one pass that makes them.
template <class T>
struct Descent {
    T* params;
    T lr;
    // The bound on the parameters before the step, to which the step is added. With
    // `anew`, where it has grown since the parameters were measured, they are measured
    // again. Asked before the first parameter changes.
    std::function<StepBound&(bool anew)> bound;
    // Of steps with one row each: x of the next, or null.
    const T* next_x = nullptr;
    bool done = false;   // whether the parameters are the new ones
    bool ahead = false;  // whether the first layer has seen next_x
    // The largest magnitudes of each layer's inputs, or 1.
    std::vector<double> inputs = {};
};

}  // namespace siglin
