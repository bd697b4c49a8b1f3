#include "predict.h"

#include <algorithm>

#include "dispatch.h"
#include "float_environment.h"

namespace siglin {

template <class T>
bool predict_few(const NetworkPlan& plan, const T* params, MatrixView<const T> x,
                 MatrixView<T> out) {
    // Of outputs of a hidden layer, twice: small beside the stack of any thread.
    constexpr index_t kRoom = 4096 / static_cast<index_t>(sizeof(T));
    const std::size_t last = plan.layers.size() - 1;
    index_t widest = 0;
    for (std::size_t l = 0; l < last; ++l) {
        widest = std::max(widest, plan.layers[l].n_out);
    }
    if (widest * x.rows > kRoom) {
        return false;
    }
    alignas(64) T even[kRoom];
    alignas(64) T odd[kRoom];
    const auto& kernels = kernel_table().kernels<T>();
    T* workspace = thread_workspace<T>();
    MatrixView<const T> input = x;
    for (std::size_t l = 0; l <= last; ++l) {
        const RowLayer& layer = plan.layers[l];
        const MatrixView<T> a = l == last
                                    ? out
                                    : MatrixView<T>{l % 2 == 0 ? even : odd, x.rows,
                                                    layer.n_out, layer.n_out};
        const auto forward = [&] {
            kernels.forward({input,
                             {params + layer.w, layer.n_in, layer.n_out, layer.n_out},
                             layer.b >= 0 ? params + layer.b : nullptr,
                             layer.activation,
                             a,
                             {nullptr, a.rows, a.cols, a.stride},
                             workspace});
        };
        if (l == last) {
            forward();
        } else {
            const QuickFlushSubnormals environment;
            forward();
        }
        input = {a.data, a.rows, a.cols, a.stride};
    }
    if (plan.loss.kind == Loss::cross_entropy) {
        for (index_t i = 0; i < out.rows; ++i) {
            kernels.softmax(out.data + i * out.stride, 1, out.cols);
        }
    } else if (plan.loss.kind == Loss::poisson) {
        for (index_t i = 0; i < out.rows; ++i) {
            kernels.exponential(out.data + i * out.stride, out.cols);
        }
    }
    return true;
}

template bool predict_few<float>(const NetworkPlan&, const float*,
                                 MatrixView<const float>, MatrixView<float>);
template bool predict_few<double>(const NetworkPlan&, const double*,
                                  MatrixView<const double>, MatrixView<double>);

}  // namespace siglin
