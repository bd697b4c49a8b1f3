#include "fit_many.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>

#include "fit_run.h"
#include "parallel.h"

namespace siglin {
namespace {

template <class T>
class ManyFits {
  public:
    ManyFits(const std::vector<FitJob<T>>& jobs, const ManyHooks& hooks,
             std::vector<FitResult>& results)
        : jobs_(jobs), hooks_(hooks), results_(results), runs_(jobs.size()) {
        for (std::size_t k = 0; k < jobs.size(); ++k) {
            fit_hooks_.push_back({});
            fit_hooks_.back().interrupted = [this, k](index_t done) {
                count(k, done);
                if (std::this_thread::get_id() == caller_) {
                    ask();
                }
                return stop_.load(std::memory_order_relaxed);
            };
        }
        counted_.resize(jobs.size());
    }

    // All jobs to their ends, at once.
    void run_whole() {
        std::vector<std::size_t> all;
        for (std::size_t k = 0; k < jobs_.size(); ++k) {
            all.push_back(k);
        }
        share(all, [this](std::size_t k) { return jobs_[k].settings.epochs; });
    }

    // An epoch of each job that is listened to, some of the others, then the hooks; and
    // so on.
    void run_by_epochs() {
        std::vector<std::size_t> active;
        for (std::size_t k = 0; k < jobs_.size(); ++k) {
            active.push_back(k);
        }
        while (!active.empty()) {
            share(active, [this](std::size_t k) { return epochs_together(k); });
            for (const std::size_t k : active) {
                tell(k);
            }
            std::erase_if(active, [this](std::size_t k) { return has_ended(k); });
        }
    }

  private:
    // Runs so many epochs of some jobs.
    template <class Epochs>
    void share(const std::vector<std::size_t>& some, const Epochs& epochs) {
        const WhileWaiting asking = [this] { ask(); };
        double work = 0;
        for (const std::size_t k : some) {
            work += static_cast<double>(epochs(k)) * work_of_epoch(k);
        }
        parallel_for(
            static_cast<index_t>(some.size()), work,
            [&](index_t i) {
                const std::size_t k = some[static_cast<std::size_t>(i)];
                go_on(k, epochs(k));
            },
            &asking);
        if (stop_.load(std::memory_order_relaxed)) {
            throw Interrupted{};
        }
    }

    void go_on(std::size_t k, index_t epochs) {
        if (stop_.load(std::memory_order_relaxed)) {
            return;
        }
        auto& run = runs_[k];
        try {
            if (run == nullptr) {
                run = std::make_unique<FitRun<T>>(jobs_[k], fit_hooks_[k], results_[k]);
            }
            run->run(epochs);
            count(k, results_[k].epochs);
            if (!listens(k) && run->is_over()) {
                run->end();
                run.reset();  // its memory is the next one's
            }
        } catch (const Interrupted&) {
            return;  // as all are
        } catch (...) {
            stop_.store(true, std::memory_order_relaxed);
            throw;
        }
    }

    // The hook of a job that has made an epoch.
    void tell(std::size_t k) {
        if (!listens(k)) {
            return;
        }
        FitRun<T>& run = *runs_[k];
        const FitResult& result = results_[k];
        if (result.epochs > 0 && result.reason != StopReason::diverged) {
            run.before_callback();
            if (hooks_.on_epoch(k, result, run.is_over())) {
                run.end_by_callback();
            }
        }
        if (run.is_over()) {
            run.end();
        }
    }

    bool has_ended(std::size_t k) const {
        return runs_[k] == nullptr || runs_[k]->is_over();
    }

    bool listens(std::size_t k) const {
        return !hooks_.listens.empty() && hooks_.listens[k];
    }

    double work_of_epoch(std::size_t k) const {
        return static_cast<double>(jobs_[k].data.rows()) *
               jobs_[k].plan->multiply_adds_per_row(jobs_[k].data.is_sparse());
    }

    index_t epochs_together(std::size_t k) const {
        constexpr double kWork = 2e7;  // some 0.5 ms
        if (listens(k)) {
            return 1;
        }
        const double most = static_cast<double>(jobs_[k].settings.epochs) + 1;
        return static_cast<index_t>(std::clamp(kWork / work_of_epoch(k), 1.0, most));
    }

    void count(std::size_t k, index_t done) {
        epochs_.fetch_add(done - counted_[k], std::memory_order_relaxed);
        counted_[k] = done;
    }

    void ask() {
        if (!stop_.load(std::memory_order_relaxed) && hooks_.interrupted &&
            hooks_.interrupted(epochs_.load(std::memory_order_relaxed))) {
            stop_.store(true, std::memory_order_relaxed);
        }
    }

    const std::vector<FitJob<T>>& jobs_;
    const ManyHooks& hooks_;
    std::vector<FitResult>& results_;
    const std::thread::id caller_ = std::this_thread::get_id();
    std::atomic<bool> stop_ = false;
    std::atomic<index_t> epochs_ = 0;
    std::vector<index_t> counted_;  // of each job
    std::vector<FitHooks> fit_hooks_;
    std::vector<std::unique_ptr<FitRun<T>>> runs_;
};

}  // namespace

template <class T>
void fit_many(const std::vector<FitJob<T>>& jobs, const ManyHooks& hooks,
              std::vector<FitResult>& results) {
    ManyFits<T> fits(jobs, hooks, results);
    if (hooks.listens.empty()) {
        fits.run_whole();
    } else {
        fits.run_by_epochs();
    }
}

#define SIGLIN_INSTANTIATE(T)                                                  \
    template void fit_many<T>(const std::vector<FitJob<T>>&, const ManyHooks&, \
                              std::vector<FitResult>&);

SIGLIN_INSTANTIATE(float)
SIGLIN_INSTANTIATE(double)

}  // namespace siglin
