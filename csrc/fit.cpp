#include "fit.h"

#include "fit_run.h"

namespace siglin {
namespace {

// Adds the time that it lives.
class Stopwatch {
  public:
    explicit Stopwatch(double& seconds) : seconds_(seconds) {}
    ~Stopwatch() {
        seconds_ += std::chrono::duration<double>(Clock::now() - start_).count();
    }
    Stopwatch(const Stopwatch&) = delete;
    Stopwatch& operator=(const Stopwatch&) = delete;

  private:
    using Clock = std::chrono::steady_clock;
    double& seconds_;
    Clock::time_point start_ = Clock::now();
};

}  // namespace

template <class T>
FitRun<T>::FitRun(const FitJob<T>& job, const FitHooks& hooks, FitResult& result)
    : loop_(job.settings, hooks, job.data.rows(), result) {
    const Stopwatch stopwatch(result.seconds);
    if (job.validation.judges()) {  // first: rows ask who looks at epochs
        validator_.emplace(job, loop_);
    }
    if (RowDescent<T>::serves(job)) {
        rows_.emplace(job, loop_);
    } else {
        batches_.emplace(job, loop_);
    }
}

template <class T>
void FitRun<T>::run(index_t epochs) {
    const Stopwatch stopwatch(loop_.result.seconds);
    const index_t left = loop_.settings.epochs - loop_.result.epochs;
    loop_.until = loop_.result.epochs + std::min(epochs, left);
    if (rows_) {
        rows_->run();
    } else {
        batches_->run();
    }
}

template <class T>
void FitRun<T>::end() {
    loop_.settle_now();
    if (validator_ && loop_.result.reason != StopReason::diverged) {
        validator_->restore();
    }
}

std::int64_t fused_steps() { return fused_steps_of_thread; }

template <class T>
void fit(const FitJob<T>& job, const FitHooks& hooks, FitResult& result) {
    FitRun<T> run(job, hooks, result);
    run.run(job.settings.epochs);
    run.end();
}

template class FitRun<float>;
template class FitRun<double>;

template void fit<float>(const FitJob<float>&, const FitHooks&, FitResult&);
template void fit<double>(const FitJob<double>&, const FitHooks&, FitResult&);

}  // namespace siglin
