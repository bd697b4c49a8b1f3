// Early stopping: the losses that epochs are judged by, and the best parameters so far.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>

#include "buffer.h"
#include "fit_loop.h"
#include "runner.h"

namespace siglin {

// A loss that is NaN or infinite is never the best.
template <class T>
class Validator {
  public:
    Validator(const FitJob<T>& job, FitLoop& loop) : job_(job), loop_(loop) {
        if (job.validation.x.rows > 0) {
            runner_.emplace(*job.plan, job.validation.x.rows,
                            job.validation.sparse.starts != nullptr);
        }
        loop.validate = [this] { return epoch(); };
    }
    Validator(const Validator&) = delete;
    Validator& operator=(const Validator&) = delete;

    // Puts the best parameters back; without any, the last ones stay.
    void restore() const {
        if (best_params_.data() != nullptr) {
            std::copy_n(best_params_.data(), job_.plan->n_params, job_.state.params);
        }
    }

  private:
    // Takes the loss of an epoch; returns whether patience has run out.
    bool epoch() {
        const FitValidation<T>& data = job_.validation;
        FitResult& result = loop_.result;
        double loss = result.loss.back();
        if (runner_) {
            Batch<T> all = {data.x, data.t, nullptr, data.x.rows, data.weights};
            all.sparse = data.sparse;
            loss = runner_->loss(
                job_.state.params, nullptr, all,
                [this](double multiply_adds) { loop_.poll.charge(multiply_adds); });
            result.validation_loss.push_back(loss);
        }
        if (data.patience == 0) {
            return false;
        }
        const bool first = result.best_epoch == 0;
        if (std::isfinite(loss) && (first || loss < best_ - data.min_delta)) {
            if (first) {
                best_params_ = Buffer<T>(job_.plan->n_params);
            }
            std::copy_n(job_.state.params, job_.plan->n_params, best_params_.data());
            best_ = loss;
            result.best_epoch = result.epochs;
        }
        return result.epochs - result.best_epoch >= data.patience;
    }

    const FitJob<T>& job_;
    FitLoop& loop_;
    std::optional<NetworkRunner<T>> runner_;  // of the validation data
    Buffer<T> best_params_;
    double best_ = 0;
};

}  // namespace siglin
