#include "tape.h"

#include <algorithm>

#include "buffer.h"
#include "dispatch.h"
#include "elements.h"
#include "float_environment.h"
#include "runner.h"

namespace siglin {

namespace {

// run(begin, rows) for pieces of the rows of an elementwise pass, with calls of
// progress in between.
template <class Run>
void for_row_pieces(index_t rows, index_t cols, const Progress& progress,
                    const Run& run) {
    constexpr index_t kElements = 1 << 18;
    constexpr double kCost = 50;  // of an element with an exponential, multiply-adds
    const index_t piece = std::max<index_t>(kElements / std::max<index_t>(cols, 1), 1);
    for (index_t begin = 0; begin < rows; begin += piece) {
        const index_t count = std::min(piece, rows - begin);
        run(begin, count);
        progress(kCost * static_cast<double>(count) * static_cast<double>(cols));
    }
}

}  // namespace

template <class T>
void tape_forward(const NetworkPlan& plan, const T* params, MatrixView<const T> x,
                  const std::vector<TapedLayer<T>>& tape, MatrixView<T> z,
                  MatrixView<T> out, const Progress& progress) {
    MatrixView<const T> input = x;
    for (std::size_t l = 0; l < plan.layers.size(); ++l) {
        const RowLayer& layer = plan.layers[l];
        const bool last = l + 1 == plan.layers.size();
        const MatrixView<const T> w = {params + layer.w, layer.n_in, layer.n_out,
                                       layer.n_out};
        const T* const b = bias_of(layer, params);
        if (last) {
            layer_forward<T>(input, w, b, Activation::identity, z,
                             {nullptr, z.rows, z.cols, z.stride}, &progress);
        } else {
            const QuickFlushSubnormals environment;
            const MatrixView<T>& a = tape[l].a;
            layer_forward<T>(input, w, b, layer.activation, a, tape[l].derivative,
                             &progress);
            input = {a.data, a.rows, a.cols, a.stride};
        }
    }
    if (plan.loss.kind != Loss::cross_entropy && plan.loss.kind != Loss::poisson) {
        activate_elements<T>(plan.layers.back().activation, z.data, out.data,
                             z.rows * z.cols, &progress);
        return;
    }
    const auto& kernels = kernel_table().kernels<T>();
    for_row_pieces(z.rows, z.cols, progress, [&](index_t begin, index_t rows) {
        T* const to = out.data + begin * z.cols;
        std::copy_n(z.data + begin * z.cols, rows * z.cols, to);
        if (plan.loss.kind == Loss::cross_entropy) {
            kernels.softmax(to, rows, z.cols);
        } else {
            kernels.exponential(to, rows * z.cols);
        }
    });
}

template <class T>
void tape_backward(const NetworkPlan& plan, const T* params, T* grads,
                   MatrixView<const T> x, const std::vector<TapedLayer<T>>& tape,
                   const T* dz, MatrixView<T> dx, const Progress& progress) {
    Buffer<T> here;  // dz of the present layer
    for (std::size_t l = plan.layers.size(); l-- > 0;) {
        const RowLayer& layer = plan.layers[l];
        const MatrixView<const T> input =
            l == 0 ? x
                   : MatrixView<const T>{tape[l - 1].a.data, x.rows, layer.n_in,
                                         tape[l - 1].a.stride};
        const MatrixView<const T> upstream = {dz, x.rows, layer.n_out, layer.n_out};
        const MatrixView<const T> w = {params + layer.w, layer.n_in, layer.n_out,
                                       layer.n_out};
        layer_weight_gradient<T>(input, upstream, grads + layer.w, false, {}, T(0),
                                 &progress);
        if (layer.b >= 0) {
            sum_rows<T>(upstream, grads + layer.b, &progress);
        }
        if (l > 0) {
            Buffer<T> below(x.rows * layer.n_in);
            layer_input_gradient<T>(upstream, w,
                                    {below.data(), x.rows, layer.n_in, layer.n_in},
                                    tape[l - 1].derivative.data, false, &progress);
            here = std::move(below);
            dz = here.data();
        } else if (dx.data != nullptr) {
            layer_input_gradient<T>(upstream, w, dx, nullptr, false, &progress);
        }
    }
}

template <class T>
double output_loss(const NetworkPlan& plan, MatrixView<const T> z,
                   MatrixView<const T> t, T* dz, const Progress& progress) {
    const auto& kernels = kernel_table().kernels<T>();
    const Activation f = plan.layers.back().activation;
    const bool wants = !from_logits(plan.loss.kind) && f != Activation::identity;
    Buffer<T> t_rows;  // the loss wants one long row
    Buffer<T> derivative;
    double total = 0;
    for_row_pieces(z.rows, z.cols, progress, [&](index_t begin, index_t rows) {
        const index_t n = rows * z.cols;
        T* const to = dz + begin * z.cols;
        if (begin == 0) {  // no later piece is larger
            t_rows = Buffer<T>(n);
            derivative = Buffer<T>(wants ? n : 0);
        }
        for (index_t i = 0; i < rows; ++i) {
            const T* const targets = t.data + (begin + i) * t.stride;
            std::copy_n(z.data + (begin + i) * z.stride, z.cols, to + i * z.cols);
            std::copy_n(targets, t.cols, t_rows.data() + i * t.cols);
            total += targets_loss(plan, targets);
        }
        if (wants) {
            kernels.activate(f, to, to, derivative.data(), n);
        }
        total += kernels.loss_gradient(
            {plan.loss, to, wants ? derivative.data() : nullptr, t_rows.data(), rows,
             z.cols, T(1) / static_cast<T>(z.rows), true});
    });
    return total / static_cast<double>(z.rows);
}

template <class T>
void output_backward(const NetworkPlan& plan, MatrixView<const T> z,
                     MatrixView<const T> da, T* dz, const Progress& progress) {
    const auto& kernels = kernel_table().kernels<T>();
    const auto one_row = [&](index_t i) {
        const T* const from = z.data + i * z.stride;
        const T* const upstream = da.data + i * da.stride;
        T* const row = dz + i * z.cols;
        if (plan.loss.kind == Loss::cross_entropy) {
            // dz = a * (da - a . da), with a = softmax(z).
            std::copy_n(from, z.cols, row);
            kernels.softmax(row, 1, z.cols);
            T along = 0;
            for (index_t j = 0; j < z.cols; ++j) {
                along += row[j] * upstream[j];
            }
            for (index_t j = 0; j < z.cols; ++j) {
                row[j] *= upstream[j] - along;
            }
            return;
        }
        if (plan.loss.kind == Loss::poisson) {  // exp is its own derivative
            std::copy_n(from, z.cols, row);
            kernels.exponential(row, z.cols);
        } else {
            kernels.activate(plan.layers.back().activation, from, nullptr, row, z.cols);
        }
        kernels.scale_by(upstream, row, z.cols);
    };
    for_row_pieces(z.rows, z.cols, progress, [&](index_t begin, index_t rows) {
        for (index_t i = begin; i < begin + rows; ++i) {
            one_row(i);
        }
    });
}

#define SIGLIN_INSTANTIATE(T)                                                         \
    template void tape_forward<T>(const NetworkPlan&, const T*, MatrixView<const T>,  \
                                  const std::vector<TapedLayer<T>>&, MatrixView<T>,   \
                                  MatrixView<T>, const Progress&);                    \
    template void tape_backward<T>(                                                   \
        const NetworkPlan&, const T*, T*, MatrixView<const T>,                        \
        const std::vector<TapedLayer<T>>&, const T*, MatrixView<T>, const Progress&); \
    template double output_loss<T>(const NetworkPlan&, MatrixView<const T>,           \
                                   MatrixView<const T>, T*, const Progress&);         \
    template void output_backward<T>(const NetworkPlan&, MatrixView<const T>,         \
                                     MatrixView<const T>, T*, const Progress&);

SIGLIN_INSTANTIATE(float)
SIGLIN_INSTANTIATE(double)

}  // namespace siglin
