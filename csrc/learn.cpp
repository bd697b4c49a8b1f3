#include "learn.h"

#include "dispatch.h"

namespace siglin {

bool descends_row_by_row(const NetworkPlan& plan) {
    return plan.is_small() && plan.loss.kind != Loss::poisson &&
           static_cast<index_t>(plan.layers.size()) <= kDescentLayers;
}

template <class T>
bool learn_row(const NetworkPlan& plan, T* params, const T* x, const T* t, T lr,
               double& loss) {
    struct Space;
    const RowLayer* layers = plan.layers.data();
    const auto count = static_cast<index_t>(plan.layers.size());
    const auto scratch = static_cast<std::size_t>(descent_scratch<T>(layers, count, 1));
    return kernel_table().kernels<T>().row_descent(
        {layers,
         count,
         plan.loss,
         params,
         lr,
         {x, 1, plan.n_in(), plan.n_in()},
         {t, 1, plan.n_out(), plan.n_out()},
         nullptr,
         1,
         &loss,
         static_cast<T*>(thread_space<Space>(scratch * sizeof(T)))});
}

template bool learn_row<float>(const NetworkPlan&, float*, const float*, const float*,
                               float, double&);
template bool learn_row<double>(const NetworkPlan&, double*, const double*,
                                const double*, double, double&);

}  // namespace siglin
