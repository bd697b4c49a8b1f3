// The outputs for some rows.
#include "../predict.h"

#include "../float_environment.h"
#include "../runner.h"
#include "call.h"
#include "interrupt.h"
#include "network.h"
#include "parameters.h"

namespace siglin {

py::object Network::predict(const py::object& params_, const py::object& x_,
                            const py::object& out_) const {
    const Reading reading(params_);
    const Argument params = checked_vector("predict", "params", reading.array());
    const Inputs x = checked_inputs("predict", x_, params);
    Result out = out_or_new("predict", out_, params, x.rows(), plan_.n_out());
    if (!out_.is_none()) {
        check_no_overlap(out, x.argument());
        check_no_overlap(out, params);
    }
    dispatch_dtype(dtype_, [&](auto tag) {
        using T = decltype(tag);
        const T* p = vector_data<T>(params);
        const auto from = x.matrix<T>();
        const auto to = mutable_view<T>(out);
        interruptible(work(x.rows()), [&](const Progress& progress) {
            NetworkRunner<T>(plan_, from.rows, x.is_sparse())
                .predict(p, from, to, progress, x.sparse<T>());
        });
    });
    return std::move(out.owner);
}

// predict where it can be had at once, else None: for little work, on arguments
// that need no explaining, and while nobody changes the parameters. As the GIL is
// held to the end, nobody can begin to, and nobody has to be told of this read.
py::object Network::predict_now(py::handle params_, py::handle x_,
                                py::handle out_) const {
#if defined(Py_GIL_DISABLED)
    return py::none();
#endif
    Argument x = {"predict", "x", nullptr, dtype_};
    const Parameters* const shared = parameters_of(params_);
    if (shared == nullptr || !shared->is_quiet() || !ours(x_, x) ||
        !is_matrix(x, kAny, plan_.n_in()) || work(x.rows()) >= kWorthReleasing) {
        return py::none();
    }
    Result out = {{"predict", "out", nullptr, dtype_}, py::object()};
    if (out_.is_none()) {
        out = new_matrix(x, x.rows(), plan_.n_out());
    } else {
        if (!ours(out_, out) || !is_matrix(out, x.rows(), plan_.n_out()) ||
            !is_writable(out) || extents_touch(out, x)) {
            return py::none();
        }
        out.owner = py::reinterpret_borrow<py::object>(out_);
    }
    Argument params = {"predict", "params", nullptr, dtype_};
    if (!ours(shared->quiet_vector(), params) || !is_vector(params, plan_.n_params) ||
        extents_touch(out, params)) {
        return py::none();
    }
    dispatch_dtype(dtype_, [&](auto tag) {
        using T = decltype(tag);
        const T* p = vector_data<T>(params);
        const auto from = view<T>(x);
        const auto to = mutable_view<T>(out);
        if (!predict_few<T>(plan_, p, from, to)) {
            NetworkRunner<T>(plan_, from.rows).predict(p, from, to, [](double) {});
        }
    });
    return std::move(out.owner);
}

namespace {

constexpr Signature kPredictNow = {"predict_now",
                                   3,
                                   {"params", "x", "out"},
                                   "predict_now($self, params, x, out)\n--\n\n"
                                   "What predict returns, or None: ask predict."};

}  // namespace

void bind_predict(NetworkClass& network) {
    using py::arg;
    // Hidden layers alone count subnormal numbers as 0.
    network.def("predict", &Network::predict, arg("params"), arg("x"),
                arg("out") = py::none(), py::call_guard<KeepSubnormals>());
    static PyMethodDef methods[] = {
        fast_function<&Network::predict_now, kPredictNow>(),
        {nullptr, nullptr, 0, nullptr},
    };
    add_methods(network, methods);
}

}  // namespace siglin
