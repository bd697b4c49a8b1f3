// A fit of one network.
#include "../fit.h"

#include <string>

#include "../float_environment.h"
#include "call.h"
#include "fit_arguments.h"
#include "interrupt.h"
#include "network.h"
#include "parameters.h"

namespace siglin {
namespace {

// What Python calls FitHooks, or None; the caller holds it.
struct Hooks {
    Hooks(const char* function, py::handle given) {
        native.interrupted = [](index_t) { return signal_raised(); };
        if (given.is_none()) {
            return;
        }
        PyObject* const tuple = given.ptr();
        if (PyTuple_Check(tuple) == 0 || PyTuple_GET_SIZE(tuple) != 4) {
            throw py::type_error(std::string(function) +
                                 "(): incompatible hooks, must be FitHooks or None");
        }
        const auto at = [tuple](int i) -> py::handle {
            return PyTuple_GET_ITEM(tuple, i);
        };
        native.min_interval = number(function, "min_interval", at(1));
        const index_t every = integer_of(function, "every", at(3));
        if (!at(0).is_none()) {
            const py::handle hook = at(0);
            native.on_epoch = [hook](index_t epoch, index_t step, double loss,
                                     const double* validation, bool last) {
                return with_gil([&] {
                    return flag(
                        call(hook, epoch, step, loss, or_none(validation), last));
                });
            };
        }
        if (!at(2).is_none() && every > 0) {
            const py::handle hook = at(2);
            native.every = every;
            native.on_step = [hook](index_t epoch, index_t step, double loss) {
                with_gil([&] { call(hook, epoch, step, loss); });
            };
        }
    }

    FitHooks native;
};

constexpr Signature kFit = {
    "fit",
    6,
    {"params", "x", "t", "state", "settings", "moments", "step_count", "hooks",
     "function"},
    "fit($self, params, x, t, state, settings, moments, step_count=0, hooks=None, "
    "function=\"fit\")\n--\n\n"
    "Losses, epochs, steps, seconds and why it stopped."};

}  // namespace

py::object Network::fit(py::handle params_, py::handle x_, py::handle t_,
                        py::handle state, py::handle settings, py::handle memory,
                        py::handle step_count, py::handle hooks_,
                        py::handle function_) const {
    const std::string name =
        function_.is_none() ? "fit" : std::string(py::str(function_));
    const char* function = name.c_str();
    const FlushSubnormals environment;
    Fitting fitting(function, params_);
    Stepping stepping(function, memory);
    const py::object moments = stepping.array(dtype_);
    const Argument params = checked_vector(function, "params", fitting.array());
    const Inputs x = checked_inputs(function, x_, params);
    const index_t steps =
        step_count.is_none() ? 0 : integer_of(function, "step_count", step_count);
    const FitArguments arguments =
        checked_fit(*this, function, params, x, t_, state, settings, moments,
                    stepping.step_count(steps), py::none());
    fitting.keep_generator(arguments.generator);
    const Hooks hooks(function, hooks_);
    FitResult result;
    {
        const StepsCounted counted(stepping, result);
        dispatch_dtype(dtype_, [&](auto tag) {
            using T = decltype(tag);
            const FitJob<T> job = arguments.job<T>(plan_);
            try {
                const ReleaseGil nogil;
                siglin::fit<T>(job, hooks.native, result);
            } catch (const Interrupted&) {
                throw py::error_already_set();
            }
        });
    }
    return as_record(result);
}

void bind_fit(py::module_& m, NetworkClass& network) {
    bind_fit_records(m);
    m.def("fused_steps", &fused_steps, py::call_guard<KeepSubnormals>());
    static PyMethodDef methods[] = {
        fast_function<&Network::fit, kFit>(),
        {nullptr, nullptr, 0, nullptr},
    };
    add_methods(network, methods);
}

}  // namespace siglin
