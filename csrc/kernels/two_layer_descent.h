// Single-row gradient descent of the smallest networks, like 2-3-1: all in registers.
//
// A step waits for the one before, so only the longest chain of operations counts: two
// sums over x, a sigmoid, a dot product, a sigmoid, one fma. All else, the derivative
// of the hidden layer times the weights and x among it, is done while the output's
// sigmoid is under way. A step of 2-3-1 takes 48 ns so, and 67 by descent.h (float64;
// float32 44 and 64; x86_v3 on a Zen 3).
#pragma once

#include "../kernel_table.h"
#include "elementary.h"
#include "loss.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// The losses of all steps, from what the last layer kept of each: z for bce, y - t for
// squared_error. outputs: as much again of scratch behind them.
template <class T>
void losses_from_outputs(const DescentArgs<T>& args, index_t n_out, T* outputs) {
    const index_t n = args.steps * n_out;
    if (args.loss.kind == Loss::bce) {
        for (index_t s = 0; s < args.steps; ++s) {
            const index_t row = args.order == nullptr ? s : args.order[s];
            for (index_t j = 0; j < n_out; ++j) {
                outputs[n + s * n_out + j] = args.t.data[row * args.t.stride + j];
            }
        }
        for_each_block<T>(n, [&](index_t i, auto lanes) {
            const Vec<T> z = load(outputs + i, lanes);
            const Vec<T> t = load(outputs + n + i, lanes);
            const Vec<T> exp = exp_negative<T>(magnitude<T>(z));
            store(outputs + i, bce_loss<T>(z, t, exp), lanes);
        });
    } else {
        for_each_block<T>(n, [&](index_t i, auto lanes) {
            const Vec<T> difference = load(outputs + i, lanes);
            store(outputs + i, broadcast(T(0.5)) * difference * difference, lanes);
        });
    }
    for (index_t s = 0; s < args.steps; ++s) {
        double total = 0;
        for (index_t j = 0; j < n_out; ++j) {
            total += static_cast<double>(outputs[s * n_out + j]);
        }
        args.losses[s] = total;
    }
}

template <class T>
bool losses_are_finite(const DescentArgs<T>& args) {
    double check = 0;
    for (index_t s = 0; s < args.steps; ++s) {
        check += args.losses[s] * 0.0;
    }
    return check == 0.0;
}

// One hidden layer of sigmoids and one sigmoid under bce; up to four inputs, and 32
// bytes of hidden outputs, whatever the width of a vector: the same for all targets.
template <class T>
class TwoLayerDescent {
  public:
    static bool serves(const DescentArgs<T>& args) {
        const RowLayer& first = args.layers[0];
        return args.count == 2 && args.loss.kind == Loss::bce &&
               first.n_in <= kInputs && first.n_out <= kHidden &&
               args.layers[1].n_out == 1 && first.activation == Activation::sigmoid;
    }

    explicit TwoLayerDescent(const DescentArgs<T>& args) : args_(args) {
        for_each_parameter([](T& kept, T& param) { kept = param; });
    }

    // As row_descent; false also where a z is out of the quick sigmoid's reach.
    bool run() {
        if (args_.layers[0].n_in <= 2) {
            descend<2>();
        } else {
            descend<kInputs>();
        }
        if (!(reach_ <= ExpConstants<T>::kNormalLimit)) {
            return false;
        }
        losses_from_outputs<T>(args_, 1, args_.scratch);
        T finite = 0;
        for_each_parameter([&](T& kept, T&) { finite += kept * T(0); });
        if (!(losses_are_finite(args_) && finite == T(0))) {
            return false;
        }
        for_each_parameter([](T& kept, T& param) { param = kept; });
        return true;
    }

  private:
    static constexpr int L = kLanes<T>;
    static constexpr int kInputs = 4;
    static constexpr int kHidden = 32 / static_cast<int>(sizeof(T));
    static constexpr int kVecs = kHidden > L ? kHidden / L : 1;
    static constexpr int kRow = kVecs * L;

    // visit(what is kept here, the parameter)
    template <class Visit>
    void for_each_parameter(Visit visit) {
        const RowLayer& first = args_.layers[0];
        const RowLayer& second = args_.layers[1];
        for (index_t j = 0; j < first.n_out; ++j) {
            for (index_t i = 0; i < first.n_in; ++i) {
                visit(w_[i * kRow + j], args_.params[first.w + i * first.n_out + j]);
            }
            if (first.b >= 0) {
                visit(b_[j], args_.params[first.b + j]);
            }
            visit(v_[j], args_.params[second.w + j]);
        }
        if (second.b >= 0) {
            visit(c_, args_.params[second.b]);
        }
    }

    // start + the sum of a * b in every lane of the hidden outputs, halves first.
    static SIGLIN_INLINE Vec<T> dot(Vec<T> start, const Vec<T> (&a)[kVecs],
                                    const Vec<T> (&b)[kVecs]) {
        Vec<T> total = fma(a[0], b[0], start);
        if constexpr (kVecs == 2) {
            total += a[1] * b[1];
        }
        return add_swapped<(kHidden < L ? kHidden : L) / 2>(total);
    }

    template <int kBit>
    static SIGLIN_INLINE Vec<T> add_swapped(Vec<T> v) {
        if constexpr (kBit == 0) {
            return v;
        } else {
            return add_swapped<kBit / 2>(v + swapped<kBit, T>(v));
        }
    }

    template <int kCount>
    void descend() {
        static_assert(kVecs <= 2);
        const index_t n_in = args_.layers[0].n_in;
        const Vec<T> one = broadcast(T(1));
        const Vec<T> minus_lr = broadcast(-args_.lr);
        const Vec<T> b_rate = args_.layers[0].b >= 0 ? minus_lr : Vec<T>{};
        Vec<T> c = {};  // the output's bias, in lane 0
        Vec<T> c_rate = {};
        c[0] = c_;
        c_rate[0] = args_.layers[1].b >= 0 ? -args_.lr : T(0);
        Vec<T> reach = {};  // the largest |z|
        Vec<T> w[kCount][kVecs];
        Vec<T> b[kVecs];
        Vec<T> v[kVecs];
        Vec<T> existing[kVecs];  // 1, and 0 past the end: there all stays 0
#pragma GCC unroll 2
        for (int k = 0; k < kVecs; ++k) {
#pragma GCC unroll 4
            for (int i = 0; i < kCount; ++i) {
                w[i][k] = load(w_ + i * kRow + k * L);
            }
            b[k] = load(b_ + k * L);
            v[k] = load(v_ + k * L);
            for (int j = 0; j < L; ++j) {
                existing[k][j] = k * L + j < args_.layers[0].n_out ? T(1) : T(0);
            }
        }
        for (index_t s = 0; s < args_.steps; ++s) {
            const index_t row = args_.order == nullptr ? s : args_.order[s];
            const T* input = args_.x.data + row * args_.x.stride;
            const T t = args_.t.data[row * args_.t.stride];
            Vec<T> x[kCount];
#pragma GCC unroll 4
            for (int i = 0; i < kCount; ++i) {
                x[i] = broadcast(i < n_in ? input[i] : T(0));
            }
            Vec<T> a[kVecs];
            Vec<T> slope[kVecs];  // of z by the hidden pre-activations
#pragma GCC unroll 2
            for (int k = 0; k < kVecs; ++k) {
                Vec<T> z = b[k];
#pragma GCC unroll 4
                for (int i = 0; i < kCount; ++i) {
                    z = fma(x[i], w[i][k], z);
                }
                reach = larger<T>(reach, magnitude<T>(z));
                const auto hidden = quick_sigmoid_parts<T, true>(z, existing[k]);
                a[k] = hidden.value;
                slope[k] = (hidden.rest * hidden.value) * v[k];
            }
            const Vec<T> z = dot(c, a, v);
            args_.scratch[s] = z[0];
            reach = larger<T>(reach, magnitude<T>(z));
            const Vec<T> dz = quick_sigmoid_minus<T, true>(z, broadcast(t), one);
            c = fma(dz, c_rate, c);
#pragma GCC unroll 2
            for (int k = 0; k < kVecs; ++k) {
                const Vec<T> change = minus_lr * slope[k];
                v[k] = fma(dz, minus_lr * a[k], v[k]);
                b[k] = fma(dz, b_rate * slope[k], b[k]);
#pragma GCC unroll 4
                for (int i = 0; i < kCount; ++i) {
                    w[i][k] = fma(dz, x[i] * change, w[i][k]);
                }
            }
        }
#pragma GCC unroll 2
        for (int k = 0; k < kVecs; ++k) {
#pragma GCC unroll 4
            for (int i = 0; i < kCount; ++i) {
                store(w_ + i * kRow + k * L, w[i][k]);
            }
            store(b_ + k * L, b[k]);
            store(v_ + k * L, v[k]);
        }
        c_ = c[0];
        for (int j = 0; j < L; ++j) {
            reach_ = reach[j] > reach_ ? reach[j] : reach_;
        }
    }

    const DescentArgs<T>& args_;
    T w_[kInputs * kRow] = {};
    T b_[kRow] = {};
    T v_[kRow] = {};
    T c_ = 0;
    T reach_ = 0;
};

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
