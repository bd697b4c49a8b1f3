// The paths of narrow networks and of one neuron, whose vectors run over the rows: on x
// by columns (kernels/neuron.h, kernels/columns.h), or on rows as they lie
// (kernels/neuron_rows.h).
#pragma once

#include "batch.h"
#include "buffer.h"
#include "kernel_table.h"
#include "plan.h"

namespace siglin {

// Allocates in prepare; what a thread needs for narrow blocks it allocates at its
// first, and keeps. The losses are sums over rows, their gradients those of the batch's
// mean.
template <class T>
class ColumnRunner {
  public:
    // rows: the most that a batch will have.
    ColumnRunner(const NetworkPlan& plan, index_t rows);

    // The rows of a narrow block; 0 where batches of so many rows are not narrow.
    index_t narrow_block() const { return narrow_block_; }

    // Does once what every later loss of this batch needs.
    void prepare(const Batch<T>& batch);
    // Whether the batch that is prepared is a plain one of one neuron: then it is the
    // only one, and the next two are for it.
    bool has_neuron() const { return prepared_ == Prepared::neuron; }

    // Of one neuron on the prepared batch.
    double prepared_neuron_loss(const T* params, T* grads, index_t rows) const;
    NeuronDescentResult descend_neuron(T* params, index_t rows, T lr, double tol,
                                       index_t steps, double* losses) const;
    // Of one neuron on the rows [begin, begin + rows) of a batch.
    double neuron_range_loss(const T* params, T* grads, const Batch<T>& batch,
                             index_t begin, index_t rows, T scale,
                             bool accumulate) const;
    // Of the narrow block that begins at a row.
    double narrow_block_loss(const T* params, T* grads, const Batch<T>& batch,
                             index_t begin, T scale, bool accumulate) const;

  private:
    enum class Prepared : int { nothing, neuron, narrow };
    static index_t neuron_stride(index_t rows);
    void store_by_columns(const Batch<T>& batch);
    NeuronArgs<T> neuron_args(const T* params, T* grads, index_t rows) const;
    bool narrow_is_prepared(index_t rows) const;
    void store_narrow_block(const Batch<T>& batch, index_t begin, T* to) const;

    const NetworkPlan& plan_;
    // x by columns, then t: of one neuron; block by block if narrow.
    Buffer<T> columns_;
    index_t narrow_block_;
    Prepared prepared_ = Prepared::nothing;
};

extern template class ColumnRunner<float>;
extern template class ColumnRunner<double>;

}  // namespace siglin
