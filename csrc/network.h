// Networks of any depth over one flat parameter vector: predictions, and the loss and
// gradients of a batch, in blocks of rows that go through all layers.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "buffer.h"
#include "kernel_table.h"
#include "layer.h"
#include "packed_weights.h"
#include "step_bound.h"

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
    // Whether a block's work is shared layer by layer; else blocks are shared.
    bool is_wide(index_t item_size) const;
    // How many sums of gradients the blocks of a batch are shared into.
    index_t slots(index_t blocks, index_t item_size) const;
    // Of a training step, about.
    double multiply_adds_per_row() const;
    // Whether one row alone takes the path of kernels/row.h.
    bool is_small() const;
    // Whether this is one sigmoid neuron.
    bool is_neuron() const;
    // Whether full batches of so many rows take the path of kernels/neuron.h.
    bool is_neuron_by_columns(index_t rows) const;
    // Whether other batches take the path of kernels/neuron_rows.h, and the rows of its
    // blocks.
    bool is_neuron_by_rows(index_t item_size) const;
    index_t neuron_range() const;
    // Whether a batch of so many rows takes the path of kernels/narrow.h, and the rows
    // of its blocks.
    bool is_narrow(index_t rows) const;
    index_t narrow_rows(index_t item_size) const;

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
    const T* weights = nullptr;  // of all rows, in the order of x; null: 1
    bool clips = false;          // as WeightedLossArgs
    // Each output of a hidden layer is dropped with this probability, the others are
    // scaled by 1 / (1 - dropout). Which, follows from the seed, the row's number in
    // the batch, the layer and the unit alone.
    double dropout = 0;
    std::uint64_t seed = 0;
    index_t first = 0;  // the number of this block's first row in its batch

    bool is_plain() const { return weights == nullptr && !clips && dropout == 0; }
    // The sum of the weights.
    double weight() const;
};

// Lets a step of gradient descent subtract its gradients as it finds them, layer by
// layer from the last, in the one pass that makes them.
template <class T>
struct Descent {
    T* params;
    T lr;
    // Says of the parameters before the step, and is told of the step, what keeps every
    // number finite. Asked before the first parameter changes.
    std::function<StepBound&()> bound;
    // Of steps with one row each: x of the next, or null.
    const T* next_x = nullptr;
    bool done = false;   // whether the parameters are the new ones
    bool ahead = false;  // whether the first layer has seen next_x
    // The largest magnitudes of each layer's inputs, or 1.
    std::vector<double> inputs = {};
};

// The arrays of one block of rows.
template <class T>
struct BlockArrays {
    T* x;  // gathered rows
    T* t;
    T* weights;
    // Layer by layer: outputs, derivatives, and the gradients of the pre-activations.
    // The last outputs become the last gradients.
    std::vector<T*> a;
    std::vector<T*> d;
    std::vector<T*> dz;
};

// Losses and predictions of batches. Allocates in its constructor and in prepare; what
// a thread needs for blocks and packing it allocates at its first, and keeps.
template <class T>
class NetworkRunner {
  public:
    // rows: the most that a batch will have; smaller blocks save memory.
    NetworkRunner(const NetworkPlan& plan, index_t rows);

    double multiply_adds_per_row() const { return multiply_adds_per_row_; }

    // out (rows, n_out): the network's outputs.
    void predict(const T* params, MatrixView<const T> x, MatrixView<T> out,
                 const Progress& progress);

    // Does once what every later call of loss with this batch needs.
    void prepare(const Batch<T>& batch);

    // Steps of gradient descent of one neuron on a prepared batch (NeuronDescentArgs).
    NeuronDescentResult descend_neuron(T* params, index_t rows, T lr, double tol,
                                       index_t steps, double* losses) const;

    // The mean over the rows of the loss, each with its weight (0 if they sum to that);
    // with grads, its gradient (n_params). With a descent that comes out done, grads
    // holds nothing of use.
    double loss(const T* params, T* grads, const Batch<T>& batch,
                const Progress& progress, Descent<T>* descent = nullptr);

    // After calls with a descent parameters may be out of date: brings them up to date.
    void settle(T* params) {
        packed_.settle(params);
        next_x_ = nullptr;
    }

  private:
    // How a batch's loss is found; all but `blocks` read params for the weights.
    enum class Path : int { row, neuron_by_columns, neuron_by_rows, narrow, blocks };
    Path path_of(const T* grads, const Batch<T>& batch) const;
    double row_loss(const T* params, T* grads, const Batch<T>& batch) const;
    double blocks_loss(const T* params, T* grads, const Batch<T>& batch,
                       const Progress& progress, Descent<T>* descent);
    static const T* first_row(const Batch<T>& batch);
    bool goes_ahead(const Descent<T>& descent) const;
    const T* bias(const T* params, std::size_t l) const;
    static index_t neuron_stride(index_t rows);
    void store_by_columns(const Batch<T>& batch);
    NeuronArgs<T> neuron_args(const T* params, T* grads, index_t rows) const;
    double prepared_neuron_loss(const T* params, T* grads, index_t rows) const;
    double neuron_range_loss(const T* params, T* grads, const Batch<T>& batch,
                             index_t begin, index_t rows, bool accumulate) const;
    index_t space_of_block() const;
    BlockArrays<T> arrays(T* space) const;
    BlockArrays<T> thread_arrays() const;
    Batch<T> take_block(const BlockArrays<T>& to, const Batch<T>& batch, index_t begin,
                        index_t rows) const;
    void forward(const BlockArrays<T>& block, const T* params, MatrixView<const T> x,
                 bool training, const T* first_z, const Progress* progress,
                 const Batch<T>* dropping = nullptr) const;
    void drop_out(const BlockArrays<T>& block, const Batch<T>& batch,
                  std::size_t l) const;
    void predict_block(const BlockArrays<T>& block, const T* params,
                       MatrixView<const T> x, MatrixView<T> out,
                       const Progress* progress) const;
    double block_loss(const BlockArrays<T>& block, const T* params, T* grads,
                      const Batch<T>& rows, T scale, bool accumulate, const T* first_z,
                      const Progress* progress, Descent<T>* descent) const;
    template <class Run>
    void for_waves(index_t count, index_t rows_each, const Progress& progress,
                   const Run& run) const;
    double largest_dz(const BlockArrays<T>& block, std::size_t l, index_t rows) const;
    double most_change(const Descent<T>& descent, std::size_t l, index_t rows,
                       double dz) const;
    bool may_descend(const BlockArrays<T>& block, const Batch<T>& batch,
                     Descent<T>& descent) const;
    void input_gradient(const BlockArrays<T>& block, const T* params, std::size_t l,
                        index_t rows, const Progress* progress,
                        bool dropped = false) const;
    void parameter_gradients(const BlockArrays<T>& block, const Batch<T>& batch,
                             std::size_t l, T* grads, bool accumulate,
                             const Descent<T>* descent, const Progress* progress) const;
    void descend(const BlockArrays<T>& block, const Batch<T>& batch, T* grads,
                 Descent<T>& descent) const;
    bool narrow_is_prepared(index_t rows) const;
    void store_narrow_block(const Batch<T>& batch, index_t begin, T* to) const;
    double narrow_block_loss(const T* params, T* grads, const Batch<T>& batch,
                             index_t begin, bool accumulate) const;
    template <class BlockLoss>
    double sum_of_blocks(index_t rows, index_t block, T* grads,
                         const Progress& progress, const BlockLoss& block_loss);

    const NetworkPlan& plan_;
    bool small_;
    PackedWeights<T> packed_;
    // A row, and the first layer's pre-activations of it: found by the step before it,
    // which had the weights at hand.
    const T* next_x_ = nullptr;
    Buffer<T> next_z_;
    index_t block_;
    double multiply_adds_per_row_;
    Buffer<T> space_;
    BlockArrays<T> arrays_;
    // x by columns, then t: of one neuron; block by block if narrow.
    Buffer<T> columns_;
    index_t narrow_block_ = 0;
    bool prepared_ = false;
    // Of blocks that are shared among threads: gradients and losses, slot by slot.
    Buffer<T> slot_grads_;
    std::vector<double> slot_losses_;
};

extern template class NetworkRunner<float>;
extern template class NetworkRunner<double>;

}  // namespace siglin
