// Networks of any depth over one flat parameter vector: predictions, and the loss and
// gradients of a batch, in blocks of rows that go through all layers.
#pragma once

#include <functional>
#include <vector>

#include "buffer.h"
#include "kernel_table.h"

namespace siglin {

// What a network is, without its numbers. Parameters: per layer w (n_in, n_out) row by
// row, then b (n_out), no padding.
struct NetworkPlan {
    // sizes has one entry more than activations and biases. Checked by the caller.
    NetworkPlan(const std::vector<index_t>& sizes,
                const std::vector<Activation>& activations,
                const std::vector<bool>& biases, Loss loss);

    index_t n_in() const { return layers.front().n_in; }
    index_t n_out() const { return layers.back().n_out; }
    // Rows that go through all layers together: from the shapes alone, so that the sums
    // over rows have the same order whatever else happens.
    index_t block_rows(index_t item_size) const;
    // Whether one row alone takes the path of kernels/row.h.
    bool is_small() const;
    // Whether a batch of so many rows takes the path of kernels/neuron.h.
    bool is_neuron(index_t rows) const;

    // The activation of the last layer is the identity for softmax.
    std::vector<RowLayer> layers;
    Loss loss;
    index_t n_params = 0;
};

// A batch: rows of x and t, in the order given (null: as they lie).
template <class T>
struct Batch {
    MatrixView<const T> x;
    MatrixView<const T> t;
    const index_t* order;
    index_t rows;
};

// Called between blocks with the multiply-adds done since; may throw to stop.
using Progress = std::function<void(double)>;

// The arrays of one block of rows, allocated once.
template <class T>
class NetworkRunner {
  public:
    // rows: the most that a batch will have; smaller blocks save memory.
    NetworkRunner(const NetworkPlan& plan, index_t rows);

    // Of a training step, about.
    double multiply_adds_per_row() const { return multiply_adds_per_row_; }

    // out (rows, n_out): the network's outputs.
    void predict(const T* params, MatrixView<const T> x, MatrixView<T> out,
                 const Progress& progress);

    // Does once what every later call of loss with this batch needs.
    void prepare(const Batch<T>& batch);

    // The mean over the rows of the loss; with grads, its gradient (n_params).
    double loss(const T* params, T* grads, const Batch<T>& batch,
                const Progress& progress);

  private:
    const T* weights(const T* params, std::size_t l) const;
    const T* bias(const T* params, std::size_t l) const;
    void store_by_columns(const Batch<T>& batch);
    double neuron_loss(const T* params, T* grads, const Batch<T>& batch);
    Batch<T> take_block(const Batch<T>& batch, index_t begin, index_t rows);
    void forward(const T* params, MatrixView<const T> x, bool training);
    void backward(const T* params, T* grads, MatrixView<const T> x, index_t rows,
                  bool accumulate);

    const NetworkPlan& plan_;
    bool small_;
    index_t block_;
    double multiply_adds_per_row_ = 0;
    Buffer<T> space_;
    T* x_ = nullptr;  // gathered rows
    T* t_ = nullptr;
    // Layer by layer, outputs and then derivatives (where an activation has one), one
    // after the other from a_[0] on. The last outputs become dz.
    std::vector<T*> a_;
    std::vector<T*> d_;
    T* dz_[2] = {nullptr, nullptr};
    Buffer<T> columns_;  // of one neuron: x by columns, then t
    bool prepared_ = false;
};

extern template class NetworkRunner<float>;
extern template class NetworkRunner<double>;

}  // namespace siglin
