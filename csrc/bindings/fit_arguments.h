// The arguments of a fit: what Python gives, checked and viewed.
#pragma once

#include <cstdint>
#include <optional>

#include "../fit.h"
#include "network.h"
#include "parameters.h"

namespace siglin {

// Contiguous; as they are.
using RowNumbers = py::array_t<index_t, py::array::c_style>;

// What a fit's epochs are judged by.
struct HeldOut {
    Inputs x;
    Argument t;
    std::optional<Argument> weights;
};

// One fit of a network. The caller holds the arrays.
struct FitArguments {
    Argument params;
    Inputs x;
    Argument t;
    Argument moments;
    std::optional<Argument> weights;
    std::optional<HeldOut> validation;
    std::uint64_t* generator;
    std::int64_t step_count;
    FitSettings settings;
    index_t patience;
    double min_delta;
    RowSubset subset;

    template <class T>
    FitJob<T> job(const NetworkPlan& plan) const {
        FitValidation<T> judged = {{}, {}, nullptr, {}, patience, min_delta};
        if (validation) {
            judged.x = validation->x.matrix<T>();
            judged.sparse = validation->x.sparse<T>();
            judged.t = view<T>(validation->t);
            judged.weights =
                validation->weights ? vector_data<T>(*validation->weights) : nullptr;
        }
        return {&plan,
                {x.matrix<T>(), view<T>(t),
                 weights ? vector_data<T>(*weights) : nullptr, subset, x.sparse<T>()},
                {mutable_vector_data<T>(params), mutable_vector_data<T>(moments),
                 step_count, generator},
                settings,
                judged};
    }
};

// What Python calls FitSettings and FitHooks: named tuples, which cost a fit less than
// arguments by name do.
void bind_fit_records(py::module_& m);

// Throws unless everything is as a fit needs it. settings: a FitSettings. moments: what
// the optimiser carries, after so many steps. rows: the numbers of the rows to take, or
// None for all.
FitArguments checked_fit(const Network& network, const char* function,
                         const Argument& params, const Inputs& x, py::handle t,
                         py::handle state, py::handle settings,
                         const py::object& moments, std::int64_t step_count,
                         py::handle rows);

// The same for a step by gradients that are there already.
FitSettings checked_step(const Network& network, const char* function,
                         py::handle settings, const Argument& moments);

// Tells an optimiser's memory of the steps of a fit, however that ends.
class StepsCounted {
  public:
    StepsCounted(Stepping& stepping, const FitResult& result)
        : stepping_(stepping), result_(result) {}
    ~StepsCounted() {
        stepping_.add_steps(result_.steps);
        if (result_.reason == StopReason::diverged) {
            stepping_.forget();
        }
    }
    StepsCounted(const StepsCounted&) = delete;
    StepsCounted& operator=(const StepsCounted&) = delete;

  private:
    Stepping& stepping_;
    const FitResult& result_;
};

// The loss of the validation data as Python has it: None where there is none.
inline py::object or_none(const double* loss) {
    return loss == nullptr ? py::object(py::none()) : py::float_(*loss);
}

// What Python calls a FitResult.
py::object as_record(const FitResult& result);

}  // namespace siglin
