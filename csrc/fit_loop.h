// The bookkeeping of a fit: steps, epochs, hooks and why it stopped.
#pragma once

#include <algorithm>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>

#include "fit.h"
#include "progress.h"

namespace siglin {

// The step size of the epoch that begins. Throws std::invalid_argument for one that no
// epoch can use.
template <class T>
double lr_of_epoch(const FitSettings& settings) {
    if (settings.rate == nullptr) {
        return settings.lr;
    }
    const double lr = *settings.rate;
    if (!(lr > 0 && lr <= static_cast<double>(std::numeric_limits<T>::max()))) {
        throw std::invalid_argument("fit: lr must be a finite number > 0, got " +
                                    std::to_string(lr));
    }
    return lr;
}

class FitLoop {
  public:
    FitLoop(const FitSettings& settings_, const FitHooks& hooks_, index_t rows_,
            FitResult& result_)
        : settings(settings_),
          hooks(hooks_),
          rows(rows_),
          result(result_),
          poll([this] {
              if (!hooks.interrupted) {
                  return false;
              }
              before_hook();  // a signal's handler may run
              return hooks.interrupted(result.epochs);
          }),
          until(settings_.epochs),
          report_(hooks_.min_interval) {
        // To grow is to copy; a megabyte, if it is used, is taken at once.
        constexpr index_t kMost = 1 << 17;
        result.loss.reserve(static_cast<std::size_t>(std::min(settings.epochs, kMost)));
    }

    // Whether there is something to do before the next pause.
    bool running() const { return !stopped && result.epochs < until; }

    bool is_over() const { return stopped || result.epochs >= settings.epochs; }

    void stop(StopReason reason) {
        result.reason = reason;
        stopped = true;
    }

    // How many of so many steps may be made before on_step wants to see the parameters.
    index_t steps_to_hook(index_t most) const {
        const index_t every = hooks.every;
        return every > 0 ? std::min(most, every - result.steps % every) : most;
    }

    // Whether somebody looks at the parameters after every epoch.
    bool hooks_every_epoch() const {
        return validate || (hooks.on_epoch && hooks.min_interval <= 0);
    }

    // weight: of the loss in the epoch's mean, 1 for a full batch of plain rows.
    void diverge(double loss, double weight = 1) {
        total_ += weight * loss;
        weight_ += weight;
        stop(StopReason::diverged);
    }

    void end_step(double loss, double weight = 1) {
        total_ += weight * loss;
        weight_ += weight;
        ++result.steps;
        if (hooks.every > 0 && result.steps % hooks.every == 0) {
            before_hook();
            hooks.on_step(result.epochs + 1, result.steps, loss);
        }
    }

    void end_epoch() {
        result.loss.push_back(weight_ == 0 ? 0 : total_ / weight_);
        total_ = 0;
        weight_ = 0;
        ++result.epochs;
        if (result.reason == StopReason::diverged) {
            return;
        }
        const double* of_validation = nullptr;
        if (validate) {
            settle_now();
            impatient_ = validate();
            before_patience_ = result.reason;
            if (!result.validation_loss.empty()) {
                of_validation = &result.validation_loss.back();
            }
        }
        bool wants_end = false;
        if (hooks.on_epoch) {
            const double work = static_cast<double>(rows) * work_per_row;
            if (is_over() || impatient_ || hooks.min_interval <= 0 ||
                report_.due(work)) {
                before_hook();
                wants_end =
                    hooks.on_epoch(result.epochs, result.steps, result.loss.back(),
                                   of_validation, is_over() || impatient_);
            }
        }
        if (wants_end) {  // comes first
            end_by_callback();
        } else if (impatient_) {
            stop(StopReason::patience);
        }
    }

    // A callback wants it, unless something else has ended the fit already.
    void end_by_callback() {
        if (impatient_) {
            result.reason = before_patience_;
            stopped = before_patience_ != StopReason::epochs;
        }
        if (!stopped) {
            stop(StopReason::callback);
        }
    }

    // Epochs of one step each, where no hook stands between them: returns whether none
    // does.
    bool end_epochs(const double* losses, index_t count) {
        if (hooks.on_epoch || hooks.every > 0 || validate) {
            return false;
        }
        result.loss.insert(result.loss.end(), losses, losses + count);
        result.epochs += count;
        result.steps += count;
        return true;
    }

    const FitSettings& settings;
    const FitHooks& hooks;
    const index_t rows;
    FitResult& result;
    double work_per_row = 0;
    InterruptPoll poll;
    bool stopped = false;
    bool hooked = false;           // a hook has run: the parameters may be others
    std::function<void()> settle;  // brings the parameters up to date
    // Judges an epoch; returns whether patience has run out.
    std::function<bool()> validate;
    index_t until;  // epochs, at which to pause

    // Others are about to see the parameters, and perhaps to change them.
    void before_hook() {
        hooked = true;
        settle_now();
    }

    void settle_now() {
        if (settle) {
            settle();
        }
    }

  private:
    Pacer report_;
    bool impatient_ = false;  // patience has run out
    StopReason before_patience_ = StopReason::epochs;
    double total_ = 0;  // of the epoch's losses so far
    double weight_ = 0;
};

}  // namespace siglin
