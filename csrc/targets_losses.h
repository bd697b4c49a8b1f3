// What the targets of a fit add to its losses, found once.
#pragma once

#include "buffer.h"
#include "fit_loop.h"
#include "runner.h"

namespace siglin {

// Batch::of_targets of all rows that a fit sees; empty where it is 0, or used but once.
template <class T>
Buffer<double> targets_losses(const FitJob<T>& job, FitLoop& loop) {
    const NetworkPlan& plan = *job.plan;
    const MatrixView<const T>& t = job.data.t;
    const RowSubset& subset = job.data.subset;
    if (plan.loss.kind != Loss::poisson || loop.settings.epochs < 2) {
        return {};
    }
    constexpr double kLogWork = 16;  // multiply-adds
    Buffer<double> losses(t.rows);
    for (index_t i = 0; i < loop.rows; ++i) {
        const index_t row = subset.rows == nullptr ? i : subset.rows[i];
        losses.data()[row] = targets_loss(plan, t.data + row * t.stride);
        loop.poll.charge(kLogWork * static_cast<double>(t.cols));
    }
    return losses;
}

}  // namespace siglin
