// A fit by steps on batches: the way of all networks, whatever a fit was asked.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "buffer.h"
#include "fit_loop.h"
#include "random.h"
#include "runner.h"
#include "stepper.h"
#include "targets_losses.h"

namespace siglin {

inline thread_local std::int64_t fused_steps_of_thread = 0;

// Plain gradient descent of one neuron with full batches, many steps to a kernel call.
template <class T>
void descend_neuron(const NetworkRunner<T>& runner, T* params, FitLoop& loop) {
    // Of a call, about 0.1 ms; a callback stands between any two epochs.
    constexpr double kWork = 1e6;
    constexpr double kMostSteps = 256;
    const double work = static_cast<double>(loop.rows) * loop.work_per_row;
    const auto most =
        loop.hooks_every_epoch()
            ? index_t{1}
            : static_cast<index_t>(std::clamp(kWork / work, 1.0, kMostSteps));
    Buffer<double> losses(most);
    while (loop.running()) {
        const index_t count =
            std::min(loop.steps_to_hook(most), loop.until - loop.result.epochs);
        loop.poll.charge(static_cast<double>(count) * work);
        const T lr = static_cast<T>(lr_of_epoch<T>(loop.settings));
        const NeuronDescentResult done = runner.descend_neuron(
            params, loop.rows, lr, loop.settings.tol, count, losses.data());
        for (index_t s = 0; s < done.steps; ++s) {
            loop.end_step(losses.data()[s]);
            if (done.small_step && s + 1 == done.steps) {
                loop.stop(StopReason::tol);
            }
            loop.end_epoch();
        }
        if (done.diverged) {
            loop.diverge(losses.data()[done.steps]);
            loop.end_epoch();
        }
    }
}

// Settles the parameters at its end, whatever ends it.
template <class T>
class BatchFit {
  public:
    BatchFit(const FitJob<T>& job, FitLoop& loop)
        : job_(job),
          loop_(loop),
          descends_(job.descends()),
          rows_(loop.rows),
          batch_rows_(std::min(job.settings.batch_size, rows_)),
          ordered_(job.settings.order != nullptr && batch_rows_ < rows_),
          shuffles_(job.settings.shuffle && batch_rows_ < rows_ && !ordered_),
          runner_(*job.plan, batch_rows_, job.data.is_sparse()),
          grads_(job.plan->n_params),
          order_(shuffles_ || ordered_ ? rows_ : 0),
          given_(shuffles_ || ordered_ ? order_.data() : job.data.subset.rows),
          stepper_(job, grads_.data()),
          of_targets_(targets_losses(job, loop)),
          descent_{job.state.params, static_cast<T>(job.settings.lr),
                   [this](bool anew) -> StepBound& {
                       heed_hooks();
                       return stepper_.bound(anew);
                   }},
          progress_(
              [this](double multiply_adds) { loop_.poll.charge(multiply_adds); }) {
        if (batch_rows_ == rows_ && job.settings.epochs > 0) {
            Batch<T> all = {job.data.x, job.data.t, given_, rows_, job.data.weights};
            all.clips = clips(job.settings.objective, *job.plan);
            all.sparse = job.data.sparse;
            runner_.prepare(all);
        }
        loop.work_per_row = runner_.multiply_adds_per_row();
        loop.settle = [this] { settle(); };
    }
    ~BatchFit() { settle(); }
    BatchFit(const BatchFit&) = delete;
    BatchFit& operator=(const BatchFit&) = delete;

    // Goes on until the loop pauses.
    void run() {
        if (descends_ && batch_rows_ == rows_ && runner_.has_neuron()) {
            descend_neuron(runner_, job_.state.params, loop_);
        }
        while (loop_.running()) {
            begin_epoch();
            for (index_t begin = 0; !loop_.stopped && begin < rows_;
                 begin += batch_rows_) {
                step(begin);
            }
            loop_.end_epoch();
        }
    }

  private:
    void settle() { runner_.settle(job_.state.params); }

    void heed_hooks() {
        if (loop_.hooked) {
            loop_.hooked = false;
            stepper_.forget();
        }
    }

    void begin_epoch() {
        const FitSettings& settings = job_.settings;
        if (shuffles_) {
            fill_order(job_.data.subset, order_.data(), rows_);
            shuffle_rows(job_.state.generator, order_.data(), rows_, loop_.poll);
        }
        if (ordered_) {
            // A copy: what a hook writes during an epoch is the next one's.
            std::copy_n(settings.order, rows_, order_.data());
            check_order(order_.data(), rows_);
        }
        if (settings.rate != nullptr) {
            const double lr = lr_of_epoch<T>(settings);
            stepper_.set_lr(lr);
            descent_.lr = static_cast<T>(lr);
        }
    }

    // The rows of the batch that begins at this one of the epoch.
    Batch<T> batch_at(index_t begin) const {
        const FitData<T>& data = job_.data;
        Batch<T> batch = {data.x, data.t, nullptr,
                          std::min(batch_rows_, rows_ - begin)};
        batch.weights = data.weights;
        batch.of_targets = of_targets_.data();
        batch.sparse = data.sparse;
        if (given_ != nullptr) {
            batch.order = given_ + begin;
        } else {
            if (batch.is_sparse()) {
                batch.sparse.starts += begin;
            }
            batch.x.data += begin * data.x.stride;
            batch.t.data += begin * data.t.stride;
            if (batch.weights != nullptr) {
                batch.weights += begin;
            }
            if (batch.of_targets != nullptr) {
                batch.of_targets += begin;
            }
        }
        batch.known_weight = job_.settings.weights_scale
                                 ? static_cast<double>(batch.rows)
                                 : batch.weight();
        return batch;
    }

    // How much a batch's loss counts in the epoch's mean: as its rows do. Equal batches
    // of plain rows have 1, and the bits of a plain mean; so has the only one.
    double share_of(const Batch<T>& batch) const {
        if (job_.settings.objective.scikit_learn) {
            return static_cast<double>(batch.rows);
        }
        return batch_rows_ == rows_
                   ? 1.0
                   : batch.known_weight / static_cast<double>(batch_rows_);
    }

    // The batch's loss and gradients, or with a descent the whole step.
    double loss_of(const Batch<T>& batch, index_t begin) {
        const Objective& objective = job_.settings.objective;
        T* const params = job_.state.params;
        descent_.done = false;
        descent_.ahead = false;
        descent_.next_x = nullptr;
        if (job_.settings.weights_scale) {
            // The loss of the row itself, which counts once whatever it weighs.
            const auto own = static_cast<double>(batch.weights[batch.row(0)]);
            const double loss = runner_.loss(params, grads_.data(), batch, progress_);
            return penalised(loss / own, objective, *job_.plan, params, grads_.data());
        }
        if (!objective.is_plain()) {
            return objective_of(objective, runner_, *job_.plan, params, grads_.data(),
                                batch, progress_);
        }
        if (batch_rows_ == 1 && begin + 1 < rows_ && !batch.is_sparse()) {
            const index_t next = given_ != nullptr ? given_[begin + 1] : begin + 1;
            descent_.next_x = job_.data.x.data + next * job_.data.x.stride;
        }
        // Not the first: it allocates nearly all that the later ones use, and a step
        // that runs out of memory should not have begun to change the parameters.
        const bool left =
            descends_ && loop_.result.steps > 0 &&
            stepper_.can_be_left(static_cast<double>(batch_rows_) * loop_.work_per_row +
                                 (batch.is_sparse() ? work_of_values(batch) : 0));
        return runner_.loss(params, grads_.data(), batch, progress_,
                            left ? &descent_ : nullptr);
    }

    double work_of_values(const Batch<T>& batch) const {
        return 2 * sparse_work(batch.sparse_rows(), job_.plan->layers[0].n_out);
    }

    void step(index_t begin) {
        const FitSettings& settings = job_.settings;
        Batch<T> batch = batch_at(begin);
        if (batch.known_weight == 0 && !settings.objective.scikit_learn) {
            loop_.poll.charge(static_cast<double>(batch.rows));
            return;  // nothing is to be learnt from it: no step
        }
        if (settings.dropout > 0) {
            batch.drops = {settings.dropout, Generator(job_.state.generator).next()};
        }
        const double share = share_of(batch);
        const double loss = loss_of(batch, begin);
        double norm2 = loss - loss;
        if (descent_.done) {
            stepper_.count_step();
            ++fused_steps_of_thread;
        } else if (std::isfinite(loss)) {
            settle();
            heed_hooks();
            norm2 = stepper_.step(progress_, loop_.hooked);
        }
        if (std::isnan(norm2)) {
            loop_.diverge(loss, share);
            return;
        }
        loop_.end_step(loss, share);
        if (settings.tol > 0 && norm2 <= settings.tol * settings.tol) {
            loop_.stop(StopReason::tol);
        }
    }

    const FitJob<T>& job_;
    FitLoop& loop_;
    const bool descends_;
    const index_t rows_;
    const index_t batch_rows_;
    const bool ordered_;
    const bool shuffles_;
    NetworkRunner<T> runner_;
    Buffer<T> grads_;
    Buffer<index_t> order_;
    const index_t* given_;  // the order; null: one after the other
    Stepper<T> stepper_;
    Buffer<double> of_targets_;
    Descent<T> descent_;
    Progress progress_;
};

}  // namespace siglin
