// One sigmoid neuron, logistic regression, on an x stored by columns: loss and gradient
// of a batch, and whole steps of gradient descent.
//
// As a matrix product one output fills one lane in four or eight, and each weight's
// gradient is one chain over all rows. Here the vectors run over the rows: the sums
// over rows are kNeuronLanes chains, of the rows equal modulo kNeuronLanes, added by
// halves: the same order whatever the vector width.
#pragma once

#include "../kernel_table.h"
#include "loss.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// A vector of kNeuronLanes logical lanes.
template <class T>
struct Wide {
    static constexpr int kVecs = static_cast<int>(kNeuronLanes<T>) / kLanes<T>;
    Vec<T> v[kVecs];
};

// Vector by vector: GCC clears a struct by `rep stos`, which takes longer than a sum.
template <class T>
SIGLIN_INLINE void clear(Wide<T>& wide) {
    const Vec<T> zero = {};
#pragma GCC unroll 8
    for (int i = 0; i < Wide<T>::kVecs; ++i) {
        wide.v[i] = zero;
    }
}

template <class T>
SIGLIN_INLINE T sum(const Wide<T>& wide) {
    constexpr int kVecs = Wide<T>::kVecs;
    Vec<T> v[kVecs];
#pragma GCC unroll 8
    for (int i = 0; i < kVecs; ++i) {
        v[i] = wide.v[i];
    }
#pragma GCC unroll 8
    for (int width = kVecs / 2; width > 0; width /= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < width; ++i) {
            v[i] = v[i] + v[i + width];
        }
    }
    return sum<T>(v[0]);
}

// The product of the (1 + e) of so many rows is finite: in a float32 lane at most 2^60,
// over all lanes, in double, at most 2^960.
inline constexpr index_t kProductRows = 960;
// Rows whose z and dz are kept, in L1 beside their x. A divisor of kProductRows, and a
// multiple of kNeuronLanes.
inline constexpr index_t kNeuronRows = 192;
// Inputs whose gradients are summed together, in registers.
inline constexpr int kInputsTogether = 4;

// The product of (1 + q) over all lanes, minus 1.
template <class T>
SIGLIN_INLINE double product_of_lanes(const Wide<T>& wide) {
    constexpr int L = kLanes<T>;
    T lanes[kNeuronLanes<T>];
#pragma GCC unroll 8
    for (int i = 0; i < Wide<T>::kVecs; ++i) {
        store(lanes + i * L, wide.v[i]);
    }
    double q[kNeuronLanes<T>];
    for (int i = 0; i < kNeuronLanes<T>; ++i) {
        q[i] = static_cast<double>(lanes[i]);
    }
    for (index_t width = kNeuronLanes<T> / 2; width > 0; width /= 2) {
        for (index_t i = 0; i < width; ++i) {
            q[i] = q[i] * q[i + width] + (q[i] + q[i + width]);
        }
    }
    return q[0];
}

// Of one of them, the logarithm.
template <class T>
SIGLIN_INLINE double log_of_products(const Wide<T>& wide) {
    return log1p_from_zero<double>(broadcast(product_of_lanes(wide)))[0];
}

// z (+)= x @ w for kInputs columns of x and `count` rows, which are whole Wide<T>.
template <class T, int kInputs>
void neuron_z(const T* x, index_t x_stride, const T* w, T start, bool add, T* z,
              index_t count) {
    Vec<T> weight[kInputs];
#pragma GCC unroll 4
    for (int i = 0; i < kInputs; ++i) {
        weight[i] = broadcast(w[i]);
    }
    for (index_t r = 0; r < count; r += kLanes<T>) {
        Vec<T> sum = add ? load(z + r) : broadcast(start);
#pragma GCC unroll 4
        for (int i = 0; i < kInputs; ++i) {
            sum = fma(load(x + i * x_stride + r), weight[i], sum);
        }
        store(z + r, sum);
    }
}

// dw[i] (+)= x[i] . dz for kInputs columns of x.
template <class T, int kInputs>
void neuron_dw(const T* x, index_t x_stride, const T* dz, bool add, index_t count,
               Wide<T>* dw) {
    constexpr int kVecs = Wide<T>::kVecs;
    Wide<T> sums[kInputs];
#pragma GCC unroll 4
    for (int i = 0; i < kInputs; ++i) {
        if (add) {
            sums[i] = dw[i];
        } else {
            clear(sums[i]);
        }
    }
    for (index_t r = 0; r < count; r += kNeuronLanes<T>) {
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) {
            const index_t at = r + v * kLanes<T>;
            const Vec<T> g = load(dz + at);
#pragma GCC unroll 4
            for (int i = 0; i < kInputs; ++i) {
                sums[i].v[v] = fma(load(x + i * x_stride + at), g, sums[i].v[v]);
            }
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < kInputs; ++i) {
        dw[i] = sums[i];
    }
}

// visit(first input, Inputs<count>{}) for all inputs, in groups.
template <int kCount>
struct Inputs {
    static constexpr int count = kCount;
};

template <class Visit>
SIGLIN_INLINE void for_each_inputs(index_t n_in, Visit visit) {
    index_t i = 0;
    for (; i + kInputsTogether <= n_in; i += kInputsTogether) {
        visit(i, Inputs<kInputsTogether>{});
    }
    switch (n_in - i) {
        case 1:
            visit(i, Inputs<1>{});
            break;
        case 2:
            visit(i, Inputs<2>{});
            break;
        case 3:
            visit(i, Inputs<3>{});
            break;
        default:
            break;
    }
}

// exp(-|z|) as two factors, in loops of their own: a core looks ahead over some sixty
// operations, and those of short chains do not wait there long. (150 rows of 3,
// float64, Zen 4: 217 ns a step; with the first in the loop of z 220, with the division
// in the second 228.)
template <class T>
SIGLIN_INLINE void neuron_exp(const T* z, T* e, T* scale, index_t count) {
    using C = ExpConstants<T>;
    for (index_t r = 0; r < count; r += kLanes<T>) {
        const Vec<T> y =
            smaller(broadcast(tail_limit<T>(Tail::flush)), magnitude<T>(load(z + r)));
        const Vec<T> rounded = fma(y, broadcast(C::kLog2E), broadcast(C::kRound));
        const Vec<T> n = rounded - broadcast(C::kRound);
        const UnsignedVec<T> bias = UnsignedVec<T>{} + kExponentBias<T>;
        const UnsignedVec<T> biased =
            (unsigned_bits<T>(broadcast(C::kRound)) + bias) - unsigned_bits<T>(rounded);
        store(scale + r, from_bits<T>(biased << kMantissaBits<T>));
        const Vec<T> high = fma(n, broadcast(-C::kLn2High), y);
        store(e + r, fma(n, broadcast(-C::kLn2Low), high));
    }
    for (index_t r = 0; r < count; r += kLanes<T>) {
        store(e + r, polynomial_in_loop<T>(load(e + r), C::kExp) * load(scale + r));
    }
}

// From z and e = exp(-|z|) of a vector of rows: dz = a - t in place of z, and the sums.
template <class T, class L>
SIGLIN_INLINE void neuron_rows(T* z, const T* e, const T* t, L lanes, Vec<T>& total,
                               Vec<T>& product, Vec<T>& db) {
    const Vec<T> logit = load(z);
    const Vec<T> exp = load(e);
    const Vec<T> far = bce_far<T>(logit, load(t));
    const Vec<T> lower = exp / (broadcast(T(1)) + exp);
    const Vec<T> dz = keep<T>(bce_gradient<T>(logit, far, lower), lanes);
    const Vec<T> kept = keep<T>(exp, lanes);
    store(z, dz);
    product = fma(product, kept, product) + kept;
    total -= keep<T>(bce_far_loss<T>(logit, far), lanes);
    db += dz;
}

// A summed loss: sum + log(1 + q). The logarithm can wait until there are several.
struct NeuronLoss {
    double sum;
    double q;
};

SIGLIN_INLINE Vec<double> neuron_loss(Vec<double> sum, Vec<double> q) {
    return sum + log1p_from_zero<double>(q);
}

// The summed loss; the summed gradient in dw and db.
template <class T>
SIGLIN_INLINE NeuronLoss neuron_pass(const NeuronArgs<T>& args) {
    constexpr int kVecs = Wide<T>::kVecs;
    constexpr int L = kLanes<T>;
    T z[kNeuronRows];
    T e[kNeuronRows];
    T scale[kNeuronRows];
    Wide<T> dw[kNeuronInputs];
    Wide<T> total;    // of -far z
    Wide<T> product;  // of the (1 + e), minus 1
    Wide<T> db;
    clear(total);
    clear(product);
    clear(db);
    double logarithms = 0;
    const T start = args.b == nullptr ? T(0) : *args.b;
    index_t begin = 0;
    do {
        const index_t left = args.rows - begin;
        const index_t rows = left < kNeuronRows ? left : kNeuronRows;
        const index_t count =
            (rows + kNeuronLanes<T> - 1) / kNeuronLanes<T> * kNeuronLanes<T>;
        const T* x = args.x + begin;
        const T* t = args.t + begin;
        for_each_inputs(args.n_in, [&](index_t i, auto inputs) {
            neuron_z<T, decltype(inputs)::count>(x + i * args.x_stride, args.x_stride,
                                                 args.w + i, start, i > 0, z, count);
        });
        neuron_exp(z, e, scale, count);
        index_t r = 0;
        for (; r + kNeuronLanes<T> <= rows; r += kNeuronLanes<T>) {
#pragma GCC unroll 4
            for (int v = 0; v < kVecs; ++v) {
                const index_t at = r + v * L;
                neuron_rows<T>(z + at, e + at, t + at, AllLanes{}, total.v[v],
                               product.v[v], db.v[v]);
            }
        }
        for (int v = 0; r < count; ++v, r += L) {
            const index_t exist = rows - r < 0 ? 0 : rows - r < L ? rows - r : L;
            neuron_rows<T>(z + r, e + r, t + r, first_lanes<T>(exist), total.v[v],
                           product.v[v], db.v[v]);
        }
        for_each_inputs(args.n_in, [&](index_t i, auto inputs) {
            neuron_dw<T, decltype(inputs)::count>(x + i * args.x_stride, args.x_stride,
                                                  z, begin > 0, count, dw + i);
        });
        begin += kNeuronRows;
        if (begin % kProductRows == 0) {
            logarithms += log_of_products(product);
            clear(product);
        }
    } while (begin < args.rows);
    for (index_t i = 0; i < args.n_in; ++i) {
        args.dw[i] = args.scale * sum(dw[i]);
    }
    if (args.db != nullptr) {
        *args.db = args.scale * sum(db);
    }
    return {static_cast<double>(sum(total)) + logarithms, product_of_lanes(product)};
}

// The contract is NeuronArgs'.
template <class T>
double neuron_loss_gradient(const NeuronArgs<T>& args) {
    const NeuronLoss loss = neuron_pass(args);
    return neuron_loss(broadcast(loss.sum), broadcast(loss.q))[0];
}

// Losses whose logarithms are taken together.
inline constexpr index_t kNeuronLosses = 64;

// losses = the mean of `rows` losses, of n steps
SIGLIN_INLINE void mean_losses(const double* sums, const double* q, index_t n,
                               index_t rows, double* losses) {
    for_each_block<double>(n, [&](index_t i, auto lanes) SIGLIN_LAMBDA_INLINE {
        const Vec<double> loss = neuron_loss(load(sums + i, lanes), load(q + i, lanes));
        store(losses + i, loss / broadcast(static_cast<double>(rows)), lanes);
    });
}

// The contract is NeuronDescentArgs'.
template <class T>
NeuronDescentResult neuron_descent(const NeuronDescentArgs<T>& args) {
    T space[2][kNeuronInputs + 1];
    T* param = space[0];
    T* grad = space[1];
    const index_t n_in = args.batch.n_in;
    const bool bias = args.batch.b != nullptr;
    const index_t n = n_in + (bias ? 1 : 0);
    for (index_t i = 0; i < n; ++i) {
        param[i] = args.param[i];
    }
    NeuronArgs<T> batch = args.batch;
    NeuronDescentResult result = {0, false, false};
    double sums[kNeuronLosses];
    double q[kNeuronLosses];
    index_t waiting = 0;
    while (result.steps < args.steps && !result.small_step && !result.diverged) {
        batch.w = param;
        batch.dw = grad;
        batch.b = bias ? param + n_in : nullptr;
        batch.db = bias ? grad + n_in : nullptr;
        const NeuronLoss loss = neuron_pass(batch);
        sums[waiting] = loss.sum;
        q[waiting] = loss.q;
        ++waiting;
        T norm = 0;
        T check = static_cast<T>(0.0 * loss.sum + 0.0 * loss.q);
        for (index_t i = 0; i < n; ++i) {
            const T fresh = fma_scalar(-args.lr, grad[i], param[i]);
            const T change = fresh - param[i];
            norm = fma_scalar(change, change, norm);
            check += fresh * T(0);
            grad[i] = fresh;
        }
        if (check == T(0)) {
            T* const before = param;
            param = grad;
            grad = before;
            ++result.steps;
            result.small_step =
                args.tol > 0 && static_cast<double>(norm) <= args.tol * args.tol;
        } else {
            result.diverged = true;
        }
        if (waiting == kNeuronLosses) {
            const index_t first = result.steps + (result.diverged ? 1 : 0) - waiting;
            mean_losses(sums, q, waiting, args.batch.rows, args.losses + first);
            waiting = 0;
        }
    }
    const index_t first = result.steps + (result.diverged ? 1 : 0) - waiting;
    mean_losses(sums, q, waiting, args.batch.rows, args.losses + first);
    for (index_t i = 0; i < n; ++i) {
        args.param[i] = param[i];
    }
    return result;
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
