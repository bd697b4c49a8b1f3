#include "self_check.h"

#include <cmath>
#include <cstddef>
#include <limits>

#include "buffer.h"
#include "float_environment.h"

namespace siglin {
namespace {

// Neither is a whole number of vectors or tiles on any target.
constexpr index_t kBatch = 17;
constexpr index_t kIn = 33;
constexpr index_t kOut = 9;
constexpr index_t kSigmoids = 64;

// All numbers of the check, in the table's dtype.
template <class T>
struct Numbers {
    T z[kSigmoids];
    T sigmoid[kSigmoids];
    T x[kBatch * kIn];
    T w[kIn * kOut];
    T b[kOut];
    T a[kBatch * kOut];
    T derivative[kBatch * kOut];
    T dz[kBatch * kOut];
    T dx[kBatch * kIn];
    T dw[kIn * kOut];
    T db[kOut];
};

double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

// Numbers in [-1, 1) that are exact in both dtypes.
template <class T, std::size_t kCount>
void fill(T (&values)[kCount], unsigned seed) {
    for (T& value : values) {
        seed = seed * 1664525U + 1013904223U;  // Knuth's and Lewis's generator
        value = static_cast<T>(static_cast<int>(seed >> 16) - 32768) / 32768;
    }
}

// Whether every got(i) is within bound(want(i)) of want(i); NaN never is.
template <class T, std::size_t kCount, class Want, class Bound>
bool agrees(const T (&got)[kCount], Want want, Bound bound) {
    for (std::size_t i = 0; i < kCount; ++i) {
        const double right = want(static_cast<index_t>(i));
        if (!(std::abs(static_cast<double>(got[i]) - right) <= bound(right))) {
            return false;
        }
    }
    return true;
}

template <class T>
const char* fault(const Kernels<T>& kernels, T* workspace, Numbers<T>& n) {
    constexpr auto kEps = static_cast<double>(std::numeric_limits<T>::epsilon());
    // An ulp or two of the result, as much of the plain loop's.
    const auto few_ulp = [](double right) { return 4 * kEps * right; };
    // A sum of k products of numbers up to 1 is off by at most k (k + 1) eps / 2, far
    // below what a wrong lane or a wrong constant does.
    const auto sum_of = [](index_t k) {
        const auto bound = static_cast<double>((k + 1) * (k + 2)) / 2 * kEps;
        return [bound](double) { return bound; };
    };

    for (index_t i = 0; i < kSigmoids; ++i) {
        n.z[i] = static_cast<T>(static_cast<double>(i) * (60.0 / 63) - 30);
        n.sigmoid[i] = 0;
    }
    kernels.activate(Activation::sigmoid, n.z, n.sigmoid, nullptr, kSigmoids);
    if (!agrees(n.sigmoid, [&](index_t i) { return sigmoid(n.z[i]); }, few_ulp)) {
        return "sigmoid";
    }

    fill(n.x, 1);
    fill(n.w, 2);
    fill(n.b, 3);
    fill(n.dz, 4);
    const MatrixView<const T> x{n.x, kBatch, kIn, kIn};
    const MatrixView<const T> w{n.w, kIn, kOut, kOut};
    const MatrixView<const T> dz{n.dz, kBatch, kOut, kOut};
    kernels.forward({x,
                     w,
                     n.b,
                     Activation::sigmoid,
                     {n.a, kBatch, kOut, kOut},
                     {n.derivative, kBatch, kOut, kOut},
                     workspace});
    const auto a = [&](index_t at) {
        const index_t i = at / kOut;
        const index_t j = at % kOut;
        double z = n.b[j];
        for (index_t p = 0; p < kIn; ++p) {
            z += static_cast<double>(n.x[i * kIn + p]) * n.w[p * kOut + j];
        }
        return sigmoid(z);
    };
    const auto derivative = [&](index_t at) { return a(at) * (1 - a(at)); };
    // Sigmoids are at most a quarter as steep as their sums are off.
    const auto layer = [&](double right) { return sum_of(kIn)(right) / 4 + 2 * kEps; };
    if (!agrees(n.a, a, layer) || !agrees(n.derivative, derivative, layer)) {
        return "forward";
    }

    kernels.input_gradient({dz, w, {n.dx, kBatch, kIn, kIn}, nullptr, workspace});
    const auto dx = [&](index_t at) {
        double sum = 0;
        for (index_t j = 0; j < kOut; ++j) {
            sum += static_cast<double>(n.dz[at / kIn * kOut + j]) *
                   n.w[at % kIn * kOut + j];
        }
        return sum;
    };
    if (!agrees(n.dx, dx, sum_of(kOut))) {
        return "input gradient";
    }

    kernels.weight_gradient({x, dz, n.dw, false, workspace});
    const auto dw = [&](index_t at) {
        double sum = 0;
        for (index_t i = 0; i < kBatch; ++i) {
            sum += static_cast<double>(n.x[i * kIn + at / kOut]) *
                   n.dz[i * kOut + at % kOut];
        }
        return sum;
    };
    if (!agrees(n.dw, dw, sum_of(kBatch))) {
        return "weight gradient";
    }

    kernels.column_sums(dz, n.db, false);
    const auto db = [&](index_t j) {
        double sum = 0;
        for (index_t i = 0; i < kBatch; ++i) {
            sum += n.dz[i * kOut + j];
        }
        return sum;
    };
    return agrees(n.db, db, sum_of(kBatch)) ? nullptr : "bias gradient";
}

template <class T>
std::string fault_in(const KernelTable& table, const char* dtype) {
    // Not the thread's own, which is as large as the table in use wants it.
    Buffer<std::byte> workspace(static_cast<index_t>(table.workspace_bytes));
    Numbers<T> numbers{};
    const char* what =
        fault<T>(table.kernels<T>(), reinterpret_cast<T*>(workspace.data()), numbers);
    return what == nullptr ? std::string() : std::string(what) + " in " + dtype;
}

}  // namespace

std::string first_fault(const KernelTable& table) {
    const KeepSubnormals environment;
    const std::string fault = fault_in<float>(table, "float32");
    return fault.empty() ? fault_in<double>(table, "float64") : fault;
}

}  // namespace siglin
