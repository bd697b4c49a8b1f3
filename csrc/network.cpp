#include "network.h"

#include <algorithm>
#include <cmath>

#include "dispatch.h"
#include "parallel.h"

namespace siglin {

template <class T>
NetworkRunner<T>::NetworkRunner(const NetworkPlan& plan, index_t rows)
    : plan_(plan),
      small_(plan.is_small()),
      blocks_(plan, rows),
      columns_(plan, rows),
      multiply_adds_per_row_(plan.multiply_adds_per_row()) {
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
        const index_t slots = plan.slots(blocks, sizeof(T));
        slot_grads_ = Buffer<T>(slots * plan.n_params);
        slot_losses_.resize(static_cast<std::size_t>(slots));
    }
}

// parallel_for over all blocks, in waves of some milliseconds with a call of progress
// after each.
template <class T>
template <class Run>
void NetworkRunner<T>::for_waves(index_t count, index_t rows_each,
                                 const Progress& progress, const Run& run) const {
    constexpr double kWaveWork = 5e8;  // 10 ms of one core
    const double each = static_cast<double>(rows_each) * multiply_adds_per_row_;
    const auto wave = static_cast<index_t>(
        std::clamp(num_threads() * kWaveWork / each, 1.0, static_cast<double>(count)));
    for (index_t begin = 0; begin < count; begin += wave) {
        const index_t n = std::min(wave, count - begin);
        const double work = each * static_cast<double>(n);
        parallel_for(n, work, [&](index_t i) { run(begin + i); });
        progress(work);
    }
}

template <class T>
void NetworkRunner<T>::predict(const T* params, MatrixView<const T> x,
                               MatrixView<T> out, const Progress& progress) {
    const index_t block = blocks_.rows();
    const index_t count = (x.rows + block - 1) / block;
    const auto run = [&](index_t i, const Progress* between) {
        const index_t begin = i * block;
        const index_t rows = std::min(block, x.rows - begin);
        blocks_.predict(params, {x.data + begin * x.stride, rows, x.cols, x.stride},
                        {out.data + begin * out.stride, rows, out.cols, out.stride},
                        between);
    };
    if (!blocks_.are_shared()) {
        for (index_t i = 0; i < count; ++i) {
            run(i, &progress);
        }
        return;
    }
    for_waves(count, block, progress, [&](index_t i) { run(i, nullptr); });
}

template <class T>
typename NetworkRunner<T>::Path NetworkRunner<T>::path_of(const T* grads,
                                                          const Batch<T>& batch) const {
    if (grads == nullptr) {
        return Path::blocks;
    }
    const bool drops = batch.drops.probability > 0 && plan_.layers.size() > 1;
    // A weight that is not 0 changes nothing of a mean over one row.
    if (batch.rows == 1 && small_ && !batch.clips && !drops &&
        (batch.weights == nullptr || batch.weight() > 0)) {
        return Path::row;
    }
    if (columns_.has_neuron() && batch.weights == nullptr && !batch.clips) {
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
    return plan_.loss.kind == Loss::poisson ? of_outputs + mean_targets_loss(batch, progress)
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
            total = sum_of_blocks(
                batch.rows, plan_.neuron_range(), grads, progress,
                [&](index_t begin, index_t count, T* sums, bool accumulate) {
                    return columns_.neuron_range_loss(params, sums, batch, begin, count,
                                                      scale, accumulate);
                });
            break;
        case Path::narrow:
            total = sum_of_blocks(
                batch.rows, columns_.narrow_block(), grads, progress,
                [&](index_t begin, index_t, T* sums, bool accumulate) {
                    return columns_.narrow_block_loss(params, sums, batch, begin, scale,
                                                      accumulate);
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
    return sum_of_blocks(batch.rows, blocks_.rows(), grads, progress,
                         [&](index_t begin, index_t rows, T* sums, bool accumulate) {
                             return blocks_.shared_loss(params, sums, batch, begin,
                                                        rows, scale, accumulate);
                         });
}

// The sum of block_loss(begin, rows, sums, accumulate) over all blocks, shared among
// the threads; grads (or null) gets the sum of their gradients. Slot s sums the blocks
// from s * blocks / slots on, in order; then the slots are added in order.
template <class T>
template <class BlockLoss>
double NetworkRunner<T>::sum_of_blocks(index_t rows, index_t block, T* grads,
                                       const Progress& progress,
                                       const BlockLoss& block_loss) {
    const index_t blocks = (rows + block - 1) / block;
    if (blocks == 1) {
        progress(static_cast<double>(rows) * multiply_adds_per_row_);
        return block_loss(0, rows, grads, false);
    }
    const index_t slots = plan_.slots(blocks, sizeof(T));
    std::fill_n(slot_losses_.begin(), slots, 0.0);
    // Some blocks of every slot, then the next: all threads have work, and progress
    // comes every few milliseconds.
    constexpr double kWork = 5e8;  // 10 ms of one core
    const double each = static_cast<double>(block) * multiply_adds_per_row_;
    const double together = kWork * num_threads() / (each * static_cast<double>(slots));
    const index_t longest = (blocks + slots - 1) / slots;
    const auto some =
        static_cast<index_t>(std::clamp(together, 1.0, static_cast<double>(longest)));
    for (index_t done = 0; done < longest; done += some) {
        const double work = each * static_cast<double>(slots * some);
        parallel_for(slots, work, [&](index_t slot) {
            T* sums =
                grads == nullptr ? grads : slot_grads_.data() + slot * plan_.n_params;
            const index_t first = slot * blocks / slots;
            const index_t last = (slot + 1) * blocks / slots;
            for (index_t i = first + done; i < std::min(last, first + done + some);
                 ++i) {
                const index_t begin = i * block;
                slot_losses_[static_cast<std::size_t>(slot)] +=
                    block_loss(begin, std::min(block, rows - begin), sums, i > first);
            }
        });
        progress(work);
    }
    double total = 0;
    for (index_t slot = 0; slot < slots; ++slot) {
        total += slot_losses_[static_cast<std::size_t>(slot)];
        if (grads == nullptr) {
            continue;
        }
        const T* sums = slot_grads_.data() + slot * plan_.n_params;
        if (slot == 0) {
            std::copy_n(sums, plan_.n_params, grads);
        } else {
            kernel_table().kernels<T>().add_to(sums, grads, plan_.n_params);
        }
    }
    return total;
}

template double targets_loss<float>(const NetworkPlan&, const float*);
template double targets_loss<double>(const NetworkPlan&, const double*);

template class NetworkRunner<float>;
template class NetworkRunner<double>;

}  // namespace siglin
