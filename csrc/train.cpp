#include "train.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>

#include "dispatch.h"
#include "learn.h"
#include "parallel.h"
#include "random.h"
#include "step_bound.h"

namespace siglin {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// The rows of an epoch, in the order in which they were given.
void fill_order(const RowSubset& subset, index_t* order, index_t rows) {
    if (subset.rows == nullptr) {
        std::iota(order, order + rows, index_t{0});
    } else {
        std::copy_n(subset.rows, rows, order);
    }
}

thread_local std::int64_t fused = 0;

// Shuffles an epoch's rows, with a look for Ctrl-C now and then.
void shuffle(std::uint64_t* generator, index_t* order, index_t rows,
             InterruptPoll& poll) {
    constexpr index_t kPiece = 1 << 16;
    constexpr double kWork = 500;  // of a swap far away, 10 ns
    for (index_t left = rows; left > 1; left -= kPiece) {
        Generator(generator).shuffle(order, left, std::max<index_t>(left - kPiece, 1));
        poll.charge(kWork * static_cast<double>(std::min(left, kPiece)));
    }
}

// One optimiser step; the squared norm of the change, or NaN where it would diverge.
template <class T>
class Stepper {
  public:
    Stepper(const NetworkPlan& plan, T* params, const T* grads, T* moments,
            const FitOptions& options, bool scikit_learn)
        : options_(options),
          scikit_learn_(scikit_learn),
          lr_(options.lr),
          steps_(options.step_count),
          bound_(static_cast<double>(std::numeric_limits<T>::max())) {
        const auto& kernels = kernel_table().kernels<T>();
        args_.param = params;
        args_.grad = grads;
        args_.n = plan.n_params;
        args_.m = options.optimizer == Optimizer::gd ? nullptr : moments;
        args_.v =
            options.optimizer == Optimizer::adam ? moments + plan.n_params : nullptr;
        args_.lr = static_cast<T>(options.lr);
        args_.beta1 = static_cast<T>(options.beta1);
        args_.beta2 = static_cast<T>(options.beta2);
        args_.eps = static_cast<T>(options.eps);
        args_.want_norm = options.tol > 0;
        args_.unchecked = false;
        switch (options.optimizer) {
            case Optimizer::gd:
                step_ = kernels.gd;
                break;
            case Optimizer::momentum:
                step_ = kernels.momentum;
                break;
            case Optimizer::nesterov:
                step_ = kernels.nesterov;
                break;
            case Optimizer::adam:
                step_ = kernels.adam;
                break;
        }
    }

    // progress: called between passes over the parameters, before the first changes.
    // touched: whether that has let others write parameters.
    double step(const Progress& progress, const bool& touched) {
        ++steps_;
        if (options_.optimizer == Optimizer::adam) {
            const auto t = static_cast<double>(steps_);
            const double root = std::sqrt(1.0 - std::pow(options_.beta2, t));
            args_.lr = static_cast<T>(lr_ * root / (1.0 - std::pow(options_.beta1, t)));
            if (!scikit_learn_) {
                args_.eps = static_cast<T>(options_.eps * root);
            }
        }
        args_.unchecked = cannot_overflow(progress) && !touched;
        if (!args_.unchecked) {
            known_ = false;
        }
        return step_(args_);
    }

    void set_lr(double lr) {
        lr_ = lr;
        args_.lr = static_cast<T>(lr);
    }

    // The parameters may have been written to by others.
    void forget() { known_ = false; }

    // Whether steps of plain descent can be left to whoever finds the gradients.
    // A step of more than some 50 ms cannot: Ctrl-C would wait for its end. Of few
    // rows, reading and writing the parameters is most of it.
    bool can_be_left(double multiply_adds) const {
        constexpr double kMostWork = 1e9;
        constexpr index_t kMostBytes = 128 * 1024 * 1024;
        return options_.optimizer == Optimizer::gd && options_.tol == 0 &&
               multiply_adds < kMostWork &&
               args_.n <= kMostBytes / static_cast<index_t>(sizeof(T));
    }

    // See Descent.
    StepBound& bound(bool anew) {
        if (anew && bound_.has_grown()) {
            known_ = false;
        }
        measure([](double) {});
        return bound_;
    }

    void count_step() { ++steps_; }

  private:
    double largest(const T* values, const Progress& progress) const {
        if (values == nullptr) {
            return 0;
        }
        progress(2.0 * static_cast<double>(args_.n));  // a pass over memory
        return static_cast<double>(
            kernel_table().kernels<T>().largest_magnitude(values, args_.n));
    }

    void measure(const Progress& progress) {
        if (!known_) {
            bound_.set(largest(args_.param, progress));
            m_ = largest(args_.m, progress);
            v_ = largest(args_.v, progress);
            known_ = true;
        }
    }

    // Whether the step keeps every parameter finite, from the largest gradient and from
    // bounds on the rest; a NaN among them makes each comparison false.
    bool cannot_overflow(const Progress& progress) {
        measure(progress);
        const double lr = std::fabs(static_cast<double>(args_.lr));
        const double g = largest(args_.grad, progress);
        const double limit = bound_.limit();
        if (!(g <= limit && m_ <= limit && v_ <= limit)) {
            return false;
        }
        switch (options_.optimizer) {
            case Optimizer::gd:
                return makes(lr * g);
            case Optimizer::momentum:
                m_ = options_.beta1 * m_ + g;
                return m_ <= limit && makes(lr * m_);
            case Optimizer::nesterov:
                m_ = options_.beta1 * m_ + g;
                return g + m_ <= limit && makes(lr * (g + m_));
            case Optimizer::adam:
                break;
        }
        // m and v are means of g and g^2, and the step is at most m / eps.
        m_ = std::max(m_, g);
        v_ = std::max(v_, g * g);
        const double step = m_ / static_cast<double>(args_.eps);
        return m_ <= limit && v_ <= limit && step <= limit && makes(lr * step);
    }

    // Whether a step that changes no parameter by more is allowed; it is then made.
    bool makes(double change) {
        if (!bound_.allows(change)) {
            return false;
        }
        bound_.add(change);
        return true;
    }

    const FitOptions& options_;
    bool scikit_learn_;
    double lr_;
    std::int64_t steps_;
    UpdateArgs<T> args_ = {};
    double (*step_)(const UpdateArgs<T>&) = nullptr;
    StepBound bound_;
    double m_ = 0;  // bounds on the moments
    double v_ = 0;
    bool known_ = false;
};

// The bookkeeping of a fit: steps, epochs, hooks and why it stopped.
class FitLoop {
  public:
    FitLoop(const FitOptions& options_, const FitHooks& hooks_, index_t rows_,
            FitResult& result_)
        : options(options_),
          hooks(hooks_),
          rows(rows_),
          result(result_),
          poll([this] {
              if (!hooks.interrupted) {
                  return false;
              }
              before_hook();  // a signal's handler may run
              return hooks.interrupted(result.epochs);
          }),
          report_(hooks_.min_interval) {
        // To grow is to copy; a megabyte, if it is used, is taken at once.
        constexpr index_t kMost = 1 << 17;
        result.loss.reserve(static_cast<std::size_t>(std::min(options.epochs, kMost)));
    }

    bool running() const { return !stopped && result.epochs < options.epochs; }

    void stop(StopReason reason) {
        result.reason = reason;
        stopped = true;
    }

    // How many of so many steps may be made before on_step wants to see the parameters.
    index_t steps_to_hook(index_t most) const {
        const index_t every = hooks.every;
        return every > 0 ? std::min(most, every - result.steps % every) : most;
    }

    // weight: of the loss in the epoch's mean, 1 for a full batch of plain rows.
    void diverge(double loss, double weight = 1) {
        total_ += weight * loss;
        weight_ += weight;
        stop(StopReason::diverged);
    }

    void end_step(double loss, double weight = 1) {
        total_ += weight * loss;
        weight_ += weight;
        ++result.steps;
        if (hooks.every > 0 && result.steps % hooks.every == 0) {
            before_hook();
            hooks.on_step(result.epochs + 1, result.steps, loss);
        }
    }

    void end_epoch() {
        result.loss.push_back(weight_ == 0 ? 0 : total_ / weight_);
        total_ = 0;
        weight_ = 0;
        ++result.epochs;
        if (hooks.on_epoch && result.reason != StopReason::diverged) {
            const double work = static_cast<double>(rows) * work_per_row;
            if (!running() || hooks.min_interval <= 0 || report_.due(work)) {
                before_hook();
                if (hooks.on_epoch(result.epochs, result.steps, result.loss.back()) &&
                    !stopped) {
                    stop(StopReason::callback);
                }
            }
        }
    }

    // Epochs of one step each, where no hook stands between them: returns whether none
    // does.
    bool end_epochs(const double* losses, index_t count) {
        if (hooks.on_epoch || hooks.every > 0) {
            return false;
        }
        result.loss.insert(result.loss.end(), losses, losses + count);
        result.epochs += count;
        result.steps += count;
        return true;
    }

    const FitOptions& options;
    const FitHooks& hooks;
    const index_t rows;
    FitResult& result;
    double work_per_row = 0;
    InterruptPoll poll;
    bool stopped = false;
    bool hooked = false;           // a hook has run: the parameters may be others
    std::function<void()> settle;  // brings the parameters up to date

  private:
    void before_hook() {
        hooked = true;
        if (settle) {
            settle();
        }
    }

    Pacer report_;
    double total_ = 0;  // of the epoch's losses so far
    double weight_ = 0;
};

// Settles the parameters at the end of a fit, whatever ends it.
class Settled {
  public:
    explicit Settled(const std::function<void()>& settle) : settle_(settle) {}
    ~Settled() { settle_(); }
    Settled(const Settled&) = delete;
    Settled& operator=(const Settled&) = delete;

  private:
    const std::function<void()>& settle_;
};

// Plain gradient descent row by row in a small network, many steps to a kernel call.
template <class T>
class RowDescent {
  public:
    static bool serves(const NetworkPlan& plan, index_t batch_rows,
                       const FitOptions& options) {
        return batch_rows == 1 && descends_row_by_row(plan) && options.tol == 0 &&
               options.optimizer == Optimizer::gd;
    }

    RowDescent(const NetworkPlan& plan, T* params, MatrixView<const T> x,
               MatrixView<const T> t, std::uint64_t* generator, FitLoop& loop,
               const RowSubset& subset)
        : loop_(loop),
          generator_(generator),
          x_(x),
          t_(t),
          subset_(subset),
          rows_(loop.rows),
          epochs_(epochs_together(loop)),
          shuffles_(loop.options.shuffle && rows_ > 1),
          steps_(std::min(kMostSteps, epochs_ * rows_)),
          order_(shuffles_ || epochs_ > 1 ? epochs_ * rows_ : 0),
          given_(shuffles_ || epochs_ > 1 ? order_.data() : subset.rows),
          losses_(steps_),
          scratch_(descent_scratch<T>(plan.layers.data(), layer_count(plan), steps_)),
          args_{plan.layers.data(),
                layer_count(plan),
                plan.loss,
                params,
                static_cast<T>(loop.options.lr),
                x,
                t,
                nullptr,
                0,
                losses_.data(),
                scratch_.data()} {
        loop.work_per_row = plan.multiply_adds_per_row();
        for (index_t e = 0; !shuffles_ && epochs_ > 1 && e < epochs_; ++e) {
            fill_order(subset_, order_.data() + e * rows_, rows_);
        }
    }

    void run() {
        while (loop_.running()) {
            const index_t epochs =
                std::min(epochs_, loop_.options.epochs - loop_.result.epochs);
            for (index_t e = 0; shuffles_ && e < epochs; ++e) {
                index_t* order = order_.data() + e * rows_;
                fill_order(subset_, order, rows_);
                shuffle(generator_, order, rows_, loop_.poll);
            }
            index_t count = 0;
            for (index_t begin = 0; !loop_.stopped && begin < epochs * rows_;
                 begin += count) {
                count = loop_.steps_to_hook(std::min(steps_, epochs * rows_ - begin));
                loop_.poll.charge(static_cast<double>(count) * loop_.work_per_row);
                descend(begin, count);
            }
        }
    }

  private:
    // A call costs some steps' time; so many steps of the largest small net take less
    // than a millisecond.
    static constexpr index_t kMostSteps = 256;

    static index_t layer_count(const NetworkPlan& plan) {
        return static_cast<index_t>(plan.layers.size());
    }

    // Several epochs of few rows go into one call, unless a hook stands between them.
    static index_t epochs_together(const FitLoop& loop) {
        const bool hooked = loop.hooks.on_epoch && loop.hooks.min_interval <= 0;
        return hooked ? 1 : std::max<index_t>(kMostSteps / loop.rows, 1);
    }

    // Steps begin ... begin + count - 1 of the epochs that are known.
    void descend(index_t begin, index_t count) {
        const auto& descent = kernel_table().kernels<T>().row_descent;
        at(begin, count);
        if (descent(args_)) {
            if (rows_ == 1 && loop_.end_epochs(losses_.data(), count)) {
                return;
            }
            for (index_t s = 0; s < count; ++s) {
                end_step(losses_.data()[s]);
            }
            return;
        }
        // One of them diverges: one by one, up to there.
        for (index_t s = 0; s < count; ++s) {
            at(begin + s, 1);
            if (!descent(args_)) {
                loop_.diverge(losses_.data()[0]);
                loop_.end_epoch();
                return;
            }
            end_step(losses_.data()[0]);
        }
    }

    void at(index_t begin, index_t count) {
        if (given_ != nullptr) {
            args_.order = given_ + begin;
        } else {
            args_.x.data = x_.data + begin * x_.stride;
            args_.t.data = t_.data + begin * t_.stride;
        }
        args_.steps = count;
    }

    void end_step(double loss) {
        loop_.end_step(loss);
        if (++row_ == rows_) {
            row_ = 0;
            loop_.end_epoch();
        }
    }

    FitLoop& loop_;
    std::uint64_t* generator_;
    MatrixView<const T> x_;
    MatrixView<const T> t_;
    const RowSubset& subset_;
    index_t rows_;
    index_t epochs_;  // whose order is known at once
    bool shuffles_;
    index_t steps_;
    index_t row_ = 0;  // of the present epoch
    Buffer<index_t> order_;
    const index_t* given_;  // the order; null: one after the other
    Buffer<double> losses_;
    Buffer<T> scratch_;
    DescentArgs<T> args_;
};

// Plain gradient descent of one neuron with full batches, many steps to a kernel call.
template <class T>
void descend_neuron(const NetworkRunner<T>& runner, T* params, FitLoop& loop) {
    // Of a call, about 0.1 ms; a callback stands between any two epochs.
    constexpr double kWork = 1e6;
    constexpr double kMostSteps = 256;
    const bool hooked = loop.hooks.on_epoch && loop.hooks.min_interval <= 0;
    const double work = static_cast<double>(loop.rows) * loop.work_per_row;
    const auto most =
        hooked ? index_t{1}
               : static_cast<index_t>(std::clamp(kWork / work, 1.0, kMostSteps));
    Buffer<double> losses(most);
    while (loop.running()) {
        const index_t count = std::min(loop.steps_to_hook(most),
                                       loop.options.epochs - loop.result.epochs);
        loop.poll.charge(static_cast<double>(count) * work);
        const NeuronDescentResult done =
            runner.descend_neuron(params, loop.rows, static_cast<T>(loop.options.lr),
                                  loop.options.tol, count, losses.data());
        for (index_t s = 0; s < done.steps; ++s) {
            loop.end_step(losses.data()[s]);
            if (done.small_step && s + 1 == done.steps) {
                loop.stop(StopReason::tol);
            }
            loop.end_epoch();
        }
        if (done.diverged) {
            loop.diverge(losses.data()[done.steps]);
            loop.end_epoch();
        }
    }
}

// Batch::of_targets of all rows that a fit sees; empty where it is 0, or used but once.
template <class T>
Buffer<double> targets_losses(const NetworkPlan& plan, MatrixView<const T> t,
                              const RowSubset& subset, FitLoop& loop) {
    if (plan.loss.kind != Loss::poisson || loop.options.epochs < 2) {
        return {};
    }
    constexpr double kLogWork = 16;  // multiply-adds
    Buffer<double> losses(t.rows);
    for (index_t i = 0; i < loop.rows; ++i) {
        const index_t row = subset.rows == nullptr ? i : subset.rows[i];
        losses.data()[row] = targets_loss(plan, t.data + row * t.stride);
        loop.poll.charge(kLogWork * static_cast<double>(t.cols));
    }
    return losses;
}

// Scales n gradients to a 2-norm of at most `most`, unless one is not finite.
template <class T>
void clip(T* grads, index_t n, double most, const Progress& progress) {
    const auto& kernels = kernel_table().kernels<T>();
    const double pass = 2.0 * static_cast<double>(n);
    progress(pass);
    const auto largest = static_cast<double>(kernels.largest_magnitude(grads, n));
    if (!(largest > 0) || !std::isfinite(largest)) {
        return;
    }
    progress(pass);
    double norm = std::sqrt(2 * kernels.penalise({grads, nullptr, n, T(0), T(1)}));
    if (!std::isfinite(norm) || norm < largest) {  // the squares over- or underflowed
        double sum = 0;
        for (index_t i = 0; i < n; ++i) {
            const double share = static_cast<double>(grads[i]) / largest;
            sum += share * share;
        }
        norm = largest * std::sqrt(sum);
    }
    if (norm > most) {
        progress(pass);
        const auto factor = static_cast<T>(most / norm);
        for (index_t i = 0; i < n; ++i) {
            grads[i] *= factor;
        }
    }
}

// Throws unless every entry is the number of a row.
void check_order(const index_t* order, index_t rows) {
    for (index_t i = 0; i < rows; ++i) {
        if (order[i] < 0 || order[i] >= rows) {
            throw std::invalid_argument("fit: order[" + std::to_string(i) + "] is " +
                                        std::to_string(order[i]) + ", of " +
                                        std::to_string(rows) + " rows");
        }
    }
}

void check_lr(double lr, double most) {
    if (!(lr > 0 && lr <= most)) {
        throw std::invalid_argument("fit: lr must be a finite number > 0, got " +
                                    std::to_string(lr));
    }
}

}  // namespace

std::int64_t fused_steps() { return fused; }

Pacer::Pacer(double seconds) : seconds_(seconds), last_(Clock::now()) {}

bool Pacer::look() {
    work_ = 0;
    if (seconds_since(last_) < seconds_) {
        return false;
    }
    last_ = Clock::now();
    return true;
}

InterruptPoll::InterruptPoll(std::function<bool()> interrupted)
    : interrupted_(std::move(interrupted)), pacer_(0.02) {}

template <class T>
void fit(const NetworkPlan& plan, T* params, MatrixView<const T> x,
         MatrixView<const T> t, T* moments, std::uint64_t* generator,
         const FitOptions& options, const FitHooks& hooks, FitResult& result,
         const RowSubset& subset, const FitExtras<T>& extras) {
    const auto start = Clock::now();
    const Objective& objective = extras.objective;
    const bool plain = extras.none();
    const index_t rows = subset.rows == nullptr ? x.rows : subset.count;
    const index_t batch_rows = std::min(options.batch_size, rows);
    FitLoop loop(options, hooks, rows, result);
    if (plain && RowDescent<T>::serves(plan, batch_rows, options)) {
        RowDescent<T>(plan, params, x, t, generator, loop, subset).run();
        result.seconds = seconds_since(start);
        return;
    }
    const bool ordered = extras.order != nullptr && batch_rows < rows;
    const bool shuffles = options.shuffle && batch_rows < rows && !ordered;
    NetworkRunner<T> runner(plan, batch_rows);
    Buffer<T> grads(plan.n_params);
    Buffer<index_t> order(shuffles || ordered ? rows : 0);
    const index_t* given = shuffles || ordered ? order.data() : subset.rows;
    Stepper<T> stepper(plan, params, grads.data(), moments, options,
                       objective.scikit_learn);
    const Buffer<double> of_targets = targets_losses(plan, t, subset, loop);
    const auto heed_hooks = [&] {
        if (loop.hooked) {
            loop.hooked = false;
            stepper.forget();
        }
    };
    Descent<T> descent = {params, static_cast<T>(options.lr),
                          [&](bool anew) -> StepBound& {
                              heed_hooks();
                              return stepper.bound(anew);
                          }};
    loop.settle = [&] { runner.settle(params); };
    const Settled settled(loop.settle);
    const Progress progress = [&](double multiply_adds) {
        loop.poll.charge(multiply_adds);
    };
    if (batch_rows == rows && options.epochs > 0) {
        Batch<T> all = {x, t, given, rows, extras.weights};
        all.clips = clips(extras.objective, plan);
        runner.prepare(all);
    }
    loop.work_per_row = runner.multiply_adds_per_row();
    if (plain && batch_rows == rows && plan.is_neuron_by_columns(rows) &&
        options.optimizer == Optimizer::gd) {
        descend_neuron(runner, params, loop);
    }
    while (loop.running()) {
        if (shuffles) {
            fill_order(subset, order.data(), rows);
            shuffle(generator, order.data(), rows, loop.poll);
        }
        if (ordered) {
            // A copy: what a hook writes during an epoch is the next one's.
            std::copy_n(extras.order, rows, order.data());
            check_order(order.data(), rows);
        }
        if (extras.lr != nullptr) {
            check_lr(*extras.lr, static_cast<double>(std::numeric_limits<T>::max()));
            stepper.set_lr(*extras.lr);
        }
        for (index_t begin = 0; !loop.stopped && begin < rows; begin += batch_rows) {
            Batch<T> batch = {x, t, nullptr, std::min(batch_rows, rows - begin)};
            batch.weights = extras.weights;
            batch.of_targets = of_targets.data();
            if (given != nullptr) {
                batch.order = given + begin;
            } else {
                batch.x.data += begin * x.stride;
                batch.t.data += begin * t.stride;
                if (batch.weights != nullptr) {
                    batch.weights += begin;
                }
                if (batch.of_targets != nullptr) {
                    batch.of_targets += begin;
                }
            }
            batch.known_weight = batch.weight();
            if (batch.known_weight == 0 && !objective.scikit_learn) {
                loop.poll.charge(static_cast<double>(batch.rows));
                continue;  // nothing is to be learnt from it: no step
            }
            // Its loss in the epoch's mean counts as its rows do. Equal batches of
            // plain rows have 1, and the bits of a plain mean; so has the only one.
            const double share =
                objective.scikit_learn ? static_cast<double>(batch.rows)
                : batch_rows == rows
                    ? 1.0
                    : batch.known_weight / static_cast<double>(batch_rows);
            if (extras.dropout > 0) {
                batch.drops = {extras.dropout, Generator(generator).next()};
            }
            // Not the first: it allocates nearly all that the later ones use, and a
            // step that runs out of memory should not have begun to change the
            // parameters.
            descent.done = false;
            descent.ahead = false;
            descent.next_x = nullptr;
            if (batch_rows == 1 && begin + 1 < rows) {
                const index_t next = given != nullptr ? given[begin + 1] : begin + 1;
                descent.next_x = x.data + next * x.stride;
            }
            const bool left = plain && loop.result.steps > 0 &&
                              stepper.can_be_left(static_cast<double>(batch_rows) *
                                                  loop.work_per_row);
            const double loss = objective.is_plain()
                                    ? runner.loss(params, grads.data(), batch, progress,
                                                  left ? &descent : nullptr)
                                    : objective_of(objective, runner, plan, params,
                                                   grads.data(), batch, progress);
            double norm2 = loss - loss;
            if (descent.done) {
                stepper.count_step();
                ++fused;
            } else if (std::isfinite(loss)) {
                loop.settle();
                heed_hooks();
                if (extras.clip_norm > 0) {
                    clip(grads.data(), plan.n_params, extras.clip_norm, progress);
                }
                norm2 = stepper.step(progress, loop.hooked);
            }
            if (std::isnan(norm2)) {
                loop.diverge(loss, share);
                break;
            }
            loop.end_step(loss, share);
            if (options.tol > 0 && norm2 <= options.tol * options.tol) {
                loop.stop(StopReason::tol);
            }
        }
        loop.end_epoch();
    }
    result.seconds = seconds_since(start);
}

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
            fit(*job.plan, job.params, job.x, job.t, job.moments, job.generator,
                job.options, hooks, result, job.subset);
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
        const index_t rows = job.subset.rows == nullptr ? job.x.rows : job.subset.count;
        work += static_cast<double>(job.options.epochs) * static_cast<double>(rows) *
                job.plan->multiply_adds_per_row();
    }
    parallel_for(static_cast<index_t>(jobs.size()), work, run, &ask);
    if (stop.load(std::memory_order_relaxed)) {
        throw Interrupted{};
    }
}

template <class T>
std::vector<index_t> fit_perceptron(T* w, T* b, MatrixView<const T> x, const T* t,
                                    index_t t_stride, index_t epochs,
                                    const std::function<bool()>& interrupted) {
    std::vector<index_t> mistakes;
    InterruptPoll poll(interrupted);
    while (static_cast<index_t>(mistakes.size()) < epochs) {
        index_t wrong = 0;
        for (index_t i = 0; i < x.rows; ++i) {
            const T* row = x.data + i * x.stride;
            T z = b == nullptr ? T(0) : *b;
            for (index_t j = 0; j < x.cols; ++j) {
                z += row[j] * w[j];
            }
            const T error = t[i * t_stride] - (z > 0 ? T(1) : T(0));
            if (error != 0) {
                ++wrong;
                for (index_t j = 0; j < x.cols; ++j) {
                    w[j] += error * row[j];
                }
                if (b != nullptr) {
                    *b += error;
                }
            }
            poll.charge(static_cast<double>(x.cols) + 16.0);
        }
        mistakes.push_back(wrong);
        if (wrong == 0) {
            break;
        }
    }
    return mistakes;
}

#define SIGLIN_INSTANTIATE(T)                                                        \
    template void fit<T>(const NetworkPlan&, T*, MatrixView<const T>,                \
                         MatrixView<const T>, T*, std::uint64_t*, const FitOptions&, \
                         const FitHooks&, FitResult&, const RowSubset&,              \
                         const FitExtras<T>&);                                       \
    template void fit_many<T>(const std::vector<FitJob<T>>&,                         \
                              const std::function<bool(index_t)>&,                   \
                              std::vector<FitResult>&);                              \
    template std::vector<index_t> fit_perceptron<T>(T*, T*, MatrixView<const T>,     \
                                                    const T*, index_t, index_t,      \
                                                    const std::function<bool()>&);

SIGLIN_INSTANTIATE(float)
SIGLIN_INSTANTIATE(double)

}  // namespace siglin
