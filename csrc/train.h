// The training loop: epochs, mini-batches, shuffling, stop rules and history.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

#include "network.h"
#include "objective.h"

namespace siglin {

enum class Optimizer : int { gd, momentum, nesterov, adam };
enum class StopReason : int { epochs, tol, callback, diverged };

// Thrown by an `interrupted` hook's request; the parameters are those of a whole step.
struct Interrupted {};

struct FitOptions {
    double lr;
    index_t epochs;
    index_t batch_size;  // of at least the rows: one batch, never permuted
    bool shuffle;
    double tol;  // stop after a step whose change has a 2-norm <= tol; 0: never
    Optimizer optimizer;
    double beta1;  // momentum
    double beta2;
    double eps;
    std::int64_t step_count;  // steps the optimiser has made before
};

// What most fits do without; with any of it a fit takes the general path.
template <class T>
struct FitExtras {
    const T* weights = nullptr;  // of the rows
    // Read at the start of each epoch, so that a hook may write the next one's into
    // them: the order of the rows, for batches smaller than all of them, instead of a
    // shuffle; and the step size instead of FitOptions'.
    const index_t* order = nullptr;
    const double* lr = nullptr;
    Objective objective;
    double dropout = 0;    // as Batch; each step draws its seed from the generator
    double clip_norm = 0;  // gradients of a larger 2-norm are scaled to it; 0: none is

    bool none() const {
        return weights == nullptr && order == nullptr && lr == nullptr &&
               objective.is_plain() && dropout == 0 && clip_norm == 0;
    }
};

// Hooks run on the calling thread; each may be empty.
struct FitHooks {
    // After an epoch, if min_interval seconds have passed since the last call, and
    // after the last one; true stops.
    std::function<bool(index_t epoch, index_t step, double loss)> on_epoch;
    double min_interval = 0;
    // After every `every` steps.
    std::function<void(index_t epoch, index_t step, double loss)> on_step;
    index_t every = 0;
    // About every 20 ms, with the epochs that are done; true ends the fit by
    // Interrupted.
    std::function<bool(index_t epochs)> interrupted;
};

struct FitResult {
    // Per epoch: the mean over its rows, by weight, of the losses before each update.
    std::vector<double> loss;
    index_t epochs = 0;
    index_t steps = 0;
    double seconds = 0;
    StopReason reason = StopReason::epochs;
};

// Says when an interval has passed, without a look at the clock for every small step
// (one costs as much): only after enough multiply-adds, 10 us to 1 ms of them.
class Pacer {
  public:
    explicit Pacer(double seconds);
    bool due(double multiply_adds) {
        work_ += multiply_adds;
        return work_ > kWorkBetweenLooks && look();
    }

  private:
    static constexpr double kWorkBetweenLooks = 2e5;
    bool look();
    double seconds_;
    std::chrono::steady_clock::time_point last_;
    double work_ = 0;
};

// Calls `interrupted` about every 20 ms of work; throws Interrupted where it says so.
class InterruptPoll {
  public:
    explicit InterruptPoll(std::function<bool()> interrupted);
    void charge(double multiply_adds) {
        if (pacer_.due(multiply_adds) && interrupted_ && interrupted_()) {
            throw Interrupted{};
        }
    }

  private:
    std::function<bool()> interrupted_;
    Pacer pacer_;
};

// Some rows of x and t, in this order, each as often as it stands here; null: all, as
// they lie. A fit has the bits that it has on a copy of them.
struct RowSubset {
    const index_t* rows = nullptr;
    index_t count = 0;
};

// How many steps this thread's fits have subtracted as they found their gradients.
std::int64_t fused_steps();

// Trains params from where they are; moments is the optimiser's state. generator: four
// words, advanced by the shuffles. result counts the steps and epochs that were made,
// also where an exception ends the fit; the parameters are then those of a whole step.
// Throws std::invalid_argument where extras.order or extras.lr hold what no epoch can
// use.
template <class T>
void fit(const NetworkPlan& plan, T* params, MatrixView<const T> x,
         MatrixView<const T> t, T* moments, std::uint64_t* generator,
         const FitOptions& options, const FitHooks& hooks, FitResult& result,
         const RowSubset& subset = {}, const FitExtras<T>& extras = {});

// One of the fits of fit_many: what `fit` takes.
template <class T>
struct FitJob {
    const NetworkPlan* plan;
    T* params;
    MatrixView<const T> x;
    MatrixView<const T> t;
    T* moments;
    std::uint64_t* generator;
    FitOptions options;
    RowSubset subset;
};

// Runs all jobs, each on one thread of the team, with the bits of one fit after the
// other. results has one entry for each job, as of `fit`. No job writes what another
// one reads. interrupted: asked about every 20 ms on the calling thread, with the
// epochs that all jobs together have done; true ends all of them by Interrupted.
template <class T>
void fit_many(const std::vector<FitJob<T>>& jobs,
              const std::function<bool(index_t epochs)>& interrupted,
              std::vector<FitResult>& results);

// The perceptron rule, row by row: w += (t - y) x, b += t - y with y = step(x . w + b),
// until an epoch without a mistake. Returns the mistakes of each epoch. b may be null.
template <class T>
std::vector<index_t> fit_perceptron(T* w, T* b, MatrixView<const T> x, const T* t,
                                    index_t t_stride, index_t epochs,
                                    const std::function<bool()>& interrupted);

}  // namespace siglin
