// A fit: epochs, mini-batches, shuffling, stop rules and history.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "objective.h"
#include "plan.h"
#include "progress.h"
#include "row_order.h"
#include "view.h"

namespace siglin {

// What optimizers.inc lists; an optimiser reads its own.
struct OptimizerNumbers {
    double beta1 = 0;  // momentum
    double beta2 = 0;
    double eps = 0;
    double weight_decay = 0;
};

enum class StopReason : int { epochs, tol, patience, callback, diverged };

// How many vectors of the parameters' size an optimiser carries from step to step.
index_t memory_vectors(Optimizer optimizer);

// What a fit was asked.
struct FitSettings {
    double lr = 0;
    index_t epochs = 0;
    index_t batch_size = 0;  // of at least the rows: one batch, never permuted
    bool shuffle = false;
    double tol = 0;  // stop after a step whose change has a 2-norm <= tol; 0: never
    Optimizer optimizer = Optimizer::gd;
    OptimizerNumbers numbers;
    Objective objective;
    double dropout = 0;    // as Batch; each step draws its seed from the generator
    double clip_norm = 0;  // gradients of a larger 2-norm are scaled to it; 0: none is
    // Read at the start of each epoch, so that a hook may write the next one's into
    // them: the order of the rows, for batches smaller than all of them, instead of a
    // shuffle; and the step size instead of lr.
    const index_t* order = nullptr;
    const double* rate = nullptr;
    // Of batches of one row: its weight multiplies its gradient, and not the loss that
    // is told, instead of being a share in a mean.
    bool weights_scale = false;
};

// What a fit learns from.
template <class T>
struct FitData {
    MatrixView<const T> x;
    MatrixView<const T> t;
    const T* weights = nullptr;  // of all rows of x; null: 1
    RowSubset subset;
    SparseView<T> sparse = {};  // as Batch

    index_t rows() const { return subset.rows == nullptr ? x.rows : subset.count; }
    bool is_sparse() const { return sparse.starts != nullptr; }
};

// What a fit's epochs are judged by.
template <class T>
struct FitValidation {
    MatrixView<const T> x = {};  // no rows: there is none
    MatrixView<const T> t = {};
    const T* weights = nullptr;  // of its rows; null: 1
    SparseView<T> sparse = {};   // as Batch
    // Stop after so many epochs in a row without an improvement, and leave the best
    // parameters; 0: never stop, and leave the last ones. Without data the training
    // loss is judged.
    index_t patience = 0;
    double min_delta = 0;  // an improvement is larger

    bool judges() const { return x.rows > 0 || patience > 0; }
};

// What a fit changes.
template <class T>
struct FitState {
    T* params;
    T* moments;                // the optimiser's memory
    std::int64_t step_count;   // steps that it has made before
    std::uint64_t* generator;  // four words, advanced by shuffles and dropout
};

template <class T>
struct FitJob {
    const NetworkPlan* plan;
    FitData<T> data;
    FitState<T> state;
    FitSettings settings;
    FitValidation<T> validation;

    // Whether a step of gradient descent is made of the loss of its rows alone, so that
    // who finds a gradient may subtract it at once.
    bool descends() const {
        return settings.optimizer == Optimizer::gd && settings.objective.is_plain() &&
               settings.dropout == 0 && settings.clip_norm == 0;
    }
};

// Hooks run on the calling thread; each may be empty.
struct FitHooks {
    // After an epoch, if min_interval seconds have passed since the last call, and
    // after the last one, with the loss of the validation data (or null) and
    // whether it is the last one already; true stops.
    std::function<bool(index_t epoch, index_t step, double loss,
                       const double* validation, bool last)>
        on_epoch;
    double min_interval = 0;
    // After every `every` steps.
    std::function<void(index_t epoch, index_t step, double loss)> on_step;
    index_t every = 0;
    // About every 20 ms, with the epochs that are done; true ends the fit by
    // Interrupted.
    std::function<bool(index_t epochs)> interrupted;
};

struct FitResult {
    // Per epoch: the mean over its rows, by weight, of the losses before each update.
    std::vector<double> loss;
    // After each epoch, of the validation data.
    std::vector<double> validation_loss;
    index_t best_epoch = 0;  // with patience, counted from 1; 0: none was finite
    index_t epochs = 0;
    index_t steps = 0;
    double seconds = 0;
    StopReason reason = StopReason::epochs;
};

// How many steps this thread's fits have subtracted as they found their gradients.
std::int64_t fused_steps();

// Trains the parameters from where they are. result counts the steps and epochs that
// were made, also where an exception ends the fit; the parameters are then those of a
// whole step. Throws std::invalid_argument where settings.order or settings.rate hold
// what no epoch can use.
template <class T>
void fit(const FitJob<T>& job, const FitHooks& hooks, FitResult& result);

}  // namespace siglin
