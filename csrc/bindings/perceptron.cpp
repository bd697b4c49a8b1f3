// The perceptron rule.
#include "../perceptron.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>

#include "../float_environment.h"
#include "interrupt.h"
#include "module.h"
#include "parameters.h"

namespace siglin {
namespace {

py::tuple perceptron_fit(const py::object& params_, const py::object& x_,
                         const py::object& t_, bool bias, index_t epochs) {
    const char* function = "perceptron_fit";
    Fitting fitting("fit", params_);
    const Argument params = argument(function, "params", fitting.array());
    const Argument x = argument(function, "x", x_, params);
    const Argument t = argument(function, "t", t_, params);
    check_matrix(x, kAny, kAny);
    check_matrix(t, x.rows(), 1, x);
    check_vector(params, x.cols() + (bias ? 1 : 0), x);
    check_writable(params);
    for (const Argument* input : {&x, &t}) {
        check_no_overlap(params, *input);
    }
    if (epochs < 0) {
        throw py::value_error("perceptron_fit: epochs must be >= 0, got " +
                              std::to_string(epochs));
    }
    std::vector<index_t> mistakes;
    dispatch_dtype(params.dtype, [&](auto tag) {
        using T = decltype(tag);
        T* w = mutable_vector_data<T>(params);
        const auto rows = view<T>(x);
        const auto targets = view<T>(t);
        try {
            const ReleaseGil nogil;
            mistakes =
                fit_perceptron<T>(w, bias ? w + rows.cols : nullptr, rows, targets.data,
                                  targets.stride, epochs, signal_raised);
        } catch (const Interrupted&) {
            throw py::error_already_set();
        }
    });
    const bool finite = dispatch_dtype(params.dtype, [&](auto tag) {
        using T = decltype(tag);
        const T* w = vector_data<T>(params);
        return std::all_of(w, w + params.extent(0),
                           [](T v) { return std::isfinite(v); });
    });
    if (!finite) {
        fitting.undo();
    }
    const bool clean = !mistakes.empty() && mistakes.back() == 0;
    return py::make_tuple(mistakes, mistakes.size(),
                          !finite ? "diverged"
                          : clean ? "no_mistakes"
                                  : "epochs");
}

}  // namespace

void bind_perceptron(py::module_& m) {
    using py::arg;
    m.def("perceptron_fit", &perceptron_fit, arg("params"), arg("x"), arg("t"),
          arg("bias"), arg("epochs"), py::call_guard<KeepSubnormals>());
}

}  // namespace siglin
