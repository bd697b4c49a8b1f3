// Which steps of an optimiser need no look at every new parameter before the first is
// written: those that cannot overflow.
#pragma once

namespace siglin {

// A bound on the magnitude of all parameters, carried from step to step. In double, for
// parameters of either dtype. An eighth of the dtype's largest number leaves room for
// rounding, which at most doubles what a step adds: a change of less than half an ulp
// of the largest parameter does not make it larger.
class StepBound {
  public:
    explicit StepBound(double largest_finite) : limit_(largest_finite / 8) {}

    double limit() const { return limit_; }

    // The parameters are at most this large; NaN: nothing is known.
    void set(double largest) { bound_ = measured_ = largest; }

    // Whether steps have made it much larger than the parameters were.
    bool has_grown() const { return bound_ > 2 * measured_; }

    double largest() const { return bound_; }

    // Whether every parameter stays finite if none changes by more than `change`. False
    // where either is NaN.
    bool allows(double change) const { return bound_ + change <= limit_; }

    // No parameter has changed by more.
    void add(double change) { bound_ += change; }

  private:
    double limit_;
    double bound_ = 0;
    double measured_ = 0;
};

}  // namespace siglin
