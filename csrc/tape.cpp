#include "tape.h"

#include <algorithm>

#include "buffer.h"
#include "dispatch.h"
#include "float_environment.h"
#include "network.h"

namespace siglin {

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
            const FlushSubnormals environment;
            const MatrixView<T>& a = tape[l].a;
            layer_forward<T>(input, w, b, layer.activation, a, tape[l].derivative,
                             &progress);
            input = {a.data, a.rows, a.cols, a.stride};
        }
    }
    const auto& kernels = kernel_table().kernels<T>();
    const index_t n = z.rows * z.cols;
    if (plan.loss == Loss::cross_entropy) {
        std::copy_n(z.data, n, out.data);
        kernels.softmax(out.data, z.rows, z.cols);
    } else if (plan.loss == Loss::poisson) {
        std::copy_n(z.data, n, out.data);
        kernels.exponential(out.data, n);
    } else {
        activate_elements<T>(plan.layers.back().activation, z.data, out.data, n);
    }
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
            kernel_table().kernels<T>().column_sums(upstream, grads + layer.b, false);
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
                   MatrixView<const T> t, T* dz) {
    const index_t n = z.rows * z.cols;
    const Buffer<T> t_rows(n);  // the loss wants one long row
    for (index_t i = 0; i < z.rows; ++i) {
        std::copy_n(z.data + i * z.stride, z.cols, dz + i * z.cols);
        std::copy_n(t.data + i * t.stride, t.cols, t_rows.data() + i * t.cols);
    }
    const auto& kernels = kernel_table().kernels<T>();
    const Activation f = plan.layers.back().activation;
    Buffer<T> derivative;
    if (plan.loss == Loss::squared_error && f != Activation::identity) {
        derivative = Buffer<T>(n);
        kernels.activate(f, dz, dz, derivative.data(), n);
    }
    double total =
        kernels.loss_gradient({plan.loss, dz, derivative.data(), t_rows.data(), z.rows,
                               z.cols, T(1) / static_cast<T>(z.rows), true});
    for (index_t i = 0; i < z.rows; ++i) {
        total += targets_loss(plan, t_rows.data() + i * z.cols);
    }
    return total / static_cast<double>(z.rows);
}

template <class T>
void output_backward(const NetworkPlan& plan, MatrixView<const T> z,
                     MatrixView<const T> da, T* dz) {
    const auto& kernels = kernel_table().kernels<T>();
    const auto row_of = [&](index_t i) { return dz + i * z.cols; };
    if (plan.loss == Loss::cross_entropy) {
        // dz = a * (da - a . da), with a = softmax(z).
        for (index_t i = 0; i < z.rows; ++i) {
            T* const a = row_of(i);
            const T* const upstream = da.data + i * da.stride;
            std::copy_n(z.data + i * z.stride, z.cols, a);
            kernels.softmax(a, 1, z.cols);
            T along = 0;
            for (index_t j = 0; j < z.cols; ++j) {
                along += a[j] * upstream[j];
            }
            for (index_t j = 0; j < z.cols; ++j) {
                a[j] *= upstream[j] - along;
            }
        }
        return;
    }
    for (index_t i = 0; i < z.rows; ++i) {
        T* const row = row_of(i);
        if (plan.loss == Loss::poisson) {  // exp is its own derivative
            std::copy_n(z.data + i * z.stride, z.cols, row);
            kernels.exponential(row, z.cols);
        } else {
            kernels.activate(plan.layers.back().activation, z.data + i * z.stride,
                             nullptr, row, z.cols);
        }
        kernels.scale_by(da.data + i * da.stride, row, z.cols);
    }
}

#define SIGLIN_INSTANTIATE(T)                                                         \
    template void tape_forward<T>(const NetworkPlan&, const T*, MatrixView<const T>,  \
                                  const std::vector<TapedLayer<T>>&, MatrixView<T>,   \
                                  MatrixView<T>, const Progress&);                    \
    template void tape_backward<T>(                                                   \
        const NetworkPlan&, const T*, T*, MatrixView<const T>,                        \
        const std::vector<TapedLayer<T>>&, const T*, MatrixView<T>, const Progress&); \
    template double output_loss<T>(const NetworkPlan&, MatrixView<const T>,           \
                                   MatrixView<const T>, T*);                          \
    template void output_backward<T>(const NetworkPlan&, MatrixView<const T>,         \
                                     MatrixView<const T>, T*);

SIGLIN_INSTANTIATE(float)
SIGLIN_INSTANTIATE(double)

}  // namespace siglin
