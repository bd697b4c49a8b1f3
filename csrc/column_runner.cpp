#include "column_runner.h"

#include <algorithm>

#include "dispatch.h"
#include "layer.h"

namespace siglin {
namespace {

index_t round_up(index_t n, index_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

}  // namespace

template <class T>
ColumnRunner<T>::ColumnRunner(const NetworkPlan& plan, index_t rows)
    : plan_(plan),
      narrow_block_(plan.is_narrow(rows) ? plan.narrow_rows(sizeof(T)) : 0) {}

template <class T>
index_t ColumnRunner<T>::neuron_stride(index_t rows) {
    return (rows + kNeuronLanes<T> - 1) / kNeuronLanes<T> * kNeuronLanes<T>;
}

template <class T>
void ColumnRunner<T>::store_by_columns(const Batch<T>& batch) {
    const index_t stride = neuron_stride(batch.rows);
    if (columns_.data() == nullptr) {
        const index_t count = stride * (plan_.n_in() + 1);
        columns_ = Buffer<T>(count);
        std::fill_n(columns_.data(), count, T(0));
    }
    T* t = columns_.data() + stride * plan_.n_in();
    for (index_t r = 0; r < batch.rows; ++r) {
        const index_t row = batch.row(r);
        const T* x = batch.x.data + row * batch.x.stride;
        for (index_t i = 0; i < plan_.n_in(); ++i) {
            columns_.data()[i * stride + r] = x[i];
        }
        t[r] = batch.t.data[row * batch.t.stride];
    }
}

template <class T>
void ColumnRunner<T>::prepare(const Batch<T>& batch) {
    const bool plain = batch.weights == nullptr && !batch.clips;
    if (plan_.is_neuron_by_columns(batch.rows) && plain) {
        store_by_columns(batch);
        prepared_ = Prepared::neuron;
    } else if ((batch.clips || !plan_.is_neuron_by_rows(sizeof(T))) &&
               narrow_is_prepared(batch.rows)) {
        const index_t features = plan_.n_in() + plan_.n_out();
        columns_ = Buffer<T>(round_up(batch.rows, kNarrowLanes<T>) * features);
        for (index_t begin = 0; begin < batch.rows; begin += narrow_block_) {
            store_narrow_block(batch, begin, columns_.data() + begin * features);
        }
        prepared_ = Prepared::narrow;
    }
}

// Whether the columns of a batch that never changes are kept for all steps of a fit.
template <class T>
bool ColumnRunner<T>::narrow_is_prepared(index_t rows) const {
    constexpr index_t kMostBytes = 1024 * 1024;
    const index_t row_bytes =
        (plan_.n_in() + plan_.n_out()) * static_cast<index_t>(sizeof(T));
    return plan_.is_narrow(rows) && rows <= kMostBytes / row_bytes;
}

// x and then t of the block that begins at a row, by columns.
template <class T>
void ColumnRunner<T>::store_narrow_block(const Batch<T>& batch, index_t begin,
                                         T* to) const {
    const auto& kernels = kernel_table().kernels<T>();
    const index_t rows = std::min(narrow_block_, batch.rows - begin);
    const index_t stride = round_up(rows, kNarrowLanes<T>);
    for (MatrixView<const T> from : {batch.x, batch.t}) {
        if (batch.order == nullptr) {
            from.data += begin * from.stride;
        }
        const index_t* order = batch.order == nullptr ? nullptr : batch.order + begin;
        kernels.to_columns({from, order, rows, to, stride});
        to += from.cols * stride;
    }
}

template <class T>
double ColumnRunner<T>::narrow_block_loss(const T* params, T* grads,
                                          const Batch<T>& batch, index_t begin, T scale,
                                          bool accumulate) const {
    const index_t features = plan_.n_in() + plan_.n_out();
    const auto layers = static_cast<index_t>(plan_.layers.size());
    const index_t rows = std::min(narrow_block_, batch.rows - begin);
    const index_t stride = round_up(rows, kNarrowLanes<T>);
    const index_t scratch_size = narrow_scratch<T>(plan_.layers.data(), layers, stride);
    struct Space;
    T* scratch = static_cast<T*>(thread_space<Space>(
        static_cast<std::size_t>(scratch_size + stride * (features + 1)) * sizeof(T)));
    T* weights = nullptr;
    if (batch.weights != nullptr) {
        weights = scratch + scratch_size;
        for (index_t r = 0; r < rows; ++r) {
            weights[r] = batch.weights[batch.row(begin + r)];
        }
        std::fill(weights + rows, weights + stride, T(0));
    }
    const T* x = columns_.data() + begin * features;
    if (prepared_ != Prepared::narrow) {
        T* columns = scratch + scratch_size + stride;
        store_narrow_block(batch, begin, columns);
        x = columns;
    }
    Drops drops = batch.drops;
    drops.first += begin;
    return kernel_table().kernels<T>().narrow_loss_gradient(
        {plan_.layers.data(), layers, plan_.loss, params, grads, accumulate, x,
         x + stride * plan_.n_in(), stride, rows, scale, scratch, weights, batch.clips,
         drops});
}

template <class T>
NeuronArgs<T> ColumnRunner<T>::neuron_args(const T* params, T* grads,
                                           index_t rows) const {
    const RowLayer& layer = plan_.layers[0];
    const index_t stride = neuron_stride(rows);
    const T* x = columns_.data();
    T* db = layer.b >= 0 && grads != nullptr ? grads + layer.b : nullptr;
    return {x,
            stride,
            x + stride * layer.n_in,
            rows,
            layer.n_in,
            params + layer.w,
            bias_of(plan_.layers[0], params),
            grads,
            db,
            T(1) / static_cast<T>(rows)};
}

template <class T>
double ColumnRunner<T>::prepared_neuron_loss(const T* params, T* grads,
                                             index_t rows) const {
    return kernel_table().kernels<T>().neuron_loss_gradient(
        neuron_args(params, grads, rows));
}

template <class T>
double ColumnRunner<T>::neuron_range_loss(const T* params, T* grads,
                                          const Batch<T>& batch, index_t begin,
                                          index_t rows, T scale,
                                          bool accumulate) const {
    const RowLayer& layer = plan_.layers[0];
    NeuronRowsArgs<T> args = {plan_.loss,
                              batch.x,
                              batch.t,
                              nullptr,
                              params + layer.w,
                              bias_of(plan_.layers[0], params),
                              grads + layer.w,
                              layer.b >= 0 ? grads + layer.b : nullptr,
                              scale,
                              accumulate,
                              batch.weights};
    args.x.rows = rows;
    if (batch.order != nullptr) {
        args.order = batch.order + begin;
    } else {
        args.x.data += begin * batch.x.stride;
        args.t.data += begin * batch.t.stride;
        if (batch.weights != nullptr) {
            args.weights += begin;
        }
    }
    return kernel_table().kernels<T>().neuron_rows_gradient(args);
}

template <class T>
NeuronDescentResult ColumnRunner<T>::descend_neuron(T* params, index_t rows, T lr,
                                                    double tol, index_t steps,
                                                    double* losses) const {
    return kernel_table().kernels<T>().neuron_descent(
        {neuron_args(params, nullptr, rows), params, lr, tol, steps, losses});
}

template class ColumnRunner<float>;
template class ColumnRunner<double>;

}  // namespace siglin
