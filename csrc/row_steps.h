// Steps on single rows of a small network with whatever options a fit has: the gradient
// of a row by one kernel call, then penalties, clipping and the optimiser.
#pragma once

#include <vector>

#include "buffer.h"
#include "fit.h"
#include "kernel_table.h"
#include "stepper.h"

namespace siglin {

template <class T>
class RowSteps {
  public:
    // Whether these steps have the bits of BatchFit's.
    static bool serve(const FitJob<T>& job);

    // For a job that they serve. of_targets: as in Batch.
    RowSteps(const FitJob<T>& job, const double* of_targets);

    // A step on each of `count` rows, and the loss before it; or none and false, where
    // a loss or a new parameter would not be finite. rows: their numbers, or null: from
    // `first` on. After a single step that is not made the generator is where that
    // leaves it, else where it was.
    bool run(const index_t* rows, index_t first, index_t count, double lr,
             double* losses);

  private:
    bool make_all(const index_t* rows, index_t first, index_t count, double* losses);
    double objective(index_t row);
    double targets_loss_of(index_t row) const;

    const FitJob<T>& job_;
    const Kernels<T>& kernels_;
    const double* of_targets_;
    Buffer<T> grads_;
    Buffer<T> scratch_;
    RowArgs<T> args_;
    std::vector<PenaltyArgs<T>> penalties_;  // of each layer; empty: there are none
    const bool descends_;  // with the penalties, in the one pass that adds them
    Stepper<T> stepper_;
};

extern template class RowSteps<float>;
extern template class RowSteps<double>;

}  // namespace siglin
