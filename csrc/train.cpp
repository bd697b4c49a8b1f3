#include "train.h"

#include <algorithm>
#include <cmath>

#include "dispatch.h"
#include "random.h"

namespace siglin {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// One optimiser step; the squared norm of the change, or NaN where it would diverge.
template <class T>
class Stepper {
  public:
    Stepper(const NetworkPlan& plan, T* params, const T* grads, T* moments,
            const FitOptions& options)
        : options_(options), steps_(options.step_count) {
        const auto& kernels = kernel_table().kernels<T>();
        args_.param = params;
        args_.grad = grads;
        args_.n = plan.n_params;
        args_.m = moments;
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

    double step() {
        ++steps_;
        if (options_.optimizer == Optimizer::adam) {
            const auto t = static_cast<double>(steps_);
            const double root = std::sqrt(1.0 - std::pow(options_.beta2, t));
            args_.lr = static_cast<T>(options_.lr * root /
                                      (1.0 - std::pow(options_.beta1, t)));
            args_.eps = static_cast<T>(options_.eps * root);
        }
        return step_(args_);
    }

  private:
    const FitOptions& options_;
    std::int64_t steps_;
    UpdateArgs<T> args_ = {};
    double (*step_)(const UpdateArgs<T>&) = nullptr;
};

}  // namespace

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
FitResult fit(const NetworkPlan& plan, T* params, MatrixView<const T> x,
              MatrixView<const T> t, T* moments, std::uint64_t* generator,
              const FitOptions& options, const FitHooks& hooks) {
    FitResult result;
    const auto start = Clock::now();
    const index_t rows = x.rows;
    const index_t batch_rows = std::min(options.batch_size, rows);
    const bool shuffles = options.shuffle && batch_rows < rows;
    NetworkRunner<T> runner(plan, batch_rows);
    Buffer<T> grads(plan.n_params);
    Buffer<index_t> order(shuffles ? rows : 0);
    Stepper<T> stepper(plan, params, grads.data(), moments, options);
    InterruptPoll poll(hooks.interrupted);
    const Progress progress = [&](double multiply_adds) { poll.charge(multiply_adds); };
    if (batch_rows == rows && options.epochs > 0) {
        runner.prepare({x, t, nullptr, rows});
    }
    Pacer report(hooks.min_interval);
    const double epoch_work =
        static_cast<double>(rows) * runner.multiply_adds_per_row();
    bool running = true;
    while (running && result.epochs < options.epochs) {
        if (shuffles) {
            std::iota(order.data(), order.data() + rows, index_t{0});
            Generator(generator).shuffle(order.data(), rows);
        }
        double total = 0;
        index_t batches = 0;
        for (index_t begin = 0; running && begin < rows; begin += batch_rows) {
            Batch<T> batch = {x, t, nullptr, std::min(batch_rows, rows - begin)};
            if (shuffles) {
                batch.order = order.data() + begin;
            } else {
                batch.x.data += begin * x.stride;
                batch.t.data += begin * t.stride;
            }
            const double loss = runner.loss(params, grads.data(), batch, progress);
            total += loss;
            ++batches;
            const double norm2 = std::isfinite(loss) ? stepper.step() : loss - loss;
            if (std::isnan(norm2)) {
                result.reason = StopReason::diverged;
                running = false;
                break;
            }
            ++result.steps;
            if (hooks.every > 0 && result.steps % hooks.every == 0) {
                hooks.on_step(result.epochs + 1, result.steps, loss);
            }
            if (options.tol > 0 && norm2 <= options.tol * options.tol) {
                result.reason = StopReason::tol;
                running = false;
            }
        }
        result.loss.push_back(total / static_cast<double>(batches));
        ++result.epochs;
        if (hooks.on_epoch && result.reason != StopReason::diverged) {
            const bool last = !running || result.epochs == options.epochs;
            if (last || hooks.min_interval <= 0 || report.due(epoch_work)) {
                if (hooks.on_epoch(result.epochs, result.steps, result.loss.back()) &&
                    running) {
                    result.reason = StopReason::callback;
                    running = false;
                }
            }
        }
    }
    result.seconds = seconds_since(start);
    return result;
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

#define SIGLIN_INSTANTIATE(T)                                                    \
    template FitResult fit<T>(const NetworkPlan&, T*, MatrixView<const T>,       \
                              MatrixView<const T>, T*, std::uint64_t*,           \
                              const FitOptions&, const FitHooks&);               \
    template std::vector<index_t> fit_perceptron<T>(T*, T*, MatrixView<const T>, \
                                                    const T*, index_t, index_t,  \
                                                    const std::function<bool()>&);

SIGLIN_INSTANTIATE(float)
SIGLIN_INSTANTIATE(double)

}  // namespace siglin
