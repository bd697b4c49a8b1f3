#include "objective.h"

#include "dispatch.h"

namespace siglin {

bool clips(const Objective& objective, const NetworkPlan& plan) {
    return objective.scikit_learn &&
           (plan.loss.kind == Loss::bce || plan.loss.kind == Loss::cross_entropy);
}

template <class T>
double objective_of(const Objective& objective, NetworkRunner<T>& runner,
                    const NetworkPlan& plan, const T* params, T* grads,
                    const Batch<T>& given, const Progress& progress) {
    Batch<T> batch = given;
    batch.clips = clips(objective, plan);
    double loss = runner.loss(params, grads, batch, progress);
    double share = 1;
    if (objective.scikit_learn) {
        const double weight = batch.weight();
        share = weight == 0 ? 0 : 1 / weight;
        if (plan.loss.kind == Loss::squared_error) {
            loss /= static_cast<double>(plan.n_out());
        }
    }
    return penalised(loss, objective, plan, params, grads, share);
}

template <class T>
double penalised(double loss, const Objective& objective, const NetworkPlan& plan,
                 const T* params, T* grads, double share) {
    if (objective.l1 == 0 && objective.l2 == 0) {
        return loss;
    }
    for (const RowLayer& layer : plan.layers) {
        loss += kernel_table().kernels<T>().penalise(
            {params + layer.w, grads == nullptr ? nullptr : grads + layer.w,
             layer.n_in * layer.n_out, static_cast<T>(objective.l1 * share),
             static_cast<T>(objective.l2 * share)});
    }
    return loss;
}

#define SIGLIN_INSTANTIATE(T)                                                          \
    template double objective_of<T>(const Objective&, NetworkRunner<T>&,               \
                                    const NetworkPlan&, const T*, T*, const Batch<T>&, \
                                    const Progress&);                                  \
    template double penalised<T>(double, const Objective&, const NetworkPlan&,         \
                                 const T*, T*, double);

SIGLIN_INSTANTIATE(float)
SIGLIN_INSTANTIATE(double)

}  // namespace siglin
