// Networks of any depth over one flat parameter vector: predictions, and the loss and
// gradients of a batch, each on the path that its shapes ask for.
#pragma once

#include "batch.h"
#include "block_runner.h"
#include "blocks.h"
#include "buffer.h"
#include "column_runner.h"
#include "kernel_table.h"
#include "layer.h"
#include "plan.h"

namespace siglin {

// Losses and predictions of batches. Allocates in its constructor and in prepare; what
// a thread needs for blocks and packing it allocates at its first, and keeps.
template <class T>
class NetworkRunner {
  public:
    // rows: the most that a batch will have; smaller blocks save memory. sparse:
    // whether its rows are.
    NetworkRunner(const NetworkPlan& plan, index_t rows, bool sparse = false);

    double multiply_adds_per_row() const { return multiply_adds_per_row_; }

    // out (rows, n_out): the network's outputs.
    void predict(const T* params, MatrixView<const T> x, MatrixView<T> out,
                 const Progress& progress, SparseView<T> sparse = {});

    // Does once what every later call of loss with this batch needs.
    void prepare(const Batch<T>& batch) {
        if (!batch.is_sparse()) {
            columns_.prepare(batch);
        }
    }

    // Whether descend_neuron serves the batch that is prepared.
    bool has_neuron() const { return columns_.has_neuron(); }

    // Steps of gradient descent of one neuron on a prepared batch (NeuronDescentArgs).
    NeuronDescentResult descend_neuron(T* params, index_t rows, T lr, double tol,
                                       index_t steps, double* losses) const {
        return columns_.descend_neuron(params, rows, lr, tol, steps, losses);
    }

    // The mean over the rows of the loss, each with its weight (0 if they sum to that);
    // with grads, its gradient (n_params). With a descent that comes out done, grads
    // holds nothing of use.
    double loss(const T* params, T* grads, const Batch<T>& batch,
                const Progress& progress, Descent<T>* descent = nullptr);

    // After calls with a descent parameters may be out of date: brings them up to date.
    void settle(T* params) { blocks_.settle(params); }

  private:
    // How a batch's loss is found; all but `blocks` read params for the weights.
    enum class Path : int { row, neuron_by_columns, neuron_by_rows, narrow, blocks };
    Path path_of(const T* grads, const Batch<T>& batch) const;
    double loss_of_outputs(const T* params, T* grads, const Batch<T>& batch,
                           const Progress& progress, Descent<T>* descent);
    Blocks cut(index_t rows, index_t block) const {
        const index_t blocks = (rows + block - 1) / block;
        return {rows, block, multiply_adds_per_row_, plan_.slots(blocks, sizeof(T))};
    }
    double mean_targets_loss(const Batch<T>& batch, const Progress& progress) const;
    double row_loss(const T* params, T* grads, const Batch<T>& batch) const;
    double blocks_loss(const T* params, T* grads, const Batch<T>& batch, T scale,
                       const Progress& progress, Descent<T>* descent);

    const NetworkPlan& plan_;
    bool small_;
    BlockRunner<T> blocks_;
    ColumnRunner<T> columns_;
    double multiply_adds_per_row_;
    BlockSums<T> sums_;  // of blocks that are shared among threads
};

// What a row's targets add to its loss whatever the outputs are: of poisson the sum of
// t log(t), else 0.
template <class T>
double targets_loss(const NetworkPlan& plan, const T* t);

extern template class NetworkRunner<float>;
extern template class NetworkRunner<double>;

}  // namespace siglin
