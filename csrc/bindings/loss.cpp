// The loss of a batch, its gradient, and a step by gradients.
#include "../elements.h"
#include "../float_environment.h"
#include "../runner.h"
#include "interrupt.h"
#include "network.h"
#include "parameters.h"

namespace siglin {

double Network::loss_of(const char* function, const py::object& params_,
                        std::optional<Argument> grads, const py::object& x_,
                        const py::object& t_, const py::object& weights_,
                        const Objective& objective) const {
    const Argument params = checked_vector(function, "params", params_);
    const Inputs x = checked_inputs(function, x_, params);
    const Argument t = checked_t(function, t_, x);
    const auto weights = checked_weights(function, weights_, x.rows());
    if (grads) {
        for (const Argument* input : {&params, &x.argument(), &t}) {
            check_no_overlap(*grads, *input);
        }
        if (weights) {
            check_no_overlap(*grads, *weights);
        }
    }
    return dispatch_dtype(dtype_, [&](auto tag) {
        using T = decltype(tag);
        const T* p = vector_data<T>(params);
        T* g = grads ? mutable_vector_data<T>(*grads) : nullptr;
        Batch<T> batch = {x.matrix<T>(), view<T>(t), nullptr, x.rows()};
        batch.sparse = x.sparse<T>();
        batch.weights = weights ? vector_data<T>(*weights) : nullptr;
        double value = 0;
        interruptible(work(x.rows()), [&](const Progress& progress) {
            NetworkRunner<T> runner(plan_, batch.rows, x.is_sparse());
            value = objective_of(objective, runner, plan_, p, g, batch, progress);
        });
        return value;
    });
}

double Network::loss(const py::object& params, const py::object& x, const py::object& t,
                     const py::object& weights, bool scikit_learn) const {
    const Reading reading(params);
    return loss_of("loss", reading.array(), std::nullopt, x, t, weights,
                   {0, 0, scikit_learn});
}

double Network::loss_and_grads(const py::object& params, const py::object& grads_,
                               const py::object& x, const py::object& t,
                               const py::object& weights, double l1, double l2,
                               bool scikit_learn) const {
    const Writing writing("loss_and_grads", params, Writing::What::gradients);
    const Argument grads = checked_vector("loss_and_grads", "grads", grads_);
    check_writable(grads);
    return loss_of("loss_and_grads", writing.array(), grads, x, t, weights,
                   checked_objective("loss_and_grads", l1, l2, scikit_learn));
}

// params -= lr * grads.
void Network::update(const py::object& params_, const py::object& grads_,
                     double lr) const {
    const Writing writing("update", params_, Writing::What::parameters);
    const Argument params = checked_vector("update", "params", writing.array());
    const Argument grads = checked_vector("update", "grads", grads_);
    check_finite("update", "lr", lr, dtype_);
    check_writable(params);
    check_no_overlap(params, grads);
    dispatch_dtype(dtype_, [&](auto tag) {
        using T = decltype(tag);
        const auto step = static_cast<T>(lr);
        const index_t n = plan_.n_params;
        T* const p = mutable_vector_data<T>(params);
        const T* const g = vector_data<T>(grads);
        if (step != 0) {
            const ReleaseGil nogil(static_cast<double>(n));
            gradient_descent<T>({p, 1, n, n}, {g, 1, n, n}, step);
        }
    });
}

void bind_loss(NetworkClass& network) {
    using py::arg;
    const auto none = py::none();
    const auto flushing = py::call_guard<FlushSubnormals>();
    network
        .def("loss", &Network::loss, arg("params"), arg("x"), arg("t"), py::kw_only(),
             arg("weights") = none, arg("scikit_learn") = false, flushing)
        .def("loss_and_grads", &Network::loss_and_grads, arg("params"), arg("grads"),
             arg("x"), arg("t"), py::kw_only(), arg("weights") = none, arg("l1") = 0.0,
             arg("l2") = 0.0, arg("scikit_learn") = false, flushing)
        .def("update", &Network::update, arg("params"), arg("grads"), arg("lr"),
             flushing);
}

}  // namespace siglin
