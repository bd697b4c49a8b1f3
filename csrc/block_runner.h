// The path of all other networks: a block of rows through all layers, as matrix
// products (layer.h), and back.
#pragma once

#include <vector>

#include "batch.h"
#include "buffer.h"
#include "layer.h"
#include "packed_weights.h"
#include "plan.h"

namespace siglin {

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

// Allocates in its constructor; what a thread needs for shared blocks and packing it
// allocates at its first, and keeps.
template <class T>
class BlockRunner {
  public:
    // rows: the most that a batch will have; sparse: whether its rows are.
    BlockRunner(const NetworkPlan& plan, index_t rows, bool sparse);

    // The rows of a block.
    index_t rows() const { return block_; }
    // Whether blocks are shared among threads; else the calling thread goes through
    // them, and the work of each is shared.
    bool are_shared() const { return space_.data() == nullptr; }

    // The outputs of a block's rows. progress: not called where blocks are shared.
    void predict(const T* params, const Batch<T>& block, MatrixView<T> out,
                 const Progress* progress) const;

    // The summed loss of a batch; with grads, scale times its gradient. Not for shared
    // blocks.
    double loss(const T* params, T* grads, const Batch<T>& batch, T scale,
                const Progress& progress, Descent<T>* descent);
    // The same of the rows [begin, begin + rows) of a batch, for shared blocks.
    double shared_loss(const T* params, T* grads, const Batch<T>& batch, index_t begin,
                       index_t rows, T scale, bool accumulate) const;

    // After a loss with a descent parameters may be out of date: brings them up to
    // date.
    void settle(T* params) {
        packed_.settle(params);
        next_x_ = nullptr;
    }

    // Room for what one row makes.
    T* scratch() const {
        return space_.data() == nullptr ? thread_arrays().a[0] : arrays_.a[0];
    }

  private:
    index_t space_of_block() const;
    BlockArrays<T> arrays(T* space) const;
    BlockArrays<T> thread_arrays() const;
    Batch<T> take_block(const BlockArrays<T>& to, const Batch<T>& batch, index_t begin,
                        index_t rows) const;
    void forward(const BlockArrays<T>& block, const T* params, const Batch<T>& batch,
                 bool training, const T* first_z, const Progress* progress) const;
    void drop_out(const BlockArrays<T>& block, const Batch<T>& batch,
                  std::size_t l) const;
    void predict_block(const BlockArrays<T>& block, const T* params,
                       const Batch<T>& batch, MatrixView<T> out,
                       const Progress* progress) const;
    double block_loss(const BlockArrays<T>& block, const T* params, T* grads,
                      const Batch<T>& rows, T scale, bool accumulate, const T* first_z,
                      const Progress* progress, Descent<T>* descent) const;
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
    bool goes_ahead(const Descent<T>& descent) const;
    void descend(const BlockArrays<T>& block, const Batch<T>& batch, T* grads,
                 Descent<T>& descent) const;

    const NetworkPlan& plan_;
    bool sparse_;
    PackedWeights<T> packed_;
    // A row, and the first layer's pre-activations of it: found by the step before it,
    // which had the weights at hand.
    const T* next_x_ = nullptr;
    Buffer<T> next_z_;
    index_t largest_packed_ = 0;  // operand of a product, in elements
    index_t block_;
    Buffer<T> space_;  // of arrays_; empty where each thread has arrays of its own
    BlockArrays<T> arrays_;
};

extern template class BlockRunner<float>;
extern template class BlockRunner<double>;

}  // namespace siglin
