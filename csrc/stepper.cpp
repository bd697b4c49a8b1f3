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
    switch (settings_.optimizer) {
#define SIGLIN_OPTIMIZER(name, vectors, ...) \
    case Optimizer::name:                    \
        step_ = kernels.name;                \
        break;
#include "optimizers.inc"
    }
}

template <class T>
double Stepper<T>::step(const Progress& progress, const bool& touched) {
    ++steps_;
    const OptimizerNumbers& numbers = settings_.numbers;
    if (numbers.eps > 0) {  // Adam's kind
        const auto t = static_cast<double>(steps_);
        const double root = std::sqrt(1.0 - std::pow(settings_.numbers.beta2, t));
        args_.lr =
            static_cast<T>(lr_ * root / (1.0 - std::pow(settings_.numbers.beta1, t)));
        if (!settings_.objective.scikit_learn) {
            args_.eps = static_cast<T>(numbers.eps * root);
        }
        args_.decay = static_cast<T>(lr_ * numbers.weight_decay);
    }
    args_.unchecked = cannot_overflow(progress) && !touched;
    if (!args_.unchecked) {
        known_ = false;
    }
    return step_(args_);
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

template <class T>
void clip_norm(T* grads, index_t n, double most, const Progress& progress) {
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

template class Stepper<float>;
template class Stepper<double>;

template void clip_norm<float>(float*, index_t, double, const Progress&);
template void clip_norm<double>(double*, index_t, double, const Progress&);

}  // namespace siglin
