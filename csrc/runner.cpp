#include "runner.h"

#include <algorithm>
#include <cmath>

#include "dispatch.h"

namespace siglin {
namespace {

// Whether a batch of one row has that row's loss: a weight that is not 0 changes
// nothing of a mean over one row, unless it scales.
template <class T>
bool is_mean_of_row(const Batch<T>& batch) {
    if (batch.weights == nullptr) {
        return true;
    }
    const auto own = static_cast<double>(batch.weights[batch.row(0)]);
    return own > 0 && batch.weight() == own;
}

}  // namespace

template <class T>
NetworkRunner<T>::NetworkRunner(const NetworkPlan& plan, index_t rows, bool sparse)
    : plan_(plan),
      small_(plan.is_small()),
      blocks_(plan, rows, sparse),
      columns_(plan, rows),
      multiply_adds_per_row_(plan.multiply_adds_per_row(sparse)) {
    // Each path has blocks of its own, and a loss without its gradient takes the plain
    // one: slots for the smallest.
    bool shares = blocks_.are_shared();
    index_t shared_block = blocks_.rows();
    if (columns_.narrow_block() > 0) {
        shared_block = std::min(shared_block, columns_.narrow_block());
        shares = true;
    }
    if (plan.is_neuron_by_rows(sizeof(T))) {
        shared_block = std::min(shared_block, plan.neuron_range());
        shares = true;
    }
    const index_t blocks = (rows + shared_block - 1) / shared_block;
    if (blocks > 1 && shares) {
        sums_ = BlockSums<T>(plan.slots(blocks, sizeof(T)), plan.n_params);
    }
}

template <class T>
void NetworkRunner<T>::predict(const T* params, MatrixView<const T> x,
                               MatrixView<T> out, const Progress& progress,
                               SparseView<T> sparse) {
    const index_t block = blocks_.rows();
    const index_t count = (x.rows + block - 1) / block;
    const auto run = [&](index_t i, const Progress* between) {
        const index_t begin = i * block;
        const index_t rows = std::min(block, x.rows - begin);
        Batch<T> batch = {
            {x.data + begin * x.stride, rows, x.cols, x.stride}, {}, nullptr, rows};
        if (sparse.starts != nullptr) {
            batch.sparse = sparse;
            batch.sparse.starts += begin;
        }
        blocks_.predict(params, batch,
                        {out.data + begin * out.stride, rows, out.cols, out.stride},
                        between);
    };
    if (!blocks_.are_shared()) {
        for (index_t i = 0; i < count; ++i) {
            run(i, &progress);
        }
        return;
    }
    for_waves(count, static_cast<double>(block) * multiply_adds_per_row_, progress,
              [&](index_t i) { run(i, nullptr); });
}

template <class T>
typename NetworkRunner<T>::Path NetworkRunner<T>::path_of(const T* grads,
                                                          const Batch<T>& batch) const {
    if (grads == nullptr || batch.is_sparse()) {
        return Path::blocks;
    }
    const bool drops = batch.drops.probability > 0 && plan_.layers.size() > 1;
    if (batch.rows == 1 && small_ && !batch.clips && !drops && is_mean_of_row(batch)) {
        return Path::row;
    }
    if (columns_.has_neuron()) {
        return Path::neuron_by_columns;
    }
    if (plan_.is_neuron_by_rows(sizeof(T)) && !batch.clips) {
        return Path::neuron_by_rows;
    }
    return plan_.is_narrow(batch.rows) ? Path::narrow : Path::blocks;
}

template <class T>
double targets_loss(const NetworkPlan& plan, const T* t) {
    double total = 0;
    if (plan.loss.kind == Loss::poisson) {
        for (index_t j = 0; j < plan.n_out(); ++j) {
            const auto value = static_cast<double>(t[j]);
            total += value == 0 ? 0 : value * std::log(value);
        }
    }
    return total;
}

template <class T>
double NetworkRunner<T>::mean_targets_loss(const Batch<T>& batch,
                                           const Progress& progress) const {
    constexpr index_t kPiece = 1 << 16;
    const double weight = batch.weight();
    double total = 0;
    for (index_t i = 0; i < batch.rows; ++i) {
        if (i % kPiece == kPiece - 1) {
            progress(static_cast<double>(kPiece * 16 * plan_.n_out()));
        }
        const index_t row = batch.row(i);
        const double each =
            batch.of_targets == nullptr
                ? targets_loss(plan_, batch.t.data + row * batch.t.stride)
                : batch.of_targets[row];
        total += batch.weights == nullptr
                     ? each
                     : static_cast<double>(batch.weights[row]) * each;
    }
    return weight == 0 ? 0 : total / weight;
}

template <class T>
double NetworkRunner<T>::loss(const T* params, T* grads, const Batch<T>& batch,
                              const Progress& progress, Descent<T>* descent) {
    const double of_outputs = loss_of_outputs(params, grads, batch, progress, descent);
    return plan_.loss.kind == Loss::poisson
               ? of_outputs + mean_targets_loss(batch, progress)
               : of_outputs;
}

template <class T>
double NetworkRunner<T>::loss_of_outputs(const T* params, T* grads,
                                         const Batch<T>& batch,
                                         const Progress& progress,
                                         Descent<T>* descent) {
    const Path path = path_of(grads, batch);
    if (path != Path::blocks && descent != nullptr) {
        settle(descent->params);  // old after a batch of so many rows that it descends
    }
    if (path == Path::row) {
        progress(multiply_adds_per_row_);
        return row_loss(params, grads, batch);
    }
    const double weight = batch.weight();
    const T scale = weight == 0 ? T(0) : T(1) / static_cast<T>(weight);
    double total = 0;
    switch (path) {
        case Path::neuron_by_columns:
            progress(weight * multiply_adds_per_row_);
            total = columns_.prepared_neuron_loss(params, grads, batch.rows);
            break;
        case Path::neuron_by_rows:
            total =
                sums_.sum(cut(batch.rows, plan_.neuron_range()), grads, progress,
                          [&](index_t begin, index_t count, T* sums, bool accumulate) {
                              return columns_.neuron_range_loss(
                                  params, sums, batch, begin, count, scale, accumulate);
                          });
            break;
        case Path::narrow:
            total = sums_.sum(cut(batch.rows, columns_.narrow_block()), grads, progress,
                              [&](index_t begin, index_t, T* sums, bool accumulate) {
                                  return columns_.narrow_block_loss(
                                      params, sums, batch, begin, scale, accumulate);
                              });
            break;
        case Path::row:
        case Path::blocks:
            total = blocks_loss(params, grads, batch, scale, progress, descent);
            break;
    }
    return weight == 0 ? 0 : total / weight;
}

template <class T>
double NetworkRunner<T>::row_loss(const T* params, T* grads,
                                  const Batch<T>& batch) const {
    return kernel_table().kernels<T>().row_loss_gradient(
        {plan_.layers.data(), static_cast<index_t>(plan_.layers.size()), plan_.loss,
         params, grads, batch.first_row(), batch.t.data + batch.row(0) * batch.t.stride,
         blocks_.scratch()});
}

template <class T>
double NetworkRunner<T>::blocks_loss(const T* params, T* grads, const Batch<T>& batch,
                                     T scale, const Progress& progress,
                                     Descent<T>* descent) {
    if (!blocks_.are_shared()) {
        return blocks_.loss(params, grads, batch, scale, progress, descent);
    }
    return sums_.sum(cut(batch.rows, blocks_.rows()), grads, progress,
                     [&](index_t begin, index_t rows, T* sums, bool accumulate) {
                         return blocks_.shared_loss(params, sums, batch, begin, rows,
                                                    scale, accumulate);
                     });
}

template double targets_loss<float>(const NetworkPlan&, const float*);
template double targets_loss<double>(const NetworkPlan&, const double*);

template class NetworkRunner<float>;
template class NetworkRunner<double>;

}  // namespace siglin
