// One step of an optimiser.
#pragma once

#include <cstdint>
#include <limits>

#include "buffer.h"
#include "fit.h"
#include "kernel_table.h"
#include "progress.h"
#include "step_bound.h"

namespace siglin {

// The steps of one optimiser over the parameters of a network.
template <class T>
class Stepper {
  public:
    // grads: where each step finds its gradients.
    Stepper(const FitJob<T>& job, const T* grads);

    // Takes a step, by clipped gradients if the fit wants that. Returns the squared
    // norm of the change, or NaN where it would diverge; then nothing is changed.
    // progress: called between passes over the parameters, before the first changes.
    // touched: whether that has let others write parameters.
    double step(const Progress& progress, const bool& touched);

    // Takes a step without checks; remember comes before. Since no step leaves a
    // parameter finite that was not, it is enough to ask after many whether all are,
    // and to go back to what was remembered if not. The first remember allocates.
    void remember();
    void step_unchecked();
    bool is_finite() const;
    void go_back();

    void set_lr(double lr) {
        lr_ = lr;
        args_.lr = static_cast<T>(lr);
    }

    // The parameters may have been written to by others.
    void forget() { known_ = false; }

    // Whether steps of plain descent can be left to whoever finds the gradients.
    bool can_be_left(double multiply_adds) const;

    // See Descent.
    StepBound& bound(bool anew);

    void count_step() { ++steps_; }

  private:
    void begin_step(const Progress* progress);
    double largest(const T* values, const Progress& progress) const;
    void measure(const Progress& progress);
    bool cannot_overflow(const Progress& progress);
    bool makes(double change);

    const FitSettings& settings_;
    double lr_;
    std::int64_t steps_;
    UpdateArgs<T> args_ = {};
    PenaltyArgs<T> squares_ = {};  // half of the gradients' squares
    double (*step_)(const UpdateArgs<T>&) = nullptr;
    StepBound bound_;
    double m_ = 0;  // bounds on the moments
    double v_ = 0;
    bool known_ = false;
    double bias1_ = 0;  // Adam's corrections, 1 - beta^t, once 1
    double bias2_ = 0;
    // What was remembered: the parameters, then the moments.
    Buffer<T> before_;
    std::int64_t steps_before_ = 0;
};

extern template class Stepper<float>;
extern template class Stepper<double>;

}  // namespace siglin
