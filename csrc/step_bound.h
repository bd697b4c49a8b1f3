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
    void set(double largest) { bound_ = largest; }

    // Whether every parameter stays finite if none changes by more than `change`; the
    // bound grows by it. False where either is NaN.
    bool allows(double change) {
        const double next = bound_ + change;
        if (!(next <= limit_)) {
            return false;
        }
        bound_ = next;
        return true;
    }

  private:
    double limit_;
    double bound_ = 0;
};

}  // namespace siglin
