// What a network is, and which path a batch takes through it: from shapes alone.
#pragma once

#include <vector>

#include "kernel_table.h"
#include "view.h"

namespace siglin {

// What a network is, without its numbers. Parameters: per layer w (n_in, n_out) row by
// row, then b (n_out), no padding.
struct NetworkPlan {
    // sizes has one entry more than activations and biases. Checked by the caller.
    NetworkPlan(const std::vector<index_t>& sizes,
                const std::vector<Activation>& activations,
                const std::vector<bool>& biases, LossChoice loss);

    index_t n_in() const { return layers.front().n_in; }
    index_t n_out() const { return layers.back().n_out; }
    // Rows that go through all layers together: from the shapes alone, so that the sums
    // over rows have the same order whatever else happens.
    index_t block_rows(index_t item_size) const;
    // Whether a block's work is shared layer by layer; else blocks are shared.
    bool is_wide(index_t item_size) const;
    // How many sums of gradients the blocks of a batch are shared into.
    index_t slots(index_t blocks, index_t item_size) const;
    // Of a training step, about; of sparse rows, without the first layer's products.
    double multiply_adds_per_row(bool sparse = false) const;
    // Whether one row alone takes the path of kernels/row.h.
    bool is_small() const;
    // Whether this is one neuron whose loss starts from its pre-activation.
    bool is_neuron() const;
    // Whether full batches of so many rows take the path of kernels/neuron.h.
    bool is_neuron_by_columns(index_t rows) const;
    // Whether other batches take the path of kernels/neuron_rows.h, and the rows of its
    // blocks.
    bool is_neuron_by_rows(index_t item_size) const;
    index_t neuron_range() const;
    // Whether a batch of so many rows takes the path of kernels/columns.h, and the rows
    // of its blocks.
    bool is_narrow(index_t rows) const;
    index_t narrow_rows(index_t item_size) const;

    // The activation of the last layer is the identity for softmax.
    std::vector<RowLayer> layers;
    LossChoice loss;
    index_t n_params = 0;
};

// Layer's b among the parameters, or null.
template <class T>
const T* bias_of(const RowLayer& layer, const T* params) {
    return layer.b >= 0 ? params + layer.b : nullptr;
}

}  // namespace siglin
