#include "row_steps.h"

#include <algorithm>
#include <cmath>

#include "dispatch.h"
#include "random.h"
#include "runner.h"

namespace siglin {
namespace {

index_t row_scratch(const NetworkPlan& plan) {
    index_t total = 0;
    for (const RowLayer& layer : plan.layers) {
        total += 2 * layer.n_out;
    }
    return total;
}

constexpr std::size_t kGeneratorWords = 4;

}  // namespace

template <class T>
bool RowSteps<T>::serve(const FitJob<T>& job) {
    const FitSettings& settings = job.settings;
    // Blocks, which other batches with dropout take, divide by a row's weight.
    const bool divides = settings.dropout > 0 && job.data.weights != nullptr;
    return job.plan->is_small() && !settings.objective.scikit_learn && !divides;
}

template <class T>
RowSteps<T>::RowSteps(const FitJob<T>& job, const double* of_targets)
    : job_(job),
      kernels_(kernel_table().kernels<T>()),
      of_targets_(of_targets),
      grads_(job.plan->n_params),
      scratch_(row_scratch(*job.plan)),
      args_{job.plan->layers.data(),
            static_cast<index_t>(job.plan->layers.size()),
            job.plan->loss,
            job.state.params,
            grads_.data(),
            nullptr,
            nullptr,
            scratch_.data(),
            {job.settings.dropout}},
      descends_(!job.settings.objective.is_plain() && job.settings.clip_norm == 0 &&
                job.settings.optimizer == Optimizer::gd),
      stepper_(job, grads_.data()) {
    const T l1 = static_cast<T>(job.settings.objective.l1);
    const T l2 = static_cast<T>(job.settings.objective.l2);
    for (const RowLayer& layer : job.plan->layers) {
        if (job.settings.objective.is_plain()) {
            break;
        }
        T* const w = job.state.params + layer.w;
        penalties_.push_back(
            {w, grads_.data() + layer.w, layer.n_in * layer.n_out, l1, l2});
        if (descends_) {
            penalties_.back().param = w;
            penalties_.back().others = layer.b >= 0 ? layer.n_out : 0;
        }
    }
}

template <class T>
bool RowSteps<T>::run(const index_t* rows, index_t first, index_t count, double lr,
                      double* losses) {
    std::uint64_t* const generator = job_.state.generator;
    const bool draws = job_.settings.dropout > 0;
    std::uint64_t words[kGeneratorWords];
    if (draws) {
        std::copy_n(generator, kGeneratorWords, words);
    }
    stepper_.set_lr(lr);
    for (PenaltyArgs<T>& penalty : penalties_) {
        penalty.lr = static_cast<T>(lr);
    }
    stepper_.remember();
    if (make_all(rows, first, count, losses) && stepper_.is_finite()) {
        return true;
    }
    stepper_.go_back();
    if (draws && count > 1) {
        std::copy_n(words, kGeneratorWords, generator);
    }
    return false;
}

template <class T>
bool RowSteps<T>::make_all(const index_t* rows, index_t first, index_t count,
                           double* losses) {
    for (index_t s = 0; s < count; ++s) {
        losses[s] = objective(rows == nullptr ? first + s : rows[s]);
        if (!std::isfinite(losses[s])) {
            return false;
        }
        if (!descends_) {
            stepper_.step_unchecked();
        }
    }
    return true;
}

// The loss of a row with the penalties; leaves the gradient, or makes the step.
template <class T>
double RowSteps<T>::objective(index_t row) {
    const FitData<T>& data = job_.data;
    args_.x = data.x.data + row * data.x.stride;
    args_.t = data.t.data + row * data.t.stride;
    if (job_.settings.dropout > 0) {
        args_.drops.seed = Generator(job_.state.generator).next();
    }
    double loss = kernels_.row_loss_gradient(args_);
    if (job_.plan->loss.kind == Loss::poisson) {
        loss += targets_loss_of(row);
    }
    for (const PenaltyArgs<T>& penalty : penalties_) {
        loss += kernels_.penalise(penalty);
    }
    return loss;
}

// As a mean over the one row, whose weight need not cancel to the last bit.
template <class T>
double RowSteps<T>::targets_loss_of(index_t row) const {
    const double each =
        of_targets_ == nullptr ? targets_loss(*job_.plan, args_.t) : of_targets_[row];
    if (job_.data.weights == nullptr) {
        return each;
    }
    const auto weight = static_cast<double>(job_.data.weights[row]);
    return weight * each / weight;
}

template class RowSteps<float>;
template class RowSteps<double>;

}  // namespace siglin
