// What a fit minimises: the loss of a batch, and penalties on the weights.
#pragma once

#include "runner.h"

namespace siglin {

struct Objective {
    // Added to the loss: l1 |w| + l2 w^2 / 2, summed over all weights; biases are free.
    double l1 = 0;
    double l2 = 0;
    // Count as scikit-learn's MLP does: penalties are divided by the batch's weight,
    // the loss clips probabilities, a squared error is the mean over the outputs while
    // its gradient stays that of the sum, an epoch's loss is the mean over its rows,
    // and Adam's eps is not scaled with the bias correction.
    bool scikit_learn = false;

    bool is_plain() const { return l1 == 0 && l2 == 0 && !scikit_learn; }
};

// Whether the loss clips probabilities, as LossArgs.
bool clips(const Objective& objective, const NetworkPlan& plan);

// A loss with the penalties, as if the batch's weight were 1 / share; with grads, their
// gradient is added.
template <class T>
double penalised(double loss, const Objective& objective, const NetworkPlan& plan,
                 const T* params, T* grads, double share = 1);

// The objective of a batch; with grads, its gradient (n_params).
template <class T>
double objective_of(const Objective& objective, NetworkRunner<T>& runner,
                    const NetworkPlan& plan, const T* params, T* grads,
                    const Batch<T>& batch, const Progress& progress);

}  // namespace siglin
