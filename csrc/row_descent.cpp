#include "row_descent.h"

#include <algorithm>

#include "dispatch.h"
#include "learn.h"
#include "targets_losses.h"

namespace siglin {
namespace {

// A call costs some steps' time; so many steps of the largest small net take less than
// a millisecond.
constexpr index_t kMostSteps = 256;

index_t layer_count(const NetworkPlan& plan) {
    return static_cast<index_t>(plan.layers.size());
}

// Whether no row has the weight 0, whose batch would make no step. Any other weight
// changes nothing of a mean over one row (but for one that scales).
template <class T>
bool all_count(const FitJob<T>& job) {
    const FitData<T>& data = job.data;
    if (data.weights != nullptr && job.settings.weights_scale) {
        return false;
    }
    const index_t rows = data.weights == nullptr ? 0 : data.rows();
    for (index_t i = 0; i < rows; ++i) {
        const index_t row = data.subset.rows == nullptr ? i : data.subset.rows[i];
        if (!(data.weights[row] > 0)) {
            return false;
        }
    }
    return true;
}

// Whether one kernel call makes all of many steps.
template <class T>
bool is_plain(const FitJob<T>& job) {
    return job.descends() && descends_row_by_row(*job.plan);
}

// Several epochs of few rows go into one call, unless a hook stands between them. With
// options also unless the fit may end between them: the generator and an optimiser's
// count of steps must then be those of the epochs that were made.
template <class T>
index_t epochs_together(const FitJob<T>& job, const FitLoop& loop) {
    const bool may_be_left = job.settings.shuffle || loop.hooks.on_epoch;
    if (loop.hooks_every_epoch() || (may_be_left && !is_plain(job))) {
        return 1;
    }
    const index_t most = std::min(kMostSteps / loop.rows, job.settings.epochs);
    return std::max<index_t>(most, 1);
}

}  // namespace

template <class T>
bool RowDescent<T>::serves(const FitJob<T>& job) {
    const FitSettings& settings = job.settings;
    return std::min(settings.batch_size, job.data.rows()) == 1 && settings.tol == 0 &&
           !job.data.is_sparse() && settings.order == nullptr &&
           (is_plain(job) || RowSteps<T>::serve(job)) && all_count(job);
}

template <class T>
RowDescent<T>::RowDescent(const FitJob<T>& job, FitLoop& loop)
    : data_(job.data),
      loop_(loop),
      generator_(job.state.generator),
      rows_(loop.rows),
      epochs_(epochs_together(job, loop)),
      shuffles_(job.settings.shuffle && rows_ > 1),
      steps_(std::min(kMostSteps, epochs_ * rows_)),
      order_(shuffles_ || epochs_ > 1 ? epochs_ * rows_ : 0),
      given_(shuffles_ || epochs_ > 1 ? order_.data() : data_.subset.rows),
      losses_(steps_),
      scratch_(is_plain(job) ? descent_scratch<T>(job.plan->layers.data(),
                                                  layer_count(*job.plan), steps_)
                             : 0),
      args_{job.plan->layers.data(),
            layer_count(*job.plan),
            job.plan->loss,
            job.state.params,
            static_cast<T>(job.settings.lr),
            data_.x,
            data_.t,
            nullptr,
            0,
            losses_.data(),
            scratch_.data()},
      of_targets_(targets_losses(job, loop)) {
    loop.work_per_row = job.plan->multiply_adds_per_row();
    if (!is_plain(job)) {
        steps_with_options_.emplace(job, of_targets_.data());
    }
    for (index_t e = 0; !shuffles_ && epochs_ > 1 && e < epochs_; ++e) {
        fill_order(data_.subset, order_.data() + e * rows_, rows_);
    }
}

template <class T>
void RowDescent<T>::run() {
    while (loop_.running()) {
        const index_t epochs = std::min(epochs_, loop_.until - loop_.result.epochs);
        lr_ = lr_of_epoch<T>(loop_.settings);
        for (index_t e = 0; shuffles_ && e < epochs; ++e) {
            index_t* order = order_.data() + e * rows_;
            fill_order(data_.subset, order, rows_);
            shuffle_rows(generator_, order, rows_, loop_.poll);
        }
        index_t count = 0;
        for (index_t begin = 0; !loop_.stopped && begin < epochs * rows_;
             begin += count) {
            count = loop_.steps_to_hook(std::min(steps_, epochs * rows_ - begin));
            loop_.poll.charge(static_cast<double>(count) * loop_.work_per_row);
            descend(begin, count);
        }
    }
}

// Steps begin ... begin + count - 1 of the epochs that are known.
template <class T>
void RowDescent<T>::descend(index_t begin, index_t count) {
    if (make(begin, count)) {
        if (rows_ == 1 && loop_.end_epochs(losses_.data(), count)) {
            return;
        }
        for (index_t s = 0; s < count; ++s) {
            end_step(begin + s, losses_.data()[s]);
        }
        return;
    }
    // One of them diverges: one by one, up to there.
    for (index_t s = 0; s < count; ++s) {
        if (!make(begin + s, 1)) {
            loop_.diverge(losses_.data()[0], weight_of(begin + s));
            loop_.end_epoch();
            return;
        }
        end_step(begin + s, losses_.data()[0]);
    }
}

// All of these steps or none, and whether it was all.
template <class T>
bool RowDescent<T>::make(index_t begin, index_t count) {
    const index_t* const order = given_ == nullptr ? nullptr : given_ + begin;
    if (steps_with_options_) {
        return steps_with_options_->run(order, begin, count, lr_, losses_.data());
    }
    args_.lr = static_cast<T>(lr_);
    args_.steps = count;
    args_.order = order;
    if (order == nullptr) {
        args_.x.data = data_.x.data + begin * data_.x.stride;
        args_.t.data = data_.t.data + begin * data_.t.stride;
    }
    return kernel_table().kernels<T>().row_descent(args_);
}

// How much the loss of a step counts in its epoch's mean.
template <class T>
double RowDescent<T>::weight_of(index_t step) const {
    if (data_.weights == nullptr || rows_ == 1) {
        return 1;
    }
    return static_cast<double>(data_.weights[given_ == nullptr ? step : given_[step]]);
}

template <class T>
void RowDescent<T>::end_step(index_t step, double loss) {
    loop_.end_step(loss, weight_of(step));
    if (++row_ == rows_) {
        row_ = 0;
        loop_.end_epoch();
    }
}

template class RowDescent<float>;
template class RowDescent<double>;

}  // namespace siglin
