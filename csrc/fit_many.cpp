#include "fit_many.h"

#include <atomic>
#include <thread>

#include "parallel.h"

namespace siglin {

template <class T>
void fit_many(const std::vector<FitJob<T>>& jobs,
              const std::function<bool(index_t)>& interrupted,
              std::vector<FitResult>& results) {
    const auto caller = std::this_thread::get_id();
    std::atomic<bool> stop = false;
    std::atomic<index_t> epochs = 0;
    const WhileWaiting ask = [&] {
        if (!stop.load(std::memory_order_relaxed) && interrupted &&
            interrupted(epochs.load(std::memory_order_relaxed))) {
            stop.store(true, std::memory_order_relaxed);
        }
    };
    const auto run = [&](index_t k) {
        const FitJob<T>& job = jobs[static_cast<std::size_t>(k)];
        FitResult& result = results[static_cast<std::size_t>(k)];
        index_t counted = 0;
        const auto count = [&](index_t epochs_done) {
            epochs.fetch_add(epochs_done - counted, std::memory_order_relaxed);
            counted = epochs_done;
        };
        FitHooks hooks;
        hooks.interrupted = [&](index_t epochs_done) {
            count(epochs_done);
            if (std::this_thread::get_id() == caller) {
                ask();
            }
            return stop.load(std::memory_order_relaxed);
        };
        if (stop.load(std::memory_order_relaxed)) {
            return;
        }
        try {
            fit(job, hooks, result);
            count(result.epochs);
        } catch (const Interrupted&) {
            return;  // as all are
        } catch (...) {
            stop.store(true, std::memory_order_relaxed);
            throw;
        }
    };
    double work = 0;
    for (const FitJob<T>& job : jobs) {
        work += static_cast<double>(job.settings.epochs) *
                static_cast<double>(job.data.rows()) *
                job.plan->multiply_adds_per_row();
    }
    parallel_for(static_cast<index_t>(jobs.size()), work, run, &ask);
    if (stop.load(std::memory_order_relaxed)) {
        throw Interrupted{};
    }
}

#define SIGLIN_INSTANTIATE(T)                                      \
    template void fit_many<T>(const std::vector<FitJob<T>>&,       \
                              const std::function<bool(index_t)>&, \
                              std::vector<FitResult>&);

SIGLIN_INSTANTIATE(float)
SIGLIN_INSTANTIATE(double)

}  // namespace siglin
