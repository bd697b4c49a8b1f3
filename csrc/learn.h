// One step of training on one row: what a caller asks for who has one row at a time.
#pragma once

#include "runner.h"

namespace siglin {

// Whether steps of gradient descent with one row each are for kernels/descent.h.
bool descends_row_by_row(const NetworkPlan& plan);

// One such step, of a network that descends so: loss gets the loss of the row before
// it. Returns whether loss and parameters are finite, else the parameters are as they
// were. The bits of `fit`, whose lists and buffers would take longer than the step.
template <class T>
bool learn_row(const NetworkPlan& plan, T* params, const T* x, const T* t, T lr,
               double& loss);

}  // namespace siglin
