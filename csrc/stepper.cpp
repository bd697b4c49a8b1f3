#include "stepper.h"

#include <algorithm>
#include <cmath>

#include "dispatch.h"

namespace siglin {

index_t memory_vectors(Optimizer optimizer) {
    switch (optimizer) {
#define SIGLIN_OPTIMIZER(name, vectors, ...) \
    case Optimizer::name:                    \
        return vectors;
#include "optimizers.inc"
    }
    return 0;
}

namespace {

// What the gradients are to be multiplied by for a 2-norm of at most `most`; 1 where
// one is not finite. halved: for half the sum of their squares.
template <class T>
T clip_factor(const PenaltyArgs<T>& halved, double most, const Progress* progress) {
    const auto& kernels = kernel_table().kernels<T>();
    const T* const grads = halved.w;
    const index_t n = halved.n;
    const auto tell = [&] {
        if (progress != nullptr) {
            (*progress)(2.0 * static_cast<double>(n));
        }
    };
    tell();
    double norm = std::sqrt(2 * kernels.penalise(halved));
    // Squares that can neither over- nor underflow, and a float's rounding apart.
    constexpr double kLeast = sizeof(T) == 4 ? 1e-10 : 1e-100;
    constexpr double kMost = sizeof(T) == 4 ? 1e10 : 1e100;
    constexpr double kRounding = sizeof(T) == 4 ? 1 - 1e-6 : 1;
    const bool plain = norm > kLeast && norm < kMost;
    if (plain && norm <= most * kRounding) {
        return T(1);
    }
    if (!plain || sizeof(T) == 4) {
        tell();
        const auto largest = static_cast<double>(kernels.largest_magnitude(grads, n));
        if (!(largest > 0) || !std::isfinite(largest)) {
            return T(1);
        }
        if (!std::isfinite(norm) || norm < largest) {  // the squares did
            double sum = 0;
            for (index_t i = 0; i < n; ++i) {
                const double share = static_cast<double>(grads[i]) / largest;
                sum += share * share;
            }
            norm = largest * std::sqrt(sum);
        }
    }
    return norm > most ? static_cast<T>(most / norm) : T(1);
}

}  // namespace

template <class T>
Stepper<T>::Stepper(const FitJob<T>& job, const T* grads)
    : settings_(job.settings),
      lr_(settings_.lr),
      steps_(job.state.step_count),
      bound_(static_cast<double>(std::numeric_limits<T>::max())) {
    const auto& kernels = kernel_table().kernels<T>();
    const index_t n = job.plan->n_params;
    const index_t vectors = memory_vectors(settings_.optimizer);
    args_.param = job.state.params;
    args_.grad = grads;
    args_.n = n;
    args_.m = vectors < 1 ? nullptr : job.state.moments;
    args_.v = vectors < 2 ? nullptr : job.state.moments + n;
    args_.lr = static_cast<T>(lr_);
    args_.beta1 = static_cast<T>(settings_.numbers.beta1);
    args_.beta2 = static_cast<T>(settings_.numbers.beta2);
    args_.eps = static_cast<T>(settings_.numbers.eps);
    args_.want_norm = settings_.tol > 0;
    args_.unchecked = false;
    args_.factor = T(1);
    squares_ = {grads, nullptr, n, T(0), T(1)};
    switch (settings_.optimizer) {
#define SIGLIN_OPTIMIZER(name, vectors, ...) \
    case Optimizer::name:                    \
        step_ = kernels.name;                \
        break;
#include "optimizers.inc"
    }
}

// Counts the step that comes, and finds what its kernel is to be told.
template <class T>
void Stepper<T>::begin_step(const Progress* progress) {
    ++steps_;
    if (settings_.clip_norm > 0) {
        args_.factor = clip_factor(squares_, settings_.clip_norm, progress);
    }
    const OptimizerNumbers& numbers = settings_.numbers;
    if (!(numbers.eps > 0)) {  // not Adam's kind
        return;
    }
    const auto t = static_cast<double>(steps_);
    if (bias1_ != 1) {  // it grows with t, and stays 1
        bias1_ = 1.0 - std::pow(numbers.beta1, t);
    }
    if (bias2_ != 1) {
        bias2_ = 1.0 - std::pow(numbers.beta2, t);
    }
    const double root = std::sqrt(bias2_);
    args_.lr = static_cast<T>(lr_ * root / bias1_);
    if (!settings_.objective.scikit_learn) {
        args_.eps = static_cast<T>(numbers.eps * root);
    }
    args_.decay = static_cast<T>(lr_ * numbers.weight_decay);
}

template <class T>
double Stepper<T>::step(const Progress& progress, const bool& touched) {
    begin_step(&progress);
    args_.unchecked = cannot_overflow(progress) && !touched;
    if (!args_.unchecked) {
        known_ = false;
    }
    return step_(args_);
}

template <class T>
void Stepper<T>::step_unchecked() {
    begin_step(nullptr);
    step_(args_);
}

template <class T>
void Stepper<T>::remember() {
    const index_t of_moments = memory_vectors(settings_.optimizer) * args_.n;
    if (before_.data() == nullptr) {
        before_ = Buffer<T>(args_.n + of_moments);
    }
    std::copy_n(args_.param, args_.n, before_.data());
    std::copy_n(args_.m, of_moments, before_.data() + args_.n);
    steps_before_ = steps_;
    args_.unchecked =
        true;  // here: what is just stored holds up the kernel's copy of it
}

template <class T>
void Stepper<T>::go_back() {
    const index_t of_moments = memory_vectors(settings_.optimizer) * args_.n;
    std::copy_n(before_.data(), args_.n, args_.param);
    std::copy_n(before_.data() + args_.n, of_moments, args_.m);
    steps_ = steps_before_;
    bias1_ = bias2_ = 0;
}

template <class T>
bool Stepper<T>::is_finite() const {
    return std::isfinite(
        kernel_table().kernels<T>().largest_magnitude(args_.param, args_.n));
}

// A step of more than some 50 ms cannot: Ctrl-C would wait for its end. Of few
// rows, reading and writing the parameters is most of it.
template <class T>
bool Stepper<T>::can_be_left(double multiply_adds) const {
    constexpr double kMostWork = 1e9;
    constexpr index_t kMostBytes = 128 * 1024 * 1024;
    return settings_.optimizer == Optimizer::gd && settings_.tol == 0 &&
           multiply_adds < kMostWork &&
           args_.n <= kMostBytes / static_cast<index_t>(sizeof(T));
}

template <class T>
StepBound& Stepper<T>::bound(bool anew) {
    if (anew && bound_.has_grown()) {
        known_ = false;
    }
    measure([](double) {});
    return bound_;
}

template <class T>
double Stepper<T>::largest(const T* values, const Progress& progress) const {
    if (values == nullptr) {
        return 0;
    }
    progress(2.0 * static_cast<double>(args_.n));  // a pass over memory
    return static_cast<double>(
        kernel_table().kernels<T>().largest_magnitude(values, args_.n));
}

template <class T>
void Stepper<T>::measure(const Progress& progress) {
    if (!known_) {
        bound_.set(largest(args_.param, progress));
        m_ = largest(args_.m, progress);
        v_ = largest(args_.v, progress);
        known_ = true;
    }
}

// Whether the step keeps every parameter finite, from the largest gradient and from
// bounds on the rest; a NaN among them makes each comparison false.
template <class T>
bool Stepper<T>::cannot_overflow(const Progress& progress) {
    measure(progress);
    const double lr = std::fabs(static_cast<double>(args_.lr));
    const double g = largest(args_.grad, progress);
    const double limit = bound_.limit();
    if (!(g <= limit && m_ <= limit && v_ <= limit)) {
        return false;
    }
    switch (settings_.optimizer) {
        case Optimizer::gd:
            return makes(lr * g);
        case Optimizer::momentum:
            m_ = settings_.numbers.beta1 * m_ + g;
            return m_ <= limit && makes(lr * m_);
        case Optimizer::nesterov:
            m_ = settings_.numbers.beta1 * m_ + g;
            return g + m_ <= limit && makes(lr * (g + m_));
        case Optimizer::adam:
        case Optimizer::adamw:
            break;
    }
    // m and v are means of g and g^2, and the step is at most m / eps.
    m_ = std::max(m_, g);
    v_ = std::max(v_, g * g);
    const double step = m_ / static_cast<double>(args_.eps);
    const double decay = static_cast<double>(args_.decay) * bound_.largest();
    return m_ <= limit && v_ <= limit && step <= limit && makes(lr * step + decay);
}

// Whether a step that changes no parameter by more is allowed; it is then made.
template <class T>
bool Stepper<T>::makes(double change) {
    if (!bound_.allows(change)) {
        return false;
    }
    bound_.add(change);
    return true;
}

template class Stepper<float>;
template class Stepper<double>;

}  // namespace siglin
