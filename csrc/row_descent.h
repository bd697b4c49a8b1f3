// A fit by steps on single rows of a small network, many at a time: plain gradient
// descent by one kernel call, all others by RowSteps.
#pragma once

#include <cstdint>
#include <optional>

#include "buffer.h"
#include "fit_loop.h"
#include "kernel_table.h"
#include "row_steps.h"

namespace siglin {

template <class T>
class RowDescent {
  public:
    static bool serves(const FitJob<T>& job);

    // For a job that it serves.
    RowDescent(const FitJob<T>& job, FitLoop& loop);

    void run();

  private:
    void descend(index_t begin, index_t count);
    bool make(index_t begin, index_t count);
    double weight_of(index_t step) const;
    void end_step(index_t step, double loss);

    const FitData<T>& data_;
    FitLoop& loop_;
    std::uint64_t* generator_;
    index_t rows_;
    index_t epochs_;  // whose order is known at once
    bool shuffles_;
    index_t steps_;
    index_t row_ = 0;  // of the present epoch
    Buffer<index_t> order_;
    const index_t* given_;  // the order; null: one after the other
    double lr_ = 0;
    Buffer<double> losses_;
    Buffer<T> scratch_;
    DescentArgs<T> args_;
    Buffer<double> of_targets_;
    std::optional<RowSteps<T>> steps_with_options_;
};

extern template class RowDescent<float>;
extern template class RowDescent<double>;

}  // namespace siglin
