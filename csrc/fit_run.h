// A fit that can pause between two epochs.
#pragma once

#include <chrono>
#include <optional>

#include "batch_fit.h"
#include "fit_loop.h"
#include "row_descent.h"
#include "validation.h"

namespace siglin {

template <class T>
class FitRun {
  public:
    // The arguments of `fit`.
    FitRun(const FitJob<T>& job, const FitHooks& hooks, FitResult& result);
    FitRun(const FitRun&) = delete;
    FitRun& operator=(const FitRun&) = delete;

    // Goes on for so many epochs at most; has the bits of one run. A pause may be ended
    // by another thread.
    void run(index_t epochs);
    bool is_over() const { return loop_.is_over(); }
    // A callback is about to run; it wants an end.
    void before_callback() { loop_.before_hook(); }
    void end_by_callback() { loop_.end_by_callback(); }
    // After the last epoch.
    void end();

  private:
    FitLoop loop_;
    std::optional<RowDescent<T>> rows_;
    std::optional<BatchFit<T>> batches_;
    std::optional<Validator<T>> validator_;
};

extern template class FitRun<float>;
extern template class FitRun<double>;

}  // namespace siglin
